//! What is done with a torrent's trackers, order and streams, and with addresses.

use super::args::{BanArgs, OrderArgs, StreamArgs, TrackersArgs};
use super::client::Body;
use super::{Daemon, show};
use crate::exit::{Exit, fail, printable};
use anyhow::Result;
use hyper::Method;
use serde_json::{Map, Value, json};

impl Daemon<'_> {
    /// A request about one torrent whose answer says nothing.
    pub(super) async fn one(&mut self, torrent: &str, method: Method, end: &str, body: Value) -> Result<()> {
        let path = self.path(torrent).await? + end;
        self.client.json(method, &path, Body::Json(body)).await.map(|_| ())
    }

    pub(super) async fn trackers(&mut self, args: TrackersArgs) -> Result<()> {
        let TrackersArgs { one, add, tier, remove, replace } = args;
        if tier.is_none() && remove.is_empty() && replace.is_empty() {
            return self.list_or_add(&one.torrent, "/trackers", "urls", add, show::trackers).await;
        }
        let add: Vec<Value> = add.iter().map(|url| json!({ "url": url, "tier": tier })).collect();
        let pairs = replace.chunks(2).map(|pair| (pair[0].clone(), Value::from(pair[1].as_str())));
        let replace: Map<String, Value> = pairs.collect();
        let body = json!({ "add": add, "remove": remove, "replace": replace });
        self.one(&one.torrent, Method::PATCH, "/trackers", body).await
    }

    pub(super) async fn order(&mut self, args: &OrderArgs) -> Result<()> {
        let mut edit = Map::new();
        for (name, switch) in [("sequential", args.sequential), ("first_last", args.first_last)] {
            switch.into_iter().for_each(|on| drop(edit.insert(name.to_owned(), on.into())));
        }
        if edit.is_empty() {
            return fail(Exit::Usage, "which order? --sequential or --first-last");
        }
        self.each(&args.several, Method::PATCH, "", Some(edit.into())).await
    }

    /// Prints where players find a torrent's files: those that they can play, or all if there are none.
    pub(super) async fn stream(&mut self, args: &StreamArgs) -> Result<()> {
        let path = self.path(&args.one.torrent).await? + "/stream";
        if args.end {
            return self.client.json(Method::DELETE, &path, Body::None).await.map(|_| ());
        }
        let streams = self.client.json(Method::POST, &path, Body::None).await?;
        let session = self.client.get("/api/v1/session").await?;
        let host = session["http"][0].as_str().map(|host| format!("http://{host}")).unwrap_or_default();
        self.print(&streams, |cx, streams| {
            let files = streams["files"].as_array().map_or(&[][..], Vec::as_slice);
            let playable = |file: &&Value| file["media_type"].is_string();
            let any = files.iter().any(|file| playable(&file));
            for file in files.iter().filter(|file| !any || playable(file)) {
                cx.console
                    .result(&printable(&format!("{host}{}", file["address"].as_str().unwrap_or_default())));
            }
        });
        Ok(())
    }

    pub(super) async fn ban(&mut self, args: BanArgs) -> Result<()> {
        if args.addresses.is_empty() {
            let bans = self.client.get("/api/v1/bans").await?;
            self.print(&bans, |cx, bans| {
                let addresses = bans["addresses"].as_array().map_or(&[][..], Vec::as_slice);
                addresses.iter().filter_map(Value::as_str).for_each(|address| cx.console.result(address));
            });
            return Ok(());
        }
        let method = if args.lift { Method::DELETE } else { Method::POST };
        let body = Body::Json(json!({ "addresses": args.addresses }));
        self.client.json(method, "/api/v1/bans", body).await.map(|_| ())
    }
}

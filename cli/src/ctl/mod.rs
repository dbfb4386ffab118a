//! `swarm ctl`: what a daemon is told, and what it tells, over its Unix socket.

mod args;
mod client;
mod operations;
mod shared;
mod shared_args;
mod show;
mod values;

pub use args::CtlArgs;

use crate::context::Context;
use crate::exit::{Exit, fail, label_of, printable};
use crate::interrupt::Interrupt;
use anyhow::{Context as _, Result};
use args::{
    AddArgs, Ctl, EventsArgs, FileList, FilesArgs, LimitArgs, ListArgs, MoveArgs, PeersArgs, QueueArgs,
    RemoveArgs, RenameArgs, ResumeArgs, Several, WebSeedsArgs,
};
use clap::ValueEnum as _;
use client::{Body, Client};
use http_body_util::BodyExt as _;
use hyper::Method;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use values::Limit;

pub async fn run(args: CtlArgs, cx: &mut Context) -> Result<Exit> {
    let socket = args.socket.or_else(crate::daemon::default_socket);
    let mut daemon = Daemon { client: Client::connect(socket).await?, cx };
    match args.command {
        Ctl::Add(args) => daemon.add(*args).await?,
        Ctl::List(args) => daemon.list(&args).await?,
        Ctl::Show(one) => daemon.shown(&one.torrent, "", show::torrent).await?,
        Ctl::Pause(several) => daemon.each(&several, Method::POST, "/pause", None).await?,
        Ctl::Resume(ResumeArgs { several, force }) => {
            let edit = match force {
                true => json!({"paused": false, "forced": true}),
                false => json!({"paused": false}),
            };
            daemon.each(&several, Method::PATCH, "", Some(edit)).await?;
        }
        Ctl::Remove(RemoveArgs { several, delete_data }) => {
            let end = if delete_data { "?data=delete" } else { "?data=keep" };
            daemon.each(&several, Method::DELETE, end, None).await?;
        }
        Ctl::Recheck(several) => daemon.each(&several, Method::POST, "/recheck", None).await?,
        Ctl::Reannounce(several) => daemon.each(&several, Method::POST, "/reannounce", None).await?,
        Ctl::Files(args) => daemon.files(args).await?,
        Ctl::Limit(args) => daemon.limit(args).await?,
        Ctl::Queue(QueueArgs { several, to, force }) => {
            let place = to.and_then(|to| to.to_possible_value()).map(|value| value.get_name().to_owned());
            let fields = [("position", place.map(Value::from)), ("forced", force.map(Value::from))];
            let edit: Map<String, Value> =
                fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
            daemon.each(&several, Method::PATCH, "", Some(edit.into())).await?;
        }
        Ctl::Peers(PeersArgs { one, add }) => {
            daemon.list_or_add(&one.torrent, "/peers", "peers", add, show::peers).await?;
        }
        Ctl::Trackers(args) => daemon.trackers(args).await?,
        Ctl::WebSeeds(WebSeedsArgs { one, remove, .. }) if !remove.is_empty() => {
            daemon.one(&one.torrent, Method::DELETE, "/web-seeds", json!({ "urls": remove })).await?;
        }
        Ctl::WebSeeds(WebSeedsArgs { one, add, .. }) => {
            daemon.list_or_add(&one.torrent, "/web-seeds", "urls", add, show::web_seeds).await?;
        }
        Ctl::Settings(args) => daemon.settings(*args).await?,
        Ctl::Categories(args) => daemon.categories(args).await?,
        Ctl::Tags(args) => daemon.tags(args).await?,
        Ctl::TrackerLimits(args) => daemon.tracker_limits(args).await?,
        Ctl::Move(MoveArgs { one, dir, leave }) => {
            let body = json!({ "dir": dir.to_string_lossy(), "files": !leave });
            daemon.one(&one.torrent, Method::POST, "/move", body).await?;
        }
        Ctl::Rename(RenameArgs { one, path: None, to }) => {
            daemon.one(&one.torrent, Method::PATCH, "", json!({ "name": to })).await?;
        }
        Ctl::Rename(RenameArgs { one, path: Some(from), to }) => {
            daemon.one(&one.torrent, Method::POST, "/rename", json!({ "from": from, "to": to })).await?;
        }
        Ctl::Order(args) => daemon.order(&args).await?,
        Ctl::Pieces(one) => daemon.shown(&one.torrent, "/pieces", show::pieces).await?,
        Ctl::Stream(args) => daemon.stream(&args).await?,
        Ctl::Ban(args) => daemon.ban(args).await?,
        Ctl::Events(EventsArgs { torrent }) => return daemon.events(torrent).await,
        Ctl::Session => {
            let session = daemon.client.get("/api/v1/session").await?;
            daemon.print(&session, show::session);
        }
    }
    Ok(Exit::Done)
}

/// A daemon that answers, and where its answers go.
struct Daemon<'a> {
    client: Client,
    cx: &'a mut Context,
}

impl Daemon<'_> {
    fn print(&mut self, answer: &Value, for_people: impl FnOnce(&mut Context, &Value)) {
        if self.cx.console.is_json() { self.cx.console.json(answer) } else { for_people(self.cx, answer) }
    }

    /// The path of a torrent over HTTP.
    async fn path(&mut self, torrent: &str) -> Result<String> {
        let is_hash =
            matches!(torrent.len(), 40 | 64) && torrent.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_hash || torrent.parse::<u32>().is_ok() {
            return Ok(format!("/api/v1/torrents/{torrent}"));
        }
        let all = self.all("").await?;
        let mut named = all
            .iter()
            .filter(|one| one["name"].as_str() == Some(torrent))
            .filter_map(|one| one["id"].as_u64());
        match (named.next(), named.next()) {
            (Some(id), None) => Ok(format!("/api/v1/torrents/{id}")),
            (Some(one), Some(other)) => {
                let mend =
                    format!("{one} and {other} are called so; give the number of the one that you mean");
                fail(Exit::Usage, format!("{}: {mend}", printable(torrent)))
            }
            (None, _) => fail(
                Exit::Usage,
                format!("{}: there is no such torrent; see `swarm ctl list`", printable(torrent)),
            ),
        }
    }

    /// All torrents, page by page.
    async fn all(&mut self, filter: &str) -> Result<Vec<Value>> {
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let mut page = self.client.get(&format!("/api/v1/torrents?limit=5000{filter}{after}")).await?;
            if let Value::Array(torrents) = page["torrents"].take() {
                all.extend(torrents);
            }
            match page["next"].as_i64() {
                Some(next) => after = format!("&after={next}"),
                None => return Ok(all),
            }
        }
    }

    async fn list(&mut self, args: &ListArgs) -> Result<()> {
        let filters = [("state", &args.state), ("category", &args.category), ("tag", &args.tag)];
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in filters {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        let query = query.finish();
        let filter = if query.is_empty() { String::new() } else { format!("&{query}") };
        let all = Value::Array(self.all(&filter).await?);
        self.print(&all, |cx, all| show::torrents(cx, all.as_array().map_or(&[], Vec::as_slice)));
        Ok(())
    }

    async fn shown(&mut self, torrent: &str, end: &str, for_people: fn(&mut Context, &Value)) -> Result<()> {
        let path = self.path(torrent).await?;
        let answer = self.client.get(&format!("{path}{end}")).await?;
        self.print(&answer, for_people);
        Ok(())
    }

    /// Sends the same request about each of some torrents.
    async fn each(
        &mut self,
        several: &Several,
        method: Method,
        end: &str,
        body: Option<Value>,
    ) -> Result<()> {
        for torrent in &several.torrents {
            let path = self.path(torrent).await?;
            let body = body.clone().map_or(Body::None, Body::Json);
            let sent = self.client.json(method.clone(), &format!("{path}{end}"), body).await;
            sent.with_context(|| printable(torrent))?;
        }
        Ok(())
    }

    async fn add(&mut self, args: AddArgs) -> Result<()> {
        let mut options = Map::new();
        let flags = [
            ("paused", args.paused),
            ("seed", args.seed),
            ("forced", args.force),
            ("sequential", args.sequential),
            ("first_last", args.first_last),
            ("overwrite", args.overwrite),
        ];
        for (name, _) in flags.into_iter().filter(|(_, is_set)| *is_set) {
            options.insert(name.to_owned(), true.into());
        }
        let dir = args.dir.map(|dir| dir.to_string_lossy().into_owned());
        for (name, value) in [("dir", dir), ("category", args.category)] {
            value.into_iter().for_each(|value| drop(options.insert(name.to_owned(), value.into())));
        }
        for (name, list) in [("tags", args.tags), ("peers", args.peers)] {
            if !list.is_empty() {
                options.insert(name.to_owned(), list.into());
            }
        }
        if let Some(FileList(files)) = args.files {
            if crate::source::may_be_several(&args.sources) {
                return fail(Exit::Usage, "--files: the files of several torrents have no common number");
            }
            options.insert("files".to_owned(), files.into());
        }
        let mut failed = None;
        for (source, listed) in args.sources.iter().flat_map(|source| crate::source::listed(source)) {
            let added = match listed {
                Ok(()) => self.add_one(&source, &options).await.with_context(|| label_of(&source)),
                Err(error) => Err(error),
            };
            match added {
                Ok(added) => self.print(&added, |cx, added| {
                    let (id, name) = (&added["id"], printable(added["name"].as_str().unwrap_or_default()));
                    cx.console.say(&format!("added {name} as {id}"));
                }),
                // The others are added all the same.
                Err(error) => {
                    let before = failed.replace(error);
                    before.into_iter().for_each(|error| self.cx.warn(&format!("{error:#}")));
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn add_one(&mut self, source: &OsString, options: &Map<String, Value>) -> Result<Value> {
        let text = source.to_str().unwrap_or_default();
        let is_link = ["magnet:", "http://", "https://"].iter().any(|scheme| text.starts_with(scheme));
        let path = Path::new(source);
        if !is_link && (path.exists() || swarm_core::metainfo::parse_info_hash(text).is_none()) {
            let bytes = crate::source::read_file(path)?;
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in options {
                let value = match value {
                    Value::String(text) => text.clone(),
                    Value::Array(list) => {
                        let text = |one: &Value| one.as_str().map_or_else(|| one.to_string(), str::to_owned);
                        list.iter().map(text).collect::<Vec<_>>().join(",")
                    }
                    other => other.to_string(),
                };
                query.append_pair(name, &value);
            }
            let path = format!("/api/v1/torrents?{}", query.finish());
            return self.client.json(Method::POST, &path, Body::Metainfo(bytes)).await;
        }
        let mut body = options.clone();
        body.insert("source".to_owned(), text.into());
        self.client.json(Method::POST, "/api/v1/torrents", Body::Json(body.into())).await
    }

    async fn files(&mut self, args: FilesArgs) -> Result<()> {
        let chosen = [(args.skip, 0), (args.want, 4), (args.first, 7)];
        let mut priorities = BTreeMap::new();
        for (files, priority) in chosen {
            let files = files.into_iter().flat_map(|list| list.0);
            priorities.extend(files.map(|file| (file.to_string(), priority)));
        }
        if priorities.is_empty() {
            return self
                .shown(&args.one.torrent, "/files", |cx, files| {
                    show::files(cx, files.as_array().map_or(&[], Vec::as_slice));
                })
                .await;
        }
        let path = self.path(&args.one.torrent).await? + "/files";
        let body = Body::Json(json!({ "priorities": priorities }));
        self.client.json(Method::PATCH, &path, body).await.map(|_| ())
    }

    async fn limit(&mut self, args: LimitArgs) -> Result<()> {
        let mut edit = Map::new();
        for (name, limit) in [("upload_limit", args.up), ("download_limit", args.down)] {
            limit.into_iter().for_each(|Limit(rate)| drop(edit.insert(name.to_owned(), rate.into())));
        }
        for (name, goal) in [("ratio_limit", args.ratio), ("seed_time_limit", args.seed_time)] {
            goal.into_iter().for_each(|goal| drop(edit.insert(name.to_owned(), goal)));
        }
        if edit.is_empty() {
            return fail(Exit::Usage, "which limit? --up, --down, --ratio or --seed-time");
        }
        let edit = Value::Object(edit);
        if args.torrents.is_empty() {
            let body = Body::Json(edit);
            return self.client.json(Method::PATCH, "/api/v1/session", body).await.map(|_| ());
        }
        self.each(&Several { torrents: args.torrents }, Method::PATCH, "", Some(edit)).await
    }

    async fn list_or_add(
        &mut self,
        torrent: &str,
        end: &str,
        field: &str,
        add: Vec<String>,
        for_people: impl FnOnce(&mut Context, &[Value]),
    ) -> Result<()> {
        let path = self.path(torrent).await? + end;
        if !add.is_empty() {
            return self
                .client
                .json(Method::POST, &path, Body::Json(json!({ field: add })))
                .await
                .map(|_| ());
        }
        let all = self.client.get(&path).await?;
        self.print(&all, |cx, all| for_people(cx, all.as_array().map_or(&[], Vec::as_slice)));
        Ok(())
    }

    /// Prints events until the daemon ends, or a signal comes.
    async fn events(&mut self, torrent: Option<String>) -> Result<Exit> {
        let mut interrupt = Interrupt::install()?;
        let id = match torrent {
            Some(torrent) => {
                let path = self.path(&torrent).await?;
                path.rsplit_once('/').map(|(_, id)| format!("?torrent={id}"))
            }
            None => None,
        };
        let path = format!("/api/v1/events{}", id.unwrap_or_default());
        let mut body = self.client.send(Method::GET, &path, Body::None).await?.into_body();
        let mut unread = Vec::new();
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                signal = interrupt.wait() => return Ok(signal.exit_of_service()),
            };
            let Some(frame) = frame else { return Ok(Exit::Done) };
            let Ok(frame) = frame else { return Ok(Exit::Done) };
            unread.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            while let Some(at) = unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = unread.drain(..=at).collect();
                let Some(data) = line.strip_prefix(b"data: ") else { continue };
                let event: Value = serde_json::from_slice(data).context("an event is no JSON")?;
                if self.cx.console.is_json() {
                    self.cx.console.json(&event);
                } else if let Some(line) = show::event(&event) {
                    self.cx.console.result(&line);
                }
            }
        }
    }
}

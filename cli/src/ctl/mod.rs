//! `swarm ctl`: what a daemon is told, and what it tells, over its Unix socket.

mod client;
mod show;

use crate::context::Context;
use crate::exit::{Exit, fail, label_of, printable};
use crate::interrupt::Interrupt;
use crate::network::{default_state_dir, parse_tracker, parse_web_seed};
use crate::units;
use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueEnum, ValueHint};
use client::{Body, Client};
use http_body_util::BodyExt as _;
use hyper::Method;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct CtlArgs {
    /// The daemon's Unix socket. Default: daemon/socket in the state folder
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath)]
    socket: Option<PathBuf>,

    /// Print what the daemon answers, as JSON
    #[arg(long, global = true)]
    pub json: bool,

    #[command(subcommand)]
    command: Ctl,
}

const EXAMPLES: &str = "\
Examples:
  swarm ctl add release.meta 'magnet:?xt=urn:btih:…' --category iso
  swarm ctl list
  swarm ctl files 7 --skip 0,3-5
  swarm ctl limit --down 10MB/s
  swarm ctl remove 7 --delete-data

TORRENT is its number in the list, its info-hash, or its name. There has to be a daemon: `swarm daemon` starts one.";

#[derive(Debug, Subcommand)]
enum Ctl {
    /// Add torrents
    Add(Box<AddArgs>),
    /// List torrents
    List(ListArgs),
    /// Show a torrent
    Show(One),
    /// Pause torrents
    Pause(Several),
    /// Resume torrents, also those that have failed
    Resume(ResumeArgs),
    /// Remove torrents, and keep their data unless told otherwise
    Remove(RemoveArgs),
    /// Check all data of torrents again
    Recheck(Several),
    /// Announce torrents to their trackers now, as far as these allow
    Reannounce(Several),
    /// List a torrent's files, or choose which are wanted
    Files(FilesArgs),
    /// Limit rates and seeding: of torrents, or of all together
    Limit(LimitArgs),
    /// Move torrents in the queue
    Queue(QueueArgs),
    /// List a torrent's peers, or add some
    Peers(PeersArgs),
    /// List a torrent's trackers, or add some
    Trackers(TrackersArgs),
    /// List a torrent's web seeds, or add some
    WebSeeds(WebSeedsArgs),
    /// Print what happens, until interrupted
    Events(EventsArgs),
    /// Show the daemon as a whole
    Session,
}

#[derive(Args, Debug)]
struct One {
    /// Its number, info-hash or name
    torrent: String,
}

#[derive(Args, Debug)]
struct Several {
    /// Their numbers, info-hashes or names
    #[arg(value_name = "TORRENT", required = true)]
    torrents: Vec<String>,
}

#[derive(Args, Debug)]
struct AddArgs {
    /// Metainfo files, their URLs, magnet links or info-hashes
    #[arg(value_name = "SOURCE", required = true, value_hint = ValueHint::AnyPath)]
    sources: Vec<OsString>,

    /// Download to this folder, or to one of this name below the daemon's
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    dir: Option<PathBuf>,

    /// Add them paused
    #[arg(long)]
    paused: bool,

    /// Seed what is there already; nothing is written to the data
    #[arg(long)]
    seed: bool,

    /// Run them without a turn in the queue
    #[arg(long)]
    force: bool,

    /// Download pieces in their order
    #[arg(long)]
    sequential: bool,

    /// Put them into this category
    #[arg(long, value_name = "NAME")]
    category: Option<String>,

    /// Give them this tag; repeatable
    #[arg(long = "tag", value_name = "NAME")]
    tags: Vec<String>,

    /// Connect to this peer; repeatable
    #[arg(long = "peer", value_name = "ADDR:PORT")]
    peers: Vec<String>,
}

#[derive(Args, Debug)]
struct ListArgs {
    /// Only torrents in this state
    #[arg(long, value_name = "STATE")]
    state: Option<String>,

    /// Only torrents of this category
    #[arg(long, value_name = "NAME")]
    category: Option<String>,

    /// Only torrents with this tag
    #[arg(long, value_name = "NAME")]
    tag: Option<String>,
}

#[derive(Args, Debug)]
struct ResumeArgs {
    #[command(flatten)]
    several: Several,

    /// Run them without a turn in the queue from now on
    #[arg(long)]
    force: bool,
}

#[derive(Args, Debug)]
struct RemoveArgs {
    #[command(flatten)]
    several: Several,

    /// Delete what was verified of their data, and what is unfinished
    #[arg(long)]
    delete_data: bool,
}

#[derive(Args, Debug)]
struct FilesArgs {
    #[command(flatten)]
    one: One,

    /// Do not download these files, as in 0,3-5
    #[arg(long, value_name = "FILES", value_parser = parse_files)]
    skip: Option<FileList>,

    /// Download these files
    #[arg(long, value_name = "FILES", value_parser = parse_files)]
    want: Option<FileList>,

    /// Download these files before the others
    #[arg(long, value_name = "FILES", value_parser = parse_files)]
    first: Option<FileList>,
}

#[derive(Clone, Debug)]
struct FileList(Vec<u32>);

/// How many files may be named at once.
const FILES_MAX: usize = 500_000;

fn parse_files(text: &str) -> Result<FileList, &'static str> {
    const WRONG: &str = "is no list of files; write it as in 0,3-5";
    let mut files = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().map_err(|_| WRONG)?, last.parse().map_err(|_| WRONG)?);
        if first > last || (last - first) as usize >= FILES_MAX - files.len() {
            return Err(WRONG);
        }
        files.extend(first..=last);
    }
    Ok(FileList(files))
}

#[derive(Args, Debug)]
struct LimitArgs {
    /// Their numbers, info-hashes or names; without any, the limits are of all together
    #[arg(value_name = "TORRENT")]
    torrents: Vec<String>,

    /// Limit the upload rate, as in 10MB/s; `none` lifts the limit
    #[arg(long, value_name = "RATE", value_parser = parse_limit)]
    up: Option<Limit>,

    /// Limit the download rate; `none` lifts the limit
    #[arg(long, value_name = "RATE", value_parser = parse_limit)]
    down: Option<Limit>,

    /// Stop when this many times the size is sent; `none`, or `default` for the daemon's own
    #[arg(long, value_name = "RATIO", value_parser = parse_ratio, requires = "torrents")]
    ratio: Option<Value>,

    /// Stop when seeded for this long; `none`, or `default` for the daemon's own
    #[arg(long, value_name = "DURATION", value_parser = parse_seed_time, requires = "torrents")]
    seed_time: Option<Value>,
}

/// A rate, or none.
#[derive(Clone, Copy, Debug)]
struct Limit(Option<u64>);

fn parse_limit(text: &str) -> Result<Limit, String> {
    if text == "none" { Ok(Limit(None)) } else { units::parse_rate(text).map(|rate| Limit(Some(rate))) }
}

fn parse_ratio(text: &str) -> Result<Value, &'static str> {
    match text.parse::<f64>() {
        _ if matches!(text, "none" | "default") => Ok(text.into()),
        Ok(ratio) if ratio.is_finite() && ratio >= 0.0 => Ok(ratio.into()),
        _ => Err("is not a number from 0 up, none or default"),
    }
}

fn parse_seed_time(text: &str) -> Result<Value, String> {
    match text {
        "none" | "default" => Ok(text.into()),
        _ => units::parse_duration(text).map(|time: Duration| time.as_secs().into()),
    }
}

#[derive(Args, Debug)]
struct QueueArgs {
    #[command(flatten)]
    several: Several,

    /// Where to
    #[arg(long, value_name = "PLACE", value_enum)]
    to: PlaceArg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PlaceArg {
    Top,
    Up,
    Down,
    Bottom,
}

#[derive(Args, Debug)]
struct PeersArgs {
    #[command(flatten)]
    one: One,

    /// Connect to this peer; repeatable
    #[arg(long, value_name = "ADDR:PORT")]
    add: Vec<String>,
}

#[derive(Args, Debug)]
struct TrackersArgs {
    #[command(flatten)]
    one: One,

    /// Announce to this tracker too; repeatable
    #[arg(long, value_name = "URL", value_parser = parse_tracker)]
    add: Vec<String>,
}

#[derive(Args, Debug)]
struct WebSeedsArgs {
    #[command(flatten)]
    one: One,

    /// Use this web seed too; repeatable
    #[arg(long, value_name = "URL", value_parser = parse_web_seed)]
    add: Vec<String>,
}

#[derive(Args, Debug)]
struct EventsArgs {
    /// Only events of this torrent
    torrent: Option<String>,
}

pub async fn run(args: CtlArgs, cx: &mut Context) -> Result<Exit> {
    let socket = args.socket.or_else(|| Some(crate::daemon::socket_in(&default_state_dir()?)));
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
        Ctl::Queue(QueueArgs { several, to }) => {
            let place = to.to_possible_value().map(|value| value.get_name().to_owned());
            daemon.each(&several, Method::PATCH, "", Some(json!({"position": place}))).await?;
        }
        Ctl::Peers(PeersArgs { one, add }) => {
            daemon.list_or_add(&one.torrent, "/peers", "peers", add, show::peers).await?;
        }
        Ctl::Trackers(TrackersArgs { one, add }) => {
            daemon.list_or_add(&one.torrent, "/trackers", "urls", add, show::trackers).await?;
        }
        Ctl::WebSeeds(WebSeedsArgs { one, add }) => {
            daemon.list_or_add(&one.torrent, "/web-seeds", "urls", add, show::web_seeds).await?;
        }
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
        for source in &args.sources {
            let label = label_of(source);
            let added = self.add_one(source, &options).await.with_context(|| label.clone())?;
            self.print(&added, |cx, added| {
                let (id, name) = (&added["id"], printable(added["name"].as_str().unwrap_or_default()));
                cx.console.say(&format!("added {name} as {id}"));
            });
        }
        Ok(())
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
                    Value::Array(list) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_listed_with_ranges() {
        assert_eq!(parse_files("0,3-5").unwrap().0, [0, 3, 4, 5]);
        for wrong in ["", "a", "5-3", "1-", "0-4294967295", "1,,2"] {
            assert!(parse_files(wrong).is_err(), "{wrong}");
        }
    }
}

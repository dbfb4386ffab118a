//! A torrent's own page: how it stands, its files, peers and trackers.

use super::graph::{self, Graph};
use super::list;
use super::pieces::{self, Map};
use super::query::left;
use super::{Ctx, Frame, PageResult, format, html};
use crate::table::Row;
use crate::torrents::Id;
use askama::Template;
use axum::extract::{Path, RawQuery};
use axum::response::Response;
use swarm_engine::{FileIndex, TorrentStats};
use url::form_urlencoded;

/// How many files are shown at a time.
const FILES_MAX: usize = 500;
/// How many peers.
const PEERS_MAX: usize = 500;

/// A torrent's page.
pub struct NameOf(pub Id);

impl NameOf {
    /// Whether a path is of this torrent.
    pub fn is_in(&self, path: &str) -> bool {
        path.split_once("/t/")
            .is_some_and(|(_, rest)| rest.split(['/', '?']).next().is_some_and(|id| id == self.0.to_string()))
    }
}

/// The head of the page, above its parts.
#[derive(Debug)]
pub struct Head {
    pub id: i64,
    pub name: String,
    pub tab: &'static str,
    pub state: &'static str,
    pub label: &'static str,
    pub why: String,
    pub has_error: bool,
    pub thousandths: u32,
    pub percent: String,
    pub verified: String,
    pub total: String,
    pub down: String,
    pub up: String,
    pub left: String,
    pub ratio: String,
    pub is_paused: bool,
    pub is_forced: bool,
    pub files: Option<usize>,
    pub peers: usize,
}

impl Head {
    pub fn of(row: &Row, tab: &'static str) -> Head {
        let summary = &*row.summary;
        let files = row.metainfo.as_ref().map(|metainfo| metainfo.info.files.iter());
        Head {
            id: summary.id.0,
            name: format::name(&summary.name),
            tab,
            state: summary.state.name(),
            label: list::label(summary),
            why: format::text(&list::why(summary)),
            has_error: summary.error.is_some(),
            thousandths: list::progress(summary),
            percent: list::percent(summary),
            verified: format::size(summary.bytes_verified),
            total: format::size(summary.bytes_total),
            down: format::rate(summary.rate_down),
            up: format::rate(summary.rate_up),
            left: left(summary).map(format::span).unwrap_or_default(),
            ratio: format!("{:.2}", summary.ratio),
            is_paused: summary.paused,
            is_forced: summary.forced,
            files: files.map(|files| files.filter(|file| !file.attr.pad).count()),
            peers: summary.peers,
        }
    }
}

/// A fact about a torrent.
#[derive(Debug)]
pub struct Fact {
    pub label: &'static str,
    pub value: String,
    /// A value for machines, such as a hash.
    pub is_code: bool,
}

fn facts(row: &Row, now: i64) -> Vec<Fact> {
    let summary = &*row.summary;
    let mut facts = Vec::new();
    let mut put = |label: &'static str, value: Option<String>, is_code: bool| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            facts.push(Fact { label, value: format::text(&value), is_code });
        }
    };
    let seeding = summary.running_since.filter(|_| summary.completed_at.is_some());
    let seeding =
        summary.seconds_seeding + seeding.map_or(0, |since| u64::try_from(now - since).unwrap_or(0));
    let metainfo = row.metainfo.as_deref();
    let when = |time: i64| format!("{} ({})", format::ago(now, time), format::stamp(time));
    put("Received", Some(format::size(summary.bytes_down)), false);
    put("Sent", Some(format::size(summary.bytes_up)), false);
    put("Folder", Some(summary.dir.display().to_string()), true);
    put("Moving to", summary.moving_to.as_ref().map(|dir| dir.display().to_string()), true);
    put("Own name", Some(summary.own_name.clone()).filter(|name| *name != summary.name), false);
    put("Category", summary.category.clone(), false);
    put("Tags", Some(summary.tags.join(", ")), false);
    put("Added", Some(when(summary.added_at)), false);
    put("Complete", summary.completed_at.map(when), false);
    put("Seeded for", (seeding > 0).then(|| format::span(seeding)), false);
    put(
        "Pieces",
        metainfo.map(|metainfo| pieces_of(summary.pieces, metainfo.info.geometry.piece_len())),
        false,
    );
    let private = metainfo.filter(|metainfo| metainfo.info.private);
    put("Private", private.map(|_| "peers come from its trackers only".to_owned()), false);
    put("Made", metainfo.and_then(|metainfo| metainfo.creation_date).map(when), false);
    put("Made by", metainfo.and_then(|metainfo| metainfo.created_by.clone()), false);
    put("Comment", metainfo.and_then(|metainfo| metainfo.comment.clone()), false);
    put("Info-hash", summary.info_hash_v1.clone(), true);
    put("Info-hash, version 2", summary.info_hash_v2.clone(), true);
    facts
}

fn pieces_of(count: u32, len: u32) -> String {
    format!("{count} of {}", format::size(len.into()))
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    frame: Frame,
    head: Head,
    facts: Vec<Fact>,
    graph: Graph,
    map: Option<Map>,
    magnet: Option<String>,
    has_metainfo: bool,
}

/// Whether only what changes is asked for.
pub fn wants_part(query: &str) -> bool {
    form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "part")
}

/// `query`: of the request.
pub fn frame(ctx: &Ctx, id: i64, query: &str) -> Frame {
    Frame { is_part: wants_part(query), ..ctx.frame("torrent", &format!("/live?torrent={id}")) }
}

/// How it stands.
pub async fn overview(ctx: Ctx, Path(id): Path<i64>, RawQuery(query): RawQuery) -> PageResult<Response> {
    let row = ctx.row(id)?;
    let map = match &row.handle {
        Some(handle) => handle.pieces().await.ok().flatten(),
        None => None,
    };
    let magnet = row.metainfo.as_ref().map(|metainfo| metainfo.magnet().to_string());
    html(&OverviewPage {
        frame: frame(&ctx, id, &query.unwrap_or_default()),
        head: Head::of(&row, "overview"),
        facts: facts(&row, crate::manager::now()),
        graph: graph::draw(&ctx.app.history.of(Id(id))),
        map: map.map(|map| pieces::draw(&map)),
        magnet: magnet.or_else(|| row.link.clone()),
        has_metainfo: row.metainfo.is_some(),
    })
}

/// A file, as it is shown.
#[derive(Debug)]
pub struct FileView {
    pub index: usize,
    pub folder: String,
    pub name: String,
    pub size: String,
    /// `None` while the torrent does not run.
    pub thousandths: Option<u32>,
    pub percent: String,
    pub priority: u8,
    /// Whether browsers may play it.
    pub is_playable: bool,
}

#[derive(Template)]
#[template(path = "files.html")]
struct FilesPage {
    frame: Frame,
    head: Head,
    files: Vec<FileView>,
    search: String,
    total: usize,
    before: Option<usize>,
    after: Option<usize>,
    is_known: bool,
    /// Whether there are addresses for players.
    has_links: bool,
}

/// The indices of files whose path has the text, pad files left out.
pub fn files_with(row: &Row, search: &str) -> Vec<usize> {
    let search = search.to_lowercase();
    let Some(metainfo) = &row.metainfo else { return Vec::new() };
    let files = metainfo.info.files.iter().enumerate().filter(|(_, file)| !file.attr.pad);
    let wanted = files.filter(|(at, _)| search.is_empty() || path(row, *at).to_lowercase().contains(&search));
    wanted.map(|(at, _)| at).collect()
}

/// A file's path in the torrent. The torrent's own name is left out: it is above.
fn path(row: &Row, at: usize) -> String {
    let path = row.file_path(FileIndex(at as u32)).unwrap_or_default();
    if path.len() > 1 { path[1..].join("/") } else { path.join("/") }
}

/// Its files.
pub async fn files(ctx: Ctx, Path(id): Path<i64>, RawQuery(query): RawQuery) -> PageResult<Response> {
    let row = ctx.row(id)?;
    let query = query.unwrap_or_default();
    let given = |name: &str| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    let search: String = given("q").trim().chars().take(200).collect();
    let verified = match &row.handle {
        Some(handle) => handle.file_progress().await.ok().flatten(),
        None => None,
    };
    let found = files_with(&row, &search);
    let total = found.len();
    let from = given("from").parse().unwrap_or(0_usize).min(total.saturating_sub(1) / FILES_MAX * FILES_MAX);
    let entries = row.metainfo.as_ref().map(|metainfo| &metainfo.info.files[..]).unwrap_or_default();
    let shown = found.iter().skip(from).take(FILES_MAX).map(|&at| {
        let path = path(&row, at);
        let (folder, name) = path.rsplit_once('/').map_or(("", &*path), |(folder, name)| (folder, name));
        let length = entries[at].length;
        let done = verified.as_ref().and_then(|each| each.get(at).copied());
        FileView {
            is_playable: row.priorities.as_deref().and_then(|each| each.get(at)) != Some(&0)
                && crate::stream::is_playable(name),
            index: at,
            folder: format::name(folder),
            name: format::name(name),
            size: format::size(length),
            thousandths: done.map(|done| if length == 0 { 1_000 } else { format::thousandths(done, length) }),
            percent: done
                .map(|done| if length == 0 { "100 %".into() } else { format::percent(done, length) })
                .unwrap_or_default(),
            priority: row.priorities.as_deref().and_then(|each| each.get(at).copied()).unwrap_or(4),
        }
    });
    html(&FilesPage {
        frame: frame(&ctx, id, &query),
        head: Head::of(&row, "files"),
        files: shown.collect(),
        total,
        before: from.checked_sub(FILES_MAX),
        after: Some(from + FILES_MAX).filter(|after| *after < total),
        search,
        is_known: row.metainfo.is_some(),
        has_links: row.stream_token.is_some(),
    })
}

/// A peer, as it is shown.
#[derive(Debug)]
pub struct PeerView {
    pub address: String,
    /// Its address without the port.
    pub ip: String,
    pub client: String,
    pub how: String,
    pub percent: String,
    pub down: String,
    pub up: String,
    pub received: String,
    pub sent: String,
    /// What goes on with it, in words.
    pub state: String,
}

#[derive(Template)]
#[template(path = "peers.html")]
struct PeersPage {
    frame: Frame,
    head: Head,
    peers: Vec<PeerView>,
    more: usize,
}

/// The torrent as it stands in the session; `None` if it is not there.
async fn stats(row: &Row) -> Option<TorrentStats> {
    row.handle.as_ref()?.stats().await.ok()
}

/// Its peers, those that give most first.
pub async fn peers(ctx: Ctx, Path(id): Path<i64>, RawQuery(query): RawQuery) -> PageResult<Response> {
    let row = ctx.row(id)?;
    let mut peers = stats(&row).await.map(|stats| stats.peer_list).unwrap_or_default();
    peers.sort_by_key(|peer| std::cmp::Reverse((peer.rate_down, peer.rate_up, peer.bytes_down)));
    let pieces = row.summary.pieces;
    let shown = peers.iter().take(PEERS_MAX).map(|peer| {
        let mut how = vec![if peer.utp { "uTP" } else { "TCP" }];
        how.extend(peer.encryption.is_some().then_some("encrypted"));
        how.extend(peer.inbound.then_some("incoming"));
        let state = match (
            peer.snubbed,
            peer.am_interested,
            peer.peer_choking,
            peer.peer_interested,
            peer.am_choking,
        ) {
            (true, ..) => "lets requests lie",
            (_, true, false, ..) => "gives",
            (_, true, true, ..) => "lets us wait",
            (.., true, false) => "takes",
            (.., true, true) => "waits for us",
            _ => "idle",
        };
        PeerView {
            address: peer.addr.to_string(),
            ip: peer.addr.ip().to_canonical().to_string(),
            client: format::name(&peer.client),
            how: how.join(", "),
            percent: format::percent(peer.pieces_have.into(), pieces.into()),
            down: format::rate_if_any(peer.rate_down),
            up: format::rate_if_any(peer.rate_up),
            received: format::size(peer.bytes_down),
            sent: format::size(peer.bytes_up),
            state: state.to_owned(),
        }
    });
    html(&PeersPage {
        frame: frame(&ctx, id, &query.unwrap_or_default()),
        head: Head::of(&row, "peers"),
        more: peers.len().saturating_sub(PEERS_MAX),
        peers: shown.collect(),
    })
}

/// A tracker, as it is shown.
#[derive(Debug, Default)]
pub struct TrackerView {
    pub url: String,
    /// Cut where it is too long.
    pub shown: String,
    pub tier: usize,
    pub family: String,
    pub status: String,
    pub peers: String,
    pub seeds: String,
    pub leechers: String,
    pub next: String,
    /// The first of its rows: there it can be removed.
    pub is_first: bool,
}

/// A web seed, as it is shown.
#[derive(Debug)]
pub struct WebSeedView {
    pub url: String,
    pub shown: String,
    pub status: String,
    pub received: String,
    pub down: String,
}

#[derive(Template)]
#[template(path = "trackers.html")]
struct TrackersPage {
    frame: Frame,
    head: Head,
    trackers: Vec<TrackerView>,
    web_seeds: Vec<WebSeedView>,
}

/// Its trackers and web seeds.
pub async fn trackers(ctx: Ctx, Path(id): Path<i64>, RawQuery(query): RawQuery) -> PageResult<Response> {
    let row = ctx.row(id)?;
    let stats = stats(&row).await;
    html(&TrackersPage {
        frame: frame(&ctx, id, &query.unwrap_or_default()),
        head: Head::of(&row, "trackers"),
        trackers: tracker_views(&row, stats.as_ref()),
        web_seeds: web_seed_views(&row, stats.as_ref()),
    })
}

fn tracker_views(row: &Row, stats: Option<&TorrentStats>) -> Vec<TrackerView> {
    let known = stats.map(|stats| &stats.trackers[..]).unwrap_or_default();
    let maybe = |count: Option<u32>| count.map(|count| count.to_string()).unwrap_or_default();
    let mut views = Vec::new();
    for (tier, url) in
        row.tiers.iter().enumerate().flat_map(|(tier, urls)| urls.iter().map(move |url| (tier, url)))
    {
        let view = || TrackerView {
            url: url.clone(),
            shown: format::name(url),
            tier: tier + 1,
            ..TrackerView::default()
        };
        let of_url: Vec<_> = known.iter().filter(|tracker| tracker.url == *url).collect();
        if of_url.is_empty() {
            views.push(TrackerView { is_first: true, ..view() });
        }
        for (nth, tracker) in of_url.into_iter().enumerate() {
            views.push(TrackerView {
                family: tracker.family.to_string(),
                status: format::name(&tracker.status.to_string()),
                peers: tracker.peers.to_string(),
                seeds: maybe(tracker.seeds),
                leechers: maybe(tracker.leechers),
                next: tracker.next_announce.map(|wait| format::span(wait.as_secs())).unwrap_or_default(),
                is_first: nth == 0,
                ..view()
            });
        }
    }
    views
}

fn web_seed_views(row: &Row, stats: Option<&TorrentStats>) -> Vec<WebSeedView> {
    let known = stats.map(|stats| &stats.web_seeds[..]).unwrap_or_default();
    let view = |url: &String| {
        let found = known.iter().find(|seed| seed.url == *url);
        WebSeedView {
            url: url.clone(),
            shown: format::name(url),
            status: found.map(|seed| format::name(&seed.status.to_string())).unwrap_or_default(),
            received: found.map(|seed| format::size(seed.bytes_down)).unwrap_or_default(),
            down: found.map(|seed| format::rate_if_any(seed.rate_down)).unwrap_or_default(),
        }
    };
    row.web_seeds.iter().map(view).collect()
}

#[cfg(test)]
#[path = "detail_tests.rs"]
mod tests;

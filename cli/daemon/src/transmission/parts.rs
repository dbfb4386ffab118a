//! What a torrent consists of, as clients know it: files, pieces, trackers, peers, web seeds.

use super::fields::Live;
use crate::table::{Row, Summary};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::path::Path;
use swarm_engine::{
    FileEntry, FileIndex, PeerStats, PieceStatus, TorrentStats, TrackerStats, TrackerStatus, WebSeedStatus,
};
use url::{Host, Url};

/// The priority of a file unless somebody says otherwise, and those that clients call low and high.
pub const NORMAL: u8 = 4;
pub const LOW: u8 = 1;
pub const HIGH: u8 = 7;

/// A file that clients see: no pad file.
pub struct File<'a> {
    /// Its index here, pad files counted.
    pub index: usize,
    pub entry: &'a FileEntry,
    pub priority: u8,
}

/// The files in the order in which clients count them.
pub fn files(row: &Row) -> impl Iterator<Item = File<'_>> {
    let entries = row.metainfo.as_ref().map(|metainfo| &metainfo.info.files[..]).unwrap_or_default();
    let priority =
        |at: usize| row.priorities.as_deref().and_then(|each| each.get(at).copied()).unwrap_or(NORMAL);
    let files = entries.iter().enumerate().filter(|(_, entry)| !entry.attr.pad);
    files.map(move |(index, entry)| File { index, entry, priority: priority(index) })
}

pub fn each_file(row: &Row, value: impl Fn(File<'_>) -> Value) -> Value {
    files(row).map(value).collect()
}

/// -1, 0 or 1.
pub fn level(priority: u8) -> i8 {
    match priority {
        0 | NORMAL => 0,
        1..NORMAL => -1,
        _ => 1,
    }
}

/// How many verified bytes of a file there are; of a torrent that does not run: all if it is complete.
pub fn completed(row: &Row, live: &Live, file: &File<'_>) -> u64 {
    let known = live.verified.as_ref().and_then(|each| each.get(file.index).copied());
    let summary = &row.summary;
    let is_complete = summary.bytes_total > 0 && summary.bytes_verified >= summary.bytes_total;
    known.unwrap_or(if is_complete && file.priority > 0 { file.entry.length } else { 0 })
}

pub fn files_shown(row: &Row, live: &Live) -> Value {
    let piece_len =
        row.metainfo.as_ref().map_or(1, |metainfo| u64::from(metainfo.info.geometry.piece_len()).max(1));
    each_file(row, |file| {
        let FileEntry { length, offset, .. } = file.entry;
        json!({
            "begin_piece": offset / piece_len,
            "bytes_completed": completed(row, live, &file),
            "end_piece": (offset + length).div_ceil(piece_len),
            "length": length,
            "name": name(row, &file),
        })
    })
}

/// Its path as it is on disk, the torrent's name first.
fn name(row: &Row, file: &File<'_>) -> String {
    row.file_path(FileIndex(file.index as u32)).unwrap_or_else(|| file.entry.path.clone()).join("/")
}

pub fn file_stats(row: &Row, live: &Live) -> Value {
    each_file(row, |file| {
        json!({
            "bytes_completed": completed(row, live, &file),
            "priority": level(file.priority),
            "wanted": file.priority > 0,
        })
    })
}

/// A sort of data by the largest file's name.
pub fn mime_type(row: &Row) -> &'static str {
    let largest = files(row).max_by_key(|file| file.entry.length);
    let name = largest.and_then(|file| file.entry.path.last());
    let extension = name.and_then(|name| Path::new(name).extension()?.to_str()).unwrap_or_default();
    match &*extension.to_ascii_lowercase() {
        "mkv" => "video/x-matroska",
        "mp4" | "m4v" => "video/mp4",
        "avi" => "video/x-msvideo",
        "webm" => "video/webm",
        "mp3" => "audio/mpeg",
        "flac" => "audio/flac",
        "ogg" | "opus" => "audio/ogg",
        "iso" => "application/x-iso9660-image",
        "zip" => "application/zip",
        "gz" | "tgz" => "application/gzip",
        "pdf" => "application/pdf",
        "epub" => "application/epub+zip",
        "txt" => "text/plain",
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        _ => "application/octet-stream",
    }
}

/// Whether a piece is here; of a torrent that does not run: all if it is complete.
fn has(row: &Row, live: &Live) -> impl Fn(usize) -> bool {
    let is_complete = row.summary.pieces_have == row.summary.pieces;
    let statuses = live.pieces.as_ref().map(|map| map.statuses.clone());
    move |piece| match &statuses {
        Some(statuses) => statuses.get(piece) == Some(&PieceStatus::Have),
        None => is_complete,
    }
}

/// A bit for each piece that is there, in base64.
pub fn pieces(row: &Row, live: &Live) -> String {
    let (count, has) = (row.summary.pieces as usize, has(row, live));
    let mut bits = vec![0_u8; count.div_ceil(8)];
    (0..count).filter(|piece| has(*piece)).for_each(|piece| bits[piece / 8] |= 0x80 >> (piece % 8));
    STANDARD.encode(bits)
}

/// For each piece, how many peers have it; -1 if it is here.
pub fn availability(row: &Row, live: &Live) -> Value {
    let has = has(row, live);
    let of =
        |piece: usize| live.pieces.as_ref().and_then(|map| map.availability.get(piece).copied()).unwrap_or(0);
    (0..row.summary.pieces as usize).map(|piece| if has(piece) { -1 } else { i64::from(of(piece)) }).collect()
}

/// How many of the missing bytes somebody has who is connected: all, if one has everything or a web seed serves.
pub fn available(stats: Option<&TorrentStats>, left: u64) -> u64 {
    let Some(stats) = stats else { return 0 };
    let serves = |status: &WebSeedStatus| !matches!(status, WebSeedStatus::Dropped(_));
    if stats.seeds > 0 || stats.web_seeds.iter().any(|seed| serves(&seed.status)) { left } else { 0 }
}

/// What a tracker is known by, which stays as long as its URL does: a number of 31 bits (FNV-1a).
pub fn tracker_id(url: &str) -> i64 {
    let hash =
        url.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    i64::from(hash >> 1)
}

fn each_tracker<'a>(tiers: &'a [Vec<String>], value: impl Fn(usize, &'a str) -> Value) -> Value {
    let each = tiers.iter().enumerate().flat_map(|(tier, urls)| urls.iter().map(move |url| (tier, url)));
    each.map(|(tier, url)| value(tier, url)).collect()
}

pub fn trackers(row: &Row) -> Value {
    each_tracker(
        &row.tiers,
        |tier, url| json!({"announce": url, "id": tracker_id(url), "scrape": scrape(url), "sitename": site(url), "tier": tier}),
    )
}

/// One URL a line, an empty line between tiers.
pub fn tracker_list(row: &Row) -> String {
    row.tiers.iter().map(|urls| urls.join("\n")).collect::<Vec<_>>().join("\n\n")
}

/// Where a tracker tells of a swarm without being announced to; empty if nowhere.
fn scrape(url: &str) -> String {
    if url.starts_with("udp:") {
        return url.to_owned();
    }
    match url.rsplit_once("/announce") {
        Some((before, after)) if !after.contains('/') => format!("{before}/scrape{after}"),
        _ => String::new(),
    }
}

/// Whose tracker it is, for people: `example` of `tracker.example.org`.
fn site(url: &str) -> String {
    let url = Url::parse(url).ok();
    match url.as_ref().and_then(Url::host) {
        Some(Host::Domain(name)) => name.rsplit('.').nth(1).unwrap_or(name).to_owned(),
        Some(host) => host.to_string(),
        None => String::new(),
    }
}

/// The host and the port.
fn host(url: &str) -> String {
    let Ok(url) = Url::parse(url) else { return String::new() };
    let host = url.host_str().unwrap_or_default();
    url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

pub fn tracker_stats(row: &Row, stats: Option<&TorrentStats>, now: i64) -> Value {
    let known = stats.map(|stats| &stats.trackers[..]).unwrap_or_default();
    each_tracker(&row.tiers, |tier, url| {
        // One for each address family: the best of them.
        let of = known.iter().filter(|known| known.url == url).min_by_key(|known| rank(&known.status));
        tracker_shown(tier, url, of, now)
    })
}

fn rank(status: &TrackerStatus) -> u8 {
    match status {
        TrackerStatus::Working => 0,
        TrackerStatus::Announcing => 1,
        TrackerStatus::Failed(_) => 2,
        TrackerStatus::NotContacted => 3,
        _ => 4,
    }
}

fn tracker_shown(tier: usize, url: &str, of: Option<&TrackerStats>, now: i64) -> Value {
    let status = of.map(|of| &of.status);
    let next = of.and_then(|of| of.next_announce).map_or(0, |wait| now + wait.as_secs() as i64);
    let state = match status {
        Some(TrackerStatus::Announcing) => 3,
        Some(TrackerStatus::Working | TrackerStatus::Failed(_)) => 1,
        _ => 0,
    };
    let works = status == Some(&TrackerStatus::Working);
    let has_announced = works || matches!(status, Some(TrackerStatus::Failed(_)));
    // When that was is not known; clients would show the age of 1970.
    let at = if has_announced { now } else { 0 };
    let result = match status {
        Some(TrackerStatus::Working) => "Success".to_owned(),
        Some(TrackerStatus::Failed(_) | TrackerStatus::Unsupported(_) | TrackerStatus::NoAddress(_)) => {
            status.map(ToString::to_string).unwrap_or_default()
        }
        _ => String::new(),
    };
    let count = |count: Option<u32>| count.map_or(-1, i64::from);
    json!({
        "announce": url, "announce_state": state, "download_count": -1, "downloader_count": -1,
        "has_announced": has_announced, "has_scraped": false, "host": host(url),
        "id": tracker_id(url), "is_backup": false, "last_announce_peer_count": of.map_or(0, |of| of.peers),
        "last_announce_result": result, "last_announce_start_time": at, "last_announce_succeeded": works,
        "last_announce_time": at, "last_announce_timed_out": false, "last_scrape_result": "", "last_scrape_start_time": 0,
        "last_scrape_succeeded": false, "last_scrape_time": 0, "last_scrape_timed_out": false,
        "leecher_count": count(of.and_then(|of| of.leechers)), "next_announce_time": next, "next_scrape_time": 0,
        "scrape": scrape(url), "scrape_state": 0, "seeder_count": count(of.and_then(|of| of.seeds)),
        "sitename": site(url), "tier": tier,
    })
}

pub fn count_peers(stats: Option<&TorrentStats>, is_it: impl Fn(&PeerStats) -> bool) -> usize {
    stats.map_or(0, |stats| stats.peer_list.iter().filter(|peer| is_it(peer)).count())
}

pub fn peers(summary: &Summary, stats: Option<&TorrentStats>) -> Value {
    let peers = stats.map(|stats| &stats.peer_list[..]).unwrap_or_default();
    peers.iter().map(|peer| peer_shown(peer, summary.pieces)).collect()
}

fn peer_shown(peer: &PeerStats, pieces: u32) -> Value {
    let progress = if pieces > 0 { f64::from(peer.pieces_have) / f64::from(pieces) } else { 0.0 };
    json!({
        "address": peer.addr.ip().to_canonical().to_string(), "bytes_to_client": peer.bytes_down, "bytes_to_peer": peer.bytes_up,
        "client_is_choked": peer.peer_choking, "client_is_interested": peer.am_interested, "client_name": peer.client,
        "flag_str": flags(peer), "is_downloading_from": peer.rate_down > 0, "is_encrypted": peer.encryption.is_some(),
        "is_incoming": peer.inbound, "is_uploading_to": peer.rate_up > 0, "is_utp": peer.utp,
        "peer_id": STANDARD.encode(peer.peer_id.0), "peer_is_choked": peer.am_choking,
        "peer_is_interested": peer.peer_interested, "port": peer.addr.port(), "progress": progress.min(1.0),
        "rate_to_client": peer.rate_down, "rate_to_peer": peer.rate_up,
    })
}

/// The letters that clients show.
fn flags(peer: &PeerStats) -> String {
    let flags = [
        (peer.utp, 'T'),
        (peer.rate_down > 0, 'D'),
        (peer.rate_down == 0 && peer.am_interested && !peer.peer_choking, 'd'),
        (peer.rate_up > 0, 'U'),
        (peer.rate_up == 0 && peer.peer_interested && !peer.am_choking, 'u'),
        (!peer.peer_choking && !peer.am_interested, 'K'),
        (!peer.am_choking && !peer.peer_interested, '?'),
        (peer.encryption.is_some(), 'E'),
        (peer.inbound, 'I'),
    ];
    flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, letter)| letter).collect()
}

/// Who told of the peers is not known, but for those that came by themselves: the others count as the trackers'.
pub fn peers_from(stats: Option<&TorrentStats>) -> Value {
    let incoming = count_peers(stats, |peer| peer.inbound);
    json!({
        "from_cache": 0, "from_dht": 0, "from_incoming": incoming, "from_lpd": 0, "from_ltep": 0, "from_pex": 0,
        "from_tracker": count_peers(stats, |peer| !peer.inbound),
    })
}

pub fn web_seeds_shown(row: &Row, stats: Option<&TorrentStats>) -> Value {
    let known = stats.map(|stats| &stats.web_seeds[..]).unwrap_or_default();
    let shown = row.web_seeds.iter().map(|url| {
        let rate = known.iter().find(|seed| seed.url == *url).map_or(0, |seed| seed.rate_down);
        json!({"url": url, "is_downloading": rate > 0, "download_bytes_per_second": rate})
    });
    shown.collect()
}

pub fn web_seeds_active(stats: Option<&TorrentStats>) -> usize {
    stats.map_or(0, |stats| {
        stats.web_seeds.iter().filter(|seed| seed.status == WebSeedStatus::Fetching).count()
    })
}

//! What a torrent consists of: files, peers, trackers, web seeds.

use super::error::{self, ApiError, ErrorBody};
use super::torrents::{PathOf, Result, find};
use super::{App, AppState};
use crate::table::Row;
use crate::torrents::{Edit, Refusal, TrackerEdit};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use swarm_engine::{FileIndex, TorrentStats};
use utoipa::ToSchema;

/// The torrent as it stands in the session; `None` if it is not there.
async fn stats(row: &Row) -> Option<TorrentStats> {
    row.handle.as_ref()?.stats().await.ok()
}

/// A file of a torrent.
#[derive(Debug, Serialize, ToSchema)]
pub struct FileShown {
    /// Its index, counted from 0 in the order of the metainfo, pad files included.
    index: u32,
    /// Its path in the torrent, with `/`.
    path: String,
    /// Its length in bytes.
    length: u64,
    /// 0: not wanted, 4: wanted, 7: wanted first.
    priority: u8,
    /// Where it is once it is complete; null as long as that is not known.
    #[schema(value_type = Option<String>)]
    disk_path: Option<PathBuf>,
    /// Bytes of it in verified pieces; null while the torrent does not run.
    bytes_verified: Option<u64>,
}

/// Lists a torrent's files
#[utoipa::path(get, path = "/api/v1/torrents/{torrent}/files", params(("torrent" = String, Path)),
    responses((status = 200, body = Vec<FileShown>), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub async fn files(State(app): AppState, path: PathOf) -> Result<Json<Vec<FileShown>>> {
    let row = find(&app, path)?;
    let metainfo = row.metainfo.as_ref().ok_or(Refusal::NoMetadata)?;
    let verified = match &row.handle {
        Some(handle) => handle.file_progress().await.ok().flatten(),
        None => None,
    };
    let priority = |at: usize| row.priorities.as_deref().and_then(|each| each.get(at).copied()).unwrap_or(4);
    let files = metainfo.info.files.iter().enumerate().filter(|(_, file)| !file.attr.pad);
    let shown = files.map(|(at, file)| FileShown {
        index: at as u32,
        path: row.file_path(FileIndex(at as u32)).unwrap_or_default().join("/"),
        length: file.length,
        priority: priority(at),
        disk_path: row.handle.as_ref().and_then(|handle| handle.file_path(FileIndex(at as u32))),
        bytes_verified: verified.as_ref().and_then(|each| each.get(at).copied()),
    });
    Ok(Json(shown.collect()))
}

/// Other priorities of files.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesBody {
    /// By the index of a file: 0 for not wanted, 4 for wanted, 7 for wanted first, and what lies between.
    priorities: BTreeMap<u32, u8>,
}

/// Changes which files are wanted, and how much
#[utoipa::path(patch, path = "/api/v1/torrents/{torrent}/files", params(("torrent" = String, Path)), request_body = FilesBody,
    responses((status = 204), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub async fn set_files(
    State(app): AppState,
    path: PathOf,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode> {
    let FilesBody { priorities } = error::json(&headers, body).await?;
    let id = find(&app, path)?.summary.id;
    app.manager.edit(vec![id], Edit { priorities, ..Edit::default() }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A connected peer.
#[derive(Debug, Serialize, ToSchema)]
pub struct PeerShown {
    /// The far end of the connection.
    #[schema(value_type = String)]
    address: SocketAddr,
    /// Its software.
    client: String,
    /// Whether it dialled us.
    inbound: bool,
    /// `tcp` or `utp`.
    transport: &'static str,
    /// Whether the stream is encrypted.
    encrypted: bool,
    /// Pieces that it has.
    pieces_have: u32,
    /// Received from it.
    bytes_down: u64,
    /// Sent to it.
    bytes_up: u64,
    /// Received per second, now.
    rate_down: u64,
    /// Sent per second, now.
    rate_up: u64,
    /// We choke it.
    am_choking: bool,
    /// We want something of it.
    am_interested: bool,
    /// It chokes us.
    peer_choking: bool,
    /// It wants something of us.
    peer_interested: bool,
    /// It lets our requests lie.
    snubbed: bool,
}

/// Lists a torrent's connected peers
#[utoipa::path(get, path = "/api/v1/torrents/{torrent}/peers", params(("torrent" = String, Path)),
    responses((status = 200, body = Vec<PeerShown>), (status = 404, body = ErrorBody)))]
pub async fn peers(State(app): AppState, path: PathOf) -> Result<Json<Vec<PeerShown>>> {
    let row = find(&app, path)?;
    let peers = stats(&row).await.map(|stats| stats.peer_list).unwrap_or_default();
    let shown = peers.into_iter().map(|peer| PeerShown {
        address: peer.addr,
        client: peer.client,
        inbound: peer.inbound,
        transport: if peer.utp { "utp" } else { "tcp" },
        encrypted: peer.encryption.is_some(),
        pieces_have: peer.pieces_have,
        bytes_down: peer.bytes_down,
        bytes_up: peer.bytes_up,
        rate_down: peer.rate_down,
        rate_up: peer.rate_up,
        am_choking: peer.am_choking,
        am_interested: peer.am_interested,
        peer_choking: peer.peer_choking,
        peer_interested: peer.peer_interested,
        snubbed: peer.snubbed,
    });
    Ok(Json(shown.collect()))
}

/// Peers to connect to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PeersBody {
    /// As ADDR:PORT.
    peers: Vec<String>,
}

/// Adds peers to connect to
#[utoipa::path(post, path = "/api/v1/torrents/{torrent}/peers", params(("torrent" = String, Path)), request_body = PeersBody,
    responses((status = 204), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn add_peers(
    State(app): AppState,
    path: PathOf,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode> {
    let PeersBody { peers } = error::json(&headers, body).await?;
    let parse = |peer: &String| {
        peer.parse()
            .map_err(|_| ApiError::invalid(format!("{peer}: is no peer; write it as in 192.0.2.7:6881")))
    };
    let peers = peers.iter().map(parse).collect::<Result<Vec<SocketAddr>>>()?;
    let id = find(&app, path)?.summary.id;
    app.manager.edit(vec![id], Edit { peers, ..Edit::default() }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A tracker, as one address family knows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct TrackerShown {
    /// Its URL.
    url: String,
    /// Its tier, counted from 0; null if the configuration names it.
    tier: Option<usize>,
    /// `IPv4` or `IPv6`; null while the torrent does not run.
    family: Option<String>,
    /// How it stands, for people.
    status: Option<String>,
    /// Peers that it named last time.
    peers: Option<usize>,
    /// Seeds in the swarm, if it said so.
    seeds: Option<u32>,
    /// Leechers in the swarm, if it said so.
    leechers: Option<u32>,
    /// In how many seconds it is announced to again.
    next_announce: Option<f64>,
}

/// Lists a torrent's trackers
#[utoipa::path(get, path = "/api/v1/torrents/{torrent}/trackers", params(("torrent" = String, Path)),
    responses((status = 200, body = Vec<TrackerShown>), (status = 404, body = ErrorBody)))]
pub async fn trackers(State(app): AppState, path: PathOf) -> Result<Json<Vec<TrackerShown>>> {
    let row = find(&app, path)?;
    let known = stats(&row).await.map(|stats| stats.trackers).unwrap_or_default();
    if !known.is_empty() {
        let shown = known.into_iter().map(|tracker| TrackerShown {
            tier: row.tiers.iter().position(|urls| urls.contains(&tracker.url)),
            url: tracker.url,
            family: Some(tracker.family.to_string()),
            status: Some(tracker.status.to_string()),
            peers: Some(tracker.peers),
            seeds: tracker.seeds,
            leechers: tracker.leechers,
            next_announce: tracker.next_announce.map(|wait| wait.as_secs_f64()),
        });
        return Ok(Json(shown.collect()));
    }
    let all = row.tiers.iter().enumerate().flat_map(|(tier, urls)| urls.iter().map(move |url| (tier, url)));
    let shown = all.map(|(tier, url)| TrackerShown {
        url: url.clone(),
        tier: Some(tier),
        family: None,
        status: None,
        peers: None,
        seeds: None,
        leechers: None,
        next_announce: None,
    });
    Ok(Json(shown.collect()))
}

/// Changes of a torrent's trackers, carried out in this order.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrackersBody {
    /// All of them, in tiers, in the place of those that there are.
    tiers: Option<Vec<Vec<String>>>,
    /// Some to remove.
    remove: Vec<String>,
    /// Others in the place of some: by the old URL the new one.
    replace: BTreeMap<String, String>,
    /// More of them.
    add: Vec<TrackerToAdd>,
}

/// A tracker to add.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrackerToAdd {
    /// Its URL.
    url: String,
    /// Its tier, counted from 0; one of its own after all others, if there is none or no such tier.
    tier: Option<usize>,
}

/// Changes a torrent's trackers: all of it, or nothing. Those of the configuration are not concerned
#[utoipa::path(patch, path = "/api/v1/torrents/{torrent}/trackers", params(("torrent" = String, Path)), request_body = TrackersBody,
    responses((status = 204), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn edit_trackers(
    State(app): AppState,
    path: PathOf,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode> {
    let TrackersBody { tiers, remove, replace, add } = error::json(&headers, body).await?;
    let removed = remove.into_iter().map(|url| TrackerEdit::Remove { url });
    let replaced = replace.into_iter().map(|(url, with)| TrackerEdit::Replace { url, with });
    let tier_of = |tier: Option<usize>| tier.unwrap_or(usize::MAX);
    let added =
        add.into_iter().map(|TrackerToAdd { url, tier }| TrackerEdit::Add { url, tier: tier_of(tier) });
    let tracker_edits = removed.chain(replaced).chain(added).collect();
    let id = find(&app, path)?.summary.id;
    app.manager.edit(vec![id], Edit { tiers, tracker_edits, ..Edit::default() }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes web seeds, also those of the metainfo
#[utoipa::path(delete, path = "/api/v1/torrents/{torrent}/web-seeds", params(("torrent" = String, Path)), request_body = UrlsBody,
    responses((status = 204), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn remove_web_seeds(
    State(app): AppState,
    path: PathOf,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode> {
    edit_urls(&app, path, &headers, body, |urls| Edit { web_seeds_removed: urls, ..Edit::default() }).await
}

/// Addresses of trackers or web seeds.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UrlsBody {
    /// URLs.
    urls: Vec<String>,
}

/// Has these addresses change a torrent.
async fn edit_urls(
    app: &App,
    path: PathOf,
    headers: &HeaderMap,
    body: Body,
    edit: impl FnOnce(Vec<String>) -> Edit,
) -> Result<StatusCode> {
    let UrlsBody { urls } = error::json(headers, body).await?;
    let id = find(app, path)?.summary.id;
    app.manager.edit(vec![id], edit(urls)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Adds trackers, a tier each. They may lead where those of a metainfo file may
#[utoipa::path(post, path = "/api/v1/torrents/{torrent}/trackers", params(("torrent" = String, Path)), request_body = UrlsBody,
    responses((status = 204), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn add_trackers(
    State(app): AppState,
    path: PathOf,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode> {
    edit_urls(&app, path, &headers, body, |urls| Edit { trackers: urls, ..Edit::default() }).await
}

/// A web seed.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebSeedShown {
    /// Its URL.
    url: String,
    /// How it stands, for people; null while the torrent does not run.
    status: Option<String>,
    /// Received from it.
    bytes_down: u64,
    /// Received per second, now.
    rate_down: u64,
}

/// Lists a torrent's web seeds
#[utoipa::path(get, path = "/api/v1/torrents/{torrent}/web-seeds", params(("torrent" = String, Path)),
    responses((status = 200, body = Vec<WebSeedShown>), (status = 404, body = ErrorBody)))]
pub async fn web_seeds(State(app): AppState, path: PathOf) -> Result<Json<Vec<WebSeedShown>>> {
    let row = find(&app, path)?;
    let known = stats(&row).await.map(|stats| stats.web_seeds).unwrap_or_default();
    if !known.is_empty() {
        let shown = known.into_iter().map(|seed| WebSeedShown {
            url: seed.url,
            status: Some(seed.status.to_string()),
            bytes_down: seed.bytes_down,
            rate_down: seed.rate_down,
        });
        return Ok(Json(shown.collect()));
    }
    let shown = row.web_seeds.iter().map(|url| WebSeedShown {
        url: url.clone(),
        status: None,
        bytes_down: 0,
        rate_down: 0,
    });
    Ok(Json(shown.collect()))
}

/// Adds web seeds. They may lead where those of a metainfo file may
#[utoipa::path(post, path = "/api/v1/torrents/{torrent}/web-seeds", params(("torrent" = String, Path)), request_body = UrlsBody,
    responses((status = 204), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn add_web_seeds(
    State(app): AppState,
    path: PathOf,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode> {
    edit_urls(&app, path, &headers, body, |urls| Edit { web_seeds: urls, ..Edit::default() }).await
}

//! What a torrent consists of.

use super::info::{eta, text, times};
use super::{Answer, Ask, Fault, attachment, one, state};
use crate::table::Row;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use swarm_engine::{
    FileIndex, PeerStats, PieceStatus, SessionFacts, TorrentStats, TrackerStats, TrackerStatus,
};

/// Whether a request is about these.
pub fn has(name: &str) -> bool {
    matches!(
        name,
        "properties" | "trackers" | "webseeds" | "files" | "pieceStates" | "pieceHashes" | "export"
    )
}

/// Answers a request.
pub async fn answer(name: &str, ask: &Ask) -> Result<Answer, Fault> {
    let row = one(ask)?;
    match name {
        "properties" => properties(&row).await,
        "trackers" => trackers(&row, &ask.app.session.facts()).await,
        "webseeds" => {
            let urls: Vec<_> = row.web_seeds.iter().map(|url| json!({"url": url})).collect();
            Answer::json(&urls)
        }
        "files" => files(ask, &row).await,
        "pieceStates" => piece_states(&row).await,
        "pieceHashes" => piece_hashes(&row),
        _ => {
            let no_metadata = || Fault::conflict("its metadata is not here yet");
            let metainfo = row.metainfo.as_ref().ok_or_else(no_metadata)?;
            Ok(attachment(metainfo.encode().into(), "application/x-bittorrent"))
        }
    }
}

async fn stats(row: &Row) -> Option<TorrentStats> {
    row.handle.as_ref()?.stats().await.ok()
}

/// The files that clients see, by number: the index in the metainfo, and the path as it is on disk.
pub fn files_of(row: &Row) -> Vec<(u32, String)> {
    let files = row.metainfo.iter().flat_map(|metainfo| metainfo.info.files.iter().zip(0u32..));
    let path = |index| row.file_path(FileIndex(index)).unwrap_or_default().join("/");
    files.filter(|(file, _)| !file.attr.pad).map(|(_, index)| (index, path(index))).collect()
}

async fn properties(row: &Row) -> Result<Answer, Fault> {
    let summary = &row.summary;
    let stats = stats(row).await;
    let metainfo = row.metainfo.as_deref();
    let now = crate::manager::now();
    let (active, seeding) = times(summary, now);
    let left = summary.bytes_total.saturating_sub(summary.bytes_verified);
    let average = |bytes: u64| bytes.checked_div(active).unwrap_or(0);
    let next = stats.iter().flat_map(|stats| &stats.trackers).filter_map(|tracker| tracker.next_announce);
    let swarm = |of: fn(&TrackerStats) -> Option<u32>| {
        stats.iter().flat_map(|stats| &stats.trackers).filter_map(of).max()
    };
    let leechers = summary.peers.saturating_sub(summary.seeds);
    let mut all = json!({
        "hash": summary.info_hash,
        "infohash_v1": summary.info_hash_v1.as_deref().unwrap_or_default(),
        "infohash_v2": summary.info_hash_v2.as_deref().unwrap_or_default(),
        "name": summary.name,
        "save_path": text(&summary.dir),
        "download_path": "",
        "addition_date": summary.added_at,
        "completion_date": summary.completed_at.unwrap_or(-1),
        "last_seen": -1,
        "time_elapsed": active,
        "seeding_time": seeding,
        "eta": eta(summary, left),
        "total_size": metainfo.map_or(summary.bytes_total, |metainfo| metainfo.info.payload_len()),
        "pieces_num": summary.pieces,
        "pieces_have": summary.pieces_have,
        "piece_size": metainfo.map_or(-1, |metainfo| i64::from(metainfo.info.geometry.piece_len())),
        "has_metadata": metainfo.is_some(),
        "private": metainfo.map(|metainfo| metainfo.info.private),
        "is_private": metainfo.map(|metainfo| metainfo.info.private),
        "comment": metainfo.and_then(|metainfo| metainfo.comment.clone()).unwrap_or_default(),
        "created_by": metainfo.and_then(|metainfo| metainfo.created_by.clone()).unwrap_or_default(),
        "creation_date": metainfo.and_then(|metainfo| metainfo.creation_date).unwrap_or(-1),
    });
    let more = json!({
        "total_downloaded": summary.bytes_down,
        "total_downloaded_session": summary.bytes_down,
        "total_uploaded": summary.bytes_up,
        "total_uploaded_session": summary.bytes_up,
        "total_wasted": 0,
        "dl_speed": summary.rate_down,
        "dl_speed_avg": average(summary.bytes_down),
        "dl_limit": summary.download_limit.map_or(-1, |limit| limit as i64),
        "up_speed": summary.rate_up,
        "up_speed_avg": average(summary.bytes_up),
        "up_limit": summary.upload_limit.map_or(-1, |limit| limit as i64),
        "share_ratio": summary.ratio,
        "popularity": 0,
        "nb_connections": summary.peers,
        "nb_connections_limit": -1,
        "peers": leechers,
        "peers_total": swarm(|tracker| tracker.leechers).unwrap_or(leechers as u32),
        "seeds": summary.seeds,
        "seeds_total": swarm(|tracker| tracker.seeds).unwrap_or(summary.seeds as u32),
        "reannounce": next.min().map_or(0, |wait| wait.as_secs()),
    });
    if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
        all.extend(more);
    }
    Answer::json(&all)
}

async fn trackers(row: &Row, facts: &SessionFacts) -> Result<Answer, Fault> {
    let stats = stats(row).await;
    let is_private = row.metainfo.as_ref().is_some_and(|metainfo| metainfo.info.private);
    let mut shown = own_sources(is_private, facts);
    let known = stats.map(|stats| stats.trackers).unwrap_or_default();
    for (tier, urls) in row.tiers.iter().enumerate() {
        for url in urls {
            let of_url: Vec<&TrackerStats> = known.iter().filter(|tracker| tracker.url == *url).collect();
            shown.push(tracker(url, tier, &of_url));
        }
    }
    Answer::json(&shown)
}

/// Ways to peers that clients show among the trackers. 0: disabled, 2: working.
pub fn own_sources(is_private: bool, facts: &SessionFacts) -> Vec<Value> {
    let message = if is_private { "This torrent is private" } else { "" };
    let own = [("** [DHT] **", facts.dht), ("** [PeX] **", facts.pex), ("** [LSD] **", facts.lsd)];
    let shown = own.into_iter().map(|(url, is_on)| {
        json!({"url": url, "tier": -1, "status": if is_on && !is_private { 2 } else { 0 }, "msg": message,
            "num_peers": 0, "num_seeds": 0, "num_leeches": 0, "num_downloaded": 0})
    });
    shown.collect()
}

/// A tracker, of what each address family knows of it: the best of them counts.
fn tracker(url: &str, tier: usize, families: &[&TrackerStats]) -> Value {
    let best = families.iter().max_by_key(|tracker| rank(&tracker.status));
    let message = best.map(|tracker| match &tracker.status {
        status @ (TrackerStatus::Unsupported(_) | TrackerStatus::NoAddress(_) | TrackerStatus::Failed(_)) => {
            status.to_string()
        }
        _ => String::new(),
    });
    let count = |of: fn(&TrackerStats) -> Option<u32>| {
        families.iter().filter_map(|tracker| of(tracker)).max().map_or(-1, i64::from)
    };
    json!({
        "url": url,
        "tier": tier,
        "status": best.map_or(1, |tracker| code(&tracker.status)),
        "msg": message.unwrap_or_default(),
        "num_peers": families.iter().map(|tracker| tracker.peers).max().unwrap_or(0),
        "num_seeds": count(|tracker| tracker.seeds),
        "num_leeches": count(|tracker| tracker.leechers),
        "num_downloaded": -1,
    })
}

fn rank(status: &TrackerStatus) -> u8 {
    match status {
        TrackerStatus::Working => 4,
        TrackerStatus::Announcing => 3,
        TrackerStatus::Failed(_) => 2,
        TrackerStatus::NotContacted => 1,
        _ => 0,
    }
}

/// 1: not contacted, 2: working, 3: being asked, 4: not working.
fn code(status: &TrackerStatus) -> u8 {
    match status {
        TrackerStatus::NotContacted => 1,
        TrackerStatus::Working => 2,
        TrackerStatus::Announcing => 3,
        _ => 4,
    }
}

async fn files(ask: &Ask, row: &Row) -> Result<Answer, Fault> {
    let Some(metainfo) = &row.metainfo else { return Answer::json(&[(); 0]) };
    let verified = match &row.handle {
        Some(handle) => handle.file_progress().await.ok().flatten(),
        None => None,
    };
    let is_complete = state::is_complete(&row.summary);
    let wanted: Option<Vec<usize>> =
        ask.form.some("indexes").map(|list| list.split('|').filter_map(|one| one.parse().ok()).collect());
    let piece_len = u64::from(metainfo.info.geometry.piece_len()).max(1);
    let mut shown = Vec::new();
    for (number, (index, path)) in files_of(row).into_iter().enumerate() {
        if wanted.as_ref().is_some_and(|wanted| !wanted.contains(&number)) {
            continue;
        }
        let Some(file) = metainfo.info.files.get(index as usize) else { continue };
        let have = match &verified {
            Some(each) => each.get(index as usize).copied().unwrap_or(0),
            None if is_complete => file.length,
            None => 0,
        };
        let priority =
            row.priorities.as_deref().and_then(|each| each.get(index as usize).copied()).unwrap_or(4);
        let last = file.offset + file.length.saturating_sub(1);
        let mut entry = json!({
            "index": number,
            "name": path,
            "size": file.length,
            "progress": if file.length == 0 { 1.0 } else { have as f64 / file.length as f64 },
            "priority": match priority { 0 => 0, 6 => 6, 7 => 7, _ => 1 },
            "piece_range": [file.offset / piece_len, last / piece_len],
            "availability": if is_complete || row.summary.seeds > 0 { 1.0 } else { 0.0 },
        });
        if number == 0 {
            entry["is_seed"] = is_complete.into();
        }
        shown.push(entry);
    }
    Answer::json(&shown)
}

async fn piece_states(row: &Row) -> Result<Answer, Fault> {
    let map = match &row.handle {
        Some(handle) => handle.pieces().await.ok().flatten(),
        None => None,
    };
    let states: Vec<u8> = match map {
        Some(map) => map
            .statuses
            .iter()
            .map(|status| match status {
                PieceStatus::Have => 2,
                PieceStatus::Partial => 1,
                _ => 0,
            })
            .collect(),
        None => {
            let state = if row.summary.pieces_have == row.summary.pieces { 2 } else { 0 };
            vec![state; row.summary.pieces as usize]
        }
    };
    Answer::json(&states)
}

fn piece_hashes(row: &Row) -> Result<Answer, Fault> {
    let hashes: Vec<String> = match &row.metainfo {
        Some(metainfo) => match &metainfo.info.piece_hashes {
            Some(hashes) => {
                metainfo.info.geometry.piece_indices().map(|piece| hex(&hashes.of(piece))).collect()
            }
            None => Vec::new(),
        },
        None => return Err(Fault::conflict("its metadata is not here yet")),
    };
    Answer::json(&hashes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `sync/torrentPeers`: all of them each time.
pub async fn torrent_peers(ask: &Ask) -> Result<Answer, Fault> {
    let row = one(ask)?;
    let rid = ask.form.whole("rid")?.unwrap_or(0).clamp(0, 1_000_000);
    let peers = stats(&row).await.map(|stats| stats.peer_list).unwrap_or_default();
    let shown: BTreeMap<String, Value> =
        peers.iter().map(|peer| (peer.addr.to_string(), shown_peer(peer, row.summary.pieces))).collect();
    Answer::json(&json!({"rid": rid + 1, "full_update": true, "show_flags": true, "peers": shown}))
}

fn shown_peer(peer: &PeerStats, pieces: u32) -> Value {
    let flags = flags(peer);
    let letters: Vec<&str> = flags.iter().map(|(letter, _)| *letter).collect();
    let meant: Vec<String> = flags.iter().map(|(letter, what)| format!("{letter} = {what}")).collect();
    json!({
        "ip": peer.addr.ip().to_canonical().to_string(),
        "port": peer.addr.port(),
        "client": peer.client,
        "peer_id_client": "",
        "progress": if pieces == 0 { 0.0 } else { f64::from(peer.pieces_have) / f64::from(pieces) },
        "dl_speed": peer.rate_down,
        "up_speed": peer.rate_up,
        "downloaded": peer.bytes_down,
        "uploaded": peer.bytes_up,
        "connection": if peer.utp { "μTP" } else { "BT" },
        "flags": letters.join(" "),
        "flags_desc": meant.join("\n"),
        "relevance": 0,
        "files": "",
        "country": "",
        "country_code": "",
    })
}

fn flags(peer: &PeerStats) -> Vec<(&'static str, &'static str)> {
    let mut flags = Vec::new();
    match (peer.am_interested, peer.peer_choking) {
        (true, false) => flags.push(("D", "interested (local) and unchoked (peer)")),
        (true, true) => flags.push(("d", "interested (local) and choked (peer)")),
        _ => {}
    }
    match (peer.peer_interested, peer.am_choking) {
        (true, false) => flags.push(("U", "interested (peer) and unchoked (local)")),
        (true, true) => flags.push(("u", "interested (peer) and choked (local)")),
        _ => {}
    }
    let others = [
        (peer.snubbed, ("S", "peer snubbed")),
        (peer.inbound, ("I", "incoming connection")),
        (peer.encryption.is_some(), ("E", "encrypted handshake")),
        (peer.utp, ("P", "μTP")),
    ];
    flags.extend(others.into_iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag));
    flags
}

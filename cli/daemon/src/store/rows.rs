//! Records as rows, and back.

use crate::torrents::goals::{Goal, GoalWord};
use crate::torrents::record::StoppedBy;
use crate::torrents::{Id, Moving, Options, Progress, Record, Totals};
use rusqlite::types::Type;
use rusqlite::{Connection, Row, named_params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use swarm_engine::{Data, FileIndex, InfoHash, InfoHashV2, InfoHashes, Layout};

const PUT: &str = "
INSERT INTO torrents (id, info_hash_v1, info_hash_v2, name, link, dir, added_at, completed_at, stopped_by, removing, paused, forced,
    seed, sequential, recheck, priorities, upload_limit, download_limit, ratio_limit, seed_time_limit, trackers, web_seeds, peers, tags,
    category, position, bytes_down, bytes_up, seconds_active, seconds_seeding, running_since, bytes_total, bytes_verified, pieces,
    pieces_have, shown_name, first_last, tiers, all_web_seeds, layout, moving_dir, moving_layout, stream_token,
    program_due, overwrite, waits_for_path)
VALUES (:id, :info_hash_v1, :info_hash_v2, :name, :link, :dir, :added_at, :completed_at, :stopped_by, :removing, :paused, :forced,
    :seed, :sequential, :recheck, :priorities, :upload_limit, :download_limit, :ratio_limit, :seed_time_limit, :trackers, :web_seeds,
    :peers, :tags, :category, :position, :bytes_down, :bytes_up, :seconds_active, :seconds_seeding, :running_since, :bytes_total,
    :bytes_verified, :pieces, :pieces_have, :shown_name, :first_last, :tiers, :all_web_seeds, :layout, :moving_dir, :moving_layout,
    :stream_token, :program_due, :overwrite, :waits_for_path)
ON CONFLICT (id) DO UPDATE SET info_hash_v1 = excluded.info_hash_v1, info_hash_v2 = excluded.info_hash_v2, name = excluded.name,
    link = excluded.link, dir = excluded.dir, completed_at = excluded.completed_at, stopped_by = excluded.stopped_by,
    removing = excluded.removing, paused = excluded.paused, forced = excluded.forced, seed = excluded.seed,
    sequential = excluded.sequential, recheck = excluded.recheck, priorities = excluded.priorities,
    upload_limit = excluded.upload_limit, download_limit = excluded.download_limit, ratio_limit = excluded.ratio_limit,
    seed_time_limit = excluded.seed_time_limit, trackers = excluded.trackers, web_seeds = excluded.web_seeds, peers = excluded.peers,
    tags = excluded.tags, category = excluded.category, position = excluded.position, bytes_down = excluded.bytes_down,
    bytes_up = excluded.bytes_up, seconds_active = excluded.seconds_active, seconds_seeding = excluded.seconds_seeding,
    running_since = excluded.running_since, bytes_total = excluded.bytes_total, bytes_verified = excluded.bytes_verified,
    pieces = excluded.pieces, pieces_have = excluded.pieces_have, shown_name = excluded.shown_name,
    first_last = excluded.first_last, tiers = excluded.tiers, all_web_seeds = excluded.all_web_seeds, layout = excluded.layout,
    moving_dir = excluded.moving_dir, moving_layout = excluded.moving_layout, stream_token = excluded.stream_token,
    program_due = excluded.program_due, overwrite = excluded.overwrite, waits_for_path = excluded.waits_for_path";

/// Below zero in a column of goals: none.
const NO_GOAL: i64 = -1;

/// Writes records, new ones and changed ones.
pub fn put(connection: &Connection, records: &[Record]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(PUT)?;
    for record in records {
        let Record { id, hashes, name, link, dir, options, totals, progress, .. } = record;
        statement.execute(named_params! {
            ":id": id.0,
            ":info_hash_v1": hashes.v1.map(|hash| hash.0),
            ":info_hash_v2": hashes.v2.map(|hash| hash.0),
            ":name": name,
            ":link": link,
            ":dir": bytes_of(dir),
            ":added_at": record.added_at,
            ":completed_at": record.completed_at,
            ":stopped_by": record.stopped_by.map(stopped_by_name),
            ":removing": record.removing.map(data_name),
            ":paused": options.paused,
            ":forced": options.forced,
            ":seed": options.seed,
            ":sequential": options.sequential,
            ":recheck": options.recheck,
            ":priorities": options.priorities,
            ":upload_limit": options.upload_limit.map(whole),
            ":download_limit": options.download_limit.map(whole),
            ":ratio_limit": stored(options.ratio_limit, NO_GOAL as f64),
            ":seed_time_limit": stored(options.seed_time_limit, u64::MAX).map(|seconds| seconds as i64),
            ":trackers": json(&options.trackers),
            ":web_seeds": json(&options.web_seeds),
            ":peers": json(&options.peers),
            ":tags": json(&options.tags),
            ":category": options.category,
            ":position": options.position,
            ":bytes_down": whole(totals.bytes_down),
            ":bytes_up": whole(totals.bytes_up),
            ":seconds_active": whole(totals.seconds_active),
            ":seconds_seeding": whole(totals.seconds_seeding),
            ":running_since": record.running_since,
            ":bytes_total": whole(progress.bytes_total),
            ":bytes_verified": whole(progress.bytes_verified),
            ":pieces": progress.pieces,
            ":pieces_have": progress.pieces_have,
            ":shown_name": options.name,
            ":first_last": options.first_last,
            ":tiers": options.tiers.as_ref().map(json),
            ":all_web_seeds": options.all_web_seeds.as_ref().map(json),
            ":layout": layout_json(&record.layout),
            ":moving_dir": record.moving.as_ref().map(|moving| bytes_of(&moving.dir)),
            ":moving_layout": record.moving.as_ref().and_then(|moving| layout_json(&moving.layout)),
            ":stream_token": record.stream_token,
            ":program_due": record.program_due,
            ":overwrite": options.overwrite,
            ":waits_for_path": record.waits_for_path,
        })?;
    }
    Ok(())
}

/// Reads all records, by number.
pub fn load(connection: &Connection) -> rusqlite::Result<Vec<Record>> {
    let mut statement = connection.prepare("SELECT * FROM torrents ORDER BY id")?;
    let rows = statement.query_map([], record)?;
    rows.collect()
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let hashes = InfoHashes {
        v1: row.get::<_, Option<[u8; 20]>>("info_hash_v1")?.map(InfoHash),
        v2: row.get::<_, Option<[u8; 32]>>("info_hash_v2")?.map(InfoHashV2),
    };
    let options = Options {
        paused: row.get("paused")?,
        forced: row.get("forced")?,
        seed: row.get("seed")?,
        sequential: row.get("sequential")?,
        recheck: row.get("recheck")?,
        overwrite: row.get("overwrite")?,
        priorities: row.get("priorities")?,
        upload_limit: row.get::<_, Option<i64>>("upload_limit")?.map(i64::unsigned_abs),
        download_limit: row.get::<_, Option<i64>>("download_limit")?.map(i64::unsigned_abs),
        ratio_limit: goal(row.get::<_, Option<f64>>("ratio_limit")?, |ratio| ratio < 0.0),
        seed_time_limit: match goal(row.get::<_, Option<i64>>("seed_time_limit")?, |seconds| seconds < 0) {
            Goal::Value(seconds) => Goal::Value(seconds as u64),
            Goal::Word(word) => Goal::Word(word),
            Goal::Default => Goal::Default,
        },
        trackers: from_json(row, "trackers")?,
        web_seeds: from_json(row, "web_seeds")?,
        peers: from_json(row, "peers")?,
        tags: from_json(row, "tags")?,
        category: row.get("category")?,
        position: row.get("position")?,
        name: row.get("shown_name")?,
        first_last: row.get("first_last")?,
        tiers: maybe_json(row, "tiers")?,
        all_web_seeds: maybe_json(row, "all_web_seeds")?,
    };
    Ok(Record {
        id: Id(row.get("id")?),
        hashes,
        name: row.get("name")?,
        link: row.get("link")?,
        dir: path_of(row.get("dir")?),
        options,
        totals: Totals {
            bytes_down: natural(row, "bytes_down")?,
            bytes_up: natural(row, "bytes_up")?,
            seconds_active: natural(row, "seconds_active")?,
            seconds_seeding: natural(row, "seconds_seeding")?,
        },
        progress: Progress {
            bytes_total: natural(row, "bytes_total")?,
            bytes_verified: natural(row, "bytes_verified")?,
            pieces: row.get("pieces")?,
            pieces_have: row.get("pieces_have")?,
        },
        added_at: row.get("added_at")?,
        completed_at: row.get("completed_at")?,
        running_since: row.get("running_since")?,
        stopped_by: word(row, "stopped_by", |text| match text {
            "ratio" => Some(StoppedBy::Ratio),
            "seed_time" => Some(StoppedBy::SeedTime),
            _ => None,
        })?,
        removing: word(row, "removing", |text| match text {
            "keep" => Some(Data::Keep),
            "delete" => Some(Data::Delete),
            _ => None,
        })?,
        layout: layout(row, "layout")?,
        moving: match row.get::<_, Option<Vec<u8>>>("moving_dir")? {
            Some(dir) => Some(Moving { dir: path_of(dir), layout: layout(row, "moving_layout")? }),
            None => None,
        },
        stream_token: row.get("stream_token")?,
        program_due: row.get("program_due")?,
        waits_for_path: row.get("waits_for_path")?,
    })
}

fn stopped_by_name(stopped_by: StoppedBy) -> &'static str {
    match stopped_by {
        StoppedBy::Ratio => "ratio",
        StoppedBy::SeedTime => "seed_time",
    }
}

fn data_name(data: Data) -> &'static str {
    match data {
        Data::Keep => "keep",
        Data::Delete => "delete",
    }
}

/// A column that holds one of some words, or nothing.
fn word<T>(row: &Row<'_>, column: &str, read: impl Fn(&str) -> Option<T>) -> rusqlite::Result<Option<T>> {
    let Some(text) = row.get::<_, Option<String>>(column)? else { return Ok(None) };
    let wrong = || unreadable(format!("{column}: {text:?} is none of its words"));
    read(&text).map(Some).ok_or_else(wrong)
}

fn unreadable(what: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, what.into())
}

fn json(list: &impl Serialize) -> String {
    serde_json::to_string(list).expect("lists of texts become JSON")
}

fn from_json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text = row.get::<_, String>(column)?;
    serde_json::from_str(&text).map_err(|error| unreadable(format!("{column}: {error}")))
}

fn maybe_json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>> {
    match row.get::<_, Option<String>>(column)? {
        Some(_) => from_json(row, column).map(Some),
        None => Ok(None),
    }
}

/// Other names of a torrent's files, as they are stored.
#[derive(Serialize, Deserialize)]
struct StoredLayout {
    root: Option<String>,
    files: BTreeMap<u32, Vec<String>>,
}

fn layout_json(layout: &Layout) -> Option<String> {
    let files = layout.files().iter().map(|(file, path)| (file.0, path.clone())).collect();
    let stored = StoredLayout { root: layout.root().map(str::to_owned), files };
    (!layout.is_empty()).then(|| json(&stored))
}

fn layout(row: &Row<'_>, column: &str) -> rusqlite::Result<Layout> {
    let stored: Option<StoredLayout> = maybe_json(row, column)?;
    Ok(stored.map_or_else(Layout::default, |StoredLayout { root, files }| {
        Layout::new(root, files.into_iter().map(|(file, path)| (FileIndex(file), path)).collect())
    }))
}

/// A column that holds a number from 0 up.
fn natural(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| unreadable(format!("{column}: {number} is below zero")))
}

/// SQLite's whole numbers go to 2^63 - 1.
pub fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn stored<T: Copy>(goal: Goal<T>, none: T) -> Option<T> {
    match goal {
        Goal::Value(value) => Some(value),
        Goal::Word(GoalWord::None) => Some(none),
        Goal::Word(GoalWord::Default) | Goal::Default => None,
    }
}

fn goal<T: Copy>(stored: Option<T>, is_none: impl Fn(T) -> bool) -> Goal<T> {
    match stored {
        None => Goal::Default,
        Some(value) if is_none(value) => Goal::Word(GoalWord::None),
        Some(value) => Goal::Value(value),
    }
}

#[cfg(unix)]
pub fn bytes_of(path: &Path) -> Vec<u8> {
    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).to_vec()
}

#[cfg(unix)]
pub fn path_of(bytes: Vec<u8>) -> PathBuf {
    <OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes).into()
}

#[cfg(not(unix))]
pub fn bytes_of(path: &Path) -> Vec<u8> {
    path.to_string_lossy().into_owned().into_bytes()
}

#[cfg(not(unix))]
pub fn path_of(bytes: Vec<u8>) -> PathBuf {
    OsString::from(String::from_utf8_lossy(&bytes).into_owned()).into()
}

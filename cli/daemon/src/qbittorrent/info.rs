//! A torrent in lists.

use super::{Answer, Ask, Fault, named, rows, state};
use crate::api::App;
use crate::table::{Row, State, Summary};
use crate::torrents::goals::{GoalWord, Goals};
use crate::torrents::{Goal, Id};
use serde::Serialize;
use serde_json::Value;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::Path;

/// What stands for "never" in times to go.
const NEVER: u64 = 8_640_000;

/// What an entry takes beside its torrent.
pub struct Context {
    /// Seconds since 1970.
    pub now: i64,
    /// Goals of torrents without their own.
    pub goals: Goals,
    /// Places in the queue, from 1, if there is one.
    pub places: BTreeMap<Id, u32>,
}

impl Context {
    /// That of now, for all torrents.
    pub fn of(app: &App, rows: &[Row]) -> Context {
        let rules = app.rules.borrow().clone();
        let has_queue = rules.turns.downloads.is_some() || rules.turns.seeds.is_some();
        let places = if has_queue { places(rows) } else { BTreeMap::new() };
        Context { now: crate::manager::now(), goals: rules.goals, places }
    }
}

/// Each torrent's place in the queue.
fn places(rows: &[Row]) -> BTreeMap<Id, u32> {
    let mut order: Vec<(i64, Id)> = rows.iter().map(|row| (row.summary.position, row.summary.id)).collect();
    order.sort_unstable();
    order.iter().zip(1..).map(|((_, id), place)| (*id, place)).collect()
}

/// An entry.
#[derive(Debug, Serialize)]
pub struct Info<'a> {
    /// Left out where it is the key of the entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<&'a str>,
    added_on: i64,
    amount_left: u64,
    auto_tmm: bool,
    availability: f64,
    category: &'a str,
    comment: &'a str,
    completed: u64,
    completion_on: i64,
    content_path: String,
    dl_limit: u64,
    dlspeed: u64,
    download_path: &'static str,
    downloaded: u64,
    downloaded_session: u64,
    eta: u64,
    f_l_piece_prio: bool,
    force_start: bool,
    has_metadata: bool,
    infohash_v1: &'a str,
    infohash_v2: &'a str,
    last_activity: i64,
    magnet_uri: String,
    max_ratio: f64,
    max_seeding_time: i64,
    name: &'a str,
    num_complete: usize,
    num_incomplete: usize,
    num_leechs: usize,
    num_seeds: usize,
    popularity: f64,
    priority: u32,
    private: Option<bool>,
    progress: f64,
    ratio: f64,
    ratio_limit: f64,
    reannounce: i64,
    root_path: String,
    save_path: String,
    seeding_time: u64,
    seeding_time_limit: i64,
    seen_complete: i64,
    seq_dl: bool,
    size: u64,
    state: &'static str,
    super_seeding: bool,
    tags: String,
    time_active: u64,
    total_size: u64,
    tracker: &'a str,
    trackers_count: usize,
    up_limit: u64,
    uploaded: u64,
    uploaded_session: u64,
    upspeed: u64,
}

/// A torrent's entry.
pub fn entry<'a>(row: &'a Row, context: &Context) -> Info<'a> {
    let summary: &Summary = &row.summary;
    let is_complete = state::is_complete(summary);
    let left = summary.bytes_total.saturating_sub(summary.bytes_verified);
    let metainfo = row.metainfo.as_deref();
    let (active, seeding) = times(summary, context.now);
    let (ratio_limit, max_ratio) = ratio_limits(summary, context.goals.ratio);
    let (seeding_time_limit, max_seeding_time) = time_limits(summary, context.goals.seed_time);
    let leechers = summary.peers.saturating_sub(summary.seeds);
    let is_folder = metainfo.is_some_and(|metainfo| !metainfo.info.single_file);
    let path = summary.path.as_deref().map(text).unwrap_or_default();
    Info {
        hash: summary.info_hash.as_deref(),
        added_on: summary.added_at,
        amount_left: left,
        auto_tmm: false,
        availability: if is_complete || summary.seeds > 0 { 1.0 } else { -1.0 },
        category: summary.category.as_deref().unwrap_or_default(),
        comment: metainfo.and_then(|metainfo| metainfo.comment.as_deref()).unwrap_or_default(),
        completed: summary.bytes_verified,
        completion_on: summary.completed_at.unwrap_or(-1),
        content_path: if path.is_empty() { text(&summary.dir) } else { path.clone() },
        dl_limit: summary.download_limit.unwrap_or(0),
        dlspeed: summary.rate_down,
        download_path: "",
        downloaded: summary.bytes_down,
        downloaded_session: summary.bytes_down,
        eta: eta(summary, left),
        f_l_piece_prio: summary.first_last,
        force_start: summary.forced,
        has_metadata: metainfo.is_some(),
        infohash_v1: summary.info_hash_v1.as_deref().unwrap_or_default(),
        infohash_v2: summary.info_hash_v2.as_deref().unwrap_or_default(),
        last_activity: summary.active_at.or(summary.completed_at).unwrap_or(summary.added_at),
        magnet_uri: metainfo
            .map(|metainfo| metainfo.magnet().to_string())
            .or_else(|| row.link.clone())
            .unwrap_or_default(),
        max_ratio,
        max_seeding_time,
        name: &summary.name,
        num_complete: summary.seeds,
        num_incomplete: leechers,
        num_leechs: leechers,
        num_seeds: summary.seeds,
        popularity: popularity(summary, context.now),
        priority: context.places.get(&summary.id).copied().unwrap_or(0),
        private: metainfo.map(|metainfo| metainfo.info.private),
        progress: progress(summary),
        ratio: summary.ratio,
        ratio_limit,
        reannounce: 0,
        root_path: if is_folder { path } else { String::new() },
        save_path: text(&summary.dir),
        seeding_time: seeding,
        seeding_time_limit,
        seen_complete: -1,
        seq_dl: summary.sequential,
        size: summary.bytes_total,
        state: state::of(summary),
        super_seeding: false,
        tags: summary.tags.join(", "),
        time_active: active,
        total_size: metainfo.map_or(summary.bytes_total, |metainfo| metainfo.info.payload_len()),
        tracker: row.tiers.iter().flatten().next().map(String::as_str).unwrap_or_default(),
        trackers_count: row.tiers.iter().map(Vec::len).sum(),
        up_limit: summary.upload_limit.unwrap_or(0),
        uploaded: summary.bytes_up,
        uploaded_session: summary.bytes_up,
        upspeed: summary.rate_up,
    }
}

impl Info<'_> {
    /// As it stands below its hash.
    pub fn without_hash(self) -> Self {
        Info { hash: None, ..self }
    }
}

/// A path as text.
pub fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// How much of what is wanted is there, from 0 to 1.
pub fn progress(summary: &Summary) -> f64 {
    match summary.state {
        State::Checking => match (summary.pieces_checked, summary.pieces_to_check) {
            (Some(checked), Some(all)) if all > 0 => f64::from(checked) / f64::from(all),
            _ => 0.0,
        },
        _ if summary.bytes_total == 0 => 0.0,
        _ => summary.bytes_verified as f64 / summary.bytes_total as f64,
    }
}

/// How long it has run, and seeded, up to now, in seconds.
pub fn times(summary: &Summary, now: i64) -> (u64, u64) {
    let more = summary.running_since.map_or(0, |since| u64::try_from(now - since).unwrap_or(0));
    let seeding = if state::is_complete(summary) { more } else { 0 };
    (summary.seconds_active + more, summary.seconds_seeding + seeding)
}

/// How long it takes to be complete, in seconds.
pub fn eta(summary: &Summary, left: u64) -> u64 {
    match summary.state {
        State::Downloading if summary.rate_down > 0 => (left / summary.rate_down).min(NEVER),
        _ => NEVER,
    }
}

fn popularity(summary: &Summary, now: i64) -> f64 {
    let months = times(summary, now).0 as f64 / (30.0 * 86_400.0);
    if months > 0.0 { summary.ratio / months } else { 0.0 }
}

/// A ratio of its own (-2: what holds for all, -1: none), and the one that holds (-1: none).
fn ratio_limits(summary: &Summary, all: Option<f64>) -> (f64, f64) {
    match summary.ratio_limit {
        Some(Goal::Value(ratio)) => (ratio, ratio),
        Some(Goal::Word(GoalWord::None)) => (-1.0, -1.0),
        _ => (-2.0, all.unwrap_or(-1.0)),
    }
}

/// The same of the time of seeding, in minutes.
fn time_limits(summary: &Summary, all: Option<u64>) -> (i64, i64) {
    let minutes = |seconds: u64| i64::try_from(seconds / 60).unwrap_or(i64::MAX);
    match summary.seed_time_limit {
        Some(Goal::Value(seconds)) => (minutes(seconds), minutes(seconds)),
        Some(Goal::Word(GoalWord::None)) => (-1, -1),
        _ => (-2, all.map_or(-1, minutes)),
    }
}

/// `torrents/info`.
pub fn list(ask: &Ask) -> Result<Answer, Fault> {
    let all = rows(&ask.app);
    let context = Context::of(&ask.app, &all);
    let form = &ask.form;
    let mut wanted = match form.some("hashes") {
        Some(hashes) => named(all, hashes),
        None => all,
    };
    wanted.retain(|row| wants(ask, row));
    let mut entries: Vec<Info<'_>> = wanted.iter().map(|row| entry(row, &context)).collect();
    if let Some(field) = form.some("sort") {
        sort(&mut entries, field);
    }
    if form.flag("reverse") == Some(true) {
        entries.reverse();
    }
    let len = entries.len();
    let offset = form.whole("offset")?.unwrap_or(0);
    // One below 0 counts from the end.
    let from = if offset < 0 { len.saturating_sub(offset.unsigned_abs() as usize) } else { offset as usize };
    let limit = form.whole("limit")?.filter(|limit| *limit > 0).map_or(usize::MAX, |limit| limit as usize);
    let entries: Vec<_> = entries.into_iter().skip(from).take(limit).collect();
    Answer::json(&entries)
}

fn wants(ask: &Ask, row: &Row) -> bool {
    let (form, summary) = (&ask.form, &row.summary);
    let is_private = row.metainfo.as_ref().is_some_and(|metainfo| metainfo.info.private);
    // An empty category or tag is none.
    form.get("filter").is_none_or(|filter| state::passes(filter, summary))
        && form.get("category").is_none_or(|one| summary.category.as_deref().unwrap_or_default() == one)
        && form.get("tag").is_none_or(|one| match one {
            "" => summary.tags.is_empty(),
            one => summary.tags.iter().any(|tag| tag == one),
        })
        && form.flag("private").is_none_or(|private| is_private == private)
}

fn sort(entries: &mut Vec<Info<'_>>, field: &str) {
    let key = |entry: &Info<'_>| match serde_json::to_value(entry) {
        Ok(Value::Object(mut fields)) => fields.remove(field).unwrap_or(Value::Null),
        _ => Value::Null,
    };
    let mut keyed: Vec<(Value, Info<'_>)> = entries.drain(..).map(|entry| (key(&entry), entry)).collect();
    keyed.sort_by(|(a, _), (b, _)| compare(a, b));
    entries.extend(keyed.into_iter().map(|(_, entry)| entry));
}

fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0))
        }
        (Value::String(a), Value::String(b)) => a.to_lowercase().cmp(&b.to_lowercase()),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        _ => Ordering::Equal,
    }
}

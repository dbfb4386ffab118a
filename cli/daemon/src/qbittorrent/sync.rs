//! `sync/maindata`: all that a page shows, and what changed of it since.
//!
//! Each answer gets a small number, `rid`. What it was of is remembered for the last so many answers, of all clients together; who names an
//! older one, or one of before a restart, gets everything.

use super::by_tracker::{ByTracker, Changed, Changes, by_tracker};
use super::info::{self, Context, text};
use super::{Answer, Ask, Fault, is_shown, labels, prefs, shown};
use crate::api::App;
use crate::table::{Query, Row};
use crate::torrents::{Id, Labels};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

/// How many answers are remembered.
const SEEN_MAX: usize = 1_000;
/// After this number they begin again: some clients keep them in 32 bits.
const RID_MAX: u32 = 1_000_000;

/// What an answer was of.
#[derive(Clone, Debug)]
struct Seen {
    rid: u32,
    revision: u64,
    labels: Arc<Labels>,
    /// Stands for the places in the queue.
    places: u64,
    /// The last change of trackers in it.
    trackers: u64,
}

/// The answers that are remembered.
#[derive(Debug, Default)]
pub struct Rids(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    last: u32,
    seen: VecDeque<Seen>,
    trackers: Changes,
}

impl Rids {
    fn find(&self, rid: u32) -> Option<Seen> {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.seen.iter().find(|one| one.rid == rid).cloned()
    }

    /// Remembers an answer under a new number. Beside that gives back what the client has seen, with what changed of the trackers since; if
    /// that is known no more, nothing, and the client gets everything.
    fn put(
        &self,
        revision: u64,
        labels: &Arc<Labels>,
        places: u64,
        by_tracker: &ByTracker<'_>,
        before: Option<Seen>,
    ) -> (u32, Option<(Seen, Changed)>) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = &mut *memory;
        memory.last = memory.last % RID_MAX + 1;
        if memory.seen.len() == SEEN_MAX {
            memory.seen.pop_front();
        }
        let (rid, trackers) = (memory.last, memory.trackers.look(by_tracker));
        memory.seen.push_back(Seen { rid, revision, labels: Arc::clone(labels), places, trackers });
        let before = before.and_then(|seen| {
            let changed = memory.trackers.since(seen.trackers)?;
            Some((seen, changed))
        });
        (rid, before)
    }
}

/// An answer.
#[derive(Debug, Default, Serialize)]
struct MainData<'a> {
    rid: u32,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    full_update: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    torrents: BTreeMap<&'a str, Entry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    torrents_removed: Vec<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    categories: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    categories_removed: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags_removed: Vec<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    trackers: ByTracker<'a>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    trackers_removed: BTreeSet<String>,
    server_state: Value,
}

/// What is told of a torrent: all, or only that its place in the queue is another.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Entry<'a> {
    Whole(Box<info::Info<'a>>),
    Place { priority: u32 },
}

/// `sync/maindata`.
pub async fn maindata(ask: &Ask) -> Result<Answer, Fault> {
    let app = &ask.app;
    let free = super::app::free_space(app).await;
    let rids = &app.qbittorrent.rids;
    let before = match ask.form.whole("rid")? {
        Some(rid) if rid > 0 => u32::try_from(rid).ok().and_then(|rid| rids.find(rid)),
        _ => None,
    };
    let labels = app.labels.borrow().clone();
    // All of it at one time: what is gone here is gone there.
    let (all, page, changed) = {
        let table = app.table.read();
        let since = before.as_ref().map(|before| before.revision);
        let page = table.page(&Query { since, after: None, limit: usize::MAX }, |_| true);
        let ids = page.torrents.iter().filter(|_| !page.full).map(|summary| summary.id);
        let changed: Vec<Row> = ids.filter_map(|id| table.get(id).cloned()).collect();
        (shown(&table), page, changed)
    };
    let context = Context::of(app, &all);
    let (places, by_tracker) = (hash_of(&context.places), by_tracker(&all));
    let seen = before.filter(|_| !page.full);
    let (rid, before) = rids.put(page.revision, &labels, places, &by_tracker, seen);
    let mut data = MainData {
        rid,
        full_update: before.is_none(),
        server_state: server_state(app, &all, free),
        ..MainData::default()
    };
    for row in if before.is_some() { &changed } else { &all } {
        match row.summary.info_hash.as_deref() {
            Some(hash) if is_shown(row) => {
                let entry = Box::new(info::entry(row, &context).without_hash());
                data.torrents.insert(hash, Entry::Whole(entry));
            }
            Some(hash) => data.torrents_removed.push(hash.to_owned()),
            None => {}
        }
    }
    match before {
        None => {
            data.categories = labels::categories(&labels);
            data.tags = labels.tags.iter().map(String::as_str).collect();
            data.trackers = by_tracker;
        }
        Some((ref before, trackers)) => {
            if !page.removed_hashes.is_empty() {
                let is_here: BTreeSet<&str> =
                    all.iter().filter_map(|row| row.summary.info_hash.as_deref()).collect();
                let gone = page.removed_hashes.iter().filter(|hash| !is_here.contains(hash.as_str()));
                data.torrents_removed.extend(gone.cloned());
            }
            changed_labels(&before.labels, &labels, &mut data);
            if before.places != places {
                changed_places(&all, &context, &mut data);
            }
            data.trackers = by_tracker;
            data.trackers.retain(|url, _| trackers.changed.contains(*url));
            data.trackers_removed = trackers.removed;
        }
    }
    Answer::json(&data)
}

fn changed_labels<'a>(before: &'a Labels, labels: &'a Labels, data: &mut MainData<'a>) {
    data.categories = labels::categories(labels);
    let is_same = |name: &str| before.categories.get(name) == labels.categories.get(name);
    data.categories.retain(|name, _| !is_same(name));
    let gone = before.categories.keys().filter(|name| !labels.categories.contains_key(*name));
    data.categories_removed = gone.map(String::as_str).collect();
    data.tags = labels.tags.difference(&before.tags).map(String::as_str).collect();
    data.tags_removed = before.tags.difference(&labels.tags).map(String::as_str).collect();
}

fn changed_places<'a>(all: &'a [Row], context: &Context, data: &mut MainData<'a>) {
    for row in all {
        if let Some(hash) = row.summary.info_hash.as_deref() {
            let priority = context.places.get(&row.summary.id).copied().unwrap_or(0);
            data.torrents.entry(hash).or_insert(Entry::Place { priority });
        }
    }
}

fn hash_of(places: &BTreeMap<Id, u32>) -> u64 {
    let mut hasher = DefaultHasher::new();
    places.hash(&mut hasher);
    hasher.finish()
}

/// The daemon as a whole.
fn server_state(app: &App, all: &[Row], free: u64) -> Value {
    let mut state = transfer_info(app, all);
    let (down, up) = (app.counters.bytes_down.load(Relaxed), app.counters.bytes_up.load(Relaxed));
    let standing = app.standing.borrow().clone();
    let ratio = if down > 0 { format!("{:.2}", up as f64 / down as f64) } else { "-".to_owned() };
    let more = json!({
        "alltime_dl": down,
        "alltime_ul": up,
        "global_ratio": ratio,
        "free_space_on_disk": free,
        "queueing": prefs::has_queue(&standing),
        "use_alt_speed_limits": standing.alternative,
        "use_subcategories": false,
        "refresh_interval": 1500,
        "total_peer_connections": all.iter().map(|row| row.summary.peers).sum::<usize>(),
        "total_wasted_session": 0,
        "total_buffers_size": 0,
        "total_queued_size": 0,
        "queued_io_jobs": 0,
        "average_time_queue": 0,
        "read_cache_hits": "0",
        "read_cache_overload": "0",
        "write_cache_overload": "0",
        "save_path": text(&standing.configured.dir),
    });
    if let Value::Object(more) = more {
        state.extend(more);
    }
    Value::Object(state)
}

/// What `transfer/info` tells too.
pub fn transfer_info(app: &App, all: &[Row]) -> Map<String, Value> {
    let sum = |of: fn(&Row) -> u64| all.iter().map(of).sum::<u64>();
    let rules = app.rules.borrow().clone();
    let info = json!({
        "connection_status": if app.listening.is_empty() { "disconnected" } else { "connected" },
        "dht_nodes": 0,
        "dl_info_data": app.counters.bytes_down.load(Relaxed),
        "dl_info_speed": sum(|row| row.summary.rate_down),
        "dl_rate_limit": rules.download_limit.unwrap_or(0),
        "up_info_data": app.counters.bytes_up.load(Relaxed),
        "up_info_speed": sum(|row| row.summary.rate_up),
        "up_rate_limit": rules.upload_limit.unwrap_or(0),
        "last_external_address_v4": "",
        "last_external_address_v6": "",
    });
    match info {
        Value::Object(info) => info,
        _ => Map::new(),
    }
}

//! `log/…`: what happened lately, as far as it is remembered.

use super::{Answer, Ask, Fault};
use crate::notice::{Notice, What};
use crate::table::Shared;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// How many entries each of the two logs has.
const ENTRIES_MAX: usize = 1_000;
/// How long the text of one is, in characters.
const TEXT_MAX: usize = 1_000;

/// How an entry is meant.
const NORMAL: u32 = 1;
const INFO: u32 = 2;
const WARNING: u32 = 4;
const CRITICAL: u32 = 8;

/// Entries, each with its number.
#[derive(Debug, Default)]
struct Entries {
    last: i64,
    entries: VecDeque<(i64, Value)>,
}

impl Entries {
    fn put(&mut self, mut entry: Value) {
        self.last += 1;
        entry["id"] = self.last.into();
        entry["timestamp"] = crate::manager::now().into();
        if self.entries.len() == ENTRIES_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back((self.last, entry));
    }

    fn since(&self, last: i64, wants: impl Fn(&Value) -> bool) -> Vec<&Value> {
        let new = self.entries.iter().filter(|(id, entry)| *id > last && wants(entry));
        new.map(|(_, entry)| entry).collect()
    }
}

/// Both logs.
#[derive(Debug, Default)]
pub struct Log {
    main: Mutex<Entries>,
    peers: Mutex<Entries>,
}

/// Notes what happens, until the daemon ends.
pub async fn watch(log: Arc<Log>, mut notices: broadcast::Receiver<Notice>, table: Shared) {
    loop {
        match notices.recv().await {
            Ok(notice) => note(&log, &notice, &table),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

fn note(log: &Log, notice: &Notice, table: &Shared) {
    if let What::PeerBanned { address, reason } = &notice.what {
        let entry = json!({"ip": address.ip().to_string(), "blocked": false, "reason": reason});
        log.peers.lock().unwrap_or_else(PoisonError::into_inner).put(entry);
        return;
    }
    let (kind, what) = match &notice.what {
        What::Metadata => (INFO, "its metadata is here".to_owned()),
        What::Complete => (NORMAL, "complete".to_owned()),
        What::GoalReached { .. } => (NORMAL, "it has seeded enough, and is stopped".to_owned()),
        What::Removed { .. } => (NORMAL, "removed".to_owned()),
        What::Warning { message } => (WARNING, message.clone()),
        What::FileChanged { path } => (WARNING, format!("another program has changed {path}")),
        What::DataBad { path, .. } => (WARNING, format!("{path}: data that was there is bad now")),
        What::DiskStalled { reason, .. } => (CRITICAL, format!("the disk takes no more data: {reason}")),
        What::DiskResumed => (NORMAL, "the disk takes data again".to_owned()),
        What::Failed { message } => (CRITICAL, message.clone()),
        _ => return,
    };
    let name = notice.id.map(|id| match table.read().get(id) {
        Some(row) => format!("{}: ", row.summary.name),
        None => format!("torrent {id}: "),
    });
    let message: String = format!("{}{what}", name.unwrap_or_default()).chars().take(TEXT_MAX).collect();
    let entry = json!({"message": message, "type": kind});
    log.main.lock().unwrap_or_else(PoisonError::into_inner).put(entry);
}

/// `log/main`.
pub(super) fn main(ask: &Ask) -> Result<Answer, Fault> {
    let kinds = [("normal", NORMAL), ("info", INFO), ("warning", WARNING), ("critical", CRITICAL)];
    let wanted = kinds.iter().filter(|(name, _)| ask.form.flag(name) != Some(false));
    let wanted = wanted.fold(0, |all, (_, kind)| all | kind);
    let last = ask.form.whole("last_known_id")?.unwrap_or(-1);
    let entries = ask.app.qbittorrent.log.main.lock().unwrap_or_else(PoisonError::into_inner);
    Answer::json(&entries.since(last, |entry| entry["type"].as_u64().unwrap_or(0) & u64::from(wanted) != 0))
}

/// `log/peers`.
pub(super) fn peers(ask: &Ask) -> Result<Answer, Fault> {
    let last = ask.form.whole("last_known_id")?.unwrap_or(-1);
    let entries = ask.app.qbittorrent.log.peers.lock().unwrap_or_else(PoisonError::into_inner);
    Answer::json(&entries.since(last, |_| true))
}

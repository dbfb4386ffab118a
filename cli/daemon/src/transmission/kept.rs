//! What clients set and is not in force now: the protocol has a value and, beside it, whether it counts. Here there is a limit or none, so
//! that the value is remembered meanwhile, up to the end of the process.

use crate::table::Table;
use crate::torrents::Id;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// How many torrents are remembered before those are forgotten that are not there any more.
const FORGET_FROM: usize = 1_000;

/// Of a torrent, or of all together. Rates are in kB/s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kept {
    pub up: u64,
    pub down: u64,
    pub ratio: f64,
    pub minutes: u64,
    /// These of all together alone.
    pub alternative_up: u64,
    pub alternative_down: u64,
    pub downloads: u64,
    pub seeds: u64,
}

impl Default for Kept {
    fn default() -> Kept {
        let (downloads, seeds) = (5, 10);
        Kept {
            up: 100,
            down: 100,
            ratio: 2.0,
            minutes: 30,
            alternative_up: 50,
            alternative_down: 50,
            downloads,
            seeds,
        }
    }
}

/// How a value is written by clients, and here.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    pub shown: fn(u64) -> u64,
    pub meant: fn(u64) -> u64,
}

/// A rate.
pub const RATE: Unit = Unit { shown: kilobytes, meant: bytes };
/// A number of things.
pub const COUNT: Unit = Unit { shown: |count| count, meant: |count| count };
/// A time: minutes, and seconds.
pub const TIME: Unit =
    Unit { shown: |seconds| seconds.div_ceil(60), meant: |minutes| minutes.saturating_mul(60) };

/// In kB/s, rounded.
pub fn kilobytes(bytes: u64) -> u64 {
    bytes.saturating_add(500) / 1_000
}

/// In bytes/s. There is no limit of nothing here: one byte is as good.
pub fn bytes(kilobytes: u64) -> u64 {
    kilobytes.saturating_mul(1_000).clamp(1, i64::MAX as u64)
}

/// Of all torrents, and of all together.
#[derive(Debug, Default)]
pub struct Memory(Mutex<(Kept, BTreeMap<Id, Kept>)>);

impl Memory {
    fn with<T>(&self, look: impl FnOnce(&mut (Kept, BTreeMap<Id, Kept>)) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn torrents(&self) -> BTreeMap<Id, Kept> {
        self.with(|(_, torrents)| torrents.clone())
    }

    pub fn torrent(&self, id: Id) -> Kept {
        self.with(|(_, torrents)| torrents.get(&id).copied().unwrap_or_default())
    }

    pub fn keep(&self, id: Id, kept: Kept, table: &Table) {
        self.with(|(_, torrents)| {
            if torrents.get(&id).copied().unwrap_or_default() == kept {
                return;
            }
            torrents.insert(id, kept);
            if torrents.len() > FORGET_FROM.max(table.len()) {
                torrents.retain(|id, _| table.get(*id).is_some());
            }
        });
    }

    pub fn session(&self) -> Kept {
        self.with(|(session, _)| *session)
    }

    pub fn keep_session(&self, kept: Kept) {
        self.with(|(session, _)| *session = kept);
    }
}

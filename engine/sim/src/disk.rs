//! A host's disk, as far as its torrent can tell: a rate, a size, faults, and what a crash leaves.
//!
//! It keeps the engine's contract (`engine/src/storage`). A piece counts once it is verified, written and in the
//! journal; every few seconds what is in the journal is synced and marked. After a crash marked pieces are trusted, and
//! those that are only in the journal are checked again: each may have been lost or torn. A full disk is waited
//! for; any other error when writing ends the torrent.

use crate::basics::Rate;
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::Geometry;
use swarm_core::id::PieceIndex;
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};

/// How often written data is made durable, if it is not much.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);
/// How much written data is made durable at once, in bytes.
const SYNC_BYTES: u64 = 256 * 1024 * 1024;
/// How often a full disk is asked whether it still is.
const SPACE_RETRY: Duration = Duration::from_secs(1);
/// So many pieces may wait for a slow disk before nothing more is asked for.
const WAITING_MAX: usize = 32;

/// What a disk is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskConfig {
    /// How fast it writes; `None`: at once.
    pub rate: Option<Rate>,
    /// How many bytes of the torrent it has room for; `None`: all.
    pub size: Option<u64>,
    /// The number of the write, from one, that fails with an error, once.
    pub write_fails: Option<u32>,
    /// Of so many pieces one cannot be read.
    pub unreadable_one_in: Option<u32>,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Done,
    Full,
    Failed,
}

#[derive(Debug)]
pub(crate) struct Disk {
    config: DiskConfig,
    geometry: Geometry,
    rng: Rng,
    /// Which pieces cannot be read, as a remainder.
    unreadable: u32,
    busy_until: Time,
    used: u64,
    writes: u32,
    /// What it really holds.
    pub(crate) written: Bitfield,
    /// What it will still hold after a crash.
    pub(crate) synced: Bitfield,
    unsynced_bytes: u64,
    sync_at: Option<Time>,
    /// It was full: when to try again.
    retry_at: Option<Time>,
}

impl Disk {
    pub(crate) fn new(config: DiskConfig, geometry: Geometry, have: Bitfield, mut rng: Rng) -> Disk {
        let used = have.iter().map(|piece| u64::from(geometry.len_of(piece))).sum();
        Disk {
            config,
            geometry,
            unreadable: config.unreadable_one_in.map_or(0, |n| rng.below(n.max(1).into()) as u32),
            rng,
            busy_until: Time::ZERO,
            used,
            writes: 0,
            synced: have.clone(),
            written: have,
            unsynced_bytes: 0,
            sync_at: None,
            retry_at: None,
        }
    }

    /// When a piece will be written that takes this long beside its bytes.
    pub(crate) fn begin(&mut self, now: Time, piece: PieceIndex, beside: Duration) -> Time {
        let Some(rate) = self.config.rate else { return now + beside };
        let len = self.geometry.len_of(piece).into();
        self.busy_until = self.busy_until.max(now) + beside + rate.time_for(len);
        self.busy_until
    }

    /// Whether so many pieces waiting to be written are all that memory holds.
    pub(crate) fn is_behind(&self, waiting: usize, was_behind: bool) -> bool {
        self.config.rate.is_some() && waiting >= if was_behind { WAITING_MAX / 2 } else { WAITING_MAX }
    }

    pub(crate) fn write(&mut self, now: Time, piece: PieceIndex) -> Write {
        self.writes += 1;
        if self.config.write_fails.take_if(|nth| *nth == self.writes).is_some() {
            return Write::Failed;
        }
        let len = u64::from(self.geometry.len_of(piece));
        if self.config.size.is_some_and(|size| self.used + len > size) {
            self.retry_at.get_or_insert(now + SPACE_RETRY);
            return Write::Full;
        }
        self.used += len;
        self.written.insert(piece);
        self.unsynced_bytes += len;
        self.sync_at.get_or_insert(now + SYNC_INTERVAL);
        if self.unsynced_bytes >= SYNC_BYTES {
            self.sync();
        }
        Write::Done
    }

    /// Everything written becomes durable.
    pub(crate) fn sync(&mut self) {
        self.synced = self.written.clone();
        (self.unsynced_bytes, self.sync_at) = (0, None);
    }

    /// There is room for everything from now on.
    pub(crate) fn free_space(&mut self) {
        self.config.size = None;
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        [self.sync_at, self.retry_at].into_iter().flatten().min()
    }

    /// Time has passed. True if the disk was full and is so no more.
    pub(crate) fn handle_timeout(&mut self, now: Time) -> bool {
        if self.sync_at.is_some_and(|at| at <= now) {
            self.sync();
        }
        if self.retry_at.is_none_or(|at| at > now) {
            return false;
        }
        let has_room =
            self.config.size.is_none_or(|size| self.used + u64::from(self.geometry.piece_len()) <= size);
        self.retry_at = (!has_room).then_some(now + SPACE_RETRY);
        has_room
    }

    pub(crate) fn is_readable(&self, piece: PieceIndex) -> bool {
        self.config.unreadable_one_in.is_none_or(|n| piece.0 % n.max(1) != self.unreadable)
    }

    /// The power fails: each piece that was not synced is there, or lost or torn.
    pub(crate) fn crash(&mut self) {
        let unsynced: Vec<PieceIndex> =
            self.written.iter().filter(|piece| !self.synced.has(*piece)).collect();
        for piece in unsynced {
            if self.rng.one_in(2) {
                self.written.remove(piece);
                self.used -= u64::from(self.geometry.len_of(piece));
            }
        }
    }

    /// What the torrent has when it starts again: what is marked, without looking, and of the rest
    /// what a check finds to be right.
    pub(crate) fn recover(&mut self) -> Bitfield {
        let mut have = self.synced.clone();
        self.written.iter().for_each(|piece| {
            have.insert(piece);
        });
        (self.busy_until, self.retry_at) = (Time::ZERO, None);
        self.sync();
        have
    }
}

//! How far a torrent's data is known and checked.

use super::event::{State, TorrentStats};
use crate::Error;
use crate::storage::Storage;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use swarm_core::bitfield::Bitfield;
use swarm_core::id::PieceIndex;
use swarm_core::metainfo::Info;
use swarm_core::padding::Padding;
use swarm_core::picker::Priority;
use tokio::sync::Notify;

/// What is here of a torrent that runs, as it was counted last.
#[derive(Default)]
struct Counted {
    have: Option<Bitfield>,
    bytes_have: u64,
    bytes_needed: Option<u64>,
}

/// How far the check of a torrent's data is.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) checking: Cell<bool>,
    /// How often files of others had become complete when they were looked at.
    pub(super) looked_at: Cell<u64>,
    pieces_have: Cell<u32>,
    bytes_have: Cell<u64>,
    counted: RefCell<Option<Box<Counted>>>,
    /// Bytes that nobody wants: of pad files, and of files that were not chosen. `None`: of pad files.
    unwanted: RefCell<Option<Padding>>,
    /// The data is of no use any more: whoever opens it stops as soon as its job on a worker has ended, since that may hold locks.
    is_aborted: Arc<AtomicBool>,
    aborted: Notify,
}

impl Progress {
    pub(super) fn abort(&self) {
        self.is_aborted.store(true, Ordering::Relaxed);
        self.aborted.notify_one();
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.is_aborted.load(Ordering::Relaxed)
    }

    /// The same for a job on a worker, which can end early.
    pub(super) fn abort_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_aborted)
    }

    /// Waits for something, unless the data is of no use any more.
    pub(super) async fn unless_aborted<T>(&self, wait: impl Future<Output = T>) -> Result<T, Error> {
        tokio::select! {
            biased;
            () = self.aborted.notified(), if !self.is_aborted() => Err(Error::Stopped),
            done = wait, if !self.is_aborted() => Ok(done),
            else => Err(Error::Stopped),
        }
    }

    /// Which files are wanted; `None`: all.
    pub(super) fn set_files(&self, info: &Info, files: Option<&[Priority]>) {
        let is_wanted = |at: usize| files.is_none_or(|files| files[at] != Priority::SKIP);
        let unwanted = info.files.iter().enumerate().filter(|&(at, file)| file.attr.pad || !is_wanted(at));
        let stretches = unwanted.map(|(_, file)| (file.offset..file.offset + file.length, false));
        self.unwanted.replace(Some(Padding::new(stretches)));
    }

    fn unwanted_len(&self, info: &Info) -> u64 {
        self.unwanted.borrow().as_ref().unwrap_or(&info.padding).total_len()
    }

    /// Bytes of a piece that belong to wanted files.
    pub(super) fn wanted_in(&self, info: &Info, piece: PieceIndex) -> u64 {
        self.unwanted.borrow().as_ref().unwrap_or(&info.padding).payload_in(&info.geometry, piece).into()
    }

    /// Bytes of wanted files in the pieces that are needed, and in those of them that are here; without `needed`, all that are here are.
    /// Only what has come or gone since the last call is counted, so that it may be called often.
    pub(super) fn count(&self, info: &Info, needed: Option<&Bitfield>, have: &Bitfield) -> (u64, u64) {
        let mut counted = self.counted.borrow_mut();
        if needed.is_none() && have.is_full() {
            // Nothing to count, and nothing to remember.
            *counted = None;
            let all = info.geometry.total_len() - self.unwanted_len(info);
            return (all, all);
        }
        let counted = counted.get_or_insert_default();
        let before = counted.have.get_or_insert_with(|| Bitfield::empty(have.len()));
        let is_needed = |piece: &PieceIndex| needed.is_none_or(|needed| needed.has(*piece));
        let come = have.iter_without(before).filter(is_needed);
        counted.bytes_have += come.map(|piece| self.wanted_in(info, piece)).sum::<u64>();
        let gone = before.iter_without(have).filter(is_needed);
        counted.bytes_have -= gone.map(|piece| self.wanted_in(info, piece)).sum::<u64>();
        before.clone_from(have);
        let all = |needed: &Bitfield| needed.iter().map(|piece| self.wanted_in(info, piece)).sum();
        let bytes_needed = needed.map(|needed| *counted.bytes_needed.get_or_insert_with(|| all(needed)));
        (bytes_needed.unwrap_or(counted.bytes_have), counted.bytes_have)
    }

    pub(super) fn add(&self, info: &Info, piece: PieceIndex) {
        self.pieces_have.set(self.pieces_have.get() + 1);
        self.bytes_have.set(self.bytes_have.get() + self.wanted_in(info, piece));
    }

    pub(super) fn stats(&self, info: Option<&Info>) -> TorrentStats {
        TorrentStats {
            state: if self.checking.get() { State::Checking } else { State::Queued },
            bytes_total: info.map_or(0, |info| info.geometry.total_len() - self.unwanted_len(info)),
            bytes_verified: self.bytes_have.get(),
            pieces: info.map_or(0, |info| info.geometry.pieces()),
            pieces_have: self.pieces_have.get(),
            ..TorrentStats::default()
        }
    }
}

/// A torrent's data, known and checked.
pub(super) struct Ready {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) have: Bitfield,
    /// What does not verify of what is on disk.
    pub(super) damaged: Bitfield,
    /// What the wanted files need.
    pub(super) needed: Bitfield,
    /// The priority of each file; `None`: all are wanted alike.
    pub(super) files: Option<Vec<Priority>>,
    /// Blocks of pieces that are not complete, by index.
    pub(super) partial: Vec<(PieceIndex, Vec<u32>)>,
}

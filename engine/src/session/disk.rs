//! A torrent and its disk: writing pieces, spilling, syncing, and waiting for space.

use super::doubt::Doubted;
use super::event::{Event, State};
use super::handle::Phase;
use super::opening::{on_worker, storage_error};
use super::options::Mode;
use super::prepared::RangeKey;
use super::shell::Shell;
use super::torrent::{Inner, TorrentShell};
use crate::Error;
use crate::buffer::Spill;
use crate::hash::{self, Lane};
use crate::storage::{PieceOutcome, Prepared, Storage, StorageError};
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use swarm_core::geometry::Geometry;
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::{PieceResult, Pressure};
use tokio::sync::mpsc;

/// How often written data is made durable, if it is not much.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);
/// How much written data is made durable at once, in bytes.
const SYNC_BYTES: u64 = 256 * 1024 * 1024;
/// How often a full disk is asked whether it still is.
pub(super) const SPACE_RETRY: Duration = Duration::from_secs(1);

/// What a worker has done for a torrent.
#[derive(Debug)]
pub(crate) enum DiskResult {
    Piece {
        piece: PieceIndex,
        outcome: PieceOutcome,
        digests: Vec<[u8; 20]>,
    },
    Spilled {
        spill: Spill,
        result: Result<(), StorageError>,
    },
    Prepared {
        window: RangeKey,
        result: Result<Prepared, StorageError>,
    },
    Synced(Result<Vec<FileIndex>, StorageError>),
    Space(Result<(), StorageError>),
    /// A piece in doubt was hashed again.
    Checked {
        piece: PieceIndex,
        result: Result<bool, StorageError>,
    },
    /// A piece that peers ask for again was hashed again.
    Suspected {
        piece: PieceIndex,
        result: Result<bool, StorageError>,
    },
    Finished(Result<Vec<FileIndex>, StorageError>),
    /// A defect: the job ended without a result.
    Panicked,
}

/// What is under way between a torrent and its disk.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// Pieces being verified and written, in bytes.
    writing: u64,
    spilling: bool,
    /// Complete pieces that wait for a spill of theirs to end, and whether digests are wanted.
    waiting: BTreeMap<PieceIndex, bool>,
    syncing: bool,
    sync_at: Option<Time>,
    /// What keeps data from being stored, and when to try again.
    stalled: Option<Stall>,
    /// `finish` is under way, or done.
    finishing: bool,
    /// `finish` is to be tried again when there is space.
    unfinished: bool,
    pub(super) doubted: Doubted,
}

#[derive(Debug)]
struct Stall {
    reason: String,
    retry_at: Option<Time>,
}

impl Disk {
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let retry = self.stalled.as_ref().and_then(|stall| stall.retry_at);
        [retry, self.sync_at.filter(|_| !self.syncing)].into_iter().flatten().min()
    }

    /// The piece's blocks are gone.
    pub(super) fn forget(&mut self, piece: PieceIndex) {
        self.waiting.remove(&piece);
    }

    /// Why nothing can be stored, if so.
    pub(super) fn stall_reason(&self) -> Option<&str> {
        self.stalled.as_ref().map(|stall| stall.reason.as_str())
    }
}

/// SHA-1 of each block that is in memory; zeros for those that are not.
fn block_digests(geometry: &Geometry, buffer: &crate::buffer::PieceBuffer) -> Vec<[u8; 20]> {
    let digest = |index| buffer.block(index).map_or([0; 20], |block| hash::sha1([block]));
    (0..geometry.blocks_in(buffer.piece())).map(digest).collect()
}

impl TorrentShell {
    pub(super) fn submit(&self, lane: Lane, job: impl FnOnce(&Storage) -> DiskResult + Send + 'static) {
        let (storage, tx) = (Arc::clone(&self.storage), self.disk_results.clone());
        self.jobs.set(self.jobs.get() + 1);
        self.hub.workers.submit(lane, move || {
            let result = catch_unwind(AssertUnwindSafe(|| job(&storage)));
            let _ = tx.send(result.unwrap_or(DiskResult::Panicked));
        });
    }

    pub(super) fn complete_piece(&self, inner: &mut Inner, piece: PieceIndex, digests: bool) {
        if !inner.buffers.get(&piece).is_some_and(|buffer| buffer.is_complete()) {
            inner.disk.waiting.insert(piece, digests);
            return;
        }
        let Some(buffer) = inner.buffers.remove(&piece) else { return };
        let geometry = *inner.core.geometry();
        inner.disk.writing += u64::from(geometry.len_of(piece));
        self.submit(Lane::Transfer, move |storage| {
            let mut of_blocks = if digests { block_digests(&geometry, &buffer) } else { Vec::new() };
            let outcome = storage.verify_and_write(buffer);
            if let PieceOutcome::HashMismatch(buffer) = &outcome {
                of_blocks = block_digests(&geometry, buffer);
            }
            DiskResult::Piece { piece, outcome, digests: of_blocks }
        });
    }

    pub(super) fn submit_prepare(&self, window: RangeKey, range: Range<u32>) {
        self.submit(Lane::Transfer, move |storage| DiskResult::Prepared {
            window,
            result: storage.prepare(window.0, range),
        });
    }

    pub(super) fn on_disk_result(self: &Rc<Self>, result: DiskResult) {
        let now = self.hub.now();
        self.jobs.set(self.jobs.get() - 1);
        self.with(|inner| {
            // What was found changed meanwhile comes before what came of it.
            self.take_doubts(inner, now);
            self.handle_disk_result(inner, now, result);
        });
    }

    fn handle_disk_result(self: &Rc<Self>, inner: &mut Inner, now: Time, result: DiskResult) {
        match result {
            DiskResult::Panicked => self.fail(Error::Defect("a disk job panicked".to_owned())),
            DiskResult::Piece { piece, outcome, digests } => {
                self.on_piece(inner, now, piece, outcome, digests)
            }
            DiskResult::Spilled { spill, result } => self.on_spilled(inner, now, spill, result),
            DiskResult::Prepared { window, result } => self.on_prepared(inner, now, window, result),
            DiskResult::Synced(result) => {
                inner.disk.syncing = false;
                if let Err(error) = result {
                    self.warn(&error.to_string());
                }
            }
            DiskResult::Space(Ok(())) => {
                inner.disk.stalled = None;
                self.emit(Event::DiskResumed);
                inner.core.handle_disk_ready(now);
                if std::mem::take(&mut inner.disk.unfinished) {
                    self.finish(inner);
                }
            }
            DiskResult::Space(Err(error)) => self.on_disk_error(inner, now, error),
            DiskResult::Checked { piece, result } => self.on_checked(inner, now, piece, result),
            DiskResult::Suspected { piece, result } => self.on_suspected(inner, now, piece, result),
            DiskResult::Finished(Ok(_)) => self.on_finished(inner),
            // When what has changed is right again, or fetched again, it is tried again.
            DiskResult::Finished(Err(StorageError::Changed { .. })) => {
                inner.disk.finishing = false;
                if inner.core.is_complete() {
                    self.finish(inner);
                }
            }
            DiskResult::Finished(Err(error)) => {
                inner.disk.finishing = false;
                inner.disk.unfinished = true;
                self.on_disk_error(inner, now, error);
            }
        }
    }

    fn on_piece(
        &self,
        inner: &mut Inner,
        now: Time,
        piece: PieceIndex,
        outcome: PieceOutcome,
        digests: Vec<[u8; 20]>,
    ) {
        inner.disk.writing -= u64::from(inner.core.geometry().len_of(piece));
        let result = match outcome {
            PieceOutcome::Ok => {
                inner.disk.sync_at.get_or_insert(now + SYNC_INTERVAL);
                PieceResult::Written { digests }
            }
            PieceOutcome::HashMismatch(_) => PieceResult::Corrupt { digests },
            PieceOutcome::Failed { error, buffer } => {
                inner.buffers.insert(piece, buffer);
                self.on_disk_error(inner, now, error);
                PieceResult::NotWritten
            }
        };
        inner.core.handle_piece_result(now, piece, result);
    }

    /// A full disk is waited for; anything else ends the torrent.
    fn on_disk_error(&self, inner: &mut Inner, now: Time, error: StorageError) {
        if !error.is_no_space() {
            return self.fail(storage_error(error));
        }
        let reason = error.to_string();
        if inner.disk.stalled.is_none() {
            self.emit(Event::DiskStalled { reason: reason.clone() });
        }
        inner.disk.stalled = Some(Stall { reason, retry_at: Some(now + SPACE_RETRY) });
    }

    pub(super) fn retry_disk_if_due(&self) {
        let now = self.hub.now();
        let mut inner = self.inner.borrow_mut();
        let Some(stall) = &mut inner.disk.stalled else { return };
        if stall.retry_at.is_some_and(|at| at <= now) {
            stall.retry_at = None;
            self.submit(Lane::Transfer, |storage| DiskResult::Space(storage.reserve()));
        }
    }

    pub(super) fn sync_if_due(&self) {
        let now = self.hub.now();
        let mut inner = self.inner.borrow_mut();
        let Some(at) = inner.disk.sync_at else { return };
        if !inner.disk.syncing && (at <= now || self.storage.unsynced_bytes() >= SYNC_BYTES) {
            inner.disk.syncing = true;
            inner.disk.sync_at = None;
            self.submit(Lane::Check, |storage| DiskResult::Synced(storage.sync()));
        }
    }

    /// When memory is full and none will come free by itself, moves the piece that has waited longest to disk.
    pub(super) fn spill_if_full(&self) {
        if self.hub.pressure.get() != Pressure::Full {
            return;
        }
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        if inner.disk.spilling || inner.disk.writing > 0 || inner.disk.stalled.is_some() {
            return;
        }
        let oldest = inner.core.partial_pieces().into_iter();
        let mut held = oldest.filter(|p| inner.buffers.get(p).is_some_and(|b| b.bytes_in_memory() > 0));
        let Some(piece) = held.next() else { return };
        let Some(buffer) = inner.buffers.get_mut(&piece) else { return };
        let spill = buffer.take_for_spill();
        inner.disk.spilling = true;
        tracing::debug!(%piece, blocks = spill.blocks().len(), "memory is full: a partial piece moves to disk");
        self.submit(Lane::Transfer, move |storage| {
            let result = storage.spill(&spill);
            DiskResult::Spilled { spill, result }
        });
    }

    fn on_spilled(&self, inner: &mut Inner, now: Time, spill: Spill, result: Result<(), StorageError>) {
        inner.disk.spilling = false;
        let piece = spill.piece();
        if let Some(buffer) = inner.buffers.get_mut(&piece) {
            match &result {
                Ok(()) => buffer.spilled(spill),
                Err(_) => buffer.restore(spill),
            }
        }
        if let Err(error) = result {
            self.on_disk_error(inner, now, error);
        }
        if let Some(digests) = inner.disk.waiting.remove(&piece) {
            self.complete_piece(inner, piece, digests);
        }
    }

    fn on_prepared(
        &self,
        inner: &mut Inner,
        now: Time,
        window: RangeKey,
        result: Result<Prepared, StorageError>,
    ) {
        let failed = result.as_ref().err().map(StorageError::to_string);
        // That has been told of already.
        let is_changed = matches!(result, Err(StorageError::Changed { .. }));
        for key in inner.prepared.arrived(window, result.ok(), now) {
            let Some(link) = inner.links.get_mut(&key) else { continue };
            link.wake.notify_one();
            if failed.is_some()
                && let Some(block) = link.stalled.take()
            {
                inner.core.handle_upload_failed(now, key, block);
            }
        }
        if let Some(failed) = failed.filter(|_| !is_changed) {
            self.warn(&failed);
        }
    }

    /// Everything wanted is written: the files get their final names.
    pub(super) fn finish(&self, inner: &mut Inner) {
        if std::mem::replace(&mut inner.disk.finishing, true) {
            return;
        }
        if self.options.mode == Mode::Seed {
            return self.on_finished(inner);
        }
        self.submit(Lane::Transfer, |storage| DiskResult::Finished(storage.finish()));
    }

    fn on_finished(&self, inner: &mut Inner) {
        inner.state = State::Seeding;
        if !self.was_complete.get() {
            inner.announcing.completed(self.hub.now());
            self.announce_on_dht(false);
        }
        self.phase.send_replace(Phase::Running { complete: true });
        self.emit(Event::Completed);
    }

    /// Ends everything in good order: connections, trackers (for a few seconds at most), state.
    pub(super) async fn shut_down(
        self: Rc<Self>,
        mut results: mpsc::UnboundedReceiver<DiskResult>,
    ) -> Result<(), Error> {
        self.with(|inner| {
            inner.state = State::Stopped;
            inner.disk.doubted.clear();
            inner.core.handle_stop(self.hub.now());
        });
        self.hub.torrents.borrow_mut().remove(&self.metainfo.info.info_hash);
        // What is being written is still taken note of: it need not be downloaded again.
        while self.jobs.get() > 0 {
            let Some(result) = results.recv().await else { break };
            self.on_disk_result(result);
            self.hub.on_memory_freed();
        }
        self.inner.borrow_mut().buffers.clear();
        self.hub.on_memory_freed();
        self.stop_announcing().await;
        let storage = Arc::clone(&self.storage);
        let closed = on_worker(&self.hub, Lane::Transfer, move || storage.close()).await?;
        if let Some(error) = self.failure.borrow_mut().take() {
            return Err(error);
        }
        closed.map_err(storage_error)
    }
}

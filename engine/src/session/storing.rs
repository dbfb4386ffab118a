//! A torrent and its disk: writing pieces, spilling, syncing, and waiting while the disk takes nothing.
//!
//! A disk that is full is asked every second whether it still is. One that fails (an I/O error, lost permission, a folder
//! that has gone) is tried again after longer and longer waits. Until it takes data, complete pieces stay in memory and
//! nothing more is asked for; what cannot pass ends the torrent.

use super::disk::{DiskResult, Stall};
use super::event::{Event, State};
use super::handle::Phase;
use super::options::Mode;
use super::prepared::RangeKey;
use super::torrent::{Inner, Next, TorrentDriver};
use crate::Error;
use crate::buffer::{PieceBuffer, Spill};
use crate::hash::Lane;
use crate::storage::{PieceOutcome, Prepared, Storage, StorageError};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use swarm_core::id::PieceIndex;
use swarm_core::merkle::Node;
use swarm_core::picker::Priority;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::{PieceResult, Pressure};

/// How often written data is made durable, if it is not much.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);
/// How much written data is made durable at once, in bytes.
const SYNC_BYTES: u64 = 256 * 1024 * 1024;
/// How often a full disk is asked whether it still is.
pub(super) const SPACE_RETRY: Duration = Duration::from_secs(1);
/// The longest wait before a disk that fails is tried again. The first is a second, and each is twice the one before.
const FAULT_RETRY_MAX: Duration = Duration::from_secs(60);
/// How long no block has come for a partial piece that is dropped first.
const PARTIAL_IDLE: Duration = Duration::from_secs(5);

/// How long a disk that has failed is left alone.
fn fault_retry(failures: u32) -> Duration {
    FAULT_RETRY_MAX.min(SPACE_RETRY * 2_u32.saturating_pow(failures.min(10)))
}

impl TorrentDriver {
    pub(super) fn submit(&self, lane: Lane, job: impl FnOnce(&dyn Storage) -> DiskResult + Send + 'static) {
        let (storage, results) = (Arc::clone(&self.content().storage), self.disk_results.clone());
        self.jobs.set(self.jobs.get() + 1);
        self.context.workers.submit(lane, move || {
            let result = catch_unwind(AssertUnwindSafe(|| job(&*storage)));
            results.push(result.unwrap_or(DiskResult::Panicked));
        });
    }

    pub(super) fn complete_piece(&self, inner: &mut Inner, piece: PieceIndex, digests: bool) {
        if !inner.buffers.get(&piece).is_some_and(|buffer| buffer.is_complete()) {
            inner.disk.waiting.insert(piece, digests);
            return;
        }
        if inner.disk.is_held() {
            return inner.core.handle_piece_result(self.context.now(), piece, PieceResult::NotWritten);
        }
        let Some(buffer) = inner.buffers.remove(&piece) else { return };
        let info = Arc::clone(&self.content().metainfo.info);
        inner.disk.writing += u64::from(info.geometry.len_of(piece));
        let complete = self.complete.get_or_init(Default::default).clone();
        complete.push(buffer, digests);
        let results = self.disk_results.clone();
        let storage = Arc::clone(&self.content().storage);
        self.jobs.set(self.jobs.get() + 1);
        self.context.workers.submit(Lane::Transfer, move || {
            complete.take().verify(&*storage, &info, |result| results.push(result));
        });
    }

    /// Has pieces read again, to send their leaves.
    pub(super) fn hash_leaves(&self, first: PieceIndex, pieces: u32) {
        let info = Arc::clone(&self.content().metainfo.info);
        self.submit(Lane::Check, move |storage| {
            let all = (first.0..first.0 + pieces).map(PieceIndex);
            let leaves: Result<Vec<Vec<Node>>, StorageError> =
                all.map(|piece| storage.leaves(piece, info.piece_shape(piece).tree)).collect();
            DiskResult::Leaves { first, pieces, leaves: leaves.map(|leaves| leaves.concat()) }
        });
    }

    /// Has what is on disk of a bad piece told apart.
    pub(super) fn hash_blocks(&self, piece: PieceIndex) {
        self.submit(Lane::Check, move |storage| DiskResult::BlocksHashed {
            piece,
            digests: storage.block_digests(piece),
        });
    }

    /// These blocks of a piece are right where they are on disk.
    pub(super) fn keep_blocks(inner: &mut Inner, piece: PieceIndex, blocks: &[u32]) {
        let core = &inner.core;
        let buffer = PieceBuffer::with_padding(core.geometry(), piece, core.padding_blocks(piece));
        inner.buffers.insert(piece, buffer.with_in_place(blocks));
    }

    pub(super) fn submit_prepare(&self, window: RangeKey, range: Range<u32>) {
        self.submit(Lane::Transfer, move |storage| DiskResult::Prepared {
            window,
            result: storage.prepare(window.0, range),
        });
    }

    fn submit_spill(&self, spill: Spill) {
        self.submit(Lane::Transfer, move |storage| {
            let result = storage.spill(&spill);
            DiskResult::Spilled { spill, result }
        });
    }

    pub(super) fn on_disk_result(self: &Rc<Self>, result: DiskResult) {
        let now = self.context.now();
        self.jobs.set(self.jobs.get() - 1);
        self.with(|inner| {
            // What was found changed meanwhile comes before what came of it.
            self.take_doubts(inner, now);
            self.handle_disk_result(inner, now, result);
        });
    }

    fn handle_disk_result(self: &Rc<Self>, inner: &mut Inner, now: Time, result: DiskResult) {
        match result {
            DiskResult::Panicked => self.fail(Error::panicked()),
            DiskResult::Piece { piece, outcome, digests } => {
                self.on_piece(inner, now, piece, outcome, digests)
            }
            DiskResult::Spilled { spill, result } => self.on_spilled(inner, now, spill, result),
            DiskResult::Prepared { window, result } => self.on_prepared(inner, now, window, result),
            DiskResult::Synced(result) => {
                inner.disk.syncing = false;
                match result {
                    Err(error) if error.may_pass() => {
                        inner.disk.sync_at.get_or_insert(now + SYNC_INTERVAL);
                        self.on_disk_error(inner, now, error);
                    }
                    Err(error) => self.warn(&error.to_string()),
                    Ok(files) => self.note_complete(Some(files)),
                }
            }
            DiskResult::Space(Ok(())) => self.try_disk(inner, now),
            DiskResult::Space(Err(error)) => self.on_disk_error(inner, now, error),
            DiskResult::Checked { piece, result } => self.on_checked(inner, now, piece, result),
            DiskResult::BadFiles(result) => self.on_bad_files(inner, now, result),
            DiskResult::Scrubbed { piece, result } => {
                self.on_suspected(inner, now, piece, result);
                self.scrubbing.get().iter().for_each(|scrub| scrub.read.notify_one());
            }
            DiskResult::Unchecked(results) => self.on_unchecked(inner, now, results),
            DiskResult::Suspected { piece, result } => self.on_suspected(inner, now, piece, result),
            DiskResult::Leaves { first, pieces, leaves } => {
                let leaves = leaves.inspect_err(|error| tracing::debug!(%first, %error, "no leaves"));
                inner.core.handle_leaves(now, first, pieces, leaves.ok());
            }
            DiskResult::BlocksHashed { piece, digests } => {
                inner.core.handle_blocks_hashed(now, piece, &digests);
            }
            DiskResult::Finished(Ok(files)) => {
                self.note_complete(Some(files));
                self.on_disk_works(inner);
                self.on_finished(inner);
            }
            // When what has changed is right again, or fetched again, it is tried again.
            DiskResult::Finished(Err(StorageError::Changed { .. })) => {
                inner.disk.finishing = false;
                self.take_back_missing(inner, now);
                if inner.core.is_complete() && inner.state != State::Stopped {
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
        if !matches!(outcome, PieceOutcome::Failed { .. }) {
            self.on_disk_works(inner);
        }
        let result = match outcome {
            PieceOutcome::Ok => {
                inner.disk.sync_at.get_or_insert(now + SYNC_INTERVAL);
                PieceResult::Written { digests }
            }
            PieceOutcome::HashMismatch(buffer) => {
                // The torrent says what is dropped.
                inner.buffers.insert(piece, buffer);
                PieceResult::Corrupt { digests }
            }
            PieceOutcome::Failed {
                error: StorageError::Changed { .. } | StorageError::Closed { .. },
                ..
            } if !self.content().storage.is_downloading() => {
                // It was to be mended, and its file is another's now.
                inner.core.handle_piece_result(now, piece, PieceResult::NotWritten);
                inner.core.drop_piece(now, piece);
                return inner.core.set_priorities(now, [(piece, Priority::SKIP)]);
            }
            PieceOutcome::Contradictory => PieceResult::Contradictory,
            PieceOutcome::Failed { error, buffer } => {
                inner.buffers.insert(piece, buffer);
                self.on_disk_error(inner, now, error);
                PieceResult::NotWritten
            }
        };
        if matches!(result, PieceResult::Written { .. }) && inner.disk.is_mended(piece) {
            self.tell_mended(piece);
        }
        let is_written = matches!(result, PieceResult::Written { .. });
        inner.core.handle_piece_result(now, piece, result);
        if is_written && !self.content().storage.has(piece) {
            // Its file was found changed while it was written.
            self.take_back(inner, now, piece);
        }
    }

    /// What may pass is waited for; anything else ends the torrent.
    pub(super) fn on_disk_error(&self, inner: &mut Inner, now: Time, error: StorageError) {
        if !error.may_pass() {
            // A seed goes on with what it has.
            return match self.options.mode {
                Mode::Seed => self.warn(&error.to_string()),
                _ => self.fail(error.into()),
            };
        }
        let is_full = error.is_no_space();
        let error = Arc::new(error);
        let disk = &mut inner.disk;
        if disk.stalled.as_ref().is_none_or(|stall| stall.error.is_no_space() != is_full) {
            tracing::debug!(%error, "the disk takes no data");
            self.emit(Event::DiskStalled { error: Arc::clone(&error) });
        }
        // Pieces that were under way at the same time fail for the same reason: that is one failure.
        let pending = disk.stalled.take().filter(|stall| stall.error.is_no_space() == is_full);
        let retry_at = pending.and_then(|stall| stall.retry_at).unwrap_or_else(|| {
            let wait = if is_full { SPACE_RETRY } else { fault_retry(disk.failures) };
            disk.failures += 1;
            now + wait
        });
        disk.stalled = Some(Stall { error, retry_at: Some(retry_at), is_trying: false });
    }

    /// The disk may be better: what waits for it is tried again.
    fn try_disk(self: &Rc<Self>, inner: &mut Inner, now: Time) {
        if let Some(stall) = &mut inner.disk.stalled {
            stall.is_trying = true;
        }
        let is_unfinished = std::mem::take(&mut inner.disk.unfinished);
        if !inner.core.is_disk_stalled() && !is_unfinished {
            self.on_disk_works(inner);
        }
        inner.core.handle_disk_ready(now);
        if is_unfinished {
            self.finish(inner);
        }
        self.check_doubted(inner);
    }

    /// The disk has taken data, or nothing waits for it any more.
    fn on_disk_works(&self, inner: &mut Inner) {
        if inner.disk.stalled.as_ref().is_some_and(|stall| stall.is_trying) {
            inner.disk.stalled = None;
            self.emit(Event::DiskResumed);
        }
        if inner.disk.stalled.is_none() {
            inner.disk.failures = 0;
        }
    }

    pub(super) fn retry_disk_if_due(&self) {
        let now = self.context.now();
        let mut inner = self.inner.borrow_mut();
        let Some(stall) = &mut inner.disk.stalled else { return };
        if stall.retry_at.is_some_and(|at| at <= now) {
            stall.retry_at = None;
            self.submit(Lane::Transfer, |storage| DiskResult::Space(storage.reserve()));
        }
    }

    pub(super) fn sync_if_due(&self) {
        let now = self.context.now();
        let mut inner = self.inner.borrow_mut();
        let Some(at) = inner.disk.sync_at else { return };
        if !inner.disk.syncing && (at <= now || self.content().storage.unsynced_bytes() >= SYNC_BYTES) {
            inner.disk.syncing = true;
            inner.disk.sync_at = None;
            self.submit(Lane::Check, |storage| DiskResult::Synced(storage.sync()));
        }
    }

    /// When memory is full and none will come free by itself, moves the piece that has waited longest to disk.
    pub(super) fn spill_if_full(&self) {
        if self.context.pressure.get() != Pressure::Full {
            return;
        }
        if self.can_spill() {
            self.frees_memory();
        } else {
            self.drop_partial_piece();
        }
    }

    fn can_spill(&self) -> bool {
        self.content.get().is_none_or(|content| content.storage.can_spill())
    }

    /// Whether this torrent gives memory back soon: something is being written, or moves to disk from now on.
    pub(super) fn frees_memory(&self) -> bool {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        if inner.disk.spilling || inner.disk.writing > 0 {
            return true;
        }
        if inner.disk.stalled.is_some() || !self.can_spill() {
            return false;
        }
        let oldest = inner.core.partial_pieces().into_iter();
        let mut held = oldest.filter(|p| inner.buffers.get(p).is_some_and(|b| b.bytes_in_memory() > 0));
        let Some(piece) = held.next() else { return false };
        let Some(buffer) = inner.buffers.get_mut(&piece) else { return false };
        let spill = buffer.take_for_spill();
        inner.disk.spilling = true;
        tracing::debug!(%piece, blocks = spill.blocks().len(), "memory is full: a partial piece moves to disk");
        self.submit_spill(spill);
        true
    }

    /// Where only whole pieces are stored, memory is had by dropping one that is not complete, of whichever torrent: one that no block
    /// has come for lately, or else the one that holds least, so that others become complete.
    fn drop_partial_piece(&self) {
        let (torrents, now) = (self.context.torrents.busy(), self.context.now());
        if torrents.iter().any(|torrent| torrent.frees_memory()) {
            return;
        }
        let droppable =
            torrents.into_iter().filter_map(|torrent| Some((torrent.droppable_piece(now)?, torrent)));
        if let Some(((_, bytes, piece), torrent)) = droppable.min_by_key(|(least, _)| *least) {
            tracing::debug!(%piece, bytes, "memory is full: a partial piece is dropped");
            torrent.drop_piece(piece);
            self.context.on_memory_freed();
        }
    }

    /// The partial piece that is the smallest loss, if some may be dropped: whether blocks come for it, and its bytes in memory.
    pub(super) fn droppable_piece(&self, now: Time) -> Option<(bool, usize, PieceIndex)> {
        let inner = self.inner.borrow();
        if self.can_spill() || inner.disk.stalled.is_some() {
            return None;
        }
        let partial = inner.core.partial_pieces();
        let held = partial.iter().filter_map(|p| inner.buffers.get(p)).filter(|b| b.bytes_in_memory() > 0);
        held.map(|b| (now.since(b.received_at) < PARTIAL_IDLE, b.bytes_in_memory(), b.piece())).min()
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

    pub(super) fn on_prepared(
        &self,
        inner: &mut Inner,
        now: Time,
        window: RangeKey,
        result: Result<Prepared, StorageError>,
    ) {
        let failed = result.as_ref().err().map(StorageError::to_string);
        if result.as_ref().is_err_and(StorageError::is_unreadable) {
            self.suspect(window.0);
        }
        // That has been told of already.
        let is_changed = matches!(result, Err(StorageError::Changed { .. }));
        for key in inner.prepared.prepared(window, result.ok(), now) {
            let Some(connection) = inner.connections.get_mut(&key) else { continue };
            connection.wake.notify_one();
            if failed.is_some()
                && let Some(block) = connection.stalled.take()
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
        self.leave_elsewhere(inner);
        if !self.was_complete.get() {
            self.announcer.borrow_mut().handle_completed(self.context.now());
            self.announce_on_dht();
        }
        self.phase.send_replace(Phase::Running { complete: true });
        self.emit(Event::Completed);
    }

    /// Ends everything in good order: connections, trackers (for a few seconds at most), state.
    pub(super) async fn shut_down(self: &Rc<Self>, next: Next) -> Result<(), Error> {
        self.with(|inner| {
            inner.state = State::Stopped;
            inner.disk.doubted.clear();
            inner.disk.clear_unchecked();
            inner.core.handle_stop(self.context.now());
        });
        self.context.torrents.remove(self.info_hash);
        // What is being written is still taken note of: it need not be downloaded again.
        while self.jobs.get() > 0 {
            let result = self.disk_results.next().await;
            self.on_disk_result(result);
            self.context.on_memory_freed();
        }
        self.keep_partial_pieces().await;
        self.inner.borrow_mut().buffers.clear();
        self.context.on_memory_freed();
        if next != Next::Restart {
            self.stop_announcing().await;
        }
        let closed = match self.content.get() {
            Some(content) => {
                let storage = Arc::clone(&content.storage);
                self.context.on_worker(Lane::Transfer, move || storage.close()).await?
            }
            None => {
                self.abandon_data().await?;
                Ok(())
            }
        };
        if let Some(error) = self.failure.borrow_mut().take() {
            return Err(error);
        }
        match closed {
            // It goes on, or its data goes: that its state could not be saved is no reason against it.
            Err(error) if next != Next::Stop => self.warn(&error.to_string()),
            closed => closed?,
        }
        Ok(())
    }

    /// Moves the blocks of unfinished pieces to the part file, for the next run to go on from. What does not fit is lost.
    async fn keep_partial_pieces(&self) {
        let pieces: Vec<PieceIndex> = self.inner.borrow().buffers.keys().copied().collect();
        for piece in pieces.into_iter().filter(|_| self.can_spill()) {
            let spill = match self.inner.borrow_mut().buffers.get_mut(&piece) {
                Some(buffer) if buffer.bytes_in_memory() > 0 => buffer.take_for_spill(),
                _ => continue,
            };
            self.submit_spill(spill);
            let result = self.disk_results.next().await;
            self.jobs.set(self.jobs.get() - 1);
            if let DiskResult::Spilled { result: Err(error), .. } = result {
                tracing::warn!(%error, "blocks of unfinished pieces are lost");
                return;
            }
        }
    }
}

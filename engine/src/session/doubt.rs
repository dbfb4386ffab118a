//! Pieces that may no longer be what was verified: withdrawn, hashed again, and offered again or named.

use super::disk::DiskResult;
use super::event::Event;
use super::options::Mode;
use super::torrent::{Inner, TorrentDriver};
use crate::hash::Lane;
use crate::storage::StorageError;
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::time::{Duration, Time};

/// How often files with bad pieces are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

impl TorrentDriver {
    /// Takes up what the storage has found changed.
    pub(super) fn take_doubts(&self, inner: &mut Inner, now: Time) {
        let doubts = self.content().storage.take_doubts();
        for file in doubts.files {
            let path = self.file_path(file);
            tracing::debug!(
                path,
                "another program has changed a file; it is checked again before it is sent"
            );
            self.emit(Event::FileChanged { file, path });
        }
        if !doubts.pieces.is_empty() {
            self.withdraw(inner, now, &doubts.pieces);
            inner.disk.doubted.waiting.extend(doubts.pieces);
            self.check_doubted(inner);
        }
    }

    /// Nothing of these pieces is offered or sent for now.
    fn withdraw(&self, inner: &mut Inner, now: Time, pieces: &[PieceIndex]) {
        pieces.iter().for_each(|&piece| inner.prepared.forget(piece));
        inner.core.handle_pieces_doubted(now, pieces, self.content().storage.is_downloading());
    }

    /// Looks at the next ones, unless the disk fails just now.
    pub(super) fn check_doubted(&self, inner: &mut Inner) {
        if inner.disk.stalled_by().is_some() {
            return;
        }
        let doubted = &mut inner.disk.doubted;
        while doubted.under_way < self.context.workers.threads() * 2
            && let Some(piece) = doubted.waiting.pop_front()
        {
            doubted.under_way += 1;
            self.submit(Lane::Check, move |storage| DiskResult::Checked {
                piece,
                result: storage.check_piece(piece),
            });
        }
    }

    /// Peers heard that a piece is here, and the storage does not say so, or not yet.
    pub(super) fn take_back(&self, inner: &mut Inner, now: Time, piece: PieceIndex) {
        self.withdraw(inner, now, &[piece]);
        if !self.content().storage.is_in_doubt(piece) {
            self.on_bad(inner, now, piece);
        }
    }

    /// The same for every piece.
    pub(super) fn take_back_missing(&self, inner: &mut Inner, now: Time) {
        let pieces: Vec<PieceIndex> =
            inner.core.have().iter().filter(|&p| !self.content().storage.has(p)).collect();
        pieces.into_iter().for_each(|piece| self.take_back(inner, now, piece));
    }

    /// Peers ask for a piece again and again: perhaps it is bad.
    pub(super) fn suspect(&self, piece: PieceIndex) {
        self.submit(Lane::Check, move |storage| DiskResult::Suspected {
            piece,
            result: storage.check_piece(piece),
        });
    }

    pub(super) fn on_suspected(
        &self,
        inner: &mut Inner,
        now: Time,
        piece: PieceIndex,
        result: Result<bool, StorageError>,
    ) {
        // A file of ours has its final name by now, and is not to be overwritten: the piece is bad all the same.
        let is_bad = matches!(result, Ok(false) | Err(StorageError::ForeignData { .. }));
        if is_bad {
            self.take_back(inner, now, piece);
            self.tell_bad(inner);
        } else if let Err(error) = result {
            self.warn(&error.to_string());
        }
    }

    pub(super) fn on_checked(
        &self,
        inner: &mut Inner,
        now: Time,
        piece: PieceIndex,
        result: Result<bool, StorageError>,
    ) {
        inner.disk.doubted.under_way -= 1;
        match result {
            Ok(true) => inner.core.handle_piece_checked(now, piece, true),
            Ok(false) => self.on_bad(inner, now, piece),
            Err(error) if self.options.mode == Mode::Seed => {
                self.warn(&error.to_string());
                self.on_bad(inner, now, piece);
            }
            Err(error) if error.may_pass() => {
                inner.disk.doubted.waiting.push_back(piece);
                self.on_disk_error(inner, now, error);
            }
            Err(error) => {
                self.on_bad(inner, now, piece);
                self.fail(error.into());
            }
        }
        self.check_doubted(inner);
        self.tell_bad(inner);
    }

    fn on_bad(&self, inner: &mut Inner, now: Time, piece: PieceIndex) {
        tracing::debug!(%piece, "a piece that was there is bad");
        for segment in self.content().metainfo.info.segments(piece) {
            if !self.content().metainfo.info.files[segment.file.idx()].attr.pad {
                *inner.disk.doubted.bad.entry(segment.file).or_default() += 1;
            }
        }
        self.look_at_bad_files_later(inner, now);
        inner.core.handle_piece_checked(now, piece, false);
        self.serve_readers(inner);
    }

    /// What is not downloaded any more may be put right by somebody.
    pub(super) fn look_at_bad_files_later(&self, inner: &mut Inner, now: Time) {
        if !self.content().storage.is_downloading() {
            inner.disk.doubted.look_at.get_or_insert(now + LOOK_INTERVAL);
        }
    }

    pub(super) fn look_at_bad_files_if_due(&self) {
        let now = self.context.now();
        let doubted = &mut self.inner.borrow_mut().disk.doubted;
        if doubted.look_at.is_some_and(|at| at <= now) {
            doubted.look_at = None;
            self.submit(Lane::Check, |storage| DiskResult::BadFiles(storage.look_at_bad_files()));
        }
    }

    pub(super) fn on_bad_files(&self, inner: &mut Inner, now: Time, result: Result<bool, StorageError>) {
        // A folder that cannot be looked into may be back later.
        if result.unwrap_or(true) {
            self.look_at_bad_files_later(inner, now);
        }
    }

    /// Once all has been looked at, says what was bad.
    fn tell_bad(&self, inner: &mut Inner) {
        if inner.disk.doubted.is_over() {
            for (file, pieces) in std::mem::take(&mut inner.disk.doubted.bad) {
                let path = self.file_path(file);
                tracing::debug!(path, pieces, "data was found bad, and is no longer offered");
                self.emit(Event::DataBad { file, path, pieces });
            }
        }
    }

    fn file_path(&self, file: FileIndex) -> String {
        self.content().metainfo.info.files[file.idx()].path.join("/")
    }
}

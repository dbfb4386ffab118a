//! Pieces that may no longer be what was verified: withdrawn, hashed again, and offered again or named.

use super::disk::DiskResult;
use super::event::Event;
use super::options::Mode;
use super::torrent::{Content, Inner, TorrentDriver};
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
        let storage = &self.content().storage;
        let is_wanted = |piece: &PieceIndex| storage.is_downloading() || storage.mends(*piece);
        let (wanted, others): (Vec<PieceIndex>, Vec<PieceIndex>) =
            pieces.iter().copied().partition(is_wanted);
        for (pieces, is_wanted) in [(wanted, true), (others, false)] {
            if !pieces.is_empty() {
                inner.core.handle_pieces_doubted(now, &pieces, is_wanted);
            }
        }
        for &piece in pieces {
            self.fail_unchecked(inner, now, piece, StorageError::Changed { path: storage.path() });
        }
    }

    /// Looks at the next ones, unless the disk fails just now. What a seed may not mend keeps it from reading nothing.
    pub(super) fn check_doubted(&self, inner: &mut Inner) {
        if inner.disk.stalled_by().is_some() && self.options.mode != Mode::Seed {
            return;
        }
        let doubted = &mut inner.disk.doubted;
        while doubted.under_way < self.context.workers.at_once() * 2
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
        match result {
            Ok(true) => {}
            // A file of ours has its final name by now, and is not to be overwritten: the piece is bad all the same.
            Ok(false) | Err(StorageError::ForeignData { .. }) => self.on_rot(inner, now, piece),
            // That has been told of already.
            Err(StorageError::Changed { .. }) => {}
            Err(error) => {
                self.warn(&error.to_string());
                if self.is_lost(piece, &error) {
                    self.on_rot(inner, now, piece);
                }
            }
        }
    }

    /// Whether the disk does not give a piece, and it is had no longer. An embedder's storage may give it the next time.
    pub(super) fn is_lost(&self, piece: PieceIndex, error: &StorageError) -> bool {
        error.is_unreadable() && !self.content().storage.has(piece)
    }

    /// A piece that counted as had is bad.
    pub(super) fn on_rot(&self, inner: &mut Inner, now: Time, piece: PieceIndex) {
        if !inner.core.have().has(piece) {
            // It was found out otherwise meanwhile.
            let path = self.content().storage.path();
            return self.fail_unchecked(inner, now, piece, StorageError::Changed { path });
        }
        // Whoever waits for it to be checked waits for it to be here again, if it may be.
        let waiting = inner.disk.unchecked().waiting.get_mut(&piece);
        let parts = waiting.map(|waiting| std::mem::take(&mut waiting.parts)).unwrap_or_default();
        if !parts.is_empty() {
            inner.readers.waiting.entry(piece).or_default().extend(parts);
        }
        self.take_back(inner, now, piece);
        self.tell_bad(inner);
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
            Err(error) if self.options.mode == Mode::Seed || error.is_unreadable() => {
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
        self.context.torrents.note_download(self.info_hash);
        inner.core.set_pressure(now, self.context.pressure.get());
        tracing::debug!(%piece, "a piece that was there is bad");
        let Content { storage, metainfo, .. } = self.content();
        let is_mended = storage.mends(piece);
        for segment in metainfo.info.segments(piece) {
            if !metainfo.info.files[segment.file.idx()].attr.pad {
                let (pieces, is_refetched) = inner.disk.doubted.bad.entry(segment.file).or_default();
                *pieces += 1;
                *is_refetched |= is_mended || storage.is_downloading();
            }
        }
        if is_mended {
            inner.disk.unchecked().mending.insert(piece);
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
            for (file, (pieces, refetched)) in std::mem::take(&mut inner.disk.doubted.bad) {
                let path = self.file_path(file);
                tracing::debug!(path, pieces, "data was found bad, and is no longer offered");
                self.emit(Event::DataBad { file, path, pieces, refetched });
            }
        }
    }

    /// A piece that was bad has been fetched again into its files.
    pub(super) fn tell_mended(&self, piece: PieceIndex) {
        let info = &self.content().metainfo.info;
        for segment in info.segments(piece).filter(|segment| !info.files[segment.file.idx()].attr.pad) {
            let path = self.file_path(segment.file);
            tracing::debug!(%piece, path, "data that was bad has been fetched again");
            self.emit(Event::DataMended { file: segment.file, path, piece });
        }
    }

    fn file_path(&self, file: FileIndex) -> String {
        self.content().metainfo.info.files[file.idx()].path.join("/")
    }
}

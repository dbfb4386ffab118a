//! Pieces that saved state vouches for: nobody is sent any of them before this process has hashed them, since files rot without any sign.
//!
//! What is asked for waits, as it does for the disk.

use super::disk::{DiskResult, WaitingForCheck};
use super::torrent::{Inner, TorrentDriver};
use crate::hash::Lane;
use crate::storage::{Checked, Prepared, StorageError};
use std::io;
use std::ops::Range;
use swarm_core::id::{PeerKey, PieceIndex};
use swarm_core::time::Time;

/// How much a worker is given at a time, in bytes: whoever asks for the first piece waits for the last one too.
const ASKED_LEN: u32 = 16 << 20;

impl TorrentDriver {
    /// Has a range of a piece brought into memory, after its piece has been checked.
    pub(super) fn prepare_checked(&self, inner: &mut Inner, piece: PieceIndex, range: Range<u32>) {
        if self.is_checked(piece) {
            return self.submit_prepare((piece, range.start), range);
        }
        inner.disk.unchecked().ask_now(piece).ranges.push(range);
        self.check_unchecked(inner);
    }

    /// Whether a piece may be sent. A worker may have found it bad just now, and its word of that be on its way.
    pub(super) fn is_checked(&self, piece: PieceIndex) -> bool {
        let storage = &self.content().storage;
        // In this order: what is found bad is no longer unchecked, and no longer had.
        !storage.is_unchecked(piece) && storage.has(piece)
    }

    /// Has all pieces checked that a peer has asked for: they are to be right by the time it is their turn.
    pub(super) fn check_ahead(&self, inner: &mut Inner, key: PeerKey) {
        let Some(peer) = inner.core.peer(key) else { return };
        let mut pieces: Vec<PieceIndex> = Vec::new();
        for block in peer.upload_queue() {
            if pieces.last() != Some(&block.piece) {
                pieces.push(block.piece);
            }
        }
        self.content().storage.retain_unchecked(&mut pieces);
        if pieces.is_empty() {
            return;
        }
        for piece in pieces {
            inner.disk.unchecked().ask(piece);
        }
        self.check_unchecked(inner);
    }

    /// Gives what was asked for to the workers: while they are busy, more comes together. What nobody waits for yet leaves a worker to
    /// those who do.
    pub(super) fn check_unchecked(&self, inner: &mut Inner) {
        let most = (ASKED_LEN / inner.core.geometry().piece_len()).max(1) as usize;
        let unchecked = inner.disk.unchecked();
        while !unchecked.asked.is_empty() {
            let jobs_max = if unchecked.is_urgent() { self.context.workers.at_once() } else { 1 };
            if unchecked.under_way >= jobs_max {
                return;
            }
            unchecked.under_way += 1;
            let pieces: Vec<_> = unchecked.asked.drain(..unchecked.asked.len().min(most)).collect();
            self.submit(Lane::Transfer, move |storage| {
                DiskResult::Unchecked(storage.check_unchecked(&pieces))
            });
        }
    }

    pub(super) fn on_unchecked(&self, inner: &mut Inner, now: Time, results: Vec<Checked>) {
        inner.disk.unchecked().under_way -= 1;
        for Checked { piece, result, bytes } in results {
            match result {
                Ok(true) => self.on_found_right(inner, now, piece, bytes),
                Ok(false) | Err(StorageError::ForeignData { .. }) => self.on_rot(inner, now, piece),
                Err(error) if self.is_lost(piece, &error) => {
                    self.warn(&error.to_string());
                    self.on_rot(inner, now, piece);
                }
                Err(error) => self.fail_unchecked(inner, now, piece, error),
            }
        }
        self.check_unchecked(inner);
    }

    /// What waits for this piece goes on. What has been read to be checked need not be brought into memory again.
    fn on_found_right(&self, inner: &mut Inner, now: Time, piece: PieceIndex, bytes: Option<Prepared>) {
        let Some(WaitingForCheck { ranges, parts }) = inner.disk.unchecked().waiting.remove(&piece) else {
            return;
        };
        parts.into_iter().for_each(|part| self.read_part(inner, part));
        match bytes.filter(|_| self.is_checked(piece)) {
            Some(bytes) if ranges.is_empty() => self.on_prepared(inner, now, (piece, 0), Ok(bytes)),
            Some(bytes) => ranges.into_iter().for_each(|range| {
                self.on_prepared(inner, now, (piece, range.start), Ok(bytes.clone()));
            }),
            None => ranges.into_iter().for_each(|range| self.submit_prepare((piece, range.start), range)),
        }
    }

    /// What waits for a piece is not to be had now.
    pub(super) fn fail_unchecked(
        &self,
        inner: &mut Inner,
        now: Time,
        piece: PieceIndex,
        error: StorageError,
    ) {
        let Some(WaitingForCheck { ranges, parts }) = inner.disk.unchecked().waiting.remove(&piece) else {
            return;
        };
        for part in parts {
            let _ = part.reply.send(Err(io::Error::other(error.to_string())));
        }
        let mut error = Some(error);
        for range in ranges {
            // It is told of once.
            let error =
                error.take().unwrap_or_else(|| StorageError::Changed { path: self.content().storage.path() });
            self.on_prepared(inner, now, (piece, range.start), Err(error));
        }
    }
}

//! Reading pieces to find out whether they are right: those in doubt, those that an earlier run vouches for, and all of them over time.
//!
//! What the saved state vouches for is *unchecked* until this process has read it: a file can rot without any sign. Such a piece is
//! hashed before any of it is sent, several side by side where that is quicker ([`Storage::check_unchecked`]).

use super::batch::Cost;
use super::bulk::hash_range;
use super::error::StorageError;
use super::prepared::Prepared;
use super::read::{Located, Use};
use super::scan::{MAP_LEN_MIN, zeros};
use super::table::Place;
use super::{FileStorage, Storage, lock, sys};
use crate::hash::PieceHasher;
use crate::hash::lanes::{Algorithm as _, Sha1Lanes, Sha256Lanes};
use crate::hash::piece::piece_hashes;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::metainfo::{Format, PieceHash};

/// Pieces that nobody has asked for yet are checked beside those that are, up to so many bytes together, if the system has them in
/// memory: nobody waits long for them, and hardly anything is read from a disk in vain.
const BATCH_LEN_MAX: u64 = 64 << 20;
/// So many pieces are looked at to find those.
const LOOKED_AT_MAX: usize = 1 << 14;
/// So much of what is checked together is read into our own memory at most, in bytes.
const OWNED_MAX: u64 = 8 << 20;
/// As many small pieces are checked together as hold this many bytes.
const BATCH_LEN_MIN: u32 = 1 << 20;
/// What a disk did not give is tried again after this.
const UNREADABLE_RETRY: Duration = Duration::from_secs(600);
/// A scrub reads so much at a time, in bytes.
const SCRUB_CHUNK: usize = 256 << 10;
/// How much a scrub reads until where it is is saved, in bytes.
const SCRUBBED_SAVED_EVERY: u64 = 4 << 30;

/// What was found of a piece.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) piece: PieceIndex,
    /// Whether it is right.
    pub(crate) result: Result<bool, StorageError>,
    /// All of a piece that is right, ready to be sent: it is where it was read from.
    pub(crate) bytes: Option<Prepared>,
}

impl Checked {
    pub(crate) fn new(piece: PieceIndex, result: Result<bool, StorageError>) -> Checked {
        Checked { piece, result, bytes: None }
    }
}

impl FileStorage {
    /// See [`Storage::check_piece`].
    pub(super) fn check_one(&self, piece: PieceIndex) -> Result<bool, StorageError> {
        let changes = self.table().changes;
        let hash = self.hash_piece(piece);
        self.take_checked(piece, hash, changes)
    }

    /// See [`Storage::check_pieces`].
    pub(super) fn check_side_by_side(
        &self,
        pieces: &[PieceIndex],
        goes_on: &(dyn Fn() -> bool + Sync),
    ) -> Vec<Result<bool, StorageError>> {
        let changes = self.table().changes;
        let hashes = self.hash_side_by_side(pieces, goes_on);
        let check = |(&piece, hash)| match hash {
            Some(hash) => self.take_checked(piece, Ok(Some(hash)), changes),
            // Another look says why, and all that follows from it.
            None => self.check_one(piece),
        };
        pieces.iter().zip(hashes).take_while(|_| goes_on()).map(check).collect()
    }

    /// What those of these pieces hash to that lie in files of their own; `None` for others, and for what could not be read.
    fn hash_side_by_side(
        &self,
        pieces: &[PieceIndex],
        goes_on: &(dyn Fn() -> bool + Sync),
    ) -> Vec<Option<PieceHash>> {
        let mut hashes = vec![None; pieces.len()];
        let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else { return hashes };
        let is_wanted = |piece| pieces.binary_search(&piece).is_ok() && self.is_in_own_files(piece);
        let open = |file: FileIndex| {
            let place = self.table().slots[file.idx()].place;
            match place {
                Place::Pad => Ok(None),
                place => self.open_file(file, place).map(Some).map_err(io::Error::other),
            }
        };
        let found = Mutex::new(&mut hashes);
        let most = Cost::BESIDE_TRANSFERS;
        hash_range(&self.info, first.0..last.0 + 1, 1, most, &is_wanted, &open, &|piece, hash| {
            if let Ok(at) = pieces.binary_search(&piece) {
                lock(&found)[at] = hash.ok();
            }
            goes_on()
        });
        hashes
    }

    /// Whether all of a piece lies in files as they are in the end, or are meant to be. Of what is all padding there may be any number, and
    /// [`Self::hash_piece`] hashes it once.
    fn is_in_own_files(&self, piece: PieceIndex) -> bool {
        let slices = self.locate(piece, 0..self.info.geometry.len_of(piece));
        let is_file = |slice: &Located| matches!(slice.place, Place::Work | Place::Present);
        self.expect_readable(piece).is_ok()
            && slices.iter().any(is_file)
            && slices.iter().all(|slice| is_file(slice) || slice.place == Place::Pad)
    }

    /// What follows from what a piece hashes to, which was read while files had been found changed so many times.
    fn take_checked(
        &self,
        piece: PieceIndex,
        hash: Result<Option<PieceHash>, StorageError>,
        changes: u64,
    ) -> Result<bool, StorageError> {
        let mut unreadable = None;
        let is_right = match hash {
            Ok(hash) if hash.is_some_and(|hash| self.info.is_contradicted_by(piece, hash)) => {
                self.note_bad(piece, changes);
                return Err(StorageError::contradiction(&self.info, piece));
            }
            Ok(hash) => hash == Some(self.info.piece_hash(piece)),
            Err(e) if e.is_unreadable() => {
                unreadable = Some(e);
                false
            }
            Err(e) => {
                self.note_bad(piece, changes);
                return Err(e);
            }
        };
        if is_right {
            let work = self.work();
            match &work {
                Some(work) => {
                    self.mark_read(piece);
                    self.add_written(work, piece)?;
                    // Blocks that an earlier run has left of it are of no use any more.
                    self.table().partial.remove(&piece);
                }
                None => self.table().add(&self.info, piece),
            }
            self.table().set_checked(piece);
            self.doubt_if_changed(work.as_deref(), piece, changes)?;
        } else {
            let looks_as_before = self.looks_as_before(piece);
            let was_had = {
                let mut table = self.table();
                table.in_doubt.remove(piece);
                let was_had = table.remove(&self.info, piece);
                if was_had && looks_as_before {
                    table.note_rot(&self.info, piece, self.is_seed);
                }
                was_had
            };
            self.note_bad(piece, changes);
            if let (true, Some(work)) = (was_had, self.work()) {
                work.journal().doubt(&[piece])?;
            }
            match unreadable {
                Some(_) => self.table().bad.retry_at = Some(Instant::now() + UNREADABLE_RETRY),
                None => self.refuse_foreign(piece)?,
            }
        }
        if self.work().is_none() && self.table().in_doubt.count() == 0 {
            // A seed's check is over, and is not repeated if the process is killed. Failing that, `close` tries again.
            let _ = self.save_state().inspect_err(|e| tracing::warn!("{e}"));
        }
        unreadable.map_or(Ok(is_right), Err)
    }

    /// See [`Storage::check_unchecked`].
    pub(super) fn check_together(&self, asked: &[PieceIndex]) -> Vec<Checked> {
        let mut results = Vec::with_capacity(asked.len());
        let mut pieces = Vec::with_capacity(asked.len());
        {
            let mut table = self.table();
            for &piece in asked {
                if table.is_unchecked(piece) {
                    // Whoever checks it already tells.
                    pieces.extend(table.rot().checking.insert(piece).then_some(piece));
                } else if table.have.has(piece) {
                    results.push(Checked::new(piece, Ok(true)));
                } else {
                    let changed = StorageError::Changed { path: self.path() };
                    results.push(Checked::new(piece, Err(changed)));
                }
            }
        }
        self.add_following(&mut pieces);
        let (mut prepared, mut owned) = (Vec::with_capacity(pieces.len()), 0);
        for &piece in &pieces {
            let needed = self.len_in_own_memory(piece);
            if owned + needed > OWNED_MAX {
                self.check_prepared(std::mem::take(&mut prepared), &mut results);
                owned = 0;
            }
            if needed > OWNED_MAX {
                results.push(Checked::new(piece, self.check_one(piece)));
                continue;
            }
            owned += needed;
            match self.prepare_as(piece, 0..self.info.geometry.len_of(piece), Use::Read) {
                Ok(bytes) => prepared.push((piece, bytes)),
                Err(e) if e.is_unreadable() => results.push(Checked::new(piece, self.check_one(piece))),
                Err(e) => results.push(Checked::new(piece, Err(e))),
            }
        }
        self.check_prepared(prepared, &mut results);
        let mut table = self.table();
        pieces.iter().for_each(|piece| {
            table.rot().checking.remove(piece);
        });
        results
    }

    fn check_prepared(&self, prepared: Vec<(PieceIndex, Prepared)>, results: &mut Vec<Checked>) {
        let hashes = self.hash_together(&prepared);
        for ((piece, bytes), hash) in prepared.into_iter().zip(hashes) {
            if hash == Some(self.info.piece_hash(piece)) {
                self.table().set_checked(piece);
                // What is in our own memory is not to stay there until somebody asks for it.
                let bytes = Some(bytes).filter(|bytes| bytes.owned_bytes() == 0);
                results.push(Checked { piece, result: Ok(true), bytes });
            } else {
                // Another look says what is wrong, and all that follows from it.
                results.push(Checked::new(piece, self.check_one(piece)));
            }
        }
    }

    /// How much of a piece is not mapped to be read, in bytes.
    fn len_in_own_memory(&self, piece: PieceIndex) -> u64 {
        let slices = self.locate(piece, 0..self.info.geometry.len_of(piece)).into_iter();
        slices
            .filter(|slice| slice.place != Place::Pad && !self.is_mapped(slice))
            .map(|slice| slice.len)
            .sum()
    }

    fn is_mapped(&self, slice: &Located) -> bool {
        cfg!(target_os = "linux")
            && matches!(slice.place, Place::Work | Place::Present)
            && self.entry(slice.file).length >= MAP_LEN_MIN
    }

    /// Adds pieces that follow these, as many as there are lanes for.
    fn add_following(&self, pieces: &mut Vec<PieceIndex>) {
        let piece_len = self.info.geometry.piece_len();
        let lanes = match self.info.format() {
            Format::V2 => Sha256Lanes::choice().kernel.lanes() as u32 * BLOCK_LEN / piece_len,
            Format::V1 | Format::Hybrid => Sha1Lanes::choice().kernel.lanes() as u32,
        };
        let most = match lanes {
            0 | 1 => return,
            lanes => (BATCH_LEN_MIN / piece_len).max(lanes) as usize,
        };
        let most = most.min((BATCH_LEN_MAX / u64::from(piece_len)) as usize);
        let Some(&first) = pieces.first() else { return };
        for piece in self.next_unchecked(first, 2 * most) {
            if pieces.len() >= most {
                return;
            }
            if self.is_worth_adding(piece) && self.table().rot().checking.insert(piece) {
                pieces.push(piece);
            }
        }
    }

    /// So many unchecked pieces that nobody checks now, from this one on and then from the first; not for a long search.
    fn next_unchecked(&self, first: PieceIndex, most: usize) -> Vec<PieceIndex> {
        let table = self.table();
        let Some(rot) = &table.rot else { return Vec::new() };
        let is_free = |piece: &PieceIndex| rot.unchecked.has(*piece) && !rot.checking.contains(piece);
        let all = (first.0..rot.unchecked.len()).chain(0..first.0).map(PieceIndex);
        all.take(LOOKED_AT_MAX).filter(is_free).take(most).collect()
    }

    /// Whether a piece that is to be checked some time is in memory now.
    fn is_worth_adding(&self, piece: PieceIndex) -> bool {
        let slices = self.locate(piece, 0..self.info.geometry.len_of(piece));
        let is_here = |slice: &Located| self.is_mapped(slice) && self.is_in_memory(slice);
        slices.iter().all(|slice| slice.place == Place::Pad || is_here(slice))
    }

    /// What these hash to; `None` for what could not be read.
    fn hash_together(&self, prepared: &[(PieceIndex, Prepared)]) -> Vec<Option<PieceHash>> {
        let watched: Vec<_> = prepared.iter().map(|(_, bytes)| bytes.watch()).collect();
        let guarded = || prepared.iter().zip(&watched).filter(|(_, watched)| watched.is_some());
        let shapes: Vec<_> = guarded().map(|((piece, _), _)| self.info.piece_shape(*piece)).collect();
        let parts: Vec<Vec<&[u8]>> = guarded()
            .map(|((piece, bytes), _)| bytes.slices(0, self.info.geometry.len_of(*piece)).collect())
            .collect();
        let mut hashes = piece_hashes(&shapes, &parts).into_iter();
        let found = prepared.iter().zip(&watched).map(|((_, bytes), watched)| {
            let watched = watched.as_ref()?;
            let hash = hashes.next();
            if watched.iter().any(|watched| watched.has_hole()) {
                bytes.leave_maps();
                return None;
            }
            hash
        });
        found.collect()
    }

    /// See [`Storage::scrub_piece`].
    pub(super) fn scrub_one(&self, piece: PieceIndex) -> Result<bool, StorageError> {
        self.check_saved_state_sometimes()?;
        let is_had = self.has(piece);
        let is_right = is_had && self.hash_from_disk(piece)? == Some(self.info.piece_hash(piece));
        // Another look says what is wrong, and all that follows from it.
        let is_right = if is_had && !is_right { self.check_one(piece)? } else { is_right };
        let is_due = {
            let mut table = self.table();
            let read = u64::from(self.info.geometry.len_of(piece));
            let scrubbed = &mut table.rot().scrubbed;
            *scrubbed = (PieceIndex((piece.0 + 1) % self.info.geometry.pieces()), scrubbed.1 + read);
            let is_due = scrubbed.1 >= SCRUBBED_SAVED_EVERY;
            if is_right {
                table.set_checked(piece);
            }
            table.is_unsaved |= is_due;
            is_due && self.is_seed
        };
        if is_due {
            let _ = self.save_state().inspect_err(|e| tracing::warn!("{e}"));
        }
        Ok(is_right)
    }

    /// As [`Self::hash_piece`], from the disk as far as the system lets us, and so that it keeps in memory what it had there and no more.
    fn hash_from_disk(&self, piece: PieceIndex) -> Result<Option<PieceHash>, StorageError> {
        let mut hasher = PieceHasher::new(self.info.piece_shape(piece));
        let mut buf = Vec::new();
        for slice in self.locate(piece, 0..self.info.geometry.len_of(piece)) {
            self.look_before_reading(&slice)?;
            if slice.place == Place::Pad {
                zeros(slice.len, |bytes| hasher.update(bytes));
                continue;
            }
            let (file, offset) = self.source(&slice)?;
            let was_in_memory =
                matches!(slice.place, Place::Work | Place::Present) && self.is_in_memory(&slice);
            sys::forget_cached(&file, offset, slice.len);
            buf.resize(SCRUB_CHUNK.min(slice.len as usize).max(buf.len()), 0);
            for at in (0..slice.len).step_by(SCRUB_CHUNK) {
                let chunk = &mut buf[..SCRUB_CHUNK.min((slice.len - at) as usize)];
                let read = sys::read_at(&file, chunk, offset + at)
                    .map_err(|e| StorageError::io(&self.path_of(slice.file, slice.place), "read", e))?;
                if read < chunk.len() {
                    return Ok(None);
                }
                hasher.update(chunk);
            }
            if !was_in_memory {
                sys::forget_cached(&file, offset, slice.len);
            }
        }
        Ok(Some(hasher.finish()))
    }

    /// Whether a piece lies in complete files, and these look as they did when it was found right.
    fn looks_as_before(&self, piece: PieceIndex) -> bool {
        let slices = self.locate(piece, 0..self.info.geometry.len_of(piece));
        let is_downloading = self.is_downloading();
        let looks_as_before = slices.iter().all(|slice| match slice.place {
            Place::Pad => true,
            Place::Present => {
                let expected = self.table().stamps[slice.file.idx()];
                expected.is_some() && self.look_at_present(slice.file).is_ok_and(|found| found == expected)
            }
            // What is still written is written anyway.
            _ => is_downloading,
        });
        looks_as_before && slices.iter().any(|slice| slice.place == Place::Present)
    }

    /// Whether the piece is bad, was right when its files looked as they do, and may be written in its place.
    pub(super) fn mends_piece(&self, piece: PieceIndex) -> bool {
        self.may_mend.load(Ordering::Relaxed) && self.table().is_rotten(piece)
    }
}

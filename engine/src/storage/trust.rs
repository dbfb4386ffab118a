//! Whether files are still what we left them, and what follows if they are not.
//!
//! A file's length, modification time and inode number (its *stamp*) are noted when it is first seen and after whatever we do to it. A
//! file that looks otherwise was changed by another program: its pieces are put in doubt, and the caller checks them again. A hard link
//! or a mode is no change, and neither is allocation, which some file systems change by themselves; but where a file has been
//! written there should be no holes.

use super::error::StorageError;
use super::read::Located;
use super::sys::{self, Stamp};
use super::table::{Place, pieces_in};
use super::tree::Access;
use super::work::Work;
use super::{FileStorage, Mutex, lock};
use std::fs::File;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, OnceLock};
use std::time::{Duration, Instant};
use swarm_core::id::{FileIndex, PieceIndex};

/// Files share so many locks.
const LOCKS: usize = 64;
/// How often a seed looks whether its saved state is still there.
const STATE_INTERVAL: Duration = Duration::from_secs(2);

/// Held while a file is written to, so that a comparison with its stamp does not take our own change for another program's.
/// The system writes to one file one after the other anyway.
#[derive(Debug, Default)]
pub(super) struct Writing(OnceLock<Box<[Mutex<()>]>>);

impl Writing {
    fn lock_of(&self, file: FileIndex) -> &Mutex<()> {
        let locks = self.0.get_or_init(|| (0..LOCKS).map(|_| Mutex::default()).collect());
        &locks[file.idx() % LOCKS]
    }

    pub(super) fn lock(&self, file: FileIndex) -> MutexGuard<'_, ()> {
        lock(self.lock_of(file))
    }

    /// `None` if it is being written to.
    fn try_lock(&self, file: FileIndex) -> Option<MutexGuard<'_, ()>> {
        self.lock_of(file).try_lock().ok()
    }
}

impl FileStorage {
    /// Notes how an open file in the work folder looks after we have changed it. The file's lock is held.
    pub(super) fn note_stamp(&self, file: FileIndex, unfinished: &File) -> Result<Stamp, StorageError> {
        let failed = |e| StorageError::io(&self.path_of(file, Place::Work), "look at", e);
        let stamp = Stamp::of(&unfinished.metadata().map_err(failed)?);
        self.table().stamps[file.idx()] = Some(stamp);
        Ok(stamp)
    }

    /// Whether an open file in the work folder is as we left it; if not, its pieces are in doubt now. The file's lock is held.
    pub(super) fn expect_unchanged(
        &self,
        work: &Work,
        file: FileIndex,
        unfinished: &File,
    ) -> Result<(), StorageError> {
        let before = self.table().stamps[file.idx()];
        let now = self.note_stamp(file, unfinished)?;
        if before.is_some_and(|before| before != now) {
            self.doubt_file(Some(work), file)?;
        }
        Ok(())
    }

    /// The same for what has the file's name in the work folder now, whatever it is. A file that was removed, cut or
    /// lengthened is made whole again, so that its pieces can be written.
    pub(super) fn check_unfinished(&self, work: &Work, file: FileIndex) -> Result<bool, StorageError> {
        let _writing = self.writing.lock(file);
        self.check_locked(work, file)
    }

    fn check_locked(&self, work: &Work, file: FileIndex) -> Result<bool, StorageError> {
        let (expected, is_reserved) = {
            let table = self.table();
            let slot = &table.slots[file.idx()];
            if slot.place != Place::Work {
                return Ok(true);
            }
            (table.stamps[file.idx()], slot.is_reserved)
        };
        let Some(expected) = expected else { return Ok(true) };
        let unfinished = work.folder.unfinished(file);
        if self.tree.find(&unfinished)?.stamp() == Some(expected) {
            return Ok(true);
        }
        work.folder.check_in_place()?;
        self.handles.forget_file(self.id, file.0);
        self.table().stamps[file.idx()] = None;
        self.doubt_file(Some(work), file)?;
        work.folder.drop_linked(file)?;
        if is_reserved {
            self.table().slots[file.idx()].is_reserved = false;
            self.allocate(work, file)?;
            self.table().slots[file.idx()].is_reserved = true;
        } else if let Ok(unfinished) = self.tree.open(&unfinished, Access::Read) {
            self.note_stamp(file, &unfinished)?;
        }
        Ok(false)
    }

    /// Puts the pieces of a file in doubt.
    pub(super) fn doubt_file(&self, work: Option<&Work>, file: FileIndex) -> Result<(), StorageError> {
        let pieces = pieces_in(&self.info, self.entry(file));
        let doubted = {
            let mut table = self.table();
            table.changes += 1;
            table.new_doubts.files.push(file);
            for piece in pieces.clone() {
                table.set_rotten(piece, false);
            }
            let slot = &mut table.slots[file.idx()];
            slot.has_holes = false;
            let was_verified = std::mem::take(&mut slot.is_verified) && slot.is_wanted;
            if was_verified && !self.is_seed {
                // Its edges were not needed as long as it was known to be right as a whole.
                for piece in pieces.clone() {
                    table.needed.insert(piece);
                }
                let unknown: Vec<_> = pieces.clone().filter(|&p| !table.have.has(p)).collect();
                table.new_doubts.pieces.extend(unknown);
            }
            if work.is_none() {
                table.bad.files.remove(&file);
                table.doubt_bad(pieces.clone());
            }
            table.doubt(&self.info, pieces)
        };
        match work {
            Some(work) => work.journal().doubt(&doubted),
            None => Ok(()),
        }
    }

    /// Puts those pieces of a complete file in doubt that lie in holes. A file system that does not store zeros has holes
    /// where there is nothing wrong: this is done once for a file.
    pub(super) fn doubt_holes(&self, work: &Work, file: FileIndex) -> Result<bool, StorageError> {
        let entry = self.entry(file);
        if self.table().slots[file.idx()].has_holes {
            return Ok(true);
        }
        let unfinished = self.open_file(file, Place::Work)?;
        let piece_len = u64::from(self.info.geometry.piece_len());
        let (mut offset, mut pieces) = (0, Vec::new());
        while let Some(hole) = sys::find_hole(&unfinished, offset, entry.length) {
            let piece = (entry.offset + hole) / piece_len;
            pieces.push(PieceIndex(piece as u32));
            offset = (piece + 1) * piece_len - entry.offset;
        }
        let doubted = {
            let mut table = self.table();
            table.slots[file.idx()].has_holes = true;
            table.doubt(&self.info, pieces.into_iter())
        };
        work.journal().doubt(&doubted)?;
        Ok(doubted.is_empty())
    }

    /// Compares a file under its final name with how it looked; if it differs, its pieces are in doubt.
    fn check_present(&self, file: FileIndex) -> Result<bool, StorageError> {
        let Some(expected) = self.table().stamps[file.idx()] else { return Ok(true) };
        let found = self.look_at_present(file)?;
        if found == Some(expected) {
            return Ok(true);
        }
        {
            let mut table = self.table();
            if table.stamps[file.idx()] != Some(expected) {
                // Another thread has noticed it meanwhile.
                return Ok(false);
            }
            // With the time of now: what changes while it is checked is noticed too.
            table.stamps[file.idx()] = found;
        }
        self.handles.forget_file(self.id, file.0);
        self.doubt_file(self.work().as_deref(), file)?;
        Ok(false)
    }

    /// How a file under its final name looks now.
    pub(super) fn look_at_present(&self, file: FileIndex) -> Result<Option<Stamp>, StorageError> {
        let path = &self.entry(file).path;
        if self.is_seed {
            return Ok(Stamp::followed(&self.tree.path_of(path)));
        }
        Ok(self.tree.find(path)?.stamp())
    }

    /// A piece that is checked is bad, or cannot be read.
    pub(super) fn note_bad(&self, piece: PieceIndex, changes: u64) {
        if self.work().is_none() {
            let mut table = self.table();
            table.in_doubt.remove(piece);
            let is_stale = table.changes != changes;
            table.note_bad(&self.info, piece, is_stale);
        }
    }

    /// See [`Storage::look_at_bad_files`](super::Storage::look_at_bad_files).
    pub(super) fn doubt_mended_files(&self) -> Result<bool, StorageError> {
        {
            let mut table = self.table();
            if table.bad.retry_at.take_if(|at| *at <= Instant::now()).is_some() {
                let pieces = table.bad.pieces.clone();
                table.doubt_bad(pieces.into_iter());
            }
        }
        let files: Vec<FileIndex> = self.table().bad.files.keys().copied().collect();
        for file in files {
            let found = self.look_at_present(file)?;
            let is_mended = {
                let mut table = self.table();
                let Some(bad) = table.bad.files.get_mut(&file) else { continue };
                // A copy that goes on is not hashed again and again.
                let is_mended = found != bad.hashed && found == bad.seen;
                bad.seen = found;
                if is_mended {
                    table.stamps[file.idx()] = found;
                }
                is_mended
            };
            if is_mended {
                self.handles.forget_file(self.id, file.0);
                self.doubt_file(None, file)?;
            }
        }
        Ok(!self.table().bad.pieces.is_empty())
    }

    /// Compares every finished file with how it looked.
    pub(super) fn check_all_present(&self) -> Result<(), StorageError> {
        let finished = self.table().files_where(|slot| slot.place == Place::Present && slot.is_wanted);
        finished.into_iter().try_for_each(|file| self.check_present(file).map(drop))
    }

    /// What is about to be sent must be what was verified.
    pub(super) fn look_before_reading(&self, slice: &Located) -> Result<(), StorageError> {
        let is_same = match slice.place {
            Place::Present => self.check_present(slice.file)?,
            Place::Work => match (self.work(), self.writing.try_lock(slice.file)) {
                (Some(work), Some(_writing)) => self.check_locked(&work, slice.file)?,
                _ => true,
            },
            _ => true,
        };
        if is_same {
            return Ok(());
        }
        Err(StorageError::Changed { path: self.final_path(slice.file) })
    }

    /// If `verify` has found something wrong it puts the saved state away: then nothing is trusted any more.
    pub(super) fn check_saved_state(&self) -> Result<(), StorageError> {
        let Some(saved_state) = &self.saved_state else { return Ok(()) };
        if self.work().is_some() || !self.is_saved.load(Ordering::Acquire) || saved_state.exists()? {
            return Ok(());
        }
        if self.is_saved.swap(false, Ordering::AcqRel) {
            tracing::warn!("{}: is gone, all data is checked again", saved_state.path().display());
            self.doubt_all_present()?;
        }
        Ok(())
    }

    /// Puts every finished file in doubt, though it looks as it did.
    pub(super) fn doubt_all_present(&self) -> Result<(), StorageError> {
        let (work, files) = (self.work(), self.table().files_where(|slot| slot.place == Place::Present));
        let had = self.table().have.clone();
        for file in files {
            let rotten: Vec<PieceIndex> = {
                let table = self.table();
                let pieces = pieces_in(&self.info, self.entry(file));
                pieces.filter(|piece| had.has(*piece) || table.is_rotten(*piece)).collect()
            };
            self.doubt_file(work.as_deref(), file)?;
            let mut table = self.table();
            for piece in rotten {
                table.set_rotten(piece, true);
            }
        }
        Ok(())
    }

    /// The same, at most every two seconds.
    pub(super) fn check_saved_state_sometimes(&self) -> Result<(), StorageError> {
        {
            let Ok(mut state_checked) = self.state_checked.try_lock() else { return Ok(()) };
            if state_checked.is_some_and(|at: Instant| at.elapsed() < STATE_INTERVAL) {
                return Ok(());
            }
            *state_checked = Some(Instant::now());
        }
        self.check_saved_state()
    }
}

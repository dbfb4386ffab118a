//! Space is reserved before it is promised, so that a full disk is an answer and not an accident.
//!
//! A download takes all its space at once or none of it: what was reserved before something failed is given back. It leaves a
//! margin to others, and what a volume could never hold is refused.

use super::error::StorageError;
use super::sys::Volume;
use super::table::{Place, Slot};
use super::tree::Access;
use super::work::Work;
use super::{FileStorage, Storage, sys};
use std::collections::BTreeSet;
use swarm_core::id::FileIndex;

/// Journal records beyond those for pieces and files, so that marks and a second try find room.
const SPARE_RECORDS: u64 = 1024;

/// The most that is left to others on a volume, in bytes.
const MARGIN_MAX: u64 = 1 << 30;

/// What a download leaves free on a volume of so many bytes: a hundredth, at most [`MARGIN_MAX`].
fn margin(total: u64) -> u64 {
    (total / 100).min(MARGIN_MAX)
}

impl FileStorage {
    /// See [`Storage::reserve`].
    pub(super) fn reserve_all(&self) -> Result<(), StorageError> {
        let Some(work) = self.work() else { return Ok(()) };
        work.folder.check_in_place()?;
        if self.budget.as_ref().is_some_and(|budget| budget.is_full()) {
            return Err(StorageError::NoSpace { path: self.path(), needed: self.unreserved_bytes() });
        }
        // One that somebody has removed is made again, before it is written to in vain for ever.
        let is_reserved = |slot: &Slot| slot.place == Place::Work && slot.is_wanted && slot.is_reserved;
        let reserved = self.table().files_where(is_reserved);
        reserved.into_iter().try_for_each(|file| self.check_unfinished(&work, file).map(drop))?;
        let unreserved = self.table().files_where(Slot::is_unreserved);
        let unfinished: BTreeSet<FileIndex> = match unreserved.is_empty() {
            true => BTreeSet::new(),
            false => work.folder.unfinished_files()?.into_iter().collect(),
        };
        self.look_for_room(&work, &unreserved, &unfinished)?;
        let reserved = self.reserve_files(&work, &unreserved);
        let is_first = !self.table().is_begun;
        if reserved.is_err() && is_first {
            self.give_back(&work, &unreserved, &unfinished);
        }
        reserved.map_err(|e| self.count_needed(e))?;
        let mut table = self.table();
        table.lacking_bytes = 0;
        table.is_begun = true;
        Ok(())
    }

    /// Whether there is room for what is still needed, and for what the last write lacked, with the margin. What the
    /// system does not say is found out by trying.
    fn look_for_room(
        &self,
        work: &Work,
        unreserved: &[FileIndex],
        unfinished: &BTreeSet<FileIndex>,
    ) -> Result<(), StorageError> {
        let Ok(Volume { total, free }) = sys::volume(self.tree.root()) else { return Ok(()) };
        let mut needed = self.table().lacking_bytes;
        for &file in unreserved {
            let length = self.entry(file).length;
            let taken = match unfinished.contains(&file) {
                true => {
                    let unfinished = self.tree.open(&work.folder.unfinished(file), Access::Read)?;
                    unfinished.metadata().map_or(0, |meta| sys::allocated(&meta))
                }
                false => 0,
            };
            needed = needed.saturating_add(length.saturating_sub(taken));
        }
        if needed == 0 {
            return Ok(());
        }
        if total > 0 && needed.saturating_add(margin(total)) > total {
            return Err(StorageError::TooLarge { path: self.path(), needed, total });
        }
        let lacking = needed.saturating_add(margin(total)).saturating_sub(free);
        if lacking > 0 {
            return Err(StorageError::NoSpace { path: self.path(), needed: lacking });
        }
        Ok(())
    }

    fn reserve_files(&self, work: &Work, unreserved: &[FileIndex]) -> Result<(), StorageError> {
        for &file in unreserved {
            self.table().note_made(file);
            self.reserve_file(work, file)?;
            self.table().slots[file.idx()].is_reserved = true;
        }
        self.reserve_part_file(work)?;
        // A piece that lies in one file takes two records, and one for each more.
        let records = 2 * u64::from(self.info.geometry.pieces()) + 3 * self.info.files.len() as u64;
        work.journal().reserve(records + SPARE_RECORDS)
    }

    /// Gives back what was reserved in vain, before anything was written in this run: files that were not there
    /// before go, others keep what they hold.
    fn give_back(&self, work: &Work, files: &[FileIndex], unfinished: &BTreeSet<FileIndex>) {
        for &file in files {
            self.table().slots[file.idx()].is_reserved = false;
            let given_back = if unfinished.contains(&file) {
                self.release_unfinished(work, file)
            } else {
                self.table().stamps[file.idx()] = None;
                self.tree.remove(&work.folder.unfinished(file))
            };
            if let Err(error) = given_back {
                tracing::warn!(%error, "space could not be given back");
            }
        }
        if let Some(part_file) = work.find_part_file() {
            sys::release_reserved(&part_file);
        }
    }

    /// Creates an unfinished file at its full length.
    pub(super) fn reserve_file(&self, work: &Work, file: FileIndex) -> Result<(), StorageError> {
        let _writing = self.writing.lock(file);
        self.allocate(work, file)
    }

    /// The same while the file's lock is held.
    pub(super) fn allocate(&self, work: &Work, file: FileIndex) -> Result<(), StorageError> {
        let length = self.entry(file).length;
        let unfinished = self.tree.open(&work.folder.unfinished(file), Access::Create)?;
        self.expect_unchanged(work, file, &unfinished)?;
        // Where blocks are shared with another file, some file systems ask for room for all of them once more.
        let reserved = match sys::is_whole(&unfinished, length) {
            true => Ok(()),
            false => sys::reserve(&unfinished, 0, length, false),
        };
        let reserved = reserved.and_then(|()| {
            // One that was taken over may be longer.
            if unfinished.metadata()?.len() > length { unfinished.set_len(length) } else { Ok(()) }
        });
        let stamp = self.note_stamp(file, &unfinished)?;
        work.journal().stamp(file, stamp)?;
        reserved.map_err(|e| StorageError::space(&self.final_path(file), "reserve space for", length, e))
    }

    /// Gives back what is reserved for an unfinished file and not written.
    pub(super) fn release_unfinished(&self, work: &Work, file: FileIndex) -> Result<(), StorageError> {
        let unfinished = self.tree.open(&work.folder.unfinished(file), Access::Write)?;
        let _writing = self.writing.lock(file);
        self.expect_unchanged(work, file, &unfinished)?;
        sys::release_reserved(&unfinished);
        let stamp = self.note_stamp(file, &unfinished)?;
        work.journal().stamp(file, stamp)
    }

    /// Reserves what needed pieces have of unwanted files.
    fn reserve_part_file(&self, work: &Work) -> Result<(), StorageError> {
        let needed: Vec<_> = {
            let table = self.table();
            if !table.slots.iter().any(|slot| slot.place == Place::PartFile) {
                return Ok(());
            }
            table.needed.iter_without(&table.have).collect()
        };
        for piece in needed {
            for slice in self.locate(piece, 0..self.info.geometry.len_of(piece)) {
                if slice.place == Place::PartFile {
                    let offset = self.entry(slice.file).offset + slice.offset;
                    sys::reserve(&*work.part_file()?, offset, slice.len, true).map_err(|e| {
                        StorageError::space(&work.folder.part_file_path(), "reserve", slice.len, e)
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Says how much is needed in all, not just for the file that came too late.
    fn count_needed(&self, e: StorageError) -> StorageError {
        match e {
            StorageError::NoSpace { path, needed } => {
                StorageError::NoSpace { path, needed: needed.max(self.unreserved_bytes()) }
            }
            e => e,
        }
    }

    fn unreserved_bytes(&self) -> u64 {
        let table = self.table();
        let files = table.slots.iter().zip(&self.info.files);
        files.filter(|(slot, _)| slot.is_unreserved()).map(|(_, file)| file.length).sum()
    }
}

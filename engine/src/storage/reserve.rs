//! Space is reserved before it is promised, so that a full disk is an answer and not an accident.
//!
//! A download takes all its space at once or none of it: what was reserved before something failed is given back. It leaves a
//! margin to others, and what a volume could never hold is refused.

use super::error::StorageError;
use super::sys::Volume;
use super::table::Place;
use super::tree::Access;
use super::work::Work;
use super::{FileStorage, Storage, sys};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
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
        for i in 0..self.info.files.len() {
            let is_reserved = {
                let slot = &self.table().slots[i];
                slot.place == Place::Work && slot.is_wanted && slot.is_reserved
            };
            if is_reserved {
                self.check_part(&work, FileIndex(i as u32))?;
            }
        }
        let unreserved: Vec<FileIndex> = {
            let table = self.table();
            let slots = table.slots.iter().enumerate();
            let unreserved =
                slots.filter(|(_, slot)| slot.place == Place::Work && slot.is_wanted && !slot.is_reserved);
            unreserved.map(|(i, _)| FileIndex(i as u32)).collect()
        };
        let parts: BTreeSet<FileIndex> = match unreserved.is_empty() {
            true => BTreeSet::new(),
            false => work.folder.parts()?.into_iter().collect(),
        };
        self.look_for_room(&work, &unreserved, &parts)?;
        let reserved = self.reserve_files(&work, &unreserved);
        let is_first = !self.table().is_begun;
        if reserved.is_err() && is_first {
            self.give_back(&work, &unreserved, &parts);
        }
        reserved.map_err(|e| self.count_needed(e))?;
        let mut table = self.table();
        table.lacking_bytes = 0;
        table.is_begun = true;
        Ok(())
    }

    /// Whether there is room for what is still needed, and for what the last write lacked, with the margin. What the
    /// system does not tell is found out by trying.
    fn look_for_room(
        &self,
        work: &Work,
        unreserved: &[FileIndex],
        parts: &BTreeSet<FileIndex>,
    ) -> Result<(), StorageError> {
        let Ok(Volume { total, free }) = sys::volume(self.tree.root()) else { return Ok(()) };
        let mut needed = self.table().lacking_bytes;
        for &file in unreserved {
            let length = self.entry(file).length;
            let taken = match parts.contains(&file) {
                true => {
                    let part = self.tree.open(&work.folder.part(file), Access::Read)?;
                    part.metadata().map_or(0, |meta| sys::allocated(&meta))
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
        self.reserve_side(work)?;
        // A piece that lies in one file takes two records, and one for each more.
        let records = 2 * u64::from(self.info.geometry.pieces()) + 3 * self.info.files.len() as u64;
        work.journal().reserve(records + SPARE_RECORDS)
    }

    /// Gives back what was reserved in vain, before anything was written in this run: files that were not there
    /// before go, others keep what they hold.
    fn give_back(&self, work: &Work, files: &[FileIndex], parts: &BTreeSet<FileIndex>) {
        for &file in files {
            self.table().slots[file.idx()].is_reserved = false;
            let path = work.folder.part(file);
            let given_back = match parts.contains(&file) {
                true => self.release_part(work, file),
                false => self.tree.remove(&path),
            };
            if !parts.contains(&file) {
                self.table().stamps[file.idx()] = None;
            }
            if let Err(error) = given_back {
                tracing::warn!(%error, "space could not be given back");
            }
        }
        if let Some(side) = work.find_side() {
            sys::release_reserved(&side);
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
        let part = self.tree.open(&work.folder.part(file), Access::Create)?;
        let set = |part: &File| -> io::Result<()> {
            sys::reserve(part, 0, length, false)?;
            // One that was taken over may be longer.
            if part.metadata()?.len() > length { part.set_len(length) } else { Ok(()) }
        };
        self.expect_unchanged(work, file, &part)?;
        let reserved = set(&part).map_err(|e| self.reserve_error(file, length, e));
        let stamp = self.note_stamp(file, &part)?;
        work.journal().stamp(file, stamp)?;
        reserved
    }

    /// Gives back what is reserved for an unfinished file and not written.
    pub(super) fn release_part(&self, work: &Work, file: FileIndex) -> Result<(), StorageError> {
        let part = self.tree.open(&work.folder.part(file), Access::Write)?;
        let _writing = self.writing.lock(file);
        self.expect_unchanged(work, file, &part)?;
        sys::release_reserved(&part);
        let stamp = self.note_stamp(file, &part)?;
        work.journal().stamp(file, stamp)
    }

    /// Reserves what needed pieces have of unwanted files.
    fn reserve_side(&self, work: &Work) -> Result<(), StorageError> {
        let needed: Vec<_> = {
            let table = self.table();
            if !table.slots.iter().any(|slot| slot.place == Place::Side) {
                return Ok(());
            }
            table.needed.iter().filter(|&piece| !table.have.has(piece)).collect()
        };
        for piece in needed {
            for slice in self.locate(piece, 0..self.info.geometry.len_of(piece)) {
                if slice.place == Place::Side {
                    let offset = self.entry(slice.file).offset + slice.offset;
                    sys::reserve(&*work.side()?, offset, slice.len, true).map_err(|e| {
                        StorageError::space(&work.folder.side_path(), "reserve", slice.len, e)
                    })?;
                }
            }
        }
        Ok(())
    }

    fn reserve_error(&self, file: FileIndex, length: u64, e: io::Error) -> StorageError {
        StorageError::space(&self.final_path(file), "reserve space for", length, e)
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
        let slots = table.slots.iter().zip(&self.info.files);
        let unreserved =
            slots.filter(|(slot, _)| slot.place == Place::Work && slot.is_wanted && !slot.is_reserved);
        unreserved.map(|(_, file)| file.length).sum()
    }
}

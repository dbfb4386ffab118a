//! Space is reserved before it is promised, so that a full disk is an answer and not an accident.

use super::error::StorageError;
use super::table::Place;
use super::tree::Access;
use super::work::Work;
use super::{Storage, sys};
use std::fs::File;
use std::io;
use swarm_core::id::FileIndex;

/// Journal records beyond those for pieces and files, so that marks and a second try find room.
const SPARE_RECORDS: u64 = 1024;

impl Storage {
    /// See [`Storage::reserve`].
    pub(super) fn reserve_all(&self) -> Result<(), StorageError> {
        let Some(work) = self.work() else { return Ok(()) };
        if self.budget.as_ref().is_some_and(|budget| budget.is_full()) {
            return Err(StorageError::NoSpace { path: self.path(), needed: self.unreserved_bytes() });
        }
        let lacking = self.table().lacking_bytes;
        if lacking > 0 && sys::free_space(self.tree.root()).is_ok_and(|free| free < lacking) {
            return Err(StorageError::NoSpace { path: self.path(), needed: lacking });
        }
        self.table().lacking_bytes = 0;
        for i in 0..self.info.files.len() {
            let file = FileIndex(i as u32);
            let slot = self.table().slots[i];
            if slot.place == Place::Work && slot.is_wanted && !slot.is_reserved {
                self.table().note_made(file);
                self.reserve_file(&work, file).map_err(|e| self.count_needed(e))?;
                self.table().slots[i].is_reserved = true;
            }
        }
        self.reserve_side(&work).map_err(|e| self.count_needed(e))?;
        // A piece that lies in one file takes two records, and one for each more.
        let records = 2 * u64::from(self.info.geometry.pieces()) + 3 * self.info.files.len() as u64;
        work.journal().reserve(records + SPARE_RECORDS)
    }

    /// Creates an unfinished file at its full length.
    pub(super) fn reserve_file(&self, work: &Work, file: FileIndex) -> Result<(), StorageError> {
        let _writing = self.writing.lock(file);
        self.allocate(work, file)
    }

    /// The same while the file's lock is held.
    pub(super) fn allocate(&self, work: &Work, file: FileIndex) -> Result<(), StorageError> {
        let length = self.info.files[file.idx()].length;
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
                    let offset = self.info.files[slice.file.idx()].offset + slice.offset;
                    sys::reserve(&*work.side()?, offset, slice.len, true).map_err(|e| {
                        StorageError::space(&work.folder.side_path(), "reserve", slice.len, e)
                    })?;
                }
            }
        }
        Ok(())
    }

    fn reserve_error(&self, file: FileIndex, length: u64, e: io::Error) -> StorageError {
        StorageError::space(
            &self.tree.path_of(&self.info.files[file.idx()].path),
            "reserve space for",
            length,
            e,
        )
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

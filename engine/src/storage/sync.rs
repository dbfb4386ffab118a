//! Making things durable, and the moments when a download moves on: a file finished, all finished, stopped.

use super::error::StorageError;
use super::state::State;
use super::sys::Stamp;
use super::table::{Dirty, Place, Slot, pieces_in};
use super::tree::Access;
use super::work::{STATE, Work};
use super::{FileStorage, Storage, lock, sys};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use swarm_core::bitfield::Bitfield;
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::metainfo::FileEntry;

/// With more files than this to sync, the whole file system is synced in one call.
const SINGLE_SYNCS_MAX: usize = 8;

impl FileStorage {
    /// A piece that was found on disk may not be durable yet: the next sync makes it so.
    pub(super) fn mark_read(&self, piece: PieceIndex) {
        let mut table = self.table();
        for segment in self.info.segments(piece) {
            match table.slots[segment.file.idx()].place {
                Place::Work => drop(table.dirty.files.insert(segment.file)),
                Place::PartFile => table.dirty.part_file = true,
                _ => {}
            }
        }
    }

    /// A wrong piece that lies in one file that we did not put there cannot be repaired without overwriting.
    pub(super) fn refuse_foreign(&self, piece: PieceIndex) -> Result<(), StorageError> {
        if self.is_seed || self.overwrite || self.mends_piece(piece) {
            return Ok(());
        }
        let slices = self.locate(piece, 0..self.info.geometry.len_of(piece));
        let mut files = slices.iter().filter(|slice| slice.place != Place::Pad);
        match (files.next(), files.next()) {
            (Some(only), None)
                if only.place == Place::Present && self.table().slots[only.file.idx()].is_wanted =>
            {
                Err(StorageError::ForeignData { path: self.path_of(only.file, Place::Present) })
            }
            _ => Ok(()),
        }
    }

    /// See [`Storage::sync`].
    pub(super) fn sync_and_mark(&self) -> Result<(), StorageError> {
        let mut has_failed = lock(&self.syncing);
        let Some(work) = self.work() else { return self.save_state() };
        if *has_failed {
            let e = io::Error::other("an earlier sync failed; restart to check what was lost");
            return Err(StorageError::io(&self.path(), "sync", e));
        }
        work.folder.check_in_place()?;
        // In this order: a file is complete after its last piece is in the journal, and a piece is in the journal
        // after its files are dirty. So what is taken first is covered by what is taken next.
        let complete = std::mem::take(&mut self.table().complete);
        let pieces = work.journal().pieces();
        let dirty = std::mem::take(&mut self.table().dirty);
        let synced = self.sync_data(&work, &dirty, &mut has_failed);
        let checked = synced.and_then(|()| self.check_written(&work, &dirty, &complete));
        let marked = checked.and_then(|right| self.mark(&work, pieces, &right)).inspect_err(|_| {
            // Syncing again what is durable already does no harm.
            self.table().dirty.merge(dirty);
        });
        let mut finished = Vec::with_capacity(complete.len());
        let moved = marked.and_then(|files| {
            files.into_iter().try_for_each(|(file, stamp)| {
                self.give_final_name(&work, file, stamp)?;
                finished.push(file);
                Ok(())
            })
        });
        let mut table = self.table();
        table.complete_later(complete.into_iter().filter(|file| !finished.contains(file)));
        table.finished.extend(finished);
        moved
    }

    /// Compares what was written, and what is complete, with what we left. Gives the complete files that are that.
    fn check_written(
        &self,
        work: &Work,
        dirty: &Dirty,
        complete: &[FileIndex],
    ) -> Result<Vec<FileIndex>, StorageError> {
        for &file in dirty.files.iter().filter(|file| !complete.contains(file)) {
            self.check_unfinished(work, file)?;
        }
        let mut right = Vec::with_capacity(complete.len());
        for &file in complete {
            self.cut_to_length(work, file)?;
            if self.check_unfinished(work, file)? && self.doubt_holes(work, file)? {
                right.push(file);
            }
        }
        Ok(right)
    }

    /// A file that was taken over complete may go on beyond its end.
    fn cut_to_length(&self, work: &Work, file: FileIndex) -> Result<(), StorageError> {
        let length = self.entry(file).length;
        let is_long = |stamp: Option<Stamp>| stamp.is_some_and(|stamp| stamp.len > length);
        if !is_long(self.table().stamps[file.idx()]) {
            return Ok(());
        }
        let _writing = self.writing.lock(file);
        let unfinished = self.open_file(file, Place::Work)?;
        self.expect_unchanged(work, file, &unfinished)?;
        let cut = unfinished.set_len(length).and_then(|()| unfinished.sync_all());
        cut.map_err(|e| StorageError::io(&self.final_path(file), "cut", e))?;
        let stamp = self.note_stamp(file, &unfinished)?;
        work.journal().stamp(file, stamp)
    }

    /// `is_lost` becomes true if the system could not write what it had taken: it reports that only once.
    fn sync_data(&self, work: &Work, dirty: &Dirty, is_lost: &mut bool) -> Result<(), StorageError> {
        let mut synced = |path: &dyn Fn() -> PathBuf, result: io::Result<()>| {
            *is_lost = result.is_err();
            result.map_err(|e| StorageError::space(&path(), "sync", 0, e))
        };
        if dirty.files.len() + usize::from(dirty.part_file) > SINGLE_SYNCS_MAX {
            match sys::sync_file_system(self.tree.root()) {
                Err(e) if e.kind() == io::ErrorKind::Unsupported => {}
                result => return synced(&|| self.path(), result),
            }
        }
        for &file in &dirty.files {
            match self.open_file(file, Place::Work) {
                // Somebody has removed it, which is noticed next.
                Err(e) if e.is_not_found() => {}
                opened => synced(&|| self.final_path(file), opened?.sync_data())?,
            }
        }
        match dirty.part_file {
            true => synced(&|| work.folder.part_file_path(), work.part_file()?.sync_data()),
            false => Ok(()),
        }
    }

    /// Marks pieces as durable, and files as complete; returns how these look.
    fn mark(
        &self,
        work: &Work,
        pieces: u64,
        complete: &[FileIndex],
    ) -> Result<Vec<(FileIndex, Stamp)>, StorageError> {
        let mut files = Vec::with_capacity(complete.len());
        for &file in complete {
            let unfinished = work.folder.unfinished(file);
            if self.entry(file).attr.executable {
                let made = sys::make_executable(&*self.open_file(file, Place::Work)?);
                made.map_err(|e| StorageError::io(&self.tree.path_of(&unfinished), "make executable", e))?;
            }
            let gone = || StorageError::not_found(&self.tree.path_of(&unfinished), "look at");
            let stamp = self.tree.find(&unfinished)?.stamp().ok_or_else(gone)?;
            let expected = self.table().stamps[file.idx()];
            if expected.is_none_or(|expected| expected == stamp) {
                files.push((file, stamp));
            } else {
                self.check_unfinished(work, file)?;
            }
        }
        let mut journal = work.journal();
        if journal.has_unmarked() || !files.is_empty() {
            journal.mark(pieces, &files)?;
        }
        Ok(files)
    }

    fn give_final_name(&self, work: &Work, file: FileIndex, stamp: Stamp) -> Result<(), StorageError> {
        let _writing = self.writing.lock(file);
        self.tree.rename(&work.folder.unfinished(file), &self.entry(file).path, self.overwrite)?;
        {
            let mut table = self.table();
            table.slots[file.idx()].place = Place::Present;
            table.slots[file.idx()].is_verified = true;
            table.stamps[file.idx()] = Some(stamp);
        }
        // Whoever has it open or mapped goes on reading the same file.
        self.handles.forget_file(self.id, file.0);
        Ok(())
    }

    /// See [`Storage::finish`].
    pub(super) fn finish_download(&self) -> Result<(), StorageError> {
        let Some(work) = self.work() else { return Ok(()) };
        self.sync_and_mark()?;
        if work.folder.is_distrusted()? {
            self.doubt_all_present()?;
            work.folder.end_distrust()?;
        }
        self.check_all_present()?;
        if !self.table().is_complete() {
            return Err(StorageError::Changed { path: self.path() });
        }
        self.make_empty_files()?;
        if self.is_worth_keeping() {
            return self.keep_for_later(&work);
        }
        {
            let mut table = self.table();
            for slot in &mut table.slots {
                slot.is_verified = slot.is_finished();
                if slot.place == Place::Work {
                    // Unwanted and incomplete: it goes with the work folder.
                    slot.place = Place::Absent;
                }
            }
            table.is_unsaved = true;
        }
        // Without it the next start has more to check, and nothing else is lost.
        let _ = self.save_state().inspect_err(|e| tracing::warn!("{e}"));
        *lock(&self.removed_part_file) = work.find_part_file();
        drop(work);
        self.remove_work_folder();
        Ok(())
    }

    /// Whether the work folder holds bytes of files that are not wanted now and may be later.
    fn is_worth_keeping(&self) -> bool {
        let table = self.table();
        let mut slots = table.slots.iter().zip(&self.info.files);
        let has_some = |(slot, file): (&Slot, &FileEntry)| {
            matches!(slot.place, Place::PartFile | Place::Work)
                && slot.pieces_missing < pieces_in(&self.info, file).len() as u32
        };
        !table.partial.is_empty() || slots.any(has_some)
    }

    /// The wanted files are complete, and what came of others stays in the work folder, without the space that was reserved
    /// for them.
    fn keep_for_later(&self, work: &Work) -> Result<(), StorageError> {
        for file in work.folder.unfinished_files()? {
            self.release_unfinished(work, file)?;
        }
        if let Some(part_file) = work.find_part_file() {
            sys::release_reserved(&part_file);
        }
        self.table().is_unsaved = true;
        // Without it the next start has more to check, and nothing else is lost.
        let saved = self.save_in_folder(work).and_then(|()| self.save_state());
        let _ = saved.inspect_err(|e| tracing::warn!("{e}"));
        Ok(())
    }

    /// Nothing in the work folder is needed any more. What cannot be removed is nothing to fail for.
    pub(super) fn remove_work_folder(&self) {
        let work = lock(&self.work).take();
        let Some(work) = work else { return };
        self.handles.forget_writable(self.id);
        let folder = work.folder.folder();
        let removed = match Arc::try_unwrap(work) {
            Ok(work) => work.remove(),
            // Another thread still holds it, and drops it soon.
            Err(work) => work.folder.remove_shared(),
        };
        if let Err(e) = removed {
            let path = self.tree.path_of(&folder);
            tracing::warn!("{}: is no longer needed and cannot be removed: {e}", path.display());
            *lock(&self.left_over) = Some(folder);
        }
    }

    /// Whether nothing in the work folder is of use to anyone.
    pub(super) fn is_unused(&self, work: &Work) -> bool {
        work.folder.unfinished_files().is_ok_and(|unfinished| !self.table().has_work(&self.info, &unfinished))
    }

    /// Makes what has no bytes: empty files, then links, so that no file is ever made through a link.
    fn make_empty_files(&self) -> Result<(), StorageError> {
        let slots: Vec<_> = self.table().slots.clone();
        let empty = || {
            let files = self.info.files.iter().zip(&slots);
            files.filter(|(_, slot)| slot.place == Place::Empty && slot.is_wanted).map(|(file, _)| file)
        };
        for file in empty().filter(|file| !file.attr.symlink) {
            let made = self.tree.open(&file.path, Access::Create)?;
            let failed = |e| StorageError::space(&self.tree.path_of(&file.path), "create", 0, e);
            if made.metadata().map_err(failed)?.len() > 0 {
                if !self.overwrite {
                    return Err(StorageError::ForeignData { path: self.tree.path_of(&file.path) });
                }
                made.set_len(0).map_err(failed)?;
            }
            if file.attr.executable {
                sys::make_executable(&made).map_err(failed)?;
            }
        }
        for file in empty() {
            if let Some(target) = &file.symlink_target {
                self.tree.symlink(&file.path, target, self.overwrite)?;
            }
        }
        Ok(())
    }

    /// See [`Storage::close`].
    pub(super) fn save_and_release(&self) -> Result<(), StorageError> {
        let has_nothing = self.table().have.count() == 0;
        if has_nothing && self.work().is_some_and(|work| self.is_unused(&work)) {
            self.remove_work_folder();
        }
        {
            let mut table = self.table();
            let is_scrubbed = table.rot.as_ref().is_some_and(|rot| rot.scrubbed.1 > 0);
            table.is_unsaved |= is_scrubbed;
        }
        let saved = self.sync_and_mark().and_then(|_| match self.work() {
            Some(work) => self.save_in_folder(&work),
            None => Ok(()),
        });
        *lock(&self.work) = None;
        self.handles.forget_storage(self.id);
        drop(lock(&self.removed_part_file).take());
        if let Some(folder) = lock(&self.left_over).take() {
            // It could perhaps not be removed because of a file that was open until now.
            let _ = self.tree.remove_dir(&folder);
        }
        saved
    }

    /// Saves the state of a clean stop, with how every file looks now.
    fn save_in_folder(&self, work: &Work) -> Result<(), StorageError> {
        for file in work.folder.unfinished_files()? {
            if file.idx() < self.info.files.len() {
                self.check_unfinished(work, file)?;
            }
        }
        let mut state = self.state();
        state.generation = work.journal().generation.wrapping_add(1);
        state.save(&self.tree, &work.folder.folder(), STATE, None)
    }

    /// Saves the state of a seed or a finished download, if there is something new.
    pub(super) fn save_state(&self) -> Result<(), StorageError> {
        let Some(saved_state) = &self.saved_state else { return Ok(()) };
        if !self.table().is_unsaved {
            return Ok(());
        }
        self.check_saved_state()?;
        {
            let mut table = self.table();
            table.is_unsaved = false;
            table.rot.iter_mut().for_each(|rot| rot.scrubbed.1 = 0);
        }
        saved_state.save(&self.state()).inspect_err(|_| self.table().is_unsaved = true)?;
        self.is_saved.store(true, Ordering::Release);
        Ok(())
    }

    fn state(&self) -> State {
        let table = self.table();
        let rot = table.rot.as_deref();
        State {
            info_hash: self.info.info_hash,
            generation: 0,
            have: table.have.clone(),
            in_doubt: table.in_doubt.clone(),
            stamps: table.stamps.clone(),
            in_part_file: table.slots.iter().map(|slot| slot.place == Place::PartFile).collect(),
            verified: table.slots.iter().map(Slot::is_finished).collect(),
            partial: table.partial.clone(),
            rotten: rot.map_or_else(|| Bitfield::empty(table.have.len()), |rot| rot.rotten.clone()),
            scrubbed: rot.map_or(PieceIndex(0), |rot| rot.scrubbed.0),
            boot_id: sys::boot_id(),
            is_clean: true,
        }
    }
}

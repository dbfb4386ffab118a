//! Cloning and copying what was found into the work folder.

use super::candidates::{Candidates, Wanted};
use super::matching::{Matching, budget_for};
use super::{Part, Reusable, ReusableFile, ReuseSources};
use crate::storage::error::StorageError;
use crate::storage::table::{Place, Slot, Table, pieces_in};
use crate::storage::tree::Access;
use crate::storage::work::Work;
use crate::storage::{FileStorage, sys};
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::atomic::Ordering;
use swarm_core::bitfield::Bitfield;
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::metainfo::Info;

impl FileStorage {
    /// See [`Storage::find_reusable`](crate::storage::Storage::find_reusable).
    pub(in crate::storage) fn find_and_clone(
        &self,
        sources: &ReuseSources,
        threads: usize,
        goes_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<Reusable, StorageError> {
        let Some(work) = self.work() else { return Ok(Reusable::default()) };
        let Some((candidates, mut files)) = self.find_matching(sources, threads, goes_on) else {
            return Ok(Reusable::default());
        };
        let mut refused = HashSet::new();
        for found in &mut files {
            if !goes_on() {
                break;
            }
            found.cloned = self.clone_found(&work, found, &candidates, &mut refused)?;
        }
        let pieces = self.checkable(&files);
        Ok(Reusable { candidates, files, pieces: Some(pieces) })
    }

    /// What the sources have of the files that are to be written.
    pub(super) fn find_matching(
        &self,
        sources: &ReuseSources,
        threads: usize,
        goes_on: &(dyn Fn() -> bool + Sync),
    ) -> Option<(Candidates, Vec<ReusableFile>)> {
        self.work().filter(|_| self.info.can_verify())?;
        let (have, wanted) = {
            let table = self.table();
            let lacks = |slot: &Slot| slot.place == Place::Work && slot.is_wanted && slot.pieces_missing > 0;
            (table.have.clone(), table.files_where(lacks))
        };
        if wanted.is_empty() || sources.is_empty() {
            return None;
        }
        let entries = wanted.iter().map(|file| self.entry(*file));
        let mut candidates = Candidates::find(sources, &Wanted::of(entries), goes_on);
        let budget = budget_for(&self.info, &wanted).into();
        let matching =
            Matching { info: &self.info, candidates: &candidates, have: &have, threads, budget, goes_on };
        let files = matching.find(&wanted);
        if matching.is_exhausted() {
            candidates.warn("too many files are like those of the torrent: not all were compared".to_owned());
        }
        Some((candidates, files))
    }

    /// Clones the candidate that has most of a file of which nothing is there yet. Which part of what was found that is. From
    /// the folders in `refused` nothing can be cloned.
    fn clone_found(
        &self,
        work: &Work,
        found: &ReusableFile,
        candidates: &Candidates,
        refused: &mut HashSet<usize>,
    ) -> Result<Option<usize>, StorageError> {
        let index = found.file.index;
        let best = found.parts.iter().enumerate().max_by_key(|(_, part)| part.pieces.count());
        let Some((n, part)) = best else { return Ok(None) };
        let origin = candidates.origin_index(part.candidate);
        if refused.contains(&origin) || self.table().stamps[index.idx()].is_some() {
            return Ok(None);
        }
        let Some(source) = candidates.open(part.candidate) else { return Ok(None) };
        let (path, length) = (work.folder.unfinished(index), self.entry(index).length);
        let _writing = self.writing.lock(index);
        self.table().note_made(index);
        let unfinished = self.tree.open(&path, Access::Create)?;
        let cloned = sys::clone_file(&source, &unfinished);
        if let Err(e) = cloned.and_then(|()| unfinished.set_len(length)) {
            tracing::debug!("{}: is copied: {e}", self.final_path(index).display());
            refused.insert(origin);
            drop(unfinished);
            self.tree.remove(&path)?;
            return Ok(None);
        }
        let stamp = self.note_stamp(index, &unfinished)?;
        work.journal().stamp(index, stamp)?;
        let mut table = self.table();
        table.dirty.files.insert(index);
        Ok(Some(n))
    }

    /// See [`Storage::copy_reusable`](crate::storage::Storage::copy_reusable).
    pub(in crate::storage) fn copy_found(
        &self,
        reusable: &Reusable,
        goes_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), StorageError> {
        let Some(work) = self.work() else { return Ok(()) };
        for found in reusable.files.iter().filter(|found| !found.is_taken()) {
            for (n, part) in found.parts.iter().enumerate() {
                if !goes_on() {
                    return Ok(());
                }
                if found.cloned != Some(n) {
                    self.copy_part(&work, found, part, &reusable.candidates, goes_on)?;
                }
            }
            if !goes_on() {
                return Ok(());
            }
            found.is_taken.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn copy_part(
        &self,
        work: &Work,
        found: &ReusableFile,
        part: &Part,
        candidates: &Candidates,
        goes_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), StorageError> {
        let index = found.file.index;
        // One that has gone is found out by the check.
        let Some(source) = candidates.open(part.candidate) else { return Ok(()) };
        let _writing = self.writing.lock(index);
        let file = self.open_file(index, Place::Work)?;
        self.expect_unchanged(work, index, &file)?;
        let mut copied = 0;
        let mut result = Ok(());
        for range in ranges(&self.info, found, part) {
            if !goes_on() {
                break;
            }
            let len = range.end - range.start;
            let space = self.budget.as_ref().map_or(Ok(()), |budget| budget.charge(len));
            result = space
                .and_then(|()| sys::copy_within((&source, range.start), (&file, range.start), len, goes_on));
            if let Err(e) = result {
                result = Err(e);
                break;
            }
            copied += len;
        }
        self.note_stamp(index, &file)?;
        let mut table = self.table();
        table.dirty.files.insert(index);
        table.dirty.bytes += copied;
        drop(table);
        result.map_err(|e| StorageError::space(&self.final_path(index), "write", copied, e))
    }

    /// The missing pieces all of whose bytes may be there once everything has been taken.
    fn checkable(&self, files: &[ReusableFile]) -> Bitfield {
        let mut pieces = Bitfield::empty(self.info.geometry.pieces());
        let by_index: BTreeMap<FileIndex, &ReusableFile> =
            files.iter().map(|found| (found.file.index, found)).collect();
        let table = self.table();
        for found in files {
            let inside = found.file;
            for part in &found.parts {
                for at in part.pieces.iter() {
                    pieces.insert(PieceIndex(inside.first.0 + at.0));
                }
            }
            let shared = pieces_in(&self.info, self.entry(inside.index));
            let first = shared.clone().next();
            let last = first.map(|first| PieceIndex(first.0 + shared.len() as u32 - 1));
            for piece in
                [first, last].into_iter().flatten().filter(|piece| !inside.pieces().contains(&piece.0))
            {
                if !table.have.has(piece) && is_covered(&self.info, &table, &by_index, piece) {
                    pieces.insert(piece);
                }
            }
        }
        pieces
    }
}

/// Whether all of a piece that several files share is taken, or there.
fn is_covered(
    info: &Info,
    table: &Table,
    files: &BTreeMap<FileIndex, &ReusableFile>,
    piece: PieceIndex,
) -> bool {
    info.segments(piece).all(|segment| {
        if matches!(table.slots[segment.file.idx()].place, Place::Pad | Place::Present) {
            return true;
        }
        let Some(found) = files.get(&segment.file) else { return false };
        let bytes = found.file.bytes(info);
        let is_head = segment.offset < bytes.start || found.file.count == 0;
        found.parts.iter().any(|part| if is_head { part.head } else { part.tail })
    })
}

/// The bytes of a file that a part has, in order.
fn ranges(info: &Info, found: &ReusableFile, part: &Part) -> Vec<Range<u64>> {
    let (length, inside) = (info.files[found.file.index.idx()].length, found.file.bytes(info));
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut add = |range: Range<u64>| match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ if range.is_empty() => {}
        _ => ranges.push(range),
    };
    if part.head {
        add(0..inside.start);
    }
    let len = u64::from(info.geometry.piece_len());
    for piece in part.pieces.iter() {
        let start = inside.start + u64::from(piece.0) * len;
        add(start..(start + len).min(inside.end));
    }
    if part.tail {
        add(inside.end..length);
    }
    ranges
}

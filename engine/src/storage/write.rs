//! Writing: verified pieces to their files, blocks of slow ones to the part file.

use super::error::StorageError;
use super::read::Located;
use super::scan::zeros;
use super::sys::Stamp;
use super::table::Place;
use super::work::Work;
use super::{FileStorage, PieceOutcome, Storage, lock, sys};
use crate::buffer::{PieceBuffer, Spill};
use crate::hash::PieceHasher;
use crate::hash::piece::piece_hashes;
use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::metainfo::{Format, PieceHash};

/// How much of what was spilled is read back at a time, in bytes.
const CHUNK_LEN: usize = 64 * 1024;

/// What came of a piece that was to be written.
enum Written {
    Right,
    Wrong { is_contradiction: bool },
}

impl FileStorage {
    /// What each of these pieces hashes to; `None` for those that are not all in memory, or not as they came.
    pub(super) fn hash_received(&self, buffers: &[PieceBuffer]) -> Vec<Option<PieceHash>> {
        let parts = buffers.iter().map(|buffer| {
            let counts_all = self.len_that_counts(buffer) == buffer.piece_len();
            let blocks = 0..counts_all.then(|| buffer.piece_len().div_ceil(BLOCK_LEN))?;
            blocks.map(|index| buffer.block(index)).collect::<Option<Vec<&[u8]>>>()
        });
        let parts: Vec<_> = parts.collect();
        let is_whole: Vec<bool> = parts.iter().map(Option::is_some).collect();
        let whole = || buffers.iter().zip(&is_whole).filter(|(_, is_whole)| **is_whole);
        let shapes: Vec<_> = whole().map(|(buffer, _)| self.info.piece_shape(buffer.piece())).collect();
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        let mut hashes = piece_hashes(&shapes, &parts).into_iter();
        is_whole.into_iter().map(|is_whole| is_whole.then(|| hashes.next()).flatten()).collect()
    }

    /// See [`Storage::verify_and_write`]. `hash` is the piece's, if it is known.
    pub(super) fn verify_then_write(&self, buffer: PieceBuffer, hash: Option<PieceHash>) -> PieceOutcome {
        assert!(buffer.is_complete(), "piece {} is not complete", buffer.piece());
        let Some(work) = self.work() else {
            return self.verify_then_mend(buffer, hash);
        };
        let digest = hash.map_or_else(|| self.digest(&work, &buffer), Ok);
        let written = digest.and_then(|digest| {
            if digest != self.info.piece_hash(buffer.piece()) {
                return Ok(Written::Wrong {
                    is_contradiction: self.info.is_contradicted_by(buffer.piece(), digest),
                });
            }
            let changes = self.table().changes;
            self.write_piece(&work, &buffer)?;
            self.add_written(&work, buffer.piece())?;
            self.doubt_if_changed(Some(&work), buffer.piece(), changes)?;
            Ok(Written::Right)
        });
        match written {
            Ok(written) => {
                self.free_spilled(&work, &buffer);
                match written {
                    Written::Right => PieceOutcome::Ok,
                    Written::Wrong { is_contradiction: true } => PieceOutcome::Contradictory,
                    Written::Wrong { .. } => PieceOutcome::HashMismatch(buffer),
                }
            }
            Err(error) => {
                self.note_lack(&error);
                PieceOutcome::Failed { error, buffer }
            }
        }
    }

    /// See [`Storage::spill`].
    pub(super) fn spill_blocks(&self, spill: &Spill) -> Result<(), StorageError> {
        let work = self.work().ok_or_else(|| StorageError::Closed { path: self.path() })?;
        let part_file = work.part_file()?;
        let piece_len = self.info.geometry.len_of(spill.piece());
        let start = self.info.geometry.offset_of(spill.piece());
        for run in spill.blocks().chunk_by(|(a, _), (b, _)| a + 1 == *b) {
            let first = run[0].0 * BLOCK_LEN;
            let mut slices: Vec<IoSlice<'_>> = run
                .iter()
                .map(|(index, block)| {
                    IoSlice::new(&block[..(piece_len - index * BLOCK_LEN).min(BLOCK_LEN) as usize])
                })
                .collect();
            let written = self.write_at(
                &part_file,
                &work.folder.part_file_path(),
                start + u64::from(first),
                &mut slices,
            );
            written.inspect_err(|e| self.note_lack(e))?;
        }
        let blocks = spill.blocks().iter().map(|(index, _)| *index);
        self.table().partial.entry(spill.piece()).or_default().extend(blocks);
        Ok(())
    }

    /// Notes a piece that is on disk: first in the journal, then for all to see.
    pub(super) fn add_written(&self, work: &Work, piece: PieceIndex) -> Result<(), StorageError> {
        let mut journal = work.journal();
        let stamps: Vec<(FileIndex, Stamp)> = {
            let table = self.table();
            let written = |file: &FileIndex| table.slots[file.idx()].place == Place::Work;
            let files = self.info.segments(piece).map(|segment| segment.file).filter(written);
            files.filter_map(|file| Some((file, table.stamps[file.idx()]?))).collect()
        };
        journal.piece(piece, &stamps)?;
        drop(journal);
        self.table().add(&self.info, piece);
        Ok(())
    }

    /// A piece that was written while its file was found changed may have been changed too.
    pub(super) fn doubt_if_changed(
        &self,
        work: Option<&Work>,
        piece: PieceIndex,
        before: u64,
    ) -> Result<(), StorageError> {
        let doubted = {
            let mut table = self.table();
            if table.changes == before {
                return Ok(());
            }
            table.doubt(&self.info, std::iter::once(piece))
        };
        work.map_or(Ok(()), |work| work.journal().doubt(&doubted))
    }

    /// Remembers what a full disk lacked, for [`Storage::reserve`] to wait for.
    fn note_lack(&self, error: &StorageError) {
        if let StorageError::NoSpace { needed, .. } = error {
            let mut table = self.table();
            table.lacking_bytes = table.lacking_bytes.max(*needed);
        }
    }

    fn digest(&self, work: &Work, buffer: &PieceBuffer) -> Result<PieceHash, StorageError> {
        let (piece, len) = (buffer.piece(), buffer.piece_len());
        let mut hasher = PieceHasher::new(self.info.piece_shape(piece));
        let end = self.len_that_counts(buffer);
        self.each_part(work, buffer, 0..end, |_, slices| {
            slices.iter().for_each(|slice| hasher.update(slice));
            Ok(())
        })?;
        zeros(u64::from(len - end), |bytes| hasher.update(bytes));
        Ok(hasher.finish())
    }

    /// How many bytes of a piece count as they came. Whatever came in the place of what is padding for sure does not.
    fn len_that_counts(&self, buffer: &PieceBuffer) -> u32 {
        match self.info.format() {
            Format::Hybrid if !self.info.padding.is_assumed_in(&self.info.geometry, buffer.piece()) => {
                self.info.payload_of(buffer.piece())
            }
            _ => buffer.piece_len(),
        }
    }

    fn write_piece(&self, work: &Work, buffer: &PieceBuffer) -> Result<(), StorageError> {
        let piece = buffer.piece();
        for slice in self.locate(piece, 0..buffer.piece_len()) {
            match slice.place {
                Place::Pad if self.is_nonzero(work, buffer, &slice)? => {
                    self.make_pad_file(work, slice.file)?;
                    self.write_slice(work, buffer, &slice)?;
                }
                Place::Pad | Place::Empty | Place::Absent => {}
                Place::PartFile => self.write_to_part_file(work, buffer, &slice)?,
                Place::Work => self.write_slice(work, buffer, &slice)?,
                // That writes what cannot be read, too.
                Place::Present if self.mends_piece(piece) && !buffer.has_spilled() => {
                    self.mend_slice(buffer, &slice)?;
                }
                Place::Present if self.is_same(work, buffer, &slice)? => {}
                Place::Present if self.overwrite => {
                    self.take_over(work, slice.file)?;
                    self.write_slice(work, buffer, &slice)?;
                }
                Place::Present => {
                    return Err(StorageError::ForeignData { path: self.path_of(slice.file, Place::Present) });
                }
            }
        }
        Ok(())
    }

    /// Whether a right piece shows that what has a pad file's name is none: it holds something.
    fn is_nonzero(&self, work: &Work, buffer: &PieceBuffer, slice: &Located) -> Result<bool, StorageError> {
        if self.entry(slice.file).is_padding_for_sure() {
            return Ok(false);
        }
        let mut is_zero = true;
        self.each_part(work, buffer, slice.range(), |_, slices| {
            is_zero &= slices.iter().all(|bytes| bytes.iter().all(|&byte| byte == 0));
            Ok(())
        })?;
        Ok(!is_zero)
    }

    /// Makes a file of what was taken for padding by its name. What pieces before had of it are zeros, as it is now.
    fn make_pad_file(&self, work: &Work, file: FileIndex) -> Result<(), StorageError> {
        let _moving = lock(&self.moving);
        if self.table().slots[file.idx()].place != Place::Pad {
            return Ok(());
        }
        self.reserve_file(work, file)?;
        self.table().slots[file.idx()].place = Place::Work;
        Ok(())
    }

    fn write_slice(&self, work: &Work, buffer: &PieceBuffer, slice: &Located) -> Result<(), StorageError> {
        let _writing = self.writing.lock(slice.file);
        let file = self.open_file(slice.file, Place::Work)?;
        self.expect_unchanged(work, slice.file, &file)?;
        let path = self.final_path(slice.file);
        let written = self.each_new_part(work, buffer, slice.range(), |at, slices| {
            self.write_at(&file, &path, slice.offset + u64::from(at - slice.at), slices)
        });
        self.note_stamp(slice.file, &file)?;
        written?;
        let mut table = self.table();
        table.dirty.files.insert(slice.file);
        table.dirty.bytes += slice.len;
        Ok(())
    }

    /// Writes what is in memory; what was spilled is in its place already.
    fn write_to_part_file(
        &self,
        work: &Work,
        buffer: &PieceBuffer,
        slice: &Located,
    ) -> Result<(), StorageError> {
        let part_file = work.part_file()?;
        let start = self.info.geometry.offset_of(buffer.piece());
        for_memory(buffer, slice.range(), |at, slices| {
            self.write_at(&part_file, &work.folder.part_file_path(), start + u64::from(at), slices)
        })?;
        let mut table = self.table();
        table.dirty.part_file = true;
        table.dirty.bytes += slice.len;
        Ok(())
    }

    /// Whether a file that is only to be read has these very bytes.
    fn is_same(&self, work: &Work, buffer: &PieceBuffer, slice: &Located) -> Result<bool, StorageError> {
        let file = self.open_file(slice.file, Place::Present)?;
        let mut is_same = true;
        self.each_part(work, buffer, slice.range(), |at, slices| {
            let mut offset = slice.offset + u64::from(at - slice.at);
            for expected in slices.iter() {
                let mut found = vec![0; expected.len()];
                let read = sys::read_at(&file, &mut found, offset);
                let read =
                    read.map_err(|e| StorageError::io(&self.path_of(slice.file, slice.place), "read", e))?;
                is_same &= read == found.len() && found == **expected;
                offset += expected.len() as u64;
            }
            Ok(())
        })?;
        Ok(is_same)
    }

    /// Makes a file that was there before us one of ours, to be completed like any other.
    fn take_over(&self, work: &Work, file: FileIndex) -> Result<(), StorageError> {
        let _moving = lock(&self.moving);
        if self.table().slots[file.idx()].place != Place::Present {
            return Ok(());
        }
        work.folder.take(&self.entry(file).path, file)?;
        self.handles.forget_file(self.id, file.0);
        let mut table = self.table();
        let slot = &mut table.slots[file.idx()];
        slot.place = Place::Work;
        slot.is_verified = false;
        table.stamps[file.idx()] = None;
        drop(table);
        self.reserve_file(work, file)
    }

    fn write_at(
        &self,
        file: &File,
        path: &Path,
        offset: u64,
        slices: &mut [IoSlice<'_>],
    ) -> Result<(), StorageError> {
        let len = slices.iter().map(|slice| slice.len() as u64).sum();
        let space = self.budget.as_ref().map_or(Ok(()), |budget| budget.charge(len));
        space
            .and_then(|()| sys::write_all_at(file, slices, offset))
            .map_err(|e| StorageError::space(path, "write", len, e))
    }

    /// Calls `each` with a range of a complete piece in order, with its place in the piece: as many slices at a time as
    /// there are in memory, or a copy of what was spilled or is in its place already.
    fn each_part(
        &self,
        work: &Work,
        buffer: &PieceBuffer,
        range: Range<u32>,
        mut each: impl FnMut(u32, &mut [IoSlice<'_>]) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        self.each_of(work, buffer, range, true, &mut each)
    }

    /// The same without what is in its place already.
    fn each_new_part(
        &self,
        work: &Work,
        buffer: &PieceBuffer,
        range: Range<u32>,
        mut each: impl FnMut(u32, &mut [IoSlice<'_>]) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        self.each_of(work, buffer, range, false, &mut each)
    }

    fn each_of(
        &self,
        work: &Work,
        buffer: &PieceBuffer,
        range: Range<u32>,
        with_in_place: bool,
        each: &mut impl FnMut(u32, &mut [IoSlice<'_>]) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let mut done = range.start;
        let on_disk = |range: Range<u32>, each: &mut _| {
            for (part, is_in_place) in stretches(buffer, range) {
                match is_in_place {
                    true if with_in_place => self.each_in_place(buffer, part, each)?,
                    true => {}
                    false => self.each_spilled(work, buffer, part, each)?,
                }
            }
            Ok(())
        };
        for_memory(buffer, range.clone(), |at, slices| {
            on_disk(done..at, each)?;
            done = at + slices.iter().map(|slice| slice.len() as u32).sum::<u32>();
            each(at, slices)
        })?;
        on_disk(done..range.end, each)
    }

    /// What is in its place on disk. What cannot be read there is zeros: then the piece does not verify, and these blocks are fetched.
    fn each_in_place(
        &self,
        buffer: &PieceBuffer,
        range: Range<u32>,
        each: &mut impl FnMut(u32, &mut [IoSlice<'_>]) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let mut buf = vec![0; range.len().min(CHUNK_LEN)];
        for at in range.clone().step_by(CHUNK_LEN) {
            let chunk = &mut buf[..CHUNK_LEN.min((range.end - at) as usize)];
            let end = at + chunk.len() as u32;
            if !self.read_in_place(buffer.piece(), at..end, chunk).unwrap_or_default() {
                chunk.fill(0);
            }
            each(at, &mut [IoSlice::new(chunk)])?;
        }
        Ok(())
    }

    fn each_spilled(
        &self,
        work: &Work,
        buffer: &PieceBuffer,
        range: Range<u32>,
        each: &mut impl FnMut(u32, &mut [IoSlice<'_>]) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        if range.is_empty() {
            return Ok(());
        }
        let part_file = work.part_file()?;
        let start = self.info.geometry.offset_of(buffer.piece());
        let mut buf = vec![0; range.len().min(CHUNK_LEN)];
        for at in range.clone().step_by(CHUNK_LEN) {
            let chunk = &mut buf[..CHUNK_LEN.min((range.end - at) as usize)];
            let read = sys::read_at(&part_file, chunk, start + u64::from(at)).and_then(|read| match read {
                n if n == chunk.len() => Ok(()),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            });
            read.map_err(|e| StorageError::io(&work.folder.part_file_path(), "read", e))?;
            each(at, &mut [IoSlice::new(chunk)])?;
        }
        Ok(())
    }

    /// Gives back the part file's space that a piece took, but for what stays there for good.
    fn free_spilled(&self, work: &Work, buffer: &PieceBuffer) {
        self.table().partial.remove(&buffer.piece());
        if !buffer.has_spilled() {
            return;
        }
        let Some(part_file) = work.find_part_file() else { return };
        let start = self.info.geometry.offset_of(buffer.piece());
        for slice in self.locate(buffer.piece(), 0..buffer.piece_len()) {
            if slice.place != Place::PartFile {
                sys::punch_hole(&part_file, start + u64::from(slice.at), slice.len);
            }
        }
    }
}

/// The parts of a range that is not in memory, in order, and whether each is in its place on disk.
fn stretches(buffer: &PieceBuffer, range: Range<u32>) -> Vec<(Range<u32>, bool)> {
    let mut parts: Vec<(Range<u32>, bool)> = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let index = at / BLOCK_LEN;
        let end = ((index + 1) * BLOCK_LEN).min(range.end);
        let is_in_place = buffer.is_in_place(index);
        match parts.last_mut() {
            Some((last, kind)) if *kind == is_in_place => last.end = end,
            _ => parts.push((at..end, is_in_place)),
        }
        at = end;
    }
    parts
}

/// Calls `each` with the parts of a range that are in memory, in order.
pub(super) fn for_memory(
    buffer: &PieceBuffer,
    range: Range<u32>,
    mut each: impl FnMut(u32, &mut [IoSlice<'_>]) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let slice = |index: u32| {
        let block = index * BLOCK_LEN..((index + 1) * BLOCK_LEN).min(range.end);
        let at = block.start.max(range.start);
        let bytes = buffer.block(index)?;
        Some((at, &bytes[(at - block.start) as usize..(block.end - block.start) as usize]))
    };
    let slices: Vec<(u32, &[u8])> =
        (range.start / BLOCK_LEN..range.end.div_ceil(BLOCK_LEN)).filter_map(slice).collect();
    for run in slices.chunk_by(|(at, bytes), (next, _)| at + bytes.len() as u32 == *next) {
        let mut slices: Vec<IoSlice<'_>> = run.iter().map(|(_, bytes)| IoSlice::new(bytes)).collect();
        each(run[0].0, &mut slices)?;
    }
    Ok(())
}

//! Reading: checking what is on disk, and preparing what is about to be sent.

use super::error::StorageError;
use super::handles::{FileKey, Map, WINDOW_LEN};
use super::prepared::{Bytes, Part, Prepared};
use super::scan::{MAP_LEN_MIN, ScanError, scan, zeros};
use super::table::Place;
use super::tree::Access;
use super::{FileStorage, Storage as _, lock, sys};
use crate::hash::PieceHasher;
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::merkle;
use swarm_core::metainfo::PieceHash;

/// What bytes are prepared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// They are mapped, and every page is there: the network thread never waits for one.
    Send,
    /// They are read on this thread, under [guards](super::prepared::Prepared::watch): pages that are read one after the other are mapped
    /// so at less cost.
    Read,
}

/// One file's slice of a piece, and where the file's bytes are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Located {
    pub(super) file: FileIndex,
    pub(super) place: Place,
    /// Offset in the file.
    pub(super) offset: u64,
    pub(super) len: u64,
    /// Offset in the piece.
    pub(super) at: u32,
}

impl Located {
    /// The slice as a range of the piece.
    pub(super) fn range(&self) -> Range<u32> {
        self.at..self.at + self.len as u32
    }
}

impl FileStorage {
    /// The slices that make up a range of a piece.
    pub(super) fn locate(&self, piece: PieceIndex, range: Range<u32>) -> Vec<Located> {
        assert!(
            range.start <= range.end && range.end <= self.info.geometry.len_of(piece),
            "{range:?} of {piece}"
        );
        let start = self.info.geometry.offset_of(piece) + u64::from(range.start);
        let table = self.table();
        let mut at = range.start;
        let segments = self.info.segments_of(start, u64::from(range.end - range.start));
        let located = segments.map(|segment| {
            let place = table.slots[segment.file.idx()].place;
            let located = Located { file: segment.file, place, offset: segment.offset, len: segment.len, at };
            at += segment.len as u32;
            located
        });
        located.collect()
    }

    /// Where a file's bytes are now, for messages.
    pub(super) fn path_of(&self, file: FileIndex, place: Place) -> PathBuf {
        match (place, self.work()) {
            (Place::Work, Some(work)) => self.tree.path_of(&work.folder.unfinished(file)),
            (Place::PartFile, Some(work)) => work.folder.part_file_path(),
            _ => self.final_path(file),
        }
    }

    /// Opens a file that has bytes of its own, wherever another thread has moved it by the time.
    pub(super) fn open_file(&self, file: FileIndex, mut place: Place) -> Result<Arc<File>, StorageError> {
        let path = &self.entry(file).path;
        loop {
            let key = FileKey { storage: self.id, file: file.0, writable: place == Place::Work };
            let opened = self.handles.file(key, || match (place, self.work()) {
                (Place::Work, Some(work)) => self.tree.open(&work.folder.unfinished(file), Access::Write),
                (Place::Work, None) => Err(StorageError::not_found(&self.final_path(file), "open")),
                _ if self.is_seed => open_followed(&self.final_path(file), false),
                _ => self.tree.open(path, Access::Read),
            });
            let now = self.table().slots[file.idx()].place;
            if opened.is_ok() || now == place {
                return opened;
            }
            place = now;
        }
    }

    /// The part file, also after the work folder has gone.
    fn part_file(&self) -> Result<Arc<File>, StorageError> {
        let removed = || lock(&self.removed_part_file).clone();
        let part_file = self.work().and_then(|work| work.find_part_file()).or_else(removed);
        part_file.ok_or_else(|| StorageError::not_found(self.tree.root(), "read the part file of"))
    }

    /// The file that holds a slice, and the slice's offset in it.
    pub(super) fn source(&self, slice: &Located) -> Result<(Arc<File>, u64), StorageError> {
        if slice.place == Place::PartFile {
            let offset = self.entry(slice.file).offset + slice.offset;
            return Ok((self.part_file()?, offset));
        }
        Ok((self.open_file(slice.file, slice.place)?, slice.offset))
    }

    fn truncated(&self, slice: &Located, file: &File) -> StorageError {
        StorageError::Truncated {
            path: self.path_of(slice.file, slice.place),
            len: file.metadata().map_or(0, |meta| meta.len()),
            expected: self.entry(slice.file).length,
        }
    }

    /// See [`Storage::check_piece`]. `None` if the piece cannot be read as a whole.
    pub(super) fn hash_piece(&self, piece: PieceIndex) -> Result<Option<PieceHash>, StorageError> {
        self.expect_readable(piece)?;
        let slices = self.locate(piece, 0..self.info.geometry.len_of(piece));
        let mut hasher = PieceHasher::new(self.info.piece_shape(piece));
        if slices.iter().all(|slice| slice.place == Place::Pad) {
            let hash = || {
                slices.iter().for_each(|slice| zeros(slice.len, |bytes| hasher.update(bytes)));
                hasher.finish()
            };
            // A torrent can have any number of pieces that are all padding. The last one may be shorter.
            let is_last = piece.0 + 1 == self.info.geometry.pieces();
            return Ok(Some(if is_last { hash() } else { *self.hash_of_zeros.get_or_init(hash) }));
        }
        for slice in slices {
            match slice.place {
                Place::Pad => zeros(slice.len, |bytes| hasher.update(bytes)),
                Place::Absent => return Ok(None),
                _ => {
                    let (file, offset) = match self.source(&slice) {
                        Err(e) if e.is_not_found() => return Ok(None),
                        source => source?,
                    };
                    match scan(&file, offset, slice.len, |bytes| hasher.update(bytes)) {
                        Ok(()) => {}
                        Err(ScanError::Short) => return Ok(None),
                        Err(ScanError::Io(e)) => {
                            return Err(StorageError::io(&self.path_of(slice.file, slice.place), "read", e));
                        }
                    }
                }
            }
        }
        Ok(Some(hasher.finish()))
    }

    /// See [`Storage::block_digests`](super::Storage::block_digests).
    pub(super) fn digest_blocks(&self, piece: PieceIndex) -> Vec<[u8; 20]> {
        let len = self.info.piece_shape(piece).tree.map_or(0, |tree| tree.len);
        let mut buf = vec![0; len.min(BLOCK_LEN) as usize];
        let digest = |begin: u32| {
            let block = &mut buf[..(len - begin).min(BLOCK_LEN) as usize];
            let end = begin + block.len() as u32;
            match self.read_in_place(piece, begin..end, block) {
                Ok(true) => *merkle::leaf(block).first_chunk().expect("a leaf is longer"),
                _ => [0; 20],
            }
        };
        (0..len).step_by(BLOCK_LEN as usize).map(digest).collect()
    }

    /// Reads a range of a piece from where it belongs; false if the files end before it does.
    pub(super) fn read_in_place(
        &self,
        piece: PieceIndex,
        range: Range<u32>,
        buf: &mut [u8],
    ) -> Result<bool, StorageError> {
        let start = range.start;
        for slice in self.locate(piece, range) {
            let at = (slice.at - start) as usize;
            let part = &mut buf[at..at + slice.len as usize];
            match slice.place {
                Place::Pad => part.fill(0),
                Place::Absent | Place::Empty => return Ok(false),
                _ => {
                    let (file, offset) = self.source(&slice)?;
                    let read = sys::read_at(&file, part, offset)
                        .map_err(|e| StorageError::io(&self.path_of(slice.file, slice.place), "read", e))?;
                    if read < part.len() {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// For tests: the disk fails where it is told to.
    pub(super) fn expect_readable(&self, piece: PieceIndex) -> Result<(), StorageError> {
        let is_readable = self.budget.as_ref().is_none_or(|disk| disk.is_readable(piece));
        let failed = || StorageError::io(&self.path(), "read", sys::unreadable());
        is_readable.then_some(()).ok_or_else(failed)
    }

    /// See [`Storage::prepare`](super::Storage::prepare).
    pub(super) fn prepare_as(
        &self,
        piece: PieceIndex,
        range: Range<u32>,
        wanted_to: Use,
    ) -> Result<Prepared, StorageError> {
        self.check_saved_state_sometimes()?;
        self.expect_readable(piece)?;
        let mut parts = Vec::new();
        let end = range.end.min(self.info.geometry.len_of(piece));
        for slice in self.locate(piece, range.start..end) {
            self.look_before_reading(&slice)?;
            self.prepare_slice(&slice, wanted_to, &mut parts)?;
        }
        // What lies beyond a file of version 2 is zeros to whoever asks.
        parts.extend((end < range.end).then_some(Part { end: range.end, bytes: Bytes::Zeros }));
        Ok(Prepared::new(range, parts))
    }

    fn prepare_slice(
        &self,
        slice: &Located,
        wanted_to: Use,
        parts: &mut Vec<Part>,
    ) -> Result<(), StorageError> {
        match slice.place {
            Place::Pad => parts.push(Part { end: slice.range().end, bytes: Bytes::Zeros }),
            Place::Work | Place::Present if self.entry(slice.file).length >= MAP_LEN_MIN => {
                self.prepare_mapped(slice, wanted_to, parts)?;
            }
            _ => parts.push(self.read_owned(slice)?),
        }
        Ok(())
    }

    /// How long a file should be: what a seed has of one that is too short counts.
    fn expected_len(&self, slice: &Located) -> u64 {
        let length = self.entry(slice.file).length;
        let stamp = self.table().stamps[slice.file.idx()].filter(|_| slice.place == Place::Present);
        stamp.map_or(length, |stamp| stamp.len.min(length))
    }

    /// Whether the system has all of a file's slice in memory, as far as it can be told.
    pub(super) fn is_in_memory(&self, slice: &Located) -> bool {
        let file_len = self.expected_len(slice);
        let key = FileKey { storage: self.id, file: slice.file.0, writable: false };
        let (mut offset, end) = (slice.offset, slice.offset + slice.len);
        while offset < end && end <= file_len {
            let len = (end - offset).min(WINDOW_LEN - offset % WINDOW_LEN);
            let mapped = self.handles.map(key, offset, file_len, || self.open_file(slice.file, slice.place));
            let Ok(Some(map)) = mapped else { return false };
            if !sys::is_in_memory(&map.raw, (offset - map.start) as usize, len as usize) {
                return false;
            }
            offset += len;
        }
        offset == end
    }

    /// Maps a slice, window by window.
    fn prepare_mapped(
        &self,
        slice: &Located,
        wanted_to: Use,
        parts: &mut Vec<Part>,
    ) -> Result<(), StorageError> {
        let file_len = self.expected_len(slice);
        if slice.offset + slice.len > file_len {
            return Err(self.truncated(slice, &*self.open_file(slice.file, slice.place)?));
        }
        let key = FileKey { storage: self.id, file: slice.file.0, writable: false };
        let mut done = 0;
        while done < slice.len {
            let offset = slice.offset + done;
            let len = (slice.len - done).min(WINDOW_LEN - offset % WINDOW_LEN);
            let end = slice.at + (done + len) as u32;
            let rest = Located { offset, len, at: slice.at + done as u32, ..*slice };
            let mapped =
                self.handles.map(key, offset, file_len, || self.open_file(slice.file, slice.place))?;
            parts.push(match mapped {
                Some(map) => match self.populate(&rest, &map, file_len, wanted_to)? {
                    Some(bytes) => Part { end, bytes },
                    None => self.read_owned(&rest)?,
                },
                None => self.read_owned(&rest)?,
            });
            done += len;
        }
        Ok(())
    }

    /// Brings mapped bytes into memory; `None` where the system cannot do that.
    fn populate(
        &self,
        slice: &Located,
        map: &Arc<Map>,
        file_len: u64,
        wanted_to: Use,
    ) -> Result<Option<Bytes>, StorageError> {
        if map.file.metadata().map_or(0, |meta| meta.len()) < file_len {
            return Err(self.truncated(slice, &map.file));
        }
        let at = (slice.offset - map.start) as usize;
        let populated = match wanted_to {
            Use::Send => sys::populate(&map.raw, at, slice.len as usize),
            Use::Read => {
                sys::will_need(&map.file, slice.offset, slice.len);
                Ok(cfg!(target_os = "linux"))
            }
        };
        match populated {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            // The file was cut just now, or the disk could not be read.
            Err(_) if map.file.metadata().map_or(0, |meta| meta.len()) < file_len => {
                return Err(self.truncated(slice, &map.file));
            }
            Err(e) => {
                // The system does not say what reading it would.
                let e = if sys::has_code(&e, &[libc::EFAULT]) { sys::unreadable() } else { e };
                return Err(StorageError::io(&self.path_of(slice.file, slice.place), "read", e));
            }
        }
        let path = self.path_of(slice.file, slice.place);
        let stamp = self.table().stamps[slice.file.idx()].filter(|_| slice.place == Place::Present);
        Ok(Some(Bytes::Mapped { map: Arc::clone(map), at, path, file_len, stamp }))
    }

    /// Copies a slice.
    fn read_owned(&self, slice: &Located) -> Result<Part, StorageError> {
        let (file, offset) = self.source(slice)?;
        let mut bytes = vec![0; slice.len as usize].into_boxed_slice();
        let read = sys::read_at(&file, &mut bytes, offset);
        let read = read.map_err(|e| StorageError::io(&self.path_of(slice.file, slice.place), "read", e))?;
        if read < bytes.len() {
            return Err(self.truncated(slice, &file));
        }
        Ok(Part { end: slice.range().end, bytes: Bytes::Owned(bytes) })
    }
}

/// Opens a seed's file, which may be a link to wherever the user keeps it.
pub(super) fn open_followed(path: &std::path::Path, to_write: bool) -> Result<File, StorageError> {
    let mut options = File::options();
    options.read(true).write(to_write);
    #[cfg(unix)]
    // A pipe in the file's place must not block.
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    let file = options.open(path).map_err(|e| StorageError::io(path, "open", e))?;
    match file.metadata() {
        Ok(meta) if meta.is_file() => Ok(file),
        Ok(_) => Err(StorageError::WrongKind { path: path.to_owned(), wanted: "a regular file" }),
        Err(e) => Err(StorageError::io(path, "look at", e)),
    }
}

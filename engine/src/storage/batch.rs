//! Neighbouring pieces in memory at once, so that they can be hashed side by side.

use super::bulk::BulkError;
use super::scan::{MAP_ALIGN, MAP_LEN_MIN, ZEROS};
use super::sys;
use crate::hash::guard::Held;
use crate::hash::piece::piece_hashes;
use memmap2::MmapOptions;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::metainfo::{Info, PieceHash};

/// Opens a file; `None` for padding that is on no disk.
pub(super) type Open<'a> = dyn Fn(FileIndex) -> io::Result<Option<Arc<File>>> + Sync + 'a;

/// What a batch would take, before anything is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// Bytes that are read into memory; what is mapped does not count.
    owned: u64,
    /// Stretches of files that are mapped; neighbours in one file have one map and one guard together.
    maps: usize,
}

impl Cost {
    /// The most for a process that does nothing else.
    pub(super) const ALONE: Cost = Cost { owned: 8 << 20, maps: 32 };
    /// The most beside transfers, which need memory and guards too: enough for all lanes.
    pub(super) const BESIDE_TRANSFERS: Cost = Cost { owned: 4 << 20, maps: 16 };

    /// That of a piece by itself.
    pub(super) fn of(info: &Info, piece: PieceIndex) -> Cost {
        let mut cost = Cost::default();
        for segment in info.segments(piece).filter(|s| !info.files[s.file.idx()].is_padding_for_sure()) {
            match may_be_mapped(segment.len) {
                true => cost.maps += 1,
                false => cost.owned += segment.len,
            }
        }
        cost
    }

    /// That of both, if it is not more than `most`.
    pub(super) fn and(self, other: Cost, most: Cost) -> Option<Cost> {
        let both = Cost { owned: self.owned + other.owned, maps: self.maps + other.maps };
        (both.owned <= most.owned && both.maps <= most.maps).then_some(both)
    }
}

fn may_be_mapped(len: u64) -> bool {
    // Maps are guarded on Linux only.
    cfg!(target_os = "linux") && len >= MAP_LEN_MIN
}

/// Some neighbouring pieces, as far as they can be read.
pub(super) struct Batch<'a> {
    info: &'a Info,
    open: &'a Open<'a>,
    first: PieceIndex,
    count: u32,
    slices: Vec<Slice>,
}

/// One file's slice of a batch.
struct Slice {
    file: FileIndex,
    /// Where it lies in the torrent, in bytes.
    range: Range<u64>,
    bytes: Bytes,
}

enum Bytes {
    Zeros,
    Owned(Box<[u8]>),
    /// The map, and how long the file must be.
    Mapped(Held, u64),
    /// There is no map or no guard to be had now.
    Unmapped,
    Short,
    Failed(io::Error),
}

impl<'a> Batch<'a> {
    /// Maps or reads `count` pieces. `last` is the last file that was opened, which is often the next too.
    pub(super) fn load(
        info: &'a Info,
        first: PieceIndex,
        count: u32,
        open: &'a Open<'a>,
        last: &mut Option<(FileIndex, Arc<File>)>,
    ) -> Batch<'a> {
        let start = info.geometry.offset_of(first);
        let end_piece = PieceIndex(first.0 + count - 1);
        let end = info.geometry.offset_of(end_piece) + u64::from(info.geometry.len_of(end_piece));
        let slices = info.segments_of(start, end - start).map(|segment| {
            let at = info.files[segment.file.idx()].offset + segment.offset;
            let range = at..at + segment.len;
            let file = match last {
                Some((index, file)) if *index == segment.file => Ok(Some(Arc::clone(file))),
                _ if info.files[segment.file.idx()].is_padding_for_sure() => Ok(None),
                _ => open(segment.file),
            };
            let bytes = match file {
                Ok(Some(file)) => {
                    *last = Some((segment.file, Arc::clone(&file)));
                    read(&file, segment.offset, segment.len).unwrap_or_else(Bytes::Failed)
                }
                Ok(None) => Bytes::Zeros,
                Err(e) => Bytes::Failed(e),
            };
            Slice { file: segment.file, range, bytes }
        });
        Batch { info, open, first, count, slices: slices.collect() }
    }

    /// What each piece hashes to, or why that is not known; `None` for those that have to be read bit by bit.
    pub(super) fn hash(&self) -> Vec<(PieceIndex, Option<Result<PieceHash, BulkError>>)> {
        let pieces: Vec<PieceIndex> = (self.first.0..self.first.0 + self.count).map(PieceIndex).collect();
        let mut slices = &self.slices[..];
        let parts = pieces.iter().map(|&piece| {
            let range = self.range_of(piece);
            while slices.first().is_some_and(|slice| slice.range.end <= range.start) {
                slices = &slices[1..];
            }
            let within = slices.iter().take_while(|slice| slice.range.start < range.end);
            let mut parts = Vec::new();
            within.for_each(|slice| slice.push_parts(&range, &mut parts));
            parts
        });
        let parts: Vec<Vec<&[u8]>> = parts.collect();
        let shapes: Vec<_> = pieces.iter().map(|&piece| self.info.piece_shape(piece)).collect();
        let hashes = piece_hashes(&shapes, &parts);
        // Whether mapped bytes were there is known only now.
        let results = pieces.into_iter().zip(hashes).map(|(piece, hash)| {
            let is_whole = self.slices_of(piece).all(|slice| !matches!(slice.bytes, Bytes::Unmapped));
            (piece, is_whole.then(|| self.check(piece).map(|()| hash)))
        });
        results.collect()
    }

    fn range_of(&self, piece: PieceIndex) -> Range<u64> {
        let start = self.info.geometry.offset_of(piece);
        start..start + u64::from(self.info.geometry.len_of(piece))
    }

    fn slices_of(&self, piece: PieceIndex) -> impl Iterator<Item = &Slice> {
        let range = self.range_of(piece);
        let begin = self.slices.partition_point(|slice| slice.range.end <= range.start);
        self.slices[begin..].iter().take_while(move |slice| slice.range.start < range.end)
    }

    /// Whether all of a piece could be read.
    fn check(&self, piece: PieceIndex) -> Result<(), BulkError> {
        self.slices_of(piece).try_for_each(|slice| match &slice.bytes {
            Bytes::Short => Err(BulkError::Short(slice.file)),
            Bytes::Failed(e) => Err(BulkError::Io(slice.file, again(e))),
            Bytes::Mapped(held, end) if held.has_hole() => Err(self.why_hole(slice.file, *end)),
            _ => Ok(()),
        })
    }

    fn why_hole(&self, file: FileIndex, end: u64) -> BulkError {
        let opened = (self.open)(file);
        let is_short = opened
            .is_ok_and(|file| file.is_none_or(|file| file.metadata().is_ok_and(|meta| meta.len() < end)));
        match is_short {
            true => BulkError::Short(file),
            false => BulkError::Io(file, sys::unreadable()),
        }
    }
}

impl Slice {
    /// The part of this slice that lies in a range of the torrent which it touches.
    fn push_parts<'a>(&'a self, range: &Range<u64>, parts: &mut Vec<&'a [u8]>) {
        let at = range.start.saturating_sub(self.range.start) as usize;
        let end = (range.end.min(self.range.end) - self.range.start) as usize;
        match &self.bytes {
            Bytes::Zeros => {
                let len = end - at;
                parts.extend(std::iter::repeat_n(&ZEROS[..], len / ZEROS.len()));
                parts.push(&ZEROS[..len % ZEROS.len()]);
            }
            Bytes::Owned(bytes) => parts.push(&bytes[at..end]),
            Bytes::Mapped(held, _) => parts.push(&held.bytes()[at..end]),
            Bytes::Unmapped | Bytes::Short | Bytes::Failed(_) => {}
        }
    }
}

/// The same error once more, for another piece.
fn again(e: &io::Error) -> io::Error {
    e.raw_os_error().map_or_else(|| io::Error::new(e.kind(), e.to_string()), io::Error::from_raw_os_error)
}

/// Reads part of a file: large ones are mapped, and the system is told to read them now, in order, however they are hashed.
fn read(file: &File, offset: u64, len: u64) -> io::Result<Bytes> {
    let end = offset + len;
    if file.metadata()?.len() < end {
        return Ok(Bytes::Short);
    }
    if may_be_mapped(len) {
        let start = offset / MAP_ALIGN * MAP_ALIGN;
        let Ok(map) = MmapOptions::new().offset(start).len((end - start) as usize).map_raw_read_only(file)
        else {
            return Ok(Bytes::Unmapped);
        };
        sys::will_need(file, offset, len);
        let range = (offset - start) as usize..map.len();
        return Ok(Held::new(map, range).map_or(Bytes::Unmapped, |held| Bytes::Mapped(held, end)));
    }
    let mut bytes = vec![0; len as usize].into_boxed_slice();
    let read = sys::read_at(file, &mut bytes, offset)?;
    Ok(if read < bytes.len() { Bytes::Short } else { Bytes::Owned(bytes) })
}

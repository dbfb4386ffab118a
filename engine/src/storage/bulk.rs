//! Hashing many pieces: every one of a torrent on all cores, for `verify` and `create`, or some on one, for a session's checks.

use super::batch::{Batch, Cost, Open};
use super::scan::{ScanError, scan, zeros};
use crate::hash::PieceHasher;
use crate::hash::lanes::{Algorithm as _, Sha1Lanes, Sha256Lanes};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::metainfo::{Format, Info, PieceHash};

/// Each thread takes at least this many bytes of neighbouring pieces at a time, so that it opens few files and reads ahead.
const RUN_LEN: u32 = 8 << 20;

/// As many pieces are hashed side by side as hold this many bytes, or as there are lanes.
const BATCH_LEN: u32 = 4 << 20;

/// More bytes are not hashed side by side: the system would not keep them in memory until they are reached.
const BATCH_LEN_MAX: u32 = 256 << 20;

/// Why a piece could not be hashed.
#[derive(Debug)]
pub(crate) enum BulkError {
    /// A file ends before the piece does.
    Short(FileIndex),
    Io(FileIndex, io::Error),
}

/// Hashes all pieces for which `is_wanted`, with files as `open` gives them, and calls `each` with each result, in no
/// order and on any thread. Stops early when `each` gives false.
pub(crate) fn hash_pieces(
    info: &Info,
    threads: usize,
    is_wanted: &(dyn Fn(PieceIndex) -> bool + Sync),
    open: &Open<'_>,
    each: &(dyn Fn(PieceIndex, Result<PieceHash, BulkError>) -> bool + Sync),
) {
    hash_range(info, 0..info.geometry.pieces(), threads, Cost::ALONE, is_wanted, open, each);
}

/// The same for some neighbouring pieces, of which as many are hashed side by side as cost no more than `most`.
pub(super) fn hash_range(
    info: &Info,
    pieces: Range<u32>,
    threads: usize,
    most: Cost,
    is_wanted: &(dyn Fn(PieceIndex) -> bool + Sync),
    open: &Open<'_>,
    each: &(dyn Fn(PieceIndex, Result<PieceHash, BulkError>) -> bool + Sync),
) {
    let count = pieces.len() as u32;
    let batch = pieces_at_once(info.format(), info.geometry.piece_len());
    let run = run_of(info, count, threads);
    let runs = count.div_ceil(run);
    let (next, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
    let work = || {
        let mut hasher = Hasher { info, open, batch, most, each, is_over: &is_over, last: None, zeros: None };
        while !is_over.load(Ordering::Relaxed) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= runs {
                return;
            }
            let end = (n + 1).saturating_mul(run).min(count);
            let run = pieces.start + n * run..pieces.start + end;
            hasher.hash_run(run.map(PieceIndex).filter(|&piece| is_wanted(piece)));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.clamp(1, runs.max(1) as usize) {
            // Where the system has no more threads, those that there are do the work.
            if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
}

/// How many neighbouring pieces a thread takes at a time, of so many in all.
pub(crate) fn run_of(info: &Info, count: u32, threads: usize) -> u32 {
    let piece_len = info.geometry.piece_len();
    let fair_share = count.div_ceil(threads.max(1) as u32);
    (RUN_LEN / piece_len).max(pieces_at_once(info.format(), piece_len)).min(fair_share).max(1)
}

/// How many pieces are hashed side by side.
fn pieces_at_once(format: Format, piece_len: u32) -> u32 {
    // The messages are pieces in version 1, and blocks in version 2: of those a piece has many.
    let lanes = match format {
        Format::V2 => Sha256Lanes::choice().kernel.lanes() as u32 * BLOCK_LEN / piece_len,
        Format::V1 | Format::Hybrid => Sha1Lanes::choice().kernel.lanes() as u32,
    };
    if lanes == 1 {
        return 1;
    }
    (BATCH_LEN / piece_len).max(lanes).min((BATCH_LEN_MAX / piece_len).max(1))
}

/// One thread's way through the files.
struct Hasher<'a> {
    info: &'a Info,
    open: &'a Open<'a>,
    /// Pieces at once.
    batch: u32,
    /// What they cost together at most.
    most: Cost,
    each: &'a (dyn Fn(PieceIndex, Result<PieceHash, BulkError>) -> bool + Sync),
    is_over: &'a AtomicBool,
    last: Option<(FileIndex, Arc<File>)>,
    /// The digest of so many zeros, since a torrent can have any number of pieces that are all padding.
    zeros: Option<(u32, PieceHash)>,
}

impl Hasher<'_> {
    /// Hashes these pieces, which are in order. While some are hashed, the system reads the next.
    fn hash_run(&mut self, pieces: impl Iterator<Item = PieceIndex>) {
        let mut pieces = pieces.peekable();
        let mut loaded: Option<Batch<'_>> = None;
        while !self.is_over.load(Ordering::Relaxed) {
            let Some(first) = pieces.next() else { break };
            if self.info.segments(first).all(|s| self.info.files[s.file.idx()].is_padding_for_sure()) {
                let digest = self.hash_zeros(first);
                self.tell(first, Ok(digest));
                continue;
            }
            let Some(mut cost) = Cost::of(self.info, first).and(Cost::default(), self.most) else {
                let result = self.hash_alone(first);
                self.tell(first, result);
                continue;
            };
            let mut count = 1;
            while count < self.batch
                && let next = PieceIndex(first.0 + count)
                && pieces.peek() == Some(&next)
                && let Some(both) = cost.and(Cost::of(self.info, next), self.most)
            {
                pieces.next();
                (cost, count) = (both, count + 1);
            }
            let batch = Batch::load(self.info, first, count, self.open, &mut self.last);
            if let Some(before) = loaded.replace(batch) {
                self.finish(before);
            }
        }
        if let Some(last) = loaded {
            self.finish(last);
        }
    }

    fn finish(&mut self, batch: Batch<'_>) {
        for (piece, result) in batch.hash() {
            let result = result.unwrap_or_else(|| self.hash_alone(piece));
            self.tell(piece, result);
        }
    }

    /// Hashes a piece that takes too much memory or too many maps otherwise, as it is read.
    fn hash_alone(&mut self, piece: PieceIndex) -> Result<PieceHash, BulkError> {
        let mut hasher = PieceHasher::new(self.info.piece_shape(piece));
        for segment in self.info.segments(piece) {
            let index = segment.file;
            let Some(file) = self.file(index).map_err(|e| BulkError::Io(index, e))? else {
                zeros(segment.len, |bytes| hasher.update(bytes));
                continue;
            };
            scan(&file, segment.offset, segment.len, |bytes| hasher.update(bytes)).map_err(|e| match e {
                ScanError::Short => BulkError::Short(index),
                ScanError::Io(e) => BulkError::Io(index, e),
            })?;
        }
        Ok(hasher.finish())
    }

    fn file(&mut self, index: FileIndex) -> io::Result<Option<Arc<File>>> {
        if let Some((last, file)) = &self.last
            && *last == index
        {
            return Ok(Some(Arc::clone(file)));
        }
        if self.info.files[index.idx()].is_padding_for_sure() {
            return Ok(None);
        }
        let Some(file) = (self.open)(index)? else { return Ok(None) };
        self.last = Some((index, Arc::clone(&file)));
        Ok(Some(file))
    }

    fn tell(&self, piece: PieceIndex, result: Result<PieceHash, BulkError>) {
        if !self.is_over.load(Ordering::Relaxed) && !(self.each)(piece, result) {
            self.is_over.store(true, Ordering::Relaxed);
        }
    }

    fn hash_zeros(&mut self, piece: PieceIndex) -> PieceHash {
        let len = self.info.geometry.len_of(piece);
        match self.zeros {
            Some((of, digest)) if of == len => digest,
            _ => {
                let mut hasher = PieceHasher::new(self.info.piece_shape(piece));
                zeros(len.into(), |bytes| hasher.update(bytes));
                self.zeros.insert((len, hasher.finish())).1
            }
        }
    }
}

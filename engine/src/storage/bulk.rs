//! Hashing every piece of a torrent on all cores, for `verify` and `create`.

use super::scan::{ScanError, scan, zeros};
use crate::hash::{Digest, Sha1};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::metainfo::Info;

/// Each thread takes about this many bytes of neighbouring pieces at a time, so that it opens few files and reads ahead.
const RUN_LEN: u32 = 8 << 20;

/// Why a piece could not be hashed.
#[derive(Debug)]
pub(crate) enum BulkError {
    /// A file ends before the piece does.
    Short(FileIndex),
    Io(FileIndex, io::Error),
}

/// Opens a file; `None` for padding that is on no disk.
type Open<'a> = dyn Fn(FileIndex) -> io::Result<Option<File>> + Sync + 'a;

/// Hashes all pieces for which `is_wanted`, with files as `open` gives them, and calls `each` with each result, in no
/// order and on any thread. Stops early when `each` gives false.
pub(crate) fn hash_pieces(
    info: &Info,
    threads: usize,
    is_wanted: &(dyn Fn(PieceIndex) -> bool + Sync),
    open: &Open<'_>,
    each: &(dyn Fn(PieceIndex, Result<Digest, BulkError>) -> bool + Sync),
) {
    let geometry = info.geometry;
    let run = (RUN_LEN / geometry.piece_len()).max(1);
    let runs = geometry.pieces().div_ceil(run);
    let (next, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
    let work = || {
        let mut reader = Reader { info, open, last: None, zeros: None };
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= runs {
                return;
            }
            let end = (n + 1).saturating_mul(run).min(geometry.pieces());
            for piece in (n * run..end).map(PieceIndex).filter(|&piece| is_wanted(piece)) {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                if !each(piece, reader.hash(piece)) {
                    is_over.store(true, Ordering::Relaxed);
                }
            }
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

/// One thread's way through the files.
struct Reader<'a> {
    info: &'a Info,
    open: &'a Open<'a>,
    last: Option<(FileIndex, Arc<File>)>,
    /// The digest of so many zeros, since a torrent can have any number of pieces that are all padding.
    zeros: Option<(u32, Digest)>,
}

impl Reader<'_> {
    fn hash(&mut self, piece: PieceIndex) -> Result<Digest, BulkError> {
        if self.info.segments(piece).all(|s| self.info.files[s.file.idx()].is_padding_for_sure()) {
            return Ok(self.hash_zeros(self.info.geometry.len_of(piece)));
        }
        let mut hasher = Sha1::default();
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

    fn hash_zeros(&mut self, len: u32) -> Digest {
        match self.zeros {
            Some((of, digest)) if of == len => digest,
            _ => {
                let mut hasher = Sha1::default();
                zeros(len.into(), |bytes| hasher.update(bytes));
                self.zeros.insert((len, hasher.finish())).1
            }
        }
    }

    fn file(&mut self, index: FileIndex) -> io::Result<Option<Arc<File>>> {
        if self.info.files[index.idx()].is_padding_for_sure() {
            return Ok(None);
        }
        if let Some((last, file)) = &self.last
            && *last == index
        {
            return Ok(Some(Arc::clone(file)));
        }
        let Some(file) = (self.open)(index)? else { return Ok(None) };
        let file = Arc::new(file);
        self.last = Some((index, Arc::clone(&file)));
        Ok(Some(file))
    }
}

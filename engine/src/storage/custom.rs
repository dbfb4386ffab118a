//! Storage that an embedder has made: whole, verified pieces go in, and any part of them comes out.
//!
//! The engine assembles and verifies pieces, checks what may be there, and keeps track of what is. There is no part file: if memory
//! for received blocks runs out, a partial piece for which no block comes, or else the smallest, is dropped and requested again.

use super::prepared::{Bytes, Part, Prepared};
use super::scan::ZEROS;
use super::{Mode, OpenOptions, Opened, PieceOutcome, Storage, StorageError, Trust, lock};
use crate::buffer::{PieceBuffer, Spill};
use crate::hash::{PieceHasher, piece_hash};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::metainfo::{Format, Info, Metainfo, PieceHash};

/// How much of a piece is read at a time to check it.
const CHUNK_LEN: u32 = 256 * 1024;

/// What is in a [`PieceStorage`] of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stored {
    /// Nothing: it is downloaded.
    Missing,
    /// Something that has to be checked.
    Unverified,
    /// The piece as it was written. It is read as a whole, and checked, before any of it is sent or read for the first time, since storage
    /// can rot; and when the user asks for a recheck.
    Verified,
}

/// Where the pieces of one torrent are kept, if not in files: see [`AddTorrent::download_to`](crate::AddTorrent::download_to).
///
/// **Calls** come from worker threads, several at a time, and may block. [`open`](Self::open) comes first, then
/// [`stored`](Self::stored) for each piece; after [`close`](Self::close) nothing comes but another `open` (the torrent was paused,
/// rechecked, or given other files) or [`delete`](Self::delete). Calls that concern one piece never write it at the same time as they
/// read it. A panic ends the torrent.
///
/// **Pieces** are written whole, once, and only after their hash was right; HAVE is sent after its `write` has returned.
/// From then on it is read, in parts, in any order, as often as peers and readers want it. Padding (BEP 47) is written and read like
/// other bytes. A piece is written again only if it was found bad: then the later one counts.
///
/// **Errors** of `reserve`, `write` and `finish` are either waited for or end the torrent. [`StorageFull`](io::ErrorKind::StorageFull)
/// and [`QuotaExceeded`](io::ErrorKind::QuotaExceeded) are tried again every second; what may pass by itself (such as
/// [`TimedOut`](io::ErrorKind::TimedOut), [`NotConnected`](io::ErrorKind::NotConnected),
/// [`ResourceBusy`](io::ErrorKind::ResourceBusy), [`OutOfMemory`](io::ErrorKind::OutOfMemory), an I/O error of the system) after longer
/// and longer waits. Meanwhile pieces stay in memory, and nothing more is asked of peers. Anything else ends the torrent with
/// [`Error::Storage`](crate::Error::Storage). An error of `read` fails the one request or reader that it was for, and a warning
/// says so; in a check, the piece counts as missing.
pub trait PieceStorage: fmt::Debug + Send + Sync + 'static {
    /// The torrent starts. Its metainfo says how many pieces there are, and how long.
    ///
    /// # Errors
    /// As those of `reserve`.
    fn open(&self, _metainfo: &Metainfo) -> io::Result<()> {
        Ok(())
    }

    /// What is there of a piece.
    fn stored(&self, piece: PieceIndex) -> Stored;

    /// Fills `buf` with what the piece holds from `begin` on.
    ///
    /// # Errors
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) or [`NotFound`](io::ErrorKind::NotFound) if there is less; whatever else.
    fn read(&self, piece: PieceIndex, begin: u32, buf: &mut [u8]) -> io::Result<()>;

    /// Stores a whole piece, given as its parts in order.
    ///
    /// # Errors
    /// See above. What was stored of it does not count.
    fn write(&self, piece: PieceIndex, parts: &[&[u8]]) -> io::Result<()>;

    /// Makes sure of space for so many bytes that are still to be written, before a download begins, and after an error until it
    /// succeeds.
    ///
    /// # Errors
    /// See above.
    fn reserve(&self, _bytes: u64) -> io::Result<()> {
        Ok(())
    }

    /// Makes what was written durable. A few seconds after a write.
    ///
    /// # Errors
    /// What may pass stalls the torrent as above; anything else is only a warning.
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    /// Every piece that is wanted has been written.
    ///
    /// # Errors
    /// See above; it is called again.
    fn finish(&self) -> io::Result<()> {
        Ok(())
    }

    /// The torrent stops.
    ///
    /// # Errors
    /// They end the torrent, which ends anyway.
    fn close(&self) -> io::Result<()> {
        Ok(())
    }

    /// The torrent was removed together with its data.
    ///
    /// # Errors
    /// They are the torrent's outcome.
    fn delete(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A storage that an embedder has made, as the session sees it.
pub(super) struct Custom {
    info: Arc<Info>,
    pieces: Arc<dyn PieceStorage>,
    needed: Bitfield,
    have: Mutex<Bitfield>,
    /// Of these, those that nobody has read yet.
    unchecked: Mutex<Bitfield>,
    is_finished: AtomicBool,
}

impl Custom {
    pub(super) fn open(
        metainfo: &Metainfo,
        pieces: Arc<dyn PieceStorage>,
        options: &OpenOptions,
    ) -> Result<(Custom, Opened), StorageError> {
        let info = Arc::clone(&metainfo.info);
        let is_wanted = |file: FileIndex| match &options.mode {
            Mode::Download { wanted: Some(wanted) } => wanted[file.idx()],
            _ => true,
        };
        let is_needed = |file: FileIndex| is_wanted(file) && !info.files[file.idx()].attr.pad;
        let none = || Bitfield::empty(info.geometry.pieces());
        let (mut have, mut recheck, mut needed) = (none(), none(), none());
        pieces.open(metainfo).map_err(|e| error(&info, "open", 0, e))?;
        for piece in info.geometry.piece_indices() {
            match pieces.stored(piece) {
                Stored::Missing => {}
                Stored::Verified if options.trust != Trust::Nothing => drop(have.insert(piece)),
                Stored::Verified | Stored::Unverified => drop(recheck.insert(piece)),
            }
            if info.segments(piece).any(|segment| is_needed(segment.file)) {
                needed.insert(piece);
            }
        }
        let opened = Opened {
            have: have.clone(),
            recheck,
            needed: needed.clone(),
            damaged: none(),
            partial: Vec::new(),
            absent: Vec::new(),
            warnings: Vec::new(),
        };
        let (unchecked, have) = (Mutex::new(have.clone()), Mutex::new(have));
        let is_finished = AtomicBool::new(options.mode == Mode::Seed);
        Ok((Custom { info, pieces, needed, have, unchecked, is_finished }, opened))
    }

    fn have(&self) -> MutexGuard<'_, Bitfield> {
        lock(&self.have)
    }

    fn failed<R>(&self, action: &'static str, needed: u64, result: io::Result<R>) -> Result<R, StorageError> {
        result.map_err(|e| error(&self.info, action, needed, e))
    }

    fn hash(&self, piece: PieceIndex) -> io::Result<PieceHash> {
        let len = self.info.geometry.len_of(piece);
        let mut hasher = PieceHasher::new(self.info.piece_shape(piece));
        let mut buf = vec![0; len.min(CHUNK_LEN) as usize];
        for begin in (0..len).step_by(CHUNK_LEN as usize) {
            let chunk = &mut buf[..(len - begin).min(CHUNK_LEN) as usize];
            self.pieces.read(piece, begin, chunk)?;
            hasher.update(chunk);
        }
        Ok(hasher.finish())
    }
}

/// Leaves the first `len` bytes of these.
fn cut(parts: &mut Vec<&[u8]>, len: usize) {
    let mut left = len;
    for part in parts.iter_mut() {
        *part = &part[..part.len().min(left)];
        left -= part.len();
    }
}

/// An error of an embedder's storage. The torrent's name stands for the path.
fn error(info: &Info, action: &'static str, needed: u64, error: io::Error) -> StorageError {
    StorageError::space(info.name.as_ref(), action, needed, error)
}

impl Storage for Custom {
    fn path(&self) -> PathBuf {
        PathBuf::from(&self.info.name)
    }

    fn reserve(&self) -> Result<(), StorageError> {
        let have = self.have().clone();
        let missing = self.needed.iter_without(&have);
        let bytes = missing.map(|piece| u64::from(self.info.geometry.len_of(piece))).sum();
        self.failed("reserve space in", bytes, self.pieces.reserve(bytes))
    }

    fn verify_and_write(&self, buffer: PieceBuffer) -> PieceOutcome {
        let (piece, len) = (buffer.piece(), buffer.piece_len());
        let blocks = 0..len.div_ceil(BLOCK_LEN);
        let mut parts: Vec<&[u8]> =
            blocks.map(|index| buffer.block(index).expect("a complete piece")).collect();
        if self.info.format() == Format::Hybrid
            && !self.info.padding.is_assumed_in(&self.info.geometry, piece)
        {
            // Whatever came in the place of what is padding for sure does not count.
            cut(&mut parts, self.info.payload_of(piece) as usize);
            let padding = (len - self.info.payload_of(piece)) as usize;
            parts.extend(std::iter::repeat_n(&ZEROS[..], padding / ZEROS.len()));
            parts.push(&ZEROS[..padding % ZEROS.len()]);
            parts.retain(|part| !part.is_empty());
        }
        let hash = piece_hash(self.info.piece_shape(piece), parts.iter().copied());
        if self.info.is_contradicted_by(piece, hash) {
            return PieceOutcome::Contradictory;
        }
        if hash != self.info.piece_hash(piece) {
            return PieceOutcome::HashMismatch(buffer);
        }
        match self.failed("write", len.into(), self.pieces.write(piece, &parts)) {
            Ok(()) => {
                self.have().insert(piece);
                PieceOutcome::Ok
            }
            Err(error) => PieceOutcome::Failed { error, buffer },
        }
    }

    fn can_spill(&self) -> bool {
        false
    }

    fn spill(&self, _: &Spill) -> Result<(), StorageError> {
        self.failed("spill to", 0, Err(io::ErrorKind::Unsupported.into()))
    }

    fn check_piece(&self, piece: PieceIndex) -> Result<bool, StorageError> {
        let is_right = match self.hash(piece) {
            Ok(hash) if self.info.is_contradicted_by(piece, hash) => {
                return Err(StorageError::contradiction(&self.info, piece));
            }
            Ok(hash) => hash == self.info.piece_hash(piece),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => false,
            Err(e) => return Err(StorageError::io(&self.path(), "read", e)),
        };
        let mut have = self.have();
        let _ = if is_right { have.insert(piece) } else { have.remove(piece) };
        lock(&self.unchecked).remove(piece);
        Ok(is_right)
    }

    fn is_unchecked(&self, piece: PieceIndex) -> bool {
        lock(&self.unchecked).has(piece)
    }

    fn has(&self, piece: PieceIndex) -> bool {
        self.have().has(piece)
    }

    fn is_downloading(&self) -> bool {
        !self.is_finished.load(Ordering::Relaxed)
    }

    fn prepare(&self, piece: PieceIndex, range: Range<u32>) -> Result<Prepared, StorageError> {
        let mut bytes = vec![0; range.len()].into_boxed_slice();
        // What lies beyond a file of version 2 is zeros to whoever asks.
        let len = range.end.min(self.info.geometry.len_of(piece)) - range.start;
        let read = self.pieces.read(piece, range.start, &mut bytes[..len as usize]);
        read.map_err(|e| StorageError::io(&self.path(), "read", e))?;
        let part = Part { end: range.end, bytes: Bytes::Owned(bytes) };
        Ok(Prepared::new(range, vec![part]))
    }

    fn sync(&self) -> Result<Vec<FileIndex>, StorageError> {
        self.failed("sync", 0, self.pieces.sync()).map(|()| Vec::new())
    }

    fn finish(&self) -> Result<Vec<FileIndex>, StorageError> {
        self.failed("finish", 0, self.pieces.finish())?;
        self.is_finished.store(true, Ordering::Relaxed);
        Ok(Vec::new())
    }

    fn close(&self) -> Result<(), StorageError> {
        self.failed("close", 0, self.pieces.close())
    }

    fn abandon(&self) {
        let _ = self.close().inspect_err(|e| tracing::warn!("{e}"));
    }

    fn delete(&self) -> Result<(), StorageError> {
        self.pieces.delete().map_err(|e| StorageError::io(&self.path(), "delete", e))
    }
}

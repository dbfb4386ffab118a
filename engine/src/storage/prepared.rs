//! Part of a piece, ready to be sent.

use super::error::StorageError;
use super::handles::Map;
use super::sys::{self, Stamp};
use crate::hash::guard::Watched;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What pad files hold, as much as one slice shows at a time.
static ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];

/// A range of a piece whose bytes are in memory, so that the network thread can send them without waiting for a
/// disk. Cheap to clone.
///
/// Most bytes lie in a map of the file and belong to the page cache. If the file is truncated, `writev` from
/// [`slices`](Self::slices) fails with EFAULT, and [`check`](Self::check) says which file it was. Reading mapped bytes would be
/// SIGBUS: use [`copy_to`](Self::copy_to), or a guard as encrypted connections do.
#[derive(Clone, Debug)]
pub struct Prepared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    range: Range<u32>,
    parts: Vec<Part>,
}

/// Bytes of one file, or none.
#[derive(Debug)]
pub(super) struct Part {
    /// Where it ends in the piece, in bytes.
    pub(super) end: u32,
    pub(super) bytes: Bytes,
}

#[derive(Debug)]
pub(super) enum Bytes {
    /// From `at` in a map on, of a file that should be `file_len` long, and that looked like `stamp` unless it is still written to.
    Mapped {
        map: Arc<Map>,
        at: usize,
        path: PathBuf,
        file_len: u64,
        stamp: Option<Stamp>,
    },
    Owned(Box<[u8]>),
    /// Of a pad file.
    Zeros,
}

impl Prepared {
    pub(super) fn new(range: Range<u32>, parts: Vec<Part>) -> Prepared {
        debug_assert_eq!(parts.last().map_or(range.start, |part| part.end), range.end);
        Prepared(Arc::new(Inner { range, parts }))
    }

    /// Whether all of these bytes are here.
    pub fn covers(&self, begin: u32, len: u32) -> bool {
        begin >= self.0.range.start && begin.checked_add(len).is_some_and(|end| end <= self.0.range.end)
    }

    /// Which bytes of its piece are here.
    pub fn range(&self) -> Range<u32> {
        self.0.range.clone()
    }

    /// Bytes of our own memory that this holds; mapped ones do not count.
    pub fn owned_bytes(&self) -> usize {
        let owned = |part: &Part| if let Bytes::Owned(bytes) = &part.bytes { bytes.len() } else { 0 };
        self.0.parts.iter().map(owned).sum()
    }

    /// The bytes from `begin` in the piece on, in order, ready for `writev`. Not to be read: see [`Prepared`].
    ///
    /// # Panics
    /// If they are not all [here](Self::covers).
    pub fn slices(&self, begin: u32, len: u32) -> impl Iterator<Item = &[u8]> + '_ {
        self.spans(begin, len).flat_map(|(part, span)| {
            let len = span.len();
            let (bytes, repeat) = match &part.bytes {
                Bytes::Mapped { map, at, .. } => {
                    let start = at + span.start;
                    assert!(start + len <= map.raw.len(), "a prepared part lies in its map");
                    // SAFETY: the range lies in a live read-only map, which the slice's owner keeps alive. The bytes
                    // may change or vanish with the file; callers hand them to the system or read them under a guard.
                    (unsafe { std::slice::from_raw_parts(map.raw.as_ptr().add(start), len) }, 1)
                }
                Bytes::Owned(bytes) => (&bytes[span], 1),
                Bytes::Zeros => (&ZEROS[..len.min(ZEROS.len())], len.div_ceil(ZEROS.len())),
            };
            (0..repeat).map(move |i| &bytes[..bytes.len().min(len - i * bytes.len())])
        })
    }

    /// Copies the bytes from `begin` in the piece on, for connections that transform what they send.
    ///
    /// # Errors
    /// [`StorageError::Truncated`] if a file was cut short.
    ///
    /// # Panics
    /// If they are not all [here](Self::covers).
    pub fn copy_to(&self, begin: u32, buf: &mut [u8]) -> Result<(), StorageError> {
        let mut rest = &mut buf[..];
        for (part, span) in self.spans(begin, rest.len() as u32) {
            let (here, after) = rest.split_at_mut(span.len());
            rest = after;
            match &part.bytes {
                Bytes::Mapped { map, at, path, file_len, .. } => {
                    let from = map.start + (at + span.start) as u64;
                    let read =
                        sys::read_at(&map.file, here, from).map_err(|e| StorageError::io(path, "read", e))?;
                    if read < here.len() {
                        let len = from + read as u64;
                        return Err(StorageError::Truncated { path: path.clone(), len, expected: *file_len });
                    }
                }
                Bytes::Owned(bytes) => here.copy_from_slice(&bytes[span]),
                Bytes::Zeros => here.fill(0),
            }
        }
        Ok(())
    }

    /// Whether every mapped file still looks as it did, so that this may be used again later. The system does not report a
    /// change, or a cut inside a page: what is there would be sent.
    pub fn still_valid(&self) -> bool {
        self.check().is_ok()
    }

    /// Like [`still_valid`](Self::still_valid), but says what is wrong.
    ///
    /// # Errors
    /// [`StorageError::Truncated`] with the file that is too short now; [`StorageError::Changed`] if it was changed.
    pub fn check(&self) -> Result<(), StorageError> {
        self.0.parts.iter().try_for_each(Part::check)
    }

    /// Guards for everything in maps, so that the [slices](Self::slices) can be read: all bytes there. `None` if there are not enough.
    pub(super) fn watch(&self) -> Option<Vec<Watched>> {
        let mut start = self.0.range.start;
        let mapped = self.0.parts.iter().filter_map(|part| {
            let len = part.end - std::mem::replace(&mut start, part.end);
            let Bytes::Mapped { map, at, .. } = &part.bytes else { return None };
            assert!(at + len as usize <= map.raw.len(), "a prepared part lies in its map");
            // SAFETY: as in `slices`; only the addresses are looked at.
            let bytes = unsafe { std::slice::from_raw_parts(map.raw.as_ptr().add(*at), len as usize) };
            Some(Watched::new(bytes))
        });
        mapped.collect()
    }

    /// Something in these maps could not be read: they are not used again.
    pub fn leave_maps(&self) {
        for part in &self.0.parts {
            if let Bytes::Mapped { map, .. } = &part.bytes {
                map.is_hollow.store(true, Ordering::Relaxed);
            }
        }
    }

    /// The parts that `len` bytes from `begin` lie in, with the range within each.
    fn spans(&self, begin: u32, len: u32) -> impl Iterator<Item = (&Part, Range<usize>)> {
        assert!(self.covers(begin, len), "{len} bytes at {begin} of {:?}", self.0.range);
        let end = begin + len;
        let parts = &self.0.parts;
        let first = parts.partition_point(|part| part.end <= begin);
        let mut start = if first == 0 { self.0.range.start } else { parts[first - 1].end };
        parts[first..].iter().map_while(move |part| {
            let part_start = std::mem::replace(&mut start, part.end);
            (part_start < end).then(|| {
                let from = begin.max(part_start) - part_start;
                let to = end.min(part.end) - part_start;
                (part, from as usize..to as usize)
            })
        })
    }
}

impl Part {
    fn check(&self) -> Result<(), StorageError> {
        let Bytes::Mapped { map, path, file_len, stamp, .. } = &self.bytes else { return Ok(()) };
        let meta = map.file.metadata().map_err(|e| StorageError::io(path, "look at", e))?;
        if meta.len() < *file_len {
            return Err(StorageError::Truncated { path: path.clone(), len: meta.len(), expected: *file_len });
        }
        if map.is_hollow.load(Ordering::Relaxed) {
            return Err(StorageError::Changed { path: path.clone() });
        }
        if stamp.is_some_and(|stamp| stamp != Stamp::of(&meta)) {
            return Err(StorageError::Changed { path: path.clone() });
        }
        Ok(())
    }
}

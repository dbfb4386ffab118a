//! The hashes of the pieces, kept once: as a part of the info dictionary that they were read from.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// SHA-1 of each piece, 20 bytes apiece. Clones share the bytes.
#[derive(Clone)]
pub struct PieceHashes {
    bytes: Arc<[u8]>,
    range: Range<usize>,
}

impl PieceHashes {
    /// The part `range` of an info dictionary.
    pub(super) fn within(dict: &Arc<[u8]>, range: Range<usize>) -> PieceHashes {
        PieceHashes { bytes: Arc::clone(dict), range }
    }
}

impl From<Vec<u8>> for PieceHashes {
    fn from(bytes: Vec<u8>) -> PieceHashes {
        PieceHashes { range: 0..bytes.len(), bytes: bytes.into() }
    }
}

impl Deref for PieceHashes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }
}

impl PartialEq for PieceHashes {
    fn eq(&self, other: &PieceHashes) -> bool {
        **self == **other
    }
}

impl Eq for PieceHashes {}

impl fmt::Debug for PieceHashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} piece hashes", self.len() / 20)
    }
}

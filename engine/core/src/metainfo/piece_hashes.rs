//! What pieces must hash to. The hashes of version 1 are kept once: as a part of the info dictionary that they were read from.

use crate::geometry::BLOCK_LEN;
use crate::id::PieceIndex;
use crate::merkle::{self, Node};
use bytes::Bytes;
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// SHA-1 of each piece, 20 bytes apiece. Clones share the bytes.
#[derive(Clone)]
pub struct PieceHashes(Bytes);

impl PieceHashes {
    /// The part `range` of an info dictionary.
    pub(super) fn within(dict: &Bytes, range: Range<usize>) -> PieceHashes {
        PieceHashes(dict.slice(range))
    }

    /// Where they lie in these bytes, if they share them.
    pub(super) fn range_in(&self, dict: &Bytes) -> Option<Range<usize>> {
        let start = self.0.as_ptr().addr().checked_sub(dict.as_ptr().addr())?;
        let end = start.checked_add(self.0.len())?;
        (end <= dict.len()).then_some(start..end)
    }

    /// That of one piece.
    ///
    /// # Panics
    /// If there is no such piece.
    pub fn of(&self, piece: PieceIndex) -> [u8; 20] {
        let at = piece.idx() * 20;
        self[at..at + 20].try_into().expect("20 bytes")
    }
}

impl From<Vec<u8>> for PieceHashes {
    fn from(bytes: Vec<u8>) -> PieceHashes {
        PieceHashes(bytes.into())
    }
}

impl Deref for PieceHashes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
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

/// For each piece of a torrent of version 2, the node that covers it in its file's hash tree. Clones share them.
#[derive(Clone, PartialEq, Eq)]
pub struct PieceNodes(Arc<Vec<Node>>);

impl PieceNodes {
    /// That of one piece.
    ///
    /// # Panics
    /// If there is no such piece.
    pub fn of(&self, piece: PieceIndex) -> Node {
        self.0[piece.idx()]
    }
}

impl From<Vec<Node>> for PieceNodes {
    fn from(nodes: Vec<Node>) -> PieceNodes {
        PieceNodes(Arc::new(nodes))
    }
}

impl Deref for PieceNodes {
    type Target = [Node];

    fn deref(&self) -> &[Node] {
        &self.0
    }
}

impl fmt::Debug for PieceNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} piece nodes", self.0.len())
    }
}

/// What a piece hashes to, in each version that its torrent is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PieceHash {
    /// SHA-1 of the whole piece, padding included: version 1.
    pub sha1: Option<[u8; 20]>,
    /// The node that covers the piece in its file's hash tree: version 2.
    pub node: Option<Node>,
}

/// How a piece is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceShape {
    /// Whether its SHA-1 is wanted.
    pub sha1: bool,
    /// How its blocks make a tree, if its node is wanted.
    pub tree: Option<PieceTree>,
}

/// The part of a file's hash tree that lies below a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceTree {
    /// Bytes of the piece that are in the file; what follows is padding, and not hashed.
    pub len: u32,
    /// The layer of the node that covers the piece, counted from the leaves up.
    pub layer: u32,
}

impl PieceTree {
    /// How many leaves there are: one for each 16 KiB of the piece's bytes in the file.
    pub fn leaves(&self) -> usize {
        self.len.div_ceil(BLOCK_LEN) as usize
    }

    /// The node over these leaves.
    ///
    /// # Panics
    /// If there are more than fit below one node.
    pub fn node(&self, leaves: &[Node]) -> Node {
        merkle::root(leaves, 0, self.layer)
    }
}

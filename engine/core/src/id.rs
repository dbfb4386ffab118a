//! Identifiers, each its own type so that a piece is never taken for a file.

use crate::hex::{shown_in_hex, unhex};
use std::fmt;
use std::str::FromStr;

/// SHA-1 over the raw bytes of a torrent's info dictionary (BEP 3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHash(pub [u8; 20]);

/// SHA-256 over the raw bytes of a torrent's info dictionary, of BitTorrent v2 (BEP 52).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHashV2(pub [u8; 32]);

/// What a peer calls itself in its handshake (BEP 20).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 20]);

/// A piece of a torrent, counted from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceIndex(pub u32);

/// A file of a torrent, counted from zero in the order of the metainfo, pad files included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileIndex(pub u32);

/// Our local handle of one connection. Given by the shell, never reused within a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub u32);

/// A range of bytes within one piece, as requested from and sent to peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockRef {
    /// The piece it lies in.
    pub piece: PieceIndex,
    /// Offset in the piece, in bytes.
    pub begin: u32,
    /// Length in bytes; 16 KiB but for a torrent's last block.
    pub len: u32,
}

impl PieceIndex {
    /// As an index into a vector with an entry for each piece.
    pub const fn idx(self) -> usize {
        self.0 as usize
    }
}

impl FileIndex {
    /// As an index into a vector with an entry for each file.
    pub const fn idx(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The info-hashes that a torrent goes by on the network. A hybrid torrent (BEP 52) has both; a mutable torrent (BEP 46) has none
/// before it is resolved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHashes {
    /// SHA-1, of version 1.
    pub v1: Option<InfoHash>,
    /// SHA-256, of version 2.
    pub v2: Option<InfoHashV2>,
}

impl InfoHashes {
    /// The 20 bytes that stand for each of them in handshakes, announces and the DHT; that of version 1 first.
    pub fn swarms(self) -> impl Iterator<Item = InfoHash> {
        self.v1.into_iter().chain(self.v2.map(|v2| v2.truncated()))
    }
}

impl From<InfoHash> for InfoHashes {
    fn from(v1: InfoHash) -> InfoHashes {
        InfoHashes { v1: Some(v1), v2: None }
    }
}

impl fmt::Display for InfoHashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.v1, self.v2) {
            (Some(v1), _) => v1.fmt(f),
            (None, Some(v2)) => v2.fmt(f),
            (None, None) => f.write_str("unknown"),
        }
    }
}

impl InfoHashV2 {
    /// Its first 20 bytes, which stand for it in handshakes, announces and the DHT.
    pub fn truncated(&self) -> InfoHash {
        InfoHash(*self.0.first_chunk().expect("32 bytes"))
    }
}

shown_in_hex!(InfoHash, InfoHashV2);

/// The text is not 40 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an info-hash is 40 hexadecimal digits")]
pub struct ParseInfoHashError;

impl FromStr for InfoHash {
    type Err = ParseInfoHashError;
    fn from_str(s: &str) -> Result<InfoHash, ParseInfoHashError> {
        unhex(s).and_then(|hash| hash.try_into().ok()).map(InfoHash).ok_or(ParseInfoHashError)
    }
}

impl fmt::Display for PeerId {
    /// Printable ASCII as it is, every other byte as `%xx`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&b| match b {
            b'%' => f.write_str("%25"),
            b'!'..=b'~' => write!(f, "{}", b as char),
            _ => write!(f, "%{b:02x}"),
        })
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

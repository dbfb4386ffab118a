//! What a torrent is called, in its session and on the network.

use std::fmt;
use swarm_core::id::{InfoHash, InfoHashV2};

/// A torrent of a session: a number that no other torrent of the session gets, even once this one is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TorrentId(pub(crate) u64);

impl TorrentId {
    /// The number, from 1 up.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TorrentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The info-hashes that a torrent goes by on the network. A hybrid torrent (BEP 52) has both; a mutable torrent (BEP 46) has none
/// before it is resolved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct InfoHashes {
    /// SHA-1, of version 1.
    pub v1: Option<InfoHash>,
    /// SHA-256, of version 2. Known from the metainfo; swarms are joined by version 1 so far.
    pub v2: Option<InfoHashV2>,
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

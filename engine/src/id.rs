//! What a torrent is called in its session.

use std::fmt;

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

//! The readers of a torrent's files, as the torrent knows them.

use super::command::ReadPart;
use std::collections::BTreeMap;
use std::ops::Range;
use swarm_core::id::PieceIndex;

/// The readers of a torrent's files.
#[derive(Debug, Default)]
pub(super) struct Readers {
    /// The pieces that each reader wants first.
    pub(super) windows: BTreeMap<u64, Range<u32>>,
    /// What readers wait for.
    pub(super) waiting: BTreeMap<PieceIndex, Vec<ReadPart>>,
}

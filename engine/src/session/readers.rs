//! The readers of a torrent's files, as the torrent knows them.

use super::command::{ReadPart, ReadRequest};
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

impl Readers {
    /// Adds what a reader asks for; gives where its window was before.
    pub(super) fn add(&mut self, request: ReadRequest) -> Range<u32> {
        let ReadRequest { reader, window, part } = request;
        // Readers lose interest when they seek, or are dropped.
        self.waiting.retain(|_, parts| {
            parts.retain(|part| !part.reply.is_closed());
            !parts.is_empty()
        });
        if let Some(part) = part {
            self.waiting.entry(part.piece).or_default().push(part);
        }
        let before = match window.is_empty() {
            true => self.windows.remove(&reader),
            false => self.windows.insert(reader, window),
        };
        before.unwrap_or_default()
    }
}

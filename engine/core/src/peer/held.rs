//! Requests that wait until it is known what their pieces are.

use crate::id::{BlockRef, PieceIndex};
use std::collections::BTreeMap;

/// One peer's requests of pieces in doubt, by their pieces, each piece's in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pieces: BTreeMap<PieceIndex, Vec<BlockRef>>,
    len: usize,
}

impl Held {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, block: BlockRef) {
        self.pieces.entry(block.piece).or_default().push(block);
        self.len += 1;
    }

    /// Takes all of a piece.
    pub(crate) fn take(&mut self, piece: PieceIndex) -> Vec<BlockRef> {
        let taken = self.pieces.remove(&piece).unwrap_or_default();
        self.len -= taken.len();
        taken
    }

    /// Forgets a request, if it is there; returns how many were looked at.
    pub(crate) fn cancel(&mut self, block: BlockRef) -> usize {
        let Some(blocks) = self.pieces.get_mut(&block.piece) else { return 0 };
        let looked_at = blocks.len();
        if let Some(at) = blocks.iter().position(|&held| held == block) {
            blocks.remove(at);
            self.len -= 1;
        }
        if blocks.is_empty() {
            self.pieces.remove(&block.piece);
        }
        looked_at
    }

    pub(crate) fn clear(&mut self) {
        *self = Held::default();
    }
}

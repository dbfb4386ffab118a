//! In how many connected peers each piece is.

use crate::bitfield::Bitfield;
use crate::id::PieceIndex;

/// How a peer's pieces are counted. Whatever it gains or loses later changes one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// One for each piece that it has.
    ByPieces,
    /// As a seed, less one for each piece that it has not: it had most of them when it said which.
    AsSeed,
}

impl Counted {
    /// The way that looks at fewer pieces.
    pub(super) fn of(have: &Bitfield) -> Counted {
        if have.count() > have.len() / 2 { Counted::AsSeed } else { Counted::ByPieces }
    }
}

/// The number for each piece is its own and that of the seeds.
#[derive(Debug)]
pub(super) struct Availability {
    pieces: u32,
    /// Empty while there are no peers.
    by_piece: Vec<i32>,
    seeds: i32,
    peers: u32,
}

impl Availability {
    pub(super) fn new(pieces: u32) -> Availability {
        Availability { pieces, by_piece: Vec::new(), seeds: 0, peers: 0 }
    }

    /// Adds (1) or removes (-1) a peer. Returns how many pieces were looked at.
    pub(super) fn change(&mut self, have: &Bitfield, counted: Counted, by: i32) -> u64 {
        self.peers = self.peers.checked_add_signed(by).expect("no peer leaves that has not come");
        if self.by_piece.is_empty() {
            self.by_piece = vec![0; self.pieces as usize];
        }
        let looked_at = match counted {
            Counted::AsSeed => {
                self.seeds += by;
                have.iter_zeros().for_each(|piece| self.change_piece(piece, -by));
                (have.len() - have.count()).into()
            }
            Counted::ByPieces => {
                have.iter().for_each(|piece| self.change_piece(piece, by));
                have.count().into()
            }
        };
        if self.peers == 0 {
            self.by_piece = Vec::new();
        }
        looked_at
    }

    pub(super) fn change_piece(&mut self, piece: PieceIndex, by: i32) {
        self.by_piece[piece.idx()] += by;
    }

    pub(super) fn of(&self, piece: PieceIndex) -> u32 {
        (self.by_piece.get(piece.idx()).unwrap_or(&0) + self.seeds).unsigned_abs()
    }

    /// Orders pieces as [`of`](Self::of) does, without looking at the seeds.
    pub(super) fn rarity(&self, piece: PieceIndex) -> u64 {
        (i64::from(*self.by_piece.get(piece.idx()).unwrap_or(&0)) - i64::from(i32::MIN)) as u64
    }
}

//! Who asks again for a piece that it was sent whole.
//!
//! Peers cannot say that a piece was bad. But who was sent a whole piece and asks for all of it again may have found it so. If two
//! addresses do, the piece is hashed again ([`Action::CheckPiece`](crate::torrent::Action::CheckPiece)), within a budget. What was
//! sent is remembered within bounds; it costs a look through short lists for each block and piece that is sent.

use crate::bitfield::Bitfield;
use crate::id::{BlockRef, PieceIndex};
use crate::net::Host;
use crate::time::{Duration, Time};
use std::collections::{BTreeMap, VecDeque};

/// How many pieces that were sent whole are remembered, with the address that they went to.
pub const SENT_WHOLE_MAX: usize = 2_048;
/// Of how many pieces a peer may have been sent a part for that to be remembered.
const SENT_PARTLY_MAX: usize = 32;
/// The least time between two pieces that are hashed because peers ask for them again.
pub const REHASH_INTERVAL: Duration = Duration::from_secs(10);
/// A piece that was hashed again is not hashed once more for this long.
pub const REHASH_REST: Duration = Duration::from_secs(3_600);
/// How many such pieces are remembered.
const RESTING_MAX: usize = 512;
/// What was sent, as far as it is remembered.
#[derive(Debug, Default)]
pub(super) struct SentWhole {
    /// Whom each piece went to, and whether it went there more than once. The oldest first.
    sent: BTreeMap<PieceIndex, Vec<(Host, bool)>>,
    /// The pieces in the order in which they went to somebody for the first time: one for each address above.
    order: VecDeque<PieceIndex>,
    /// Pieces that were hashed again lately, and when.
    resting: VecDeque<(PieceIndex, Time)>,
    rehashed_at: Option<Time>,
}

impl SentWhole {
    /// The piece went to this address, whole. True if it went to two addresses twice by now and may be hashed again.
    pub(super) fn note(&mut self, now: Time, piece: PieceIndex, host: Host) -> bool {
        let hosts = self.sent.entry(piece).or_default();
        let Some((_, again)) = hosts.iter_mut().find(|(h, _)| *h == host) else {
            hosts.push((host, false));
            self.order.push_back(piece);
            if self.order.len() > SENT_WHOLE_MAX {
                self.forget_oldest();
            }
            return false;
        };
        *again = true;
        if hosts.iter().filter(|(_, again)| *again).count() < 2 {
            return false;
        }
        self.resting.retain(|(_, at)| now.since(*at) < REHASH_REST);
        let is_early = self.rehashed_at.is_some_and(|at| now.since(at) < REHASH_INTERVAL);
        if is_early || self.resting.iter().any(|(p, _)| *p == piece) {
            return false;
        }
        self.rehashed_at = Some(now);
        if self.resting.len() == RESTING_MAX {
            self.resting.pop_front();
        }
        self.resting.push_back((piece, now));
        self.sent.remove(&piece);
        self.order.retain(|p| *p != piece);
        true
    }

    fn forget_oldest(&mut self) {
        let Some(piece) = self.order.pop_front() else { return };
        let Some(hosts) = self.sent.get_mut(&piece) else { return };
        hosts.remove(0);
        if hosts.is_empty() {
            self.sent.remove(&piece);
        }
    }
}

/// The pieces of which a peer was sent a part, and how many bytes of each; the oldest first.
#[derive(Debug, Default)]
pub(super) struct SentPartly(VecDeque<(PieceIndex, u32)>);

impl SentPartly {
    /// A block was sent, of a piece that has `piece_len` bytes. Whether all of it was sent by now.
    pub(super) fn add(&mut self, block: BlockRef, piece_len: u32) -> bool {
        let at = self.0.iter().position(|(piece, _)| *piece == block.piece).unwrap_or_else(|| {
            if self.0.len() == SENT_PARTLY_MAX {
                self.0.pop_front();
            }
            self.0.push_back((block.piece, 0));
            self.0.len() - 1
        });
        self.0[at].1 += block.len;
        let is_whole = self.0[at].1 >= piece_len;
        if is_whole {
            self.0.remove(at);
        }
        is_whole
    }

    pub(super) fn forget(&mut self, pieces: &Bitfield) {
        self.0.retain(|(piece, _)| !pieces.has(*piece));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::BLOCK_LEN;

    #[test]
    fn partly_sent_pieces_are_bounded() {
        let mut sent = SentPartly::default();
        for piece in 0..100 {
            let block = BlockRef { piece: PieceIndex(piece), begin: 0, len: BLOCK_LEN };
            assert!(!sent.add(block, 2 * BLOCK_LEN));
        }
        assert_eq!(sent.0.len(), SENT_PARTLY_MAX);
        let rest = BlockRef { piece: PieceIndex(99), begin: BLOCK_LEN, len: BLOCK_LEN };
        assert!(sent.add(rest, 2 * BLOCK_LEN), "all of it was sent");
        assert_eq!(sent.0.len(), SENT_PARTLY_MAX - 1);
    }
}

//! Who sent corrupt blocks: smart ban.
//!
//! When a piece fails, each block's digest and sender are kept. When the piece
//! later passes, the digests of the true blocks show exactly which senders
//! lied. A failed piece that came from one peer alone blames it at once.

use crate::id::{PeerKey, PieceIndex};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// How many failed attempts are remembered, over all pieces; beyond that the oldest is forgotten.
pub(super) const ATTEMPTS_MAX: usize = 256;

/// Whoever sent a block, where it is (if still known), and the block's digest.
pub(super) type Sent = (PeerKey, Option<SocketAddr>, [u8; 20]);

/// Who sent what came in an earlier run: nobody who could be blamed for it.
pub(super) const EARLIER: PeerKey = PeerKey(u32::MAX);

/// The digest of a block whose bytes were not at hand, or that nobody sent.
pub(super) const UNKNOWN: [u8; 20] = [0; 20];

/// A peer that lied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Verdict {
    pub(super) peer: PeerKey,
    pub(super) addr: Option<SocketAddr>,
}

#[derive(Debug, Default)]
pub(super) struct Blame {
    /// The oldest first.
    attempts: VecDeque<(PieceIndex, Vec<Sent>)>,
}

impl Blame {
    /// Whether the piece has failed before.
    pub(super) fn is_suspect(&self, piece: PieceIndex) -> bool {
        self.attempts.iter().any(|(p, _)| *p == piece)
    }

    /// The piece failed with these blocks; `is_guess` if it may be none of its senders' fault.
    pub(super) fn piece_failed(
        &mut self,
        piece: PieceIndex,
        sent: Vec<Sent>,
        is_guess: bool,
    ) -> Option<Verdict> {
        let &(peer, addr, _) = sent.first()?;
        if !is_guess && sent.iter().all(|s| s.0 == peer) {
            return Some(Verdict { peer, addr });
        }
        if self.attempts.len() == ATTEMPTS_MAX {
            self.attempts.pop_front();
        }
        self.attempts.push_back((piece, sent));
        None
    }

    /// The piece passed with blocks of these digests.
    pub(super) fn piece_passed(&mut self, piece: PieceIndex, digests: &[[u8; 20]]) -> Vec<Verdict> {
        let of_piece = self.attempts.iter().filter(|(p, _)| *p == piece);
        let mut corrupt_senders: Vec<Verdict> = of_piece
            .flat_map(|(_, sent)| sent.iter().zip(digests))
            .filter(|((_, _, digest), truth)| digest != *truth && *digest != UNKNOWN && **truth != UNKNOWN)
            .map(|(&(peer, addr, _), _)| Verdict { peer, addr })
            .collect();
        corrupt_senders.sort_unstable();
        corrupt_senders.dedup();
        self.attempts.retain(|(p, _)| *p != piece);
        corrupt_senders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(peer: u32, digest: u8) -> Sent {
        (PeerKey(peer), Some(SocketAddr::from(([127, 0, 0, 1], peer as u16))), [digest; 20])
    }

    #[test]
    fn smart_ban_blames_exactly_the_corrupt_senders() {
        let mut blame = Blame::default();
        let piece = PieceIndex(3);
        assert_eq!(blame.piece_failed(piece, vec![sent(1, 1), sent(2, 66), sent(3, 3)], false), None);
        assert_eq!(blame.piece_failed(piece, vec![sent(1, 1), sent(3, 2), sent(4, 77)], false), None);
        assert!(blame.is_suspect(piece));
        let corrupt_senders = blame.piece_passed(piece, &[[1; 20], [2; 20], [3; 20]]);
        assert_eq!(corrupt_senders.iter().map(|v| v.peer.0).collect::<Vec<_>>(), [2, 4]);
        assert!(!blame.is_suspect(piece));
    }

    #[test]
    fn a_lone_sender_is_blamed_at_once() {
        let mut blame = Blame::default();
        let verdict = blame.piece_failed(PieceIndex(0), vec![sent(5, 1), sent(5, 2)], false).unwrap();
        assert_eq!(verdict.peer, PeerKey(5));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_is_forgotten_first() {
        let mut blame = Blame::default();
        for piece in (0..10_000).rev() {
            blame.piece_failed(PieceIndex(piece), vec![sent(1, 1), sent(2, 2)], false);
        }
        assert_eq!(blame.attempts.len(), ATTEMPTS_MAX);
        assert!(blame.is_suspect(PieceIndex(0)));
        assert!(!blame.is_suspect(PieceIndex(9_999)));
    }
}

//! Pieces that one peer has to itself: those that failed verification, and those that a peer on parole has started.

use super::Picker;
use super::downloading::DownloadingPiece;
use crate::id::{PeerKey, PieceIndex};

impl Picker {
    /// Whether some of a downloading or complete piece was taken for padding by its name alone.
    pub fn is_padding_assumed(&self, piece: PieceIndex) -> bool {
        self.padding_blocks(piece).next().is_some() && self.padding.is_assumed_in(&self.geometry, piece)
    }

    /// Who sent the blocks of a downloading or complete piece, by block index; `None` for one that is missing, is padding, or came in an
    /// earlier run.
    pub fn senders(&self, piece: PieceIndex) -> Vec<Option<PeerKey>> {
        self.downloading.get(&piece).map(DownloadingPiece::senders).unwrap_or_default()
    }

    /// The peer is gone, or does not serve us for now: others may fill the failed pieces that were its own. Whether there
    /// was one.
    pub fn release_exclusive(&mut self, peer: PeerKey) -> bool {
        let mut any = false;
        self.for_each_exclusive(|piece| any |= piece.release_exclusive(peer));
        self.parole_ended(peer);
        any
    }

    /// A piece with blocks of `peer` has been verified: others may fill what else it has started.
    pub fn parole_ended(&mut self, peer: PeerKey) {
        let of_peer = (peer, PieceIndex(0))..=(peer, PieceIndex(u32::MAX));
        while let Some(&(_, piece)) = self.parole.range(of_peer.clone()).next() {
            self.count(1);
            self.parole.remove(&(peer, piece));
            self.downloading.get_mut(&piece).into_iter().for_each(|piece| piece.end_parole_of(peer));
        }
    }

    /// Takes a round from the pieces that are reserved for somebody.
    fn parole_round_passed(&mut self) {
        let downloading = &mut self.downloading;
        self.parole.retain(|(peer, piece)| {
            let reserved = downloading.get_mut(piece).filter(|piece| piece.reserved_for() == Some(*peer));
            reserved.is_some_and(|piece| {
                piece.parole_round_passed();
                piece.reserved_for().is_some()
            })
        });
    }

    /// The incomplete pieces of which every block that is here came from `peer`.
    pub fn only_from(&self, peer: PeerKey) -> Vec<PieceIndex> {
        let incomplete =
            self.downloading.iter().filter(|(_, piece)| piece.received() > 0 && !piece.is_complete());
        incomplete.filter(|(_, piece)| piece.is_only_from(peer)).map(|(index, _)| *index).collect()
    }

    /// A peer has been found to send corrupt blocks: who sent blocks of the same pieces need not have done so. One peer at a
    /// time still fills such a piece.
    pub fn corrupt_sender_found(&mut self, sender: PeerKey) {
        self.for_each_exclusive(|piece| piece.clear_senders_beside(sender));
    }

    /// A round has passed: failed pieces that nobody else has taken up, or not quickly enough, may be filled by their former
    /// senders again; peers on parole that are too slow lose what is reserved for them.
    pub fn handle_round(&mut self) {
        self.for_each_exclusive(DownloadingPiece::exclusive_round_passed);
        self.parole_round_passed();
        let downloading = &self.downloading;
        self.exclusive.retain(|piece| downloading.get(piece).is_some_and(DownloadingPiece::is_exclusive));
    }

    fn for_each_exclusive(&mut self, mut f: impl FnMut(&mut DownloadingPiece)) {
        self.count(self.exclusive.len() as u64);
        for piece in &self.exclusive {
            self.downloading.get_mut(piece).into_iter().for_each(&mut f);
        }
    }
}

//! Pieces in doubt: their files were changed, or peers ask for them again.
//!
//! A piece in doubt is neither offered nor asked for until the shell has hashed it again. Peers that
//! understand it get a dont-have at once (BEP 54), and a HAVE if it turns out right. Requests of it are rejected; those of peers
//! without BEP 6, which cannot be told so, wait. If it is bad those that lack it and know no BEP 54 are closed: when they come back
//! they get our present bitfield.

use super::discovery::Origin;
use super::{CloseReason, Torrent};
use crate::bitfield::Bitfield;
use crate::id::{PeerKey, PieceIndex};
use crate::peer::Peer;
use crate::picker::PieceState;
use crate::time::Time;
use crate::wire::Message;
use crate::wire::extension::encode_piece;
use std::net::SocketAddr;

/// How many seeds are remembered that left because nothing was wanted of them.
const SEEDS_LEFT_MAX: usize = 64;

impl Torrent {
    /// These pieces may not be what they should be. They are not offered until [`Torrent::handle_piece_checked`] says what they
    /// are. If they are bad they are fetched again if `wanted`.
    pub fn handle_pieces_doubted(&mut self, now: Time, pieces: &[PieceIndex], wanted: bool) {
        // Whoever hides what it has cannot take any of it back.
        self.stop_super_seeding(now);
        let (mut doubted, mut had) =
            (Bitfield::empty(self.geometry.pieces()), Bitfield::empty(self.geometry.pieces()));
        for &piece in pieces.iter().filter(|&&piece| self.geometry.contains(piece)) {
            let was_had = self.picker.have().has(piece);
            if self.picker.doubt(piece, wanted) {
                doubted.insert(piece);
                if was_had {
                    had.insert(piece);
                }
            }
        }
        self.uploads.forget_sent(&had);
        for key in self.peers.keys().collect::<Vec<_>>() {
            self.retract(now, key, &had);
        }
        for piece in had.iter() {
            if self.retracted.is_empty() {
                self.retracted = Bitfield::empty(self.geometry.pieces());
            }
            self.retracted.insert(piece);
            self.retracted_at = Some(now);
        }
        if doubted.count() > 0 {
            self.recount_interesting(now);
            self.note_incompletion(now);
        }
        self.input_at = Some(now);
    }

    /// A piece that was in doubt has been hashed.
    pub fn handle_piece_checked(&mut self, now: Time, piece: PieceIndex, is_right: bool) {
        if !self.geometry.contains(piece) || self.picker.state(piece) != PieceState::Doubted {
            return;
        }
        if is_right {
            self.on_piece_had(now, piece);
            self.release_held(now, piece, true);
        } else {
            if !self.may_repair(piece) {
                self.picker.piece_lost(piece);
            }
            let was_retracted = self.retracted.has(piece);
            // Who came later has not been told of it.
            let was_here = |p: &&Peer| Some(p.times.connected_at) <= self.retracted_at;
            let announced_to = self.peers.values().filter(was_here);
            let announced_to =
                announced_to.filter(|p| p.extensions.dont_have_id.is_none() && !p.have().has(piece));
            let announced_to: Vec<PeerKey> =
                announced_to.filter(|_| was_retracted).map(|peer| peer.key).collect();
            announced_to.into_iter().for_each(|key| self.close(now, key, CloseReason::PieceLost));
            self.release_held(now, piece, false);
            self.refill_all = true;
        }
        self.input_at = Some(now);
    }

    /// Rejects a peer's requests for these pieces, or has them wait, and sends it that they are not here.
    fn retract(&mut self, now: Time, key: PeerKey, pieces: &Bitfield) {
        let Some(peer) = self.peers.get(key) else { return };
        let lacked: Vec<PieceIndex> = pieces.iter().filter(|&piece| !peer.have().has(piece)).collect();
        if let Some(id) = peer.extensions.dont_have_id {
            for piece in lacked {
                self.send(now, key, Message::Extended { id, payload: encode_piece(piece) });
            }
        }
        self.reject_pieces(now, key, pieces);
    }

    /// Something is wanted again: whoever had all of it may be dialled again.
    pub(super) fn note_incompletion(&mut self, now: Time) {
        if self.is_complete() || !self.was_complete {
            return;
        }
        self.was_complete = false;
        self.announce_upload_only(now);
        for addr in std::mem::take(&mut self.seeds_left) {
            self.discovery.add(addr, Origin::Found);
        }
        self.dial(now);
        self.wake(now);
    }

    /// Where to find the peers that it has, and the seeds that left once nothing was wanted any more.
    pub fn known_peers(&self) -> impl Iterator<Item = SocketAddr> {
        let connected = self.peers().filter_map(|peer| peer.extensions.listen_addr);
        connected.chain(self.seeds_left.iter().copied())
    }

    /// A seed leaves that is of no use as long as nothing is wanted.
    pub(super) fn note_seed_left(&mut self, addr: SocketAddr) {
        if self.seeds_left.len() == SEEDS_LEFT_MAX {
            self.seeds_left.pop_front();
        }
        self.seeds_left.push_back(addr);
    }
}

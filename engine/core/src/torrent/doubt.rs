//! Pieces that we had and may have no longer: their files were changed, or peers ask for them again.
//!
//! A piece in doubt is neither offered nor asked for until the shell has hashed it again. Peers that understand it are told at once
//! that it is not here (BEP 54), and again that it is if it turns out right. The others are refused it, and if it is
//! bad they are closed, if they lack it: when they come back they are told what is here now.
//!
//! Peers cannot say that a piece was bad. But who was sent a whole piece and asks for all of it again has perhaps found it so; and
//! if two addresses do, the piece is hashed again, within a budget. What was sent is remembered within bounds; what it costs is
//! a look through short lists for each block and piece that is sent.

use super::discovery::Origin;
use super::{Action, CloseReason, Torrent};
use crate::bitfield::Bitfield;
use crate::id::{BlockRef, PeerKey, PieceIndex};
use crate::net::Host;
use crate::peer::Peer;
use crate::picker::PieceState;
use crate::time::{Duration, Time};
use crate::wire::Message;
use crate::wire::extension::encode_piece;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// How many pieces that were sent whole are remembered, with the address that they went to.
pub const SENT_WHOLE_MAX: usize = 2_048;
/// Of how many pieces a peer may have been sent a part for that to be remembered.
pub const SENT_PARTLY_MAX: usize = 32;
/// The least time between two pieces that are hashed because peers ask for them again.
pub const REHASH_INTERVAL: Duration = Duration::from_secs(10);
/// A piece that was found right is not hashed again for this long.
pub const REHASH_REST: Duration = Duration::from_secs(3_600);
/// How many such pieces are remembered.
const RESTING_MAX: usize = 512;
/// How many seeds are remembered that left because nothing was wanted of them.
const SEEDS_LEFT_MAX: usize = 64;

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
    fn note(&mut self, now: Time, piece: PieceIndex, host: Host) -> bool {
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
        for key in self.peers.keys().collect::<Vec<_>>() {
            self.take_back(now, key, &had);
        }
        for piece in had.iter() {
            self.taken_back.insert(piece);
            self.taken_back_at = now;
        }
        if doubted.count() > 0 {
            self.recount_useful(now);
            self.note_incompletion(now);
        }
        self.unsettled = Some(now);
    }

    /// A piece that was in doubt has been hashed.
    pub fn handle_piece_checked(&mut self, now: Time, piece: PieceIndex, is_right: bool) {
        if !self.geometry.contains(piece) || self.picker.state(piece) != PieceState::Doubted {
            return;
        }
        if is_right {
            self.piece_is_here(now, piece);
        } else {
            self.picker.piece_lost(piece);
            let was_told = self.taken_back.has(piece);
            // Who came later has not been told of it.
            let was_here = |p: &&Peer| p.connected_at <= self.taken_back_at;
            let misled = self.peers.values().filter(was_here);
            let misled = misled.filter(|p| p.dont_have_id.is_none() && !p.have.has(piece));
            let misled: Vec<PeerKey> = misled.filter(|_| was_told).map(|peer| peer.key).collect();
            misled.into_iter().for_each(|key| self.close(now, key, CloseReason::PieceLost));
            self.refill_all = true;
        }
        self.unsettled = Some(now);
    }

    /// Refuses what a peer asked for of these pieces, and tells it that they are not here.
    fn take_back(&mut self, now: Time, key: PeerKey, pieces: &Bitfield) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let (refused, kept): (VecDeque<BlockRef>, VecDeque<BlockRef>) =
            peer.uploads.drain(..).partition(|block| pieces.has(block.piece));
        peer.uploads = kept;
        peer.sent_partly.retain(|(piece, _)| !pieces.has(*piece));
        let lacked: Vec<PieceIndex> = pieces.iter().filter(|&piece| !peer.have.has(piece)).collect();
        if let Some(id) = peer.dont_have_id {
            for piece in lacked {
                self.send(now, key, Message::Extended { id, payload: encode_piece(piece) });
            }
        }
        refused.into_iter().for_each(|block| self.reject(now, key, block));
    }

    /// Something is wanted again: whoever had all of it may be dialled again.
    fn note_incompletion(&mut self, now: Time) {
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

    /// A seed leaves that is of no use as long as nothing is wanted.
    pub(super) fn note_seed_left(&mut self, addr: SocketAddr) {
        if self.seeds_left.len() == SEEDS_LEFT_MAX {
            self.seeds_left.pop_front();
        }
        self.seeds_left.push_back(addr);
    }

    /// A block is sent to a peer.
    pub(super) fn note_sent(&mut self, now: Time, key: PeerKey, block: BlockRef) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let sent = &mut peer.sent_partly;
        let at = sent.iter().position(|(piece, _)| *piece == block.piece).unwrap_or_else(|| {
            if sent.len() == SENT_PARTLY_MAX {
                sent.pop_front();
            }
            sent.push_back((block.piece, 0));
            sent.len() - 1
        });
        sent[at].1 += block.len;
        if sent[at].1 < self.geometry.len_of(block.piece) {
            return;
        }
        sent.remove(at);
        if self.sent_whole.note(now, block.piece, Host::of(peer.info.addr)) {
            self.actions.push_back(Action::CheckPiece(block.piece));
        }
    }
}

//! Serving peers that belong together: see [`Turns`](crate::choker::Turns) for whom, and why.
//!
//! Nobody waits to be told what a peer wants: which pieces it lacks is known from what it announced, so a peer is
//! unchoked in the same breath in which it hears of a new piece. It is choked again as soon as it has asked
//! for what its turn is worth; what it has asked for is still sent, as BEP 6 allows.

use super::hints::takes_one_of;
use super::{Action, TICK, Torrent, UploadPolicy};
use crate::id::{PeerKey, PieceIndex};
use crate::peer::Peer;
use crate::picker::Source;
use crate::time::{Duration, Time};
use crate::wire::Message;

/// A peer that did not use its turn, since all it lacks is on its way already, is passed over for this long.
const REST: Duration = Duration::from_millis(400);

impl Torrent {
    pub(super) fn is_cooperative(&self) -> bool {
        self.config.upload_policy == UploadPolicy::Cooperative
    }

    /// Ends turns that nobody uses, and gives new ones as long as there is room.
    pub(super) fn give_turns(&mut self, now: Time) {
        if !self.is_cooperative() {
            return;
        }
        while let Some((key, used)) = self.turns.expire(now) {
            if let Some(peer) = self.peers.get_mut(key).filter(|_| !used) {
                peer.rests_until = now + REST;
            }
            self.choke_softly(now, key);
        }
        if self.turns.stall(now) {
            self.actions.extend(self.turns.waiting().map(Action::Upload));
        } else {
            self.actions.extend(self.turns.front().map(Action::Upload));
        }
        while self.turns.has_room() {
            // Where peers push back, pieces take long whoever sends them, and to act on what was told 100 ms ago makes everyone crowd in turns.
            let hints_help = !self.turns.some_are_blocked();
            let coming = if hints_help { self.coming(now) } else { Vec::new() };
            let mut candidates = Vec::with_capacity(self.peers.len());
            let gets = |peer: &Peer| peer.have.count() + if hints_help { u32::from(peer.load) } else { 0 };
            candidates.extend(self.turn_candidates(now, &coming).map(|peer| (peer.key, gets(peer))));
            self.prefer_who_passes_on(&mut candidates);
            let Some(key) = self.turns.choose(&candidates) else { return };
            self.turns.offer(now, key);
            self.reveal(now, key);
            self.promise(now, key, &coming);
            if let Some(peer) = self.peers.get_mut(key) {
                peer.am_choking = false;
                peer.choke_changed_at = now;
            }
            self.send(now, key, Message::Unchoke);
        }
    }

    /// Whether the peer has something for us that is not on its way already. Towards the end, when everything is, it
    /// may still be asked for what somebody else is slow to send.
    pub(super) fn could_use(&self, peer: &Peer) -> bool {
        let source = Source { key: peer.key, have: &peer.have, may_start: true, one_piece: true };
        let has_more = || peer.useful_pieces > 0 && (self.picker.is_endgame() || self.picker.has_for(source));
        !peer.pipeline.is_empty() || peer.soon.is_some_and(|piece| self.picker.is_free(piece)) || has_more()
    }

    /// A turn that is of no use, since all that the peer has for us is on its way already, is passed on at once: the peer
    /// hears that we want nothing for now. So is one that comes while much of the last is still on its way.
    pub(super) fn take_turn(&mut self, now: Time, key: PeerKey) {
        self.update_interest(now, key);
        let asked = self.peers.get(key).map_or(0, |peer| peer.pipeline.len());
        self.refill(now, key);
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.soon = None;
        if peer.pipeline.len() > asked {
            return;
        }
        peer.am_interested = false;
        self.send(now, key, Message::NotInterested);
    }

    /// The peer sends us a piece from now on: others that have nothing else for us hear that we want nothing of them,
    /// so that they offer their turns to those who do.
    pub(super) fn lose_interest(&mut self, now: Time, piece: PieceIndex) {
        let may_be_useless = |peer: &&Peer| peer.am_interested && peer.have.has(piece);
        let keys: Vec<PeerKey> = self.peers.values().filter(may_be_useless).map(|peer| peer.key).collect();
        keys.into_iter().for_each(|key| self.update_interest(now, key));
    }

    /// Who could use a turn, now or when we have what is coming.
    fn turn_candidates(&self, now: Time, coming: &[PieceIndex]) -> impl Iterator<Item = &Peer> {
        // Who has not said what it has, as without BEP 6 nobody must, cannot want what it does not know of.
        let is_hiding = self.is_super_seeding();
        let is_silent = move |peer: &Peer| is_hiding && now.since(peer.connected_at) >= TICK;
        let asks = move |peer: &Peer| {
            peer.peer_interested || ((peer.have_known || is_silent(peer)) && !peer.declines)
        };
        let wants = move |peer: &Peer| peer.lacks > 0 && asks(peer) || takes_one_of(peer, coming).is_some();
        let may = move |peer: &&Peer| peer.am_choking && now >= peer.rests_until && wants(peer);
        self.peers.values().filter(may).filter(|peer| !self.turns.has(peer.key))
    }

    /// A peer that has a turn was promised a block.
    pub(super) fn on_turn_request(&mut self, now: Time, key: PeerKey) {
        if !self.is_cooperative() || !self.turns.on_request(now, key) {
            return;
        }
        let can_keep = self.peers.get(key).is_some_and(|peer| peer.info.fast);
        if self.turn_candidates(now, &self.coming(now)).next().is_none() {
            self.turns.renew(key);
            self.reveal(now, key);
        } else if can_keep {
            self.choke_softly(now, key);
        }
    }

    /// A peer wants nothing at present.
    pub(super) fn on_turn_passed(&mut self, now: Time, key: PeerKey) {
        let passed = self.turns.on_pass(now, key);
        if let Some(peer) = self.peers.get_mut(key) {
            peer.promises_passed += u32::from(passed && peer.promised.is_some());
            if passed && self.super_seed.is_some() && Self::declines_what_it_knows(now, peer) {
                peer.rests_until = now + REST;
            }
        }
    }

    /// A block left for a peer, or need not be sent after all.
    pub(super) fn on_turn_sent(&mut self, now: Time, key: PeerKey) {
        if !self.is_cooperative() {
            return;
        }
        if self.turns.on_sent(now, key) {
            self.choke_softly(now, key);
            self.give_turns(now);
        }
        self.actions.extend(self.turns.front().filter(|&front| front != key).map(Action::Upload));
    }

    /// A peer takes no more of what it is sent until it has read some of it.
    pub fn handle_upload_blocked(&mut self, now: Time, key: PeerKey) {
        if self.is_cooperative() {
            self.turns.on_blocked(now, key);
            self.give_turns(now);
            self.actions.extend(self.turns.front().map(Action::Upload));
        }
    }

    /// Chokes a peer that is still sent what it has asked for.
    pub(super) fn choke_softly(&mut self, now: Time, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(key).filter(|peer| !peer.am_choking) {
            peer.am_choking = true;
            peer.choke_changed_at = now;
            self.send(now, key, Message::Choke);
        }
    }
}

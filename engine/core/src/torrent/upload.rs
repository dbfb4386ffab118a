//! Their requests, and whom we choke.

use super::{Action, CloseReason, Torrent};
use crate::id::{BlockRef, PeerKey};
use crate::peer::budget::Cost;
use crate::time::{Duration, Time};
use crate::wire::Message;
use std::collections::VecDeque;

/// A peer that makes more requests than this that it has no right to make is closed.
pub const BAD_REQUESTS_MAX: u32 = 64;
/// How many pieces we remember as allowed to us by a peer that chokes us (BEP 6).
pub const ALLOWED_FAST_MAX: usize = 64;

/// For how long after our CHOKE requests may come that were made before it.
pub const CHOKE_GRACE: Duration = Duration::from_secs(5);

impl Torrent {
    pub(super) fn on_interested(&mut self, now: Time, key: PeerKey) {
        self.note_interest(now, key, true);
    }

    pub(super) fn on_not_interested(&mut self, now: Time, key: PeerKey) {
        self.note_interest(now, key, false);
    }

    /// Slots are given and taken when everything that has come is read: who has changed its mind meanwhile keeps its own.
    fn note_interest(&mut self, now: Time, key: PeerKey, interested: bool) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.peer_interested == interested {
            self.charge(now, key, Cost::Nothing);
            return;
        }
        peer.peer_interested = interested;
        if interested {
            peer.useful_at = now;
        }
        self.charge(now, key, Cost::Change);
        self.slots_due |= self.follow(now, key);
    }

    pub(super) fn on_request(&mut self, now: Time, key: PeerKey, block: BlockRef) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let is_possible = self.geometry.is_valid_request(block) && self.picker.have().has(block.piece);
        let is_allowed = !peer.am_choking || peer.allowed_fast_out.contains(&block.piece);
        // What a peer asks for that is here no longer is not its fault.
        let is_taken_back = self.geometry.is_valid_request(block) && self.taken_back.has(block.piece);
        if !is_possible && !is_taken_back {
            peer.bad_requests += 1;
            if peer.bad_requests > BAD_REQUESTS_MAX {
                return self.close(now, key, CloseReason::BadRequests);
            }
        }
        if !is_possible || !is_allowed || peer.uploads.len() >= self.config.requests_max as usize {
            // What was on its way when we choked it is not its fault.
            let crossed =
                peer.am_choking && peer.bytes_up > 0 && now.since(peer.choke_changed_at) < CHOKE_GRACE;
            self.charge(now, key, if crossed { Cost::Nothing } else { Cost::Refused });
            // Without BEP 6 there is no way to say no: a choked peer knows, the others are ignored.
            return self.reject(now, key, block);
        }
        peer.useful_at = now;
        if !peer.am_choking {
            // What it may ask for though it is choked (BEP 6) says nothing of its slot.
            peer.slot.on_request(now, peer.choke_changed_at);
        }
        let was_idle = peer.uploads.is_empty();
        peer.uploads.push_back(block);
        if was_idle {
            self.note_busy(now);
            self.actions.push_back(Action::Upload(key));
        }
    }

    pub(super) fn reject(&mut self, now: Time, key: PeerKey, block: BlockRef) {
        if self.peers.get(key).is_some_and(|peer| peer.info.fast) {
            self.send(now, key, Message::Reject(block));
        }
    }

    pub(super) fn on_cancel(&mut self, now: Time, key: PeerKey, block: BlockRef) {
        // Whoever owes us something is sent what it has asked for.
        if !self.charge(now, key, Cost::Change) {
            return;
        }
        let Some(peer) = self.peers.get_mut(key) else { return };
        let at = peer.uploads.iter().position(|&b| b == block);
        self.work.set(self.work.get() + at.unwrap_or(peer.uploads.len()) as u64);
        let Some(at) = at else { return };
        peer.uploads.remove(at);
        self.reject(now, key, block);
    }

    /// The next block to send to this peer, which is taken to be sent now; `None` if it wants none or may have none.
    pub fn next_upload(&mut self, now: Time, key: PeerKey) -> Option<BlockRef> {
        let peer = self.peers.get_mut(key)?;
        let block = peer.uploads.pop_front()?;
        let len = u64::from(block.len);
        peer.budget.earn(block.len);
        (peer.sent_at, peer.useful_at) = (now, now);
        peer.bytes_up += len;
        peer.rate_up.add(now, len);
        peer.slot.on_taken(now);
        self.rate_up.add(now, len);
        self.totals.bytes_up += len;
        if peer.uploads.is_empty() {
            self.look_at_slots(now);
            self.note_idle(now);
        }
        self.note_sent(now, key, block);
        Some(block)
    }

    /// A block that was taken with [`Torrent::next_upload`] could not be read, and was not sent.
    pub fn handle_upload_failed(&mut self, now: Time, key: PeerKey, block: BlockRef) {
        self.totals.bytes_up -= u64::from(block.len);
        if let Some(peer) = self.peers.get_mut(key) {
            peer.bytes_up -= u64::from(block.len);
        }
        self.reject(now, key, block);
    }

    /// Says so when a peer is to be choked, or no more.
    pub(super) fn set_choking(&mut self, now: Time, key: PeerKey, choke: bool) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.am_choking == choke {
            return;
        }
        peer.am_choking = choke;
        peer.choke_changed_at = now;
        peer.slot.on_choke_changed(now, choke);
        if !choke {
            self.reveal(now, key);
            return self.send(now, key, Message::Unchoke);
        }
        let allowed = std::mem::take(&mut peer.allowed_fast_out);
        let (kept, refused): (VecDeque<BlockRef>, VecDeque<BlockRef>) =
            peer.uploads.drain(..).partition(|b| allowed.contains(&b.piece));
        (peer.uploads, peer.allowed_fast_out) = (kept, allowed);
        self.send(now, key, Message::Choke);
        refused.into_iter().for_each(|block| self.reject(now, key, block));
    }
}

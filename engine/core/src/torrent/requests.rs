//! Peers' requests: taken, rejected, cancelled, sent.

use super::{Action, CloseReason, Torrent};
use crate::bitfield::Bitfield;
use crate::id::{BlockRef, PeerKey, PieceIndex};
use crate::peer::Upload;
use crate::peer::budget::Cost;
use crate::picker::PieceState;
use crate::time::{Duration, Time};
use crate::wire::{Message, fast};
use std::collections::VecDeque;
use std::net::IpAddr;

/// A peer that makes more requests than this that it has no right to make is closed.
pub const BAD_REQUESTS_MAX: u32 = 64;
/// For how long after our CHOKE requests may come that were made before it.
pub const CHOKE_GRACE: Duration = Duration::from_secs(5);

impl Torrent {
    /// Slots are given and taken when everything that has come is read: who has changed its mind meanwhile keeps its own.
    pub(super) fn on_interest(&mut self, now: Time, key: PeerKey, interested: bool) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if std::mem::replace(&mut peer.flags.peer_interested, interested) == interested {
            self.charge(now, key, Cost::Nothing);
            return;
        }
        if interested {
            peer.times.useful_at = now;
        }
        self.charge(now, key, Cost::Change);
        if self.follow(now, key) {
            self.uploads.fill_later();
        }
    }

    /// Names the pieces that a peer may ask for while we choke it (BEP 6).
    pub(super) fn send_allowed_fast(&mut self, now: Time, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.info.fast) else { return };
        let IpAddr::V4(ip) = peer.info.addr.ip().to_canonical() else { return };
        let pieces = self.geometry.pieces();
        let allowed = fast::allowed_fast_set(ip, self.config.info_hash, pieces, fast::ALLOWED_FAST_COUNT);
        peer.upload.allowed_fast = allowed.clone();
        allowed.into_iter().for_each(|piece| self.send(now, key, Message::AllowedFast(piece)));
    }

    pub(super) fn on_request(&mut self, now: Time, key: PeerKey, block: BlockRef) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let is_possible = self.geometry.is_valid_request(block) && self.picker.have().has(block.piece);
        let is_allowed = !peer.flags.am_choking || peer.upload.allowed_fast.contains(&block.piece);
        // What a peer asks for that is here no longer is not its fault.
        let is_retracted = self.geometry.is_valid_request(block) && self.retracted.has(block.piece);
        let upload = &mut peer.upload;
        if !is_possible && !is_retracted {
            upload.bad_requests += 1;
            if upload.bad_requests > BAD_REQUESTS_MAX {
                return self.close(now, key, CloseReason::BadRequests);
            }
        }
        let in_doubt = is_retracted && self.picker.state(block.piece) == PieceState::Doubted;
        let has_room = upload.requests() < self.config.requests_max as usize;
        if in_doubt && !peer.info.fast && is_allowed && has_room {
            return upload.held.push(block);
        }
        if !is_possible || !is_allowed || !has_room {
            // What was on its way when we choked it is not its fault.
            let crossed = peer.flags.am_choking
                && peer.traffic.bytes_up > 0
                && now.since(upload.choke_changed_at) < CHOKE_GRACE;
            self.charge(now, key, if crossed { Cost::Nothing } else { Cost::Refused });
            let was_right = is_allowed && (is_possible || in_doubt);
            return if was_right { self.refuse(now, key, block) } else { self.reject(now, key, block) };
        }
        self.queue(now, key, block);
    }

    /// A block waits to be sent.
    fn queue(&mut self, now: Time, key: PeerKey, block: BlockRef) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.times.useful_at = now;
        let was_idle = peer.upload.queue.is_empty();
        peer.upload.queue.push_back(block);
        self.uploads.on_request(now, peer);
        self.note_block_asked(key, block);
        if was_idle {
            self.actions.push_back(Action::Upload(key));
        }
    }

    /// A request that the peer was free to make is not served. Without BEP 6 only a CHOKE says so: it takes back all that it asked for.
    fn refuse(&mut self, now: Time, key: PeerKey, block: BlockRef) {
        if self.peers.get(key).is_some_and(|peer| peer.info.fast) {
            self.reject(now, key, block);
        } else {
            self.choke(now, key);
        }
    }

    /// Without BEP 6 there is no way to say this: a choked peer knows, and who asks for what is not here is ignored.
    fn reject(&mut self, now: Time, key: PeerKey, block: BlockRef) {
        if self.peers.get(key).is_some_and(|peer| peer.info.fast) {
            self.send(now, key, Message::Reject(block));
        }
    }

    /// Rejects the requests that wait, but for those to `keep`.
    fn reject_queued(&mut self, now: Time, key: PeerKey, keep: impl Fn(&BlockRef) -> bool) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let (kept, rejected): (VecDeque<_>, VecDeque<_>) = peer.upload.queue.drain(..).partition(keep);
        peer.upload.queue = kept;
        rejected.into_iter().for_each(|block| self.reject(now, key, block));
    }

    /// A peer was choked: only allowed-fast requests still wait.
    pub(super) fn reject_choked(&mut self, now: Time, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let allowed = std::mem::take(&mut peer.upload.allowed_fast);
        self.reject_queued(now, key, |block| allowed.contains(&block.piece));
        if let Some(peer) = self.peers.get_mut(key) {
            peer.upload.held.clear();
            peer.upload.allowed_fast = allowed;
        }
    }

    /// These pieces are in doubt.
    pub(super) fn reject_pieces(&mut self, now: Time, key: PeerKey, pieces: &Bitfield) {
        if let Some(peer) = self.peers.get_mut(key).filter(|peer| !peer.info.fast) {
            let Upload { queue, held, .. } = &mut peer.upload;
            queue.iter().filter(|block| pieces.has(block.piece)).for_each(|&block| held.push(block));
        }
        self.reject_queued(now, key, |block| !pieces.has(block.piece));
    }

    /// The requests of this piece that wait until it is known what it is: now they are served, or forgotten by those who were told
    /// that it is lost.
    pub(super) fn release_held(&mut self, now: Time, piece: PieceIndex, is_here: bool) {
        let mut released = Vec::new();
        for peer in self.peers.values_mut() {
            released.extend(peer.upload.held.take(piece).into_iter().map(|block| (peer.key, block)));
        }
        self.count(self.peers.len() + released.len());
        if is_here {
            released.into_iter().for_each(|(key, block)| self.queue(now, key, block));
        }
    }

    pub(super) fn on_cancel(&mut self, now: Time, key: PeerKey, block: BlockRef) {
        // Whoever owes us something is sent what it has asked for.
        if !self.charge(now, key, Cost::Change) {
            return;
        }
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Upload { queue, held, .. } = &mut peer.upload;
        let at = queue.iter().position(|&b| b == block);
        let looked_at = at.unwrap_or(queue.len()) + held.cancel(block);
        let was_queued = at.and_then(|at| queue.remove(at)).is_some();
        self.count(looked_at);
        if was_queued {
            self.reject(now, key, block);
        }
    }

    /// The next block to send to this peer, which is taken to be sent now; `None` if it wants none or may have none.
    pub fn next_upload(&mut self, now: Time, key: PeerKey) -> Option<BlockRef> {
        let peer = self.peers.get_mut(key)?;
        let block = peer.upload.queue.pop_front()?;
        let len = u64::from(block.len);
        peer.account.budget.earn(block.len);
        (peer.times.sent_at, peer.times.useful_at) = (now, now);
        peer.traffic.bytes_up += len;
        peer.traffic.rate_up.add(now, len);
        self.rate_up.add(now, len);
        self.totals.bytes_up += len;
        if self.uploads.on_block_sent(now, peer, block, self.geometry.len_of(block.piece)) {
            self.actions.push_back(Action::CheckPiece(block.piece));
        }
        if peer.upload.queue.is_empty() {
            self.on_queue_empty(now);
        }
        Some(block)
    }

    /// A block that was taken with [`Torrent::next_upload`] could not be read, and was not sent.
    pub fn handle_upload_failed(&mut self, now: Time, key: PeerKey, block: BlockRef) {
        self.totals.bytes_up -= u64::from(block.len);
        if let Some(peer) = self.peers.get_mut(key) {
            peer.traffic.bytes_up -= u64::from(block.len);
            let has_room = peer.upload.requests() < self.config.requests_max as usize;
            let in_doubt = self.picker.state(block.piece) == PieceState::Doubted;
            if in_doubt && has_room && !peer.info.fast && !peer.flags.am_choking {
                return peer.upload.held.push(block);
            }
        }
        self.refuse(now, key, block);
    }
}

//! Slots between one rechoke and the next: whoever uses a slot keeps it.
//!
//! A peer that is unchoked and asks for nothing, or does not read what it asked for, costs nothing by itself, as long as it keeps
//! nobody waiting. So after two seconds (four round trips if that is more) its slot goes to somebody else, and it to the end of the
//! queue. While a seed's uplink idles, since all who have a slot do the like, twice as many are unchoked every [`IDLE_UPLINK`]:
//! however many of them there are, whoever does take something is served soon.

use super::slot::Slot;
use super::{IDLE_UPLINK, State, policy};
use crate::choker::ChokerPeer;
use crate::id::PeerKey;
use crate::peer::Peer;
use crate::time::Time;
use crate::torrent::Torrent;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

impl Torrent {
    pub(super) fn rechoke(&mut self, now: Time) {
        let peers = self.with_state().map(|(peer, state)| self.choker_peer(now, peer, &state.slot));
        let peers: Vec<ChokerPeer> = peers.collect();
        let rate_to_bytes_per_s = self.rate_up.bytes_per_s(now);
        let is_complete = self.is_complete();
        let choker = &mut self.uploads.choker;
        choker.set_policy(policy(is_complete));
        let decision = choker.rechoke(now, &peers, rate_to_bytes_per_s);
        for peer in peers {
            let unchoke = decision.unchoke.binary_search(&peer.key).is_ok();
            let is_waited_for = || self.uploads.peers[peer.key].slot.is_waited_for();
            if unchoke || peer.am_choking {
                self.set_choking(now, peer.key, !unchoke);
            } else if peer.wastes {
                self.take_slot(now, peer.key);
            } else if !is_complete || !is_waited_for() {
                self.set_choking(now, peer.key, true);
            }
        }
    }

    /// Chokes a peer that left its slot unused: it goes to the end of the queue.
    fn take_slot(&mut self, now: Time, key: PeerKey) {
        if let Some(state) = self.uploads.peers.get_mut(key) {
            state.slot.unused = state.slot.unused.saturating_add(1);
        }
        self.set_choking(now, key, true);
    }

    /// A peer asks for no more, or its socket takes no more: the uplink may come to idle.
    pub(super) fn look_at_slots(&mut self, now: Time) {
        if self.uploads.is_wanted && self.is_complete() {
            let at = now + IDLE_UPLINK;
            self.uploads.slots_at = Some(self.uploads.slots_at.map_or(at, |before| before.min(at)));
        }
    }

    /// Gives free slots to those who wait.
    pub(super) fn fill_slots(&mut self, now: Time) {
        self.count(self.peers.len());
        self.uploads.slots_at = None;
        self.uploads.is_wanted = self.is_slot_wanted();
        if !self.uploads.is_wanted {
            return;
        }
        let slots = self.count_slots(now);
        // While we download, slots are for those who give, and no more of them than the rechoke allows.
        let idles = self.is_complete() && slots.uplink_idles(now);
        let free = self.uploads.choker.capacity().saturating_sub(slots.held);
        let count = if idles { free.max(slots.unchoked) } else { free };
        if count > 0 {
            let next: Vec<PeerKey> = self.waiting(now, idles).into_iter().take(count).collect();
            // Who left a slot unused itself takes none from others.
            let is_fresh = |key: &&PeerKey| self.uploads.peers[**key].slot.unused_lately(now) == 0;
            let unused = self.unused_slots(now).into_iter().take(next.iter().filter(is_fresh).count());
            unused.collect::<Vec<_>>().into_iter().for_each(|key| self.take_slot(now, key));
            next.into_iter().for_each(|key| self.set_choking(now, key, false));
        }
        self.uploads.is_wanted = self.is_slot_wanted();
        if self.uploads.is_wanted {
            let since = if idles { Some(now) } else { slots.idle_since };
            let idle_at =
                since.filter(|_| self.is_complete() && slots.in_use == 0).map(|at| at + IDLE_UPLINK);
            self.uploads.slots_at =
                [idle_at, slots.expires_at].into_iter().flatten().filter(|at| *at > now).min();
        }
    }

    fn is_slot_wanted(&self) -> bool {
        self.peers.values().any(is_waiting)
    }

    /// Whether a peer uses its slot, or has not had it for long. Who left its last one unused has to use it first. While we download,
    /// who has used it keeps it until the next rechoke: it is paid for with what it gives.
    fn is_held(&self, now: Time, peer: &Peer, slot: &Slot) -> bool {
        let is_new = now.since(slot.idle_since()) < slot.grace();
        let is_reciprocating = !self.is_complete() && !slot.is_waited_for();
        is_sent_to(peer, slot) || slot.unused == 0 && (is_new || is_reciprocating)
    }

    /// Whether a peer leaves the slot that it has unused, or left its last one unused.
    pub(super) fn wastes_slot(&self, now: Time, peer: &Peer, slot: &Slot) -> bool {
        if peer.flags.am_choking { slot.unused_lately(now) > 0 } else { !self.is_held(now, peer, slot) }
    }

    fn choker_peer(&self, now: Time, peer: &Peer, slot: &Slot) -> ChokerPeer {
        ChokerPeer {
            key: peer.key,
            peer_interested: peer.flags.peer_interested,
            am_choking: peer.flags.am_choking,
            choke_changed_at: peer.upload.choke_changed_at,
            connected_at: peer.times.connected_at,
            snubbed: peer.download.snubbed,
            wastes: self.wastes_slot(now, peer, slot),
            rate_from_bytes_per_s: peer.traffic.rate_down.bytes_per_s(now),
            rate_to_bytes_per_s: peer.traffic.rate_up.bytes_per_s(now),
            has_given: peer.traffic.bytes_down > 0,
            has_taken: peer.traffic.bytes_up > 0,
        }
    }

    /// Those who are unchoked and interested.
    fn unchoked(&self) -> impl Iterator<Item = (&Peer, &State)> {
        self.with_state_if(|peer| peer.flags.peer_interested && !peer.flags.am_choking)
    }

    fn count_slots(&self, now: Time) -> Slots {
        let mut slots = Slots::default();
        for (peer, State { slot, .. }) in self.unchoked() {
            slots.unchoked += 1;
            if is_sent_to(peer, slot) {
                slots.in_use += 1;
                slots.held += 1;
                continue;
            }
            slots.idle_since = slots.idle_since.max(Some(slot.idle_since()));
            if self.is_held(now, peer, slot) {
                slots.held += 1;
                let at = slot.idle_since() + slot.grace();
                slots.expires_at = Some(slots.expires_at.map_or(at, |first| first.min(at)));
            }
        }
        slots
    }

    /// Those that have left their slots unused for too long, who did so most often first.
    fn unused_slots(&self, now: Time) -> Vec<PeerKey> {
        let unused = self.unchoked().filter(|(peer, state)| !self.is_held(now, peer, &state.slot));
        let mut unused: Vec<_> = unused.map(|(peer, state)| (Reverse(state.slot.unused), peer.key)).collect();
        unused.sort_unstable();
        unused.into_iter().map(|(_, key)| key).collect()
    }

    /// Those who wait for a slot, whose turn is next first: who left a slot unused last; while the uplink idles, those of whose address
    /// fewest have one; who gives to us; who has waited longest.
    fn waiting(&self, now: Time, idles: bool) -> Vec<PeerKey> {
        let mut crowds: BTreeMap<IpAddr, usize> = BTreeMap::new();
        if idles {
            for peer in self.peers.values().filter(|peer| !peer.flags.am_choking) {
                *crowds.entry(peer.info.addr.ip()).or_default() += 1;
            }
        }
        let is_complete = self.is_complete();
        // As at a rechoke, who sends to us comes first: or else every free slot would go to those who give nothing, since nobody
        // has waited longer.
        let gives = |p: &ChokerPeer| if is_complete { (0, false) } else { p.gives() };
        let mut waiting = Vec::new();
        for (peer, State { slot, .. }) in self.with_state_if(is_waiting) {
            if now.since(peer.upload.choke_changed_at) < slot.backoff() {
                continue;
            }
            let each = self.choker_peer(now, peer, slot);
            if self.uploads.choker.may_have_a_slot(&each) {
                let crowd = crowds.get(&peer.info.addr.ip()).copied().unwrap_or(0);
                let (unused, gives) = (slot.unused_lately(now), Reverse(gives(&each)));
                waiting.push((unused, crowd, gives, each.choke_changed_at, each.key));
            }
        }
        waiting.sort_unstable();
        waiting.into_iter().map(|(.., key)| key).collect()
    }
}

/// The slots of those who are unchoked and interested.
#[derive(Default)]
struct Slots {
    unchoked: usize,
    /// So many hold their slot against others.
    held: usize,
    /// So many wait for us to send.
    in_use: usize,
    /// When the last of the others took something.
    idle_since: Option<Time>,
    /// When the first unused slot that is still held can be taken away.
    expires_at: Option<Time>,
}

impl Slots {
    /// Whether nobody has taken anything for a while.
    fn uplink_idles(&self, now: Time) -> bool {
        self.in_use == 0 && self.idle_since.is_none_or(|at| now.since(at) >= IDLE_UPLINK)
    }
}

fn is_waiting(peer: &Peer) -> bool {
    peer.flags.peer_interested && peer.flags.am_choking
}

/// Whether it is only for us to send something to it.
fn is_sent_to(peer: &Peer, slot: &Slot) -> bool {
    !peer.upload.queue.is_empty() && !slot.blocked
}

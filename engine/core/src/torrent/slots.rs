//! Who has a slot to be sent to, between one rechoke and the next: a slot is held by who uses it.
//!
//! A peer that is unchoked and asks for nothing, or does not read what it asked for, costs nothing by itself, as long as it does not
//! keep others waiting. So its slot goes to somebody else after two seconds (four round trips if that is more), and it to the end of the queue. And while a seed's uplink
//! idles, since all who have a slot do the like, twice as many are unchoked every [`IDLE_UPLINK`]: however many there are of them, whoever
//! does take something is served soon.

use super::Torrent;
use crate::choker::{ChokerPeer, Policy, RECHOKE_INTERVAL};
use crate::id::PeerKey;
use crate::peer::Peer;
use crate::time::{Duration, Time};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// When nobody has taken anything for so long, others are unchoked beside those who could.
pub const IDLE_UPLINK: Duration = Duration::from_millis(250);

impl Torrent {
    /// The policy for what is still missing.
    pub(super) fn policy(is_complete: bool) -> Policy {
        if is_complete { Policy::Seeding } else { Policy::TitForTat }
    }

    pub(super) fn tick_choker(&mut self, now: Time) {
        self.tick_super_seed(now);
        if self.peers.is_empty() {
            return;
        }
        if now >= self.rechoke_at {
            self.rechoke_at = now + RECHOKE_INTERVAL;
            self.rechoke(now);
        }
        self.fill_slots(now);
    }

    fn rechoke(&mut self, now: Time) {
        let peers: Vec<ChokerPeer> = self.peers.values().map(|peer| self.choker_peer(peer, now)).collect();
        let rate_to_bytes_per_s = self.rate_up.bytes_per_s(now);
        self.choker.set_policy(Self::policy(self.is_complete()));
        let decision = self.choker.rechoke(now, &peers, rate_to_bytes_per_s);
        for peer in peers {
            let unchoke = decision.unchoke.binary_search(&peer.key).is_ok();
            if unchoke || peer.am_choking {
                self.set_choking(now, peer.key, !unchoke);
            } else if peer.wastes {
                self.take_slot(now, peer.key);
            } else if !self.is_complete() || !self.peers.get(peer.key).is_some_and(|p| p.slot.is_waited_for())
            {
                self.set_choking(now, peer.key, true);
            }
        }
    }

    /// Chokes a peer that made nothing of its slot: it goes to the end of the queue.
    fn take_slot(&mut self, now: Time, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.slot.unused = peer.slot.unused.saturating_add(1);
        }
        self.set_choking(now, key, true);
    }

    /// Nobody asks any more, or a socket takes no more: the uplink may come to idle.
    pub(super) fn look_at_slots(&mut self, now: Time) {
        if self.slots_wanted && self.is_complete() {
            let at = now + IDLE_UPLINK;
            self.slots_at = Some(self.slots_at.map_or(at, |before| before.min(at)));
        }
    }

    /// When to look at slots again, if somebody waits for one.
    pub(super) fn slots_at(&self) -> Option<Time> {
        self.slots_at
    }

    /// A peer takes no more of what it is sent until it has read some of it.
    pub fn handle_upload_blocked(&mut self, now: Time, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(key)
            && !std::mem::replace(&mut peer.slot.blocked, true)
        {
            self.look_at_slots(now);
        }
    }

    /// Gives free slots to those who wait, between rechokes.
    pub(super) fn fill_slots(&mut self, now: Time) {
        self.count(self.peers.len());
        self.slots_at = None;
        self.slots_wanted = self.peers.values().any(|peer| peer.peer_interested && peer.am_choking);
        if !self.slots_wanted {
            return;
        }
        let slots = self.count_slots(now);
        // While we download, slots are for those who give, and no more of them than the rechoke allows.
        let idles = self.is_complete() && slots.uplink_idles(now);
        let free = self.choker.capacity().saturating_sub(slots.held);
        let count = if idles { free.max(slots.unchoked) } else { free };
        if count > 0 {
            let next: Vec<PeerKey> = self.waiting(now, idles).into_iter().take(count).collect();
            // Who left a slot unused itself takes none from others.
            let is_fresh =
                |key: &&PeerKey| self.peers.get(**key).is_some_and(|peer| peer.slot.unused_lately(now) == 0);
            let unused = self.unused_slots(now).into_iter().take(next.iter().filter(is_fresh).count());
            unused.collect::<Vec<_>>().into_iter().for_each(|key| self.take_slot(now, key));
            next.into_iter().for_each(|key| self.set_choking(now, key, false));
        }
        self.slots_wanted = self.peers.values().any(|peer| peer.peer_interested && peer.am_choking);
        if self.slots_wanted {
            let since = if idles { now } else { slots.idle_since };
            let idle_at = (self.is_complete() && slots.in_use == 0).then(|| since + IDLE_UPLINK);
            self.slots_at = [idle_at, slots.lapses_at].into_iter().flatten().filter(|at| *at > now).min();
        }
    }

    /// Whether a peer with a slot makes use of it, or has not had it for long. Who left its last one unused has to use it first. While we
    /// download, who has used it keeps it until the next rechoke: it is paid for with what it gives.
    fn is_held(&self, peer: &Peer, now: Time) -> bool {
        let is_young = now.since(peer.slot.idle_since()) < peer.slot.patience();
        let is_partner = !self.is_complete() && !peer.slot.is_waited_for();
        is_sent_to(peer) || peer.slot.unused == 0 && (is_young || is_partner)
    }

    /// Whether a peer makes nothing of the slot that it has, or made nothing of its last one.
    pub(super) fn wastes_its_slot(&self, peer: &Peer, now: Time) -> bool {
        if peer.am_choking { peer.slot.unused_lately(now) > 0 } else { !self.is_held(peer, now) }
    }

    fn choker_peer(&self, peer: &Peer, now: Time) -> ChokerPeer {
        ChokerPeer {
            key: peer.key,
            peer_interested: peer.peer_interested,
            am_choking: peer.am_choking,
            choke_changed_at: peer.choke_changed_at,
            connected_at: peer.connected_at,
            snubbed: peer.snubbed,
            wastes: self.wastes_its_slot(peer, now),
            rate_from_bytes_per_s: peer.rate_down.bytes_per_s(now),
            rate_to_bytes_per_s: peer.rate_up.bytes_per_s(now),
            has_given: peer.bytes_down > 0,
            has_taken: peer.bytes_up > 0,
        }
    }

    fn count_slots(&self, now: Time) -> Slots {
        let mut slots = Slots::default();
        for peer in self.peers.values().filter(|peer| peer.peer_interested && !peer.am_choking) {
            slots.unchoked += 1;
            if is_sent_to(peer) {
                slots.in_use += 1;
                slots.held += 1;
                continue;
            }
            slots.idle_since = slots.idle_since.max(peer.slot.idle_since());
            if self.is_held(peer, now) {
                slots.held += 1;
                let at = peer.slot.idle_since() + peer.slot.patience();
                slots.lapses_at = Some(slots.lapses_at.map_or(at, |first| first.min(at)));
            }
        }
        slots
    }

    /// Those that have left their slots unused for too long, who did so most often first.
    fn unused_slots(&self, now: Time) -> Vec<PeerKey> {
        let unused = self.peers.values().filter(|peer| peer.peer_interested && !peer.am_choking);
        let mut unused: Vec<(Reverse<u32>, PeerKey)> = unused
            .filter(|peer| !self.is_held(peer, now))
            .map(|peer| (Reverse(peer.slot.unused), peer.key))
            .collect();
        unused.sort_unstable();
        unused.into_iter().map(|(_, key)| key).collect()
    }

    /// Those who wait for a slot, whose turn is next first: who left a slot unused last; while the uplink idles, those of whose address
    /// fewest have one; who gives to us; who has waited longest.
    fn waiting(&self, now: Time, idles: bool) -> Vec<PeerKey> {
        let mut crowds: BTreeMap<IpAddr, usize> = BTreeMap::new();
        if idles {
            for peer in self.peers.values().filter(|peer| !peer.am_choking) {
                *crowds.entry(peer.info.addr.ip()).or_default() += 1;
            }
        }
        let is_complete = self.is_complete();
        // As at a rechoke, who sends to us comes first: or else every slot that falls free would go to those who give
        // nothing, since nobody has waited longer.
        let gives = |p: &ChokerPeer| if is_complete { (0, false) } else { p.gives() };
        let may = |peer: &&Peer| now.since(peer.choke_changed_at) >= peer.slot.rest();
        let waiting = self.peers.values().filter(|peer| peer.peer_interested && peer.am_choking).filter(may);
        let mut waiting: Vec<_> = waiting
            .map(|peer| (peer, self.choker_peer(peer, now)))
            .filter(|(_, each)| self.choker.may_have_a_slot(each))
            .map(|(peer, each)| {
                let crowd = crowds.get(&peer.info.addr.ip()).copied().unwrap_or(0);
                (peer.slot.unused_lately(now), crowd, Reverse(gives(&each)), each.choke_changed_at, each.key)
            })
            .collect();
        waiting.sort_unstable();
        waiting.into_iter().map(|(.., key)| key).collect()
    }
}

/// Who is unchoked and interested.
#[derive(Default)]
struct Slots {
    unchoked: usize,
    /// So many hold their slot against others.
    held: usize,
    /// So many wait for us to send.
    in_use: usize,
    /// When the last of the others took something.
    idle_since: Time,
    /// When the first of the others that hold one will have left it unused for too long.
    lapses_at: Option<Time>,
}

impl Slots {
    /// Whether nobody has taken anything for a while.
    fn uplink_idles(&self, now: Time) -> bool {
        self.in_use == 0 && now.since(self.idle_since) >= IDLE_UPLINK
    }
}

/// Whether it is only for us to send something to it.
fn is_sent_to(peer: &Peer) -> bool {
    !peer.uploads.is_empty() && !peer.slot.blocked
}

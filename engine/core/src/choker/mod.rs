//! Whom we send to: the rechoke policies (BEP 3).
//!
//! A choker decides and nothing else: every [`RECHOKE_INTERVAL`] it is shown the peers and says who
//! is to be unchoked. Two policies answer two questions. A leecher asks *who sends to me?* and repays
//! in kind ([`Policy::TitForTat`]); a seed gets nothing back, so it asks *who has waited longest?*
//! ([`Policy::Seeding`]). How many are served at once is a third question, the same for both: see
//! [`UploadSlots`].

mod slots;

pub use slots::UploadSlots;

use crate::id::PeerKey;
use crate::rng::Rng;
use crate::time::{Duration, Time};
use std::cmp::Reverse;

/// How often choking is thought over. Longer than TCP needs to reach its rate, so that a peer shows
/// what it can do before it is judged.
pub const RECHOKE_INTERVAL: Duration = Duration::from_secs(10);

/// How long a peer keeps the optimistic slot: it needs that long to be noticed by the other side.
pub const OPTIMISTIC_INTERVAL: Duration = Duration::from_secs(30);

/// How much likelier a new connection gets the optimistic slot than an old one: it has nothing to
/// trade yet (BEP 3).
pub const NEW_PEER_WEIGHT: u64 = 3;

/// How much likelier a peer gets the optimistic slot than one that has taken from us and never given anything.
pub const UNTRIED_WEIGHT: u64 = 4;

/// How long a seed serves a peer while others wait. Long enough to fill the peer's pipeline and to
/// finish pieces, short enough that nobody holds a slot for long, which costs a swarm most.
pub const SEEDING_TURN: Duration = Duration::from_secs(30);

/// Who is worth a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// For leechers: the peers that send us most, and one more at random, optimistically.
    TitForTat,
    /// For seeds and for whoever downloads nothing: each interested peer in turn, the one that has
    /// waited longest first. Rates are not asked, neither a peer's to us (there are none) nor ours to
    /// it: preferring fast peers would starve slow ones and whoever came late.
    Seeding,
}

impl Policy {
    /// Whether a peer may have a slot other than the optimistic one.
    fn accepts(self, peer: &ChokerPeer) -> bool {
        match self {
            Policy::TitForTat => !peer.snubbed,
            Policy::Seeding => true,
        }
    }

    /// Slots that are given on trust.
    fn optimistic_slots(self) -> usize {
        match self {
            Policy::TitForTat => 1,
            Policy::Seeding => 0,
        }
    }
}

/// What a user may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChokerConfig {
    /// The fewest peers served at once, the optimistic one not counted. At least 1.
    pub slots_min: usize,
    /// The most peers served at once, the optimistic one not counted. At least `slots_min`.
    pub slots_max: usize,
}

impl Default for ChokerConfig {
    /// 2 to 100.
    fn default() -> ChokerConfig {
        ChokerConfig { slots_min: 2, slots_max: 100 }
    }
}

/// What a choker is told of each connected peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChokerPeer {
    /// The connection.
    pub key: PeerKey,
    /// Whether it wants something of ours.
    pub peer_interested: bool,
    /// Whether we choke it now.
    pub am_choking: bool,
    /// When `am_choking` last changed; when it connected, if never.
    pub choke_changed_at: Time,
    /// When it connected.
    pub connected_at: Time,
    /// Whether it unchoked us, was asked, and has sent nothing for long.
    pub snubbed: bool,
    /// Whether it has a slot and takes nothing, or left the last one that it had unused.
    pub wastes: bool,
    /// What it sends us.
    pub rate_from_bytes_per_s: u64,
    /// What we send it.
    pub rate_to_bytes_per_s: u64,
    /// Whether it has ever sent us a block.
    pub has_given: bool,
    /// Whether we have ever sent it a block.
    pub has_taken: bool,
}

impl ChokerPeer {
    /// What a leecher repays: what comes now, and among those from whom nothing does, whether anything ever came.
    pub(crate) fn gives(&self) -> (u64, bool) {
        (self.rate_from_bytes_per_s, self.has_given)
    }
}

/// Whom to serve until the next rechoke.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The peers to be unchoked, in order of their keys. Every other peer is to be choked.
    pub unchoke: Vec<PeerKey>,
    /// The one among them that holds the optimistic slot.
    pub optimistic: Option<PeerKey>,
}

/// Decides whom we send to. Deterministic for a seed, whatever the order in which peers are given.
#[derive(Clone, Debug)]
pub struct Choker {
    policy: Policy,
    slots: UploadSlots,
    optimistic: Option<Optimistic>,
    rng: Rng,
}

/// The peer that gets a chance to show what it can do, and when it got it.
#[derive(Clone, Copy, Debug)]
struct Optimistic {
    key: PeerKey,
    since: Time,
}

impl Choker {
    /// A choker that has unchoked nobody yet.
    ///
    /// # Panics
    /// If the configured numbers of slots are out of order.
    pub fn new(policy: Policy, config: ChokerConfig, rng: Rng) -> Choker {
        Choker { policy, slots: UploadSlots::new(config.slots_min, config.slots_max), optimistic: None, rng }
    }

    /// Changes the policy from the next rechoke on: a leecher that completes becomes a seed.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// The most peers that are unchoked at once, the optimistic one included.
    pub fn capacity(&self) -> usize {
        self.slots.get() + self.policy.optimistic_slots()
    }

    /// Decides whom to serve; `rate_to_bytes_per_s` is the block payload that we send to all peers together. Called every [`RECHOKE_INTERVAL`]; between two calls, choke a peer that
    /// loses interest, and give the slot to one that [`may_have_a_slot`](Self::may_have_a_slot).
    pub fn rechoke(&mut self, now: Time, peers: &[ChokerPeer], rate_to_bytes_per_s: u64) -> Decision {
        let mut interested: Vec<ChokerPeer> = peers.iter().filter(|p| p.peer_interested).copied().collect();
        interested.sort_unstable_by_key(|p| p.key);
        // Of those that send nothing now, as when all we have for each other has been sent, those come first that ever did. Other
        // ties are broken by these draws, made in the order of keys, and then by key.
        let mut ranked: Vec<(u64, ChokerPeer)> =
            interested.iter().map(|p| (self.rng.next_u64(), *p)).collect();
        ranked.retain(|(_, p)| self.policy.accepts(p));
        match self.policy {
            Policy::TitForTat => {
                ranked.sort_unstable_by_key(|(tie, p)| (p.wastes, Reverse(p.gives()), *tie, p.key));
            }
            Policy::Seeding => {
                ranked.sort_unstable_by_key(|(tie, p)| (p.wastes, seeding_rank(now, p), *tie, p.key))
            }
        }
        let wanted = ranked.iter().filter(|(_, p)| !p.wastes).count();
        self.slots.adjust(wanted, rate_to_bytes_per_s);
        let mut unchoke: Vec<PeerKey> = ranked.iter().take(self.slots.get()).map(|(_, p)| p.key).collect();
        unchoke.sort_unstable();
        interested.retain(|p| unchoke.binary_search(&p.key).is_err());
        if interested.iter().any(|p| !p.wastes) {
            interested.retain(|p| !p.wastes);
        }
        self.optimistic = match self.policy.optimistic_slots() {
            0 => None,
            _ => self.choose_optimistic(now, &interested),
        };
        let optimistic = self.optimistic.map(|o| o.key);
        unchoke.extend(optimistic);
        unchoke.sort_unstable();
        Decision { unchoke, optimistic }
    }

    /// Whether a peer that waits may be unchoked before the next rechoke, if there is a slot.
    pub fn may_have_a_slot(&self, peer: &ChokerPeer) -> bool {
        peer.am_choking && peer.peer_interested && self.policy.accepts(peer)
    }

    /// The holder of the optimistic slot among peers that have no other: the present one until its time
    /// is up, then someone else if there is anyone else.
    fn choose_optimistic(&mut self, now: Time, candidates: &[ChokerPeer]) -> Option<Optimistic> {
        let present = self.optimistic.filter(|o| candidates.iter().any(|p| p.key == o.key));
        if let Some(present) = present.filter(|o| now.since(o.since) < OPTIMISTIC_INTERVAL) {
            return Some(present);
        }
        let weight = |p: &ChokerPeer| match now.since(p.connected_at) < OPTIMISTIC_INTERVAL {
            _ if p.has_taken && !p.has_given => 1,
            true => NEW_PEER_WEIGHT * UNTRIED_WEIGHT,
            false => UNTRIED_WEIGHT,
        };
        let others = || candidates.iter().filter(|p| present.is_none_or(|o| o.key != p.key));
        let total: u64 = others().map(weight).sum();
        if total == 0 {
            return present;
        }
        let mut ticket = self.rng.below(total);
        let chosen = others().find(|p| {
            let wins = ticket < weight(p);
            ticket = ticket.saturating_sub(weight(p));
            wins
        });
        chosen.map(|p| Optimistic { key: p.key, since: now })
    }
}

/// The order in which a seed serves: whoever is in the middle of its turn, then those who wait, longest
/// first, then those whose turn is over, longest last. A peer that takes nothing loses its turn.
fn seeding_rank(now: Time, peer: &ChokerPeer) -> (u8, u64) {
    let since = peer.choke_changed_at.as_micros();
    let held = now.since(peer.choke_changed_at);
    match peer.am_choking {
        true => (1, since),
        false if peer.rate_to_bytes_per_s == 0 && held >= RECHOKE_INTERVAL => (3, !since),
        false if held >= SEEDING_TURN => (2, !since),
        false => (0, since),
    }
}

#[cfg(test)]
mod tests;

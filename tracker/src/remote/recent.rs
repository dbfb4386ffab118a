//! Peers that the store named a moment ago, for whoever announces to a large swarm within the same second.
//!
//! A flash crowd asks for the same swarm again and again, and half of what that costs is to name 50 peers
//! each time. So the store names more of them, and those who ask within a second are told of some each. What
//! is kept is bounded, and gone after the second: a peer that has left is told of for no longer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use swarm_core::id::InfoHash;
use swarm_core::net::Family;

/// How long peers are told of that the store has named.
const SERVES_FOR: Duration = Duration::from_secs(1);
/// To so many who ask, so that however many come no peer is named to many more of them than another.
const TOLD_MAX: u32 = 16;
/// Of so many swarms at a time.
const SWARMS_MAX: usize = 4_096;
/// How many times as many peers as somebody wants are asked for, so that not all are told of the same.
pub(super) const SHARED_BY: usize = 4;

/// What is asked of the store for somebody who wants peers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing: these were named within the last second.
    Named(Vec<SocketAddr>),
    /// As many as others may want too, who are told of them.
    ForAll,
    /// As many as it wants.
    Alone,
}

/// A swarm in one address family; its leechers only, or all of its peers.
pub(super) type Part = (InfoHash, Family, bool);

#[derive(Debug)]
struct Named {
    peers: Vec<SocketAddr>,
    /// There are no others.
    is_all: bool,
    /// How many were told of them.
    told: u32,
}

#[derive(Debug)]
pub(super) struct Recent {
    since: Instant,
    /// `None`: somebody asks for them.
    named: HashMap<Part, Option<Named>>,
}

impl Recent {
    pub fn new(now: Instant) -> Recent {
        Recent { since: now, named: HashMap::new() }
    }

    /// The store has named these; perhaps there are no others.
    pub fn keep(&mut self, now: Instant, part: Part, peers: Vec<SocketAddr>, is_all: bool) {
        self.forget_if_due(now);
        if self.has_room(&part) {
            self.named.insert(part, Some(Named { peers, is_all, told: 0 }));
        }
    }

    fn has_room(&self, part: &Part) -> bool {
        self.named.len() < SWARMS_MAX || self.named.contains_key(part)
    }

    /// What to ask for whoever wants so many peers, and is not told of itself.
    pub fn look(&mut self, now: Instant, part: Part, want: usize, asks: SocketAddr, random: u64) -> Look {
        self.forget_if_due(now);
        let has_room = self.has_room(&part);
        match self.named.get_mut(&part) {
            Some(Some(named)) if named.told < TOLD_MAX && (named.is_all || named.peers.len() > want) => {
                named.told += 1;
                Look::Named(choose(&named.peers, want, asks, random))
            }
            // Not everybody asks for many while the store takes its time.
            Some(None) => Look::Alone,
            _ if !has_room => Look::Alone,
            _ => {
                self.named.insert(part, None);
                Look::ForAll
            }
        }
    }

    fn forget_if_due(&mut self, now: Instant) {
        if now.duration_since(self.since) >= SERVES_FOR {
            self.since = now;
            self.named.clear();
        }
    }
}

/// So many of these from a random place on, but not the one who asks.
pub(super) fn choose(peers: &[SocketAddr], want: usize, asks: SocketAddr, random: u64) -> Vec<SocketAddr> {
    let start = random.checked_rem(peers.len() as u64).unwrap_or(0) as usize;
    let (before, after) = peers.split_at(start);
    after.iter().chain(before).filter(|peer| **peer != asks).take(want).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], n))
    }

    #[test]
    fn each_is_told_of_others_from_anywhere_for_a_second() {
        let (start, part) = (Instant::now(), (InfoHash([1; 20]), Family::V4, false));
        let mut recent = Recent::new(start);
        let named: Vec<SocketAddr> = (1..=20).map(addr).collect();
        recent.keep(start, part, named.clone(), false);
        let mut told = std::collections::HashSet::new();
        for random in 0..u64::from(TOLD_MAX) {
            let Look::Named(some) = recent.look(start, part, 5, addr(3), random) else { panic!("not named") };
            assert_eq!(some.len(), 5);
            assert!(!some.contains(&addr(3)));
            told.extend(some);
        }
        assert_eq!(told.len(), 19);
        assert_eq!(recent.look(start, part, 5, addr(3), 0), Look::ForAll, "others hear of others");
        recent.keep(start, part, named.clone(), false);
        // Others of that swarm, and another one: the first who wants them asks for all.
        for other in
            [(part.0, Family::V6, false), (part.0, Family::V4, true), (InfoHash([2; 20]), Family::V4, false)]
        {
            assert_eq!(recent.look(start, other, 5, addr(3), 0), Look::ForAll);
            assert_eq!(recent.look(start, other, 5, addr(4), 0), Look::Alone);
        }
        assert_eq!(recent.look(start, part, 20, addr(3), 0), Look::ForAll, "they are not enough");
        recent.keep(start, part, named, true);
        assert!(matches!(recent.look(start, part, 50, addr(3), 0), Look::Named(some) if some.len() == 19));
        assert_eq!(recent.look(start + SERVES_FOR, part, 5, addr(3), 0), Look::ForAll);
    }

    #[test]
    fn it_holds_so_many_swarms_at_a_time() {
        let now = Instant::now();
        let mut recent = Recent::new(now);
        for n in 0..SWARMS_MAX as u32 + 10 {
            let mut hash = [0; 20];
            hash[..4].copy_from_slice(&n.to_be_bytes());
            recent.keep(now, (InfoHash(hash), Family::V4, false), vec![addr(1)], true);
        }
        assert_eq!(recent.named.len(), SWARMS_MAX);
        assert_eq!(recent.look(now, (InfoHash([255; 20]), Family::V4, false), 5, addr(2), 0), Look::Alone);
    }
}

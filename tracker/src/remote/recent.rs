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
/// Of so many swarms at a time.
const SWARMS_MAX: usize = 4_096;
/// How many times as many peers as somebody wants are asked for, so that not all are told of the same.
pub(super) const SHARED_BY: usize = 4;

/// A swarm in one address family; its leechers only, or all of its peers.
pub(super) type Part = (InfoHash, Family, bool);

#[derive(Debug)]
struct Named {
    peers: Vec<SocketAddr>,
    /// There are no others.
    is_all: bool,
}

#[derive(Debug)]
pub(super) struct Recent {
    since: Instant,
    named: HashMap<Part, Named>,
}

impl Recent {
    pub fn new(now: Instant) -> Recent {
        Recent { since: now, named: HashMap::new() }
    }

    /// The store has named these; perhaps there are no others.
    pub fn keep(&mut self, now: Instant, part: Part, peers: Vec<SocketAddr>, is_all: bool) {
        self.forget_if_due(now);
        if self.named.len() < SWARMS_MAX || self.named.contains_key(&part) {
            self.named.insert(part, Named { peers, is_all });
        }
    }

    /// So many of those that were named within the last second, but not the one who asks; `None` if there are not enough.
    pub fn some(
        &mut self,
        now: Instant,
        part: &Part,
        want: usize,
        asks: SocketAddr,
        random: u64,
    ) -> Option<Vec<SocketAddr>> {
        self.forget_if_due(now);
        let named = self.named.get(part).filter(|named| named.is_all || named.peers.len() > want)?;
        Some(choose(&named.peers, want, asks, random))
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
        for random in 0..20 {
            let some = recent.some(start, &part, 5, addr(3), random).unwrap();
            assert_eq!(some.len(), 5);
            assert!(!some.contains(&addr(3)));
            told.extend(some);
        }
        assert_eq!(told.len(), 19);
        // Not enough of them, others of that swarm, and another one.
        assert_eq!(recent.some(start, &part, 20, addr(3), 0), None);
        for other in
            [(part.0, Family::V6, false), (part.0, Family::V4, true), (InfoHash([2; 20]), Family::V4, false)]
        {
            assert_eq!(recent.some(start, &other, 5, addr(3), 0), None);
        }
        recent.keep(start, part, named, true);
        assert_eq!(recent.some(start, &part, 50, addr(3), 0).map(|some| some.len()), Some(19));
        assert_eq!(recent.some(start + SERVES_FOR, &part, 5, addr(3), 0), None);
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
    }
}

//! The peers of one swarm in one address family.
//!
//! One vector, seeds in front and leechers behind, so that counting and choosing among either cost
//! nothing extra; leaving swaps the last one into the gap. A small swarm is searched from end to
//! end, a large one through a table of positions, five bytes for each peer. Nothing is ever in
//! proportion to the size of a large swarm but [`Peers::expire`].

use std::hash::{BuildHasher, Hash};
use std::net::{IpAddr, SocketAddr};

use hashbrown::HashTable;
use swarm_core::id::PeerId;
use swarm_core::rng::Rng;
use swarm_core::tracker::TrackerPeer;

use super::holders::Network;

/// From so many peers on, positions are looked up and no longer searched for.
const INDEX_FROM: usize = 32;
/// Below so many peers, the table of positions is given up again.
const INDEX_UNTIL: usize = INDEX_FROM / 2;

/// What is kept of a peer: 32 bytes for IPv4, 44 for IPv6. An address and port is one peer,
/// whatever it calls itself: a client that was restarted replaces its former self.
#[derive(Clone, Copy, Debug)]
struct Entry<A> {
    /// When it last announced, in seconds on the store's clock.
    seen_s: u32,
    ip: A,
    port: u16,
    id: PeerId,
    /// It has told that its download finished.
    completed: bool,
    /// Others told of it: it has not announced here.
    heard: bool,
}

/// How a peer stands by what it announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Announced {
    pub port: u16,
    pub id: PeerId,
    pub seed: bool,
    /// The announce says that the download has just finished; of a listed peer, one has said so.
    pub completed: bool,
    /// Others told of it: it has not announced here, and its id is not known.
    pub heard: bool,
}

/// The peers of one swarm in one address family.
#[derive(Debug)]
pub(super) struct Peers<A> {
    entries: Vec<Entry<A>>,
    /// So many entries, from the front, are seeds.
    seeds: usize,
    index: Option<Box<HashTable<u32>>>,
}

impl<A> Default for Peers<A> {
    fn default() -> Peers<A> {
        Peers { entries: Vec::new(), seeds: 0, index: None }
    }
}

impl<A: Copy + Eq + Hash + Into<IpAddr>> Peers<A> {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn seeds(&self) -> usize {
        self.seeds
    }

    /// Of each peer, the network it is in.
    pub fn networks(&self) -> impl Iterator<Item = Network> {
        self.entries.iter().map(|entry| Network::of(entry.ip.into()))
    }

    /// Each peer, with its address and when it last announced.
    pub fn iter(&self) -> impl Iterator<Item = (u32, A, Announced)> {
        self.entries.iter().enumerate().map(|(at, entry)| {
            let Entry { seen_s, ip, port, id, completed, heard } = *entry;
            (seen_s, ip, Announced { port, id, seed: at < self.seeds, completed, heard })
        })
    }

    /// Where a peer is, for the calls below. Holds until the next change.
    pub fn position(&self, ip: A, port: u16, hasher: &impl BuildHasher) -> Option<usize> {
        let is_it = |entry: &Entry<A>| entry.ip == ip && entry.port == port;
        match &self.index {
            Some(index) => {
                let hash = hasher.hash_one((&ip, port));
                index.find(hash, |&at| is_it(&self.entries[at as usize])).map(|&at| at as usize)
            }
            None => self.entries.iter().position(is_it),
        }
    }

    /// Adds a peer that has no position, and says where it is.
    pub fn insert(&mut self, now_s: u32, ip: A, peer: &Announced, hasher: &impl BuildHasher) -> usize {
        let at = self.entries.len();
        if at == self.entries.capacity() {
            self.entries.reserve_exact((at / 2).max(1));
        }
        let Announced { port, id, completed, heard, .. } = *peer;
        self.entries.push(Entry { seen_s: now_s, ip, port, id, completed, heard });
        if let Some(index) = &mut self.index {
            let entries = &self.entries;
            index.insert_unique(hash(&entries[at], hasher), at as u32, |&at| {
                hash(&entries[at as usize], hasher)
            });
        } else if self.entries.len() >= INDEX_FROM {
            self.build_index(hasher);
        }
        self.set_seed(at, peer.seed, hasher)
    }

    /// Takes note of a further announce, and says where the peer is now and whether it is the first
    /// to say that the download finished.
    pub fn update(
        &mut self,
        now_s: u32,
        at: usize,
        peer: &Announced,
        hasher: &impl BuildHasher,
    ) -> (usize, bool) {
        let entry = &mut self.entries[at];
        let newly_completed = peer.completed && !entry.completed;
        entry.completed |= peer.completed;
        entry.seen_s = now_s;
        entry.id = peer.id;
        entry.heard = peer.heard;
        (self.set_seed(at, peer.seed, hasher), newly_completed)
    }

    /// Takes a peer out.
    pub fn remove(&mut self, at: usize, hasher: &impl BuildHasher) {
        // As a leecher it has no seed behind it.
        let at = self.set_seed(at, false, hasher);
        let last = self.entries.len() - 1;
        self.swap(at, last, hasher);
        let gone = self.entries.pop();
        let (Some(gone), Some(index)) = (gone, &mut self.index) else { return };
        if let Ok(occupied) = index.find_entry(hash(&gone, hasher), |&found| found as usize == last) {
            occupied.remove();
        }
        if self.entries.len() < INDEX_UNTIL {
            self.index = None;
        }
    }

    /// Takes out who has not been seen since `before_s`, and gives memory back.
    pub fn expire(&mut self, before_s: u32, hasher: &impl BuildHasher) {
        // What a removal moves to `at` comes from further behind and has been looked at.
        for at in (0..self.entries.len()).rev() {
            if self.entries[at].seen_s < before_s {
                self.remove(at, hasher);
            }
        }
        if self.entries.capacity() > 2 * self.entries.len() {
            self.entries.shrink_to_fit();
            if let Some(index) = &mut self.index {
                let entries = &self.entries;
                index.shrink_to_fit(|&at| hash(&entries[at as usize], hasher));
            }
        }
    }

    /// Appends up to `want` different peers to `out`, each as likely as any other: not the one at
    /// `requester` nor another with its id, and seeds only if `seeds_too`.
    ///
    /// The candidates are cut into `want` stretches, from a random start on, and one is taken from
    /// each: as many random numbers and steps as peers wanted, however large the swarm.
    pub fn choose(
        &self,
        rng: &mut Rng,
        want: usize,
        requester: Option<usize>,
        id: PeerId,
        seeds_too: bool,
        out: &mut Vec<TrackerPeer>,
    ) {
        let first = if seeds_too { 0 } else { self.seeds };
        let requester = requester.filter(|&at| at >= first);
        let candidates = self.entries.len() - first - usize::from(requester.is_some());
        let mut take = |candidate: usize| {
            let at = first + candidate;
            let skips = requester.is_some_and(|requester| at >= requester);
            let entry = &self.entries[at + usize::from(skips)];
            if entry.id != id {
                let addr = SocketAddr::new(entry.ip.into(), entry.port);
                out.push(TrackerPeer { addr, id: (!entry.heard).then_some(entry.id) });
            }
        };
        if candidates <= want {
            (0..candidates).for_each(take);
            return;
        }
        let start = rng.index(candidates);
        for nth in 0..want {
            let (from, to) = (nth * candidates / want, (nth + 1) * candidates / want);
            let picked = start + from + rng.index(to - from);
            take(if picked < candidates { picked } else { picked - candidates });
        }
    }

    /// Moves a peer among the seeds or the leechers, and says where it is now.
    fn set_seed(&mut self, at: usize, seed: bool, hasher: &impl BuildHasher) -> usize {
        let to = match (at < self.seeds, seed) {
            (false, true) => {
                self.seeds += 1;
                self.seeds - 1
            }
            (true, false) => {
                self.seeds -= 1;
                self.seeds
            }
            _ => return at,
        };
        self.swap(at, to, hasher);
        to
    }

    fn swap(&mut self, a: usize, b: usize, hasher: &impl BuildHasher) {
        if a == b {
            return;
        }
        if let Some(index) = &mut self.index {
            let bucket = |at: usize| {
                let hash = hash(&self.entries[at], hasher);
                index.find_bucket_index(hash, |&found| found as usize == at)
            };
            let moves = [(bucket(a), b), (bucket(b), a)];
            for (bucket, to) in moves {
                let position = bucket.and_then(|bucket| index.get_bucket_mut(bucket));
                *position.expect("every entry is in the table") = to as u32;
            }
        }
        self.entries.swap(a, b);
    }

    fn build_index(&mut self, hasher: &impl BuildHasher) {
        let mut index = HashTable::with_capacity(self.entries.len());
        for (at, entry) in self.entries.iter().enumerate() {
            index.insert_unique(hash(entry, hasher), at as u32, |&at| {
                hash(&self.entries[at as usize], hasher)
            });
        }
        self.index = Some(Box::new(index));
    }

    #[cfg(test)]
    pub fn check_invariants(&self, hasher: &impl BuildHasher) {
        assert!(self.seeds <= self.entries.len());
        for (at, entry) in self.entries.iter().enumerate() {
            assert_eq!(self.position(entry.ip, entry.port, hasher), Some(at));
        }
        if let Some(index) = &self.index {
            assert_eq!(index.len(), self.entries.len());
        }
    }
}

fn hash<A: Hash>(entry: &Entry<A>, hasher: &impl BuildHasher) -> u64 {
    hasher.hash_one((&entry.ip, entry.port))
}

//! The peers that others announced to us.
//!
//! Bounded in all directions: swarms, peers of a swarm, peers of one host in a swarm. When there is no room for a new
//! swarm the smallest goes, the one longest silent among equals, so that a flood of made-up swarms of one peer each
//! displaces itself.

use super::scrape::Scrape;
use crate::id::InfoHash;
use crate::net::{Family, Host};
use crate::rng::Rng;
use crate::time::{Duration, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// How long a peer is remembered; clients announce every quarter of an hour or so.
pub const PEER_LIFETIME: Duration = Duration::from_secs(30 * 60);
/// Most swarms.
pub const SWARMS_MAX: usize = 2_000;
/// Most peers of one swarm.
pub const SWARM_PEERS_MAX: usize = 300;
/// Most peers of one host in a swarm: there may be several behind one address.
pub const HOST_PEERS_MAX: usize = 4;
/// Most peers in an answer, IPv4 and IPv6: about 500 bytes.
pub const ANSWER_PEERS_MAX: [usize; 2] = [60, 25];

#[derive(Clone, Copy)]
struct Peer {
    addr: SocketAddr,
    is_seed: bool,
    heard: Time,
}

/// Ordered as swarms are given up: the smallest first, then the longest silent.
type Rank = (usize, Option<Time>, InfoHash);

/// Who announced what.
#[derive(Default)]
pub(super) struct PeerStore {
    swarms: BTreeMap<InfoHash, Vec<Peer>>,
    ranks: BTreeSet<Rank>,
}

fn rank(hash: InfoHash, peers: &[Peer]) -> Rank {
    (peers.len(), peers.iter().map(|peer| peer.heard).max(), hash)
}

impl PeerStore {
    /// Remembers a peer.
    pub(super) fn announce(&mut self, now: Time, hash: InfoHash, addr: SocketAddr, is_seed: bool) {
        if self.swarms.len() >= SWARMS_MAX
            && !self.swarms.contains_key(&hash)
            && let Some((.., smallest)) = self.ranks.pop_first()
        {
            self.swarms.remove(&smallest);
        }
        let peers = self.swarms.entry(hash).or_default();
        self.ranks.remove(&rank(hash, peers));
        let peer = Peer { addr, is_seed, heard: now };
        let oldest = |peers: &[Peer], host: Option<Host>| {
            let of_host = |peer: &&(usize, &Peer)| host.is_none_or(|host| Host::of(peer.1.addr) == host);
            let numbered = peers.iter().enumerate().collect::<Vec<_>>();
            numbered.iter().filter(of_host).min_by_key(|(_, peer)| peer.heard).map(|(at, _)| *at)
        };
        let host = Host::of(addr);
        let replaced = match peers.iter().position(|known| known.addr == addr) {
            Some(at) => Some(at),
            None if peers.iter().filter(|known| Host::of(known.addr) == host).count() >= HOST_PEERS_MAX => {
                oldest(peers, Some(host))
            }
            None if peers.len() >= SWARM_PEERS_MAX => oldest(peers, None),
            None => None,
        };
        match replaced {
            Some(at) => peers[at] = peer,
            None => peers.push(peer),
        }
        self.ranks.insert(rank(hash, peers));
    }

    /// Some peers of a swarm, at random; all if there are no more than `most`.
    pub(super) fn sample(
        &self,
        now: Time,
        hash: InfoHash,
        family: Family,
        no_seeds: bool,
        most: usize,
        rng: &mut Rng,
    ) -> Vec<SocketAddr> {
        let peers = self.swarms.get(&hash).map_or(&[][..], Vec::as_slice);
        let mut found: Vec<SocketAddr> = peers
            .iter()
            .filter(|peer| now.since(peer.heard) < PEER_LIFETIME && !(no_seeds && peer.is_seed))
            .map(|peer| peer.addr)
            .filter(|addr| Family::of(*addr) == family)
            .collect();
        if found.len() > most {
            rng.shuffle(&mut found);
            found.truncate(most);
        }
        found
    }

    /// How many peers of a swarm there are; `None` if none is known.
    pub(super) fn scrape(&self, now: Time, hash: InfoHash) -> Option<Scrape> {
        let peers = self.swarms.get(&hash)?;
        let mut scrape = Scrape::default();
        for peer in peers.iter().filter(|peer| now.since(peer.heard) < PEER_LIFETIME) {
            let filter = if peer.is_seed { &mut scrape.seeds } else { &mut scrape.downloaders };
            filter.insert(peer.addr.ip());
        }
        Some(scrape)
    }

    /// Some swarms at random, and how many there are.
    pub(super) fn sample_swarms(&self, count: usize, rng: &mut Rng) -> (Vec<InfoHash>, usize) {
        let mut hashes: Vec<InfoHash> = self.swarms.keys().copied().collect();
        rng.shuffle(&mut hashes);
        hashes.truncate(count);
        (hashes, self.swarms.len())
    }

    /// Forgets peers that were not heard of for long. To be called every now and then.
    pub(super) fn expire(&mut self, now: Time) {
        self.swarms.retain(|_, peers| {
            peers.retain(|peer| now.since(peer.heard) < PEER_LIFETIME);
            !peers.is_empty()
        });
        self.ranks = self.swarms.iter().map(|(hash, peers)| rank(*hash, peers)).collect();
    }

    /// How many peers of how many swarms are remembered.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.swarms.values().map(Vec::len).sum(), self.swarms.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn peer(n: u32) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::from(0x0100_0000 + n), 6881))
    }

    fn hash(n: u32) -> InfoHash {
        let mut hash = [0; 20];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        InfoHash(hash)
    }

    fn at(seconds: u64) -> Time {
        Time::from_micros(1) + Duration::from_secs(seconds)
    }

    fn found(store: &PeerStore, now: Time, n: u32) -> Vec<SocketAddr> {
        store.sample(now, hash(n), Family::V4, false, ANSWER_PEERS_MAX[0], &mut Rng::new(1))
    }

    #[test]
    fn peers_are_found_in_their_swarm_until_they_expire() {
        let mut store = PeerStore::default();
        store.announce(at(0), hash(1), peer(1), false);
        store.announce(at(0), hash(1), "[2001:db8::1]:1".parse().unwrap(), false);
        store.announce(at(900), hash(1), peer(2), true);
        store.announce(at(900), hash(1), peer(2), true);
        assert_eq!(found(&store, at(900), 1), [peer(1), peer(2)]);
        assert_eq!(found(&store, at(900), 2), []);
        assert_eq!(store.sample(at(900), hash(1), Family::V4, true, 9, &mut Rng::new(1)), [peer(1)]);
        assert_eq!(store.sample(at(900), hash(1), Family::V6, false, 9, &mut Rng::new(1)).len(), 1);
        assert_eq!(found(&store, at(1_800), 1), [peer(2)]);
        store.expire(at(2_700));
        assert_eq!(store.len(), (0, 0));
    }

    #[test]
    fn a_swarm_is_bounded_and_no_host_fills_it() {
        let mut store = PeerStore::default();
        for n in 0..2 * SWARM_PEERS_MAX as u32 {
            store.announce(at(n.into()), hash(1), peer(n), false);
        }
        for port in 1..1_000 {
            store.announce(at(1_000), hash(1), SocketAddr::from(([9, 9, 9, 9], port)), false);
        }
        let peers = &store.swarms[&hash(1)];
        assert_eq!(peers.len(), SWARM_PEERS_MAX);
        assert_eq!(peers.iter().filter(|p| p.addr.ip() == Ipv4Addr::new(9, 9, 9, 9)).count(), HOST_PEERS_MAX);
        assert_eq!(found(&store, at(1_000), 1).len(), ANSWER_PEERS_MAX[0]);
    }

    #[test]
    fn a_flood_of_swarms_displaces_itself() {
        let mut store = PeerStore::default();
        for n in 0..5 {
            store.announce(at(0), hash(0), peer(n), false);
        }
        for n in 1..3 * SWARMS_MAX as u32 {
            store.announce(at(1), hash(n), peer(n), false);
        }
        assert_eq!(store.len().1, SWARMS_MAX);
        assert_eq!(store.ranks.len(), SWARMS_MAX);
        assert_eq!(found(&store, at(1), 0).len(), 5);
    }
}

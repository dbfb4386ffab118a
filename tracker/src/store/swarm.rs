//! One torrent's swarm: its peers by address family, and what is told about it.

use std::hash::{BuildHasher, Hash};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use swarm_core::rng::Rng;
use swarm_core::tracker::{AnnounceRequest, Event, ScrapeStats, TrackerPeer};

use super::holders::{Network, Standing};
use super::peers::{Announced, Peers};
use crate::remote::View;

/// One torrent's swarm.
#[derive(Debug, Default)]
pub(super) struct Swarm {
    pub(super) v4: Peers<Ipv4Addr>,
    pub(super) v6: Peers<Ipv6Addr>,
    /// How many peers have told that their download finished.
    pub(super) downloaded: u32,
    /// When the last announce came, in seconds on the store's clock.
    pub(super) touched_s: u32,
    /// The networks that its peers are or, since it was last looked at, were in: [`Network::bit`] of each.
    pub(super) networks: u64,
    /// Who founded it; since it was last looked at, who has more than half of it, or one of those who are
    /// there.
    pub(super) holder: Network,
    /// How many of its peers are the holder's.
    pub(super) held: u32,
    /// What a store that others share last said about it.
    pub(super) view: Option<Box<View>>,
}

/// What an announce did to a swarm.
pub(super) struct Joined {
    /// Peers to tell the requester about, of its own family.
    pub peers: Vec<TrackerPeer>,
    /// The requester is listed.
    pub listed: bool,
    /// It says for the first time that its download finished.
    pub newly_completed: bool,
    /// What it did to the number of peers.
    change: Change,
}

/// What an announce did to the number of peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    Came,
    Left,
}

impl Swarm {
    /// Peers of both families.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    pub fn stats(&self) -> ScrapeStats {
        let seeds = self.v4.seeds() + self.v6.seeds();
        ScrapeStats {
            complete: count(seeds),
            incomplete: count(self.len() - seeds),
            downloaded: self.downloaded,
        }
    }

    /// A peer at `source` announces.
    pub fn announce<H: BuildHasher>(
        &mut self,
        request: &AnnounceRequest,
        source: IpAddr,
        visit: &mut Visit<'_, H>,
    ) -> Joined {
        self.touched_s = visit.now_s;
        let joined = match source {
            IpAddr::V4(ip) => visit.join(&mut self.v4, ip, request),
            IpAddr::V6(ip) => visit.join(&mut self.v6, ip, request),
        };
        self.downloaded = self.downloaded.saturating_add(u32::from(joined.newly_completed));
        match joined.change {
            Change::None => {}
            Change::Came => self.note_came(Network::of(source)),
            Change::Left => self.held -= u32::from(Network::of(source) == self.holder),
        }
        joined
    }

    /// Lists a peer that was saved or that others told of, unless one with its address is listed.
    pub fn restore<A>(&mut self, seen_s: u32, ip: A, peer: &Announced, hasher: &impl BuildHasher)
    where
        A: Copy + Eq + Hash + Into<IpAddr>,
        Swarm: AsPeers<A>,
    {
        let peers = self.as_peers();
        if peers.position(ip, peer.port, hasher).is_none() {
            peers.insert(seen_s, ip, peer, hasher);
            self.note_came(Network::of(ip.into()));
        }
    }

    fn note_came(&mut self, network: Network) {
        if self.networks == 0 {
            self.holder = network;
        }
        self.networks |= network.bit();
        self.held += u32::from(network == self.holder);
    }

    /// Whether a peer is listed.
    pub fn lists(&self, source: IpAddr, port: u16, hasher: &impl BuildHasher) -> bool {
        let at = match source {
            IpAddr::V4(ip) => self.v4.position(ip, port, hasher),
            IpAddr::V6(ip) => self.v6.position(ip, port, hasher),
        };
        at.is_some()
    }

    /// Who has it, and who else.
    pub fn standing(&self) -> Standing {
        Standing { holder: self.holder, networks: self.networks.count_ones(), held: self.held }
    }

    fn networks(&self) -> impl Iterator<Item = Network> {
        self.v4.networks().chain(self.v6.networks())
    }

    /// Looks again who has it.
    fn weigh_up(&mut self) {
        // If one has more than half of it, that one is left when each other one has taken one along.
        let (mut networks, mut holder, mut left) = (0, self.holder, 0_usize);
        for network in self.networks() {
            networks |= network.bit();
            match left {
                0 => (holder, left) = (network, 1),
                _ if network == holder => left += 1,
                _ => left -= 1,
            }
        }
        // An empty one stays with whom it was.
        self.networks = if networks == 0 { holder.bit() } else { networks };
        self.holder = holder;
        self.held = count(self.networks().filter(|&network| network == holder).count());
    }

    /// Takes out the peers not seen since `before_s`. False once nothing is left to be remembered.
    pub fn expire(&mut self, before_s: u32, hasher: &impl BuildHasher) -> bool {
        self.v4.expire(before_s, hasher);
        self.v6.expire(before_s, hasher);
        self.weigh_up();
        self.len() > 0 || self.touched_s >= before_s
    }

    #[cfg(test)]
    pub fn check_invariants(&self, hasher: &impl BuildHasher) {
        self.v4.check_invariants(hasher);
        self.v6.check_invariants(hasher);
        let held = self.networks().filter(|&network| network == self.holder).count();
        assert_eq!(self.held as usize, held);
        assert_eq!(self.networks().fold(self.networks, |all, network| all | network.bit()), self.networks);
    }
}

/// The peers of one address family.
pub(super) trait AsPeers<A> {
    fn as_peers(&mut self) -> &mut Peers<A>;
}

impl AsPeers<Ipv4Addr> for Swarm {
    fn as_peers(&mut self) -> &mut Peers<Ipv4Addr> {
        &mut self.v4
    }
}

impl AsPeers<Ipv6Addr> for Swarm {
    fn as_peers(&mut self) -> &mut Peers<Ipv6Addr> {
        &mut self.v6
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// What an announce brings along besides the request.
pub(super) struct Visit<'a, H> {
    pub now_s: u32,
    pub rng: &'a mut Rng,
    /// How many peers to tell of, at most.
    pub want: usize,
    /// A peer that is not listed yet may be.
    pub room: bool,
    pub hasher: &'a H,
}

impl<H: BuildHasher> Visit<'_, H> {
    /// What is said to the peer.
    fn join<A>(&mut self, peers: &mut Peers<A>, ip: A, request: &AnnounceRequest) -> Joined
    where
        A: Copy + Eq + Hash + Into<IpAddr>,
    {
        let peer = Announced {
            port: request.port,
            id: request.peer_id,
            seed: request.left == 0,
            completed: request.event == Some(Event::Completed),
            heard: false,
        };
        let at = peers.position(ip, peer.port, self.hasher);
        if request.event == Some(Event::Stopped) {
            if let Some(at) = at {
                peers.remove(at, self.hasher);
            }
            let change = if at.is_some() { Change::Left } else { Change::None };
            return Joined { peers: Vec::new(), listed: false, newly_completed: false, change };
        }
        let (at, newly_completed, change) = match at {
            Some(at) => {
                let (at, newly_completed) = peers.update(self.now_s, at, &peer, self.hasher);
                (Some(at), newly_completed, Change::None)
            }
            None if self.room => {
                let at = peers.insert(self.now_s, ip, &peer, self.hasher);
                (Some(at), peer.completed, Change::Came)
            }
            None => (None, false, Change::None),
        };
        let mut chosen = Vec::with_capacity(self.want.min(peers.len()));
        // Whoever starts with a bare magnet link does not know what is left; some say 0, and need seeds all
        // the same.
        let with_seeds = !peer.seed || request.event == Some(Event::Started);
        peers.choose(self.rng, self.want, at, peer.id, with_seeds, &mut chosen);
        Joined { peers: chosen, listed: at.is_some(), newly_completed, change }
    }
}

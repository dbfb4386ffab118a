//! One torrent's swarm: its peers by address family, and what is told about it.

use std::hash::{BuildHasher, Hash};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use swarm_core::rng::Rng;
use swarm_core::tracker::{AnnounceRequest, Event, ScrapeStats, TrackerPeer};

use super::peers::{Announced, Peers};

/// One torrent's swarm.
#[derive(Debug, Default)]
pub(super) struct Swarm {
    v4: Peers<Ipv4Addr>,
    v6: Peers<Ipv6Addr>,
    /// How many peers have told that their download finished.
    downloaded: u32,
    /// When the last announce came, in seconds on the store's clock.
    touched_s: u32,
}

/// What an announce did to a swarm.
pub(super) struct Joined {
    /// Peers to tell the requester about, of its own family.
    pub peers: Vec<TrackerPeer>,
    /// The requester is listed.
    pub listed: bool,
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
        let (joined, newly_completed) = match source {
            IpAddr::V4(ip) => visit.join(&mut self.v4, ip, request),
            IpAddr::V6(ip) => visit.join(&mut self.v6, ip, request),
        };
        self.downloaded = self.downloaded.saturating_add(u32::from(newly_completed));
        joined
    }

    /// Takes out the peers not seen since `before_s`. False once nothing is left to be remembered.
    pub fn expire(&mut self, before_s: u32, hasher: &impl BuildHasher) -> bool {
        self.v4.expire(before_s, hasher);
        self.v6.expire(before_s, hasher);
        self.len() > 0 || self.touched_s >= before_s
    }

    #[cfg(test)]
    pub fn check_invariants(&self, hasher: &impl BuildHasher) {
        self.v4.check_invariants(hasher);
        self.v6.check_invariants(hasher);
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
    /// The reply, and whether the peer is the first at its address to say that it has finished.
    fn join<A>(&mut self, peers: &mut Peers<A>, ip: A, request: &AnnounceRequest) -> (Joined, bool)
    where
        A: Copy + Eq + Hash + Into<IpAddr>,
    {
        let peer = Announced {
            port: request.port,
            id: request.peer_id,
            seed: request.left == 0,
            completed: request.event == Some(Event::Completed),
        };
        let at = peers.position(ip, peer.port, self.hasher);
        if request.event == Some(Event::Stopped) {
            if let Some(at) = at {
                peers.remove(at, self.hasher);
            }
            return (Joined { peers: Vec::new(), listed: false }, false);
        }
        let (at, newly_completed) = match at {
            Some(at) => {
                let (at, newly_completed) = peers.update(self.now_s, at, &peer, self.hasher);
                (Some(at), newly_completed)
            }
            None if self.room => (Some(peers.insert(self.now_s, ip, &peer, self.hasher)), peer.completed),
            None => (None, false),
        };
        let mut chosen = Vec::with_capacity(self.want.min(peers.len()));
        // Whoever starts with a bare magnet link does not know what is left; some say 0, and need seeds all the same.
        let with_seeds = !peer.seed || request.event == Some(Event::Started);
        peers.choose(self.rng, self.want, at, peer.id, with_seeds, &mut chosen);
        (Joined { peers: chosen, listed: at.is_some() }, newly_completed)
    }
}

//! What a tracker needs of its own store when it shares another one with other trackers: this one then is its
//! memory of what was announced to it.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use swarm_core::id::{InfoHash, PeerId};
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};
use swarm_core::tracker::{AnnounceRequest, AnnounceResponse};

use super::holders::Network;
use super::peers::{Announced, Peers};
use super::swarm::Swarm;
use super::{FULL, Refusal, SHARDS, Store, lock, seconds};
use crate::remote::{Earlier, View};

/// Most peers that are noted to be taken out of the shared store. Further ones end there by themselves.
const DISPLACED_MAX: usize = 100_000;

/// The reply to an announce, and what else comes of it.
pub(crate) struct Visited {
    pub response: AnnounceResponse,
    /// How many peers it may be told of.
    pub want: usize,
    pub listed: bool,
    /// It says for the first time that its download finished.
    pub newly_completed: bool,
}

/// Peers of one address family in a swarm.
pub(crate) type OfFamily<T> = (InfoHash, Vec<T>);

/// The peers of evicted swarms, if somebody is to know of them.
#[derive(Debug, Default)]
pub(super) struct Displaced {
    is_kept: AtomicBool,
    peers: Mutex<Vec<OfFamily<SocketAddr>>>,
    /// There is something.
    is_some: AtomicBool,
}

impl Displaced {
    pub fn note(&self, info_hash: &InfoHash, swarm: &Swarm) {
        if !self.is_kept.load(Ordering::Relaxed) {
            return;
        }
        let mut noted = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut room = DISPLACED_MAX.saturating_sub(noted.iter().map(|(_, peers)| peers.len()).sum());
        for peers in [addrs(&swarm.v4).collect::<Vec<_>>(), addrs(&swarm.v6).collect()] {
            let peers: Vec<_> = peers.into_iter().take(room).collect();
            room -= peers.len();
            if !peers.is_empty() {
                noted.push((*info_hash, peers));
            }
        }
        self.is_some.store(!noted.is_empty(), Ordering::Relaxed);
    }
}

fn addrs<A: Copy + Eq + std::hash::Hash + Into<IpAddr>>(
    peers: &Peers<A>,
) -> impl Iterator<Item = SocketAddr> {
    peers.iter().filter(|(.., peer)| !peer.heard).map(|(_, ip, peer)| SocketAddr::new(ip.into(), peer.port))
}

/// What a tracker knows of a swarm in one address family.
pub(crate) struct Known {
    pub info_hash: InfoHash,
    pub peers: Vec<Earlier>,
    /// How often it was downloaded, as far as is known here.
    pub downloaded: u32,
}

fn earlier<A: Copy + Eq + std::hash::Hash + Into<IpAddr>>(now_s: u32, peers: &Peers<A>) -> Vec<Earlier> {
    let announced = peers.iter().filter(|(.., peer)| !peer.heard);
    let earlier = announced.map(|(seen_s, ip, peer)| Earlier {
        addr: SocketAddr::new(ip.into(), peer.port),
        seed: peer.seed,
        age_s: now_s.saturating_sub(seen_s),
    });
    earlier.collect()
}

impl Store {
    /// From now on it notes what is to be taken out of the shared store.
    pub(crate) fn share(&self) {
        self.displaced_peers.is_kept.store(true, Ordering::Relaxed);
    }

    /// Takes note of an announce that the shared store is to answer, without telling of other peers.
    pub(crate) fn admit(
        &self,
        now: Time,
        rng: &mut Rng,
        request: &AnnounceRequest,
        source: IpAddr,
    ) -> Result<Visited, Refusal> {
        let mut visited = self.visit(now, rng, request, source, Some(0))?;
        // Whether it is listed is for the shared store to say.
        visited.response.warning = None;
        Ok(visited)
    }

    /// The warning for whoever is not listed.
    pub(crate) fn full_warning() -> &'static str {
        FULL
    }

    /// What the shared store last said about a swarm.
    pub(crate) fn view(&self, info_hash: &InfoHash) -> View {
        self.shard(info_hash)
            .get(info_hash)
            .and_then(|swarm| swarm.view.as_deref().copied())
            .unwrap_or_default()
    }

    /// What it says now.
    pub(crate) fn set_view(&self, info_hash: &InfoHash, view: View) {
        if let Some(swarm) = self.shard(info_hash).get_mut(info_hash) {
            match &mut swarm.view {
                Some(known) => **known = view,
                None => swarm.view = Some(Box::new(view)),
            }
        }
    }

    /// Takes note of peers of whom the shared store told, as long as few are known here: somebody has to tell
    /// of them when it is away.
    pub(crate) fn hear(&self, now: Time, info_hash: &InfoHash, peers: &[SocketAddr]) {
        let rules = self.rules();
        let enough = rules.config.numwant_default as usize;
        let mut shard = self.shard(info_hash);
        let Some(swarm) = shard.get_mut(info_hash).filter(|swarm| swarm.len() < enough) else { return };
        let (len, before) = (swarm.len(), swarm.standing());
        let room = rules.config.limits.peers_max.saturating_sub(self.peers.load(Ordering::Relaxed));
        for peer in peers.iter().take(room.min(enough - len)) {
            let heard = Announced {
                port: peer.port(),
                id: PeerId([0; 20]),
                seed: false,
                completed: false,
                heard: true,
            };
            match peer.ip() {
                IpAddr::V4(ip) => swarm.restore(seconds(now), ip, &heard, &self.hasher),
                IpAddr::V6(ip) => swarm.restore(seconds(now), ip, &heard, &self.hasher),
            }
        }
        self.count_peers(len, swarm.len());
        self.note_standing(info_hash, Some(before), Some(swarm.standing()));
    }

    /// The shared store has no room for a new swarm of a peer at `source`: what weighs heaviest here gives
    /// way to it.
    pub(crate) fn give_way(&self, info_hash: &InfoHash, source: IpAddr) {
        let first = self.holders().first_to_go(Network::of(source.to_canonical()));
        if let Some(hash) = first.filter(|hash| hash != info_hash) {
            self.displace(&hash);
        }
    }

    /// The peers of swarms that were evicted since the last time.
    pub(crate) fn take_displaced(&self) -> Vec<OfFamily<SocketAddr>> {
        if !self.displaced_peers.is_some.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut noted = self.displaced_peers.peers.lock().unwrap_or_else(PoisonError::into_inner);
        self.displaced_peers.is_some.store(false, Ordering::Relaxed);
        std::mem::take(&mut noted)
    }

    /// All peers that announced here, a part of the swarms after the other.
    pub(crate) fn all_earlier(&self, now: impl Fn() -> Time) -> impl Iterator<Item = Known> {
        (0..SHARDS).flat_map(move |nth| {
            let now_s = seconds(now());
            let shard = lock(&self.shards[nth]);
            let swarms = shard.iter().flat_map(|(&info_hash, swarm)| {
                let told = swarm.view.as_ref().map_or(0, |view| view.downloaded);
                let downloaded = told.max(swarm.downloaded);
                let of_families = [earlier(now_s, &swarm.v4), earlier(now_s, &swarm.v6)];
                of_families.map(|peers| Known { info_hash, peers, downloaded })
            });
            swarms.filter(|known| !known.peers.is_empty()).collect::<Vec<_>>()
        })
    }

    /// How many swarms there may be.
    pub(crate) fn swarms_max(&self) -> usize {
        self.rules().config.limits.swarms_max
    }

    /// How many peers a swarm may have.
    pub(crate) fn peers_per_swarm_max(&self) -> usize {
        self.rules().config.limits.peers_per_swarm_max
    }

    /// Those of these torrents that are served.
    pub(crate) fn served(&self, info_hashes: &[InfoHash]) -> Vec<InfoHash> {
        let rules = self.rules();
        info_hashes.iter().filter(|hash| rules.allow(hash)).copied().collect()
    }

    /// How long a peer is listed after its last announce, for the shared store.
    pub(crate) fn shared_timeout(&self) -> Duration {
        self.peer_timeout().max(Duration::from_secs(1))
    }
}

//! Who is in which swarm. Time and randomness are arguments, so a run can be repeated exactly.
//!
//! Swarms are spread over shards by info-hash, each behind its own lock, so that announces for
//! different torrents do not wait for each other. Info-hashes are hashes and spread by themselves.
//! Lookup tables are keyed at random against crafted collisions; their order decides nothing.
//!
//! Memory is bounded by [`Limits`](crate::Limits): when there is no room, known swarms go on being
//! served and a newcomer still learns of others, but is not listed (and told so by a warning); a
//! torrent that is not known yet is refused. Nobody is evicted, or a flood would drive out those
//! who are there.

mod peers;
mod swarm;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use swarm_core::id::InfoHash;
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};
use swarm_core::tracker::{AnnounceRequest, AnnounceResponse, Event, ScrapeResponse, ScrapeStats};

use self::swarm::{Swarm, Visit};
use crate::allow::AllowList;
use crate::config::Config;

/// Number of shards: enough that a few cores rarely meet, a power of two.
const SHARDS: usize = 64;
/// The interval of a reply is up to this part longer than configured, so that peers that came
/// together do not come back together.
const INTERVAL_JITTER: u32 = 16;

/// Why an announce is not served. The text is what the client's user reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No peer can be connected to at port 0.
    #[error("port 0 is not a port that peers can connect to")]
    PortZero,
    /// The torrent is not on the allow list.
    #[error("this tracker does not serve this torrent")]
    NotAllowed,
    /// There are as many swarms or peers as the limits allow.
    #[error("this tracker is full and takes no new torrents; try again later")]
    Full,
}

/// How much a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Swarms, empty ones that are still remembered included.
    pub swarms: usize,
    /// Peers in all of them that have everything.
    pub seeds: usize,
    /// Peers in all of them that do not.
    pub leechers: usize,
}

type Shard = HashMap<InfoHash, Swarm, RandomState>;

/// The swarms of a tracker.
#[derive(Debug)]
pub struct Store {
    config: Config,
    /// Every torrent is served if there is none.
    allowed: RwLock<Option<AllowList>>,
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    swarms: AtomicUsize,
    peers: AtomicUsize,
}

impl Store {
    /// An empty store. Of `config` it heeds the intervals and the limits.
    pub fn new(config: Config) -> Store {
        let hasher = RandomState::new();
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::with_hasher(hasher.clone()))).collect();
        Store {
            config,
            allowed: RwLock::new(None),
            shards,
            hasher,
            swarms: AtomicUsize::new(0),
            peers: AtomicUsize::new(0),
        }
    }

    /// From now on only these torrents are served, or all again. Swarms of others are dropped.
    pub fn set_allowed(&self, allowed: Option<AllowList>) {
        *self.allowed.write().unwrap_or_else(PoisonError::into_inner) = allowed;
        self.retain(|hash, _| self.allows(hash));
    }

    fn allows(&self, info_hash: &InfoHash) -> bool {
        let allowed = self.allowed.read().unwrap_or_else(PoisonError::into_inner);
        allowed.as_ref().is_none_or(|allowed| allowed.contains(info_hash))
    }

    /// A peer announces from `source`, and hears of others in the same address family: up to the
    /// number it wants, at random, never of itself, and seeds never of seeds once they have started.
    ///
    /// # Errors
    /// When the announce cannot be served; nothing has changed then.
    pub fn announce(
        &self,
        now: Time,
        rng: &mut Rng,
        request: &AnnounceRequest,
        source: IpAddr,
    ) -> Result<AnnounceResponse, Refusal> {
        if request.port == 0 {
            return Err(Refusal::PortZero);
        }
        if !self.allows(&request.info_hash) {
            return Err(Refusal::NotAllowed);
        }
        let source = source.to_canonical();
        let limits = &self.config.limits;
        let numwant = request.numwant.unwrap_or(self.config.numwant_default);
        let want = numwant.min(self.config.numwant_max) as usize;
        let room = self.peers.load(Ordering::Relaxed) < limits.peers_max;

        let mut shard = self.shard(&request.info_hash);
        let swarm = match shard.get_mut(&request.info_hash) {
            Some(swarm) => swarm,
            None if request.event == Some(Event::Stopped) => {
                return Ok(self.response(rng, source, ScrapeStats::default()));
            }
            None if !room || self.swarms.load(Ordering::Relaxed) >= limits.swarms_max => {
                return Err(Refusal::Full);
            }
            None => {
                self.swarms.fetch_add(1, Ordering::Relaxed);
                shard.entry(request.info_hash).or_default()
            }
        };
        let before = swarm.len();
        let room = room && before < limits.peers_per_swarm_max;
        let mut visit = Visit { now_s: seconds(now), rng, want, room, hasher: &self.hasher };
        let joined = swarm.announce(request, source, &mut visit);
        let (after, stats) = (swarm.len(), swarm.stats());
        self.count_peers(before, after);
        drop(shard);

        let mut response = self.response(rng, source, stats);
        response.peers = joined.peers;
        if !joined.listed && request.event != Some(Event::Stopped) {
            response.warning = Some("this tracker is full: other peers do not hear of you from it".into());
        }
        Ok(response)
    }

    /// The sizes of the swarms asked for, without those that are not served; those of an unknown
    /// one are zero.
    pub fn scrape(&self, info_hashes: &[InfoHash]) -> ScrapeResponse {
        let stats = |hash: &InfoHash| self.shard(hash).get(hash).map(Swarm::stats).unwrap_or_default();
        let served = info_hashes.iter().filter(|hash| self.allows(hash));
        ScrapeResponse { files: served.map(|hash| (*hash, stats(hash))).collect() }
    }

    /// Forgets peers that have not announced for the configured time, and swarms in which nothing
    /// has happened for as long. To be called every now and then; takes one shard at a time.
    pub fn expire(&self, now: Time) {
        let before_s = seconds(now - self.config.peer_timeout);
        self.retain(|_, swarm| swarm.expire(before_s, &self.hasher));
    }

    /// Drops the swarms that `keep`, which may change them, does not want.
    fn retain(&self, mut keep: impl FnMut(&InfoHash, &mut Swarm) -> bool) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let swarms = shard.len();
            shard.retain(|hash, swarm| {
                let before = swarm.len();
                let keeps = keep(hash, swarm);
                self.count_peers(before, if keeps { swarm.len() } else { 0 });
                keeps
            });
            self.swarms.fetch_sub(swarms - shard.len(), Ordering::Relaxed);
            if shard.capacity() > 4 * shard.len() {
                shard.shrink_to_fit();
            }
        }
    }

    /// Counts what is there; takes time in proportion to the number of swarms.
    pub fn stats(&self) -> StoreStats {
        let mut stats = StoreStats::default();
        for shard in &self.shards {
            let shard = lock(shard);
            stats.swarms += shard.len();
            for swarm in shard.values().map(Swarm::stats) {
                stats.seeds += swarm.complete as usize;
                stats.leechers += swarm.incomplete as usize;
            }
        }
        stats
    }

    fn response(&self, rng: &mut Rng, source: IpAddr, stats: ScrapeStats) -> AnnounceResponse {
        let interval_s = self.config.interval.as_secs();
        let jitter_s = rng.below(interval_s / u64::from(INTERVAL_JITTER) + 1);
        AnnounceResponse {
            interval: Duration::from_secs(interval_s + jitter_s),
            min_interval: Some(self.config.min_interval),
            tracker_id: self.config.tracker_id.as_ref().map(|id| id.clone().into_bytes()),
            complete: Some(stats.complete),
            incomplete: Some(stats.incomplete),
            downloaded: Some(stats.downloaded),
            external_ip: Some(source),
            warning: None,
            peers: Vec::new(),
        }
    }

    fn shard(&self, info_hash: &InfoHash) -> MutexGuard<'_, Shard> {
        lock(&self.shards[usize::from(info_hash.0[0]) % SHARDS])
    }

    fn count_peers(&self, before: usize, after: usize) {
        // Wraps around for a difference below zero, and back again in the sum.
        self.peers.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }

    #[cfg(test)]
    fn check_invariants(&self) {
        let stats = self.stats();
        assert_eq!(self.peers.load(Ordering::Relaxed), stats.seeds + stats.leechers);
        assert_eq!(self.swarms.load(Ordering::Relaxed), stats.swarms);
        for shard in &self.shards {
            lock(shard).values().for_each(|swarm| swarm.check_invariants(&self.hasher));
        }
    }
}

/// A shard is never left half changed, so a panic elsewhere under its lock spoils nothing.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whole seconds are fine enough for expiry, and 32 bits of them last for 136 years.
fn seconds(now: Time) -> u32 {
    u32::try_from(now.as_micros() / 1_000_000).unwrap_or(u32::MAX)
}

//! Who is in which swarm. Time and randomness are arguments, so a run can be repeated exactly.
//!
//! Swarms are spread over shards by info-hash, each behind its own lock, so that announces for
//! different torrents do not wait for each other. Info-hashes are hashes and spread by themselves.
//! Lookup tables are keyed at random against crafted collisions; their order decides nothing.
//!
//! Memory is bounded by [`Limits`]. When there is no room, a swarm of few networks is evicted, one of whoever
//! has most (`holders`), so that who makes up torrents drives out only their own. If all swarms are shared by
//! many, a torrent that is not known yet is refused, and a newcomer to one that is known learns of others but
//! is not listed (and told so by a warning).

mod holders;
mod peers;
mod saved;
mod shared;
mod swarm;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use swarm_core::id::InfoHash;
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};
use swarm_core::tracker::{AnnounceRequest, AnnounceResponse, Event, ScrapeResponse, ScrapeStats};

use self::holders::{Holders, Network, Standing};
pub use self::saved::{LoadError, Loaded};
use self::shared::Displaced;
pub(crate) use self::shared::{Known, Visited};
use self::swarm::{Swarm, Visit};
use crate::allow::AllowList;
use crate::config::{Config, Limits};

/// Number of shards: enough that a few cores rarely meet, a power of two.
const SHARDS: usize = 64;
/// The interval of a reply is up to this part longer than configured, so that peers that came
/// together do not come back together.
const INTERVAL_JITTER: u32 = 16;
/// How many swarms may be evicted for one announce: what is evicted may have no peers, where one lacks a place
/// for a peer.
const EVICTED_MAX: usize = 4;
/// What the store's clock shows in seconds at [`Time::ZERO`], so that what was saved before may be older.
const EPOCH_S: u32 = 1 << 30;

/// The warning for whoever is told of others but not listed.
const FULL: &str = "this tracker is full: other peers do not hear of you from it";

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
    rules: RwLock<Rules>,
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    swarms: AtomicUsize,
    peers: AtomicUsize,
    /// Locked after a shard, never before.
    holders: Mutex<Holders>,
    /// How many swarms have given way.
    displaced: AtomicU64,
    /// Until then peers are asked to come again soon.
    learns_until_s: AtomicU32,
    /// What is to be taken out of a store that others share, if there is one.
    displaced_peers: Displaced,
}

/// What may change while a store is in use.
#[derive(Debug)]
struct Rules {
    config: Config,
    /// Every torrent is served if there is none.
    allowed: Option<AllowList>,
}

impl Rules {
    fn allow(&self, info_hash: &InfoHash) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| allowed.contains(info_hash))
    }
}

impl Store {
    /// An empty store. Of `config` it heeds the intervals and the limits.
    pub fn new(config: Config) -> Store {
        let hasher = RandomState::new();
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::with_hasher(hasher.clone()))).collect();
        Store {
            rules: RwLock::new(Rules { config, allowed: None }),
            shards,
            hasher,
            swarms: AtomicUsize::new(0),
            peers: AtomicUsize::new(0),
            holders: Mutex::default(),
            displaced: AtomicU64::new(0),
            learns_until_s: AtomicU32::new(0),
            displaced_peers: Displaced::default(),
        }
    }

    /// From now on only these torrents are served, or all again. Swarms of others are dropped.
    pub fn set_allowed(&self, allowed: Option<AllowList>) {
        self.rules.write().unwrap_or_else(PoisonError::into_inner).allowed = allowed;
        let rules = self.rules();
        self.retain(|hash, _| rules.allow(hash));
    }

    /// From now on it heeds these intervals and limits. What is there already may stay.
    pub fn set_config(&self, config: Config) {
        self.rules.write().unwrap_or_else(PoisonError::into_inner).config = config;
    }

    /// Peers that knew this tracker before come back within an interval. Until then replies about swarms with
    /// fewer peers than a reply has ask to come again after the minimum interval, so that who came first soon
    /// hears of the others.
    pub fn learn(&self, now: Time) {
        let interval = self.rules().config.interval;
        let until_s = seconds(now + interval + interval / INTERVAL_JITTER);
        self.learns_until_s.store(until_s, Ordering::Relaxed);
    }

    fn rules(&self) -> RwLockReadGuard<'_, Rules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner)
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
        self.visit(now, rng, request, source, None).map(|visited| visited.response)
    }

    /// The same, with `tells` other peers at most if that is said, and what else happened.
    fn visit(
        &self,
        now: Time,
        rng: &mut Rng,
        request: &AnnounceRequest,
        source: IpAddr,
        tells: Option<usize>,
    ) -> Result<Visited, Refusal> {
        if request.port == 0 {
            return Err(Refusal::PortZero);
        }
        let rules = self.rules();
        if !rules.allow(&request.info_hash) {
            return Err(Refusal::NotAllowed);
        }
        let (source, now_s) = (source.to_canonical(), seconds(now));
        let (config, limits) = (&rules.config, &rules.config.limits);
        let numwant = request.numwant.unwrap_or(config.numwant_default);
        let want = numwant.min(config.numwant_max) as usize;
        let tells = tells.unwrap_or(want).min(want);
        let stops = request.event == Some(Event::Stopped);
        // Others may take what was made room for meanwhile; they are no more than there are threads.
        let made_room = self.is_full(limits) && !stops && self.make_room(limits, request, source);
        let room = made_room || self.peers.load(Ordering::Relaxed) < limits.peers_max;

        let mut shard = self.shard(&request.info_hash);
        let mut before = None;
        let swarm = match shard.get_mut(&request.info_hash) {
            Some(swarm) => {
                before = Some(swarm.standing());
                swarm
            }
            None if stops => {
                let response = self.response(config, now_s, rng, source, ScrapeStats::default());
                return Ok(Visited { response, want, listed: false, newly_completed: false });
            }
            None if !made_room && self.is_full(limits) => return Err(Refusal::Full),
            None => {
                self.swarms.fetch_add(1, Ordering::Relaxed);
                shard.entry(request.info_hash).or_default()
            }
        };
        let len = swarm.len();
        let room = room && len < limits.peers_per_swarm_max;
        let mut visit = Visit { now_s, rng, want: tells, room, hasher: &self.hasher };
        let joined = swarm.announce(request, source, &mut visit);
        let stats = swarm.stats();
        self.count_peers(len, swarm.len());
        self.note_standing(&request.info_hash, before, Some(swarm.standing()));
        drop(shard);

        let mut response = self.response(config, now_s, rng, source, stats);
        response.peers = joined.peers;
        if !joined.listed && !stops {
            response.warning = Some(FULL.into());
        }
        Ok(Visited { response, want, listed: joined.listed, newly_completed: joined.newly_completed })
    }

    fn is_full(&self, limits: &Limits) -> bool {
        self.peers.load(Ordering::Relaxed) >= limits.peers_max
            || self.swarms.load(Ordering::Relaxed) >= limits.swarms_max
    }

    /// Makes room for what an announce adds, if it adds something and another swarm is evicted. Whether there
    /// is room.
    #[cold]
    fn make_room(&self, limits: &Limits, request: &AnnounceRequest, source: IpAddr) -> bool {
        let (is_new_swarm, is_new_peer) = match self.shard(&request.info_hash).get(&request.info_hash) {
            None => (true, true),
            Some(swarm) => {
                let listed = swarm.lists(source, request.port, &self.hasher);
                (false, !listed && swarm.len() < limits.peers_per_swarm_max)
            }
        };
        for _ in 0..EVICTED_MAX {
            let no_peer_fits = self.peers.load(Ordering::Relaxed) >= limits.peers_max;
            let no_swarm_fits = self.swarms.load(Ordering::Relaxed) >= limits.swarms_max;
            if !(is_new_peer && no_peer_fits || is_new_swarm && no_swarm_fits) {
                return true;
            }
            // Locked no longer than this, for what is evicted locks its shard first.
            let first = self.holders().first_to_go(Network::of(source));
            match first {
                Some(hash) if hash != request.info_hash => self.displace(&hash),
                _ => return false,
            }
        }
        !self.is_full(limits)
    }

    /// Drops a swarm, unless others have come to share it meanwhile.
    fn displace(&self, info_hash: &InfoHash) {
        let mut shard = self.shard(info_hash);
        if let Some(swarm) = shard.get(info_hash)
            && swarm.standing().load().is_some()
        {
            self.note_gone(info_hash, swarm);
            self.displaced_peers.note(info_hash, swarm);
            shard.remove(info_hash);
            self.displaced.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A swarm is about to be dropped.
    fn note_gone(&self, info_hash: &InfoHash, swarm: &Swarm) {
        self.count_peers(swarm.len(), 0);
        self.swarms.fetch_sub(1, Ordering::Relaxed);
        self.note_standing(info_hash, Some(swarm.standing()), None);
    }

    fn note_standing(&self, info_hash: &InfoHash, before: Option<Standing>, after: Option<Standing>) {
        if before == after {
            return;
        }
        let [before, after] = [before, after].map(|standing| standing.and_then(|standing| standing.load()));
        if before != after {
            self.holders().change(*info_hash, before, after);
        }
    }

    fn holders(&self) -> MutexGuard<'_, Holders> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sizes of the swarms asked for, without those that are not served; those of an unknown
    /// one are zero.
    pub fn scrape(&self, info_hashes: &[InfoHash]) -> ScrapeResponse {
        let stats = |hash: &InfoHash| self.shard(hash).get(hash).map(Swarm::stats).unwrap_or_default();
        let rules = self.rules();
        let served = info_hashes.iter().filter(|hash| rules.allow(hash));
        ScrapeResponse { files: served.map(|hash| (*hash, stats(hash))).collect() }
    }

    /// Forgets peers that have not announced for the configured time, and swarms in which nothing
    /// has happened for as long. To be called every now and then; takes one shard at a time.
    pub fn expire(&self, now: Time) {
        let before_s = seen_since_s(now, self.rules().config.peer_timeout);
        self.retain(|_, swarm| swarm.expire(before_s, &self.hasher));
    }

    /// Drops the swarms that `keep`, which may change them, does not want.
    fn retain(&self, mut keep: impl FnMut(&InfoHash, &mut Swarm) -> bool) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.retain(|hash, swarm| {
                let (len, before) = (swarm.len(), swarm.standing());
                let keeps = keep(hash, swarm);
                self.count_peers(len, swarm.len());
                self.note_standing(hash, Some(before), Some(swarm.standing()));
                if !keeps {
                    self.note_gone(hash, swarm);
                }
                keeps
            });
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

    /// How many swarms were evicted to make room.
    pub fn displaced(&self) -> u64 {
        self.displaced.load(Ordering::Relaxed)
    }

    /// How long a peer is listed after its last announce.
    pub(crate) fn peer_timeout(&self) -> Duration {
        self.rules().config.peer_timeout
    }

    /// How many peers an announce that does not say gets.
    pub(crate) fn numwant_default(&self) -> u32 {
        self.rules().config.numwant_default
    }

    fn response(
        &self,
        config: &Config,
        now_s: u32,
        rng: &mut Rng,
        source: IpAddr,
        stats: ScrapeStats,
    ) -> AnnounceResponse {
        let is_small = stats.complete.saturating_add(stats.incomplete) < config.numwant_default;
        let learns = is_small && now_s < self.learns_until_s.load(Ordering::Relaxed);
        let interval_s = if learns { config.min_interval } else { config.interval }.as_secs();
        let jitter_s = rng.below(interval_s / u64::from(INTERVAL_JITTER) + 1);
        AnnounceResponse {
            interval: Duration::from_secs(interval_s + jitter_s),
            min_interval: Some(config.min_interval),
            tracker_id: config.tracker_id.as_ref().map(|id| id.clone().into_bytes()),
            complete: Some(stats.complete),
            incomplete: Some(stats.incomplete),
            downloaded: Some(stats.downloaded),
            external_ip: Some(source),
            warning: None,
            peers: Vec::new(),
            oddities: Default::default(),
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
        let mut standings = Vec::new();
        for shard in &self.shards {
            for (hash, swarm) in &*lock(shard) {
                swarm.check_invariants(&self.hasher);
                standings.push((*hash, swarm.standing()));
            }
        }
        self.holders().check_invariants(standings.into_iter());
    }
}

/// A shard is never left half changed, so a panic elsewhere under its lock spoils nothing.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whole seconds are fine enough for expiry, and 32 bits of them last for a century.
fn seconds(now: Time) -> u32 {
    u32::try_from(now.as_micros() / 1_000_000).unwrap_or(u32::MAX).saturating_add(EPOCH_S)
}

/// When a peer must have announced to be listed still.
fn seen_since_s(now: Time, timeout: Duration) -> u32 {
    seconds(now).saturating_sub(u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX))
}

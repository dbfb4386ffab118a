//! How often one address may ask.
//!
//! The generic cell rate algorithm: for each address only the time at which its allowance will be
//! full again. An address whose time has come is as good as unknown and forgotten.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use swarm_core::time::{Duration, Time};

/// Number of locks that addresses are spread over.
const SHARDS: usize = 16;
/// Most addresses remembered for each lock. Further ones are not limited: a limit for each address
/// is no help against a flood from a million of them, and refusing the rest would serve it.
const ADDRESSES_MAX: usize = 1 << 16;

/// Limits requests by the address they come from: an IPv4 address or an IPv6 network of 64 bits.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    /// Zero is no limit.
    per_minute: AtomicU32,
    /// For each lock.
    addresses_max: usize,
    hasher: RandomState,
    full_at: [Mutex<HashMap<u64, Time>>; SHARDS],
}

impl RateLimiter {
    /// Up to `per_minute` at a time, and as many each minute; `None` is no limit.
    pub fn new(per_minute: Option<u32>) -> RateLimiter {
        RateLimiter {
            per_minute: AtomicU32::new(per_minute.unwrap_or(0)),
            addresses_max: ADDRESSES_MAX,
            hasher: RandomState::new(),
            full_at: Default::default(),
        }
    }

    /// From now on it is this limit.
    pub fn set(&self, per_minute: Option<u32>) {
        self.per_minute.store(per_minute.unwrap_or(0), Ordering::Relaxed);
    }

    /// Whether a request that comes now is to be served; counts it if so.
    pub fn allows(&self, now: Time, source: IpAddr) -> bool {
        let per_minute = self.per_minute.load(Ordering::Relaxed);
        if per_minute == 0 {
            return true;
        }
        // The allowance for one request grows back in this time.
        let period = Duration::from_secs(60) / per_minute;
        let network = network(source);
        let mut shard = lock(&self.full_at[self.hasher.hash_one(network) as usize % SHARDS]);
        let full_at = shard.get(&network).copied().unwrap_or(now).max(now) + period;
        if full_at > now + period * per_minute {
            return false;
        }
        if shard.len() < self.addresses_max || shard.contains_key(&network) {
            shard.insert(network, full_at);
        }
        true
    }

    /// Forgets whoever has the whole allowance. To be called every now and then.
    pub fn expire(&self, now: Time) {
        for shard in &self.full_at {
            let mut shard = lock(shard);
            shard.retain(|_, full_at| *full_at > now);
            if shard.capacity() > 4 * shard.len() {
                shard.shrink_to_fit();
            }
        }
    }
}

fn lock(shard: &Mutex<HashMap<u64, Time>>) -> std::sync::MutexGuard<'_, HashMap<u64, Time>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first 64 bits of an IPv6 address; an IPv4 address after 32 set bits, where IPv6 has
/// multicast addresses and so no source.
fn network(source: IpAddr) -> u64 {
    match source.to_canonical() {
        IpAddr::V4(ip) => u64::MAX << 32 | u64::from(ip.to_bits()),
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn allowed(limiter: &RateLimiter, now: Time, source: &str) -> usize {
        let source = source.parse().unwrap();
        (0..1000).take_while(|_| limiter.allows(now, source)).count()
    }

    #[test]
    fn a_minutes_worth_at_once_then_at_the_rate() {
        let limiter = RateLimiter::new(Some(6));
        assert_eq!(allowed(&limiter, at(100), "1.2.3.4"), 6);
        assert_eq!(allowed(&limiter, at(109), "1.2.3.4"), 0);
        assert_eq!(allowed(&limiter, at(110), "1.2.3.4"), 1);
        assert_eq!(allowed(&limiter, at(140), "1.2.3.4"), 3);
        assert_eq!(allowed(&limiter, at(1000), "1.2.3.4"), 6, "it does not pile up");
    }

    #[test]
    fn addresses_do_not_share_but_ipv6_networks_do() {
        let limiter = RateLimiter::new(Some(3));
        assert_eq!(allowed(&limiter, at(0), "1.2.3.4"), 3);
        assert_eq!(allowed(&limiter, at(0), "1.2.3.5"), 3);
        assert_eq!(allowed(&limiter, at(0), "::ffff:1.2.3.4"), 0, "a mapped address is IPv4");
        assert_eq!(allowed(&limiter, at(0), "2001:db8::1"), 3);
        assert_eq!(allowed(&limiter, at(0), "2001:db8::ffff:2"), 0);
        assert_eq!(allowed(&limiter, at(0), "2001:db8:0:1::1"), 3);
    }

    #[test]
    fn only_who_has_recovered_is_forgotten() {
        let limiter = RateLimiter::new(Some(60));
        assert_eq!(allowed(&limiter, at(0), "1.2.3.4"), 60);
        assert!(limiter.allows(at(0), "1.2.3.5".parse().unwrap()));
        limiter.expire(at(30));
        let remembered = || limiter.full_at.iter().map(|shard| lock(shard).len()).sum::<usize>();
        assert_eq!(remembered(), 1);
        assert_eq!(allowed(&limiter, at(30), "1.2.3.4"), 30);
        limiter.expire(at(90));
        assert_eq!(remembered(), 0);
    }

    #[test]
    fn the_limit_may_change() {
        let limiter = RateLimiter::new(None);
        assert_eq!(allowed(&limiter, at(0), "1.2.3.4"), 1000);
        limiter.set(Some(3));
        assert_eq!(allowed(&limiter, at(0), "1.2.3.4"), 3);
        limiter.set(None);
        assert_eq!(allowed(&limiter, at(0), "1.2.3.4"), 1000);
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = RateLimiter { addresses_max: 10, ..RateLimiter::new(Some(1)) };
        for n in 0..1000_u32 {
            assert!(limiter.allows(at(0), IpAddr::V4(n.into())));
        }
        assert!(limiter.full_at.iter().all(|shard| lock(shard).len() == 10));
    }
}

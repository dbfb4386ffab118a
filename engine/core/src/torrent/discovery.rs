//! Whom to dial: addresses learned from trackers, users and peers, and what became of each.
//!
//! Addresses from the network are claims by strangers. They are checked, bounded
//! in number, tried a few at a time, and left alone for longer after each failure.

use crate::net::{Host, is_contactable};
use crate::rng::Rng;
use crate::time::{Duration, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// How many addresses are remembered.
pub const ADDRESSES_MAX: usize = 2_000;
/// How long an address rests after its first failure; doubled for each further one.
pub const RETRY_FIRST: Duration = Duration::from_secs(2);
/// The longest rest.
pub const RETRY_MAX: Duration = Duration::from_secs(600);
/// How many failures in a row until an address is forgotten.
pub const FAILURES_MAX: u32 = 9;
/// How long a ban lasts.
pub const BAN_TIME: Duration = Duration::from_secs(3_600);
/// How many bans are kept.
pub const BANS_MAX: usize = 4_096;

/// Who told us of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The user: anything that can be dialled is.
    User,
    /// Someone on the network, who may name loopback addresses only if it is on this machine itself.
    Network {
        /// Whether the teller has a loopback address.
        from_loopback: bool,
    },
}

/// Whether such an address may be dialled.
pub fn is_dialable(addr: SocketAddr, origin: Origin) -> bool {
    is_contactable(addr, !matches!(origin, Origin::Network { from_loopback: false }))
}

#[derive(Debug, Default)]
struct Candidate {
    /// Whether the user named it: such an address is never given up.
    by_user: bool,
    failures: u32,
    retry_at: Time,
}

/// The addresses of one torrent.
#[derive(Debug)]
pub struct Discovery {
    rng: Rng,
    idle: BTreeMap<SocketAddr, Candidate>,
    dialing: BTreeMap<SocketAddr, Candidate>,
    /// In use by a connection that we dialled, or that told us where it listens.
    connected: BTreeMap<SocketAddr, Candidate>,
    /// Our own addresses, as dialling them showed.
    own: BTreeSet<SocketAddr>,
    bans: BTreeMap<Host, Time>,
}

impl Discovery {
    /// Nothing known yet.
    pub fn new(rng: Rng) -> Discovery {
        Discovery {
            rng,
            idle: BTreeMap::new(),
            dialing: BTreeMap::new(),
            connected: BTreeMap::new(),
            own: BTreeSet::new(),
            bans: BTreeMap::new(),
        }
    }

    /// Takes up an address, unless it may not be dialled, is known, or there are too many.
    pub fn add(&mut self, addr: SocketAddr, origin: Origin) {
        let known = self.idle.contains_key(&addr)
            || self.dialing.contains_key(&addr)
            || self.connected.contains_key(&addr)
            || self.own.contains(&addr);
        if known || !is_dialable(addr, origin) || self.is_banned(addr) {
            return;
        }
        if self.idle.len() >= ADDRESSES_MAX {
            if origin != Origin::User {
                return;
            }
            self.idle.pop_first();
        }
        self.idle.insert(addr, Candidate { by_user: origin == Origin::User, ..Candidate::default() });
    }

    /// The next address to dial, chosen at random among those that may be tried now.
    pub fn next(&mut self, now: Time) -> Option<SocketAddr> {
        let ready = |c: &Candidate| c.retry_at <= now;
        let count = self.idle.values().filter(|c| ready(c)).count();
        if count == 0 {
            return None;
        }
        let nth = self.rng.index(count);
        let addr = *self.idle.iter().filter(|(_, c)| ready(c)).nth(nth)?.0;
        let candidate = self.idle.remove(&addr)?;
        self.dialing.insert(addr, candidate);
        Some(addr)
    }

    /// How many addresses are being dialled.
    pub fn half_open(&self) -> usize {
        self.dialing.len()
    }

    /// How many addresses could be dialled, now or later.
    pub fn idle_count(&self) -> usize {
        self.idle.len()
    }

    /// Whether time alone will bring something to do.
    pub fn is_waiting(&self) -> bool {
        !self.idle.is_empty() || !self.dialing.is_empty()
    }

    /// The address could not be reached, or the connection to it ended early.
    pub fn failed(&mut self, now: Time, addr: SocketAddr) {
        if let Some(candidate) = self.dialing.remove(&addr) {
            self.rest(now, addr, candidate);
        }
    }

    /// We could not dial, for reasons of our own.
    pub fn not_dialled(&mut self, now: Time, addr: SocketAddr) {
        if let Some(mut candidate) = self.dialing.remove(&addr) {
            candidate.retry_at = now + RETRY_FIRST;
            self.idle.insert(addr, candidate);
        }
    }

    /// A connection to this address stands.
    pub fn connected(&mut self, addr: SocketAddr) {
        let candidate = self.dialing.remove(&addr).or_else(|| self.idle.remove(&addr));
        self.connected.entry(addr).or_insert(candidate.unwrap_or_default());
    }

    /// Leaves an address alone for a time that grows with its failures, or for ever.
    fn rest(&mut self, now: Time, addr: SocketAddr, mut candidate: Candidate) {
        candidate.failures = (candidate.failures + 1).min(FAILURES_MAX);
        if self.is_banned(addr) || (candidate.failures == FAILURES_MAX && !candidate.by_user) {
            return;
        }
        let rest = RETRY_FIRST * 2u32.pow(candidate.failures - 1);
        candidate.retry_at = now + rest.min(RETRY_MAX);
        self.idle.insert(addr, candidate);
    }

    /// The connection to this address has ended. It is tried again after a rest, which is short if the
    /// connection was good for anything.
    pub fn disconnected(&mut self, now: Time, addr: SocketAddr, again: bool, was_good: bool) {
        let Some(mut candidate) = self.connected.remove(&addr).filter(|_| again) else { return };
        if was_good {
            candidate.failures = 0;
        }
        self.rest(now, addr, candidate);
    }

    /// The address turned out to be our own.
    pub fn is_own(&mut self, addr: SocketAddr) {
        self.dialing.remove(&addr);
        self.idle.remove(&addr);
        if self.own.len() < ADDRESSES_MAX {
            self.own.insert(addr);
        }
    }

    /// Nobody at this address is dialled or accepted until the ban ends.
    pub fn ban(&mut self, now: Time, addr: SocketAddr) {
        self.bans.retain(|_, until| *until > now);
        if self.bans.len() < BANS_MAX {
            self.bans.insert(Host::of(addr), now + BAN_TIME);
        }
        let key = Host::of(addr);
        self.idle.retain(|a, _| Host::of(*a) != key);
    }

    /// Ends the bans whose time is up.
    pub fn expire_bans(&mut self, now: Time) {
        self.bans.retain(|_, until| *until > now);
    }

    /// Whether the address is banned.
    pub fn is_banned(&self, addr: SocketAddr) -> bool {
        self.bans.contains_key(&Host::of(addr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_from_the_network_are_checked() {
        let stranger = Origin::Network { from_loopback: false };
        for bad in
            ["1.2.3.4:0", "0.0.0.0:80", "224.0.0.1:80", "127.0.0.1:80", "[::1]:80", "[ff02::1]:80", "[::]:1"]
        {
            assert!(!is_dialable(addr(bad), stranger), "{bad}");
        }
        assert!(!is_dialable(addr("255.255.255.255:80"), Origin::User));
        assert!(!is_dialable(addr("[::ffff:127.0.0.1]:80"), stranger));
        assert!(is_dialable(addr("127.0.0.1:80"), Origin::Network { from_loopback: true }));
        assert!(is_dialable(addr("[2001:db8::1]:80"), stranger));
    }

    #[test]
    fn failures_rest_longer_each_time_and_end() {
        let mut d = Discovery::new(Rng::new(1));
        let a = addr("10.0.0.1:1");
        d.add(a, Origin::Network { from_loopback: false });
        let (mut now, mut rests) = (Time::ZERO, Vec::new());
        while d.is_waiting() {
            let before = now;
            while d.next(now).is_none() {
                now += Duration::from_secs(1);
            }
            rests.push(now.since(before).as_secs());
            d.failed(now, a);
        }
        assert_eq!(rests, [0, 2, 4, 8, 16, 32, 64, 128, 256]);
    }

    #[test]
    fn bans_cover_what_they_should_and_expire() {
        let mut d = Discovery::new(Rng::new(1));
        d.ban(Time::ZERO, addr("10.0.0.1:1"));
        d.ban(Time::ZERO, addr("[2001:db8::1]:1"));
        d.ban(Time::ZERO, addr("127.0.0.1:1"));
        assert!(d.is_banned(addr("10.0.0.1:2")));
        assert!(d.is_banned(addr("[2001:db8::ffff]:9")));
        assert!(!d.is_banned(addr("[2001:db8:0:1::1]:1")));
        assert!(d.is_banned(addr("127.0.0.1:1")));
        assert!(!d.is_banned(addr("127.0.0.1:2")));
        d.expire_bans(Time::ZERO + BAN_TIME);
        assert!(!d.is_banned(addr("10.0.0.1:1")));
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        let mut d = Discovery::new(Rng::new(1));
        for i in 0..ADDRESSES_MAX as u32 + 500 {
            let ip = std::net::Ipv4Addr::from(0x0a00_0000 + i);
            d.add(SocketAddr::from((ip, 1)), Origin::Network { from_loopback: false });
        }
        assert_eq!(d.idle_count(), ADDRESSES_MAX);
    }
}

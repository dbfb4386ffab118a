//! Whom to dial: addresses learned from trackers, users and peers, and what became of each.
//!
//! Addresses from the network are claims by strangers. They are checked, bounded
//! in number, tried a few at a time, and left alone for longer after each failure.

use crate::net::{Family, Host, is_contactable, peer_priority};
use crate::rng::Rng;
use crate::time::{Duration, Time};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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
    /// Where peers see us, by [`Family`], if addresses have an order (BEP 40).
    seen_at: Option<[SocketAddr; 2]>,
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
            seen_at: None,
            bans: BTreeMap::new(),
        }
    }

    /// From now on addresses have an order: that of BEP 40 for somebody who listens on `port`. Until it is known where
    /// others see us, it is that of a random address, which nobody can foresee either.
    pub fn rank(&mut self, port: u16) {
        let (v4, v6) = (self.rng.next_u64() as u32, u128::from(self.rng.next_u64()) << 64);
        let ips: [IpAddr; 2] = [Ipv4Addr::from(v4).into(), Ipv6Addr::from(v6).into()];
        self.seen_at = Some(ips.map(|ip| SocketAddr::new(ip, port)));
    }

    /// This is where others see us.
    pub fn set_own_ip(&mut self, ip: IpAddr) {
        if let Some(seen_at) = &mut self.seen_at {
            seen_at[Family::of_ip(ip) as usize].set_ip(ip);
        }
    }

    /// How much an address is preferred to others, if they have an order.
    pub fn priority(&self, addr: SocketAddr) -> Option<u32> {
        Some(peer_priority(self.seen_at?[Family::of(addr) as usize], addr))
    }

    /// Whether the user named the address of this connection.
    pub fn is_by_user(&self, addr: SocketAddr) -> bool {
        self.connected.get(&addr).is_some_and(|candidate| candidate.by_user)
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

    /// The next address to dial of those that may be tried now: in their order, those of the user before all others and
    /// those that failed after them; at random, if they have none.
    pub fn next(&mut self, now: Time) -> Option<SocketAddr> {
        let ready = || self.idle.iter().filter(|(_, c)| c.retry_at <= now);
        let first = if self.seen_at.is_some() {
            ready().max_by_key(|(addr, c)| (c.by_user, Reverse(c.failures), self.priority(**addr)))
        } else {
            let count = ready().count();
            if count == 0 {
                return None;
            }
            let nth = self.rng.index(count);
            ready().nth(nth)
        };
        let addr = *first?.0;
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
    fn addresses_are_dialled_in_their_order_the_users_first_and_the_failed_last() {
        let mut d = Discovery::new(Rng::new(1));
        d.rank(6881);
        d.set_own_ip("123.213.32.10".parse().unwrap());
        d.set_own_ip("2001:db8::1".parse().unwrap());
        let (stranger, mut now) = (Origin::Network { from_loopback: false }, Time::ZERO);
        for n in 1..=20 {
            d.add(SocketAddr::from(([10, n, 0, 1], 1)), stranger);
            d.add(SocketAddr::from(([0x2001, 0xdb8, n.into(), 0, 0, 0, 0, 1], 1)), stranger);
        }
        d.add(addr("10.99.0.1:1"), Origin::User);
        let by_user = d.next(now);
        assert_eq!(by_user, Some(addr("10.99.0.1:1")));
        let dialled: Vec<SocketAddr> = std::iter::from_fn(|| d.next(now)).collect();
        assert_eq!(dialled.len(), 40);
        let priority = |addr: &SocketAddr| d.priority(*addr);
        assert!(dialled.is_sorted_by(|a, b| priority(a) > priority(b)), "{dialled:?}");
        // The first ones fail, and now rank below one that is new.
        now += Duration::from_secs(1);
        dialled.iter().take(10).for_each(|addr| d.failed(now, *addr));
        let newest = *dialled.last().unwrap();
        d.not_dialled(now, newest);
        now += RETRY_FIRST;
        assert_eq!(d.next(now), Some(newest));
        assert_eq!(d.next(now), Some(dialled[0]));
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

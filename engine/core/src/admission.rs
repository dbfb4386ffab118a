//! Who has a place when there are not enough for all: connections that have not shaken hands yet, and those that have.
//!
//! Nobody has a share while there is room, so that a campus, a carrier's NAT or a whole swarm on one machine gets all that
//! it can use. When there is none, somebody is evicted, and strangers cannot choose whom: what one address or one
//! network holds many of goes before what others hold one of, and who gives or takes something before nobody.

use crate::time::Time;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// When places are short, an address that has more than this part of them gives some to others.
pub const ADDRESS_SHARE: usize = 8;
/// The same for a network ([`Network`]).
pub const NETWORK_SHARE: usize = 4;

/// A network that one party often has all of: 24 bits of IPv4, 64 bits of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network(Ipv6Addr);

impl Network {
    /// The one that an address belongs to.
    pub fn of(ip: IpAddr) -> Network {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Network(Ipv6Addr::from_bits(ip.to_ipv6_mapped().to_bits() >> 8 << 8)),
            IpAddr::V6(ip) => Network(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        }
    }
}

/// How many places each address and each network has.
#[derive(Clone, Debug, Default)]
struct Crowds {
    addresses: BTreeMap<(Network, IpAddr), usize>,
    networks: BTreeMap<Network, usize>,
}

impl Crowds {
    fn add(&mut self, ip: IpAddr) {
        let ip = ip.to_canonical();
        *self.addresses.entry((Network::of(ip), ip)).or_default() += 1;
        *self.networks.entry(Network::of(ip)).or_default() += 1;
    }

    fn remove(&mut self, ip: IpAddr) {
        let ip = ip.to_canonical();
        take_one(&mut self.addresses, (Network::of(ip), ip));
        take_one(&mut self.networks, Network::of(ip));
    }

    fn at_address(&self, ip: IpAddr) -> usize {
        let ip = ip.to_canonical();
        self.addresses.get(&(Network::of(ip), ip)).copied().unwrap_or(0)
    }

    fn in_network(&self, ip: IpAddr) -> usize {
        self.networks.get(&Network::of(ip)).copied().unwrap_or(0)
    }
}

fn take_one<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

/// The connections that were accepted and have not shaken hands, up to a number. Nobody is turned away for want of room:
/// the oldest of the address that has most of them, in the network that has most, is evicted.
#[derive(Clone, Debug)]
pub struct Unfinished {
    max: usize,
    next: u64,
    /// By number, which is also by age.
    here: BTreeMap<u64, IpAddr>,
    crowds: Crowds,
}

impl Unfinished {
    /// Nobody yet, and never more than `max`.
    ///
    /// # Panics
    /// If `max` is zero.
    pub fn new(max: usize) -> Unfinished {
        assert!(max > 0, "room for nobody");
        Unfinished { max, next: 0, here: BTreeMap::new(), crowds: Crowds::default() }
    }

    /// Somebody has connected: its number, and that of whoever is to be closed for it.
    pub fn arrive(&mut self, ip: IpAddr) -> (u64, Option<u64>) {
        let gone = if self.here.len() < self.max { None } else { self.evict() };
        self.next += 1;
        self.here.insert(self.next, ip.to_canonical());
        self.crowds.add(ip);
        (self.next, gone)
    }

    /// Somebody has shaken hands, or is gone.
    pub fn leave(&mut self, number: u64) {
        if let Some(ip) = self.here.remove(&number) {
            self.crowds.remove(ip);
        }
    }

    /// Takes out the one that goes first.
    pub fn evict(&mut self) -> Option<u64> {
        let most = self.crowds.networks.values().copied().max()?;
        let mut first: Option<(usize, u64)> = None;
        for (&number, &ip) in self.here.iter().filter(|(_, ip)| self.crowds.in_network(**ip) == most) {
            let crowd = self.crowds.at_address(ip);
            if first.is_none_or(|(largest, _)| crowd > largest) {
                first = Some((crowd, number));
            }
            if crowd == most {
                break;
            }
        }
        let (_, number) = first?;
        self.leave(number);
        Some(number)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.here.len()
    }
}

/// What a connection is good for, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It gives nothing and takes nothing.
    Useless,
    /// It is too young to have shown what it is good for.
    New,
    /// It waits for its turn, or we for ours.
    Waiting,
    /// We send to it.
    Takes,
    /// It sends to us, or the user named it.
    Gives,
}

/// A connection that has a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder<K> {
    /// Which.
    pub key: K,
    /// The address of its far end.
    pub ip: IpAddr,
    /// What it is good for.
    pub standing: Standing,
    /// When it last was good for something.
    pub useful_at: Time,
}

/// Who is evicted for somebody at this address, now that all `places` are taken, if anybody does: whoever is useless, the most
/// crowded first; else, where an address or a network has more than its share, and more than the newcomer would have with one
/// more, the one of these that is good for least.
pub fn evicted_for<K: Copy + Ord>(newcomer: IpAddr, holders: &[Holder<K>], places: usize) -> Option<K> {
    let mut crowds = Crowds::default();
    holders.iter().for_each(|holder| crowds.add(holder.ip));
    let crowd = |holder: &Holder<K>| (crowds.in_network(holder.ip), crowds.at_address(holder.ip));
    let useless = holders.iter().filter(|holder| holder.standing == Standing::Useless);
    let first =
        useless.max_by_key(|holder| (crowd(holder), std::cmp::Reverse((holder.useful_at, holder.key))));
    if let Some(holder) = first {
        return Some(holder.key);
    }
    let beside = (crowds.in_network(newcomer) + 1, crowds.at_address(newcomer) + 1);
    let has_too_many = |holder: &&Holder<K>| {
        let (in_network, at_address) = crowd(holder);
        let over =
            |count: usize, share: usize, beside: usize| count > (places / share).max(1) && count > beside;
        over(in_network, NETWORK_SHARE, beside.0) || over(at_address, ADDRESS_SHARE, beside.1)
    };
    let may_go = holders.iter().filter(|holder| holder.standing != Standing::Gives).filter(has_too_many);
    may_go
        .min_by_key(|holder| {
            (holder.standing, std::cmp::Reverse(crowd(holder)), holder.useful_at, holder.key)
        })
        .map(|holder| holder.key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// An attacker's connections come again as soon as they are closed, `per_arrival` of them for each honest one, which
    /// needs the time of `needs` arrivals to shake hands. How many of 20 honest ones can.
    fn finished(attacker: impl Fn(u32) -> IpAddr, honest: &str, per_arrival: u32, needs: u32) -> usize {
        let mut unfinished = Unfinished::new(256);
        let (mut count, mut finished) = (0, 0);
        for _ in 0..20 {
            let (number, _) = unfinished.arrive(ip(honest));
            let mut stands = true;
            for nth in 0..per_arrival.max(needs) {
                count += 1;
                let (_, gone) = unfinished.arrive(attacker(count));
                stands &= gone != Some(number) || nth >= needs;
            }
            unfinished.leave(number);
            finished += usize::from(stands);
            assert!(unfinished.count() <= 256);
        }
        finished
    }

    #[test]
    fn half_handshakes_that_come_again_keep_nobody_out() {
        let public = |text: &'static str| move |_| ip(text);
        assert_eq!(finished(public("198.51.100.7"), "203.0.113.9", 2_000, 2_000), 20);
        assert_eq!(finished(public("127.0.0.66"), "127.0.0.9", 2_000, 2_000), 20, "one network");
        assert_eq!(finished(public("2001:db8::66"), "2001:db8:0:1::9", 2_000, 2_000), 20);
        // From everywhere in a network.
        let spread = |n: u32| IpAddr::from([198, 51, 100, (n % 250) as u8]);
        assert_eq!(finished(spread, "203.0.113.9", 2_000, 2_000), 20);
        // From more networks than there are places, and from the honest one's own address: there is the time that it takes
        // to fill all places.
        assert_eq!(finished(|n| IpAddr::from(n.swap_bytes().to_be_bytes()), "203.0.113.9", 1_000, 250), 20);
        assert_eq!(finished(public("127.0.0.1"), "127.0.0.1", 1_000, 250), 20);
    }

    #[test]
    fn while_there_is_room_one_address_may_have_all_of_it() {
        let mut unfinished = Unfinished::new(256);
        assert!((0..256).all(|_| unfinished.arrive(ip("192.0.2.1")).1.is_none()));
        assert_eq!(unfinished.arrive(ip("192.0.2.1")).1, Some(1), "the oldest");
        assert_eq!(unfinished.count(), 256);
    }

    fn holder(key: u32, at: &str, standing: Standing, useful_s: u64) -> Holder<u32> {
        Holder { key, ip: ip(at), standing, useful_at: Time::ZERO + Duration::from_secs(useful_s) }
    }

    #[test]
    fn the_longest_idle_of_those_that_give_and_take_nothing_is_evicted_first() {
        let holders = [
            holder(1, "192.0.2.1", Standing::Waiting, 0),
            holder(2, "198.51.100.1", Standing::Useless, 7),
            holder(3, "203.0.113.1", Standing::Useless, 5),
        ];
        assert_eq!(evicted_for(ip("192.0.2.77"), &holders, 3), Some(3));
        assert_eq!(evicted_for(ip("192.0.2.77"), &holders[..1], 1), None);
    }

    #[test]
    fn shares_count_when_places_are_short() {
        let crowd = |standing| (0..90).map(move |key| holder(key, "192.0.2.1", standing, u64::from(key)));
        let others = (90..100).map(|key| holder(key, "198.51.100.1", Standing::Waiting, 0));
        for standing in [Standing::New, Standing::Waiting, Standing::Takes] {
            let holders: Vec<_> = crowd(standing).chain(others.clone()).collect();
            assert_eq!(evicted_for(ip("203.0.113.1"), &holders, 100), Some(0), "{standing:?}");
            assert_eq!(evicted_for(ip("192.0.2.2"), &holders, 100), Some(0), "of the same network");
            assert_eq!(evicted_for(ip("192.0.2.1"), &holders, 100), None, "of the same address");
        }
        let holders: Vec<_> = crowd(Standing::Gives).chain(others).collect();
        assert_eq!(evicted_for(ip("203.0.113.1"), &holders, 100), None, "who gives stays");
    }

    #[test]
    fn a_network_has_a_share_as_an_address_has() {
        let crowd = (0..100).map(|key| Holder {
            key,
            ip: IpAddr::from([192, 0, 2, key as u8]),
            standing: Standing::New,
            useful_at: Time::ZERO,
        });
        let holders: Vec<Holder<u32>> = crowd.collect();
        assert_eq!(evicted_for(ip("203.0.113.1"), &holders, 100), Some(0));
        assert_eq!(evicted_for(ip("192.0.2.200"), &holders, 100), None);
        // So many addresses, each of a network of its own, are as many parties.
        let apart = holders.iter().map(|h| Holder { ip: IpAddr::from([10, 0, h.key as u8, 1]), ..*h });
        assert_eq!(evicted_for(ip("203.0.113.1"), &apart.collect::<Vec<_>>(), 100), None);
    }
}

//! Canonical peer priority (BEP 40) at work: who is dialled first, and who gives way when there are too many.

mod common;

use common::*;
use std::net::{IpAddr, SocketAddr};
use swarm_core::net::peer_priority;
use swarm_core::peer::PeerInfo;
use swarm_core::time::Duration;
use swarm_core::torrent::{CloseReason, Config};
use swarm_core::wire::Message;
use swarm_core::wire::extension::ExtensionHandshake;

const PEERS_MAX: usize = 8;
const PORT: u16 = 6881;

/// Which family an address of the tests is of.
#[derive(Clone, Copy)]
enum Net {
    V4,
    V6,
}

impl Net {
    fn addr(self, n: u16) -> SocketAddr {
        let [high, low] = n.to_be_bytes();
        match self {
            Net::V4 => SocketAddr::from(([20 + high, low, 7, 1], PORT)),
            Net::V6 => SocketAddr::from(([0x2001, 0xdb8, n, 0, 0, 0, 0, 1], PORT)),
        }
    }

    fn ours(self) -> IpAddr {
        match self {
            Net::V4 => [8, 8, 4, 4].into(),
            Net::V6 => [0x2001, 0xdb9, 0, 0, 0, 0, 0, 1].into(),
        }
    }

    fn priority(self, n: u16) -> u32 {
        peer_priority(SocketAddr::new(self.ours(), PORT), self.addr(n))
    }

    /// So many of our peers, the highest first.
    fn by_priority(self, numbers: std::ops::Range<u16>) -> Vec<u16> {
        let mut numbers: Vec<u16> = numbers.collect();
        numbers.sort_by_key(|n| std::cmp::Reverse(self.priority(*n)));
        numbers
    }
}

/// A torrent with half of the pieces, so that whoever connects may have something for us, and want something.
fn half(canonical_priority: bool) -> Swarm {
    let config = Config {
        canonical_priority,
        peers_max: PEERS_MAX,
        peers_wanted: PEERS_MAX,
        listen_port: Some(PORT),
        half_open_max: 100,
        ..config()
    };
    Swarm::new(config, all_but(10, &[5, 6, 7, 8, 9]), 1)
}

/// Connects a peer; who was closed for it, and why.
fn connect(swarm: &mut Swarm, net: Net, n: u16, inbound: bool) -> Vec<(u32, CloseReason)> {
    let n = u32::from(n);
    closed(&swarm.connect_as(n, PeerInfo { addr: net.addr(n as u16), inbound, ..peer(n) }))
}

/// A peer connects and says where it sees us.
fn seen_by(swarm: &mut Swarm, net: Net, n: u16, ip: IpAddr) {
    connect(swarm, net, n, true);
    swarm.say_hello(n.into(), ExtensionHandshake { your_ip: Some(ip), ..ExtensionHandshake::default() });
}

/// A tracker tells of these: who is dialled has the highest priority, in order.
fn assert_dials_by_priority(swarm: &mut Swarm, net: Net, numbers: std::ops::Range<u16>) {
    let addrs: Vec<SocketAddr> = numbers.clone().map(|n| net.addr(n)).collect();
    let expected: Vec<SocketAddr> =
        net.by_priority(numbers)[..PEERS_MAX].iter().map(|n| net.addr(*n)).collect();
    assert_eq!(dialled(&swarm.announce(&addrs)), expected);
}

/// A torrent that is full, knows where it is, and holds its connections for long enough; and its peers, the highest first.
fn full(net: Net, canonical_priority: bool) -> (Swarm, Vec<u16>) {
    let mut swarm = half(canonical_priority);
    swarm.torrent.handle_own_ip(net.ours());
    let here = net.by_priority(100..100 + PEERS_MAX as u16);
    for n in &here {
        assert_eq!(connect(&mut swarm, net, *n, true), []);
        // Somebody who might give us something.
        assert_eq!(closed(&swarm.say((*n).into(), Message::HaveAll)), []);
    }
    swarm.pass(Duration::from_secs(61));
    (swarm, here)
}

fn canonical_priority_orders_dialling(net: Net) {
    let mut swarm = half(true);
    swarm.torrent.handle_own_ip(net.ours());
    assert_dials_by_priority(&mut swarm, net, 0..200);
}

fn canonical_priority_uses_the_address_that_several_peers_see(net: Net) {
    let mut swarm = half(true);
    // Whose word alone is nothing.
    for _ in 0..20 {
        seen_by(&mut swarm, net, 1, net.addr(999).ip());
        swarm.disconnect(1);
    }
    (2..8).for_each(|n| seen_by(&mut swarm, net, n, net.ours()));
    (2..8).for_each(|n| drop(swarm.disconnect(n)));
    assert_dials_by_priority(&mut swarm, net, 100..300);
}

fn eviction_of_the_lowest_canonical_priority(net: Net) {
    let (mut swarm, here) = full(net, true);
    let (lowest, second) = (here[PEERS_MAX - 1], here[PEERS_MAX - 2]);
    let newcomers = net.by_priority(200..400);
    let below = *newcomers.iter().rev().find(|n| net.priority(**n) < net.priority(lowest)).unwrap();
    assert_eq!(connect(&mut swarm, net, below, true), [(below.into(), CloseReason::TooManyPeers)]);
    let highest = newcomers[0];
    assert_eq!(
        connect(&mut swarm, net, highest, false),
        [(highest.into(), CloseReason::TooManyPeers)],
        "we dialled"
    );
    assert_eq!(connect(&mut swarm, net, highest, true), [(lowest.into(), CloseReason::Evicted)]);
    assert_eq!(connect(&mut swarm, net, newcomers[1], true), [(second.into(), CloseReason::Evicted)]);
    assert_eq!(swarm.peers(), PEERS_MAX);
}

fn eviction_spares_who_exchanges_data_or_is_new(net: Net) {
    let (mut swarm, here) = full(net, true);
    // Each takes from us, but for the highest of them.
    for n in &here[1..] {
        assert_eq!(closed(&swarm.say((*n).into(), Message::Interested)), []);
    }
    let newcomers = net.by_priority(200..600);
    assert!(net.priority(newcomers[1]) > net.priority(here[0]));
    let unchoked = swarm.torrent.peers().filter(|peer| !peer.flags.am_choking).count();
    assert!(unchoked > 0);
    let may_go: Vec<u32> =
        swarm.torrent.peers().filter(|peer| peer.flags.am_choking).map(|peer| peer.key.0).collect();
    for newcomer in &newcomers[..may_go.len()] {
        let [(gone, CloseReason::Evicted)] = connect(&mut swarm, net, *newcomer, true)[..] else {
            panic!("somebody has to go");
        };
        assert!(may_go.contains(&gone), "{gone} was given data");
    }
    // Everybody who is left takes from us or is new.
    let one_more = newcomers[may_go.len()];
    assert_eq!(connect(&mut swarm, net, one_more, true), [(one_more.into(), CloseReason::TooManyPeers)]);
}

fn eviction_needs_canonical_priority(net: Net) {
    let (mut swarm, _) = full(net, false);
    let highest = net.by_priority(200..400)[0];
    assert_eq!(connect(&mut swarm, net, highest, true), [(highest.into(), CloseReason::TooManyPeers)]);
}

macro_rules! for_both_families {
    ($($test:ident),* $(,)?) => {
        mod ipv4 {
            $(#[test] fn $test() { super::$test(super::Net::V4) })*
        }
        mod ipv6 {
            $(#[test] fn $test() { super::$test(super::Net::V6) })*
        }
    };
}

for_both_families![
    canonical_priority_orders_dialling,
    canonical_priority_uses_the_address_that_several_peers_see,
    eviction_of_the_lowest_canonical_priority,
    eviction_spares_who_exchanges_data_or_is_new,
    eviction_needs_canonical_priority,
];

//! Which connections are dialled, accepted, kept alive and closed, and which are duplicates.

mod common;

use common::*;
use std::net::SocketAddr;
use swarm_core::id::PeerId;
use swarm_core::peer::PeerInfo;
use swarm_core::time::Duration;
use swarm_core::torrent::CloseReason;
use swarm_core::torrent::discovery::Origin;
use swarm_core::wire::Message;
use swarm_core::wire::extension::ExtensionHandshake;

const THEIRS: PeerId = PeerId([9; 20]);
const V4: &str = "203.0.113.9";
const V6: &str = "2001:db8::9";

fn leecher() -> Swarm {
    Swarm::leecher(10, 1)
}

/// Somebody with this peer id.
fn connect(swarm: &mut Swarm, n: u32, ip: &str, peer_id: PeerId, inbound: bool) -> Vec<(u32, CloseReason)> {
    let info = PeerInfo { peer_id, inbound, ..peer_at(n, ip.parse().unwrap()) };
    closed(&swarm.connect_as(n, info))
}

/// A peer says that this is its address of the other family.
fn says_it_is_also(swarm: &mut Swarm, n: u32, ip: &str) -> Vec<(u32, CloseReason)> {
    let (ipv4, ipv6) = (ip.parse().ok(), ip.parse().ok());
    swarm.now += Duration::from_micros(1);
    closed(&swarm.say_hello(n, ExtensionHandshake { ipv4, ipv6, ..Default::default() }))
}

#[test]
fn keep_alive_is_sent_and_silent_connections_time_out() {
    let mut swarm = leecher();
    swarm.connect(1);
    let actions = swarm.pass(Duration::from_secs(170));
    assert!(sent(&actions).contains(&&Message::KeepAlive));
    assert_eq!(closed(&actions), []);
    let actions = swarm.pass(Duration::from_secs(20));
    assert!(matches!(closed(&actions)[..], [(1, CloseReason::TimedOut { .. })]));
}

#[test]
fn self_connection_closes() {
    let mut swarm = leecher();
    let ours = PeerInfo { peer_id: OUR_ID, ..peer(1) };
    assert_eq!(closed(&swarm.connect_as(1, ours)), [(1, CloseReason::SelfConnection)]);
    assert_eq!(closed(&swarm.connect(2)), []);
}

#[test]
fn upload_only_seeds_disconnect_from_each_other() {
    let mut swarm = Swarm::seed(10, 1);
    swarm.connect(1);
    assert_eq!(closed(&swarm.say(1, Message::HaveAll)), [(1, CloseReason::BothComplete)]);
}

#[test]
fn half_open_limit_bounds_dialling() {
    let mut swarm = leecher();
    let addrs: Vec<SocketAddr> = (1..=100).map(addr).collect();
    let first = dialled(&swarm.announce(&addrs));
    assert_eq!(first.len(), 16);
    swarm.torrent.handle_connect_failed(swarm.now, first[0]);
    assert_eq!(dialled(&swarm.drain()).len(), 1);
}

#[test]
fn stopped_torrent_neither_dials_nor_accepts() {
    let mut swarm = leecher();
    swarm.torrent.handle_stop(swarm.now);
    swarm.torrent.handle_addresses(swarm.now, &[addr(9)], Origin::User);
    assert_eq!(swarm.drain(), []);
    assert_eq!(closed(&swarm.connect(1)), [(1, CloseReason::Stopped)]);
}

#[test]
fn duplicate_is_not_who_takes_a_peer_id_at_another_address() {
    for inbound in [false, true] {
        // The attacker comes first, from elsewhere: the peer itself is let in all the same.
        let mut swarm = leecher();
        connect(&mut swarm, 1, "198.51.100.7", THEIRS, true);
        assert_eq!(connect(&mut swarm, 2, V4, THEIRS, inbound), []);
        assert!(swarm.is_here(1) && swarm.is_here(2));
        // It comes later, whichever side dialled: the peer's connection stands.
        for (n, inbound) in [(3, true), (4, false)] {
            connect(&mut swarm, n, "198.51.100.8", THEIRS, inbound);
            assert!(swarm.is_here(2), "displaced");
        }
    }
}

#[test]
fn duplicate_connection_of_the_same_peer_is_refused() {
    let mut swarm = leecher();
    connect(&mut swarm, 1, V4, THEIRS, true);
    let again = connect(&mut swarm, 2, "::ffff:203.0.113.9", THEIRS, true);
    assert_eq!(again, [(2, CloseReason::Duplicate)]);
    assert!(swarm.is_here(1));
}

#[test]
fn duplicate_that_both_dialled_is_settled_for_the_lower_peer_id() {
    for (their_id, they_are_lower) in [(PeerId([1; 20]), true), (PeerId([9; 20]), false)] {
        for inbound_first in [true, false] {
            let mut swarm = leecher();
            connect(&mut swarm, 1, V4, their_id, inbound_first);
            connect(&mut swarm, 2, V4, their_id, !inbound_first);
            let kept = if inbound_first == they_are_lower { 1 } else { 2 };
            assert!(swarm.is_here(kept) && swarm.peers() == 1);
        }
    }
}

#[test]
fn duplicate_across_families_is_found_by_what_both_connections_say() {
    for ips in [[V4, V6], [V6, V4]] {
        let mut swarm = leecher();
        connect(&mut swarm, 1, ips[0], THEIRS, true);
        assert_eq!(says_it_is_also(&mut swarm, 1, ips[1]), []);
        connect(&mut swarm, 2, ips[1], THEIRS, true);
        assert!(swarm.is_here(2), "not before it says so too");
        let over_v4 = if ips[0] == V4 { 1 } else { 2 };
        assert_eq!(says_it_is_also(&mut swarm, 2, ips[0]), [(over_v4, CloseReason::Duplicate)]);
        assert_eq!(swarm.peers(), 1);
    }
}

#[test]
fn duplicate_across_families_cannot_be_claimed_by_a_stranger() {
    // The peer has only one family, or another address than the stranger's.
    for other in [None, Some("2001:db8::77")] {
        let mut swarm = leecher();
        connect(&mut swarm, 1, V4, THEIRS, true);
        other.into_iter().for_each(|other| assert_eq!(says_it_is_also(&mut swarm, 1, other), []));
        connect(&mut swarm, 2, "2001:db8:666::1", THEIRS, true);
        assert_eq!(says_it_is_also(&mut swarm, 2, V4), []);
        assert!(swarm.is_here(1) && swarm.is_here(2));
    }
    // A stranger that was there first and names the peer's address does not keep it out.
    let mut swarm = leecher();
    connect(&mut swarm, 1, "198.51.100.7", THEIRS, true);
    says_it_is_also(&mut swarm, 1, V6);
    connect(&mut swarm, 2, V6, THEIRS, true);
    assert_eq!(says_it_is_also(&mut swarm, 2, V4), []);
    assert!(swarm.is_here(2));
}

#[test]
fn extension_handshake_names_our_address_of_the_other_family() {
    let mut swarm = leecher();
    swarm.torrent.handle_own_ip("192.0.2.50".parse().unwrap());
    let mut named = |n, ip: &str| {
        let hello = our_hello(&swarm.connect_as(n, peer_at(n, ip.parse().unwrap()))).unwrap();
        (hello.ipv4, hello.ipv6)
    };
    assert_eq!(named(1, V6), (Some("192.0.2.50".parse().unwrap()), None));
    assert_eq!(named(2, V4), (None, None));
}

/// Which port the extension handshake to this peer names.
fn port_told(swarm: &mut Swarm, n: u32, ip: &str) -> Option<u16> {
    let actions = swarm.connect_as(n, peer_at(n, ip.parse().unwrap()));
    our_hello(&actions).unwrap().listen_port
}

#[test]
fn a_mapped_port_is_told_to_peers_outside_and_ours_to_those_on_our_network() {
    let mut swarm = Swarm::new(
        swarm_core::torrent::Config { listen_port: Some(6881), ..config() },
        swarm_core::bitfield::Bitfield::empty(10),
        1,
    );
    assert_eq!(port_told(&mut swarm, 1, "203.0.113.1"), Some(6881));
    swarm.torrent.handle_mapped_port(Some(40_000));
    assert_eq!(port_told(&mut swarm, 2, "203.0.113.2"), Some(40_000));
    assert_eq!(port_told(&mut swarm, 3, "192.168.1.2"), Some(6881));
    assert_eq!(port_told(&mut swarm, 4, "2001:db8::4"), Some(6881), "it is of IPv4");
    swarm.torrent.handle_mapped_port(None);
    assert_eq!(port_told(&mut swarm, 5, "203.0.113.5"), Some(6881));
}

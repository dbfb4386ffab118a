//! Who is evicted when there are too many connections.

mod common;

use common::*;
use std::net::SocketAddr;
use swarm_core::peer::PeerInfo;
use swarm_core::time::Duration;
use swarm_core::torrent::CloseReason;
use swarm_core::torrent::places::{SILENT_MAX, USELESS_MAX};
use swarm_core::wire::Message;

/// A stranger dials us from this address.
fn arrive(swarm: &mut Swarm, n: u32, ip: &str) -> Vec<(u32, CloseReason)> {
    closed(&swarm.connect_as(n, peer_at(n, ip.parse().unwrap())))
}

fn say(swarm: &mut Swarm, n: u32, message: Message) {
    swarm.now += Duration::from_micros(1);
    swarm.say(n, message);
}

/// A thousand connect from the addresses that `attacker` gives and say nothing. Then somebody honest does, and asks.
fn silent_ones_keep_nobody_out(attacker: impl Fn(u32) -> String, honest: &str, after: Duration) {
    let mut swarm = Swarm::seed(10, 1);
    (0..1_000).for_each(|n| _ = arrive(&mut swarm, n, &attacker(n)));
    assert_eq!(swarm.peers(), 100);
    swarm.pass(after);
    let key = 9_999;
    arrive(&mut swarm, key, honest);
    assert!(swarm.is_here(key), "{honest} beside {}", attacker(0));
    say(&mut swarm, key, Message::HaveNone);
    say(&mut swarm, key, Message::Interested);
    // They come again.
    (1_000..3_000).for_each(|n| _ = arrive(&mut swarm, n, &attacker(n)));
    assert!(swarm.is_here(key), "{honest} stays");
    assert_eq!(swarm.peers(), 100);
}

#[test]
fn eviction_of_silent_connections_of_one_address_or_network_is_immediate() {
    let at_once = Duration::ZERO;
    silent_ones_keep_nobody_out(|_| "198.51.100.7".to_owned(), "203.0.113.9", at_once);
    silent_ones_keep_nobody_out(|_| "127.0.0.66".to_owned(), "127.0.0.9", at_once);
    silent_ones_keep_nobody_out(|n| format!("198.51.100.{}", n % 250), "203.0.113.9", at_once);
    silent_ones_keep_nobody_out(|n| format!("2001:db8::{n:x}"), "2001:db8:0:1::9", at_once);
}

#[test]
fn eviction_of_silent_connections_from_everywhere_is_soon() {
    silent_ones_keep_nobody_out(|n| format!("10.{}.{}.1", n >> 8, n & 255), "203.0.113.9", SILENT_MAX);
    silent_ones_keep_nobody_out(|_| "127.0.0.1".to_owned(), "127.0.0.1", SILENT_MAX);
}

#[test]
fn eviction_of_a_crowd_at_one_address_waits_until_there_is_no_room() {
    let mut swarm = Swarm::seed(10, 1);
    for n in 0..100 {
        assert_eq!(arrive(&mut swarm, n, "192.0.2.1"), []);
        say(&mut swarm, n, Message::HaveNone);
        say(&mut swarm, n, Message::Interested);
    }
    // The next of them finds no place, since nobody there is worse.
    assert_eq!(arrive(&mut swarm, 100, "192.0.2.1"), [(100, CloseReason::TooManyPeers)]);
    // Somebody from elsewhere does.
    assert!(matches!(arrive(&mut swarm, 101, "203.0.113.9")[..], [(_, CloseReason::Crowded)]));
    assert!(swarm.is_here(101));
}

#[test]
fn eviction_of_peers_without_interest_comes_after_a_while() {
    let mut swarm = Swarm::leecher(10, 1);
    arrive(&mut swarm, 0, "10.0.0.1");
    say(&mut swarm, 0, Message::HaveNone);
    for n in 1..100 {
        arrive(&mut swarm, n, &format!("10.0.{n}.1"));
        say(&mut swarm, n, Message::HaveAll);
    }
    assert_eq!(arrive(&mut swarm, 100, "203.0.113.9"), [(100, CloseReason::TooManyPeers)]);
    swarm.pass(USELESS_MAX);
    arrive(&mut swarm, 101, "203.0.113.9");
    assert!(swarm.is_here(101) && !swarm.is_here(0));
}

#[test]
fn eviction_of_silent_inbound_connections_leaves_room_for_dialling() {
    let mut swarm = Swarm::leecher(10, 1);
    (0..1_000).for_each(|n| _ = arrive(&mut swarm, n, "198.51.100.7"));
    let honest: SocketAddr = "203.0.113.9:6881".parse().unwrap();
    assert_eq!(dialled(&swarm.announce(&[honest])), [honest]);
    swarm.connect_as(1_000, PeerInfo { inbound: false, ..peer_at(1_000, honest.ip()) });
    assert!(swarm.is_here(1_000));
}

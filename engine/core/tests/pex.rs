//! Peer exchange (BEP 11): what peers are told of each other, and what is believed of what they tell.

mod common;

use common::*;
use std::net::SocketAddr;
use swarm_core::bitfield::Bitfield;
use swarm_core::id::PeerKey;
use swarm_core::mse::Method;
use swarm_core::peer::PeerInfo;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::exchange::{EXCHANGE_INTERVAL, EXCHANGE_INTERVAL_MIN};
use swarm_core::torrent::{Action, Config};
use swarm_core::wire::Message;
use swarm_core::wire::exchange::{EXCHANGED_MAX, PeerExchange, PeerFlags};
use swarm_core::wire::extension::{Extension, ExtensionHandshake};

const THEIR_ID: u8 = 9;

fn leecher(exchange: bool) -> Swarm {
    Swarm::new(Config { exchange, peers_max: 300, ..config() }, Bitfield::empty(10), 1)
}

/// We dial a peer that takes part; what it is told at once.
fn dial(swarm: &mut Swarm, n: u32) -> Vec<Action> {
    let mut actions = swarm.connect_as(n, PeerInfo { inbound: false, ..peer(n) });
    let ids = [(Extension::PeerExchange, THEIR_ID)].into();
    actions.extend(swarm.say_hello(n, ExtensionHandshake { ids, ..ExtensionHandshake::default() }));
    actions
}

/// Peer 1 tells of others; who is dialled for it.
fn exchange(swarm: &mut Swarm, added: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let added = added.into_iter().map(|addr| (addr, PeerFlags::default())).collect();
    let payload = PeerExchange { added, dropped: Vec::new() }.encode();
    dialled(&swarm.say(1, Message::Extended { id: Extension::PeerExchange.local_id(), payload }))
}

/// Lets time pass; what peer 1 is told of others, and when.
fn told_in(swarm: &mut Swarm, time: Duration) -> Vec<(Time, PeerExchange)> {
    let (end, mut told) = (swarm.now + time, Vec::new());
    while swarm.now < end {
        let here: Vec<PeerKey> = swarm.torrent.peers().map(|peer| peer.key).collect();
        here.into_iter().for_each(|key| drop(swarm.say(key.0, Message::KeepAlive)));
        for message in sent_to(&swarm.pass(Duration::from_secs(1)), 1) {
            if let Message::Extended { id: THEIR_ID, payload } = message {
                told.push((swarm.now, PeerExchange::decode(payload).unwrap()));
            }
        }
    }
    told
}

#[test]
fn pex_tells_peers_of_each_other_a_minute_apart_and_a_few_at_a_time() {
    let mut swarm = leecher(true);
    dial(&mut swarm, 1);
    for n in 2..=150 {
        swarm.connect_as(n, PeerInfo { inbound: false, ..peer(n) });
    }
    // One that dialled us and does not say where it listens is nobody's business.
    swarm.connect(200);
    let told = told_in(&mut swarm, Duration::from_secs(200));
    assert!(told.is_sorted_by(|a, b| b.0.since(a.0) >= EXCHANGE_INTERVAL));
    assert!(told.iter().all(|(_, message)| message.added.len() <= EXCHANGED_MAX));
    let mut named: Vec<SocketAddr> = told.iter().flat_map(|(_, m)| &m.added).map(|(addr, _)| *addr).collect();
    named.sort();
    assert_eq!(named, (2..=150).map(addr).collect::<Vec<_>>());
    assert!(told.iter().all(|(_, m)| m.added.iter().all(|(_, flags)| *flags == PeerFlags::REACHABLE)));
    (2..=60).for_each(|n| drop(swarm.disconnect(n)));
    let told = told_in(&mut swarm, Duration::from_secs(200));
    let gone: Vec<usize> = told.iter().map(|(_, message)| message.dropped.len()).collect();
    assert_eq!(gone, [EXCHANGED_MAX, 59 - EXCHANGED_MAX]);
}

#[test]
fn pex_addresses_are_checked_and_bounded() {
    let mut swarm = leecher(true);
    dial(&mut swarm, 1);
    let bad = ["127.0.0.1:6881", "[::1]:6881", "224.0.0.1:1", "10.9.9.9:0", "0.0.0.0:1"];
    let flood = bad.iter().map(|text| text.parse().unwrap()).chain((1_000..9_000).map(addr));
    let dialled = exchange(&mut swarm, flood);
    let is_kept = |dialled: &SocketAddr| (1_000..1_050).any(|n| addr(n) == *dialled);
    assert!(!dialled.is_empty() && dialled.iter().all(is_kept), "{dialled:?}");
}

#[test]
fn pex_that_comes_too_soon_is_ignored() {
    let mut swarm = leecher(true);
    dial(&mut swarm, 1);
    assert_eq!(exchange(&mut swarm, [addr(1_000)]), [addr(1_000)]);
    assert_eq!(exchange(&mut swarm, [addr(1_001)]), []);
    swarm.now += EXCHANGE_INTERVAL_MIN;
    assert_eq!(exchange(&mut swarm, [addr(1_001)]), [addr(1_001)]);
}

#[test]
fn pex_that_is_off_is_neither_sent_nor_believed() {
    let mut swarm = leecher(false);
    let greeting = dial(&mut swarm, 1);
    assert!(!our_hello(&greeting).unwrap().ids.contains_key(&Extension::PeerExchange));
    dial(&mut swarm, 2);
    assert_eq!(told_in(&mut swarm, Duration::from_secs(120)), []);
    assert_eq!(exchange(&mut swarm, [addr(3)]), []);
}

#[test]
fn pex_tells_who_wants_encryption_and_such_peers_are_dialled_with_it() {
    let mut swarm = leecher(true);
    dial(&mut swarm, 1);
    let payload = PeerExchange {
        added: vec![(addr(1_000), PeerFlags::ENCRYPTION), (addr(1_001), PeerFlags::default())],
        dropped: Vec::new(),
    };
    let actions =
        swarm.say(1, Message::Extended { id: Extension::PeerExchange.local_id(), payload: payload.encode() });
    let mut dials: Vec<_> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Connect(dial) => Some((dial.addr, dial.encrypted)),
            _ => None,
        })
        .collect();
    dials.sort();
    assert_eq!(dials, [(addr(1_000), true), (addr(1_001), false)]);

    // Connected so, and by its own word.
    swarm.connect_as(2, PeerInfo { inbound: false, encryption: Some(Method::Rc4), ..peer(2) });
    swarm.connect_as(3, PeerInfo { inbound: false, ..peer(3) });
    swarm
        .say_hello(3, ExtensionHandshake { prefers_encryption: Some(true), ..ExtensionHandshake::default() });
    swarm.connect_as(4, PeerInfo { inbound: false, ..peer(4) });
    let told = told_in(&mut swarm, Duration::from_secs(100));
    let flags: Vec<PeerFlags> =
        told.iter().flat_map(|(_, message)| &message.added).map(|(_, flags)| *flags).collect();
    let both = PeerFlags::REACHABLE | PeerFlags::ENCRYPTION;
    assert_eq!(flags, [both, both, PeerFlags::REACHABLE]);
}

#[test]
fn a_peer_is_dialled_again_in_the_way_that_came_about() {
    for (first, encryption) in [(false, Some(Method::Plaintext)), (false, None)] {
        let mut swarm = leecher(true);
        let actions = swarm.announce(&[addr(2)]);
        assert!(actions.iter().any(|a| matches!(a, Action::Connect(dial) if dial.encrypted == first)));
        swarm.connect_as(2, PeerInfo { inbound: false, encryption, ..peer(2) });
        swarm.disconnect(2);
        let again = swarm.pass(Duration::from_secs(10));
        let dialled = again.iter().find_map(|action| match action {
            Action::Connect(dial) => Some(dial.encrypted),
            _ => None,
        });
        assert_eq!(dialled, Some(encryption.is_some()));
    }
}

/// The first dial of each address that these actions have, and whether it begins with uTP.
fn dials(actions: &[Action]) -> Vec<(SocketAddr, bool)> {
    let mut dials: Vec<_> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Connect(dial) => Some((dial.addr, dial.utp)),
            _ => None,
        })
        .collect();
    dials.sort();
    dials
}

#[test]
fn pex_tells_who_is_connected_over_utp_and_such_peers_are_dialled_so_first() {
    let mut swarm = leecher(true);
    dial(&mut swarm, 1);
    let payload = PeerExchange {
        added: vec![(addr(1_000), PeerFlags::UTP), (addr(1_001), PeerFlags::default())],
        dropped: Vec::new(),
    };
    let message = Message::Extended { id: Extension::PeerExchange.local_id(), payload: payload.encode() };
    assert_eq!(dials(&swarm.say(1, message)), [(addr(1_000), true), (addr(1_001), false)]);

    swarm.connect_as(2, PeerInfo { inbound: false, utp: true, ..peer(2) });
    swarm.connect_as(3, PeerInfo { inbound: false, ..peer(3) });
    let told = told_in(&mut swarm, Duration::from_secs(100));
    let flags: Vec<PeerFlags> =
        told.iter().flat_map(|(_, message)| &message.added).map(|(_, flags)| *flags).collect();
    assert_eq!(flags, [PeerFlags::REACHABLE | PeerFlags::UTP, PeerFlags::REACHABLE]);
}

#[test]
fn a_peer_is_dialled_again_over_what_it_answered() {
    for utp in [true, false] {
        let mut swarm = leecher(true);
        assert_eq!(dials(&swarm.announce(&[addr(2)])), [(addr(2), false)]);
        swarm.connect_as(2, PeerInfo { inbound: false, utp, ..peer(2) });
        swarm.disconnect(2);
        let again = swarm.pass(Duration::from_secs(10));
        assert_eq!(dials(&again).first(), Some(&(addr(2), utp)));
    }
}

//! Holepunching (BEP 55) in each of its three roles: who asks for a rendezvous, who arranges it, and who is to be met.

mod common;

use common::*;
use std::net::SocketAddr;
use std::sync::Arc;
use swarm_core::bitfield::Bitfield;
use swarm_core::id::PeerKey;
use swarm_core::ip_filter::{IpFilter, parse_line};
use swarm_core::peer::PeerInfo;
use swarm_core::peer::holepunch::{WISH_INTERVAL, WISHES_BURST};
use swarm_core::time::Duration;
use swarm_core::torrent::discovery::pace::PATIENCE_FIRST;
use swarm_core::torrent::discovery::{Dial, RETRY_FIRST};
use swarm_core::torrent::holepunch::{
    HolepunchFailure, PUNCH_PATIENCE, PUNCHES_MAX, PUNCHES_OF_OTHERS_MAX, PUNCHES_OF_RELAY_MAX,
    RELAY_PATIENCE,
};
use swarm_core::torrent::{Action, CloseReason, Config, Event, PieceResult};
use swarm_core::wire::Message;
use swarm_core::wire::exchange::{PeerExchange, PeerFlags};
use swarm_core::wire::extension::{Extension, ExtensionHandshake};
use swarm_core::wire::holepunch::{Holepunch, HolepunchError};

const PEX_ID: u8 = 9;
const PUNCH_ID: u8 = 8;
const NOT_REACHED: Option<HolepunchFailure> = Some(HolepunchFailure::NotReached);

fn leecher() -> Swarm {
    let all = Config { exchange: true, holepunch: true, peers_max: 300, half_open_max: 300, ..config() };
    Swarm::new(Config { peers_wanted: 250, ..all }, Bitfield::empty(10), 1)
}

/// Somebody connects who takes part in holepunching.
fn join(swarm: &mut Swarm, n: u32, info: PeerInfo) {
    swarm.connect_as(n, info);
    let ids = [(Extension::PeerExchange, PEX_ID), (Extension::Holepunch, PUNCH_ID)].into();
    swarm.say_hello(n, ExtensionHandshake { ids, listen_port: Some(6881), ..ExtensionHandshake::default() });
}

/// A peer that dialled us over uTP through a NAT with ports of its own.
fn behind_nat(n: u32) -> PeerInfo {
    PeerInfo { addr: SocketAddr::new(addr(n).ip(), 40_000), utp: true, ..peer(n) }
}

fn tell(swarm: &mut Swarm, by: u32, added: &[(SocketAddr, PeerFlags)]) -> Vec<Action> {
    let payload = PeerExchange { added: added.to_vec(), dropped: Vec::new() }.encode();
    swarm.say(by, Message::Extended { id: Extension::PeerExchange.local_id(), payload })
}

fn say(swarm: &mut Swarm, n: u32, message: Holepunch) -> Vec<Action> {
    swarm.say(n, Message::Extended { id: Extension::Holepunch.local_id(), payload: message.encode() })
}

fn fail(swarm: &mut Swarm, addr: SocketAddr) -> Vec<Action> {
    swarm.torrent.handle_connect_failed(swarm.now, addr);
    swarm.drain()
}

/// What each peer is told about holepunching.
fn told(actions: &[Action]) -> Vec<(u32, Holepunch)> {
    let of = |action: &Action| match action {
        Action::Send { peer, message: Message::Extended { id: PUNCH_ID, payload } } => {
            Some((peer.0, Holepunch::decode(payload).unwrap()))
        }
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

fn dials(actions: &[Action]) -> Vec<Dial> {
    let of = |action: &Action| match action {
        Action::Connect(dial) => Some(*dial),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

/// Those at a relay's word.
fn punches(actions: &[Action]) -> Vec<SocketAddr> {
    dials(actions).into_iter().filter(|dial| dial.punch).map(|dial| dial.addr).collect()
}

fn failures(swarm: &mut Swarm) -> Vec<(SocketAddr, SocketAddr, HolepunchFailure)> {
    let of = |event| match event {
        Event::HolepunchFailed { addr, relay, failure } => Some((addr, relay, failure)),
        _ => None,
    };
    swarm.events().into_iter().filter_map(of).collect()
}

fn successes(swarm: &mut Swarm) -> Vec<(SocketAddr, SocketAddr)> {
    let of = |event| match event {
        Event::Holepunched { addr, relay } => Some((addr, relay)),
        _ => None,
    };
    swarm.events().into_iter().filter_map(of).collect()
}

/// Peer 1 has told us of `addr(50)`, whom we could not dial, and has been asked.
fn asked() -> Swarm {
    let mut swarm = leecher();
    join(&mut swarm, 1, peer(1));
    tell(&mut swarm, 1, &[(addr(50), PeerFlags::HOLEPUNCH)]);
    assert_eq!(told(&fail(&mut swarm, addr(50))), [(1, Holepunch::Rendezvous(addr(50)))]);
    swarm
}

#[test]
fn holepunch_is_announced_and_heard_only_where_it_is_on() {
    for holepunch in [true, false] {
        let mut swarm = Swarm::new(Config { exchange: true, holepunch, ..config() }, Bitfield::empty(10), 1);
        let hello = our_hello(&swarm.connect(1)).unwrap();
        assert_eq!(hello.ids.contains_key(&Extension::Holepunch), holepunch);
        join(&mut swarm, 2, peer(2));
        assert_eq!(punches(&say(&mut swarm, 2, Holepunch::Connect(addr(60)))).len(), usize::from(holepunch));
        assert_eq!(told(&say(&mut swarm, 2, Holepunch::Rendezvous(addr(61)))).len(), usize::from(holepunch));
        tell(&mut swarm, 2, &[(addr(50), PeerFlags::HOLEPUNCH)]);
        assert_eq!(told(&fail(&mut swarm, addr(50))).len(), usize::from(holepunch));
    }
}

#[test]
fn holepunch_ends_when_the_torrent_turns_out_to_be_private() {
    let mut swarm = leecher();
    join(&mut swarm, 1, peer(1));
    swarm.announce(&[addr(1), addr(62)]);
    let dialled = dials(&tell(&mut swarm, 1, &[(addr(61), PeerFlags::default())]));
    assert_eq!(dialled[0].addr, addr(61));
    assert_eq!(punches(&say(&mut swarm, 1, Holepunch::Connect(addr(63)))), [addr(63)]);
    swarm.torrent.handle_private(swarm.now);
    assert_eq!(closed(&swarm.drain()), [], "who is named stays");
    assert!(!swarm.torrent.is_punching(addr(63)));
    // What was being dialled comes too late, but for who is named.
    for (n, reason) in [(61, Some(CloseReason::Private)), (62, None), (63, Some(CloseReason::Private))] {
        let gone = closed(&swarm.connect_as(n, PeerInfo { inbound: false, utp: true, ..peer(n) }));
        assert_eq!(gone.first().map(|(_, reason)| reason.clone()), reason, "{n}");
    }
    assert_eq!(punches(&say(&mut swarm, 1, Holepunch::Connect(addr(60)))), []);
}

#[test]
fn holepunch_initiator_asks_who_told_of_a_peer_that_it_cannot_dial() {
    let (hidden, plain) = (PeerFlags::UTP, PeerFlags::default());
    for (flags, is_asked) in [
        (PeerFlags::HOLEPUNCH, true),
        (PeerFlags::HOLEPUNCH | PeerFlags::REACHABLE, true),
        (hidden, true),
        (hidden | PeerFlags::REACHABLE, false),
        (plain, false),
    ] {
        let mut swarm = leecher();
        join(&mut swarm, 1, peer(1));
        let dial = dials(&tell(&mut swarm, 1, &[(addr(50), flags)]))[0];
        assert!(!dial.punch);
        // The relay is not kept waiting by a peer that does not answer.
        assert_eq!(dial.patience <= PATIENCE_FIRST, is_asked, "{flags:?}");
        assert_eq!(told(&fail(&mut swarm, addr(50))).len(), usize::from(is_asked), "{flags:?}");
    }
}

#[test]
fn holepunch_initiator_waits_as_long_as_ever_once_the_relay_has_left() {
    let mut swarm = leecher();
    join(&mut swarm, 1, peer(1));
    let told = tell(&mut swarm, 1, &[(addr(50), PeerFlags::HOLEPUNCH)]);
    assert_eq!(dials(&told)[0].patience, PATIENCE_FIRST);
    fail(&mut swarm, addr(50));
    swarm.torrent.handle_disconnected(swarm.now, PeerKey(1));
    let actions = swarm.pass(RETRY_FIRST);
    let dials = dials(&actions);
    let again = dials.iter().find(|dial| dial.addr == addr(50)).expect("another dial");
    assert!(again.patience > PATIENCE_FIRST);
}

#[test]
fn holepunch_initiator_dials_at_the_relays_word_and_says_how_it_came_about() {
    let mut swarm = asked();
    let dial = dials(&say(&mut swarm, 1, Holepunch::Connect(addr(50))));
    assert!(matches!(dial[..], [Dial { punch: true, utp: true, patience: PUNCH_PATIENCE, .. }]), "{dial:?}");
    assert!(swarm.torrent.is_punching(addr(50)));
    // Once is enough.
    assert_eq!(punches(&say(&mut swarm, 1, Holepunch::Connect(addr(50)))), []);
    swarm.connect_as(50, PeerInfo { inbound: false, utp: true, ..peer(50) });
    assert!(swarm.view(50).was_punched() && !swarm.torrent.is_punching(addr(50)));
    assert_eq!(successes(&mut swarm), [(addr(50), addr(1))]);
}

#[test]
fn holepunch_initiator_takes_another_port_of_the_same_nat_from_the_relay() {
    let mut swarm = asked();
    let mapped = SocketAddr::new(addr(50).ip(), 40_000);
    assert_eq!(punches(&say(&mut swarm, 1, Holepunch::Connect(mapped))), [mapped]);
    swarm.pass(RELAY_PATIENCE * 2);
    assert_eq!(failures(&mut swarm), [], "the relay has answered");
}

#[test]
fn holepunch_that_a_relay_refuses_goes_to_the_next_one_and_then_fails_by_name() {
    let mut swarm = leecher();
    for relay in 1..=3 {
        join(&mut swarm, relay, peer(relay));
    }
    for relay in 1..=2 {
        tell(&mut swarm, relay, &[(addr(50), PeerFlags::HOLEPUNCH)]);
    }
    assert_eq!(told(&fail(&mut swarm, addr(50))), [(2, Holepunch::Rendezvous(addr(50)))]);
    let refused = Holepunch::Error(addr(50), HolepunchError::NotConnected);
    // Whoever was not asked has nothing to refuse.
    assert_eq!(told(&say(&mut swarm, 3, refused)), []);
    assert_eq!(told(&say(&mut swarm, 2, refused)), [(1, Holepunch::Rendezvous(addr(50)))]);
    assert_eq!(failures(&mut swarm), []);
    let unsupported = Holepunch::Error(addr(50), HolepunchError::NoSupport);
    assert_eq!(told(&say(&mut swarm, 1, unsupported)), []);
    let failure = HolepunchFailure::Refused(HolepunchError::NoSupport);
    assert_eq!(failures(&mut swarm), [(addr(50), addr(1), failure)]);
}

#[test]
fn holepunch_goes_to_the_next_relay_if_one_is_silent() {
    let mut swarm = leecher();
    for relay in 1..=2 {
        join(&mut swarm, relay, peer(relay));
        tell(&mut swarm, relay, &[(addr(50), PeerFlags::HOLEPUNCH)]);
    }
    assert_eq!(told(&fail(&mut swarm, addr(50))), [(2, Holepunch::Rendezvous(addr(50)))]);
    let actions = swarm.pass(RELAY_PATIENCE);
    assert_eq!(told(&actions), [(1, Holepunch::Rendezvous(addr(50)))]);
    assert_eq!(failures(&mut swarm), []);
    swarm.pass(RELAY_PATIENCE);
    assert_eq!(failures(&mut swarm), [(addr(50), addr(1), HolepunchFailure::RelaySilent)]);
}

#[test]
fn holepunch_fails_by_name_if_the_relay_is_silent_or_nothing_comes_through() {
    let mut swarm = asked();
    swarm.pass(RELAY_PATIENCE);
    assert_eq!(failures(&mut swarm), [(addr(50), addr(1), HolepunchFailure::RelaySilent)]);

    let mut swarm = asked();
    say(&mut swarm, 1, Holepunch::Connect(addr(50)));
    swarm.pass(PUNCH_PATIENCE);
    swarm.torrent.handle_punch_failed(swarm.now, addr(50), NOT_REACHED);
    assert_eq!(failures(&mut swarm), [(addr(50), addr(1), HolepunchFailure::NotReached)]);
    // If it was theirs, it is their business.
    say(&mut swarm, 1, Holepunch::Connect(addr(51)));
    swarm.torrent.handle_punch_failed(swarm.now, addr(51), NOT_REACHED);
    assert_eq!(failures(&mut swarm), []);
}

#[test]
fn holepunch_relay_has_both_dial_where_their_datagrams_come_from() {
    let mut swarm = leecher();
    join(&mut swarm, 1, behind_nat(1));
    join(&mut swarm, 2, behind_nat(2));
    let (one, two) = (behind_nat(1).addr, behind_nat(2).addr);
    let both = [(1, Holepunch::Connect(two)), (2, Holepunch::Connect(one))];
    assert_eq!(told(&say(&mut swarm, 1, Holepunch::Rendezvous(two))), both);
    // By the port that it says it listens on, too.
    assert_eq!(told(&say(&mut swarm, 1, Holepunch::Rendezvous(addr(2)))), both);
    // Over TCP nothing is known of the ports of its datagrams: where it listens may be right.
    join(&mut swarm, 3, PeerInfo { addr: SocketAddr::new(addr(3).ip(), 50_123), ..peer(3) });
    let both = [(3, Holepunch::Connect(two)), (2, Holepunch::Connect(addr(3)))];
    assert_eq!(told(&say(&mut swarm, 3, Holepunch::Rendezvous(two))), both);
}

/// All three roles; and nobody is sent to an address of the other family.
#[test]
fn holepunch_works_over_ipv6() {
    let at = |n: u32, port| SocketAddr::new(format!("2600::{n}").parse().unwrap(), port);
    let over_ipv6 = |n: u32| PeerInfo { addr: at(n, 40_000), utp: true, ..peer(n) };
    let mut swarm = leecher();
    join(&mut swarm, 1, over_ipv6(1));
    join(&mut swarm, 2, over_ipv6(2));
    join(&mut swarm, 3, behind_nat(3));
    let both = [(1, Holepunch::Connect(at(2, 40_000))), (2, Holepunch::Connect(at(1, 40_000)))];
    assert_eq!(told(&say(&mut swarm, 1, Holepunch::Rendezvous(at(2, 40_000)))), both);
    let across = told(&say(&mut swarm, 1, Holepunch::Rendezvous(behind_nat(3).addr)));
    assert!(matches!(across[..], [(1, Holepunch::Error(..))]), "{across:?}");

    tell(&mut swarm, 1, &[(at(50, 6881), PeerFlags::HOLEPUNCH)]);
    assert_eq!(told(&fail(&mut swarm, at(50, 6881))), [(1, Holepunch::Rendezvous(at(50, 6881)))]);
    assert_eq!(punches(&say(&mut swarm, 1, Holepunch::Connect(at(50, 6881)))), [at(50, 6881)]);
    swarm.connect_as(50, PeerInfo { inbound: false, utp: true, addr: at(50, 6881), ..peer(50) });
    assert_eq!(successes(&mut swarm), [(at(50, 6881), at(1, 40_000))]);
    // Who is to be met dials at once.
    assert_eq!(punches(&say(&mut swarm, 2, Holepunch::Connect(at(60, 7000)))), [at(60, 7000)]);
}

#[test]
fn holepunch_relay_says_why_it_cannot() {
    let mut swarm = leecher();
    join(&mut swarm, 1, behind_nat(1));
    swarm.connect_as(2, PeerInfo { utp: true, ..peer(2) });
    swarm.say_hello(2, ExtensionHandshake { listen_port: Some(6881), ..ExtensionHandshake::default() });
    swarm.torrent.handle_own_ip("10.9.9.9".parse().unwrap());
    swarm.torrent.handle_mapped_port(Some(7_000));
    let public: SocketAddr = "198.51.100.7:6881".parse().unwrap();
    join(&mut swarm, 4, PeerInfo { addr: public, utp: true, ..peer(4) });
    for (to, error) in [
        ("0.0.0.0:1".parse().unwrap(), HolepunchError::NoSuchPeer),
        ("127.0.0.1:6881".parse().unwrap(), HolepunchError::NoSuchPeer),
        ("10.1.1.1:0".parse().unwrap(), HolepunchError::NoSuchPeer),
        (addr(70), HolepunchError::NotConnected),
        (addr(2), HolepunchError::NoSupport),
        (behind_nat(1).addr, HolepunchError::NoSelf),
        ("10.9.9.9:7000".parse().unwrap(), HolepunchError::NoSelf),
        // Who is on this side of a NAT is not reached from the other.
        (public, HolepunchError::NotConnected),
    ] {
        let answer = told(&say(&mut swarm, 1, Holepunch::Rendezvous(to)));
        assert_eq!(answer, [(1, Holepunch::Error(to, error))], "{to}");
    }
    // Who does not take part could not read an answer.
    let ask = Holepunch::Rendezvous(behind_nat(1).addr).encode();
    let actions = swarm.say(2, Message::Extended { id: Extension::Holepunch.local_id(), payload: ask });
    assert_eq!(sent(&actions).len(), 0);
}

#[test]
fn holepunch_relay_passes_on_so_many_and_nobody_is_made_to_dial_more() {
    let mut swarm = leecher();
    (1..=20).for_each(|n| join(&mut swarm, n, behind_nat(n)));
    let count = |swarm: &mut Swarm, from: u32, to: u32, times: usize| {
        let ask = Holepunch::Rendezvous(behind_nat(to).addr);
        let actions: Vec<Action> = (0..times).flat_map(|_| say(swarm, from, ask)).collect();
        told(&actions)
            .iter()
            .filter(|(n, message)| *n == to && matches!(message, Holepunch::Connect(_)))
            .count()
    };
    // One asks without end.
    assert_eq!(count(&mut swarm, 1, 2, 1_000), WISHES_BURST as usize);
    swarm.now += WISH_INTERVAL * 3;
    assert_eq!(count(&mut swarm, 1, 2, 1_000), 3);
    // Many want the same one.
    let introduced: usize = (4..=20).map(|n| count(&mut swarm, n, 3, 10)).sum();
    assert_eq!(introduced, WISHES_BURST as usize);
}

#[test]
fn holepunch_target_dials_at_once_unless_it_would_not_have_that_peer() {
    let mut swarm = leecher();
    join(&mut swarm, 1, peer(1));
    swarm.torrent.handle_own_ip("10.9.9.9".parse().unwrap());
    swarm.torrent.handle_mapped_port(Some(7_000));
    let filter = IpFilter::new(parse_line(b"10.0.0.61").unwrap());
    swarm.torrent.set_ip_filter(swarm.now, Arc::new(filter));
    swarm.verifies = false;
    let piece = swarm.connect_seed(63)[0].piece;
    swarm.serve(63, usize::MAX);
    swarm.verified(piece, PieceResult::Corrupt { digests: vec![[7; 20]] });
    let is_ban = |event: &Event| matches!(event, Event::PeerBanned { .. });
    assert!(swarm.events().iter().any(is_ban));
    swarm.disconnect(63);
    for unwanted in [
        addr(1),
        addr(61),
        addr(63),
        "127.0.0.1:6881".parse().unwrap(),
        "224.0.0.1:6881".parse().unwrap(),
        "10.9.9.9:7000".parse().unwrap(),
        "198.51.100.7:6881".parse().unwrap(),
        "10.0.0.62:0".parse().unwrap(),
    ] {
        let actions = say(&mut swarm, 1, Holepunch::Connect(unwanted));
        assert_eq!((told(&actions), punches(&actions)), (Vec::new(), Vec::new()), "{unwanted}");
    }
    assert_eq!(punches(&say(&mut swarm, 1, Holepunch::Connect(addr(60)))), [addr(60)]);

    // There is no place.
    let full = Config { holepunch: true, peers_max: 1, ..config() };
    let mut swarm = Swarm::new(full, Bitfield::empty(10), 1);
    join(&mut swarm, 1, peer(1));
    assert_eq!(punches(&say(&mut swarm, 1, Holepunch::Connect(addr(60)))), []);
}

#[test]
fn holepunch_target_is_made_to_dial_so_many_and_keeps_room_for_its_own() {
    let mut swarm = leecher();
    (1..=100).for_each(|n| join(&mut swarm, n, peer(n)));
    // One relay names one after the other.
    let named = (1_000..3_000).flat_map(|n| punches(&say(&mut swarm, 1, Holepunch::Connect(addr(n)))));
    let first: Vec<SocketAddr> = named.collect();
    assert_eq!(first.len(), PUNCHES_OF_RELAY_MAX);
    // So do all others, while these dials take their time.
    let by_others = |swarm: &mut Swarm| -> usize {
        (2..=100).map(|n| punches(&say(swarm, n, Holepunch::Connect(addr(5_000 + n)))).len()).sum()
    };
    assert_eq!(by_others(&mut swarm), PUNCHES_OF_OTHERS_MAX - first.len());
    // We still meet whom we want.
    let own = PUNCHES_MAX - PUNCHES_OF_OTHERS_MAX;
    for n in 200..200 + own as u32 {
        tell(&mut swarm, n - 180, &[(addr(n), PeerFlags::HOLEPUNCH)]);
        assert_eq!(told(&fail(&mut swarm, addr(n))), [(n - 180, Holepunch::Rendezvous(addr(n)))]);
    }
    first.iter().for_each(|addr| swarm.torrent.handle_punch_failed(swarm.now, *addr, NOT_REACHED));
    swarm.drain();
    assert_eq!(by_others(&mut swarm), first.len());
}

#[test]
fn holepunch_that_the_peer_ends_for_a_dial_of_its_own_comes_about_by_that() {
    for comes in [true, false] {
        let mut swarm = asked();
        say(&mut swarm, 1, Holepunch::Connect(addr(50)));
        swarm.torrent.handle_punch_failed(swarm.now, addr(50), Some(HolepunchFailure::Ended));
        swarm.pass(Duration::from_secs(1));
        if comes {
            swarm.connect_as(50, PeerInfo { utp: true, ..peer(50) });
            assert_eq!(successes(&mut swarm), [(addr(50), addr(1))]);
            continue;
        }
        assert_eq!(failures(&mut swarm), []);
        swarm.pass(PUNCH_PATIENCE);
        assert_eq!(failures(&mut swarm), [(addr(50), addr(1), HolepunchFailure::Ended)]);
    }
}

#[test]
fn holepunch_where_both_dials_get_through_is_one_connection() {
    // Theirs comes first: what we dial is given up before it says anything.
    let mut swarm = asked();
    say(&mut swarm, 1, Holepunch::Connect(addr(50)));
    swarm.connect_as(50, PeerInfo { utp: true, ..peer(50) });
    assert!(!swarm.torrent.is_punching(addr(50)));
    swarm.torrent.handle_punch_failed(swarm.now, addr(50), NOT_REACHED);
    assert_eq!(failures(&mut swarm), []);

    // Both have said something already: the lower peer id's dial stays, on both sides.
    for ours_is_lower in [true, false] {
        let mut swarm = asked();
        say(&mut swarm, 1, Holepunch::Connect(addr(50)));
        let id = if ours_is_lower { [9; 20] } else { [1; 20] };
        let info = PeerInfo { utp: true, peer_id: swarm_core::id::PeerId(id), ..peer(50) };
        swarm.connect_as(50, info.clone());
        let actions = swarm.connect_as(51, PeerInfo { inbound: false, ..info });
        let gone = closed(&actions);
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].0, if ours_is_lower { 50 } else { 51 });
        let left = swarm.torrent.peers().find(|peer| peer.key != PeerKey(1)).unwrap();
        assert!(left.was_punched());
        assert_eq!(successes(&mut swarm).len(), 1);
    }
}

#[test]
fn pex_tells_where_datagrams_come_from_and_who_takes_part_in_holepunching() {
    let mut swarm = leecher();
    join(&mut swarm, 1, behind_nat(1));
    join(&mut swarm, 2, behind_nat(2));
    join(&mut swarm, 3, PeerInfo { inbound: false, utp: true, ..peer(3) });
    swarm.connect_as(4, PeerInfo { inbound: false, ..peer(4) });
    // It was met by holepunching: nobody else can dial it.
    say(&mut swarm, 1, Holepunch::Connect(addr(5)));
    join(&mut swarm, 5, PeerInfo { inbound: false, utp: true, ..peer(5) });
    let actions = swarm.pass(Duration::from_secs(1));
    let read = |message: &&Message| match message {
        Message::Extended { id: PEX_ID, payload } => PeerExchange::decode(payload).ok(),
        _ => None,
    };
    let mut added: Vec<_> =
        sent_to(&actions, 1).iter().filter_map(read).flat_map(|message| message.added).collect();
    added.sort_by_key(|(addr, _)| *addr);
    let punch = PeerFlags::HOLEPUNCH | PeerFlags::UTP;
    assert_eq!(
        added,
        [
            (behind_nat(2).addr, punch),
            (addr(3), punch | PeerFlags::REACHABLE),
            (addr(4), PeerFlags::REACHABLE),
            (addr(5), punch),
        ]
    );
}

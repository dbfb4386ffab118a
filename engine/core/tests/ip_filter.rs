//! Address filters: whom a torrent and a node of the DHT have nothing to do with.

mod common;

use common::*;
use std::net::SocketAddr;
use std::sync::Arc;
use swarm_core::bitfield::Bitfield;
use swarm_core::dht::{Node, NodeConfig, NodeId};
use swarm_core::ip_filter::{IpFilter, parse_line};
use swarm_core::net::Family;
use swarm_core::peer::PeerInfo;
use swarm_core::rng::Rng;
use swarm_core::time::Duration;
use swarm_core::torrent::discovery::Origin;
use swarm_core::torrent::{Action, CloseReason, Config};
use swarm_core::wire::Message;
use swarm_core::wire::exchange::{PeerExchange, PeerFlags};
use swarm_core::wire::extension::{Extension, ExtensionHandshake};

/// Blocks peers 10 to 19.
fn filter() -> Arc<IpFilter> {
    Arc::new(IpFilter::new(parse_line(b"10.0.0.10-10.0.0.19").unwrap()))
}

fn know(swarm: &mut Swarm, addrs: &[SocketAddr], origin: Origin) -> Vec<Action> {
    swarm.torrent.handle_addresses(swarm.now, addrs, origin);
    swarm.drain()
}

/// Why peer `n` was closed, if it was.
fn why_closed(actions: &[Action], n: u32) -> Option<CloseReason> {
    closed(actions).into_iter().find(|(peer, _)| *peer == n).map(|(_, reason)| reason)
}

fn leecher() -> Swarm {
    Swarm::new(Config { exchange: true, ..config() }, Bitfield::empty(10), 1)
}

fn filtered() -> Swarm {
    let mut swarm = leecher();
    swarm.torrent.set_ip_filter(swarm.now, filter());
    swarm
}

#[test]
fn addresses_of_all_origins_are_filtered_and_counted() {
    let by = addr(500).ip();
    let origins = [
        Origin::User,
        Origin::Found,
        Origin::Tracker(by),
        Origin::Dht(by),
        Origin::Local(by),
        Origin::Peer(by),
    ];
    for origin in origins {
        let mut swarm = filtered();
        let actions = know(&mut swarm, &[addr(10), addr(19), addr(20)], origin);
        assert_eq!(dialled(&actions), [addr(20)], "{origin:?}");
        assert_eq!(swarm.torrent.take_addresses_blocked(), 2, "{origin:?}");
    }
}

#[test]
fn addresses_from_pex_are_filtered() {
    let mut swarm = filtered();
    swarm.connect_as(1, PeerInfo { inbound: false, ..peer(1) });
    let ids = [(Extension::PeerExchange, 9)].into();
    swarm.say_hello(1, ExtensionHandshake { ids, ..ExtensionHandshake::default() });
    let added = [10, 20].map(|n| (addr(n), PeerFlags::default())).to_vec();
    let payload = PeerExchange { added, dropped: Vec::new() }.encode();
    let actions = swarm.say(1, Message::Extended { id: Extension::PeerExchange.local_id(), payload });
    assert_eq!(dialled(&actions), [addr(20)]);
}

#[test]
fn who_comes_from_a_blocked_address_is_refused() {
    let mut swarm = filtered();
    let actions = swarm.connect(15);
    assert_eq!(why_closed(&actions, 15), Some(CloseReason::Blocked));
    assert_eq!(swarm.torrent.peers().count(), 0);
}

#[test]
fn a_new_filter_closes_connections_and_forgets_addresses() {
    let mut swarm = leecher();
    (11..=20).for_each(|n| drop(swarm.connect(n)));
    // One that waits for its next turn, and one that is being dialled.
    let dials = know(&mut swarm, &[addr(10)], Origin::User);
    assert_eq!(dialled(&dials), [addr(10)]);
    swarm.torrent.set_ip_filter(swarm.now, filter());
    let actions = swarm.drain();
    assert_eq!(why_closed(&actions, 11), Some(CloseReason::Blocked));
    assert_eq!(swarm.torrent.peers().map(|peer| peer.key.0).collect::<Vec<_>>(), [20]);
    swarm.torrent.handle_connect_failed(swarm.now, addr(10));
    assert_eq!(dialled(&swarm.pass(Duration::from_secs(30))), []);

    // A filter that blocks nobody lets them in again.
    swarm.torrent.set_ip_filter(swarm.now, Arc::default());
    assert_eq!(why_closed(&swarm.connect(15), 15), None);
    assert_eq!(dialled(&know(&mut swarm, &[addr(10)], Origin::User)), [addr(10)]);
}

fn ping_from(node: &mut Node, from: SocketAddr) -> usize {
    let ping = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";
    node.handle_datagram(START, from, ping);
    std::iter::from_fn(|| node.poll_datagram()).filter(|(to, _)| *to == from).count()
}

#[test]
fn a_node_of_the_dht_neither_asks_nor_answers_blocked_addresses() {
    let config = NodeConfig {
        id_v4: Some(NodeId(*b"mnopqrstuvwxyz123456")),
        id_v6: None,
        secret: [3; 16],
        read_only: false,
        enforce_ids: false,
        ip_filter: Arc::default(),
    };
    let mut node = Node::new(START, config, Rng::new(1));
    let (blocked, other) = (addr(10), addr(20));
    assert!(ping_from(&mut node, blocked) > 0);
    node.set_ip_filter(filter());
    assert_eq!(ping_from(&mut node, blocked), 0);
    assert!(ping_from(&mut node, other) > 0);
    node.ping(START, addr(11));
    node.join(START, &[addr(12), addr(21)]);
    let asked: Vec<SocketAddr> = std::iter::from_fn(|| node.poll_datagram()).map(|(to, _)| to).collect();
    assert!(asked.contains(&addr(21)), "{asked:?}");
    assert!(asked.iter().all(|to| !filter().is_blocked(to.ip())), "{asked:?}");
    assert!(node.nodes(Family::V4).iter().all(|info| !filter().is_blocked(info.addr.ip())));
}

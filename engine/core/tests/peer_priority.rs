//! The order of peers (BEP 40) at work: who is dialled first, and who gives way when there are too many.

use std::net::{IpAddr, SocketAddr};
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::{BLOCK_LEN, Geometry};
use swarm_core::id::{InfoHash, PeerId, PeerKey, PieceIndex};
use swarm_core::net::peer_priority;
use swarm_core::peer::PeerInfo;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::discovery::Origin;
use swarm_core::torrent::{Action, CloseReason, Config, Torrent};
use swarm_core::wire::Message;
use swarm_core::wire::extension::{EXTENSION_HANDSHAKE_ID, ExtensionHandshake};

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

struct Script {
    net: Net,
    torrent: Torrent,
    now: Time,
}

impl Script {
    /// A torrent with half of the pieces, so that whoever connects may have something for us, and want something.
    fn new(net: Net, ranked: bool) -> Script {
        let geometry = Geometry::new(u64::from(10 * BLOCK_LEN), u64::from(BLOCK_LEN)).unwrap();
        let mut have = Bitfield::empty(10);
        for n in 0..5 {
            have.insert(PieceIndex(n));
        }
        let config = Config {
            canonical_priority: ranked,
            peers_max: PEERS_MAX,
            peers_wanted: PEERS_MAX,
            listen_port: Some(PORT),
            half_open_max: 100,
            ..Config::new(InfoHash([1; 20]), PeerId([0; 20]), 42)
        };
        let torrent = Torrent::new(config, geometry, have);
        Script { net, torrent, now: Time::from_micros(1) }
    }

    /// Connects a peer; who was closed for it, and why.
    fn connect(&mut self, n: u16, inbound: bool) -> Vec<(u32, CloseReason)> {
        let mut peer_id = [1; 20];
        peer_id[..2].copy_from_slice(&n.to_be_bytes());
        let info = PeerInfo {
            addr: self.net.addr(n),
            inbound,
            peer_id: PeerId(peer_id),
            fast: true,
            extended: true,
        };
        self.torrent.handle_connected(self.now, PeerKey(n.into()), info);
        self.closed()
    }

    /// A peer says where it sees us.
    fn seen_by(&mut self, n: u16, your_ip: IpAddr) {
        let hello = ExtensionHandshake { your_ip: Some(your_ip), ..ExtensionHandshake::default() };
        let message = Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload: hello.encode() };
        self.torrent.handle_message(self.now, PeerKey(n.into()), &message);
    }

    fn closed(&mut self) -> Vec<(u32, CloseReason)> {
        self.torrent.check_invariants();
        let closed = |action| match action {
            Action::Close { peer, reason } => Some((peer.0, reason)),
            _ => None,
        };
        std::iter::from_fn(|| self.torrent.poll_action()).filter_map(closed).collect()
    }

    fn dialled(&mut self, numbers: std::ops::Range<u16>) -> Vec<SocketAddr> {
        let addrs: Vec<SocketAddr> = numbers.map(|n| self.net.addr(n)).collect();
        self.torrent.handle_addresses(self.now, &addrs, Origin::Tracker("192.0.2.1".parse().unwrap()));
        let dialled = |action| match action {
            Action::Connect(dial) => Some(dial.addr),
            _ => None,
        };
        std::iter::from_fn(|| self.torrent.poll_action()).filter_map(dialled).collect()
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_secs(1);
            self.torrent.handle_timeout(self.now);
        }
    }
}

/// A torrent that is full, knows where it is, and holds its connections for long enough; and its peers, the highest first.
fn full(net: Net, ranked: bool) -> (Script, Vec<u16>) {
    let mut script = Script::new(net, ranked);
    script.torrent.handle_own_ip(net.ours());
    let here = net.by_priority(100..100 + PEERS_MAX as u16);
    for n in &here {
        assert_eq!(script.connect(*n, true), []);
        // Somebody who might give us something.
        script.torrent.handle_message(script.now, PeerKey((*n).into()), &Message::HaveAll);
        assert_eq!(script.closed(), []);
    }
    script.pass(Duration::from_secs(61));
    (script, here)
}

fn who_comes_first_is_dialled_first(net: Net) {
    let mut script = Script::new(net, true);
    script.torrent.handle_own_ip(net.ours());
    let expected: Vec<SocketAddr> =
        net.by_priority(0..200)[..PEERS_MAX].iter().map(|n| net.addr(*n)).collect();
    assert_eq!(script.dialled(0..200), expected);
}

fn several_peers_tell_where_we_are(net: Net) {
    let mut script = Script::new(net, true);
    // Whose word alone is nothing.
    for _ in 0..20 {
        script.connect(1, true);
        script.seen_by(1, net.addr(999).ip());
        script.torrent.handle_disconnected(script.now, PeerKey(1));
    }
    for n in 2..8 {
        script.connect(n, true);
        script.seen_by(n, net.ours());
    }
    (2..8).for_each(|n| script.torrent.handle_disconnected(script.now, PeerKey(n)));
    script.closed();
    let expected: Vec<SocketAddr> =
        net.by_priority(100..300)[..PEERS_MAX].iter().map(|n| net.addr(*n)).collect();
    assert_eq!(script.dialled(100..300), expected);
}

fn the_lowest_gives_way_to_a_higher_one(net: Net) {
    let (mut script, here) = full(net, true);
    let (lowest, second) = (here[PEERS_MAX - 1], here[PEERS_MAX - 2]);
    let newcomers = net.by_priority(200..400);
    let below = *newcomers.iter().rev().find(|n| net.priority(**n) < net.priority(lowest)).unwrap();
    assert_eq!(script.connect(below, true), [(below.into(), CloseReason::TooManyPeers)]);
    let highest = newcomers[0];
    assert_eq!(script.connect(highest, false), [(highest.into(), CloseReason::TooManyPeers)], "we dialled");
    assert_eq!(script.connect(highest, true), [(lowest.into(), CloseReason::Evicted)]);
    assert_eq!(script.connect(newcomers[1], true), [(second.into(), CloseReason::Evicted)]);
    assert_eq!(script.torrent.peers().count(), PEERS_MAX);
}

fn whoever_exchanges_data_or_is_new_stays(net: Net) {
    let (mut script, here) = full(net, true);
    // Each takes from us, but for the highest of them.
    for n in &here[1..] {
        script.torrent.handle_message(script.now, PeerKey((*n).into()), &Message::Interested);
        assert_eq!(script.closed(), []);
    }
    let newcomers = net.by_priority(200..600);
    assert!(net.priority(newcomers[1]) > net.priority(here[0]));
    let unchoked = script.torrent.peers().filter(|peer| !peer.flags.am_choking).count();
    assert!(unchoked > 0);
    let may_go: Vec<u32> =
        script.torrent.peers().filter(|peer| peer.flags.am_choking).map(|peer| peer.key.0).collect();
    for newcomer in &newcomers[..may_go.len()] {
        let [(gone, CloseReason::Evicted)] = script.connect(*newcomer, true)[..] else {
            panic!("somebody has to go");
        };
        assert!(may_go.contains(&gone), "{gone} was given data");
    }
    // Everybody who is left takes from us or is new.
    let one_more = newcomers[may_go.len()];
    assert_eq!(script.connect(one_more, true), [(one_more.into(), CloseReason::TooManyPeers)]);
}

fn without_an_order_nobody_gives_way(net: Net) {
    let (mut script, _) = full(net, false);
    let highest = net.by_priority(200..400)[0];
    assert_eq!(script.connect(highest, true), [(highest.into(), CloseReason::TooManyPeers)]);
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
    who_comes_first_is_dialled_first,
    several_peers_tell_where_we_are,
    the_lowest_gives_way_to_a_higher_one,
    whoever_exchanges_data_or_is_new_stays,
    without_an_order_nobody_gives_way,
];

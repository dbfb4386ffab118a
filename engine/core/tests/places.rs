//! Whose connection stays when places are short, and who is the same peer.

use std::net::{IpAddr, SocketAddr};
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::{BLOCK_LEN, Geometry};
use swarm_core::id::{InfoHash, PeerId, PeerKey};
use swarm_core::peer::PeerInfo;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::discovery::Origin;
use swarm_core::torrent::places::{SILENT_MAX, USELESS_MAX};
use swarm_core::torrent::{Action, CloseReason, Config, Torrent};
use swarm_core::wire::Message;
use swarm_core::wire::extension::{EXTENSION_HANDSHAKE_ID, ExtensionHandshake};

const PIECES: u32 = 10;
const OUR_ID: PeerId = PeerId([5; 20]);

struct Script {
    torrent: Torrent,
    now: Time,
    next: u32,
}

impl Script {
    fn new(have: Bitfield) -> Script {
        let geometry = Geometry::new(u64::from(PIECES * BLOCK_LEN), u64::from(BLOCK_LEN)).unwrap();
        let config = Config::new(InfoHash([1; 20]), OUR_ID, 42);
        Script { torrent: Torrent::new(config, geometry, have), now: Time::from_micros(1), next: 0 }
    }

    fn seed() -> Script {
        Script::new(Bitfield::full(PIECES))
    }

    fn leecher() -> Script {
        Script::new(Bitfield::empty(PIECES))
    }

    /// Somebody connects; its key, and who was closed.
    fn connect(
        &mut self,
        from: &str,
        peer_id: PeerId,
        inbound: bool,
    ) -> (PeerKey, Vec<(PeerKey, CloseReason)>) {
        self.next += 1;
        let (key, addr) = (PeerKey(self.next), SocketAddr::new(from.parse().unwrap(), 6881));
        let info = PeerInfo { addr, inbound, peer_id, fast: true, extended: true };
        self.torrent.handle_connected(self.now, key, info);
        (key, self.drain().0)
    }

    /// A stranger of its own dials us.
    fn arrive(&mut self, from: &str) -> (PeerKey, Vec<(PeerKey, CloseReason)>) {
        let mut peer_id = [7; 20];
        peer_id[..4].copy_from_slice(&self.next.to_be_bytes());
        self.connect(from, PeerId(peer_id), true)
    }

    fn say(&mut self, key: PeerKey, message: Message) -> Vec<(PeerKey, CloseReason)> {
        self.now += Duration::from_micros(1);
        self.torrent.handle_message(self.now, key, &message);
        self.drain().0
    }

    fn names(&mut self, key: PeerKey, ip: &str) -> Vec<(PeerKey, CloseReason)> {
        let mut hello = ExtensionHandshake::default();
        match ip.parse().unwrap() {
            IpAddr::V4(ip) => hello.ipv4 = Some(ip),
            IpAddr::V6(ip) => hello.ipv6 = Some(ip),
        }
        self.say(key, Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload: hello.encode() })
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.torrent.handle_timeout(self.now);
        self.drain();
    }

    /// Who was closed, and who was dialled.
    fn drain(&mut self) -> (Vec<(PeerKey, CloseReason)>, Vec<SocketAddr>) {
        self.torrent.check_invariants();
        let (mut closed, mut dialled) = (Vec::new(), Vec::new());
        while let Some(action) = self.torrent.poll_action() {
            match action {
                Action::Close { peer, reason } => closed.push((peer, reason)),
                Action::Connect(dial) => dialled.push(dial.addr),
                _ => {}
            }
        }
        (closed, dialled)
    }

    fn is_here(&self, key: PeerKey) -> bool {
        self.torrent.peer(key).is_some()
    }
}

/// A thousand connect from the addresses that `attacker` gives and say nothing. Then somebody honest does, and asks.
fn silent_ones_keep_nobody_out(attacker: impl Fn(u32) -> String, honest: &str, after: Duration) {
    let mut script = Script::seed();
    for n in 0..1_000 {
        script.arrive(&attacker(n));
    }
    assert_eq!(script.torrent.peers().count(), 100);
    script.pass(after);
    let (key, _) = script.arrive(honest);
    assert!(script.is_here(key), "{honest} beside {}", attacker(0));
    script.say(key, Message::HaveNone);
    script.say(key, Message::Interested);
    // They come again.
    for n in 1_000..3_000 {
        script.arrive(&attacker(n));
    }
    assert!(script.is_here(key), "{honest} stays");
    assert_eq!(script.torrent.peers().count(), 100);
}

#[test]
fn silent_connections_of_one_address_or_network_keep_nobody_out_for_any_time() {
    let at_once = Duration::ZERO;
    silent_ones_keep_nobody_out(|_| "198.51.100.7".to_owned(), "203.0.113.9", at_once);
    silent_ones_keep_nobody_out(|_| "127.0.0.66".to_owned(), "127.0.0.9", at_once);
    silent_ones_keep_nobody_out(|n| format!("198.51.100.{}", n % 250), "203.0.113.9", at_once);
    silent_ones_keep_nobody_out(|n| format!("2001:db8::{n:x}"), "2001:db8:0:1::9", at_once);
}

#[test]
fn silent_connections_from_everywhere_keep_nobody_out_for_long() {
    silent_ones_keep_nobody_out(|n| format!("10.{}.{}.1", n >> 8, n & 255), "203.0.113.9", SILENT_MAX);
    silent_ones_keep_nobody_out(|_| "127.0.0.1".to_owned(), "127.0.0.1", SILENT_MAX);
}

#[test]
fn a_whole_swarm_at_one_address_is_served_while_there_is_room() {
    let mut script = Script::seed();
    for _ in 0..100 {
        let (key, closed) = script.arrive("192.0.2.1");
        assert_eq!(closed, []);
        script.say(key, Message::HaveNone);
        script.say(key, Message::Interested);
    }
    // The next of them finds no place, since nobody there is worse.
    let (key, closed) = script.arrive("192.0.2.1");
    assert_eq!(closed, [(key, CloseReason::TooManyPeers)]);
    // Somebody from elsewhere does.
    let (key, closed) = script.arrive("203.0.113.9");
    assert!(script.is_here(key));
    assert_eq!(closed[0].1, CloseReason::Crowded);
}

#[test]
fn whoever_wants_nothing_for_long_gives_way() {
    let mut script = Script::leecher();
    let first = script.arrive("10.0.0.1").0;
    script.say(first, Message::HaveNone);
    for n in 1..100 {
        let (key, _) = script.arrive(&format!("10.0.{n}.1"));
        script.say(key, Message::HaveAll);
    }
    let refused = |script: &mut Script| {
        let (key, closed) = script.arrive("203.0.113.9");
        closed == [(key, CloseReason::TooManyPeers)]
    };
    assert!(refused(&mut script));
    script.pass(USELESS_MAX);
    assert!(!refused(&mut script));
    assert!(!script.is_here(first));
}

#[test]
fn those_who_dial_us_and_say_nothing_do_not_keep_us_from_dialling() {
    let mut script = Script::leecher();
    (0..1_000).for_each(|_| drop(script.arrive("198.51.100.7")));
    let honest: SocketAddr = "203.0.113.9:6881".parse().unwrap();
    script.torrent.handle_addresses(script.now, &[honest], Origin::Tracker("192.0.2.1".parse().unwrap()));
    assert_eq!(script.drain().1, [honest]);
    let (key, _) = script.connect("203.0.113.9", PeerId([8; 20]), false);
    assert!(script.is_here(key));
}

#[test]
fn a_peer_id_is_nobodys_who_is_not_at_the_same_address() {
    let theirs = PeerId([9; 20]);
    for inbound in [false, true] {
        // The attacker comes first, from elsewhere: the peer itself is let in all the same.
        let mut script = Script::leecher();
        let attacker = script.connect("198.51.100.7", theirs, true).0;
        let (peer, closed) = script.connect("203.0.113.9", theirs, inbound);
        assert_eq!(closed, []);
        assert!(script.is_here(attacker) && script.is_here(peer));
        // It comes later, whichever side dialled: the peer's connection stands.
        for (id, inbound) in [(theirs, true), (theirs, false)] {
            script.connect("198.51.100.8", id, inbound);
            assert!(script.is_here(peer), "displaced");
        }
    }
}

#[test]
fn a_second_connection_of_the_same_peer_is_refused() {
    let mut script = Script::leecher();
    let (first, _) = script.connect("203.0.113.9", PeerId([9; 20]), true);
    let (second, closed) = script.connect("::ffff:203.0.113.9", PeerId([9; 20]), true);
    assert_eq!(closed, [(second, CloseReason::Duplicate)]);
    assert!(script.is_here(first));
}

#[test]
fn where_both_dialled_both_keep_what_the_lower_peer_id_dialled() {
    for (their_id, they_are_lower) in [(PeerId([1; 20]), true), (PeerId([9; 20]), false)] {
        for inbound_first in [true, false] {
            let mut script = Script::leecher();
            let first = script.connect("203.0.113.9", their_id, inbound_first).0;
            let second = script.connect("203.0.113.9", their_id, !inbound_first).0;
            let kept = if inbound_first == they_are_lower { first } else { second };
            assert!(script.is_here(kept) && script.torrent.peers().count() == 1);
        }
    }
}

const V4: &str = "203.0.113.9";
const V6: &str = "2001:db8::9";

#[test]
fn a_peer_with_two_families_is_found_out_by_what_it_says_on_both() {
    for v4_first in [true, false] {
        let mut script = Script::leecher();
        let ips = if v4_first { [V4, V6] } else { [V6, V4] };
        let first = script.connect(ips[0], PeerId([9; 20]), true).0;
        assert_eq!(script.names(first, ips[1]), []);
        let second = script.connect(ips[1], PeerId([9; 20]), true).0;
        assert!(script.is_here(second), "not before it says so too");
        let over_v4 = if v4_first { first } else { second };
        assert_eq!(script.names(second, ips[0]), [(over_v4, CloseReason::Duplicate)]);
        assert_eq!(script.torrent.peers().count(), 1);
    }
}

#[test]
fn no_stranger_can_say_that_it_is_a_peers_other_family() {
    let theirs = PeerId([9; 20]);
    // The peer has only one family, or another address than the stranger's.
    for other in [None, Some("2001:db8::77")] {
        let mut script = Script::leecher();
        let peer = script.connect(V4, theirs, true).0;
        other.into_iter().for_each(|other| assert_eq!(script.names(peer, other), []));
        let stranger = script.connect("2001:db8:666::1", theirs, true).0;
        assert_eq!(script.names(stranger, V4), []);
        assert!(script.is_here(peer) && script.is_here(stranger));
    }
    // A stranger that was there first and names the peer's address does not keep it out.
    let mut script = Script::leecher();
    let stranger = script.connect("198.51.100.7", theirs, true).0;
    script.names(stranger, V6);
    let peer = script.connect(V6, theirs, true).0;
    assert_eq!(script.names(peer, V4), []);
    assert!(script.is_here(peer));
}

#[test]
fn we_name_our_own_address_of_the_other_family() {
    let mut script = Script::leecher();
    script.torrent.handle_own_ip("192.0.2.50".parse().unwrap());
    let info = |ip: &str| PeerInfo {
        addr: SocketAddr::new(ip.parse().unwrap(), 6881),
        inbound: true,
        peer_id: PeerId([9; 20]),
        fast: true,
        extended: true,
    };
    let mut named = |key, ip: &str| {
        script.torrent.handle_connected(script.now, PeerKey(key), info(ip));
        let actions: Vec<Action> = std::iter::from_fn(|| script.torrent.poll_action()).collect();
        let hello = actions.iter().find_map(|action| match action {
            Action::Send { message: Message::Extended { payload, .. }, .. } => {
                ExtensionHandshake::decode(payload).ok()
            }
            _ => None,
        });
        let hello = hello.unwrap();
        (hello.ipv4, hello.ipv6)
    };
    assert_eq!(named(1, V6), (Some("192.0.2.50".parse().unwrap()), None));
    assert_eq!(named(2, V4), (None, None));
}

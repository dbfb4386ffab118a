//! What peers are told of each other, and what is believed of what they tell.

use std::net::SocketAddr;
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::{BLOCK_LEN, Geometry};
use swarm_core::id::{InfoHash, PeerId, PeerKey};
use swarm_core::peer::PeerInfo;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::exchange::{EXCHANGE_INTERVAL, EXCHANGE_INTERVAL_MIN};
use swarm_core::torrent::{Action, Config, Torrent};
use swarm_core::wire::Message;
use swarm_core::wire::exchange::{EXCHANGED_MAX, PeerExchange, PeerFlags};
use swarm_core::wire::extension::{EXTENSION_HANDSHAKE_ID, Extension, ExtensionHandshake};

const THEIR_ID: u8 = 9;

struct Script {
    torrent: Torrent,
    now: Time,
}

fn addr(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 6881))
}

impl Script {
    fn new(exchange: bool) -> Script {
        let geometry = Geometry::new(u64::from(10 * BLOCK_LEN), u64::from(BLOCK_LEN)).unwrap();
        let config =
            Config { exchange, peers_max: 300, ..Config::new(InfoHash([1; 20]), PeerId([9; 20]), 42) };
        let torrent = Torrent::new(config, geometry, Bitfield::empty(10));
        Script { torrent, now: Time::from_micros(1) }
    }

    /// Connects a peer at [`addr`] that takes part if `exchanges`; what it is told at once.
    fn connect(&mut self, key: u16, inbound: bool, exchanges: bool) -> Vec<Message> {
        let mut peer_id = [0; 20];
        peer_id[..2].copy_from_slice(&key.to_be_bytes());
        let info =
            PeerInfo { addr: addr(key), inbound, peer_id: PeerId(peer_id), fast: true, extended: true };
        self.torrent.handle_connected(self.now, PeerKey(key.into()), info);
        let hello = ExtensionHandshake {
            ids: if exchanges { [(Extension::PeerExchange, THEIR_ID)].into() } else { Default::default() },
            ..ExtensionHandshake::default()
        };
        self.say(key, EXTENSION_HANDSHAKE_ID, hello.encode());
        self.drain().0.into_iter().map(|(_, message)| message).collect()
    }

    fn say(&mut self, key: u16, id: u8, payload: Vec<u8>) {
        self.torrent.handle_message(self.now, PeerKey(key.into()), &Message::Extended { id, payload });
    }

    /// Has a peer tell of others; who is dialled for it.
    fn exchange(&mut self, key: u16, added: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
        let added = added.into_iter().map(|addr| (addr, PeerFlags::default())).collect();
        let message = PeerExchange { added, dropped: Vec::new() };
        self.say(key, Extension::PeerExchange.local_id(), message.encode());
        self.drain().1
    }

    /// Messages sent, and addresses dialled.
    fn drain(&mut self) -> (Vec<(PeerKey, Message)>, Vec<SocketAddr>) {
        self.torrent.check_invariants();
        let (mut sent, mut dialled) = (Vec::new(), Vec::new());
        while let Some(action) = self.torrent.poll_action() {
            match action {
                Action::Send { peer, message } => sent.push((peer, message)),
                Action::Connect(dial) => dialled.push(dial.addr),
                _ => {}
            }
        }
        (sent, dialled)
    }

    /// Lets time pass; what this peer is told of others, and when.
    fn told(&mut self, key: u16, time: Duration) -> Vec<(Time, PeerExchange)> {
        let (end, mut told) = (self.now + time, Vec::new());
        while self.now < end {
            self.now += Duration::from_secs(1);
            let here: Vec<PeerKey> = self.torrent.peers().map(|peer| peer.key).collect();
            for key in here {
                self.torrent.handle_message(self.now, key, &Message::KeepAlive);
            }
            self.torrent.handle_timeout(self.now);
            for (peer, message) in self.drain().0 {
                if let Message::Extended { id: THEIR_ID, payload } = message
                    && peer == PeerKey(key.into())
                {
                    told.push((self.now, PeerExchange::decode(&payload).unwrap()));
                }
            }
        }
        told
    }
}

#[test]
fn peers_are_told_of_each_other_a_minute_apart_and_a_few_at_a_time() {
    let mut script = Script::new(true);
    script.connect(1, false, true);
    for key in 2..=150 {
        script.connect(key, false, false);
    }
    // One that dialled us and does not say where it listens is nobody's business.
    script.connect(200, true, false);
    let told = script.told(1, Duration::from_secs(200));
    assert!(told.is_sorted_by(|a, b| b.0.since(a.0) >= EXCHANGE_INTERVAL));
    assert!(told.iter().all(|(_, message)| message.added.len() <= EXCHANGED_MAX));
    let mut named: Vec<SocketAddr> = told.iter().flat_map(|(_, m)| &m.added).map(|(addr, _)| *addr).collect();
    named.sort();
    assert_eq!(named, (2..=150).map(addr).collect::<Vec<_>>());
    assert!(told.iter().all(|(_, m)| m.added.iter().all(|(_, flags)| *flags == PeerFlags::REACHABLE)));
    for key in 2..=60 {
        script.torrent.handle_disconnected(script.now, PeerKey(key));
    }
    let told = script.told(1, Duration::from_secs(200));
    let gone: Vec<usize> = told.iter().map(|(_, message)| message.dropped.len()).collect();
    assert_eq!(gone, [EXCHANGED_MAX, 59 - EXCHANGED_MAX]);
}

#[test]
fn what_a_peer_tells_is_checked_and_rationed() {
    let mut script = Script::new(true);
    script.connect(1, false, true);
    let bad = ["127.0.0.1:6881", "[::1]:6881", "224.0.0.1:1", "10.9.9.9:0", "0.0.0.0:1"];
    let flood = bad.iter().map(|text| text.parse().unwrap()).chain((1_000..9_000).map(addr));
    let dialled = script.exchange(1, flood);
    assert!(
        !dialled.is_empty() && dialled.iter().all(|a| (1_000..1_050).any(|n| addr(n) == *a)),
        "{dialled:?}"
    );
    for failed in dialled {
        script.torrent.handle_connect_failed(script.now, failed);
    }
    script.drain();
    // Too soon.
    let more = script.exchange(1, [addr(9_001)]);
    script.now += EXCHANGE_INTERVAL_MIN;
    let later = script.exchange(1, [addr(9_002)]);
    script.told(1, Duration::from_secs(60));
    assert!(!more.contains(&addr(9_001)));
    let known = |script: &mut Script, a| {
        // An address that is known already is not dialled for being told of again.
        script.now += EXCHANGE_INTERVAL_MIN;
        script.exchange(1, [a]).is_empty()
    };
    assert!(later.contains(&addr(9_002)) || known(&mut script, addr(9_002)));
}

#[test]
fn who_takes_no_part_is_neither_told_nor_believed() {
    let mut script = Script::new(false);
    let greeting = script.connect(1, false, true);
    let hello = greeting.iter().find_map(|message| match message {
        Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload } => ExtensionHandshake::decode(payload).ok(),
        _ => None,
    });
    assert!(!hello.unwrap().ids.contains_key(&Extension::PeerExchange));
    script.connect(2, false, true);
    assert_eq!(script.told(1, Duration::from_secs(120)), []);
    assert_eq!(script.exchange(1, [addr(3)]), []);
}

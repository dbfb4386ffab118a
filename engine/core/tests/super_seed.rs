//! A seed that is the only copy (BEP 16): what it shows to whom, and when it stops hiding.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::{BLOCK_LEN, Geometry};
use swarm_core::id::{BlockRef, InfoHash, PeerId, PeerKey, PieceIndex};
use swarm_core::peer::PeerInfo;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::{Action, Config, Torrent};
use swarm_core::wire::Message;
use swarm_core::wire::extension::ExtensionHandshake;

const PIECES: u32 = 100;

struct Seed {
    torrent: Torrent,
    now: Time,
}

impl Seed {
    /// The only seed, with this many connected peers that have nothing and want everything.
    fn with_peers(count: u32) -> (Seed, Vec<PieceIndex>) {
        let geometry = Geometry::new(u64::from(PIECES * 2 * BLOCK_LEN), u64::from(2 * BLOCK_LEN)).unwrap();
        let mut config = Config::new(InfoHash([1; 20]), PeerId([0; 20]), 42);
        config.super_seeding = true;
        let torrent = Torrent::new(config, geometry, Bitfield::full(PIECES));
        let mut seed = Seed { torrent, now: Time::from_micros(1) };
        let told = (1..=count).map(|key| {
            let told = seed.told_on_connecting(key);
            assert_eq!(told.len(), 1, "one piece to begin with");
            seed.send(key, Message::HaveNone);
            seed.send(key, Message::Interested);
            // Those who may ask do, and get it.
            seed.send(key, Message::Request(BlockRef { piece: told[0], begin: 0, len: BLOCK_LEN }));
            seed.torrent.next_upload(seed.now, PeerKey(key));
            told[0]
        });
        let told = told.collect();
        (seed, told)
    }

    fn connect(&mut self, key: u32) -> Vec<Action> {
        self.connect_from([10, 0, 0, key as u8], key)
    }

    fn connect_from(&mut self, ip: [u8; 4], key: u32) -> Vec<Action> {
        let addr = SocketAddr::from((ip, 6881 + key as u16));
        let peer_id = PeerId([key as u8; 20]);
        let info = PeerInfo { addr, inbound: true, peer_id, fast: true, extended: true };
        self.torrent.handle_connected(self.now, PeerKey(key), info);
        self.drain()
    }

    fn told_on_connecting(&mut self, key: u32) -> Vec<PieceIndex> {
        let greeting = self.connect(key);
        let is_full = |a: &Action| matches!(a, Action::Send { message: Message::HaveAll, .. });
        assert!(!greeting.iter().any(is_full), "it hides what it has");
        told(&greeting, key)
    }

    fn send(&mut self, key: u32, message: Message) -> Vec<Action> {
        self.torrent.handle_message(self.now, PeerKey(key), &message);
        self.drain()
    }

    fn pass(&mut self, seconds: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.torrent.handle_timeout(self.now);
            actions.extend(self.drain());
        }
        actions
    }

    fn drain(&mut self) -> Vec<Action> {
        self.torrent.check_invariants();
        std::iter::from_fn(|| self.torrent.poll_action()).collect()
    }
}

/// The pieces that the peer hears of.
fn told(actions: &[Action], key: u32) -> Vec<PieceIndex> {
    let piece = |action: &Action| match action {
        Action::Send { peer, message: Message::Have(piece) } if *peer == PeerKey(key) => Some(*piece),
        _ => None,
    };
    actions.iter().filter_map(piece).collect()
}

fn upload_only(actions: &[Action]) -> Option<bool> {
    actions.iter().find_map(|action| match action {
        Action::Send { message: Message::Extended { id: 0, payload }, .. } => {
            ExtensionHandshake::decode(payload).unwrap().upload_only
        }
        _ => None,
    })
}

#[test]
fn each_peer_is_told_of_another_piece() {
    let (_, told) = Seed::with_peers(20);
    assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), 20, "{told:?}");
}

#[test]
fn whoever_passes_a_piece_on_hears_of_the_next_at_once() {
    let (mut seed, pieces) = Seed::with_peers(6);
    let got = seed.send(1, Message::Have(pieces[0]));
    assert_eq!(told(&got, 1), [], "nobody has it from this peer yet");
    assert_eq!(told(&seed.pass(1), 1), []);
    let passed_on = seed.send(2, Message::Have(pieces[0]));
    let next = told(&passed_on, 1);
    assert!(next.len() == 1 && !pieces.contains(&next[0]), "{next:?}");
}

#[test]
fn a_lone_peer_hears_of_everything_without_waiting() {
    let (mut seed, pieces) = Seed::with_peers(1);
    let mut new = pieces;
    let mut heard: BTreeSet<PieceIndex> = new.iter().copied().collect();
    let mut round_trips = 0;
    while heard.len() < PIECES as usize {
        let replies: Vec<Vec<PieceIndex>> =
            new.drain(..).map(|piece| told(&seed.send(1, Message::Have(piece)), 1)).collect();
        new.extend(replies.into_iter().flatten());
        heard.extend(&new);
        round_trips += 1;
        assert!(round_trips <= 7, "heard of {} after {round_trips} round trips", heard.len());
    }
}

#[test]
fn pieces_are_let_out_in_order_for_those_who_ask_in_order() {
    let (_, many) = Seed::with_peers(20);
    // A few are told of a second one as they are unchoked.
    assert!(many.is_sorted() && many[19] < PieceIndex(24), "{many:?}");
    let (mut seed, told_first) = Seed::with_peers(1);
    let mut heard = told_first;
    let mut got = 0;
    while heard.len() < PIECES as usize {
        // It gets them as it asks for them: in order.
        let piece = heard[got];
        heard.extend(told(&seed.send(1, Message::Have(piece)), 1));
        got += 1;
    }
    assert_eq!(heard, (0..PIECES).map(PieceIndex).collect::<Vec<_>>(), "alone with the seed, too");
}

#[test]
fn another_seed_ends_it() {
    let (mut seed, _) = Seed::with_peers(6);
    assert_eq!(upload_only(&seed.connect(7)), Some(false), "who seems to want nothing would be left");
    let actions = seed.send(7, Message::HaveAll);
    assert!(!seed.torrent.is_super_seeding());
    for key in 1..=6 {
        let rest = told(&actions, key).len();
        assert!(rest >= PIECES as usize - 2, "peer {key} hears of {rest} more");
    }
    assert_eq!(upload_only(&seed.connect(8)), Some(true));
}

#[test]
fn it_ends_as_soon_as_every_piece_is_elsewhere() {
    let (mut seed, _) = Seed::with_peers(6);
    for piece in (0..PIECES - 1).map(PieceIndex) {
        seed.send(1 + piece.0 % 6, Message::Have(piece));
    }
    seed.pass(2);
    assert!(seed.torrent.is_super_seeding(), "one piece is nowhere else");
    let last = seed.told_on_connecting(7);
    assert_eq!(last, [PieceIndex(PIECES - 1)]);
    seed.send(7, Message::Have(last[0]));
    seed.pass(1);
    assert!(!seed.torrent.is_super_seeding());
}

#[test]
fn who_has_passed_nothing_on_hears_of_more_only_while_the_uplink_idles() {
    for is_idle in [true, false] {
        let (mut seed, pieces) = Seed::with_peers(6);
        let ask = |seed: &mut Seed, key: u32| {
            let piece = pieces[key as usize - 1];
            for begin in [0, BLOCK_LEN] {
                seed.send(key, Message::Request(BlockRef { piece, begin, len: BLOCK_LEN }));
            }
        };
        ask(&mut seed, 1);
        let sent = std::iter::from_fn(|| seed.torrent.next_upload(seed.now, PeerKey(1))).count();
        assert_eq!(sent, 2, "it is unchoked");
        if !is_idle {
            ask(&mut seed, 2);
        }
        seed.send(1, Message::Have(pieces[0]));
        assert_eq!(told(&seed.pass(1), 1), [], "once may be chance");
        let mut heard = Vec::new();
        for _ in 0..2 {
            // The others still take something now and then.
            for key in 3..=6 {
                let block = BlockRef { piece: pieces[key as usize - 1], begin: BLOCK_LEN, len: BLOCK_LEN };
                seed.send(key, Message::Request(block));
                seed.torrent.next_upload(seed.now, PeerKey(key));
            }
            heard.extend(told(&seed.pass(1), 1));
        }
        // Of two at the most, since it asks for none of them.
        assert_eq!(!heard.is_empty(), is_idle, "while it idles: {is_idle}");
        assert!(heard.len() <= 2, "{heard:?}");
    }
}

#[test]
fn those_who_take_nothing_are_not_waited_for() {
    let (mut seed, _) = Seed::with_peers(0);
    for key in 1..=40 {
        seed.connect(key);
        seed.send(key, Message::Interested);
    }
    seed.pass(10);
    assert!(!seed.torrent.is_super_seeding(), "there is nobody to copy anything from");
}

#[test]
fn who_is_alone_beside_a_crowd_that_gets_nothing_hears_of_everything_without_waiting() {
    for asks in [false, true] {
        let (mut seed, _) = Seed::with_peers(0);
        for key in 1..=40 {
            let revealed = told(&seed.connect_from([10, 0, 1, 1], key), key)[0];
            seed.send(key, Message::Interested);
            if asks {
                // Two blocks on their way, of which it reads none.
                for begin in [0, BLOCK_LEN] {
                    seed.send(key, Message::Request(BlockRef { piece: revealed, begin, len: BLOCK_LEN }));
                }
                seed.torrent.next_upload(seed.now, PeerKey(key));
                seed.torrent.handle_upload_blocked(seed.now, PeerKey(key));
            }
        }
        let mut known = told(&seed.connect_from([10, 0, 2, 1], 50), 50);
        seed.send(50, Message::Interested);
        // It gets a slot as soon as the uplink has idled for a while.
        known.extend(told(&seed.pass(1), 50));
        for got in 0..PIECES as usize {
            assert!(got < known.len(), "{got} are all that it knows of after a second");
            known.extend(told(&seed.send(50, Message::Have(known[got])), 50));
        }
    }
}

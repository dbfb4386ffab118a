//! The search for metadata on a virtual clock, among peers of which some lie.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::{BLOCK_LEN, Geometry};
use swarm_core::id::{InfoHash, PeerId, PeerKey, PieceIndex};
use swarm_core::padding::Padding;
use swarm_core::peer::PeerInfo;
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::discovery::{Dial, Origin};
use swarm_core::torrent::metadata::{
    ASSEMBLIES_LEN_MAX, BITFIELDS_LEN_MAX, CLAIMED_MAX, Content, METADATA_LEN_MAX, PARALLEL_MAX,
    REQUESTS_PER_S_MAX,
};
use swarm_core::torrent::{Action, CloseReason, Config, Event, Torrent};
use swarm_core::wire::extension::{EXTENSION_HANDSHAKE_ID, Extension, ExtensionHandshake};
use swarm_core::wire::{Message, MetadataMessage, metadata_range};

const ROUND_TRIP: Duration = Duration::from_millis(20);
/// The number under which scripted peers take metadata messages.
const THEIR_ID: u8 = 7;

/// What a scripted peer does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Honest,
    /// Zeros, of this size.
    Garbage(u32),
    /// Claims this size, and answers nothing.
    Silent(u32),
    /// Claims this size, and answers each request with garbage after this time.
    Drips(u32, Duration),
    /// Rejects everything.
    Rejects,
    /// Claims one size, and then another in each piece.
    Wavers,
    /// Answers what was not asked and says everything twice.
    Chatters,
    /// Says that it has no metadata, and no pieces.
    Empty,
}

#[derive(Debug)]
enum Input {
    Connected(SocketAddr),
    Refused(SocketAddr),
    Message(PeerKey, Message),
}

struct World {
    now: Time,
    torrent: Torrent,
    metadata: Vec<u8>,
    /// By address: what it is, and from when on it is there.
    peers: BTreeMap<SocketAddr, (Kind, Time)>,
    open: BTreeMap<PeerKey, SocketAddr>,
    inputs: BTreeMap<(Time, u32), Input>,
    next: u32,
    requests: BTreeMap<SocketAddr, Vec<Time>>,
    closed: Vec<(SocketAddr, CloseReason)>,
    banned: Vec<SocketAddr>,
    fetched: Option<(Time, Vec<u8>)>,
    held_max: u64,
}

fn addr(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 6881))
}

impl World {
    fn new(len: usize) -> World {
        let mut metadata = vec![0; len];
        Rng::new(1).fill(&mut metadata);
        let info_hash = InfoHash(sha1(&metadata));
        let config = Config { peers_max: 50, exchange: true, ..Config::new(info_hash, PeerId([0; 20]), 2) };
        World {
            now: Time::from_micros(1),
            torrent: Torrent::without_metadata(config),
            metadata,
            peers: BTreeMap::new(),
            open: BTreeMap::new(),
            inputs: BTreeMap::new(),
            next: 0,
            requests: BTreeMap::new(),
            closed: Vec::new(),
            banned: Vec::new(),
            fetched: None,
            held_max: 0,
        }
    }

    /// A peer that is there from `seconds` on, and known from the start.
    fn with(mut self, kind: Kind, from: Duration) -> World {
        let addr = addr(self.peers.len() as u16 + 1);
        self.peers.insert(addr, (kind, self.now + from));
        self.torrent.handle_addresses(self.now, &[addr], Origin::Tracker("192.0.2.1".parse().unwrap()));
        self
    }

    fn later(&mut self, after: Duration, input: Input) {
        self.next += 1;
        self.inputs.insert((self.now + after, self.next), input);
    }

    fn drain(&mut self) {
        while let Some(action) = self.torrent.poll_action() {
            match action {
                Action::Connect(Dial { addr, .. }) => {
                    let is_there = self.peers.get(&addr).is_some_and(|(_, from)| *from <= self.now);
                    let input = if is_there { Input::Connected(addr) } else { Input::Refused(addr) };
                    self.later(ROUND_TRIP, input);
                }
                Action::Send { peer, message: Message::Extended { id: THEIR_ID, payload } } => {
                    self.on_request(peer, MetadataMessage::decode(&payload).unwrap().unwrap());
                }
                Action::Send { .. } => {}
                Action::Close { peer, reason } => {
                    let addr = self.open.remove(&peer).expect("an open connection");
                    self.closed.push((addr, reason));
                }
                other => panic!("{other:?}"),
            }
        }
        while let Some(event) = self.torrent.poll_event() {
            match event {
                Event::MetadataReceived(bytes) => self.fetched = Some((self.now, bytes)),
                Event::PeerBanned { addr, .. } => self.banned.push(addr),
                Event::PeerLeft { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        self.held_max = self.held_max.max(self.torrent.metadata_held());
    }

    fn on_request(&mut self, peer: PeerKey, request: MetadataMessage<'_>) {
        let MetadataMessage::Request(piece) = request else { panic!("{request:?}") };
        let addr = self.open[&peer];
        self.requests.entry(addr).or_default().push(self.now);
        let kind = self.peers[&addr].0;
        let real = self.metadata.len() as u32;
        let data = |total_size: u32, claimed: u32, garbage: bool| {
            let range = metadata_range(total_size, piece).expect("a piece of what was claimed");
            let bytes = if garbage { vec![0; range.len()] } else { self.metadata[range].to_vec() };
            MetadataMessage::Data { piece, total_size: claimed, bytes: &bytes }.encode()
        };
        let (payload, after) = match kind {
            Kind::Honest | Kind::Chatters => (data(real, real, false), ROUND_TRIP),
            Kind::Garbage(size) => (data(size, size, true), ROUND_TRIP),
            Kind::Drips(size, after) => (data(size, size, true), after),
            Kind::Wavers => (data(real, real + piece + 1, false), ROUND_TRIP),
            Kind::Rejects => (MetadataMessage::Reject(piece).encode(), ROUND_TRIP),
            Kind::Silent(_) | Kind::Empty => return,
        };
        if kind == Kind::Chatters {
            let unasked = MetadataMessage::Data { piece: piece + 100, total_size: real, bytes: b"x" };
            self.say(peer, ROUND_TRIP, unasked.encode());
            self.say(peer, ROUND_TRIP, payload.clone());
        }
        self.say(peer, after, payload);
    }

    fn say(&mut self, peer: PeerKey, after: Duration, payload: Vec<u8>) {
        let id = Extension::Metadata.local_id();
        self.later(after, Input::Message(peer, Message::Extended { id, payload }));
    }

    fn on_input(&mut self, input: Input) {
        match input {
            Input::Refused(addr) => self.torrent.handle_connect_failed(self.now, addr),
            Input::Connected(addr) => {
                self.next += 1;
                let key = PeerKey(self.next);
                let mut peer_id = [1; 20];
                peer_id[..4].copy_from_slice(&self.next.to_be_bytes());
                let info =
                    PeerInfo { addr, inbound: false, peer_id: PeerId(peer_id), fast: true, extended: true };
                self.open.insert(key, addr);
                self.torrent.handle_connected(self.now, key, info);
                let size = match self.peers[&addr].0 {
                    Kind::Garbage(size) | Kind::Silent(size) | Kind::Drips(size, _) => Some(size),
                    Kind::Empty => None,
                    _ => Some(self.metadata.len() as u32),
                };
                let hello = ExtensionHandshake {
                    ids: [(Extension::Metadata, THEIR_ID)].into(),
                    metadata_size: size,
                    ..ExtensionHandshake::default()
                };
                let hello = Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload: hello.encode() };
                let is_empty = self.peers[&addr].0 == Kind::Empty;
                let pieces = if is_empty { Message::HaveNone } else { Message::HaveAll };
                self.later(Duration::ZERO, Input::Message(key, pieces));
                self.later(Duration::ZERO, Input::Message(key, hello));
            }
            Input::Message(key, message) => self.torrent.handle_message(self.now, key, &message),
        }
        self.drain();
    }

    /// Runs until the metadata is there, or for so long.
    fn run(&mut self, limit: Duration) {
        let end = self.now + limit;
        self.drain();
        while self.fetched.is_none() {
            let input = self.inputs.first_key_value().map(|((at, _), _)| *at);
            let Some(at) = input.into_iter().chain(self.torrent.poll_timeout()).min() else { return };
            if at > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(at);
            match self.inputs.first_entry().filter(|entry| entry.key().0 <= self.now) {
                Some(entry) => {
                    let input = entry.remove();
                    self.on_input(input);
                }
                None => {
                    self.torrent.handle_timeout(self.now);
                    self.drain();
                }
            }
        }
    }

    /// Seconds until the right metadata was there.
    fn resolved_after(&mut self) -> f64 {
        self.run(Duration::from_secs(600));
        let (at, bytes) = self.fetched.take().expect("the metadata is found");
        assert!(bytes == self.metadata);
        for (addr, times) in &self.requests {
            let second = Duration::from_secs(1);
            let most = times
                .iter()
                .map(|&from| times.iter().filter(|&&at| at >= from && at <= from + second).count());
            assert!(most.max() <= Some(REQUESTS_PER_S_MAX), "{addr}: {times:?}");
        }
        at.since(Time::from_micros(1)).as_secs_f64()
    }
}

fn sha1(bytes: &[u8]) -> [u8; 20] {
    use sha1::{Digest, Sha1};
    Sha1::digest(bytes).into()
}

const NOW: Duration = Duration::ZERO;
const SOON: Duration = Duration::from_secs(2);

#[test]
fn one_honest_peer_is_enough() {
    for (len, seconds) in [(1, 0.1), (16_384, 0.1), (100_000, 0.1), (1_000_000, 7.0)] {
        let mut world = World::new(len).with(Kind::Honest, NOW);
        let after = world.resolved_after();
        assert!(after < seconds, "{len} bytes after {after} s");
    }
}

#[test]
fn several_honest_peers_are_quicker_than_one() {
    let crowd = |len| (0..PARALLEL_MAX).fold(World::new(len), |world, _| world.with(Kind::Honest, NOW));
    let after = crowd(1_000_000).resolved_after();
    assert!(after < 2.0, "after {after} s");
    // A liar among them spoils what they have together, and no more.
    let mut world = World::new(1_000_000).with(Kind::Garbage(1_000_000), NOW);
    for _ in 0..PARALLEL_MAX - 1 {
        world = world.with(Kind::Honest, NOW);
    }
    let after = world.resolved_after();
    assert!(after < 8.0, "after {after} s");
}

#[test]
fn no_liar_delays_an_honest_peer_that_comes_later() {
    let liars = [
        Kind::Garbage(49_152),
        Kind::Garbage(METADATA_LEN_MAX),
        Kind::Garbage(METADATA_LEN_MAX + 1),
        Kind::Garbage(u32::MAX),
        Kind::Garbage(40_000),
        Kind::Silent(40_000),
        Kind::Silent(METADATA_LEN_MAX),
        Kind::Drips(METADATA_LEN_MAX, Duration::from_secs(1)),
        Kind::Rejects,
        Kind::Wavers,
        Kind::Empty,
    ];
    for liar in liars {
        let mut world = World::new(40_000).with(liar, NOW).with(Kind::Honest, SOON);
        let after = world.resolved_after();
        assert!(after <= SOON.as_secs_f64() + 5.0, "{liar:?}: after {after} s");
        assert!(world.held_max <= 4 * 1024 * 1024, "{liar:?}: {} bytes held", world.held_max);
    }
}

#[test]
fn many_liars_delay_an_honest_peer_by_no_more_than_their_turns() {
    let mut world = World::new(40_000);
    for n in 0..3 * PARALLEL_MAX {
        let size = 1_000_000 + n as u32;
        world = world.with(Kind::Drips(size, Duration::from_millis(900)), NOW);
    }
    let after = world.with(Kind::Honest, SOON).resolved_after();
    assert!(after <= 20.0, "after {after} s");
}

#[test]
fn who_sent_what_is_wrong_from_end_to_end_is_banned_and_never_asked_again() {
    let mut world = World::new(40_000).with(Kind::Garbage(40_000), NOW).with(Kind::Empty, NOW);
    world.run(Duration::from_secs(300));
    assert_eq!(world.banned, [addr(1)]);
    assert_eq!(world.requests[&addr(1)].len(), 3);
    let closings = |n| world.closed.iter().filter(|(a, _)| *a == addr(n)).count();
    assert_eq!(closings(1), 1);
    assert!((3..10).contains(&closings(2)), "one without any is tried again, less and less often");
}

#[test]
fn a_claim_beyond_the_limit_is_believed_by_nobody() {
    let mut world = World::new(40_000).with(Kind::Garbage(METADATA_LEN_MAX + 1), NOW);
    world.run(Duration::from_secs(60));
    let reason = CloseReason::MetadataSize { size: METADATA_LEN_MAX + 1 };
    assert_eq!(world.closed, [(addr(1), reason)]);
    assert!(world.requests.is_empty());
}

#[test]
fn what_nobody_asked_for_counts_for_nothing() {
    let mut world = World::new(40_000).with(Kind::Chatters, NOW);
    assert!(world.resolved_after() < 1.0);
}

#[test]
fn memory_is_bounded_however_many_claim_however_much() {
    let mut world = World::new(40_000);
    for _ in 0..40 {
        world = world.with(Kind::Garbage(METADATA_LEN_MAX), NOW);
    }
    world.run(Duration::from_secs(400));
    assert!(world.held_max <= ASSEMBLIES_LEN_MAX, "{} bytes held", world.held_max);
    assert!(world.banned.len() >= 2, "those that were whole were found out");
}

#[test]
fn who_says_much_and_answers_nothing_is_left_all_the_same() {
    let mut world = World::new(40_000).with(Kind::Silent(40_000), NOW);
    world.run(Duration::from_secs(1));
    let (&key, _) = world.open.first_key_value().expect("a connection");
    let chatter = Message::Extended { id: Extension::PeerExchange.local_id(), payload: b"de".to_vec() };
    for _ in 0..200 {
        world.now += Duration::from_millis(50);
        world.torrent.handle_message(world.now, key, &chatter);
        if world.torrent.poll_timeout().is_some_and(|at| at <= world.now) {
            world.torrent.handle_timeout(world.now);
        }
        world.drain();
    }
    assert!(matches!(world.closed[..], [(_, CloseReason::TimedOut { .. })]), "{:?}", world.closed);
}

#[test]
fn who_comes_again_and_again_is_asked_no_more_often() {
    for ip in [[10, 0, 0, 9].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 9].into()] {
        let mut world = World::new(40_000);
        let (mut asked, end) = (Vec::new(), world.now + Duration::from_secs(5));
        for n in 0.. {
            let key = PeerKey(1_000 + n);
            let addr = SocketAddr::new(ip, 20_000 + n as u16);
            let mut peer_id = [9; 20];
            peer_id[..4].copy_from_slice(&n.to_be_bytes());
            let info = PeerInfo { addr, inbound: true, peer_id: PeerId(peer_id), fast: true, extended: true };
            world.torrent.handle_connected(world.now, key, info);
            let hello = ExtensionHandshake {
                ids: [(Extension::Metadata, THEIR_ID)].into(),
                metadata_size: Some(METADATA_LEN_MAX),
                ..ExtensionHandshake::default()
            };
            let hello = Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload: hello.encode() };
            world.torrent.handle_message(world.now, key, &hello);
            while let Some(action) = world.torrent.poll_action() {
                let is_request = |m: &Message| matches!(m, Message::Extended { id: THEIR_ID, .. });
                if matches!(action, Action::Send { message, .. } if is_request(&message)) {
                    asked.push(world.now);
                }
            }
            world.now += Duration::from_millis(70);
            world.torrent.handle_disconnected(world.now, key);
            world.torrent.handle_timeout(world.now);
            if world.now > end {
                break;
            }
        }
        let is_soon = |from: &Time, at: &Time| at >= from && at.since(*from) < Duration::from_secs(1);
        let most = asked.iter().map(|from| asked.iter().filter(|at| is_soon(from, at)).count()).max();
        assert_eq!(most, Some(REQUESTS_PER_S_MAX), "{ip}");
    }
}

/// The metadata has been read: the torrent has 100 pieces of a block each.
fn content(world: &World, private: bool) -> Content {
    Content {
        metadata: world.metadata.clone().into(),
        geometry: Geometry::new(100 * u64::from(BLOCK_LEN), BLOCK_LEN.into()).unwrap(),
        have: Bitfield::empty(100),
        padding: Padding::default(),
        private,
    }
}

/// What is sent to this peer, and why it is closed, if it is.
fn drain(torrent: &mut Torrent, key: PeerKey) -> (Vec<Message>, Option<CloseReason>) {
    torrent.check_invariants();
    let (mut sent, mut closed) = (Vec::new(), None);
    while let Some(action) = torrent.poll_action() {
        match action {
            Action::Send { peer, message } if peer == key => sent.push(message),
            Action::Close { peer, reason } if peer == key => closed = Some(reason),
            _ => {}
        }
    }
    (sent, closed)
}

fn is_request(message: &Message) -> bool {
    matches!(message, Message::Request(_))
}

#[test]
fn connections_go_on_and_what_was_said_of_pieces_is_heard() {
    let mut world = World::new(40_000).with(Kind::Honest, NOW);
    world.run(Duration::from_secs(1));
    let (&key, _) = world.open.first_key_value().expect("a connection");
    world.torrent.handle_message(world.now, key, &Message::Unchoke);
    assert_eq!(drain(&mut world.torrent, key), (vec![], None), "there is nothing to ask for yet");
    assert!(!world.torrent.is_complete() && !world.torrent.has_metadata());
    world.torrent.handle_metadata(world.now, content(&world, false));
    let (sent, closed) = drain(&mut world.torrent, key);
    assert_eq!(closed, None);
    assert!(sent.contains(&Message::Interested));
    assert!(sent.iter().filter(|message| is_request(message)).count() > 1, "it has all, and lets us ask");
    // Others may have the metadata of us now.
    let hello = sent.iter().find_map(|message| match message {
        Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload } => ExtensionHandshake::decode(payload).ok(),
        _ => None,
    });
    assert_eq!(hello.and_then(|hello| hello.metadata_size), Some(40_000));
}

/// A peer that dials us and says these things before anybody knows how many pieces there are.
fn claimed(said: &[Message], fast: bool) -> (Option<u32>, Option<CloseReason>) {
    let mut world = World::new(40_000);
    let key = PeerKey(1_000);
    let peer_id = PeerId([9; 20]);
    let info = PeerInfo { addr: addr(9), inbound: true, peer_id, fast, extended: true };
    world.torrent.handle_connected(world.now, key, info);
    said.iter().for_each(|message| world.torrent.handle_message(world.now, key, message));
    let (_, closed) = drain(&mut world.torrent, key);
    if closed.is_some() {
        return (None, closed);
    }
    world.torrent.handle_metadata(world.now, content(&world, false));
    let (_, closed) = drain(&mut world.torrent, key);
    (world.torrent.peer(key).map(|peer| peer.have().count()), closed)
}

#[test]
fn bitfields_and_haves_before_the_metadata_count_once_it_is_here() {
    let have = |n| Message::Have(PieceIndex(n));
    let half = |bytes: usize| Message::Bitfield(vec![0xf0; bytes]);
    assert_eq!(claimed(&[], true), (Some(0), None));
    assert_eq!(claimed(&[Message::HaveAll], true), (Some(100), None));
    assert_eq!(claimed(&[half(13), have(4), have(4), have(5)], false), (Some(54), None));
    assert_eq!(claimed(&[have(99)], false), (Some(1), None));
    assert_eq!(claimed(&[have(100)], false), (None, Some(CloseReason::NoSuchPiece(PieceIndex(100)))));
    assert_eq!(claimed(&[half(12)], true), (None, Some(CloseReason::BitfieldLength { len: 12 })));
    // More than is kept: it says it again when it comes again.
    let many: Vec<Message> = (0..CLAIMED_MAX as u32 + 1).map(|n| have(n % 100)).collect();
    assert_eq!(claimed(&many, true), (None, Some(CloseReason::PieceLost)));
    let endless: Vec<Message> = (0..400_000).map(|_| have(7)).collect();
    assert_eq!(claimed(&endless, true), (None, Some(CloseReason::Flood)));
}

#[test]
fn bitfields_before_the_metadata_are_kept_within_bounds() {
    let mut world = World::new(40_000);
    for n in 0..50 {
        let info = PeerInfo {
            addr: addr(n),
            inbound: true,
            peer_id: PeerId([n as u8; 20]),
            fast: false,
            extended: false,
        };
        world.torrent.handle_connected(world.now, PeerKey(n.into()), info);
        let long = Message::Bitfield(vec![1; 256 * 1024]);
        world.torrent.handle_message(world.now, PeerKey(n.into()), &long);
    }
    let pieces = 8 * 256 * 1024;
    let geometry = Geometry::new(u64::from(pieces) * u64::from(BLOCK_LEN), BLOCK_LEN.into()).unwrap();
    let have = Bitfield::empty(pieces);
    world.torrent.handle_metadata(world.now, Content { geometry, have, ..content(&world, false) });
    let kept = world.torrent.peers().filter(|peer| peer.have().count() == pieces / 8).count();
    assert_eq!(kept, BITFIELDS_LEN_MAX / (256 * 1024));
    assert_eq!(world.torrent.peers().count(), kept, "the others are to connect again");
}

#[test]
fn private_torrent_keeps_only_those_whom_trackers_or_the_user_named() {
    let mut world = World::new(40_000).with(Kind::Honest, NOW).with(Kind::Honest, NOW);
    let (by_user, by_peer) = (addr(3), addr(4));
    for (addr, origin) in [(by_user, Origin::User), (by_peer, Origin::Peer([192, 0, 2, 9].into()))] {
        world.peers.insert(addr, (Kind::Honest, world.now));
        world.torrent.handle_addresses(world.now, &[addr], origin);
    }
    world.run(Duration::from_secs(1));
    let info =
        PeerInfo { addr: addr(9), inbound: true, peer_id: PeerId([9; 20]), fast: true, extended: true };
    world.torrent.handle_connected(world.now, PeerKey(1_000), info);
    world.open.insert(PeerKey(1_000), addr(9));
    world.drain();
    world.torrent.handle_metadata(world.now, content(&world, true));
    world.drain();
    assert_eq!(world.open.values().copied().collect::<Vec<_>>(), [addr(1), addr(2), by_user]);
    assert!(world.closed.iter().all(|(_, reason)| *reason == CloseReason::Private), "{:?}", world.closed);
}

#[test]
fn private_torrent_counts_the_pieces_of_those_that_stay() {
    let mut world = World::new(40_000);
    let leecher = addr(5);
    world.torrent.handle_addresses(world.now, &[leecher], Origin::User);
    for (key, addr, inbound) in [(1, addr(9), true), (2, leecher, false)] {
        let info = PeerInfo { addr, inbound, peer_id: PeerId([key; 20]), fast: true, extended: true };
        world.torrent.handle_connected(world.now, PeerKey(key.into()), info);
    }
    world.torrent.handle_metadata(world.now, content(&world, true));
    world.torrent.handle_message(world.now, PeerKey(2), &Message::Have(PieceIndex(3)));
    let (sent, closed) = drain(&mut world.torrent, PeerKey(2));
    assert_eq!(closed, None);
    assert!(sent.contains(&Message::Interested));
}

#[test]
fn metadata_over_the_limit_is_a_reason_to_wait_and_nobodys_word_ends_the_search() {
    let size = METADATA_LEN_MAX + 1;
    let mut world = World::new(40_000)
        .with(Kind::Garbage(size), NOW)
        .with(Kind::Garbage(size), NOW)
        .with(Kind::Garbage(u32::MAX), NOW)
        .with(Kind::Honest, SOON);
    assert_eq!(world.torrent.metadata_too_long(), None);
    world.run(Duration::from_secs(1));
    assert_eq!(world.torrent.metadata_too_long(), Some((size, 2)), "by the word of most");
    assert!(!world.torrent.is_metadata_offered());
    let after = world.resolved_after();
    assert!(after <= SOON.as_secs_f64() + 5.0, "after {after} s");
}

#[test]
fn who_offers_too_much_metadata_is_remembered_within_bounds() {
    let mut world = World::new(40_000);
    for n in 0..200 {
        world = world.with(Kind::Garbage(u32::MAX - n), NOW);
    }
    world.run(Duration::from_secs(60));
    assert_eq!(world.torrent.metadata_too_long().map(|(_, hosts)| hosts), Some(1));
    assert!(format!("{:?}", world.torrent).matches("4294967").count() <= 64, "of 200 hosts");
}

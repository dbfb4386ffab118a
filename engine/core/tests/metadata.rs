//! The metadata (BEP 9): the search for it on a virtual clock, among peers of which some lie, and how it is served.

mod common;

use common::*;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use swarm_core::bitfield::Bitfield;
use swarm_core::id::{InfoHash, PeerKey, PieceIndex};
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
    Message(u32, Message),
}

struct World {
    swarm: Swarm,
    metadata: Vec<u8>,
    /// By address: what it is, and from when on it is there.
    peers: BTreeMap<SocketAddr, (Kind, Time)>,
    open: BTreeMap<u32, SocketAddr>,
    inputs: BTreeMap<(Time, u32), Input>,
    next: u32,
    requests: BTreeMap<SocketAddr, Vec<Time>>,
    closed: Vec<(SocketAddr, CloseReason)>,
    banned: Vec<SocketAddr>,
    fetched: Option<(Time, Vec<u8>)>,
    held_max: u64,
}

/// A peer that can serve metadata, or claims so.
fn hello(metadata_size: Option<u32>) -> ExtensionHandshake {
    ExtensionHandshake {
        ids: [(Extension::Metadata, THEIR_ID)].into(),
        metadata_size,
        ..ExtensionHandshake::default()
    }
}

impl World {
    fn new(len: usize) -> World {
        let mut metadata = vec![0; len];
        Rng::new(1).fill(&mut metadata);
        let config = Config {
            info_hash: InfoHash(sha1(&metadata)),
            peers_max: 50,
            exchange: true,
            seed: 2,
            ..config()
        };
        World {
            swarm: Swarm::of(Torrent::without_metadata(config)),
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
        let addr = addr(self.peers.len() as u32 + 1);
        self.peers.insert(addr, (kind, self.swarm.now + from));
        let actions = self.swarm.announce(&[addr]);
        self.react(actions);
        self
    }

    fn later(&mut self, after: Duration, input: Input) {
        self.next += 1;
        self.inputs.insert((self.swarm.now + after, self.next), input);
    }

    fn drain(&mut self) {
        let actions = self.swarm.drain();
        self.react(actions);
    }

    fn react(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Connect(Dial { addr, .. }) => {
                    let is_there = self.peers.get(&addr).is_some_and(|(_, from)| *from <= self.swarm.now);
                    let input = if is_there { Input::Connected(addr) } else { Input::Refused(addr) };
                    self.later(ROUND_TRIP, input);
                }
                Action::Send { peer, message: Message::Extended { id: THEIR_ID, payload } } => {
                    self.on_request(peer.0, MetadataMessage::decode(&payload).unwrap().unwrap());
                }
                Action::Send { .. } => {}
                Action::Close { peer, reason } => {
                    let addr = self.open.remove(&peer.0).expect("an open connection");
                    self.closed.push((addr, reason));
                }
                other => panic!("{other:?}"),
            }
        }
        for event in self.swarm.events() {
            match event {
                Event::MetadataReceived(bytes) => self.fetched = Some((self.swarm.now, bytes)),
                Event::PeerBanned { addr, .. } => self.banned.push(addr),
                Event::PeerLeft { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        self.held_max = self.held_max.max(self.swarm.torrent.metadata_held());
    }

    fn on_request(&mut self, peer: u32, request: MetadataMessage<'_>) {
        let MetadataMessage::Request(piece) = request else { panic!("{request:?}") };
        let addr = self.open[&peer];
        self.requests.entry(addr).or_default().push(self.swarm.now);
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

    fn say(&mut self, peer: u32, after: Duration, payload: Vec<u8>) {
        let id = Extension::Metadata.local_id();
        self.later(after, Input::Message(peer, Message::Extended { id, payload }));
    }

    fn on_input(&mut self, input: Input) {
        match input {
            Input::Refused(addr) => self.swarm.torrent.handle_connect_failed(self.swarm.now, addr),
            Input::Connected(addr) => {
                self.next += 1;
                let n = self.next;
                self.open.insert(n, addr);
                let actions = self.swarm.connect_as(n, PeerInfo { addr, inbound: false, ..peer(n) });
                self.react(actions);
                let kind = self.peers[&addr].0;
                let size = match kind {
                    Kind::Garbage(size) | Kind::Silent(size) | Kind::Drips(size, _) => Some(size),
                    Kind::Empty => None,
                    _ => Some(self.metadata.len() as u32),
                };
                let pieces = if kind == Kind::Empty { Message::HaveNone } else { Message::HaveAll };
                let payload = hello(size).encode();
                self.later(Duration::ZERO, Input::Message(n, pieces));
                let hello = Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload };
                self.later(Duration::ZERO, Input::Message(n, hello));
            }
            Input::Message(n, message) => {
                let actions = self.swarm.say(n, message);
                self.react(actions);
            }
        }
        self.drain();
    }

    /// Runs until the metadata is there, or for so long.
    fn run(&mut self, limit: Duration) {
        let end = self.swarm.now + limit;
        self.drain();
        while self.fetched.is_none() {
            let input = self.inputs.first_key_value().map(|((at, _), _)| *at);
            let Some(at) = input.into_iter().chain(self.swarm.torrent.poll_timeout()).min() else { return };
            if at > end {
                self.swarm.now = end;
                return;
            }
            self.swarm.now = self.swarm.now.max(at);
            match self.inputs.first_entry().filter(|entry| entry.key().0 <= self.swarm.now) {
                Some(entry) => {
                    let input = entry.remove();
                    self.on_input(input);
                }
                None => {
                    self.swarm.torrent.handle_timeout(self.swarm.now);
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
        at.since(START).as_secs_f64()
    }
}

fn sha1(bytes: &[u8]) -> [u8; 20] {
    use sha1::{Digest, Sha1};
    Sha1::digest(bytes).into()
}

const NOW: Duration = Duration::ZERO;
const SOON: Duration = Duration::from_secs(2);

#[test]
fn metadata_from_one_honest_peer() {
    for (len, seconds) in [(1, 0.1), (16_384, 0.1), (100_000, 0.1), (1_000_000, 7.0)] {
        let mut world = World::new(len).with(Kind::Honest, NOW);
        let after = world.resolved_after();
        assert!(after < seconds, "{len} bytes after {after} s");
    }
}

#[test]
fn metadata_from_several_peers_is_quicker() {
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
fn metadata_liar_does_not_delay_an_honest_peer_that_comes_later() {
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
fn metadata_liars_delay_an_honest_peer_by_no_more_than_their_turns() {
    let mut world = World::new(40_000);
    for n in 0..3 * PARALLEL_MAX {
        let size = 1_000_000 + n as u32;
        world = world.with(Kind::Drips(size, Duration::from_millis(900)), NOW);
    }
    let after = world.with(Kind::Honest, SOON).resolved_after();
    assert!(after <= 20.0, "after {after} s");
}

#[test]
fn metadata_that_is_wrong_from_end_to_end_bans_its_sender() {
    let mut world = World::new(40_000).with(Kind::Garbage(40_000), NOW).with(Kind::Empty, NOW);
    world.run(Duration::from_secs(300));
    assert_eq!(world.banned, [addr(1)]);
    assert_eq!(world.requests[&addr(1)].len(), 3);
    let closings = |n| world.closed.iter().filter(|(a, _)| *a == addr(n)).count();
    assert_eq!(closings(1), 1);
    assert!((3..10).contains(&closings(2)), "one without any is tried again, less and less often");
}

#[test]
fn metadata_size_over_the_limit_closes() {
    let mut world = World::new(40_000).with(Kind::Garbage(METADATA_LEN_MAX + 1), NOW);
    world.run(Duration::from_secs(60));
    let reason = CloseReason::MetadataSize { size: METADATA_LEN_MAX + 1 };
    assert_eq!(world.closed, [(addr(1), reason)]);
    assert!(world.requests.is_empty());
}

#[test]
fn metadata_that_is_unrequested_or_duplicate_is_ignored() {
    let mut world = World::new(40_000).with(Kind::Chatters, NOW);
    assert!(world.resolved_after() < 1.0);
}

#[test]
fn metadata_memory_is_bounded() {
    let mut world = World::new(40_000);
    for _ in 0..40 {
        world = world.with(Kind::Garbage(METADATA_LEN_MAX), NOW);
    }
    world.run(Duration::from_secs(400));
    assert!(world.held_max <= ASSEMBLIES_LEN_MAX, "{} bytes held", world.held_max);
    assert!(world.banned.len() >= 2, "those that were whole were found out");
}

#[test]
fn metadata_requests_time_out_whatever_else_the_peer_says() {
    let mut world = World::new(40_000).with(Kind::Silent(40_000), NOW);
    world.run(Duration::from_secs(1));
    let (&n, _) = world.open.first_key_value().expect("a connection");
    let chatter = Message::Extended { id: Extension::PeerExchange.local_id(), payload: b"de".to_vec() };
    for _ in 0..200 {
        world.swarm.step(Duration::from_millis(50));
        world.swarm.torrent.handle_message(world.swarm.now, PeerKey(n), &chatter);
        world.drain();
    }
    assert!(matches!(world.closed[..], [(_, CloseReason::TimedOut { .. })]), "{:?}", world.closed);
}

#[test]
fn metadata_request_rate_holds_over_reconnects() {
    for ip in [[10, 0, 0, 9].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 9].into()] {
        let mut swarm = World::new(40_000).swarm;
        let (mut asked, end) = (Vec::new(), swarm.now + Duration::from_secs(5));
        for n in 0.. {
            let info = PeerInfo { addr: SocketAddr::new(ip, 20_000 + n as u16), ..peer(n) };
            let mut actions = swarm.connect_as(n, info);
            actions.extend(swarm.say_hello(n, hello(Some(METADATA_LEN_MAX))));
            let is_request = |m: &&&Message| matches!(m, Message::Extended { id: THEIR_ID, .. });
            asked.extend(sent(&actions).iter().filter(is_request).map(|_| swarm.now));
            swarm.now += Duration::from_millis(70);
            swarm.disconnect(n);
            swarm.torrent.handle_timeout(swarm.now);
            if swarm.now > end {
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
        geometry: geometry(100, 1),
        have: Bitfield::empty(100),
        padding: Padding::default(),
        hashes: None,
        private,
    }
}

/// The metadata has been read.
fn resolve(swarm: &mut Swarm, content: Content) -> Vec<Action> {
    swarm.torrent.handle_metadata(swarm.now, content);
    swarm.drain()
}

#[test]
fn metadata_arrives_and_connections_go_on_with_what_they_said_of_pieces() {
    let mut world = World::new(40_000).with(Kind::Honest, NOW);
    world.run(Duration::from_secs(1));
    let (&n, _) = world.open.first_key_value().expect("a connection");
    let content = content(&world, false);
    let swarm = &mut world.swarm;
    assert_eq!(swarm.say(n, Message::Unchoke), [], "there is nothing to ask for yet");
    assert!(!swarm.torrent.is_complete() && !swarm.torrent.has_metadata());
    let actions = resolve(swarm, content);
    assert_eq!(closed(&actions), []);
    assert!(sent_to(&actions, n).contains(&&Message::Interested));
    assert!(requests(&actions).len() > 1, "it has all, and lets us ask");
    // Others may have the metadata of us now.
    assert_eq!(our_hello(&actions).and_then(|hello| hello.metadata_size), Some(40_000));
}

/// A peer that dials us and says these things before anybody knows how many pieces there are.
fn claimed(said: &[Message], fast: bool) -> (Option<u32>, Option<CloseReason>) {
    let world = World::new(40_000);
    let content = content(&world, false);
    let mut swarm = world.swarm;
    swarm.connect_as(9, PeerInfo { fast, ..peer(9) });
    said.iter().for_each(|message| swarm.torrent.handle_message(swarm.now, PeerKey(9), message));
    let mut actions = swarm.drain();
    if closed(&actions).is_empty() {
        actions = resolve(&mut swarm, content);
    }
    let reason = closed(&actions).pop().map(|(_, reason)| reason);
    (swarm.torrent.peer(PeerKey(9)).map(|peer| peer.have().count()), reason)
}

#[test]
fn bitfield_and_have_before_the_metadata_count_once_it_is_here() {
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
fn bitfield_memory_before_the_metadata_is_bounded() {
    let world = World::new(40_000);
    let pieces = 8 * 256 * 1024;
    let content =
        Content { geometry: geometry(pieces, 1), have: Bitfield::empty(pieces), ..content(&world, false) };
    let mut swarm = world.swarm;
    for n in 0..50 {
        swarm.connect_as(n, plain_peer(n));
        swarm.say(n, Message::Bitfield(vec![1; 256 * 1024]));
    }
    // The invariants of so many pieces take long to check.
    swarm.torrent.handle_metadata(swarm.now, content);
    let kept = swarm.torrent.peers().filter(|peer| peer.have().count() == pieces / 8).count();
    assert_eq!(kept, BITFIELDS_LEN_MAX / (256 * 1024));
    assert_eq!(swarm.peers(), kept, "the others are to connect again");
}

#[test]
fn metadata_of_a_private_torrent_closes_whom_no_tracker_nor_the_user_named() {
    let mut world = World::new(40_000).with(Kind::Honest, NOW).with(Kind::Honest, NOW);
    let (by_user, by_peer) = (addr(3), addr(4));
    for (addr, origin) in [(by_user, Origin::User), (by_peer, Origin::Peer([192, 0, 2, 9].into()))] {
        world.peers.insert(addr, (Kind::Honest, START));
        world.swarm.torrent.handle_addresses(START, &[addr], origin);
    }
    world.run(Duration::from_secs(1));
    world.swarm.connect(1_000);
    world.open.insert(1_000, addr(1_000));
    let content = content(&world, true);
    let actions = resolve(&mut world.swarm, content);
    world.react(actions);
    assert_eq!(world.open.values().copied().collect::<Vec<_>>(), [addr(1), addr(2), by_user]);
    assert!(world.closed.iter().all(|(_, reason)| *reason == CloseReason::Private), "{:?}", world.closed);
}

#[test]
fn metadata_of_a_private_torrent_counts_the_pieces_of_those_that_stay() {
    let world = World::new(40_000);
    let content = content(&world, true);
    let mut swarm = world.swarm;
    swarm.torrent.handle_addresses(START, &[addr(2)], Origin::User);
    swarm.connect(1);
    swarm.connect_as(2, PeerInfo { inbound: false, ..peer(2) });
    assert_eq!(closed(&resolve(&mut swarm, content)), [(1, CloseReason::Private)]);
    let actions = swarm.say(2, have(3));
    assert_eq!(closed(&actions), []);
    assert!(sent(&actions).contains(&&Message::Interested));
}

#[test]
fn metadata_size_over_the_limit_does_not_end_the_search() {
    let size = METADATA_LEN_MAX + 1;
    let mut world = World::new(40_000)
        .with(Kind::Garbage(size), NOW)
        .with(Kind::Garbage(size), NOW)
        .with(Kind::Garbage(u32::MAX), NOW)
        .with(Kind::Honest, SOON);
    assert_eq!(world.swarm.torrent.metadata_too_long(), None);
    world.run(Duration::from_secs(1));
    assert_eq!(world.swarm.torrent.metadata_too_long(), Some((size, 2)), "by the word of most");
    assert!(!world.swarm.torrent.is_metadata_offered());
    let after = world.resolved_after();
    assert!(after <= SOON.as_secs_f64() + 5.0, "after {after} s");
}

#[test]
fn metadata_size_claims_are_remembered_within_bounds() {
    let mut world = World::new(40_000);
    for n in 0..200 {
        world = world.with(Kind::Garbage(u32::MAX - n), NOW);
    }
    world.run(Duration::from_secs(60));
    assert_eq!(world.swarm.torrent.metadata_too_long().map(|(_, hosts)| hosts), Some(1));
    assert!(format!("{:?}", world.swarm.torrent).matches("4294967").count() <= 64, "of 200 hosts");
}

#[test]
fn metadata_is_served_a_few_times_and_then_rejected() {
    let metadata: Vec<u8> = (0..20_000u32).map(|i| i as u8).collect();
    let config = Config { metadata: Some(metadata.clone().into()), ..config() };
    let mut swarm = Swarm::new(config, Bitfield::full(100), 2);
    let ours = our_hello(&swarm.connect(1)).unwrap();
    assert_eq!(ours.metadata_size, Some(20_000));
    swarm.say_hello(1, hello(None));
    let mut answer = |piece| {
        let payload = MetadataMessage::Request(piece).encode();
        let actions = swarm.say(1, Message::Extended { id: ours.ids[&Extension::Metadata], payload });
        let waits = swarm.torrent.next_metadata(swarm.now, PeerKey(1));
        assert_eq!(waits.is_some(), actions.contains(&Action::Upload(PeerKey(1))));
        match (&sent(&actions)[..], &waits) {
            ([Message::Extended { id: THEIR_ID, payload }], None)
            | ([], Some(Message::Extended { id: THEIR_ID, payload })) => payload.clone(),
            other => panic!("{other:?}"),
        }
    };
    let last = answer(1);
    let expected = MetadataMessage::Data { piece: 1, total_size: 20_000, bytes: &metadata[16_384..] };
    assert_eq!(MetadataMessage::decode(&last), Ok(Some(expected)));
    assert_eq!(MetadataMessage::decode(&answer(2)), Ok(Some(MetadataMessage::Reject(2))), "beyond the end");
    let rejected =
        (0..100).find(|_| MetadataMessage::decode(&answer(0)) == Ok(Some(MetadataMessage::Reject(0))));
    assert_eq!(rejected, Some(5), "three copies of two pieces are enough for anyone");
}

//! What peers can make a torrent do by talking: bounds on counted work, whatever they say and however often.

use std::net::SocketAddr;
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::{BLOCK_LEN, Geometry};
use swarm_core::id::{BlockRef, InfoHash, PeerId, PeerKey, PieceIndex};
use swarm_core::peer::PeerInfo;
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::{Action, CloseReason, Config, PieceResult, Torrent};
use swarm_core::wire::extension::{EXTENSION_HANDSHAKE_ID, Extension, ExtensionHandshake, encode_piece};
use swarm_core::wire::{Message, MetadataMessage};

const PIECES: u32 = 30_000;
const PEERS: u32 = 100;
const MESSAGES: u32 = 100_000;
/// How long after a message the next one comes: 20,000 a second.
const INTERVAL: Duration = Duration::from_micros(50);
/// How many steps a message may cost in the mean.
const STEPS_PER_MESSAGE: u64 = 20;
/// How many steps a peer may cause at once, as often as its budget allows: each piece is looked at for each refill.
const STEPS_AT_ONCE: u64 = 50 * PIECES as u64;

/// What a peer sends, by how often it has sent it.
type Kind = (&'static str, fn(u32) -> Sent);

enum Sent {
    Message(Message),
    Block(BlockRef),
}

fn block(piece: u32, len: u32) -> BlockRef {
    BlockRef { piece: PieceIndex(piece % PIECES), begin: 0, len }
}

fn extended(extension: Extension, payload: Vec<u8>) -> Sent {
    Sent::Message(Message::Extended { id: extension.local_id(), payload })
}

const KINDS: [Kind; 27] = [
    ("keep-alive", |_| Sent::Message(Message::KeepAlive)),
    ("choke", |_| Sent::Message(Message::Choke)),
    ("unchoke", |_| Sent::Message(Message::Unchoke)),
    ("interested", |_| Sent::Message(Message::Interested)),
    ("not interested", |_| Sent::Message(Message::NotInterested)),
    ("have", |n| Sent::Message(Message::Have(PieceIndex(n % PIECES)))),
    ("have one", |_| Sent::Message(Message::Have(PieceIndex(7)))),
    ("bitfield", |_| Sent::Message(Message::Bitfield(vec![0x5a; PIECES.div_ceil(8) as usize]))),
    ("have all", |_| Sent::Message(Message::HaveAll)),
    ("have none", |_| Sent::Message(Message::HaveNone)),
    ("request", |n| Sent::Message(Message::Request(block(n, BLOCK_LEN)))),
    ("request of a byte", |n| Sent::Message(Message::Request(block(n, 1)))),
    ("bad request", |n| Sent::Message(Message::Request(block(n, BLOCK_LEN + 1)))),
    ("cancel", |n| Sent::Message(Message::Cancel(block(n, BLOCK_LEN)))),
    ("cancel of what is not asked", |n| Sent::Message(Message::Cancel(block(n, 2)))),
    ("reject", |n| Sent::Message(Message::Reject(block(n, BLOCK_LEN)))),
    ("port", |n| Sent::Message(Message::Port(n as u16))),
    ("suggest", |n| Sent::Message(Message::Suggest(PieceIndex(n % PIECES)))),
    ("allowed fast", |n| Sent::Message(Message::AllowedFast(PieceIndex(n % PIECES)))),
    ("block", |n| Sent::Block(block(n, BLOCK_LEN))),
    ("extension handshake", |n| {
        let ids = [(Extension::Metadata, 3), (Extension::PeerExchange, 4), (Extension::UploadOnly, 5)];
        let hello = ExtensionHandshake {
            ids: ids.into(),
            client: n.to_string(),
            reqq: Some(1 + n),
            upload_only: Some(n % 2 == 0),
            ..Default::default()
        };
        Sent::Message(Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload: hello.encode() })
    }),
    ("don't have", |n| extended(Extension::DontHave, encode_piece(PieceIndex(n % PIECES)))),
    ("don't have one", |_| extended(Extension::DontHave, encode_piece(PieceIndex(7)))),
    ("upload only", |n| extended(Extension::UploadOnly, vec![n as u8 % 2])),
    ("metadata", |n| extended(Extension::Metadata, MetadataMessage::Request(n % 8).encode())),
    ("peer exchange", |_| extended(Extension::PeerExchange, b"d5:added6:abcdefe".to_vec())),
    ("unknown", |_| Sent::Message(Message::Extended { id: 99, payload: vec![1; 20] })),
];

/// A torrent of which many peers have a part, that we and they are busy with.
struct Swarm {
    torrent: Torrent,
    now: Time,
    next_key: u32,
}

impl Swarm {
    fn new(have: Bitfield, super_seeding: bool) -> Swarm {
        let is_seed = have.is_full();
        let geometry = Geometry::new(u64::from(PIECES) * u64::from(BLOCK_LEN), u64::from(BLOCK_LEN)).unwrap();
        let config = Config {
            metadata: Some(vec![0; 100_000].into()),
            exchange: true,
            super_seeding,
            peers_max: 200,
            ..Config::new(InfoHash([1; 20]), PeerId([9; 20]), 42)
        };
        let mut swarm =
            Swarm { torrent: Torrent::new(config, geometry, have), now: Time::from_micros(1), next_key: 0 };
        let mut rng = Rng::new(7);
        for nth in 0..PEERS - 1 {
            let key = swarm.connect(nth % 3 != 0);
            let mut bits = vec![0; PIECES.div_ceil(8) as usize];
            rng.fill(&mut bits);
            swarm.send(key, &Message::Bitfield(bits));
            if nth % 2 == 0 {
                swarm.send(key, &Message::Unchoke);
            }
            if nth % 4 < 2 && !is_seed {
                swarm.send(key, &Message::Interested);
            }
        }
        swarm
    }

    fn connect(&mut self, fast: bool) -> PeerKey {
        self.next_key += 1;
        let n = self.next_key;
        let mut peer_id = [1; 20];
        peer_id[..4].copy_from_slice(&n.to_be_bytes());
        let addr = SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 6881));
        let info = PeerInfo { addr, inbound: true, peer_id: PeerId(peer_id), fast, extended: true };
        self.torrent.handle_connected(self.now, PeerKey(n), info);
        assert_eq!(self.drain(PeerKey(n)).1, None);
        PeerKey(n)
    }

    fn send(&mut self, key: PeerKey, message: &Message) -> (usize, Option<CloseReason>) {
        self.torrent.handle_message(self.now, key, message);
        self.drain(key)
    }

    /// How many messages go to this peer, and why it is closed, if it is.
    fn drain(&mut self, key: PeerKey) -> (usize, Option<CloseReason>) {
        let (mut sent, mut closed) = (0, None);
        while let Some(action) = self.torrent.poll_action() {
            match action {
                Action::Send { peer, .. } => sent += usize::from(peer == key),
                Action::Close { peer, reason } if peer == key => closed = Some(reason),
                _ => {}
            }
        }
        while self.torrent.poll_event().is_some() {}
        (sent, closed)
    }

    /// A peer comes and sends these in turn, read so many at a time. The steps that it cost, ticks left out, and the messages
    /// that it was sent; how many it could send, and how it ended.
    fn flood(
        &mut self,
        first: &[Message],
        kinds: &[Kind],
        fast: bool,
        reads: u32,
    ) -> (u64, usize, u32, Option<CloseReason>) {
        let key = self.connect(fast);
        first.iter().for_each(|message| assert_eq!(self.send(key, message).1, None));
        let (mut steps, mut answers) = (0, 0);
        for n in 0..MESSAGES {
            self.now += INTERVAL;
            if self.torrent.poll_timeout().is_some_and(|at| at <= self.now) {
                self.torrent.handle_timeout(self.now);
                answers += self.drain(key).0;
            }
            let before = self.torrent.work();
            match kinds[n as usize % kinds.len()].1(n / kinds.len() as u32) {
                Sent::Message(message) => self.torrent.handle_message(self.now, key, &message),
                Sent::Block(block) => drop(self.torrent.handle_block(self.now, key, block)),
            }
            let (sent, closed) = if n % reads == reads - 1 { self.drain(key) } else { (0, None) };
            steps += self.torrent.work() - before;
            answers += sent;
            if closed.is_some() {
                return (steps, answers, n + 1, closed);
            }
        }
        self.torrent.handle_disconnected(self.now, key);
        self.drain(key);
        (steps, answers, MESSAGES, None)
    }

    fn check(&mut self, first: &[Message], kinds: &[Kind], what: &str) {
        for (fast, reads) in [(false, 1), (true, 1), (false, 100)] {
            // Everybody who was there stays and does nothing; who is silent for long is closed, which is none of our business here.
            let (steps, answers, count, closed) = self.flood(first, kinds, fast, reads);
            let names: Vec<&str> = kinds.iter().map(|kind| kind.0).collect();
            let per_message = steps / u64::from(count);
            assert!(
                steps <= STEPS_AT_ONCE + STEPS_PER_MESSAGE * u64::from(count),
                "{what}: {count} × {names:?} (fast: {fast}, {reads} a read) cost {per_message} steps each, ended by {closed:?}"
            );
            // At most one answer each, beside what a few refills ask for.
            let limit = 20_000 + count as usize;
            assert!(answers <= limit, "{what}: {count} × {names:?} are answered by {answers} messages");
        }
        self.torrent.check_invariants();
    }
}

fn half() -> Bitfield {
    let mut have = Bitfield::empty(PIECES);
    for piece in (0..PIECES).step_by(2) {
        have.insert(PieceIndex(piece));
    }
    have
}

/// Whoever comes says these `first`.
fn every_kind_and_pair(have: Bitfield, super_seeding: bool, first: &[Message], what: &str) {
    let mut swarm = Swarm::new(have, super_seeding);
    for (nth, kind) in KINDS.iter().enumerate() {
        swarm.check(first, &[*kind], what);
        for other in &KINDS[nth + 1..] {
            swarm.check(first, &[*kind, *other], what);
        }
    }
}

#[test]
fn no_message_and_no_pair_of_messages_keeps_a_downloader_busy() {
    every_kind_and_pair(half(), false, &[], "a downloader");
}

#[test]
fn no_message_and_no_pair_of_messages_of_a_seed_keeps_a_downloader_busy() {
    every_kind_and_pair(half(), false, &[Message::HaveAll], "a downloader and a seed");
    every_kind_and_pair(
        half(),
        false,
        &[Message::HaveAll, Message::Unchoke],
        "a downloader and who serves it",
    );
}

#[test]
fn no_message_and_no_pair_of_messages_keeps_a_seed_busy() {
    every_kind_and_pair(Bitfield::full(PIECES), false, &[Message::Interested], "a seed");
}

#[test]
fn no_message_and_no_pair_of_messages_keeps_a_super_seed_busy() {
    every_kind_and_pair(Bitfield::full(PIECES), true, &[Message::Interested], "a super-seed");
}

/// Small pieces on a quick line: everybody tells everybody of thousands of pieces a second, and changes its mind as often.
#[test]
fn what_honest_peers_say_however_quickly_costs_them_nothing() {
    let geometry = Geometry::new(u64::from(PIECES) * u64::from(BLOCK_LEN), u64::from(BLOCK_LEN)).unwrap();
    let config = Config::new(InfoHash([1; 20]), PeerId([9; 20]), 42);
    let torrent = Torrent::new(config, geometry, Bitfield::empty(PIECES));
    let mut swarm = Swarm { torrent, now: Time::from_micros(1), next_key: 0 };
    // One gets each piece a moment before us and passes it on; one gets it from us; one gets it elsewhere at the same time.
    let [giver, taker, other] = [0; 3].map(|_| swarm.connect(true));
    swarm.send(giver, &Message::Unchoke);
    for n in 0..PIECES - 1 {
        swarm.now += INTERVAL;
        let piece = PieceIndex(n);
        let (asked, closed) = swarm.send(giver, &Message::Have(piece));
        assert_eq!(closed, None);
        assert!(asked > 0, "{piece} is asked for at once");
        assert!(swarm.torrent.handle_block(swarm.now, giver, block(n, BLOCK_LEN)));
        swarm.torrent.handle_piece_result(swarm.now, piece, PieceResult::Written { digests: Vec::new() });
        swarm.drain(giver);
        for peer in [taker, other] {
            assert_eq!(swarm.send(peer, &Message::Interested).1, None);
        }
        assert_eq!(swarm.send(taker, &Message::Request(block(n, BLOCK_LEN))).1, None);
        assert!(swarm.torrent.next_upload(swarm.now, taker).is_some(), "{piece} is passed on at once");
        for peer in [taker, other] {
            assert_eq!(swarm.send(peer, &Message::Have(piece)).1, None);
            assert_eq!(swarm.send(peer, &Message::NotInterested).1, None);
        }
    }
}

/// A file of a large seed has been changed.
#[test]
fn a_seed_may_lose_all_that_it_had_at_once() {
    let pieces = 100_000;
    let geometry = Geometry::new(u64::from(pieces) * u64::from(BLOCK_LEN), u64::from(BLOCK_LEN)).unwrap();
    let config = Config::new(InfoHash([1; 20]), PeerId([9; 20]), 42);
    for fast in [false, true] {
        let torrent = Torrent::new(config.clone(), geometry, Bitfield::empty(pieces));
        let mut swarm = Swarm { torrent, now: Time::from_micros(1), next_key: 0 };
        let seed = swarm.connect(fast);
        let all = Bitfield::full(pieces).to_wire();
        swarm.send(seed, &Message::Bitfield(all));
        swarm.send(seed, &Message::Unchoke);
        let before = swarm.torrent.work();
        for n in 0..pieces {
            let Sent::Message(lost) = extended(Extension::DontHave, encode_piece(PieceIndex(n))) else {
                panic!("no message");
            };
            assert_eq!(swarm.send(seed, &lost).1, None, "{n}");
        }
        assert!(swarm.torrent.work() - before < 20 * u64::from(pieces));
    }
}

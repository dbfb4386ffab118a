//! What peers can make a torrent do by talking: bounds on counted work, whatever they say and however often.

mod common;

use common::*;
use std::sync::{Arc, LazyLock};
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::{BlockRef, PeerKey, PieceIndex};
use swarm_core::merkle::HashRange;
use swarm_core::metainfo::{HashTrees, Info};
use swarm_core::peer::PeerInfo;
use swarm_core::peer::holepunch::WISHES_BURST;
use swarm_core::rng::Rng;
use swarm_core::time::Duration;
use swarm_core::torrent::{Action, CloseReason, Config, Torrent};
use swarm_core::wire::extension::{EXTENSION_HANDSHAKE_ID, Extension, ExtensionHandshake};
use swarm_core::wire::holepunch::{Holepunch, HolepunchError};
use swarm_core::wire::{Message, MetadataMessage};

const PIECES: u32 = 30_000;
const PEERS: u32 = 100;
const MESSAGES: u32 = 50_000;
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

/// The blocks of which peers speak, one a piece.
fn first(n: u32, len: u32) -> BlockRef {
    BlockRef { len, ..block(n % PIECES, 0) }
}

/// A torrent of version 2 of as many pieces.
static V2: LazyLock<Arc<Info>> = LazyLock::new(|| Arc::new(info_v2(&[PIECES], 1)));
/// The same with fewer pieces of several blocks, so that there are leaves.
static V2_LEAVES: LazyLock<Arc<Info>> = LazyLock::new(|| Arc::new(info_v2(&[PIECES], 4)));

/// A range of 512 hashes of a layer, and its proof.
fn hashes_of(info: &Info, n: u32, base_layer: u32) -> HashRange {
    let index = (n % (info.geometry.pieces() / 512)) * 512;
    range(info, 0, base_layer, index, 512, 14 - base_layer)
}

fn hash_request(range: HashRange) -> Sent {
    Sent::Message(Message::HashRequest(Box::new(range)))
}

/// Hashes that nobody has asked for.
fn unasked(range: HashRange) -> Sent {
    Sent::Message(hashes(range, vec![[7; 32]; range.hashes() as usize]))
}

fn extended(extension: Extension, payload: Vec<u8>) -> Sent {
    Sent::Message(Message::Extended { id: extension.local_id(), payload })
}

const KINDS: [Kind; 32] = [
    ("keep-alive", |_| Sent::Message(Message::KeepAlive)),
    ("choke", |_| Sent::Message(Message::Choke)),
    ("unchoke", |_| Sent::Message(Message::Unchoke)),
    ("interested", |_| Sent::Message(Message::Interested)),
    ("not interested", |_| Sent::Message(Message::NotInterested)),
    ("have", |n| Sent::Message(have(n % PIECES))),
    ("have one", |_| Sent::Message(have(7))),
    ("bitfield", |_| Sent::Message(Message::Bitfield(vec![0x5a; PIECES.div_ceil(8) as usize]))),
    ("have all", |_| Sent::Message(Message::HaveAll)),
    ("have none", |_| Sent::Message(Message::HaveNone)),
    ("request", |n| Sent::Message(Message::Request(first(n, BLOCK_LEN)))),
    ("request of a byte", |n| Sent::Message(Message::Request(first(n, 1)))),
    ("bad request", |n| Sent::Message(Message::Request(first(n, BLOCK_LEN + 1)))),
    ("cancel", |n| Sent::Message(Message::Cancel(first(n, BLOCK_LEN)))),
    ("cancel of what is not asked", |n| Sent::Message(Message::Cancel(first(n, 2)))),
    ("reject", |n| Sent::Message(Message::Reject(first(n, BLOCK_LEN)))),
    ("port", |n| Sent::Message(Message::Port(n as u16))),
    ("suggest", |n| Sent::Message(Message::Suggest(PieceIndex(n % PIECES)))),
    ("allowed fast", |n| Sent::Message(Message::AllowedFast(PieceIndex(n % PIECES)))),
    ("block", |n| Sent::Block(first(n, BLOCK_LEN))),
    ("extension handshake", |n| {
        let ids = [
            (Extension::Metadata, 3),
            (Extension::PeerExchange, 4),
            (Extension::UploadOnly, 5),
            (Extension::Holepunch, 6),
        ];
        let hello = ExtensionHandshake {
            ids: ids.into(),
            client: n.to_string(),
            reqq: Some(1 + n),
            upload_only: Some(n % 2 == 0),
            ..Default::default()
        };
        Sent::Message(Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload: hello.encode() })
    }),
    ("don't have", |n| Sent::Message(dont_have(n % PIECES))),
    ("don't have one", |_| Sent::Message(dont_have(7))),
    ("upload only", |n| extended(Extension::UploadOnly, vec![n as u8 % 2])),
    ("metadata", |n| extended(Extension::Metadata, MetadataMessage::Request(n % 8).encode())),
    ("peer exchange", |_| extended(Extension::PeerExchange, b"d5:added6:abcdefe".to_vec())),
    ("rendezvous", |n| extended(Extension::Holepunch, Holepunch::Rendezvous(addr(n)).encode())),
    ("holepunch connect", |n| extended(Extension::Holepunch, Holepunch::Connect(addr(n)).encode())),
    ("unknown", |_| Sent::Message(Message::Extended { id: 99, payload: vec![1; 20] })),
    ("hash request", |n| hash_request(hashes_of(&V2, n, 0))),
    ("hashes", |n| unasked(hashes_of(&V2, n, 0))),
    ("hash reject", |n| Sent::Message(Message::HashReject(Box::new(hashes_of(&V2, n, 0))))),
];

/// What can be said about the hashes of a torrent whose pieces have several blocks.
const HASH_KINDS: [Kind; 8] = [
    ("request for leaves", |n| hash_request(hashes_of(&V2_LEAVES, n, 0))),
    ("request for the same leaves", |_| hash_request(hashes_of(&V2_LEAVES, 3, 0))),
    ("request for a layer", |n| hash_request(hashes_of(&V2_LEAVES, n, 2))),
    ("request for what is no layer of anybody's", |n| hash_request(hashes_of(&V2_LEAVES, n, 1))),
    ("request of no file", |n| {
        hash_request(HashRange { pieces_root: [7; 32], ..hashes_of(&V2_LEAVES, n, 0) })
    }),
    ("unasked leaves", |n| unasked(hashes_of(&V2_LEAVES, n, 0))),
    ("reject of leaves", |n| Sent::Message(Message::HashReject(Box::new(hashes_of(&V2_LEAVES, n, 0))))),
    ("request of a block", |n| Sent::Message(Message::Request(block(n % (PIECES / 4), 0)))),
];

/// A torrent of which many peers have a part, that we and they are busy with.
struct Busy {
    swarm: Swarm,
    next: u32,
    /// How many leaves a piece has.
    leaves: u32,
}

impl Busy {
    fn new(have: Bitfield, super_seeding: bool) -> Busy {
        Busy::of(&V2, have, super_seeding)
    }

    fn of(info: &Arc<Info>, have: Bitfield, super_seeding: bool) -> Busy {
        let is_seed = have.is_full();
        let config = Config {
            metadata: Some(vec![0; 100_000].into()),
            exchange: true,
            holepunch: true,
            super_seeding,
            peers_max: 200,
            hashes: HashTrees::of(info),
            ..config()
        };
        let pieces = info.geometry.pieces();
        let swarm = Swarm::of(Torrent::new(config, info.geometry.clone(), have));
        let mut busy = Busy { swarm, next: 0, leaves: info.geometry.piece_len() / BLOCK_LEN };
        busy.swarm.verifies = false;
        let mut rng = Rng::new(7);
        for nth in 0..PEERS - 1 {
            let n = busy.connect(nth % 3 != 0);
            let mut bits = vec![0; pieces.div_ceil(8) as usize];
            rng.fill(&mut bits);
            clear_spare_bits(&mut bits, pieces);
            busy.say(n, &Message::Bitfield(bits));
            if nth % 2 == 0 {
                busy.say(n, &Message::Unchoke);
            }
            if nth % 4 < 2 && !is_seed {
                busy.say(n, &Message::Interested);
            }
        }
        busy
    }

    fn connect(&mut self, fast: bool) -> u32 {
        self.next += 1;
        self.swarm.torrent.handle_connected(
            self.swarm.now,
            PeerKey(self.next),
            PeerInfo { fast, ..peer(self.next) },
        );
        assert_eq!(self.drain(self.next).1, None);
        self.next
    }

    fn say(&mut self, n: u32, message: &Message) -> (usize, Option<CloseReason>) {
        self.swarm.torrent.handle_message(self.swarm.now, PeerKey(n), message);
        self.drain(n)
    }

    /// How many messages go to this peer, and why it is closed, if it is.
    fn drain(&mut self, n: u32) -> (usize, Option<CloseReason>) {
        let (mut sent, mut closed) = (0, None);
        while let Some(action) = self.swarm.torrent.poll_action() {
            match action {
                Action::Send { peer, .. } => sent += usize::from(peer.0 == n),
                Action::Close { peer, reason } if peer.0 == n => closed = Some(reason),
                Action::Upload(peer) => {
                    while self.swarm.torrent.next_hashes(self.swarm.now, peer).is_some() {
                        sent += usize::from(peer.0 == n);
                    }
                }
                Action::HashLeaves { first, pieces } => {
                    let all = (first.0..first.0 + pieces)
                        .flat_map(|piece| (0..self.leaves).map(move |nth| (piece, nth)));
                    let leaves = all.map(|(piece, nth)| leaf_of(piece, nth)).collect();
                    self.swarm.torrent.handle_leaves(self.swarm.now, first, pieces, Some(leaves));
                }
                _ => {}
            }
        }
        while self.swarm.torrent.poll_event().is_some() {}
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
        let peer = self.connect(fast);
        first.iter().for_each(|message| assert_eq!(self.say(peer, message).1, None));
        let (mut steps, mut answers) = (0, 0);
        for n in 0..MESSAGES {
            if self.swarm.step(INTERVAL) {
                answers += self.drain(peer).0;
            }
            let before = self.swarm.torrent.work();
            let (torrent, now) = (&mut self.swarm.torrent, self.swarm.now);
            match kinds[n as usize % kinds.len()].1(n / kinds.len() as u32) {
                Sent::Message(message) => torrent.handle_message(now, PeerKey(peer), &message),
                Sent::Block(block) => drop(torrent.handle_block(now, PeerKey(peer), block)),
            }
            let (sent, closed) = if n % reads == reads - 1 { self.drain(peer) } else { (0, None) };
            steps += self.swarm.torrent.work() - before;
            answers += sent;
            if closed.is_some() {
                return (steps, answers, n + 1, closed);
            }
        }
        self.swarm.torrent.handle_disconnected(self.swarm.now, PeerKey(peer));
        self.drain(peer);
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
        self.swarm.torrent.check_invariants();
    }
}

/// Bits beyond the last piece are zero.
fn clear_spare_bits(bits: &mut [u8], pieces: u32) {
    if let (Some(last), rest @ 1..) = (bits.last_mut(), pieces % 8) {
        *last &= 0xff << (8 - rest);
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
    let mut busy = Busy::new(have, super_seeding);
    for (nth, kind) in KINDS.iter().enumerate() {
        busy.check(first, &[*kind], what);
        for other in &KINDS[nth + 1..] {
            busy.check(first, &[*kind, *other], what);
        }
    }
}

#[test]
fn flood_of_any_message_or_pair_is_cheap_for_a_leecher() {
    every_kind_and_pair(half(), false, &[], "a downloader");
}

#[test]
fn flood_of_any_message_or_pair_from_a_seed_is_cheap_for_a_leecher() {
    every_kind_and_pair(half(), false, &[Message::HaveAll], "a downloader and a seed");
    every_kind_and_pair(
        half(),
        false,
        &[Message::HaveAll, Message::Unchoke],
        "a downloader and who serves it",
    );
}

#[test]
fn flood_of_any_message_or_pair_is_cheap_for_a_seed() {
    every_kind_and_pair(Bitfield::full(PIECES), false, &[Message::Interested], "a seed");
}

#[test]
fn flood_of_any_message_or_pair_is_cheap_for_a_super_seed() {
    every_kind_and_pair(Bitfield::full(PIECES), true, &[Message::Interested], "a super-seed");
}

/// Requests for hashes, hashes and rejects (BEP 52), alone and in pairs.
#[test]
fn flood_of_hash_messages_is_cheap() {
    let pieces = V2_LEAVES.geometry.pieces();
    for (have, first) in
        [(all_but(pieces, &[5]), Message::HaveAll), (Bitfield::full(pieces), Message::Interested)]
    {
        let mut busy = Busy::of(&V2_LEAVES, have, false);
        for (nth, kind) in HASH_KINDS.iter().enumerate() {
            for other in &HASH_KINDS[nth..] {
                busy.check(std::slice::from_ref(&first), &[*kind, *other], "a torrent of version 2");
            }
        }
    }
}

/// Whoever takes part in holepunching (BEP 55) has the peers looked at while its wishes last, and no more.
#[test]
fn flood_of_holepunching_costs_what_its_wishes_do() {
    let hello = ExtensionHandshake { ids: [(Extension::Holepunch, 6)].into(), ..Default::default() };
    let hello = Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload: hello.encode() };
    let kinds: [Kind; 4] = [
        ("rendezvous", |n| extended(Extension::Holepunch, Holepunch::Rendezvous(addr(1_000 + n)).encode())),
        ("connect", |n| extended(Extension::Holepunch, Holepunch::Connect(addr(1_000 + n)).encode())),
        ("connect to who is here", |_| extended(Extension::Holepunch, Holepunch::Connect(addr(1)).encode())),
        ("error", |n| {
            let error = Holepunch::Error(addr(1_000 + n), HolepunchError::NoSupport);
            extended(Extension::Holepunch, error.encode())
        }),
    ];
    let mut busy = Busy::new(half(), false);
    for kind in kinds {
        let (steps, _, count, _) = busy.flood(std::slice::from_ref(&hello), &[kind], false, 1);
        let seconds = MESSAGES / 20_000;
        let looks = u64::from(WISHES_BURST + seconds) * u64::from(PEERS);
        assert!(steps <= 2 * u64::from(count) + looks, "{}: {count} cost {steps} steps", kind.0);
    }
}

/// Small pieces on a quick line: everybody tells everybody of thousands of pieces a second, and changes its mind as often.
#[test]
fn flood_of_honest_have_and_interested_costs_peers_nothing() {
    let mut swarm = Swarm::leecher(PIECES, 1);
    // One gets each piece a moment before us and passes it on; one gets it from us; one gets it elsewhere at the same time.
    let [giver, taker, other] = [1, 2, 3];
    [giver, taker, other].iter().for_each(|&n| drop(swarm.connect(n)));
    swarm.say_unchecked(giver, Message::Unchoke);
    for n in 0..PIECES - 1 {
        swarm.now += INTERVAL;
        let actions = swarm.say_unchecked(giver, have(n));
        assert_eq!(closed(&actions), []);
        assert!(!sent_to(&actions, giver).is_empty(), "{n} is asked for at once");
        assert!(swarm.handle_block(giver, block(n, 0)));
        swarm.drain_unchecked();
        for peer in [taker, other] {
            assert_eq!(closed(&swarm.say_unchecked(peer, Message::Interested)), []);
        }
        assert_eq!(closed(&swarm.say_unchecked(taker, Message::Request(block(n, 0)))), []);
        assert!(swarm.next_upload(taker).is_some(), "{n} is passed on at once");
        for peer in [taker, other] {
            assert_eq!(closed(&swarm.say_unchecked(peer, have(n))), []);
            assert_eq!(closed(&swarm.say_unchecked(peer, Message::NotInterested)), []);
        }
        swarm.events();
    }
}

/// A file of a large seed has been changed.
#[test]
fn flood_of_dont_have_from_an_honest_seed_is_cheap() {
    let pieces = 100_000;
    for fast in [false, true] {
        let mut swarm = Swarm::leecher(pieces, 1);
        swarm.connect_as(1, PeerInfo { fast, ..peer(1) });
        swarm.say_unchecked(1, Message::Bitfield(Bitfield::full(pieces).to_wire()));
        swarm.say_unchecked(1, Message::Unchoke);
        let before = swarm.torrent.work();
        for n in 0..pieces {
            assert_eq!(closed(&swarm.say_unchecked(1, dont_have(n))), [], "{n}");
        }
        assert!(swarm.torrent.work() - before < 20 * u64::from(pieces));
    }
}

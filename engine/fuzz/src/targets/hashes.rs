//! The hash exchange (BEP 52): a torrent of version 2 that is asked for hashes, asks for them, and gets any answers and any blocks.
//!
//! What it answers is true, what it takes is true, and who is banned has lied: about hashes that it was asked for, or with a block.

use crate::Target;
use crate::input::Input;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, LazyLock};
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::{BLOCK_LEN, Geometry};
use swarm_core::id::{BlockRef, InfoHash, PeerId, PeerKey, PieceIndex};
use swarm_core::merkle::{self, HashRange, Node};
use swarm_core::metainfo::{Content, Create, Format, HashTrees, Hashes, Info, Metainfo, SourceFile};
use swarm_core::peer::PeerInfo;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::hashes::LEAF_JOBS_MAX;
use swarm_core::torrent::{Action, CloseReason, Config, Event, PieceResult, Pressure, Torrent};
use swarm_core::wire::message::Hashes as HashesMessage;
use swarm_core::wire::{DecodeLimits, Decoded, Message, decode};

pub(super) const HASH_EXCHANGE: Target =
    Target { name: "hash_exchange", run: hash_exchange, seeds, runs: 30_000 };

/// Blocks of a piece.
const BLOCKS: u32 = 4;
/// Blocks of each file: below a piece, above the layers that are worked out anew, and between.
const FILES: [u32; 5] = [3, 77, 1, 600 * BLOCKS + 2, 64];
const PEERS: usize = 3;
/// How many steps one input may cause: each piece is looked at for each peer, a few times.
const STEPS_MAX: u64 = 50_000;

/// The torrent, and all layers of each file's tree.
struct Truth {
    info: Arc<Info>,
    layers: BTreeMap<Node, Vec<Vec<Node>>>,
}

static TRUTH: LazyLock<Truth> = LazyLock::new(Truth::new);

/// The leaf of a block, which stands for its bytes.
fn leaf(piece: u32, nth: u32) -> Node {
    merkle::leaf(&[piece.to_be_bytes(), nth.to_be_bytes()].concat())
}

impl Truth {
    fn new() -> Truth {
        let (mut layers, mut files, mut first) = (BTreeMap::new(), Vec::new(), 0);
        for (blocks, n) in FILES.into_iter().zip(0..) {
            let length = u64::from(blocks * BLOCK_LEN);
            let tree = merkle::Tree::new(length, BLOCKS * BLOCK_LEN);
            let leaves: Vec<Node> = (0..blocks).map(|n| leaf(first + n / BLOCKS, n % BLOCKS)).collect();
            let of_file: Vec<Vec<Node>> = (0..=tree.height())
                .map(|layer| leaves.chunks(1 << layer).map(|below| merkle::root(below, 0, layer)).collect())
                .collect();
            layers.insert(of_file[of_file.len() - 1][0], of_file);
            files.push(SourceFile { path: vec![n.to_string()], length, ..SourceFile::default() });
            first += blocks.div_ceil(BLOCKS);
        }
        let create = Create::new("t".to_owned(), Content::Folder(files), BLOCKS * BLOCK_LEN);
        let create = Create { format: Format::V2, ..create };
        let nodes = create.piece_nodes(|piece, nth| leaf(piece.0, nth));
        let bytes = create.encode(Hashes { sha1: &[], nodes: &nodes }).expect("a torrent");
        Truth { info: Metainfo::parse(&bytes).expect("a torrent").info, layers }
    }

    /// The answer of somebody who has all of the tree, if there is one.
    fn answer(&self, range: &HashRange) -> Option<Vec<Node>> {
        let layers = self.layers.get(&range.pieces_root)?;
        let file = self.info.files.iter().find(|file| file.pieces_root == Some(range.pieces_root))?;
        let tree = merkle::Tree::new(file.length, BLOCKS * BLOCK_LEN);
        range.fits(&tree).then(|| range.answer(&tree, |layer, index| layers[layer as usize][index as usize]))
    }
}

/// A peer, and what it has done.
#[derive(Default)]
struct Person {
    key: u32,
    is_here: bool,
    asked: VecDeque<HashRange>,
    asked_ever: BTreeSet<HashRange>,
    blocks: VecDeque<BlockRef>,
    has_lied: bool,
    has_corrupted: bool,
}

struct World {
    truth: &'static Truth,
    torrent: Torrent,
    now: Time,
    people: [Person; PEERS],
    /// Whoever has left, and had lied about hashes or blocks.
    keys: u32,
    /// What has come, and whether it is right.
    blocks: BTreeMap<(PieceIndex, u32), bool>,
    jobs: Vec<(PieceIndex, u32)>,
    /// Pieces to be verified.
    whole: Vec<(PieceIndex, bool)>,
}

fn hash_exchange(input: &[u8]) {
    let mut input = Input(input);
    let (truth, config) = (&*TRUTH, Config::new(InfoHash([1; 20]), PeerId([5; 20]), 42));
    let geometry = truth.info.geometry.clone();
    let pieces = geometry.pieces();
    let hashes = HashTrees::of(&truth.info);
    let now = Time::from_micros(1);
    let torrent = match input.below(4) {
        0 => Torrent::new(Config { hashes, ..config }, geometry, all_but(pieces, &[5])),
        1 => {
            let bare = Arc::new(Info { piece_nodes: None, ..(*truth.info).clone() });
            let mut torrent = Torrent::without_metadata(config);
            torrent.handle_layers_wanted(now, HashTrees::of(&bare).expect("version 2"));
            torrent
        }
        2 => Torrent::new(Config { hashes, ..config }, geometry, all_but(pieces, &[0, 5, 6, 20, pieces - 1])),
        _ => {
            let piece_len = u64::from(BLOCKS * BLOCK_LEN);
            let geometry = Geometry::new(piece_len * u64::from(pieces), piece_len).expect("a geometry");
            Torrent::new(config, geometry, all_but(pieces, &[5]))
        }
    };
    let (people, blocks, jobs, whole) = Default::default();
    let mut world = World { truth, torrent, now, people, keys: 0, blocks, jobs, whole };
    while !input.is_empty() {
        let before = world.torrent.work();
        world.step(&mut input);
        world.settle();
        let steps = world.torrent.work() - before;
        assert!(steps <= STEPS_MAX, "{steps} steps");
    }
    world.torrent.check_invariants();
}

fn all_but(pieces: u32, missing: &[u32]) -> Bitfield {
    let mut have = Bitfield::full(pieces);
    missing.iter().for_each(|&piece| _ = have.remove(PieceIndex(piece)));
    have
}

impl World {
    fn step(&mut self, input: &mut Input<'_>) {
        let who = input.below(PEERS);
        if !self.people[who].is_here {
            return self.join(who);
        }
        match input.below(16) {
            0 | 1 => {
                let range = Box::new(self.range(input));
                self.say(who, Message::HashRequest(range));
            }
            2 => {
                let range = self.range(input);
                let hashes = input.chunk().as_chunks::<8>().0.iter().map(|seed| seed.repeat(4));
                let hashes: Vec<Node> = hashes.map(|node| node.try_into().expect("32 bytes")).collect();
                self.hashes(who, range, hashes);
            }
            3..6 => self.answer(who, input),
            6 => {
                let range = Box::new(self.range(input));
                self.people[who].asked.retain(|asked| *asked != *range);
                self.say(who, Message::HashReject(range));
            }
            7 => {
                if let Some(range) = self.people[who].asked.pop_front() {
                    self.say(who, Message::HashReject(Box::new(range)));
                }
            }
            8 => self.leaves(input.bool()),
            9 => {
                self.now += Duration::from_millis(input.of(&[10, 1_000, 2_000, 5_000]));
                self.torrent.handle_timeout(self.now);
            }
            10 => self.leave(who),
            11 | 12 => self.send_blocks(who, input),
            13 => self.ordinary(who, input),
            14 => self.raw(who, input),
            _ => {
                let pressure = input.of(&[Pressure::None, Pressure::Low, Pressure::Full]);
                self.torrent.set_pressure(self.now, pressure);
            }
        }
    }

    fn join(&mut self, who: usize) {
        self.keys += 1;
        let key = self.keys;
        self.people[who] = Person { key, is_here: true, ..Person::default() };
        let mut peer_id = [7; 20];
        peer_id[..4].copy_from_slice(&key.to_be_bytes());
        let [_, _, high, low] = key.to_be_bytes();
        let info = PeerInfo {
            addr: ([10, who as u8, high, low], 6881).into(),
            inbound: true,
            peer_id: PeerId(peer_id),
            fast: true,
            extended: true,
            encryption: None,
            utp: false,
            v2: false,
        };
        self.torrent.handle_connected(self.now, PeerKey(key), info);
    }

    fn leave(&mut self, who: usize) {
        self.people[who].is_here = false;
        self.torrent.handle_disconnected(self.now, PeerKey(self.people[who].key));
    }

    fn say(&mut self, who: usize, message: Message) {
        self.torrent.handle_message(self.now, PeerKey(self.people[who].key), &message);
    }

    /// A range of some file, sensible or not.
    fn range(&self, input: &mut Input<'_>) -> HashRange {
        let file = input.below(FILES.len() + 1);
        let root = self.truth.info.files.get(file).and_then(|file| file.pieces_root);
        let small = |input: &mut Input<'_>| u32::from(input.byte() % 16);
        let base_layer = if input.bool() { small(input) } else { input.number() };
        let length = if input.bool() { 1 << small(input) } else { input.number() };
        let index = input.number().wrapping_mul(if input.bool() { length } else { 1 });
        let proof_layers = if input.bool() { small(input) } else { input.number() };
        HashRange { pieces_root: root.unwrap_or([7; 32]), base_layer, index, length, proof_layers }
    }

    /// A peer sends hashes; whether it lies.
    fn hashes(&mut self, who: usize, range: HashRange, hashes: Vec<Node>) {
        let person = &mut self.people[who];
        person.has_lied |=
            person.asked_ever.contains(&range) && self.truth.answer(&range).as_ref() != Some(&hashes);
        person.asked.retain(|asked| *asked != range);
        self.say(who, Message::Hashes(Box::new(HashesMessage { range, hashes })));
    }

    /// A peer answers a request, rightly or with something wrong.
    fn answer(&mut self, who: usize, input: &mut Input<'_>) {
        let asked = &mut self.people[who].asked;
        let Some(range) = asked.remove(input.below(asked.len().clamp(1, 256))) else { return };
        let mut hashes = self.truth.answer(&range).expect("what we ask for is in the tree");
        let (change, at) = (input.byte(), usize::from(input.u16()) % hashes.len());
        match change {
            0..200 => {}
            200..230 => hashes[at][usize::from(change) % 32] ^= 1,
            230..240 => drop(hashes.remove(at)),
            240..250 => hashes.push([1; 32]),
            _ => hashes.swap(0, at),
        }
        self.hashes(who, range, hashes);
    }

    /// The shell has read pieces again.
    fn leaves(&mut self, is_readable: bool) {
        let Some((first, pieces)) = self.jobs.pop() else { return };
        let geometry = &self.truth.info.geometry;
        let of_piece =
            |piece: u32| (0..geometry.blocks_in(PieceIndex(piece))).map(move |nth| leaf(piece, nth));
        let leaves = is_readable.then(|| (first.0..first.0 + pieces).flat_map(of_piece).collect());
        self.torrent.handle_leaves(self.now, first, pieces, leaves);
    }

    /// A peer sends blocks that it was asked for, right or wrong, or rejects them.
    fn send_blocks(&mut self, who: usize, input: &mut Input<'_>) {
        let (count, what) = (1 + input.below(16), input.byte());
        for nth in 0..count {
            let person = &mut self.people[who];
            let Some(block) = person.blocks.pop_front() else { return };
            if what & 3 == 3 {
                self.say(who, Message::Reject(block));
                continue;
            }
            let is_right = what & 3 != 2 || nth % 3 != usize::from(what >> 6) % 3;
            person.has_corrupted |= !is_right;
            if self.torrent.handle_block(self.now, PeerKey(person.key), block) {
                self.blocks.insert((block.piece, block.begin / BLOCK_LEN), is_right);
            }
        }
    }

    fn ordinary(&mut self, who: usize, input: &mut Input<'_>) {
        let piece = PieceIndex(input.of(&[0, 5, 6, 20, 1]));
        let block = BlockRef { piece, begin: BLOCK_LEN * input.below(4) as u32, len: BLOCK_LEN };
        let message = match input.below(9) {
            0 => Message::HaveAll,
            1 => Message::Unchoke,
            2 => Message::Choke,
            3 => Message::Interested,
            4 => Message::Request(block),
            5 => Message::Have(piece),
            6 => Message::Cancel(block),
            7 => Message::AllowedFast(piece),
            _ => {
                let _sent = self.torrent.next_upload(self.now, PeerKey(self.people[who].key));
                return;
            }
        };
        self.say(who, message);
    }

    /// Anything that can be read as a message.
    fn raw(&mut self, who: usize, input: &mut Input<'_>) {
        let body = input.chunk();
        let stream = [&(body.len() as u32).to_be_bytes()[..], body].concat();
        let limits = DecodeLimits::for_pieces(self.truth.info.geometry.pieces()).with_hashes(512);
        match decode(&stream, &limits) {
            Ok(Some((Decoded::Message(Message::Hashes(answer)), _))) => {
                self.hashes(who, answer.range, answer.hashes);
            }
            Ok(Some((Decoded::Message(message), _))) => self.say(who, message),
            Ok(Some((Decoded::Block(block), _))) => {
                // Of a block that it was not asked for nothing is kept.
                let person = &mut self.people[who];
                person.has_corrupted |= person.blocks.contains(&block);
                person.blocks.retain(|asked| *asked != block);
                if self.torrent.handle_block(self.now, PeerKey(person.key), block) {
                    self.blocks.insert((block.piece, block.begin / BLOCK_LEN), false);
                }
            }
            _ => {}
        }
    }

    /// Does what the torrent wants done, and checks what it says.
    fn settle(&mut self) {
        self.drain();
        while let Some((piece, digests)) = self.whole.pop() {
            self.verify(piece, digests);
            self.drain();
        }
        for who in 0..PEERS {
            let key = PeerKey(self.people[who].key);
            while let Some(Message::Hashes(answer)) = self.torrent.next_hashes(self.now, key) {
                assert_eq!(Some(answer.hashes), self.truth.answer(&answer.range), "{:?}", answer.range);
            }
        }
        self.drain();
        while let Some(event) = self.torrent.poll_event() {
            if let Event::PieceLayersReceived(layers) = event {
                let mut whole = Info { piece_nodes: None, ..(*self.truth.info).clone() };
                whole.set_piece_layers(layers);
                assert_eq!(whole, *self.truth.info);
            }
        }
    }

    fn drain(&mut self) {
        while let Some(action) = self.torrent.poll_action() {
            match action {
                Action::Send { peer, message } => self.on_sent(peer, message),
                Action::Close { peer, reason } => self.on_closed(peer, &reason),
                Action::HashLeaves { first, pieces } => {
                    self.jobs.push((first, pieces));
                    assert!(self.jobs.len() <= LEAF_JOBS_MAX);
                }
                Action::VerifyPiece { piece, digests } => self.whole.push((piece, digests)),
                Action::DropPiece(piece) => self.blocks.retain(|(of, _), _| *of != piece),
                Action::DropBlocks { piece, blocks } => {
                    self.blocks.retain(|(of, block), _| *of != piece || !blocks.contains(block));
                }
                _ => {}
            }
        }
    }

    fn on_sent(&mut self, peer: PeerKey, message: Message) {
        let Some(person) = self.people.iter_mut().find(|person| person.key == peer.0) else { return };
        match message {
            Message::HashRequest(range) => {
                assert!(self.truth.answer(&range).is_some(), "{range:?} is in no tree");
                person.asked_ever.insert(*range);
                person.asked.push_back(*range);
            }
            Message::Request(block) => person.blocks.push_back(block),
            Message::Cancel(block) => person.blocks.retain(|asked| *asked != block),
            _ => {}
        }
    }

    /// Nobody is banned who has not lied.
    fn on_closed(&mut self, peer: PeerKey, reason: &CloseReason) {
        let person = self.people.iter_mut().find(|person| person.key == peer.0).expect("a peer");
        person.is_here = false;
        match reason {
            CloseReason::WrongHashes => assert!(person.has_lied, "it is banned for hashes, and has not lied"),
            CloseReason::CorruptBlock => {
                assert!(person.has_corrupted, "it is banned for a block that was right")
            }
            _ => {}
        }
    }

    /// A piece is hashed, and written if it is right.
    fn verify(&mut self, piece: PieceIndex, wants_digests: bool) {
        let blocks = self.truth.info.geometry.blocks_in(piece);
        let is_right = |nth: u32| self.blocks[&(piece, nth)];
        let digest = |nth| leaf(if is_right(nth) { piece.0 } else { piece.0 + 1_000_000 }, nth);
        let digests = || (0..blocks).map(|nth| digest(nth)[..20].try_into().expect("20 bytes")).collect();
        let result = match (0..blocks).all(is_right) {
            true => PieceResult::Written { digests: if wants_digests { digests() } else { Vec::new() } },
            false => PieceResult::Corrupt { digests: digests() },
        };
        let is_right = matches!(result, PieceResult::Written { .. });
        self.torrent.handle_piece_result(self.now, piece, result);
        if is_right {
            self.blocks.retain(|(of, _), _| *of != piece);
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    // A range: file, then whether each number is small, and the number.
    let range =
        |file: u8, layer: u8, log: u8, index: u8, proof: u8| [file, 1, layer, 1, log, index, 1, 1, proof];
    let asks = |who: u8, range: [u8; 9]| [&[who, 0][..], &range].concat();
    let join = |who: u8, says: &[u8]| {
        says.iter().fold(vec![who], |seed, what| [&seed[..], &[who, 13, 1, 0, *what]].concat())
    };
    let answers = |who: u8| [who, 3, 0, 0, 0, 0];
    let mut asked = vec![0, 0];
    [
        range(3, 2, 9, 0, 9),
        range(1, 0, 2, 3, 6),
        range(1, 2, 1, 2, 4),
        range(3, 0, 9, 4, 11),
        range(9, 0, 1, 0, 0),
    ]
    .iter()
    .for_each(|range| asked.extend(asks(0, *range)));
    asked.extend([0, 8, 1, 0, 8, 1, 0, 9, 1]);
    let mut layers = vec![1];
    (0..3).for_each(|who| layers.extend(join(who, &[0])));
    layers.extend([0, 9, 1]);
    (0..6).for_each(|n| layers.extend(answers(n % 3)));
    layers.extend([1, 7, 2, 7, 0, 3, 0, 205, 0, 1, 0, 0, 9, 3]);
    (0..6).for_each(|n| layers.extend(answers(n % 3)));
    let mut apart = vec![2];
    (0..3).for_each(|who| apart.extend(join(who, &[0, 1])));
    // Two send a part of it each, one of them some bad blocks; then they are asked for leaves.
    for n in 0..12 {
        apart.extend([n % 3, 11, 1, if n % 3 == 1 { 2 } else { 0 }]);
    }
    (0..6).for_each(|n| apart.extend(answers(n % 3)));
    apart.extend([0, 7, 1, 7, 2, 7, 0, 9, 3]);
    let mut rejects = apart.clone();
    (0..6).for_each(|n| rejects.extend([n % 3, 7]));
    let v1 = [&[3, 0][..], &asks(0, range(1, 0, 2, 3, 6)), &[0, 6], &range(1, 0, 2, 3, 6)].concat();
    vec![asked, layers, apart, rejects, v1]
}

//! A [`Torrent`] on a virtual clock, and peers with numbers that the test speaks for.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::{BLOCK_LEN, Geometry};
use swarm_core::id::{BlockRef, InfoHash, PeerId, PeerKey, PieceIndex};
use swarm_core::merkle::{self, HashRange, Node, Tree};
use swarm_core::metainfo::{self, Content, Create, Format, HashTrees, Info, Metainfo, SourceFile};
use swarm_core::peer::{Peer, PeerInfo};
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::discovery::Origin;
use swarm_core::torrent::{Action, CloseReason, Config, Event, PieceResult, Torrent};
use swarm_core::wire::Message;
use swarm_core::wire::extension::{EXTENSION_HANDSHAKE_ID, Extension, ExtensionHandshake, encode_piece};
use swarm_core::wire::message::Hashes;

pub const OUR_ID: PeerId = PeerId([5; 20]);
pub const START: Time = Time::from_micros(1);

pub struct Swarm {
    pub torrent: Torrent,
    pub now: Time,
    /// Complete pieces verify and are written at once.
    pub verifies: bool,
    /// What each peer was asked for and has neither sent nor rejected, oldest first.
    asked: BTreeMap<u32, Vec<BlockRef>>,
}

pub fn config() -> Config {
    Config::new(InfoHash([1; 20]), OUR_ID, 42)
}

/// So many pieces of so many blocks each.
pub fn geometry(pieces: u32, blocks: u32) -> Geometry {
    let piece_len = u64::from(blocks) * u64::from(BLOCK_LEN);
    Geometry::new(u64::from(pieces) * piece_len, piece_len).unwrap()
}

/// Every piece but these.
pub fn all_but(pieces: u32, missing: &[u32]) -> Bitfield {
    let mut have = Bitfield::full(pieces);
    missing.iter().for_each(|&piece| _ = have.remove(PieceIndex(piece)));
    have
}

pub fn block(piece: u32, nth: u32) -> BlockRef {
    BlockRef { piece: PieceIndex(piece), begin: nth * BLOCK_LEN, len: BLOCK_LEN }
}

pub fn have(piece: u32) -> Message {
    Message::Have(PieceIndex(piece))
}

/// BEP 54: the peer has lost this piece.
pub fn dont_have(piece: u32) -> Message {
    Message::Extended { id: Extension::DontHave.local_id(), payload: encode_piece(PieceIndex(piece)) }
}

pub fn addr(n: u32) -> SocketAddr {
    let [_, high, middle, low] = n.to_be_bytes();
    SocketAddr::from(([10, high, middle, low], 6881))
}

/// Peer `n` dials us from its own address. It speaks BEP 6 and BEP 10.
pub fn peer(n: u32) -> PeerInfo {
    let mut peer_id = [7; 20];
    peer_id[..4].copy_from_slice(&n.to_be_bytes());
    PeerInfo {
        addr: addr(n),
        inbound: true,
        peer_id: PeerId(peer_id),
        fast: true,
        extended: true,
        encryption: None,
        utp: false,
        v2: false,
    }
}

/// The same from another address.
pub fn peer_at(n: u32, ip: IpAddr) -> PeerInfo {
    PeerInfo { addr: SocketAddr::new(ip, 6881), ..peer(n) }
}

/// A peer that speaks BEP 3 alone.
pub fn plain_peer(n: u32) -> PeerInfo {
    PeerInfo { fast: false, extended: false, ..peer(n) }
}

pub fn written() -> PieceResult {
    PieceResult::Written { digests: Vec::new() }
}

/// The leaf of a block, which stands for its bytes.
pub fn leaf_of(piece: u32, nth: u32) -> Node {
    merkle::leaf(&[piece.to_be_bytes(), nth.to_be_bytes()].concat())
}

/// The digests of a piece of so many blocks, of which these are not what they should be.
pub fn digests_of(piece: u32, blocks: u32, bad: &[u32]) -> Vec<[u8; 20]> {
    let digest = |nth| leaf_of(if bad.contains(&nth) { piece + 1_000_000 } else { piece }, nth);
    (0..blocks).map(|nth| digest(nth)[..20].try_into().unwrap()).collect()
}

/// A torrent of version 2 alone with files of these lengths, in blocks, and pieces of so many blocks.
pub fn info_v2(files: &[u32], blocks: u32) -> Info {
    let file = |(&len, n): (&u32, usize)| SourceFile {
        path: vec![format!("{n:03}")],
        length: u64::from(len) * u64::from(BLOCK_LEN),
        ..SourceFile::default()
    };
    let files = files.iter().zip(0..).map(file).collect();
    let create = Create::new("t".to_owned(), Content::Folder(files), blocks * BLOCK_LEN);
    let create = Create { format: Format::V2, ..create };
    let nodes = create.piece_nodes(|piece, nth| leaf_of(piece.0, nth));
    let bytes = create.encode(metainfo::Hashes { sha1: &[], nodes: &nodes }).unwrap();
    (*Metainfo::parse(&bytes).unwrap().info).clone()
}

/// A range of the tree of a file.
pub fn range(
    info: &Info,
    file: usize,
    base_layer: u32,
    index: u32,
    length: u32,
    proof_layers: u32,
) -> HashRange {
    let pieces_root = info.files[file].pieces_root.unwrap();
    HashRange { pieces_root, base_layer, index, length, proof_layers }
}

pub fn hash_requests(actions: &[Action], n: u32) -> Vec<HashRange> {
    let range = |message: &Message| match message {
        Message::HashRequest(range) => Some(**range),
        _ => None,
    };
    sent_to(actions, n).into_iter().filter_map(range).collect()
}

pub fn hash_rejects(actions: &[Action], n: u32) -> usize {
    sent_to(actions, n).into_iter().filter(|message| matches!(message, Message::HashReject(_))).count()
}

/// The answer that somebody gives who has the whole tree.
pub fn true_hashes(info: &Info, range: HashRange) -> Vec<Node> {
    let piece_len = info.geometry.piece_len();
    let file = info.files.iter().find(|file| file.pieces_root == Some(range.pieces_root)).unwrap();
    let (tree, first) = (Tree::new(file.length, piece_len), (file.offset / u64::from(piece_len)) as u32);
    let per_piece = piece_len / BLOCK_LEN;
    let leaf = |index: u32| leaf_of(first + index / per_piece, index % per_piece);
    range.answer(&tree, |layer, index| {
        let end = (u64::from(index + 1) << layer).min(tree.nodes(0)) as u32;
        let leaves: Vec<Node> = ((index << layer)..end).map(leaf).collect();
        merkle::root(&leaves, 0, layer)
    })
}

pub fn hashes(range: HashRange, hashes: Vec<Node>) -> Message {
    Message::Hashes(Box::new(Hashes { range, hashes }))
}

impl Swarm {
    /// A torrent of version 2 of which we have these pieces.
    pub fn v2(info: &Arc<Info>, have: Bitfield) -> Swarm {
        let config = Config { hashes: HashTrees::of(info), ..config() };
        Swarm::of(Torrent::new(config, info.geometry.clone(), have))
    }

    /// What the peer is sent of hashes, as far as it is ready.
    pub fn next_hashes(&mut self, n: u32) -> Option<(HashRange, Vec<Node>)> {
        match self.torrent.next_hashes(self.now, PeerKey(n))? {
            Message::Hashes(answer) => Some((answer.range, answer.hashes)),
            other => panic!("{other:?}"),
        }
    }

    /// The peer asks for hashes.
    pub fn ask_hashes(&mut self, n: u32, range: HashRange) -> Vec<Action> {
        self.say(n, Message::HashRequest(Box::new(range)))
    }

    /// The pieces have so many blocks each.
    pub fn new(config: Config, have: Bitfield, blocks: u32) -> Swarm {
        Swarm::of(Torrent::new(config, geometry(have.len(), blocks), have))
    }

    pub fn of(torrent: Torrent) -> Swarm {
        Swarm { torrent, now: START, verifies: true, asked: BTreeMap::new() }
    }

    pub fn leecher(pieces: u32, blocks: u32) -> Swarm {
        Swarm::new(config(), Bitfield::empty(pieces), blocks)
    }

    pub fn seed(pieces: u32, blocks: u32) -> Swarm {
        Swarm::new(config(), Bitfield::full(pieces), blocks)
    }

    pub fn connect(&mut self, n: u32) -> Vec<Action> {
        self.connect_as(n, peer(n))
    }

    pub fn connect_as(&mut self, n: u32, info: PeerInfo) -> Vec<Action> {
        self.torrent.handle_connected(self.now, PeerKey(n), info);
        self.drain()
    }

    /// A seed connects and unchokes us: what it is asked for.
    pub fn connect_seed(&mut self, n: u32) -> Vec<BlockRef> {
        self.connect(n);
        let mut actions = self.say(n, Message::HaveAll);
        actions.extend(self.say(n, Message::Unchoke));
        requests(&actions)
    }

    pub fn disconnect(&mut self, n: u32) -> Vec<Action> {
        self.asked.remove(&n);
        self.torrent.handle_disconnected(self.now, PeerKey(n));
        self.drain()
    }

    pub fn say(&mut self, n: u32, message: Message) -> Vec<Action> {
        self.hear(n, message);
        self.drain()
    }

    /// The same without a look at every invariant, which takes long in large torrents.
    pub fn say_unchecked(&mut self, n: u32, message: Message) -> Vec<Action> {
        self.hear(n, message);
        self.drain_unchecked()
    }

    fn hear(&mut self, n: u32, message: Message) {
        if let Message::Reject(block) = message {
            self.forget_request(n, block);
        }
        self.torrent.handle_message(self.now, PeerKey(n), &message);
    }

    pub fn say_hello(&mut self, n: u32, hello: ExtensionHandshake) -> Vec<Action> {
        self.say(n, Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload: hello.encode() })
    }

    /// The peer sends a block: whether it is kept, and what follows.
    pub fn send_block(&mut self, n: u32, block: BlockRef) -> (bool, Vec<Action>) {
        (self.handle_block(n, block), self.drain())
    }

    /// The same, with more input to come before the torrent is asked what it wants done.
    pub fn handle_block(&mut self, n: u32, block: BlockRef) -> bool {
        self.forget_request(n, block);
        self.torrent.handle_block(self.now, PeerKey(n), block)
    }

    /// The peer sends up to so many of the blocks that it is asked for, oldest first: which.
    pub fn serve(&mut self, n: u32, count: usize) -> Vec<BlockRef> {
        let mut sent = Vec::new();
        while sent.len() < count
            && let Some(&block) = self.asked(n).first()
        {
            self.send_block(n, block);
            sent.push(block);
        }
        sent
    }

    /// What the peer was asked for and has neither sent nor rejected.
    pub fn asked(&self, n: u32) -> &[BlockRef] {
        self.asked.get(&n).map_or(&[], |asked| asked)
    }

    fn forget_request(&mut self, n: u32, block: BlockRef) {
        let asked = self.asked.entry(n).or_default();
        if let Some(at) = asked.iter().position(|&other| other == block) {
            asked.remove(at);
        }
    }

    /// The block that we send to the peer next.
    pub fn next_upload(&mut self, n: u32) -> Option<BlockRef> {
        self.torrent.next_upload(self.now, PeerKey(n))
    }

    /// A complete piece was hashed and perhaps written.
    pub fn verified(&mut self, piece: PieceIndex, result: PieceResult) -> Vec<Action> {
        self.torrent.handle_piece_result(self.now, piece, result);
        self.drain()
    }

    /// A tracker tells of these addresses.
    pub fn announce(&mut self, addrs: &[SocketAddr]) -> Vec<Action> {
        let tracker = Origin::Tracker([192, 0, 2, 1].into());
        self.torrent.handle_addresses(self.now, addrs, tracker);
        self.drain()
    }

    /// Time passes, with a tick each second.
    pub fn pass(&mut self, time: Duration) -> Vec<Action> {
        let (end, mut actions) = (self.now + time, Vec::new());
        while self.now < end {
            self.now = end.min(self.now + Duration::from_secs(1));
            self.torrent.handle_timeout(self.now);
            actions.extend(self.drain());
        }
        actions
    }

    /// The clock moves on; whether the torrent had asked to hear of that.
    pub fn step(&mut self, time: Duration) -> bool {
        self.now += time;
        let is_due = self.torrent.poll_timeout().is_some_and(|at| at <= self.now);
        if is_due {
            self.torrent.handle_timeout(self.now);
        }
        is_due
    }

    /// What the torrent wants done.
    pub fn drain(&mut self) -> Vec<Action> {
        self.torrent.check_invariants();
        self.drain_unchecked()
    }

    /// The same without a look at every invariant.
    pub fn drain_unchecked(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(action) = self.torrent.poll_action() {
            match &action {
                Action::Send { peer, message: Message::Request(block) } => {
                    self.asked.entry(peer.0).or_default().push(*block);
                }
                Action::Send { peer, message: Message::Cancel(block) } => self.forget_request(peer.0, *block),
                Action::Close { peer, .. } => drop(self.asked.remove(&peer.0)),
                Action::VerifyPiece { piece, .. } if self.verifies => {
                    self.torrent.handle_piece_result(self.now, *piece, written());
                }
                _ => {}
            }
            actions.push(action);
        }
        actions
    }

    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.torrent.poll_event()).collect()
    }

    /// The torrent's view of a peer that is connected.
    pub fn view(&self, n: u32) -> &Peer {
        self.torrent.peer(PeerKey(n)).expect("a connected peer")
    }

    pub fn is_here(&self, n: u32) -> bool {
        self.torrent.peer(PeerKey(n)).is_some()
    }

    pub fn peers(&self) -> usize {
        self.torrent.peers().count()
    }
}

fn messages(actions: &[Action]) -> impl Iterator<Item = (u32, &Message)> {
    actions.iter().filter_map(|action| match action {
        Action::Send { peer, message } => Some((peer.0, message)),
        _ => None,
    })
}

/// The messages to a peer.
pub fn sent_to(actions: &[Action], n: u32) -> Vec<&Message> {
    messages(actions).filter(|(to, _)| *to == n).map(|(_, message)| message).collect()
}

/// The messages to any peer.
pub fn sent(actions: &[Action]) -> Vec<&Message> {
    messages(actions).map(|(_, message)| message).collect()
}

pub fn requests(actions: &[Action]) -> Vec<BlockRef> {
    let block = |message| match message {
        &Message::Request(block) => Some(block),
        _ => None,
    };
    sent(actions).into_iter().filter_map(block).collect()
}

pub fn cancels(actions: &[Action]) -> Vec<BlockRef> {
    let block = |message| match message {
        &Message::Cancel(block) => Some(block),
        _ => None,
    };
    sent(actions).into_iter().filter_map(block).collect()
}

/// Our extension handshake.
pub fn our_hello(actions: &[Action]) -> Option<ExtensionHandshake> {
    sent(actions).into_iter().find_map(|message| match message {
        Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload } => ExtensionHandshake::decode(payload).ok(),
        _ => None,
    })
}

/// Who is closed, and why.
pub fn closed(actions: &[Action]) -> Vec<(u32, CloseReason)> {
    let closed = |action: &Action| match action {
        Action::Close { peer, reason } => Some((peer.0, reason.clone())),
        _ => None,
    };
    actions.iter().filter_map(closed).collect()
}

pub fn dialled(actions: &[Action]) -> Vec<SocketAddr> {
    let addr = |action: &Action| match action {
        Action::Connect(dial) => Some(dial.addr),
        _ => None,
    };
    actions.iter().filter_map(addr).collect()
}

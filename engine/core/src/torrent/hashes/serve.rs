//! Our duty to serve hashes.
//!
//! Hashes of the piece layer and above follow from the nodes of the pieces, which every torrent of version 2 knows. What lies far above
//! the pieces is worked out once for a file, a part at a time ([`CHUNKS_AT_A_TIME`]).
//!
//! Leaves are not kept: the shell reads the pieces and hashes them again ([`Action::HashLeaves`]). That costs far more than the
//! request, so it is limited in bytes a second, for all and for each host; beyond that requests are rejected. One that follows a request for
//! a block of the same range, which we serve, must not be (BEP 52): it waits.
//!
//! Answers are made when the connection has room for them ([`Torrent::next_hashes`]), and served while the peer is choked too.

use super::super::{Action, Torrent};
use super::HashExchange;
use crate::id::{BlockRef, PeerKey, PieceIndex};
use crate::merkle::{self, HASHES_MAX, HashRange, Node};
use crate::metainfo::{FileTree, HashTrees};
use crate::net::Host;
use crate::peer::budget::Cost;
use crate::time::{Duration, Time};
use crate::wire::Message;
use crate::wire::message::Hashes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// How many requests for hashes of pieces may wait to be answered for a peer; more are rejected.
pub const HASHES_ASKED_MAX: usize = 32;
/// How many requests for leaves may wait for a peer; more are rejected.
pub const LEAVES_ASKED_MAX: usize = 8;
/// How many may wait for a peer with those that follow a request for a block.
pub const LEAVES_OWED_MAX: usize = 256;
/// How many stretches of pieces are hashed again at a time.
pub const LEAF_JOBS_MAX: usize = 2;
/// How many bytes a second are hashed again on behalf of all peers, and how many at once after a rest.
pub const LEAF_BYTES_PER_S: u64 = 32 << 20;
/// See [`LEAF_BYTES_PER_S`].
pub const LEAF_BYTES_BURST: u64 = 64 << 20;
/// The same for a host.
pub const LEAF_BYTES_OF_HOST_PER_S: u64 = 8 << 20;
/// See [`LEAF_BYTES_OF_HOST_PER_S`].
pub const LEAF_BYTES_OF_HOST_BURST: u64 = 32 << 20;
/// The most that is hashed for one request, unless a single piece is longer, in bytes.
const LEAF_SPAN_MAX: u64 = 16 << 20;
/// Layers that are worked out anew for each request.
const CHUNK_LAYERS: u32 = 9;
/// Nodes far above the pieces that are worked out at a time, each from 512 others.
const CHUNKS_AT_A_TIME: usize = 64;
/// How long others have their turn in between.
const CHUNKS_INTERVAL: Duration = Duration::from_millis(20);
/// How many files with the same root are looked at for one whose pieces are here.
const SAME_FILES_MAX: usize = 64;
/// How many copies of all hashes a peer gets before each request is charged.
const COPIES_MAX: u64 = 3;

/// Neighbouring pieces of a file.
type Span = (PieceIndex, u32);

/// What may be spent, as bytes: time fills it, up to a burst. Something is begun while any is left, and what it takes beyond
/// that is owed.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    level: i64,
    at: Time,
}

impl Allowance {
    fn filled(self, now: Time, per_s: u64, burst: u64) -> Allowance {
        let micros = i64::try_from(now.since(self.at).as_micros()).unwrap_or(i64::MAX);
        let earned = micros.saturating_mul(per_s as i64) / 1_000_000;
        Allowance { level: self.level.saturating_add(earned).min(burst as i64), at: self.at.max(now) }
    }
}

#[derive(Debug)]
enum Ready {
    /// Hashes of pieces, to be looked up.
    Layer(HashRange),
    Leaves(Box<Hashes>),
}

#[derive(Debug, Default)]
struct OfPeer {
    /// What it is sent next, oldest first.
    ready: VecDeque<Ready>,
    /// Its requests for leaves, oldest first.
    leaves: VecDeque<(HashRange, Span)>,
    /// How many hashes of pieces it was sent.
    served: u64,
    /// The last block it asked for and gets.
    last_block: Option<BlockRef>,
}

impl OfPeer {
    /// Hashes in answers with leaves that wait to be sent.
    fn leaves_ready(&self) -> usize {
        let len = |ready: &Ready| match ready {
            Ready::Leaves(answer) => answer.hashes.len(),
            Ready::Layer(_) => 0,
        };
        self.ready.iter().map(len).sum()
    }
}

/// Nodes of one file far above its pieces, from [`CHUNK_LAYERS`] above the piece layer up.
#[derive(Debug, Default)]
struct Top {
    layers: Vec<Vec<Node>>,
    is_whole: bool,
}

/// What peers have asked for.
#[derive(Debug, Default)]
pub(super) struct Serving {
    peers: BTreeMap<PeerKey, OfPeer>,
    /// By the file's first piece.
    tops: BTreeMap<PieceIndex, Top>,
    /// When more of a top is worked out, and which.
    next_chunks: Option<(Time, PieceIndex)>,
    /// What is being hashed.
    jobs: BTreeSet<Span>,
    all: Option<Allowance>,
    hosts: BTreeMap<Host, Allowance>,
    /// Whose request for leaves was taken up last.
    turn: Option<PeerKey>,
}

impl Serving {
    pub(super) fn left(&mut self, key: PeerKey) {
        self.peers.remove(&key);
    }

    /// What may be hashed now on behalf of this host: nothing if either is negative.
    fn allowance(&mut self, now: Time, host: Host) -> i64 {
        let start = |burst: u64| Allowance { level: burst as i64, at: now };
        let all = self.all.unwrap_or_else(|| start(LEAF_BYTES_BURST));
        let all = all.filled(now, LEAF_BYTES_PER_S, LEAF_BYTES_BURST);
        self.all = Some(all);
        let of_host = self.hosts.get(&host).copied().unwrap_or_else(|| start(LEAF_BYTES_OF_HOST_BURST));
        let of_host = of_host.filled(now, LEAF_BYTES_OF_HOST_PER_S, LEAF_BYTES_OF_HOST_BURST);
        all.level.min(of_host.level)
    }

    fn spend(&mut self, now: Time, host: Host, bytes: u64) {
        self.all.iter_mut().for_each(|all| all.level -= bytes as i64);
        let start = Allowance { level: LEAF_BYTES_OF_HOST_BURST as i64, at: now };
        let of_host = self.hosts.entry(host).or_insert(start);
        *of_host = of_host.filled(now, LEAF_BYTES_OF_HOST_PER_S, LEAF_BYTES_OF_HOST_BURST);
        of_host.level -= bytes as i64;
    }

    /// Forgets hosts that have rested.
    fn forget_rested(&mut self, now: Time) {
        self.hosts.retain(|_, allowance| {
            let filled = allowance.filled(now, LEAF_BYTES_OF_HOST_PER_S, LEAF_BYTES_OF_HOST_BURST);
            filled.level < LEAF_BYTES_OF_HOST_BURST as i64
        });
    }
}

/// The nodes of a file's pieces.
fn nodes_of<'a>(trees: &'a HashTrees, file: &FileTree) -> Option<&'a [Node]> {
    let count = file.tree.nodes(file.tree.piece_layer()) as usize;
    trees.piece_nodes()?.get(file.first.idx()..)?.get(..count)
}

/// A node at or above the piece layer, from the nodes of the pieces and the file's top. Adds the number of hashes to `work`.
fn node(
    file: &FileTree,
    nodes: &[Node],
    top: Option<&Top>,
    layer: u32,
    index: u32,
    work: &mut usize,
) -> Node {
    let above = layer - file.tree.piece_layer();
    if let (Some(up), Some(top)) = (above.checked_sub(CHUNK_LAYERS), top) {
        return top.layers[up as usize][index as usize];
    }
    let below = below(nodes, index, above);
    *work += below.len();
    merkle::root(below, file.tree.piece_layer(), above)
}

/// The nodes below one that lies so many layers above them.
fn below(nodes: &[Node], index: u32, above: u32) -> &[Node] {
    let start = (index as usize) << above;
    &nodes[start..nodes.len().min(start + (1 << above))]
}

/// Whether nodes of this file need a top.
fn is_tall(file: &FileTree) -> bool {
    file.tree.height() > file.tree.piece_layer() + CHUNK_LAYERS
}

/// Whether the proof of these leaves reaches into the file's top.
fn needs_top(file: &FileTree, range: &HashRange) -> bool {
    let own = range.length.trailing_zeros() + range.uncles();
    is_tall(file) && own > file.tree.piece_layer() + CHUNK_LAYERS
}

impl Top {
    /// Works out some more; returns the number of hashes.
    fn advance(&mut self, file: &FileTree, nodes: &[Node]) -> usize {
        let base = file.tree.piece_layer();
        if self.layers.is_empty() {
            self.layers.push(Vec::new());
        }
        let lowest = &mut self.layers[0];
        let all = nodes.len().div_ceil(1 << CHUNK_LAYERS);
        let next = lowest.len()..all.min(lowest.len() + CHUNKS_AT_A_TIME);
        let work = next.len() << CHUNK_LAYERS;
        lowest.extend(next.map(|at| merkle::root(below(nodes, at as u32, CHUNK_LAYERS), base, CHUNK_LAYERS)));
        if lowest.len() < all {
            return work;
        }
        for layer in base + CHUNK_LAYERS..file.tree.height() {
            let below = &self.layers[self.layers.len() - 1];
            let pad = merkle::padding(layer);
            let pairs = below.chunks(2);
            let above = pairs.map(|pair| merkle::parent(&pair[0], pair.get(1).unwrap_or(&pad)));
            let above = above.collect();
            self.layers.push(above);
        }
        self.is_whole = true;
        work + all
    }
}

/// The blocks of the file that a range of leaves covers.
fn blocks_of(range: &HashRange, file: &FileTree) -> Range<u64> {
    let start = u64::from(range.index);
    start..file.tree.nodes(0).min(start + u64::from(range.length))
}

/// The pieces that have to be hashed for a range of leaves.
fn span_of(range: &HashRange, file: &FileTree) -> Span {
    let blocks = blocks_of(range, file);
    let first = file.piece_of(blocks.start);
    (first, file.piece_of(blocks.end - 1).0 - first.0 + 1)
}

impl Torrent {
    /// A peer asks for hashes.
    pub(in crate::torrent) fn on_hash_request(&mut self, now: Time, key: PeerKey, range: &HashRange) {
        let trees = self.hashes.as_ref().map(|hashes| Arc::clone(&hashes.trees));
        let trees = trees.filter(|trees| trees.piece_nodes().is_some() && self.search.is_none());
        let files = trees.iter().flat_map(|trees| trees.with_root(range.pieces_root).take(SAME_FILES_MAX));
        let mut files = files.filter(|file| range.fits(&file.tree));
        let Some(file) = files.next() else {
            return self.reject_hashes(now, key, range, Cost::Refused);
        };
        match range.base_layer {
            layer if layer == file.tree.piece_layer() => self.on_layer_request(now, key, range),
            0 => {
                let spans: Vec<Span> =
                    std::iter::once(file).chain(files).map(|file| span_of(range, &file)).collect();
                self.on_leaf_request(now, key, range, &spans);
            }
            _ => self.reject_hashes(now, key, range, Cost::Refused),
        }
    }

    fn reject_hashes(&mut self, now: Time, key: PeerKey, range: &HashRange, cost: Cost) {
        self.charge(now, key, cost);
        if self.peers.contains_key(key) {
            self.send(now, key, Message::HashReject(Box::new(*range)));
        }
    }

    fn on_layer_request(&mut self, now: Time, key: PeerKey, range: &HashRange) {
        let Some(hashes) = &mut self.hashes else { return };
        let of_peer = hashes.serving.peers.entry(key).or_default();
        let is_more = of_peer.served >= COPIES_MAX * (u64::from(hashes.trees.pieces()) + 512);
        let has_room = of_peer.ready.len() < HASHES_ASKED_MAX;
        if !has_room || is_more && !self.affords(now, key, Cost::SwarmWide) {
            return self.reject_hashes(now, key, range, Cost::Refused);
        }
        if let Some(of_peer) = self.hashes.as_mut().and_then(|hashes| hashes.serving.peers.get_mut(&key)) {
            of_peer.served += u64::from(range.hashes());
            of_peer.ready.push_back(Ready::Layer(*range));
            self.actions.push_back(Action::Upload(key));
        }
    }

    /// A peer asks for leaves, which are those of any of these stretches.
    fn on_leaf_request(&mut self, now: Time, key: PeerKey, range: &HashRange, spans: &[Span]) {
        let (Some(hashes), Some(peer)) = (&mut self.hashes, self.peers.get(key)) else { return };
        let have = self.picker.have();
        let is_here = |(first, count): &&Span| (first.0..first.0 + count).all(|p| have.has(PieceIndex(p)));
        let (piece_len, host) = (u64::from(hashes.trees.piece_len()), Host::of(peer.info.addr));
        let Some(&span) = spans.iter().find(is_here) else {
            return self.reject_hashes(now, key, range, Cost::Refused);
        };
        let is_long = span.1 > 1 && u64::from(span.1) * piece_len > LEAF_SPAN_MAX;
        let can_pay = hashes.serving.allowance(now, host) > 0;
        let of_peer = hashes.serving.peers.entry(key).or_default();
        // A block is worth one request that waits.
        let pieces = span.0.0..span.0.0 + span.1;
        let is_owed = of_peer.last_block.take_if(|block| pieces.contains(&block.piece.0)).is_some();
        let waits = of_peer.leaves.len();
        let has_room = waits < if is_owed { LEAVES_OWED_MAX } else { LEAVES_ASKED_MAX };
        if of_peer.leaves.iter().any(|(other, _)| other == range) {
            // One answer will do for both.
            self.charge(now, key, Cost::Refused);
        } else if is_long || !has_room || !can_pay && !is_owed {
            self.reject_hashes(now, key, range, Cost::Refused);
        } else {
            of_peer.leaves.push_back((*range, span));
            let is_of_top = hashes.trees.of_piece(span.0).is_some_and(|file| needs_top(&file, range));
            let work = if is_of_top { hashes.begin_top(now, span.0) } else { 0 };
            self.count(work);
            self.charge(now, key, Cost::Change);
            self.hash_leaves(now);
        }
    }

    /// A peer has asked for a block, and gets it.
    pub(in crate::torrent) fn note_block_asked(&mut self, key: PeerKey, block: BlockRef) {
        if let Some(hashes) = &mut self.hashes {
            hashes.serving.peers.entry(key).or_default().last_block = Some(block);
        }
    }

    /// Has pieces hashed again for those that wait for leaves, in turns, as far as limits allow. What needs a file's top waits until that is
    /// worked out.
    fn hash_leaves(&mut self, now: Time) {
        let Some(hashes) = &mut self.hashes else { return };
        let HashExchange { serving, trees, .. } = &mut **hashes;
        let can_begin = |serving: &Serving, (range, span): &(HashRange, Span)| {
            let has_proof = |file: FileTree| {
                !needs_top(&file, range) || serving.tops.get(&file.first).is_some_and(|top| top.is_whole)
            };
            !serving.jobs.contains(span) && trees.of_piece(span.0).is_none_or(has_proof)
        };
        while serving.jobs.len() < LEAF_JOBS_MAX {
            let is_later = |key: &PeerKey| serving.turn.is_some_and(|turn| *key <= turn);
            let mut waiting: Vec<PeerKey> = serving
                .peers
                .iter()
                .filter(|(_, peer)| {
                    peer.leaves_ready() < HASHES_MAX as usize
                        && peer.leaves.iter().any(|asked| can_begin(serving, asked))
                })
                .map(|(key, _)| *key)
                .collect();
            self.work.set(self.work.get() + serving.peers.len() as u64);
            waiting.sort_by_key(|key| (is_later(key), *key));
            let next = waiting.into_iter().find_map(|key| {
                let host = Host::of(self.peers.get(key)?.info.addr);
                (serving.allowance(now, host) > 0).then_some((key, host))
            });
            let Some((key, host)) = next else { return };
            let next = serving.peers[&key].leaves.iter().find(|asked| can_begin(serving, asked));
            let Some(&(_, span)) = next else { return };
            serving.turn = Some(key);
            serving.jobs.insert(span);
            serving.spend(now, host, u64::from(span.1) * u64::from(trees.piece_len()));
            self.actions.push_back(Action::HashLeaves { first: span.0, pieces: span.1 });
        }
    }

    /// The leaves of neighbouring pieces, one behind the other, as [`Action::HashLeaves`] asked for; `None` if they could not be read.
    pub fn handle_leaves(&mut self, now: Time, first: PieceIndex, pieces: u32, leaves: Option<Vec<Node>>) {
        let span = (first, pieces);
        let Some(hashes) = &mut self.hashes else { return };
        if !hashes.serving.jobs.remove(&span) {
            return;
        }
        let wrong = leaves.as_ref().and_then(|leaves| hashes.first_wrong(span, leaves));
        if let Some(piece) = wrong.filter(|piece| self.picker.have().has(*piece)) {
            self.actions.push_back(Action::CheckPiece(piece));
        }
        let leaves = leaves.filter(|_| wrong.is_none());
        let mut rejected = Vec::new();
        let mut work = 0;
        for (&key, of_peer) in &mut hashes.serving.peers {
            let asked = std::mem::take(&mut of_peer.leaves);
            for (range, of) in asked {
                if of != span {
                    of_peer.leaves.push_back((range, of));
                    continue;
                }
                let file = hashes.trees.of_piece(first);
                let tops = &hashes.serving.tops;
                let top = file.and_then(|file| tops.get(&file.first)).filter(|top| top.is_whole);
                let waits = top.is_none() && file.is_some_and(|file| needs_top(&file, &range));
                // What is left is hashed again when there is room for its answer, or its proof is here.
                if of_peer.leaves_ready() >= HASHES_MAX as usize || waits && leaves.is_some() {
                    of_peer.leaves.push_back((range, of));
                    continue;
                }
                let answer = leaves.as_ref().zip(file).and_then(|(leaves, file)| {
                    answer(&hashes.trees, top, &file, &range, first, leaves, &mut work)
                });
                match answer {
                    Some(answer) => {
                        of_peer.ready.push_back(Ready::Leaves(Box::new(answer)));
                        self.actions.push_back(Action::Upload(key));
                    }
                    None => rejected.push((key, range)),
                }
            }
        }
        self.count(work);
        rejected.iter().for_each(|(key, range)| self.reject_hashes(now, *key, range, Cost::Nothing));
        self.hash_leaves(now);
        self.input_at = Some(now);
    }

    /// Whether answers with hashes wait for [`Torrent::next_hashes`].
    pub fn has_hashes(&self, key: PeerKey) -> bool {
        let of_peer = self.hashes.as_ref().and_then(|hashes| hashes.serving.peers.get(&key));
        of_peer.is_some_and(|peer| !peer.ready.is_empty())
    }

    /// The next hashes for this peer, as a message to send now, if some are ready.
    pub fn next_hashes(&mut self, now: Time, key: PeerKey) -> Option<Message> {
        let hashes = self.hashes.as_mut()?;
        if let Some(Ready::Layer(range)) = hashes.serving.peers.get(&key)?.ready.front() {
            let file = hashes.trees.with_root(range.pieces_root).find(|file| range.fits(&file.tree))?;
            let work = hashes.begin_top(now, file.first);
            self.work.set(self.work.get() + work as u64);
        }
        let HashExchange { serving, trees, .. } = &mut **hashes;
        let ready = serving.peers.get_mut(&key)?.ready.pop_front()?;
        let answer = match ready {
            Ready::Leaves(answer) => answer,
            Ready::Layer(range) => {
                let file = trees.with_root(range.pieces_root).find(|file| range.fits(&file.tree))?;
                let nodes = nodes_of(trees, &file)?;
                let top = serving.tops.get(&file.first);
                if is_tall(&file) && top.is_none_or(|top| !top.is_whole) {
                    serving.peers.get_mut(&key)?.ready.push_front(Ready::Layer(range));
                    serving.next_chunks.get_or_insert((now + CHUNKS_INTERVAL, file.first));
                    return None;
                }
                let mut work = range.length as usize;
                let node = |layer, index| node(&file, nodes, top, layer, index, &mut work);
                let answer = Hashes { range, hashes: range.answer(&file.tree, node) };
                self.work.set(self.work.get() + work as u64);
                Box::new(answer)
            }
        };
        self.peers.get_mut(key)?.times.sent_at = now;
        self.hash_leaves(now);
        Some(Message::Hashes(answer))
    }

    /// When more of a file's upper layers is worked out.
    pub(in crate::torrent) fn hashes_timeout(&self) -> Option<Time> {
        Some(self.hashes.as_ref()?.serving.next_chunks?.0)
    }

    /// Works out some more of a file's upper layers, if it is time.
    pub(in crate::torrent) fn handle_hashes_timeout(&mut self, now: Time) {
        let Some(hashes) = &mut self.hashes else { return };
        let HashExchange { serving, trees, .. } = &mut **hashes;
        let Some((_, first)) = serving.next_chunks.take_if(|(at, _)| *at <= now) else { return };
        let Some(file) = trees.of_piece(first) else { return };
        let (Some(top), Some(nodes)) = (serving.tops.get_mut(&first), nodes_of(trees, &file)) else { return };
        self.work.set(self.work.get() + top.advance(&file, nodes) as u64);
        if !top.is_whole {
            serving.next_chunks = Some((now + CHUNKS_INTERVAL, first));
            return;
        }
        let next = serving.tops.iter().find(|(_, top)| !top.is_whole);
        serving.next_chunks = next.map(|(&first, _)| (now + CHUNKS_INTERVAL, first));
        let waiting = serving.peers.iter().filter(|(_, peer)| !peer.ready.is_empty());
        self.actions.extend(waiting.map(|(key, _)| Action::Upload(*key)));
        self.hash_leaves(now);
    }

    pub(super) fn tick_serving(&mut self, now: Time) {
        self.hash_leaves(now);
        if let Some(hashes) = &mut self.hashes {
            hashes.serving.forget_rested(now);
        }
    }
}

impl HashExchange {
    /// Begins to work out the upper layers of the file that begins with, or holds, this piece, if it needs them; returns the number of
    /// hashes.
    fn begin_top(&mut self, now: Time, piece: PieceIndex) -> usize {
        let Some(file) = self.trees.of_piece(piece).filter(is_tall) else { return 0 };
        let top = self.serving.tops.entry(file.first).or_default();
        let Some(nodes) = nodes_of(&self.trees, &file).filter(|_| top.layers.is_empty()) else { return 0 };
        let work = top.advance(&file, nodes);
        if !top.is_whole {
            self.serving.next_chunks.get_or_insert((now + CHUNKS_INTERVAL, file.first));
        }
        work
    }

    /// The first piece of a stretch whose leaves do not lead to its node.
    fn first_wrong(&self, (first, count): Span, leaves: &[Node]) -> Option<PieceIndex> {
        let mut rest = leaves;
        for piece in (first.0..first.0 + count).map(PieceIndex) {
            let (Some(tree), Some(nodes)) = (self.trees.below(piece), self.trees.piece_nodes()) else {
                return Some(piece);
            };
            let Some((of_piece, after)) = rest.split_at_checked(tree.leaves()) else { return Some(piece) };
            if tree.node(of_piece) != nodes.of(piece) {
                return Some(piece);
            }
            rest = after;
        }
        None
    }
}

/// The answer to a request for leaves; `None` if its proof is not known yet.
fn answer(
    trees: &HashTrees,
    top: Option<&Top>,
    file: &FileTree,
    range: &HashRange,
    first: PieceIndex,
    leaves: &[Node],
    work: &mut usize,
) -> Option<Hashes> {
    let nodes = nodes_of(trees, file)?;
    if needs_top(file, range) && top.is_none() {
        return None;
    }
    let piece_layer = file.tree.piece_layer();
    let first_leaf = ((first.0 - file.first.0) as usize) << piece_layer;
    let hashes = range.answer(&file.tree, |layer, index| match layer < piece_layer {
        true => {
            let start = ((index as usize) << layer) - first_leaf;
            let below = &leaves[start..leaves.len().min(start + (1 << layer))];
            *work += below.len();
            merkle::root(below, 0, layer)
        }
        false => node(file, nodes, top, layer, index, work),
    });
    Some(Hashes { range: *range, hashes })
}

//! Getting the piece layers of a torrent that began without them: from a magnet link, or from a metainfo file that leaves them out.
//!
//! Each request is for [`CHUNK`] hashes and their proof up to the file's root, so each answer is checked by itself, when it comes: a wrong
//! one bans its sender. Several peers are asked at once, each for a few. What one does not send in time, or rejects, is asked of others.

use super::super::{CloseReason, Event, Torrent};
use super::HashExchange;
use crate::id::PeerKey;
use crate::merkle::{HashRange, Node, Tree};
use crate::metainfo::{HashTrees, METAINFO_LEN_MAX};
use crate::time::{Duration, Time};
use crate::wire::Message;
use crate::wire::message::Hashes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// How many hashes are asked for at a time; libtorrent answers no other requests than these.
pub const CHUNK: u32 = 512;
/// How many requests may be outstanding at a peer.
pub const LAYERS_OUTSTANDING_MAX: usize = 8;
/// After this time others are asked.
pub const LAYERS_TIMEOUT: Duration = Duration::from_secs(4);
/// The most bytes of piece layers that are fetched: what a metainfo file may hold.
pub const PIECE_LAYERS_LEN_MAX: u64 = METAINFO_LEN_MAX as u64;
/// How long peers of version 2 are waited for beside others, before a hybrid whose SHA-1 info-hash is known goes on without that version.
pub const HYBRID_PATIENCE: Duration = Duration::from_secs(30);
/// How long the same is waited for while there are peers of version 2, but no right answer: they may have no layers either.
pub const HYBRID_PATIENCE_IN_VAIN: Duration = Duration::from_secs(90);
/// After this time somebody idle is asked too.
const SLOW_AFTER: Duration = Duration::from_secs(1);
/// How many peers are asked for the same hashes.
const ASKED_OF_MAX: usize = 3;
/// How long a peer is left alone that has rejected a request, or not answered; doubled each time in a row.
const BACKOFF: Duration = Duration::from_secs(1);
/// How often it is doubled.
const BACKOFF_DOUBLED_MAX: u32 = 6;

/// A file with its own root, by number, and a part of its piece layer.
type Chunk = (u32, u32);

#[derive(Debug)]
struct Asked {
    chunk: Chunk,
    range: HashRange,
    at: Time,
    /// Others are asked meanwhile.
    is_late: bool,
}

#[derive(Debug)]
struct OfPeer {
    asked: Vec<Asked>,
    failures: u32,
    backoff_until: Time,
}

impl OfPeer {
    fn failed(&mut self, now: Time) {
        self.backoff_until = now + BACKOFF * 2u32.pow(self.failures);
        self.failures = (self.failures + 1).min(BACKOFF_DOUBLED_MAX);
    }
}

/// The search for the piece layers of one torrent.
#[derive(Debug)]
pub(super) struct LayerSearch {
    /// Each root once.
    files: Vec<(Node, Tree)>,
    /// The next chunk that was never asked for.
    next: Chunk,
    again: VecDeque<Chunk>,
    got: BTreeMap<Chunk, Vec<Node>>,
    /// How many chunks are missing.
    missing: usize,
    peers: BTreeMap<PeerKey, OfPeer>,
    /// Since when there have been peers, and none to ask.
    nobody_since: Option<Time>,
    /// Since when there have been peers, and no right answer.
    in_vain_since: Option<Time>,
}

fn chunks_of(tree: &Tree) -> u32 {
    tree.nodes(tree.piece_layer()).div_ceil(u64::from(CHUNK)) as u32
}

impl LayerSearch {
    fn new(trees: &HashTrees) -> LayerSearch {
        let mut files: Vec<(Node, Tree)> = trees.layered().collect();
        files.sort_unstable_by_key(|(root, _)| *root);
        files.dedup_by_key(|(root, _)| *root);
        LayerSearch {
            missing: files.iter().map(|(_, tree)| chunks_of(tree) as usize).sum(),
            files,
            next: (0, 0),
            again: VecDeque::new(),
            got: BTreeMap::new(),
            peers: BTreeMap::new(),
            nobody_since: None,
            in_vain_since: None,
        }
    }

    fn range_of(&self, (file, index): Chunk) -> HashRange {
        let (pieces_root, tree) = self.files[file as usize];
        let (base_layer, index) = (tree.piece_layer(), index * CHUNK);
        let rest = tree.nodes(base_layer) - u64::from(index);
        let length = rest.next_power_of_two().clamp(2, CHUNK.into()) as u32;
        HashRange { pieces_root, base_layer, index, length, proof_layers: tree.height() - base_layer - 1 }
    }

    /// The next chunk to ask a peer for.
    fn take(&mut self) -> Option<Chunk> {
        while let Some(chunk) = self.again.pop_front() {
            if !self.got.contains_key(&chunk) {
                return Some(chunk);
            }
        }
        let (file, index) = self.next;
        let (_, tree) = self.files.get(file as usize)?;
        self.next = if index + 1 < chunks_of(tree) { (file, index + 1) } else { (file + 1, 0) };
        Some((file, index))
    }

    /// What somebody else is slow with, that this peer is not asked for.
    fn take_slow(&self, now: Time, key: PeerKey) -> Option<Chunk> {
        let is_mine = |chunk| self.peers[&key].asked.iter().any(|asked| asked.chunk == chunk);
        let asked = self.peers.values().flat_map(|peer| &peer.asked);
        let slow = asked.clone().filter(|asked| now.since(asked.at) >= SLOW_AFTER);
        let slow = slow.filter(|slow| !self.got.contains_key(&slow.chunk) && !is_mine(slow.chunk));
        let count = |chunk| asked.clone().filter(|asked| asked.chunk == chunk).count();
        let slow = slow.filter(|slow| count(slow.chunk) < ASKED_OF_MAX);
        slow.min_by_key(|slow| (slow.at, slow.chunk)).map(|slow| slow.chunk)
    }

    /// What this peer is asked for now.
    fn ask(&mut self, now: Time, key: PeerKey) -> Vec<HashRange> {
        let new = OfPeer { asked: Vec::new(), failures: 0, backoff_until: now };
        let peer = self.peers.entry(key).or_insert(new);
        let room = LAYERS_OUTSTANDING_MAX.saturating_sub(peer.asked.len());
        if now < peer.backoff_until {
            return Vec::new();
        }
        let mut ranges = Vec::new();
        for _ in 0..room {
            let chunk = self.take().or_else(|| self.take_slow(now, key));
            let (Some(chunk), Some(peer)) = (chunk, self.peers.get(&key)) else { break };
            // One that it did not answer in time.
            if peer.asked.iter().any(|asked| asked.chunk == chunk) {
                self.again.push_back(chunk);
                break;
            }
            let range = self.range_of(chunk);
            let asked = Asked { chunk, range, at: now, is_late: false };
            self.peers.entry(key).and_modify(|peer| peer.asked.push(asked));
            ranges.push(range);
        }
        ranges
    }

    /// Takes back a request; which chunk it was for.
    fn take_asked(&mut self, key: PeerKey, range: &HashRange) -> Option<Chunk> {
        let asked = &mut self.peers.get_mut(&key)?.asked;
        let at = asked.iter().position(|asked| asked.range == *range)?;
        Some(asked.remove(at).chunk)
    }

    /// What a peer sends is not to be had of it for now.
    fn give_back(&mut self, chunk: Chunk) {
        let is_asked =
            self.peers.values().flat_map(|peer| &peer.asked).any(|a| a.chunk == chunk && !a.is_late);
        if !is_asked && !self.got.contains_key(&chunk) && !self.again.contains(&chunk) {
            self.again.push_back(chunk);
        }
    }

    /// A peer has left.
    pub(super) fn left(&mut self, key: PeerKey) {
        let asked = self.peers.remove(&key).map(|peer| peer.asked).unwrap_or_default();
        asked.into_iter().for_each(|asked| self.give_back(asked.chunk));
    }

    /// What was not answered in time is asked of others.
    fn tick(&mut self, now: Time) {
        let mut late = Vec::new();
        for peer in self.peers.values_mut() {
            let before = late.len();
            for asked in peer.asked.iter_mut().filter(|a| !a.is_late && now.since(a.at) >= LAYERS_TIMEOUT) {
                asked.is_late = true;
                late.push(asked.chunk);
            }
            if late.len() > before {
                peer.failed(now);
            }
        }
        late.into_iter().for_each(|chunk| self.give_back(chunk));
    }

    /// All layers, in the order of the files. Chunks go as they are copied: there may be as much of them as of the torrent's metainfo.
    fn finish(mut self, trees: &HashTrees) -> Vec<Vec<Node>> {
        let number_of = |root: Node| self.files.partition_point(|(other, _)| *other < root) as u32;
        let numbers: Vec<u32> = trees.layered().map(|(root, _)| number_of(root)).collect();
        let mut uses = vec![0u32; self.files.len()];
        numbers.iter().for_each(|&file| uses[file as usize] += 1);
        let layer_of = |file: u32| {
            let (_, tree) = self.files[file as usize];
            let mut layer = Vec::with_capacity(tree.nodes(tree.piece_layer()) as usize);
            uses[file as usize] -= 1;
            for chunk in (0..chunks_of(&tree)).map(|index| (file, index)) {
                match uses[file as usize] {
                    0 => layer.extend(self.got.remove(&chunk).into_iter().flatten()),
                    // Another file is the same.
                    _ => layer.extend_from_slice(&self.got[&chunk]),
                }
            }
            layer
        };
        numbers.into_iter().map(layer_of).collect()
    }
}

impl Torrent {
    /// The info dictionary is known, and says not enough to verify pieces with: peers are asked for the piece layers
    /// ([`Event::PieceLayersReceived`]). Metadata is looked for no more. It is as before [`Torrent::handle_metadata`] otherwise.
    pub fn handle_layers_wanted(&mut self, now: Time, trees: Arc<HashTrees>) {
        self.search.iter_mut().for_each(|search| search.end_in_vain());
        if trees.is_hybrid() && self.config.info_hash_v2.is_none() {
            // They were not told that we know of version 2.
            let keys: Vec<PeerKey> =
                self.peers.values().filter(|peer| !peer.info.v2).map(|peer| peer.key).collect();
            keys.into_iter().for_each(|key| self.close(now, key, CloseReason::Version2));
        }
        let mut hashes = HashExchange::new(trees);
        hashes.layers = Some(LayerSearch::new(&hashes.trees));
        self.hashes = Some(Box::new(hashes));
        self.wake(now);
        self.input_at = Some(now);
    }

    /// Whether peers are asked for piece layers.
    pub fn wants_layers(&self) -> bool {
        self.hashes.as_ref().is_some_and(|hashes| hashes.layers.is_some())
    }

    /// Sends the requests for piece layers that may go out now.
    pub(in crate::torrent) fn ask_for_layers(&mut self, now: Time) {
        if !self.wants_layers() {
            return;
        }
        self.count(self.peers.len());
        // Without metadata there are no hashes either, and libtorrent ends the connection.
        let has_metadata = |key| self.search.as_ref().is_none_or(|search| search.may_have_metadata(key));
        let able = self.peers.values().filter(|peer| self.speaks_v2(peer) && has_metadata(peer.key));
        let able: Vec<PeerKey> = able.map(|peer| peer.key).collect();
        for key in able {
            let layers = self.hashes.as_mut().and_then(|hashes| hashes.layers.as_mut());
            let ranges = layers.map(|layers| layers.ask(now, key)).unwrap_or_default();
            ranges.into_iter().for_each(|range| self.send(now, key, Message::HashRequest(Box::new(range))));
        }
    }

    /// Whether these hashes were asked for as part of a piece layer.
    pub(super) fn on_layer(&mut self, now: Time, key: PeerKey, answer: &Hashes) -> bool {
        let Some(hashes) = &mut self.hashes else { return false };
        let Some(layers) = &mut hashes.layers else { return false };
        let Some(chunk) = layers.take_asked(key, &answer.range) else { return false };
        let (root, tree) = layers.files[chunk.0 as usize];
        self.work.set(self.work.get() + answer.hashes.len() as u64);
        if answer.range.climb(&answer.hashes) != Some((tree.height(), 0, root)) {
            layers.give_back(chunk);
            self.ban_for_hashes(now, key);
            return true;
        }
        layers.peers.get_mut(&key).into_iter().for_each(|peer| peer.failures = 0);
        layers.in_vain_since = Some(now);
        let count = tree.nodes(tree.piece_layer()) - u64::from(answer.range.index);
        let count = count.min(u64::from(answer.range.length)) as usize;
        if layers.got.insert(chunk, answer.hashes[..count].to_vec()).is_none() {
            layers.missing -= 1;
        }
        if layers.missing == 0
            && let Some(layers) = hashes.layers.take()
        {
            self.events.push_back(Event::PieceLayersReceived(layers.finish(&hashes.trees)));
        }
        true
    }

    /// Whether a peer was asked for these hashes as part of a piece layer, and does not send them.
    pub(super) fn on_layer_reject(&mut self, now: Time, key: PeerKey, range: &HashRange) -> bool {
        let layers = self.hashes.as_mut().and_then(|hashes| hashes.layers.as_mut());
        let Some((layers, chunk)) = layers.and_then(|layers| {
            let chunk = layers.take_asked(key, range)?;
            Some((layers, chunk))
        }) else {
            return false;
        };
        layers.give_back(chunk);
        if let Some(peer) = layers.peers.get_mut(&key).filter(|peer| now >= peer.backoff_until) {
            peer.failed(now);
        }
        true
    }

    pub(super) fn tick_layers(&mut self, now: Time) {
        if let Some(layers) = self.hashes.as_mut().and_then(|hashes| hashes.layers.as_mut()) {
            layers.tick(now);
            self.ask_for_layers(now);
            self.look_for_version_2(now);
        }
    }

    /// A hybrid can do without version 2, where nobody speaks it, or all who do have no layers.
    fn look_for_version_2(&mut self, now: Time) {
        let is_v1 = self.config.info_hashes().v1.is_some();
        self.count(self.peers.len());
        let is_there = self.peers.values().any(|peer| self.speaks_v2(peer));
        let Some(hashes) = self.hashes.as_mut().filter(|hashes| is_v1 && hashes.trees.is_hybrid()) else {
            return;
        };
        let Some(layers) = &mut hashes.layers else { return };
        if self.peers.is_empty() {
            (layers.nobody_since, layers.in_vain_since) = (None, None);
            return;
        }
        if is_there {
            layers.nobody_since = None;
        }
        let is_patient = |since: &mut Option<Time>, patience| now.since(*since.get_or_insert(now)) < patience;
        let waits_for_some = is_patient(&mut layers.in_vain_since, HYBRID_PATIENCE_IN_VAIN);
        let waits_for_any = is_there || is_patient(&mut layers.nobody_since, HYBRID_PATIENCE);
        if !waits_for_some || !waits_for_any {
            self.hashes = None;
            self.events.push_back(Event::PieceLayersMissing);
        }
    }
}

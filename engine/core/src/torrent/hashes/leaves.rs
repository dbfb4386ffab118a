//! A bad block costs a block: the leaves of a piece that failed tell its blocks apart.
//!
//! What has come of the piece is kept while peers are asked for its leaves, for a few seconds. Once they are here, and lead to the piece's
//! node, the bad blocks are asked for again and whoever sent them is banned. Where no leaves are to be had (libtorrent gives those of
//! what it has hashed itself) the whole piece is asked for again, as in version 1.

use super::super::blame::{UNKNOWN, Verdict};
use super::super::{Action, Pressure, Torrent};
use crate::id::{PeerKey, PieceIndex};
use crate::merkle::{HASHES_MAX, HashRange, Node};
use crate::metainfo::HashTrees;
use crate::time::{Duration, Time};
use crate::wire::Message;
use crate::wire::message::Hashes;
use std::collections::BTreeMap;

/// How many failed pieces may wait for leaves at a time, and be in memory meanwhile; fewer if they are large.
pub const SUSPECTS_MAX: usize = 16;
/// How many bytes of failed pieces may be in memory, or a single piece.
const SUSPECTS_LEN_MAX: u64 = 32 << 20;
/// How many peers are asked for the leaves of a piece at a time.
pub const LEAVES_ASKED_OF: usize = 3;
/// How long leaves are waited for.
pub const LEAVES_TIMEOUT: Duration = Duration::from_secs(4);
/// How many pieces' leaves are remembered until the piece is here.
const KNOWN_MAX: usize = 64;

/// A piece that failed, and waits for leaves.
#[derive(Debug)]
struct Suspect {
    /// What its blocks hash to.
    digests: Vec<[u8; 20]>,
    range: HashRange,
    /// Who is asked and has not answered.
    asked: Vec<PeerKey>,
    /// Who was asked so far.
    tried: Vec<PeerKey>,
    give_up_at: Time,
}

/// Pieces that failed.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    waiting: BTreeMap<PieceIndex, Suspect>,
    /// The leaves of pieces that failed before and are not here yet.
    known: BTreeMap<PieceIndex, Vec<Node>>,
    /// Who was asked in vain and may answer yet.
    late: Vec<(PeerKey, HashRange, PieceIndex)>,
}

/// The leaves of a piece, all of them, with no proof: the piece's own node is known. `None` if they are one, or too many.
pub(super) fn leaves_of(trees: &HashTrees, piece: PieceIndex) -> Option<HashRange> {
    let file = trees.of_piece(piece)?;
    let layer = file.tree.piece_layer();
    let length = 1u32.checked_shl(layer).filter(|length| (2..=HASHES_MAX).contains(length))?;
    let index = (piece.0 - file.first.0) << layer;
    Some(HashRange { pieces_root: file.root, base_layer: 0, index, length, proof_layers: layer - 1 })
}

/// How many requests that were given up are remembered.
const LATE_MAX: usize = 64;

impl Suspects {
    fn give_up(&mut self, piece: PieceIndex) -> Option<Suspect> {
        let suspect = self.waiting.remove(&piece)?;
        self.late.extend(suspect.asked.iter().map(|key| (*key, suspect.range, piece)));
        let excess = self.late.len().saturating_sub(LATE_MAX);
        self.late.drain(..excess);
        Some(suspect)
    }

    /// The piece whose leaves a peer was asked for, if it answers a request that was given up.
    fn take_late(&mut self, key: PeerKey, range: &HashRange) -> Option<PieceIndex> {
        let at = self.late.iter().position(|(other, late, _)| *other == key && late == range)?;
        Some(self.late.remove(at).2)
    }

    fn asked(&self, key: PeerKey, range: &HashRange) -> Option<PieceIndex> {
        let is_asked = |(_, suspect): &(_, &Suspect)| suspect.range == *range && suspect.asked.contains(&key);
        self.waiting.iter().find(is_asked).map(|(piece, _)| *piece)
    }
}

impl Torrent {
    /// A piece has failed: its blocks will be told apart, or have been. False if the whole of it has to be asked for again.
    pub(in crate::torrent) fn tell_apart(
        &mut self,
        now: Time,
        piece: PieceIndex,
        digests: &[[u8; 20]],
    ) -> bool {
        let Some(hashes) = &self.hashes else { return false };
        let (Some(file), Some(below)) = (hashes.trees.of_piece(piece), hashes.trees.below(piece)) else {
            return false;
        };
        if self.picker.is_padding_assumed(piece) || digests.len() < below.leaves() {
            return false;
        }
        if let Some(leaves) = hashes.suspects.known.get(&piece).cloned() {
            return self.drop_bad_blocks(now, piece, &leaves, digests);
        }
        if file.tree.piece_layer() == 0 {
            // It is one block.
            let leaf = hashes.trees.piece_nodes().map(|nodes| nodes.of(piece));
            return leaf.is_some_and(|leaf| self.drop_bad_blocks(now, piece, &[leaf], digests));
        }
        let waiting = hashes.suspects.waiting.len();
        let bytes = (waiting as u64 + 1) * u64::from(hashes.trees.piece_len());
        let has_room = waiting < SUSPECTS_MAX && (waiting == 0 || bytes <= SUSPECTS_LEN_MAX);
        let range = leaves_of(&hashes.trees, piece);
        let Some(range) = range.filter(|_| has_room && self.pressure != Pressure::Full) else {
            return false;
        };
        let give_up_at = now + LEAVES_TIMEOUT;
        let (asked, tried) = (Vec::new(), Vec::new());
        let suspect = Suspect { digests: digests.to_vec(), range, asked, tried, give_up_at };
        if let Some(hashes) = &mut self.hashes {
            hashes.suspects.waiting.insert(piece, suspect);
        }
        self.ask_for_leaves(now, piece);
        let suspects = self.hashes.as_mut().map(|hashes| &mut hashes.suspects.waiting);
        suspects.is_some_and(|waiting| match waiting.get(&piece) {
            Some(suspect) if suspect.asked.is_empty() => waiting.remove(&piece).is_none(),
            _ => true,
        })
    }

    /// Asks some more peers for the leaves of a piece: those that have it, and first those that sent nothing of it.
    fn ask_for_leaves(&mut self, now: Time, piece: PieceIndex) {
        let Some(suspect) = self.hashes.as_ref().and_then(|hashes| hashes.suspects.waiting.get(&piece))
        else {
            return;
        };
        let senders = self.picker.senders(piece);
        let is_only_from = |key| senders.iter().flatten().all(|sender| *sender == key);
        let able = self.peers.values().filter(|peer| {
            let key = peer.key;
            peer.have().has(piece)
                && !suspect.tried.contains(&key)
                && self.speaks_v2(peer)
                && !is_only_from(key)
        });
        let mut able: Vec<(bool, bool, PeerKey)> =
            able.map(|peer| (senders.contains(&Some(peer.key)), peer.download.on_parole, peer.key)).collect();
        self.count(self.peers.len() + senders.len());
        able.sort_unstable();
        let room = LEAVES_ASKED_OF.saturating_sub(suspect.asked.len());
        let range = suspect.range;
        for (_, _, key) in able.into_iter().take(room) {
            let suspects = self.hashes.as_mut().map(|hashes| &mut hashes.suspects);
            if let Some(suspect) = suspects.and_then(|suspects| suspects.waiting.get_mut(&piece)) {
                suspect.asked.push(key);
                suspect.tried.push(key);
            }
            self.send(now, key, Message::HashRequest(Box::new(range)));
        }
    }

    /// Whether these hashes were asked for to tell blocks apart.
    pub(super) fn on_leaves(&mut self, now: Time, key: PeerKey, answer: &Hashes) -> bool {
        let Some(hashes) = &mut self.hashes else { return false };
        let asked = hashes.suspects.asked(key, &answer.range);
        let Some(piece) = asked.or_else(|| hashes.suspects.take_late(key, &answer.range)) else {
            return false;
        };
        let Some((below, nodes)) = hashes.trees.below(piece).zip(hashes.trees.piece_nodes()) else {
            return true;
        };
        self.work.set(self.work.get() + answer.hashes.len() as u64);
        let is_right = answer.range.climb(&answer.hashes).is_some_and(|(.., node)| node == nodes.of(piece));
        if !is_right {
            // Others are asked when it has left.
            self.ban_for_hashes(now, key);
            return true;
        }
        let leaves = answer.hashes[..below.leaves()].to_vec();
        let Some(suspect) = asked.and_then(|piece| hashes.suspects.give_up(piece)) else { return true };
        hashes.suspects.late.retain(|late| *late != (key, answer.range, piece));
        if !self.drop_bad_blocks(now, piece, &leaves, &suspect.digests) {
            self.drop_failed(now, piece, suspect.digests);
        }
        true
    }

    /// The leaves of a piece that failed are known: bad blocks are dropped and asked for again, and who sent them is banned. If there are
    /// none by the leaves, a hybrid contradicts itself, and otherwise it is false.
    fn drop_bad_blocks(
        &mut self,
        now: Time,
        piece: PieceIndex,
        leaves: &[Node],
        digests: &[[u8; 20]],
    ) -> bool {
        let is_bad = |(_, (leaf, digest)): &(u32, (&Node, &[u8; 20]))| leaf[..20] != digest[..];
        let bad: Vec<(u32, bool)> = (0..)
            .zip(leaves.iter().zip(digests))
            .filter(is_bad)
            .map(|(index, (_, digest))| (index, *digest != UNKNOWN))
            .collect();
        if bad.is_empty() {
            // The hash of version 2 holds: if there is another, it is that which does not.
            let is_hybrid = self.hashes.as_ref().is_some_and(|hashes| hashes.trees.is_hybrid());
            if is_hybrid {
                self.on_contradiction(piece);
            }
            return is_hybrid;
        }
        let blocks: Vec<u32> = bad.iter().map(|(index, _)| *index).collect();
        let senders = self.picker.senders(piece);
        let blamed = bad.iter().filter(|(_, is_known)| *is_known);
        let mut blamed: Vec<PeerKey> =
            blamed.filter_map(|(index, _)| *senders.get(*index as usize)?).collect();
        blamed.sort_unstable();
        blamed.dedup();
        let lens = blocks.iter().map(|&index| u64::from(self.geometry.block(piece, index).len));
        self.totals.bytes_corrupt += lens.sum::<u64>();
        self.picker.blocks_failed(piece, &blocks);
        self.remember_leaves(piece, leaves);
        self.actions.push_back(Action::DropBlocks { piece, blocks });
        for peer in blamed {
            let addr = self.addr_of(peer);
            self.ban_corrupt_sender(now, Verdict { peer, addr });
        }
        self.refill_all = true;
        self.input_at = Some(now);
        true
    }

    /// The leaves of a piece are known, until it is here.
    pub(super) fn remember_leaves(&mut self, piece: PieceIndex, leaves: &[Node]) {
        let Some(hashes) = &mut self.hashes else { return };
        let known = &mut hashes.suspects.known;
        if known.len() >= KNOWN_MAX && !known.contains_key(&piece) {
            known.pop_first();
        }
        known.insert(piece, leaves.to_vec());
    }

    /// Whether the blocks that are here of a piece are known to be right, all but those that came since it failed.
    pub(in crate::torrent) fn is_told_apart(&self, piece: PieceIndex) -> bool {
        self.hashes.as_ref().is_some_and(|hashes| hashes.suspects.known.contains_key(&piece))
    }

    /// A piece is here.
    pub(in crate::torrent) fn forget_leaves(&mut self, piece: PieceIndex) {
        if let Some(hashes) = &mut self.hashes {
            hashes.suspects.known.remove(&piece);
        }
    }

    /// Whether a peer was asked for these hashes to tell blocks apart, and does not send them.
    pub(super) fn on_leaves_reject(&mut self, now: Time, key: PeerKey, range: &HashRange) -> bool {
        let Some(hashes) = &mut self.hashes else { return false };
        let Some(piece) = hashes.suspects.asked(key, range) else {
            return hashes.suspects.take_late(key, range).is_some();
        };
        self.ask_others(now, piece, key);
        true
    }

    /// A peer does not give the leaves of a piece.
    fn ask_others(&mut self, now: Time, piece: PieceIndex, key: PeerKey) {
        let suspects = self.hashes.as_mut().map(|hashes| &mut hashes.suspects);
        if let Some(suspect) = suspects.and_then(|suspects| suspects.waiting.get_mut(&piece)) {
            suspect.asked.retain(|other| *other != key);
        }
        self.ask_for_leaves(now, piece);
        let waiting = self.hashes.as_ref().and_then(|hashes| hashes.suspects.waiting.get(&piece));
        if waiting.is_some_and(|suspect| suspect.asked.is_empty()) {
            self.give_up_leaves(now, piece);
        }
    }

    /// The whole piece is asked for again.
    fn give_up_leaves(&mut self, now: Time, piece: PieceIndex) {
        let suspect = self.hashes.as_mut().and_then(|hashes| hashes.suspects.give_up(piece));
        if let Some(suspect) = suspect {
            self.drop_failed(now, piece, suspect.digests);
            self.input_at = Some(now);
        }
    }

    fn suspects(&self) -> Vec<(PieceIndex, Time, Vec<PeerKey>)> {
        let waiting = self.hashes.iter().flat_map(|hashes| &hashes.suspects.waiting);
        waiting.map(|(piece, suspect)| (*piece, suspect.give_up_at, suspect.asked.clone())).collect()
    }

    /// Memory is full: failed pieces are not kept.
    pub(in crate::torrent) fn give_up_all_leaves(&mut self, now: Time) {
        self.suspects().into_iter().for_each(|(piece, ..)| self.give_up_leaves(now, piece));
    }

    pub(super) fn leaves_left(&mut self, now: Time, key: PeerKey) {
        if let Some(hashes) = &mut self.hashes {
            hashes.suspects.late.retain(|(other, ..)| *other != key);
        }
        let asked = self.suspects().into_iter().filter(|(.., asked)| asked.contains(&key));
        let asked: Vec<PieceIndex> = asked.map(|(piece, ..)| piece).collect();
        asked.into_iter().for_each(|piece| self.ask_others(now, piece, key));
    }

    pub(super) fn tick_leaves(&mut self, now: Time) {
        let late = self.suspects().into_iter().filter(|(_, give_up_at, _)| *give_up_at <= now);
        let late: Vec<PieceIndex> = late.map(|(piece, ..)| piece).collect();
        late.into_iter().for_each(|piece| self.give_up_leaves(now, piece));
    }
}

//! Repair: of a piece that is on disk and does not verify, only the bad blocks are fetched.
//!
//! Such a piece is held back from the picker while a peer is asked for its leaves. When they are here, and lead to the piece's node, the
//! shell hashes what is on disk ([`Action::HashBlocks`]): blocks that are right count as received where they lie
//! ([`Action::KeepBlocks`]), and the others are asked for.
//!
//! Nobody can hold a repair up. If a peer does not answer, somebody else is asked after a second, and for the whole piece after
//! [`LEAVES_TIMEOUT`], or somewhat longer if the piece is long; the peer is asked for leaves no more. Pieces that wait for their turn do so
//! for as long from when the first of them can be had. Only leaves that lead to their pieces earn them more time ([`REPAIR_RATE`]).

use super::super::{Action, Torrent};
use super::leaves::{LEAVES_ASKED_OF, LEAVES_TIMEOUT, leaves_of};
use super::serve::LEAF_BYTES_OF_HOST_PER_S;
use crate::bitfield::Bitfield;
use crate::geometry::Geometry;
use crate::id::{PeerKey, PieceIndex};
use crate::merkle::{HashRange, Node};
use crate::picker::PieceState;
use crate::time::{Duration, Time};
use crate::wire::Message;
use crate::wire::message::Hashes;
use std::collections::BTreeMap;

/// How many damaged pieces are told apart at a time.
pub const REPAIRS_MAX: usize = 16;
/// For how many of them one peer is asked at a time; for fewer if they are large.
pub const REPAIRS_ASKED_MAX: usize = 4;
/// How many bytes of pieces a peer is asked to hash, or a single piece.
const REPAIRS_ASKED_LEN_MAX: u64 = 32 << 20;
/// Pieces wait as long as peers tell apart so many bytes a second: half of what one of ours hashes for a host.
pub const REPAIR_RATE: u64 = LEAF_BYTES_OF_HOST_PER_S / 2;
/// What leaves earn at least, however short the piece is: peers may be far away.
const EARNED_MIN: Duration = Duration::from_millis(50);
/// After this time somebody else is asked too.
const SLOW_AFTER: Duration = Duration::from_secs(1);
/// A peer that has never sent leaves, and rejects so many requests, has none.
const REJECTS_MAX: u32 = 2;
/// How long a peer is left alone that rejects a request; doubled each time in a row.
const BACKOFF: Duration = Duration::from_secs(1);
/// How often it is doubled.
const BACKOFF_DOUBLED_MAX: u32 = 3;

/// What becomes of a damaged piece.
#[derive(Debug)]
enum Repair {
    /// Peers are asked for its leaves.
    Asked { since: Time, last: Time, tried: Vec<PeerKey> },
    /// Its leaves are here, and what is on disk is being hashed.
    Hashing(Vec<Node>),
}

/// A peer that was asked for leaves.
#[derive(Debug, Default)]
struct Witness {
    asked: Vec<(PieceIndex, HashRange, Time)>,
    has_given: bool,
    /// It did not answer in time.
    is_silent: bool,
    rejects: u32,
    rests_until: Time,
}

impl Witness {
    fn may_be_asked(&self, now: Time, asked_max: usize) -> bool {
        self.may_give() && now >= self.rests_until && self.asked.len() < asked_max
    }

    fn may_give(&self) -> bool {
        !self.is_silent && (self.has_given || self.rejects < REJECTS_MAX)
    }
}

/// The damaged pieces of a torrent.
#[derive(Debug)]
pub(super) struct Repairs {
    /// Those that wait for their turn. Among them may be some that are damaged no more.
    waiting: Bitfield,
    under_way: BTreeMap<PieceIndex, Repair>,
    witnesses: BTreeMap<PeerKey, Witness>,
    /// Since when some can be had.
    since: Option<Time>,
    /// When those that wait are waited for no more.
    give_up_at: Time,
    /// Somebody may be asked for more.
    is_due: bool,
    /// For how many pieces one peer is asked at a time.
    asked_max: usize,
    /// How long leaves of a piece are waited for.
    patience: Duration,
    /// How much longer others are waited for when they have come.
    earned: Duration,
}

impl Repairs {
    fn new(geometry: &Geometry) -> Repairs {
        let piece_len = u64::from(geometry.piece_len());
        let time = Duration::from_micros(piece_len * 1_000_000 / REPAIR_RATE);
        Repairs {
            asked_max: ((REPAIRS_ASKED_LEN_MAX / piece_len) as usize).clamp(1, REPAIRS_ASKED_MAX),
            patience: LEAVES_TIMEOUT + time,
            earned: EARNED_MIN.max(time),
            waiting: Bitfield::empty(geometry.pieces()),
            under_way: BTreeMap::new(),
            witnesses: BTreeMap::new(),
            since: None,
            give_up_at: Time::default(),
            is_due: false,
        }
    }

    fn is_over(&self) -> bool {
        self.under_way.is_empty() && self.waiting.count() == 0
    }

    fn is_asked(&self, piece: PieceIndex) -> bool {
        self.witnesses.values().any(|witness| witness.asked.iter().any(|(other, ..)| *other == piece))
    }

    /// A peer does not answer for this piece, which others may do. It is asked for again in its turn if nobody is left.
    fn give_back(&mut self, piece: PieceIndex) {
        let is_open = matches!(self.under_way.get(&piece), Some(Repair::Asked { .. }));
        if is_open && !self.is_asked(piece) {
            self.under_way.remove(&piece);
            self.waiting.insert(piece);
        }
        self.is_due = true;
    }
}

impl Torrent {
    /// These pieces are on disk, and do not verify. In version 2 they are not asked for as long as their good blocks may be had from
    /// there: for a few seconds from when somebody has them.
    pub fn handle_pieces_damaged(&mut self, now: Time, pieces: impl IntoIterator<Item = PieceIndex>) {
        for piece in pieces {
            if self.is_repairable(piece) && self.picker.hold_back(piece) {
                self.begin_repair(piece);
            }
        }
        self.wake(now);
        self.input_at = Some(now);
    }

    /// A piece that was in doubt is bad, and wanted: whether its good blocks will be kept, so that it stays in doubt for now.
    pub(in crate::torrent) fn may_repair(&mut self, piece: PieceIndex) -> bool {
        let may = self.picker.missing().has(piece) && self.is_repairable(piece);
        if may {
            self.begin_repair(piece);
        }
        may
    }

    /// Whether leaves could tell its blocks apart.
    fn is_repairable(&self, piece: PieceIndex) -> bool {
        let trees = self.hashes.as_ref().map(|hashes| &hashes.trees);
        self.geometry.contains(piece)
            && trees.is_some_and(|trees| {
                leaves_of(trees, piece).is_some()
                    && trees.piece_nodes().is_some()
                    && trees.below(piece).is_some_and(|below| below.leaves() > 1)
            })
            && !self.picker.padding().is_assumed_in(&self.geometry, piece)
    }

    fn begin_repair(&mut self, piece: PieceIndex) {
        let geometry = &self.geometry;
        if let Some(hashes) = &mut self.hashes {
            let repairs = hashes.repairs.get_or_insert_with(|| Box::new(Repairs::new(geometry)));
            if repairs.is_over() {
                repairs.since = None;
            }
            repairs.waiting.insert(piece);
            repairs.is_due = true;
        }
    }

    fn repairs(&mut self) -> Option<&mut Repairs> {
        self.hashes.as_mut()?.repairs.as_deref_mut()
    }

    /// Whether damaged pieces are held back.
    pub fn is_repairing(&self) -> bool {
        let repairs = self.hashes.as_ref().and_then(|hashes| hashes.repairs.as_ref());
        repairs.is_some_and(|repairs| !repairs.is_over())
    }

    /// A peer says which pieces it has: it may be asked for leaves.
    pub(in crate::torrent) fn note_witness(&mut self) {
        self.repairs().into_iter().for_each(|repairs| repairs.is_due = true);
    }

    /// Asks peers for the leaves of damaged pieces, as many as may be asked for now.
    pub(in crate::torrent) fn ask_for_repairs(&mut self, now: Time) {
        if !self.repairs().is_some_and(|repairs| std::mem::take(&mut repairs.is_due)) {
            return;
        }
        while let Some((key, piece)) = self.next_witness(now) {
            self.ask_witness(now, key, piece);
        }
    }

    /// Whom to ask next, and for which piece: whoever is asked for least, for the first that it has.
    fn next_witness(&mut self, now: Time) -> Option<(PeerKey, PieceIndex)> {
        let repairs = self.hashes.as_ref()?.repairs.as_ref()?;
        if repairs.under_way.len() >= REPAIRS_MAX || repairs.waiting.count() == 0 {
            return None;
        }
        let able = self.peers.values().filter(|peer| self.speaks_v2(peer));
        let mut able: Vec<(usize, PeerKey)> = able
            .filter_map(|peer| match repairs.witnesses.get(&peer.key) {
                Some(witness) => {
                    let may = witness.may_be_asked(now, repairs.asked_max);
                    may.then_some((witness.asked.len(), peer.key))
                }
                None => Some((0, peer.key)),
            })
            .collect();
        able.sort_unstable();
        let words = repairs.waiting.words().len();
        self.count(self.peers.len() + able.len() * words);
        let mut found = None;
        let mut settled = Vec::new();
        for (_, key) in able {
            repairs.waiting.for_each_common(self.peers[key].have(), |piece| {
                match self.picker.state(piece) == PieceState::Doubted {
                    true => found = Some((key, piece)),
                    false => settled.push(piece),
                }
                found.is_none()
            });
            if found.is_some() {
                break;
            }
        }
        let repairs = self.repairs()?;
        settled.into_iter().for_each(|piece| _ = repairs.waiting.remove(piece));
        found
    }

    fn ask_witness(&mut self, now: Time, key: PeerKey, piece: PieceIndex) {
        let Some(range) = self.hashes.as_ref().and_then(|hashes| leaves_of(&hashes.trees, piece)) else {
            return;
        };
        let Some(repairs) = self.repairs() else { return };
        if repairs.since.is_none() {
            (repairs.since, repairs.give_up_at) = (Some(now), now + repairs.patience);
        }
        repairs.waiting.remove(piece);
        let repair = repairs.under_way.entry(piece).or_insert(Repair::Asked {
            since: now,
            last: now,
            tried: Vec::new(),
        });
        if let Repair::Asked { last, tried, .. } = repair {
            *last = now;
            tried.push(key);
        }
        repairs.witnesses.entry(key).or_default().asked.push((piece, range, now));
        self.send(now, key, Message::HashRequest(Box::new(range)));
    }

    /// Whether these hashes were asked for to repair a piece.
    pub(super) fn on_repair_leaves(&mut self, now: Time, key: PeerKey, answer: &Hashes) -> bool {
        let Some(piece) = self.take_witness(key, &answer.range) else { return false };
        self.count(answer.hashes.len());
        let Some(hashes) = &self.hashes else { return true };
        let Some((below, nodes)) = hashes.trees.below(piece).zip(hashes.trees.piece_nodes()) else {
            return true;
        };
        let is_right = answer.range.climb(&answer.hashes).is_some_and(|(.., node)| node == nodes.of(piece));
        if !is_right {
            self.repairs().into_iter().for_each(|repairs| repairs.give_back(piece));
            self.ban_for_hashes(now, key);
            return true;
        }
        let leaves = answer.hashes[..below.leaves()].to_vec();
        let Some(repairs) = self.repairs() else { return true };
        if let Some(witness) = repairs.witnesses.get_mut(&key) {
            (witness.has_given, witness.is_silent, witness.rejects) = (true, false, 0);
        }
        repairs.is_due = true;
        repairs.give_up_at = (now + repairs.patience).min(repairs.give_up_at + repairs.earned);
        if let Some(repair @ Repair::Asked { .. }) = repairs.under_way.get_mut(&piece) {
            *repair = Repair::Hashing(leaves);
            self.actions.push_back(Action::HashBlocks(piece));
        }
        true
    }

    /// Takes back a request for leaves; for which piece it was.
    fn take_witness(&mut self, key: PeerKey, range: &HashRange) -> Option<PieceIndex> {
        let asked = &mut self.repairs()?.witnesses.get_mut(&key)?.asked;
        let at = asked.iter().position(|(_, other, _)| other == range)?;
        Some(asked.remove(at).0)
    }

    /// Whether a peer was asked for these hashes to repair a piece, and does not send them.
    pub(super) fn on_repair_reject(&mut self, now: Time, key: PeerKey, range: &HashRange) -> bool {
        let Some(piece) = self.take_witness(key, range) else { return false };
        let Some(repairs) = self.repairs() else { return true };
        if let Some(witness) = repairs.witnesses.get_mut(&key) {
            let doubled = witness.rejects.min(BACKOFF_DOUBLED_MAX);
            witness.rests_until = now + BACKOFF * 2u32.pow(doubled);
            witness.rejects += 1;
        }
        repairs.give_back(piece);
        true
    }

    /// What the blocks of a damaged piece hash to, as [`Action::HashBlocks`] asked for: as a [`PieceResult`](super::super::PieceResult)
    /// has them; zeros, or nothing, for those that cannot be read.
    pub fn handle_blocks_hashed(&mut self, now: Time, piece: PieceIndex, digests: &[[u8; 20]]) {
        self.input_at = Some(now);
        let Some(repairs) = self.repairs() else { return };
        let Some(Repair::Hashing(leaves)) = repairs.under_way.remove(&piece) else { return };
        repairs.is_due = true;
        self.refill_all = true;
        self.picker.piece_lost(piece);
        let is_good = |(_, (leaf, digest)): &(u32, (&Node, &[u8; 20]))| leaf[..20] == digest[..];
        let good: Vec<u32> =
            (0..).zip(leaves.iter().zip(digests)).filter(is_good).map(|(index, _)| index).collect();
        if good.is_empty() || self.picker.state(piece) != PieceState::Unstarted {
            return;
        }
        self.remember_leaves(piece, &leaves);
        let is_complete = self.picker.restore(piece, &good);
        self.actions.push_back(Action::KeepBlocks { piece, blocks: good });
        if is_complete {
            self.verify_piece(piece);
        }
    }

    /// All of a damaged piece is asked for.
    fn give_up_repair(&mut self, piece: PieceIndex) {
        if let Some(repairs) = self.repairs() {
            repairs.under_way.remove(&piece);
            repairs.waiting.remove(piece);
        }
        if self.picker.state(piece) == PieceState::Doubted {
            self.picker.piece_lost(piece);
            self.refill_all = true;
        }
    }

    pub(super) fn repair_left(&mut self, key: PeerKey) {
        let Some(repairs) = self.repairs() else { return };
        let Some(witness) = repairs.witnesses.remove(&key) else { return };
        witness.asked.into_iter().for_each(|(piece, ..)| repairs.give_back(piece));
    }

    pub(super) fn tick_repairs(&mut self, now: Time) {
        if !self.is_repairing() {
            return;
        }
        self.give_up_slow_repairs(now);
        self.ask_more_witnesses(now);
        self.give_up_waiting_repairs(now);
        self.repairs().into_iter().for_each(|repairs| repairs.is_due = true);
    }

    /// Nobody has answered for these pieces in time.
    fn give_up_slow_repairs(&mut self, now: Time) {
        let Some(repairs) = self.repairs() else { return };
        let patience = repairs.patience;
        for witness in repairs.witnesses.values_mut() {
            witness.is_silent |= witness.asked.iter().any(|(.., at)| now.since(*at) >= patience);
        }
        let is_late = |repair: &Repair| match repair {
            Repair::Asked { since, .. } => now.since(*since) >= patience,
            Repair::Hashing(_) => false,
        };
        let late = repairs.under_way.iter().filter(|(_, repair)| is_late(repair));
        let late: Vec<PieceIndex> = late.map(|(piece, _)| *piece).collect();
        late.into_iter().for_each(|piece| self.give_up_repair(piece));
    }

    /// Asks somebody else for leaves that do not come.
    fn ask_more_witnesses(&mut self, now: Time) {
        let Some(repairs) = self.hashes.as_ref().and_then(|hashes| hashes.repairs.as_ref()) else { return };
        let mut more = Vec::new();
        for (&piece, repair) in &repairs.under_way {
            let Repair::Asked { last, tried, .. } = repair else { continue };
            if now.since(*last) < SLOW_AFTER || tried.len() >= LEAVES_ASKED_OF {
                continue;
            }
            let witness_of = |key| repairs.witnesses.get(&key);
            let able = self.peers.values().filter(|peer| {
                let may =
                    witness_of(peer.key).is_none_or(|witness| witness.may_be_asked(now, repairs.asked_max));
                may && self.speaks_v2(peer) && peer.have().has(piece) && !tried.contains(&peer.key)
            });
            let asked = |key| witness_of(key).map_or(0, |witness| witness.asked.len());
            more.extend(
                able.map(|peer| peer.key).min_by_key(|&key| (asked(key), key)).map(|key| (key, piece)),
            );
        }
        self.count(repairs.under_way.len() * (1 + self.peers.len()));
        more.into_iter().for_each(|(key, piece)| self.ask_witness(now, key, piece));
    }

    /// Pieces that wait for their turn are not waited for any longer, as far as somebody has them.
    fn give_up_waiting_repairs(&mut self, now: Time) {
        let Some(repairs) = self.hashes.as_ref().and_then(|hashes| hashes.repairs.as_ref()) else { return };
        let is_on_the_web = self.is_waiting_for_web();
        let is_to_be_had = |piece| is_on_the_web || self.picker.availability(piece) > 0;
        let Some(since) = repairs.since else {
            if repairs.waiting.iter().any(is_to_be_had)
                && let Some(repairs) = self.repairs()
            {
                (repairs.since, repairs.give_up_at) = (Some(now), now + repairs.patience);
            }
            return;
        };
        let may_give = |key| repairs.witnesses.get(&key).is_none_or(Witness::may_give);
        let has_able = self.peers.values().any(|peer| self.speaks_v2(peer) && may_give(peer.key));
        // Those who were asked have none, and there is nobody else.
        let is_in_vain = !repairs.witnesses.is_empty() && !has_able && now.since(since) >= SLOW_AFTER;
        if repairs.give_up_at > now && !is_in_vain {
            return;
        }
        let given_up: Vec<PieceIndex> = repairs.waiting.iter().filter(|&piece| is_to_be_had(piece)).collect();
        self.count(repairs.waiting.words().len() + given_up.len());
        given_up.into_iter().for_each(|piece| self.give_up_repair(piece));
    }
}

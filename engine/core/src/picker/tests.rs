use super::*;
use crate::geometry::BLOCK_LEN;
use crate::rng::Rng;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const PEERS: u32 = 5;

fn geometry(pieces: u32, blocks: u32) -> Geometry {
    let piece_len = u64::from(blocks * BLOCK_LEN);
    Geometry::new(u64::from(pieces) * piece_len, piece_len).unwrap()
}

fn source(key: u32, have: &Bitfield) -> PickerPeer<'_> {
    PickerPeer { key: PeerKey(key), have, may_start: true, on_parole: false }
}

/// What the picker is meant to keep, kept in the plainest way.
#[derive(Default)]
struct Naive {
    requested: BTreeMap<BlockRef, BTreeSet<PeerKey>>,
    received: BTreeSet<BlockRef>,
    done: BTreeSet<PieceIndex>,
}

impl Naive {
    fn is_started(&self, piece: PieceIndex) -> bool {
        self.requested.keys().chain(&self.received).any(|b| b.piece == piece)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Pick(u32, usize),
    Receive(u32, usize),
    Release(u32, usize),
    Duplicate(u32, usize),
    Finish(usize, bool),
    Got(u32, u32),
    Lost(u32, u32),
    Priority(u32, u8),
    Leave(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let peer = 0..PEERS;
    let step = prop_oneof![
        4 => (peer.clone(), 1usize..6).prop_map(|(p, n)| Step::Pick(p, n)),
        4 => (peer.clone(), any::<usize>()).prop_map(|(p, n)| Step::Receive(p, n)),
        1 => (peer.clone(), any::<usize>()).prop_map(|(p, n)| Step::Release(p, n)),
        1 => (peer.clone(), any::<usize>()).prop_map(|(p, n)| Step::Duplicate(p, n)),
        3 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(n, ok)| Step::Finish(n, ok)),
        2 => (peer.clone(), any::<u32>()).prop_map(|(p, n)| Step::Got(p, n)),
        1 => (peer.clone(), any::<u32>()).prop_map(|(p, n)| Step::Lost(p, n)),
        1 => (any::<u32>(), 0u8..10).prop_map(|(n, p)| Step::Priority(n, p)),
        1 => peer.prop_map(Step::Leave),
    ];
    prop::collection::vec(step, 1..120)
}

struct Run {
    picker: Picker,
    naive: Naive,
    haves: Vec<Bitfield>,
    counted: Vec<Counted>,
    rng: Rng,
}

impl Run {
    fn new(seed: u64) -> Run {
        let geometry = geometry(6, 3);
        let mut rng = Rng::new(seed);
        let mut picker = Picker::new(geometry.clone(), Bitfield::empty(6));
        let (mut haves, mut counted) = (Vec::new(), Vec::new());
        for _ in 0..PEERS {
            let mut have = Bitfield::empty(6);
            geometry.piece_indices().filter(|_| rng.one_in(2)).for_each(|p| {
                have.insert(p);
            });
            counted.push(picker.peer_joined(&have));
            haves.push(have);
        }
        Run { picker, naive: Naive::default(), haves, counted, rng }
    }

    fn held_by(&self, peer: PeerKey) -> Vec<BlockRef> {
        self.naive.requested.iter().filter(|(_, h)| h.contains(&peer)).map(|(b, _)| *b).collect()
    }

    fn pick(&mut self, peer: u32, count: usize) {
        let have = self.haves[peer as usize].clone();
        let unstarted: Vec<PieceIndex> =
            have.iter().filter(|&p| self.picker.missing().has(p) && !self.naive.is_started(p)).collect();
        let mut picks = Vec::new();
        self.picker.pick(source(peer, &have), count, &mut self.rng, &mut picks);
        assert!(picks.len() <= count);
        let mut opened = BTreeSet::new();
        for &block in &picks {
            assert!(have.has(block.piece), "the peer has not got it");
            assert!(self.picker.missing().has(block.piece), "it is not wanted");
            assert!(!self.naive.received.contains(&block), "it is there already");
            assert!(
                self.naive.requested.get(&block).is_none_or(BTreeSet::is_empty),
                "it was asked for already"
            );
            if !self.naive.is_started(block.piece) {
                opened.insert(block.piece);
            }
        }
        // Nothing more urgent or rarer was passed over for a piece that was started now.
        let rank =
            |p: &PieceIndex| (std::cmp::Reverse(self.picker.priority(*p)), self.picker.availability(*p));
        for passed_over in unstarted.iter().filter(|p| !opened.contains(p)) {
            for piece in &opened {
                assert!(rank(piece) <= rank(passed_over), "{piece} before {passed_over}");
            }
        }
        if picks.len() < count {
            assert!(unstarted.iter().all(|p| opened.contains(p)), "there was more to pick");
        }
        for block in picks {
            self.naive.requested.entry(block).or_default().insert(PeerKey(peer));
        }
    }

    fn receive(&mut self, peer: u32, nth: usize) {
        let held = self.held_by(PeerKey(peer));
        let Some(&block) = held.get(nth % held.len().max(1)) else { return };
        let mut cancelled = BTreeSet::new();
        let arrival = self.picker.received(block, PeerKey(peer), |p| {
            cancelled.insert(p);
        });
        let mut peers = self.naive.requested.remove(&block).unwrap();
        peers.remove(&PeerKey(peer));
        assert_eq!(cancelled, peers);
        assert!(self.naive.received.insert(block));
        let complete = self.naive.received.iter().filter(|b| b.piece == block.piece).count() == 3;
        assert_eq!(arrival, Arrival::Fresh { complete });
        assert_eq!(
            self.picker.received(block, PeerKey(peer), |_| panic!("nobody holds it")),
            Arrival::Unwanted
        );
    }

    fn finish(&mut self, nth: usize, ok: bool) {
        let count = |p: PieceIndex| self.naive.received.iter().filter(|b| b.piece == p).count();
        let complete: Vec<PieceIndex> = (0..6).map(PieceIndex).filter(|&p| count(p) == 3).collect();
        let Some(&piece) = complete.get(nth % complete.len().max(1)) else { return };
        self.naive.received.retain(|b| b.piece != piece);
        if ok {
            self.picker.piece_done(piece);
            self.naive.done.insert(piece);
        } else {
            self.picker.piece_failed(piece, Vec::new());
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Pick(peer, count) => self.pick(peer, count),
            Step::Receive(peer, nth) => self.receive(peer, nth),
            Step::Finish(nth, ok) => self.finish(nth, ok),
            Step::Release(peer, nth) => {
                let held = self.held_by(PeerKey(peer));
                let Some(&block) = held.get(nth % held.len().max(1)) else { return };
                self.picker.release(block, PeerKey(peer));
                self.forget(block, PeerKey(peer));
            }
            Step::Duplicate(peer, nth) => {
                let requested: Vec<BlockRef> = self.naive.requested.keys().copied().collect();
                let Some(&block) = requested.get(nth % requested.len().max(1)) else { return };
                let peers = self.naive.requested.get_mut(&block).unwrap();
                let may = peers.len() < REQUESTED_FROM_MAX && !peers.contains(&PeerKey(peer));
                assert_eq!(self.picker.duplicate(block, PeerKey(peer), REQUESTED_FROM_MAX), may);
                if may {
                    peers.insert(PeerKey(peer));
                }
            }
            Step::Got(peer, n) => {
                let (piece, have) = (PieceIndex(n % 6), &mut self.haves[peer as usize]);
                if have.insert(piece) {
                    self.picker.peer_got(piece);
                }
            }
            Step::Lost(peer, n) => {
                let (piece, have) = (PieceIndex(n % 6), &mut self.haves[peer as usize]);
                if have.remove(piece) {
                    self.picker.peer_lost(piece);
                }
            }
            Step::Priority(n, priority) => self.picker.set_priority(PieceIndex(n % 6), Priority(priority)),
            Step::Leave(peer) => {
                for block in self.held_by(PeerKey(peer)) {
                    self.picker.release(block, PeerKey(peer));
                    self.forget(block, PeerKey(peer));
                }
                let (have, counted) = (&mut self.haves[peer as usize], &mut self.counted[peer as usize]);
                self.picker.peer_left(have, *counted);
                *have = if peer % 2 == 0 { Bitfield::empty(6) } else { Bitfield::full(6) };
                *counted = self.picker.peer_joined(have);
            }
        }
    }

    fn forget(&mut self, block: BlockRef, peer: PeerKey) {
        let peers = self.naive.requested.get_mut(&block).unwrap();
        peers.remove(&peer);
        if peers.is_empty() {
            self.naive.requested.remove(&block);
        }
    }

    fn check(&self) {
        self.picker.check_invariants();
        for piece in (0..6).map(PieceIndex) {
            let peers = self.haves.iter().filter(|h| h.has(piece)).count();
            assert_eq!(self.picker.availability(piece) as usize, peers);
            assert_eq!(self.picker.have().has(piece), self.naive.done.contains(&piece));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn agrees_with_the_naive_model(seed: u64, steps in steps()) {
        let mut run = Run::new(seed);
        for step in &steps {
            run.step(step);
            run.check();
        }
    }
}

#[test]
fn started_pieces_come_before_new_ones() {
    let mut picker = Picker::new(geometry(4, 4), Bitfield::empty(4));
    let (full, mut rng, mut picks) = (Bitfield::full(4), Rng::new(3), Vec::new());
    picker.pick(source(1, &full), 2, &mut rng, &mut picks);
    picker.pick(source(2, &full), 2, &mut rng, &mut picks);
    let pieces: BTreeSet<PieceIndex> = picks.iter().map(|b| b.piece).collect();
    assert_eq!(pieces.len(), 1);
}

#[test]
fn sequential_order_starts_at_the_front() {
    let mut picker = Picker::new(geometry(5, 1), Bitfield::empty(5));
    picker.set_order(Order::Sequential);
    let mut picks = Vec::new();
    picker.pick(source(1, &Bitfield::full(5)), 5, &mut Rng::new(1), &mut picks);
    assert!(picks.is_sorted());
    assert_eq!(picks.len(), 5);
}

#[test]
fn ties_are_broken_at_random() {
    let mut firsts = BTreeSet::new();
    for seed in 0..64 {
        let mut picker = Picker::new(geometry(8, 1), Bitfield::empty(8));
        let mut picks = Vec::new();
        picker.pick(source(1, &Bitfield::full(8)), 1, &mut Rng::new(seed), &mut picks);
        firsts.insert(picks[0].piece);
    }
    assert_eq!(firsts.len(), 8);
}

#[test]
fn a_failed_piece_goes_to_one_peer_that_did_not_send_it() {
    let mut picker = Picker::new(geometry(1, 4), Bitfield::empty(1));
    let (full, mut rng, mut picks) = (Bitfield::full(1), Rng::new(3), Vec::new());
    picker.pick(source(1, &full), 4, &mut rng, &mut picks);
    for &block in &picks {
        picker.received(block, PeerKey(1), |_| {});
    }
    picker.piece_failed(PieceIndex(0), vec![PeerKey(1)]);
    picks.clear();
    picker.pick(source(1, &full), 4, &mut rng, &mut picks);
    assert!(picks.is_empty(), "a sender of the failed piece must wait");
    picker.pick(source(2, &full), 1, &mut rng, &mut picks);
    picker.pick(source(3, &full), 4, &mut rng, &mut picks);
    assert_eq!(picks.len(), 1, "one peer at a time");
    picker.release_exclusive(PeerKey(2));
    picker.handle_round();
    picker.pick(source(1, &full), 4, &mut rng, &mut picks);
    assert_eq!(picks.len(), 4);
    picker.check_invariants();
}

#[test]
fn an_owner_that_is_too_slow_for_a_failed_piece_gets_help() {
    let mut picker = Picker::new(geometry(1, 4), Bitfield::empty(1));
    let (full, mut rng, mut picks) = (Bitfield::full(1), Rng::new(3), Vec::new());
    picker.pick(source(1, &full), 4, &mut rng, &mut picks);
    for block in picks.drain(..) {
        picker.received(block, PeerKey(1), |_| {});
    }
    picker.piece_failed(PieceIndex(0), vec![PeerKey(1)]);
    picker.pick(source(2, &full), 2, &mut rng, &mut picks);
    for _ in 0..10 {
        picker.handle_round();
        picker.check_invariants();
    }
    picker.pick(source(3, &full), 4, &mut rng, &mut picks);
    assert!(picker.is_endgame());
    assert!(
        picker.duplicate(picks[0], PeerKey(3), REQUESTED_FROM_MAX),
        "what the owner was asked for may be had elsewhere too"
    );
}

/// What a hundred choices of eight pieces cost, of a seed and of a peer that has a tenth.
fn cost_of_choices(pieces: u32, order: Order) -> u64 {
    let mut picker = Picker::new(geometry(pieces, 1), Bitfield::empty(pieces));
    picker.set_order(order);
    let (seed, mut few) = (Bitfield::full(pieces), Bitfield::empty(pieces));
    for n in (0..pieces).step_by(10) {
        few.insert(PieceIndex(n));
    }
    picker.peer_joined(&seed);
    picker.peer_joined(&few);
    let before = picker.work();
    for n in 0..100 {
        let (mut rng, mut picks) = (Rng::new(n), Vec::new());
        picker.pick(source(1, &seed), 8, &mut rng, &mut picks);
        picker.pick(source(2, &few), 8, &mut rng, &mut picks);
        assert_eq!(picks.len(), 16);
        for block in picks {
            picker.received(block, PeerKey(1), |_| {});
            picker.piece_done(block.piece);
        }
    }
    picker.work() - before
}

#[test]
fn a_choice_costs_no_more_among_more_pieces() {
    for order in [Order::RarestFirst, Order::Sequential] {
        let (some, many) = (cost_of_choices(100_000, order), cost_of_choices(3_200_000, order));
        assert!(many <= some + some / 4, "{order:?}: {some} steps of 100,000 pieces, {many} of 3,200,000");
    }
}

#[test]
fn of_very_many_pieces_the_rarest_nearby_are_chosen_all_over_the_torrent() {
    let pieces = 64 * LOOKED_AT_MAX as u32;
    let mut picker = Picker::new(geometry(pieces, 1), Bitfield::empty(pieces));
    let (full, mut common) = (Bitfield::full(pieces), Bitfield::full(pieces));
    // Every thousandth piece is rare.
    for n in (0..pieces).step_by(1_000) {
        common.remove(PieceIndex(n));
    }
    picker.peer_joined(&full);
    picker.peer_joined(&common);
    let (mut rng, mut eighths) = (Rng::new(1), BTreeSet::new());
    for _ in 0..40 {
        let mut picks = Vec::new();
        picker.pick(source(1, &full), 2, &mut rng, &mut picks);
        assert!(picks.iter().all(|block| block.piece.0.is_multiple_of(1_000)), "{picks:?}");
        eighths.extend(picks.iter().map(|block| block.piece.0 / (pieces / 8)));
    }
    assert_eq!(eighths.len(), 8);
}

#[test]
fn of_very_many_pieces_the_urgent_come_first() {
    let pieces = 64 * LOOKED_AT_MAX as u32;
    let mut picker = Picker::new(geometry(pieces, 1), Bitfield::empty(pieces));
    let (full, mut rng) = (Bitfield::full(pieces), Rng::new(1));
    picker.set_priority(PieceIndex(123_456), Priority::HIGH);
    let mut picks = Vec::new();
    picker.pick(source(1, &full), 3, &mut rng, &mut picks);
    assert_eq!(picks[0].piece, PieceIndex(123_456));
    // What nobody wants any more is no reason to look at all.
    picker.received(picks[0], PeerKey(1), |_| {});
    picker.piece_done(PieceIndex(123_456));
    picker.set_priority(PieceIndex(123_456), Priority::NORMAL);
    picker.check_invariants();
    let before = picker.work();
    picker.pick(source(1, &full), 3, &mut rng, &mut picks);
    assert!(picker.work() - before < 2 * LOOKED_AT_MAX);
}

#[test]
fn what_somebody_waits_for_is_started_before_anything_is_continued() {
    let geometry = geometry(8, 4);
    let mut picker = Picker::new(geometry, Bitfield::empty(8));
    let (have, mut rng) = (Bitfield::full(8), Rng::new(1));
    let mut pick = |picker: &mut Picker, count| {
        let mut out = Vec::new();
        picker.pick(source(1, &have), count, &mut rng, &mut out);
        out.into_iter().map(|block| block.piece.0).collect::<Vec<_>>()
    };
    let first = pick(&mut picker, 1)[0];
    let (soon, later) = ((first + 1) % 8, (first + 2) % 8);
    picker.set_priority(PieceIndex(later), Priority(Priority::HIGH.0 + 1));
    picker.set_priority(PieceIndex(soon), Priority(Priority::HIGH.0 + 2));
    assert_eq!(pick(&mut picker, 3), [soon; 3]);
    assert_eq!(pick(&mut picker, 6), [soon, later, later, later, later, first], "then what was begun");
    // What is merely wanted first waits for that.
    let high = (first + 3) % 8;
    picker.set_priority(PieceIndex(high), Priority::HIGH);
    assert_eq!(pick(&mut picker, 3), [first, first, high]);
}

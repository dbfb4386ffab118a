//! Which block to ask a peer for next.
//!
//! Rarest first among pieces not yet started, with random ties: Legout et al.,
//! "Rarest First and Choke Algorithms Are Enough" (IMC 2006). Before that, the
//! free blocks of pieces already started, so that few pieces are open at a time:
//! a piece can be passed on only when it is whole, and open pieces cost memory.
//!
//! Every piece is in exactly one state: *unwanted* (priority 0), *startable*,
//! *open* (some block asked for or received), *complete* (all blocks received,
//! being verified and written), *have*, or *doubted* (had, and being verified again). The picker is a leaf: it knows nothing of messages or
//! connections, and a set of pieces is all it is told of a peer.

mod open;
#[cfg(test)]
mod tests;

use crate::bitfield::Bitfield;
use crate::geometry::Geometry;
use crate::id::{BlockRef, PeerKey, PieceIndex};
use crate::padding::Padding;
use crate::rng::Rng;
use open::{BlockState, OpenPiece};
use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Higher is sooner; [`Priority::SKIP`] is never downloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(pub u8);

impl Priority {
    /// Not wanted.
    pub const SKIP: Priority = Priority(0);
    /// What every piece has unless someone says otherwise.
    pub const NORMAL: Priority = Priority(4);
    /// Before every other piece.
    pub const HIGH: Priority = Priority(7);
}

/// The order in which pieces are started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The rarest piece first, ties at random.
    #[default]
    RarestFirst,
    /// The lowest index first, for someone who reads along.
    Sequential,
}

/// What came of a block that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It was missing and is now taken; `complete` if it was its piece's last.
    Fresh {
        /// Whether the piece now has all its blocks and waits for verification.
        complete: bool,
    },
    /// It is not wanted, or no longer: drop it.
    Unwanted,
}

/// Which open pieces are chosen from, as peers on parole go.
#[derive(Clone, Copy, PartialEq)]
enum Company {
    /// Its own, or those of peers like it.
    Fitting,
    Other,
}

/// A peer, as far as choosing blocks for it needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its key.
    pub key: PeerKey,
    /// The pieces it has.
    pub have: &'a Bitfield,
    /// Whether it may start new pieces, or only fill open ones (memory is short).
    pub may_start: bool,
    /// Whether no piece with a block of its has been verified yet. It gets a piece to itself while there is one to start, so
    /// that a liar spoils nobody else's blocks and is known at once.
    pub on_parole: bool,
}

/// The picker of one torrent.
#[derive(Debug)]
pub struct Picker {
    geometry: Geometry,
    padding: Padding,
    /// Pieces that did not verify with zeros for what only its name says is padding.
    not_padded: BTreeSet<PieceIndex>,
    order: Order,
    have: Bitfield,
    /// Wanted and not had: startable, open, complete or doubted.
    missing: Bitfield,
    /// Once had, and being verified again: not to be asked for meanwhile.
    doubted: Bitfield,
    /// Of the missing ones, those with no block asked for or received.
    startable: Bitfield,
    priority: Vec<Priority>,
    /// How many of the peers that were counted by the pieces they have have a piece, less how many of those that were [counted
    /// as seeds](Counted) have not.
    availability: Vec<i32>,
    /// How many peers were counted as seeds.
    seeds: i32,
    open: BTreeMap<PieceIndex, OpenPiece>,
    /// Of the open pieces, those that failed before.
    suspects: BTreeSet<PieceIndex>,
    /// At least the open pieces that are left to a peer on parole, by that peer.
    parole: BTreeSet<(PeerKey, PieceIndex)>,
    /// Blocks of open pieces that nobody was asked for.
    free_blocks: u32,
    /// Counts blocks that came, as a clock for the age of partial pieces.
    arrivals: u64,
    /// Counts pieces and words of pieces that were looked at.
    work: Cell<u64>,
    /// Room for choices, kept to save allocations.
    choices: Vec<Choice>,
}

/// A piece that may be gone on with or started, with what decides between it and others.
type Choice = (Reverse<Priority>, u64, u64, PieceIndex);

/// How a peer's pieces are counted: whatever it gains or loses later changes one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// One for each piece that it has.
    ByPieces,
    /// As a seed, less one for each piece that it has not: it had most of them when it said which.
    AsSeed,
}

impl Picker {
    /// A picker for a torrent of which we `have` these pieces, and want the rest.
    pub fn new(geometry: Geometry, have: Bitfield) -> Picker {
        let n = geometry.pieces();
        assert_eq!(have.len(), n, "one bit for each piece");
        let mut missing = Bitfield::full(n);
        have.iter().for_each(|p| {
            missing.remove(p);
        });
        Picker {
            geometry,
            padding: Padding::default(),
            not_padded: BTreeSet::new(),
            order: Order::default(),
            have,
            startable: missing.clone(),
            missing,
            doubted: Bitfield::empty(n),
            priority: vec![Priority::NORMAL; n as usize],
            availability: vec![0; n as usize],
            seeds: 0,
            open: BTreeMap::new(),
            suspects: BTreeSet::new(),
            parole: BTreeSet::new(),
            free_blocks: 0,
            arrivals: 0,
            work: Cell::new(0),
            choices: Vec::new(),
        }
    }

    /// Says which bytes are padding, before anything is picked: nobody is asked for blocks of it. A piece that holds
    /// nothing else is not wanted, until somebody gives it a priority.
    pub fn set_padding(&mut self, padding: Padding) {
        debug_assert!(self.open.is_empty(), "some pieces are open already");
        let geometry = self.geometry;
        for piece in padding.pieces(&geometry).filter(|&piece| padding.covers(&geometry, piece)) {
            self.set_priority(piece, Priority::SKIP);
        }
        self.padding = padding;
    }

    /// Which bytes are padding.
    pub fn padding(&self) -> &Padding {
        &self.padding
    }

    /// The blocks of an open or complete piece that are zeros and that nobody is asked for.
    pub fn padding_blocks(&self, piece: PieceIndex) -> impl Iterator<Item = u32> + '_ {
        self.open.get(&piece).into_iter().flat_map(OpenPiece::padding)
    }

    /// Sets the order in which pieces are started from now on.
    pub fn set_order(&mut self, order: Order) {
        self.order = order;
    }

    /// The pieces that are verified and written.
    pub fn have(&self) -> &Bitfield {
        &self.have
    }

    /// The pieces that are wanted and not yet had.
    pub fn missing(&self) -> &Bitfield {
        &self.missing
    }

    /// The priority of a piece.
    pub fn priority(&self, piece: PieceIndex) -> Priority {
        self.priority[piece.idx()]
    }

    /// Changes the priority of a piece. An open piece that is no longer wanted is finished all the
    /// same if its blocks are on their way, but nothing more is asked for.
    pub fn set_priority(&mut self, piece: PieceIndex, priority: Priority) {
        let was = std::mem::replace(&mut self.priority[piece.idx()], priority);
        if self.have.has(piece) || (was == Priority::SKIP) == (priority == Priority::SKIP) {
            return;
        }
        let wanted = priority != Priority::SKIP;
        if wanted {
            self.missing.insert(piece);
        } else {
            self.missing.remove(piece);
        }
        match self.open.get(&piece) {
            Some(open) if wanted => self.free_blocks += open.free(),
            Some(open) => self.free_blocks -= open.free(),
            None if wanted && !self.doubted.has(piece) => {
                self.startable.insert(piece);
            }
            None => {
                self.startable.remove(piece);
            }
        }
    }

    /// A peer has these pieces. The answer is to be given back when it [leaves](Self::peer_left).
    pub fn peer_joined(&mut self, have: &Bitfield) -> Counted {
        if have.count() > have.len() / 2 {
            self.seeds += 1;
            let lacks = have.iter_zeros();
            lacks.for_each(|p| self.availability[p.idx()] -= 1);
            self.count((have.len() - have.count()).into());
            return Counted::AsSeed;
        }
        have.iter().for_each(|p| self.availability[p.idx()] += 1);
        self.count(have.count().into());
        Counted::ByPieces
    }

    /// The peer that had these pieces has left.
    pub fn peer_left(&mut self, have: &Bitfield, counted: Counted) {
        match counted {
            Counted::AsSeed => {
                self.seeds -= 1;
                have.iter_zeros().for_each(|p| self.availability[p.idx()] += 1);
                self.count((have.len() - have.count()).into());
            }
            Counted::ByPieces => {
                have.iter().for_each(|p| self.availability[p.idx()] -= 1);
                self.count(have.count().into());
            }
        }
    }

    /// A peer has got one more piece.
    pub fn peer_got(&mut self, piece: PieceIndex) {
        self.availability[piece.idx()] += 1;
    }

    /// A peer has a piece no more.
    pub fn peer_lost(&mut self, piece: PieceIndex) {
        self.availability[piece.idx()] -= 1;
    }

    /// How many connected peers have this piece.
    pub fn availability(&self, piece: PieceIndex) -> u32 {
        (self.availability[piece.idx()] + self.seeds).unsigned_abs()
    }

    /// How many pieces, and words of pieces, were looked at so far: what inputs have cost.
    pub fn work(&self) -> u64 {
        self.work.get()
    }

    fn count(&self, steps: u64) {
        self.work.set(self.work.get() + steps);
    }

    /// Whether some block of this piece is wanted and nobody was asked for it.
    pub fn is_free(&self, piece: PieceIndex) -> bool {
        let is_open = || self.missing.has(piece) && self.open.get(&piece).is_some_and(|open| open.free() > 0);
        self.startable.has(piece) || is_open()
    }

    /// Whether some block of this piece has been asked for.
    pub fn is_open(&self, piece: PieceIndex) -> bool {
        self.open.contains_key(&piece)
    }

    /// Whether every missing block has been asked for or received.
    pub fn is_endgame(&self) -> bool {
        self.free_blocks == 0 && self.startable.count() == 0 && self.missing.count() > 0
    }

    /// Chooses up to `count` blocks to ask `source` for and marks them as asked for. Whatever the count, each piece is looked at once or twice.
    pub fn pick(&mut self, source: Source<'_>, count: usize, rng: &mut Rng, out: &mut Vec<BlockRef>) {
        let end = out.len() + count;
        let mut choices = std::mem::take(&mut self.choices);
        if count > 0 && self.free_blocks > 0 {
            self.choose_open(source, count, Company::Fitting, &mut choices);
            self.take(source.key, &choices, end, out);
        }
        while source.may_start && out.len() < end {
            let blocks = self.geometry.blocks_in(PieceIndex(0)).max(1) as usize;
            self.choose_startable(source.have, (end - out.len()).div_ceil(blocks), rng, &mut choices);
            if choices.is_empty() {
                break;
            }
            choices.iter().for_each(|choice| self.start(choice.3, source));
            self.take(source.key, &choices, end, out);
        }
        let some_do_not_fit = source.on_parole || !self.parole.is_empty();
        if out.len() < end && self.free_blocks > 0 && some_do_not_fit && self.order != Order::Sequential {
            self.choose_open(source, end - out.len(), Company::Other, &mut choices);
            self.take(source.key, &choices, end, out);
        }
        choices.clear();
        self.choices = choices;
    }

    /// Marks free blocks of these pieces as asked for, until there are as many as wanted.
    fn take(&mut self, peer: PeerKey, choices: &[Choice], end: usize, out: &mut Vec<BlockRef>) {
        for &(.., piece) in choices {
            if out.len() == end {
                return;
            }
            let open = self.open.get_mut(&piece).expect("it was chosen among the open ones");
            let before = open.free();
            open.take_free(peer, end - out.len(), |index| out.push(self.geometry.block(piece, index)));
            self.free_blocks -= before - open.free();
        }
    }

    /// Whether [`Picker::pick`] would find a block to ask `source` for.
    pub fn has_for(&self, source: Source<'_>) -> bool {
        let may_start = source.may_start && self.startable.intersects(source.have);
        may_start || self.open.iter().any(|(piece, open)| self.may_go_on(source, *piece, open))
    }

    #[inline]
    fn may_go_on(&self, source: Source<'_>, piece: PieceIndex, open: &OpenPiece) -> bool {
        open.free() > 0 && open.is_open_to(source.key) && source.have.has(piece) && self.missing.has(piece)
    }

    /// Peers on parole, and the others, leave each other's pieces alone while they can start one. Who reads along does not
    /// wait for that.
    fn is_fitting(&self, source: Source<'_>, open: &OpenPiece) -> bool {
        self.order == Order::Sequential || open.left_to().map_or(!source.on_parole, |peer| peer == source.key)
    }

    /// The open pieces to go on with, up to `max`: the most urgent first, then those that this peer already fills (a
    /// piece from one sender is blamed easily), then those with the fewest free blocks.
    fn choose_open(&self, source: Source<'_>, max: usize, company: Company, choices: &mut Vec<Choice>) {
        choices.clear();
        self.count(self.open.len() as u64);
        for (&piece, open) in &self.open {
            let may_fill = self.may_go_on(source, piece, open)
                && self.is_fitting(source, open) == (company == Company::Fitting);
            if may_fill {
                let is_others = u64::from(open.last_taker() != Some(source.key));
                choices.push((Reverse(self.priority[piece.idx()]), is_others, u64::from(open.free()), piece));
            }
        }
        if choices.len() > max {
            choices.select_nth_unstable(max - 1);
            choices.truncate(max);
        }
        choices.sort_unstable();
    }

    fn start(&mut self, piece: PieceIndex, source: Source<'_>) {
        self.startable.remove(piece);
        let mut open = self.unopened(piece);
        if source.on_parole {
            open.leave_to(source.key);
            self.parole.insert((source.key, piece));
        }
        self.free_blocks += open.free();
        self.open.insert(piece, open);
    }

    /// A piece of which no block is asked for yet.
    fn unopened(&self, piece: PieceIndex) -> OpenPiece {
        let padding = match self.not_padded.contains(&piece) {
            true => Vec::new(),
            false => self.padding.blocks_in(&self.geometry, piece),
        };
        OpenPiece::new(self.geometry.blocks_in(piece), &padding)
    }

    /// The pieces to start, up to `max`: the most urgent first, then the rarest, ties at random.
    fn choose_startable(&self, have: &Bitfield, max: usize, rng: &mut Rng, choices: &mut Vec<Choice>) {
        choices.clear();
        let mut looked_at = self.startable.words().len() as u64;
        let mut worst = None;
        self.startable.for_each_common(have, |piece| {
            looked_at += 1;
            let rarity = match self.order {
                Order::RarestFirst => i64::from(self.availability[piece.idx()]) - i64::from(i32::MIN),
                Order::Sequential => piece.0.into(),
            };
            let (urgency, rarity) = (Reverse(self.priority[piece.idx()]), rarity as u64);
            if worst.is_some_and(|(u, r, _)| (urgency, rarity) > (u, r)) {
                return true;
            }
            let tie = rng.next_u64();
            if worst.is_none_or(|worst| (urgency, rarity, tie) < worst) {
                choices.push((urgency, rarity, tie, piece));
            }
            // Now and then those are left out that cannot be among the first any more.
            if choices.len() >= 2 * max.max(32) {
                let &mut (urgency, rarity, tie, _) = choices.select_nth_unstable(max - 1).1;
                worst = Some((urgency, rarity, tie));
                choices.truncate(max);
            }
            true
        });
        if choices.len() > max {
            choices.select_nth_unstable(max - 1);
            choices.truncate(max);
        }
        choices.sort_unstable();
        self.count(looked_at);
    }

    /// Also asks `peer` for a block that others were asked for (endgame).
    ///
    /// Returns false, and does nothing, unless the block is still asked for, of fewer than
    /// `holders_max` peers, and `peer` is not one of them and may fill this piece.
    pub fn duplicate(&mut self, block: BlockRef, peer: PeerKey, holders_max: usize) -> bool {
        let Some((open, index)) = self.open_block(block) else { return false };
        open.is_open_to(peer) && open.duplicate(index, peer, holders_max)
    }

    /// A block has arrived from `peer`. Each other peer that was asked for it is handed to `cancel`.
    pub fn received(&mut self, block: BlockRef, peer: PeerKey, mut cancel: impl FnMut(PeerKey)) -> Arrival {
        self.arrivals += 1;
        let arrivals = self.arrivals;
        let Some((open, index)) = self.open_block(block) else { return Arrival::Unwanted };
        let before = open.free();
        match open.receive(index, Some(peer), arrivals) {
            BlockState::Received(_) | BlockState::Padding => return Arrival::Unwanted,
            BlockState::Free => {}
            BlockState::Requested(holders) => holders.iter().filter(|&h| h != peer).for_each(&mut cancel),
        }
        let (freed, complete) = (before - open.free(), open.is_complete());
        if self.missing.has(block.piece) {
            self.free_blocks -= freed;
        }
        Arrival::Fresh { complete }
    }

    /// Blocks of a piece that nobody was asked for yet are here from an earlier run. Whether they are all of it; false too if
    /// the piece is not wanted or under way already.
    pub fn restore(&mut self, piece: PieceIndex, blocks: &[u32]) -> bool {
        if blocks.is_empty() || !self.startable.remove(piece) {
            return false;
        }
        let mut open = self.unopened(piece);
        for &index in blocks {
            open.receive(index, None, self.arrivals);
        }
        self.free_blocks += open.free();
        let is_complete = open.is_complete();
        self.open.insert(piece, open);
        is_complete
    }

    /// Bytes received of wanted pieces that are not yet had.
    pub fn bytes_in_open(&self) -> u64 {
        let wanted = self.open.iter().filter(|(piece, _)| self.missing.has(**piece));
        wanted.map(|(piece, open)| open.received_bytes(self.geometry.len_of(*piece))).sum()
    }

    /// `peer` will not send this block after all, or not soon: it choked us, rejected it, is gone or
    /// sleeps. Others may be asked for it.
    pub fn release(&mut self, block: BlockRef, peer: PeerKey) {
        let wanted = self.missing.has(block.piece);
        let Some((open, index)) = self.open_block(block) else { return };
        let freed = open.release(index, peer);
        if open.is_untouched() && !open.is_suspect() {
            let whole = open.free();
            self.open.remove(&block.piece);
            if wanted {
                self.free_blocks -= whole - u32::from(freed);
                self.startable.insert(block.piece);
            }
        } else if wanted {
            self.free_blocks += u32::from(freed);
        }
    }

    /// A complete piece is verified and written.
    pub fn piece_done(&mut self, piece: PieceIndex) {
        self.open.remove(&piece);
        self.suspects.remove(&piece);
        self.missing.remove(piece);
        self.startable.remove(piece);
        self.doubted.remove(piece);
        self.have.insert(piece);
    }

    /// A piece that was had, or that nobody wanted, is to be verified again; then [`Picker::piece_done`] or
    /// [`Picker::piece_lost`] follows, and in the second case it is asked for if it is `wanted`. False, and nothing done, if it is
    /// being fetched.
    pub fn doubt(&mut self, piece: PieceIndex, wanted: bool) -> bool {
        let is_idle = !self.missing.has(piece) && !self.open.contains_key(&piece) && !self.doubted.has(piece);
        if !self.have.remove(piece) && !is_idle {
            return false;
        }
        let priority = &mut self.priority[piece.idx()];
        if !wanted {
            *priority = Priority::SKIP;
        } else if *priority == Priority::SKIP {
            *priority = Priority::NORMAL;
        }
        if wanted {
            self.missing.insert(piece);
        }
        self.doubted.insert(piece)
    }

    /// Whether a piece is being verified again.
    pub fn is_doubted(&self, piece: PieceIndex) -> bool {
        self.doubted.has(piece)
    }

    /// A doubted piece is bad.
    pub fn piece_lost(&mut self, piece: PieceIndex) {
        if self.doubted.remove(piece) && self.missing.has(piece) {
            self.startable.insert(piece);
        }
    }

    /// A complete piece did not verify, or its blocks were lost: all of it is asked for again. With
    /// `suspects` (who sent its blocks), by one peer at a time, so that the liar shows. What was taken for padding by its
    /// name alone is now asked for too.
    pub fn piece_failed(&mut self, piece: PieceIndex, suspects: Vec<PeerKey>) {
        if self.is_guess(piece) {
            self.not_padded.insert(piece);
        }
        let unopened = self.unopened(piece);
        let Some(open) = self.open.get_mut(&piece) else { return };
        if self.missing.has(piece) {
            self.free_blocks -= open.free();
        }
        *open = unopened;
        open.set_suspects(suspects);
        if !open.is_suspect() {
            self.open.remove(&piece);
            self.suspects.remove(&piece);
            if self.missing.has(piece) {
                self.startable.insert(piece);
            }
            return;
        }
        self.suspects.insert(piece);
        if self.missing.has(piece) {
            self.free_blocks += open.free();
        }
    }

    /// Whether some of an open or complete piece was taken for padding by its name alone.
    pub fn is_guess(&self, piece: PieceIndex) -> bool {
        self.padding_blocks(piece).next().is_some() && self.padding.is_assumed_in(&self.geometry, piece)
    }

    /// Who sent the blocks of an open or complete piece, by block index; `None` for one that is missing, is padding, or came in an
    /// earlier run.
    pub fn senders(&self, piece: PieceIndex) -> Vec<Option<PeerKey>> {
        self.open.get(&piece).map(OpenPiece::senders).unwrap_or_default()
    }

    /// The peer is gone, or does not serve us for now: a piece that it alone was to fill is open to others.
    /// Whether there is one.
    pub fn forget_owner(&mut self, peer: PeerKey) -> bool {
        let mut any = false;
        self.for_each_suspect(|open| any |= open.disown(peer));
        self.parole_ended(peer);
        any
    }

    /// A piece with blocks of `peer` has been verified: what else it has started is open to all.
    pub fn parole_ended(&mut self, peer: PeerKey) {
        let of_peer = (peer, PieceIndex(0))..=(peer, PieceIndex(u32::MAX));
        while let Some(&(_, piece)) = self.parole.range(of_peer.clone()).next() {
            self.count(1);
            self.parole.remove(&(peer, piece));
            self.open.get_mut(&piece).into_iter().for_each(|open| open.end_parole_of(peer));
        }
    }

    /// Takes a round of their patience from the pieces that are left to somebody.
    fn tick_parole(&mut self) {
        let open = &mut self.open;
        self.parole.retain(|(peer, piece)| {
            open.get_mut(piece).filter(|open| open.left_to() == Some(*peer)).is_some_and(|open| {
                open.forgive_parole();
                open.left_to().is_some()
            })
        });
    }

    /// The incomplete pieces of which every block that is here came from `peer`.
    pub fn only_from(&self, peer: PeerKey) -> Vec<PieceIndex> {
        let is_only =
            |open: &OpenPiece| open.received() > 0 && !open.is_complete() && open.is_only_from(peer);
        self.open.iter().filter(|(_, open)| is_only(open)).map(|(piece, _)| *piece).collect()
    }

    /// A peer has been found to lie: whoever sent pieces beside it is suspected no more, though such a piece is
    /// still filled by one peer at a time.
    pub fn liar_found(&mut self, liar: PeerKey) {
        self.for_each_suspect(|open| open.clear_suspects_beside(liar));
    }

    /// Lets suspected senders fill pieces again that nobody else has taken up, or not quickly enough.
    pub fn open_to_suspects(&mut self) {
        self.for_each_suspect(OpenPiece::forgive);
        self.tick_parole();
        let open = &self.open;
        self.suspects.retain(|piece| open.get(piece).is_some_and(OpenPiece::is_suspect));
    }

    fn for_each_suspect(&mut self, mut f: impl FnMut(&mut OpenPiece)) {
        self.count(self.suspects.len() as u64);
        for piece in &self.suspects {
            self.open.get_mut(piece).into_iter().for_each(&mut f);
        }
    }

    /// The pieces with some blocks received and some not, the one that has waited longest for a block first.
    pub fn partial_by_age(&self) -> Vec<PieceIndex> {
        let partial = self.open.iter().filter(|(_, open)| open.received() > 0 && !open.is_complete());
        let mut pieces: Vec<_> = partial.map(|(piece, open)| (open.received_at(), *piece)).collect();
        pieces.sort_unstable();
        pieces.into_iter().map(|(_, piece)| piece).collect()
    }

    fn open_block(&mut self, block: BlockRef) -> Option<(&mut OpenPiece, u32)> {
        let index = self.geometry.block_index(block)?;
        Some((self.open.get_mut(&block.piece)?, index))
    }

    /// Every piece in exactly one state, and every count equal to what it counts.
    ///
    /// # Panics
    /// If not. Called after each mutation in tests and simulations.
    pub fn check_invariants(&self) {
        let mut free = 0;
        for piece in self.geometry.piece_indices() {
            let (have, open) = (self.have.has(piece), self.open.get(&piece));
            let wanted = self.priority[piece.idx()] != Priority::SKIP && !have;
            assert_eq!(self.missing.has(piece), wanted, "missing {piece}");
            assert!(!(have && open.is_some()), "have and open {piece}");
            let doubted = self.doubted.has(piece);
            assert!(!(doubted && (have || open.is_some())), "doubted and more {piece}");
            assert_eq!(self.startable.has(piece), wanted && open.is_none() && !doubted, "startable {piece}");
            let is_suspect = open.is_some_and(OpenPiece::is_suspect);
            assert_eq!(self.suspects.contains(&piece), is_suspect, "suspect {piece}");
            if let Some(open) = open {
                open.check_invariants();
                free += if wanted { open.free() } else { 0 };
            }
        }
        assert_eq!(free, self.free_blocks, "free blocks");
    }
}

pub use open::HOLDERS_MAX;

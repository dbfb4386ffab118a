//! Which block to ask a peer for next.
//!
//! Rarest first among pieces not yet started, with random ties: Legout et al.,
//! "Rarest First and Choke Algorithms Are Enough" (IMC 2006). Before that, the
//! free blocks of pieces already started, so that few pieces are open at a time:
//! a piece can be passed on only when it is whole, and open pieces cost memory.
//!
//! Every piece is in exactly one state: *unwanted* (priority 0), *startable*,
//! *open* (some block asked for or received), *complete* (all blocks received,
//! being verified and written) or *have*. The picker is a leaf: it knows nothing of messages or
//! connections, and a set of pieces is all it is told of a peer.

mod open;
#[cfg(test)]
mod tests;

use crate::bitfield::Bitfield;
use crate::geometry::Geometry;
use crate::id::{BlockRef, PeerKey, PieceIndex};
use crate::rng::Rng;
use open::{BlockState, OpenPiece};
use std::collections::BTreeMap;

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

/// A peer, as far as choosing blocks for it needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its key.
    pub key: PeerKey,
    /// The pieces it has.
    pub have: &'a Bitfield,
    /// Whether it may start new pieces, or only fill open ones (memory is short).
    pub may_start: bool,
}

/// The picker of one torrent.
#[derive(Debug)]
pub struct Picker {
    geometry: Geometry,
    order: Order,
    have: Bitfield,
    /// Wanted and not had: startable, open or complete.
    missing: Bitfield,
    /// Of the missing ones, those with no block asked for or received.
    startable: Bitfield,
    priority: Vec<Priority>,
    /// How many peers that do not have everything have a piece.
    availability: Vec<u32>,
    /// How many peers have everything.
    seeds: u32,
    open: BTreeMap<PieceIndex, OpenPiece>,
    /// Blocks of open pieces that nobody was asked for.
    free_blocks: u32,
    /// Counts blocks that came, as a clock for the age of partial pieces.
    arrivals: u64,
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
            order: Order::default(),
            have,
            startable: missing.clone(),
            missing,
            priority: vec![Priority::NORMAL; n as usize],
            availability: vec![0; n as usize],
            seeds: 0,
            open: BTreeMap::new(),
            free_blocks: 0,
            arrivals: 0,
        }
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
            None if wanted => {
                self.startable.insert(piece);
            }
            None => {
                self.startable.remove(piece);
            }
        }
    }

    /// A peer that may not have everything has these pieces.
    pub fn peer_joined(&mut self, have: &Bitfield) {
        if have.is_full() {
            self.seeds += 1;
        } else {
            have.iter().for_each(|p| self.availability[p.idx()] += 1);
        }
    }

    /// The peer that had these pieces has left.
    pub fn peer_left(&mut self, have: &Bitfield) {
        if have.is_full() {
            self.seeds -= 1;
        } else {
            have.iter().for_each(|p| self.availability[p.idx()] -= 1);
        }
    }

    /// A peer has got one more piece, and now has these.
    pub fn peer_got(&mut self, piece: PieceIndex, have_now: &Bitfield) {
        if have_now.is_full() {
            // It was counted in each of its other pieces; from now on it is a seed.
            have_now.iter().filter(|&p| p != piece).for_each(|p| self.availability[p.idx()] -= 1);
            self.seeds += 1;
        } else {
            self.availability[piece.idx()] += 1;
        }
    }

    /// How many connected peers have this piece.
    pub fn availability(&self, piece: PieceIndex) -> u32 {
        self.availability[piece.idx()] + self.seeds
    }

    /// Whether every missing block has been asked for or received.
    pub fn is_endgame(&self) -> bool {
        self.free_blocks == 0 && self.startable.count() == 0 && self.missing.count() > 0
    }

    /// Chooses up to `count` blocks to ask `source` for and marks them as asked for.
    pub fn pick(&mut self, source: Source<'_>, count: usize, rng: &mut Rng, out: &mut Vec<BlockRef>) {
        let end = out.len() + count;
        while out.len() < end {
            let Some(piece) = self.best_open(source).or_else(|| self.start(source, rng)) else { return };
            let open = self.open.get_mut(&piece).expect("just found");
            let before = open.free();
            open.take_free(source.key, end - out.len(), |index| {
                out.push(self.geometry.block(piece, index));
            });
            self.free_blocks -= before - open.free();
        }
    }

    /// Whether [`Picker::pick`] would find a block to ask `source` for.
    pub fn has_for(&self, source: Source<'_>) -> bool {
        let may_start = source.may_start && self.startable.intersects(source.have);
        may_start || self.best_open(source).is_some()
    }

    /// The open piece to go on with: the most urgent one, then one that this peer already fills (a
    /// piece from one sender is blamed easily), then the one with the fewest free blocks.
    fn best_open(&self, source: Source<'_>) -> Option<PieceIndex> {
        if self.free_blocks == 0 {
            return None;
        }
        self.open
            .iter()
            .filter(|(piece, open)| {
                open.free() > 0
                    && open.is_open_to(source.key)
                    && source.have.has(**piece)
                    && self.missing.has(**piece)
            })
            .min_by_key(|(piece, open)| {
                let urgency = std::cmp::Reverse(self.priority[piece.idx()]);
                (urgency, open.last_taker() != Some(source.key), open.free(), **piece)
            })
            .map(|(piece, _)| *piece)
    }

    fn start(&mut self, source: Source<'_>, rng: &mut Rng) -> Option<PieceIndex> {
        if !source.may_start {
            return None;
        }
        let piece = self.best_startable(source.have, rng)?;
        self.startable.remove(piece);
        let open = OpenPiece::new(self.geometry.blocks_in(piece));
        self.free_blocks += open.free();
        self.open.insert(piece, open);
        Some(piece)
    }

    fn best_startable(&self, have: &Bitfield, rng: &mut Rng) -> Option<PieceIndex> {
        let mut best = None;
        let mut ties = 0;
        self.startable.for_each_common(have, |piece| {
            let rarity = match self.order {
                Order::RarestFirst => self.availability[piece.idx()],
                Order::Sequential => piece.0,
            };
            let key = (std::cmp::Reverse(self.priority[piece.idx()]), rarity);
            match best {
                Some((best_key, _)) if key > best_key => {}
                Some((best_key, _)) if key == best_key => {
                    ties += 1;
                    if rng.one_in(ties) {
                        best = Some((key, piece));
                    }
                }
                _ => (best, ties) = (Some((key, piece)), 1),
            }
            true
        });
        best.map(|(_, piece)| piece)
    }

    /// Also asks `peer` for a block that others were asked for (endgame).
    ///
    /// Returns false, and does nothing, unless the block is still asked for, by fewer than
    /// [`HOLDERS_MAX`] peers, and `peer` is not one of them and may fill this piece.
    pub fn duplicate(&mut self, block: BlockRef, peer: PeerKey) -> bool {
        let Some((open, index)) = self.open_block(block) else { return false };
        open.is_open_to(peer) && open.duplicate(index, peer)
    }

    /// A block has arrived from `peer`. Each other peer that was asked for it is handed to `cancel`.
    pub fn received(&mut self, block: BlockRef, peer: PeerKey, mut cancel: impl FnMut(PeerKey)) -> Arrival {
        self.arrivals += 1;
        let arrivals = self.arrivals;
        let Some((open, index)) = self.open_block(block) else { return Arrival::Unwanted };
        let before = open.free();
        match open.receive(index, Some(peer), arrivals) {
            BlockState::Received(_) => return Arrival::Unwanted,
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
        let mut open = OpenPiece::new(self.geometry.blocks_in(piece));
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
        self.missing.remove(piece);
        self.startable.remove(piece);
        self.have.insert(piece);
    }

    /// A complete piece did not verify, or its blocks were lost: all of it is asked for again. With
    /// `suspects` (who sent its blocks), by one peer at a time, so that the liar shows.
    pub fn piece_failed(&mut self, piece: PieceIndex, suspects: Vec<PeerKey>) {
        let Some(open) = self.open.get_mut(&piece) else { return };
        if self.missing.has(piece) {
            self.free_blocks -= open.free();
        }
        *open = OpenPiece::new(self.geometry.blocks_in(piece));
        open.set_suspects(suspects);
        if !open.is_suspect() {
            self.open.remove(&piece);
            if self.missing.has(piece) {
                self.startable.insert(piece);
            }
        } else if self.missing.has(piece) {
            self.free_blocks += open.free();
        }
    }

    /// Who sent the blocks of an open or complete piece, by block index; `None` for one that is missing, or came in an
    /// earlier run.
    pub fn senders(&self, piece: PieceIndex) -> Vec<Option<PeerKey>> {
        self.open.get(&piece).map(OpenPiece::senders).unwrap_or_default()
    }

    /// The peer is gone, or does not serve us for now: a piece that it alone was to fill is open to others.
    /// Whether there is one.
    pub fn forget_owner(&mut self, peer: PeerKey) -> bool {
        self.open.values_mut().map(|open| usize::from(open.disown(peer))).sum::<usize>() > 0
    }

    /// A peer has been found to lie: whoever sent pieces beside it is suspected no more, though such a piece is
    /// still filled by one peer at a time.
    pub fn liar_found(&mut self, liar: PeerKey) {
        self.open.values_mut().for_each(|open| open.clear_suspects_beside(liar));
    }

    /// Lets suspected senders fill pieces again that nobody else has taken up, or not quickly enough.
    pub fn open_to_suspects(&mut self) {
        self.open.values_mut().for_each(OpenPiece::forgive);
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
            assert_eq!(self.startable.has(piece), wanted && open.is_none(), "startable {piece}");
            if let Some(open) = open {
                open.check_invariants();
                free += if wanted { open.free() } else { 0 };
            }
        }
        assert_eq!(free, self.free_blocks, "free blocks");
    }
}

pub use open::HOLDERS_MAX;

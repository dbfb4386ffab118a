//! Which block to ask a peer for next.
//!
//! Rarest first among unstarted pieces, with random ties: Legout et al., "Rarest First and Choke Algorithms Are Enough"
//! (IMC 2006). Before that, the unrequested blocks of downloading pieces: a piece can be passed on only when it is whole, and
//! downloading pieces cost memory.
//!
//! The invariant: every piece is in exactly one [`PieceState`]. The picker is a leaf: it knows nothing of messages or
//! connections, and of a peer only what [`PickerPeer`] says.
//!
//! The order of calls: [`Picker::peer_joined`] for each peer, [`Picker::pick`] for blocks to request,
//! [`Picker::received`] or [`Picker::release`] for each of them. When `received` says that a piece is complete, verify and
//! write it, then call [`Picker::piece_done`] or [`Picker::piece_failed`].

mod availability;
mod choose;
mod downloading;
mod exclusive;
mod run;
#[cfg(test)]
mod tests;

use crate::bitfield::Bitfield;
use crate::geometry::Geometry;
use crate::id::{BlockRef, PeerKey, PieceIndex};
use crate::padding::Padding;
use availability::Availability;
pub use availability::Counted;
pub use choose::{LOOKED_AT_MAX, PickerPeer};
pub use downloading::REQUESTED_FROM_MAX;
use downloading::{BlockState, DownloadingPiece};
pub use run::RunSource;
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
    /// Before every other piece of a file. What is still higher is urgent: somebody waits for it, and it is started before anything else is
    /// continued.
    pub const HIGH: Priority = Priority(7);
    /// Before every file: what its first and its last piece may have. What is still higher is waited for by somebody who reads.
    pub const FIRST: Priority = Priority(8);
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

/// What is known of a piece. Every piece is in exactly one of these states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceState {
    /// Of priority [`Priority::SKIP`], and no block is requested or received.
    Unwanted,
    /// Wanted, and no block is requested or received.
    Unstarted,
    /// Some block is requested or received, some is missing. Not asked for any further if it is no longer wanted.
    Downloading,
    /// All blocks are received; the piece is being verified and written.
    Complete,
    /// Verified and written.
    Have,
    /// It was had and is being verified again, or is verified though nobody wants it; or it is held back.
    Doubted,
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

/// The picker of one torrent.
#[derive(Debug)]
pub struct Picker {
    geometry: Geometry,
    padding: Padding,
    /// Pieces that did not verify with zeros for what only its name says is padding.
    not_padded: BTreeSet<PieceIndex>,
    order: Order,
    have: Bitfield,
    /// Wanted and not had: unstarted, downloading, complete or doubted.
    missing: Bitfield,
    doubted: BTreeSet<PieceIndex>,
    unstarted: Bitfield,
    /// Empty while every piece is [`Priority::NORMAL`].
    priorities: Vec<Priority>,
    /// Pieces whose priority is neither [`Priority::NORMAL`] nor [`Priority::SKIP`].
    uncommon: u32,
    /// Missing pieces that are more urgent than [`Priority::HIGH`].
    urgent: u32,
    /// Those of them that are more urgent than [`Priority::FIRST`].
    waited_for: u32,
    availability: Availability,
    /// Pieces downloading or complete.
    downloading: BTreeMap<PieceIndex, DownloadingPiece>,
    /// Those of them that failed before, which one peer at a time fills.
    exclusive: BTreeSet<PieceIndex>,
    /// At least those of them that are reserved for a peer on parole, by that peer.
    parole: BTreeSet<(PeerKey, PieceIndex)>,
    /// Blocks of downloading pieces that are wanted and not requested.
    unrequested_blocks: u32,
    /// Counts pieces that nobody had and then somebody.
    appeared: u64,
    /// Counts blocks that came, as a clock for the age of partial pieces.
    arrivals: u64,
    /// Counts pieces and words of pieces that were looked at.
    work: Cell<u64>,
    /// Reused between picks.
    choices: Vec<Choice>,
}

/// A piece to continue or start, with what decides between it and others.
type Choice = (Reverse<Priority>, u64, u64, PieceIndex);

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
            unstarted: missing.clone(),
            missing,
            doubted: BTreeSet::new(),
            priorities: Vec::new(),
            uncommon: 0,
            urgent: 0,
            waited_for: 0,
            availability: Availability::new(n),
            downloading: BTreeMap::new(),
            exclusive: BTreeSet::new(),
            parole: BTreeSet::new(),
            unrequested_blocks: 0,
            appeared: 0,
            arrivals: 0,
            work: Cell::new(0),
            choices: Vec::new(),
        }
    }

    /// Says which bytes are padding, before anything is picked: nobody is asked for blocks of it. A piece that holds
    /// nothing else is not wanted, until somebody gives it a priority.
    pub fn set_padding(&mut self, padding: Padding) {
        debug_assert!(self.downloading.is_empty(), "some pieces are downloading already");
        let geometry = self.geometry.clone();
        for piece in padding.pieces(&geometry).filter(|&piece| padding.covers(&geometry, piece)) {
            self.set_priority(piece, Priority::SKIP);
        }
        self.padding = padding;
    }

    /// Which bytes are padding.
    pub fn padding(&self) -> &Padding {
        &self.padding
    }

    /// The blocks of a downloading or complete piece that are padding.
    pub fn padding_blocks(&self, piece: PieceIndex) -> impl Iterator<Item = u32> + '_ {
        self.downloading.get(&piece).into_iter().flat_map(DownloadingPiece::padding)
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
        self.priorities.get(piece.idx()).copied().unwrap_or(Priority::NORMAL)
    }

    fn put_priority(&mut self, piece: PieceIndex, priority: Priority) {
        if self.priorities.is_empty() {
            if priority == Priority::NORMAL {
                return;
            }
            self.priorities = vec![Priority::NORMAL; self.geometry.pieces() as usize];
        }
        let is_uncommon = |priority| u32::from(priority != Priority::NORMAL && priority != Priority::SKIP);
        let before = std::mem::replace(&mut self.priorities[piece.idx()], priority);
        self.uncommon = self.uncommon + is_uncommon(priority) - is_uncommon(before);
    }

    /// What a piece counts for among those that are urgent, and among those that are waited for.
    fn urgency(&self, piece: PieceIndex) -> (u32, u32) {
        let priority = if self.missing.has(piece) { self.priority(piece) } else { Priority::SKIP };
        (u32::from(priority > Priority::HIGH), u32::from(priority > Priority::FIRST))
    }

    /// Changes what is missing, or how much it is wanted, and keeps count of what is urgent.
    fn change<R>(&mut self, piece: PieceIndex, change: impl FnOnce(&mut Picker) -> R) -> R {
        let (was_urgent, was_waited_for) = self.urgency(piece);
        let result = change(self);
        let (is_urgent, is_waited_for) = self.urgency(piece);
        self.urgent = self.urgent + is_urgent - was_urgent;
        self.waited_for = self.waited_for + is_waited_for - was_waited_for;
        result
    }

    /// Changes the priority of a piece. A downloading piece that is no longer wanted is finished all the
    /// same if its blocks are on their way, but nothing more is requested.
    pub fn set_priority(&mut self, piece: PieceIndex, priority: Priority) {
        let was = self.priority(piece);
        let wanted = priority != Priority::SKIP;
        let is_other = !self.have.has(piece) && (was != Priority::SKIP) != wanted;
        self.change(piece, |picker| {
            picker.put_priority(piece, priority);
            if is_other && wanted {
                picker.missing.insert(piece);
            } else if is_other {
                picker.missing.remove(piece);
            }
        });
        if !is_other {
            return;
        }
        match self.downloading.get(&piece) {
            Some(downloading) if wanted => self.unrequested_blocks += downloading.unrequested(),
            Some(downloading) => self.unrequested_blocks -= downloading.unrequested(),
            None if wanted && !self.doubted.contains(&piece) => {
                self.unstarted.insert(piece);
            }
            None => {
                self.unstarted.remove(piece);
            }
        }
    }

    /// A peer has these pieces. Give the answer back when it [leaves](Self::peer_left).
    pub fn peer_joined(&mut self, have: &Bitfield) -> Counted {
        let counted = Counted::of(have);
        let looked_at = self.availability.change(have, counted, 1);
        self.count(looked_at);
        counted
    }

    /// The peer that had these pieces has left.
    pub fn peer_left(&mut self, have: &Bitfield, counted: Counted) {
        let looked_at = self.availability.change(have, counted, -1);
        self.count(looked_at);
    }

    /// A peer has got one more piece.
    pub fn peer_got(&mut self, piece: PieceIndex) {
        self.appeared += u64::from(self.is_nowhere(piece));
        self.availability.change_piece(piece, 1);
    }

    /// A peer has a piece no more.
    pub fn peer_lost(&mut self, piece: PieceIndex) {
        self.availability.change_piece(piece, -1);
    }

    /// How many pieces neither we nor connected peers had when we, or a connected peer, got them.
    pub fn appeared(&self) -> u64 {
        self.appeared
    }

    fn is_nowhere(&self, piece: PieceIndex) -> bool {
        !self.have.has(piece) && self.availability.of(piece) == 0
    }

    /// In how many connected peers this piece is.
    pub fn availability(&self, piece: PieceIndex) -> u32 {
        self.availability.of(piece)
    }

    /// How many pieces, and words of pieces, were looked at so far: what inputs have cost.
    pub fn work(&self) -> u64 {
        self.work.get()
    }

    fn count(&self, steps: u64) {
        self.work.set(self.work.get() + steps);
    }

    /// The state of a piece.
    pub fn state(&self, piece: PieceIndex) -> PieceState {
        match self.downloading.get(&piece) {
            Some(downloading) if downloading.is_complete() => PieceState::Complete,
            Some(_) => PieceState::Downloading,
            None if self.have.has(piece) => PieceState::Have,
            None if self.doubted.contains(&piece) => PieceState::Doubted,
            None if self.missing.has(piece) => PieceState::Unstarted,
            None => PieceState::Unwanted,
        }
    }

    /// Whether some block of this piece is wanted and not requested.
    pub fn has_unrequested(&self, piece: PieceIndex) -> bool {
        let is_downloading = || {
            self.missing.has(piece)
                && self.downloading.get(&piece).is_some_and(|downloading| downloading.unrequested() > 0)
        };
        self.unstarted.has(piece) || is_downloading()
    }

    /// Whether some missing piece is more urgent than [`Priority::HIGH`].
    pub fn has_urgent(&self) -> bool {
        self.urgent > 0
    }

    /// Whether some missing piece is more urgent than [`Priority::FIRST`]: somebody reads.
    pub fn is_waited_for(&self) -> bool {
        self.waited_for > 0
    }

    /// Whether this piece is downloading or complete.
    pub fn is_downloading(&self, piece: PieceIndex) -> bool {
        self.downloading.contains_key(&piece)
    }

    /// Whether every missing block has been requested or received.
    pub fn is_endgame(&self) -> bool {
        self.unrequested_blocks == 0 && self.unstarted.count() == 0 && self.missing.count() > 0
    }

    /// A piece of which no block is requested yet.
    fn new_downloading(&self, piece: PieceIndex) -> DownloadingPiece {
        let padding = match self.not_padded.contains(&piece) {
            true => Vec::new(),
            false => self.padding.blocks_in(&self.geometry, piece),
        };
        DownloadingPiece::new(self.geometry.blocks_in(piece), &padding)
    }

    /// Also requests from `peer` a block that is requested from others (endgame).
    ///
    /// Returns false, and does nothing, unless the block is still requested, from fewer than
    /// `requested_from_max` peers, and `peer` is not one of them and may fill this piece.
    pub fn duplicate(&mut self, block: BlockRef, peer: PeerKey, requested_from_max: usize) -> bool {
        let Some((downloading, index)) = self.downloading_block(block) else { return false };
        downloading.may_fill(peer) && downloading.duplicate(index, peer, requested_from_max)
    }

    /// A block has arrived from `peer`. Each other peer that it is requested from is handed to `cancel`.
    pub fn received(&mut self, block: BlockRef, peer: PeerKey, mut cancel: impl FnMut(PeerKey)) -> Arrival {
        self.arrivals += 1;
        let arrivals = self.arrivals;
        let Some((downloading, index)) = self.downloading_block(block) else { return Arrival::Unwanted };
        let before = downloading.unrequested();
        match downloading.receive(index, Some(peer), arrivals) {
            BlockState::Received(_) | BlockState::Padding => return Arrival::Unwanted,
            BlockState::Unrequested => {}
            BlockState::Requested(peers) => peers.iter().filter(|&h| h != peer).for_each(&mut cancel),
        }
        let (freed, complete) = (before - downloading.unrequested(), downloading.is_complete());
        if self.missing.has(block.piece) {
            self.unrequested_blocks -= freed;
        }
        Arrival::Fresh { complete }
    }

    /// Blocks of an unstarted piece are here from an earlier run. Whether they are all of it; false too if
    /// the piece is not wanted or under way already.
    pub fn restore(&mut self, piece: PieceIndex, blocks: &[u32]) -> bool {
        if blocks.is_empty() || !self.unstarted.remove(piece) {
            return false;
        }
        let mut downloading = self.new_downloading(piece);
        for &index in blocks {
            downloading.receive(index, None, self.arrivals);
        }
        self.unrequested_blocks += downloading.unrequested();
        let is_complete = downloading.is_complete();
        self.downloading.insert(piece, downloading);
        is_complete
    }

    /// Bytes received of wanted pieces that are not yet had.
    pub fn bytes_in_downloading(&self) -> u64 {
        let wanted = self.downloading.iter().filter(|(piece, _)| self.missing.has(**piece));
        wanted.map(|(piece, downloading)| downloading.received_bytes(self.geometry.len_of(*piece))).sum()
    }

    /// `peer` will not send this block after all, or not soon: it choked us, rejected it, is gone or
    /// sleeps. Others may be asked for it.
    pub fn release(&mut self, block: BlockRef, peer: PeerKey) {
        let wanted = self.missing.has(block.piece);
        let Some((downloading, index)) = self.downloading_block(block) else { return };
        let freed = downloading.release(index, peer);
        if downloading.is_untouched() && !downloading.is_exclusive() {
            let whole = downloading.unrequested();
            self.downloading.remove(&block.piece);
            if wanted {
                self.unrequested_blocks -= whole - u32::from(freed);
                self.unstarted.insert(block.piece);
            }
        } else if wanted {
            self.unrequested_blocks += u32::from(freed);
        }
    }

    /// A complete piece is verified and written.
    pub fn piece_done(&mut self, piece: PieceIndex) {
        self.appeared += u64::from(self.is_nowhere(piece));
        self.downloading.remove(&piece);
        self.exclusive.remove(&piece);
        self.change(piece, |picker| picker.missing.remove(piece));
        self.unstarted.remove(piece);
        self.doubted.remove(&piece);
        self.have.insert(piece);
    }

    /// A piece that was had, or that nobody wanted, is to be verified again; then [`Picker::piece_done`] or
    /// [`Picker::piece_lost`] follows, and in the second case it is asked for if it is `wanted`. False, and nothing done, if it is
    /// being fetched.
    pub fn doubt(&mut self, piece: PieceIndex, wanted: bool) -> bool {
        let is_idle = !self.missing.has(piece)
            && !self.downloading.contains_key(&piece)
            && !self.doubted.contains(&piece);
        if !self.have.remove(piece) && !is_idle {
            return false;
        }
        self.change(piece, |picker| {
            if !wanted {
                picker.put_priority(piece, Priority::SKIP);
            } else if picker.priority(piece) == Priority::SKIP {
                picker.put_priority(piece, Priority::NORMAL);
            }
            if wanted {
                picker.missing.insert(piece);
            }
        });
        self.doubted.insert(piece)
    }

    /// An unstarted piece is not to be asked for until [`Picker::piece_lost`]. False, and nothing done, if it is none.
    pub fn hold_back(&mut self, piece: PieceIndex) -> bool {
        self.unstarted.remove(piece) && self.doubted.insert(piece)
    }

    /// A doubted piece is bad.
    pub fn piece_lost(&mut self, piece: PieceIndex) {
        if self.doubted.remove(&piece) && self.missing.has(piece) {
            self.unstarted.insert(piece);
        }
    }

    /// A complete piece did not verify, or its blocks were lost: all of it is asked for again. With
    /// `exclusive` (who sent its blocks), by one peer at a time, so that the corrupt sender shows. What was taken for padding by its
    /// name alone is now asked for too.
    pub fn piece_failed(&mut self, piece: PieceIndex, exclusive: Vec<PeerKey>) {
        if self.is_padding_assumed(piece) {
            self.not_padded.insert(piece);
        }
        let new_downloading = self.new_downloading(piece);
        let Some(downloading) = self.downloading.get_mut(&piece) else { return };
        if self.missing.has(piece) {
            self.unrequested_blocks -= downloading.unrequested();
        }
        *downloading = new_downloading;
        downloading.set_exclusive(exclusive);
        if !downloading.is_exclusive() {
            self.downloading.remove(&piece);
            self.exclusive.remove(&piece);
            if self.missing.has(piece) {
                self.unstarted.insert(piece);
            }
            return;
        }
        self.exclusive.insert(piece);
        if self.missing.has(piece) {
            self.unrequested_blocks += downloading.unrequested();
        }
    }

    /// These blocks of a complete piece are bad, and the others are not: they are asked for again.
    pub fn blocks_failed(&mut self, piece: PieceIndex, blocks: &[u32]) {
        let Some(downloading) = self.downloading.get_mut(&piece) else { return };
        let before = downloading.unrequested();
        downloading.set_exclusive(Vec::new());
        blocks.iter().for_each(|&index| downloading.fail(index));
        if self.missing.has(piece) {
            self.unrequested_blocks += downloading.unrequested() - before;
        }
        self.exclusive.remove(&piece);
    }

    /// The pieces with some blocks received and some not, the one that has waited longest for a block first.
    pub fn partial_by_age(&self) -> Vec<PieceIndex> {
        let partial = self
            .downloading
            .iter()
            .filter(|(_, downloading)| downloading.received() > 0 && !downloading.is_complete());
        let mut pieces: Vec<_> =
            partial.map(|(piece, downloading)| (downloading.received_at(), *piece)).collect();
        pieces.sort_unstable();
        pieces.into_iter().map(|(_, piece)| piece).collect()
    }

    fn downloading_block(&mut self, block: BlockRef) -> Option<(&mut DownloadingPiece, u32)> {
        let index = self.geometry.block_index(block)?;
        Some((self.downloading.get_mut(&block.piece)?, index))
    }

    /// Every piece in exactly one state, and every count equal to what it counts.
    ///
    /// # Panics
    /// If not. Called after each mutation in tests and simulations.
    pub fn check_invariants(&self) {
        let mut unrequested = 0;
        for piece in self.geometry.piece_indices() {
            let (have, downloading) = (self.have.has(piece), self.downloading.get(&piece));
            let wanted = self.priority(piece) != Priority::SKIP && !have;
            assert_eq!(self.missing.has(piece), wanted, "missing {piece}");
            assert!(!(have && downloading.is_some()), "have and downloading {piece}");
            let doubted = self.doubted.contains(&piece);
            assert!(!(doubted && (have || downloading.is_some())), "doubted and more {piece}");
            let is_unstarted = self.state(piece) == PieceState::Unstarted;
            assert_eq!(self.unstarted.has(piece), is_unstarted, "unstarted {piece}");
            let is_exclusive = downloading.is_some_and(DownloadingPiece::is_exclusive);
            assert_eq!(self.exclusive.contains(&piece), is_exclusive, "exclusive {piece}");
            if let Some(downloading) = downloading {
                downloading.check_invariants();
                unrequested += if wanted { downloading.unrequested() } else { 0 };
            }
        }
        assert_eq!(unrequested, self.unrequested_blocks, "unrequested blocks");
        let common = [Priority::NORMAL, Priority::SKIP];
        let uncommon = self.priorities.iter().filter(|priority| !common.contains(priority)).count();
        assert_eq!(uncommon, self.uncommon as usize, "uncommon priorities");
        let urgent = self.missing.iter().filter(|piece| self.priority(*piece) > Priority::HIGH).count();
        assert_eq!(urgent, self.urgent as usize, "urgent pieces");
        let waited_for = self.missing.iter().filter(|piece| self.priority(*piece) > Priority::FIRST).count();
        assert_eq!(waited_for, self.waited_for as usize, "pieces that are waited for");
    }
}

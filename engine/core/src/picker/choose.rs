//! Which blocks to ask a peer for next.

use super::downloading::DownloadingPiece;
use super::{Choice, Order, Picker, Priority};
use crate::bitfield::Bitfield;
use crate::id::{BlockRef, PeerKey, PieceIndex};
use crate::rng::Rng;
use std::cmp::Reverse;

/// With more equally urgent pieces to start, so many are looked at for a choice.
pub const LOOKED_AT_MAX: u64 = 8_192;

/// A peer, as far as choosing blocks for it needs to know.
#[derive(Clone, Copy, Debug)]
pub struct PickerPeer<'a> {
    /// Its key.
    pub key: PeerKey,
    /// The pieces it has.
    pub have: &'a Bitfield,
    /// Whether it may start new pieces, or only continue downloading ones (memory is short).
    pub may_start: bool,
    /// Whether no piece with a block of its has been verified yet. It gets a piece to itself while there is one to start, so
    /// that corrupt blocks spoil nobody else's, and their sender is known at once.
    pub on_parole: bool,
}

impl Picker {
    /// Chooses up to `count` blocks to request from `source` and marks them as requested. Whatever the count, each piece is looked
    /// at once or twice.
    pub fn pick(&mut self, source: PickerPeer<'_>, count: usize, rng: &mut Rng, out: &mut Vec<BlockRef>) {
        let end = out.len() + count;
        let mut choices = std::mem::take(&mut self.choices);
        if count > 0 && self.urgent > 0 && source.may_start {
            self.start_urgent(source, count, rng, &mut choices);
        }
        if count > 0 && self.unrequested_blocks > 0 {
            self.choose_downloading(source, count, true, &mut choices);
            self.take(source.key, &choices, end, out);
        }
        while source.may_start && out.len() < end {
            let blocks = self.geometry.blocks_in(PieceIndex(0)).max(1) as usize;
            self.choose_unstarted(source.have, (end - out.len()).div_ceil(blocks), rng, &mut choices);
            if choices.is_empty() {
                break;
            }
            choices.iter().for_each(|choice| self.start(choice.3, source));
            self.take(source.key, &choices, end, out);
        }
        let some_do_not_fit = source.on_parole || !self.parole.is_empty();
        if out.len() < end
            && self.unrequested_blocks > 0
            && some_do_not_fit
            && self.order != Order::Sequential
        {
            self.choose_downloading(source, end - out.len(), false, &mut choices);
            self.take(source.key, &choices, end, out);
        }
        choices.clear();
        self.choices = choices;
    }

    /// Marks unrequested blocks of these pieces as requested, until there are as many as wanted.
    fn take(&mut self, peer: PeerKey, choices: &[Choice], end: usize, out: &mut Vec<BlockRef>) {
        for &(.., piece) in choices {
            if out.len() == end {
                return;
            }
            let downloading =
                self.downloading.get_mut(&piece).expect("it was chosen among the downloading ones");
            let before = downloading.unrequested();
            downloading.request(peer, end - out.len(), |index| out.push(self.geometry.block(piece, index)));
            self.unrequested_blocks -= before - downloading.unrequested();
        }
    }

    /// Whether [`Picker::pick`] would find a block to ask `source` for.
    pub fn has_block_for(&self, source: PickerPeer<'_>) -> bool {
        let may_start = source.may_start && self.unstarted.intersects(source.have);
        may_start
            || self
                .downloading
                .iter()
                .any(|(piece, downloading)| self.may_continue(source, *piece, downloading))
    }

    #[inline]
    fn may_continue(
        &self,
        source: PickerPeer<'_>,
        piece: PieceIndex,
        downloading: &DownloadingPiece,
    ) -> bool {
        downloading.unrequested() > 0
            && downloading.may_fill(source.key)
            && source.have.has(piece)
            && self.missing.has(piece)
    }

    /// Peers on parole, and the others, leave each other's pieces alone while they can start one; not when somebody reads along or waits
    /// for the piece.
    #[inline]
    fn is_fitting(&self, source: PickerPeer<'_>, piece: PieceIndex, downloading: &DownloadingPiece) -> bool {
        self.order == Order::Sequential
            || self.priority(piece) > Priority::FIRST
            || downloading.reserved_for().map_or(!source.on_parole, |peer| peer == source.key)
    }

    /// The downloading pieces to continue, up to `max`: the most urgent first, then those that this peer already fills (a
    /// piece from one sender is blamed easily), then those with the fewest unrequested blocks. Only those that
    /// [are fitting](Self::is_fitting), or only the others.
    fn choose_downloading(
        &self,
        source: PickerPeer<'_>,
        max: usize,
        fitting: bool,
        choices: &mut Vec<Choice>,
    ) {
        choices.clear();
        self.count(self.downloading.len() as u64);
        for (&piece, downloading) in &self.downloading {
            let may_fill = self.may_continue(source, piece, downloading)
                && self.is_fitting(source, piece, downloading) == fitting;
            if may_fill {
                let is_others = u64::from(downloading.last_taker() != Some(source.key));
                choices.push((
                    Reverse(self.priority(piece)),
                    is_others,
                    u64::from(downloading.unrequested()),
                    piece,
                ));
            }
        }
        keep_first(choices, max);
    }

    /// Starts urgent pieces: those before the ones that were begun, and those behind them as far as they are needed.
    fn start_urgent(
        &mut self,
        source: PickerPeer<'_>,
        count: usize,
        rng: &mut Rng,
        choices: &mut Vec<Choice>,
    ) {
        let may_fill = |(piece, downloading): &(&PieceIndex, &DownloadingPiece)| {
            self.priority(**piece) > Priority::HIGH
                && self.may_continue(source, **piece, downloading)
                && self.is_fitting(source, **piece, downloading)
        };
        let (mut first, mut begun) = (Priority::HIGH, 0);
        for (piece, downloading) in self.downloading.iter().filter(may_fill) {
            first = first.max(self.priority(*piece));
            begun += downloading.unrequested() as usize;
        }
        self.count(self.downloading.len() as u64);
        let blocks = self.geometry.blocks_in(PieceIndex(0)).max(1) as usize;
        self.choose_unstarted(source.have, count.div_ceil(blocks), rng, choices);
        for &(Reverse(priority), .., piece) in &*choices {
            if priority > first || priority > Priority::HIGH && begun < count {
                self.start(piece, source);
                begun += blocks;
            }
        }
        choices.clear();
    }

    fn start(&mut self, piece: PieceIndex, source: PickerPeer<'_>) {
        self.unstarted.remove(piece);
        let mut downloading = self.new_downloading(piece);
        if source.on_parole {
            downloading.reserve_for(source.key);
            self.parole.insert((source.key, piece));
        }
        self.unrequested_blocks += downloading.unrequested();
        self.downloading.insert(piece, downloading);
    }

    /// The pieces to start, up to `max`: the most urgent first, then the rarest, ties at random. Of very many that are equally urgent, it
    /// is the rarest of [`LOOKED_AT_MAX`] neighbours, elsewhere each time: else the time for each piece would grow with their number.
    fn choose_unstarted(&self, have: &Bitfield, max: usize, rng: &mut Rng, choices: &mut Vec<Choice>) {
        choices.clear();
        let is_equal = self.uncommon == 0;
        let (start, looked_at_max) = match self.order {
            Order::Sequential if is_equal => (0, max as u64),
            Order::RarestFirst if is_equal && u64::from(self.unstarted.count()) > LOOKED_AT_MAX => {
                (rng.below(self.unstarted.len().into()), LOOKED_AT_MAX.max(max as u64))
            }
            _ => (0, u64::MAX),
        };
        let mut looked_at = 0;
        let mut worst = None;
        let words = self.unstarted.for_each_common_around(have, PieceIndex(start as u32), |piece| {
            looked_at += 1;
            let rarity = match self.order {
                Order::RarestFirst => self.availability.rarity(piece),
                Order::Sequential => u64::from(piece.0),
            };
            let urgency = Reverse(self.priority(piece));
            if worst.is_some_and(|(u, r, _)| (urgency, rarity) > (u, r)) {
                return looked_at < looked_at_max;
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
            looked_at < looked_at_max
        });
        keep_first(choices, max);
        self.count(looked_at + words as u64);
    }
}

/// The first `max` of them, in order.
fn keep_first(choices: &mut Vec<Choice>, max: usize) {
    if choices.len() > max {
        choices.select_nth_unstable(max - 1);
        choices.truncate(max);
    }
    choices.sort_unstable();
}

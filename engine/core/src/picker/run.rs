//! Runs of blocks for a web seed (BEP 19): long ones, in the gaps that peers leave.

use super::{Order, Picker, Priority};
use crate::bitfield::Bitfield;
use crate::id::{BlockRef, PeerKey, PieceIndex};
use crate::rng::Rng;
use std::ops::Range;

/// A web seed, as far as choosing a run for it needs to know.
#[derive(Clone, Debug)]
pub struct RunSource<'a> {
    /// Its key.
    pub key: PeerKey,
    /// The pieces that may be asked of it.
    pub have: &'a Bitfield,
    /// The piece after its last run.
    pub next: Option<PieceIndex>,
    /// Whether the run is to begin as soon after the last one as it can, or else as early as it can.
    pub in_order: bool,
    /// Whether only pieces are taken that no connected peer has.
    pub gaps_only: bool,
    /// The pieces that are ours to take first, where others take theirs.
    pub share: Range<u32>,
    /// Whether no piece may be started (memory is short).
    pub only_continue: bool,
}

/// Pieces side by side that may be taken: from the first to before the second.
type Gap = (u32, u32);

impl Picker {
    /// Chooses a run of up to `bytes_max` bytes to fetch from a web seed and marks its blocks as requested. Blocks follow each other in the
    /// torrent, but for padding between them.
    ///
    /// It begins with what is left of a piece under way; else where the last run ended, if that is free; else at the start of the largest
    /// gap of our share, the first time anywhere in it; else, where others have shares too, at a random piece of theirs. In order it goes on
    /// with the next free piece instead, or from the first.
    pub fn pick_run(
        &mut self,
        source: &RunSource<'_>,
        bytes_max: u64,
        rng: &mut Rng,
        out: &mut Vec<BlockRef>,
    ) {
        self.count(self.downloading.len() as u64 + self.missing.words().len() as u64);
        let Some(priority) = self.highest_priority(source) else { return };
        let begun = self.downloading.keys().copied();
        let begun = begun.filter(|&piece| self.priority(piece) == priority);
        let begun = begun.filter(|&piece| self.may_take(source, piece)).min();
        let Some(first) = begun.or_else(|| self.choose_start(source, priority, rng)) else { return };
        let (mut left, mut piece) = (bytes_max, first);
        while left > 0
            && self.geometry.contains(piece)
            && self.priority(piece) == priority
            && (piece == first || piece.0 != source.share.end)
            && self.may_take(source, piece)
            && self.take_run(source.key, piece, &mut left, out)
        {
            piece.0 += 1;
        }
    }

    fn may_take(&self, source: &RunSource<'_>, piece: PieceIndex) -> bool {
        let is_free = match self.downloading.get(&piece) {
            Some(downloading) => {
                downloading.unrequested() > 0
                    && downloading.may_fill(source.key)
                    && downloading.reserved_for().is_none()
                    && self.missing.has(piece)
            }
            None => !source.only_continue && self.unstarted.has(piece),
        };
        is_free && source.have.has(piece) && !(source.gaps_only && self.availability(piece) > 0)
    }

    fn highest_priority(&self, source: &RunSource<'_>) -> Option<Priority> {
        let mut highest = None;
        self.missing.for_each_common(source.have, |piece| {
            let priority = self.priority(piece);
            if highest.is_none_or(|highest| priority > highest) && self.may_take(source, piece) {
                highest = Some(priority);
            }
            // Where all are equal one piece says it.
            highest.is_none() || self.uncommon > 0
        });
        highest
    }

    fn choose_start(&self, source: &RunSource<'_>, priority: Priority, rng: &mut Rng) -> Option<PieceIndex> {
        let is_free = |piece| self.priority(piece) == priority && self.may_take(source, piece);
        if source.in_order {
            return self.choose_next(source, is_free);
        }
        let is_sequential = self.order == Order::Sequential;
        let share = source.share.clone();
        let next = source.next.filter(|next| !is_sequential && share.contains(&next.0));
        if let Some(next) = next.filter(|&next| self.geometry.contains(next) && is_free(next)) {
            return Some(next);
        }
        let (mut first, mut largest, mut gap) = (None, Gap::default(), Gap::default());
        let mut elsewhere = (0, None);
        self.missing.for_each_common(source.have, |piece| {
            if !is_free(piece) {
                return true;
            }
            if share.contains(&piece.0) || is_sequential {
                first = first.or(Some(piece));
                let is_next = gap.1 == piece.0 && gap.0 < gap.1;
                gap = (if is_next { gap.0 } else { piece.0 }, piece.0 + 1);
                if gap.1 - gap.0 > largest.1 - largest.0 {
                    largest = gap;
                }
            } else {
                elsewhere.0 += 1;
                if rng.below(elsewhere.0) == 0 {
                    elsewhere.1 = Some(piece);
                }
            }
            !is_sequential || first.is_none()
        });
        match first {
            None => elsewhere.1,
            Some(first) if is_sequential => Some(first),
            // Others, whom we need not know, may begin at the same time.
            Some(_) if source.next.is_none_or(|next| !share.contains(&next.0)) => {
                Some(PieceIndex(largest.0 + rng.below(u64::from(largest.1 - largest.0)) as u32))
            }
            Some(_) => Some(PieceIndex(largest.0)),
        }
    }

    /// The first free piece after the last run; if there is none, the first of all.
    fn choose_next(
        &self,
        source: &RunSource<'_>,
        is_free: impl Fn(PieceIndex) -> bool,
    ) -> Option<PieceIndex> {
        let (mut first, mut next) = (None, None);
        self.missing.for_each_common(source.have, |piece| {
            if is_free(piece) {
                first = first.or(Some(piece));
                next = Some(piece).filter(|&piece| source.next.is_none_or(|after| piece >= after));
            }
            next.is_none()
        });
        next.or(first)
    }

    /// Takes blocks of a piece, up to `left` bytes. Whether the run may go on in the next piece.
    fn take_run(&mut self, key: PeerKey, piece: PieceIndex, left: &mut u64, out: &mut Vec<BlockRef>) -> bool {
        if self.unstarted.remove(piece) {
            let downloading = self.new_downloading(piece);
            self.unrequested_blocks += downloading.unrequested();
            self.downloading.insert(piece, downloading);
        }
        let geometry = &self.geometry;
        let Some(downloading) = self.downloading.get_mut(&piece) else { return false };
        let before = downloading.unrequested();
        // A run that has begun goes on only at the very start of a piece.
        let is_first = out.is_empty();
        let reached_end = downloading.request_run(key, is_first, |index| {
            if *left == 0 {
                return false;
            }
            let block = geometry.block(piece, index);
            *left = left.saturating_sub(block.len.into());
            out.push(block);
            true
        });
        self.unrequested_blocks -= before - downloading.unrequested();
        reached_end
    }
}

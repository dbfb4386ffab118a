//! Turns of downloaders that share a web seed.
//!
//! Each has one fetch. Begun all at once, the fetches would share the web seed's line, and all
//! of their pieces would come at the same late moment, while nobody has anything to pass on. So each goes by what appears in the swarm: pieces
//! that nobody had. There are as many slots in a round as downloaders; who has begun a fetch begins the next one when a round has
//! appeared. That keeps a few fetches under way, and everybody's share of them the same. A slot that nobody uses passes after a time.

use crate::time::{Duration, Time};

/// What a slot that nobody uses takes.
pub const SLOT: Duration = Duration::from_millis(100);
/// So many unused slots are waited for by whom nobody has anything for.
const STARVED: u64 = 6;
/// Nobody waits longer without anything appearing.
pub const WAIT_MAX: Duration = Duration::from_secs(5);
/// When nobody new has come for so long, those who are there are all; and for how long they may keep coming at most.
pub const QUIET: Duration = Duration::from_millis(150);
const SETTLE_MAX: Duration = Duration::from_secs(1);
/// How many fetches are under way together.
const TOGETHER: u64 = 2;
/// Sizes of a round are counted in hundredths of a slot.
const SLOT_SHARE: u64 = 100;

/// What so many unused slots take.
fn wait_of(slots: u64) -> Duration {
    WAIT_MAX.min(SLOT * u32::try_from(slots).unwrap_or(u32::MAX).min(100))
}

/// A downloader's place among those that share web seeds.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// How many come before it.
    pub before: u32,
    /// How many there are with it.
    pub all: u32,
}

/// What one downloader knows of whose turn it is. Amounts are bytes of pieces.
#[derive(Debug, Default)]
pub struct Turns {
    /// What has appeared so far, and when something last did.
    appeared: u64,
    appeared_at: Option<Time>,
    /// How much has to have appeared when it is our turn; `None` before the first one.
    turn: Option<u64>,
    /// Before that: since when we wait, how many downloaders there are, and since when so many.
    since: Option<Time>,
    all: u32,
    all_since: Time,
    /// How many slots a round has, in hundredths.
    round: u64,
    /// What had appeared when our last fetch began.
    appeared_before: u64,
}

impl Turns {
    /// When the next fetch may begin, which would take `run` bytes. `starved`: nobody has anything for us, so that fewer unused slots are
    /// waited for.
    pub fn next_at(&mut self, now: Time, appeared: u64, place: Place, run: u64, starved: bool) -> Time {
        let since = *self.appeared_at.get_or_insert(now);
        if appeared != self.appeared {
            (self.appeared, self.appeared_at) = (appeared, Some(now));
        }
        let Some(turn) = self.turn else { return self.first_at(now, appeared, place, run) };
        let slots = turn.saturating_sub(appeared + TOGETHER * run).div_ceil(run);
        let slots = if starved { slots.min(STARVED) } else { slots };
        self.appeared_at.unwrap_or(since) + wait_of(slots)
    }

    /// When the first fetch may begin. While others are still coming, they decide on our place.
    fn first_at(&mut self, now: Time, appeared: u64, place: Place, run: u64) -> Time {
        let since = *self.since.get_or_insert(now);
        if place.before == 0 {
            return now;
        }
        if place.all != self.all {
            (self.all, self.all_since) = (place.all, now);
        }
        let settled_at = (self.all_since + QUIET).min(since + SETTLE_MAX);
        if now < settled_at {
            return settled_at;
        }
        self.turn = Some(appeared.saturating_add(u64::from(place.before).saturating_mul(run)));
        self.appeared_at = Some(now);
        now + wait_of(u64::from(place.before).saturating_sub(TOGETHER))
    }

    /// A fetch of so many bytes begins.
    pub fn begun(&mut self, appeared: u64, place: Place, bytes: u64) {
        let due = appeared + TOGETHER * bytes;
        let turn = self.turn.unwrap_or(appeared);
        if self.round == 0 {
            self.round = u64::from(place.all) * SLOT_SHARE;
        } else if turn > due {
            // Slots were not used: there are fewer to come than we thought.
            let seen = (appeared - self.appeared_before) * SLOT_SHARE / bytes;
            self.round = self.round.min(seen).max(SLOT_SHARE);
        }
        self.turn = Some(turn.min(due) + self.round.saturating_mul(bytes) / SLOT_SHARE);
        self.appeared_before = appeared;
    }

    /// What we have fetched has appeared elsewhere meanwhile: there are more to come than we thought.
    pub fn met_another(&mut self) {
        self.round = (self.round * 2).min(u64::from(u16::MAX) * SLOT_SHARE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: u64 = 1 << 20;
    const NOW: Time = Time::from_micros(10_000_000);

    fn place(before: u32) -> Place {
        Place { before, all: 20 }
    }

    /// Turns of one whose place is known.
    fn settled(place: Place) -> Turns {
        let mut turns = Turns::default();
        turns.next_at(NOW - SETTLE_MAX, 0, place, RUN, false);
        turns.next_at(NOW, 0, place, RUN, false);
        turns
    }

    #[test]
    fn the_first_fetches_begin_one_after_the_other_and_a_piece_that_appears_brings_the_next() {
        for before in 1..20 {
            let mut turns = settled(place(before));
            let at = turns.next_at(NOW, 0, place(before), RUN, false);
            let left = before.saturating_sub(TOGETHER as u32);
            assert_eq!(at, NOW + SLOT * left, "nothing has appeared: by the clock");
            let later = NOW + SLOT;
            let at = turns.next_at(later, RUN, place(before), RUN, false);
            assert_eq!(at, later + SLOT * left.saturating_sub(1), "those who come next may begin");
        }
    }

    #[test]
    fn others_who_are_still_coming_are_waited_for_and_not_for_long() {
        let mut turns = Turns::default();
        assert_eq!(turns.next_at(NOW, 0, Place { before: 0, all: 5 }, RUN, true), NOW, "it is the first");
        assert_eq!(turns.next_at(NOW, 0, Place { before: 1, all: 5 }, RUN, true), NOW + QUIET);
        let later = NOW + QUIET;
        assert_eq!(turns.next_at(later, 0, Place { before: 1, all: 6 }, RUN, true), later + QUIET);
        let last = NOW + SETTLE_MAX - Duration::from_millis(1);
        assert_eq!(turns.next_at(last, 0, Place { before: 1, all: 7 }, RUN, true), NOW + SETTLE_MAX);
        let end = NOW + SETTLE_MAX;
        assert_eq!(turns.next_at(end, 0, Place { before: 1, all: 8 }, RUN, true), end);
    }

    #[test]
    fn who_has_begun_waits_for_a_round_or_for_unused_slots() {
        let mut turns = Turns::default();
        turns.next_at(NOW, 0, place(0), RUN, false);
        turns.begun(0, place(0), RUN);
        let appeared = (20 - TOGETHER) * RUN;
        let at = turns.next_at(NOW + SLOT, appeared, place(0), RUN, false);
        assert_eq!(at, NOW + SLOT, "a round has appeared, but for those under way");
        turns.begun(appeared, place(0), RUN);
        let at = turns.next_at(NOW + SLOT, appeared, place(0), RUN, false);
        assert_eq!(at, NOW + SLOT * 21, "a round later");
        let at = turns.next_at(NOW + SLOT, appeared, place(0), RUN, true);
        assert_eq!(at, NOW + SLOT * (1 + STARVED as u32), "starved");
        // It begins all the same, after five have appeared: a round has five slots.
        let appeared = appeared + 5 * RUN;
        turns.begun(appeared, place(0), RUN);
        let at = turns.next_at(NOW + SLOT, appeared, place(0), RUN, false);
        assert_eq!(at, NOW + SLOT + SLOT * 5);
    }

    #[test]
    fn nobody_waits_long_whoever_comes_before() {
        let place = Place { before: u32::MAX, all: u32::MAX };
        let mut turns = settled(place);
        assert_eq!(turns.next_at(NOW, 0, place, RUN, false), NOW + WAIT_MAX);
        turns.begun(0, place, u64::from(u32::MAX));
        (0..100).for_each(|_| turns.met_another());
        assert!(turns.next_at(NOW, 0, place, 1, false) <= NOW + WAIT_MAX);
    }
}

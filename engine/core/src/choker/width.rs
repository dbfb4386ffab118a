//! How many peers are sent a piece at once, where they take less than we could send.
//!
//! One piece after the other is best for everyone as long as a single peer can take what the uplink gives. Where downlinks are no
//! faster than uplinks, it cannot: others send to it at the same time, each of them gets a part of its downlink, and what is left
//! of our uplink idles. To serve more peers at once evens that out, and each of them waits longer for its piece. So it
//! is done only as far as more is sent that way.

use super::turns::TURNS_MAX;
use crate::time::{Duration, Time};

/// So many at once to begin with, and always.
const TURNS_MIN: usize = 2;
/// What is sent is looked at in windows of this length.
const WINDOW: Duration = Duration::from_millis(250);
/// With less than this share of the most that was ever sent in a window, of 16, the uplink is not full.
const FULL_OF_16: u32 = 15;
/// After so many windows in which the uplink was full, one turn fewer is tried.
const WINDOWS_FULL: u32 = 8;
/// What share of the difference the memory of the most that was sent falls by, with each window that had less.
const FORGETS_ONE_IN: u32 = 32;

/// How many turns are in progress at once while peers take no more.
#[derive(Clone, Debug)]
pub(super) struct Width {
    turns: usize,
    /// When the present window began.
    since: Time,
    /// Blocks sent in it.
    sent: u32,
    /// In it, everyone who was served took no more at some time.
    was_blocked: bool,
    /// The most blocks that a window had, of late.
    best: u32,
    /// Windows in which the uplink was full, since it last was not.
    full: u32,
}

impl Default for Width {
    fn default() -> Width {
        Width { turns: TURNS_MIN, since: Time::ZERO, sent: 0, was_blocked: false, best: 0, full: 0 }
    }
}

impl Width {
    /// How many turns may be in progress at once.
    pub(super) fn turns(&self) -> usize {
        self.turns
    }

    /// A block was sent.
    pub(super) fn on_sent(&mut self, now: Time) {
        self.end_window(now);
        self.sent += 1;
    }

    /// Nobody who is served takes more.
    pub(super) fn on_all_blocked(&mut self, now: Time) {
        self.end_window(now);
        self.was_blocked = true;
    }

    fn end_window(&mut self, now: Time) {
        let took = now.since(self.since);
        if took < WINDOW {
            return;
        }
        let sent = u128::from(self.sent) * WINDOW.as_micros() / took.as_micros();
        let sent = u32::try_from(sent).unwrap_or(u32::MAX);
        self.best = sent.max(self.best - self.best.saturating_sub(sent).div_ceil(FORGETS_ONE_IN));
        if self.was_blocked {
            self.adapt(sent > 0 && u64::from(sent) * 16 >= u64::from(self.best) * u64::from(FULL_OF_16));
        }
        (self.since, self.sent, self.was_blocked) = (now, 0, false);
    }

    fn adapt(&mut self, is_full: bool) {
        self.full = if is_full { self.full + 1 } else { 0 };
        if !is_full {
            self.turns = (self.turns + (self.turns / 4).max(1)).min(TURNS_MAX);
        } else if self.full.is_multiple_of(WINDOWS_FULL) {
            self.turns = (self.turns - 1).max(TURNS_MIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends so many blocks a second for some seconds, while everyone who is served takes no more.
    fn send(width: &mut Width, from_s: u64, to_s: u64, blocks_per_s: u64) {
        for i in from_s * blocks_per_s..to_s * blocks_per_s {
            let now = Time::from_micros(i * 1_000_000 / blocks_per_s);
            width.on_sent(now);
            width.on_all_blocked(now);
        }
    }

    #[test]
    fn more_are_served_at_once_while_less_is_sent_than_could_be_and_fewer_again_when_not() {
        let mut width = Width::default();
        send(&mut width, 0, 5, 800);
        assert_eq!(width.turns(), TURNS_MIN, "it fills the uplink as it is");
        send(&mut width, 5, 8, 500);
        let wide = width.turns();
        assert!(wide > 8, "{wide}");
        send(&mut width, 8, 60, 800);
        assert!(width.turns() < wide, "{}", width.turns());
    }

    #[test]
    fn what_was_sent_long_ago_is_no_measure() {
        let mut width = Width::default();
        send(&mut width, 0, 5, 800);
        send(&mut width, 5, 15, 400);
        assert_eq!(width.turns(), TURNS_MAX);
        send(&mut width, 15, 60, 400);
        assert!(width.turns() < TURNS_MAX, "{}", width.turns());
    }

    #[test]
    fn where_nobody_is_blocked_it_does_not_matter_how_little_is_sent() {
        let mut width = Width::default();
        send(&mut width, 0, 5, 800);
        (5_000..90_000).step_by(100).for_each(|ms| width.on_sent(Time::from_micros(ms * 1_000)));
        assert_eq!(width.turns(), TURNS_MIN);
    }
}

//! How many peers to serve at once.
//!
//! Too few slots leave the uplink idle when peers are slow; too many split it so thin that pieces take
//! long to finish, and until a piece is finished nobody can pass it on. What we want is the fewest slots
//! that fill the uplink, whose capacity nobody tells us. So it is found out, by trying:
//!
//! - A base that grows with the square root of what we send in all ([`base_slots`]): a slot of a faster
//!   uplink is both faster and one of more. 5 slots at 10 Mbit/s, 15 at 100 Mbit/s, 50 at 1 Gbit/s.
//! - When all slots are taken and more peers wait, half as many again for one interval. If the new slots
//!   carry at least half of what the old ones did, the peers were the bottleneck: keep them and try again
//!   at once. If not, the uplink was: take them back, and where they brought next to nothing, a sixteenth
//!   more, so that the number drifts down to where the uplink is just full. Then let it rest.

/// Slots before anything has been measured.
const START: usize = 4;

/// Intervals of rest after a trial that did not pay: during a trial pieces finish later.
const REST: u32 = 6;

/// The number of upload slots, following the uplink. Adjusted once for each rechoke.
#[derive(Clone, Debug)]
pub struct UploadSlots {
    now: usize,
    min: usize,
    max: usize,
    trial: Trial,
}

#[derive(Clone, Copy, Debug)]
enum Trial {
    /// No trial before so many intervals have passed.
    Rest(u32),
    /// Slots were added at the last rechoke.
    Running { slots_before: usize, rate_before: u64 },
}

impl UploadSlots {
    /// As many as one starts with, and never fewer than `min` or more than `max`.
    ///
    /// # Panics
    /// Unless `1 <= min <= max`.
    pub fn new(min: usize, max: usize) -> UploadSlots {
        assert!(1 <= min && min <= max, "from {min} to {max} upload slots");
        UploadSlots { now: START.clamp(min, max), min, max, trial: Trial::Rest(REST) }
    }

    /// The present number.
    pub fn get(&self) -> usize {
        self.now
    }

    /// Learns from the interval that has passed, in which we sent `rate_bytes_per_s` in all; `wanted` peers
    /// would take a slot now.
    pub fn adjust(&mut self, wanted: usize, rate_bytes_per_s: u64) {
        let (slots, rest) = match self.trial {
            Trial::Rest(intervals) => (self.now, intervals.saturating_sub(1)),
            Trial::Running { slots_before, rate_before } => {
                // What the new slots brought, and what they would have brought at the rate of the old.
                let brought = u128::from(rate_bytes_per_s.saturating_sub(rate_before)) * slots_before as u128;
                let hoped = u128::from(rate_before) * (self.now - slots_before) as u128;
                let filled = wanted >= self.now;
                if filled && brought * 2 > hoped {
                    (self.now, 0)
                } else if filled && brought * 10 < hoped {
                    (slots_before - (slots_before / 16).max(1), REST)
                } else {
                    (slots_before, REST)
                }
            }
        };
        let floor = base_slots(rate_bytes_per_s).clamp(self.min, self.max);
        self.now = slots.clamp(floor, self.max);
        self.trial = Trial::Rest(rest);
        if rest == 0 && wanted > self.now && self.now < self.max {
            self.trial = Trial::Running { slots_before: self.now, rate_before: rate_bytes_per_s };
            self.now = (self.now + (self.now / 2).max(1)).min(wanted).min(self.max);
        }
    }
}

/// Slots that an uplink carries at a rate at which pieces finish quickly.
fn base_slots(rate_bytes_per_s: u64) -> usize {
    /// The rate of one slot where one is enough, in bytes per second.
    const RATE_OF_ONE: u64 = 50_000;
    (rate_bytes_per_s / RATE_OF_ONE).isqrt() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Rechokes before the number is expected to have settled: five minutes.
    const SETTLED: usize = 30;

    /// The numbers of slots after each of `rechokes` on an uplink of `uplink` bytes per second that
    /// `wanted` peers wait for, each of which takes up to `peer_max`.
    fn run(uplink: u64, peer_max: u64, wanted: usize, rechokes: usize) -> Vec<usize> {
        let mut slots = UploadSlots::new(2, 200);
        let rate = |slots: usize| uplink.min(slots.min(wanted) as u64 * peer_max);
        (0..rechokes)
            .map(|_| {
                slots.adjust(wanted, rate(slots.get()));
                slots.get()
            })
            .collect()
    }

    #[test]
    fn slow_peers_get_as_many_slots_as_fill_the_uplink() {
        let (uplink, peer_max) = (1_250_000, 20_000);
        let slots = run(uplink, peer_max, 1_000, 100);
        let needed = (uplink / peer_max) as usize;
        let late = &slots[SETTLED..];
        assert!(late.iter().all(|&n| n >= needed / 2 && n <= needed * 5 / 2), "{late:?}");
        let filled = late.iter().filter(|&&n| n * 10 >= needed * 8).count();
        assert!(filled * 10 >= late.len() * 9, "{late:?}");
    }

    #[test]
    fn fast_peers_get_few_slots() {
        for (uplink, base) in [(125_000, 2), (1_250_000, 5), (12_500_000, 15), (125_000_000, 50)] {
            let slots = run(uplink, uplink, 1_000, 200);
            let at_rest = slots[SETTLED..].iter().filter(|&&n| n <= base + 1).count();
            assert!(at_rest * 10 >= (slots.len() - SETTLED) * 8, "{uplink}: {slots:?}");
            assert!(slots.iter().all(|&n| n <= (base + 4) * 2), "{uplink}: {slots:?}");
        }
    }

    #[test]
    fn slots_that_nobody_wants_are_not_tried() {
        assert!(run(1_250_000, 1_000, 4, 100).iter().all(|&n| n <= 4));
        assert_eq!(run(1_250_000, 1_000, 5, 100).iter().max(), Some(&5));
    }

    proptest! {
        #[test]
        fn the_number_keeps_within_its_limits(
            min in 1usize..10,
            more in 0usize..100,
            steps in prop::collection::vec((0usize..300, any::<u64>()), 0..100),
        ) {
            let mut slots = UploadSlots::new(min, min + more);
            for (wanted, rate) in steps {
                slots.adjust(wanted, rate);
                prop_assert!((min..=min + more).contains(&slots.get()));
            }
        }
    }
}

//! Rates over the last minutes: of all torrents together, and of those that moved data. Bounded, and not kept over restarts.

use crate::table::Shared;
use crate::torrents::Id;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How long a sample stands for.
pub const INTERVAL: Duration = Duration::from_secs(4);
/// How many there are: ten minutes.
pub const SAMPLES_MAX: usize = 150;
/// Of how many torrents there are any.
const TORRENTS_MAX: usize = 1_000;

/// Bytes per second: received, and sent.
pub type Sample = (u32, u32);

#[derive(Debug, Default)]
struct Samples {
    all: VecDeque<Sample>,
    each: BTreeMap<Id, VecDeque<Sample>>,
}

/// What was sampled.
#[derive(Clone, Debug, Default)]
pub struct History(Arc<Mutex<Samples>>);

impl History {
    /// Samples until the daemon ends.
    pub async fn run(self, table: Shared, mut stopping: watch::Receiver<bool>) {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
            let table = table.read();
            let rates = table.iter().map(|row| &row.summary);
            self.take(rates.map(|summary| (summary.id, summary.rate_down, summary.rate_up)));
        }
    }

    fn take(&self, rates: impl Iterator<Item = (Id, u64, u64)>) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Samples { all, each } = &mut *samples;
        let mut sum = (0_u64, 0_u64);
        let moving: BTreeMap<Id, Sample> = rates
            .filter(|(_, down, up)| down | up != 0)
            .map(|(id, down, up)| {
                sum = (sum.0.saturating_add(down), sum.1.saturating_add(up));
                (id, (small(down), small(up)))
            })
            .collect();
        push(all, (small(sum.0), small(sum.1)));
        for (id, samples) in each.iter_mut() {
            push(samples, moving.get(id).copied().unwrap_or_default());
        }
        // Whose last samples are all zero has nothing to show.
        each.retain(|_, samples| samples.iter().any(|sample| *sample != (0, 0)));
        for (id, sample) in moving {
            if each.len() < TORRENTS_MAX || each.contains_key(&id) {
                each.entry(id).or_insert_with(|| VecDeque::from([sample]));
            }
        }
    }

    /// Of all torrents together, the oldest first.
    pub fn all(&self) -> Vec<Sample> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).all.iter().copied().collect()
    }

    /// Of one torrent; nothing if it moved none lately.
    pub fn of(&self, id: Id) -> Vec<Sample> {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.each.get(&id).into_iter().flatten().copied().collect()
    }
}

fn small(rate: u64) -> u32 {
    u32::try_from(rate).unwrap_or(u32::MAX)
}

fn push(samples: &mut VecDeque<Sample>, sample: Sample) {
    if samples.len() == SAMPLES_MAX {
        samples.pop_front();
    }
    samples.push_back(sample);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_is_kept_for_a_while_and_what_does_not_is_forgotten() {
        let history = History::default();
        history.take([(Id(1), 5, 0), (Id(2), 0, 0), (Id(3), u64::MAX, 7)].into_iter());
        assert_eq!(history.all(), [(u32::MAX, 7)]);
        assert_eq!((history.of(Id(1)), history.of(Id(2))), (vec![(5, 0)], vec![]));
        for _ in 1..SAMPLES_MAX {
            history.take(std::iter::empty());
        }
        assert_eq!((history.all().len(), history.of(Id(1)).len()), (SAMPLES_MAX, SAMPLES_MAX));
        history.take(std::iter::empty());
        assert_eq!((history.all().len(), history.of(Id(1)).len()), (SAMPLES_MAX, 0));
    }

    #[test]
    fn many_torrents_have_no_more_than_their_share() {
        let history = History::default();
        history.take((0..5_000).map(|id| (Id(id), 1, 1)));
        assert_eq!(history.0.lock().unwrap().each.len(), TORRENTS_MAX);
        assert_eq!(history.all(), [(5_000, 5_000)]);
    }
}

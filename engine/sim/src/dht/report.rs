//! What lookups took.

use super::network::{Network, Traffic};
use crate::Trace;
use swarm_core::time::{Duration, Time};

/// What one lookup took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    /// Until the peer was named.
    pub(super) found_after: Option<Duration>,
    pub(super) done_after: Duration,
    pub(super) hops: u64,
    pub(super) queries: u64,
    /// Of the node that asked, meanwhile.
    pub(super) traffic: Traffic,
}

/// Many numbers in short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// The mean, in thousandths.
    pub mean_milli: u64,
    /// Half are no larger.
    pub median: u64,
    /// 99 of 100 are no larger.
    pub p99: u64,
}

impl Spread {
    fn of(numbers: impl Iterator<Item = u64>) -> Spread {
        let mut numbers: Vec<u64> = numbers.collect();
        numbers.sort_unstable();
        let at = |percent: usize| numbers.get((numbers.len() * percent).div_ceil(100).saturating_sub(1));
        Spread {
            mean_milli: numbers.iter().sum::<u64>() * 1_000 / numbers.len().max(1) as u64,
            median: at(50).copied().unwrap_or(0),
            p99: at(99).copied().unwrap_or(0),
        }
    }
}

/// What came of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Lookups that count: who looked and whom it looked for were there all the while.
    pub lookups: usize,
    /// Of those so many found the peer.
    pub found: usize,
    /// Nodes asked one after another until one named the first peer; without any, until the nearest node.
    pub hops: Spread,
    /// Nodes asked in a lookup.
    pub queries: Spread,
    /// Datagrams that a node sent and received while it was looking.
    pub messages: Spread,
    /// Their bytes, with those of the headers of IP and UDP.
    pub bytes: Spread,
    /// Until the peer was named, in microseconds, where it was.
    pub first_micros: Spread,
    /// Until the lookup was over, in microseconds.
    pub done_micros: Spread,
    /// Datagrams sent in the whole network during the whole run.
    pub traffic: Traffic,
    /// How long the run was in the network's own time.
    pub time: Duration,
    /// Equal for equal runs.
    pub trace: Trace,
}

impl Outcome {
    pub(super) fn of(samples: Vec<Sample>, network: &Network) -> Outcome {
        let spread = |of: fn(&Sample) -> u64| Spread::of(samples.iter().map(of));
        let micros = |time: Duration| time.as_micros() as u64;
        Outcome {
            lookups: samples.len(),
            found: samples.iter().filter(|sample| sample.found_after.is_some()).count(),
            hops: spread(|sample| sample.hops),
            queries: spread(|sample| sample.queries),
            messages: spread(|sample| sample.traffic.datagrams),
            bytes: spread(|sample| sample.traffic.bytes),
            first_micros: Spread::of(samples.iter().filter_map(|sample| sample.found_after).map(micros)),
            done_micros: Spread::of(samples.iter().map(|sample| micros(sample.done_after))),
            traffic: network.traffic(),
            time: network.now().since(Time::ZERO),
            trace: network.trace(),
        }
    }

    /// Lookups that found the peer, of 1,000.
    pub fn found_permille(&self) -> u64 {
        self.found as u64 * 1_000 / self.lookups.max(1) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_of_those_that_are_there() {
        assert_eq!(Spread::of(1..=100), Spread { mean_milli: 50_500, median: 50, p99: 99 });
        assert_eq!(Spread::of([7].into_iter()), Spread { mean_milli: 7_000, median: 7, p99: 7 });
        assert_eq!(Spread::of([].into_iter()), Spread::default());
    }
}

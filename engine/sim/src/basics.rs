//! Words that everything else is said in.

use swarm_core::time::Duration;

/// A node of the world, counted from zero in the order of joining.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// No path is shorter than this, one way.
pub const PATH_MIN: Duration = Duration::from_micros(500);

/// A hash over everything that happened: equal traces mean equal runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace(pub u64);

/// A rate in bytes per second; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub u64);

impl Rate {
    /// From megabits per second.
    pub const fn mbit_per_s(mbit: u64) -> Rate {
        Rate(mbit * 125_000)
    }

    /// How many bytes pass in a time.
    pub(crate) fn bytes_in(self, time: Duration) -> u64 {
        self.0 * time.as_micros() as u64 / 1_000_000
    }

    /// How long `bytes` take, rounded up to a microsecond.
    pub fn time_for(self, bytes: u64) -> Duration {
        Duration::from_micros((bytes * 1_000_000).div_ceil(self.0))
    }
}

//! Where the server takes the time from.

use std::time::Instant;

use swarm_core::time::{Duration, Time};

/// A clock that never goes back. A closure that gives the time since some origin is one.
pub trait Clock: Send + Sync + 'static {
    /// The time since the clock's origin.
    fn now(&self) -> Time;
}

impl<F: Fn() -> Duration + Send + Sync + 'static> Clock for F {
    fn now(&self) -> Time {
        Time::ZERO + self()
    }
}

/// The machine's clock, from when it was made.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock { origin: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Time {
        Time::ZERO + self.origin.elapsed()
    }
}

//! The clock of a session, and of a node of the DHT.

use std::time::{Duration, Instant};
use swarm_core::time::Time;

/// Where times of the core begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    /// One that begins now.
    pub(crate) fn start() -> Clock {
        Clock(Instant::now())
    }

    pub(crate) fn now(self) -> Time {
        Time::ZERO + self.0.elapsed()
    }

    /// When a time will be on the runtime's clock; at most a day ahead.
    pub(crate) fn instant(self, time: Time) -> tokio::time::Instant {
        tokio::time::Instant::now() + time.since(self.now()).min(Duration::from_secs(86_400))
    }
}

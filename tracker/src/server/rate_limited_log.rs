//! A warning that is logged at most once a minute.

use std::sync::atomic::{AtomicU64, Ordering};

use swarm_core::time::{Duration, Time};

/// How often the log hears of what goes on and on.
const EVERY: Duration = Duration::from_secs(60);

/// Says when to log a warning: the first time, and once a minute.
#[derive(Debug, Default)]
pub(super) struct RateLimitedLog {
    not_before_us: AtomicU64,
}

impl RateLimitedLog {
    /// Whether it is time to say it; so, it is not for a minute.
    pub fn is_due(&self, now: Time) -> bool {
        let not_before_us = self.not_before_us.load(Ordering::Relaxed);
        let next_us = (now + EVERY).as_micros();
        now.as_micros() >= not_before_us
            && self
                .not_before_us
                .compare_exchange(not_before_us, next_us, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_once_a_minute() {
        let log = RateLimitedLog::default();
        let logged = (0..600).filter(|&s| log.is_due(Time::ZERO + Duration::from_secs(s))).count();
        assert_eq!(logged, 10);
    }
}

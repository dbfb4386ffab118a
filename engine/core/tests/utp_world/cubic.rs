//! A flow of TCP with CUBIC (RFC 9438) that always has something to send: what others on the line are like.

use std::collections::BTreeMap;
use swarm_core::time::{Duration, Time};

const C: f64 = 0.4;
const BETA: f64 = 0.7;

pub struct Cubic {
    window: f64,
    slow_start_until: f64,
    window_max: f64,
    epoch: Option<Time>,
    next: u64,
    /// Not acknowledged, with when they were sent.
    flight: BTreeMap<u64, Time>,
    recovery_until: u64,
    heard_at: Time,
    round_trip: Duration,
    pub delivered: u64,
}

impl Cubic {
    pub fn new(now: Time) -> Cubic {
        Cubic {
            window: 10.0,
            slow_start_until: f64::MAX,
            window_max: 0.0,
            epoch: None,
            next: 0,
            flight: BTreeMap::new(),
            recovery_until: 0,
            heard_at: now,
            round_trip: Duration::from_millis(100),
            delivered: 0,
        }
    }

    pub fn poll_transmit(&mut self, now: Time) -> Option<u64> {
        if now.since(self.heard_at) > Duration::from_secs(1) {
            self.flight.clear();
            (self.slow_start_until, self.window, self.heard_at) = ((self.window / 2.0).max(2.0), 2.0, now);
        }
        if self.flight.len() as f64 >= self.window {
            return None;
        }
        self.flight.insert(self.next, now);
        self.next += 1;
        Some(self.next - 1)
    }

    pub fn on_ack(&mut self, now: Time, number: u64) {
        let Some(sent_at) = self.flight.remove(&number) else { return };
        (self.heard_at, self.round_trip) = (now, now.since(sent_at));
        self.delivered += 1448;
        while let Some((&first, _)) = self.flight.first_key_value().filter(|(first, _)| **first + 3 <= number)
        {
            self.flight.remove(&first);
            if first >= self.recovery_until {
                self.recovery_until = self.next;
                self.window_max = self.window;
                self.window = (self.window * BETA).max(2.0);
                (self.slow_start_until, self.epoch) = (self.window, None);
            }
        }
        if self.window < self.slow_start_until {
            self.window += 1.0;
            return;
        }
        let since = now.since(*self.epoch.get_or_insert(now)) + self.round_trip;
        let k = (self.window_max * (1.0 - BETA) / C).cbrt();
        let target = C * (since.as_secs_f64() - k).powi(3) + self.window_max;
        let by_cubic = ((target - self.window) / self.window).clamp(0.0, 0.5);
        // As fast as Reno would be, at least.
        self.window += by_cubic.max(0.53 / self.window);
    }
}

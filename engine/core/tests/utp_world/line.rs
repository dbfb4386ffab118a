//! One direction of a line.

use super::BELOW;
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};

/// What a line is like.
#[derive(Clone, Debug)]
pub struct Quality {
    pub delay: Duration,
    /// Bytes in a second.
    pub rate: u64,
    /// How long the queue may get.
    pub buffer: Duration,
    /// Of 10,000 datagrams, so many are lost, come late or come twice.
    pub loss: u64,
    pub reordered: u64,
    pub duplicated: u64,
    /// The longest datagram that passes, with headers.
    pub mtu: usize,
}

impl Default for Quality {
    fn default() -> Quality {
        Quality {
            delay: Duration::from_millis(20),
            rate: 12_500_000,
            buffer: Duration::from_millis(250),
            loss: 0,
            reordered: 0,
            duplicated: 0,
            mtu: 1500,
        }
    }
}

pub struct Line {
    pub quality: Quality,
    rng: Rng,
    free_at: Time,
    /// Everything is lost.
    pub is_cut: bool,
    /// When each datagram of ours came, how long it waited, and its length.
    pub log: Vec<(Time, Duration, usize)>,
    pub dropped: u64,
}

impl Line {
    pub fn new(quality: Quality, rng: Rng) -> Line {
        Line { quality, rng, free_at: Time::ZERO, is_cut: false, log: Vec::new(), dropped: 0 }
    }

    /// When it arrives: never, once, or twice.
    pub fn send(&mut self, now: Time, len: usize, is_ours: bool) -> Vec<Time> {
        let quality = &self.quality;
        let queue = self.free_at.since(now);
        let chance = |rng: &mut Rng, of_10_000: u64| of_10_000 > 0 && rng.below(10_000) < of_10_000;
        if queue > quality.buffer || len > quality.mtu || self.is_cut {
            self.dropped += 1;
            return Vec::new();
        }
        let takes = Duration::from_nanos(len as u64 * 1_000_000_000 / quality.rate);
        self.free_at = self.free_at.max(now) + takes;
        if chance(&mut self.rng, quality.loss) {
            self.dropped += 1;
            return Vec::new();
        }
        let mut at = self.free_at + quality.delay;
        if chance(&mut self.rng, quality.reordered) {
            at += Duration::from_micros(self.rng.below(8_000));
        }
        if is_ours {
            self.log.push((at, queue, len - BELOW));
        }
        if chance(&mut self.rng, quality.duplicated) {
            return vec![at, at + Duration::from_micros(self.rng.below(20_000))];
        }
        vec![at]
    }

    /// Bytes of ours that came after `from`, and the median of the queue that they met.
    pub fn seen_since(&self, from: Time) -> (u64, Duration) {
        let seen: Vec<_> = self.log.iter().filter(|(at, ..)| *at >= from).collect();
        let mut queues: Vec<_> = seen.iter().map(|(_, queue, _)| *queue).collect();
        queues.sort_unstable();
        let median = queues.get(queues.len() / 2).copied().unwrap_or_default();
        (seen.iter().map(|(.., len)| *len as u64).sum(), median)
    }
}

//! How many addresses are dialled at a time, how fast one after another, and how long each may take.
//!
//! Without a peer, many are dialled at once with short timeouts: most addresses of a list may be silent, and the one that answers
//! may be the last. With a peer there is time. However many addresses there are, and however quickly they fail, no more than
//! [`DIALS_BURST`] dials go out at once and [`DIALS_PER_S`] each second from then on.

use crate::time::{Duration, Time};

/// How many dials of a torrent there may be each second, in the long run.
pub const DIALS_PER_S: u32 = 20;
/// The same for all torrents of a session.
pub const SESSION_DIALS_PER_S: u32 = 100;
/// How many there may be at once, after a rest.
pub const DIALS_BURST: u32 = 256;
/// How many addresses are dialled at a time at most, while no peer is connected.
pub const PARALLEL_MAX: usize = 128;
/// The number doubles this often up to there, from the usual half-open limit.
pub const PARALLEL_STEP: Duration = Duration::from_millis(250);
/// How long a first dial and its handshake may take while others wait; doubled after each failure.
pub const PATIENCE_FIRST: Duration = Duration::from_secs(2);
/// How long they may take at most, and if no others wait.
pub const PATIENCE_MAX: Duration = Duration::from_secs(10);

/// A limit on the rate of dials. Saves up for [`DIALS_BURST`].
#[derive(Clone, Copy, Debug)]
pub struct DialRate {
    /// The time that a dial uses up.
    interval: Duration,
    /// When the whole burst is available again; `None`: now.
    full_at: Option<Time>,
}

impl DialRate {
    fn per_second(dials: u32) -> DialRate {
        DialRate { interval: Duration::from_secs(1) / dials, full_at: None }
    }

    /// The limit of one torrent.
    pub fn of_torrent() -> DialRate {
        DialRate::per_second(DIALS_PER_S)
    }

    /// The limit of all torrents together.
    pub fn of_session() -> DialRate {
        DialRate::per_second(SESSION_DIALS_PER_S)
    }

    /// When the next dial may go out.
    pub fn next_at(&self, now: Time) -> Time {
        let debt = self.full_at.map_or(Duration::ZERO, |at| at.since(now));
        now + debt.saturating_sub(self.interval * (DIALS_BURST - 1))
    }

    /// A dial goes out.
    pub fn take(&mut self, now: Time) {
        self.full_at = Some(self.full_at.map_or(now, |at| at.max(now)) + self.interval);
    }

    /// A dial goes out that cannot wait, if it need not.
    pub fn take_at_once(&mut self, now: Time) -> bool {
        let may_dial = self.next_at(now) <= now;
        if may_dial {
            self.take(now);
        }
        may_dial
    }
}

/// The pace of one torrent's dials.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    rate: DialRate,
    /// Since when addresses have been dialled without a peer.
    alone_since: Option<Time>,
}

impl Pace {
    pub(super) fn new() -> Pace {
        Pace { rate: DialRate::of_torrent(), alone_since: None }
    }

    /// How many addresses may be dialled at a time; with a peer connected, `usual`.
    pub(super) fn parallel(&mut self, now: Time, has_nobody: bool, half_open: usize, usual: usize) -> usize {
        if !has_nobody || half_open == 0 {
            self.alone_since = has_nobody.then_some(now);
        }
        match self.alone_since {
            None => usual,
            Some(since) => {
                let steps = now.since(since).as_micros() / PARALLEL_STEP.as_micros();
                (usual << steps.min(10)).min(PARALLEL_MAX).max(usual)
            }
        }
    }

    /// When more may be dialled, if that waits for time alone.
    pub(super) fn next_at(&self, now: Time, parallel: usize) -> Option<Time> {
        let rate_at = Some(self.rate.next_at(now)).filter(|at| *at > now);
        let step_at = self.alone_since.filter(|_| parallel < PARALLEL_MAX).map(|since| {
            let steps = now.since(since).as_micros() / PARALLEL_STEP.as_micros();
            since + PARALLEL_STEP * (steps as u32 + 1)
        });
        rate_at.or(step_at)
    }

    pub(super) fn may_dial(&self, now: Time) -> bool {
        self.rate.next_at(now) <= now
    }

    pub(super) fn dialled(&mut self, now: Time) {
        self.rate.take(now);
    }
}

/// How long a dial may take after so many failures, if others wait for it to end.
pub(super) fn patience(failures: u32, others_wait: bool) -> Duration {
    match others_wait {
        true => (PATIENCE_FIRST * 2u32.pow(failures.min(8))).min(PATIENCE_MAX),
        false => PATIENCE_MAX,
    }
}

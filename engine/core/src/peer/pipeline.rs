//! The requests outstanding at one peer, and how many there should be.
//!
//! Enough to keep the path full and the sender's queue about half a second
//! deep: rate × (round trip + 0.5 s). The round trip is the *smallest* ever
//! seen, so that time spent in a queue of our own making never asks for a
//! longer queue. A young connection doubles its requests each round trip, as
//! TCP does, until its rate stops growing.

use crate::geometry::BLOCK_LEN;
use crate::id::BlockRef;
use crate::time::{Duration, Time};
use crate::wire::extension::REQQ_DEFAULT;
use std::collections::VecDeque;

/// How many requests we ever have outstanding at one peer, whatever it says.
pub const REQUESTS_MAX: u32 = 2_000;
/// How many requests a slow peer gets at least, so that there is always one behind the one being sent.
pub const REQUESTS_MIN: usize = 4;
/// How many requests a new connection begins with.
pub const REQUESTS_INITIAL: usize = 16;
/// How much data should wait at the sender, as time at the present rate.
pub const QUEUE_TIME: Duration = Duration::from_millis(500);
/// The same while somebody waits for what comes. More of it would lie at peers that happened to be asked first, while others could send it
/// sooner.
pub const QUEUE_TIME_URGENT: Duration = Duration::from_millis(50);
/// How many requests a slow peer gets at least while somebody waits.
pub const REQUESTS_MIN_URGENT: usize = 2;
/// A round trip longer than this is taken for this.
pub const ROUND_TRIP_MAX: Duration = Duration::from_secs(2);
/// A peer that lets requests lie this long is snubbed: its blocks go to others, and it is asked for
/// one block at a time until one comes.
pub const SNUB_AFTER: Duration = Duration::from_secs(10);
/// One whose blocks come so slowly that this is too short is given three times as long as they took, and this at most.
pub const SNUB_AFTER_MAX: Duration = Duration::from_secs(60);
/// A block is overdue so long after it should have come at the latest.
pub const OVERDUE_AFTER: Duration = Duration::from_millis(200);
/// Nothing has come for longer than usual after so long, beside a round trip and twice the time between blocks.
const SILENCE_MIN: Duration = Duration::from_millis(100);
/// A peer that has sent nothing yet is silent after so long, and no round trip counts for more in that.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// No longer time between blocks is taken for usual in that.
const GAP_MAX: Duration = Duration::from_millis(500);
/// A request that is passed over for this long, while later ones are answered, is overdue.
pub const PASSED_OVER_AFTER: Duration = Duration::from_secs(4);
/// A request that is passed over for this long, while later ones are answered, is given up.
pub const REQUEST_LOST_AFTER: Duration = Duration::from_secs(30);
/// How many requests that we took back are remembered, to tell a late block from one never asked for.
pub const WITHDRAWN_MAX: usize = 4_096;

/// A request that waits for its block.
#[derive(Clone, Copy, Debug)]
pub struct Outstanding {
    /// What was asked for.
    pub block: BlockRef,
    /// When.
    pub sent_at: Time,
    /// Since when later requests are answered and this one is not.
    passed_at: Option<Time>,
}

/// How a block that arrived stands to what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was outstanding.
    Requested,
    /// It had been asked for, and given up or cancelled since.
    Withdrawn,
    /// It was never asked for.
    Unrequested,
}

/// The requests outstanding at one peer.
#[derive(Debug)]
pub struct Pipeline {
    requests: VecDeque<Outstanding>,
    withdrawn: VecDeque<BlockRef>,
    reqq: u32,
    round_trip_min: Duration,
    starting: Option<SlowStart>,
    /// When the last requested block came, or when the pipeline last went from empty to not.
    progress_at: Option<Time>,
    /// When the requests were given up for want of an answer, since when none had come. The next block tells how slow
    /// the peer is.
    silent_since: Option<Time>,
    /// How long a block takes to come after the one before; the longest waits count most, and fade. `None`: nothing has come yet.
    gap: Option<Duration>,
}

#[derive(Debug)]
struct SlowStart {
    depth: usize,
    epoch_at: Option<Time>,
    epoch_blocks: u32,
    last_epoch_blocks: u32,
}

impl Default for Pipeline {
    fn default() -> Pipeline {
        Pipeline {
            requests: VecDeque::new(),
            withdrawn: VecDeque::new(),
            reqq: REQQ_DEFAULT,
            round_trip_min: ROUND_TRIP_MAX,
            starting: Some(SlowStart {
                depth: REQUESTS_INITIAL,
                epoch_at: None,
                epoch_blocks: 0,
                last_epoch_blocks: 0,
            }),
            progress_at: None,
            silent_since: None,
            gap: None,
        }
    }
}

impl Outstanding {
    /// Whether later ones were answered, and not just because blocks come in another order now and then.
    pub fn is_passed_over(&self, now: Time) -> bool {
        self.passed_at.is_some_and(|at| now.since(at) >= PASSED_OVER_AFTER)
    }
}

impl Pipeline {
    /// Number of requests outstanding.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether nothing is outstanding.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// The requests outstanding, in the order in which they were sent.
    pub fn iter(&self) -> impl Iterator<Item = &Outstanding> {
        self.requests.iter()
    }

    /// The peer said how many requests it queues. An eighth is left free: Transmission 3.00 already refuses the last one.
    pub fn set_reqq(&mut self, reqq: u32) {
        self.reqq = (reqq - reqq / 8).max(1);
    }

    /// The shortest time from a request to its block so far, at most [`ROUND_TRIP_MAX`].
    pub fn round_trip_min(&self) -> Duration {
        self.round_trip_min
    }

    /// Since when no requested block has come although some were outstanding.
    pub fn waiting_since(&self) -> Option<Time> {
        self.progress_at.filter(|_| !self.is_empty())
    }

    /// Whether nothing has come for much longer than blocks of this peer use to take, if `held` is how long we may not have read
    /// them. How long it was silent before does not count for it.
    pub fn is_overdue(&self, now: Time, held: Duration) -> bool {
        let timeout = match self.gap {
            None => ROUND_TRIP_MAX + OVERDUE_AFTER,
            Some(gap) => self.round_trip_min + gap.min(GAP_MAX) * 4 + OVERDUE_AFTER,
        };
        self.waiting_since().is_some_and(|since| now.since(since) >= timeout.min(SNUB_AFTER) + held)
    }

    /// Whether somebody who waits for a block should not rely on it coming from this peer: no block has come for longer than
    /// usual. Sooner than [`is_overdue`](Self::is_overdue), and wrong more often.
    pub fn is_silent(&self, now: Time, held: Duration) -> bool {
        let usual = match self.gap {
            None => SILENCE_MAX,
            Some(gap) => self.round_trip_min.min(SILENCE_MAX) + gap.min(GAP_MAX) * 2 + SILENCE_MIN,
        };
        self.waiting_since().is_some_and(|since| now.since(since) >= usual + held)
    }

    /// How many of the requests are likely to be answered already, at this rate.
    pub fn on_their_way(&self, rate_bytes_per_s: u64) -> usize {
        let bytes = u128::from(rate_bytes_per_s) * self.round_trip_min.as_micros() / 1_000_000;
        (bytes / u128::from(BLOCK_LEN)) as usize + 1
    }

    /// How many requests should be outstanding at this rate, if somebody waits for what comes or nobody does.
    pub fn depth(&self, rate_bytes_per_s: u64, is_urgent: bool) -> usize {
        let (queue_time, requests_min) = match is_urgent {
            true => (QUEUE_TIME_URGENT, REQUESTS_MIN_URGENT),
            false => (QUEUE_TIME, REQUESTS_MIN),
        };
        let horizon = self.round_trip_min + queue_time;
        let bytes = u128::from(rate_bytes_per_s) * horizon.as_micros() / 1_000_000;
        let by_rate = (bytes / u128::from(BLOCK_LEN)) as usize + 1;
        let wanted = match &self.starting {
            // It may be slow.
            Some(_) if is_urgent && self.gap.is_none() => REQUESTS_MIN,
            Some(start) => by_rate.max(start.depth),
            None => by_rate.max(requests_min),
        };
        wanted.min(self.limit())
    }

    /// How many requests the peer takes at a time.
    fn limit(&self) -> usize {
        self.reqq.min(REQUESTS_MAX) as usize
    }

    /// A request goes out.
    pub fn push(&mut self, block: BlockRef, now: Time) {
        if self.requests.is_empty() {
            self.progress_at = Some(now);
        }
        self.requests.push_back(Outstanding { block, sent_at: now, passed_at: None });
    }

    /// A block has come.
    pub fn answer(&mut self, block: BlockRef, now: Time) -> Answer {
        if let Some(at) = self.requests.iter().position(|r| r.block == block) {
            let request = self.requests.remove(at).expect("just found");
            for passed in self.requests.iter_mut().take(at) {
                passed.passed_at.get_or_insert(now);
            }
            self.note_gap(now);
            self.round_trip_min = self.round_trip_min.min(now.since(request.sent_at));
            self.progress_at = Some(now);
            self.grow(now);
            return Answer::Requested;
        }
        match self.withdrawn.iter().position(|&b| b == block) {
            Some(at) => {
                self.withdrawn.remove(at);
                if self.silent_since.is_some() {
                    self.note_gap(now);
                }
                Answer::Withdrawn
            }
            None => Answer::Unrequested,
        }
    }

    /// Takes a request back: it was cancelled, or given up. The block may come all the same. Whether it
    /// was outstanding.
    pub fn withdraw(&mut self, block: BlockRef) -> bool {
        let Some(at) = self.requests.iter().position(|r| r.block == block) else { return false };
        self.requests.remove(at);
        if self.withdrawn.len() == WITHDRAWN_MAX {
            self.withdrawn.pop_front();
        }
        self.withdrawn.push_back(block);
        true
    }

    /// How many requests are looked at to find this one where [`rejected`](Self::rejected) looks for it.
    pub fn steps_to(&self, block: BlockRef) -> usize {
        let withdrawn = self.withdrawn.iter().position(|&b| b == block);
        withdrawn.unwrap_or_else(|| {
            let outstanding = self.requests.iter().position(|r| r.block == block);
            self.withdrawn.len() + outstanding.unwrap_or(self.requests.len())
        })
    }

    /// The peer has refused a request: whether it was still outstanding, or `None` if it was never made.
    pub fn rejected(&mut self, block: BlockRef) -> Option<bool> {
        // A cancelled request is answered first, even if the block has been asked for again since.
        if let Some(at) = self.withdrawn.iter().position(|&b| b == block) {
            self.withdrawn.remove(at);
            return Some(false);
        }
        let at = self.requests.iter().position(|r| r.block == block)?;
        self.requests.remove(at);
        Some(true)
    }

    /// Takes back every request; they are returned in the order in which they were sent.
    pub fn withdraw_all(&mut self) -> Vec<BlockRef> {
        let blocks: Vec<BlockRef> = self.requests.iter().map(|r| r.block).collect();
        for &block in &blocks {
            self.withdraw(block);
        }
        blocks
    }

    /// The peer lets its requests lie, and they are about to be taken back.
    pub fn note_silence(&mut self) {
        self.silent_since = self.silent_since.or(self.progress_at);
    }

    /// How long this peer may let requests lie before it is snubbed.
    pub fn timeout(&self) -> Duration {
        (self.gap.unwrap_or_default() * 3).clamp(SNUB_AFTER, SNUB_AFTER_MAX)
    }

    /// The requests that are lost: later ones have been answered for longer than it takes to answer all of them.
    pub fn lost(&self, now: Time) -> impl Iterator<Item = BlockRef> + '_ {
        let timeout = REQUEST_LOST_AFTER.max(self.gap.unwrap_or_default() * 2 * self.requests.len() as u32);
        let is_lost = move |r: &&Outstanding| r.passed_at.is_some_and(|at| now.since(at) >= timeout);
        self.requests.iter().filter(is_lost).map(|r| r.block)
    }

    fn note_gap(&mut self, now: Time) {
        let since = self.silent_since.take().or(self.progress_at);
        let waited = since.map_or(Duration::ZERO, |since| now.since(since));
        self.gap = Some(waited.max((self.gap.unwrap_or_default() * 3 + waited) / 4));
    }

    fn grow(&mut self, now: Time) {
        let Some(start) = &mut self.starting else { return };
        start.depth += 1;
        start.epoch_blocks += 1;
        let epoch = self.round_trip_min.max(Duration::from_millis(50));
        let epoch_at = *start.epoch_at.get_or_insert(now);
        if now.since(epoch_at) >= epoch {
            let stopped_growing = start.epoch_blocks * 4 < start.last_epoch_blocks * 5;
            (start.last_epoch_blocks, start.epoch_blocks) = (start.epoch_blocks, 0);
            start.epoch_at = Some(now);
            if stopped_growing || start.depth >= self.reqq.min(REQUESTS_MAX) as usize {
                self.starting = None;
            }
        }
    }
}

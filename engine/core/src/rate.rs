//! Measuring rates, and keeping to them.

use crate::time::{Duration, Time};

const MICROS_PER_S: u64 = 1_000_000;

/// The width of one bucket of a [`RateMeter`], in microseconds.
const BUCKET_MICROS: u64 = 500_000;
/// Buckets in the window.
const BUCKETS: u64 = 10;
/// Until a transfer is as old as this, its rate is what it would be at this age.
const AGE_MIN: Duration = Duration::from_secs(1);
/// A transfer that passed nothing for so many buckets has ended; what comes next is a new one.
/// Well above the window, or a peer that drips a block now and then would always look young and fast.
const PAUSE_BUCKETS: u64 = 4 * BUCKETS;

/// How many bytes per second have passed lately: a mean over the last 4.5 to 5 seconds.
///
/// A transfer younger than that is averaged over its own age instead (a second at the least), so that
/// nobody looks slow merely because the connection is new. There are two of these for each connection,
/// so it is small: less than a cache line.
#[derive(Clone, Debug, Default)]
pub struct RateMeter {
    /// When the transfer began or resumed.
    since: Time,
    /// Number of the newest bucket.
    newest: u64,
    /// Bytes of each bucket of the window, by bucket number modulo [`BUCKETS`].
    bytes: [u32; BUCKETS as usize],
}

impl RateMeter {
    /// Counts `bytes` that passed at `now`. Time does not run backwards; if it does, they count as of
    /// the latest time seen.
    pub fn add(&mut self, now: Time, bytes: u64) {
        let bucket = bucket_of(now);
        let gap = bucket.saturating_sub(self.newest);
        if gap >= PAUSE_BUCKETS || self.bytes == [0; BUCKETS as usize] {
            *self = RateMeter { since: now, newest: bucket, ..RateMeter::default() };
        } else if gap > 0 {
            (1..=gap.min(BUCKETS)).for_each(|i| self.bytes[slot(self.newest + i)] = 0);
            self.newest = bucket;
        }
        let newest = &mut self.bytes[slot(self.newest)];
        *newest = newest.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// The rate at `now`, in bytes per second; zero once nothing has passed for 5 seconds.
    pub fn bytes_per_s(&self, now: Time) -> u64 {
        let oldest = (bucket_of(now).max(self.newest) + 1).saturating_sub(BUCKETS);
        let bytes: u64 = (oldest..=self.newest).map(|bucket| u64::from(self.bytes[slot(bucket)])).sum();
        let start = self.since.max(Time::from_micros(oldest * BUCKET_MICROS));
        bytes * MICROS_PER_S / now.since(start).max(AGE_MIN).as_micros() as u64
    }
}

/// The number of the bucket that `time` falls into.
fn bucket_of(time: Time) -> u64 {
    time.as_micros() / BUCKET_MICROS
}

/// Where a bucket is kept.
fn slot(bucket: u64) -> usize {
    (bucket % BUCKETS) as usize
}

/// How long an idle [`TokenBucket`] saves up for: the burst that it allows.
const BURST: Duration = Duration::from_millis(100);

/// A limit on a rate: gives out bytes no faster than so many per second.
///
/// It starts empty and never holds more than a tenth of a second's worth, so any 10 seconds keep
/// within 1 % of the limit. Fractions of a byte are kept, so that a limit is reached exactly by
/// a caller who comes back at [`next_at`](Self::next_at).
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate_bytes_per_s: u64,
    /// What may be taken, in millionths of a byte: as many as the rate gives in a microsecond.
    level: u64,
    /// When `level` was right.
    at: Time,
}

impl TokenBucket {
    /// An empty bucket that fills at `rate_bytes_per_s`, from `now` on. At zero it grants nothing.
    pub fn new(now: Time, rate_bytes_per_s: u64) -> TokenBucket {
        TokenBucket { rate_bytes_per_s, level: 0, at: now }
    }

    /// Takes up to `want` bytes; returns how many may pass now.
    pub fn take(&mut self, now: Time, want: u64) -> u64 {
        self.level = self.level_at(now);
        self.at = self.at.max(now);
        let granted = want.min(self.level / MICROS_PER_S);
        self.level -= granted * MICROS_PER_S;
        granted
    }

    /// When `want` bytes will be there, `None` if never; for more than the bucket holds, when it is full.
    pub fn next_at(&self, now: Time, want: u64) -> Option<Time> {
        let want = want.saturating_mul(MICROS_PER_S).min(self.level_max());
        let missing = want.saturating_sub(self.level_at(now));
        match self.rate_bytes_per_s {
            _ if missing == 0 => Some(now),
            0 => None,
            rate => Some(now.max(self.at) + Duration::from_micros(missing.div_ceil(rate))),
        }
    }

    /// The rate that it fills at, in bytes per second.
    pub fn rate(&self) -> u64 {
        self.rate_bytes_per_s
    }

    /// Changes the limit from `now` on.
    pub fn set_rate(&mut self, now: Time, rate_bytes_per_s: u64) {
        self.level = self.level_at(now);
        self.at = self.at.max(now);
        self.rate_bytes_per_s = rate_bytes_per_s;
        self.level = self.level.min(self.level_max());
    }

    fn level_at(&self, now: Time) -> u64 {
        let elapsed = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        self.level.saturating_add(self.rate_bytes_per_s.saturating_mul(elapsed)).min(self.level_max())
    }

    /// [`BURST`] of the rate, and a byte at the least, or it would never grant any.
    fn level_max(&self) -> u64 {
        self.rate_bytes_per_s.saturating_mul(BURST.as_micros() as u64).max(MICROS_PER_S)
    }
}

#[cfg(test)]
mod tests;

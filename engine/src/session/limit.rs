//! A rate limit that may be absent, for data that comes in whole blocks.

use std::cell::RefCell;
use swarm_core::rate::TokenBucket;
use swarm_core::time::Time;

/// A rate limit that may be absent. A block passes whole as soon as everything before it is paid for, so that
/// a limit far below a block a second is met as well as a high one.
pub(crate) struct Limit(RefCell<Option<Account>>);

struct Account {
    bucket: TokenBucket,
    /// Bytes that have passed and are not paid for.
    owed: u64,
}

impl Limit {
    pub(crate) fn new(bytes_per_s: Option<u64>) -> Limit {
        let account = |rate| Account { bucket: TokenBucket::new(Time::ZERO, rate), owed: 0 };
        Limit(RefCell::new(bytes_per_s.map(account)))
    }

    pub(crate) fn set(&self, now: Time, bytes_per_s: Option<u64>) {
        let mut account = self.0.borrow_mut();
        match (account.as_mut(), bytes_per_s) {
            (Some(account), Some(rate)) => account.bucket.set_rate(now, rate),
            (_, rate) => {
                *account = rate.map(|rate| Account { bucket: TokenBucket::new(now, rate), owed: 0 });
            }
        }
    }

    /// The limit, in bytes/s.
    pub(crate) fn rate(&self) -> Option<u64> {
        self.0.borrow().as_ref().map(|account| account.bucket.rate())
    }

    /// When the next bytes may pass: now, or later.
    pub(crate) fn next_at(&self, now: Time) -> Time {
        let mut account = self.0.borrow_mut();
        let Some(account) = account.as_mut() else { return now };
        account.owed -= account.bucket.take(now, account.owed);
        if account.owed == 0 { now } else { account.bucket.next_at(now, account.owed).unwrap_or(Time::MAX) }
    }

    /// Notes that `bytes` pass.
    pub(crate) fn take(&self, now: Time, bytes: u64) {
        if let Some(account) = self.0.borrow_mut().as_mut() {
            account.owed += bytes;
            account.owed -= account.bucket.take(now, account.owed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use swarm_core::time::Duration;

    #[test]
    fn any_limit_holds_within_five_percent_over_ten_seconds() {
        for rate in [5_000, 50_000, 1_000_000, 100_000_000] {
            let limit = Limit::new(Some(rate));
            let (mut now, mut passed) = (Time::from_micros(1), 0);
            let end = now + Duration::from_secs(10);
            while now < end {
                let at = limit.next_at(now);
                if at > now {
                    now = at;
                    continue;
                }
                limit.take(now, 16_384);
                passed += 16_384;
            }
            // The block that is under way at the end is not yet paid for.
            let due = rate * 10;
            assert!(passed <= due * 105 / 100 + 16_384, "{passed} bytes at {rate}/s");
            assert!(passed >= due * 95 / 100, "{passed} bytes at {rate}/s");
        }
    }
}

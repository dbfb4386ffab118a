//! How many bytes may lie in the kernel unsent (`TCP_NOTSENT_LOWAT`).
//!
//! Unsent bytes in the kernel can neither be overtaken nor taken back. A message waits behind them: with a megabyte in front and a
//! tenth of a 100 Mbit/s line, for most of a second, in which a peer that could have been served waits for its turn. And
//! where the peer's own line is crowded, a block that is taken for it idles while others could be sent at once. So the
//! kernel is told to take no more than leaves within some milliseconds, however fast the connection is.

use socket2::SockRef;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// The least, in bytes: a block.
const UNSENT_MIN: u32 = 16 * 1024;
/// To begin with.
const UNSENT_INITIAL: u32 = 64 * 1024;
/// The most, in bytes: no limit in effect.
const UNSENT_MAX: u32 = 4 * 1024 * 1024;
/// The kernel asks for more when half of it is sent. If it does so sooner than this, it takes twice as much from then on:
/// we might not be there in time.
const REFILL_MIN: Duration = Duration::from_millis(3);
/// If it takes longer than this, half as much.
const REFILL_MAX: Duration = Duration::from_millis(12);

/// The limit of one connection.
#[derive(Debug)]
pub(crate) struct UnsentLimit {
    bytes: u32,
    blocked_at: Option<Instant>,
}

impl UnsentLimit {
    /// For a new connection.
    pub(crate) fn new(stream: &TcpStream) -> UnsentLimit {
        let limit = UnsentLimit { bytes: UNSENT_INITIAL, blocked_at: None };
        limit.apply(stream);
        limit
    }

    /// The limit, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// The socket takes no more.
    pub(crate) fn on_blocked(&mut self) {
        self.blocked_at.get_or_insert_with(Instant::now);
    }

    /// The socket takes more again.
    pub(crate) fn on_writable(&mut self, stream: &TcpStream) {
        if let Some(since) = self.blocked_at.take()
            && self.adapt(since.elapsed())
        {
            self.apply(stream);
        }
    }

    /// Half of the limit was sent in this time. Whether it is another one from now on.
    fn adapt(&mut self, took: Duration) -> bool {
        let bytes = match took {
            took if took < REFILL_MIN => (self.bytes * 2).min(UNSENT_MAX),
            took if took > REFILL_MAX => (self.bytes / 2).max(UNSENT_MIN),
            _ => self.bytes,
        };
        std::mem::replace(&mut self.bytes, bytes) != bytes
    }

    /// Where the system knows no such limit, it takes what its buffers hold.
    fn apply(&self, stream: &TcpStream) {
        #[cfg(any(target_os = "android", target_os = "linux"))]
        if let Err(error) = SockRef::from(stream).set_tcp_notsent_lowat(self.bytes) {
            tracing::debug!(%error, "cannot limit the unsent bytes in the kernel");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit once a connection that sends so many bytes a second has settled.
    fn settled(bytes_per_s: u64) -> u32 {
        let mut limit = UnsentLimit { bytes: UNSENT_INITIAL, blocked_at: None };
        for _ in 0..100 {
            limit.adapt(Duration::from_micros(u64::from(limit.bytes / 2) * 1_000_000 / bytes_per_s));
        }
        limit.bytes
    }

    #[test]
    fn a_limit_is_worth_milliseconds_at_any_rate_within_bounds() {
        assert_eq!(settled(100_000), UNSENT_MIN);
        for rate in [2_000_000, 12_500_000, 125_000_000] {
            let ms = u64::from(settled(rate)) * 1_000 / rate;
            assert!((6..=24).contains(&ms), "{ms} ms at {rate} bytes/s");
        }
        assert_eq!(settled(10_000_000_000), UNSENT_MAX);
    }
}

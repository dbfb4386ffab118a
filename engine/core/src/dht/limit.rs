//! How much each source is answered, so that nobody makes us flood somebody else in its name.
//!
//! What counts is bytes sent, since that is what a forged source would suffer from. Two allowances: one for each host
//! (an address, or an IPv6 network), one for all together. Of each only the time is kept at which it will be whole
//! again; a host whose time has come is forgotten.

use crate::net::Host;
use crate::time::{Duration, Time};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Answers to one host, in bytes per second, in the long run: a few lookups a second.
pub const HOST_BYTES_PER_S: u64 = 1_024;
/// Answers to one host at once, in bytes. The last answer may exceed it.
pub const HOST_BURST_BYTES: u64 = 3_072;
/// Answers to everybody, in bytes per second, in the long run.
pub const TOTAL_BYTES_PER_S: u64 = 256 * 1_024;
/// Answers to everybody at once, in bytes.
pub const TOTAL_BURST_BYTES: u64 = 512 * 1_024;
/// Most hosts remembered. When there are more, only those known are limited one by one.
pub const HOSTS_MAX: usize = 4_096;

/// What answers may still cost.
#[derive(Default)]
pub(super) struct Allowance {
    hosts: BTreeMap<Host, Time>,
    total: Time,
}

/// How long `bytes` take at a rate.
fn cost(bytes: u64, rate_bytes_per_s: u64) -> Duration {
    Duration::from_micros(bytes * 1_000_000 / rate_bytes_per_s)
}

impl Allowance {
    /// Whether a query from `source` may be answered.
    pub(super) fn is_left(&self, now: Time, source: SocketAddr) -> bool {
        let host = self.hosts.get(&Host::of(source)).copied().unwrap_or_default();
        host.since(now) < cost(HOST_BURST_BYTES, HOST_BYTES_PER_S)
            && self.total.since(now) < cost(TOTAL_BURST_BYTES, TOTAL_BYTES_PER_S)
    }

    /// An answer of `bytes` was sent.
    pub(super) fn spend(&mut self, now: Time, source: SocketAddr, bytes: usize) {
        let bytes = bytes as u64;
        self.total = self.total.max(now) + cost(bytes, TOTAL_BYTES_PER_S);
        let host = Host::of(source);
        if self.hosts.len() >= HOSTS_MAX && !self.hosts.contains_key(&host) {
            return;
        }
        let whole_at = self.hosts.entry(host).or_default();
        *whole_at = (*whole_at).max(now) + cost(bytes, HOST_BYTES_PER_S);
    }

    /// Forgets hosts whose allowance is whole again. To be called every now and then.
    pub(super) fn expire(&mut self, now: Time) {
        self.hosts.retain(|_, whole_at| *whole_at > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn answered(allowance: &mut Allowance, now: Time, source: SocketAddr, bytes: usize) -> usize {
        (0..10_000)
            .take_while(|_| {
                let may = allowance.is_left(now, source);
                if may {
                    allowance.spend(now, source, bytes);
                }
                may
            })
            .count()
    }

    #[test]
    fn a_host_has_a_burst_and_then_a_rate() {
        let mut allowance = Allowance::default();
        let host: SocketAddr = "1.2.3.4:1".parse().unwrap();
        let now = Time::from_micros(1);
        assert_eq!(answered(&mut allowance, now, host, 300), 11);
        assert_eq!(answered(&mut allowance, now, "1.2.3.4:2".parse().unwrap(), 300), 0);
        assert_eq!(answered(&mut allowance, now, "1.2.3.5:1".parse().unwrap(), 300), 11);
        let later = now + Duration::from_secs(1);
        assert!((3..=4).contains(&answered(&mut allowance, later, host, 300)));
        allowance.expire(later + Duration::from_secs(3));
        assert_eq!(allowance.hosts.len(), 1, "only who has recovered is forgotten");
    }

    #[test]
    fn everybody_together_is_limited_and_memory_too() {
        let mut allowance = Allowance::default();
        let now = Time::from_micros(1);
        let hosts = (0..20_000u32).map(|n| SocketAddr::from((Ipv4Addr::from(0x0100_0000 + n), 1)));
        let sent: usize = hosts.map(|host| answered(&mut allowance, now, host, 1_000) * 1_000).sum();
        assert!(sent <= TOTAL_BURST_BYTES as usize + 1_000, "{sent} bytes");
        assert!(allowance.hosts.len() <= HOSTS_MAX);
    }
}

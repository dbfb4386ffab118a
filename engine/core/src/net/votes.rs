//! Our own address, as others see it: nodes of the DHT (BEP 42), and peers (`yourip`, BEP 10).

use super::{Host, is_local};
use crate::time::{Duration, Time};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

/// Votes that are remembered, one for each host.
const VOTES_MAX: usize = 16;
/// Votes that it takes; and more than half of those remembered.
const VOTES_NEEDED: usize = 6;
/// How long a decision stands.
const DECISION_TIME: Duration = Duration::from_secs(600);

/// What others have said.
#[derive(Debug, Default)]
pub(crate) struct ExternalIpVotes {
    votes: VecDeque<(Host, IpAddr)>,
    /// The last decision stands until then.
    decided_until: Option<Time>,
}

impl ExternalIpVotes {
    /// Counts what one host says. Returns an address on which most agree. What is said on a local network, or of one,
    /// is no address of the world, and no single host, however often it speaks, decides.
    pub(crate) fn cast(&mut self, now: Time, by: SocketAddr, ip: IpAddr) -> Option<IpAddr> {
        if is_local(by.ip()) || is_local(ip) {
            return None;
        }
        let host = Host::of(by);
        self.votes.retain(|(known, _)| *known != host);
        if self.votes.len() >= VOTES_MAX {
            self.votes.pop_front();
        }
        self.votes.push_back((host, ip));
        if self.decided_until.is_some_and(|until| now < until) {
            return None;
        }
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        self.votes.iter().for_each(|(_, ip)| *counts.entry(*ip).or_default() += 1);
        let (ip, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        if count < VOTES_NEEDED || count * 2 <= self.votes.len() {
            return None;
        }
        self.decided_until = Some(now + DECISION_TIME);
        Some(ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast(votes: &mut ExternalIpVotes, by: u8, ip: &str) -> Option<IpAddr> {
        votes.cast(Time::from_micros(1), SocketAddr::from(([9, 9, 9, by], 1)), ip.parse().unwrap())
    }

    #[test]
    fn an_external_ip_takes_several_hosts_that_agree() {
        let mut votes = ExternalIpVotes::default();
        for _ in 0..20 {
            assert_eq!(cast(&mut votes, 0, "1.1.1.1"), None, "one host has one vote");
        }
        for by in 1..6 {
            assert_eq!(cast(&mut votes, by, "2.2.2.2"), None);
        }
        assert_eq!(cast(&mut votes, 6, "2.2.2.2"), "2.2.2.2".parse().ok());
        assert_eq!(cast(&mut votes, 7, "2.2.2.2"), None, "decided for a while");
    }

    #[test]
    fn an_external_ip_is_not_local() {
        let mut votes = ExternalIpVotes::default();
        assert!((0..20).all(|by| cast(&mut votes, by, "192.168.0.1").is_none()));
    }
}

//! Connection ids that need no memory: whoever sends one back has got it at the address that it is for.

use std::net::IpAddr;

use sha2::{Digest, Sha256};
use swarm_core::time::{Duration, Time};
use swarm_core::tracker::udp::ConnectionId;

/// An id is valid in the window in which it was given and in the next: at least for the two minutes that BEP
/// 15 asks for, at most for four.
const WINDOW: Duration = Duration::from_secs(120);

/// Gives and checks connection ids.
pub(super) struct ConnectionIds {
    key: [u8; 16],
}

impl ConnectionIds {
    /// With a key that nobody else has. Ids of another key are not valid.
    pub fn new(key: [u8; 16]) -> ConnectionIds {
        ConnectionIds { key }
    }

    /// The id for a client at this address.
    pub fn give(&self, now: Time, source: IpAddr) -> ConnectionId {
        self.id(window(now), source)
    }

    /// Whether an id was given to this address a short while ago.
    pub fn are_valid(&self, now: Time, source: IpAddr, id: ConnectionId) -> bool {
        let window = window(now);
        id == self.id(window, source) || window.checked_sub(1).is_some_and(|last| id == self.id(last, source))
    }

    /// A keyed hash. Its input has one length only, so nobody can extend it, and fits one block. The port is
    /// not in it: some clients use another one for each request.
    fn id(&self, window: u64, source: IpAddr) -> ConnectionId {
        let ip = match source.to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let hash = Sha256::new()
            .chain_update(self.key)
            .chain_update(ip.octets())
            .chain_update(window.to_be_bytes())
            .finalize();
        let (first, _) = hash.split_first_chunk().expect("a hash has 32 bytes");
        ConnectionId(u64::from_be_bytes(*first))
    }
}

fn window(now: Time) -> u64 {
    now.since(Time::ZERO).as_secs() / WINDOW.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_id_is_valid_for_two_to_four_minutes() {
        let ids = ConnectionIds::new([1; 16]);
        for (given, until) in [(0, 239), (119, 239), (120, 359), (1000, 1199)] {
            let id = ids.give(at(given), ip("10.0.0.1"));
            let valid = |now| ids.are_valid(at(now), ip("10.0.0.1"), id);
            assert!(valid(given) && valid(given + 120) && valid(until), "{given}");
            assert!(!valid(until + 1) && !valid(until + 10_000), "{given}");
        }
    }

    #[test]
    fn an_id_is_for_one_address_and_of_one_key() {
        let ids = ConnectionIds::new([1; 16]);
        for (of, same, others) in [
            ("10.0.0.1", "::ffff:10.0.0.1", ["10.0.0.2", "::10.0.0.1"]),
            ("2001:db8::1", "2001:db8::1", ["2001:db8::2", "2001:db8:0:1::1"]),
        ] {
            let id = ids.give(at(0), ip(of));
            assert!(ids.are_valid(at(0), ip(same), id));
            for other in others {
                assert!(!ids.are_valid(at(0), ip(other), id), "{of} {other}");
            }
            assert!(!ConnectionIds::new([2; 16]).are_valid(at(0), ip(of), id));
        }
    }
}

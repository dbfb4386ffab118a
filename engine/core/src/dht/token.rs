//! Tokens: proof that who announces also receives at the address it claims (BEP 5).
//!
//! Nothing is stored. A token is a keyed hash of the address and of the time in steps, and is good for the step in
//! which it was given and the one after.

use crate::time::{Duration, Time};
use sha1::{Digest, Sha1};
use std::net::{IpAddr, SocketAddr};

/// A token is good for once to twice this long.
pub const TOKEN_STEP: Duration = Duration::from_secs(300);

const TOKEN_LEN: usize = 8;

/// Gives out tokens and knows them again.
#[derive(Clone)]
pub(super) struct Tokens {
    secret: [u8; 16],
}

impl Tokens {
    pub(super) fn new(secret: [u8; 16]) -> Tokens {
        Tokens { secret }
    }

    pub(super) fn issue(&self, now: Time, to: SocketAddr) -> Vec<u8> {
        self.token(step(now), to).to_vec()
    }

    pub(super) fn is_valid(&self, now: Time, from: SocketAddr, token: &[u8]) -> bool {
        let step = step(now);
        [Some(step), step.checked_sub(1)].into_iter().flatten().any(|step| self.token(step, from) == token)
    }

    fn token(&self, step: u64, addr: SocketAddr) -> [u8; TOKEN_LEN] {
        let ip = match addr.ip().to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let hash = Sha1::new()
            .chain_update(self.secret)
            .chain_update(step.to_be_bytes())
            .chain_update(ip.octets())
            .finalize();
        std::array::from_fn(|i| hash[i])
    }
}

fn step(now: Time) -> u64 {
    now.since(Time::ZERO).as_secs() / TOKEN_STEP.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_address_and_for_a_while() {
        let tokens = Tokens::new([1; 16]);
        let addr: SocketAddr = "1.2.3.4:5".parse().unwrap();
        let (other_port, other): (SocketAddr, SocketAddr) =
            ("1.2.3.4:6".parse().unwrap(), "1.2.3.5:5".parse().unwrap());
        for start in [0, 1, 299, 300, 12_345] {
            let given = Time::ZERO + Duration::from_secs(start);
            let token = tokens.issue(given, addr);
            assert!(tokens.is_valid(given, addr, &token));
            assert!(tokens.is_valid(given + TOKEN_STEP, other_port, &token), "given at {start} s");
            assert!(!tokens.is_valid(given + 2 * TOKEN_STEP, addr, &token), "given at {start} s");
            assert!(!tokens.is_valid(given, other, &token));
            assert!(!Tokens::new([2; 16]).is_valid(given, addr, &token), "another node's");
        }
        assert!(!tokens.is_valid(Time::ZERO, addr, b"aoeusnth"));
        assert!(!tokens.is_valid(Time::ZERO, addr, b""));
    }
}

//! Tokens: proof that who announces also receives at the address it claims (BEP 5).
//!
//! No token is stored. Each is a keyed hash of the address and of a generation, which changes every [`TOKEN_STEP`]; the
//! present generation and the one before are good.

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
    generation: u64,
    next_generation_at: Time,
}

impl Tokens {
    pub(super) fn new(now: Time, secret: [u8; 16]) -> Tokens {
        Tokens { secret, generation: 1, next_generation_at: now + TOKEN_STEP }
    }

    pub(super) fn issue(&mut self, now: Time, to: SocketAddr) -> Vec<u8> {
        self.renew(now);
        self.token(self.generation, to).to_vec()
    }

    pub(super) fn check(&mut self, now: Time, from: SocketAddr, token: &[u8]) -> bool {
        self.renew(now);
        [self.generation, self.generation - 1].iter().any(|generation| self.token(*generation, from) == token)
    }

    fn renew(&mut self, now: Time) {
        if now < self.next_generation_at {
            return;
        }
        // After a long silence both old generations are over.
        let is_late = now >= self.next_generation_at + TOKEN_STEP;
        self.generation += if is_late { 2 } else { 1 };
        self.next_generation_at = if is_late { now } else { self.next_generation_at } + TOKEN_STEP;
    }

    fn token(&self, generation: u64, addr: SocketAddr) -> [u8; TOKEN_LEN] {
        let ip = match addr.ip().to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let hash = Sha1::new()
            .chain_update(self.secret)
            .chain_update(generation.to_be_bytes())
            .chain_update(ip.octets())
            .finalize();
        std::array::from_fn(|i| hash[i])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_address_and_for_a_while() {
        let started = Time::from_micros(1);
        let addr: SocketAddr = "1.2.3.4:5".parse().unwrap();
        let (other_port, other): (SocketAddr, SocketAddr) =
            ("1.2.3.4:6".parse().unwrap(), "1.2.3.5:5".parse().unwrap());
        for after_s in [0, 1, 299, 300, 599, 12_345] {
            // Whether or not others come meanwhile.
            for steps in [1, 2, 60] {
                let mut tokens = Tokens::new(started, [1; 16]);
                let given = started + Duration::from_secs(after_s);
                let token = tokens.issue(given, addr);
                assert!(tokens.check(given, addr, &token));
                assert!(!tokens.check(given, other, &token));
                assert!(!tokens.check(given, addr, b"aoeusnth") && !tokens.check(given, addr, b""));
                assert!(!Tokens::new(started, [2; 16]).check(given, addr, &token), "another node's");
                (1..steps).for_each(|n| drop(tokens.issue(given + TOKEN_STEP * n / steps, other)));
                assert!(tokens.check(given + TOKEN_STEP, other_port, &token), "given at {after_s} s");
                (1..steps).for_each(|n| drop(tokens.issue(given + TOKEN_STEP * (n + steps) / steps, other)));
                assert!(!tokens.check(given + 2 * TOKEN_STEP, addr, &token), "given at {after_s} s");
            }
        }
    }
}

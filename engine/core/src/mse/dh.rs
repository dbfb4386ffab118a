//! The Diffie-Hellman exchange: a 768-bit prime, generator 2, secret exponents of 160 bits, in constant time.

use super::error::MseError;
use crypto_bigint::modular::ConstMontyForm;
use crypto_bigint::{U192, U768, const_monty_params};

/// Bytes of a public key, and of the shared secret. Leading zeros are kept.
pub const KEY_LEN: usize = 96;
/// Bits of a secret exponent.
const EXPONENT_BITS: u32 = 160;

const_monty_params!(
    Prime,
    U768,
    "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a63a36210000000000090563"
);

type Residue = ConstMontyForm<Prime, { U768::LIMBS }>;

/// A secret exponent. It must be new for each connection, and come from the system's randomness.
#[derive(Clone)]
pub struct PrivateKey(U192);

impl PrivateKey {
    /// From random bytes.
    pub fn new(random: [u8; 20]) -> PrivateKey {
        let mut bytes = [0; 24];
        bytes[4..].copy_from_slice(&random);
        PrivateKey(U192::from_be_slice(&bytes))
    }

    /// The public key that belongs to it. Takes some tens of microseconds.
    pub fn public(&self) -> PublicKey {
        PublicKey(power(&U768::from_u8(2), self))
    }

    fn agree(&self, theirs: &PublicKey) -> SharedSecret {
        SharedSecret(to_bytes(&power(&theirs.0, self)))
    }
}

/// What is sent to the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(U768);

impl PublicKey {
    /// As it came from a peer.
    ///
    /// # Errors
    /// [`MseError::PublicKey`] if it is 0, 1, p - 1 or not below p: then everybody would know the secret.
    pub fn from_bytes(bytes: &[u8; KEY_LEN]) -> Result<PublicKey, MseError> {
        let key = U768::from_be_slice(bytes);
        let last = Residue::MODULUS.as_ref().wrapping_sub(&U768::ONE);
        if key <= U768::ONE || key >= last { Err(MseError::PublicKey) } else { Ok(PublicKey(key)) }
    }

    /// As it goes over the wire.
    pub fn to_bytes(&self) -> [u8; KEY_LEN] {
        to_bytes(&self.0)
    }
}

/// A secret exponent and its public key.
#[derive(Clone)]
pub struct KeyPair {
    pub(super) private: PrivateKey,
    pub(super) public: PublicKey,
}

impl KeyPair {
    /// The pair of a secret exponent. Takes as long as [`PrivateKey::public`].
    pub fn new(private: PrivateKey) -> KeyPair {
        KeyPair { public: private.public(), private }
    }
}

/// What both sides know in the end.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedSecret(pub(super) [u8; KEY_LEN]);

/// Work that takes about a tenth of a millisecond: agreeing on a secret.
#[derive(Clone)]
pub struct Agreement {
    pub(super) ours: PrivateKey,
    /// Our public key, if it has been worked out.
    pub(super) public: Option<PublicKey>,
    pub(super) theirs: PublicKey,
}

/// What it comes to.
pub struct Agreed {
    pub(super) public: PublicKey,
    pub(super) secret: SharedSecret,
}

impl Agreement {
    /// Does the work.
    pub fn work_out(self) -> Agreed {
        let secret = self.ours.agree(&self.theirs);
        Agreed { public: self.public.unwrap_or_else(|| self.ours.public()), secret }
    }
}

impl std::fmt::Debug for Agreement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agreement").finish_non_exhaustive()
    }
}

fn power(base: &U768, exponent: &PrivateKey) -> U768 {
    Residue::new(base).pow_bounded_exp(&exponent.0, EXPONENT_BITS).retrieve()
}

fn to_bytes(number: &U768) -> [u8; KEY_LEN] {
    let mut bytes = [0; KEY_LEN];
    let words = number.to_be_bytes();
    bytes.copy_from_slice(words.as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_hex(text: &str) -> U768 {
        U768::from_be_hex(&format!("{text:0>192}"))
    }

    #[test]
    fn powers_of_two_are_what_they_are() {
        let mut exponent = [0; 20];
        exponent[19] = 10;
        let key = PrivateKey::new(exponent).public().to_bytes();
        assert_eq!(key[94..], [4, 0]);
        assert!(key[..94].iter().all(|&byte| byte == 0), "leading zeros are kept");
        // 2^767 is below p, and 2^768 is not.
        let mut power = |high, low| {
            exponent[18..].copy_from_slice(&[high, low]);
            PrivateKey::new(exponent).public().0
        };
        assert_eq!(power(0x02, 0xff), U768::ONE.shl(767));
        assert_eq!(power(0x03, 0x00), Residue::MODULUS.as_ref().wrapping_neg());
    }

    #[test]
    fn keys_that_would_give_the_secret_away_are_refused() {
        let prime = *Residue::MODULUS.as_ref();
        let from = |key: U768| PublicKey::from_bytes(&to_bytes(&key));
        for bad in [U768::ZERO, U768::ONE, prime.wrapping_sub(&U768::ONE), prime, U768::MAX] {
            assert_eq!(from(bad), Err(MseError::PublicKey));
        }
        for good in [from_hex("2"), prime.wrapping_sub(&U768::from_u8(2))] {
            assert!(from(good).is_ok());
        }
    }

    #[test]
    fn both_sides_agree_also_where_numbers_begin_with_zeros() {
        let mut short = false;
        for n in 0..200u8 {
            let [a, b] = [[n; 20], [n ^ 0x5a; 20]].map(|bytes| KeyPair::new(PrivateKey::new(bytes)));
            if a.public == b.public || n == 0 || n == 0x5a {
                continue;
            }
            let secret = a.private.agree(&b.public);
            assert!(secret == b.private.agree(&a.public));
            short |= secret.0[0] == 0;
        }
        assert!(short, "one of these secrets begins with a zero");
    }
}

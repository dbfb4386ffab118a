//! RC4 as MSE uses it, and the hashes that its keys come from.

use super::dh::SharedSecret;
use super::rc4::Rc4;
use crate::id::InfoHash;
use sha1::{Digest, Sha1};

/// How much of the keystream is thrown away.
const DISCARDED: usize = 1024;

/// What names a torrent in a handshake: `HASH('req2', info-hash)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObfuscatedHash(pub [u8; 20]);

impl ObfuscatedHash {
    /// Of this torrent.
    pub fn of(info_hash: InfoHash) -> ObfuscatedHash {
        ObfuscatedHash(hash(&[b"req2", &info_hash.0]))
    }
}

pub(super) fn hash(parts: &[&[u8]]) -> [u8; 20] {
    let mut hasher = Sha1::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

/// One direction of a stream: the same enciphers and deciphers.
pub struct Cipher(Rc4);

impl Cipher {
    /// With this key, its first 1,024 bytes thrown away.
    ///
    /// # Panics
    /// If the key is empty or longer than 256 bytes.
    pub fn new(key: &[u8]) -> Cipher {
        let mut cipher = Rc4::new(key);
        cipher.apply(&mut [0; DISCARDED]);
        Cipher(cipher)
    }

    /// The key of one direction: `name` is `keyA` from the one that dials, `keyB` to it.
    pub(super) fn derive(name: &[u8; 4], secret: &SharedSecret, info_hash: InfoHash) -> Cipher {
        Cipher::new(&hash(&[name, &secret.0, &info_hash.0]))
    }

    /// Transforms bytes in place.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        self.0.apply(bytes);
    }

    /// Transforms bytes on their way to another place.
    ///
    /// # Panics
    /// If the two are not equally long.
    pub fn apply_to(&mut self, from: &[u8], to: &mut [u8]) {
        self.0.apply_to(from, to);
    }
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cipher").finish_non_exhaustive()
    }
}

/// What comes from the peer: enciphered to the end, or as far as it has said.
#[derive(Debug)]
pub struct Decipher {
    cipher: Cipher,
    left: Option<usize>,
}

impl Decipher {
    /// `left`: how many bytes are enciphered, if not all.
    pub(super) fn new(cipher: Cipher, left: Option<usize>) -> Decipher {
        Decipher { cipher, left }
    }

    /// Deciphers the next bytes in place.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        let len = self.left.map_or(bytes.len(), |left| left.min(bytes.len()));
        self.cipher.apply(&mut bytes[..len]);
        self.left = self.left.map(|left| left - len);
    }

    /// Whether all that comes from now on is plain.
    pub fn is_over(&self) -> bool {
        self.left == Some(0)
    }
}

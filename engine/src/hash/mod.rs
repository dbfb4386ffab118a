//! Hashing of pieces, over blocks in memory and over mapped files, and the threads that do it.
//!
//! A piece by itself goes through [`PieceHasher`], many at once through [`lanes`]. The crates `sha1` and `sha2` pick the processor's
//! SHA instructions by themselves where they exist.

#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(crate) mod guard;
pub mod lanes;
pub(crate) mod piece;
mod workers;

pub use piece::{PieceHasher, piece_hash};
pub use workers::{Job, Lane, Workers};

use sha1::Digest as _;

/// A SHA-1 digest.
pub type Digest = [u8; 20];

/// SHA-1 of a message that comes in parts.
#[derive(Clone, Debug, Default)]
pub struct Sha1(sha1::Sha1);

impl Sha1 {
    /// Adds the next part.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// The digest of all parts.
    pub fn finish(self) -> Digest {
        self.0.finalize().into()
    }
}

/// SHA-1 of the concatenation of `parts`.
pub fn sha1<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut hasher = Sha1::default();
    parts.into_iter().for_each(|part| hasher.update(part));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hash_as_their_concatenation() {
        // FIPS 180-4, "abc".
        let abc = *b"\xa9\x99\x3e\x36\x47\x06\x81\x6a\xba\x3e\x25\x71\x78\x50\xc2\x6c\x9c\xd0\xd8\x9d";
        assert_eq!(sha1([&b"a"[..], b"", b"bc"]), abc);
        assert_eq!(sha1([&b"abc"[..]]), abc);
    }
}

//! What goes wrong in handshakes.

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MseError {
    /// No secret can be agreed on with it: 0, 1, p - 1, or no number below the prime.
    #[error("not a key of an encrypted handshake")]
    PublicKey,
    /// What must follow a pad has not come where it must be.
    #[error("not an encrypted handshake")]
    NoSync,
    /// Nothing with this hash is here, or the peer took another torrent for the one that is meant.
    #[error("no such torrent here")]
    NoSuchTorrent,
    /// The verification constant is not zero.
    #[error("the encrypted handshake is for another torrent")]
    Verification,
    /// A pad is longer than it may be.
    #[error("a pad of {0} bytes in an encrypted handshake")]
    PadLength(u16),
    /// The peer offers no method that we take.
    #[error("no method of encryption in common: the peer offers {0:#x}")]
    NoMethod(u32),
    /// The peer has chosen something that it was not offered, or more than one thing.
    #[error("the peer chose a method of encryption that was not offered: {0:#x}")]
    NotOffered(u32),
}

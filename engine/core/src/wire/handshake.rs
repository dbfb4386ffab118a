//! The 68 bytes that open a connection (BEP 3).

use crate::id::{InfoHash, PeerId};
use std::ops::BitOr;

/// Bytes of a handshake.
pub const HANDSHAKE_LEN: usize = 68;

/// The length of the protocol's name, and the name.
const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";

/// Where the info-hash ends; an acceptor can answer from here on.
const INFO_HASH_END: usize = 48;

/// The eight reserved bytes, in which a peer says what it can do beyond BEP 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved(u64);

impl Reserved {
    /// A DHT node that listens where a PORT message says (BEP 5).
    pub const DHT: Reserved = Reserved(1);
    /// The fast extension (BEP 6): HAVE ALL, HAVE NONE, SUGGEST, REJECT, ALLOWED FAST.
    pub const FAST: Reserved = Reserved(1 << 2);
    /// In a handshake with the SHA-1 info-hash of a hybrid torrent: the sender knows version 2 too, and the answer may name that hash
    /// (BEP 52).
    pub const V2: Reserved = Reserved(1 << 4);
    /// Extension messages (BEP 10).
    pub const EXTENSION: Reserved = Reserved(1 << 20);

    /// The bits as they were received.
    pub const fn from_bytes(bytes: [u8; 8]) -> Reserved {
        Reserved(u64::from_be_bytes(bytes))
    }

    /// As they go over the wire.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// Without the bits of `other`.
    pub const fn without(self, other: Reserved) -> Reserved {
        Reserved(self.0 & !other.0)
    }

    /// Whether every bit of `other` is set.
    pub const fn contains(self, other: Reserved) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Reserved {
    type Output = Reserved;
    fn bitor(self, rhs: Reserved) -> Reserved {
        Reserved(self.0 | rhs.0)
    }
}

/// What each side says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// What the sender can do. A feature is in use when both sides have its bit.
    pub reserved: Reserved,
    /// The torrent.
    pub info_hash: InfoHash,
    /// Who the sender is.
    pub peer_id: PeerId,
}

/// Why what a peer sent first is not a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// It does not start with the protocol's name: another protocol, or an encrypted connection.
    #[error("not a plain BitTorrent handshake")]
    Protocol,
}

impl Handshake {
    /// As it goes over the wire.
    pub fn encode(&self) -> [u8; HANDSHAKE_LEN] {
        let mut out = [0; HANDSHAKE_LEN];
        out[..20].copy_from_slice(PROTOCOL);
        out[20..28].copy_from_slice(&self.reserved.to_bytes());
        out[28..INFO_HASH_END].copy_from_slice(&self.info_hash.0);
        out[INFO_HASH_END..].copy_from_slice(&self.peer_id.0);
        out
    }

    /// The handshake in the first [`HANDSHAKE_LEN`] bytes, or `None` when more must arrive first.
    ///
    /// # Errors
    /// As soon as the first bytes are not those of the protocol.
    pub fn decode(buf: &[u8]) -> Result<Option<Handshake>, HandshakeError> {
        let Some(info_hash) = Handshake::decode_info_hash(buf)? else { return Ok(None) };
        Ok(bytes_at(buf, 20).zip(bytes_at(buf, INFO_HASH_END)).map(|(reserved, peer_id)| Handshake {
            reserved: Reserved::from_bytes(reserved),
            info_hash,
            peer_id: PeerId(peer_id),
        }))
    }

    /// The info-hash and the reserved bytes, as [`decode_info_hash`](Handshake::decode_info_hash) finds the first.
    ///
    /// # Errors
    /// As soon as the first bytes are not those of the protocol.
    pub fn decode_front(buf: &[u8]) -> Result<Option<(InfoHash, Reserved)>, HandshakeError> {
        let info_hash = Handshake::decode_info_hash(buf)?;
        Ok(info_hash.zip(bytes_at(buf, 20).map(Reserved::from_bytes)))
    }

    /// The info-hash alone, which is there before the peer id. An acceptor needs no more to choose the
    /// torrent and to answer; a peer that only asks who listens (a NAT check) sends no more until then.
    ///
    /// # Errors
    /// As soon as the first bytes are not those of the protocol.
    pub fn decode_info_hash(buf: &[u8]) -> Result<Option<InfoHash>, HandshakeError> {
        if buf.iter().zip(PROTOCOL).any(|(got, want)| got != want) {
            return Err(HandshakeError::Protocol);
        }
        Ok(bytes_at(buf, 28).map(InfoHash))
    }
}

/// The `N` bytes from `at` on, if they are there.
fn bytes_at<const N: usize>(buf: &[u8], at: usize) -> Option<[u8; N]> {
    buf.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOTH: Reserved = Reserved(0b100 | 1 << 20);

    fn sample() -> Handshake {
        Handshake { reserved: BOTH, info_hash: InfoHash([7; 20]), peer_id: PeerId(*b"-SW0100-abcdefghijkl") }
    }

    #[test]
    fn the_bits_lie_where_the_specifications_put_them() {
        let set = |bit: Reserved, byte: usize| bit.to_bytes()[byte];
        assert_eq!(set(Reserved::DHT, 7), 0x01);
        assert_eq!(set(Reserved::FAST, 7), 0x04);
        assert_eq!(set(Reserved::EXTENSION, 5), 0x10);
        assert_eq!(set(Reserved::V2, 7), 0x10);
        assert_eq!(Reserved::FAST | Reserved::EXTENSION, BOTH);
        assert!(BOTH.contains(Reserved::FAST));
        assert!(!BOTH.contains(Reserved::DHT));
    }

    #[test]
    fn byte_by_byte_the_info_hash_comes_first() {
        let bytes = sample().encode();
        for len in 0..=HANDSHAKE_LEN {
            let info_hash = Handshake::decode_info_hash(&bytes[..len]).unwrap();
            assert_eq!(info_hash, (len >= 48).then_some(InfoHash([7; 20])), "{len} bytes");
            let whole = Handshake::decode(&bytes[..len]).unwrap();
            assert_eq!(whole, (len == HANDSHAKE_LEN).then_some(sample()), "{len} bytes");
        }
    }

    #[test]
    fn another_protocol_is_refused_at_its_first_byte() {
        assert_eq!(Handshake::decode(b"GET / HTTP/1.1"), Err(HandshakeError::Protocol));
        assert_eq!(Handshake::decode(b"\x13BitTorrent Protocol"), Err(HandshakeError::Protocol));
        assert_eq!(Handshake::decode(b"\x14"), Err(HandshakeError::Protocol));
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(
            reserved: [u8; 8], info_hash: [u8; 20], peer_id: [u8; 20], after: [u8; 5],
        ) {
            let sent = Handshake {
                reserved: Reserved::from_bytes(reserved),
                info_hash: InfoHash(info_hash),
                peer_id: PeerId(peer_id),
            };
            let bytes = [&sent.encode()[..], &after].concat();
            prop_assert_eq!(Handshake::decode(&bytes), Ok(Some(sent)));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Handshake::decode(&bytes);
        }
    }
}

//! Messages that pass the info dictionary from peer to peer (BEP 9).
//!
//! The dictionary travels in pieces of 16 KiB. A message is a small dictionary; in a
//! data message the bytes follow it, outside of the bencoding.

use super::decode::EXTENDED_LEN_MAX;
use crate::bencode::{self, BencodeError, Limits, Value, emit_some};

/// The length of every piece of the metadata but the last, in bytes.
pub const METADATA_PIECE_LEN: u32 = 16 * 1024;

const LIMITS: Limits = Limits { depth_max: 8, tokens_max: 100, input_len_max: EXTENDED_LEN_MAX as usize };

/// A message of the metadata exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataMessage<'a> {
    /// "Send me this piece."
    Request(u32),
    /// "Here it is."
    Data {
        /// Which.
        piece: u32,
        /// Bytes in the whole metadata, as the sender says.
        total_size: u32,
        /// The piece's bytes.
        bytes: &'a [u8],
    },
    /// "I do not send it."
    Reject(u32),
}

impl<'a> MetadataMessage<'a> {
    /// The payload of an [`Extension::Metadata`](super::extension::Extension::Metadata) message.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, piece, total_size, bytes) = match *self {
            MetadataMessage::Request(piece) => (0, piece, None, &[][..]),
            MetadataMessage::Data { piece, total_size, bytes } => (1, piece, Some(total_size), bytes),
            MetadataMessage::Reject(piece) => (2, piece, None, &[][..]),
        };
        let mut payload = bencode::write_dict(|mut e| {
            e.emit_pair(b"msg_type", kind)?;
            e.emit_pair(b"piece", piece)?;
            emit_some(&mut e, b"total_size", total_size)
        });
        payload.extend_from_slice(bytes);
        payload
    }

    /// Reads a payload. `None` for a kind of message that BEP 9 does not know, which is to be ignored, and for one
    /// without what its kind needs.
    ///
    /// # Errors
    /// When it does not begin with a bencoded value.
    pub fn decode(payload: &'a [u8]) -> Result<Option<MetadataMessage<'a>>, BencodeError> {
        let (document, used) = bencode::parse_prefix(payload, &LIMITS)?;
        let root = document.root();
        let number = |key: &[u8]| root.get(key).and_then(Value::as_int).and_then(|n| u32::try_from(n).ok());
        let Some(piece) = number(b"piece") else { return Ok(None) };
        Ok(match (number(b"msg_type"), number(b"total_size")) {
            (Some(0), _) => Some(MetadataMessage::Request(piece)),
            (Some(1), Some(total_size)) => {
                Some(MetadataMessage::Data { piece, total_size, bytes: &payload[used..] })
            }
            (Some(2), _) => Some(MetadataMessage::Reject(piece)),
            _ => None,
        })
    }
}

/// How many pieces there are in metadata of this many bytes.
pub const fn metadata_pieces(size: u32) -> u32 {
    size.div_ceil(METADATA_PIECE_LEN)
}

/// Where this piece lies in metadata of this many bytes; `None` if there is no such piece.
pub fn metadata_range(size: u32, piece: u32) -> Option<std::ops::Range<usize>> {
    let start = piece.checked_mul(METADATA_PIECE_LEN).filter(|&start| start < size)?;
    Some(start as usize..size.min(start.saturating_add(METADATA_PIECE_LEN)) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_bep_9() {
        let request = b"d8:msg_typei0e5:piecei0ee";
        assert_eq!(MetadataMessage::decode(request), Ok(Some(MetadataMessage::Request(0))));
        assert_eq!(MetadataMessage::Request(0).encode(), request);
        let data = MetadataMessage::Data { piece: 0, total_size: 34256, bytes: b"xxxxxxxx" };
        assert_eq!(data.encode(), b"d8:msg_typei1e5:piecei0e10:total_sizei34256eexxxxxxxx");
        assert_eq!(MetadataMessage::Reject(0).encode(), b"d8:msg_typei2e5:piecei0ee");
    }

    #[test]
    fn what_is_unknown_or_incomplete_is_ignored() {
        for payload in ["d8:msg_typei3e5:piecei0ee", "d8:msg_typei1e5:piecei0ee", "d8:msg_typei0ee", "le"] {
            assert_eq!(MetadataMessage::decode(payload.as_bytes()), Ok(None), "{payload}");
        }
        for piece in ["-1", "4294967296"] {
            let payload = format!("d8:msg_typei0e5:piecei{piece}ee");
            assert_eq!(MetadataMessage::decode(payload.as_bytes()), Ok(None), "{payload}");
        }
        assert!(MetadataMessage::decode(b"").is_err());
        assert!(MetadataMessage::decode(b"d8:msg_type").is_err());
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(
            piece: u32, total_size: u32, bytes: Vec<u8>, kind in 0..3,
        ) {
            let message = match kind {
                0 => MetadataMessage::Request(piece),
                1 => MetadataMessage::Data { piece, total_size, bytes: &bytes },
                _ => MetadataMessage::Reject(piece),
            };
            let payload = message.encode();
            prop_assert_eq!(MetadataMessage::decode(&payload), Ok(Some(message)));
        }

        #[test]
        fn no_bytes_are_too_odd(payload: Vec<u8>) {
            let _ = MetadataMessage::decode(&payload);
        }

        #[test]
        fn the_pieces_cover_the_metadata(size in 1u32..1_000_000) {
            let mut end = 0;
            for piece in 0..metadata_pieces(size) {
                let range = metadata_range(size, piece).unwrap();
                prop_assert_eq!(range.start, end);
                prop_assert!(range.len() <= METADATA_PIECE_LEN as usize && !range.is_empty());
                end = range.end;
            }
            prop_assert_eq!(end, size as usize);
            prop_assert_eq!(metadata_range(size, metadata_pieces(size)), None);
            prop_assert_eq!(metadata_range(size, u32::MAX), None);
        }
    }
}

//! Bytes to messages, with a limit for each.
//!
//! [`decode`] keeps no state: it looks at what has arrived and either returns one message and
//! its length, or says that more must come. The length prefix and the id are judged as soon as
//! they are there, so a peer never makes us wait, or find room, for a body that we would refuse.

use super::message::{Hashes, Message, PIECE_HEADER_LEN, RANGE_LEN, id};
use crate::geometry::BLOCK_LEN;
use crate::id::{BlockRef, PieceIndex};
use crate::merkle::{HASHES_MAX, HashRange, Node};
use std::ops::RangeInclusive;

/// The longest block that we accept, in bytes: we never ask for more.
pub const BLOCK_LEN_MAX: u32 = BLOCK_LEN;

/// The longest payload of an extension message, in bytes. The largest in use are a metadata piece
/// (16 KiB, BEP 9) and a first list of peers (BEP 11), which is far below.
pub const EXTENDED_LEN_MAX: u32 = 64 * 1024;

/// The longest BITFIELD while the number of pieces is unknown, in bytes: four million pieces.
pub const BITFIELD_LEN_MAX: u32 = 512 * 1024;

/// The longest message, id included, while the number of pieces is unknown, in bytes.
pub const MESSAGE_LEN_MAX: u32 = 1 + BITFIELD_LEN_MAX;

/// Hashes that prove what a HASHES says: at most one for each layer.
const PROOF_LEN_MAX: u32 = 32;

/// The length of a message that says a range of hashes and no more, id included.
const RANGE_ONLY: u32 = 1 + RANGE_LEN as u32;

/// What a decoder accepts on one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeLimits {
    /// The exact length of a BITFIELD's payload in bytes, or `None` while the number of pieces is
    /// unknown; then up to [`BITFIELD_LEN_MAX`].
    pub bitfield_len: Option<u32>,
    /// How many hashes of one layer a HASHES may have, at most [`HASHES_MAX`]; their proof comes on top. `None` for a torrent of version
    /// 1, where there are no messages about hashes.
    pub hashes: Option<u32>,
}

impl DecodeLimits {
    /// The limits for a torrent of `pieces` pieces.
    pub fn for_pieces(pieces: u32) -> DecodeLimits {
        DecodeLimits { bitfield_len: Some(pieces.div_ceil(8)), hashes: None }
    }

    /// The same with messages about hashes, of which this many of one layer are asked for at a time.
    pub fn with_hashes(self, count: u32) -> DecodeLimits {
        DecodeLimits { hashes: Some(count), ..self }
    }

    /// The longest HASHES, id included; `None` if there are none.
    fn hashes_len_max(&self) -> Option<u32> {
        let count = self.hashes?.min(HASHES_MAX) + PROOF_LEN_MAX;
        Some(1 + RANGE_LEN as u32 + count * size_of::<Node>() as u32)
    }

    /// The longest message that any id allows, in bytes after the length prefix.
    fn message_len_max(&self) -> u32 {
        let len_max =
            self.bitfield_len.map_or(MESSAGE_LEN_MAX, |len| len.saturating_add(1).max(2 + EXTENDED_LEN_MAX));
        len_max.max(self.hashes_len_max().unwrap_or(0))
    }
}

/// One message from the front of the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A whole message.
    Message(Message),
    /// The header of a PIECE message; the next `len` bytes of the stream are the block.
    Block(BlockRef),
}

/// Why what a peer sent is not a message: a reason to close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The message is longer than any of its kind may be. `message` is `"message"` while only the
    /// length has arrived.
    #[error("{message} of {len} bytes is longer than {max}")]
    TooLong {
        /// The kind of message.
        message: &'static str,
        /// The length that it announces, in bytes after the length prefix.
        len: u32,
        /// The longest accepted, likewise.
        max: u32,
    },
    /// The message must have a fixed or a least length, and does not.
    #[error("{message} message has the wrong length of {len} bytes")]
    BadLength {
        /// The kind of message.
        message: &'static str,
        /// The length that it announces, in bytes after the length prefix.
        len: u32,
    },
    /// No specification that we follow defines the message. Anything new travels inside extension
    /// messages (BEP 10), so such a peer is broken or out of step; we close, as libtorrent does.
    #[error("undefined message id {id}")]
    UnknownMessage {
        /// The id.
        id: u8,
    },
}

/// Takes one message from the front of `buf`. Returns it and how many bytes it took, or `None` when
/// more bytes must arrive first. Of a PIECE message only the [`PIECE_HEADER_LEN`] bytes of its header
/// are taken: moving the block that follows is up to the caller.
///
/// # Errors
/// What arrived can never become an acceptable message. Nothing after it can be understood either.
pub fn decode(buf: &[u8], limits: &DecodeLimits) -> Result<Option<(Decoded, usize)>, WireError> {
    let Some(len) = word(buf, 0) else { return Ok(None) };
    if len == 0 {
        return Ok(Some((Decoded::Message(Message::KeepAlive), 4)));
    }
    let max = limits.message_len_max();
    if len > max {
        return Err(WireError::TooLong { message: "message", len, max });
    }
    let Some(&id) = buf.get(4) else { return Ok(None) };
    check_len(id, len, limits)?;
    if id == id::PIECE {
        let (Some(piece), Some(begin)) = (word(buf, 5), word(buf, 9)) else { return Ok(None) };
        let block = BlockRef { piece: PieceIndex(piece), begin, len: len - 9 };
        return Ok(Some((Decoded::Block(block), PIECE_HEADER_LEN)));
    }
    let end = 4 + len as usize;
    let Some(body) = buf.get(5..end) else { return Ok(None) };
    let message = message(id, body).ok_or(WireError::UnknownMessage { id })?;
    Ok(Some((Decoded::Message(message), end)))
}

/// How long the message at the front of `buf` is in all, of which [`decode`] has just said that more must come; `None` while that is not known,
/// and for a PIECE message, whose block goes elsewhere.
pub fn message_len(buf: &[u8]) -> Option<usize> {
    buf.get(4).filter(|&&id| id != id::PIECE)?;
    Some(4 + word(buf, 0)? as usize)
}

/// The name of the messages with this id, and how long they may be, id included.
fn lengths(id: u8, limits: &DecodeLimits) -> Option<(&'static str, RangeInclusive<u32>)> {
    Some(match id {
        id::CHOKE => ("choke", 1..=1),
        id::UNCHOKE => ("unchoke", 1..=1),
        id::INTERESTED => ("interested", 1..=1),
        id::NOT_INTERESTED => ("not interested", 1..=1),
        id::HAVE => ("have", 5..=5),
        id::BITFIELD => match limits.bitfield_len {
            Some(len) => ("bitfield", len.saturating_add(1)..=len.saturating_add(1)),
            None => ("bitfield", 1..=1 + BITFIELD_LEN_MAX),
        },
        id::REQUEST => ("request", 13..=13),
        id::PIECE => ("piece", 10..=9 + BLOCK_LEN_MAX),
        id::CANCEL => ("cancel", 13..=13),
        id::PORT => ("port", 3..=3),
        id::SUGGEST => ("suggest", 5..=5),
        id::HAVE_ALL => ("have all", 1..=1),
        id::HAVE_NONE => ("have none", 1..=1),
        id::REJECT => ("reject", 13..=13),
        id::ALLOWED_FAST => ("allowed fast", 5..=5),
        id::EXTENDED => ("extended", 2..=2 + EXTENDED_LEN_MAX),
        id::HASH_REQUEST if limits.hashes.is_some() => ("hash request", RANGE_ONLY..=RANGE_ONLY),
        id::HASHES => ("hashes", RANGE_ONLY + size_of::<Node>() as u32..=limits.hashes_len_max()?),
        id::HASH_REJECT if limits.hashes.is_some() => ("hash reject", RANGE_ONLY..=RANGE_ONLY),
        _ => return None,
    })
}

fn check_len(id: u8, len: u32, limits: &DecodeLimits) -> Result<(), WireError> {
    let (message, allowed) = lengths(id, limits).ok_or(WireError::UnknownMessage { id })?;
    let (min, max) = (*allowed.start(), *allowed.end());
    let is_whole = || id != id::HASHES || (len - RANGE_ONLY).is_multiple_of(size_of::<Node>() as u32);
    if allowed.contains(&len) && is_whole() {
        Ok(())
    } else if len > max && min < max {
        Err(WireError::TooLong { message, len, max })
    } else {
        Err(WireError::BadLength { message, len })
    }
}

/// The message with this id and body, but for PIECE; `None` if there is none.
fn message(id: u8, body: &[u8]) -> Option<Message> {
    let piece = || word(body, 0).map(PieceIndex);
    let block =
        || Some(BlockRef { piece: PieceIndex(word(body, 0)?), begin: word(body, 4)?, len: word(body, 8)? });
    Some(match id {
        id::CHOKE => Message::Choke,
        id::UNCHOKE => Message::Unchoke,
        id::INTERESTED => Message::Interested,
        id::NOT_INTERESTED => Message::NotInterested,
        id::HAVE => Message::Have(piece()?),
        id::BITFIELD => Message::Bitfield(body.to_vec()),
        id::REQUEST => Message::Request(block()?),
        id::CANCEL => Message::Cancel(block()?),
        id::PORT => Message::Port(u16::from_be_bytes(*body.first_chunk()?)),
        id::SUGGEST => Message::Suggest(piece()?),
        id::HAVE_ALL => Message::HaveAll,
        id::HAVE_NONE => Message::HaveNone,
        id::REJECT => Message::Reject(block()?),
        id::ALLOWED_FAST => Message::AllowedFast(piece()?),
        id::EXTENDED => {
            let (&id, payload) = body.split_first()?;
            Message::Extended { id, payload: payload.to_vec() }
        }
        id::HASH_REQUEST => Message::HashRequest(Box::new(range(body)?)),
        id::HASHES => {
            let (hashes, _) = body.get(RANGE_LEN..)?.as_chunks();
            Message::Hashes(Box::new(Hashes { range: range(body)?, hashes: hashes.to_vec() }))
        }
        id::HASH_REJECT => Message::HashReject(Box::new(range(body)?)),
        _ => return None,
    })
}

/// The range that a message about hashes begins with.
fn range(body: &[u8]) -> Option<HashRange> {
    Some(HashRange {
        pieces_root: *body.first_chunk()?,
        base_layer: word(body, 32)?,
        index: word(body, 36)?,
        length: word(body, 40)?,
        proof_layers: word(body, 44)?,
    })
}

/// The big-endian number at `at`, if it is there.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_be_bytes(*word))
}

#[cfg(test)]
mod tests;

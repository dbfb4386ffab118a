//! The messages that follow a handshake.

use crate::id::{BlockRef, PieceIndex};
use crate::merkle::{HashRange, Node};

/// A message of the peer protocol, but for PIECE, whose payload stays outside this crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Four zero bytes; keeps an idle connection open.
    KeepAlive,
    /// We will answer no more requests for now.
    Choke,
    /// Requests are welcome.
    Unchoke,
    /// You have something that I want.
    Interested,
    /// You have nothing that I want.
    NotInterested,
    /// I have this piece, verified.
    Have(PieceIndex),
    /// The pieces that I have, as raw payload; only the receiver knows how many pieces there are.
    Bitfield(Vec<u8>),
    /// Send me this.
    Request(BlockRef),
    /// I no longer want this.
    Cancel(BlockRef),
    /// My DHT node listens on this UDP port (BEP 5).
    Port(u16),
    /// You may want this piece (BEP 6).
    Suggest(PieceIndex),
    /// I have every piece (BEP 6).
    HaveAll,
    /// I have no piece (BEP 6).
    HaveNone,
    /// I will not answer this request (BEP 6).
    Reject(BlockRef),
    /// You may request this piece even while choked (BEP 6).
    AllowedFast(PieceIndex),
    /// An extension message (BEP 10); id 0 is the extension handshake.
    Extended {
        /// The receiver's own number for the extension.
        id: u8,
        /// The extension's bytes.
        payload: Vec<u8>,
    },
    /// Send me these hashes of a file's tree (BEP 52).
    HashRequest(Box<HashRange>),
    /// The hashes that you have asked for (BEP 52).
    Hashes(Box<Hashes>),
    /// I will not send these hashes (BEP 52).
    HashReject(Box<HashRange>),
}

/// An answer to a request for hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashes {
    /// What was asked for.
    pub range: HashRange,
    /// The hashes of the base layer, then those that prove them, from the lowest layer up.
    pub hashes: Vec<Node>,
}

/// The byte after the length prefix, which says what a message is.
pub(super) mod id {
    pub const CHOKE: u8 = 0;
    pub const UNCHOKE: u8 = 1;
    pub const INTERESTED: u8 = 2;
    pub const NOT_INTERESTED: u8 = 3;
    pub const HAVE: u8 = 4;
    pub const BITFIELD: u8 = 5;
    pub const REQUEST: u8 = 6;
    pub const PIECE: u8 = 7;
    pub const CANCEL: u8 = 8;
    pub const PORT: u8 = 9;
    pub const SUGGEST: u8 = 13;
    pub const HAVE_ALL: u8 = 14;
    pub const HAVE_NONE: u8 = 15;
    pub const REJECT: u8 = 16;
    pub const ALLOWED_FAST: u8 = 17;
    pub const EXTENDED: u8 = 20;
    pub const HASH_REQUEST: u8 = 21;
    pub const HASHES: u8 = 22;
    pub const HASH_REJECT: u8 = 23;
}

/// Bytes of the range that each message about hashes begins with.
pub(super) const RANGE_LEN: usize = 48;

/// Bytes of a PIECE message before the block itself.
pub const PIECE_HEADER_LEN: usize = 13;

impl Message {
    /// Bytes that [`encode`](Message::encode) appends.
    pub fn encoded_len(&self) -> usize {
        match self {
            Message::KeepAlive => 4,
            Message::Choke
            | Message::Unchoke
            | Message::Interested
            | Message::NotInterested
            | Message::HaveAll
            | Message::HaveNone => 5,
            Message::Port(_) => 7,
            Message::Have(_) | Message::Suggest(_) | Message::AllowedFast(_) => 9,
            Message::Request(_) | Message::Cancel(_) | Message::Reject(_) => 17,
            Message::Bitfield(bits) => 5 + bits.len(),
            Message::Extended { payload, .. } => 6 + payload.len(),
            Message::HashRequest(_) | Message::HashReject(_) => 5 + RANGE_LEN,
            Message::Hashes(answer) => 5 + RANGE_LEN + answer.hashes.len() * size_of::<Node>(),
        }
    }

    /// Appends the message as it goes over the wire.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Message::KeepAlive => out.extend_from_slice(&[0; 4]),
            Message::Choke => put(out, id::CHOKE, &[]),
            Message::Unchoke => put(out, id::UNCHOKE, &[]),
            Message::Interested => put(out, id::INTERESTED, &[]),
            Message::NotInterested => put(out, id::NOT_INTERESTED, &[]),
            Message::Have(piece) => put(out, id::HAVE, &[&piece.0.to_be_bytes()]),
            Message::Bitfield(bits) => put(out, id::BITFIELD, &[bits]),
            Message::Request(block) => put_block(out, id::REQUEST, *block),
            Message::Cancel(block) => put_block(out, id::CANCEL, *block),
            Message::Port(port) => put(out, id::PORT, &[&port.to_be_bytes()]),
            Message::Suggest(piece) => put(out, id::SUGGEST, &[&piece.0.to_be_bytes()]),
            Message::HaveAll => put(out, id::HAVE_ALL, &[]),
            Message::HaveNone => put(out, id::HAVE_NONE, &[]),
            Message::Reject(block) => put_block(out, id::REJECT, *block),
            Message::AllowedFast(piece) => put(out, id::ALLOWED_FAST, &[&piece.0.to_be_bytes()]),
            Message::Extended { id, payload } => put(out, id::EXTENDED, &[&[*id], payload]),
            Message::HashRequest(range) => put(out, id::HASH_REQUEST, &[&range_bytes(range)]),
            Message::Hashes(answer) => {
                put(out, id::HASHES, &[&range_bytes(&answer.range), answer.hashes.as_flattened()]);
            }
            Message::HashReject(range) => put(out, id::HASH_REJECT, &[&range_bytes(range)]),
        }
    }
}

/// What comes before a block's payload, which the caller sends straight from where it lies. `block.len` is at most
/// [`REQUEST_LEN_MAX`](crate::geometry::REQUEST_LEN_MAX).
pub fn piece_header(block: BlockRef) -> [u8; PIECE_HEADER_LEN] {
    let mut header = [0; PIECE_HEADER_LEN];
    header[..4].copy_from_slice(&(PIECE_HEADER_LEN as u32 - 4 + block.len).to_be_bytes());
    header[4] = id::PIECE;
    header[5..9].copy_from_slice(&block.piece.0.to_be_bytes());
    header[9..].copy_from_slice(&block.begin.to_be_bytes());
    header
}

fn put_block(out: &mut Vec<u8>, id: u8, block: BlockRef) {
    put(out, id, &[&block.piece.0.to_be_bytes(), &block.begin.to_be_bytes(), &block.len.to_be_bytes()]);
}

fn range_bytes(range: &HashRange) -> [u8; RANGE_LEN] {
    let mut bytes = [0; RANGE_LEN];
    let (root, numbers) = bytes.split_at_mut(32);
    root.copy_from_slice(&range.pieces_root);
    let values = [range.base_layer, range.index, range.length, range.proof_layers];
    for (to, value) in numbers.chunks_mut(4).zip(values) {
        to.copy_from_slice(&value.to_be_bytes());
    }
    bytes
}

fn put(out: &mut Vec<u8>, id: u8, body: &[&[u8]]) {
    let len: usize = body.iter().map(|part| part.len()).sum();
    put_header(out, id, u32::try_from(len).expect("a message body is shorter than 4 GiB"));
    body.iter().for_each(|part| out.extend_from_slice(part));
}

fn put_header(out: &mut Vec<u8>, id: u8, body_len: u32) {
    out.extend_from_slice(&(body_len + 1).to_be_bytes());
    out.push(id);
}

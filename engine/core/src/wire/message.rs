//! The messages that follow a handshake.

use crate::id::{BlockRef, PieceIndex};

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
}

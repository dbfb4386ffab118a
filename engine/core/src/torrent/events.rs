//! What a torrent asks of its shell, what it tells, and what it is told of pieces.

use super::discovery::Dial;
use super::metadata::METADATA_LEN_MAX;
use crate::geometry::BLOCK_LEN;
use crate::geometry::REQUEST_LEN_MAX;
use crate::id::{BlockRef, PeerKey, PieceIndex};
use crate::wire::Message;
use std::net::SocketAddr;

/// Something for the shell to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a message.
    Send {
        /// To whom.
        peer: PeerKey,
        /// What.
        message: Message,
    },
    /// Send HAVE to every connected peer.
    BroadcastHave(PieceIndex),
    /// Blocks wait for [`crate::torrent::Torrent::next_upload`], or metadata for [`crate::torrent::Torrent::next_metadata`].
    Upload(PeerKey),
    /// Close the connection; the torrent has forgotten it already.
    Close {
        /// Which.
        peer: PeerKey,
        /// Why.
        reason: CloseReason,
    },
    /// Dial this address, then report a connection or a failure, which it also is if it takes too long.
    Connect(Dial),
    /// Every block of the piece is here: verify it, write it, report a [`PieceResult`].
    CompletePiece {
        /// Which.
        piece: PieceIndex,
        /// Whether to report each block's digest even if the piece verifies.
        digests: bool,
    },
    /// Forget the received blocks of this piece.
    DropPiece(PieceIndex),
    /// Hash this piece again: peers behave as if it were bad. If it is, say so with
    /// [`crate::torrent::Torrent::handle_pieces_doubted`] and [`crate::torrent::Torrent::handle_piece_checked`].
    CheckPiece(PieceIndex),
}

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A piece is verified and written.
    PieceVerified(PieceIndex),
    /// A piece did not verify.
    PieceFailed(PieceIndex),
    /// A peer sent something that it should not have, and is banned.
    PeerBanned {
        /// Its address.
        addr: SocketAddr,
        /// Why.
        reason: CloseReason,
    },
    /// A connection has ended, with these sums of payload.
    PeerLeft {
        /// Where the peer listens, if it has said so; else the address of the connection.
        addr: SocketAddr,
        /// Received from it, in bytes.
        bytes_down: u64,
        /// Sent to it, in bytes.
        bytes_up: u64,
    },
    /// Every wanted piece is verified and written.
    Completed,
    /// The info dictionary is here, and has the right hash: what follows from it is to be told with
    /// [`crate::torrent::Torrent::handle_metadata`].
    MetadataReceived(Vec<u8>),
    /// The disk does not take a piece; nothing more is asked for until it does.
    DiskStalled(PieceIndex),
}

/// What became of a complete piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PieceResult {
    /// It verified and is written.
    Written {
        /// SHA-1 of each block, if they were asked for; zeros for a block whose bytes were not at hand.
        digests: Vec<[u8; 20]>,
    },
    /// It did not verify.
    Corrupt {
        /// SHA-1 of each block; zeros for a block whose bytes were not at hand.
        digests: Vec<[u8; 20]>,
    },
    /// It verified, but the disk did not take it. The shell keeps the blocks.
    NotWritten,
}

/// How short memory for received blocks is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Not at all.
    #[default]
    None,
    /// Only pieces under way may be asked for.
    Low,
    /// Nothing may be asked for.
    Full,
}

/// Why a connection ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// We dialled ourselves.
    #[error("this is our own address")]
    SelfConnection,
    /// Another connection to the same peer stays.
    #[error("already connected to this peer")]
    Duplicate,
    /// There are as many connections as allowed.
    #[error("too many connections")]
    TooManyPeers,
    /// Its address or network has more places than its share, and another one none.
    #[error("too many connections, and many of them from its network")]
    Crowded,
    /// Another peer, which the order of BEP 40 prefers, has its place.
    #[error("too many connections, and another peer comes first")]
    Outranked,
    /// Its address is banned.
    #[error("the address is banned")]
    Banned,
    /// It lied about a block.
    #[error("it sent a block that is not what the torrent holds")]
    CorruptBlock,
    /// A BITFIELD of the wrong size.
    #[error("a bitfield of {len} bytes does not fit the torrent")]
    BitfieldLength {
        /// Bytes in the message.
        len: usize,
    },
    /// A HAVE for a piece that does not exist.
    #[error("it claims piece {0}, which does not exist")]
    NoSuchPiece(PieceIndex),
    /// A block that lies outside of any piece.
    #[error("it sent {} bytes from {} on of piece {}, which do not exist", .0.len, .0.begin, .0.piece)]
    NoSuchBlock(BlockRef),
    /// Far more messages than there is use for.
    #[error("it keeps us busy with messages that lead to nothing")]
    Flood,
    /// Too many requests for what is not there.
    #[error(
        "it kept asking for what it may not have (blocks lie inside a piece and have at most {REQUEST_LEN_MAX} bytes)"
    )]
    BadRequests,
    /// Too many blocks that we did not ask for.
    #[error("it kept sending blocks of {BLOCK_LEN} bytes that nobody asked for")]
    UnrequestedBlocks,
    /// Nothing was heard for long.
    #[error("nothing heard for {seconds} s")]
    TimedOut {
        /// How long.
        seconds: u64,
    },
    /// Neither side wants anything of the other.
    #[error("both sides have everything they want")]
    BothComplete,
    /// Neither side wanted anything for long, and others wait for the place.
    #[error("neither side wanted anything for {seconds} s")]
    Useless {
        /// How long.
        seconds: u64,
    },
    /// It has no metadata to give (any more).
    #[error("it has no metadata to give")]
    NoMetadata,
    /// It claims metadata that is too long.
    #[error("it claims metadata of {size} bytes, more than the limit of {METADATA_LEN_MAX}")]
    MetadataSize {
        /// Bytes that it claims.
        size: u32,
    },
    /// A message of the metadata exchange that does not fit what it said before.
    #[error("what it sent is no piece of the metadata that it offered")]
    BadMetadata,
    /// It sent metadata that has another hash.
    #[error("it sent metadata of another torrent")]
    WrongMetadata,
    /// It cannot be told of a piece that we lost, or of very many that we have, other than by connecting again.
    #[error("which pieces are here has changed")]
    PieceLost,
    /// The torrent is private, and neither a tracker nor the user named it.
    #[error("the torrent is private, and none of its trackers named this peer")]
    Private,
    /// The torrent was stopped.
    #[error("the torrent was stopped")]
    Stopped,
}

//! A torrent's actions and events, and the results of pieces.

use super::discovery::Dial;
use super::holepunch::HolepunchFailure;
use super::metadata::METADATA_LEN_MAX;
use crate::geometry::BLOCK_LEN;
use crate::geometry::REQUEST_LEN_MAX;
use crate::id::{BlockRef, PeerKey, PieceIndex};
use crate::merkle::Node;
use crate::webseed::{Fault, FetchId, Penalty, WebSeedIndex};
use crate::wire::Message;
use std::net::SocketAddr;

/// Something for the shell to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Action {
    Send {
        peer: PeerKey,
        message: Message,
    },
    /// Send HAVE to every connected peer.
    BroadcastHave(PieceIndex),
    /// Blocks wait for [`crate::torrent::Torrent::next_upload`], metadata for [`crate::torrent::Torrent::next_metadata`], or hashes for
    /// [`crate::torrent::Torrent::next_hashes`].
    Upload(PeerKey),
    /// Close the connection; the torrent has forgotten it already.
    Close {
        peer: PeerKey,
        reason: CloseReason,
    },
    /// Dial this address, then report a connection or a failure, which it also is if it takes too long.
    Connect(Dial),
    /// Every block of the piece is here: verify it, write it, report a [`PieceResult`].
    /// With `digests`, each block's digest is to be reported even if the piece verifies.
    VerifyPiece {
        piece: PieceIndex,
        digests: bool,
    },
    /// Forget the received blocks of this piece.
    DropPiece(PieceIndex),
    /// Forget these received blocks of a piece, by index. The others are right.
    DropBlocks {
        piece: PieceIndex,
        blocks: Vec<u32>,
    },
    /// Read these pieces again, which are here, and report the leaves of their blocks in the file
    /// ([`crate::torrent::Torrent::handle_leaves`]). Of version 2 only.
    HashLeaves {
        first: PieceIndex,
        pieces: u32,
    },
    /// Hash the blocks of this piece that are on disk, and report them ([`crate::torrent::Torrent::handle_blocks_hashed`]). Of version 2
    /// only.
    HashBlocks(PieceIndex),
    /// These blocks of a piece, by index, are right where they lie on disk: they count as received, and are not to be written.
    KeepBlocks {
        piece: PieceIndex,
        blocks: Vec<u32>,
    },
    /// Fetch these blocks from a web seed, in this order. Report each that comes, then the end, or what is wrong.
    Fetch {
        id: FetchId,
        seed: WebSeedIndex,
        blocks: Vec<BlockRef>,
    },
    /// End this fetch; the torrent has forgotten it already.
    CancelFetch(FetchId),
    /// Hash this piece again: peers behave as if it were bad. If it is, say so with
    /// [`crate::torrent::Torrent::handle_pieces_doubted`] and [`crate::torrent::Torrent::handle_piece_checked`].
    CheckPiece(PieceIndex),
}

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Event {
    /// A piece is verified and written.
    PieceVerified(PieceIndex),
    /// A piece did not verify.
    PieceFailed(PieceIndex),
    /// A peer sent something that it should not have, and is banned.
    PeerBanned { addr: SocketAddr, reason: CloseReason },
    /// A connection has ended. `addr` is where the peer listens, if it has said so; else that of the connection.
    PeerLeft { addr: SocketAddr, bytes_down: u64, bytes_up: u64 },
    /// A connection came about by holepunching: both sides dialled at a relay's word.
    Holepunched { addr: SocketAddr, relay: SocketAddr },
    /// We could not meet a peer by holepunching.
    HolepunchFailed { addr: SocketAddr, relay: SocketAddr, failure: HolepunchFailure },
    /// Something is wrong with a web seed, or with the file there that begins at this byte of the torrent.
    WebSeedFault { seed: WebSeedIndex, file_start: Option<u64>, fault: Fault, penalty: Penalty },
    /// Of this piece of a hybrid one hash holds and the other does not: its metainfo contradicts itself, and the piece can never be had. It
    /// is asked for no more, and nobody is blamed.
    HashesContradict(PieceIndex),
    /// Every wanted piece is verified and written.
    Completed,
    /// The info dictionary is here, and has the right hash: what follows from it is to be told with
    /// [`crate::torrent::Torrent::handle_metadata`].
    MetadataReceived(Vec<u8>),
    /// The piece layers of all files of more than one piece are here, in the files' order, and have the right roots.
    PieceLayersReceived(Vec<Vec<Node>>),
    /// No peer gives the piece layers of this hybrid: it may go on without version 2.
    PieceLayersMissing,
    /// The disk does not take a piece; nothing more is asked for until it does.
    DiskStalled(PieceIndex),
}

/// What became of a complete piece. What is padding for sure counts as zeros, whatever came. In version 2 a block's digest is the first 20
/// bytes of its leaf: of the SHA-256 of its bytes in the file. A corrupt piece's blocks stay where they are until an action says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PieceResult {
    /// It verified and is written.
    Written {
        /// The digest of each block (SHA-1 in version 1), if they were asked for; zeros for a block whose bytes were not at hand.
        digests: Vec<[u8; 20]>,
    },
    /// It did not verify.
    Corrupt {
        /// The digest of each block; zeros for a block whose bytes were not at hand.
        digests: Vec<[u8; 20]>,
    },
    /// Of a hybrid: one of its hashes holds and the other does not ([`Info::is_contradicted_by`](crate::metainfo::Info::is_contradicted_by)).
    Contradictory,
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
    /// Only blocks that are overdue at other peers may be asked for.
    Full,
}

/// Why a connection ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum CloseReason {
    #[error("this is our own address")]
    SelfConnection,
    #[error("already connected to this peer")]
    Duplicate,
    #[error("too many connections")]
    TooManyPeers,
    #[error("too many connections, and many of them from its network")]
    Crowded,
    #[error("too many connections, and another peer comes first")]
    Evicted,
    #[error("the address is banned")]
    Banned,
    #[error("the IP filter blocks its address")]
    Blocked,
    #[error("it sent a block that is not what the torrent holds")]
    CorruptBlock,
    #[error("a bitfield of {len} bytes does not fit the torrent")]
    BitfieldLength { len: usize },
    #[error("it claims piece {0}, which does not exist")]
    NoSuchPiece(PieceIndex),
    #[error("it sent {} bytes from {} on of piece {}, which do not exist", .0.len, .0.begin, .0.piece)]
    NoSuchBlock(BlockRef),
    #[error("it keeps us busy with messages that lead to nothing")]
    Flood,
    #[error(
        "it kept asking for what it may not have (blocks lie inside a piece and have at most {REQUEST_LEN_MAX} bytes)"
    )]
    BadRequests,
    #[error("it kept sending blocks of {BLOCK_LEN} bytes that nobody asked for")]
    UnrequestedBlocks,
    #[error("nothing heard for {seconds} s")]
    TimedOut { seconds: u64 },
    #[error("both sides have everything they want")]
    BothComplete,
    #[error("neither side wanted anything for {seconds} s")]
    Useless { seconds: u64 },
    #[error("it has no metadata to give")]
    NoMetadata,
    #[error("it claims metadata of {size} bytes, more than the limit of {METADATA_LEN_MAX}")]
    MetadataSize { size: u32 },
    #[error("what it sent is no piece of the metadata that it offered")]
    BadMetadata,
    #[error("it sent metadata of another torrent")]
    WrongMetadata,
    #[error("it sent hashes that do not lead to the root of their file")]
    WrongHashes,
    #[error("which pieces are here has changed")]
    PieceLost,
    #[error("the torrent turns out to be of version 2 too: it is met again")]
    Version2,
    #[error("the torrent is private, and none of its trackers named this peer")]
    Private,
    #[error("the torrent was stopped")]
    Stopped,
}

//! Why a metainfo file is refused.

use super::{FILES_MAX, METAINFO_LEN_MAX, PATH_DEPTH_MAX};
use crate::bencode::BencodeError;
use crate::geometry::GeometryError;

/// Why a metainfo file or info dictionary is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetainfoError {
    /// The file is longer than [`METAINFO_LEN_MAX`].
    #[error("metainfo of {0} bytes is longer than the limit of {METAINFO_LEN_MAX} bytes")]
    TooLong(usize),
    /// It is not bencoded data at all.
    #[error("not a metainfo file: {0}")]
    Bencode(#[from] BencodeError),
    /// Neither version 1 nor 2 (BEP 52).
    #[error("BitTorrent version {0} is not known")]
    UnknownVersion(i64),
    /// Something that must be there is not, or is of the wrong type.
    #[error("`{field}` is missing or not {expected}")]
    Field {
        /// Where it should be, as in `info.files[3].length`.
        field: String,
        /// What it should be, with its article.
        expected: &'static str,
    },
    /// There is not a single file.
    #[error("`info.files` is empty: a torrent needs at least one file")]
    NoFiles,
    /// More than [`FILES_MAX`].
    #[error("{0} files are more than the limit of {FILES_MAX}")]
    TooManyFiles(usize),
    /// A path has more than [`PATH_DEPTH_MAX`] components.
    #[error("`info.files[{0}].path` has more than {PATH_DEPTH_MAX} components")]
    PathTooDeep(usize),
    /// The paths of the files in a file tree take too much room.
    #[error("the paths of the files in `info.file tree` are too long together")]
    PathsTooLong,
    /// The lengths of the files do not add up to a number.
    #[error("the files' lengths add up to more than 2^64 bytes")]
    TotalTooLong,
    /// A piece length that version 2 does not have.
    #[error("`info.piece length` is {0}: in version 2 it is a power of two from 16 KiB up")]
    PieceLengthV2(u32),
    /// The layer of a file's pieces is not there.
    #[error("`piece layers` has nothing for {0:?}, which has more than one piece")]
    LayerMissing(String),
    /// The layer of a file's pieces does not lead to its root.
    #[error(
        "`piece layers` has a layer for {0:?} that is too short, too long, or does not match its `pieces root`"
    )]
    LayerWrong(String),
    /// The piece layers, which peers would have to send, are longer than is taken.
    #[error(
        "the hashes of the pieces are {0} bytes, more than the {METAINFO_LEN_MAX} that are fetched from peers: a metainfo file with \
         `piece layers` has them"
    )]
    LayersTooLong(u64),
    /// Two files have the same root, and cannot be the same.
    #[error("{0:?} and {1:?} have the same `pieces root` and different lengths")]
    SameRoot(String, String),
    /// A hybrid describes two different torrents.
    #[error("the parts for version 1 and 2 differ: {0}")]
    HalvesDiffer(String),
    /// Impossible pieces.
    #[error("`info.piece length` is not usable: {0}")]
    Geometry(#[from] GeometryError),
    /// `pieces` is not a whole number of SHA-1 hashes.
    #[error("`info.pieces` has {0} bytes, not a multiple of 20")]
    PiecesLength(usize),
    /// `pieces` does not match the files.
    #[error("`info.pieces` has {found} hashes where the files' lengths need {expected}")]
    PieceCount {
        /// Hashes that are there.
        found: usize,
        /// Pieces that the files' lengths and the piece length give.
        expected: u32,
    },
}

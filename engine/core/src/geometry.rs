//! Where pieces, blocks and bytes lie. The one place that knows their arithmetic.

use crate::id::{BlockRef, PieceIndex};
use std::sync::Arc;

/// The unit that is requested from a peer, in bytes. Every client uses this size.
pub const BLOCK_LEN: u32 = 16 * 1024;

/// The longest block anyone may request from us, in bytes. 16 KiB is what everyone asks for;
/// some old clients ask for more.
pub const REQUEST_LEN_MAX: u32 = 128 * 1024;

/// The largest piece that we accept, in bytes.
pub const PIECE_LEN_MAX: u32 = 256 * 1024 * 1024;

/// How a torrent's bytes divide into pieces and blocks. Cheap to clone.
///
/// In version 1 all pieces are of one length but the last. In version 2 (BEP 52) each file begins with a piece of its own, and its last
/// piece is as short as it is: between the files lie bytes that are nobody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    total_len: u64,
    piece_len: u32,
    pieces: u32,
    /// Of version 2: the last pieces of files that are shorter than others, ascending, with their lengths.
    short: Option<Arc<[(PieceIndex, u32)]>>,
}

/// Why a geometry is impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// A piece would hold nothing, or more than [`PIECE_LEN_MAX`].
    #[error("piece length {0} is not between 1 and {PIECE_LEN_MAX}")]
    PieceLength(u64),
    /// There would be more pieces than a 32-bit index can name.
    #[error("{0} pieces are more than the protocol can name")]
    TooManyPieces(u64),
}

impl Geometry {
    /// That of a torrent of which nothing is known: no pieces.
    pub const EMPTY: Geometry = Geometry { total_len: 0, piece_len: BLOCK_LEN, pieces: 0, short: None };

    /// The geometry of `total_len` bytes in pieces of `piece_len` bytes, the last one possibly shorter.
    ///
    /// # Errors
    /// When `piece_len` is zero or above [`PIECE_LEN_MAX`], or the pieces cannot be numbered.
    pub fn new(total_len: u64, piece_len: u64) -> Result<Geometry, GeometryError> {
        let len = checked_piece_len(piece_len)?;
        let pieces = checked_count(total_len.div_ceil(piece_len))?;
        Ok(Geometry { total_len, piece_len: len, pieces, short: None })
    }

    /// The geometry of files of these lengths in version 2, each beginning with a piece of its own.
    ///
    /// # Errors
    /// As for [`Geometry::new`], or when the lengths add up to more than 2^64 bytes.
    pub fn of_files(lens: impl IntoIterator<Item = u64>, piece_len: u64) -> Result<Geometry, GeometryError> {
        let len = checked_piece_len(piece_len)?;
        let (mut total_len, mut pieces, mut short) = (0u64, 0, Vec::new());
        for file in lens {
            total_len = total_len.checked_add(file).ok_or(GeometryError::TooManyPieces(u64::MAX))?;
            pieces = checked_count(u64::from(pieces) + file.div_ceil(piece_len))?;
            let rest = (file % piece_len) as u32;
            if rest > 0 {
                short.push((PieceIndex(pieces - 1), rest));
            }
        }
        Ok(Geometry { total_len, piece_len: len, pieces, short: Some(short.into()) })
    }

    /// Bytes in the torrent, pad files included.
    pub fn total_len(&self) -> u64 {
        self.total_len
    }

    /// Bytes in each piece but the last one, of the torrent or, in version 2, of a file.
    pub fn piece_len(&self) -> u32 {
        self.piece_len
    }

    /// Number of pieces.
    pub fn pieces(&self) -> u32 {
        self.pieces
    }

    /// Every piece, in order.
    pub fn piece_indices(&self) -> impl DoubleEndedIterator<Item = PieceIndex> + use<> {
        (0..self.pieces).map(PieceIndex)
    }

    /// Whether there is such a piece.
    pub fn contains(&self, piece: PieceIndex) -> bool {
        piece.0 < self.pieces
    }

    /// Bytes in this piece.
    ///
    /// # Panics
    /// If there is no such piece.
    pub fn len_of(&self, piece: PieceIndex) -> u32 {
        assert!(self.contains(piece), "piece {piece} of {}", self.pieces);
        if let Some(short) = &self.short {
            let found = short.binary_search_by_key(&piece, |&(piece, _)| piece);
            return found.map_or(self.piece_len, |at| short[at].1);
        }
        let rest = self.total_len - self.offset_of(piece);
        rest.min(u64::from(self.piece_len)) as u32
    }

    /// Where this piece starts in the torrent's bytes.
    pub fn offset_of(&self, piece: PieceIndex) -> u64 {
        u64::from(piece.0) * u64::from(self.piece_len)
    }

    /// Number of blocks in this piece.
    pub fn blocks_in(&self, piece: PieceIndex) -> u32 {
        self.len_of(piece).div_ceil(BLOCK_LEN)
    }

    /// The `index`-th block of this piece.
    ///
    /// # Panics
    /// If there is no such piece or block.
    pub fn block(&self, piece: PieceIndex, index: u32) -> BlockRef {
        let begin = index * BLOCK_LEN;
        let rest = self.len_of(piece).checked_sub(begin).filter(|&rest| rest > 0);
        let rest = rest.unwrap_or_else(|| panic!("no block {index} in piece {piece}"));
        BlockRef { piece, begin, len: rest.min(BLOCK_LEN) }
    }

    /// The index within its piece of a block as we request it, or `None` if it is no such block.
    pub fn block_index(&self, block: BlockRef) -> Option<u32> {
        if !self.contains(block.piece) || !block.begin.is_multiple_of(BLOCK_LEN) {
            return None;
        }
        let rest = self.len_of(block.piece).checked_sub(block.begin)?;
        (rest > 0 && block.len == rest.min(BLOCK_LEN)).then_some(block.begin / BLOCK_LEN)
    }

    /// How far into this piece others may ask. libtorrent before 2.1 asks for whole blocks at the end of a file of version 2, as if padding
    /// followed; it gets zeros there.
    ///
    /// # Panics
    /// If there is no such piece.
    pub fn requests_end(&self, piece: PieceIndex) -> u32 {
        let len = self.len_of(piece);
        if self.short.is_some() { len.next_multiple_of(BLOCK_LEN) } else { len }
    }

    /// Whether a request by someone else begins inside its piece, ends where it may, and is not longer than anyone may ask for.
    pub fn is_valid_request(&self, block: BlockRef) -> bool {
        self.contains(block.piece)
            && block.len > 0
            && block.len <= REQUEST_LEN_MAX
            && block.begin < self.len_of(block.piece)
            && block.begin.checked_add(block.len).is_some_and(|end| end <= self.requests_end(block.piece))
    }
}

fn checked_piece_len(len: u64) -> Result<u32, GeometryError> {
    let checked = u32::try_from(len).ok().filter(|&len| len > 0 && len <= PIECE_LEN_MAX);
    checked.ok_or(GeometryError::PieceLength(len))
}

fn checked_count(pieces: u64) -> Result<u32, GeometryError> {
    let checked = u32::try_from(pieces).ok().filter(|&n| n < i32::MAX as u32);
    checked.ok_or(GeometryError::TooManyPieces(pieces))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_version_2_begin_with_a_piece() {
        let g = Geometry::of_files([40_000, 0, 32_768, 1], 32_768).unwrap();
        assert_eq!((g.pieces(), g.total_len()), (4, 72_769));
        assert_eq!(g.piece_indices().map(|p| g.len_of(p)).collect::<Vec<_>>(), [32_768, 7_232, 32_768, 1]);
        assert_eq!(g.piece_indices().map(|p| g.blocks_in(p)).collect::<Vec<_>>(), [2, 1, 2, 1]);
        assert_eq!(g.offset_of(PieceIndex(3)), 3 * 32_768);
        let may = |piece, begin, len| g.is_valid_request(BlockRef { piece: PieceIndex(piece), begin, len });
        assert!(may(1, 0, 7_232) && may(1, 0, 16_384), "the last block may be asked for as if it were whole");
        assert!(!may(1, 0, 16_385) && !may(1, 7_232, 1) && !may(0, 0, 32_769));
        assert!(Geometry::of_files([u64::MAX, 1], 32_768).is_err());
    }

    #[test]
    fn last_piece_and_block_are_short() {
        let g = Geometry::new(100_000, 32_768).unwrap();
        assert_eq!(g.pieces(), 4);
        assert_eq!(g.len_of(PieceIndex(3)), 1_696);
        assert_eq!(g.blocks_in(PieceIndex(0)), 2);
        let block = g.block(PieceIndex(3), 0);
        assert_eq!((block.begin, block.len), (0, 1_696));
        assert_eq!(g.block_index(block), Some(0));
        assert_eq!(g.block_index(BlockRef { len: 1_695, ..block }), None);
    }

    #[test]
    fn impossible_geometries_are_errors() {
        assert_eq!(Geometry::new(1, 0), Err(GeometryError::PieceLength(0)));
        assert!(Geometry::new(u64::MAX, 1).is_err());
        assert_eq!(Geometry::new(0, 16_384).unwrap().pieces(), 0);
    }

    #[test]
    fn requests_outside_the_piece_are_invalid() {
        let g = Geometry::new(40_000, 32_768).unwrap();
        let r = |piece, begin, len| g.is_valid_request(BlockRef { piece: PieceIndex(piece), begin, len });
        assert!(r(0, 100, 50));
        assert!(r(1, 0, 7_232));
        assert!(!r(1, 0, 7_233));
        assert!(!r(0, u32::MAX, 2));
        assert!(!r(0, 0, 0));
        assert!(!r(2, 0, 1));
    }
}

//! Where pieces, blocks and bytes lie. The one place that knows their arithmetic.

use crate::id::{BlockRef, PieceIndex};

/// The unit that is requested from a peer, in bytes. Every client uses this size.
pub const BLOCK_LEN: u32 = 16 * 1024;

/// The longest block anyone may request from us, in bytes. 16 KiB is what everyone asks for;
/// some old clients ask for more.
pub const REQUEST_LEN_MAX: u32 = 128 * 1024;

/// The largest piece that we accept, in bytes.
pub const PIECE_LEN_MAX: u32 = 256 * 1024 * 1024;

/// How a torrent's bytes divide into pieces and blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    total_len: u64,
    piece_len: u32,
    pieces: u32,
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
    pub const EMPTY: Geometry = Geometry { total_len: 0, piece_len: BLOCK_LEN, pieces: 0 };

    /// The geometry of `total_len` bytes in pieces of `piece_len` bytes, the last one possibly shorter.
    ///
    /// # Errors
    /// When `piece_len` is zero or above [`PIECE_LEN_MAX`], or the pieces cannot be numbered.
    pub fn new(total_len: u64, piece_len: u64) -> Result<Geometry, GeometryError> {
        let len = u32::try_from(piece_len)
            .ok()
            .filter(|&len| len > 0 && len <= PIECE_LEN_MAX)
            .ok_or(GeometryError::PieceLength(piece_len))?;
        let count = total_len.div_ceil(piece_len);
        let pieces = u32::try_from(count)
            .ok()
            .filter(|&n| n < i32::MAX as u32)
            .ok_or(GeometryError::TooManyPieces(count))?;
        Ok(Geometry { total_len, piece_len: len, pieces })
    }

    /// Bytes in the torrent, pad files included.
    pub fn total_len(&self) -> u64 {
        self.total_len
    }

    /// Bytes in each piece but the last.
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

    /// Whether a request by someone else lies inside its piece and is not longer than anyone may ask for.
    pub fn is_valid_request(&self, block: BlockRef) -> bool {
        self.contains(block.piece)
            && block.len > 0
            && block.len <= REQUEST_LEN_MAX
            && block.begin.checked_add(block.len).is_some_and(|end| end <= self.len_of(block.piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

//! Which of a torrent's bytes are known to be zeros, so that nobody need send them: its pad files (BEP 47).

use crate::geometry::Geometry;
use crate::id::PieceIndex;
use std::ops::Range;
use std::sync::Arc;

/// The padding of one torrent. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Padding {
    /// Ascending and apart, none empty.
    runs: Arc<[Run]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    start: u64,
    end: u64,
    /// Bytes of padding in all runs before this one.
    before: u64,
    /// Nothing but a name says that this is padding.
    is_assumed: bool,
}

impl Padding {
    /// The padding in these stretches of the torrent's bytes, in their order, and whether each is padding only by its
    /// file's name.
    ///
    /// # Panics
    /// If they overlap or are out of order.
    pub fn new(stretches: impl IntoIterator<Item = (Range<u64>, bool)>) -> Padding {
        let mut runs: Vec<Run> = Vec::new();
        let mut before = 0;
        for (Range { start, end }, is_assumed) in stretches.into_iter().filter(|(s, _)| !s.is_empty()) {
            match runs.last_mut() {
                Some(last) if last.end == start && last.is_assumed == is_assumed => last.end = end,
                last => {
                    assert!(last.is_none_or(|last| last.end <= start), "padding at {start} out of order");
                    runs.push(Run { start, end, before, is_assumed });
                }
            }
            before += end - start;
        }
        Padding { runs: runs.into() }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Bytes of padding in the torrent.
    pub fn total_len(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.before + (run.end - run.start))
    }

    /// Bytes of padding in a piece.
    pub fn len_in(&self, geometry: &Geometry, piece: PieceIndex) -> u32 {
        self.len_between(bounds(geometry, piece)) as u32
    }

    /// Bytes of a piece that are not padding.
    pub fn payload_in(&self, geometry: &Geometry, piece: PieceIndex) -> u32 {
        geometry.len_of(piece) - self.len_in(geometry, piece)
    }

    /// Whether a piece holds nothing else.
    pub fn covers(&self, geometry: &Geometry, piece: PieceIndex) -> bool {
        self.payload_in(geometry, piece) == 0
    }

    /// Whether a piece holds padding that only its name tells of.
    pub fn is_assumed_in(&self, geometry: &Geometry, piece: PieceIndex) -> bool {
        let Range { start, end } = bounds(geometry, piece);
        let first = self.runs.partition_point(|run| run.end <= start);
        self.runs[first..].iter().take_while(|run| run.start < end).any(|run| run.is_assumed)
    }

    /// The pieces that hold padding, ascending.
    pub fn pieces(&self, geometry: &Geometry) -> impl Iterator<Item = PieceIndex> + '_ {
        let len = u64::from(geometry.piece_len());
        let mut next = 0;
        self.runs.iter().flat_map(move |run| {
            let first = (run.start / len).max(next);
            next = run.end.div_ceil(len);
            (first..next).map(|piece| PieceIndex(piece as u32))
        })
    }

    /// The blocks of a piece that lie wholly in padding, ascending. A block that does so only in part is fetched whole,
    /// since whole blocks are what every client asks for and answers. Of a piece that is all padding there are none:
    /// whoever wants it has to fetch it.
    pub fn blocks_in(&self, geometry: &Geometry, piece: PieceIndex) -> Vec<u32> {
        if self.is_empty() || self.len_in(geometry, piece) == 0 || self.covers(geometry, piece) {
            return Vec::new();
        }
        let at = geometry.offset_of(piece);
        let is_padding = |&index: &u32| {
            let block = geometry.block(piece, index);
            let start = at + u64::from(block.begin);
            self.len_between(start..start + u64::from(block.len)) == u64::from(block.len)
        };
        (0..geometry.blocks_in(piece)).filter(is_padding).collect()
    }

    fn len_between(&self, Range { start, end }: Range<u64>) -> u64 {
        self.len_before(end) - self.len_before(start)
    }

    fn len_before(&self, offset: u64) -> u64 {
        let runs = self.runs.partition_point(|run| run.start < offset);
        let Some(last) = runs.checked_sub(1).map(|last| self.runs[last]) else { return 0 };
        last.before + offset.min(last.end) - last.start
    }
}

fn bounds(geometry: &Geometry, piece: PieceIndex) -> Range<u64> {
    let start = geometry.offset_of(piece);
    start..start + u64::from(geometry.len_of(piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_counted_by_piece_and_block() {
        let geometry = Geometry::new(5 * 65_536 - 100, 65_536).unwrap();
        let padding = Padding::new([
            (1_000..65_536, false),
            (65_536..65_536, false),
            (65_536..131_072, false),
            (140_000..200_000, true),
            (5 * 65_536 - 20_000..5 * 65_536 - 100, false),
        ]);
        let by_piece: Vec<u32> = geometry.piece_indices().map(|p| padding.len_in(&geometry, p)).collect();
        assert_eq!(by_piece, [64_536, 65_536, 56_608, 3_392, 19_900]);
        assert_eq!(padding.total_len(), by_piece.iter().map(|&len| u64::from(len)).sum::<u64>());
        let blocks: Vec<Vec<u32>> =
            geometry.piece_indices().map(|p| padding.blocks_in(&geometry, p)).collect();
        assert_eq!(blocks, [vec![1, 2, 3], vec![], vec![1, 2, 3], vec![], vec![3]]);
        assert!(padding.covers(&geometry, PieceIndex(1)) && !padding.covers(&geometry, PieceIndex(0)));
        let assumed: Vec<u32> = geometry
            .piece_indices()
            .filter(|&piece| padding.is_assumed_in(&geometry, piece))
            .map(|piece| piece.0)
            .collect();
        assert_eq!(assumed, [2, 3]);
        assert_eq!(padding.pieces(&geometry).map(|piece| piece.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(Padding::default().blocks_in(&geometry, PieceIndex(0)), Vec::<u32>::new());
        assert_eq!(Padding::default().payload_in(&geometry, PieceIndex(4)), 65_436);
    }
}

//! What is downloaded first for those who read a torrent's files while it is downloaded.
//!
//! Each reader has a window: the pieces from where it reads on. They come before all others, one after the other.

use crate::geometry::Geometry;
use crate::id::PieceIndex;
use crate::picker::Priority;
use std::collections::BTreeMap;
use std::ops::Range;

/// How far ahead of a reader pieces are downloaded first, in bytes.
pub const WINDOW_BYTES: u64 = 8 * 1024 * 1024;
/// The same in pieces, at the least.
pub const WINDOW_PIECES_MIN: u64 = 2;
/// So many pieces of a window are downloaded strictly one after the other; those behind them as they are rare.
const STEPS: u8 = 64;

/// The window of somebody who reads at the byte `at` of the torrent, and nothing at `end` or behind it.
pub fn window(geometry: &Geometry, at: u64, end: u64) -> Range<u32> {
    let piece_len = u64::from(geometry.piece_len()).max(1);
    let first = at / piece_len;
    let pieces = (WINDOW_BYTES / piece_len).max(WINDOW_PIECES_MIN);
    let window_end = (first + pieces).min(end.div_ceil(piece_len)).min(geometry.pieces().into());
    first.min(window_end) as u32..window_end as u32
}

/// How much the pieces in these windows are wanted, and those that were in one `before`. Without a window a piece has what `otherwise`
/// says.
pub fn priorities<'a>(
    windows: impl IntoIterator<Item = &'a Range<u32>>,
    before: Range<u32>,
    otherwise: impl FnMut(PieceIndex) -> Priority,
) -> BTreeMap<PieceIndex, Priority> {
    let pieces: Vec<PieceIndex> = before.map(PieceIndex).collect();
    let mut priorities: BTreeMap<PieceIndex, Priority> =
        pieces.iter().copied().zip(pieces.iter().copied().map(otherwise)).collect();
    for window in windows {
        for piece in window.clone() {
            // The sooner it is needed the higher.
            let step = (piece - window.start).min(STEPS.into()) as u8;
            let wanted = Priority(Priority::FIRST.0 + 1 + STEPS - step);
            let highest = priorities.entry(PieceIndex(piece)).or_insert(wanted);
            *highest = wanted.max(*highest);
        }
    }
    priorities
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_window_begins_where_it_is_read_and_ends_with_what_is_read() {
        let geometry = Geometry::new(100 * MIB - 5, MIB).unwrap();
        let end = geometry.total_len();
        assert_eq!(window(&geometry, 0, end), 0..8);
        assert_eq!(window(&geometry, 10 * MIB - 1, end), 9..17);
        assert_eq!(window(&geometry, 98 * MIB, end), 98..100);
        assert_eq!(window(&geometry, 3 * MIB, 4 * MIB + 1), 3..5);
        assert_eq!(window(&geometry, end, end), 99..100);
        assert!(window(&geometry, end + 9 * MIB, end).is_empty());
        let large = Geometry::new(100 * MIB, 16 * MIB).unwrap();
        assert_eq!(window(&large, 0, 100 * MIB), 0..2, "what comes after the first is not left for later");
    }

    #[test]
    fn what_is_read_sooner_comes_first_and_of_two_readers_both_are_heard() {
        let windows = [0..70, 3..5];
        let priorities = priorities(&windows, 68..72, |_| Priority::NORMAL);
        let of = |piece: u32| priorities[&PieceIndex(piece)];
        assert_eq!(of(0), of(3), "each begins with what is most urgent");
        assert!(of(0) > of(1) && of(1) > of(2) && of(1) == of(4) && of(63) > Priority::FIRST);
        assert_eq!((of(68), of(70), of(71)), (of(64), Priority::NORMAL, Priority::NORMAL));
        assert!(of(64) > Priority::FIRST);
    }
}

//! The map of a torrent's pieces as an SVG: cells in rows, each for as many pieces as it takes to fit.

use std::fmt::Write as _;
use swarm_engine::{PieceMap, PieceStatus};

/// Cells at most.
const CELLS_MAX: usize = 960;
/// Cells in a row.
const COLUMNS: usize = 60;
/// From cell to cell, and how much of that is drawn.
const STEP: usize = 10;
const SIDE: usize = 8;

/// How the pieces of a cell stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    /// All are here.
    Have,
    /// More than half.
    Most,
    /// Some.
    Some,
    /// None, and one or more of them is on its way.
    Coming,
    /// None, and each is at a peer.
    Missing,
    /// None, and one or more of them is at no connected peer.
    Nowhere,
}

impl Cell {
    const ALL: [Cell; 6] = [Cell::Have, Cell::Most, Cell::Some, Cell::Coming, Cell::Missing, Cell::Nowhere];

    fn class(self) -> &'static str {
        match self {
            Cell::Have => "have",
            Cell::Most => "most",
            Cell::Some => "some",
            Cell::Coming => "coming",
            Cell::Missing => "missing",
            Cell::Nowhere => "nowhere",
        }
    }
}

/// A drawing.
#[derive(Debug, Default)]
pub struct Map {
    /// Cells of one kind: its class, and a path.
    pub paths: Vec<(&'static str, String)>,
    pub width: usize,
    pub height: usize,
    /// How many pieces a cell stands for.
    pub per_cell: usize,
    /// What it shows, in words.
    pub words: String,
    /// How many whole copies the connected peers have together, and the share of pieces of which there is one more.
    /// `None` if they have nothing.
    pub copies: Option<String>,
}

/// Draws the pieces.
pub fn draw(map: &PieceMap) -> Map {
    let count = map.statuses.len();
    let per_cell = count.div_ceil(CELLS_MAX).max(1);
    let mut paths = Cell::ALL.map(|cell| (cell.class(), String::new()));
    let availability = map.availability.chunks(per_cell);
    for (nth, (statuses, at_peers)) in map.statuses.chunks(per_cell).zip(availability).enumerate() {
        let (x, y) = (nth % COLUMNS * STEP, nth / COLUMNS * STEP);
        let path = &mut paths[cell(statuses, at_peers) as usize].1;
        let _ = write!(path, "M{x} {y}h{SIDE}v{SIDE}h-{SIDE}z");
    }
    let cells = count.div_ceil(per_cell);
    let have = map.statuses.iter().filter(|status| **status == PieceStatus::Have).count();
    let coming = map.statuses.iter().filter(|status| **status == PieceStatus::Partial).count();
    let nowhere = |(status, peers): &(&PieceStatus, &u32)| **status == PieceStatus::Missing && **peers == 0;
    let nowhere = map.statuses.iter().zip(&map.availability).filter(nowhere).count();
    Map {
        paths: paths.into_iter().filter(|(_, path)| !path.is_empty()).collect(),
        width: COLUMNS * STEP - (STEP - SIDE),
        height: (cells.div_ceil(COLUMNS) * STEP).saturating_sub(STEP - SIDE).max(1),
        per_cell,
        words: format!(
            "{have} of {count} pieces are here, {coming} on their way; {nowhere} of those missing are at no connected peer."
        ),
        copies: copies(&map.availability),
    }
}

fn cell(statuses: &[PieceStatus], at_peers: &[u32]) -> Cell {
    let have = statuses.iter().filter(|status| **status == PieceStatus::Have).count();
    let missing = |(status, peers): (&PieceStatus, &u32)| *status == PieceStatus::Missing && *peers == 0;
    match have {
        0 if statuses.contains(&PieceStatus::Partial) => Cell::Coming,
        0 if statuses.iter().zip(at_peers).any(missing) => Cell::Nowhere,
        0 => Cell::Missing,
        have if have == statuses.len() => Cell::Have,
        have if have * 2 > statuses.len() => Cell::Most,
        _ => Cell::Some,
    }
}

fn copies(availability: &[u32]) -> Option<String> {
    let fewest = availability.iter().min()?;
    let more = availability.iter().filter(|peers| *peers > fewest).count();
    let copies = f64::from(*fewest) + more as f64 / availability.len() as f64;
    (copies > 0.0).then(|| format!("{copies:.2}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(statuses: &[PieceStatus], availability: &[u32]) -> PieceMap {
        let mut map = PieceMap::default();
        map.statuses = statuses.to_vec();
        map.availability = availability.to_vec();
        map
    }

    #[test]
    fn each_piece_is_a_cell_while_they_fit() {
        use PieceStatus::{Have, Missing, Partial};
        let drawn = draw(&map(&[Have, Partial, Missing, Missing], &[0, 1, 1, 0]));
        let classes: Vec<_> = drawn.paths.iter().map(|(class, _)| *class).collect();
        assert_eq!(classes, ["have", "coming", "missing", "nowhere"]);
        assert_eq!((drawn.per_cell, drawn.height), (1, 8));
        assert_eq!(drawn.paths[2].1, "M20 0h8v8h-8z");
        assert_eq!(drawn.copies.as_deref(), Some("0.50"));
        assert!(drawn.words.starts_with("1 of 4 pieces are here, 1 on their way; 1 of"), "{}", drawn.words);
    }

    #[test]
    fn many_pieces_share_cells() {
        let mut statuses = vec![PieceStatus::Missing; 1_000_000];
        statuses[..1_000].fill(PieceStatus::Have);
        statuses[2_000] = PieceStatus::Have;
        let drawn = draw(&map(&statuses, &vec![3; 1_000_000]));
        assert_eq!((drawn.per_cell, drawn.height), (1_042, 158));
        let size: usize = drawn.paths.iter().map(|(_, path)| path.len()).sum();
        assert!(size < 30_000 && drawn.copies.as_deref() == Some("3.00"), "{size}");
        let nothing = draw(&PieceMap::default());
        assert!(nothing.paths.is_empty() && nothing.height == 1 && nothing.copies.is_none());
    }
}

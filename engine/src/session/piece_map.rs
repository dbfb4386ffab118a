//! What is told of each piece of a torrent.

/// How a piece stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PieceStatus {
    /// Nothing of it is here.
    Missing,
    /// Some of it is here or on its way, or it is being verified.
    Partial,
    /// It is verified and written.
    Have,
}

/// How each piece of a torrent stands, and in how many connected peers it is; by piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PieceMap {
    /// How it stands.
    pub statuses: Vec<PieceStatus>,
    /// How many connected peers have it.
    pub availability: Vec<u32>,
}

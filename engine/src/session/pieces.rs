//! How each piece of a torrent stands.

use super::torrent::TorrentDriver;
use swarm_core::picker::PieceState;

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

impl TorrentDriver {
    /// `None` before its data is known.
    pub(super) fn piece_map(&self) -> Option<PieceMap> {
        let geometry = &self.content.get()?.metainfo.info.geometry;
        let inner = self.inner.borrow();
        let status = |piece| match inner.core.piece_state(piece) {
            PieceState::Have => PieceStatus::Have,
            PieceState::Downloading | PieceState::Complete | PieceState::Doubted => PieceStatus::Partial,
            PieceState::Unwanted | PieceState::Unstarted => PieceStatus::Missing,
        };
        Some(PieceMap {
            statuses: geometry.piece_indices().map(status).collect(),
            availability: geometry.piece_indices().map(|piece| inner.core.availability(piece)).collect(),
        })
    }
}

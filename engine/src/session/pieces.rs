//! How each piece of a torrent stands.

use super::piece_map::{PieceMap, PieceStatus};
use super::torrent::TorrentDriver;
use swarm_core::picker::PieceState;

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

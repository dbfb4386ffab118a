//! Complete pieces on their way to a worker. Each has a job, but whichever job runs first takes all that wait, up to as many as can be
//! hashed side by side: the busier the workers, the less each piece costs.

use super::disk::DiskResult;
use crate::buffer::PieceBuffer;
use crate::hash;
use crate::hash::lanes::{Algorithm as _, Sha1Lanes};
use crate::storage::{PieceOutcome, Storage};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::merkle;
use swarm_core::metainfo::Info;

/// Complete pieces that no worker has taken yet, and whether the digests of their blocks are wanted. The torrent bounds them: they
/// count as being written.
#[derive(Clone, Default)]
pub(super) struct CompletePieces(Arc<Mutex<VecDeque<(PieceBuffer, bool)>>>);

impl CompletePieces {
    pub(super) fn push(&self, buffer: PieceBuffer, digests: bool) {
        self.lock().push_back((buffer, digests));
    }

    /// What one job is to verify. It may be nothing: another took it.
    pub(super) fn take(&self) -> Taken {
        let mut waiting = self.lock();
        let count = waiting.len().min(Sha1Lanes::choice().kernel.lanes());
        Taken(waiting.drain(..count).collect())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(PieceBuffer, bool)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pieces that one job verifies and writes.
pub(super) struct Taken(Vec<(PieceBuffer, bool)>);

impl Taken {
    /// Gives a result for each.
    pub(super) fn verify(self, storage: &dyn Storage, info: &Info, mut result: impl FnMut(DiskResult)) {
        let count = self.0.len();
        let pieces: Vec<_> = self.0.iter().map(|(buffer, _)| buffer.piece()).collect();
        let outcomes = catch_unwind(AssertUnwindSafe(|| {
            let before = self.0.iter().map(|(buffer, digests)| match digests {
                true => block_digests(info, buffer),
                false => Vec::new(),
            });
            let before: Vec<_> = before.collect();
            let buffers = self.0.into_iter().map(|(buffer, _)| buffer).collect();
            let outcomes = storage.verify_and_write_all(buffers).into_iter().zip(before);
            let with_digests = outcomes.map(|(outcome, before)| match &outcome {
                PieceOutcome::HashMismatch(buffer) => (block_digests(info, buffer), outcome),
                _ => (before, outcome),
            });
            with_digests.collect::<Vec<_>>()
        }));
        match outcomes {
            Ok(outcomes) => pieces.into_iter().zip(outcomes).for_each(|(piece, (digests, outcome))| {
                result(DiskResult::Piece { piece, outcome, digests });
            }),
            Err(_) => (0..count).for_each(|_| result(DiskResult::Panicked)),
        }
    }
}

/// The digest of each block that is in memory, as [`PieceResult`] wants it; zeros for those that are not.
fn block_digests(info: &Info, buffer: &PieceBuffer) -> Vec<[u8; 20]> {
    let piece = buffer.piece();
    let tree = info.piece_shape(piece).tree;
    let digest = |index: u32| {
        let Some(block) = buffer.block(index) else { return [0; 20] };
        match tree.and_then(|tree| tree.len.checked_sub(index * BLOCK_LEN)).filter(|&rest| rest > 0) {
            Some(rest) => {
                let leaf = merkle::leaf(&block[..block.len().min(rest as usize)]);
                *leaf.first_chunk().expect("a leaf is longer")
            }
            None => hash::sha1([block]),
        }
    };
    (0..info.geometry.blocks_in(piece)).map(digest).collect()
}

//! What other files turn out to have while the torrent runs: it is read from where it is.

use super::ReuseSources;
use super::candidates::{CandidateId, Candidates};
use crate::storage::{FileStorage, lock, sys};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use swarm_core::id::{BlockRef, FileIndex, PieceIndex};
use swarm_core::metainfo::Info;

/// Pieces that other files have.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    info: Arc<Info>,
    candidates: Candidates,
    /// For each piece, the torrent's file that it lies in, and the one that has the same bytes.
    pieces: BTreeMap<PieceIndex, (FileIndex, CandidateId)>,
    /// Candidates that could not be read.
    lost: Mutex<BTreeSet<CandidateId>>,
}

impl FileStorage {
    /// See [`Storage::find_elsewhere`](crate::storage::Storage::find_elsewhere).
    pub(in crate::storage) fn find_pieces(
        &self,
        sources: &ReuseSources,
        threads: usize,
        goes_on: &(dyn Fn() -> bool + Sync),
    ) -> Option<Elsewhere> {
        let (candidates, files) = self.find_matching(sources, threads, goes_on)?;
        let mut pieces = BTreeMap::new();
        for found in &files {
            for part in &found.parts {
                let inside = part.pieces.iter().map(|at| PieceIndex(found.file.first.0 + at.0));
                pieces.extend(inside.map(|piece| (piece, (found.file.index, part.candidate))));
            }
        }
        let lost = Mutex::default();
        (!pieces.is_empty()).then(|| Elsewhere { info: Arc::clone(&self.info), candidates, pieces, lost })
    }
}

impl Elsewhere {
    pub(crate) fn has(&self, piece: PieceIndex) -> bool {
        self.pieces.get(&piece).is_some_and(|(_, candidate)| !lock(&self.lost).contains(candidate))
    }

    /// All of them.
    pub(crate) fn pieces(&self) -> Vec<PieceIndex> {
        let lost = lock(&self.lost);
        let left = self.pieces.iter().filter(|(_, (_, candidate))| !lost.contains(candidate));
        left.map(|(&piece, _)| piece).collect()
    }

    /// The folders and files that these come from.
    pub(crate) fn origins(&self) -> Vec<&Path> {
        let mut origins: Vec<&Path> = Vec::new();
        for (_, candidate) in self.pieces.values() {
            let origin = self.candidates.origin_of(*candidate);
            if origins.last() != Some(&origin) && !origins.contains(&origin) {
                origins.push(origin);
            }
        }
        origins
    }

    /// The bytes of these blocks, one after the other, and of nothing else than has these pieces. What has changed meanwhile is not noticed here: it
    /// will not have the right hash.
    ///
    /// # Errors
    /// Whatever the system says, or that a file ends early. Then that file has nothing any more.
    pub(crate) fn read(&self, blocks: &[BlockRef]) -> io::Result<Vec<u8>> {
        self.try_read(blocks).map_err(|(candidate, error)| {
            lock(&self.lost).insert(candidate);
            error
        })
    }

    fn try_read(&self, blocks: &[BlockRef]) -> Result<Vec<u8>, (CandidateId, io::Error)> {
        let mut bytes = Vec::with_capacity(blocks.iter().map(|block| block.len as usize).sum());
        let mut open: Option<(CandidateId, Arc<File>)> = None;
        for block in blocks {
            let gone = || io::Error::from(io::ErrorKind::NotFound);
            let Some(&(of, candidate)) = self.pieces.get(&block.piece) else { continue };
            let file = match open.take().filter(|(of, _)| *of == candidate) {
                Some((_, file)) => file,
                None => self.candidates.open(candidate).ok_or_else(|| (candidate, gone()))?,
            };
            let start = self.info.geometry.offset_of(block.piece) + u64::from(block.begin);
            for segment in self.info.segments_of(start, block.len.into()) {
                let from = bytes.len();
                // What is not of the file is padding.
                bytes.resize(from + segment.len as usize, 0);
                if segment.file == of {
                    let read = sys::read_at(&file, &mut bytes[from..], segment.offset)
                        .map_err(|e| (candidate, e))?;
                    if read < segment.len as usize {
                        return Err((candidate, io::ErrorKind::UnexpectedEof.into()));
                    }
                }
            }
            open = Some((candidate, file));
        }
        Ok(bytes)
    }
}

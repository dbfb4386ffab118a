//! Putting pieces that have rotted back into their complete files.
//!
//! Only what was right when its files looked as they do now is written, so that no program's change is lost: a piece counts as
//! [rotten](super::table::Rot::rotten) for as long as that is so. A crash in between leaves a file that looks otherwise, and all of it
//! is checked again.

use super::error::StorageError;
use super::read::{Located, open_followed};
use super::sys::Stamp;
use super::table::{BadFile, Place};
use super::tree::Access;
use super::write::for_memory;
use super::{FileStorage, PieceOutcome, Storage as _, sys};
use crate::buffer::PieceBuffer;
use crate::hash::PieceHasher;
use std::fs::File;
use swarm_core::metainfo::PieceHash;

impl FileStorage {
    /// As [`Storage::verify_and_write`](super::Storage::verify_and_write) once nothing is downloaded any more. `hash` is the piece's, if
    /// it is known.
    pub(super) fn verify_then_mend(&self, buffer: PieceBuffer, hash: Option<PieceHash>) -> PieceOutcome {
        let piece = buffer.piece();
        if !self.mends_piece(piece) || buffer.has_spilled() {
            return PieceOutcome::Failed { error: StorageError::Closed { path: self.path() }, buffer };
        }
        let mended = self.hash_of_memory(&buffer, hash).and_then(|hash| {
            if hash != self.info.piece_hash(piece) {
                return Ok(false);
            }
            let changes = self.table().changes;
            for slice in self.locate(piece, 0..buffer.piece_len()) {
                match slice.place {
                    Place::Pad => {}
                    Place::Present => self.mend_slice(&buffer, &slice)?,
                    _ => return Err(StorageError::Changed { path: self.path_of(slice.file, slice.place) }),
                }
            }
            self.table().add(&self.info, piece);
            self.doubt_if_changed(None, piece, changes)?;
            Ok(true)
        });
        match mended {
            Ok(false) => PieceOutcome::HashMismatch(buffer),
            Ok(true) => {
                // Failing that, `close` tries again.
                let _ = self.save_state().inspect_err(|e| tracing::warn!("{e}"));
                PieceOutcome::Ok
            }
            Err(error) => PieceOutcome::Failed { error, buffer },
        }
    }

    fn hash_of_memory(
        &self,
        buffer: &PieceBuffer,
        hash: Option<PieceHash>,
    ) -> Result<PieceHash, StorageError> {
        if let Some(hash) = hash {
            return Ok(hash);
        }
        let mut hasher = PieceHasher::new(self.info.piece_shape(buffer.piece()));
        for_memory(buffer, 0..buffer.piece_len(), |_, slices| {
            slices.iter().for_each(|slice| hasher.update(slice));
            Ok(())
        })?;
        Ok(hasher.finish())
    }

    /// Writes what a complete file has wrong of a piece that is all in memory, unless somebody has changed the file.
    pub(super) fn mend_slice(&self, buffer: &PieceBuffer, slice: &Located) -> Result<(), StorageError> {
        let _writing = self.writing.lock(slice.file);
        let path = self.path_of(slice.file, Place::Present);
        let failed = |action, e| StorageError::space(&path, action, slice.len, e);
        let expected = self.table().stamps[slice.file.idx()];
        let target = self.open_to_mend(slice)?;
        let found = target.metadata().map_err(|e| failed("look at", e))?;
        if expected != Some(Stamp::of(&found)) {
            // Reading it will notice.
            return Err(StorageError::Changed { path });
        }
        if self.holds(&target, buffer, slice)? {
            return Ok(());
        }
        // Until it is done, nobody takes our own change for another program's.
        self.table().stamps[slice.file.idx()] = None;
        let written = for_memory(buffer, slice.range(), |at, slices| {
            let offset = slice.offset + u64::from(at - slice.at);
            sys::write_all_at(&target, slices, offset).map_err(|e| failed("write", e))
        });
        let synced = written.and_then(|()| target.sync_data().map_err(|e| failed("sync", e)));
        let stamp = target.metadata().ok().map(|meta| Stamp::of(&meta));
        let mut table = self.table();
        table.stamps[slice.file.idx()] = stamp.or(expected);
        if let Some(bad) = table.bad.files.get_mut(&slice.file) {
            *bad = BadFile { hashed: stamp, seen: stamp };
        }
        table.is_unsaved = true;
        synced
    }

    fn open_to_mend(&self, slice: &Located) -> Result<File, StorageError> {
        match self.is_seed {
            true => open_followed(&self.path_of(slice.file, Place::Present), true),
            false => self.tree.open(&self.entry(slice.file).path, Access::Write),
        }
    }

    /// Whether a file has these very bytes.
    fn holds(&self, file: &File, buffer: &PieceBuffer, slice: &Located) -> Result<bool, StorageError> {
        let mut is_same = true;
        for_memory(buffer, slice.range(), |at, slices| {
            let mut offset = slice.offset + u64::from(at - slice.at);
            for expected in slices.iter() {
                let mut found = vec![0; expected.len()];
                // What cannot be read is written anew: that may be what the disk needs.
                let read = sys::read_at(file, &mut found, offset).unwrap_or(0);
                is_same &= read == found.len() && found == **expected;
                offset += expected.len() as u64;
            }
            Ok(())
        })?;
        Ok(is_same)
    }
}

//! Deleting a torrent's files.

use super::FileStorage;
use super::error::StorageError;
use super::state::{Loaded, State};
use super::table::Place;
use super::work::{STATE, WorkFolder};
use std::cmp::Reverse;
use std::collections::BTreeSet;

impl FileStorage {
    /// Deletes, once the storage is closed, the files that are known to be the torrent's, what is unfinished, what is saved about
    /// them, and the folders that are empty then. A file that was never verified stays, and so does another torrent's download of
    /// the same name.
    ///
    /// # Errors
    /// [`StorageError::Locked`] if somebody downloads there; the first file that cannot be removed. The others are removed all the same.
    pub(super) fn delete_files(&self) -> Result<(), StorageError> {
        let slots = self.table().slots.clone();
        let mut deleted = Ok(());
        let mut folders = BTreeSet::new();
        for (file, slot) in self.info.files.iter().zip(slots) {
            let path = self.tree.path_of(&file.path);
            let is_ours = match slot.place {
                Place::Empty => {
                    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink() || meta.len() == 0)
                }
                _ => slot.is_finished(),
            };
            if is_ours {
                deleted = deleted.and(self.tree.remove(&file.path));
                folders.extend((1..file.path.len()).map(|depth| (Reverse(depth), &file.path[..depth])));
            }
        }
        deleted = deleted.and(self.delete_work_folder());
        for (_, folder) in folders {
            // It may hold something else.
            let _ = self.tree.remove_dir(folder);
        }
        deleted.and(self.saved_state.as_ref().map_or(Ok(()), |saved_state| saved_state.remove()))
    }

    fn delete_work_folder(&self) -> Result<(), StorageError> {
        let folder = WorkFolder::lock(&self.tree, &self.info.name)?;
        match State::load(&self.tree, &folder.path(STATE), &self.info)? {
            Loaded::State(state) if state.info_hash != self.info.info_hash => Ok(()),
            _ => folder.remove(),
        }
    }
}

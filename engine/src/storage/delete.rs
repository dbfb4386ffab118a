//! Deleting a torrent's files.

use super::custom::PieceStorage;
use super::error::StorageError;
use super::home::StateHome;
use super::names;
use super::open::check_paths;
use super::tree::Tree;
use super::work::WorkFolder;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use swarm_core::metainfo::Info;

/// Deletes what an embedder's storage holds, or else a torrent's files below `dir`, finished or not, what is saved about them, and the folders that are empty then. Nothing
/// else in `dir` is touched.
///
/// # Errors
/// [`StorageError::Locked`] if somebody downloads there; the first file that cannot be removed. The others are removed all the same.
pub fn delete(
    info: &Arc<Info>,
    custom: Option<Arc<dyn PieceStorage>>,
    dir: &Path,
    state_dir: Option<&Path>,
) -> Result<(), StorageError> {
    if let Some(pieces) = custom {
        return pieces.delete().map_err(|e| StorageError::io(info.name.as_ref(), "delete", e));
    }
    check_paths(info)?;
    let root = match dir.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        root => root.map_err(|e| StorageError::io(dir, "open", e))?,
    };
    let tree = Tree::new(root.clone());
    let folder = WorkFolder::lock(&tree, &info.name)?;
    let named = match names::for_download(info, &tree, &folder) {
        Ok(named) => named,
        Err(error) => {
            folder.abandon();
            return Err(error);
        }
    };
    let mut deleted = Ok(());
    let mut folders = BTreeSet::new();
    for file in &named.files {
        folders.extend((1..file.path.len()).map(|depth| (Reverse(depth), &file.path[..depth])));
        if !super::verify::is_unwritten_padding(&tree.path_of(&file.path), file) {
            deleted = deleted.and(gone_is_fine(tree.remove(&file.path)));
        }
    }
    deleted = deleted.and(folder.remove());
    for (_, folder) in folders {
        // It may hold something else, or be there no more.
        let _ = tree.remove_dir(folder);
    }
    let saved = state_dir.map_or(Ok(()), |state_dir| StateHome::new(state_dir, info, &root).remove());
    deleted.and(saved)
}

/// A file whose folder is not there is not there either.
fn gone_is_fine(removed: Result<(), StorageError>) -> Result<(), StorageError> {
    match removed {
        Err(StorageError::Io { source, .. }) if source.kind() == io::ErrorKind::NotADirectory => Ok(()),
        removed => removed,
    }
}

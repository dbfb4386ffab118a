//! Where files are.

use super::tree::Tree;
use std::path::PathBuf;
use std::sync::Arc;
use swarm_core::id::FileIndex;
use swarm_core::metainfo::Info;

/// Where a torrent's files are, or will be, under the names that the file system takes.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    pub(super) tree: Tree,
    pub(super) info: Arc<Info>,
}

impl Location {
    /// What the torrent holds.
    pub(crate) fn info(&self) -> &Info {
        &self.info
    }

    /// Of the torrent's file or folder.
    pub(crate) fn path(&self) -> PathBuf {
        self.tree.path_of(&[&self.info.name])
    }

    /// Of a file; none if there is no such file, or it is never on disk: padding, and links that lead out of the torrent.
    pub(crate) fn file_path(&self, file: FileIndex) -> Option<PathBuf> {
        let entry = self.info.files.get(file.idx())?;
        let is_made = !entry.attr.pad && (!entry.attr.symlink || entry.symlink_target.is_some());
        is_made.then(|| self.tree.path_of(&entry.path))
    }
}

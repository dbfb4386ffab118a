//! Where the state of a complete torrent is kept: in the user's state folder, by info-hash and destination.

use super::error::StorageError;
use super::state::{Loaded, State};
use super::tree::{Found, Tree};
use crate::hash::sha1;
use std::path::{Path, PathBuf};
use swarm_core::hex::hex;
use swarm_core::metainfo::Info;

/// One torrent's file in the state folder.
#[derive(Debug)]
pub(super) struct SavedState {
    tree: Tree,
    name: String,
}

impl SavedState {
    /// For this torrent at the canonical path `destination`.
    pub(super) fn new(dir: &Path, info: &Info, destination: &Path) -> SavedState {
        let digest = sha1([destination.as_os_str().as_encoded_bytes()]);
        let place = hex(&digest[..8]);
        SavedState { tree: Tree::new(dir.to_owned()), name: format!("{}-{place}.state", info.info_hash) }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.tree.path_of(&[&self.name])
    }

    /// Whether there is a state.
    pub(super) fn exists(&self) -> Result<bool, StorageError> {
        Ok(self.tree.find(&[&self.name])? != Found::Nothing)
    }

    /// Removes the state, if there is one.
    pub(super) fn remove(&self) -> Result<(), StorageError> {
        if self.tree.root().is_dir() { self.tree.remove(&[&self.name]) } else { Ok(()) }
    }

    pub(super) fn load(&self, info: &Info) -> Result<Loaded, StorageError> {
        State::load(&self.tree, &[&self.name], info)
    }

    pub(super) fn save(&self, state: &State) -> Result<(), StorageError> {
        let dir = self.tree.root();
        std::fs::create_dir_all(dir).map_err(|e| StorageError::space(dir, "create", 0, e))?;
        state.save(&self.tree, &[], &self.name)
    }
}

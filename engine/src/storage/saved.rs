//! Where the state of a complete torrent is kept: in the user's state folder, by info-hash and destination.

use super::error::StorageError;
use super::state::{Loaded, State, data_of};
use super::tree::{Found, Tree};
use crate::hash::sha1;
use std::path::{Path, PathBuf};
use swarm_core::hex::hex;
use swarm_core::metainfo::Info;

/// What the names of states end with.
const EXTENSION: &str = ".state";

/// What the names of states end with whose data was found to be wrong since.
const DISTRUSTED: &str = ".distrusted";

/// So many states are read to find out where the data of torrents is: those that were saved last.
const STATES_MAX: usize = 1_000;

/// Longer ones are not read for that, in bytes.
const READ_LEN_MAX: u64 = 4 << 20;

/// Where the files and folders of torrents are, as far as the states in the user's state folder tell.
pub(super) fn known_data(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let states = entries.flatten().filter_map(|entry| {
        let meta = entry.metadata().ok().filter(|meta| meta.is_file() && meta.len() <= READ_LEN_MAX)?;
        let is_state = entry.file_name().to_str().is_some_and(|name| name.ends_with(EXTENSION));
        is_state.then(|| (meta.modified().ok(), entry.path()))
    });
    let mut states: Vec<_> = states.collect();
    states.sort_unstable_by(|a, b| b.cmp(a));
    let states = states.into_iter().take(STATES_MAX);
    states.filter_map(|(_, path)| data_of(&std::fs::read(path).ok()?)).collect()
}

/// One torrent's file in the state folder.
#[derive(Debug)]
pub(super) struct SavedState {
    tree: Tree,
    name: String,
    /// The torrent's file or folder.
    data: PathBuf,
}

impl SavedState {
    /// For this torrent at the canonical path `destination`.
    pub(super) fn new(dir: &Path, info: &Info, destination: &Path) -> SavedState {
        let digest = sha1([destination.as_os_str().as_encoded_bytes()]);
        let place = hex(&digest[..8]);
        SavedState {
            tree: Tree::new(dir.to_owned()),
            name: format!("{}-{place}{EXTENSION}", info.info_hash),
            data: destination.join(&info.name),
        }
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
        if !self.tree.root().is_dir() {
            return Ok(());
        }
        self.tree.remove(&[&self.distrusted()])?;
        self.tree.remove(&[&self.name])
    }

    /// Nothing is trusted any more because of this state. What was right once, and how its files looked then, stays known.
    pub(super) fn distrust(&self) -> Result<(), StorageError> {
        if !self.tree.root().is_dir() || !self.exists()? {
            return Ok(());
        }
        self.tree.rename(&[&self.name], &[&self.distrusted()], true)
    }

    fn distrusted(&self) -> String {
        format!("{}{DISTRUSTED}", self.name)
    }

    /// The state that is not trusted any more, unless there is a newer one.
    pub(super) fn load_distrusted(&self, info: &Info) -> Option<State> {
        match State::load(&self.tree, &[&self.distrusted()], info) {
            Ok(Loaded::State(state)) if state.info_hash == info.info_hash => Some(state),
            _ => None,
        }
    }

    pub(super) fn load(&self, info: &Info) -> Result<Loaded, StorageError> {
        State::load(&self.tree, &[&self.name], info)
    }

    pub(super) fn save(&self, state: &State) -> Result<(), StorageError> {
        let dir = self.tree.root();
        std::fs::create_dir_all(dir).map_err(|e| StorageError::space(dir, "create", 0, e))?;
        state.save(&self.tree, &[], &self.name, Some(&self.data))?;
        self.tree.remove(&[&self.distrusted()])
    }
}

//! The torrents of a session, for whoever asks for them.

use super::handle::TorrentHandle;
use crate::Error;
use crate::id::TorrentId;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use swarm_core::id::InfoHash;

/// Handles of the torrents that have not ended.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<Torrents>);

#[derive(Debug, Default)]
struct Torrents {
    last_id: u64,
    handles: BTreeMap<TorrentId, TorrentHandle>,
    by_hash: BTreeMap<InfoHash, TorrentId>,
}

impl Registry {
    fn torrents(&self) -> MutexGuard<'_, Torrents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An id for one more torrent.
    pub(super) fn next_id(&self) -> TorrentId {
        let mut torrents = self.torrents();
        torrents.last_id += 1;
        TorrentId(torrents.last_id)
    }

    /// Gives an info-hash to a torrent.
    ///
    /// # Errors
    /// [`Error::AlreadyAdded`] if another torrent has it.
    pub(super) fn claim(&self, info_hash: InfoHash, id: TorrentId) -> Result<(), Error> {
        match *self.torrents().by_hash.entry(info_hash).or_insert(id) {
            owner if owner == id => Ok(()),
            id => Err(Error::AlreadyAdded { info_hash, id }),
        }
    }

    pub(super) fn insert(&self, handle: TorrentHandle) {
        self.torrents().handles.insert(handle.id(), handle);
    }

    /// The torrent has ended.
    pub(super) fn remove(&self, id: TorrentId) {
        let mut torrents = self.torrents();
        if let Some(info_hash) = torrents.handles.remove(&id).and_then(|handle| handle.info_hashes().v1) {
            torrents.by_hash.remove(&info_hash);
        }
    }

    pub(super) fn all(&self) -> Vec<TorrentHandle> {
        self.torrents().handles.values().cloned().collect()
    }

    pub(super) fn get(&self, id: TorrentId) -> Option<TorrentHandle> {
        self.torrents().handles.get(&id).cloned()
    }

    pub(super) fn find(&self, info_hash: InfoHash) -> Option<TorrentHandle> {
        let torrents = self.torrents();
        torrents.handles.get(torrents.by_hash.get(&info_hash)?).cloned()
    }
}

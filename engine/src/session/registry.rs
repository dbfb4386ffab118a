//! The torrents of a session, for whoever asks for them.

use super::handle::TorrentHandle;
use crate::Error;
use crate::id::TorrentId;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use swarm_core::id::{InfoHash, InfoHashes};

/// Handles of the torrents that have not ended.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<Torrents>);

#[derive(Debug, Default)]
struct Torrents {
    last_id: u64,
    handles: BTreeMap<TorrentId, TorrentHandle>,
    by_hash: BTreeMap<InfoHash, TorrentId>,
    /// The info-hashes that each was given. Others may have been given some since.
    given: BTreeMap<TorrentId, Vec<InfoHash>>,
}

impl Torrents {
    fn give(&mut self, info_hashes: InfoHashes, id: TorrentId) {
        self.by_hash.extend(info_hashes.swarms().map(|info_hash| (info_hash, id)));
        self.given.entry(id).or_default().extend(info_hashes.swarms());
    }
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

    /// Gives info-hashes to a torrent: all of them, or none.
    ///
    /// # Errors
    /// [`Error::AlreadyAdded`] if another torrent has one of them.
    pub(super) fn claim(&self, info_hashes: InfoHashes, id: TorrentId) -> Result<(), Error> {
        let mut torrents = self.torrents();
        for info_hash in info_hashes.swarms() {
            if let Some(&id) = torrents.by_hash.get(&info_hash).filter(|owner| **owner != id) {
                return Err(Error::AlreadyAdded { info_hash, id });
            }
        }
        torrents.give(info_hashes, id);
        Ok(())
    }

    /// Gives all of these info-hashes to a torrent, whoever has them.
    pub(super) fn take_over(&self, info_hashes: InfoHashes, id: TorrentId) {
        self.torrents().give(info_hashes, id);
    }

    pub(super) fn insert(&self, handle: TorrentHandle) {
        self.torrents().handles.insert(handle.id(), handle);
    }

    /// The torrent has ended.
    pub(super) fn remove(&self, id: TorrentId) {
        let mut torrents = self.torrents();
        torrents.handles.remove(&id);
        for info_hash in torrents.given.remove(&id).unwrap_or_default() {
            if torrents.by_hash.get(&info_hash) == Some(&id) {
                torrents.by_hash.remove(&info_hash);
            }
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

//! Files of the session's torrents that have become complete, until others have looked at them.

use crate::id::TorrentId;
use crate::storage::{Lengths, Location, Sibling};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use swarm_core::id::{FileIndex, InfoHash};
use tokio::sync::Notify;

/// What others have not looked at yet.
#[derive(Default)]
pub(super) struct Completed {
    /// Files that have become complete, by their torrents.
    files: RefCell<BTreeMap<TorrentId, Sibling>>,
    /// The names of torrents that began to download after files had become complete that they have not looked at.
    newcomers: RefCell<BTreeSet<InfoHash>>,
    /// How often files have become complete.
    count: Cell<u64>,
    wake: Notify,
}

impl Completed {
    /// These files are complete; `None`: any may be.
    pub(super) fn note(&self, id: TorrentId, location: Location, files: Option<Vec<FileIndex>>) {
        self.count.set(self.count.get() + 1);
        let mut files: Option<BTreeSet<FileIndex>> = files.map(|files| files.into_iter().collect());
        let mut completed = self.files.borrow_mut();
        // It may have been moved since.
        if let Some(known) = completed.remove(&id) {
            files = known.files.and_then(|known| Some(&known | files.as_ref()?));
        }
        let all = &location.info().files;
        let lengths = match &files {
            Some(files) => Lengths::of(files.iter().filter_map(|file| all.get(file.idx()))),
            None => Lengths::of(all),
        };
        completed.insert(id, Sibling { location, files, lengths });
        self.wake.notify_one();
    }

    /// How often files have become complete up to now.
    pub(super) fn count(&self) -> u64 {
        self.count.get()
    }

    /// The torrent of this name downloads from now on, and has looked at others when the count was another.
    pub(super) fn note_newcomer(&self, name: InfoHash) {
        self.newcomers.borrow_mut().insert(name);
        self.wake.notify_one();
    }

    /// Waits until there is something.
    pub(super) async fn some(&self) {
        self.wake.notified().await;
    }

    /// All files, by their torrents, and the newcomers.
    pub(super) fn take(&self) -> (BTreeMap<TorrentId, Sibling>, BTreeSet<InfoHash>) {
        (self.files.take(), self.newcomers.take())
    }
}

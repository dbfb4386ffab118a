//! Files of the session's torrents that have become complete, until others have looked at them.

use crate::id::TorrentId;
use crate::storage::{Location, Sibling};
use std::cell::RefCell;
use std::collections::BTreeMap;
use swarm_core::id::FileIndex;
use tokio::sync::Notify;

/// Files that have become complete and that nobody has looked at, by their torrents.
#[derive(Default)]
pub(super) struct Completed {
    files: RefCell<BTreeMap<TorrentId, Sibling>>,
    wake: Notify,
}

impl Completed {
    /// These files are complete; `None`: any may be.
    pub(super) fn note(&self, id: TorrentId, location: Location, files: Option<Vec<FileIndex>>) {
        let files = files.map(|files| files.into_iter().collect());
        let mut completed = self.files.borrow_mut();
        // It may have been moved since.
        let known = completed.remove(&id).map(|sibling| sibling.files);
        let files = match (known, files) {
            (Some(Some(mut known)), Some(files)) => {
                known.extend(files);
                Some(known)
            }
            (Some(None), _) => None,
            (_, files) => files,
        };
        completed.insert(id, Sibling { location, files });
        self.wake.notify_one();
    }

    /// Waits until there are some.
    pub(super) async fn some(&self) {
        self.wake.notified().await;
    }

    /// All of them, by their torrents.
    pub(super) fn take(&self) -> BTreeMap<TorrentId, Sibling> {
        self.files.take()
    }
}

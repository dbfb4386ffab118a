//! Folders of torrents are looked at when they are used, not only when they are given.

use super::Manager;
use crate::folders;
use crate::torrents::{Id, Refusal};

impl Manager {
    /// Whether a torrent's folder still is one that may be used; else the torrent fails.
    pub(super) async fn may_use_folder(&mut self, id: Id) -> bool {
        let Err(error) = self.check_folder(id).await else { return true };
        self.live.entry(id).or_default().failure = Some(error.to_string());
        self.turns_changed = true;
        false
    }

    /// Looks at a torrent's folder, on a thread that may block.
    pub(super) async fn check_folder(&self, id: Id) -> Result<(), Refusal> {
        let Some(torrent) = self.book.get(id) else { return Ok(()) };
        let (dir, rules) = (torrent.record.dir.clone(), self.rules.borrow().clone());
        let checked =
            tokio::task::spawn_blocking(move || folders::check(&dir, &rules.dir, &rules.allow_dirs));
        checked.await.unwrap_or_else(|_| Err(Refusal::Engine("a defect: it ended early".to_owned())))
    }
}

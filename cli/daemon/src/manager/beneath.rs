//! Folders of torrents are looked at when they are used, not only when they are given.

use super::Manager;
use crate::config::Rules;
use crate::folders;
use crate::torrents::Id;
use std::path::PathBuf;
use std::sync::Arc;

impl Manager {
    /// Whether a torrent's folder still is one that may be used; else the torrent fails.
    pub(super) async fn may_use_folder(&mut self, id: Id) -> bool {
        let Some(torrent) = self.book.get(id) else { return true };
        let (dir, rules) = (torrent.record.dir.clone(), self.rules.borrow().clone());
        let Err(error) = check_folders(vec![dir], rules).await else { return true };
        self.live.entry(id).or_default().failure = Some(error);
        self.turns_changed = true;
        false
    }
}

/// Whether these folders still are some that may be used, found out on a thread that may block.
pub(super) async fn check_folders(dirs: Vec<PathBuf>, rules: Arc<Rules>) -> Result<(), String> {
    let check = move || {
        let mut checked = dirs.iter().map(|dir| folders::check(dir, &rules.dir, &rules.allow_dirs));
        checked.find(Result::is_err).unwrap_or(Ok(()))
    };
    let checked = tokio::task::spawn_blocking(check).await;
    checked.map_err(|_| "a defect: it ended early".to_owned())?.map_err(|error| error.to_string())
}

//! Folders of torrents are looked at when they are used, not only when they are given.

use super::Manager;
use crate::config::Rules;
use crate::folders;
use crate::torrents::Id;
use std::path::PathBuf;
use std::sync::Arc;

impl Manager {
    /// Whether a torrent's folder still is one that may be used, and could hold what it lacks; else the torrent fails.
    pub(super) async fn may_use_folder(&mut self, id: Id) -> bool {
        let Some(torrent) = self.book.get(id) else { return true };
        let (dir, rules) = (torrent.record.dir.clone(), self.rules.borrow().clone());
        let progress = torrent.record.progress;
        let lacks = match torrent.metainfo.is_some() && !torrent.record.is_complete() {
            true => progress.bytes_total.saturating_sub(progress.bytes_verified),
            false => 0,
        };
        let room = dir.clone();
        let has_room = move || folders::expect_room(&room, lacks).map_err(|error| error.to_string());
        let Err(error) = check(vec![dir], rules, has_room).await else { return true };
        self.live.entry(id).or_default().failure = Some(error);
        self.turns_due.insert(id);
        false
    }
}

/// Whether these folders still are some that may be used, found out on a thread that may block.
pub(super) async fn check_folders(dirs: Vec<PathBuf>, rules: Arc<Rules>) -> Result<(), String> {
    check(dirs, rules, || Ok(())).await
}

/// The same, and then something more.
async fn check(
    dirs: Vec<PathBuf>,
    rules: Arc<Rules>,
    more: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<(), String> {
    let check = move || {
        let mut checked = dirs.iter().map(|dir| folders::check(dir, &rules.dir, &rules.allow_dirs));
        checked.find_map(Result::err).map_or_else(more, |error| Err(error.to_string()))
    };
    tokio::task::spawn_blocking(check).await.map_err(|_| "a defect: it ended early".to_owned())?
}

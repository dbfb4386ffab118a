//! The watched folder: what is put there is added, and renamed.

use super::commands::Handle;
use crate::adding::{self, AddOptions, Terms};
use crate::config::Rules;
use crate::torrents::Refusal;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use swarm_engine::{METAINFO_LEN_MAX, SessionOptions};
use tokio::sync::watch as watching;

/// How often the folder is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How many files are taken at a time.
const FILES_AT_ONCE: usize = 1_000;
/// How long a file with a link may be, in bytes.
const LINK_FILE_LEN_MAX: u64 = 64 * 1024;

/// How a file looked: one that looks the same twice is not being written any more.
type Seen = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

/// Watches the folder that the rules name, if they do, for as long as the manager is there.
pub async fn watch(manager: Handle, mut rules: watching::Receiver<Arc<Rules>>, session: SessionOptions) {
    let mut seen = Seen::new();
    loop {
        let current = rules.borrow_and_update().clone();
        if let Some(folder) = &current.watch_dir {
            let (folder, before) = (folder.clone(), std::mem::take(&mut seen));
            let Ok((now, ready)) = tokio::task::spawn_blocking(move || look(&folder, &before)).await else {
                return;
            };
            seen = now;
            for path in ready {
                seen.remove(&path);
                take(&path, &manager, &current, &session).await;
            }
        }
        let changed = tokio::time::timeout(LOOK_INTERVAL, rules.changed());
        if let Ok(Err(_)) = changed.await {
            return;
        }
    }
}

/// What is in the folder, and what of it has not changed since before.
fn look(folder: &Path, before: &Seen) -> (Seen, Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let is_ours = |path: &PathBuf| kind(path).is_some();
    let seen: Seen = entries
        .map(|entry| entry.path())
        .filter(is_ours)
        .filter_map(|path| {
            let meta = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some((path, (meta.len(), meta.modified().ok())))
        })
        .take(FILES_AT_ONCE)
        .collect();
    let ready = seen.iter().filter(|(path, stamp)| before.get(*path) == Some(stamp) && stamp.0 > 0);
    let ready = ready.map(|(path, _)| path.clone()).collect();
    (seen, ready)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Metainfo,
    Link,
}

fn kind(path: &Path) -> Option<Kind> {
    let extension = path.extension().and_then(OsStr::to_str)?.to_ascii_lowercase();
    match extension.as_str() {
        "torrent" | "meta" => Some(Kind::Metainfo),
        "magnet" => Some(Kind::Link),
        _ => None,
    }
}

/// Adds what is in a file, and renames it: so it is not taken again, and its owner sees what became of it.
async fn take(path: &Path, manager: &Handle, rules: &Arc<Rules>, session: &SessionOptions) {
    let outcome = add(path, manager, rules, session).await;
    let end = match &outcome {
        Ok(()) | Err(Refusal::AlreadyAdded { .. }) => "added",
        Err(Refusal::Store { .. } | Refusal::Stopping) => return,
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "a file of the watched folder is not added");
            "failed"
        }
    };
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{end}"));
    if let Err(error) = tokio::fs::rename(path, &name).await {
        tracing::warn!(file = %path.display(), %error, "a file of the watched folder cannot be renamed");
    }
}

async fn add(
    path: &Path,
    manager: &Handle,
    rules: &Arc<Rules>,
    session: &SessionOptions,
) -> Result<(), Refusal> {
    let (file, kind) = (path.to_owned(), kind(path));
    let limit = if kind == Some(Kind::Link) { LINK_FILE_LEN_MAX } else { METAINFO_LEN_MAX as u64 + 1 };
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        std::fs::File::open(&file)?.take(limit).read_to_end(&mut bytes).map(|_| bytes)
    });
    let read = read.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    let bytes = read.map_err(|error| Refusal::Invalid(format!("cannot be read: {error}")))?;
    // It names no category.
    let (options, terms) = (AddOptions::default(), Terms { rules: Arc::clone(rules), ..Terms::default() });
    let new = match kind {
        Some(Kind::Link) => {
            let text = String::from_utf8_lossy(&bytes).trim().to_owned();
            adding::of_source(&text, options, terms, session).await?
        }
        _ => adding::of_bytes(bytes, options, terms).await?,
    };
    manager.add(new).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_taken_once_it_has_stopped_growing() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a.torrent", "b.META", "c.magnet", "d.torrent.added", "e.txt", "empty.torrent"] {
            std::fs::write(at(name), if name.starts_with("empty") { "" } else { "x" }).unwrap();
        }
        std::fs::create_dir(at("folder.torrent")).unwrap();
        let (seen, ready) = look(dir.path(), &Seen::new());
        assert!(ready.is_empty());
        std::fs::write(at("a.torrent"), "xy").unwrap();
        let (seen, ready) = look(dir.path(), &seen);
        assert_eq!(ready, [at("b.META"), at("c.magnet")]);
        let (_, ready) = look(dir.path(), &seen);
        assert_eq!(ready, [at("a.torrent"), at("b.META"), at("c.magnet")]);
    }
}

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
/// How many files that cannot be renamed are remembered. With more, no others are taken.
const TAKEN_MAX: usize = 10_000;
/// How long a file with a link may be, in bytes.
const LINK_FILE_LEN_MAX: u64 = 64 * 1024;

/// How a file looked: one that looks the same twice is not being written any more.
type Seen = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

/// What is known of the folder's files.
#[derive(Debug, Default)]
struct Known {
    /// What was there before.
    seen: Seen,
    /// What was taken and could not be renamed: it is not taken again as long as it looks the same.
    taken: Seen,
}

/// Watches the folder that the rules name, if they do, for as long as the manager is there.
pub async fn watch(manager: Handle, mut rules: watching::Receiver<Arc<Rules>>, session: SessionOptions) {
    let mut known = Known::default();
    loop {
        let current = rules.borrow_and_update().clone();
        if let Some(folder) = &current.watch_dir {
            let (folder, before) = (folder.clone(), std::mem::take(&mut known));
            let Ok((now, ready)) = tokio::task::spawn_blocking(move || look(&folder, before)).await else {
                return;
            };
            known = now;
            for path in ready {
                let stamp = known.seen.remove(&path);
                let is_renamed = take(&path, &manager, &current, &session).await;
                if let Some(stamp) = stamp.filter(|_| !is_renamed) {
                    known.taken.insert(path, stamp);
                }
            }
        }
        let changed = tokio::time::timeout(LOOK_INTERVAL, rules.changed());
        if let Ok(Err(_)) = changed.await {
            return;
        }
    }
}

/// What is in the folder, and what of it is to be taken: what has not changed since before and was not taken already.
fn look(folder: &Path, before: Known) -> (Known, Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let is_ours = |path: &PathBuf| kind(path).is_some();
    let found = entries.map(|entry| entry.path()).filter(is_ours).filter_map(|path| {
        let meta = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some((path, (meta.len(), meta.modified().ok())))
    });
    let mut now = Known::default();
    // Where too many cannot be renamed, the others wait.
    let seen_max = FILES_AT_ONCE.min(TAKEN_MAX.saturating_sub(before.taken.len()));
    for (path, stamp) in found {
        if before.taken.get(&path) == Some(&stamp) {
            now.taken.insert(path, stamp);
        } else if now.seen.len() < seen_max {
            now.seen.insert(path, stamp);
        }
    }
    let ready = now.seen.iter().filter(|(path, stamp)| before.seen.get(*path) == Some(stamp) && stamp.0 > 0);
    let ready = ready.map(|(path, _)| path.clone()).collect();
    (now, ready)
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

/// Adds what is in a file, and renames it: so it is not taken again, and its owner sees what became of it. Whether it has another name now,
/// or is to be taken once more.
async fn take(path: &Path, manager: &Handle, rules: &Arc<Rules>, session: &SessionOptions) -> bool {
    let outcome = add(path, manager, rules, session).await;
    let end = match &outcome {
        Ok(()) | Err(Refusal::AlreadyAdded { .. }) => "added",
        Err(Refusal::Store { .. } | Refusal::Stopping) => return true,
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "a file of the watched folder is not added");
            "failed"
        }
    };
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{end}"));
    let renamed = tokio::fs::rename(path, &name).await;
    if let Err(error) = &renamed {
        let file = path.display();
        tracing::warn!(%file, %error, "a file of the watched folder cannot be renamed; until it changes it is taken at each start");
    }
    renamed.is_ok()
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
        let (known, ready) = look(dir.path(), Known::default());
        assert!(ready.is_empty());
        std::fs::write(at("a.torrent"), "xy").unwrap();
        let (known, ready) = look(dir.path(), known);
        assert_eq!(ready, [at("b.META"), at("c.magnet")]);
        let (_, ready) = look(dir.path(), known);
        assert_eq!(ready, [at("a.torrent"), at("b.META"), at("c.magnet")]);
    }

    #[test]
    fn a_file_that_cannot_be_renamed_is_taken_again_only_once_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a.torrent", "b.torrent"] {
            std::fs::write(at(name), "x").unwrap();
        }
        let look = |known| look(dir.path(), known);
        let (mut known, ready) = look(look(Known::default()).0);
        assert_eq!(ready, [at("a.torrent"), at("b.torrent")]);
        for path in ready {
            let stamp = known.seen.remove(&path).unwrap();
            known.taken.insert(path, stamp);
        }
        for _ in 0..3 {
            let (now, ready) = look(known);
            assert!(ready.is_empty(), "{ready:?}");
            known = now;
        }
        std::fs::write(at("a.torrent"), "xy").unwrap();
        std::fs::remove_file(at("b.torrent")).unwrap();
        let (known, ready) = look(look(known).0);
        assert_eq!((ready, known.taken.len()), (vec![at("a.torrent")], 0), "what is gone is forgotten");
        let many = (0..TAKEN_MAX).map(|nth| (at(&nth.to_string()), (1, None))).collect();
        let (known, ready) = look(Known { taken: many, seen: known.seen });
        assert!(ready.is_empty() && known.seen.is_empty(), "there are too many");
    }
}

//! The work folder of a download, and the lock that keeps others out of it.

use super::error::StorageError;
use super::journal::Journal;
use super::lock;
use super::names::is_name_error;
use super::sys;
use super::tree::{Access, Found, Tree};
use crate::hash::sha1;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::sync::{Arc, Mutex, MutexGuard};
use swarm_core::hex::hex;
use swarm_core::id::FileIndex;
use swarm_core::metainfo::PathRules;

pub(super) const STATE: &str = "state";
const JOURNAL: &str = "journal";
pub(super) const LOCK: &str = "lock";
const PART_FILE: &str = "side";
/// A file that says that nothing in this folder, or under final names, is to be trusted.
const DISTRUST: &str = "distrust";
const UNFINISHED: &str = ".part";
/// A folder, while the torrent's names are tried.
pub(super) const PROBE: &str = "names";

/// How long a file's name may be, in bytes.
const NAME_LEN_MAX: usize = 255;

/// `.NAME.swarm`; for a very long name, its beginning and a hash.
fn folder_name(name: &str) -> String {
    let plain = format!(".{name}.swarm");
    if plain.len() <= NAME_LEN_MAX {
        return plain;
    }
    let digest = sha1([name.as_bytes()]);
    let end = (0..=200).rev().find(|&at| name.is_char_boundary(at)).unwrap_or(0);
    format!(".{}.{}.swarm", &name[..end], hex(&digest[..8]))
}

/// Whether a torrent of this name could pass for the work folder of another, with a forged state in it.
pub(super) fn looks_like_work_folder(name: &str) -> bool {
    name.starts_with('.') && name.to_ascii_lowercase().ends_with(".swarm")
}

/// A locked work folder. Unlocked when dropped.
#[derive(Debug)]
pub(super) struct WorkFolder {
    tree: Tree,
    name: String,
    lock: Lock,
}

/// The locked file. A program that is being started at that moment holds the file open too, so closing it is not enough.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        sys::unlock(&self.0);
    }
}

impl WorkFolder {
    /// Makes the folder below `tree` if need be, and locks it.
    pub(super) fn lock(tree: &Tree, torrent_name: &str) -> Result<WorkFolder, StorageError> {
        match WorkFolder::lock_called(tree, folder_name(torrent_name), torrent_name) {
            // A name that the file system takes, if it does not take the torrent's own.
            Err(StorageError::Io { source, .. }) if is_name_error(&source) => {
                let name = folder_name(&PathRules::SHORT.sanitise(torrent_name.as_bytes()));
                WorkFolder::lock_called(tree, name, torrent_name)
            }
            locked => locked,
        }
    }

    /// Locks the folder if there is one.
    pub(super) fn find(tree: &Tree, torrent_name: &str) -> Result<Option<WorkFolder>, StorageError> {
        let short = folder_name(&PathRules::SHORT.sanitise(torrent_name.as_bytes()));
        for name in [folder_name(torrent_name), short] {
            if matches!(tree.find(&[name.as_str(), LOCK]), Ok(Found::File(_))) {
                return WorkFolder::lock_called(tree, name, torrent_name).map(Some);
            }
        }
        Ok(None)
    }

    fn lock_called(tree: &Tree, name: String, torrent_name: &str) -> Result<WorkFolder, StorageError> {
        let path = [name.as_str(), LOCK];
        loop {
            tree.make_dir(&path[..1])?;
            let mut file = tree.open(&path, Access::Create)?;
            let locked =
                sys::try_lock(&file).map_err(|e| StorageError::io(&tree.path_of(&path), "lock", e))?;
            if !locked {
                let pid = pid_in(&mut file);
                return Err(StorageError::Locked { path: tree.path_of(&[torrent_name]), pid });
            }
            // Whoever held the lock may have finished and removed the folder just now, and our lock with it.
            if !is_at(tree, &path, &file)? {
                continue;
            }
            let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
            return Ok(WorkFolder { tree: tree.clone(), name, lock: Lock(file) });
        }
    }

    /// Finds out whether the folder is still where it was when it was locked.
    pub(super) fn check_in_place(&self) -> Result<(), StorageError> {
        match is_at(&self.tree, &[&self.name, LOCK], &self.lock.0) {
            Ok(true) => Ok(()),
            Err(StorageError::Io { source, .. }) if sys::is_too_many_files(&source) => Ok(()),
            Ok(false) | Err(_) => Err(StorageError::Gone { path: self.tree.path_of(&self.folder()) }),
        }
    }

    /// Has the next download that uses the folder check everything, if there is a folder, locked or not.
    pub(super) fn distrust(tree: &Tree, torrent_name: &str) -> Result<(), StorageError> {
        let short = folder_name(&PathRules::SHORT.sanitise(torrent_name.as_bytes()));
        for name in [folder_name(torrent_name), short] {
            if matches!(tree.find(&[name.as_str(), LOCK]), Ok(Found::File(_))) {
                tree.open(&[name.as_str(), DISTRUST], Access::Create)?;
            }
        }
        Ok(())
    }

    /// Whether everything is to be checked.
    pub(super) fn is_distrusted(&self) -> Result<bool, StorageError> {
        Ok(self.tree.find(&self.path(DISTRUST))? != Found::Nothing)
    }

    /// Everything is in doubt now, and the state says so.
    pub(super) fn end_distrust(&self) -> Result<(), StorageError> {
        self.tree.remove(&self.path(DISTRUST))
    }

    /// The path of something in the folder, below the tree.
    pub(super) fn path(&self, name: &str) -> [String; 2] {
        [self.name.clone(), name.to_owned()]
    }

    /// The path of the folder, below the tree.
    pub(super) fn folder(&self) -> [String; 1] {
        [self.name.clone()]
    }

    /// The path of an unfinished file, below the tree.
    pub(super) fn unfinished(&self, file: FileIndex) -> [String; 2] {
        self.path(&format!("{}{UNFINISHED}", file.0))
    }

    /// The unfinished files that are there.
    pub(super) fn unfinished_files(&self) -> Result<Vec<FileIndex>, StorageError> {
        let names = self.tree.list(&self.folder())?;
        Ok(names
            .iter()
            .filter_map(|name| Some(FileIndex(name.strip_suffix(UNFINISHED)?.parse().ok()?)))
            .collect())
    }

    /// Moves a file that may be overwritten from its final place into this folder. One with other hard links is copied: what those
    /// hold is not ours to change.
    pub(super) fn take(&self, path: &[String], file: FileIndex) -> Result<(), StorageError> {
        let unfinished = self.unfinished(file);
        let mut original = self.tree.open(path, Access::Read)?;
        let failed = |action| move |e| StorageError::space(&self.tree.path_of(path), action, 0, e);
        if sys::links(&original.metadata().map_err(failed("look at"))?) == 1 {
            return self.tree.rename(path, &unfinished, true);
        }
        self.tree.remove(&unfinished)?;
        let mut copy = self.tree.open(&unfinished, Access::Create)?;
        std::io::copy(&mut original, &mut copy).map_err(failed("copy"))?;
        self.tree.remove(path)
    }

    /// Removes an unfinished file that has other hard links: what those hold is not ours to change.
    pub(super) fn drop_linked(&self, file: FileIndex) -> Result<(), StorageError> {
        let unfinished = self.unfinished(file);
        let Ok(meta) = self.tree.open(&unfinished, Access::Read).map(|unfinished| unfinished.metadata())
        else {
            return Ok(());
        };
        if meta.is_ok_and(|meta| sys::links(&meta) > 1) { self.tree.remove(&unfinished) } else { Ok(()) }
    }

    /// The part file, if it is there.
    pub(super) fn find_part_file(&self) -> Result<Option<File>, StorageError> {
        self.tree.open_if_there(&self.path(PART_FILE), Access::Write)
    }

    /// The part file's path, for messages.
    pub(super) fn part_file_path(&self) -> std::path::PathBuf {
        self.tree.path_of(&self.path(PART_FILE))
    }

    /// The journal, if it is there, to be read.
    pub(super) fn find_journal(&self) -> Result<Option<File>, StorageError> {
        self.tree.open_if_there(&self.path(JOURNAL), Access::Read)
    }

    /// An empty journal in the place of the one that may be there.
    pub(super) fn new_journal(
        &self,
        info_hash: swarm_core::id::InfoHash,
        generation: u64,
    ) -> Result<Journal, StorageError> {
        let path = self.path(JOURNAL);
        self.tree.remove(&path)?;
        let file = self.tree.open(&path, Access::Create)?;
        Journal::create(file, self.tree.path_of(&path), info_hash, generation)
    }

    /// Removes the folder of a download that failed to open, unless it holds data, such as files that are to be overwritten.
    pub(super) fn abandon(self) {
        if self.holds_nothing().is_ok_and(|holds_nothing| holds_nothing) {
            let _ = self.remove();
        }
    }

    /// The path of the folder in which names are tried, below the tree.
    pub(super) fn probe_folder(&self) -> [String; 2] {
        self.path(PROBE)
    }

    /// The path of a name to try.
    pub(super) fn probe(&self, name: &str) -> [String; 3] {
        [self.name.clone(), PROBE.to_owned(), name.to_owned()]
    }

    /// Makes the folder in which names are tried, empty.
    pub(super) fn make_probe(&self) -> Result<(), StorageError> {
        if !self.tree.make_dir(&self.probe_folder())? {
            self.remove_probe()?;
            self.tree.make_dir(&self.probe_folder())?;
        }
        Ok(())
    }

    /// Removes it again.
    pub(super) fn remove_probe(&self) -> Result<(), StorageError> {
        for name in self.tree.list(&self.probe_folder())? {
            self.tree.remove(&self.probe(&name))?;
        }
        self.tree.remove_dir(&self.probe_folder())
    }

    /// Removes everything but the lock, and so an earlier download. Goes on after what cannot be removed.
    pub(super) fn clear(&self) -> Result<(), StorageError> {
        let mut cleared = Ok(());
        if self.tree.list(&self.folder())?.iter().any(|name| name == PROBE) {
            cleared = self.remove_probe();
        }
        for name in self.tree.list(&self.folder())?.iter().filter(|name| *name != LOCK) {
            cleared = cleared.and(self.tree.remove(&self.path(name)));
        }
        cleared
    }

    /// Whether it holds no data: neither unfinished files nor parts of such.
    pub(super) fn holds_nothing(&self) -> Result<bool, StorageError> {
        Ok(self.unfinished_files()?.is_empty() && self.tree.find(&self.path(PART_FILE))? == Found::Nothing)
    }

    /// Removes the folder if there is nothing of a download in it.
    pub(super) fn remove_if_bare(self) -> Result<(), StorageError> {
        let names = self.tree.list(&self.folder())?;
        match names.iter().all(|name| [LOCK, PROBE, super::relocate::COPY].contains(&name.as_str())) {
            true => self.remove(),
            false => Ok(()),
        }
    }

    /// Removes the folder. The lock goes last, so that nobody finds the folder unlocked and half empty; and it is closed before the
    /// folder goes, since some file systems keep a removed file under another name while it is open.
    pub(super) fn remove(self) -> Result<(), StorageError> {
        let cleared = self.remove_files();
        let WorkFolder { tree, name, .. } = self;
        cleared.and(tree.remove_dir(&[name]))
    }

    /// The same for a folder whose lock another thread still holds open.
    pub(super) fn remove_shared(&self) -> Result<(), StorageError> {
        self.remove_files().and(self.tree.remove_dir(&self.folder()))
    }

    fn remove_files(&self) -> Result<(), StorageError> {
        let cleared = self.clear();
        let unlocked = self.tree.remove(&self.path(LOCK));
        cleared.and(unlocked)
    }
}

/// A work folder in use.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) folder: WorkFolder,
    journal: Mutex<Journal>,
    part_file: Mutex<Option<Arc<File>>>,
}

impl Work {
    pub(super) fn new(folder: WorkFolder, journal: Journal, part_file: Option<File>) -> Work {
        Work { folder, journal: Mutex::new(journal), part_file: Mutex::new(part_file.map(Arc::new)) }
    }

    /// Closes the files in the folder, then removes it.
    pub(super) fn remove(self) -> Result<(), StorageError> {
        let Work { folder, .. } = self;
        folder.remove()
    }

    pub(super) fn journal(&self) -> MutexGuard<'_, Journal> {
        lock(&self.journal)
    }

    /// The part file if something was ever written to it.
    pub(super) fn find_part_file(&self) -> Option<Arc<File>> {
        lock(&self.part_file).clone()
    }

    /// The part file, made if need be.
    pub(super) fn part_file(&self) -> Result<Arc<File>, StorageError> {
        let mut part_file = lock(&self.part_file);
        if let Some(file) = &*part_file {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(self.folder.tree.open(&self.folder.path(PART_FILE), Access::Create)?);
        *part_file = Some(Arc::clone(&file));
        Ok(file)
    }
}

/// Whether `file` is what is at `path` now.
fn is_at(tree: &Tree, path: &[&str], file: &File) -> Result<bool, StorageError> {
    let path_of = || tree.path_of(path);
    let ours = file.metadata().map_err(|e| StorageError::io(&path_of(), "look at", e))?;
    let now = tree.find(path)?.stamp();
    Ok(now.is_some_and(|now| sys::Stamp::of(&ours).ino == now.ino))
}

/// The process that says it holds the lock.
fn pid_in(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.rewind().ok()?;
    lock.take(20).read_to_string(&mut text).ok()?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_free_even_while_a_program_that_starts_has_its_lock_open() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::new(dir.path().to_owned());
        let folder = WorkFolder::lock(&tree, "t").unwrap();
        let inherited = folder.lock.0.try_clone().unwrap();
        assert!(matches!(WorkFolder::lock(&tree, "t"), Err(StorageError::Locked { .. })));
        drop(folder);
        WorkFolder::lock(&tree, "t").unwrap();
        drop(inherited);
    }

    #[test]
    fn second_one_is_told_who_is_first() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::new(dir.path().to_owned());
        let first = WorkFolder::lock(&tree, "x").unwrap();
        let second = WorkFolder::lock(&tree, "x").unwrap_err();
        let pid = std::process::id();
        assert!(matches!(&second, StorageError::Locked { pid: Some(p), .. } if *p == pid));
        let path = dir.path().join("x");
        let line = format!("{}: another swarm process (process {pid}) is downloading to it", path.display());
        assert_eq!(second.to_string(), line);
        assert!(WorkFolder::lock(&tree, "y").is_ok());
        drop(first);
        WorkFolder::lock(&tree, "x").unwrap();
    }

    #[test]
    fn a_removed_lock_is_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::new(dir.path().to_owned());
        let first = WorkFolder::lock(&tree, "x").unwrap();
        std::fs::remove_dir_all(dir.path().join(".x.swarm")).unwrap();
        let second = WorkFolder::lock(&tree, "x").unwrap();
        drop(first);
        assert!(WorkFolder::lock(&tree, "x").is_err());
        second.remove().unwrap();
        assert!(!dir.path().join(".x.swarm").exists());
    }

    #[test]
    fn long_names_stay_apart_and_within_limits() {
        let (a, b) = (format!("{}a", "ü".repeat(127)), format!("{}b", "ü".repeat(127)));
        assert_eq!(a.len(), NAME_LEN_MAX);
        assert!(folder_name(&a).len() <= NAME_LEN_MAX);
        assert_ne!(folder_name(&a), folder_name(&b));
        assert_eq!(folder_name("x"), ".x.swarm");
        assert!(looks_like_work_folder(&folder_name(&a)));
    }
}

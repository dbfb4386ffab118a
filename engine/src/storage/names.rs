//! Names that the destination's file system takes.
//!
//! Not every file system keeps the names that a torrent has: some refuse characters or long names, to some `Readme` and
//! `README` are one file. That is tried before the first byte: odd names are made once in the work folder. If one is refused, or
//! case makes no difference, all of the torrent's names follow the first of these rules that suits:
//!
//! 1. Names that differ only in case or in Unicode normalisation are numbered: `Readme (2)` ([`PathRules::MACOS`]).
//! 2. Also `\ < > : " | ? *` and control characters become `_`, and so do dots and spaces at the end; `_` comes before the names
//!    of Windows's devices ([`PathRules::WINDOWS`]).
//! 3. Also names are cut to 140 bytes, before their extension ([`PathRules::SHORT`]).
//!
//! The rules depend on nothing but the torrent, so that the next run finds the same names. Who only reads, to seed or to verify,
//! takes those under which most of the files are.

use super::error::StorageError;
use super::sys::{self, Stamp};
use super::tree::{Access, Found, Tree};
use super::work::WorkFolder;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use swarm_core::metainfo::{Info, PathRules};

/// The rules in the order in which they are tried, after the names as they are.
const RULES: [PathRules; 3] = [PathRules::MACOS, PathRules::WINDOWS, PathRules::SHORT];

/// How many names are tried.
const TRIED_MAX: usize = 1_000;

/// Names that are longer, in bytes, are tried.
const PLAIN_LEN_MAX: usize = 100;

/// How many refused names an error lists.
const LISTED_MAX: usize = 3;

/// The torrent with the names that a download below `tree` gives its files, found out in its work folder.
pub(super) fn for_download(
    info: &Arc<Info>,
    tree: &Tree,
    folder: &WorkFolder,
) -> Result<Arc<Info>, StorageError> {
    if is_plain(info) && !is_changed(info, &info.renamed(PathRules::SHORT)) {
        return Ok(Arc::clone(info));
    }
    folder.make_probe()?;
    let suited = suit(info, tree, folder);
    // A leftover is removed by the next run.
    let _ = folder.remove_probe();
    suited
}

fn suit(info: &Arc<Info>, tree: &Tree, folder: &WorkFolder) -> Result<Arc<Info>, StorageError> {
    let folds = is_folding(tree, folder)?;
    let mut refused = BTreeSet::new();
    if !folds {
        refused = refused_names(info, tree, folder)?;
        if refused.is_empty() {
            return Ok(Arc::clone(info));
        }
    }
    for rules in RULES.into_iter().skip(usize::from(!folds)) {
        let renamed = info.renamed(rules);
        refused = refused_names(&renamed, tree, folder)?;
        if refused.is_empty() {
            return Ok(Arc::new(renamed));
        }
    }
    let names = refused.into_iter().take(LISTED_MAX).collect();
    Err(StorageError::Names { path: tree.root().to_owned(), names })
}

/// Whether two names that differ in case are one file in the work folder.
fn is_folding(tree: &Tree, folder: &WorkFolder) -> Result<bool, StorageError> {
    #[cfg(test)]
    if testing::folds() {
        return Ok(true);
    }
    tree.open(&folder.probe("swarm"), Access::Create)?;
    Ok(tree.find(&folder.probe("SWARM"))? != Found::Nothing)
}

/// Names of the torrent that cannot be made in the work folder, or are not kept as they are.
fn refused_names(info: &Info, tree: &Tree, folder: &WorkFolder) -> Result<BTreeSet<String>, StorageError> {
    let mut refused = BTreeSet::new();
    let odd: BTreeSet<&String> = names(info).filter(|name| !is_plain_name(name)).collect();
    for &name in odd.iter().take(TRIED_MAX) {
        #[cfg(test)]
        if testing::refuses(name) {
            refused.insert(name.clone());
            continue;
        }
        let path = folder.probe(name);
        match tree.open(&path, Access::Create) {
            Ok(_) => {}
            Err(StorageError::Io { source, .. }) if is_name_error(&source) => {
                refused.insert(name.clone());
                continue;
            }
            Err(e) => return Err(e),
        }
        // Some file systems drop these and report no error.
        if name.ends_with(['.', ' ']) && !tree.list(&folder.probe_folder())?.contains(name) {
            refused.insert(name.clone());
        }
        tree.remove(&path)?;
    }
    Ok(refused)
}

/// Whether the system says that a name cannot be one, in a folder that is there.
pub(super) fn is_name_error(e: &io::Error) -> bool {
    // exFAT under FUSE says of a character that it does not have that there is no such file.
    let kinds = [io::ErrorKind::InvalidInput, io::ErrorKind::InvalidFilename, io::ErrorKind::NotFound];
    kinds.contains(&e.kind()) || sys::has_code(e, &[libc::EILSEQ])
}

/// The torrent with the names under which most of its files are in `dir`, to be read. The first ones if there is no telling.
pub(super) fn for_reading(info: &Arc<Info>, dir: &Path) -> Arc<Info> {
    let changed = RULES.map(|rules| info.renamed(rules));
    if !changed.iter().any(|renamed| is_changed(info, renamed)) {
        return Arc::clone(info);
    }
    let folds = dir_folds(info, dir);
    let changed = changed.into_iter().map(Arc::new);
    let mut choices: Vec<Arc<Info>> = std::iter::once(Arc::clone(info)).chain(changed).collect();
    if folds {
        // All names that differ in case only lead to one file.
        choices.remove(0);
    }
    let count = |choice: &Info| {
        let pairs = choice.files.iter().zip(&choices[choices.len() - 1].files).zip(&info.files);
        let distinct = pairs.filter(|((a, b), c)| a.path != b.path || a.path != c.path);
        distinct.filter(|((file, _), _)| path_in(dir, &file.path).symlink_metadata().is_ok()).count()
    };
    let best = choices.iter().map(|choice| count(choice)).enumerate();
    let best = best.max_by_key(|&(n, found)| (found, std::cmp::Reverse(n))).map_or(0, |(n, _)| n);
    choices.swap_remove(best)
}

/// Whether what is there of the torrent is also there by names in another case.
fn dir_folds(info: &Info, dir: &Path) -> bool {
    let swap = |name: &String| -> String {
        let other =
            |c: char| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
        name.chars().map(other).collect()
    };
    let mut paths = info.files.iter().map(|file| &file.path);
    let there = paths.find(|path| path.iter().any(|name| swap(name) != *name) && path_in(dir, path).exists());
    there.is_some_and(|path| {
        let other: Vec<String> = path.iter().map(swap).collect();
        let ids = [path_in(dir, path), path_in(dir, &other)].map(|path| path.metadata().ok());
        matches!(ids, [Some(a), Some(b)] if Stamp::of(&a).ino == Stamp::of(&b).ino)
    })
}

fn path_in(dir: &Path, path: &[String]) -> std::path::PathBuf {
    path.iter().fold(dir.to_owned(), |at, name| at.join(name))
}

/// A warning if names are not the torrent's own.
pub(super) fn warning(info: &Info, renamed: &Info) -> Option<String> {
    let changed = info.files.iter().zip(&renamed.files).filter(|(a, b)| a.path != b.path);
    let (a, b) = changed.clone().next()?;
    let (from, to) = (a.path.join("/"), b.path.join("/"));
    let more = match changed.count() - 1 {
        0 => String::new(),
        n => format!(", and {n} more"),
    };
    Some(format!("the file system does not keep the torrent's names: {from:?} is {to:?}{more}"))
}

fn is_changed(info: &Info, renamed: &Info) -> bool {
    info.name != renamed.name || info.files.iter().zip(&renamed.files).any(|(a, b)| a.path != b.path)
}

fn is_plain(info: &Info) -> bool {
    names(info).all(|name| is_plain_name(name))
}

/// Whether no file system refuses a name, whatever it is next to.
fn is_plain_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " ._-+,;=@#$%&!~'()[]{}^`".contains(c);
    let is_short = name.len() <= PLAIN_LEN_MAX;
    is_short && name.chars().all(is_plain) && !name.ends_with(['.', ' ']) && PathRules::SHORT.is_safe(name)
}

/// All names of what is written to disk, some of them more than once.
fn names(info: &Info) -> impl Iterator<Item = &String> {
    let files = info.files.iter().filter(|file| !file.is_padding_for_sure());
    std::iter::once(&info.name).chain(files.flat_map(|file| &file.path))
}

/// What another file system would do, on this thread.
#[cfg(test)]
pub(super) mod testing {
    use std::cell::Cell;

    thread_local! {
        static FOLDS: Cell<bool> = const { Cell::new(false) };
        static REFUSES: Cell<fn(&str) -> bool> = const { Cell::new(|_| false) };
    }

    pub(crate) fn behave(folds: bool, refuses: fn(&str) -> bool) {
        FOLDS.set(folds);
        REFUSES.set(refuses);
    }

    pub(super) fn folds() -> bool {
        FOLDS.get()
    }

    pub(super) fn refuses(name: &str) -> bool {
        REFUSES.get()(name)
    }
}

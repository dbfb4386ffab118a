//! The files that may hold what is wanted.

use super::super::Location;
use super::super::saved::known_data;
use super::super::tree::{Access, Found, Tree};
use super::super::work::looks_like_work_folder;
use super::{ReuseSources, Sibling};
use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{self, File, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use swarm_core::metainfo::FileEntry;

/// So many files and folders are looked at in one search.
const ENTRIES_MAX: usize = 1_000_000;

/// So many of them are remembered as candidates.
const CANDIDATES_MAX: usize = 200_000;

/// So deep below a given folder, in folders.
const DEPTH_MAX: usize = 64;

/// A candidate's number.
pub(super) type CandidateId = u32;

/// What to look for.
pub(super) struct Wanted<'a> {
    lengths: HashSet<u64>,
    names: HashSet<&'a str>,
}

impl<'a> Wanted<'a> {
    pub(super) fn of(files: impl Iterator<Item = &'a FileEntry> + Clone) -> Wanted<'a> {
        Wanted {
            lengths: files.clone().map(|file| file.length).collect(),
            names: files.filter_map(|file| file.path.last()).map(String::as_str).collect(),
        }
    }
}

/// A folder whose files are candidates.
#[derive(Debug)]
struct Origin {
    tree: Tree,
    /// What the user calls it.
    path: PathBuf,
}

/// A regular file.
#[derive(Debug)]
pub(super) struct Candidate {
    origin: usize,
    /// Below the origin's tree.
    path: Vec<String>,
    pub(super) len: u64,
}

impl Candidate {
    /// Whether it has the path of this file below its torrent's folder, in whatever folder.
    pub(super) fn has_path_of(&self, file: &FileEntry) -> bool {
        let below = if file.path.len() > 1 { &file.path[1..] } else { &file.path[..] };
        self.path.ends_with(below)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    origins: Vec<Origin>,
    all: Vec<Candidate>,
    by_len: HashMap<u64, Vec<CandidateId>>,
    by_name: HashMap<String, Vec<CandidateId>>,
    warnings: Vec<String>,
}

impl Candidates {
    /// Looks for files like those that are wanted, for as long as `goes_on`.
    pub(super) fn find(
        sources: &ReuseSources,
        wanted: &Wanted<'_>,
        goes_on: &dyn Fn() -> bool,
    ) -> Candidates {
        Candidates::find_within(sources, wanted, goes_on, ENTRIES_MAX, CANDIDATES_MAX)
    }

    pub(super) fn find_within(
        sources: &ReuseSources,
        wanted: &Wanted<'_>,
        goes_on: &dyn Fn() -> bool,
        entries_max: usize,
        candidates_max: usize,
    ) -> Candidates {
        let mut search = Search {
            found: Candidates::default(),
            wanted,
            goes_on,
            left: entries_max,
            candidates_max,
            is_full: false,
            seen: HashSet::new(),
        };
        for torrent in &sources.torrents {
            search.torrent(torrent);
        }
        for dir in &sources.dirs {
            let looked = dir.canonicalize().and_then(|real| real.metadata().map(|meta| (real, meta)));
            match looked {
                Ok((real, meta)) => search.path(dir, real, &meta),
                Err(e) => search.found.warnings.push(format!("{}: cannot be looked at: {e}", dir.display())),
            }
        }
        for path in sources.state_dir.iter().flat_map(|dir| known_data(dir)) {
            // It may have gone, or something else be there.
            if let Ok(meta) = path.symlink_metadata() {
                search.path(&path.clone(), path, &meta);
            }
        }
        if search.left == 0 {
            let wrong = format!(
                "not all files were looked at for what can be reused: there are more than {entries_max} files and folders"
            );
            search.found.warnings.push(wrong);
        }
        if search.is_full {
            let wrong = format!(
                "not all files were looked at for what can be reused: more than {candidates_max} are like those of the torrent"
            );
            search.found.warnings.push(wrong);
        }
        search.found
    }

    pub(super) fn get(&self, found: CandidateId) -> &Candidate {
        &self.all[found as usize]
    }

    /// Of this length.
    pub(super) fn of_len(&self, len: u64) -> &[CandidateId] {
        self.by_len.get(&len).map_or(&[], Vec::as_slice)
    }

    /// Of this name.
    pub(super) fn named(&self, name: &str) -> &[CandidateId] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// Opens one to be read. No link is followed, also if there was none when it was found.
    pub(super) fn open(&self, found: CandidateId) -> Option<Arc<File>> {
        let Candidate { origin, path, .. } = self.get(found);
        self.origins[*origin].tree.open(path, Access::Read).ok().map(Arc::new)
    }

    /// Where it was found.
    pub(super) fn origin_of(&self, found: CandidateId) -> &Path {
        &self.origins[self.get(found).origin].path
    }

    /// The number of that folder.
    pub(super) fn origin_index(&self, found: CandidateId) -> usize {
        self.get(found).origin
    }

    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn add(&mut self, path: Vec<String>, len: u64) {
        let found = self.all.len() as CandidateId;
        self.by_len.entry(len).or_default().push(found);
        if let Some(name) = path.last() {
            self.by_name.entry(name.clone()).or_default().push(found);
        }
        self.all.push(Candidate { origin: self.origins.len() - 1, path, len });
    }
}

struct Search<'a> {
    found: Candidates,
    wanted: &'a Wanted<'a>,
    goes_on: &'a dyn Fn() -> bool,
    /// Files and folders that may still be looked at.
    left: usize,
    candidates_max: usize,
    /// There were more candidates than that.
    is_full: bool,
    /// Files that were found already, by another way: their devices and numbers.
    seen: HashSet<(u64, u64)>,
}

impl Search<'_> {
    fn goes_on(&self) -> bool {
        self.left > 0 && (self.goes_on)()
    }

    /// What is at this path, where links have been followed.
    fn path(&mut self, shown: &Path, real: PathBuf, meta: &Metadata) {
        if meta.is_dir() {
            self.found.origins.push(Origin { tree: Tree::new(real), path: shown.to_owned() });
            self.walk();
        } else if meta.is_file()
            && let (Some(parent), Some(name)) =
                (real.parent(), real.file_name().and_then(|name| name.to_str()))
        {
            self.found.origins.push(Origin { tree: Tree::new(parent.to_owned()), path: shown.to_owned() });
            self.file(vec![name.to_owned()], meta);
        }
    }

    /// The files of a torrent of the same session, as far as they are under their final names.
    fn torrent(&mut self, sibling: &Sibling) {
        let Location { tree, info } = &sibling.location;
        let mut is_origin = false;
        let named = sibling.files.iter().flatten().filter_map(|file| info.files.get(file.idx()));
        let all = sibling.files.is_none().then_some(&info.files).into_iter().flatten();
        for file in
            named.chain(all).filter(|file| !file.attr.pad && self.wanted.lengths.contains(&file.length))
        {
            if !self.goes_on() {
                return;
            }
            self.left -= 1;
            if let Ok(Found::File(stamp)) = tree.find(&file.path)
                && stamp.len == file.length
            {
                if !std::mem::replace(&mut is_origin, true) {
                    self.found.origins.push(Origin { tree: tree.clone(), path: sibling.location.path() });
                }
                self.add(file.path.clone(), file.length);
            }
        }
    }

    fn add(&mut self, path: Vec<String>, len: u64) {
        self.is_full = self.found.all.len() == self.candidates_max;
        if !self.is_full {
            self.found.add(path, len);
        }
    }

    /// Everything below the last origin.
    fn walk(&mut self) {
        let tree = self.found.origins[self.found.origins.len() - 1].tree.clone();
        let mut folders = VecDeque::from([Vec::<String>::new()]);
        while let Some(folder) = folders.pop_front()
            && self.goes_on()
        {
            let Ok(entries) = fs::read_dir(tree.path_of(&folder)) else { continue };
            // In an order that does not depend on the file system.
            let mut files = Vec::new();
            let mut inner = Vec::new();
            for entry in entries.flatten() {
                if !self.goes_on() {
                    break;
                }
                self.left -= 1;
                // A name that is no Unicode cannot be walked to.
                let Ok(name) = entry.file_name().into_string() else { continue };
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() && may_enter(&folder, &name) => inner.push(name),
                    Ok(kind) if kind.is_file() => {
                        if let Ok(meta) = entry.metadata() {
                            files.push((name, meta));
                        }
                    }
                    _ => {}
                }
            }
            let below = |name| folder.iter().cloned().chain([name]).collect::<Vec<String>>();
            files.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            inner.sort_unstable();
            files.into_iter().for_each(|(name, meta)| self.file(below(name), &meta));
            folders.extend(inner.into_iter().map(below));
        }
    }

    fn file(&mut self, path: Vec<String>, meta: &Metadata) {
        let has_name = || path.last().is_some_and(|name| self.wanted.names.contains(name.as_str()));
        let is_like = meta.len() > 0 && (self.wanted.lengths.contains(&meta.len()) || has_name());
        if is_like && identity(meta).is_none_or(|identity| self.seen.insert(identity)) {
            self.add(path, meta.len());
        }
    }
}

/// Whether a folder of this name in `folder` is walked too.
fn may_enter(folder: &[String], name: &str) -> bool {
    folder.len() + 1 < DEPTH_MAX && !looks_like_work_folder(name)
}

/// By which a file is known again that has several names.
fn identity(meta: &Metadata) -> Option<(u64, u64)> {
    #[cfg(unix)]
    return Some((std::os::unix::fs::MetadataExt::dev(meta), std::os::unix::fs::MetadataExt::ino(meta)));
    #[cfg(not(unix))]
    {
        let _ = meta;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::testing::{Content, Torrent};

    fn find(dir: &Path, entries_max: usize) -> Candidates {
        find_some(dir, entries_max, CANDIDATES_MAX)
    }

    fn find_some(dir: &Path, entries_max: usize, candidates_max: usize) -> Candidates {
        let torrent = Torrent::new("t", 16_384, &[("a/b", Content::Random(5_000))]);
        let sources = ReuseSources { dirs: vec![dir.to_owned()], ..ReuseSources::default() };
        let wanted = Wanted::of(torrent.info.files.iter());
        Candidates::find_within(&sources, &wanted, &|| true, entries_max, candidates_max)
    }

    fn put(path: &Path, len: usize) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![1; len]).unwrap();
    }

    #[test]
    fn files_of_the_length_or_the_name_are_found() {
        let dir = tempfile::tempdir().unwrap();
        for (path, len) in [("x/a/b", 1), ("b", 0), ("y", 5_000), ("z", 4_999), (".t.swarm/0.part", 5_000)] {
            put(&dir.path().join(path), len);
        }
        let found = find(dir.path(), 100);
        assert_eq!((found.all.len(), found.of_len(5_000).len(), found.named("b").len()), (2, 1, 1));
        let file = &Torrent::new("t", 16_384, &[("a/b", Content::Random(5_000))]).info.files[0];
        assert!(found.get(found.named("b")[0]).has_path_of(file));
        assert!(found.warnings().is_empty());
    }

    #[test]
    fn the_walk_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..20 {
            put(&dir.path().join(format!("{n}")), 5_000);
        }
        let found = find(dir.path(), 10);
        assert_eq!((found.all.len(), found.warnings().len()), (10, 1));
        assert_eq!(find(dir.path(), 21).all.len(), 20);
        for (max, found, warnings) in [(19, 19, 1), (20, 20, 0)] {
            let some = find_some(dir.path(), 100, max);
            assert_eq!((some.all.len(), some.warnings().len()), (found, warnings), "{:?}", some.warnings());
        }
        let deep = (0..DEPTH_MAX + 2).fold(dir.path().to_owned(), |at, _| at.join("d"));
        put(&deep.join("too"), 5_000);
        put(&deep.parent().unwrap().parent().unwrap().parent().unwrap().join("just"), 5_000);
        assert_eq!(find(dir.path(), 1_000).all.len(), 21);
    }

    #[test]
    fn a_file_with_two_names_is_found_once() {
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("1"), 5_000);
        fs::hard_link(dir.path().join("1"), dir.path().join("2")).unwrap();
        assert_eq!(find(dir.path(), 100).all.len(), 1);
    }
}

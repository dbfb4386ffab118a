//! From files on disk to the piece hashes of a torrent.
//!
//! [`walk`] finds the files, in an order that does not depend on the file system; [`hash`] hashes them on all cores.
//! What comes out goes into [`swarm_core::metainfo::Create`].

mod filter;

pub use filter::check_pattern;

use crate::storage::bulk::{BulkError, hash_pieces};
use crate::storage::verify::Looks;
use filter::Filter;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use swarm_core::geometry::{Geometry, GeometryError};
use swarm_core::id::{FileIndex, InfoHash};
use swarm_core::metainfo::{
    Content, FILES_MAX, FileAttr, FileEntry, Info, SourceFile, padding_of, sort_files,
};

/// Which files become part of a torrent.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct WalkOptions {
    /// Takes what symbolic links lead to. Otherwise links that stay within the folder are kept as links (BEP 47), and
    /// others are passed over.
    pub follow_symlinks: bool,
    /// What the torrent is called, if not as its folder.
    pub name: Option<String>,
    /// If there are any, only files that match one of these patterns are taken.
    ///
    /// Patterns are those of gitignore files: one without `/` is compared with names at any depth, one with a `/` before
    /// its end with the path below the folder, one that ends with `/` with folders only, which stand for all that they hold.
    /// `*` and `?` match no `/`, `**` does. The last pattern that matches decides, and `!` before one turns its meaning
    /// round. Before the path, the folder's own name or path and `./` may stand as well.
    pub include: Vec<String>,
    /// Files that match one of these patterns, and everything in folders that do, are not taken.
    pub exclude: Vec<String>,
}

impl WalkOptions {
    /// Whether [`walk`] of the folder `root` would take a file at this path below it, as far as patterns go.
    ///
    /// # Errors
    /// If a pattern is malformed.
    pub fn takes(&self, root: &Path, path: &Path) -> Result<bool, CreateError> {
        let mut filter = Filter::new(root, self)?;
        let mut names = Vec::new();
        for component in path.iter() {
            let name = component.to_string_lossy().into_owned();
            if filter.is_excluded(&names, &name, names.len() + 1 < path.iter().count()) {
                return Ok(false);
            }
            names.push(name);
        }
        Ok(filter.is_included(&names))
    }
}

/// Files that are to become a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Source {
    /// The file, or the folder that they are in.
    pub path: PathBuf,
    /// The files.
    pub content: Content,
    /// What was passed over, and why.
    pub skipped: Vec<(PathBuf, &'static str)>,
    /// Patterns of [`WalkOptions::include`] that match nothing.
    pub idle_includes: Vec<String>,
    /// Patterns of [`WalkOptions::exclude`] that match nothing, in folders that are left out neither.
    pub idle_excludes: Vec<String>,
}

/// Why files cannot become a torrent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// A torrent's paths are UTF-8.
    #[error("{}: the name is not UTF-8; rename it or exclude it", .path.display())]
    NotUtf8 {
        /// The file or folder.
        path: PathBuf,
    },
    /// Nothing is there, or nothing matches.
    #[error("{}: holds no files to put into a torrent", .path.display())]
    Nothing {
        /// The folder.
        path: PathBuf,
    },
    /// A pattern is malformed.
    #[error("the pattern {pattern:?}: {why}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// A link leads back to a folder that it lies in: following it would not end.
    #[error("{}: is a link to a folder that it lies in; exclude it, or do not follow links", .path.display())]
    Loop {
        /// The link.
        path: PathBuf,
    },
    /// More files or folders than a torrent may have files, perhaps because links lead to the same ones time and again.
    #[error("{}: holds more than {FILES_MAX} files and folders{}", .path.display(), if *.follows { ", counted by every link that leads to them" } else { "" })]
    TooMany {
        /// The folder.
        path: PathBuf,
        /// Whether links were followed.
        follows: bool,
    },
    /// Too large, or an impossible piece length.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// A file did not stay as it was while it was hashed.
    #[error("{}: changed while it was hashed; try again when nobody writes to it", .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Anything else that the system says.
    #[error("{}: cannot {action}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl CreateError {
    fn io(path: &Path, action: &'static str, source: io::Error) -> CreateError {
        CreateError::Io { path: path.to_owned(), action, source }
    }
}

impl Source {
    /// Bytes in all files together.
    pub fn total_len(&self) -> u64 {
        match &self.content {
            Content::File { length, .. } => *length,
            Content::Folder(files) => files.iter().map(|file| file.length).sum(),
        }
    }

    fn path_of(&self, file: FileIndex) -> PathBuf {
        match &self.content {
            Content::File { .. } => self.path.clone(),
            Content::Folder(files) => {
                files[file.idx()].path.iter().fold(self.path.clone(), |at, name| at.join(name))
            }
        }
    }

    /// How the files look now.
    pub fn looks(&self) -> Looks {
        let count = match &self.content {
            Content::File { .. } => 1,
            Content::Folder(files) => files.len(),
        };
        Looks::of((0..count as u32).map(|n| self.path_of(FileIndex(n))))
    }

    /// The torrent's layout, as far as hashing needs it.
    fn layout(&self, piece_length: u32) -> Result<Info, CreateError> {
        let lengths: Vec<(u64, FileAttr)> = match &self.content {
            Content::File { length, attr } => vec![(*length, *attr)],
            Content::Folder(files) => files.iter().map(|file| (file.length, file.attr)).collect(),
        };
        let mut offset = 0u64;
        let files = lengths.into_iter().map(|(length, attr)| {
            let file = FileEntry { path: Vec::new(), length, offset, attr, symlink_target: None };
            offset = offset.saturating_add(length);
            file
        });
        let files: Vec<FileEntry> = files.collect();
        Ok(Info {
            info_hash: InfoHash([0; 20]),
            name: String::new(),
            geometry: Geometry::new(offset, u64::from(piece_length))?,
            piece_hashes: Vec::new().into(),
            padding: padding_of(&files),
            files,
            single_file: matches!(self.content, Content::File { .. }),
            private: false,
            source: None,
        })
    }
}

/// Finds the files at `path`, which is followed if it is a symbolic link.
///
/// # Errors
/// If a name is not UTF-8, something cannot be read, or there is nothing.
pub fn walk(path: &Path, options: &WalkOptions) -> Result<Source, CreateError> {
    walk_within(path, options, FILES_MAX)
}

/// The same with a limit on the entries of all folders together.
fn walk_within(path: &Path, options: &WalkOptions, entries_max: usize) -> Result<Source, CreateError> {
    let meta = fs::metadata(path).map_err(|e| CreateError::io(path, "open", e))?;
    let mut walk = Walk {
        root: path,
        follows: options.follow_symlinks,
        filter: Filter::new(path, options)?,
        room: entries_max,
        files: Vec::new(),
        skipped: Vec::new(),
        left_out: Vec::new(),
    };
    let content = if meta.is_file() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_taken = !walk.filter.is_excluded(&[], &name, false) && walk.filter.is_included(&[name]);
        is_taken.then(|| Content::File { length: meta.len(), attr: attr_of(&meta) })
    } else {
        walk.folder(path, &mut Vec::new(), &mut Vec::new())?;
        sort_files(&mut walk.files);
        walk.try_left_out();
        let files = std::mem::take(&mut walk.files);
        (!files.is_empty()).then_some(Content::Folder(files))
    };
    let content = content.ok_or_else(|| CreateError::Nothing { path: path.to_owned() })?;
    let [idle_includes, idle_excludes] = walk.filter.idle();
    Ok(Source { path: path.to_owned(), content, skipped: walk.skipped, idle_includes, idle_excludes })
}

struct Walk<'a> {
    root: &'a Path,
    follows: bool,
    filter: Filter,
    /// How many more entries of folders may be looked at.
    room: usize,
    files: Vec<SourceFile>,
    skipped: Vec<(PathBuf, &'static str)>,
    /// Folders that a pattern excludes, and the names that lead to each.
    left_out: Vec<(PathBuf, Vec<String>)>,
}

impl Walk<'_> {
    /// Takes what is in a folder. `names` leads to it from the root, and `folders` are those on the way, without links.
    fn folder(
        &mut self,
        path: &Path,
        names: &mut Vec<String>,
        folders: &mut Vec<PathBuf>,
    ) -> Result<(), CreateError> {
        let failed = |e| CreateError::io(path, "list", e);
        if self.follows {
            let real = path.canonicalize().map_err(failed)?;
            if folders.contains(&real) {
                return Err(CreateError::Loop { path: path.to_owned() });
            }
            folders.push(real);
        }
        for entry in fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let too_many = || CreateError::TooMany { path: self.root.to_owned(), follows: self.follows };
            self.room = self.room.checked_sub(1).ok_or_else(too_many)?;
            // Without a name that can be written down, it can still be excluded by a pattern like `*`.
            let name = entry.file_name();
            let is_dir = self.is_dir(&entry);
            if self.filter.is_excluded(names, &name.to_string_lossy(), is_dir) {
                if is_dir {
                    let names = names.iter().cloned().chain([name.to_string_lossy().into_owned()]).collect();
                    self.left_out.push((path, names));
                }
                continue;
            }
            let name = name.into_string().map_err(|_| CreateError::NotUtf8 { path: path.clone() })?;
            names.push(name);
            self.entry(&path, names, folders)?;
            names.pop();
        }
        folders.pop();
        Ok(())
    }

    /// Whether an entry is a folder, or a link to one that is followed.
    fn is_dir(&self, entry: &fs::DirEntry) -> bool {
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        match is_link && self.follows {
            true => fs::metadata(entry.path()).is_ok_and(|meta| meta.is_dir()),
            false => entry.file_type().is_ok_and(|kind| kind.is_dir()),
        }
    }

    /// Finds out whether patterns that have matched nothing so far match in folders that are left out. No link is
    /// followed there, and what cannot be read is passed over.
    fn try_left_out(&mut self) {
        while self.filter.has_idle_excludes() && self.room > 0 {
            let Some((path, names)) = self.left_out.pop() else { return };
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                self.room = self.room.saturating_sub(1);
                let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let name = entry.file_name().to_string_lossy().into_owned();
                self.filter.is_excluded(&names, &name, is_dir);
                if is_dir {
                    self.left_out.push((entry.path(), names.iter().cloned().chain([name]).collect()));
                }
            }
        }
    }

    fn entry(
        &mut self,
        path: &Path,
        names: &mut Vec<String>,
        folders: &mut Vec<PathBuf>,
    ) -> Result<(), CreateError> {
        let meta = fs::symlink_metadata(path).map_err(|e| CreateError::io(path, "look at", e))?;
        let meta = match meta.is_symlink() {
            true if self.follows => match fs::metadata(path) {
                Ok(meta) => meta,
                Err(_) => {
                    self.skipped.push((path.to_owned(), "is a link to nothing"));
                    return Ok(());
                }
            },
            true => return self.link(path, names, &meta),
            false => meta,
        };
        if meta.is_dir() {
            return self.folder(path, names, folders);
        }
        if !self.filter.is_included(names) {
            return Ok(());
        }
        if meta.is_file() {
            let (path, length, attr) = (names.clone(), meta.len(), attr_of(&meta));
            self.files.push(SourceFile { path, length, attr, symlink_target: None });
        } else {
            self.skipped.push((path.to_owned(), "is neither a file nor a folder"));
        }
        Ok(())
    }

    /// Keeps a link as one, if it stays within the folder.
    fn link(&mut self, path: &Path, names: &[String], meta: &Metadata) -> Result<(), CreateError> {
        if !self.filter.is_included(names) {
            return Ok(());
        }
        let target = fs::read_link(path).map_err(|e| CreateError::io(path, "read the link", e))?;
        match self.inside(&target, &names[..names.len() - 1]) {
            Some(target) => {
                let attr = FileAttr { symlink: true, ..attr_of(meta) };
                self.files.push(SourceFile {
                    path: names.to_vec(),
                    length: 0,
                    attr,
                    symlink_target: Some(target),
                });
            }
            None => self.skipped.push((path.to_owned(), "is a link that leads out of the folder")),
        }
        Ok(())
    }

    /// Where a link in `folder` leads, as names below the root; `None` for the root itself and anything outside.
    fn inside(&self, target: &Path, folder: &[String]) -> Option<Vec<String>> {
        use std::path::Component;
        let mut names = folder.to_vec();
        let mut rest = target;
        if target.is_absolute() {
            rest = target.strip_prefix(self.root.canonicalize().ok()?).ok()?;
            names.clear();
        }
        for component in rest.components() {
            match component {
                Component::CurDir => {}
                Component::ParentDir => drop(names.pop()?),
                Component::Normal(name) => names.push(name.to_str()?.to_owned()),
                Component::RootDir | Component::Prefix(_) => return None,
            }
        }
        (!names.is_empty()).then_some(names)
    }
}

/// The attributes that libtorrent records too, so that both make the same info-hash.
fn attr_of(meta: &Metadata) -> FileAttr {
    #[cfg(unix)]
    let executable = std::os::unix::fs::MetadataExt::mode(meta) & 0o100 != 0;
    #[cfg(not(unix))]
    let executable = meta.is_dir();
    FileAttr { executable, ..FileAttr::default() }
}

/// Hashes all pieces on so many threads; gives the digests one after the other, 20 bytes each. `progress` is told, on
/// any of the threads, how many bytes are done.
///
/// # Errors
/// [`CreateError::Changed`] if a file's length is not what [`walk`] found; if something cannot be read.
pub fn hash(
    source: &Source,
    piece_length: u32,
    threads: usize,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Vec<u8>, CreateError> {
    let info = source.layout(piece_length)?;
    let hashes = Mutex::new((vec![0; info.geometry.pieces() as usize * 20], None));
    let done = AtomicU64::new(0);
    hash_pieces(
        &info,
        threads,
        &|_| true,
        &|file| File::open(source.path_of(file)).map(Some),
        &|piece, hash| {
            let (hashes, error) = &mut *hashes.lock().unwrap_or_else(PoisonError::into_inner);
            match hash {
                Ok(hash) => hashes[piece.idx() * 20..][..20].copy_from_slice(&hash),
                Err(BulkError::Short(file)) => {
                    *error = Some(CreateError::Changed { path: source.path_of(file) })
                }
                Err(BulkError::Io(file, e)) => {
                    *error = Some(CreateError::io(&source.path_of(file), "read", e))
                }
            }
            let len = u64::from(info.geometry.len_of(piece));
            progress(done.fetch_add(len, Ordering::Relaxed) + len);
            error.is_none()
        },
    );
    let (hashes, error) = hashes.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = error {
        return Err(error);
    }
    // One that grew was not seen by its reader.
    for (i, file) in info.files.iter().enumerate().filter(|(_, file)| !file.attr.pad && !file.attr.symlink) {
        let path = source.path_of(FileIndex(i as u32));
        let meta = fs::metadata(&path).map_err(|e| CreateError::io(&path, "look at", e))?;
        if meta.len() != file.length {
            return Err(CreateError::Changed { path });
        }
    }
    Ok(hashes)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::storage::testing::{Content as Bytes, Torrent};
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn write(dir: &Path, path: &str, bytes: &[u8]) {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn files(source: &Source) -> Vec<String> {
        match &source.content {
            Content::Folder(files) => files.iter().map(|file| file.path.join("/")).collect(),
            Content::File { .. } => panic!("a file"),
        }
    }

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for path in ["b", "a/x", "a/deep/y.tmp", "a-b", "z.tmp", ".hidden", "logs/1", "logs/2"] {
            write(dir.path(), path, path.as_bytes());
        }
        dir
    }

    #[test]
    fn globs_tell_ahead_what_is_taken() {
        let options = |include: &str, exclude: &str| WalkOptions {
            include: include.split_whitespace().map(str::to_owned).collect(),
            exclude: exclude.split_whitespace().map(str::to_owned).collect(),
            ..WalkOptions::default()
        };
        let root = Path::new("nowhere/NAME");
        let takes =
            |include, exclude, path: &str| options(include, exclude).takes(root, path.as_ref()).unwrap();
        assert!(takes("", "", "a/x"));
        assert!(takes("*.tmp", "logs", "a/y.tmp"));
        assert!(!takes("*.tmp", "logs", "a/x"));
        assert!(!takes("", "logs", "a/logs/1"));
        assert!(!takes("", "*.tmp", "y.tmp"));
        assert!(options("[", "").takes(root, "a".as_ref()).is_err());
    }

    #[test]
    fn order_is_that_of_the_paths() {
        let source = walk(tree().path(), &WalkOptions::default()).unwrap();
        assert_eq!(
            files(&source),
            [".hidden", "a-b", "a/deep/y.tmp", "a/x", "b", "logs/1", "logs/2", "z.tmp"]
        );
        assert_eq!(source.total_len(), 7 + 3 + 12 + 3 + 1 + 6 + 6 + 5);
    }

    #[test]
    fn globs_choose() {
        let dir = tree();
        let walk = |include: &[&str], exclude: &[&str]| {
            let strings = |globs: &[&str]| globs.iter().map(|&glob| glob.to_owned()).collect();
            let options =
                WalkOptions { include: strings(include), exclude: strings(exclude), ..Default::default() };
            walk(dir.path(), &options)
        };
        assert_eq!(files(&walk(&["*.tmp", "b"], &[]).unwrap()), ["a/deep/y.tmp", "b", "z.tmp"]);
        assert_eq!(files(&walk(&[], &["logs", "*.tmp", "a/x"]).unwrap()), [".hidden", "a-b", "b"]);
        assert!(matches!(walk(&["nothing"], &[]), Err(CreateError::Nothing { .. })));
        assert!(matches!(walk(&["["], &[]), Err(CreateError::Pattern { .. })));
    }

    #[test]
    fn exclude_patterns_mean_what_they_mean_in_gitignore() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("NAME");
        for path in ["keep", "secret/key", "a/secret/b", "a/plain", "logs", "NAME/inner", "#1", "end "] {
            write(&root, path, b"x");
        }
        let left = |exclude: &[&str]| {
            let exclude = exclude.iter().map(|&glob| glob.to_owned()).collect();
            let source = walk(&root, &WalkOptions { exclude, ..Default::default() }).unwrap();
            (files(&source), source.idle_excludes)
        };
        let without = |gone: &[&str]| -> Vec<String> {
            let all = ["#1", "NAME/inner", "a/plain", "a/secret/b", "end ", "keep", "logs", "secret/key"];
            all.iter().filter(|path| !gone.contains(path)).map(|&path| path.to_owned()).collect()
        };
        let given = format!("{}/secret", root.display());
        for (pattern, gone) in [
            ("secret/", &["a/secret/b", "secret/key"][..]),
            ("secret", &["a/secret/b", "secret/key"]),
            ("./secret", &["secret/key"]),
            (".//./secret/", &["secret/key"]),
            ("/secret", &["secret/key"]),
            ("NAME/secret", &["secret/key"]),
            ("NAME/secret/", &["secret/key"]),
            ("NAME/inner", &["NAME/inner"]),
            (&given, &["secret/key"]),
            ("a/*", &["a/plain", "a/secret/b"]),
            ("**/b", &["a/secret/b"]),
            ("#1", &["#1"]),
            ("end ", &["end "]),
        ] {
            assert_eq!(left(&[pattern]), (without(gone), Vec::new()), "{pattern}");
        }
        // What matches nothing is told, and folders that are left out count as looked at.
        assert_eq!(left(&["logs/", "n*"]), (without(&[]), vec!["logs/".to_owned(), "n*".to_owned()]));
        assert_eq!(left(&["a", "a/secret/b", "plain"]), (without(&["a/plain", "a/secret/b"]), Vec::new()));
        assert_eq!(left(&["secret/*", "!b"]), (without(&["secret/key"]), Vec::new()));
    }

    #[test]
    fn a_single_file_is_subject_to_patterns_too() {
        let dir = tree();
        let walk = |include: &[&str], exclude: &[&str]| {
            let strings = |globs: &[&str]| globs.iter().map(|&glob| glob.to_owned()).collect();
            let options =
                WalkOptions { include: strings(include), exclude: strings(exclude), ..Default::default() };
            walk(&dir.path().join("z.tmp"), &options)
        };
        assert!(matches!(walk(&[], &["*.tmp"]), Err(CreateError::Nothing { .. })));
        assert!(matches!(walk(&["*.iso"], &[]), Err(CreateError::Nothing { .. })));
        assert_eq!(walk(&["z.tmp"], &["y.tmp"]).unwrap().idle_excludes, ["y.tmp"]);
    }

    #[test]
    fn linked_folders_that_contain_each_other_stop_the_walk() {
        let dir = tempfile::tempdir().unwrap();
        let folders: Vec<String> = (0..9).map(|n| n.to_string()).collect();
        for folder in &folders {
            fs::create_dir(dir.path().join(folder)).unwrap();
            for other in &folders {
                symlink(format!("../{other}"), dir.path().join(folder).join(format!("to-{other}"))).unwrap();
            }
        }
        let options = WalkOptions { follow_symlinks: true, ..Default::default() };
        assert!(matches!(walk(dir.path(), &options), Err(CreateError::Loop { .. })));
        let without = WalkOptions { exclude: vec!["to-*".to_owned()], ..options.clone() };
        assert!(matches!(walk(dir.path(), &without), Err(CreateError::Nothing { .. })));
        // Without a loop, each level doubles what is below.
        let dir = tempfile::tempdir().unwrap();
        for level in 0..40 {
            fs::create_dir(dir.path().join(format!("{level:02}"))).unwrap();
            for link in ["a", "b"] {
                let path = dir.path().join(format!("{level:02}/{link}"));
                symlink(format!("../{:02}", level + 1), path).unwrap();
            }
        }
        fs::create_dir(dir.path().join("40")).unwrap();
        let stopped = walk_within(dir.path(), &options, 1_000);
        assert!(matches!(stopped, Err(CreateError::TooMany { follows: true, .. })));
    }

    #[test]
    fn links_are_kept_or_followed() {
        let (dir, outside) = (tree(), tempfile::tempdir().unwrap());
        write(outside.path(), "far", b"far away");
        let link = |target: &Path, name: &str| symlink(target, dir.path().join(name)).unwrap();
        link(Path::new("../b"), "a/in");
        link(&dir.path().canonicalize().unwrap().join("a/x"), "abs");
        link(&outside.path().join("far"), "out");
        link(Path::new("nowhere"), "gone");
        let options = WalkOptions { exclude: vec!["logs".into(), "*.tmp".into()], ..Default::default() };
        let kept = walk(dir.path(), &options).unwrap();
        assert_eq!(files(&kept), [".hidden", "a-b", "a/in", "a/x", "abs", "b", "gone"]);
        let Content::Folder(entries) = &kept.content else { panic!() };
        assert_eq!(entries[2].symlink_target, Some(vec!["b".to_owned()]));
        assert_eq!(entries[4].symlink_target, Some(vec!["a".to_owned(), "x".to_owned()]));
        assert!(entries[2].attr.symlink && entries[2].length == 0);
        assert_eq!(kept.skipped.len(), 1);
        let followed = walk(dir.path(), &WalkOptions { follow_symlinks: true, ..options }).unwrap();
        assert_eq!(files(&followed), [".hidden", "a-b", "a/in", "a/x", "abs", "b", "out"]);
        assert!(followed.skipped.iter().any(|(path, _)| path.ends_with("gone")));
        hash(&followed, 16_384, 2, &|_| {}).unwrap();
    }

    #[test]
    fn attributes_and_odd_names() {
        let dir = tree();
        fs::set_permissions(dir.path().join("b"), fs::Permissions::from_mode(0o744)).unwrap();
        let source = walk(dir.path(), &WalkOptions::default()).unwrap();
        let Content::Folder(files) = &source.content else { panic!() };
        assert!(files.iter().all(|file| file.attr.executable == (file.path == ["b"])));
        let single = walk(&dir.path().join("b"), &WalkOptions::default()).unwrap();
        assert!(matches!(single.content, Content::File { length: 1, attr } if attr.executable));
        let odd: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"odd\xff");
        fs::write(dir.path().join(odd), b"").unwrap();
        assert!(matches!(walk(dir.path(), &WalkOptions::default()), Err(CreateError::NotUtf8 { .. })));
        let without = WalkOptions { exclude: vec!["odd*".to_owned()], ..Default::default() };
        walk(dir.path(), &without).unwrap();
        assert!(matches!(walk(&dir.path().join("no"), &without), Err(CreateError::Io { .. })));
    }

    fn note(last: &AtomicU64, done: u64) {
        last.fetch_max(done, Ordering::Relaxed);
    }

    fn hashed() -> (tempfile::TempDir, Torrent) {
        let files =
            [("a", Bytes::Random(100_000)), ("b", Bytes::Random(0)), ("c/d", Bytes::Random(30_000_000))];
        let (dir, torrent) = (tempfile::tempdir().unwrap(), Torrent::new("t", 32_768, &files));
        torrent.lay_out(dir.path());
        (dir, torrent)
    }

    #[test]
    fn hashes_are_those_of_the_pieces() {
        let (dir, torrent) = hashed();
        let source = walk(&dir.path().join("t"), &WalkOptions::default()).unwrap();
        for threads in [1, 4] {
            let last = AtomicU64::new(0);
            let hashes = hash(&source, 32_768, threads, &|done| note(&last, done));
            assert!(hashes.unwrap()[..] == torrent.info.piece_hashes[..]);
            assert_eq!(last.into_inner(), torrent.data.len() as u64);
        }
    }

    #[test]
    fn file_that_changes_is_named() {
        let (dir, torrent) = hashed();
        let source = walk(&dir.path().join("t"), &WalkOptions::default()).unwrap();
        for (file, len) in [(0, 99_999), (0, 100_001), (2, 29_000_000)] {
            let path = torrent.path(dir.path(), file);
            fs::File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
            let error = hash(&source, 32_768, 2, &|_| {}).unwrap_err();
            assert!(matches!(&error, CreateError::Changed { path: p } if *p == path), "{error}");
            torrent.lay_out(dir.path());
        }
        fs::remove_file(torrent.path(dir.path(), 0)).unwrap();
        assert!(matches!(hash(&source, 32_768, 2, &|_| {}), Err(CreateError::Io { .. })));
    }
}

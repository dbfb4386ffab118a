//! Which files of a folder become part of a torrent.

use super::filter::Filter;
use super::{CreateError, Source, WalkOptions};
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use swarm_core::metainfo::{Content, FILES_MAX, FileAttr, SourceFile, sort_files};

/// Finds the files at `path`, which is followed if it is a symbolic link.
///
/// # Errors
/// If a name is not UTF-8, something cannot be read, or there is nothing.
pub fn walk(path: &Path, options: &WalkOptions) -> Result<Source, CreateError> {
    walk_within(path, options, FILES_MAX)
}

/// The same with a limit on the entries of all folders together.
pub(super) fn walk_within(
    path: &Path,
    options: &WalkOptions,
    entries_max: usize,
) -> Result<Source, CreateError> {
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
        let is_taken = !walk.filter.excludes(&[], &name, false) && walk.filter.includes(&[name]);
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
    /// Takes what is in a folder. `names` leads to it from the root, and `folders` are those on the way,
    /// without links.
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
            if self.filter.excludes(names, &name.to_string_lossy(), is_dir) {
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

    /// Finds out whether patterns that have matched nothing so far match in folders that are left out. No
    /// link is followed there, and what cannot be read is passed over.
    fn try_left_out(&mut self) {
        while self.filter.has_idle_excludes() && self.room > 0 {
            let Some((path, names)) = self.left_out.pop() else { return };
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                self.room = self.room.saturating_sub(1);
                let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let name = entry.file_name().to_string_lossy().into_owned();
                self.filter.excludes(&names, &name, is_dir);
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
        if !self.filter.includes(names) {
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
        if !self.filter.includes(names) {
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

    /// Where a link in `folder` leads, as names below the root; `None` for the root itself and anything
    /// outside.
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

//! Files below one folder, and never outside it.
//!
//! A torrent's paths are clean, but the folders on disk may not be: an earlier torrent can have left a symbolic link
//! where this one wants a folder. So every path is walked one component at a time without following links, and
//! what is found at its end is opened only if it is no link either.

use super::error::StorageError;
use super::sys::{self, Stamp};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The folder that everything happens below. Opened anew for each operation: an idle torrent holds no open file.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    root: PathBuf,
}

/// What there is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    File(Stamp),
    /// A folder, a link, a device.
    Other,
}

impl Found {
    /// How the file looks, if it is one.
    pub(super) fn stamp(self) -> Option<Stamp> {
        match self {
            Found::File(stamp) => Some(stamp),
            _ => None,
        }
    }
}

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    /// Write, and create it if it is not there.
    Create,
}

impl Tree {
    /// Everything below `root`, which is followed if it is a link: the user named it.
    pub(super) fn new(root: PathBuf) -> Tree {
        Tree { root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The path for messages, and for files that may be links.
    pub(super) fn path_of(&self, path: &[impl AsRef<str>]) -> PathBuf {
        path.iter().fold(self.root.clone(), |at, name| at.join(name.as_ref()))
    }

    /// What there is at `path`.
    pub(super) fn find(&self, path: &[impl AsRef<str>]) -> Result<Found, StorageError> {
        match self.at(path, false, "look at", |dir, name| dir.find(name)) {
            Err(e) if e.is_not_found() => Ok(Found::Nothing),
            found => found,
        }
    }

    /// Opens a regular file. Folders on the way are created with [`Access::Create`].
    pub(super) fn open(&self, path: &[impl AsRef<str>], access: Access) -> Result<File, StorageError> {
        let file = self.at(path, access == Access::Create, "open", |dir, name| dir.open(name, access))?;
        let meta = file.metadata().map_err(|e| StorageError::io(&self.path_of(path), "look at", e))?;
        if !meta.is_file() {
            return Err(StorageError::WrongKind { path: self.path_of(path), wanted: "a regular file" });
        }
        // Somebody may have put it there so that another file of ours is written through it.
        if access != Access::Read && sys::links(&meta) > 1 {
            let wanted = "a file of one name (it has hard links)";
            return Err(StorageError::WrongKind { path: self.path_of(path), wanted });
        }
        Ok(file)
    }

    /// The same; `None` if there is no such file.
    pub(super) fn open_if_there(
        &self,
        path: &[impl AsRef<str>],
        access: Access,
    ) -> Result<Option<File>, StorageError> {
        match self.open(path, access) {
            Err(e) if e.is_not_found() => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Moves a file below this folder, creating folders on the way. Replaces what is at `to` only with `replace`;
    /// [`StorageError::ForeignData`] if there is something.
    pub(super) fn rename(
        &self,
        from: &[impl AsRef<str>],
        to: &[impl AsRef<str>],
        replace: bool,
    ) -> Result<(), StorageError> {
        let renamed = self.at(to, true, "move a file to", |to_dir, to_name| {
            self.walk(from, false, |from_dir, from_name| from_dir.rename(from_name, to_dir, to_name, replace))
        });
        match renamed {
            Err(e) if e.has_kind(io::ErrorKind::AlreadyExists) => {
                Err(StorageError::ForeignData { path: self.path_of(to) })
            }
            renamed => renamed,
        }
    }

    /// Moves whatever is at `from` to a place below another folder, where nothing may be, creating folders on the way.
    pub(super) fn rename_to(
        &self,
        from: &[impl AsRef<str>],
        other: &Tree,
        to: &[impl AsRef<str>],
    ) -> Result<(), StorageError> {
        let renamed = other.at(to, true, "move a file to", |to_dir, to_name| {
            self.walk(from, false, |from_dir, from_name| from_dir.rename(from_name, to_dir, to_name, false))
        });
        match renamed {
            Err(e) if e.has_kind(io::ErrorKind::AlreadyExists) => {
                Err(StorageError::ForeignData { path: other.path_of(to) })
            }
            renamed => renamed,
        }
    }

    /// Makes a folder, and those on the way; whether it was not there before.
    pub(super) fn make_dir(&self, path: &[impl AsRef<str>]) -> Result<bool, StorageError> {
        self.at(path, true, "create", |dir, name| dir.make_dir(name))
    }

    /// Makes a symbolic link at `path` to another path below this folder. Replaces a file that is there only with
    /// `replace`; [`StorageError::ForeignData`] if there is anything but this very link.
    pub(super) fn symlink(
        &self,
        path: &[impl AsRef<str>],
        target: &[impl AsRef<str>],
        replace: bool,
    ) -> Result<(), StorageError> {
        let target = relative(&path[..path.len().saturating_sub(1)], target);
        let made = self.at(path, true, "make the link", |dir, name| match dir.symlink(name, &target) {
            Err(e) if replace && e.kind() == io::ErrorKind::AlreadyExists => {
                dir.remove(name)?;
                dir.symlink(name, &target)
            }
            made => made,
        });
        made.map_err(|e| match e.has_kind(io::ErrorKind::AlreadyExists) {
            true => StorageError::ForeignData { path: self.path_of(path) },
            false => e,
        })
    }

    /// Removes a file; it is fine if there is none.
    pub(super) fn remove(&self, path: &[impl AsRef<str>]) -> Result<(), StorageError> {
        match self.at(path, false, "remove", |dir, name| dir.remove(name)) {
            Err(e) if e.is_not_found() => Ok(()),
            removed => removed,
        }
    }

    /// Removes an empty folder.
    pub(super) fn remove_dir(&self, path: &[impl AsRef<str>]) -> Result<(), StorageError> {
        self.at(path, false, "remove", |dir, name| dir.remove_dir(name))
    }

    /// The names in a folder, in no order; those that are not UTF-8 left out.
    pub(super) fn list(&self, path: &[impl AsRef<str>]) -> Result<Vec<String>, StorageError> {
        self.at(path, false, "list", |dir, name| dir.list(name))
    }

    /// Makes what was created, renamed and removed in this folder durable. An empty path is the root.
    pub(super) fn sync_dir(&self, path: &[impl AsRef<str>]) -> Result<(), StorageError> {
        if path.is_empty() {
            let synced = platform::Dir::open_root(&self.root).and_then(|dir| dir.sync());
            return synced.map_err(|e| StorageError::space(&self.root, "sync", 0, e));
        }
        self.at(path, false, "sync", |dir, name| dir.enter(name)?.sync())
    }

    /// Walks to the folder of `path` and does something there, with errors that name `path`.
    fn at<T>(
        &self,
        path: &[impl AsRef<str>],
        create: bool,
        action: &'static str,
        f: impl FnOnce(&platform::Dir, &str) -> io::Result<T>,
    ) -> Result<T, StorageError> {
        self.walk(path, create, f).map_err(|e| match e.kind() {
            // What the system says where a link or a file is in the place of a folder.
            io::ErrorKind::NotADirectory => self.wrong_kind(path),
            _ if sys::has_code(&e, &[libc::ELOOP]) => self.wrong_kind(path),
            io::ErrorKind::IsADirectory => {
                StorageError::WrongKind { path: self.path_of(path), wanted: "a regular file" }
            }
            _ => StorageError::space(&self.path_of(path), action, 0, e),
        })
    }

    /// Walks to the folder of `path`, opening one component at a time.
    fn walk<T>(
        &self,
        path: &[impl AsRef<str>],
        create: bool,
        f: impl FnOnce(&platform::Dir, &str) -> io::Result<T>,
    ) -> io::Result<T> {
        let (name, parents) = path.split_last().ok_or(io::ErrorKind::InvalidInput)?;
        let mut dir = platform::Dir::open_root(&self.root)?;
        for parent in parents {
            dir = match dir.enter(parent.as_ref()) {
                Err(e) if create && e.kind() == io::ErrorKind::NotFound => {
                    dir.make_dir(parent.as_ref())?;
                    dir.enter(parent.as_ref())?
                }
                entered => entered?,
            };
        }
        f(&dir, name.as_ref())
    }

    /// Finds out which component of `path` is in the way.
    fn wrong_kind(&self, path: &[impl AsRef<str>]) -> StorageError {
        for end in 1..path.len() {
            let found = self.walk(&path[..end], false, |dir, name| dir.enter(name).map(drop));
            if found.is_err() {
                return StorageError::WrongKind { path: self.path_of(&path[..end]), wanted: "a folder" };
            }
        }
        StorageError::WrongKind { path: self.path_of(path), wanted: "a regular file" }
    }
}

/// The way from a folder to `target`, both below the same root.
fn relative(folder: &[impl AsRef<str>], target: &[impl AsRef<str>]) -> String {
    let common = folder.iter().zip(target).take_while(|(a, b)| a.as_ref() == b.as_ref()).count();
    let ups = folder[common..].iter().map(|_| "..");
    let way: Vec<&str> = ups.chain(target[common..].iter().map(AsRef::as_ref)).collect();
    if way.is_empty() { ".".to_owned() } else { way.join("/") }
}

#[cfg(unix)]
mod platform {
    use super::{Access, Found};
    use crate::storage::sys::Stamp;
    use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
    use std::fs::File;
    use std::io;
    use std::os::fd::OwnedFd;
    use std::path::Path;

    /// An open folder.
    pub(super) struct Dir(OwnedFd);

    const DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

    impl Dir {
        pub(super) fn open_root(path: &Path) -> io::Result<Dir> {
            Ok(Dir(fs::open(path, DIR, Mode::empty())?))
        }

        pub(super) fn enter(&self, name: &str) -> io::Result<Dir> {
            Ok(Dir(fs::openat(&self.0, name, DIR | OFlags::NOFOLLOW, Mode::empty())?))
        }

        pub(super) fn find(&self, name: &str) -> io::Result<Found> {
            let stat = fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            Ok(if is_file { Found::File(Stamp::of_stat(&stat)) } else { Found::Other })
        }

        pub(super) fn open(&self, name: &str, access: Access) -> io::Result<File> {
            // A pipe in the way must not block; the caller checks that it is a regular file.
            let flags = match access {
                Access::Read => OFlags::RDONLY | OFlags::NONBLOCK,
                Access::Write => OFlags::RDWR,
                Access::Create => OFlags::RDWR | OFlags::CREATE,
            };
            let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
            Ok(fs::openat(&self.0, name, flags, Mode::from_raw_mode(0o666))?.into())
        }

        pub(super) fn rename(&self, from: &str, to_dir: &Dir, to: &str, replace: bool) -> io::Result<()> {
            if replace {
                return Ok(fs::renameat(&self.0, from, &to_dir.0, to)?);
            }
            #[cfg(target_os = "linux")]
            match fs::renameat_with(&self.0, from, &to_dir.0, to, fs::RenameFlags::NOREPLACE) {
                // File systems that do not know the flag.
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {}
                renamed => return Ok(renamed?),
            }
            match fs::statat(&to_dir.0, to, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
                Err(rustix::io::Errno::NOENT) => Ok(fs::renameat(&self.0, from, &to_dir.0, to)?),
                Err(e) => Err(e.into()),
            }
        }

        pub(super) fn make_dir(&self, name: &str) -> io::Result<bool> {
            match fs::mkdirat(&self.0, name, Mode::from_raw_mode(0o777)) {
                Ok(()) => Ok(true),
                Err(rustix::io::Errno::EXIST) => self.enter(name).map(|_| false),
                Err(e) => Err(e.into()),
            }
        }

        pub(super) fn symlink(&self, name: &str, target: &str) -> io::Result<()> {
            match fs::symlinkat(target, &self.0, name) {
                Err(rustix::io::Errno::EXIST)
                    if fs::readlinkat(&self.0, name, Vec::new())
                        .is_ok_and(|t| t.to_bytes() == target.as_bytes()) =>
                {
                    Ok(())
                }
                made => Ok(made?),
            }
        }

        pub(super) fn remove(&self, name: &str) -> io::Result<()> {
            Ok(fs::unlinkat(&self.0, name, AtFlags::empty())?)
        }

        pub(super) fn remove_dir(&self, name: &str) -> io::Result<()> {
            Ok(fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR)?)
        }

        pub(super) fn list(&self, name: &str) -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::Dir::read_from(self.enter(name)?.0)? {
                if let Ok(name) = entry?.file_name().to_str()
                    && name != "."
                    && name != ".."
                {
                    names.push(name.to_owned());
                }
            }
            Ok(names)
        }

        pub(super) fn sync(&self) -> io::Result<()> {
            Ok(fs::fsync(&self.0)?)
        }
    }
}

/// Where there are no `*at` calls: paths, each component of which is looked at first. Somebody who swaps a folder
/// for a link between the look and the use is not kept out.
#[cfg(not(unix))]
mod platform {
    use super::{Access, Found};
    use crate::storage::sys::Stamp;
    use std::fs::{self, File};
    use std::io;
    use std::path::{Path, PathBuf};

    /// A folder.
    pub(super) struct Dir(PathBuf);

    impl Dir {
        pub(super) fn open_root(path: &Path) -> io::Result<Dir> {
            fs::metadata(path)?;
            Ok(Dir(path.to_owned()))
        }

        pub(super) fn enter(&self, name: &str) -> io::Result<Dir> {
            let path = self.0.join(name);
            let is_dir = fs::symlink_metadata(&path)?.is_dir();
            if is_dir { Ok(Dir(path)) } else { Err(io::ErrorKind::NotADirectory.into()) }
        }

        pub(super) fn find(&self, name: &str) -> io::Result<Found> {
            let meta = fs::symlink_metadata(self.0.join(name))?;
            Ok(if meta.is_file() { Found::File(Stamp::of(&meta)) } else { Found::Other })
        }

        pub(super) fn open(&self, name: &str, access: Access) -> io::Result<File> {
            if matches!(self.find(name), Ok(Found::Other)) {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            fs::OpenOptions::new()
                .read(true)
                .write(access != Access::Read)
                .create(access == Access::Create)
                .open(self.0.join(name))
        }

        pub(super) fn rename(&self, from: &str, to_dir: &Dir, to: &str, replace: bool) -> io::Result<()> {
            let to = to_dir.0.join(to);
            if !replace && fs::symlink_metadata(&to).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(self.0.join(from), to)
        }

        pub(super) fn make_dir(&self, name: &str) -> io::Result<bool> {
            match fs::create_dir(self.0.join(name)) {
                Ok(()) => Ok(true),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.enter(name).map(|_| false),
                Err(e) => Err(e),
            }
        }

        pub(super) fn symlink(&self, _: &str, _: &str) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) fn remove(&self, name: &str) -> io::Result<()> {
            fs::remove_file(self.0.join(name))
        }

        pub(super) fn remove_dir(&self, name: &str) -> io::Result<()> {
            fs::remove_dir(self.0.join(name))
        }

        pub(super) fn list(&self, name: &str) -> io::Result<Vec<String>> {
            let names =
                fs::read_dir(self.enter(name)?.0)?.filter_map(|e| e.ok()?.file_name().into_string().ok());
            Ok(names.collect())
        }

        pub(super) fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }
}

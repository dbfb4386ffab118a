//! From files on disk to the piece hashes of a torrent.
//!
//! [`walk`] finds the files, in an order that does not depend on the file system; [`hash`] hashes them on all
//! cores. What comes out goes into [`swarm_core::metainfo::Create`].

mod filter;
mod walk;

pub use filter::check_pattern;
pub use walk::walk;

use crate::storage::bulk::{BulkError, hash_pieces};
use crate::storage::verify::Looks;
use filter::Filter;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use swarm_core::geometry::{Geometry, GeometryError};
use swarm_core::id::{FileIndex, InfoHash};
use swarm_core::metainfo::{Content, FILES_MAX, FileAttr, FileEntry, Info, padding_of};

/// Which files become part of a torrent.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct WalkOptions {
    /// Takes what symbolic links lead to. Otherwise links that stay within the folder are kept as links (BEP
    /// 47), and others are passed over.
    pub follow_symlinks: bool,
    /// What the torrent is called, if not as its folder.
    pub name: Option<String>,
    /// If there are any, only files that match one of these patterns are taken.
    ///
    /// Patterns are those of gitignore files: one without `/` is compared with names at any depth, one with a
    /// `/` before its end with the path below the folder, one that ends with `/` with folders only, which
    /// stand for all that they hold. `*` and `?` match no `/`, `**` does. The last pattern that matches
    /// decides, and `!` before one turns its meaning round. Before the path, the folder's own name or path
    /// and `./` may stand as well.
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
            if filter.excludes(&names, &name, names.len() + 1 < path.iter().count()) {
                return Ok(false);
            }
            names.push(name);
        }
        Ok(filter.includes(&names))
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
#[allow(missing_docs)]
pub enum CreateError {
    #[error("{}: the name is not UTF-8; rename it or exclude it", .path.display())]
    NotUtf8 { path: PathBuf },
    /// There is no file, or none that matches.
    #[error("{}: holds no files to put into a torrent", .path.display())]
    Nothing { path: PathBuf },
    #[error("the pattern {pattern:?}: {why}")]
    Pattern { pattern: String, why: String },
    /// Following this link would not end.
    #[error("{}: is a link to a folder that it lies in; exclude it, or do not follow links", .path.display())]
    Loop { path: PathBuf },
    /// More files and folders than a torrent may have files, perhaps because followed links lead to the same
    /// ones again.
    #[error("{}: holds more than {FILES_MAX} files and folders{}", .path.display(), if *.follows { ", counted by every link that leads to them" } else { "" })]
    TooMany { path: PathBuf, follows: bool },
    /// Too large, or an impossible piece length.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    #[error("{}: changed while it was hashed; try again when nobody writes to it", .path.display())]
    Changed { path: PathBuf },
    #[error("{}: cannot {action}: {source}", .path.display())]
    Io { path: PathBuf, action: &'static str, source: io::Error },
}

impl CreateError {
    fn io(path: &Path, action: &'static str, source: io::Error) -> CreateError {
        CreateError::Io { path: path.to_owned(), action, source }
    }
}

impl Source {
    /// The length of all files together, in bytes.
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

/// Hashes all pieces on so many threads; gives the digests one after the other, 20 bytes each. `progress` is
/// called, on any of the threads, with the number of bytes that are done.
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
mod tests;

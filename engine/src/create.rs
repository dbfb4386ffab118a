//! From files on disk to the hashes of a torrent's pieces.
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
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use swarm_core::geometry::{Geometry, GeometryError};
use swarm_core::id::{FileIndex, InfoHash, InfoHashV2, PieceIndex};
use swarm_core::merkle::Node;
use swarm_core::metainfo::{
    Content, FILES_MAX, FileAttr, FileEntry, Format, Hashes, Info, PieceHash, SourceFile, pad_files,
    padding_of, sort_tree,
};

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

/// What a file takes in an info dictionary of version 1 beside its names, in bytes.
const V1_FILE_LEN: u64 = 32;
/// The same in version 2.
const V2_FILE_LEN: u64 = 22;
/// What the root of a file's tree takes there; empty files have none.
const V2_ROOT_LEN: u64 = 49;

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

    /// How many pieces a torrent of these files has, once they are [arranged](Source::arrange) for its format.
    pub fn pieces(&self, format: Format, piece_length: u32) -> u64 {
        let count = |len: u64| len.div_ceil(piece_length.into());
        match format.has_v2() {
            true => self.lengths().map(count).sum(),
            false => count(self.total_len()),
        }
    }

    /// How long the hashes in its metainfo file are together, in bytes: of version 2 those of files of more than one piece.
    pub fn hashes_len(&self, format: Format, piece_length: u32) -> u64 {
        let v1 = if format.has_v1() { self.pieces(format, piece_length) } else { 0 };
        let count = |len: u64| if len > piece_length.into() { len.div_ceil(piece_length.into()) } else { 0 };
        let v2: u64 = if format.has_v2() { self.lengths().map(count).sum() } else { 0 };
        v1 * 20 + v2 * 32
    }

    /// About how long its info dictionary becomes, in bytes, once the files are [arranged](Source::arrange): what peers send to those who
    /// come by a magnet link.
    pub fn info_len(&self, format: Format, piece_length: u32) -> u64 {
        let name_len = |name: &String| name.len() as u64 + 3;
        let files = match &self.content {
            Content::File { .. } => &[][..],
            Content::Folder(files) => &files[..],
        };
        let mut len = 0;
        if format.has_v1() {
            let names = |file: &SourceFile| file.path.iter().map(name_len).sum::<u64>();
            let of_files = files.iter().map(|file| V1_FILE_LEN + names(file)).sum::<u64>();
            len += 20 * self.pieces(format, piece_length) + of_files;
        }
        if format.has_v2() {
            // There a folder is named once.
            let mut before: &[String] = &[];
            for file in files.iter().filter(|file| !file.attr.pad) {
                let known = file.path.iter().zip(before).take_while(|(name, before)| name == before).count();
                len += V2_FILE_LEN + if file.length > 0 { V2_ROOT_LEN } else { 0 };
                len += file.path[known..].iter().map(|name| name_len(name) + 2).sum::<u64>();
                before = &file.path;
            }
        }
        len
    }

    /// The lengths of all files but padding.
    fn lengths(&self) -> impl Iterator<Item = u64> + '_ {
        let (single, files) = match &self.content {
            Content::File { length, .. } => (Some(*length), &[][..]),
            Content::Folder(files) => (None, &files[..]),
        };
        single.into_iter().chain(files.iter().filter(|file| !file.attr.pad).map(|file| file.length))
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

    /// Puts the files into the order that a format has, with the padding that it needs.
    pub fn arrange(&mut self, format: Format, piece_length: u32) {
        if let Content::Folder(files) = &mut self.content
            && format.has_v2()
        {
            sort_tree(files);
            if format.has_v1() {
                *files = pad_files(std::mem::take(files), piece_length);
            }
        }
    }

    /// Puts the files into the order that they have in another version of the torrent, new ones after those, so that both share as many
    /// pieces as they can; with padding if that one has any, for its piece length. In version 2 the order is given.
    pub fn arrange_like(&mut self, other: &Info) {
        let piece_length = other.geometry.piece_len();
        self.arrange(other.format(), piece_length);
        if let Content::Folder(files) = &mut self.content
            && !other.format().has_v2()
        {
            let places = other.files.iter().filter(|file| !file.attr.pad && file.path.len() > 1);
            let places: BTreeMap<&[String], usize> = places.map(|file| &file.path[1..]).zip(0..).collect();
            // What is new keeps its order.
            files.sort_by_key(|file| places.get(&file.path[..]).copied().unwrap_or(usize::MAX));
            if other.files.iter().any(|file| file.attr.pad) {
                *files = pad_files(std::mem::take(files), piece_length);
            }
        }
    }

    /// The torrent's layout, as far as hashing needs it.
    fn layout(&self, format: Format, piece_length: u32) -> Result<Info, CreateError> {
        let lengths: Vec<(u64, FileAttr)> = match &self.content {
            Content::File { length, attr } => vec![(*length, *attr)],
            Content::Folder(files) => files.iter().map(|file| (file.length, file.attr)).collect(),
        };
        let mut offset = 0u64;
        let align = if format.has_v1() { 1 } else { u64::from(piece_length) };
        let files = lengths.into_iter().map(|(length, attr)| {
            let file =
                FileEntry { path: Vec::new(), length, offset, attr, symlink_target: None, pieces_root: None };
            offset = offset.saturating_add(length.checked_next_multiple_of(align).unwrap_or(u64::MAX));
            file
        });
        let files: Vec<FileEntry> = files.collect();
        Ok(Info {
            info_hash: InfoHash([0; 20]),
            info_hash_v2: format.has_v2().then_some(InfoHashV2([0; 32])),
            name: String::new(),
            geometry: match format.has_v1() {
                true => Geometry::new(offset, u64::from(piece_length))?,
                false => Geometry::of_files(files.iter().map(|file| file.length), u64::from(piece_length))?,
            },
            piece_hashes: format.has_v1().then(|| Vec::new().into()),
            piece_nodes: None,
            padding: padding_of(&files),
            files,
            single_file: matches!(self.content, Content::File { .. }),
            private: false,
            source: None,
        })
    }
}

/// What the pieces of a torrent hash to, in the versions that it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hashed {
    /// SHA-1 of each piece, 20 bytes apiece: version 1.
    pub sha1: Vec<u8>,
    /// For each piece, the node that covers it in its file's hash tree: version 2.
    pub nodes: Vec<Node>,
}

impl Hashed {
    /// As [`Create::encode`](swarm_core::metainfo::Create::encode) takes them.
    pub fn hashes(&self) -> Hashes<'_> {
        Hashes { sha1: &self.sha1, nodes: &self.nodes }
    }

    fn of(info: &Info) -> Hashed {
        let (pieces, format) = (info.geometry.pieces() as usize, info.format());
        Hashed {
            sha1: vec![0; if format.has_v1() { 20 * pieces } else { 0 }],
            nodes: vec![[0; 32]; if format.has_v2() { pieces } else { 0 }],
        }
    }

    fn set(&mut self, piece: PieceIndex, hash: PieceHash) {
        if let Some(sha1) = hash.sha1 {
            self.sha1[piece.idx() * 20..][..20].copy_from_slice(&sha1);
        }
        if let Some(node) = hash.node {
            self.nodes[piece.idx()] = node;
        }
    }
}

/// Hashes all pieces on so many threads, reading once. The files are [arranged](Source::arrange) for the format. `progress` is
/// called, on any of the threads, with the number of bytes that are done.
///
/// # Errors
/// [`CreateError::Changed`] if a file's length is not what [`walk`] found; if something cannot be read.
pub fn hash(
    source: &Source,
    format: Format,
    piece_length: u32,
    threads: usize,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Hashed, CreateError> {
    let info = source.layout(format, piece_length)?;
    let hashes = Mutex::new((Hashed::of(&info), None));
    let done = AtomicU64::new(0);
    hash_pieces(
        &info,
        threads,
        &|_| true,
        &|file| File::open(source.path_of(file)).map(|file| Some(Arc::new(file))),
        &|piece, hash| {
            let (hashes, error) = &mut *hashes.lock().unwrap_or_else(PoisonError::into_inner);
            match hash {
                Ok(hash) => hashes.set(piece, hash),
                Err(BulkError::Short(file)) => {
                    *error = Some(CreateError::Changed { path: source.path_of(file) })
                }
                Err(BulkError::Io(file, e)) => {
                    *error = Some(CreateError::io(&source.path_of(file), "read", e))
                }
            }
            let len = u64::from(info.payload_of(piece));
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

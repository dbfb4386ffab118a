//! Writing metainfo files.
//!
//! Pure: walking folders and hashing pieces is the caller's part. The same files in the same order, name and
//! piece length give the info-hashes that libtorrent (2.1.1) gives, byte for byte.

use super::path::PathRules;
use super::{FileAttr, Format, Metainfo, MetainfoError};
use crate::bencode::emit_some;
use crate::geometry::BLOCK_LEN;
use crate::id::PieceIndex;
use crate::merkle::{self, Node};
use bendy::encoding::{Encoder, Error as BendyError, SingleItemEncoder, SortedDictEncoder, ToBencode};
use std::collections::BTreeMap;

/// The smallest piece that [`default_piece_length`] chooses, in bytes.
const DEFAULT_PIECE_LEN_MIN: u64 = 16 * 1024;
/// The largest piece that [`default_piece_length`] chooses, in bytes.
const DEFAULT_PIECE_LEN_MAX: u64 = 16 * 1024 * 1024;
/// The number of pieces that [`default_piece_length`] stays within while it can.
const DEFAULT_PIECES_MAX: u64 = 2_048;

/// The smallest power of two from 16 KiB to 16 MiB that divides `total` bytes into at most 2,048 pieces; 16
/// MiB where none does.
pub fn default_piece_length(total: u64) -> u32 {
    let least = total.div_ceil(DEFAULT_PIECES_MAX).next_power_of_two();
    least.clamp(DEFAULT_PIECE_LEN_MIN, DEFAULT_PIECE_LEN_MAX) as u32
}

/// Puts files in the order in which they belong into a torrent: by the bytes of their paths, written with
/// `/`.
///
/// So the order does not depend on the filesystem, and `a-b` comes before `a/x`, and that before `b`. It is
/// the order of libtorrent's `canonical_files`; without that flag libtorrent takes files in the order in
/// which the filesystem lists them.
pub fn sort_files(files: &mut [SourceFile]) {
    files.sort_by_cached_key(|file| file.path.join("/"));
}

/// Puts files in the order of a file tree of version 2: folder by folder, by the bytes of their names.
///
/// That is not the order of [`sort_files`]: here `a/x` comes before `a-b`.
pub fn sort_tree(files: &mut [SourceFile]) {
    files.sort_by(|a, b| a.path.cmp(&b.path));
}

/// Puts padding after files, so that each begins with a piece of its own, as hybrids need (BEP 47). There is some after the
/// last one too, unless it is alone, as libtorrent has it.
pub fn pad_files(files: Vec<SourceFile>, piece_length: u32) -> Vec<SourceFile> {
    if files.len() == 1 {
        return files;
    }
    let padding = |length: u64| SourceFile {
        path: vec![".pad".to_owned(), length.to_string()],
        length,
        attr: FileAttr { pad: true, ..FileAttr::default() },
        symlink_target: None,
    };
    let mut padded = Vec::with_capacity(2 * files.len());
    for file in files {
        let rest = file.length % u64::from(piece_length);
        padded.push(file);
        padded.extend((rest > 0).then(|| padding(u64::from(piece_length) - rest)));
    }
    padded
}

/// What the pieces of a torrent hash to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hashes<'a> {
    /// SHA-1 of each piece, 20 bytes apiece. Not used in version 2 alone.
    pub sha1: &'a [u8],
    /// For each piece, the node that covers it in its file's hash tree. Not used in version 1.
    pub nodes: &'a [Node],
}

impl<'a> Hashes<'a> {
    /// Those of version 1.
    pub fn v1(sha1: &'a [u8]) -> Hashes<'a> {
        Hashes { sha1, nodes: &[] }
    }
}

/// A file to put into a torrent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFile {
    /// Path components below the torrent's folder, exactly as on disk.
    pub path: Vec<String>,
    /// Length in bytes; 0 for a link.
    pub length: u64,
    /// BEP 47 attributes. For the info-hash that libtorrent gives, a file is executable if its owner may
    /// execute it, also a link (which on Linux always is), and nothing is hidden.
    pub attr: FileAttr,
    /// The target of a symbolic link: path components below the torrent's folder. With [`FileAttr::symlink`]
    /// only.
    pub symlink_target: Option<Vec<String>>,
}

/// What a torrent is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// One file, called as the torrent.
    File {
        /// Length in bytes.
        length: u64,
        /// BEP 47 attributes, of which only `executable` and `hidden` make sense.
        attr: FileAttr,
    },
    /// A folder, called as the torrent. The files are in the order of the torrent's bytes; see [`sort_files`], and for version 2
    /// [`sort_tree`] and [`pad_files`].
    Folder(Vec<SourceFile>),
}

/// A metainfo file in the making. Everything but name, content and piece length may be left as
/// [`Create::new`] has it: absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// The file's or folder's name.
    pub name: String,
    /// What is in it.
    pub content: Content,
    /// Bytes in each piece but the last; see [`default_piece_length`].
    pub piece_length: u32,
    /// For which versions of the protocol it is.
    pub format: Format,
    /// Peers come from the trackers only (BEP 27).
    pub private: bool,
    /// Makes the info-hash differ from that of the same files elsewhere.
    pub source: Option<String>,
    /// Tracker URLs in tiers (BEP 12).
    pub trackers: Vec<Vec<String>>,
    /// URLs of web seeds (BEP 19).
    pub web_seeds: Vec<String>,
    /// DHT nodes to start from, as host and port (BEP 5).
    pub nodes: Vec<(String, u16)>,
    /// Anything that its maker wants to say.
    pub comment: Option<String>,
    /// The program that makes it.
    pub created_by: Option<String>,
    /// Now, in seconds since 1970.
    pub creation_date: Option<i64>,
}

/// Why no metainfo file can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// A name cannot be used in a torrent, or two files share a path.
    #[error("{0:?} cannot be put into a torrent: its name is reserved or too long, or occurs twice")]
    Path(String),
    /// A link leads out of the torrent's folder, or has no target.
    #[error("{0:?} is a link that does not stay within the torrent's folder")]
    Link(String),
    /// Impossible lengths, or more than a metainfo file can hold.
    #[error(transparent)]
    Metainfo(#[from] MetainfoError),
}

impl Create {
    /// Nothing but files.
    pub fn new(name: String, content: Content, piece_length: u32) -> Create {
        Create {
            name,
            content,
            piece_length,
            format: Format::V1,
            private: false,
            source: None,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            nodes: Vec::new(),
            comment: None,
            created_by: None,
            creation_date: None,
        }
    }

    /// The metainfo file's bytes, given what its pieces hash to. They have been read back: what was put in is what is found in
    /// them.
    ///
    /// # Errors
    /// When there are no files, the hashes are not as many as the pieces, a path cannot be in a torrent, files are not in the order of
    /// the format, or a limit of [`Metainfo::parse`] is exceeded.
    pub fn encode(&self, hashes: Hashes<'_>) -> Result<Vec<u8>, CreateError> {
        let tree = match self.format.has_v2() {
            true => Some(Tree::of(self, hashes.nodes)?),
            false => None,
        };
        let depth = tree.as_ref().map_or(0, |tree| tree.depth);
        let mut encoder = Encoder::new().with_max_depth(LEVELS.max(TREE_LEVELS + depth));
        let written = encoder.emit_with(|e| e.emit_dict(|e| self.emit(e, hashes.sha1, tree.as_ref())));
        let bytes = written.and_then(|()| encoder.get_output());
        let bytes = bytes.expect("keys are sorted and levels counted in this module");
        self.check(&Metainfo::check(&bytes, PathRules::UNIX)?)?;
        Ok(bytes)
    }

    /// For each piece, the node that covers it in its file's hash tree, given the leaf of each of its blocks: [`Hashes::nodes`].
    ///
    /// # Panics
    /// If the piece length is not 16 KiB times a power of two.
    pub fn piece_nodes(&self, mut leaf: impl FnMut(PieceIndex, u32) -> Node) -> Vec<Node> {
        let mut nodes = Vec::new();
        let mut add = |length: u64| {
            let tree = merkle::Tree::new(length, self.piece_length);
            let (mut left, per_piece) = (tree.nodes(0), self.piece_length / BLOCK_LEN);
            while left > 0 {
                let (piece, count) = (PieceIndex(nodes.len() as u32), left.min(per_piece.into()));
                let leaves: Vec<Node> = (0..count as u32).map(|nth| leaf(piece, nth)).collect();
                nodes.push(tree.piece_node(&leaves));
                left -= count;
            }
        };
        match &self.content {
            Content::File { length, .. } => add(*length),
            Content::Folder(files) => {
                let files = files.iter().filter(|file| file.length > 0 && !file.attr.pad);
                files.for_each(|file| add(file.length));
            }
        }
        nodes
    }

    /// Pieces that there must be.
    fn pieces(&self) -> u32 {
        let count = |length: u64| length.div_ceil(self.piece_length.into());
        let all = match &self.content {
            Content::File { length, .. } => count(*length),
            Content::Folder(files) => {
                files.iter().filter(|file| !file.attr.pad).map(|file| count(file.length)).sum()
            }
        };
        u32::try_from(all).unwrap_or(u32::MAX)
    }

    /// Whether all files came back under their own paths.
    fn check(&self, read: &Metainfo) -> Result<(), CreateError> {
        if let Content::Folder(files) = &self.content
            && read.info.single_file
        {
            // Version 2 cannot tell a folder of one file from that file.
            let is_same =
                files.iter().filter(|file| !file.attr.pad).all(|file| file.path == read.info.files[0].path);
            return if is_same { Ok(()) } else { Err(CreateError::Path(self.name.clone())) };
        }
        if read.info.name != self.name {
            return Err(CreateError::Path(self.name.clone()));
        }
        let Content::Folder(files) = &self.content else { return Ok(()) };
        let files = files.iter().filter(|file| self.format.has_v1() || !file.attr.pad);
        for (file, read) in files.zip(&read.info.files) {
            // Others would take a file of such a name for padding, and never fetch it.
            if read.path[1..] != file.path || read.has_padding_name() && !file.attr.pad {
                return Err(CreateError::Path(file.path.join("/")));
            }
            if read.symlink_target.as_deref().map(|target| &target[1..]) != file.symlink_target.as_deref() {
                return Err(CreateError::Link(file.path.join("/")));
            }
        }
        Ok(())
    }

    fn emit(
        &self,
        mut dict: SortedDictEncoder<'_>,
        sha1: &[u8],
        tree: Option<&Tree<'_>>,
    ) -> Result<(), BendyError> {
        let urls = self.trackers.iter().flatten();
        if let Some(first) = urls.clone().next() {
            dict.emit_pair(b"announce", first)?;
        }
        if urls.count() > 1 {
            let tiers: Vec<_> = self.trackers.iter().filter(|tier| !tier.is_empty()).collect();
            dict.emit_pair(b"announce-list", tiers)?;
        }
        emit_some(&mut dict, b"comment", self.comment.as_ref())?;
        emit_some(&mut dict, b"created by", self.created_by.as_ref())?;
        emit_some(&mut dict, b"creation date", self.creation_date)?;
        dict.emit_pair_with(b"info", |e| e.emit_dict(|e| self.emit_info(e, sha1, tree)))?;
        if !self.nodes.is_empty() {
            dict.emit_pair_with(b"nodes", |e| {
                e.emit_list(|e| {
                    self.nodes.iter().try_for_each(|(host, port)| {
                        e.emit_list(|e| e.emit_str(host).and_then(|()| e.emit_int(*port)))
                    })
                })
            })?;
        }
        if let Some(tree) = tree {
            dict.emit_pair_with(b"piece layers", |e| {
                e.emit_dict(|mut e| {
                    tree.layers.iter().try_for_each(|(root, layer)| {
                        e.emit_pair_with(root, |e| e.emit_bytes(layer.as_flattened()))
                    })
                })
            })?;
        }
        match &self.web_seeds[..] {
            [] => Ok(()),
            urls => dict.emit_pair(b"url-list", urls.to_vec()),
        }
    }

    fn emit_info(
        &self,
        mut dict: SortedDictEncoder<'_>,
        sha1: &[u8],
        tree: Option<&Tree<'_>>,
    ) -> Result<(), BendyError> {
        let has_v1 = self.format.has_v1();
        if let Content::File { attr, .. } = &self.content
            && has_v1
        {
            emit_attr(&mut dict, *attr)?;
        }
        if let Some(tree) = tree {
            dict.emit_pair_with(b"file tree", |e| tree.emit(e, &tree.files, 0))?;
        }
        match &self.content {
            Content::File { length, .. } if has_v1 => dict.emit_pair(b"length", length)?,
            Content::Folder(files) if has_v1 => dict.emit_pair(b"files", files)?,
            _ => {}
        }
        if tree.is_some() {
            dict.emit_pair(b"meta version", 2)?;
        }
        dict.emit_pair(b"name", &self.name)?;
        dict.emit_pair(b"piece length", self.piece_length)?;
        if has_v1 {
            dict.emit_pair_with(b"pieces", |e| e.emit_bytes(sha1))?;
        }
        if self.private {
            dict.emit_pair(b"private", 1)?;
        }
        emit_some(&mut dict, b"source", self.source.as_ref())
    }
}

/// The metainfo, its info dictionary, `files`, a file, `path`.
const LEVELS: usize = 5;

/// The metainfo, its info dictionary, `file tree`, the entry of a file, what is said of it, `symlink path`.
const TREE_LEVELS: usize = 6;

/// The file tree of version 2, with the hashes that belong to it.
struct Tree<'a> {
    /// In the tree's order.
    files: Vec<TreeFile<'a>>,
    /// By root; each once, as files that are the same share theirs.
    layers: BTreeMap<Node, &'a [Node]>,
    /// Folders that the deepest file is in, and itself.
    depth: usize,
}

struct TreeFile<'a> {
    path: &'a [String],
    length: u64,
    attr: FileAttr,
    symlink_target: Option<&'a [String]>,
    root: Option<Node>,
}

impl<'a> Tree<'a> {
    fn of(create: &'a Create, nodes: &'a [Node]) -> Result<Tree<'a>, CreateError> {
        let piece_length = u64::from(create.piece_length);
        if !create.piece_length.is_power_of_two() || create.piece_length < BLOCK_LEN {
            return Err(MetainfoError::PieceLengthV2(create.piece_length).into());
        }
        let mut tree = Tree { files: Vec::new(), layers: BTreeMap::new(), depth: 0 };
        let mut rest = nodes;
        let mut add = |path: &'a [String], length: u64, attr, symlink_target: Option<&'a [String]>| {
            let count = usize::try_from(length.div_ceil(piece_length)).unwrap_or(usize::MAX);
            let wrong = MetainfoError::PieceCount { found: nodes.len(), expected: create.pieces() };
            let layer = rest.split_off(..count).ok_or(wrong)?;
            let root = (length > 0).then(|| {
                let tree = merkle::Tree::new(length, create.piece_length);
                merkle::root(layer, tree.piece_layer(), tree.height() - tree.piece_layer())
            });
            if let (Some(root), 2..) = (root, layer.len()) {
                tree.layers.insert(root, layer);
            }
            tree.depth = tree.depth.max(path.len());
            tree.files.push(TreeFile { path, length, attr, symlink_target, root });
            Ok::<(), MetainfoError>(())
        };
        match &create.content {
            Content::File { length, attr } => add(std::slice::from_ref(&create.name), *length, *attr, None)?,
            Content::Folder(files) => {
                for file in files.iter().filter(|file| !file.attr.pad) {
                    add(&file.path, file.length, file.attr, file.symlink_target.as_deref())?;
                }
            }
        }
        let is_sorted = tree.files.is_sorted_by(|a, b| a.path < b.path);
        let taken = tree.files.windows(2).find(|pair| pair[1].path.starts_with(pair[0].path) || !is_sorted);
        match taken {
            Some(pair) => Err(CreateError::Path(pair[1].path.join("/"))),
            None => Ok(tree),
        }
    }

    /// Writes the entries of these files, which share their first `depth` path components.
    fn emit(
        &self,
        encoder: SingleItemEncoder<'_>,
        files: &[TreeFile<'_>],
        depth: usize,
    ) -> Result<(), BendyError> {
        encoder.emit_dict(|mut dict| {
            for entry in files.chunk_by(|a, b| a.path[depth] == b.path[depth]) {
                let name = entry[0].path[depth].as_bytes();
                match entry {
                    [file] if file.path.len() == depth + 1 => dict.emit_pair_with(name, |e| {
                        e.emit_dict(|mut e| e.emit_pair_with(b"", |e| e.emit_dict(|e| file.emit(e))))
                    })?,
                    _ => dict.emit_pair_with(name, |e| self.emit(e, entry, depth + 1))?,
                }
            }
            Ok(())
        })
    }
}

impl TreeFile<'_> {
    fn emit(&self, mut dict: SortedDictEncoder<'_>) -> Result<(), BendyError> {
        emit_attr(&mut dict, self.attr)?;
        dict.emit_pair(b"length", self.length)?;
        if let Some(root) = &self.root {
            dict.emit_pair_with(b"pieces root", |e| e.emit_bytes(root))?;
        }
        match self.symlink_target {
            Some(target) => dict.emit_pair(b"symlink path", target),
            None => Ok(()),
        }
    }
}

impl ToBencode for SourceFile {
    const MAX_DEPTH: usize = 2;

    fn encode(&self, encoder: SingleItemEncoder<'_>) -> Result<(), BendyError> {
        encoder.emit_dict(|mut dict| {
            emit_attr(&mut dict, self.attr)?;
            dict.emit_pair(b"length", self.length)?;
            dict.emit_pair(b"path", &self.path)?;
            emit_some(&mut dict, b"symlink path", self.symlink_target.as_ref())
        })
    }
}

fn emit_attr(dict: &mut SortedDictEncoder<'_>, attr: FileAttr) -> Result<(), BendyError> {
    let letters = attr.letters();
    emit_some(dict, b"attr", Some(letters).filter(|letters| !letters.is_empty()))
}

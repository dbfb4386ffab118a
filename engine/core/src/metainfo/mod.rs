//! What a torrent is: the metainfo file and its info dictionary (BEP 3, 5, 12, 19, 27, 47, 52).
//!
//! [`Metainfo::parse`] reads what others made: lenient where files in the wild are, strict where a wrong
//! guess would harm, with a warning for whatever it passes over. [`Create`] makes new ones. [`PathRules`]
//! keeps a stranger's file names from meaning more than a name.

mod create;
mod encode;
mod entry;
mod error;
mod info;
mod layers;
mod layout;
mod magnet;
mod parse;
mod path;
mod piece_hashes;
mod tree;
mod trees;
mod warnings;

#[cfg(test)]
mod tests;

pub use create::{
    Content, Create, CreateError, Hashes, SourceFile, default_piece_length, pad_files, sort_files, sort_tree,
};
pub use error::MetainfoError;
pub use layout::{Layout, LayoutError};
pub use magnet::{Magnet, MagnetError, decode_base32, host_and_port, parse_info_hash};
pub use path::{COMPONENT_LEN_MAX, PathRules};
pub use piece_hashes::{PieceHash, PieceHashes, PieceNodes, PieceShape, PieceTree};
pub use trees::{FileTree, HashTrees};

use crate::geometry::Geometry;
use crate::id::{FileIndex, InfoHash, InfoHashV2, InfoHashes, PieceIndex};
use crate::merkle::{Node, Tree};
use crate::padding::Padding;
use bytes::Bytes;
use std::sync::Arc;

/// How long a metainfo file may be, in bytes.
pub const METAINFO_LEN_MAX: usize = crate::bencode::INPUT_LEN_MAX;

/// How many files a torrent may have, pad files included.
pub const FILES_MAX: usize = 500_000;

/// How many folders deep a file may lie, its own name included.
pub const PATH_DEPTH_MAX: usize = 256;

/// How many trackers, web seeds or nodes are read from a metainfo file; more are passed over with a warning.
pub const ADDRESSES_MAX: usize = 1_000;

/// How long the URL of a tracker or web seed may be, in bytes.
pub const URL_LEN_MAX: usize = 4_096;

/// A metainfo file: a torrent, and where to find peers for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metainfo {
    /// What is distributed.
    pub info: Arc<Info>,
    /// The info dictionary as found, byte for byte.
    pub info_bytes: Bytes,
    /// Tracker URLs in tiers, best tier first (BEP 12). No URL occurs twice, no tier is empty.
    pub trackers: Vec<Vec<String>>,
    /// URLs of web seeds (BEP 19).
    pub web_seeds: Vec<String>,
    /// URLs of seeds that need a script on their server (BEP 17). They are only shown.
    pub http_seeds: Vec<String>,
    /// DHT nodes to start from, as host and port (BEP 5).
    pub nodes: Vec<(String, u16)>,
    /// What its maker says about it.
    pub comment: Option<String>,
    /// The program that made it.
    pub created_by: Option<String>,
    /// When it was made, in seconds since 1970, as far as its maker can be believed.
    pub creation_date: Option<i64>,
    /// What was odd about the file, a line each. Safe to print: control characters are escaped.
    pub warnings: Vec<String>,
}

/// Which versions of the protocol a torrent is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Version 1 alone.
    #[default]
    V1,
    /// Version 2 alone (BEP 52).
    V2,
    /// Both: two info-hashes, two swarms, the same bytes.
    Hybrid,
}

impl Format {
    /// Whether version 1 is among them.
    pub fn has_v1(self) -> bool {
        self != Format::V2
    }

    /// Whether version 2 is among them.
    pub fn has_v2(self) -> bool {
        self != Format::V1
    }
}

/// The info dictionary: what is distributed, and how to know that it is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// SHA-1 over the raw bytes as found; in version 2 alone [`info_hash_v2`](Info::info_hash_v2) cut to 20 bytes.
    pub info_hash: InfoHash,
    /// SHA-256 over the raw bytes as found, if there is a part of version 2 (BEP 52).
    pub info_hash_v2: Option<InfoHashV2>,
    /// The file or folder's name: one safe path component.
    pub name: String,
    /// How the bytes divide into pieces.
    pub geometry: Geometry,
    /// SHA-1 of each piece, 20 bytes apiece; `None` in version 2 alone.
    pub piece_hashes: Option<PieceHashes>,
    /// The roots of the pieces' blocks, once they are known; `None` in version 1. They stand in the metainfo file beside the info
    /// dictionary, or come from peers.
    pub piece_nodes: Option<PieceNodes>,
    /// In the order of the torrent's bytes, pad files included.
    pub files: Vec<FileEntry>,
    /// Where the pad files among them lie.
    pub padding: Padding,
    /// Whether this is one file called `name`, rather than a folder of that name.
    pub single_file: bool,
    /// Peers come from its trackers only (BEP 27).
    pub private: bool,
    /// The `source` key that private trackers use to make info-hashes differ.
    pub source: Option<String>,
}

/// One file of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Safe path components below the destination, the torrent's name first. Unique within the torrent, but
    /// for pad files.
    pub path: Vec<String>,
    /// Length in bytes.
    pub length: u64,
    /// Where it starts in the torrent's bytes.
    pub offset: u64,
    /// BEP 47 attributes.
    pub attr: FileAttr,
    /// The target of a symbolic link (BEP 47): safe path components below the destination, the torrent's
    /// name first. Only with [`FileAttr::symlink`]; a link without one led out of the torrent's folder
    /// and must not be made.
    pub symlink_target: Option<Vec<String>>,
    /// The root of its blocks' hash tree (BEP 52). Of version 2 only, and not of empty and pad files.
    pub pieces_root: Option<Node>,
}

/// BEP 47 attributes of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileAttr {
    /// `p`: zeros that align the next file; never written to disk.
    pub pad: bool,
    /// `x`: executable.
    pub executable: bool,
    /// `h`: hidden.
    pub hidden: bool,
    /// `l`: a symbolic link.
    pub symlink: bool,
}

impl FileAttr {
    /// From the letters of BEP 47; unknown ones are ignored, as it asks.
    pub fn from_letters(letters: &[u8]) -> FileAttr {
        FileAttr {
            pad: letters.contains(&b'p'),
            executable: letters.contains(&b'x'),
            hidden: letters.contains(&b'h'),
            symlink: letters.contains(&b'l'),
        }
    }

    /// The letters of BEP 47, in the order in which libtorrent writes them; empty for an ordinary file.
    pub fn letters(self) -> String {
        let all = [(self.pad, 'p'), (self.hidden, 'h'), (self.executable, 'x'), (self.symlink, 'l')];
        all.iter().filter(|(set, _)| *set).map(|&(_, letter)| letter).collect()
    }
}

/// One file's slice of a range of the torrent's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The file.
    pub file: FileIndex,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Length in bytes, never zero.
    pub len: u64,
}

/// What the name of a pad file begins with in torrents by programs older than BEP 47.
const PADDING_NAME: &str = "_____padding_file_";

impl FileEntry {
    /// Whether it is padding by its name: BitComet wrote pad files of such names before there was an attribute for them.
    /// If that is wrong it is a file like any other, which shows when a piece does not verify with zeros.
    pub fn has_padding_name(&self) -> bool {
        self.path.len() > 1 && self.path.last().is_some_and(|name| name.starts_with(PADDING_NAME))
    }

    /// Whether it is padding by its attribute, and never on anybody's disk.
    pub fn is_padding_for_sure(&self) -> bool {
        self.attr.pad && !self.has_padding_name()
    }
}

/// Where the pad files among these lie.
pub fn padding_of(files: &[FileEntry]) -> Padding {
    let pads = files.iter().filter(|file| file.attr.pad);
    Padding::new(pads.map(|file| (file.offset..file.offset + file.length, file.has_padding_name())))
}

impl Info {
    /// Bytes in all files but pad files.
    pub fn payload_len(&self) -> u64 {
        self.geometry.total_len() - self.padding.total_len()
    }

    /// Bytes of a piece that are in other files than pad files.
    ///
    /// # Panics
    /// If there is no such piece.
    pub fn payload_of(&self, piece: PieceIndex) -> u32 {
        self.padding.payload_in(&self.geometry, piece)
    }

    /// All info-hashes that it has.
    pub fn info_hashes(&self) -> InfoHashes {
        InfoHashes { v1: self.info_hash_v1(), v2: self.info_hash_v2 }
    }

    /// The info-hash of version 1, if it has that.
    pub fn info_hash_v1(&self) -> Option<InfoHash> {
        self.format().has_v1().then_some(self.info_hash)
    }

    /// Which versions of the protocol it is for.
    pub fn format(&self) -> Format {
        match (&self.piece_hashes, self.info_hash_v2) {
            (_, None) => Format::V1,
            (None, Some(_)) => Format::V2,
            (Some(_), Some(_)) => Format::Hybrid,
        }
    }

    /// A hybrid as the torrent of version 1 that it is too.
    pub fn without_v2(&self) -> Info {
        let mut info = Info { info_hash_v2: None, piece_nodes: None, ..self.clone() };
        info.files.iter_mut().for_each(|file| file.pieces_root = None);
        info
    }

    /// Whether all is known that pieces are verified with. In version 2 the info dictionary alone may not be enough.
    pub fn can_verify(&self) -> bool {
        self.info_hash_v2.is_none() || self.piece_nodes.is_some()
    }

    /// What this piece must hash to.
    ///
    /// # Panics
    /// If there is no such piece, or [`can_verify`](Info::can_verify) is false.
    pub fn piece_hash(&self, piece: PieceIndex) -> PieceHash {
        let node = || self.piece_nodes.as_ref().expect("the nodes of the pieces are known").of(piece);
        PieceHash {
            sha1: self.piece_hashes.as_ref().map(|hashes| hashes.of(piece)),
            node: self.info_hash_v2.map(|_| node()),
        }
    }

    /// Whether this is a hybrid that contradicts itself, given what the bytes of a piece hash to, with zeros where there is padding for
    /// sure: one of the two hashes holds, whoever they came from, and the other does not.
    ///
    /// # Panics
    /// As [`piece_hash`](Info::piece_hash).
    pub fn is_contradicted_by(&self, piece: PieceIndex, found: PieceHash) -> bool {
        let expected = self.piece_hash(piece);
        let is_hybrid = expected.sha1.is_some() && expected.node.is_some();
        match (found.sha1 == expected.sha1, found.node == expected.node) {
            (true, false) => is_hybrid,
            // That covers no padding: what only its name says is padding may hold something.
            (false, true) => is_hybrid && !self.padding.is_assumed_in(&self.geometry, piece),
            _ => false,
        }
    }

    /// How this piece is hashed.
    ///
    /// # Panics
    /// If there is no such piece.
    pub fn piece_shape(&self, piece: PieceIndex) -> PieceShape {
        let tree = self.info_hash_v2.map(|_| {
            let file = &self.files[self.file_at(self.geometry.offset_of(piece))];
            let layer = Tree::new(file.length, self.geometry.piece_len()).piece_layer();
            PieceTree { len: self.payload_of(piece), layer }
        });
        PieceShape { sha1: self.piece_hashes.is_some(), tree }
    }

    /// The tree of a file, if it has one.
    pub fn tree(&self, file: FileIndex) -> Option<Tree> {
        let file = &self.files[file.idx()];
        file.pieces_root.map(|_| Tree::new(file.length, self.geometry.piece_len()))
    }

    /// The file that holds this byte.
    fn file_at(&self, offset: u64) -> usize {
        self.files.partition_point(|file| file.offset + file.length <= offset)
    }

    /// The files that a piece lies in, in order; pad files included, empty files not.
    pub fn segments(&self, piece: PieceIndex) -> impl Iterator<Item = Segment> + '_ {
        let start = self.geometry.offset_of(piece);
        self.segments_of(start, u64::from(self.geometry.len_of(piece)))
    }

    /// The files that `len` bytes from `start` lie in, in order; pad files included, empty files not.
    pub fn segments_of(&self, start: u64, len: u64) -> impl Iterator<Item = Segment> + '_ {
        let end = start + len;
        let first = self.file_at(start);
        self.files[first..]
            .iter()
            .enumerate()
            .take_while(move |(_, f)| f.offset < end)
            .filter(|(_, f)| f.length > 0)
            .map(move |(i, f)| {
                let from = start.max(f.offset);
                let to = end.min(f.offset + f.length);
                Segment { file: FileIndex((first + i) as u32), offset: from - f.offset, len: to - from }
            })
    }
}

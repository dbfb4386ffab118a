//! What a torrent is: the metainfo file and its info dictionary (BEP 3, 12, 19, 27, 47).

use crate::geometry::Geometry;
use crate::id::{FileIndex, InfoHash, PieceIndex};

/// The info dictionary: what is distributed, and how to know that it is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// SHA-1 over the raw bytes as found.
    pub info_hash: InfoHash,
    /// The file or folder's name: one safe path component.
    pub name: String,
    /// How the bytes divide into pieces.
    pub geometry: Geometry,
    /// SHA-1 of each piece, 20 bytes apiece.
    pub piece_hashes: Vec<u8>,
    /// In the order of the torrent's bytes, pad files included.
    pub files: Vec<FileEntry>,
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
    /// Safe path components below the destination, the torrent's name first. Unique within the torrent.
    pub path: Vec<String>,
    /// Length in bytes.
    pub length: u64,
    /// Where it starts in the torrent's bytes.
    pub offset: u64,
    /// BEP 47 attributes.
    pub attr: FileAttr,
    /// The target of a symbolic link (BEP 47): safe path components below the destination, the torrent's
    /// name first. Only with [`FileAttr::symlink`].
    pub symlink_target: Option<Vec<String>>,
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

impl Info {
    /// The SHA-1 that this piece must have.
    ///
    /// # Panics
    /// If there is no such piece.
    pub fn piece_hash(&self, piece: PieceIndex) -> [u8; 20] {
        let at = piece.idx() * 20;
        self.piece_hashes[at..at + 20].try_into().expect("20 bytes")
    }

    /// The files that a piece lies in, in order; pad files included, empty files not.
    pub fn segments(&self, piece: PieceIndex) -> impl Iterator<Item = Segment> + '_ {
        let start = self.geometry.offset_of(piece);
        self.segments_of(start, u64::from(self.geometry.len_of(piece)))
    }

    /// The files that `len` bytes from `start` lie in, in order; pad files included, empty files not.
    pub fn segments_of(&self, start: u64, len: u64) -> impl Iterator<Item = Segment> + '_ {
        let end = start + len;
        let first = self.files.partition_point(|f| f.offset + f.length <= start);
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

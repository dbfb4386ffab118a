//! Writing metainfo files.
//!
//! Pure: walking folders and hashing pieces is the caller's part. The same files in the same order, name and
//! piece length give the info-hash that libtorrent (2.1.1, `v1_only`) gives, byte for byte.

use super::path::PathRules;
use super::{FileAttr, Metainfo, MetainfoError};
use crate::bencode::emit_some;
use bendy::encoding::{Encoder, Error as BendyError, SingleItemEncoder, SortedDictEncoder, ToBencode};

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
    /// A folder, called as the torrent. The files are in the order of the torrent's bytes; see
    /// [`sort_files`].
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

    /// The metainfo file's bytes, given the SHA-1 of each piece, 20 bytes apiece. They have been read back:
    /// what was put in is what is found in them.
    ///
    /// # Errors
    /// When there are no files, the hashes are not as many as the pieces, a path cannot be in a torrent, or a
    /// limit of [`Metainfo::parse`] is exceeded.
    pub fn encode(&self, piece_hashes: &[u8]) -> Result<Vec<u8>, CreateError> {
        let mut encoder = Encoder::new().with_max_depth(LEVELS);
        let written = encoder.emit_with(|e| e.emit_dict(|e| self.emit(e, piece_hashes)));
        let bytes = written.and_then(|()| encoder.get_output());
        let bytes = bytes.expect("keys are sorted and levels counted in this module");
        self.check(&Metainfo::parse_for(&bytes, PathRules::UNIX)?)?;
        Ok(bytes)
    }

    /// Whether all files came back under their own paths.
    fn check(&self, read: &Metainfo) -> Result<(), CreateError> {
        if read.info.name != self.name {
            return Err(CreateError::Path(self.name.clone()));
        }
        let Content::Folder(files) = &self.content else { return Ok(()) };
        for (file, read) in files.iter().zip(&read.info.files) {
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

    fn emit(&self, mut dict: SortedDictEncoder<'_>, piece_hashes: &[u8]) -> Result<(), BendyError> {
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
        dict.emit_pair_with(b"info", |e| e.emit_dict(|e| self.emit_info(e, piece_hashes)))?;
        if !self.nodes.is_empty() {
            dict.emit_pair_with(b"nodes", |e| {
                e.emit_list(|e| {
                    self.nodes.iter().try_for_each(|(host, port)| {
                        e.emit_list(|e| e.emit_str(host).and_then(|()| e.emit_int(*port)))
                    })
                })
            })?;
        }
        match &self.web_seeds[..] {
            [] => Ok(()),
            urls => dict.emit_pair(b"url-list", urls.to_vec()),
        }
    }

    fn emit_info(&self, mut dict: SortedDictEncoder<'_>, piece_hashes: &[u8]) -> Result<(), BendyError> {
        match &self.content {
            Content::File { length, attr } => {
                emit_attr(&mut dict, *attr)?;
                dict.emit_pair(b"length", length)?;
            }
            Content::Folder(files) => dict.emit_pair(b"files", files)?,
        }
        dict.emit_pair(b"name", &self.name)?;
        dict.emit_pair(b"piece length", self.piece_length)?;
        dict.emit_pair_with(b"pieces", |e| e.emit_bytes(piece_hashes))?;
        if self.private {
            dict.emit_pair(b"private", 1)?;
        }
        emit_some(&mut dict, b"source", self.source.as_ref())
    }
}

/// The metainfo, its info dictionary, `files`, a file, `path`.
const LEVELS: usize = 5;

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

//! Torrents made by hand, for the tests of this module and its neighbours.

use super::{FileStorage, Mode, OpenOptions, Opened, PieceOutcome, Storage, StorageError};
use crate::buffer::{BLOCK_BYTES, BlockPool, PieceBuffer};
use crate::hash::sha1;
use std::path::Path;
use std::sync::Arc;
use swarm_core::geometry::Geometry;
use swarm_core::id::{InfoHash, PieceIndex};
use swarm_core::metainfo::{FileAttr, FileEntry, Info, PieceHashes, padding_of};
use swarm_core::rng::Rng;

/// What a file of a test torrent holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    /// So many random bytes.
    Random(u64),
    /// The same, executable.
    Program(u64),
    /// A pad file.
    Pad(u64),
    /// What has the name of a pad file and is none.
    FalsePad(u64),
    /// A symbolic link to a path below the torrent's folder.
    Link(&'static str),
}

/// A torrent with these files, and all its bytes. One file whose path is empty makes a single-file torrent.
pub(crate) fn info_of(name: &str, piece_len: u64, files: &[(&str, Content)]) -> (Info, Vec<u8>) {
    let mut rng = Rng::new(piece_len + files.len() as u64);
    let (mut data, mut entries) = (Vec::new(), Vec::new());
    let below = |path: &str| {
        let components = path.split('/').filter(|c| !c.is_empty()).map(str::to_owned);
        std::iter::once(name.to_owned()).chain(components).collect::<Vec<_>>()
    };
    for (path, content) in files {
        let offset = data.len() as u64;
        let mut entry = FileEntry {
            path: below(path),
            length: 0,
            offset,
            attr: FileAttr::default(),
            symlink_target: None,
            pieces_root: None,
        };
        match *content {
            Content::Random(length) | Content::Program(length) | Content::FalsePad(length) => {
                entry.length = length;
                entry.attr.pad = matches!(content, Content::FalsePad(_));
                entry.attr.executable = matches!(content, Content::Program(_));
                let mut bytes = vec![0; length as usize];
                rng.fill(&mut bytes);
                data.extend_from_slice(&bytes);
            }
            Content::Pad(length) => {
                entry.length = length;
                entry.attr.pad = true;
                data.resize(data.len() + length as usize, 0);
            }
            Content::Link(target) => {
                entry.attr.symlink = true;
                entry.symlink_target = Some(below(target));
            }
        }
        entries.push(entry);
    }
    let piece_hashes: Vec<u8> = data.chunks(piece_len as usize).flat_map(|piece| sha1([piece])).collect();
    let info = Info {
        info_hash: InfoHash(sha1([name.as_bytes(), &data[..]])),
        info_hash_v2: None,
        name: name.to_owned(),
        geometry: Geometry::new(data.len() as u64, piece_len).unwrap(),
        piece_hashes: Some(PieceHashes::from(piece_hashes)),
        piece_nodes: None,
        padding: padding_of(&entries),
        files: entries,
        single_file: files.len() == 1 && files[0].0.is_empty(),
        private: false,
        source: None,
    };
    (info, data)
}

/// A torrent on the desk: its bytes, and a pool to receive them in.
pub(crate) struct Torrent {
    pub(crate) info: Arc<Info>,
    pub(crate) data: Vec<u8>,
    pub(crate) pool: BlockPool,
}

impl Torrent {
    pub(crate) fn new(name: &str, piece_len: u64, files: &[(&str, Content)]) -> Torrent {
        let (info, data) = info_of(name, piece_len, files);
        Torrent { info: Arc::new(info), data, pool: BlockPool::new(64 << 20) }
    }

    pub(crate) fn pieces(&self) -> impl DoubleEndedIterator<Item = PieceIndex> + use<> {
        self.info.geometry.piece_indices()
    }

    /// The right bytes of a piece.
    pub(crate) fn bytes(&self, piece: PieceIndex) -> &[u8] {
        let start = self.info.geometry.offset_of(piece) as usize;
        &self.data[start..start + self.info.geometry.len_of(piece) as usize]
    }

    /// The right bytes of a file.
    pub(crate) fn file_bytes(&self, file: usize) -> &[u8] {
        let file = &self.info.files[file];
        &self.data[file.offset as usize..(file.offset + file.length) as usize]
    }

    /// The blocks of a piece in this range, received right.
    pub(crate) fn receive(&self, buffer: &mut PieceBuffer, blocks: std::ops::Range<u32>) {
        for index in blocks {
            let mut block = self.pool.take().unwrap();
            let bytes = &self.bytes(buffer.piece())[index as usize * BLOCK_BYTES..];
            let len = bytes.len().min(BLOCK_BYTES);
            block[..len].copy_from_slice(&bytes[..len]);
            buffer.insert(index, block);
        }
    }

    /// A piece that was received right.
    pub(crate) fn received(&self, piece: PieceIndex) -> PieceBuffer {
        let mut buffer = PieceBuffer::new(&self.info.geometry, piece);
        self.receive(&mut buffer, 0..self.info.geometry.blocks_in(piece));
        buffer
    }

    pub(crate) fn open(&self, options: OpenOptions) -> Result<(FileStorage, Opened), StorageError> {
        FileStorage::open(Arc::clone(&self.info), options)
    }

    /// Opens for a download of everything into `dir`.
    pub(crate) fn download(&self, dir: &Path) -> (FileStorage, Opened) {
        self.open(all_of(dir)).unwrap()
    }

    /// Writes the pieces that are needed and not there.
    pub(crate) fn fetch(&self, storage: &FileStorage, opened: &Opened) {
        for piece in opened.needed.iter_without(&opened.have) {
            self.write(storage, piece);
        }
    }

    /// Writes one piece, which must work.
    pub(crate) fn write(&self, storage: &FileStorage, piece: PieceIndex) {
        match storage.verify_and_write(self.received(piece)) {
            PieceOutcome::Ok => {}
            other => panic!("piece {piece}: {other:?}"),
        }
    }

    /// Puts the files of this torrent below `dir`.
    pub(crate) fn lay_out(&self, dir: &Path) {
        for (i, file) in self.info.files.iter().enumerate().filter(|(_, f)| !f.attr.pad && !f.attr.symlink) {
            let path = self.path(dir, i);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, self.file_bytes(i)).unwrap();
            assert_eq!(file.length, self.file_bytes(i).len() as u64);
        }
    }

    /// Where a file is in the end.
    pub(crate) fn path(&self, dir: &Path, file: usize) -> std::path::PathBuf {
        self.info.files[file].path.iter().fold(dir.to_owned(), |at, name| at.join(name))
    }

    /// Compares every file below `dir` with what it should be.
    pub(crate) fn assert_complete(&self, dir: &Path) {
        for (i, file) in self.info.files.iter().enumerate().filter(|(_, f)| !f.attr.pad && !f.attr.symlink) {
            let found = std::fs::read(self.path(dir, i)).unwrap_or_else(|e| panic!("{:?}: {e}", file.path));
            assert!(found == self.file_bytes(i), "{:?} differs", file.path);
        }
    }
}

/// Options for a download of everything into `dir`.
pub(crate) fn all_of(dir: &Path) -> OpenOptions {
    OpenOptions::new(dir, Mode::Download { wanted: None })
}

/// The names in a folder, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

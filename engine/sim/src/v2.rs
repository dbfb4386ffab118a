//! Torrents of version 2, and hybrids: every block has a leaf that stands for its bytes, and files have true trees over these.

use std::sync::Arc;
use swarm_core::geometry::Geometry;
use swarm_core::id::PieceIndex;
use swarm_core::merkle::{self, Node};
use swarm_core::metainfo::{
    Content, Create, CreateError, Format, Hashes, Info, Metainfo, MetainfoError, SourceFile, pad_files,
};

/// The leaf of a block that is as it should be.
pub(crate) fn leaf(piece: PieceIndex, index: u32) -> Node {
    merkle::leaf(&[piece.0.to_be_bytes(), index.to_be_bytes()].concat())
}

/// What stands for the leaves of a piece that has so many bytes of its file.
pub(crate) fn leaves(blocks: usize, piece: PieceIndex) -> impl Iterator<Item = Node> + use<> {
    (0..blocks as u32).map(move |index| leaf(piece, index))
}

/// A torrent with files of these lengths in bytes. In a hybrid nobody looks at the SHA-1 of its pieces.
pub(crate) fn info(files: &[u64], piece_len: u32, format: Format) -> Result<Arc<Info>, CreateError> {
    let name = |n: usize| vec![format!("{n:09}")];
    let file = |(&length, n)| SourceFile { path: name(n), length, ..SourceFile::default() };
    let files = files.iter().zip(0..).map(file).collect();
    let files = if format == Format::Hybrid { pad_files(files, piece_len) } else { files };
    let total: u64 = files.iter().map(|file| file.length).sum();
    let geometry = Geometry::new(total, piece_len.into()).map_err(MetainfoError::from)?;
    let create = Create::new("simulated".to_owned(), Content::Folder(files), piece_len);
    let create = Create { format, ..create };
    let nodes = create.piece_nodes(leaf);
    let sha1 = vec![7; 20 * geometry.pieces() as usize];
    Ok(Metainfo::parse(&create.encode(Hashes { sha1: &sha1, nodes: &nodes })?)?.info)
}

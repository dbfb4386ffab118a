//! Torrents of version 2: every block has a leaf that stands for its bytes, and files have true trees over these.

use std::sync::Arc;
use swarm_core::geometry::{BLOCK_LEN, Geometry, GeometryError};
use swarm_core::id::{InfoHash, InfoHashV2, PieceIndex};
use swarm_core::merkle::{self, Node, Tree};
use swarm_core::metainfo::{FileAttr, FileEntry, Info, PieceNodes};
use swarm_core::padding::Padding;

/// The leaf of a block that is as it should be.
pub(crate) fn leaf(piece: PieceIndex, index: u32) -> Node {
    merkle::leaf(&[piece.0.to_be_bytes(), index.to_be_bytes()].concat())
}

/// What stands for the leaves of a piece.
pub(crate) fn leaves(geometry: &Geometry, piece: PieceIndex) -> impl Iterator<Item = Node> + use<> {
    (0..geometry.blocks_in(piece)).map(move |index| leaf(piece, index))
}

/// A torrent of version 2 alone with files of these lengths in bytes, none empty.
pub(crate) fn info(files: &[u64], piece_len: u32) -> Result<Arc<Info>, GeometryError> {
    let geometry = Geometry::of_files(files.iter().copied(), piece_len.into())?;
    let (mut entries, mut nodes) = (Vec::new(), Vec::new());
    for (&length, name) in files.iter().zip(0..) {
        let (tree, first) = (Tree::new(length, piece_len.max(BLOCK_LEN)), nodes.len() as u32);
        let pieces = length.div_ceil(piece_len.into()) as u32;
        nodes.extend((first..first + pieces).map(|piece| {
            let leaves: Vec<Node> = leaves(&geometry, PieceIndex(piece)).collect();
            tree.piece_node(&leaves)
        }));
        let layer = tree.piece_layer();
        entries.push(FileEntry {
            path: vec!["simulated".to_owned(), name.to_string()],
            length,
            offset: u64::from(first) * u64::from(piece_len),
            attr: FileAttr::default(),
            symlink_target: None,
            pieces_root: Some(merkle::root(&nodes[first as usize..], layer, tree.height() - layer)),
        });
    }
    Ok(Arc::new(Info {
        info_hash: InfoHash([7; 20]),
        info_hash_v2: Some(InfoHashV2([7; 32])),
        name: "simulated".to_owned(),
        geometry,
        piece_hashes: None,
        piece_nodes: Some(PieceNodes::from(nodes)),
        files: entries,
        padding: Padding::default(),
        single_file: false,
        private: false,
        source: None,
    }))
}

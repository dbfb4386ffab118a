//! A torrent's hash trees, found by root or by piece (BEP 52).

use super::{Info, PieceNodes, PieceTree};
use crate::id::{FileIndex, PieceIndex};
use crate::merkle::{Node, Tree};
use std::sync::Arc;

/// The hash trees of a torrent of version 2. Nothing of it is copied but the order of its files by root.
#[derive(Debug)]
pub struct HashTrees {
    info: Arc<Info>,
    /// The files that have a tree, by root.
    by_root: Vec<FileIndex>,
}

/// The tree of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileTree {
    /// Its root.
    pub root: Node,
    /// Its measures.
    pub tree: Tree,
    /// The piece that the file begins with.
    pub first: PieceIndex,
}

impl FileTree {
    /// The piece that holds this block of the file.
    pub fn piece_of(&self, block: u64) -> PieceIndex {
        PieceIndex(self.first.0 + (block >> self.tree.piece_layer()) as u32)
    }
}

impl HashTrees {
    /// Those of this torrent; `None` in version 1.
    pub fn of(info: &Arc<Info>) -> Option<Arc<HashTrees>> {
        info.info_hash_v2?;
        let with_root = info.files.iter().zip(0..).filter(|(file, _)| file.pieces_root.is_some());
        let mut by_root: Vec<FileIndex> = with_root.map(|(_, index)| FileIndex(index)).collect();
        by_root.sort_by_key(|file| info.files[file.idx()].pieces_root);
        Some(Arc::new(HashTrees { info: Arc::clone(info), by_root }))
    }

    /// Whether version 1 is among its versions: not every peer knows of version 2.
    pub fn is_hybrid(&self) -> bool {
        self.info.piece_hashes.is_some()
    }

    /// The nodes of the pieces, if they are known.
    pub fn piece_nodes(&self) -> Option<&PieceNodes> {
        self.info.piece_nodes.as_ref()
    }

    /// How many pieces there are.
    pub fn pieces(&self) -> u32 {
        self.info.geometry.pieces()
    }

    /// Bytes in a piece, but at the end of a file.
    pub fn piece_len(&self) -> u32 {
        self.info.geometry.piece_len()
    }

    fn tree_of(&self, file: FileIndex) -> Option<FileTree> {
        let tree = self.info.tree(file)?;
        let file = &self.info.files[file.idx()];
        let first = PieceIndex((file.offset / u64::from(self.piece_len())) as u32);
        Some(FileTree { root: file.pieces_root?, tree, first })
    }

    /// The trees of the files with this root: several if the torrent has the same file several times.
    pub fn with_root(&self, root: Node) -> impl Iterator<Item = FileTree> + '_ {
        let root_of = |file: &FileIndex| self.info.files[file.idx()].pieces_root;
        let start = self.by_root.partition_point(move |file| root_of(file) < Some(root));
        let files = self.by_root[start..].iter().take_while(move |file| root_of(file) == Some(root));
        files.filter_map(|&file| self.tree_of(file))
    }

    /// The tree of the file that a piece lies in.
    pub fn of_piece(&self, piece: PieceIndex) -> Option<FileTree> {
        let start = self.info.geometry.offset_of(piece);
        let index = self.info.files.partition_point(|file| file.offset + file.length <= start);
        self.tree_of(FileIndex(index as u32))
    }

    /// The part of its file's tree that lies below a piece.
    pub fn below(&self, piece: PieceIndex) -> Option<PieceTree> {
        self.info.piece_shape(piece).tree
    }

    /// The root and the tree of each file of more than one piece, in the order of the files.
    pub fn layered(&self) -> impl Iterator<Item = (Node, Tree)> + '_ {
        self.info.layered_files().map(|(_, tree, root)| (root, tree))
    }
}

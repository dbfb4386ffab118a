//! The hash trees of BitTorrent v2 (BEP 52): one for each file, over its blocks of 16 KiB.
//!
//! A *leaf* is the SHA-256 of a block. Leaves beyond the file's end, up to the next power of two, are zero bytes rather than hashes of
//! anything. Layers are counted from the leaves up, which are layer 0. The *piece layer* is the one where a hash covers a
//! whole piece. Hashes of it that cover nothing of the file are known to everyone, and never stored or sent.

use crate::geometry::BLOCK_LEN;
use sha2::{Digest, Sha256};

/// A node of a tree: SHA-256 of its two children.
pub type Node = [u8; 32];

/// What stands for a block beyond a file's end.
pub const NO_LEAF: Node = [0; 32];

/// How many hashes one request may ask for (BEP 52: "should not be greater than 512"). More are refused.
pub const HASHES_MAX: u32 = 8_192;

/// The leaf for a block.
pub fn leaf(block: &[u8]) -> Node {
    Sha256::digest(block).into()
}

/// The node above these two.
pub fn parent(left: &Node, right: &Node) -> Node {
    Sha256::new().chain_update(left).chain_update(right).finalize().into()
}

/// The node of this layer that has nothing of the file below it.
pub fn padding(layer: u32) -> Node {
    (0..layer).fold(NO_LEAF, |node, _| parent(&node, &node))
}

/// The node `height` layers above these neighbours, which begin at a multiple of `2^height` in their layer `base`. What is missing at
/// the end is padding. Takes no memory but for a node in each layer.
///
/// # Panics
/// If there are more nodes than lie below one such node.
pub fn root(nodes: &[Node], base: u32, height: u32) -> Node {
    assert!(nodes.len() as u64 <= 1u64 << height, "{} nodes under one", nodes.len());
    // Left siblings that wait for their right ones, from the top down, with their layers above the base.
    let mut waiting: Vec<(u32, Node)> = Vec::new();
    for node in nodes {
        let (mut layer, mut node) = (0, *node);
        while let Some((_, left)) = waiting.pop_if(|(of, _)| *of == layer) {
            (layer, node) = (layer + 1, parent(&left, &node));
        }
        waiting.push((layer, node));
    }
    let Some((mut layer, mut node)) = waiting.pop() else { return padding(base + height) };
    let mut pad = padding(base + layer);
    while layer < height {
        node = match waiting.pop_if(|(of, _)| *of == layer) {
            Some((_, left)) => parent(&left, &node),
            None => parent(&node, &pad),
        };
        pad = parent(&pad, &pad);
        layer += 1;
    }
    node
}

/// The measures of one file's tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Blocks of the file.
    leaves: u64,
    /// Layers above the leaves up to the root.
    height: u32,
    /// Where a node covers a piece. Above the root if the file is shorter than a piece.
    piece_layer: u32,
}

impl Tree {
    /// The tree of a file of `len` bytes, in a torrent of such pieces.
    ///
    /// # Panics
    /// If the file is empty, or `piece_len` is not 16 KiB times a power of two.
    pub fn new(len: u64, piece_len: u32) -> Tree {
        assert!(len > 0 && piece_len.is_power_of_two() && piece_len >= BLOCK_LEN, "no tree of v2");
        let leaves = len.div_ceil(BLOCK_LEN.into());
        let height = leaves.next_power_of_two().trailing_zeros();
        Tree { leaves, height, piece_layer: (piece_len / BLOCK_LEN).trailing_zeros() }
    }

    /// Layers above the leaves up to the root.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The layer where a node covers a piece; that of the root in a file of one piece.
    pub fn piece_layer(&self) -> u32 {
        self.piece_layer.min(self.height)
    }

    /// Nodes of a layer that have something of the file below them.
    pub fn nodes(&self, layer: u32) -> u64 {
        self.leaves.div_ceil(1 << layer.min(self.height))
    }

    /// Whether these are all nodes of the piece layer of the file with this root.
    pub fn is_piece_layer(&self, pieces_root: &Node, nodes: &[Node]) -> bool {
        let layer = self.piece_layer();
        nodes.len() as u64 == self.nodes(layer) && root(nodes, layer, self.height - layer) == *pieces_root
    }

    /// The node for a piece from the leaves of its blocks. `leaves` is not empty.
    pub fn piece_node(&self, leaves: &[Node]) -> Node {
        root(leaves, 0, self.piece_layer())
    }
}

/// Which hashes are asked for: those of a stretch of one layer, and what proves them (BEP 52: HASH REQUEST).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashRange {
    /// The root of the file's tree.
    pub pieces_root: Node,
    /// The layer, counted from the leaves up.
    pub base_layer: u32,
    /// The first node of the layer.
    pub index: u32,
    /// How many nodes: a power of two.
    pub length: u32,
    /// How many layers above the base layer are proven.
    pub proof_layers: u32,
}

impl HashRange {
    /// Whether it lies in this tree and is what BEP 52 allows to be asked for. One hash alone is allowed too: libtorrent asks for the last
    /// one of a layer so.
    pub fn fits(&self, tree: &Tree) -> bool {
        self.length.is_power_of_two()
            && self.index.is_multiple_of(self.length)
            && self.length <= HASHES_MAX
            && self.base_layer < tree.height
            && self.own_layers() <= tree.height - self.base_layer
            && u64::from(self.index) < tree.nodes(self.base_layer)
            && self.proof_layers < tree.height - self.base_layer
    }

    /// Layers from the base layer up to the node that covers the stretch.
    fn own_layers(&self) -> u32 {
        self.length.trailing_zeros()
    }

    /// Nodes beside the way up: one of each proven layer from that of the covering node on.
    pub fn uncles(&self) -> u32 {
        (self.proof_layers + 1).saturating_sub(self.own_layers())
    }

    /// The number of hashes in an answer.
    pub fn hashes(&self) -> u32 {
        self.length + self.uncles()
    }

    /// What an answer proves, if that is right: layer, index and value of a node. `None` if it has not as many hashes as it must.
    pub fn climb(&self, hashes: &[Node]) -> Option<(u32, u32, Node)> {
        if hashes.len() != self.hashes() as usize {
            return None;
        }
        let (stretch, uncles) = hashes.split_at(self.length as usize);
        let mut node = root(stretch, self.base_layer, self.own_layers());
        let mut index = self.index >> self.own_layers();
        for uncle in uncles {
            node = if index.is_multiple_of(2) { parent(&node, uncle) } else { parent(uncle, &node) };
            index /= 2;
        }
        Some((self.base_layer + self.own_layers() + self.uncles(), index, node))
    }

    /// The answer, given the nodes of each layer from the base layer up as far as they have something of the file below them.
    /// `node` is asked for no others.
    pub fn answer(&self, tree: &Tree, mut node: impl FnMut(u32, u32) -> Node) -> Vec<Node> {
        let mut get = |layer: u32, index: u32| match u64::from(index) < tree.nodes(layer) {
            true => node(layer, index),
            false => padding(layer),
        };
        let own = self.base_layer + self.own_layers();
        let stretch = self.index..self.index + self.length;
        let mut hashes: Vec<Node> = stretch.map(|index| get(self.base_layer, index)).collect();
        hashes.extend(
            (0..self.uncles()).map(|up| get(own + up, ((self.index >> self.own_layers()) >> up) ^ 1)),
        );
        hashes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All layers of a tree, from the leaves up, with their padding.
    fn layers(leaves: &[Node]) -> Vec<Vec<Node>> {
        let mut layers = vec![leaves.to_vec()];
        layers[0].resize(leaves.len().next_power_of_two(), NO_LEAF);
        while layers[layers.len() - 1].len() > 1 {
            let above = layers[layers.len() - 1].chunks(2).map(|pair| parent(&pair[0], &pair[1])).collect();
            layers.push(above);
        }
        layers
    }

    fn leaves(count: usize) -> Vec<Node> {
        (0..count).map(|n| leaf(&n.to_be_bytes())).collect()
    }

    #[test]
    fn roots_are_those_of_the_whole_tree() {
        for count in [1, 2, 3, 4, 5, 8, 9, 31, 32, 33, 100] {
            let leaves = leaves(count);
            let whole = layers(&leaves);
            let tree = Tree::new(count as u64 * u64::from(BLOCK_LEN) - 7, 4 * BLOCK_LEN);
            let top = whole[whole.len() - 1][0];
            assert_eq!(tree.height() as usize, whole.len() - 1);
            assert_eq!(root(&leaves, 0, tree.height()), top, "{count} leaves");
            let layer = tree.piece_layer();
            let pieces: Vec<Node> = leaves.chunks(4).map(|leaves| tree.piece_node(leaves)).collect();
            assert_eq!(pieces, whole[layer as usize][..tree.nodes(layer) as usize]);
            assert!(tree.is_piece_layer(&top, &pieces));
            let mut wrong = pieces.clone();
            wrong[count / 8][5] ^= 1;
            assert!(!tree.is_piece_layer(&top, &wrong));
            assert!(!tree.is_piece_layer(&top, &pieces[1..]));
        }
    }

    #[test]
    fn answers_prove_what_they_say() {
        let leaves = leaves(77);
        let whole = layers(&leaves);
        let tree = Tree::new(77 * u64::from(BLOCK_LEN), 4 * BLOCK_LEN);
        let mut tried = 0;
        for base_layer in 0..8 {
            for (length, index) in (0..8).flat_map(|log| (0..80).map(move |at| (1u32 << log, at << log))) {
                for proof_layers in 0..9 {
                    let range =
                        HashRange { pieces_root: whole[7][0], base_layer, index, length, proof_layers };
                    if !range.fits(&tree) {
                        continue;
                    }
                    let mut hashes =
                        range.answer(&tree, |layer, index| whole[layer as usize][index as usize]);
                    let (layer, at, node) = range.climb(&hashes).expect("as many as there must be");
                    assert_eq!(node, whole[layer as usize][at as usize], "{range:?}");
                    let wrong = tried % hashes.len();
                    hashes[wrong][0] ^= 1;
                    assert_ne!(range.climb(&hashes).expect("as many").2, node, "{range:?}");
                    assert_eq!(range.climb(&hashes[1..]), None);
                    tried += 1;
                }
            }
        }
        assert!(tried > 1_000, "{tried}");
    }

    #[test]
    fn requests_outside_the_tree_do_not_fit() {
        let tree = Tree::new(5 * u64::from(BLOCK_LEN), 2 * BLOCK_LEN);
        let fine = HashRange { pieces_root: NO_LEAF, base_layer: 0, index: 4, length: 4, proof_layers: 2 };
        assert!(fine.fits(&tree));
        assert!(!HashRange { length: 3, ..fine }.fits(&tree));
        assert!(HashRange { length: 1, ..fine }.fits(&tree));
        assert!(!HashRange { length: 0, ..fine }.fits(&tree));
        assert!(!HashRange { index: 2, ..fine }.fits(&tree));
        assert!(!HashRange { index: 8, ..fine }.fits(&tree));
        assert!(!HashRange { length: 16, index: 0, ..fine }.fits(&tree));
        assert!(!HashRange { base_layer: 3, ..fine }.fits(&tree));
        assert!(!HashRange { proof_layers: 3, ..fine }.fits(&tree));
        assert!(!HashRange { base_layer: u32::MAX, proof_layers: u32::MAX, ..fine }.fits(&tree));
    }
}

//! What a piece hashes to, from its bytes in order.

use super::lanes::{Algorithm as _, Sha1Lanes, Sha256Lanes, hash_many};
use super::{Digest, Sha1};
use sha2::{Digest as _, Sha256};
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::merkle::Node;
use swarm_core::metainfo::{PieceHash, PieceShape, PieceTree};

/// Hashes a piece whose bytes come in parts, in order, with the padding at its end.
#[derive(Clone, Debug)]
pub struct PieceHasher {
    sha1: Option<Sha1>,
    leaves: Option<Leaves>,
}

/// The leaves of version 2 (BEP 52).
#[derive(Clone, Debug)]
struct Leaves {
    tree: PieceTree,
    /// The block that has begun, and how many of its bytes are there.
    block: Sha256,
    block_len: usize,
    /// Bytes of the file that are still to come.
    left: usize,
    done: Vec<Node>,
}

impl PieceHasher {
    /// Of a piece of this shape.
    pub fn new(shape: PieceShape) -> PieceHasher {
        let leaves = shape.tree.map(|tree| Leaves {
            tree,
            block: Sha256::default(),
            block_len: 0,
            left: tree.len as usize,
            done: Vec::with_capacity(tree.leaves()),
        });
        PieceHasher { sha1: shape.sha1.then(Sha1::default), leaves }
    }

    /// Adds the next part.
    pub fn update(&mut self, part: &[u8]) {
        if let Some(sha1) = &mut self.sha1 {
            sha1.update(part);
        }
        if let Some(leaves) = &mut self.leaves {
            leaves.update(part);
        }
    }

    /// What all parts together hash to.
    pub fn finish(self) -> PieceHash {
        let node = self.leaves.map(|leaves| leaves.tree.node(&leaves.done));
        PieceHash { sha1: self.sha1.map(Sha1::finish), node }
    }

    /// The leaves of all parts, in version 2.
    pub fn into_leaves(self) -> Option<Vec<Node>> {
        self.leaves.map(|leaves| leaves.done)
    }
}

impl Leaves {
    fn update(&mut self, part: &[u8]) {
        let mut part = &part[..part.len().min(self.left)];
        self.left -= part.len();
        while !part.is_empty() {
            let (now, rest) = part.split_at(part.len().min(BLOCK_LEN as usize - self.block_len));
            self.block.update(now);
            self.block_len += now.len();
            part = rest;
            if self.block_len == BLOCK_LEN as usize || part.is_empty() && self.left == 0 {
                self.done.push(self.block.finalize_reset().into());
                self.block_len = 0;
            }
        }
    }
}

/// What a piece hashes to, whose bytes are all here.
pub fn piece_hash<'a>(shape: PieceShape, parts: impl IntoIterator<Item = &'a [u8]>) -> PieceHash {
    piece_hashes(&[shape], &[parts.into_iter().collect()]).remove(0)
}

/// What several pieces of one torrent hash to, of each its bytes in parts: side by side, where that is quicker. Of a piece whose bytes are
/// not all there it is anything.
pub(crate) fn piece_hashes(shapes: &[PieceShape], pieces: &[Vec<&[u8]>]) -> Vec<PieceHash> {
    let sha1: Vec<Option<Digest>> = match shapes.iter().any(|shape| shape.sha1) {
        true => hash_many::<Sha1Lanes>(Sha1Lanes::choice(), pieces).into_iter().map(Some).collect(),
        false => vec![None; pieces.len()],
    };
    let mut blocks: Vec<Vec<&[u8]>> = Vec::new();
    for (shape, parts) in shapes.iter().zip(pieces) {
        push_blocks(shape.tree.map_or(0, |tree| tree.len), parts, &mut blocks);
    }
    let leaves = hash_many::<Sha256Lanes>(Sha256Lanes::choice(), &blocks);
    let mut leaves = &leaves[..];
    let hashes = shapes.iter().zip(sha1).map(|(shape, sha1)| {
        let own = leaves.split_off(..shape.tree.map_or(0, |tree| tree.leaves())).unwrap_or_default();
        PieceHash { sha1, node: shape.tree.map(|tree| tree.node(own)) }
    });
    hashes.collect()
}

/// Cuts the first `len` bytes of a piece into blocks. Those whose bytes are not there are shorter.
fn push_blocks<'a>(len: u32, parts: &[&'a [u8]], blocks: &mut Vec<Vec<&'a [u8]>>) {
    let (mut parts, mut part) = (parts.iter(), &[][..]);
    for at in (0..len).step_by(BLOCK_LEN as usize) {
        let mut lacking = (len - at).min(BLOCK_LEN) as usize;
        let mut block = Vec::with_capacity(1);
        while lacking > 0 {
            if part.is_empty() {
                let Some(next) = parts.next() else { break };
                part = next;
            }
            let (now, rest) = part.split_at(part.len().min(lacking));
            (part, lacking) = (rest, lacking - now.len());
            block.push(now);
        }
        blocks.push(block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::sha1;
    use swarm_core::merkle;

    #[test]
    fn parts_of_any_length_give_the_same_leaves() {
        let bytes: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
        for len in [1, 16_383, 16_384, 16_385, 65_536, 99_999] {
            let tree = PieceTree { len, layer: 3 };
            let shape = PieceShape { sha1: true, tree: Some(tree) };
            let leaves: Vec<Node> = bytes[..len as usize].chunks(16_384).map(merkle::leaf).collect();
            let expected = PieceHash { sha1: Some(sha1([&bytes[..]])), node: Some(tree.node(&leaves)) };
            for part in [1, 100, 16_384, 20_000, 100_000] {
                let mut hasher = PieceHasher::new(shape);
                bytes.chunks(part).for_each(|part| hasher.update(part));
                assert_eq!(hasher.finish(), expected, "{len} bytes in parts of {part}");
                assert_eq!(piece_hash(shape, bytes.chunks(part)), expected, "{len} bytes in parts of {part}");
                let pieces = [bytes.chunks(part).collect(), vec![], bytes.chunks(part).collect()];
                let hashes = piece_hashes(&[shape, PieceShape { sha1: true, tree: None }, shape], &pieces);
                assert_eq!(
                    [hashes[0], hashes[2]],
                    [expected; 2],
                    "{len} bytes in parts of {part}, side by side"
                );
            }
        }
    }
}

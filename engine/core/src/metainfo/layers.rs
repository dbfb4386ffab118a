//! The piece layers of version 2, which stand beside the info dictionary (BEP 52).

use super::{FileEntry, Info, MetainfoError, PieceNodes};
use crate::bencode::Value;
use crate::merkle::{Node, Tree};
use std::collections::BTreeMap;

/// What becomes of the hashes in a metainfo file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Hashes {
    Kept,
    /// They are only looked at.
    Checked,
}

impl Info {
    /// The files whose piece layer is not in the info dictionary: those of more than one piece, as their place among the files, their
    /// tree and their root.
    pub fn layered_files(&self) -> impl Iterator<Item = (&FileEntry, Tree, Node)> + '_ {
        let piece_len = self.geometry.piece_len();
        let files = self.files.iter().filter(move |file| file.length > u64::from(piece_len));
        files.filter_map(move |file| Some((file, Tree::new(file.length, piece_len), file.pieces_root?)))
    }

    /// Takes over the piece layers, one for each of [`layered_files`](Info::layered_files), which have been checked.
    pub fn set_piece_layers<L: AsRef<[Node]>>(&mut self, layers: impl IntoIterator<Item = L>) {
        let mut layers = layers.into_iter();
        let mut nodes: Vec<Node> = Vec::with_capacity(self.geometry.pieces() as usize);
        for file in &self.files {
            let Some(root) = file.pieces_root else { continue };
            match file.length > u64::from(self.geometry.piece_len()) {
                true => layers.next().iter().for_each(|layer| nodes.extend_from_slice(layer.as_ref())),
                false => nodes.push(root),
            }
        }
        assert_eq!(nodes.len(), self.geometry.pieces() as usize, "a layer is missing or too long");
        self.piece_nodes = Some(PieceNodes::from(nodes));
    }
}

/// Reads `piece layers`. Where the whole dictionary is missing, as in files made from magnet links, peers have to be asked.
pub(super) fn read(info: &mut Info, layers: Option<Value<'_>>, hashes: Hashes) -> Result<(), MetainfoError> {
    if info.info_hash_v2.is_none() {
        return Ok(());
    }
    let found: BTreeMap<&[u8], &[u8]> = match layers {
        Some(layers) => {
            let dict = layers.as_dict();
            let dict = dict.ok_or_else(|| MetainfoError::Field {
                field: "piece layers".into(),
                expected: "a dictionary",
            })?;
            dict.iter().filter_map(|(root, layer)| Some((root, layer.as_bytes()?))).collect()
        }
        None if info.layered_files().next().is_some() => return Ok(()),
        None => BTreeMap::new(),
    };
    let layers: Result<Vec<&[Node]>, MetainfoError> = info
        .layered_files()
        .map(|(file, tree, root)| {
            let path = || file.path.join("/");
            let layer = found.get(&root[..]).ok_or_else(|| MetainfoError::LayerMissing(path()))?;
            let (nodes, rest) = layer.as_chunks::<32>();
            match rest.is_empty() && tree.is_piece_layer(&root, nodes) {
                true => Ok(nodes),
                false => Err(MetainfoError::LayerWrong(path())),
            }
        })
        .collect();
    let layers = layers?;
    if hashes == Hashes::Kept {
        info.set_piece_layers(layers);
    }
    Ok(())
}

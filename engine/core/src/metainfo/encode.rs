//! Writing a metainfo file of what is known of a torrent.

use super::Metainfo;
use crate::merkle::Node;
use std::collections::BTreeMap;

impl Metainfo {
    /// A metainfo file that says the same: byte for byte the info dictionary that was found, and around it what else is known, such as
    /// piece layers that came from peers. [`Metainfo::parse`] reads it.
    pub fn encode(&self) -> Vec<u8> {
        let mut file = vec![b'd'];
        if let Some(first) = self.trackers.iter().flatten().next() {
            pair(&mut file, "announce", |file| bytes(file, first.as_bytes()));
        }
        if self.trackers.iter().flatten().count() > 1 {
            pair(&mut file, "announce-list", |file| {
                list(file, &self.trackers, |file, tier| urls(file, tier))
            });
        }
        if let Some(comment) = &self.comment {
            pair(&mut file, "comment", |file| bytes(file, comment.as_bytes()));
        }
        if let Some(created_by) = &self.created_by {
            pair(&mut file, "created by", |file| bytes(file, created_by.as_bytes()));
        }
        if let Some(date) = self.creation_date {
            pair(&mut file, "creation date", |file| int(file, date));
        }
        if !self.http_seeds.is_empty() {
            pair(&mut file, "httpseeds", |file| urls(file, &self.http_seeds));
        }
        pair(&mut file, "info", |file| file.extend_from_slice(&self.info_bytes));
        if !self.nodes.is_empty() {
            pair(&mut file, "nodes", |file| {
                list(file, &self.nodes, |file, (host, port)| {
                    file.push(b'l');
                    bytes(file, host.as_bytes());
                    int(file, (*port).into());
                    file.push(b'e');
                });
            });
        }
        if let Some(layers) = self.piece_layers() {
            pair(&mut file, "piece layers", |file| {
                file.push(b'd');
                for (root, layer) in layers {
                    bytes(file, &root);
                    bytes(file, layer.as_flattened());
                }
                file.push(b'e');
            });
        }
        if !self.web_seeds.is_empty() {
            pair(&mut file, "url-list", |file| urls(file, &self.web_seeds));
        }
        file.push(b'e');
        file
    }

    /// The piece layers by root, each once; `None` in version 1, and as long as they are not known.
    fn piece_layers(&self) -> Option<BTreeMap<Node, Vec<Node>>> {
        let info = &self.info;
        let nodes = info.piece_nodes.as_ref()?;
        let piece_len = u64::from(info.geometry.piece_len());
        let of_file = info.layered_files().map(|(file, _, root)| {
            let first = (file.offset / piece_len) as usize;
            (root, nodes[first..first + file.length.div_ceil(piece_len) as usize].to_vec())
        });
        Some(of_file.collect())
    }
}

/// A key, and the value that is written after it. Keys come in their order.
fn pair(file: &mut Vec<u8>, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
    bytes(file, key.as_bytes());
    value(file);
}

fn bytes(file: &mut Vec<u8>, bytes: &[u8]) {
    file.extend_from_slice(bytes.len().to_string().as_bytes());
    file.push(b':');
    file.extend_from_slice(bytes);
}

fn int(file: &mut Vec<u8>, number: i64) {
    file.extend_from_slice(format!("i{number}e").as_bytes());
}

fn list<T>(file: &mut Vec<u8>, items: &[T], item: impl Fn(&mut Vec<u8>, &T)) {
    file.push(b'l');
    items.iter().for_each(|one| item(file, one));
    file.push(b'e');
}

fn urls(file: &mut Vec<u8>, urls: &[String]) {
    list(file, urls, |file, url| bytes(file, url.as_bytes()));
}

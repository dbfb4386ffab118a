//! What a torrent is, from peers: its info dictionary, and in version 2 its piece layers.

use super::event::Event;
use super::options::Source;
use super::torrent::{Inner, TorrentDriver};
use std::sync::Arc;
use swarm_core::merkle::Node;
use swarm_core::metainfo::{HashTrees, Metainfo, MetainfoError};
use swarm_core::torrent::hashes::PIECE_LAYERS_LEN_MAX;

impl TorrentDriver {
    /// The info dictionary has come, and has the right hash.
    pub(super) fn on_metadata(&self, inner: &mut Inner, bytes: &[u8]) {
        let Source::Magnet(magnet) = &self.options.source else { return };
        match Metainfo::from_magnet(magnet, bytes) {
            Ok(metainfo) => {
                if metainfo.info.private {
                    self.keep_private(inner);
                }
                let metainfo = Arc::new(metainfo);
                match metainfo.info.can_verify() {
                    true => self.on_metainfo(metainfo),
                    false => self.want_layers(inner, metainfo),
                }
            }
            Err(error) => self.fail(error.into()),
        }
    }

    /// What a link stands for is known, and its pieces can be verified.
    fn on_metainfo(&self, metainfo: Arc<Metainfo>) {
        let _ = self.known.metainfo.set(metainfo);
        // It may be a hybrid, of which the link named one half.
        self.join_swarms();
        // Whoever waits for it looks again.
        self.phase.send_modify(|_| {});
        self.emit(Event::MetadataReceived);
        self.wake.notify_one();
    }

    /// Its piece layers are not in the info dictionary: peers are asked for them.
    pub(super) fn want_layers(&self, inner: &mut Inner, metainfo: Arc<Metainfo>) {
        let len = u64::from(metainfo.info.geometry.pieces()) * size_of::<Node>() as u64;
        if len > PIECE_LAYERS_LEN_MAX {
            return self.fail(MetainfoError::LayersTooLong(len).into());
        }
        let trees = HashTrees::of(&metainfo.info);
        let _ = self.known.incomplete.set(metainfo);
        self.join_swarms();
        trees.into_iter().for_each(|trees| inner.core.handle_layers_wanted(self.context.now(), trees));
    }

    /// The piece layers have come, and have the right roots.
    pub(super) fn on_layers(&self, layers: Vec<Vec<Node>>) {
        let Some(mut metainfo) = self.known.incomplete.get().cloned() else { return };
        Arc::make_mut(&mut Arc::make_mut(&mut metainfo).info).set_piece_layers(layers);
        self.on_metainfo(metainfo);
    }

    /// Nobody has them, and it is a hybrid.
    pub(super) fn go_on_without_v2(&self) {
        let Some(metainfo) = self.known.incomplete.get() else { return };
        self.warn(
            "no peer has the piece hashes of version 2: the download goes on with those of version 1 (SHA-1)",
        );
        let info = Arc::new(metainfo.info.without_v2());
        self.on_metainfo(Arc::new(Metainfo { info, ..Metainfo::clone(metainfo) }));
    }
}

//! What a torrent is, from peers: its info dictionary, and in version 2 its piece layers.

use super::event::Event;
use super::options::Source;
use super::torrent::{Inner, TorrentDriver};
use crate::Error;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use swarm_core::merkle::Node;
use swarm_core::metainfo::{HashTrees, Metainfo, MetainfoError};
use swarm_core::torrent::discovery::Origin;
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
                if let Err(error) = self.claim_names(inner, &metainfo) {
                    return self.fail(error);
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

    /// A link may have named one half of a hybrid, and another torrent of the session the other: then they are the same, the one that was
    /// added later ends, and the other gets its peers.
    fn claim_names(&self, inner: &mut Inner, metainfo: &Metainfo) -> Result<(), Error> {
        let names = metainfo.info.info_hashes();
        let Err(error) = self.registry.claim(names, self.events.id) else { return Ok(()) };
        let Error::AlreadyAdded { info_hash, id } = error else { return Err(error) };
        let other = self.context.torrents.get(info_hash);
        if id < self.events.id {
            let peers = self.peers_to_give(inner);
            other.into_iter().for_each(|other| Rc::clone(&other).handle_addresses(&peers, Origin::Found));
            return Err(error);
        }
        self.registry.take_over(names, self.events.id);
        if let Some(other) = other {
            let peers = other.end_as(Error::AlreadyAdded { info_hash: self.info_hash, id: self.events.id });
            inner.core.handle_addresses(self.context.now(), &peers, Origin::Found);
        }
        Ok(())
    }

    /// Where to find the peers that it has, and those that its user has named.
    pub(super) fn peers_to_give(&self, inner: &Inner) -> Vec<SocketAddr> {
        let named = self.changed.borrow().peers.clone();
        inner.core.known_peers().chain(named).collect()
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

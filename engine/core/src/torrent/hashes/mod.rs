//! The hashes of version 2 (BEP 52): served to peers, and got from them.
//!
//! Four things are done with them. `serve` answers peers' requests: for the piece layer from what is known of every piece, for leaves by
//! having the shell hash pieces again. `layers` gets the piece layers of a torrent that began without them, as magnet links do.
//! `leaves` tells the blocks of a failed piece apart, so that only the bad ones are asked for again. `repair` does so for pieces that are on
//! disk and do not verify.
//!
//! Torrents of version 1 have none of this.

mod layers;
mod leaves;
mod repair;
mod serve;

use super::{CloseReason, Torrent};
use crate::id::PeerKey;
use crate::merkle::HashRange;
use crate::metainfo::HashTrees;
use crate::peer::Peer;
use crate::peer::budget::Cost;
use crate::time::Time;
use crate::wire::message::Hashes;
use layers::LayerSearch;
pub use layers::{
    CHUNK, HYBRID_PATIENCE, HYBRID_PATIENCE_IN_VAIN, LAYERS_OUTSTANDING_MAX, LAYERS_TIMEOUT,
    PIECE_LAYERS_LEN_MAX,
};
use leaves::Suspects;
pub use leaves::{LEAVES_ASKED_OF, LEAVES_TIMEOUT, SUSPECTS_MAX};
use repair::Repairs;
pub use repair::{REPAIR_RATE, REPAIRS_ASKED_MAX, REPAIRS_MAX};
use serve::Serving;
pub use serve::{
    HASHES_ASKED_MAX, LEAF_BYTES_BURST, LEAF_BYTES_OF_HOST_BURST, LEAF_BYTES_OF_HOST_PER_S, LEAF_BYTES_PER_S,
    LEAF_JOBS_MAX, LEAVES_ASKED_MAX, LEAVES_OWED_MAX,
};
use std::sync::Arc;

/// What a torrent of version 2 knows of its hash trees, and does with them.
#[derive(Debug)]
pub(super) struct HashExchange {
    trees: Arc<HashTrees>,
    serving: Serving,
    /// While the piece layers are not known.
    layers: Option<LayerSearch>,
    suspects: Suspects,
    /// Once there are any.
    repairs: Option<Box<Repairs>>,
}

impl HashExchange {
    pub(super) fn new(trees: Arc<HashTrees>) -> HashExchange {
        HashExchange {
            trees,
            serving: Serving::default(),
            layers: None,
            suspects: Suspects::default(),
            repairs: None,
        }
    }
}

impl Torrent {
    /// Whether a peer understands messages about hashes.
    fn speaks_v2(&self, peer: &Peer) -> bool {
        self.hashes.as_ref().is_some_and(|hashes| !hashes.trees.is_hybrid() || peer.info.v2)
    }

    /// A peer sends hashes.
    pub(super) fn on_hashes(&mut self, now: Time, key: PeerKey, answer: &Hashes) {
        let is_asked = self.on_layer(now, key, answer)
            || self.on_leaves(now, key, answer)
            || self.on_repair_leaves(now, key, answer);
        if !is_asked {
            self.charge(now, key, Cost::SwarmWide);
        }
    }

    /// A peer does not send hashes that it was asked for.
    pub(super) fn on_hash_reject(&mut self, now: Time, key: PeerKey, range: &HashRange) {
        let is_asked = self.on_layer_reject(now, key, range)
            || self.on_leaves_reject(now, key, range)
            || self.on_repair_reject(now, key, range);
        if !is_asked {
            self.charge(now, key, Cost::Refused);
        }
    }

    /// What a peer sent is not what it was asked for.
    fn ban_for_hashes(&mut self, now: Time, key: PeerKey) {
        if let Some(addr) = self.addr_of(key) {
            self.ban(now, addr, key, CloseReason::WrongHashes);
        }
    }

    /// A peer has left.
    pub(super) fn hashes_left(&mut self, now: Time, key: PeerKey) {
        let Some(hashes) = &mut self.hashes else { return };
        hashes.serving.left(key);
        hashes.layers.iter_mut().for_each(|layers| layers.left(key));
        self.leaves_left(now, key);
        self.repair_left(key);
    }

    /// Time has passed: a second.
    pub(super) fn tick_hashes(&mut self, now: Time) {
        if self.hashes.is_some() {
            self.tick_serving(now);
            self.tick_layers(now);
            self.tick_leaves(now);
            self.tick_repairs(now);
        }
    }
}

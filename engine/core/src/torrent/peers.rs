//! The connected peers, by key.
//!
//! Every piece that anyone completes is announced to each of its neighbours, so that looking up a peer and marking one
//! more of its pieces is by far the commonest thing that happens to a torrent. What that takes is waiting for memory:
//! so peers lie side by side, and their keys apart from them.

use crate::id::PeerKey;
use crate::peer::Peer;
use std::ops::Index;

/// Peers in the order of their keys.
#[derive(Debug, Default)]
pub(super) struct Peers {
    keys: Vec<PeerKey>,
    peers: Vec<Peer>,
}

impl Peers {
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn contains_key(&self, key: PeerKey) -> bool {
        self.keys.binary_search(&key).is_ok()
    }

    pub(super) fn get(&self, key: PeerKey) -> Option<&Peer> {
        self.keys.binary_search(&key).ok().map(|at| &self.peers[at])
    }

    pub(super) fn get_mut(&mut self, key: PeerKey) -> Option<&mut Peer> {
        self.keys.binary_search(&key).ok().map(|at| &mut self.peers[at])
    }

    /// Adds a peer whose key is not in use.
    pub(super) fn insert(&mut self, peer: Peer) {
        let at = self.keys.partition_point(|&key| key < peer.key);
        self.keys.insert(at, peer.key);
        self.peers.insert(at, peer);
    }

    pub(super) fn remove(&mut self, key: PeerKey) -> Option<Peer> {
        let at = self.keys.binary_search(&key).ok()?;
        self.keys.remove(at);
        Some(self.peers.remove(at))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = PeerKey> + '_ {
        self.keys.iter().copied()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter()
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.peers.iter_mut()
    }
}

impl Index<PeerKey> for Peers {
    type Output = Peer;

    /// # Panics
    /// If there is no such peer.
    fn index(&self, key: PeerKey) -> &Peer {
        self.get(key).expect("a connected peer")
    }
}

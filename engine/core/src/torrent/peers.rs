//! What belongs to each connected peer, by key.
//!
//! Every piece that anyone completes is announced to each of its neighbours, so that looking up a peer and marking one
//! more of its pieces is by far the commonest thing that happens to a torrent. What that takes is waiting for memory:
//! so peers lie side by side, and their keys apart from them.

use crate::id::PeerKey;
use crate::peer::Peer;
use std::ops::{Index, IndexMut};

/// The connected peers.
pub(super) type Peers = ByPeer<Peer>;

/// Values in the order of the peers' keys.
#[derive(Debug)]
pub(super) struct ByPeer<T> {
    keys: Vec<PeerKey>,
    values: Vec<T>,
}

impl<T> Default for ByPeer<T> {
    fn default() -> ByPeer<T> {
        ByPeer { keys: Vec::new(), values: Vec::new() }
    }
}

impl<T> ByPeer<T> {
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn contains_key(&self, key: PeerKey) -> bool {
        self.keys.binary_search(&key).is_ok()
    }

    pub(super) fn get(&self, key: PeerKey) -> Option<&T> {
        self.keys.binary_search(&key).ok().map(|at| &self.values[at])
    }

    pub(super) fn get_mut(&mut self, key: PeerKey) -> Option<&mut T> {
        self.keys.binary_search(&key).ok().map(|at| &mut self.values[at])
    }

    /// Adds the value of a key that is not in use.
    pub(super) fn insert(&mut self, key: PeerKey, value: T) {
        let at = self.keys.partition_point(|&other| other < key);
        self.keys.insert(at, key);
        self.values.insert(at, value);
    }

    pub(super) fn remove(&mut self, key: PeerKey) -> Option<T> {
        let at = self.keys.binary_search(&key).ok()?;
        self.keys.remove(at);
        Some(self.values.remove(at))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = PeerKey> + '_ {
        self.keys.iter().copied()
    }

    /// The value of the key that is `index`-th in order.
    pub(super) fn nth(&self, index: usize) -> &T {
        &self.values[index]
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.values.iter()
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.values.iter_mut()
    }
}

impl<T> Index<PeerKey> for ByPeer<T> {
    type Output = T;

    /// # Panics
    /// If there is no such peer.
    fn index(&self, key: PeerKey) -> &T {
        self.get(key).expect("a connected peer")
    }
}

impl<T> IndexMut<PeerKey> for ByPeer<T> {
    /// # Panics
    /// If there is no such peer.
    fn index_mut(&mut self, key: PeerKey) -> &mut T {
        self.get_mut(key).expect("a connected peer")
    }
}

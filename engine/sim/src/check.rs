//! What must hold of every swarm, whatever befalls it.
//!
//! [`Torrent::check_invariants`](swarm_core::torrent::Torrent::check_invariants) is the part that one torrent
//! can see by itself: availability, interest, bounded requests, nobody idle who could be asked. Here is what takes a
//! view of the whole: what is really on each disk, what the other end of a connection has, where every byte went, who lied.

use crate::config::Behaviour;
use crate::node::{Link, Node, StepCheck};
use crate::world::World;
use std::collections::BTreeSet;
use swarm_core::id::BlockRef;
use swarm_core::peer::Peer;

impl StepCheck {
    /// # Panics
    /// If something does not hold of this node after a step.
    pub(crate) fn step(&mut self, node: &Node) {
        if !node.online {
            return;
        }
        check_node(node);
        let requests_doubled = node.torrent.requests_doubled();
        let is_new = self.life != node.life || self.requests_doubled != requests_doubled;
        let twice = doubled(node, |peer| !peer.is_snubbed());
        assert!(
            is_new || twice.is_subset(&self.doubled),
            "{:?} has asked twice for {twice:?} outside of the endgame",
            node.id
        );
        *self = StepCheck { doubled: doubled(node, |_| true), requests_doubled, life: node.life };
    }
}

/// The blocks that are outstanding at more than one of these peers.
fn doubled(node: &Node, counts: impl Fn(&Peer) -> bool) -> BTreeSet<BlockRef> {
    let mut seen = BTreeSet::new();
    let peers = node.torrent.peers().filter(|peer| counts(peer));
    let blocks = peers.flat_map(|peer| peer.requests().map(|request| request.block));
    blocks.filter(|block| !seen.insert(*block)).collect()
}

/// Asserts what must hold of one node at any time.
///
/// # Panics
/// If something does not hold.
pub(crate) fn check_node(node: &Node) {
    let (id, have) = (node.id, node.torrent.have());
    node.torrent.check_invariants();
    if node.config.behaviour != Behaviour::Poisoner {
        for piece in node.corrupt.keys() {
            assert!(!have.has(*piece), "{id:?} has the corrupt piece {piece}");
        }
    }
    if let Some(disk) = node.shell.as_ref().and_then(|shell| shell.disk.as_ref()) {
        assert!(*have == disk.written, "{id:?} counts what its disk does not hold, or the other way round");
        let lost = disk.synced.iter().find(|piece| !have.has(*piece));
        assert!(lost.is_none(), "{id:?} has lost the synced piece {lost:?}");
    }
    let twice = doubled(node, |peer| !peer.is_snubbed()).len() as u64;
    assert!(twice <= node.torrent.requests_doubled(), "{id:?} has asked twice outside of the endgame");
}

impl World {
    /// Asserts what must hold of the whole between steps.
    ///
    /// # Panics
    /// If something does not hold.
    pub fn check(&self) {
        self.lanes.nodes.iter().filter(|node| node.online).for_each(check_node);
        self.check_claims();
        self.check_bytes();
        for (by, whom) in self.bans() {
            let lied = self.config(whom).behaviour == Behaviour::Poisoner;
            assert!(lied, "{by:?} has banned {whom:?}, which never lied about a block");
        }
    }

    /// Nobody is taken to have a piece that it has not verified, unless it says so of its own accord.
    fn check_claims(&self) {
        for node in self.lanes.nodes.iter().filter(|node| node.online) {
            for peer in node.torrent.peers() {
                let Some(link) = &node.links[peer.key.0 as usize] else { continue };
                let remote = &self.lanes.nodes[link.remote.0 as usize];
                let claims = remote.config.behaviour == Behaviour::HaveFlood;
                let stands = link.remote_key.is_some_and(|key| remote.torrent.peer(key).is_some());
                if claims || !stands || !remote.online {
                    continue;
                }
                let unfounded = peer.have().iter().find(|piece| !remote.torrent.have().has(*piece));
                assert!(
                    unfounded.is_none(),
                    "{:?} was told that {:?} has piece {unfounded:?}",
                    node.id,
                    remote.id
                );
            }
        }
    }

    /// Every byte that was sent has been received, or is on its way, or found nobody there for it.
    fn check_bytes(&self) {
        let (mut sent, mut accounted) = (0, 0);
        for (node, inbox) in self.lanes.nodes.iter().zip(&self.lanes.inboxes) {
            let totals = node.totals();
            sent += totals.bytes_up;
            accounted += totals.bytes_down + node.bytes_dropped;
            accounted += inbox.iter().map(|arrival| arrival.what.payload()).sum::<u64>();
            accounted += node.downlink.iter().map(|received| received.what.payload()).sum::<u64>();
            accounted += node.links.iter().flatten().map(Link::unsent_bytes).sum::<u64>();
        }
        assert_eq!(sent, accounted, "bytes sent, and received, under way or dropped");
    }
}

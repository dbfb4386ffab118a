//! Networks: joined one node after another, or with the tables that joining leads to.

use super::network::{HostId, Network};
use std::collections::BTreeSet;
use swarm_core::dht::{BUCKET_LEN_MAX, ID_BITS, NodeId, NodeInfo};
use swarm_core::net::Family;
use swarm_core::time::{Duration, Time};

/// Between one node that joins and the next.
const JOIN_INTERVAL: Duration = Duration::from_millis(50);
/// How long a network is left alone after the last one has joined: every bucket has been refreshed by then.
const SETTLE_TIME: Duration = Duration::from_secs(20 * 60);
/// Nodes that others join by.
pub(super) const BOOTSTRAP_NODES: usize = 8;

/// Has a node join by three of these.
pub(super) fn join(network: &mut Network, host: HostId, bootstrap_nodes: &[HostId]) {
    let mut by = bootstrap_nodes.to_vec();
    network.rng().shuffle(&mut by);
    let addrs: Vec<_> = by.iter().filter(|node| **node != host).take(3).map(|h| network.addr(*h)).collect();
    network.with(host, |node, now| node.join(now, &addrs));
}

/// So many nodes that joined by the first few of them, and had the time to settle.
pub(super) fn joined(network: &mut Network, count: u32, enforce_ids: bool) -> Vec<HostId> {
    let mut hosts = Vec::new();
    for _ in 0..count {
        let host = network.add_node(enforce_ids);
        hosts.push(host);
        join(network, host, &hosts[..hosts.len().min(BOOTSTRAP_NODES)]);
        let next = network.now() + JOIN_INTERVAL;
        pass(network, next);
    }
    let settled = network.now() + SETTLE_TIME;
    pass(network, settled);
    hosts
}

/// Lets time pass, whatever happens.
fn pass(network: &mut Network, end: Time) {
    while network.run(end).is_some() {}
}

/// So many nodes, each with a full table: of every subtree that it has a bucket for some nodes at random, and all of
/// its own.
pub(super) fn generated(network: &mut Network, count: u32, enforce_ids: bool) -> Vec<HostId> {
    let hosts: Vec<HostId> = (0..count).map(|_| network.add_node(enforce_ids)).collect();
    let mut infos: Vec<NodeInfo> = hosts.iter().map(|host| network.info(*host)).collect();
    infos.sort_unstable();
    for host in &hosts {
        let own = network.info(*host).id;
        let known = table_of(network, &infos, own);
        network.with(*host, |node, now| node.assume_answered(now, &known));
    }
    hosts
}

/// What the node with this id knows, the farthest first; `infos` are all nodes, in the order of their ids.
fn table_of(network: &mut Network, infos: &[NodeInfo], own: NodeId) -> Vec<NodeInfo> {
    let mut known = Vec::new();
    let mut subtree = infos;
    for bit in 0..ID_BITS {
        if subtree.len() <= BUCKET_LEN_MAX + 1 {
            break;
        }
        let is_one = |id: NodeId| id.0[bit / 8] & 0x80 >> (bit % 8) != 0;
        let (zeros, ones) = subtree.split_at(subtree.partition_point(|info| !is_one(info.id)));
        let (ours, theirs) = if is_one(own) { (ones, zeros) } else { (zeros, ones) };
        known.extend(some_of(network, theirs));
        subtree = ours;
    }
    known.extend(subtree.iter().filter(|info| info.id != own));
    debug_assert!(known.iter().all(|info| Family::of(info.addr) == Family::V4));
    known
}

/// At most a bucketful, at random.
fn some_of(network: &mut Network, infos: &[NodeInfo]) -> Vec<NodeInfo> {
    if infos.len() <= BUCKET_LEN_MAX {
        return infos.to_vec();
    }
    let mut chosen = BTreeSet::new();
    while chosen.len() < BUCKET_LEN_MAX {
        chosen.insert(network.rng().index(infos.len()));
    }
    chosen.into_iter().map(|at| infos[at]).collect()
}

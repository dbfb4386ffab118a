//! Nodes as the DHT writes them: an id, and an address in compact form (BEP 5, 32).

use super::id::NodeId;
use crate::net::{Family, compact_len, is_contactable, read_compact, write_compact};
use std::net::SocketAddr;

/// A node and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeInfo {
    /// What it calls itself.
    pub id: NodeId,
    /// Where it is.
    pub addr: SocketAddr,
}

/// Whether a datagram may be sent to an address that the node at `by` named.
pub(super) fn is_usable(addr: SocketAddr, by: SocketAddr) -> bool {
    is_contactable(addr, by.ip().to_canonical().is_loopback())
}

/// Nodes as one string of bytes.
pub(super) fn write_nodes(nodes: &[NodeInfo]) -> Vec<u8> {
    let mut out = Vec::new();
    for node in nodes {
        out.extend_from_slice(&node.id.0);
        write_compact(node.addr, &mut out);
    }
    out
}

/// The whole nodes of a string of bytes; what is left over is not one.
pub(super) fn read_nodes(bytes: &[u8], family: Family) -> Vec<NodeInfo> {
    bytes
        .chunks_exact(20 + compact_len(family))
        .filter_map(|entry| {
            let (id, addr) = entry.split_first_chunk::<20>()?;
            let addr = read_compact(addr).filter(|addr| Family::of(*addr) == family)?;
            Some(NodeInfo { id: NodeId(*id), addr })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn nodes_are_read_whole_or_not() {
        let node = NodeInfo { id: NodeId([7; 20]), addr: addr("1.2.3.4:6881") };
        let mut bytes = write_nodes(&[node, node]);
        assert_eq!(read_nodes(&bytes, Family::V4), [node, node]);
        bytes.pop();
        assert_eq!(read_nodes(&bytes, Family::V4), [node]);
        assert_eq!(read_nodes(b"def456...", Family::V4), []);
    }
}

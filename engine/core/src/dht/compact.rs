//! Addresses as the DHT writes them: 4 or 16 bytes and a port, a node's id before it (BEP 5, 32).

use super::id::NodeId;
pub use crate::net::Family;
pub(super) use crate::net::Host;
use crate::net::is_contactable;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of an address with its port.
pub(super) const fn address_len(family: Family) -> usize {
    match family {
        Family::V4 => 6,
        Family::V6 => 18,
    }
}

/// A node and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeInfo {
    /// What it calls itself.
    pub id: NodeId,
    /// Where it is.
    pub addr: SocketAddr,
}

/// Whether a datagram may be sent to an address that `teller` named.
pub(super) fn is_usable(addr: SocketAddr, teller: SocketAddr) -> bool {
    is_contactable(addr, teller.ip().to_canonical().is_loopback())
}

/// Appends an address.
pub(super) fn write_addr(addr: SocketAddr, out: &mut Vec<u8>) {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
    out.extend_from_slice(&addr.port().to_be_bytes());
}

/// The address that is exactly these 6 or 18 bytes.
pub(super) fn read_addr(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk::<2>()?;
    let ip = match ip.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?)),
        16 => Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

/// Nodes as one string of bytes.
pub(super) fn write_nodes(nodes: &[NodeInfo]) -> Vec<u8> {
    let mut out = Vec::new();
    for node in nodes {
        out.extend_from_slice(&node.id.0);
        write_addr(node.addr, &mut out);
    }
    out
}

/// The whole nodes of a string of bytes; what is left over is not one.
pub(super) fn read_nodes(bytes: &[u8], family: Family) -> Vec<NodeInfo> {
    bytes
        .chunks_exact(20 + address_len(family))
        .filter_map(|entry| {
            let (id, addr) = entry.split_first_chunk::<20>()?;
            let addr = read_addr(addr).filter(|addr| Family::of(*addr) == family)?;
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

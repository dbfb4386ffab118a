//! Addresses as the DHT writes them: 4 or 16 bytes and a port, a node's id before it (BEP 5, 32).

use super::id::NodeId;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Which of the two networks: nodes of one know and ask nodes of the same only (BEP 32).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn of(addr: SocketAddr) -> Family {
        if addr.ip().to_canonical().is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// Bytes of an address with its port.
    pub(super) const fn address_len(self) -> usize {
        match self {
            Family::V4 => 6,
            Family::V6 => 18,
        }
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

/// What counts as one host, where only one node of each is wanted: an IPv4 address or an IPv6 network of 64 bits; on
/// loopback, where the nodes of a test share one address, each port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Host(u128, u16);

impl Host {
    pub(super) fn of(addr: SocketAddr) -> Host {
        match addr.ip().to_canonical() {
            IpAddr::V4(ip) if ip.is_loopback() => Host(ip.to_bits().into(), addr.port()),
            IpAddr::V4(ip) => Host(ip.to_bits().into(), 0),
            IpAddr::V6(ip) if ip.is_loopback() => Host(ip.to_bits(), addr.port()),
            IpAddr::V6(ip) => Host(ip.to_bits() >> 64 << 64, 0),
        }
    }
}

/// Whether a datagram may be sent to an address that `teller` named: a stranger shall not make us talk to ourselves,
/// to groups, or to nobody.
pub(super) fn is_usable(addr: SocketAddr, teller: SocketAddr) -> bool {
    let ip = addr.ip().to_canonical();
    let is_no_host = match ip {
        IpAddr::V4(ip) => ip.is_broadcast() || ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_unspecified(),
    };
    addr.port() != 0
        && !is_no_host
        && !ip.is_multicast()
        && (!ip.is_loopback() || teller.ip().to_canonical().is_loopback())
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
        .chunks_exact(20 + family.address_len())
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
    fn one_host_is_an_address_or_an_ipv6_network_but_a_port_on_loopback() {
        let same = |a, b| Host::of(addr(a)) == Host::of(addr(b));
        assert!(same("1.2.3.4:1", "1.2.3.4:2"));
        assert!(same("1.2.3.4:1", "[::ffff:1.2.3.4]:1"));
        assert!(same("[2001:db8::1]:1", "[2001:db8::2]:2"));
        assert!(!same("[2001:db8::1]:1", "[2001:db8:0:1::1]:1"));
        assert!(!same("127.0.0.1:1", "127.0.0.1:2"));
        assert!(!same("[::1]:1", "[::1]:2"));
    }

    #[test]
    fn strangers_cannot_make_us_talk_to_ourselves_or_to_nobody() {
        let stranger = addr("93.184.216.34:6881");
        for bad in
            ["127.0.0.1:1", "[::1]:1", "0.0.0.0:1", "[::]:1", "224.0.0.1:1", "255.255.255.255:1", "1.2.3.4:0"]
        {
            assert!(!is_usable(addr(bad), stranger), "{bad}");
        }
        assert!(is_usable(addr("127.0.0.1:1"), addr("127.0.0.2:2")));
        assert!(is_usable(addr("10.0.0.1:1"), stranger), "a private network may be ours");
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

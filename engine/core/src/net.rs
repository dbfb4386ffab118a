//! Addresses: their family and compact form, what counts as one host, which may be contacted at a stranger's word, in which
//! order those of a swarm are preferred (BEP 40), and which one is ours.

mod votes;

use crc32c::crc32c;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
pub(crate) use votes::ExternalIpVotes;

/// Which internet protocol. A tracker learns a peer's address from the connection, so a peer with both announces over
/// both (BEP 7); nodes of the DHT know and ask nodes of the same only (BEP 32).
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
        Family::of_ip(addr.ip())
    }

    /// The same, without a port.
    pub fn of_ip(ip: IpAddr) -> Family {
        if ip.to_canonical().is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// What counts as one host, where only so much of each is wanted, and where one is shut out: an IPv4 address or an IPv6
/// network of 64 bits; on loopback, where the hosts of a test share one address, each port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Host(u128, u16);

impl Host {
    pub(crate) fn of(addr: SocketAddr) -> Host {
        match addr.ip().to_canonical() {
            IpAddr::V4(ip) if ip.is_loopback() => Host(ip.to_bits().into(), addr.port()),
            IpAddr::V4(ip) => Host(ip.to_bits().into(), 0),
            IpAddr::V6(ip) if ip.is_loopback() => Host(ip.to_bits(), addr.port()),
            IpAddr::V6(ip) => Host(ip.to_bits() >> 64 << 64, 0),
        }
    }
}

/// Bytes of an address in compact form, with its port (BEP 5, 7, 23).
pub(crate) const fn compact_len(family: Family) -> usize {
    match family {
        Family::V4 => 6,
        Family::V6 => 18,
    }
}

/// Appends an address in compact form.
pub(crate) fn write_compact(addr: SocketAddr, out: &mut Vec<u8>) {
    // No buffer of its own: a tracker's reply has many.
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
    out.extend_from_slice(&addr.port().to_be_bytes());
}

/// The address whose compact form is exactly these 6 or 18 bytes. Its port may be 0.
pub(crate) fn read_compact(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk::<2>()?;
    Some(SocketAddr::new(read_ip(ip)?.to_canonical(), u16::from_be_bytes(*port)))
}

/// The 4 or 16 bytes of an address.
pub(crate) fn write_ip(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The address of exactly these 4 or 16 bytes.
pub(crate) fn read_ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        _ => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
    }
}

/// Whether an address means something on this machine or a local network only. BEP 42 does not bind ids to such addresses.
pub fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unique_local(),
    }
}

/// Whether an address may be contacted that somebody named: nobody shall make us talk to groups or to nobody, and only
/// who is on this machine itself (`allow_loopback`) to this machine.
pub(crate) fn is_contactable(addr: SocketAddr, allow_loopback: bool) -> bool {
    let ip = addr.ip().to_canonical();
    let is_no_host = match ip {
        IpAddr::V4(ip) => ip.is_broadcast() || ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_unspecified(),
    };
    addr.port() != 0 && !is_no_host && !ip.is_multicast() && (allow_loopback || !ip.is_loopback())
}

/// How much two peers are meant for each other, the higher the more (BEP 40). Both come to the same number, nobody can choose
/// his own, and each peer is high for some and low for others: whom everybody prefers by this, the swarm stays connected,
/// and whoever comes last finds a place as easily as the first.
pub fn peer_priority(a: SocketAddr, b: SocketAddr) -> u32 {
    let pair = match (a.ip().to_canonical(), b.ip().to_canonical()) {
        (x, y) if x == y => sorted(a.port().to_be_bytes(), b.port().to_be_bytes()),
        (IpAddr::V4(x), IpAddr::V4(y)) => masked(x.octets(), y.octets(), 2),
        (IpAddr::V6(x), IpAddr::V6(y)) => masked(x.octets(), y.octets(), 6),
        // Between networks that cannot reach each other it has no meaning.
        _ => return 0,
    };
    crc32c(&pair)
}

/// Both addresses, the lower one first, without every other bit of what follows their network and one byte more than
/// they have in common, so that who owns a network has few priorities to choose from.
fn masked<const N: usize>(a: [u8; N], b: [u8; N], network: usize) -> Vec<u8> {
    let common = a.iter().zip(b).take_while(|(x, y)| **x == *y).count();
    let kept = if common < network { network } else { common + 1 };
    let mask = |octets: [u8; N]| std::array::from_fn(|i| if i < kept { octets[i] } else { octets[i] & 0x55 });
    sorted::<N>(mask(a), mask(b))
}

fn sorted<const N: usize>(a: [u8; N], b: [u8; N]) -> Vec<u8> {
    [a.min(b), a.max(b)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn priority(a: &str, b: &str) -> u32 {
        let ours = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
        peer_priority(ours(a, 6881), ours(b, 6882))
    }

    #[test]
    fn priorities_of_ipv4_peers() {
        for (a, b, bytes) in [
            ("123.213.32.10", "98.76.54.32", "624c14007bd50000"),
            // The same /16, and the same /24.
            ("123.213.32.10", "123.213.99.234", "7bd520007bd56340"),
            ("123.213.32.10", "123.213.32.234", "7bd5200a7bd520ea"),
        ] {
            let bytes: Vec<u8> =
                (0..16).step_by(2).map(|i| u8::from_str_radix(&bytes[i..i + 2], 16).unwrap()).collect();
            assert_eq!(priority(a, b), crc32c(&bytes), "{a} {b}");
        }
        // As BEP 40 has them.
        assert_eq!(priority("123.213.32.10", "98.76.54.32"), 0xec2d_7224);
        assert_eq!(priority("123.213.32.10", "123.213.32.234"), 0x9956_8189);
        assert_eq!(priority("::ffff:123.213.32.10", "98.76.54.32"), 0xec2d_7224);
    }

    #[test]
    fn priorities_of_ipv6_peers() {
        let pair = |a: &str, b: &str| {
            let octets = |ip: &str| ip.parse::<std::net::Ipv6Addr>().unwrap().octets();
            crc32c(&[octets(a), octets(b)].concat())
        };
        for (a, b, low, high) in [
            ("2001:db8:1:ffff::ffff", "2001:db7::ffff", "2001:db7::5555", "2001:db8:1:5555::5555"),
            // The same /48, /56, and /64.
            ("2001:db8:1:ffff::ffff", "2001:db8:1:eeff::1", "2001:db8:1:ee55::1", "2001:db8:1:ff55::5555"),
            ("2001:db8:1:ffff::ffff", "2001:db8:1:ffee::2", "2001:db8:1:ffee::0", "2001:db8:1:ffff::5555"),
            ("2001:db8::ff:ffff", "2001:db8:0:0:eeff::3", "2001:db8::55:5555", "2001:db8::ee55:0:0:1"),
        ] {
            assert_eq!(priority(a, b), pair(low, high), "{a} {b}");
        }
    }

    #[test]
    fn peers_at_one_address_differ_by_their_ports() {
        let (a, b) = (addr("1.2.3.4:6881"), addr("1.2.3.4:80"));
        assert_eq!(peer_priority(a, b), crc32c(&[0, 80, 0x1a, 0xe1]));
        assert_eq!(peer_priority(addr("1.2.3.4:1"), addr("[2001:db8::1]:1")), 0);
    }

    proptest! {
        #[test]
        fn both_sides_come_to_the_same_priority(a: [u8; 16], b: [u8; 16], same in 0..=16_usize, ports: (u16, u16)) {
            let mut b = b;
            b[..same].copy_from_slice(&a[..same]);
            let v4 = |octets: [u8; 16]| std::net::Ipv4Addr::from(*octets.last_chunk::<4>().unwrap());
            for (a, b) in [(IpAddr::from(a), IpAddr::from(b)), (v4(a).into(), v4(b).into())] {
                let (a, b) = (SocketAddr::new(a, ports.0), SocketAddr::new(b, ports.1));
                prop_assert_eq!(peer_priority(a, b), peer_priority(b, a));
            }
        }
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
        for loopback in ["127.0.0.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            assert!(!is_contactable(addr(loopback), false), "{loopback}");
            assert!(is_contactable(addr(loopback), true), "{loopback}");
        }
        for bad in [
            "0.0.0.0:1",
            "0.1.2.3:1",
            "[::]:1",
            "224.0.0.1:1",
            "[ff02::1]:1",
            "255.255.255.255:1",
            "1.2.3.4:0",
        ] {
            assert!(!is_contactable(addr(bad), true), "{bad}");
        }
        assert!(is_contactable(addr("10.0.0.1:1"), false), "a private network may be ours");
        assert!(is_contactable(addr("[2001:db8::1]:80"), false));
    }
}

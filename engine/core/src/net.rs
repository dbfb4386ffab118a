//! Addresses: of which family they are, what counts as one host, and which may be contacted at a stranger's word.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

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

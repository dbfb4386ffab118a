//! Whom a proxy is to reach.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use url::{Host, Url};

/// Longest name of a host, in bytes: what SOCKS5 has room for.
pub(super) const NAME_LEN_MAX: usize = 255;

/// Whom to reach.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a host has an address or a name")]
pub enum Destination {
    /// Whoever has this address.
    Addr(SocketAddr),
    /// Whoever has this name, at this port.
    Name(String, u16),
}

impl Destination {
    /// The host and port of a URL, if it names both.
    pub fn of_url(url: &Url) -> Option<Destination> {
        let port = url.port_or_known_default()?;
        match url.host()? {
            Host::Ipv4(ip) => Some(Destination::Addr((ip, port).into())),
            Host::Ipv6(ip) => Some(Destination::Addr((ip, port).into())),
            // Of schemes that are not the web's, addresses are not told apart.
            Host::Domain(name) => Some(Destination::new(name, port)),
        }
    }

    /// A host, by its name or its address, and a port.
    pub fn new(host: &str, port: u16) -> Destination {
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) => Destination::Addr(SocketAddr::new(ip, port)),
            Err(_) => Destination::Name(host.to_owned(), port),
        }
    }

    /// `HOST:PORT`, where an IPv6 address stands in brackets.
    pub fn parse(text: &str) -> Option<Destination> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Destination::new(host, port.parse().ok()?))
    }

    /// The host and the port.
    pub fn parts(&self) -> (String, u16) {
        match self {
            Destination::Addr(addr) => (addr.ip().to_string(), addr.port()),
            Destination::Name(name, port) => (name.clone(), *port),
        }
    }

    /// The address, if it is one.
    pub fn addr(&self) -> Option<SocketAddr> {
        match self {
            Destination::Addr(addr) => Some(*addr),
            Destination::Name(..) => None,
        }
    }

    /// Whether a proxy can be asked for it: a name is not empty, not too long, and has nothing in it that ends a name.
    pub fn is_valid(&self) -> bool {
        let Destination::Name(name, _) = self else { return true };
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        (1..=NAME_LEN_MAX).contains(&name.len()) && name.bytes().all(is_of_name)
    }

    /// Whether it is a name that means the machine that looks it up (RFC 6761).
    pub fn is_localhost(&self) -> bool {
        let Destination::Name(name, _) = self else { return false };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        name == "localhost" || name.ends_with(".localhost")
    }
}

impl From<SocketAddr> for Destination {
    fn from(addr: SocketAddr) -> Destination {
        Destination::Addr(addr)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Addr(addr) => addr.fmt(f),
            Destination::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

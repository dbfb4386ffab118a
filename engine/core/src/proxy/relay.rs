//! Datagrams on their way to and from a relay (RFC 1928, section 7), and the addresses of SOCKS5.

use super::ProxyError;
use super::destination::{Destination, NAME_LEN_MAX};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a datagram grows by at most, in bytes.
pub const OVERHEAD_MAX: usize = 3 + 1 + 1 + NAME_LEN_MAX + 2;

pub(super) const IPV4: u8 = 1;
pub(super) const NAME: u8 = 3;
pub(super) const IPV6: u8 = 4;

/// Appends an address.
pub(super) fn write_destination(to: &Destination, out: &mut Vec<u8>) -> Result<(), ProxyError> {
    let port = match to {
        Destination::Addr(addr) => {
            match addr.ip().to_canonical() {
                IpAddr::V4(ip) => {
                    out.push(IPV4);
                    out.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    out.push(IPV6);
                    out.extend_from_slice(&ip.octets());
                }
            }
            addr.port()
        }
        Destination::Name(name, port) => {
            if !to.is_valid() {
                return Err(ProxyError::BadName);
            }
            // As long as the check allows.
            out.extend_from_slice(&[NAME, name.len() as u8]);
            out.extend_from_slice(name.as_bytes());
            *port
        }
    };
    out.extend_from_slice(&port.to_be_bytes());
    Ok(())
}

/// Reads an address, and how many bytes it takes; `None` for what stands there if it is a name.
pub(super) fn read_address(bytes: &[u8]) -> Option<(Option<SocketAddr>, usize)> {
    let (&kind, rest) = bytes.split_first()?;
    let (ip, len): (Option<IpAddr>, usize) = match kind {
        IPV4 => (Some(Ipv4Addr::from(*rest.first_chunk::<4>()?).into()), 4),
        IPV6 => (Some(Ipv6Addr::from(*rest.first_chunk::<16>()?).to_canonical()), 16),
        NAME => (None, 1 + usize::from(*rest.first()?)),
        _ => return None,
    };
    let port = u16::from_be_bytes(*rest.get(len..)?.first_chunk::<2>()?);
    Some((ip.map(|ip| SocketAddr::new(ip, port)), 1 + len + 2))
}

/// Puts a datagram for `to` into the form in which a relay takes it.
///
/// # Errors
/// [`ProxyError::BadName`].
pub fn wrap(to: &Destination, datagram: &[u8]) -> Result<Vec<u8>, ProxyError> {
    let mut out = Vec::with_capacity(32 + datagram.len());
    out.extend_from_slice(&[0, 0, 0]);
    write_destination(to, &mut out)?;
    out.extend_from_slice(datagram);
    Ok(out)
}

/// What a relay has brought, and from whom if it says so by an address. `None` for what makes no sense, and for parts of
/// datagrams, which nobody sends.
pub fn unwrap(received: &[u8]) -> Option<(Option<SocketAddr>, &[u8])> {
    let [_, _, 0, rest @ ..] = received else { return None };
    let (from, len) = read_address(rest)?;
    Some((from, &rest[len..]))
}

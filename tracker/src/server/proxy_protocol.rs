//! The PROXY protocol, versions 1 and 2: a proxy's first bytes say who its client is.

use std::io;
use std::net::SocketAddr;

use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest header of version 1, by its specification.
const V1_LEN_MAX: usize = 107;
/// Of version 2, up to and with the length of the rest.
const V2_HEAD_LEN: usize = 16;
/// Longest header of version 2 that is read; more than the specification needs to fit one packet.
const V2_LEN_MAX: usize = 536;
/// Shorter than the shortest header of either version, and enough to tell them apart.
const START_LEN: usize = v2::PROTOCOL_PREFIX.len();

/// Reads the header and nothing after it. `None` when the proxy speaks for itself, as with a
/// health check.
pub(super) async fn read_source(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; START_LEN];
    stream.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        header.resize(V2_HEAD_LEN, 0);
        stream.read_exact(&mut header[START_LEN..]).await?;
        let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
        if V2_HEAD_LEN + rest > V2_LEN_MAX {
            return Err(invalid("a PROXY header that is too long"));
        }
        header.resize(V2_HEAD_LEN + rest, 0);
        stream.read_exact(&mut header[V2_HEAD_LEN..]).await?;
    } else {
        while !header.ends_with(b"\r\n") {
            if header.len() == V1_LEN_MAX {
                return Err(invalid("a PROXY header that does not end"));
            }
            // Once for a connection; what follows the line must be left for others.
            header.push(stream.read_u8().await?);
        }
    }
    source(&header)
}

fn source(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    match HeaderResult::parse(header) {
        HeaderResult::V1(Ok(header)) => Ok(match header.addresses {
            v1::Addresses::Tcp4(ip) => Some((ip.source_address, ip.source_port).into()),
            v1::Addresses::Tcp6(ip) => Some((ip.source_address, ip.source_port).into()),
            v1::Addresses::Unknown => None,
        }),
        HeaderResult::V2(Ok(header)) if header.command == v2::Command::Local => Ok(None),
        HeaderResult::V2(Ok(header)) => Ok(match header.addresses {
            v2::Addresses::IPv4(ip) => Some((ip.source_address, ip.source_port).into()),
            v2::Addresses::IPv6(ip) => Some((ip.source_address, ip.source_port).into()),
            v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
        }),
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => Err(invalid("no PROXY header")),
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

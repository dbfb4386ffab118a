//! Messages by which a peer that two others are connected with has them dial each other (BEP 55).

use crate::net::{Family, compact_len, read_compact, write_compact};
use std::net::SocketAddr;

/// What a message is about, with the address of the peer that is to be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holepunch {
    /// To a relay: have this peer and us dial each other.
    Rendezvous(SocketAddr),
    /// From a relay: dial this peer over uTP, now.
    Connect(SocketAddr),
    /// From a relay: that cannot be done.
    Error(SocketAddr, HolepunchError),
}

/// Why a relay cannot do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum HolepunchError {
    #[error("it says that this is no peer's address")]
    NoSuchPeer,
    #[error("it is not connected to the peer")]
    NotConnected,
    #[error("it says that the peer does not take part in holepunching")]
    NoSupport,
    #[error("it says that the address is its own")]
    NoSelf,
    #[error("it gave an unknown reason ({0})")]
    Other(u32),
}

impl HolepunchError {
    fn code(self) -> u32 {
        match self {
            HolepunchError::NoSuchPeer => 1,
            HolepunchError::NotConnected => 2,
            HolepunchError::NoSupport => 3,
            HolepunchError::NoSelf => 4,
            HolepunchError::Other(code) => code,
        }
    }

    fn from_code(code: u32) -> HolepunchError {
        match code {
            1 => HolepunchError::NoSuchPeer,
            2 => HolepunchError::NotConnected,
            3 => HolepunchError::NoSupport,
            4 => HolepunchError::NoSelf,
            other => HolepunchError::Other(other),
        }
    }
}

impl Holepunch {
    /// The payload of an [`Extension::Holepunch`](super::extension::Extension::Holepunch) message.
    pub fn encode(self) -> Vec<u8> {
        let (kind, addr, code) = match self {
            Holepunch::Rendezvous(addr) => (0, addr, 0),
            Holepunch::Connect(addr) => (1, addr, 0),
            Holepunch::Error(addr, error) => (2, addr, error.code()),
        };
        let mut payload = vec![kind, u8::from(Family::of(addr) == Family::V6)];
        write_compact(addr, &mut payload);
        payload.extend_from_slice(&code.to_be_bytes());
        payload
    }

    /// Reads a payload; `None` if it makes no sense. libtorrent leaves the code out where there is no error.
    pub fn decode(payload: &[u8]) -> Option<Holepunch> {
        let ([kind, family], rest) = payload.split_first_chunk::<2>()?;
        let family = match family {
            0 => Family::V4,
            1 => Family::V6,
            _ => return None,
        };
        let (addr, rest) = rest.split_at_checked(compact_len(family))?;
        let addr = read_compact(addr)?;
        match kind {
            0 => Some(Holepunch::Rendezvous(addr)),
            1 => Some(Holepunch::Connect(addr)),
            2 => {
                let code = u32::from_be_bytes(*rest.first_chunk()?);
                Some(Holepunch::Error(addr, HolepunchError::from_code(code)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_holepunch_message_as_libtorrent_writes_it() {
        let addr: SocketAddr = "1.2.3.4:6881".parse().unwrap();
        let sixth: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
        let with_v6 = |kind: u8| [&[kind, 1, 0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1, 0, 1]].concat();
        assert_eq!(Holepunch::decode(b"\0\0\x01\x02\x03\x04\x1a\xe1"), Some(Holepunch::Rendezvous(addr)));
        assert_eq!(Holepunch::decode(&with_v6(1)), Some(Holepunch::Connect(sixth)));
        let refused = Holepunch::Error(addr, HolepunchError::NotConnected);
        assert_eq!(Holepunch::decode(b"\x02\0\x01\x02\x03\x04\x1a\xe1\0\0\0\x02"), Some(refused));
    }

    #[test]
    fn holepunch_messages_that_make_no_sense_are_none() {
        for payload in [
            &b""[..],
            b"\0",
            b"\0\0\x01\x02\x03\x04\x1a",
            b"\x03\0\x01\x02\x03\x04\x1a\xe1\0\0\0\0",
            b"\0\x02\x01\x02\x03\x04\x1a\xe1\0\0\0\0",
            b"\x01\x01\x01\x02\x03\x04\x1a\xe1\0\0\0\0",
            b"\x02\0\x01\x02\x03\x04\x1a\xe1\0\0\0",
        ] {
            assert_eq!(Holepunch::decode(payload), None, "{}", payload.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn a_holepunch_message_is_read_back(
            kind in 0..3u8, v4: bool, ip: [u8; 16], port: u16, code: u32,
        ) {
            let ip = if v4 { std::net::IpAddr::from(*ip.first_chunk::<4>().unwrap()) } else { ip.into() };
            let addr = SocketAddr::new(ip.to_canonical(), port);
            let message = match kind {
                0 => Holepunch::Rendezvous(addr),
                1 => Holepunch::Connect(addr),
                _ => Holepunch::Error(addr, HolepunchError::from_code(code)),
            };
            let payload = message.encode();
            prop_assert_eq!(payload.len(), if addr.is_ipv4() { 12 } else { 24 });
            prop_assert_eq!(Holepunch::decode(&payload), Some(message));
            // What is cut short is something else, or nothing.
            for len in 0..payload.len() {
                let cut = Holepunch::decode(&payload[..len]);
                prop_assert!(cut.is_none() || kind < 2 && cut == Some(message) && len >= payload.len() - 4);
            }
        }

        #[test]
        fn no_holepunch_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Holepunch::decode(&bytes);
        }
    }
}

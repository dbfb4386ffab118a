//! Messages in which peers tell each other of peers (BEP 11).

use super::decode::EXTENDED_LEN_MAX;
use crate::bencode::{self, BencodeError, Limits, Value};
use crate::net::{Family, compact_len, read_compact, write_compact};
use std::net::SocketAddr;
use std::ops::BitOr;

/// How many peers a message adds at most, and how many it drops, IPv4 and IPv6 together. What is beyond is not read.
pub const EXCHANGED_MAX: usize = 50;

const LIMITS: Limits = Limits { depth_max: 8, tokens_max: 100, input_len_max: EXTENDED_LEN_MAX as usize };

/// What is known of a peer that is told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerFlags(pub u8);

impl PeerFlags {
    /// It prefers encrypted connections (MSE).
    pub const ENCRYPTION: PeerFlags = PeerFlags(0x01);
    /// It downloads nothing (any more).
    pub const SEED: PeerFlags = PeerFlags(0x02);
    /// It speaks uTP.
    pub const UTP: PeerFlags = PeerFlags(0x04);
    /// It takes part in holepunching (BEP 55).
    pub const HOLEPUNCH: PeerFlags = PeerFlags(0x08);
    /// It was reached by dialling it.
    pub const REACHABLE: PeerFlags = PeerFlags(0x10);

    /// Whether every flag of `other` is set.
    pub const fn contains(self, other: PeerFlags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for PeerFlags {
    type Output = PeerFlags;
    fn bitor(self, rhs: PeerFlags) -> PeerFlags {
        PeerFlags(self.0 | rhs.0)
    }
}

/// Who has come and who has gone since the last message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerExchange {
    /// Peers that the sender is connected to now. In a message, those of IPv4 come first.
    pub added: Vec<(SocketAddr, PeerFlags)>,
    /// Peers that it is no longer connected to.
    pub dropped: Vec<SocketAddr>,
}

impl PeerExchange {
    /// The payload of an [`Extension::PeerExchange`](super::extension::Extension::PeerExchange) message.
    pub fn encode(&self) -> Vec<u8> {
        let (mut added, mut added6, mut dropped, mut dropped6) =
            <(Packed, Packed, Packed, Packed)>::default();
        for (addr, flags) in &self.added {
            let packed = if Family::of(*addr) == Family::V4 { &mut added } else { &mut added6 };
            write_compact(*addr, &mut packed.addrs);
            packed.flags.push(flags.0);
        }
        for addr in &self.dropped {
            let packed = if Family::of(*addr) == Family::V4 { &mut dropped } else { &mut dropped6 };
            write_compact(*addr, &mut packed.addrs);
        }
        bencode::write_dict(|mut e| {
            e.emit_pair_with(b"added", |e| e.emit_bytes(&added.addrs))?;
            e.emit_pair_with(b"added.f", |e| e.emit_bytes(&added.flags))?;
            e.emit_pair_with(b"added6", |e| e.emit_bytes(&added6.addrs))?;
            e.emit_pair_with(b"added6.f", |e| e.emit_bytes(&added6.flags))?;
            e.emit_pair_with(b"dropped", |e| e.emit_bytes(&dropped.addrs))?;
            e.emit_pair_with(b"dropped6", |e| e.emit_bytes(&dropped6.addrs))
        })
    }

    /// Reads a payload, up to [`EXCHANGED_MAX`] of each. Whether the addresses make sense is up to the reader.
    ///
    /// # Errors
    /// When it is not bencoded.
    pub fn decode(payload: &[u8]) -> Result<PeerExchange, BencodeError> {
        let document = bencode::parse(payload, &LIMITS)?;
        let root = document.root();
        let bytes = |key: &[u8]| root.get(key).and_then(Value::as_bytes).unwrap_or_default();
        let v4_len = compact_len(Family::V4);
        let addrs = |v4, v6| {
            let entries =
                bytes(v4).chunks_exact(v4_len).chain(bytes(v6).chunks_exact(compact_len(Family::V6)));
            entries.filter_map(read_compact).take(EXCHANGED_MAX)
        };
        let v4_count = bytes(b"added").len() / v4_len;
        let (flags, flags6) = (bytes(b"added.f"), bytes(b"added6.f"));
        let flags = |nth: usize| match nth.checked_sub(v4_count) {
            None => flags.get(nth),
            Some(nth) => flags6.get(nth),
        };
        let flags = |nth| PeerFlags(flags(nth).copied().unwrap_or(0));
        let added = addrs(b"added", b"added6").enumerate().map(|(nth, addr)| (addr, flags(nth)));
        Ok(PeerExchange { added: added.collect(), dropped: addrs(b"dropped", b"dropped6").collect() })
    }
}

/// Addresses in compact form, and their flags.
#[derive(Default)]
struct Packed {
    addrs: Vec<u8>,
    flags: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_message_as_others_write_it() {
        let payload = b"d5:added12:\x01\x02\x03\x04\x1a\xe1\x05\x06\x07\x08\x00\x017:added.f2:\x02\x107:dropped6:\x09\x09\x09\x09\x00\x02e";
        let expected = PeerExchange {
            added: vec![(addr("1.2.3.4:6881"), PeerFlags::SEED), (addr("5.6.7.8:1"), PeerFlags::REACHABLE)],
            dropped: vec![addr("9.9.9.9:2")],
        };
        assert_eq!(PeerExchange::decode(payload), Ok(expected));
    }

    #[test]
    fn what_is_missing_cut_short_or_too_much_is_left_out() {
        assert_eq!(PeerExchange::decode(b"de"), Ok(PeerExchange::default()));
        assert_eq!(PeerExchange::decode(b"d5:addedi7e6:added65:abcdee"), Ok(PeerExchange::default()));
        assert!(PeerExchange::decode(b"d5:added").is_err());
        let many: Vec<SocketAddr> = (1..200).map(|n| SocketAddr::from(([10, 0, 0, n as u8], n))).collect();
        let added = many.iter().map(|&addr| (addr, PeerFlags::UTP)).collect();
        let read = PeerExchange::decode(&PeerExchange { added, dropped: many }.encode()).unwrap();
        assert_eq!((read.added.len(), read.dropped.len()), (EXCHANGED_MAX, EXCHANGED_MAX));
        assert!(read.added.iter().all(|(_, flags)| flags.contains(PeerFlags::UTP)));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(
            v4 in prop::collection::vec((any::<Ipv4Addr>(), any::<u16>(), any::<u8>()), 0..25),
            v6 in prop::collection::vec((any::<[u8; 15]>(), any::<u16>(), any::<u8>()), 0..25),
        ) {
            // Not one that means an IPv4 address.
            let v6 = v6.into_iter().map(|(tail, port, flags)| {
                let mut ip = [0x20; 16];
                ip[1..].copy_from_slice(&tail);
                (SocketAddr::from((Ipv6Addr::from(ip), port)), PeerFlags(flags))
            });
            let v4 = v4.into_iter().map(|(ip, port, flags)| (SocketAddr::from((ip, port)), PeerFlags(flags)));
            let added: Vec<_> = v4.chain(v6).collect();
            let dropped = added.iter().map(|(addr, _)| *addr).collect();
            let message = PeerExchange { added, dropped };
            prop_assert_eq!(PeerExchange::decode(&message.encode()), Ok(message));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = PeerExchange::decode(&bytes);
        }
    }
}

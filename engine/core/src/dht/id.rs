//! Node ids, their distance, and what an address may call itself (BEP 42).

use crate::hex::shown_in_hex;
use crate::id::InfoHash;
use crate::net::is_local;
use crate::rng::Rng;
use crc32c::crc32c;
use std::net::IpAddr;

/// A place in the DHT's space of 160 bits: a node, or a key that nodes near it answer for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 20]);

/// How far two places are apart: their exclusive or, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Distance([u8; 20]);

/// The bits of an id in 20 bytes.
pub const ID_BITS: usize = 160;

impl NodeId {
    /// An id that says nothing about an address.
    pub fn random(rng: &mut Rng) -> NodeId {
        let mut id = [0; 20];
        rng.fill(&mut id);
        NodeId(id)
    }

    /// An id that other nodes accept from `ip` (BEP 42); any id at all if that [is local](is_local).
    pub fn for_address(ip: IpAddr, rng: &mut Rng) -> NodeId {
        let mut id = NodeId::random(rng);
        if !is_local(ip) {
            let prefix = prefix(ip, id.0[19]);
            id.0[0] = prefix[0];
            id.0[1] = prefix[1];
            id.0[2] = prefix[2] & 0xf8 | id.0[2] & 0x07;
        }
        id
    }

    /// Whether `ip` may have this id: the first 21 bits follow from the address and the last byte (BEP 42), or the
    /// address [is local](is_local).
    pub fn is_allowed_for(self, ip: IpAddr) -> bool {
        let prefix = prefix(ip, self.0[19]);
        is_local(ip) || self.0[..2] == prefix[..2] && (self.0[2] ^ prefix[2]) & 0xf8 == 0
    }

    /// How far `other` is.
    pub fn distance(self, other: NodeId) -> Distance {
        Distance(std::array::from_fn(|i| self.0[i] ^ other.0[i]))
    }

    /// How many leading bits both have in common; [`ID_BITS`] if they are the same.
    pub fn common_bits(self, other: NodeId) -> usize {
        let Distance(bytes) = self.distance(other);
        match bytes.iter().position(|byte| *byte != 0) {
            Some(at) => at * 8 + bytes[at].leading_zeros() as usize,
            None => ID_BITS,
        }
    }

    /// A random id that has exactly the first `bits` bits in common with this one (or is the same, if those are all).
    pub fn random_near(self, bits: usize, rng: &mut Rng) -> NodeId {
        let mut id = NodeId::random(rng);
        for bit in 0..ID_BITS.min(bits + 1) {
            let mask = 0x80 >> (bit % 8);
            let ours = self.0[bit / 8] & mask;
            let wanted = if bit < bits { ours } else { ours ^ mask };
            id.0[bit / 8] = id.0[bit / 8] & !mask | wanted;
        }
        id
    }
}

impl From<InfoHash> for NodeId {
    fn from(hash: InfoHash) -> NodeId {
        NodeId(hash.0)
    }
}

shown_in_hex!(NodeId);

/// The first three bytes of the ids of `ip`, of which 21 bits count.
fn prefix(ip: IpAddr, last_byte: u8) -> [u8; 3] {
    let r = last_byte & 0x07;
    let crc = match ip.to_canonical() {
        IpAddr::V4(ip) => crc32c(&(ip.to_bits() & 0x030f_3fff | u32::from(r) << 29).to_be_bytes()),
        IpAddr::V6(ip) => {
            let network = (ip.to_bits() >> 64) as u64;
            crc32c(&(network & 0x0103_070f_1f3f_7fff | u64::from(r) << 61).to_be_bytes())
        }
    };
    let [a, b, c, _] = crc.to_be_bytes();
    [a, b, c]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ids_follow_from_addresses_as_in_bep_42() {
        let cases = [
            ("124.31.75.21", 1, [0x5f, 0xbf, 0xbf]),
            ("21.75.31.124", 86, [0x5a, 0x3c, 0xe9]),
            ("65.23.51.170", 22, [0xa5, 0xd4, 0x32]),
            ("84.124.73.14", 65, [0x1b, 0x03, 0x21]),
            ("43.213.53.83", 90, [0xe5, 0x6f, 0x6c]),
        ];
        for (addr, last, start) in cases {
            let mut id = NodeId([0; 20]);
            id.0[..3].copy_from_slice(&start);
            id.0[19] = last;
            assert!(id.is_allowed_for(ip(addr)), "{addr}");
            id.0[2] ^= 0x07;
            assert!(id.is_allowed_for(ip(addr)), "{addr}: only 21 bits count");
            id.0[2] ^= 0x08;
            assert!(!id.is_allowed_for(ip(addr)), "{addr}");
        }
    }

    #[test]
    fn an_id_is_made_for_its_address_alone() {
        let mut rng = Rng::new(1);
        for addr in ["93.184.216.34", "2606:2800:220:1::1"] {
            let id = NodeId::for_address(ip(addr), &mut rng);
            assert!(id.is_allowed_for(ip(addr)));
            assert!(!id.is_allowed_for(ip("8.8.4.4")));
            assert!(!id.is_allowed_for(ip("2001:4860::1")));
        }
        assert!(
            NodeId::for_address(ip("2606:2800:220:1::1"), &mut rng).is_allowed_for(ip("2606:2800:220:1::2"))
        );
    }

    #[test]
    fn local_networks_are_exempt() {
        for addr in
            ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.1.1", "::1", "fe80::1", "fd00::1"]
        {
            assert!(NodeId([7; 20]).is_allowed_for(ip(addr)), "{addr}");
        }
    }

    #[test]
    fn random_ids_fall_where_they_are_wanted() {
        let mut rng = Rng::new(2);
        let own = NodeId::random(&mut rng);
        for bits in [0, 1, 7, 8, 100, 159, 160] {
            assert_eq!(own.common_bits(own.random_near(bits, &mut rng)), bits);
        }
    }

    #[test]
    fn distance_is_a_metric_led_by_the_first_bits() {
        let (zero, mut near, mut far) = (NodeId([0; 20]), NodeId([0; 20]), NodeId([0; 20]));
        near.0[1..].fill(0xff);
        far.0[0] = 1;
        assert!(zero.distance(near) < zero.distance(far));
        assert_eq!(zero.distance(zero), near.distance(near));
        assert_eq!(zero.common_bits(near), 8);
    }
}

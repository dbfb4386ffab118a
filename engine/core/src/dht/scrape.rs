//! How many peers a swarm has, as the nodes of the DHT tell it together (BEP 33).
//!
//! Each knows some of the swarm's peers, and some of them in common with others. So each gives Bloom filters of their
//! addresses: those of all together are put into one, whose number of bits tells how many addresses there are, about.

use crate::id::InfoHash;
use crate::net::write_ip;
use sha1::{Digest, Sha1};
use std::fmt;
use std::net::IpAddr;

/// Bytes of a filter.
pub const FILTER_LEN: usize = 256;
/// Bits of a filter.
const FILTER_BITS: usize = FILTER_LEN * 8;
/// The largest swarm that a filter tells anything of. A fuller one is not believed.
pub const FILTER_ADDRESSES_MAX: u32 = 6_000;

/// A set of addresses, more or less: what was put into it is in it, and a little else.
#[derive(Clone, PartialEq, Eq)]
pub struct Filter(pub Box<[u8; FILTER_LEN]>);

impl Default for Filter {
    fn default() -> Filter {
        Filter(Box::new([0; FILTER_LEN]))
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter(about {})", self.count())
    }
}

/// The bits that stand for an address.
fn bits_of(ip: IpAddr) -> [usize; 2] {
    let hash = Sha1::digest(write_ip(ip.to_canonical()));
    [[hash[0], hash[1]], [hash[2], hash[3]]].map(|at| usize::from(u16::from_le_bytes(at)) % FILTER_BITS)
}

impl Filter {
    /// Puts an address into it.
    pub fn insert(&mut self, ip: IpAddr) {
        bits_of(ip).into_iter().for_each(|bit| self.0[bit / 8] |= 1 << (bit % 8));
    }

    /// Whether an address is in it; sometimes also if it is not.
    pub fn contains(&self, ip: IpAddr) -> bool {
        bits_of(ip).into_iter().all(|bit| self.0[bit / 8] & 1 << (bit % 8) != 0)
    }

    /// Puts all that is in another one into it.
    pub fn unite(&mut self, other: &Filter) {
        self.0.iter_mut().zip(other.0.iter()).for_each(|(byte, other)| *byte |= other);
    }

    /// How many different addresses are in it, about.
    pub fn count(&self) -> u32 {
        let bits = FILTER_BITS as f64;
        let unset: u32 = self.0.iter().map(|byte| byte.count_zeros()).sum();
        let unset = f64::from(unset).clamp(1.0, bits - 1.0);
        if self.0.iter().all(|byte| *byte == 0) {
            return 0;
        }
        ((unset / bits).ln() / (2.0 * (1.0 - 1.0 / bits).ln())).round() as u32
    }
}

/// What one node knows of a swarm, or many of them together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrape {
    /// Those that have all of it (`BFsd`).
    pub seeds: Filter,
    /// The others (`BFpe`).
    pub downloaders: Filter,
}

/// A swarm whose size is being asked for.
pub(super) struct Census {
    pub(super) info_hash: InfoHash,
    sum: Scrape,
}

impl Census {
    pub(super) fn new(info_hash: InfoHash) -> Census {
        Census { info_hash, sum: Scrape::default() }
    }

    /// Counts what a node says: its filters or, if it has none, the peers that it names, who then are no seeds unless
    /// others say so.
    pub(super) fn add(&mut self, scrape: Option<&Scrape>, peers: impl Iterator<Item = IpAddr>) {
        let Some(Scrape { seeds, downloaders }) = scrape else {
            for ip in peers {
                if !self.sum.seeds.contains(ip) {
                    self.sum.downloaders.insert(ip);
                }
            }
            return;
        };
        if seeds.count() <= FILTER_ADDRESSES_MAX && downloaders.count() <= FILTER_ADDRESSES_MAX {
            self.sum.seeds.unite(seeds);
            self.sum.downloaders.unite(downloaders);
        }
    }

    /// Seeds and downloaders.
    pub(super) fn counts(&self) -> (u32, u32) {
        (self.sum.seeds.count(), self.sum.downloaders.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// BEP 33's own.
    const VECTOR: &str = "\
        F6C3F5EAA07FFD91BDE89F777F26FB2BFF37BDB8FB2BBAA2FD3DDDE7BACFFF75EE7CCBAE\
        FE5EEDB1FBFAFF67F6ABFF5E43DDBCA3FD9B9FFDF4FFD3E9DFF12D1BDF59DB53DBE9FA5B\
        7FF3B8FDFCDE1AFB8BEDD7BE2F3EE71EBBBFE93BCDEEFE148246C2BC5DBFF7E7EFDCF24F\
        D8DC7ADFFD8FFFDFDDFFF7A4BBEEDF5CB95CE81FC7FCFF1FF4FFFFDFE5F7FDCBB7FD79B3\
        FA1FC77BFE07FFF905B7B7FFC7FEFEFFE0B8370BB0CD3F5B7F2BD93FEB4386CFDD6F7FD5\
        BFAF2E9EBFFFFEECD67ADBF7C67F17EFD5D75EBA6FFEBA7FFF47A91EB1BFBB53E8ABFB57\
        62ABE8FF237279BFEFBFEEF5FFC5FEBFDFE5ADFFADFEE1FB737FFFFBFD9F6AEFFEEE76B6\
        FD8F72EF";

    #[test]
    fn a_filter_is_as_in_bep_33() {
        let mut filter = Filter::default();
        assert_eq!(filter.count(), 0);
        (0..=255).for_each(|n| filter.insert(Ipv4Addr::new(192, 0, 2, n).into()));
        (0..=0x3e7).for_each(|n| filter.insert(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n).into()));
        let hex: String = filter.0.iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(hex, VECTOR);
        assert_eq!(filter.count(), 1_225, "1224.9308");
        assert!(filter.contains(Ipv4Addr::new(192, 0, 2, 7).into()));
    }

    #[test]
    fn what_several_nodes_know_is_counted_once() {
        let ips = |from: u8, to: u8| (from..to).map(|n| IpAddr::from([10, 0, 0, n]));
        let scrape = |seeds: (u8, u8), downloaders: (u8, u8)| {
            let mut scrape = Scrape::default();
            ips(seeds.0, seeds.1).for_each(|ip| scrape.seeds.insert(ip));
            ips(downloaders.0, downloaders.1).for_each(|ip| scrape.downloaders.insert(ip));
            scrape
        };
        let mut census = Census::new(InfoHash([0; 20]));
        census.add(Some(&scrape((0, 20), (100, 160))), ips(0, 0));
        census.add(Some(&scrape((10, 30), (100, 160))), ips(0, 0));
        census.add(None, ips(0, 5));
        census.add(None, ips(155, 165));
        let full = Scrape { seeds: Filter(Box::new([0xff; FILTER_LEN])), ..Scrape::default() };
        census.add(Some(&full), ips(0, 0));
        let (seeds, downloaders) = census.counts();
        assert!(seeds.abs_diff(30) <= 1 && downloaders.abs_diff(65) <= 2, "{seeds} and {downloaders}");
    }
}

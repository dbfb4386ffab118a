//! Which pieces a choked peer may have (BEP 6).

use crate::id::{InfoHash, PieceIndex};
use sha1::{Digest, Sha1};
use std::net::Ipv4Addr;

/// How many pieces are given to a choked peer that starts: the number that BEP 6 suggests.
pub const ALLOWED_FAST_COUNT: usize = 10;

/// The pieces that a peer at `ip` may request while choked, in the canonical order: `count` of them, or all
/// of the torrent's `pieces` if that is fewer.
///
/// They follow from the peer's /24, so that everyone offers it the same ones and more addresses in one
/// network gain nothing. BEP 6 defines no set for IPv6.
pub fn allowed_fast_set(ip: Ipv4Addr, info_hash: InfoHash, pieces: u32, count: usize) -> Vec<PieceIndex> {
    if pieces as usize <= count {
        return (0..pieces).map(PieceIndex).collect();
    }
    let [a, b, c, _] = ip.octets();
    let mut hash: [u8; 20] =
        Sha1::new().chain_update([a, b, c, 0]).chain_update(info_hash.0).finalize().into();
    let mut set = Vec::with_capacity(count);
    while set.len() < count {
        let (words, _) = hash.as_chunks::<4>();
        for word in words {
            let piece = PieceIndex(u32::from_be_bytes(*word) % pieces);
            if set.len() < count && !set.contains(&piece) {
                set.push(piece);
            }
        }
        hash = Sha1::digest(hash).into();
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(ip: [u8; 4], info_hash: [u8; 20], pieces: u32, count: usize) -> Vec<u32> {
        allowed_fast_set(ip.into(), InfoHash(info_hash), pieces, count).iter().map(|p| p.0).collect()
    }

    #[test]
    fn the_examples_of_bep_6() {
        let seven = [1059, 431, 808, 1217, 287, 376, 1188];
        assert_eq!(set([80, 4, 4, 200], [0xaa; 20], 1313, 7), seven);
        let nine = [1059, 431, 808, 1217, 287, 376, 1188, 353, 508];
        assert_eq!(set([80, 4, 4, 200], [0xaa; 20], 1313, 9), nine);
    }

    #[test]
    fn a_small_torrent_is_allowed_whole() {
        assert_eq!(set([10, 0, 0, 1], [0xff; 20], 3, 10), [0, 1, 2]);
        assert!(set([10, 0, 0, 1], [0xff; 20], 0, 10).is_empty());
    }

    proptest! {
        #[test]
        fn distinct_existing_pieces_the_same_for_a_whole_network(
            ip: [u8; 4], last: u8, info_hash: [u8; 20], pieces in 0u32..5_000, count in 0usize..20,
        ) {
            let got = set(ip, info_hash, pieces, count);
            prop_assert_eq!(got.len(), count.min(pieces as usize));
            prop_assert!(got.iter().all(|&p| p < pieces));
            let distinct: std::collections::BTreeSet<u32> = got.iter().copied().collect();
            prop_assert_eq!(distinct.len(), got.len());
            let [a, b, c, _] = ip;
            prop_assert_eq!(set([a, b, c, last], info_hash, pieces, count), got);
        }
    }
}

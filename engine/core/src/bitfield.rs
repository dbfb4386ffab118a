//! A set of pieces, kept as the bits that go over the wire.
//!
//! The words are `u64` with the first piece in the highest bit, so that BEP 3's
//! byte order is the words' big-endian bytes and set arithmetic goes 64 pieces
//! at a time.

use crate::id::PieceIndex;
use bitvec::prelude::*;

/// A set of pieces out of a fixed number of them, with its size at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitfield {
    bits: BitVec<u64, Msb0>,
    ones: u32,
}

impl Bitfield {
    /// No piece out of `len`.
    pub fn empty(len: u32) -> Bitfield {
        Bitfield { bits: BitVec::repeat(false, len as usize), ones: 0 }
    }

    /// Every piece out of `len`.
    pub fn full(len: u32) -> Bitfield {
        let mut full = Bitfield { bits: BitVec::repeat(true, len as usize), ones: len };
        full.bits.set_uninitialized(false);
        full
    }

    /// The set in a BITFIELD message's payload. Spare bits at the end are cleared (BEP 3 wants
    /// them zero; some clients set them).
    ///
    /// `None` if the payload does not have just the bytes that `len` pieces need.
    pub fn from_wire(bytes: &[u8], len: u32) -> Option<Bitfield> {
        if bytes.len() != (len as usize).div_ceil(8) {
            return None;
        }
        let words = bytes.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_be_bytes(word)
        });
        let mut bits: BitVec<u64, Msb0> = BitVec::from_vec(words.collect());
        bits.truncate(len as usize);
        bits.set_uninitialized(false);
        let ones = bits.count_ones() as u32;
        Some(Bitfield { bits, ones })
    }

    /// The payload of a BITFIELD message.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.words().iter().flat_map(|w| w.to_be_bytes()).collect();
        bytes.truncate(self.bits.len().div_ceil(8));
        bytes
    }

    /// Number of pieces that there are, in the set or not.
    pub fn len(&self) -> u32 {
        self.bits.len() as u32
    }

    /// Whether there are no pieces at all, in the set or not.
    pub fn is_empty(&self) -> bool {
        self.bits.is_empty()
    }

    /// Number of pieces in the set.
    pub fn count(&self) -> u32 {
        self.ones
    }

    /// Whether every piece is in the set.
    pub fn is_full(&self) -> bool {
        self.ones == self.len()
    }

    /// Whether `piece` is in the set; false for a piece that does not exist.
    #[inline]
    pub fn has(&self, piece: PieceIndex) -> bool {
        self.bits.get(piece.idx()).is_some_and(|bit| *bit)
    }

    /// Adds `piece`; tells whether it was missing.
    ///
    /// # Panics
    /// If there is no such piece.
    pub fn insert(&mut self, piece: PieceIndex) -> bool {
        let added = !self.bits.replace(piece.idx(), true);
        self.ones += u32::from(added);
        added
    }

    /// Removes `piece`; tells whether it was there.
    ///
    /// # Panics
    /// If there is no such piece.
    pub fn remove(&mut self, piece: PieceIndex) -> bool {
        let removed = self.bits.replace(piece.idx(), false);
        self.ones -= u32::from(removed);
        removed
    }

    /// The pieces in the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.bits.iter_ones().map(|i| PieceIndex(i as u32))
    }

    /// The pieces that are not in the set, in order.
    pub fn iter_zeros(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.bits.iter_zeros().map(|i| PieceIndex(i as u32))
    }

    /// The pieces that are in this set and not in the other, in order.
    pub fn iter_without<'a>(&'a self, other: &'a Bitfield) -> impl Iterator<Item = PieceIndex> + 'a {
        let words = self.words().iter().zip(other.words()).enumerate();
        words.filter(|(_, (a, b))| *a & !*b != 0).flat_map(|(i, (a, b))| {
            let word = a & !b;
            let bits = (0..64).filter(move |bit| word & (1 << (63 - bit)) != 0);
            bits.map(move |bit| PieceIndex(i as u32 * 64 + bit))
        })
    }

    /// 64 pieces a word, the first in the highest bit; bits past the end are zero.
    pub fn words(&self) -> &[u64] {
        self.bits.as_raw_slice()
    }

    /// Whether some piece is in this set and not in the other.
    pub fn has_other_than(&self, other: &Bitfield) -> bool {
        self.words().iter().zip(other.words()).any(|(a, b)| a & !b != 0)
    }

    /// Whether some piece is in both sets.
    pub fn intersects(&self, other: &Bitfield) -> bool {
        self.words().iter().zip(other.words()).any(|(a, b)| a & b != 0)
    }

    /// How many pieces are in both sets.
    pub fn count_common(&self, other: &Bitfield) -> u32 {
        self.words().iter().zip(other.words()).map(|(a, b)| (a & b).count_ones()).sum()
    }

    /// Calls `f` with each piece that is in both sets, in order, until it returns false.
    pub fn for_each_common(&self, other: &Bitfield, f: impl FnMut(PieceIndex) -> bool) {
        self.for_each_common_around(other, PieceIndex(0), f);
    }

    /// The same from a piece on, and then from the first one; pieces of the same word come before it. Returns how many words were
    /// looked at.
    pub fn for_each_common_around(
        &self,
        other: &Bitfield,
        start: PieceIndex,
        mut f: impl FnMut(PieceIndex) -> bool,
    ) -> usize {
        let (ours, others) = (self.words(), other.words());
        let (end, start) = (ours.len().min(others.len()), start.idx() / 64);
        for (nth, i) in (start..end).chain(0..start.min(end)).enumerate() {
            let mut word = ours[i] & others[i];
            while word != 0 {
                let bit = word.leading_zeros();
                word &= !(1 << (63 - bit));
                if !f(PieceIndex(i as u32 * 64 + bit)) {
                    return nth + 1;
                }
            }
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn agrees_with_a_set(len in 1u32..300, start in any::<u32>(), edits in prop::collection::vec((any::<bool>(), any::<u32>()), 0..200)) {
            let (mut field, mut set) = (Bitfield::empty(len), BTreeSet::new());
            for (add, n) in edits {
                let p = PieceIndex(n % len);
                if add {
                    prop_assert_eq!(field.insert(p), set.insert(p));
                } else {
                    prop_assert_eq!(field.remove(p), set.remove(&p));
                }
                prop_assert_eq!(field.count() as usize, set.len());
            }
            prop_assert!(field.iter().eq(set.iter().copied()));
            prop_assert!(field.iter_zeros().eq((0..len).map(PieceIndex).filter(|p| !set.contains(p))));
            let back = Bitfield::from_wire(&field.to_wire(), len).unwrap();
            prop_assert_eq!(&back, &field);
            let mut common = Vec::new();
            field.for_each_common(&Bitfield::full(len), |p| { common.push(p); true });
            prop_assert!(common.iter().eq(set.iter()));
            let mut around = Vec::new();
            let start = PieceIndex(start % len);
            let words = field.for_each_common_around(&back, start, |p| { around.push(p); true });
            prop_assert_eq!(words, field.words().len());
            let word = start.0 / 64;
            prop_assert!(around.is_sorted_by_key(|p| ((p.0 / 64 + words as u32 - word) % words as u32, *p)));
            around.sort_unstable();
            prop_assert_eq!(&around, &common);
            prop_assert_eq!(field.count_common(&back) as usize, set.len());
            prop_assert_eq!(field.count_common(&Bitfield::empty(len)), 0);
        }
    }

    #[test]
    fn spare_bits_are_cleared_and_sizes_checked() {
        let field = Bitfield::from_wire(&[0xff, 0xff], 9).unwrap();
        assert!(field.is_full());
        assert_eq!(field, Bitfield::full(9));
        assert_eq!(field.to_wire(), [0xff, 0x80]);
        assert!(Bitfield::from_wire(&[0xff], 9).is_none());
        assert!(Bitfield::from_wire(&[0xff, 0, 0], 9).is_none());
        assert_eq!(Bitfield::full(64).words(), [u64::MAX]);
    }
}

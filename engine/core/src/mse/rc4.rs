//! RC4.
//!
//! The crate `rc4` does the same, and the tests compare both; but it keeps the two indices in memory, and reads each byte of the state
//! right after the bytes before it were swapped. Here the next one is read ahead of the swap, which takes half the time: the cipher is
//! most of what an encrypted connection costs.

/// The state of the cipher.
pub(super) struct Rc4 {
    state: [u8; 256],
    i: usize,
    j: usize,
}

impl Rc4 {
    /// # Panics
    /// If the key is empty or longer than 256 bytes.
    pub(super) fn new(key: &[u8]) -> Rc4 {
        assert!((1..=256).contains(&key.len()), "a key of 1 to 256 bytes");
        let mut state: [u8; 256] = std::array::from_fn(|n| n as u8);
        let mut j = 0u8;
        for (i, key) in (0..256).zip(key.iter().cycle()) {
            j = j.wrapping_add(state[i]).wrapping_add(*key);
            state.swap(i, usize::from(j));
        }
        Rc4 { state, i: 0, j: 0 }
    }

    /// Transforms bytes in place.
    pub(super) fn apply(&mut self, bytes: &mut [u8]) {
        let mut words = bytes.chunks_exact_mut(8);
        self.key_words(&mut words, |word, key| word.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key));
        words.into_remainder().iter_mut().for_each(|byte| *byte ^= self.key_byte());
    }

    /// Transforms bytes on their way to another place, which is as long.
    pub(super) fn apply_to(&mut self, from: &[u8], to: &mut [u8]) {
        assert_eq!(from.len(), to.len(), "as much room as there are bytes");
        let words = from.chunks_exact(8).zip(to.chunks_exact_mut(8));
        self.key_words(words, |(from, to), key| {
            to.iter_mut().zip(from).zip(key).for_each(|((to, from), key)| *to = from ^ key);
        });
        let rest = from.len() / 8 * 8;
        to[rest..].iter_mut().zip(&from[rest..]).for_each(|(to, from)| *to = from ^ self.key_byte());
    }

    /// Eight bytes of the keystream for each of `words`.
    fn key_words<T>(&mut self, words: impl Iterator<Item = T>, mut each: impl FnMut(T, [u8; 8])) {
        let Rc4 { state, i, j } = self;
        let mut at = (*i + 1) & 255;
        let (mut to, mut here) = (*j, usize::from(state[at]));
        for word in words {
            let mut key = 0;
            for nth in 0..8 {
                let next = (at + 1) & 255;
                let ahead = usize::from(state[next]);
                to = (to + here) & 255;
                let there = usize::from(state[to]);
                state[at] = there as u8;
                state[to] = here as u8;
                key |= u64::from(state[(here + there) & 255]) << (8 * nth);
                // What was read ahead has been swapped.
                here = if to == next { here } else { ahead };
                at = next;
            }
            each(word, key.to_le_bytes());
        }
        (*i, *j) = (at.wrapping_sub(1) & 255, to);
    }

    fn key_byte(&mut self) -> u8 {
        self.i = (self.i + 1) & 255;
        let here = self.state[self.i];
        self.j = (self.j + usize::from(here)) & 255;
        let there = self.state[self.j];
        self.state[self.i] = there;
        self.state[self.j] = here;
        self.state[usize::from(here.wrapping_add(there))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rc4::{KeyInit, StreamCipher};

    proptest! {
        #[test]
        fn the_keystream_is_that_of_the_crate_however_it_is_cut(
            key in prop::collection::vec(any::<u8>(), 1..=256),
            cuts in prop::collection::vec(0usize..300, 1..40),
            in_place: bool,
        ) {
            let (mut ours, mut theirs) = (Rc4::new(&key), rc4::Rc4::new_from_slice(&key).unwrap());
            for (nth, len) in cuts.into_iter().enumerate() {
                let text = vec![nth as u8; len];
                let (mut sent, mut expected) = (text.clone(), text.clone());
                theirs.apply_keystream(&mut expected);
                match in_place {
                    true => ours.apply(&mut sent),
                    false => ours.apply_to(&text, &mut sent),
                }
                prop_assert_eq!(sent, expected);
            }
        }
    }

    #[test]
    fn a_long_keystream_is_that_of_the_crate() {
        // So long that what is read ahead has been swapped thousands of times.
        let (mut ours, mut theirs) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        Rc4::new(b"key").apply(&mut ours);
        rc4::Rc4::new_from_slice(b"key").unwrap().apply_keystream(&mut theirs);
        assert!(ours == theirs);
    }
}

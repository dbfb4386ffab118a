//! Many messages hashed side by side, which is quicker than one after the other where the processor has wide registers.
//!
//! A [`Kernel`] is one way to do it. Which one is used is found by measuring, once for each algorithm: eight lanes need not
//! beat a processor's own instructions for a single message.

mod messages;
#[cfg(target_arch = "x86_64")]
mod vectors;

pub use messages::hash_many;

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The constants of SHA-1 (FIPS 180-4, 4.2.1).
const SHA1_K: [u32; 4] = [0x5a82_7999, 0x6ed9_eba1, 0x8f1b_bcdc, 0xca62_c1d6];

/// The constants of SHA-256 (FIPS 180-4, 4.2.2).
#[rustfmt::skip]
const SHA256_K: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
];

/// Lanes of the widest registers.
const LANES_MAX: usize = 16;

/// A way to hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kernel {
    /// One message after the other, with the processor's SHA instructions where it has them.
    Single,
    /// Eight messages at once.
    Avx2,
    /// Sixteen messages at once.
    Avx512,
}

impl Kernel {
    /// All that there are, on whatever machine.
    pub const ALL: [Kernel; 3] = [Kernel::Single, Kernel::Avx2, Kernel::Avx512];

    /// Whether this machine has what it takes.
    pub fn is_available(self) -> bool {
        match self {
            Kernel::Single => true,
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// Messages at once.
    pub fn lanes(self) -> usize {
        match self {
            Kernel::Single => 1,
            Kernel::Avx2 => 8,
            Kernel::Avx512 => LANES_MAX,
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kernel::Single => "single",
            Kernel::Avx2 => "AVX2",
            Kernel::Avx512 => "AVX-512",
        })
    }
}

/// What is quickest on this machine for an algorithm.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Choice {
    /// How to hash when there are messages enough.
    pub kernel: Kernel,
    /// From how many messages on that is quicker than one message after the other.
    pub messages_min: usize,
}

impl Choice {
    /// This kernel, however few messages there are.
    pub fn always(kernel: Kernel) -> Choice {
        Choice { kernel, messages_min: 1 }
    }
}

/// SHA-1 or SHA-256, as far as several messages at once are concerned.
pub trait Algorithm {
    /// The state between blocks, in words.
    type State: AsRef<[u32]> + AsMut<[u32]> + Clone;
    /// A digest: the state in big-endian bytes.
    type Digest: AsMut<[u8]> + Default + Clone + PartialEq + fmt::Debug;

    /// The state before the first block.
    const INIT: Self::State;

    /// What to use on this machine.
    fn choice() -> Choice;

    /// Hashes blocks of one message on.
    fn compress(state: &mut Self::State, blocks: &[[u8; 64]]);

    /// Hashes `count` blocks of up to as many messages as the kernel has lanes on, `states` and `messages` side by side.
    ///
    /// # Panics
    /// If a message is shorter, or the machine does not have the kernel.
    fn compress_many(kernel: Kernel, states: &mut [Self::State], messages: &[&[u8]], count: usize);
}

/// SHA-1, of pieces of BitTorrent v1.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Sha1Lanes;

/// SHA-256, of leaves of BitTorrent v2.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Sha256Lanes;

/// What is the same for both but for the function's name.
macro_rules! lanes {
    ($function:ident) => {
        fn choice() -> Choice {
            static CHOICE: OnceLock<Choice> = OnceLock::new();
            *CHOICE.get_or_init(choose::<Self>)
        }

        fn compress_many(kernel: Kernel, states: &mut [Self::State], messages: &[&[u8]], count: usize) {
            assert!(kernel.is_available(), "{kernel} on this machine");
            match kernel {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the processor has AVX-512.
                Kernel::Avx512 => side_by_side(states, messages, |states, messages| unsafe {
                    vectors::avx512::$function(states, messages, count)
                }),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the processor has AVX2.
                Kernel::Avx2 => side_by_side(states, messages, |states, messages| unsafe {
                    vectors::avx2::$function(states, messages, count)
                }),
                _ => one_by_one::<Self>(states, messages, count),
            }
        }
    };
}

impl Algorithm for Sha1Lanes {
    type State = [u32; 5];
    type Digest = [u8; 20];

    const INIT: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];

    fn compress(state: &mut [u32; 5], blocks: &[[u8; 64]]) {
        sha1::block_api::compress(state, blocks);
    }

    lanes!(sha1);
}

impl Algorithm for Sha256Lanes {
    type State = [u32; 8];
    type Digest = [u8; 32];

    #[rustfmt::skip]
    const INIT: [u32; 8] = [
        0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19,
    ];

    fn compress(state: &mut [u32; 8], blocks: &[[u8; 64]]) {
        sha2::block_api::compress256(state, blocks);
    }

    lanes!(sha256);
}

fn one_by_one<A: Algorithm>(states: &mut [A::State], messages: &[&[u8]], count: usize) {
    for (state, message) in states.iter_mut().zip(messages) {
        A::compress(state, message[..64 * count].as_chunks().0);
    }
}

/// Runs a kernel with the states turned: word by word in place of message by message. Lanes without a message hash the first
/// one's bytes for nothing.
#[cfg(target_arch = "x86_64")]
fn side_by_side<const WORDS: usize, const LANES: usize>(
    states: &mut [[u32; WORDS]],
    messages: &[&[u8]],
    kernel: impl FnOnce(&mut [[u32; LANES]; WORDS], &[&[u8]; LANES]),
) {
    assert_eq!(states.len(), messages.len());
    assert!((1..=LANES).contains(&messages.len()), "{} messages in {LANES} lanes", messages.len());
    let mut turned = [[0; LANES]; WORDS];
    for (lane, state) in states.iter().enumerate() {
        (0..WORDS).for_each(|word| turned[word][lane] = state[word]);
    }
    let all = std::array::from_fn(|lane| *messages.get(lane).unwrap_or(&messages[0]));
    kernel(&mut turned, &all);
    for (lane, state) in states.iter_mut().enumerate() {
        (0..WORDS).for_each(|word| state[word] = turned[word][lane]);
    }
}

/// Measures what is quickest here; takes less than a millisecond.
fn choose<A: Algorithm>() -> Choice {
    const LEN: usize = 4096;
    let bytes = vec![0x5a; LEN];
    let took = |kernel: Kernel| {
        let mut states = vec![A::INIT; kernel.lanes()];
        let messages = vec![&bytes[..]; kernel.lanes()];
        let mut once = || {
            let begun = Instant::now();
            A::compress_many(kernel, &mut states, &messages, LEN / 64);
            begun.elapsed()
        };
        // The first time is slower, and any may be interrupted.
        (0..4).map(|_| once()).min().unwrap_or(Duration::MAX).max(Duration::from_nanos(1))
    };
    let single = took(Kernel::Single);
    let mut best = (Choice { kernel: Kernel::Single, messages_min: usize::MAX }, single);
    for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.lanes() > 1 && kernel.is_available()) {
        let all = took(kernel);
        let each = all / kernel.lanes() as u32;
        if each < best.1 {
            let messages_min = all.as_nanos() / single.as_nanos() + 1;
            best = (Choice { kernel, messages_min: messages_min as usize }, each);
        }
    }
    best.0
}

#[cfg(test)]
mod tests;

//! SHA-1 and SHA-256 of several messages at once, one message in each 32-bit lane of a vector register: 16 with AVX-512, 8
//! with AVX2. What a register has is the same word of each message, so that the functions of FIPS 180-4 are written as for one.
//!
//! The instructions are safe to call where the processor has them, which the target features of each function say. What is
//! unsafe is to load and store registers (both check their lengths by their types) and to call in from outside, which
//! [`Kernel::is_available`](super::Kernel::is_available) guards.

// Rounds are unrolled, so that all words stay in registers.

macro_rules! sha1_round {
    ($w:ident, $f:ident, $k:ident, $t:expr, $a:ident $b:ident $c:ident $d:ident $e:ident) => {
        if $t >= 16 {
            let old = xor3($w[($t + 13) & 15], $w[($t + 8) & 15], $w[($t + 2) & 15]);
            $w[$t & 15] = rotate_left::<1, 31>(xor(old, $w[$t & 15]));
        }
        $e = add(add($e, $k), add($w[$t & 15], $f($b, $c, $d)));
        $e = add($e, rotate_left::<5, 27>($a));
        $b = rotate_left::<30, 2>($b);
    };
}

macro_rules! sha1_rounds {
    ($w:ident, $f:ident, $k:expr, $a:ident $b:ident $c:ident $d:ident $e:ident, $($t:literal)*) => {
        let k = splat($k);
        $(
            sha1_round!($w, $f, k, $t, $a $b $c $d $e);
            sha1_round!($w, $f, k, $t + 1, $e $a $b $c $d);
            sha1_round!($w, $f, k, $t + 2, $d $e $a $b $c);
            sha1_round!($w, $f, k, $t + 3, $c $d $e $a $b);
            sha1_round!($w, $f, k, $t + 4, $b $c $d $e $a);
        )*
    };
}

macro_rules! sha256_round {
    ($w:ident, $t:expr, $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident) => {
        if $t >= 16 {
            let (x, y) = ($w[($t + 1) & 15], $w[($t + 14) & 15]);
            let (x18, y19) = (rotate_left::<14, 18>(x), rotate_left::<13, 19>(y));
            let sum0 = xor3(rotate_left::<25, 7>(x), x18, shift_right::<3>(x));
            let sum1 = xor3(rotate_left::<15, 17>(y), y19, shift_right::<10>(y));
            $w[$t & 15] = add(add($w[$t & 15], sum0), add($w[($t + 9) & 15], sum1));
        }
        let (e6, e11) = (rotate_left::<26, 6>($e), rotate_left::<21, 11>($e));
        let (a2, a13) = (rotate_left::<30, 2>($a), rotate_left::<19, 13>($a));
        let sum1 = xor3(e6, e11, rotate_left::<7, 25>($e));
        let sum0 = xor3(a2, a13, rotate_left::<10, 22>($a));
        $h = add(add($h, splat(SHA256_K[$t])), add($w[$t & 15], choose($e, $f, $g)));
        $h = add($h, sum1);
        $d = add($d, $h);
        $h = add(add($h, sum0), majority($a, $b, $c));
    };
}

macro_rules! sha256_rounds {
    ($w:ident, $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $($t:literal)*) => {
        $(
            sha256_round!($w, $t, $a $b $c $d $e $f $g $h);
            sha256_round!($w, $t + 1, $h $a $b $c $d $e $f $g);
            sha256_round!($w, $t + 2, $g $h $a $b $c $d $e $f);
            sha256_round!($w, $t + 3, $f $g $h $a $b $c $d $e);
            sha256_round!($w, $t + 4, $e $f $g $h $a $b $c $d);
            sha256_round!($w, $t + 5, $d $e $f $g $h $a $b $c);
            sha256_round!($w, $t + 6, $c $d $e $f $g $h $a $b);
            sha256_round!($w, $t + 7, $b $c $d $e $f $g $h $a);
        )*
    };
}

/// One module for each kind of register, with its own names for the same operations.
macro_rules! kernels {
    (
        $name:ident, $features:literal, $lanes:literal, $vector:ident,
        {$(
            $(#[doc = $doc:literal])*
            fn $operation:ident $(<$(const $shift:ident: i32),*>)? ($($arg:ident: $of:ty),*) $(-> $result:ty)? $body:block
        )*},
        {$load_blocks:item}
    ) => {
        pub(super) mod $name {
            use super::super::{SHA1_K, SHA256_K};
            use std::arch::x86_64::*;

            /// Messages at once.
            pub(in super::super) const LANES: usize = $lanes;
            type V = $vector;
            type Words = [u32; LANES];

            $(
                $(#[doc = $doc])*
                #[inline]
                #[target_feature(enable = $features)]
                fn $operation $(<$(const $shift: i32),*>)? ($($arg: $of),*) $(-> $result)? $body
            )*

            $load_blocks

            #[inline]
            #[target_feature(enable = $features)]
            fn add_to(state: &mut Words, v: V) {
                store(state, add(load(state), v));
            }

            /// Hashes `count` blocks of each message on: the first `64 * count` bytes of each.
            #[target_feature(enable = $features)]
            pub(in super::super) fn sha1(state: &mut [Words; 5], messages: &[&[u8]; LANES], count: usize) {
                for at in (0..count).map(|block| block * 64) {
                    let mut w = load_blocks!(messages, at);
                    let [mut a, mut b, mut c, mut d, mut e] = [
                        load(&state[0]), load(&state[1]), load(&state[2]), load(&state[3]), load(&state[4]),
                    ];
                    sha1_rounds!(w, choose, SHA1_K[0], a b c d e, 0 5 10 15);
                    sha1_rounds!(w, xor3, SHA1_K[1], a b c d e, 20 25 30 35);
                    sha1_rounds!(w, majority, SHA1_K[2], a b c d e, 40 45 50 55);
                    sha1_rounds!(w, xor3, SHA1_K[3], a b c d e, 60 65 70 75);
                    state.iter_mut().zip([a, b, c, d, e]).for_each(|(state, v)| add_to(state, v));
                }
            }

            /// As [`sha1`].
            #[target_feature(enable = $features)]
            pub(in super::super) fn sha256(state: &mut [Words; 8], messages: &[&[u8]; LANES], count: usize) {
                for at in (0..count).map(|block| block * 64) {
                    let mut w = load_blocks!(messages, at);
                    let [mut a, mut b, mut c, mut d] =
                        [load(&state[0]), load(&state[1]), load(&state[2]), load(&state[3])];
                    let [mut e, mut f, mut g, mut h] =
                        [load(&state[4]), load(&state[5]), load(&state[6]), load(&state[7])];
                    sha256_rounds!(w, a b c d e f g h, 0 8 16 24 32 40 48 56);
                    state.iter_mut().zip([a, b, c, d, e, f, g, h]).for_each(|(state, v)| add_to(state, v));
                }
            }
        }
    };
}

/// Bytes of each word in big-endian order, for both halves of 256 bits and all quarters of 512.
const SWAP: [i32; 4] = [0x0001_0203, 0x0405_0607, 0x0809_0a0b, 0x0c0d_0e0f];

kernels!(
    avx512,
    "avx512f,avx512bw",
    16,
    __m512i,
    {
        fn splat(word: u32) -> V {
            _mm512_set1_epi32(word.cast_signed())
        }

        fn load(words: &Words) -> V {
            // SAFETY: 16 words are 64 bytes; the load needs no alignment.
            unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
        }

        fn store(words: &mut Words, v: V) {
            // SAFETY: 16 words are 64 bytes; the store needs no alignment.
            unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), v) }
        }

        fn add(a: V, b: V) -> V {
            _mm512_add_epi32(a, b)
        }

        fn xor(a: V, b: V) -> V {
            _mm512_xor_si512(a, b)
        }

        fn xor3(a: V, b: V, c: V) -> V {
            _mm512_ternarylogic_epi32::<0x96>(a, b, c)
        }

        fn choose(a: V, b: V, c: V) -> V {
            _mm512_ternarylogic_epi32::<0xca>(a, b, c)
        }

        fn majority(a: V, b: V, c: V) -> V {
            _mm512_ternarylogic_epi32::<0xe8>(a, b, c)
        }

        fn rotate_left<const N: i32, const REST: i32>(v: V) -> V {
            _mm512_rol_epi32::<N>(v)
        }

        fn shift_right<const N: i32>(v: V) -> V {
            _mm512_srl_epi32(v, _mm_cvtsi32_si128(N))
        }

        /// One block of one message, its words as numbers.
        fn load_block(message: &[u8], at: usize) -> V {
            let block: &[u8; 64] = message[at..at + 64].try_into().expect("64 bytes");
            let [a, b, c, d] = super::SWAP;
            // SAFETY: the block is 64 bytes; the load needs no alignment.
            let block = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
            _mm512_shuffle_epi8(block, _mm512_set4_epi32(d, c, b, a))
        }

        /// Four rows of a matrix of words as four columns in each of the four quarters.
        fn transpose(messages: &[&[u8]; LANES], first: usize, at: usize) -> [V; 4] {
            let [a, b] = [load_block(messages[first], at), load_block(messages[first + 1], at)];
            let [c, d] = [load_block(messages[first + 2], at), load_block(messages[first + 3], at)];
            let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
            let (ef, gh) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
            [
                _mm512_unpacklo_epi64(ab, cd),
                _mm512_unpackhi_epi64(ab, cd),
                _mm512_unpacklo_epi64(ef, gh),
                _mm512_unpackhi_epi64(ef, gh),
            ]
        }
    },
    {
        /// The 16 words of the block at `at` of each message: one register for each word. A function would not be inlined.
        macro_rules! load_blocks {
            ($messages:ident, $at:ident) => {{
                let mut words = [_mm512_setzero_si512(); 16];
                let (p, q) = (transpose($messages, 0, $at), transpose($messages, 4, $at));
                let (r, s) = (transpose($messages, 8, $at), transpose($messages, 12, $at));
                for i in 0..4 {
                    let (pq, rs) =
                        (_mm512_shuffle_i32x4::<0x44>(p[i], q[i]), _mm512_shuffle_i32x4::<0x44>(r[i], s[i]));
                    words[i] = _mm512_shuffle_i32x4::<0x88>(pq, rs);
                    words[4 + i] = _mm512_shuffle_i32x4::<0xdd>(pq, rs);
                    let (pq, rs) =
                        (_mm512_shuffle_i32x4::<0xee>(p[i], q[i]), _mm512_shuffle_i32x4::<0xee>(r[i], s[i]));
                    words[8 + i] = _mm512_shuffle_i32x4::<0x88>(pq, rs);
                    words[12 + i] = _mm512_shuffle_i32x4::<0xdd>(pq, rs);
                }
                words
            }};
        }
    }
);

kernels!(
    avx2,
    "avx2",
    8,
    __m256i,
    {
        fn splat(word: u32) -> V {
            _mm256_set1_epi32(word.cast_signed())
        }

        fn load(words: &Words) -> V {
            // SAFETY: 8 words are 32 bytes; the load needs no alignment.
            unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
        }

        fn store(words: &mut Words, v: V) {
            // SAFETY: 8 words are 32 bytes; the store needs no alignment.
            unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), v) }
        }

        fn add(a: V, b: V) -> V {
            _mm256_add_epi32(a, b)
        }

        fn xor(a: V, b: V) -> V {
            _mm256_xor_si256(a, b)
        }

        fn xor3(a: V, b: V, c: V) -> V {
            xor(xor(a, b), c)
        }

        fn choose(a: V, b: V, c: V) -> V {
            xor(c, _mm256_and_si256(a, xor(b, c)))
        }

        fn majority(a: V, b: V, c: V) -> V {
            xor(b, _mm256_and_si256(xor(a, b), xor(b, c)))
        }

        fn rotate_left<const N: i32, const REST: i32>(v: V) -> V {
            _mm256_or_si256(_mm256_slli_epi32::<N>(v), _mm256_srli_epi32::<REST>(v))
        }

        fn shift_right<const N: i32>(v: V) -> V {
            _mm256_srli_epi32::<N>(v)
        }

        /// Half a block of one message, its words as numbers.
        fn load_half(message: &[u8], at: usize) -> V {
            let half: &[u8; 32] = message[at..at + 32].try_into().expect("32 bytes");
            let [a, b, c, d] = super::SWAP;
            // SAFETY: the half is 32 bytes; the load needs no alignment.
            let half = unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
            _mm256_shuffle_epi8(half, _mm256_set_epi32(d, c, b, a, d, c, b, a))
        }

        /// Four rows of a matrix of words as four columns in each of the two halves.
        fn transpose(messages: &[&[u8]; LANES], first: usize, at: usize) -> [V; 4] {
            let [a, b] = [load_half(messages[first], at), load_half(messages[first + 1], at)];
            let [c, d] = [load_half(messages[first + 2], at), load_half(messages[first + 3], at)];
            let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
            let (ef, gh) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
            [
                _mm256_unpacklo_epi64(ab, cd),
                _mm256_unpackhi_epi64(ab, cd),
                _mm256_unpacklo_epi64(ef, gh),
                _mm256_unpackhi_epi64(ef, gh),
            ]
        }
    },
    {
        /// The 16 words of the block at `at` of each message: one register for each word. A function would not be inlined.
        macro_rules! load_blocks {
            ($messages:ident, $at:ident) => {{
                let mut words = [_mm256_setzero_si256(); 16];
                for half in 0..2 {
                    let (p, q) =
                        (transpose($messages, 0, $at + 32 * half), transpose($messages, 4, $at + 32 * half));
                    for i in 0..4 {
                        words[8 * half + i] = _mm256_permute2x128_si256::<0x20>(p[i], q[i]);
                        words[8 * half + 4 + i] = _mm256_permute2x128_si256::<0x31>(p[i], q[i]);
                    }
                }
                words
            }};
        }
    }
);

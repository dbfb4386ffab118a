use super::*;
use proptest::prelude::*;
use sha1::Digest as _;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn kernels() -> impl Iterator<Item = Choice> {
    let available = Kernel::ALL.into_iter().filter(|kernel| kernel.is_available());
    available.flat_map(|kernel| [1, 3].map(|messages_min| Choice { kernel, messages_min }))
}

/// Published by NIST with FIPS 180-4.
#[test]
fn published_vectors() {
    let million = vec![b'a'; 1_000_000];
    let long = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    let messages: [Vec<&[u8]>; 4] = [vec![], vec![b"abc"], vec![long], vec![&million]];
    for choice in kernels() {
        let found: Vec<_> = hash_many::<Sha1Lanes>(choice, &messages).iter().map(|d| hex(d)).collect();
        assert_eq!(found[0], "da39a3ee5e6b4b0d3255bfef95601890afd80709", "{choice:?}");
        assert_eq!(found[1], "a9993e364706816aba3e25717850c26c9cd0d89d", "{choice:?}");
        assert_eq!(found[2], "84983e441c3bd26ebaae4aa1f95129e5e54670f1", "{choice:?}");
        assert_eq!(found[3], "34aa973cd4c4daa4f61eeb2bdbad27316534016f", "{choice:?}");
        let found: Vec<_> = hash_many::<Sha256Lanes>(choice, &messages).iter().map(|d| hex(d)).collect();
        assert_eq!(found[0], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(found[1], "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(found[2], "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
        assert_eq!(found[3], "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }
}

/// Messages of lengths around those of blocks, cut into parts anywhere.
fn messages() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    let len = prop_oneof![0..200usize, Just(55), Just(56), Just(63), Just(64), Just(119), 1000..3000usize];
    let part = len.prop_flat_map(|len| prop::collection::vec(any::<u8>(), len));
    prop::collection::vec(prop::collection::vec(part, 0..4), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_kernel_hashes_as_the_crates_do(messages in messages()) {
        let parts: Vec<Vec<&[u8]>> = messages.iter().map(|m| m.iter().map(|part| &part[..]).collect()).collect();
        for choice in kernels() {
            let found = hash_many::<Sha1Lanes>(choice, &parts);
            let found256 = hash_many::<Sha256Lanes>(choice, &parts);
            for (n, message) in messages.iter().enumerate() {
                let expected: [u8; 20] = sha1::Sha1::digest(message.concat()).into();
                prop_assert_eq!(found[n], expected, "{:?}, message {}", choice, n);
                let expected: [u8; 32] = sha2::Sha256::digest(message.concat()).into();
                prop_assert_eq!(found256[n], expected, "{:?}, message {}", choice, n);
            }
        }
    }
}

#[test]
fn what_is_chosen_is_there_and_used_when_it_pays() {
    for choice in [Sha1Lanes::choice(), Sha256Lanes::choice()] {
        assert!(choice.kernel.is_available());
        let is_wide = choice.kernel != Kernel::Single;
        assert!(!is_wide || choice.messages_min <= choice.kernel.lanes(), "{choice:?}");
    }
}

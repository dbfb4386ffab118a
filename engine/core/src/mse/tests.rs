//! Both sides against each other, and each against what strangers may send.

use super::*;
use crate::id::InfoHash;
use crate::rng::Rng;
use Encryption::{Allow, Off, Prefer, Require};
use proptest::prelude::*;

const TORRENT: InfoHash = InfoHash([7; 20]);
const INITIAL: &[u8; 68] = b"\x13BitTorrent protocol, and what else is in a handshake of sixty-eight";

fn key(seed: u64) -> PrivateKey {
    let mut bytes = [0; 20];
    Rng::new(seed).fill(&mut bytes);
    PrivateKey::new(bytes)
}

fn initiator(seed: u64, offered: Methods) -> Handshake {
    Handshake::initiator(KeyPair::new(key(seed)), TORRENT, offered, INITIAL.to_vec(), Rng::new(seed))
}

fn acceptor(seed: u64, policy: Encryption) -> Handshake {
    Handshake::acceptor(key(!seed), policy, Rng::new(!seed))
}

/// One side, and the bytes on their way to it.
struct Side {
    handshake: Handshake,
    arriving: Vec<u8>,
    finished: bool,
}

impl Side {
    fn new(handshake: Handshake) -> Side {
        Side { handshake, arriving: Vec::new(), finished: false }
    }

    /// Carries out what the handshake wants; what it sends. Only [`TORRENT`] is here.
    fn act(&mut self) -> Result<Vec<u8>, MseError> {
        let mut sent = Vec::new();
        while let Some(action) = self.handshake.poll_action() {
            match action {
                Action::Send(bytes) => sent.extend(bytes),
                Action::Agree(agreement) => self.handshake.handle_agreed(agreement.work_out()),
                Action::FindTorrent(hash) => {
                    let found = (hash == ObfuscatedHash::of(TORRENT)).then_some(TORRENT);
                    self.handshake.handle_torrent(found)?;
                }
                Action::Finish => self.finished = true,
            }
        }
        Ok(sent)
    }

    /// Takes at most so many of the bytes that have come. How many it took.
    fn take(&mut self, at_most: usize) -> Result<usize, MseError> {
        let count = self.handshake.wanted().min(at_most).min(self.arriving.len());
        let bytes: Vec<u8> = self.arriving.drain(..count).collect();
        self.handshake.handle_bytes(&bytes)?;
        assert!(self.handshake.wanted() <= PAD_LEN_MAX + 100);
        Ok(count)
    }
}

/// Lets both talk until nothing moves, in fragments that `cut` gives the sizes of.
fn talk(
    initiator: Handshake,
    acceptor: Handshake,
    cut: impl FnMut() -> usize,
) -> Result<[Side; 2], MseError> {
    talk_over(initiator, acceptor, cut, |_, _| {})
}

/// The same, while `change` changes what each side sends.
fn talk_over(
    initiator: Handshake,
    acceptor: Handshake,
    mut cut: impl FnMut() -> usize,
    mut change: impl FnMut(usize, &mut [u8]),
) -> Result<[Side; 2], MseError> {
    let mut sides = [Side::new(initiator), Side::new(acceptor)];
    loop {
        let mut moved = 0;
        for at in [0, 1] {
            let mut sent = sides[at].act()?;
            change(at, &mut sent);
            sides[1 - at].arriving.extend(&sent);
            moved += sent.len() + sides[1 - at].take(cut().max(1))?;
        }
        if moved == 0 {
            return Ok(sides);
        }
    }
}

/// The method, if both sides agree about it and understand each other from then on.
fn understand(sides: [Side; 2]) -> Method {
    let [mut dialled, mut accepted] = sides;
    assert!(dialled.finished && accepted.finished);
    assert!(dialled.arriving.is_empty(), "nothing comes before the initiator knows the method");
    let (mut a, mut b) =
        (dialled.handshake.established().unwrap(), accepted.handshake.established().unwrap());
    assert_eq!(a.method, b.method);
    // What was said first has been left in the stream.
    let mut said = std::mem::take(&mut accepted.arriving);
    said.extend(send(&mut a, b"and this"));
    assert_eq!(receive(&mut b, said, 5), [&INITIAL[..], b"and this"].concat());
    dialled.arriving = send(&mut b, &[9; 1000]);
    assert_eq!(a.method == Method::Plaintext, dialled.arriving == [9; 1000]);
    assert_eq!(receive(&mut a, dialled.arriving, 77), [9; 1000]);
    if a.method == Method::Plaintext {
        assert!(a.incoming.is_none() && b.incoming.is_none_or(|incoming| incoming.is_over()));
    }
    a.method
}

fn send(from: &mut Established, bytes: &[u8]) -> Vec<u8> {
    let mut sent = vec![0; bytes.len()];
    match &mut from.outgoing {
        Some(cipher) => cipher.apply_to(bytes, &mut sent),
        None => sent.copy_from_slice(bytes),
    }
    sent
}

fn receive(at: &mut Established, mut bytes: Vec<u8>, cut: usize) -> Vec<u8> {
    if let Some(incoming) = &mut at.incoming {
        bytes.chunks_mut(cut).for_each(|part| incoming.apply(part));
    }
    bytes
}

#[test]
fn who_offers_and_who_takes_what() {
    for (dials, accepts, method) in [
        (Allow, Allow, Ok(Method::Plaintext)),
        (Allow, Prefer, Ok(Method::Rc4)),
        (Allow, Require, Ok(Method::Rc4)),
        (Prefer, Allow, Ok(Method::Plaintext)),
        (Prefer, Prefer, Ok(Method::Rc4)),
        (Prefer, Require, Ok(Method::Rc4)),
        (Require, Allow, Ok(Method::Rc4)),
        (Require, Prefer, Ok(Method::Rc4)),
        (Require, Require, Ok(Method::Rc4)),
        (Allow, Off, Err(MseError::NoMethod(3))),
        (Require, Off, Err(MseError::NoMethod(2))),
    ] {
        let sides = talk(initiator(1, dials.offered()), acceptor(1, accepts), || 1_000);
        assert_eq!(sides.map(understand), method, "{dials:?} to {accepts:?}");
    }
    let sides = talk(initiator(1, Methods(1)), acceptor(1, Require), || 1_000);
    assert_eq!(sides.err(), Some(MseError::NoMethod(1)));
}

#[test]
fn dials_are_tried_in_the_order_that_the_user_wants() {
    assert_eq!((Off.attempts(true), Require.attempts(false)), (&[false][..], &[true][..]));
    assert_eq!((Allow.attempts(false), Allow.attempts(true)), (&[false, true][..], &[true, false][..]));
    assert_eq!(Prefer.attempts(false), [true, false]);
    assert!(Off.takes_plain() && !Off.takes_encrypted());
    assert!(!Require.takes_plain() && Require.takes_encrypted());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn both_sides_understand_each_other_however_long_pads_are_and_bytes_are_cut(
        seed: u64, cuts: u64, cut_max in 1usize..700, provided in 1u32..4, prefers: bool,
    ) {
        let mut cuts = Rng::new(cuts);
        let accepts = if prefers { Prefer } else { Allow };
        let offered = Methods(provided | 0xff00);
        let sides = talk(initiator(seed, offered), acceptor(seed, accepts), || cuts.index(cut_max));
        let method = understand(sides.unwrap());
        prop_assert!(offered.has(method));
    }

    /// Whatever a peer sends, it ends, and costs no more than its bytes.
    #[test]
    fn garbage_ends_either_side_and_panics_neither(
        seed: u64, bytes in prop::collection::vec(any::<u8>(), 0..2_000), cut in 1usize..300,
    ) {
        for handshake in [initiator(seed, Methods(3)), acceptor(seed, Allow)] {
            let mut side = Side::new(handshake);
            side.arriving = bytes.clone();
            let failed = drive(&mut side, cut);
            prop_assert!(!side.finished);
            prop_assert!(failed.is_some() || side.arriving.is_empty());
        }
    }

    /// A handshake in which bytes have been changed after both keys: it fails, or the bytes did not matter.
    #[test]
    fn changed_bytes_end_it_or_change_nothing(seed: u64, at in 96usize..1_400, bit in 0u8..8, of_acceptor: bool) {
        let mut counts = [0, 0];
        let change = |from: usize, sent: &mut [u8]| {
            let here = at.checked_sub(counts[from]).filter(|_| from == usize::from(of_acceptor));
            here.and_then(|at| sent.get_mut(at)).into_iter().for_each(|byte| *byte ^= 1 << bit);
            counts[from] += sent.len();
        };
        let talked = talk_over(initiator(seed, Methods(2)), acceptor(seed, Require), || usize::MAX, change);
        let Ok(sides) = talked else { return Ok(()) };
        // In what the other side does not look at; or the length of a pad, so that it waits for more.
        prop_assert!(sides.iter().all(|side| side.finished || side.handshake.wanted() > 0));
    }
}

/// Feeds what has come; why it failed, if it did.
fn drive(side: &mut Side, cut: usize) -> Option<MseError> {
    loop {
        match side.act().and_then(|_| side.take(cut)) {
            Err(error) => return Some(error),
            Ok(0) => return None,
            Ok(_) => {}
        }
    }
}

/// What an acceptor says to an initiator that sends this behind a good key.
fn accept_after_key(bytes: &[u8]) -> Option<MseError> {
    let mut side = Side::new(acceptor(3, Allow));
    side.arriving = key(5).public().to_bytes().to_vec();
    side.arriving.extend(bytes);
    drive(&mut side, usize::MAX)
}

#[test]
fn a_pad_without_end_is_left_after_its_longest() {
    let mut side = Side::new(acceptor(3, Allow));
    side.arriving = key(5).public().to_bytes().to_vec();
    side.arriving.resize(100_000, 0xaa);
    assert_eq!(drive(&mut side, 1), Some(MseError::NoSync));
    assert_eq!(side.arriving.len(), 100_000 - KEY_LEN - PAD_LEN_MAX - 20);
    let mut side = Side::new(initiator(3, Methods(3)));
    side.arriving = key(5).public().to_bytes().to_vec();
    side.arriving.resize(100_000, 0xaa);
    assert_eq!(drive(&mut side, 1), Some(MseError::NoSync));
    assert_eq!(side.arriving.len(), 100_000 - KEY_LEN - PAD_LEN_MAX - 8);
    assert_eq!(accept_after_key(&[0; PAD_LEN_MAX + 20]), Some(MseError::NoSync));
    assert_eq!(accept_after_key(&[0; PAD_LEN_MAX + 19]), None, "it may still come");
}

#[test]
fn keys_of_a_known_secret_end_it_before_anything_is_worked_out() {
    for last in [0, 1] {
        for handshake in [initiator(1, Methods(3)), acceptor(1, Allow)] {
            let mut side = Side::new(handshake);
            side.arriving = vec![0; KEY_LEN];
            side.arriving[KEY_LEN - 1] = last;
            assert_eq!(drive(&mut side, 96), Some(MseError::PublicKey));
        }
    }
}

/// The third step of an initiator, with these fields in it.
struct Third {
    torrent: InfoHash,
    vc: [u8; 8],
    provide: u32,
    pad_len: u16,
}

const GOOD: Third = Third { torrent: TORRENT, vc: [0; 8], provide: 3, pad_len: 0 };

/// What an acceptor makes of it, `pad` bytes after the key.
fn accept(third: Third, pad: usize) -> Result<Option<Method>, MseError> {
    let ours = KeyPair::new(key(5));
    let mut side = Side::new(acceptor(3, Allow));
    side.arriving = ours.public.to_bytes().to_vec();
    side.take(KEY_LEN)?;
    let reply = side.act()?;
    let theirs = PublicKey::from_bytes(reply.first_chunk().unwrap())?;
    let secret = Agreement { ours: ours.private, public: Some(ours.public), theirs }.work_out().secret;
    let mut fields = third.vc.to_vec();
    fields.extend(third.provide.to_be_bytes());
    fields.extend(third.pad_len.to_be_bytes());
    fields.resize(fields.len() + usize::from(third.pad_len) + 2, 0);
    Cipher::derive(b"keyA", &secret, third.torrent).apply(&mut fields);
    side.arriving = vec![1; pad];
    side.arriving.extend(cipher::hash(&[b"req1", &secret.0]));
    let (mask, hash) = (cipher::hash(&[b"req3", &secret.0]), ObfuscatedHash::of(third.torrent).0);
    side.arriving.extend(hash.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
    side.arriving.extend(fields);
    match drive(&mut side, usize::MAX) {
        Some(error) => Err(error),
        None => Ok(side.handshake.established().map(|established| established.method)),
    }
}

#[test]
fn what_an_initiator_may_say_and_what_not() {
    for pad in [0, 1, PAD_LEN_MAX] {
        assert_eq!(accept(GOOD, pad), Ok(Some(Method::Plaintext)));
    }
    assert_eq!(accept(GOOD, PAD_LEN_MAX + 1), Err(MseError::NoSync));
    assert_eq!(accept(Third { torrent: InfoHash([8; 20]), ..GOOD }, 0), Err(MseError::NoSuchTorrent));
    assert_eq!(accept(Third { vc: [0, 0, 0, 0, 0, 0, 0, 1], ..GOOD }, 0), Err(MseError::Verification));
    assert_eq!(accept(Third { provide: 0, ..GOOD }, 0), Err(MseError::NoMethod(0)));
    assert_eq!(
        accept(Third { provide: 0xfffe, ..GOOD }, 0),
        Ok(Some(Method::Rc4)),
        "others have more methods"
    );
    assert_eq!(accept(Third { pad_len: 512, ..GOOD }, 0), Ok(Some(Method::Plaintext)));
    assert_eq!(accept(Third { pad_len: 513, ..GOOD }, 0), Err(MseError::PadLength(513)));
    assert_eq!(accept(Third { pad_len: u16::MAX, ..GOOD }, 0), Err(MseError::PadLength(u16::MAX)));
}

/// What an initiator that offered `offered` makes of a fourth step, `pad` bytes after the key.
fn be_told(offered: u32, select: u32, pad: usize, pad_len: u16) -> Result<Option<Method>, MseError> {
    let theirs = KeyPair::new(key(5));
    let mut side = Side::new(initiator(3, Methods(offered)));
    let hello = side.act()?;
    let public = PublicKey::from_bytes(hello.first_chunk().unwrap())?;
    let secret = Agreement { ours: theirs.private, public: Some(theirs.public.clone()), theirs: public }
        .work_out()
        .secret;
    let mut fields = [&[0; 8][..], &select.to_be_bytes(), &pad_len.to_be_bytes()].concat();
    fields.resize(fields.len() + usize::from(pad_len), 0);
    Cipher::derive(b"keyB", &secret, TORRENT).apply(&mut fields);
    side.arriving = theirs.public.to_bytes().to_vec();
    side.arriving.resize(KEY_LEN + pad, 1);
    side.arriving.extend(fields);
    match drive(&mut side, usize::MAX) {
        Some(error) => Err(error),
        None => Ok(side.handshake.established().map(|established| established.method)),
    }
}

#[test]
fn what_an_acceptor_may_say_and_what_not() {
    for pad in [0, 3, PAD_LEN_MAX] {
        assert_eq!(be_told(3, 2, pad, 0), Ok(Some(Method::Rc4)));
        assert_eq!(be_told(3, 1, pad, 512), Ok(Some(Method::Plaintext)));
    }
    assert_eq!(be_told(3, 2, PAD_LEN_MAX + 1, 0), Err(MseError::NoSync));
    for (offered, select) in [(2, 1), (3, 3), (3, 0), (3, 4), (2, 0x8000_0002)] {
        assert_eq!(be_told(offered, select, 0, 0), Err(MseError::NotOffered(select)));
    }
    assert_eq!(be_told(3, 2, 0, 513), Err(MseError::PadLength(513)));
}

#[test]
fn byte_by_byte_nothing_is_waited_for_that_does_not_come() {
    for seed in 0..50 {
        understand(talk(initiator(seed, Methods(3)), acceptor(seed, Allow), || 1).unwrap());
    }
}

#[test]
fn ciphers_work_in_place_and_to_another_place_alike() {
    let text: Vec<u8> = (0..5_000).map(|n| n as u8).collect();
    let (mut one, mut other) = (Cipher::new(b"key"), Cipher::new(b"key"));
    let (mut in_place, mut elsewhere) = (text.clone(), vec![0; text.len()]);
    in_place.chunks_mut(7).for_each(|part| one.apply(part));
    for (from, to) in text.chunks(313).zip(elsewhere.chunks_mut(313)) {
        other.apply_to(from, to);
    }
    assert!(in_place == elsewhere && in_place != text);
}

//! Encrypted handshakes: both sides over a line that changes bytes, and each side against anything.

use crate::Target;
use crate::input::Input;
use std::sync::LazyLock;
use swarm_core::id::InfoHash;
use swarm_core::mse::{
    Action, Encryption, Established, Handshake, KEY_LEN, KeyPair, MseError, ObfuscatedHash, PAD_LEN_MAX,
    PrivateKey,
};
use swarm_core::rng::Rng;

pub(super) const MSE: Target = Target { name: "mse", run: mse, seeds, runs: 5_000 };

const TORRENT: InfoHash = InfoHash([7; 20]);
const INITIAL: &[u8] = b"\x13BitTorrent protocol and so on";
const POLICIES: [Encryption; 4] =
    [Encryption::Allow, Encryption::Prefer, Encryption::Require, Encryption::Off];

static KEYS: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::new(PrivateKey::new([3; 20])));

/// One side, and the bytes on their way to it.
struct Side {
    handshake: Handshake,
    arriving: Vec<u8>,
    taken: usize,
    is_finished: bool,
}

impl Side {
    fn dials(policy: Encryption, rng: Rng) -> Side {
        let keys = KEYS.clone();
        Side::new(Handshake::initiator(keys, TORRENT, policy.offered(), INITIAL.to_vec(), rng))
    }

    fn accepts(policy: Encryption, rng: Rng) -> Side {
        Side::new(Handshake::acceptor(PrivateKey::new([4; 20]), policy, rng))
    }

    fn new(handshake: Handshake) -> Side {
        Side { handshake, arriving: Vec::new(), taken: 0, is_finished: false }
    }

    /// Carries out what the handshake wants; what it sends.
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
                Action::Finish => self.is_finished = true,
            }
        }
        Ok(sent)
    }

    /// Takes some of what has come, if it wants any.
    fn take(&mut self, at_most: usize) -> Result<usize, MseError> {
        let count = self.handshake.wanted().min(at_most).min(self.arriving.len());
        let bytes: Vec<u8> = self.arriving.drain(..count).collect();
        self.taken += count;
        assert!(self.taken <= KEY_LEN + 2 * PAD_LEN_MAX + 100, "{} bytes for a handshake", self.taken);
        self.handshake.handle_bytes(&bytes)?;
        Ok(count)
    }
}

fn mse(input: &[u8]) {
    let mut input = Input(input);
    let rng = Rng::new(input.byte().into());
    match input.below(3) {
        0 => {
            let dials = Side::dials(input.of(&POLICIES), rng.clone());
            alone(dials, input);
        }
        1 => {
            let accepts = Side::accepts(input.of(&POLICIES), rng.clone());
            alone(accepts, input);
        }
        _ => together(input, rng),
    }
}

/// Anything comes.
fn alone(mut side: Side, mut input: Input<'_>) {
    loop {
        if side.act().is_err() {
            return;
        }
        side.arriving.extend_from_slice(input.chunk());
        match side.take(usize::MAX) {
            Ok(0) if side.handshake.wanted() == 0 || input.is_empty() => return,
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// What one says comes to the other, in parts, with some bytes changed.
fn together(mut input: Input<'_>, mut rng: Rng) {
    let (offers, takes) = (input.of(&POLICIES), input.of(&POLICIES));
    let mut sides = [Side::dials(offers, rng.fork()), Side::accepts(takes, rng.fork())];
    let (mut is_changed, mut moved) = (false, 1);
    while moved > 0 {
        moved = 0;
        for at in [0, 1] {
            let Ok(mut sent) = sides[at].act() else { return assert_refused(is_changed, offers, takes) };
            if input.below(8) == 1 && !sent.is_empty() {
                let changed = usize::from(input.u16()) % sent.len();
                sent[changed] ^= input.byte().max(1);
                is_changed = true;
            }
            sides[1 - at].arriving.extend_from_slice(&sent);
            let cut = if input.is_empty() { usize::MAX } else { 1 + usize::from(input.byte()) };
            match sides[1 - at].take(cut) {
                Ok(taken) => moved += sent.len() + taken,
                Err(_) => return assert_refused(is_changed, offers, takes),
            }
        }
    }
    if !is_changed {
        understand(sides);
    }
}

/// Only what somebody has changed, or nobody wants, is refused.
fn assert_refused(is_changed: bool, offers: Encryption, takes: Encryption) {
    assert!(is_changed || takes.choose(offers.offered()).is_none(), "{offers:?} is refused by {takes:?}");
}

fn understand(sides: [Side; 2]) {
    assert!(sides.iter().all(|side| side.is_finished));
    let [mut dialled, mut accepted] = sides;
    let established = |handshake: Handshake| handshake.established().expect("it is finished");
    let (mut a, mut b) = (established(dialled.handshake), established(accepted.handshake));
    assert_eq!(a.method, b.method);
    accepted.arriving.extend(sent(&mut a, b"more"));
    received(&mut b, &mut accepted.arriving);
    assert_eq!(accepted.arriving, [INITIAL, b"more"].concat());
    dialled.arriving.extend(sent(&mut b, b"answer"));
    received(&mut a, &mut dialled.arriving);
    assert_eq!(dialled.arriving, b"answer");
}

fn sent(from: &mut Established, bytes: &[u8]) -> Vec<u8> {
    let mut sent = bytes.to_vec();
    from.outgoing.iter_mut().for_each(|cipher| cipher.apply(&mut sent));
    sent
}

fn received(by: &mut Established, bytes: &mut [u8]) {
    by.incoming.iter_mut().for_each(|cipher| cipher.apply(bytes));
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = (0..16).map(|n| vec![n, 2, n % 4, n / 4]).collect();
    seeds.push(vec![1, 2, 1, 1, 0, 9, 0, 3, 0, 0, 0, 200]);
    seeds.push(vec![1, 2, 1, 1, 1, 0, 150, 4]);
    seeds.extend([0, 1].map(|role| [&[1, role, 0, 255][..], &[9; 255], &[255], &[9; 255]].concat()));
    seeds
}

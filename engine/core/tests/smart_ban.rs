//! Bad and withheld blocks: parole, smart ban and endgame, and what they cost in bytes of the honest seed and in time.

mod common;

use common::*;
use std::collections::{BTreeMap, BTreeSet};
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::{BlockRef, PieceIndex};
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::discovery::Origin;
use swarm_core::torrent::{Action, Config, Event, PAROLE_BYTES, PieceResult, Pressure};
use swarm_core::wire::Message;

const FEW: u32 = 100;

fn corrupt() -> PieceResult {
    PieceResult::Corrupt { digests: vec![[7; 20], [9; 20]] }
}

/// A peer connects that has one piece, and sends what we ask it for: how many blocks.
fn fetch(swarm: &mut Swarm, n: u32, piece: PieceIndex) -> usize {
    swarm.connect(n);
    swarm.say(n, Message::Have(piece));
    swarm.say(n, Message::Unchoke);
    swarm.serve(n, usize::MAX).len()
}

#[test]
fn parole_ends_with_the_first_good_piece_and_bounds_what_comes_before() {
    let mut swarm = Swarm::leecher(FEW, 2);
    swarm.verifies = false;
    let first = swarm.connect_seed(1)[0].piece;
    let served = swarm.serve(1, usize::MAX).len();
    let most = 2 * PAROLE_BYTES / u64::from(BLOCK_LEN);
    assert!(served as u64 <= most, "{served} blocks before the first was looked at");
    swarm.verified(first, written());
    let served = served + swarm.serve(1, usize::MAX).len();
    assert!(served as u32 >= 2 * FEW, "{served} blocks when one of its pieces was right");
}

#[test]
fn smart_ban_clears_who_sent_a_piece_beside_the_banned_peer() {
    let mut swarm = Swarm::leecher(FEW, 2);
    let asked = swarm.connect_seed(1);
    let is_free = |piece: &PieceIndex| asked.iter().all(|block| block.piece != *piece);
    let others: Vec<PieceIndex> = (0..FEW).map(PieceIndex).filter(is_free).collect();
    // Whose pieces have been right is not on parole.
    fetch(&mut swarm, 2, others[0]);
    swarm.verifies = false;
    let (mixed, own) = (asked[0].piece, asked[2].piece);
    assert_ne!(mixed, own, "two blocks in a piece");
    swarm.send_block(1, asked[0]);
    swarm.say(1, Message::Choke);
    swarm.say(1, Message::Reject(asked[1]));
    swarm.say(2, Message::Have(mixed));
    assert_eq!(swarm.asked(2), [asked[1]]);
    for &piece in &others[1..] {
        swarm.say(2, Message::Have(piece));
    }
    swarm.send_block(2, asked[1]);
    asked[2..4].iter().for_each(|&block| drop(swarm.send_block(1, block)));
    swarm.verified(mixed, corrupt());
    swarm.verifies = true;
    let served = swarm.serve(2, usize::MAX);
    assert!(!served.iter().any(|block| block.piece == mixed), "either may have lied");
    let again = requests(&swarm.verified(own, corrupt()));
    assert!(
        again.iter().any(|block| block.piece == mixed),
        "the first has lied, the second is no suspect: {again:?}"
    );
}

#[test]
fn smart_ban_clears_who_sent_a_piece_beside_the_banned_peer_when_another_piece_shows_the_lie() {
    let mut swarm = Swarm::new(config(), all_but(FEW, &[8, 9]), 2);
    swarm.verifies = false;
    let asked = swarm.connect_seed(1);
    let (first, second) = (asked[0].piece, asked[2].piece);
    for sent in [0, 2] {
        swarm.send_block(1, asked[sent]);
    }
    swarm.say(1, Message::Choke);
    for rejected in [1, 3] {
        swarm.say(1, Message::Reject(asked[rejected]));
    }
    assert_eq!([fetch(&mut swarm, 2, first), fetch(&mut swarm, 3, second)], [1, 1]);
    swarm.verified(first, corrupt());
    swarm.verified(second, corrupt());
    swarm.disconnect(1);
    assert_eq!(fetch(&mut swarm, 4, second), 2);
    // Of what failed, the second block was right.
    let result = PieceResult::Written { digests: vec![[1; 20], [9; 20]] };
    let again = requests(&swarm.verified(second, result));
    assert!(again.iter().any(|block| block.piece == first), "its other sender is no suspect: {again:?}");
}

const PIECES: u32 = 256;
const BLOCKS: u32 = 16;
/// The honest seed sends a block in each step, which is 4 MB/s; the others several.
const STEP: Duration = Duration::from_millis(4);
const OTHERS_BLOCKS: usize = 4;
const HONEST: u32 = 1_000;

#[derive(Clone, Copy, PartialEq)]
enum Behaviour {
    Honest,
    /// Corrupts so many of a hundred blocks.
    Lies(u32),
    /// Never sends the last block of a piece.
    Withholds,
}

/// A download from one honest seed and others.
struct Download {
    swarm: Swarm,
    ticked: Time,
    rng: Rng,
    peers: BTreeMap<u32, Behaviour>,
    bad: BTreeSet<BlockRef>,
    /// Blocks that are here, of pieces that are not done.
    held: BTreeSet<BlockRef>,
    /// How many blocks there is memory for.
    memory: usize,
    verifying: Vec<PieceIndex>,
    honest_blocks: u32,
    bans: usize,
    dialled: Vec<std::net::SocketAddr>,
}

impl Download {
    fn new(count: u32, behaviour: Behaviour) -> Download {
        let mut swarm = Swarm::new(Config { seed: 7, ..config() }, Bitfield::empty(PIECES), BLOCKS);
        swarm.verifies = false;
        let mut download = Download {
            swarm,
            ticked: START,
            rng: Rng::new(3),
            peers: (0..count).map(|n| (n, behaviour)).chain([(HONEST, Behaviour::Honest)]).collect(),
            bad: BTreeSet::new(),
            held: BTreeSet::new(),
            memory: usize::MAX,
            verifying: Vec::new(),
            honest_blocks: 0,
            bans: 0,
            dialled: Vec::new(),
        };
        (0..count).chain([HONEST]).for_each(|n| drop(download.swarm.connect_seed(n)));
        download
    }

    fn drain(&mut self) {
        let actions = self.swarm.drain_unchecked();
        self.dialled.extend(dialled(&actions));
        for action in actions {
            match action {
                Action::Close { peer, .. } => drop(self.peers.remove(&peer.0)),
                Action::VerifyPiece { piece, .. } => self.verifying.push(piece),
                Action::DropPiece(piece) => self.forget(piece),
                _ => {}
            }
        }
        let is_ban = |event: &Event| matches!(event, Event::PeerBanned { .. });
        self.bans += self.swarm.events().into_iter().filter(is_ban).count();
    }

    fn forget(&mut self, piece: PieceIndex) {
        self.bad.retain(|block| block.piece != piece);
        self.held.retain(|block| block.piece != piece);
    }

    /// The peer sends the next block, if it sends any.
    fn send_next(&mut self, n: u32) {
        let Some(&behaviour) = self.peers.get(&n) else { return };
        let is_sent =
            |block: &&BlockRef| behaviour != Behaviour::Withholds || block.begin / BLOCK_LEN + 1 < BLOCKS;
        let Some(&block) = self.swarm.asked(n).iter().find(is_sent) else { return };
        let is_bad =
            matches!(behaviour, Behaviour::Lies(percent) if self.rng.below(100) < u64::from(percent));
        self.honest_blocks += u32::from(n == HONEST);
        if self.swarm.handle_block(n, block) {
            self.held.insert(block);
            if is_bad {
                self.bad.insert(block);
            }
        }
        self.drain();
    }

    fn verify(&mut self) {
        for piece in std::mem::take(&mut self.verifying) {
            let digest = |nth| if self.bad.contains(&block(piece.0, nth)) { [2; 20] } else { [1; 20] };
            let digests: Vec<[u8; 20]> = (0..BLOCKS).map(digest).collect();
            let is_good = digests.iter().all(|digest| *digest == [1; 20]);
            let result =
                if is_good { PieceResult::Written { digests } } else { PieceResult::Corrupt { digests } };
            if is_good {
                self.forget(piece);
            }
            self.swarm.torrent.handle_piece_result(self.swarm.now, piece, result);
            self.drain();
        }
    }

    /// Everybody sends what there is time for.
    fn step(&mut self) {
        self.swarm.now += STEP;
        let all: Vec<u32> = self.peers.keys().copied().collect();
        for n in all {
            for _ in 0..if n == HONEST { 1 } else { OTHERS_BLOCKS } {
                self.send_next(n);
            }
        }
        self.verify();
        let pressure = match self.held.len().saturating_mul(100) / self.memory {
            0..60 => Pressure::None,
            60..85 => Pressure::Low,
            _ => Pressure::Full,
        };
        let now = self.swarm.now;
        self.swarm.torrent.set_pressure(now, pressure);
        let is_tick = now.since(self.ticked) >= Duration::from_secs(1);
        if is_tick {
            self.ticked = now;
            self.swarm.torrent.handle_timeout(now);
        }
        self.drain();
        if is_tick {
            self.swarm.torrent.check_invariants();
        }
    }

    /// Runs to the end: how long it took, over what the honest seed alone needs.
    fn run(&mut self) -> f64 {
        let alone = STEP.as_secs_f64() * f64::from(PIECES * BLOCKS);
        let time = |swarm: &Swarm| swarm.now.since(START).as_secs_f64() / alone;
        while !self.swarm.torrent.is_complete() {
            self.step();
            assert!(time(&self.swarm) < 10.0, "it does not end");
        }
        time(&self.swarm)
    }

    fn honest_share(&self) -> f64 {
        f64::from(self.honest_blocks) / f64::from(PIECES * BLOCKS)
    }
}

#[test]
fn smart_ban_finds_each_poisoner_once_and_spoils_no_block_of_the_honest_seed() {
    for (count, percent) in [(4, 100), (6, 20), (30, 50)] {
        let mut download = Download::new(count, Behaviour::Lies(percent));
        let time = download.run();
        assert_eq!(download.bans, count as usize, "{percent} %");
        assert!(time < 1.02, "{count} of {percent} %: {time:.3}");
        assert!(download.honest_share() < 1.01, "{count} of {percent} %: {:.3}", download.honest_share());
    }
}

#[test]
fn endgame_fetches_withheld_blocks_from_the_honest_seed() {
    let time = Download::new(60, Behaviour::Withholds).run();
    assert!(time < 1.02, "{time:.3}");
}

#[test]
fn endgame_under_memory_pressure_fetches_withheld_blocks() {
    for pieces in [20, 50] {
        let mut download = Download::new(60, Behaviour::Withholds);
        download.memory = (pieces * BLOCKS) as usize;
        let time = download.run();
        assert!(time < 1.15, "memory for {pieces} pieces: {time:.3}");
    }
}

#[test]
fn withheld_blocks_do_not_keep_us_from_dialling_others() {
    let mut download = Download::new(60, Behaviour::Withholds);
    download.peers.remove(&HONEST);
    download.swarm.disconnect(HONEST);
    let other = addr(1 << 16);
    download.swarm.torrent.handle_addresses(download.swarm.now, &[other], Origin::User);
    download.drain();
    assert_eq!(download.dialled, [], "there are enough");
    while download.dialled.is_empty() {
        download.step();
        assert!(download.swarm.now < Time::from_micros(3_000_000), "{:?}", download.swarm.torrent.totals());
    }
    assert_eq!(download.dialled, [other]);
}

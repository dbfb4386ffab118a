//! A download beside peers that lie or hold back, on a virtual clock: what they cost, in bytes of the honest seed and in time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::{BLOCK_LEN, Geometry};
use swarm_core::id::{BlockRef, InfoHash, PeerId, PeerKey, PieceIndex};
use swarm_core::peer::PeerInfo;
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::discovery::Origin;
use swarm_core::torrent::{Action, Config, Event, PieceResult, Pressure, Torrent};
use swarm_core::wire::Message;

const PIECES: u32 = 256;
const BLOCKS: u32 = 16;
/// The honest seed sends a block in each step, which is 4 MB/s; the others several.
const STEP: Duration = Duration::from_millis(4);
const OTHERS_BLOCKS: usize = 4;
const HONEST: PeerKey = PeerKey(1_000);

#[derive(Clone, Copy, PartialEq)]
enum Behaviour {
    Honest,
    /// Corrupts so many of a hundred blocks.
    Lies(u32),
    /// Never sends the last block of a piece.
    Withholds,
}

struct Swarm {
    torrent: Torrent,
    geometry: Geometry,
    now: Time,
    ticked: Time,
    rng: Rng,
    peers: BTreeMap<PeerKey, (Behaviour, VecDeque<BlockRef>)>,
    bad: BTreeSet<BlockRef>,
    /// Blocks that are here, of pieces that are not done.
    held: BTreeSet<BlockRef>,
    /// How many blocks there is memory for.
    memory: usize,
    verifying: Vec<PieceIndex>,
    honest_blocks: u32,
    bans: u32,
    dialled: Vec<SocketAddr>,
}

impl Swarm {
    fn new(count: u32, behaviour: Behaviour) -> Swarm {
        let geometry =
            Geometry::new(u64::from(PIECES * BLOCKS * BLOCK_LEN), u64::from(BLOCKS * BLOCK_LEN)).unwrap();
        let config = Config::new(InfoHash([1; 20]), PeerId([9; 20]), 7);
        let mut swarm = Swarm {
            torrent: Torrent::new(config, geometry, Bitfield::empty(PIECES)),
            geometry,
            now: Time::from_micros(1),
            ticked: Time::from_micros(1),
            rng: Rng::new(3),
            peers: BTreeMap::new(),
            bad: BTreeSet::new(),
            held: BTreeSet::new(),
            memory: usize::MAX,
            verifying: Vec::new(),
            honest_blocks: 0,
            bans: 0,
            dialled: Vec::new(),
        };
        let others = (0..count).map(|key| (PeerKey(key), behaviour));
        for (key, behaviour) in others.chain([(HONEST, Behaviour::Honest)]) {
            let addr = SocketAddr::from(([10, 0, (key.0 >> 8) as u8, key.0 as u8], 6881));
            let peer_id = PeerId([key.0 as u8; 20]);
            let info = PeerInfo { addr, inbound: false, peer_id, fast: true, extended: false };
            swarm.peers.insert(key, (behaviour, VecDeque::new()));
            swarm.torrent.handle_connected(swarm.now, key, info);
            swarm.torrent.handle_message(swarm.now, key, &Message::HaveAll);
            swarm.torrent.handle_message(swarm.now, key, &Message::Unchoke);
            swarm.drain();
        }
        swarm
    }

    fn drain(&mut self) {
        while let Some(action) = self.torrent.poll_action() {
            match action {
                Action::Send { peer, message } => {
                    let Some((_, asked)) = self.peers.get_mut(&peer) else { continue };
                    match message {
                        Message::Request(block) => asked.push_back(block),
                        Message::Cancel(block) => asked.retain(|&b| b != block),
                        _ => {}
                    }
                }
                Action::Close { peer, .. } => drop(self.peers.remove(&peer)),
                Action::VerifyPiece { piece, .. } => self.verifying.push(piece),
                Action::DropPiece(piece) => self.forget(piece),
                Action::Connect(dial) => self.dialled.push(dial.addr),
                _ => {}
            }
        }
        while let Some(event) = self.torrent.poll_event() {
            self.bans += u32::from(matches!(event, Event::PeerBanned { .. }));
        }
    }

    fn forget(&mut self, piece: PieceIndex) {
        self.bad.retain(|block| block.piece != piece);
        self.held.retain(|block| block.piece != piece);
    }

    /// The next block that this peer sends, if it sends any.
    fn next_block(&mut self, key: PeerKey) -> Option<BlockRef> {
        let (behaviour, asked) = self.peers.get_mut(&key)?;
        let is_sent =
            |block: &BlockRef| *behaviour != Behaviour::Withholds || block.begin / BLOCK_LEN + 1 < BLOCKS;
        let at = asked.iter().position(is_sent)?;
        let block = asked.remove(at)?;
        let is_bad =
            matches!(*behaviour, Behaviour::Lies(percent) if self.rng.below(100) < u64::from(percent));
        self.honest_blocks += u32::from(key == HONEST);
        if self.torrent.handle_block(self.now, key, block) {
            self.held.insert(block);
            if is_bad {
                self.bad.insert(block);
            }
        }
        Some(block)
    }

    fn verify(&mut self) {
        for piece in std::mem::take(&mut self.verifying) {
            let digest =
                |index| if self.bad.contains(&self.geometry.block(piece, index)) { [2; 20] } else { [1; 20] };
            let digests: Vec<[u8; 20]> = (0..BLOCKS).map(digest).collect();
            let is_good = digests.iter().all(|digest| *digest == [1; 20]);
            let result =
                if is_good { PieceResult::Written { digests } } else { PieceResult::Corrupt { digests } };
            if is_good {
                self.forget(piece);
            }
            self.torrent.handle_piece_result(self.now, piece, result);
            self.drain();
        }
    }

    /// Everybody sends what there is time for.
    fn step(&mut self) {
        self.now += STEP;
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        for key in keys {
            for _ in 0..if key == HONEST { 1 } else { OTHERS_BLOCKS } {
                self.next_block(key);
                self.drain();
            }
        }
        self.verify();
        let pressure = match self.held.len().saturating_mul(100) / self.memory {
            0..60 => Pressure::None,
            60..85 => Pressure::Low,
            _ => Pressure::Full,
        };
        self.torrent.set_pressure(self.now, pressure);
        if self.now.since(self.ticked) >= Duration::from_secs(1) {
            self.ticked = self.now;
            self.torrent.handle_timeout(self.now);
        }
        self.drain();
        if self.ticked == self.now {
            self.torrent.check_invariants();
        }
    }

    /// Runs to the end: how long it took, over what the honest seed alone needs.
    fn run(&mut self) -> f64 {
        let begin = self.now;
        let alone = STEP.as_secs_f64() * f64::from(PIECES * BLOCKS);
        while !self.torrent.is_complete() {
            self.step();
            assert!(self.now.since(begin).as_secs_f64() < 10.0 * alone, "it does not end");
        }
        self.now.since(begin).as_secs_f64() / alone
    }

    fn honest_share(&self) -> f64 {
        f64::from(self.honest_blocks) / f64::from(PIECES * BLOCKS)
    }
}

#[test]
fn poisoners_spoil_no_block_of_the_honest_seed_and_are_banned_once_each() {
    for (count, percent) in [(4, 100), (6, 20), (30, 50)] {
        let mut swarm = Swarm::new(count, Behaviour::Lies(percent));
        let time = swarm.run();
        assert!(swarm.bans <= count, "{percent} %");
        assert!(time < 1.02, "{count} of {percent} %: {time:.3}");
        assert!(swarm.honest_share() < 1.01, "{count} of {percent} %: {:.3}", swarm.honest_share());
    }
}

#[test]
fn withheld_blocks_are_had_from_the_honest_seed_in_the_endgame() {
    let time = Swarm::new(60, Behaviour::Withholds).run();
    assert!(time < 1.02, "{time:.3}");
}

#[test]
fn withheld_blocks_do_not_fill_the_memory_for_long() {
    for pieces in [20, 50] {
        let mut swarm = Swarm::new(60, Behaviour::Withholds);
        swarm.memory = (pieces * BLOCKS) as usize;
        let time = swarm.run();
        assert!(time < 1.15, "memory for {pieces} pieces: {time:.3}");
    }
}

#[test]
fn who_holds_back_does_not_keep_us_from_dialling_others() {
    let mut swarm = Swarm::new(60, Behaviour::Withholds);
    swarm.torrent.handle_disconnected(swarm.now, HONEST);
    swarm.peers.remove(&HONEST);
    let other = SocketAddr::from(([10, 1, 0, 1], 6881));
    swarm.torrent.handle_addresses(swarm.now, &[other], Origin::User);
    swarm.drain();
    assert_eq!(swarm.dialled, [], "there are enough");
    while swarm.dialled.is_empty() {
        swarm.step();
        assert!(swarm.now < Time::from_micros(3_000_000), "{:?}", swarm.torrent.totals());
    }
    assert_eq!(swarm.dialled, [other]);
}

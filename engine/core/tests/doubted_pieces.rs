//! Pieces that may be here no longer: what peers are told and sent of them, and when one is hashed again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::{BLOCK_LEN, Geometry};
use swarm_core::id::{BlockRef, InfoHash, PeerId, PeerKey, PieceIndex};
use swarm_core::peer::PeerInfo;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::{
    Action, CloseReason, Config, Event, PieceResult, REHASH_INTERVAL, REHASH_REST, Torrent,
};
use swarm_core::wire::Message;
use swarm_core::wire::extension::{
    EXTENSION_HANDSHAKE_ID, Extension, ExtensionHandshake, decode_piece, decode_upload_only,
};

const PIECES: u32 = 100;
/// What peers of these tests call BEP 54's message.
const DONT_HAVE: u8 = 7;
const UPLOAD_ONLY: u8 = 8;

struct Swarm {
    torrent: Torrent,
    now: Time,
}

impl Swarm {
    fn new(have: Bitfield) -> Swarm {
        let geometry = Geometry::new(u64::from(PIECES * 2 * BLOCK_LEN), u64::from(2 * BLOCK_LEN)).unwrap();
        let config = Config::new(InfoHash([1; 20]), PeerId([9; 20]), 42);
        Swarm { torrent: Torrent::new(config, geometry, have), now: Time::from_micros(1) }
    }

    fn seed() -> Swarm {
        Swarm::new(Bitfield::full(PIECES))
    }

    fn drain(&mut self) -> Vec<Action> {
        self.torrent.check_invariants();
        std::iter::from_fn(|| self.torrent.poll_action()).collect()
    }

    /// A peer that has nothing, wants everything, and knows BEP 54 or not.
    fn leecher(&mut self, key: u32, knows_dont_have: bool) -> Vec<Action> {
        let addr = SocketAddr::from(([10, 0, 0, key as u8], 6881));
        let info = PeerInfo {
            addr,
            inbound: true,
            peer_id: PeerId([key as u8; 20]),
            fast: knows_dont_have,
            extended: knows_dont_have,
        };
        self.torrent.handle_connected(self.now, PeerKey(key), info);
        if knows_dont_have {
            let ids =
                BTreeMap::from([(Extension::DontHave, DONT_HAVE), (Extension::UploadOnly, UPLOAD_ONLY)]);
            let hello = ExtensionHandshake { ids, ..ExtensionHandshake::default() };
            self.send(key, Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload: hello.encode() });
        }
        self.send(key, Message::Interested)
    }

    fn send(&mut self, key: u32, message: Message) -> Vec<Action> {
        self.torrent.handle_message(self.now, PeerKey(key), &message);
        self.drain()
    }

    fn doubt(&mut self, pieces: &[u32], wanted: bool) -> Vec<Action> {
        let pieces: Vec<PieceIndex> = pieces.iter().copied().map(PieceIndex).collect();
        self.torrent.handle_pieces_doubted(self.now, &pieces, wanted);
        self.drain()
    }

    fn checked(&mut self, piece: u32, is_right: bool) -> Vec<Action> {
        self.torrent.handle_piece_checked(self.now, PieceIndex(piece), is_right);
        self.drain()
    }

    /// The peer asks for a whole piece and is sent it: what we are to do then.
    fn take(&mut self, key: u32, piece: u32) -> Vec<Action> {
        for begin in [0, BLOCK_LEN] {
            self.send(key, Message::Request(BlockRef { piece: PieceIndex(piece), begin, len: BLOCK_LEN }));
            assert!(self.torrent.next_upload(self.now, PeerKey(key)).is_some(), "{piece} is served");
        }
        self.drain()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.torrent.handle_timeout(self.now);
        self.drain();
    }
}

fn block(piece: u32) -> BlockRef {
    BlockRef { piece: PieceIndex(piece), begin: 0, len: BLOCK_LEN }
}

/// The pieces that a peer is told are not here any more.
fn taken_back(actions: &[Action], key: u32) -> Vec<u32> {
    let told = |action: &Action| match action {
        Action::Send { peer, message: Message::Extended { id: DONT_HAVE, payload } } if peer.0 == key => {
            decode_piece(payload).map(|piece| piece.0)
        }
        _ => None,
    };
    actions.iter().filter_map(told).collect()
}

fn closed(actions: &[Action]) -> Vec<(u32, CloseReason)> {
    let closed = |action: &Action| match action {
        Action::Close { peer, reason } => Some((peer.0, reason.clone())),
        _ => None,
    };
    actions.iter().filter_map(closed).collect()
}

fn checks(actions: &[Action]) -> Vec<u32> {
    let check = |action: &Action| match action {
        Action::CheckPiece(piece) => Some(piece.0),
        _ => None,
    };
    actions.iter().filter_map(check).collect()
}

#[test]
fn doubted_piece_is_neither_offered_nor_sent() {
    let mut swarm = Swarm::seed();
    swarm.leecher(1, true);
    swarm.leecher(2, false);
    swarm.send(1, Message::Have(PieceIndex(4)));
    swarm.send(1, Message::Request(block(5)));
    let actions = swarm.doubt(&[3, 4, 5], false);
    assert_eq!(taken_back(&actions, 1), [3, 5], "what it has is nothing to it");
    let rejected = Action::Send { peer: PeerKey(1), message: Message::Reject(block(5)) };
    assert!(actions.contains(&rejected));
    assert_eq!(swarm.torrent.next_upload(swarm.now, PeerKey(1)), None);
    assert!(closed(&actions).is_empty());
    // Somebody who comes now is told what is here.
    let greeting = swarm.leecher(3, true);
    assert!(!greeting.contains(&Action::Send { peer: PeerKey(3), message: Message::HaveAll }));
    // Asking is no offence: it may not know yet.
    for _ in 0..200 {
        assert!(closed(&swarm.send(2, Message::Request(block(3)))).is_empty());
    }
    assert_eq!(swarm.torrent.next_upload(swarm.now, PeerKey(2)), None);
}

#[test]
fn piece_that_is_right_is_offered_again_and_one_that_is_bad_is_not() {
    let mut swarm = Swarm::seed();
    swarm.leecher(1, true);
    swarm.leecher(2, false);
    swarm.leecher(3, false);
    swarm.send(3, Message::Have(PieceIndex(5)));
    swarm.doubt(&[3, 5], false);
    assert_eq!(swarm.checked(3, true), [Action::BroadcastHave(PieceIndex(3))]);
    swarm.send(1, Message::Request(block(3)));
    assert_eq!(swarm.torrent.next_upload(swarm.now, PeerKey(1)), Some(block(3)));
    // Who knows no BEP 54 and lacks the piece has to come again to be told.
    assert_eq!(closed(&swarm.checked(5, false)), [(2, CloseReason::PieceLost)]);
    assert!(!swarm.torrent.have().has(PieceIndex(5)) && swarm.torrent.have().count() == PIECES - 1);
    assert!(swarm.torrent.is_complete(), "a seed wants nothing");
}

#[test]
fn download_fetches_what_turned_out_bad_and_nothing_sooner() {
    let mut swarm = Swarm::seed();
    let seed = |swarm: &mut Swarm, key: u32| {
        swarm.leecher(key, true);
        let mut actions = swarm.send(key, Message::HaveAll);
        actions.extend(swarm.send(key, Message::Unchoke));
        actions
    };
    swarm.leecher(1, true);
    let actions = swarm.doubt(&[3, 5], true);
    let wants = |action: &Action| match action {
        Action::Send { message: Message::Extended { id: UPLOAD_ONLY, payload }, .. } => {
            decode_upload_only(payload) == Some(false)
        }
        _ => false,
    };
    assert!(!swarm.torrent.is_complete() && actions.iter().any(wants));
    let is_request = |action: &Action| matches!(action, Action::Send { message: Message::Request(_), .. });
    let actions = seed(&mut swarm, 2);
    assert!(!actions.iter().any(is_request), "it may be right");
    swarm.checked(3, true);
    let actions = swarm.checked(5, false);
    assert_eq!(actions.iter().filter(|action| is_request(action)).count(), 2);
    for begin in [0, BLOCK_LEN] {
        let block = BlockRef { piece: PieceIndex(5), begin, len: BLOCK_LEN };
        assert!(swarm.torrent.handle_block(swarm.now, PeerKey(2), block));
    }
    while swarm.torrent.poll_event().is_some() {}
    swarm.torrent.handle_piece_result(swarm.now, PieceIndex(5), PieceResult::Written { digests: vec![] });
    swarm.drain();
    let events: Vec<Event> = std::iter::from_fn(|| swarm.torrent.poll_event()).collect();
    assert!(swarm.torrent.is_complete() && events.contains(&Event::Completed), "{events:?}");
}

#[test]
fn seeds_that_were_done_with_are_dialled_again_when_something_is_wanted_again() {
    let mut swarm = Swarm::seed();
    let addr = SocketAddr::from(([10, 0, 0, 1], 6881));
    let info = PeerInfo { addr, inbound: false, peer_id: PeerId([1; 20]), fast: true, extended: false };
    swarm.torrent.handle_connected(swarm.now, PeerKey(1), info);
    assert_eq!(closed(&swarm.send(1, Message::HaveAll)), [(1, CloseReason::BothComplete)]);
    swarm.pass(Duration::from_secs(600));
    let actions = swarm.doubt(&[3], true);
    assert!(actions.iter().any(|action| matches!(action, Action::Connect(dial) if dial.addr == addr)));
}

#[test]
fn super_seed_with_a_doubt_hides_nothing_any_more() {
    let geometry = Geometry::new(u64::from(PIECES * 2 * BLOCK_LEN), u64::from(2 * BLOCK_LEN)).unwrap();
    let config = Config { super_seeding: true, ..Config::new(InfoHash([1; 20]), PeerId([9; 20]), 42) };
    let torrent = Torrent::new(config, geometry, Bitfield::full(PIECES));
    let mut swarm = Swarm { torrent, now: Time::from_micros(1) };
    (1..=5).for_each(|key| drop(swarm.leecher(key, true)));
    assert!(swarm.torrent.is_super_seeding());
    let actions = swarm.doubt(&[3], false);
    assert_eq!(taken_back(&actions, 1), [3]);
    assert!(!swarm.torrent.is_super_seeding());
}

#[test]
fn piece_that_two_addresses_took_twice_is_hashed_again() {
    let mut swarm = Swarm::seed();
    swarm.leecher(1, true);
    swarm.leecher(2, true);
    for key in [1, 2, 1] {
        assert_eq!(checks(&swarm.take(key, 3)), [0; 0], "one may have had a reason of its own");
    }
    assert_eq!(checks(&swarm.take(2, 3)), [3]);
    // What it was found to be holds for a while.
    swarm.pass(REHASH_INTERVAL);
    for key in [1, 2, 1, 2, 1, 2] {
        assert_eq!(checks(&swarm.take(key, 3)), [0; 0]);
    }
}

#[test]
fn hashing_again_has_a_budget() {
    let mut swarm = Swarm::seed();
    swarm.leecher(1, true);
    swarm.leecher(2, true);
    let mut asked = 0;
    for _ in 0..4 {
        for piece in 0..PIECES {
            asked += checks(&swarm.take(1, piece)).len() + checks(&swarm.take(2, piece)).len();
        }
    }
    assert_eq!(asked, 1, "no time has passed");
    let seconds = REHASH_REST.as_secs();
    for second in 0..seconds {
        swarm.pass(Duration::from_secs(1));
        let piece = (second / 4) as u32 % PIECES;
        asked += checks(&swarm.take(1, piece)).len() + checks(&swarm.take(2, piece)).len();
    }
    assert!(asked as u64 <= 1 + seconds / REHASH_INTERVAL.as_secs(), "{asked} in {seconds} s");
}

//! Peers that serve one another in turns: what they tell each other of what they want.

use std::collections::VecDeque;
use std::net::SocketAddr;
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::{BLOCK_LEN, Geometry};
use swarm_core::id::{BlockRef, InfoHash, PeerId, PeerKey, PieceIndex};
use swarm_core::peer::PeerInfo;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::{Action, Config, PieceResult, Torrent, UploadPolicy};
use swarm_core::wire::Message;
use swarm_core::wire::extension::{
    EXTENSION_HANDSHAKE_ID, Extension, ExtensionHandshake, decode_run, encode_load, encode_piece, encode_run,
};

const PIECES: u32 = 8;
const BLOCKS: u32 = 4;
/// Their numbers for extension messages are ours and this.
const THEIRS: u8 = 100;

struct Swarm {
    torrent: Torrent,
    now: Time,
}

impl Swarm {
    fn new(have: Bitfield) -> Swarm {
        Swarm::with_pieces_of(BLOCKS, have)
    }

    fn with_pieces_of(blocks: u32, have: Bitfield) -> Swarm {
        Swarm::with(UploadPolicy::Cooperative, blocks, have)
    }

    fn with(policy: UploadPolicy, blocks: u32, have: Bitfield) -> Swarm {
        let piece_len = blocks * BLOCK_LEN;
        let geometry = Geometry::new(u64::from(PIECES * piece_len), u64::from(piece_len)).unwrap();
        let mut config = Config::new(InfoHash([1; 20]), PeerId([9; 20]), 42);
        config.upload_policy = policy;
        Swarm { torrent: Torrent::new(config, geometry, have), now: Time::from_micros(1) }
    }

    /// A peer that has these pieces; what it is told.
    fn meet(&mut self, key: u32, pieces: &[u32]) -> Vec<(u32, Message)> {
        self.meet_with(key, pieces, &[Extension::Load, Extension::Soon])
    }

    /// A peer that has these pieces and takes these extension messages; what it is told.
    fn meet_with(&mut self, key: u32, pieces: &[u32], takes: &[Extension]) -> Vec<(u32, Message)> {
        let addr = SocketAddr::from(([10, 0, 0, key as u8], 6881));
        let peer_id = PeerId([key as u8; 20]);
        let info = PeerInfo { addr, inbound: false, peer_id, fast: true, extended: true };
        self.torrent.handle_connected(self.now, PeerKey(key), info);
        self.torrent.handle_message(self.now, PeerKey(key), &Message::HaveNone);
        let ids = takes.iter().map(|&extension| (extension, THEIRS + extension.local_id())).collect();
        let hello = ExtensionHandshake { ids, ..ExtensionHandshake::default() };
        let hello = Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload: hello.encode() };
        self.torrent.handle_message(self.now, PeerKey(key), &hello);
        for &piece in pieces {
            self.torrent.handle_message(self.now, PeerKey(key), &Message::Have(PieceIndex(piece)));
        }
        self.told()
    }

    fn hear(&mut self, key: u32, message: Message) -> Vec<(u32, Message)> {
        self.torrent.handle_message(self.now, PeerKey(key), &message);
        self.told()
    }

    /// What peers were told since, by key.
    fn told(&mut self) -> Vec<(u32, Message)> {
        self.torrent.check_invariants();
        std::iter::from_fn(|| self.torrent.poll_action())
            .filter_map(|action| match action {
                Action::Send { peer, message } => Some((peer.0, message)),
                _ => None,
            })
            .collect()
    }
}

fn requested(told: &[(u32, Message)], key: u32) -> Vec<u32> {
    let piece = |message: &Message| match message {
        Message::Request(block) => Some(block.piece.0),
        _ => None,
    };
    told.iter().filter(|(to, _)| *to == key).filter_map(|(_, message)| piece(message)).collect()
}

#[test]
fn who_has_nothing_that_is_not_on_its_way_hears_so_until_it_does() {
    let mut swarm = Swarm::new(Bitfield::empty(PIECES));
    assert!(swarm.meet(1, &[3]).contains(&(1, Message::Interested)));
    assert!(swarm.meet(2, &[3]).contains(&(2, Message::Interested)));
    assert!(swarm.meet(3, &[3, 4]).contains(&(3, Message::Interested)));

    let told = swarm.hear(1, Message::Unchoke);
    assert_eq!(requested(&told, 1), [3; BLOCKS as usize]);
    assert!(told.contains(&(2, Message::NotInterested)), "it has only what another sends us: {told:?}");
    assert!(!told.contains(&(3, Message::NotInterested)), "it has another piece for us: {told:?}");

    // A turn offered meanwhile is passed on.
    assert_eq!(swarm.hear(2, Message::Unchoke), [(2, Message::NotInterested)]);
    assert_eq!(swarm.hear(2, Message::Choke), []);
    // It gets another piece.
    assert!(swarm.hear(2, Message::Have(PieceIndex(5))).contains(&(2, Message::Interested)));

    // The first leaves, so that its piece is to be had from anyone.
    let told = swarm.hear(3, Message::Unchoke);
    assert_eq!(requested(&told, 3), [4; BLOCKS as usize]);
    swarm.torrent.handle_disconnected(swarm.now, PeerKey(1));
    swarm.told();
    let told = swarm.hear(2, Message::Unchoke);
    assert!(requested(&told, 2).iter().all(|&piece| piece == 3 || piece == 5), "{told:?}");
    assert_eq!(requested(&told, 2).len(), BLOCKS as usize);
}

#[test]
fn towards_the_end_nobody_is_told_to_stay_away_for_long() {
    let mut have = Bitfield::full(PIECES);
    have.remove(PieceIndex(3));
    let mut swarm = Swarm::new(have);
    swarm.meet(1, &[3]);
    swarm.meet(2, &[3]);
    assert_eq!(requested(&swarm.hear(1, Message::Unchoke), 1), [3; BLOCKS as usize]);
    // All that is missing is on its way, from one peer. If that is slow, the other is asked.
    let mut told = Vec::new();
    for _ in 0..3 {
        swarm.now += Duration::from_secs(1);
        swarm.torrent.handle_timeout(swarm.now);
        told.extend(swarm.told());
    }
    assert!(swarm.torrent.peer(PeerKey(2)).is_some_and(|peer| peer.am_interested), "{told:?}");
    let told = swarm.hear(2, Message::Unchoke);
    assert!(!requested(&told, 2).is_empty(), "{told:?}");
}

fn block(piece: u32, nth: u32) -> BlockRef {
    BlockRef { piece: PieceIndex(piece), begin: nth * BLOCK_LEN, len: BLOCK_LEN }
}

/// A message about our load, as the other side would get it.
fn load(pieces: usize) -> Message {
    Message::Extended { id: THEIRS + Extension::Load.local_id(), payload: encode_load(pieces) }
}

/// "I shall have this piece soon", from us.
fn soon(piece: u32) -> Message {
    Message::Extended { id: THEIRS + Extension::Soon.local_id(), payload: encode_piece(PieceIndex(piece)) }
}

#[test]
fn peers_hear_how_much_is_on_its_way_unless_they_can_tell() {
    let mut swarm = Swarm::new(Bitfield::empty(PIECES));
    (1..=4).for_each(|key| drop(swarm.meet(key, &[key])));
    let told = swarm.hear(1, Message::Unchoke);
    assert_eq!(requested(&told, 1).len(), BLOCKS as usize);
    assert!((1..=4).all(|key| told.contains(&(key, load(1)))), "{told:?}");
    assert!(swarm.hear(2, Message::Unchoke).contains(&(4, load(2))));
    // One of the two is here, so that they count one.
    (0..BLOCKS).for_each(|nth| _ = swarm.torrent.handle_block(swarm.now, PeerKey(1), block(1, nth)));
    swarm.torrent.handle_piece_result(swarm.now, PieceIndex(1), PieceResult::Written { digests: Vec::new() });
    let told = swarm.told();
    let is_load = |message: &Message| matches!(message, Message::Extended { id, .. } if *id == THEIRS + Extension::Load.local_id());
    assert!(!told.iter().any(|(_, message)| is_load(message)), "{told:?}");
    assert!(swarm.hear(3, Message::Unchoke).contains(&(1, load(2))));
}

fn soon_to_us(piece: u32) -> Message {
    Message::Extended { id: Extension::Soon.local_id(), payload: encode_piece(PieceIndex(piece)) }
}

/// A swarm that gets piece 3 of peer 1 and has promised it to peer 2, and what that was told.
fn promised() -> (Swarm, Vec<(u32, Message)>) {
    let mut swarm = Swarm::new(Bitfield::empty(PIECES));
    swarm.meet(1, &[3]);
    swarm.meet(2, &[]);
    swarm.hear(1, Message::Unchoke);
    let mut told = Vec::new();
    for nth in 0..BLOCKS - 1 {
        swarm.now += Duration::from_millis(20);
        swarm.torrent.handle_block(swarm.now, PeerKey(1), block(3, nth));
        told.extend(swarm.told());
    }
    (swarm, told)
}

#[test]
fn a_piece_that_is_coming_may_be_asked_for_and_is_sent_once_it_is_verified() {
    let (mut swarm, told) = promised();
    let promise = told.iter().position(|told| *told == (2, soon(3)));
    let unchoke = told.iter().position(|told| *told == (2, Message::Unchoke));
    assert!(promise.is_some() && promise < unchoke, "{told:?}");
    (0..BLOCKS).for_each(|nth| {
        assert_eq!(
            swarm
                .hear(2, Message::Request(block(3, nth)))
                .iter()
                .filter(|(_, m)| matches!(m, Message::Reject(_)))
                .count(),
            0
        )
    });
    assert_eq!(swarm.torrent.next_upload(swarm.now, PeerKey(2)), None, "it is not here");
    swarm.torrent.handle_block(swarm.now, PeerKey(1), block(3, BLOCKS - 1));
    assert_eq!(swarm.torrent.next_upload(swarm.now, PeerKey(2)), None, "it is not verified");
    swarm.torrent.handle_piece_result(swarm.now, PieceIndex(3), PieceResult::Written { digests: Vec::new() });
    let actions: Vec<Action> = std::iter::from_fn(|| swarm.torrent.poll_action()).collect();
    let have = actions.iter().position(|action| *action == Action::BroadcastHave(PieceIndex(3)));
    let upload = actions.iter().position(|action| *action == Action::Upload(PeerKey(2)));
    assert!(have.is_some() && have < upload, "{actions:?}");
    let sent: Vec<BlockRef> =
        std::iter::from_fn(|| swarm.torrent.next_upload(swarm.now, PeerKey(2))).collect();
    assert_eq!(sent, (0..BLOCKS).map(|nth| block(3, nth)).collect::<Vec<_>>());
}

#[test]
fn a_promised_piece_that_fails_or_does_not_come_is_refused() {
    for fails in [true, false] {
        let (mut swarm, _) = promised();
        (0..BLOCKS).for_each(|nth| drop(swarm.hear(2, Message::Request(block(3, nth)))));
        let refused = if fails {
            swarm.torrent.handle_block(swarm.now, PeerKey(1), block(3, BLOCKS - 1));
            let digests = vec![[0; 20]; BLOCKS as usize];
            swarm.torrent.handle_piece_result(swarm.now, PieceIndex(3), PieceResult::Corrupt { digests });
            swarm.told()
        } else {
            let mut told = Vec::new();
            for _ in 0..4 {
                swarm.now += Duration::from_secs(1);
                swarm.torrent.handle_timeout(swarm.now);
                told.extend(swarm.told());
            }
            told
        };
        assert!((0..BLOCKS).all(|nth| refused.contains(&(2, Message::Reject(block(3, nth))))), "{refused:?}");
        assert_eq!(swarm.torrent.next_upload(swarm.now, PeerKey(2)), None);
    }
}

#[test]
fn to_ask_for_what_was_promised_in_vain_is_no_offence() {
    let blocks = 100;
    let mut swarm = Swarm::with_pieces_of(blocks, Bitfield::empty(PIECES));
    swarm.meet(1, &[3]);
    swarm.meet(2, &[]);
    swarm.hear(1, Message::Unchoke);
    let mut told = Vec::new();
    for nth in 0..blocks {
        swarm.now += Duration::from_millis(1);
        swarm.torrent.handle_block(swarm.now, PeerKey(1), block(3, nth));
        told.extend(swarm.told());
    }
    assert!(told.contains(&(2, soon(3))), "{told:?}");
    let digests = vec![[0; 20]; blocks as usize];
    swarm.torrent.handle_piece_result(swarm.now, PieceIndex(3), PieceResult::Corrupt { digests });
    for nth in 0..blocks {
        let told = swarm.hear(2, Message::Request(block(3, nth)));
        assert!(told.contains(&(2, Message::Reject(block(3, nth)))), "{told:?}");
    }
    assert!(swarm.torrent.peer(PeerKey(2)).is_some());
    // What was never promised is another matter.
    (0..blocks).for_each(|nth| drop(swarm.hear(2, Message::Request(block(4, nth)))));
    assert!(swarm.torrent.peer(PeerKey(2)).is_none());
}

#[test]
fn a_peer_that_takes_no_promise_is_promised_nothing_more_until_it_asks_for_something() {
    let mut swarm = Swarm::new(Bitfield::empty(PIECES));
    swarm.meet(1, &[0, 1, 2, 3, 4, 5, 6, 7]);
    swarm.meet(2, &[]);
    let mut asked = VecDeque::from(requested_blocks(&swarm.hear(1, Message::Unchoke), 1));
    let mut promised = 0;
    while let Some(next) = asked.pop_front() {
        swarm.now += Duration::from_millis(20);
        swarm.torrent.handle_block(swarm.now, PeerKey(1), next);
        if next.begin == (BLOCKS - 1) * BLOCK_LEN {
            let written = PieceResult::Written { digests: Vec::new() };
            swarm.torrent.handle_piece_result(swarm.now, next.piece, written);
        }
        let mut told = swarm.told();
        while told.iter().any(|(to, message)| *to == 2 && *message == Message::Unchoke) {
            promised += 1;
            assert!(promised < 100, "turns without end");
            asked.extend(requested_blocks(&told, 1));
            told = swarm.hear(2, Message::NotInterested);
        }
        asked.extend(requested_blocks(&told, 1));
    }
    assert!(swarm.torrent.is_complete());
    assert!((1..=5).contains(&promised), "{promised} turns");
}

#[test]
fn who_breaks_a_promise_is_not_asked_again_until_it_has_the_piece() {
    let mut swarm = Swarm::new(Bitfield::empty(PIECES));
    swarm.meet(1, &[]);
    swarm.hear(1, soon_to_us(5));
    assert_eq!(requested(&swarm.hear(1, Message::Unchoke), 1), [5; BLOCKS as usize]);
    let again: Vec<u32> =
        (0..BLOCKS).flat_map(|nth| requested(&swarm.hear(1, Message::Reject(block(5, nth))), 1)).collect();
    assert_eq!(again, []);
    swarm.hear(1, Message::Choke);
    swarm.hear(1, Message::Have(PieceIndex(5)));
    assert_eq!(requested(&swarm.hear(1, Message::Unchoke), 1), [5; BLOCKS as usize]);
    // That it was refused before says nothing of the piece that it has now.
    swarm.hear(1, Message::Reject(block(5, 0)));
    assert!(swarm.torrent.peer(PeerKey(1)).unwrap().have.has(PieceIndex(5)));
}

#[test]
fn when_nobody_who_is_served_takes_any_more_others_are_served() {
    let mut swarm = Swarm::new(Bitfield::full(PIECES));
    for key in [1, 2] {
        assert!(swarm.meet(key, &[]).contains(&(key, Message::Unchoke)));
        (0..BLOCKS).for_each(|nth| drop(swarm.hear(key, Message::Request(block(key, nth)))));
        assert!(swarm.torrent.next_upload(swarm.now, PeerKey(key)).is_some());
        swarm.torrent.handle_upload_blocked(swarm.now, PeerKey(key));
    }
    assert!(!swarm.meet(3, &[]).contains(&(3, Message::Unchoke)), "two are enough at first");
    let mut told = Vec::new();
    for _ in 0..3 {
        swarm.now += Duration::from_secs(1);
        swarm.torrent.handle_timeout(swarm.now);
        told.extend(swarm.told());
    }
    assert!(told.contains(&(3, Message::Unchoke)), "{told:?}");
}

#[test]
fn what_a_peer_will_have_soon_is_asked_of_it_in_the_turn_that_it_offers_and_no_later() {
    let mut swarm = Swarm::new(Bitfield::empty(PIECES));
    swarm.meet(1, &[]);
    let id = Extension::Soon.local_id();
    assert_eq!(swarm.hear(1, Message::Extended { id, payload: encode_piece(PieceIndex(5)) }), []);
    assert_eq!(requested(&swarm.hear(1, Message::Unchoke), 1), [5; BLOCKS as usize]);
    swarm.hear(1, Message::Choke);
    (0..BLOCKS).for_each(|nth| drop(swarm.hear(1, Message::Reject(block(5, nth)))));
    assert_eq!(requested(&swarm.hear(1, Message::Unchoke), 1), []);
    // Nonsense is passed over.
    assert_eq!(swarm.hear(1, Message::Extended { id, payload: encode_piece(PieceIndex(PIECES)) }), []);
    assert_eq!(swarm.hear(1, Message::Extended { id, payload: vec![1] }), []);
}

/// The blocks that a peer is asked for.
fn requested_blocks(told: &[(u32, Message)], key: u32) -> Vec<BlockRef> {
    let block = |(to, message): &(u32, Message)| match message {
        Message::Request(block) if *to == key => Some(*block),
        _ => None,
    };
    told.iter().filter_map(block).collect()
}

/// What is asked for with one message, from where on and how many bytes.
fn runs(told: &[(u32, Message)]) -> Vec<BlockRef> {
    let run = |message: &Message| match message {
        Message::Extended { id, payload } if *id == THEIRS + Extension::Run.local_id() => decode_run(payload),
        _ => None,
    };
    told.iter().filter_map(|(_, message)| run(message)).collect()
}

#[test]
fn who_takes_runs_is_asked_for_a_piece_with_one_message() {
    let mut swarm = Swarm::new(Bitfield::empty(PIECES));
    swarm.meet_with(1, &[3], &[Extension::Run]);
    swarm.meet_with(2, &[4], &[]);
    let told = swarm.hear(1, Message::Unchoke);
    assert_eq!(runs(&told), [BlockRef { len: BLOCKS * BLOCK_LEN, ..block(3, 0) }]);
    assert_eq!(requested(&told, 1), []);
    let told = swarm.hear(2, Message::Unchoke);
    assert_eq!((runs(&told), requested(&told, 2).len()), (vec![], BLOCKS as usize));
    // One block is refused. It is asked for by itself.
    (0..BLOCKS).filter(|&nth| nth != 1).for_each(|nth| {
        assert!(swarm.torrent.handle_block(swarm.now, PeerKey(1), block(3, nth)));
    });
    let told = swarm.hear(1, Message::Reject(block(3, 1)));
    assert_eq!((runs(&told), requested(&told, 1)), (vec![], vec![3]));
}

#[test]
fn every_block_of_a_run_is_sent_or_refused_by_itself() {
    let mut swarm = Swarm::new(Bitfield::full(PIECES));
    swarm.meet(1, &[]);
    let ask = |swarm: &mut Swarm, run| {
        swarm.hear(1, Message::Extended { id: Extension::Run.local_id(), payload: encode_run(run) })
    };
    let told = ask(&mut swarm, BlockRef { len: 3 * BLOCK_LEN - 100, ..block(2, 1) });
    assert_eq!(told.iter().filter(|(_, message)| matches!(message, Message::Reject(_))).count(), 0);
    swarm.hear(1, Message::Cancel(block(2, 2)));
    let sent: Vec<BlockRef> =
        std::iter::from_fn(|| swarm.torrent.next_upload(swarm.now, PeerKey(1))).collect();
    assert_eq!(sent, [block(2, 1), BlockRef { len: BLOCK_LEN - 100, ..block(2, 3) }]);
}

#[test]
fn a_run_has_64_blocks_at_the_most() {
    let mut swarm = Swarm::with_pieces_of(100, Bitfield::empty(PIECES));
    swarm.meet_with(1, &[3], &[Extension::Run]);
    let expected = [(0, 64), (64, 36)].map(|(nth, n)| BlockRef { len: n * BLOCK_LEN, ..block(3, nth) });
    assert_eq!(runs(&swarm.hear(1, Message::Unchoke)), expected);

    // Of a longer one the rest is not looked at, so that a few bytes do not make us say no a thousand times.
    let mut swarm = Swarm::with_pieces_of(100, Bitfield::full(PIECES));
    swarm.meet(1, &[]);
    swarm.hear(1, Message::NotInterested);
    let long = encode_run(BlockRef { len: 100 * BLOCK_LEN, ..block(3, 0) });
    let told = swarm.hear(1, Message::Extended { id: Extension::Run.local_id(), payload: long });
    assert_eq!(told, (0..64).map(|nth| (1, Message::Reject(block(3, nth)))).collect::<Vec<_>>());
}

#[test]
fn where_nobody_serves_in_turns_there_are_no_runs() {
    let mut swarm = Swarm::with(UploadPolicy::TitForTat, BLOCKS, Bitfield::empty(PIECES));
    swarm.meet_with(1, &[3], &[Extension::Run]);
    let told = swarm.hear(1, Message::Unchoke);
    assert_eq!((runs(&told), requested(&told, 1)), (vec![], vec![3; BLOCKS as usize]));

    // Nobody takes turns there, and so nobody is promised one.
    let mut open = Swarm::with(UploadPolicy::TitForTat, BLOCKS, Bitfield::empty(PIECES));
    open.meet(1, &[3]);
    open.hear(1, soon_to_us(5));
    assert_eq!(requested(&open.hear(1, Message::Unchoke), 1), [3; BLOCKS as usize]);

    // To refuse one would take sixty times its bytes.
    let mut swarm = Swarm::with(UploadPolicy::TitForTat, BLOCKS, Bitfield::full(PIECES));
    swarm.meet(1, &[]);
    let run = encode_run(BlockRef { len: BLOCKS * BLOCK_LEN, ..block(3, 0) });
    assert_eq!(swarm.hear(1, Message::Extended { id: Extension::Run.local_id(), payload: run }), []);
}

#[test]
fn who_takes_runs_no_more_is_asked_block_by_block() {
    let mut swarm = Swarm::new(Bitfield::empty(PIECES));
    swarm.meet_with(1, &[3], &[Extension::Run]);
    let hello = ExtensionHandshake { ids: [(Extension::Run, 0)].into(), ..ExtensionHandshake::default() };
    swarm.hear(1, Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload: hello.encode() });
    let told = swarm.hear(1, Message::Unchoke);
    assert_eq!((runs(&told), requested(&told, 1)), (vec![], vec![3; BLOCKS as usize]));
}

#[test]
fn a_run_of_nonsense_is_refused_in_bounds() {
    let nonsense = [
        BlockRef { len: u32::MAX, ..block(PIECES, 0) },
        BlockRef { piece: PieceIndex(0), begin: u32::MAX, len: u32::MAX },
        BlockRef { len: u32::MAX, ..block(0, 1) },
    ];
    for run in nonsense {
        let mut swarm = Swarm::new(Bitfield::full(PIECES));
        swarm.meet(1, &[]);
        let run = Message::Extended { id: Extension::Run.local_id(), payload: encode_run(run) };
        assert!(swarm.hear(1, run.clone()).len() <= 70);
        swarm.hear(1, run);
        assert!(swarm.torrent.peer(PeerKey(1)).is_none(), "it is sent away");
    }
    let mut swarm = Swarm::new(Bitfield::full(PIECES));
    swarm.meet(1, &[]);
    let id = Extension::Run.local_id();
    let empty = BlockRef { len: 0, ..block(0, 0) };
    assert_eq!(swarm.hear(1, Message::Extended { id, payload: encode_run(empty) }), []);
    assert_eq!(swarm.hear(1, Message::Extended { id, payload: vec![0; 11] }), []);
}

#[test]
fn a_turn_that_comes_too_soon_is_passed_on_and_wanted_when_the_last_piece_is_here() {
    let mut swarm = Swarm::new(Bitfield::empty(PIECES));
    swarm.meet(1, &[3, 4]);
    let asked = requested_blocks(&swarm.hear(1, Message::Unchoke), 1);
    assert_eq!(asked.len(), BLOCKS as usize, "a piece");
    swarm.hear(1, Message::Choke);
    assert_eq!(swarm.hear(1, Message::Unchoke), [(1, Message::NotInterested)]);
    swarm.hear(1, Message::Choke);
    let mut told = Vec::new();
    for &next in &asked {
        swarm.torrent.handle_block(swarm.now, PeerKey(1), next);
        told.extend(swarm.told());
    }
    assert!(told.contains(&(1, Message::Interested)), "{told:?}");
    assert_eq!(requested(&swarm.hear(1, Message::Unchoke), 1).len(), BLOCKS as usize);
}

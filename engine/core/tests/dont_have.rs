//! Pieces that are lost (BEP 54), peers' and ours: what is told and sent of them, and when one is hashed again.

mod common;

use common::*;
use std::collections::BTreeMap;
use swarm_core::bitfield::Bitfield;
use swarm_core::id::{BlockRef, PeerKey, PieceIndex};
use swarm_core::peer::PeerInfo;
use swarm_core::time::Duration;
use swarm_core::torrent::{Action, CloseReason, Config, Event, REHASH_INTERVAL, REHASH_REST};
use swarm_core::wire::Message;
use swarm_core::wire::extension::{Extension, ExtensionHandshake, decode_piece, decode_upload_only};

const PIECES: u32 = 100;
/// What peers of these tests call BEP 54's message.
const DONT_HAVE: u8 = 7;
const UPLOAD_ONLY: u8 = 8;

fn seed() -> Swarm {
    Swarm::seed(PIECES, 2)
}

/// A peer that has nothing, wants everything, and knows BEP 54.
fn leecher(swarm: &mut Swarm, n: u32) -> Vec<Action> {
    swarm.connect(n);
    let ids = BTreeMap::from([(Extension::DontHave, DONT_HAVE), (Extension::UploadOnly, UPLOAD_ONLY)]);
    swarm.say_hello(n, ExtensionHandshake { ids, ..ExtensionHandshake::default() });
    swarm.say(n, Message::Interested)
}

fn plain_leecher(swarm: &mut Swarm, n: u32) {
    swarm.connect_as(n, plain_peer(n));
    swarm.say(n, Message::Interested);
}

fn doubt(swarm: &mut Swarm, pieces: &[u32], wanted: bool) -> Vec<Action> {
    let pieces: Vec<PieceIndex> = pieces.iter().copied().map(PieceIndex).collect();
    swarm.torrent.handle_pieces_doubted(swarm.now, &pieces, wanted);
    swarm.drain()
}

fn checked(swarm: &mut Swarm, piece: u32, is_right: bool) -> Vec<Action> {
    swarm.torrent.handle_piece_checked(swarm.now, PieceIndex(piece), is_right);
    swarm.drain()
}

/// The peer asks for a whole piece and is sent it: what is hashed again then.
fn take(swarm: &mut Swarm, n: u32, piece: u32) -> Vec<u32> {
    for nth in [0, 1] {
        swarm.say(n, Message::Request(block(piece, nth)));
        assert!(swarm.next_upload(n).is_some(), "{piece} is served");
    }
    let check = |action| match action {
        Action::CheckPiece(piece) => Some(piece.0),
        _ => None,
    };
    swarm.drain().into_iter().filter_map(check).collect()
}

/// The pieces that a peer is told are not here any more.
fn taken_back(actions: &[Action], n: u32) -> Vec<u32> {
    let told = |message| match message {
        &Message::Extended { id: DONT_HAVE, ref payload } => decode_piece(payload).map(|piece| piece.0),
        _ => None,
    };
    sent_to(actions, n).into_iter().filter_map(told).collect()
}

#[test]
fn dont_have_ends_interest_in_the_piece() {
    let mut swarm = Swarm::leecher(PIECES, 2);
    swarm.connect(1);
    swarm.say(1, have(5));
    for other in [4, PIECES, u32::MAX] {
        assert!(swarm.say(1, dont_have(other)).is_empty());
    }
    assert!(sent(&swarm.say(1, dont_have(5))).contains(&&Message::NotInterested));
}

#[test]
fn dont_have_without_fast_gives_the_requests_to_others() {
    let mut swarm = Swarm::leecher(PIECES, 2);
    for n in [1, 2] {
        swarm.connect_as(n, plain_peer(n));
        swarm.say(n, have(5));
    }
    let asked = requests(&swarm.say(1, Message::Unchoke));
    assert_eq!(asked.len(), 2);
    swarm.say(1, dont_have(5));
    assert_eq!(requests(&swarm.say(2, Message::Unchoke)), asked);
}

#[test]
fn dont_have_is_sent_for_a_doubted_piece_and_requests_of_it_are_rejected() {
    let mut swarm = seed();
    leecher(&mut swarm, 1);
    plain_leecher(&mut swarm, 2);
    swarm.say(1, have(4));
    swarm.say(1, Message::Request(block(5, 0)));
    let actions = doubt(&mut swarm, &[3, 4, 5], false);
    assert_eq!(taken_back(&actions, 1), [3, 5], "what it has is nothing to it");
    assert!(sent_to(&actions, 1).contains(&&Message::Reject(block(5, 0))));
    assert_eq!(swarm.next_upload(1), None);
    assert!(closed(&actions).is_empty());
    // Somebody who comes now is told what is here.
    let greeting = swarm.connect(3);
    assert!(!sent(&greeting).contains(&&Message::HaveAll));
    // Asking is no offence: it may not know yet.
    for _ in 0..200 {
        assert!(closed(&swarm.say(2, Message::Request(block(3, 0)))).is_empty());
    }
    assert_eq!(swarm.next_upload(2), None);
}

/// Else a peer without BEP 6 would wait for them for ever.
#[test]
fn requests_of_a_doubted_piece_wait_where_they_cannot_be_rejected() {
    let mut swarm = seed();
    plain_leecher(&mut swarm, 1);
    for piece in [3, 4, 5, 6] {
        swarm.say(1, Message::Request(block(piece, 0)));
    }
    doubt(&mut swarm, &[3, 5], false);
    for request in [block(3, 1), block(5, 1)] {
        swarm.say(1, Message::Request(request));
    }
    swarm.say(1, Message::Cancel(block(3, 1)));
    assert_eq!([(); 3].map(|()| swarm.next_upload(1)), [Some(block(4, 0)), Some(block(6, 0)), None]);
    let actions = checked(&mut swarm, 3, true);
    assert!(
        actions.iter().any(|action| matches!(action, Action::Upload(_))),
        "the shell is told: {actions:?}"
    );
    assert_eq!([(); 2].map(|()| swarm.next_upload(1)), [Some(block(3, 0)), None]);
    checked(&mut swarm, 5, true);
    assert_eq!([(); 3].map(|()| swarm.next_upload(1)), [Some(block(5, 0)), Some(block(5, 1)), None]);
}

/// As many as may wait, no matter where they wait: none of those that were taken is forgotten when a piece comes into doubt.
#[test]
fn requests_that_wait_for_a_doubted_piece_are_all_served_once_it_is_right() {
    let config = Config { requests_max: 40, ..config() };
    let mut swarm = Swarm::new(config, Bitfield::full(PIECES), 2);
    plain_leecher(&mut swarm, 1);
    let asked: Vec<_> = (0..20).flat_map(|piece| [block(piece, 0), block(piece, 1)]).collect();
    doubt(&mut swarm, &(0..10).collect::<Vec<_>>(), false);
    for &request in &asked {
        assert_eq!(sent(&swarm.say(1, Message::Request(request))), [] as [&Message; 0]);
    }
    doubt(&mut swarm, &(10..20).collect::<Vec<_>>(), false);
    let mut served = Vec::new();
    for piece in 0..20 {
        checked(&mut swarm, piece, true);
        served.extend(std::iter::from_fn(|| swarm.next_upload(1)));
    }
    assert_eq!(served, asked);
}

#[test]
fn requests_without_fast_that_find_no_room_are_answered_by_a_choke() {
    let config = Config { requests_max: 4, ..config() };
    let mut swarm = Swarm::new(config, Bitfield::full(PIECES), 2);
    plain_leecher(&mut swarm, 1);
    swarm.connect(2);
    swarm.say(2, Message::Interested);
    doubt(&mut swarm, &[0], false);
    for request in [block(0, 0), block(0, 1), block(1, 0), block(1, 1)] {
        assert_eq!(sent(&swarm.say(1, Message::Request(request))), [] as [&Message; 0]);
        swarm.say(2, Message::Request(BlockRef { piece: PieceIndex(2), ..request }));
    }
    assert_eq!(sent(&swarm.say(1, Message::Request(block(2, 0)))), [&Message::Choke]);
    assert_eq!(sent(&swarm.say(2, Message::Request(block(3, 0)))), [&Message::Reject(block(3, 0))]);
    checked(&mut swarm, 0, true);
    assert_eq!(swarm.next_upload(1), None, "all of them are taken back");
}

#[test]
fn requests_that_could_not_be_read_wait_or_are_refused() {
    let mut swarm = seed();
    plain_leecher(&mut swarm, 1);
    leecher(&mut swarm, 2);
    for n in [1, 2] {
        for piece in [3, 4] {
            swarm.say(n, Message::Request(block(piece, 0)));
            assert_eq!(swarm.next_upload(n), Some(block(piece, 0)));
        }
    }
    doubt(&mut swarm, &[3], false);
    let mut fail = |n: u32, piece| {
        swarm.torrent.handle_upload_failed(swarm.now, PeerKey(n), block(piece, 0));
        swarm.drain()
    };
    assert_eq!(sent(&fail(2, 3)), [&Message::Reject(block(3, 0))]);
    assert_eq!(sent(&fail(1, 3)), [] as [&Message; 0]);
    checked(&mut swarm, 3, true);
    assert_eq!(swarm.next_upload(1), Some(block(3, 0)));
    swarm.torrent.handle_upload_failed(swarm.now, PeerKey(1), block(4, 0));
    assert_eq!(sent(&swarm.drain()), [&Message::Choke]);
}

/// A look at a doubted piece costs what waits for it, not what waits for others.
#[test]
fn requests_that_wait_for_other_pieces_cost_nothing() {
    const PEERS: u32 = 3;
    let pieces = 1_000;
    let mut swarm = Swarm::seed(pieces, 2);
    for n in 1..=PEERS {
        plain_leecher(&mut swarm, n);
    }
    doubt(&mut swarm, &(0..pieces).collect::<Vec<_>>(), false);
    let mut taken = 0;
    for n in 1..=PEERS {
        for piece in 0..pieces {
            swarm.say_unchecked(n, Message::Request(block(piece, 0)));
            taken += u64::from(!swarm.view(n).flags.am_choking);
        }
    }
    assert_eq!(taken, u64::from(PEERS * pieces), "all wait");
    let before = swarm.torrent.work();
    for piece in 0..pieces {
        checked(&mut swarm, piece, true);
        let served = (1..=PEERS).filter(|&n| swarm.next_upload(n) == Some(block(piece, 0))).count();
        assert_eq!(served, PEERS as usize);
    }
    let work = swarm.torrent.work() - before;
    assert!(work >= taken, "what is served is counted: {work}");
    assert!(work < 10 * taken, "{work} steps for {taken} requests");
}

/// Taking back what waits is looked for, and counted.
#[test]
fn cancels_of_what_waits_for_a_doubted_piece_are_counted() {
    let mut swarm = seed();
    plain_leecher(&mut swarm, 1);
    doubt(&mut swarm, &[3], false);
    for _ in 0..1_000 {
        swarm.say(1, Message::Request(block(3, 0)));
    }
    let before = swarm.torrent.work();
    swarm.say(1, Message::Cancel(block(3, 1)));
    assert!(swarm.torrent.work() - before >= 1_000);
}

#[test]
fn have_follows_when_a_doubted_piece_is_right_and_not_when_it_is_bad() {
    let mut swarm = seed();
    leecher(&mut swarm, 1);
    plain_leecher(&mut swarm, 2);
    plain_leecher(&mut swarm, 3);
    swarm.say(3, have(5));
    doubt(&mut swarm, &[3, 5], false);
    assert_eq!(checked(&mut swarm, 3, true), [Action::BroadcastHave(PieceIndex(3))]);
    swarm.say(1, Message::Request(block(3, 0)));
    assert_eq!(swarm.next_upload(1), Some(block(3, 0)));
    // Who knows no BEP 54 and lacks the piece has to come again to be told.
    assert_eq!(closed(&checked(&mut swarm, 5, false)), [(2, CloseReason::PieceLost)]);
    assert!(!swarm.torrent.have().has(PieceIndex(5)) && swarm.torrent.have().count() == PIECES - 1);
    assert!(swarm.torrent.is_complete(), "a seed wants nothing");
}

#[test]
fn dont_have_piece_is_fetched_again_once_it_is_known_to_be_bad() {
    let mut swarm = seed();
    leecher(&mut swarm, 1);
    let actions = doubt(&mut swarm, &[3, 5], true);
    let wants = |action: &Action| match action {
        Action::Send { message: Message::Extended { id: UPLOAD_ONLY, payload }, .. } => {
            decode_upload_only(payload) == Some(false)
        }
        _ => false,
    };
    assert!(!swarm.torrent.is_complete() && actions.iter().any(wants));
    assert_eq!(swarm.connect_seed(2), [], "it may be right");
    checked(&mut swarm, 3, true);
    let actions = checked(&mut swarm, 5, false);
    assert_eq!(requests(&actions), [block(5, 0), block(5, 1)]);
    swarm.events();
    assert_eq!(swarm.serve(2, usize::MAX).len(), 2);
    let events = swarm.events();
    assert!(swarm.torrent.is_complete() && events.contains(&Event::Completed), "{events:?}");
}

#[test]
fn dont_have_of_a_wanted_piece_dials_seeds_that_had_left() {
    let mut swarm = seed();
    swarm.connect_as(1, PeerInfo { inbound: false, ..peer(1) });
    assert_eq!(closed(&swarm.say(1, Message::HaveAll)), [(1, CloseReason::BothComplete)]);
    swarm.pass(Duration::from_secs(600));
    let actions = doubt(&mut swarm, &[3], true);
    assert!(dialled(&actions).contains(&addr(1)));
}

#[test]
fn dont_have_ends_super_seeding() {
    let config = Config { super_seeding: true, ..config() };
    let mut swarm = Swarm::new(config, Bitfield::full(PIECES), 2);
    (1..=5).for_each(|key| drop(leecher(&mut swarm, key)));
    assert!(swarm.torrent.is_super_seeding());
    let actions = doubt(&mut swarm, &[3], false);
    assert_eq!(taken_back(&actions, 1), [3]);
    assert!(!swarm.torrent.is_super_seeding());
}

#[test]
fn rehash_of_a_piece_that_two_addresses_took_twice() {
    let mut swarm = seed();
    leecher(&mut swarm, 1);
    leecher(&mut swarm, 2);
    for key in [1, 2, 1] {
        assert_eq!(take(&mut swarm, key, 3), [0; 0], "one may have had a reason of its own");
    }
    assert_eq!(take(&mut swarm, 2, 3), [3]);
    // What it was found to be holds for a while.
    swarm.pass(REHASH_INTERVAL);
    for key in [1, 2, 1, 2, 1, 2] {
        assert_eq!(take(&mut swarm, key, 3), [0; 0]);
    }
}

#[test]
fn rehash_has_a_budget() {
    let mut swarm = seed();
    leecher(&mut swarm, 1);
    leecher(&mut swarm, 2);
    let mut asked = 0;
    for _ in 0..4 {
        for piece in 0..PIECES {
            asked += take(&mut swarm, 1, piece).len() + take(&mut swarm, 2, piece).len();
        }
    }
    assert_eq!(asked, 1, "no time has passed");
    let seconds = REHASH_REST.as_secs();
    for second in 0..seconds {
        swarm.pass(Duration::from_secs(1));
        let piece = (second / 4) as u32 % PIECES;
        asked += take(&mut swarm, 1, piece).len() + take(&mut swarm, 2, piece).len();
    }
    assert!(asked as u64 <= 1 + seconds / REHASH_INTERVAL.as_secs(), "{asked} in {seconds} s");
}

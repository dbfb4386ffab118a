//! Repair: of a piece that is on disk and does not verify, leaves of version 2 (BEP 52) tell which blocks are to be fetched.

mod common;

use common::*;
use std::collections::VecDeque;
use std::sync::Arc;
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::PieceIndex;
use swarm_core::merkle::HashRange;
use swarm_core::metainfo::Info;
use swarm_core::peer::PeerInfo;
use swarm_core::time::Duration;
use swarm_core::torrent::hashes::{LEAVES_TIMEOUT, REPAIRS_ASKED_MAX, REPAIRS_MAX};
use swarm_core::torrent::{Action, CloseReason, Event, PieceResult};
use swarm_core::wire::Message;

const BLOCKS: u32 = 16;
const PIECES: u32 = 5;
const SECOND: Duration = Duration::from_secs(1);

/// A file of so many pieces.
fn info(pieces: u32) -> Arc<Info> {
    Arc::new(info_v2(&[BLOCKS * pieces], BLOCKS))
}

/// These pieces are on disk and bad.
fn damaged(info: &Arc<Info>, pieces: &[u32]) -> Swarm {
    let mut swarm = Swarm::v2(info, all_but(info.geometry.pieces(), pieces));
    swarm.torrent.handle_pieces_damaged(swarm.now, pieces.iter().map(|&piece| PieceIndex(piece)));
    assert_eq!(swarm.drain(), []);
    swarm
}

/// The request for the leaves of a piece.
fn leaves(info: &Info, piece: u32) -> HashRange {
    range(info, 0, 0, piece * BLOCKS, BLOCKS, 3)
}

/// A peer that has all and serves us.
fn seed(swarm: &mut Swarm, n: u32) -> Vec<Action> {
    swarm.connect(n);
    let mut actions = swarm.say(n, Message::HaveAll);
    actions.extend(swarm.say(n, Message::Unchoke));
    actions
}

fn answer(swarm: &mut Swarm, info: &Info, n: u32, piece: u32) -> Vec<Action> {
    swarm.say(n, hashes(leaves(info, piece), true_hashes(info, leaves(info, piece))))
}

fn reject(swarm: &mut Swarm, info: &Info, n: u32, piece: u32) -> Vec<Action> {
    swarm.say(n, Message::HashReject(Box::new(leaves(info, piece))))
}

/// What is on disk of a piece was hashed, and these blocks of it are bad.
fn hashed(swarm: &mut Swarm, piece: u32, bad: &[u32]) -> Vec<Action> {
    swarm.torrent.handle_blocks_hashed(swarm.now, PieceIndex(piece), &digests_of(piece, BLOCKS, bad));
    swarm.drain()
}

fn to_hash(actions: &[Action]) -> Vec<u32> {
    let piece = |action: &Action| match action {
        Action::HashBlocks(piece) => Some(piece.0),
        _ => None,
    };
    actions.iter().filter_map(piece).collect()
}

fn kept(actions: &[Action]) -> Vec<(u32, Vec<u32>)> {
    let blocks = |action: &Action| match action {
        Action::KeepBlocks { piece, blocks } => Some((piece.0, blocks.clone())),
        _ => None,
    };
    actions.iter().filter_map(blocks).collect()
}

#[test]
fn repair_fetches_bad_blocks_alone() {
    let info = info(PIECES);
    let mut swarm = damaged(&info, &[1, 3]);
    let actions = seed(&mut swarm, 1);
    assert_eq!(hash_requests(&actions, 1), [leaves(&info, 1), leaves(&info, 3)]);
    assert_eq!(requests(&actions), [], "nothing is asked for meanwhile");
    let actions = answer(&mut swarm, &info, 1, 3);
    assert_eq!((to_hash(&actions), requests(&actions)), (vec![3], vec![]));
    let actions = hashed(&mut swarm, 3, &[2, 5]);
    let good: Vec<u32> = (0..BLOCKS).filter(|nth| ![2, 5].contains(nth)).collect();
    assert_eq!(kept(&actions), [(3, good)]);
    assert_eq!(requests(&actions), [block(3, 2), block(3, 5)]);
    assert_eq!(to_hash(&answer(&mut swarm, &info, 1, 1)), [1]);
    // It was an error of reading: nothing is bad.
    let actions = hashed(&mut swarm, 1, &[]);
    assert!(actions.contains(&Action::VerifyPiece { piece: PieceIndex(1), digests: false }), "{actions:?}");
    swarm.serve(1, usize::MAX);
    assert!(swarm.torrent.is_complete() && !swarm.torrent.is_repairing());
    let totals = swarm.torrent.totals();
    assert_eq!((totals.bytes_down, totals.bytes_wasted), (2 * u64::from(BLOCK_LEN), 0));
    assert_eq!((totals.bytes_corrupt, totals.pieces_failed), (0, 0), "no peer has done anything");
}

#[test]
fn repair_of_what_cannot_be_read_fetches_the_piece() {
    let info = info(PIECES);
    let all: Vec<u32> = (0..BLOCKS).collect();
    for bad in [&all[..], &[]] {
        let mut swarm = damaged(&info, &[1]);
        seed(&mut swarm, 1);
        answer(&mut swarm, &info, 1, 1);
        let actions = match bad {
            [] => {
                swarm.torrent.handle_blocks_hashed(swarm.now, PieceIndex(1), &[]);
                swarm.drain()
            }
            bad => hashed(&mut swarm, 1, bad),
        };
        assert_eq!((kept(&actions).len(), requests(&actions).len()), (0, BLOCKS as usize));
    }
}

#[test]
fn repair_without_leaves_fetches_the_piece_and_bans_nobody() {
    let info = info(PIECES);
    // A peer that has none.
    let mut swarm = damaged(&info, &[1, 2, 3]);
    seed(&mut swarm, 1);
    (1..=3).for_each(|piece| assert_eq!(requests(&reject(&mut swarm, &info, 1, piece)), []));
    let actions = swarm.pass(SECOND * 2);
    assert_eq!(hash_requests(&actions, 1), [], "it has said so often enough");
    assert!(!requests(&actions).is_empty() && !swarm.torrent.is_repairing());
    swarm.serve(1, usize::MAX);
    assert!(swarm.torrent.is_complete());
    let banned = |event: &Event| matches!(event, Event::PeerBanned { .. });
    assert!(!swarm.events().iter().any(banned));
    assert_eq!(swarm.torrent.totals().bytes_down, u64::from(3 * BLOCKS * BLOCK_LEN));

    // A peer of version 1, in a hybrid.
    let mut hybrid = Info::clone(&info);
    hybrid.piece_hashes = Some(vec![0; 20 * PIECES as usize].into());
    let mut swarm = damaged(&Arc::new(hybrid), &[1]);
    let actions = seed(&mut swarm, 1);
    assert_eq!(
        (hash_requests(&actions, 1).len(), requests(&actions)),
        (0, vec![]),
        "somebody else may have them"
    );
    assert_eq!(requests(&swarm.pass(LEAVES_TIMEOUT + SECOND * 3)).len(), BLOCKS as usize);

    // In version 1, and where a piece is one block, nothing is waited for.
    let mut swarm = Swarm::new(config(), all_but(PIECES, &[1]), BLOCKS);
    swarm.torrent.handle_pieces_damaged(swarm.now, [PieceIndex(1)]);
    assert_eq!(swarm.connect_seed(1).len(), BLOCKS as usize);
    let mut swarm = Swarm::v2(&Arc::new(info_v2(&[5], 1)), all_but(5, &[1]));
    swarm.torrent.handle_pieces_damaged(swarm.now, [PieceIndex(1)]);
    assert_eq!(swarm.connect_seed(1), [block(1, 0)]);
}

#[test]
fn repair_is_not_held_up_by_a_peer_that_never_answers() {
    let info = info(PIECES);
    let mut swarm = damaged(&info, &[1]);
    seed(&mut swarm, 1);
    swarm.pass(LEAVES_TIMEOUT);
    let asked = swarm.asked(1).len() + requests(&swarm.pass(SECOND * 2)).len();
    assert!(asked >= BLOCKS as usize, "the whole piece is asked for");
    let late = answer(&mut swarm, &info, 1, 1);
    assert!(closed(&late).is_empty() && to_hash(&late).is_empty(), "it may be late");

    // Somebody else is asked after a second.
    let mut swarm = damaged(&info, &[1]);
    seed(&mut swarm, 1);
    seed(&mut swarm, 2);
    let actions = swarm.pass(SECOND * 2);
    assert_eq!(hash_requests(&actions, 2), [leaves(&info, 1)]);
    assert_eq!(to_hash(&answer(&mut swarm, &info, 2, 1)), [1]);
    assert_eq!(requests(&hashed(&mut swarm, 1, &[7])), [block(1, 7)]);

    // Or at once, if the first one leaves.
    let mut swarm = damaged(&info, &[1]);
    seed(&mut swarm, 1);
    seed(&mut swarm, 2);
    assert_eq!(hash_requests(&swarm.disconnect(1), 2), [leaves(&info, 1)]);
}

#[test]
fn repair_is_not_held_up_by_peers_that_answer_as_slowly_as_they_may() {
    let pieces = 200;
    let info = info(pieces);
    let all: Vec<u32> = (0..pieces).collect();
    let mut swarm = damaged(&info, &all);
    let mut waiting = VecDeque::new();
    let of_all = |actions: &[Action]| -> Vec<(u32, HashRange)> {
        (1..=3).flat_map(|n| hash_requests(actions, n).into_iter().map(move |range| (n, range))).collect()
    };
    for n in 1..=3 {
        waiting.extend(of_all(&seed(&mut swarm, n)));
    }
    let mut seconds = 0;
    while swarm.torrent.is_repairing() {
        waiting.extend(of_all(&swarm.pass(SECOND * 3)));
        seconds += 3;
        assert!(seconds < 30, "they hold it up");
        let Some((n, range)) = waiting.pop_front() else { continue };
        let actions = swarm.say(n, hashes(range, true_hashes(&info, range)));
        waiting.extend(of_all(&actions));
        for piece in to_hash(&actions) {
            waiting.extend(of_all(&hashed(&mut swarm, piece, &[0])));
        }
    }
    assert!((1..=3).any(|n| !swarm.asked(n).is_empty()));
}

#[test]
fn repair_asks_for_few_pieces_at_a_time() {
    let pieces = 200;
    let info = info(pieces);
    let all: Vec<u32> = (0..pieces).collect();
    let mut swarm = damaged(&info, &all);
    let mut asked = 0;
    for n in 1..=6 {
        let ranges = hash_requests(&seed(&mut swarm, n), n);
        assert!(ranges.len() <= REPAIRS_ASKED_MAX);
        asked += ranges.len();
    }
    assert_eq!(asked, REPAIRS_MAX);
    // Those who answer are asked for all the others, without a pause.
    let mut left = pieces as usize;
    let mut answers: Vec<(u32, HashRange)> =
        (0..16).map(|piece| (1 + piece / 4, leaves(&info, piece))).collect();
    while let Some((n, range)) = answers.pop() {
        let actions = swarm.say(n, hashes(range, true_hashes(&info, range)));
        for piece in to_hash(&actions) {
            left -= 1;
            let more = hashed(&mut swarm, piece, &[3]);
            for n in 1..=6 {
                answers.extend(hash_requests(&more, n).into_iter().map(|range| (n, range)));
            }
        }
        for n in 1..=6 {
            answers.extend(hash_requests(&actions, n).into_iter().map(|range| (n, range)));
        }
        assert!(answers.len() <= REPAIRS_MAX);
    }
    assert_eq!(left, 0);
    (1..=6).for_each(|n| drop(swarm.serve(n, usize::MAX)));
    assert!(swarm.torrent.is_complete());
    assert_eq!(swarm.torrent.totals().bytes_down, u64::from(pieces * BLOCK_LEN));
}

#[test]
fn repair_leaves_that_do_not_lead_to_the_piece_ban_their_sender() {
    let info = info(PIECES);
    let mut swarm = damaged(&info, &[1]);
    seed(&mut swarm, 1);
    seed(&mut swarm, 2);
    let mut lie = true_hashes(&info, leaves(&info, 1));
    lie[3][0] ^= 1;
    let actions = swarm.say(1, hashes(leaves(&info, 1), lie));
    assert_eq!(closed(&actions), [(1, CloseReason::WrongHashes)]);
    assert_eq!((to_hash(&actions), hash_requests(&actions, 2)), (vec![], vec![leaves(&info, 1)]));
    // Who was not asked has no say.
    let actions = swarm.say(2, hashes(leaves(&info, 3), true_hashes(&info, leaves(&info, 3))));
    assert_eq!(to_hash(&actions), Vec::<u32>::new());
}

#[test]
fn repair_waits_for_a_peer_that_refuses_for_now() {
    let info = info(PIECES);
    let mut swarm = damaged(&info, &[1, 2]);
    seed(&mut swarm, 1);
    answer(&mut swarm, &info, 1, 1);
    hashed(&mut swarm, 1, &[0]);
    assert_eq!(requests(&reject(&mut swarm, &info, 1, 2)), []);
    let actions = swarm.pass(SECOND * 2);
    assert_eq!(hash_requests(&actions, 1), [leaves(&info, 2)], "it has given leaves before");
    answer(&mut swarm, &info, 1, 2);
    assert_eq!(requests(&hashed(&mut swarm, 2, &[4])), [block(2, 4)]);
}

#[test]
fn repair_does_not_wait_for_leaves_where_only_web_seeds_are() {
    let info = info(PIECES);
    let mut swarm = damaged(&info, &[1]);
    swarm.torrent.add_web_seed(swarm.now);
    let mut actions = swarm.drain();
    let fetched = |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::Fetch { .. }));
    assert!(!fetched(&actions));
    for _ in 0..10 {
        if swarm.step(SECOND) {
            actions.extend(swarm.drain());
        }
    }
    assert!(fetched(&actions), "{actions:?}");
}

#[test]
fn repair_of_a_piece_that_was_had() {
    let info = info(PIECES);
    let mut swarm = Swarm::v2(&info, Bitfield::full(PIECES));
    swarm.torrent.handle_pieces_doubted(swarm.now, &[PieceIndex(1), PieceIndex(2)], true);
    swarm.drain();
    seed(&mut swarm, 1);
    swarm.torrent.handle_piece_checked(swarm.now, PieceIndex(1), false);
    let actions = swarm.drain();
    assert_eq!((hash_requests(&actions, 1), requests(&actions)), (vec![leaves(&info, 1)], vec![]));
    answer(&mut swarm, &info, 1, 1);
    assert_eq!(requests(&hashed(&mut swarm, 1, &[9])), [block(1, 9)]);
    // Somebody puts a piece right in the meantime.
    swarm.torrent.handle_piece_checked(swarm.now, PieceIndex(2), false);
    swarm.drain();
    swarm.torrent.handle_piece_checked(swarm.now, PieceIndex(2), true);
    swarm.drain();
    answer(&mut swarm, &info, 1, 2);
    assert_eq!(kept(&hashed(&mut swarm, 2, &[1])), []);
    swarm.serve(1, usize::MAX);
    assert!(swarm.torrent.is_complete());
    // What is not wanted is not fetched, and nobody is asked for its leaves.
    swarm.torrent.handle_pieces_doubted(swarm.now, &[PieceIndex(3)], false);
    swarm.torrent.handle_piece_checked(swarm.now, PieceIndex(3), false);
    assert_eq!(hash_requests(&swarm.drain(), 1), []);
}

#[test]
fn repair_of_blocks_that_change_while_they_lie_there_blames_nobody() {
    let info = info(PIECES);
    let mut swarm = damaged(&info, &[1]);
    swarm.verifies = false;
    seed(&mut swarm, 1);
    answer(&mut swarm, &info, 1, 1);
    hashed(&mut swarm, 1, &[2]);
    swarm.serve(1, 1);
    // The shell knows the digests of what came alone.
    let mut digests = vec![[0; 20]; BLOCKS as usize];
    digests[2] = digests_of(1, BLOCKS, &[])[2];
    let actions = swarm.verified(PieceIndex(1), PieceResult::Corrupt { digests });
    assert!(closed(&actions).is_empty());
    let again: Vec<u32> = (0..BLOCKS).filter(|&nth| nth != 2).collect();
    assert_eq!(requests(&actions), again.iter().map(|&nth| block(1, nth)).collect::<Vec<_>>());
    // A bad block from a peer is blamed on it as ever.
    let mut swarm = damaged(&info, &[1]);
    swarm.verifies = false;
    seed(&mut swarm, 1);
    answer(&mut swarm, &info, 1, 1);
    hashed(&mut swarm, 1, &[2]);
    swarm.serve(1, 1);
    let mut digests = vec![[0; 20]; BLOCKS as usize];
    digests[2] = [66; 20];
    let actions = swarm.verified(PieceIndex(1), PieceResult::Corrupt { digests });
    assert_eq!(closed(&actions), [(1, CloseReason::CorruptBlock)]);
}

#[test]
fn repair_asks_peers_of_version_2_in_a_hybrid() {
    let mut hybrid = Info::clone(&info(PIECES));
    hybrid.piece_hashes = Some(vec![0; 20 * PIECES as usize].into());
    let hybrid = Arc::new(hybrid);
    let mut swarm = damaged(&hybrid, &[1]);
    seed(&mut swarm, 1);
    swarm.connect_as(2, PeerInfo { v2: true, ..peer(2) });
    let actions = swarm.say(2, Message::HaveAll);
    assert_eq!(hash_requests(&actions, 2), [leaves(&hybrid, 1)]);
    answer(&mut swarm, &hybrid, 2, 1);
    // The blocks are had from anybody.
    assert_eq!(requests(&hashed(&mut swarm, 1, &[5])), [block(1, 5)]);
    assert_eq!(swarm.asked(1).len() + swarm.asked(2).len(), 1);
}

//! A bad block costs a block: leaves of version 2 (BEP 52) tell the blocks of a failed piece apart.

mod common;

use common::*;
use std::sync::Arc;
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::PieceIndex;
use swarm_core::merkle::HashRange;
use swarm_core::metainfo::Info;
use swarm_core::peer::PeerInfo;
use swarm_core::time::Duration;
use swarm_core::torrent::hashes::{LEAVES_ASKED_OF, LEAVES_TIMEOUT, SUSPECTS_MAX};
use swarm_core::torrent::{Action, CloseReason, Event, PieceResult, Pressure};
use swarm_core::wire::Message;

const BLOCKS: u32 = 16;
const PIECE: PieceIndex = PieceIndex(1);

fn corrupt(bad: &[u32]) -> PieceResult {
    PieceResult::Corrupt { digests: digests_of(PIECE.0, BLOCKS, bad) }
}

fn dropped(actions: &[Action]) -> Vec<Vec<u32>> {
    let blocks = |action: &Action| match action {
        Action::DropBlocks { piece: PIECE, blocks } => Some(blocks.clone()),
        Action::DropPiece(PIECE) => Some((0..BLOCKS).collect()),
        _ => None,
    };
    actions.iter().filter_map(blocks).collect()
}

/// Of a torrent of several pieces only one is missing, in the middle of a file. Peers 1 and 2 send a half of it each.
fn halves(info: &Arc<Info>) -> Swarm {
    let mut swarm = Swarm::v2(info, all_but(info.geometry.pieces(), &[PIECE.0]));
    swarm.verifies = false;
    for n in 1..=2 {
        swarm.connect(n);
        swarm.say(n, Message::Have(PIECE));
    }
    swarm.say(1, Message::Unchoke);
    let first = swarm.serve(1, BLOCKS as usize / 2).len();
    swarm.say(1, Message::Choke);
    for block in swarm.asked(1).to_vec() {
        swarm.say(1, Message::Reject(block));
    }
    swarm.say(2, Message::Unchoke);
    let second = swarm.serve(2, BLOCKS as usize).len();
    assert_eq!((first, second), (BLOCKS as usize / 2, BLOCKS as usize / 2));
    swarm
}

fn info() -> Arc<Info> {
    Arc::new(info_v2(&[BLOCKS * 5, 3], BLOCKS))
}

/// The request for the leaves of the piece: of all its blocks, and with no proof, since the piece's own hash is known.
fn leaves() -> HashRange {
    range(&info(), 0, 0, BLOCKS, BLOCKS, 3)
}

/// A third peer joins that has the piece.
fn witness(swarm: &mut Swarm, n: u32) {
    swarm.connect(n);
    swarm.say(n, Message::Have(PIECE));
}

#[test]
fn bad_block_is_asked_for_again_alone_and_its_sender_is_banned() {
    let info = info();
    let mut swarm = halves(&info);
    witness(&mut swarm, 3);
    let actions = swarm.verified(PIECE, corrupt(&[2, 5]));
    assert_eq!(dropped(&actions), Vec::<Vec<u32>>::new(), "all is kept meanwhile");
    assert_eq!(hash_requests(&actions, 3), [leaves()]);
    let actions = swarm.say(3, hashes(leaves(), true_hashes(&info, leaves())));
    assert_eq!(dropped(&actions), [[2, 5]]);
    assert_eq!(closed(&actions), [(1, CloseReason::CorruptBlock)], "the second has sent nothing bad");
    assert_eq!(requests(&actions), [block(1, 2), block(1, 5)]);
    assert_eq!(swarm.torrent.totals().bytes_corrupt, 2 * u64::from(BLOCK_LEN));
    swarm.verifies = true;
    let asked = swarm.asked(2).to_vec();
    asked.into_iter().for_each(|block| drop(swarm.send_block(2, block)));
    assert!(swarm.torrent.is_complete());
    let totals = swarm.torrent.totals();
    assert_eq!(totals.bytes_down, u64::from(BLOCK_LEN) * u64::from(BLOCKS + 2), "two blocks came twice");
    assert_eq!(totals.bytes_wasted, 0);
}

#[test]
fn bad_block_of_a_piece_that_failed_before_needs_no_leaves_again() {
    let info = info();
    let mut swarm = halves(&info);
    witness(&mut swarm, 3);
    swarm.verified(PIECE, corrupt(&[2]));
    swarm.say(3, Message::Unchoke);
    swarm.say(2, Message::Choke);
    swarm.say(3, hashes(leaves(), true_hashes(&info, leaves())));
    assert_eq!(swarm.serve(3, 1), [block(1, 2)]);
    let actions = swarm.verified(PIECE, corrupt(&[2]));
    assert_eq!(dropped(&actions), [[2]]);
    assert_eq!(hash_requests(&actions, 2), []);
    assert_eq!(closed(&actions), [(3, CloseReason::CorruptBlock)], "a witness may lie too");
}

#[test]
fn bad_block_without_leaves_costs_the_piece() {
    let info = info();
    // Nobody to ask but the senders, who know none.
    let mut swarm = halves(&info);
    let actions = swarm.verified(PIECE, corrupt(&[2]));
    assert_eq!([hash_requests(&actions, 1), hash_requests(&actions, 2)], [[leaves()], [leaves()]]);
    assert_eq!(dropped(&swarm.say(1, Message::HashReject(Box::new(leaves())))), Vec::<Vec<u32>>::new());
    let actions = swarm.say(2, Message::HashReject(Box::new(leaves())));
    assert_eq!(dropped(&actions).len(), 1, "{actions:?}");
    assert_eq!(swarm.torrent.totals().bytes_corrupt, u64::from(BLOCK_LEN * BLOCKS));
    assert!(swarm.is_here(1) && swarm.is_here(2), "nobody is banned for a reject");

    // Whoever never answers.
    let mut swarm = halves(&info);
    swarm.verified(PIECE, corrupt(&[2]));
    let actions = swarm.pass(LEAVES_TIMEOUT - Duration::from_secs(1));
    assert_eq!(dropped(&actions), Vec::<Vec<u32>>::new());
    assert_eq!(dropped(&swarm.pass(Duration::from_secs(2))).len(), 1);
    let late = swarm.say(2, hashes(leaves(), true_hashes(&info, leaves())));
    assert!(closed(&late).is_empty() && dropped(&late).is_empty(), "it may be late");

    // Those who leave.
    let mut swarm = halves(&info);
    swarm.verified(PIECE, corrupt(&[2]));
    swarm.disconnect(1);
    assert_eq!(dropped(&swarm.disconnect(2)).len(), 1);

    // Memory is full.
    let mut swarm = halves(&info);
    swarm.verified(PIECE, corrupt(&[2]));
    swarm.torrent.set_pressure(swarm.now, Pressure::Full);
    assert_eq!(dropped(&swarm.drain()).len(), 1);

    // A lone sender is no witness against itself, and is banned at once.
    let mut swarm = Swarm::v2(&info, all_but(info.geometry.pieces(), &[PIECE.0]));
    swarm.verifies = false;
    witness(&mut swarm, 1);
    swarm.say(1, Message::Unchoke);
    swarm.serve(1, usize::MAX);
    let actions = swarm.verified(PIECE, corrupt(&[2]));
    assert_eq!((dropped(&actions).len(), closed(&actions)), (1, vec![(1, CloseReason::CorruptBlock)]));
}

#[test]
fn bad_block_leaves_that_do_not_lead_to_the_piece_ban_their_sender() {
    let info = info();
    for wrong in [0, 7, 15] {
        let mut swarm = halves(&info);
        (3..=5).for_each(|n| witness(&mut swarm, n));
        let actions = swarm.verified(PIECE, corrupt(&[2]));
        let asked: Vec<u32> = (1..=5).filter(|&n| !hash_requests(&actions, n).is_empty()).collect();
        assert_eq!(asked, [3, 4, 5], "first those who have sent nothing of it");
        assert_eq!(asked.len(), LEAVES_ASKED_OF);
        let mut lie = true_hashes(&info, leaves());
        lie[wrong][0] ^= 1;
        let actions = swarm.say(3, hashes(leaves(), lie));
        assert_eq!(closed(&actions), [(3, CloseReason::WrongHashes)]);
        assert_eq!(hash_requests(&actions, 1), [leaves()], "others are asked");
        let short = swarm.say(4, hashes(leaves(), true_hashes(&info, leaves())[1..].to_vec()));
        assert_eq!(closed(&short), [(4, CloseReason::WrongHashes)]);
        let actions = swarm.say(5, hashes(leaves(), true_hashes(&info, leaves())));
        assert_eq!(dropped(&actions), [[2]]);
    }
}

#[test]
fn bad_block_that_leaves_do_not_show_costs_the_piece() {
    let info = info();
    let mut swarm = halves(&info);
    witness(&mut swarm, 3);
    swarm.verified(PIECE, corrupt(&[]));
    assert_eq!(dropped(&swarm.say(3, hashes(leaves(), true_hashes(&info, leaves())))).len(), 1);
}

/// The same torrent as a hybrid.
fn hybrid() -> Arc<Info> {
    let mut hybrid = Info::clone(&info());
    hybrid.piece_hashes = Some(vec![0; 20 * hybrid.geometry.pieces() as usize].into());
    Arc::new(hybrid)
}

fn contradicted(swarm: &mut Swarm) -> Vec<PieceIndex> {
    let piece = |event| match event {
        Event::HashesContradict(piece) => Some(piece),
        _ => None,
    };
    swarm.events().into_iter().filter_map(piece).collect()
}

#[test]
fn contradiction_of_a_hybrid_is_told_and_blamed_on_nobody() {
    // By the shell, which has both hashes.
    let mut swarm = halves(&hybrid());
    let actions = swarm.verified(PIECE, PieceResult::Contradictory);
    assert_eq!(contradicted(&mut swarm), [PIECE]);
    assert_eq!((dropped(&actions).len(), closed(&actions)), (0, vec![]));
    // By leaves that are all right.
    let mut swarm = halves(&hybrid());
    swarm.connect_as(3, PeerInfo { v2: true, ..peer(3) });
    swarm.say(3, Message::Have(PIECE));
    swarm.verified(PIECE, corrupt(&[]));
    let mut actions = swarm.say(3, hashes(leaves(), true_hashes(&hybrid(), leaves())));
    assert_eq!(contradicted(&mut swarm), [PIECE]);
    actions.extend(swarm.pass(Duration::from_secs(60)));
    assert_eq!((dropped(&actions).len(), closed(&actions)), (0, vec![]));
    assert_eq!(requests(&actions), [], "no other bytes will do");
}

#[test]
fn contradiction_takes_every_block_to_be_right() {
    // One block is bad: that is a liar, whatever the other hash says.
    let mut swarm = halves(&hybrid());
    swarm.connect_as(3, PeerInfo { v2: true, ..peer(3) });
    swarm.say(3, Message::Have(PIECE));
    swarm.verified(PIECE, corrupt(&[2]));
    let actions = swarm.say(3, hashes(leaves(), true_hashes(&hybrid(), leaves())));
    assert_eq!((contradicted(&mut swarm), dropped(&actions)), (vec![], vec![vec![2]]));
    assert_eq!(closed(&actions), [(1, CloseReason::CorruptBlock)]);
    // Or the bytes of one are not at hand.
    let mut swarm = halves(&hybrid());
    swarm.connect_as(3, PeerInfo { v2: true, ..peer(3) });
    swarm.say(3, Message::Have(PIECE));
    let mut digests = digests_of(PIECE.0, BLOCKS, &[]);
    digests[7] = [0; 20];
    swarm.verified(PIECE, PieceResult::Corrupt { digests });
    let actions = swarm.say(3, hashes(leaves(), true_hashes(&hybrid(), leaves())));
    assert_eq!((contradicted(&mut swarm), dropped(&actions)), (vec![], vec![vec![7]]));
}

#[test]
fn bad_block_whose_bytes_were_not_at_hand_is_blamed_on_nobody() {
    let info = info();
    let mut swarm = halves(&info);
    witness(&mut swarm, 3);
    let mut digests = digests_of(PIECE.0, BLOCKS, &[12]);
    digests[2] = [0; 20];
    swarm.verified(PIECE, PieceResult::Corrupt { digests });
    let actions = swarm.say(3, hashes(leaves(), true_hashes(&info, leaves())));
    assert_eq!(dropped(&actions), [[2, 12]]);
    assert_eq!(closed(&actions), [(2, CloseReason::CorruptBlock)]);
}

#[test]
fn bad_block_that_is_its_whole_piece_needs_no_leaves() {
    let info = Arc::new(info_v2(&[5], 1));
    let mut swarm = Swarm::v2(&info, all_but(5, &[PIECE.0]));
    swarm.verifies = false;
    swarm.connect_seed(1);
    swarm.serve(1, usize::MAX);
    let actions = swarm.verified(PIECE, PieceResult::Corrupt { digests: digests_of(PIECE.0, 1, &[0]) });
    assert_eq!(closed(&actions), [(1, CloseReason::CorruptBlock)]);
    assert_eq!(swarm.torrent.totals().bytes_corrupt, u64::from(BLOCK_LEN));
}

#[test]
fn bad_block_pieces_that_wait_for_leaves_are_few() {
    let pieces = 4 * SUSPECTS_MAX as u32;
    let info = Arc::new(info_v2(&[2 * pieces], 2));
    let mut swarm = Swarm::v2(&info, Bitfield::empty(pieces));
    swarm.verifies = false;
    (1..=3).for_each(|n| drop(swarm.connect_seed(n)));
    let mut whole = Vec::new();
    for _ in 0..10_000 {
        let n = (1..=3).find(|&n| !swarm.asked(n).is_empty());
        let Some(n) = n else { break };
        let block = swarm.asked(n)[0];
        let (_, actions) = swarm.send_block(n, block);
        whole.extend(actions.into_iter().filter_map(|action| match action {
            Action::VerifyPiece { piece, .. } => Some(piece),
            _ => None,
        }));
    }
    assert!(whole.len() > SUSPECTS_MAX, "{}", whole.len());
    let mut kept = 0;
    for piece in whole {
        let digests = digests_of(piece.0, 2, &[1]);
        let actions = swarm.verified(piece, PieceResult::Corrupt { digests });
        kept += usize::from(!actions.contains(&Action::DropPiece(piece)));
    }
    assert_eq!(kept, SUSPECTS_MAX);
    let failed = swarm.events().into_iter().filter(|event| matches!(event, Event::PieceFailed(_))).count();
    assert!(failed > 0);
}

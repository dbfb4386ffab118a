//! Our requests: what is asked of whom, and what becomes of blocks, rejects and a slow disk.

mod common;

use common::*;
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::{BlockRef, PeerKey, PieceIndex};
use swarm_core::picker::Priority;
use swarm_core::time::Duration;
use swarm_core::torrent::{Action, CloseReason, PieceResult, Pressure};
use swarm_core::wire::Message;

const PIECES: u32 = 100;

fn leecher() -> Swarm {
    Swarm::leecher(PIECES, 2)
}

#[test]
fn unrequested_blocks_are_dropped_and_counted_and_close() {
    let mut swarm = leecher();
    swarm.connect(1);
    let mut ends = Vec::new();
    for _ in 0..100 {
        let (kept, actions) = swarm.send_block(1, block(0, 0));
        assert!(!kept);
        ends.extend(closed(&actions));
    }
    assert_eq!(ends, [(1, CloseReason::UnrequestedBlocks)]);
    assert!(swarm.torrent.totals().bytes_wasted >= u64::from(BLOCK_LEN));
}

#[test]
fn block_outside_of_any_piece_closes() {
    for outside in [block(0, 2), BlockRef { begin: u32::MAX, ..block(0, 0) }, block(PIECES, 0)] {
        let mut swarm = leecher();
        swarm.connect(1);
        let (kept, actions) = swarm.send_block(1, outside);
        assert!(!kept);
        assert_eq!(closed(&actions), [(1, CloseReason::NoSuchBlock(outside))]);
    }
}

#[test]
fn disk_that_does_not_take_a_piece_stops_requests_until_it_does() {
    let mut swarm = leecher();
    swarm.verifies = false;
    let asked = swarm.connect_seed(1);
    let piece = asked[0].piece;
    let (of_piece, others): (Vec<BlockRef>, Vec<BlockRef>) =
        asked.into_iter().partition(|block| block.piece == piece);
    of_piece.into_iter().for_each(|block| drop(swarm.send_block(1, block)));
    swarm.verified(piece, PieceResult::NotWritten);
    for block in others {
        let (kept, actions) = swarm.send_block(1, block);
        assert!(kept, "what was asked for is still taken");
        assert_eq!(requests(&actions), []);
    }
    assert_eq!(requests(&swarm.pass(Duration::from_secs(5))), []);
    swarm.torrent.handle_disk_ready(swarm.now);
    let actions = swarm.drain();
    assert!(actions.contains(&Action::VerifyPiece { piece, digests: false }));
    assert!(!requests(&actions).is_empty());
}

#[test]
fn piece_that_is_dropped_for_want_of_memory_is_cancelled_and_requested_again() {
    let mut swarm = leecher();
    let asked = swarm.connect_seed(1);
    let piece = asked[0].piece;
    let (of_piece, mut waiting): (Vec<BlockRef>, Vec<BlockRef>) =
        asked.into_iter().partition(|block| block.piece == piece);
    swarm.send_block(1, of_piece[0]);
    swarm.torrent.set_pressure(swarm.now, Pressure::Full);
    swarm.torrent.drop_piece(swarm.now, piece);
    let actions = swarm.drain();
    assert!(actions.contains(&Action::DropPiece(piece)));
    for &block in &of_piece[1..] {
        assert!(actions.contains(&Action::Send { peer: PeerKey(1), message: Message::Cancel(block) }));
    }
    let len = u64::from(BLOCK_LEN);
    assert_eq!((swarm.torrent.bytes_unverified(), swarm.torrent.totals().bytes_wasted), (0, len));
    assert_eq!(requests(&actions), []);
    assert!(!swarm.send_block(1, of_piece[1]).0, "what comes all the same is not kept");
    swarm.torrent.set_pressure(swarm.now, Pressure::None);
    waiting.extend(requests(&swarm.drain()));
    while let Some(block) = waiting.pop() {
        waiting.extend(requests(&swarm.send_block(1, block).1));
    }
    assert!(swarm.torrent.is_complete());
}

/// What is overdue holds the memory that the urgent piece has to wait for.
#[test]
fn overdue_blocks_are_asked_of_others_while_memory_is_full_also_when_a_reader_waits() {
    for urgent in [None, Some(Priority(Priority::HIGH.0 + 1))] {
        let mut swarm = leecher();
        let asked = swarm.connect_seed(1);
        swarm.send_block(1, asked[0]);
        swarm.torrent.set_pressure(swarm.now, Pressure::Full);
        let unstarted =
            (0..).map(PieceIndex).find(|piece| asked.iter().all(|block| block.piece != *piece)).unwrap();
        swarm.torrent.set_priorities(swarm.now, urgent.into_iter().map(|priority| (unstarted, priority)));
        swarm.drain();
        let mut again = swarm.connect_seed(2);
        (0..30).for_each(|_| again.extend(requests(&swarm.pass(Duration::from_secs(1)))));
        assert!(again.iter().any(|block| asked.contains(block)), "{urgent:?}: {again:?}");
    }
}

#[test]
fn resumed_blocks_are_not_requested_and_nobody_is_blamed_for_them() {
    let mut swarm = leecher();
    swarm.verifies = false;
    swarm.torrent.restore_blocks(PieceIndex(3), &[1]);
    swarm.torrent.restore_blocks(PieceIndex(4), &[0, 1]);
    let complete = |piece| Action::VerifyPiece { piece: PieceIndex(piece), digests: false };
    assert_eq!(swarm.drain(), [complete(4)], "what is whole is verified at once");
    swarm.verified(PieceIndex(4), written());
    assert_eq!(swarm.torrent.bytes_unverified(), u64::from(BLOCK_LEN));
    swarm.connect(1);
    swarm.say(1, have(3));
    assert_eq!(requests(&swarm.say(1, Message::Unchoke)), [block(3, 0)]);
    let (kept, actions) = swarm.send_block(1, block(3, 0));
    assert!(kept && actions.contains(&complete(3)));
    // What lay on disk was bad: the piece is asked of the same peer again, at once, and it is not banned.
    let actions = swarm.verified(PieceIndex(3), PieceResult::Corrupt { digests: vec![[1; 20], [0; 20]] });
    assert_eq!(closed(&actions), []);
    assert_eq!(requests(&actions).len(), 2);
}

#[test]
fn interested_follows_what_the_peer_has() {
    let mut swarm = leecher();
    swarm.connect(1);
    assert_eq!(sent(&swarm.say(1, have(3))), [&Message::Interested]);
    assert_eq!(sent(&swarm.say(1, dont_have(3))), [&Message::NotInterested]);
}

#[test]
fn choke_without_fast_gives_the_requests_to_others() {
    let mut swarm = leecher();
    for n in [1, 2] {
        swarm.connect_as(n, plain_peer(n));
        swarm.say(n, Message::Bitfield(Bitfield::full(PIECES).to_wire()));
    }
    let asked = requests(&swarm.say(1, Message::Unchoke));
    swarm.say(1, Message::Choke);
    swarm.say(2, Message::Unchoke);
    let again = swarm.serve(2, usize::MAX);
    assert!(asked.iter().all(|block| again.contains(block)), "the second peer is asked instead");
}

#[test]
fn reject_of_a_block_is_tried_again_and_a_piece_rejected_twice_is_not() {
    let mut swarm = leecher();
    let piece = swarm.connect_seed(1)[0].piece;
    let mut rejected = 0;
    let mut answer_all = |swarm: &mut Swarm| {
        while let Some(&block) = swarm.asked(1).first() {
            if block.piece == piece {
                swarm.say(1, Message::Reject(block));
                rejected += 1;
            } else {
                swarm.send_block(1, block);
            }
        }
    };
    answer_all(&mut swarm);
    swarm.pass(Duration::from_secs(30));
    assert_eq!(swarm.asked(1), [], "nothing after the last reject");
    assert!((3..=4).contains(&rejected), "{rejected} rejects of two blocks");
}

#[test]
fn download_limit_that_is_low_leads_to_few_requests_and_snubs_nobody() {
    let mut swarm = leecher();
    swarm.torrent.set_download_limit(swarm.now, Some(2_000));
    let peers = 11..=20;
    let mut asked = Vec::new();
    for n in peers.clone() {
        asked.extend(swarm.connect_seed(n).into_iter().map(|block| (n, block)));
    }
    assert_eq!(asked.len(), 4, "ten peers would send for minutes what we may not read");
    // What has come is read as the limit allows: a block every 8 s.
    for answered in 0..20 {
        let (n, block) = asked[answered];
        assert_eq!(requests(&swarm.pass(Duration::from_secs(8))), [], "nothing is asked for twice");
        let (kept, actions) = swarm.send_block(n, block);
        assert!(kept);
        asked.extend(requests(&actions).into_iter().map(|block| (n, block)));
        for n in peers.clone() {
            swarm.say(n, Message::KeepAlive);
            assert!(!swarm.view(n).is_snubbed());
        }
    }
    // A peer that really is silent does not keep them for good.
    assert!(!cancels(&swarm.pass(Duration::from_secs(100))).is_empty());
    swarm.torrent.set_download_limit(swarm.now, None);
    assert!(requests(&swarm.drain()).len() > 50);
}

#[test]
fn memory_pressure_does_not_idle_a_peer_that_has_none_of_the_partial_pieces() {
    let mut swarm = leecher();
    swarm.connect(1);
    swarm.say(1, have(0));
    swarm.say(1, Message::Unchoke);
    swarm.torrent.set_pressure(swarm.now, Pressure::Low);
    swarm.connect(2);
    swarm.say(2, have(1));
    assert!(!requests(&swarm.say(2, Message::Unchoke)).is_empty());
}

//! Hashes of version 2 (BEP 52) that peers ask us for: what they get, what it costs, and what is bounded.

mod common;

use common::*;
use std::sync::Arc;
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::{PeerKey, PieceIndex};
use swarm_core::merkle::{HashRange, Node, Tree};
use swarm_core::metainfo::Info;
use swarm_core::time::Duration;
use swarm_core::torrent::hashes::{
    HASHES_ASKED_MAX, LEAF_BYTES_BURST, LEAF_BYTES_OF_HOST_BURST, LEAF_BYTES_OF_HOST_PER_S, LEAF_BYTES_PER_S,
    LEAF_JOBS_MAX, LEAVES_ASKED_MAX, LEAVES_OWED_MAX,
};
use swarm_core::torrent::{Action, CloseReason};
use swarm_core::wire::Message;

fn seed(info: &Arc<Info>) -> Swarm {
    Swarm::v2(info, Bitfield::full(info.geometry.pieces()))
}

fn jobs(actions: &[Action]) -> Vec<(PieceIndex, u32)> {
    let job = |action: &Action| match action {
        Action::HashLeaves { first, pieces } => Some((*first, *pieces)),
        _ => None,
    };
    actions.iter().filter_map(job).collect()
}

fn leaves_of(info: &Info, (first, pieces): (PieceIndex, u32)) -> Vec<Node> {
    let of_piece =
        |piece| (0..info.geometry.blocks_in(PieceIndex(piece))).map(move |nth| leaf_of(piece, nth));
    (first.0..first.0 + pieces).flat_map(of_piece).collect()
}

/// The shell has hashed pieces again.
fn hashed(swarm: &mut Swarm, info: &Info, job: (PieceIndex, u32)) -> Vec<Action> {
    swarm.torrent.handle_leaves(swarm.now, job.0, job.1, Some(leaves_of(info, job)));
    swarm.drain()
}

/// Every request that fits a tree.
fn all_ranges(info: &Info, file: usize, base_layer: u32) -> Vec<HashRange> {
    let tree = Tree::new(info.files[file].length, info.geometry.piece_len());
    let numbers = (0..8).flat_map(|log| (0..70u32).map(move |at| (1u32 << log, at << log)));
    let all = numbers.flat_map(|(length, index)| (0..8).map(move |proof| (length, index, proof)));
    let ranges = all.map(|(length, index, proof)| range(info, file, base_layer, index, length, proof));
    ranges.filter(|range| range.fits(&tree)).collect()
}

#[test]
fn hash_request_for_pieces_is_answered_as_by_the_whole_tree() {
    let info = Arc::new(info_v2(&[3, 77, 64, 1], 4));
    let mut swarm = seed(&info);
    swarm.connect(1);
    let ranges: Vec<HashRange> = [1, 2].into_iter().flat_map(|file| all_ranges(&info, file, 2)).collect();
    assert!(ranges.len() > 100, "{}", ranges.len());
    for range in ranges {
        let actions = swarm.ask_hashes(1, range);
        assert!(actions.contains(&Action::Upload(PeerKey(1))), "{range:?}");
        assert_eq!(swarm.next_hashes(1), Some((range, true_hashes(&info, range))));
        swarm.pass(Duration::from_secs(1));
    }
    assert_eq!(swarm.next_hashes(1), None);
    assert!(swarm.is_here(1));
}

#[test]
fn hash_request_for_leaves_has_the_pieces_hashed_again_also_for_choked_peers() {
    let info = Arc::new(info_v2(&[3, 77, 1], 4));
    let mut swarm = seed(&info);
    swarm.connect(1);
    let ranges: Vec<HashRange> = [0, 1].into_iter().flat_map(|file| all_ranges(&info, file, 0)).collect();
    assert!(ranges.len() > 100, "{}", ranges.len());
    for range in ranges {
        let jobs = jobs(&swarm.ask_hashes(1, range));
        assert_eq!(jobs.len(), 1, "{range:?}");
        assert_eq!(swarm.next_hashes(1), None, "they are not here yet");
        assert!(hashed(&mut swarm, &info, jobs[0]).contains(&Action::Upload(PeerKey(1))));
        assert_eq!(swarm.next_hashes(1), Some((range, true_hashes(&info, range))));
        swarm.pass(Duration::from_secs(1));
    }
}

#[test]
fn hash_request_in_a_tall_tree_is_answered_a_part_at_a_time() {
    // 50,000 pieces: 98 nodes stand for 512 pieces each, and 64 of them are worked out at a time.
    let info = Arc::new(info_v2(&[50_000], 1));
    let mut swarm = seed(&info);
    swarm.connect(1);
    let tree = Tree::new(info.files[0].length, BLOCK_LEN);
    for index in [0, 512, 49_664] {
        let length = if index == 49_664 { 512 } else { 128 };
        let range = range(&info, 0, 0, index, length, tree.height() - 1);
        let before = swarm.torrent.work();
        swarm.torrent.handle_message(swarm.now, PeerKey(1), &Message::HashRequest(Box::new(range)));
        swarm.drain_unchecked();
        let mut answer = swarm.next_hashes(1);
        assert_eq!(answer.is_none(), index == 0, "the first has to wait");
        let mut steps = 0;
        while answer.is_none() {
            assert!(swarm.torrent.work() - before < 40_000, "in one go: {}", swarm.torrent.work() - before);
            assert!(swarm.step(Duration::from_millis(20)), "it is due");
            let actions = swarm.drain_unchecked();
            answer = actions.contains(&Action::Upload(PeerKey(1))).then(|| swarm.next_hashes(1)).flatten();
            steps += 1;
            assert!(steps < 10);
        }
        assert!(index == 0 || swarm.torrent.work() - before < 3_000, "{}", swarm.torrent.work() - before);
        let (_, hashes) = answer.expect("an answer");
        let (layer, at, node) = range.climb(&hashes).expect("as many hashes as there must be");
        assert_eq!((layer, at, Some(node)), (tree.height(), 0, info.files[0].pieces_root));
    }
}

/// A block has been asked for, so its leaves must not be refused (BEP 52), though the proof takes a while.
#[test]
fn leaves_in_tall_trees_wait_until_their_proofs_are_worked_out() {
    let info = Arc::new(info_v2(&[100_000, 100_000], 2));
    let mut swarm = seed(&info);
    swarm.connect(1);
    swarm.say_unchecked(1, Message::Interested);
    let piece_of = [7, 50_007];
    let mut wanted: Vec<HashRange> = (0..2)
        .map(|file| {
            range(&info, file, 0, 14, 2, Tree::new(info.files[file].length, 2 * BLOCK_LEN).height() - 1)
        })
        .collect();
    for (&piece, range) in piece_of.iter().zip(&wanted) {
        swarm.say_unchecked(1, Message::Request(block(piece, 0)));
        let actions = swarm.say_unchecked(1, Message::HashRequest(Box::new(*range)));
        assert_eq!(
            (hash_rejects(&actions, 1), jobs(&actions)),
            (0, Vec::new()),
            "not read before it can be sent"
        );
    }
    for _ in 0..20 {
        assert!(wanted.is_empty() || swarm.step(Duration::from_millis(20)), "it is due");
        for job in jobs(&swarm.drain_unchecked()) {
            swarm.torrent.handle_leaves(swarm.now, job.0, job.1, Some(leaves_of(&info, job)));
            assert_eq!(hash_rejects(&swarm.drain_unchecked(), 1), 0);
        }
        while let Some((range, hashes)) = swarm.next_hashes(1) {
            let file = wanted.iter().position(|wanted| *wanted == range).expect("it was asked for, and once");
            let (.., node) = range.climb(&hashes).expect("as many hashes as there must be");
            assert_eq!(node, range.pieces_root);
            wanted.remove(file);
        }
    }
    assert_eq!(wanted, [], "both files' proofs are worked out");
}

#[test]
fn hash_request_that_cannot_be_served_is_rejected_and_charged() {
    let info = Arc::new(info_v2(&[77], 4));
    let mut swarm = Swarm::v2(&info, all_but(20, &[0]));
    swarm.connect(1);
    let fine = range(&info, 0, 2, 0, 4, 0);
    let bad = [
        HashRange { pieces_root: [9; 32], ..fine },
        HashRange { base_layer: 1, ..fine },
        HashRange { base_layer: 3, ..fine },
        HashRange { index: 1, ..fine },
        HashRange { length: 3, ..fine },
        HashRange { index: u32::MAX, length: u32::MAX, proof_layers: u32::MAX, base_layer: u32::MAX, ..fine },
        // Leaves of a piece that is not here.
        HashRange { base_layer: 0, ..fine },
    ];
    for range in bad {
        let actions = swarm.ask_hashes(1, range);
        assert_eq!(hash_rejects(&actions, 1), 1, "{range:?}");
        assert_eq!((jobs(&actions), swarm.next_hashes(1)), (Vec::new(), None));
    }
    let mut closed_for = Vec::new();
    for _ in 0..40_000 {
        closed_for.extend(closed(&{
            swarm.torrent.handle_message(
                swarm.now,
                PeerKey(1),
                &Message::HashRequest(Box::new(HashRange { base_layer: 1, ..fine })),
            );
            swarm.drain_unchecked()
        }));
    }
    assert_eq!(closed_for, [(1, CloseReason::Flood)]);
}

#[test]
fn hash_request_in_a_torrent_of_version_1_is_rejected() {
    let mut swarm = Swarm::seed(4, 4);
    swarm.connect(1);
    let range = HashRange { pieces_root: [1; 32], base_layer: 0, index: 0, length: 4, proof_layers: 1 };
    assert_eq!(hash_rejects(&swarm.ask_hashes(1, range), 1), 1);
}

#[test]
fn hash_request_flood_is_bounded_in_work_and_memory() {
    let info = Arc::new(info_v2(&[4 * 512], 4));
    let mut swarm = seed(&info);
    swarm.connect(1);
    let before = swarm.torrent.work();
    let mut rejected = 0;
    for n in 0..1_000 {
        let length = 1 << (n % 8);
        rejected += hash_rejects(&swarm.ask_hashes(1, range(&info, 0, 2, 0, length, 0)), 1);
    }
    assert_eq!(rejected, 1_000 - HASHES_ASKED_MAX);
    assert!(swarm.torrent.work() - before < 20_000, "nothing is looked up before it can be sent");
    let mut answered = 0;
    for _ in 0..200_000 {
        swarm.torrent.handle_message(
            swarm.now,
            PeerKey(1),
            &Message::HashRequest(Box::new(range(&info, 0, 2, 0, 512, 0))),
        );
        swarm.drain_unchecked();
        answered += usize::from(swarm.next_hashes(1).is_some());
        if !swarm.is_here(1) {
            break;
        }
    }
    assert!(answered < 200, "{answered} copies of everything");
}

/// A piece of 16 MiB: what two requests for its leaves hash is a host's burst.
const LARGE: u32 = 1_024;

#[test]
fn leaves_are_hashed_within_the_limits_of_a_host_and_of_all() {
    let info = Arc::new(info_v2(&[LARGE * 64], LARGE));
    let piece_bytes = u64::from(LARGE * BLOCK_LEN);
    let leaves = |piece: u32| range(&info, 0, 0, piece * LARGE, LARGE, 9);
    let mut swarm = seed(&info);
    swarm.connect(1);
    let (mut of_host, mut rejected) = (0, 0);
    for round in 0..100 {
        for piece in 0..8 {
            let actions = swarm.ask_hashes(1, leaves((8 * round + piece) % 64));
            rejected += hash_rejects(&actions, 1);
            let mut todo = jobs(&actions);
            assert!(todo.len() <= LEAF_JOBS_MAX);
            while let Some(job) = todo.pop() {
                of_host += 1;
                todo.extend(jobs(&hashed(&mut swarm, &info, job)));
                while swarm.next_hashes(1).is_some() {
                    todo.extend(jobs(&swarm.drain()));
                }
            }
        }
        swarm.pass(Duration::from_secs(1));
    }
    let most = (LEAF_BYTES_OF_HOST_BURST + 101 * LEAF_BYTES_OF_HOST_PER_S) / piece_bytes + 2;
    assert!((most / 2..=most).contains(&of_host), "{of_host} pieces, {most} at the most");
    assert!(rejected > 600, "{rejected}");

    let mut swarm = seed(&info);
    (1..=40).for_each(|n| drop(swarm.connect(n)));
    let mut of_all = 0;
    for round in 0..20 {
        for n in 1..=40 {
            let mut todo = jobs(&swarm.ask_hashes(n, leaves((n + round) % 64)));
            while let Some(job) = todo.pop() {
                of_all += 1;
                todo.extend(jobs(&hashed(&mut swarm, &info, job)));
                (1..=40).for_each(|n| while swarm.next_hashes(n).is_some() {});
                todo.extend(jobs(&swarm.drain()));
            }
        }
        swarm.pass(Duration::from_secs(1));
    }
    let most = (LEAF_BYTES_BURST + 21 * LEAF_BYTES_PER_S) / piece_bytes + 2;
    assert!((most / 2..=most).contains(&of_all), "{of_all} pieces, {most} at the most");
}

#[test]
fn leaves_asked_for_right_after_a_block_of_theirs_are_never_refused() {
    let info = Arc::new(info_v2(&[LARGE * 64], LARGE));
    let leaves = |piece: u32| range(&info, 0, 0, piece * LARGE, LARGE, 9);
    let mut swarm = seed(&info);
    swarm.connect(1);
    swarm.say(1, Message::Interested);
    assert!(!swarm.view(1).flags.am_choking);
    let mut todo = Vec::new();
    for piece in 0..20 {
        swarm.say(1, Message::Request(block(piece, 3)));
        let actions = swarm.ask_hashes(1, leaves(piece));
        assert_eq!(hash_rejects(&actions, 1), 0, "{piece}");
        todo.extend(jobs(&actions));
    }
    // A second request on account of the same block, and one of another piece, have no such right.
    assert_eq!(hash_rejects(&swarm.ask_hashes(1, range(&info, 0, 0, 19 * LARGE, 2, 0)), 1), 1);
    swarm.say(1, Message::Request(block(20, 0)));
    assert_eq!(hash_rejects(&swarm.ask_hashes(1, leaves(21)), 1), 1);
    let mut answered = 0;
    for _ in 0..100 {
        while let Some(job) = todo.pop() {
            todo.extend(jobs(&hashed(&mut swarm, &info, job)));
        }
        while let Some((range, hashes)) = swarm.next_hashes(1) {
            assert_eq!(hashes, true_hashes(&info, range));
            answered += 1;
        }
        todo.extend(jobs(&swarm.drain()));
        todo.extend(jobs(&swarm.pass(Duration::from_secs(1))));
    }
    assert_eq!(answered, 20, "all of them, in time");
}

#[test]
fn leaves_asked_for_without_end_take_bounded_room() {
    let info = Arc::new(info_v2(&[16 * 600], 16));
    let leaves = |piece: u32| range(&info, 0, 0, piece * 16, 16, 3);
    let mut swarm = seed(&info);
    swarm.connect(1);
    let rejected: usize = (0..100).map(|piece| hash_rejects(&swarm.ask_hashes(1, leaves(piece)), 1)).sum();
    assert_eq!(rejected, 100 - LEAVES_ASKED_MAX, "the shell never answers");
    swarm.say(1, Message::Interested);
    let owed = (0..600).map(|piece| {
        swarm.say_unchecked(1, Message::Request(block(piece, 0)));
        hash_rejects(&swarm.say_unchecked(1, Message::HashRequest(Box::new(leaves(piece)))), 1)
    });
    let rejected: usize = owed.sum();
    assert!(rejected >= 600 - LEAVES_OWED_MAX, "{rejected}");
    swarm.disconnect(1);
    assert!(jobs(&swarm.pass(Duration::from_secs(5))).is_empty(), "who has left waits for nothing");
}

#[test]
fn leaves_of_data_that_has_rotted_are_not_sent_and_the_piece_is_checked() {
    let info = Arc::new(info_v2(&[64], 16));
    let mut swarm = seed(&info);
    swarm.connect(1);
    let job = jobs(&swarm.ask_hashes(1, range(&info, 0, 0, 16, 16, 3)))[0];
    let mut leaves = leaves_of(&info, job);
    leaves[5][0] ^= 1;
    swarm.torrent.handle_leaves(swarm.now, job.0, job.1, Some(leaves));
    let actions = swarm.drain();
    assert!(actions.contains(&Action::CheckPiece(PieceIndex(1))));
    assert_eq!((hash_rejects(&actions, 1), swarm.next_hashes(1)), (1, None));
    let job = jobs(&swarm.ask_hashes(1, range(&info, 0, 0, 0, 16, 3)))[0];
    swarm.torrent.handle_leaves(swarm.now, job.0, job.1, None);
    assert_eq!(hash_rejects(&swarm.drain(), 1), 1, "it cannot be read");
}

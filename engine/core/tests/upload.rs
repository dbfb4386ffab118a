//! Requests of peers: which are served, which are rejected, and when CHOKE and UNCHOKE follow.

mod common;

use common::*;
use swarm_core::id::{BlockRef, PeerKey};
use swarm_core::torrent::{Action, CloseReason};
use swarm_core::wire::Message;

const PIECES: u32 = 100;

#[test]
fn choke_and_unchoke_follow_interested_once_per_read() {
    let mut swarm = Swarm::seed(PIECES, 2);
    swarm.connect(1);
    let both = [Message::Interested, Message::NotInterested];
    let mut say_often = |last: usize| {
        for nth in 0..200 {
            swarm.torrent.handle_message(swarm.now, PeerKey(1), &both[(nth + last + 1) % 2]);
        }
        swarm.drain()
    };
    assert_eq!(sent(&say_often(1)), [] as [&Message; 0]);
    assert_eq!(sent(&say_often(0)), [&Message::Unchoke]);
}

#[test]
fn reject_answers_bad_requests_and_too_many_close() {
    let mut swarm = Swarm::seed(PIECES, 2);
    swarm.connect(1);
    swarm.say(1, Message::Interested);
    let outside = BlockRef { len: 1, ..block(0, 2) };
    let answers: Vec<Vec<Action>> = (0..200).map(|_| swarm.say(1, Message::Request(outside))).collect();
    assert_eq!(sent(&answers[0]), [&Message::Reject(outside)]);
    assert!(answers.iter().any(|actions| closed(actions) == [(1, CloseReason::BadRequests)]));
}

#[test]
fn reject_answers_requests_of_choked_peers_unless_allowed_fast() {
    let mut swarm = Swarm::seed(PIECES, 2);
    let greeting = swarm.connect(1);
    let allowed = |piece: u32| sent(&greeting).contains(&&Message::AllowedFast(block(piece, 0).piece));
    let fast = (0..PIECES).find(|&piece| allowed(piece)).expect("some piece is allowed");
    let other = (0..PIECES).find(|&piece| !allowed(piece)).unwrap();
    assert_eq!(sent(&swarm.say(1, Message::Request(block(other, 0)))), [&Message::Reject(block(other, 0))]);
    swarm.say(1, Message::Request(block(fast, 0)));
    assert_eq!(swarm.next_upload(1), Some(block(fast, 0)));
}

#[test]
fn reject_answers_a_cancel_and_the_block_is_not_sent() {
    let mut swarm = Swarm::seed(PIECES, 2);
    swarm.connect(1);
    assert!(sent(&swarm.say(1, Message::Interested)).contains(&&Message::Unchoke));
    let block = block(0, 0);
    swarm.say(1, Message::Request(block));
    assert_eq!(sent(&swarm.say(1, Message::Cancel(block))), [&Message::Reject(block)]);
    assert_eq!(swarm.next_upload(1), None);
}

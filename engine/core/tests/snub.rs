//! Peers that are slow or silent: who is snubbed, and where their requests go.

mod common;

use common::*;
use swarm_core::time::Duration;
use swarm_core::wire::Message;

const PIECES: u32 = 100;

/// A torrent whose only peer, a seed, has unchoked us.
fn with_seed() -> Swarm {
    let mut swarm = Swarm::leecher(PIECES, 2);
    swarm.connect_seed(1);
    swarm
}

#[test]
fn snub_of_a_silent_peer_gives_its_requests_to_others() {
    let mut swarm = with_seed();
    let asked = swarm.asked(1).to_vec();
    swarm.connect_seed(2);
    let mut served = Vec::new();
    for _ in 0..12 {
        served.extend(swarm.serve(2, 5));
        swarm.pass(Duration::from_secs(1));
    }
    assert!(swarm.view(1).is_snubbed());
    served.extend(swarm.serve(2, usize::MAX));
    assert!(asked.iter().all(|block| served.contains(block)));
}

#[test]
fn snub_spares_a_slow_peer_that_answers_in_order() {
    // A block every 8 s: 2 KB/s. The sixteen that it is asked for at first take two minutes.
    let mut swarm = with_seed();
    let mut asked = swarm.asked(1).to_vec();
    assert!(asked.len() >= 16);
    for answered in 0..40 {
        asked.extend(requests(&swarm.pass(Duration::from_secs(8))));
        asked.extend(requests(&swarm.send_block(1, asked[answered]).1));
    }
    let times = |block| asked.iter().filter(|&&other| other == block).count();
    assert!(asked.iter().all(|&block| times(block) == 1), "asked for twice: {asked:?}");
    assert_eq!(swarm.torrent.totals().bytes_wasted, 0);
}

#[test]
fn snub_of_a_very_slow_peer_happens_once_and_then_it_is_given_more_time() {
    let mut swarm = with_seed();
    let (mut snubs, mut wasted) = (0, 0);
    for _ in 0..20 {
        // It is at the first block already when it is told to leave it.
        let first = swarm.asked(1)[0];
        snubs += usize::from(!cancels(&swarm.pass(Duration::from_secs(16))).is_empty());
        wasted += usize::from(!swarm.send_block(1, first).0);
    }
    assert!(snubs <= 1 && wasted <= 1, "snubbed {snubs} times, {wasted} blocks of 20 came twice");
}

#[test]
fn request_that_is_passed_over_for_long_is_cancelled() {
    let mut swarm = with_seed();
    let asked = swarm.asked(1).to_vec();
    let mut cancelled = Vec::new();
    for &block in &asked[1..] {
        cancelled.extend(cancels(&swarm.pass(Duration::from_secs(5))));
        swarm.send_block(1, block);
    }
    cancelled.retain(|&block| block == asked[0]);
    assert_eq!(cancelled.len(), 1, "the first one never came");
}

#[test]
fn reject_that_answers_a_cancel_does_not_cost_the_piece() {
    let mut swarm = with_seed();
    let asked = swarm.asked(1).to_vec();
    let cancelled = cancels(&swarm.pass(Duration::from_secs(12)));
    assert_eq!(cancelled, asked, "a silent peer's requests are taken back");
    for block in cancelled {
        swarm.say(1, Message::Reject(block));
    }
    assert!(swarm.view(1).have().is_full());
    // It wakes up: everything can still be had from it.
    assert!(!swarm.asked(1).is_empty(), "a snubbed peer is still asked for one block");
    let served = swarm.serve(1, usize::MAX).len();
    assert!(served >= 2 * PIECES as usize, "{served} blocks asked for");
}

#[test]
fn endgame_gives_the_last_block_to_an_idle_peer_and_not_back_to_a_snubbed_one() {
    let mut swarm = Swarm::new(config(), all_but(PIECES, &[8]), 2);
    let asked = swarm.connect_seed(1);
    assert_eq!(asked.len(), 2, "everything that is missing");
    swarm.send_block(1, asked[0]);
    // Its blocks are slow, and it has never answered: nothing says that it would be quicker.
    swarm.connect_seed(2);
    let actions = swarm.pass(Duration::from_secs(10));
    let request = Message::Request(asked[1]);
    assert_eq!(sent_to(&actions, 2).into_iter().filter(|&message| *message == request).count(), 1);
    assert!(!sent_to(&actions, 1).contains(&&request), "not back to the first");
}

//! Somebody waits for a piece: it is asked for before all else, at once, and of everybody.

mod common;

use common::*;
use swarm_core::id::PieceIndex;
use swarm_core::picker::Priority;

const WAITED_FOR: Priority = Priority(Priority::HIGH.0 + 2);

/// A piece that nobody was asked for.
fn unasked(swarm: &Swarm, peers: &[u32]) -> PieceIndex {
    let asked = |piece: &PieceIndex| {
        peers.iter().any(|&peer| swarm.asked(peer).iter().any(|block| block.piece == *piece))
    };
    (0..).map(PieceIndex).find(|piece| !asked(piece)).unwrap()
}

#[test]
fn what_is_wanted_less_is_taken_back_and_asked_for_later() {
    let mut swarm = Swarm::leecher(100, 2);
    let asked = swarm.connect_seed(1);
    assert!(asked.len() > 8, "{asked:?}");
    let piece = unasked(&swarm, &[1]);
    swarm.torrent.set_priorities(swarm.now, [(piece, WAITED_FOR)]);
    assert_eq!(cancels(&swarm.drain()), [], "it comes first among what is asked for next");
    swarm.torrent.hurry(swarm.now, piece.0..piece.0 + 1);
    let actions = swarm.drain();
    // The first may be on its way.
    assert_eq!(cancels(&actions), asked[1..]);
    let again = requests(&actions);
    assert_eq!(again[..2], [block(piece.0, 0), block(piece.0, 1)]);
    assert!(again.len() > 2, "the peer has enough to do");
    // What comes all the same is of use, as long as some of its piece is asked for.
    assert_eq!(asked[0].piece, asked[1].piece);
    assert!(swarm.send_block(1, asked[1]).0 && swarm.send_block(1, asked[0]).0);
    swarm.torrent.hurry(swarm.now, piece.0..piece.0 + 1);
    assert_eq!(cancels(&swarm.drain()), [], "all of it is asked for");
}

#[test]
fn what_comes_after_a_piece_that_is_asked_for_already_is_hurried_too() {
    let mut swarm = Swarm::leecher(100, 2);
    let asked = swarm.connect_seed(1);
    // Somebody jumps to the end of a piece that is on its way.
    let first = asked[0].piece.0;
    let window = first..first + 3;
    let priorities =
        window.clone().map(|piece| (PieceIndex(piece), Priority(WAITED_FOR.0 + 3 - (piece - first) as u8)));
    swarm.torrent.set_priorities(swarm.now, priorities);
    swarm.torrent.hurry(swarm.now, window.clone());
    let again = requests(&swarm.drain());
    let later: Vec<_> = again.iter().filter(|block| window.contains(&block.piece.0)).collect();
    assert_eq!(later[..], again[..later.len()].iter().collect::<Vec<_>>(), "{again:?}");
    assert!(later.iter().any(|block| block.piece.0 == first + 1), "{again:?}");
}

#[test]
fn nothing_is_taken_back_from_those_who_cannot_send_it() {
    let mut swarm = Swarm::leecher(100, 2);
    swarm.connect(1);
    for piece in 0..50 {
        swarm.say(1, have(piece));
    }
    let asked = requests(&swarm.say(1, swarm_core::wire::Message::Unchoke));
    assert!(asked.len() > 8, "{asked:?}");
    swarm.torrent.set_priorities(swarm.now, [(PieceIndex(70), WAITED_FOR)]);
    swarm.torrent.hurry(swarm.now, 70..71);
    assert_eq!(cancels(&swarm.drain()), []);
}

#[test]
fn newcomers_share_a_piece_that_somebody_waits_for() {
    for is_waited_for in [false, true] {
        let mut swarm = Swarm::leecher(20, 64);
        let piece = PieceIndex(7);
        let wanted = if is_waited_for { WAITED_FOR } else { Priority::HIGH };
        swarm.torrent.set_priorities(swarm.now, [(piece, wanted)]);
        let pieces = [1, 2].map(|peer| {
            let asked = swarm.connect_seed(peer);
            asked.iter().filter(|block| block.piece == piece).count()
        });
        assert!(pieces[0] > 0, "{pieces:?}");
        assert_eq!(
            pieces[1] > 0,
            is_waited_for,
            "{pieces:?}: else each has a piece to itself until it is known"
        );
    }
}

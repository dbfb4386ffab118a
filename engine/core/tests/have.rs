//! What a peer says that it has (BITFIELD, HAVE, HAVE_ALL), and what we say.

mod common;

use common::*;
use swarm_core::id::PieceIndex;
use swarm_core::torrent::{Action, CloseReason};
use swarm_core::wire::Message;

const PIECES: u32 = 100;

fn leecher() -> Swarm {
    Swarm::leecher(PIECES, 2)
}

#[test]
fn fast_seed_greets_with_have_all_and_leecher_with_have_none() {
    assert!(sent(&Swarm::seed(PIECES, 2).connect(1)).contains(&&Message::HaveAll));
    assert!(sent(&leecher().connect(1)).contains(&&Message::HaveNone));
}

#[test]
fn bitfield_of_wrong_size_closes() {
    let mut swarm = leecher();
    swarm.connect(1);
    let actions = swarm.say(1, Message::Bitfield(vec![0; 3]));
    assert_eq!(closed(&actions), [(1, CloseReason::BitfieldLength { len: 3 })]);
}

#[test]
fn have_of_impossible_piece_closes() {
    let mut swarm = leecher();
    swarm.connect(1);
    let actions = swarm.say(1, have(PIECES));
    assert_eq!(closed(&actions), [(1, CloseReason::NoSuchPiece(PieceIndex(PIECES)))]);
}

#[test]
fn bitfield_spare_bits_are_ignored() {
    let mut swarm = leecher();
    swarm.connect(1);
    assert_eq!(closed(&swarm.say(1, Message::Bitfield(vec![0xff; 13]))), []);
    assert!(swarm.view(1).have().is_full());
}

#[test]
fn duplicate_bitfield_have_all_or_have_none_only_adds_pieces() {
    let firsts = [Message::Bitfield(vec![0xaa; 13]), Message::HaveAll, Message::HaveNone, have(3)];
    for first in &firsts {
        for second in &firsts[..3] {
            let mut swarm = leecher();
            swarm.connect(1);
            assert_eq!(closed(&swarm.say(1, first.clone())), []);
            let before = swarm.view(1).have().clone();
            assert_eq!(closed(&swarm.say(1, second.clone())), [], "{first:?}, {second:?}");
            let after = swarm.view(1).have();
            assert!(before.iter().all(|piece| after.has(piece)));
            assert!(!matches!(second, Message::HaveAll) || after.is_full());
        }
    }
}

#[test]
fn bitfield_need_not_be_the_first_message() {
    let mut swarm = leecher();
    swarm.connect(1);
    for before in [Message::KeepAlive, Message::Port(6881), Message::Unchoke, Message::Interested] {
        swarm.say(1, before);
    }
    assert_eq!(closed(&swarm.say(1, Message::Bitfield(vec![0xaa; 13]))), []);
    assert_eq!(swarm.view(1).have().count(), PIECES / 2);
}

#[test]
fn have_is_broadcast_after_the_write_and_not_after_the_last_block() {
    let mut swarm = leecher();
    swarm.verifies = false;
    let asked = swarm.connect_seed(1);
    let piece = asked[0].piece;
    let of_piece = asked.into_iter().filter(|block| block.piece == piece);
    let actions: Vec<Action> = of_piece.flat_map(|block| swarm.send_block(1, block).1).collect();
    assert!(actions.contains(&Action::VerifyPiece { piece, digests: false }));
    assert!(!actions.contains(&Action::BroadcastHave(piece)));
    assert!(swarm.verified(piece, written()).contains(&Action::BroadcastHave(piece)));
}

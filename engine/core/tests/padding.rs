//! Pad files (BEP 47): what nobody is asked for, and what becomes of a piece that does not verify with zeros.

mod common;

use common::*;
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::PieceIndex;
use swarm_core::padding::Padding;
use swarm_core::torrent::{Action, CloseReason, Config, Event, PieceResult};

const BLOCKS: u32 = 4;
const PIECE_LEN: u64 = (BLOCKS * BLOCK_LEN) as u64;

/// A torrent of so many pieces, each of which but the last begins with `payload` bytes and ends with padding.
fn padded(pieces: u64, payload: u64, is_assumed: bool) -> Swarm {
    let pad = |piece| (piece * PIECE_LEN + payload..(piece + 1) * PIECE_LEN, is_assumed);
    let config = Config { padding: Padding::new((0..pieces - 1).map(pad)), ..config() };
    Swarm::new(config, Bitfield::empty(pieces as u32), BLOCKS)
}

/// The peer sends what it is asked for of the first piece: how many blocks.
fn send_first_piece(swarm: &mut Swarm, n: u32) -> usize {
    let mut asked = swarm.connect_seed(n);
    asked.retain(|block| block.piece == PieceIndex(0));
    asked.iter().for_each(|&block| assert!(swarm.send_block(n, block).0));
    asked.len()
}

#[test]
fn padding_blocks_are_not_requested_and_a_piece_is_complete_without_them() {
    let mut swarm = padded(31, 1_000, false);
    assert_eq!(swarm.torrent.bytes_missing(), 30 * 1_000 + PIECE_LEN);
    swarm.connect_seed(1);
    let sent = swarm.serve(1, usize::MAX);
    assert!(swarm.torrent.is_complete() && swarm.torrent.bytes_missing() == 0);
    assert_eq!(sent.len(), 30 + 4);
    // Whole blocks, as every client asks for them.
    assert!(sent.iter().all(|block| block.len == BLOCK_LEN));
    assert!(sent.iter().all(|block| block.begin == 0 || block.piece == PieceIndex(30)));
    assert_eq!(swarm.torrent.totals().bytes_down, 34 * u64::from(BLOCK_LEN));
}

#[test]
fn padding_that_is_a_whole_piece_is_not_wanted() {
    let mut swarm = padded(3, 0, false);
    assert_eq!(swarm.torrent.missing().iter().collect::<Vec<_>>(), [PieceIndex(2)]);
    let asked = swarm.connect_seed(1);
    assert!(asked.len() == 4 && asked.iter().all(|block| block.piece == PieceIndex(2)), "{asked:?}");
}

#[test]
fn padding_that_nobody_needs_is_dropped_when_it_comes() {
    let mut swarm = padded(2, 20_000, false);
    swarm.connect_seed(1);
    assert!(!swarm.send_block(1, block(0, 3)).0);
    assert_eq!(swarm.torrent.padding_blocks(PieceIndex(0)).collect::<Vec<_>>(), [2, 3]);
}

/// Both blocks of payload of the first piece come from one peer, and it does not verify.
fn failed(is_assumed: bool) -> (Swarm, Vec<Action>) {
    let mut swarm = padded(2, 20_000, is_assumed);
    swarm.verifies = false;
    assert_eq!(send_first_piece(&mut swarm, 1), 2);
    let actions = swarm.verified(PieceIndex(0), PieceResult::Corrupt { digests: vec![[7; 20]; 4] });
    (swarm, actions)
}

/// A second peer sends all four blocks, which verify and have these digests.
fn second_try(swarm: &mut Swarm, digests: [u8; 4]) -> Vec<Action> {
    assert_eq!(send_first_piece(swarm, 2), 4, "all of it, and from somebody else");
    let digests = digests.map(|digest| [digest; 20]).to_vec();
    swarm.verified(PieceIndex(0), PieceResult::Written { digests })
}

#[test]
fn smart_ban_of_who_alone_sent_the_rest_of_a_padded_piece_that_fails() {
    let (_, actions) = failed(false);
    assert_eq!(closed(&actions), [(1, CloseReason::CorruptBlock)]);
}

#[test]
fn padding_by_name_alone_is_fetched_once_the_piece_fails_and_nobody_is_banned() {
    let (mut swarm, actions) = failed(true);
    assert_eq!(closed(&actions), []);
    // It was the padding: whoever sent the first blocks sent what is right now.
    assert_eq!(closed(&second_try(&mut swarm, [7, 7, 1, 2])), []);
    assert!(swarm.torrent.have().has(PieceIndex(0)));
    assert!(!swarm.events().iter().any(|event| matches!(event, Event::PeerBanned { .. })));
}

#[test]
fn smart_ban_in_a_piece_with_padding_by_name_comes_with_the_next_try() {
    let (mut swarm, _) = failed(true);
    assert_eq!(closed(&second_try(&mut swarm, [7, 8, 1, 1])), [(1, CloseReason::CorruptBlock)]);
}

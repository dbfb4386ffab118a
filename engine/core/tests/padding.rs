//! Pad files (BEP 47): what nobody is asked for, and what becomes of a piece that does not verify with zeros.

use std::net::SocketAddr;
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::{BLOCK_LEN, Geometry};
use swarm_core::id::{BlockRef, InfoHash, PeerId, PeerKey, PieceIndex};
use swarm_core::padding::Padding;
use swarm_core::peer::PeerInfo;
use swarm_core::time::Time;
use swarm_core::torrent::{Action, CloseReason, Config, Event, PieceResult, Torrent};
use swarm_core::wire::Message;

const NOW: Time = Time::from_micros(1);
const PIECE_LEN: u64 = 4 * BLOCK_LEN as u64;

/// A torrent of so many pieces, each of which but the last begins with `payload` bytes and ends with padding.
fn torrent(pieces: u64, payload: u64, is_assumed: bool) -> Torrent {
    let geometry = Geometry::new(pieces * PIECE_LEN, PIECE_LEN).unwrap();
    let mut config = Config::new(InfoHash([1; 20]), PeerId([9; 20]), 42);
    let pad = |piece| (piece * PIECE_LEN + payload..(piece + 1) * PIECE_LEN, is_assumed);
    config.padding = Padding::new((0..pieces - 1).map(pad));
    Torrent::new(config, geometry, Bitfield::empty(pieces as u32))
}

/// What the torrent wants done.
fn drain(torrent: &mut Torrent) -> Vec<Action> {
    torrent.check_invariants();
    std::iter::from_fn(|| torrent.poll_action()).collect()
}

fn requests(actions: &[Action]) -> Vec<BlockRef> {
    let block = |action: &Action| match action {
        Action::Send { message: Message::Request(block), .. } => Some(*block),
        _ => None,
    };
    actions.iter().filter_map(block).collect()
}

/// A seed connects and unchokes: what it is asked for.
fn seed(torrent: &mut Torrent, key: u32) -> Vec<BlockRef> {
    let addr = SocketAddr::from(([10, 0, 0, key as u8], 6881));
    let info =
        PeerInfo { addr, inbound: false, peer_id: PeerId([key as u8; 20]), fast: true, extended: false };
    torrent.handle_connected(NOW, PeerKey(key), info);
    torrent.handle_message(NOW, PeerKey(key), &Message::HaveAll);
    torrent.handle_message(NOW, PeerKey(key), &Message::Unchoke);
    let mut asked = requests(&drain(torrent));
    asked.sort();
    asked
}

fn corrupt() -> PieceResult {
    PieceResult::Corrupt { digests: vec![[7; 20]; 4] }
}

fn closed(actions: &[Action]) -> Vec<(PeerKey, CloseReason)> {
    let close = |action: &Action| match action {
        Action::Close { peer, reason } => Some((*peer, reason.clone())),
        _ => None,
    };
    actions.iter().filter_map(close).collect()
}

#[test]
fn blocks_of_padding_are_not_asked_for_and_a_piece_is_complete_without_them() {
    let mut torrent = torrent(31, 1_000, false);
    assert_eq!(torrent.bytes_missing(), 30 * 1_000 + PIECE_LEN);
    let mut left = seed(&mut torrent, 1);
    let (mut asked, mut pieces) = (Vec::new(), 0);
    while let Some(block) = left.pop() {
        asked.push(block);
        assert!(torrent.handle_block(NOW, PeerKey(1), block));
        for action in drain(&mut torrent) {
            if let Action::VerifyPiece { piece, .. } = action {
                pieces += 1;
                torrent.handle_piece_result(NOW, piece, PieceResult::Written { digests: Vec::new() });
            }
            left.extend(requests(&[action]));
        }
        left.extend(requests(&drain(&mut torrent)));
    }
    assert!(torrent.is_complete() && torrent.bytes_missing() == 0);
    assert_eq!((pieces, asked.len()), (31, 30 + 4));
    // Whole blocks, as every client asks for them.
    assert!(asked.iter().all(|block| block.len == BLOCK_LEN));
    assert!(asked.iter().all(|block| block.begin == 0 || block.piece == PieceIndex(30)));
    assert_eq!(torrent.totals().bytes_down, 34 * u64::from(BLOCK_LEN));
}

#[test]
fn a_piece_that_is_all_padding_is_not_wanted() {
    let mut torrent = torrent(3, 0, false);
    assert_eq!(torrent.missing().iter().collect::<Vec<_>>(), [PieceIndex(2)]);
    let asked = seed(&mut torrent, 1);
    assert!(asked.len() == 4 && asked.iter().all(|block| block.piece == PieceIndex(2)), "{asked:?}");
}

#[test]
fn padding_that_nobody_needs_is_dropped_when_it_comes() {
    let mut torrent = torrent(2, 20_000, false);
    seed(&mut torrent, 1);
    let padding = BlockRef { piece: PieceIndex(0), begin: 3 * BLOCK_LEN, len: BLOCK_LEN };
    assert!(!torrent.handle_block(NOW, PeerKey(1), padding));
    assert_eq!(torrent.padding_blocks(PieceIndex(0)).collect::<Vec<_>>(), [2, 3]);
}

/// Both blocks of payload of the first piece come from one peer, and it does not verify.
fn failed(is_assumed: bool) -> (Torrent, Vec<Action>) {
    let mut torrent = torrent(2, 20_000, is_assumed);
    let asked = seed(&mut torrent, 1);
    for block in asked.into_iter().filter(|block| block.piece == PieceIndex(0)) {
        assert!(torrent.handle_block(NOW, PeerKey(1), block));
    }
    drain(&mut torrent);
    torrent.handle_piece_result(NOW, PieceIndex(0), corrupt());
    let actions = drain(&mut torrent);
    (torrent, actions)
}

#[test]
fn who_alone_sent_the_rest_of_a_padded_piece_that_fails_lied() {
    let (_, actions) = failed(false);
    assert_eq!(closed(&actions), [(PeerKey(1), CloseReason::CorruptBlock)]);
}

#[test]
fn what_is_padding_by_name_alone_is_fetched_once_the_piece_fails_and_nobody_is_banned_for_it() {
    let (mut torrent, actions) = failed(true);
    assert_eq!(closed(&actions), []);
    let mut asked = seed(&mut torrent, 2);
    asked.retain(|block| block.piece == PieceIndex(0));
    assert_eq!(asked.len(), 4, "all of it, and from somebody else");
    for &block in &asked {
        assert!(torrent.handle_block(NOW, PeerKey(2), block));
    }
    drain(&mut torrent);
    // It was the padding: whoever sent the first blocks sent what is right now.
    let digests = vec![[7; 20], [7; 20], [1; 20], [2; 20]];
    torrent.handle_piece_result(NOW, PieceIndex(0), PieceResult::Written { digests });
    assert_eq!(closed(&drain(&mut torrent)), []);
    assert!(torrent.have().has(PieceIndex(0)));
    let banned = std::iter::from_fn(|| torrent.poll_event()).any(|e| matches!(e, Event::PeerBanned { .. }));
    assert!(!banned);
}

#[test]
fn who_lied_about_a_piece_with_padding_by_name_is_found_out_by_the_next_try() {
    let (mut torrent, _) = failed(true);
    let asked = seed(&mut torrent, 2);
    for block in asked.into_iter().filter(|block| block.piece == PieceIndex(0)) {
        torrent.handle_block(NOW, PeerKey(2), block);
    }
    drain(&mut torrent);
    let digests = vec![[7; 20], [8; 20], [1; 20], [1; 20]];
    torrent.handle_piece_result(NOW, PieceIndex(0), PieceResult::Written { digests });
    assert_eq!(closed(&drain(&mut torrent)), [(PeerKey(1), CloseReason::CorruptBlock)]);
}

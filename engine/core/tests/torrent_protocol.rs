//! One torrent against a scripted peer: what each message leads to, and what ends a connection.

use std::net::SocketAddr;
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::{BLOCK_LEN, Geometry};
use swarm_core::id::{BlockRef, InfoHash, PeerId, PeerKey, PieceIndex};
use swarm_core::peer::PeerInfo;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::discovery::Origin;
use swarm_core::torrent::{Action, CloseReason, Config, PAROLE_BYTES, PieceResult, Torrent};
use swarm_core::wire::Message;
use swarm_core::wire::extension::{Extension, encode_piece};

const PIECES: u32 = 100;
const OUR_ID: PeerId = PeerId([9; 20]);

struct Script {
    torrent: Torrent,
    now: Time,
    /// Whether pieces are found correct as soon as they are complete.
    verifies: bool,
}

impl Script {
    fn new(have: Bitfield) -> Script {
        let geometry = Geometry::new(u64::from(PIECES * 2 * BLOCK_LEN), u64::from(2 * BLOCK_LEN)).unwrap();
        let config = Config::new(InfoHash([1; 20]), OUR_ID, 42);
        let torrent = Torrent::new(config, geometry, have);
        Script { torrent, now: Time::from_micros(1), verifies: true }
    }

    fn leecher() -> Script {
        Script::new(Bitfield::empty(PIECES))
    }

    fn seed() -> Script {
        Script::new(Bitfield::full(PIECES))
    }

    fn connect(&mut self, key: u32, inbound: bool, id: u8) -> Vec<Action> {
        self.connect_with(key, inbound, id, true)
    }

    fn connect_with(&mut self, key: u32, inbound: bool, id: u8, fast: bool) -> Vec<Action> {
        let addr = SocketAddr::from(([10, 0, 0, key as u8], 6881));
        let info = PeerInfo { addr, inbound, peer_id: PeerId([id; 20]), fast, extended: false };
        self.torrent.handle_connected(self.now, PeerKey(key), info);
        self.drain()
    }

    fn send(&mut self, key: u32, message: Message) -> Vec<Action> {
        self.torrent.handle_message(self.now, PeerKey(key), &message);
        self.drain()
    }

    fn block(&mut self, key: u32, block: BlockRef) -> (bool, Vec<Action>) {
        let kept = self.torrent.handle_block(self.now, PeerKey(key), block);
        (kept, self.drain())
    }

    /// A peer connects that has one piece, and sends what we ask it for: how many blocks.
    fn fetch(&mut self, key: u32, piece: PieceIndex) -> usize {
        self.connect(key, false, key as u8);
        self.send(key, Message::Have(piece));
        let asked = requests(&self.send(key, Message::Unchoke));
        asked.iter().for_each(|&block| drop(self.block(key, block)));
        asked.len()
    }

    /// Answers up to `count` of the requests to a peer, in order; what it is asked for meanwhile is added.
    fn answer(&mut self, key: u32, asked: &mut Vec<BlockRef>, answered: &mut usize, count: usize) {
        for _ in 0..count {
            let Some(&block) = asked.get(*answered) else { return };
            *answered += 1;
            asked.extend(requests(&self.block(key, block).1));
        }
    }

    fn pass(&mut self, seconds: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.torrent.handle_timeout(self.now);
            actions.extend(self.drain());
        }
        actions
    }

    fn drain(&mut self) -> Vec<Action> {
        self.torrent.check_invariants();
        let mut actions = Vec::new();
        while let Some(action) = self.torrent.poll_action() {
            if let Action::VerifyPiece { piece, .. } = action
                && self.verifies
            {
                self.verified(piece, PieceResult::Written { digests: Vec::new() });
            }
            actions.push(action);
        }
        actions
    }

    /// A complete piece has been looked at.
    fn verified(&mut self, piece: PieceIndex, result: PieceResult) {
        self.torrent.handle_piece_result(self.now, piece, result);
        self.torrent.check_invariants();
    }

    /// A connected seed that has unchoked us, and what we asked it for.
    fn unchoked_seed(key: u32) -> (Script, Vec<BlockRef>) {
        let mut script = Script::leecher();
        script.connect(key, false, key as u8);
        script.send(key, Message::HaveAll);
        let requests = requests(&script.send(key, Message::Unchoke));
        (script, requests)
    }
}

fn messages(actions: &[Action]) -> Vec<&Message> {
    let message = |action: &'_ Action| matches!(action, Action::Send { .. });
    actions
        .iter()
        .filter(|a| message(a))
        .map(|a| match a {
            Action::Send { message, .. } => message,
            _ => unreachable!("filtered"),
        })
        .collect()
}

fn requests(actions: &[Action]) -> Vec<BlockRef> {
    let block = |m: &&Message| match m {
        Message::Request(block) => Some(*block),
        _ => None,
    };
    messages(actions).iter().filter_map(block).collect()
}

fn closed(actions: &[Action]) -> Option<&CloseReason> {
    actions.iter().find_map(|a| match a {
        Action::Close { reason, .. } => Some(reason),
        _ => None,
    })
}

#[test]
fn a_seed_greets_with_have_all_and_a_leecher_with_have_none() {
    assert!(messages(&Script::seed().connect(1, true, 1)).contains(&&Message::HaveAll));
    assert!(messages(&Script::leecher().connect(1, true, 1)).contains(&&Message::HaveNone));
}

#[test]
fn interest_follows_what_the_peer_has() {
    let mut script = Script::leecher();
    script.connect(1, false, 1);
    let have = script.send(1, Message::Have(PieceIndex(3)));
    assert_eq!(messages(&have), [&Message::Interested]);
    let none = script.send(1, dont_have(3));
    assert_eq!(messages(&none), [&Message::NotInterested]);
}

#[test]
fn a_bitfield_of_the_wrong_size_or_an_impossible_piece_closes() {
    let mut script = Script::leecher();
    script.connect(1, false, 1);
    let actions = script.send(1, Message::Bitfield(vec![0; 3]));
    assert_eq!(closed(&actions), Some(&CloseReason::BitfieldLength { len: 3 }));
    script.connect(2, false, 2);
    let actions = script.send(2, Message::Have(PieceIndex(PIECES)));
    assert_eq!(closed(&actions), Some(&CloseReason::NoSuchPiece(PieceIndex(PIECES))));
}

#[test]
fn a_later_bitfield_adds_what_is_new_in_it() {
    let some = || Message::Bitfield(vec![0xaa; 13]);
    let firsts = [some(), Message::HaveAll, Message::HaveNone, Message::Have(PieceIndex(3))];
    for first in &firsts {
        for second in &firsts[..3] {
            let mut script = Script::leecher();
            script.connect(1, true, 1);
            assert_eq!(closed(&script.send(1, first.clone())), None);
            let pieces = |script: &Script| script.torrent.peer(PeerKey(1)).map(|peer| peer.have().clone());
            let before = pieces(&script).unwrap();
            assert_eq!(closed(&script.send(1, second.clone())), None, "{first:?}, {second:?}");
            let after = pieces(&script).unwrap();
            assert!(before.iter().all(|piece| after.has(piece)));
            assert!(!matches!(second, Message::HaveAll) || after.is_full());
        }
    }
    // Some begin with other things.
    let mut script = Script::leecher();
    script.connect(1, true, 1);
    for before in [Message::KeepAlive, Message::Port(6881), Message::Unchoke, Message::Interested] {
        script.send(1, before);
    }
    assert_eq!(closed(&script.send(1, some())), None);
    assert_eq!(script.torrent.peer(PeerKey(1)).unwrap().have().count(), PIECES / 2);
}

#[test]
fn what_comes_together_is_answered_once() {
    let mut script = Script::seed();
    script.connect(1, true, 1);
    for _ in 0..100 {
        script.torrent.handle_message(script.now, PeerKey(1), &Message::Interested);
        script.torrent.handle_message(script.now, PeerKey(1), &Message::NotInterested);
    }
    assert_eq!(messages(&script.drain()), [] as [&Message; 0]);
    for _ in 0..100 {
        script.torrent.handle_message(script.now, PeerKey(1), &Message::NotInterested);
        script.torrent.handle_message(script.now, PeerKey(1), &Message::Interested);
    }
    assert_eq!(messages(&script.drain()), [&Message::Unchoke]);
}

#[test]
fn spare_bits_are_ignored() {
    let mut script = Script::leecher();
    script.connect(1, false, 1);
    let actions = script.send(1, Message::Bitfield(vec![0xff; 13]));
    assert_eq!(closed(&actions), None);
    assert!(script.torrent.peer(PeerKey(1)).unwrap().have().is_full());
}

#[test]
fn bad_requests_are_rejected_and_too_many_close() {
    let mut script = Script::seed();
    script.connect(1, true, 1);
    script.send(1, Message::Interested);
    let outside = BlockRef { piece: PieceIndex(0), begin: 2 * BLOCK_LEN, len: 1 };
    let answers: Vec<Vec<Action>> = (0..200).map(|_| script.send(1, Message::Request(outside))).collect();
    assert_eq!(messages(&answers[0]), [&Message::Reject(outside)]);
    assert!(answers.iter().any(|a| closed(a) == Some(&CloseReason::BadRequests)));
}

#[test]
fn requests_while_choked_are_rejected_unless_allowed_fast() {
    let mut script = Script::seed();
    let greeting = script.connect(1, true, 1);
    let allowed = messages(&greeting).iter().find_map(|m| match m {
        Message::AllowedFast(piece) => Some(*piece),
        _ => None,
    });
    let allowed = allowed.expect("some piece is allowed");
    let is_allowed = |p: PieceIndex| messages(&greeting).contains(&&Message::AllowedFast(p));
    let other = (0..PIECES).map(PieceIndex).find(|&p| !is_allowed(p)).unwrap();
    let block = |piece| BlockRef { piece, begin: 0, len: BLOCK_LEN };
    assert_eq!(messages(&script.send(1, Message::Request(block(other)))), [&Message::Reject(block(other))]);
    script.send(1, Message::Request(block(allowed)));
    assert_eq!(script.torrent.next_upload(script.now, PeerKey(1)), Some(block(allowed)));
}

#[test]
fn a_cancelled_request_is_rejected_and_not_sent() {
    let mut script = Script::seed();
    script.connect(1, true, 1);
    assert!(messages(&script.send(1, Message::Interested)).contains(&&Message::Unchoke));
    let block = BlockRef { piece: PieceIndex(0), begin: 0, len: BLOCK_LEN };
    script.send(1, Message::Request(block));
    assert_eq!(messages(&script.send(1, Message::Cancel(block))), [&Message::Reject(block)]);
    assert_eq!(script.torrent.next_upload(script.now, PeerKey(1)), None);
}

#[test]
fn blocks_that_nobody_asked_for_are_dropped_counted_and_close() {
    let mut script = Script::leecher();
    script.connect(1, false, 1);
    let block = BlockRef { piece: PieceIndex(0), begin: 0, len: BLOCK_LEN };
    let mut reason = None;
    for _ in 0..100 {
        let (kept, actions) = script.block(1, block);
        assert!(!kept);
        reason = reason.or(closed(&actions).cloned());
    }
    assert_eq!(reason, Some(CloseReason::UnrequestedBlocks));
    assert!(script.torrent.totals().bytes_wasted >= u64::from(BLOCK_LEN));
}

#[test]
fn a_block_outside_of_any_piece_closes() {
    for (piece, begin) in [(0, 2 * BLOCK_LEN), (0, u32::MAX), (PIECES, 0)] {
        let mut script = Script::leecher();
        script.connect(1, false, 1);
        let block = BlockRef { piece: PieceIndex(piece), begin, len: BLOCK_LEN };
        let (kept, actions) = script.block(1, block);
        assert!(!kept);
        assert_eq!(closed(&actions), Some(&CloseReason::NoSuchBlock(block)));
    }
}

fn dont_have(piece: u32) -> Message {
    Message::Extended { id: Extension::DontHave.local_id(), payload: encode_piece(PieceIndex(piece)) }
}

#[test]
fn a_piece_that_a_peer_has_lost_is_no_longer_expected_of_it() {
    let mut script = Script::leecher();
    script.connect(1, false, 1);
    script.send(1, Message::Have(PieceIndex(5)));
    for other in [4, PIECES, u32::MAX] {
        assert!(script.send(1, dont_have(other)).is_empty());
    }
    assert!(messages(&script.send(1, dont_have(5))).contains(&&Message::NotInterested));
}

#[test]
fn a_lost_piece_without_the_fast_extension_is_asked_of_others() {
    let mut script = Script::leecher();
    for key in [1, 2] {
        script.connect_with(key, false, key as u8, false);
        script.send(key, Message::Have(PieceIndex(5)));
    }
    let asked = requests(&script.send(1, Message::Unchoke));
    assert_eq!(asked.len(), 2);
    script.send(1, dont_have(5));
    assert_eq!(requests(&script.send(2, Message::Unchoke)), asked);
}

#[test]
fn have_follows_the_write_and_not_the_last_block() {
    let (mut script, asked) = Script::unchoked_seed(1);
    script.verifies = false;
    let piece = asked[0].piece;
    let of_piece: Vec<BlockRef> = asked.into_iter().filter(|b| b.piece == piece).collect();
    let actions: Vec<Action> = of_piece.iter().flat_map(|&b| script.block(1, b).1).collect();
    assert!(actions.contains(&Action::VerifyPiece { piece, digests: false }));
    assert!(!actions.contains(&Action::BroadcastHave(piece)));
    script.verified(piece, PieceResult::Written { digests: Vec::new() });
    assert!(script.drain().contains(&Action::BroadcastHave(piece)));
}

#[test]
fn a_disk_that_does_not_take_a_piece_stops_requests_until_it_does() {
    let (mut script, asked) = Script::unchoked_seed(1);
    script.verifies = false;
    let piece = asked[0].piece;
    for &block in asked.iter().filter(|b| b.piece == piece) {
        script.block(1, block);
    }
    script.verified(piece, PieceResult::NotWritten);
    script.drain();
    for &block in asked.iter().filter(|b| b.piece != piece) {
        let (kept, actions) = script.block(1, block);
        assert!(kept, "what was asked for is still taken");
        assert_eq!(requests(&actions), []);
    }
    assert_eq!(requests(&script.pass(5)), []);
    script.torrent.handle_disk_ready(script.now);
    let actions = script.drain();
    assert!(actions.contains(&Action::VerifyPiece { piece, digests: false }));
    assert!(!requests(&actions).is_empty());
}

#[test]
fn a_piece_that_is_dropped_for_want_of_memory_is_cancelled_and_asked_for_again() {
    let (mut script, asked) = Script::unchoked_seed(1);
    let piece = asked[0].piece;
    let of_piece: Vec<BlockRef> = asked.iter().copied().filter(|b| b.piece == piece).collect();
    script.block(1, of_piece[0]);
    script.torrent.set_pressure(script.now, swarm_core::torrent::Pressure::Full);
    script.torrent.drop_piece(script.now, piece);
    let actions = script.drain();
    assert!(actions.contains(&Action::DropPiece(piece)));
    for &block in &of_piece[1..] {
        assert!(actions.contains(&Action::Send { peer: PeerKey(1), message: Message::Cancel(block) }));
    }
    let len = u64::from(BLOCK_LEN);
    assert_eq!((script.torrent.bytes_unverified(), script.torrent.totals().bytes_wasted), (0, len));
    assert_eq!(requests(&actions), []);
    assert!(!script.block(1, of_piece[1]).0, "what comes all the same is not kept");
    script.torrent.set_pressure(script.now, swarm_core::torrent::Pressure::None);
    let mut waiting: Vec<BlockRef> = asked.into_iter().filter(|b| b.piece != piece).collect();
    waiting.extend(requests(&script.drain()));
    while let Some(block) = waiting.pop() {
        waiting.extend(requests(&script.block(1, block).1));
    }
    assert!(script.torrent.is_complete());
}

fn corrupt() -> PieceResult {
    PieceResult::Corrupt { digests: vec![[7; 20], [9; 20]] }
}

#[test]
fn a_quick_liar_is_found_before_it_has_sent_much() {
    let (mut script, mut asked) = Script::unchoked_seed(1);
    script.verifies = false;
    let mut answered = 0;
    script.answer(1, &mut asked, &mut answered, usize::MAX);
    let most = 2 * PAROLE_BYTES / u64::from(BLOCK_LEN);
    assert!(answered as u64 <= most, "{answered} blocks before the first was looked at");
    script.verified(asked[0].piece, PieceResult::Written { digests: Vec::new() });
    asked.extend(requests(&script.drain()));
    script.answer(1, &mut asked, &mut answered, usize::MAX);
    assert!(answered as u32 >= 2 * PIECES, "{answered} blocks when one of its pieces was right");
}

#[test]
fn who_sent_a_piece_beside_a_liar_is_asked_for_it_at_once() {
    let (mut script, asked) = Script::unchoked_seed(1);
    let others = (0..PIECES).map(PieceIndex).filter(|&piece| asked.iter().all(|block| block.piece != piece));
    let others: Vec<PieceIndex> = others.collect();
    // Whose pieces have been right is not on parole.
    script.fetch(2, others[0]);
    script.verifies = false;
    let (mixed, own) = (asked[0].piece, asked[2].piece);
    assert_ne!(mixed, own, "two blocks in a piece");
    script.block(1, asked[0]);
    script.send(1, Message::Choke);
    script.send(1, Message::Reject(asked[1]));
    let mut of_second = requests(&script.send(2, Message::Have(mixed)));
    assert_eq!(of_second[0], asked[1]);
    for &piece in &others[1..] {
        of_second.extend(requests(&script.send(2, Message::Have(piece))));
    }
    of_second.extend(requests(&script.block(2, asked[1]).1));
    asked[2..4].iter().for_each(|&block| of_second.extend(requests(&script.block(1, block).1)));
    script.verified(mixed, corrupt());
    of_second.extend(requests(&script.drain()));
    script.verifies = true;
    script.answer(2, &mut of_second, &mut 1, usize::MAX);
    assert!(!of_second[1..].iter().any(|b| b.piece == mixed), "either may have lied");
    script.verified(own, corrupt());
    let again = requests(&script.drain());
    assert!(
        again.iter().any(|b| b.piece == mixed),
        "the first has lied, the second is no suspect: {again:?}"
    );
}

#[test]
fn who_sent_a_piece_beside_a_liar_is_asked_for_it_when_another_piece_shows_the_lie() {
    let mut have = Bitfield::full(PIECES);
    for piece in [8, 9] {
        have.remove(PieceIndex(piece));
    }
    let mut script = Script::new(have);
    script.verifies = false;
    script.connect(1, false, 1);
    script.send(1, Message::HaveAll);
    let asked = requests(&script.send(1, Message::Unchoke));
    let (first, second) = (asked[0].piece, asked[2].piece);
    for sent in [0, 2] {
        script.block(1, asked[sent]);
    }
    script.send(1, Message::Choke);
    for refused in [1, 3] {
        script.send(1, Message::Reject(asked[refused]));
    }
    assert_eq!([script.fetch(2, first), script.fetch(3, second)], [1, 1]);
    script.verified(first, corrupt());
    script.verified(second, corrupt());
    script.torrent.handle_disconnected(script.now, PeerKey(1));
    assert_eq!(script.fetch(4, second), 2);
    // Of what failed, the second block was right.
    script.verified(second, PieceResult::Written { digests: vec![[1; 20], [9; 20]] });
    let again = requests(&script.drain());
    assert!(again.iter().any(|b| b.piece == first), "its other sender is no suspect: {again:?}");
}

#[test]
fn blocks_of_an_earlier_run_are_not_asked_for_and_nobody_is_blamed_for_them() {
    let mut script = Script::leecher();
    script.verifies = false;
    script.torrent.restore_blocks(PieceIndex(3), &[1]);
    script.torrent.restore_blocks(PieceIndex(4), &[0, 1]);
    let complete = |piece| Action::VerifyPiece { piece: PieceIndex(piece), digests: false };
    assert_eq!(script.drain(), [complete(4)], "what is whole is verified at once");
    script.verified(PieceIndex(4), PieceResult::Written { digests: Vec::new() });
    assert_eq!(script.torrent.bytes_unverified(), u64::from(BLOCK_LEN));
    script.connect(1, false, 1);
    script.send(1, Message::Have(PieceIndex(3)));
    let first = BlockRef { piece: PieceIndex(3), begin: 0, len: BLOCK_LEN };
    assert_eq!(requests(&script.send(1, Message::Unchoke)), [first]);
    let (kept, actions) = script.block(1, first);
    assert!(kept && actions.contains(&complete(3)));
    // What lay on disk was bad: the piece is asked of the same peer again, at once, and it is not banned.
    let result = PieceResult::Corrupt { digests: vec![[1; 20], [0; 20]] };
    script.torrent.handle_piece_result(script.now, PieceIndex(3), result);
    let actions = script.drain();
    assert!(closed(&actions).is_none(), "{actions:?}");
    assert_eq!(requests(&actions).len(), 2);
}

#[test]
fn choking_without_the_fast_extension_gives_the_requests_to_others() {
    let mut script = Script::leecher();
    for key in [1, 2] {
        script.connect_with(key, false, key as u8, false);
        script.send(key, Message::Bitfield(Bitfield::full(PIECES).to_wire()));
    }
    let asked = requests(&script.send(1, Message::Unchoke));
    script.send(1, Message::Choke);
    let mut again = requests(&script.send(2, Message::Unchoke));
    script.answer(2, &mut again, &mut 0, usize::MAX);
    assert!(asked.iter().all(|b| again.contains(b)), "the second peer is asked instead");
}

#[test]
fn a_block_refused_once_is_asked_for_again_and_a_piece_refused_twice_is_not() {
    let (mut script, mut asked) = Script::unchoked_seed(1);
    let piece = asked[0].piece;
    let of_piece = |blocks: &[BlockRef]| blocks.iter().filter(|b| b.piece == piece).count();
    let mut refused = 0;
    for i in 0.. {
        let Some(&block) = asked.get(i) else { break };
        let reply = Message::Reject(block);
        let actions = if block.piece == piece { script.send(1, reply) } else { script.block(1, block).1 };
        refused += usize::from(block.piece == piece);
        asked.extend(requests(&actions));
    }
    asked.extend(requests(&script.pass(30)));
    assert_eq!(of_piece(&asked), refused, "nothing after the last refusal");
    assert!((3..=4).contains(&refused), "{refused} refusals of two blocks");
}

#[test]
fn the_last_block_does_not_go_back_to_a_silent_peer_while_another_is_idle() {
    let mut have = Bitfield::full(PIECES);
    have.remove(PieceIndex(8));
    let mut script = Script::new(have);
    script.connect(1, false, 1);
    script.send(1, Message::HaveAll);
    let asked = requests(&script.send(1, Message::Unchoke));
    assert_eq!(asked.len(), 2, "everything that is missing");
    script.block(1, asked[0]);
    // Its blocks are slow, and it has never answered: nothing says that it would be quicker.
    script.connect(2, false, 2);
    script.send(2, Message::HaveAll);
    script.send(2, Message::Unchoke);
    let actions = script.pass(10);
    let to = |key: u32| {
        let of_key =
            actions.iter().filter(|a| matches!(a, Action::Send { peer, .. } if *peer == PeerKey(key)));
        requests(&of_key.cloned().collect::<Vec<_>>())
    };
    assert_eq!(to(2), [asked[1]], "the block goes to the other peer: {actions:?}");
    assert_eq!(to(1), [], "and not back");
}

#[test]
fn a_silent_peer_is_snubbed_and_its_blocks_go_elsewhere() {
    let (mut script, asked) = Script::unchoked_seed(1);
    script.connect(2, false, 2);
    script.send(2, Message::HaveAll);
    let mut given = requests(&script.send(2, Message::Unchoke));
    let mut answered = 0;
    for _ in 0..12 {
        script.answer(2, &mut given, &mut answered, 5);
        script.pass(1);
    }
    assert!(script.torrent.peer(PeerKey(1)).unwrap().is_snubbed());
    script.answer(2, &mut given, &mut answered, usize::MAX);
    assert!(asked.iter().all(|b| given.contains(b)));
}

#[test]
fn a_slow_peer_that_answers_in_order_is_asked_for_nothing_twice() {
    // A block every 8 s: 2 KB/s. The sixteen that it is asked for at first take two minutes.
    let (mut script, mut asked) = Script::unchoked_seed(1);
    assert!(asked.len() >= 16);
    for answered in 0..40 {
        asked.extend(requests(&script.pass(8)));
        asked.extend(requests(&script.block(1, asked[answered]).1));
    }
    let times = |block| asked.iter().filter(|&&b| b == block).count();
    assert!(asked.iter().all(|&block| times(block) == 1), "asked for twice: {asked:?}");
    assert_eq!(script.torrent.totals().bytes_wasted, 0);
}

#[test]
fn a_peer_slower_than_the_patience_is_snubbed_once_and_then_given_more() {
    let (mut script, _) = Script::unchoked_seed(1);
    let mut wasted = 0;
    let mut queue: Vec<BlockRef> =
        script.torrent.peer(PeerKey(1)).unwrap().requests().map(|r| r.block).collect();
    let mut snubs = 0;
    for _ in 0..20 {
        let actions = script.pass(16);
        let is_cancelled = |block: &BlockRef| actions.contains(&cancel(*block));
        snubs += usize::from(
            actions.iter().any(|action| matches!(action, Action::Send { message: Message::Cancel(_), .. })),
        );
        // It is at the first block already when it is told to leave it.
        let first = queue.remove(0);
        queue.retain(|block| !is_cancelled(block));
        queue.extend(requests(&actions));
        let (kept, actions) = script.block(1, first);
        wasted += usize::from(!kept);
        queue.extend(requests(&actions));
    }
    assert!(snubs <= 1 && wasted <= 1, "snubbed {snubs} times, {wasted} blocks of 20 came twice");
}

fn cancel(block: BlockRef) -> Action {
    Action::Send { peer: PeerKey(1), message: Message::Cancel(block) }
}

#[test]
fn a_request_that_is_passed_over_for_long_is_given_up() {
    let (mut script, asked) = Script::unchoked_seed(1);
    let mut given_up = 0;
    for &block in &asked[1..] {
        let actions = script.pass(5);
        given_up += actions.iter().filter(|action| **action == cancel(asked[0])).count();
        script.block(1, block);
    }
    assert_eq!(given_up, 1, "the first one never came");
}

#[test]
fn under_a_low_limit_little_is_asked_for_and_waiting_is_not_the_peers_fault() {
    let mut script = Script::leecher();
    script.torrent.set_download_limit(script.now, Some(2_000));
    let mut asked = Vec::new();
    for key in 11..=20 {
        script.connect(key, false, key as u8);
        script.send(key, Message::HaveAll);
        asked.extend(requests(&script.send(key, Message::Unchoke)).into_iter().map(|block| (key, block)));
    }
    assert_eq!(asked.len(), 4, "ten peers would send for minutes what we may not read");
    // What has come is read as the limit allows: a block every 8 s.
    for answered in 0..20 {
        let (key, block) = asked[answered];
        assert_eq!(requests(&script.pass(8)), [], "nothing is asked for twice");
        let (kept, actions) = script.block(key, block);
        assert!(kept);
        asked.extend(requests(&actions).into_iter().map(|block| (key, block)));
        for key in 11..=20 {
            script.send(key, Message::KeepAlive);
            assert!(!script.torrent.peer(PeerKey(key)).unwrap().is_snubbed());
        }
    }
    // A peer that really is silent does not keep them for good.
    let actions = script.pass(100);
    assert!(actions.iter().any(|action| matches!(action, Action::Send { message: Message::Cancel(_), .. })));
    script.torrent.set_download_limit(script.now, None);
    assert!(requests(&script.drain()).len() > 50);
}

#[test]
fn dead_connections_are_closed_and_idle_ones_kept_alive() {
    let mut script = Script::leecher();
    script.connect(1, false, 1);
    let actions = script.pass(170);
    assert!(messages(&actions).contains(&&Message::KeepAlive));
    assert_eq!(closed(&actions), None);
    assert!(matches!(closed(&script.pass(20)), Some(CloseReason::TimedOut { .. })));
}

#[test]
fn we_do_not_talk_to_ourselves() {
    let mut script = Script::leecher();
    assert_eq!(closed(&script.connect(1, false, 9)), Some(&CloseReason::SelfConnection));
    assert_eq!(closed(&script.connect(2, false, 2)), None);
}

#[test]
fn two_seeds_part() {
    let mut script = Script::seed();
    script.connect(1, true, 1);
    assert_eq!(closed(&script.send(1, Message::HaveAll)), Some(&CloseReason::BothComplete));
}

#[test]
fn dialling_respects_the_half_open_limit() {
    let mut script = Script::leecher();
    let addrs: Vec<SocketAddr> = (1..=100).map(|i| SocketAddr::from(([10, 0, 1, i], 6881))).collect();
    script.torrent.handle_addresses(script.now, &addrs, Origin::Tracker("192.0.2.1".parse().unwrap()));
    let dials = |actions: Vec<Action>| -> Vec<SocketAddr> {
        let addr = |a: &Action| match a {
            Action::Connect(dial) => Some(dial.addr),
            _ => None,
        };
        actions.iter().filter_map(addr).collect()
    };
    let first = dials(script.drain());
    assert_eq!(first.len(), 16);
    script.torrent.handle_connect_failed(script.now, first[0]);
    assert_eq!(dials(script.drain()).len(), 1);
}

#[test]
fn a_rejection_that_answers_a_cancel_does_not_cost_the_piece() {
    let (mut script, asked) = Script::unchoked_seed(1);
    let mut actions = script.pass(12);
    let cancelled: Vec<BlockRef> = messages(&actions)
        .iter()
        .filter_map(|m| match m {
            Message::Cancel(block) => Some(*block),
            _ => None,
        })
        .collect();
    assert_eq!(cancelled, asked, "a silent peer's requests are taken back");
    for block in cancelled {
        actions.extend(script.send(1, Message::Reject(block)));
    }
    assert!(script.torrent.peer(PeerKey(1)).unwrap().have().is_full());
    // It wakes up: everything can still be had from it.
    let mut requested = requests(&actions);
    requested.retain(|b| script.torrent.peer(PeerKey(1)).unwrap().requests().any(|r| r.block == *b));
    assert!(!requested.is_empty(), "a snubbed peer is still asked for one block");
    script.answer(1, &mut requested, &mut 0, usize::MAX);
    assert!(requested.len() >= 2 * PIECES as usize, "{} blocks asked for", requested.len());
}

#[test]
fn short_memory_does_not_idle_a_peer_that_has_none_of_the_open_pieces() {
    let mut script = Script::leecher();
    script.connect(1, false, 1);
    script.send(1, Message::Have(PieceIndex(0)));
    script.send(1, Message::Unchoke);
    script.torrent.set_pressure(script.now, swarm_core::torrent::Pressure::Low);
    script.connect(2, false, 2);
    script.send(2, Message::Have(PieceIndex(1)));
    assert!(!requests(&script.send(2, Message::Unchoke)).is_empty());
}

#[test]
fn a_stopped_torrent_neither_dials_nor_accepts() {
    let mut script = Script::leecher();
    script.torrent.handle_stop(script.now);
    let addr: SocketAddr = "10.0.0.9:6881".parse().unwrap();
    script.torrent.handle_addresses(script.now, &[addr], Origin::User);
    assert_eq!(script.drain(), []);
    assert_eq!(closed(&script.connect(1, true, 1)), Some(&CloseReason::Stopped));
}

#[test]
fn the_metadata_is_served_a_few_times_to_those_who_ask() {
    use swarm_core::wire::extension::EXTENSION_HANDSHAKE_ID;
    use swarm_core::wire::{Extension, ExtensionHandshake, MetadataMessage};
    let metadata: Vec<u8> = (0..20_000u32).map(|i| i as u8).collect();
    let geometry = Geometry::new(u64::from(PIECES * 2 * BLOCK_LEN), u64::from(2 * BLOCK_LEN)).unwrap();
    let config =
        Config { metadata: Some(metadata.clone().into()), ..Config::new(InfoHash([1; 20]), OUR_ID, 42) };
    let torrent = Torrent::new(config, geometry, Bitfield::full(PIECES));
    let mut script = Script { torrent, now: Time::from_micros(1), verifies: true };
    let addr = SocketAddr::from(([10, 0, 0, 1], 6881));
    let info = PeerInfo { addr, inbound: true, peer_id: PeerId([1; 20]), fast: true, extended: true };
    script.torrent.handle_connected(script.now, PeerKey(1), info);
    let greeting = script.drain();
    let hello = messages(&greeting).into_iter().find_map(|m| match m {
        Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload } => ExtensionHandshake::decode(payload).ok(),
        _ => None,
    });
    let hello = hello.unwrap();
    assert_eq!(hello.metadata_size, Some(20_000));
    let our_id = hello.ids[&Extension::Metadata];

    let theirs = ExtensionHandshake { ids: [(Extension::Metadata, 77)].into(), ..Default::default() };
    script.send(1, Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload: theirs.encode() });
    let ask = |piece| Message::Extended { id: our_id, payload: MetadataMessage::Request(piece).encode() };
    let mut answer = |piece| {
        let actions = script.send(1, ask(piece));
        let waits = script.torrent.next_metadata(script.now, PeerKey(1));
        assert_eq!(waits.is_some(), actions.contains(&Action::Upload(PeerKey(1))));
        match (&messages(&actions)[..], &waits) {
            ([Message::Extended { id: 77, payload }], None)
            | ([], Some(Message::Extended { id: 77, payload })) => payload.clone(),
            other => panic!("{other:?}"),
        }
    };
    let last = answer(1);
    let expected = MetadataMessage::Data { piece: 1, total_size: 20_000, bytes: &metadata[16_384..] };
    assert_eq!(MetadataMessage::decode(&last), Ok(Some(expected)));
    let beyond = answer(2);
    assert_eq!(MetadataMessage::decode(&beyond), Ok(Some(MetadataMessage::Reject(2))));
    let refused =
        (0..100).find(|_| MetadataMessage::decode(&answer(0)) == Ok(Some(MetadataMessage::Reject(0))));
    assert_eq!(refused, Some(5), "three copies of two pieces are enough for anyone");
}

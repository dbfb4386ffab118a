//! What peers that serve one another in turns tell each other beside what everybody does.
//!
//! - *Load* (`sw_load`): how many pieces are on their way to us. Everyone knows who has how many pieces, but not what
//!   others have promised since. Where downlinks are no faster than uplinks, uploaders that do not know of each other
//!   make some downlinks queue and leave others idle.
//! - *Run* (`sw_run`): a request for blocks that follow one another, which stands for one request for each. A turn is worth a piece, so
//!   one message asks for what it is worth: 18 bytes for a piece of 1 MiB instead of 1,088.
//! - *Soon* (`sw_soon`): the turn that is offered next is good for a piece, too, that the uploader is still receiving.
//!   Its requests cross the network meanwhile, and the piece goes on as soon as it is verified. Nothing unverified is
//!   sent, or counted as had by anyone: if the piece fails, or does not come, the requests are rejected.
//!
//! All are extension messages (BEP 10), sent to those who know them.

use super::{Action, Torrent};
use crate::geometry::BLOCK_LEN;
use crate::id::{BlockRef, PeerKey, PieceIndex};
use crate::peer::Peer;
use crate::time::{Duration, Time};
use crate::wire::Message;
use crate::wire::extension;
use std::collections::VecDeque;

/// More than this is told as this.
const LOAD_MAX: usize = u8::MAX as usize;
/// A piece counts as coming when its last block should be here before so many offers could be answered.
const COMING_WITHIN_ANSWERS: u32 = 2;
/// A promised piece that has not come after this time is not waited for.
const PROMISE_MAX: Duration = Duration::from_secs(2);

/// A peer that passed on so many turns in a row for which it was promised a piece may want none of those that we get: it is promised no other
/// until it has asked for something again.
pub const PROMISES_PASSED_MAX: u32 = 4;
/// A run is of so many blocks at the most, since whoever refuses them does so one by one.
pub const RUN_MAX: usize = 64;

/// A piece of which blocks have come.
#[derive(Debug)]
pub(super) struct Arriving {
    piece: PieceIndex,
    /// When the first one did.
    since: Time,
    blocks: u32,
    /// Until when it counts as coming, once it does.
    until: Option<Time>,
}

/// The piece among those that are coming which the peer could be promised.
pub(super) fn takes_one_of(peer: &Peer, coming: &[PieceIndex]) -> Option<PieceIndex> {
    let understands = peer.soon_id.is_some() && peer.info.fast;
    let may_want = peer.have_known && !peer.upload_only && peer.promises_passed < PROMISES_PASSED_MAX;
    let may = understands && may_want;
    coming.iter().copied().find(|&piece| may && !peer.have.has(piece))
}

/// Asks for these blocks, for as many with one message as the peer understands.
pub(super) fn ask(peer: &mut Peer, now: Time, blocks: &[BlockRef], actions: &mut VecDeque<Action>) {
    let follows = |a: &BlockRef, b: &BlockRef| a.piece == b.piece && a.begin + a.len == b.begin;
    let mut send = |message| actions.push_back(Action::Send { peer: peer.key, message });
    for run in blocks.chunk_by(follows).flat_map(|run| run.chunks(RUN_MAX)) {
        peer.sent_at = now;
        if let (Some(id), [first, .., last]) = (peer.run_id, run) {
            let run = BlockRef { len: last.begin + last.len - first.begin, ..*first };
            send(Message::Extended { id, payload: extension::encode_run(run) });
        } else {
            run.iter().for_each(|&block| send(Message::Request(block)));
        }
    }
}

impl Torrent {
    /// Every block of a run is asked for, and given or refused, by itself. Nobody but those who serve in turns may ask so: to
    /// refuse takes sixty times the bytes.
    pub(super) fn on_run(&mut self, now: Time, key: PeerKey, payload: &[u8]) {
        let Some(run) = extension::decode_run(payload).filter(|_| self.is_cooperative()) else { return };
        for at in (0..run.len).step_by(BLOCK_LEN as usize).take(RUN_MAX) {
            let (begin, len) = (run.begin.saturating_add(at), BLOCK_LEN.min(run.len - at));
            self.on_request(now, key, BlockRef { begin, len, ..run });
        }
    }

    /// Tells peers how much is on its way to us, if that is news. Each piece that we announce to have, they count as one fewer, so
    /// this takes one message for each.
    pub(super) fn tell_load(&mut self, now: Time) {
        let load = self.picker.open_pieces().min(LOAD_MAX);
        if !self.is_cooperative() || load == self.load_told {
            return;
        }
        self.load_told = load;
        for peer in self.peers.values_mut() {
            if let Some(id) = peer.load_id {
                peer.sent_at = now;
                let message = Message::Extended { id, payload: extension::encode_load(load) };
                self.actions.push_back(Action::Send { peer: peer.key, message });
            }
        }
    }

    pub(super) fn on_load(&mut self, key: PeerKey, payload: &[u8]) {
        if let (Some(peer), Some(load)) = (self.peers.get_mut(key), extension::decode_load(payload)) {
            peer.load = load;
        }
    }

    /// The pieces that we shall have soon.
    pub(super) fn coming(&self, now: Time) -> Vec<PieceIndex> {
        let is_coming = |piece: &&Arriving| piece.until.is_some_and(|until| now <= until);
        self.arriving.iter().filter(is_coming).map(|arriving| arriving.piece).collect()
    }

    /// A block of the piece has come: true if from now on the piece counts as coming.
    pub(super) fn note_arrival(&mut self, now: Time, piece: PieceIndex) -> bool {
        let blocks_in_piece = self.geometry.blocks_in(piece);
        let Some(arriving) = self.arriving.iter_mut().find(|arriving| arriving.piece == piece) else {
            self.arriving.push(Arriving { piece, since: now, blocks: 1, until: None });
            return false;
        };
        arriving.blocks += 1;
        let left = blocks_in_piece.saturating_sub(arriving.blocks);
        let takes = now.since(arriving.since) * left / (arriving.blocks - 1);
        let horizon = self.turns.response() * COMING_WITHIN_ANSWERS;
        if arriving.until.is_some() || takes > horizon {
            return false;
        }
        arriving.until = Some(now + takes + horizon);
        true
    }

    /// The piece is here, or all that has come of it is lost.
    pub(super) fn forget_arrival(&mut self, piece: PieceIndex) {
        self.arriving.retain(|arriving| arriving.piece != piece);
    }

    /// The peer, which is about to be offered a turn, may use it for a piece that is coming.
    pub(super) fn promise(&mut self, now: Time, key: PeerKey, coming: &[PieceIndex]) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if let (Some(piece), Some(id)) = (takes_one_of(peer, coming), peer.soon_id) {
            peer.promised = Some((piece, now));
            peer.promised_last = Some(piece);
            self.send(now, key, Message::Extended { id, payload: extension::encode_piece(piece) });
        }
    }

    pub(super) fn on_soon(&mut self, key: PeerKey, payload: &[u8]) {
        let is_expected = |piece: &PieceIndex| self.is_cooperative() && self.geometry.contains(*piece);
        let piece = extension::decode_piece(payload).filter(is_expected);
        if let Some(peer) = self.peers.get_mut(key) {
            peer.soon = piece;
        }
    }

    /// The piece is here: those who were promised it are served.
    pub(super) fn keep_promises(&mut self, piece: PieceIndex) {
        self.forget_arrival(piece);
        for peer in self.peers.values_mut().filter(|peer| peer.promised.is_some_and(|(p, _)| p == piece)) {
            peer.promised = None;
            self.turns.on_ready(peer.key);
        }
    }

    pub(super) fn break_old_promises(&mut self, now: Time) {
        self.break_promises(now, |_, since| now.since(since) >= PROMISE_MAX);
    }

    /// Rejects what was asked for of pieces that were promised, and cannot be sent.
    pub(super) fn break_promises(&mut self, now: Time, is_void: impl Fn(PieceIndex, Time) -> bool) {
        let mut refused: Vec<(PeerKey, BlockRef)> = Vec::new();
        for peer in self.peers.values_mut() {
            let Some((piece, _)) = peer.promised.take_if(|(piece, since)| is_void(*piece, *since)) else {
                continue;
            };
            refused.extend(
                peer.uploads.iter().filter(|block| block.piece == piece).map(|&block| (peer.key, block)),
            );
            self.turns.on_ready(peer.key);
        }
        for (key, block) in refused {
            self.on_cancel(now, key, block);
        }
    }
}

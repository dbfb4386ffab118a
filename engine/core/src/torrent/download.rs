//! Our requests, and the blocks and pieces that come of them.

use super::blame::{EARLIER, UNKNOWN, Verdict};
use super::{Action, CloseReason, Event, PieceResult, Pressure, Torrent};
use crate::geometry::BLOCK_LEN;
use crate::id::{BlockRef, PeerKey, PieceIndex};
use crate::peer::budget::{Cost, PER_PIECE};
use crate::peer::pipeline::{Answer, REQUESTS_MIN};
use crate::peer::{Due, Peer};
use crate::picker::{Arrival, PickerPeer};
use crate::time::{Duration, Time};
use crate::wire::Message;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Range;

/// Under a download limit, no more is asked for than comes in this time, but for a few blocks: what peers have sent and we
/// may not read yet can neither be cancelled nor asked of somebody else.
pub const LIMITED_QUEUE_TIME: Duration = Duration::from_secs(10);
/// The same while somebody waits for what comes: he may soon want something else.
pub const URGENT_QUEUE_TIME: Duration = Duration::from_millis(500);
/// How often it is looked for blocks that somebody waits for too long.
const URGENT_INTERVAL: Duration = Duration::from_millis(20);
/// Of so many pieces that somebody waits for one after the other it matters at once whether they are asked for.
const HURRY_PIECES_MAX: usize = 8;
/// A peer that sends more blocks than this that we never asked for is closed.
pub const UNREQUESTED_BLOCKS_MAX: u32 = 64;
/// How many blocks that a peer refused once may be asked of it again; beyond that the first refusal is final.
pub const REFUSALS_MAX: usize = 1_024;
/// How many pieces we remember as allowed to us by a peer that chokes us (BEP 6).
pub const ALLOWED_FAST_MAX: usize = 64;
/// On parole (until a piece with a block of its own is verified) a peer is asked for so many bytes at a time, and for nothing while
/// as much of the torrent waits to be verified: two pieces if they are larger.
pub const PAROLE_BYTES: u64 = 1 << 20;
/// How often pieces that failed may be asked of those who sent them before, if nobody else has them.
pub(super) const SUSPECTS_INTERVAL: Duration = Duration::from_secs(8);

impl Torrent {
    /// A block has come from a peer. True if its bytes are to be kept; else they are to be dropped.
    pub fn handle_block(&mut self, now: Time, key: PeerKey, block: BlockRef) -> bool {
        let keep = self.on_block(now, key, block);
        self.set_due(key, Due::Now);
        self.input_at = Some(now);
        keep
    }

    fn on_block(&mut self, now: Time, key: PeerKey, block: BlockRef) -> bool {
        let Some(peer) = self.peers.get_mut(key) else { return false };
        let len = u64::from(block.len);
        (peer.times.heard_at, peer.times.useful_at) = (now, now);
        peer.traffic.bytes_down += len;
        peer.traffic.rate_down.add(now, len);
        self.rate_down.add(now, len);
        self.totals.bytes_down += len;

        let arrival = match peer.download.pipeline.answer(block, now) {
            Answer::Unrequested => {
                if !self.geometry.is_valid_request(block) {
                    self.close(now, key, CloseReason::NoSuchBlock(block));
                    return false;
                }
                peer.download.unrequested_blocks += 1;
                if peer.download.unrequested_blocks > UNREQUESTED_BLOCKS_MAX {
                    self.close(now, key, CloseReason::UnrequestedBlocks);
                }
                Arrival::Unwanted
            }
            Answer::Requested | Answer::Withdrawn => {
                peer.account.budget.earn(block.len);
                (peer.download.snubbed, peer.download.timeouts) = (false, 0);
                let mut others = Vec::new();
                let arrival = self.picker.received(block, key, |other| others.push(other));
                for other in others {
                    self.cancel(now, other, block);
                }
                arrival
            }
        };
        self.take_arrival(block, arrival)
    }

    /// What comes of a block that has arrived. Whether its bytes are to be kept.
    pub(super) fn take_arrival(&mut self, block: BlockRef, arrival: Arrival) -> bool {
        match arrival {
            Arrival::Unwanted => {
                self.totals.bytes_wasted += u64::from(block.len);
                false
            }
            Arrival::Fresh { complete } => {
                if complete {
                    self.verify_piece(block.piece);
                }
                true
            }
        }
    }

    pub(super) fn verify_piece(&mut self, piece: PieceIndex) {
        let digests = self.blame.is_suspect(piece);
        self.verifying += 1;
        self.actions.push_back(Action::VerifyPiece { piece, digests });
    }

    pub(super) fn cancel(&mut self, now: Time, key: PeerKey, block: BlockRef) {
        if let Some(peer) = self.peers.get_mut(key)
            && peer.download.pipeline.withdraw(block)
        {
            self.send(now, key, Message::Cancel(block));
            // Its room is filled when its next block comes, or at once if none will.
            self.refill_all |= self.peers[key].download.pipeline.is_empty();
        }
    }

    /// Somebody waits for these pieces from now on, one after the other. What is wanted less is taken back from those who can send the first of
    /// them that is not asked for as a whole, and asked for again later; but for what is likely to be on its way.
    pub fn hurry(&mut self, now: Time, pieces: Range<u32>) {
        let mut soon = pieces.map(PieceIndex).take(HURRY_PIECES_MAX);
        let Some(piece) = soon.find(|&piece| self.picker.has_unrequested(piece)) else { return };
        let (urgency, held) = (self.picker.priority(piece), self.held_for());
        let mut taken_back = Vec::new();
        for peer in self.peers.values().filter(|peer| peer.have().has(piece) && !peer.flags.peer_choking) {
            let pipeline = &peer.download.pipeline;
            if peer.is_silent(now, held) {
                continue;
            }
            let on_their_way = pipeline.on_their_way(peer.traffic.rate_down.bytes_per_s(now));
            let later = pipeline.iter().skip(on_their_way).map(|request| request.block);
            let later = later.filter(|block| self.picker.priority(block.piece) < urgency);
            taken_back.extend(later.map(|block| (peer.key, block)));
        }
        self.count(self.peers.len() + taken_back.len());
        for (key, block) in taken_back {
            self.cancel(now, key, block);
            self.picker.release(block, key);
        }
        self.refill_all = true;
        self.input_at = Some(now);
    }

    /// These blocks of a piece, by index, were received in an earlier run and never verified. Nobody is blamed for them. Before there
    /// are peers.
    pub fn restore_blocks(&mut self, piece: PieceIndex, blocks: &[u32]) {
        if self.picker.restore(piece, blocks) {
            self.verify_piece(piece);
        }
    }

    /// A complete piece has been verified and written, or not.
    pub fn handle_piece_result(&mut self, now: Time, piece: PieceIndex, result: PieceResult) {
        // Peers on parole may be asked again.
        self.refill_all |= !self.has_room_for_parole();
        self.verifying -= 1;
        match result {
            PieceResult::Written { digests } => self.on_written(now, piece, &digests),
            PieceResult::Corrupt { digests } => self.on_corrupt(now, piece, digests),
            PieceResult::Contradictory => self.on_contradiction(piece),
            PieceResult::NotWritten => {
                self.unwritten.push(piece);
                self.events.push_back(Event::DiskStalled(piece));
            }
        }
        self.input_at = Some(now);
    }

    /// The disk takes data again: pieces that it did not take are tried again.
    pub fn handle_disk_ready(&mut self, now: Time) {
        for piece in std::mem::take(&mut self.unwritten) {
            self.verify_piece(piece);
        }
        self.refill_all = true;
        self.input_at = Some(now);
    }

    /// The received blocks of a piece that is not complete, or that the disk did not take, are given up: it is asked for again.
    pub fn drop_piece(&mut self, now: Time, piece: PieceIndex) {
        let asked = self.peers.values().flat_map(|peer| {
            let blocks = peer.download.pipeline.iter().map(|request| request.block);
            blocks.filter(|block| block.piece == piece).map(|block| (peer.key, block))
        });
        for (key, block) in asked.collect::<Vec<_>>() {
            self.cancel(now, key, block);
        }
        self.unwritten.retain(|unwritten| *unwritten != piece);
        let before = self.picker.bytes_in_downloading();
        self.picker.piece_failed(piece, Vec::new());
        self.totals.bytes_wasted += before - self.picker.bytes_in_downloading();
        self.actions.push_back(Action::DropPiece(piece));
        self.refill_all = true;
        self.input_at = Some(now);
    }

    /// Whether a piece waits for the disk to take it.
    pub fn is_disk_stalled(&self) -> bool {
        !self.unwritten.is_empty()
    }

    fn on_written(&mut self, now: Time, piece: PieceIndex, digests: &[[u8; 20]]) {
        for verdict in self.blame.piece_passed(piece, digests) {
            self.ban_corrupt_sender(now, verdict);
        }
        for sender in self.picker.senders(piece).into_iter().flatten() {
            let on_parole = self.peers.get_mut(sender).filter(|peer| peer.download.on_parole);
            if let Some(peer) = on_parole {
                peer.download.on_parole = false;
                self.picker.parole_ended(sender);
            } else {
                self.on_web_piece(sender, piece);
            }
        }
        self.on_piece_had(now, piece);
    }

    /// A piece is verified and on disk: HAVE goes to everyone.
    pub(super) fn on_piece_had(&mut self, now: Time, piece: PieceIndex) {
        let was_missing = self.picker.missing().has(piece);
        self.picker.piece_done(piece);
        self.forget_leaves(piece);
        if self.retracted.has(piece) {
            self.retracted.remove(piece);
        }
        self.actions.push_back(Action::BroadcastHave(piece));
        self.events.push_back(Event::PieceVerified(piece));
        let mut uninteresting = Vec::new();
        for peer in self.peers.values_mut() {
            peer.times.sent_at = now;
            peer.account.budget.earn(PER_PIECE);
            if was_missing && peer.have().has(piece) {
                peer.pieces.interesting -= 1;
                if peer.pieces.interesting == 0 {
                    uninteresting.push(peer.key);
                }
            }
        }
        for key in uninteresting {
            self.update_interest(now, key);
        }
        self.note_completion(now);
    }

    fn on_corrupt(&mut self, now: Time, piece: PieceIndex, digests: Vec<[u8; 20]>) {
        self.totals.pieces_failed += 1;
        self.events.push_back(Event::PieceFailed(piece));
        if !self.tell_apart(now, piece, &digests) {
            self.drop_failed(now, piece, digests);
        }
    }

    /// One hash of a piece holds over its bytes, and the other does not: no bytes will do.
    pub(super) fn on_contradiction(&mut self, piece: PieceIndex) {
        self.events.push_back(Event::HashesContradict(piece));
    }

    /// A piece has failed, and nothing tells its blocks apart: all of it is asked for again.
    pub(super) fn drop_failed(&mut self, now: Time, piece: PieceIndex, digests: Vec<[u8; 20]>) {
        self.totals.bytes_corrupt += u64::from(self.picker.padding().payload_in(&self.geometry, piece));
        let senders = self.picker.senders(piece);
        let padding: BTreeSet<usize> =
            self.picker.padding_blocks(piece).map(|index| index as usize).collect();
        let first = senders.iter().copied().flatten().next().unwrap_or(EARLIER);
        let attempt =
            senders.iter().zip(digests).enumerate().map(|(index, (sender, digest))| match *sender {
                Some(key) => (key, self.addr_of(key), digest),
                // It keeps its place among the blocks, with nothing to blame on anybody.
                None if padding.contains(&index) => (first, self.addr_of(first), UNKNOWN),
                None => (EARLIER, None, digest),
            });
        let attempt = attempt.collect();
        let is_padding_assumed = self.picker.is_padding_assumed(piece);
        if let Some(verdict) = self.blame.piece_failed(piece, attempt, is_padding_assumed) {
            self.ban_corrupt_sender(now, verdict);
        }
        if is_padding_assumed {
            // Web seeds are never asked for padding: they cannot help where it is none.
            self.web.lack(piece);
        }
        // What lay on disk meanwhile may be what is wrong: whoever sent the rest is not suspected.
        let is_known =
            |(index, sender): (usize, &Option<PeerKey>)| sender.is_some() || padding.contains(&index);
        let all_are_known = senders.iter().enumerate().all(is_known);
        let mut suspects: Vec<PeerKey> = senders.into_iter().flatten().filter(|_| all_are_known).collect();
        suspects.sort_unstable();
        suspects.dedup();
        let corrupt: Vec<PeerKey> = suspects.iter().copied().filter(|&key| self.sent_corrupt(key)).collect();
        self.picker.piece_failed(piece, suspects);
        corrupt.into_iter().for_each(|key| self.picker.corrupt_sender_found(key));
        self.actions.push_back(Action::DropPiece(piece));
        self.refill_all = true;
    }

    fn sent_corrupt(&self, key: PeerKey) -> bool {
        self.web_seeds().iter().any(|seed| seed.key() == key && seed.is_dropped())
            || self.addr_of(key).is_some_and(|addr| self.discovery.is_banned(addr))
    }

    pub(super) fn ban_corrupt_sender(&mut self, now: Time, verdict: Verdict) {
        match verdict.addr {
            Some(addr) => self.ban(now, addr, verdict.peer, CloseReason::CorruptBlock),
            None if self.web.by_key(verdict.peer).is_some() => self.drop_web_seed(now, verdict.peer),
            None => return,
        }
        self.picker.corrupt_sender_found(verdict.peer);
        let doubtful = self.picker.only_from(verdict.peer).into_iter();
        for piece in doubtful.filter(|&piece| !self.is_told_apart(piece)).collect::<Vec<_>>() {
            self.picker.piece_failed(piece, Vec::new());
            self.actions.push_back(Action::DropPiece(piece));
        }
        self.refill_all = true;
    }

    /// Whether so little waits to be verified that peers on parole may send more: else a fast corrupt sender fills the queue before its first
    /// piece is hashed.
    fn has_room_for_parole(&self) -> bool {
        u64::from(self.verifying) * u64::from(self.geometry.piece_len()) < self.parole_bytes()
    }

    fn parole_bytes(&self) -> u64 {
        PAROLE_BYTES.max(2 * u64::from(self.geometry.piece_len()))
    }

    /// How many more blocks a peer may be asked for on account of what it has sent so far.
    pub(super) fn room_on_parole(&self, peer: &Peer) -> usize {
        match (peer.download.on_parole, self.has_room_for_parole()) {
            (false, _) => usize::MAX,
            (true, true) => {
                let blocks = self.parole_bytes() / u64::from(BLOCK_LEN);
                (blocks as usize).saturating_sub(peer.download.pipeline.len())
            }
            (true, false) => 0,
        }
    }

    /// Asks everyone for as many blocks as they have room for. Snubbed peers and those with overdue blocks come last: otherwise
    /// a block that one of them did not send would go back to it, while others that have it sit idle. While somebody waits, the quickest come first.
    pub(super) fn refill_everyone(&mut self, now: Time) {
        self.refill_at_tick = false;
        let is_waited_for = self.picker.is_waited_for();
        let rate = |peer: &Peer| if is_waited_for { peer.traffic.rate_down.bytes_per_s(now) } else { 0 };
        let rank =
            |peer: &Peer| (peer.download.snubbed, peer.download.timeouts, Reverse(rate(peer)), peer.key);
        let mut keys: Vec<_> = self.peers.values().map(rank).collect();
        keys.sort_unstable();
        for (.., key) in keys {
            self.refill(now, key);
        }
    }

    /// Asks a peer for as many blocks as it has room for.
    pub(super) fn refill(&mut self, now: Time, key: PeerKey) {
        if self.is_disk_stalled() {
            return;
        }
        self.count(1);
        let Some(peer) = self.peers.get(key) else { return };
        let mut picks = std::mem::take(&mut self.picks);
        let is_waited_for = self.picker.is_waited_for();
        let room = peer.room(now, is_waited_for).min(self.room_on_parole(peer));
        let mut room = room.min(self.room_under_limit());
        if is_waited_for && peer.is_silent(now, self.held_for()) {
            room = 0;
        }
        if room > 0 {
            self.pick(now, key, room, &mut picks);
        } else if peer.flags.peer_choking
            && peer.flags.am_interested
            && !peer.download.allowed_fast.is_empty()
        {
            self.pick_allowed_fast(key, &mut picks);
        }
        let peer = self.peers.get_mut(key).expect("still here");
        for block in picks.drain(..) {
            peer.times.sent_at = now;
            peer.download.pipeline.push(block, now);
            self.actions.push_back(Action::Send { peer: key, message: Message::Request(block) });
        }
        self.picks = picks;
    }

    /// Chooses up to `room` blocks to ask a peer for. When memory is short, open pieces are filled before one is started; when
    /// it is full, only what is overdue elsewhere is asked for.
    fn pick(&mut self, now: Time, key: PeerKey, room: usize, picks: &mut Vec<BlockRef>) {
        let looked = self.urgent_looked_at;
        if looked.is_none_or(|at| now.since(at) >= URGENT_INTERVAL) && self.picker.has_urgent() {
            self.urgent_looked_at = Some(now);
            self.pick_duplicates(now, key, picks);
        }
        let peer = &self.peers[key];
        let on_parole = peer.download.on_parole;
        let outstanding = peer.download.pipeline.len();
        let room = room.saturating_sub(picks.len());
        if self.pressure != Pressure::Full {
            let may_start = self.pressure == Pressure::None;
            let source = PickerPeer { key, have: peer.have(), may_start, on_parole };
            self.picker.pick(source, room, &mut self.rng, picks);
        }
        let is_early = self.pressure != Pressure::None;
        if picks.is_empty() && outstanding < REQUESTS_MIN && (is_early || self.picker.is_endgame()) {
            self.pick_duplicates(now, key, picks);
        }
        let may_idle = self.peers[key].download.timeouts > 0;
        if picks.is_empty() && outstanding == 0 && !may_idle && self.pressure == Pressure::Low {
            // Who serves us well must not idle.
            let source = PickerPeer { key, have: self.peers[key].have(), may_start: true, on_parole };
            self.picker.pick(source, room, &mut self.rng, picks);
        }
    }

    fn pick_allowed_fast(&mut self, key: PeerKey, picks: &mut Vec<BlockRef>) {
        let peer = &self.peers[key];
        let may_start = match self.pressure {
            Pressure::None => true,
            Pressure::Low => peer.download.pipeline.is_empty(),
            Pressure::Full => return,
        };
        let room = REQUESTS_MIN.saturating_sub(peer.download.pipeline.len()).min(self.room_on_parole(peer));
        let room = room.min(self.room_under_limit());
        let mut allowed = crate::bitfield::Bitfield::empty(self.geometry.pieces());
        self.count(allowed.words().len() + peer.download.allowed_fast.len());
        for &piece in peer.download.allowed_fast.iter().filter(|&&p| peer.have().has(p)) {
            allowed.insert(piece);
        }
        let source = PickerPeer { key, have: &allowed, may_start, on_parole: peer.download.on_parole };
        self.picker.pick(source, room, &mut self.rng, picks);
    }

    pub(super) fn on_choke(&mut self, now: Time, key: PeerKey) {
        if !self.note_choking(now, key, true) {
            return;
        }
        let mut freed = self.picker.release_exclusive(key);
        // With BEP 6 each request still gets its block or its rejection. Without, none will be answered.
        if self.peers.get(key).is_some_and(|peer| !peer.info.fast) {
            freed |= !self.cancel_requests(key).is_empty();
        }
        if freed {
            self.offer_to_all(now, key);
        }
    }

    pub(super) fn on_unchoke(&mut self, now: Time, key: PeerKey) {
        if self.note_choking(now, key, false) {
            self.follow(now, key);
        }
    }

    /// Whether that is a change.
    fn note_choking(&mut self, now: Time, key: PeerKey, chokes: bool) -> bool {
        let Some(peer) = self.peers.get_mut(key) else { return false };
        let is_new = std::mem::replace(&mut peer.flags.peer_choking, chokes) != chokes;
        self.charge(now, key, if is_new { Cost::Change } else { Cost::Nothing });
        is_new
    }

    pub(super) fn on_reject(&mut self, now: Time, key: PeerKey, block: BlockRef) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let looked_at = peer.download.pipeline.steps_to(block);
        self.work.set(self.work.get() + looked_at as u64);
        let Some(was_outstanding) = peer.download.pipeline.rejected(block) else {
            self.charge(now, key, Cost::Refused);
            return;
        };
        peer.download.allowed_fast.retain(|&p| p != block.piece);
        if was_outstanding {
            // Once may be for want of room in its queue. A peer that unchokes us and refuses again cannot read the
            // piece; asking on would not end.
            let is_final =
                peer.download.rejected.len() >= REFUSALS_MAX || peer.download.rejected.contains(&block);
            if peer.flags.peer_choking || !peer.have().has(block.piece) {
                // We had no right to it, or it has lost the piece.
            } else if is_final {
                peer.download.rejected.retain(|b| b.piece != block.piece);
                self.on_lost(key, block.piece);
            } else {
                peer.download.rejected.insert(block);
            }
            self.picker.release(block, key);
            self.picker.release_exclusive(key);
            self.offer_to_all(now, key);
        }
    }

    pub(super) fn on_allowed_fast(&mut self, now: Time, key: PeerKey, piece: PieceIndex) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let is_new =
            peer.info.fast && self.geometry.contains(piece) && !peer.download.allowed_fast.contains(&piece);
        if !is_new || peer.download.allowed_fast.len() >= ALLOWED_FAST_MAX {
            self.charge(now, key, Cost::Nothing);
            return;
        }
        peer.download.allowed_fast.push(piece);
        if peer.have().has(piece) {
            self.follow(now, key);
        }
    }

    /// Takes back all requests to the peer, so that others can be asked.
    pub(super) fn withdraw_requests(&mut self, key: PeerKey) -> Vec<BlockRef> {
        let blocks = self.cancel_requests(key);
        self.refill_all |= self.picker.release_exclusive(key) || !blocks.is_empty();
        blocks
    }

    fn cancel_requests(&mut self, key: PeerKey) -> Vec<BlockRef> {
        let Some(peer) = self.peers.get_mut(key) else { return Vec::new() };
        let blocks = peer.download.pipeline.withdraw_all();
        for &block in &blocks {
            self.picker.release(block, key);
        }
        self.count(blocks.len());
        blocks
    }

    /// How fast payload may come, in bytes/s; `None`: as it likes.
    pub fn set_download_limit(&mut self, now: Time, bytes_per_s: Option<u64>) {
        self.download_limit = bytes_per_s;
        self.refill_all = true;
        self.input_at = Some(now);
    }

    /// How many blocks peers are asked for.
    fn outstanding(&self) -> usize {
        match self.download_limit {
            Some(_) => {
                let of_peers: usize = self.peers.values().map(|peer| peer.download.pipeline.len()).sum();
                of_peers + self.web.outstanding_blocks()
            }
            None => 0,
        }
    }

    /// How long so many blocks take under the limit.
    fn time_to_read(&self, blocks: usize) -> Duration {
        let bytes = blocks as u64 * u64::from(BLOCK_LEN);
        self.download_limit.map_or(Duration::ZERO, |rate| Duration::from_secs(bytes / rate.max(1)))
    }

    /// How many more blocks peers may be asked for under the limit.
    pub(super) fn room_under_limit(&self) -> usize {
        let Some(rate) = self.download_limit else { return usize::MAX };
        let time = match self.picker.has_urgent() {
            true => URGENT_QUEUE_TIME,
            false => LIMITED_QUEUE_TIME,
        };
        let blocks = rate.saturating_mul(time.as_micros() as u64) / 1_000_000 / u64::from(BLOCK_LEN);
        (blocks as usize).max(REQUESTS_MIN).saturating_sub(self.outstanding())
    }

    /// Whether we are the ones who hold things up: what peers send waits in our own buffers.
    pub(super) fn is_held_back(&self) -> bool {
        self.pressure == Pressure::Full || self.is_disk_stalled()
    }

    /// How long what has come may wait because the download limit does not let us read it.
    pub(super) fn held_for(&self) -> Duration {
        self.time_to_read(self.outstanding()) * 2
    }

    pub(super) fn tick_download(&mut self, now: Time) {
        if self.is_held_back() {
            return self.refill_everyone(now);
        }
        let keys: Vec<PeerKey> = self.peers.keys().collect();
        // What has come and the limit does not let us read yet is not the peers' fault.
        let held = self.held_for();
        for key in keys {
            let peer = &self.peers[key];
            let timeout = peer.download.pipeline.timeout() + held;
            if peer.download.pipeline.waiting_since().is_some_and(|since| now.since(since) >= timeout) {
                let peer = self.peers.get_mut(key).expect("still here");
                peer.download.pipeline.note_silence();
                peer.download.snubbed = true;
                let blocks = self.withdraw_requests(key);
                blocks.into_iter().for_each(|block| self.send(now, key, Message::Cancel(block)));
            } else {
                let lost: Vec<BlockRef> = peer.download.pipeline.lost(now - held).collect();
                for block in lost {
                    self.cancel(now, key, block);
                    self.picker.release(block, key);
                }
            }
        }
        if self.suspects_at.is_none_or(|at| at <= now) {
            self.suspects_at = Some(now + SUSPECTS_INTERVAL);
            self.picker.handle_round();
            self.peers.values_mut().for_each(|peer| peer.download.timeouts /= 2);
            self.refill_all = true;
        }
        self.refill_everyone(now);
    }

    pub(super) fn note_completion(&mut self, now: Time) {
        let complete = self.is_complete();
        if complete && !self.was_complete {
            self.events.push_back(Event::Completed);
            self.announce_upload_only(now);
            self.close_useless(now);
        }
        self.was_complete = complete;
    }
}

//! Super-seeding (BEP 16): a seed that is the only copy lets each piece out once before any goes out again.
//!
//! As long as some piece is nowhere else, every second copy of another piece that the seed sends delays the end of
//! everybody's download, while the peers can copy that other piece among themselves. So the seed pretends to have
//! nothing, and tells a peer of one piece at a time, a different one each, in order: a peer that asks in order cannot say so, and
//! alone with the seed it gets them as it wants them. It stops as soon as every piece is with
//! someone else, or if there are too few peers to copy anything among them, or they do not. Until more than a few peers have
//! come, each is told of more pieces the more it has got, so that whoever is alone with the seed loses no time. Who wants none of those that it was
//! told of is told of others. A peer hears of the next piece when it has passed the last one on; it may keep the more the longer
//! the seed's uplink idles.

use super::places::SILENT_MAX;
use super::{TICK, Torrent};
use crate::bitfield::Bitfield;
use crate::id::{PeerKey, PieceIndex};
use crate::peer::Peer;
use crate::peer::budget::{Cost, PER_PIECE};
use crate::time::{Duration, Time};
use crate::wire::Message;

/// With fewer peers than this, once they had [`GATHERING`] to come, there is nothing to gain.
pub const PEERS_MIN: usize = 4;
/// When nobody has passed on what it got for this long, they cannot or will not, and super-seeding only costs.
pub const STANDSTILL_MAX: Duration = Duration::from_secs(10);
/// A piece that nobody passed on for this long after it was let out might as well be nowhere: it is let out again.
pub const PASS_ON_MAX: Duration = Duration::from_secs(30);
/// A peer that has not got this many pieces that it was told of is told of no other: it may never ask for them.
pub const REVEALED_MAX: u32 = 2;
/// How long a seed waits for more peers.
pub const GATHERING: Duration = Duration::from_secs(3);
/// It waits no longer once one of its few peers has got so many pieces.
pub const ALONE_MAX: u32 = 64;
/// A peer may keep at most so many pieces to itself and be told of another, however long the uplink idles.
pub const KEPT_MAX: usize = 64;
/// It idles if it does so for more than half of so many seconds, each by itself: once may be chance.
const IDLE_TICKS: u32 = 2;
/// With more pieces than this, looking for one that is nowhere else takes too long, and nothing is hidden.
pub const PIECES_MAX: u32 = 32_768;

/// What a super-seeding seed remembers.
#[derive(Debug)]
pub(super) struct SuperSeed {
    /// When each piece was last let out.
    let_out: Vec<Option<Time>>,
    /// When the first peer came.
    since: Option<Time>,
    /// Since when every peer has all that it was told of, and keeps some of it, or wants none of it.
    still_since: Option<Time>,
    /// Since when nothing waits to be sent.
    idle_since: Option<Time>,
    /// For how long nothing did, in this tick until then.
    idled: Duration,
    /// How many ticks in a row it idled for more than half of the time.
    idle_ticks: u32,
    /// A peer that keeps so many pieces which nobody has got from it is told of no other.
    kept_max: usize,
}

impl SuperSeed {
    pub(super) fn new(pieces: u32) -> SuperSeed {
        SuperSeed {
            let_out: vec![None; pieces as usize],
            since: None,
            still_since: None,
            idle_since: None,
            idled: Duration::ZERO,
            idle_ticks: 0,
            kept_max: 1,
        }
    }

    /// A tick is over. While the uplink idles, to wait until pieces have been passed on costs more than it saves.
    fn adapt(&mut self, now: Time) {
        if let Some(since) = &mut self.idle_since {
            self.idled += now.since(std::mem::replace(since, now));
        }
        let idled = std::mem::take(&mut self.idled);
        self.idle_ticks = if idled * 2 > TICK { self.idle_ticks + 1 } else { 0 };
        if self.idle_ticks >= IDLE_TICKS {
            self.kept_max = (self.kept_max * 2).min(KEPT_MAX);
        } else if idled * 8 < TICK {
            self.kept_max = (self.kept_max - 1).max(1);
        }
    }

    /// With how many others a piece is, if `holders` say that they have it.
    fn availability(&self, piece: PieceIndex, holders: u32, now: Time) -> u32 {
        match self.let_out[piece.idx()] {
            Some(at) if holders == 1 && now.since(at) >= PASS_ON_MAX => 0,
            _ => holders,
        }
    }
}

impl Torrent {
    /// Whether this seed hides what it has (BEP 16).
    pub fn is_super_seeding(&self) -> bool {
        self.super_seed.is_some()
    }

    /// A super-seed tells the peer of one more piece: one that is nowhere else, if there is any.
    pub(super) fn reveal(&mut self, now: Time, key: PeerKey) {
        let Some(mut state) = self.super_seed.take() else { return };
        let availability = |piece| state.availability(piece, self.picker.availability(piece), now);
        let has_much = |peer: &Peer| self.told_and_got(peer).1 >= ALONE_MAX;
        self.count(self.peers.len());
        let is_with_few = self.is_with_few_proven(now);
        let loses_time = is_with_few && self.peers.get(key).is_some_and(has_much);
        if loses_time || self.geometry.piece_indices().all(|piece| availability(piece) > 0) {
            return self.reveal_all(now);
        }
        self.count(self.geometry.pieces() as usize);
        state.since.get_or_insert(now);
        for _ in 0..self.reveals_at_once(now, key, is_with_few, state.kept_max) {
            self.reveal_one(now, key, &mut state);
        }
        self.super_seed = Some(state);
    }

    /// Whether there are too few to copy pieces from one another. Whoever takes nothing, or does not read what it asked for, passes
    /// nothing on, and does not count.
    fn is_with_few(&self, now: Time) -> bool {
        self.peers.values().filter(|peer| self.counts(now, peer)).take(PEERS_MIN).count() < PEERS_MIN
    }

    /// Whether so few have shown that they are of use that nobody is kept waiting for them: of those that have no piece so far, any
    /// number at one address may be one that makes a crowd of itself.
    fn is_with_few_proven(&self, now: Time) -> bool {
        let (mut proven, mut addresses) = (0, Vec::with_capacity(PEERS_MIN));
        for peer in self.peers.values().filter(|peer| self.counts(now, peer)) {
            let ip = peer.info.addr.ip().to_canonical();
            if peer.have.count() > 0 {
                proven += 1;
            } else if !addresses.contains(&ip) {
                addresses.push(ip);
            }
            if proven + addresses.len() >= PEERS_MIN {
                return false;
            }
        }
        true
    }

    fn counts(&self, now: Time, peer: &Peer) -> bool {
        !self.wastes_its_slot(peer, now) && (Self::takes(peer) || Self::may_take(now, peer))
    }

    fn takes(peer: &Peer) -> bool {
        peer.bytes_up > 0 || peer.have.count() > 0
    }

    /// Whether it has only just come, waits for its turn, asks, or was unchoked only just now.
    fn may_take(now: Time, peer: &Peer) -> bool {
        let waits = peer.peer_interested && peer.am_choking;
        let was_unchoked = !peer.am_choking && now.since(peer.slot.idle_since()) < TICK;
        let is_new = now.since(peer.connected_at) < SILENT_MAX;
        is_new || !peer.uploads.is_empty() || peer.slot.unused == 0 && (waits || was_unchoked)
    }

    /// How many pieces the peer was told of, and how many of these it has.
    fn told_and_got(&self, peer: &Peer) -> (u32, u32) {
        peer.revealed.as_ref().map_or((0, 0), |told| (told.count(), told.count_common(&peer.have)))
    }

    /// How many more pieces the peer may be told of.
    fn reveals_at_once(&self, now: Time, key: PeerKey, is_with_few: bool, kept_max: usize) -> u32 {
        let Some(peer) = self.peers.get(key) else { return 0 };
        let (told, got) = self.told_and_got(peer);
        let has_work = told - got >= REVEALED_MAX && !Self::declines_what_it_knows(now, peer);
        if is_with_few {
            // It is asked for twice as much each time, as in TCP's slow start.
            (2 * got + 1).saturating_sub(told)
        } else {
            u32::from(!has_work && self.pieces_kept(key) < kept_max)
        }
    }

    /// Tells the peer of a piece that is with as few others as any, and was let out longest ago; the first of these.
    fn reveal_one(&mut self, now: Time, key: PeerKey, state: &mut SuperSeed) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let availability = |piece| state.availability(piece, self.picker.availability(piece), now);
        let hidden = |piece: &PieceIndex| {
            !peer.have.has(*piece) && !peer.revealed.as_ref().is_some_and(|revealed| revealed.has(*piece))
        };
        let rank = |piece: PieceIndex| (availability(piece), state.let_out[piece.idx()]);
        let best = self.geometry.piece_indices().filter(hidden).map(rank).min();
        // Of equal ones the first: to whom it goes first matters to nobody, but those who use pieces in order need these soonest.
        let equal = self.geometry.piece_indices().filter(hidden).find(|&piece| Some(rank(piece)) == best);
        if let Some(piece) = equal {
            state.let_out[piece.idx()] = Some(now);
            peer.budget.earn(PER_PIECE);
            let pieces = self.geometry.pieces();
            peer.revealed.get_or_insert_with(|| Bitfield::empty(pieces)).insert(piece);
            self.send(now, key, Message::Have(piece));
        }
    }

    /// A peer has got a piece that it was told of, and is told of another. If it has it from another peer, that one has passed on
    /// what it was told of, and is told of more. Who cannot pay for that, or takes back what it says, waits for the next tick.
    pub(super) fn on_have_hidden(&mut self, now: Time, key: PeerKey, piece: PieceIndex) {
        let Some(peer) = self.peers.get(key) else { return };
        let was_told = peer.revealed.as_ref().is_some_and(|revealed| revealed.has(piece));
        let (is_served, has_lost) = (!peer.am_choking, peer.losses > 0);
        if is_served && was_told && self.affords(now, key, Cost::SwarmWide) {
            self.reveal(now, key);
        }
        if self.picker.availability(piece) == 2 && !has_lost && self.affords(now, key, Cost::Change) {
            self.on_spread(now, piece);
        }
    }

    fn on_spread(&mut self, now: Time, piece: PieceIndex) {
        self.count(self.peers.len());
        let was_told = |peer: &&Peer| peer.revealed.as_ref().is_some_and(|revealed| revealed.has(piece));
        let givers = self.peers.values().filter(|peer| peer.have.has(piece)).filter(was_told);
        let givers: Vec<PeerKey> = givers.map(|peer| peer.key).collect();
        givers.into_iter().for_each(|key| self.reveal(now, key));
    }

    /// Hides nothing any more.
    pub(super) fn stop_super_seeding(&mut self, now: Time) {
        if self.super_seed.take().is_some() {
            self.reveal_all(now);
        }
    }

    /// How many pieces that it got from us a peer has not passed on to any other of ours. Until it has, it is told of no
    /// other (BEP 16), as long as the uplink has enough to do: what a peer keeps to itself has to be sent twice.
    fn pieces_kept(&self, key: PeerKey) -> usize {
        let Some(peer) = self.peers.get(key) else { return 0 };
        let Some(revealed) = &peer.revealed else { return 0 };
        let mut kept = 0;
        revealed.for_each_common(&peer.have, |piece| {
            kept += usize::from(self.picker.availability(piece) == 1);
            true
        });
        kept
    }

    /// Tells peers of another piece that have got all that they were told of, and passed it on, or that want none of it.
    fn reveal_more(&mut self, now: Time) {
        let has_all = |peer: &Peer| !peer.revealed.as_ref().is_some_and(|r| r.has_other_than(&peer.have));
        let declines = |peer: &Peer| Self::declines_what_it_knows(now, peer);
        let is_done = |peer: &Peer| has_all(peer) || declines(peer);
        let keys: Vec<PeerKey> =
            self.peers.values().filter(|peer| is_done(peer)).map(|peer| peer.key).collect();
        keys.into_iter().for_each(|key| self.reveal(now, key));
        let is_late = |peer: &Peer| now.since(peer.slot.taken_at()) >= PASS_ON_MAX;
        let has_given_up =
            |peer: &Peer| !Self::takes(peer) || self.wastes_its_slot(peer, now) || is_late(peer);
        let is_still =
            self.peers.values().all(|peer| is_done(peer) || has_given_up(peer)) && !self.peers.is_empty();
        if let Some(state) = &mut self.super_seed {
            let since = is_still.then(|| state.still_since.unwrap_or(now));
            state.still_since = since;
            if since.is_some_and(|since| now.since(since) >= STANDSTILL_MAX) {
                self.stop_super_seeding(now);
            }
        }
    }

    /// Stops super-seeding if there is nobody to copy pieces from one another.
    pub(super) fn tick_super_seed(&mut self, now: Time) {
        let waited = self
            .super_seed
            .as_ref()
            .and_then(|state| state.since)
            .is_some_and(|since| now.since(since) >= GATHERING);
        if self.is_with_few(now) && waited {
            self.stop_super_seeding(now);
        } else if let Some(state) = &mut self.super_seed {
            state.adapt(now);
            self.reveal_more(now);
        }
    }

    /// Whether a peer has wanted nothing that it knows of for a while. It may want some pieces only.
    fn declines_what_it_knows(now: Time, peer: &Peer) -> bool {
        !peer.peer_interested && now.since(peer.useful_at) >= GATHERING
    }

    /// Nothing waits to be sent to some peer any more. If that goes for all, the uplink idles.
    pub(super) fn note_idle(&mut self, now: Time) {
        if let Some(state) = &mut self.super_seed
            && self.peers.values().all(|peer| peer.uploads.is_empty())
        {
            state.idle_since.get_or_insert(now);
        }
    }

    /// Something waits to be sent.
    pub(super) fn note_busy(&mut self, now: Time) {
        if let Some(state) = &mut self.super_seed
            && let Some(since) = state.idle_since.take()
        {
            state.idled += now.since(since);
        }
    }

    /// Everyone hears of every piece that it lacks.
    fn reveal_all(&mut self, now: Time) {
        self.announce_upload_only(now);
        let keys: Vec<PeerKey> = self.peers.keys().collect();
        for key in keys {
            let Some(peer) = self.peers.get_mut(key) else { continue };
            let revealed = peer.revealed.take();
            let knows = |piece: &PieceIndex| revealed.as_ref().is_some_and(|revealed| revealed.has(*piece));
            let hidden =
                self.geometry.piece_indices().filter(|piece| !peer.have.has(*piece) && !knows(piece));
            for piece in hidden.collect::<Vec<_>>() {
                self.send(now, key, Message::Have(piece));
            }
        }
    }
}

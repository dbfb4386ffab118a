//! Super-seeding (BEP 16): a seed that is the only copy reveals each piece once before it reveals any again.
//!
//! As long as some piece is nowhere else, every second copy of another piece that the seed sends delays the end of everybody's
//! download, while the peers can copy that other piece among themselves. So the seed pretends to have nothing, and reveals one piece
//! at a time to each peer, a different one to each, in order: a peer that asks in order cannot say so, and alone with the seed it
//! gets them as it wants them. It stops as soon as every piece is with someone else, or if there are too few peers to copy anything
//! among them, or they do not. Until more than a few peers have come, each has more pieces revealed to it the more it has got, so
//! that whoever is alone with the seed loses no time. A peer that wants none of what was revealed to it gets others. A peer hears of
//! the next piece when the last one has propagated; the longer the seed's uplink idles, the more unshared pieces it may have.

use super::State;
use crate::bitfield::Bitfield;
use crate::id::{PeerKey, PieceIndex};
use crate::peer::Peer;
use crate::peer::budget::{Cost, PER_PIECE};
use crate::time::{Duration, Time};
use crate::torrent::places::SILENT_MAX;
use crate::torrent::{TICK, Torrent};
use crate::wire::Message;

/// With fewer peers than this, once they had [`GATHERING`] to come, there is nothing to gain.
pub const PEERS_MIN: usize = 4;
/// When no piece has propagated for this long, peers cannot or will not share, and super-seeding only costs.
pub const STANDSTILL_MAX: Duration = Duration::from_secs(10);
/// A piece that has not propagated this long after it was revealed might as well be nowhere: it is revealed again.
pub const PROPAGATION_MAX: Duration = Duration::from_secs(30);
/// A peer that has not got this many pieces that were revealed to it gets no other: it may never ask for them.
pub const REVEALED_MAX: u32 = 2;
/// How long a seed waits for more peers.
pub const GATHERING: Duration = Duration::from_secs(3);
/// It waits no longer once one of its few peers has got so many pieces.
pub const ALONE_MAX: u32 = 64;
/// With this many unshared pieces no other is revealed to a peer, however long the uplink idles.
pub const UNSHARED_MAX: usize = 64;
/// It idles if it does so for more than half of so many seconds, each by itself: once may be chance.
const IDLE_TICKS: u32 = 2;
/// With more pieces than this, looking for one that is nowhere else takes too long, and nothing is hidden.
pub const PIECES_MAX: u32 = 32_768;

#[derive(Debug)]
pub(super) struct SuperSeed {
    /// When each piece was last revealed. Empty until the first one is.
    revealed_at: Vec<Option<Time>>,
    /// When the first peer came.
    since: Option<Time>,
    /// Since when every peer has all that was revealed to it, and some of it is unshared, or wants none of it.
    still_since: Option<Time>,
    /// Since when nothing waits to be sent.
    idle_since: Option<Time>,
    /// For how long nothing did, in this tick until then.
    idled: Duration,
    /// How many ticks in a row it idled for more than half of the time.
    idle_ticks: u32,
    /// With this many unshared pieces no other is revealed to a peer.
    unshared_max: usize,
}

impl SuperSeed {
    pub(super) fn new() -> SuperSeed {
        SuperSeed {
            revealed_at: Vec::new(),
            since: None,
            still_since: None,
            idle_since: None,
            idled: Duration::ZERO,
            idle_ticks: 0,
            unshared_max: 1,
        }
    }

    /// A tick is over. While the uplink idles, to wait until pieces have propagated costs more than it saves.
    fn adapt(&mut self, now: Time) {
        if let Some(since) = &mut self.idle_since {
            self.idled += now.since(std::mem::replace(since, now));
        }
        let idled = std::mem::take(&mut self.idled);
        self.idle_ticks = if idled * 2 > TICK { self.idle_ticks + 1 } else { 0 };
        if self.idle_ticks >= IDLE_TICKS {
            self.unshared_max = (self.unshared_max * 2).min(UNSHARED_MAX);
        } else if idled * 8 < TICK {
            self.unshared_max = (self.unshared_max - 1).max(1);
        }
    }

    /// Something waits to be sent.
    pub(super) fn note_busy(&mut self, now: Time) {
        if let Some(since) = self.idle_since.take() {
            self.idled += now.since(since);
        }
    }

    fn revealed_at(&self, piece: PieceIndex) -> Option<Time> {
        self.revealed_at.get(piece.idx()).copied().flatten()
    }

    /// With how many others a piece is that `holders` say they have.
    fn availability(&self, piece: PieceIndex, holders: u32, now: Time) -> u32 {
        match self.revealed_at(piece) {
            Some(at) if holders == 1 && now.since(at) >= PROPAGATION_MAX => 0,
            _ => holders,
        }
    }
}

impl State {
    fn was_revealed(&self, piece: PieceIndex) -> bool {
        self.revealed.as_ref().is_some_and(|revealed| revealed.has(piece))
    }

    /// How many pieces were revealed to the peer, and how many of these it has.
    fn revealed_and_got(&self, peer: &Peer) -> (u32, u32) {
        self.revealed
            .as_ref()
            .map_or((0, 0), |revealed| (revealed.count(), revealed.count_common(peer.have())))
    }

    fn has_all_revealed(&self, peer: &Peer) -> bool {
        !self.revealed.as_ref().is_some_and(|revealed| revealed.has_other_than(peer.have()))
    }
}

impl Torrent {
    /// Whether this seed hides what it has (BEP 16).
    pub fn is_super_seeding(&self) -> bool {
        self.uploads.super_seed.is_some()
    }

    /// Reveals one more piece to a peer if we super-seed: one that is nowhere else, if there is any.
    pub(super) fn reveal(&mut self, now: Time, key: PeerKey) {
        let Some(mut super_seed) = self.uploads.super_seed.take() else { return };
        let availability = |piece| super_seed.availability(piece, self.picker.availability(piece), now);
        self.count(self.peers.len());
        let is_with_few = self.is_with_few_trusted(now);
        let has_much = self.peers.get(key).is_some_and(|peer| self.revealed_and_got(peer).1 >= ALONE_MAX);
        if is_with_few && has_much || self.geometry.piece_indices().all(|piece| availability(piece) > 0) {
            return self.reveal_all(now);
        }
        self.count(self.geometry.pieces() as usize);
        super_seed.since.get_or_insert(now);
        for _ in 0..self.reveals_at_once(now, key, is_with_few, super_seed.unshared_max) {
            self.reveal_one(now, key, &mut super_seed);
        }
        self.uploads.super_seed = Some(super_seed);
    }

    /// Whether there are too few to copy pieces from one another. Whoever takes nothing, or does not read what it asked for, shares
    /// nothing, and does not count.
    fn is_with_few(&self, now: Time) -> bool {
        self.sharers(now).take(PEERS_MIN).count() < PEERS_MIN
    }

    /// Whether so few have shown that they are of use that nobody is kept waiting for them: of those that have no piece so far, any
    /// number at one address may be one that makes a crowd of itself.
    fn is_with_few_trusted(&self, now: Time) -> bool {
        let (mut proven, mut addresses) = (0, Vec::with_capacity(PEERS_MIN));
        for peer in self.sharers(now) {
            let ip = peer.info.addr.ip().to_canonical();
            if peer.have().count() > 0 {
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

    /// Those who may share what they get.
    fn sharers(&self, now: Time) -> impl Iterator<Item = &Peer> {
        let shares = move |(peer, state): &(&Peer, &State)| {
            !self.wastes_slot(now, peer, &state.slot) && (takes(peer) || may_take(now, peer, state))
        };
        self.with_state().filter(shares).map(|(peer, _)| peer)
    }

    fn revealed_and_got(&self, peer: &Peer) -> (u32, u32) {
        self.uploads.peers[peer.key].revealed_and_got(peer)
    }

    /// How many more pieces to reveal to the peer.
    fn reveals_at_once(&self, now: Time, key: PeerKey, is_with_few: bool, unshared_max: usize) -> u32 {
        let Some(peer) = self.peers.get(key) else { return 0 };
        let (revealed, got) = self.revealed_and_got(peer);
        let has_work = revealed - got >= REVEALED_MAX && !is_uninterested(now, peer);
        if is_with_few {
            // It is asked for twice as much each time, as in TCP's slow start.
            (2 * got + 1).saturating_sub(revealed)
        } else {
            u32::from(!has_work && self.unshared(peer) < unshared_max)
        }
    }

    /// Reveals a piece that is with as few others as any, and was revealed longest ago; the first of these.
    fn reveal_one(&mut self, now: Time, key: PeerKey, super_seed: &mut SuperSeed) {
        let (Some(peer), Some(state)) = (self.peers.get_mut(key), self.uploads.peers.get_mut(key)) else {
            return;
        };
        let availability = |piece| super_seed.availability(piece, self.picker.availability(piece), now);
        let is_hidden = |piece: &PieceIndex| !peer.have().has(*piece) && !state.was_revealed(*piece);
        let rank = |piece: PieceIndex| (availability(piece), super_seed.revealed_at(piece));
        let best = self.geometry.piece_indices().filter(is_hidden).map(rank).min();
        // Of equal ones the first: to whom it goes first matters to nobody, but those who use pieces in order need these soonest.
        let equal = self.geometry.piece_indices().filter(is_hidden).find(|&piece| Some(rank(piece)) == best);
        if let Some(piece) = equal {
            let pieces = self.geometry.pieces();
            super_seed.revealed_at.resize(pieces as usize, None);
            super_seed.revealed_at[piece.idx()] = Some(now);
            peer.account.budget.earn(PER_PIECE);
            state.revealed.get_or_insert_with(|| Bitfield::empty(pieces)).insert(piece);
            self.send(now, key, Message::Have(piece));
        }
    }

    /// A peer has got a piece. If it was revealed to it, another one is. If it has it from another peer, the piece has propagated,
    /// and more is revealed to that one. Who cannot pay for that, or takes pieces back, waits for the next tick.
    pub(in crate::torrent) fn on_have_super_seeding(&mut self, now: Time, key: PeerKey, piece: PieceIndex) {
        if !self.is_super_seeding() {
            return;
        }
        let Some(peer) = self.peers.get(key) else { return };
        let was_revealed = self.uploads.peers[key].was_revealed(piece);
        let (is_served, has_lost) = (!peer.flags.am_choking, peer.pieces.losses > 0);
        if is_served && was_revealed && self.affords(now, key, Cost::SwarmWide) {
            self.reveal(now, key);
        }
        if self.picker.availability(piece) == 2 && !has_lost && self.affords(now, key, Cost::Change) {
            self.on_propagated(now, piece);
        }
    }

    fn on_propagated(&mut self, now: Time, piece: PieceIndex) {
        self.count(self.peers.len());
        let has = |(peer, state): &(&Peer, &State)| peer.have().has(piece) && state.was_revealed(piece);
        let sharers: Vec<PeerKey> = self.with_state().filter(has).map(|(peer, _)| peer.key).collect();
        sharers.into_iter().for_each(|key| self.reveal(now, key));
    }

    /// Hides nothing any more.
    pub(in crate::torrent) fn stop_super_seeding(&mut self, now: Time) {
        if self.uploads.super_seed.take().is_some() {
            self.reveal_all(now);
        }
    }

    /// How many pieces that it got from us no other peer has. Until they have propagated, no other is revealed to it (BEP 16), as
    /// long as the uplink has enough to do: an unshared piece has to be sent twice.
    fn unshared(&self, peer: &Peer) -> usize {
        let Some(revealed) = &self.uploads.peers[peer.key].revealed else { return 0 };
        let mut unshared = 0;
        revealed.for_each_common(peer.have(), |piece| {
            unshared += usize::from(self.picker.availability(piece) == 1);
            true
        });
        unshared
    }

    /// Reveals another piece to those that have got all that were revealed to them, or that want none of these.
    fn reveal_more(&mut self, now: Time) {
        let is_done =
            |(peer, state): &(&Peer, &State)| state.has_all_revealed(peer) || is_uninterested(now, peer);
        let keys: Vec<PeerKey> = self.with_state().filter(is_done).map(|(peer, _)| peer.key).collect();
        keys.into_iter().for_each(|key| self.reveal(now, key));
        let is_still = |(peer, state): (&Peer, &State)| {
            let slot = &state.slot;
            let is_late = slot.sent_at().is_none_or(|at| now.since(at) >= PROPAGATION_MAX);
            let has_given_up = !takes(peer) || self.wastes_slot(now, peer, slot) || is_late;
            is_done(&(peer, state)) || has_given_up
        };
        let are_still = !self.peers.is_empty() && self.with_state().all(is_still);
        if let Some(super_seed) = &mut self.uploads.super_seed {
            let since = are_still.then(|| super_seed.still_since.unwrap_or(now));
            super_seed.still_since = since;
            if since.is_some_and(|since| now.since(since) >= STANDSTILL_MAX) {
                self.stop_super_seeding(now);
            }
        }
    }

    /// Stops super-seeding if there is nobody to copy pieces from one another.
    pub(super) fn tick_super_seed(&mut self, now: Time) {
        let Some(super_seed) = &self.uploads.super_seed else { return };
        let waited = super_seed.since.is_some_and(|since| now.since(since) >= GATHERING);
        if waited && self.is_with_few(now) {
            self.stop_super_seeding(now);
        } else if let Some(super_seed) = &mut self.uploads.super_seed {
            super_seed.adapt(now);
            self.reveal_more(now);
        }
    }

    /// Nothing waits to be sent to some peer any more. If that goes for all, the uplink idles.
    pub(super) fn note_idle(&mut self, now: Time) {
        if let Some(super_seed) = &mut self.uploads.super_seed
            && self.peers.values().all(|peer| peer.upload.queue.is_empty())
        {
            super_seed.idle_since.get_or_insert(now);
        }
    }

    /// HAVE goes to everyone for every piece that it lacks.
    fn reveal_all(&mut self, now: Time) {
        self.announce_upload_only(now);
        let keys: Vec<PeerKey> = self.peers.keys().collect();
        for key in keys {
            let (Some(peer), Some(state)) = (self.peers.get(key), self.uploads.peers.get_mut(key)) else {
                continue;
            };
            let revealed = state.revealed.take();
            let knows = |piece: &PieceIndex| revealed.as_ref().is_some_and(|revealed| revealed.has(*piece));
            let is_hidden = |piece: &PieceIndex| !peer.have().has(*piece) && !knows(piece);
            let hidden: Vec<PieceIndex> = self.geometry.piece_indices().filter(is_hidden).collect();
            hidden.into_iter().for_each(|piece| self.send(now, key, Message::Have(piece)));
        }
    }
}

/// Whether a peer has got anything so far.
fn takes(peer: &Peer) -> bool {
    peer.traffic.bytes_up > 0 || peer.have().count() > 0
}

/// Whether it has only just come, waits for its turn, asks, or was unchoked only just now.
fn may_take(now: Time, peer: &Peer, State { slot, .. }: &State) -> bool {
    let waits = peer.flags.peer_interested && peer.flags.am_choking;
    let was_unchoked = !peer.flags.am_choking && now.since(slot.idle_since()) < TICK;
    let is_new = now.since(peer.times.connected_at) < SILENT_MAX;
    is_new || !peer.upload.queue.is_empty() || slot.unused == 0 && (waits || was_unchoked)
}

/// Whether a peer has been not interested in anything revealed to it for a while. It may want some pieces only.
fn is_uninterested(now: Time, peer: &Peer) -> bool {
    !peer.flags.peer_interested && now.since(peer.times.useful_at) >= GATHERING
}

//! Web seeds (BEP 19): when they are used, and what comes of it.
//!
//! Alone they are asked for everything, in long runs. A web seed is somebody's bill: beside peers it is asked only for what none of them
//! has (the first copy), until they turn out to serve much worse than it would.

use super::{Action, Event, Pressure, TICK, Torrent};
use crate::bitfield::Bitfield;
use crate::geometry::BLOCK_LEN;
use crate::id::{BlockRef, PeerKey, PieceIndex};
use crate::picker::RunSource;
use crate::time::{Duration, Time};
use crate::webseed::{
    Fault, FetchId, Penalty, Place, RUN_BESIDE_PEERS, Turns, WEB_SEEDS_MAX, WebSeed, WebSeedIndex,
};
use crate::wire::{Message, extension};
use std::borrow::Cow;
use std::ops::Range;

/// How long peers may be there without giving before web seeds serve regardless of them.
pub const PEERS_GIVEN: Duration = Duration::from_secs(10);
/// How long the first fetch waits for the first peer, while trackers are asked or peers dialled.
const FIRST_PEER_WAIT: Duration = Duration::from_secs(1);
/// Peers serve badly if a web seed is so many times as quick.
const MUCH_QUICKER: u64 = 8;
/// So long it is believed that pieces are on their way from a web seed to a peer: longer than a run beside peers takes.
pub const COMING_FOR: Duration = Duration::from_secs(5);
/// Of so many known addresses nobody waits for more.
const COMING_MAX: usize = 100;
/// What a web seed is taken to give that has not been asked yet, in bytes/s.
const RATE_ASSUMED: u64 = 128 * 1024;

/// For how long peers have been there and not given, since they last gave. What they show does not count.
#[derive(Debug, Default)]
struct Patience {
    looked_at: Time,
    /// While some had what we lack.
    interesting: Duration,
    /// While none had.
    empty: Duration,
}

/// What a turn depends on: it is worked out again when one of these changes, and each tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    appeared: u64,
    peers: u32,
    pieces: u32,
}

/// The web seeds of a torrent.
#[derive(Debug, Default)]
pub(super) struct WebSeeds {
    pub(super) seeds: Vec<WebSeed>,
    last_id: u64,
    /// How many there were over the network.
    fetches: u64,
    /// When there first was one.
    since: Option<Time>,
    is_asking_trackers: bool,
    /// What peers have of our patience.
    patience: Patience,
    /// Whose turn it is, of those that fetch.
    turns: Option<Box<Turns>>,
    /// When the next fetch may begin, if it waits for that, and what was known when that was worked out.
    turn_at: Option<Time>,
    seen: Seen,
    /// Something may be asked of them again.
    pub(super) plan: bool,
}

impl WebSeeds {
    pub(super) fn by_key(&mut self, key: PeerKey) -> Option<&mut WebSeed> {
        self.seeds.iter_mut().find(|seed| seed.key() == key)
    }

    fn by_fetch(&mut self, id: FetchId) -> Option<(WebSeedIndex, &mut WebSeed)> {
        let at = self.seeds.iter().position(|seed| seed.fetches.contains_key(&id))?;
        Some((WebSeedIndex(at as u32), &mut self.seeds[at]))
    }

    /// Those that are asked over the network.
    fn remote(&self) -> impl Iterator<Item = &WebSeed> {
        self.seeds.iter().filter(|seed| !seed.is_local())
    }

    pub(super) fn outstanding_blocks(&self) -> usize {
        self.remote().map(WebSeed::outstanding_blocks).sum()
    }

    /// The torrent's pieces are known.
    pub(super) fn set_pieces(&mut self, pieces: u32) {
        for (index, seed) in self.seeds.iter_mut().enumerate() {
            *seed = WebSeed::new(WebSeedIndex(index as u32), pieces);
        }
    }

    /// A piece cannot be had from them.
    pub(super) fn lack(&mut self, piece: PieceIndex) {
        self.seeds.iter_mut().for_each(|seed| seed.lacks(piece));
    }

    /// Each with the blocks that it is to send, in the order in which they are asked for.
    pub(super) fn outstanding(
        &self,
    ) -> impl Iterator<Item = (&WebSeed, impl Iterator<Item = BlockRef> + '_)> {
        self.seeds
            .iter()
            .map(|seed| (seed, seed.fetches.values().flat_map(|fetch| fetch.blocks.iter().copied())))
    }
}

impl Torrent {
    /// Adds a web seed; the shell knows its URL. `None` if there are [`WEB_SEEDS_MAX`] already.
    pub fn add_web_seed(&mut self, now: Time) -> Option<WebSeedIndex> {
        let index = self.web.seeds.len();
        if index >= WEB_SEEDS_MAX {
            return None;
        }
        let index = WebSeedIndex(index as u32);
        self.web.since.get_or_insert(now);
        self.web.seeds.push(WebSeed::new(index, self.geometry.pieces()));
        self.plan_later(now);
        Some(index)
    }

    /// The web seeds, in the order in which they were added.
    pub fn web_seeds(&self) -> &[WebSeed] {
        &self.web.seeds
    }

    /// When there is something to do, beside what each tick does.
    pub(super) fn web_seeds_timeout(&self) -> Option<Time> {
        self.web.turn_at
    }

    pub(super) fn handle_web_seeds_timeout(&mut self, now: Time) {
        if self.web.turn_at.is_some_and(|at| at <= now) {
            self.web.turn_at = None;
            self.plan_later(now);
        }
    }

    /// Whether trackers are being asked for peers: those who have been named were told before. The first fetch waits for that, for a moment.
    pub fn set_asking_trackers(&mut self, now: Time, is_asking: bool) {
        if std::mem::replace(&mut self.web.is_asking_trackers, is_asking) != is_asking {
            self.plan_later(now);
        }
    }

    pub(super) fn plan_later(&mut self, now: Time) {
        self.web.plan = true;
        self.input_at = Some(now);
        self.wake(now);
    }

    /// Whether a web seed may still be of use.
    pub(super) fn is_waiting_for_web(&self) -> bool {
        !self.stopped
            && self.search.is_none()
            && !self.is_complete()
            && self.web.remote().any(|seed| !seed.is_dropped())
    }

    /// A web seed answers a request of a fetch as it should.
    pub fn handle_fetch_answered(&mut self, now: Time, id: FetchId) {
        if let Some((_, seed)) = self.web.by_fetch(id) {
            seed.answered(now, id);
        }
    }

    /// Bytes have come that lie before the blocks of a fetch, from a server that sends files from their starts.
    pub fn handle_fetch_skipped(&mut self, now: Time, id: FetchId, bytes: u64) {
        if let Some((_, seed)) = self.web.by_fetch(id) {
            seed.skipped(now, id, bytes);
        }
    }

    /// A block of a fetch has come. True if its bytes are to be kept; else they are to be dropped.
    pub fn handle_fetch_block(&mut self, now: Time, id: FetchId, block: BlockRef) -> bool {
        let Some((_, seed)) = self.web.by_fetch(id) else { return false };
        if !seed.received(now, id, block) {
            return false;
        }
        let key = seed.key();
        if !seed.is_local() {
            let len = u64::from(block.len);
            self.rate_down.add(now, len);
            self.totals.bytes_down += len;
        }
        let mut others = Vec::new();
        let arrival = self.picker.received(block, key, |other| others.push(other));
        others.into_iter().for_each(|other| self.cancel(now, other, block));
        self.input_at = Some(now);
        self.take_arrival(block, arrival)
    }

    /// A peer fetches these pieces from a web seed.
    pub(super) fn on_web_fetching(&mut self, now: Time, key: PeerKey, payload: &[u8]) {
        let Some(pieces) = extension::decode_pieces(payload) else { return };
        let piece_len = u64::from(self.geometry.piece_len());
        let bytes = u64::from(pieces.end - pieces.start) * piece_len;
        let is_run = bytes <= RUN_BESIDE_PEERS.end + 2 * piece_len && pieces.end <= self.geometry.pieces();
        if let Some(peer) = self.peers.get_mut(key).filter(|_| is_run) {
            peer.web.coming = Some((pieces, now + COMING_FOR));
        }
    }

    /// Tells the other downloaders what we fetch.
    fn tell_fetching(&mut self, now: Time, blocks: &[BlockRef]) {
        let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else { return };
        let payload = extension::encode_pieces(&(first.piece.0..last.piece.0 + 1));
        let others = self.peers.values().filter(|peer| !peer.have().is_full());
        let ids = others.filter_map(|peer| Some((peer.key, peer.web.id?)));
        for (key, id) in ids.collect::<Vec<_>>() {
            self.send(now, key, Message::Extended { id, payload: payload.clone() });
        }
    }

    /// The pieces of a web seed without those that are on their way from one to a peer.
    fn without_coming<'a>(&self, now: Time, have: &'a Bitfield) -> Cow<'a, Bitfield> {
        let mut have = Cow::Borrowed(have);
        let coming = self.peers.values().filter_map(|peer| peer.web.coming.as_ref());
        for (pieces, _) in coming.filter(|(_, until)| now < *until) {
            let have = have.to_mut();
            for piece in pieces.clone() {
                have.remove(PieceIndex(piece));
            }
        }
        have
    }

    /// All of a fetch has come.
    pub fn handle_fetch_done(&mut self, now: Time, id: FetchId) {
        self.end_fetch(id);
        self.plan_later(now);
    }

    /// A fetch has ended early: something is wrong with the URL, or with a file there, which lies at these bytes of the torrent.
    pub fn handle_fetch_failed(&mut self, now: Time, id: FetchId, fault: Fault, file: Option<Range<u64>>) {
        let Some((index, _)) = self.web.by_fetch(id) else { return };
        self.end_fetch(id);
        self.note_fault(now, index, fault, file);
    }

    /// Something is wrong with a web seed, whatever it is asked for.
    pub fn handle_web_seed_fault(&mut self, now: Time, index: WebSeedIndex, fault: Fault) {
        if (index.0 as usize) < self.web.seeds.len() {
            self.note_fault(now, index, fault, None);
        }
    }

    fn note_fault(&mut self, now: Time, index: WebSeedIndex, fault: Fault, file: Option<Range<u64>>) {
        let rng = &mut self.rng;
        let seed = &mut self.web.seeds[index.0 as usize];
        let file_start = file.as_ref().map(|file| file.start);
        let Some(penalty) = seed.fault(now, &fault, file, &self.geometry, rng) else {
            return self.plan_later(now);
        };
        self.events.push_back(Event::WebSeedFault { seed: index, file_start, fault, penalty });
        if matches!(penalty, Penalty::Paused(_) | Penalty::Dropped | Penalty::InOrder) {
            // What else it was asked for would meet the same.
            self.cancel_fetches(index);
        }
        self.plan_later(now);
    }

    /// A piece with blocks of a web seed has been verified.
    pub(super) fn on_web_piece(&mut self, seed: PeerKey, piece: PieceIndex) {
        let Some(seed) = self.web.by_key(seed) else { return };
        seed.proved();
        self.web.plan = true;
        if self.picker.availability(piece) > 0 {
            self.web.turns.iter_mut().for_each(|turns| turns.met_another());
        }
    }

    /// A web seed has lied.
    pub(super) fn drop_web_seed(&mut self, now: Time, key: PeerKey) {
        let at = self.web.seeds.iter().position(|seed| seed.key() == key && !seed.is_dropped());
        if let Some(at) = at {
            self.note_fault(now, WebSeedIndex(at as u32), Fault::Corrupt, None);
        }
    }

    /// A fetch is over: what it has not brought may be asked of others.
    fn end_fetch(&mut self, id: FetchId) {
        let Some((_, seed)) = self.web.by_fetch(id) else { return };
        let (key, left) = (seed.key(), seed.ended(id));
        let is_short = !left.is_empty();
        left.into_iter().for_each(|block| self.picker.release(block, key));
        self.refill_all |= is_short | self.picker.release_exclusive(key);
        self.web.plan = true;
    }

    fn cancel_fetch(&mut self, id: FetchId) {
        self.end_fetch(id);
        self.actions.push_back(Action::CancelFetch(id));
    }

    fn cancel_fetches(&mut self, of: WebSeedIndex) {
        let ids: Vec<FetchId> = self.web.seeds[of.0 as usize].fetches.keys().copied().collect();
        ids.into_iter().for_each(|id| self.cancel_fetch(id));
    }

    pub(super) fn cancel_all_fetches(&mut self) {
        (0..self.web.seeds.len()).for_each(|at| self.cancel_fetches(WebSeedIndex(at as u32)));
    }

    /// Whether peers give about as much as a web seed would.
    fn do_peers_give(&self, now: Time) -> bool {
        let of_web: u64 = self.web.remote().map(|seed| seed.bytes_per_s(now)).sum();
        let of_peers = self.rate_down.bytes_per_s(now).saturating_sub(of_web);
        let known = self.web.remote().filter(|seed| !seed.is_dropped()).map(WebSeed::rate_known).max();
        let of_web = known.filter(|&rate| rate > 0).unwrap_or(RATE_ASSUMED);
        of_peers.saturating_mul(MUCH_QUICKER) >= of_web
    }

    fn are_peers_interesting(&self) -> bool {
        self.peers.values().any(|peer| peer.pieces.interesting > 0)
    }

    /// Counts the time in which peers do not give.
    fn spend_patience(&mut self, now: Time) {
        let gives = self.do_peers_give(now);
        let (is_interesting, is_held_back) = (self.are_peers_interesting(), self.is_held_back());
        let patience = &mut self.web.patience;
        let passed = now.since(std::mem::replace(&mut patience.looked_at, now));
        match () {
            () if gives => *patience = Patience { looked_at: now, ..Patience::default() },
            () if self.peers.is_empty() || is_held_back => {}
            () if is_interesting => patience.interesting += passed.min(TICK),
            () => patience.empty += passed.min(TICK),
        }
    }

    /// Whether only what no connected peer has is asked of web seeds. Peers that have nothing to serve do not serve badly: what we lack is a
    /// gap.
    fn is_served_by_peers(&self) -> bool {
        let is_patient = self.web.patience.interesting < PEERS_GIVEN;
        !self.peers.is_empty() && (is_patient || !self.are_peers_interesting())
    }

    /// Whether there are peers that may fetch what we lack, or may come to serve it: little of it is asked for at a time.
    fn may_peers_get_it(&self) -> bool {
        self.are_peers_interesting() || self.web.patience.empty < PEERS_GIVEN
    }

    fn seen(&self) -> Seen {
        let pieces = self.picker.have().count();
        Seen { appeared: self.picker.appeared(), peers: self.peers.len() as u32, pieces }
    }

    /// When the next fetch may begin.
    fn next_fetch_at(&mut self, now: Time, gaps_only: bool, place: Place) -> Time {
        let Some(since) = self.web.since else { return now };
        if self.peers.is_empty() {
            let may_come = self.web.is_asking_trackers || self.discovery.is_waiting();
            return if self.web.fetches == 0 && may_come { since + FIRST_PEER_WAIT } else { now };
        }
        if !gaps_only || !self.may_peers_get_it() {
            return now;
        }
        let piece_len = self.geometry.piece_len();
        let runs = self.web.remote().filter(|seed| !seed.is_dropped());
        let Some(run) = runs.map(|seed| seed.run_beside_peers(piece_len)).max() else { return now };
        let appeared = self.appeared();
        let is_starved = !self.are_peers_interesting();
        self.web.turns.get_or_insert_default().next_at(now, appeared, place, run, is_starved)
    }

    /// Bytes of pieces that nobody had and somebody has got since.
    fn appeared(&self) -> u64 {
        self.picker.appeared() * u64::from(self.geometry.piece_len())
    }

    /// How many downloaders have a lower id than we, and how many there are with us, as far as we are connected. Before our first fetch those count
    /// too who are known and not connected yet: as many of their ids are lower as can be expected.
    fn place(&self) -> Place {
        let others = self.peers.values().filter(|peer| !peer.have().is_full());
        let place = others.fold(Place { before: 0, all: 1 }, |place, peer| Place {
            before: place.before + u32::from(peer.info.peer_id < self.config.peer_id),
            all: place.all + 1,
        });
        if self.web.fetches > 0 {
            return place;
        }
        let coming = self.discovery.half_open() + self.discovery.untried_of_others_than_peers(COMING_MAX);
        let coming = coming.min(COMING_MAX) as u32;
        let lower = coming * u32::from(self.config.peer_id.0[19]) / 256;
        Place { before: place.before + lower, all: place.all + coming }
    }

    /// The pieces to fetch first: one part of as many as there are downloaders, in the order of their ids. Those of them that fetch from the
    /// same web seed take the other parts.
    fn share(&self, place: Option<Place>) -> Range<u32> {
        let pieces = self.geometry.pieces();
        let Some(Place { before, all }) = place else { return 0..pieces };
        let start_of = |nth: u32| (u64::from(pieces) * u64::from(nth) / u64::from(all)) as u32;
        start_of(before)..start_of(before + 1)
    }

    /// Asks web seeds for as much as there is room for.
    pub(super) fn plan_web_seeds(&mut self, now: Time) {
        if self.web.seeds.is_empty() {
            return;
        }
        let has_news = self.web.turn_at.is_some() && self.web.seen != self.seen();
        if !std::mem::take(&mut self.web.plan) && !has_news {
            return;
        }
        self.web.turn_at = None;
        if !self.is_waiting_for_web() && !self.is_waiting_for_local() {
            return self.cancel_all_fetches();
        }
        self.spend_patience(now);
        if self.is_held_back() {
            return;
        }
        self.plan_local(now);
        if !self.is_waiting_for_web() {
            return;
        }
        let gaps_only = self.is_served_by_peers();
        let place = self.place();
        let next_at = self.next_fetch_at(now, gaps_only, place);
        if now < next_at {
            (self.web.turn_at, self.web.seen) = (Some(next_at), self.seen());
            return;
        }
        let place = gaps_only.then_some(place);
        for at in 0..self.web.seeds.len() {
            while !self.web.seeds[at].is_local() && self.start_fetch(now, WebSeedIndex(at as u32), place) {}
        }
    }

    /// Begins one fetch; beside peers, at our place among them, only of what they have not.
    pub(super) fn start_fetch(&mut self, now: Time, index: WebSeedIndex, place: Option<Place>) -> bool {
        let is_local = self.web.seeds[index.0 as usize].is_local();
        let under_limit = if is_local { u64::from(u32::MAX) } else { self.room_under_limit() as u64 };
        let is_fetching = self.web.seeds.iter().any(|seed| !seed.fetches.is_empty());
        if under_limit == 0 || self.pressure != Pressure::None && is_fetching {
            return false;
        }
        let seed = &self.web.seeds[index.0 as usize];
        let beside_peers = place.filter(|_| self.may_peers_get_it());
        let Some(room) = seed.room(now, self.geometry.piece_len(), beside_peers.is_some()) else {
            return false;
        };
        let room = room.min(under_limit.saturating_mul(BLOCK_LEN.into()));
        let have = match beside_peers {
            Some(_) => self.without_coming(now, seed.have()),
            None => Cow::Borrowed(seed.have()),
        };
        let source = RunSource {
            key: seed.key(),
            have: &have,
            next: seed.next_piece(),
            in_order: seed.is_in_order(),
            gaps_only: place.is_some(),
            share: self.share(place),
            only_continue: self.pressure != Pressure::None && self.picker.bytes_in_downloading() > 0,
        };
        let mut blocks = Vec::new();
        self.picker.pick_run(&source, room, &mut self.rng, &mut blocks);
        if blocks.is_empty() {
            return false;
        }
        let id = FetchId(self.web.last_id);
        self.web.last_id += 1;
        self.web.fetches += u64::from(!is_local);
        if let Some(place) = beside_peers {
            let bytes = blocks.iter().map(|block| u64::from(block.len)).sum();
            let appeared = self.appeared();
            self.web.turns.get_or_insert_default().begun(appeared, place, bytes);
            self.tell_fetching(now, &blocks);
        }
        self.actions.push_back(Action::Fetch { id, seed: index, blocks: blocks.clone() });
        self.web.seeds[index.0 as usize].started(now, id, blocks);
        true
    }

    pub(super) fn tick_web_seeds(&mut self, now: Time) {
        let held = self.held_for();
        let held_back = self.is_held_back();
        let usable = self.web.remote().filter(|seed| !seed.is_dropped()).count();
        let has_others = usable > 1 || self.peers.values().any(|peer| peer.pieces.interesting > 0);
        let idle_rate = self.web.remote().filter_map(|seed| seed.idle_rate(now)).max();
        for at in 0..self.web.seeds.len() {
            let seed = &mut self.web.seeds[at];
            seed.tick(now);
            if held_back {
                seed.excuse(now);
                continue;
            }
            while let Some((id, fault)) = self.web.seeds[at].given_up(now, held, has_others, idle_rate) {
                self.cancel_fetch(id);
                self.note_fault(now, WebSeedIndex(at as u32), fault, None);
            }
            self.cancel_needless(at);
        }
        self.web.plan = true;
    }

    /// Ends fetches whose blocks have all come from elsewhere.
    fn cancel_needless(&mut self, at: usize) {
        let have = self.picker.have();
        let is_needless = |blocks: &mut dyn Iterator<Item = &BlockRef>| {
            let mut blocks = blocks.peekable();
            blocks.peek().is_some() && blocks.all(|block| have.has(block.piece))
        };
        let fetches = self.web.seeds[at].fetches.iter();
        let needless: Vec<FetchId> =
            fetches.filter(|(_, fetch)| is_needless(&mut fetch.blocks.iter())).map(|(&id, _)| id).collect();
        needless.into_iter().for_each(|id| self.cancel_fetch(id));
    }
}

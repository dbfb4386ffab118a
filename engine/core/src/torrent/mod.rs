//! One torrent's swarm as a state machine: the one place that changes several parts at once.
//!
//! Inputs are connections, messages, the *arrival* of blocks, results of
//! verification and disk, and time. Outputs are [`Action`]s for the shell to
//! carry out and [`Event`]s for whoever watches. **Drain both after every
//! input**; then call [`Torrent::handle_timeout`] at [`Torrent::poll_timeout`].
//!
//! The work is split by what it reacts to: `messages` (dispatch, and what each message may cost), `connections` (connected peers and
//! their pieces), `places` (who is evicted), `download` (our requests, blocks, pieces), `endgame` (blocks requested from several
//! peers), `requests` (peers' requests), `uploads` (whom to send to: choking, slots, super-seeding), `doubt` (pieces that may be lost),
//! `webseeds` (HTTP servers as sources), `blame` (smart ban), `discovery` (whom to dial), `exchange` (PEX), `holepunch`
//! (peers behind NATs), `metadata` (the info dictionary, fetched and served), `hashes` (hash trees of version 2, likewise).

mod blame;
mod connections;
pub mod discovery;
mod doubt;
mod download;
mod endgame;
mod events;
pub mod exchange;
pub mod hashes;
pub mod holepunch;
mod local;
mod messages;
pub mod metadata;
mod peers;
pub mod places;
mod requests;
pub mod uploads;
mod webseeds;

use crate::bitfield::Bitfield;
use crate::geometry::Geometry;
use crate::id::{BlockRef, InfoHash, InfoHashV2, InfoHashes, PeerId, PeerKey, PieceIndex};
use crate::metainfo::HashTrees;
use crate::net::ExternalIpVotes;
use crate::padding::Padding;
use crate::peer::{Due, Peer};
use crate::picker::{Order, Picker, PickerPeer, PieceState, Priority};
use crate::rate::RateMeter;
use crate::rng::Rng;
use crate::time::{Duration, Time};
use crate::wire::Message;
use blame::Blame;
use bytes::Bytes;
use discovery::Discovery;
pub use download::PAROLE_BYTES;
pub use events::{Action, CloseReason, Event, PieceResult, Pressure};
use hashes::HashExchange;
use holepunch::Punches;
pub use messages::PORTS_MAX;
use metadata::Search;
use peers::Peers;
use std::cell::Cell;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use uploads::Uploads;
pub use uploads::{REHASH_INTERVAL, REHASH_REST, SENT_WHOLE_MAX};
use webseeds::WebSeeds;
pub use webseeds::{COMING_FOR, PEERS_GIVEN};

/// How often slow things are looked at: snubbing, keep-alive, idle connections.
pub const TICK: Duration = Duration::from_secs(1);

/// What does not change over the life of a torrent.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which torrent this is.
    pub info_hash: InfoHash,
    /// That of version 2 if it is known. [`info_hash`](Config::info_hash) may be the start of it.
    pub info_hash_v2: Option<Box<InfoHashV2>>,
    /// What we call ourselves in handshakes.
    pub peer_id: PeerId,
    /// The software's name and version, for extension handshakes.
    pub client: String,
    /// The TCP port that peers can reach us at, if there is one.
    pub listen_port: Option<u16>,
    /// Whether peers may be told our own addresses. They are so that a peer with two of ours notices.
    pub tells_own_ips: bool,
    /// How many connections there may be.
    pub peers_max: usize,
    /// How many connections are dialled for; more are accepted, up to `peers_max`.
    pub peers_wanted: usize,
    /// How many connections may be half open at a time.
    pub half_open_max: usize,
    /// How many requests a peer may queue at us (`reqq`).
    pub requests_max: u32,
    /// The raw info dictionary, for peers that have only its hash (BEP 9). `None`: they are not served.
    pub metadata: Option<Bytes>,
    /// Peer exchange (BEP 11). Not in private torrents (BEP 27).
    pub exchange: bool,
    /// Holepunching (BEP 55), for which we have to speak uTP. Not in private torrents (BEP 27).
    pub holepunch: bool,
    /// Peers are told that we prefer encrypted connections (MSE).
    pub prefers_encryption: bool,
    /// Whether peers are dialled and evicted in the order of their canonical priority (BEP 40), not at random. For swarms that anybody
    /// may join, where some might take every place.
    pub canonical_priority: bool,
    /// Super-seeding (BEP 16): a seed that knows of no other copy reveals each piece once before it reveals any again.
    pub super_seeding: bool,
    /// Which of the torrent's bytes are padding.
    pub padding: Padding,
    /// Its hash trees, in version 2.
    pub hashes: Option<Arc<HashTrees>>,
    /// Determines every random choice.
    pub seed: u64,
}

impl Config {
    /// The hashes that the info dictionary must have.
    fn info_hashes(&self) -> InfoHashes {
        let v2 = self.info_hash_v2.as_deref().copied();
        let is_v2 = v2.is_some_and(|v2| v2.truncated() == self.info_hash);
        InfoHashes { v1: (!is_v2).then_some(self.info_hash), v2 }
    }

    /// The defaults for this torrent.
    pub fn new(info_hash: InfoHash, peer_id: PeerId, seed: u64) -> Config {
        Config {
            info_hash,
            info_hash_v2: None,
            peer_id,
            client: concat!("Swarm ", env!("CARGO_PKG_VERSION")).to_owned(),
            listen_port: None,
            tells_own_ips: true,
            peers_max: 100,
            peers_wanted: 50,
            half_open_max: 16,
            requests_max: 2_000,
            metadata: None,
            exchange: false,
            holepunch: false,
            prefers_encryption: false,
            canonical_priority: false,
            super_seeding: false,
            padding: Padding::default(),
            hashes: None,
            seed,
        }
    }
}

/// Sums over the life of a torrent, in bytes of payload unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Received, wanted or not.
    pub bytes_down: u64,
    /// Sent.
    pub bytes_up: u64,
    /// Received and dropped: twice asked for, no longer wanted, or never asked for.
    pub bytes_wasted: u64,
    /// Received in pieces that did not verify.
    pub bytes_corrupt: u64,
    /// Pieces that did not verify (a count).
    pub pieces_failed: u64,
}

impl Totals {
    /// The sums of both.
    pub fn plus(self, other: Totals) -> Totals {
        Totals {
            bytes_down: self.bytes_down + other.bytes_down,
            bytes_up: self.bytes_up + other.bytes_up,
            bytes_wasted: self.bytes_wasted + other.bytes_wasted,
            bytes_corrupt: self.bytes_corrupt + other.bytes_corrupt,
            pieces_failed: self.pieces_failed + other.pieces_failed,
        }
    }
}

/// One torrent's swarm.
#[derive(Debug)]
pub struct Torrent {
    config: Config,
    /// The port that our gateway passes on to us.
    mapped_port: Option<u16>,
    geometry: Geometry,
    rng: Rng,
    picker: Picker,
    /// When it was last looked for blocks that a reader waits for too long.
    urgent_looked_at: Option<Time>,
    uploads: Uploads,
    /// Until the metadata is known.
    search: Option<Box<Search>>,
    /// In version 2.
    hashes: Option<Box<HashExchange>>,
    peers: Peers,
    web: WebSeeds,
    discovery: Discovery,
    punches: Punches,
    /// Our addresses as peers report them, by family.
    votes: [ExternalIpVotes; 2],
    /// Our addresses as others see them, by family, as far as they are known.
    own_ips: [Option<IpAddr>; 2],
    blame: Blame,
    /// Pieces that were announced and later retracted (BEP 54).
    retracted: Bitfield,
    /// When that last happened.
    retracted_at: Option<Time>,
    /// Seeds that left when nothing was wanted any more.
    seeds_left: VecDeque<SocketAddr>,
    pressure: Pressure,
    /// How fast payload may come, in bytes/s.
    download_limit: Option<u64>,
    /// How many complete pieces are being verified and written.
    verifying: u32,
    /// Complete pieces that the disk did not take.
    unwritten: Vec<PieceIndex>,
    /// Blocks are unrequested again: whoever has room may be asked for them.
    refill_all: bool,
    /// The same, at the next tick: who caused it could not pay for more.
    refill_at_tick: bool,
    /// The peers for which something is [due now](crate::peer::Due::Now).
    due: Vec<PeerKey>,
    /// When the last input came, if its consequences are not worked out yet.
    input_at: Option<Time>,
    /// Counts what inputs have cost: peers, requests and pieces that were looked at.
    work: Cell<u64>,
    was_complete: bool,
    /// Nobody is dialled or accepted any more.
    stopped: bool,
    /// Peers that have left lately, and where they were.
    departed: VecDeque<(PeerKey, SocketAddr)>,
    /// The next tick, unless there is nothing to wait for.
    tick_at: Option<Time>,
    /// When pieces that failed may be asked of those who sent them before.
    suspects_at: Option<Time>,
    rate_down: RateMeter,
    rate_up: RateMeter,
    totals: Totals,
    requests_doubled: u64,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    /// Room for picks, kept to save allocations.
    picks: Vec<BlockRef>,
}

impl Torrent {
    /// A torrent of this geometry of which we `have` these pieces, verified and written.
    pub fn new(config: Config, geometry: Geometry, have: Bitfield) -> Torrent {
        let mut torrent = Torrent::without_metadata(config);
        torrent.search = None;
        torrent.set_content(geometry, have);
        torrent
    }

    /// A torrent from its info-hash alone: it fetches the metadata from peers ([`Event::MetadataReceived`]).
    pub fn without_metadata(config: Config) -> Torrent {
        let mut rng = Rng::new(config.seed);
        let uploads = Uploads::new(rng.fork());
        let mut discovery = Discovery::new(rng.fork());
        if config.canonical_priority {
            discovery.use_canonical_priority(config.listen_port.unwrap_or(0));
        }
        Torrent {
            search: Some(Box::new(Search::new(config.info_hashes()))),
            hashes: None,
            uploads,
            discovery,
            punches: Punches::default(),
            votes: Default::default(),
            own_ips: [None; 2],
            was_complete: false,
            stopped: false,
            departed: VecDeque::new(),
            config,
            mapped_port: None,
            geometry: Geometry::EMPTY,
            rng,
            picker: Picker::new(Geometry::EMPTY, Bitfield::empty(0)),
            urgent_looked_at: None,
            peers: Peers::default(),
            web: WebSeeds::default(),
            blame: Blame::default(),
            retracted: Bitfield::empty(0),
            retracted_at: None,
            seeds_left: VecDeque::new(),
            pressure: Pressure::None,
            download_limit: None,
            verifying: 0,
            unwritten: Vec::new(),
            refill_all: false,
            refill_at_tick: false,
            due: Vec::new(),
            input_at: None,
            work: Cell::new(0),
            tick_at: None,
            suspects_at: None,
            rate_down: RateMeter::default(),
            rate_up: RateMeter::default(),
            totals: Totals::default(),
            requests_doubled: 0,
            actions: VecDeque::new(),
            events: VecDeque::new(),
            picks: Vec::new(),
        }
    }

    /// The geometry is known.
    fn set_content(&mut self, geometry: Geometry, have: Bitfield) {
        let pieces = geometry.pieces();
        self.picker = Picker::new(geometry.clone(), have);
        self.geometry = geometry;
        self.picker.set_padding(std::mem::take(&mut self.config.padding));
        self.hashes = self.config.hashes.take().map(|trees| Box::new(HashExchange::new(trees)));
        self.web.set_pieces(pieces);
        self.was_complete = self.is_complete();
        let super_seeding = self.config.super_seeding && self.peers.is_empty();
        self.uploads.set_content(pieces, self.was_complete, super_seeding);
    }

    /// What the shell is to do next. Drain until `None` after every input.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.after_input();
        pop_or_free(&mut self.actions, self.peers.is_empty())
    }

    /// What has happened. Drain until `None` after every input.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.after_input();
        pop_or_free(&mut self.events, self.peers.is_empty())
    }

    /// When to call [`Torrent::handle_timeout`], if nothing else happens before. `None` at rest.
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.stopped {
            return None;
        }
        let search_at = self.search.as_ref().and_then(|search| search.poll_timeout());
        let next_at = sooner(self.tick_at, self.discovery.poll_timeout());
        let next_at = sooner(next_at, self.web_seeds_timeout());
        let next_at = sooner(next_at, self.hashes_timeout());
        sooner(sooner(next_at, self.uploads.poll_timeout()), search_at)
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.discovery.poll_timeout().is_some_and(|at| at <= now) {
            self.dial(now);
        }
        self.handle_uploads_timeout(now);
        self.handle_web_seeds_timeout(now);
        self.tick_search(now);
        self.handle_hashes_timeout(now);
        if self.tick_at.is_none_or(|at| now < at) {
            return;
        }
        self.count(self.peers.len());
        self.tick_connections(now);
        self.tick_due(now);
        self.tick_download(now);
        self.tick_web_seeds(now);
        self.tick_uploads(now);
        self.tick_exchange(now);
        self.tick_holepunch(now);
        self.tick_hashes(now);
        self.dial(now);
        let at_rest = self.peers.is_empty()
            && !self.discovery.is_waiting()
            && !self.is_waiting_for_web()
            && !self.is_waiting_for_local();
        self.tick_at = (!at_rest).then_some(now + TICK);
        self.input_at = Some(now);
    }

    /// How much memory received blocks may still take.
    pub fn set_pressure(&mut self, now: Time, pressure: Pressure) {
        if pressure < self.pressure {
            self.refill_all = true;
        }
        self.pressure = pressure;
        if pressure == Pressure::Full {
            self.give_up_all_leaves(now);
        }
        self.input_at = Some(now);
    }

    /// Changes the priorities of pieces; of several at the cost of one.
    pub fn set_priorities(
        &mut self,
        now: Time,
        priorities: impl IntoIterator<Item = (PieceIndex, Priority)>,
    ) {
        priorities.into_iter().for_each(|(piece, priority)| self.picker.set_priority(piece, priority));
        self.recount_interesting(now);
        self.refill_all = true;
        self.note_incompletion(now);
        self.note_completion(now);
        self.input_at = Some(now);
    }

    /// Sets the order in which pieces are started.
    pub fn set_order(&mut self, order: Order) {
        self.picker.set_order(order);
    }

    /// The pieces that are verified and written.
    pub fn have(&self) -> &Bitfield {
        self.picker.have()
    }

    /// The pieces that are wanted and not yet had.
    pub fn missing(&self) -> &Bitfield {
        self.picker.missing()
    }

    /// How a piece stands.
    pub fn piece_state(&self, piece: PieceIndex) -> PieceState {
        self.picker.state(piece)
    }

    /// In how many connected peers a piece is.
    pub fn availability(&self, piece: PieceIndex) -> u32 {
        self.picker.availability(piece)
    }

    /// The blocks of a piece under way that are padding, and nobody is asked for.
    pub fn padding_blocks(&self, piece: PieceIndex) -> impl Iterator<Item = u32> + '_ {
        self.picker.padding_blocks(piece)
    }

    /// Bytes of missing pieces, padding left out.
    pub fn bytes_missing(&self) -> u64 {
        let (geometry, missing, padding) = (&self.geometry, self.picker.missing(), self.picker.padding());
        let Some(last) = geometry.piece_indices().next_back() else { return 0 };
        let shortfall = if missing.has(last) { geometry.piece_len() - geometry.len_of(last) } else { 0 };
        let padded = padding.pieces(geometry).filter(|&piece| missing.has(piece));
        let padding_len: u64 = padded.map(|piece| u64::from(padding.len_in(geometry, piece))).sum();
        u64::from(missing.count()) * u64::from(geometry.piece_len()) - u64::from(shortfall) - padding_len
    }

    /// Whether every wanted piece is verified and written.
    pub fn is_complete(&self) -> bool {
        self.search.is_none() && self.picker.missing().count() == 0
    }

    /// The connected peers.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// A connected peer.
    pub fn peer(&self, key: PeerKey) -> Option<&Peer> {
        self.peers.get(key)
    }

    /// Sums since the start.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// How many requests were for a block that another peer had been asked for too (endgame).
    pub fn requests_doubled(&self) -> u64 {
        self.requests_doubled
    }

    /// Payload rates now: down, up, in bytes/s.
    pub fn rates(&self, now: Time) -> (u64, u64) {
        (self.rate_down.bytes_per_s(now), self.rate_up.bytes_per_s(now))
    }

    /// Bytes received in pieces that are not verified and written yet.
    pub fn bytes_unverified(&self) -> u64 {
        self.picker.bytes_in_downloading()
    }

    /// The pieces under way, the one that has waited longest for a block first.
    pub fn partial_pieces(&self) -> Vec<PieceIndex> {
        self.picker.partial_by_age()
    }

    /// What we call ourselves.
    pub fn peer_id(&self) -> PeerId {
        self.config.peer_id
    }

    /// The torrent's geometry.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn send(&mut self, now: Time, peer: PeerKey, message: Message) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.times.sent_at = now;
            self.actions.push_back(Action::Send { peer: peer.key, message });
        }
    }

    /// Asserts what must hold between inputs. For tests and simulations.
    ///
    /// # Panics
    /// If something does not hold.
    pub fn check_invariants(&self) {
        self.picker.check_invariants();
        let is_processed = |peer: &Peer| self.input_at.is_none() && peer.account.due == Due::Nothing;
        for piece in self.geometry.piece_indices() {
            let holders = self.peers.values().filter(|p| p.have().has(piece)).count();
            assert_eq!(self.picker.availability(piece) as usize, holders, "availability of {piece}");
        }
        for peer in self.peers.values() {
            let interesting = peer.have().count_common(self.picker.missing());
            assert_eq!(interesting, peer.pieces.interesting, "interesting pieces of {:?}", peer.key);
            assert!(
                !is_processed(peer) || peer.flags.am_interested == (interesting > 0),
                "interest in {:?}",
                peer.key
            );
            assert!(peer.download.pipeline.len() <= crate::peer::pipeline::REQUESTS_MAX as usize);
            let requests_max = self.config.requests_max as usize;
            assert!(peer.upload.requests() <= requests_max);
            let is_held_back =
                self.is_held_back() || self.room_on_parole(peer) == 0 || self.room_under_limit() == 0;
            let is_idle = !peer.flags.peer_choking && peer.download.pipeline.is_empty() && !is_held_back;
            // When memory is short, nothing is started with a peer that was slow.
            let may_start = self.pressure == Pressure::None || peer.download.timeouts == 0;
            let source = PickerPeer { key: peer.key, have: peer.have(), may_start, on_parole: false };
            assert!(
                self.refill_at_tick || !is_processed(peer) || !is_idle || !self.picker.has_block_for(source),
                "{:?} could be asked and is not",
                peer.key
            );
        }
    }
}

/// Of two deadlines the first. A list of deadlines to take the least of costs a simulation 4 % of its time.
fn sooner(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The first in the queue. A torrent at rest keeps no room for more.
fn pop_or_free<T>(queue: &mut VecDeque<T>, is_at_rest: bool) -> Option<T> {
    let first = queue.pop_front();
    if first.is_none() && is_at_rest {
        *queue = VecDeque::new();
    }
    first
}

//! A torrent of which only the info-hash is known: gets the info dictionary from peers (BEP 9).
//!
//! Nothing that a peer says can be checked before the whole is there. So each peer has an assembly of its own, of the
//! size that it claims: the first whose SHA-1 is right ends the search, and one that is wrong can be the fault of nobody but
//! the peer that sent it. Peers that claim the same size begin at different pieces, and what they have sent together is tried
//! as soon as it is whole, which is quick among honest ones; when it is wrong, nothing is lost, and nobody is blamed. A liar costs its own connection and no more: others are asked at the same time, none is
//! asked more than [`REQUESTS_PER_S_MAX`] times a second, however often it connects, and what all assemblies may come to is limited.
//!
//! What a message may cost, and make us keep:
//!
//! | message | costs | keeps | how often |
//! |---|---|---|---|
//! | anything but extension messages | nothing | nothing | any |
//! | extension handshake | its length | a port and a size; nothing more once it is being asked | any |
//! | `ut_metadata` data | its length; SHA-1 of the whole when that is here | [`ASSEMBLIES_LEN_MAX`] in all, [`SPOILED_MAX`] sizes | once for each request, [`REQUESTS_PER_S_MAX`] of them a second |
//! | `ut_metadata` request | an answer of its length | nothing | as long as the answers are read |
//! | `ut_pex` | its length | addresses, within the limits of [`discovery`](super::discovery) | once in [`EXCHANGE_INTERVAL_MIN`] |
//!
//! What follows is worked out once for all that came together, when actions are asked for: each of at most [`FetchConfig::peers_max`] peers is
//! looked at.
//!
//! Drain [`Fetch::poll_action`] and [`Fetch::poll_event`] after every input, and call [`Fetch::handle_timeout`] at
//! [`Fetch::poll_timeout`]. The connections are for the metadata only: what peers say of pieces is passed over, to be
//! heard again by the torrent once there is one.

mod source;

use super::discovery::{Demand, Discovery, Origin};
use super::exchange::EXCHANGE_INTERVAL_MIN;
use super::{Action, CloseReason};
use crate::admission::{self, Holder};
use crate::id::{InfoHash, PeerId, PeerKey};
use crate::net::Host;
use crate::peer::PeerInfo;
use crate::rng::Rng;
use crate::time::{Duration, Time};
use crate::wire::extension::{EXTENSION_HANDSHAKE_ID, Extension, ExtensionHandshake};
use crate::wire::{Message, MetadataMessage, PeerExchange, metadata_pieces};
use sha1::{Digest, Sha1};
pub use source::REQUESTS_PER_S_MAX;
use source::{Outcome, Source};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

/// How long an info dictionary that peers offer may be, in bytes.
pub const METADATA_LEN_MAX: u32 = 32 * 1024 * 1024;
/// What all assemblies together may come to, in bytes.
pub const ASSEMBLIES_LEN_MAX: u64 = 2 * METADATA_LEN_MAX as u64;
/// How many peers that have not been found slow are asked at a time.
pub const PARALLEL_MAX: usize = 4;
/// How long a peer counts as one of these at most, so that those who drip do not keep others waiting.
pub const TURN_MAX: Duration = Duration::from_secs(4);
/// A peer that has sent nothing for so long is slow.
pub const SLOW_AFTER: Duration = Duration::from_secs(2);
/// How many sizes are remembered of which what peers sent together was wrong.
pub const SPOILED_MAX: usize = 256;
/// How long a peer may take over its extension handshake, and over an answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a peer may take in all while others wait for the memory that it was given.
pub const ASSEMBLY_TIME_MAX: Duration = Duration::from_secs(240);
/// Of how many hosts it is remembered that they offer more than [`METADATA_LEN_MAX`].
const OVERSIZED_MAX: usize = 64;
/// How often time is looked at while there is something to do.
pub const TICK: Duration = Duration::from_millis(100);

/// What a fetch is told once.
#[derive(Clone, Debug)]
pub struct FetchConfig {
    /// Which torrent.
    pub info_hash: InfoHash,
    /// What we call ourselves in handshakes.
    pub peer_id: PeerId,
    /// The software's name and version, for extension handshakes.
    pub client: String,
    /// The TCP port that peers can reach us at, if there is one.
    pub listen_port: Option<u16>,
    /// How many connections there may be.
    pub peers_max: usize,
    /// How many connections may be half open at a time.
    pub half_open_max: usize,
}

impl FetchConfig {
    /// The defaults for this torrent.
    pub fn new(info_hash: InfoHash, peer_id: PeerId) -> FetchConfig {
        FetchConfig {
            info_hash,
            peer_id,
            client: concat!("Swarm ", env!("CARGO_PKG_VERSION")).to_owned(),
            listen_port: None,
            peers_max: 50,
            half_open_max: 16,
        }
    }
}

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchEvent {
    /// The info dictionary is here, and has the right hash. There is nothing more to do.
    Fetched(Vec<u8>),
    /// A peer sent something else, and is banned.
    PeerBanned {
        /// Its address.
        addr: SocketAddr,
        /// Why.
        reason: CloseReason,
    },
}

/// The search for one torrent's info dictionary.
#[derive(Debug)]
pub struct Fetch {
    config: FetchConfig,
    sources: BTreeMap<PeerKey, Source>,
    /// When each host was sent the requests of the last second.
    sent: BTreeMap<Host, VecDeque<Time>>,
    discovery: Discovery,
    /// Sizes of which the pieces of several peers together were wrong.
    spoiled: BTreeSet<u32>,
    /// When the last message was of which not everything is worked out.
    unsettled: Option<Time>,
    /// Hosts that offered too long a dictionary, and how long.
    oversized: BTreeMap<Host, u32>,
    is_done: bool,
    tick_at: Time,
    actions: VecDeque<Action>,
    events: VecDeque<FetchEvent>,
}

impl Fetch {
    /// Nobody to ask yet.
    pub fn new(config: FetchConfig, rng: Rng) -> Fetch {
        Fetch {
            config,
            sources: BTreeMap::new(),
            sent: BTreeMap::new(),
            discovery: Discovery::new(rng),
            spoiled: BTreeSet::new(),
            unsettled: None,
            oversized: BTreeMap::new(),
            is_done: false,
            tick_at: Time::MAX,
            actions: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// What the shell is to do next: connect, send or close.
    pub fn poll_action(&mut self) -> Option<Action> {
        if let Some(now) = self.unsettled.take() {
            self.settle(now);
        }
        self.actions.pop_front()
    }

    /// What has happened.
    pub fn poll_event(&mut self) -> Option<FetchEvent> {
        self.events.pop_front()
    }

    /// When to call [`Fetch::handle_timeout`], if nothing else happens before. `None` at rest.
    pub fn poll_timeout(&self) -> Option<Time> {
        (self.tick_at != Time::MAX).then_some(self.tick_at)
    }

    /// The addresses that are known, those in use first; with each whether a tracker told of it.
    pub fn addresses(&self) -> impl Iterator<Item = (SocketAddr, bool)> {
        self.discovery.addresses()
    }

    /// How many peers are connected.
    pub fn peer_count(&self) -> usize {
        self.sources.len()
    }

    /// Where the connected peers listen, as far as that is known.
    pub fn peers(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.sources.values().filter_map(|source| source.listen_addr)
    }

    /// Whether the address is banned.
    pub fn is_banned(&self, addr: SocketAddr) -> bool {
        self.discovery.is_banned(addr)
    }

    /// How long the dictionary is by the word of most of those who offer more than [`METADATA_LEN_MAX`], in bytes, and
    /// how many hosts say so; `None` while anybody offers less.
    ///
    /// Any of them may lie, so this is a reason to tell the user, and none to give up: an honest peer may come yet.
    pub fn too_long(&self) -> Option<(u32, usize)> {
        if self.is_offered() {
            return None;
        }
        let mut votes = BTreeMap::<u32, usize>::new();
        self.oversized.values().for_each(|&size| *votes.entry(size).or_default() += 1);
        votes.into_iter().max_by_key(|&(_, hosts)| hosts)
    }

    /// Whether a connected peer offers a dictionary of a length that is taken.
    pub fn is_offered(&self) -> bool {
        self.sources.values().any(|source| source.metadata_id().is_some())
    }

    /// Bytes of metadata that are held.
    pub fn held_bytes(&self) -> u64 {
        self.sources.values().map(Source::held_bytes).sum()
    }

    /// Addresses of possible peers, and who told of them.
    pub fn handle_addresses(&mut self, now: Time, addrs: &[SocketAddr], origin: Origin) {
        addrs.iter().for_each(|&addr| self.discovery.add(addr, origin));
        self.settle(now);
    }

    /// An address that we were to dial did not become a connection.
    pub fn handle_connect_failed(&mut self, now: Time, addr: SocketAddr) {
        self.discovery.failed(now, addr);
        self.settle(now);
    }

    /// An address that we were to dial was not, for want of room or descriptors on our side.
    pub fn handle_not_dialled(&mut self, now: Time, addr: SocketAddr) {
        self.discovery.not_dialled(now, addr);
        self.settle(now);
    }

    /// A connection's handshakes are done. May be answered with [`Action::Close`].
    ///
    /// # Panics
    /// If the key is in use.
    pub fn handle_connected(&mut self, now: Time, key: PeerKey, info: PeerInfo) {
        assert!(!self.sources.contains_key(&key), "{key:?} is in use");
        if let Some(reason) = self.refusal(now, &info) {
            match reason {
                CloseReason::SelfConnection if !info.inbound => self.discovery.is_own(info.addr),
                _ if !info.inbound => self.discovery.failed(now, info.addr),
                _ => {}
            }
            self.actions.push_back(Action::Close { peer: key, reason });
            return self.settle(now);
        }
        if !info.inbound {
            self.discovery.connected(info.addr);
        }
        let hello = ExtensionHandshake {
            ids: [Extension::Metadata, Extension::PeerExchange].map(|e| (e, e.local_id())).into(),
            client: self.config.client.clone(),
            listen_port: self.config.listen_port,
            your_ip: Some(info.addr.ip().to_canonical()),
            ..ExtensionHandshake::default()
        };
        self.send(key, Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload: hello.encode() });
        if info.fast {
            self.send(key, Message::HaveNone);
        }
        self.sources.insert(key, Source::new(info, now));
        self.settle(now);
    }

    /// Who dialled us and offers nothing fills no more than half of what we dial for.
    fn demand(&self) -> Demand {
        let offers = |source: &&Source| source.metadata_id().is_some();
        let idle = self.sources.values().filter(|source| source.info.inbound && !offers(source)).count();
        let wanted = self.config.peers_max;
        Demand {
            here: self.sources.len() - idle + idle.min(wanted / 2),
            wanted,
            half_open_max: self.config.half_open_max,
            is_alone: !self.sources.values().any(|source| offers(&source)),
        }
    }

    /// Closes a connection for another one, if any gives way to it.
    fn make_place(&mut self, now: Time, newcomer: IpAddr) -> bool {
        let holders = self.sources.iter().map(|(key, source)| Holder {
            key: *key,
            ip: source.info.addr.ip(),
            standing: source.standing(now),
            useful_at: source.connected_at,
        });
        let holders: Vec<Holder<PeerKey>> = holders.collect();
        let Some(key) = admission::gives_way(newcomer, &holders, self.config.peers_max) else { return false };
        self.close(now, key, CloseReason::NoMetadata);
        true
    }

    fn refusal(&mut self, now: Time, info: &PeerInfo) -> Option<CloseReason> {
        let is_twin = |source: &Source| source.info.is_same_peer(info);
        match () {
            () if self.is_done => Some(CloseReason::Stopped),
            () if info.peer_id == self.config.peer_id => Some(CloseReason::SelfConnection),
            () if self.discovery.is_banned(info.addr) => Some(CloseReason::Banned),
            () if self.sources.values().any(is_twin) => Some(CloseReason::Duplicate),
            () if !info.extended => Some(CloseReason::NoMetadata),
            () if self.sources.len() < self.config.peers_max || self.make_place(now, info.addr.ip()) => None,
            () => Some(CloseReason::TooManyPeers),
        }
    }

    /// The connection has ended, on whichever side.
    pub fn handle_disconnected(&mut self, now: Time, key: PeerKey) {
        self.forget(now, key, true);
        self.settle(now);
    }

    /// A message has come from a peer. Messages from peers that are not connected (any more) are ignored.
    pub fn handle_message(&mut self, now: Time, key: PeerKey, message: &Message) {
        let Message::Extended { id, payload } = message else { return };
        if *id == EXTENSION_HANDSHAKE_ID {
            if let Ok(hello) = ExtensionHandshake::decode(payload) {
                self.on_hello(now, key, &hello);
            }
        } else {
            match Extension::from_local_id(*id) {
                Some(Extension::Metadata) => match MetadataMessage::decode(payload) {
                    Ok(Some(message)) => self.on_metadata(now, key, message),
                    Ok(None) => {}
                    Err(_) => self.close(now, key, CloseReason::BadMetadata),
                },
                Some(Extension::PeerExchange) => self.on_exchange(now, key, payload),
                _ => {}
            }
        }
        self.unsettled = Some(now);
    }

    fn on_hello(&mut self, now: Time, key: PeerKey, hello: &ExtensionHandshake) {
        let Some(source) = self.sources.get_mut(&key) else { return };
        if let Some(port) = hello.listen_port.filter(|_| source.listen_addr.is_none()) {
            let addr = SocketAddr::new(source.info.addr.ip(), port);
            source.listen_addr = Some(addr);
            if self.discovery.is_banned(addr) {
                return self.close(now, key, CloseReason::Banned);
            }
            self.discovery.connected(addr);
        }
        let id = hello.ids.get(&Extension::Metadata).copied().filter(|&id| id != 0);
        match (id, hello.metadata_size) {
            (Some(_), Some(size)) if size > METADATA_LEN_MAX => {
                let host = Host::of(source.info.addr);
                if self.oversized.len() < OVERSIZED_MAX || self.oversized.contains_key(&host) {
                    self.oversized.insert(host, size);
                }
                self.close(now, key, CloseReason::MetadataSize { size });
            }
            (Some(id), Some(size)) => source.offer(now, id, size),
            // It may have some the next time.
            _ => self.close(now, key, CloseReason::NoMetadata),
        }
    }

    /// A peer tells of others (BEP 11): it is listened to as rarely as a torrent would.
    fn on_exchange(&mut self, now: Time, key: PeerKey, payload: &[u8]) {
        let Some(source) = self.sources.get_mut(&key) else { return };
        if source.exchanged_at.is_some_and(|at| now.since(at) < EXCHANGE_INTERVAL_MIN) {
            return;
        }
        source.exchanged_at = Some(now);
        let origin = Origin::Peer(source.info.addr.ip());
        if let Ok(PeerExchange { added, .. }) = PeerExchange::decode(payload) {
            added.iter().for_each(|(addr, _)| self.discovery.add(*addr, origin));
        }
    }

    fn on_metadata(&mut self, now: Time, key: PeerKey, message: MetadataMessage<'_>) {
        let Some(source) = self.sources.get_mut(&key) else { return };
        match message {
            MetadataMessage::Request(piece) => {
                if let Some(id) = source.metadata_id() {
                    let payload = MetadataMessage::Reject(piece).encode();
                    self.send(key, Message::Extended { id, payload });
                }
            }
            MetadataMessage::Reject(piece) => {
                if !source.rejected(now, piece) {
                    self.close(now, key, CloseReason::NoMetadata);
                }
            }
            MetadataMessage::Data { piece, total_size, bytes } => {
                match source.received(now, piece, total_size, bytes) {
                    Outcome::Unasked => {}
                    Outcome::More => self.try_together(total_size),
                    Outcome::Wrong => self.close(now, key, CloseReason::BadMetadata),
                    Outcome::Whole(bytes) if self.is_right(&bytes) => self.finish(bytes),
                    Outcome::Whole(_) => self.ban(now, key, CloseReason::WrongMetadata),
                }
            }
        }
    }

    fn is_right(&self, bytes: &[u8]) -> bool {
        InfoHash(Sha1::digest(bytes).into()) == self.config.info_hash
    }

    /// Looks whether what all peers that claim this size have sent is it, once that is whole.
    fn try_together(&mut self, size: u32) {
        let parts: Vec<&[Option<Box<[u8]>>]> =
            self.sources.values().filter_map(|source| source.pieces_of(size)).collect();
        let held: u64 = self.sources.values().filter(|s| s.offers(size)).map(Source::held_bytes).sum();
        if parts.len() < 2 || held < size.into() || self.spoiled.contains(&size) {
            return;
        }
        let piece = |nth: usize| parts.iter().find_map(|pieces| pieces.get(nth)?.as_deref());
        let whole: Option<Vec<&[u8]>> = (0..metadata_pieces(size) as usize).map(piece).collect();
        match whole.map(|pieces| pieces.concat()) {
            Some(bytes) if self.is_right(&bytes) => self.finish(bytes),
            Some(_) => {
                if self.spoiled.len() >= SPOILED_MAX {
                    self.spoiled.clear();
                }
                self.spoiled.insert(size);
            }
            None => {}
        }
    }

    fn finish(&mut self, bytes: Vec<u8>) {
        self.is_done = true;
        self.tick_at = Time::MAX;
        self.events.push_back(FetchEvent::Fetched(bytes));
    }

    fn ban(&mut self, now: Time, key: PeerKey, reason: CloseReason) {
        let Some(source) = self.sources.get(&key) else { return };
        let addr = source.info.addr;
        for addr in [Some(addr), source.listen_addr].into_iter().flatten() {
            self.discovery.ban(now, addr);
        }
        // Without its part it may be right.
        self.spoiled.clear();
        self.events.push_back(FetchEvent::PeerBanned { addr, reason: reason.clone() });
        self.close(now, key, reason);
    }

    fn close(&mut self, now: Time, key: PeerKey, reason: CloseReason) {
        if self.sources.contains_key(&key) {
            let again = !matches!(reason, CloseReason::MetadataSize { .. });
            self.forget(now, key, again);
            self.actions.push_back(Action::Close { peer: key, reason });
        }
    }

    fn forget(&mut self, now: Time, key: PeerKey, again: bool) {
        if let Some(source) = self.sources.remove(&key)
            && let Some(addr) = source.listen_addr
        {
            self.discovery.disconnected(now, addr, again, false);
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        if now < self.tick_at || self.is_done {
            return;
        }
        self.tick_at = Time::MAX;
        self.discovery.expire_bans(now);
        let keys = self.sources.iter().filter(|(_, source)| source.is_late(now)).map(|(key, _)| *key);
        for key in keys.collect::<Vec<_>>() {
            self.close(now, key, CloseReason::TimedOut { seconds: ANSWER_TIMEOUT.as_secs() });
        }
        self.settle(now);
    }

    /// What follows every input: turns are given, requests sent, addresses dialled.
    fn settle(&mut self, now: Time) {
        if self.is_done {
            return;
        }
        self.give_turns(now);
        self.sent.retain(|_, sent| {
            sent.retain(|at| now.since(*at) <= Duration::from_secs(1));
            !sent.is_empty()
        });
        let keys: Vec<PeerKey> = self.sources.keys().copied().collect();
        for key in keys {
            let Some(source) = self.sources.get_mut(&key) else { continue };
            let sent = self.sent.entry(Host::of(source.info.addr)).or_default();
            let (id, pieces) = (source.metadata_id(), source.requests(now, sent));
            for (id, piece) in pieces.into_iter().filter_map(|piece| Some((id?, piece))) {
                let payload = MetadataMessage::Request(piece).encode();
                self.send(key, Message::Extended { id, payload });
            }
        }
        let demand = self.demand();
        while let Some(dial) = self.discovery.dial(now, demand) {
            self.actions.push_back(Action::Connect(dial));
        }
        let is_at_rest = self.sources.is_empty() && !self.discovery.is_waiting();
        if is_at_rest {
            self.tick_at = Time::MAX;
        } else if self.tick_at == Time::MAX {
            // No input puts off what is due: who says much would gain by it.
            self.tick_at = now + TICK;
        }
    }

    /// Begins to ask those who wait, the first to come first, as far as there is room.
    fn give_turns(&mut self, now: Time) {
        let mut brisk = self.sources.values().filter(|source| source.is_brisk(now)).count();
        let mut claimed: u64 = self.sources.values().map(Source::claimed_bytes).sum();
        let waiting = self.sources.iter().filter(|(_, source)| source.is_waiting());
        let mut waiting: Vec<(Time, PeerKey, u64)> =
            waiting.map(|(key, source)| (source.connected_at, *key, source.offered_bytes())).collect();
        waiting.sort_unstable();
        for (_, key, size) in waiting {
            if brisk >= PARALLEL_MAX {
                return;
            }
            if claimed + size > ASSEMBLIES_LEN_MAX {
                return self.make_room(now);
            }
            let alike = self.sources.values().filter(|s| s.begun_at().is_some() && s.offered_bytes() == size);
            let nth = alike.count();
            if let Some(source) = self.sources.get_mut(&key) {
                source.begin(now, nth % PARALLEL_MAX);
                (brisk, claimed) = (brisk + 1, claimed + size);
            }
        }
    }

    /// Parts with the peer that has had its turn for longest, if that is too long.
    fn make_room(&mut self, now: Time) {
        let begun = self.sources.iter().filter_map(|(key, source)| Some((source.begun_at()?, *key)));
        let oldest = begun.min().filter(|(begun_at, _)| now.since(*begun_at) >= ASSEMBLY_TIME_MAX);
        if let Some((_, key)) = oldest {
            self.close(now, key, CloseReason::TimedOut { seconds: ASSEMBLY_TIME_MAX.as_secs() });
        }
    }

    fn send(&mut self, peer: PeerKey, message: Message) {
        self.actions.push_back(Action::Send { peer, message });
    }
}

//! The search for the info dictionary of a torrent when only the info-hash is known (BEP 9).
//!
//! Nothing can be checked before the whole is there. So each peer has an assembly of its own, of the size that it claims: the
//! first whose hash is right ends the search, and a wrong one is the fault of its sender alone. Peers that claim the same size
//! begin at different pieces, and their pieces are combined as soon as they are whole, which is quick among honest peers; if
//! the result is wrong, nothing is lost and nobody is blamed. A corrupt peer costs only its own connection: others are asked at the same
//! time, a host gets at most [`REQUESTS_PER_S_MAX`](super::REQUESTS_PER_S_MAX) requests a second however often it connects, and
//! the size of all assemblies is limited.

use super::claims::Claims;
use super::source::{Outcome, Source};
use crate::admission::Standing;
use crate::id::{InfoHashes, PeerKey};
use crate::net::Host;
use crate::time::{Duration, Time};
use crate::torrent::CloseReason;
use crate::wire::{MetadataMessage, metadata_pieces};
use sha1::{Digest, Sha1};
use sha2::Sha256;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The largest info dictionary that is fetched, in bytes: one with the piece hashes of as many pieces as libtorrent takes (2,097,152, so
/// 40 MiB), and with many files.
///
/// Nothing of it can be checked until the last byte is there, and whoever lies about its size has us keep what he sends: not much in a
/// second, but up to [`ASSEMBLIES_LEN_MAX`] for each link that is being fetched.
pub const METADATA_LEN_MAX: u32 = 48 * 1024 * 1024;
/// The limit of all assemblies together, in bytes.
pub const ASSEMBLIES_LEN_MAX: u64 = 2 * METADATA_LEN_MAX as u64;
/// How many peers are asked at a time, slow ones not counted.
pub const PARALLEL_MAX: usize = 4;
/// After this time a peer counts as slow, even if it sends now and then.
pub const TURN_MAX: Duration = Duration::from_secs(4);
/// A peer that has sent nothing for this long is slow.
pub const SLOW_AFTER: Duration = Duration::from_secs(2);
/// How many sizes are remembered for which combined pieces were wrong.
pub const FAILED_SIZES_MAX: usize = 256;
/// The timeout of the extension handshake and of each request.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a peer may take in all while others wait for its share of the memory: enough for [`METADATA_LEN_MAX`] at
/// [`REQUESTS_PER_S_MAX`](super::REQUESTS_PER_S_MAX).
pub const ASSEMBLY_TIME_MAX: Duration = Duration::from_secs(360);
/// How many hosts are remembered that offer more than [`METADATA_LEN_MAX`].
const OVERSIZED_MAX: usize = 64;
/// How often timeouts are checked while a peer is connected.
pub const SEARCH_TICK: Duration = Duration::from_millis(100);

/// What follows from a message or a timeout.
#[derive(Debug)]
pub(super) enum Verdict {
    Close(PeerKey, CloseReason),
    /// All that it sent is wrong.
    Ban(PeerKey),
    /// The info dictionary.
    Found(Vec<u8>),
}

/// The search for one torrent's info dictionary, among its connected peers.
#[derive(Debug)]
pub(in crate::torrent) struct Search {
    wanted: InfoHashes,
    sources: BTreeMap<PeerKey, Source>,
    /// When each host was sent the requests of the last second.
    sent: BTreeMap<Host, VecDeque<Time>>,
    /// Sizes for which the combined pieces of several peers were wrong.
    failed_sizes: BTreeSet<u32>,
    /// Hosts that offered too large a dictionary, and its size.
    oversized: BTreeMap<Host, u32>,
    /// Messages about pieces that came meanwhile.
    pub(super) claims: Claims,
    is_over: bool,
    tick_at: Option<Time>,
}

impl Search {
    pub(in crate::torrent) fn new(wanted: InfoHashes) -> Search {
        Search {
            wanted,
            sources: BTreeMap::new(),
            sent: BTreeMap::new(),
            failed_sizes: BTreeSet::new(),
            oversized: BTreeMap::new(),
            claims: Claims::default(),
            is_over: false,
            tick_at: None,
        }
    }

    /// The info dictionary has come from elsewhere.
    pub(in crate::torrent) fn end_in_vain(&mut self) {
        self.is_over = true;
        self.sources.values_mut().for_each(Source::drop_assembly);
    }

    /// Whether a peer says that it has the metadata, or pieces.
    pub(in crate::torrent) fn may_have_metadata(&self, key: PeerKey) -> bool {
        self.sources.get(&key).is_some_and(Source::has_offer) || self.claims.has_some(key)
    }

    /// A peer has connected.
    pub(super) fn joined(&mut self, now: Time, key: PeerKey, host: Host) {
        self.sources.insert(key, Source::new(host, now));
        self.tick_at.get_or_insert(now + SEARCH_TICK);
    }

    /// A peer has left.
    pub(in crate::torrent) fn left(&mut self, key: PeerKey) {
        self.sources.remove(&key);
        self.claims.take(key);
    }

    /// The next tick.
    pub(in crate::torrent) fn poll_timeout(&self) -> Option<Time> {
        self.tick_at.filter(|_| !self.is_over && !self.sources.is_empty())
    }

    /// See [`Torrent::metadata_too_long`](super::Torrent::metadata_too_long).
    pub(super) fn too_long(&self) -> Option<(u32, usize)> {
        if self.is_offered() {
            return None;
        }
        let mut votes = BTreeMap::<u32, usize>::new();
        self.oversized.values().for_each(|&size| *votes.entry(size).or_default() += 1);
        votes.into_iter().max_by_key(|&(_, hosts)| hosts)
    }

    /// Whether a connected peer offers a dictionary within the limit.
    pub(super) fn is_offered(&self) -> bool {
        self.sources.values().any(Source::has_offer)
    }

    /// Bytes held.
    pub(super) fn held_bytes(&self) -> u64 {
        self.sources.values().map(Source::held_bytes).sum()
    }

    /// How useful a peer is to the search.
    pub(super) fn standing(&self, now: Time, key: PeerKey) -> Standing {
        match self.sources.get(&key) {
            Some(_) if self.is_over => Standing::Waiting,
            Some(source) => source.standing(now),
            None => Standing::Useless,
        }
    }

    /// The peer's extension handshake, with the number of the message and the size, if it has named them.
    pub(super) fn on_offer(&mut self, now: Time, key: PeerKey, size: Option<u32>) -> Option<Verdict> {
        let source = self.sources.get_mut(&key)?;
        match size {
            // Who has metadata has hashes.
            _ if self.is_over => {
                source.offer(now, size?);
                None
            }
            Some(size) if size > METADATA_LEN_MAX => {
                if self.oversized.len() < OVERSIZED_MAX || self.oversized.contains_key(&source.host) {
                    self.oversized.insert(source.host, size);
                }
                Some(Verdict::Close(key, CloseReason::MetadataSize { size }))
            }
            Some(size) => {
                source.offer(now, size);
                None
            }
            // It may have metadata next time; one with pieces is useful later.
            None => (!self.claims.has_some(key)).then_some(Verdict::Close(key, CloseReason::NoMetadata)),
        }
    }

    /// A peer rejects a request.
    pub(super) fn on_reject(&mut self, now: Time, key: PeerKey, piece: u32) -> Option<Verdict> {
        let is_worth_more = self.sources.get_mut(&key).is_none_or(|source| source.rejected(now, piece));
        (!is_worth_more && !self.is_over).then_some(Verdict::Close(key, CloseReason::NoMetadata))
    }

    /// A piece has come: whether it was requested, and what follows.
    pub(super) fn on_data(
        &mut self,
        now: Time,
        key: PeerKey,
        data: (u32, u32, &[u8]),
    ) -> (bool, Option<Verdict>) {
        let (piece, total_size, bytes) = data;
        let Some(source) = self.sources.get_mut(&key).filter(|_| !self.is_over) else { return (true, None) };
        match source.received(now, piece, total_size, bytes) {
            Outcome::Unasked => (false, None),
            Outcome::More => (true, self.try_together(total_size)),
            Outcome::Wrong => (true, Some(Verdict::Close(key, CloseReason::BadMetadata))),
            Outcome::Whole(bytes) if self.is_right(&bytes) => (true, Some(self.end(bytes))),
            Outcome::Whole(_) => {
                // Without its pieces a combination may be right.
                self.failed_sizes.clear();
                (true, Some(Verdict::Ban(key)))
            }
        }
    }

    fn is_right(&self, bytes: &[u8]) -> bool {
        let InfoHashes { v1, v2 } = self.wanted;
        v1.is_none_or(|v1| v1.0 == <[u8; 20]>::from(Sha1::digest(bytes)))
            && v2.is_none_or(|v2| v2.0 == <[u8; 32]>::from(Sha256::digest(bytes)))
    }

    fn end(&mut self, bytes: Vec<u8>) -> Verdict {
        self.is_over = true;
        self.sources.values_mut().for_each(Source::drop_assembly);
        Verdict::Found(bytes)
    }

    /// Combines the pieces of all peers that claim this size, once they are whole.
    fn try_together(&mut self, size: u32) -> Option<Verdict> {
        let parts: Vec<&[Option<Box<[u8]>>]> =
            self.sources.values().filter_map(|source| source.pieces_of(size)).collect();
        let held: u64 = self.sources.values().filter(|s| s.offers(size)).map(Source::held_bytes).sum();
        if parts.len() < 2 || held < size.into() || self.failed_sizes.contains(&size) {
            return None;
        }
        let piece = |nth: usize| parts.iter().find_map(|pieces| pieces.get(nth)?.as_deref());
        let whole: Option<Vec<&[u8]>> = (0..metadata_pieces(size) as usize).map(piece).collect();
        let bytes = whole?.concat();
        if self.is_right(&bytes) {
            return Some(self.end(bytes));
        }
        if self.failed_sizes.len() >= FAILED_SIZES_MAX {
            self.failed_sizes.clear();
        }
        self.failed_sizes.insert(size);
        None
    }

    /// Closes peers that have timed out.
    pub(super) fn tick(&mut self, now: Time) -> Vec<Verdict> {
        if self.is_over || self.tick_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.tick_at = Some(now + SEARCH_TICK);
        let claims = &self.claims;
        let late = self.sources.iter().filter(|(key, source)| {
            source.request_timed_out(now) || source.handshake_timed_out(now) && !claims.has_some(**key)
        });
        let reason = CloseReason::TimedOut { seconds: ANSWER_TIMEOUT.as_secs() };
        late.map(|(key, _)| Verdict::Close(*key, reason.clone())).collect()
    }

    /// The requests to send now; called after every input. A peer that has had its turn for too long while others wait is closed.
    pub(super) fn requests(&mut self, now: Time) -> (Vec<(PeerKey, Vec<u8>)>, Option<Verdict>) {
        if self.is_over || self.sources.is_empty() {
            return Default::default();
        }
        let gone = self.start_requests(now);
        self.sent.retain(|_, sent| {
            sent.retain(|at| now.since(*at) <= Duration::from_secs(1));
            !sent.is_empty()
        });
        let mut requests = Vec::new();
        for (&key, source) in &mut self.sources {
            let sent = self.sent.entry(source.host).or_default();
            let pieces = source.requests(now, sent);
            requests.extend(pieces.iter().map(|&piece| (key, MetadataMessage::Request(piece).encode())));
        }
        (requests, gone)
    }

    /// Begins to ask waiting peers, in the order of their connections, as far as there is room.
    fn start_requests(&mut self, now: Time) -> Option<Verdict> {
        let mut responsive = self.sources.values().filter(|source| source.is_responsive(now)).count();
        let mut claimed: u64 = self.sources.values().map(Source::claimed_bytes).sum();
        let waiting = self.sources.iter().filter(|(_, source)| source.is_waiting());
        let mut waiting: Vec<(Time, PeerKey, u64)> =
            waiting.map(|(key, source)| (source.connected_at, *key, source.offered_bytes())).collect();
        waiting.sort_unstable();
        for (_, key, size) in waiting {
            if responsive >= PARALLEL_MAX {
                break;
            }
            if claimed + size > ASSEMBLIES_LEN_MAX {
                return self.longest_turn(now);
            }
            let alike = self.sources.values().filter(|s| s.begun_at().is_some() && s.offered_bytes() == size);
            let nth = alike.count();
            if let Some(source) = self.sources.get_mut(&key) {
                source.begin(now, nth % PARALLEL_MAX);
                (responsive, claimed) = (responsive + 1, claimed + size);
            }
        }
        None
    }

    /// Closes the peer that has had its turn for longest, if that is too long.
    fn longest_turn(&self, now: Time) -> Option<Verdict> {
        let begun = self.sources.iter().filter_map(|(key, source)| Some((source.begun_at()?, *key)));
        let (_, key) = begun.min().filter(|(begun_at, _)| now.since(*begun_at) >= ASSEMBLY_TIME_MAX)?;
        Some(Verdict::Close(key, CloseReason::TimedOut { seconds: ASSEMBLY_TIME_MAX.as_secs() }))
    }
}

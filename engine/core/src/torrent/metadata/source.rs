//! A peer that may have the metadata, and the pieces that it has sent.

use super::search::{ANSWER_TIMEOUT, PARALLEL_MAX, SLOW_AFTER, TURN_MAX};
use crate::admission::Standing;
use crate::net::Host;
use crate::time::{Duration, Time};
use crate::torrent::places::SILENT_MAX;
use crate::wire::{metadata_pieces, metadata_range};
use std::collections::{BTreeMap, VecDeque};

/// How many requests a host gets within any second, over all its connections, and how many may be outstanding at a peer.
pub const REQUESTS_PER_S_MAX: usize = 10;
/// How long a peer gets no request after a reject; doubled for each further one.
const REJECT_BACKOFF: Duration = Duration::from_secs(1);
/// After so many rejects in a row a peer counts as one without metadata.
const REJECTS_MAX: u32 = 4;

/// What came of a piece.
pub(super) enum Outcome {
    Unasked,
    /// More pieces are missing.
    More,
    /// Its size does not fit the offer.
    Wrong,
    /// All pieces are here.
    Whole(Vec<u8>),
}

/// The metadata as one peer sends it.
#[derive(Debug)]
struct Assembly {
    begun_at: Time,
    pieces: Vec<Option<Box<[u8]>>>,
    held: u64,
    /// The first piece requested.
    first: u32,
    /// How many were requested, from there on and around.
    taken: u32,
    /// Rejected pieces, to be requested again.
    again: VecDeque<u32>,
    asked: BTreeMap<u32, Time>,
}

impl Assembly {
    /// The next piece that was never requested.
    fn take_next(&mut self) -> Option<u32> {
        let count = self.pieces.len() as u32;
        if self.taken == count {
            return None;
        }
        self.taken += 1;
        Some((self.first + self.taken - 1) % count)
    }
}

/// A connected peer.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) host: Host,
    pub(super) connected_at: Time,
    /// The size of its metadata, as it claims.
    offer: Option<u32>,
    assembly: Option<Assembly>,
    useful_at: Time,
    rejects: u32,
    backoff_until: Time,
}

impl Source {
    pub(super) fn new(host: Host, now: Time) -> Source {
        Source {
            host,
            connected_at: now,
            offer: None,
            assembly: None,
            useful_at: now,
            rejects: 0,
            backoff_until: now,
        }
    }

    /// It offers metadata of this size. Later offers do not count once it is asked.
    pub(super) fn offer(&mut self, now: Time, size: u32) {
        if self.assembly.is_none() {
            self.offer = Some(size);
            self.useful_at = now;
        }
    }

    /// How useful it is, for eviction.
    pub(super) fn standing(&self, now: Time) -> Standing {
        match () {
            () if self.assembly.is_some() => Standing::Gives,
            () if self.offer.is_some() => Standing::Waiting,
            () if now.since(self.connected_at) < SILENT_MAX => Standing::New,
            () => Standing::Useless,
        }
    }

    pub(super) fn has_offer(&self) -> bool {
        self.offer.is_some()
    }

    pub(super) fn offered_bytes(&self) -> u64 {
        self.offer.map_or(0, u64::from)
    }

    /// It offers metadata and is not asked yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.offer.is_some() && self.assembly.is_none()
    }

    /// The size of its assembly once whole.
    pub(super) fn claimed_bytes(&self) -> u64 {
        if self.assembly.is_some() { self.offered_bytes() } else { 0 }
    }

    pub(super) fn held_bytes(&self) -> u64 {
        self.assembly.as_ref().map_or(0, |assembly| assembly.held)
    }

    pub(super) fn begun_at(&self) -> Option<Time> {
        self.assembly.as_ref().map(|assembly| assembly.begun_at)
    }

    /// It is asked and not slow.
    pub(super) fn is_responsive(&self, now: Time) -> bool {
        let is_fresh = |begun_at| now.since(begun_at) < TURN_MAX && now.since(self.useful_at) < SLOW_AFTER;
        self.begun_at().is_some_and(is_fresh)
    }

    /// Its extension handshake has timed out.
    pub(super) fn handshake_timed_out(&self, now: Time) -> bool {
        self.offer.is_none() && now.since(self.connected_at) >= ANSWER_TIMEOUT
    }

    /// A request has timed out. An answer to another one does not reset it.
    pub(super) fn request_timed_out(&self, now: Time) -> bool {
        let asked = self.assembly.iter().flat_map(|assembly| assembly.asked.values());
        asked.into_iter().any(|&at| now.since(at) >= ANSWER_TIMEOUT)
    }

    /// Forgets its pieces.
    pub(super) fn drop_assembly(&mut self) {
        self.assembly = None;
    }

    /// Its pieces, if it offers metadata of this size.
    pub(super) fn pieces_of(&self, size: u32) -> Option<&[Option<Box<[u8]>>]> {
        let assembly = self.assembly.as_ref().filter(|_| self.offers(size))?;
        Some(&assembly.pieces)
    }

    pub(super) fn offers(&self, size: u32) -> bool {
        self.offer == Some(size)
    }

    /// Begins to ask it, as the `nth` of [`PARALLEL_MAX`] that offer the same size.
    pub(super) fn begin(&mut self, now: Time, nth: usize) {
        let count = self.offer.map_or(0, metadata_pieces);
        self.useful_at = now;
        self.assembly = Some(Assembly {
            begun_at: now,
            pieces: vec![None; count as usize],
            held: 0,
            first: (count as usize * nth / PARALLEL_MAX) as u32,
            taken: 0,
            again: VecDeque::new(),
            asked: BTreeMap::new(),
        });
    }

    /// The pieces to request now. `sent` holds the times of the host's requests of the last second.
    pub(super) fn requests(&mut self, now: Time, sent: &mut VecDeque<Time>) -> Vec<u32> {
        let Some(assembly) = &mut self.assembly else { return Vec::new() };
        let mut pieces = Vec::new();
        while now >= self.backoff_until
            && sent.len() < REQUESTS_PER_S_MAX
            && assembly.asked.len() < REQUESTS_PER_S_MAX
        {
            let Some(piece) = assembly.again.pop_front().or_else(|| assembly.take_next()) else { break };
            assembly.asked.insert(piece, now);
            sent.push_back(now);
            pieces.push(piece);
        }
        pieces
    }

    /// It rejects a request. Whether it is worth asking again.
    pub(super) fn rejected(&mut self, now: Time, piece: u32) -> bool {
        let Some(assembly) = &mut self.assembly else { return true };
        if assembly.asked.remove(&piece).is_some() {
            assembly.again.push_back(piece);
            if now >= self.backoff_until {
                self.backoff_until = now + REJECT_BACKOFF * 2u32.pow(self.rejects);
                self.rejects += 1;
            }
        }
        self.rejects < REJECTS_MAX
    }

    /// A piece has come.
    pub(super) fn received(&mut self, now: Time, piece: u32, total_size: u32, bytes: &[u8]) -> Outcome {
        let (Some(size), Some(assembly)) = (self.offer, &mut self.assembly) else {
            return Outcome::Unasked;
        };
        if assembly.asked.remove(&piece).is_none() {
            return Outcome::Unasked;
        }
        let fits = metadata_range(size, piece).is_some_and(|range| range.len() == bytes.len());
        if total_size != size || !fits {
            return Outcome::Wrong;
        }
        (self.useful_at, self.rejects) = (now, 0);
        assembly.held += bytes.len() as u64;
        assembly.pieces[piece as usize] = Some(bytes.into());
        if assembly.held < u64::from(size) {
            return Outcome::More;
        }
        let pieces: Vec<&[u8]> = assembly.pieces.iter().flatten().map(|piece| &piece[..]).collect();
        Outcome::Whole(pieces.concat())
    }
}

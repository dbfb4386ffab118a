//! The info dictionary (BEP 9): served to peers that have only the info-hash, and fetched by a torrent that starts from a magnet link.
//!
//! Before it is known a torrent has no pieces. It dials, accepts and exchanges peers as usual. BITFIELDs and HAVEs that come meanwhile
//! are kept (`claims`) and handled once [`Torrent::handle_metadata`] tells how many pieces there are.

mod claims;
mod search;
mod source;

use super::holepunch::Punches;
use super::{Action, CloseReason, Event, Torrent};
use crate::admission::Standing;
use crate::bitfield::Bitfield;
use crate::geometry::Geometry;
use crate::id::PeerKey;
use crate::metainfo::HashTrees;
use crate::net::Host;
use crate::padding::Padding;
use crate::peer::budget::Cost;
use crate::time::Time;
use crate::wire::{Extension, Message, MetadataMessage, metadata_pieces, metadata_range};
use bytes::Bytes;
pub use claims::{BITFIELDS_LEN_MAX, CLAIMED_MAX};
pub(super) use search::Search;
use search::Verdict;
pub use search::{ANSWER_TIMEOUT, ASSEMBLIES_LEN_MAX, FAILED_SIZES_MAX, METADATA_LEN_MAX, PARALLEL_MAX};
pub use source::REQUESTS_PER_S_MAX;
use std::sync::Arc;

/// How many copies of the metadata a peer gets before its requests are rejected.
const COPIES_MAX: u32 = 3;
/// How many requests for metadata may wait to be served for a peer; more are rejected.
pub const METADATA_ASKED_MAX: usize = 256;
/// With more pieces than this, peers are closed and get a bitfield when they reconnect, instead of HAVEs.
const HAVES_SENT_MAX: u32 = 4_096;

/// What a torrent is, once its metadata is known.
#[derive(Clone, Debug)]
pub struct Content {
    /// The raw info dictionary.
    pub metadata: Bytes,
    /// How its bytes divide into pieces.
    pub geometry: Geometry,
    /// The pieces that are verified and written.
    pub have: Bitfield,
    /// Which of its bytes are padding.
    pub padding: Padding,
    /// Its hash trees, in version 2; the nodes of the pieces are known.
    pub hashes: Option<Arc<HashTrees>>,
    /// Only its trackers and the user name peers (BEP 27).
    pub private: bool,
}

impl Torrent {
    /// Whether the metadata is known. Before, the torrent has no pieces.
    pub fn has_metadata(&self) -> bool {
        self.search.is_none()
    }

    /// The size that most hosts claim for metadata over [`METADATA_LEN_MAX`], in bytes, and how many they are. `None` while anybody
    /// offers less.
    ///
    /// They may lie: tell the user, but do not give up. An honest peer may come yet.
    pub fn metadata_too_long(&self) -> Option<(u32, usize)> {
        self.search.as_ref()?.too_long()
    }

    /// Whether a connected peer offers metadata within [`METADATA_LEN_MAX`].
    pub fn is_metadata_offered(&self) -> bool {
        self.search.as_ref().is_some_and(|search| search.is_offered())
    }

    /// Bytes of metadata held and not verified.
    pub fn metadata_held(&self) -> u64 {
        self.search.as_ref().map_or(0, |search| search.held_bytes())
    }

    /// The extension messages that we take.
    pub(super) fn extensions(&self) -> impl Iterator<Item = Extension> + use<> {
        let metadata =
            (self.config.metadata.is_some() || self.search.is_some()).then_some(Extension::Metadata);
        [Extension::DontHave, Extension::UploadOnly]
            .into_iter()
            .chain(metadata)
            .chain(self.exchange_extension())
            .chain(self.holepunch_extension())
            .chain(self.is_waiting_for_web().then_some(Extension::WebFetching))
    }

    /// Bytes in the metadata that we serve.
    pub(super) fn metadata_size(&self) -> Option<u32> {
        self.config.metadata.as_ref().and_then(|bytes| u32::try_from(bytes.len()).ok())
    }

    /// A message of the metadata exchange.
    pub(super) fn on_metadata(&mut self, now: Time, key: PeerKey, payload: &[u8]) {
        match MetadataMessage::decode(payload) {
            Ok(Some(MetadataMessage::Request(piece))) => self.on_metadata_request(now, key, piece),
            Ok(Some(message)) if self.search.is_some() => self.on_metadata_answer(now, key, message),
            Err(_) if self.search.is_some() => self.close(now, key, CloseReason::BadMetadata),
            _ => drop(self.charge(now, key, Cost::Refused)),
        }
    }

    fn on_metadata_request(&mut self, now: Time, key: PeerKey, piece: u32) {
        let total_size = self.metadata_size().unwrap_or(0);
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(id) = peer.extensions.metadata_id else {
            self.charge(now, key, Cost::Refused);
            return;
        };
        let may_have = peer.upload.metadata_pieces < metadata_pieces(total_size) * COPIES_MAX
            && peer.upload.metadata_queue.len() < METADATA_ASKED_MAX;
        if may_have && metadata_range(total_size, piece).is_some() {
            peer.upload.metadata_pieces += 1;
            peer.upload.metadata_queue.push_back(piece);
            return self.actions.push_back(Action::Upload(key));
        }
        if self.charge(now, key, Cost::Refused) {
            self.send(now, key, Message::Extended { id, payload: MetadataMessage::Reject(piece).encode() });
        }
    }

    fn on_metadata_answer(&mut self, now: Time, key: PeerKey, message: MetadataMessage<'_>) {
        let Some(search) = &mut self.search else { return };
        let (was_asked, verdict) = match message {
            MetadataMessage::Data { piece, total_size, bytes } => {
                search.on_data(now, key, (piece, total_size, bytes))
            }
            MetadataMessage::Reject(piece) => (true, search.on_reject(now, key, piece)),
            MetadataMessage::Request(_) => return,
        };
        if !was_asked {
            self.charge(now, key, Cost::Refused);
        }
        self.carry_out(now, verdict);
    }

    /// The next piece of metadata for this peer, as a message to send now, if it waits for one.
    pub fn next_metadata(&mut self, now: Time, key: PeerKey) -> Option<Message> {
        let (bytes, total_size) = (self.config.metadata.as_ref()?, self.metadata_size()?);
        let peer = self.peers.get_mut(key)?;
        let piece = peer.upload.metadata_queue.pop_front()?;
        let (id, range) = (peer.extensions.metadata_id?, metadata_range(total_size, piece)?);
        peer.times.sent_at = now;
        let data = MetadataMessage::Data { piece, total_size, bytes: &bytes[range] };
        Some(Message::Extended { id, payload: data.encode() })
    }

    /// A peer has connected during the search.
    pub(super) fn search_joined(&mut self, now: Time, key: PeerKey) {
        if let (Some(search), Some(peer)) = (&mut self.search, self.peers.get(key)) {
            search.joined(now, key, Host::of(peer.info.addr));
        }
    }

    /// A peer's extension handshake: the metadata that it offers.
    pub(super) fn search_offer(&mut self, now: Time, key: PeerKey, size: Option<u32>) {
        let has_id = self.peers.get(key).is_some_and(|peer| peer.extensions.metadata_id.is_some());
        let Some(search) = &mut self.search else { return };
        let verdict = search.on_offer(now, key, size.filter(|_| has_id));
        self.carry_out(now, verdict);
    }

    /// A message about pieces came before the metadata.
    pub(super) fn claim(&mut self, now: Time, key: PeerKey, message: &Message) {
        if self.search.as_mut().is_some_and(|search| !search.claims.note(key, message)) {
            self.charge(now, key, Cost::Nothing);
        }
    }

    /// How useful a peer is during the search.
    pub(super) fn search_standing(&self, now: Time, key: PeerKey) -> Option<Standing> {
        Some(self.search.as_ref()?.standing(now, key))
    }

    /// Time has passed.
    pub(super) fn tick_search(&mut self, now: Time) {
        let Some(search) = &mut self.search else { return };
        let verdicts = search.tick(now);
        verdicts.into_iter().for_each(|verdict| self.carry_out(now, Some(verdict)));
        self.ask_for_metadata(now);
    }

    /// Sends the requests that may go out now.
    pub(super) fn ask_for_metadata(&mut self, now: Time) {
        let Some(search) = &mut self.search else { return };
        self.work.set(self.work.get() + self.peers.len() as u64);
        let (requests, verdict) = search.requests(now);
        for (key, payload) in requests {
            if let Some(id) = self.peers.get(key).and_then(|peer| peer.extensions.metadata_id) {
                self.send(now, key, Message::Extended { id, payload });
            }
        }
        self.carry_out(now, verdict);
    }

    fn carry_out(&mut self, now: Time, verdict: Option<Verdict>) {
        match verdict {
            None => {}
            Some(Verdict::Close(key, reason)) => self.close(now, key, reason),
            Some(Verdict::Ban(key)) => {
                if let Some(addr) = self.addr_of(key) {
                    self.ban(now, addr, key, CloseReason::WrongMetadata);
                }
            }
            Some(Verdict::Found(bytes)) => self.events.push_back(Event::MetadataReceived(bytes)),
        }
    }

    /// The torrent is private: no peer exchange, and only those stay whom a tracker or the user named (BEP 27).
    pub fn handle_private(&mut self, now: Time) {
        self.config.exchange = false;
        self.config.holepunch = false;
        self.punches = Punches::default();
        self.close_unnamed(now);
    }

    /// The metadata is known: from now on the torrent has pieces. Kept messages about them are handled, and peers are told what we
    /// have. In a private torrent only peers that a tracker or the user named stay (BEP 27).
    ///
    /// # Panics
    /// If it was known before.
    pub fn handle_metadata(&mut self, now: Time, content: Content) {
        let mut search = self.search.take().expect("a torrent without metadata");
        // A private torrent's metadata is for those who got it from its tracker's site (BEP 27).
        self.config.metadata = (!content.private).then_some(content.metadata);
        self.config.padding = content.padding;
        self.config.hashes = content.hashes;
        self.set_content(content.geometry, content.have);
        for peer in self.peers.values_mut() {
            peer.pieces.have = Bitfield::empty(self.geometry.pieces());
            peer.pieces.counted = self.picker.peer_joined(peer.have());
        }
        if content.private {
            self.handle_private(now);
        }
        let keys: Vec<PeerKey> = self.peers.keys().collect();
        for key in keys {
            self.send_initial_again(now, key);
            let claim = search.claims.take(key);
            if claim.is_cut {
                self.close(now, key, CloseReason::PieceLost);
            }
            claim.pieces.iter().chain(&claim.more).for_each(|message| self.handle_claim(now, key, message));
        }
        self.refill_all = true;
        self.uploads.fill_later();
        self.input_at = Some(now);
        self.wake(now);
    }

    fn handle_claim(&mut self, now: Time, key: PeerKey, message: &Message) {
        match message {
            Message::Have(piece) => self.on_have(now, key, *piece),
            Message::AllowedFast(piece) => self.on_allowed_fast(now, key, *piece),
            _ => self.on_pieces(now, key, message),
        }
    }

    /// Tells a connected peer what we have.
    fn send_initial_again(&mut self, now: Time, key: PeerKey) {
        let have = self.picker.have();
        if have.count() > HAVES_SENT_MAX {
            return self.close(now, key, CloseReason::PieceLost);
        }
        let pieces: Vec<_> = have.iter().collect();
        self.send_extension_handshake(now, key);
        pieces.into_iter().for_each(|piece| self.send(now, key, Message::Have(piece)));
        self.send_allowed_fast(now, key);
    }
}

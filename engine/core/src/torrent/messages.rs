//! Dispatch of messages, what each may cost, and what it may make us keep.
//!
//! A message is taken note of when it comes. What follows from it (whom to ask, whom to serve) is worked out when the shell
//! asks for actions ([`Torrent::poll_action`]), once for all that one read has brought. So a thousand changes of mind
//! cost a thousand small steps, and one look at the swarm.
//!
//! | message | costs in steps | keeps | how often |
//! |---|---|---|---|
//! | KEEP-ALIVE, SUGGEST, PORT, unknown extensions, anything said before | 1 | nothing; of ports [`PORTS_MAX`] are looked at | [`Cost::Nothing`] each |
//! | BITFIELD, HAVE_ALL, HAVE_NONE | a word for 64 pieces, and those that it has or those that it lacks | a bit for each piece | once; later ones are read as the HAVEs that they add, at twice [`Cost::SwarmWide`] |
//! | HAVE | 1; a refill if nobody was asked for it and the peer is idle ([`Cost::SwarmWide`]) | its bit | once for each piece |
//! | CHOKE, UNCHOKE | the requests that it takes back; then one refill | nothing | [`Cost::Change`] each, [`Cost::SwarmWide`] for a refill |
//! | INTERESTED, NOT INTERESTED | 1; then one look at the peers | nothing | likewise; what we have lately pays for it ([`PER_PIECE`](crate::peer::budget::PER_PIECE)) |
//! | REQUEST | 1 | [`Config::requests_max`](super::Config::requests_max) blocks; what does not fit, or may not be had, is refused | [`Cost::Refused`] for a refusal, [`Cost::Nothing`] within [`CHOKE_GRACE`](super::requests::CHOKE_GRACE) of our CHOKE; [`BAD_REQUESTS_MAX`](super::requests::BAD_REQUESTS_MAX) for what does not exist |
//! | CANCEL | the requests that wait | nothing | [`Cost::Change`] each; ignored while over budget |
//! | REJECT | the requests that are outstanding or were taken back; then one refill of all | [`REFUSALS_MAX`](super::download::REFUSALS_MAX) blocks | once for each request, else [`Cost::Refused`] |
//! | ALLOWED_FAST | those before it; then one refill | [`ALLOWED_FAST_MAX`](super::download::ALLOWED_FAST_MAX) pieces | once for each piece |
//! | block ([`Torrent::handle_block`]) | the requests that are outstanding or were taken back | its bytes, if they were asked for | [`UNREQUESTED_BLOCKS_MAX`](super::download::UNREQUESTED_BLOCKS_MAX) that were not |
//! | extension handshake | its length | a name of [`CLIENT_LEN_MAX`](crate::wire::extension::CLIENT_LEN_MAX) characters, a port, numbers | [`Cost::Refused`] each |
//! | `lt_donthave` | 1; without BEP 6, the requests outstanding if some are for that piece | nothing | [`Cost::Nothing`] for as many as there are pieces, then [`Cost::Change`] each |
//! | `upload_only` | 1 | a flag | [`Cost::Change`] each |
//! | `ut_metadata` | its length; a piece when the shell takes it ([`Torrent::next_metadata`]) | [`METADATA_ASKED_MAX`](super::metadata::METADATA_ASKED_MAX) numbers | three copies in all, then [`Cost::Refused`] |
//! | `ut_holepunch` | 1; one look at the peers while the budget lasts | nothing as a relay; else [`PUNCHES_OF_RELAY_MAX`](super::holepunch::PUNCHES_OF_RELAY_MAX) addresses that are being dialled | [`WISHES_BURST`](crate::peer::holepunch::WISHES_BURST), then one a second; [`Cost::Refused`] for a rendezvous, else [`Cost::Change`] |
//! | HASH REQUEST for hashes of pieces | 1, and when the shell takes the answer ([`Torrent::next_hashes`]) at most 1,024 hashes | [`HASHES_ASKED_MAX`](super::hashes::HASHES_ASKED_MAX) ranges | three copies of all, then [`Cost::SwarmWide`] each, or a refusal for [`Cost::Refused`] |
//! | HASH REQUEST for leaves | 1; the shell hashes pieces again, within [`LEAF_BYTES_OF_HOST_PER_S`](super::hashes::LEAF_BYTES_OF_HOST_PER_S) and [`LEAF_BYTES_PER_S`](super::hashes::LEAF_BYTES_PER_S) | [`LEAVES_ASKED_MAX`](super::hashes::LEAVES_ASKED_MAX) ranges, [`LEAVES_OWED_MAX`](super::hashes::LEAVES_OWED_MAX) if each follows a request for a block | [`Cost::Change`] each, [`Cost::Refused`] for a refusal |
//! | HASHES | its hashes, and as many more as prove them | what was asked for | once for each request, else [`Cost::SwarmWide`] |
//! | HASH REJECT | 1; one look at the peers if it was asked | nothing | once for each request, else [`Cost::Refused`] |
//! | `web_fetching` | 1 | a range, for [`COMING_FOR`](super::webseeds::COMING_FOR) | [`Cost::Change`] each |
//! | `ut_pex` | its length | addresses, within the limits of [`discovery`](super::discovery) | once in [`EXCHANGE_INTERVAL_MIN`](super::exchange::EXCHANGE_INTERVAL_MIN), else [`Cost::Nothing`] |
//!
//! A refill looks at each piece that is missing a bounded number of times, whatever comes of it. What the words in the last column cost, and
//! who pays for it with what, is in [`crate::peer::budget`]. The other inputs come from the shell, which is trusted:
//! connections (one peer, [`Config::peers_max`](super::Config::peers_max) of them), addresses (see [`discovery`](super::discovery)), time
//! (everybody once a second) and results of the disk.

use super::{CloseReason, Torrent};
use crate::bitfield::Bitfield;
use crate::id::{PeerKey, PieceIndex};
use crate::peer::Due;
use crate::peer::budget::{Cost, Credit};
use crate::time::Time;
use crate::wire::Message;

/// How many PORT messages of one peer are looked at: one for each family, and one for a node that has moved.
pub const PORTS_MAX: u8 = 3;

impl Torrent {
    /// A message has come from a peer. Messages from peers that are not connected (any more) are ignored.
    pub fn handle_message(&mut self, now: Time, key: PeerKey, message: &Message) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.times.heard_at = now;
        peer.account.ports = peer.account.ports.saturating_add(u8::from(matches!(message, Message::Port(_))));
        self.input_at = Some(now);
        self.count(1);
        match message {
            Message::Choke => self.on_choke(now, key),
            Message::Unchoke => self.on_unchoke(now, key),
            Message::Interested => self.on_interest(now, key, true),
            Message::NotInterested => self.on_interest(now, key, false),
            Message::Have(_)
            | Message::AllowedFast(_)
            | Message::Bitfield(_)
            | Message::HaveAll
            | Message::HaveNone
                if self.search.is_some() =>
            {
                self.claim(now, key, message)
            }
            Message::Have(piece) => self.on_have(now, key, *piece),
            Message::Bitfield(_) | Message::HaveAll | Message::HaveNone => self.on_pieces(now, key, message),
            Message::Request(block) => self.on_request(now, key, *block),
            Message::Cancel(block) => self.on_cancel(now, key, *block),
            Message::Reject(block) => self.on_reject(now, key, *block),
            Message::AllowedFast(piece) => self.on_allowed_fast(now, key, *piece),
            Message::Extended { id, payload } => self.on_extended(now, key, *id, payload),
            Message::HashRequest(range) => self.on_hash_request(now, key, range),
            Message::Hashes(answer) => self.on_hashes(now, key, answer),
            Message::HashReject(range) => self.on_hash_reject(now, key, range),
            Message::KeepAlive | Message::Suggest(_) | Message::Port(_) => {
                self.charge(now, key, Cost::Nothing);
            }
        }
    }

    /// The peer says which pieces it has, all at once: before anything else that says so (BEP 3, 6). Other messages may come before:
    /// Transmission and others begin with an extension handshake and a PORT. aria2 says it again where that is shorter than
    /// the HAVEs: what is new in it counts.
    pub(super) fn on_pieces(&mut self, now: Time, key: PeerKey, message: &Message) {
        let pieces = self.geometry.pieces();
        let have = match message {
            Message::Bitfield(bytes) => match Bitfield::from_wire(bytes, pieces) {
                Some(have) => have,
                None => return self.close(now, key, CloseReason::BitfieldLength { len: bytes.len() }),
            },
            Message::HaveAll => Bitfield::full(pieces),
            _ => Bitfield::empty(pieces),
        };
        if self.peers.get(key).is_some_and(|peer| !peer.pieces.is_known) {
            return self.on_bitfield(now, key, have);
        }
        // Once for reading it, once for what may follow.
        self.charge(now, key, Cost::SwarmWide);
        self.charge(now, key, Cost::SwarmWide);
        self.count(have.words().len());
        let Some(peer) = self.peers.get(key) else { return };
        let more: Vec<PieceIndex> = have.iter_without(peer.have()).collect();
        more.into_iter().for_each(|piece| self.on_have(now, key, piece));
    }

    /// Charges a peer for what it says. Whether it could pay; who is far over its budget is closed.
    pub(super) fn charge(&mut self, now: Time, key: PeerKey, cost: Cost) -> bool {
        let Some(peer) = self.peers.get_mut(key) else { return false };
        match peer.account.budget.charge(now, cost) {
            Credit::Good => true,
            Credit::Spent => false,
            Credit::Overdrawn => {
                self.close(now, key, CloseReason::Flood);
                false
            }
        }
    }

    /// Charges a peer for what can wait, if it can pay.
    pub(super) fn affords(&mut self, now: Time, key: PeerKey, cost: Cost) -> bool {
        self.peers.get_mut(key).is_some_and(|peer| peer.account.budget.afford(now, cost))
    }

    /// Has the consequences of a peer's message worked out before the next action, if the peer can pay for it; else at the next tick.
    pub(super) fn follow(&mut self, now: Time, key: PeerKey) -> bool {
        if self.peers.get(key).is_some_and(|peer| peer.account.due == Due::Now) {
            return true;
        }
        let due = if self.affords(now, key, Cost::SwarmWide) { Due::Now } else { Due::AtTick };
        self.set_due(key, due);
        due == Due::Now
    }

    pub(super) fn set_due(&mut self, key: PeerKey, due: Due) {
        let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.account.due < due) else { return };
        peer.account.due = due;
        if due == Due::Now {
            self.due.push(key);
        }
    }

    /// Blocks that this peer was asked for are unrequested again: others are asked at once if it can pay for that, at the next tick in any
    /// case.
    pub(super) fn offer_to_all(&mut self, now: Time, key: PeerKey) {
        self.refill_all = self.refill_all || self.affords(now, key, Cost::SwarmWide);
        self.refill_at_tick |= !self.refill_all;
    }

    /// Works out the consequences of the last inputs.
    pub(super) fn after_input(&mut self) {
        let Some(now) = self.input_at.take() else { return };
        let mut due = std::mem::take(&mut self.due);
        due.drain(..).for_each(|key| self.after_messages(now, key));
        self.due = due;
        self.uploads_after_input(now);
        if std::mem::take(&mut self.refill_all) {
            self.refill_everyone(now);
            self.web.plan = true;
        }
        self.plan_web_seeds(now);
        self.ask_for_metadata(now);
        self.ask_for_layers(now);
        self.ask_for_repairs(now);
    }

    /// The consequences of all that has come from a peer.
    fn after_messages(&mut self, now: Time, key: PeerKey) {
        self.count(1);
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.account.due = Due::Nothing;
        if !peer.flags.peer_interested {
            self.choke(now, key);
        }
        self.update_interest(now, key);
        self.close_if_useless(now, key);
        self.refill(now, key);
    }

    /// A tick: what peers could not pay for has waited long enough.
    pub(super) fn tick_due(&mut self, now: Time) {
        let late: Vec<PeerKey> =
            self.peers.values().filter(|peer| peer.account.due == Due::AtTick).map(|peer| peer.key).collect();
        if !late.is_empty() {
            self.uploads.fill_later();
        }
        late.into_iter().for_each(|key| self.after_messages(now, key));
    }

    /// How many peers, requests, pieces and words of pieces were looked at so far: what inputs have cost.
    pub fn work(&self) -> u64 {
        self.work.get() + self.picker.work()
    }

    pub(super) fn count(&self, steps: usize) {
        self.work.set(self.work.get() + steps as u64);
    }
}

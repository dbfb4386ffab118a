//! Whom to send to: slots, super-seeding, sockets that take no more.
//!
//! The state of each peer that only this choice needs is here too. Other modules report what happens (a peer joins, leaves, asks, was
//! sent a block) and call `Torrent::choke`, `Torrent::leaves_slot_unused` and `Uploads::fill_later`.

mod resends;
mod slot;
mod slots;
mod super_seed;

use super::Torrent;
use super::peers::ByPeer;
use crate::bitfield::Bitfield;
use crate::choker::{Choker, ChokerConfig, Policy, RECHOKE_INTERVAL};
use crate::id::{BlockRef, PeerKey};
use crate::net::Host;
use crate::peer::Peer;
use crate::rng::Rng;
use crate::time::{Duration, Time};
use crate::wire::Message;
pub use resends::{REHASH_INTERVAL, REHASH_REST, SENT_WHOLE_MAX};
use resends::{SentPartly, SentWhole};
use slot::Slot;
use super_seed::SuperSeed;

/// When nothing was sent for so long, more peers are unchoked beside those that could be sent to.
pub const IDLE_UPLINK: Duration = Duration::from_millis(250);

/// The choice of whom to send to.
#[derive(Debug)]
pub(super) struct Uploads {
    choker: Choker,
    /// While this seed hides what it has.
    super_seed: Option<Box<SuperSeed>>,
    sent_whole: SentWhole,
    peers: ByPeer<State>,
    /// When to rechoke; `None`: at the next tick.
    rechoke_at: Option<Time>,
    /// When to look at slots again before the next tick.
    slots_at: Option<Time>,
    /// Somebody waits for a slot.
    is_wanted: bool,
    /// Slots are to be filled once the last inputs are worked out.
    is_due: bool,
}

/// One peer's state.
#[derive(Debug)]
struct State {
    slot: Slot,
    /// The pieces revealed to it, while we super-seed.
    revealed: Option<Bitfield>,
    sent_partly: SentPartly,
}

impl Uploads {
    pub(super) fn new(rng: Rng) -> Uploads {
        Uploads {
            choker: Choker::new(policy(false), ChokerConfig::default(), rng),
            super_seed: None,
            sent_whole: SentWhole::default(),
            peers: ByPeer::default(),
            rechoke_at: None,
            slots_at: None,
            is_wanted: false,
            is_due: false,
        }
    }

    /// The pieces are known. With `super_seeding` none of them is offered before it is [revealed](Torrent::reveal).
    pub(super) fn set_content(&mut self, pieces: u32, is_complete: bool, super_seeding: bool) {
        self.choker.set_policy(policy(is_complete));
        let hides = super_seeding && is_complete && (1..=super_seed::PIECES_MAX).contains(&pieces);
        self.super_seed = hides.then(|| Box::new(SuperSeed::new()));
    }

    pub(super) fn left(&mut self, key: PeerKey) {
        self.peers.remove(key);
        self.fill_later();
    }

    /// Somebody has come or ceased to wait for a slot: they are filled once the last inputs are worked out.
    pub(super) fn fill_later(&mut self) {
        self.is_due = true;
    }

    /// When to call [`Torrent::handle_uploads_timeout`], if a slot may change hands before the next tick.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.slots_at
    }

    /// A request of a peer was queued.
    pub(super) fn on_request(&mut self, now: Time, peer: &Peer) {
        // What it may ask for although it is choked (BEP 6) does not use its slot.
        if !peer.flags.am_choking {
            self.peers[peer.key].slot.on_request(now, peer.upload.choke_changed_at);
        }
        if let Some(super_seed) = &mut self.super_seed {
            super_seed.note_busy(now);
        }
    }

    /// A block of a piece of `piece_len` bytes is sent. True if it is time to hash the piece again, since peers ask for it again.
    pub(super) fn on_block_sent(&mut self, now: Time, peer: &Peer, block: BlockRef, piece_len: u32) -> bool {
        let state = &mut self.peers[peer.key];
        state.slot.on_sent(now);
        let is_whole = state.sent_partly.add(block, piece_len);
        is_whole && self.sent_whole.note(now, block.piece, Host::of(peer.info.addr))
    }

    /// These pieces are in doubt: what was sent of them does not count.
    pub(super) fn forget_sent(&mut self, pieces: &Bitfield) {
        self.peers.values_mut().for_each(|state| state.sent_partly.forget(pieces));
    }
}

fn policy(is_complete: bool) -> Policy {
    if is_complete { Policy::Seeding } else { Policy::TitForTat }
}

impl Torrent {
    /// A peer has come: a super-seed reveals a piece to it, others say what it may ask for while it is choked (BEP 6).
    pub(super) fn uploads_joined(&mut self, now: Time, key: PeerKey) {
        let state = State { slot: Slot::new(now), revealed: None, sent_partly: SentPartly::default() };
        self.uploads.peers.insert(key, state);
        self.reveal(now, key);
        if !self.is_super_seeding() {
            self.send_allowed_fast(now, key);
        }
    }

    pub(super) fn handle_uploads_timeout(&mut self, now: Time) {
        if self.uploads.slots_at.is_some_and(|at| at <= now) {
            self.fill_slots(now);
        }
    }

    pub(super) fn uploads_after_input(&mut self, now: Time) {
        if std::mem::take(&mut self.uploads.is_due) {
            self.fill_slots(now);
        }
    }

    pub(super) fn tick_uploads(&mut self, now: Time) {
        self.tick_super_seed(now);
        if self.peers.is_empty() {
            return;
        }
        if self.uploads.rechoke_at.is_none_or(|at| at <= now) {
            self.uploads.rechoke_at = Some(now + RECHOKE_INTERVAL);
            self.rechoke(now);
        }
        self.fill_slots(now);
    }

    /// Nothing waits to be sent to some peer any more.
    pub(super) fn on_queue_empty(&mut self, now: Time) {
        self.look_at_slots(now);
        self.note_idle(now);
    }

    /// A peer takes no more of what it is sent until it has read some of it.
    pub fn handle_upload_blocked(&mut self, now: Time, key: PeerKey) {
        if let Some(state) = self.uploads.peers.get_mut(key)
            && !std::mem::replace(&mut state.slot.blocked, true)
        {
            self.look_at_slots(now);
        }
    }

    pub(super) fn choke(&mut self, now: Time, key: PeerKey) {
        self.set_choking(now, key, true);
    }

    fn set_choking(&mut self, now: Time, key: PeerKey, choke: bool) {
        let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.flags.am_choking != choke) else {
            return;
        };
        (peer.flags.am_choking, peer.upload.choke_changed_at) = (choke, now);
        self.uploads.peers[key].slot.on_choke_changed(now, choke);
        if choke {
            self.send(now, key, Message::Choke);
            self.reject_choked(now, key);
        } else {
            self.reveal(now, key);
            self.send(now, key, Message::Unchoke);
        }
    }

    /// Whether a peer left its last slot unused, or leaves the one that it has.
    pub(super) fn leaves_slot_unused(&self, now: Time, peer: &Peer) -> bool {
        self.state(peer)
            .is_some_and(|state| state.slot.unused > 0 || self.wastes_slot(now, peer, &state.slot))
    }

    fn state(&self, peer: &Peer) -> Option<&State> {
        self.uploads.peers.get(peer.key)
    }

    /// Every peer, with its state.
    fn with_state(&self) -> impl Iterator<Item = (&Peer, &State)> {
        self.with_state_if(|_| true)
    }

    /// The peers for which this is true, with their state. Both have the same keys.
    fn with_state_if(&self, is_in: impl Fn(&Peer) -> bool) -> impl Iterator<Item = (&Peer, &State)> {
        let peers = self.peers.values().enumerate().filter(move |(_, peer)| is_in(peer));
        peers.map(|(index, peer)| (peer, self.uploads.peers.nth(index)))
    }
}

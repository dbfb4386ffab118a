//! One connection's state: what each side has, wants and allows.
//!
//! Data and small rules only; what a message *means* is decided in
//! [`crate::torrent`], the one place that changes several parts at once.

pub mod budget;
pub mod exchange;
pub mod pipeline;
pub mod slot;

use crate::bitfield::Bitfield;
use crate::id::{BlockRef, PeerId, PeerKey, PieceIndex};
use crate::picker::Counted;
use crate::rate::RateMeter;
use crate::time::Time;
use budget::Budget;
use exchange::Exchange;
use pipeline::Pipeline;
use slot::Slot;
use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

/// What a connection is known by once its handshake is done.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// The address of the connection's far end.
    pub addr: SocketAddr,
    /// Whether the peer dialled us.
    pub inbound: bool,
    /// What it calls itself.
    pub peer_id: PeerId,
    /// Whether both sides speak the fast extension (BEP 6).
    pub fast: bool,
    /// Whether both sides speak the extension protocol (BEP 10).
    pub extended: bool,
}

/// When what follows from a peer's messages is worked out: whether we want something of it, may ask it, or serve it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// It has been.
    Nothing,
    /// At the next tick: it has said too much.
    AtTick,
    /// Before the next action is handed out.
    Now,
}

impl PeerInfo {
    /// Whether this is another connection of the same peer. A peer id alone is no proof: everybody hears those of others.
    pub fn is_same_peer(&self, other: &PeerInfo) -> bool {
        self.peer_id == other.peer_id && self.addr.ip().to_canonical() == other.addr.ip().to_canonical()
    }
}

/// A connected peer.
///
/// What every HAVE looks at, and every choice of whom to serve, comes first: it fits into one line of a cache.
#[derive(Debug)]
#[repr(C)]
pub struct Peer {
    /// The pieces it has.
    pub have: Bitfield,
    /// When its last message or block arrived.
    pub heard_at: Time,
    /// Our handle of it.
    pub key: PeerKey,
    /// How many of its pieces we want and lack.
    pub useful_pieces: u32,
    /// We answer none of its requests.
    pub am_choking: bool,
    /// We have told it that it has something that we want.
    pub am_interested: bool,
    /// It answers none of our requests.
    pub peer_choking: bool,
    /// It wants something that we have.
    pub peer_interested: bool,
    /// Whether it has said which pieces it has (a bitfield may only be the first message).
    pub have_known: bool,
    /// A piece of which it sent a block has been verified.
    pub proven: bool,
    /// It has let requests lie for too long.
    pub snubbed: bool,
    /// How often others had to be asked for what it let lie since its last block; halved now and then.
    pub lapses: u32,
    /// When what follows from its messages is worked out.
    pub due: Due,
    /// How the picker counts what it has.
    pub counted: Counted,
    /// How many times it has said that it has a piece no more.
    pub losses: u32,
    /// How many DHT ports it has told.
    pub ports_told: u8,
    /// It takes no data from anyone (BEP 21).
    pub upload_only: bool,
    /// When we last sent it anything.
    pub sent_at: Time,
    /// What its handshake said.
    pub info: PeerInfo,
    /// What it calls its software, if it said so in its extension handshake.
    pub client: Option<String>,
    /// Its address of the other family, as it says itself.
    pub other_ip: Option<IpAddr>,
    /// Where it listens, if known: the dialled address, or its own word on an inbound connection.
    pub listen_addr: Option<SocketAddr>,
    /// Its number for the extension message that says the same of us, if it has one.
    pub upload_only_id: Option<u8>,
    /// Its number for messages of what we have no longer, if it takes them (BEP 54).
    pub dont_have_id: Option<u8>,
    /// Its number for messages of the metadata exchange, if it takes part.
    pub metadata_id: Option<u8>,
    /// How many pieces of the metadata we have sent it, or shall.
    pub metadata_sent: u32,
    /// The pieces of the metadata that it waits for, oldest first.
    pub metadata_asked: VecDeque<u32>,
    /// What it and we have told each other of other peers.
    pub exchange: Exchange,
    /// Our requests to it.
    pub pipeline: Pipeline,
    /// Its requests to us that wait to be sent, oldest first.
    pub uploads: VecDeque<BlockRef>,
    /// Pieces of which we have sent it a part, and how many bytes of each; the oldest first.
    pub sent_partly: VecDeque<(PieceIndex, u32)>,
    /// Pieces that it answers requests for even while it chokes us (BEP 6).
    pub allowed_fast_in: Vec<PieceIndex>,
    /// Blocks that it refused once although it did not choke us.
    pub refused: BTreeSet<BlockRef>,
    /// Pieces that we answer requests for even while we choke it (BEP 6).
    pub allowed_fast_out: Vec<PieceIndex>,
    /// What its messages may still cost.
    pub budget: Budget,
    /// Payload that it sends us.
    pub rate_down: RateMeter,
    /// Payload that we send it.
    pub rate_up: RateMeter,
    /// Payload bytes received from it.
    pub bytes_down: u64,
    /// Payload bytes sent to it.
    pub bytes_up: u64,
    /// When the connection was made.
    pub connected_at: Time,
    /// When `am_choking` last changed; when it connected, if never.
    pub choke_changed_at: Time,
    /// What it makes of being unchoked.
    pub slot: Slot,
    /// Requests that it had no right to make.
    pub bad_requests: u32,
    /// Blocks that we never asked it for.
    pub unrequested_blocks: u32,
    /// The pieces that we have told it of, while we super-seed.
    pub revealed: Option<Bitfield>,
    /// When interest on either side was last seen; idle connections make room for others.
    pub useful_at: Time,
}

impl Peer {
    /// A peer that has just connected: all four flags in their first state (BEP 3), no piece known.
    pub fn new(key: PeerKey, info: PeerInfo, pieces: u32, now: Time) -> Peer {
        Peer {
            key,
            listen_addr: (!info.inbound).then_some(info.addr),
            info,
            client: None,
            other_ip: None,
            have: Bitfield::empty(pieces),
            have_known: false,
            useful_pieces: 0,
            am_choking: true,
            am_interested: false,
            peer_choking: true,
            peer_interested: false,
            upload_only: false,
            upload_only_id: None,
            dont_have_id: None,
            sent_partly: VecDeque::new(),
            metadata_id: None,
            metadata_sent: 0,
            metadata_asked: VecDeque::new(),
            exchange: Exchange::new(now),
            pipeline: Pipeline::default(),
            uploads: VecDeque::new(),
            allowed_fast_in: Vec::new(),
            refused: BTreeSet::new(),
            allowed_fast_out: Vec::new(),
            proven: false,
            snubbed: false,
            lapses: 0,
            due: Due::Nothing,
            counted: Counted::ByPieces,
            losses: 0,
            ports_told: 0,
            budget: Budget::new(now),
            rate_down: RateMeter::default(),
            rate_up: RateMeter::default(),
            bytes_down: 0,
            bytes_up: 0,
            connected_at: now,
            heard_at: now,
            sent_at: now,
            choke_changed_at: now,
            slot: Slot::default(),
            bad_requests: 0,
            unrequested_blocks: 0,
            revealed: None,
            useful_at: now,
        }
    }

    /// Whether it has said anything since its handshake.
    pub fn has_spoken(&self) -> bool {
        self.heard_at > self.connected_at
    }

    /// Whether requests may be sent to it now, other than for pieces it allows while choking.
    pub fn serves_us(&self) -> bool {
        !self.peer_choking && self.am_interested
    }

    /// How many more blocks to ask it for now: none until its queue has run down a little, so that
    /// requests go out in bunches.
    pub fn room(&self, now: Time) -> usize {
        if !self.serves_us() {
            return 0;
        }
        if self.snubbed {
            return usize::from(self.pipeline.is_empty());
        }
        let depth = self.pipeline.depth(self.rate_down.bytes_per_s(now));
        let room = depth.saturating_sub(self.pipeline.len());
        if room * 8 < depth && !self.pipeline.is_empty() { 0 } else { room }
    }
}

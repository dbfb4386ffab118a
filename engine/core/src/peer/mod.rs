//! One connection's state: what each side has, wants and allows.
//!
//! Data and small rules only. What a message *means* is decided in [`crate::torrent`], the one place that changes several parts
//! at once. Whom to send to is decided in `torrent::uploads`, which keeps its own state of each peer.

pub mod budget;
pub(crate) mod exchange;
pub(crate) mod held;
pub mod holepunch;
pub mod pipeline;

use crate::bitfield::Bitfield;
use crate::id::{BlockRef, PeerId, PeerKey, PieceIndex};
use crate::mse::Method;
use crate::picker::Counted;
use crate::rate::RateMeter;
use crate::time::{Duration, Time};
use budget::Budget;
use exchange::Exchange;
use held::Held;
use holepunch::HolepunchState;
use pipeline::{Outstanding, Pipeline};
use std::collections::{BTreeSet, VecDeque};
use std::mem::{offset_of, size_of};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// What the handshake says of a connection.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// The address of the connection's far end.
    pub addr: SocketAddr,
    /// Whether the peer dialled us.
    pub inbound: bool,
    /// The peer id in its handshake.
    pub peer_id: PeerId,
    /// Whether both sides speak the fast extension (BEP 6).
    pub fast: bool,
    /// Whether both sides speak the extension protocol (BEP 10).
    pub extended: bool,
    /// What the stream is since an encrypted handshake (MSE), if it began with one.
    pub encryption: Option<Method>,
    /// Whether the connection is over uTP.
    pub utp: bool,
    /// Whether it speaks version 2 of the protocol (BEP 52), as the bit in its handshake says, or its info-hash. In a torrent of version
    /// 2 alone everybody does.
    pub v2: bool,
}

impl PeerInfo {
    /// Whether this is another connection of the same peer. A peer id alone is no proof: everybody hears those of others.
    pub fn is_same_peer(&self, other: &PeerInfo) -> bool {
        self.peer_id == other.peer_id && self.addr.ip().to_canonical() == other.addr.ip().to_canonical()
    }
}

/// The four flags of BEP 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    /// We answer none of its requests.
    pub am_choking: bool,
    /// It has pieces that we want.
    pub am_interested: bool,
    /// It answers none of our requests.
    pub peer_choking: bool,
    /// It wants pieces that we have.
    pub peer_interested: bool,
}

/// The pieces that a peer has.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Pieces {
    pub(crate) have: Bitfield,
    /// How many of them we want and lack.
    pub(crate) interesting: u32,
    /// How often it has taken a piece back (BEP 54, or by refusing it).
    pub(crate) losses: u32,
    /// It has sent BITFIELD, HAVE_ALL or HAVE_NONE.
    pub(crate) is_known: bool,
    /// How the picker counts them.
    pub(crate) counted: Counted,
}

/// When things happened on a connection.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Times {
    /// The last message or block arrived.
    pub(crate) heard_at: Time,
    /// We last sent anything.
    pub(crate) sent_at: Time,
    /// Either side last showed interest. Idle connections are evicted first.
    pub(crate) useful_at: Time,
    pub(crate) connected_at: Time,
}

/// When the consequences of a peer's messages are worked out: whether we want something of it, may ask it, or serve it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// They have been.
    Nothing,
    /// At the next tick: it has spent its budget.
    AtTick,
    /// Before the next action.
    Now,
}

/// What a peer's messages cost, and what they still entail.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) budget: Budget,
    pub(crate) due: Due,
    /// How many PORT messages came.
    pub(crate) ports: u8,
}

/// What the extension handshake says (BEP 10).
#[derive(Debug, Default)]
pub struct Extensions {
    /// The name and version of its software.
    pub client: Option<String>,
    /// Where it listens: the dialled address, or the port it names on an inbound connection.
    pub listen_addr: Option<SocketAddr>,
    /// Its address of the other family.
    pub(crate) other_ip: Option<IpAddr>,
    /// It prefers encrypted connections (MSE).
    pub(crate) prefers_encryption: bool,
    /// It takes no data from anyone (BEP 21).
    pub(crate) upload_only: bool,
    pub(crate) upload_only_id: Option<u8>,
    pub(crate) dont_have_id: Option<u8>,
    pub(crate) metadata_id: Option<u8>,
}

/// Our requests to a peer, and what became of them.
#[derive(Debug)]
pub(crate) struct Download {
    pub(crate) pipeline: Pipeline,
    /// No piece with a block from it has verified yet.
    pub(crate) on_parole: bool,
    /// It has left requests unanswered for too long.
    pub(crate) snubbed: bool,
    /// Blocks that it left overdue and others were asked for, since its last block; halved now and then.
    pub(crate) timeouts: u32,
    /// Pieces that it answers requests for even while it chokes us (BEP 6).
    pub(crate) allowed_fast: Vec<PieceIndex>,
    /// Blocks that it rejected once although it did not choke us.
    pub(crate) rejected: BTreeSet<BlockRef>,
    pub(crate) unrequested_blocks: u32,
}

/// Its requests to us.
#[derive(Debug)]
pub(crate) struct Upload {
    /// The blocks that wait to be sent, oldest first.
    pub(crate) queue: VecDeque<BlockRef>,
    /// Requests of pieces in doubt, by a peer that cannot be told that they are rejected: they wait until it is known.
    pub(crate) held: Held,
    /// Pieces that we answer requests for even while we choke it (BEP 6).
    pub(crate) allowed_fast: Vec<PieceIndex>,
    /// Since when `am_choking` is what it is.
    pub(crate) choke_changed_at: Time,
    pub(crate) bad_requests: u32,
    /// The pieces of the metadata that wait to be sent, oldest first.
    pub(crate) metadata_queue: VecDeque<u32>,
    /// How many pieces of the metadata were sent or wait.
    pub(crate) metadata_pieces: u32,
}

impl Upload {
    /// How many of its requests wait.
    pub(crate) fn requests(&self) -> usize {
        self.queue.len() + self.held.len()
    }
}

/// What it says of its own fetches from web seeds.
#[derive(Debug, Default)]
pub(crate) struct WebFetching {
    /// Its number for these messages, if it takes them.
    pub(crate) id: Option<u8>,
    /// The pieces that are on their way to it, and until when that is believed.
    pub(crate) coming: Option<(Range<u32>, Time)>,
}

/// Payload that passed, in bytes.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Traffic {
    pub bytes_down: u64,
    pub bytes_up: u64,
    pub rate_down: RateMeter,
    pub rate_up: RateMeter,
}

/// A connected peer.
#[derive(Debug)]
#[repr(C)]
pub struct Peer {
    pub(crate) pieces: Pieces,
    /// Our handle of it.
    pub key: PeerKey,
    /// Who chokes whom, who is interested.
    pub flags: Flags,
    pub(crate) times: Times,
    pub(crate) account: Account,
    /// What its handshake said.
    pub info: PeerInfo,
    /// What its extension handshake said.
    pub extensions: Extensions,
    pub(crate) download: Download,
    pub(crate) upload: Upload,
    /// Payload that passed.
    pub traffic: Traffic,
    pub(crate) exchange: Exchange,
    pub(crate) holepunch: HolepunchState,
    pub(crate) web: WebFetching,
}

// Every HAVE touches these, at a peer that is in no cache yet: they share one line.
const _: () = assert!(offset_of!(Peer, flags) + size_of::<Flags>() <= 64);
const _: () = assert!(offset_of!(Peer, times.heard_at) + size_of::<Time>() <= 64);

impl Peer {
    /// A peer that has just connected: all four flags in their first state (BEP 3), no piece known.
    pub fn new(key: PeerKey, info: PeerInfo, pieces: u32, now: Time) -> Peer {
        let listen_addr = (!info.inbound).then_some(info.addr);
        Peer {
            pieces: Pieces {
                have: Bitfield::empty(pieces),
                interesting: 0,
                losses: 0,
                is_known: false,
                counted: Counted::ByPieces,
            },
            key,
            flags: Flags {
                am_choking: true,
                am_interested: false,
                peer_choking: true,
                peer_interested: false,
            },
            times: Times { heard_at: now, sent_at: now, useful_at: now, connected_at: now },
            account: Account { budget: Budget::new(now), due: Due::Nothing, ports: 0 },
            info,
            extensions: Extensions { listen_addr, ..Extensions::default() },
            download: Download {
                pipeline: Pipeline::default(),
                on_parole: true,
                snubbed: false,
                timeouts: 0,
                allowed_fast: Vec::new(),
                rejected: BTreeSet::new(),
                unrequested_blocks: 0,
            },
            upload: Upload {
                queue: VecDeque::new(),
                held: Held::default(),
                allowed_fast: Vec::new(),
                choke_changed_at: now,
                bad_requests: 0,
                metadata_queue: VecDeque::new(),
                metadata_pieces: 0,
            },
            traffic: Traffic::default(),
            exchange: Exchange::new(now),
            holepunch: HolepunchState::default(),
            web: WebFetching::default(),
        }
    }

    /// The pieces it has.
    #[inline]
    pub fn have(&self) -> &Bitfield {
        &self.pieces.have
    }

    /// Whether it has left requests unanswered for too long. It is asked for one block at a time until one comes.
    pub fn is_snubbed(&self) -> bool {
        self.download.snubbed
    }

    /// Our requests that wait for an answer, oldest first.
    pub fn requests(&self) -> impl Iterator<Item = &Outstanding> {
        self.download.pipeline.iter()
    }

    /// The blocks that wait to be sent to it, oldest first.
    pub fn upload_queue(&self) -> &VecDeque<BlockRef> {
        &self.upload.queue
    }

    /// Whether blocks or metadata wait to be sent to it.
    pub fn has_uploads(&self) -> bool {
        !self.upload.queue.is_empty() || !self.upload.metadata_queue.is_empty()
    }

    /// Whether the connection came about by holepunching (BEP 55).
    pub fn was_punched(&self) -> bool {
        self.holepunch.was_punched
    }

    /// How many PORT messages came from it.
    pub fn ports_received(&self) -> u8 {
        self.account.ports
    }

    /// Whether any message came since its handshake.
    pub(crate) fn has_spoken(&self) -> bool {
        self.times.heard_at > self.times.connected_at
    }

    /// Whether it has fallen silent, as [`Pipeline::is_silent`] has it.
    pub(crate) fn is_silent(&self, now: Time, held: Duration) -> bool {
        self.download.pipeline.is_silent(now, held)
    }

    /// How many more blocks to ask it for now, if somebody waits for what comes or nobody does: none until its queue has run down a little,
    /// so that requests go out in bunches.
    pub(crate) fn room(&self, now: Time, is_urgent: bool) -> usize {
        let pipeline = &self.download.pipeline;
        if self.flags.peer_choking || !self.flags.am_interested {
            return 0;
        }
        if self.download.snubbed {
            return usize::from(pipeline.is_empty());
        }
        let depth = pipeline.depth(self.traffic.rate_down.bytes_per_s(now), is_urgent);
        let room = depth.saturating_sub(pipeline.len());
        if room * 8 < depth && !pipeline.is_empty() { 0 } else { room }
    }
}

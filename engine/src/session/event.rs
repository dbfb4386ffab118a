//! What a torrent tells those who watch it.

use crate::Error;
use crate::storage::StorageError;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use swarm_core::id::{FileIndex, PeerId, PieceIndex};
use swarm_core::mse::{Encryption, Method as EncryptionMethod};
use swarm_core::net::Family;
use swarm_core::port_mapping::{Method as MappingMethod, Transport};
pub use swarm_core::torrent::holepunch::HolepunchFailure;
use swarm_core::torrent::{CloseReason, Totals};
use swarm_core::tracker::announcer::TrackerStatus;
pub use swarm_core::webseed::{Fault as WebSeedFault, Penalty as WebSeedPenalty};

/// Something that happened to a torrent. Events come in order; a receiver that is too slow loses the
/// oldest ones, and hears how many.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The metadata of a link is here.
    MetadataReceived,
    /// Existing data is being checked.
    Checking {
        /// Pieces checked so far.
        done: u32,
        /// Pieces to check.
        of: u32,
    },
    /// Files that were on this machine already have been looked at for what is missing of the wanted ones: when the torrent begins, and while it
    /// downloads whenever another one of the session has completed files.
    Reused {
        /// What they had: bytes of wanted files in pieces that were verified, or while it downloads are to be taken from there.
        bytes: u64,
        /// Bytes of all wanted files.
        bytes_total: u64,
        /// Of `bytes`, those in files that share their space on the disk with the ones that they come from.
        bytes_cloned: u64,
        /// Where it comes from: folders and files that were [given](crate::AddTorrent::reuse), and data of other torrents.
        from: Vec<PathBuf>,
    },
    /// The torrent is ready: existing data is known, peers are welcome.
    Started {
        /// Pieces that are there.
        have: u32,
        /// Pieces of the torrent.
        pieces: u32,
    },
    /// A piece is verified and written.
    PieceVerified(PieceIndex),
    /// A piece did not verify; it is downloaded again.
    PieceFailed(PieceIndex),
    /// A peer lied and is banned.
    PeerBanned {
        /// Its address.
        addr: SocketAddr,
        /// Why.
        reason: CloseReason,
    },
    /// A connection has ended, with these sums of payload.
    PeerLeft {
        /// Where the peer listens, if it has said so; else the address of the connection.
        addr: SocketAddr,
        /// Received from it, in bytes.
        bytes_down: u64,
        /// Sent to it, in bytes.
        bytes_up: u64,
    },
    /// A connection came about by holepunching (BEP 55): both sides dialled at a relay's word.
    Holepunched {
        /// The peer's address.
        addr: SocketAddr,
        /// The peer that is connected to both.
        relay: SocketAddr,
    },
    /// A peer that is behind a NAT could not be met by holepunching.
    HolepunchFailed {
        /// The peer's address.
        addr: SocketAddr,
        /// The peer that was to have both dial each other.
        relay: SocketAddr,
        /// Why.
        failure: HolepunchFailure,
    },
    /// A tracker answered.
    Announced {
        /// The tracker.
        url: String,
        /// How many peers it named, ourselves left out.
        peers: usize,
        /// The address that it saw us come from, if it says so (BEP 24).
        external_ip: Option<IpAddr>,
    },
    /// Something is wrong with a web seed, or with one of its files. The torrent goes on.
    WebSeedFault {
        /// The web seed, as it was named.
        url: String,
        /// The file, by its path in the torrent; `None` if it is about the URL.
        file: Option<String>,
        /// What is wrong.
        fault: WebSeedFault,
        /// What that costs.
        penalty: WebSeedPenalty,
    },
    /// An IP filter is in force. Of no torrent.
    IpFilterLoaded {
        /// How many ranges it blocks, those that touch counted as one.
        ranges: usize,
        /// How many lines of its file say nothing, and are passed over.
        bad_lines: u64,
    },
    /// The IP filter has refused something. Of no torrent. Sums since the session began; told every ten seconds at most.
    IpFilterBlocked {
        /// Connections that were dialled to us.
        incoming: u64,
        /// Addresses that were named for peers, each as often as it was named.
        addresses: u64,
        /// Requests to trackers.
        trackers: u64,
    },
    /// The gateway passes on to us what comes for a port of its own. Of no torrent.
    PortMapped {
        /// Of TCP or UDP.
        transport: Transport,
        /// Our port.
        port: u16,
        /// How that was done.
        method: MappingMethod,
        /// The gateway's outer address, if it tells. Behind another NAT it is not the one that the world sees.
        ip: Option<IpAddr>,
        /// The port there.
        external_port: u16,
    },
    /// It passes on nothing, for this reason; that is tried again. Of no torrent.
    PortNotMapped {
        /// Of TCP or UDP.
        transport: Transport,
        /// Our port.
        port: u16,
        /// Why.
        reason: String,
    },
    /// It is paused: it has left the swarm.
    Paused,
    /// This receiver fell behind, and so many events before the next one are lost.
    Missed {
        /// How many.
        count: u64,
    },
    /// Something is not as it should be, and the torrent goes on.
    Warning(String),
    /// Another program has changed a file. It is not sent until it has been checked again.
    FileChanged {
        /// The file.
        file: FileIndex,
        /// Its path in the torrent.
        path: String,
    },
    /// Data that was there is bad now. It is no longer offered.
    DataBad {
        /// A file that holds some of it.
        file: FileIndex,
        /// Its path in the torrent.
        path: String,
        /// How many of its pieces are bad.
        pieces: u32,
        /// Whether some of them are fetched again: those of a download that is not finished, and those of files that look as they did when
        /// they were right and may be written, on a seed only with [`scrub`](crate::AddTorrent::scrub). The others are offered again when
        /// somebody has put them right.
        refetched: bool,
    },
    /// Data that was bad has been fetched again, into its place in a complete file, and is offered again.
    DataMended {
        /// A file that holds some of it.
        file: FileIndex,
        /// Its path in the torrent.
        path: String,
        /// The piece.
        piece: PieceIndex,
    },
    /// The disk takes no more data; the torrent goes on when it does.
    DiskStalled {
        /// What the disk said. It is full if this [is for want of space](StorageError::is_no_space); else it fails: an I/O error,
        /// lost permission, a folder that has gone.
        error: Arc<StorageError>,
    },
    /// The disk takes data again.
    DiskResumed,
    /// Everything wanted is verified, written and in place.
    Completed,
    /// The torrent ended because of this error.
    Failed(Error),
    /// The torrent was stopped; its state is saved.
    Stopped,
}

/// What a torrent is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// The metadata is got from peers.
    Metadata,
    /// It waits for its turn to be checked.
    #[default]
    Queued,
    /// Existing data is being checked.
    Checking,
    /// Pieces are missing.
    Downloading,
    /// Everything wanted is there.
    Seeding,
    /// Its files are being moved.
    Moving,
    /// It takes no part in the swarm until it is resumed.
    Paused,
    /// It has ended, by request or by an error.
    Stopped,
}

/// Why nothing moves, if nothing moves.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Waiting {
    /// No peer is known or reached.
    #[error("no peers")]
    NoPeers,
    /// The filter blocks each address that was named.
    #[error("no peers: the IP filter blocks each address that was named")]
    Filtered,
    /// Nobody is where peers should be.
    #[error("no peers: nobody answers at {}{}", say_addresses(*.addresses), say_utp(*.only_utp))]
    Unreachable {
        /// How many addresses are known.
        addresses: usize,
        /// Whether they are dialled over uTP only.
        only_utp: bool,
    },
    /// Somebody is there, and does not complete the handshake.
    #[error("no peers: who was reached {}", say_refused(*.encryption))]
    Refused {
        /// What this session wants of connections.
        encryption: Encryption,
    },
    /// No peer is known, and the tracker cannot tell of any.
    #[error("no peers; tracker: {0}")]
    Tracker(String),
    /// Nobody is known who could name peers.
    #[error("no peers: there is no tracker and no DHT to ask{}", also(*.local))]
    NobodyToAsk {
        /// Whether the local network is asked.
        local: bool,
    },
    /// No peer is known, and this web seed does not serve.
    #[error("no peers; web seed {url}: {status}")]
    WebSeed {
        /// The web seed, as it was named.
        url: String,
        /// How it stands.
        status: WebSeedStatus,
    },
    /// Peers are connected, but none has anything that is missing, and this web seed does not serve.
    #[error("no connected peer has what is missing; web seed {url}: {status}")]
    WebSeedBesidePeers {
        /// The web seed, as it was named.
        url: String,
        /// How it stands.
        status: WebSeedStatus,
    },
    /// The hashes of the pieces are not in the metadata, and have not come from peers yet (BEP 52).
    #[error("waiting for the hashes of the pieces from peers")]
    PieceHashes,
    /// Peers are connected, and none of them has the metadata.
    #[error("no connected peer has the metadata")]
    NoMetadata,
    /// Peers offer more metadata than is taken. Any of them may lie: others are waited for.
    #[error("the metadata is longer than the limit of {limit} bytes: it has {len} by the word of {}", say_peers(*.peers))]
    MetadataTooLong {
        /// How long it is said to be, in bytes.
        len: u32,
        /// How long it may be, in bytes.
        limit: u32,
        /// How many peers say so.
        peers: usize,
    },
    /// Nothing may be received.
    #[error("the download limit is zero")]
    Limit,
    /// Peers are connected, but none has anything that is missing.
    #[error("no connected peer has what is missing")]
    NothingUseful,
    /// Every peer that has something chokes us.
    #[error("all peers choke us")]
    Choked,
    /// Requests are outstanding, and nothing comes.
    #[error("peers do not answer")]
    Silent,
    /// There are no more file descriptors for connections.
    #[error("no free file descriptors; this process may have {limit} (ulimit -n)")]
    Descriptors {
        /// How many the process may have.
        limit: usize,
    },
    /// No connection is made, since the proxy makes none.
    #[error("{0}")]
    Proxy(String),
    /// The disk takes no more data.
    #[error("{0}")]
    Disk(Arc<StorageError>),
}

fn also(local: bool) -> &'static str {
    if local { ", only the local network" } else { "" }
}

fn say_addresses(count: usize) -> String {
    if count == 1 { "the one known address".to_owned() } else { format!("any of {count} known addresses") }
}

fn say_utp(only: bool) -> &'static str {
    if only { " over uTP, and TCP is off" } else { "" }
}

fn say_refused(encryption: Encryption) -> &'static str {
    match encryption {
        Encryption::Require => "did not take an encrypted handshake, and encryption is required",
        Encryption::Off => {
            "did not take the handshake; perhaps encryption is required there, and it is off here"
        }
        _ => "did not take the handshake",
    }
}

fn say_peers(count: usize) -> String {
    if count == 1 { "1 peer".to_owned() } else { format!("{count} peers") }
}

/// A torrent at one moment. Bytes count wanted payload, rates are in bytes/s.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TorrentStats {
    /// What it is doing.
    pub state: State,
    /// Bytes wanted.
    pub bytes_total: u64,
    /// Of these, bytes in verified pieces.
    pub bytes_verified: u64,
    /// Bytes received of wanted pieces that are not verified yet. A stop keeps them.
    pub bytes_unverified: u64,
    /// Pieces of the torrent.
    pub pieces: u32,
    /// Pieces verified and written.
    pub pieces_have: u32,
    /// Payload received per second, now.
    pub rate_down: u64,
    /// Payload sent per second, now.
    pub rate_up: u64,
    /// Connected peers.
    pub peers: usize,
    /// Of these, peers that have everything.
    pub seeds: usize,
    /// Sums since the torrent was added.
    pub totals: Totals,
    /// Why nothing moves; `None` while something does, or nothing needs to.
    pub waiting: Option<Waiting>,
    /// Each connected peer.
    pub peer_list: Vec<PeerStats>,
    /// Each tracker.
    pub trackers: Vec<TrackerStats>,
    /// Each web seed, once the torrent's data is known.
    pub web_seeds: Vec<WebSeedStats>,
}

/// How a web seed stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebSeedStatus {
    /// Nothing is asked of it: peers serve, or it has nothing that is missing.
    #[error("not needed now")]
    Idle,
    /// It is being asked.
    #[error("asked")]
    Fetching,
    /// It is left alone for a while.
    #[error("{}tried again in {} s", say_fault(fault.as_ref()), retry_in.as_secs())]
    Paused {
        /// What was wrong.
        fault: Option<WebSeedFault>,
        /// How long until it is asked again.
        retry_in: Duration,
    },
    /// What is missing is in files that it does not have.
    #[error("{}it has no file that is missing{}", say_fault(fault.as_ref()), say_retry(*.retry_in))]
    Lost {
        /// What was wrong with the last of them.
        fault: Option<WebSeedFault>,
        /// How long until it is asked for one again; `None`: it is not.
        retry_in: Option<Duration>,
    },
    /// It is not asked any more.
    #[error("{}not used any more", say_fault(.0.as_ref()))]
    Dropped(Option<WebSeedFault>),
}

fn say_fault(fault: Option<&WebSeedFault>) -> String {
    fault.map(|fault| format!("{fault}; ")).unwrap_or_default()
}

fn say_retry(after: Option<Duration>) -> String {
    after.map(|after| format!("; tried again in {} s", after.as_secs())).unwrap_or_default()
}

/// A web seed at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WebSeedStats {
    /// Its URL, as it was named.
    pub url: String,
    /// How it stands.
    pub status: WebSeedStatus,
    /// Payload received from it, in bytes.
    pub bytes_down: u64,
    /// Payload received from it per second, now.
    pub rate_down: u64,
    /// Requests that it has answered.
    pub requests: u64,
    /// Files that cannot be had there, for now or for good.
    pub files_lost: usize,
}

/// A connected peer at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeerStats {
    /// The address of the connection's far end.
    pub addr: SocketAddr,
    /// Where it listens, if known.
    pub listen_addr: Option<SocketAddr>,
    /// Whether it dialled us.
    pub inbound: bool,
    /// Whether the connection is over uTP; else it is over TCP.
    pub utp: bool,
    /// Whether it came about by holepunching.
    pub punched: bool,
    /// What the stream is since an encrypted handshake (MSE); `None`: there was none.
    pub encryption: Option<EncryptionMethod>,
    /// What it calls itself.
    pub peer_id: PeerId,
    /// Its software.
    pub client: String,
    /// Pieces it has.
    pub pieces_have: u32,
    /// Payload received from it, in bytes.
    pub bytes_down: u64,
    /// Payload sent to it, in bytes.
    pub bytes_up: u64,
    /// Payload received from it per second, now.
    pub rate_down: u64,
    /// Payload sent to it per second, now.
    pub rate_up: u64,
    /// We choke it.
    pub am_choking: bool,
    /// It chokes us.
    pub peer_choking: bool,
    /// We want something of it.
    pub am_interested: bool,
    /// It wants something of us.
    pub peer_interested: bool,
    /// It lets our requests lie.
    pub snubbed: bool,
}

/// A tracker at one moment, as one address family knows it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrackerStats {
    /// Its URL.
    pub url: String,
    /// The address family that the rest is about.
    pub family: Family,
    /// How it stands.
    pub status: TrackerStatus,
    /// Peers that it named last time.
    pub peers: usize,
    /// Seeds in the swarm, if it said so.
    pub seeds: Option<u32>,
    /// Leechers in the swarm, if it said so.
    pub leechers: Option<u32>,
    /// How long until it is announced to again; `None` if never, or not known yet.
    pub next_announce: Option<Duration>,
}

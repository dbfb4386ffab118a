//! What a session and a torrent are told when they are made.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use swarm_core::id::InfoHash;
use swarm_core::metainfo::{Magnet, Metainfo};
use swarm_core::picker::Order;

/// The first port tried when none is asked for.
pub const LISTEN_PORT_FIRST: u16 = 6881;

/// How a session behaves. `..SessionOptions::default()` gives what most want.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Where to listen. Empty: every interface, IPv4 and IPv6, on the first free port from
    /// [`LISTEN_PORT_FIRST`] up. With an address that is not unspecified, outgoing connections also leave
    /// from it. Port 0 lets the system choose.
    pub listen: Vec<SocketAddr>,
    /// The network device that every socket is bound to (Linux only).
    pub bind_device: Option<String>,
    /// Payload sent to peers, all torrents together, in bytes/s.
    pub upload_limit: Option<u64>,
    /// Payload received from peers, all torrents together, in bytes/s.
    pub download_limit: Option<u64>,
    /// Connections, all torrents together.
    pub peers_max: usize,
    /// Connections being made, all torrents together. Many, since most addresses may be silent.
    pub half_open_max: usize,
    /// Memory for received blocks that are not yet written, in bytes, all torrents together. What does not fit waits
    /// in the sockets, or in a side file if pieces are larger than this.
    pub buffer_bytes: usize,
    /// Threads that hash, read and write. 0: one for each core.
    pub workers: usize,
    /// Where the state that makes restarts quick is kept. `None`: nowhere, and complete data is always checked.
    pub state_dir: Option<PathBuf>,
    /// The DHT, which finds peers without a tracker (BEP 5). `None`: the session takes no part in it.
    pub dht: Option<DhtOptions>,
    /// Whether torrents that are not private are announced to the local network, and looked for there (BEP 14).
    pub lsd: bool,
    /// Whether peers of torrents that are not private tell each other of peers (BEP 11).
    pub pex: bool,
    /// Determines every random choice of the protocol; random unless given.
    pub seed: Option<u64>,
}

impl Default for SessionOptions {
    fn default() -> SessionOptions {
        SessionOptions {
            listen: Vec::new(),
            bind_device: None,
            upload_limit: None,
            download_limit: None,
            peers_max: 500,
            half_open_max: 128,
            buffer_bytes: 32 * 1024 * 1024,
            workers: 0,
            state_dir: None,
            dht: None,
            lsd: false,
            pex: true,
            seed: None,
        }
    }
}

/// A session's node of the DHT. It listens on the session's addresses, over UDP.
#[derive(Clone, Debug, Default)]
pub struct DhtOptions {
    /// Nodes to start from, as `HOST:PORT`. Empty: [`PUBLIC_NODES`](crate::dht::PUBLIC_NODES), unless the session listens
    /// on loopback only.
    pub bootstrap: Vec<String>,
}

/// What a torrent's data is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Get what is missing, then seed.
    Download,
    /// Serve what is there; nothing is ever written to the data.
    Seed,
    /// Get the metadata of a link, then end.
    Metadata,
}

/// What a torrent is known by.
#[derive(Clone, Debug)]
pub enum Source {
    /// Everything about it.
    Metainfo(Arc<Metainfo>),
    /// Its info-hash, and perhaps trackers and peers: the rest comes from peers (BEP 9).
    Magnet(Box<Magnet>),
}

impl Source {
    /// The torrent's info-hash.
    pub fn info_hash(&self) -> InfoHash {
        match self {
            Source::Metainfo(metainfo) => metainfo.info.info_hash,
            Source::Magnet(magnet) => magnet.info_hash,
        }
    }

    pub(super) fn metainfo(&self) -> Option<&Arc<Metainfo>> {
        match self {
            Source::Metainfo(metainfo) => Some(metainfo),
            Source::Magnet(_) => None,
        }
    }
}

impl From<Arc<Metainfo>> for Source {
    fn from(metainfo: Arc<Metainfo>) -> Source {
        Source::Metainfo(metainfo)
    }
}

impl From<Metainfo> for Source {
    fn from(metainfo: Metainfo) -> Source {
        Source::Metainfo(Arc::new(metainfo))
    }
}

impl From<Magnet> for Source {
    fn from(magnet: Magnet) -> Source {
        Source::Magnet(Box::new(magnet))
    }
}

impl From<InfoHash> for Source {
    fn from(info_hash: InfoHash) -> Source {
        Magnet::new(info_hash).into()
    }
}

/// A torrent to add to a session.
#[derive(Clone, Debug)]
pub struct AddTorrent {
    /// What it is.
    pub source: Source,
    /// The folder that holds, or is to hold, the torrent's file or folder.
    pub dir: PathBuf,
    /// Whether to download or only to seed.
    pub mode: Mode,
    /// For each file of the metainfo whether it is wanted; `None`: all are.
    pub wanted: Option<Vec<bool>>,
    /// Whether to wait, once the metadata of a link is here, until [`TorrentHandle::set_files`](crate::TorrentHandle::set_files) says
    /// which files are wanted.
    pub hold: bool,
    /// The order in which pieces are started.
    pub order: Order,
    /// Peers to connect to, besides those that trackers name.
    pub peers: Vec<SocketAddr>,
    /// Trackers to use, a tier each, besides those of the metainfo or link. Unlike those, they may be anywhere on this
    /// machine and network.
    pub trackers: Vec<String>,
    /// Whether the trackers of the metainfo or link are used.
    pub use_metainfo_trackers: bool,
    /// The shortest interval between two announces that a tracker may impose. A tracker of one's own may be
    /// trusted with less than the usual minute.
    pub announce_interval_min: Duration,
    /// Whether a seed that knows of no other copy lets each piece out once before any goes out again (BEP 16).
    /// It does so only while there are some peers to copy pieces from one another, and hides less while its uplink idles. Of use only
    /// where this seed's uplink is what everyone waits for.
    pub super_seeding: bool,
    /// Connections of this torrent.
    pub peers_max: usize,
    /// Payload sent to peers of this torrent, in bytes/s.
    pub upload_limit: Option<u64>,
    /// Payload received from peers of this torrent, in bytes/s.
    pub download_limit: Option<u64>,
    /// Whether foreign files in the way may be overwritten.
    pub overwrite: bool,
    /// Whether to check all data even if saved state says that it is good.
    pub recheck: bool,
    /// For tests and `swarm lab`: makes the disk behave as if it were full beyond a budget.
    pub space: Option<Arc<crate::storage::SpaceBudget>>,
    /// For tests and `swarm lab`: every block that is sent is corrupt.
    pub poison: bool,
}

impl AddTorrent {
    /// Download into `dir`, which need not exist.
    pub fn download(source: impl Into<Source>, dir: impl Into<PathBuf>) -> AddTorrent {
        AddTorrent {
            source: source.into(),
            dir: dir.into(),
            mode: Mode::Download,
            wanted: None,
            hold: false,
            order: Order::RarestFirst,
            peers: Vec::new(),
            trackers: Vec::new(),
            use_metainfo_trackers: true,
            announce_interval_min: Duration::from_secs(60),
            super_seeding: true,
            peers_max: 100,
            upload_limit: None,
            download_limit: None,
            overwrite: false,
            recheck: false,
            space: None,
            poison: false,
        }
    }

    /// Seed what lies in `dir`.
    pub fn seed(source: impl Into<Source>, dir: impl Into<PathBuf>) -> AddTorrent {
        AddTorrent { mode: Mode::Seed, ..AddTorrent::download(source, dir) }
    }

    /// Get the metadata of a link, and nothing else.
    pub fn metadata(source: impl Into<Source>) -> AddTorrent {
        AddTorrent { mode: Mode::Metadata, ..AddTorrent::download(source, PathBuf::new()) }
    }
}

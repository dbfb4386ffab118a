//! The BitTorrent engine: sessions, storage and sockets around [`swarm_core`].
//!
//! A [`Session`] owns one network thread, on which every socket and every
//! torrent's state machine live without locks, and a few worker threads that
//! hash, read and write. It is driven from any thread, in async code or not:
//! its methods only send messages.
//!
//! ```no_run
//! # async fn download() -> Result<(), Box<dyn std::error::Error>> {
//! use swarm_engine::{AddTorrent, Session, SessionOptions, Source};
//!
//! let source = Source::from_file("release.meta")?;
//! let session = Session::start(SessionOptions::new())?;
//! let torrent = session.add(AddTorrent::download(source, "downloads")).await?;
//! torrent.completed().await?;
//! session.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! Where to go from here: [`Session`] adds, lists and removes torrents; [`AddTorrent`] says what to do with one;
//! [`TorrentHandle`] controls it, asks it for its [`TorrentStats`], waits for it, and [reads](TorrentHandle::read) its files
//! while they come; [`Event`] tells what happens. [`create`] makes metainfo, [`verify`] checks files without a session, [`dht`] is a
//! node of the DHT by itself. `examples/` has a program of at most 30 lines for each common task, and `docs/api.md` of the project
//! a page about all of it.

// What is public here may get fields and variants without a new major version.
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

mod buffer;
mod clock;
pub mod create;
pub mod dht;
mod error;
pub mod hash;
mod http;
mod id;
mod ip_filter;
mod net;
mod session;
mod spool;
mod storage;
mod upnp;

pub use error::{Error, ErrorKind, OptionError};
pub use ip_filter::{IpFilterError, IpFilterSource};
pub use session::{
    AddTorrent, Data, DhtOptions, Event, EventReceiver, FileReader, Files, HolepunchFailure, InfoHashes,
    LISTEN_PORT_FIRST, Mode, PeerStats, PieceMap, PieceStatus, RateGroup, Session, SessionEvents,
    SessionFacts, SessionOptions, Source, State, TorrentHandle, TorrentId, TorrentStats, TrackerStats,
    Waiting, WebSeedFault, WebSeedPenalty, WebSeedStats, WebSeedStatus, fetch, fetch_public,
};
pub use spool::MetainfoSpool;
#[cfg(feature = "__hooks")]
#[doc(hidden)]
pub use storage::SpaceBudget;

/// Parsers of this crate alone, for the fuzz targets.
#[cfg(feature = "__hooks")]
#[doc(hidden)]
pub mod fuzz {
    pub use crate::ip_filter::read_bytes as ip_filter;
    pub use crate::session::check_answer as answer;
    pub use crate::storage::fuzz::{journal, state, states};
}

#[doc(hidden)]
pub use storage::{PieceStorage, Stored};
pub use storage::{StorageError, verify};
pub use swarm_core::bencode;
pub use swarm_core::dht::MutableTorrentLink;
pub use swarm_core::geometry::Geometry;
pub use swarm_core::id::{BlockRef, FileIndex, InfoHash, InfoHashV2, PeerId, PieceIndex};
pub use swarm_core::ip_filter::{IpFilter, IpRange};
pub use swarm_core::metainfo::{
    FileAttr, FileEntry, Info, Layout, LayoutError, METAINFO_LEN_MAX, Magnet, MagnetError, Metainfo,
    MetainfoError, PieceHashes, Segment,
};
pub use swarm_core::mse::{Encryption, Method as EncryptionMethod};
pub use swarm_core::net::Family;
pub use swarm_core::padding::Padding;
pub use swarm_core::picker::{Order, Priority};
pub use swarm_core::port_mapping::{Method as MappingMethod, Transport};
pub use swarm_core::proxy::{Proxy, ProxyKind, ProxyUrlError};
pub use swarm_core::torrent::{CloseReason, Totals};
pub use swarm_core::tracker::access::UrlOrigin;
pub use swarm_core::tracker::announcer::TrackerStatus;

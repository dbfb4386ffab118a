//! The BitTorrent engine: sessions, storage and sockets around [`swarm_core`].
//!
//! A [`Session`] owns one network thread, on which every socket and every
//! torrent's state machine live without locks, and a few worker threads that
//! hash, read and write. It is driven from any thread, in async code or not:
//! its methods only send messages.
//!
//! ```no_run
//! # async fn download() -> Result<(), Box<dyn std::error::Error>> {
//! use swarm_engine::core::metainfo::Metainfo;
//! use swarm_engine::{AddTorrent, Session, SessionOptions};
//!
//! let metainfo = Metainfo::parse(&std::fs::read("release.meta")?)?;
//! let session = Session::start(SessionOptions::default())?;
//! let torrent = session.add(AddTorrent::download(metainfo, "downloads")).await?;
//! torrent.completed().await?;
//! session.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! `examples/` has a download that tells its events, and a seed.

// What is public here may get fields and variants without a new major version.
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

mod buffer;
pub mod create;
pub mod dht;
pub mod error;
pub mod hash;
mod http;
mod net;
#[allow(clippy::exhaustive_enums, clippy::exhaustive_structs, reason = "its options are written as literals")]
pub mod session;
mod storage;

pub use error::{Error, ErrorKind};
pub use http::fetch;
pub use session::{
    AddTorrent, Data, DhtOptions, Event, EventReceiver, FileReader, Files, InfoHashes, Mode, OptionError,
    PeerStats, Session, SessionEvents, SessionOptions, Source, State, TorrentHandle, TorrentId, TorrentStats,
    TrackerStats, Waiting,
};
pub use storage::{SpaceBudget, StorageError, verify};
pub use swarm_core as core;

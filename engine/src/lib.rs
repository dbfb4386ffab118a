//! The BitTorrent engine: sessions, storage and sockets around [`swarm_core`].
//!
//! A [`Session`] owns one network thread, on which every socket and every
//! torrent's state machine live without locks, and a few worker threads that
//! hash, read and write. It is driven from any thread, in async code or not:
//! its methods only send messages. See `examples/` for a download and a seed in
//! twenty lines.

pub mod buffer;
pub mod create;
pub mod error;
pub mod hash;
mod http;
mod net;
pub mod session;
pub mod storage;

pub use error::{Error, ErrorKind};
pub use http::fetch;
pub use session::{
    AddTorrent, Event, EventReceiver, Mode, PeerStats, Session, SessionOptions, State, TorrentHandle,
    TorrentStats, TrackerStats, Waiting,
};
pub use swarm_core as core;

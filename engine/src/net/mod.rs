//! Sockets: listening, dialling, handshakes, and one task for each connection.
//!
//! Everything here runs on the session's network thread and shares state through `Rc` and `RefCell`: no locks, no channels
//! between a socket and its torrent. A connection's task waits; what is read and written, its torrent decides, called in place
//! through [`connection::Owner`]. Nothing here knows more of sessions and torrents.

pub(crate) mod connection;
pub(crate) mod datagrams;
pub(crate) mod dial;
pub(crate) mod enciphered;
pub(crate) mod encryption;
pub(crate) mod gateway;
pub(crate) mod handshake;
pub(crate) mod names;
pub(crate) mod outbox;
pub(crate) mod reader;
pub(crate) mod socket;
pub(crate) mod transport;
pub(crate) mod udp;
mod unsent;
pub(crate) mod utp;
pub(crate) mod utp_port;

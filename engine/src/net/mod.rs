//! Sockets: listening, dialling, handshakes, and one task for each connection.
//!
//! Everything here runs on the session's network thread and shares state
//! through `Rc` and `RefCell`: no locks, no channels between a socket and its
//! torrent. A connection's task moves bytes; what they mean is decided by the
//! torrent's state machine, called in place.

pub(crate) mod ahead;
pub(crate) mod connection;
pub(crate) mod handshake;
pub(crate) mod outbox;
pub(crate) mod reader;
pub(crate) mod socket;

//! Peer exchange on one connection (BEP 11).

use crate::time::Time;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// The state of the peer exchange on one connection.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// The peer's number for these messages, if it takes part.
    pub(crate) id: Option<u8>,
    /// The peers sent to it as added, and not as dropped since.
    pub(crate) sent: BTreeSet<SocketAddr>,
    /// When to send it more, if there is more.
    pub(crate) next_at: Time,
    /// When its last message came.
    pub(crate) heard_at: Option<Time>,
}

impl Exchange {
    pub(crate) fn new(now: Time) -> Exchange {
        Exchange { id: None, sent: BTreeSet::new(), next_at: now, heard_at: None }
    }
}

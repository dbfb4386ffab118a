//! What a peer and we have told each other of other peers (BEP 11).

use crate::time::Time;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// The state of the peer exchange on one connection.
#[derive(Debug)]
pub struct Exchange {
    /// The peer's number for these messages, if it takes part.
    pub id: Option<u8>,
    /// Who it was told of, and not told otherwise since.
    pub told: BTreeSet<SocketAddr>,
    /// When to tell it more, if there is more.
    pub due: Time,
    /// When it last told us anything.
    pub heard_at: Option<Time>,
}

impl Exchange {
    /// Nothing has been told.
    pub fn new(now: Time) -> Exchange {
        Exchange { id: None, told: BTreeSet::new(), due: now, heard_at: None }
    }
}

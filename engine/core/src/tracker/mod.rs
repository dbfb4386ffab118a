//! Talking to trackers: the announce and scrape formats, read and written for
//! client and server alike, and the [`announcer`] that decides when to use them.
//!
//! Nothing here opens a connection. The client's shell sends what the announcer
//! asks for; the server `swarm-tracker` parses requests and encodes replies with
//! the same types.

pub mod access;
pub mod announce;
pub mod announcer;
mod query;
mod reply;
pub mod scrape;
pub mod udp;

use std::fmt;
use std::net::IpAddr;

pub use announce::{AnnounceRequest, AnnounceResponse, Event, PeerFormat, TrackerPeer};
pub use announcer::{AnnounceAction, AnnounceFailure, AnnounceId, Announcer, AnnouncerConfig, Named};
pub use query::RequestError;
pub use reply::{ReplyError, RetryIn, encode_failure};
pub use scrape::{ScrapeRequest, ScrapeResponse, ScrapeStats};

/// Most bytes of a tracker's reply that a client reads.
pub const REPLY_LEN_MAX: usize = 1 << 20;

/// Which internet protocol an announce travels over. A tracker learns a peer's address from the
/// connection, so a peer with both announces over both (BEP 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn of(ip: IpAddr) -> Family {
        if ip.to_canonical().is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

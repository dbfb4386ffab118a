//! Talking to trackers: the announce and scrape formats, read and written for
//! client and server alike, and the [`announcer`] that decides when to use them.
//!
//! Nothing here opens a connection. The client's shell sends what the announcer
//! asks for; the server `swarm-tracker` parses requests and encodes replies with
//! the same types.

pub mod access;
pub mod announce;
pub mod announcer;
mod peers;
mod query;
mod reply;
pub mod scrape;
pub mod udp;

pub use announce::{AnnounceRequest, AnnounceResponse, Event};
pub use announcer::{AnnounceAction, AnnounceFailure, AnnounceId, Announcer, AnnouncerConfig, TrackerUrls};
pub use peers::{PeerFormat, REPLY_NAMES_MAX, REPLY_PEERS_MAX, ReplyOddities, TrackerPeer};
pub use query::RequestError;
pub use reply::{REPLY_LEN_MAX, ReplyError, RetryIn, encode_failure};
pub use scrape::{ScrapeRequest, ScrapeResponse, ScrapeStats};

//! The UDP tracker protocol (BEP 15, with 41 for the URL's path and query).
//!
//! Two round trips: a *connect* proves that the client has the address that it sends from, and gets it a
//! connection id; announces and scrapes carry that id. [`Request`] and [`Response`] are the datagrams, read and
//! written for client and server alike; [`Client`] decides what to send to one tracker and when to send it again.

mod client;
mod packet;

pub use client::{Client, RETRANSMIT_AFTER};
pub use packet::{PacketError, Request, Response, url_data};

use super::Family;

/// The longest datagram that is sent, in bytes: every link that carries IPv6 takes it in one piece.
pub const DATAGRAM_LEN_MAX: usize = 1280 - 40 - 8;
/// The longest path and query that an announce carries (BEP 41), in bytes.
pub const URL_DATA_LEN_MAX: usize = 1024;
/// Most info-hashes in one scrape, as BEP 15 has it.
pub const SCRAPE_HASHES_MAX: usize = 74;

/// What an announce or a scrape carries to show that its sender has the address that it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

/// The client's name for a request, repeated in the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub u32);

/// Most peers in a response that [`DATAGRAM_LEN_MAX`] has room for.
pub const fn peers_max(family: Family) -> usize {
    (DATAGRAM_LEN_MAX - packet::ANNOUNCE_RESPONSE_LEN) / packet::peer_len(family)
}

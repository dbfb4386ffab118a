//! The UDP tracker protocol (BEP 15, with 41 for the URL's path and query).
//!
//! Two round trips: a *connect* proves that the client has the address that it sends from, and gets it a
//! connection id; announces and scrapes carry that id. [`Request`] and [`Response`] are the datagrams, read and
//! written for client and server alike; [`Client`] decides what to send to one tracker and when to send it again.

mod client;
mod packet;

pub use client::{Client, RETRANSMIT_AFTER};
pub use packet::{
    ConnectionId, DATAGRAM_LEN_MAX, PacketError, Request, Response, SCRAPE_HASHES_MAX, TransactionId,
    URL_DATA_LEN_MAX, peers_max, url_data,
};

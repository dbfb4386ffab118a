//! A node of the mainline DHT (BEP 5), without its socket.
//!
//! [`Node`] answers others, keeps a routing table, and searches for its owner. It takes part in the IPv4 network, the
//! IPv6 network, or both, with an id on each (BEP 32, 45). Everything that strangers send is bounded: what they may
//! store, what they are answered, what a datagram may cost to read; nobody is believed to be where it says before it
//! has answered from there, and ids have to fit addresses (BEP 42).
//!
//! From the bottom up: `id`, `compact`, `scrape`, `mutable_torrent` and `message` are the vocabulary; `token`, `limit`, `peers`
//! and `items` are what answering takes; `table` is whom we know; `lookup` decides whom a search asks next; `node` puts them together.

mod compact;
mod id;
mod items;
mod limit;
mod lookup;
mod message;
mod mutable_torrent;
mod node;
mod peers;
mod scrape;
mod table;
mod token;

pub use compact::NodeInfo;
pub use id::{Distance, ID_BITS, NodeId};
pub use items::{ITEM_LIFETIME, ITEMS_MAX, Item, Owner, SALT_LEN_MAX, VALUE_LEN_MAX, mutable_target};
pub use limit::{HOST_BURST_BYTES, HOST_BYTES_PER_S, HOSTS_MAX, TOTAL_BURST_BYTES, TOTAL_BYTES_PER_S};
pub use lookup::{ALPHA, CANDIDATES_MAX};
pub use message::{
    Body, DATAGRAM_LEN_MAX, ErrorCode, KrpcError, Message, MessageError, Query, Question, Response, Samples,
    TOKEN_LEN_MAX, TRANSACTION_LEN_MAX, VALUES_MAX,
};
pub use mutable_torrent::{MutableTorrentLink, MutableTorrentLinkError, mutable_torrent_value};
pub use node::{Announce, Event, LookupId, Node, NodeConfig};
pub use peers::{ANSWER_PEERS_MAX, HOST_PEERS_MAX, PEER_LIFETIME, SWARM_PEERS_MAX, SWARMS_MAX};
pub use scrape::{FILTER_ADDRESSES_MAX, FILTER_LEN, Filter, Scrape};
pub use table::{BAD_FAILURES, BUCKET_LEN_MAX, NEW_BUCKET_STEP, QUESTIONABLE_AFTER};
pub use token::TOKEN_STEP;

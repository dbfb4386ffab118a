//! The DHT at size: the node of `swarm_core` on a virtual network of datagrams.
//!
//! What is simulated is the network alone: each datagram is encoded, sent, delayed, perhaps lost, and decoded. A host
//! has a delay to the core of the network, a path the sum of its two ends' and some jitter. Networks are joined for
//! real, one node after another; for those that are too large for that, their tables are generated to be what joining leads to.
//! [`scenario`] asks many lookups of a network and tells what they took.

mod network;
pub mod report;
pub mod scenario;
mod sybil;
mod tables;

pub use network::{Alarm, Happening, HostId, Network, Traffic};

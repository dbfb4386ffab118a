//! Whole swarms in one thread, on a virtual clock, from a seed.
//!
//! The torrents are the real ones of `swarm-core`; what is simulated is the
//! world around them: links with rates and delays, dialling, verification. No
//! bytes move, yet integrity is tracked: a corrupt block stays corrupt until
//! its piece is verified. All arithmetic is on integers and every tie is broken
//! by a sequence number, so that a seed gives the same trace on every machine.
//!
//! The model: an uplink sends one block at a time, round robin among the connections that have one to send;
//! other messages share its rate and overtake blocks. A path delays; it neither loses nor reorders, as
//! TCP does not. A downlink receives one block at a time, in the order of arrival.

pub mod dht;
mod node;
pub mod plot;
mod queue;
pub mod report;
pub mod scenario;
mod world;

pub use node::{Behaviour, NodeConfig, Rate};
pub use world::{NodeId, PATH_MIN, Trace, World};

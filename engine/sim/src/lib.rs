//! Whole swarms in one thread, on a virtual clock, from a seed.
//!
//! The torrents are the real ones of `swarm-core`; what is simulated is the
//! world around them: links with rates and delays, dialling, verification. No
//! bytes move, yet integrity is tracked: a corrupt block stays corrupt until
//! its piece is verified. All arithmetic is on integers and every tie is broken
//! by a sequence number, so that a seed gives the same trace on every machine.

mod node;
mod world;

pub use node::{Behaviour, NodeConfig, Rate};
pub use world::{NodeId, Trace, World};

//! Whole swarms on a virtual clock, from a seed.
//!
//! The torrents are the real ones of `swarm_core`; what is simulated is the
//! world around them: links with rates and delays, dialling, verification. No
//! bytes move, yet integrity is tracked: a corrupt block stays corrupt until
//! its piece is verified. All arithmetic is on integers and every tie is broken
//! by the order of sending, so that a seed gives the same trace on every machine,
//! on any number of threads.
//!
//! What is modelled, and what is not, is told in `docs/simulator.md`.

mod basics;
mod check;
mod coding;
mod config;
pub mod curves;
pub mod dht;
mod disk;
mod lanes;
mod network;
mod node;
mod path;
mod play;
pub mod plot;
mod queue;
pub mod random;
pub mod report;
pub mod scenario;
mod shell;
mod socket;
mod tracker;
mod v2;
mod viewer;
mod watch;
mod world;

pub use basics::{NodeId, PATH_MIN, Rate, Trace};
pub use config::{Behaviour, NodeConfig};
pub use disk::DiskConfig;

pub use path::PathFaults;
pub use play::Failure;
pub use socket::Buffers;
pub use viewer::Wait;
pub use watch::Sample;
pub use world::{Checks, World};

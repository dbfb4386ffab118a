//! The BitTorrent protocol as pure state machines.
//!
//! Nothing here opens a socket or a file, reads a clock or spawns a task. Every
//! state machine follows one grammar: hand it an input with the present time
//! (`handle_*(now, input)`), drain what it wants done (`poll_action()`,
//! `poll_event()`), and come back at `poll_timeout()`. Randomness is a seeded
//! [`rng::Rng`] given at construction. So the same code runs on real sockets in
//! `swarm_engine` and in the deterministic simulator `swarm_sim`, and a failing
//! run replays from a number.
//!
//! Bulk bytes never pass through this crate: the torrent hears that a block
//! *arrived*, never what is in it.
#![forbid(unsafe_code)]

pub mod admission;
pub mod bencode;
pub mod bitfield;
pub mod choker;
pub mod dht;
pub mod geometry;
pub mod id;
pub mod lsd;
pub mod metainfo;
pub mod net;
pub mod padding;
pub mod peer;
pub mod picker;
pub mod rate;
pub mod rng;
pub mod time;
pub mod torrent;
pub mod tracker;
pub mod wire;

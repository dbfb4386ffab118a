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
//! A driver in short (`examples/blocking.rs` is a whole one, with threads and blocking sockets):
//!
//! ```
//! use swarm_core::time::Time;
//! use swarm_core::torrent::{Action, Event, Torrent};
//!
//! /// Runs a torrent. `wait` returns true after it has handed over an input, false when `until` has come.
//! fn run(
//!     torrent: &mut Torrent,
//!     now: impl Fn() -> Time,
//!     mut wait: impl FnMut(&mut Torrent, Option<Time>) -> bool,
//!     mut act: impl FnMut(&mut Torrent, Action),
//! ) {
//!     loop {
//!         // Drain the output before the next input. What an action leads to (`handle_piece_result`, …) is an input too.
//!         while let Some(action) = torrent.poll_action() {
//!             act(torrent, action);
//!         }
//!         while let Some(event) = torrent.poll_event() {
//!             if event == Event::Completed {
//!                 return;
//!             }
//!         }
//!         let until = torrent.poll_timeout();
//!         if !wait(torrent, until) {
//!             torrent.handle_timeout(now());
//!         }
//!     }
//! }
//! ```
//!
//! Bulk bytes never pass through this crate: the torrent hears that a block
//! *arrived*, never what is in it.
#![forbid(unsafe_code)]

pub mod admission;
pub mod bencode;
pub mod bitfield;
pub mod choker;
pub mod dht;
pub mod fields;
pub mod geometry;
pub mod hex;
pub mod id;
pub mod ip_filter;
pub mod lsd;
pub mod merkle;
pub mod metainfo;
pub mod mse;
pub mod net;
pub mod padding;
pub mod peer;
pub mod picker;
pub mod port_mapping;
pub mod proxy;
pub mod rate;
pub mod reading;
pub mod rng;
pub mod scrub;
pub mod time;
pub mod torrent;
pub mod tracker;
pub mod utp;
pub mod webseed;
pub mod wire;

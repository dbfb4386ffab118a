//! What a host is like.

use crate::basics::Rate;
use crate::disk::DiskConfig;
use swarm_core::metainfo::Format;
use swarm_core::time::{Duration, Time};

/// How a host differs from an honest one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// It does what its torrent says.
    #[default]
    Honest,
    /// It is no peer but a web server with the whole torrent, which nobody dials: hosts that join later fetch from it (BEP 19). It must
    /// start with every piece.
    WebSeed,
    /// Every block that it sends is corrupt.
    Poisoner,
    /// It takes and never gives: nobody hears that it unchokes them.
    FreeRider,
    /// It claims pieces all the time, most of which it does not have.
    HaveFlood,
    /// It unchokes and chokes everyone in turns, whatever its torrent thinks of them.
    ChokeFlapping,
    /// From this time on it stays connected and sends no block, nor what waits behind one in a socket.
    FreezesAt(Time),
    /// The same, from when it has this share of the pieces, in percent.
    FreezesWith(u8),
}

impl Behaviour {
    /// Whether others get true blocks from it, for a while at least.
    pub fn gives(self) -> bool {
        !matches!(self, Behaviour::FreeRider | Behaviour::Poisoner)
    }
}

/// What a simulated host is like.
#[derive(Clone, Copy, Debug)]
pub struct NodeConfig {
    /// Its uplink.
    pub up: Rate,
    /// Its downlink.
    pub down: Rate,
    /// One-way delay between it and the middle of the network; a path's delay is the sum of both ends'.
    pub delay: Duration,
    /// Whether it starts with every piece.
    pub seed: bool,
    /// Whether it lies or sleeps.
    pub behaviour: Behaviour,
    /// The versions of the protocol that it speaks, of those that the torrent is for.
    pub format: Format,
    /// Its disk, if that is not taken to be fast, large and without faults.
    pub disk: Option<DiskConfig>,
}

impl Default for NodeConfig {
    /// 100 Mbit/s up, twice that down, 10 ms to the middle, nothing to begin with, honest, and speaks every version.
    fn default() -> NodeConfig {
        NodeConfig {
            up: Rate::mbit_per_s(100),
            down: Rate::mbit_per_s(200),
            delay: Duration::from_millis(10),
            seed: false,
            behaviour: Behaviour::Honest,
            format: Format::Hybrid,
            disk: None,
        }
    }
}

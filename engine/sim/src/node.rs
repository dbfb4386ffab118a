//! One simulated host: a torrent, its uplink and its downlink.

use crate::world::NodeId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use swarm_core::id::{BlockRef, PeerKey, PieceIndex};
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::Torrent;

/// A rate in bytes per second; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub u64);

impl Rate {
    /// From megabits per second.
    pub const fn mbit_per_s(mbit: u64) -> Rate {
        Rate(mbit * 125_000)
    }

    /// How long `bytes` take, rounded up to a microsecond.
    pub fn time_for(self, bytes: u64) -> Duration {
        Duration::from_micros((bytes * 1_000_000).div_ceil(self.0))
    }
}

/// How a host differs from an honest one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// It does what its torrent says.
    #[default]
    Honest,
    /// Every block that it sends is corrupt.
    Poisoner,
    /// From this time on it stays connected and sends no block.
    FreezesAt(Time),
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
}

impl Default for NodeConfig {
    /// 100 Mbit/s up, twice that down, 10 ms to the middle, nothing to begin with, honest.
    fn default() -> NodeConfig {
        NodeConfig {
            up: Rate::mbit_per_s(100),
            down: Rate::mbit_per_s(200),
            delay: Duration::from_millis(10),
            seed: false,
            behaviour: Behaviour::Honest,
        }
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) remote: NodeId,
    /// The connection's key at the other end.
    pub(crate) remote_key: PeerKey,
    /// Whether it waits in the uplink's queue.
    pub(crate) queued: bool,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) addr: SocketAddr,
    pub(crate) torrent: Torrent,
    pub(crate) connections: BTreeMap<PeerKey, Connection>,
    pub(crate) next_key: u32,
    /// The connections with blocks to send, served one block each in turn.
    pub(crate) uplink: VecDeque<PeerKey>,
    pub(crate) uplink_busy: bool,
    pub(crate) downlink_free_at: Time,
    /// The received blocks that are not what they should be.
    pub(crate) corrupt: BTreeMap<PieceIndex, BTreeSet<u32>>,
    pub(crate) timer_at: Time,
    pub(crate) completed_at: Option<Time>,
    pub(crate) online: bool,
}

impl Node {
    pub(crate) fn new_key(&mut self) -> PeerKey {
        self.next_key += 1;
        PeerKey(self.next_key)
    }

    pub(crate) fn sends_blocks(&self, now: Time) -> bool {
        !matches!(self.config.behaviour, Behaviour::FreezesAt(at) if now >= at)
    }

    /// Notes a block that was kept; a digest for each block of the piece follows from these notes.
    pub(crate) fn note_block(&mut self, block: BlockRef, corrupt: bool) {
        if corrupt {
            self.corrupt.entry(block.piece).or_default().insert(block.begin);
        }
    }

    /// Whether the piece is corrupt, and what stands for the SHA-1 of each block.
    pub(crate) fn digests(&self, piece: PieceIndex) -> (bool, Vec<[u8; 20]>) {
        let bad = self.corrupt.get(&piece);
        let digest = |index: u32| {
            let begin = self.torrent.geometry().block(piece, index).begin;
            let is_bad = bad.is_some_and(|bad| bad.contains(&begin));
            let mut digest = [u8::from(is_bad); 20];
            digest[..4].copy_from_slice(&index.to_be_bytes());
            digest
        };
        (bad.is_some(), (0..self.torrent.geometry().blocks_in(piece)).map(digest).collect())
    }
}

//! What `lab` prints for scripts: newline-delimited JSON, each object with `event` and `t`.

use super::fault::Fault;
use super::peer::Peer;
use super::report::{PeerReport, Report};
use serde::Serialize;
use std::net::SocketAddr;

/// One event. Sizes are in bytes, rates in bytes/s.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Record<'a> {
    /// The swarm is about to start.
    LabStarted {
        source: &'a str,
        bytes_total: u64,
        peers: usize,
        seeds: usize,
        faults: &'a [Fault],
        /// Its URL; null if there is none.
        tracker: Option<&'a str>,
        /// The node that the DHT begins with; null if there is a tracker.
        node: Option<SocketAddr>,
    },
    /// A peer's process was started, for the `starts`th time.
    PeerStarted { peer: &'a str, starts: u32 },
    /// How a downloader stands, once a second.
    PeerProgress {
        peer: &'a str,
        state: &'a str,
        bytes_total: u64,
        bytes_verified: u64,
        rate_down: u64,
        rate_up: u64,
        peers: usize,
    },
    /// A peer banned another.
    PeerBanned { peer: &'a str, address: SocketAddr, reason: &'a str },
    /// A downloader was killed, and is started again.
    PeerKilled { peer: &'a str, bytes_verified: u64 },
    /// A downloader has everything.
    PeerComplete { peer: &'a str, seconds: f64 },
    /// The tracker has gone away.
    TrackerStopped {},
    /// What became of a downloader and its copy.
    PeerResult(&'a PeerReport),
    /// Every copy is complete and identical.
    LabComplete(&'a Report),
}

impl<'a> Record<'a> {
    /// How this downloader stands.
    pub fn progress(peer: &'a Peer) -> Record<'a> {
        let progress = &peer.progress;
        Record::PeerProgress {
            peer: &peer.name,
            state: peer.state_word(),
            bytes_total: progress.bytes_total,
            bytes_verified: progress.bytes_verified,
            rate_down: progress.rate_down,
            rate_up: progress.rate_up,
            peers: progress.peers,
        }
    }
}

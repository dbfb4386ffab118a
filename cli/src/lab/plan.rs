//! What a swarm is made of, and what came of it.

use super::fault::{Fault, assign};
use super::material::Material;
use super::network::Network;
use super::peer::{Peer, Role};
use std::path::Path;
use std::time::Duration;

/// The least time allowed, and the rate at which even a slow machine moves all copies together, in bytes/s.
const TIMEOUT_BASE: Duration = Duration::from_secs(60);
const RATE_EXPECTED_MIN: u64 = 4 * 1024 * 1024;

#[derive(Clone, Debug)]
pub struct Plan {
    pub peers: usize,
    pub seeds: usize,
    /// What goes wrong, each once.
    pub faults: Vec<Fault>,
    /// How long everything may take; scaled to the size if not given.
    pub timeout: Option<Duration>,
    /// Peers find each other by a DHT of their own instead of a tracker.
    pub trackerless: bool,
    /// A web server takes the source's place.
    pub web_seed: bool,
    /// Every connection is encrypted.
    pub encrypt: bool,
    /// Every connection is over uTP.
    pub utp: bool,
}

pub struct Outcome {
    /// The source first, if it is a peer.
    pub peers: Vec<Peer>,
    /// What the web server sent, if there was one.
    pub origin_sent: Option<u64>,
    /// From the first start to the last completion.
    pub elapsed: Duration,
    /// When the tracker stopped, if it did.
    pub tracker_down: Option<Duration>,
}

impl Plan {
    /// How long distributing so many bytes may take.
    pub fn allowance(&self, len: u64) -> Duration {
        let copies = (self.peers + self.seeds + 1) as u64;
        TIMEOUT_BASE + Duration::from_secs(len.saturating_mul(copies) / RATE_EXPECTED_MIN)
    }

    /// All peers, not started: the source, the other seeds, the downloaders, the poisoner.
    pub fn line_up(&self, material: &Material, scratch: &Path, network: &Network) -> Vec<Peer> {
        let mut peers = Vec::new();
        let mut add = |name: String, role: Role| {
            let dir = match role {
                Role::Downloader => scratch.join(name.replace(' ', "-")),
                Role::Source | Role::Seed | Role::Poisoner => material.dir.clone(),
            };
            let log = scratch.join(name.replace(' ', "-") + ".log");
            peers.push(Peer::new(name, role, network.peer(peers.len()), dir, log));
        };
        if !self.web_seed {
            add("source".to_owned(), Role::Source);
        }
        (1..=self.seeds).for_each(|n| add(format!("seed {n}"), Role::Seed));
        let first = usize::from(!self.web_seed) + self.seeds;
        (1..=self.peers).for_each(|n| add(format!("peer {n}"), Role::Downloader));
        if self.faults.contains(&Fault::CorruptPeer) {
            add("poisoner".to_owned(), Role::Poisoner);
        }
        for (peer, faults) in peers[first..].iter_mut().zip(assign(&self.faults, self.peers)) {
            peer.faults = faults;
        }
        peers
    }
}

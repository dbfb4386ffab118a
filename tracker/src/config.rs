//! What can be set about a tracker.

use std::time::Duration;

/// What can be set about a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How often peers are to announce. Replies add up to a sixteenth, at random.
    pub interval: Duration,
    /// How often peers may announce when they need others.
    pub min_interval: Duration,
    /// How long a peer is listed after its last announce. Longer than `interval`.
    pub peer_timeout: Duration,
    /// How many peers a client gets that does not say how many it wants.
    pub numwant_default: u32,
    /// How many peers a client gets at most.
    pub numwant_max: u32,
    /// Bounds on memory and connections.
    pub limits: Limits,
}

/// What keeps a tracker within its machine's means, whatever comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most swarms.
    pub swarms_max: usize,
    /// Most peers in one swarm, both address families together.
    pub peers_per_swarm_max: usize,
    /// Most peers in all swarms; one takes up to 64 bytes (IPv4).
    pub peers_max: usize,
    /// Most connections at a time; further ones wait to be accepted.
    pub connections_max: usize,
    /// How long a client may take for a request, from the connection or the last reply on.
    pub request_timeout: Duration,
    /// How long a client may take in none of a reply.
    pub reply_timeout: Duration,
    /// How long a stop waits for requests under way.
    pub stop_timeout: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            interval: Duration::from_secs(30 * 60),
            min_interval: Duration::from_secs(5 * 60),
            peer_timeout: Duration::from_secs(45 * 60),
            numwant_default: 50,
            numwant_max: 200,
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            swarms_max: 1_000_000,
            peers_per_swarm_max: 1_000_000,
            peers_max: 10_000_000,
            connections_max: 10_000,
            request_timeout: Duration::from_secs(15),
            reply_timeout: Duration::from_secs(15),
            stop_timeout: Duration::from_secs(5),
        }
    }
}

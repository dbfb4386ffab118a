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
    /// What replies name as `tracker id`, if anything.
    pub tracker_id: Option<String>,
    /// Where a client's address is taken from.
    pub source: Source,
    /// Most announces and scrapes a minute from one IPv4 address or IPv6 network of 64 bits.
    pub requests_per_minute_max: Option<u32>,
    /// Bounds on memory and connections.
    pub limits: Limits,
}

/// Where a client's address is taken from. Anything but the connection is for a tracker that only
/// its own proxy can reach: whoever else could connect would choose its address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Source {
    /// The connection.
    #[default]
    Connection,
    /// The last entry of `X-Forwarded-For`, which is the one that the proxy added.
    ForwardedFor,
    /// The PROXY protocol, version 1 or 2, at the start of each connection.
    ProxyProtocol,
}

/// What keeps a tracker within its machine's means, whatever comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most swarms; when there are so many, one of few announcers is evicted for a new one.
    pub swarms_max: usize,
    /// Most peers in one swarm, both address families together.
    pub peers_per_swarm_max: usize,
    /// Most peers in all swarms; one takes up to 64 bytes (IPv4).
    pub peers_max: usize,
    /// Most connections at a time; for a further one, whoever is idle or slow is evicted. Fewer where the
    /// process may not open so many files.
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
            tracker_id: None,
            source: Source::Connection,
            requests_per_minute_max: None,
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

//! The lab's network: addresses of its own, and where peers find each other.

use anyhow::{Context as _, Result};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use swarm_tracker::{Config, Handle, Server};

/// How often clients are to announce: peers that come and go are noticed quickly.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// How long the tracker waits for requests under way when it goes.
const TRACKER_STOP_TIMEOUT: Duration = Duration::from_millis(100);

/// The addresses of one lab: a network of its own within 127.0.0.0/8, so that two labs do not meet.
pub struct Network([u8; 2]);

impl Network {
    /// One that is hardly anybody else's.
    pub fn random() -> Result<Network> {
        let random = getrandom::u64().context("cannot get random bytes")?;
        let [a, b, ..] = random.to_le_bytes();
        // Away from 127.0.x.y, where other programs live.
        Ok(Network([a.max(1), b]))
    }

    /// The address of the `n`th peer, from 0.
    pub fn peer(&self, n: usize) -> SocketAddr {
        self.addr(n as u8 + 1)
    }

    /// Where the tracker, or the DHT's first node, listens.
    pub fn tracker(&self) -> SocketAddr {
        self.addr(254)
    }

    /// Where the web server listens.
    pub fn origin(&self) -> SocketAddr {
        self.addr(253)
    }

    fn addr(&self, last: u8) -> SocketAddr {
        let [a, b] = self.0;
        // Elsewhere only 127.0.0.1 exists unless somebody has set up more.
        let ip = if cfg!(target_os = "linux") { Ipv4Addr::new(127, a, b, last) } else { Ipv4Addr::LOCALHOST };
        SocketAddr::new(IpAddr::V4(ip), 0)
    }
}

#[derive(Clone, Debug)]
pub enum Meeting {
    /// The tracker of this URL.
    Tracker(String),
    /// The DHT that this node leads into.
    Dht(SocketAddr),
}

impl Meeting {
    pub fn arguments(&self) -> Vec<String> {
        match self {
            Meeting::Tracker(url) => vec!["--no-dht".to_owned(), "--tracker".to_owned(), url.clone()],
            Meeting::Dht(node) => vec!["--dht-bootstrap".to_owned(), node.to_string()],
        }
    }
}

pub fn start_tracker(network: &Network) -> Result<Handle> {
    let config = Config {
        interval: ANNOUNCE_INTERVAL,
        min_interval: ANNOUNCE_INTERVAL / 2,
        limits: swarm_tracker::Limits { stop_timeout: TRACKER_STOP_TIMEOUT, ..Default::default() },
        ..Config::default()
    };
    Ok(Server::bind(config, &[network.tracker()])?.spawn())
}

//! What `seed` and `get` print for scripts, and `lab` reads: newline-delimited JSON, each object with `event`
//! and `t`. docs/json.md is the contract.

use crate::exit::Exit;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use swarm_core::id::InfoHash;
use swarm_core::torrent::Totals;
use swarm_engine::WebSeedStats;

/// One event. Rates are in bytes/s, sizes in bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Record<'a> {
    /// The command starts with this SOURCE.
    Started {
        /// SOURCE as given.
        source: &'a str,
        /// The folder of the data.
        dir: &'a str,
    },
    /// What the torrent is.
    Metadata {
        /// SOURCE as given.
        source: &'a str,
        name: &'a str,
        info_hash_v1: Option<String>,
        info_hash_v2: Option<String>,
        piece_length: u32,
        pieces: u32,
        total_size: u64,
        /// Number of files, pad files left out.
        files: usize,
    },
    /// How the search for the metadata of a link goes, once a second.
    Fetching {
        peers: usize,
        /// Why nothing comes; null while a peer offers the metadata.
        waiting: Option<String>,
    },
    /// Where peers can reach us.
    Listening { addresses: &'a [SocketAddr] },
    /// The gateway passes on to us what comes for a port of its own.
    PortMapped {
        /// `tcp` or `udp`.
        transport: &'a str,
        port: u16,
        method: &'a str,
        address: Option<IpAddr>,
        external_port: u16,
    },
    /// It passes on nothing.
    PortNotMapped { transport: &'a str, port: u16, reason: &'a str },
    /// An IP filter is in force.
    IpFilter {
        ranges: usize,
        /// Lines of its file that say nothing.
        bad_lines: u64,
    },
    /// What the IP filter has refused since the start.
    IpFilterBlocked { incoming: u64, addresses: u64, trackers: u64 },
    /// Other files on this machine have been looked at.
    Reused {
        /// Bytes of the wanted files that came from them, verified.
        bytes: u64,
        bytes_total: u64,
        /// Of `bytes`, those that take no space of their own.
        bytes_cloned: u64,
        /// The folders and files that they came from.
        from: &'a [String],
    },
    /// A file of the torrent can be played while it is downloaded.
    Stream {
        /// The file, the torrent's name first.
        path: &'a str,
        /// Where, on this machine.
        address: &'a str,
    },
    /// Existing data is known; peers are welcome.
    Checked { pieces_have: u32, pieces: u32 },
    /// How it goes, at most once a second.
    Progress(&'a Progress),
    /// A piece did not verify and is downloaded again.
    PieceFailed { piece: u32 },
    /// A peer lied and is banned.
    PeerBanned { address: SocketAddr, reason: &'a str },
    /// A connection came about by holepunching.
    Holepunched { address: SocketAddr, relay: SocketAddr },
    /// A peer could not be met by it.
    HolepunchFailed { address: SocketAddr, relay: SocketAddr, reason: &'a str },
    /// Something is wrong with a web seed, or with one of its files. The transfer goes on.
    WebSeedFault {
        /// The web seed, as it was named.
        url: &'a str,
        /// The file's path in the torrent; null if it is about the URL.
        file: Option<&'a str>,
        reason: &'a str,
        /// What that costs: `paused`, `dropped`, `file_paused`, `file_dropped`.
        penalty: &'a str,
        /// How long the pause is, in seconds; null if it is none.
        retry_in: Option<f64>,
    },
    /// Something is not as it should be, and the transfer goes on.
    Warning { message: &'a str },
    /// Another program has changed a file. It is not sent until it has been checked again.
    FileChanged { path: &'a str },
    /// Pieces in this file are bad now. They are no longer offered.
    DataBad {
        path: &'a str,
        pieces: u32,
        /// Whether some of them are downloaded again.
        refetched: bool,
    },
    /// A piece in this file was bad, and has been fetched again.
    DataMended { path: &'a str, piece: u32 },
    /// The disk takes no more data; the transfer waits.
    DiskStalled {
        reason: &'a str,
        /// Whether it is full; else it fails, and is tried again.
        full: bool,
    },
    /// The disk takes data again.
    DiskResumed,
    /// Everything wanted is verified and in place.
    Complete {
        path: &'a str,
        seconds: f64,
        #[serde(flatten)]
        traffic: &'a Traffic,
    },
    /// Seeding has ended.
    Stopped {
        reason: &'a str,
        seconds: f64,
        #[serde(flatten)]
        traffic: &'a Traffic,
    },
    /// It did not work out.
    Failed {
        /// The SOURCE that this is about, as given; null if it is about none.
        source: Option<&'a str>,
        kind: Exit,
        message: &'a str,
    },
    /// The last event of a command with several torrents.
    Summary {
        torrents: usize,
        /// Of these, how many had everything that was wanted of them.
        complete: usize,
        failed: usize,
        seconds: f64,
        bytes_down: u64,
        bytes_up: u64,
        /// The exit status: the highest of all torrents'.
        status: u8,
    },
}

/// How a torrent stands. Bytes are of the wanted files.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Progress {
    pub bytes_total: u64,
    pub bytes_verified: u64,
    /// Received of pieces that are not verified yet; `bytes_verified` does not count them.
    pub bytes_unverified: u64,
    pub pieces_have: u32,
    pub pieces: u32,
    pub rate_down: u64,
    pub rate_up: u64,
    pub bytes_down: u64,
    pub bytes_up: u64,
    pub bytes_wasted: u64,
    pub peers: usize,
    pub seeds: usize,
    /// Why nothing moves; null while something does, or nothing needs to.
    pub waiting: Option<String>,
    /// What the gateway does for us; for people only.
    #[serde(skip)]
    pub reach: Option<String>,
}

impl Progress {
    pub fn add(&mut self, other: &Progress) {
        self.bytes_total += other.bytes_total;
        self.bytes_verified += other.bytes_verified;
        self.bytes_unverified += other.bytes_unverified;
        self.rate_down += other.rate_down;
        self.rate_up += other.rate_up;
        self.bytes_down += other.bytes_down;
        self.bytes_up += other.bytes_up;
        self.peers += other.peers;
        self.seeds += other.seeds;
    }

    pub fn is_complete(&self) -> bool {
        self.bytes_verified >= self.bytes_total
    }
}

/// Which torrent an event is about, as far as is known.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// SOURCE as given.
    pub source: Option<String>,
    pub info_hash: Option<InfoHash>,
}

/// What has been received and sent, in bytes of payload.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Traffic {
    pub bytes_down: u64,
    pub bytes_up: u64,
    /// Received and dropped: twice asked for, no longer wanted, or never asked for.
    pub bytes_wasted: u64,
    /// Received in pieces that did not verify.
    pub bytes_corrupt: u64,
    pub pieces_failed: u64,
    /// What each peer had part in, in the order of addresses.
    pub peers: Vec<PeerTraffic>,
    /// What has come from each web seed since the torrent was last started.
    pub web_seeds: Vec<WebSeedTraffic>,
}

/// What has come from one web seed, in bytes of payload.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct WebSeedTraffic {
    /// As it was named.
    pub url: String,
    pub bytes_down: u64,
    /// Requests that it has answered.
    pub requests: u64,
}

/// What has come from and gone to one peer, in bytes of payload.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct PeerTraffic {
    /// Where it listens, if known.
    pub address: SocketAddr,
    pub bytes_down: u64,
    pub bytes_up: u64,
}

impl Traffic {
    /// The sums, and what each peer had part in: by address, received and sent.
    pub fn new(
        totals: Totals,
        peers: BTreeMap<SocketAddr, (u64, u64)>,
        web_seeds: &[WebSeedStats],
    ) -> Traffic {
        let Totals { bytes_down, bytes_up, bytes_wasted, bytes_corrupt, pieces_failed } = totals;
        let peers = peers.into_iter();
        let peers = peers
            .map(|(address, (bytes_down, bytes_up))| PeerTraffic { address, bytes_down, bytes_up })
            .collect();
        let of_web_seed = |seed: &WebSeedStats| WebSeedTraffic {
            url: seed.url.clone(),
            bytes_down: seed.bytes_down,
            requests: seed.requests,
        };
        let web_seeds = web_seeds.iter().map(of_web_seed).collect();
        Traffic { bytes_down, bytes_up, bytes_wasted, bytes_corrupt, pieces_failed, peers, web_seeds }
    }
}

/// A record and when it was made.
#[derive(Serialize)]
pub struct Stamped<'a, R> {
    #[serde(flatten)]
    record: &'a R,
    /// The torrent's, null if it is not known; left out where no torrent can be meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    info_hash: Option<Option<String>>,
    /// Seconds since the start, to the millisecond.
    t: f64,
}

impl<'a, R: Serialize> Stamped<'a, R> {
    /// The record as of now, for a command that began at `start`.
    pub fn now(record: &'a R, start: Instant) -> Stamped<'a, R> {
        Stamped { record, info_hash: None, t: seconds(start.elapsed()) }
    }

    /// The same for a record about a torrent.
    pub fn about(about: &About, record: &'a R, start: Instant) -> Stamped<'a, R> {
        let info_hash = about.info_hash.map(|hash| hash.to_string());
        Stamped { info_hash: Some(info_hash), ..Stamped::now(record, start) }
    }
}

/// A duration in seconds, to the millisecond.
pub fn seconds(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_has_its_event_and_time() {
        let start = Instant::now();
        let failed = Record::Failed { source: None, kind: Exit::Data, message: "no" };
        let json = serde_json::to_value(Stamped::about(&About::default(), &failed, start)).unwrap();
        assert_eq!((&json["event"], &json["kind"]), (&"failed".into(), &"data".into()));
        assert!(json["t"].is_f64() && json["info_hash"].is_null());
        assert!(json.as_object().unwrap().contains_key("info_hash"));
        let json = serde_json::to_value(Stamped::now(&Record::DiskResumed, start)).unwrap();
        assert_eq!(json["event"], "disk_resumed");
        assert!(!json.as_object().unwrap().contains_key("info_hash"));
    }
}

//! What a listed peer costs, measured from outside.
#![cfg(target_os = "linux")]

use std::net::{IpAddr, Ipv4Addr};

use swarm_core::id::{InfoHash, PeerId};
use swarm_core::rng::Rng;
use swarm_core::time::Time;
use swarm_core::tracker::{AnnounceRequest, PeerFormat};
use swarm_tracker::Config;
use swarm_tracker::store::Store;

const SWARMS: u32 = 10_000;
const PEERS: u32 = 1_000_000;
/// With everything: swarms, lookup tables, room to grow, the allocator's own needs.
const BYTES_PER_PEER_MAX: u64 = 100;

/// This process's anonymous memory, in bytes.
fn anonymous_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("it has a line");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1024
}

// The only test of this file, so that nothing else in the process takes memory meanwhile.
#[test]
fn a_million_peers_take_at_most_a_hundred_bytes_each() {
    let store = Store::new(Config::default());
    let mut rng = Rng::new(1);
    let hashes: Vec<InfoHash> = (0..SWARMS)
        .map(|_| {
            let mut hash = [0; 20];
            rng.fill(&mut hash);
            InfoHash(hash)
        })
        .collect();
    let before = anonymous_memory();
    for n in 0..PEERS {
        let mut peer_id = [0; 20];
        rng.fill(&mut peer_id);
        let request = AnnounceRequest {
            info_hash: hashes[(n % SWARMS) as usize],
            peer_id: PeerId(peer_id),
            port: 6881,
            uploaded: 0,
            downloaded: 0,
            left: u64::from(n % 3),
            event: None,
            numwant: Some(0),
            format: PeerFormat::Compact,
            key: None,
            tracker_id: None,
        };
        let source = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n));
        store.announce(Time::ZERO, &mut rng, &request, source).expect("there is room");
    }
    let each = (anonymous_memory() - before) / u64::from(PEERS);
    assert_eq!(store.stats().seeds + store.stats().leechers, PEERS as usize);
    println!("{each} bytes for each peer");
    assert!(each <= BYTES_PER_PEER_MAX, "{each} bytes for each peer");
}

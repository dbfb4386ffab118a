//! The example of a driver with threads and blocking sockets: one instance downloads from another.

#[path = "../examples/blocking.rs"]
mod blocking;

use blocking::Driver;
use sha1::{Digest, Sha1};
use std::net::{Ipv4Addr, TcpListener};
use swarm_core::id::PeerId;
use swarm_core::metainfo::{Content, Create, FileAttr, Hashes};
use swarm_core::torrent::Torrent;

#[test]
fn blocking_driver_downloads_from_another_over_tcp() {
    let dir = std::env::temp_dir().join(format!("swarm-blocking-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let data: Vec<u8> = (0..1_000_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    let hashes: Vec<u8> = data.chunks(65_536).flat_map(|piece| Sha1::digest(piece).to_vec()).collect();
    let create = Create::new(
        "data".to_owned(),
        Content::File { length: data.len() as u64, attr: FileAttr::default() },
        65_536,
    );
    let (torrent, whole, copy) = (dir.join("t"), dir.join("whole"), dir.join("copy"));
    std::fs::write(&torrent, create.encode(Hashes::v1(&hashes)).unwrap()).unwrap();
    std::fs::write(&whole, &data).unwrap();

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut seed = Driver::open(&torrent, &whole, PeerId(*b"-XX0001-blocking0001")).unwrap();
    let mut leecher = Driver::open(&torrent, &copy, PeerId(*b"-XX0001-blocking0002")).unwrap();
    seed.listen(listener);
    leecher.add_peer(addr);
    std::thread::spawn(move || seed.run(|_| false).map_err(|e| e.to_string()));
    leecher.run(Torrent::is_complete).unwrap();
    assert!(std::fs::read(&copy).unwrap() == data);
    std::fs::remove_dir_all(&dir).unwrap();
}

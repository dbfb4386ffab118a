//! Sessions over uTP, on loopback. The protocol itself is tested in the core; here, that sessions dial, accept and transfer by it.

mod common;

use common::{get, publish, same_tree, seed, session_on};
use std::time::Duration;
use swarm_engine::{Encryption, PeerStats, Session, SessionOptions, TorrentHandle};
use tempfile::TempDir;

fn session(options: impl FnOnce(SessionOptions) -> SessionOptions) -> Session {
    session_on("127.0.0.1", options)
}

/// The torrent's first peer, once it has one.
async fn peer_of(torrent: &TorrentHandle) -> PeerStats {
    loop {
        if let Some(peer) = torrent.stats().await.unwrap().peer_list.pop() {
            return peer;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn sessions_exchange_data_over_the_transport_that_both_have() {
    let source = TempDir::new().unwrap();
    // A file that is mapped, some that are not, and a piece that lies in several.
    let metainfo =
        publish(source.path(), &[("a.bin", 20_000_000), ("b/c.bin", 30_001), ("z.bin", 1)], 65_536);
    const BOTH: (bool, bool) = (true, true);
    const TCP: (bool, bool) = (true, false);
    const UTP: (bool, bool) = (false, true);
    use Encryption::{Allow, Require};
    for (dials, accepts, encryption, over_utp) in [
        (UTP, UTP, Allow, true),
        (UTP, UTP, Require, true),
        (BOTH, BOTH, Allow, false),
        (BOTH, UTP, Allow, true),
        (BOTH, TCP, Allow, false),
        (UTP, BOTH, Allow, true),
        (TCP, BOTH, Allow, false),
    ] {
        let target = TempDir::new().unwrap();
        let with = |(tcp, utp)| session(|options| options.tcp(tcp).utp(utp).encryption(encryption));
        let (seeder, getter) = (with(accepts), with(dials));
        let seeding = seed(&seeder, &metainfo, source.path()).await;
        let download = get(&metainfo, target.path(), &[&seeder]).download_limit(0);
        let torrent = getter.add(download).await.unwrap();
        let manner = format!("{dials:?} to {accepts:?}, {encryption:?}");
        assert_eq!(peer_of(&torrent).await.utp, over_utp, "{manner}");
        let peer = peer_of(&seeding).await;
        assert_eq!((peer.utp, peer.inbound), (over_utp, true), "{manner}");
        assert_eq!(peer.encryption.is_some(), encryption == Require, "{manner}");
        torrent.set_upload_limit(None);
        torrent.set_download_limit(None);
        torrent.completed().await.unwrap();
        same_tree(&source.path().join("data"), &target.path().join("data"));
    }
}

/// Nine sessions, one seed: connections of one socket do not mix, and uploads go both ways.
#[tokio::test]
async fn many_streams_share_a_socket() {
    let source = TempDir::new().unwrap();
    let metainfo = publish(source.path(), &[("a.bin", 3_000_000)], 32_768);
    let only_utp = || session(|options| options.tcp(false));
    let seeder = only_utp();
    seed(&seeder, &metainfo, source.path()).await;
    let mut getters: Vec<(Session, TempDir, TorrentHandle)> = Vec::new();
    for _ in 0..8 {
        let (getter, target) = (only_utp(), TempDir::new().unwrap());
        let peers: Vec<&Session> = getters.iter().map(|(getter, ..)| getter).chain([&seeder]).collect();
        let torrent = getter.add(get(&metainfo, target.path(), &peers)).await.unwrap();
        getters.push((getter, target, torrent));
    }
    for (_, target, torrent) in &getters {
        torrent.completed().await.unwrap();
        same_tree(&source.path().join("data"), &target.path().join("data"));
    }
}

/// The peer is told, and does not have to wait until it notices.
#[tokio::test]
async fn who_stops_closes_its_streams() {
    let source = TempDir::new().unwrap();
    let metainfo = publish(source.path(), &[("a.bin", 1_000_000)], 32_768);
    for whole_session in [false, true] {
        let only_utp = || session(|options| options.tcp(false));
        let (seeder, getter) = (only_utp(), only_utp());
        let seeding = seed(&seeder, &metainfo, source.path()).await;
        let target = TempDir::new().unwrap();
        let torrent = getter.add(get(&metainfo, target.path(), &[&seeder]).download_limit(0)).await.unwrap();
        peer_of(&seeding).await;
        match whole_session {
            true => getter.stop().await,
            false => torrent.stop().await.unwrap(),
        }
        let closed = async {
            while !seeding.stats().await.unwrap().peer_list.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), closed).await.expect("the connection ends");
    }
}

#[tokio::test]
async fn without_any_transport_there_is_no_session() {
    let error = Session::start(SessionOptions::new().tcp(false).utp(false)).unwrap_err();
    assert!(error.to_string().contains("no way to a peer"), "{error}");
}

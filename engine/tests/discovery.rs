//! Sessions that find each other without tracker or DHT: through each other (BEP 11), and on the local network (BEP 14).

mod common;

use common::{FILES, get, publish, same_tree, seed, session_on};
use std::sync::Arc;
use std::time::Duration;
use swarm_core::metainfo::Metainfo;
use swarm_engine::{AddTorrent, Session};
use tempfile::TempDir;

for_both_families![a_peer_tells_of_the_seed, private_torrents_peers_tell_nobody, without_it_nobody_tells];

/// Longer than it takes until somebody is told of a peer: what has not happened by then does not happen.
const SOON: Duration = Duration::from_secs(8);
/// So long that a slow machine can do it.
const LONG: Duration = Duration::from_secs(60);

/// A seed, somebody for whom it takes minutes to download from it, and a third who knows only that one. Whether the third
/// gets everything in this time, which takes the seed.
async fn is_told(ip: &str, is_private: bool, pex: bool, time: Duration) -> bool {
    let (source, targets) = (TempDir::new().unwrap(), [0; 2].map(|_| TempDir::new().unwrap()));
    let mut metainfo = Metainfo::clone(&publish(source.path(), FILES, 65_536));
    Arc::make_mut(&mut metainfo.info).private = is_private;
    let metainfo = Arc::new(metainfo);
    let [seeder, between, getter] = [0; 3].map(|_| session_on(ip, |options| options.pex(pex)));
    let _seed = seed(&seeder, &metainfo, source.path()).await;
    let slow = get(&metainfo, targets[0].path(), &[&seeder]);
    let _between = between.add(slow.download_limit(Some(10_000))).await.unwrap();
    let torrent = getter.add(get(&metainfo, targets[1].path(), &[&between])).await.unwrap();
    tokio::time::timeout(time, torrent.completed()).await.is_ok()
}

async fn a_peer_tells_of_the_seed(ip: &str) {
    assert!(is_told(ip, false, true, LONG).await);
}

async fn private_torrents_peers_tell_nobody(ip: &str) {
    assert!(!is_told(ip, true, true, SOON).await);
}

async fn without_it_nobody_tells(ip: &str) {
    assert!(!is_told(ip, false, false, SOON).await);
}

fn local(ip: &str) -> Session {
    session_on(ip, |options| options.lsd(true))
}

/// Files that no other test has: on the local network all tests meet.
const OURS: &[(&str, usize)] = &[("found locally", 333_333)];

// Over IPv6, loopback has no multicast: `.ci/interop/test_lsd.py` tries that.
#[tokio::test]
async fn the_local_network_tells_of_peers() {
    let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let metainfo = publish(source.path(), OURS, 65_536);
    let (seeder, getter) = (local("127.0.0.1"), local("127.0.0.1"));
    seed(&seeder, &metainfo, source.path()).await;
    let torrent = AddTorrent::download(metainfo.magnet(), target.path());
    getter.add(torrent).await.unwrap().completed().await.unwrap();
    same_tree(&source.path().join("data"), &target.path().join("data"));
}

#[tokio::test]
async fn private_torrents_are_not_announced_locally() {
    let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let public = publish(source.path(), &[("found locally too", 333_334)], 65_536);
    let mut private = Metainfo::clone(&public);
    Arc::make_mut(&mut private.info).private = true;
    let (seeder, getter) = (local("127.0.0.1"), local("127.0.0.1"));
    seed(&seeder, &Arc::new(private), source.path()).await;
    let torrent = getter.add(AddTorrent::download(public, target.path())).await.unwrap();
    let found = tokio::time::timeout(Duration::from_secs(2), torrent.completed()).await;
    assert!(found.is_err(), "neither announced, nor looked for when others announce it");
}

//! Sessions that find each other by the DHT alone, over loopback.

mod common;

use common::{FILES, publish, same_tree, session_on};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use swarm_core::metainfo::Metainfo;
use swarm_engine::dht::Dht;
use swarm_engine::{AddTorrent, DhtOptions, Session};
use tempfile::TempDir;

for_both_families![
    a_download_finds_its_seed,
    the_metainfo_names_nodes_to_start_from,
    a_peer_shows_the_way_into_the_dht,
    private_torrents_stay_out_of_the_dht,
    known_nodes_are_remembered,
];

fn session(ip: &str, bootstrap: &[SocketAddr]) -> Session {
    let bootstrap = bootstrap.iter().map(SocketAddr::to_string).collect();
    session_on(ip, |options| options.dht = Some(DhtOptions { bootstrap }))
}

/// Runs a node by itself beside `what`, which is given its address.
async fn beside_a_node<F: Future>(ip: &str, what: impl FnOnce(SocketAddr) -> F) -> (F::Output, Dht) {
    let node = Dht::open(&[SocketAddr::new(ip.parse().unwrap(), 0)], None, false).unwrap();
    let addr = node.families().find_map(|family| node.local_addr(family)).unwrap();
    let output = tokio::select! {
        output = what(addr) => output,
        () = node.run(|_| ()) => unreachable!("it has no end"),
    };
    (output, node)
}

async fn seed(session: &Session, metainfo: &Arc<Metainfo>, dir: &TempDir) {
    let torrent = session.add(AddTorrent::seed(Arc::clone(metainfo), dir.path())).await.unwrap();
    torrent.completed().await.unwrap();
}

async fn download(session: &Session, metainfo: &Arc<Metainfo>, dir: &TempDir) {
    let torrent = session.add(AddTorrent::download(Arc::clone(metainfo), dir.path())).await.unwrap();
    torrent.completed().await.unwrap();
}

async fn a_download_finds_its_seed(ip: &str) {
    let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let metainfo = publish(source.path(), FILES, 65_536);
    beside_a_node(ip, async |node| {
        let (seeder, getter) = (session(ip, &[node]), session(ip, &[node]));
        seed(&seeder, &metainfo, &source).await;
        download(&getter, &metainfo, &target).await;
    })
    .await;
    same_tree(&source.path().join("data"), &target.path().join("data"));
}

async fn the_metainfo_names_nodes_to_start_from(ip: &str) {
    let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let metainfo = publish(source.path(), FILES, 65_536);
    beside_a_node(ip, async |node| {
        let nodes = vec![(node.ip().to_string(), node.port())];
        let metainfo = Arc::new(Metainfo { nodes, ..Metainfo::clone(&metainfo) });
        let (seeder, getter) = (session(ip, &[]), session(ip, &[]));
        seed(&seeder, &metainfo, &source).await;
        download(&getter, &metainfo, &target).await;
    })
    .await;
}

async fn a_peer_shows_the_way_into_the_dht(ip: &str) {
    let (sources, targets) =
        ([0; 2].map(|_| TempDir::new().unwrap()), [0; 2].map(|_| TempDir::new().unwrap()));
    let known = publish(sources[0].path(), FILES, 65_536);
    let found = publish(sources[1].path(), &FILES[..1], 32_768);
    let (seeder, getter) = (session(ip, &[]), session(ip, &[]));
    seed(&seeder, &known, &sources[0]).await;
    seed(&seeder, &found, &sources[1]).await;
    // Nobody tells where to find the second torrent, or any node.
    let peers = seeder.listen_addrs().to_vec();
    let torrent = AddTorrent { peers, ..AddTorrent::download(known, targets[0].path()) };
    getter.add(torrent).await.unwrap().completed().await.unwrap();
    download(&getter, &found, &targets[1]).await;
}

async fn private_torrents_stay_out_of_the_dht(ip: &str) {
    let (sources, target) = ([0; 2].map(|_| TempDir::new().unwrap()), TempDir::new().unwrap());
    let mut private = Metainfo::clone(&publish(sources[0].path(), &FILES[..1], 32_768));
    private.info.private = true;
    let private = Arc::new(private);
    let public = publish(sources[1].path(), FILES, 65_536);
    let ((), node) = beside_a_node(ip, async |node| {
        let (seeder, getter) = (session(ip, &[node]), session(ip, &[node]));
        seed(&seeder, &private, &sources[0]).await;
        seed(&seeder, &public, &sources[1]).await;
        download(&getter, &public, &target).await;
    })
    .await;
    let (_, swarms) = node.with(|node, _| node.stored());
    assert_eq!(swarms, 1, "the private one began before the other");
}

async fn known_nodes_are_remembered(ip: &str) {
    let (source, target, state) = (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let metainfo = publish(source.path(), FILES, 65_536);
    let with_state = |bootstrap: &[SocketAddr]| {
        let bootstrap = bootstrap.iter().map(SocketAddr::to_string).collect();
        session_on(ip, |options| {
            options.dht = Some(DhtOptions { bootstrap });
            options.state_dir = Some(state.path().to_owned());
        })
    };
    beside_a_node(ip, async |node| {
        let seeder = session(ip, &[node]);
        seed(&seeder, &metainfo, &source).await;
        let getter = with_state(&[node]);
        download(&getter, &metainfo, &target).await;
        getter.stop().await;
        let target = TempDir::new().unwrap();
        download(&with_state(&[]), &metainfo, &target).await;
    })
    .await;
}

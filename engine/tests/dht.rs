//! Sessions that find each other by the DHT alone, over loopback.

mod common;

use common::session_with_dht as session;
use common::{FILES, publish, same_tree, seed, session_on};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use swarm_core::dht::{Event, Item, MutableTorrentLink, mutable_torrent_value};
use swarm_core::id::InfoHash;
use swarm_core::metainfo::Metainfo;
use swarm_core::net::Family;
use swarm_engine::dht::Dht;
use swarm_engine::{AddTorrent, DhtOptions, Error, Session};
use tempfile::TempDir;
use tokio::sync::Notify;

for_both_families![
    a_download_finds_its_seed,
    the_metainfo_names_nodes_to_start_from,
    a_peer_shows_the_way_into_the_dht,
    private_torrents_stay_out_of_the_dht,
    known_nodes_are_remembered,
    a_mutable_torrent_is_resolved_to_its_newest,
];

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

async fn download(session: &Session, metainfo: &Arc<Metainfo>, dir: &TempDir) {
    let torrent = session.add(AddTorrent::download(Arc::clone(metainfo), dir.path())).await.unwrap();
    torrent.completed().await.unwrap();
}

async fn a_download_finds_its_seed(ip: &str) {
    let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let metainfo = publish(source.path(), FILES, 65_536);
    beside_a_node(ip, async |node| {
        let (seeder, getter) = (session(ip, &[node]), session(ip, &[node]));
        seed(&seeder, &metainfo, source.path()).await;
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
        seed(&seeder, &metainfo, source.path()).await;
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
    seed(&seeder, &known, sources[0].path()).await;
    seed(&seeder, &found, sources[1].path()).await;
    // Nobody tells where to find the second torrent, or any node.
    let peers = seeder.listen_addrs().to_vec();
    let torrent = AddTorrent::download(known, targets[0].path()).peers(peers);
    getter.add(torrent).await.unwrap().completed().await.unwrap();
    download(&getter, &found, &targets[1]).await;
}

async fn private_torrents_stay_out_of_the_dht(ip: &str) {
    let (sources, target) = ([0; 2].map(|_| TempDir::new().unwrap()), TempDir::new().unwrap());
    let mut private = Metainfo::clone(&publish(sources[0].path(), &FILES[..1], 32_768));
    Arc::make_mut(&mut private.info).private = true;
    let private = Arc::new(private);
    let public = publish(sources[1].path(), FILES, 65_536);
    let ((), node) = beside_a_node(ip, async |node| {
        let (seeder, getter) = (session(ip, &[node]), session(ip, &[node]));
        seed(&seeder, &private, sources[0].path()).await;
        seed(&seeder, &public, sources[1].path()).await;
        download(&getter, &public, &target).await;
    })
    .await;
    let (_, swarms) = node.stored();
    assert_eq!(swarms, 1, "the private one began before the other");
}

async fn known_nodes_are_remembered(ip: &str) {
    let (source, target, state) = (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let metainfo = publish(source.path(), FILES, 65_536);
    let with_state = |bootstrap: &[SocketAddr]| {
        let bootstrap = bootstrap.iter().map(SocketAddr::to_string);
        session_on(ip, |options| options.dht(DhtOptions::bootstrap(bootstrap)).state_dir(state.path()))
    };
    beside_a_node(ip, async |node| {
        let seeder = session(ip, &[node]);
        seed(&seeder, &metainfo, source.path()).await;
        let getter = with_state(&[node]);
        download(&getter, &metainfo, &target).await;
        getter.stop().await;
        let target = TempDir::new().unwrap();
        download(&with_state(&[]), &metainfo, &target).await;
    })
    .await;
}

#[tokio::test]
async fn a_session_has_a_node_for_each_address() {
    let source = TempDir::new().unwrap();
    let metainfo = publish(source.path(), &FILES[..1], 32_768);
    let listen: Vec<SocketAddr> = ["127.0.0.1:0", "127.0.0.2:0"].map(|addr| addr.parse().unwrap()).into();
    let seen = beside_a_node("127.0.0.1", async |node| {
        let session = session_on("127.0.0.1", |options| {
            options.listen(listen).dht(DhtOptions::bootstrap([node.to_string()]))
        });
        seed(&session, &metainfo, source.path()).await;
        let asking = Dht::open(&["127.0.0.1:0".parse().unwrap()], None, true).unwrap();
        let found = RefCell::new(BTreeSet::new());
        let all = Notify::new();
        let ask = async {
            asking.join(&[node.to_string()]).await;
            loop {
                let hash = metainfo.info.info_hash;
                asking.get_peers(Family::V4, hash);
                let soon = tokio::time::timeout(Duration::from_millis(200), all.notified()).await;
                if soon.is_ok() {
                    return;
                }
            }
        };
        let on_event = |event| {
            if let Event::Peers { peers, .. } = event {
                found.borrow_mut().extend(peers);
                if found.borrow().len() == 2 {
                    all.notify_one();
                }
            }
        };
        tokio::select! {
            () = ask => {}
            () = asking.run(on_event) => unreachable!("it has no end"),
        }
        let listening: BTreeSet<SocketAddr> = session.listen_addrs().iter().copied().collect();
        assert_eq!(found.into_inner(), listening);
    });
    tokio::time::timeout(Duration::from_secs(60), seen).await.expect("both are announced");
}

/// Has the node keep an item.
async fn put(ip: &str, node: SocketAddr, item: &Item) {
    let publisher = Dht::open(&[SocketAddr::new(ip.parse().unwrap(), 0)], None, true).unwrap();
    let kept = Notify::new();
    let put = async {
        publisher.join(&[node.to_string()]).await;
        for family in publisher.families() {
            publisher.put_item(family, item.clone(), None);
        }
        kept.notified().await;
    };
    let on_event = |event| {
        if matches!(event, Event::Done { stored: 1.., .. }) {
            kept.notify_one();
        }
    };
    tokio::select! {
        () = put => {}
        () = publisher.run(on_event) => unreachable!("it has no end"),
    }
}

async fn a_mutable_torrent_is_resolved_to_its_newest(ip: &str) {
    let version = |seq, value| Item::signed(&[3; 32], b"salt".to_vec(), seq, value);
    let [old, new] = [1, 2].map(|seq| version(seq, mutable_torrent_value(InfoHash([seq as u8; 20]))));
    let link = MutableTorrentLink::of(&old).unwrap();
    beside_a_node(ip, async |node| {
        let getter = session(ip, &[node]);
        put(ip, node, &old).await;
        assert_eq!(getter.resolve(link.clone()).await.unwrap(), InfoHash([1; 20]));
        put(ip, node, &new).await;
        assert_eq!(getter.resolve(link.clone()).await.unwrap(), InfoHash([2; 20]));
        put(ip, node, &version(3, b"5:hello".to_vec())).await;
        assert!(matches!(getter.resolve(link.clone()).await, Err(Error::NotMutable)));
    })
    .await;
    let without = session_on(ip, |options| options);
    assert!(matches!(without.resolve(link).await, Err(Error::NoDht)));
}

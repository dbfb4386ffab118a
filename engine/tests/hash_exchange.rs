//! Torrents of version 2 (BEP 52) over loopback: hashes that come from peers.

mod common;

use common::{FILES, get, same_tree, seed, session, stats_until, until};
use std::path::Path;
use std::sync::Arc;
use swarm_core::metainfo::{Create, Format, Magnet, Metainfo};
use swarm_engine::create::{self, WalkOptions};
use swarm_engine::{AddTorrent, Event, Waiting};
use tempfile::TempDir;

for_both_families![
    a_link_gets_its_piece_layers_from_peers,
    a_metainfo_file_without_piece_layers_gets_them_from_peers,
    piece_layers_are_waited_for_and_said_to_be,
    a_bad_block_costs_a_block,
];

const PIECE_LENGTH: u32 = 65_536;

/// A folder `data` with files below `dir`, and its metainfo in this format.
fn publish(dir: &Path, format: Format, files: &[(&str, usize)], piece_length: u32) -> Arc<Metainfo> {
    // For the files alone.
    common::publish(dir, files, piece_length);
    let mut source = create::walk(&dir.join("data"), &WalkOptions::default()).unwrap();
    source.arrange(format, piece_length);
    let hashed = create::hash(&source, format, piece_length, 2, &|_| ()).unwrap();
    let mut create = Create::new("data".to_owned(), source.content.clone(), piece_length);
    create.format = format;
    Arc::new(Metainfo::parse(&create.encode(hashed.hashes()).unwrap()).unwrap())
}

async fn a_link_gets_its_piece_layers_from_peers(ip: &str) {
    for format in [Format::V2, Format::Hybrid] {
        let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let metainfo = publish(source.path(), format, FILES, PIECE_LENGTH);
        assert_eq!(metainfo.info.format(), format);
        let (seeder, getter) = (session(ip), session(ip));
        seed(&seeder, &metainfo, source.path()).await;
        let peers = seeder.listen_addrs().to_vec();
        let magnet: Magnet = metainfo.magnet();
        let torrent = AddTorrent::download(magnet, target.path()).peers(peers);
        let torrent = getter.add(torrent).await.unwrap();
        torrent.completed().await.unwrap();
        assert_eq!(torrent.metainfo().unwrap().info, metainfo.info, "{format:?}");
        same_tree(&source.path().join("data"), &target.path().join("data"));
    }
}

async fn a_metainfo_file_without_piece_layers_gets_them_from_peers(ip: &str) {
    let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let metainfo = publish(source.path(), Format::V2, FILES, PIECE_LENGTH);
    let bare = Metainfo::from_magnet(&metainfo.magnet(), &metainfo.info_bytes).unwrap();
    assert!(!bare.info.can_verify());
    let (seeder, getter) = (session(ip), session(ip));
    seed(&seeder, &metainfo, source.path()).await;
    let torrent = getter.add(get(&Arc::new(bare), target.path(), &[&seeder])).await.unwrap();
    torrent.completed().await.unwrap();
    assert_eq!(torrent.metainfo().unwrap().info, metainfo.info);
    same_tree(&source.path().join("data"), &target.path().join("data"));
}

async fn piece_layers_are_waited_for_and_said_to_be(ip: &str) {
    let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let metainfo = publish(source.path(), Format::V2, FILES, PIECE_LENGTH);
    let bare = Arc::new(Metainfo::from_magnet(&metainfo.magnet(), &metainfo.info_bytes).unwrap());
    let (first, second) = (session(ip), session(ip));
    let other = TempDir::new().unwrap();
    let torrent = first.add(get(&bare, target.path(), &[])).await.unwrap();
    second.add(get(&bare, other.path(), &[&first])).await.unwrap();
    let stats = stats_until(&torrent, |stats| stats.peers > 0).await;
    assert!(matches!(stats.waiting, Some(Waiting::PieceHashes)), "{:?}", stats.waiting);
}

async fn a_bad_block_costs_a_block(ip: &str) {
    let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let metainfo = publish(source.path(), Format::V2, &[("a.bin", 20_000_000), ("b.bin", 1)], 1 << 20);
    let (honest, liar, getter) = (session(ip), session(ip), session(ip));
    seed(&honest, &metainfo, source.path()).await;
    let lying = AddTorrent::seed(Arc::clone(&metainfo), source.path()).poison(true);
    liar.add(lying).await.unwrap().completed().await.unwrap();
    let torrent = get(&metainfo, target.path(), &[&honest, &liar]).download_limit(Some(0));
    let torrent = getter.add(torrent).await.unwrap();
    let mut events = torrent.events();
    stats_until(&torrent, |stats| stats.peers == 2).await;
    torrent.set_download_limit(None);
    let liar = liar.listen_addrs()[0];
    let left = |event: &Event| matches!(event, Event::PeerLeft { addr, .. } if *addr == liar);
    let Event::PeerLeft { bytes_down, .. } = until(&mut events, left).await else { unreachable!() };
    torrent.completed().await.unwrap();
    same_tree(&source.path().join("data"), &target.path().join("data"));
    let totals = torrent.stats().await.unwrap().totals;
    assert!(totals.pieces_failed > 0);
    assert!(totals.bytes_corrupt <= bytes_down, "{totals:?}, of which the liar sent {bytes_down}");
}

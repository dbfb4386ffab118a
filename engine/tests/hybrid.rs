//! Hybrids, torrents of both versions (BEP 52), over loopback: those that contradict themselves, and links that name one half.

mod common;

use common::origin::Origin;
use common::{content, session, until};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use swarm_core::metainfo::{Create, Format, Magnet, Metainfo};
use swarm_engine::create::{self, WalkOptions};
use swarm_engine::{AddTorrent, Error, ErrorKind, Event, PieceIndex, Session, StorageError, TorrentHandle};
use tempfile::TempDir;

for_both_families![two_links_of_one_hybrid_are_one_torrent];

const PIECE_LENGTH: u32 = 65_536;
const LEN: usize = 5 * PIECE_LENGTH as usize;

/// A hybrid of the file `file` in a folder.
fn publish(dir: &Path) -> Vec<u8> {
    std::fs::write(dir.join("file"), content(LEN, 1)).unwrap();
    let source = create::walk(&dir.join("file"), &WalkOptions::default()).unwrap();
    let hashed = create::hash(&source, Format::Hybrid, PIECE_LENGTH, 2, &|_| ()).unwrap();
    let mut create = Create::new("file".to_owned(), source.content.clone(), PIECE_LENGTH);
    create.format = Format::Hybrid;
    create.encode(hashed.hashes()).unwrap()
}

#[tokio::test]
async fn a_contradiction_ends_the_download_and_bans_nobody() {
    let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut bytes = publish(source.path());
    let pieces = bytes.windows(12).position(|window| window == b"6:pieces100:").unwrap() + 12;
    // The SHA-1 of the fourth piece.
    bytes[pieces + 65] ^= 1;
    let metainfo = Arc::new(Metainfo::parse(&bytes).unwrap());
    let getter = session("127.0.0.1");
    // No seed of ours would send such a piece.
    let origin = Origin::of([("/file".to_owned(), content(LEN, 1))].into()).await;
    let torrent = AddTorrent::download(metainfo, target.path()).web_seeds([origin.url("/file")]);
    let torrent = getter.add(torrent).await.unwrap();
    let mut events = torrent.events();
    let error = torrent.completed().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Metainfo);
    let is_it =
        |error: &StorageError| matches!(error, StorageError::HashesContradict { piece: PieceIndex(3), .. });
    assert!(matches!(&error, Error::Storage(error) if is_it(error)), "{error}");
    assert!(error.to_string().starts_with("file: the torrent contradicts itself"), "{error}");
    let ends = |event: &Event| match event {
        Event::PeerBanned { .. } | Event::PieceFailed(_) | Event::WebSeedFault { .. } => panic!("{event:?}"),
        event => matches!(event, Event::Failed(_)),
    };
    until(&mut events, ends).await;
}

/// A link to one half of it, at these peers.
fn half(metainfo: &Metainfo, v2: bool, peers: &[SocketAddr]) -> Magnet {
    let whole = metainfo.magnet();
    let mut link = Magnet { trackers: Vec::new(), ..whole };
    link.peers = peers.iter().map(|addr| (addr.ip().to_string(), addr.port())).collect();
    match v2 {
        true => {
            link.info_hash = metainfo.info.info_hash_v2.unwrap().truncated();
            assert!(link.info_hash_v2.is_some());
        }
        false => link.info_hash_v2 = None,
    }
    link
}

async fn add(getter: &Session, link: Magnet, dir: &Path) -> TorrentHandle {
    getter.add(AddTorrent::download(link, dir)).await.unwrap()
}

async fn two_links_of_one_hybrid_are_one_torrent(ip: &str) {
    let source = TempDir::new().unwrap();
    let metainfo = Arc::new(Metainfo::parse(&publish(source.path())).unwrap());
    let seeder = session(ip);
    common::seed(&seeder, &metainfo, source.path()).await;
    let peers = seeder.listen_addrs();
    // Whichever half comes first, and whichever has the peer: the first one is complete, and the other one ends.
    for (first_is_v2, first_has_peer) in [(false, false), (true, false), (false, true), (true, true)] {
        let (a, b) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let getter = session(ip);
        let peers_of = |has: bool| if has { peers } else { &[] };
        let first = half(&metainfo, first_is_v2, peers_of(first_has_peer));
        let second = half(&metainfo, !first_is_v2, peers_of(!first_has_peer));
        let first = add(&getter, first, a.path()).await;
        let second = match getter.add(AddTorrent::download(second, b.path())).await {
            Ok(second) => second,
            // The first was quick.
            Err(error) => {
                assert!(first_has_peer && matches!(error, Error::AlreadyAdded { .. }), "{error}");
                first.completed().await.unwrap();
                continue;
            }
        };
        let error = second.completed().await.unwrap_err();
        assert!(matches!(error, Error::AlreadyAdded { id, .. } if id == first.id()), "{error}");
        first.completed().await.unwrap();
        assert!(std::fs::read(a.path().join("file")).unwrap() == content(LEN, 1));
        assert!(common::names_in(b.path()).is_empty(), "nothing is left of the second");
        for hash in metainfo.info.info_hashes().swarms() {
            assert_eq!(getter.find(hash).map(|torrent| torrent.id()), Some(first.id()));
        }
        // The first is found by either name.
        for v2 in [false, true] {
            let (third, dir) = (session(ip), TempDir::new().unwrap());
            add(&third, half(&metainfo, v2, getter.listen_addrs()), dir.path())
                .await
                .completed()
                .await
                .unwrap();
        }
    }
}

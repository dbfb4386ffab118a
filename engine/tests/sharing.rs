//! Torrents of one session that have files in common and download at the same time: what one completes, the other takes.

mod common;

use common::{content, get, same_tree, seed, session, until};
use std::path::Path;
use std::sync::Arc;
use swarm_core::metainfo::{Create, Format, Metainfo};
use swarm_engine::create::{self, WalkOptions};
use swarm_engine::{AddTorrent, Event, TorrentHandle};
use tempfile::TempDir;

for_both_families![
    what_one_completes_the_other_takes_while_it_runs,
    a_seed_that_comes_later_is_taken_from,
    a_download_that_is_limited_takes_what_is_here_at_once,
];

/// A torrent of the folder `data` with these files, each of the bytes of its seed.
fn publish(dir: &Path, files: &[(&str, usize, u64)], format: Format, piece_len: u32) -> Arc<Metainfo> {
    let root = dir.join("data");
    std::fs::create_dir_all(&root).unwrap();
    files.iter().for_each(|(name, len, seed)| std::fs::write(root.join(name), content(*len, *seed)).unwrap());
    let mut source = create::walk(&root, &WalkOptions::default()).unwrap();
    source.arrange(format, piece_len);
    let hashed = create::hash(&source, format, piece_len, 2, &|_| ()).unwrap();
    let mut create = Create::new("data".to_owned(), source.content.clone(), piece_len);
    create.format = format;
    Arc::new(Metainfo::parse(&create.encode(hashed.hashes()).unwrap()).unwrap())
}

const FORMATS: [Format; 3] = [Format::V1, Format::V2, Format::Hybrid];

async fn down(torrent: &TorrentHandle) -> u64 {
    torrent.stats().await.unwrap().totals.bytes_down
}

async fn what_one_completes_the_other_takes_while_it_runs(ip: &str) {
    for format in FORMATS {
        let dirs: [TempDir; 4] = std::array::from_fn(|_| TempDir::new().unwrap());
        let [one, two, one_copy, two_copy] = dirs.each_ref().map(TempDir::path);
        let first = publish(one, &[("a", 700_000, 1), ("b", 3_000, 2)], format, 32_768);
        // Under another name, in pieces of another length, at another place.
        let second = publish(two, &[("0", 65_536, 3), ("1", 700_000, 1), ("2", 40_000, 4)], format, 16_384);
        let (getter, seeder, other) = (session(ip), session(ip), session(ip));
        // Nobody serves it yet: all that it gets is what the other has.
        let waiting = getter.add(AddTorrent::download(Arc::clone(&second), two_copy)).await.unwrap();
        let mut events = waiting.events();
        until(&mut events, |event| matches!(event, Event::Started { .. })).await;
        seed(&seeder, &first, one).await;
        let torrent = getter.add(get(&first, one_copy, &[&seeder])).await.unwrap();
        torrent.completed().await.unwrap();
        let reused = until(&mut events, |event| matches!(event, Event::Reused { .. })).await;
        let Event::Reused { bytes, bytes_total, from, .. } = &reused else { unreachable!() };
        // In version 1 no piece that it shares with its neighbours.
        assert!((667_000..=700_000).contains(bytes), "{format:?}: {reused:?}");
        assert_eq!(*bytes_total, 805_536);
        assert_eq!(*from, [one_copy.canonicalize().unwrap().join("data")]);
        seed(&other, &second, two).await;
        waiting.add_peers(other.listen_addrs().iter().copied());
        waiting.completed().await.unwrap();
        same_tree(&two.join("data"), &two_copy.join("data"));
        let (down, shared) = (down(&waiting).await, 2 * 16_384);
        assert!(down <= 105_536 + shared, "{format:?}: {down} bytes came from the peer");
        for session in [getter, seeder, other] {
            session.stop().await;
        }
    }
}

async fn a_seed_that_comes_later_is_taken_from(ip: &str) {
    let dirs: [TempDir; 3] = std::array::from_fn(|_| TempDir::new().unwrap());
    let [one, two, copy] = dirs.each_ref().map(TempDir::path);
    let wanted = publish(two, &[("new", 500_000, 1), ("zero", 0, 1)], Format::V2, 16_384);
    let here = publish(one, &[("old", 500_000, 1), ("zero", 0, 1)], Format::V1, 65_536);
    let getter = session(ip);
    let torrent = getter.add(AddTorrent::download(wanted, copy)).await.unwrap();
    until(&mut torrent.events(), |event| matches!(event, Event::Started { .. })).await;
    seed(&getter, &here, one).await;
    torrent.completed().await.unwrap();
    same_tree(&two.join("data"), &copy.join("data"));
    assert_eq!(down(&torrent).await, 0);
    getter.stop().await;
}

async fn a_download_that_is_limited_takes_what_is_here_at_once(ip: &str) {
    let dirs: [TempDir; 3] = std::array::from_fn(|_| TempDir::new().unwrap());
    let [one, two, copy] = dirs.each_ref().map(TempDir::path);
    let wanted = publish(two, &[("new", 2_000_000, 1), ("zero", 0, 1)], Format::V2, 16_384);
    let here = publish(one, &[("old", 2_000_000, 1), ("zero", 0, 1)], Format::V2, 65_536);
    let (getter, seeder) = (session(ip), session(ip));
    seed(&seeder, &wanted, two).await;
    // From its peer alone it would take 200 s.
    let torrent = get(&wanted, copy, &[&seeder]).download_limit(10_000);
    let torrent = getter.add(torrent).await.unwrap();
    let mut events = torrent.events();
    until(&mut events, |event| matches!(event, Event::PieceVerified(_))).await;
    seed(&getter, &here, one).await;
    torrent.completed().await.unwrap();
    assert!(down(&torrent).await < 500_000, "most is from here");
    getter.stop().await;
    seeder.stop().await;
}

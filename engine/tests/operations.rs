//! Torrents that are moved, renamed, given other trackers and web seeds, and watched piece by piece, over loopback.

mod common;

use common::tracker::{Say, Scripted, peers};
use common::{FILES, Swarm, content, get, names_in, publish, seed, session, session_on, stats_until, until};
use std::collections::BTreeSet;
use std::io::SeekFrom;
use swarm_core::id::FileIndex;
use swarm_engine::{
    AddTorrent, Error, Event, EventReceiver, Files, Layout, OptionError, PieceIndex, PieceStatus, Session,
    State, TorrentHandle,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

const IP: &str = "127.0.0.1";

fn file(nth: u32) -> FileIndex {
    FileIndex(nth)
}

/// A download that has some of its pieces and not all.
async fn half_done(swarm: &Swarm, getter: &Session) -> TorrentHandle {
    let torrent = getter.add(swarm.get().download_limit(2_000_000)).await.unwrap();
    stats_until(&torrent, |stats| stats.pieces_have > 20).await;
    torrent
}

/// What is had when it starts next.
async fn started(torrent: &TorrentHandle) -> u32 {
    let event = until(&mut torrent.events(), |event| matches!(event, Event::Started { .. })).await;
    match event {
        Event::Started { have, .. } => have,
        _ => unreachable!("it was looked for"),
    }
}

#[tokio::test]
async fn a_torrent_moves_while_it_runs_and_keeps_what_is_verified() {
    let swarm = Swarm::in_pieces(IP, FILES, 16_384).await;
    let getter = session(IP);
    let torrent = half_done(&swarm, &getter).await;
    let elsewhere = TempDir::new().unwrap();
    let to = elsewhere.path().join("new");
    let mut events = torrent.events();
    torrent.move_to(&to, Layout::default(), false).await.unwrap();
    assert!(names_in(swarm.target.path()).is_empty());
    assert_eq!(torrent.dir().as_deref(), Some(&*to));
    // The first receiver has what came before, too.
    until(&mut events, |event| matches!(event, Event::Started { have, .. } if *have > 20)).await;
    torrent.set_download_limit(None);
    torrent.completed().await.unwrap();
    common::same_tree(&swarm.source.path().join("data"), &to.join("data"));
    // A complete one moves too, and needs no check there.
    torrent.move_to(swarm.target.path(), Layout::default(), false).await.unwrap();
    torrent.completed().await.unwrap();
    swarm.check();
    assert_eq!(torrent.stats().await.unwrap().state, State::Seeding);
    // Where something is, it stays where it was.
    let other = elsewhere.path().join("other");
    std::fs::create_dir_all(other.join("data")).unwrap();
    std::fs::write(other.join("data/c.bin"), "theirs").unwrap();
    let error = torrent.move_to(&other, Layout::default(), false).await.unwrap_err();
    assert!(error.to_string().contains("c.bin"), "{error}");
    torrent.completed().await.unwrap();
    swarm.check();
    assert_eq!(std::fs::read(other.join("data/c.bin")).unwrap(), b"theirs");
}

#[tokio::test]
async fn a_paused_torrent_moves_and_stays_paused() {
    let swarm = Swarm::in_pieces(IP, FILES, 16_384).await;
    let getter = session(IP);
    let torrent = half_done(&swarm, &getter).await;
    torrent.pause();
    stats_until(&torrent, |stats| stats.state == State::Paused).await;
    let to = TempDir::new().unwrap();
    torrent.move_to(to.path(), Layout::default(), false).await.unwrap();
    assert_eq!(torrent.stats().await.unwrap().state, State::Paused);
    assert!(names_in(swarm.target.path()).is_empty());
    torrent.set_download_limit(None);
    torrent.resume();
    torrent.completed().await.unwrap();
    common::same_tree(&swarm.source.path().join("data"), &to.path().join("data"));
}

#[tokio::test]
async fn files_get_other_names_and_keep_them() {
    let swarm = Swarm::in_pieces(IP, FILES, 16_384).await;
    let getter = session(IP);
    let torrent = half_done(&swarm, &getter).await;
    let info = &swarm.metainfo.info;
    let layout = Layout::default().renamed(info, "data/deep/er", "data/shallow").unwrap();
    torrent.move_to(swarm.target.path(), layout.clone(), false).await.unwrap();
    torrent.set_download_limit(None);
    torrent.completed().await.unwrap();
    let at = |path: &str| swarm.target.path().join(path);
    assert!(std::fs::read(at("data/shallow/b.bin")).unwrap() == content(70_001, 1));
    assert!(torrent.file_path(file(1)).unwrap().ends_with("data/shallow/b.bin"));
    let layout = layout.renamed(info, "data", "other").unwrap();
    torrent.move_to(swarm.target.path(), layout.clone(), false).await.unwrap();
    torrent.completed().await.unwrap();
    assert_eq!(names_in(swarm.target.path()), ["other"]);
    let mut bytes = Vec::new();
    torrent.read(file(1)).unwrap().read_to_end(&mut bytes).await.unwrap();
    assert!(bytes == content(70_001, 1));
    torrent.stop().await.unwrap();
    // The next session is told of them.
    let next = session(IP);
    let again = next.add(swarm.get().layout(layout.clone()).recheck(true)).await.unwrap();
    assert_eq!(started(&again).await, info.geometry.pieces());
    let bad = Layout::new(Some("..".to_owned()), Default::default());
    let refused = again.move_to(swarm.target.path(), bad.clone(), false).await;
    assert!(matches!(refused, Err(Error::Option(OptionError::Layout(_)))), "{refused:?}");
    let refused = session(IP).add(swarm.get().layout(bad)).await;
    assert!(matches!(refused, Err(Error::Option(OptionError::Layout(_)))));
}

#[tokio::test]
async fn trackers_are_replaced_while_it_runs() {
    let swarm = Swarm::of(IP, FILES).await;
    let nobody = Scripted::always(IP, Say::ok(peers(&[]))).await;
    let tracker = Scripted::always(IP, Say::ok(peers(swarm.seeder.listen_addrs()))).await;
    let getter = session(IP);
    let mut metainfo = (*swarm.metainfo).clone();
    metainfo.trackers = vec![vec![nobody.url("/announce")]];
    let torrent = getter.add(AddTorrent::download(metainfo, swarm.target.path())).await.unwrap();
    let known = async || {
        let stats = torrent.stats().await.unwrap();
        stats.trackers.into_iter().map(|tracker| tracker.url).collect::<BTreeSet<_>>()
    };
    until(&mut torrent.events(), |event| matches!(event, Event::Started { .. })).await;
    torrent.set_trackers([vec![tracker.url("/announce")]]);
    torrent.completed().await.unwrap();
    assert_eq!(known().await, BTreeSet::from([tracker.url("/announce")]));
    // And so it is after it has started again.
    torrent.recheck();
    torrent.completed().await.unwrap();
    assert_eq!(known().await, BTreeSet::from([tracker.url("/announce")]));
}

#[tokio::test]
async fn peers_at_banned_addresses_are_left_and_let_in_again() {
    let swarm = Swarm::in_pieces(IP, FILES, 16_384).await;
    let getter = session(IP);
    let torrent = half_done(&swarm, &getter).await;
    let mut events = torrent.events();
    getter.set_banned([IP.parse().unwrap()]);
    until(&mut events, |event| matches!(event, Event::PeerLeft { .. })).await;
    torrent.set_download_limit(None);
    // Nobody there is dialled, and nobody accepted.
    torrent.add_peers([swarm.seeder_addr()]);
    swarm.seeding.add_peers(getter.listen_addrs().iter().copied());
    for _ in 0..50 {
        assert_eq!(torrent.stats().await.unwrap().peers, 0);
    }
    getter.set_banned([]);
    // Whatever is asked of the session is done in this order.
    getter.active().await.unwrap();
    torrent.add_peers([swarm.seeder_addr()]);
    torrent.completed().await.unwrap();
    swarm.check();
}

/// How many pieces are verified until all of these are.
async fn verified_until(events: &mut EventReceiver, wanted: &[u32]) -> usize {
    let mut verified = BTreeSet::new();
    while !wanted.iter().all(|piece| verified.contains(piece)) {
        let event = until(events, |event| matches!(event, Event::PieceVerified(_))).await;
        if let Event::PieceVerified(piece) = event {
            verified.insert(piece.0);
        }
    }
    verified.len()
}

#[tokio::test]
async fn the_first_and_last_pieces_of_files_come_first() {
    let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let metainfo = publish(source.path(), &[("a", 200 * 16_384), ("b", 200 * 16_384)], 16_384);
    // Slow enough for few pieces to come at once, which are told of in any order.
    let seeder = session_on(IP, |options| options.upload_limit(64_000));
    seed(&seeder, &metainfo, source.path()).await;
    let getter = session(IP);
    let add = get(&metainfo, target.path(), &[&seeder]).first_last(true);
    let torrent = getter.add(add).await.unwrap();
    let count = verified_until(&mut torrent.events(), &[0, 199, 200, 399]).await;
    assert!(count <= 30, "{count} of 400");
    // It may be chosen while it runs, and files that are not wanted have no part in it.
    let (target, other) = (TempDir::new().unwrap(), session(IP));
    let add = get(&metainfo, target.path(), &[]).files(Files::only([file(1)]));
    let torrent = other.add(add).await.unwrap();
    let mut events = torrent.events();
    until(&mut events, |event| matches!(event, Event::Started { .. })).await;
    torrent.set_first_last(true);
    torrent.add_peers(seeder.listen_addrs().iter().copied());
    let count = verified_until(&mut events, &[200, 399]).await;
    assert!(count <= 30, "{count} of 200");
}

#[tokio::test]
async fn the_map_of_pieces_shows_what_is_there_and_who_has_it() {
    let swarm = Swarm::in_pieces(IP, &[("a", 40 * 16_384)], 16_384).await;
    let getter = session(IP);
    let torrent = getter.add(swarm.get().download_limit(100_000)).await.unwrap();
    let map = loop {
        match torrent.pieces().await.unwrap() {
            Some(map) if map.availability.iter().all(|count| *count == 1) => break map,
            _ => tokio::task::yield_now().await,
        }
    };
    assert_eq!(map.statuses.len(), 40);
    torrent.set_download_limit(None);
    torrent.completed().await.unwrap();
    let map = torrent.pieces().await.unwrap().unwrap();
    assert!(map.statuses.iter().all(|status| *status == PieceStatus::Have));
}

/// A player's reads: the start, the end, the middle, and jumps. What is waited for never stands behind more than what was under way when it was
/// asked for.
#[tokio::test]
async fn a_players_jumps_are_served_before_everything_else() {
    const PIECE: usize = 16_384;
    const PIECES: u32 = 256;
    let source = TempDir::new().unwrap();
    let target = TempDir::new().unwrap();
    let metainfo = publish(source.path(), &[("film.mkv", PIECE * PIECES as usize)], PIECE as u32);
    let seeder = session_on(IP, |options| options.upload_limit(2_000_000));
    seed(&seeder, &metainfo, source.path()).await;
    let getter = session(IP);
    let torrent = getter.add(get(&metainfo, target.path(), &[&seeder])).await.unwrap();
    let mut events = torrent.events();
    let mut reader = torrent.read(file(0)).unwrap();
    let bytes = content(PIECE * PIECES as usize, 0);
    let mut verified = BTreeSet::new();
    for piece in [0, 1, 2, 255, 3, 128, 129, 60, 200, 4, 30] {
        reader.seek(SeekFrom::Start(u64::from(piece) * PIECE as u64)).await.unwrap();
        let mut read = vec![0; PIECE];
        reader.read_exact(&mut read).await.unwrap();
        assert!(read == bytes[piece as usize * PIECE..][..PIECE]);
        let mut others = 0;
        while !verified.contains(&piece) {
            let event = until(&mut events, |event| matches!(event, Event::PieceVerified(_))).await;
            let Event::PieceVerified(PieceIndex(index)) = event else { continue };
            verified.insert(index);
            others += u32::from(index != piece);
        }
        eprintln!("piece {piece}: {others} pieces came before it");
        // Half a second of the peer's rate is under way.
        assert!(others <= 2_000_000 / PIECE as u32, "piece {piece}: {others} came before it");
    }
    assert!(verified.len() < PIECES as usize, "the swarm is slow enough to tell");
}

//! Sessions against each other over loopback, on real files.

mod common;

use common::{
    FILES, Swarm, get, names_in, publish, same_tree, seed, session, session_on, stats_until, until,
};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use swarm_core::id::{FileIndex, PeerId};
use swarm_core::wire::handshake::{Handshake, Reserved};
use swarm_engine::{AddTorrent, Event, EventReceiver, Files, StorageError};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

for_both_families![
    one_to_one,
    a_peer_that_breaks_off_while_blocks_wait_for_it_puts_no_file_in_doubt,
    what_is_said_while_data_is_opened_counts,
    downloaders_serve_each_other_and_an_interrupted_one_goes_on,
    a_poisoner_is_banned_and_the_download_completes,
    unwanted_files_are_not_made,
    a_hundred_torrents_share_a_session,
    limits_hold_within_five_percent,
    who_sends_no_payload_is_heard_whatever_the_limit,
    a_full_disk_pauses_the_download_until_there_is_space,
    a_failing_disk_pauses_its_torrent_and_no_other,
    a_folder_that_has_gone_is_said_while_it_runs,
    a_stop_inside_a_piece_keeps_its_blocks,
    files_wanted_one_after_another_are_fetched_once,
    little_memory_never_makes_a_download_stand_still,
    nothing_to_seed_is_an_error,
    what_one_torrent_has_serves_another_of_the_session,
];

/// Waits until a torrent says that it cannot write, and why.
async fn stalled(events: &mut EventReceiver) -> Arc<StorageError> {
    let is_over =
        |event: &Event| matches!(event, Event::DiskStalled { .. } | Event::Completed | Event::Failed(_));
    match until(events, is_over).await {
        Event::DiskStalled { error } => error,
        other => panic!("the disk was not as it should be, and: {other:?}"),
    }
}

async fn one_to_one(ip: &str) {
    let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let metainfo = publish(source.path(), FILES, 65_536);
    let (seeder, getter) = (session(ip), session(ip));
    let seeding = seed(&seeder, &metainfo, source.path()).await;
    let torrent = getter.add(get(&metainfo, target.path(), &[&seeder])).await.unwrap();
    torrent.completed().await.unwrap();
    same_tree(&source.path().join("data"), &target.path().join("data"));
    let stats = torrent.stats().await.unwrap();
    assert_eq!(stats.bytes_verified, metainfo.info.geometry.total_len());
    assert_eq!(stats.totals.bytes_wasted, 0);
    assert_eq!(seeding.stats().await.unwrap().totals.bytes_up, stats.totals.bytes_down);
    getter.stop().await;
    seeder.stop().await;
    assert_eq!(names_in(target.path()), ["data"], "no stray file");
}

async fn what_is_said_while_data_is_opened_counts(ip: &str) {
    let swarm = Swarm::in_pieces(ip, FILES, 65_536).await;
    let getter = session(ip);
    let torrent =
        getter.add(AddTorrent::download(Arc::clone(&swarm.metainfo), swarm.target.path())).await.unwrap();
    torrent.add_peers(swarm.seeder.listen_addrs().to_vec());
    assert_eq!(torrent.stats().await.unwrap().pieces, swarm.metainfo.info.geometry.pieces());
    torrent.completed().await.unwrap();
}

async fn downloaders_serve_each_other_and_an_interrupted_one_goes_on(ip: &str) {
    let (source, first, second) = (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let metainfo = publish(source.path(), FILES, 32_768);
    let (seeder, a) = (session(ip), session(ip));
    seed(&seeder, &metainfo, source.path()).await;
    let torrent = a.add(get(&metainfo, first.path(), &[&seeder])).await.unwrap();
    torrent.completed().await.unwrap();
    seeder.stop().await;

    // The second one gets everything from the first, which is a seed by now; it stops half-way and resumes.
    let b = session(ip);
    let limited = get(&metainfo, second.path(), &[&a]).download_limit(Some(4_000_000));
    let torrent = b.add(limited).await.unwrap();
    let mut events = torrent.events();
    for _ in 0..20 {
        until(&mut events, |event| matches!(event, Event::PieceVerified(_))).await;
    }
    torrent.stop().await.unwrap();
    b.stop().await;

    let b = session(ip);
    let torrent = b.add(get(&metainfo, second.path(), &[&a])).await.unwrap();
    torrent.completed().await.unwrap();
    let again = torrent.stats().await.unwrap().totals.bytes_down;
    // One of the 20 may be the last piece, which is shorter.
    assert!(again < metainfo.info.geometry.total_len() - 19 * 32_768, "{again} bytes downloaded again");
    same_tree(&source.path().join("data"), &second.path().join("data"));
}

async fn a_poisoner_is_banned_and_the_download_completes(ip: &str) {
    let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let metainfo = publish(source.path(), FILES, 65_536);
    let (honest, liar, getter) = (session(ip), session(ip), session(ip));
    seed(&honest, &metainfo, source.path()).await;
    let lying = AddTorrent::seed(Arc::clone(&metainfo), source.path()).poison(true);
    let lying = liar.add(lying).await.unwrap();
    lying.completed().await.unwrap();

    let torrent = getter.add(get(&metainfo, target.path(), &[&liar])).await.unwrap();
    let mut events = torrent.events();
    let is_over = |event: &Event| matches!(event, Event::PeerBanned { .. } | Event::Completed);
    let banned = until(&mut events, is_over).await;
    let expected = liar.listen_addrs()[0];
    assert!(matches!(banned, Event::PeerBanned { addr, .. } if addr == expected), "{banned:?}");
    torrent.add_peers(honest.listen_addrs().to_vec());
    torrent.completed().await.unwrap();
    same_tree(&source.path().join("data"), &target.path().join("data"));
}

async fn unwanted_files_are_not_made(ip: &str) {
    let swarm = Swarm::in_pieces(ip, FILES, 65_536).await;
    let getter = session(ip);
    let wanted = swarm.metainfo.info.files.iter().position(|f| f.path.last().unwrap() == "z.bin").unwrap();
    let wanted = Files::only([FileIndex(wanted as u32)]);
    let torrent = swarm.get().files(wanted);
    let torrent = getter.add(torrent).await.unwrap();
    torrent.completed().await.unwrap();
    getter.stop().await;
    let read = |dir: &Path| std::fs::read(dir.join("data/z.bin")).unwrap();
    assert!(read(swarm.source.path()) == read(swarm.target.path()));
    assert!(!swarm.target.path().join("data/a.bin").exists());
}

async fn a_hundred_torrents_share_a_session(ip: &str) {
    let (seeder, getter) = (session(ip), session(ip));
    let mut torrents = Vec::new();
    for i in 0..100 {
        let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let metainfo = publish(source.path(), &[("one", 100_000 + i), ("two", 200_000)], 16_384);
        let seeding = seeder.add(AddTorrent::seed(Arc::clone(&metainfo), source.path())).await.unwrap();
        let getting = getter.add(get(&metainfo, target.path(), &[&seeder])).await.unwrap();
        torrents.push((seeding, getting, source, target));
    }
    for (seeding, getting, source, target) in &torrents {
        seeding.completed().await.unwrap();
        getting.completed().await.unwrap();
        same_tree(&source.path().join("data"), &target.path().join("data"));
    }
}

async fn limits_hold_within_five_percent(ip: &str) {
    let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let metainfo = publish(source.path(), &[("a", 6_000_000)], 65_536);
    let rate = 2_000_000;
    let seeder = session(ip);
    let getter = session_on(ip, |options| options.download_limit(rate));
    seed(&seeder, &metainfo, source.path()).await;
    let began = Instant::now();
    let torrent = getter.add(get(&metainfo, target.path(), &[&seeder])).await.unwrap();
    torrent.completed().await.unwrap();
    let least = metainfo.info.geometry.total_len() as f64 / rate as f64;
    // Only the lower bound is a promise on a busy machine: a limit may be undercut, never exceeded.
    assert!(began.elapsed().as_secs_f64() > least * 0.95, "{:?} for {least} s", began.elapsed());
}

async fn who_sends_no_payload_is_heard_whatever_the_limit(ip: &str) {
    // A block that comes in one read, after which nothing may pass for sixteen seconds.
    let swarm = Swarm::in_pieces(ip, &[("a", 16_000)], 16_384).await;
    let getter = session_on(ip, |options| options.download_limit(1_000));
    let torrent = getter.add(swarm.get()).await.unwrap();
    torrent.completed().await.unwrap();
    let began = Instant::now();
    let mut peer = TcpStream::connect(getter.listen_addrs()[0]).await.unwrap();
    let info_hash = swarm.metainfo.info.info_hash;
    let hello = Handshake { reserved: Reserved::default(), info_hash, peer_id: PeerId([7; 20]) };
    peer.write_all(&hello.encode()).await.unwrap();
    peer.write_all(&[0, 0, 0, 1, 2]).await.unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(&[0, 0, 0, 1, 1]) {
        assert!(peer.read_buf(&mut heard).await.unwrap() > 0, "interested, and not unchoked: {heard:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

async fn a_full_disk_pauses_the_download_until_there_is_space(ip: &str) {
    let swarm = Swarm::in_pieces(ip, FILES, 65_536).await;
    let getter = session(ip);
    let space = Arc::new(swarm_engine::SpaceBudget::new(1_000_000));
    let torrent = swarm.get().space(Arc::clone(&space));
    let torrent = getter.add(torrent).await.unwrap();
    let mut events = torrent.events();
    stalled(&mut events).await;
    space.lift();
    torrent.completed().await.unwrap();
    swarm.check();
}

async fn a_failing_disk_pauses_its_torrent_and_no_other(ip: &str) {
    const EIO: i32 = 5;
    let swarm = Swarm::in_pieces(ip, FILES, 65_536).await;
    let getter = session(ip);
    let disk = Arc::new(swarm_engine::SpaceBudget::failing(1_000_000, EIO));
    let torrent = swarm.get().space(Arc::clone(&disk));
    let torrent = getter.add(torrent).await.unwrap();
    let mut events = torrent.events();
    let error = stalled(&mut events).await;
    assert!(!error.is_no_space() && error.to_string().contains("os error 5"), "{error}");
    let waiting = torrent.stats().await.unwrap().waiting.unwrap().to_string();
    assert!(waiting.contains("os error 5"), "{waiting}");

    let (elsewhere, other_source) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let other = publish(other_source.path(), &[("b.bin", 300_000)], 65_536);
    seed(&swarm.seeder, &other, other_source.path()).await;
    let well = getter.add(get(&other, elsewhere.path(), &[&swarm.seeder])).await.unwrap();
    well.completed().await.unwrap();

    disk.lift();
    torrent.completed().await.unwrap();
    swarm.check();
}

async fn a_folder_that_has_gone_is_said_while_it_runs(ip: &str) {
    let swarm = Swarm::in_pieces(ip, &[("a.bin", 4 << 20)], 65_536).await;
    let getter = session(ip);
    let limited = swarm.get().download_limit(Some(200_000));
    let torrent = getter.add(limited).await.unwrap();
    let mut events = torrent.events();
    until(&mut events, |event| matches!(event, Event::PieceVerified(_))).await;
    let (folder, away) = (swarm.target.path().join(".data.swarm"), swarm.target.path().join("away"));
    std::fs::rename(&folder, &away).unwrap();
    let error = stalled(&mut events).await;
    assert!(!error.is_no_space() && error.to_string().contains("moved or removed"), "{error}");
    std::fs::rename(&away, &folder).unwrap();
    torrent.set_download_limit(None);
    torrent.completed().await.unwrap();
    swarm.check();
}

async fn a_stop_inside_a_piece_keeps_its_blocks(ip: &str) {
    let swarm = Swarm::in_pieces(ip, &[("a.bin", 4 << 20)], 4 << 20).await;
    let (mut down, mut kept) = (0, 0);
    loop {
        let getter = session(ip);
        let limited = swarm.get().download_limit(Some(2_000_000));
        let torrent = getter.add(limited).await.unwrap();
        let until = kept + (1 << 20);
        let stats = loop {
            let stats = torrent.stats().await.unwrap();
            if stats.totals.bytes_down > 0 {
                assert!(
                    stats.bytes_verified > 0 || stats.bytes_unverified >= kept,
                    "{kept} were kept: {stats:?}"
                );
            }
            if stats.bytes_unverified >= until || stats.bytes_verified > 0 {
                break stats;
            }
            tokio::task::yield_now().await;
        };
        kept = stats.bytes_unverified;
        if stats.bytes_verified > 0 {
            torrent.completed().await.unwrap();
            down += torrent.stats().await.unwrap().totals.bytes_down;
            break;
        }
        let handle = torrent.clone();
        getter.stop().await;
        drop(handle);
        down += stats.totals.bytes_down;
    }
    // Blocks that were under way at each stop come again, and some that came after the last look.
    assert!(down < (4 << 20) + (512 << 10), "{down} bytes came");
    swarm.check();
}

async fn files_wanted_one_after_another_are_fetched_once(ip: &str) {
    let files = [("a.bin", 700_000), ("b.bin", 300_000), ("c.bin", 500_000)];
    let swarm = Swarm::in_pieces(ip, &files, 1 << 20).await;
    let mut down = 0;
    for file in [1, 2, 0] {
        let getter = session(ip);
        let torrent = swarm.get().files(Files::only([FileIndex(file)]));
        let torrent = getter.add(torrent).await.unwrap();
        torrent.completed().await.unwrap();
        down += torrent.stats().await.unwrap().totals.bytes_down;
        getter.stop().await;
    }
    assert_eq!(down, swarm.metainfo.info.geometry.total_len());
    swarm.check();
    assert_eq!(names_in(swarm.target.path()), ["data"], "no stray file");
}

async fn little_memory_never_makes_a_download_stand_still(ip: &str) {
    let swarm = Swarm::in_pieces(ip, &[("a.bin", 48 << 20)], 512 << 10).await;
    // Room for two pieces, so that reading waits for writing again and again.
    let getter = session_on(ip, |options| options.buffer_bytes(1 << 20));
    let torrent = getter.add(swarm.get()).await.unwrap();
    // Each time that reading did not go on when it could would cost seconds.
    let done = tokio::time::timeout(Duration::from_secs(30), torrent.completed()).await;
    done.expect("the download stood still").unwrap();
    swarm.check();
}

async fn nothing_to_seed_is_an_error(ip: &str) {
    let (source, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let metainfo = publish(source.path(), FILES, 65_536);
    let session = session(ip);
    let torrent = session.add(AddTorrent::seed(metainfo, other.path())).await.unwrap();
    let error = torrent.completed().await.unwrap_err();
    assert!(error.to_string().contains("nothing here is right"), "{error}");
}

async fn what_one_torrent_has_serves_another_of_the_session(ip: &str) {
    let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (old, new) = (source.path().join("old"), source.path().join("new"));
    std::fs::create_dir_all(&old).unwrap();
    std::fs::create_dir_all(&new).unwrap();
    let before = publish(&old, &[("a", 300_000), ("b", 200_000)], 32_768);
    let after = publish(&new, &[("a", 300_000), ("b", 200_000), ("c", 1_000)], 16_384);
    let (getter, seeder) = (session(ip), session(ip));
    seed(&getter, &before, &old).await;
    seed(&seeder, &after, &new).await;
    let torrent = getter.add(get(&after, target.path(), &[&seeder])).await.unwrap();
    let mut events = torrent.events();
    torrent.completed().await.unwrap();
    same_tree(&new.join("data"), &target.path().join("data"));
    let down = torrent.stats().await.unwrap().totals.bytes_down;
    assert!(down <= 16_384, "{down}");
    let reused = until(&mut events, |event| matches!(event, Event::Reused { .. } | Event::Completed)).await;
    let is_it = |from: &[std::path::PathBuf]| from == [old.canonicalize().unwrap().join("data")];
    assert!(
        matches!(&reused, Event::Reused { bytes, from, .. } if *bytes + down == 501_000 && is_it(from)),
        "{reused:?}"
    );
    getter.stop().await;
    seeder.stop().await;
}

/// A connection that breaks says nothing about the files whose blocks it was to carry.
async fn a_peer_that_breaks_off_while_blocks_wait_for_it_puts_no_file_in_doubt(ip: &str) {
    const BLOCKS: u32 = 400;
    let swarm = Swarm::of(ip, &[("a.bin", BLOCKS as usize * 16_384)]).await;
    let mut events = swarm.seeding.events();
    // Whether it shows first in what is read or in what is written is up to the system.
    for _ in 0..20 {
        break_off(&swarm, BLOCKS).await;
    }
    swarm.seeding.stop().await.unwrap();
    while let Some(event) = events.next().await {
        assert!(!matches!(event, Event::Warning(_) | Event::FileChanged { .. }), "{event:?}");
    }
}

/// Asks for so many blocks, reads next to nothing, and goes.
async fn break_off(swarm: &Swarm, blocks: u32) {
    const UNCHOKE: [u8; 5] = [0, 0, 0, 1, 1];
    let addr = swarm.seeder_addr();
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut peer = socket.connect(addr).await.unwrap();
    let mut said = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".to_vec();
    said.extend(swarm.metainfo.info.info_hash.0);
    said.extend(b"-XX0001-123456789012\0\0\0\x01\x02");
    peer.write_all(&said).await.unwrap();
    let mut heard = Vec::new();
    while !heard.windows(UNCHOKE.len()).any(|bytes| bytes == UNCHOKE) {
        assert_ne!(peer.read_buf(&mut heard).await.unwrap(), 0);
    }
    let before = swarm.seeding.stats().await.unwrap().totals.bytes_up;
    for piece in 0..blocks {
        let request = [&[0, 0, 0, 13, 6][..], &piece.to_be_bytes(), &[0; 4], &16_384_u32.to_be_bytes()];
        peer.write_all(&request.concat()).await.unwrap();
    }
    stats_until(&swarm.seeding, |stats| stats.totals.bytes_up > before).await;
    // What it has not read has the system say so at once.
    drop(peer);
    stats_until(&swarm.seeding, |stats| stats.peers == 0).await;
}

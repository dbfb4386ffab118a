//! Torrents that are paused, rechecked, removed, changed and read while they run, over loopback.

mod common;

use common::{FILES, Swarm, content, get, names_in, path_of, publish, session, session_on, until};
use std::collections::BTreeSet;
use std::io::SeekFrom;
use std::sync::Arc;
use swarm_core::id::FileIndex;
use swarm_engine::{
    AddTorrent, Data, Error, ErrorKind, Event, Files, InfoHash, OptionError, RateGroup, SessionOptions,
    Source, State, TorrentHandle, Waiting,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

for_both_families![
    a_paused_torrent_leaves_the_swarm_and_goes_on_when_resumed,
    a_torrent_may_be_added_paused,
    recheck_checks_all_data_again,
    a_torrent_may_be_checked_and_no_more,
    files_are_chosen_while_it_runs,
    a_reader_waits_for_what_is_missing,
    a_reader_of_a_file_that_is_not_wanted_has_it_downloaded,
    removing_deletes_only_the_torrents_files,
    removing_leaves_what_was_never_verified,
    removing_deletes_what_an_earlier_session_has_verified,
    the_active_torrents_and_their_files_are_told,
    torrents_are_found_by_id_and_hash,
    a_session_tells_of_all_its_torrents,
    a_tracker_is_added_while_it_runs,
    a_reader_may_come_before_the_data_is_opened,
    a_reader_of_what_a_seed_lacks_is_refused,
    handles_outlive_their_session,
    commands_may_come_while_data_is_opened,
    a_reader_waits_through_a_pause,
    trackers_hear_nothing_of_other_files,
    completed_waits_for_what_is_wanted_and_no_more,
    a_reader_of_what_is_not_downloaded_is_refused,
    reading_takes_the_metadata,
    a_limit_is_set_without_the_other,
    a_group_shares_a_limit,
    files_are_told_by_their_paths,
];

fn file(nth: u32) -> FileIndex {
    FileIndex(nth)
}

async fn a_paused_torrent_leaves_the_swarm_and_goes_on_when_resumed(ip: &str) {
    let swarm = Swarm::in_pieces(ip, FILES, 16_384).await;
    let getter = session(ip);
    let slow = swarm.get().download_limit(2_000_000);
    let torrent = getter.add(slow).await.unwrap();
    let mut events = torrent.events();
    until(&mut events, |event| matches!(event, Event::PieceVerified(_))).await;
    let mut at_seed = swarm.seeding.events();
    torrent.pause();
    until(&mut events, |event| matches!(event, Event::Paused)).await;
    until(&mut at_seed, |event| matches!(event, Event::PeerLeft { .. })).await;
    let stats = torrent.stats().await.unwrap();
    assert_eq!((stats.state, stats.peers, stats.rate_down), (State::Paused, 0, 0));
    assert!(stats.bytes_verified > 0 && stats.bytes_verified < stats.bytes_total);
    torrent.set_download_limit(None);
    torrent.resume();
    torrent.completed().await.unwrap();
    let after = torrent.stats().await.unwrap();
    assert!(after.totals.bytes_down >= swarm.metainfo.info.payload_len());
    swarm.check();
}

async fn a_torrent_may_be_added_paused(ip: &str) {
    let swarm = Swarm::of(ip, FILES).await;
    let getter = session(ip);
    let torrent = getter.add(swarm.download(&[]).paused(true)).await.unwrap();
    until(&mut torrent.events(), |event| matches!(event, Event::Paused)).await;
    assert!(!swarm.target.path().join(".data.swarm").exists());
    // What it is told meanwhile counts.
    torrent.add_peers(swarm.seeder.listen_addrs().iter().copied());
    torrent.set_files(Files::only([file(0)])).unwrap();
    torrent.resume();
    torrent.completed().await.unwrap();
    assert!(path_of(&swarm.metainfo, swarm.target.path(), 0).exists());
    assert!(!path_of(&swarm.metainfo, swarm.target.path(), 1).exists());
}

async fn recheck_checks_all_data_again(ip: &str) {
    let swarm = Swarm::of(ip, FILES).await;
    let getter = session(ip);
    let torrent = getter.add(swarm.get()).await.unwrap();
    torrent.completed().await.unwrap();
    let mut events = torrent.events();
    torrent.recheck();
    let all = swarm.metainfo.info.geometry.pieces();
    until(&mut events, |event| matches!(event, Event::Checking { done, of } if done == of && *of == all))
        .await;
    until(&mut events, |event| matches!(event, Event::Completed)).await;
    // Nothing was wrong, and nothing came again.
    assert_eq!(torrent.stats().await.unwrap().totals.bytes_down, swarm.metainfo.info.payload_len());
}

async fn a_torrent_may_be_checked_and_no_more(ip: &str) {
    let swarm = Swarm::of(ip, FILES).await;
    let getter = session(ip);
    let look = |add: AddTorrent| getter.add(add.check_only(true).recheck(true));
    let rested = async |torrent: &TorrentHandle| {
        until(&mut torrent.events(), |event| matches!(event, Event::Paused)).await;
        torrent.stats().await.unwrap()
    };
    let torrent = look(swarm.get()).await.unwrap();
    let stats = rested(&torrent).await;
    assert_eq!((stats.state, stats.pieces_have, stats.bytes_verified), (State::Paused, 0, 0));
    assert!(names_in(swarm.target.path()).is_empty(), "nothing is left behind");
    torrent.resume();
    torrent.completed().await.unwrap();
    torrent.stop().await.unwrap();

    let path = path_of(&swarm.metainfo, swarm.target.path(), 0);
    let mut damaged = std::fs::read(&path).unwrap();
    damaged[100_000] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    let torrent = look(swarm.get().overwrite(true)).await.unwrap();
    let (stats, info) = (rested(&torrent).await, &swarm.metainfo.info);
    assert_eq!((stats.state, stats.pieces_have), (State::Paused, info.geometry.pieces() - 1));
    assert_eq!(stats.bytes_total - stats.bytes_verified, u64::from(info.geometry.piece_len()));
    torrent.stop().await.unwrap();
    let torrent = getter.add(swarm.get().overwrite(true)).await.unwrap();
    torrent.completed().await.unwrap();
    swarm.check();
}

async fn files_are_chosen_while_it_runs(ip: &str) {
    let swarm = Swarm::of(ip, FILES).await;
    let getter = session(ip);
    let one = swarm.get().files(Files::only([file(0)]));
    let torrent = getter.add(one).await.unwrap();
    let mut events = torrent.events();
    until(&mut events, |event| matches!(event, Event::Completed)).await;
    let (stats, len) = (torrent.stats().await.unwrap(), swarm.metainfo.info.files[0].length);
    assert_eq!((stats.bytes_total, stats.bytes_verified), (len, len), "not that of whole pieces");
    let wrong = torrent.set_files(Files::only([file(5)]));
    assert!(matches!(wrong, Err(Error::Option(OptionError::NoSuchFile { index: 5, files: 5 }))), "{wrong:?}");
    torrent.set_files(Files::all()).unwrap();
    until(&mut events, |event| matches!(event, Event::Completed)).await;
    swarm.check();
}

async fn a_reader_waits_for_what_is_missing(ip: &str) {
    let swarm = Swarm::in_pieces(ip, &[("a", 1_000), ("long", 6_000_000)], 65_536).await;
    let getter = session(ip);
    let torrent = getter.add(swarm.download(&[])).await.unwrap();
    let expected = content(6_000_000, 1);
    let mut reader = torrent.read(file(1)).unwrap();
    assert_eq!(reader.len(), 6_000_000);
    reader.seek(SeekFrom::Start(5_000_000)).await.unwrap();
    let mut end = Vec::new();
    // Nothing is here, and there is nobody to ask.
    let nothing = tokio::select! {
        biased;
        _ = reader.read_u8() => false,
        _ = torrent.stats() => true,
    };
    assert!(nothing);
    torrent.add_peers(swarm.seeder.listen_addrs().iter().copied());
    reader.read_to_end(&mut end).await.unwrap();
    assert!(end == expected[5_000_000..]);
    reader.rewind().await.unwrap();
    let mut all = Vec::new();
    reader.read_to_end(&mut all).await.unwrap();
    assert!(all == expected);
    getter.stop().await;
    reader.rewind().await.unwrap();
    assert!(reader.read_u8().await.is_err(), "the torrent has ended");
}

async fn a_reader_of_a_file_that_is_not_wanted_has_it_downloaded(ip: &str) {
    let swarm = Swarm::in_pieces(ip, &[("a", 1_000_000), ("b", 300_000)], 65_536).await;
    let getter = session(ip);
    let one = swarm.get().files(Files::only([file(0)]));
    let torrent = getter.add(one).await.unwrap();
    let mut other = Vec::new();
    torrent.read(file(1)).unwrap().read_to_end(&mut other).await.unwrap();
    assert!(other == content(300_000, 1));
}

async fn removing_deletes_only_the_torrents_files(ip: &str) {
    let swarm = Swarm::of(ip, FILES).await;
    let getter = session(ip);
    let torrent = getter.add(swarm.get()).await.unwrap();
    torrent.completed().await.unwrap();
    std::fs::write(swarm.target.path().join("data/notes"), "mine").unwrap();
    getter.remove(torrent.id(), Data::Delete).await.unwrap();
    assert_eq!(names_in(swarm.target.path()), ["data"]);
    assert_eq!(names_in(&swarm.target.path().join("data")), ["notes"]);
    assert!(getter.get(torrent.id()).is_none());

    // The same of one that is not complete.
    let slow = swarm.get().download_limit(500_000);
    let torrent = getter.add(slow).await.unwrap();
    until(&mut torrent.events(), |event| matches!(event, Event::PieceVerified(_))).await;
    getter.remove(torrent.id(), Data::Delete).await.unwrap();
    assert_eq!(names_in(swarm.target.path()), ["data"]);
    assert_eq!(names_in(&swarm.target.path().join("data")), ["notes"]);
}

async fn removing_leaves_what_was_never_verified(ip: &str) {
    let target = TempDir::new().unwrap();
    let metainfo = publish(target.path(), &[("a", 65_536), ("b", 70_000)], 16_384);
    let getter = session(ip);
    let paused = get(&metainfo, target.path(), &[]).paused(true);
    let torrent = getter.add(paused).await.unwrap();
    until(&mut torrent.events(), |event| matches!(event, Event::Paused)).await;
    getter.remove(torrent.id(), Data::Delete).await.unwrap();
    assert!(path_of(&metainfo, target.path(), 0).exists(), "nobody has looked whose it is");

    // Another file under the name of one that is not wanted.
    let path = path_of(&metainfo, target.path(), 1);
    std::fs::write(&path, "mine").unwrap();
    let without = get(&metainfo, target.path(), &[]).files(Files::only([file(0)]));
    let torrent = getter.add(without).await.unwrap();
    torrent.completed().await.unwrap();
    getter.remove(torrent.id(), Data::Delete).await.unwrap();
    assert!(!path_of(&metainfo, target.path(), 0).exists());
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
}

async fn removing_deletes_what_an_earlier_session_has_verified(ip: &str) {
    let swarm = Swarm::of(ip, FILES).await;
    let state = TempDir::new().unwrap();
    let session = || session_on(ip, |options| options.state_dir(state.path()));
    for unfinished in [false, true] {
        let getter = session();
        let limit = unfinished.then_some(500_000);
        let torrent = getter.add(swarm.get().download_limit(limit)).await.unwrap();
        match unfinished {
            true => {
                drop(until(&mut torrent.events(), |event| matches!(event, Event::PieceVerified(_))).await)
            }
            false => torrent.completed().await.unwrap(),
        }
        getter.stop().await;
        std::fs::create_dir_all(swarm.target.path().join("data")).unwrap();
        std::fs::write(swarm.target.path().join("data/notes"), "mine").unwrap();
        let getter = session();
        let torrent = getter.add(swarm.get().paused(true)).await.unwrap();
        getter.remove(torrent.id(), Data::Delete).await.unwrap();
        assert_eq!(names_in(swarm.target.path()), ["data"], "unfinished: {unfinished}");
        assert_eq!(names_in(&swarm.target.path().join("data")), ["notes"]);
    }
}

async fn the_active_torrents_and_their_files_are_told(ip: &str) {
    let swarm = Swarm::of(ip, FILES).await;
    let getter = session(ip);
    let torrent = getter.add(swarm.get().download_limit(500_000)).await.unwrap();
    let idle = getter.add(AddTorrent::download(InfoHash([7; 20]), "nowhere")).await.unwrap();
    assert_eq!(idle.file_progress().await.unwrap(), None);
    until(&mut torrent.events(), |event| matches!(event, Event::PieceVerified(_))).await;
    assert_eq!(getter.active().await.unwrap(), [torrent.id()]);
    torrent.set_download_limit(None);
    torrent.completed().await.unwrap();
    let lengths: Vec<u64> = swarm.metainfo.info.files.iter().map(|file| file.length).collect();
    assert_eq!(torrent.file_progress().await.unwrap(), Some(lengths));
    torrent.pause();
    until(&mut torrent.events(), |event| matches!(event, Event::Paused)).await;
    assert!(getter.active().await.unwrap().is_empty());
}

async fn torrents_are_found_by_id_and_hash(ip: &str) {
    let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let metainfo = publish(source.path(), FILES, 16_384);
    let getter = session(ip);
    assert!(getter.torrents().is_empty());
    let one = getter.add(get(&metainfo, target.path(), &[])).await.unwrap();
    let link: Source = "magnet:?xt=urn:btih:6a9759bffd5c0af65319979fb7832189f4f3c35d".parse().unwrap();
    let hash = link.info_hash().unwrap();
    let other = getter.add(AddTorrent::download(link, target.path())).await.unwrap();
    let ids: Vec<_> = getter.torrents().iter().map(|torrent| torrent.id()).collect();
    assert_eq!(ids, [one.id(), other.id()]);
    assert_eq!(getter.find(metainfo.info.info_hash).unwrap().id(), one.id());
    assert_eq!(getter.find(hash).unwrap().id(), other.id());
    getter.remove(one.id(), Data::Keep).await.unwrap();
    assert!(getter.find(metainfo.info.info_hash).is_none());
    let again = getter.add(get(&metainfo, target.path(), &[])).await.unwrap();
    assert!(again.id() > other.id(), "an id is never used again");
}

async fn a_session_tells_of_all_its_torrents(ip: &str) {
    let (swarm, other) = (Swarm::of(ip, FILES).await, Swarm::new(ip).await);
    let getter = session(ip);
    let mut events = getter.events();
    let torrents = [getter.add(swarm.get()).await.unwrap(), getter.add(other.get()).await.unwrap()];
    let ids = torrents.map(|torrent| torrent.id());
    let mut completed = BTreeSet::new();
    while completed.len() < 2 {
        let (id, event) = events.next().await.unwrap();
        let id = id.filter(|id| ids.contains(id)).unwrap_or_else(|| panic!("{event:?}"));
        if matches!(event, Event::Completed) {
            completed.insert(id);
        }
    }
    getter.stop().await;
    while let Some((id, event)) = events.next().await {
        assert!(id.is_some_and(|id| ids.contains(&id)), "{event:?}");
    }
}

async fn a_tracker_is_added_while_it_runs(ip: &str) {
    use common::tracker::{Say, Scripted, peers};
    let swarm = Swarm::of(ip, FILES).await;
    let getter = session(ip);
    let torrent = getter.add(swarm.download(&[])).await.unwrap();
    until(&mut torrent.events(), |event| matches!(event, Event::Started { .. })).await;
    let tracker = Scripted::always(ip, Say::ok(peers(swarm.seeder.listen_addrs()))).await;
    torrent.add_trackers([tracker.url("/announce")]);
    torrent.completed().await.unwrap();
    let known: Vec<_> =
        torrent.stats().await.unwrap().trackers.into_iter().map(|tracker| tracker.url).collect();
    assert!(known.contains(&tracker.url("/announce")), "{known:?}");
}

async fn a_reader_may_come_before_the_data_is_opened(ip: &str) {
    let source = TempDir::new().unwrap();
    let metainfo = publish(source.path(), FILES, 16_384);
    let seeder = session(ip);
    let torrent =
        seeder.add(AddTorrent::seed(Arc::clone(&metainfo), source.path()).paused(true)).await.unwrap();
    until(&mut torrent.events(), |event| matches!(event, Event::Paused)).await;
    torrent.resume();
    let mut bytes = Vec::new();
    torrent.read(file(4)).unwrap().read_to_end(&mut bytes).await.unwrap();
    assert!(bytes == content(1_500_000, 4));
}

async fn a_reader_of_what_a_seed_lacks_is_refused(ip: &str) {
    let source = TempDir::new().unwrap();
    let metainfo = publish(source.path(), FILES, 16_384);
    std::fs::remove_file(path_of(&metainfo, source.path(), 4)).unwrap();
    let seeder = session(ip);
    let torrent = seeder.add(AddTorrent::seed(Arc::clone(&metainfo), source.path())).await.unwrap();
    let error = torrent.read(file(4)).unwrap().read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    assert_eq!(torrent.stats().await.unwrap().state, State::Seeding, "it goes on");
}

async fn handles_outlive_their_session(ip: &str) {
    let target = TempDir::new().unwrap();
    let metainfo = publish(target.path(), FILES, 16_384);
    let getter = session(ip);
    let link: Source = metainfo.info.info_hash.into();
    let torrent = getter.add(AddTorrent::download(link, target.path())).await.unwrap();
    drop(getter);
    assert!(matches!(torrent.metadata().await, Err(Error::Stopped)));
    assert!(matches!(torrent.completed().await, Err(Error::Stopped)));
    assert!(matches!(torrent.stop().await, Err(Error::Stopped)));
}

async fn commands_may_come_while_data_is_opened(ip: &str) {
    let swarm = Swarm::in_pieces(ip, FILES, 16_384).await;
    let getter = session_on(ip, |options| options.workers(4));
    let torrent = getter.add(swarm.get()).await.unwrap();
    for nth in 0..40 {
        torrent.set_files(Files::only([file(nth % 5)])).unwrap();
        torrent.recheck();
    }
    torrent.set_files(Files::all()).unwrap();
    torrent.completed().await.unwrap();
    swarm.check();
}

async fn a_reader_waits_through_a_pause(ip: &str) {
    let swarm = Swarm::of(ip, FILES).await;
    let getter = session(ip);
    let torrent = getter.add(swarm.download(&[])).await.unwrap();
    let mut events = torrent.events();
    until(&mut events, |event| matches!(event, Event::Started { .. })).await;
    let mut reader = torrent.read(file(4)).unwrap();
    let read = tokio::spawn(async move {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).await.map(|_| bytes)
    });
    torrent.stats().await.unwrap();
    torrent.pause();
    until(&mut events, |event| matches!(event, Event::Paused)).await;
    torrent.add_peers(swarm.seeder.listen_addrs().iter().copied());
    torrent.resume();
    assert!(read.await.unwrap().unwrap() == content(1_500_000, 4));
}

async fn trackers_hear_nothing_of_other_files(ip: &str) {
    use common::tracker::{Say, Scripted, parameter, peers};
    let swarm = Swarm::of(ip, FILES).await;
    let getter = session(ip);
    let mut tracker = Scripted::always(ip, Say::ok(peers(swarm.seeder.listen_addrs()))).await;
    let url = tracker.url("/announce");
    let torrent = swarm.download(&[]).trackers([url]).files(Files::only([file(0)]));
    let torrent = getter.add(torrent).await.unwrap();
    torrent.completed().await.unwrap();
    torrent.set_files(Files::all()).unwrap();
    torrent.completed().await.unwrap();
    getter.stop().await;
    let told = tracker.until_event("stopped").await;
    let started = told.iter().filter(|request| parameter(request, "event").as_deref() == Some("started"));
    assert_eq!(started.count(), 1, "{told:?}");
    let downloaded = parameter(told.last().unwrap(), "downloaded").unwrap();
    assert_eq!(downloaded, swarm.metainfo.info.payload_len().to_string(), "both runs count");
}

/// Whether a torrent says at once that it is complete. What was asked of it before has taken effect by then.
async fn is_complete(torrent: &TorrentHandle) -> bool {
    tokio::select! {
        biased;
        done = torrent.completed() => done.is_ok(),
        _ = async { torrent.stats().await.unwrap(); torrent.stats().await } => false,
    }
}

async fn completed_waits_for_what_is_wanted_and_no_more(ip: &str) {
    let swarm = Swarm::of(ip, FILES).await;
    let getter = session(ip);
    let link = AddTorrent::download(swarm.metainfo.info.info_hash, swarm.target.path()).hold(true);
    let torrent = getter.add(link.peers(swarm.seeder.listen_addrs().iter().copied())).await.unwrap();
    torrent.metadata().await.unwrap();
    assert!(!is_complete(&torrent).await, "on hold");
    let mut held = torrent.read(file(3)).unwrap();
    torrent.set_files(Files::only([file(3)])).unwrap();
    torrent.completed().await.unwrap();
    assert_eq!(held.read_u8().await.unwrap(), content(1, 3)[0], "reading waits too");
    drop(held);
    let mut events = torrent.events();
    torrent.pause();
    until(&mut events, |event| matches!(event, Event::Paused)).await;
    assert!(is_complete(&torrent).await, "paused, and all there");
    torrent.set_files(Files::all()).unwrap();
    assert!(!is_complete(&torrent).await, "paused, and not all there");
    torrent.resume();
    torrent.completed().await.unwrap();
    swarm.check();
    torrent.set_files(Files::only([])).unwrap();
    torrent.completed().await.unwrap();
    // One that only lacks everything.
    let of_nothing = session(ip);
    let none = TempDir::new().unwrap();
    let nothing = get(&swarm.metainfo, none.path(), &[]).files(Files::only([]));
    of_nothing.add(nothing).await.unwrap().completed().await.unwrap();
    // A seed that lacks a file.
    std::fs::remove_file(path_of(&swarm.metainfo, swarm.target.path(), 0)).unwrap();
    let seeder = session(ip);
    let partial = AddTorrent::seed(Arc::clone(&swarm.metainfo), swarm.target.path());
    let partial = seeder.add(partial).await.unwrap();
    partial.completed().await.unwrap();
    let stats = partial.stats().await.unwrap();
    assert!(stats.pieces_have < stats.pieces);
    // Metadata alone never completes.
    let searching = session(ip);
    let link = AddTorrent::metadata(swarm.metainfo.info.info_hash);
    let search = searching.add(link.peers(swarm.seeder.listen_addrs().iter().copied())).await.unwrap();
    assert!(matches!(search.completed().await, Err(Error::Stopped)));
    assert!(search.metainfo().is_some());
}

async fn a_reader_of_what_is_not_downloaded_is_refused(ip: &str) {
    // No piece has a part of both.
    let swarm = Swarm::in_pieces(ip, &[("a", 65_536), ("b", 300_000)], 16_384).await;
    let getter = session(ip);
    for files in [Files::only([file(0)]), Files::only([])] {
        let torrent = getter.add(swarm.get().files(files)).await.unwrap();
        torrent.completed().await.unwrap();
        let error = torrent.read(file(1)).unwrap().read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        getter.remove(torrent.id(), Data::Delete).await.unwrap();
        let ended = torrent.read(file(1)).unwrap_err();
        assert!(matches!(ended, Error::Stopped), "{ended:?}");
    }
}

async fn reading_takes_the_metadata(ip: &str) {
    let target = TempDir::new().unwrap();
    let metainfo = publish(target.path(), FILES, 16_384);
    let getter = session(ip);
    let link = AddTorrent::download(metainfo.info.info_hash, target.path());
    let torrent = getter.add(link).await.unwrap();
    let error = torrent.read(file(0)).unwrap_err();
    assert!(matches!(error, Error::NoMetadata), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Usage);
    torrent.stop().await.unwrap();
    assert!(matches!(torrent.read(file(0)), Err(Error::Stopped)));
}

async fn a_limit_is_set_without_the_other(ip: &str) {
    let swarm = Swarm::of(ip, FILES).await;
    let getter = session(ip);
    let torrent = getter.add(swarm.get().download_limit(0)).await.unwrap();
    torrent.set_upload_limit(None);
    getter.set_upload_limit(1_000_000);
    let is_limited = async || matches!(torrent.stats().await.unwrap().waiting, Some(Waiting::Limit));
    while !is_limited().await {
        tokio::task::yield_now().await;
    }
    // So it is after it has started again.
    torrent.recheck();
    while !is_limited().await {
        tokio::task::yield_now().await;
    }
    torrent.set_download_limit(None);
    torrent.completed().await.unwrap();
}

/// What two torrents of a group move together is bounded by its limit, and what is in no group is not.
async fn a_group_shares_a_limit(ip: &str) {
    const LIMIT: u64 = 400_000;
    let swarms = [
        Swarm::of(ip, &[("one", 300_000)]).await,
        Swarm::of(ip, &[("two", 300_000)]).await,
        Swarm::of(ip, &[("free", 300_000)]).await,
    ];
    let getter = session(ip);
    let group = RateGroup(7);
    getter.set_rate_group(group, None, Some(0));
    let one = getter.add(swarms[0].get().rate_groups([group])).await.unwrap();
    let two = getter.add(swarms[1].get()).await.unwrap();
    two.set_rate_groups([group]);
    let free = getter.add(swarms[2].get()).await.unwrap();
    free.completed().await.unwrap();
    let is_limited = async |torrent: &TorrentHandle| {
        matches!(torrent.stats().await.unwrap().waiting, Some(Waiting::Limit))
    };
    while !is_limited(&one).await || !is_limited(&two).await {
        tokio::task::yield_now().await;
    }
    let start = std::time::Instant::now();
    getter.set_rate_group(group, None, Some(LIMIT));
    one.completed().await.unwrap();
    two.completed().await.unwrap();
    let least = std::time::Duration::from_secs_f64((600_000 - LIMIT / 4) as f64 / LIMIT as f64);
    assert!(start.elapsed() >= least, "both in {:?}", start.elapsed());
}

async fn files_are_told_by_their_paths(ip: &str) {
    let swarm = Swarm::of(ip, FILES).await;
    let getter = session(ip);
    let torrent = getter.add(swarm.get().paused(true)).await.unwrap();
    assert_eq!(torrent.dir().as_deref(), Some(swarm.target.path()));
    until(&mut torrent.events(), |event| matches!(event, Event::Paused)).await;
    assert_eq!((torrent.path(), torrent.file_path(file(0))), (None, None), "the names are not known yet");
    torrent.resume();
    torrent.completed().await.unwrap();
    getter.stop().await;
    let root = swarm.target.path().canonicalize().unwrap();
    assert_eq!(torrent.path(), Some(root.join("data")));
    for nth in 0..5 {
        let path = torrent.file_path(file(nth)).unwrap();
        assert_eq!(path, path_of(&swarm.metainfo, &root, nth as usize));
        assert!(std::fs::read(path).unwrap() == content(FILES[nth as usize].1, nth.into()));
    }
    assert_eq!(torrent.file_path(file(5)), None);
    // The names that a file system without `:` has taken.
    let source = TempDir::new().unwrap();
    let metainfo = publish(source.path(), &[("a:b", 20_000)], 16_384);
    let renamed = source.path().canonicalize().unwrap().join("data/a_b");
    std::fs::rename(source.path().join("data/a:b"), &renamed).unwrap();
    let seeder = session(ip);
    let torrent = seeder.add(AddTorrent::seed(metainfo, source.path())).await.unwrap();
    torrent.completed().await.unwrap();
    assert_eq!(torrent.file_path(file(0)), Some(renamed));
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused() {
    let target = TempDir::new().unwrap();
    let metainfo = publish(target.path(), FILES, 16_384);
    let getter = session("127.0.0.1");
    for files in [Files::only([file(5)]), Files::priorities([])] {
        let refused = getter.add(get(&metainfo, target.path(), &[]).files(files)).await;
        assert!(matches!(refused, Err(Error::Option(_))), "{refused:?}");
    }
    let refused = getter.add(get(&metainfo, target.path(), &[]).peers_max(0)).await;
    assert!(matches!(refused, Err(Error::Option(OptionError::Zero { option: "peers_max" }))));
    assert!(getter.torrents().is_empty());
    let refused = swarm_engine::Session::start(SessionOptions::new().buffer_bytes(0));
    assert!(matches!(refused, Err(Error::Option(OptionError::Zero { .. }))));
}

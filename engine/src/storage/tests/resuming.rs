use super::*;

/// Writes half of the torrent, with a mark in the middle.
fn interrupted(dir: &Path, torrent: &Torrent) -> (FileStorage, Vec<PieceIndex>, Vec<PieceIndex>) {
    let (storage, _) = torrent.download(dir);
    storage.reserve().unwrap();
    let (marked, unmarked): (Vec<_>, Vec<_>) =
        ([0, 2, 9].map(PieceIndex).into(), [1, 5].map(PieceIndex).into());
    marked.iter().for_each(|&piece| torrent.write(&storage, piece));
    storage.sync().unwrap();
    unmarked.iter().for_each(|&piece| torrent.write(&storage, piece));
    (storage, marked, unmarked)
}

fn set(bits: &Bitfield) -> Vec<PieceIndex> {
    bits.iter().collect()
}

fn complete(torrent: &Torrent, dir: &Path, storage: &FileStorage, opened: &Opened) {
    let good = opened.recheck.iter().filter(|&p| storage.check_piece(p).unwrap()).collect::<Vec<_>>();
    storage.reserve().unwrap();
    for piece in opened.needed.iter().filter(|p| !opened.have.has(*p) && !good.contains(p)) {
        torrent.write(storage, piece);
    }
    storage.finish().unwrap();
    torrent.assert_complete(dir);
}

#[test]
fn after_a_crash_marked_pieces_are_trusted_and_written_ones_checked() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, marked, unmarked) = interrupted(dir.path(), &torrent);
    drop(storage);
    for _ in 0..2 {
        // Twice: what was found out must survive another crash.
        let (storage, opened) = torrent.download(dir.path());
        assert_eq!((set(&opened.have), set(&opened.recheck)), (marked.clone(), unmarked.clone()));
        assert!(opened.warnings.is_empty());
        drop(storage);
    }
    let (storage, opened) = torrent.download(dir.path());
    assert!(unmarked.iter().all(|&piece| storage.check_piece(piece).unwrap()));
    drop(storage);
    let (storage, _) = torrent.download(dir.path());
    complete(&torrent, dir.path(), &storage, &opened);
}

#[test]
fn after_a_clean_stop_everything_is_trusted() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, mut marked, unmarked) = interrupted(dir.path(), &torrent);
    storage.close().unwrap();
    let late = storage.verify_and_write(torrent.received(PieceIndex(3)));
    assert!(matches!(late, PieceOutcome::Failed { error: StorageError::Closed { .. }, .. }));
    drop(storage);
    marked.extend(unmarked);
    marked.sort();
    let (storage, opened) = torrent.download(dir.path());
    assert_eq!((set(&opened.have), opened.recheck.count()), (marked, 0));
    complete(&torrent, dir.path(), &storage, &opened);
}

#[test]
fn state_is_written_in_changes_and_not_whole() {
    const PIECES: u64 = 600;
    let dir = tempfile::tempdir().unwrap();
    let torrent = Torrent::new("t", 16 * KIB, &[("a", Content::Random(PIECES * 16 * KIB))]);
    let (storage, _) = torrent.download(dir.path());
    storage.reserve().unwrap();
    let of = |name: &str| fs::metadata(dir.path().join(".t.swarm").join(name)).unwrap();
    let (state, header) = (of("state"), of("journal").len());
    for (piece, n) in torrent.pieces().zip(1..) {
        let before = of("journal").len();
        torrent.write(&storage, piece);
        assert_eq!(of("journal").len() - before, 2 * journal::RECORD_LEN, "a piece, and how its file looks");
        if n % 100 == 0 {
            storage.sync().unwrap();
        }
    }
    assert_eq!((of("state").ino(), of("state").len()), (state.ino(), state.len()));
    let records = (of("journal").len() - header) / journal::RECORD_LEN;
    assert_eq!(records, 2 * PIECES + PIECES / 100 + 1, "a mark for each sync, and the complete file");
    assert!(state.len() < PIECES / 4 + 500, "{} bytes for {PIECES} pieces", state.len());
}

#[test]
fn after_a_clean_stop_a_changed_file_is_checked() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, ..) = interrupted(dir.path(), &torrent);
    storage.close().unwrap();
    let part = dir.path().join(".mixed.swarm/0.part");
    let mut bytes = fs::read(&part).unwrap();
    bytes[40_000] ^= 1;
    fs::write(&part, bytes).unwrap();
    let (storage, opened) = torrent.download(dir.path());
    assert_eq!(opened.have.count(), 0);
    assert_eq!(set(&opened.recheck), [0, 1, 2, 5, 9].map(PieceIndex));
    assert!(!storage.check_piece(PieceIndex(1)).unwrap());
    complete(&torrent, dir.path(), &storage, &opened);
}

#[test]
fn pieces_of_a_file_that_is_gone_or_short_are_not_there() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, ..) = interrupted(dir.path(), &torrent);
    drop(storage);
    let part = dir.path().join(".mixed.swarm/0.part");
    fs::File::options().write(true).open(&part).unwrap().set_len(50_000).unwrap();
    let (storage, opened) = torrent.download(dir.path());
    // Whoever has cut it may have done more.
    assert_eq!((opened.have.count(), set(&opened.recheck)), (0, vec![PieceIndex(0)]));
    drop(storage);
    fs::remove_file(&part).unwrap();
    let (storage, opened) = torrent.download(dir.path());
    assert_eq!((opened.have.count(), opened.recheck.count()), (0, 0));
    complete(&torrent, dir.path(), &storage, &opened);
}

#[test]
fn damaged_state_means_checking_and_losing_nothing() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, ..) = interrupted(dir.path(), &torrent);
    drop(storage);
    fs::write(dir.path().join(".mixed.swarm/state"), b"d4:junki1ee").unwrap();
    let (storage, opened) = torrent.download(dir.path());
    assert_eq!((opened.have.count(), opened.warnings.len()), (0, 1));
    assert!(opened.recheck.count() >= 5);
    let good: Vec<_> = opened.recheck.iter().filter(|&p| storage.check_piece(p).unwrap()).collect();
    assert_eq!(good, [0, 1, 2, 5, 9].map(PieceIndex));
    complete(&torrent, dir.path(), &storage, &opened);
}

#[test]
fn after_a_power_cut_what_looks_like_data_is_checked_but_not_trusted() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, marked, _) = interrupted(dir.path(), &torrent);
    drop(storage);
    // The journal's end never reached the disk, nor did the last times of the files, and the machine has started anew.
    let journal = dir.path().join(".mixed.swarm/journal");
    let bytes = fs::read(&journal).unwrap();
    let records: Vec<&[u8]> = bytes.chunks(journal::RECORD_LEN as usize).collect();
    let mark = records.iter().position(|record| record[..4] == [2, 0, 0, 0]).unwrap();
    fs::write(&journal, records[..=mark].concat()).unwrap();
    for file in names(&dir.path().join(".mixed.swarm")).iter().filter(|name| name.ends_with(".part")) {
        let part = fs::File::options().write(true).open(dir.path().join(".mixed.swarm").join(file)).unwrap();
        part.set_modified(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000))
            .unwrap();
    }
    let state = dir.path().join(".mixed.swarm");
    let tree = Tree::new(state.clone());
    let state::Loaded::State(mut saved) = state::State::load(&tree, &["state"], &torrent.info).unwrap()
    else {
        panic!("no state")
    };
    saved.boot_id = Some("another".to_owned());
    saved.save(&tree, &[], "state", None).unwrap();
    let (storage, opened) = torrent.download(dir.path());
    assert_eq!(set(&opened.have), marked);
    assert!(opened.recheck.has(PieceIndex(1)) && opened.recheck.has(PieceIndex(5)));
    drop(storage);
    // A file that has been written to since the last that the journal knows of is checked as a whole.
    saved.save(&tree, &[], "state", None).unwrap();
    let part = fs::File::options().write(true).open(dir.path().join(".mixed.swarm/0.part")).unwrap();
    part.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(60)).unwrap();
    let (storage, opened) = torrent.download(dir.path());
    assert!(opened.have.count() == 0 && marked.iter().all(|&piece| opened.recheck.has(piece)));
    complete(&torrent, dir.path(), &storage, &opened);
}

#[test]
fn finished_files_are_known_after_a_crash() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, _) = torrent.download(dir.path());
    storage.reserve().unwrap();
    torrent.pieces().skip(10).for_each(|piece| torrent.write(&storage, piece));
    assert!(!storage.sync().unwrap().is_empty());
    drop(storage);
    let (storage, opened) = torrent.download(dir.path());
    assert_eq!(opened.recheck.count(), 0);
    assert!(torrent.pieces().skip(10).all(|piece| opened.have.has(piece)));
    assert!(storage.is_finished(FileIndex(6)));
    drop(storage);
    // One that was touched since is checked, and found to be right.
    let tail = torrent.path(dir.path(), 6);
    fs::write(&tail, torrent.file_bytes(6)).unwrap();
    let (storage, opened) = torrent.download(dir.path());
    assert!(opened.recheck.count() > 0);
    complete(&torrent, dir.path(), &storage, &opened);
}

#[test]
fn crash_between_mark_and_final_name() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, opened) = torrent.download(dir.path());
    storage.reserve().unwrap();
    torrent.fetch(&storage, &opened);
    storage.sync().unwrap();
    // As if the process had died before the last rename.
    fs::rename(torrent.path(dir.path(), 6), dir.path().join(".mixed.swarm/6.part")).unwrap();
    drop(storage);
    let (storage, opened) = torrent.download(dir.path());
    assert!(opened.have.is_full());
    assert_eq!(storage.finish().unwrap(), [FileIndex(6)]);
    torrent.assert_complete(dir.path());
}

#[test]
fn state_of_an_earlier_start_does_not_revive_old_marks() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, ..) = interrupted(dir.path(), &torrent);
    let work = dir.path().join(".mixed.swarm");
    let old_journal = fs::read(work.join("journal")).unwrap();
    storage.close().unwrap();
    fs::write(work.join("0.part"), vec![0; 300 * 1024 + 7]).unwrap();
    drop(torrent.download(dir.path()));
    // A crash right after the new state was written, before the old journal was replaced.
    fs::write(work.join("journal"), old_journal).unwrap();
    let (storage, opened) = torrent.download(dir.path());
    assert_eq!(opened.have.count(), 0, "the file has changed since those marks");
    complete(&torrent, dir.path(), &storage, &opened);
}

#[test]
fn complete_download_is_trusted_next_time() {
    let (dir, states, torrent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), mixed());
    let options = || with_state(all_of(dir.path()), states.path());
    let (storage, opened) = torrent.open(options()).unwrap();
    storage.reserve().unwrap();
    torrent.fetch(&storage, &opened);
    storage.finish().unwrap();
    storage.close().unwrap();
    let (storage, opened) = torrent.open(options()).unwrap();
    assert!(opened.have.is_full());
    storage.finish().unwrap();
    drop(storage);
    let (_, opened) = torrent.open(with_state(seeding(dir.path()), states.path())).unwrap();
    assert!(opened.have.is_full());
    let (_, opened) = torrent.open(OpenOptions { trust: Trust::Nothing, ..options() }).unwrap();
    assert_eq!((opened.have.count(), opened.recheck.is_full()), (0, true));
    assert_eq!(names(states.path()).len(), 1);
}

#[test]
fn unfinished_download_of_another_torrent_is_left_alone() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, ..) = interrupted(dir.path(), &torrent);
    drop(storage);
    let mut other = mixed();
    Arc::make_mut(&mut other.info).info_hash = InfoHash([1; 20]);
    let error = other.open(all_of(dir.path())).unwrap_err();
    assert!(matches!(error, StorageError::OtherTorrent { .. }), "{error}");
    assert_eq!(torrent.download(dir.path()).1.have.count(), 3);
    let (_, opened) = other.open(OpenOptions { overwrite: true, ..all_of(dir.path()) }).unwrap();
    assert_eq!((opened.have.count(), opened.recheck.count()), (0, 0));
}

/// Not a test of its own: what the child process of the next one does.
#[test]
fn child_downloads_until_it_is_killed() {
    let Some(dir) = std::env::var_os("SWARM_KILLED_CHILD") else { return };
    let torrent = mixed();
    let (storage, opened) = torrent.download(Path::new(&dir));
    storage.reserve().unwrap();
    for piece in opened.needed.iter().take(9) {
        torrent.write(&storage, piece);
        if piece.0 == 4 {
            storage.sync().unwrap();
        }
        println!("announced {piece}");
    }
    // Killed while it waits for a line that never comes.
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn killed_process_leaves_what_it_announced() {
    use std::io::BufRead;
    use std::process::{Command, Stdio};
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "storage::tests::resuming::child_downloads_until_it_is_killed"])
        .env("SWARM_KILLED_CHILD", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let said = lines.map_while(Result::ok).filter(|line| line.contains("announced ")).take(9).count();
    assert_eq!(said, 9);
    assert!(
        matches!(torrent.open(all_of(dir.path())), Err(StorageError::Locked { pid: Some(p), .. }) if p == child.id())
    );
    child.kill().unwrap();
    child.wait().unwrap();
    let (storage, opened) = torrent.download(dir.path());
    assert_eq!(set(&opened.have), [0, 1, 2, 3, 4].map(PieceIndex));
    assert_eq!(set(&opened.recheck), [5, 6, 7, 8].map(PieceIndex));
    complete(&torrent, dir.path(), &storage, &opened);
}

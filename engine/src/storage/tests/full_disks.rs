use super::*;

#[test]
fn full_disk_is_an_answer_and_goes_on_when_there_is_space() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let budget = Arc::new(SpaceBudget::new(100 * KIB));
    let options = OpenOptions { budget: Some(Arc::clone(&budget)), ..all_of(dir.path()) };
    let (storage, _) = torrent.open(options).unwrap();
    storage.reserve().unwrap();
    let mut pieces = torrent.pieces();
    let (piece, buffer) = loop {
        let piece = pieces.next().unwrap();
        match storage.verify_and_write(torrent.received(piece)) {
            PieceOutcome::Ok => {}
            PieceOutcome::Failed { error, buffer } => {
                assert!(error.is_no_space(), "{error}");
                break (piece, buffer);
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(piece, PieceIndex(3));
    assert!(storage.reserve().is_err_and(|e| e.is_no_space()), "still full");
    let mut partial = PieceBuffer::new(&torrent.info.geometry, PieceIndex(5));
    torrent.receive(&mut partial, 0..1);
    let spill = partial.take_for_spill();
    assert!(storage.spill(&spill).is_err_and(|e| e.is_no_space()));
    partial.restore(spill);
    budget.lift();
    storage.reserve().unwrap();
    assert!(matches!(storage.verify_and_write(buffer), PieceOutcome::Ok));
    torrent.receive(&mut partial, 1..2);
    assert!(matches!(storage.verify_and_write(partial), PieceOutcome::Ok));
    pieces.filter(|&p| p != PieceIndex(5)).for_each(|piece| torrent.write(&storage, piece));
    storage.finish().unwrap();
    torrent.assert_complete(dir.path());
}

#[test]
fn what_the_volume_could_never_hold_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut torrent =
        Torrent::new("huge", 16 * KIB, &[("a", Content::Random(10)), ("b", Content::Random(10))]);
    // 8 EiB less a bit: no disk has that.
    Arc::make_mut(&mut torrent.info).files[1].length = i64::MAX as u64 - 4096;
    let (storage, _) = torrent.download(dir.path());
    let error = storage.reserve().unwrap_err();
    assert!(error.is_too_large() && !error.may_pass(), "{error}");
    assert!(matches!(error, StorageError::TooLarge { needed, .. } if needed == i64::MAX as u64 - 4086));
    assert_eq!(parts(dir.path()), 0, "nothing was reserved");
}

/// Bytes of disk that unfinished files take up.
fn parts(dir: &Path) -> u64 {
    let parts = fs::read_dir(dir.join(".huge.swarm")).unwrap().map(|entry| entry.unwrap().path());
    parts.filter(|path| path.extension().is_some_and(|e| e == "part")).map(|path| allocated(&path)).sum()
}

fn allocated(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn reservation_that_fails_is_given_back_and_keeps_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let files = [("a", Content::Random(900 * KIB)), ("b", Content::Random(100)), ("c", Content::Random(100))];
    let torrent = Torrent::new("huge", 64 * KIB, &files);
    let wanted = [true, true, false];
    let side = dir.path().join(".huge.swarm/side");
    let (storage, _) = torrent.open(wanting(dir.path(), &wanted)).unwrap();
    // What is to be reserved last cannot be made.
    fs::create_dir(&side).unwrap();
    storage.reserve().unwrap_err();
    assert_eq!(names(&dir.path().join(".huge.swarm")), ["journal", "lock", "side", "state"]);
    fs::remove_dir(&side).unwrap();
    storage.reserve().unwrap();
    torrent.write(&storage, PieceIndex(3));
    storage.close().unwrap();
    drop(storage);

    fs::remove_file(&side).unwrap();
    let part = dir.path().join(".huge.swarm/0.part");
    fs::File::options().write(true).open(&part).unwrap().set_len(400 * KIB).unwrap();
    let (storage, opened) = torrent.open(wanting(dir.path(), &wanted)).unwrap();
    assert!(opened.recheck.has(PieceIndex(3)));
    fs::create_dir(&side).unwrap();
    storage.reserve().unwrap_err();
    assert!(allocated(&part) <= 2 * 64 * KIB, "{} bytes are kept", allocated(&part));
    assert!(storage.check_piece(PieceIndex(3)).unwrap(), "what was there before stays");
}

#[test]
fn folder_that_vanishes_is_noticed_at_the_next_sync_and_again_when_it_is_back() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, opened) = torrent.download(dir.path());
    storage.reserve().unwrap();
    torrent.write(&storage, PieceIndex(0));
    let (folder, away) = (dir.path().join(".mixed.swarm"), dir.path().join("away"));
    fs::rename(&folder, &away).unwrap();
    let error = storage.sync().unwrap_err();
    assert!(matches!(&error, StorageError::Gone { path } if *path == folder) && error.may_pass(), "{error}");
    assert!(matches!(storage.reserve(), Err(StorageError::Gone { .. })), "it is still gone");
    fs::rename(&away, &folder).unwrap();
    storage.reserve().unwrap();
    torrent.fetch(&storage, &opened);
    storage.finish().unwrap();
    torrent.assert_complete(dir.path());
}

#[test]
fn reserved_space_is_really_taken() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, _) = torrent.download(dir.path());
    storage.reserve().unwrap();
    let meta = fs::metadata(dir.path().join(".mixed.swarm/0.part")).unwrap();
    assert_eq!(meta.len(), torrent.info.files[0].length);
    assert!(meta.blocks() * 512 >= meta.len());
}

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
fn impossible_reservation_names_the_file_and_what_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let mut torrent =
        Torrent::new("huge", 16 * KIB, &[("a", Content::Random(10)), ("b", Content::Random(10))]);
    // 8 EiB less a bit: no disk has that.
    Arc::make_mut(&mut torrent.info).files[1].length = i64::MAX as u64 - 4096;
    let (storage, _) = torrent.download(dir.path());
    let error = storage.reserve().unwrap_err();
    let path = torrent.path(dir.path(), 1);
    match error {
        StorageError::NoSpace { path: p, needed } => {
            assert_eq!((p, needed), (path, i64::MAX as u64 - 4096))
        }
        // Longer than a file can be here.
        StorageError::Io { path: p, .. } => assert_eq!(p, path),
        other => panic!("{other}"),
    }
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

use super::*;

#[test]
fn whole_torrent_arrives_and_nothing_else_is_left() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, opened) = torrent.download(dir.path());
    assert_eq!((opened.have.count(), opened.recheck.count()), (0, 0));
    assert!(opened.needed.is_full() && opened.warnings.is_empty());
    storage.reserve().unwrap();
    for piece in torrent.pieces().rev() {
        torrent.write(&storage, piece);
        assert!(prepared_bytes(&storage, piece, 0..100) == torrent.bytes(piece)[..100]);
    }
    assert_eq!(names(dir.path()), [".mixed.swarm"], "nothing has its name before it is durable");
    let finished = storage.finish().unwrap();
    assert_eq!(finished.len(), 4);
    torrent.assert_complete(dir.path());
    assert_eq!(names(dir.path()), ["mixed"]);
    assert_eq!(names(&dir.path().join("mixed")), ["big", "deep", "empty", "tail"]);
    let deep = dir.path().join("mixed/deep");
    assert_eq!(names(&deep), ["er", "link", "run"]);
    assert_eq!(fs::read_link(deep.join("link")).unwrap(), Path::new("er/tiny"));
    assert_eq!(fs::metadata(deep.join("run")).unwrap().mode() & 0o100, 0o100);
    assert_eq!(fs::metadata(dir.path().join("mixed/big")).unwrap().mode() & 0o111, 0);
    assert_serves_everything(&torrent, &storage);
    storage.close().unwrap();
}

#[test]
fn file_gets_its_name_with_the_sync_after_its_last_piece() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, _) = torrent.download(dir.path());
    storage.reserve().unwrap();
    let tail = FileIndex(6);
    let mut pieces: Vec<_> = torrent.pieces().collect();
    pieces.reverse();
    for &piece in &pieces[..2] {
        torrent.write(&storage, piece);
    }
    assert_eq!(storage.sync().unwrap(), []);
    assert!(!torrent.path(dir.path(), 6).exists());
    for &piece in &pieces[2..4] {
        torrent.write(&storage, piece);
    }
    assert!(storage.unsynced_bytes() > 0);
    assert_eq!(storage.sync().unwrap(), [FileIndex(3), FileIndex(4), tail]);
    assert_eq!(storage.unsynced_bytes(), 0);
    assert!(storage.is_finished(tail) && !storage.is_finished(FileIndex(0)));
    assert_eq!(fs::read(torrent.path(dir.path(), 6)).unwrap(), torrent.file_bytes(6));
    assert_serves(&torrent, &storage, &pieces[..4]);
}

fn assert_serves(torrent: &Torrent, storage: &FileStorage, pieces: &[PieceIndex]) {
    for &piece in pieces {
        let len = torrent.info.geometry.len_of(piece);
        assert!(prepared_bytes(storage, piece, 0..len) == torrent.bytes(piece));
    }
}

#[test]
fn single_file_and_empty_torrents() {
    let dir = tempfile::tempdir().unwrap();
    let single = Torrent::new("one", 16 * KIB, &[("", Content::Random(50_000))]);
    let (storage, opened) = single.download(dir.path());
    storage.reserve().unwrap();
    single.fetch(&storage, &opened);
    storage.finish().unwrap();
    single.assert_complete(dir.path());
    let empty = Torrent::new("none", 16 * KIB, &[("a", Content::Random(0)), ("b/c", Content::Random(0))]);
    let (storage, opened) = empty.download(dir.path());
    assert!(opened.needed.is_empty());
    storage.reserve().unwrap();
    storage.finish().unwrap();
    empty.assert_complete(dir.path());
    assert_eq!(names(dir.path()), ["none", "one"]);
}

#[test]
fn wrong_piece_is_never_written() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, _) = torrent.download(dir.path());
    storage.reserve().unwrap();
    let mut buffer = PieceBuffer::new(&torrent.info.geometry, PieceIndex(1));
    let mut poisoned = torrent.pool.take().unwrap();
    poisoned.fill(1);
    buffer.insert(1, poisoned);
    torrent.receive(&mut buffer, 0..1);
    let outcome = storage.verify_and_write(buffer);
    assert!(matches!(outcome, PieceOutcome::HashMismatch(b) if b.is_complete()));
    let part = fs::read(dir.path().join(".mixed.swarm/0.part")).unwrap();
    assert!(part.iter().all(|&b| b == 0));
    assert!(!storage.check_piece(PieceIndex(1)).unwrap());
    torrent.write(&storage, PieceIndex(1));
    assert!(storage.check_piece(PieceIndex(1)).unwrap());
}

#[test]
fn spilled_blocks_are_verified_with_the_rest() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    // `deep/run` is not wanted: its part goes to the part file for good.
    let (storage, opened) =
        torrent.open(wanting(dir.path(), &[true, true, true, true, false, true, true])).unwrap();
    storage.reserve().unwrap();
    for piece in opened.needed.iter() {
        let mut buffer = PieceBuffer::new(&torrent.info.geometry, piece);
        let blocks = torrent.info.geometry.blocks_in(piece);
        torrent.receive(&mut buffer, 0..piece.0 % 2 + 1);
        let spill = buffer.take_for_spill();
        storage.spill(&spill).unwrap();
        buffer.spilled(spill);
        assert_eq!(torrent.pool.used_bytes(), 0);
        torrent.receive(&mut buffer, 0..blocks);
        assert!(matches!(storage.verify_and_write(buffer), PieceOutcome::Ok), "piece {piece}");
    }
    let side = fs::metadata(dir.path().join(".mixed.swarm/side")).unwrap();
    assert!(side.blocks() * 512 < 20 * KIB, "spilled blocks are given back");
    assert_serves_everything(&torrent, &storage);
    storage.finish().unwrap();
    assert_eq!(fs::read(torrent.path(dir.path(), 6)).unwrap(), torrent.file_bytes(6));
    assert_serves_everything(&torrent, &storage);
}

#[test]
fn spilled_poison_is_noticed() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, _) = torrent.download(dir.path());
    storage.reserve().unwrap();
    let mut buffer = PieceBuffer::new(&torrent.info.geometry, PieceIndex(0));
    let mut poisoned = torrent.pool.take().unwrap();
    poisoned.fill(1);
    buffer.insert(0, poisoned);
    let spill = buffer.take_for_spill();
    storage.spill(&spill).unwrap();
    buffer.spilled(spill);
    torrent.receive(&mut buffer, 1..2);
    assert!(matches!(storage.verify_and_write(buffer), PieceOutcome::HashMismatch(_)));
}

#[test]
fn only_wanted_files_appear() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let wanted = [false, false, false, false, false, false, true];
    let (storage, opened) = torrent.open(wanting(dir.path(), &wanted)).unwrap();
    assert!(opened.needed.count() < torrent.info.geometry.pieces());
    storage.reserve().unwrap();
    torrent.fetch(&storage, &opened);
    let edge = opened.needed.iter().next().unwrap();
    assert_eq!(storage.finish().unwrap(), [FileIndex(6)]);
    assert_eq!(names(&dir.path().join("mixed")), ["tail"]);
    assert_eq!(names(dir.path()), [".mixed.swarm", "mixed"], "what the edge has of other files is kept");
    let len = torrent.info.geometry.len_of(edge);
    assert!(prepared_bytes(&storage, edge, 0..len) == torrent.bytes(edge), "the edge is still served");
    storage.close().unwrap();
}

#[test]
fn more_wanted_later_completes_and_compares_the_edges() {
    let (dir, states, torrent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), mixed());
    let wanted = [false, false, false, false, false, false, true];
    let (storage, opened) = torrent.open(with_state(wanting(dir.path(), &wanted), states.path())).unwrap();
    storage.reserve().unwrap();
    torrent.fetch(&storage, &opened);
    storage.finish().unwrap();
    storage.close().unwrap();
    for _ in 0..2 {
        let (again, opened) = torrent.open(with_state(wanting(dir.path(), &wanted), states.path())).unwrap();
        assert!(opened.needed.iter().all(|p| opened.have.has(p)), "the same again has nothing to do");
        assert_eq!(opened.recheck.count(), 0);
        again.finish().unwrap();
        again.close().unwrap();
    }
    let (storage, opened) = torrent.open(with_state(all_of(dir.path()), states.path())).unwrap();
    assert!(opened.have.count() > 0);
    storage.reserve().unwrap();
    torrent.fetch(&storage, &opened);
    storage.finish().unwrap();
    torrent.assert_complete(dir.path());
}

#[test]
fn files_wanted_one_run_after_another_need_no_piece_twice() {
    for is_clean in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let files = [("a", 40 * KIB), ("b", 5 * KIB), ("c", 90 * KIB), ("d", 10 * KIB)];
        let torrent = Torrent::new("turns", 64 * KIB, &files.map(|(path, len)| (path, Content::Random(len))));
        let mut written = 0;
        for file in [1, 0, 3, 2] {
            let wanted: Vec<bool> = (0..4).map(|i| i == file).collect();
            let (storage, opened) = torrent.open(wanting(dir.path(), &wanted)).unwrap();
            let mut have = opened.have.clone();
            for piece in opened.recheck.iter() {
                assert!(storage.check_piece(piece).unwrap(), "piece {piece} for file {file}");
                have.insert(piece);
            }
            storage.reserve().unwrap();
            for piece in opened.needed.iter().filter(|&piece| !have.has(piece)) {
                torrent.write(&storage, piece);
                written += 1;
            }
            storage.finish().unwrap();
            assert_eq!(fs::read(torrent.path(dir.path(), file)).unwrap(), torrent.file_bytes(file));
            if is_clean {
                storage.close().unwrap();
            }
        }
        assert_eq!(written, torrent.info.geometry.pieces(), "each piece came once");
        torrent.assert_complete(dir.path());
        assert_eq!(names(dir.path()), ["turns"]);
    }
}

#[test]
fn blocks_of_unfinished_pieces_survive_a_stop() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, opened) = torrent.download(dir.path());
    assert!(opened.partial.is_empty());
    storage.reserve().unwrap();
    for (piece, blocks) in [(2, 1..2), (4, 0..1), (5, 0..2)] {
        let mut buffer = PieceBuffer::new(&torrent.info.geometry, PieceIndex(piece));
        torrent.receive(&mut buffer, blocks);
        let spill = buffer.take_for_spill();
        storage.spill(&spill).unwrap();
        buffer.spilled(spill);
        if piece == 5 {
            assert!(matches!(storage.verify_and_write(buffer), PieceOutcome::Ok));
        }
    }
    storage.close().unwrap();
    // A start that is killed loses nothing of it.
    drop(torrent.download(dir.path()));
    let (storage, opened) = torrent.download(dir.path());
    assert!(opened.have.has(PieceIndex(5)));
    assert_eq!(opened.partial, [(PieceIndex(2), vec![1]), (PieceIndex(4), vec![0])]);
    storage.reserve().unwrap();
    for (piece, blocks) in &opened.partial {
        let mut buffer = PieceBuffer::new(&torrent.info.geometry, *piece).with_spilled(blocks);
        let missing = (0..2).filter(|block| !blocks.contains(block));
        missing.for_each(|block| torrent.receive(&mut buffer, block..block + 1));
        assert!(matches!(storage.verify_and_write(buffer), PieceOutcome::Ok));
    }
    storage.close().unwrap();
    let (_, opened) = torrent.download(dir.path());
    assert!(opened.partial.is_empty() && opened.have.has(PieceIndex(2)) && opened.have.has(PieceIndex(4)));
}

#[test]
fn blocks_that_the_side_file_does_not_hold_are_not_believed() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, _) = torrent.download(dir.path());
    storage.reserve().unwrap();
    for piece in [PieceIndex(2), PieceIndex(4)] {
        let mut buffer = PieceBuffer::new(&torrent.info.geometry, piece);
        torrent.receive(&mut buffer, 0..1);
        let spill = buffer.take_for_spill();
        storage.spill(&spill).unwrap();
        buffer.spilled(spill);
    }
    storage.close().unwrap();
    drop(storage);
    let side = fs::File::options().write(true).open(dir.path().join(".mixed.swarm/side")).unwrap();
    side.set_len(3 * 32 * KIB).unwrap();
    let (_, opened) = torrent.download(dir.path());
    assert_eq!(opened.partial, [(PieceIndex(2), vec![0])]);
}

#[test]
fn wanting_more_while_unfinished_does_not_trust_what_is_aside() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, opened) =
        torrent.open(wanting(dir.path(), &[false, false, false, false, false, false, true])).unwrap();
    storage.reserve().unwrap();
    torrent.fetch(&storage, &opened);
    storage.close().unwrap();
    let (storage, opened) = torrent.download(dir.path());
    storage.reserve().unwrap();
    torrent.fetch(&storage, &opened);
    storage.finish().unwrap();
    torrent.assert_complete(dir.path());
}

#[test]
fn wanting_less_keeps_what_is_there() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, _) = torrent.download(dir.path());
    storage.reserve().unwrap();
    torrent.write(&storage, PieceIndex(0));
    storage.close().unwrap();
    let (storage, opened) =
        torrent.open(wanting(dir.path(), &[false, false, false, false, false, false, true])).unwrap();
    assert!(opened.have.has(PieceIndex(0)) && !opened.needed.has(PieceIndex(0)));
    storage.reserve().unwrap();
    torrent.fetch(&storage, &opened);
    storage.finish().unwrap();
    // The folder holds two files that an edge piece has whole; the first file was not complete.
    assert_eq!(names(&dir.path().join("mixed")), ["deep", "tail"]);
    let part = fs::metadata(dir.path().join(".mixed.swarm/0.part")).unwrap();
    assert!(part.blocks() * 512 < 150 * KIB, "what was reserved for it is given back");
    assert_eq!(prepared_bytes(&storage, PieceIndex(0), 0..1_000), torrent.bytes(PieceIndex(0))[..1_000]);
    storage.close().unwrap();
    let (storage, opened) = torrent.download(dir.path());
    assert!(opened.have.has(PieceIndex(0)));
    storage.reserve().unwrap();
    torrent.fetch(&storage, &opened);
    storage.finish().unwrap();
    torrent.assert_complete(dir.path());
    assert_eq!(names(dir.path()), ["mixed"]);
}

#[test]
fn thousands_of_small_files() {
    let paths: Vec<String> = (0..4_000).map(|i| format!("d{}/f{i}", i % 50)).collect();
    let files: Vec<_> = paths.iter().map(|path| (path.as_str(), Content::Random(50))).collect();
    // In memory where possible: some disks take milliseconds to remove a file.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let torrent = Torrent::new("many", 64 * KIB, &files);
    let (storage, opened) = torrent.download(dir.path());
    storage.reserve().unwrap();
    torrent.fetch(&storage, &opened);
    assert_eq!(storage.finish().unwrap().len(), 4_000);
    torrent.assert_complete(dir.path());
    assert_eq!(names(dir.path()), ["many"]);
    let open = fs::read_dir("/proc/self/fd").unwrap();
    let ours =
        open.filter(|e| fs::read_link(e.as_ref().unwrap().path()).is_ok_and(|p| p.starts_with(dir.path())));
    assert!(ours.count() <= HandleLimits::default().open_files);
    let (seed, opened) = torrent.open(seeding(dir.path())).unwrap();
    assert!(opened.recheck.iter().all(|piece| seed.check_piece(piece).unwrap()));
}

/// Three pieces; in the second, what looks like padding holds something.
fn falsely_padded() -> Torrent {
    let pad = |n: u32| format!("_____padding_file_{n}_");
    Torrent::new(
        "old",
        32 * KIB,
        &[
            ("a", Content::Random(1_000)),
            (&pad(0), Content::Pad(32 * KIB - 1_000)),
            ("b", Content::Random(1_000)),
            (&pad(1), Content::FalsePad(32 * KIB - 1_000)),
            ("c", Content::Random(1_000)),
        ],
    )
}

#[test]
fn what_only_has_the_name_of_padding_is_written_and_found_again() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), falsely_padded());
    let (storage, opened) = torrent.download(dir.path());
    assert!(opened.needed.is_full());
    storage.reserve().unwrap();
    for piece in torrent.pieces() {
        torrent.write(&storage, piece);
    }
    storage.finish().unwrap();
    assert_serves_everything(&torrent, &storage);
    storage.close().unwrap();
    let folder = dir.path().join("old");
    assert_eq!(names(&folder), ["_____padding_file_1_", "a", "b", "c"], "real padding is never written");
    assert_eq!(fs::read(folder.join("_____padding_file_1_")).unwrap(), torrent.file_bytes(3));
    let (seed, opened) = FileStorage::open(Arc::clone(&torrent.info), seeding(dir.path())).unwrap();
    assert_eq!(opened.recheck.count(), 3);
    assert!(torrent.pieces().all(|piece| seed.check_piece(piece).unwrap()));
    assert_serves_everything(&torrent, &seed);
    let report = verify::run(&torrent.info, dir.path(), 1, &|_| {}).unwrap();
    assert!(report.is_ok(), "{report:?}");
}

#[test]
fn a_piece_of_which_padding_did_not_come_is_verified_with_zeros() {
    let files =
        [("a", Content::Random(1_000)), ("pad", Content::Pad(63 * KIB + 24)), ("b", Content::Random(9))];
    let (dir, torrent) = (tempfile::tempdir().unwrap(), Torrent::new("t", 64 * KIB, &files));
    let (storage, _) = torrent.download(dir.path());
    storage.reserve().unwrap();
    let mut buffer = PieceBuffer::with_padding(&torrent.info.geometry, PieceIndex(0), 1..4);
    torrent.receive(&mut buffer, 0..1);
    assert_eq!(buffer.bytes_in_memory(), BLOCK_BYTES);
    assert!(matches!(storage.verify_and_write(buffer), PieceOutcome::Ok));
    torrent.write(&storage, PieceIndex(1));
    storage.finish().unwrap();
    assert_eq!(names(&dir.path().join("t")), ["a", "b"]);
    assert_serves_everything(&torrent, &storage);
}

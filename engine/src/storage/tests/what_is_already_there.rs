use super::*;

fn opened(torrent: &Torrent, dir: &Path) -> (FileStorage, Opened) {
    let (storage, opened) = torrent.download(dir);
    assert_eq!(opened.have.count(), 0, "nothing is believed");
    (storage, opened)
}

#[test]
fn right_files_are_adopted_where_they_are() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    torrent.lay_out(dir.path());
    let inode = fs::metadata(torrent.path(dir.path(), 0)).unwrap().ino();
    let (storage, opened) = opened(&torrent, dir.path());
    assert!(opened.recheck.is_full());
    assert!(opened.recheck.iter().all(|piece| storage.check_piece(piece).unwrap()));
    storage.reserve().unwrap();
    storage.finish().unwrap();
    torrent.assert_complete(dir.path());
    assert_eq!(fs::metadata(torrent.path(dir.path(), 0)).unwrap().ino(), inode);
    assert_eq!(names(dir.path()), ["mixed"]);
}

#[test]
fn some_files_are_adopted_and_their_edges_compared() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    torrent.lay_out(dir.path());
    fs::remove_file(torrent.path(dir.path(), 3)).unwrap();
    let (storage, opened) = opened(&torrent, dir.path());
    let missing = opened.needed.count() - opened.recheck.count();
    assert_eq!(missing, 1, "the piece with the tiny file");
    assert!(opened.recheck.iter().all(|piece| storage.check_piece(piece).unwrap()));
    storage.reserve().unwrap();
    opened.needed.iter().filter(|&p| !opened.recheck.has(p)).for_each(|piece| torrent.write(&storage, piece));
    assert_eq!(storage.finish().unwrap(), [FileIndex(3)]);
    torrent.assert_complete(dir.path());
}

#[test]
fn foreign_file_of_another_length_stops_at_once() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let path = torrent.path(dir.path(), 6);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, b"my diary").unwrap();
    let error = torrent.open(all_of(dir.path())).unwrap_err();
    assert!(matches!(&error, StorageError::ForeignData { path: p } if *p == path), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"my diary");
    assert_eq!(names(dir.path()), ["mixed"], "no work folder stays behind");
    // It is in nobody's way if it is not wanted.
    let (storage, opened) =
        torrent.open(wanting(dir.path(), &[true, true, true, true, true, true, false])).unwrap();
    storage.reserve().unwrap();
    torrent.fetch(&storage, &opened);
    storage.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"my diary");
}

#[test]
fn foreign_file_of_the_same_length_is_found_by_its_content() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let path = torrent.path(dir.path(), 0);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut mine = torrent.file_bytes(0).to_vec();
    mine[100_000] ^= 1;
    fs::write(&path, &mine).unwrap();
    let (storage, opened) = opened(&torrent, dir.path());
    let bad = PieceIndex(100_000 / (32 * KIB as u32));
    for piece in opened.recheck.iter() {
        match storage.check_piece(piece) {
            Ok(is_right) => assert_eq!(is_right, piece != bad),
            Err(error) => {
                assert!(
                    piece == bad && matches!(&error, StorageError::ForeignData { path: p } if *p == path)
                );
            }
        }
    }
    assert!(fs::read(&path).unwrap() == mine);
}

#[test]
fn foreign_tiny_file_is_found_by_comparing() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let path = torrent.path(dir.path(), 3);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, b"abc").unwrap();
    let (storage, opened) = opened(&torrent, dir.path());
    storage.reserve().unwrap();
    let failed =
        opened.needed.iter().find_map(|piece| match storage.verify_and_write(torrent.received(piece)) {
            PieceOutcome::Failed { error, .. } => Some(error),
            _ => None,
        });
    assert!(matches!(&failed, Some(StorageError::ForeignData { path: p }) if *p == path), "{failed:?}");
    assert_eq!(fs::read(&path).unwrap(), b"abc");
}

#[test]
fn overwriting_is_for_those_who_ask() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    torrent.lay_out(dir.path());
    let mut mine = torrent.file_bytes(0).to_vec();
    mine[100_000] ^= 1;
    fs::write(torrent.path(dir.path(), 0), &mine).unwrap();
    fs::write(torrent.path(dir.path(), 2), b"not empty").unwrap();
    fs::write(torrent.path(dir.path(), 3), b"abc").unwrap();
    fs::write(torrent.path(dir.path(), 6), vec![1; 200 * 1024]).unwrap();
    fs::write(torrent.path(dir.path(), 5), b"no link").unwrap();
    let (storage, opened) = torrent.open(OpenOptions { overwrite: true, ..all_of(dir.path()) }).unwrap();
    let good: Vec<_> = opened.recheck.iter().filter(|&p| storage.check_piece(p).unwrap()).collect();
    assert_eq!(good.len(), 9, "all of the first file but one piece");
    storage.reserve().unwrap();
    opened.needed.iter().filter(|p| !good.contains(p)).for_each(|piece| torrent.write(&storage, piece));
    storage.finish().unwrap();
    torrent.assert_complete(dir.path());
    assert!(fs::symlink_metadata(torrent.path(dir.path(), 5)).unwrap().is_symlink());
    assert_eq!(names(dir.path()), ["mixed"]);
}

#[test]
fn second_download_to_one_place_is_refused() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (first, _) = torrent.download(dir.path());
    assert!(matches!(torrent.open(all_of(dir.path())), Err(StorageError::Locked { .. })));
    first.close().unwrap();
    torrent.open(all_of(dir.path())).unwrap();
}

#[test]
fn file_that_appears_meanwhile_is_not_replaced() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, opened) = torrent.download(dir.path());
    storage.reserve().unwrap();
    torrent.fetch(&storage, &opened);
    let path = torrent.path(dir.path(), 6);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, b"mine").unwrap();
    assert!(matches!(storage.finish(), Err(StorageError::ForeignData { path: p }) if p == path));
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    fs::remove_file(&path).unwrap();
    let finished: BTreeSet<u32> = storage.finish().unwrap().into_iter().map(|file| file.0).collect();
    assert_eq!(finished, [0, 3, 4, 6].into(), "those that were not in the way too");
    torrent.assert_complete(dir.path());
}

#[test]
fn other_names_of_an_overwritten_file_keep_its_content() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    torrent.lay_out(dir.path());
    let mut mine = torrent.file_bytes(0).to_vec();
    mine[100_000] ^= 1;
    for (file, bytes) in [(0, &mine[..]), (6, b"short")] {
        fs::write(torrent.path(dir.path(), file), bytes).unwrap();
        fs::hard_link(torrent.path(dir.path(), file), dir.path().join(format!("backup{file}"))).unwrap();
    }
    let (storage, opened) = torrent.open(OpenOptions { overwrite: true, ..all_of(dir.path()) }).unwrap();
    storage.reserve().unwrap();
    torrent.fetch(&storage, &opened);
    storage.finish().unwrap();
    torrent.assert_complete(dir.path());
    assert!(fs::read(dir.path().join("backup0")).unwrap() == mine);
    assert_eq!(fs::read(dir.path().join("backup6")).unwrap(), b"short");
}

#[test]
fn failed_start_deletes_nothing() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    torrent.lay_out(dir.path());
    fs::write(torrent.path(dir.path(), 0), b"mine").unwrap();
    fs::remove_file(torrent.path(dir.path(), 6)).unwrap();
    fs::create_dir(torrent.path(dir.path(), 6)).unwrap();
    let overwrite = || OpenOptions { overwrite: true, ..all_of(dir.path()) };
    assert!(matches!(torrent.open(overwrite()), Err(StorageError::WrongKind { .. })));
    let moved = fs::read(dir.path().join(".mixed.swarm/0.part"));
    assert_eq!(moved.or_else(|_| fs::read(torrent.path(dir.path(), 0))).unwrap(), b"mine");
    fs::remove_dir(torrent.path(dir.path(), 6)).unwrap();
    let (storage, opened) = torrent.open(overwrite()).unwrap();
    storage.reserve().unwrap();
    torrent.fetch(&storage, &opened);
    storage.finish().unwrap();
    torrent.assert_complete(dir.path());
}

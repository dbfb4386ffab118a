//! Work folders go when they hold nothing, and nothing fails because one cannot.

use super::*;

fn other() -> Torrent {
    let mut other = mixed();
    Arc::make_mut(&mut other.info).info_hash = InfoHash([1; 20]);
    let mut hashes = other.info.piece_hashes.as_ref().unwrap().to_vec();
    hashes[25] ^= 1;
    Arc::make_mut(&mut other.info).piece_hashes = Some(hashes.into());
    other
}

#[test]
fn refused_torrent_is_in_nobodys_way() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    torrent.lay_out(dir.path());
    let (storage, opened) = other().download(dir.path());
    let refused = opened.recheck.iter().find_map(|piece| storage.check_piece(piece).err());
    assert!(matches!(refused, Some(StorageError::ForeignData { .. })), "{refused:?}");
    storage.abandon();
    assert_eq!(names(dir.path()), ["mixed"]);
    // Nor is what another program has left of one.
    let (storage, _) = other().download(dir.path());
    drop(storage);
    let (storage, opened) = torrent.download(dir.path());
    assert!(opened.recheck.iter().all(|piece| storage.check_piece(piece).unwrap()));
    storage.finish().unwrap();
    torrent.assert_complete(dir.path());
    assert_eq!(names(dir.path()), ["mixed"]);
}

#[test]
fn download_that_got_nothing_leaves_nothing() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    for close in [FileStorage::abandon, |storage: &FileStorage| storage.close().unwrap()] {
        let (storage, _) = torrent.download(dir.path());
        storage.reserve().unwrap();
        close(&storage);
        assert_eq!(names(dir.path()), [""; 0]);
    }
    let (storage, _) = torrent.download(dir.path());
    storage.reserve().unwrap();
    torrent.write(&storage, PieceIndex(3));
    storage.abandon();
    assert_eq!(names(dir.path()), [".mixed.swarm"]);
    assert!(torrent.download(dir.path()).1.have.has(PieceIndex(3)));
}

#[test]
fn what_was_moved_in_is_not_removed() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let path = torrent.path(dir.path(), 6);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, b"mine").unwrap();
    let (storage, _) = torrent.open(OpenOptions { overwrite: true, ..all_of(dir.path()) }).unwrap();
    storage.abandon();
    assert_eq!(fs::read(dir.path().join(".mixed.swarm/6.part")).unwrap(), b"mine");
}

#[test]
fn work_folder_that_cannot_be_removed_is_no_failure() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, opened) = torrent.download(dir.path());
    storage.reserve().unwrap();
    torrent.fetch(&storage, &opened);
    // As a file system that keeps removed files that are open: under another name, which cannot be removed.
    let kept = dir.path().join(".mixed.swarm/.nfs0001");
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("x"), b"").unwrap();
    storage.finish().unwrap();
    torrent.assert_complete(dir.path());
    assert_serves_everything(&torrent, &storage);
    assert_eq!(names(&dir.path().join(".mixed.swarm")), [".nfs0001"], "all else is gone");
    // What is left is in nobody's way, and goes when it can.
    let (again, opened) = torrent.download(dir.path());
    assert!(opened.recheck.iter().all(|piece| again.check_piece(piece).unwrap()));
    again.finish().unwrap();
    again.close().unwrap();
    fs::remove_dir_all(&kept).unwrap();
    storage.close().unwrap();
    assert_eq!(names(dir.path()), ["mixed"]);
}

#[test]
fn files_are_closed_before_the_work_folder_goes() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, opened) = torrent.download(dir.path());
    storage.reserve().unwrap();
    torrent.fetch(&storage, &opened);
    storage.finish().unwrap();
    let open = fs::read_dir("/proc/self/fd").unwrap();
    let open = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let ours: Vec<_> = open.filter(|path| path.starts_with(dir.path().join(".mixed.swarm"))).collect();
    assert_eq!(ours, Vec::<std::path::PathBuf>::new());
    storage.close().unwrap();
    assert_eq!(names(dir.path()), ["mixed"]);
}

use super::*;

#[test]
fn links_inside_the_destination_are_not_followed() {
    let (dir, outside, torrent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), mixed());
    fs::create_dir(dir.path().join("mixed")).unwrap();
    symlink(outside.path(), dir.path().join("mixed/deep")).unwrap();
    let error = torrent.open(all_of(dir.path())).unwrap_err();
    let path = dir.path().join("mixed/deep");
    assert!(matches!(&error, StorageError::WrongKind { path: p, .. } if *p == path), "{error}");
    fs::remove_file(&path).unwrap();
    // The link appears after the start, and only in time for the final name.
    let (storage, opened) = torrent.download(dir.path());
    storage.reserve().unwrap();
    torrent.fetch(&storage, &opened);
    symlink(outside.path(), &path).unwrap();
    assert!(matches!(storage.finish(), Err(StorageError::WrongKind { .. })));
    assert_eq!(names(outside.path()), [""; 0]);
}

#[test]
fn link_in_a_files_place_is_not_followed() {
    let (dir, outside, torrent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), mixed());
    let victim = outside.path().join("victim");
    fs::write(&victim, b"precious").unwrap();
    for file in [0, 2] {
        let path = torrent.path(dir.path(), file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(&victim, &path).unwrap();
        assert!(
            matches!(torrent.open(all_of(dir.path())), Err(StorageError::WrongKind { path: p, .. }) if p == path)
        );
        fs::remove_file(&path).unwrap();
    }
    // Nor in the work folder, nor the work folder itself.
    fs::remove_dir(dir.path().join("mixed")).unwrap();
    symlink(outside.path(), dir.path().join(".mixed.swarm")).unwrap();
    assert!(matches!(torrent.open(all_of(dir.path())), Err(StorageError::WrongKind { .. })));
    fs::remove_file(dir.path().join(".mixed.swarm")).unwrap();
    fs::create_dir(dir.path().join(".mixed.swarm")).unwrap();
    symlink(&victim, dir.path().join(".mixed.swarm/0.part")).unwrap();
    let reserved = torrent.open(all_of(dir.path())).and_then(|(storage, _)| storage.reserve());
    assert!(matches!(reserved, Err(StorageError::WrongKind { .. })), "{reserved:?}");
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}

#[test]
fn hard_link_in_the_work_folder_is_not_written_through() {
    let (dir, outside, torrent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), mixed());
    let victim = outside.path().join("victim");
    fs::write(&victim, b"precious").unwrap();
    for name in ["0.part", "side", "lock"] {
        fs::create_dir_all(dir.path().join(".mixed.swarm")).unwrap();
        fs::hard_link(&victim, dir.path().join(".mixed.swarm").join(name)).unwrap();
        let wanted = [true, true, true, true, true, true, false];
        let written = torrent.open(wanting(dir.path(), &wanted)).and_then(|(storage, opened)| {
            storage.reserve()?;
            opened.needed.iter().try_for_each(|piece| {
                match storage.verify_and_write(torrent.received(piece)) {
                    PieceOutcome::Failed { error, .. } => Err(error),
                    _ => Ok(()),
                }
            })
        });
        assert!(matches!(written, Err(StorageError::WrongKind { .. })), "{name}: {written:?}");
        assert_eq!(fs::read(&victim).unwrap(), b"precious", "{name}");
        fs::remove_dir_all(dir.path().join(".mixed.swarm")).unwrap();
    }
}

#[test]
fn unsafe_paths_are_refused_whoever_made_them() {
    let dir = tempfile::tempdir().unwrap();
    let with = |change: fn(&mut Info)| {
        let mut torrent = mixed();
        change(Arc::make_mut(&mut torrent.info));
        torrent.open(all_of(dir.path()))
    };
    let changes: [fn(&mut Info); 6] = [
        |info| info.files[0].path[1] = "..".to_owned(),
        |info| info.files[0].path[1] = "a/b".to_owned(),
        |info| info.files[0].path.clear(),
        |info| info.files[0].path[0] = "elsewhere".to_owned(),
        |info| info.files[5].symlink_target = Some(vec!["mixed".to_owned(), "..".to_owned()]),
        |info| info.name = String::new(),
    ];
    for change in changes {
        assert!(matches!(with(change), Err(StorageError::UnsafePath { .. })));
    }
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn no_torrent_can_forge_the_state_of_another() {
    let dir = tempfile::tempdir().unwrap();
    for name in [".mixed.swarm", ".mixed.SWARM"] {
        let forged = Torrent::new(name, 16 * KIB, &[("state", Content::Random(100))]);
        assert!(matches!(forged.open(all_of(dir.path())), Err(StorageError::UnsafePath { .. })));
    }
}

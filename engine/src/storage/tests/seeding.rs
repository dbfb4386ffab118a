use super::*;

#[test]
fn read_only_source_is_checked_and_served_without_a_trace() {
    let (dir, states, torrent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), mixed());
    torrent.lay_out(dir.path());
    for folder in ["mixed", ""] {
        fs::set_permissions(dir.path().join(folder), fs::Permissions::from_mode(0o555)).unwrap();
    }
    let options = || with_state(super::seeding(dir.path()), states.path());
    let (storage, opened) = torrent.open(options()).unwrap();
    assert!(opened.recheck.is_full() && opened.absent.is_empty());
    assert!(torrent.pieces().all(|piece| storage.check_piece(piece).unwrap()));
    assert_serves_everything(&torrent, &storage);
    assert_eq!(names(dir.path()), ["mixed"]);
    let (again, opened) = torrent.open(options()).unwrap();
    assert!(opened.have.is_full(), "what was checked is saved at once");
    assert_serves_everything(&torrent, &again);
    // Something else of the same length, at another time.
    let tail = torrent.path(dir.path(), 6);
    fs::write(&tail, vec![0; 90 * 1024]).unwrap();
    let (changed, opened) = torrent.open(options()).unwrap();
    assert!(!opened.have.is_full() && opened.have.count() > 5);
    assert!(!changed.check_piece(PieceIndex(11)).unwrap());
    for folder in ["mixed", ""] {
        fs::set_permissions(dir.path().join(folder), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn missing_and_short_files_are_named_and_the_rest_is_served() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    torrent.lay_out(dir.path());
    fs::remove_file(torrent.path(dir.path(), 4)).unwrap();
    fs::File::options().write(true).open(torrent.path(dir.path(), 6)).unwrap().set_len(10).unwrap();
    let (storage, opened) = torrent.open(super::seeding(dir.path())).unwrap();
    assert_eq!(opened.absent, [FileIndex(4), FileIndex(6)]);
    let good = opened.recheck.iter().filter(|&piece| storage.check_piece(piece).unwrap()).count();
    assert_eq!((good as u32, opened.needed.is_full()), (opened.recheck.count(), true));
    assert!(storage.prepare(PieceIndex(11), 0..100).is_err());
}

#[test]
fn source_may_lie_behind_links() {
    let (dir, elsewhere, torrent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), mixed());
    torrent.lay_out(elsewhere.path());
    symlink(elsewhere.path().join("mixed"), dir.path().join("mixed")).unwrap();
    let (storage, opened) = torrent.open(super::seeding(dir.path())).unwrap();
    assert!(opened.recheck.iter().all(|piece| storage.check_piece(piece).unwrap()));
    assert_serves_everything(&torrent, &storage);
}

#[test]
fn lengths_are_enough_for_those_who_know() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    torrent.lay_out(dir.path());
    let options = || OpenOptions { trust: Trust::Lengths, ..super::seeding(dir.path()) };
    assert!(torrent.open(options()).unwrap().1.have.is_full());
    let options = || OpenOptions { trust: Trust::Lengths, ..all_of(dir.path()) };
    assert!(torrent.open(options()).unwrap().1.have.is_full());
}

#[test]
fn data_that_was_just_hashed_is_not_checked_unless_it_has_changed_since() {
    let (dir, state, torrent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), mixed());
    torrent.lay_out(dir.path());
    let paths = (0..torrent.info.files.len()).map(|file| torrent.path(dir.path(), file));
    let before = verify::Looks::of(paths);
    let open = || {
        verify::begin_trust(&torrent.info, dir.path(), state.path(), &before).unwrap();
        let state_dir = Some(state.path().to_owned());
        torrent.open(OpenOptions { state_dir, ..super::seeding(dir.path()) }).unwrap()
    };
    let (storage, opened) = open();
    assert!(opened.have.is_full() && opened.recheck.count() == 0);
    assert_serves_everything(&torrent, &storage);
    drop(storage);
    let file = fs::File::options().write(true).open(torrent.path(dir.path(), 0)).unwrap();
    file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(2)).unwrap();
    let (_, opened) = open();
    assert!(opened.recheck.has(PieceIndex(0)) && !opened.have.has(PieceIndex(0)));
}

fn one_big() -> (tempfile::TempDir, Torrent, FileStorage) {
    let dir = tempfile::tempdir().unwrap();
    let torrent = Torrent::new("big", 256 * KIB, &[("", Content::Random(1024 * KIB))]);
    torrent.lay_out(dir.path());
    let (storage, _) = torrent.open(super::seeding(dir.path())).unwrap();
    (dir, torrent, storage)
}

fn cut(torrent: &Torrent, dir: &Path, len: u64) {
    fs::File::options().write(true).open(torrent.path(dir, 0)).unwrap().set_len(len).unwrap();
}

#[test]
fn truncated_file_is_an_error_that_names_it_wherever_it_is_noticed() {
    let (dir, torrent, storage) = one_big();
    let last = PieceIndex(3);
    assert!(storage.check_piece(last).unwrap());
    let prepared = storage.prepare(last, 0..256 * 1024).unwrap();
    assert!(prepared.still_valid());
    cut(&torrent, dir.path(), 900 * 1024);
    assert!(!storage.check_piece(last).unwrap());
    assert!(!prepared.still_valid());
    let path = torrent.path(dir.path(), 0).canonicalize().unwrap();
    let is_named = |e: StorageError| {
        let is_right = matches!(&e, StorageError::Truncated { path: p, len, expected }
            if *p == path && *len == 900 * 1024 && *expected == 1024 * 1024);
        assert!(is_right, "{e}");
    };
    is_named(prepared.check().unwrap_err());
    is_named(prepared.copy_to(0, &mut vec![0; 256 * 1024]).unwrap_err());
    let changed = storage.prepare(last, 0..100).unwrap_err();
    assert!(matches!(&changed, StorageError::Changed { path: p } if *p == path), "{changed}");
    is_named(storage.prepare(last, 0..256 * 1024).unwrap_err());
    // Sending from the hole fails, and kills nobody.
    let slices: Vec<_> = prepared.slices(128 * 1024, 128 * 1024).map(std::io::IoSlice::new).collect();
    let (_reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    let sent = std::io::Write::write_vectored(&mut &writer, &slices[slices.len() - 1..]);
    assert!(sent.is_err_and(|e| e.raw_os_error() == Some(libc::EFAULT)));
}

#[test]
fn cut_inside_a_page_is_noticed_by_its_length() {
    let (dir, torrent, storage) = one_big();
    let prepared = storage.prepare(PieceIndex(3), 0..256 * 1024).unwrap();
    cut(&torrent, dir.path(), 1024 * 1024 - 10);
    assert!(!prepared.still_valid());
    assert!(!storage.check_piece(PieceIndex(3)).unwrap());
    assert!(storage.check_piece(PieceIndex(2)).unwrap());
}

#[test]
fn maps_are_bounded_and_what_is_held_stays_alive() {
    let dir = tempfile::tempdir().unwrap();
    let torrent =
        Torrent::new("big", 1024 * KIB, &[("a", Content::Random(40 << 20)), ("b", Content::Random(9 << 20))]);
    torrent.lay_out(dir.path());
    let limits = HandleLimits { open_files: 1, maps: 1, mapped_bytes: 1 };
    let options = OpenOptions { handles: Arc::new(Handles::new(limits)), ..super::seeding(dir.path()) };
    let (storage, _) = torrent.open(options).unwrap();
    let all: Vec<_> = torrent.pieces().map(|piece| storage.prepare(piece, 0..1024 * 1024).unwrap()).collect();
    for (piece, prepared) in torrent.pieces().zip(&all) {
        let sent: Vec<u8> = prepared.slices(0, 1024 * 1024).flatten().copied().collect();
        assert!(sent == torrent.bytes(piece));
        assert_eq!(prepared.owned_bytes(), 0);
    }
    drop(storage);
    assert!(all[0].still_valid());
}

/// What becomes of a torrent's files before they are checked.
type Damage = fn(&Torrent, &Path);

/// A way to check pieces.
type Check = fn(&FileStorage, &[PieceIndex]) -> Vec<Result<bool, StorageError>>;

const DAMAGES: [Damage; 5] = [
    |_, _| (),
    |torrent, dir| fs::remove_file(torrent.path(dir, 4)).unwrap(),
    |torrent, dir| fs::write(torrent.path(dir, 6), vec![0; 90 * 1024]).unwrap(),
    |torrent, dir| {
        fs::File::options().write(true).open(torrent.path(dir, 0)).unwrap().set_len(200_000).unwrap()
    },
    |torrent, dir| {
        let mut bytes = torrent.file_bytes(0).to_vec();
        bytes[40_000] ^= 1;
        fs::write(torrent.path(dir, 0), bytes).unwrap();
    },
];

#[test]
fn pieces_that_are_checked_side_by_side_come_out_as_one_by_one() {
    let torrent = mixed();
    const SOME: [bool; 7] = [true, true, true, false, true, true, false];
    for (number, damage) in DAMAGES.into_iter().enumerate() {
        for (how, as_what) in
            [super::seeding, all_of, |dir: &Path| wanting(dir, &SOME)].into_iter().enumerate()
        {
            let check = |check: Check| {
                let dir = tempfile::tempdir().unwrap();
                torrent.lay_out(dir.path());
                damage(&torrent, dir.path());
                // What is obviously somebody else's is refused at once.
                let (storage, opened) = torrent.open(as_what(dir.path())).ok()?;
                let pieces: Vec<_> = opened.recheck.iter().collect();
                let results = check(&storage, &pieces).into_iter();
                let results: Vec<_> =
                    results.map(|result| result.map_err(|e| std::mem::discriminant(&e))).collect();
                let has: Vec<_> = torrent.pieces().map(|piece| storage.has(piece)).collect();
                Some((pieces, results, has))
            };
            let one_by_one =
                check(|storage, pieces| pieces.iter().map(|&piece| storage.check_piece(piece)).collect());
            let side_by_side = check(|storage, pieces| storage.check_pieces(pieces, &|| true));
            assert_eq!(side_by_side, one_by_one, "damage {number}, opened in way {how}");
            let is_any_right = one_by_one.as_ref().is_none_or(|(_, results, _)| results.contains(&Ok(true)));
            assert!(is_any_right, "damage {number}, opened in way {how}: {one_by_one:?}");
            assert!(how > 0 || one_by_one.is_some(), "damage {number}: a seed serves what it has");
        }
    }
}

#[test]
fn what_an_interrupted_download_has_written_is_checked_side_by_side_wherever_it_lies() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let some = [true, false, true, true, true, true, false];
    let (storage, opened) = torrent.open(wanting(dir.path(), &some)).unwrap();
    storage.reserve().unwrap();
    torrent.fetch(&storage, &opened);
    drop(storage);
    let (storage, opened) = torrent.open(wanting(dir.path(), &some)).unwrap();
    let pieces: Vec<_> = opened.recheck.iter().collect();
    assert!(pieces.len() > 8, "nothing was synced: {pieces:?}");
    let slices =
        pieces.iter().flat_map(|&piece| storage.locate(piece, 0..torrent.info.geometry.len_of(piece)));
    assert!(slices.filter(|slice| slice.place == table::Place::PartFile).count() > 0);
    assert!(storage.check_pieces(&pieces, &|| true).into_iter().all(Result::unwrap));
}

/// Of padding a torrent can have any number of pieces.
#[test]
fn pieces_of_padding_are_hashed_once_however_many_there_are() {
    let (dir, torrent) = (
        tempfile::tempdir().unwrap(),
        Torrent::new(
            "padded",
            32 * KIB,
            &[
                ("a", Content::Random(32 * KIB)),
                ("pad", Content::Pad(20 * 32 * KIB)),
                ("b", Content::Random(5)),
            ],
        ),
    );
    torrent.lay_out(dir.path());
    let (storage, opened) = torrent.open(super::seeding(dir.path())).unwrap();
    let pieces: Vec<_> = opened.recheck.iter().collect();
    assert_eq!(pieces.len(), 22);
    assert!(storage.check_pieces(&pieces, &|| true).into_iter().all(Result::unwrap));
    assert!(storage.hash_of_zeros.get().is_some(), "all but the first are known by it");
}

#[test]
fn a_check_that_is_over_takes_nothing_more() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    torrent.lay_out(dir.path());
    let (storage, opened) = torrent.open(super::seeding(dir.path())).unwrap();
    let pieces: Vec<_> = opened.recheck.iter().collect();
    assert!(storage.check_pieces(&pieces, &|| false).is_empty());
    assert!(torrent.pieces().all(|piece| !storage.has(piece)));
}

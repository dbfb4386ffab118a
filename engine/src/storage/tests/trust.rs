//! What others do to our files is noticed, and checked again.

use super::rot::rot;
use super::*;
use crate::storage::verify;
use std::time::{Duration, SystemTime};

/// A download in which everything is written and nothing has its final name.
fn all_written() -> (tempfile::TempDir, Torrent, FileStorage) {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, opened) = torrent.download(dir.path());
    storage.reserve().unwrap();
    torrent.fetch(&storage, &opened);
    (dir, torrent, storage)
}

fn part(dir: &Path, file: usize) -> std::path::PathBuf {
    dir.join(format!(".mixed.swarm/{file}.part"))
}

/// Checks what is in doubt, and fetches what is bad: which pieces were in doubt, and which of them bad.
fn settle(torrent: &Torrent, storage: &FileStorage) -> (Vec<PieceIndex>, Vec<PieceIndex>) {
    let doubts = storage.take_doubts();
    let bad = doubts.pieces.iter().copied().filter(|&p| !storage.check_piece(p).unwrap()).collect::<Vec<_>>();
    bad.iter().for_each(|&piece| torrent.write(storage, piece));
    (doubts.pieces, bad)
}

/// Finishes, and must not without noticing: which pieces were in doubt, and which of them bad.
fn finish_noticing(
    torrent: &Torrent,
    dir: &Path,
    storage: &FileStorage,
) -> (Vec<PieceIndex>, Vec<PieceIndex>) {
    let noticed = storage.finish();
    assert!(matches!(noticed, Err(StorageError::Changed { .. })), "{noticed:?}");
    let settled = settle(torrent, storage);
    storage.finish().unwrap();
    assert_eq!(storage.take_doubts(), Doubts::default());
    torrent.assert_complete(dir);
    settled
}

fn pieces(range: Range<u32>) -> Vec<PieceIndex> {
    range.map(PieceIndex).collect()
}

#[test]
fn part_replaced_by_another_file_is_not_complete() {
    let (dir, torrent, storage) = all_written();
    let mut other = torrent.file_bytes(0).to_vec();
    other[100_000] ^= 1;
    fs::write(dir.path().join("other"), &other).unwrap();
    fs::rename(dir.path().join("other"), part(dir.path(), 0)).unwrap();
    let (doubted, bad) = finish_noticing(&torrent, dir.path(), &storage);
    assert_eq!((doubted, bad), (pieces(0..10), pieces(3..4)));
}

#[test]
fn part_cut_short_is_not_complete() {
    let (dir, torrent, storage) = all_written();
    fs::File::options().write(true).open(part(dir.path(), 0)).unwrap().set_len(40_000).unwrap();
    let (doubted, bad) = finish_noticing(&torrent, dir.path(), &storage);
    assert_eq!((doubted, bad), (pieces(0..10), pieces(1..10)));
}

#[test]
fn part_written_over_is_not_complete() {
    let (dir, torrent, storage) = all_written();
    let file = fs::File::options().write(true).open(part(dir.path(), 6)).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"garbage", 80_000).unwrap();
    // The clock of file times may stand still for a few milliseconds.
    file.set_modified(SystemTime::now() + Duration::from_secs(1)).unwrap();
    let (doubted, bad) = finish_noticing(&torrent, dir.path(), &storage);
    assert_eq!((doubted, bad), (pieces(10..13), pieces(12..13)));
}

#[test]
fn part_that_is_gone_is_fetched_again() {
    let (dir, torrent, storage) = all_written();
    fs::remove_file(part(dir.path(), 6)).unwrap();
    let (doubted, bad) = finish_noticing(&torrent, dir.path(), &storage);
    assert_eq!((doubted.clone(), bad), (pieces(10..13), doubted));
}

#[test]
fn hole_where_data_was_is_not_complete() {
    let (dir, torrent, storage) = all_written();
    let file = fs::File::options().write(true).open(part(dir.path(), 0)).unwrap();
    file.sync_all().unwrap();
    let written = file.metadata().unwrap().modified().unwrap();
    sys::punch_hole(&file, 64 * KIB, 64 * KIB);
    file.set_modified(written).unwrap();
    if sys::find_hole(&file, 0, 200 * KIB).is_none() {
        eprintln!("this file system makes no holes: nothing to try");
        return;
    }
    let (doubted, bad) = finish_noticing(&torrent, dir.path(), &storage);
    assert_eq!((doubted, bad), (pieces(2..4), pieces(2..4)));
}

#[test]
fn holes_that_are_right_are_checked_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut torrent = Torrent::new("zeros", 32 * KIB, &[("a", Content::Random(200_000))]);
    torrent.data[64 * 1024..128 * 1024].fill(0);
    let hashes: Vec<u8> =
        torrent.data.chunks(32 * 1024).flat_map(|piece| crate::hash::sha1([piece])).collect();
    Arc::make_mut(&mut torrent.info).piece_hashes = Some(hashes.into());
    let (storage, opened) = torrent.download(dir.path());
    storage.reserve().unwrap();
    torrent.fetch(&storage, &opened);
    let file = fs::File::options().write(true).open(dir.path().join(".zeros.swarm/0.part")).unwrap();
    let written = file.metadata().unwrap().modified().unwrap();
    // As a file system does that stores no zeros.
    sys::punch_hole(&file, 64 * KIB, 64 * KIB);
    file.set_modified(written).unwrap();
    if sys::find_hole(&file, 0, 200 * KIB).is_none() {
        eprintln!("this file system makes no holes: nothing to try");
        return;
    }
    assert!(matches!(storage.finish(), Err(StorageError::Changed { .. })));
    assert_eq!(settle(&torrent, &storage), (pieces(2..4), vec![]));
    storage.finish().unwrap();
    torrent.assert_complete(dir.path());
}

#[test]
fn finished_file_that_changes_before_the_end_is_noticed() {
    let (dir, torrent, storage) = all_written();
    storage.sync().unwrap();
    fs::write(torrent.path(dir.path(), 6), vec![7; 90 * 1024]).unwrap();
    assert!(matches!(storage.finish(), Err(StorageError::Changed { .. })));
    let doubts = storage.take_doubts();
    assert_eq!((doubts.pieces, doubts.files), (pieces(10..13), vec![FileIndex(6)]));
    // It is under its final name: whoever changed it there has it as it is.
    let checked = storage.check_piece(PieceIndex(12));
    assert!(matches!(checked, Err(StorageError::ForeignData { .. })), "{checked:?}");
}

#[test]
fn touched_part_is_checked_and_right() {
    let (dir, torrent, storage) = all_written();
    let file = fs::File::options().write(true).open(part(dir.path(), 0)).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(1)).unwrap();
    let (doubted, bad) = finish_noticing(&torrent, dir.path(), &storage);
    assert_eq!((doubted, bad), (pieces(0..10), vec![]));
}

#[test]
fn hard_link_and_mode_are_no_change() {
    let (dir, torrent, storage) = all_written();
    fs::hard_link(part(dir.path(), 0), dir.path().join("link")).unwrap();
    fs::set_permissions(part(dir.path(), 6), fs::Permissions::from_mode(0o600)).unwrap();
    storage.finish().unwrap();
    assert_eq!(storage.take_doubts(), Doubts::default());
    torrent.assert_complete(dir.path());
}

#[test]
fn change_between_writes_is_noticed_by_the_next_write() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, _) = torrent.download(dir.path());
    storage.reserve().unwrap();
    torrent.write(&storage, PieceIndex(0));
    let mut bytes = fs::read(part(dir.path(), 0)).unwrap();
    bytes[5] ^= 1;
    fs::write(part(dir.path(), 0), bytes).unwrap();
    torrent.write(&storage, PieceIndex(1));
    let doubts = storage.take_doubts();
    assert_eq!((&doubts.pieces[..], &doubts.files[..]), (&pieces(0..2)[..], &[FileIndex(0)][..]));
    assert!(!storage.check_piece(PieceIndex(0)).unwrap() && storage.check_piece(PieceIndex(1)).unwrap());
}

#[test]
fn changed_part_is_not_sent() {
    let (dir, torrent, storage) = all_written();
    fs::write(part(dir.path(), 0), vec![7; 300 * 1024 + 7]).unwrap();
    let sent = storage.prepare(PieceIndex(1), 0..100);
    assert!(matches!(sent, Err(StorageError::Changed { .. })), "{sent:?}");
    assert_eq!(settle(&torrent, &storage), (pieces(0..10), pieces(0..10)));
    assert!(prepared_bytes(&storage, PieceIndex(1), 0..100) == torrent.bytes(PieceIndex(1))[..100]);
}

/// Writes some pieces, marks them, and is killed; then `change` is done to the first file.
fn killed_then(change: impl FnOnce(&Torrent, &Path)) -> (tempfile::TempDir, Torrent, Opened) {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, _) = torrent.download(dir.path());
    storage.reserve().unwrap();
    [0, 1, 12].map(PieceIndex).iter().for_each(|&piece| torrent.write(&storage, piece));
    storage.sync().unwrap();
    drop(storage);
    change(&torrent, &part(dir.path(), 0));
    let (_, opened) = torrent.download(dir.path());
    (dir, torrent, opened)
}

#[test]
fn after_kill_nine_a_replaced_part_is_not_trusted() {
    let (_dir, _, opened) = killed_then(|_, part| {
        // Another file of the same length, with the same time.
        let time = fs::metadata(part).unwrap().modified().unwrap();
        let other = part.with_extension("other");
        fs::write(&other, vec![0; 300 * 1024 + 7]).unwrap();
        fs::File::options().write(true).open(&other).unwrap().set_modified(time).unwrap();
        fs::rename(other, part).unwrap();
    });
    let have: Vec<_> = opened.have.iter().collect();
    assert_eq!((have, opened.recheck.iter().collect()), (pieces(12..13), pieces(0..2)));
}

#[test]
fn after_kill_nine_a_part_written_over_is_not_trusted() {
    let (_dir, _, opened) = killed_then(|_, part| {
        let file = fs::File::options().write(true).open(part).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"garbage", 10).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(1)).unwrap();
    });
    let have: Vec<_> = opened.have.iter().collect();
    assert_eq!((have, opened.recheck.iter().collect()), (pieces(12..13), pieces(0..2)));
}

#[test]
fn after_kill_nine_an_untouched_part_is_trusted() {
    let (_dir, _, opened) = killed_then(|_, _| {});
    assert_eq!((opened.have.count(), opened.recheck.count()), (3, 0));
}

#[test]
fn what_was_in_doubt_when_it_was_killed_still_is() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, _) = torrent.download(dir.path());
    storage.reserve().unwrap();
    [0, 1, 12].map(PieceIndex).iter().for_each(|&piece| torrent.write(&storage, piece));
    storage.sync().unwrap();
    fs::write(part(dir.path(), 0), vec![7; 300 * 1024 + 7]).unwrap();
    torrent.write(&storage, PieceIndex(2));
    storage.sync().unwrap();
    assert_eq!(storage.take_doubts().pieces, pieces(0..3));
    assert!(storage.check_piece(PieceIndex(2)).unwrap());
    storage.sync().unwrap();
    drop(storage);
    let (_, opened) = torrent.download(dir.path());
    let have: Vec<_> = opened.have.iter().collect();
    assert_eq!((have, opened.recheck.iter().collect()), (vec![PieceIndex(2), PieceIndex(12)], pieces(0..2)));
}

/// A seed whose data is checked and saved.
fn checked_seed() -> (tempfile::TempDir, tempfile::TempDir, Torrent, FileStorage) {
    let (dir, states, torrent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), mixed());
    torrent.lay_out(dir.path());
    let (storage, _) = torrent.open(with_state(seeding(dir.path()), states.path())).unwrap();
    assert!(torrent.pieces().all(|piece| storage.check_piece(piece).unwrap()));
    (dir, states, torrent, storage)
}

#[test]
fn seed_stops_at_a_file_that_has_changed() {
    let changes: [fn(&Path, &[u8]); 3] = [
        // In place, with a new time.
        |path, right| {
            let mut bytes = right.to_vec();
            bytes[80_000] ^= 1;
            fs::write(path, bytes).unwrap();
        },
        // Cut, and lengthened again.
        |path, right| {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_len(80_000).unwrap();
            file.set_len(right.len() as u64).unwrap();
        },
        // Another file.
        |path, right| {
            let time = fs::metadata(path).unwrap().modified().unwrap();
            let mut bytes = right.to_vec();
            bytes[80_000] ^= 1;
            fs::write(path.with_extension("other"), bytes).unwrap();
            fs::rename(path.with_extension("other"), path).unwrap();
            fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        },
    ];
    for (which, change) in changes.into_iter().enumerate() {
        let (dir, states, torrent, storage) = checked_seed();
        let prepared = storage.prepare(PieceIndex(11), 0..100).unwrap();
        change(&torrent.path(dir.path(), 6), torrent.file_bytes(6));
        assert!(which == 2 || !prepared.still_valid(), "what was prepared is not sent either");
        let sent = storage.prepare(PieceIndex(11), 0..100);
        assert!(matches!(sent, Err(StorageError::Changed { .. })), "change {which}: {sent:?}");
        assert!(storage.prepare(PieceIndex(1), 0..100).is_ok(), "other files are");
        let doubts = storage.take_doubts();
        assert_eq!((doubts.pieces.clone(), doubts.files), (pieces(10..13), vec![FileIndex(6)]));
        let bad = doubts.pieces.into_iter().filter(|&p| !storage.check_piece(p).unwrap());
        assert_eq!(bad.collect::<Vec<_>>(), pieces(12..13), "change {which}");
        assert!(storage.prepare(PieceIndex(11), 0..100).is_ok());
        storage.close().unwrap();
        let (_, opened) = torrent.open(with_state(seeding(dir.path()), states.path())).unwrap();
        assert_eq!(opened.have.count() + 1, opened.have.len(), "what is bad is known to be");
        assert!(!opened.have.has(PieceIndex(12)));
    }
}

#[test]
fn bad_file_is_checked_again_once_it_is_changed_and_stands_still() {
    let (dir, _states, torrent, storage) = checked_seed();
    let path = torrent.path(dir.path(), 6);
    fs::remove_file(&path).unwrap();
    assert!(storage.prepare(PieceIndex(11), 0..100).is_err());
    assert_eq!(settle_seed(&storage), (pieces(10..13), pieces(10..13)));
    for len in [0, 0, 0, 5_000, 50_000] {
        if len > 0 {
            // A copy that is under way.
            fs::write(&path, &torrent.file_bytes(6)[..len]).unwrap();
        }
        assert!(storage.look_at_bad_files().unwrap());
        assert_eq!(storage.take_doubts(), Doubts::default());
    }
    fs::write(&path, torrent.file_bytes(6)).unwrap();
    assert!(storage.look_at_bad_files().unwrap());
    assert_eq!(storage.take_doubts(), Doubts::default());
    assert!(!storage.look_at_bad_files().unwrap(), "they are in doubt");
    assert_eq!(settle_seed(&storage), (pieces(10..13), vec![]));
    assert!(storage.prepare(PieceIndex(11), 0..100).is_ok() && !storage.look_at_bad_files().unwrap());
}

#[test]
fn file_that_is_put_right_while_it_is_hashed_is_checked_again() {
    let (dir, _states, torrent, storage) = checked_seed();
    let path = torrent.path(dir.path(), 6);
    fs::write(&path, b"short").unwrap();
    let before = storage.table().changes;
    assert!(storage.prepare(PieceIndex(11), 0..100).is_err());
    let first = storage.take_doubts().pieces;
    // The hash that began before: its bytes were bad, and are right by the time that it ends.
    fs::write(&path, torrent.file_bytes(6)).unwrap();
    assert!(storage.prepare(PieceIndex(11), 0..100).is_err());
    first.iter().for_each(|&piece| storage.note_bad(piece, before));
    storage.take_doubts();
    assert!(storage.look_at_bad_files().unwrap());
    assert!(!storage.look_at_bad_files().unwrap());
    assert_eq!(settle_seed(&storage), (pieces(10..13), vec![]));
}

/// Checks what is in doubt: which pieces were, and which of them are bad.
fn settle_seed(storage: &FileStorage) -> (Vec<PieceIndex>, Vec<PieceIndex>) {
    let doubted = storage.take_doubts().pieces;
    let bad = doubted.iter().copied().filter(|&p| !storage.check_piece(p).unwrap()).collect();
    (doubted, bad)
}

#[test]
fn rotten_piece_is_no_longer_had() {
    let (dir, states, torrent, storage) = checked_seed();
    rot(&torrent.path(dir.path(), 6), 80_000);
    assert!(!storage.check_piece(PieceIndex(12)).unwrap());
    storage.close().unwrap();
    let (_, opened) = torrent.open(with_state(seeding(dir.path()), states.path())).unwrap();
    assert!(!opened.have.has(PieceIndex(12)) && opened.have.has(PieceIndex(11)));
}

#[test]
fn finding_of_verify_ends_trust() {
    let (dir, states, torrent, storage) = checked_seed();
    let options = || with_state(seeding(dir.path()), states.path());
    let path = torrent.path(dir.path(), 6);
    rot(&path, 80_000);
    assert!(torrent.open(options()).unwrap().1.have.is_full(), "nothing shows it");
    let report = verify::run(&torrent.info, dir.path(), 2, &|_| {}).unwrap();
    assert_eq!(report.pieces_wrong.iter().collect::<Vec<_>>(), pieces(12..13));
    verify::end_trust(&torrent.info, dir.path(), Some(states.path())).unwrap();
    assert_eq!(torrent.open(options()).unwrap().1.have.count(), 0);
    // A seed that runs notices, and does not vouch for it again.
    let _ = storage.prepare(PieceIndex(0), 0..10);
    let doubts = storage.take_doubts();
    assert_eq!(doubts.pieces, pieces(0..13));
    let bad = doubts.pieces.into_iter().filter(|&p| !storage.check_piece(p).unwrap());
    assert_eq!(bad.collect::<Vec<_>>(), pieces(12..13));
    storage.close().unwrap();
    let (_, opened) = torrent.open(options()).unwrap();
    assert!(!opened.have.has(PieceIndex(12)) && opened.have.count() == 12);
}

#[test]
fn finding_of_verify_ends_the_trust_of_a_download() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    let (storage, opened) = torrent.download(dir.path());
    storage.reserve().unwrap();
    opened.needed.iter().skip(1).for_each(|piece| torrent.write(&storage, piece));
    storage.close().unwrap();
    rot(&torrent.path(dir.path(), 6), 80_000);
    verify::end_trust(&torrent.info, dir.path(), None).unwrap();
    let (storage, opened) = torrent.download(dir.path());
    assert_eq!((opened.have.count(), opened.recheck.has(PieceIndex(12))), (0, true));
    drop(storage);
    // Once what was in doubt has been written down, the next start is an ordinary one.
    assert_eq!(names(&dir.path().join(".mixed.swarm")), ["0.part", "journal", "lock", "state"]);
}

#[test]
fn what_a_seed_has_of_a_short_file_counts() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    torrent.lay_out(dir.path());
    fs::write(torrent.path(dir.path(), 0), &torrent.file_bytes(0)[..150_000]).unwrap();
    fs::write(torrent.path(dir.path(), 6), &torrent.file_bytes(6)[..90 * 1024 - 1]).unwrap();
    let (storage, opened) = torrent.open(seeding(dir.path())).unwrap();
    assert_eq!(opened.absent, [FileIndex(0), FileIndex(6)]);
    let there: Vec<_> = opened.recheck.iter().collect();
    assert_eq!(there, [0, 1, 2, 3, 10, 11].map(PieceIndex));
    for piece in there {
        assert!(storage.check_piece(piece).unwrap());
        let len = torrent.info.geometry.len_of(piece);
        assert!(prepared_bytes(&storage, piece, 0..len) == torrent.bytes(piece));
    }
}

#[test]
fn what_a_download_takes_over_of_a_short_file_counts() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    torrent.lay_out(dir.path());
    let mut long = torrent.file_bytes(6).to_vec();
    long.push(0);
    fs::write(torrent.path(dir.path(), 0), &torrent.file_bytes(0)[..150_000]).unwrap();
    fs::write(torrent.path(dir.path(), 6), long).unwrap();
    assert!(matches!(torrent.open(all_of(dir.path())), Err(StorageError::ForeignData { .. })));
    let (storage, opened) = torrent.open(OpenOptions { overwrite: true, ..all_of(dir.path()) }).unwrap();
    assert_eq!(opened.recheck.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 10, 11, 12].map(PieceIndex));
    assert!(opened.recheck.iter().all(|piece| storage.check_piece(piece).unwrap()));
    storage.reserve().unwrap();
    opened.needed.iter().filter(|&p| !opened.recheck.has(p)).for_each(|piece| torrent.write(&storage, piece));
    storage.finish().unwrap();
    torrent.assert_complete(dir.path());
}

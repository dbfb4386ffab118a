//! Files that rot without any sign: no other length, no other time.

use super::*;
use crate::storage::check::Checked;
use crate::storage::verify;
use std::time::{Duration, Instant, SystemTime};

/// Rots in piece 12 of `mixed`, the end of file 6.
const AT: u64 = 80_000;
const ROTTEN: PieceIndex = PieceIndex(12);

/// Changes a byte, and nothing that shows it.
pub(super) fn rot(path: &Path, at: u64) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[77], at).unwrap();
    file.set_modified(time).unwrap();
}

/// A seed that was checked by an earlier run, and whose last file has rotted since.
struct Trusting {
    dir: tempfile::TempDir,
    states: tempfile::TempDir,
    torrent: Torrent,
}

impl Trusting {
    fn new() -> Trusting {
        let (dir, states, torrent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), mixed());
        torrent.lay_out(dir.path());
        let trusting = Trusting { dir, states, torrent };
        let storage = trusting.open().0;
        assert!(trusting.torrent.pieces().all(|piece| storage.check_piece(piece).unwrap()));
        storage.close().unwrap();
        rot(&trusting.path(), AT);
        trusting
    }

    fn path(&self) -> std::path::PathBuf {
        self.torrent.path(self.dir.path(), 6)
    }

    fn open(&self) -> (FileStorage, Opened) {
        self.torrent.open(with_state(seeding(self.dir.path()), self.states.path())).unwrap()
    }
}

/// Which of these, and of those beside them, are right.
fn found(storage: &FileStorage, asked: &[PieceIndex]) -> Vec<(PieceIndex, bool)> {
    let results = storage.check_unchecked(asked).into_iter();
    let mut found: Vec<_> = results.map(|checked| (checked.piece, checked.result.unwrap())).collect();
    found.sort();
    found
}

#[test]
fn rot_under_trusted_state_is_found_before_it_is_sent_and_not_trusted_again() {
    let seed = Trusting::new();
    let (storage, opened) = seed.open();
    assert!(opened.have.is_full() && storage.is_unchecked(ROTTEN), "nothing shows it");
    assert!(found(&storage, &[PieceIndex(11), ROTTEN]).contains(&(ROTTEN, false)));
    assert!(!storage.has(ROTTEN) && storage.has(PieceIndex(11)) && !storage.is_unchecked(PieceIndex(11)));
    // Who asks for it once more hears that it is not here.
    let again = storage.check_unchecked(&[ROTTEN]);
    let [again] = &again[..] else { panic!("{again:?}") };
    assert!(again.piece == ROTTEN && matches!(again.result, Err(StorageError::Changed { .. })), "{again:?}");
    // As if it were killed now.
    drop(storage);
    let (storage, opened) = seed.open();
    assert!(!opened.have.has(ROTTEN) && opened.recheck.has(ROTTEN));
    assert!(!storage.check_piece(ROTTEN).unwrap() && !storage.has(ROTTEN));
}

#[test]
fn each_piece_of_trusted_state_is_checked_once() {
    let dir = tempfile::tempdir().unwrap();
    let torrent = Torrent::new("big", 64 * KIB, &[("", Content::Random(64 * 64 * KIB))]);
    torrent.lay_out(dir.path());
    let open = || torrent.open(OpenOptions { trust: Trust::Lengths, ..seeding(dir.path()) }).unwrap().0;
    let storage = open();
    let (mut checked, mut calls) = (Vec::new(), 0);
    for piece in torrent.pieces().rev() {
        if storage.is_unchecked(piece) {
            calls += 1;
            checked.extend(found(&storage, &[piece]));
        }
        assert!(!storage.is_unchecked(piece));
    }
    checked.sort();
    assert_eq!(checked, torrent.pieces().map(|piece| (piece, true)).collect::<Vec<_>>());
    assert!(calls <= 64);
    // Asked for from many threads at once, each still has one result.
    let storage = open();
    let mut results = std::thread::scope(|scope| {
        let ask = |n: u32| {
            let (storage, torrent) = (&storage, &torrent);
            scope.spawn(move || {
                let own = torrent.pieces().filter(|piece| piece.0 % 4 == n);
                own.flat_map(|piece| found(storage, &[piece])).collect::<Vec<_>>()
            })
        };
        let threads: Vec<_> = (0..4).map(ask).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    results.sort();
    results.dedup();
    assert_eq!(results, torrent.pieces().map(|piece| (piece, true)).collect::<Vec<_>>());
}

#[test]
fn scrub_finds_rot_on_its_way_and_goes_on_where_it_was() {
    let seed = Trusting::new();
    let (storage, _) = seed.open();
    for piece in seed.torrent.pieces() {
        assert_eq!(storage.scrubbed(), piece);
        assert_eq!(storage.scrub_piece(piece).unwrap(), piece != ROTTEN);
        assert!(!storage.is_unchecked(piece));
        if piece.0 == 7 {
            storage.close().unwrap();
            assert_eq!(seed.open().0.scrubbed(), PieceIndex(8));
        }
    }
    assert!(!storage.has(ROTTEN) && storage.scrubbed() == PieceIndex(0));
    assert!(!seed.open().1.have.has(ROTTEN), "what it found is saved at once");
}

#[test]
fn scrub_leaves_what_somebody_has_changed_to_the_check_of_that() {
    let seed = Trusting::new();
    let (storage, _) = seed.open();
    fs::write(seed.path(), seed.torrent.file_bytes(6)).unwrap();
    let changed = storage.scrub_piece(ROTTEN);
    assert!(matches!(changed, Err(StorageError::Changed { .. })), "{changed:?}");
    assert!(storage.take_doubts().pieces.contains(&ROTTEN));
    assert!(storage.check_piece(ROTTEN).unwrap());
}

#[test]
fn rot_is_mended_in_place_where_that_is_allowed() {
    let seed = Trusting::new();
    let (storage, _) = seed.open();
    let received = || seed.torrent.received(ROTTEN);
    assert!(!storage.scrub_piece(ROTTEN).unwrap());
    let rotten = fs::read(seed.path()).unwrap();
    // Not allowed yet.
    assert!(!storage.mends(ROTTEN) && storage.mendable().is_empty());
    let refused = storage.verify_and_write(received());
    assert!(
        matches!(&refused, PieceOutcome::Failed { error: StorageError::Closed { .. }, .. }),
        "{refused:?}"
    );
    assert!(fs::read(seed.path()).unwrap() == rotten);
    storage.set_mending(true);
    assert_eq!(storage.mendable(), [ROTTEN]);
    let lie = PieceBuffer::with_padding(&seed.torrent.info.geometry, ROTTEN, 0..2);
    assert!(matches!(storage.verify_and_write(lie), PieceOutcome::HashMismatch(_)));
    assert!(fs::read(seed.path()).unwrap() == rotten);
    assert!(matches!(storage.verify_and_write(received()), PieceOutcome::Ok));
    seed.torrent.assert_complete(seed.dir.path());
    assert!(storage.has(ROTTEN) && !storage.mends(ROTTEN));
    // That was no change by somebody else, neither now nor for the next start.
    assert_serves_everything(&seed.torrent, &storage);
    assert!(!storage.look_at_bad_files().unwrap());
    assert_eq!(storage.take_doubts(), Doubts::default());
    drop(storage);
    assert!(seed.open().1.have.is_full());
}

#[test]
fn rot_is_remembered_until_it_is_mended() {
    let seed = Trusting::new();
    assert!(!seed.open().0.scrub_piece(ROTTEN).unwrap());
    let (storage, opened) = seed.open();
    storage.set_mending(true);
    opened.recheck.iter().for_each(|piece| assert!(!storage.check_piece(piece).unwrap()));
    assert_eq!(storage.mendable(), [ROTTEN]);
    assert!(matches!(storage.verify_and_write(seed.torrent.received(ROTTEN)), PieceOutcome::Ok));
    seed.torrent.assert_complete(seed.dir.path());
}

#[test]
fn what_somebody_has_changed_is_never_mended() {
    let seed = Trusting::new();
    let later = SystemTime::now() + Duration::from_secs(2);
    let edit = || {
        fs::write(seed.path(), vec![7; 90 * 1024]).unwrap();
        fs::File::options().write(true).open(seed.path()).unwrap().set_modified(later).unwrap();
    };
    let (storage, _) = seed.open();
    storage.set_mending(true);
    assert!(!storage.scrub_piece(ROTTEN).unwrap());
    assert!(storage.mends(ROTTEN));
    edit();
    let refused = storage.verify_and_write(seed.torrent.received(ROTTEN));
    assert!(
        matches!(&refused, PieceOutcome::Failed { error: StorageError::Changed { .. }, .. }),
        "{refused:?}"
    );
    assert!(fs::read(seed.path()).unwrap() == vec![7; 90 * 1024]);
    // Nor is it after the next start.
    drop(storage);
    let (storage, opened) = seed.open();
    storage.set_mending(true);
    assert!(opened.recheck.has(ROTTEN) && !storage.check_piece(ROTTEN).unwrap());
    assert!(storage.mendable().is_empty());
}

#[test]
fn what_was_never_right_is_not_mended() {
    let seed = Trusting::new();
    let storage = seed.torrent.open(seeding(seed.dir.path())).unwrap().0;
    storage.set_mending(true);
    assert!(!storage.check_piece(ROTTEN).unwrap());
    assert!(!storage.mends(ROTTEN) && storage.mendable().is_empty());
}

#[test]
fn finding_of_verify_is_mended_by_a_seed_that_runs() {
    let seed = Trusting::new();
    let (storage, _) = seed.open();
    storage.set_mending(true);
    verify::end_trust(&seed.torrent.info, seed.dir.path(), Some(seed.states.path())).unwrap();
    let _ = storage.prepare(PieceIndex(0), 0..10);
    let doubted = storage.take_doubts().pieces;
    assert_eq!(doubted.len(), 13);
    let bad: Vec<_> = doubted.into_iter().filter(|&piece| !storage.check_piece(piece).unwrap()).collect();
    assert_eq!((bad, storage.mendable()), (vec![ROTTEN], vec![ROTTEN]));
}

#[test]
fn what_the_disk_does_not_give_is_taken_back_mended_and_tried_again() {
    let seed = Trusting::new();
    let disk = Arc::new(SpaceBudget::new(u64::MAX));
    let open = || {
        let options = with_state(seeding(seed.dir.path()), seed.states.path());
        seed.torrent.open(OpenOptions { budget: Some(Arc::clone(&disk)), ..options }).unwrap()
    };
    let (other, lost) = (PieceIndex(0), PieceIndex(3));
    disk.set_unreadable([lost]);
    let (storage, opened) = open();
    assert!(opened.have.is_full());
    let results = storage.check_unchecked(&[other, lost]);
    let result_of = |piece| &results.iter().find(|checked| checked.piece == piece).unwrap().result;
    assert!(matches!(result_of(other), Ok(true)));
    assert!(matches!(result_of(lost), Err(error) if error.is_unreadable()), "{results:?}");
    assert!(!storage.has(lost) && storage.has(other));
    // It is found again with the next start, and can be put in its place.
    drop(storage);
    let (storage, opened) = open();
    assert!(opened.recheck.iter().eq([lost]), "{:?}", opened.recheck);
    assert!(storage.check_piece(lost).unwrap_err().is_unreadable());
    storage.set_mending(true);
    assert_eq!(storage.mendable(), [lost]);
    // The disk is well again.
    disk.set_unreadable([]);
    assert!(storage.look_at_bad_files().unwrap() && storage.take_doubts().pieces.is_empty(), "not at once");
    storage.table().bad.retry_at = Some(Instant::now());
    assert!(!storage.look_at_bad_files().unwrap());
    assert_eq!(storage.take_doubts().pieces, [lost]);
    assert!(storage.check_piece(lost).unwrap() && storage.has(lost) && storage.mendable().is_empty());
}

#[test]
fn what_was_checked_is_ready_to_be_sent() {
    let dir = tempfile::tempdir().unwrap();
    let states = tempfile::tempdir().unwrap();
    let torrent =
        Torrent::new("big", 64 * KIB, &[("a", Content::Random(40 * 64 * KIB)), ("b", Content::Random(10))]);
    torrent.lay_out(dir.path());
    let open = || torrent.open(with_state(seeding(dir.path()), states.path())).unwrap().0;
    let storage = open();
    assert!(torrent.pieces().all(|piece| storage.check_piece(piece).unwrap()));
    storage.close().unwrap();
    let storage = open();
    let all: Vec<PieceIndex> = torrent.pieces().collect();
    let results = storage.check_unchecked(&all);
    assert_eq!(results.len(), all.len());
    for Checked { piece, result, bytes } in results {
        assert!(result.unwrap());
        let len = torrent.info.geometry.len_of(piece);
        // What is read and not mapped is not kept.
        assert_eq!(bytes.is_some(), cfg!(target_os = "linux") && piece.0 < 40, "{piece}");
        let Some(bytes) = bytes else { continue };
        let mut copy = vec![0; len as usize];
        bytes.copy_to(0, &mut copy).unwrap();
        assert!(copy == torrent.bytes(piece) && bytes.still_valid());
    }
}

#[test]
fn finding_of_verify_is_mended_by_the_next_seed() {
    let seed = Trusting::new();
    let end_trust =
        || verify::end_trust(&seed.torrent.info, seed.dir.path(), Some(seed.states.path())).unwrap();
    end_trust();
    // Killed before its check is over, it knows as much the next time.
    drop(seed.open());
    let (storage, opened) = seed.open();
    storage.set_mending(true);
    assert_eq!((opened.have.count(), opened.recheck.count()), (0, 13));
    let bad: Vec<_> = seed.torrent.pieces().filter(|&piece| !storage.check_piece(piece).unwrap()).collect();
    assert_eq!((bad, storage.mendable()), (vec![ROTTEN], vec![ROTTEN]));
    seed.torrent.write(&storage, ROTTEN);
    storage.close().unwrap();
    seed.torrent.assert_complete(seed.dir.path());
    assert_eq!(names(seed.states.path()).len(), 1, "of what was distrusted nothing stays");
    assert!(seed.open().1.have.is_full());
    // A file that somebody has changed since is his.
    rot(&seed.path(), AT);
    end_trust();
    fs::File::options().write(true).open(seed.path()).unwrap().set_modified(SystemTime::now()).unwrap();
    let (storage, opened) = seed.open();
    storage.set_mending(true);
    assert!(opened.recheck.has(ROTTEN) && !storage.check_piece(ROTTEN).unwrap());
    assert!(!storage.mends(ROTTEN));
}

#[test]
fn rot_of_a_finished_download_is_mended_by_itself_and_by_the_next_run() {
    let (dir, states, torrent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), mixed());
    let open = || torrent.open(with_state(all_of(dir.path()), states.path())).unwrap();
    let path = torrent.path(dir.path(), 6);
    let (storage, opened) = open();
    storage.reserve().unwrap();
    torrent.fetch(&storage, &opened);
    storage.finish().unwrap();
    rot(&path, AT);
    assert!(!storage.check_piece(ROTTEN).unwrap());
    torrent.write(&storage, ROTTEN);
    torrent.assert_complete(dir.path());
    // Now it is found, and the process killed.
    rot(&path, AT);
    assert!(!storage.check_piece(ROTTEN).unwrap());
    drop(storage);
    let (storage, opened) = open();
    assert!(!opened.have.has(ROTTEN) && opened.needed.has(ROTTEN));
    assert!(!storage.check_piece(ROTTEN).unwrap(), "it is ours, and not in the way");
    storage.reserve().unwrap();
    torrent.write(&storage, ROTTEN);
    storage.finish().unwrap();
    torrent.assert_complete(dir.path());
    assert_eq!(names(dir.path()), ["mixed"]);
    // Now the state is trusted.
    rot(&path, AT);
    storage.close().unwrap();
    let (storage, opened) = open();
    assert!(opened.have.is_full());
    assert!(found(&storage, &[ROTTEN]).contains(&(ROTTEN, false)));
    torrent.write(&storage, ROTTEN);
    storage.finish().unwrap();
    torrent.assert_complete(dir.path());
}

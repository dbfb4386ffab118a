//! What a storage promises, on real files.

use super::testing::{Content, Torrent, all_of, names};
use super::*;
use crate::buffer::BLOCK_BYTES;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use swarm_core::bitfield::Bitfield;
use swarm_core::id::InfoHash;

const KIB: u64 = 1024;

/// Files of all kinds, with pieces that span several of them.
fn mixed() -> Torrent {
    Torrent::new(
        "mixed",
        32 * KIB,
        &[
            ("big", Content::Random(300 * KIB + 7)),
            ("pad", Content::Pad(20 * KIB - 7)),
            ("empty", Content::Random(0)),
            ("deep/er/tiny", Content::Random(3)),
            ("deep/run", Content::Program(100)),
            ("deep/link", Content::Link("deep/er/tiny")),
            ("tail", Content::Random(90 * KIB)),
        ],
    )
}

fn wanting(dir: &Path, wanted: &[bool]) -> OpenOptions {
    OpenOptions::new(dir, Mode::Download { wanted: Some(wanted.to_vec()) })
}

fn seeding(dir: &Path) -> OpenOptions {
    OpenOptions::new(dir, Mode::Seed)
}

fn with_state(options: OpenOptions, dir: &Path) -> OpenOptions {
    OpenOptions { state_dir: Some(dir.to_owned()), ..options }
}

/// What a prepared range holds, by both ways of reading it.
fn prepared_bytes(storage: &Storage, piece: PieceIndex, range: Range<u32>) -> Vec<u8> {
    let prepared = storage.prepare(piece, range.clone()).unwrap();
    let sent: Vec<u8> = prepared.slices(range.start, range.len() as u32).flatten().copied().collect();
    let mut copied = vec![0; range.len()];
    prepared.copy_to(range.start, &mut copied).unwrap();
    assert!(sent == copied);
    sent
}

fn assert_serves_everything(torrent: &Torrent, storage: &Storage) {
    for piece in torrent.pieces() {
        let len = torrent.info.geometry.len_of(piece);
        assert!(prepared_bytes(storage, piece, 0..len) == torrent.bytes(piece), "piece {piece}");
        let inner = len / 3..len - len / 4;
        let expected = &torrent.bytes(piece)[inner.start as usize..inner.end as usize];
        assert!(prepared_bytes(storage, piece, inner) == expected, "inside piece {piece}");
    }
}

mod downloading {
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
        assert!(storage.file_progress(tail).is_finished && !storage.file_progress(FileIndex(0)).is_finished);
        assert_eq!(fs::read(torrent.path(dir.path(), 6)).unwrap(), torrent.file_bytes(6));
        assert_serves(&torrent, &storage, &pieces[..4]);
    }

    fn assert_serves(torrent: &Torrent, storage: &Storage, pieces: &[PieceIndex]) {
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
        // `deep/run` is not wanted: its part goes to the side file for good.
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
        assert_eq!(names(dir.path()), ["mixed"]);
        let len = torrent.info.geometry.len_of(edge);
        assert!(prepared_bytes(&storage, edge, 0..len) == torrent.bytes(edge), "the edge is still served");
        storage.close().unwrap();
    }

    #[test]
    fn more_wanted_later_completes_and_compares_the_edges() {
        let (dir, states, torrent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), mixed());
        let wanted = [false, false, false, false, false, false, true];
        let (storage, opened) =
            torrent.open(with_state(wanting(dir.path(), &wanted), states.path())).unwrap();
        storage.reserve().unwrap();
        torrent.fetch(&storage, &opened);
        storage.finish().unwrap();
        storage.close().unwrap();
        for _ in 0..2 {
            let (again, opened) =
                torrent.open(with_state(wanting(dir.path(), &wanted), states.path())).unwrap();
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
    fn wanting_less_keeps_what_is_there_until_the_end() {
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
        let ours = open
            .filter(|e| fs::read_link(e.as_ref().unwrap().path()).is_ok_and(|p| p.starts_with(dir.path())));
        assert!(ours.count() <= HandleLimits::default().open_files);
        let (seed, opened) = torrent.open(seeding(dir.path())).unwrap();
        assert!(opened.recheck.iter().all(|piece| seed.check_piece(piece).unwrap()));
    }
}

mod resuming {
    use super::*;

    /// Writes half of the torrent, with a mark in the middle.
    fn interrupted(dir: &Path, torrent: &Torrent) -> (Storage, Vec<PieceIndex>, Vec<PieceIndex>) {
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

    fn complete(torrent: &Torrent, dir: &Path, storage: &Storage, opened: &Opened) {
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
        assert_eq!((set(&opened.have), opened.recheck.count()), (vec![PieceIndex(0)], 0));
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
        // The journal's end never reached the disk, and the machine has started anew.
        let journal = dir.path().join(".mixed.swarm/journal");
        let bytes = fs::read(&journal).unwrap();
        let records = journal::RECORD_LEN as usize * 5;
        fs::write(&journal, &bytes[..records]).unwrap();
        let state = dir.path().join(".mixed.swarm");
        let tree = Tree::new(state.clone());
        let state::Loaded::State(mut saved) = state::State::load(&tree, &["state"], &torrent.info).unwrap()
        else {
            panic!("no state")
        };
        saved.boot_id = Some("another".to_owned());
        saved.save(&tree, &[], "state").unwrap();
        let (storage, opened) = torrent.download(dir.path());
        assert_eq!(set(&opened.have), marked);
        assert!(opened.recheck.has(PieceIndex(1)) && opened.recheck.has(PieceIndex(5)));
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
        assert!(storage.file_progress(FileIndex(6)).is_finished);
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
}

mod what_is_already_there {
    use super::*;

    fn opened(torrent: &Torrent, dir: &Path) -> (Storage, Opened) {
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
        opened
            .needed
            .iter()
            .filter(|&p| !opened.recheck.has(p))
            .for_each(|piece| torrent.write(&storage, piece));
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
        storage.finish().unwrap();
        torrent.assert_complete(dir.path());
    }
}

mod never_outside {
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
}

mod full_disks {
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
}

mod seeding {
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
        storage.sync().unwrap();
        assert_eq!(names(dir.path()), ["mixed"]);
        let (again, opened) = torrent.open(options()).unwrap();
        assert!(opened.have.is_full(), "a sync has saved what was checked");
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

    fn one_big() -> (tempfile::TempDir, Torrent, Storage) {
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
        is_named(storage.prepare(last, 0..100).unwrap_err());
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
        let torrent = Torrent::new(
            "big",
            1024 * KIB,
            &[("a", Content::Random(40 << 20)), ("b", Content::Random(9 << 20))],
        );
        torrent.lay_out(dir.path());
        let limits = HandleLimits { open_files: 1, maps: 1, mapped_bytes: 1 };
        let options = OpenOptions { handles: Arc::new(Handles::new(limits)), ..super::seeding(dir.path()) };
        let (storage, _) = torrent.open(options).unwrap();
        let all: Vec<_> =
            torrent.pieces().map(|piece| storage.prepare(piece, 0..1024 * 1024).unwrap()).collect();
        for prepared in &all {
            let sent: Vec<u8> = prepared.slices(0, 1024 * 1024).flatten().copied().collect();
            assert!(sent == torrent.bytes(prepared.piece()));
            assert_eq!(prepared.owned_bytes(), 0);
        }
        drop(storage);
        assert!(all[0].still_valid());
    }
}

#[test]
fn pieces_can_be_written_checked_and_synced_at_the_same_time() {
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<String> = (0..200).map(|i| format!("f{i}")).collect();
    let files: Vec<_> = files.iter().map(|path| (path.as_str(), Content::Random(20_000))).collect();
    let torrent = Torrent::new("busy", 32 * KIB, &files);
    let (storage, _) = torrent.download(dir.path());
    storage.reserve().unwrap();
    let mut finished = 0;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (torrent, storage) = (&torrent, &storage);
            scope.spawn(move || {
                for piece in torrent.pieces().filter(|piece| piece.0 % 4 == thread) {
                    torrent.write(storage, piece);
                    let len = torrent.info.geometry.len_of(piece);
                    assert!(prepared_bytes(storage, piece, 0..len) == torrent.bytes(piece));
                    assert!(storage.check_piece(piece).unwrap());
                }
            });
        }
        for _ in 0..20 {
            finished += storage.sync().unwrap().len();
        }
    });
    finished += storage.finish().unwrap().len();
    assert_eq!(finished, 200);
    torrent.assert_complete(dir.path());
    assert_eq!(torrent.pool.used_bytes() % BLOCK_BYTES, 0);
}

//! Files that are moved and renamed.

use super::super::relocate::{Relocation, Spot, relocate, testing::COPIES};
use super::*;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use swarm_core::metainfo::Layout;

struct Desk {
    torrent: Torrent,
    old: tempfile::TempDir,
    new: tempfile::TempDir,
    state: tempfile::TempDir,
}

fn desk() -> Desk {
    let dir = || tempfile::tempdir().unwrap();
    Desk { torrent: mixed(), old: dir(), new: dir(), state: dir() }
}

impl Desk {
    fn relocation(&self) -> Relocation {
        Relocation {
            from: Spot { dir: self.old.path().to_owned(), layout: Layout::default() },
            to: Spot { dir: self.new.path().join("sub"), layout: Layout::default() },
            is_seed: false,
            resumes: false,
            state_dir: Some(self.state.path().to_owned()),
        }
    }

    /// A download of which some files are complete and some are not.
    fn begin(&self) -> usize {
        let (storage, opened) = self.open(self.old.path());
        let pieces: Vec<PieceIndex> = opened.needed.iter().collect();
        storage.reserve().unwrap();
        for &piece in pieces.iter().skip(2) {
            self.torrent.write(&storage, piece);
        }
        storage.close().unwrap();
        pieces.len() - 2
    }

    fn open(&self, dir: &Path) -> (FileStorage, Opened) {
        self.torrent.open(with_state(all_of(dir), self.state.path())).unwrap()
    }

    /// Everything is at this place, known without a check, and can be completed there.
    fn assert_at(&self, dir: &Path, have: usize) {
        let (storage, opened) = self.open(dir);
        assert_eq!((opened.have.count() as usize, opened.recheck.count()), (have, 0));
        storage.reserve().unwrap();
        self.torrent.fetch(&storage, &opened);
        storage.sync().unwrap();
        storage.finish().unwrap();
        storage.close().unwrap();
        self.torrent.assert_complete(dir);
        assert_eq!(names(dir), ["mixed"], "nothing else is left");
    }
}

fn copying<T>(f: impl FnOnce() -> T) -> T {
    COPIES.set(true);
    let result = f();
    COPIES.set(false);
    result
}

#[test]
fn an_unfinished_download_moves_and_keeps_what_is_verified() {
    for copies in [false, true] {
        let desk = desk();
        let have = desk.begin();
        let relocation = desk.relocation();
        COPIES.set(copies);
        let location = relocate(&desk.torrent.info, &relocation, &|| true).unwrap();
        COPIES.set(false);
        assert_eq!(location.path(), desk.new.path().canonicalize().unwrap().join("sub/mixed"));
        assert!(names(desk.old.path()).is_empty(), "{:?}", names(desk.old.path()));
        desk.assert_at(&relocation.to.dir, have);
    }
}

#[test]
fn a_complete_torrent_moves_with_its_state() {
    for (copies, is_seed) in [(false, false), (true, false), (true, true)] {
        let desk = desk();
        let (storage, opened) = desk.open(desk.old.path());
        storage.reserve().unwrap();
        desk.torrent.fetch(&storage, &opened);
        storage.sync().unwrap();
        storage.finish().unwrap();
        storage.close().unwrap();
        let relocation = Relocation { is_seed, ..desk.relocation() };
        let mode = std::fs::metadata(desk.old.path().join("mixed/deep/run")).unwrap().permissions().mode();
        COPIES.set(copies);
        relocate(&desk.torrent.info, &relocation, &|| true).unwrap();
        COPIES.set(false);
        assert!(names(desk.old.path()).is_empty());
        let to = &relocation.to.dir;
        assert_eq!(names(to), ["mixed"]);
        desk.torrent.assert_complete(to);
        assert_eq!(std::fs::read_link(to.join("mixed/deep/link")).unwrap(), Path::new("er/tiny"));
        assert_eq!(std::fs::metadata(to.join("mixed/deep/run")).unwrap().permissions().mode(), mode);
        let (_, opened) = desk.torrent.open(with_state(seeding(to), desk.state.path())).unwrap();
        assert_eq!((opened.have.is_full(), opened.recheck.count()), (true, 0));
        assert_eq!(names(desk.state.path()).len(), 1, "the old state is gone");
    }
}

#[test]
fn files_are_renamed_and_known_under_their_new_names() {
    let desk = desk();
    let have = desk.begin();
    let layout = Layout::default();
    let layout = layout.renamed(&desk.torrent.info, "mixed/tail", "mixed/x/end").unwrap();
    let layout = layout.renamed(&desk.torrent.info, "mixed", "other").unwrap();
    let here = desk.old.path();
    let to = Spot { dir: here.to_owned(), layout: layout.clone() };
    let relocation = Relocation { to, ..desk.relocation() };
    relocate(&desk.torrent.info, &relocation, &|| true).unwrap();
    assert!(here.join("other/x/end").exists() && here.join(".other.swarm").exists());
    assert!(!here.join("mixed").exists() && !here.join(".mixed.swarm").exists());
    let options = OpenOptions { layout, ..with_state(all_of(here), desk.state.path()) };
    let (storage, opened) = desk.torrent.open(options).unwrap();
    assert_eq!((opened.have.count() as usize, opened.recheck.count()), (have, 0));
    storage.reserve().unwrap();
    desk.torrent.fetch(&storage, &opened);
    storage.sync().unwrap();
    storage.finish().unwrap();
    storage.close().unwrap();
    assert_eq!(fs::read(here.join("other/x/end")).unwrap(), desk.torrent.file_bytes(6));
    assert_eq!(names(here), ["other"]);
}

#[test]
fn whatever_is_in_the_way_stays_and_nothing_moves() {
    let desk = desk();
    let have = desk.begin();
    let relocation = desk.relocation();
    let to = &relocation.to.dir;
    fs::create_dir_all(to.join("mixed")).unwrap();
    fs::write(to.join("mixed/big"), "theirs").unwrap();
    for copies in [false, true] {
        COPIES.set(copies);
        let error = relocate(&desk.torrent.info, &relocation, &|| true).unwrap_err();
        COPIES.set(false);
        assert!(
            matches!(&error, StorageError::ForeignData { path } if path.ends_with("mixed/big")),
            "{error}"
        );
        assert_eq!(fs::read(to.join("mixed/big")).unwrap(), b"theirs");
        assert_eq!(names(to), ["mixed"]);
    }
    desk.assert_at(desk.old.path(), have);
}

#[test]
fn a_link_at_the_new_place_leads_nowhere_else() {
    let desk = desk();
    desk.begin();
    let relocation = desk.relocation();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::create_dir_all(&relocation.to.dir).unwrap();
    symlink(elsewhere.path(), relocation.to.dir.join("mixed")).unwrap();
    let error = relocate(&desk.torrent.info, &relocation, &|| true).unwrap_err();
    assert!(matches!(error, StorageError::WrongKind { .. } | StorageError::ForeignData { .. }), "{error}");
    assert!(names(elsewhere.path()).is_empty());
}

#[test]
fn a_move_that_stops_goes_back() {
    let desk = desk();
    let have = desk.begin();
    let relocation = desk.relocation();
    for copies in [false, true] {
        for steps in 0..4 {
            let left = Cell::new(steps);
            let goes_on = || left.replace(left.get() - 1) > 0;
            COPIES.set(copies);
            let result = relocate(&desk.torrent.info, &relocation, &goes_on);
            COPIES.set(false);
            assert!(result.is_err());
            assert!(names(&relocation.to.dir).is_empty(), "{:?}", names(&relocation.to.dir));
        }
    }
    desk.assert_at(desk.old.path(), have);
}

#[test]
fn a_crash_at_any_point_loses_nothing_and_the_move_goes_on() {
    for copies in [false, true] {
        for steps in 0.. {
            let desk = desk();
            let have = desk.begin();
            let relocation = desk.relocation();
            let left = Cell::new(steps);
            // As a crash: nothing is put back.
            let crash = || {
                assert!(left.replace(left.get() - 1) > 0, "the power goes");
                true
            };
            COPIES.set(copies);
            let crashed =
                catch_unwind(AssertUnwindSafe(|| relocate(&desk.torrent.info, &relocation, &crash)));
            let again = Relocation { resumes: true, ..relocation.clone() };
            relocate(&desk.torrent.info, &again, &|| true).unwrap();
            COPIES.set(false);
            assert!(names(desk.old.path()).is_empty());
            desk.assert_at(&relocation.to.dir, have);
            if crashed.is_ok() {
                assert!(steps > 3);
                break;
            }
        }
    }
}

#[test]
fn it_goes_on_after_a_crash_once_the_first_originals_have_gone() {
    let desk = desk();
    let have = desk.begin();
    let relocation = desk.relocation();
    // As it is when everything was copied and one original was removed.
    let copy = tempfile::tempdir().unwrap();
    let status = std::process::Command::new("cp").arg("-a").arg(desk.old.path()).arg(copy.path()).status();
    assert!(status.unwrap().success());
    copying(|| relocate(&desk.torrent.info, &relocation, &|| true)).unwrap();
    let name = desk.old.path().file_name().unwrap();
    let saved = copy.path().join(name);
    for entry in fs::read_dir(&saved).unwrap().map(Result::unwrap) {
        let to = desk.old.path().join(entry.file_name());
        let status = std::process::Command::new("cp").arg("-a").arg(entry.path()).arg(&to).status();
        assert!(status.unwrap().success());
    }
    fs::remove_file(desk.old.path().join("mixed/tail")).unwrap();
    let again = Relocation { resumes: true, ..relocation.clone() };
    copying(|| relocate(&desk.torrent.info, &again, &|| true)).unwrap();
    assert!(names(desk.old.path()).is_empty());
    desk.assert_at(&relocation.to.dir, have);
}

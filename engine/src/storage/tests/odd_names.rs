use super::*;
use crate::storage::names::testing::behave;

const LONG: &str = "long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long.bin";

fn odd() -> Torrent {
    let files = ["Readme", "README", "what?/x", "tail.", LONG].map(|path| (path, Content::Random(20_000)));
    Torrent::new("odd", 32 * KIB, &files)
}

/// Downloads on a file system that behaves so: the names in the torrent's folder, which are found again by whoever reads them.
fn downloaded(folds: bool, refuses: fn(&str) -> bool) -> Vec<String> {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), odd());
    behave(folds, refuses);
    // The second run goes on where the first one stopped.
    let (storage, _) = torrent.download(dir.path());
    storage.reserve().unwrap();
    torrent.write(&storage, PieceIndex(0));
    storage.close().unwrap();
    drop(storage);
    let (storage, opened) = torrent.download(dir.path());
    assert_eq!(opened.have.count(), 1);
    storage.reserve().unwrap();
    torrent.fetch(&storage, &opened);
    storage.finish().unwrap();
    storage.close().unwrap();
    behave(false, |_| false);
    assert_eq!(names(dir.path()), ["odd"], "no work folder is left");
    let (seed, opened) = torrent.open(seeding(dir.path())).unwrap();
    assert_eq!(opened.absent, []);
    assert!(torrent.pieces().all(|piece| seed.check_piece(piece).unwrap()));
    assert!(verify::run(&torrent.info, dir.path(), 1, &|_| {}).unwrap().is_ok());
    names(&dir.path().join("odd"))
}

#[test]
fn names_stay_as_they_are_where_the_file_system_takes_them() {
    assert_eq!(downloaded(false, |_| false), ["README", "Readme", LONG, "tail.", "what?"]);
}

#[test]
fn names_that_differ_in_case_are_numbered_where_that_makes_no_difference() {
    assert_eq!(downloaded(true, |_| false), ["README (2)", "Readme", LONG, "tail.", "what?"]);
}

#[test]
fn characters_that_the_file_system_refuses_are_replaced() {
    let names = downloaded(true, |name| name.contains('?') || name.ends_with('.'));
    assert_eq!(names, ["README (2)", "Readme", LONG, "tail_", "what_"]);
}

#[test]
fn names_that_are_too_long_for_the_file_system_are_cut() {
    let names = downloaded(false, |name| name.len() > 143);
    let cut = format!("{}.bin", &LONG[..136]);
    assert_eq!(names, ["README (2)", "Readme", &cut, "tail_", "what_"]);
}

#[test]
fn names_that_no_rule_mends_are_refused_before_anything_is_there() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), odd());
    behave(false, |name| name.len() > 100);
    let refused = torrent.open(all_of(dir.path())).unwrap_err();
    behave(false, |_| false);
    assert!(matches!(&refused, StorageError::Names { names, .. } if names.len() == 1), "{refused}");
    assert_eq!(names(dir.path()), [""; 0]);
}

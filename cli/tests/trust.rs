//! What other programs do to the data of `get` and `seed`: it is noticed, never sent, and never called complete.

mod common;

use common::{Running, bytes, run, run_ok, tree, write};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

const PIECE: usize = 64 << 10;
const PIECES: usize = 64;
const LOCAL: [&str; 2] = ["--listen", "127.0.0.1:0"];

/// A folder with `data/file` of 64 pieces, and `file.meta`.
fn with_file() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("data/file"), bytes(3, PIECE * PIECES));
    run_ok(dir.path(), ["create", "data/file", "-l", "64KiB"]);
    dir
}

/// A seed of `from/file` and the address of its peer.
fn seed(dir: &Path, from: &str, more: &[&str]) -> (Running, String) {
    let mut seed = Running::start(dir, [&["seed", "file.meta", from], &LOCAL[..], more].concat());
    let address = seed.address();
    seed.wait_for("checked");
    (seed, address)
}

fn get(dir: &Path, to: &str, peer: &str, more: &[&str]) -> Running {
    Running::start(dir, [&["get", "file.meta", "-o", to, "--peer", peer], &LOCAL[..], more].concat())
}

fn part(dir: &Path) -> PathBuf {
    dir.join("out/.file.swarm/0.part")
}

fn assert_same(dir: &Path) {
    assert!(tree(&dir.join("data")) == tree(&dir.join("out")), "out differs from data, or holds more");
}

fn open(path: &Path) -> File {
    File::options().write(true).open(path).unwrap()
}

/// The clock of file times may stand still for a few milliseconds.
fn later(file: &File) {
    file.set_modified(SystemTime::now() + Duration::from_secs(2)).unwrap();
}

/// Another file, which holds something else, in the place of this one.
fn replace(path: &Path) {
    let other = path.with_extension("other");
    fs::write(&other, bytes(9, PIECE * PIECES)).unwrap();
    open(&other).set_modified(fs::metadata(path).unwrap().modified().unwrap()).unwrap();
    fs::rename(other, path).unwrap();
}

fn cut(path: &Path) {
    open(path).set_len(PIECE as u64 + 5).unwrap();
}

fn write_over(path: &Path) {
    let file = open(path);
    file.write_all_at(&bytes(9, PIECE * PIECES / 2), 0).unwrap();
    later(&file);
}

/// Changes a byte and nothing that shows it.
fn rot(path: &Path, piece: usize) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    let mut byte = [0];
    let file = File::options().read(true).write(true).open(path).unwrap();
    file.read_exact_at(&mut byte, (piece * PIECE + 9) as u64).unwrap();
    file.write_all_at(&[!byte[0]], (piece * PIECE + 9) as u64).unwrap();
    file.set_modified(time).unwrap();
}

#[test]
fn whatever_is_done_to_a_part_the_download_ends_right() {
    for change in [replace, cut, write_over] {
        let dir = with_file();
        let (_seed, peer) = seed(dir.path(), "data", &[]);
        let mut got = get(dir.path(), "out", &peer, &["--max-down", "2MiB/s"]);
        got.wait_until("progress", |event| event["pieces_have"].as_u64() > Some(10));
        change(&part(dir.path()));
        got.complete();
        assert_same(dir.path());
        assert_eq!(got.seen("file_changed")[0]["path"], "file");
        assert_eq!(got.seen("data_bad")[0]["path"], "file");
        // What is saved vouches for what is there.
        assert_eq!(get(dir.path(), "out", &peer, &[]).complete()["bytes_down"], 0);
    }
}

#[test]
fn after_kill_nine_a_changed_part_is_not_trusted() {
    for change in [replace, cut, write_over] {
        let dir = with_file();
        let (_seed, peer) = seed(dir.path(), "data", &[]);
        let mut got = get(dir.path(), "out", &peer, &["--max-down", "400KiB/s"]);
        // What was written in the first five seconds has been synced by then, and is marked.
        got.wait_until("progress", |event| event["t"].as_f64() > Some(6.5));
        got.kill();
        change(&part(dir.path()));
        get(dir.path(), "out", &peer, &[]).complete();
        assert_same(dir.path());
    }
}

#[test]
fn changed_file_is_not_sent_by_a_seed_that_runs() {
    let cut_and_lengthened = |path: &Path| {
        let file = open(path);
        file.set_len(40 * PIECE as u64).unwrap();
        file.set_len((PIECES * PIECE) as u64).unwrap();
    };
    for (change, bad) in [(write_over as fn(&Path), 32), (cut_and_lengthened, 24)] {
        let dir = with_file();
        let (mut seed, peer) = seed(dir.path(), "data", &[]);
        // It has sent it once, and has it in memory.
        get(dir.path(), "out", &peer, &[]).complete();
        change(&dir.path().join("data/file"));
        let mut got = get(dir.path(), "again", &peer, &[]);
        let found = seed.wait_for("data_bad");
        assert_eq!((&found["path"], &found["pieces"]), (&"file".into(), &bad.into()));
        assert_eq!(seed.seen("file_changed").len(), 1);
        got.wait_until("progress", |event| event["pieces_have"] == PIECES - bad);
        assert!(
            got.seen("piece_failed").is_empty() && got.seen("peer_banned").is_empty(),
            "it sent what was bad"
        );
    }
}

#[test]
fn file_that_is_put_right_is_offered_again_by_a_seed_that_runs() {
    let moved_away = |path: &Path| fs::rename(path, path.with_extension("away")).unwrap();
    for (change, bad) in [(write_over as fn(&Path), 32), (moved_away, PIECES)] {
        let dir = with_file();
        let (mut seed, peer) = seed(dir.path(), "data", &[]);
        change(&dir.path().join("data/file"));
        let mut got = get(dir.path(), "out", &peer, &[]);
        assert_eq!(seed.wait_for("data_bad")["pieces"], bad);
        // Written in place, as `cp` does it.
        write(dir.path().join("data/file"), bytes(3, PIECE * PIECES));
        seed.wait_until("progress", |event| event["pieces_have"] == PIECES);
        assert_eq!(seed.seen("file_changed").len(), 2);
        got.complete();
        assert!(fs::read(dir.path().join("out/file")).unwrap() == bytes(3, PIECE * PIECES));
    }
}

#[test]
fn file_that_takes_anothers_place_is_noticed_by_a_seed_that_runs() {
    let dir = with_file();
    let (mut seed, peer) = seed(dir.path(), "data", &[]);
    get(dir.path(), "out", &peer, &[]).complete();
    replace(&dir.path().join("data/file"));
    // What it has in memory is still right, and sent until it is looked at again.
    let mut tries = 0;
    while seed.seen("data_bad").is_empty() {
        let mut got = get(dir.path(), &format!("again{tries}"), &peer, &[]);
        seed.wait_for("progress");
        got.signal("INT");
        got.finish();
        assert!(got.seen("piece_failed").is_empty(), "it sent what was bad");
        tries += 1;
        assert!(tries < 20, "{:?}", seed.events);
    }
    assert_eq!(seed.seen("data_bad")[0]["pieces"], PIECES);
}

#[test]
fn finding_of_verify_ends_trust() {
    let dir = with_file();
    let restarted = |more: &[&str]| {
        let mut seed =
            Running::start(dir.path(), [&["seed", "file.meta", "data"], &LOCAL[..], more].concat());
        seed.wait_for("checked")["pieces_have"].as_u64().unwrap() as usize
    };
    assert_eq!(restarted(&[]), PIECES);
    rot(&dir.path().join("data/file"), 7);
    assert_eq!(restarted(&[]), PIECES, "nothing shows it");
    let (mut running, peer) = seed(dir.path(), "data", &[]);
    assert_eq!(run(dir.path(), ["verify", "file.meta", "data"]).code, Some(4));
    // A seed that runs checks again when it is next asked for something.
    let _got = get(dir.path(), "again", &peer, &[]);
    let bad = running.wait_for("data_bad");
    assert_eq!((&bad["path"], &bad["pieces"]), (&"file".into(), &1.into()));
    running.kill();
    assert_eq!(restarted(&["--partial"]), PIECES - 1);
    let refused = run(dir.path(), [&["seed", "file.meta", "data"], &LOCAL[..]].concat());
    assert_eq!(refused.code, Some(4), "{refused:?}");
}

#[test]
fn refused_download_is_not_in_the_way_of_the_right_one() {
    let dir = with_file();
    write(dir.path().join("other/file"), bytes(5, PIECE * PIECES));
    run_ok(dir.path(), ["create", "other/file", "-l", "64KiB", "-o", "other.meta"]);
    let (_seed, peer) = seed(dir.path(), "data", &[]);
    get(dir.path(), "out", &peer, &[]).complete();
    let refused = run(dir.path(), [&["get", "other.meta", "-o", "out"], &LOCAL[..]].concat());
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert_same(dir.path());
    get(dir.path(), "out", &peer, &["--recheck"]).complete();
    assert_same(dir.path());
}

#[test]
fn work_folder_that_cannot_be_removed_is_no_failure() {
    let dir = with_file();
    let (_seed, peer) = seed(dir.path(), "data", &[]);
    let mut got = get(dir.path(), "out", &peer, &["--max-down", "1MiB/s"]);
    got.wait_until("progress", |event| event["pieces_have"].as_u64() > Some(1));
    // As on a file system that keeps removed files that are open.
    fs::create_dir_all(dir.path().join("out/.file.swarm/.nfs0001/x")).unwrap();
    got.complete();
    assert!(
        fs::read(dir.path().join("out/file")).unwrap() == fs::read(dir.path().join("data/file")).unwrap()
    );
}

#[test]
fn whole_pieces_of_a_short_file_count() {
    let dir = with_file();
    let (_seed, peer) = seed(dir.path(), "data", &[]);
    let half = PIECES / 2 * PIECE;
    write(dir.path().join("out/file"), &bytes(3, PIECE * PIECES)[..half + 100]);
    let verified = run(dir.path(), ["verify", "file.meta", "out", "--json"]);
    assert_eq!((verified.code, &verified.json()["pieces_ok"]), (Some(4), &(PIECES / 2).into()));
    let mut partial =
        Running::start(dir.path(), [&["seed", "file.meta", "out", "--partial"], &LOCAL[..]].concat());
    assert_eq!(partial.wait_for("checked")["pieces_have"], PIECES / 2);
    partial.kill();
    let complete = get(dir.path(), "out", &peer, &["--overwrite"]).complete();
    assert_eq!(complete["bytes_down"], half);
    assert_same(dir.path());
}

#[test]
fn verify_repairs_what_is_wrong_and_fetches_little_else() {
    for format in ["v1", "v2", "hybrid"] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let good = |name: &str| bytes(name.len() as u64, 400_000);
        let names = ["corrupt", "long", "missing", "as it is", "short"];
        for name in names {
            write(dir.join("data/x").join(name), good(name));
            write(dir.join("out/x").join(name), good(name));
        }
        run_ok(dir, ["create", "data/x", "-l", "16KiB", "--format", format, "-o", "file.meta"]);
        let mut corrupt = good("corrupt");
        corrupt[200_000] ^= 1;
        write(dir.join("out/x/corrupt"), corrupt);
        write(dir.join("out/x/long"), [good("long"), vec![0]].concat());
        write(dir.join("out/x/short"), &good("short")[..300_000]);
        fs::remove_file(dir.join("out/x/missing")).unwrap();
        assert_eq!(run(dir, ["verify", "file.meta", "out"]).code, Some(4));
        let (_seed, peer) = seed(dir, "data", &[]);
        let args = ["verify", "file.meta", "out", "--repair", "--peer", &peer];
        let complete = Running::start(dir, [&args[..], &LOCAL[..]].concat()).complete();
        assert!(
            complete["bytes_down"].as_u64() < Some(400_000 + 100_000 + 12 * 16_384),
            "{format}: {complete}"
        );
        assert_same(dir);
        run_ok(dir, ["verify", "file.meta", "out"]);
    }
}

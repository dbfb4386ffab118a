//! Data that rots on the disk without any sign: it is never sent, it is named, and it is fetched again where that may be.

mod common;

use common::{Running, bytes, run, run_ok, write};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use tempfile::TempDir;

const PIECE: usize = 64 << 10;
const PIECES: usize = 64;
const LOCAL: [&str; 3] = ["--listen", "127.0.0.1:0", "--no-dht"];
const FORMATS: [&str; 3] = ["v1", "v2", "hybrid"];

/// A folder with `a/file` and `b/file`, the same 64 pieces, and `file.meta`.
fn with_copies(format: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for copy in ["a", "b"] {
        write(dir.path().join(copy).join("file"), good());
    }
    run_ok(dir.path(), ["create", "a/file", "-l", "64KiB", "--format", format]);
    dir
}

fn good() -> Vec<u8> {
    bytes(3, PIECE * PIECES)
}

fn start(dir: &Path, args: &[&str]) -> Running {
    Running::start(dir, [args, &LOCAL[..]].concat())
}

fn seed(dir: &Path, from: &str, more: &[&str]) -> (Running, String) {
    let mut seed = start(dir, &[&["seed", "file.meta", from], more].concat());
    let address = seed.address();
    (seed, address)
}

/// Has a run check what is in this folder, so that the next one trusts it.
fn have_checked(dir: &Path, from: &str) {
    let (mut seed, _) = seed(dir, from, &[]);
    assert_eq!(seed.wait_for("checked")["pieces_have"], PIECES);
    seed.signal("TERM");
    seed.finish();
}

/// Changes a byte of a piece, and nothing that shows it.
fn rot(path: &Path, piece: usize) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    let mut byte = [0];
    let file = File::options().read(true).write(true).open(path).unwrap();
    file.read_exact_at(&mut byte, (piece * PIECE + 9) as u64).unwrap();
    file.write_all_at(&[!byte[0]], (piece * PIECE + 9) as u64).unwrap();
    file.set_modified(time).unwrap();
}

#[test]
fn rot_under_a_trusting_seed_is_never_sent() {
    for format in FORMATS {
        let dir = with_copies(format);
        let dir = dir.path();
        have_checked(dir, "a");
        rot(&dir.join("a/file"), 7);
        let (mut rotten, rotten_peer) = seed(dir, "a", &[]);
        assert_eq!(rotten.wait_for("checked")["pieces_have"], PIECES, "nothing shows it");
        let mut got = start(dir, &["get", "file.meta", "-o", "out", "--peer", &rotten_peer]);
        let bad = rotten.wait_for("data_bad");
        assert_eq!((&bad["path"], &bad["pieces"]), (&"file".into(), &1.into()));
        assert_eq!(bad["refetched"], false, "a seed writes nothing");
        got.wait_until("progress", |event| event["pieces_have"] == PIECES - 1);
        let (_good, good_peer) = seed(dir, "b", &[]);
        got.signal("INT");
        got.finish();
        assert!(
            got.seen("piece_failed").is_empty() && got.seen("peer_banned").is_empty(),
            "it sent what was bad"
        );
        let mut got =
            start(dir, &["get", "file.meta", "-o", "out", "--peer", &rotten_peer, "--peer", &good_peer]);
        got.complete();
        assert!(got.seen("piece_failed").is_empty() && fs::read(dir.join("out/file")).unwrap() == good());
        assert!(fs::read(dir.join("a/file")).unwrap() != good(), "a seed writes nothing");
        // Killed and started again, it does not trust that piece.
        rotten.kill();
        let (mut again, _) = seed(dir, "a", &["--partial"]);
        assert_eq!(again.wait_for("checked")["pieces_have"], PIECES - 1);
    }
}

#[test]
fn scrub_finds_rot_and_has_it_fetched_again_into_place() {
    for format in FORMATS {
        let dir = with_copies(format);
        let dir = dir.path();
        have_checked(dir, "a");
        rot(&dir.join("a/file"), 7);
        rot(&dir.join("a/file"), 63);
        // Nobody asks it for anything, and nobody else is there.
        let (mut rotten, _) = seed(dir, "a", &["--scrub", "1G"]);
        assert_eq!(rotten.wait_for("checked")["pieces_have"], PIECES);
        for _ in 0..2 {
            assert_eq!(rotten.wait_for("data_bad")["refetched"], true);
        }
        rotten.kill();
        // The next start knows that it is rot.
        let (_good, good_peer) = seed(dir, "b", &[]);
        let (mut rotten, _) = seed(dir, "a", &["--scrub", "1G", "--peer", &good_peer]);
        assert_eq!(rotten.wait_for("checked")["pieces_have"], PIECES - 2);
        let mut mended: Vec<_> = (0..2).map(|_| rotten.wait_for("data_mended")["piece"].clone()).collect();
        mended.sort_by_key(|piece| piece.as_u64());
        assert_eq!(mended, [7, 63]);
        assert!(fs::read(dir.join("a/file")).unwrap() == good());
        rotten.wait_until("progress", |event| event["pieces_have"] == PIECES);
        rotten.kill();
        assert_eq!(run(dir, ["verify", "file.meta", "a"]).code, Some(0));
        let (mut again, _) = seed(dir, "a", &[]);
        assert_eq!(again.wait_for("checked")["pieces_have"], PIECES);
    }
}

#[test]
fn rot_of_a_download_that_seeds_is_fetched_again_once_it_is_asked_for() {
    for format in FORMATS {
        let dir = with_copies(format);
        let dir = dir.path();
        let (_good, good_peer) = seed(dir, "b", &[]);
        let get = |to: &str, more: &[&str]| start(dir, &[&["get", "file.meta", "-o", to], more].concat());
        get("out", &["--peer", &good_peer]).complete();
        rot(&dir.join("out/file"), 20);
        let mut rotten = get("out", &["--seed", "--peer", &good_peer]);
        let peer = rotten.address();
        rotten.wait_for("complete");
        let mut other = get("other", &["--peer", &peer]);
        other.complete();
        assert!(other.seen("piece_failed").is_empty() && other.seen("peer_banned").is_empty());
        assert_eq!(rotten.wait_for("data_bad")["refetched"], true);
        assert_eq!(rotten.wait_for("data_mended")["piece"], 20);
        for copy in ["out", "other"] {
            assert!(fs::read(dir.join(copy).join("file")).unwrap() == good(), "{format}: {copy}");
        }
    }
}

#[test]
fn what_somebody_has_changed_is_left_alone_by_a_scrub() {
    let dir = with_copies("v1");
    let dir = dir.path();
    have_checked(dir, "a");
    let edited = bytes(8, PIECE * PIECES);
    write(dir.join("a/file"), &edited);
    let (_good, good_peer) = seed(dir, "b", &[]);
    let (mut seed, _) = seed(dir, "a", &["--scrub", "1G", "--peer", &good_peer]);
    let ended = seed.finish();
    assert_eq!((ended.0, &ended.1["kind"]), (Some(4), &"data".into()), "there is nothing to seed");
    assert!(fs::read(dir.join("a/file")).unwrap() == edited);
}

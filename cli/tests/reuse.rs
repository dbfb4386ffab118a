//! What is here already is not downloaded: `get --reuse`, and `create --like` for versions that share data.

mod common;

use common::{Running, bytes, run, run_ok, tree, write};
use serde_json::Value;
use std::fs;
use std::path::Path;

const LOCAL: [&str; 5] = ["--listen", "127.0.0.1:0", "--no-dht", "--progress-interval", "20ms"];
const PIECE: u64 = 64 << 10;

fn start(dir: &Path, args: &[&str]) -> Running {
    Running::start(dir, [args, &LOCAL[..]].concat())
}

/// A folder `NAME/app` of 3.4 MB, in which one file of 70 kB differs with the version.
fn write_version(dir: &Path, name: &str, version: u64) {
    let root = dir.join(name).join("app");
    write(root.join("data.bin"), bytes(1, 1_500_000));
    write(root.join("lib/changed.bin"), bytes(100 + version, 70_000 + version as usize));
    write(root.join("lib/other.bin"), bytes(2, 1_200_001));
    for n in 0..30 {
        write(root.join(format!("many/{n:02}.txt")), bytes(200 + n, 21_000 + n as usize));
    }
}

/// Seeds `new/app`, and gets it with these arguments: the events.
fn get_new(dir: &Path, to: &str, more: &[&str]) -> (Running, Value) {
    let mut seed = start(dir, &["seed", "new.meta", "new", "--no-state"]);
    let peer = seed.address();
    seed.wait_for("checked");
    let mut got = start(dir, &[&["get", "new.meta", "-o", to, "--peer", &peer], more].concat());
    let complete = got.complete();
    assert_eq!(tree(&dir.join("new")), tree(&dir.join(to)));
    (got, complete)
}

#[test]
fn a_new_version_costs_the_file_that_has_changed() {
    for format in ["v1", "v2", "hybrid"] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        write_version(dir, "old", 0);
        write_version(dir, "new", 1);
        run_ok(dir, ["create", "old/app", "-o", "old.meta", "-l", "64KiB", "--format", format]);
        run_ok(dir, ["create", "new/app", "-o", "new.meta", "--like", "old.meta"]);
        // Under another name, and in another place.
        fs::create_dir_all(dir.join("kept/deep")).unwrap();
        fs::rename(dir.join("old/app"), dir.join("kept/deep/app-1.0")).unwrap();
        let (got, complete) = get_new(dir, "out", &["--reuse", "kept"]);
        let reused = got.seen("reused")[0];
        let down = complete["bytes_down"].as_u64().unwrap();
        // In version 1 the changed file shares pieces with its neighbours.
        assert!((70_000..=70_001 + 2 * PIECE).contains(&down), "{format}: {down}");
        let (had, total) = (reused["bytes"].as_u64().unwrap(), reused["bytes_total"].as_u64().unwrap());
        // The last block of a file of a hybrid comes with padding.
        assert!((total..total + 16_384).contains(&(had + down)), "{format}: {reused} and {down}");
        if format != "v1" {
            assert_eq!(had, total - 70_001, "{format}");
        }
        assert_eq!(reused["from"], serde_json::json!(["kept"]));
        // Of a clone no space is charged, and nothing of this touched what was there.
        assert!(reused["bytes_cloned"].as_u64().unwrap() <= had);
        write_version(dir, "old", 0);
        assert_eq!(tree(&dir.join("old/app")), tree(&dir.join("kept/deep/app-1.0")), "{format}");
    }
}

#[test]
fn a_magnet_link_reuses_too_and_people_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_version(dir, "new", 1);
    write_version(dir, "old", 0);
    let created = run_ok(dir, ["create", "new/app", "-o", "new.meta", "-l", "64KiB", "--json"]).json();
    let mut seed = start(dir, &["seed", "new.meta", "new", "--no-state"]);
    let peer = seed.address();
    seed.wait_for("checked");
    let link = created["magnet"].as_str().unwrap();
    let args = ["get", link, "-o", "out", "--peer", &peer, "--reuse", "old", "--reuse", "new.meta"];
    let told = run_ok(dir, args.iter().chain(&LOCAL));
    assert!(told.stderr.contains("reused 3.") && told.stderr.contains(" MiB from old\n"), "{told:?}");
    assert_eq!(tree(&dir.join("new")), tree(&dir.join("out")));
}

#[test]
fn saved_state_tells_where_more_is() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_version(dir, "old", 0);
    write_version(dir, "new", 1);
    fs::create_dir(dir.join("empty")).unwrap();
    run_ok(dir, ["create", "old/app", "-o", "old.meta", "-l", "64KiB"]);
    run_ok(dir, ["create", "new/app", "-o", "new.meta", "--like", "old.meta"]);
    // It is complete, and seeded for a moment: its state is saved.
    let mut seed = start(dir, &["seed", "old.meta", "old"]);
    seed.wait_for("checked");
    seed.signal("TERM");
    seed.finish();
    let (got, complete) = get_new(dir, "out", &["--reuse", "empty"]);
    assert!(complete["bytes_down"].as_u64().unwrap() <= 70_001 + 2 * PIECE, "{complete}");
    let from = got.seen("reused")[0]["from"][0].as_str().unwrap().to_owned();
    assert!(from.ends_with("/old/app"), "{from}");
    let (got, complete) = get_new(dir, "none", &["--reuse", "empty", "--no-state"]);
    assert_eq!(
        (&got.seen("reused")[0]["bytes"], &got.seen("reused")[0]["from"]),
        (&0.into(), &serde_json::json!([]))
    );
    assert!(complete["bytes_down"].as_u64().unwrap() > 3_000_000);
}

#[test]
fn a_folder_that_is_not_there_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir.join("x"), "data");
    run_ok(dir, ["create", "x"]);
    let refused = run(dir, ["get", "x.meta", "-o", "out", "--reuse", "nowhere"]);
    let line = "swarm: --reuse: nowhere: cannot open: No such file or directory (os error 2)\n";
    assert_eq!((refused.code, refused.stderr.as_str()), (Some(1), line));
    assert!(!dir.join("out").exists());
}

/// The files of a metainfo file, padding left out; its piece length; and whether it has padding.
fn shape(dir: &Path, meta: &str) -> (Vec<String>, u64, bool) {
    let metainfo = swarm_core::metainfo::Metainfo::parse(&fs::read(dir.join(meta)).unwrap()).unwrap();
    let files = metainfo.info.files.iter().filter(|file| !file.attr.pad).map(|file| file.path[1..].join("/"));
    let is_padded = metainfo.info.files.iter().any(|file| file.attr.pad);
    (files.collect(), metainfo.info.geometry.piece_len().into(), is_padded)
}

#[test]
fn a_torrent_like_another_has_its_order_pieces_padding_and_format() {
    use swarm_core::metainfo::{Content, Create, Hashes, SourceFile, pad_files};
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (name, len) in [("a", 100_000), ("b", 40_000), ("d", 7), ("new", 50_000)] {
        write(dir.join("x").join(name), bytes(1, len));
    }
    // Somebody else's order, piece length, and padding; and a file that has gone since.
    let file =
        |name: &str, length| SourceFile { path: vec![name.to_owned()], length, ..SourceFile::default() };
    let files = vec![file("d", 7), file("gone", 20_000), file("b", 40_000), file("a", 100_000)];
    for (output, is_padded) in [("plain", false), ("padded", true)] {
        let files = if is_padded { pad_files(files.clone(), 49_152) } else { files.clone() };
        let pieces = files.iter().map(|file| file.length).sum::<u64>().div_ceil(49_152) as usize;
        let create = Create::new("x".to_owned(), Content::Folder(files), 49_152);
        write(dir.join(output), create.encode(Hashes::v1(&vec![0; 20 * pieces])).unwrap());
        let like = format!("like-{output}");
        run_ok(dir, ["create", "x", "--like", output, "-o", &like]);
        assert_eq!(shape(dir, &like), (["d", "b", "a", "new"].map(str::to_owned).into(), 49_152, is_padded));
        assert_eq!(run(dir, ["verify", &like, "."]).code, Some(0));
    }
    run_ok(dir, ["create", "x", "-o", "hybrid", "--format", "hybrid", "-l", "16KiB"]);
    // What says the same contradicts nothing.
    run_ok(
        dir,
        ["create", "x", "-o", "again", "--like", "hybrid", "--format", "hybrid", "-l", "16KiB", "--no-date"],
    );
    let info =
        |meta: &str| swarm_core::metainfo::Metainfo::parse(&fs::read(dir.join(meta)).unwrap()).unwrap().info;
    assert_eq!(info("hybrid"), info("again"));
    for (args, told) in [
        (
            ["-l", "32KiB"],
            "--piece-length: differs from --like hybrid, which has pieces of 16 KiB; leave one of the two out",
        ),
        (
            ["--format", "v2"],
            "--format: differs from --like hybrid, which has the format hybrid; leave one of the two out",
        ),
    ] {
        let refused = run(dir, [&["create", "x", "-o", "no", "--like", "hybrid"], &args[..]].concat());
        assert_eq!((refused.code, refused.stderr), (Some(2), format!("swarm: {told}\n")));
    }
    let missing = run(dir, ["create", "x", "-o", "no", "--like", "nowhere"]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.starts_with("swarm: --like: nowhere: "), "{missing:?}");
    assert_eq!(missing.stderr.lines().count(), 1);
}

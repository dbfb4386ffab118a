//! `swarm seed` and `swarm get` as processes of their own, over loopback.

mod common;

use common::{Running, bytes, run, run_ok, swarm, tree, write, write_tree};
use std::path::Path;
use std::process::Stdio;
use tempfile::TempDir;

/// `--listen` and where.
type Local = [&'static str; 2];

for_both_families![
    a_tree_arrives_whole_and_nothing_else_does,
    a_killed_download_goes_on_where_it_was,
    a_terminated_download_saves_its_state_and_exits_130,
    two_downloads_do_not_share_a_destination,
    only_the_files_that_match_are_downloaded,
    a_download_in_order_completes,
    a_download_seeds_for_as_long_as_it_is_told,
    a_full_disk_pauses_the_download,
    a_peer_that_poisons_is_banned_and_the_data_comes_from_others,
    damaged_data_is_seeded_only_on_demand,
    people_get_lines_and_no_json,
    a_second_signal_ends_at_once,
    a_download_does_not_depend_on_who_reads_its_events,
];

/// A seed of `data/NAME` and the address of its peer.
fn seed(local: Local, dir: &Path, meta: &str, more: &[&str]) -> (Running, String) {
    let mut seed = Running::start(dir, [&["seed", meta, "data"], &local[..], more].concat());
    let address = seed.address();
    // Until then it does not know the torrent, and whoever connects tries again only seconds later.
    seed.wait_for("checked");
    (seed, address)
}

fn get(local: Local, dir: &Path, meta: &str, to: &str, peer: &str, more: &[&str]) -> Running {
    Running::start(dir, [&["get", meta, "-o", to, "--peer", peer], &local[..], more].concat())
}

/// A folder with `data/tree` and `tree.meta`.
fn with_tree() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_tree(dir.path(), "tree");
    run_ok(dir.path(), ["create", "data/tree", "-l", "16KiB"]);
    dir
}

/// A folder with `data/file`, of `len` bytes in pieces of 16 KiB, and `file.meta`.
fn with_file(len: usize) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("data/file"), bytes(3, len));
    run_ok(dir.path(), ["create", "data/file", "-l", "16KiB"]);
    dir
}

fn assert_same(dir: &Path, to: &str) {
    assert!(tree(&dir.join("data")) == tree(&dir.join(to)), "{to} differs from data");
}

fn a_tree_arrives_whole_and_nothing_else_does(local: Local) {
    let dir = with_tree();
    let (_seed, peer) = seed(local, dir.path(), "tree.meta", &[]);
    let mut got = get(local, dir.path(), "tree.meta", "out", &peer, &[]);
    let complete = got.complete();
    assert_same(dir.path(), "out");
    assert_eq!(complete["path"], "out/tree");
    let size: usize = tree(&dir.path().join("data")).values().map(Vec::len).sum();
    assert!(complete["bytes_down"].as_u64().unwrap() >= size as u64);
    assert_eq!(got.events[0]["event"], "started");
    let metadata = got.seen("metadata")[0];
    assert_eq!((&metadata["name"], metadata["total_size"].as_u64()), (&"tree".into(), Some(size as u64)));
    let times: Vec<f64> = got.seen("progress").iter().map(|event| event["t"].as_f64().unwrap()).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] > 0.9), "{times:?}");

    let again = get(local, dir.path(), "tree.meta", "out", &peer, &[]).complete();
    assert_eq!(again["bytes_down"], 0);
}

fn a_killed_download_goes_on_where_it_was(local: Local) {
    let len = 8 << 20;
    let dir = with_file(len);
    let (_seed, peer) = seed(local, dir.path(), "file.meta", &[]);
    let mut first = get(local, dir.path(), "file.meta", "out", &peer, &["--max-down", "3MiB/s"]);
    let last = first.wait_until("progress", |event| event["pieces_have"].as_u64() > Some(100));
    first.kill();
    let had = last["bytes_verified"].as_u64().unwrap();
    let second = get(local, dir.path(), "file.meta", "out", &peer, &[]).complete();
    assert!(second["bytes_down"].as_u64().unwrap() <= len as u64 - had, "{second} after {last}");
    assert_same(dir.path(), "out");
}

fn a_terminated_download_saves_its_state_and_exits_130(local: Local) {
    let len = 8 << 20;
    let dir = with_file(len);
    let (mut seed, peer) = seed(local, dir.path(), "file.meta", &[]);
    let mut first = get(local, dir.path(), "file.meta", "out", &peer, &["--max-down", "3MiB/s"]);
    let had = first.wait_until("progress", |event| event["pieces_have"].as_u64() > Some(100));
    first.signal("TERM");
    let (code, last) = first.finish();
    assert_eq!((code, &last["event"], &last["kind"]), (Some(130), &"failed".into(), &"interrupted".into()));
    let stderr = first.stderr();
    assert_eq!(stderr.lines().count(), 1);
    assert!(stderr.contains(" of 8 MiB kept"), "{stderr}");
    let second = get(local, dir.path(), "file.meta", "out", &peer, &[]).complete();
    assert!(second["bytes_down"].as_u64().unwrap() <= len as u64 - had["bytes_verified"].as_u64().unwrap());
    assert_same(dir.path(), "out");

    seed.signal("INT");
    let (code, last) = seed.finish();
    assert_eq!(
        (code, &last["event"], &last["reason"]),
        (Some(130), &"stopped".into(), &"interrupted".into())
    );
    assert!(last["bytes_up"].as_u64().unwrap() >= len as u64);
}

fn two_downloads_do_not_share_a_destination(local: Local) {
    let dir = with_file(4 << 20);
    let (_seed, peer) = seed(local, dir.path(), "file.meta", &[]);
    let mut first = get(local, dir.path(), "file.meta", "out", &peer, &["--max-down", "1MiB/s"]);
    first.wait_for("progress");
    let mut second = get(local, dir.path(), "file.meta", "out", &peer, &[]);
    let (code, last) = second.finish();
    assert_ne!(code, Some(0));
    assert!(last["message"].as_str().unwrap().contains("another"), "{last}");
    first.wait_until("progress", |event| event["pieces_have"].as_u64() > Some(0));
}

fn only_the_files_that_match_are_downloaded(local: Local) {
    let dir = with_tree();
    let (_seed, peer) = seed(local, dir.path(), "tree.meta", &[]);
    get(local, dir.path(), "tree.meta", "out", &peer, &["--files", "many/1?.txt", "--files", "*deep.bin"])
        .complete();
    // What their pieces brought of other files is kept for a later run.
    let mut got = tree(&dir.path().join("out"));
    got.retain(|path, _| !path.starts_with(".tree.swarm"));
    assert_eq!(got.len(), 11, "{:?}", got.keys());
    let all = tree(&dir.path().join("data"));
    assert!(got.iter().all(|(path, content)| all[path] == *content));

    let mut none = get(local, dir.path(), "tree.meta", "none", &peer, &["--files", "*.iso"]);
    assert_eq!(none.finish().0, Some(2));
    assert!(none.stderr().ends_with("no file matches --files *.iso\n"));
}

fn a_download_in_order_completes(local: Local) {
    let dir = with_tree();
    let (_seed, peer) = seed(local, dir.path(), "tree.meta", &[]);
    get(local, dir.path(), "tree.meta", "out", &peer, &["--sequential"]).complete();
    assert_same(dir.path(), "out");
}

fn a_download_seeds_for_as_long_as_it_is_told(local: Local) {
    let dir = with_tree();
    let (source, peer) = seed(local, dir.path(), "tree.meta", &[]);
    let mut first = get(local, dir.path(), "tree.meta", "first", &peer, &["--seed=1.0"]);
    let first_peer = first.address();
    first.wait_for("complete");
    source.kill();
    get(local, dir.path(), "tree.meta", "second", &first_peer, &[]).complete();
    assert_same(dir.path(), "second");
    let (code, last) = first.finish();
    assert_eq!((code, &last["event"], &last["reason"]), (Some(0), &"stopped".into(), &"ratio".into()));

    let mut timed = get(local, dir.path(), "tree.meta", "first", &first_peer, &["--seed=10ms"]);
    let (code, last) = timed.finish();
    assert_eq!((code, &last["reason"]), (Some(0), &"duration".into()));
}

fn a_full_disk_pauses_the_download(local: Local) {
    let dir = with_file(1 << 20);
    let (_seed, peer) = seed(local, dir.path(), "file.meta", &[]);
    let mut got = get(local, dir.path(), "file.meta", "out", &peer, &["--inject-disk-full", "300KiB,50ms"]);
    got.wait_for("disk_stalled");
    got.wait_for("disk_resumed");
    got.complete();
    assert_same(dir.path(), "out");

    let impatient = ["--inject-disk-full", "300KiB,1h", "--space-wait", "50ms"];
    let mut got = get(local, dir.path(), "file.meta", "full", &peer, &impatient);
    let (code, last) = got.finish();
    assert_eq!((code, &last["kind"]), (Some(5), &"destination".into()), "{last}");
}

fn a_peer_that_poisons_is_banned_and_the_data_comes_from_others(local: Local) {
    let dir = with_file(1 << 20);
    let (_bad, bad) = seed(local, dir.path(), "file.meta", &["--inject-poison"]);
    let mut got = get(local, dir.path(), "file.meta", "out", &bad, &[]);
    let address = got.address();
    assert_eq!(got.wait_for("peer_banned")["address"].as_str(), Some(&*bad));
    assert!(!got.seen("piece_failed").is_empty());
    let (_good, _) = seed(local, dir.path(), "file.meta", &["--peer", &address]);
    got.complete();
    assert_same(dir.path(), "out");
}

fn damaged_data_is_seeded_only_on_demand(local: Local) {
    let dir = with_file(1 << 20);
    let mut content = bytes(3, 1 << 20);
    content[100_000] ^= 1;
    write(dir.path().join("data/file"), content);
    let mut refused = Running::start(dir.path(), [&["seed", "file.meta", "data"], &local[..]].concat());
    let (code, last) = refused.finish();
    assert_eq!((code, &last["kind"]), (Some(4), &"data".into()));
    let message = "data/file: 1 of 64 pieces are missing or damaged";
    assert!(last["message"].as_str().unwrap().starts_with(message), "{last}");

    let (partial, _) = seed(local, dir.path(), "file.meta", &["--partial"]);
    assert_eq!(partial.seen("checked")[0]["pieces_have"], 63);
}

fn people_get_lines_and_no_json(local: Local) {
    let dir = with_tree();
    let (_seed, peer) = seed(local, dir.path(), "tree.meta", &[]);
    let got = run_ok(dir.path(), ["get", "tree.meta", "-o", "out", "--peer", &peer, local[0], local[1]]);
    assert!(got.stdout.starts_with("out/tree: complete, 1.5 MiB in "), "{got:?}");
    let quiet =
        run_ok(dir.path(), ["get", "tree.meta", "-o", "out", "-q", "--peer", &peer, local[0], local[1]]);
    assert_eq!((quiet.stdout, quiet.stderr), (String::new(), String::new()));
}

#[test]
fn an_address_that_is_not_ours_is_a_failure_at_run_time() {
    let dir = with_file(10);
    let got = run(dir.path(), ["get", "file.meta", "--listen", "192.0.2.1:0"]);
    assert_eq!(got.code, Some(1));
    let error = got.stderr.lines().last().unwrap();
    assert!(error.starts_with("swarm: --listen: cannot listen on 192.0.2.1:0: "), "{got:?}");
}

fn a_second_signal_ends_at_once(local: Local) {
    let dir = with_file(1 << 20);
    // A tracker that never answers holds up a clean end.
    let silent = std::net::TcpListener::bind(local[1]).unwrap();
    let tracker = format!("http://{}/announce", silent.local_addr().unwrap());
    let args = ["get", "file.meta", "-o", "out", "--tracker", &tracker, local[0], local[1]];
    let mut got = Running::start(dir.path(), args);
    got.wait_for("checked");
    let _announce = silent.accept().unwrap();
    got.signal("INT");
    // Those that come soon after the first are the same request.
    let mut repeated = 0;
    while got.is_running() {
        got.signal("TERM");
        repeated += 1;
    }
    assert!(repeated > 1);
    let (code, _) = got.finish();
    assert_eq!(code, Some(130));
    assert!(got.seen("failed").is_empty(), "{:?}", got.events);
}

fn a_download_does_not_depend_on_who_reads_its_events(local: Local) {
    let dir = with_file(1 << 20);
    let (_seed, peer) = seed(local, dir.path(), "file.meta", &[]);
    let mut command = common::swarm(dir.path());
    command.args(["get", "file.meta", "-o", "out", "--json", "--peer", &peer]).args(local);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_same(dir.path(), "out");
}

#[test]
fn a_relative_state_folder_of_the_environment_is_ignored_with_a_warning() {
    let dir = with_file(20_000);
    let get = |args: &[&str]| {
        let mut command = swarm(dir.path());
        command.env("XDG_STATE_HOME", "relative/state").args(["get", "file.meta", "-o", "data", "--no-dht"]);
        command.args(["--listen", "127.0.0.1:0"]).args(args).output().unwrap()
    };
    let told = get(&[]);
    let line = "XDG_STATE_HOME is relative/state, which is not an absolute path: it is ignored, and";
    let stderr = String::from_utf8(told.stderr).unwrap();
    assert!(told.status.success() && stderr.contains(line), "{stderr}");
    assert!(!dir.path().join("relative").exists());
    assert!(dir.path().join("home/.local/state/swarm").exists());
    let given = get(&["--no-state"]);
    assert!(!String::from_utf8(given.stderr).unwrap().contains("XDG_STATE_HOME"));
}

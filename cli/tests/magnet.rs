//! `swarm get` and `swarm show --fetch` with links, as processes over loopback.

mod common;

use common::{Running, bytes, run, run_ok, tree, write};
use std::path::Path;

for_both_families![
    a_link_is_enough,
    an_info_hash_is_enough,
    a_link_selects_files,
    what_is_in_a_link_is_shown,
    a_seed_by_a_link_is_told_which_folder_is_meant,
    a_fetch_can_be_interrupted,
];

/// A command that nobody but its peers and its link can help.
fn alone(host: [&str; 2]) -> [&str; 4] {
    [host[0], host[1], "--no-dht", "--no-state"]
}

/// A seed of three files: its process, its address, and a link that names nobody.
fn seed(dir: &Path, host: [&str; 2]) -> (Running, String, String) {
    for (nth, name) in ["a", "b", "c"].into_iter().enumerate() {
        write(dir.join("data/three").join(name), bytes(nth as u64, 50_000));
    }
    run_ok(dir, ["create", "data/three", "-l", "16KiB"]);
    let link = run_ok(dir, ["magnet", "three.meta"]).stdout.trim().to_owned();
    let mut seed = Running::start(dir, [&["seed", "three.meta", "data"], &alone(host)[..]].concat());
    let address = seed.address();
    (seed, address, link)
}

fn a_link_is_enough(host: [&str; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let (_seed, address, link) = seed(dir.path(), host);
    let link = format!("{link}&x.pe={address}");
    let mut got = Running::start(dir.path(), [&["get", &link, "-o", "out"], &alone(host)[..]].concat());
    got.complete();
    assert!(tree(&dir.path().join("data")) == tree(&dir.path().join("out")));
    assert_eq!(got.seen("metadata").len(), 1);
    assert_eq!(got.seen("listening").len(), 1);
}

fn an_info_hash_is_enough(host: [&str; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let (_seed, address, link) = seed(dir.path(), host);
    let hash = &link["magnet:?xt=urn:btih:".len()..][..40];
    let mut got = Running::start(
        dir.path(),
        [&["get", hash, "-o", "out", "--peer", &address], &alone(host)[..]].concat(),
    );
    got.complete();
    assert!(tree(&dir.path().join("data")) == tree(&dir.path().join("out")));
}

fn a_link_selects_files(host: [&str; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let (_seed, address, link) = seed(dir.path(), host);
    let selecting = format!("{link}&x.pe={address}&so=0,2");
    let mut got = Running::start(dir.path(), [&["get", &selecting, "-o", "out"], &alone(host)[..]].concat());
    got.complete();
    let names: Vec<_> = tree(&dir.path().join("out/three")).into_keys().collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let none = format!("{link}&x.pe={address}&so=3");
    let refused = run(dir.path(), [&["get", &none, "-o", "none"], &alone(host)[..]].concat());
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.stderr.contains("the link selects none of its files"), "{refused:?}");
}

fn what_is_in_a_link_is_shown(host: [&str; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let (_seed, address, link) = seed(dir.path(), host);
    // A warning, which `get` would print as an event.
    let link = format!("{link}&x.pe={address}&tr=tracker.example");
    let shown = run_ok(dir.path(), [&["show", "--fetch", &link, "--json"], &alone(host)[..]].concat());
    assert_eq!(shown.stdout.lines().count(), 1, "one object and no events: {shown:?}");
    assert!(shown.stderr.contains("tracker.example: never asked"), "{shown:?}");
    let shown = shown.json();
    let file = run_ok(dir.path(), ["show", "three.meta", "--json"]).json();
    assert_eq!((&shown["files"], &shown["info_hash_v1"]), (&file["files"], &file["info_hash_v1"]));
}

fn a_seed_by_a_link_is_told_which_folder_is_meant(host: [&str; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let (_seed, address, link) = seed(dir.path(), host);
    let link = format!("{link}&x.pe={address}");
    let ended = run(dir.path(), [&["seed", &link, "data/three"], &alone(host)[..]].concat());
    let told = "swarm: data/three: is three itself; give the folder that contains it, data";
    assert_eq!((ended.code, ended.stderr.lines().last()), (Some(2), Some(told)), "{ended:?}");
    let ended = run(dir.path(), [&["seed", &link, "three.meta"], &alone(host)[..]].concat());
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("is a metainfo file, not the folder with the data"), "{ended:?}");
    let mut second = Running::start(dir.path(), [&["seed", &link, "data"], &alone(host)[..]].concat());
    let checked = second.wait_for("checked");
    assert_eq!(checked["pieces_have"], checked["pieces"]);
}

#[test]
fn a_fetch_may_be_limited_in_time() {
    let host = ["--listen", "127.0.0.1:0"];
    let dir = tempfile::tempdir().unwrap();
    let hash = "0123456789abcdef0123456789abcdef01234567";
    let ended = run(dir.path(), [&["show", "--fetch", hash, "--timeout", "1s"], &alone(host)[..]].concat());
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("not found within 1s"), "{ended:?}");
    assert_eq!(run(dir.path(), ["show", "x.meta", "--timeout", "1s"]).code, Some(2), "nothing is waited for");
}

fn a_fetch_can_be_interrupted(host: [&str; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let hash = "0123456789abcdef0123456789abcdef01234567";
    let mut getter = Running::start(dir.path(), [&["get", hash], &alone(host)[..]].concat());
    getter.address();
    getter.signal("INT");
    let (code, last) = getter.finish();
    assert_eq!((code, last["kind"].as_str()), (Some(130), Some("interrupted")), "{last}");
}

//! Several torrents in one process: `seed --dir`, `get` with several sources; and what `get` selects and how long it waits.

mod common;

use common::{Running, bytes, run, run_ok, swarm, tree, write, write_tree};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use tempfile::TempDir;

const LOCAL: [&str; 5] = ["--listen", "127.0.0.1:0", "--no-dht", "--progress-interval", "20ms"];

/// A folder with `data/a`, `data/b`, the folder `data/tree`, and their metainfo files in `metas`.
fn with_three() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("data/a"), bytes(3, 300_000));
    write(dir.path().join("data/b"), bytes(4, 200_000));
    write_tree(dir.path(), "tree");
    fs::create_dir(dir.path().join("metas")).unwrap();
    for name in ["a", "b", "tree"] {
        let (data, output) = (format!("data/{name}"), format!("metas/{name}.meta"));
        run_ok(dir.path(), ["create", &data, "-o", &output, "-l", "16KiB"]);
    }
    dir
}

fn start(dir: &Path, args: &[&str]) -> Running {
    Running::start(dir, [args, &LOCAL[..]].concat())
}

fn hash(dir: &Path, meta: &str) -> Value {
    run_ok(dir, ["show", meta, "--json"]).json()["info_hash_v1"].clone()
}

/// A seed of all three and its address.
fn seed_three(dir: &Path) -> (Running, String) {
    let mut seed = start(dir, &["seed", "--dir", "data", "metas"]);
    let address = seed.address();
    while seed.seen("checked").len() < 3 {
        seed.wait_for("checked");
    }
    (seed, address)
}

#[test]
fn several_torrents_share_a_session_and_each_event_names_its_own() {
    let dir = with_three();
    let (mut seed, peer) = seed_three(dir.path());
    let metas = ["metas/a.meta", "metas/b.meta", "metas/tree.meta"];
    let mut got = start(dir.path(), &[&["get", "-o", "out", "--peer", &peer], &metas[..]].concat());
    let (code, last) = got.finish();
    assert_eq!(code, Some(0), "{:#?}", got.events);
    assert_eq!(
        (&last["event"], &last["torrents"], &last["complete"], &last["failed"], &last["status"]),
        (&"summary".into(), &3.into(), &3.into(), &0.into(), &0.into())
    );
    assert_eq!(tree(&dir.path().join("data")), tree(&dir.path().join("out")));
    seed.signal("TERM");
    let (code, last) = seed.finish();
    assert_eq!((code, &last["event"], &last["complete"]), (Some(0), &"summary".into(), &3.into()));
    assert!(last["bytes_up"].as_u64().unwrap() >= 500_000, "{last}");

    let hashes = metas.map(|meta| hash(dir.path(), meta));
    for (command, last) in [(&got, "complete"), (&seed, "stopped")] {
        assert_eq!(command.seen("listening").len(), 1);
        for event in &command.events {
            let is_of_none = ["started", "listening", "summary"].iter().any(|name| event["event"] == *name);
            assert!(is_of_none || hashes.contains(&event["info_hash"]), "{event}");
        }
        for (hash, meta) in hashes.iter().zip(metas) {
            let is_of = |event: &&&Value| event["info_hash"] == *hash;
            assert_eq!(command.seen("metadata").iter().find(is_of).unwrap()["source"], meta);
            assert_eq!(command.seen(last).iter().filter(is_of).count(), 1, "{last} of {meta}");
        }
    }
}

#[test]
fn bad_sources_fail_at_once_and_the_others_go_on() {
    let dir = with_three();
    let (_seed, peer) = seed_three(dir.path());
    write(dir.path().join("bad.meta"), "no metainfo");
    let sources = ["bad.meta", "metas/a.meta", "missing.meta", "metas/tree.meta", "metas/b.meta"];
    let args = [&["get", "-o", "out", "--peer", &peer], &sources[..]].concat();
    let mut got = start(dir.path(), &args);
    let (code, last) = got.finish();
    assert_eq!(
        (code, &last["failed"], &last["complete"], &last["status"]),
        (Some(3), &2.into(), &3.into(), &3.into())
    );
    let failed = got.seen("failed");
    let failed: Vec<_> = failed.iter().map(|event| (&event["source"], &event["kind"])).collect();
    assert!(failed.contains(&(&"bad.meta".into(), &"metainfo".into())), "{failed:?}");
    assert!(failed.contains(&(&"missing.meta".into(), &"runtime".into())), "{failed:?}");
    assert!(got.seen("failed").iter().all(|event| event["info_hash"].is_null()));
    let stderr = got.stderr();
    assert_eq!(stderr.lines().count(), 2, "{stderr}");
    assert!(stderr.contains("swarm: missing.meta: cannot open: "), "{stderr}");
    assert_eq!(tree(&dir.path().join("data")), tree(&dir.path().join("out")));

    fs::create_dir(dir.path().join("empty")).unwrap();
    // A seed goes on with what it has until it is ended, and then has the status of the worst.
    fs::write(dir.path().join("data/b"), bytes(9, 200_000)).unwrap();
    let mut seed = start(dir.path(), &["seed", "--dir", "data", "metas/a.meta", "metas/b.meta", "empty"]);
    seed.wait_until("failed", |event| event["info_hash"] == hash(dir.path(), "metas/b.meta"));
    seed.wait_until("progress", |event| event["pieces_have"] == event["pieces"]);
    seed.signal("TERM");
    assert_eq!(seed.finish().0, Some(4));
}

#[test]
fn the_same_torrent_twice_is_one_and_said() {
    let dir = with_three();
    fs::copy(dir.path().join("metas/a.meta"), dir.path().join("metas/a2.torrent")).unwrap();
    let (_seed, peer) = seed_three(dir.path());
    let mut got = start(dir.path(), &["get", "-o", "out", "--peer", &peer, "metas"]);
    let (code, last) = got.finish();
    assert_eq!((code, &last["torrents"], &last["complete"]), (Some(0), &3.into(), &3.into()));
    assert!(got.seen("warning")[0]["message"].as_str().unwrap().contains("is the same torrent as a"));
}

#[test]
fn several_downloads_keep_what_they_have_when_interrupted() {
    let dir = with_three();
    let (_seed, peer) = seed_three(dir.path());
    let sources = ["metas/a.meta", "metas/tree.meta"];
    let args = [&["get", "-o", "out", "--peer", &peer], &sources[..]].concat();
    let mut first = start(dir.path(), &[&args[..], &["--max-down", "300k"]].concat());
    first.wait_until("progress", |event| event["pieces_have"].as_u64() > Some(3));
    first.signal("INT");
    let (code, last) = first.finish();
    assert_eq!((code, &last["event"], &last["status"]), (Some(130), &"summary".into(), &130.into()));
    assert_eq!(start(dir.path(), &args).finish().0, Some(0));
}

#[test]
fn people_read_which_torrent_a_line_is_about() {
    let dir = with_three();
    let (_seed, peer) = seed_three(dir.path());
    let args = [&["get", "-o", "out", "--peer", &peer, "metas", "nowhere.meta"], &LOCAL[..]].concat();
    let output = swarm(dir.path()).args(args).stderr(Stdio::piped()).output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    let [stdout, stderr] = text;
    assert!(
        stdout.lines().last().unwrap().starts_with("4 torrents: 3 complete, 1 failed; sent "),
        "{stdout}"
    );
    for line in ["a: 0 of 19 pieces are here", "tree: 0 of ", "swarm: nowhere.meta: cannot open: "] {
        assert!(stderr.contains(line), "{stderr}");
    }
}

#[test]
fn a_seed_of_several_sources_asks_for_their_folder() {
    let dir = with_three();
    let mend = "several sources need --dir DIR, the folder with their data";
    for (sources, told) in [
        (
            &["metas/a.meta", "metas/b.meta"][..],
            format!("metas/b.meta: is a metainfo file, not the folder with the data; {mend}"),
        ),
        (
            &["metas/a.meta", "http://a.example/b.meta"],
            format!("http://a.example/b.meta: is a link, not the folder with the data; {mend}"),
        ),
        (&["metas/a.meta", "metas/b.meta", "data"], mend.to_owned()),
        (&["metas/a.meta"], "DIR is missing: swarm seed SOURCE DIR".to_owned()),
        (&["metas/a.meta", "data/b"], "data/b: is a file, not the folder that contains a".to_owned()),
    ] {
        let finished = run(dir.path(), [&["seed"], sources, &LOCAL[..]].concat());
        assert_eq!(
            (finished.code, finished.stderr.lines().last()),
            (Some(2), Some(&*format!("swarm: {told}")))
        );
    }
}

#[test]
fn a_seed_understands_the_data_itself_for_its_folder() {
    let dir = with_three();
    for (meta, data, cwd) in [
        ("metas/tree.meta", "data/tree", ""),
        ("metas/a.meta", "data/a", ""),
        ("../../metas/tree.meta", ".", "data/tree"),
        ("../metas/tree.meta", "tree", "data"),
    ] {
        let mut seed = start(&dir.path().join(cwd), &["seed", meta, data]);
        let checked = seed.wait_for("checked");
        assert_eq!(checked["pieces_have"], checked["pieces"], "{data}");
    }
}

#[test]
fn what_create_seeds_is_downloaded_by_others() {
    let dir = with_three();
    let mut seed = start(dir.path(), &["create", "data/tree", "--seed"]);
    let created = seed.next().unwrap();
    assert_eq!((&created["event"], &created["output"]), (&"created".into(), &"tree.meta".into()));
    let peer = seed.address();
    let checked = seed.wait_for("checked");
    assert_eq!(checked["pieces_have"], created["pieces"]);
    let mut got = start(dir.path(), &["get", "tree.meta", "-o", "out", "--peer", &peer]);
    got.complete();
    assert_eq!(tree(&dir.path().join("data/tree")), tree(&dir.path().join("out/tree")));
    seed.signal("TERM");
    assert_eq!(seed.finish().0, Some(0));

    let other = run(dir.path(), ["create", "data/tree", "--seed", "--name", "other"]);
    let told = "swarm: --seed: data/tree is not called other, as the torrent is; leave --name out\n";
    assert_eq!((other.code, &*other.stderr), (Some(2), told));
    assert!(!dir.path().join("other.meta").exists());
}

#[test]
fn files_are_selected_by_the_index_that_show_prints() {
    let dir = with_three();
    let (_seed, peer) = seed_three(dir.path());
    let shown = run_ok(dir.path(), ["show", "metas/tree.meta"]).stdout;
    let index = |name: &str| {
        let line = shown.lines().find(|line| line.ends_with(name)).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    };
    let select = format!("{},{}-{}", index("one byte"), index("many/17.txt"), index("many/19.txt"));
    let get = |select: &str, to: &str| {
        start(dir.path(), &["get", "metas/tree.meta", "-o", to, "--peer", &peer, "--select-file", select])
    };
    get(&select, "out").complete();
    let got = tree(&dir.path().join("out/tree"));
    let names: Vec<_> = got.keys().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(names, ["a/one byte", "many/17.txt", "many/18.txt", "many/19.txt"]);

    let mut none = get("26", "none");
    let (code, last) = none.finish();
    let told = "tree: --select-file: there is no file 26, only 25 files; see `swarm show`";
    assert_eq!((code, &last["message"]), (Some(2), &told.into()));
    let several = run(dir.path(), ["get", "metas/a.meta", "metas/b.meta", "--select-file", "1"]);
    assert_eq!(several.code, Some(2));
    assert!(several.stderr.contains("--select-file: "), "{several:?}");
}

#[test]
fn a_download_to_which_nothing_comes_gives_up_and_says_what_it_waited_for() {
    let dir = with_three();
    let stalled = |source: &str, more: &[&str]| {
        let mut got =
            start(dir.path(), &[&["get", source, "-o", "out", "--stall-timeout", "300ms"], more].concat());
        let (code, last) = got.finish();
        (code, last["kind"].as_str().unwrap().to_owned(), last["message"].as_str().unwrap().to_owned())
    };
    let why = "nothing came for 300ms: no peers: there is no tracker and no DHT to ask; add --tracker URL or --peer ADDR:PORT";
    assert_eq!(stalled("metas/a.meta", &[]), (Some(4), "data".to_owned(), format!("out/a: {why}")));
    let hash = "631a31dd0a46257d5078c0dee4e66e26f73e42ac";
    assert_eq!(stalled(hash, &[]), (Some(4), "data".to_owned(), format!("{hash}: {why}")));
    let (_seed, peer) = seed_three(dir.path());
    let (code, kind, message) = stalled("metas/a.meta", &["--peer", &peer, "--inject-disk-full", "1,60s"]);
    assert_eq!((code, &*kind), (Some(5), "destination"), "{message}");
    assert!(message.contains("nothing came for 300ms: ") && message.contains("space"), "{message}");

    // What goes on slowly does not stall: this takes about three seconds.
    let slow = ["--peer", &peer, "--max-down", "100k", "--stall-timeout", "2s"];
    start(dir.path(), &[&["get", "metas/a.meta", "-o", "slow"], &slow[..]].concat()).complete();
}

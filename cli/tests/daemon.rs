//! `swarm daemon` and `swarm ctl`: torrents that come back as they were, whoever ends the daemon and when.

mod common;

use common::daemon::{Daemon, refused, state};
use common::{Running, bytes, run, run_ok, tree, write, write_tree};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use tempfile::TempDir;

/// A folder with data of these names in `data`, and their metainfo files in `metas`.
fn with(names: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("metas")).unwrap();
    for (nth, name) in names.iter().enumerate() {
        match *name {
            "tree" => drop(write_tree(dir.path(), "tree")),
            name => write(dir.path().join("data").join(name), bytes(nth as u64, 600_000)),
        }
        let (data, output) = (format!("data/{name}"), format!("metas/{name}.meta"));
        run_ok(dir.path(), ["create", &data, "-o", &output, "-l", "16KiB"]);
    }
    dir
}

/// A seed of all of them, and its address.
fn seed(dir: &Path, more: &[&str]) -> (Running, String) {
    let args = [
        "seed",
        "--dir",
        "data",
        "metas",
        "--listen",
        "127.0.0.1:0",
        "--no-dht",
        "--state-dir",
        "seed-state",
    ];
    let mut seed = Running::start(dir, [&args[..], more].concat());
    let address = seed.address();
    let count = fs::read_dir(dir.join("metas")).unwrap().count();
    while seed.seen("checked").len() < count {
        seed.wait_for("checked");
    }
    (seed, address)
}

/// Serves one file over HTTP, to everybody who asks, and tells its URL.
fn web_server(content: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x.torrent", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4_096]);
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", content.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&content));
        }
    });
    url
}

/// What a restart must not change.
fn kept(torrent: &Value) -> Value {
    let fields = [
        "id",
        "info_hash",
        "name",
        "dir",
        "paused",
        "forced",
        "seed",
        "sequential",
        "position",
        "added_at",
        "upload_limit",
        "download_limit",
        "ratio_limit",
        "seed_time_limit",
        "category",
        "tags",
        "bytes_total",
    ];
    fields.iter().map(|field| torrent[field].clone()).collect()
}

/// Adds a torrent by each way that there is, and sets something of each kind. The number of the one that is paused.
fn add_each_way(daemon: &Daemon, dir: &Path, peer: &str) -> i64 {
    let meta = |name: &str| dir.join(format!("metas/{name}.meta"));
    let by_file = ["metas/file.meta", "--category", "iso", "--tag", "b", "--tag", "a", "--sequential"];
    assert_eq!(daemon.ctl(&[&["add"], &by_file[..]].concat())["name"], "file");
    daemon.ctl(&["add", &web_server(fs::read(meta("url")).unwrap())]);
    let link = run_ok(dir, ["magnet", "metas/magnet.meta"]).stdout;
    daemon.ctl(&["add", link.trim(), "--peer", peer]);
    fs::copy(meta("watched"), dir.join("watched/w.torrent")).unwrap();
    let paused = daemon.ctl(&["add", "metas/paused.meta", "--paused"])["id"].as_i64().unwrap();
    // It starts when its files are chosen, so that nothing of the others has come.
    daemon.ctl(&["add", "metas/tree.meta", "--paused"]);
    daemon.ctl(&["limit", "tree", "--up", "1MB/s", "--ratio", "7", "--seed-time", "none"]);
    daemon.ctl(&["files", "tree", "--skip", "1-2", "--first", "0"]);
    daemon.ctl(&["resume", "tree"]);
    daemon.ctl(&["queue", "tree", "--to", "top"]);
    let is_taken = || dir.join("watched/w.torrent.added").exists().then_some(());
    daemon.wait_for(is_taken, || daemon.get("/api/v1/torrents"));
    paused
}

/// Waits until all six are known, and some of their data has come, but not all.
fn wait_for_the_middle(daemon: &Daemon, paused: i64) {
    let is_in_the_middle = || {
        let all = daemon.ctl(&["list"]);
        let all = all.as_array().unwrap();
        let knows_all = all.len() == 6 && all.iter().all(|one| one["bytes_total"].as_u64() > Some(0));
        let some: u64 = all.iter().filter_map(|one| one["bytes_verified"].as_u64()).sum();
        let is_whole = all.iter().filter(|one| one["id"] != paused).all(|one| one["state"] == "seeding");
        assert!(!is_whole, "all of it came before it could be killed");
        (knows_all && some > 300_000).then_some(())
    };
    daemon.wait_for(is_in_the_middle, || daemon.get("/api/v1/torrents"));
}

#[test]
fn torrents_of_each_source_come_back_after_kill_9_in_the_middle_of_a_download() {
    let dir = with(&["file", "url", "magnet", "watched", "paused", "tree"]);
    let (_seed, peer) = seed(dir.path(), &["--max-up", "400k"]);
    let path = |name: &str| dir.path().join(name);
    let options = ["--watch-dir", "watched", "--peer", &peer, "--allow-private-urls"];
    fs::create_dir(path("watched")).unwrap();
    let daemon = Daemon::start(dir.path(), &options);
    let paused = add_each_way(&daemon, dir.path(), &peer);
    wait_for_the_middle(&daemon, paused);
    let priorities = |daemon: &Daemon| {
        let files = daemon.ctl(&["files", "tree"]);
        files.as_array().unwrap().iter().map(|file| file["priority"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let (before, priorities_before) = (daemon.ctl(&["list"]), priorities(&daemon));
    let Daemon { process, .. } = daemon;
    process.kill();

    let daemon = Daemon::start(dir.path(), &options);
    let after = daemon.ctl(&["list"]);
    let fields = |list: &Value| list.as_array().unwrap().iter().map(kept).collect::<Vec<_>>();
    assert_eq!(fields(&before), fields(&after));
    assert_eq!(priorities_before, priorities(&daemon));
    for one in after.as_array().unwrap() {
        let id = one["id"].as_i64().unwrap();
        match id == paused {
            true => assert_eq!(one["state"], "paused"),
            false => drop(daemon.wait(id, |one| one["state"] == "seeding")),
        }
    }
    for name in ["file", "url", "magnet", "watched"] {
        assert_eq!(
            fs::read(path("downloads").join(name)).unwrap(),
            fs::read(path("data").join(name)).unwrap()
        );
    }
    assert!(!path("downloads/paused").exists());
    // What was not wanted is not there.
    assert_eq!(tree(&path("downloads/tree")).len(), tree(&path("data/tree")).len() - 2);
    daemon.ctl(&["resume", "paused"]);
    daemon.wait(paused, |one| one["state"] == "seeding");
    daemon.stop();
}

#[test]
fn what_was_answered_is_kept_whenever_the_daemon_is_killed() {
    let dir = with(&["a", "b"]);
    for round in 0..5 {
        let daemon = Daemon::start(dir.path(), &[]);
        let id = daemon.ctl(&["add", "metas/a.meta", "--paused"])["id"].as_i64().unwrap();
        let category = format!("round {round}");
        let edit = json!({"category": category, "upload_limit": 1_000 + round});
        assert_eq!(daemon.request("PATCH", &format!("/api/v1/torrents/{id}"), Some(edit)).status, 204);
        let Daemon { process, .. } = daemon;
        process.kill();
        let daemon = Daemon::start(dir.path(), &[]);
        let torrent = daemon.torrent(id);
        assert_eq!(
            (&torrent["category"], &torrent["upload_limit"]),
            (&json!(category), &json!(1_000 + round))
        );
        daemon.ctl(&["remove", "a"]);
        let Daemon { process, .. } = daemon;
        process.kill();
        let daemon = Daemon::start(dir.path(), &[]);
        assert_eq!(daemon.ctl(&["list"]), json!([]), "and its number is not given again");
        let next = daemon.ctl(&["add", "metas/b.meta", "--paused"])["id"].as_i64().unwrap();
        assert!(next > id);
        daemon.ctl(&["remove", &next.to_string()]);
        daemon.stop();
    }
}

#[test]
fn torrents_that_would_write_the_same_path_are_refused_by_name() {
    let dir = with(&["a", "b"]);
    let path = |name: &str| dir.path().join(name);
    let daemon = Daemon::start(dir.path(), &[]);
    let first = daemon.ctl(&["add", "metas/a.meta", "--paused"])["id"].clone();
    let again = daemon.ctl_any(&["add", "metas/a.meta"]);
    assert!(again.stderr.contains(&format!("here already: a ({first})")), "{again:?}");
    run_ok(dir.path(), ["create", "data/b", "-o", "other.meta", "--name", "a", "-l", "32KiB"]);
    let taken = daemon.ctl_any(&["add", "other.meta"]);
    assert!(
        taken.code == Some(1) && taken.stderr.contains(&format!("a ({first}) writes there")),
        "{taken:?}"
    );
    daemon.ctl(&["add", "other.meta", "--dir", "elsewhere", "--paused"]);

    // Of a link that is found out when its metadata is here: it waits, and what is there stays as it is.
    run_ok(dir.path(), ["create", "data/b", "-o", "metas/third.meta", "--name", "b", "-l", "64KiB"]);
    fs::create_dir(path("third")).unwrap();
    fs::copy(path("metas/third.meta"), path("third/b.meta")).unwrap();
    let link = run_ok(dir.path(), ["magnet", "metas/third.meta"]).stdout;
    let args = ["seed", "metas/third.meta", "data", "--listen", "127.0.0.1:0", "--no-dht"];
    let mut seed = Running::start(dir.path(), args);
    let peer = seed.address();
    let owner = daemon.ctl(&["add", "metas/b.meta", "--paused"])["id"].clone();
    let late = daemon.ctl(&["add", link.trim(), "--peer", &peer])["id"].as_i64().unwrap();
    let waits = daemon.wait(late, |torrent| torrent["state"] == "failed");
    assert!(waits["error"].as_str().unwrap().contains(&format!("b ({owner}) writes there")), "{waits}");
    assert!(!path("downloads/b").exists());
    assert_eq!(daemon.ctl_any(&["resume", &late.to_string()]).code, Some(1));
    daemon.ctl(&["remove", &owner.to_string()]);
    daemon.ctl(&["resume", &late.to_string()]);
    daemon.wait(late, |torrent| torrent["state"] == "seeding");
    assert_eq!(fs::read(path("downloads/b")).unwrap(), fs::read(path("data/b")).unwrap());
}

#[test]
fn a_removal_deletes_what_it_is_told_to_also_of_what_has_not_run_since() {
    let dir = with(&["a", "tree"]);
    let path = |name: &str| dir.path().join(name);
    let (_seed, peer) = seed(dir.path(), &[]);
    let daemon = Daemon::start(dir.path(), &["--peer", &peer]);
    for name in ["a", "tree"] {
        let id = daemon.ctl(&["add", &format!("metas/{name}.meta")])["id"].as_i64().unwrap();
        daemon.wait(id, |torrent| torrent["state"] == "seeding");
    }
    write(path("downloads/tree/mine"), "not of the torrent");
    daemon.ctl(&["pause", "a", "tree"]);
    let Daemon { process, .. } = daemon;
    process.kill();
    let daemon = Daemon::start(dir.path(), &["--peer", &peer]);
    assert_eq!(daemon.torrent(1)["state"], "paused");
    daemon.ctl(&["remove", "a"]);
    assert!(path("downloads/a").exists());
    daemon.ctl(&["remove", "tree", "--delete-data"]);
    let left = tree(&path("downloads/tree"));
    assert_eq!(left.keys().collect::<Vec<_>>(), [Path::new("mine")]);
    assert_eq!(daemon.ctl(&["list"]), json!([]));
}

#[test]
fn totals_outlive_a_restart_and_a_seed_is_only_read() {
    let dir = with(&["a", "tree"]);
    let (_seed, peer) = seed(dir.path(), &[]);
    let daemon = Daemon::start(dir.path(), &["--peer", &peer, "--allow-dir", "data"]);
    let data = dir.path().join("data");
    daemon.ctl(&["add", "metas/a.meta"]);
    daemon.wait(1, |torrent| torrent["state"] == "seeding");
    let before = tree(&data);
    daemon.ctl(&["add", "metas/tree.meta", "--seed", "--dir", data.to_str().unwrap()]);
    let seeding = daemon.wait(2, |torrent| torrent["state"] == "seeding");
    assert_eq!((&seeding["bytes_verified"], &seeding["bytes_down"]), (&seeding["bytes_total"], &json!(0)));
    // A second torrent of the same files is no conflict as long as nobody writes.
    run_ok(dir.path(), ["create", "data/tree", "-o", "again.meta", "-l", "64KiB"]);
    daemon.ctl(&["add", "again.meta", "--seed", "--dir", data.to_str().unwrap()]);
    daemon.wait(3, |torrent| torrent["state"] == "seeding");
    let downloaded = daemon.torrent(1);
    assert_eq!(
        (&downloaded["bytes_down"], &downloaded["pieces_have"]),
        (&json!(600_000), &downloaded["pieces"])
    );
    daemon.stop();

    let daemon = Daemon::start(dir.path(), &["--allow-dir", "data"]);
    let again = daemon.wait(1, |torrent| torrent["state"] == "seeding");
    for field in ["bytes_down", "completed_at", "added_at", "bytes_verified", "pieces_have"] {
        assert_eq!(again[field], downloaded[field], "{field}");
    }
    daemon.wait(2, |torrent| torrent["state"] == "seeding");
    daemon.stop();
    assert_eq!(tree(&data), before);
}

#[test]
fn the_queue_gives_turns_in_its_order_and_goals_end_seeding() {
    let dir = with(&["a", "b", "c"]);
    let (_seed, peer) = seed(dir.path(), &["--max-up", "300k"]);
    let daemon =
        Daemon::start(dir.path(), &["--peer", &peer, "--max-active-downloads", "1", "--seed-ratio", "0"]);
    for name in ["a", "b", "c"] {
        daemon.ctl(&["add", &format!("metas/{name}.meta"), "--paused"]);
    }
    daemon.ctl(&["queue", "c", "--to", "top"]);
    daemon.ctl(&["resume", "a", "b", "c"]);
    let state = |id: i64| daemon.torrent(id)["state"].as_str().unwrap().to_owned();
    daemon.wait(3, |torrent| torrent["state"] == "downloading");
    assert_eq!((state(1), state(2)), ("queued".into(), "queued".into()));
    daemon.ctl(&["resume", "b", "--force"]);
    daemon.wait(2, |torrent| torrent["state"] != "queued");
    for id in 1..=3 {
        let stopped = daemon.wait(id, |torrent| torrent["stopped_by"] == "ratio");
        assert_eq!((&stopped["state"], &stopped["bytes_verified"]), (&json!("paused"), &json!(600_000)));
    }
    // Whoever resumes it means that it goes on.
    daemon.ctl(&["resume", "a"]);
    daemon.wait(1, |torrent| torrent["state"] == "seeding");
    daemon.ctl(&["recheck", "a"]);
    daemon.wait(1, |torrent| torrent["state"] == "seeding" && torrent["pieces_have"] == 37);
}

#[test]
fn a_database_that_is_newer_damaged_or_in_use_is_named_and_left_alone() {
    let dir = with(&["a"]);
    let daemon = Daemon::start(dir.path(), &[]);
    daemon.ctl(&["add", "metas/a.meta", "--paused"]);
    let (code, told) = refused(dir.path(), &["--socket", "other-socket"]);
    assert!(code == Some(1) && told.contains("daemon.db: another daemon uses it (process "), "{told}");
    daemon.ctl(&["list"]);
    daemon.stop();

    let database = state(dir.path()).join("daemon.db");
    let whole = fs::read(&database).unwrap();
    let mut newer = whole.clone();
    // The version is at byte 60 of the header.
    newer[60..64].copy_from_slice(&99_u32.to_be_bytes());
    let mut damaged = whole.clone();
    damaged[4_096..].fill(0x55);
    for (content, what) in [(&newer, "is of a newer version (99)"), (&damaged, "is damaged")] {
        fs::write(&database, content).unwrap();
        let (code, told) = refused(dir.path(), &[]);
        assert!(code == Some(1) && told.contains("daemon.db: ") && told.contains(what), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(fs::read(&database).unwrap() == *content, "it is left as it is");
    }
    fs::write(&database, whole).unwrap();
    let daemon = Daemon::start(dir.path(), &[]);
    assert_eq!(daemon.torrent(1)["name"], "a");
}

/// Limits how long the files of a process may become; `None` lifts the limit.
fn limit_files(pid: u32, len: Option<u64>) {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let pid = Pid::from_raw(pid as i32);
    prlimit(pid, Resource::Fsize, Rlimit { current: len, maximum: None }).unwrap();
}

#[test]
fn a_database_that_takes_nothing_refuses_changes_and_loses_none_that_was_answered() {
    let dir = with(&["a", "b"]);
    let daemon = Daemon::start(dir.path(), &[]);
    daemon.ctl(&["add", "metas/a.meta", "--paused", "--category", "before"]);
    limit_files(daemon.process.pid(), Some(100));
    let add = daemon.ctl_any(&["add", "metas/b.meta", "--paused"]);
    assert!(add.code == Some(1) && add.stderr.contains("daemon.db: "), "{add:?}");
    let edit = daemon.request("PATCH", "/api/v1/torrents/1", Some(json!({"category": "lost"})));
    assert!(matches!(edit.status, 500 | 507), "{edit:?}");
    assert_eq!(daemon.request("DELETE", "/api/v1/torrents/1", None).status, edit.status);
    assert_eq!(daemon.raw("GET", "/health", &["host: localhost"], b"").status, 503);
    // What was refused has not happened, here or on disk.
    let list = daemon.ctl(&["list"]);
    let names =
        |list: &Value| list.as_array().unwrap().iter().map(|one| one["name"].clone()).collect::<Vec<_>>();
    assert_eq!((names(&list), &list[0]["category"]), (vec!["a".into()], &json!("before")));
    let Daemon { process, .. } = daemon;
    process.kill();
    let daemon = Daemon::start(dir.path(), &[]);
    let list = daemon.ctl(&["list"]);
    assert_eq!((names(&list), &list[0]["category"]), (vec!["a".into()], &json!("before")));

    // It goes on as soon as the disk does.
    limit_files(daemon.process.pid(), Some(100));
    assert_eq!(daemon.ctl_any(&["add", "metas/b.meta", "--paused"]).code, Some(1));
    limit_files(daemon.process.pid(), None);
    daemon.ctl(&["add", "metas/b.meta", "--paused"]);
    assert_eq!(daemon.raw("GET", "/health", &["host: localhost"], b"").status, 200);
    assert_eq!(daemon.ctl(&["list"]).as_array().unwrap().len(), 2);
}

#[test]
fn ctl_prints_tables_and_says_how_to_start_a_daemon() {
    let dir = with(&["tree"]);
    let none = run(dir.path(), ["ctl", "list"]);
    assert_eq!(none.code, Some(1));
    assert!(none.stderr.contains("no daemon answers; start one with `swarm daemon`"), "{none:?}");
    let daemon = Daemon::start(dir.path(), &[]);
    let said = run_ok(dir.path(), ["ctl", "add", "metas/tree.meta", "--paused"]).stdout;
    assert_eq!(said, "added tree as 1\n");
    let list = run_ok(dir.path(), ["ctl", "list"]).stdout;
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 2, "{list}");
    assert!(
        lines[0].starts_with("ID  STATE") && lines[1].ends_with("tree") && lines[1].contains("paused"),
        "{list}"
    );
    let shown = run_ok(dir.path(), ["ctl", "show", "tree"]).stdout;
    assert!(shown.contains("state           paused"), "{shown}");
    assert!(run_ok(dir.path(), ["ctl", "files", "1"]).stdout.contains("tree/a/b/c/deep.bin"));
    run_ok(dir.path(), ["ctl", "trackers", "tree", "--add", "udp://tracker.example:80"]);
    assert!(run_ok(dir.path(), ["ctl", "trackers", "tree"]).stdout.contains("udp://tracker.example:80"));
    run_ok(dir.path(), ["ctl", "limit", "--down", "1MB/s"]);
    assert!(run_ok(dir.path(), ["ctl", "session"]).stdout.contains("limit 976.6 KiB/s"));
    let unknown = run(dir.path(), ["ctl", "show", "forest"]);
    assert_eq!(
        (unknown.code, &*unknown.stderr),
        (Some(2), "swarm: forest: there is no such torrent; see `swarm ctl list`\n")
    );
    daemon.stop();
    // What was set of the daemon as a whole is kept too.
    let daemon = Daemon::start(dir.path(), &["--max-down", "5MB/s"]);
    assert_eq!(daemon.get("/api/v1/session")["download_limit"], 1_000_000);
}

#[test]
fn the_configuration_file_has_the_names_of_the_options_and_is_read_again() {
    let dir = with(&["a", "b"]);
    let config = dir.path().join("swarm.toml");
    for (text, told) in [
        ("dir = \"x\"\nmax-up = \"10Mb\"\n", "swarm.toml: line 2: max-up: 10Mb has the ambiguous unit"),
        ("\nmax_up = 5\n", "swarm.toml: line 2: max_up: there is no such setting"),
        ("dir = \n", "swarm.toml: line 1: "),
    ] {
        fs::write(&config, text).unwrap();
        let (code, said) = refused(dir.path(), &["--config", "swarm.toml"]);
        assert!(code == Some(2) && said.contains(told), "{said}");
    }
    fs::write(&config, "max-active-downloads = 0\nmax-down = \"5MB/s\"\nno-pex = true\n").unwrap();
    let mut daemon = Daemon::start(dir.path(), &["--config", "swarm.toml"]);
    daemon.ctl(&["add", "metas/a.meta"]);
    assert_eq!(daemon.torrent(1)["state"], "queued");
    assert_eq!(daemon.get("/api/v1/session")["download_limit"], 5_000_000);
    fs::write(&config, "max-active-downloads = 2\nmax-down = \"6MB/s\"\n").unwrap();
    daemon.process.signal("HUP");
    let reloaded = daemon.process.wait_for("reloaded");
    assert_eq!(reloaded["taken"], json!(["max-active-downloads", "max-down"]));
    assert_eq!(reloaded["kept"], json!(["no-pex"]));
    daemon.wait(1, |torrent| torrent["state"] == "downloading");
    assert_eq!(daemon.get("/api/v1/session")["download_limit"], 6_000_000);
    // What is wrong is told, and all goes on as it was.
    fs::write(&config, "max-down = \"fast\"\n").unwrap();
    daemon.process.signal("HUP");
    fs::write(&config, "max-active-downloads = 3\nmax-down = \"6MB/s\"\n").unwrap();
    daemon.process.signal("HUP");
    daemon.process.wait_for("reloaded");
    daemon.stop();
}

//! What `swarm daemon` keeps for all torrents together, and what it does by itself: categories, settings, programs on completion, folders
//! that are looked at again, torrents of other programs.

mod common;

use common::daemon::{Daemon, refused};
use common::{Running, bytes, run_ok, write};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A folder with data of these names in `data`, and their metainfo files in `metas`.
fn with(names: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("metas")).unwrap();
    for (nth, name) in names.iter().enumerate() {
        write(dir.path().join("data").join(name), bytes(nth as u64, 300_000));
        let (data, output) = (format!("data/{name}"), format!("metas/{name}.meta"));
        run_ok(
            dir.path(),
            ["create", &data, "-o", &output, "-l", "16KiB", "-a", "http://127.0.0.1:9/announce"],
        );
    }
    dir
}

/// A seed of one of them, and its address.
fn seed(dir: &Path, name: &str) -> (Running, String) {
    let (meta, state) = (format!("metas/{name}.meta"), format!("seed-state-{name}"));
    let args =
        ["seed", &meta, "data", "--listen", "127.0.0.1:0", "--no-dht", "--no-tracker", "--state-dir", &state];
    let mut seed = Running::start(dir, args);
    let address = seed.address();
    seed.wait_for("checked");
    (seed, address)
}

#[test]
fn categories_tags_and_settings_come_back_after_a_kill() {
    let dir = with(&["a", "b"]);
    let mut daemon = Daemon::start(dir.path(), &["--max-up", "1MB/s", "--no-tracker"]);
    daemon.ctl(&["categories", "--create", "iso/x", "--dir", "isos", "--up", "100kB/s"]);
    daemon.ctl(&["categories", "--create", "other"]);
    daemon.ctl(&["categories", "--edit", "iso/x", "--down", "50kB/s"]);
    daemon.ctl(&["tags", "--create", "s", "--create", "t"]);
    daemon.ctl(&["tracker-limits", "127.0.0.1", "--up", "1MB/s"]);
    daemon.ctl(&["settings", "--down", "2MB/s", "--alternative-down", "1kB/s", "--seed-ratio", "3"]);
    daemon.ctl(&["settings", "--schedule", "mon-fri/08:00-20:00", "--alternative", "on"]);
    let added = daemon.ctl(&["add", "metas/a.meta", "--paused", "--category", "iso/x", "--tag", "new"]);
    daemon.ctl(&["add", "metas/b.meta", "--paused"]);
    daemon.process.signal("KILL");
    daemon.process.finish();

    let daemon = Daemon::start(dir.path(), &["--max-up", "1MB/s", "--no-tracker"]);
    let categories = daemon.ctl(&["categories"]);
    let isos = dir.path().canonicalize().unwrap().join("downloads/isos");
    assert_eq!(
        categories,
        json!([
            {"name": "iso/x", "dir": isos, "upload_limit": 100_000, "download_limit": 50_000, "torrents": 1},
            {"name": "other", "dir": null, "upload_limit": null, "download_limit": null, "torrents": 0},
        ])
    );
    let torrent = daemon.torrent(added["id"].as_i64().unwrap());
    assert_eq!(torrent["dir"], json!(isos), "its category's folder");
    assert_eq!(daemon.ctl(&["tags"]), json!(["new", "s", "t"]));
    let limits = json!({"127.0.0.1": {"upload_limit": 1_000_000, "download_limit": null}});
    assert_eq!(daemon.ctl(&["tracker-limits"]), limits);
    let session = daemon.ctl(&["settings"]);
    assert_eq!((&session["alternative"], &session["download_limit"]), (&json!(true), &json!(1_000)));
    assert_eq!(session["upload_limit"], json!(null), "the alternative one, which is none");
    let settings = &session["settings"];
    assert_eq!(
        (&settings["download_limit"], &settings["upload_limit"]),
        (&json!(2_000_000), &json!(1_000_000)),
        "one is set, one is the configuration's"
    );
    assert_eq!((&settings["ratio_limit"], &settings["schedule"]["days"]), (&json!(3.0), &json!(0b1_1111)));

    daemon.ctl(&["settings", "--schedule", "off", "--alternative", "off", "--down", "default"]);
    assert_eq!(daemon.ctl(&["settings"])["download_limit"], json!(null));
    daemon.ctl(&["categories", "--remove", "iso/x"]);
    daemon.ctl(&["tags", "--remove", "new"]);
    let torrent = daemon.torrent(added["id"].as_i64().unwrap());
    assert_eq!((&torrent["category"], &torrent["tags"]), (&json!(null), &json!([])));
}

/// Two torrents share a limit that lets next to nothing pass, until it is lifted.
#[test]
fn a_category_holds_its_torrents_back_together() {
    let dir = with(&["a", "b"]);
    let seeds = ["a", "b"].map(|name| seed(dir.path(), name));
    let daemon = Daemon::start(dir.path(), &["--no-tracker"]);
    daemon.ctl(&["categories", "--create", "slow", "--down", "1kB/s"]);
    for (name, (_, address)) in ["a", "b"].iter().zip(&seeds) {
        let meta = format!("metas/{name}.meta");
        daemon.ctl(&["add", &meta, "--category", "slow", "--peer", address]);
    }
    for id in [1, 2] {
        let held = daemon.wait(id, |one| one["state"] == "downloading" && one["peers"] == 1);
        assert!(held["bytes_down"].as_u64() < Some(100_000), "{held}");
    }
    // One leaves it, for the other it is lifted.
    let answer = daemon.request("PATCH", "/api/v1/torrents/1", Some(json!({"category": null})));
    assert_eq!(answer.status, 204, "{answer:?}");
    daemon.wait(1, |one| one["state"] == "seeding");
    assert_eq!(daemon.torrent(2)["state"], "downloading");
    daemon.ctl(&["categories", "--edit", "slow", "--down", "none"]);
    daemon.wait(2, |one| one["state"] == "seeding");
}

#[test]
fn what_the_configuration_decides_is_not_changed_over_the_api() {
    let dir = with(&[]);
    let daemon = Daemon::start(dir.path(), &[]);
    for body in [
        json!({"on_complete": ["/bin/sh", "-c", "id"]}),
        json!({"http": "0.0.0.0:80"}),
        json!({"dir": "/"}),
        json!({"allow_dir": ["/"]}),
        json!({"auth": false}),
        json!({"upload_limit": 0}),
        json!({"schedule": {"from": 9_999}}),
    ] {
        let answer = daemon.request("PATCH", "/api/v1/session", Some(body.clone()));
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
    }
    for folder in ["/etc", "../out", "downloads/../../out"] {
        let body = json!({"name": "c", "dir": folder});
        assert_eq!(daemon.request("POST", "/api/v1/categories", Some(body)).status, 403, "{folder}");
    }
    assert_eq!(daemon.ctl(&["categories"]), json!([]));
    let gone = daemon.request("DELETE", "/api/v1/categories/c", None);
    assert_eq!(gone.status, 404);
}

/// A script that leaves a line for each of its runs.
#[cfg(unix)]
fn script(dir: &Path, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.join("on-complete");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[cfg(unix)]
#[test]
fn a_program_is_run_once_on_completion_even_if_it_kills_the_daemon() {
    let dir = with(&["$(touch oops); x"]);
    let (_seed, address) = seed(dir.path(), "$(touch oops); x");
    let runs = dir.path().join("runs");
    let program = script(dir.path(), "printf '%s|%s\\n' \"$1\" \"$2\" >> \"$3\"; kill -9 $PPID");
    let config = format!(
        "on-complete = ['{program}', '{{name}}', '{{path}}', '{}']\ndir = 'downloads'\n",
        runs.display()
    );
    fs::write(dir.path().join("config.toml"), config).unwrap();
    let options = ["--config", "config.toml", "--no-tracker"];
    let mut daemon = Daemon::start(dir.path(), &options);
    daemon.ctl(&["add", "metas/$(touch oops); x.meta", "--peer", &address]);
    while daemon.process.next().is_some() {}
    let expected = format!(
        "$(touch oops); x|{}/downloads/$(touch oops); x\n",
        dir.path().canonicalize().unwrap().display()
    );
    assert_eq!(fs::read_to_string(&runs).unwrap(), expected);

    let daemon = Daemon::start(dir.path(), &options);
    daemon.wait(1, |torrent| torrent["state"] == "seeding");
    // Two looks at all torrents later it would have been.
    let before = daemon.get("/api/v1/torrents/1");
    daemon.ctl(&["recheck", "1"]);
    daemon.wait(1, |torrent| torrent["state"] == "seeding");
    assert_eq!(before["completed_at"], daemon.torrent(1)["completed_at"]);
    daemon.stop();
    assert_eq!(fs::read_to_string(&runs).unwrap(), expected);
    assert!(!dir.path().join("oops").exists() && !dir.path().join("downloads/oops").exists());
}

#[test]
fn a_program_that_cannot_be_run_is_told_at_the_start() {
    let dir = with(&[]);
    for (value, what) in
        [("['sh', '-c', 'x']", "absolute"), ("['/bin/x', '{nmae}']", "{nmae}"), ("['/bin/{name}']", "braces")]
    {
        fs::write(dir.path().join("config.toml"), format!("\non-complete = {value}\n")).unwrap();
        let (code, stderr) = refused(dir.path(), &["--config", "config.toml"]);
        assert!(code == Some(2) && stderr.contains(what) && stderr.contains("line 2"), "{value}: {stderr}");
    }
}

/// The attack: whoever may write to a folder puts a link in place of one that was given.
#[cfg(unix)]
#[test]
fn a_folder_that_was_swapped_for_a_link_is_neither_written_to_nor_deleted_from() {
    use std::os::unix::fs::symlink;
    let dir = with(&["a", "b"]);
    let at = |name: &str| dir.path().join(name);
    let (_seed, address) = seed(dir.path(), "a");
    let mut daemon = Daemon::start(dir.path(), &["--no-tracker"]);
    fs::create_dir_all(at("downloads/sub")).unwrap();
    fs::create_dir(at("private")).unwrap();
    daemon.ctl(&["add", "metas/a.meta", "--dir", "sub", "--paused", "--peer", &address]);
    fs::rename(at("downloads/sub"), at("downloads/was-sub")).unwrap();
    symlink(at("private"), at("downloads/sub")).unwrap();
    daemon.ctl(&["resume", "1"]);
    let failed = daemon.wait(1, |torrent| torrent["state"] == "failed");
    assert!(failed["error"].as_str().unwrap().contains("is not the folder that it was"), "{failed}");
    assert_eq!(fs::read_dir(at("private")).unwrap().count(), 0);

    // As it was before, it goes on.
    fs::remove_file(at("downloads/sub")).unwrap();
    fs::rename(at("downloads/was-sub"), at("downloads/sub")).unwrap();
    daemon.ctl(&["resume", "1"]);
    daemon.wait(1, |torrent| torrent["state"] == "seeding");

    // What lies elsewhere under the same name is not deleted, whether the torrent runs or not.
    fs::rename(at("downloads/sub"), at("downloads/was-sub")).unwrap();
    fs::copy(at("data/a"), at("private/a")).unwrap();
    symlink(at("private"), at("downloads/sub")).unwrap();
    let refused = daemon.ctl_any(&["remove", "1", "--delete-data"]);
    assert!(refused.code != Some(0) && refused.stderr.contains("is not the folder"), "{refused:?}");
    assert!(at("private/a").exists());
    daemon.process.signal("KILL");
    daemon.process.finish();
    let daemon = Daemon::start(dir.path(), &["--no-tracker"]);
    let refused = daemon.ctl_any(&["remove", "1", "--delete-data"]);
    assert!(refused.code != Some(0) && at("private/a").exists(), "{refused:?}");
    daemon.ctl(&["remove", "1"]);
}

/// A `.fastresume` file of a torrent that is complete, or that lacks a piece.
fn fastresume(folder: &Path, is_complete: bool) -> Vec<u8> {
    let text = |text: &str| format!("{}:{text}", text.len());
    let folder = text(folder.to_str().unwrap());
    let (time, last) = if is_complete { ("i2000e", "\u{1}") } else { ("i0e", "\u{0}") };
    let fields = [
        ("added_time", "i1000e".to_owned()),
        ("auto_managed", "i1e".to_owned()),
        ("completed_time", time.to_owned()),
        ("paused", "i0e".to_owned()),
        ("pieces", text(&("\u{1}".repeat(18) + last))),
        ("qBt-category", text("iso")),
        ("qBt-tags", format!("l{}e", text("t"))),
        ("save_path", folder),
        ("total_uploaded", "i600000e".to_owned()),
    ];
    let fields = fields.map(|(key, value)| text(key) + &value).concat();
    format!("d{fields}e").into_bytes()
}

#[test]
fn torrents_of_another_program_are_taken_over_once_and_go_on_where_they_were() {
    let dir = with(&["whole", "damaged", "short", "rotten", "elsewhere"]);
    let at = |name: &str| dir.path().join(name);
    let backup = at("theirs/BT_backup");
    fs::create_dir_all(&backup).unwrap();
    fs::create_dir_all(at("their-data")).unwrap();
    for (name, folder, is_complete) in [
        ("whole", "their-data", true),
        ("damaged", "their-data", false),
        ("short", "their-data", false),
        ("rotten", "their-data", true),
        ("elsewhere", "private", true),
    ] {
        fs::copy(at("metas").join(format!("{name}.meta")), backup.join(format!("{name}.torrent"))).unwrap();
        let resume = fastresume(&at(folder), is_complete);
        fs::write(backup.join(format!("{name}.fastresume")), resume).unwrap();
        let mut bytes = fs::read(at("data").join(name)).unwrap();
        match name {
            "damaged" | "rotten" => bytes[100_000] ^= 1,
            "short" => bytes.truncate(200_000),
            _ => {}
        }
        write(at(folder).join(name), bytes);
    }
    let rotten = fs::read(at("their-data/rotten")).unwrap();
    let options = ["--allow-dir", "their-data", "--import-qbittorrent", "theirs", "--no-tracker"];
    let mut daemon = Daemon::start(dir.path(), &options);
    let imported = daemon.process.wait_for("imported");
    let counts = |event: &Value| ["added", "known", "skipped"].map(|name| event[name].clone());
    assert_eq!(counts(&imported), [json!(4), json!(0), json!(1)], "{imported}");
    let find = |daemon: &Daemon, name: &str| {
        let all = daemon.get("/api/v1/torrents");
        let all = all["torrents"].as_array().unwrap().iter();
        all.filter(|one| one["name"] == name).find_map(|one| one["id"].as_i64()).unwrap()
    };
    let whole = daemon.wait(find(&daemon, "whole"), |torrent| torrent["state"] == "seeding");
    assert_eq!((&whole["category"], &whole["tags"]), (&json!("iso"), &json!(["t"])));
    assert_eq!((&whole["added_at"], &whole["completed_at"]), (&json!(1_000), &json!(2_000)));
    assert_eq!((&whole["bytes_up"], &whole["ratio"]), (&json!(600_000), &json!(2.0)));
    // What was unfinished there goes on here, with what is right of it.
    for (name, is_right) in [("damaged", 18), ("short", 12)] {
        let unfinished = daemon.wait(find(&daemon, name), |torrent| torrent["state"] == "downloading");
        assert_eq!(unfinished["pieces_have"], is_right, "{unfinished}");
    }
    // What was complete there may be anybody's by now.
    let failed = daemon.wait(find(&daemon, "rotten"), |torrent| torrent["state"] == "failed");
    assert!(failed["error"].as_str().unwrap().contains("rotten"), "{failed}");
    daemon.stop();

    let mut daemon = Daemon::start(dir.path(), &options);
    assert_eq!(counts(&daemon.process.wait_for("imported")), [json!(0), json!(4), json!(1)]);
    daemon.wait(find(&daemon, "rotten"), |torrent| torrent["state"] == "failed");
    assert!(fs::read(at("their-data/rotten")).unwrap() == rotten, "it is only read");
    daemon.ctl(&["remove", "rotten"]);
    let their_data = at("their-data").display().to_string();
    daemon.ctl(&["add", "metas/rotten.meta", "--overwrite", "--dir", &their_data]);
    for name in ["damaged", "short", "rotten"] {
        let (_seed, address) = seed(dir.path(), name);
        daemon.ctl(&["peers", name, "--add", &address]);
        daemon.wait(find(&daemon, name), |torrent| torrent["state"] == "seeding");
        assert!(fs::read(at("their-data").join(name)).unwrap() == fs::read(at("data").join(name)).unwrap());
    }
}

/// Changes a byte and nothing that shows it.
fn rot(path: &Path) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    bytes[100_000] ^= 1;
    fs::write(path, bytes).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn seeds_of_a_folder_are_adopted_in_one_go_and_nothing_is_hashed_again() {
    let dir = with(&["a", "b"]);
    let local = ["--listen", "127.0.0.1:0", "--no-dht", "--no-tracker"];
    let mut seed = Running::start(dir.path(), [&["seed", "--dir", "data", "metas"][..], &local[..]].concat());
    while seed.seen("checked").len() < 2 {
        seed.wait_for("checked");
    }
    seed.signal("TERM");
    assert_eq!(seed.finish().0, Some(0));
    // Who hashes it finds out.
    rot(&dir.path().join("data/a"));
    let daemon = Daemon::start(dir.path(), &["--allow-dir", "data", "--no-tracker"]);
    let data = dir.path().join("data").display().to_string();
    daemon.ctl_any(&["add", "metas", "--seed", "--dir", &data]);
    for id in [1, 2] {
        let seeding = daemon.wait(id, |torrent| torrent["state"] == "seeding");
        assert_eq!(seeding["pieces_have"], seeding["pieces"], "{seeding}");
    }
    daemon.ctl(&["recheck", "1"]);
    daemon.wait(1, |torrent| torrent["pieces_have"].as_u64() < torrent["pieces"].as_u64());
    let refused = daemon.ctl_any(&["add", "metas", "--files", "0"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("--files"), "{refused:?}");
}

#[test]
fn a_limit_by_tracker_holds_back_the_torrents_of_that_tracker() {
    let dir = with(&["a", "b"]);
    let other =
        ["create", "data/b", "-o", "metas/b.meta", "-l", "16KiB", "-a", "http://127.0.0.2:9/announce"];
    fs::remove_file(dir.path().join("metas/b.meta")).unwrap();
    run_ok(dir.path(), other);
    let [(_a, a), (_b, b)] = ["a", "b"].map(|name| seed(dir.path(), name));
    let daemon = Daemon::start(dir.path(), &["--no-tracker"]);
    daemon.ctl(&["tracker-limits", "127.0.0.1", "--down", "1kB/s"]);
    daemon.ctl(&["add", "metas/a.meta", "--peer", &a]);
    daemon.wait(1, |one| one["state"] == "downloading" && one["peers"] == 1);
    // One of another tracker, that comes later, is complete before it.
    daemon.ctl(&["add", "metas/b.meta", "--peer", &b]);
    daemon.wait(2, |one| one["state"] == "seeding");
    let held = daemon.torrent(1);
    assert_eq!(held["state"], "downloading");
    assert!(held["bytes_down"].as_u64() < Some(100_000), "{held}");
    daemon.ctl(&["tracker-limits", "127.0.0.1", "--down", "none"]);
    daemon.wait(1, |one| one["state"] == "seeding");
}

#[test]
fn a_limit_by_tracker_keeps_what_is_not_said_however_its_host_is_written() {
    let dir = with(&[]);
    let daemon = Daemon::start(dir.path(), &[]);
    daemon.ctl(&["tracker-limits", "tracker.example.org", "--down", "5kB/s"]);
    daemon.ctl(&["tracker-limits", "Tracker.Example.org", "--up", "1kB/s"]);
    let limits = json!({"tracker.example.org": {"upload_limit": 1_000, "download_limit": 5_000}});
    assert_eq!(daemon.ctl(&["tracker-limits"]), limits);
}

#[test]
fn who_was_first_at_a_path_keeps_it_over_a_restart() {
    let dir = with(&["one"]);
    let at = |name: &str| dir.path().join(name);
    write(at("other/one"), bytes(7, 300_000));
    run_ok(dir.path(), ["create", "other/one", "-o", "metas/other.meta", "-l", "16KiB"]);
    let (_seed, address) = seed(dir.path(), "one");
    let daemon = Daemon::start(dir.path(), &["--no-tracker"]);
    let link = run_ok(dir.path(), ["magnet", "metas/one.meta"]).stdout;
    let late = daemon.ctl(&["add", link.trim()])["id"].as_i64().unwrap();
    let owner = daemon.ctl(&["add", "metas/other.meta"])["id"].as_i64().unwrap();
    assert!(late < owner);
    daemon.ctl(&["peers", &late.to_string(), "--add", &address]);
    let expect = |daemon: &Daemon| {
        let waits = daemon.wait(late, |torrent| torrent["state"] == "failed");
        assert!(waits["error"].as_str().unwrap().contains("writes there"), "{waits}");
        daemon.wait(owner, |torrent| torrent["state"] == "downloading");
    };
    expect(&daemon);
    daemon.stop();
    expect(&Daemon::start(dir.path(), &["--no-tracker"]));
}

const PIECE: usize = 16 << 10;

#[test]
fn what_does_not_run_is_checked_where_it_is_and_stays_paused() {
    let dir = with(&["film"]);
    let at = |path: &str| dir.path().join(path);
    let piece = |torrent: &Value| (torrent["pieces_have"].as_u64(), torrent["state"].clone());
    let paused = |torrent: &Value| torrent["state"] == "paused" && torrent["pieces_have"] != 0;
    fs::create_dir_all(at("downloads")).unwrap();
    fs::copy(at("data/film"), at("downloads/film")).unwrap();
    let daemon = Daemon::start(dir.path(), &["--no-tracker"]);
    // It has never run.
    let id = daemon.ctl(&["add", "metas/film.meta", "--paused"])["id"].as_i64().unwrap();
    assert_eq!(piece(&daemon.torrent(id)), (Some(0), json!("paused")));
    daemon.ctl(&["recheck", "film"]);
    let checked = daemon.wait(id, paused);
    assert_eq!((piece(&checked).0, &checked["bytes_verified"]), (Some(19), &checked["bytes_total"]));
    assert!(checked["completed_at"].is_number() && checked["error"].is_null(), "{checked}");
    // It has run.
    daemon.ctl(&["resume", "film"]);
    daemon.wait(id, |torrent| torrent["state"] == "seeding");
    daemon.ctl(&["pause", "film"]);
    daemon.wait(id, |torrent| torrent["state"] == "paused");
    let mut damaged = fs::read(at("data/film")).unwrap();
    damaged.truncate(10 * PIECE);
    fs::write(at("downloads/film"), &damaged).unwrap();
    daemon.ctl(&["recheck", "film"]);
    let failed = daemon.wait(id, |torrent| torrent["state"] == "paused" && torrent["error"].is_string());
    assert!(failed["error"].as_str().unwrap().contains("film"), "{failed}");
    daemon.ctl(&["remove", "film"]);
    let add = ["add", "metas/film.meta", "--paused", "--overwrite"];
    let id = daemon.ctl(&add)["id"].as_i64().unwrap();
    daemon.ctl(&["recheck", "film"]);
    assert_eq!(piece(&daemon.wait(id, paused)).0, Some(10));
    daemon.stop();
    // What was found is kept, and goes on from there.
    let (_seed, peer) = seed(dir.path(), "film");
    let daemon = Daemon::start(dir.path(), &["--no-tracker"]);
    assert_eq!(piece(&daemon.torrent(id)), (Some(10), json!("paused")));
    daemon.ctl(&["peers", "film", "--add", &peer]);
    daemon.ctl(&["resume", "film"]);
    daemon.wait(id, |torrent| torrent["state"] == "seeding");
    assert_eq!(daemon.torrent(id)["bytes_down"], 300_000 - 10 * PIECE);
    assert!(fs::read(at("downloads/film")).unwrap() == fs::read(at("data/film")).unwrap());
}

#[test]
fn a_torrent_that_is_being_checked_can_be_removed_resumed_and_killed() {
    let dir = with(&[]);
    write(dir.path().join("data/big"), bytes(7, 64 << 20));
    run_ok(dir.path(), ["create", "data/big", "-o", "metas/big.meta", "-l", "64KiB"]);
    let options = ["--allow-dir", "data", "--no-tracker"];
    let data = dir.path().join("data").display().to_string();
    let add = ["add", "metas/big.meta", "--paused", "--dir", &data];
    let check = |daemon: &Daemon| {
        let id = daemon.ctl(&add)["id"].as_i64().unwrap();
        daemon.ctl(&["recheck", "big"]);
        id
    };
    let daemon = Daemon::start(dir.path(), &options);
    check(&daemon);
    daemon.ctl(&["remove", "big"]);
    assert_eq!(daemon.ctl(&["list"]), json!([]));
    let id = check(&daemon);
    daemon.ctl(&["resume", "big"]);
    daemon.wait(id, |torrent| torrent["state"] == "seeding");
    daemon.ctl(&["remove", "big"]);
    let id = check(&daemon);
    daemon.process.kill();
    let daemon = Daemon::start(dir.path(), &options);
    let all = |torrent: &Value| torrent["state"] == "paused" && torrent["pieces_have"] == torrent["pieces"];
    daemon.wait(id, all);
}

#[test]
fn who_runs_without_a_turn_takes_turns_again_when_told() {
    let dir = with(&["tree", "film"]);
    let daemon = Daemon::start(dir.path(), &["--no-tracker", "--max-active-downloads", "1"]);
    for (name, state) in [("tree", "downloading"), ("film", "queued")] {
        let id = daemon.ctl(&["add", &format!("metas/{name}.meta")])["id"].as_i64().unwrap();
        daemon.wait(id, |torrent| torrent["state"] == state);
    }
    daemon.ctl(&["queue", "film", "--force", "on"]);
    daemon.wait(2, |torrent| torrent["state"] == "downloading");
    daemon.ctl(&["queue", "film", "--force", "off"]);
    daemon.wait(2, |torrent| torrent["state"] == "queued");
    assert_eq!(daemon.ctl_any(&["queue", "film"]).code, Some(2));
}

/// What is larger than this file system is refused, unless only what fits is wanted.
#[cfg(target_os = "linux")]
#[test]
fn what_can_never_fit_counts_as_far_as_it_is_wanted() {
    let shm = Path::new("/dev/shm");
    let Ok(small) = tempfile::tempdir_in(shm) else {
        return eprintln!("skipped: this machine has no file system in memory");
    };
    let dir = with(&[]);
    let (piece_len, pieces) = (256_u64 << 20, 1 << 16);
    let file = |name: &str, len: u64| format!("d6:lengthi{len}e4:pathl{}:{name}ee", name.len());
    let files = file("huge", piece_len * (pieces - 1)) + &file("small", 1_000);
    let hashes = "a".repeat(20 * pieces as usize);
    let text = format!(
        "d4:infod5:filesl{files}e4:name1:t12:piece lengthi{piece_len}e6:pieces{}:{hashes}ee",
        hashes.len()
    );
    fs::write(dir.path().join("huge.meta"), text).unwrap();
    let folder = small.path().display().to_string();
    let daemon = Daemon::start(dir.path(), &["--allow-dir", &folder, "--no-tracker"]);
    let refused = daemon.ctl_any(&["add", "huge.meta", "--dir", &folder]);
    assert!(refused.code == Some(1) && refused.stderr.contains("cannot hold"), "{refused:?}");
    let added = daemon.ctl(&["add", "huge.meta", "--dir", &folder, "--files", "1", "--first-last"]);
    let id = added["id"].as_i64().unwrap();
    let small = daemon.wait(id, |torrent| torrent["state"] == "downloading");
    assert_eq!((&small["bytes_total"], &small["first_last"]), (&json!(1_000), &json!(true)));
    // More is wanted of it later, as of a link it may be from the start.
    daemon.ctl(&["pause", "t"]);
    daemon.ctl(&["files", "t", "--want", "0"]);
    daemon.ctl(&["resume", "t"]);
    let failed = daemon.wait(id, |torrent| torrent["state"] == "failed");
    assert!(failed["error"].as_str().unwrap().contains("cannot hold"), "{failed}");
    daemon.ctl(&["files", "t", "--skip", "0"]);
    daemon.ctl(&["resume", "t"]);
    daemon.wait(id, |torrent| torrent["state"] == "downloading");
}

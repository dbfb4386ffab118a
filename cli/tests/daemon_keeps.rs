//! What `swarm daemon` keeps for all torrents together, and what it does by itself: categories, settings, programs on completion, folders
//! that are looked at again, torrents of other programs.

mod common;

use common::daemon::{Daemon, refused};
use common::{Running, bytes, run_ok, write};
use serde_json::json;
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

/// A `.fastresume` file of a torrent that is complete.
fn fastresume(folder: &Path) -> Vec<u8> {
    let text = |text: &str| format!("{}:{text}", text.len());
    let folder = text(folder.to_str().unwrap());
    let fields = [
        ("added_time", "i1000e".to_owned()),
        ("auto_managed", "i1e".to_owned()),
        ("completed_time", "i2000e".to_owned()),
        ("paused", "i0e".to_owned()),
        ("qBt-category", text("iso")),
        ("qBt-tags", format!("l{}e", text("t"))),
        ("save_path", folder),
        ("total_uploaded", "i600000e".to_owned()),
    ];
    let fields = fields.map(|(key, value)| text(key) + &value).concat();
    format!("d{fields}e").into_bytes()
}

#[test]
fn torrents_of_another_program_are_taken_over_once_and_their_data_is_checked() {
    let dir = with(&["whole", "damaged", "elsewhere"]);
    let at = |name: &str| dir.path().join(name);
    let backup = at("theirs/BT_backup");
    fs::create_dir_all(&backup).unwrap();
    fs::create_dir_all(at("their-data")).unwrap();
    for (name, folder) in [("whole", "their-data"), ("damaged", "their-data"), ("elsewhere", "private")] {
        fs::copy(at("metas").join(format!("{name}.meta")), backup.join(format!("{name}.torrent"))).unwrap();
        fs::write(backup.join(format!("{name}.fastresume")), fastresume(&at(folder))).unwrap();
    }
    fs::copy(at("data/whole"), at("their-data/whole")).unwrap();
    let mut damaged = fs::read(at("data/damaged")).unwrap();
    damaged[100_000] ^= 1;
    fs::write(at("their-data/damaged"), &damaged).unwrap();
    let options = ["--allow-dir", "their-data", "--import-qbittorrent", "theirs", "--no-tracker"];
    let mut daemon = Daemon::start(dir.path(), &options);
    let imported = daemon.process.wait_for("imported");
    let counts = |event: &serde_json::Value| ["added", "known", "skipped"].map(|name| event[name].clone());
    assert_eq!(counts(&imported), [json!(2), json!(0), json!(1)], "{imported}");
    let find = |name: &str| {
        let all = daemon.get("/api/v1/torrents");
        let all = all["torrents"].as_array().unwrap().iter();
        all.filter(|one| one["name"] == name).find_map(|one| one["id"].as_i64()).unwrap()
    };
    let whole = daemon.wait(find("whole"), |torrent| torrent["state"] == "seeding");
    assert_eq!((&whole["category"], &whole["tags"]), (&json!("iso"), &json!(["t"])));
    assert_eq!((&whole["added_at"], &whole["completed_at"]), (&json!(1_000), &json!(2_000)));
    assert_eq!((&whole["bytes_up"], &whole["ratio"]), (&json!(600_000), &json!(2.0)));
    let damaged = daemon
        .wait(find("damaged"), |torrent| torrent["state"] != "checking" && torrent["state"] != "queued");
    assert!(damaged["pieces_have"].as_u64() < damaged["pieces"].as_u64(), "it was checked: {damaged}");
    daemon.stop();
    let mut daemon = Daemon::start(dir.path(), &options);
    assert_eq!(counts(&daemon.process.wait_for("imported")), [json!(0), json!(2), json!(1)]);
}

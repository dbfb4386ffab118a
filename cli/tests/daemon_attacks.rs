//! What a client of any of the daemon's APIs must not be able to do: reach this machine's services and files through it, name programs,
//! sockets and who gets in, or keep it busy for ever.

mod common;

use common::Running;
use common::client::{Client, metainfo, service, with_tree};
use common::daemon::Daemon;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::SeqCst;

#[test]
fn urls_reach_this_machine_only_if_the_configuration_says_so() {
    let dir = with_tree();
    fs::create_dir(dir.path().join("watched")).unwrap();
    fs::write(dir.path().join("swarm.toml"), "watch-dir = \"watched\"\n").unwrap();
    let (address, asked) = service(metainfo(dir.path()));
    let daemon = Daemon::start(dir.path(), &["--config", "swarm.toml"]);
    let client = Client(&daemon);
    let port = address.rsplit_once(':').unwrap().1;
    for host in ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"] {
        // Not even what looks like a tracker's path.
        let url = format!("http://{host}:{port}/announce/x.torrent?delete=all");
        let own = client.own("POST", "torrents", json!({"source": url}));
        assert_eq!((own.status, &own.json()["error"]["kind"]), (403, &json!("private_url")), "{own:?}");
        let other = client.qbittorrent("torrents/add", &[("urls", &url)]);
        assert_eq!(other.status, 409, "{other:?}");
        let said = client.transmission("torrent_add", json!({"filename": url})).unwrap();
        let page = client.page_add(&[("links", &url)]);
        for text in [&own.body, &other.body, &said, &page.body] {
            assert!(text.contains("allow-private-urls"), "{url}: {text}");
        }
    }
    fs::write(dir.path().join("watched/x.magnet"), format!("http://{address}/x.torrent")).unwrap();
    let is_refused = || dir.path().join("watched/x.magnet.failed").exists().then_some(());
    daemon.wait_for(is_refused, || daemon.get("/api/v1/torrents"));
    assert_eq!(asked.load(SeqCst), 0, "it was asked");
    assert_eq!(daemon.get("/api/v1/torrents")["torrents"], json!([]));
    // For an indexer on the same host.
    fs::write(dir.path().join("swarm.toml"), "watch-dir = \"watched\"\nallow-private-urls = true\n").unwrap();
    let mut daemon = daemon;
    daemon.process.signal("HUP");
    assert_eq!(daemon.process.wait_for("reloaded")["taken"], json!(["allow-private-urls"]));
    let added = Client(&daemon).own(
        "POST",
        "torrents",
        json!({"source": format!("http://{address}/x"), "paused": true}),
    );
    assert_eq!((added.status, asked.load(SeqCst)), (201, 1), "{added:?}");
}

#[test]
fn no_api_names_programs_sockets_folders_or_who_gets_in() {
    let dir = with_tree();
    let marker = dir.path().join("marker");
    let (marker_text, script) = (marker.to_str().unwrap(), format!("/bin/touch {}", marker.display()));
    let args =
        ["seed", "metas/tree.meta", "data", "--listen", "127.0.0.1:0", "--no-dht", "--state-dir", "seed"];
    let mut seed = Running::start(dir.path(), args);
    let peer = seed.address();
    let daemon = Daemon::start(dir.path(), &["--peer", &peer]);
    let client = Client(&daemon);
    let before = daemon.get("/api/v1/session");
    for (name, value) in [
        ("on_complete", json!(["/bin/touch", marker_text])),
        ("on-complete", json!(["/bin/touch", marker_text])),
        ("dir", json!("/etc")),
        ("allow_dirs", json!(["/"])),
        ("watch_dir", json!("/etc")),
        ("http", json!(["0.0.0.0:1"])),
        ("hosts", json!(["evil.example"])),
        ("proxies", json!(["0.0.0.0/0"])),
        ("auth", json!(false)),
        ("user", json!("evil")),
        ("allow_private_urls", json!(true)),
    ] {
        let body: Value = [(name.to_owned(), value)].into_iter().collect::<serde_json::Map<_, _>>().into();
        for (method, path) in [("PATCH", "session"), ("POST", "categories"), ("POST", "torrents")] {
            let mut body = body.clone();
            if path != "session" {
                body["name"] = json!("x");
                body["source"] = json!("ab".repeat(20));
            }
            let answer = client.own(method, path, body);
            let is_folder = name == "dir" && answer.status == 403;
            assert!(answer.status == 400 || is_folder, "{method} {path} {name}: {answer:?}");
        }
    }
    for (key, value) in [
        ("script_torrent_added_enabled", json!(true)),
        ("script_torrent_added_filename", json!(script)),
        ("script_torrent_done_enabled", json!(true)),
        ("script_torrent_done_filename", json!(script)),
        ("script_torrent_done_seeding_enabled", json!(true)),
        ("script_torrent_done_seeding_filename", json!(script)),
        ("download_dir", json!("/etc")),
        ("incomplete_dir", json!("/etc")),
        ("incomplete_dir_enabled", json!(true)),
        ("peer_port", json!(1)),
        ("default_trackers", json!("http://127.0.0.1:1/")),
        ("blocklist_url", json!("http://127.0.0.1:1/")),
    ] {
        let said = client.transmission("session_set", json!({key: value}));
        assert!(said.is_some_and(|said| said.contains(key)), "{key}");
    }
    // Names that the program itself takes from nobody.
    for key in [
        "config_dir",
        "rpc_username",
        "rpc_password",
        "rpc_whitelist_enabled",
        "rpc_host_whitelist",
        "watch_dir",
    ] {
        client.transmission("session_set", json!({key: "/etc"}));
    }
    let preferences = json!({
        "autorun_enabled": true,
        "autorun_program": script,
        "autorun_on_torrent_added_enabled": true,
        "autorun_on_torrent_added_program": script,
        "save_path": "/etc",
        "temp_path": "/etc",
        "scan_dirs": {"/etc": 1},
        "web_ui_address": "*",
        "web_ui_port": 1,
        "web_ui_username": "evil",
        "web_ui_password": "evil evil evil",
        "web_ui_domain_list": "*",
        "web_ui_reverse_proxies_list": "0.0.0.0/0",
        "bypass_local_auth": true,
        "bypass_auth_subnet_whitelist": "0.0.0.0/0",
        "bypass_auth_subnet_whitelist_enabled": true,
    });
    let set = client.qbittorrent("app/setPreferences", &[("json", &preferences.to_string())]);
    assert_eq!(set.status, 200, "{set:?}");
    let options = [("autorun_program", script.as_str()), ("on_complete", script.as_str())];
    let added = client.qbittorrent("torrents/add", &[&[("urls", &*"ab".repeat(20))], &options[..]].concat());
    assert_eq!((added.status, &*added.body), (200, "Ok."));
    // All of it comes, and nothing is run then.
    let added = client.ask(
        "POST",
        "/api/v1/torrents",
        &["content-type: application/x-bittorrent"],
        &metainfo(dir.path()),
    );
    let id = added.json()["id"].as_i64().unwrap();
    daemon.wait(id, |torrent| torrent["state"] == "seeding" && torrent["completed_at"].is_number());
    assert!(!marker.exists(), "a program was run");
    let after = daemon.get("/api/v1/session");
    for field in ["dir", "settings"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert_eq!(daemon.raw("GET", "/api/v1/session", &["host: localhost"], b"").status, 401);
    assert_eq!(client.ask("GET", "/api/v1/session", &["origin: http://evil.example"], b"").status, 403);
    daemon.stop();
}

/// Folders that may not be used, in all sorts of spelling.
fn folders_outside(dir: &Path) -> Vec<String> {
    let home = dir.join("downloads");
    let at = |path: &str| home.join(path).to_str().unwrap().to_owned();
    vec![
        dir.join("private").to_str().unwrap().to_owned(),
        "/".into(),
        "/etc/new".into(),
        "//etc".into(),
        "/proc/self/root/etc".into(),
        "/proc/self/cwd".into(),
        format!("{}-not", home.display()),
        at("../private"),
        at("x/../../private"),
        at(".."),
        at("link"),
        at("link/new"),
        at("dangling"),
        at("nul\0"),
        format!("{}\0/etc", home.display()),
        "../private".into(),
        "link".into(),
    ]
}

/// All that is below a folder.
fn all_below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let mut all: Vec<PathBuf> = entries
        .flat_map(|entry| {
            let below =
                if entry.file_type().unwrap().is_dir() { all_below(&entry.path()) } else { Vec::new() };
            std::iter::once(entry.path()).chain(below)
        })
        .collect();
    all.sort();
    all
}

#[test]
fn paths_stay_in_the_folders_that_may_be_used_whatever_says_them() {
    let dir = with_tree();
    for name in ["private", "downloads"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    fs::write(dir.path().join("private/x.torrent"), metainfo(dir.path())).unwrap();
    std::os::unix::fs::symlink(dir.path().join("private"), dir.path().join("downloads/link")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("nowhere"), dir.path().join("downloads/dangling")).unwrap();
    let daemon = Daemon::start(dir.path(), &[]);
    let client = Client(&daemon);
    client.add_paused(dir.path());
    let torrent = daemon.torrent(1);
    let hash = torrent["info_hash"].as_str().unwrap();
    assert_eq!(client.own("POST", "categories", json!({"name": "c"})).status, 201);
    let link = "cd".repeat(20);
    let before = all_below(&dir.path().join("private"));
    for path in folders_outside(dir.path()) {
        for (method, where_to, body) in [
            ("POST", "torrents", json!({"source": link, "dir": path})),
            ("POST", "torrents/1/move", json!({"dir": path})),
            ("POST", "torrents/1/move", json!({"dir": path, "files": false})),
            ("POST", "categories", json!({"name": "new", "dir": path})),
            ("PATCH", "categories/c", json!({"dir": path})),
        ] {
            let answer = client.own(method, where_to, body);
            assert!(matches!(answer.status, 400 | 403), "{method} {where_to} {path:?}: {answer:?}");
        }
        for (name, fields) in [
            ("torrents/add", &[("urls", &*link), ("savepath", &*path)][..]),
            ("torrents/setLocation", &[("hashes", hash), ("location", &path)]),
            ("torrents/setSavePath", &[("id", hash), ("path", &path)]),
            ("torrents/setDownloadPath", &[("id", hash), ("path", &path)]),
            ("torrents/createCategory", &[("category", "new"), ("savePath", &path)]),
            ("torrents/editCategory", &[("category", "c"), ("savePath", &path)]),
        ] {
            let answer = client.qbittorrent(name, fields);
            // "Fails." is how it says that something is wrong with what was to be added.
            let is_refused = matches!(answer.status, 400 | 403 | 409) || answer.body == "Fails.";
            assert!(is_refused, "{name} {path:?}: {answer:?}");
        }
        for (method, params) in [
            ("torrent_add", json!({"filename": link, "download_dir": path})),
            ("torrent_add", json!({"filename": format!("{path}/x.torrent")})),
            ("torrent_set_location", json!({"ids": [1], "location": path, "move": true})),
            ("torrent_set_location", json!({"ids": [1], "location": path, "move": false})),
            ("free_space", json!({"path": path})),
            ("session_set", json!({"download_dir": path})),
        ] {
            let said = client.transmission(method, params.clone());
            assert!(said.is_some(), "{method} {params}");
        }
        for (name, fields) in [
            ("/t/1/options", &[("what", "place"), ("dir", &*path)][..]),
            ("/settings", &[("what", "category"), ("name", "c"), ("dir", &path)]),
        ] {
            let answer = client.page(name, fields);
            assert!(matches!(answer.status, 400 | 403), "{name} {path:?}: {answer:?}");
        }
        let answer = client.page_add(&[("links", &link), ("dir", &path)]);
        assert!(matches!(answer.status, 400 | 403), "{path:?}: {answer:?}");
    }
    assert_eq!(all_below(&dir.path().join("private")), before, "something was written there");
    assert_eq!(daemon.torrent(1), torrent);
    assert_eq!(daemon.get("/api/v1/torrents")["torrents"].as_array().unwrap().len(), 1);
    let categories = daemon.get("/api/v1/categories");
    assert_eq!((categories.as_array().unwrap().len(), &categories[0]["dir"]), (1, &Value::Null));
}

#[test]
fn files_are_renamed_within_their_torrent() {
    let dir = with_tree();
    let daemon = Daemon::start(dir.path(), &[]);
    let client = Client(&daemon);
    client.add_paused(dir.path());
    let hash = daemon.torrent(1)["info_hash"].as_str().unwrap().to_owned();
    let files = daemon.get("/api/v1/torrents/1/files");
    for to in [
        "..",
        "../x",
        "tree/../x",
        "tree/a/../../x",
        "/etc/x",
        "other/two",
        "tree/a\0b",
        "tree/",
        "",
        "tree//x",
        "tree/.",
    ] {
        let own = client.own("POST", "torrents/1/rename", json!({"from": "tree/two", "to": to}));
        assert!(matches!(own.status, 400 | 409), "{to:?}: {own:?}");
        for name in ["renameFile", "renameFolder"] {
            let fields = [("hash", &*hash), ("oldPath", "tree/two"), ("newPath", to)];
            let answer = client.qbittorrent(&format!("torrents/{name}"), &fields);
            assert!(matches!(answer.status, 400 | 409), "{name} {to:?}: {answer:?}");
        }
        let page = client.page("/t/1/rename", &[("from", "tree/two"), ("to", to)]);
        assert!(matches!(page.status, 400 | 409), "{to:?}: {page:?}");
    }
    for name in ["..", ".", "a/b", "../x", "/etc/x", "", "a\0b"] {
        for path in ["tree", "tree/two", "tree/a"] {
            let said =
                client.transmission("torrent_rename_path", json!({"ids": [1], "path": path, "name": name}));
            assert!(said.is_some(), "{path} {name:?}");
        }
        let own = client.own("POST", "torrents/1/rename", json!({"from": "tree", "to": name}));
        assert!(matches!(own.status, 400 | 409), "{name:?}: {own:?}");
    }
    assert_eq!(daemon.get("/api/v1/torrents/1/files"), files);
}

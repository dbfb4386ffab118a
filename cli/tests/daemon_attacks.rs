//! What a client of any of the daemon's APIs must not be able to do: reach this machine's services and files through it, name programs,
//! sockets and who gets in, or keep it busy for ever.

mod common;

use base64::Engine as _;
use common::daemon::{Answer, Daemon, set_password};
use common::{Running, bytes, run_ok, write};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tempfile::TempDir;

const FORM: &str = "content-type: application/x-www-form-urlencoded";
const JSON: &str = "content-type: application/json";

/// A folder with a torrent of a folder, `tree`, in `metas`.
fn with_tree() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("data/tree/a/one.mkv"), bytes(1, 100_000));
    write(dir.path().join("data/tree/two"), bytes(2, 50_000));
    fs::create_dir(dir.path().join("metas")).unwrap();
    run_ok(dir.path(), ["create", "data/tree", "-o", "metas/tree.meta", "-l", "16KiB"]);
    dir
}

fn metainfo(dir: &Path) -> Vec<u8> {
    fs::read(dir.join("metas/tree.meta")).unwrap()
}

/// The APIs, spoken by somebody who is let in.
struct Client<'a>(&'a Daemon);

impl Client<'_> {
    fn ask(&self, method: &str, path: &str, more: &[&str], body: &[u8]) -> Answer {
        let token = format!("authorization: Bearer {}", self.0.token);
        self.0.raw(method, path, &[&["host: localhost", &token], more].concat(), body)
    }

    /// The tree's torrent, which does not run.
    fn add_paused(&self, dir: &Path) {
        let kind = "content-type: application/x-bittorrent";
        let added = self.ask("POST", "/api/v1/torrents?paused=true", &[kind], &metainfo(dir));
        assert_eq!(added.status, 201);
    }

    fn own(&self, method: &str, path: &str, body: Value) -> Answer {
        self.0.request(method, &format!("/api/v1/{path}"), Some(body))
    }

    fn qbittorrent(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body: String = form(fields);
        self.ask("POST", &format!("/api/v2/{path}"), &[FORM], body.as_bytes())
    }

    /// A form of the page, as a browser sends it.
    fn page(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.ask(
            "POST",
            path,
            &[FORM, "origin: http://localhost", "hx-request: true"],
            form(fields).as_bytes(),
        )
    }

    /// The form that adds torrents, which may have files and so has parts.
    fn page_add(&self, fields: &[(&str, &str)]) -> Answer {
        let part = |(name, value): &(&str, &str)| {
            format!("--XX\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let body = fields.iter().map(part).collect::<String>() + "--XX--\r\n";
        let kind = "content-type: multipart/form-data; boundary=XX";
        self.ask("POST", "/add", &[kind, "origin: http://localhost", "hx-request: true"], body.as_bytes())
    }

    /// What is wrong with a call of the RPC; nothing if it is carried out.
    fn transmission(&self, method: &str, params: Value) -> Option<String> {
        let body = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).to_string();
        let hello = self.ask("POST", "/transmission/rpc", &[JSON], b"{}");
        let session = hello.head.lines().find(|line| line.starts_with("x-transmission-session-id")).unwrap();
        let answer = self.ask("POST", "/transmission/rpc", &[JSON, session], body.as_bytes());
        let error = answer.json()["error"].clone();
        (!error.is_null()).then(|| error.to_string())
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// A server on this machine that somebody trusts because he is on it, and how often it was asked.
fn service(content: Vec<u8>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            counter.fetch_add(1, SeqCst);
            let _ = stream.read(&mut [0; 4_096]);
            let len = content.len();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&content));
        }
    });
    (address, asked)
}

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

/// Sends these bytes, and gives the status of what comes back; 0 if the connection ends without.
fn status_of(daemon: &Daemon, request: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(&daemon.http).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // It may be refused before all of it is sent.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[test]
fn requests_have_bounds_and_one_meaning() {
    let dir = with_tree();
    let daemon = Daemon::start(dir.path(), &[]);
    let token = &daemon.token;
    let head = |first: &str, more: &str| {
        format!(
            "{first} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nconnection: close\r\n{more}\r\n"
        )
    };
    let get = |more: &str| status_of(&daemon, head("GET /api/v1/session", more).as_bytes());
    assert_eq!(get(""), 200);
    let refused = |status: u16| matches!(status, 0 | 400..=499);
    assert!(refused(get(&format!("x: {}\r\n", "y".repeat(200_000)))), "a long header");
    assert!(refused(get(&(0..500).map(|nth| format!("x{nth}: y\r\n")).collect::<String>())), "many headers");
    let long = format!("GET /{}", "x".repeat(200_000));
    assert!(refused(status_of(&daemon, head(&long, "").as_bytes())), "a long path");
    for odd in
        ["x y\r\n", "x : y\r\n", " x: y\r\n", "host: localhost\r\n", "host: evil.example\r\n", "\0: x\r\n"]
    {
        assert!(refused(get(odd)), "{odd:?}");
    }
    // Two lengths, or a length beside chunks: a proxy before us might see another request's beginning elsewhere.
    let post = |more: &str, body: &str| {
        let head = head("POST /api/v1/tags", &format!("content-type: application/json\r\n{more}"));
        status_of(&daemon, format!("{head}{body}").as_bytes())
    };
    let body = r#"{"tags": ["x"]}"#;
    let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    assert!(refused(post("content-length: 15\r\ncontent-length: 16\r\n", body)));
    assert!(refused(post("content-length: -1\r\n", body)));
    assert!(refused(post("transfer-encoding: xchunked\r\n", &chunk)));
    assert_eq!(daemon.get("/api/v1/tags"), json!([]), "one of them was carried out");
    assert_eq!(post("content-length: 15\r\n", body), 204);
    // Who is not in sends next to nothing.
    for (path, more) in [("/login", "origin: http://localhost"), ("/api/v2/auth/login", "x: y")] {
        let body = format!("username=x&password={}", "x".repeat(100_000));
        let answer = daemon.raw("POST", path, &["host: localhost", FORM, more], body.as_bytes());
        assert_eq!(answer.status, 413, "{path}: {answer:?}");
    }
    // As long as it likes, for it says no length.
    let part = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20)).repeat(2);
    assert!(matches!(post("transfer-encoding: chunked\r\n", &part), 0 | 413));
    // JSON that is deeper than anybody means.
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(post(&format!("content-length: {}\r\n", deep.len()), &deep), 400);
    let client = Client(&daemon);
    let hello = client.ask("POST", "/transmission/rpc", &[JSON], b"{}");
    let session = hello.head.lines().find(|line| line.starts_with("x-transmission-session-id")).unwrap();
    assert_eq!(
        client.ask("POST", "/transmission/rpc", &[JSON, session], deep.as_bytes()).json()["error"]["code"],
        -32700
    );
    for bad in [
        "/api/v1/torrents/%00",
        "/api/v1/torrents/..%2f..%2fetc",
        "/assets/..%2f..%2fCargo.toml",
        "/assets/%2e%2e/x",
    ] {
        let answer = client.ask("GET", bad, &[], b"");
        assert!(matches!(answer.status, 400 | 404), "{bad}: {answer:?}");
    }
    assert_eq!(get(""), 200, "it goes on");
}

#[test]
fn no_page_of_another_site_does_anything_in_any_dialect() {
    let dir = with_tree();
    let daemon = Daemon::start(dir.path(), &[]);
    let client = Client(&daemon);
    client.add_paused(dir.path());
    let entered = daemon.raw("GET", &format!("/?token={}", daemon.token), &["host: localhost"], b"");
    let cookie = entered.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    let cookie = cookie.split(';').next().unwrap();
    // A browser sends both cookies along, were it not for their being strict.
    let cookie = format!("cookie: {cookie}; {}", cookie.replace("swarm-session", "SID"));
    let before = daemon.torrent(1);
    let requests = [
        ("GET", "/api/v1/torrents", ""),
        ("POST", "/api/v1/torrents/1/resume", ""),
        ("DELETE", "/api/v1/torrents/1?data=delete", ""),
        ("PATCH", "/api/v1/torrents/1", r#"{"paused": false}"#),
        ("POST", "/api/v1/torrents/1/stream", ""),
        ("POST", "/api/v2/torrents/start", "hashes=all"),
        ("POST", "/api/v2/torrents/delete", "hashes=all&deleteFiles=true"),
        ("GET", "/api/v2/torrents/info", ""),
        ("POST", "/api/v2/auth/login", "username=x&password=x"),
        ("POST", "/transmission/rpc", r#"{"method": "torrent-remove", "arguments": {}}"#),
        ("POST", "/t/1/do", "action=resume"),
        ("POST", "/remove", "id=1&data=delete"),
        ("POST", "/login", "password=x"),
        ("GET", "/", ""),
        ("GET", "/live", ""),
        ("GET", "/metrics", ""),
    ];
    let kinds =
        [JSON, FORM, "content-type: text/plain", "content-type: multipart/form-data; boundary=XX", "x: y"];
    let others = [
        ["host: localhost", "origin: http://evil.example"],
        ["host: localhost", "origin: null"],
        ["host: localhost", "origin: http://localhost:81"],
        ["host: localhost", "sec-fetch-site: cross-site"],
        ["host: localhost", "sec-fetch-site: same-site"],
        ["host: evil.example", "origin: http://evil.example"],
        ["host: evil.example", "sec-fetch-site: same-origin"],
    ];
    for (method, path, body) in requests {
        for kind in kinds {
            for other in others {
                let answer =
                    daemon.raw(method, path, &[&other[..], &[&cookie, kind]].concat(), body.as_bytes());
                let is_refused = matches!(answer.status, 401 | 403 | 421);
                assert!(is_refused, "{method} {path} {other:?} {kind}: {answer:?}");
                assert!(!answer.head.contains("set-cookie"), "{path}: {answer:?}");
            }
        }
        // A form of a page of ours, if it says nothing of where it comes from, is none.
        if method == "POST" && !path.starts_with("/api") && !path.starts_with("/transmission") {
            let answer = daemon.raw(method, path, &["host: localhost", &cookie, FORM], body.as_bytes());
            assert_eq!(answer.status, 403, "{path}: {answer:?}");
        }
    }
    assert_eq!(daemon.torrent(1), before);
    // The same from here is answered.
    let own = ["host: localhost", &*cookie, "sec-fetch-site: same-origin"];
    assert_eq!(daemon.raw("GET", "/api/v1/torrents", &own, b"").status, 200);
}

#[test]
fn cookies_are_for_https_alone_where_a_proxy_says_that_it_is() {
    let dir = with_tree();
    let daemon = Daemon::start(dir.path(), &["--trusted-proxy", "127.0.0.1", "--http-host", "nas.example"]);
    let body = format!("username=any&password={}", daemon.token);
    let cookie = |path: &str, proto: &str| {
        let proto = format!("x-forwarded-proto: {proto}");
        let headers =
            ["host: 127.0.0.1", "x-forwarded-host: nas.example", "origin: https://nas.example", &proto, FORM];
        let answer = daemon.raw("POST", path, &headers, body.as_bytes());
        answer
            .head
            .lines()
            .find(|line| line.starts_with("set-cookie: "))
            .unwrap_or_else(|| panic!("{answer:?}"))
            .to_owned()
    };
    for path in ["/api/v2/auth/login", "/login"] {
        for (proto, expected) in [("https", true), ("http", false)] {
            let cookie = cookie(path, proto);
            assert_eq!(cookie.ends_with("; Secure"), expected, "{path} {proto}: {cookie}");
            assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        }
    }
}

/// The ways to log in: by somebody at `client`, as a proxy says, with this password. What a right one, a wrong one and one too many get.
type Way = (fn(&Daemon, &str, &str) -> Answer, [u16; 3]);

fn by_form(daemon: &Daemon, path: &str, user: &str, client: &str, password: &str) -> Answer {
    let client = format!("x-forwarded-for: {client}");
    let headers = ["host: localhost", "origin: http://localhost", &client, FORM];
    daemon.raw("POST", path, &headers, form(&[(user, "swarm"), ("password", password)]).as_bytes())
}

fn by_basic(daemon: &Daemon, path: &str, client: &str, password: &str) -> Answer {
    let given = base64::engine::general_purpose::STANDARD.encode(format!("swarm:{password}"));
    let (client, given) = (format!("x-forwarded-for: {client}"), format!("authorization: Basic {given}"));
    daemon.raw("GET", path, &["host: localhost", &client, &given], b"")
}

const WAYS: [Way; 4] = [
    (|daemon, client, given| by_form(daemon, "/login", "user", client, given), [303, 401, 429]),
    (
        |daemon, client, given| by_form(daemon, "/api/v2/auth/login", "username", client, given),
        [200, 200, 403],
    ),
    (|daemon, client, given| by_basic(daemon, "/api/v1/torrents", client, given), [200, 401, 429]),
    // Who is in is told of the header that its requests need.
    (|daemon, client, given| by_basic(daemon, "/transmission/rpc", client, given), [409, 401, 429]),
];

#[test]
fn passwords_are_tried_ten_times_whichever_way_and_whoever_says_where_from() {
    let dir = with_tree();
    assert_eq!(set_password(dir.path(), "correct horse\n").0, Some(0));
    let daemon = Daemon::start(dir.path(), &["--trusted-proxy", "127.0.0.1"]);
    for (nth, (way, [right, wrong, too_many])) in WAYS.into_iter().enumerate() {
        let client = format!("192.0.2.{nth}");
        // A program that goes on with one that is wrong has made one attempt.
        for _ in 0..15 {
            assert_eq!(way(&daemon, &client, &format!("{nth} same")).status, wrong, "{nth}");
        }
        for attempt in 1..10 {
            let answer = way(&daemon, &client, &format!("{nth} {attempt}"));
            assert_eq!(answer.status, wrong, "{nth} {attempt}: {answer:?}");
            assert!(!answer.head.contains("set-cookie"), "{answer:?}");
        }
        for given in ["one more", "correct horse"] {
            let answer = way(&daemon, &client, given);
            assert_eq!(answer.status, too_many, "{nth} {given}: {answer:?}");
            assert!(!answer.head.contains("set-cookie"), "{answer:?}");
        }
        assert_eq!(way(&daemon, &client, &daemon.token).status, right, "{nth}: the token is no password");
    }
    // By the other ways as well, and nobody else is kept out.
    for (nth, (way, [_, wrong, too_many])) in WAYS.into_iter().enumerate() {
        assert_eq!(way(&daemon, "192.0.2.0", &format!("{nth} at last")).status, too_many, "{nth}");
        assert_eq!(way(&daemon, "192.0.2.99", &format!("{nth} elsewhere")).status, wrong, "{nth}");
    }
    for (way, [right, ..]) in WAYS {
        assert_eq!(way(&daemon, "192.0.2.99", "correct horse").status, right);
    }
    daemon.stop();
    // Where no proxy is trusted, everybody may say that he comes from elsewhere each time.
    let daemon = Daemon::start(dir.path(), &[]);
    let (way, [_, wrong, too_many]) = WAYS[2];
    let status = |nth: usize| way(&daemon, &format!("198.51.100.{nth}"), &format!("guess {nth}")).status;
    assert!((0..10).all(|nth| status(nth) == wrong));
    assert_eq!(status(10), too_many);
}

/// Ways to give the first torrent another tracker: by its hash, with a tracker that it has and one that it is to have.
type AddTracker = fn(&Client<'_>, hash: &str, old: &str, new: &str) -> bool;

const ADD_TRACKER: [AddTracker; 9] = [
    |client, _, _, new| client.own("POST", "torrents/1/trackers", json!({"urls": [new]})).status == 204,
    |client, _, _, new| {
        client.own("PATCH", "torrents/1/trackers", json!({"add": [{"url": new}]})).status == 204
    },
    |client, _, old, new| {
        client.own("PATCH", "torrents/1/trackers", json!({"replace": {old: new}})).status == 204
    },
    |client, _, _, new| client.own("PATCH", "torrents/1/trackers", json!({"tiers": [[new]]})).status == 204,
    |client, hash, _, new| {
        client.qbittorrent("torrents/addTrackers", &[("hash", hash), ("urls", new)]).status == 200
    },
    |client, hash, old, new| {
        let fields = [("hash", hash), ("origUrl", old), ("newUrl", new)];
        client.qbittorrent("torrents/editTracker", &fields).status == 200
    },
    |client, _, _, new| {
        client.transmission("torrent_set", json!({"ids": [1], "tracker_add": [new]})).is_none()
    },
    |client, _, _, new| {
        client.transmission("torrent_set", json!({"ids": [1], "tracker_list": new})).is_none()
    },
    |client, _, _, new| client.page("/t/1/trackers", &[("urls", new)]).status == 200,
];

/// Waits until the torrent has tried a tracker or web seed with this in its URL, and was not let.
fn wait_until_refused(daemon: &Daemon, path: &str, url: &str) {
    let list = || daemon.get(path);
    let is_refused = || {
        let all = list();
        let of_it = |one: &&Value| one["url"].as_str().unwrap().contains(url);
        let told = |one: &Value| one["status"].as_str().unwrap_or_default().contains("is this machine");
        all.as_array().unwrap().iter().filter(of_it).any(told).then_some(())
    };
    daemon.wait_for(is_refused, list);
}

#[test]
fn trackers_and_web_seeds_reach_no_other_service_of_this_machine_whichever_way_they_are_added() {
    let dir = with_tree();
    let (address, asked) = service(metainfo(dir.path()));
    let port = address.rsplit_once(':').unwrap().1;
    let args =
        ["seed", "metas/tree.meta", "data", "--listen", "127.0.0.1:0", "--no-dht", "--state-dir", "seed"];
    let seed = || Running::start(dir.path(), [&args[..], &["--max-up", "1KiB/s"]].concat());
    let daemon = Daemon::start(dir.path(), &[]);
    let client = Client(&daemon);
    let url = |name: &str, nth: usize| {
        let host = ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"][nth % 3];
        format!("http://{host}:{port}/{name}{nth}/x?delete=all")
    };
    let kind = "content-type: application/x-bittorrent";
    let query: String = form(&[("trackers", &url("first", 0))]);
    assert_eq!(
        client.ask("POST", &format!("/api/v1/torrents?{query}"), &[kind], &metainfo(dir.path())).status,
        201
    );
    let trackers = "/api/v1/torrents/1/trackers";
    wait_until_refused(&daemon, trackers, "/first0");
    let hash = daemon.torrent(1)["info_hash"].as_str().unwrap().to_owned();
    let mut old = url("first", 0);
    for (nth, add) in ADD_TRACKER.into_iter().enumerate() {
        let new = url("way", nth);
        assert!(add(&client, &hash, &old, &new), "{nth}");
        wait_until_refused(&daemon, trackers, &format!("/way{nth}/"));
        old = new;
    }
    let seeds = "/api/v1/torrents/1/web-seeds";
    assert_eq!(client.own("POST", "torrents/1/web-seeds", json!({"urls": [url("seed", 0)]})).status, 204);
    assert_eq!(client.page("/t/1/web-seeds", &[("urls", &url("seed", 1))]).status, 200);
    for nth in 0..2 {
        wait_until_refused(&daemon, seeds, &format!("/seed{nth}/"));
    }
    daemon.ctl(&["remove", "1"]);
    // What a link names, over any API.
    let link = |nth: usize, peer: &str| {
        let more = form(&[("tr", &*url("tr", nth)), ("ws", &url("ws", nth)), ("x.pe", peer)]);
        format!("magnet:?xt=urn:btih:{hash}&{more}")
    };
    let ways: [fn(&Client<'_>, &str) -> bool; 4] = [
        |client, link| client.own("POST", "torrents", json!({"source": link})).status == 201,
        |client, link| client.qbittorrent("torrents/add", &[("urls", link)]).body == "Ok.",
        |client, link| client.transmission("torrent_add", json!({"filename": link})).is_none(),
        |client, link| client.page_add(&[("links", link)]).status == 200,
    ];
    for (nth, add) in ways.into_iter().enumerate() {
        let mut seed = seed();
        assert!(add(&client, &link(nth, &seed.address())), "{nth}");
        let id = daemon.get("/api/v1/torrents")["torrents"][0]["id"].clone();
        // The peer has brought the metadata; the web seed would bring the rest.
        daemon.wait(id.as_i64().unwrap(), |torrent| torrent["state"] == "downloading");
        drop(seed);
        for (list, name) in [("trackers", "tr"), ("web-seeds", "ws")] {
            wait_until_refused(&daemon, &format!("/api/v1/torrents/{id}/{list}"), &format!("/{name}{nth}/"));
        }
        daemon.ctl(&["remove", &id.to_string(), "--delete-data"]);
    }
    assert_eq!(asked.load(SeqCst), 0, "it was asked");
    // A tracker would be.
    client.add_paused(dir.path());
    let id = daemon.get("/api/v1/torrents")["torrents"][0]["id"].clone();
    let urls = json!({"urls": [format!("http://{address}/announce")]});
    assert_eq!(client.own("POST", &format!("torrents/{id}/trackers"), urls).status, 204);
    daemon.ctl(&["resume", &id.to_string()]);
    daemon.wait_for(|| (asked.load(SeqCst) > 0).then_some(()), || daemon.get("/api/v1/torrents"));
}

#[test]
fn forms_that_add_torrents_have_bounds() {
    let dir = with_tree();
    let daemon = Daemon::start(dir.path(), &[]);
    let client = Client(&daemon);
    let long = client.page_add(&[("links", &"x".repeat(300 << 10))]);
    assert!(long.status == 400 && long.body.contains("links: has more than"), "{long:?}");
    let many = (0..201).map(|nth| format!("magnet:?xt=urn:btih:{nth:040x}\n")).collect::<String>();
    let many = client.page_add(&[("links", &many), ("paused", "on")]);
    assert!(many.status == 400 && many.body.contains("at most 200"), "{many:?}");
    // Files that are as long as they may be each, and not all together. Who is not in sends none of it.
    const LEN: usize = 600 << 20;
    let begin = |who: &str| {
        let mut stream = TcpStream::connect(&daemon.http).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let kind = "content-type: multipart/form-data; boundary=XX";
        let head = format!(
            "POST /add HTTP/1.1\r\nhost: localhost\r\norigin: http://localhost\r\n{who}{kind}\r\ncontent-length: {LEN}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let status = |mut stream: TcpStream| {
        let mut line = [0; 12];
        stream.read_exact(&mut line).unwrap();
        String::from_utf8(line.to_vec()).unwrap()
    };
    assert_eq!(status(begin("")), "HTTP/1.1 401");
    let mut stream = begin(&format!("authorization: Bearer {}\r\n", daemon.token));
    let mut reader = stream.try_clone().unwrap();
    let answer = std::thread::spawn(move || {
        let mut line = [0; 12];
        reader.read_exact(&mut line).map(|()| String::from_utf8(line.to_vec()).unwrap())
    });
    let (mut sent, chunk) = (0, vec![b'x'; 1 << 20]);
    while sent < LEN {
        let part = b"\r\n--XX\r\ncontent-disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n";
        let part = if sent % (128 << 20) == 0 { &part[if sent == 0 { 2 } else { 0 }..] } else { &[] };
        if answer.is_finished() || stream.write_all(part).and_then(|()| stream.write_all(&chunk)).is_err() {
            break;
        }
        sent += chunk.len();
    }
    assert_eq!(answer.join().unwrap().unwrap(), "HTTP/1.1 413", "{sent}");
    assert_eq!(daemon.get("/api/v1/torrents")["torrents"], json!([]));
}

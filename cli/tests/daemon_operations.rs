//! What is done with a torrent of a daemon beyond its options: moved, renamed, its trackers changed, addresses banned, files streamed.

mod common;

use common::daemon::{Answer, Daemon};
use common::{Running, bytes, run_ok, tree, write, write_tree};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const PIECE: usize = 16 << 10;

/// A folder with a tree in `data/tree` and a film in `data/film.mkv`, and their metainfo files.
fn with() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_tree(dir.path(), "tree");
    write(dir.path().join("data/film.mkv"), bytes(1, 60 * PIECE));
    for name in ["tree", "film.mkv"] {
        let (data, output) = (format!("data/{name}"), format!("{name}.meta"));
        run_ok(
            dir.path(),
            ["create", &data, "-o", &output, "-l", "16KiB", "--announce", "http://127.0.0.1:9/a"],
        );
    }
    dir
}

fn seed(dir: &Path, name: &str, more: &[&str]) -> (Running, String) {
    let meta = format!("{name}.meta");
    let local = ["seed", &meta, "data", "--listen", "127.0.0.1:0", "--no-dht", "--state-dir", "seed-state"];
    let mut seed = Running::start(dir, [&local[..], more].concat());
    let address = seed.address();
    seed.wait_for("checked");
    (seed, address)
}

/// A torrent that is complete.
fn complete(daemon: &Daemon, name: &str, peer: &str) -> i64 {
    let id = daemon.ctl(&["add", &format!("{name}.meta"), "--peer", peer])["id"].as_i64().unwrap();
    daemon.wait(id, |torrent| torrent["state"] == "seeding");
    id
}

fn same(a: &Path, b: &Path) -> bool {
    tree(a) == tree(b)
}

#[test]
fn a_torrent_is_moved_and_renamed_and_a_restart_finds_it_there() {
    let dir = with();
    let at = |path: &str| dir.path().join(path);
    let (_seed, peer) = seed(dir.path(), "tree", &[]);
    let daemon = Daemon::start(dir.path(), &[]);
    let id = complete(&daemon, "tree", &peer);
    assert!(same(&at("downloads/tree"), &at("data/tree")));
    daemon.ctl(&["move", "tree", "elsewhere/deep"]);
    let moved = daemon.wait(id, |torrent| torrent["moving_to"].is_null());
    assert_eq!(moved["dir"], at("downloads/elsewhere/deep").canonicalize().unwrap().to_str().unwrap());
    assert!(same(&at("downloads/elsewhere/deep/tree"), &at("data/tree")) && !at("downloads/tree").exists());
    daemon.wait(id, |torrent| torrent["state"] == "seeding");
    let files = daemon.get(&format!("/api/v1/torrents/{id}/files"));
    let path = files[0]["path"].as_str().unwrap().to_owned();
    let new = format!("tree/renamed/{}", path.rsplit_once('/').unwrap().1);
    daemon.ctl(&["rename", "tree", "--path", &path, &new]);
    daemon.ctl(&["rename", "tree", "--path", "tree", "root"]);
    daemon.ctl(&["rename", "tree", "what we call it"]);
    let shown = daemon.torrent(id);
    assert_eq!((&shown["name"], &shown["own_name"]), (&json!("what we call it"), &json!("tree")));
    let renamed = new.replacen("tree/", "root/", 1);
    let expect = |daemon: &Daemon| {
        let shown = daemon.wait(id, |torrent| torrent["state"] == "seeding");
        assert_eq!(
            shown["path"],
            at("downloads/elsewhere/deep/root").canonicalize().unwrap().to_str().unwrap()
        );
        let files = daemon.get(&format!("/api/v1/torrents/{id}/files"));
        assert_eq!(files[0]["path"], renamed);
        assert!(fs::read(at("downloads/elsewhere/deep").join(&renamed)).is_ok());
        assert_eq!(shown["bytes_verified"], shown["bytes_total"]);
    };
    expect(&daemon);
    // It moves while it does not run, too.
    daemon.ctl(&["pause", "root"].map(|word| if word == "root" { "what we call it" } else { word }));
    daemon.ctl(&["move", &id.to_string(), "again"]);
    daemon.wait(id, |torrent| torrent["moving_to"].is_null() && torrent["state"] == "paused");
    assert!(at("downloads/again/root").exists() && !at("downloads/elsewhere/deep/root").exists());
    daemon.stop();
    let daemon = Daemon::start(dir.path(), &[]);
    assert_eq!(daemon.torrent(id)["state"], "paused");
    daemon.ctl(&["move", &id.to_string(), "elsewhere/deep"]);
    daemon.wait(id, |torrent| torrent["moving_to"].is_null());
    daemon.ctl(&["resume", &id.to_string()]);
    expect(&daemon);
    daemon.ctl(&["remove", &id.to_string(), "--delete-data"]);
    assert!(!at("downloads/elsewhere/deep/root").exists());
}

#[test]
fn what_may_not_be_moved_or_renamed_is_refused_and_stays() {
    let dir = with();
    let at = |path: &str| dir.path().join(path);
    let (_seed, peer) = seed(dir.path(), "film.mkv", &[]);
    let daemon = Daemon::start(dir.path(), &[]);
    let id = complete(&daemon, "film.mkv", &peer);
    let post =
        |end: &str, body: Value| daemon.request("POST", &format!("/api/v1/torrents/{id}{end}"), Some(body));
    let outside = TempDir::new().unwrap();
    std::os::unix::fs::symlink(outside.path(), at("downloads/link")).unwrap();
    for folder in [outside.path().to_str().unwrap(), "/etc", "../data", "link", "link/x", "a/../../b"] {
        assert_eq!(post("/move", json!({"dir": folder})).status, 403, "{folder}");
    }
    for to in ["..", "../x", "a/b", "", ".", "/x", "a\0b", ".x.swarm"] {
        let answer = post("/rename", json!({"from": "film.mkv", "to": to}));
        assert!(matches!(answer.status, 400 | 500), "{to:?}: {answer:?}");
    }
    assert_eq!(post("/rename", json!({"from": "other", "to": "x"})).status, 400);
    // Somebody else's file, and another torrent's place.
    write(at("downloads/taken/film.mkv"), b"theirs");
    assert_eq!(post("/move", json!({"dir": "taken"})).status, 204);
    let failed = daemon.wait(id, |torrent| torrent["error"].is_string());
    assert!(failed["error"].as_str().unwrap().contains("film.mkv"), "{failed}");
    assert_eq!(fs::read(at("downloads/taken/film.mkv")).unwrap(), b"theirs");
    daemon.ctl(&["add", "tree.meta", "--paused"]);
    let refused = post("/rename", json!({"from": "film.mkv", "to": "tree"}));
    assert_eq!((refused.status, &refused.json()["error"]["kind"]), (409, &json!("path_taken")));
    let shown = daemon.wait(id, |torrent| torrent["state"] == "seeding");
    assert_eq!(shown["path"], at("downloads/film.mkv").canonicalize().unwrap().to_str().unwrap());
    assert!(fs::read(at("downloads/film.mkv")).unwrap() == fs::read(at("data/film.mkv")).unwrap());
}

/// A folder on another file system, if there is one.
fn other_file_system() -> Option<TempDir> {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Path| Some(fs::metadata(path).ok()?.dev());
    let shm = PathBuf::from("/dev/shm");
    let is_other = device(&shm)? != device(&std::env::temp_dir())?;
    if is_other { tempfile::tempdir_in(shm).ok() } else { None }
}

#[test]
fn a_move_to_another_file_system_survives_kill_9() {
    let Some(other) = other_file_system() else {
        return eprintln!("skipped: this machine has no other file system");
    };
    let dir = with();
    write(dir.path().join("data/big"), bytes(7, 40 << 20));
    run_ok(dir.path(), ["create", "data/big", "-o", "big.meta", "-l", "256KiB"]);
    let (_seed, peer) = seed(dir.path(), "big", &[]);
    let allowed = other.path().to_str().unwrap().to_owned();
    let options = ["--allow-dir", &allowed];
    let mut daemon = Daemon::start(dir.path(), &options);
    let id = complete(&daemon, "big", &peer);
    daemon.ctl(&["move", "big", &allowed]);
    daemon.process.signal("KILL");
    daemon.process.finish();
    let daemon = Daemon::start(dir.path(), &options);
    let moved = daemon.wait(id, |torrent| torrent["moving_to"].is_null());
    assert_eq!(moved["dir"], other.path().canonicalize().unwrap().to_str().unwrap(), "{moved}");
    daemon.wait(id, |torrent| torrent["state"] == "seeding");
    assert!(fs::read(other.path().join("big")).unwrap() == fs::read(dir.path().join("data/big")).unwrap());
    assert!(!dir.path().join("downloads/big").exists());
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn trackers_web_seeds_order_and_bans_are_changed_and_kept() {
    let dir = with();
    let (_seed, peer) = seed(dir.path(), "film.mkv", &["--max-up", "400KiB/s"]);
    let daemon = Daemon::start(dir.path(), &[]);
    let id = daemon.ctl(&["add", "film.mkv.meta", "--peer", &peer])["id"].as_i64().unwrap();
    let (a, b, c) = ("http://127.0.0.1:9/a", "http://127.0.0.1:9/b", "udp://127.0.0.1:9");
    let urls = |daemon: &Daemon| {
        let trackers = daemon.get(&format!("/api/v1/torrents/{id}/trackers"));
        let trackers = trackers.as_array().unwrap().iter();
        let tier = |one: &Value| (one["url"].as_str().unwrap().to_owned(), one["tier"].as_u64().unwrap());
        trackers.map(tier).collect::<std::collections::BTreeSet<_>>()
    };
    let set = |list: &[(&str, u64)]| list.iter().map(|(url, tier)| ((*url).to_owned(), *tier)).collect();
    daemon.ctl(&["trackers", "film.mkv", "--add", b, "--tier", "0"]);
    assert_eq!(urls(&daemon), set(&[(a, 0), (b, 0)]));
    daemon.ctl(&["trackers", "film.mkv", "--replace", b, c]);
    daemon.ctl(&["trackers", "film.mkv", "--remove", a]);
    assert_eq!(urls(&daemon), set(&[(c, 0)]));
    let gone = daemon.ctl_any(&["trackers", "film.mkv", "--remove", a]);
    assert_eq!(gone.code, Some(2), "{gone:?}");
    let hostile = json!({"tiers": [["file:///etc/passwd"]]});
    let path = format!("/api/v1/torrents/{id}/trackers");
    assert_eq!(daemon.request("PATCH", &path, Some(hostile)).status, 400);
    daemon.ctl(&["web-seeds", "film.mkv", "--add", "http://127.0.0.1:9/w"]);
    daemon.ctl(&["web-seeds", "film.mkv", "--remove", "http://127.0.0.1:9/w"]);
    daemon.ctl(&["order", "film.mkv", "--first-last", "on"]);
    let states = |daemon: &Daemon| {
        let answer = daemon.request("GET", &format!("/api/v1/torrents/{id}/pieces"), None);
        (answer.status == 200).then(|| answer.json()["states"].as_str().unwrap().to_owned())
    };
    let begun = |daemon: &Daemon| states(daemon).filter(|states| states.contains('2'));
    let map = daemon.wait_for(|| begun(&daemon), || daemon.torrent(id));
    assert_eq!(map.len(), 60);
    let ip = peer.rsplit_once(':').unwrap().0;
    daemon.ctl(&["ban", ip]);
    daemon.wait(id, |torrent| torrent["peers"] == 0);
    assert_eq!(daemon.ctl(&["ban"])["addresses"], json!([ip]));
    assert_eq!(daemon.request("POST", "/api/v1/bans", Some(json!({"addresses": ["x"]}))).status, 400);
    daemon.stop();
    let daemon = Daemon::start(dir.path(), &[]);
    assert_eq!((urls(&daemon), &daemon.torrent(id)["first_last"]), (set(&[(c, 0)]), &json!(true)));
    assert!(daemon.get(&format!("/api/v1/torrents/{id}/web-seeds")).as_array().unwrap().is_empty());
    assert_eq!(daemon.ctl(&["ban"])["addresses"], json!([ip]));
    daemon.ctl(&["ban", ip, "--lift"]);
    assert_eq!(daemon.ctl(&["ban"])["addresses"], json!([]));
    daemon.ctl(&["peers", "film.mkv", "--add", &peer]);
    daemon.wait(id, |torrent| torrent["state"] == "seeding");
}

/// A request without the daemon's token: the answer's status, its head in small letters, and its body.
fn ask(host: &str, method: &str, path: &str, headers: &[&str]) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(host).unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer has a head");
    let head = String::from_utf8(answer[..end].to_vec()).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, answer[end + 4..].to_vec())
}

#[test]
fn a_file_is_streamed_by_ranges_while_it_is_downloaded() {
    let dir = with();
    let content = fs::read(dir.path().join("data/film.mkv")).unwrap();
    let (_seed, peer) = seed(dir.path(), "film.mkv", &["--max-up", "1MiB/s"]);
    let daemon = Daemon::start(dir.path(), &[]);
    daemon.ctl(&["add", "film.mkv.meta", "--peer", &peer]);
    let streams = daemon.ctl(&["stream", "film.mkv"]);
    assert_eq!(streams, daemon.ctl(&["stream", "film.mkv"]), "the same each time");
    let address = streams["files"][0]["address"].as_str().unwrap().to_owned();
    assert!(address.ends_with("/0/film.mkv") && streams["files"][0]["media_type"] == "video/x-matroska");
    daemon.wait(1, |torrent| torrent["state"] == "downloading");
    let get = |headers: &[&str]| ask(&daemon.http, "GET", &address, headers);
    let len = content.len();
    for (range, expected) in [
        ("bytes=0-99", 0..100),
        (&*format!("bytes={}-", len - 50), len - 50..len),
        ("bytes=-70", len - 70..len),
        ("bytes=500000-540000", 500_000..540_001),
        ("bytes=100000-100000", 100_000..100_001),
    ] {
        let (status, head, body) = get(&[&format!("range: {range}")]);
        assert_eq!(status, 206, "{range}: {head}");
        assert!(body == content[expected.clone()], "{range}");
        let part = format!("content-range: bytes {}-{}/{len}", expected.start, expected.end - 1);
        assert!(head.contains(&part), "{head}");
    }
    let (status, head, body) = get(&[]);
    assert!(status == 200 && body == content, "{head}");
    for header in [
        "content-type: video/x-matroska",
        "x-content-type-options: nosniff",
        "accept-ranges: bytes",
        "content-disposition: inline; filename*=utf-8''film.mkv",
        "content-security-policy: default-src 'none'; media-src 'self'; frame-ancestors 'none'; sandbox",
    ] {
        assert!(head.contains(header), "{header}: {head}");
    }
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    let if_range = |tag: &str| get(&["range: bytes=5-6", &format!("if-range: {tag}")]).0;
    assert_eq!((if_range(&tag), if_range("\"other\"")), (206, 200));
    let (status, head, body) = get(&[&format!("range: bytes={len}-")]);
    assert!(status == 416 && head.contains(&format!("content-range: bytes */{len}")), "{head} {body:?}");
    assert_eq!(ask(&daemon.http, "POST", &address, &["content-length: 0"]).0, 405);
}

#[test]
fn streams_let_nobody_in_who_does_not_know_the_token_and_run_no_script() {
    let dir = with();
    write(dir.path().join("data/page.html"), b"<script>alert(1)</script>");
    run_ok(dir.path(), ["create", "data/page.html", "-o", "page.html.meta"]);
    let daemon = Daemon::start(dir.path(), &["--allow-dir", "data"]);
    daemon.ctl(&["add", "page.html.meta", "--seed", "--dir", dir.path().join("data").to_str().unwrap()]);
    daemon.wait(1, |torrent| torrent["state"] == "seeding");
    let streams = daemon.ctl(&["stream", "1"]);
    let (address, token) =
        (streams["files"][0]["address"].as_str().unwrap(), streams["token"].as_str().unwrap());
    assert!(token.len() >= 32);
    let (status, head, body) = ask(&daemon.http, "GET", address, &[]);
    assert_eq!((status, &*body), (200, &b"<script>alert(1)</script>"[..]));
    assert!(head.contains("content-type: application/octet-stream"), "{head}");
    assert!(head.contains("content-disposition: attachment;") && head.contains("sandbox"), "{head}");
    for path in [
        format!("/stream/{}/0", "0".repeat(token.len())),
        format!("/stream/{}/0", &token[..token.len() - 1]),
        "/stream//0".to_owned(),
        format!("/stream/{token}/7"),
        format!("/stream/{token}/-1"),
        format!("/stream/{token}/../../api/v1/torrents"),
    ] {
        let (status, ..) = ask(&daemon.http, "GET", &path, &[]);
        assert!(matches!(status, 400 | 401 | 404), "{path}: {status}");
    }
    // The token is good for nothing else, and other pages may not use it.
    let answer: Answer = daemon.raw(
        "GET",
        "/api/v1/torrents",
        &["host: localhost", &format!("authorization: Bearer {token}")],
        b"",
    );
    assert_eq!(answer.status, 401);
    assert_eq!(ask(&daemon.http, "GET", address, &["origin: http://evil.example"]).0, 403);
    assert_eq!(ask(&daemon.http, "GET", address, &["sec-fetch-site: cross-site"]).0, 403);
    assert_eq!(daemon.raw("GET", address, &["host: evil.example"], b"").status, 421);
    daemon.ctl(&["pause", "1"]);
    assert_eq!(ask(&daemon.http, "GET", address, &[]).0, 503);
}

#[test]
fn clients_that_go_away_leave_their_places() {
    let dir = with();
    let daemon = Daemon::start(dir.path(), &[]);
    // Nobody has it: all of them wait.
    daemon.ctl(&["add", "film.mkv.meta"]);
    daemon.wait(1, |torrent| torrent["state"] == "downloading");
    let streams = daemon.ctl(&["stream", "1"]);
    let address = streams["files"][0]["address"].as_str().unwrap();
    let open = || {
        let mut stream = TcpStream::connect(&daemon.http).unwrap();
        write!(stream, "GET {address} HTTP/1.1\r\nhost: {}\r\n\r\n", daemon.http).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        (stream, String::from_utf8(status.to_vec()).unwrap())
    };
    let waiting: Vec<_> = (0..32).map(|_| open()).collect();
    assert!(waiting.iter().all(|(_, status)| status == "HTTP/1.1 200"), "{waiting:?}");
    assert_eq!(open().1, "HTTP/1.1 503");
    drop(waiting);
    daemon.wait_for(|| (open().1 == "HTTP/1.1 200").then_some(()), || daemon.torrent(1));
}

#[test]
fn get_serves_what_it_downloads() {
    let dir = with();
    let content = fs::read(dir.path().join("data/film.mkv")).unwrap();
    let (_seed, peer) = seed(dir.path(), "film.mkv", &["--max-up", "1MiB/s"]);
    let local = ["--listen", "127.0.0.1:0", "--no-dht", "--state-dir", "get-state", "-o", "got"];
    let get = [&["get", "film.mkv.meta", "--stream", "--peer", &peer], &local[..]].concat();
    let mut get = Running::start(dir.path(), get);
    let stream = get.wait_for("stream");
    assert_eq!(stream["path"], "film.mkv");
    let (host, path) =
        stream["address"].as_str().unwrap().strip_prefix("http://").unwrap().split_once('/').unwrap();
    assert!(host.starts_with("127.0.0.1:"));
    let (status, _, body) = ask(host, "GET", &format!("/{path}"), &["range: bytes=900000-"]);
    assert!(status == 206 && body == content[900_000..]);
    assert_eq!(ask(host, "GET", "/wrong/film.mkv", &[]).0, 404);
    assert_eq!(ask(host, "GET", &format!("/{path}"), &["origin: http://evil.example"]).0, 403);
    get.wait_for("complete");
    let (status, _, body) = ask(host, "GET", &format!("/{path}"), &[]);
    assert!(status == 200 && body == content, "it is served on");
    get.signal("TERM");
    assert_eq!(get.finish().1["event"], "stopped");
}

#[test]
fn addresses_of_streams_end_when_they_are_taken_back_and_with_their_torrent() {
    let dir = tempfile::tempdir().unwrap();
    const LEN: usize = 24 << 20;
    write(dir.path().join("data/film.mkv"), bytes(3, LEN));
    fs::create_dir(dir.path().join("metas")).unwrap();
    run_ok(dir.path(), ["create", "data/film.mkv", "-o", "metas/film.meta", "-l", "1MiB"]);
    let daemon = Daemon::start(dir.path(), &["--allow-dir", "data"]);
    let id =
        daemon.ctl(&["add", "metas/film.meta", "--seed", "--dir", dir.path().join("data").to_str().unwrap()])
            ["id"]
            .as_i64()
            .unwrap();
    daemon.wait(id, |torrent| torrent["state"] == "seeding");
    let open = || {
        let opened = daemon.request("POST", &format!("/api/v1/torrents/{id}/stream"), None).json();
        opened["files"][0]["address"].as_str().unwrap().to_owned()
    };
    let status = |address: &str| daemon.raw("HEAD", address, &["host: localhost"], b"").status;
    let address = open();
    assert_eq!((open(), status(&address)), (address.clone(), 200));
    assert_eq!(daemon.raw("GET", &address, &["host: evil.example"], b"").status, 421);
    // Somebody looks on, slowly.
    let mut viewer = TcpStream::connect(&daemon.http).unwrap();
    viewer.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(viewer, "GET {address} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut begin = [0; 4_096];
    viewer.read_exact(&mut begin).unwrap();
    assert!(begin.starts_with(b"HTTP/1.1 200 "));
    assert_eq!(daemon.request("DELETE", &format!("/api/v1/torrents/{id}/stream"), None).status, 204);
    assert_eq!(status(&address), 404);
    let mut rest = Vec::new();
    let _ = viewer.read_to_end(&mut rest);
    assert!(rest.len() < LEN - begin.len(), "all of it came");
    let next = open();
    assert!(next != address && status(&next) == 200);
    daemon.ctl(&["stream", "film.mkv", "--end"]);
    assert_eq!(status(&next), 404);
    let last = open();
    assert_eq!(status(&last), 200);
    daemon.ctl(&["remove", &id.to_string()]);
    assert_eq!(status(&last), 404);
    assert_eq!(daemon.request("DELETE", "/api/v1/torrents/99/stream", None).status, 404);
}

/// A seeding torrent of `data/NAME`, and the address of each of its files.
fn streamed(daemon: &Daemon, dir: &Path, name: &str) -> impl Fn(&str) -> String + use<> {
    let (data, output) = (format!("data/{name}"), format!("{name}.meta"));
    run_ok(dir, ["create", &data, "-o", &output, "-l", "16KiB"]);
    daemon.ctl(&["add", &output, "--seed", "--dir", dir.join("data").to_str().unwrap()]);
    daemon.wait(1, |torrent| torrent["state"] == "seeding");
    let files = daemon.ctl(&["stream", "1"])["files"].as_array().unwrap().clone();
    move |end| {
        let is_it = |file: &&Value| file["path"].as_str().unwrap().ends_with(end);
        files.iter().find(is_it).unwrap()["address"].as_str().unwrap().to_owned()
    }
}

#[test]
fn requests_that_players_have_stumbled_over_elsewhere_are_answered_by_the_standard() {
    let dir = with();
    let (name, content) = ("5\" x 7'; ü %2F.mp4", bytes(2, 3 * PIECE + 5));
    write(dir.path().join("data/odd").join(name), &content);
    write(dir.path().join("data/odd/empty.mkv"), b"");
    let daemon = Daemon::start(dir.path(), &["--allow-dir", "data"]);
    let address_of = streamed(&daemon, dir.path(), "odd");
    let address = address_of(".mp4");
    let get = |range: &str| ask(&daemon.http, "GET", &address, &[&format!("range: {range}")]);
    let len = content.len();
    // Safari asks for two bytes first, and plays nothing if it gets more.
    let (status, head, body) = get("bytes=0-1");
    assert!(status == 206 && body == content[..2] && head.contains("content-length: 2"), "{head}");
    assert!(head.contains(&format!("content-range: bytes 0-1/{len}")), "{head}");
    // Players guess how long a file is, and guess too much.
    for (range, part) in [
        ("bytes=0-999999999999", 0..len),
        ("bytes=-999999999999", 0..len),
        ("bytes=40000-999999999999", 40_000..len),
    ] {
        let (status, head, body) = get(range);
        assert!(status == 206 && body == content[part], "{range}: {head}");
    }
    for nonsense in ["bytes=abc-", "bytes=5-1", "bytes=", "bytes=--5", "bytes=0-1,5-6", "pages=1-2"] {
        let (status, head, body) = get(nonsense);
        assert!(status == 200 && body == content, "{nonsense}: {head}");
    }
    // Ranges are for GET alone.
    let (status, head, body) = ask(&daemon.http, "HEAD", &address, &["range: bytes=5-6"]);
    assert!(status == 200 && body.is_empty(), "{head}");
    assert!(head.contains(&format!("content-length: {len}")) && head.contains("accept-ranges: bytes"));
    // The name breaks out of no header, and is the same for who reads it.
    let disposition = head.lines().find_map(|line| line.strip_prefix("content-disposition: ")).unwrap();
    assert_eq!(disposition, "inline; filename*=utf-8''5%22%20x%207%27%3b%20%c3%bc%20%252f.mp4");
    // A connection is good for more requests after one that could not be had.
    let mut stream = TcpStream::connect(&daemon.http).unwrap();
    let request =
        |range: &str| format!("GET {address} HTTP/1.1\r\nhost: {}\r\nrange: bytes={range}\r\n", daemon.http);
    write!(stream, "{}\r\n{}connection: close\r\n\r\n", request(&format!("{len}-")), request("1-2")).unwrap();
    let mut both = Vec::new();
    stream.read_to_end(&mut both).unwrap();
    let text = String::from_utf8_lossy(&both);
    assert!(text.starts_with("HTTP/1.1 416") && text.contains("HTTP/1.1 206"), "{text}");
    assert!(both.ends_with(&content[1..3]), "{text}");

    let empty = address_of("empty.mkv");
    let (status, head, body) = ask(&daemon.http, "GET", &empty, &[]);
    assert!(status == 200 && body.is_empty() && head.contains("content-length: 0"), "{head}");
    let (status, head, _) = ask(&daemon.http, "GET", &empty, &["range: bytes=0-"]);
    assert!(status == 416 && head.contains("content-range: bytes */0"), "{head}");
}

#[test]
fn a_file_that_is_not_wanted_is_streamed_while_others_are_downloaded() {
    let dir = with();
    write(dir.path().join("data/pair/a.bin"), bytes(3, 200 * PIECE));
    let film = bytes(4, 5 * PIECE + 77);
    write(dir.path().join("data/pair/b.mkv"), &film);
    run_ok(dir.path(), ["create", "data/pair", "-o", "pair.meta", "-l", "16KiB"]);
    let (_seed, peer) = seed(dir.path(), "pair", &["--max-up", "400KiB/s"]);
    let daemon = Daemon::start(dir.path(), &[]);
    daemon.ctl(&["add", "pair.meta", "--peer", &peer, "--paused"]);
    let unwanted = json!({"priorities": {"1": 0}});
    assert_eq!(daemon.request("PATCH", "/api/v1/torrents/1/files", Some(unwanted)).status, 204);
    daemon.ctl(&["resume", "1"]);
    daemon.wait(1, |torrent| torrent["state"] == "downloading");
    let streams = daemon.ctl(&["stream", "1"]);
    let address = streams["files"][1]["address"].as_str().unwrap();
    let (status, head, body) = ask(&daemon.http, "GET", address, &["range: bytes=100-"]);
    assert!(status == 206 && body == film[100..], "{head}");
    let torrent = daemon.wait(1, |torrent| torrent["state"] == "seeding");
    assert_eq!(torrent["error"], Value::Null);
}

#[test]
fn a_stream_that_waits_ends_with_its_token_and_its_torrent() {
    let dir = with();
    let daemon = Daemon::start(dir.path(), &[]);
    // Nobody has it: the stream waits.
    daemon.ctl(&["add", "film.mkv.meta"]);
    let open = || {
        let metrics = daemon.request("GET", "/metrics", None).body;
        let line = metrics.lines().find_map(|line| line.strip_prefix("swarm_file_streams ")).unwrap();
        line.parse::<u32>().unwrap()
    };
    for end in [&["stream", "1", "--end"][..], &["pause", "1"], &["remove", "1"]] {
        daemon.ctl(&["resume", "1"]);
        daemon.wait(1, |torrent| torrent["state"] == "downloading");
        let streams = daemon.ctl(&["stream", "1"]);
        let address = streams["files"][0]["address"].as_str().unwrap();
        let mut stream = TcpStream::connect(&daemon.http).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "GET {address} HTTP/1.1\r\nhost: {}\r\n\r\n", daemon.http).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!((&status, open()), (b"HTTP/1.1 200", 1));
        daemon.ctl(end);
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        let waits = matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!waits, "{end:?}: {ended:?}");
        assert!(rest.ends_with(b"\r\n\r\n"), "{end:?}: no byte of it was there");
        daemon.wait_for(|| (open() == 0).then_some(()), || json!(open()));
        let status = if end[0] == "pause" { 503 } else { 404 };
        assert_eq!(ask(&daemon.http, "GET", address, &[]).0, status, "{end:?}");
    }
}

/// The attack: whoever may write to a folder puts a link in its place, and somebody moves or renames what was in it.
#[cfg(unix)]
#[test]
fn nothing_is_moved_or_renamed_through_a_link_in_place_of_a_folder() {
    let dir = with();
    let at = |path: &str| dir.path().join(path);
    let (_seed, peer) = seed(dir.path(), "film.mkv", &[]);
    let daemon = Daemon::start(dir.path(), &[]);
    daemon.ctl(&["add", "film.mkv.meta", "--peer", &peer, "--dir", "sub"]);
    daemon.wait(1, |torrent| torrent["state"] == "seeding");
    fs::create_dir(at("private")).unwrap();
    fs::copy(at("data/film.mkv"), at("private/film.mkv")).unwrap();
    fs::rename(at("downloads/sub"), at("downloads/was-sub")).unwrap();
    std::os::unix::fs::symlink(at("private"), at("downloads/sub")).unwrap();
    let before = tree(&at("private"));
    for action in [&["rename", "1", "--path", "film.mkv", "other.mkv"][..], &["move", "1", "elsewhere"]] {
        for paused in [false, true] {
            daemon.ctl(&[if paused { "pause" } else { "resume" }, "1"]);
            daemon.ctl_any(action);
            daemon.wait(1, |torrent| torrent["moving_to"].is_null() && torrent["state"] != "moving");
            assert!(tree(&at("private")) == before, "{action:?} {paused}: {}", daemon.torrent(1));
        }
    }
    assert!(fs::read(at("downloads/was-sub/film.mkv")).unwrap() == fs::read(at("data/film.mkv")).unwrap());
}

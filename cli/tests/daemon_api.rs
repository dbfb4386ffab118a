//! The daemon's API over HTTP: lists, increments, events, metrics; and who must not get in, or too far.

mod common;

use common::daemon::{Daemon, refused, set_password, state};
use common::{Running, bytes, run_ok, write};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// A folder with so many small torrents in `metas`.
fn with(count: usize) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("metas")).unwrap();
    for nth in 0..count {
        write(dir.path().join(format!("data/t{nth}")), bytes(nth as u64, 100_000));
        let (data, output) = (format!("data/t{nth}"), format!("metas/t{nth}.meta"));
        run_ok(dir.path(), ["create", &data, "-o", &output, "-l", "16KiB"]);
    }
    dir
}

fn metainfo(dir: &Path, nth: usize) -> Vec<u8> {
    fs::read(dir.join(format!("metas/t{nth}.meta"))).unwrap()
}

/// Uploads a metainfo file.
fn upload(daemon: &Daemon, query: &str, bytes: &[u8]) -> common::daemon::Answer {
    let token = format!("authorization: Bearer {}", daemon.token);
    let headers = ["host: localhost", &token, "content-type: application/x-bittorrent"];
    daemon.raw("POST", &format!("/api/v1/torrents{query}"), &headers, bytes)
}

#[test]
fn lists_come_in_pages_and_increments() {
    let dir = with(5);
    let daemon = Daemon::start(dir.path(), &[]);
    for nth in 0..5 {
        let answer = upload(&daemon, "?paused=true&tags=x", &metainfo(dir.path(), nth));
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.json()["name"], format!("t{nth}"));
    }
    let ids = |page: &Value| {
        page["torrents"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect::<Vec<_>>()
    };
    let first = daemon.get("/api/v1/torrents?limit=3");
    assert_eq!(
        (ids(&first), &first["next"], &first["full"]),
        (vec![1.into(), 2.into(), 3.into()], &3.into(), &true.into())
    );
    let rest = daemon.get("/api/v1/torrents?limit=3&after=3");
    assert_eq!((ids(&rest), &rest["next"]), (vec![4.into(), 5.into()], &Value::Null));
    assert_eq!(ids(&daemon.get("/api/v1/torrents?state=seeding")), Vec::<Value>::new());
    assert_eq!(ids(&daemon.get("/api/v1/torrents?state=paused&tag=x")).len(), 5);

    let since = first["revision"].as_u64().unwrap();
    let nothing = daemon.get(&format!("/api/v1/torrents?since={since}"));
    assert_eq!((ids(&nothing), &nothing["full"]), (Vec::new(), &false.into()));
    daemon.ctl(&["limit", "t3", "--up", "5k"]);
    daemon.ctl(&["remove", "t0"]);
    let news = daemon.get(&format!("/api/v1/torrents?since={since}"));
    assert_eq!((ids(&news), &news["removed"]), (vec![4.into()], &json!([1])));
    assert_eq!(daemon.get("/api/v1/torrents?since=1")["full"], true, "of another time");

    let hash = daemon.torrent(2)["info_hash"].as_str().unwrap().to_owned();
    assert_eq!(daemon.get(&format!("/api/v1/torrents/{hash}"))["id"], 2);
    let back = daemon.request("GET", "/api/v1/torrents/2/metainfo", None);
    assert_eq!(back.status, 200);
    for (path, status) in [("/api/v1/torrents/99", 404), ("/api/v1/torrents/x", 404), ("/nowhere", 404)] {
        let answer = daemon.request("GET", path, None);
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.json()["error"]["message"].is_string());
    }
    assert_eq!(daemon.request("PUT", "/api/v1/torrents/2", None).status, 405);
}

#[test]
fn what_makes_no_sense_is_refused_by_name_and_changes_nothing() {
    let dir = with(1);
    let daemon = Daemon::start(dir.path(), &[]);
    assert_eq!(upload(&daemon, "?paused=true", &metainfo(dir.path(), 0)).status, 201);
    let before = daemon.torrent(1);
    for (body, named) in [
        (json!({"upload_limit": 0}), "upload_limit"),
        (json!({"ratio_limit": -1}), "ratio_limit"),
        (json!({"ratio_limit": "soon"}), "none"),
        (json!({"run": "rm -rf /"}), "run"),
        (json!({"tags": ["a,b"]}), "a,b"),
        (json!({"position": "first"}), "first"),
    ] {
        let answer = daemon.request("PATCH", "/api/v1/torrents/1", Some(body));
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(answer.status == 400 && message.contains(named), "{message}");
    }
    for source in ["", "x", "magnet:?dn=x", "ftp://a/b.torrent", "/etc/passwd", "file:///etc/passwd"] {
        let answer = daemon.request("POST", "/api/v1/torrents", Some(json!({"source": source})));
        assert_eq!(answer.status, 400, "{source}: {answer:?}");
    }
    assert_eq!(upload(&daemon, "", b"no metainfo").status, 400);
    let again = upload(&daemon, "", &metainfo(dir.path(), 0));
    assert_eq!((again.status, &again.json()["error"]["id"]), (409, &json!(1)));
    for (path, body) in [
        ("/api/v1/torrents/1/files", json!({"priorities": {"1": 0}})),
        ("/api/v1/torrents/1/files", json!({"priorities": {"0": 8}})),
        ("/api/v1/torrents/1/peers", json!({"peers": ["localhost"]})),
        ("/api/v1/torrents/1/trackers", json!({"urls": ["file:///etc/passwd"]})),
    ] {
        let method = if path.ends_with("files") { "PATCH" } else { "POST" };
        assert_eq!(daemon.request(method, path, Some(body)).status, 400, "{path}");
    }
    assert_eq!(daemon.torrent(1), before);
}

#[test]
fn only_who_has_the_token_and_knows_this_host_gets_in() {
    let dir = with(1);
    let daemon = Daemon::start(dir.path(), &["--http-host", "nas.example"]);
    let right = format!("authorization: Bearer {}", daemon.token);
    let get = |path: &str, headers: &[&str]| {
        let answer = daemon.raw("GET", path, headers, b"");
        (answer.status, answer.json()["error"]["kind"].as_str().unwrap_or_default().to_owned())
    };
    let list = "/api/v1/torrents";
    assert_eq!(get(list, &["host: localhost", &right]).0, 200);
    assert_eq!(get(list, &["host: nas.example:443", &right]).0, 200);
    for wrong in ["", "authorization: Bearer wrong", "authorization: Basic d3Jvbmc=", "cookie: token=x"] {
        let headers: Vec<&str> =
            ["host: localhost", wrong].into_iter().filter(|header| !header.is_empty()).collect();
        for path in [list, "/metrics", "/api/v1/openapi.json", "/nowhere", "/api/v1/events"] {
            assert_eq!(get(path, &headers), (401, "token".into()), "{wrong} {path}");
        }
    }
    // DNS rebinding: the page's own name leads here.
    for host in ["host: evil.example", "host: evil.example:6868", "host: localhost.evil.example", "x: y"] {
        assert_eq!(get(list, &[host, &right]), (421, "host".into()), "{host}");
    }
    for from in [
        "origin: http://evil.example",
        "origin: null",
        "sec-fetch-site: cross-site",
        "sec-fetch-site: same-site",
    ] {
        assert_eq!(get(list, &["host: localhost", &right, from]), (403, "origin".into()), "{from}");
    }
    // A form of a page can send text, and nothing in JSON.
    let body = json!({"source": "magnet:?xt=urn:btih:631a31dd0a46257d5078c0dee4e66e26f73e42ac"}).to_string();
    for kind in ["content-type: text/plain", "content-type: application/x-www-form-urlencoded", "x: y"] {
        let answer = daemon.raw("POST", list, &["host: localhost", &right, kind], body.as_bytes());
        assert_eq!(answer.status, 415, "{kind}");
    }
    let healthy = daemon.raw("GET", "/health", &["host: 127.0.0.1"], b"");
    assert_eq!((healthy.status, &*healthy.body), (200, "ok\n"));
    assert_eq!(daemon.raw("HEAD", "/health", &["host: 127.0.0.1"], b"").status, 200);
    assert!(healthy.head.to_lowercase().contains("x-content-type-options: nosniff"), "{}", healthy.head);
    assert_eq!(daemon.get(list)["torrents"], json!([]));

    use std::os::unix::fs::PermissionsExt as _;
    for name in ["token", "socket", "daemon.db"] {
        let mode = state(dir.path()).join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
    daemon.stop();
    let (code, told) = refused(dir.path(), &["--no-auth", "--http", "0.0.0.0:0"]);
    assert!(code == Some(2) && told.contains("without a token"), "{told}");
    let daemon = Daemon::start(dir.path(), &["--no-auth"]);
    assert_eq!(daemon.raw("GET", list, &["host: localhost"], b"").status, 200);
    assert_eq!(daemon.raw("GET", list, &["host: evil.example"], b"").status, 421);
}

#[test]
fn what_is_too_long_is_not_read_and_folders_are_those_of_the_configuration() {
    let dir = with(2);
    for name in ["allowed", "private"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    fs::create_dir(dir.path().join("downloads")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("private"), dir.path().join("downloads/link")).unwrap();
    let daemon = Daemon::start(dir.path(), &["--allow-dir", "allowed"]);
    // Refused by its length, before any of it comes.
    let token = &daemon.token;
    let mut stream = TcpStream::connect(&daemon.http).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let kind = "content-type: application/x-bittorrent\r\ncontent-length: 300000000";
    write!(
        stream,
        "POST /api/v1/torrents HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n{kind}\r\n\r\n"
    )
    .unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 413 "), "{line}");
    let answer = daemon.request("PATCH", "/api/v1/session", Some(json!({"x": "y".repeat(2 << 20)})));
    assert_eq!(answer.status, 413);
    let private = dir.path().join("private");
    let private = private.to_str().unwrap();
    for given in [private, "/", "..", "../private", "downloads/../../private", "link", "link/new", "/etc"] {
        let query = format!("?paused=true&dir={}", given.replace('/', "%2F"));
        let answer = upload(&daemon, &query, &metainfo(dir.path(), 0));
        assert!(matches!(answer.status, 400 | 403), "{given}: {answer:?}");
        let body = json!({"source": "631a31dd0a46257d5078c0dee4e66e26f73e42ac", "dir": given});
        let answer = daemon.request("POST", "/api/v1/torrents", Some(body));
        assert!(matches!(answer.status, 400 | 403), "{given}: {answer:?}");
    }
    let allowed = dir.path().join("allowed/new").to_str().unwrap().replace('/', "%2F");
    for (nth, given) in [allowed.as_str(), "below"].into_iter().enumerate() {
        let answer = upload(&daemon, &format!("?paused=true&dir={given}"), &metainfo(dir.path(), nth));
        assert_eq!(answer.status, 201, "{answer:?}");
    }
}

#[test]
fn trackers_that_clients_add_lead_where_those_of_metainfo_may() {
    let dir = with(1);
    let daemon = Daemon::start(dir.path(), &[]);
    upload(&daemon, "", &metainfo(dir.path(), 0));
    let urls = json!({"urls": ["http://127.0.0.1:9/admin?delete=all", "http://127.0.0.1:9/announce"]});
    assert_eq!(daemon.request("POST", "/api/v1/torrents/1/trackers", Some(urls)).status, 204);
    let is_refused = |trackers: &Value, url: &str, what: &str| {
        let of = |tracker: &&Value| tracker["url"].as_str().unwrap().contains(url);
        let status = |tracker: &Value| tracker["status"].as_str().unwrap_or_default().contains(what);
        trackers.as_array().unwrap().iter().filter(of).any(status)
    };
    daemon.wait_for(
        || {
            let trackers = daemon.get("/api/v1/torrents/1/trackers");
            let both = is_refused(&trackers, "/admin", "/announce")
                && !is_refused(&trackers, ":9/announce", "metainfo");
            both.then_some(())
        },
        || daemon.get("/api/v1/torrents/1/trackers"),
    );
}

/// Lines of a stream of events that is asked for by hand.
fn events(daemon: &Daemon) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(&daemon.http).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let token = &daemon.token;
    write!(stream, "GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n")
        .unwrap();
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).unwrap();
    }
    stream
}

fn next_event(stream: &mut BufReader<TcpStream>, is_it: impl Fn(&Value) -> bool) -> Value {
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the stream has ended");
        if let Some(data) = line.strip_prefix("data: ") {
            let event: Value = serde_json::from_str(data).unwrap();
            if is_it(&event) {
                return event;
            }
        }
    }
}

#[test]
fn events_tell_of_a_torrent_from_its_addition_to_its_removal() {
    let dir = with(1);
    let args =
        ["seed", "metas/t0.meta", "data", "--listen", "127.0.0.1:0", "--no-dht", "--state-dir", "seed-state"];
    let mut seed = Running::start(dir.path(), args);
    let peer = seed.address();
    let daemon = Daemon::start(dir.path(), &["--peer", &peer]);
    let mut stream = events(&daemon);
    upload(&daemon, "", &metainfo(dir.path(), 0));
    let added = next_event(&mut stream, |event| event["event"] == "torrent");
    assert_eq!((&added["id"], &added["torrent"]["name"]), (&1.into(), &"t0".into()));
    // Looks at torrents and their own events may come in either order.
    let mut missing = vec!["checked", "complete", "seeding"];
    while !missing.is_empty() {
        let event = next_event(&mut stream, |_| true);
        let is_seeding =
            event["torrent"]["state"] == "seeding" && event["torrent"]["bytes_verified"] == 100_000;
        missing.retain(|what| event["event"] != *what && !(is_seeding && *what == "seeding"));
    }
    daemon.ctl(&["remove", "1"]);
    let removed = next_event(&mut stream, |event| event["event"] == "removed");
    assert_eq!(removed["id"], 1);

    let metrics = daemon.request("GET", "/metrics", None);
    for line in [
        "swarm_received_bytes_total 100000",
        "swarm_torrents{state=\"seeding\"} 0",
        "swarm_event_streams 1",
        "# TYPE swarm_http_requests_total counter",
    ] {
        assert!(metrics.body.contains(line), "{line}: {}", metrics.body);
    }
    assert!(
        metrics.head.to_lowercase().contains("content-type: text/plain; version=0.0.4"),
        "{}",
        metrics.head
    );
    daemon.stop();
}

/// All routes of the API, without `/api/v1/torrents` for those of torrents and `/api/v1` for the others.
const ROUTES: [(&str, &[&str]); 28] = [
    ("/torrents", &["get", "post"]),
    ("/{torrent}", &["delete", "get", "patch"]),
    ("/{torrent}/pause", &["post"]),
    ("/{torrent}/resume", &["post"]),
    ("/{torrent}/recheck", &["post"]),
    ("/{torrent}/reannounce", &["post"]),
    ("/{torrent}/metainfo", &["get"]),
    ("/{torrent}/files", &["get", "patch"]),
    ("/{torrent}/peers", &["get", "post"]),
    ("/{torrent}/trackers", &["get", "patch", "post"]),
    ("/{torrent}/web-seeds", &["delete", "get", "post"]),
    ("/{torrent}/move", &["post"]),
    ("/{torrent}/rename", &["post"]),
    ("/{torrent}/pieces", &["get"]),
    ("/{torrent}/stream", &["delete", "post"]),
    ("/bans", &["delete", "get", "post"]),
    ("/events", &["get"]),
    ("/session", &["get", "patch"]),
    ("/categories", &["get", "post"]),
    ("/categories/{category}", &["delete", "patch"]),
    ("/tags", &["get", "post"]),
    ("/tags/{tag}", &["delete"]),
    ("/tracker-limits", &["get"]),
    ("/tracker-limits/{host}", &["put"]),
    ("/health", &["get"]),
    ("/metrics", &["get"]),
    ("/stream/{token}/{file}", &["get"]),
    ("/openapi.json", &["get"]),
];

#[test]
fn each_route_is_described() {
    let dir = with(0);
    let daemon = Daemon::start(dir.path(), &[]);
    let described = daemon.get("/api/v1/openapi.json");
    let mut paths = described["paths"].as_object().unwrap().clone();
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/daemon.md")).unwrap();
    for (end, methods) in ROUTES {
        let path = match end {
            "/health" | "/metrics" | "/stream/{token}/{file}" => end.to_owned(),
            end if end.starts_with("/{torrent}") => format!("/api/v1/torrents{end}"),
            end => format!("/api/v1{end}"),
        };
        let last = end.rsplit('/').find(|part| !part.starts_with('{')).filter(|part| !part.is_empty());
        assert!(last.is_none_or(|last| page.contains(last)), "docs/daemon.md lacks {path}");
        for method in methods {
            // It is there, whatever it says to a torrent that is not.
            let asked = path.replace("{file}", "0").replace(['{', '}'], "");
            let answer = daemon.raw(&method.to_uppercase(), &asked, &["host: localhost"], b"");
            let is_open = matches!(end, "/health" | "/stream/{token}/{file}");
            assert!(is_open || answer.status == 401, "{method} {path}: {answer:?}");
            if *method != "get" {
                let answer = daemon.request(&method.to_uppercase(), &asked, Some(json!({})));
                let is_missing = answer.status == 405 || answer.body.contains("there is nothing here; ");
                assert!(!is_missing, "{method} {path}: {answer:?}");
            }
        }
        if end == "/openapi.json" {
            continue;
        }
        let operations = paths.remove(&path).unwrap_or_else(|| panic!("{path} is not described"));
        let operations = operations.as_object().unwrap();
        assert_eq!(operations.keys().collect::<Vec<_>>(), methods, "{path}");
        for (method, operation) in operations {
            assert!(operation["responses"].is_object(), "{method} {path}");
            assert!(operation["summary"].is_string(), "{method} {path}");
        }
    }
    assert_eq!(paths.keys().collect::<Vec<_>>(), Vec::<&String>::new(), "routes that are not listed here");
    assert!(described["paths"]["/api/v1/torrents"]["post"]["responses"]["507"].is_object());
    assert!(described["components"]["schemas"]["Summary"]["properties"]["bytes_verified"].is_object());
}

#[test]
fn increments_of_the_other_dialect_tell_of_trackers_and_of_what_is_gone() {
    let dir = with(2);
    let daemon = Daemon::start(dir.path(), &[]);
    for nth in 0..2 {
        assert_eq!(upload(&daemon, "?paused=true", &metainfo(dir.path(), nth)).status, 201);
    }
    let hashes = [1, 2].map(|id| daemon.torrent(id)["info_hash"].as_str().unwrap().to_owned());
    let sync = |rid: &Value| daemon.get(&format!("/api/v2/sync/maindata?rid={rid}"));
    let first = sync(&json!(0));
    assert_eq!((&first["full_update"], &first["trackers"]), (&json!(true), &Value::Null));
    let (a, b) = ("http://a.example/announce", "http://b.example/announce");
    let set = |id: i64, tiers: Value| {
        let path = format!("/api/v1/torrents/{id}/trackers");
        assert_eq!(daemon.request("PATCH", &path, Some(json!({"tiers": tiers}))).status, 204);
    };
    set(1, json!([[a, b]]));
    set(2, json!([[b]]));
    let second = sync(&first["rid"]);
    assert_eq!(second["full_update"], Value::Null);
    assert_eq!(second["trackers"], json!({a: [hashes[0]], b: hashes}));
    let nothing = sync(&second["rid"]);
    assert_eq!((&nothing["trackers"], &nothing["trackers_removed"]), (&Value::Null, &Value::Null));
    set(1, json!([[b]]));
    let third = sync(&nothing["rid"]);
    assert_eq!((&third["trackers"], &third["trackers_removed"]), (&Value::Null, &json!([a])));
    daemon.ctl(&["remove", "2"]);
    let fourth = sync(&third["rid"]);
    assert_eq!(fourth["trackers"], json!({b: [hashes[0]]}));
    assert_eq!(fourth["torrents_removed"], json!([hashes[1]]));
    // Who has seen none of it since hears of all of it.
    let late = sync(&first["rid"]);
    assert_eq!(
        (&late["trackers"], &late["torrents_removed"]),
        (&fourth["trackers"], &fourth["torrents_removed"])
    );
}

#[test]
fn a_password_may_begin_and_end_with_a_space() {
    use base64::Engine as _;
    let dir = with(0);
    let daemon = Daemon::start(dir.path(), &[]);
    assert_eq!(set_password(dir.path(), " correct horse \n").0, Some(0));
    let page = |password: &str| {
        let form: String = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("user", "swarm")
            .append_pair("password", password)
            .finish();
        let headers = [
            "host: localhost",
            "origin: http://localhost",
            "content-type: application/x-www-form-urlencoded",
        ];
        daemon.raw("POST", "/login", &headers, form.as_bytes()).status
    };
    let basic = |password: &str| {
        let given = base64::engine::general_purpose::STANDARD.encode(format!("swarm:{password}"));
        let header = format!("authorization: Basic {given}");
        daemon.raw("GET", "/api/v1/torrents", &["host: localhost", &header], b"").status
    };
    assert_eq!((page(" correct horse "), basic(" correct horse ")), (303, 200));
    assert_eq!((page("correct horse"), basic("correct horse")), (401, 401));
    assert_eq!(page(&format!(" {}\t", daemon.token)), 303, "a token that was pasted with a space");
}

#[test]
fn a_password_is_set_while_it_runs_and_the_link_lets_in_once_told() {
    let dir = with(0);
    let (code, told) = set_password(dir.path(), "short\n");
    assert!(code == Some(2) && told.contains("8 characters"), "{code:?} {told}");
    let daemon = Daemon::start(dir.path(), &["--user", "me"]);
    let list = |headers: &[&str]| daemon.raw("GET", "/api/v1/torrents", headers, b"").status;
    // me:correct horse
    let basic = "authorization: Basic bWU6Y29ycmVjdCBob3JzZQ==";
    assert_eq!(list(&["host: localhost", basic]), 401);
    assert_eq!(set_password(dir.path(), "correct horse\n").0, Some(0));
    assert_eq!(list(&["host: localhost", basic]), 200);
    let link = |token: &str| daemon.raw("GET", &format!("/?token={token}"), &["host: localhost"], b"");
    assert_eq!(link("wrong").status, 401);
    let answer = link(&daemon.token);
    assert_eq!(answer.status, 303, "{answer:?}");
    let set = answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(set.contains(part), "{set}");
    }
    let cookie = format!("cookie: {}", set.split(';').next().unwrap());
    assert_eq!(list(&["host: localhost", &cookie]), 200);
    assert_eq!(list(&["host: localhost", &cookie, "origin: http://evil.example"]), 403);
    assert_eq!(list(&["host: evil.example", &cookie]), 421);
    assert_eq!(set_password(dir.path(), "battery staple\n").0, Some(0));
    assert_eq!(list(&["host: localhost", &cookie]), 401);
    assert_eq!(list(&["host: localhost", basic]), 401);
    daemon.stop();
}

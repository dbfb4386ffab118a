//! What strangers send to a daemon, and what pages of other sites have a browser send: bounds, one meaning, and who gets in.

mod common;

use base64::Engine as _;
use common::Running;
use common::client::{Client, FORM, JSON, form, metainfo, service, with_tree};
use common::daemon::{Answer, Daemon, set_password};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

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

//! Sessions and trackers, good and odd: whatever a tracker does, the transfer goes on, and the user hears of it once.

mod common;

use common::tracker::{Say, Scripted, parameter, peers};
use common::{Swarm, get, publish, session, session_on};
use std::sync::Arc;
use std::time::Duration;
use swarm_core::metainfo::Metainfo;
use swarm_engine::{AddTorrent, Event, EventReceiver, TorrentHandle};
use tempfile::TempDir;
use url::Url;

for_both_families![
    a_tracker_that_fails_is_named_and_the_next_one_serves,
    a_tracker_that_keeps_us_waiting_stops_neither_the_transfer_nor_the_end,
    redirects_lead_to_another_tracker,
    a_metainfo_file_reaches_no_other_service_of_this_machine,
    a_redirect_of_a_metainfo_files_tracker_is_checked_as_well,
    a_trackers_id_goes_back_to_it_and_the_end_is_told,
    a_warning_is_shown_once_and_intervals_have_a_floor,
    trackers_hear_how_a_seed_stands_from_the_first_announce_to_the_last,
];

/// Downloads it all by these trackers, and returns what was said of the first one.
async fn download_by(swarm: &Swarm, trackers: &[String]) -> String {
    let getter = session(&swarm.ip);
    let torrent = getter.add(swarm.download(trackers)).await.unwrap();
    let mut events = torrent.events();
    let said = said_of(&trackers[0], &mut events).await;
    torrent.completed().await.unwrap();
    swarm.check();
    getter.stop().await;
    said
}

/// The first thing that is heard of a tracker.
async fn said_of(tracker: &str, events: &mut EventReceiver) -> String {
    loop {
        match events.next().await.expect("the tracker is asked") {
            Event::Announced { url, peers, .. } if url == tracker => return format!("{peers} peers"),
            Event::Warning(text) if text.starts_with(tracker) => return text,
            _ => {}
        }
    }
}

/// Waits until the tracker has told of peers, and returns how many.
async fn announced(events: &mut EventReceiver) -> usize {
    loop {
        if let Event::Announced { peers, .. } = events.next().await.expect("the tracker answers") {
            return peers;
        }
    }
}

async fn next_announce(torrent: &TorrentHandle) -> Duration {
    torrent.stats().await.unwrap().trackers[0].next_announce.expect("it will be asked again")
}

async fn a_tracker_that_fails_is_named_and_the_next_one_serves(ip: &str) {
    let swarm = Swarm::new(ip).await;
    let good = Scripted::always(ip, Say::ok(peers(&[swarm.seeder_addr()]))).await;
    let cut = Say::All(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nd8:intervali1800e".to_vec());
    let endless = Say::ForEver {
        first: b"HTTP/1.1 200 OK\r\n\r\nd5:peers9999999:".to_vec(),
        then: vec![b'x'; 65_536],
        pause: Duration::ZERO,
    };
    // Where nothing is expected, the text is that of the HTTP library.
    let odd = [
        (Say::ok(""), "not bencoded"),
        (Say::ok("<html><body>It works!</body></html>"), "not bencoded"),
        (Say::ok("le"), "not a dictionary"),
        (Say::ok("d8:intervali1800e5:peers6:abc"), "not bencoded"),
        (Say::ok([b"d8:interval".as_slice(), &vec![b'l'; 100_000]].concat()), "not bencoded"),
        (Say::ok("d14:failure reason12:unregisterede"), "refused: unregistered"),
        (Say::response("500 Oops", "", b"d14:failure reason8:overloade"), "refused: overload"),
        (Say::response("500 Oops", "", &peers(&[swarm.seeder_addr()])), "HTTP status 500"),
        (
            Say::response("404 Not Found", "Content-Type: text/html\r\n", b"<h1>Not Found</h1>"),
            "HTTP status 404",
        ),
        (Say::response("200 OK", "Content-Encoding: gzip\r\n", b"d8:intervali1800ee"), ""),
        (Say::redirect("/announce?once more"), "more than 5 redirects"),
        (Say::redirect("ftp://127.0.0.1/announce"), "redirects to a ftp: URL"),
        (Say::redirect("udp://127.0.0.1:6969/announce"), "redirects to a udp: URL"),
        (Say::All(Vec::new()), ""),
        (Say::All(b"220 mail.example ESMTP\r\n".to_vec()), ""),
        (cut, ""),
        (endless, "longer than 1048576 bytes"),
    ];
    for (say, expected) in odd {
        let bad = Scripted::always(ip, say).await;
        let (bad, good) = (bad.url("/announce"), good.url("/announce"));
        let said = download_by(&swarm, &[bad.clone(), good]).await;
        assert!(said.starts_with(&format!("{bad}: ")) && said.contains(expected), "{expected}: {said}");
        swarm.forget();
    }
}

#[tokio::test]
async fn odd_but_usable_replies_are_used() {
    let swarm = Swarm::new("127.0.0.1").await;
    let port = swarm.seeder_addr().port();
    let with_seeder = |junk: &[u8]| {
        let mut list = junk.to_vec();
        list.extend([127, 0, 0, 1].into_iter().chain(port.to_be_bytes()));
        let mut reply = format!("d8:intervali1800e5:peers{}:", list.len()).into_bytes();
        reply.extend(list);
        reply.push(b'e');
        Say::ok(reply)
    };
    let entry = |ip: &str, port: i64| format!("d2:ip{}:{ip}4:porti{port}ee", ip.len());
    let entries = [
        entry("127.0.0.1", port.into()),
        entry("::1", 1),
        entry("no host", 1),
        entry("127.0.0.1", 0),
        entry("127.0.0.1", -1),
        entry("127.0.0.1", 1 << 16),
        "i7ede".to_owned(),
    ];
    let dictionaries = format!("d8:intervali1800e5:peersl{}ee", entries.concat());
    let listed = [b"d5:peersl6:\x7f\0\0\x01".as_slice(), &port.to_be_bytes(), b"ee"].concat();
    // Told of by its name, the peer is found, too.
    let named = format!("d5:peersl{}ee", entry("localhost", port.into()));
    let cases = [
        // Dictionaries; port 0, names and nonsense left out.
        (Say::ok(dictionaries), "2 peers"),
        (Say::ok(listed), "1 peers"),
        (Say::ok(named), "0 peers"),
        // Multicast, broadcast, nobody, and port 0.
        (
            with_seeder(&[
                224, 0, 0, 1, 0, 80, 255, 255, 255, 255, 0, 80, 0, 0, 0, 0, 0, 80, 1, 2, 3, 4, 0, 0,
            ]),
            "4 peers",
        ),
        (Say::response("200 OK", "Content-Type: text/html\r\n", &peers(&[swarm.seeder_addr()])), "1 peers"),
        (Say::ok([peers(&[swarm.seeder_addr()]), b"\r\n<!-- ad -->".to_vec()].concat()), "1 peers"),
    ];
    for (say, expected) in cases {
        let tracker = Scripted::always("127.0.0.1", say).await;
        assert_eq!(download_by(&swarm, &[tracker.url("/announce")]).await, expected);
        swarm.forget();
    }
}

#[tokio::test]
async fn a_reply_without_peers_or_with_nonsense_is_named_once() {
    let swarm = Swarm::new("127.0.0.1").await;
    let entry = |ip: &str| format!("d2:ip{}:{ip}4:porti1ee", ip.len());
    // Too long for a part of a host's name: no server is asked.
    let nobody = "x".repeat(64);
    for (reply, expected) in [
        ("d8:intervali1800ee".to_owned(), "its reply has no list of peers"),
        (
            format!("d5:peersl{}{}ee", entry("no host"), entry("a/b")),
            "some peers in its reply make no sense, and are passed over",
        ),
        (format!("d5:peersl{}ee", entry(&nobody)), &format!("cannot find its peer {nobody}: ")),
    ] {
        let tracker = Scripted::always("127.0.0.1", Say::ok(reply)).await;
        let getter = session("127.0.0.1");
        let torrent = getter.add(swarm.download(&[tracker.url("/announce")])).await.unwrap();
        let mut events = torrent.events();
        let warning = loop {
            if let Event::Warning(text) = events.next().await.expect("there is a warning") {
                break text;
            }
        };
        assert!(warning.starts_with(&format!("{}: {expected}", tracker.url("/announce"))), "{warning}");
        getter.stop().await;
    }
}

#[tokio::test]
async fn trackers_beyond_the_bound_are_named() {
    let swarm = Swarm::new("127.0.0.1").await;
    let mut metainfo = swarm.metainfo.as_ref().clone();
    metainfo.trackers = (0..515).map(|n| vec![format!("wss://nobody.invalid/{n}")]).collect();
    let getter = session("127.0.0.1");
    let torrent = getter.add(get(&Arc::new(metainfo), swarm.target.path(), &[])).await.unwrap();
    let mut events = torrent.events();
    loop {
        if let Event::Warning(text) = events.next().await.expect("there is a warning") {
            assert_eq!(text, "3 trackers are never asked: there are more than 512");
            break;
        }
    }
    getter.stop().await;
}

async fn a_tracker_that_keeps_us_waiting_stops_neither_the_transfer_nor_the_end(ip: &str) {
    let swarm = Swarm::new(ip).await;
    let drip = Say::ForEver {
        first: b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
        then: b"d".to_vec(),
        pause: Duration::from_millis(20),
    };
    for say in [drip, Say::Nothing] {
        let mut slow = Scripted::always(ip, say).await;
        let getter = session(ip);
        let torrent =
            get(&swarm.metainfo, swarm.target.path(), &[&swarm.seeder]).trackers(vec![slow.url("/announce")]);
        let torrent = getter.add(torrent).await.unwrap();
        slow.request().await;
        torrent.completed().await.unwrap();
        tokio::time::timeout(Duration::from_secs(15), torrent.stop()).await.expect("it ends").unwrap();
        swarm.check();
        swarm.forget();
    }
}

async fn redirects_lead_to_another_tracker(ip: &str) {
    let swarm = Swarm::new(ip).await;
    let mut good = Scripted::always(ip, Say::ok(peers(&[swarm.seeder_addr()]))).await;
    let away = good.url("/announce?moved=1");
    let first = Scripted::start(ip, move |url, _| {
        Say::redirect(&format!("{away}&{}", url.query().unwrap_or_default()))
    });
    let first = first.await;
    assert_eq!(download_by(&swarm, &[first.url("/announce")]).await, "1 peers");
    let url = good.request().await;
    assert_eq!(parameter(&url, "moved").as_deref(), Some("1"));
    assert_eq!(parameter(&url, "event").as_deref(), Some("started"));
}

/// The metainfo of a swarm, with this tracker in it.
fn naming(metainfo: &Metainfo, tracker: &str) -> Arc<Metainfo> {
    let mut metainfo = metainfo.clone();
    metainfo.trackers = vec![vec![tracker.to_owned()]];
    Arc::new(metainfo)
}

async fn a_metainfo_file_reaches_no_other_service_of_this_machine(ip: &str) {
    let swarm = Swarm::new(ip).await;
    let reply = Say::ok(peers(&[swarm.seeder_addr()]));
    for (path, by_metainfo, expected) in [
        (
            "/admin?reboot=1",
            true,
            "is this machine, where metainfo and links may name only paths that start with /announce",
        ),
        ("/announce?key=1", true, "1 peers"),
        ("/admin?reboot=1", false, "1 peers"),
    ] {
        let tracker = Scripted::always(ip, reply.clone()).await;
        let url = tracker.url(path);
        let torrent = if by_metainfo {
            get(&naming(&swarm.metainfo, &url), swarm.target.path(), &[])
        } else {
            swarm.download(std::slice::from_ref(&url))
        };
        let getter = session(ip);
        let torrent = getter.add(torrent).await.unwrap();
        let said = said_of(&url, &mut torrent.events()).await;
        assert!(said.contains(expected), "{path}: {said}");
        getter.stop().await;
    }
}

async fn a_redirect_of_a_metainfo_files_tracker_is_checked_as_well(ip: &str) {
    let swarm = Swarm::new(ip).await;
    let mut inside = Scripted::always(ip, Say::ok(peers(&[swarm.seeder_addr()]))).await;
    let outside = Scripted::always(ip, Say::redirect(&inside.url("/admin"))).await;
    let url = outside.url("/announce");
    let getter = session(ip);
    let torrent = getter.add(get(&naming(&swarm.metainfo, &url), swarm.target.path(), &[])).await.unwrap();
    let said = said_of(&url, &mut torrent.events()).await;
    assert!(said.contains("is this machine"), "{said}");
    getter.stop().await;
    let ask = inside.url("/probe").parse().unwrap();
    swarm_engine::fetch(&ask, 1000, &Default::default()).await.unwrap();
    assert_eq!(inside.request().await.path(), "/probe", "nothing came before");
}

#[tokio::test]
async fn each_family_announces_its_own_port_to_the_tracker_that_it_reaches() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6 loopback");
        return;
    }
    let swarm = Swarm::new("127.0.0.1").await;
    let mut v4 = Scripted::always("127.0.0.1", Say::ok(peers(&[]))).await;
    let reply = Say::ok(peers(&[]));
    let mut v6 = Scripted::start("::1", move |_, _| reply.clone()).await;
    let getter = session_on("127.0.0.1", |options| {
        options.listen(["127.0.0.1:0", "[::1]:0"].map(|addr| addr.parse().unwrap()))
    });
    let torrent = swarm.download(&[v4.url("/announce"), v6.url("/announce")]);
    let torrent = getter.add(torrent).await.unwrap();
    let mut events = torrent.events();
    for (tracker, addr) in [(&mut v4, getter.listen_addrs()[0]), (&mut v6, getter.listen_addrs()[1])] {
        let url = tracker.request().await;
        assert_eq!(parameter(&url, "port"), Some(addr.port().to_string()), "{addr}");
    }
    for _ in 0..2 {
        assert_eq!(announced(&mut events).await, 0);
    }
    torrent.stop().await.unwrap();
    while let Some(event) = events.next().await {
        assert!(!matches!(event, Event::Warning(_)), "{event:?}: what one family lacks the other has");
    }
}

#[tokio::test]
async fn a_tracker_out_of_reach_for_every_family_is_named() {
    let swarm = Swarm::new("127.0.0.1").await;
    let getter = session("127.0.0.1");
    let torrent = getter.add(swarm.download(&["http://[::1]:1/announce".to_owned()])).await.unwrap();
    let said = said_of("http://[::1]:1/announce", &mut torrent.events()).await;
    assert!(said.ends_with("the tracker has no IPv4 address"), "{said}");
}

async fn a_trackers_id_goes_back_to_it_and_the_end_is_told(ip: &str) {
    let swarm = Swarm::new(ip).await;
    let mut tracker = Scripted::always(ip, Say::ok("d8:intervali1800e5:peers0:10:tracker id6:a/b&c=e")).await;
    let getter = session(ip);
    let torrent = getter.add(swarm.download(&[tracker.url("/announce")])).await.unwrap();
    let started = tracker.request().await;
    assert_eq!(
        (parameter(&started, "event").as_deref(), parameter(&started, "trackerid")),
        (Some("started"), None)
    );
    announced(&mut torrent.events()).await;
    torrent.stop().await.unwrap();
    let stopped = tracker.request().await;
    assert_eq!(parameter(&stopped, "event").as_deref(), Some("stopped"));
    assert_eq!(parameter(&stopped, "trackerid").as_deref(), Some("a/b&c="));
    assert_eq!(parameter(&stopped, "key"), parameter(&started, "key"));
}

#[tokio::test]
async fn our_own_address_is_told_and_not_dialled() {
    let swarm = Swarm::new("127.0.0.1").await;
    let tracker = Scripted::start("127.0.0.1", |url, _| {
        let port: u16 = parameter(url, "port").and_then(|port| port.parse().ok()).expect("a port");
        let mut reply =
            b"d11:external ip4:\x7f\x00\x00\x018:intervali1800e5:peers6:\x7f\x00\x00\x01".to_vec();
        reply.extend(port.to_be_bytes().into_iter().chain([b'e']));
        Say::ok(reply)
    });
    let tracker = tracker.await;
    let getter = session("127.0.0.1");
    let torrent = getter.add(swarm.download(&[tracker.url("/announce")])).await.unwrap();
    let mut events = torrent.events();
    loop {
        if let Event::Announced { peers, external_ip, .. } = events.next().await.unwrap() {
            assert_eq!((peers, external_ip), (0, Some("127.0.0.1".parse().unwrap())));
            break;
        }
    }
}

async fn a_warning_is_shown_once_and_intervals_have_a_floor(ip: &str) {
    let swarm = Swarm::new(ip).await;
    let hurried = Say::ok("d8:intervali0e12:min intervali-7e5:peers0:15:warning message8:\x1b[2Jmovee");
    let mut tracker = Scripted::always(ip, hurried.clone()).await;
    let getter = session(ip);
    let eager = swarm.download(&[tracker.url("/announce")]).announce_interval_min(Duration::from_millis(10));
    let torrent = getter.add(eager).await.unwrap();
    let mut events = torrent.events();
    for _ in 0..3 {
        tracker.request().await;
    }
    torrent.stop().await.unwrap();
    let mut warnings = Vec::new();
    while let Some(event) = events.next().await {
        if let Event::Warning(text) = event {
            warnings.push(text);
        }
    }
    assert_eq!(
        warnings,
        [format!("{}:  [2Jmove", tracker.url("/announce"))],
        "once, and no control character"
    );

    let tracker = Scripted::always(ip, hurried).await;
    let torrent = getter.add(swarm.download(&[tracker.url("/announce")])).await.unwrap();
    announced(&mut torrent.events()).await;
    let next = next_announce(&torrent).await;
    assert!(next > Duration::from_secs(30) && next <= Duration::from_secs(60), "{next:?}");
}

async fn trackers_hear_how_a_seed_stands_from_the_first_announce_to_the_last(ip: &str) {
    let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let metainfo = publish(source.path(), &[("a.bin", 100_000)], 16_384);
    let mut tracker = Scripted::always(ip, Say::ok(peers(&[]))).await;
    let (seeder, getter) = (session(ip), session(ip));
    let seeding =
        AddTorrent::seed(Arc::clone(&metainfo), source.path()).trackers(vec![tracker.url("/announce")]);
    let seeding = seeder.add(seeding).await.unwrap();
    let tells = |url: &Url| ["event", "left", "uploaded"].map(|name| parameter(url, name).unwrap());
    assert_eq!(tells(&tracker.request().await), ["started", "0", "0"]);
    let torrent = getter.add(get(&metainfo, target.path(), &[&seeder])).await.unwrap();
    torrent.completed().await.unwrap();
    seeding.stop().await.unwrap();
    assert_eq!(tells(&tracker.request().await), ["stopped", "0", "100000"]);
}

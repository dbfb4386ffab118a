//! The tracker over real sockets: what it answers, and what it does about clients that misbehave.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Host, Tracker, announce, impatient};
use swarm_core::id::{InfoHash, PeerId};
use swarm_core::tracker::{ReplyError, RetryIn, ScrapeResponse, ScrapeStats};
use swarm_tracker::{AllowList, BindError, Config, Limits, Server, Source};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

for_both_families![
    peers_find_each_other,
    dictionaries_and_peer_ids_on_request,
    address_named_by_the_client_is_ignored,
    scrape_tells_sizes,
    silence_and_stop_end_a_membership,
    failure_reasons_are_bencoded,
    other_paths_and_methods,
    stats_are_json,
    metrics_are_for_prometheus,
    too_many_requests_are_refused,
    a_proxy_is_believed_if_configured_only,
    torrents_can_be_restricted_while_it_runs,
    the_tracker_id_is_told_if_configured,
    many_requests_on_one_connection,
    pipelined_requests_are_answered_in_order,
    a_request_may_come_byte_by_byte,
    http_1_0_is_served_and_closed,
    garbage_is_refused_and_harms_nobody,
    an_endless_request_is_cut_off,
    half_a_request_is_cut_off_in_time,
    an_idle_connection_is_closed_in_time,
    who_takes_in_no_reply_is_cut_off,
    slow_clients_hold_nobody_up,
    idle_connections_are_evicted_first,
    slow_clients_are_evicted,
    made_up_torrents_are_evicted,
    stop_closes_idle_connections_and_the_port,
    stop_cuts_off_who_does_not_finish,
    dropping_the_handle_stops,
];

async fn peers_find_each_other(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    let first = tracker.get(&announce(1001, "&left=5&event=started")).await;
    assert_eq!(first.status, 200);
    assert_eq!(first.announce().unwrap().peers, []);
    let second = tracker.get(&announce(1002, "&left=0&compact=1")).await.announce().unwrap();
    assert_eq!(
        second.peers.iter().map(|peer| peer.addr).collect::<Vec<_>>(),
        [SocketAddr::new(host.ip(), 1001)]
    );
    assert_eq!((second.complete, second.incomplete), (Some(1), Some(1)));
    assert_eq!(second.external_ip, Some(host.ip()));
    let config = Config::default();
    let about = |interval: Duration| interval..=interval * 17 / 16;
    assert!(about(config.min_interval).contains(&second.interval), "it does not know its swarms yet");
    assert_eq!(second.min_interval, Some(config.min_interval));
    tracker.advance(config.interval * 17 / 16);
    let later = tracker.get(&announce(1002, "&left=0&compact=1")).await.announce().unwrap();
    assert!(about(config.interval).contains(&later.interval));
}

async fn dictionaries_and_peer_ids_on_request(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    tracker.get(&announce(1001, "")).await;
    let listed = tracker.get(&announce(1002, "&compact=0")).await.announce().unwrap().peers;
    assert_eq!(listed[0].addr, SocketAddr::new(host.ip(), 1001));
    assert_eq!(listed[0].id, Some(PeerId(*b"-TEST--01001--------")));
    let anonymous = tracker.get(&announce(1002, "&compact=0&no_peer_id=1")).await;
    assert!(anonymous.body.windows(6).any(|bytes| bytes == b"peersl"), "{}", anonymous.body.escape_ascii());
    assert_eq!(anonymous.announce().unwrap().peers[0].id, None);
}

async fn address_named_by_the_client_is_ignored(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    tracker.get(&announce(1001, "&ip=9.9.9.9&ipv4=9.9.9.9&ipv6=2001:db8::9")).await;
    let other = tracker.get(&announce(1002, "")).await.announce().unwrap();
    assert_eq!(other.peers[0].addr, SocketAddr::new(host.ip(), 1001));
}

async fn scrape_tells_sizes(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    tracker.get(&announce(1001, "&left=0")).await;
    tracker.get(&announce(1002, "&left=5")).await;
    tracker.get(&announce(1003, "&left=0&event=completed")).await;
    let target = format!("/scrape?info_hash={}&info_hash={}", "a".repeat(20), "%00".repeat(20));
    let files = ScrapeResponse::parse(&tracker.get(&target).await.body).unwrap().files;
    assert_eq!(files.len(), 2);
    let stats = ScrapeStats { complete: 2, incomplete: 1, downloaded: 1 };
    assert_eq!(files[&InfoHash([b'a'; 20])], stats);
    assert_eq!(files[&InfoHash([0; 20])], ScrapeStats::default());
}

async fn silence_and_stop_end_a_membership(host: Host) {
    let config = Config { peer_timeout: Duration::from_secs(100), ..Config::default() };
    let tracker = Tracker::start(host, config);
    for port in 1001..=1003 {
        tracker.get(&announce(port, "")).await;
    }
    tracker.get(&announce(1001, "&event=stopped")).await;
    tracker.advance(Duration::from_secs(60));
    tracker.get(&announce(1002, "")).await;
    tracker.advance(Duration::from_secs(60));
    let peers = tracker.get(&announce(1004, "")).await.announce().unwrap().peers;
    assert_eq!(peers.iter().map(|peer| peer.addr.port()).collect::<Vec<_>>(), [1002]);
}

async fn failure_reasons_are_bencoded(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    for (target, expected) in [
        ("/announce", "info_hash"),
        ("/announce?info_hash=short", "20 bytes"),
        ("/announce?info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=aaaaaaaaaaaaaaaaaaaa", "port"),
        ("/scrape", "info_hash"),
    ] {
        let reply = tracker.get(target).await;
        assert_eq!(reply.status, 200, "clients show reasons of replies with status 200 only");
        assert!(reply.failure().contains(expected), "{target}: {}", reply.failure());
    }
    let no_port = announce(0, "");
    assert!(tracker.get(&no_port).await.failure().contains("port 0"));
    let stats = tracker.handle.stats();
    assert_eq!((stats.announces, stats.scrapes, stats.refused, stats.swarms), (4, 1, 5, 0));
}

async fn other_paths_and_methods(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    assert_eq!(tracker.get("/health").await.body, b"ok\n");
    for target in ["/", "/announce/", "/Announce", "//announce", "/%61nnounce"] {
        assert_eq!(tracker.get(target).await.status, 404, "{target}");
    }
    let mut client = tracker.connect().await;
    client.send("HEAD /health HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.head().await.0, 200);
    let mut client = tracker.connect().await;
    client.send("POST /announce HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc").await;
    let (status, head) = client.head().await;
    assert_eq!(status, 405);
    assert!(head.contains("allow: get, head"), "{head}");
}

async fn stats_are_json(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    tracker.get(&announce(1001, "&left=0")).await;
    tracker.get(&announce(1002, "&left=5")).await;
    tracker.advance(Duration::from_secs(7));
    let reply = tracker.get("/stats").await;
    assert!(reply.head.contains("content-type: application/json"), "{}", reply.head);
    let stats: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    for (key, expected) in [
        ("uptime_s", 7),
        ("swarms", 1),
        ("peers", 2),
        ("seeds", 1),
        ("leechers", 1),
        ("announces", 2),
        ("scrapes", 0),
    ] {
        assert_eq!(stats[key], expected, "{key} in {stats}");
    }
}

async fn metrics_are_for_prometheus(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    tracker.get(&announce(1001, "&left=0")).await;
    let reply = tracker.get("/metrics").await;
    assert!(reply.head.contains("content-type: text/plain; version=0.0.4"), "{}", reply.head);
    let text = String::from_utf8(reply.body).unwrap();
    for line in
        ["swarm_tracker_seeds 1", "swarm_tracker_announces_total 1", "# TYPE swarm_tracker_seeds gauge"]
    {
        assert!(text.lines().any(|other| other == line), "{line:?} is not in {text}");
    }
}

async fn too_many_requests_are_refused(host: Host) {
    let config = Config { requests_per_minute_max: Some(3), ..Config::default() };
    let tracker = Tracker::start(host, config);
    for port in 1001..=1003 {
        assert!(tracker.get(&announce(port, "")).await.announce().is_ok());
    }
    let refused = tracker.get(&announce(1004, "")).await;
    assert!(refused.failure().contains("too many requests"), "{}", refused.failure());
    assert!(matches!(refused.announce(), Err(ReplyError::Refused { retry: Some(RetryIn::After(_)), .. })));
    assert_eq!(tracker.get("/health").await.status, 200);
    assert_eq!(tracker.handle.stats().rate_limited, 1);
    tracker.advance(Duration::from_secs(20));
    assert!(tracker.get(&announce(1004, "")).await.announce().is_ok());
}

async fn a_proxy_is_believed_if_configured_only(host: Host) {
    let forwarded = |port, header: &str| format!("GET {} HTTP/1.1\r\n{header}\r\n\r\n", announce(port, ""));
    let ask = async |tracker: &Tracker, request: String| {
        let mut client = tracker.connect().await;
        client.send(request).await;
        client.reply().await
    };
    let direct = Tracker::start(host, Config::default());
    let reply = ask(&direct, forwarded(1001, "X-Forwarded-For: 9.9.9.9")).await;
    assert_eq!(reply.announce().unwrap().external_ip, Some(host.ip()));

    let behind = Tracker::start(host, Config { source: Source::ForwardedFor, ..Config::default() });
    for (header, expected) in [
        ("X-Forwarded-For: 9.9.9.9", "9.9.9.9"),
        ("x-forwarded-for: 1.1.1.1, 2001:db8::9", "2001:db8::9"),
        ("X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 8.8.8.8", "8.8.8.8"),
    ] {
        let reply = ask(&behind, forwarded(1001, header)).await;
        assert_eq!(reply.announce().unwrap().external_ip, Some(expected.parse().unwrap()), "{header}");
    }
    for header in ["X: y", "X-Forwarded-For: unknown", "X-Forwarded-For:", "X-Forwarded-For: 1.1.1.1,"] {
        assert!(ask(&behind, forwarded(1001, header)).await.failure().contains("proxy"), "{header}");
    }
}

async fn torrents_can_be_restricted_while_it_runs(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    assert!(tracker.get(&announce(1001, "")).await.announce().is_ok());
    tracker.handle.store().set_allowed(Some(AllowList::default()));
    assert!(tracker.get(&announce(1001, "")).await.failure().contains("does not serve this torrent"));
    tracker.handle.store().set_allowed(Some([InfoHash([b'a'; 20])].into_iter().collect()));
    assert!(tracker.get(&announce(1001, "")).await.announce().is_ok());
}

async fn the_tracker_id_is_told_if_configured(host: Host) {
    let tracker = Tracker::start(host, Config { tracker_id: Some("t1".into()), ..Config::default() });
    let reply = tracker.get(&announce(1001, "")).await.announce().unwrap();
    assert_eq!(reply.tracker_id.as_deref(), Some(b"t1".as_slice()));
    assert!(tracker.get(&announce(1001, "&trackerid=t1")).await.announce().is_ok());
}

async fn many_requests_on_one_connection(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    let mut client = tracker.connect().await;
    for port in 1001..1030 {
        let known = client.get(&announce(port, "")).await.announce().unwrap().peers.len();
        assert_eq!(known, usize::from(port - 1001));
    }
    assert_eq!(client.get("/nowhere").await.status, 404);
    assert_eq!(client.get("/health").await.status, 200, "the connection has survived");
    assert_eq!(tracker.handle.stats().connections_total, 1);
}

async fn pipelined_requests_are_answered_in_order(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    let mut client = tracker.connect().await;
    let one = |port| format!("GET {} HTTP/1.1\r\nHost: t\r\n\r\n", announce(port, ""));
    client.send(one(1001) + &one(1002) + &one(1003)).await;
    for known in 0..3 {
        assert_eq!(client.reply().await.announce().unwrap().peers.len(), known);
    }
}

async fn a_request_may_come_byte_by_byte(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    let mut client = tracker.connect().await;
    client.stream.set_nodelay(true).unwrap();
    for byte in format!("GET {} HTTP/1.1\r\nHost: t\r\n\r\n", announce(1001, "")).into_bytes() {
        client.send([byte]).await;
        tokio::task::yield_now().await;
    }
    assert!(client.reply().await.announce().is_ok());
}

async fn http_1_0_is_served_and_closed(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    let mut client = tracker.connect().await;
    client.send(format!("GET {} HTTP/1.0\r\n\r\n", announce(1001, ""))).await;
    assert!(client.reply().await.announce().is_ok());
    assert_eq!(client.closed().await, b"");
}

async fn garbage_is_refused_and_harms_nobody(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    for garbage in [
        b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".as_slice(),
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"GET /announce\r\n\r\n",
        b"GET /announce HTTP/3.0\r\n\r\n",
        b"GET /announce HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET /announce?info_hash=\x80\xff HTTP/1.1\r\n\r\n",
        b"\0\0\0\0",
    ] {
        let mut client = tracker.connect().await;
        client.send(garbage).await;
        client.stream.shutdown().await.unwrap();
        let said = client.closed().await;
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 400"), "{}", said.escape_ascii());
    }
    assert_eq!(tracker.get("/health").await.status, 200);
}

async fn an_endless_request_is_cut_off(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    for start in ["GET /announce?", "GET /announce HTTP/1.1\r\nX: "] {
        let mut client = tracker.connect().await;
        client.send(start).await;
        let endless = [b'x'; 4096];
        while client.stream.write_all(&endless).await.is_ok() {}
    }
    assert_eq!(tracker.get("/health").await.status, 200);
}

async fn half_a_request_is_cut_off_in_time(host: Host) {
    let tracker = Tracker::start(host, impatient());
    let mut client = tracker.connect().await;
    client.send("GET /health HTTP/1.1\r\nHost:").await;
    let said = client.closed().await;
    assert!(!said.starts_with(b"HTTP/1.1 200"), "{}", said.escape_ascii());
}

async fn an_idle_connection_is_closed_in_time(host: Host) {
    let tracker = Tracker::start(host, impatient());
    tracker.connect().await.closed().await;
    let mut client = tracker.connect().await;
    assert_eq!(client.get("/health").await.status, 200);
    client.closed().await;
}

async fn who_takes_in_no_reply_is_cut_off(host: Host) {
    let tracker = Tracker::start(host, impatient());
    let socket = match host {
        Host::V4 => TcpSocket::new_v4(),
        Host::V6 => TcpSocket::new_v6(),
    }
    .unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(tracker.addr).await.unwrap();
    let requests = "GET /stats HTTP/1.1\r\n\r\n".repeat(1000);
    // Ends when the tracker, unable to write, gives up reading and then the connection.
    while stream.write_all(requests.as_bytes()).await.is_ok() {}
}

async fn slow_clients_hold_nobody_up(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    let mut slow = Vec::new();
    for _ in 0..slow_clients() {
        let mut client = tracker.connect().await;
        client.send("GET /announce?info_hash=").await;
        slow.push(client);
    }
    for port in 1001..1010 {
        assert!(tracker.get(&announce(port, "")).await.announce().is_ok());
    }
    assert!(tracker.handle.stats().connections >= slow.len() as u64, "all are still being served");
}

/// 2,000, or as many as descriptors last for: both ends are in this process, of two tests at a time.
fn slow_clients() -> usize {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).expect("up to the hard limit it may be raised");
        let descriptors = limit.current.unwrap_or(u64::MAX);
        usize::try_from(descriptors / 8).unwrap_or(usize::MAX).min(2000)
    }
    #[cfg(not(unix))]
    500
}

async fn idle_connections_are_evicted_first(host: Host) {
    let limits = Limits { connections_max: 2, ..Limits::default() };
    let tracker = Tracker::start(host, Config { limits, ..Config::default() });
    let mut slow = tracker.connect().await;
    slow.send("GET /health HTTP/1.1\r\nHost: half").await;
    let mut idle = tracker.connect().await;
    assert_eq!(idle.get("/health").await.status, 200);
    assert_eq!(tracker.get("/health").await.status, 200);
    assert_eq!(idle.closed().await, b"");
    slow.send(" of it\r\n\r\n").await;
    assert_eq!(slow.reply().await.status, 200, "who is not idle is served");
}

async fn slow_clients_are_evicted(host: Host) {
    const PLACES: usize = 20;
    let limits = Limits { connections_max: PLACES, ..Limits::default() };
    let tracker = Tracker::start(host, Config { limits, ..Config::default() });
    let mut slow = Vec::new();
    for nth in 0..10 * PLACES {
        let mut client = tracker.connect().await;
        client.send(if nth % 2 == 0 { "GET /announce?info_hash=" } else { "" }).await;
        slow.push(client);
        let port = 1001 + nth as u16;
        assert!(tracker.get(&announce(port, "")).await.announce().is_ok());
    }
    assert_eq!(tracker.handle.stats().peers, 10 * PLACES);
    assert!(tracker.handle.stats().connections <= PLACES as u64);
    slow[0].closed().await;
}

async fn made_up_torrents_are_evicted(host: Host) {
    let limits = Limits { swarms_max: 10, ..Limits::default() };
    let tracker = Tracker::start(host, Config { limits, ..Config::default() });
    for nth in 0..30 {
        let made_up = format!("/announce?info_hash={nth:020}&peer_id={nth:020}&port=9&left=0");
        assert!(tracker.get(&made_up).await.announce().is_ok());
    }
    assert!(tracker.get(&announce(1001, "&left=0")).await.announce().is_ok());
    let target = format!("/scrape?info_hash={}&info_hash={:020}", "a".repeat(20), 15);
    let files = ScrapeResponse::parse(&tracker.get(&target).await.body).unwrap().files;
    assert_eq!(files[&InfoHash([b'a'; 20])].complete, 1);
    assert!(files.values().any(|stats| *stats == ScrapeStats::default()));
    let stats = tracker.handle.stats();
    assert_eq!((stats.swarms, stats.displaced, stats.refused), (10, 21, 0));
}

async fn stop_closes_idle_connections_and_the_port(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    let mut idle = tracker.connect().await;
    assert_eq!(idle.get("/health").await.status, 200);
    tracker.handle.stop().await;
    assert_eq!(idle.closed().await, b"");
    assert!(TcpStream::connect(tracker.addr).await.is_err());
}

async fn stop_cuts_off_who_does_not_finish(host: Host) {
    let limits = Limits { stop_timeout: Duration::from_millis(50), ..Limits::default() };
    let tracker = Tracker::start(host, Config { limits, ..Config::default() });
    let mut slow = tracker.connect().await;
    slow.send("GET /health HTTP/1.1\r\nHost:").await;
    assert_eq!(tracker.get("/health").await.status, 200);
    tracker.handle.stop().await;
    slow.closed().await;
}

async fn dropping_the_handle_stops(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    let mut idle = tracker.connect().await;
    assert_eq!(idle.get("/health").await.status, 200);
    drop(tracker);
    assert_eq!(idle.closed().await, b"");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let tracker = Tracker::start(Host::V4, Config::default());
    let Err(BindError { addr, .. }) = Server::bind(Config::default(), &[tracker.addr]) else {
        panic!("two trackers on one port");
    };
    assert_eq!(addr, tracker.addr);
}

#[tokio::test]
async fn one_tracker_serves_both_families() {
    if !Host::V6.is_there() {
        return;
    }
    let addrs = [Host::V4, Host::V6].map(|host| SocketAddr::new(host.ip(), 0));
    let tracker = Server::bind(Config::default(), &addrs).unwrap().spawn();
    for (nth, &addr) in tracker.local_addrs().iter().enumerate() {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let target = announce(1001 + nth as u16, "");
        stream.write_all(format!("GET {target} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
        let mut reply = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut reply).await.unwrap();
        assert!(reply.starts_with(b"HTTP/1.0 200"), "{}", reply.escape_ascii());
    }
    assert_eq!((tracker.stats().swarms, tracker.stats().peers), (1, 2));
}

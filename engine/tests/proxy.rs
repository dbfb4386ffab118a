//! Sessions behind a proxy: everything goes through it, and what cannot go through it does not go.

mod common;

use common::origin::Origin;
use common::proxy::{Manners, Proxy};
use common::tracker::{Say, Scripted, parameter, peers};
use common::{Swarm, peer_of, seed, session_with_dht, stats_until, until};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use swarm_core::metainfo::{Magnet, Metainfo};
use swarm_core::net::Family;
use swarm_core::tracker::udp::{ConnectionId, Request, Response};
use swarm_core::tracker::{AnnounceResponse, TrackerPeer};
use swarm_core::wire::extension::ExtensionHandshake;
use swarm_core::wire::handshake::{HANDSHAKE_LEN, Handshake};
use swarm_engine::dht::Dht;
use swarm_engine::{
    AddTorrent, DhtOptions, Event, IpFilter, IpFilterSource, IpRange, Session, SessionOptions, TorrentHandle,
    Waiting,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

const IP: &str = "127.0.0.1";

fn behind(proxy: swarm_engine::Proxy) -> SessionOptions {
    SessionOptions::new().dht(None).proxy(proxy)
}

fn start(options: SessionOptions) -> Session {
    let session = Session::start(options).unwrap();
    assert!(session.listen_addrs().is_empty(), "nobody asked it to listen");
    session
}

fn names(names: &[(&str, SocketAddr)]) -> BTreeMap<String, SocketAddr> {
    names.iter().map(|(name, addr)| (format!("{name}:{}", addr.port()), *addr)).collect()
}

async fn gets_it_all(swarm: &Swarm, options: SessionOptions) {
    let getter = start(options);
    let torrent = getter.add(swarm.get()).await.unwrap();
    torrent.completed().await.unwrap();
    swarm.check();
    getter.stop().await;
}

async fn waiting(torrent: &TorrentHandle, is_it: impl Fn(&Waiting) -> bool) -> Waiting {
    let stats = stats_until(torrent, |stats| stats.waiting.as_ref().is_some_and(&is_it)).await;
    stats.waiting.expect("it was there")
}

#[tokio::test]
async fn a_transfer_goes_through_a_proxy_that_knows_us() {
    let swarm = Swarm::new(IP).await;
    for drips in [false, true] {
        let manners = Manners { login: Some(("us er", "pa:ss")), drips, ..Manners::default() };
        for (scheme, login) in [("socks5", "us%20er:pa%3Ass@"), ("http", "us%20er:pa:ss@")] {
            let proxy = Proxy::start(manners.clone()).await;
            gets_it_all(&swarm, behind(proxy.url(scheme, login))).await;
            assert_eq!(proxy.asked(), [swarm.seeder_addr().to_string()], "{scheme}");
            swarm.forget();
        }
    }
}

#[tokio::test]
async fn trackers_are_asked_by_name_and_hear_of_no_address_of_ours() {
    let swarm = Swarm::new(IP).await;
    for scheme in ["socks5", "http"] {
        let mut tracker = Scripted::always(IP, Say::ok(peers(&[swarm.seeder_addr()]))).await;
        let names = names(&[("tracker.test", tracker.addr)]);
        let proxy = Proxy::start(Manners { names, ..Manners::default() }).await;
        let getter = start(behind(proxy.url(scheme, "")));
        let url = format!("http://tracker.test:{}/announce", tracker.addr.port());
        let torrent = getter.add(swarm.download(&[url])).await.unwrap();
        // Peers of a tracker that is known by name are not ones of the proxy's own machine.
        let announce = tracker.request().await;
        assert_eq!(parameter(&announce, "port").as_deref(), Some("1"));
        for name in ["ip", "ipv4", "ipv6"] {
            assert_eq!(parameter(&announce, name), None, "{announce}");
        }
        assert!(proxy.asked().contains(&format!("tracker.test:{}", tracker.addr.port())));
        torrent.stop().await.unwrap();
        assert_eq!(tracker.until_event("stopped").await.len(), 1, "once, whatever family the proxy uses");
        getter.stop().await;
    }
}

#[tokio::test]
async fn metainfo_and_web_seeds_come_through_the_proxy() {
    let swarm = Swarm::new(IP).await;
    let body = std::fs::read(swarm.source.path().join("data/a.bin")).unwrap();
    let files = [("/data/a.bin".to_owned(), body)].into_iter().collect();
    let origin = Origin::of(files).await;
    let port = origin.addr.port();
    for scheme in ["socks5", "http"] {
        let names = names(&[("origin.test", origin.addr)]);
        let proxy = Proxy::start(Manners { names, ..Manners::default() }).await;
        let options = behind(proxy.url(scheme, ""));
        let url = format!("http://origin.test:{port}/data/a.bin").parse().unwrap();
        let fetched = swarm_engine::fetch(&url, 1 << 20, &options).await.unwrap();
        assert_eq!(fetched.len(), 100_000);
        assert_eq!(proxy.asked(), [format!("origin.test:{port}")]);
        let getter = start(options);
        let torrent = swarm.download(&[]).web_seeds([format!("http://origin.test:{port}/")]);
        getter.add(torrent).await.unwrap().completed().await.unwrap();
        swarm.check();
        let asked = proxy.asked();
        assert!(
            asked.len() > 1 && asked.iter().all(|asked| *asked == format!("origin.test:{port}")),
            "{asked:?}"
        );
        getter.stop().await;
        swarm.forget();
    }
}

#[tokio::test]
async fn a_udp_tracker_is_asked_by_name_over_a_relay_at_the_proxys_own_address() {
    let swarm = Swarm::new(IP).await;
    let socket = UdpSocket::bind((IP, 0)).await.unwrap();
    let addr = socket.local_addr().unwrap();
    let peer = swarm.seeder_addr();
    let (told, mut announced) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut datagram = vec![0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut datagram).await {
            let response = match Request::parse(&datagram[..len]).unwrap() {
                Request::Connect { transaction } => {
                    Response::Connect { transaction, connection: ConnectionId(7) }
                }
                Request::Announce { transaction, announce, .. } => {
                    told.send(announce.port).unwrap();
                    let peers = vec![TrackerPeer { addr: peer, id: None }];
                    let response = AnnounceResponse {
                        interval: Duration::from_secs(1800),
                        min_interval: None,
                        tracker_id: None,
                        complete: Some(1),
                        incomplete: Some(0),
                        downloaded: None,
                        external_ip: None,
                        warning: None,
                        peers,
                        oddities: Default::default(),
                    };
                    Response::Announce { transaction, response }
                }
                other => panic!("not what a client sends: {other:?}"),
            };
            let mut reply = Vec::new();
            response.encode(Family::V4, &mut reply);
            socket.send_to(&reply, from).await.unwrap();
        }
    });
    let names = names(&[("tracker.test", addr)]);
    let proxy = Proxy::start(Manners { names, relays: true, ..Manners::default() }).await;
    let getter = start(behind(proxy.url("socks5", "")));
    // Peers of a tracker that is known by name are not ones of the proxy's own machine.
    let by_name = format!("udp://tracker.test:{}/announce", addr.port());
    let torrent = getter.add(swarm.download(&[by_name])).await.unwrap();
    assert_eq!(announced.recv().await, Some(1), "the port");
    torrent.stop().await.unwrap();
    assert_eq!(
        proxy.asked(),
        ["udp", "udp tracker.test:P", "udp tracker.test:P", "udp tracker.test:P"]
            .map(|asked| { asked.replace('P', &addr.port().to_string()) })
    );
    let torrent = getter.add(swarm.download(&[format!("udp://{addr}/announce")])).await.unwrap();
    torrent.completed().await.unwrap();
    swarm.check();
    getter.stop().await;
}

#[tokio::test]
async fn utp_goes_over_a_relay_and_nothing_goes_where_there_is_none() {
    let swarm = Swarm::new(IP).await;
    let proxy = Proxy::start(Manners { relays: true, ..Manners::default() }).await;
    let getter = start(behind(proxy.url("socks5", "")).tcp(false));
    let torrent = getter.add(swarm.get().download_limit(0)).await.unwrap();
    assert!(peer_of(&torrent).await.utp);
    torrent.set_download_limit(None);
    torrent.completed().await.unwrap();
    swarm.check();
    getter.stop().await;
    let (asked, datagrams) = (proxy.asked(), format!("udp {}", swarm.seeder_addr()));
    assert_eq!(asked[0], "udp");
    assert!(asked.len() > 10 && asked[1..].iter().all(|asked| *asked == datagrams), "{asked:?}");

    swarm.forget();
    let proxy = Proxy::start(Manners::default()).await;
    let getter = start(behind(proxy.url("socks5", "")).tcp(false));
    let torrent = getter.add(swarm.get()).await.unwrap();
    let said = waiting(&torrent, |waiting| matches!(waiting, Waiting::Proxy(_))).await.to_string();
    assert!(said.contains("carries no datagrams"), "{said}");
    getter.stop().await;
}

/// Most proxies carry TCP only: Tor, and `ssh -D`.
#[tokio::test]
async fn a_peer_whose_turn_it_is_over_utp_is_reached_over_tcp_where_the_proxy_has_no_relay() {
    let swarm = Swarm::new(IP).await;
    let proxy = Proxy::start(Manners::default()).await;
    // It hangs up until a relay has been refused. So the first dial, over both, fails, and the next one begins with uTP.
    let front = TcpListener::bind((IP, 0)).await.unwrap();
    let (addr, seeder) = (front.local_addr().unwrap(), swarm.seeder_addr());
    let getter = start(behind(proxy.url("socks5", "")));
    let transfer = async {
        let torrent = getter.add(swarm.download(&[]).peers([addr])).await.unwrap();
        torrent.completed().await.unwrap();
    };
    let serve = async {
        let mut is_refused = false;
        loop {
            let (mut stream, _) = front.accept().await.unwrap();
            is_refused |= proxy.refused() > 0;
            if is_refused {
                let mut to = tokio::net::TcpStream::connect(seeder).await.unwrap();
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut to).await });
            }
        }
    };
    tokio::select! {
        () = transfer => {}
        () = serve => {}
    }
    swarm.check();
    getter.stop().await;
}

#[tokio::test]
async fn the_dht_is_joined_by_name_over_a_relay_and_finds_peers() {
    for (ip, family) in [(IP, Family::V4), ("::1", Family::V6)] {
        finds_peers_by_the_dht(ip, family).await;
    }
}

async fn finds_peers_by_the_dht(ip: &str, family: Family) {
    let swarm = Swarm::new(ip).await;
    let node = Dht::open(&[SocketAddr::new(ip.parse().unwrap(), 0)], None, false).unwrap();
    let addr = node.local_addr(family).unwrap();
    let names = names(&[("node.test", addr)]);
    let proxy = Proxy::start(Manners { names, relays: true, ..Manners::default() }).await;
    let test = async {
        let seeder = session_with_dht(ip, &[addr]);
        seed(&seeder, &swarm.metainfo, swarm.source.path()).await;
        let bootstrap = DhtOptions::bootstrap([format!("node.test:{}", addr.port())]);
        let getter = start(behind(proxy.url("socks5", "")).dht(bootstrap));
        let torrent = getter.add(swarm.download(&[])).await.unwrap();
        torrent.completed().await.unwrap();
        swarm.check();
        getter.stop().await;
        seeder.stop().await;
    };
    tokio::select! {
        () = test => {}
        () = node.run(|_| ()) => unreachable!("it has no end"),
    }
    let peers = node.stored().1;
    assert_eq!(peers, 1, "the seed is announced, who is behind the proxy is not");
}

#[tokio::test]
async fn what_a_proxy_does_not_carry_does_not_go() {
    let swarm = Swarm::new(IP).await;
    let silent = UdpSocket::bind((IP, 0)).await.unwrap();
    let addr = silent.local_addr().unwrap();
    for scheme in ["socks5", "http"] {
        let proxy = Proxy::start(Manners::default()).await;
        let options = behind(proxy.url(scheme, "")).dht(DhtOptions::bootstrap([addr.to_string()])).lsd(true);
        let getter = start(options);
        let torrent = swarm.download(&[format!("udp://{addr}/announce")]);
        let torrent = getter.add(torrent).await.unwrap();
        let warning = until(&mut torrent.events(), |event| matches!(event, Event::Warning(_))).await;
        let Event::Warning(text) = warning else { unreachable!() };
        assert!(text.contains("the proxy carries no datagrams (UDP)"), "{text}");
        getter.stop().await;
    }
    assert!(silent.try_recv(&mut [0; 64]).is_err(), "nothing has come another way");
}

#[tokio::test]
async fn a_proxy_that_does_not_serve_us_is_told_of_and_gone_round_by_nobody() {
    let swarm = Swarm::new(IP).await;
    let login = Some(("user", "password"));
    for (manners, scheme, reason) in [
        (Manners { login, ..Manners::default() }, "socks5", "wants a user and a password"),
        (Manners { login, ..Manners::default() }, "http", "wants a user and a password"),
        (
            Manners { garbage: Some(b"HTTP/1.1 400 Bad\r\n\r\n"), ..Manners::default() },
            "socks5",
            "no such proxy",
        ),
        (Manners { garbage: Some(b"\x05\x00"), ..Manners::default() }, "http", "no such proxy"),
        (Manners { garbage: Some(b""), ..Manners::default() }, "socks5", "cannot be reached"),
        (Manners { refuses: Some(7), ..Manners::default() }, "socks5", "does not carry connections"),
    ] {
        let proxy = Proxy::start(manners).await;
        let getter = start(behind(proxy.url(scheme, "")));
        let torrent = getter.add(swarm.get()).await.unwrap();
        let said = waiting(&torrent, |waiting| matches!(waiting, Waiting::Proxy(_))).await.to_string();
        assert!(said.contains(reason), "{said}");
        getter.stop().await;
    }
    let proxy = Proxy::start(Manners { login, ..Manners::default() }).await;
    let getter = start(behind(proxy.url("socks5", "user:s3cret@")));
    let torrent = getter.add(swarm.get()).await.unwrap();
    let said = waiting(&torrent, |waiting| matches!(waiting, Waiting::Proxy(_))).await.to_string();
    assert!(said.contains("refuses the user and password") && !said.contains("s3cret"), "{said}");
    getter.stop().await;
    assert_eq!(swarm.seeding.stats().await.unwrap().totals.bytes_up, 0, "nobody has come another way");
}

#[tokio::test]
async fn a_destination_that_the_proxy_cannot_reach_is_not_the_proxys_fault() {
    let swarm = Swarm::new(IP).await;
    for code in [1, 2, 4, 5, 99] {
        let proxy = Proxy::start(Manners { refuses: Some(code), ..Manners::default() }).await;
        let getter = start(behind(proxy.url("socks5", "")));
        let torrent = getter.add(swarm.get()).await.unwrap();
        waiting(&torrent, |waiting| matches!(waiting, Waiting::Unreachable { .. })).await;
        assert!(!proxy.asked().is_empty(), "answer {code}");
        getter.stop().await;
    }
}

#[tokio::test]
async fn when_the_proxy_is_gone_nothing_goes_and_when_it_is_back_the_transfer_goes_on() {
    let swarm = Swarm::of(IP, &[("a.bin", 2_000_000)]).await;
    let proxy = Proxy::start(Manners::default()).await;
    let (addr, url) = (proxy.addr, proxy.url("socks5", ""));
    let getter = start(behind(url).download_limit(400_000));
    let torrent = getter.add(swarm.get()).await.unwrap();
    until(&mut torrent.events(), |event| matches!(event, Event::PieceVerified(_))).await;
    proxy.end().await;
    waiting(&torrent, |waiting| matches!(waiting, Waiting::Proxy(_))).await;
    let sent = swarm.seeding.stats().await.unwrap();
    assert_eq!(sent.peers, 0, "the connection has ended with the proxy, and no other was made");
    getter.set_download_limit(None);
    let proxy = Proxy::start_at(addr, Manners::default()).await;
    torrent.completed().await.unwrap();
    swarm.check();
    assert_eq!(proxy.asked(), [swarm.seeder_addr().to_string()]);
    getter.stop().await;
}

#[tokio::test]
async fn peers_are_told_no_address_and_no_port() {
    let swarm = Swarm::new(IP).await;
    let listener = TcpListener::bind((IP, 0)).await.unwrap();
    let proxy = Proxy::start(Manners::default()).await;
    let getter = start(behind(proxy.url("socks5", "")));
    let torrent = swarm.download(&[]).peers([listener.local_addr().unwrap()]);
    let _torrent = getter.add(torrent).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut bytes).await.unwrap();
    let theirs = Handshake::decode(&bytes).unwrap().unwrap();
    let ours = Handshake { peer_id: swarm_engine::PeerId([7; 20]), ..theirs };
    stream.write_all(&ours.encode()).await.unwrap();
    let hello = loop {
        let mut message = vec![0; stream.read_u32().await.unwrap() as usize];
        stream.read_exact(&mut message).await.unwrap();
        if message.starts_with(&[20, 0]) {
            break ExtensionHandshake::decode(&message[2..]).unwrap();
        }
        assert_ne!(message.first(), Some(&9), "no port of a node of the DHT either");
    };
    assert_eq!((hello.listen_port, hello.ipv4, hello.ipv6), (None, None, None));
    getter.stop().await;
}

#[tokio::test]
async fn a_session_that_is_told_to_listen_does_and_says_where() {
    let swarm = Swarm::new(IP).await;
    let mut tracker = Scripted::always(IP, Say::ok(peers(&[]))).await;
    let proxy = Proxy::start(Manners::default()).await;
    let options = behind(proxy.url("socks5", "")).listen([SocketAddr::new(IP.parse().unwrap(), 0)]);
    let getter = Session::start(options).unwrap();
    let port = getter.listen_addrs()[0].port();
    let torrent = getter.add(swarm.download(&[tracker.url("/announce")])).await.unwrap();
    assert_eq!(parameter(&tracker.request().await, "port"), Some(port.to_string()));
    torrent.stop().await.unwrap();
    getter.stop().await;
}

#[tokio::test]
async fn no_socket_is_opened_that_goes_past_the_proxy() {
    let swarm = Swarm::new(IP).await;
    let gateway = UdpSocket::bind((IP, 0)).await.unwrap();
    for relays in [false, true] {
        let proxy = Proxy::start(Manners { relays, ..Manners::default() }).await;
        let options = behind(proxy.url("socks5", "")).listen([SocketAddr::new(IP.parse().unwrap(), 0)]);
        let options = options.dht(DhtOptions::bootstrap([format!("{IP}:9")])).utp(true).port_mapping(true);
        let getter = Session::start(options.gateway(gateway.local_addr().unwrap())).unwrap();
        let torrent = getter.add(swarm.get()).await.unwrap();
        torrent.completed().await.unwrap();
        let udp = UdpSocket::bind(getter.listen_addrs()[0]).await;
        assert!(udp.is_ok(), "neither uTP nor the DHT has the UDP port of the same number");
        getter.stop().await;
        swarm.forget();
    }
    assert!(gateway.try_recv(&mut [0; 64]).is_err(), "the gateway is asked for nothing");
    let proxy = Proxy::start(Manners::default()).await;
    let started = Session::start(behind(proxy.url("http", "")).tcp(false));
    let Err(error) = started else { panic!("no way is left") };
    assert!(error.to_string().contains("no way to a peer"), "{error}");
}

#[tokio::test]
async fn the_ip_filter_holds_before_the_proxy_is_asked() {
    let swarm = Swarm::new(IP).await;
    let proxy = Proxy::start(Manners::default()).await;
    let bad = "127.0.0.5".parse().unwrap();
    let filter = IpFilter::new([IpRange::new(bad, bad).unwrap()]);
    let getter = start(behind(proxy.url("socks5", "")).ip_filter(IpFilterSource::from(filter)));
    let tracker = "http://127.0.0.5:8/announce";
    let torrent = swarm.download(&[tracker.to_owned()]).peers([SocketAddr::new(bad, 9)]);
    let torrent = getter.add(torrent.web_seeds(["http://127.0.0.5:10/".to_owned()])).await.unwrap();
    let (mut said, mut failed) = (torrent.events(), torrent.events());
    until(&mut said, |event| matches!(event, Event::Warning(text) if text.starts_with(tracker))).await;
    until(&mut failed, |event| matches!(event, Event::WebSeedFault { .. })).await;
    torrent.add_peers([swarm.seeder_addr()]);
    torrent.completed().await.unwrap();
    swarm.check();
    getter.stop().await;
    let asked = proxy.asked();
    assert!(asked.iter().all(|asked| !asked.starts_with("127.0.0.5")), "{asked:?}");
}

#[tokio::test]
async fn peers_with_names_are_passed_over() {
    let swarm = Swarm::new(IP).await;
    let proxy = Proxy::start(Manners::default()).await;
    let getter = start(behind(proxy.url("socks5", "")));
    let mut magnet = Magnet::new(swarm.metainfo.info.info_hash);
    magnet.peers = vec![("peer.test".to_owned(), 6881)];
    let torrent = getter.add(AddTorrent::download(magnet, swarm.target.path())).await.unwrap();
    let warning = until(&mut torrent.events(), |event| matches!(event, Event::Warning(_))).await;
    let Event::Warning(text) = warning else { unreachable!() };
    assert!(text.contains("peer.test:6881 is passed over"), "{text}");
    getter.stop().await;
}

#[tokio::test]
async fn a_metainfo_file_leads_to_no_service_of_the_proxys_machine() {
    let swarm = Swarm::new(IP).await;
    let proxy = Proxy::start(Manners::default()).await;
    let getter = start(behind(proxy.url("socks5", "")));
    for url in ["http://localhost:8080/admin", "http://a.LOCALHOST./x", "http://127.0.0.1:8080/admin"] {
        let metainfo = Metainfo { trackers: vec![vec![url.to_owned()]], ..Metainfo::clone(&swarm.metainfo) };
        let torrent =
            getter.add(AddTorrent::download(Arc::new(metainfo), swarm.target.path())).await.unwrap();
        until(&mut torrent.events(), |event| matches!(event, Event::Warning(_))).await;
        torrent.stop().await.unwrap();
    }
    assert_eq!(proxy.asked(), Vec::<String>::new());
    getter.stop().await;
}

/// Not even where the user's own tracker sends us there.
#[tokio::test]
async fn a_redirect_leads_to_no_service_of_the_proxys_machine() {
    let swarm = Swarm::new(IP).await;
    let tracker = Scripted::always(IP, Say::redirect("http://localhost:8080/announce")).await;
    let proxy = Proxy::start(Manners::default()).await;
    let getter = start(behind(proxy.url("socks5", "")));
    let torrent = getter.add(swarm.download(&[tracker.url("/announce")])).await.unwrap();
    until(&mut torrent.events(), |event| matches!(event, Event::Warning(_))).await;
    torrent.stop().await.unwrap();
    let asked = proxy.asked();
    assert!(!asked.is_empty() && asked.iter().all(|host| host.starts_with(IP)), "{asked:?}");
    getter.stop().await;
}

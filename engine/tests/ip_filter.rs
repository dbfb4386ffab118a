//! IP filters of sessions, over loopback: who is refused, when files are read again, and what is told of it.

mod common;

use common::tracker::{Say, Scripted, peers};
use common::{FILES, Swarm, get, session_on};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use swarm_engine::{
    AddTorrent, Error, Event, IpFilter, IpFilterSource, IpRange, Session, SessionEvents, SessionOptions,
};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, UdpSocket};

/// Far less than a test may take, and enough looks for it.
const INTERVAL: Duration = Duration::from_millis(20);

fn only(ip: &str) -> IpFilter {
    let ip = ip.parse().unwrap();
    IpFilter::new([IpRange::new(ip, ip).unwrap()])
}

fn filtered(ip: &str, filter: impl Into<IpFilterSource>) -> Session {
    session_on(ip, |options| options.ip_filter(filter.into()).ip_filter_interval(INTERVAL))
}

async fn until<R>(events: &mut SessionEvents, pick: impl Fn(&Event) -> Option<R>) -> R {
    loop {
        let (_, event) = events.next().await.expect("the session runs");
        if let Some(found) = pick(&event) {
            return found;
        }
    }
}

async fn loaded(events: &mut SessionEvents) -> (usize, u64) {
    until(events, |event| match event {
        Event::IpFilterLoaded { ranges, bad_lines } => Some((*ranges, *bad_lines)),
        _ => None,
    })
    .await
}

async fn warning(events: &mut SessionEvents) -> String {
    until(events, |event| match event {
        Event::Warning(text) => Some(text.clone()),
        _ => None,
    })
    .await
}

async fn blocked(events: &mut SessionEvents) -> [u64; 3] {
    until(events, |event| match event {
        Event::IpFilterBlocked { incoming, addresses, trackers } => Some([*incoming, *addresses, *trackers]),
        _ => None,
    })
    .await
}

/// Puts a file there at once, as a program does that updates a list.
fn put(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}

#[tokio::test]
async fn whoever_dials_from_a_blocked_address_is_closed_at_once() {
    let session = session_on("127.0.0.1", |options| options);
    // Its sockets are there once it takes this.
    session.set_ip_filter(IpFilterSource::from(only("127.0.0.5"))).await.unwrap();
    let mut events = session.events();
    let addr = session.listen_addrs()[0];
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.5:0".parse().unwrap()).unwrap();
    let mut stream = socket.connect(addr).await.unwrap();
    // Nobody waits for a handshake.
    assert!(matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)));
    assert_eq!(blocked(&mut events).await, [1, 0, 0]);
    session.stop().await;
}

#[tokio::test]
async fn whoever_dials_over_utp_from_a_blocked_address_gets_no_handshake() {
    let swarm = Swarm::new("127.0.0.1").await;
    let mut events = swarm.seeder.events();
    swarm.seeder.set_ip_filter(IpFilterSource::from(only("127.0.0.5"))).await.unwrap();
    let getter = session_on("127.0.0.5", |options| options.tcp(false));
    let torrent = getter.add(swarm.get()).await.unwrap();
    let [incoming, ..] = blocked(&mut events).await;
    assert!(incoming >= 1);
    assert_eq!(torrent.stats().await.unwrap().peers, 0);
    getter.stop().await;
}

/// Not even that somebody is here.
#[tokio::test]
async fn a_utp_syn_from_a_blocked_address_gets_no_answer() {
    let session = session_on("127.0.0.1", |options| options);
    // Its sockets are there once it takes this.
    session.set_ip_filter(IpFilterSource::from(only("127.0.0.5"))).await.unwrap();
    let mut events = session.events();
    let addr = session.listen_addrs()[0];
    let blocked_one = UdpSocket::bind("127.0.0.5:0").await.unwrap();
    let other = UdpSocket::bind("127.0.0.6:0").await.unwrap();
    let mut syn = [0; 20];
    (syn[0], syn[2], syn[17]) = (0x41, 9, 1);
    for socket in [&blocked_one, &other] {
        socket.send_to(&syn, addr).await.unwrap();
    }
    let mut answer = [0; 64];
    let (len, from) = other.recv_from(&mut answer).await.unwrap();
    assert_eq!((len, answer[0], from), (20, 0x21, addr), "a STATE");
    // Datagrams are answered in the order in which they come.
    assert!(blocked_one.try_recv_from(&mut answer).is_err());
    assert_eq!(blocked(&mut events).await, [1, 0, 0]);
    session.stop().await;
}

#[tokio::test]
async fn nobody_is_dialled_at_a_blocked_address_whoever_names_it() {
    let swarm = Swarm::new("127.0.0.1").await;
    let (bad, trap) = ("127.0.0.5", tokio::net::TcpListener::bind("127.0.0.5:0").await.unwrap());
    let trap_addr = trap.local_addr().unwrap();
    let session = filtered("127.0.0.1", only(bad));
    let mut events = session.events();
    let tracker = Scripted::always("127.0.0.1", Say::ok(peers(&[trap_addr, swarm.seeder_addr()]))).await;
    let torrent = swarm.download(&[tracker.url("/announce")]).peers([trap_addr]);
    let torrent = session.add(torrent).await.unwrap();
    assert_eq!(warning(&mut events).await, format!("{trap_addr}: the IP filter blocks this peer"));
    torrent.completed().await.unwrap();
    session.stop().await;
    let (mut last, mut told) = ([0; 3], 0);
    while let Some((_, event)) = events.next().await {
        if let Event::IpFilterBlocked { incoming, addresses, trackers } = event {
            (last, told) = ([incoming, addresses, trackers], told + 1);
        }
    }
    assert!(last[1] >= 2, "the user's and the tracker's: {last:?}");
    assert!(told <= 2, "once, and at the end");
    let dialled = trap.accept();
    tokio::select! {
        biased;
        _ = dialled => panic!("a blocked address was dialled"),
        () = std::future::ready(()) => {}
    }
}

#[tokio::test]
async fn a_blocked_tracker_is_not_asked_and_named() {
    let swarm = Swarm::new("127.0.0.1").await;
    let tracker = Scripted::always("127.0.0.6", Say::ok(peers(&[swarm.seeder_addr()]))).await;
    for url in [tracker.url("/announce"), tracker.url("/announce").replace("http", "udp")] {
        let session = filtered("127.0.0.1", only("127.0.0.6"));
        let mut events = session.events();
        let torrent = session.add(swarm.download(std::slice::from_ref(&url))).await.unwrap();
        let text = warning(&mut events).await;
        assert!(text.contains(&url) && text.contains("the IP filter blocks 127.0.0.6"), "{text}");
        drop(torrent);
        session.stop().await;
    }
}

/// Transmission 2959: after the list was read again, blocked peers stayed.
#[tokio::test]
async fn a_new_filter_ends_connections_and_an_empty_one_lets_them_in_again() {
    let swarm = Swarm::of("127.0.0.1", FILES).await;
    let getter = session_on("127.0.0.5", |options| options);
    let slow = get(&swarm.metainfo, swarm.target.path(), &[&swarm.seeder]).download_limit(500_000);
    let torrent = getter.add(slow).await.unwrap();
    let mut events = torrent.events();
    while !matches!(events.next().await, Some(Event::PieceVerified(_))) {}
    let mut at_seeder = swarm.seeder.events();
    swarm.seeder.set_ip_filter(IpFilterSource::from(only("127.0.0.5"))).await.unwrap();
    until(&mut at_seeder, |event| matches!(event, Event::PeerLeft { .. }).then_some(())).await;
    assert_eq!(swarm.seeder.torrents()[0].stats().await.unwrap().peers, 0);
    blocked(&mut at_seeder).await;
    torrent.set_upload_limit(None);
    torrent.set_download_limit(None);
    swarm.seeder.set_ip_filter(None).await.unwrap();
    torrent.completed().await.unwrap();
    swarm.check();
}

/// BiglyBT 190 and 3209: while a list was read again, nothing was blocked.
#[tokio::test]
async fn a_file_is_read_again_and_a_broken_one_leaves_the_old_filter() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("list");
    put(&file, "192.0.2.1\nnonsense\n192.0.2.9\n");
    let session = filtered("127.0.0.1", file.as_path());
    let mut events = session.events();
    assert_eq!(loaded(&mut events).await, (2, 1));
    let said = warning(&mut events).await;
    assert_eq!(said, format!("{}: line 2 names no range of addresses; passed over", file.display()));

    put(&file, "127.0.0.5\n");
    assert_eq!(loaded(&mut events).await, (1, 0));
    for (text, why) in [("<html>", "no line of it is one of an IP filter"), ("PK\x03\x04", "zip archive")] {
        put(&file, text);
        let said = warning(&mut events).await;
        assert!(said.contains(why) && said.ends_with("; the IP filter stays as it was"), "{said}");
    }
    std::fs::remove_file(&file).unwrap();
    assert!(warning(&mut events).await.contains("No such file"));

    // It is still in force.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.5:0".parse().unwrap()).unwrap();
    let mut stream = socket.connect(session.listen_addrs()[0]).await.unwrap();
    assert!(matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)));

    put(&file, "127.0.0.6\n127.0.0.8\n");
    assert_eq!(loaded(&mut events).await, (2, 0));
    session.stop().await;
}

/// A program that writes the list in place empties it first, and may end there.
#[tokio::test]
async fn a_file_that_becomes_empty_leaves_the_old_filter() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("list");
    put(&file, "127.0.0.5\n");
    let session = filtered("127.0.0.1", file.as_path());
    let mut events = session.events();
    assert_eq!(loaded(&mut events).await, (1, 0));
    for nothing in ["", "# a list of nothing\n\n"] {
        put(&file, nothing);
        let said = warning(&mut events).await;
        let expected = format!("{}: names no addresses; the IP filter stays as it was", file.display());
        assert_eq!(said, expected);
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.5:0".parse().unwrap()).unwrap();
        let mut stream = socket.connect(session.listen_addrs()[0]).await.unwrap();
        assert!(matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)), "still blocked");
    }
    session.stop().await;
}

#[tokio::test]
async fn a_file_that_is_empty_at_the_start_is_named_and_filled_later() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("list");
    put(&file, "");
    let session = filtered("127.0.0.1", file.as_path());
    let mut events = session.events();
    assert_eq!(loaded(&mut events).await, (0, 0));
    let said = warning(&mut events).await;
    assert_eq!(said, format!("{}: names no addresses; nothing is blocked", file.display()));
    put(&file, "127.0.0.5\n");
    assert_eq!(loaded(&mut events).await, (1, 0));
    session.stop().await;
}

#[tokio::test]
async fn a_session_does_not_start_without_the_filter_that_it_is_to_have() {
    let listen = || SessionOptions::new().listen(["127.0.0.1:0".parse::<SocketAddr>().unwrap()]).dht(None);
    let missing = Path::new("/nowhere/list");
    let error = Session::start(listen().ip_filter(IpFilterSource::from(missing))).unwrap_err();
    assert!(matches!(&error, Error::IpFilter { file, .. } if file == missing), "{error}");
    let session = Session::start(listen()).unwrap();
    let error = session.set_ip_filter(IpFilterSource::from(missing)).await.unwrap_err();
    assert_eq!(error.to_string(), "/nowhere/list: No such file or directory (os error 2)");
    session.stop().await;
}

/// Transmission 732, libtorrent 260: torrents that are added after the filter was set had none.
#[tokio::test]
async fn torrents_that_come_later_have_the_filter_too() {
    let swarm = Swarm::new("127.0.0.1").await;
    let session = session_on("127.0.0.1", |options| options);
    session.set_ip_filter(IpFilterSource::from(only("127.0.0.1"))).await.unwrap();
    let mut events = session.events();
    let torrent = AddTorrent::download(swarm.metainfo.clone(), swarm.target.path());
    let torrent = session.add(torrent.peers([swarm.seeder_addr()])).await.unwrap();
    assert_eq!(blocked(&mut events).await, [0, 1, 0]);
    assert_eq!(torrent.stats().await.unwrap().peers, 0);
    session.stop().await;
}

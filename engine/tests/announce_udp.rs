//! Sessions and UDP trackers.

mod common;

use common::tracker::Scripted as HttpTracker;
use common::tracker::{Say, peers};
use common::{Swarm, get, session};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use swarm_core::net::Family;
use swarm_core::tracker::udp::{ConnectionId, Request, Response, TransactionId};
use swarm_core::tracker::{AnnounceRequest, AnnounceResponse, Event as Told, TrackerPeer};
use swarm_engine::{Event, EventReceiver};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

for_both_families![
    a_download_finds_its_peers_and_the_tracker_hears_of_it,
    a_refusal_is_told_and_the_next_tracker_serves,
    a_port_at_which_nobody_listens_is_noticed_at_once,
    silent_trackers_delay_the_live_one_by_seconds,
    trackers_that_refuse_delay_the_last_of_two_hundred_little,
    a_local_address_that_a_metainfo_file_names_must_look_like_a_tracker,
];

const CONNECTION: ConnectionId = ConnectionId(0x1234_5678_9abc_def0);

/// What a tracker got, without the transaction.
#[derive(Debug)]
enum Got {
    Connect,
    Announce { announce: AnnounceRequest, url_data: String, from: SocketAddr },
}

/// A UDP tracker that lives as long as the test's runtime.
struct Tracker {
    addr: SocketAddr,
    requests: mpsc::UnboundedReceiver<Got>,
}

impl Tracker {
    /// Tells everybody of this peer, or refuses everybody in these words.
    async fn start(ip: &str, says: Result<SocketAddr, &'static str>) -> Tracker {
        let socket = UdpSocket::bind((ip, 0)).await.unwrap();
        let addr = socket.local_addr().unwrap();
        let (told, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut datagram = vec![0; 2048];
            while let Ok((len, from)) = socket.recv_from(&mut datagram).await {
                let (got, response) = match Request::parse(&datagram[..len]).unwrap() {
                    Request::Connect { transaction } => {
                        (Got::Connect, Response::Connect { transaction, connection: CONNECTION })
                    }
                    Request::Announce { connection: CONNECTION, transaction, announce, url_data } => {
                        let url_data = String::from_utf8(url_data).unwrap();
                        (Got::Announce { announce, url_data, from }, answer(transaction, says))
                    }
                    other => panic!("not what a client sends: {other:?}"),
                };
                let mut reply = Vec::new();
                response.encode(Family::of_ip(from.ip()), &mut reply);
                // A tracker's own errors, and what somebody else made up, change nothing.
                let noise = [&reply[..4], &[0; 4], &reply[8..]].concat();
                for datagram in [noise.as_slice(), b"noise", &reply] {
                    socket.send_to(datagram, from).await.unwrap();
                }
                let _ = told.send(got);
            }
        });
        Tracker { addr, requests }
    }

    fn url(&self, path: &str) -> String {
        format!("udp://{}{path}", self.addr)
    }
}

fn answer(transaction: TransactionId, says: Result<SocketAddr, &'static str>) -> Response {
    match says {
        Ok(addr) => {
            let response = AnnounceResponse {
                interval: Duration::from_secs(1800),
                min_interval: None,
                tracker_id: None,
                complete: Some(1),
                incomplete: Some(0),
                downloaded: None,
                external_ip: None,
                warning: None,
                peers: vec![TrackerPeer { addr, id: None }],
                oddities: Default::default(),
            };
            Response::Announce { transaction, response }
        }
        Err(message) => Response::Error { transaction, message: message.to_owned() },
    }
}

/// The first warning.
async fn warning(events: &mut EventReceiver) -> String {
    loop {
        if let Event::Warning(text) = events.next().await.expect("there is a warning") {
            return text;
        }
    }
}

async fn a_download_finds_its_peers_and_the_tracker_hears_of_it(ip: &str) {
    let swarm = Swarm::new(ip).await;
    let mut tracker = Tracker::start(ip, Ok(swarm.seeder_addr())).await;
    let getter = session(ip);
    let torrent = getter.add(swarm.download(&[tracker.url("/x?passkey=a%20b")])).await.unwrap();
    torrent.completed().await.unwrap();
    swarm.check();
    torrent.stop().await.unwrap();
    assert!(matches!(tracker.requests.recv().await, Some(Got::Connect)), "first and once");
    let mut seen = Vec::new();
    for (event, left) in [(Told::Started, 100_000), (Told::Completed, 0), (Told::Stopped, 0)] {
        let Some(Got::Announce { announce, url_data, from }) = tracker.requests.recv().await else {
            panic!("no announce");
        };
        assert_eq!((announce.event, announce.left), (Some(event), left));
        assert_eq!(url_data, "/x?passkey=a%20b");
        assert_eq!(announce.info_hash, swarm.metainfo.info.info_hash);
        assert_eq!(announce.port, getter.listen_addrs()[0].port());
        assert_eq!(from.ip(), ip.parse::<IpAddr>().unwrap());
        seen.push((from, announce.key));
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "one socket and one key for all");
}

async fn a_refusal_is_told_and_the_next_tracker_serves(ip: &str) {
    let swarm = Swarm::new(ip).await;
    let bad = Tracker::start(ip, Err("unregistered torrent")).await;
    let reply = Say::ok(peers(&[swarm.seeder_addr()]));
    let good = HttpTracker::start(ip, move |_, _| reply.clone()).await;
    let getter = session(ip);
    let trackers = [bad.url("/announce"), good.url("/announce")];
    let torrent = getter.add(swarm.download(&trackers)).await.unwrap();
    let said = warning(&mut torrent.events()).await;
    assert_eq!(said, format!("{}: the tracker refused: unregistered torrent", trackers[0]));
    torrent.completed().await.unwrap();
    swarm.check();
}

async fn a_port_at_which_nobody_listens_is_noticed_at_once(ip: &str) {
    let swarm = Swarm::new(ip).await;
    let closed = UdpSocket::bind((ip, 0)).await.unwrap().local_addr().unwrap();
    let good = Tracker::start(ip, Ok(swarm.seeder_addr())).await;
    let getter = session(ip);
    let trackers = [format!("udp://{closed}/announce"), good.url("/announce")];
    let begun = std::time::Instant::now();
    let torrent = getter.add(swarm.download(&trackers)).await.unwrap();
    torrent.completed().await.unwrap();
    swarm.check();
    assert!(begun.elapsed() < Duration::from_secs(15), "not even one retransmission");
}

async fn silent_trackers_delay_the_live_one_by_seconds(ip: &str) {
    let swarm = Swarm::new(ip).await;
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(UdpSocket::bind((ip, 0)).await.unwrap());
    }
    let good = Tracker::start(ip, Ok(swarm.seeder_addr())).await;
    let dead = silent.iter().map(|socket| format!("udp://{}/announce", socket.local_addr().unwrap()));
    let trackers: Vec<String> = dead.chain([good.url("/announce")]).collect();
    let getter = session(ip);
    let torrent = getter.add(swarm.download(&trackers)).await.unwrap();
    let served = tokio::time::timeout(Duration::from_secs(10), torrent.completed()).await;
    served.expect("the first peers come within 10 s").unwrap();
    swarm.check();
    torrent.stop().await.unwrap();
}

async fn trackers_that_refuse_delay_the_last_of_two_hundred_little(ip: &str) {
    let swarm = Swarm::new(ip).await;
    let mut taken = Vec::new();
    for _ in 0..199 {
        taken.push(UdpSocket::bind((ip, 0)).await.unwrap());
    }
    let refusing = taken.iter().enumerate().map(|(n, socket)| {
        let scheme = if n % 2 == 0 { "udp" } else { "http" };
        format!("{scheme}://{}/announce", socket.local_addr().unwrap())
    });
    let good = Tracker::start(ip, Ok(swarm.seeder_addr())).await;
    let trackers: Vec<String> = refusing.chain([good.url("/announce")]).collect();
    drop(taken);
    let getter = session(ip);
    let torrent = getter.add(swarm.download(&trackers)).await.unwrap();
    let begun = std::time::Instant::now();
    torrent.completed().await.unwrap();
    println!("199 that refuse: complete after {:?}", begun.elapsed());
    swarm.check();
}

async fn a_local_address_that_a_metainfo_file_names_must_look_like_a_tracker(ip: &str) {
    let swarm = Swarm::new(ip).await;
    let mut tracker = Tracker::start(ip, Ok(swarm.seeder_addr())).await;
    let mut metainfo = (*swarm.metainfo).clone();
    metainfo.trackers = vec![vec![tracker.url("/admin")]];
    let getter = session(ip);
    let torrent = getter.add(get(&Arc::new(metainfo), swarm.target.path(), &[])).await.unwrap();
    let said = warning(&mut torrent.events()).await;
    assert!(said.contains("is this machine"), "{said}");
    assert!(tracker.requests.try_recv().is_err(), "it was not asked");
}

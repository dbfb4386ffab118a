//! The tracker over UDP: what it answers, and what it leaves unanswered.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Host, Tracker, announce};
use swarm_core::id::{InfoHash, PeerId};
use swarm_core::net::Family;
use swarm_core::rng::Rng;
use swarm_core::tracker::udp::{ConnectionId, DATAGRAM_LEN_MAX, Request, Response, TransactionId};
use swarm_core::tracker::{AnnounceRequest, AnnounceResponse, Event, PeerFormat, ScrapeStats};
use swarm_tracker::{AllowList, Config};
use tokio::net::UdpSocket;

for_both_families![
    peers_find_each_other_and_those_of_http,
    scrape_tells_sizes_in_the_order_of_the_request,
    refusals_are_said,
    too_many_requests_are_refused_once_the_address_is_proved,
    connection_ids_last_for_minutes_and_for_one_address,
    what_proves_nothing_gets_nothing,
    a_stranger_gets_no_more_than_he_sends,
    large_swarms_fit_a_datagram,
    a_burst_is_answered_whole,
    stop_closes_the_port,
];

const HASH: InfoHash = InfoHash([b'a'; 20]);

/// A client with a connection id.
struct Client {
    socket: UdpSocket,
    family: Family,
    connection: ConnectionId,
}

fn request(port: u16, left: u64) -> AnnounceRequest {
    AnnounceRequest {
        info_hash: HASH,
        peer_id: PeerId([port.to_be_bytes(); 10].as_flattened().try_into().unwrap()),
        port,
        uploaded: 0,
        downloaded: 0,
        left,
        event: Some(Event::Started),
        numwant: None,
        format: PeerFormat::Compact,
        key: Some(7),
        tracker_id: None,
    }
}

async fn socket(tracker: &Tracker) -> UdpSocket {
    let socket = UdpSocket::bind((tracker.udp_addr.ip(), 0)).await.unwrap();
    socket.connect(tracker.udp_addr).await.unwrap();
    socket
}

impl Client {
    async fn new(tracker: &Tracker) -> Client {
        let family = Family::of_ip(tracker.udp_addr.ip());
        let mut client = Client { socket: socket(tracker).await, family, connection: ConnectionId(0) };
        client.connect().await;
        client
    }

    async fn connect(&mut self) {
        let transaction = TransactionId(0x0c0c_0c0c);
        match self.ask(&Request::Connect { transaction }).await {
            Response::Connect { transaction: of, connection } if of == transaction => {
                self.connection = connection
            }
            other => panic!("not a connection: {other:?}"),
        }
    }

    async fn send(&self, datagram: &[u8]) {
        self.socket.send(datagram).await.unwrap();
    }

    async fn reply(&self) -> Vec<u8> {
        let mut datagram = vec![0; 65_536];
        let len = self.socket.recv(&mut datagram).await.unwrap();
        datagram.truncate(len);
        datagram
    }

    async fn ask(&self, request: &Request) -> Response {
        self.send(&request.encode()).await;
        Response::parse(&self.reply().await, self.family).unwrap()
    }

    async fn announce(&self, announce: AnnounceRequest) -> Result<AnnounceResponse, String> {
        let (connection, transaction) = (self.connection, TransactionId(announce.port.into()));
        let url_data = b"/announce?passkey=0123456789".to_vec();
        match self.ask(&Request::Announce { connection, transaction, announce, url_data }).await {
            Response::Announce { transaction: of, response } if of == transaction => Ok(response),
            Response::Error { transaction: of, message } if of == transaction => Err(message),
            other => panic!("not an answer: {other:?}"),
        }
    }

    async fn scrape(&self, info_hashes: Vec<InfoHash>) -> Vec<ScrapeStats> {
        let (connection, transaction) = (self.connection, TransactionId(9));
        match self.ask(&Request::Scrape { connection, transaction, info_hashes }).await {
            Response::Scrape { transaction: TransactionId(9), stats } => stats,
            other => panic!("not an answer: {other:?}"),
        }
    }
}

fn addrs(response: &AnnounceResponse) -> Vec<SocketAddr> {
    response.peers.iter().map(|peer| peer.addr).collect()
}

async fn peers_find_each_other_and_those_of_http(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    tracker.get(&announce(1001, "&left=0")).await;
    let client = Client::new(&tracker).await;
    let first = client.announce(request(1002, 5)).await.unwrap();
    assert_eq!(addrs(&first), [SocketAddr::new(host.ip(), 1001)]);
    assert_eq!((first.complete, first.incomplete), (Some(1), Some(1)));
    let config = Config::default();
    assert!(first.interval >= config.min_interval && first.interval <= config.min_interval * 17 / 16);
    let second = tracker.get(&announce(1001, "&left=0")).await.announce().unwrap();
    assert_eq!(addrs(&second), [SocketAddr::new(host.ip(), 1002)]);
    let gone = AnnounceRequest { event: Some(Event::Stopped), ..request(1002, 5) };
    client.announce(gone).await.unwrap();
    assert_eq!(tracker.handle.stats().peers, 1);
}

async fn scrape_tells_sizes_in_the_order_of_the_request(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    let client = Client::new(&tracker).await;
    client.announce(request(1001, 0)).await.unwrap();
    client.announce(request(1002, 5)).await.unwrap();
    let there = ScrapeStats { complete: 1, incomplete: 1, downloaded: 0 };
    let nothing = ScrapeStats::default();
    let unknown = InfoHash([b'z'; 20]);
    assert_eq!(client.scrape(vec![unknown, HASH, unknown, HASH]).await, [nothing, there, nothing, there]);
    let stats = tracker.handle.stats();
    assert_eq!((stats.announces, stats.scrapes, stats.udp_connects, stats.udp_dropped), (2, 1, 1, 0));
}

async fn refusals_are_said(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    let client = Client::new(&tracker).await;
    let no_port = client.announce(request(0, 5)).await.unwrap_err();
    assert!(no_port.contains("port 0"), "{no_port}");
    tracker.handle.store().set_allowed(Some(AllowList::default()));
    let not_allowed = client.announce(request(1001, 5)).await.unwrap_err();
    assert!(not_allowed.contains("does not serve this torrent"), "{not_allowed}");
    assert_eq!(tracker.handle.stats().refused, 2);
}

async fn too_many_requests_are_refused_once_the_address_is_proved(host: Host) {
    let config = Config { requests_per_minute_max: Some(3), ..Config::default() };
    let tracker = Tracker::start(host, config);
    let mut client = Client::new(&tracker).await;
    // Whoever writes our address on his datagrams does not use up what we may ask.
    let forged = Client { connection: ConnectionId(0), socket: socket(&tracker).await, ..client };
    for _ in 0..10 {
        let (connection, transaction) = (forged.connection, TransactionId(1));
        forged.send(&Request::Scrape { connection, transaction, info_hashes: vec![HASH] }.encode()).await;
    }
    for port in 1001..=1003 {
        client.announce(request(port, 5)).await.unwrap();
    }
    let refused = client.announce(request(1004, 5)).await.unwrap_err();
    assert!(refused.contains("too many requests"), "{refused}");
    assert_eq!(tracker.handle.stats().rate_limited, 1);
    tracker.advance(Duration::from_secs(20));
    client.connect().await;
    client.announce(request(1004, 5)).await.unwrap();
}

async fn connection_ids_last_for_minutes_and_for_one_address(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    let mut client = Client::new(&tracker).await;
    let (first, other_port) = (client.connection, Client::new(&tracker).await);
    assert_eq!(first, other_port.connection, "an id is for an address");
    tracker.advance(Duration::from_secs(120));
    client.announce(request(1001, 5)).await.unwrap();
    tracker.advance(Duration::from_secs(120));
    let (transaction, info_hashes) = (TransactionId(1), vec![HASH]);
    client.send(&Request::Scrape { connection: first, transaction, info_hashes }.encode()).await;
    // The next answer is not the one to that.
    client.connect().await;
    assert_ne!(client.connection, first);
    client.announce(request(1001, 5)).await.unwrap();
    assert_eq!(tracker.handle.stats().udp_dropped, 1);
}

async fn what_proves_nothing_gets_nothing(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    let mut client = Client::new(&tracker).await;
    let valid = client.connection;
    let (transaction, url_data) = (TransactionId(1), Vec::new());
    let connection = ConnectionId(valid.0 ^ 1);
    let good = Request::Announce { connection: valid, transaction, announce: request(1001, 5), url_data };
    let mut useless = vec![
        Request::Scrape { connection, transaction, info_hashes: vec![HASH] }.encode(),
        good.encode()[..97].to_vec(),
        b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:t2:aa1:y1:qe".to_vec(),
        vec![0; 1400],
        vec![0xff; 3000],
        Vec::new(),
    ];
    useless.extend((0..16).map(|len| good.encode()[..len].to_vec()));
    for datagram in &useless {
        client.send(datagram).await;
    }
    // Answers come in order, and the next one is to this.
    client.connect().await;
    assert_eq!(tracker.handle.stats().udp_dropped, useless.len() as u64);
    assert_eq!((tracker.handle.stats().announces, tracker.handle.stats().swarms), (0, 0));
}

async fn a_stranger_gets_no_more_than_he_sends(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    let client = Client::new(&tracker).await;
    let mut rng = Rng::new(15);
    let (transaction, announce, url_data) = (TransactionId(1), request(1001, 5), b"/announce".to_vec());
    let kinds = [
        Request::Connect { transaction },
        Request::Announce { connection: ConnectionId(1), transaction, announce, url_data },
        Request::Scrape { connection: ConnectionId(1), transaction, info_hashes: vec![HASH; 3] },
    ]
    .map(|request| request.encode());
    let connect = &kinds[0];
    for _ in 0..5000 {
        let mut datagram = kinds[rng.index(kinds.len())].clone();
        for _ in 0..=rng.index(3) {
            let at = rng.index(datagram.len());
            datagram[at] = rng.next_u64() as u8;
        }
        datagram.truncate(1 + rng.index(datagram.len()));
        client.send(&datagram).await;
        client.send(connect).await;
        let reply = client.reply().await;
        if reply[4..8] != connect[12..16] {
            assert!(reply.len() <= datagram.len(), "{} for {}", reply.len(), datagram.len());
            client.reply().await;
        }
        // A mutation may leave a connect as it was.
        while client.socket.try_recv(&mut [0; 64]).is_ok() {}
    }
    assert_eq!((tracker.handle.stats().announces, tracker.handle.stats().swarms), (0, 0));
}

async fn a_burst_is_answered_whole(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    let clients = [Client::new(&tracker).await, Client::new(&tracker).await];
    // More than one system call takes, from two clients in turns, and with what gets no reply in between.
    let count = 150;
    for n in 0..count {
        for client in &clients {
            let (connection, transaction) = (client.connection, TransactionId(n));
            let request = match n % 3 {
                0 => Request::Connect { transaction }.encode(),
                1 => Request::Scrape { connection, transaction, info_hashes: vec![HASH; 3] }.encode(),
                _ => {
                    let announce = request(1_000 + n as u16, 5);
                    Request::Announce { connection, transaction, announce, url_data: Vec::new() }.encode()
                }
            };
            client.send(&request).await;
            client.send(&request[..9]).await;
        }
    }
    for client in &clients {
        let mut answered = Vec::new();
        for _ in 0..count {
            let transaction = match Response::parse(&client.reply().await, client.family).unwrap() {
                Response::Connect { transaction, .. } if transaction.0 % 3 == 0 => transaction,
                Response::Scrape { transaction, stats } if stats.len() == 3 => transaction,
                Response::Announce { transaction, .. } if transaction.0 % 3 == 2 => transaction,
                other => panic!("not an answer to that: {other:?}"),
            };
            answered.push(transaction.0);
        }
        answered.sort_unstable();
        assert!(answered.into_iter().eq(0..count), "each once");
    }
}

async fn large_swarms_fit_a_datagram(host: Host) {
    let tracker = Tracker::start(host, Config { numwant_max: 10_000, ..Config::default() });
    let client = Client::new(&tracker).await;
    for port in 1001..=1300 {
        client.announce(request(port, 5)).await.unwrap();
    }
    let (connection, transaction) = (client.connection, TransactionId(1));
    let announce = AnnounceRequest { numwant: Some(u32::MAX), ..request(1001, 5) };
    client
        .send(&Request::Announce { connection, transaction, announce, url_data: Vec::new() }.encode())
        .await;
    let len = client.reply().await.len();
    assert!(len <= DATAGRAM_LEN_MAX && len > DATAGRAM_LEN_MAX - 18, "{len}");
}

async fn stop_closes_the_port(host: Host) {
    let tracker = Tracker::start(host, Config::default());
    Client::new(&tracker).await;
    let addr = tracker.udp_addr;
    tracker.handle.stop().await;
    UdpSocket::bind(addr).await.expect("it is free again");
}

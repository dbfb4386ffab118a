//! What trackers answer, what they are asked, and what one remembers from its last run.

use crate::Target;
use crate::input::Input;
use crate::memory::bounded;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use swarm_core::id::{InfoHash, PeerId};
use swarm_core::net::Family;
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};
use swarm_core::tracker::udp::{self, ConnectionId, Request, Response, TransactionId};
use swarm_core::tracker::{
    AnnounceRequest, AnnounceResponse, Event, PeerFormat, REPLY_NAMES_MAX, REPLY_PEERS_MAX, ScrapeRequest,
    ScrapeResponse, ScrapeStats, TrackerPeer, encode_failure,
};
use swarm_tracker::Config;
use swarm_tracker::store::Store;

pub(super) const HTTP: Target = Target { name: "tracker_http", run: http, seeds: http_seeds, runs: 100_000 };
pub(super) const UDP: Target = Target { name: "tracker_udp", run: udp, seeds: udp_seeds, runs: 100_000 };
pub(super) const STATE: Target = Target { name: "tracker_state", run: state, seeds: states, runs: 10_000 };

const FORMATS: [PeerFormat; 3] =
    [PeerFormat::Compact, PeerFormat::Dictionaries, PeerFormat::DictionariesWithoutIds];

/// The same bytes as a reply, and as the query of a request.
fn http(input: &[u8]) {
    if let Ok(reply) = bounded(input.len(), 64, || AnnounceResponse::parse(input)) {
        assert!(reply.peers.len() <= REPLY_PEERS_MAX && reply.oddities.names.len() <= REPLY_NAMES_MAX);
        assert!(reply.peers.iter().all(|peer| peer.addr.port() != 0));
        for format in FORMATS {
            let again = AnnounceResponse::parse(&reply.encode(format)).expect("what we write");
            assert_eq!((again.interval, again.peers.len()), (reply.interval, reply.peers.len()));
        }
    }
    if let Ok(reply) = bounded(input.len(), 64, || ScrapeResponse::parse(input)) {
        assert_eq!(ScrapeResponse::parse(&reply.encode()), Ok(reply));
    }
    if let Ok(request) = bounded(input.len(), 4, || AnnounceRequest::parse_query(input)) {
        assert_eq!(AnnounceRequest::parse_query(request.to_query().as_bytes()), Ok(request));
    }
    // Errors name what is wrong with it.
    let _ = bounded(input.len(), 4, || ScrapeRequest::parse_query(input));
}

fn announce() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash([0x11; 20]),
        peer_id: PeerId([0x22; 20]),
        port: 6881,
        uploaded: 3,
        downloaded: 1,
        left: 2,
        event: Some(Event::Started),
        numwant: Some(50),
        format: PeerFormat::Compact,
        key: Some(0xbeef),
        tracker_id: Some(b"id".to_vec()),
    }
}

fn reply() -> AnnounceResponse {
    let peer = |addr: ([u8; 4], u16)| TrackerPeer { addr: addr.into(), id: Some(PeerId([3; 20])) };
    AnnounceResponse {
        interval: Duration::from_secs(1800),
        min_interval: Some(Duration::from_secs(60)),
        tracker_id: Some(b"id".to_vec()),
        complete: Some(1),
        incomplete: Some(2),
        downloaded: Some(3),
        external_ip: Some([9, 9, 9, 9].into()),
        warning: Some("w".to_owned()),
        peers: vec![peer(([1, 2, 3, 4], 5)), TrackerPeer { addr: ([7u16; 8], 8).into(), id: None }],
        oddities: Default::default(),
    }
}

fn http_seeds() -> Vec<Vec<u8>> {
    let stats = ScrapeStats { complete: 1, incomplete: 2, downloaded: 3 };
    let scrape = ScrapeResponse { files: [(InfoHash([1; 20]), stats)].into() };
    let mut seeds: Vec<Vec<u8>> = FORMATS.map(|format| reply().encode(format)).to_vec();
    seeds.extend([
        scrape.encode(),
        encode_failure("no", None),
        b"d8:intervali1800e5:peersl6:abcdefd2:ip4:name4:porti5eeee".to_vec(),
        announce().to_query().into_bytes(),
        b"info_hash=aaaaaaaaaaaaaaaaaaa%61&info_hash=bbbbbbbbbbbbbbbbbbb%2b".to_vec(),
    ]);
    seeds
}

/// A datagram as a request and as an answer, then a client that is answered as the input says.
fn udp(input: &[u8]) {
    if let Ok(request) = bounded(input.len(), 8, || Request::parse(input)) {
        assert_eq!(Request::parse(&request.encode()), Ok(request));
    }
    for family in Family::ALL {
        if let Ok(mut response) = bounded(input.len(), 16, || Response::parse(input, family)) {
            if let Response::Announce { response, .. } = &mut response {
                // An address of IPv4 within one of IPv6 is taken for that of IPv4, and is not sent as the other.
                response.peers.retain(|peer| Family::of_ip(peer.addr.ip()) == family);
            }
            let mut again = Vec::new();
            response.encode(family, &mut again);
            assert_eq!(Response::parse(&again, family), Ok(response));
        }
    }
    client(Input(input));
}

fn client(mut input: Input<'_>) {
    let mut now = Time::from_micros(1);
    let mut client = udp::Client::new(Family::V4, Rng::new(2));
    let (mut announces, mut outcomes, mut asked) = (0, 0, Vec::new());
    while !input.is_empty() && announces < 50 {
        match input.below(6) {
            0 => {
                announces += 1;
                client.handle_announce(now, announce(), b"/x".to_vec(), now + Duration::from_secs(60));
            }
            1 => client.handle_datagram(now, input.chunk()),
            2..4 => {
                let transaction = match asked.last().map(Vec::as_slice).map(Request::parse) {
                    Some(Ok(
                        Request::Connect { transaction }
                        | Request::Announce { transaction, .. }
                        | Request::Scrape { transaction, .. },
                    )) => transaction,
                    _ => TransactionId(0),
                };
                let response = match input.below(4) {
                    0 => Response::Announce { transaction, response: reply() },
                    1 => Response::Error { transaction, message: "no".to_owned() },
                    _ => Response::Connect { transaction, connection: ConnectionId(input.byte().into()) },
                };
                let mut datagram = Vec::new();
                response.encode(Family::V4, &mut datagram);
                client.handle_datagram(now, &datagram);
            }
            4 => client.handle_unreachable("nobody"),
            _ => {
                now += Duration::from_secs(input.of(&[1, 15, 61, 200]));
                client.handle_timeout(now);
                assert!(client.poll_timeout().is_none_or(|at| at > now), "it spins");
            }
        }
        while let Some(datagram) = client.poll_datagram() {
            Request::parse(&datagram).expect("what we write");
            asked.push(datagram);
        }
        outcomes += std::iter::from_fn(|| client.poll_outcome()).count();
        assert!(outcomes <= announces, "more outcomes than announces");
    }
    client.handle_timeout(now + Duration::from_secs(1_000));
    outcomes += std::iter::from_fn(|| client.poll_outcome()).count();
    assert_eq!(outcomes, announces, "each announce has one outcome");
}

fn udp_seeds() -> Vec<Vec<u8>> {
    let (connection, transaction) = (ConnectionId(1), TransactionId(2));
    let requests = [
        Request::Connect { transaction },
        Request::Announce {
            connection,
            transaction,
            announce: AnnounceRequest { tracker_id: None, ..announce() },
            url_data: b"/a?b".to_vec(),
        },
        Request::Scrape { connection, transaction, info_hashes: vec![InfoHash([1; 20]); 2] },
    ];
    let stats = vec![ScrapeStats { complete: 1, incomplete: 2, downloaded: 3 }; 2];
    let responses = [
        Response::Connect { transaction, connection },
        Response::Announce { transaction, response: reply() },
        Response::Scrape { transaction, stats },
        Response::Error { transaction, message: "no".to_owned() },
    ];
    let mut seeds: Vec<Vec<u8>> = requests.iter().map(Request::encode).collect();
    seeds.extend(responses.iter().map(|response| {
        let mut datagram = Vec::new();
        response.encode(Family::V4, &mut datagram);
        datagram
    }));
    // Announce, connected, announced; another announce, an error, time.
    seeds.push(vec![0, 2, 2, 7, 2, 0, 0, 2, 1, 5, 1, 5, 2, 0, 4, 5, 3]);
    seeds
}

/// Swarms that were saved, with a checksum that fits.
fn state(input: &[u8]) {
    let (unix_s, now) = (1_000, Time::from_micros(500_000_000));
    let mut all = Vec::new();
    Store::new(Config::default()).save(now, unix_s, &mut all).expect("memory");
    // The end of an empty store: no more swarms, and the checksum.
    all.truncate(all.len() - 33);
    all.extend_from_slice(input);
    all.extend_from_slice(&Sha256::digest(&all));
    let store = Store::new(Config::default());
    let loaded = bounded(input.len(), 64, || store.load(now, unix_s, &all[..]));
    let Ok(loaded) = loaded else { return };
    let mut again = Vec::new();
    store.save(now, unix_s, &mut again).expect("memory");
    let other = Store::new(Config::default());
    assert_eq!(other.load(now, unix_s, &again[..]).expect("what we write").peers, loaded.peers);
    assert!(store.load(now, unix_s, input).is_err() || input.starts_with(&all[..16]));
}

fn states() -> Vec<Vec<u8>> {
    let store = Store::new(Config::default());
    let now = Time::from_micros(500_000_000);
    let mut rng = Rng::new(1);
    for (ip, left) in [(IpAddr::from([1, 2, 3, 4]), 0), ([7u16; 8].into(), 5)] {
        let request = AnnounceRequest { left, ..announce() };
        store.announce(now, &mut rng, &request, ip).expect("room");
    }
    let mut saved = Vec::new();
    store.save(now, 1_000, &mut saved).expect("memory");
    // Between the header and the checksum.
    vec![saved[26..saved.len() - 32].to_vec(), vec![0]]
}

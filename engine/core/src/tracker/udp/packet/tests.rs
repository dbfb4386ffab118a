use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::super::DATAGRAM_LEN_MAX;
use super::*;
use crate::tracker::TrackerPeer;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn announce() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash([0x11; 20]),
        peer_id: PeerId([0x22; 20]),
        port: 6881,
        uploaded: 3,
        downloaded: 1,
        left: 2,
        event: Some(Event::Started),
        numwant: None,
        format: PeerFormat::Compact,
        key: Some(0xbeef),
        tracker_id: None,
    }
}

fn announced(url_data: &str) -> Request {
    Request::Announce {
        connection: ConnectionId(0x0102_0304_0506_0708),
        transaction: TransactionId(0x0a0b_0c0d),
        announce: announce(),
        url_data: url_data.as_bytes().to_vec(),
    }
}

fn url_data_of(datagram: &[u8]) -> String {
    match Request::parse(datagram) {
        Ok(Request::Announce { url_data, .. }) => String::from_utf8(url_data).unwrap(),
        other => panic!("not an announce: {other:?}"),
    }
}

#[test]
fn requests_are_as_trackers_expect_them() {
    let connect = Request::Connect { transaction: TransactionId(0x0a0b_0c0d) }.encode();
    assert_eq!(connect, [0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0, 0xa, 0xb, 0xc, 0xd]);

    let datagram = announced("/a?k").encode();
    let mut expected = vec![1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1, 0xa, 0xb, 0xc, 0xd];
    expected.extend([0x11; 20]);
    expected.extend([0x22; 20]);
    expected.extend([0, 0, 0, 0, 0, 0, 0, 1]);
    expected.extend([0, 0, 0, 0, 0, 0, 0, 2]);
    expected.extend([0, 0, 0, 0, 0, 0, 0, 3]);
    expected.extend([0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0xbe, 0xef, 0xff, 0xff, 0xff, 0xff, 0x1a, 0xe1]);
    assert_eq!(datagram[..98], expected);
    assert_eq!(datagram[98..], *b"\x02\x04/a?k");
    assert_eq!(announced("").encode().len(), 98, "without a path there is no option");
}

#[test]
fn a_passkey_travels_with_the_path() {
    let url = Url::parse("udp://t.example:80/x/announce?passkey=a%20b#part").unwrap();
    assert_eq!(url_data(&url), "/x/announce?passkey=a%20b");
    assert_eq!(url_data(&Url::parse("udp://t.example:80").unwrap()), "");
    let long = "/".repeat(URL_DATA_LEN_MAX);
    let datagram = announced(&long).encode();
    assert!(datagram.len() <= DATAGRAM_LEN_MAX);
    assert_eq!(url_data_of(&datagram), long);
}

#[test]
fn options_that_mean_nothing_do_no_harm() {
    let with = |options: &[u8]| url_data_of(&[&announced("").encode(), options].concat());
    assert_eq!(with(b"\x02\x02/a\x01\x02\x02?b"), "/a?b");
    assert_eq!(with(b"\x07\x03xyz\x02\x02/a"), "/a", "an unknown one is skipped");
    assert_eq!(with(b"\0\x02\x02/a"), "", "after the end there is nothing");
    assert_eq!(with(b"\x02\x02/a\x02\x05/b"), "/a", "one that is cut short is left out");
    assert_eq!(with(b"\x02"), "");
    assert_eq!(with(&[b"\x02\xff".as_slice(), &[b'/'; 255]].concat().repeat(9)).len(), 4 * 255);
}

#[test]
fn what_is_no_request_is_refused() {
    let connect = Request::Connect { transaction: TransactionId(1) }.encode();
    let announce = announced("").encode();
    for len in 0..16 {
        assert_eq!(Request::parse(&connect[..len]), Err(PacketError::TooShort));
    }
    for len in 16..98 {
        assert_eq!(Request::parse(&announce[..len]), Err(PacketError::TooShort));
    }
    let mut other = connect.clone();
    other[0] = 1;
    assert_eq!(Request::parse(&other), Err(PacketError::NotAConnect));
    other[11] = 3;
    assert_eq!(Request::parse(&other), Err(PacketError::UnknownAction(3)));
    let scrape =
        |bytes: usize| Request::parse(&[&announce[..8], &[0, 0, 0, 2, 0, 0, 0, 0], &vec![7; bytes]].concat());
    for wrong in [0, 19, 21, 20 * (SCRAPE_HASHES_MAX + 1)] {
        assert_eq!(scrape(wrong), Err(PacketError::WrongHashes), "{wrong} bytes");
    }
    assert!(scrape(20 * SCRAPE_HASHES_MAX).is_ok());
}

#[test]
fn negative_numbers_mean_unknown_or_zero() {
    let mut datagram = announced("").encode();
    datagram[92] = 0x80;
    let Ok(Request::Announce { announce, .. }) = Request::parse(&datagram) else { panic!("an announce") };
    assert_eq!(announce.numwant, None);
    let mut reply = vec![0, 0, 0, 1, 0, 0, 0, 9];
    reply.extend([0xff; 12]);
    let Ok(Response::Announce { response, .. }) = Response::parse(&reply, Family::V4) else {
        panic!("an announce")
    };
    assert_eq!(
        (response.interval, response.complete, response.incomplete),
        (Duration::ZERO, Some(0), Some(0))
    );
}

#[test]
fn the_socket_decides_how_long_a_peer_is() {
    let mut reply = vec![0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 7, 8, 0, 0, 0, 1, 0, 0, 0, 2];
    reply.extend([10, 0, 0, 1, 0x1a, 0xe1, 10, 0, 0, 2, 0, 0, 10, 0, 0, 3, 0, 1, 1, 2]);
    let peers = |family| match Response::parse(&reply, family) {
        Ok(Response::Announce { response, .. }) => {
            response.peers.iter().map(|peer| peer.addr.to_string()).collect::<Vec<_>>()
        }
        other => panic!("not an announce: {other:?}"),
    };
    assert_eq!(peers(Family::V4), ["10.0.0.1:6881", "10.0.0.3:1"], "neither port 0 nor a part of a peer");
    assert_eq!(peers(Family::V6), ["[a00:1:1ae1:a00:2:0:a00:3]:1"]);
}

#[test]
fn responses_fit_a_packet_of_any_link() {
    for (family, ip) in [(Family::V4, "1.2.3.4"), (Family::V6, "2001:db8::1")] {
        let peer = TrackerPeer { addr: (ip.parse::<IpAddr>().unwrap(), 1).into(), id: None };
        let stranger = TrackerPeer { addr: "[::ffff:0:0]:1".parse().unwrap(), ..peer };
        let mut response = response(vec![peer; 300]);
        response.peers.insert(0, if family == Family::V4 { stranger } else { peer });
        let mut out = Vec::new();
        Response::Announce { transaction: TransactionId(1), response }.encode(family, &mut out);
        assert!(out.len() <= DATAGRAM_LEN_MAX && out.len() + compact_len(family) > DATAGRAM_LEN_MAX);
    }
}

#[test]
fn errors_are_text_for_a_person() {
    let datagram = b"\0\0\0\x03\0\0\0\x09no\x1b[2J \xff";
    let expected = Response::Error { transaction: TransactionId(9), message: "no [2J \u{fffd}".to_owned() };
    assert_eq!(Response::parse(datagram, Family::V4), Ok(expected));
}

fn response(peers: Vec<TrackerPeer>) -> AnnounceResponse {
    AnnounceResponse {
        interval: Duration::from_secs(1800),
        min_interval: None,
        tracker_id: None,
        complete: Some(1),
        incomplete: Some(2),
        downloaded: None,
        external_ip: None,
        warning: None,
        peers,
        oddities: Default::default(),
    }
}

fn any_request() -> impl Strategy<Value = Request> {
    let event = of(prop_oneof![Just(Event::Started), Just(Event::Completed), Just(Event::Stopped)]);
    let announce = (
        any::<[u8; 20]>(),
        any::<[u8; 20]>(),
        any::<[u64; 3]>(),
        event,
        of(0..=i32::MAX as u32),
        any::<(u16, u32)>(),
    )
        .prop_map(|(hash, id, [downloaded, left, uploaded], event, numwant, (port, key))| {
            AnnounceRequest {
                info_hash: InfoHash(hash),
                peer_id: PeerId(id),
                downloaded,
                left,
                uploaded,
                event,
                numwant,
                port,
                key: Some(key),
                ..super::tests::announce()
            }
        });
    let hashes = vec(any::<[u8; 20]>().prop_map(InfoHash), 1..=SCRAPE_HASHES_MAX);
    let kind = prop_oneof![
        Just((None, None)),
        (announce, vec(any::<u8>(), 0..=URL_DATA_LEN_MAX)).prop_map(|announce| (Some(announce), None)),
        hashes.prop_map(|hashes| (None, Some(hashes))),
    ];
    (kind, any::<(u64, u32)>()).prop_map(|(kind, (connection, transaction))| {
        let (connection, transaction) = (ConnectionId(connection), TransactionId(transaction));
        match kind {
            (Some((announce, url_data)), _) => {
                Request::Announce { connection, transaction, announce, url_data }
            }
            (_, Some(info_hashes)) => Request::Scrape { connection, transaction, info_hashes },
            _ => Request::Connect { transaction },
        }
    })
}

fn any_response(family: Family) -> impl Strategy<Value = Response> {
    let count = || 0..=i32::MAX as u32;
    let peer = (any::<u128>(), 1..=u16::MAX).prop_map(move |(bits, port)| {
        let ip: IpAddr = match family {
            Family::V4 => Ipv4Addr::from(bits as u32).into(),
            Family::V6 => Ipv6Addr::from(bits | 1 << 127).into(),
        };
        TrackerPeer { addr: (ip, port).into(), id: None }
    });
    let announce = (count(), count(), count(), vec(peer, 0..=peers_max(family))).prop_map(
        |(interval_s, complete, incomplete, peers)| AnnounceResponse {
            interval: Duration::from_secs(interval_s.into()),
            complete: Some(complete),
            incomplete: Some(incomplete),
            ..response(peers)
        },
    );
    let stats = (count(), count(), count()).prop_map(|(complete, incomplete, downloaded)| ScrapeStats {
        complete,
        incomplete,
        downloaded,
    });
    let transaction = any::<u32>().prop_map(TransactionId);
    prop_oneof![
        (transaction.clone(), any::<u64>())
            .prop_map(|(transaction, id)| Response::Connect { transaction, connection: ConnectionId(id) }),
        (transaction.clone(), announce)
            .prop_map(|(transaction, response)| Response::Announce { transaction, response }),
        (transaction.clone(), vec(stats, 0..=SCRAPE_HASHES_MAX))
            .prop_map(|(transaction, stats)| Response::Scrape { transaction, stats }),
        (transaction, "[ -~]{0,200}")
            .prop_map(|(transaction, message)| Response::Error { transaction, message }),
    ]
}

proptest! {
    #[test]
    fn requests_come_back_as_they_were(request in any_request()) {
        prop_assert_eq!(Request::parse(&request.encode()), Ok(request));
    }

    #[test]
    fn responses_come_back_as_they_were(
        (family, response) in prop_oneof![Just(Family::V4), Just(Family::V6)]
            .prop_flat_map(|family| (Just(family), any_response(family)))
    ) {
        let mut datagram = Vec::new();
        response.encode(family, &mut datagram);
        prop_assert_eq!(Response::parse(&datagram, family), Ok(response));
    }

    #[test]
    fn any_bytes_are_read_or_refused(action in 0..5u8, bytes in vec(any::<u8>(), 0..2000)) {
        for family in [Family::V4, Family::V6] {
            let _ = Response::parse(&bytes, family);
            let _ = Response::parse(&[&[0, 0, 0, action], bytes.as_slice()].concat(), family);
        }
        let _ = Request::parse(&bytes);
        let _ = Request::parse(&[&[0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, action], bytes.as_slice()].concat());
    }
}

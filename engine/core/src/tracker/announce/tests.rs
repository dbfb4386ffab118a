use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::option::of;
use proptest::prelude::*;

use super::super::reply::TEXT_LEN_MAX;
use super::super::{RetryIn, encode_failure};
use super::*;
use crate::tracker::{REPLY_NAMES_MAX, REPLY_PEERS_MAX};
use std::net::SocketAddr;

fn request() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash(*b"\0\xff&=%+ abcdefghijklm"),
        peer_id: PeerId(*b"-SW0001-012345678901"),
        port: 6881,
        uploaded: 1,
        downloaded: 2,
        left: 3,
        event: Some(Event::Started),
        numwant: Some(50),
        format: PeerFormat::Compact,
        key: Some(0xbeef),
        tracker_id: None,
    }
}

fn parsed(query: &str) -> Result<AnnounceRequest, RequestError> {
    AnnounceRequest::parse_query(query.as_bytes())
}

const MINIMAL: &str = "info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbbbbb&port=1";

#[test]
fn query_is_as_trackers_expect_it() {
    assert_eq!(
        request().to_query(),
        "info_hash=%00%FF%26%3D%25%2B%20abcdefghijklm&peer_id=-SW0001-012345678901&port=6881\
         &uploaded=1&downloaded=2&left=3&event=started&numwant=50&key=0000BEEF&compact=1"
    );
}

#[test]
fn url_keeps_the_query_of_the_tracker() {
    let with_key = Url::parse("http://t.example:80/announce?passkey=x%20y#part").unwrap();
    let url = request().url(&with_key);
    assert!(url.as_str().starts_with("http://t.example/announce?passkey=x%20y&info_hash=%00%FF"));
    assert_eq!(url.fragment(), None);
    let bare = request().url(&Url::parse("http://t.example/announce").unwrap());
    assert_eq!(parsed(bare.query().unwrap()), Ok(request()));
}

#[test]
fn a_minimal_request_gets_defaults() {
    let request = parsed(MINIMAL).unwrap();
    assert_eq!(request.left, LEFT_UNKNOWN);
    assert_eq!(request.format, PeerFormat::Compact);
    assert_eq!((request.numwant, request.event, request.key), (None, None, None));
}

#[test]
fn unknown_is_not_an_error() {
    let odd = format!(
        "{MINIMAL}&left=-1&numwant=-1&event=paused&key=zz&ip=9.9.9.9&&x&downloaded={}",
        "9".repeat(40)
    );
    let request = parsed(&odd).unwrap();
    assert_eq!((request.left, request.numwant, request.event), (LEFT_UNKNOWN, None, None));
    assert_eq!(request.downloaded, u64::MAX);
    for nothing in ["&left&numwant&downloaded", "&left=&numwant=&downloaded="] {
        let request = parsed(&format!("{MINIMAL}{nothing}")).unwrap();
        assert_eq!((request.left, request.numwant, request.downloaded), (LEFT_UNKNOWN, None, 0));
    }
}

#[test]
fn malformed_requests_are_named() {
    let with = |more: &str| parsed(&format!("{MINIMAL}{more}"));
    assert_eq!(parsed(""), Err(RequestError::Missing("info_hash")));
    assert_eq!(parsed("info_hash=aaaaaaaaaaaaaaaaaaaa&port=1"), Err(RequestError::Missing("peer_id")));
    assert_eq!(with("&info_hash=a"), Err(RequestError::NotTwentyBytes("info_hash")));
    assert_eq!(with("&peer_id=aaaaaaaaaaaaaaaaaaaaa"), Err(RequestError::NotTwentyBytes("peer_id")));
    for bad in ["", "x", "65536", "-1", "0x10", "1 "] {
        assert_eq!(with(&format!("&port={bad}")), Err(RequestError::NotANumber("port")), "{bad:?}");
    }
    assert_eq!(with("&left=many"), Err(RequestError::NotANumber("left")));
}

#[test]
fn formats_are_recognised() {
    let format = |more: &str| parsed(&format!("{MINIMAL}{more}")).unwrap().format;
    assert_eq!(format("&compact=0"), PeerFormat::Dictionaries);
    assert_eq!(format("&compact=0&no_peer_id=1"), PeerFormat::DictionariesWithoutIds);
    assert_eq!(format("&compact=1&no_peer_id=1"), PeerFormat::Compact);
}

fn v4(a: u8, port: u16) -> TrackerPeer {
    TrackerPeer { addr: (Ipv4Addr::new(10, 0, 0, a), port).into(), id: None }
}

fn v6(a: u16, port: u16) -> TrackerPeer {
    TrackerPeer { addr: (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, a), port).into(), id: None }
}

#[test]
fn replies_of_other_trackers_are_understood() {
    let reply = AnnounceResponse::parse(
        b"d8:completei3e10:downloadedi2e10:incompletei0e8:intervali1803e12:min intervali1800e5:peers0:\
          11:external ip4:\x01\x02\x03\x04e",
    )
    .unwrap();
    assert_eq!(reply.interval, Duration::from_secs(1803));
    assert_eq!(reply.min_interval, Some(Duration::from_secs(1800)));
    assert_eq!((reply.complete, reply.downloaded, reply.incomplete), (Some(3), Some(2), Some(0)));
    assert_eq!(reply.external_ip, Some(Ipv4Addr::new(1, 2, 3, 4).into()));

    let listed =
        b"d8:intervali60e5:peersld7:peer id20:-TR300Z-0123456789AB2:ip7:8.8.4.44:porti53eed2:ip3:::1\
                   4:porti0eed2:ip9:localhost4:porti1eei7eee";
    let reply = AnnounceResponse::parse(listed).unwrap();
    let id = Some(PeerId(*b"-TR300Z-0123456789AB"));
    assert_eq!(reply.peers, [TrackerPeer { addr: "8.8.4.4:53".parse().unwrap(), id }]);
    assert_eq!(reply.oddities.names, [("localhost".to_owned(), 1)], "names are peers too (BEP 3)");
    assert_eq!(reply.oddities.passed_over, 1, "a number is no peer, and nobody listens at port 0");
}

#[test]
fn a_list_of_compact_peers_is_read() {
    let reply = AnnounceResponse::parse(b"d5:peersl6:\x0a\0\0\x01\0\x056:\x0a\0\0\x02\0\x0518:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\0\x07ee").unwrap();
    assert_eq!(reply.peers, [v4(1, 5), v4(2, 5), v6(1, 7)]);
    assert_eq!(reply.oddities, ReplyOddities::default());
}

#[test]
fn what_a_reply_lacks_or_cannot_mean_is_counted() {
    let oddities = |body: &[u8]| AnnounceResponse::parse(body).unwrap().oddities;
    assert!(oddities(b"d8:intervali60ee").lacks_peers);
    assert!(oddities(b"d5:peersi7ee").lacks_peers);
    assert_eq!(oddities(b"d5:peersle6:peers60:e"), ReplyOddities::default());
    let odd = oddities(b"d5:peersl3:foodei7ed2:ip3:a b4:porti1eed2:ip1:a4:porti-1eeee");
    assert_eq!((odd.passed_over, odd.names.len()), (5, 0));
    let many: String = (0..20).map(|n| format!("d2:ip1:a4:porti{}ee", n + 1)).collect();
    let odd = oddities(format!("d5:peersl{many}ee").as_bytes());
    assert_eq!((odd.names.len(), odd.passed_over), (REPLY_NAMES_MAX, 20 - REPLY_NAMES_MAX));
}

#[test]
fn a_line_break_after_the_reply_does_no_harm() {
    let reply = AnnounceResponse::parse(b"d8:intervali60e5:peers0:e\r\n").unwrap();
    assert_eq!(reply.interval, Duration::from_secs(60));
}

#[test]
fn what_makes_no_sense_is_left_out() {
    let parse = |body: &[u8]| AnnounceResponse::parse(body).unwrap();
    let tail = parse(b"d8:intervali60e5:peers7:\x0a\0\0\x01\0\x05ge");
    assert_eq!(tail.peers, [v4(1, 5)]);
    assert_eq!(parse(b"d5:peers6:\x0a\0\0\x01\0\0e").peers, []);
    assert_eq!(parse(b"d5:peersi7e6:peers6le3:foolee").peers, []);
    assert_eq!(parse(b"de").interval, INTERVAL_DEFAULT);
    assert_eq!(parse(b"d8:intervali-5ee").interval, Duration::ZERO);
    assert_eq!(parse(b"d8:completei-5ee").complete, None);
    let mapped = parse(b"d6:peers618:\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\x01\0\x05e");
    assert_eq!(mapped.peers, [v4(1, 5)]);
}

#[test]
fn failure_is_an_error_in_the_words_of_the_tracker() {
    let parse = |body: &[u8]| AnnounceResponse::parse(body).unwrap_err();
    assert_eq!(
        parse(b"d14:failure reason6:foobar8:intervali1803e5:peers0:e"),
        ReplyError::Refused { reason: "foobar".into(), retry: None }
    );
    for (retry, encoded) in [(RetryIn::After(Duration::from_secs(120)), "i2e"), (RetryIn::Never, "5:never")] {
        let body = encode_failure("full", Some(retry));
        assert_eq!(body, format!("d14:failure reason4:full8:retry in{encoded}e").into_bytes());
        assert_eq!(parse(&body), ReplyError::Refused { reason: "full".into(), retry: Some(retry) });
    }
    let hostile = encode_failure(&"\x1b[2J".repeat(1000), None);
    let ReplyError::Refused { reason, .. } = parse(&hostile) else { panic!("not a refusal") };
    assert!(reason.starts_with(" [2J") && reason.chars().count() == TEXT_LEN_MAX);
}

#[test]
fn what_is_no_reply_is_an_error() {
    assert!(matches!(AnnounceResponse::parse(b"<html>"), Err(ReplyError::Malformed(_))));
    assert!(matches!(AnnounceResponse::parse(b""), Err(ReplyError::Malformed(_))));
    assert_eq!(AnnounceResponse::parse(b"le"), Err(ReplyError::NotADictionary));
    let nested = [b"d1:x".as_slice(), &[b'l'; 10_000]].concat();
    assert!(matches!(AnnounceResponse::parse(&nested), Err(ReplyError::Malformed(_))));
}

#[test]
fn a_reply_of_any_size_gives_a_bounded_number_of_peers() {
    let peers = vec![v4(1, 5); REPLY_PEERS_MAX + 10];
    let reply = AnnounceResponse { peers, ..empty() };
    let back = AnnounceResponse::parse(&reply.encode(PeerFormat::Compact)).unwrap();
    assert_eq!(back.peers.len(), REPLY_PEERS_MAX);
}

fn empty() -> AnnounceResponse {
    AnnounceResponse::parse(b"de").unwrap()
}

#[test]
fn compact_reply_has_both_families() {
    let reply = AnnounceResponse { peers: vec![v6(2, 258), v4(1, 5)], ..empty() };
    let mut expected = b"d8:intervali1800e5:peers6:\x0a\0\0\x01\0\x056:peers618:\x20\x01\x0d\xb8".to_vec();
    expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2, b'e']);
    assert_eq!(reply.encode(PeerFormat::Compact), expected);
}

prop_compose! {
    fn any_request()(
        info_hash in any::<[u8; 20]>(), peer_id in any::<[u8; 20]>(), port: u16,
        (uploaded, downloaded, left) in any::<(u64, u64, u64)>(),
        event in of(prop_oneof![Just(Event::Started), Just(Event::Completed), Just(Event::Stopped)]),
        format in prop_oneof![
            Just(PeerFormat::Compact), Just(PeerFormat::Dictionaries), Just(PeerFormat::DictionariesWithoutIds)
        ],
        numwant in of(any::<u32>()), key in of(any::<u32>()),
        tracker_id in of(prop::collection::vec(any::<u8>(), 0..40)),
    ) -> AnnounceRequest {
        AnnounceRequest {
            info_hash: InfoHash(info_hash), peer_id: PeerId(peer_id), port, uploaded, downloaded, left,
            event, numwant, format, key, tracker_id,
        }
    }
}

prop_compose! {
    fn any_peer()(v4: bool, octets: [u8; 16], port in 1u16.., id in of(any::<[u8; 20]>())) -> TrackerPeer {
        let ip = if v4 {
            Ipv4Addr::from(<[u8; 4]>::try_from(&octets[..4]).unwrap()).into()
        } else {
            IpAddr::from(octets).to_canonical()
        };
        TrackerPeer { addr: SocketAddr::new(ip, port), id: id.map(PeerId) }
    }
}

prop_compose! {
    fn any_response()(
        (interval, min_interval) in any::<(u32, Option<u32>)>(),
        (complete, incomplete, downloaded) in any::<(Option<u32>, Option<u32>, Option<u32>)>(),
        tracker_id in of(prop::collection::vec(any::<u8>(), 0..40)),
        external_ip in of(any_peer()),
        warning in of("[ -~]{0,40}"),
        peers in prop::collection::vec(any_peer(), 0..20),
    ) -> AnnounceResponse {
        let seconds = |n: u32| Duration::from_secs(n.into());
        AnnounceResponse {
            interval: seconds(interval), min_interval: min_interval.map(seconds), tracker_id, complete,
            incomplete, downloaded, external_ip: external_ip.map(|peer| peer.addr.ip()), warning, peers, oddities: Default::default() }
    }
}

proptest! {
    #[test]
    fn request_survives_its_query(request in any_request()) {
        prop_assert_eq!(parsed(&request.to_query()), Ok(request));
    }

    #[test]
    fn response_survives_its_encoding(response in any_response()) {
        let parse = |format| AnnounceResponse::parse(&response.encode(format)).unwrap();
        prop_assert_eq!(&parse(PeerFormat::Dictionaries), &response);

        let mut anonymous = response.clone();
        anonymous.peers.iter_mut().for_each(|peer| peer.id = None);
        prop_assert_eq!(&parse(PeerFormat::DictionariesWithoutIds), &anonymous);

        // Compact lists are one for each family.
        anonymous.peers.sort_by_key(|peer| peer.addr.is_ipv6());
        prop_assert_eq!(&parse(PeerFormat::Compact), &anonymous);
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = AnnounceRequest::parse_query(&bytes);
        let _ = AnnounceResponse::parse(&bytes);
        let _ = AnnounceResponse::parse(&[b"d5:peers", bytes.as_slice(), b"e"].concat());
    }
}

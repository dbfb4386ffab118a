use super::*;
use crate::dht::scrape::FILTER_LEN;
use proptest::collection::vec;
use proptest::prelude::*;

fn parsed(text: &[u8]) -> Body {
    Message::parse(text).unwrap_or_else(|e| panic!("{}: {e}", text.escape_ascii())).body
}

fn query(text: &[u8]) -> Query {
    let Body::Query(query) = parsed(text) else { panic!("{} is no query", text.escape_ascii()) };
    query
}

fn refused(text: &[u8]) -> Option<ErrorCode> {
    match Message::parse(text) {
        Err(MessageError::BadQuery { code, .. }) => Some(code),
        Err(_) => None,
        Ok(message) => panic!("{message:?}"),
    }
}

#[test]
fn the_examples_of_bep_5_mean_what_it_says() {
    let id = NodeId(*b"abcdefghij0123456789");
    let other = NodeId(*b"mnopqrstuvwxyz123456");
    let ping = query(b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe");
    assert_eq!(ping, Query { id, want: vec![], question: Question::Ping });
    let announce = query(
        b"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe",
    );
    let info_hash = InfoHash(other.0);
    let token = b"aoeusnth".to_vec();
    assert_eq!(
        announce.question,
        Question::AnnouncePeer {
            info_hash,
            port: 6881,
            implied_port: true,
            is_seed: false,
            token: token.clone()
        }
    );
    let peers =
        parsed(b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re");
    let wanted = Response {
        id: Some(id),
        token: Some(token),
        peers: vec!["97.120.106.101:11893".parse().unwrap(), "105.100.104.116:28269".parse().unwrap()],
        ..Response::default()
    };
    assert_eq!(peers, Body::Response(wanted));
    let error = parsed(b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee");
    assert_eq!(error, Body::Error(KrpcError { code: 201, text: "A Generic Error Ocurred".to_owned() }));
    let cut = parsed(b"d1:rd2:id20:0123456789abcdefghij5:nodes9:def456...e1:t2:aa1:y1:re");
    assert!(matches!(cut, Body::Response(Response { nodes: Some(nodes), .. }) if nodes.is_empty()));
}

#[test]
fn queries_that_cannot_be_answered_are_named() {
    let twenty = "abcdefghij0123456789";
    for (arguments, method, code) in [
        ("2:id3:abc", "ping", ErrorCode::Protocol),
        ("", "ping", ErrorCode::Protocol),
        (&*format!("2:id20:{twenty}"), "find_node", ErrorCode::Protocol),
        (&format!("2:id20:{twenty}6:target3:abc"), "find_node", ErrorCode::Protocol),
        (
            &format!("2:id20:{twenty}9:info_hash20:{twenty}4:porti0e5:token1:x"),
            "announce_peer",
            ErrorCode::Protocol,
        ),
        (
            &format!("2:id20:{twenty}9:info_hash20:{twenty}4:porti65536e5:token1:x"),
            "announce_peer",
            ErrorCode::Protocol,
        ),
        (&format!("2:id20:{twenty}9:info_hash20:{twenty}4:porti1e"), "announce_peer", ErrorCode::Protocol),
        (&format!("2:id20:{twenty}"), "vote", ErrorCode::MethodUnknown),
    ] {
        let text = format!("d1:ad{arguments}e1:q{}:{method}1:t2:aa1:y1:qe", method.len());
        assert_eq!(refused(text.as_bytes()), Some(code), "{text}");
    }
}

#[test]
fn what_is_no_message_gets_no_answer() {
    let transaction = format!("d1:t33:{}1:y1:qe", "x".repeat(33));
    for text in
        ["", "i1e", "le", "de", "d1:y1:qe", "d1:t2:aae", "d1:t2:aa1:y1:xe", "d1:t2:aa1:y1:re", &transaction]
    {
        assert_eq!(refused(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn an_unknown_question_about_a_place_is_understood_as_far_as_that() {
    let unknown =
        query(b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q4:vote1:t2:aa1:y1:qe");
    assert_eq!(unknown.question, Question::UnknownAbout { target: NodeId(*b"mnopqrstuvwxyz123456") });
}

#[test]
fn what_real_nodes_add_does_not_disturb() {
    let extra = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping2:roi1e1:t0:1:v9:something1:y1:qetrailing";
    let message = Message::parse(extra).unwrap();
    assert!(message.read_only);
    assert!(message.transaction.is_empty());
    // Keys out of order.
    assert!(Message::parse(b"d1:y1:q1:t2:aa1:q4:ping1:ad2:id20:abcdefghij0123456789ee").is_ok());
}

fn addrs() -> impl Strategy<Value = SocketAddr> {
    (any::<[u8; 4]>(), any::<[u8; 16]>(), any::<bool>(), 1u16..).prop_map(|(v4, v6, is_v4, port)| {
        let v6 = std::net::IpAddr::from(v6).to_canonical();
        SocketAddr::new(if is_v4 || v6.is_ipv4() { v4.into() } else { v6 }, port)
    })
}

/// Items; those of an owner with a salt or without.
fn items(salt_len_max: usize) -> impl Strategy<Value = Item> {
    let owner = (any::<[u8; 32]>(), vec(any::<u8>(), 0..=salt_len_max), any::<i64>(), vec(any::<u8>(), 64))
        .prop_map(|(key, salt, seq, signature)| Owner {
            key,
            salt,
            seq,
            signature: signature.try_into().expect("64 bytes"),
        });
    let value = proptest::sample::select(vec![&b"le"[..], b"d1:ai-1e1:b1:xe", b"5:hello"]);
    (value, proptest::option::of(owner)).prop_map(|(value, owner)| Item { value: value.to_vec(), owner })
}

fn questions() -> impl Strategy<Value = Question> {
    let token = vec(any::<u8>(), 0..TOKEN_LEN_MAX);
    let target = any::<[u8; 20]>().prop_map(NodeId);
    let put = (items(SALT_LEN_MAX), proptest::option::of(any::<i64>()), token.clone());
    prop_oneof![
        Just(Question::Ping),
        any::<[u8; 20]>().prop_map(|target| Question::FindNode { target: NodeId(target) }),
        (target.clone(), proptest::option::of(any::<i64>()))
            .prop_map(|(target, seq)| Question::Get { target, seq }),
        put.prop_map(|(item, cas, token)| Question::Put { item, cas, token }),
        target.prop_map(|target| Question::SampleInfohashes { target }),
        any::<([u8; 20], bool, bool)>().prop_map(|(hash, no_seeds, scrape)| Question::GetPeers {
            info_hash: InfoHash(hash),
            no_seeds,
            scrape
        }),
        (any::<[u8; 20]>(), 1u16.., any::<bool>(), any::<bool>(), token).prop_map(
            |(hash, port, implied_port, is_seed, token)| {
                Question::AnnouncePeer { info_hash: InfoHash(hash), port, implied_port, is_seed, token }
            }
        ),
    ]
}

fn scrapes() -> impl Strategy<Value = Scrape> {
    let filter =
        || vec(any::<u8>(), FILTER_LEN).prop_map(|bytes| Filter(Box::new(bytes.try_into().unwrap())));
    (filter(), filter()).prop_map(|(seeds, downloaders)| Scrape { seeds, downloaders })
}

fn bodies() -> impl Strategy<Value = Body> {
    let nodes = |family| {
        let node = (any::<[u8; 20]>(), addrs()).prop_map(|(id, addr)| NodeInfo { id: NodeId(id), addr });
        let node = node.prop_filter("of one family", move |node| Family::of(node.addr) == family);
        proptest::option::of(vec(node, 0..8))
    };
    let wants = proptest::sample::subsequence(Family::ALL.to_vec(), 0..=2);
    prop_oneof![
        (any::<[u8; 20]>(), wants, questions()).prop_map(|(id, want, question)| Body::Query(Query {
            id: NodeId(id),
            want,
            question
        })),
        (
            proptest::option::of(any::<[u8; 20]>().prop_map(NodeId)),
            nodes(Family::V4),
            nodes(Family::V6),
            proptest::option::of(vec(any::<u8>(), 0..TOKEN_LEN_MAX)),
            (vec(addrs(), 0..20), proptest::option::of(scrapes())),
            proptest::option::of(items(0)),
            proptest::option::of((any::<[u32; 2]>(), vec(any::<[u8; 20]>(), 0..20)))
        )
            .prop_map(|(id, nodes, nodes6, token, (peers, scrape), item, samples)| {
                let seq = item.as_ref().and_then(|item| item.owner.as_ref()).map(|owner| owner.seq);
                let samples = samples.map(|([interval, count], hashes)| Samples {
                    interval_s: interval,
                    count,
                    hashes: hashes.into_iter().map(InfoHash).collect(),
                });
                Body::Response(Response { id, nodes, nodes6, token, peers, scrape, item, seq, samples })
            }),
        (any::<i64>(), "[ -~]{0,100}").prop_map(|(code, text)| Body::Error(KrpcError { code, text })),
    ]
}

fn messages() -> impl Strategy<Value = Message> {
    (vec(any::<u8>(), 0..TRANSACTION_LEN_MAX), proptest::option::of(addrs()), any::<bool>(), bodies())
        .prop_map(|(transaction, external_addr, read_only, body)| Message {
            transaction,
            external_addr,
            read_only,
            body,
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read(message in messages()) {
        let datagram = message.encode();
        prop_assert!(bencode::parse(&datagram, &LIMITS).is_ok_and(|d| d.unsorted_at().is_none()));
        prop_assert_eq!(Message::parse(&datagram), Ok(message));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(message in messages(), at in vec((any::<usize>(), any::<u8>()), 1..6)) {
        let mut datagram = message.encode();
        for (at, byte) in at {
            let at = at % datagram.len();
            datagram[at] = byte;
        }
        let _ = Message::parse(&datagram);
    }
}

#[test]
fn items_that_are_too_large_are_named() {
    let twenty = "abcdefghij0123456789";
    let put = |more: &str| format!("d1:ad2:id20:{twenty}{more}e1:q3:put1:t2:aa1:y1:qe");
    let value = |len: usize| format!("5:token1:x1:v{len}:{}", "v".repeat(len));
    assert_eq!(refused(put(&value(1_000)).as_bytes()), Some(ErrorCode::ValueTooBig));
    assert!(Message::parse(put(&value(996)).as_bytes()).is_ok());
    let owned = |salt: usize, key: usize| {
        let (key, salt, sig) = ("k".repeat(key), "s".repeat(salt), "g".repeat(64));
        let (key_len, salt_len) = (key.len(), salt.len());
        format!("1:k{key_len}:{key}4:salt{salt_len}:{salt}3:seqi1e3:sig64:{sig}5:token1:x1:v1:v")
    };
    assert_eq!(refused(put(&owned(65, 32)).as_bytes()), Some(ErrorCode::SaltTooBig));
    assert_eq!(refused(put(&owned(64, 31)).as_bytes()), Some(ErrorCode::Protocol));
    assert!(Message::parse(put(&owned(64, 32)).as_bytes()).is_ok());
}

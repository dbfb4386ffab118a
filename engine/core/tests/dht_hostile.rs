//! What strangers can do to a node of the DHT: nothing. And what it makes of the datagrams of others.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use swarm_core::dht::{
    Body, Event, Item, Message, Node, NodeConfig, NodeId, Owner, Query, Question, Response,
};
use swarm_core::id::InfoHash;
use swarm_core::net::Family;
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};

const OWN: NodeId = NodeId(*b"mnopqrstuvwxyz123456");
const HASH: InfoHash = InfoHash(*b"ABCDEFGHIJKLMNOPQRST");

fn node() -> Node {
    let config = NodeConfig {
        id_v4: Some(OWN),
        id_v6: Some(OWN),
        secret: [3; 16],
        read_only: false,
        enforce_ids: true,
        ip_filter: Arc::default(),
    };
    Node::new(start(), config, Rng::new(1))
}

fn start() -> Time {
    Time::from_micros(1)
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Has the node take a datagram; returns what it sends.
fn answers(node: &mut Node, now: Time, from: SocketAddr, datagram: &[u8]) -> Vec<(SocketAddr, Vec<u8>)> {
    node.handle_datagram(now, from, datagram);
    std::iter::from_fn(|| node.poll_datagram()).collect()
}

fn query(id: NodeId, question: Question) -> Message {
    Message {
        transaction: b"aa".to_vec(),
        external_addr: None,
        read_only: false,
        body: Body::Query(Query { id, want: vec![], question }),
    }
}

/// The answer to a ping.
fn pong(ping: &[u8], id: NodeId) -> Message {
    Message {
        transaction: Message::parse(ping).expect("a message").transaction,
        external_addr: None,
        read_only: false,
        body: Body::Response(Response { id: Some(id), ..Response::default() }),
    }
}

fn ask(node: &mut Node, now: Time, from: SocketAddr, question: Question) -> Message {
    let datagram = query(NodeId(*b"abcdefghij0123456789"), question).encode();
    let sent = answers(node, now, from, &datagram);
    let (_, answer) = sent.iter().find(|(to, _)| *to == from).expect("an answer");
    Message::parse(answer).expect("a message")
}

fn response(message: Message) -> Response {
    match message.body {
        Body::Response(response) => response,
        other => panic!("{other:?}"),
    }
}

fn get_peers(node: &mut Node, now: Time, from: SocketAddr) -> Response {
    response(ask(node, now, from, Question::GetPeers { info_hash: HASH, no_seeds: false, scrape: false }))
}

fn announcement(token: Vec<u8>, implied_port: bool) -> Question {
    Question::AnnouncePeer { info_hash: HASH, port: 9, implied_port, is_seed: false, token }
}

#[test]
fn announcements_need_a_token_for_their_address() {
    for family in Family::ALL {
        tokens_are_for_their_address(host(family, 1), host(family, 2));
    }
}

fn tokens_are_for_their_address(a: SocketAddr, b: SocketAddr) {
    let mut node = node();
    let token = get_peers(&mut node, start(), a).token.expect("a token");
    for (from, token) in [(a, b"aoeusnth".to_vec()), (a, vec![]), (b, token.clone())] {
        let answer = ask(&mut node, start(), from, announcement(token, false));
        assert!(matches!(answer.body, Body::Error(error) if error.code == 203));
    }
    assert_eq!(node.stored(), (0, 0));
    ask(&mut node, start(), a, announcement(token.clone(), false));
    assert_eq!(get_peers(&mut node, start(), b).peers, [SocketAddr::new(a.ip(), 9)]);
    ask(&mut node, start(), a, announcement(token, true));
    assert_eq!(
        get_peers(&mut node, start(), b).peers,
        [SocketAddr::new(a.ip(), 9), a],
        "the port that it came from"
    );
}

#[test]
fn items_need_a_token_and_come_back_as_they_were() {
    let mut node = node();
    let (a, b) = (addr("192.168.0.1:5000"), addr("192.168.0.2:5000"));
    let item = Item::signed(&[1; 32], b"salt".to_vec(), 4, b"d1:b1:x1:ai-1ee".to_vec());
    let get = |seq| Question::Get { target: item.target(), seq };
    let put = |token: Vec<u8>, item: &Item| Question::Put { item: item.clone(), cas: None, token };
    let refused = ask(&mut node, start(), a, put(b"aoeusnth".to_vec(), &item));
    assert!(matches!(refused.body, Body::Error(error) if error.code == 203));
    let token = response(ask(&mut node, start(), a, get(None))).token.expect("a token");
    let mut forged = item.clone();
    forged.value = b"4:evil".to_vec();
    let refused = ask(&mut node, start(), a, put(token.clone(), &forged));
    assert!(matches!(refused.body, Body::Error(error) if error.code == 206));
    response(ask(&mut node, start(), a, put(token, &item)));
    let found = response(ask(&mut node, start(), b, get(Some(3))));
    assert_eq!((found.seq, found.item.map(|item| item.value)), (Some(4), Some(item.value.clone())));
    let known = response(ask(&mut node, start(), b, get(Some(4))));
    assert_eq!((known.seq, known.item), (Some(4), None), "the value is known");
}

#[test]
fn a_scrape_tells_how_many_there_are_and_fits_a_frame() {
    Family::ALL.into_iter().for_each(scrape_tells_how_many);
}

fn scrape_tells_how_many(family: Family) {
    let mut node = node();
    for n in 0..200 {
        let peer = host(family, n);
        let token = get_peers(&mut node, start(), peer).token.expect("a token");
        let is_seed = n % 4 == 0;
        let what = Question::AnnouncePeer { info_hash: HASH, port: 9, implied_port: false, is_seed, token };
        ask(&mut node, start(), peer, what);
    }
    let question = Question::GetPeers { info_hash: HASH, no_seeds: false, scrape: true };
    let answer = ask(&mut node, start(), host(family, 1_000), question);
    assert!(answer.encode().len() < 1_400, "{} bytes", answer.encode().len());
    let scrape = response(answer).scrape.expect("filters");
    let (seeds, downloaders) = (scrape.seeds.count(), scrape.downloaders.count());
    assert!(seeds.abs_diff(50) <= 2 && downloaders.abs_diff(150) <= 6, "{seeds} and {downloaders}");
    let other = Question::GetPeers { info_hash: InfoHash([1; 20]), no_seeds: false, scrape: true };
    assert_eq!(response(ask(&mut node, start(), host(family, 1_001), other)).scrape, None);
}

#[test]
fn an_id_is_resumed_as_long_as_nobody_is_known() {
    let mut node = node();
    let (mine, other) = (NodeId([5; 20]), NodeId([6; 20]));
    node.resume_id(start(), Family::V4, mine);
    assert_eq!((node.id(Family::V4), node.id(Family::V6)), (Some(mine), Some(OWN)));
    node.ping(start(), addr("192.168.0.1:5000"));
    let (to, ping) = node.poll_datagram().expect("a ping");
    answers(&mut node, start(), to, &pong(&ping, NodeId([1; 20])).encode());
    node.resume_id(start(), Family::V4, other);
    assert_eq!(node.id(Family::V4), Some(mine));
}

#[test]
fn a_sample_tells_of_swarms() {
    for family in Family::ALL {
        let mut node = node();
        let from = host(family, 1);
        let token = get_peers(&mut node, start(), from).token.expect("a token");
        ask(&mut node, start(), from, announcement(token, false));
        let sample = Question::SampleInfohashes { target: OWN };
        let samples = response(ask(&mut node, start(), from, sample)).samples.expect("samples");
        assert_eq!((samples.count, samples.hashes), (1, vec![HASH]));
    }
}

#[test]
fn announcements_expire() {
    let mut node = node();
    let from = addr("192.168.0.1:5000");
    let token = get_peers(&mut node, start(), from).token.expect("a token");
    ask(&mut node, start(), from, announcement(token, false));
    let mut now = start();
    while now < start() + Duration::from_secs(1_900) {
        let soonest = now + Duration::from_secs(1);
        now = node.poll_timeout().map_or(soonest, |at| at.max(soonest));
        node.handle_timeout(now);
    }
    assert_eq!(node.stored(), (0, 0));
    assert_eq!(get_peers(&mut node, now, from).peers, []);
}

/// A host on a local network of this family, where ids need not fit addresses.
fn host(family: Family, n: u16) -> SocketAddr {
    let [high, low] = n.to_be_bytes();
    match family {
        Family::V4 => SocketAddr::from(([10, 1, high, low], 5000)),
        Family::V6 => SocketAddr::from(([0xfd00, 0, 0, n, 0, 0, 0, 1], 5000)),
    }
}

/// Has a node known that answers from there.
fn befriend(node: &mut Node, at: SocketAddr, id: NodeId) {
    node.ping(start(), at);
    let (_, ping) = node.poll_datagram().expect("a ping");
    answers(node, start(), at, &pong(&ping, id).encode());
}

/// A node with much to say: a table and a swarm with more in them than an answer holds.
fn talkative(family: Family) -> Node {
    let (mut node, mut rng) = (node(), Rng::new(2));
    for n in 0..200 {
        befriend(&mut node, host(family, n), NodeId::random(&mut rng));
        let peer = host(family, 1_000 + n);
        let token = get_peers(&mut node, start(), peer).token.expect("a token");
        ask(&mut node, start(), peer, announcement(token, false));
    }
    assert!(node.nodes(family).len() > 16);
    node
}

#[test]
fn who_asks_too_much_is_not_answered() {
    let samples = [
        Question::Ping,
        Question::FindNode { target: OWN },
        Question::GetPeers { info_hash: HASH, no_seeds: false, scrape: false },
        Question::GetPeers { info_hash: HASH, no_seeds: false, scrape: true },
        Question::Get { target: OWN, seq: None },
        Question::SampleInfohashes { target: OWN },
    ];
    for (family, question) in Family::ALL.into_iter().flat_map(|f| samples.clone().map(|q| (f, q))) {
        let mut node = talkative(family);
        let now = start() + Duration::from_secs(60);
        let flooder = host(family, 9_999);
        let datagram = query(NodeId([9; 20]), question.clone()).encode();
        let (mut bytes_in, mut bytes_out, mut count) = (0, 0, 0);
        for n in 0..500 {
            bytes_in += datagram.len();
            let sent = answers(&mut node, now + Duration::from_millis(n * 2), flooder, &datagram);
            bytes_out += sent.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
            count += usize::from(!sent.is_empty());
        }
        assert!(count > 3, "a few answers are for everybody");
        assert!(bytes_out * 5 <= bytes_in, "{family} {question:?}: {bytes_out} bytes out for {bytes_in} in");
        let other = host(family, 9_998);
        assert!(!answers(&mut node, now + Duration::from_secs(1), other, &datagram).is_empty());
        assert!(!answers(&mut node, now + Duration::from_secs(10), flooder, &datagram).is_empty());
    }
}

#[test]
fn answers_that_nobody_asked_for_change_nothing() {
    let mut node = node();
    let from = addr("192.168.0.1:5000");
    let nobody = Response { id: Some(NodeId([1; 20])), peers: vec![from], ..Response::default() };
    let message = |transaction: &[u8]| Message {
        transaction: transaction.to_vec(),
        external_addr: None,
        read_only: false,
        body: Body::Response(nobody.clone()),
    };
    for n in 0..=u16::MAX {
        assert!(answers(&mut node, start(), from, &message(&n.to_be_bytes()).encode()).is_empty());
    }
    assert!(node.nodes(Family::V4).is_empty());
    // Nor does the right transaction from somebody else.
    node.ping(start(), from);
    let (_, ping) = node.poll_datagram().expect("a ping");
    let transaction = Message::parse(&ping).expect("a message").transaction;
    answers(&mut node, start(), addr("192.168.0.2:5000"), &message(&transaction).encode());
    assert!(node.nodes(Family::V4).is_empty());
    answers(&mut node, start(), from, &message(&transaction).encode());
    assert_eq!(node.nodes(Family::V4).len(), 1);
    assert!(node.poll_event().is_none());
}

#[test]
fn thousands_of_mutated_datagrams_change_nothing() {
    Family::ALL.into_iter().for_each(mutated_datagrams_change_nothing);
}

fn mutated_datagrams_change_nothing(family: Family) {
    let mut node = node();
    let mut rng = Rng::new(4);
    let known = host(family, 65_535);
    node.ping(start(), known);
    let (_, ping) = node.poll_datagram().expect("a ping");
    let pong = pong(&ping, NodeId([1; 20]));
    answers(&mut node, start(), known, &pong.encode());
    let before = node.nodes(family);
    assert_eq!(before.len(), 1);
    let id = NodeId([9; 20]);
    let seeds: Vec<Vec<u8>> = [
        query(id, Question::Ping),
        query(id, Question::FindNode { target: OWN }),
        query(id, Question::GetPeers { info_hash: HASH, no_seeds: true, scrape: true }),
        query(id, Question::Get { target: OWN, seq: Some(1) }),
        query(
            id,
            Question::Put {
                item: Item::immutable(b"5:hello".to_vec()),
                cas: None,
                token: b"12345678".to_vec(),
            },
        ),
        query(id, Question::SampleInfohashes { target: OWN }),
        query(id, announcement(b"12345678".to_vec(), true)),
        pong,
    ]
    .iter()
    .map(Message::encode)
    .collect();
    let mut now = start();
    for n in 0..5_000 {
        let mut datagram = seeds[rng.index(seeds.len())].clone();
        for _ in 0..=rng.below(4) {
            let at = rng.index(datagram.len());
            match rng.below(3) {
                0 => datagram[at] = rng.next_u64() as u8,
                1 => datagram.insert(at, rng.next_u64() as u8),
                _ => datagram.truncate(at.max(1)),
            }
        }
        now += Duration::from_micros(100);
        // What comes out goes nowhere: who asks so does not answer.
        answers(&mut node, now, host(family, n), &datagram);
    }
    assert_eq!(node.nodes(family), before);
    assert_eq!(node.stored(), (0, 0));
    assert!(node.poll_event().is_none());
}

#[test]
fn ids_that_do_not_fit_their_address_are_left_out() {
    for (family, from) in Family::ALL.into_iter().zip(["93.184.216.34:5000", "[2606:2800:21f:cb07::1]:5000"])
    {
        let ids = [(NodeId([1; 20]), 0), (NodeId::for_address(addr(from).ip(), &mut Rng::new(1)), 1)];
        for (id, known) in ids {
            let mut node = node();
            node.ping(start(), addr(from));
            let (_, ping) = node.poll_datagram().expect("a ping");
            answers(&mut node, start(), addr(from), &pong(&ping, id).encode());
            assert_eq!(node.nodes(family).len(), known, "{from}");
        }
    }
}

#[test]
fn a_read_only_node_asks_and_does_not_answer() {
    Family::ALL.into_iter().for_each(read_only_node_does_not_answer);
}

fn read_only_node_does_not_answer(family: Family) {
    let config = NodeConfig {
        id_v4: Some(NodeId([5; 20])),
        id_v6: Some(NodeId([6; 20])),
        secret: [3; 16],
        read_only: true,
        enforce_ids: true,
        ip_filter: Arc::default(),
    };
    let mut reader = Node::new(start(), config, Rng::new(1));
    let from = host(family, 1);
    assert!(answers(&mut reader, start(), from, &query(NodeId([9; 20]), Question::Ping).encode()).is_empty());
    reader.ping(start(), from);
    let (_, ping) = reader.poll_datagram().expect("a ping");
    assert!(Message::parse(&ping).expect("a message").read_only);
    let mut other = node();
    let sent = answers(&mut other, start(), from, &ping);
    assert_eq!(sent.len(), 1, "an answer, and no ping to see whether it answers");
}

#[test]
fn nodes_of_both_families_are_given_to_who_wants_them() {
    let mut node = node();
    for from in ["10.0.0.1:5000", "[fd00::1]:5000"] {
        node.ping(start(), addr(from));
        let (to, ping) = node.poll_datagram().expect("a ping");
        let pong = pong(&ping, NodeId([1; 20]));
        answers(&mut node, start(), to, &pong.encode());
    }
    let counts = |node: &mut Node, want: Vec<Family>| {
        let question = Question::FindNode { target: OWN };
        let query = Query { id: NodeId([9; 20]), want, question };
        let message = Message { body: Body::Query(query), ..query_of_ping() };
        let sent = answers(node, start(), addr("10.0.0.2:1"), &message.encode());
        let answer = response(Message::parse(&sent[0].1).expect("a message"));
        (answer.nodes.map(|nodes| nodes.len()), answer.nodes6.map(|nodes| nodes.len()))
    };
    assert_eq!(counts(&mut node, vec![]), (Some(1), None));
    assert_eq!(counts(&mut node, vec![Family::V6]), (None, Some(1)));
    assert_eq!(counts(&mut node, Family::ALL.to_vec()), (Some(1), Some(1)));
}

fn query_of_ping() -> Message {
    query(NodeId([9; 20]), Question::Ping)
}

#[test]
fn a_node_changes_its_id_when_the_world_sees_it_elsewhere() {
    let mut node = node();
    for n in 1..20u8 {
        let from = SocketAddr::from(([80 + n, 1, 1, 1], 5000));
        node.ping(start(), from);
        let (_, ping) = node.poll_datagram().expect("a ping");
        let pong = Message {
            transaction: Message::parse(&ping).expect("a message").transaction,
            external_addr: Some(addr("124.31.75.21:6881")),
            read_only: false,
            body: Body::Response(Response {
                id: Some(NodeId::for_address(from.ip(), &mut Rng::new(n.into()))),
                ..Response::default()
            }),
        };
        node.handle_datagram(start(), from, &pong.encode());
        if let Some(Event::NewId { family, id }) = node.poll_event() {
            assert!(n > 5, "{n} of them are too few");
            assert_eq!((family, node.id(family)), (Family::V4, Some(id)));
            assert!(id.is_allowed_for(addr("124.31.75.21:1").ip()));
            return;
        }
    }
    panic!("the id is still {:?}", node.id(Family::V4));
}

/// A file of the collection beside the project, if there is one.
fn corpus(name: &str) -> Option<Vec<u8>> {
    let Some(folder) = std::env::var_os("SWARM_CORPORA") else {
        eprintln!("skipped: SWARM_CORPORA names no folder with {name}");
        return None;
    };
    let path = Path::new(&folder).join(name);
    Some(std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

fn hex(text: &str) -> Vec<u8> {
    let pairs = (0..text.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits")).collect()
}

#[test]
fn vectors_of_others_hold() {
    let Some(vectors) = corpus("vectors.json") else { return };
    let vectors: serde_json::Value = serde_json::from_slice(&vectors).expect("JSON");
    for case in vectors["bep42"]["cases"].as_array().expect("cases") {
        let id = hex(case["node_id"].as_str().expect("an id"));
        let id = NodeId(id.try_into().expect("20 bytes"));
        let ip = case["ip"].as_str().expect("an address").parse().expect("an address");
        assert!(id.is_allowed_for(ip), "{case}");
    }
    let bep44 = &vectors["bep44"];
    for case in bep44["cases"].as_array().expect("cases") {
        let text = |key: &str| case[key].as_str().expect("a text");
        let owner = (text("kind") == "mutable").then(|| Owner {
            key: hex(bep44["public"].as_str().expect("a key")).try_into().expect("32 bytes"),
            salt: text("salt").as_bytes().to_vec(),
            seq: case["seq"].as_i64().expect("a number"),
            signature: hex(text("sig")).try_into().expect("64 bytes"),
        });
        let mut item = Item { value: text("v").as_bytes().to_vec(), owner };
        assert_eq!(item.target().0.to_vec(), hex(text("target")), "{case}");
        assert!(item.is_genuine(), "{case}");
        if let Some(owner) = &mut item.owner {
            owner.seq += 1;
            assert!(!item.is_genuine(), "{case}");
        }
    }
    for case in vectors["bep5_packets"]["cases"].as_array().expect("cases") {
        let packet = case["packet"].as_str().expect("a packet").as_bytes();
        let message = Message::parse(packet).unwrap_or_else(|e| panic!("{case}: {e}"));
        let again = Message::parse(&message.encode()).expect("what is written is read");
        assert_eq!(message, again, "{case}");
        let kind = case["kind"].as_str().expect("a kind");
        assert_eq!(matches!(message.body, Body::Response(_)), kind.ends_with("_r"), "{case}");
    }
}

#[test]
fn captured_datagrams_are_read() {
    for (name, nodes) in
        [("find_node_response_1", 8), ("find_node_response_2", 16), ("find_node_response_3", 16)]
    {
        let Some(datagram) = corpus(&format!("wire/{name}.bin")) else { return };
        let message = Message::parse(&datagram).expect("a message");
        assert_eq!(response(message).nodes.map(|nodes| nodes.len()), Some(nodes), "{name}");
    }
    for name in ["find_node_request", "get_peers_request_0", "get_peers_request_1"] {
        let Some(datagram) = corpus(&format!("wire/{name}.bin")) else { return };
        let sent = answers(&mut node(), start(), addr("192.168.0.1:5000"), &datagram);
        assert!(response(Message::parse(&sent[0].1).expect("a message")).nodes.is_some(), "{name}");
    }
}

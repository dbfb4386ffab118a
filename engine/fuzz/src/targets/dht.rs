//! Messages of the DHT, and a node that is given anything.

use crate::Target;
use crate::input::Input;
use crate::memory::{bounded, kept};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use swarm_core::dht::{
    Announce, Body, DATAGRAM_LEN_MAX, Filter, Item, KrpcError, Message, MessageError, Node, NodeConfig,
    NodeId, NodeInfo, Query, Question, Response, SWARM_PEERS_MAX, SWARMS_MAX, Samples, Scrape,
    mutable_torrent_value,
};
use swarm_core::id::InfoHash;
use swarm_core::net::Family;
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};

pub(super) const MESSAGE: Target =
    Target { name: "dht_message", run: message, seeds: messages, runs: 200_000 };
pub(super) const NODE: Target = Target { name: "dht_node", run: node, seeds: node_seeds, runs: 20_000 };

const HASH: InfoHash = InfoHash(*b"ABCDEFGHIJKLMNOPQRST");
const TARGET: NodeId = NodeId(*b"abcdefghij0123456789");

/// What was read of a message is written as a message that says the same.
fn message(input: &[u8]) {
    match bounded(input.len(), 48, || Message::parse(input)) {
        Ok(message) => {
            let again = Message::parse(&message.encode()).expect("what we write");
            // What a question that we do not know is called is not kept.
            let is_unknown = |body: &Body| {
                matches!(body, Body::Query(Query { question: Question::UnknownAbout { .. }, .. }))
            };
            assert!(again == message || is_unknown(&message.body), "{message:?} is read again as {again:?}");
        }
        Err(MessageError::BadQuery { transaction, .. }) => assert!(transaction.len() <= input.len()),
        Err(_) => {}
    }
    if let Some(info_hash) = Item::immutable(input.to_vec()).torrent() {
        assert!(input.windows(20).any(|bytes| bytes == info_hash.0));
    }
}

fn nodes() -> Vec<NodeInfo> {
    (1..9).map(|n| NodeInfo { id: NodeId([n; 20]), addr: ([10, 0, n, n], 7).into() }).collect()
}

fn questions(token: &[u8], port: u16) -> Vec<Question> {
    let token = token.to_vec();
    vec![
        Question::Ping,
        Question::FindNode { target: TARGET },
        Question::GetPeers { info_hash: HASH, no_seeds: true, scrape: true },
        Question::GetPeers { info_hash: HASH, no_seeds: false, scrape: false },
        Question::AnnouncePeer {
            info_hash: HASH,
            port,
            implied_port: port == 0,
            is_seed: port.is_multiple_of(2),
            token: token.clone(),
        },
        Question::Get { target: Item::immutable(b"1:v".to_vec()).target(), seq: None },
        Question::Get { target: mutable().target(), seq: Some(3) },
        Question::Put { item: Item::immutable(b"1:v".to_vec()), cas: None, token: token.clone() },
        Question::Put { item: mutable(), cas: Some(4), token },
        Question::SampleInfohashes { target: TARGET },
        Question::UnknownAbout { target: TARGET },
    ]
}

fn mutable() -> Item {
    Item::signed(&[1; 32], b"salt".to_vec(), 4, mutable_torrent_value(HASH))
}

fn of(transaction: &[u8], body: Body) -> Message {
    Message { transaction: transaction.to_vec(), external_addr: None, read_only: false, body }
}

fn query(question: Question) -> Body {
    Body::Query(Query { id: NodeId([9; 20]), want: vec![], question })
}

fn response() -> Response {
    let item = mutable();
    let mut filter = Filter(Box::new([0; 256]));
    filter.insert([1, 2, 3, 4].into());
    Response {
        id: Some(NodeId([5; 20])),
        nodes: Some(nodes()),
        nodes6: None,
        token: Some(b"token".to_vec()),
        peers: vec![([1, 2, 3, 4], 5).into()],
        scrape: Some(Scrape { seeds: filter.clone(), downloaders: filter }),
        seq: item.owner.as_ref().map(|owner| owner.seq),
        item: Some(item),
        samples: Some(Samples { interval_s: 60, count: 3, hashes: vec![HASH] }),
    }
}

fn messages() -> Vec<Vec<u8>> {
    let queries = questions(b"token", 7).into_iter().map(query);
    let error = Body::Error(KrpcError { code: 203, text: "no".to_owned() });
    let all = queries.chain([Body::Response(response()), error]);
    let mut all: Vec<Vec<u8>> = all.map(|body| of(b"aa", body).encode()).collect();
    let addr = Some(([9, 8, 7, 6], 5).into());
    all.push(mutable_torrent_value(HASH));
    all.push(Message { external_addr: addr, read_only: true, ..of(b"x", query(Question::Ping)) }.encode());
    all
}

struct World {
    now: Time,
    node: Node,
    /// The last queries of the node, and to whom.
    asked: VecDeque<(SocketAddr, Message)>,
    /// The last token that each host got.
    tokens: [Vec<u8>; 4],
}

fn host(n: usize) -> SocketAddr {
    match n {
        0 | 1 => ([10, 0, n as u8, 1], 7_000).into(),
        _ => ([0x2001, 0xdb8, n as u16, 0, 0, 0, 0, 1], 7_000).into(),
    }
}

fn node(input: &[u8]) {
    let mut input = Input(input);
    let flags = input.byte();
    let config = NodeConfig {
        id_v4: Some(NodeId([7; 20])),
        id_v6: (flags & 1 == 0).then_some(NodeId([8; 20])),
        secret: [3; 16],
        read_only: flags & 2 != 0,
        enforce_ids: flags & 4 != 0,
        ip_filter: Arc::default(),
    };
    let steps = input.0.len();
    let (_world, kept) = kept(|| {
        let now = Time::from_micros(1_000_000);
        let node = Node::new(now, config, Rng::new(1));
        let mut world = World { now, node, asked: VecDeque::new(), tokens: Default::default() };
        while !input.is_empty() {
            world.step(&mut input);
            world.settle(200);
        }
        world
    });
    assert!(kept <= (256 << 10) + 2_048 * steps as isize, "{kept} bytes are kept after {steps} steps");
}

impl World {
    fn step(&mut self, input: &mut Input<'_>) {
        let from = input.below(4);
        match input.below(10) {
            0 => {
                let datagram = input.chunk();
                self.node.handle_datagram(self.now, host(from), datagram);
            }
            1..4 => {
                let mut all = questions(&self.tokens[from], input.u16());
                let question = all.swap_remove(input.below(all.len()));
                let message = Message { read_only: input.below(8) == 7, ..of(b"tt", query(question)) };
                self.ask(from, &message.encode());
            }
            4..7 => self.answer(input),
            7 => self.command(from, input),
            _ => self.pass(Duration::from_millis(
                input.of(&[50, 300, 1_000, 5_000, 61_000, 1_000_000, 9_000_000]),
            )),
        }
    }

    /// A query of this size is not answered with many times as much.
    fn ask(&mut self, from: usize, datagram: &[u8]) {
        self.node.handle_datagram(self.now, host(from), datagram);
        while let Some((to, sent)) = self.node.poll_datagram() {
            assert!(sent.len() <= DATAGRAM_LEN_MAX);
            let message = Message::parse(&sent).expect("what we write");
            match &message.body {
                Body::Response(response) if to == host(from) => {
                    self.tokens[from] = response.token.clone().unwrap_or_default();
                }
                Body::Query(_) => self.asked.push_back((to, message)),
                _ => {}
            }
        }
    }

    /// Whom the node has asked answers.
    fn answer(&mut self, input: &mut Input<'_>) {
        let nth = input.below(self.asked.len().clamp(1, 256));
        let Some((to, question)) = self.asked.remove(nth) else { return };
        let has = input.byte();
        let full = response();
        let mut answer = Response { id: Some(NodeId([input.byte(); 20])), ..Response::default() };
        if has & 1 != 0 {
            (answer.nodes, answer.token) = (full.nodes, full.token);
            let near = |n: u8| NodeInfo { id: NodeId([n; 20]), addr: ([10, n, 0, 1], 9).into() };
            answer.nodes.iter_mut().for_each(|nodes| nodes.extend(input.chunk().iter().map(|n| near(*n))));
        }
        if has & 2 != 0 {
            (answer.peers, answer.scrape, answer.samples) = (full.peers, full.scrape, full.samples);
        }
        if has & 4 != 0 {
            (answer.item, answer.seq) = (full.item, full.seq);
        }
        let body = if has & 0xc0 == 0xc0 {
            Body::Error(KrpcError { code: 201, text: String::new() })
        } else {
            Body::Response(answer)
        };
        let external_addr = (has & 0x30 == 0x30).then(|| ([has, 2, 3, 4], 5).into());
        let message = Message { external_addr, ..of(&question.transaction, body) };
        self.node.handle_datagram(self.now, to, &message.encode());
    }

    fn command(&mut self, from: usize, input: &mut Input<'_>) {
        let (now, family) = (self.now, input.of(&Family::ALL));
        match input.below(8) {
            0 => self.node.join(now, &[host(from)]),
            1 => self.node.ping(now, host(from)),
            2 => drop(self.node.get_peers(now, family, HASH)),
            3 => {
                let what = Announce { port: 9, implied_port: input.bool(), is_seed: input.bool() };
                self.node.announce(now, family, HASH, what);
            }
            4 => drop(self.node.get_item(now, family, mutable().target(), b"salt")),
            5 => drop(self.node.put_item(now, family, mutable(), None)),
            6 => drop(self.node.scrape(now, family, HASH)),
            _ => drop(self.node.sample_infohashes(now, family, TARGET)),
        }
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        let mut wakes = 0;
        while let Some(at) = self.node.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.node.handle_timeout(self.now);
            self.settle(2_000);
            wakes += 1;
            assert!(wakes < 20_000, "it spins");
        }
        self.now = until;
    }

    fn settle(&mut self, datagrams_max: usize) {
        let mut sent = 0;
        while let Some((to, datagram)) = self.node.poll_datagram() {
            assert!(datagram.len() <= DATAGRAM_LEN_MAX && to.port() != 0);
            let message = Message::parse(&datagram).expect("what we write");
            if matches!(message.body, Body::Query(_)) {
                self.asked.push_back((to, message));
            }
            sent += 1;
            assert!(sent < datagrams_max, "it asks without end");
        }
        self.asked.drain(..self.asked.len().saturating_sub(64));
        while self.node.poll_event().is_some() {}
        let (swarms, peers) = self.node.stored();
        assert!(swarms <= SWARMS_MAX && peers <= SWARMS_MAX * SWARM_PEERS_MAX);
    }
}

fn node_seeds() -> Vec<Vec<u8>> {
    // From, what: a query (port, which, whether it is read-only); an answer (which, what it has, by whom, nodes).
    let ask = |which: u8| [0, 1, 0, 9, which, 0];
    let answer = [0, 4, 0, 7, 3, 3, 20, 40, 60];
    let found = [&answer[..], &[0, 8, 1], &answer].concat();
    let searches = |which: u8| {
        [&[0, 0, 7, 0, 0], &answer[..], &[0, 7, 0, which, 1, 1], &found, &found, &[0, 8, 3]].concat()
    };
    let mut asked = vec![0];
    [2, 3, 4, 2, 5, 6, 8, 7, 9, 10, 0].iter().for_each(|which| asked.extend(ask(*which)));
    asked.extend([0, 8, 4]);
    let mut seeds = vec![asked];
    seeds.extend((2..8).map(|which| [&[0][..], &searches(which)].concat()));
    seeds
}

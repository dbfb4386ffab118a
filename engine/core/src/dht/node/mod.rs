//! A node: answers others, keeps its table, searches for its owner.
//!
//! Split by what it reacts to: queries of others (`serve`), its own searches (`searches`), and here the table, time and
//! the queries that are on their way.
//!
//! What a datagram may cost, and make us keep. None is longer than [`DATAGRAM_LEN_MAX`](super::message::DATAGRAM_LEN_MAX), and reading one takes a
//! bounded number of tokens.
//!
//! | input | costs | keeps | how often |
//! |---|---|---|---|
//! | query | one answer, and a look at the table; nothing if its host has had its share | a node to be checked, in a table of [`BUCKET_LEN_MAX`] for each bucket | [`HOST_BYTES_PER_S`](super::limit::HOST_BYTES_PER_S) of answers for each of [`HOSTS_MAX`](super::limit::HOSTS_MAX) hosts, [`TOTAL_BYTES_PER_S`](super::limit::TOTAL_BYTES_PER_S) in all |
//! | `announce_peer` | that | a peer for a while, within [`SWARMS_MAX`](super::peers::SWARMS_MAX) swarms of [`SWARM_PEERS_MAX`](super::peers::SWARM_PEERS_MAX), [`HOST_PEERS_MAX`](super::peers::HOST_PEERS_MAX) of one host | that, with a token |
//! | `put` | that, and a signature | an item for a while, [`ITEMS_MAX`](super::items::ITEMS_MAX) of [`VALUE_LEN_MAX`](super::items::VALUE_LEN_MAX) bytes | that, with a token |
//! | response | a step of a search; pings of at most [`BUCKET_LEN_MAX`] nodes | [`CANDIDATES_MAX`](super::lookup::CANDIDATES_MAX) nodes for a search | once for each query of ours, from where that went |
//! | [`ping`](Node::ping) (a peer's PORT) | a look at the queries that are on their way; one query | that query, for [`QUERY_TIMEOUT`] | one at a time for a host, up to half of [`QUERIES_MAX`] |
//!
//! Everything else comes from the owner.

mod event;
mod pace;
mod search;
mod searches;
mod serve;

pub use event::{Event, LookupId};
pub use search::Announce;

use super::compact::{NodeInfo, is_usable};
use super::id::NodeId;
use super::items::ItemStore;
use super::limit::Allowance;
use super::lookup::Lookup;
use super::message::{Body, Message, MessageError, Query, Question, Response};
use super::peers::PeerStore;
use super::table::{BUCKET_LEN_MAX, Table};
use super::token::Tokens;
use crate::ip_filter::IpFilter;
use crate::net::{ExternalIpVotes, Family, Host};
use crate::rng::Rng;
use crate::time::{Duration, Time};
use pace::Pace;
use search::Search;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

/// From then on a query has failed. An answer that comes later is not known any more.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a node that knows nobody waits until it tries to join again; doubled each time.
pub const JOIN_RETRY_FIRST: Duration = Duration::from_secs(3);
/// The longest such wait.
pub const JOIN_RETRY_MAX: Duration = Duration::from_secs(300);
/// How often what has expired is thrown away.
pub const EXPIRE_INTERVAL: Duration = Duration::from_secs(60);
/// Most queries on their way; further ones fail at once.
pub const QUERIES_MAX: usize = 1_000;
/// Nodes that a lookup begins with. More than it needs, should some of them be gone.
const SEEDS: usize = 3 * BUCKET_LEN_MAX;
/// Most bootstrap nodes that are remembered.
pub const BOOTSTRAP_NODES_MAX: usize = 64;

/// What a node is told when it is made.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The id on the IPv4 network; `None`: takes no part in it.
    pub id_v4: Option<NodeId>,
    /// The id on the IPv6 network (BEP 32, 45); `None`: takes no part in it.
    pub id_v6: Option<NodeId>,
    /// Random bytes from a good source, known to nobody: what tokens are made with.
    pub secret: [u8; 16],
    /// Ask, but answer nobody (BEP 43): for a node that cannot be reached, or not for long.
    pub read_only: bool,
    /// Leave out nodes whose id is not one for their address (BEP 42).
    pub enforce_ids: bool,
    /// Addresses that are neither asked nor answered.
    pub ip_filter: Arc<IpFilter>,
}

impl NodeConfig {
    /// Whether a node may be known: not with an id that its address must not have, nor at a blocked address.
    fn accepts(&self, info: NodeInfo) -> bool {
        let ip = info.addr.ip();
        (!self.enforce_ids || info.id.is_allowed_for(ip)) && !self.ip_filter.is_blocked(ip)
    }
}

/// What an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// To see whether a node is there.
    Check,
    /// A step of a search.
    Step(LookupId),
    /// The end of a search: an announcement.
    Store(LookupId),
}

/// A query that is on its way.
struct Pending {
    to: SocketAddr,
    id: Option<NodeId>,
    sent: Time,
    purpose: Purpose,
}

/// What a node has of one network.
struct Network {
    table: Table,
    votes: ExternalIpVotes,
    /// When to try to join again, as long as nobody is known.
    join_at: Option<Time>,
    join_retry: Duration,
}

/// A node of the DHT: [`handle_datagram`](Node::handle_datagram), [`handle_timeout`](Node::handle_timeout) or a
/// command, then drain [`poll_datagram`](Node::poll_datagram) and [`poll_event`](Node::poll_event), and come back at
/// [`poll_timeout`](Node::poll_timeout).
pub struct Node {
    config: NodeConfig,
    rng: Rng,
    networks: [Option<Network>; 2],
    bootstrap_nodes: Vec<SocketAddr>,
    pending: BTreeMap<u16, Pending>,
    /// Queries in the order in which they were sent, some of them no longer pending.
    to_slow: VecDeque<(Time, u16)>,
    to_fail: VecDeque<(Time, u16)>,
    pace: Pace,
    searches: BTreeMap<LookupId, Search>,
    next_lookup: u32,
    tokens: Tokens,
    peers: PeerStore,
    items: ItemStore,
    allowance: Allowance,
    expire_at: Option<Time>,
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    events: VecDeque<Event>,
}

impl Node {
    /// A node that knows nobody. See [`join`](Self::join).
    pub fn new(now: Time, config: NodeConfig, rng: Rng) -> Node {
        let network = |id: NodeId| Network {
            table: Table::new(now, id),
            votes: ExternalIpVotes::default(),
            join_at: None,
            join_retry: JOIN_RETRY_FIRST,
        };
        Node {
            networks: [config.id_v4.map(network), config.id_v6.map(network)],
            tokens: Tokens::new(now, config.secret),
            config,
            rng,
            bootstrap_nodes: Vec::new(),
            pending: BTreeMap::new(),
            to_slow: VecDeque::new(),
            to_fail: VecDeque::new(),
            pace: Pace::default(),
            searches: BTreeMap::new(),
            next_lookup: 0,
            peers: PeerStore::default(),
            items: ItemStore::default(),
            allowance: Allowance::default(),
            expire_at: None,
            datagrams: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Our id on a network, if we take part in it.
    pub fn id(&self, family: Family) -> Option<NodeId> {
        self.network(family).map(|network| network.table.own())
    }

    /// The nodes known on a network, to be saved and given to [`join`](Self::join) another time.
    pub fn nodes(&self, family: Family) -> Vec<NodeInfo> {
        self.network(family).map(|network| network.table.nodes().collect()).unwrap_or_default()
    }

    /// Takes the id that it had another time, as long as it knows nobody: those who knew it know it again.
    pub fn resume_id(&mut self, now: Time, family: Family, id: NodeId) {
        if let Some(network) = self.network_mut(family)
            && network.table.len() == 0
        {
            network.table = Table::new(now, id);
        }
    }

    /// How many peers of how many swarms others have announced here.
    pub fn stored(&self) -> (usize, usize) {
        self.peers.len()
    }

    /// From now on whom this filter blocks is neither asked nor answered.
    pub fn set_ip_filter(&mut self, filter: Arc<IpFilter>) {
        self.config.ip_filter = filter;
    }

    /// Joins by these bootstrap nodes: looks for our own neighbours. The first few dozen are remembered, and asked again
    /// whenever too few nodes are known.
    pub fn join(&mut self, now: Time, addrs: &[SocketAddr]) {
        for addr in addrs {
            if self.bootstrap_nodes.len() < BOOTSTRAP_NODES_MAX && !self.bootstrap_nodes.contains(addr) {
                self.bootstrap_nodes.push(*addr);
            }
        }
        for family in Family::ALL {
            if addrs.iter().any(|addr| Family::of(*addr) == family) {
                self.seek_neighbours(now, family);
            }
        }
    }

    /// Takes it as given that these nodes have answered just now. For networks that are made up to be simulated; who
    /// really joins has to ask.
    pub fn assume_answered(&mut self, now: Time, nodes: &[NodeInfo]) {
        for info in nodes.iter().filter(|info| self.config.accepts(**info)).copied().collect::<Vec<_>>() {
            if let Some(network) = self.network_mut(Family::of(info.addr)) {
                network.table.answered(now, info);
            }
        }
    }

    /// Sees whether there is a node at an address, as a peer's PORT message says, to know it if there is. Nothing if
    /// that host is being asked something, or much else is on its way: who says so may say so often.
    pub fn ping(&mut self, now: Time, addr: SocketAddr) {
        let is_asked = self.pending.values().any(|pending| Host::of(pending.to) == Host::of(addr));
        if is_asked || addr.port() == 0 || self.pending.len() >= QUERIES_MAX / 2 {
            return;
        }
        self.send_query(now, addr, None, Question::Ping, Purpose::Check);
    }

    /// A datagram has arrived.
    pub fn handle_datagram(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let family = Family::of(from);
        let is_blocked = self.config.ip_filter.is_blocked(from.ip());
        if self.network(family).is_none() || from.port() == 0 || is_blocked {
            return;
        }
        match Message::parse(datagram) {
            Ok(Message { body: Body::Query(query), transaction, read_only, .. }) => {
                self.on_query(now, from, transaction, query, read_only);
            }
            Ok(Message { body: Body::Response(response), transaction, external_addr, .. }) => {
                self.on_response(now, from, &transaction, external_addr, response);
            }
            Ok(Message { body: Body::Error(_), transaction, .. }) => {
                if let Some(pending) = self.take_pending(from, &transaction) {
                    self.on_failure(now, &pending);
                }
            }
            Err(MessageError::BadQuery { transaction, code, text }) => {
                self.refuse(now, from, transaction, code, text);
            }
            Err(_) => {}
        }
        self.check_table(now, family);
        self.forget_settled();
    }

    /// Time has passed: it is [`poll_timeout`](Self::poll_timeout) or later.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some(&(sent, transaction)) =
            self.to_slow.front().filter(|(sent, _)| *sent + self.pace.slow_after() <= now)
        {
            self.to_slow.pop_front();
            if let Some(pending) = self.pending.get(&transaction).filter(|pending| pending.sent == sent) {
                let (to, purpose) = (pending.to, pending.purpose);
                self.on_slow(now, to, purpose);
            }
        }
        while let Some(&(sent, transaction)) =
            self.to_fail.front().filter(|(sent, _)| *sent + QUERY_TIMEOUT <= now)
        {
            self.to_fail.pop_front();
            if self.pending.get(&transaction).is_some_and(|pending| pending.sent == sent)
                && let Some(pending) = self.pending.remove(&transaction)
            {
                self.on_failure(now, &pending);
            }
        }
        for family in Family::ALL {
            self.maintain(now, family);
        }
        if self.expire_at.is_some_and(|at| at <= now) {
            self.peers.expire(now);
            self.items.expire(now);
            self.allowance.expire(now);
            let keeps = self.peers.len().0 > 0 || self.items.len() > 0;
            self.expire_at = keeps.then_some(now + EXPIRE_INTERVAL);
        }
        self.forget_settled();
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub fn poll_timeout(&self) -> Option<Time> {
        let slow = self.to_slow.front().map(|(sent, _)| *sent + self.pace.slow_after());
        let fail = self.to_fail.front().map(|(sent, _)| *sent + QUERY_TIMEOUT);
        let networks = self.networks.iter().flatten();
        let upkeep = networks.flat_map(|network| [network.join_at, network.table.refresh_at()]);
        [slow, fail, self.expire_at].into_iter().chain(upkeep).flatten().min()
    }

    /// The next datagram to send, and where.
    pub fn poll_datagram(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.datagrams.pop_front()
    }

    /// What has happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn network(&self, family: Family) -> Option<&Network> {
        self.networks[family as usize].as_ref()
    }

    fn network_mut(&mut self, family: Family) -> Option<&mut Network> {
        self.networks[family as usize].as_mut()
    }

    fn send_query(
        &mut self,
        now: Time,
        to: SocketAddr,
        id: Option<NodeId>,
        question: Question,
        purpose: Purpose,
    ) {
        let own = self.id(Family::of(to));
        let Some(own) = own.filter(|_| self.pending.len() < QUERIES_MAX) else {
            return self.on_unanswered(now, to, purpose);
        };
        let transaction = loop {
            let transaction = self.rng.next_u64() as u16;
            if !self.pending.contains_key(&transaction) {
                break transaction;
            }
        };
        self.pending.insert(transaction, Pending { to, id, sent: now, purpose });
        self.to_slow.push_back((now, transaction));
        self.to_fail.push_back((now, transaction));
        let query = Query { id: own, want: self.want(), question };
        let message = Message {
            transaction: transaction.to_be_bytes().to_vec(),
            external_addr: None,
            read_only: self.config.read_only,
            body: Body::Query(query),
        };
        // One that was known before it was blocked fails like one that is gone.
        if !self.config.ip_filter.is_blocked(to.ip()) {
            self.datagrams.push_back((to, message.encode()));
        }
    }

    /// Nodes of both families, if we take part in both and know too few of one.
    fn want(&self) -> Vec<Family> {
        let few = |network: &Network| network.table.len() < BUCKET_LEN_MAX;
        match &self.networks {
            [Some(v4), Some(v6)] if few(v4) || few(v6) => Family::ALL.to_vec(),
            _ => Vec::new(),
        }
    }

    fn take_pending(&mut self, from: SocketAddr, transaction: &[u8]) -> Option<Pending> {
        let transaction = u16::from_be_bytes(transaction.try_into().ok()?);
        self.pending.get(&transaction).filter(|pending| pending.to == from)?;
        self.pending.remove(&transaction)
    }

    fn on_response(
        &mut self,
        now: Time,
        from: SocketAddr,
        transaction: &[u8],
        external_addr: Option<SocketAddr>,
        response: Response,
    ) {
        let Some(pending) = self.take_pending(from, transaction) else { return };
        self.pace.answered_after(now.since(pending.sent));
        let info = response.id.map(|id| NodeInfo { id, addr: from });
        let family = Family::of(from);
        let own = self.id(family);
        let Some(info) = info.filter(|info| Some(info.id) != own && self.config.accepts(*info)) else {
            return self.on_failure(now, &pending);
        };
        if let Some(id) = pending.id.filter(|id| *id != info.id)
            && let Some(network) = self.network_mut(family)
        {
            network.table.failed(NodeInfo { id, addr: from });
        }
        if let Some(network) = self.network_mut(family) {
            network.table.answered(now, info);
        }
        self.learn_nodes(now, from, &response);
        match pending.purpose {
            Purpose::Check => {}
            Purpose::Step(lookup) => self.on_step(now, lookup, info, response),
            Purpose::Store(lookup) => self.on_stored(lookup, true),
        }
        if let Some(addr) = external_addr {
            self.on_vote(now, from, addr);
        }
    }

    /// Nodes of a network on which we know too few, named in an answer on the other one (BEP 32).
    fn learn_nodes(&mut self, now: Time, from: SocketAddr, response: &Response) {
        let (family, nodes) = match Family::of(from) {
            Family::V4 => (Family::V6, &response.nodes6),
            Family::V6 => (Family::V4, &response.nodes),
        };
        let few = self.network(family).is_some_and(|network| network.table.len() < BUCKET_LEN_MAX);
        let nodes = nodes.iter().flatten().filter(|_| few).take(BUCKET_LEN_MAX);
        for node in nodes.filter(|node| is_usable(node.addr, from)) {
            let is_asked = self.pending.values().any(|pending| pending.to == node.addr);
            if !is_asked && self.config.accepts(*node) {
                self.send_query(now, node.addr, Some(node.id), Question::Ping, Purpose::Check);
            }
        }
    }

    fn on_failure(&mut self, now: Time, pending: &Pending) {
        if let Some(id) = pending.id
            && let Some(network) = self.network_mut(Family::of(pending.to))
        {
            network.table.failed(NodeInfo { id, addr: pending.to });
        }
        self.on_unanswered(now, pending.to, pending.purpose);
        self.check_table(now, Family::of(pending.to));
    }

    /// Nothing will come of a query.
    fn on_unanswered(&mut self, now: Time, to: SocketAddr, purpose: Purpose) {
        match purpose {
            Purpose::Check => {}
            Purpose::Step(lookup) => self.on_step_failed(now, lookup, to),
            Purpose::Store(lookup) => self.on_stored(lookup, false),
        }
    }

    /// Pings who has to be pinged for a place in the table.
    fn check_table(&mut self, now: Time, family: Family) {
        while self.pending.len() < QUERIES_MAX
            && let Some(info) = self.network_mut(family).and_then(|network| network.table.poll_check(now))
        {
            self.send_query(now, info.addr, Some(info.id), Question::Ping, Purpose::Check);
        }
    }

    /// Joins again if nobody is known, refreshes a bucket if it is time.
    fn maintain(&mut self, now: Time, family: Family) {
        let Some(network) = self.networks[family as usize].as_mut() else { return };
        if network.join_at.is_some_and(|at| at <= now) {
            self.seek_neighbours(now, family);
        } else if network.table.refresh_at().is_some_and(|at| at <= now) {
            let target = network.table.refresh_target(&mut self.rng);
            self.find_node(now, family, target);
        }
    }

    /// Looks for our own place, by the nodes that are known and by the bootstrap nodes.
    fn seek_neighbours(&mut self, now: Time, family: Family) {
        let Some(network) = self.network_mut(family) else { return };
        network.join_at = Some(now + network.join_retry);
        network.join_retry = (network.join_retry * 2).min(JOIN_RETRY_MAX);
        let own = network.table.own();
        self.find_node(now, family, own);
    }

    /// Somebody told us where it sees us.
    fn on_vote(&mut self, now: Time, by: SocketAddr, addr: SocketAddr) {
        let family = Family::of(by);
        let Some(network) = self.networks[family as usize].as_mut() else { return };
        if Family::of(addr) != family {
            return;
        }
        let Some(ip) = network.votes.cast(now, by, addr.ip()) else { return };
        if network.table.own().is_allowed_for(ip) {
            return;
        }
        let id = NodeId::for_address(ip, &mut self.rng);
        let known: Vec<NodeInfo> = network.table.nodes().collect();
        network.table = Table::new(now, id);
        known.into_iter().for_each(|info| network.table.answered(now, info));
        self.events.push_back(Event::NewId { family, id });
        self.find_node(now, family, id);
    }

    /// Drops queries that are settled from the front of the queues, so that nobody wakes up for them.
    fn forget_settled(&mut self) {
        let pending = &self.pending;
        let settled = |(sent, transaction): &(Time, u16)| {
            pending.get(transaction).is_none_or(|pending| pending.sent != *sent)
        };
        for queue in [&mut self.to_slow, &mut self.to_fail] {
            while queue.front().is_some_and(settled) {
                queue.pop_front();
            }
        }
        for network in self.networks.iter_mut().flatten() {
            if network.join_at.is_some() && network.table.len() > 0 {
                (network.join_at, network.join_retry) = (None, JOIN_RETRY_FIRST);
            }
        }
    }

    /// A lookup of `target`, seeded with whom we know.
    fn new_lookup(&mut self, now: Time, family: Family, target: NodeId) -> Option<Lookup> {
        let network = self.networks[family as usize].as_mut()?;
        network.table.looked_up(now, target);
        let mut known = network.table.closest(target, SEEDS);
        if known.len() < BUCKET_LEN_MAX {
            known = network.table.closest_of_all(target, SEEDS);
        }
        let mut lookup = Lookup::new(target);
        known.iter().for_each(|info| lookup.add_seed(Some(info.id), info.addr));
        if known.len() < BUCKET_LEN_MAX {
            let bootstrap = self.bootstrap_nodes.iter().filter(|addr| Family::of(**addr) == family);
            bootstrap.for_each(|addr| lookup.add_seed(None, *addr));
        }
        Some(lookup)
    }
}

//! The clock, the network between the nodes, and the checker.

use crate::node::{Behaviour, Connection, Node, NodeConfig};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::Geometry;
use swarm_core::id::{BlockRef, InfoHash, PeerId, PeerKey, PieceIndex};
use swarm_core::peer::PeerInfo;
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::discovery::Origin;
use swarm_core::torrent::{Action, Config, Event, PieceResult, Torrent};
use swarm_core::wire::Message;

/// A node of the world, counted from zero in the order of joining.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// How long verifying and writing a piece takes.
const PIECE_TIME: Duration = Duration::from_millis(2);

/// Something that will happen.
#[derive(Debug)]
enum Happening {
    Timer(NodeId),
    Dial { from: NodeId, to: SocketAddr },
    Deliver { to: NodeId, key: PeerKey, message: Message },
    BlockAtDownlink { to: NodeId, key: PeerKey, block: BlockRef, corrupt: bool },
    Block { to: NodeId, key: PeerKey, block: BlockRef, corrupt: bool },
    UplinkFree(NodeId),
    Disconnected { node: NodeId, key: PeerKey },
    PieceDone { node: NodeId, piece: PieceIndex },
}

#[derive(Debug)]
struct Scheduled {
    at: Time,
    sequence: u64,
    what: Happening,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        self.sequence == other.sequence
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Scheduled) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// A running hash over everything that happened: equal traces mean equal runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace(pub u64);

impl Trace {
    fn note(&mut self, values: [u64; 3]) {
        for value in values {
            self.0 = (self.0 ^ value).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
    }
}

/// A swarm and the network it lives in.
#[derive(Debug)]
pub struct World {
    now: Time,
    rng: Rng,
    geometry: Geometry,
    nodes: Vec<Node>,
    by_addr: BTreeMap<SocketAddr, NodeId>,
    queue: BinaryHeap<Reverse<Scheduled>>,
    sequence: u64,
    trace: Trace,
    bans: Vec<(NodeId, SocketAddr)>,
    check_every_step: bool,
}

impl World {
    /// An empty world for one torrent of this geometry.
    pub fn new(geometry: Geometry, seed: u64) -> World {
        World {
            now: Time::from_micros(1),
            rng: Rng::new(seed),
            geometry,
            nodes: Vec::new(),
            by_addr: BTreeMap::new(),
            queue: BinaryHeap::new(),
            sequence: 0,
            trace: Trace(0xcbf2_9ce4_8422_2325),
            bans: Vec::new(),
            check_every_step: true,
        }
    }

    /// Whether invariants are checked after every step (the default), or only on demand.
    pub fn check_every_step(&mut self, check: bool) {
        self.check_every_step = check;
    }

    /// Adds a host. It knows nobody yet.
    pub fn join(&mut self, config: NodeConfig) -> NodeId {
        let seed = self.rng.next_u64();
        let id = NodeId(self.nodes.len() as u32);
        let addr = SocketAddr::from((Ipv4Addr::from(0x0a00_0001 + id.0), 6881));
        let mut peer_id = [0; 20];
        self.rng.fill(&mut peer_id);
        let mut torrent_config = Config::new(InfoHash([7; 20]), PeerId(peer_id), seed);
        torrent_config.listen_port = Some(6881);
        let pieces = self.geometry.pieces();
        let have = if config.seed { Bitfield::full(pieces) } else { Bitfield::empty(pieces) };
        self.nodes.push(Node {
            config,
            addr,
            torrent: Torrent::new(torrent_config, self.geometry, have),
            connections: BTreeMap::new(),
            next_key: 0,
            uplink: VecDeque::new(),
            uplink_busy: false,
            downlink_free_at: Time::ZERO,
            corrupt: BTreeMap::new(),
            timer_at: Time::MAX,
            completed_at: config.seed.then_some(Time::ZERO),
            online: true,
        });
        self.by_addr.insert(addr, id);
        id
    }

    /// Tells a host of every other one, as a tracker would.
    pub fn introduce(&mut self, id: NodeId) {
        let others: Vec<SocketAddr> = self.nodes.iter().filter(|n| n.online).map(|n| n.addr).collect();
        self.with(id, |node, now| {
            node.torrent.handle_addresses(now, &others, Origin::Network { from_loopback: false });
        });
    }

    /// Takes a host off the network: its connections end, nobody reaches it.
    pub fn leave(&mut self, id: NodeId) {
        let now = self.now;
        let node = &mut self.nodes[id.0 as usize];
        node.online = false;
        let keys: Vec<PeerKey> = node.connections.keys().copied().collect();
        for key in keys {
            self.drop_connection(id, key);
            self.with(id, |node, _| node.torrent.handle_disconnected(now, key));
        }
    }

    /// The present time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// A hash over everything that has happened.
    pub fn trace(&self) -> Trace {
        self.trace
    }

    /// Who was banned, and by whom.
    pub fn bans(&self) -> impl Iterator<Item = (NodeId, NodeId)> + '_ {
        self.bans.iter().filter_map(|(by, addr)| Some((*by, *self.by_addr.get(addr)?)))
    }

    /// A host's torrent.
    pub fn torrent(&self, id: NodeId) -> &Torrent {
        &self.nodes[id.0 as usize].torrent
    }

    /// Changes a host's torrent from outside, as its user would.
    pub fn with_torrent(&mut self, id: NodeId, change: impl FnOnce(&mut Torrent, Time)) {
        self.with(id, |node, now| change(&mut node.torrent, now));
    }

    /// When a host had everything it wanted.
    pub fn completed_at(&self, id: NodeId) -> Option<Time> {
        self.nodes[id.0 as usize].completed_at
    }

    /// Every host.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len() as u32).map(NodeId)
    }

    /// Whether every host that is there has everything it wants.
    pub fn is_complete(&self) -> bool {
        let mut honest = self.nodes.iter().filter(|n| n.config.behaviour == Behaviour::Honest && n.online);
        honest.all(|n| n.torrent.is_complete())
    }

    /// Runs until `done`, or nothing more will happen, or `until`. Whether it was `done`.
    pub fn run(&mut self, until: Time, mut done: impl FnMut(&World) -> bool) -> bool {
        loop {
            if done(self) {
                return true;
            }
            match self.queue.peek() {
                Some(Reverse(next)) if next.at <= until => self.step(),
                _ => {
                    self.now = self.now.max(until);
                    return false;
                }
            }
        }
    }

    fn step(&mut self) {
        let Some(Reverse(Scheduled { at, what, .. })) = self.queue.pop() else { return };
        self.now = at;
        match what {
            Happening::Timer(id) => {
                if self.nodes[id.0 as usize].timer_at == at {
                    self.with(id, |node, now| {
                        node.timer_at = Time::MAX;
                        node.torrent.handle_timeout(now);
                    });
                }
            }
            Happening::Dial { from, to } => self.connect(from, to),
            Happening::Deliver { to, key, message } => {
                self.with(to, |node, now| node.torrent.handle_message(now, key, &message));
            }
            Happening::BlockAtDownlink { to, key, block, corrupt } => {
                let node = &mut self.nodes[to.0 as usize];
                let start = node.downlink_free_at.max(at);
                node.downlink_free_at = start + node.config.down.time_for(u64::from(block.len));
                let arrives = node.downlink_free_at;
                self.schedule(arrives, Happening::Block { to, key, block, corrupt });
            }
            Happening::Block { to, key, block, corrupt } => {
                self.trace.note([at.as_micros(), u64::from(to.0), u64::from(block.piece.0 ^ block.begin)]);
                self.with(to, |node, now| {
                    if node.torrent.handle_block(now, key, block) {
                        node.note_block(block, corrupt);
                    }
                });
            }
            Happening::UplinkFree(id) => {
                self.nodes[id.0 as usize].uplink_busy = false;
                self.feed_uplink(id);
            }
            Happening::Disconnected { node: id, key } => {
                if self.nodes[id.0 as usize].connections.remove(&key).is_some() {
                    self.with(id, |node, now| node.torrent.handle_disconnected(now, key));
                }
            }
            Happening::PieceDone { node: id, piece } => self.with(id, |node, now| {
                let (corrupt, digests) = node.digests(piece);
                let result =
                    if corrupt { PieceResult::Corrupt { digests } } else { PieceResult::Written { digests } };
                node.torrent.handle_piece_result(now, piece, result);
            }),
        }
    }

    /// Lets something happen to a node, then carries out what its torrent wants.
    fn with(&mut self, id: NodeId, change: impl FnOnce(&mut Node, Time)) {
        let now = self.now;
        change(&mut self.nodes[id.0 as usize], now);
        while let Some(action) = self.nodes[id.0 as usize].torrent.poll_action() {
            self.act(id, action);
        }
        let node = &mut self.nodes[id.0 as usize];
        while let Some(event) = node.torrent.poll_event() {
            match event {
                Event::Completed => node.completed_at = Some(now),
                Event::PeerBanned { addr, .. } => self.bans.push((id, addr)),
                _ => {}
            }
        }
        if let Some(at) = node.torrent.poll_timeout()
            && at != node.timer_at
        {
            node.timer_at = at;
            self.schedule(at.max(now), Happening::Timer(id));
        }
        if self.check_every_step {
            self.check(id);
        }
    }

    fn act(&mut self, id: NodeId, action: Action) {
        match action {
            Action::Send { peer, message } => self.deliver(id, peer, message),
            Action::BroadcastHave(piece) => {
                let keys: Vec<PeerKey> = self.nodes[id.0 as usize].connections.keys().copied().collect();
                keys.into_iter().for_each(|key| self.deliver(id, key, Message::Have(piece)));
            }
            Action::Upload(peer) => {
                let node = &mut self.nodes[id.0 as usize];
                if let Some(connection) = node.connections.get_mut(&peer)
                    && !connection.queued
                {
                    connection.queued = true;
                    node.uplink.push_back(peer);
                    self.feed_uplink(id);
                }
            }
            Action::Close { peer, .. } => self.drop_connection(id, peer),
            Action::Connect(to) => {
                let at = self.now + self.nodes[id.0 as usize].config.delay * 4;
                self.schedule(at, Happening::Dial { from: id, to });
            }
            Action::CompletePiece { piece, .. } => {
                let at = self.now + PIECE_TIME;
                self.schedule(at, Happening::PieceDone { node: id, piece });
            }
            Action::DropPiece(piece) => {
                self.nodes[id.0 as usize].corrupt.remove(&piece);
            }
        }
    }

    fn deliver(&mut self, from: NodeId, key: PeerKey, message: Message) {
        let Some((to, remote_key, at)) = self.path(from, key) else { return };
        self.schedule(at, Happening::Deliver { to, key: remote_key, message });
    }

    /// The far end of a connection, and when something sent now arrives there.
    fn path(&self, from: NodeId, key: PeerKey) -> Option<(NodeId, PeerKey, Time)> {
        let node = &self.nodes[from.0 as usize];
        let connection = node.connections.get(&key)?;
        let delay = node.config.delay + self.nodes[connection.remote.0 as usize].config.delay;
        Some((connection.remote, connection.remote_key, self.now + delay))
    }

    fn drop_connection(&mut self, id: NodeId, key: PeerKey) {
        if let Some((remote, remote_key, at)) = self.path(id, key) {
            self.nodes[id.0 as usize].connections.remove(&key);
            self.schedule(at, Happening::Disconnected { node: remote, key: remote_key });
        }
    }

    fn connect(&mut self, from: NodeId, addr: SocketAddr) {
        let to = self.by_addr.get(&addr).copied().filter(|to| self.nodes[to.0 as usize].online);
        let Some(to) = to.filter(|_| self.nodes[from.0 as usize].online) else {
            return self.with(from, |node, now| node.torrent.handle_connect_failed(now, addr));
        };
        let (key, remote_key) = (self.nodes[from.0 as usize].new_key(), self.nodes[to.0 as usize].new_key());
        let info = |node: &Node, inbound| PeerInfo {
            addr: node.addr,
            inbound,
            peer_id: node.torrent.peer_id(),
            fast: true,
            extended: true,
        };
        let (theirs, ours) =
            (info(&self.nodes[to.0 as usize], false), info(&self.nodes[from.0 as usize], true));
        let end = |remote, remote_key| Connection { remote, remote_key, queued: false };
        self.nodes[from.0 as usize].connections.insert(key, end(to, remote_key));
        self.nodes[to.0 as usize].connections.insert(remote_key, end(from, key));
        self.with(to, |node, now| node.torrent.handle_connected(now, remote_key, ours));
        self.with(from, |node, now| node.torrent.handle_connected(now, key, theirs));
    }

    /// Puts the next block on a node's uplink, if it is idle and there is one.
    fn feed_uplink(&mut self, id: NodeId) {
        let now = self.now;
        let node = &mut self.nodes[id.0 as usize];
        while !node.uplink_busy && node.sends_blocks(now) {
            let Some(key) = node.uplink.pop_front() else { return };
            let Some(connection) = node.connections.get_mut(&key) else { continue };
            let Some(block) = node.torrent.next_upload(now, key) else {
                connection.queued = false;
                continue;
            };
            node.uplink.push_back(key);
            node.uplink_busy = true;
            let corrupt = node.config.behaviour == Behaviour::Poisoner;
            let sent = now + node.config.up.time_for(u64::from(block.len));
            let remote_delay =
                self.nodes[self.nodes[id.0 as usize].connections[&key].remote.0 as usize].config.delay;
            let node = &self.nodes[id.0 as usize];
            let connection = &node.connections[&key];
            let (to, remote_key) = (connection.remote, connection.remote_key);
            let at = sent + node.config.delay + remote_delay;
            self.schedule(at, Happening::BlockAtDownlink { to, key: remote_key, block, corrupt });
            self.schedule(sent, Happening::UplinkFree(id));
            return;
        }
    }

    fn schedule(&mut self, at: Time, what: Happening) {
        self.sequence += 1;
        self.queue.push(Reverse(Scheduled { at, sequence: self.sequence, what }));
    }

    /// Asserts what must hold of a node between events.
    fn check(&self, id: NodeId) {
        let node = &self.nodes[id.0 as usize];
        node.torrent.check_invariants();
        if node.config.behaviour == Behaviour::Honest {
            for piece in node.corrupt.keys() {
                assert!(!node.torrent.have().has(*piece), "{id:?} has the corrupt piece {piece}");
            }
        }
    }
}

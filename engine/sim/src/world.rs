//! The clock, and the network between the nodes.

use crate::node::{Behaviour, Node, NodeConfig};
use crate::queue::{Arrival, Inbox, What};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::Geometry;
use swarm_core::id::{InfoHash, PeerId, PeerKey};
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::discovery::Origin;
use swarm_core::torrent::{Config, Torrent, Totals};

/// A node of the world, counted from zero in the order of joining.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// No path is shorter than this, one way.
pub const PATH_MIN: Duration = Duration::from_micros(500);

/// The port at which every node listens.
const PORT: u16 = 6881;
/// The address of the first node.
const FIRST_IP: u32 = 0x0a00_0001;

/// A hash over everything that happened: equal traces mean equal runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace(pub u64);

/// What a node's peers know of it.
#[derive(Debug)]
struct Host {
    delay: Duration,
    peer_id: PeerId,
}

/// What lies between the nodes.
#[derive(Debug)]
pub(crate) struct Network {
    inboxes: Vec<Inbox>,
    hosts: Vec<Host>,
}

impl Network {
    pub(crate) fn leave(&mut self, to: NodeId, at: Time, key: PeerKey, what: What) {
        self.inboxes[to.0 as usize].leave(at, key, what);
    }

    pub(crate) fn empty_inbox(&mut self, id: NodeId, queue: &mut BinaryHeap<Reverse<Arrival>>) {
        self.inboxes[id.0 as usize].empty_into(queue);
    }

    pub(crate) fn delay_between(&self, a: NodeId, b: NodeId) -> Duration {
        (self.hosts[a.0 as usize].delay + self.hosts[b.0 as usize].delay).max(PATH_MIN)
    }

    pub(crate) fn addr_of(&self, id: NodeId) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::from(FIRST_IP + id.0), PORT))
    }

    pub(crate) fn id_at(&self, addr: SocketAddr) -> Option<NodeId> {
        let IpAddr::V4(ip) = addr.ip() else { return None };
        let id = u32::from(ip).checked_sub(FIRST_IP)?;
        ((id as usize) < self.hosts.len()).then_some(NodeId(id))
    }

    pub(crate) fn peer_id(&self, id: NodeId) -> PeerId {
        self.hosts[id.0 as usize].peer_id
    }
}

/// A swarm and the network it lives in.
///
/// Time goes in windows that are as long as the shortest path. Whatever a node sends within a window arrives
/// after its end, so that the nodes can catch up one after the other, each in the order of its own events.
#[derive(Debug)]
pub struct World {
    now: Time,
    rng: Rng,
    geometry: Geometry,
    template: Config,
    nodes: Vec<Node>,
    net: Network,
    /// When something happens next, by node, inbox aside.
    next_at: Vec<Time>,
    /// The shortest delay of any host.
    delay_min: Duration,
    check_every_step: bool,
}

impl World {
    /// An empty world for one torrent of this geometry.
    pub fn new(geometry: Geometry, seed: u64) -> World {
        let mut template = Config::new(InfoHash([7; 20]), PeerId([0; 20]), 0);
        template.listen_port = Some(PORT);
        World {
            now: Time::from_micros(1),
            rng: Rng::new(seed),
            geometry,
            template,
            nodes: Vec::new(),
            net: Network { inboxes: Vec::new(), hosts: Vec::new() },
            next_at: Vec::new(),
            delay_min: Duration::MAX,
            check_every_step: true,
        }
    }

    /// What hosts that join from now on are configured with, but for their peer ids and seeds.
    pub fn template(&mut self) -> &mut Config {
        &mut self.template
    }

    /// Whether invariants are checked after every step (the default), or only by [`World::check`].
    pub fn check_every_step(&mut self, check: bool) {
        self.check_every_step = check;
        self.nodes.iter_mut().for_each(|node| node.checked = check);
    }

    /// Adds a host. It knows nobody yet.
    pub fn join(&mut self, config: NodeConfig) -> NodeId {
        let id = NodeId(self.nodes.len() as u32);
        let pieces = self.geometry.pieces();
        let have = if config.seed { Bitfield::full(pieces) } else { Bitfield::empty(pieces) };
        self.net.hosts.push(Host { delay: config.delay, peer_id: PeerId([0; 20]) });
        self.net.inboxes.push(Inbox::new());
        self.delay_min = self.delay_min.min(config.delay);
        let torrent = self.torrent_for(id, have);
        let mut node = Node::new(id, config, torrent, self.now);
        node.checked = self.check_every_step;
        self.nodes.push(node);
        self.next_at.push(Time::MAX);
        id
    }

    fn torrent_for(&mut self, id: NodeId, have: Bitfield) -> Torrent {
        let mut config = self.template.clone();
        config.seed = self.rng.next_u64();
        self.rng.fill(&mut config.peer_id.0);
        self.net.hosts[id.0 as usize].peer_id = config.peer_id;
        Torrent::new(config, self.geometry, have)
    }

    /// Tells a host of every other one that is there, as a tracker would.
    pub fn introduce(&mut self, id: NodeId) {
        let others: Vec<NodeId> = self.ids().filter(|other| self.is_online(*other)).collect();
        self.tell(id, &others);
    }

    /// Tells a host of these others.
    pub fn tell(&mut self, id: NodeId, of: &[NodeId]) {
        let addrs: Vec<SocketAddr> =
            of.iter().filter(|other| **other != id).map(|other| self.net.addr_of(*other)).collect();
        self.with(id, |node, now| {
            node.torrent.handle_addresses(now, &addrs, Origin::Network { from_loopback: false });
        });
    }

    /// Takes a host off the network: its connections end, nobody reaches it.
    pub fn leave(&mut self, id: NodeId) {
        let now = self.now;
        self.nodes[id.0 as usize].go_offline(now, &mut self.net);
        self.next_at[id.0 as usize] = Time::MAX;
    }

    /// Brings a host back that has left, with the pieces that it had. It knows nobody.
    pub fn come_back(&mut self, id: NodeId) {
        let have = self.nodes[id.0 as usize].have();
        let torrent = self.torrent_for(id, have);
        self.nodes[id.0 as usize].restart(torrent);
    }

    /// The present time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// A hash over everything that has happened.
    pub fn trace(&self) -> Trace {
        let fold =
            |hash: u64, node: &Node| (hash ^ node.trace).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
        Trace(self.nodes.iter().fold(0, fold))
    }

    /// Who was banned, and by whom: the banning host first.
    pub fn bans(&self) -> impl Iterator<Item = (NodeId, NodeId)> + '_ {
        let all = self.nodes.iter().enumerate().flat_map(|(by, node)| node.bans.iter().map(move |a| (by, a)));
        all.filter_map(|(by, addr)| Some((NodeId(by as u32), self.net.id_at(*addr)?)))
    }

    /// A host's torrent.
    pub fn torrent(&self, id: NodeId) -> &Torrent {
        &self.nodes[id.0 as usize].torrent
    }

    /// What a host is like.
    pub fn config(&self, id: NodeId) -> &NodeConfig {
        &self.nodes[id.0 as usize].config
    }

    /// A host's sums, over all its lives.
    pub fn totals(&self, id: NodeId) -> Totals {
        self.nodes[id.0 as usize].totals()
    }

    /// Bytes that a host sent beside blocks and their headers.
    pub fn control_bytes(&self, id: NodeId) -> u64 {
        self.nodes[id.0 as usize].control_bytes_sent
    }

    /// Whether a host is on the network.
    pub fn is_online(&self, id: NodeId) -> bool {
        self.nodes[id.0 as usize].online
    }

    /// Changes a host's torrent from outside, as its user would.
    pub fn with_torrent(&mut self, id: NodeId, change: impl FnOnce(&mut Torrent, Time)) {
        self.with(id, |node, now| change(&mut node.torrent, now));
    }

    /// When a host joined.
    pub fn joined_at(&self, id: NodeId) -> Time {
        self.nodes[id.0 as usize].joined_at
    }

    /// When a host had everything it wanted.
    pub fn completed_at(&self, id: NodeId) -> Option<Time> {
        self.nodes[id.0 as usize].completed_at
    }

    /// Every host.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len() as u32).map(NodeId)
    }

    /// Whether every host that is there and does what its torrent says has everything it wants.
    pub fn is_complete(&self) -> bool {
        let mut honest = self.nodes.iter().filter(|n| n.config.behaviour == Behaviour::Honest && n.online);
        honest.all(|n| n.torrent.is_complete())
    }

    /// Runs until `done`, or nothing more will happen, or `until`. Whether it was `done`, which is asked after
    /// each window.
    pub fn run(&mut self, until: Time, mut done: impl FnMut(&World) -> bool) -> bool {
        loop {
            if done(self) {
                return true;
            }
            let inboxes = self.net.inboxes.iter().map(|inbox| inbox.first_at);
            let next = self.next_at.iter().copied().chain(inboxes).min().unwrap_or(Time::MAX);
            if next > until || next == Time::MAX {
                self.now = self.now.max(until);
                return false;
            }
            let window = (self.delay_min * 2).max(PATH_MIN);
            let (start, end) = (self.now.max(next), (next + window).min(until + Duration::from_micros(1)));
            for (id, node) in self.nodes.iter_mut().enumerate() {
                if self.next_at[id].min(self.net.inboxes[id].first_at) < end {
                    node.run(start, end, &mut self.net);
                    self.next_at[id] = node.next_at();
                }
            }
            self.now = self.now.max(end - Duration::from_micros(1));
        }
    }

    /// Asserts what must hold of every node.
    ///
    /// # Panics
    /// If something does not hold.
    pub fn check(&self) {
        self.nodes.iter().filter(|node| node.online).for_each(Node::check);
    }

    /// Lets something happen to a node, then carries out what its torrent wants.
    fn with(&mut self, id: NodeId, change: impl FnOnce(&mut Node, Time)) {
        let (node, now) = (&mut self.nodes[id.0 as usize], self.now);
        change(node, now);
        node.settle(now, &mut self.net);
        self.next_at[id.0 as usize] = node.next_at();
    }
}

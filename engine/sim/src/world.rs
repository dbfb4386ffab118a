//! The clock, and what happens to a swarm from outside.

use crate::basics::{NodeId, PATH_MIN, Trace};
use crate::config::{Behaviour, NodeConfig};
use crate::disk::Disk;
use crate::lanes::Lanes;
use crate::network::{Host, Hosts, Network, PORT};
use crate::node::{Node, StepCheck};
use crate::path::{PathFaults, Paths};
use crate::queue::Inbox;
use crate::shell::{self, Habit, Shell};
use crate::socket::Buffers;
use crate::tracker::{self, Tracker};
use crate::v2;
use std::net::{Ipv4Addr, SocketAddr};
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::Geometry;
use swarm_core::id::{InfoHash, PeerId, PieceIndex};
use swarm_core::metainfo::{CreateError, Format, HashTrees};
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::discovery::Origin;
use swarm_core::torrent::{Config, Torrent, Totals};

/// A swarm and the network it lives in.
///
/// Time goes in windows that are as long as the shortest path. Whatever a node sends within a window arrives
/// after its end, so that the nodes can catch up one after the other, each in the order of its own events, or many of them
/// at the same time: the outcome is the same.
#[derive(Debug)]
pub struct World {
    now: Time,
    rng: Rng,
    geometry: Geometry,
    template: Config,
    faults: PathFaults,
    buffers: Option<Buffers>,
    scale: u64,
    threads: usize,
    pub(crate) lanes: Lanes,
    hosts: Hosts,
    tracker: Option<Box<Tracker>>,
    /// The shortest delay of any host.
    delay_min: Duration,
    checks: Checks,
    /// When the whole is checked next.
    check_at: Option<Time>,
}

/// How often invariants are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checks {
    /// Only by [`World::check`].
    Never,
    /// After every step of every node, and the whole as often as time goes on. Takes long.
    #[default]
    EveryStep,
    /// Everything, after this much simulated time.
    Every(Duration),
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
            faults: PathFaults::default(),
            buffers: Some(Buffers::default()),
            scale: 1,
            threads: 1,
            lanes: Lanes::new(),
            hosts: Hosts::default(),
            tracker: None,
            delay_min: Duration::MAX,
            checks: Checks::default(),
            check_at: None,
        }
    }

    /// An empty world for one torrent with files of these lengths. In version 2 blocks that are bad are told apart by their leaves, which
    /// hosts ask each other for. In a hybrid there may be hosts that speak version 1 or 2 alone: they do not meet each other.
    ///
    /// # Errors
    /// If there can be no such torrent.
    pub fn of_files(files: &[u64], piece_len: u32, format: Format, seed: u64) -> Result<World, CreateError> {
        let info = v2::info(files, piece_len, format)?;
        let mut world = World::new(info.geometry.clone(), seed);
        world.template.hashes = HashTrees::of(&info);
        world.template.padding = info.padding.clone();
        Ok(world)
    }

    /// What hosts that join from now on are configured with, but for their peer ids and seeds.
    pub fn template(&mut self) -> &mut Config {
        &mut self.template
    }

    /// How often invariants are checked, for hosts that join from now on; after every step by default.
    pub fn set_checks(&mut self, checks: Checks) {
        self.checks = checks;
    }

    /// Each byte of a block stands for so many, at least one, for hosts that join from now on. Messages about a block stand
    /// for as many; those about pieces and connections do not.
    pub fn set_scale(&mut self, scale: u64) {
        self.scale = scale.max(1);
    }

    /// How many threads the hosts are shared out to; one by default. Everything but the time it takes stays the same.
    pub fn set_threads(&mut self, threads: usize) {
        self.threads = threads.max(1);
        self.lanes.divide(self.threads);
    }

    /// What befalls what is sent over connections, for hosts that join from now on.
    pub fn set_path_faults(&mut self, faults: PathFaults) {
        self.faults = faults;
    }

    /// What sockets and paths hold, where that is not [`Buffers::default`]. With `None` sockets hold nothing, and queues have no end.
    /// To be said before anyone joins.
    pub fn set_buffers(&mut self, buffers: Option<Buffers>) {
        debug_assert!(self.lanes.nodes.is_empty(), "both ends of a connection must have them");
        self.buffers = buffers;
    }

    /// From now on there is a tracker, to which hosts that join announce themselves.
    pub fn add_tracker(&mut self) {
        self.tracker = Some(Box::new(Tracker::new(self.rng.fork())));
        self.delay_min = self.delay_min.min(tracker::DELAY);
    }

    /// Takes the tracker down, or up again; what it knows it keeps.
    pub fn set_tracker_up(&mut self, is_up: bool) {
        if let Some(tracker) = &mut self.tracker {
            tracker.is_up = is_up;
        }
    }

    /// Adds a host. It knows nobody yet.
    pub fn join(&mut self, config: NodeConfig) -> NodeId {
        let id = NodeId(self.lanes.nodes.len() as u32);
        let pieces = self.geometry.pieces();
        let have = if config.seed { Bitfield::full(pieces) } else { Bitfield::empty(pieces) };
        let format = config.format;
        self.hosts.all.push(Host { delay: config.delay, peer_id: PeerId([0; 20]), format });
        self.delay_min = self.delay_min.min(config.delay);
        let disk =
            config.disk.map(|disk| Disk::new(disk, self.geometry.clone(), have.clone(), self.rng.fork()));
        let torrent = self.torrent_for(id, have);
        let mut node = Node::new(id, config, torrent, self.now);
        node.scale = self.scale;
        node.buffers = self.buffers;
        node.trees = self.template.hashes.clone().filter(|_| format.has_v2());
        node.check = (self.checks == Checks::EveryStep).then(Box::<StepCheck>::default);
        if !self.faults.is_none() {
            node.paths = Some(Box::new(Paths::new(self.faults, self.rng.fork())));
        }
        let habit = Habit::of(config.behaviour, self.now, &mut self.rng);
        if disk.is_some() || habit.is_some() || self.tracker.is_some() {
            node.shell = Some(Box::new(Shell::new(disk, habit)));
        }
        self.lanes.nodes.push(node);
        self.lanes.inboxes.push(Inbox::new());
        self.lanes.divide(self.threads);
        match config.behaviour {
            Behaviour::WebSeed => self.hosts.web_seeds.push(id),
            _ => self.start_announcing(id),
        }
        id
    }

    fn start_announcing(&mut self, id: NodeId) {
        if self.tracker.is_none() {
            return;
        }
        let mut config = self.template.clone();
        config.peer_id = self.hosts.peer_id(id);
        let announcer = shell::announcer(&config, self.now, self.rng.fork());
        self.with(id, |node, _| {
            if let Some(shell) = &mut node.shell {
                shell.announcer = Some(announcer);
            }
        });
    }

    fn torrent_for(&mut self, id: NodeId, have: Bitfield) -> Torrent {
        let mut config = self.template.clone();
        config.seed = self.rng.next_u64();
        config.hashes = config.hashes.filter(|_| self.hosts.all[id.0 as usize].format.has_v2());
        self.rng.fill(&mut config.peer_id.0);
        self.hosts.all[id.0 as usize].peer_id = config.peer_id;
        let mut torrent = Torrent::new(config, self.geometry.clone(), have);
        self.hosts.web_seeds.iter().for_each(|_| _ = torrent.add_web_seed(self.now));
        torrent
    }

    /// Tells a host of every other one that is there and in the same swarm, as a tracker would.
    pub fn introduce(&mut self, id: NodeId) {
        let others: Vec<NodeId> = self.ids().filter(|other| self.is_online(*other)).collect();
        self.tell(id, &others);
    }

    /// Tells a host of these others, as far as they are in the same swarm.
    pub fn tell(&mut self, id: NodeId, of: &[NodeId]) {
        let is_peer = |id: &NodeId| !self.hosts.web_seeds.contains(id);
        if !is_peer(&id) {
            return;
        }
        let addrs: Vec<SocketAddr> = of
            .iter()
            .filter(|other| **other != id && is_peer(other) && self.hosts.share_version(id, **other))
            .map(|other| self.hosts.addr_of(*other))
            .collect();
        self.with(id, |node, now| {
            node.torrent.handle_addresses(now, &addrs, Origin::Tracker(Ipv4Addr::UNSPECIFIED.into()));
        });
    }

    /// Takes a host off the network: its connections end, nobody reaches it.
    pub fn leave(&mut self, id: NodeId) {
        if self.is_online(id) {
            self.touch(id, Node::go_offline);
        }
    }

    /// Lets a host's power fail: it is off the network without a word, and its disk loses some of what was not synced.
    pub fn crash(&mut self, id: NodeId) {
        if self.is_online(id) {
            self.touch(id, |node, _, _| node.crash());
        }
    }

    /// Brings a host back that has left, failed or crashed, with the pieces that its disk has. It knows nobody.
    pub fn come_back(&mut self, id: NodeId) {
        if self.is_online(id) {
            return;
        }
        let have = self.lanes.nodes[id.0 as usize].recover();
        let torrent = self.torrent_for(id, have);
        self.touch(id, |node, now, net| node.restart(now, torrent, net));
        self.start_announcing(id);
        self.with(id, |_, _| {});
    }

    /// A host's disk has room for everything from now on.
    pub fn free_space(&mut self, id: NodeId) {
        self.with(id, |node, _| {
            if let Some(disk) = node.shell.as_mut().and_then(|shell| shell.disk.as_mut()) {
                disk.free_space();
            }
        });
    }

    /// Cuts the network in two, this half and the others; the tracker is where the first host is. Connections across end.
    pub fn partition(&mut self, mut half: impl FnMut(NodeId) -> bool) {
        self.hosts.sides = self.ids().map(&mut half).collect();
        for id in self.ids().filter(|&id| self.is_online(id)).collect::<Vec<_>>() {
            self.touch(id, |node, now, net| {
                node.lose_connections(now, net);
                node.settle(now, net);
            });
        }
    }

    /// Makes the network whole again.
    pub fn heal(&mut self) {
        self.hosts.sides.clear();
    }

    /// The shape of the torrent.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Whether this piece is with some host that gives and did not start with it.
    pub fn is_elsewhere(&self, piece: PieceIndex) -> bool {
        let gives = |node: &&Node| node.online && !node.config.seed && node.config.behaviour.gives();
        self.lanes.nodes.iter().filter(gives).any(|node| node.torrent.have().has(piece))
    }

    /// Bytes of blocks that the hosts have sent which had everything from the start.
    pub fn bytes_of_sources(&self) -> u64 {
        self.lanes.nodes.iter().filter(|node| node.config.seed).map(|node| node.totals().bytes_up).sum()
    }

    /// The present time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// A hash over everything that has happened.
    pub fn trace(&self) -> Trace {
        let fold =
            |hash: u64, node: &Node| (hash ^ node.trace).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
        Trace(self.lanes.nodes.iter().fold(0, fold))
    }

    /// Who was banned, and by whom: the banning host first.
    pub fn bans(&self) -> impl Iterator<Item = (NodeId, NodeId)> + '_ {
        let all =
            self.lanes.nodes.iter().enumerate().flat_map(|(by, node)| node.bans.iter().map(move |a| (by, a)));
        all.filter_map(|(by, addr)| Some((NodeId(by as u32), self.hosts.id_at(*addr)?)))
    }

    /// Who kept a corrupt block, and from whom: the deceived host first.
    pub fn lies(&self) -> impl Iterator<Item = (NodeId, NodeId)> + '_ {
        self.lanes.nodes.iter().flat_map(|node| node.deceived_by.iter().map(|&liar| (node.id, liar)))
    }

    /// A host's torrent.
    pub fn torrent(&self, id: NodeId) -> &Torrent {
        &self.lanes.nodes[id.0 as usize].torrent
    }

    /// What a host is like.
    pub fn config(&self, id: NodeId) -> &NodeConfig {
        &self.lanes.nodes[id.0 as usize].config
    }

    /// A host's sums, over all its lives.
    pub fn totals(&self, id: NodeId) -> Totals {
        self.lanes.nodes[id.0 as usize].totals()
    }

    /// Bytes that a host sent beside blocks and their headers.
    pub fn control_bytes(&self, id: NodeId) -> u64 {
        self.lanes.nodes[id.0 as usize].control_bytes_sent
    }

    /// Whether a host is on the network.
    pub fn is_online(&self, id: NodeId) -> bool {
        self.lanes.nodes[id.0 as usize].online
    }

    /// Changes a host's torrent from outside, as its user would.
    pub fn with_torrent(&mut self, id: NodeId, change: impl FnOnce(&mut Torrent, Time)) {
        self.with(id, |node, now| change(&mut node.torrent, now));
    }

    /// When a host joined.
    pub fn joined_at(&self, id: NodeId) -> Time {
        self.lanes.nodes[id.0 as usize].joined_at
    }

    /// When a host had everything it wanted.
    pub fn completed_at(&self, id: NodeId) -> Option<Time> {
        self.lanes.nodes[id.0 as usize].completed_at
    }

    /// Every host.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.lanes.nodes.len() as u32).map(NodeId)
    }

    /// The honest hosts that did not start with everything.
    pub(crate) fn honest_peers(&self) -> Vec<NodeId> {
        let nodes = self.lanes.nodes.iter();
        let peers = nodes.filter(|n| !n.config.seed && n.config.behaviour == Behaviour::Honest);
        peers.map(|node| node.id).collect()
    }

    /// Whether every host that is there and does what its torrent says has everything it wants.
    pub fn is_complete(&self) -> bool {
        let mut honest =
            self.lanes.nodes.iter().filter(|n| n.config.behaviour == Behaviour::Honest && n.online);
        honest.all(|n| n.torrent.is_complete())
    }

    /// Runs until `done`, or nothing more will happen, or `until`. Whether it was `done`, which is asked after
    /// each window.
    pub fn run(&mut self, until: Time, mut done: impl FnMut(&World) -> bool) -> bool {
        loop {
            if done(self) {
                return true;
            }
            let arrivals = self.lanes.inboxes.iter().filter_map(|inbox| inbox.next_at);
            let announces = self.tracker.as_ref().and_then(|tracker| tracker.poll_timeout());
            let Some(next) = arrivals.chain(announces).min().filter(|next| *next <= until) else {
                self.now = self.now.max(until);
                return false;
            };
            let (start, end) =
                (self.now.max(next), (next + self.window()).min(until + Duration::from_micros(1)));
            self.lanes.run(start, end, &self.hosts);
            self.collect_announces();
            if let Some(tracker) = &mut self.tracker {
                tracker.serve(end, &mut self.lanes.inboxes);
            }
            self.now = self.now.max(end - Duration::from_micros(1));
            self.check_if_due();
        }
    }

    /// The shortest time from sending to arrival.
    fn window(&self) -> Duration {
        match self.faults.jitter.is_zero() {
            true => (self.delay_min * 2).max(PATH_MIN),
            false => self.delay_min.max(PATH_MIN / 2),
        }
    }

    fn check_if_due(&mut self) {
        match self.checks {
            Checks::Never => {}
            Checks::EveryStep => self.check(),
            Checks::Every(_) if self.check_at.is_some_and(|at| self.now < at) => {}
            Checks::Every(interval) => {
                self.check_at = Some(self.now + interval);
                self.check();
            }
        }
    }

    /// Lets something happen to a node, then carries out what its torrent wants.
    fn with(&mut self, id: NodeId, change: impl FnOnce(&mut Node, Time)) {
        self.touch(id, |node, now, net| {
            change(node, now);
            node.settle(now, net);
        });
    }

    /// Lets something happen to a node from outside, while none runs.
    fn touch(&mut self, id: NodeId, change: impl FnOnce(&mut Node, Time, &mut Network)) {
        self.lanes.touch(id, &self.hosts, |node, net| change(node, self.now, net));
        self.collect_announces();
    }

    /// Sends on to the tracker what hosts have for it.
    fn collect_announces(&mut self) {
        for outbox in &mut self.lanes.outboxes {
            for announce in outbox.announces.drain(..) {
                if let Some(tracker) = &mut self.tracker {
                    tracker.take(announce);
                }
            }
        }
    }
}

//! Hosts, and datagrams on their way between them.
//!
//! One queue holds everything that is to happen: arrivals, timers, and alarms of whoever runs the network. A node's
//! timer is in it once; if the node has put it off meanwhile, it goes in again when it comes up. Nothing is ever
//! searched for in the queue.

use super::sybil::Sybil;
use crate::Trace;
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use swarm_core::dht::{Event, Node, NodeConfig, NodeId, NodeInfo};
use swarm_core::net::{Family, is_local};
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};

/// The least delay between a host and the core of the network. With [`HOST_DELAY_SPREAD`] round trips between random
/// hosts take 80 ms in the median, 20 to 140 ms in all, before jitter.
pub const HOST_DELAY_MIN: Duration = Duration::from_millis(5);
/// How much longer it may be, evenly spread.
pub const HOST_DELAY_SPREAD: Duration = Duration::from_millis(30);
/// A datagram takes up to this much longer than its path's delay, in hundredths of it.
pub const JITTER_PERCENT: u64 = 10;
/// Bytes of the headers of IPv4 and UDP, which count as sent too.
pub const HEADERS_LEN: u64 = 28;

/// One host, for as long as the network lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostId(pub u32);

/// Something that whoever runs the network may want to know.
#[derive(Debug)]
pub enum Happening {
    /// A node tells its owner something.
    Event(HostId, Event),
    /// An alarm that was set.
    Alarm(Alarm),
}

/// What scenarios set alarms for. The numbers are theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// A peer is announced.
    Announce(usize),
    /// It is looked for.
    Lookup(usize),
    /// A node leaves, and another one comes.
    Leave(usize),
}

/// Datagrams, and their bytes with those of their IP and UDP headers, both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many.
    pub datagrams: u64,
    /// How long they are together.
    pub bytes: u64,
}

impl Traffic {
    fn count(&mut self, datagram: &[u8]) {
        self.datagrams += 1;
        self.bytes += datagram.len() as u64 + HEADERS_LEN;
    }

    /// What has come to it since it was `before`.
    pub fn since(self, before: Traffic) -> Traffic {
        Traffic { datagrams: self.datagrams - before.datagrams, bytes: self.bytes - before.bytes }
    }
}

/// What runs on a host.
enum Program {
    Node(Box<Node>),
    Sybil(Sybil),
    /// It is switched off.
    Nothing,
}

struct Host {
    addr: SocketAddr,
    /// To the core of the network.
    delay_micros: u32,
    program: Program,
    /// Its timer that is in the queue.
    timer: Option<Time>,
    traffic: Traffic,
}

enum What {
    Datagram { from: HostId, to: HostId, bytes: Vec<u8> },
    Timer(HostId),
    Alarm(Alarm),
}

/// A network of DHT nodes on a virtual clock.
pub struct Network {
    now: Time,
    rng: Rng,
    loss_permille: u64,
    hosts: Vec<Host>,
    by_addr: BTreeMap<SocketAddr, HostId>,
    /// By time, then by when it came into the queue.
    queue: BTreeMap<(Time, u64), What>,
    sequence: u64,
    happened: VecDeque<Happening>,
    traffic: Traffic,
    trace: u64,
}

impl Network {
    /// A network without hosts, in which of 1,000 datagrams so many are lost.
    pub fn new(seed: u64, loss_permille: u64) -> Network {
        Network {
            now: Time::from_micros(1),
            rng: Rng::new(seed),
            loss_permille,
            hosts: Vec::new(),
            by_addr: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            happened: VecDeque::new(),
            traffic: Traffic::default(),
            trace: 0,
        }
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The generator that everything in this network is determined by.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// Everything sent so far, lost or not.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// What a host has sent, and what has reached it.
    pub fn traffic_of(&self, host: HostId) -> Traffic {
        self.hosts[host.0 as usize].traffic
    }

    /// Equal for equal runs.
    pub fn trace(&self) -> Trace {
        Trace(self.trace)
    }

    /// Where a host is.
    pub fn addr(&self, host: HostId) -> SocketAddr {
        self.hosts[host.0 as usize].addr
    }

    /// The round trip between two hosts, without jitter.
    pub fn round_trip(&self, a: HostId, b: HostId) -> Duration {
        let delay = |host: HostId| u64::from(self.hosts[host.0 as usize].delay_micros);
        Duration::from_micros(2 * (delay(a) + delay(b)))
    }

    /// The node on a host, if there is one and it runs.
    pub fn node(&self, host: HostId) -> Option<&Node> {
        match &self.hosts[host.0 as usize].program {
            Program::Node(node) => Some(node),
            _ => None,
        }
    }

    /// A node at a random public address of its own, with an id that fits it.
    pub fn add_node(&mut self, enforce_ids: bool) -> HostId {
        let addr = self.unused_addr();
        let id = NodeId::for_address(addr.ip(), &mut self.rng);
        let mut secret = [0; 16];
        self.rng.fill(&mut secret);
        let (id_v4, ip_filter) = (Some(id), Arc::default());
        let config = NodeConfig { id_v4, id_v6: None, secret, read_only: false, enforce_ids, ip_filter };
        let node = Node::new(self.now, config, self.rng.fork());
        self.add_host(addr, Program::Node(Box::new(node)))
    }

    /// A host that runs something else.
    pub(super) fn add_sybil(&mut self, addr: SocketAddr, sybil: Sybil) -> HostId {
        self.add_host(addr, Program::Sybil(sybil))
    }

    /// A public IPv4 address that nobody has, and a port.
    pub(super) fn unused_addr(&mut self) -> SocketAddr {
        loop {
            let ip = Ipv4Addr::from(self.rng.next_u64() as u32);
            let addr = SocketAddr::from((ip, 6881));
            let is_public = (1..224).contains(&ip.octets()[0]) && !is_local(addr.ip());
            if is_public && !self.by_addr.contains_key(&addr) {
                return addr;
            }
        }
    }

    fn add_host(&mut self, addr: SocketAddr, program: Program) -> HostId {
        let id = HostId(self.hosts.len() as u32);
        let spread = self.rng.below(HOST_DELAY_SPREAD.as_micros() as u64 + 1);
        let delay_micros = (HOST_DELAY_MIN.as_micros() as u64 + spread) as u32;
        let traffic = Traffic::default();
        self.hosts.push(Host { addr, delay_micros, program, timer: None, traffic });
        self.by_addr.insert(addr, id);
        id
    }

    /// Switches a host off. What is on its way to it is lost.
    pub fn kill(&mut self, host: HostId) {
        self.hosts[host.0 as usize].program = Program::Nothing;
    }

    /// A node's id and address.
    ///
    /// # Panics
    /// If the host runs no node.
    pub fn info(&self, host: HostId) -> NodeInfo {
        let id = self.node(host).and_then(|node| node.id(Family::V4)).expect("the host runs a node");
        NodeInfo { id, addr: self.addr(host) }
    }

    /// Has a node do something.
    ///
    /// # Panics
    /// If the host runs no node.
    pub fn with<R>(&mut self, host: HostId, act: impl FnOnce(&mut Node, Time) -> R) -> R {
        let now = self.now;
        let Program::Node(node) = &mut self.hosts[host.0 as usize].program else {
            panic!("the host runs no node")
        };
        let result = act(node, now);
        self.drain(host);
        result
    }

    /// Sends a datagram in a host's name.
    pub(super) fn send(&mut self, from: HostId, to: SocketAddr, bytes: Vec<u8>) {
        self.traffic.count(&bytes);
        self.hosts[from.0 as usize].traffic.count(&bytes);
        self.trace = (self.trace ^ self.now.as_micros() ^ u64::from(from.0) << 40 ^ bytes.len() as u64)
            .wrapping_mul(0x0000_0100_0000_01b3)
            .rotate_left(29);
        let is_lost = self.loss_permille > 0 && self.rng.below(1_000) < self.loss_permille;
        let Some(&to) = self.by_addr.get(&to).filter(|_| !is_lost) else { return };
        let delay = self.round_trip(from, to).as_micros() as u64 / 2;
        let jitter = self.rng.below(delay * JITTER_PERCENT / 100 + 1);
        let at = self.now + Duration::from_micros(delay + jitter);
        self.enter(at, What::Datagram { from, to, bytes });
    }

    /// Reports [`Happening::Alarm`] at a time, or now if that has passed.
    pub fn set_alarm(&mut self, at: Time, alarm: Alarm) {
        self.enter(at.max(self.now), What::Alarm(alarm));
    }

    fn enter(&mut self, at: Time, what: What) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), what);
    }

    /// Lets time pass until something happens that is to be known, at most until `end`.
    pub fn run(&mut self, end: Time) -> Option<Happening> {
        loop {
            if let Some(happening) = self.happened.pop_front() {
                return Some(happening);
            }
            let Some(next) = self.queue.first_entry().filter(|next| next.key().0 <= end) else {
                self.now = self.now.max(end);
                return None;
            };
            let ((at, _), what) = next.remove_entry();
            self.now = at;
            match what {
                What::Alarm(alarm) => return Some(Happening::Alarm(alarm)),
                What::Timer(host) => self.on_timer(host, at),
                What::Datagram { from, to, bytes } => self.on_datagram(from, to, &bytes),
            }
        }
    }

    fn on_timer(&mut self, host: HostId, at: Time) {
        let entry = &mut self.hosts[host.0 as usize];
        if entry.timer != Some(at) {
            return;
        }
        entry.timer = None;
        if let Program::Node(node) = &mut entry.program {
            if node.poll_timeout().is_some_and(|due| due <= at) {
                node.handle_timeout(at);
            }
            self.drain(host);
        }
    }

    fn on_datagram(&mut self, from: HostId, to: HostId, bytes: &[u8]) {
        let source = self.addr(from);
        let host = &mut self.hosts[to.0 as usize];
        host.traffic.count(bytes);
        match &mut host.program {
            Program::Node(node) => {
                node.handle_datagram(self.now, source, bytes);
                self.drain(to);
            }
            Program::Sybil(sybil) => {
                if let Some(answer) = sybil.answer(source, bytes) {
                    self.send(to, source, answer);
                }
            }
            Program::Nothing => {}
        }
    }

    /// Sends what a node wants sent, passes on what it tells, and sees to its timer.
    fn drain(&mut self, host: HostId) {
        loop {
            let Program::Node(node) = &mut self.hosts[host.0 as usize].program else { return };
            let Some((to, bytes)) = node.poll_datagram() else { break };
            self.send(host, to, bytes);
        }
        let entry = &mut self.hosts[host.0 as usize];
        let Program::Node(node) = &mut entry.program else { return };
        while let Some(event) = node.poll_event() {
            self.happened.push_back(Happening::Event(host, event));
        }
        if let Some(timer) = node.poll_timeout()
            && entry.timer.is_none_or(|at| timer < at)
        {
            entry.timer = Some(timer);
            self.enter(timer, What::Timer(host));
        }
    }
}

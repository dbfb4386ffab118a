//! Two hosts with a line between them, in virtual time: delay, rate, queue, loss, reordering, duplicates, and a clock that jumps.

#![allow(dead_code, unused_imports, reason = "each test uses a part of it")]

mod cubic;
mod host;
mod line;
mod puppet;

pub use cubic::Cubic;
pub use host::{Host, Stream};
pub use line::{Line, Quality};
pub use puppet::{Puppet, Seen};

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};
use swarm_core::utp::{Config, ConnectionId};

/// Bytes below uTP's in each datagram: IPv4 and UDP.
pub const BELOW: usize = 28;
pub const MIB: usize = 1 << 20;

/// What is on its way.
pub enum Cargo {
    Datagram(Vec<u8>),
    Cubic(u64),
    CubicAck(u64),
}

impl Cargo {
    fn len(&self) -> usize {
        match self {
            Cargo::Datagram(datagram) => datagram.len() + BELOW,
            Cargo::Cubic(_) => 1500,
            Cargo::CubicAck(_) => 64,
        }
    }
}

enum Happening {
    Arrives { to: usize, cargo: Cargo },
    Wakes,
}

struct Entry {
    at: Time,
    order: u64,
    what: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.order == other.order
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

pub struct World {
    pub now: Time,
    pub hosts: [Host; 2],
    /// From the first host to the second, and back.
    pub lines: [Line; 2],
    /// A flow of its own beside ours, from the first to the second.
    pub cubic: Option<Cubic>,
    /// Datagrams that have been handled.
    pub handled: u64,
    /// By how many microseconds the second host's clock differs, as the first sees it.
    pub clock_offset: u32,
    happenings: BinaryHeap<Reverse<Entry>>,
    order: u64,
}

pub fn config(connections_max: usize) -> Config {
    Config {
        connections_max,
        receive_capacity_max: 4 * MIB,
        datagram_len_max: usize::MAX,
        accepts: true,
        secret: [7; 16],
    }
}

impl World {
    pub fn new(seed: u64, quality: Quality) -> World {
        let mut rng = Rng::new(seed);
        World {
            now: Time::from_micros(1_000_000),
            hosts: [
                Host::new("10.0.0.1:1000", config(100), rng.fork()),
                Host::new("10.0.0.2:2000", config(100), rng.fork()),
            ],
            lines: [Line::new(quality.clone(), rng.fork()), Line::new(quality, rng.fork())],
            cubic: None,
            handled: 0,
            clock_offset: 0x7654_3210,
            happenings: BinaryHeap::new(),
            order: 0,
        }
    }

    fn push(&mut self, at: Time, what: Happening) {
        self.order += 1;
        self.happenings.push(Reverse(Entry { at, order: self.order, what }));
    }

    pub fn after(&self, time: Duration) -> Time {
        self.now + time
    }

    /// The first host dials the second, and writes so many bytes.
    pub fn dial(&mut self, bytes: u64) -> ConnectionId {
        let (now, to) = (self.now, self.hosts[1].addr);
        let connection = self.hosts[0].socket.handle_connect(now, to).expect("room");
        self.hosts[0].streams.insert(connection, Stream::default());
        self.hosts[0].write(connection, bytes);
        self.flush();
        connection
    }

    /// Sends what hosts want to send.
    pub fn flush(&mut self) {
        for from in 0..2 {
            while let Some(datagram) = self.hosts[from].poll_transmit(self.now) {
                let datagram = if from == 1 { shifted(datagram, self.clock_offset) } else { datagram };
                let may_fragment = self.hosts[from].may_fragment;
                self.send_as(from, Cargo::Datagram(datagram), may_fragment);
            }
            let wake = self.hosts[from].socket.poll_timeout();
            if let Some(at) = wake.filter(|at| self.hosts[from].wakes_at != Some(*at)) {
                self.hosts[from].wakes_at = Some(at);
                self.push(at.max(self.now), Happening::Wakes);
            }
        }
        while let Some(number) = self.cubic.as_mut().and_then(|cubic| cubic.poll_transmit(self.now)) {
            self.send(0, Cargo::Cubic(number));
        }
    }

    fn send(&mut self, from: usize, cargo: Cargo) {
        self.send_as(from, cargo, false);
    }

    /// One that may be cut into pieces is never too long for the line.
    fn send_as(&mut self, from: usize, cargo: Cargo, may_fragment: bool) {
        let line = &mut self.lines[from];
        let len = if may_fragment { cargo.len().min(line.quality.mtu) } else { cargo.len() };
        let arrivals = line.send(self.now, len, matches!(cargo, Cargo::Datagram(_)));
        let mut cargo = Some(cargo);
        for (n, at) in arrivals.iter().enumerate() {
            let this = match (&cargo, n + 1 == arrivals.len()) {
                (Some(Cargo::Datagram(datagram)), false) => Cargo::Datagram(datagram.clone()),
                _ => cargo.take().expect("the last one"),
            };
            self.push(*at, Happening::Arrives { to: 1 - from, cargo: this });
        }
    }

    /// Puts a datagram onto the line as if a host had sent it.
    pub fn inject(&mut self, from: usize, datagram: Vec<u8>) {
        self.send(from, Cargo::Datagram(datagram));
    }

    /// The next thing happens, unless it is after `until`.
    pub fn step(&mut self, until: Time) -> bool {
        let Some(Reverse(entry)) = self.happenings.pop() else {
            self.now = until;
            return false;
        };
        if entry.at > until {
            self.happenings.push(Reverse(entry));
            self.now = until;
            return false;
        }
        self.now = entry.at;
        match entry.what {
            Happening::Arrives { to, cargo: Cargo::Datagram(datagram) } => {
                self.handled += 1;
                let from = self.hosts[1 - to].addr;
                self.hosts[to].handle_datagram(self.now, from, &datagram);
            }
            Happening::Arrives { cargo: Cargo::Cubic(number), .. } => self.send(1, Cargo::CubicAck(number)),
            Happening::Arrives { cargo: Cargo::CubicAck(number), .. } => {
                if let Some(cubic) = &mut self.cubic {
                    cubic.on_ack(self.now, number);
                }
            }
            Happening::Wakes => {
                for host in &mut self.hosts {
                    if host.wakes_at.is_some_and(|at| at <= self.now) {
                        host.wakes_at = None;
                        host.handle_timeout(self.now);
                    }
                }
            }
        }
        self.flush();
        true
    }

    pub fn run_for(&mut self, time: Duration) {
        let until = self.after(time);
        while self.step(until) {}
    }

    /// Runs until `is_over`; whether it was so in time.
    pub fn run_until(&mut self, time: Duration, mut is_over: impl FnMut(&World) -> bool) -> bool {
        let until = self.after(time);
        while !is_over(self) {
            if !self.step(until) {
                return is_over(self);
            }
        }
        true
    }

    /// The stream that the second host has accepted.
    pub fn accepted(&self) -> &Stream {
        self.hosts[1].streams.values().next().expect("a connection")
    }

    pub fn accepted_id(&self) -> ConnectionId {
        *self.hosts[1].streams.keys().next().expect("a connection")
    }
}

/// What a host says whose clock differs: the time of its packets, and what it measures of ours.
fn shifted(mut datagram: Vec<u8>, offset: u32) -> Vec<u8> {
    for at in [4, 8] {
        let field: [u8; 4] = datagram[at..at + 4].try_into().expect("4 bytes");
        let value = u32::from_be_bytes(field);
        if value != 0 {
            datagram[at..at + 4].copy_from_slice(&value.wrapping_add(offset).to_be_bytes());
        }
    }
    datagram
}

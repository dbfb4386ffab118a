//! A swarm with ideal network coding, to tell what it could gain at the most.
//!
//! Avalanche (Gkantsidis and Rodriguez 2005) lets every peer send random combinations of what it has, so that no block is
//! rare and next to every block that arrives is of use. Here *every* block is, as long as the sources have sent more than the
//! receiver has, which nothing can get around; a peer needs so many blocks and no particular ones. It passes on each block as
//! soon as that is here, without waiting for a piece to be whole and verified, and nothing is asked for: senders know what is on its
//! way to whom. Links, delays and neighbours are those of the other scenarios. No protocol with coding can do better.

use crate::basics::{NodeId, PATH_MIN, Trace};
use crate::config::NodeConfig;
use crate::report::{Outcome, bound, jain_permille};
use crate::watch::Sample;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use swarm_core::geometry::{BLOCK_LEN, Geometry};
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};
use swarm_core::wire::message::PIECE_HEADER_LEN;

/// What one block takes of a link.
const BLOCK_BYTES: u64 = BLOCK_LEN as u64 + PIECE_HEADER_LEN as u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// A block has left.
    UplinkFree,
    /// A block has crossed the network and queues for the downlink.
    Arrived,
    /// A block is here.
    Received,
}

struct Coder {
    config: NodeConfig,
    have: u64,
    /// The same, and what is on its way.
    promised: u64,
    is_sending: bool,
    downlink_free_at: Time,
    /// Those that may still want something.
    neighbours: Vec<NodeId>,
    completed_at: Option<Time>,
    sent: u64,
}

struct Swarm {
    coders: Vec<Coder>,
    queue: BinaryHeap<Reverse<(Time, u64, What, NodeId)>>,
    sequence: u64,
    /// Blocks of the file.
    blocks: u64,
    /// Blocks that sources have begun to send: nobody can have more that differ.
    released: u64,
    rng: Rng,
    trace: u64,
}

/// Lets these hosts, who know each other as `graph` says, fill up.
pub(crate) fn run(
    hosts: &[NodeConfig],
    graph: Vec<(NodeId, Vec<NodeId>)>,
    geometry: &Geometry,
    rng: Rng,
) -> Outcome {
    let blocks = geometry.total_len().div_ceil(u64::from(BLOCK_LEN));
    let mut swarm = Swarm::new(hosts, graph, blocks, rng);
    let mut progress = Vec::new();
    let (mut received, mut now) = (0, Time::ZERO);
    let wanted = swarm.coders.iter().filter(|coder| !coder.config.seed).count() as u64 * blocks;
    swarm.feed_everyone(now);
    while received < wanted {
        let Some(Reverse((at, _, what, id))) = swarm.queue.pop() else { break };
        now = at;
        swarm.step(now, what, id);
        if what == What::Received {
            received += 1;
            if received % (wanted / 100).max(1) == 0 {
                let bytes = received * u64::from(BLOCK_LEN);
                progress.push(Sample { at: now.since(Time::ZERO), bytes });
            }
        }
    }
    swarm.outcome(geometry, progress, now)
}

impl Swarm {
    fn new(hosts: &[NodeConfig], graph: Vec<(NodeId, Vec<NodeId>)>, blocks: u64, rng: Rng) -> Swarm {
        let coder = |config: &NodeConfig| Coder {
            config: *config,
            have: if config.seed { blocks } else { 0 },
            promised: if config.seed { blocks } else { 0 },
            is_sending: false,
            downlink_free_at: Time::ZERO,
            neighbours: Vec::new(),
            completed_at: None,
            sent: 0,
        };
        let mut coders: Vec<Coder> = hosts.iter().map(coder).collect();
        for (from, to) in graph.iter().flat_map(|(from, others)| others.iter().map(move |to| (*from, *to))) {
            coders[from.0 as usize].neighbours.push(to);
            coders[to.0 as usize].neighbours.push(from);
        }
        let queue = BinaryHeap::new();
        Swarm { coders, queue, sequence: 0, blocks, released: 0, rng, trace: 0 }
    }

    fn later(&mut self, at: Time, what: What, id: NodeId) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence, what, id)));
    }

    fn step(&mut self, now: Time, what: What, id: NodeId) {
        let coder = &mut self.coders[id.0 as usize];
        match what {
            What::UplinkFree => {
                coder.is_sending = false;
                self.feed(now, id);
            }
            What::Arrived => {
                coder.downlink_free_at =
                    coder.downlink_free_at.max(now) + coder.config.down.time_for(BLOCK_BYTES);
                let at = coder.downlink_free_at;
                self.later(at, What::Received, id);
            }
            What::Received => {
                coder.have += 1;
                if coder.have == self.blocks {
                    coder.completed_at = Some(now);
                }
                self.trace = (self.trace ^ now.as_micros() ^ u64::from(id.0) << 40)
                    .wrapping_mul(0x0000_0100_0000_01b3)
                    .rotate_left(23);
                self.feed(now, id);
            }
        }
    }

    fn feed_everyone(&mut self, now: Time) {
        (0..self.coders.len() as u32).for_each(|id| self.feed(now, NodeId(id)));
    }

    /// Sends the needier of two random neighbours a block, if the uplink is idle and anyone has use for one.
    fn feed(&mut self, now: Time, id: NodeId) {
        let coder = &self.coders[id.0 as usize];
        if coder.is_sending || coder.have == 0 {
            return;
        }
        let is_source = coder.config.seed;
        let limit = (self.released + u64::from(is_source)).min(self.blocks);
        let Some(to) = self.choose(id, limit) else { return };
        self.coders[to.0 as usize].promised += 1;
        let delay = self.coders[id.0 as usize].config.delay + self.coders[to.0 as usize].config.delay;
        let coder = &mut self.coders[id.0 as usize];
        (coder.is_sending, coder.sent) = (true, coder.sent + 1);
        let leaves = now + coder.config.up.time_for(BLOCK_BYTES);
        self.later(leaves, What::UplinkFree, id);
        self.later(leaves + delay.max(PATH_MIN), What::Arrived, to);
        if is_source && self.released < self.blocks {
            self.released += 1;
            self.feed_everyone(now);
        }
    }

    fn choose(&mut self, id: NodeId, limit: u64) -> Option<NodeId> {
        let mut neighbours = std::mem::take(&mut self.coders[id.0 as usize].neighbours);
        neighbours.retain(|other| self.coders[other.0 as usize].promised < self.blocks);
        let promised = |other: NodeId| self.coders[other.0 as usize].promised;
        let wants = || neighbours.iter().copied().filter(|&other| promised(other) < limit);
        let count = wants().count();
        let chosen = (count > 0).then(|| {
            let (a, b) = (self.rng.index(count), self.rng.index(count));
            let of = |nth| wants().nth(nth).unwrap_or(id);
            std::cmp::min_by_key(of(a), of(b), |&other| promised(other))
        });
        self.coders[id.0 as usize].neighbours = neighbours;
        chosen
    }

    fn outcome(&self, geometry: &Geometry, progress: Vec<Sample>, now: Time) -> Outcome {
        let peers: Vec<&Coder> = self.coders.iter().filter(|coder| !coder.config.seed).collect();
        let sources = self.coders.iter().filter(|coder| coder.config.seed);
        let configs: Vec<&NodeConfig> = self.coders.iter().map(|coder| &coder.config).collect();
        let end = now.since(Time::ZERO);
        let took = |coder: &&Coder| Some(coder.completed_at?.since(Time::ZERO));
        let mut times: Vec<Duration> = peers.iter().filter_map(took).collect();
        times.sort_unstable();
        let rate = |coder: &&Coder| {
            let micros = took(coder).unwrap_or(end).as_micros().max(1);
            u128::from(coder.have * u64::from(BLOCK_LEN)) * 1_000_000_000_000
                / (micros * u128::from(coder.config.up.0))
        };
        let rates: Vec<u128> = peers.iter().map(rate).collect();
        let up: u128 = configs.iter().map(|config| u128::from(config.up.0)).sum();
        let sent: u64 = self.coders.iter().map(|coder| coder.sent * u64::from(BLOCK_LEN)).sum();
        let total = geometry.total_len();
        let time = |nth: usize| times.get(nth).copied().unwrap_or(end);
        Outcome {
            t_min: bound(total, configs),
            t_last: time(peers.len().saturating_sub(1)),
            t_median: time(peers.len() / 2),
            uplink_permille: (u128::from(sent) * 1_000_000_000 / (up * end.as_micros()).max(1)) as u64,
            source_copies_permille: sources.map(|coder| coder.sent).sum::<u64>() * 1_000 / self.blocks.max(1),
            spread_copies_permille: None,
            bytes_wasted: 0,
            control_bytes: 0,
            fairness_permille: jain_permille(&rates),
            riders_permille: None,
            waits: Vec::new(),
            bytes_wanted: total * peers.len() as u64,
            banned: 0,
            honest_banned: 0,
            deceived: 0,
            unpunished: 0,
            complete: times.len() == peers.len(),
            peers: peers.len(),
            progress,
            times,
            trace: Trace(self.trace),
        }
    }
}

//! Named swarms: who is there, on what links, and what befalls them.

use crate::node::{Behaviour, NodeConfig, Rate};
use crate::report::Outcome;
use crate::world::{NodeId, World};
use swarm_core::geometry::{BLOCK_LEN, Geometry, GeometryError};
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::UploadPolicy;

/// A run is given up after this many times its bound, and [`PATIENCE_MIN`].
const PATIENCE: u32 = 20;
/// See [`PATIENCE`].
const PATIENCE_MIN: Duration = Duration::from_secs(300);

/// What a scenario is run with.
#[derive(Clone, Copy, Debug)]
pub struct Params {
    /// Hosts besides the source.
    pub peers: u32,
    /// Pieces of the torrent.
    pub pieces: u32,
    /// Blocks of each piece.
    pub blocks_per_piece: u32,
    /// What a piece stands for, in bytes. Rates are scaled so that a piece of fewer blocks takes as long to send.
    pub piece_len: u64,
    /// Connections of each host, about.
    pub degree: u32,
    /// The ordinary uplink, in Mbit/s.
    pub up_mbit_per_s: u64,
    /// One-way delay of a path on average, in milliseconds; paths differ from it by half of it either way.
    pub delay_ms: u64,
    /// Whom uploaders serve.
    pub policy: UploadPolicy,
    /// Determines everything else.
    pub seed: u64,
    /// Whether invariants are checked after every step, which takes long.
    pub check: bool,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            peers: 100,
            pieces: 128,
            blocks_per_piece: 16,
            piece_len: 1 << 20,
            degree: 40,
            up_mbit_per_s: 100,
            delay_ms: 20,
            policy: UploadPolicy::TitForTat,
            seed: 1,
            check: false,
        }
    }
}

/// Something that befalls a swarm while it runs.
#[derive(Clone, Copy, Debug)]
enum Step {
    Join(NodeConfig),
    Leave(NodeId),
    ComeBack(NodeId),
}

/// Who is there at the start, the source first, and what happens later.
#[derive(Debug)]
struct Cast {
    hosts: Vec<NodeConfig>,
    steps: Vec<(Duration, Step)>,
}

/// A named swarm.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What happens in it.
    pub about: &'static str,
    cast: fn(&Stage, &mut Rng) -> Cast,
}

/// What a scenario needs to know of its parameters.
struct Stage {
    peers: u32,
    up: u64,
    delay_us: u64,
    /// The bound for equal peers, to time things by.
    bound: Duration,
}

impl Stage {
    /// A host of the ordinary kind on a path of random delay.
    fn peer(&self, rng: &mut Rng) -> NodeConfig {
        self.host(self.up, 2 * self.up, rng)
    }

    fn host(&self, up: u64, down: u64, rng: &mut Rng) -> NodeConfig {
        let delay = Duration::from_micros(self.delay_us / 4 + rng.below(self.delay_us / 2 + 1));
        NodeConfig { up: Rate(up), down: Rate(down), delay, ..NodeConfig::default() }
    }

    fn source(&self, rng: &mut Rng) -> NodeConfig {
        NodeConfig { seed: true, ..self.peer(rng) }
    }

    fn flash_crowd(&self, rng: &mut Rng) -> Cast {
        let source = self.source(rng);
        let hosts = std::iter::once(source).chain((0..self.peers).map(|_| self.peer(rng))).collect();
        Cast { hosts, steps: Vec::new() }
    }

    /// A flash crowd in which one in `n` peers, and one at the least, differs.
    fn with_some(&self, one_in: u32, rng: &mut Rng, behaviour: Behaviour) -> Cast {
        let mut cast = self.flash_crowd(rng);
        for host in cast.hosts.iter_mut().skip(1).step_by(one_in as usize) {
            host.behaviour = behaviour;
        }
        cast
    }
}

/// Every scenario.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "flash-crowd",
        about: "one source, everyone comes at once, downlinks are twice the uplinks",
        cast: |stage, rng| stage.flash_crowd(rng),
    },
    Scenario {
        name: "symmetric",
        about: "the same with downlinks as fast as the uplinks",
        cast: |stage, rng| {
            let mut cast = stage.flash_crowd(rng);
            cast.hosts.iter_mut().for_each(|host| host.down = host.up);
            cast
        },
    },
    Scenario {
        name: "three-classes",
        about: "uplinks 1:2:4 about the ordinary one, downlinks twice the uplink",
        cast: |stage, rng| {
            let mut cast = stage.flash_crowd(rng);
            for (i, host) in cast.hosts.iter_mut().skip(1).enumerate() {
                let up = stage.up / 2 * [1, 2, 4][i % 3];
                (host.up, host.down) = (Rate(up), Rate(2 * up));
            }
            cast
        },
    },
    Scenario {
        name: "fast-source",
        about: "the source's uplink is ten times that of the others",
        cast: |stage, rng| {
            let mut cast = stage.flash_crowd(rng);
            cast.hosts[0].up = Rate(10 * stage.up);
            cast
        },
    },
    Scenario {
        name: "slow-source",
        about: "the source's uplink is half that of the others",
        cast: |stage, rng| {
            let mut cast = stage.flash_crowd(rng);
            cast.hosts[0].up = Rate(stage.up / 2);
            cast
        },
    },
    Scenario {
        name: "poisoners-1",
        about: "one peer in a hundred sends corrupt blocks",
        cast: |stage, rng| stage.with_some(100, rng, Behaviour::Poisoner),
    },
    Scenario {
        name: "poisoners-10",
        about: "one peer in ten sends corrupt blocks",
        cast: |stage, rng| stage.with_some(10, rng, Behaviour::Poisoner),
    },
    Scenario {
        name: "poisoners-30",
        about: "one peer in three sends corrupt blocks",
        cast: |stage, rng| stage.with_some(3, rng, Behaviour::Poisoner),
    },
    Scenario {
        name: "free-riders",
        about: "one peer in ten never gives anything",
        cast: |stage, rng| stage.with_some(10, rng, Behaviour::FreeRider),
    },
    Scenario {
        name: "freeze-at-99",
        about: "one peer in a hundred stays connected but sends no more once it has 99 %",
        cast: |stage, rng| stage.with_some(100, rng, Behaviour::FreezesWith(99)),
    },
    Scenario {
        name: "churn",
        about: "three peers in ten leave along the way and return with their data",
        cast: |stage, rng| {
            let mut cast = stage.flash_crowd(rng);
            let bound = stage.bound.as_micros() as u64;
            for id in (1..=stage.peers).filter(|id| id % 10 < 3).map(NodeId) {
                let leaves = Duration::from_micros(bound / 10 + rng.below(bound / 2));
                let away = Duration::from_micros(bound / 20 + rng.below(bound / 5));
                cast.steps.push((leaves, Step::Leave(id)));
                cast.steps.push((leaves + away, Step::ComeBack(id)));
            }
            cast
        },
    },
    Scenario {
        name: "arrivals",
        about: "peers come one after the other over twice the time that one download takes",
        cast: |stage, rng| {
            let source = stage.source(rng);
            let gap = stage.bound * 2 / stage.peers.max(1);
            let joins = (0..stage.peers).map(|i| (gap * i, Step::Join(stage.peer(rng)))).collect();
            Cast { hosts: vec![source], steps: joins }
        },
    },
];

impl Scenario {
    /// The scenario of this name.
    pub fn named(name: &str) -> Option<&'static Scenario> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }

    /// Runs it to its end, or until it is plain that it will not end.
    ///
    /// # Errors
    /// When the parameters make no torrent.
    pub fn run(&self, params: &Params) -> Result<Outcome, GeometryError> {
        let simulated_len = u64::from(params.blocks_per_piece) * u64::from(BLOCK_LEN);
        let geometry = Geometry::new(simulated_len * u64::from(params.pieces), simulated_len)?;
        let up = params.up_mbit_per_s * 125_000 * simulated_len / params.piece_len.max(1);
        let mut rng = Rng::new(params.seed);
        let stage = Stage {
            peers: params.peers,
            up,
            delay_us: params.delay_ms * 1_000,
            bound: Rate(up).time_for(geometry.total_len()),
        };
        let mut cast = (self.cast)(&stage, &mut rng);
        let mut world = World::new(geometry, rng.next_u64());
        world.check_every_step(params.check);
        let template = world.template();
        (template.peers_max, template.peers_wanted) = (3 * params.degree as usize, params.degree as usize);
        template.half_open_max = params.degree as usize;
        template.upload_policy = params.policy;
        template.super_seeding = true;
        let ids: Vec<NodeId> = cast.hosts.iter().map(|host| world.join(*host)).collect();
        for (id, others) in near_regular(ids.len() as u32, params.degree, &mut rng) {
            world.tell(id, &others);
        }
        cast.steps.sort_by_key(|(at, _)| *at);
        for (at, step) in cast.steps {
            world.run(Time::ZERO + at, |_| false);
            befall(&mut world, step, params.degree, &mut rng);
        }
        let t_min = Outcome::bound(&world);
        let patience = (t_min * PATIENCE).max(PATIENCE_MIN);
        world.run(world.now() + patience, World::is_complete);
        Ok(Outcome::of(&world))
    }
}

fn befall(world: &mut World, step: Step, degree: u32, rng: &mut Rng) {
    let id = match step {
        Step::Join(host) => world.join(host),
        Step::Leave(id) => return world.leave(id),
        Step::ComeBack(id) => {
            world.come_back(id);
            id
        }
    };
    let mut others: Vec<NodeId> =
        world.ids().filter(|&other| other != id && world.is_online(other)).collect();
    rng.shuffle(&mut others);
    others.truncate(degree as usize);
    world.tell(id, &others);
}

/// Whom each of `n` nodes dials, so that the connections make a random graph in which almost every node has
/// `degree` of them: rings through all nodes in random order, each of which gives everyone two neighbours.
fn near_regular(n: u32, degree: u32, rng: &mut Rng) -> Vec<(NodeId, Vec<NodeId>)> {
    let mut dials = vec![Vec::new(); n as usize];
    let mut order: Vec<u32> = (0..n).collect();
    for _ in 0..degree.min(n).div_ceil(2) {
        rng.shuffle(&mut order);
        for (i, &from) in order.iter().enumerate() {
            let to = order[(i + 1) % n as usize];
            let is_new = from != to
                && !dials[from as usize].contains(&NodeId(to))
                && !dials[to as usize].contains(&NodeId(from));
            if is_new {
                dials[from as usize].push(NodeId(to));
            }
        }
    }
    dials.into_iter().enumerate().map(|(id, to)| (NodeId(id as u32), to)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn almost_every_node_has_the_wanted_number_of_neighbours() {
        let graph = near_regular(1_000, 40, &mut Rng::new(1));
        let mut degree = vec![0; 1_000];
        for (from, to) in &graph {
            for other in to {
                degree[from.0 as usize] += 1;
                degree[other.0 as usize] += 1;
            }
        }
        assert!(degree.iter().all(|&d| (34..=40).contains(&d)), "{degree:?}");
        assert!(degree.iter().filter(|&&d| d >= 38).count() > 900);
    }
}

//! Playing a scenario: setting the stage, letting things happen, and saying how to see a failure again.

use crate::basics::NodeId;
use crate::basics::Rate;
use crate::coding;
use crate::config::Behaviour;
use crate::path::PathFaults;
use crate::report::Outcome;
use crate::scenario::{Cast, Params, Scenario, Stage, Step};
use crate::viewer::{self, Viewer};
use crate::watch::Watch;
use crate::world::World;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use swarm_core::geometry::{BLOCK_LEN, Geometry, GeometryError};
use swarm_core::metainfo::{CreateError, Format};
use swarm_core::picker::Priority;
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};

/// A run is given up after this many times its bound, and [`PATIENCE_MIN`].
const PATIENCE: u32 = 20;
/// See [`PATIENCE`].
const PATIENCE_MIN: Duration = Duration::from_secs(600);
/// So many times within the bound is looked how far everyone is.
const SAMPLES_PER_BOUND: u32 = 100;
/// Files of a hybrid.
const HYBRID_FILES: u32 = 5;
/// Files of the torrent where peers want some of them only.
const FILES: u32 = 1_000;

/// Why a run has no outcome.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The parameters make no torrent.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The parameters make no torrent of version 2.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// Something does not hold that must.
    #[error("broken after {:.6} s: {what}\nreplay: {replay}", at.since(Time::ZERO).as_secs_f64())]
    Broken {
        /// When, on the run's clock.
        at: Time,
        /// What was found.
        what: String,
        /// The command that shows it again.
        replay: String,
    },
    /// Some honest peer never had everything.
    #[error("not everyone has everything\nreplay: {replay}")]
    Incomplete {
        /// The command that shows it again.
        replay: String,
    },
}

impl Scenario {
    /// Runs it to its end, or until it is plain that it will not end.
    ///
    /// # Errors
    /// When the parameters make no torrent, or something does not hold that must.
    pub fn run(&self, params: &Params) -> Result<Outcome, Failure> {
        let mut rng = Rng::new(params.seed);
        let simulated_len = u64::from(params.blocks_per_piece) * u64::from(BLOCK_LEN);
        let total_len = simulated_len * u64::from(params.pieces);
        let up = params.up_mbit_per_s * 125_000 * simulated_len / params.piece_len.max(1);
        let stage = Stage {
            peers: params.peers,
            pieces: params.pieces,
            total_len,
            up,
            delay_us: params.delay_ms * 1_000,
            bound: Rate(up.max(1)).time_for(total_len),
        };
        let cast = (self.cast)(&stage, &mut rng);
        let geometry =
            Geometry::new(total_len, if cast.is_split { BLOCK_LEN.into() } else { simulated_len })?;
        if cast.is_coded {
            let graph = near_regular(cast.hosts.len() as u32, params.degree, &mut rng);
            return Ok(coding::run(&cast.hosts, graph, &geometry, rng));
        }
        let mut world = match cast.is_hybrid {
            true => hybrid(total_len, params.blocks_per_piece, &mut rng)?,
            false => World::new(geometry, rng.next_u64()),
        };
        world.set_scale(params.piece_len / simulated_len);
        let watch = Watch::new(stage.bound / SAMPLES_PER_BOUND);
        let played = catch_unwind(AssertUnwindSafe(|| play(&mut world, cast, params, watch, &mut rng)));
        played.map_err(|panic| Failure::Broken {
            at: world.now(),
            what: message_of(panic.as_ref()),
            replay: params.replay(self.name),
        })
    }
}

/// A world around a hybrid of some files, whose lengths are random, of so many bytes together.
fn hybrid(total_len: u64, blocks_per_piece: u32, rng: &mut Rng) -> Result<World, CreateError> {
    let mut ends: Vec<u64> = (1..HYBRID_FILES).map(|_| rng.below(total_len)).chain([total_len]).collect();
    ends.sort_unstable();
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let lengths: Vec<u64> = starts.zip(&ends).map(|(start, end)| end - start).collect();
    let piece_len = blocks_per_piece.next_power_of_two() * BLOCK_LEN;
    World::of_files(&lengths, piece_len, Format::Hybrid, rng.next_u64())
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}

fn play(world: &mut World, mut cast: Cast, params: &Params, mut watch: Watch, rng: &mut Rng) -> Outcome {
    world.set_checks(params.checks);
    world.set_threads(params.threads);
    world.set_path_faults(PathFaults {
        jitter: Duration::from_millis(params.jitter_ms),
        loss_permille: params.loss_permille,
    });
    world.set_buffers(params.buffers());
    let has_tracker = cast.tracker || params.tracker;
    if has_tracker {
        world.add_tracker();
    }
    let template = world.template();
    (template.peers_max, template.peers_wanted) = (3 * params.degree as usize, params.degree as usize);
    template.half_open_max = params.degree as usize;
    // Seeds of a film that others watch have been there for long.
    template.super_seeding = cast.viewing.is_none();
    let ids: Vec<NodeId> = cast.hosts.iter().map(|host| world.join(*host)).collect();
    if !has_tracker {
        for (id, others) in near_regular(ids.len() as u32, params.degree, rng) {
            world.tell(id, &others);
            // Not everybody may have a neighbour who speaks the same version.
            if cast.is_hybrid {
                world.tell(id, &[NodeId(0)]);
            }
        }
    }
    let mut viewer = cast.viewing.map(|viewing| {
        world.introduce(viewing.host);
        Viewer::new(viewing, world, rng)
    });
    cast.steps.sort_by_key(|(at, _)| *at);
    let mut director = Director { degree: (!has_tracker).then_some(params.degree), files: Vec::new(), rng };
    for (at, step) in cast.steps {
        pass(world, Time::ZERO + at, &mut viewer, &mut watch);
        director.befall(world, step);
    }
    let patience = (Outcome::bound(world) * PATIENCE).max(PATIENCE_MIN);
    let until = world.now() + patience;
    while viewer.as_ref().is_some_and(|viewer| !viewer.is_done()) && world.now() < until {
        let next = (world.now() + patience / 100).min(until);
        pass(world, next, &mut viewer, &mut watch);
    }
    let mut run = |world: &mut World, done: &dyn Fn(&World) -> bool| {
        world.run(until, |world| {
            watch.look(world);
            done(world)
        })
    };
    let is_spread = |world: &World| world.geometry().piece_indices().all(|piece| world.is_elsewhere(piece));
    if cast.source_leaves && run(world, &is_spread) {
        world.leave(NodeId(0));
    }
    let rides = world.ids().any(|id| is(world, id, Behaviour::FreeRider));
    let share = rides.then(|| {
        run(world, &|world| share_complete(world) >= 500);
        riders_permille(world)
    });
    run(world, &World::is_complete);
    world.check();
    let waits = viewer.map(Viewer::into_waits).unwrap_or_default();
    Outcome { riders_permille: share, waits, ..Outcome::of(world, watch) }
}

/// Lets time pass. Whoever watches a film looks at it now and then.
fn pass(world: &mut World, until: Time, viewer: &mut Option<Viewer>, watch: &mut Watch) {
    let mut look = |world: &World| {
        watch.look(world);
        false
    };
    while let Some(viewer) = viewer.as_mut().filter(|viewer| !viewer.is_done() && world.now() < until) {
        viewer.step(world);
        world.run((world.now() + viewer::STEP).min(until), &mut look);
    }
    world.run(until, &mut look);
}

fn is(world: &World, id: NodeId, behaviour: Behaviour) -> bool {
    world.config(id).behaviour == behaviour && !world.config(id).seed
}

/// How many honest peers of a thousand have everything.
fn share_complete(world: &World) -> usize {
    let honest = world.honest_peers();
    honest.iter().filter(|&&id| world.completed_at(id).is_some()).count() * 1_000 / honest.len().max(1)
}

/// How much of the torrent the median free rider has, in thousandths.
fn riders_permille(world: &World) -> u64 {
    let riders = world.ids().filter(|&id| is(world, id, Behaviour::FreeRider));
    let mut have: Vec<u64> = riders.map(|id| world.torrent(id).have().count().into()).collect();
    have.sort_unstable();
    let pieces = world.geometry().pieces();
    have.get(have.len() / 2).copied().unwrap_or(0) * 1_000 / u64::from(pieces.max(1))
}

/// Lets things happen.
struct Director<'a> {
    /// How many others a host is told of that comes later, if not by a tracker.
    degree: Option<u32>,
    /// Where each file ends, in bytes; empty before anyone asked.
    files: Vec<u64>,
    rng: &'a mut Rng,
}

impl Director<'_> {
    fn befall(&mut self, world: &mut World, step: Step) {
        let id = match step {
            Step::Join(host) => world.join(host),
            Step::ComeBack(id) if world.is_online(id) => return,
            Step::ComeBack(id) => {
                world.come_back(id);
                id
            }
            Step::Leave(id) => return world.leave(id),
            Step::Crash(id) => return world.crash(id),
            Step::FreeSpace(id) => return world.free_space(id),
            Step::Select(id) => return self.select(world, id),
            Step::TrackerUp(is_up) => return world.set_tracker_up(is_up),
            Step::Partition => return world.partition(|id| id.0 % 2 == 1),
            Step::Heal => return world.heal(),
        };
        let Some(degree) = self.degree else { return };
        let mut others: Vec<NodeId> =
            world.ids().filter(|&other| other != id && world.is_online(other)).collect();
        self.rng.shuffle(&mut others);
        others.truncate(degree as usize);
        world.tell(id, &others);
    }

    /// A host wants one file in ten, and one in ten of those first. A piece is wanted if any file in it is. It is told
    /// of the source: its neighbours may not want what it wants.
    fn select(&mut self, world: &mut World, id: NodeId) {
        let geometry = world.torrent(id).geometry().clone();
        if self.files.is_empty() {
            let len = geometry.total_len();
            self.files = (1..FILES).map(|_| self.rng.below(len + 1)).chain([len]).collect();
            self.files.sort_unstable();
        }
        let mut priorities = vec![Priority::SKIP; geometry.pieces() as usize];
        let mut begin = 0;
        for &end in &self.files {
            let range = begin..end;
            begin = end;
            if range.is_empty() || !self.rng.one_in(10) {
                continue;
            }
            let priority = if self.rng.one_in(10) { Priority::HIGH } else { Priority::NORMAL };
            let piece_of = |byte: u64| (byte / u64::from(geometry.piece_len())) as usize;
            for wanted in &mut priorities[piece_of(range.start)..=piece_of(range.end - 1)] {
                *wanted = priority.max(*wanted);
            }
        }
        world.tell(id, &[NodeId(0)]);
        world.with_torrent(id, |torrent, now| {
            torrent.set_priorities(now, geometry.piece_indices().zip(priorities));
        });
    }
}

/// Whom each of `n` nodes dials, so that the connections make a random graph in which almost every node has
/// `degree` of them: rings through all nodes in random order, each of which gives everyone two neighbours. In a swarm
/// no larger than that, everyone has everyone.
fn near_regular(n: u32, degree: u32, rng: &mut Rng) -> Vec<(NodeId, Vec<NodeId>)> {
    if n <= degree + 1 {
        return (0..n).map(|id| (NodeId(id), (0..id).map(NodeId).collect())).collect();
    }
    let mut dials = vec![Vec::new(); n as usize];
    let mut order: Vec<u32> = (0..n).collect();
    for _ in 0..degree.div_ceil(2) {
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

    #[test]
    fn in_a_small_swarm_everyone_has_everyone() {
        for seed in 0..100 {
            let dials: usize = near_regular(5, 4, &mut Rng::new(seed)).iter().map(|(_, to)| to.len()).sum();
            assert_eq!(dials, 5 * 4 / 2);
        }
    }
}

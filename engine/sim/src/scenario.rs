//! Named swarms: who is there, on what links, and what befalls them.

use crate::basics::NodeId;
use crate::basics::Rate;
use crate::config::{Behaviour, NodeConfig};
use crate::disk::DiskConfig;
use crate::socket::Buffers;
use crate::viewer::Viewing;
use crate::world::Checks;
use clap::builder::TypedValueParser;
use clap::value_parser;
use std::fmt::Write as _;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::metainfo::Format;
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};

/// How long a tracker is gone, or a network in two, at the least: longer than anyone's first patience.
const OUTAGE_MIN: Duration = Duration::from_secs(20);

/// What a scenario is run with.
#[derive(clap::Args, Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// Hosts besides the source.
    #[arg(long, default_value_t = Params::default().peers, value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub peers: u32,
    /// Pieces of the torrent.
    #[arg(long, default_value_t = Params::default().pieces, value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub pieces: u32,
    /// Blocks of each piece.
    #[arg(long, default_value_t = Params::default().blocks_per_piece, value_parser = value_parser!(u32).range(1..=1_024))]
    pub blocks_per_piece: u32,
    /// What a piece stands for, in bytes (on the command line in KiB). Rates are scaled so that a piece of fewer blocks takes as long
    /// to send.
    #[arg(long = "piece-kib", value_name = "KIB", default_value = "1024", value_parser = kib())]
    pub piece_len: u64,
    /// Connections of each host, about.
    #[arg(long, default_value_t = Params::default().degree, value_parser = value_parser!(u32).range(2..=1_000))]
    pub degree: u32,
    /// The ordinary uplink, in Mbit/s.
    #[arg(long = "up", default_value_t = Params::default().up_mbit_per_s, value_parser = value_parser!(u64).range(1..=1_000_000))]
    pub up_mbit_per_s: u64,
    /// One-way delay of a path on average, in milliseconds; paths differ from it by half of it either way.
    #[arg(long = "delay", default_value_t = Params::default().delay_ms, value_parser = value_parser!(u64).range(0..=10_000))]
    pub delay_ms: u64,
    /// How much the delay of each message may differ from its path's, in milliseconds either way; by half of it
    /// at the most.
    #[arg(long, default_value_t = 0, value_parser = value_parser!(u64).range(0..=10_000))]
    pub jitter_ms: u64,
    /// How many of a thousand messages or blocks are lost and sent again.
    #[arg(long, default_value_t = 0, value_parser = value_parser!(u32).range(0..=500))]
    pub loss_permille: u32,
    /// How much of its line's rate a connection may have on its way, in milliseconds, before its sender waits for the receiver:
    /// what the queues between them hold. With 0 there is no end to them.
    #[arg(long, default_value_t = Params::default().queue_ms, value_parser = value_parser!(u64).range(0..=10_000))]
    pub queue_ms: u64,
    /// Whether hosts learn of each other from a tracker; else each is told of its neighbours. Some scenarios have
    /// a tracker anyway.
    #[arg(long)]
    pub tracker: bool,
    /// Determines everything else.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How often invariants are checked.
    #[arg(skip = Checks::Never)]
    pub checks: Checks,
    /// How many threads run it, which changes nothing but the time that takes.
    #[arg(skip = 1_usize)]
    pub threads: usize,
}

fn kib() -> impl TypedValueParser<Value = u64> {
    value_parser!(u64).range(1..=262_144).map(|kib| kib * 1024)
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
            jitter_ms: 0,
            loss_permille: 0,
            queue_ms: 50,
            tracker: false,
            seed: 1,
            checks: Checks::Never,
            threads: 1,
        }
    }
}

impl Params {
    /// What sockets and queues hold of the blocks that stand for pieces.
    pub(crate) fn buffers(&self) -> Option<Buffers> {
        let scale = |bytes: u64| {
            let simulated_len = u64::from(self.blocks_per_piece) * u64::from(BLOCK_LEN);
            (bytes * simulated_len / self.piece_len.max(1)).max(BLOCK_LEN.into())
        };
        let queue = Duration::from_millis(self.queue_ms);
        (self.queue_ms > 0).then(|| Buffers { socket: scale(Buffers::default().socket), queue })
    }

    /// The command that runs a scenario with these parameters.
    pub fn replay(&self, scenario: &str) -> String {
        let mut line = format!(
            "simulate --scenario {scenario} --peers {} --pieces {} --blocks-per-piece {} --piece-kib {} --degree {} \
             --up {} --delay {} --jitter-ms {} --loss-permille {} --queue-ms {} --seed {}",
            self.peers,
            self.pieces,
            self.blocks_per_piece,
            self.piece_len / 1024,
            self.degree,
            self.up_mbit_per_s,
            self.delay_ms,
            self.jitter_ms,
            self.loss_permille,
            self.queue_ms,
            self.seed
        );
        line.push_str(if self.tracker { " --tracker" } else { "" });
        match self.checks {
            Checks::Never => {}
            Checks::EveryStep => line.push_str(" --check"),
            Checks::Every(interval) => {
                let _ = write!(line, " --check-every {}", interval.as_secs_f64());
            }
        }
        line
    }
}

/// Something that befalls a swarm while it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Join(NodeConfig),
    Leave(NodeId),
    Crash(NodeId),
    ComeBack(NodeId),
    FreeSpace(NodeId),
    /// It wants some of the files only.
    Select(NodeId),
    TrackerUp(bool),
    /// Every second host is cut off from the others.
    Partition,
    Heal,
}

/// Who is there at the start, the source first, and what happens later.
#[derive(Debug, Default)]
pub(crate) struct Cast {
    pub(crate) hosts: Vec<NodeConfig>,
    pub(crate) steps: Vec<(Duration, Step)>,
    /// Hosts learn of each other from a tracker.
    pub(crate) tracker: bool,
    /// The source leaves once every piece is with someone else.
    pub(crate) source_leaves: bool,
    /// Each block is a piece.
    pub(crate) is_split: bool,
    /// The torrent is a hybrid of several files.
    pub(crate) is_hybrid: bool,
    /// Ideal network coding takes the place of pieces and chokers.
    pub(crate) is_coded: bool,
    /// Somebody watches the torrent's only file, a film.
    pub(crate) viewing: Option<Viewing>,
}

/// A named swarm.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What happens in it.
    pub about: &'static str,
    pub(crate) cast: fn(&Stage, &mut Rng) -> Cast,
}

/// What a scenario needs to know of its parameters.
pub(crate) struct Stage {
    pub(crate) peers: u32,
    pub(crate) pieces: u32,
    /// Bytes of the torrent, as simulated.
    pub(crate) total_len: u64,
    pub(crate) up: u64,
    pub(crate) delay_us: u64,
    /// The bound for equal peers, to time things by.
    pub(crate) bound: Duration,
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
        Cast { hosts, ..Cast::default() }
    }

    fn flash_crowd_from(&self, source_up: u64, rng: &mut Rng) -> Cast {
        let mut cast = self.flash_crowd(rng);
        cast.hosts[0].up = Rate(source_up);
        cast
    }

    /// A flash crowd whose downlinks are as fast as the uplinks, from so many sources.
    fn symmetric(&self, sources: u32, rng: &mut Rng) -> Cast {
        let mut cast = self.flash_crowd(rng);
        let further = (1..sources).map(|_| self.source(rng));
        cast.hosts.extend(further);
        cast.hosts.iter_mut().for_each(|host| host.down = host.up);
        cast
    }

    /// A flash crowd in which so many peers of a hundred, and one at the least, differ.
    fn with_some(&self, percent: usize, rng: &mut Rng, change: impl Fn(&mut NodeConfig)) -> Cast {
        let mut cast = self.flash_crowd(rng);
        let peers = cast.hosts.iter_mut().skip(1).enumerate();
        peers.filter(|(i, _)| i * percent % 100 < percent).for_each(|(_, host)| change(host));
        cast
    }

    fn with_behaviour(&self, percent: usize, rng: &mut Rng, behaviour: Behaviour) -> Cast {
        self.with_some(percent, rng, |host| host.behaviour = behaviour)
    }

    /// A flash crowd around a hybrid in which of four peers one speaks version 1 alone and one version 2 alone.
    fn hybrid(&self, poisoners_percent: usize, rng: &mut Rng) -> Cast {
        let mut cast = self.with_behaviour(poisoners_percent, rng, Behaviour::Poisoner);
        for (host, n) in cast.hosts.iter_mut().skip(1).zip(0..) {
            host.format = [Format::Hybrid, Format::V1, Format::Hybrid, Format::V2][n % 4];
        }
        Cast { is_hybrid: true, ..cast }
    }

    fn with_disk(&self, percent: usize, rng: &mut Rng, disk: DiskConfig) -> Cast {
        self.with_some(percent, rng, |host| host.disk = Some(disk))
    }

    /// A flash crowd from which three peers in ten go along the way, each in this manner, and come back.
    fn with_absences(&self, rng: &mut Rng, goes: fn(NodeId) -> Step) -> Cast {
        let mut cast = self.flash_crowd(rng);
        let bound = self.bound.as_micros() as u64;
        for id in (1..=self.peers).filter(|id| id % 10 < 3).map(NodeId) {
            let at = Duration::from_micros(bound / 10 + rng.below(bound / 2 + 1));
            let away = Duration::from_micros(bound / 20 + rng.below(bound / 5 + 1));
            cast.steps.push((at, goes(id)));
            cast.steps.push((at + away, Step::ComeBack(id)));
        }
        cast
    }

    /// A film and its viewer, whom the lines of those who stay and give send twice its bit rate together. Beside them are others that
    /// leave along the way, hardly send, choke and unchoke all the time, or fall silent.
    fn streaming(&self, rng: &mut Rng) -> Cast {
        let mut hosts = vec![self.source(rng), self.peer(rng)];
        for nth in 0..self.peers.max(3) as usize - 1 {
            let up = if nth % 10 == 7 { self.up / 50 } else { self.up / 2 * [1, 2, 3][nth % 3] };
            hosts.push(NodeConfig { seed: true, ..self.host(up.max(1), 2 * self.up, rng) });
        }
        hosts[1].down = Rate(hosts.iter().map(|host| host.up.0).sum());
        let others = || (0..).zip(2..hosts.len());
        let given: u64 = others().filter(|(nth, _)| nth % 10 < 6).map(|(_, id)| hosts[id].up.0).sum();
        let bit_rate = Rate(((given + self.up) / 2).max(1));
        // As long as it is watched, about.
        let film = bit_rate.time_for(self.total_len).as_micros() as u64;
        let (mut steps, mut when) = (Vec::new(), || Duration::from_micros(rng.below(film * 2 / 5 + 1)));
        for (nth, id) in others().collect::<Vec<_>>() {
            match nth % 10 {
                6 => {
                    let (at, id) = (when(), NodeId(id as u32));
                    steps.extend([(at, Step::Leave(id)), (at + when() / 4, Step::ComeBack(id))]);
                }
                8 => hosts[id].behaviour = Behaviour::ChokeFlapping,
                9 => hosts[id].behaviour = Behaviour::FreezesAt(Time::ZERO + when()),
                _ => {}
            }
        }
        let viewing = Some(Viewing { host: NodeId(1), bit_rate });
        Cast { hosts, steps, viewing, ..Cast::default() }
    }

    fn outage(&self) -> Duration {
        self.bound.max(OUTAGE_MIN)
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
        cast: |stage, rng| stage.symmetric(1, rng),
    },
    Scenario {
        name: "kraken",
        about: "symmetric links and five sources, as in a data centre; Uber's case is --peers 2600 --pieces 715 \
                --piece-kib 4096 --up 2400 --delay 1",
        cast: |stage, rng| stage.symmetric(5, rng),
    },
    Scenario {
        name: "coding",
        about: "a flash crowd with ideal network coding instead of pieces and chokers: every block is of use to everyone",
        cast: |stage, rng| Cast { is_coded: true, ..stage.flash_crowd(rng) },
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
        cast: |stage, rng| stage.flash_crowd_from(10 * stage.up, rng),
    },
    Scenario {
        name: "slow-source",
        about: "the source's uplink is half that of the others",
        cast: |stage, rng| stage.flash_crowd_from(stage.up / 2, rng),
    },
    Scenario {
        name: "source-leaves",
        about: "the source goes for good as soon as every piece is with someone else",
        cast: |stage, rng| Cast { source_leaves: true, ..stage.flash_crowd(rng) },
    },
    Scenario {
        name: "web-seed",
        about: "a flash crowd on symmetric links whose source is a web server and no peer; for true sizes, --piece-kib is 16 for each block",
        cast: |stage, rng| {
            let mut cast = stage.symmetric(1, rng);
            cast.hosts[0].behaviour = Behaviour::WebSeed;
            cast
        },
    },
    Scenario {
        name: "poisoners-1",
        about: "one peer in a hundred sends corrupt blocks",
        cast: |stage, rng| stage.with_behaviour(1, rng, Behaviour::Poisoner),
    },
    Scenario {
        name: "poisoners-10",
        about: "one peer in ten sends corrupt blocks",
        cast: |stage, rng| stage.with_behaviour(10, rng, Behaviour::Poisoner),
    },
    Scenario {
        name: "poisoners-30",
        about: "three peers in ten send corrupt blocks",
        cast: |stage, rng| stage.with_behaviour(30, rng, Behaviour::Poisoner),
    },
    Scenario {
        name: "hybrid",
        about: "a hybrid of five files: of four peers one speaks version 1 alone and one version 2 alone, which never meet each other",
        cast: |stage, rng| stage.hybrid(0, rng),
    },
    Scenario {
        name: "hybrid-poisoners",
        about: "the same with one peer in ten that sends corrupt blocks",
        cast: |stage, rng| stage.hybrid(10, rng),
    },
    Scenario {
        name: "free-riders",
        about: "beside the peers, a tenth as many that never give anything",
        cast: |stage, rng| {
            let mut cast = stage.flash_crowd(rng);
            let rider = |rng: &mut Rng| NodeConfig { behaviour: Behaviour::FreeRider, ..stage.peer(rng) };
            (0..stage.peers.div_ceil(10)).for_each(|_| cast.hosts.push(rider(rng)));
            cast
        },
    },
    Scenario {
        name: "annoyers",
        about: "beside the peers, a tenth as many that have everything and unchoke nobody, claim pieces they do not \
                have, or choke and unchoke twenty times a second",
        cast: |stage, rng| {
            let mut cast = stage.flash_crowd(rng);
            for i in 0..stage.peers.div_ceil(10).max(3) {
                let behaviour = match i % 3 {
                    0 => Behaviour::FreeRider,
                    1 => Behaviour::HaveFlood,
                    _ => Behaviour::ChokeFlapping,
                };
                cast.hosts.push(NodeConfig { seed: i % 3 == 0, behaviour, ..stage.peer(rng) });
            }
            cast
        },
    },
    Scenario {
        name: "freeze-at-99",
        about: "one peer in a hundred stays connected but sends no more once it has 99 %",
        cast: |stage, rng| stage.with_behaviour(1, rng, Behaviour::FreezesWith(99)),
    },
    Scenario {
        name: "churn",
        about: "three peers in ten leave along the way and return with their data",
        cast: |stage, rng| stage.with_absences(rng, Step::Leave),
    },
    Scenario {
        name: "crash",
        about: "the power of three peers in ten fails along the way; they return with what their disks had synced, and some more",
        cast: |stage, rng| {
            let mut cast = stage.with_absences(rng, Step::Crash);
            cast.hosts.iter_mut().for_each(|host| host.disk = Some(DiskConfig::default()));
            cast
        },
    },
    Scenario {
        name: "arrivals",
        about: "peers come one after the other over twice the time that one download takes",
        cast: |stage, rng| {
            let source = stage.source(rng);
            let gap = stage.bound * 2 / stage.peers.max(1);
            let steps = (0..stage.peers).map(|i| (gap * i, Step::Join(stage.peer(rng)))).collect();
            Cast { hosts: vec![source], steps, ..Cast::default() }
        },
    },
    Scenario {
        name: "tracker-outage",
        about: "the tracker is gone for a while, in which one peer in five comes",
        cast: |stage, rng| {
            let mut cast = Cast { tracker: true, ..stage.flash_crowd(rng) };
            let late = cast.hosts.len() / 5;
            let late = cast.hosts.split_off(cast.hosts.len() - late);
            let down = stage.bound / 4;
            cast.steps.push((down, Step::TrackerUp(false)));
            cast.steps.extend(late.into_iter().map(|host| (down * 2, Step::Join(host))));
            cast.steps.push((down + stage.outage(), Step::TrackerUp(true)));
            cast
        },
    },
    Scenario {
        name: "tracker-late",
        about: "the tracker is not there when everyone comes",
        cast: |stage, rng| {
            let mut cast = Cast { tracker: true, ..stage.flash_crowd(rng) };
            cast.steps.push((Duration::ZERO, Step::TrackerUp(false)));
            cast.steps.push((stage.outage(), Step::TrackerUp(true)));
            cast
        },
    },
    Scenario {
        name: "partition",
        about: "every second host is cut off from the source, the tracker and the others for a while",
        cast: |stage, rng| {
            let mut cast = Cast { tracker: true, ..stage.flash_crowd(rng) };
            cast.steps.push((stage.bound / 3, Step::Partition));
            cast.steps.push((stage.bound / 3 + stage.outage(), Step::Heal));
            cast
        },
    },
    Scenario {
        name: "disk-full",
        about: "one peer in five has room for half of the torrent, until later",
        cast: |stage, rng| {
            let size = Some(stage.total_len / 2);
            let mut cast = stage.with_disk(20, rng, DiskConfig { size, ..DiskConfig::default() });
            let ids = (0..cast.hosts.len()).filter(|&id| cast.hosts[id].disk.is_some());
            let freed = |id: usize| (stage.bound * 2, Step::FreeSpace(NodeId(id as u32)));
            cast.steps = ids.map(freed).collect();
            cast
        },
    },
    Scenario {
        name: "disk-errors",
        about: "one peer in ten ends with a write error and is started again; two in ten cannot read an eighth of the pieces",
        cast: |stage, rng| {
            let mut cast = stage.flash_crowd(rng);
            let write_fails = Some((stage.pieces / 3).max(1));
            for (id, host) in cast.hosts.iter_mut().enumerate().skip(1) {
                match id % 10 {
                    1 => {
                        host.disk = Some(DiskConfig { write_fails, ..DiskConfig::default() });
                        for outages in [1, 2, 4] {
                            let back = Step::ComeBack(NodeId(id as u32));
                            cast.steps.push((stage.outage() * outages, back));
                        }
                    }
                    2 | 3 => {
                        host.disk = Some(DiskConfig { unreadable_one_in: Some(8), ..DiskConfig::default() });
                    }
                    _ => {}
                }
            }
            cast
        },
    },
    Scenario {
        name: "slow-disks",
        about: "one peer in three has a disk that is no faster than its uplink",
        cast: |stage, rng| {
            stage.with_disk(33, rng, DiskConfig { rate: Some(Rate(stage.up)), ..DiskConfig::default() })
        },
    },
    Scenario {
        name: "streaming",
        about: "somebody watches a film of half the bit rate that those have together who stay and give, beside others that leave, hardly \
                send, choke or fall silent; for true sizes, --piece-kib is 16 for each block",
        cast: |stage, rng| stage.streaming(rng),
    },
    Scenario {
        name: "many-pieces",
        about: "each block is a piece: very many, very small",
        cast: |stage, rng| Cast { is_split: true, ..stage.flash_crowd(rng) },
    },
    Scenario {
        name: "tiny-files",
        about: "a thousand tiny files, of which each peer wants one in ten, some of them first: as the core sees it, the \
                pieces that they touch",
        cast: |stage, rng| {
            let mut cast = stage.flash_crowd(rng);
            cast.steps = (1..=stage.peers).map(|id| (Duration::ZERO, Step::Select(NodeId(id)))).collect();
            cast
        },
    },
];

impl Scenario {
    /// The scenario of this name.
    pub fn named(name: &str) -> Option<&'static Scenario> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }
}

//! Named networks: who is there, what befalls them, and what lookups in them take.
//!
//! Each trial is one peer that announces a swarm of its own, and one node elsewhere that looks for it: it succeeds if
//! that peer is named to it.

use super::network::{Alarm, Happening, HostId, Network, Traffic};
use super::report::{Outcome, Sample};
use super::sybil::Sybil;
use super::tables::{BOOTSTRAP_NODES, generated, join, joined};
use clap::value_parser;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use swarm_core::dht::{Announce, Event, LookupId, NodeId, NodeInfo};
use swarm_core::id::InfoHash;
use swarm_core::net::Family;
use swarm_core::time::{Duration, Time};

/// The longest that joining for real takes, in nodes; larger networks get generated tables.
pub const JOINED_MAX: u32 = 10_000;
/// Of a hundred nodes so many are switched off where a third is to be dead.
const DEAD_PERCENT: usize = 30;
/// Between one announcement, or one lookup, and the next, where time does not matter.
const TRIAL_INTERVAL: Duration = Duration::from_millis(25);
/// How long what has begun may take to end.
const END_TIME: Duration = Duration::from_secs(60);
/// How long nodes come and go before anything is measured.
const CHURN_WARM_UP: Duration = Duration::from_secs(3_600);
/// Over how long trials are spread while nodes come and go.
const CHURN_TIME: Duration = Duration::from_secs(3_600);
/// How long after an announcement a lookup comes at most: then it would be made again.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// The chance that a session lasts another minute, in 2⁶⁴ parts: half of all last an hour, 2^(-1/60).
const MINUTE_SURVIVAL: u64 = 18_234_865_146_723_590_144;
/// Keys that are attacked.
const ATTACKED: usize = 10;
/// Ids of an attacker.
const SYBIL_IDS: usize = 500;
/// Addresses of an attacker.
const SYBIL_ADDRESSES: usize = 10;
/// Nodes nearest to the key, and nodes at random, that each of an attacker's ids makes itself known to.
const SYBIL_GREETINGS: usize = 40;

/// What a scenario is run with.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Params {
    /// Nodes.
    #[arg(long, default_value_t = 1_000, value_parser = value_parser!(u32).range(20..=1_000_000))]
    pub nodes: u32,
    /// Lookups; as many announcements come before.
    #[arg(long, default_value_t = 1_000, value_parser = value_parser!(u32).range(1..=100_000))]
    pub lookups: u32,
    /// How the nodes come by their tables; `None`: joined up to [`JOINED_MAX`].
    #[arg(skip)]
    pub tables: Option<Tables>,
    /// Of 1,000 datagrams so many are lost.
    #[arg(long = "loss", default_value_t = 0, value_parser = value_parser!(u64).range(0..=999))]
    pub loss_permille: u64,
    /// Determines everything else.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// How nodes come by their tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// They join, one after another.
    Joined,
    /// They are given what joining leads to.
    Generated,
}

impl Params {
    /// How the nodes come by their tables.
    pub fn tables(&self) -> Tables {
        let fitting = if self.nodes > JOINED_MAX { Tables::Generated } else { Tables::Joined };
        self.tables.unwrap_or(fitting)
    }
}

/// What befalls a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nothing,
    Deaths,
    Churn,
    Attack { enforce_ids: bool },
}

/// A kind of network.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    kind: Kind,
}

/// All that there are.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "lookup", about: "nothing happens but lookups", kind: Kind::Nothing },
    Scenario {
        name: "dead-30",
        about: "30 % of the nodes are gone all at once, after the announcements and before the lookups",
        kind: Kind::Deaths,
    },
    Scenario {
        name: "churn",
        about: "nodes come and go, half of them within an hour, for an hour before and during the lookups",
        kind: Kind::Churn,
    },
    Scenario {
        name: "sybil",
        about: "500 ids on 10 addresses around each of 10 keys, half of them as near as BEP 42 allows",
        kind: Kind::Attack { enforce_ids: true },
    },
    Scenario {
        name: "sybil-no-bep42",
        about: "the same where nobody minds BEP 42",
        kind: Kind::Attack { enforce_ids: false },
    },
];

impl Scenario {
    /// The scenario of this name.
    pub fn named(name: &str) -> Option<&'static Scenario> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }

    /// Runs it.
    pub fn run(&self, params: &Params) -> Outcome {
        let mut network = Network::new(params.seed, params.loss_permille);
        let enforce_ids = self.kind != Kind::Attack { enforce_ids: false };
        let population = match params.tables() {
            Tables::Joined => joined(&mut network, params.nodes, enforce_ids),
            Tables::Generated => generated(&mut network, params.nodes, enforce_ids),
        };
        let lookups = params.lookups as usize;
        let trials = Vec::with_capacity(lookups);
        let mut run = Run { network, population, enforce_ids, trials, running: BTreeMap::new() };
        match self.kind {
            Kind::Nothing => run.plain(lookups, |_| ()),
            Kind::Deaths => run.plain(lookups, Run::kill_some),
            Kind::Churn => run.churn(lookups),
            Kind::Attack { enforce_ids } => run.attack(lookups, enforce_ids),
        }
        let samples = run.trials.iter().filter_map(|trial| trial.sample(&run.network));
        Outcome::of(samples.collect(), &run.network)
    }
}

/// One peer that is announced, and one node that looks for it.
struct Trial {
    key: InfoHash,
    announcer: HostId,
    asker: HostId,
    begun: Option<(Time, Traffic)>,
    found_after: Option<Duration>,
    /// Set when the lookup is over.
    end: Option<Sample>,
}

impl Trial {
    /// What came of it; nothing if one of the two has left too early.
    fn sample(&self, network: &Network) -> Option<Sample> {
        let never_ended = || Sample { found_after: self.found_after, ..Sample::default() };
        self.begun?;
        self.end.or_else(|| network.node(self.asker).is_some().then(never_ended))
    }
}

/// A scenario under way.
struct Run {
    network: Network,
    /// The nodes that run, but for the dead of [`Run::kill_some`], who are not replaced.
    population: Vec<HostId>,
    enforce_ids: bool,
    trials: Vec<Trial>,
    running: BTreeMap<(HostId, LookupId), usize>,
}

impl Run {
    fn someone(&mut self) -> HostId {
        self.population[self.network.rng().index(self.population.len())]
    }

    /// A trial whose key is new, or this one.
    fn add_trial(&mut self, key: Option<InfoHash>) -> usize {
        let key = key.unwrap_or_else(|| InfoHash(NodeId::random(self.network.rng()).0));
        let announcer = self.someone();
        self.trials.push(Trial {
            key,
            announcer,
            asker: announcer,
            begun: None,
            found_after: None,
            end: None,
        });
        self.trials.len() - 1
    }

    /// Announcements, what befalls the network, and lookups.
    fn plain(&mut self, lookups: usize, befall: impl FnOnce(&mut Run)) {
        for _ in 0..lookups {
            let trial = self.add_trial(None);
            self.announce(trial);
            self.pass(TRIAL_INTERVAL);
        }
        self.pass(END_TIME);
        befall(self);
        self.look_up(0..lookups);
    }

    /// Switches nodes off, but for those that are to be found.
    fn kill_some(&mut self) {
        let announcers: Vec<HostId> = self.trials.iter().map(|trial| trial.announcer).collect();
        let dead = self.population.len() * DEAD_PERCENT / 100;
        self.network.rng().shuffle(&mut self.population);
        let mut doomed: Vec<HostId> = self.population.clone();
        doomed.retain(|host| !announcers.contains(host));
        doomed.truncate(dead);
        for host in doomed {
            self.network.kill(host);
        }
        self.population.retain(|host| self.network.node(*host).is_some());
    }

    /// Lookups, one after another but without waiting for the end of each.
    fn look_up(&mut self, trials: std::ops::Range<usize>) {
        for trial in trials {
            self.begin_lookup(trial);
            self.pass(TRIAL_INTERVAL);
        }
        self.pass(END_TIME);
    }

    fn churn(&mut self, lookups: usize) {
        let begun = self.network.now();
        // The first few are known to all and stay, as such nodes do.
        for slot in BOOTSTRAP_NODES..self.population.len() {
            let end = begun + self.session();
            self.network.set_alarm(end, Alarm::Leave(slot));
        }
        self.pass(CHURN_WARM_UP);
        let interval = CHURN_TIME / lookups.max(1) as u32;
        for n in 0..lookups {
            let announced = self.network.now() + interval * n as u32;
            let trial = self.add_trial(None);
            self.network.set_alarm(announced, Alarm::Announce(trial));
            let wait = self.network.rng().below(ANNOUNCE_INTERVAL.as_micros() as u64);
            let after = END_TIME + Duration::from_micros(wait);
            self.network.set_alarm(announced + after, Alarm::Lookup(trial));
        }
        self.pass(CHURN_TIME + ANNOUNCE_INTERVAL + 2 * END_TIME);
    }

    /// How long a node stays that has just come; or, since it is the same, one that is here.
    fn session(&mut self) -> Duration {
        let rng = self.network.rng();
        let mut session = Duration::from_micros(rng.below(60_000_000));
        while rng.next_u64() < MINUTE_SURVIVAL {
            session += Duration::from_secs(60);
        }
        session
    }

    fn replace(&mut self, slot: usize) {
        self.network.kill(self.population[slot]);
        let host = self.network.add_node(self.enforce_ids);
        join(&mut self.network, host, &self.population[..BOOTSTRAP_NODES]);
        self.population[slot] = host;
        let end = self.network.now() + self.session();
        self.network.set_alarm(end, Alarm::Leave(slot));
    }

    /// Attackers take their places around some keys; then peers are announced there and looked for.
    fn attack(&mut self, lookups: usize, enforce_ids: bool) {
        let keys: Vec<InfoHash> = (0..ATTACKED.min(lookups))
            .map(|_| {
                let key = NodeId::random(self.network.rng());
                self.take_places(key, enforce_ids);
                InfoHash(key.0)
            })
            .collect();
        self.pass(END_TIME);
        let announcers: Vec<usize> = keys
            .iter()
            .map(|key| {
                let trial = self.add_trial(Some(*key));
                self.announce(trial);
                trial
            })
            .collect();
        self.pass(END_TIME);
        for n in 0..lookups - keys.len() {
            let (key, announcer) = (keys[n % keys.len()], self.trials[announcers[n % keys.len()]].announcer);
            let trial = self.add_trial(Some(key));
            self.trials[trial].announcer = announcer;
        }
        self.look_up(0..lookups);
    }

    /// An attacker's ids make themselves known to the nodes around a key, and to some elsewhere.
    fn take_places(&mut self, key: NodeId, enforce_ids: bool) {
        let addrs: Vec<SocketAddr> = (0..SYBIL_ADDRESSES).map(|_| self.network.unused_addr()).collect();
        let sybils: Vec<NodeInfo> = (0..SYBIL_IDS)
            .map(|n| {
                let addr = SocketAddr::new(addrs[n % addrs.len()].ip(), 10_000 + n as u16);
                let minds = enforce_ids && (n / addrs.len()).is_multiple_of(2);
                let id = if minds { self.allowed_near(key, addr) } else { self.near(key) };
                NodeInfo { id, addr }
            })
            .collect();
        let mut nearest = sybils.clone();
        nearest.sort_by_key(|info| key.distance(info.id));
        // One of each address, since nobody asks two of them. Where BEP 42 holds, others are not even asked once.
        let mut named: Vec<NodeInfo> = Vec::new();
        for info in nearest {
            let is_heard = !enforce_ids || info.id.is_allowed_for(info.addr.ip());
            if is_heard && !named.iter().any(|known| known.addr.ip() == info.addr.ip()) && named.len() < 8 {
                named.push(info);
            }
        }
        let named: Rc<[NodeInfo]> = named.into();
        let mut victims = self.population.clone();
        let infos: BTreeMap<HostId, NodeId> =
            victims.iter().map(|host| (*host, self.network.info(*host).id)).collect();
        victims.sort_by_key(|host| key.distance(infos[host]));
        let count = SYBIL_GREETINGS.min(victims.len());
        self.network.rng().shuffle(&mut victims[count..]);
        victims.truncate(2 * count);
        for info in sybils {
            let sybil = Sybil::new(info.id, Rc::clone(&named));
            let greeting = sybil.greet(key);
            let host = self.network.add_sybil(info.addr, sybil);
            for victim in &victims {
                let to = self.network.addr(*victim);
                self.network.send(host, to, greeting.clone());
            }
            self.pass(Duration::from_millis(50));
        }
    }

    /// An id that hardly any honest node is nearer to the key than.
    fn near(&mut self, key: NodeId) -> NodeId {
        key.random_near(30, self.network.rng())
    }

    /// The id nearest to the key that BEP 42 allows at this address, more or less: 21 bits and the last byte are given.
    fn allowed_near(&mut self, key: NodeId, addr: SocketAddr) -> NodeId {
        let mut allowed = || {
            let given = NodeId::for_address(addr.ip(), self.network.rng());
            let mut id = key;
            id.0[..2].copy_from_slice(&given.0[..2]);
            id.0[2] = given.0[2] & 0xf8 | key.0[2] & 0x07;
            id.0[18] = given.0[18];
            id.0[19] = given.0[19];
            id
        };
        let ids: Vec<NodeId> = (0..32).map(|_| allowed()).collect();
        ids.into_iter().min_by_key(|id| key.distance(*id)).unwrap_or(key)
    }

    /// Lets time pass, and does what has to be done meanwhile.
    fn pass(&mut self, time: Duration) {
        let end = self.network.now() + time;
        while let Some(happening) = self.network.run(end) {
            match happening {
                Happening::Alarm(Alarm::Announce(trial)) => {
                    self.trials[trial].announcer = self.someone();
                    self.announce(trial);
                }
                Happening::Alarm(Alarm::Lookup(trial)) => {
                    if self.network.node(self.trials[trial].announcer).is_some() {
                        self.begin_lookup(trial);
                    }
                }
                Happening::Alarm(Alarm::Leave(slot)) => self.replace(slot),
                Happening::Event(host, event) => self.on_event(host, event),
            }
        }
    }

    fn announce(&mut self, trial: usize) {
        let Trial { key, announcer, .. } = self.trials[trial];
        let port = self.network.addr(announcer).port();
        let what = Announce { port, implied_port: false, is_seed: false };
        self.network.with(announcer, |node, now| node.announce(now, Family::V4, key, what));
    }

    fn begin_lookup(&mut self, trial: usize) {
        let Trial { key, announcer, .. } = self.trials[trial];
        let asker = loop {
            let asker = self.someone();
            if asker != announcer {
                break asker;
            }
        };
        self.trials[trial].asker = asker;
        self.trials[trial].begun = Some((self.network.now(), self.network.traffic_of(asker)));
        let lookup = self.network.with(asker, |node, now| node.get_peers(now, Family::V4, key));
        self.running.insert((asker, lookup), trial);
    }

    fn on_event(&mut self, host: HostId, event: Event) {
        match event {
            Event::Peers { lookup, peers, .. } => {
                let Some(&at) = self.running.get(&(host, lookup)) else { return };
                let wanted = self.network.addr(self.trials[at].announcer);
                let trial = &mut self.trials[at];
                if let Some((begun, _)) = trial.begun
                    && peers.contains(&wanted)
                {
                    trial.found_after.get_or_insert(self.network.now().since(begun));
                }
            }
            Event::Done { lookup, queries, hops, .. } => {
                let Some(at) = self.running.remove(&(host, lookup)) else { return };
                let trial = &mut self.trials[at];
                let Some((begun, before)) = trial.begun else { return };
                trial.end = Some(Sample {
                    found_after: trial.found_after,
                    done_after: self.network.now().since(begun),
                    hops: u64::from(hops) + 1,
                    queries: queries.into(),
                    traffic: self.network.traffic_of(host).since(before),
                });
            }
            _ => {}
        }
    }
}

//! What came of a run, against what no run can beat.

use crate::basics::{NodeId, Trace};
use crate::config::{Behaviour, NodeConfig};
use crate::viewer::Wait;
use crate::watch::{Sample, Watch};
use crate::world::World;
use std::collections::BTreeSet;
use swarm_core::time::{Duration, Time};

/// What came of a run. Times are counted from when each host joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How long each honest peer took that completed, the quickest first.
    pub times: Vec<Duration>,
    /// How many honest peers there are.
    pub peers: usize,
    /// How far they were as time went by.
    pub progress: Vec<Sample>,
    /// Nobody can be served faster: see [`bound`].
    pub t_min: Duration,
    /// How long the last honest peer took, or how long the run lasted if some peer did not complete.
    pub t_last: Duration,
    /// How long the honest peer in the middle took.
    pub t_median: Duration,
    /// Blocks sent by everyone, as a share of what the uplinks could have sent until the last peer had
    /// everything, in thousandths.
    pub uplink_permille: u64,
    /// Copies of the torrent that the sources sent, in thousandths.
    pub source_copies_permille: u64,
    /// How many they had sent when every piece was with someone else; `None` if that never was so.
    pub spread_copies_permille: Option<u64>,
    /// Bytes received and dropped: twice, too late, or in a piece that did not verify.
    pub bytes_wasted: u64,
    /// Bytes of all messages but blocks.
    pub control_bytes: u64,
    /// Jain's index of the honest peers' download rates, each over its uplink, in thousandths: 1,000 if all got as
    /// much for what they can give.
    pub fairness_permille: u64,
    /// What share of the torrent the median free rider had when half of the contributors had everything, in
    /// thousandths; `None` without free riders.
    pub riders_permille: Option<u64>,
    /// Bytes that the honest peers wanted in all.
    pub bytes_wanted: u64,
    /// Hosts that someone banned.
    pub banned: usize,
    /// Those among them that had not lied.
    pub honest_banned: usize,
    /// Pairs of an honest peer and one that sent it a corrupt block which it kept.
    pub deceived: usize,
    /// Those among them in which the former never banned the latter.
    pub unpunished: usize,
    /// How long somebody waited who watches a film, each time; empty where nobody does.
    pub waits: Vec<Wait>,
    /// Whether every honest peer has everything.
    pub complete: bool,
    /// Equal for equal runs.
    pub trace: Trace,
}

impl Outcome {
    /// The earliest time at which the file can be with every honest peer: see [`bound`].
    pub fn bound(world: &World) -> Duration {
        bound(world.geometry().total_len(), world.ids().map(|id| world.config(id)))
    }

    /// How long the last of `permille` in a thousand honest peers took; `None` if not so many completed.
    pub fn time_of(&self, permille: u64) -> Option<Duration> {
        let peers = self.peers as u64;
        self.times.get((peers * permille).div_ceil(1_000).saturating_sub(1) as usize).copied()
    }

    /// The longest time that somebody waited who watches a film, from a second after the start on; `None` where nobody does.
    pub fn longest_wait(&self) -> Option<Duration> {
        self.waits.iter().map(|wait| wait.after(Duration::from_secs(1))).max()
    }

    /// What has come of a run so far, which was watched.
    pub(crate) fn of(world: &World, watch: Watch) -> Outcome {
        let peers = world.honest_peers();
        let took = |&id: &NodeId| world.completed_at(id).map(|at| at.since(world.joined_at(id)));
        let mut times: Vec<Duration> = peers.iter().filter_map(took).collect();
        times.sort_unstable();
        let complete = times.len() == peers.len();
        let never = world.now().since(Time::ZERO);
        let at = |index: usize| times.get(index).copied().unwrap_or(never);
        let total = world.geometry().total_len().max(1);
        let (progress, spread_bytes) = watch.into_parts();
        let end = peers.iter().filter_map(|&id| world.completed_at(id)).max().filter(|_| complete);
        let end = end.unwrap_or(world.now()).since(Time::ZERO).as_micros();
        let up_all: u128 = world.ids().map(|id| u128::from(world.config(id).up.0)).sum();
        let sent: u128 = world.ids().map(|id| u128::from(world.totals(id).bytes_up)).sum();
        let bans: BTreeSet<(NodeId, NodeId)> = world.bans().collect();
        let banned: BTreeSet<NodeId> = bans.iter().map(|(_, whom)| *whom).collect();
        let is_honest = |id: NodeId| world.config(id).behaviour == Behaviour::Honest;
        let lies: Vec<(NodeId, NodeId)> = world.lies().filter(|(whom, _)| is_honest(*whom)).collect();
        let is_liar = |id: &NodeId| world.config(*id).behaviour == Behaviour::Poisoner;
        let totals = || peers.iter().map(|&id| world.totals(id));
        Outcome {
            peers: peers.len(),
            t_min: Outcome::bound(world),
            t_last: at(peers.len().saturating_sub(1)),
            t_median: at(peers.len() / 2),
            uplink_permille: (sent * 1_000_000 * 1_000 / (up_all * end).max(1)) as u64,
            source_copies_permille: world.bytes_of_sources() * 1_000 / total,
            spread_copies_permille: spread_bytes.map(|bytes| bytes * 1_000 / total),
            bytes_wasted: totals().map(|t| t.bytes_wasted + t.bytes_corrupt).sum(),
            fairness_permille: fairness_permille(world, &peers),
            riders_permille: None,
            waits: Vec::new(),
            control_bytes: world.ids().map(|id| world.control_bytes(id)).sum(),
            bytes_wanted: total * peers.len() as u64,
            banned: banned.len(),
            honest_banned: banned.iter().filter(|id| !is_liar(id)).count(),
            deceived: lies.len(),
            unpunished: lies.iter().filter(|lie| !bans.contains(lie)).count(),
            complete,
            progress,
            times,
            trace: world.trace(),
        }
    }
}

/// The earliest time at which a file of so many bytes can be with every honest peer (Kumar and Ross): no sooner than the
/// sources have sent it once, than the slowest downlink has received it, and than all uplinks of those who give
/// together have sent it to everyone.
pub fn bound<'a>(total_len: u64, hosts: impl IntoIterator<Item = &'a NodeConfig>) -> Duration {
    let (mut up_sources, mut up_all, mut down_min, mut peers) = (0, 0, u64::MAX, 0);
    for host in hosts {
        up_all += if host.behaviour.gives() { host.up.0 } else { 0 };
        match (host.seed, host.behaviour) {
            (true, behaviour) => up_sources += if behaviour.gives() { host.up.0 } else { 0 },
            (false, Behaviour::Honest) => (peers, down_min) = (peers + 1, down_min.min(host.down.0)),
            (false, _) => {}
        }
    }
    let total = u128::from(total_len);
    let time = |bytes: u128, rate: u64| {
        Duration::from_micros((bytes * 1_000_000).div_ceil(rate.max(1).into()) as u64)
    };
    time(total, up_sources).max(time(total, down_min)).max(time(total * peers, up_all))
}

/// Jain's index of what each peer got a second for each byte a second that it can send.
fn fairness_permille(world: &World, peers: &[NodeId]) -> u64 {
    let rate = |&id: &NodeId| {
        let until = world.completed_at(id).unwrap_or(world.now());
        let micros = until.since(world.joined_at(id)).as_micros().max(1);
        let got = u128::from(world.totals(id).bytes_down) * 1_000_000_000 / micros;
        got * 1_000 / u128::from(world.config(id).up.0)
    };
    jain_permille(&peers.iter().map(rate).collect::<Vec<_>>())
}

/// Jain's index (Σx)² / (n·Σx²) of some rates, in thousandths.
pub(crate) fn jain_permille(rates: &[u128]) -> u64 {
    let (sum, squares) = (rates.iter().sum::<u128>(), rates.iter().map(|x| x * x).sum::<u128>());
    (sum * sum * 1_000 / (rates.len() as u128 * squares).max(1)) as u64
}

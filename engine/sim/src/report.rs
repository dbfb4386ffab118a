//! What came of a run, against what no run can beat.

use crate::node::Behaviour;
use crate::world::{NodeId, Trace, World};
use std::collections::BTreeSet;
use swarm_core::time::{Duration, Time};

/// What came of a run. Times are counted from when each host joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Nobody can be served faster: see [`Outcome::bound`].
    pub t_min: Duration,
    /// How long the last honest peer took, or how long the run lasted if some peer did not complete.
    pub t_last: Duration,
    /// How long the honest peer in the middle took.
    pub t_median: Duration,
    /// Blocks sent by everyone, as a share of what the uplinks could have sent until the last peer had
    /// everything, in thousandths.
    pub uplink_permille: u64,
    /// Copies of the torrent that the source sent, in thousandths.
    pub source_copies_permille: u64,
    /// Bytes received and dropped: twice, too late, or in a piece that did not verify.
    pub bytes_wasted: u64,
    /// Bytes of all messages but blocks.
    pub control_bytes: u64,
    /// Bytes that the honest peers wanted in all.
    pub bytes_wanted: u64,
    /// Hosts that someone banned.
    pub banned: usize,
    /// Those among them that had not lied.
    pub honest_banned: usize,
    /// Whether every honest peer has everything.
    pub complete: bool,
    /// Equal for equal runs.
    pub trace: Trace,
}

impl Outcome {
    /// The earliest time at which a file can be everywhere (Kumar and Ross): no sooner than the source has sent
    /// it once, than the slowest downlink has received it, and than all uplinks together have sent it to everyone.
    pub fn bound(world: &World) -> Duration {
        let total = world.ids().next().map_or(0, |id| world.torrent(id).geometry().total_len());
        let rate = |id: NodeId| world.config(id);
        let (sources, peers): (Vec<NodeId>, Vec<NodeId>) = world.ids().partition(|&id| rate(id).seed);
        let up: u64 = sources.iter().map(|&id| rate(id).up.0).sum();
        let up_all: u64 = up + peers.iter().map(|&id| rate(id).up.0).sum::<u64>();
        let down_min = peers.iter().map(|&id| rate(id).down.0).min().unwrap_or(u64::MAX);
        let time = |bytes: u128, rate: u64| {
            Duration::from_micros((bytes * 1_000_000).div_ceil(rate.max(1).into()) as u64)
        };
        let total = u128::from(total);
        time(total, up).max(time(total, down_min)).max(time(total * peers.len() as u128, up_all))
    }

    /// What has come of a run so far.
    pub fn of(world: &World) -> Outcome {
        let honest = |id: &NodeId| world.config(*id).behaviour == Behaviour::Honest;
        let peers: Vec<NodeId> = world.ids().filter(|&id| !world.config(id).seed).filter(honest).collect();
        let took = |&id: &NodeId| world.completed_at(id).map(|at| at.since(world.joined_at(id)));
        let mut times: Vec<Duration> = peers.iter().filter_map(took).collect();
        times.sort_unstable();
        let complete = times.len() == peers.len();
        let never = world.now().since(Time::ZERO);
        let at = |index: usize| times.get(index).copied().unwrap_or(never);
        let source = world.ids().find(|&id| world.config(id).seed);
        let total = source.map_or(0, |id| world.torrent(id).geometry().total_len()).max(1);
        let end = peers.iter().filter_map(|&id| world.completed_at(id)).max().filter(|_| complete);
        let end = end.unwrap_or(world.now()).since(Time::ZERO).as_micros();
        let up_all: u128 = world.ids().map(|id| u128::from(world.config(id).up.0)).sum();
        let sent: u128 = world.ids().map(|id| u128::from(world.totals(id).bytes_up)).sum();
        let banned: BTreeSet<NodeId> = world.bans().map(|(_, whom)| whom).collect();
        let lies = |id: &NodeId| world.config(*id).behaviour == Behaviour::Poisoner;
        let totals = || peers.iter().map(|&id| world.totals(id));
        Outcome {
            t_min: Outcome::bound(world),
            t_last: at(peers.len().saturating_sub(1)),
            t_median: at(peers.len() / 2),
            uplink_permille: (sent * 1_000_000 * 1_000 / (up_all * end).max(1)) as u64,
            source_copies_permille: source.map_or(0, |id| world.totals(id).bytes_up) * 1_000 / total,
            bytes_wasted: totals().map(|t| t.bytes_wasted + t.bytes_corrupt).sum(),
            control_bytes: world.ids().map(|id| world.control_bytes(id)).sum(),
            bytes_wanted: total * peers.len() as u64,
            banned: banned.len(),
            honest_banned: banned.iter().filter(|id| !lies(id)).count(),
            complete,
            trace: world.trace(),
        }
    }
}

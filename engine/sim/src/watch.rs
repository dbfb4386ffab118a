//! A swarm watched from outside while it runs: what shows only along the way.

use crate::basics::NodeId;
use crate::world::World;
use swarm_core::id::PieceIndex;
use swarm_core::time::{Duration, Time};

/// Beyond this many samples every second one goes, and they come half as often from then on.
const SAMPLES_MAX: usize = 400;

/// How far the honest peers were at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Since the start.
    pub at: Duration,
    /// Bytes verified and written, over all honest peers.
    pub bytes: u64,
}

/// What was seen so far.
#[derive(Debug)]
pub(crate) struct Watch {
    samples: Vec<Sample>,
    interval: Duration,
    due: Option<Time>,
    /// Every piece before this one has been with someone other than the sources.
    spread_to: u32,
    /// What the sources had sent when that was so of all.
    spread_bytes: Option<u64>,
}

impl Watch {
    /// Takes a sample each time that `interval` has passed.
    pub(crate) fn new(interval: Duration) -> Watch {
        let interval = interval.max(Duration::from_millis(1));
        Watch { samples: Vec::new(), interval, due: None, spread_to: 0, spread_bytes: None }
    }

    /// Looks at the present state. To be called often: after each window of the world's clock.
    pub(crate) fn look(&mut self, world: &World) {
        if self.spread_bytes.is_none() {
            self.look_for_sources(world);
        }
        if self.due.is_some_and(|due| world.now() < due) {
            return;
        }
        self.due = Some(world.now() + self.interval);
        let geometry = world.geometry();
        let have = |id: NodeId| u64::from(world.torrent(id).have().count());
        let bytes_of = |id| (have(id) * u64::from(geometry.piece_len())).min(geometry.total_len());
        let bytes = world.honest_peers().into_iter().map(bytes_of).sum();
        self.samples.push(Sample { at: world.now().since(Time::ZERO), bytes });
        if self.samples.len() > SAMPLES_MAX {
            self.interval *= 2;
            let mut is_kept = false;
            self.samples.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
        }
    }

    /// Notes what the sources have sent once every piece is elsewhere.
    fn look_for_sources(&mut self, world: &World) {
        let pieces = world.geometry().pieces();
        while self.spread_to < pieces && world.is_elsewhere(PieceIndex(self.spread_to)) {
            self.spread_to += 1;
        }
        if self.spread_to == pieces {
            self.spread_bytes = Some(world.bytes_of_sources());
        }
    }

    /// The samples, and what the sources had sent when every piece was elsewhere.
    pub(crate) fn into_parts(self) -> (Vec<Sample>, Option<u64>) {
        (self.samples, self.spread_bytes)
    }
}

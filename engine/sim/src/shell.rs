//! What is around a host's torrent beside its links, where a scenario needs it: a disk, an announcer, a bad habit.
//! Hosts that have nothing of it pay nothing for it.

use crate::config::Behaviour;
use crate::disk::Disk;
use crate::tracker;
use std::collections::BTreeMap;
use swarm_core::net::Family;
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::Config;
use swarm_core::tracker::announcer::INTERVAL_MIN;
use swarm_core::tracker::{Announcer, AnnouncerConfig, TrackerUrls};

/// How often a bad habit shows.
pub(crate) const HABIT_INTERVAL: Duration = Duration::from_millis(50);
/// What is around a torrent.
#[derive(Debug)]
pub(crate) struct Shell {
    pub(crate) disk: Option<Disk>,
    pub(crate) announcer: Option<Announcer>,
    pub(crate) habit: Option<Habit>,
    /// The disk is too slow for what comes in.
    pub(crate) is_behind: bool,
}

/// What a host does to its peers, every [`HABIT_INTERVAL`].
#[derive(Debug)]
pub(crate) struct Habit {
    pub(crate) rng: Rng,
    pub(crate) next_at: Time,
    pub(crate) unchokes: bool,
}

impl Habit {
    pub(crate) fn of(behaviour: Behaviour, now: Time, rng: &mut Rng) -> Option<Habit> {
        let has_one = matches!(behaviour, Behaviour::HaveFlood | Behaviour::ChokeFlapping);
        has_one.then(|| Habit { rng: rng.fork(), next_at: now + HABIT_INTERVAL, unchokes: false })
    }
}

/// The announcer of a host, started.
pub(crate) fn announcer(config: &Config, now: Time, rng: Rng) -> Announcer {
    let announcing = AnnouncerConfig {
        info_hash: config.info_hash,
        peer_id: config.peer_id,
        ports: BTreeMap::from([(Family::V4, config.listen_port.unwrap_or(1))]),
        interval_min: INTERVAL_MIN,
        private: false,
    };
    let tiers = [vec![tracker::URL.to_owned()]];
    let mut announcer = Announcer::new(announcing, TrackerUrls { by_metainfo: &tiers, by_user: &[] }, rng);
    announcer.handle_start(now);
    announcer
}

impl Shell {
    pub(crate) fn new(disk: Option<Disk>, habit: Option<Habit>) -> Shell {
        Shell { disk, habit, announcer: None, is_behind: false }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let disk = self.disk.as_ref().and_then(Disk::poll_timeout);
        let announcer = self.announcer.as_ref().and_then(Announcer::poll_timeout);
        let habit = self.habit.as_ref().map(|habit| habit.next_at);
        [disk, announcer, habit].into_iter().flatten().min()
    }
}

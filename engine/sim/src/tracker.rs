//! The tracker in the middle of a simulated network: the real store, behind a path with a delay.
//!
//! Hosts run the real announcer; what is missing between the two is only HTTP. While the tracker is down, a host is told so
//! at once, as by a closed port. A host that is cut off from it hears nothing, and gives up after a while.

use crate::basics::NodeId;
use crate::queue::{Answer, Arrival, Inbox, What};
use std::net::SocketAddr;
use swarm_core::id::PeerKey;
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};
use swarm_core::tracker::{AnnounceAction, AnnounceFailure, AnnounceResponse};
use swarm_tracker::Config;
use swarm_tracker::store::Store;

/// Where it is.
pub(crate) const URL: &str = "http://tracker.example/announce";
/// One-way delay between it and the middle of the network.
pub(crate) const DELAY: Duration = Duration::from_millis(10);
/// How long a host waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An announce on its way.
#[derive(Debug)]
pub(crate) struct Announce {
    /// When it arrives.
    pub(crate) at: Time,
    pub(crate) from: NodeId,
    pub(crate) addr: SocketAddr,
    /// One way.
    pub(crate) delay: Duration,
    /// The host that asks cannot reach the tracker.
    pub(crate) is_cut_off: bool,
    pub(crate) life: u32,
    pub(crate) action: AnnounceAction,
}

#[derive(Debug)]
pub(crate) struct Tracker {
    store: Store,
    rng: Rng,
    pub(crate) is_up: bool,
    announces: Vec<Announce>,
}

impl Tracker {
    pub(crate) fn new(rng: Rng) -> Tracker {
        let store = Store::new(Config::default());
        Tracker { store, rng, is_up: true, announces: Vec::new() }
    }

    pub(crate) fn take(&mut self, announce: Announce) {
        self.announces.push(announce);
    }

    /// When the next announce arrives.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.announces.iter().map(|announce| announce.at).min()
    }

    /// Answers what arrives before `end`.
    pub(crate) fn serve(&mut self, end: Time, inboxes: &mut [Inbox]) {
        self.announces.sort_by_key(|announce| (announce.at, announce.from));
        let waiting = self.announces.partition_point(|announce| announce.at < end);
        let due: Vec<Announce> = self.announces.drain(..waiting).collect();
        for announce in due {
            let Announce { at, from, life, delay, .. } = announce;
            let id = announce.action.id;
            let (at, result) = self.answer(at, announce);
            let what = What::Tracker(Box::new(Answer { life, id, result }));
            let (at, to, key) = (at + delay, from, PeerKey(0));
            inboxes[from.0 as usize].leave(Arrival { at, to, key, what });
        }
    }

    fn answer(&mut self, now: Time, announce: Announce) -> (Time, Result<AnnounceResponse, AnnounceFailure>) {
        let failed = |why: &str| Err(AnnounceFailure::Unreachable(why.to_owned()));
        if announce.is_cut_off {
            return (now + TIMEOUT, failed("no answer"));
        }
        if !self.is_up {
            return (now, failed("connection refused"));
        }
        self.store.expire(now);
        let (request, source) = (&announce.action.request, announce.addr.ip());
        let answer = self.store.announce(now, &mut self.rng, request, source);
        (now, answer.map_err(|refusal| AnnounceFailure::Unreachable(refusal.to_string())))
    }
}

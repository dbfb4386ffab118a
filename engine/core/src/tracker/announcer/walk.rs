//! One address family's way through the tiers.

use super::status::{TrackerState, TrackerStatus};
use super::{AnnounceFailure, AnnounceId, EARLY_DEFAULT, Family, INTERVAL_MAX, Tracker, backoff};
use crate::rng::Rng;
use crate::time::{Duration, Time};
use crate::tracker::{AnnounceResponse, Event};

/// An announce whose time has come.
#[derive(Debug)]
pub(super) struct Due {
    pub tracker: usize,
    pub event: Option<Event>,
}

#[derive(Debug)]
struct InFlight {
    id: AnnounceId,
    tracker: usize,
    event: Option<Event>,
}

/// What we know of one tracker in this family.
#[derive(Debug, Default)]
struct Endpoint {
    /// It can be announced to at all.
    supported: bool,
    /// It has taken our `started`, and so lists us.
    started: bool,
    /// Failures since the last success.
    failures: u32,
    /// Not to be tried before; [`Time::MAX`] if it does not want to hear from us again.
    retry_at: Time,
    last_error: Option<String>,
    /// Whether that was that its host has no address of this family.
    no_address: bool,
    warning: Option<String>,
    tracker_id: Option<Vec<u8>>,
    peers: u32,
    complete: Option<u32>,
    incomplete: Option<u32>,
    last_success: Option<Time>,
}

#[derive(Debug)]
pub(super) struct Walk {
    family: Family,
    /// Indices of trackers in the order in which they are tried: tier after tier.
    order: Vec<usize>,
    endpoints: Vec<Endpoint>,
    in_flight: Option<InFlight>,
    /// The tracker that answered last, unless one failed since.
    current: Option<usize>,
    next_at: Time,
    /// The current tracker's minimum interval ends then.
    earliest_at: Time,
    /// The download finished and no tracker has been told.
    completed_due: bool,
}

impl Walk {
    pub fn new(family: Family, trackers: &[Tracker], rng: &mut Rng) -> Walk {
        let mut order: Vec<usize> = (0..trackers.len()).collect();
        for tier in order.chunk_by_mut(|&a, &b| trackers[a].tier == trackers[b].tier) {
            rng.shuffle(tier);
        }
        let endpoints = trackers
            .iter()
            .map(|tracker| Endpoint { supported: tracker.target.is_ok(), ..Endpoint::default() })
            .collect();
        Walk {
            family,
            order,
            endpoints,
            in_flight: None,
            current: None,
            next_at: Time::MAX,
            earliest_at: Time::ZERO,
            completed_due: false,
        }
    }

    pub fn family(&self) -> Family {
        self.family
    }

    pub fn awaits(&self, id: AnnounceId) -> bool {
        self.in_flight.as_ref().is_some_and(|sent| sent.id == id)
    }

    pub fn tracker_id(&self, tracker: usize) -> Option<Vec<u8>> {
        self.endpoints[tracker].tracker_id.clone()
    }

    pub fn on_start(&mut self, now: Time) {
        self.retry(now);
    }

    pub fn on_completed(&mut self, now: Time) {
        self.completed_due = true;
        if self.current.is_some() {
            self.next_at = now;
        }
    }

    pub fn on_want_more(&mut self, now: Time) {
        if self.current.is_some() {
            self.next_at = self.next_at.min(self.earliest_at.max(now));
        }
    }

    /// Starts over with the first tracker. An announce under way told of an old address: its answer
    /// no longer counts.
    pub fn on_address_change(&mut self, now: Time) {
        self.in_flight = None;
        for endpoint in &mut self.endpoints {
            if endpoint.retry_at != Time::MAX {
                endpoint.retry_at = Time::ZERO;
            }
        }
        self.retry(now);
    }

    /// Forgets that trackers list us, and names those that do (or may, as an announce is under way).
    pub fn on_stop(&mut self) -> Vec<usize> {
        if let Some(sent) = self.in_flight.take() {
            self.endpoints[sent.tracker].started = true;
        }
        self.current = None;
        self.next_at = Time::MAX;
        let listed = self.order.iter().copied().filter(|&tracker| self.endpoints[tracker].started).collect();
        for endpoint in &mut self.endpoints {
            endpoint.started = false;
        }
        listed
    }

    pub fn on_success(
        &mut self,
        now: Time,
        response: &AnnounceResponse,
        trackers: &[Tracker],
        interval_min: Duration,
    ) {
        let Some(sent) = self.in_flight.take() else { return };
        let endpoint = &mut self.endpoints[sent.tracker];
        endpoint.started = true;
        endpoint.failures = 0;
        endpoint.retry_at = Time::ZERO;
        endpoint.last_error = None;
        endpoint.warning.clone_from(&response.warning);
        if response.tracker_id.is_some() {
            endpoint.tracker_id.clone_from(&response.tracker_id);
        }
        endpoint.peers = u32::try_from(response.peers.len()).unwrap_or(u32::MAX);
        endpoint.complete = response.complete;
        endpoint.incomplete = response.incomplete;
        endpoint.last_success = Some(now);

        let interval = response.interval.clamp(interval_min, INTERVAL_MAX);
        let early = response.min_interval.unwrap_or(EARLY_DEFAULT.min(interval));
        self.next_at = now + interval;
        self.earliest_at = now + early.clamp(interval_min, interval);
        self.current = Some(sent.tracker);
        self.move_to_front(sent.tracker, trackers);
        if self.completed_due {
            if sent.event == Some(Event::Completed) {
                self.completed_due = false;
            } else {
                self.next_at = now;
            }
        }
    }

    pub fn on_failure(&mut self, now: Time, failure: &AnnounceFailure, rng: &mut Rng) {
        let Some(sent) = self.in_flight.take() else { return };
        let endpoint = &mut self.endpoints[sent.tracker];
        endpoint.failures = endpoint.failures.saturating_add(1);
        endpoint.last_error = Some(failure.to_string());
        endpoint.no_address = matches!(failure, AnnounceFailure::NoAddress(_));
        endpoint.retry_at = backoff(endpoint.failures, failure, rng).map_or(Time::MAX, |delay| now + delay);
        self.current = None;
        self.retry(now);
    }

    /// Announce as soon as any tracker may be tried.
    fn retry(&mut self, now: Time) {
        let soonest = self.endpoints.iter().filter(|e| e.supported).map(|e| e.retry_at).min();
        self.next_at = soonest.map_or(Time::MAX, |at| at.max(now));
    }

    /// The announce to make now, if any.
    pub fn due(&self, now: Time) -> Option<Due> {
        if self.in_flight.is_some() || self.next_at > now {
            return None;
        }
        let usable = |&tracker: &usize| {
            let endpoint = &self.endpoints[tracker];
            endpoint.supported && endpoint.retry_at <= now
        };
        let tracker = self.order.iter().copied().find(usable)?;
        let event = match (self.endpoints[tracker].started, self.completed_due) {
            (false, _) => Some(Event::Started),
            (true, true) => Some(Event::Completed),
            (true, false) => None,
        };
        Some(Due { tracker, event })
    }

    pub fn on_sent(&mut self, id: AnnounceId, due: &Due) {
        self.in_flight = Some(InFlight { id, tracker: due.tracker, event: due.event });
    }

    /// When something is due next. `None` while an answer is awaited, or nothing ever will be.
    pub fn timeout(&self) -> Option<Time> {
        (self.in_flight.is_none() && self.next_at != Time::MAX).then_some(self.next_at)
    }

    fn move_to_front(&mut self, tracker: usize, trackers: &[Tracker]) {
        let tier = trackers[tracker].tier;
        let first = self.order.iter().position(|&other| trackers[other].tier == tier);
        let at = self.order.iter().position(|&other| other == tracker);
        if let (Some(first), Some(at)) = (first, at) {
            self.order[first..=at].rotate_right(1);
        }
    }

    pub fn state<'a>(&'a self, at: usize, trackers: &'a [Tracker]) -> TrackerState<'a> {
        let endpoint = &self.endpoints[at];
        let announcing = self.in_flight.as_ref().is_some_and(|sent| sent.tracker == at);
        match (&trackers[at].target, &endpoint.last_error) {
            (Err(reason), _) => TrackerState::Unsupported(reason),
            (Ok(_), _) if announcing => TrackerState::Announcing,
            (Ok(_), Some(error)) if endpoint.no_address => TrackerState::NoAddress(error),
            (Ok(_), Some(error)) => TrackerState::Failed(error),
            (Ok(_), None) if endpoint.last_success.is_some() => TrackerState::Working,
            (Ok(_), None) => TrackerState::NotContacted,
        }
    }

    pub fn statuses<'a>(&'a self, trackers: &'a [Tracker]) -> impl Iterator<Item = TrackerStatus<'a>> {
        self.order.iter().map(|&at| {
            let endpoint = &self.endpoints[at];
            let next = if self.current == Some(at) {
                Some(self.next_at)
            } else {
                (endpoint.failures > 0).then_some(endpoint.retry_at)
            };
            TrackerStatus {
                url: &trackers[at].url,
                tier: trackers[at].tier,
                family: self.family,
                state: self.state(at, trackers),
                warning: endpoint.warning.as_deref(),
                peers: endpoint.peers,
                complete: endpoint.complete,
                incomplete: endpoint.incomplete,
                last_success: endpoint.last_success,
                next_announce: next.filter(|&at| at != Time::MAX),
            }
        })
    }
}

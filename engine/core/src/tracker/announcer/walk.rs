//! One address family's way through the tiers.

use super::action::{AnnounceAction, AnnounceFailure, AnnounceId};
use super::status::{TrackerStatus, TrackerView};
use super::trackers::Tracker;
use crate::net::Family;
use crate::rng::Rng;
use crate::time::{Duration, Time};
use crate::tracker::announce::{AnnounceResponse, Event};
use crate::tracker::reply::{ReplyError, RetryIn};

/// Most announces under way at once in one address family.
pub const PARALLEL_MAX: usize = 16;
/// Most of these at one host.
pub const HOST_PARALLEL_MAX: usize = 8;
/// After any announce to a host, how long its trackers that have failed are left alone. No longer than the
/// shortest pause of a tracker that has its host for itself.
pub const HOST_PAUSE: Duration = BACKOFF_MIN.checked_div(2).expect("not by zero");
/// How long trackers that say nothing are waited for before another is asked, while none has answered yet.
pub const SILENCE: Duration = Duration::from_secs(1);
/// The same once a tracker has answered: then BEP 12's order comes first.
pub const SILENCE_LATER: Duration = Duration::from_secs(10);
/// What an announce takes of the rate of announces: 100 a second.
const RATE_SPACING: Duration = Duration::from_millis(10);
/// How much of that rate may be saved up.
const RATE_BURST: Duration = Duration::from_secs(1);
/// Longest interval that a tracker can impose.
pub const INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);
/// How soon an early announce may follow when the tracker names no minimum.
pub const EARLY_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// Pause after a tracker's first failure; doubled with each further one.
pub const BACKOFF_MIN: Duration = Duration::from_secs(15);
/// Longest pause after a failure.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30 * 60);

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
    /// It has taken our `started`, and so lists us; until it is sent `stopped`.
    started: bool,
    /// Failures since the last success.
    failures: u32,
    /// After a failure: when it may be tried again; `None` if it does not want to hear from us.
    retry_at: Option<Time>,
    /// How the last announce ended.
    status: TrackerStatus,
    tracker_id: Option<Vec<u8>>,
    peers: u32,
    complete: Option<u32>,
    incomplete: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    tracker: usize,
    /// Its minimum interval ends then.
    earliest_at: Time,
}

#[derive(Debug)]
pub(super) struct Walk {
    family: Family,
    /// Most announces under way at once.
    parallel_max: usize,
    /// Indices of trackers in the order in which they are tried: tier after tier.
    order: Vec<usize>,
    endpoints: Vec<Endpoint>,
    /// Announces without an answer, at most [`PARALLEL_MAX`].
    in_flight: Vec<InFlight>,
    /// The tracker that answered last, while its interval runs. Without one, one is looked for.
    current: Option<Current>,
    /// Whether any has answered since the start.
    answered: bool,
    /// When something is to be done next: with a current tracker, an announce; without, the next try.
    next_at: Option<Time>,
    /// While those that were asked say nothing, nobody else is asked before.
    patient_until: Option<Time>,
    /// The rate of announces is used up until then.
    spent_until: Option<Time>,
    /// For each host, not before this time is one of its trackers asked again that has failed.
    hosts: Vec<Option<Time>>,
    /// The download finished and no tracker has been told.
    completed_due: bool,
}

impl Walk {
    /// A walk through these trackers, by only one at a time if they are a private torrent's.
    pub fn new(family: Family, private: bool, trackers: &[Tracker], rng: &mut Rng) -> Walk {
        let mut order: Vec<usize> = (0..trackers.len()).collect();
        for tier in order.chunk_by_mut(|&a, &b| trackers[a].tier == trackers[b].tier) {
            rng.shuffle(tier);
        }
        let endpoints = trackers.iter().map(|_| Endpoint::default()).collect();
        Walk {
            family,
            parallel_max: if private { 1 } else { PARALLEL_MAX },
            order,
            endpoints,
            in_flight: Vec::new(),
            current: None,
            answered: false,
            next_at: None,
            patient_until: None,
            spent_until: None,
            hosts: vec![None; trackers.len()],
            completed_due: false,
        }
    }

    /// From now on only one tracker is asked at a time.
    pub fn ask_one_at_a_time(&mut self) {
        self.parallel_max = 1;
    }

    /// There is one more tracker, in a tier of its own.
    pub fn on_tracker_added(&mut self, now: Time) {
        self.order.push(self.endpoints.len());
        self.endpoints.push(Endpoint::default());
        self.hosts.push(None);
        if self.current.is_none() {
            self.look(now);
        }
    }

    /// Whether this tracker lists us.
    pub fn is_listed(&self, tracker: usize) -> bool {
        self.endpoints[tracker].started
    }

    /// These are the trackers now: each of the old ones is at one of these `places`, or gone. Those that stay are tried in the order in which
    /// they were within their tier.
    pub fn on_trackers_replaced(&mut self, now: Time, places: &[Option<usize>], trackers: &[Tracker]) {
        let mut endpoints: Vec<Endpoint> = trackers.iter().map(|_| Endpoint::default()).collect();
        for (old, place) in std::mem::take(&mut self.endpoints).into_iter().zip(places) {
            if let Some(place) = place {
                endpoints[*place] = old;
            }
        }
        self.endpoints = endpoints;
        let mut order: Vec<usize> = self.order.iter().filter_map(|&old| places[old]).collect();
        let more = (0..trackers.len()).filter(|at| !order.contains(at)).collect::<Vec<_>>();
        order.extend(more);
        order.sort_by_key(|&at| trackers[at].tier);
        self.order = order;
        self.hosts = vec![None; trackers.len()];
        self.in_flight.retain_mut(|sent| match places[sent.tracker] {
            Some(place) => {
                sent.tracker = place;
                true
            }
            None => false,
        });
        let current = self.current.take();
        self.current =
            current.and_then(|current| Some(Current { tracker: places[current.tracker]?, ..current }));
        if self.current.is_none()
            && (current.is_some() || self.next_at.is_some() || self.in_flight.is_empty())
        {
            self.look(now);
        }
    }

    pub fn family(&self) -> Family {
        self.family
    }

    pub fn awaits(&self, id: AnnounceId) -> bool {
        self.in_flight.iter().any(|sent| sent.id == id)
    }

    pub fn tracker_id(&self, tracker: usize) -> Option<Vec<u8>> {
        self.endpoints[tracker].tracker_id.clone()
    }

    pub fn on_start(&mut self, now: Time) {
        self.answered = false;
        self.look(now);
    }

    /// Begins to look for a tracker that answers.
    fn look(&mut self, now: Time) {
        self.current = None;
        self.patient_until = None;
        self.next_at = Some(now);
    }

    pub fn on_completed(&mut self, now: Time) {
        self.completed_due = true;
        if self.current.is_some() {
            self.next_at = Some(now);
        }
    }

    pub fn on_want_more(&mut self, now: Time) {
        if let Some(current) = self.current {
            self.next_at = self.next_at.min(Some(current.earliest_at.max(now)));
        }
    }

    /// Starts over with the first tracker. Announces under way told of an old address: their answers
    /// no longer count.
    pub fn on_address_change(&mut self, now: Time) {
        self.in_flight.clear();
        self.hosts.fill(None);
        for retry_at in self.endpoints.iter_mut().filter_map(|endpoint| endpoint.retry_at.as_mut()) {
            *retry_at = now;
        }
        self.look(now);
    }

    /// From now on nothing is due but [`stop_due`](Self::stop_due). Those announces were never sent.
    pub fn on_stop(&mut self, unsent: &[AnnounceAction]) {
        self.in_flight.retain(|sent| !unsent.iter().any(|action| action.id == sent.id));
        self.current = None;
        self.next_at = None;
    }

    /// A tracker that lists us, and has answered everything else, is to be told that we stop.
    pub fn stop_due(&self) -> Option<Due> {
        let is_busy = |tracker| self.in_flight.iter().any(|sent| sent.tracker == tracker);
        let mut listed = self.order.iter().copied().filter(|&tracker| self.endpoints[tracker].started);
        let tracker = listed.find(|&tracker| !is_busy(tracker))?;
        Some(Due { tracker, event: Some(Event::Stopped) })
    }

    pub fn on_stop_sent(&mut self, id: AnnounceId, due: &Due) {
        self.in_flight.push(InFlight { id, tracker: due.tracker, event: due.event });
        self.endpoints[due.tracker].started = false;
    }

    /// Whether a `stopped` waits for the answer to an announce before it.
    pub fn holds_stop_back(&self) -> bool {
        self.in_flight.iter().any(|sent| sent.event != Some(Event::Stopped))
    }

    /// No longer waits for the answers to earlier announces: these trackers may list us.
    pub fn lose_patience(&mut self) {
        for sent in self.in_flight.extract_if(.., |sent| sent.event != Some(Event::Stopped)) {
            self.endpoints[sent.tracker].started = true;
        }
    }

    pub fn is_silent(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Whether this announce tells that we stop.
    pub fn is_leaving(&self, id: AnnounceId) -> bool {
        self.in_flight.iter().any(|sent| sent.id == id && sent.event == Some(Event::Stopped))
    }

    /// A tracker that was told `stopped` may be told `started` again.
    pub fn on_stop_over(&mut self, now: Time) {
        if self.current.is_none() {
            self.next_at = Some(now);
        }
    }

    /// What has become of a `stopped`, or of an announce before it.
    pub fn on_last_answer(&mut self, id: AnnounceId, is_success: bool) {
        if let Some(sent) = self.take(id)
            && is_success
            && sent.event != Some(Event::Stopped)
        {
            self.endpoints[sent.tracker].started = true;
        }
    }

    pub fn on_success(
        &mut self,
        now: Time,
        id: AnnounceId,
        response: &AnnounceResponse,
        trackers: &[Tracker],
        interval_min: Duration,
        spread: Option<&mut Rng>,
    ) {
        let Some(sent) = self.take(id) else { return };
        let endpoint = &mut self.endpoints[sent.tracker];
        endpoint.started = true;
        endpoint.failures = 0;
        endpoint.status = TrackerStatus::Working;
        if response.tracker_id.is_some() {
            endpoint.tracker_id.clone_from(&response.tracker_id);
        }
        endpoint.peers = u32::try_from(response.peers.len()).unwrap_or(u32::MAX);
        endpoint.complete = response.complete;
        endpoint.incomplete = response.incomplete;

        self.answered = true;
        // Of several that were asked together and answer, the one that comes first in the tiers is used.
        let place = |tracker| self.order.iter().position(|&other| other == tracker);
        let is_behind = self.current.is_some_and(|current| place(current.tracker) < place(sent.tracker));
        self.move_to_front(sent.tracker, trackers);
        if !is_behind {
            let interval = response.interval.clamp(interval_min, INTERVAL_MAX);
            let early = response.min_interval.unwrap_or(EARLY_DEFAULT.min(interval));
            let early = early.clamp(interval_min, interval);
            let earliest_at = now + early;
            let spread = spread.filter(|_| sent.event == Some(Event::Started));
            let room = interval.saturating_sub(early.max(interval / 2)).as_millis() as u64;
            let cut = spread.map_or(0, |rng| rng.below(room + 1));
            self.next_at = Some(now + interval - Duration::from_millis(cut));
            self.current = Some(Current { tracker: sent.tracker, earliest_at });
        }
        if sent.event == Some(Event::Completed) {
            self.completed_due = false;
        } else if self.completed_due {
            self.next_at = Some(now);
        }
    }

    pub fn on_failure(
        &mut self,
        now: Time,
        id: AnnounceId,
        failure: &AnnounceFailure,
        trackers: &[Tracker],
        rng: &mut Rng,
    ) {
        let Some(sent) = self.take(id) else { return };
        let endpoint = &mut self.endpoints[sent.tracker];
        endpoint.failures = endpoint.failures.saturating_add(1);
        endpoint.status = match failure {
            AnnounceFailure::NoAddress(_) => TrackerStatus::NoAddress(failure.to_string()),
            _ => TrackerStatus::Failed(failure.to_string()),
        };
        endpoint.retry_at = backoff(endpoint.failures, failure, rng).map(|delay| now + delay);
        if self.current.is_none() {
            self.patient_until = None;
            self.plan(now, trackers);
        }
    }

    fn take(&mut self, id: AnnounceId) -> Option<InFlight> {
        let at = self.in_flight.iter().position(|sent| sent.id == id)?;
        Some(self.in_flight.swap_remove(at))
    }

    /// The announce to make now, if any. To be called until there is none.
    pub fn due(&mut self, now: Time, trackers: &[Tracker]) -> Option<Due> {
        if !self.is_due(now) {
            return None;
        }
        if self.current.is_some() {
            self.look(now);
        }
        self.plan(now, trackers);
        if !self.is_due(now) {
            return None;
        }
        let (_, tracker) = self.next_to_ask(now, trackers)?;
        let event = match (self.endpoints[tracker].started, self.completed_due) {
            (false, _) => Some(Event::Started),
            (true, true) => Some(Event::Completed),
            (true, false) => None,
        };
        Some(Due { tracker, event })
    }

    pub fn on_sent(&mut self, now: Time, id: AnnounceId, due: &Due, trackers: &[Tracker]) {
        self.in_flight.push(InFlight { id, tracker: due.tracker, event: due.event });
        self.hosts[trackers[due.tracker].host] = Some(now + HOST_PAUSE);
        self.spent_until = Some(self.spent_until.map_or(now, |until| until.max(now)) + RATE_SPACING);
        self.patient_until = Some(now + if self.answered { SILENCE_LATER } else { SILENCE });
        self.plan(now, trackers);
    }

    fn is_due(&self, now: Time) -> bool {
        self.next_at.is_some_and(|at| at <= now)
    }

    /// Without a current tracker: sets when the next one is to be asked; `None` if only an answer, or nothing,
    /// changes that.
    fn plan(&mut self, now: Time, trackers: &[Tracker]) {
        let rate_allows = self.spent_until.map(|until| until - RATE_BURST);
        let not_before = self.patient_until.max(rate_allows);
        self.next_at =
            self.next_to_ask(now, trackers).map(|(at, _)| not_before.map_or(at, |not| at.max(not)));
    }

    /// Whom to ask next, and when it may be asked: the first in the order of those that may be asked now, else
    /// whoever may be asked soonest. Until somebody has answered, who has not failed yet comes before who has.
    fn next_to_ask(&self, now: Time, trackers: &[Tracker]) -> Option<(Time, usize)> {
        if self.in_flight.len() >= self.parallel_max {
            return None;
        }
        let is_busy = |at: usize| {
            let asked = || self.in_flight.iter().map(|sent| &trackers[sent.tracker]);
            asked().any(|other| other.port == trackers[at].port)
                || asked().filter(|other| other.host == trackers[at].host).count() >= HOST_PARALLEL_MAX
        };
        let ready_at = |at: usize| {
            let endpoint = &self.endpoints[at];
            match endpoint.failures {
                0 => Some(now),
                _ => Some(endpoint.retry_at?.max(self.hosts[trackers[at].host].unwrap_or(now)).max(now)),
            }
        };
        let usable = self.order.iter().copied().filter(|&at| trackers[at].target.is_ok() && !is_busy(at));
        let ready = usable.filter_map(|at| Some((ready_at(at)?, at)));
        ready.min_by_key(|&(ready_at, at)| (ready_at, !self.answered && self.endpoints[at].failures > 0))
    }

    /// When something is due next. `None` while answers are awaited, or nothing ever will be.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.next_at
    }

    fn move_to_front(&mut self, tracker: usize, trackers: &[Tracker]) {
        let tier = trackers[tracker].tier;
        let first = self.order.iter().position(|&other| trackers[other].tier == tier);
        let at = self.order.iter().position(|&other| other == tracker);
        if let (Some(first), Some(at)) = (first, at) {
            self.order[first..=at].rotate_right(1);
        }
    }

    pub fn status(&self, at: usize, trackers: &[Tracker]) -> TrackerStatus {
        match trackers[at].target {
            Err(reason) => TrackerStatus::Unsupported(reason),
            Ok(_) if self.in_flight.iter().any(|sent| sent.tracker == at) => TrackerStatus::Announcing,
            Ok(_) => self.endpoints[at].status.clone(),
        }
    }

    pub fn views<'a>(&'a self, trackers: &'a [Tracker]) -> impl Iterator<Item = TrackerView<'a>> {
        self.order.iter().map(|&at| {
            let endpoint = &self.endpoints[at];
            let next_announce = match self.current {
                Some(current) if current.tracker == at => self.next_at,
                _ => endpoint.retry_at.filter(|_| endpoint.failures > 0),
            };
            TrackerView {
                url: &trackers[at].url,
                family: self.family,
                status: self.status(at, trackers),
                peers: endpoint.peers,
                complete: endpoint.complete,
                incomplete: endpoint.incomplete,
                next_announce,
            }
        })
    }
}

/// How long to leave a tracker alone after `failures` failures in a row.
fn backoff(failures: u32, failure: &AnnounceFailure, rng: &mut Rng) -> Option<Duration> {
    if let AnnounceFailure::Reply(ReplyError::Refused { retry: Some(retry), .. }) = failure {
        return match retry {
            RetryIn::After(delay) => Some((*delay).clamp(BACKOFF_MIN, INTERVAL_MAX)),
            RetryIn::Never => None,
        };
    }
    let full = match failure {
        AnnounceFailure::NoAddress(_) | AnnounceFailure::Forbidden(_) => BACKOFF_MAX,
        _ => BACKOFF_MIN.saturating_mul(1 << (failures - 1).min(16)).min(BACKOFF_MAX),
    };
    let half_micros = full.as_micros() as u64 / 2;
    Some(Duration::from_micros(half_micros + rng.below(half_micros + 1)))
}

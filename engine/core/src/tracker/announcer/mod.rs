//! When to announce, to whom, and what: one torrent's announcer.
//!
//! BEP 12's tiers are walked once for each address family that the shell has, independently, so
//! that a tracker known by IPv4 only and another known by IPv6 only both serve. Within a walk the
//! first tracker that answers is used and moves to the front of its tier; the next tier is asked
//! only when a whole tier fails. A tracker that fails is left alone for a growing, jittered time;
//! nothing that a tracker does or omits stops a transfer.
//!
//! Call `handle_*`, then drain [`Announcer::poll_action`], then come back at
//! [`Announcer::poll_timeout`]. Each action is answered by one [`Announcer::handle_response`].
//!
//! The only input that a stranger has a part in is the response. It costs a look at each tracker, [`TRACKERS_MAX`] at most, in each of
//! two families, and comes once for each announce, which are as far apart as the configuration says, whatever the tracker wants. Of each tracker it
//! makes us keep some numbers, an id of [`TRACKER_ID_LEN_MAX`](super::announce::TRACKER_ID_LEN_MAX) bytes, and a reason of
//! 300 characters. The reply itself has at most [`REPLY_LEN_MAX`](super::REPLY_LEN_MAX) bytes.

mod status;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::{BTreeMap, VecDeque};

use url::Url;

pub use status::{TrackerState, TrackerStatus};

use self::walk::{Due, Walk};
use super::access::{Forbidden, UrlOrigin};
use super::announce::{AnnounceRequest, AnnounceResponse, Event, LEFT_UNKNOWN, PeerFormat};
use super::{Family, ReplyError, RetryIn, udp};
use crate::id::{InfoHash, PeerId};
use crate::rng::Rng;
use crate::time::{Duration, Time};

/// Most trackers of one torrent's metainfo, and as many of the user's; further ones are left out
/// ([`Announcer::left_out`]).
pub const TRACKERS_MAX: usize = 512;
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
/// Most peers asked for at once.
pub const NUMWANT_MAX: u32 = 200;
/// Shortest interval that a tracker can impose, unless the configuration says otherwise.
pub const INTERVAL_MIN: Duration = Duration::from_secs(60);
/// Longest interval that a tracker can impose.
pub const INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);
/// How soon an early announce may follow when the tracker names no minimum.
pub const EARLY_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// Pause after a tracker's first failure; doubled with each further one.
pub const BACKOFF_MIN: Duration = Duration::from_secs(15);
/// Longest pause after a failure.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30 * 60);
/// How long a stop waits for trackers to take note.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Names one announce, never reused by an announcer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnnounceId(u64);

/// What stays the same over the life of an announcer.
#[derive(Clone, Debug)]
pub struct AnnouncerConfig {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Our peer id.
    pub peer_id: PeerId,
    /// The address families that we have, each with the port that we listen on there. Each is
    /// announced on its own.
    pub ports: BTreeMap<Family, u16>,
    /// Shortest interval taken from a tracker; [`INTERVAL_MIN`] unless trackers are trusted. Counts as
    /// [`INTERVAL_MAX`] if longer.
    pub interval_min: Duration,
    /// Whether the torrent is private: only one tracker is asked at a time then (BEP 27).
    pub private: bool,
}

/// How the transfer stands, for the next announce to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Payload bytes sent since the start.
    pub uploaded: u64,
    /// Payload bytes received since the start.
    pub downloaded: u64,
    /// Bytes still wanted; [`LEFT_UNKNOWN`] without the metainfo.
    pub left: u64,
    /// How many more peers are useful; asked for up to [`NUMWANT_MAX`].
    pub peers_wanted: u32,
}

impl Default for Transfer {
    fn default() -> Transfer {
        Transfer { uploaded: 0, downloaded: 0, left: LEFT_UNKNOWN, peers_wanted: NUMWANT_MAX }
    }
}

/// An announce that the shell is to make now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceAction {
    /// To be given back with the response.
    pub id: AnnounceId,
    /// The tracker's URL: `http` or `https`, to be combined with `request` by [`AnnounceRequest::url`], or `udp`,
    /// to be asked by a [`udp::Client`].
    pub url: Url,
    /// Who named the tracker, which decides where the URL may lead; see
    /// [`check_address`](super::access::check_address).
    pub origin: UrlOrigin,
    /// The address family to connect over.
    pub family: Family,
    /// What to say.
    pub request: AnnounceRequest,
}

/// Why an announce did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnounceFailure {
    /// The tracker answered, but not with peers.
    #[error(transparent)]
    Reply(#[from] ReplyError),
    /// An HTTP status other than 200.
    #[error("the tracker answered with HTTP status {0}")]
    Status(u16),
    /// The tracker's host has no address of the family that was asked for.
    #[error("the tracker has no {0} address")]
    NoAddress(Family),
    /// The tracker is where it must not be asked.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// No answer: resolving, connecting, TLS, time. The text says what.
    #[error("{0}")]
    Unreachable(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Running,
    /// Waiting for the answers to `stopped`, at most until then.
    Stopping {
        deadline: Time,
    },
}

/// The trackers of a torrent, by who named them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Named<'a> {
    /// The tiers of the metainfo, tried first.
    pub by_metainfo: &'a [Vec<String>],
    /// Those of the user, each a tier of its own.
    pub by_user: &'a [String],
}

/// A tracker as the metainfo or the user names it.
#[derive(Debug)]
struct Tracker {
    url: String,
    origin: UrlOrigin,
    tier: usize,
    /// Which host it is at, as a number that trackers at one host have in common.
    host: usize,
    /// The same for its host and port.
    port: usize,
    /// What to fetch, or why we cannot.
    target: Result<Url, &'static str>,
}

/// One torrent's announcer.
#[derive(Debug)]
pub struct Announcer {
    config: AnnouncerConfig,
    key: u32,
    rng: Rng,
    trackers: Vec<Tracker>,
    left_out: usize,
    walks: Vec<Walk>,
    transfer: Transfer,
    phase: Phase,
    next_id: u64,
    /// `stopped` announces without an answer.
    stops: Vec<AnnounceId>,
    actions: VecDeque<AnnounceAction>,
}

impl Announcer {
    /// The torrent turns out to be private (BEP 27).
    pub fn handle_private(&mut self) {
        self.config.private = true;
        self.walks.iter_mut().for_each(Walk::ask_one_at_a_time);
    }

    /// An announcer for the trackers in `named`, which are shuffled within each tier. It stays
    /// silent until [`handle_start`](Self::handle_start). A URL that comes twice counts once, in
    /// its first tier, and as the user's if it is that too.
    pub fn new(mut config: AnnouncerConfig, named: Named<'_>, mut rng: Rng) -> Announcer {
        config.interval_min = config.interval_min.min(INTERVAL_MAX);
        let (trackers, left_out) = trackers(named);
        let walk = |&family| Walk::new(family, config.private, &trackers, &mut rng);
        let walks = config.ports.keys().map(walk).collect();
        let key = (rng.next_u64() >> 32) as u32;
        Announcer {
            config,
            key,
            rng,
            trackers,
            left_out,
            walks,
            transfer: Transfer::default(),
            phase: Phase::Idle,
            next_id: 0,
            stops: Vec::new(),
            actions: VecDeque::new(),
        }
    }

    /// The torrent starts, or goes on after a stop.
    pub fn handle_start(&mut self, now: Time) {
        if self.phase == Phase::Running {
            return;
        }
        self.phase = Phase::Running;
        self.stops.clear();
        for walk in &mut self.walks {
            walk.on_start(now);
        }
        self.advance(now);
    }

    /// What the next announces are to tell of the transfer.
    pub fn handle_transfer(&mut self, transfer: Transfer) {
        self.transfer = transfer;
    }

    /// The download has just finished; trackers hear of it once. Not to be called when everything
    /// was there from the start.
    pub fn handle_completed(&mut self, now: Time) {
        self.transfer.left = 0;
        for walk in &mut self.walks {
            walk.on_completed(now);
        }
        self.advance(now);
    }

    /// The torrent stops: every tracker that lists us is told, and
    /// [`is_stopped`](Self::is_stopped) after their answers or [`STOP_TIMEOUT`]. The answers to
    /// other announces in flight are no longer needed.
    pub fn handle_stop(&mut self, now: Time) {
        if self.phase != Phase::Running {
            return;
        }
        self.phase = Phase::Stopping { deadline: now + STOP_TIMEOUT };
        self.actions.clear();
        for walk in 0..self.walks.len() {
            for tracker in self.walks[walk].on_stop() {
                let id = self.act(walk, &Due { tracker, event: Some(Event::Stopped) });
                self.stops.push(id);
            }
        }
        self.advance(now);
    }

    /// More peers would help: announce as soon as the tracker's minimum interval allows.
    pub fn want_more_peers(&mut self, now: Time) {
        for walk in &mut self.walks {
            walk.on_want_more(now);
        }
        self.advance(now);
    }

    /// The user names more trackers, each a tier of its own. Those that are known already come to count as the user's.
    pub fn handle_more_trackers(&mut self, now: Time, urls: &[String]) {
        for url in urls {
            let at = self.trackers.len();
            let tier = self.trackers.last().map_or(0, |tracker| tracker.tier + 1);
            if add_tracker(&mut self.trackers, url, UrlOrigin::Typed, tier) && self.trackers.len() > at {
                let is_supported = self.trackers[at].target.is_ok();
                self.walks.iter_mut().for_each(|walk| walk.on_tracker_added(now, is_supported));
            }
        }
        self.want_more_peers(now);
    }

    /// Our addresses changed: tell the trackers now, also those that were out of reach.
    pub fn handle_address_change(&mut self, now: Time) {
        for walk in &mut self.walks {
            walk.on_address_change(now);
        }
        self.advance(now);
    }

    /// What became of an announce. The peers in `response` are the caller's to use; answers that
    /// are no longer awaited change nothing.
    pub fn handle_response(
        &mut self,
        now: Time,
        id: AnnounceId,
        response: Result<&AnnounceResponse, &AnnounceFailure>,
    ) {
        self.stops.retain(|&stop| stop != id);
        if let Some(walk) = self.walks.iter_mut().find(|walk| walk.awaits(id)) {
            match response {
                Ok(response) => walk.on_success(now, id, response, &self.trackers, self.config.interval_min),
                Err(failure) => walk.on_failure(now, id, failure, &self.trackers, &mut self.rng),
            }
        }
        self.advance(now);
    }

    /// Time has passed; see [`poll_timeout`](Self::poll_timeout).
    pub fn handle_timeout(&mut self, now: Time) {
        self.advance(now);
    }

    /// An announce to make now. Drain until `None` after each `handle_*`. It tells of the transfer as it
    /// stands now, which may have moved on since the announce became due.
    pub fn poll_action(&mut self) -> Option<AnnounceAction> {
        let mut action = self.actions.pop_front()?;
        let Transfer { uploaded, downloaded, left, peers_wanted } = self.transfer;
        let numwant = match action.request.event {
            Some(Event::Stopped) => 0,
            _ => peers_wanted.min(NUMWANT_MAX),
        };
        action.request =
            AnnounceRequest { uploaded, downloaded, left, numwant: Some(numwant), ..action.request };
        Some(action)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    pub fn poll_timeout(&self) -> Option<Time> {
        match self.phase {
            Phase::Idle => None,
            Phase::Running => self.walks.iter().filter_map(Walk::timeout).min(),
            Phase::Stopping { deadline } => Some(deadline),
        }
    }

    /// Whether nothing more is to be done: never started, or stopped and every tracker told (or
    /// not reached in time).
    pub fn is_stopped(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// What to tell the user of a tracker that failed: nothing while it serves us over another address
    /// family, or may do so yet. That it has no address of one family is the last thing to tell.
    pub fn trouble(&self, url: &Url) -> Option<String> {
        let tracker = self.trackers.iter().position(|known| known.target.as_ref() == Ok(url))?;
        let states = || self.walks.iter().map(|walk| walk.state(tracker, &self.trackers));
        if states().any(|state| matches!(state, TrackerState::Announcing | TrackerState::Working)) {
            return None;
        }
        let failed = states().find_map(|state| match state {
            TrackerState::Failed(reason) => Some(reason),
            _ => None,
        });
        let absent = || {
            states().find_map(|state| match state {
                TrackerState::NoAddress(reason) => Some(reason),
                _ => None,
            })
        };
        failed.or_else(absent).map(str::to_owned)
    }

    /// How many trackers are never asked, as there are more than [`TRACKERS_MAX`].
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Each tracker in each address family, in the order in which they are tried.
    pub fn trackers(&self) -> impl Iterator<Item = TrackerStatus<'_>> {
        self.walks.iter().flat_map(|walk| walk.statuses(&self.trackers))
    }

    fn advance(&mut self, now: Time) {
        match self.phase {
            Phase::Idle => {}
            Phase::Running => {
                for walk in 0..self.walks.len() {
                    while let Some(due) = self.walks[walk].due(now, &self.trackers) {
                        let id = self.act(walk, &due);
                        self.walks[walk].on_sent(now, id, &due, &self.trackers);
                    }
                }
            }
            Phase::Stopping { deadline } => {
                if self.stops.is_empty() || now >= deadline {
                    self.stops.clear();
                    self.phase = Phase::Idle;
                }
            }
        }
    }

    /// Queues an announce of one walk.
    fn act(&mut self, walk: usize, due: &Due) -> AnnounceId {
        let id = AnnounceId(self.next_id);
        self.next_id += 1;
        let walk = &self.walks[walk];
        let tracker = &self.trackers[due.tracker];
        let Ok(url) = &tracker.target else {
            unreachable!("only trackers that can be announced to are ever due");
        };
        // `poll_action` fills in how the transfer stands.
        let request = AnnounceRequest {
            info_hash: self.config.info_hash,
            peer_id: self.config.peer_id,
            port: self.config.ports.get(&walk.family()).copied().unwrap_or_default(),
            uploaded: 0,
            downloaded: 0,
            left: LEFT_UNKNOWN,
            event: due.event,
            numwant: None,
            format: PeerFormat::Compact,
            key: Some(self.key),
            tracker_id: walk.tracker_id(due.tracker),
        };
        let (url, origin, family) = (url.clone(), tracker.origin, walk.family());
        self.actions.push_back(AnnounceAction { id, url, origin, family, request });
        id
    }
}

/// The trackers that are `named`, each once, and how many are beyond the bound.
fn trackers(named: Named<'_>) -> (Vec<Tracker>, usize) {
    let (mut trackers, mut left_out) = (Vec::new(), 0);
    let by_metainfo = named.by_metainfo.iter().map(|tier| (tier.as_slice(), UrlOrigin::Metainfo));
    let by_user = named.by_user.iter().map(|url| (std::slice::from_ref(url), UrlOrigin::Typed));
    for (tier, (urls, origin)) in by_metainfo.chain(by_user).enumerate() {
        for url in urls {
            left_out += usize::from(!add_tracker(&mut trackers, url, origin, tier));
        }
    }
    (trackers, left_out)
}

/// Adds a tracker, unless it is known already. Whether there was room.
fn add_tracker(trackers: &mut Vec<Tracker>, url: &str, origin: UrlOrigin, tier: usize) -> bool {
    if let Some(known) = trackers.iter_mut().find(|tracker| tracker.url == url) {
        known.origin = known.origin.max(origin);
        return true;
    }
    let room = if origin == UrlOrigin::Typed { 2 * TRACKERS_MAX } else { TRACKERS_MAX };
    if trackers.len() >= room {
        return false;
    }
    let target = target(url);
    let next = trackers.len();
    let at_host = |other: &Tracker| host_and_port(&other.target).0 == host_and_port(&target).0;
    let at_port = |other: &Tracker| host_and_port(&other.target) == host_and_port(&target);
    let host = trackers.iter().position(at_host).unwrap_or(next);
    let port = trackers.iter().position(at_port).unwrap_or(next);
    trackers.push(Tracker { url: url.to_owned(), origin, tier, host, port, target });
    true
}

fn host_and_port<'a>(target: &'a Result<Url, &str>) -> (Option<&'a str>, Option<u16>) {
    let url = target.as_ref().ok();
    (url.and_then(Url::host_str), url.and_then(Url::port_or_known_default))
}

fn target(url: &str) -> Result<Url, &'static str> {
    let parsed = Url::parse(url.trim()).map_err(|_| "not a URL")?;
    match parsed.scheme() {
        "http" | "https" => Ok(parsed),
        "udp" if parsed.port().is_none() => Err("it names no port, and udp: has none of its own"),
        "udp" if udp::url_data(&parsed).len() > udp::URL_DATA_LEN_MAX => Err("too long for UDP"),
        "udp" => Ok(parsed),
        "ws" | "wss" => Err("WebTorrent trackers are not supported"),
        _ => Err("not an http, https or udp URL"),
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

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

mod action;
mod status;
mod trackers;
mod walk;

use std::collections::{BTreeMap, VecDeque};

use url::Url;

pub use action::{AnnounceAction, AnnounceFailure, AnnounceId};
pub use status::{TrackerStatus, TrackerView};
pub use trackers::{TRACKERS_MAX, TrackerUrls};
pub use walk::{
    BACKOFF_MAX, BACKOFF_MIN, EARLY_DEFAULT, HOST_PARALLEL_MAX, HOST_PAUSE, INTERVAL_MAX, PARALLEL_MAX,
    SILENCE, SILENCE_LATER,
};

use self::trackers::{Tracker, add_tracker, trackers};
use self::walk::{Due, Walk};
use super::access::UrlOrigin;
use super::announce::{AnnounceRequest, AnnounceResponse, Event, LEFT_UNKNOWN};
use super::peers::PeerFormat;
use crate::id::{InfoHash, PeerId};
use crate::net::Family;
use crate::rng::Rng;
use crate::time::{Duration, Time};

/// Most peers asked for at once.
pub const NUMWANT_MAX: u32 = 200;
/// Shortest interval that a tracker can impose, unless the configuration says otherwise.
pub const INTERVAL_MIN: Duration = Duration::from_secs(60);
/// How long a stop waits for trackers to take note.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long of that a `stopped` waits for the answer to the announce before it, lest it overtake that one.
pub const STOP_PATIENCE: Duration = STOP_TIMEOUT.checked_div(2).expect("not by zero");

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Running,
    /// Telling `stopped`, and waiting for the answers.
    Stopping {
        since: Time,
    },
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
    is_spread: bool,
    next_id: u64,
    actions: VecDeque<AnnounceAction>,
}

impl Announcer {
    /// The torrent turns out to be private (BEP 27).
    pub fn handle_private(&mut self) {
        self.walks.iter_mut().for_each(Walk::ask_one_at_a_time);
    }

    /// An announcer for the trackers in `named`, which are shuffled within each tier. It stays
    /// silent until [`handle_start`](Self::handle_start). A URL that comes twice counts once, in
    /// its first tier, and as the user's if it is that too.
    pub fn new(mut config: AnnouncerConfig, named: TrackerUrls<'_>, mut rng: Rng) -> Announcer {
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
            is_spread: false,
            next_id: 0,
            actions: VecDeque::new(),
        }
    }

    /// Whether this is one of many torrents that start together, and would announce together from then on. Then the first interval is cut
    /// short at random, by up to a half, as far as the tracker allows.
    pub fn set_spread(&mut self, is_spread: bool) {
        self.is_spread = is_spread;
    }

    /// The torrent starts, or goes on after a stop.
    pub fn handle_start(&mut self, now: Time) {
        if self.phase == Phase::Running {
            return;
        }
        self.phase = Phase::Running;
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
    /// [`is_stopped`](Self::is_stopped) after their answers or [`STOP_TIMEOUT`]. A tracker with an
    /// announce in flight is told after the answer, or after [`STOP_PATIENCE`]: on another connection
    /// `stopped` could arrive first.
    pub fn handle_stop(&mut self, now: Time) {
        if self.phase != Phase::Running {
            return;
        }
        self.phase = Phase::Stopping { since: now };
        let is_news =
            |action: &AnnounceAction| matches!(action.request.event, Some(Event::Completed | Event::Stopped));
        let (news, unsent): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.actions).into_iter().partition(is_news);
        self.actions = news.into();
        self.walks.iter_mut().for_each(|walk| walk.on_stop(&unsent));
        self.advance(now);
    }

    /// More peers would help: announce as soon as the tracker's minimum interval allows.
    pub fn request_more_peers(&mut self, now: Time) {
        for walk in &mut self.walks {
            walk.on_want_more(now);
        }
        self.advance(now);
    }

    /// More trackers are named, each a tier of its own. Those that are known already come to count as the user's, if it is he who names them.
    pub fn handle_more_trackers(&mut self, now: Time, urls: &[String], origin: UrlOrigin) {
        for url in urls {
            let at = self.trackers.len();
            let tier = self.trackers.last().map_or(0, |tracker| tracker.tier + 1);
            if add_tracker(&mut self.trackers, url, origin, tier) && self.trackers.len() > at {
                self.walks.iter_mut().for_each(|walk| walk.on_tracker_added(now));
            }
        }
        self.request_more_peers(now);
    }

    /// These are the trackers from now on, in tiers, beside those that the user has named. What is known of those that stay is kept; those
    /// that go and list us are told that we stop.
    pub fn handle_trackers(&mut self, now: Time, tiers: &[Vec<String>]) {
        let typed = self.trackers.iter().filter(|tracker| tracker.origin == UrlOrigin::Typed);
        let typed: Vec<String> = typed.map(|tracker| tracker.url.clone()).collect();
        let (trackers, left_out) = trackers(TrackerUrls { by_metainfo: tiers, by_user: &typed });
        let place = |old: &Tracker| trackers.iter().position(|new| new.url == old.url);
        let places: Vec<Option<usize>> = self.trackers.iter().map(place).collect();
        if self.phase == Phase::Running {
            for walk in 0..self.walks.len() {
                let gone = (0..places.len()).filter(|&at| places[at].is_none());
                let gone: Vec<usize> = gone.filter(|&at| self.walks[walk].is_listed(at)).collect();
                for tracker in gone {
                    self.act(walk, &Due { tracker, event: Some(Event::Stopped) });
                }
            }
        }
        self.trackers = trackers;
        self.left_out = left_out;
        for walk in &mut self.walks {
            walk.on_trackers_replaced(now, &places, &self.trackers);
        }
        self.advance(now);
    }

    /// Peers of this family reach us at another port than before: tell the trackers now.
    pub fn handle_port(&mut self, now: Time, family: Family, port: u16) {
        let ours = self.config.ports.get_mut(&family);
        if ours.is_some_and(|ours| std::mem::replace(ours, port) != port) {
            self.walks
                .iter_mut()
                .filter(|walk| walk.family() == family)
                .for_each(|walk| walk.on_address_change(now));
            self.advance(now);
        }
    }

    /// Our addresses changed: tell the trackers now, also those that were out of reach.
    pub fn handle_address_change(&mut self, now: Time) {
        if matches!(self.phase, Phase::Stopping { .. }) {
            return;
        }
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
        let is_running = self.phase == Phase::Running;
        if let Some(walk) = self.walks.iter_mut().find(|walk| walk.awaits(id)) {
            match response {
                _ if !is_running || walk.is_leaving(id) => {
                    walk.on_last_answer(id, response.is_ok());
                    if is_running {
                        walk.on_stop_over(now);
                    }
                }
                Ok(response) => {
                    let rng = self.is_spread.then_some(&mut self.rng);
                    walk.on_success(now, id, response, &self.trackers, self.config.interval_min, rng);
                }
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
            Phase::Running => self.walks.iter().filter_map(Walk::poll_timeout).min(),
            Phase::Stopping { since } if self.walks.iter().any(Walk::holds_stop_back) => {
                Some(since + STOP_PATIENCE)
            }
            Phase::Stopping { since } => Some(since + STOP_TIMEOUT),
        }
    }

    /// Whether nothing more is to be done: never started, or stopped and every tracker told (or
    /// not reached in time).
    pub fn is_stopped(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// What to tell the user of a tracker that failed: nothing while it serves us over another address
    /// family, or may do so yet. That it has no address of one family is the last thing to tell.
    pub fn failure_of(&self, url: &Url) -> Option<String> {
        let tracker = self.trackers.iter().position(|known| known.target.as_ref() == Ok(url))?;
        let statuses = || self.walks.iter().map(|walk| walk.status(tracker, &self.trackers));
        if statuses().any(|status| matches!(status, TrackerStatus::Announcing | TrackerStatus::Working)) {
            return None;
        }
        let failed = statuses().find_map(|status| match status {
            TrackerStatus::Failed(reason) => Some(reason),
            _ => None,
        });
        let absent = || {
            statuses().find_map(|status| match status {
                TrackerStatus::NoAddress(reason) => Some(reason),
                _ => None,
            })
        };
        failed.or_else(absent)
    }

    /// How many trackers are never asked, as there are more than [`TRACKERS_MAX`].
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Each tracker in each address family, in the order in which they are tried.
    pub fn trackers(&self) -> impl Iterator<Item = TrackerView<'_>> {
        self.walks.iter().flat_map(|walk| walk.views(&self.trackers))
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
            Phase::Stopping { since } => {
                for walk in 0..self.walks.len() {
                    if now >= since + STOP_PATIENCE {
                        self.walks[walk].lose_patience();
                    }
                    while let Some(due) = self.walks[walk].stop_due() {
                        let id = self.act(walk, &due);
                        self.walks[walk].on_stop_sent(id, &due);
                    }
                }
                if self.walks.iter().all(Walk::is_silent) || now >= since + STOP_TIMEOUT {
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

#[cfg(test)]
mod tests;

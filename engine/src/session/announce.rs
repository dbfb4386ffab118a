//! A torrent and its trackers: carries out what the announcer wants.

use super::context::Context;
use super::event::Event;
use super::filter_state::What;
use super::options::{AddTorrent, Source};
use super::torrent::TorrentDriver;
use crate::http::{self, HttpError};
use crate::net::names;
use crate::net::socket::Binding;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use swarm_core::id::{InfoHash, PeerId};
use swarm_core::net::Family;
use swarm_core::rng::Rng;
use swarm_core::torrent::discovery::Origin;
use swarm_core::tracker::access::Forbidden;
use swarm_core::tracker::announce::LEFT_UNKNOWN;
use swarm_core::tracker::announcer::{
    AnnounceAction, AnnounceFailure, Announcer, AnnouncerConfig, NUMWANT_MAX, TRACKERS_MAX, TrackerStatus,
    TrackerUrls, Transfer,
};
use swarm_core::tracker::{AnnounceResponse, REPLY_LEN_MAX, ReplyError};
use tokio::task::spawn_local;
use url::Url;

/// How long a tracker may take to answer over HTTP, redirects and all.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(20);

/// What trackers hear where nobody can reach us: some refuse announces without a port, and nobody listens at this one.
const PORT_OF_NOBODY: u16 = 1;

/// How long the look-up of one peer's name may take.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(10);
/// How many addresses of one name are taken.
const NAME_ADDRESSES_MAX: usize = 4;

/// The announcer of one torrent.
pub(super) fn announcer(
    context: &Context,
    options: &AddTorrent,
    info_hash: InfoHash,
    peer_id: PeerId,
    rng: Rng,
) -> Announcer {
    let interval_min = options.announce_interval_min;
    let by_metainfo = match &options.source {
        _ if !options.use_metainfo_trackers => Vec::new(),
        Source::Metainfo(metainfo) => metainfo.trackers.clone(),
        Source::Magnet(magnet) => magnet.trackers.iter().map(|url| vec![url.clone()]).collect(),
        Source::Mutable(_) => Vec::new(),
    };
    let private = options.source.metainfo().is_some_and(|metainfo| metainfo.info.private);
    let named = TrackerUrls { by_metainfo: &by_metainfo, by_user: &options.trackers };
    let mut ports = BTreeMap::new();
    if context.binding.proxy.is_some() {
        // The proxy decides on the family. Nobody reaches us, but trackers turn away who says 0.
        let port = context.listening.first().map_or(PORT_OF_NOBODY, SocketAddr::port);
        ports.insert(Family::V4, port);
    }
    for addr in context.listening.iter().filter(|_| context.binding.proxy.is_none()) {
        ports.entry(Family::of_ip(addr.ip())).or_insert(addr.port());
    }
    if let (Some(ours), Some(mapped)) = (ports.get_mut(&Family::V4), context.mapped_port.get()) {
        *ours = mapped;
    }
    let config = AnnouncerConfig { info_hash, peer_id, ports, interval_min, private };
    Announcer::new(config, named, rng)
}

/// What the user should hear of the list of trackers itself: which are never asked.
fn warnings(announcer: &Announcer) -> Vec<String> {
    let unusable: BTreeMap<&str, &str> = announcer
        .trackers()
        .filter_map(|tracker| match tracker.status {
            // They are for browsers, and beside others in many links.
            TrackerStatus::Unsupported(_) if tracker.url.starts_with("ws") => None,
            TrackerStatus::Unsupported(why) => Some((tracker.url, why)),
            _ => None,
        })
        .collect();
    let more = match unusable.len() {
        0 | 1 => String::new(),
        2 => "; nor is 1 more".to_owned(),
        count => format!("; nor are {} more", count - 1),
    };
    let first = unusable.first_key_value().map(|(url, why)| format!("{url}: never asked: {why}{more}"));
    let left_out = announcer.left_out();
    let how_many = if left_out == 1 { "tracker is" } else { "trackers are" };
    let beyond = (left_out > 0)
        .then(|| format!("{left_out} {how_many} never asked: there are more than {TRACKERS_MAX}"));
    first.into_iter().chain(beyond).collect()
}

impl TorrentDriver {
    /// Lets the announcer begin, and says what is odd about its trackers. If it is one of many, and needs nobody, it has to wait for its
    /// turn, and its trackers hear of it at another time than of the others from then on.
    pub(super) fn start_announcing(&self) {
        let (now, needs_peers) = (self.context.now(), self.needs_peers());
        let warnings = {
            let mut announcer = self.announcer.borrow_mut();
            let waits = !needs_peers && announcer.trackers().next().is_some();
            let at = if waits { self.context.announce_turns.next_start(now) } else { now };
            announcer.set_spread(at > now);
            if at > now {
                self.announces_from.set(Some(at));
            } else {
                announcer.handle_start(now);
            }
            warnings(&announcer)
        };
        warnings.iter().for_each(|warning| self.warn(warning));
    }

    /// The turn of a torrent that has waited for it has come, or it waits no longer.
    pub(super) fn start_announcing_now(&self) {
        if self.announces_from.take().is_some() {
            self.announcer.borrow_mut().handle_start(self.context.now());
        }
    }

    /// Lets the announcer look at the time and the transfer, and carries out what it wants.
    pub(super) fn drive_announcer(self: &Rc<Self>) {
        let (now, transfer, needs_peers) = (self.context.now(), self.transfer(), self.needs_peers());
        if needs_peers || self.announces_from.get().is_some_and(|at| at <= now) {
            self.start_announcing_now();
        }
        let mut announcer = self.announcer.borrow_mut();
        announcer.handle_transfer(transfer);
        if announcer.poll_timeout().is_some_and(|at| at <= now) {
            announcer.handle_timeout(now);
        }
        if needs_peers {
            announcer.request_more_peers(now);
        }
        while let Some(action) = announcer.poll_action() {
            self.announces.set(self.announces.get() + 1);
            spawn_local(Rc::clone(self).announce(action));
        }
    }

    /// Tells whether trackers have yet to answer.
    pub(super) fn note_announces(self: &Rc<Self>) {
        let (now, is_asking) = (self.context.now(), self.announces.get() > 0);
        self.with(|inner| inner.core.set_asking_trackers(now, is_asking));
    }

    /// Whether it wants data and has nobody to ask.
    pub(super) fn needs_peers(&self) -> bool {
        let core = &self.inner.borrow().core;
        // Whoever is connected may have no metadata, or lie.
        !core.has_metadata() || !core.is_complete() && core.peers().next().is_none()
    }

    /// What trackers hear of the transfer.
    fn transfer(&self) -> Transfer {
        let core = &self.inner.borrow().core;
        let totals = self.totals(core);
        Transfer {
            uploaded: totals.bytes_up,
            downloaded: totals.bytes_down,
            left: if core.has_metadata() { core.bytes_missing() } else { LEFT_UNKNOWN },
            peers_wanted: if core.wants_peers() { NUMWANT_MAX } else { 0 },
        }
    }

    async fn announce(self: Rc<Self>, action: AnnounceAction) {
        // In a box, so that an announce that waits for its turn takes little room.
        let outcome = {
            let _turn = match action.url.scheme() {
                "udp" => Default::default(),
                _ => self.context.announce_turns.turn(action.url.host_str().unwrap_or_default()).await,
            };
            Box::pin(self.ask_for_swarms(&action)).await
        };
        if let Err(AnnounceFailure::Forbidden(Forbidden::Blocked(_))) = outcome {
            self.context.on_blocked(What::Tracker, 1);
        }
        if let Ok((response, tracker)) = &outcome {
            let peers = peers_of(response, &action);
            let (url, external_ip) = (action.url.to_string(), response.external_ip);
            self.emit(Event::Announced { url, peers: peers.len(), external_ip });
            if let Some(warning) = &response.warning {
                self.warn(&format!("{}: {warning}", action.url));
            }
            if let Some(warning) = reply_warning(response, &action) {
                self.warn(&format!("{}: {warning}", action.url));
            }
            if self.context.binding.proxy.is_none() {
                self.context.routes.borrow_mut().note(*tracker, &self.context.binding);
            }
            if let Some(ip) = response.external_ip {
                self.inner.borrow_mut().core.handle_own_ip(ip);
            }
            self.handle_addresses(&peers, Origin::Tracker(*tracker));
            if !response.oddities.names.is_empty() {
                let names = response.oddities.names.clone();
                spawn_local(Rc::clone(&self).look_up_peers(action.url.clone(), names, *tracker));
            }
        }
        self.announces.set(self.announces.get() - 1);
        self.note_announces();
        let answer = outcome.as_ref().map(|(response, _)| response);
        self.announcer.borrow_mut().handle_response(self.context.now(), action.id, answer);
        if let Err(failure) = &outcome {
            tracing::debug!(tracker = %action.url, family = %action.family, %failure, "announce failed");
            let failure = self.announcer.borrow_mut().failure_of(&action.url);
            if let Some(failure) = failure {
                self.warn(&format!("{}: {failure}", action.url));
            }
        }
        self.wake.notify_one();
    }

    /// Announces under each info-hash of the torrent: for a tracker a hybrid is two torrents. The answer is the first that there is, with
    /// the peers of all.
    async fn ask_for_swarms(
        &self,
        action: &AnnounceAction,
    ) -> Result<(AnnounceResponse, IpAddr), AnnounceFailure> {
        let Some(swarm) = self.swarms().find(|&swarm| swarm != action.request.info_hash) else {
            return ask(&self.context, action).await;
        };
        let mut other = action.clone();
        other.request.info_hash = swarm;
        // At once: a tracker that says nothing is not waited for twice.
        match tokio::join!(ask(&self.context, action), ask(&self.context, &other)) {
            (Ok((mut first, tracker)), Ok((other, _))) => {
                first.peers.extend(other.peers);
                Ok((first, tracker))
            }
            (Err(_), Ok(other)) => Ok(other),
            (first, Err(failure)) => {
                tracing::debug!(tracker = %other.url, %swarm, %failure, "announce failed");
                first
            }
        }
    }

    /// A tracker has named peers by their hosts' names.
    async fn look_up_peers(self: Rc<Self>, url: Url, names: Vec<(String, u16)>, tracker: IpAddr) {
        let (found, lost) = look_up(&names, &self.context.binding).await;
        for (host, reason) in lost {
            self.warn(&format!("{url}: cannot find its peer {host}: {reason}"));
        }
        self.handle_addresses(&found, Origin::Tracker(tracker));
        self.wake.notify_one();
    }

    /// Tells the trackers that we stop, and waits for them for a bounded time.
    pub(super) async fn stop_announcing(self: &Rc<Self>) {
        self.announces_from.set(None);
        self.announcer.borrow_mut().handle_stop(self.context.now());
        loop {
            self.drive_announcer();
            let deadline = {
                let announcer = self.announcer.borrow();
                if announcer.is_stopped() {
                    return;
                }
                announcer.poll_timeout().map(|at| self.context.instant(at))
            };
            let Some(deadline) = deadline else { return };
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
    }
}

/// Makes one announce: what the tracker says, and its address.
async fn ask(
    context: &Rc<Context>,
    action: &AnnounceAction,
) -> Result<(AnnounceResponse, IpAddr), AnnounceFailure> {
    let is_udp = action.url.scheme() == "udp";
    let url = if is_udp { action.url.clone() } else { action.request.url(&action.url) };
    let request = http::Request {
        filter: context.ip_filter(),
        url,
        origin: action.origin,
        public_only: false,
        family: context.binding.proxy.is_none().then_some(action.family),
        binding: &context.binding,
        timeout: ANNOUNCE_TIMEOUT,
        body_len_max: REPLY_LEN_MAX,
    };
    if is_udp {
        return context.udp_trackers.announce(action, &request).await;
    }
    let answer = http::get(&request).await?;
    let status = answer.status;
    // A failure reason often comes with a status other than 200.
    match AnnounceResponse::parse(&answer.body) {
        Ok(response) if status.is_success() => Ok((response, answer.server.ip())),
        Ok(_) => Err(AnnounceFailure::Status(status.as_u16())),
        Err(ReplyError::Malformed(_) | ReplyError::NotADictionary) if !status.is_success() => {
            Err(AnnounceFailure::Status(status.as_u16()))
        }
        Err(error) => Err(AnnounceFailure::Reply(error)),
    }
}

/// What the user should hear of how an answer lists its peers.
fn reply_warning(response: &AnnounceResponse, action: &AnnounceAction) -> Option<&'static str> {
    let wants_peers = action.request.numwant != Some(0);
    match &response.oddities {
        odd if odd.lacks_peers && wants_peers => Some("its reply has no list of peers"),
        odd if odd.passed_over > 0 => Some("some peers in its reply make no sense, and are passed over"),
        _ => None,
    }
}

/// Looks up the peers that an answer names by their hosts' names; the names that lead nowhere, with why.
async fn look_up(names: &[(String, u16)], binding: &Binding) -> (Vec<SocketAddr>, Vec<(String, String)>) {
    let (mut found, mut lost) = (Vec::new(), Vec::new());
    // One after the other: a tracker cannot make us ask for much at once.
    for (host, port) in names {
        let addrs = tokio::time::timeout(LOOK_UP_TIMEOUT, names::look_up(host, *port, binding)).await;
        match addrs {
            Ok(Ok(addrs)) => found.extend(addrs.into_iter().take(NAME_ADDRESSES_MAX)),
            Ok(Err(error)) => lost.push((host.clone(), error.to_string())),
            Err(_) => lost.push((host.clone(), "the name is not answered for in time".to_owned())),
        }
    }
    (found, lost)
}

/// The peers of an answer, without ourselves: the address that the tracker saw, and the port of our announce.
fn peers_of(response: &AnnounceResponse, action: &AnnounceAction) -> Vec<SocketAddr> {
    let own = response.external_ip.map(|ip| SocketAddr::new(ip, action.request.port));
    response.peers.iter().map(|peer| peer.addr).filter(|&addr| Some(addr) != own).collect()
}

impl From<HttpError> for AnnounceFailure {
    fn from(error: HttpError) -> AnnounceFailure {
        match error {
            HttpError::NoAddress(family) => AnnounceFailure::NoAddress(family),
            HttpError::Forbidden(reason) => AnnounceFailure::Forbidden(reason),
            HttpError::Failed(reason) => AnnounceFailure::Unreachable(reason),
        }
    }
}

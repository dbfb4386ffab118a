//! A torrent and its trackers: carries out what the announcer wants.

use super::announce_udp;
use super::hub::Hub;
use super::options::{AddTorrent, Source};
use super::torrent::TorrentShell;
use crate::http::{self, HttpError};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use swarm_core::id::{InfoHash, PeerId};
use swarm_core::net::Family;
use swarm_core::rng::Rng;
use swarm_core::time::Time;
use swarm_core::tracker::announcer::{
    AnnounceAction, AnnounceFailure, Announcer, AnnouncerConfig, TRACKERS_MAX, TrackerState, TrackerUrls,
    Transfer,
};
use swarm_core::tracker::{AnnounceResponse, REPLY_LEN_MAX, ReplyError};

/// How long a tracker may take to answer over HTTP, redirects and all.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the look-up of one peer's name may take.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(10);
/// How many addresses of one name are taken.
const NAME_ADDRESSES_MAX: usize = 4;

/// The announcer of one torrent.
pub(super) struct Announcing {
    announcer: Announcer,
}

impl Announcing {
    pub(super) fn new(
        hub: &Hub,
        options: &AddTorrent,
        info_hash: InfoHash,
        peer_id: PeerId,
        rng: Rng,
    ) -> Announcing {
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
        for addr in &hub.listening {
            ports.entry(Family::of_ip(addr.ip())).or_insert(addr.port());
        }
        let config = AnnouncerConfig { info_hash, peer_id, ports, interval_min, private };
        Announcing { announcer: Announcer::new(config, named, rng) }
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.announcer.poll_timeout()
    }

    pub(super) fn start(&mut self, now: Time) {
        self.announcer.handle_start(now);
    }

    pub(super) fn stop(&mut self, now: Time) {
        self.announcer.handle_stop(now);
    }

    /// The user wants an announce now.
    pub(super) fn hasten(&mut self, now: Time) {
        self.announcer.request_more_peers(now);
    }

    /// The user names more trackers.
    pub(super) fn add(&mut self, now: Time, urls: &[String]) {
        self.announcer.handle_more_trackers(now, urls);
    }

    /// The torrent turns out to be private: one tracker is asked at a time (BEP 27).
    pub(super) fn keep_private(&mut self) {
        self.announcer.handle_private();
    }

    pub(super) fn completed(&mut self, now: Time) {
        self.announcer.handle_completed(now);
    }

    /// What the user should hear of the list of trackers itself: which are never asked.
    pub(super) fn warnings(&self) -> Vec<String> {
        let unusable: BTreeMap<&str, &str> = self
            .announcer
            .trackers()
            .filter_map(|tracker| match tracker.state {
                // They are for browsers, and beside others in many links.
                TrackerState::Unsupported(_) if tracker.url.starts_with("ws") => None,
                TrackerState::Unsupported(why) => Some((tracker.url, why)),
                _ => None,
            })
            .collect();
        let more = match unusable.len() {
            0 | 1 => String::new(),
            2 => "; nor is 1 more".to_owned(),
            count => format!("; nor are {} more", count - 1),
        };
        let first = unusable.first_key_value().map(|(url, why)| format!("{url}: never asked: {why}{more}"));
        let left_out = self.announcer.left_out();
        let how_many = if left_out == 1 { "tracker is" } else { "trackers are" };
        let beyond = (left_out > 0)
            .then(|| format!("{left_out} {how_many} never asked: there are more than {TRACKERS_MAX}"));
        first.into_iter().chain(beyond).collect()
    }

    pub(super) fn announcer(&self) -> &Announcer {
        &self.announcer
    }

    /// Lets the announcer look at the time and the transfer; what it wants done.
    pub(super) fn drive(&mut self, now: Time, transfer: Transfer, is_alone: bool) -> Vec<AnnounceAction> {
        let announcer = &mut self.announcer;
        announcer.handle_transfer(transfer);
        if announcer.poll_timeout().is_some_and(|at| at <= now) {
            announcer.handle_timeout(now);
        }
        if is_alone {
            announcer.request_more_peers(now);
        }
        std::iter::from_fn(|| announcer.poll_action()).collect()
    }

    /// What came of an announce: what the user should hear of the tracker, if it is of no use.
    pub(super) fn answered(
        &mut self,
        now: Time,
        action: &AnnounceAction,
        answer: Result<&AnnounceResponse, &AnnounceFailure>,
    ) -> Option<String> {
        self.announcer.handle_response(now, action.id, answer);
        self.announcer.failure_of(&action.url)
    }
}

impl TorrentShell {
    /// Our addresses have changed: trackers are told now.
    pub(super) fn addresses_changed(self: &Rc<Self>) {
        let now = self.hub.now();
        self.inner.borrow_mut().announcing.announcer.handle_address_change(now);
        self.wake.notify_one();
    }
}

/// Makes one announce: what the tracker says, and its address.
pub(super) async fn ask(
    hub: &Rc<Hub>,
    action: &AnnounceAction,
) -> Result<(AnnounceResponse, IpAddr), AnnounceFailure> {
    let is_udp = action.url.scheme() == "udp";
    let url = if is_udp { action.url.clone() } else { action.request.url(&action.url) };
    let request = http::Request {
        url,
        origin: action.origin,
        family: Some(action.family),
        options: &hub.options,
        timeout: ANNOUNCE_TIMEOUT,
        body_len_max: REPLY_LEN_MAX,
    };
    if is_udp {
        return announce_udp::announce(hub, action, &request).await;
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
pub(super) fn oddity(response: &AnnounceResponse, action: &AnnounceAction) -> Option<&'static str> {
    let wants_peers = action.request.numwant != Some(0);
    match &response.oddities {
        odd if odd.lacks_peers && wants_peers => Some("its reply has no list of peers"),
        odd if odd.passed_over > 0 => Some("some peers in its reply make no sense, and are passed over"),
        _ => None,
    }
}

/// Looks up the peers that an answer names by their hosts' names; the names that lead nowhere, with why.
pub(super) async fn look_up(names: &[(String, u16)]) -> (Vec<SocketAddr>, Vec<(String, String)>) {
    let (mut found, mut lost) = (Vec::new(), Vec::new());
    // One after the other: a tracker cannot make us ask for much at once.
    for (host, port) in names {
        let addrs =
            tokio::time::timeout(LOOK_UP_TIMEOUT, tokio::net::lookup_host((host.as_str(), *port))).await;
        match addrs {
            Ok(Ok(addrs)) => found.extend(addrs.take(NAME_ADDRESSES_MAX)),
            Ok(Err(error)) => lost.push((host.clone(), error.to_string())),
            Err(_) => lost.push((host.clone(), "the name is not answered for in time".to_owned())),
        }
    }
    (found, lost)
}

/// The peers of an answer, without ourselves: the address that the tracker saw, and the port that we told it.
pub(super) fn peers_of(response: &AnnounceResponse, action: &AnnounceAction) -> Vec<SocketAddr> {
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

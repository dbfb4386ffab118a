//! A torrent and its trackers: carries out what the announcer wants.

use super::announce_udp;
use super::hub::Hub;
use super::options::AddTorrent;
use super::torrent::TorrentShell;
use crate::http::{self, HttpError};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use swarm_core::id::{InfoHash, PeerId};
use swarm_core::rng::Rng;
use swarm_core::time::Time;
use swarm_core::tracker::announcer::{
    AnnounceAction, AnnounceFailure, Announcer, AnnouncerConfig, Named, Transfer,
};
use swarm_core::tracker::{AnnounceResponse, Family, REPLY_LEN_MAX, ReplyError};

/// How long a tracker may take to answer over HTTP, redirects and all.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(20);

/// The announcer of one torrent.
pub(super) struct Announcing {
    announcer: Announcer,
}

impl Announcing {
    pub(super) fn new(hub: &Hub, options: &AddTorrent, peer_id: PeerId, rng: Rng) -> Announcing {
        let by_metainfo: &[Vec<String>] =
            if options.use_metainfo_trackers { &options.metainfo.trackers } else { &[] };
        let named = Named { by_metainfo, by_user: &options.trackers };
        let info_hash = options.metainfo.info.info_hash;
        Announcing::of(hub, info_hash, peer_id, options.announce_interval_min, named, rng)
    }

    /// Of a torrent of which no more needs to be known than its info-hash.
    pub(super) fn of(
        hub: &Hub,
        info_hash: InfoHash,
        peer_id: PeerId,
        interval_min: Duration,
        named: Named<'_>,
        rng: Rng,
    ) -> Announcing {
        let mut ports = BTreeMap::new();
        for addr in &hub.listening {
            ports.entry(Family::of_ip(addr.ip())).or_insert(addr.port());
        }
        let config = AnnouncerConfig { info_hash, peer_id, ports, interval_min };
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

    pub(super) fn completed(&mut self, now: Time) {
        self.announcer.handle_completed(now);
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
            announcer.want_more_peers(now);
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
        self.announcer.trouble(&action.url)
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

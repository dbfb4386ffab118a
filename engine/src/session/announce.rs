//! A torrent and its trackers: carries out what the announcer wants.

use super::event::Event;
use super::hub::Hub;
use super::options::AddTorrent;
use super::torrent::TorrentShell;
use crate::http;
use crate::net::socket::local_ip;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use swarm_core::id::PeerId;
use swarm_core::rng::Rng;
use swarm_core::time::Time;
use swarm_core::torrent::discovery::Origin;
use swarm_core::tracker::announce::AnnounceResponse;
use swarm_core::tracker::announcer::{AnnounceAction, AnnounceFailure, Announcer, AnnouncerConfig, Transfer};
use swarm_core::tracker::{Family, REPLY_LEN_MAX};
use tokio::task::spawn_local;

/// How long a tracker may take to answer.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(20);

/// The announcer of one torrent, and the HTTP clients for it.
pub(super) struct Announcing {
    announcer: Announcer,
    clients: [Option<reqwest::Client>; 2],
}

impl Announcing {
    pub(super) fn new(hub: &Hub, options: &AddTorrent, peer_id: PeerId, rng: Rng) -> Announcing {
        let mut tiers =
            if options.use_metainfo_trackers { options.metainfo.trackers.clone() } else { Vec::new() };
        tiers.extend(options.trackers.iter().map(|url| vec![url.clone()]));
        let families: BTreeSet<Family> = hub.listening.iter().map(|addr| Family::of(addr.ip())).collect();
        let config = AnnouncerConfig {
            info_hash: options.metainfo.info.info_hash,
            peer_id,
            port: hub.listening.first().map_or(0, SocketAddr::port),
            families: families.into_iter().collect(),
            interval_min: options.announce_interval_min,
        };
        Announcing { announcer: Announcer::new(config, &tiers, rng), clients: [None, None] }
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.announcer.poll_timeout()
    }

    pub(super) fn start(&mut self, now: Time, transfer: Transfer) {
        self.announcer.handle_transfer(transfer);
        self.announcer.handle_start(now);
    }

    pub(super) fn completed(&mut self, now: Time) {
        self.announcer.handle_completed(now);
    }

    pub(super) fn announcer(&self) -> &Announcer {
        &self.announcer
    }

    fn client(&mut self, hub: &Hub, family: Family) -> Result<reqwest::Client, String> {
        let any = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let slot = &mut self.clients[usize::from(family == Family::V6)];
        if slot.is_none() {
            // The source address also decides which of the tracker's addresses are used.
            let from = local_ip(&hub.options.listen, any).unwrap_or(any);
            *slot = Some(http::client(Some(from), ANNOUNCE_TIMEOUT)?);
        }
        slot.clone().ok_or_else(|| "no HTTP client".to_owned())
    }
}

impl TorrentShell {
    /// What trackers are told of the transfer.
    pub(super) fn transfer(&self) -> Transfer {
        let left = self.bytes_left();
        let inner = self.inner.borrow();
        let totals = inner.core.totals();
        let peers_wanted = if inner.core.wants_peers() { 200 } else { 0 };
        Transfer { uploaded: totals.bytes_up, downloaded: totals.bytes_down, left, peers_wanted }
    }

    /// Lets the announcer look at the time and the transfer, and carries out what it wants.
    pub(super) fn drive_announcer(self: &Rc<Self>) {
        let now = self.hub.now();
        let transfer = self.transfer();
        let left = transfer.left;
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        let announcer = &mut inner.announcing.announcer;
        announcer.handle_transfer(transfer);
        if announcer.poll_timeout().is_some_and(|at| at <= now) {
            announcer.handle_timeout(now);
        }
        if left > 0 && inner.core.peers().next().is_none() {
            inner.announcing.announcer.want_more_peers(now);
        }
        while let Some(action) = inner.announcing.announcer.poll_action() {
            let client = inner.announcing.client(&self.hub, action.family);
            spawn_local(Rc::clone(self).announce(client, action));
        }
    }

    async fn announce(self: Rc<Self>, client: Result<reqwest::Client, String>, action: AnnounceAction) {
        let url = action.request.url(&action.url);
        let outcome = async {
            let client = client.map_err(AnnounceFailure::Unreachable)?;
            let unreachable = |e: &reqwest::Error| AnnounceFailure::Unreachable(http::chain(e));
            let response = client.get(url).send().await.map_err(|e| unreachable(&e))?;
            let tracker = response.remote_addr();
            let status = response.status();
            let body = http::body(response, REPLY_LEN_MAX).await.map_err(AnnounceFailure::Unreachable)?;
            // A failure reason often comes with a status other than 200.
            match AnnounceResponse::parse(&body) {
                Ok(response) if status.is_success() => Ok((response, tracker)),
                Ok(_) => Err(AnnounceFailure::Status(status.as_u16())),
                Err(_) if !status.is_success() && body.first() != Some(&b'd') => {
                    Err(AnnounceFailure::Status(status.as_u16()))
                }
                Err(error) => Err(AnnounceFailure::Reply(error)),
            }
        };
        let outcome = outcome.await;
        let now = self.hub.now();
        match &outcome {
            Ok((response, tracker)) => {
                let from_loopback = tracker.is_some_and(|addr| addr.ip().is_loopback());
                let peers: Vec<SocketAddr> = response.peers.iter().map(|peer| peer.addr).collect();
                self.emit(Event::Announced { url: action.url.to_string(), peers: peers.len() });
                if let Some(warning) = &response.warning {
                    self.warn(&format!("{}: {warning}", action.url));
                }
                self.with(|inner| {
                    inner.core.handle_addresses(now, &peers, Origin::Network { from_loopback });
                });
            }
            Err(failure) => {
                tracing::debug!(tracker = %action.url, %failure, "announce failed");
                self.warn(&format!("{}: {failure}", action.url));
            }
        }
        let answer = outcome.as_ref().map(|(response, _)| response);
        self.inner.borrow_mut().announcing.announcer.handle_response(now, action.id, answer);
        self.wake.notify_one();
    }

    /// Tells the trackers that we stop, and waits for them for a bounded time.
    pub(super) async fn stop_announcing(self: &Rc<Self>) {
        let now = self.hub.now();
        self.inner.borrow_mut().announcing.announcer.handle_stop(now);
        loop {
            self.drive_announcer();
            let deadline = {
                let inner = self.inner.borrow();
                if inner.announcing.announcer.is_stopped() {
                    return;
                }
                inner.announcing.announcer.poll_timeout().map(|at| self.hub.instant(at))
            };
            let Some(deadline) = deadline else { return };
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
    }
}

//! Announces over UDP: a socket and a task for each tracker that is being talked to.
//!
//! The socket is connected, so that the system drops what comes from elsewhere and reports a port at which nobody
//! listens. It is closed when nothing is under way and its connection id is too old to be used again.

use crate::clock::Clock;
use crate::http;
use crate::net::socket::{self, Binding};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use swarm_core::net::Family;
use swarm_core::rng::Rng;
use swarm_core::time::Time;
use swarm_core::tracker::announcer::{AnnounceAction, AnnounceFailure};
use swarm_core::tracker::udp::{Client, url_data};
use swarm_core::tracker::{AnnounceRequest, AnnounceResponse};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;

/// How long a tracker may take to answer: enough for either of the two round trips to be tried again.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(35);
/// Longer than any datagram.
const DATAGRAM_LEN_MAX: usize = 1 << 16;

type Outcome = Result<AnnounceResponse, AnnounceFailure>;

struct Ask {
    announce: AnnounceRequest,
    url_data: String,
    outcome: oneshot::Sender<Outcome>,
}

/// The UDP trackers that the session talks to.
pub(super) struct UdpTrackers {
    asks: RefCell<BTreeMap<SocketAddr, mpsc::UnboundedSender<Ask>>>,
    binding: Binding,
    clock: Clock,
    rng: RefCell<Rng>,
}

impl UdpTrackers {
    pub(super) fn new(binding: Binding, clock: Clock, rng: Rng) -> UdpTrackers {
        UdpTrackers { asks: RefCell::default(), binding, clock, rng: RefCell::new(rng) }
    }

    /// Our address has changed: what was bound to the old one ends.
    pub(super) fn forget(&self) {
        self.asks.borrow_mut().clear();
    }

    /// Makes one announce to where `request` leads: what the tracker says, and its address.
    pub(super) async fn announce(
        self: &Rc<Self>,
        action: &AnnounceAction,
        request: &http::Request<'_>,
    ) -> Result<(AnnounceResponse, IpAddr), AnnounceFailure> {
        let unreachable = |reason: &dyn ToString| AnnounceFailure::Unreachable(reason.to_string());
        let addrs = http::addresses(request).await?;
        let tracker = *addrs.first().ok_or(AnnounceFailure::NoAddress(action.family))?;
        let (outcome, answer) = oneshot::channel();
        let ask = Ask { announce: action.request.clone(), url_data: url_data(&action.url), outcome };
        self.send(tracker, ask).map_err(|error| unreachable(&error))?;
        let response = answer.await.unwrap_or_else(|_| Err(unreachable(&"our address has changed")))?;
        Ok((response, tracker.ip()))
    }

    /// Hands an announce to the task of this tracker, which is started if there is none.
    fn send(self: &Rc<Self>, tracker: SocketAddr, ask: Ask) -> std::io::Result<()> {
        let mut trackers = self.asks.borrow_mut();
        let asks = match trackers.get(&tracker) {
            Some(asks) => asks,
            None => {
                let socket = socket::connect_udp(tracker, &self.binding)?;
                let (asks, inbox) = mpsc::unbounded_channel();
                spawn_local(talk(Rc::clone(self), tracker, socket, inbox));
                trackers.entry(tracker).or_insert(asks)
            }
        };
        asks.send(ask).map_err(|_| std::io::Error::other("the session ends"))
    }
}

async fn talk(
    trackers: Rc<UdpTrackers>,
    tracker: SocketAddr,
    socket: UdpSocket,
    mut inbox: mpsc::UnboundedReceiver<Ask>,
) {
    let (rng, clock) = (trackers.rng.borrow_mut().fork(), trackers.clock);
    let mut client = Client::new(Family::of_ip(tracker.ip()), rng);
    let mut outcomes = BTreeMap::new();
    let mut received = vec![0; DATAGRAM_LEN_MAX];
    loop {
        while let Some(datagram) = client.poll_datagram() {
            if let Err(error) = socket.send(&datagram).await {
                client.handle_unreachable(&error.to_string());
            }
        }
        while let Some((id, outcome)) = client.poll_outcome() {
            if let Some(waiting) = outcomes.remove(&id) {
                // Who has lost interest needs no answer.
                let _ = oneshot::Sender::<Outcome>::send(waiting, outcome);
            }
        }
        let timeout = client.poll_timeout();
        if timeout.is_none() && inbox.is_empty() && !inbox.is_closed() {
            break;
        }
        tokio::select! {
            ask = inbox.recv() => {
                let Some(Ask { announce, url_data, outcome }) = ask else { return };
                let now = clock.now();
                let deadline = now + ANNOUNCE_TIMEOUT;
                outcomes.insert(client.handle_announce(now, announce, url_data.into(), deadline), outcome);
            }
            len = socket.recv(&mut received) => match len {
                Ok(len) => client.handle_datagram(clock.now(), &received[..len]),
                Err(error) => client.handle_unreachable(&error.to_string()),
            },
            () = tokio::time::sleep_until(clock.instant(timeout.unwrap_or(Time::MAX))) => {
                client.handle_timeout(clock.now());
            }
        }
    }
    // Nothing was awaited since the look at the inbox: nobody has asked meanwhile.
    trackers.asks.borrow_mut().remove(&tracker);
}

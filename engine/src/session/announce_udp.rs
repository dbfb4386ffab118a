//! Announces over UDP: a socket and a task for each tracker that is being talked to.
//!
//! The socket is connected, so that the system drops what comes from elsewhere and reports a port at which nobody
//! listens; through a proxy whoever knows the transaction's number may answer. It is closed when nothing is under way and its connection id is too old to be used again.

use crate::clock::Clock;
use crate::http;
use crate::net::datagrams::{DatagramSocket, is_unseen};
use crate::net::socket::Binding;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;
use swarm_core::net::Family;
use swarm_core::proxy::Destination;
use swarm_core::rng::Rng;
use swarm_core::time::Time;
use swarm_core::tracker::announcer::{AnnounceAction, AnnounceFailure};
use swarm_core::tracker::udp::{Client, url_data};
use swarm_core::tracker::{AnnounceRequest, AnnounceResponse};
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
    asks: RefCell<BTreeMap<Destination, mpsc::UnboundedSender<Ask>>>,
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
        let mut found = http::destinations(request).await?.into_iter();
        let tracker = found.next().ok_or(AnnounceFailure::NoAddress(action.family))?;
        let ip = tracker.addr().unwrap_or(http::UNSEEN).ip();
        let (outcome, answer) = oneshot::channel();
        let ask = Ask { announce: action.request.clone(), url_data: url_data(&action.url), outcome };
        self.send(&tracker, ask).map_err(|error| unreachable(&error))?;
        let response = answer.await.unwrap_or_else(|_| Err(unreachable(&"our address has changed")))?;
        Ok((response, ip))
    }

    /// Hands an announce to the task of this tracker, which is started if there is none.
    fn send(self: &Rc<Self>, tracker: &Destination, ask: Ask) -> io::Result<()> {
        let mut trackers = self.asks.borrow_mut();
        let asks = match trackers.get(tracker) {
            Some(asks) => asks,
            None => {
                let socket = DatagramSocket::connect(tracker, &self.binding)?;
                let (asks, inbox) = mpsc::unbounded_channel();
                spawn_local(talk(Rc::clone(self), tracker.clone(), socket, inbox));
                trackers.entry(tracker.clone()).or_insert(asks)
            }
        };
        asks.send(ask).map_err(|_| io::Error::other("the session ends"))
    }
}

async fn talk(
    trackers: Rc<UdpTrackers>,
    tracker: Destination,
    socket: DatagramSocket,
    mut inbox: mpsc::UnboundedReceiver<Ask>,
) {
    let (rng, clock) = (trackers.rng.borrow_mut().fork(), trackers.clock);
    let mut client = Client::new(tracker.addr().map_or(Family::V4, Family::of), rng);
    let mut outcomes = BTreeMap::new();
    let mut received = vec![0; DATAGRAM_LEN_MAX];
    loop {
        while let Some(datagram) = client.poll_datagram() {
            if let Err(error) = socket.send(&datagram, &tracker).await {
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
            datagram = socket.recv_from(&mut received) => match datagram {
                // Over a relay others may answer too.
                Ok((_, from)) if !is_unseen(from) && tracker.addr().is_some_and(|addr| addr != from) => {}
                Ok((len, from)) => {
                    if !is_unseen(from) {
                        client.set_family(Family::of(from));
                    }
                    client.handle_datagram(clock.now(), &received[..len]);
                }
                // The relay has brought what makes no sense.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
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

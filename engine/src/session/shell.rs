//! What a torrent and the search for its metadata have in common: connections that are dialled, and trackers.

use super::announce::{self, Announcing};
use super::event::Event;
use super::hub::Hub;
use super::prepared::Sent;
use crate::net::handshake;
use crate::net::outbox::Outbox;
use crate::net::socket;
use std::cell::{RefCell, RefMut};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use swarm_core::id::{BlockRef, InfoHash, PeerId};
use swarm_core::peer::PeerInfo;
use swarm_core::torrent::CloseReason;
use swarm_core::torrent::discovery::Dial;
use swarm_core::tracker::AnnounceResponse;
use swarm_core::tracker::announcer::{AnnounceAction, Transfer};
use swarm_core::wire::Message;
use swarm_core::wire::handshake::{Handshake, Reserved};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use url::Url;

/// How many different warnings a watcher gets.
const WARNINGS_MAX: usize = 1_000;

/// One connection, as its swarm sees it.
pub(crate) struct Link {
    pub(crate) outbox: Outbox,
    /// Wakes the connection's task: there is something to write, or it is to close.
    pub(crate) wake: Rc<Notify>,
    pub(crate) closing: Option<CloseReason>,
    /// The block that is next to be sent, and waits for its bytes.
    pub(crate) stalled: Option<BlockRef>,
    /// What was sent last, and in how long a row.
    pub(crate) sent: Sent,
}

impl Link {
    /// A connection without anything to write. See [`Outbox::new`] for who `overtakes` whom.
    pub(crate) fn new(wake: &Rc<Notify>, overtakes: bool) -> Link {
        let outbox = Outbox::new(overtakes);
        let wake = Rc::clone(wake);
        Link { outbox, wake, closing: None, stalled: None, sent: Sent::default() }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    pub(crate) fn send(&mut self, message: &Message) {
        self.outbox.push_message(message);
        self.wake.notify_one();
    }

    pub(crate) fn close(&mut self, reason: CloseReason) {
        self.closing = Some(reason);
        self.wake.notify_one();
    }
}

/// A swarm on the network thread, around its state machine.
pub(super) trait Shell: Sized + 'static {
    fn hub(&self) -> &Rc<Hub>;

    fn info_hash(&self) -> InfoHash;

    /// What we call ourselves.
    fn peer_id(&self) -> PeerId;

    /// The extensions that we speak.
    fn reserved(&self) -> Reserved;

    /// Its trackers. Must not be called while the swarm is being changed.
    fn announcing(&self) -> RefMut<'_, Announcing>;

    /// Wakes its own task.
    fn waker(&self) -> &Notify;

    fn emit(&self, event: Event);

    /// What the watcher was warned of.
    fn warned(&self) -> &RefCell<BTreeSet<String>>;

    /// What trackers are told of it, and whether it needs peers now.
    fn transfer(&self) -> (Transfer, bool);

    /// A connection has shaken hands.
    fn connected(self: &Rc<Self>, stream: TcpStream, addr: SocketAddr, inbound: bool, hello: Handshake);

    /// An address could not be dialled: there is nobody (`tried`), or we lacked the means.
    fn not_connected(self: &Rc<Self>, addr: SocketAddr, tried: bool);

    /// A tracker at this address has answered, and named these peers.
    fn told(self: &Rc<Self>, response: &AnnounceResponse, tracker: IpAddr, peers: &[SocketAddr]);

    /// Tells the watcher something that does not end the swarm, once. Others may have a part in the text
    /// (a tracker, a peer): beyond [`WARNINGS_MAX`] different ones nothing more is told.
    fn warn(&self, warning: &str) {
        let mut warned = self.warned().borrow_mut();
        if warned.len() < WARNINGS_MAX && warned.insert(warning.to_owned()) {
            self.emit(Event::Warning(warning.to_owned()));
        }
    }

    async fn dial(self: Rc<Self>, Dial { addr, patience }: Dial) {
        let (reserved, info_hash, peer_id) = (self.reserved(), self.info_hash(), self.peer_id());
        match handshake::dial(self.hub(), addr, patience, Handshake { reserved, info_hash, peer_id }).await {
            Some(Ok((stream, hello))) => self.connected(stream, addr, false, hello),
            Some(Err(error)) if !socket::is_our_own_trouble(&error) => {
                tracing::debug!(%addr, %error, "could not connect");
                self.not_connected(addr, true);
            }
            _ => self.not_connected(addr, false),
        }
    }

    /// What its state machine is told of a connection, and whether the DHT is spoken of on it.
    fn introduce(&self, addr: SocketAddr, inbound: bool, hello: &Handshake) -> (PeerInfo, bool) {
        let reserved = self.reserved();
        let both = |flag: Reserved| hello.reserved.contains(flag) && reserved.contains(flag);
        let (fast, extended) = (both(Reserved::FAST), both(Reserved::EXTENSION));
        (PeerInfo { addr, inbound, peer_id: hello.peer_id, fast, extended }, both(Reserved::DHT))
    }

    /// Lets the announcer begin, and says what is odd about its trackers.
    fn start_announcing(&self) {
        let warnings = {
            let mut announcing = self.announcing();
            announcing.start(self.hub().now());
            announcing.warnings()
        };
        warnings.iter().for_each(|warning| self.warn(warning));
    }

    /// Lets the announcer look at the time and the transfer, and carries out what it wants.
    fn drive_announcer(self: &Rc<Self>) {
        let (transfer, is_alone) = self.transfer();
        let actions = self.announcing().drive(self.hub().now(), transfer, is_alone);
        for action in actions {
            spawn_local(Rc::clone(self).announce(action));
        }
    }

    async fn announce(self: Rc<Self>, action: AnnounceAction) {
        let outcome = announce::ask(self.hub(), &action).await;
        if let Ok((response, tracker)) = &outcome {
            let peers = announce::peers_of(response, &action);
            let (url, external_ip) = (action.url.to_string(), response.external_ip);
            self.emit(Event::Announced { url, peers: peers.len(), external_ip });
            if let Some(warning) = &response.warning {
                self.warn(&format!("{}: {warning}", action.url));
            }
            if let Some(oddity) = announce::oddity(response, &action) {
                self.warn(&format!("{}: {oddity}", action.url));
            }
            self.told(response, *tracker, &peers);
            if !response.oddities.names.is_empty() {
                spawn_local(Rc::clone(&self).told_names(action.url.clone(), response.clone(), *tracker));
            }
        }
        let answer = outcome.as_ref().map(|(response, _)| response);
        let trouble = self.announcing().answered(self.hub().now(), &action, answer);
        if let Err(failure) = &outcome {
            tracing::debug!(tracker = %action.url, family = %action.family, %failure, "announce failed");
            if let Some(trouble) = trouble {
                self.warn(&format!("{}: {trouble}", action.url));
            }
        }
        self.waker().notify_one();
    }

    /// A tracker has named peers by their hosts' names.
    async fn told_names(self: Rc<Self>, url: Url, response: AnnounceResponse, tracker: IpAddr) {
        let (found, lost) = announce::look_up(&response.oddities.names).await;
        for (host, reason) in lost {
            self.warn(&format!("{url}: cannot find its peer {host}: {reason}"));
        }
        self.told(&response, tracker, &found);
        self.waker().notify_one();
    }

    /// Tells the trackers that we stop, and waits for them for a bounded time.
    async fn stop_announcing(self: &Rc<Self>) {
        self.announcing().stop(self.hub().now());
        loop {
            self.drive_announcer();
            let deadline = {
                let announcing = self.announcing();
                if announcing.announcer().is_stopped() {
                    return;
                }
                announcing.poll_timeout().map(|at| self.hub().instant(at))
            };
            let Some(deadline) = deadline else { return };
            tokio::select! {
                () = self.waker().notified() => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
    }
}

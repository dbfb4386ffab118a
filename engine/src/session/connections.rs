//! A torrent's connections: who is dialled, and who has come.

use super::connection::Connection;
use super::event::State;
use super::torrent::TorrentDriver;
use super::traffic::ConnectionOwner;
use crate::Error;
use crate::net::connection;
use crate::net::dial::proxy_error;
use crate::net::handshake::{self, DialPlan, Opened, Ours};
use crate::net::names;
use crate::net::socket::is_local_error;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use swarm_core::id::PeerKey;
use swarm_core::peer::PeerInfo;
use swarm_core::proxy::Destination;
use swarm_core::torrent::discovery::{Dial, Origin};
use swarm_core::torrent::holepunch::HolepunchFailure;
use swarm_core::wire::handshake::{HANDSHAKE_LEN, Reserved};
use tokio::sync::Notify;
use tokio::task::spawn_local;

/// How long until a name of the link that did not resolve is tried again.
const LOOK_UP_RETRY: Duration = Duration::from_secs(60);

impl TorrentDriver {
    /// What we say in handshakes.
    pub(super) fn ours(&self) -> Ours {
        let extensions = Reserved::FAST | Reserved::EXTENSION;
        let reserved = if self.dht().is_some() { extensions | Reserved::DHT } else { extensions };
        Ours { reserved, info_hashes: self.known.info_hashes(), peer_id: self.peer_id }
    }

    /// Looks up a peer that the link names.
    pub(super) async fn look_up(self: Rc<Self>, peer: Destination) {
        if let Some(addr) = peer.addr() {
            return self.handle_addresses(&[addr], Origin::User);
        }
        if self.context.binding.proxy.is_some() {
            return self.warn(&format!(
                "the link's peer {peer} is passed over: with a proxy no names of peers are looked up"
            ));
        }
        let (host, port) = peer.parts();
        while self.inner.borrow().state != State::Stopped {
            match names::look_up(&host, port, &self.context.binding).await {
                Ok(addrs) => return self.handle_addresses(&addrs, Origin::User),
                Err(error) => tracing::info!(%peer, %error, "cannot find a peer of the link"),
            }
            tokio::time::sleep(LOOK_UP_RETRY).await;
        }
    }

    /// Somebody names peers.
    pub(crate) fn handle_addresses(self: &Rc<Self>, addrs: &[SocketAddr], origin: Origin) {
        let now = self.context.now();
        if origin == Origin::User {
            self.warn_of_blocked(addrs);
        }
        self.with(|inner| inner.core.handle_addresses(now, addrs, origin));
    }

    /// The user names peers that his own filter blocks.
    pub(super) fn warn_of_blocked(&self, peers: &[SocketAddr]) {
        let filter = self.context.ip_filter();
        let blocked = peers.iter().filter(|peer| filter.is_blocked(peer.ip()));
        blocked.for_each(|peer| self.warn(&format!("{peer}: the IP filter blocks this peer")));
    }

    /// Dials a peer, once the session may.
    pub(super) async fn dial(self: Rc<Self>, dial: Dial) {
        let Dial { addr, patience, encrypted, .. } = dial;
        if dial.punch {
            return self.punch(dial).await;
        }
        let context = &self.context;
        let opened = {
            let _permit = context.half_open.acquire().await;
            context.dial_pace().await;
            if !context.may_dial(addr.ip()) {
                return self.not_connected(addr, false);
            }
            let encryptor = &context.encryptor;
            // Whoever is behind a NAT begins with uTP.
            let utp_first = dial.utp != (!dial.is_transport_known && context.is_behind_nat(addr));
            let transports = context.transports(addr, utp_first);
            let plan = DialPlan::new(addr, patience, &transports, encryptor.policy.attempts(encrypted));
            let pace = async || context.dial_pace().await;
            handshake::dial(&plan, &context.binding, encryptor, self.ours(), pace, || true).await
        };
        match opened {
            Ok(opened) => {
                context.note_proxy(None);
                self.connected(opened);
            }
            Err(error) if is_local_error(&error) => {
                context.lacks_descriptors();
                self.not_connected(addr, false);
            }
            Err(error) => {
                tracing::debug!(%addr, %error, "could not connect");
                self.inner.borrow_mut().is_refused |= handshake::is_refusal(&error);
                let of_proxy = proxy_error(&error);
                // That is not the peer's fault.
                self.not_connected(addr, of_proxy.is_none());
                if let Some(error) = of_proxy {
                    self.warn(&error);
                    context.note_proxy(Some(error));
                }
            }
        }
    }

    /// Dials a peer that dials us at the same time: at once, or its NAT and ours do not let anything through.
    async fn punch(self: Rc<Self>, Dial { addr, patience, encrypted, .. }: Dial) {
        let context = &self.context;
        // One relay may be connected with us in many torrents. Who waits comes too late.
        let permit = context.punching.try_acquire();
        if permit.is_err() || !context.may_dial(addr.ip()) || !context.may_dial_at_once() {
            return self.not_punched(addr, None);
        }
        let encryptor = &context.encryptor;
        let utp = context.utp_to(addr);
        let plan = DialPlan::punch(addr, patience, utp, encryptor.policy.attempts(encrypted));
        let is_wanted = || self.inner.borrow().core.is_punching(addr);
        let pace = async || context.dial_pace().await;
        let ours = self.ours();
        match handshake::dial(&plan, &context.binding, encryptor, ours, pace, is_wanted).await {
            Ok(opened) => self.connected(opened),
            Err(error) => {
                tracing::debug!(%addr, %error, "no connection by holepunching");
                let failure = match error.kind() {
                    _ if is_local_error(&error) => None,
                    io::ErrorKind::TimedOut => Some(HolepunchFailure::NotReached),
                    _ => Some(HolepunchFailure::Ended),
                };
                self.not_punched(addr, failure);
            }
        }
    }

    fn not_punched(self: &Rc<Self>, addr: SocketAddr, failure: Option<HolepunchFailure>) {
        let now = self.context.now();
        self.with(|inner| inner.core.handle_punch_failed(now, addr, failure));
    }

    /// An address could not be dialled: there is nobody (`tried`), or we lacked the means.
    fn not_connected(self: &Rc<Self>, addr: SocketAddr, tried: bool) {
        let now = self.context.now();
        self.with(|inner| match tried {
            true => inner.core.handle_connect_failed(now, addr),
            false => inner.core.handle_not_dialled(now, addr),
        });
    }

    /// Handshakes have been exchanged: the connection gets a task, if it has a place.
    pub(super) fn connected(self: &Rc<Self>, Opened { stream, theirs, inbound }: Opened) {
        let (now, addr) = (self.context.now(), stream.peer_addr());
        // Nobody goes for one that the torrent turns away.
        if self.inner.borrow().core.is_unwelcome(addr) {
            tracing::debug!(%addr, inbound, "banned, or blocked by the IP filter");
            if !inbound {
                self.not_connected(addr, true);
                self.not_punched(addr, None);
            }
            return;
        }
        // Where the torrent itself is full, this one may take the place of another of its own.
        if !self.inner.borrow().core.is_full() && !self.context.make_place(addr.ip()) {
            if !inbound {
                self.not_connected(addr, false);
                self.not_punched(addr, None);
            }
            return;
        }
        self.count_upload(now, HANDSHAKE_LEN);
        let ours = self.ours().reserved;
        let both = |flag: Reserved| theirs.reserved.contains(flag) && ours.contains(flag);
        let (fast, extended) = (both(Reserved::FAST), both(Reserved::EXTENSION));
        let (encryption, utp) = (stream.encryption(), stream.is_utp());
        let is_punched = self.inner.borrow().core.is_punched(addr, inbound, utp);
        let over =
            if is_punched { format!("{}, punched", stream.manner()) } else { stream.manner().to_owned() };
        tracing::info!(%addr, inbound, over, "connected");
        let v2 = theirs.reserved.contains(Reserved::V2);
        let info = PeerInfo { addr, inbound, peer_id: theirs.peer_id, fast, extended, encryption, utp, v2 };
        let wake = Rc::new(Notify::new());
        let key = self.with(|inner| {
            inner.is_refused = false;
            inner.next_key += 1;
            let key = PeerKey(inner.next_key);
            inner.connections.insert(key, Connection::new(&wake, fast));
            // While nobody was here it was told nothing.
            inner.core.set_pressure(now, self.context.pressure.get());
            inner.core.handle_connected(now, key, info);
            key
        });
        if both(Reserved::DHT) {
            self.send_dht_port(key, addr);
        }
        self.context.connections.set(self.context.connections.get() + 1);
        self.context.torrents.note_active(self.info_hash);
        let task = spawn_local(connection::run(ConnectionOwner::new(self, key), stream, wake));
        let torrent = Rc::clone(self);
        spawn_local(async move {
            let ended = task.await;
            torrent.context.connections.set(torrent.context.connections.get() - 1);
            match ended {
                Ok(why) => tracing::debug!(%addr, %why, "connection ended"),
                Err(panic) => torrent.fail(Error::Defect(panic.to_string())),
            }
            let now = torrent.context.now();
            torrent.with(|inner| {
                inner.connections.remove(&key);
                inner.core.handle_disconnected(now, key);
            });
        });
    }

    pub(super) fn wake_connections(&self) {
        self.inner.borrow().connections.values().for_each(|connection| connection.wake.notify_one());
    }
}

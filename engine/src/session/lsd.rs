//! The session's torrents on the local network: [`swarm_core::lsd`] on its sockets.
//!
//! For each address that peers reach us at, one socket hears the group on that address's interface, and another sends to
//! it from there. A session that listens everywhere has an address for each interface. Where there is no such network,
//! nothing is announced.

use super::running::RunningTorrents;
use crate::clock::Clock;
use crate::net::socket;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use swarm_core::id::InfoHash;
use swarm_core::lsd::{
    Announcement, LSD_DATAGRAM_LEN_MAX, LSD_GROUP_V4, LSD_GROUP_V6, LSD_PORT, LocalDiscovery,
};
use swarm_core::net::Family;
use swarm_core::time::Time;
use swarm_core::torrent::discovery::Origin;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::spawn_local;

/// How many interfaces of a family are used at most.
const INTERFACES_MAX: usize = 16;

/// What of a session the local network is told.
pub(crate) struct SessionLsd {
    core: RefCell<LocalDiscovery>,
    networks: Vec<Network>,
    clock: Clock,
    torrents: Rc<RunningTorrents>,
    wake: Notify,
}

/// The sockets of one address.
struct Network {
    group: SocketAddr,
    /// Where peers of this family reach us.
    port: u16,
    listener: UdpSocket,
    sender: UdpSocket,
}

impl SessionLsd {
    /// Takes part from where the session listens, on this device.
    pub(super) fn open(
        listening: &[SocketAddr],
        device: Option<&str>,
        clock: Clock,
        torrents: Rc<RunningTorrents>,
        cookie: u64,
    ) -> Option<SessionLsd> {
        let port = listening.first()?.port();
        let mut networks = Vec::new();
        for family in Family::ALL {
            let Some(ours) = listening.iter().find(|addr| Family::of(**addr) == family) else { continue };
            for ip in addresses(ours.ip(), device) {
                match open(SocketAddr::new(ip, ours.port()), device) {
                    Ok(network) => networks.push(network),
                    Err(error) => tracing::debug!(%ip, %error, "no local discovery"),
                }
            }
        }
        let core = RefCell::new(LocalDiscovery::new(port, cookie));
        Some(SessionLsd { core, networks, clock, torrents, wake: Notify::new() })
    }

    /// Listens and announces from now on.
    pub(super) fn start(self: &Rc<Self>) {
        for nth in 0..self.networks.len() {
            let lsd = Rc::clone(self);
            spawn_local(async move { lsd.listen(&lsd.networks[nth]).await });
        }
        let lsd = Rc::clone(self);
        spawn_local(async move { lsd.announce().await });
    }

    /// A torrent that others may have is here.
    pub(super) fn add(&self, info_hash: InfoHash) {
        self.core.borrow_mut().add(self.clock.now(), info_hash);
        self.wake.notify_one();
    }

    /// It is here no more.
    pub(super) fn remove(&self, info_hash: InfoHash) {
        self.core.borrow_mut().remove(info_hash);
    }

    async fn announce(&self) {
        for network in &self.networks {
            // Until the runtime has seen that it is, sending at once fails.
            let _ = network.sender.writable().await;
        }
        loop {
            let now = self.clock.now();
            self.core.borrow_mut().handle_timeout(now);
            let announcement = self.core.borrow_mut().poll_announcement();
            if let Some(announcement) = announcement {
                self.send(&announcement);
            }
            let deadline = self.core.borrow().poll_timeout().unwrap_or(Time::MAX);
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(self.clock.instant(deadline)) => {}
            }
        }
    }

    /// Sends if that is possible at once: there will be another announcement.
    fn send(&self, announcement: &Announcement) {
        for network in &self.networks {
            let announcement = Announcement { port: network.port, ..announcement.clone() };
            let datagram = announcement.encode(network.group.ip());
            if let Err(error) = network.sender.try_send_to(&datagram, network.group) {
                tracing::debug!(group = %network.group, %error, "cannot announce to the local network");
            }
        }
    }

    async fn listen(&self, network: &Network) {
        let mut buffer = [0; LSD_DATAGRAM_LEN_MAX + 1];
        loop {
            match network.listener.recv_from(&mut buffer).await {
                Ok((len, from)) => self.on_datagram(from, &buffer[..len]),
                Err(error) => tracing::debug!(%error, "cannot hear the local network"),
            }
        }
    }

    fn on_datagram(&self, from: SocketAddr, datagram: &[u8]) {
        let found = self.core.borrow_mut().handle_datagram(self.clock.now(), from, datagram);
        let Some((peer, info_hashes)) = found else { return };
        let origin = Origin::Local(from.ip());
        for torrent in info_hashes.into_iter().filter_map(|info_hash| self.torrents.get(info_hash)) {
            tracing::debug!(%peer, "found on the local network");
            torrent.handle_addresses(&[peer], origin);
        }
    }
}

/// From where to take part for a session that listens on `ours`: from there; if that is everywhere, from an address of each
/// interface, of `device` only if that is given.
fn addresses(ours: IpAddr, device: Option<&str>) -> Vec<IpAddr> {
    if !ours.is_unspecified() {
        return vec![ours];
    }
    let mut found = BTreeMap::new();
    for interface in if_addrs::get_if_addrs().unwrap_or_default() {
        let ip = interface.ip();
        let is_of_family =
            ip.is_ipv4() == ours.is_ipv4() && !interface.is_loopback() && !interface.is_link_local();
        if is_of_family && device.is_none_or(|device| device == interface.name) {
            found.entry(interface.name).or_insert(ip);
        }
    }
    // Where none is known, the system may still know one.
    if found.is_empty() { vec![ours] } else { found.into_values().take(INTERFACES_MAX).collect() }
}

fn open(ours: SocketAddr, device: Option<&str>) -> io::Result<Network> {
    let group = match Family::of(ours) {
        Family::V4 => SocketAddr::from((LSD_GROUP_V4, LSD_PORT)),
        Family::V6 => SocketAddr::from((LSD_GROUP_V6, LSD_PORT)),
    };
    let listener = socket::group_listener(group, ours.ip(), device)?;
    let sender = socket::group_sender(ours.ip(), device)?;
    Ok(Network { group, port: ours.port(), listener, sender })
}

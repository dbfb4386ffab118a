//! A torrent, the DHT and local discovery.

use super::dht::SessionDht;
use super::lsd::SessionLsd;
use super::torrent::{Inner, TorrentDriver};
use std::net::SocketAddr;
use std::rc::Rc;
use swarm_core::id::{InfoHash, PeerKey};
use swarm_core::metainfo::host_and_port;
use swarm_core::net::{Family, is_local};
use swarm_core::torrent::PORTS_MAX;
use swarm_core::wire::Message;
use tokio::task::spawn_local;

impl TorrentDriver {
    /// The session's node, unless there is none or the torrent is private (BEP 27).
    pub(crate) fn dht(&self) -> Option<Rc<SessionDht>> {
        self.context.dht.borrow().clone().filter(|_| !self.is_private())
    }

    /// Local discovery, unless there is none or the torrent is private (BEP 27).
    pub(super) fn lsd(&self) -> Option<Rc<SessionLsd>> {
        self.context.lsd.borrow().clone().filter(|_| !self.is_private())
    }

    /// Makes it known under all of its info-hashes: to those who dial us, on the DHT, and to the local network.
    pub(super) fn join_swarms(&self) {
        self.context.torrents.insert_others(self.info_hash, self.swarms());
        self.announce_on_dht();
        self.lsd().iter().for_each(|lsd| self.swarms().for_each(|swarm| lsd.add(swarm)));
    }

    /// The info-hashes under which it has peers: its name in the session, and of a hybrid the other.
    pub(super) fn swarms(&self) -> impl Iterator<Item = InfoHash> + use<> {
        let name = self.info_hash;
        std::iter::once(name).chain(self.known.info_hashes().swarms().filter(move |&swarm| swarm != name))
    }

    /// Announces it on the DHT; the first time, the nodes that the metainfo names are asked too.
    pub(super) fn announce_on_dht(&self) {
        let Some(dht) = self.dht() else { return };
        self.swarms().for_each(|swarm| dht.announce(swarm));
        let Some(metainfo) = self.options.source.metainfo() else { return };
        if !self.has_joined.replace(true) && !metainfo.nodes.is_empty() {
            let nodes = metainfo.nodes.iter().take(swarm_core::dht::BUCKET_LEN_MAX);
            let hosts: Vec<String> = nodes.map(|(host, port)| host_and_port(host, *port)).collect();
            spawn_local(async move { dht.join(&hosts).await });
        }
    }

    /// Tells a peer where our node listens.
    pub(super) fn send_dht_port(&self, key: PeerKey, addr: SocketAddr) {
        let port = self.dht().and_then(|dht| dht.port(Family::of(addr)));
        let is_outside = Family::of(addr) == Family::V4 && !is_local(addr.ip());
        let mapped = self.context.mapped_udp_port.get().filter(|_| is_outside);
        let port = port.map(|port| mapped.unwrap_or(port));
        if let Some(port) = port
            && let Some(connection) =
                self.inner.borrow_mut().connections.get_mut(&key).filter(|c| !c.is_closing())
        {
            connection.send(&Message::Port(port));
        }
    }

    /// A peer has told where its node listens.
    pub(super) fn learn_dht_node(&self, inner: &Inner, key: PeerKey, port: u16) {
        if let Some(dht) = self.dht()
            && let Some(peer) = inner.core.peer(key)
            && peer.ports_received() < PORTS_MAX
            && port != 0
        {
            dht.learn(SocketAddr::new(peer.info.addr.ip(), port));
        }
    }
}

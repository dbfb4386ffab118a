//! The DHT on its sockets: one for each address family, with a node behind them.
//!
//! A [`Dht`] belongs to one thread, and needs a tokio runtime there. Somebody has to [`run`](Dht::run) it; whatever else is asked of it takes
//! effect there and then, so that it needs neither locks nor channels. A session runs one beside its
//! torrents, `swarm dht` one by itself.

use crate::clock::Clock;
use crate::net::datagrams::{Relay, is_unseen};
use crate::net::names;
use crate::net::socket::{Binding, ProxyHost};
use crate::net::udp::{Buffers, UdpPort};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
pub use swarm_core::dht::{
    Announce, Event, Item, LookupId, NodeId, NodeInfo, Owner, Samples, mutable_torrent_value,
};
use swarm_core::dht::{Body, DATAGRAM_LEN_MAX, Message, Node, NodeConfig, Query, Question};
use swarm_core::id::InfoHash;
use swarm_core::ip_filter::IpFilter;
use swarm_core::net::Family;
use swarm_core::proxy::{Destination, Proxy};
use swarm_core::rng::Rng;
use swarm_core::time::Time;
use tokio::sync::Notify;

/// How many batches of datagrams are read before others on the thread get their turn.
const READS_IN_A_ROW: usize = 8;
/// How long until names that did not resolve are tried again.
const RESOLVE_RETRY: Duration = Duration::from_secs(60);

/// How many nodes are asked by their names, through a proxy, and how often until they answer.
const NAMED_MAX: usize = 32;
const NAMED_RETRY: Duration = Duration::from_secs(5);

/// Most nodes that are saved.
const SAVED_MAX: usize = 200;

/// Public nodes to start from, for who knows no others.
pub const PUBLIC_NODES: [&str; 3] =
    ["router.bittorrent.com:6881", "dht.transmissionbt.com:6881", "dht.libtorrent.org:25401"];

/// What carries the datagrams of one family.
enum Socket {
    Direct(Rc<UdpPort>),
    Relayed(Rc<Relay>),
}

/// A node of the DHT on its sockets.
pub struct Dht {
    node: RefCell<Node>,
    /// By [`Family`]. Through a proxy there is one for both.
    sockets: [Option<Socket>; 2],
    /// Pings to nodes by their names, through a proxy, by their transactions.
    named: RefCell<BTreeMap<Vec<u8>, Destination>>,
    binding: Binding,
    /// Whether somebody else receives on them, and passes on what is for the node.
    is_fed: bool,
    /// There is something to send, or the timer has changed.
    wake: Notify,
    clock: Clock,
}

impl Dht {
    /// Opens a socket on the first IPv4 and the first IPv6 address of `listen`; if one is taken, on another
    /// port. With `read_only` it asks and does not answer (BEP 43), as befits who is gone in a moment. Needs
    /// a tokio runtime.
    ///
    /// # Errors
    /// What the system says if there can be no socket, or no random bytes.
    pub fn open(listen: &[SocketAddr], bind_device: Option<&str>, read_only: bool) -> io::Result<Dht> {
        Dht::open_by(listen, &on_device(bind_device), read_only)
    }

    /// A node that asks through a proxy, and answers nobody. Needs a tokio runtime.
    ///
    /// # Errors
    /// As for [`open`](Self::open), or if the proxy carries no datagrams.
    pub fn open_through(proxy: Proxy) -> io::Result<Dht> {
        Dht::open_by(&[], &Binding { proxy: Some(ProxyHost::new(proxy)), ..Binding::default() }, true)
    }

    /// The same, through a proxy if there is one: nobody is answered then, since nobody could ask.
    fn open_by(listen: &[SocketAddr], binding: &Binding, read_only: bool) -> io::Result<Dht> {
        if binding.proxy.is_some() {
            // Whether the proxy has a way for a family shows in who answers.
            let relay = Rc::new(Relay::open(binding)?);
            let sockets = Family::ALL.map(|_| Some(Socket::Relayed(Rc::clone(&relay))));
            return Dht::on(sockets, binding, true, false);
        }
        let mut sockets = [None, None];
        for family in Family::ALL {
            if let Some(addr) = listen.iter().find(|addr| Family::of(**addr) == family) {
                sockets[family as usize] = Some(Socket::Direct(Rc::new(UdpPort::open(*addr, binding)?)));
            }
        }
        Dht::on(sockets, binding, read_only, false)
    }

    /// A node on these sockets.
    fn on(sockets: [Option<Socket>; 2], binding: &Binding, read_only: bool, is_fed: bool) -> io::Result<Dht> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).map_err(io::Error::other)?;
        let mut rng = Rng::new(getrandom::u64().map_err(io::Error::other)?);
        let mut id = |family: Family| {
            let addr = sockets[family as usize].as_ref()?.local_addr();
            // Who listens everywhere, or through a proxy, learns from others where it is.
            Some(match addr.filter(|addr| !addr.ip().is_unspecified()) {
                Some(addr) => NodeId::for_address(addr.ip(), &mut rng),
                None => NodeId::random(&mut rng),
            })
        };
        let (id_v4, id_v6, ip_filter) = (id(Family::V4), id(Family::V6), Arc::default());
        let config = NodeConfig { id_v4, id_v6, secret, read_only, enforce_ids: true, ip_filter };
        let clock = Clock::start();
        let node = RefCell::new(Node::new(clock.now(), config, rng));
        let (binding, named) = (binding.clone(), RefCell::default());
        Ok(Dht { node, sockets, named, binding, is_fed, wake: Notify::new(), clock })
    }

    /// A node for each address of one family: the first of each family belong together, and so on (BEP 45).
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_all(
        listen: &[SocketAddr],
        bind_device: Option<&str>,
        read_only: bool,
    ) -> io::Result<Vec<Dht>> {
        Dht::open_all_by(listen, &on_device(bind_device), read_only)
    }

    /// The same, through a proxy if there is one, and then one node.
    pub(crate) fn open_all_by(
        listen: &[SocketAddr],
        binding: &Binding,
        read_only: bool,
    ) -> io::Result<Vec<Dht>> {
        if binding.proxy.is_some() {
            return Ok(vec![Dht::open_by(listen, binding, read_only)?]);
        }
        let of = |family| listen.iter().copied().filter(move |addr| Family::of(*addr) == family);
        let count = Family::ALL.map(|family| of(family).count()).into_iter().max().unwrap_or(0);
        let open = |nth| {
            let addrs: Vec<SocketAddr> =
                Family::ALL.into_iter().filter_map(|family| of(family).nth(nth)).collect();
            Dht::open_by(&addrs, binding, read_only)
        };
        (0..count).map(open).collect()
    }

    /// The same on sockets that somebody else receives on, who calls [`handle_datagram`](Self::handle_datagram).
    pub(crate) fn on_all(ports: &[Rc<UdpPort>], binding: &Binding) -> io::Result<Vec<Dht>> {
        let of = |family| {
            let is_of =
                move |port: &&Rc<UdpPort>| port.local_addr().is_ok_and(|addr| Family::of(addr) == family);
            ports.iter().filter(is_of).map(Rc::clone).collect::<Vec<_>>()
        };
        let (mut v4, mut v6) = (of(Family::V4).into_iter(), of(Family::V6).into_iter());
        let mut dhts = Vec::new();
        loop {
            let sockets = [v4.next(), v6.next()].map(|port| port.map(Socket::Direct));
            if sockets.iter().all(Option::is_none) {
                return Ok(dhts);
            }
            dhts.push(Dht::on(sockets, binding, false, true)?);
        }
    }

    /// A datagram has come on this socket: the node takes it if the socket is one of its own.
    pub(crate) fn handle_datagram(&self, on: &Rc<UdpPort>, from: SocketAddr, datagram: &[u8]) {
        let is_on = |socket: &Socket| matches!(socket, Socket::Direct(port) if Rc::ptr_eq(port, on));
        if self.sockets.iter().flatten().any(is_on) {
            self.with(|node, now| node.handle_datagram(now, from, datagram));
        }
    }

    /// The address of the socket of a family, if there is one.
    pub fn local_addr(&self, family: Family) -> Option<SocketAddr> {
        self.sockets[family as usize].as_ref()?.local_addr()
    }

    /// The families that it takes part in.
    pub fn families(&self) -> impl Iterator<Item = Family> + '_ {
        Family::ALL.into_iter().filter(|family| self.sockets[*family as usize].is_some())
    }

    /// What it goes through, if that is a proxy, where nobody can ask it anything.
    fn relay(&self) -> Option<&Relay> {
        self.sockets.iter().flatten().find_map(|socket| match socket {
            Socket::Relayed(relay) => Some(&**relay),
            Socket::Direct(_) => None,
        })
    }

    pub(crate) fn is_relayed(&self) -> bool {
        self.relay().is_some()
    }

    /// Whether it can be reached from this machine only.
    pub fn is_local(&self) -> bool {
        let mut addrs = self.families().filter_map(|family| self.local_addr(family));
        !self.is_relayed() && addrs.all(|addr| addr.ip().is_loopback())
    }

    /// Looks for peers of a swarm. Gives [`Event::Peers`] as they are found, then [`Event::Done`].
    pub fn get_peers(&self, family: Family, info_hash: InfoHash) -> LookupId {
        self.with(|node, now| node.get_peers(now, family, info_hash))
    }

    /// The same, and tells the nodes nearest to the swarm's key that we are in it.
    pub fn announce(&self, family: Family, info_hash: InfoHash, what: Announce) -> LookupId {
        self.with(|node, now| node.announce(now, family, info_hash, what))
    }

    /// Asks how many peers a swarm has (BEP 33). Gives [`Event::Peers`] as well as they are found, then [`Event::Scraped`], then
    /// [`Event::Done`].
    pub fn scrape(&self, family: Family, info_hash: InfoHash) -> LookupId {
        self.with(|node, now| node.scrape(now, family, info_hash))
    }

    /// Asks nodes near `target` which swarms they know peers of (BEP 51). Gives [`Event::Samples`] for each that answers, then
    /// [`Event::Done`].
    pub fn sample_infohashes(&self, family: Family, target: NodeId) -> LookupId {
        self.with(|node, now| node.sample_infohashes(now, family, target))
    }

    /// Looks for the item kept at `target` (BEP 44); `salt` is that of a mutable one. Gives [`Event::Item`] for each newer version that
    /// turns up, then [`Event::Done`].
    pub fn get_item(&self, family: Family, target: NodeId, salt: &[u8]) -> LookupId {
        self.with(|node, now| node.get_item(now, family, target, salt))
    }

    /// Has the nodes nearest to an item's place keep it (BEP 44); `cas` is the version that must be there.
    pub fn put_item(&self, family: Family, item: Item, cas: Option<i64>) -> LookupId {
        self.with(|node, now| node.put_item(now, family, item, cas))
    }

    /// Sees whether there is a node at an address, to know it if there is. Nothing if much is on its way already.
    pub fn ping(&self, addr: SocketAddr) {
        self.with(|node, now| node.ping(now, addr));
    }

    /// How many peers of how many swarms others have announced here.
    pub fn stored(&self) -> (usize, usize) {
        self.node.borrow().stored()
    }

    /// Neither asks nor answers nodes at these addresses from now on.
    pub fn set_ip_filter(&self, filter: Arc<IpFilter>) {
        self.with(|node, _| node.set_ip_filter(filter));
    }

    /// Calls the node with the time.
    fn with<R>(&self, act: impl FnOnce(&mut Node, Time) -> R) -> R {
        let result = act(&mut self.node.borrow_mut(), self.clock.now());
        self.wake.notify_one();
        result
    }

    /// The IDs and known nodes, to be saved.
    pub fn saved(&self) -> Saved {
        let node = self.node.borrow();
        let id = |family| Some((self.local_addr(family)?, node.id(family)?));
        let nodes = self.families().flat_map(|family| node.nodes(family)).map(|info| info.addr);
        Saved { ids: self.families().filter_map(id).collect(), nodes: nodes.collect() }
    }

    /// Takes the ids again that it had when it last listened at the same addresses. To be called before
    /// [`join`](Self::join).
    pub fn resume(&self, saved: &Saved) {
        for (addr, id) in &saved.ids {
            let family = Family::of(*addr);
            let fits = addr.ip().is_unspecified() || id.is_allowed_for(addr.ip());
            if fits && self.local_addr(family) == Some(*addr) {
                self.with(|node, now| node.resume_id(now, family, *id));
            }
        }
    }

    /// Joins by nodes named as `HOST:PORT`, asking again for names that do not resolve until one does.
    pub async fn join(&self, hosts: &[String]) {
        if let Some(relay) = self.relay() {
            return self.join_by_relay(relay, hosts).await;
        }
        loop {
            let mut found = Vec::new();
            for host in hosts {
                let Some((name, port)) = Destination::parse(host).map(|host| host.parts()) else { continue };
                match names::look_up(&name, port, &self.binding).await {
                    Ok(addrs) => found.extend(addrs),
                    Err(error) => tracing::info!(%host, %error, "cannot find a node to join the DHT by"),
                }
            }
            if !found.is_empty() || hosts.is_empty() {
                return self.with(|node, now| node.join(now, &found));
            }
            tokio::time::sleep(RESOLVE_RETRY).await;
        }
    }

    /// Joins through a proxy: nodes that are known by their names only are asked by these, and where they are shows who answers.
    async fn join_by_relay(&self, relay: &Relay, hosts: &[String]) {
        relay.opened().await;
        let hosts = hosts.iter().filter_map(|host| Destination::parse(host));
        let (named, known): (Vec<_>, Vec<_>) = hosts.partition(|host| host.addr().is_none());
        let known: Vec<SocketAddr> = known.iter().filter_map(Destination::addr).collect();
        if !known.is_empty() {
            self.with(|node, now| node.join(now, &known));
        }
        for host in named.into_iter().take(NAMED_MAX) {
            let mut transaction = vec![0; 8];
            if getrandom::fill(&mut transaction).is_ok() {
                self.named.borrow_mut().insert(transaction, host);
            }
        }
        while self.ping_named(relay) {
            tokio::time::sleep(NAMED_RETRY).await;
        }
    }

    /// Pings the nodes that have only names. Whether there are any.
    fn ping_named(&self, relay: &Relay) -> bool {
        let Some(id) = self.node.borrow().id(Family::V4) else { return false };
        let named = self.named.borrow();
        for (transaction, host) in &*named {
            let query = Query { id, want: Vec::new(), question: Question::Ping };
            let (transaction, body) = (transaction.clone(), Body::Query(query));
            let ping = Message { transaction, external_addr: None, read_only: true, body };
            if let Err(error) = relay.try_send_to(&ping.encode(), host) {
                tracing::trace!(%host, %error, "cannot send");
            }
        }
        !named.is_empty()
    }

    /// A datagram has come through the proxy: if one of the nodes that have only names has answered, it is known now.
    fn handle_relayed(&self, node: &mut Node, from: SocketAddr, datagram: &[u8]) {
        if is_unseen(from) {
            return;
        }
        let mut named = self.named.borrow_mut();
        if !named.is_empty()
            && let Ok(Message { body: Body::Response(_), transaction, .. }) = Message::parse(datagram)
            && named.remove(&transaction).is_some()
        {
            return node.join(self.clock.now(), &[from]);
        }
        node.handle_datagram(self.clock.now(), from, datagram);
    }

    /// Serves the sockets for as long as it is polled, and passes events on.
    pub async fn run(&self, mut on_event: impl FnMut(Event)) {
        let mut buffers = (!self.is_fed && !self.is_relayed()).then(Buffers::new);
        for socket in self.sockets.iter().flatten() {
            // Until the runtime has seen that it is, sending at once fails.
            if let Socket::Direct(port) = socket {
                let _ = port.writable().await;
            }
        }
        loop {
            let deadline = {
                let mut node = self.node.borrow_mut();
                let now = self.clock.now();
                if node.poll_timeout().is_some_and(|at| at <= now) {
                    node.handle_timeout(now);
                }
                while let Some((to, datagram)) = node.poll_datagram() {
                    self.send(to, &datagram);
                }
                node.poll_timeout().map_or(Duration::MAX, |at| at.since(now)).min(Duration::from_secs(3_600))
            };
            // The receiver may call the node.
            while let Some(event) = self.poll_event() {
                on_event(event);
            }
            let [v4, v6] = &self.sockets;
            tokio::select! {
                () = readable(v4.as_ref()), if !self.is_fed => self.receive(v4.as_ref(), &mut buffers),
                () = readable(v6.as_ref()), if !self.is_fed => self.receive(v6.as_ref(), &mut buffers),
                () = self.wake.notified() => {}
                () = tokio::time::sleep(deadline) => {}
            }
        }
    }

    fn poll_event(&self) -> Option<Event> {
        self.node.borrow_mut().poll_event()
    }

    /// Sends if that is possible at once: a datagram that does not fit may as well be lost.
    fn send(&self, to: SocketAddr, datagram: &[u8]) {
        if let Some(socket) = &self.sockets[Family::of(to) as usize]
            && let Err(error) = socket.try_send(to, datagram)
        {
            tracing::trace!(%to, %error, "cannot send");
        }
    }

    fn receive(&self, socket: Option<&Socket>, buffers: &mut Option<Buffers>) {
        let Some(socket) = socket else { return };
        let mut node = self.node.borrow_mut();
        for _ in 0..READS_IN_A_ROW {
            let received = match (socket, &mut *buffers) {
                (Socket::Direct(port), Some(buffers)) => port.try_receive(buffers, |from, datagram| {
                    node.handle_datagram(self.clock.now(), from, datagram);
                }),
                (Socket::Direct(_), None) => return,
                (Socket::Relayed(relay), _) => {
                    let mut buffer = [0; DATAGRAM_LEN_MAX + 1];
                    relay.try_recv_from(&mut buffer).map(|(len, from)| {
                        self.handle_relayed(&mut node, from, &buffer[..len]);
                    })
                }
            };
            match received {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Some systems report here that an earlier datagram found nobody.
                Err(error) => tracing::trace!(%error, "cannot receive"),
            }
        }
    }
}

impl Socket {
    /// Our own address; none through a proxy.
    fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Socket::Direct(port) => port.local_addr().ok(),
            Socket::Relayed(_) => None,
        }
    }

    async fn readable(&self) -> io::Result<()> {
        match self {
            Socket::Direct(port) => port.readable().await,
            Socket::Relayed(relay) => relay.readable().await,
        }
    }

    fn try_send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        match self {
            Socket::Direct(port) => port.try_send(to, datagram, datagram.len()),
            Socket::Relayed(relay) => relay.try_send_to(datagram, &to.into()),
        }
    }
}

/// Without a proxy.
fn on_device(device: Option<&str>) -> Binding {
    Binding { device: device.map(str::to_owned), ..Binding::default() }
}

/// What a node keeps for another time: a text, one thing a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Saved {
    /// Its ids, each with the address of the socket that goes by it. Only who listens there may take it
    /// again: two nodes of one id are one too many.
    pub ids: Vec<(SocketAddr, NodeId)>,
    /// The nodes that it knew.
    pub nodes: Vec<SocketAddr>,
}

impl Saved {
    /// Of several nodes.
    pub fn of(dhts: &[Dht]) -> Saved {
        let mut all = Saved::default();
        for saved in dhts.iter().map(Dht::saved) {
            all.ids.extend(saved.ids);
            all.nodes.extend(saved.nodes);
        }
        all
    }

    /// What a file holds; nothing if there is no such file. Other lines are ignored.
    ///
    /// # Errors
    /// What the system says if the file is there and cannot be read.
    pub fn read(file: &Path) -> io::Result<Saved> {
        let text = match std::fs::read_to_string(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        let mut saved = Saved::default();
        for line in text.lines().take(2 * SAVED_MAX) {
            let (addr, id) = line.split_once(' ').map_or((line, None), |(addr, id)| (addr, Some(id)));
            match (addr.parse(), id.map(str::parse::<InfoHash>)) {
                (Ok(addr), None) => saved.nodes.push(addr),
                (Ok(addr), Some(Ok(id))) => saved.ids.push((addr, id.into())),
                _ => {}
            }
        }
        Ok(saved)
    }

    /// Writes it to a file, in the place of what was there. Without any nodes it does nothing: who has lost
    /// the network keeps what it had.
    ///
    /// # Errors
    /// What the system says if the file cannot be written.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        if self.nodes.is_empty() {
            return Ok(());
        }
        let ids = self.ids.iter().map(|(addr, id)| format!("{addr} {id}\n"));
        let nodes = self.nodes.iter().take(SAVED_MAX).map(|addr| format!("{addr}\n"));
        let mut part = file.as_os_str().to_owned();
        part.push(".part");
        std::fs::write(&part, ids.chain(nodes).collect::<String>())
            .and_then(|()| std::fs::rename(&part, file))
    }

    /// The nodes as [`Dht::join`] takes them.
    pub fn hosts(&self) -> impl Iterator<Item = String> + '_ {
        self.nodes.iter().map(SocketAddr::to_string)
    }
}

async fn readable(socket: Option<&Socket>) {
    match socket {
        Some(socket) if socket.readable().await.is_ok() => {}
        _ => pending().await,
    }
}

//! A torrent of which only a magnet link is known: its own small swarm of connections, until the metadata is here.
//!
//! The search itself is [`swarm_core::torrent::fetch`]. Trackers, the DHT and peers that dial us serve it as they serve
//! torrents ([`Swarm`] is either); its connections end with it, and the addresses that it knows are handed on.

use super::announce::Announcing;
use super::event::{Event, Waiting};
use super::hub::Hub;
use super::shell::{Link, Shell};
use super::stats::Ways;
use super::torrent::TorrentShell;
use crate::Error;
use crate::net::reader::{Progress, Reader, Sink};
use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;
use swarm_core::id::{BlockRef, InfoHash, PeerId, PeerKey};
use swarm_core::metainfo::{Magnet, Metainfo, host_and_port};
use swarm_core::net::Family;
use swarm_core::time::Time;
use swarm_core::torrent::discovery::Origin;
use swarm_core::torrent::fetch::{Fetch, FetchConfig, FetchEvent, METADATA_LEN_MAX};
use swarm_core::torrent::{Action, CloseReason};
use swarm_core::tracker::AnnounceResponse;
use swarm_core::tracker::announcer::{NUMWANT_MAX, TrackerUrls, Transfer};
use swarm_core::wire::handshake::{Handshake, Reserved};
use swarm_core::wire::{DecodeLimits, Message, peer_id};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::spawn_local;

/// What trackers are told to be left while nobody knows: anything but nothing, which is what seeds say.
const LEFT_UNKNOWN: u64 = 16 * 1024;
/// How many addresses are handed on with the metadata.
const PEERS_MAX: usize = 200;
/// A peer that does not read what it asks of us may cost this much memory, in bytes.
const OUTBOX_MAX: usize = 64 * 1024;
/// How long until a name of the link that did not resolve is tried again.
const RESOLVE_RETRY: Duration = Duration::from_secs(60);

/// What to fetch, and where to look.
#[derive(Clone, Debug)]
pub struct FetchMetadata {
    /// The link: which torrent, with its trackers and peers.
    pub magnet: Magnet,
    /// More peers.
    pub peers: Vec<SocketAddr>,
    /// More trackers, a tier each. Unlike the link's, they may be anywhere on this machine and network.
    pub trackers: Vec<String>,
    /// Whether the link's trackers are used.
    pub use_link_trackers: bool,
    /// The shortest interval between two announces that a tracker may impose.
    pub announce_interval_min: Duration,
}

impl FetchMetadata {
    /// What a link says.
    pub fn new(magnet: Magnet) -> FetchMetadata {
        FetchMetadata {
            magnet,
            peers: Vec::new(),
            trackers: Vec::new(),
            use_link_trackers: true,
            announce_interval_min: Duration::from_secs(60),
        }
    }
}

/// A torrent that was known by its link only.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// What it is. Its trackers and web seeds are the link's.
    pub metainfo: Metainfo,
    /// Where peers may be, those that were connected first; of a private torrent only those that trackers named (BEP
    /// 27).
    pub peers: Vec<SocketAddr>,
}

/// A fetch that is under way. Dropping it ends it.
#[derive(Debug)]
pub struct Fetching {
    pub(super) result: oneshot::Receiver<Result<Fetched, Error>>,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) status: watch::Receiver<FetchStatus>,
}

/// How a fetch stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchStatus {
    /// How many peers are connected.
    pub peers: usize,
    /// Why nothing comes; `None` while some peer offers the metadata.
    pub waiting: Option<Waiting>,
}

impl Fetching {
    /// How it stands.
    pub fn status(&self) -> FetchStatus {
        self.status.borrow().clone()
    }

    /// Returns when [`status`](Self::status) has changed since the last time.
    pub async fn changed(&mut self) {
        if self.status.changed().await.is_err() {
            // It has ended: nothing changes any more.
            std::future::pending::<()>().await;
        }
    }

    /// The next thing that happens (announces, warnings, bans), or the result. Not to be called after that.
    pub async fn next(&mut self) -> ControlFlow<Result<Fetched, Error>, Event> {
        tokio::select! {
            biased;
            Some(event) = self.events.recv() => ControlFlow::Continue(event),
            result = &mut self.result => ControlFlow::Break(result.unwrap_or(Err(Error::Stopped))),
        }
    }

    /// Waits for the metadata, for as long as it takes.
    ///
    /// # Errors
    /// [`Error::Metainfo`] if it has the right hash and makes no usable torrent, [`Error::AlreadyAdded`] if the session has
    /// this torrent, [`Error::Stopped`] if the session ends first.
    pub async fn done(mut self) -> Result<Fetched, Error> {
        loop {
            if let ControlFlow::Break(result) = self.next().await {
                return result;
            }
        }
    }
}

/// How the session's thread reports on a fetch.
pub(crate) struct FetchReply {
    pub(super) result: oneshot::Sender<Result<Fetched, Error>>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) status: watch::Sender<FetchStatus>,
}

/// Whatever of this session peers may want to talk about by an info-hash.
#[derive(Clone)]
pub(crate) enum Swarm {
    Torrent(Rc<TorrentShell>),
    Fetch(Rc<FetchShell>),
}

impl Swarm {
    /// What we are called in it, and what we speak.
    pub(crate) fn greeting(&self) -> (PeerId, Reserved) {
        match self {
            Swarm::Torrent(torrent) => (torrent.peer_id(), torrent.reserved()),
            Swarm::Fetch(fetch) => (fetch.peer_id(), fetch.reserved()),
        }
    }

    /// A peer that dialled us has shaken hands.
    pub(crate) fn accepted(&self, stream: TcpStream, addr: SocketAddr, hello: Handshake) {
        match self {
            Swarm::Torrent(torrent) => torrent.connected(stream, addr, true, hello),
            Swarm::Fetch(fetch) => fetch.connected(stream, addr, true, hello),
        }
    }

    /// The DHT or the local network names peers.
    pub(crate) fn handle_addresses(&self, addrs: &[SocketAddr], origin: Origin) {
        match self {
            Swarm::Torrent(torrent) => {
                let now = torrent.now();
                torrent.with(|inner| inner.core.handle_addresses(now, addrs, origin));
            }
            Swarm::Fetch(fetch) => fetch.learn(addrs, origin),
        }
    }

    /// Must not be called while the torrent is being changed.
    pub(crate) fn is_complete(&self) -> bool {
        matches!(self, Swarm::Torrent(torrent) if torrent.is_complete())
    }

    /// Whether it wants data and has nobody to ask.
    pub(crate) fn is_lonely(&self) -> bool {
        match self {
            Swarm::Torrent(torrent) => torrent.is_lonely(),
            // Whoever is connected may have nothing, or lie.
            Swarm::Fetch(_) => true,
        }
    }
}

/// One fetch on the network thread.
pub(crate) struct FetchShell {
    hub: Rc<Hub>,
    options: FetchMetadata,
    peer_id: PeerId,
    inner: RefCell<Inner>,
    events: mpsc::Sender<Event>,
    status: watch::Sender<FetchStatus>,
    /// What the watcher was warned of.
    warned: RefCell<BTreeSet<String>>,
    /// Wakes the fetch's own task: its timer may have changed, or there is a result.
    wake: Notify,
    /// It is to end without a result.
    given_up: Notify,
}

struct Inner {
    core: Fetch,
    links: BTreeMap<PeerKey, Link>,
    announcing: Announcing,
    found: Option<Vec<u8>>,
    next_key: u32,
}

/// Runs a fetch to its end, or until nobody waits for it any more.
pub(super) async fn run(hub: Rc<Hub>, options: FetchMetadata, mut reply: FetchReply) {
    let info_hash = options.magnet.info_hash;
    let shell = Rc::new(FetchShell::new(Rc::clone(&hub), options, &reply));
    hub.fetches.borrow_mut().insert(info_hash, Rc::clone(&shell));
    let local = hub.lsd.borrow().clone();
    if let Some(lsd) = &local {
        lsd.add(info_hash);
    }
    let result = tokio::select! {
        result = Rc::clone(&shell).fetch() => Some(result),
        () = reply.result.closed() => None,
        () = shell.given_up.notified() => None,
    };
    hub.fetches.borrow_mut().remove(&info_hash);
    if let Some(lsd) = &local {
        lsd.remove(info_hash);
    }
    shell.close_all();
    match result {
        // Who has lost interest needs no answer.
        Some(result) => drop(reply.result.send(result)),
        // A torrent that is found goes on where we are. One that is given up does not.
        None => shell.stop_announcing().await,
    }
}

impl FetchShell {
    fn new(hub: Rc<Hub>, options: FetchMetadata, reply: &FetchReply) -> FetchShell {
        let mut rng = hub.rng.borrow_mut().fork();
        let peer_id = peer_id(&mut rng);
        let info_hash = options.magnet.info_hash;
        let mut config = FetchConfig::new(info_hash, peer_id);
        config.listen_port = hub.listening.first().map(SocketAddr::port);
        let links: Vec<Vec<String>> = options.magnet.trackers.iter().map(|url| vec![url.clone()]).collect();
        let by_link = if options.use_link_trackers { &links[..] } else { &[] };
        let named = TrackerUrls { by_metainfo: by_link, by_user: &options.trackers };
        let interval_min = options.announce_interval_min;
        let announcing = Announcing::of(&hub, info_hash, peer_id, interval_min, false, named, rng.fork());
        let inner = Inner {
            core: Fetch::new(config, rng),
            links: BTreeMap::new(),
            announcing,
            found: None,
            next_key: 0,
        };
        let (events, status) = (reply.events.clone(), reply.status.clone());
        let (warned, wake, given_up) = Default::default();
        FetchShell {
            hub,
            options,
            peer_id,
            inner: RefCell::new(inner),
            events,
            status,
            warned,
            wake,
            given_up,
        }
    }

    /// Ends it without a result.
    pub(super) fn give_up(&self) {
        self.given_up.notify_one();
    }

    /// Everything that happens until the metadata is here.
    async fn fetch(self: Rc<Self>) -> Result<Fetched, Error> {
        self.start_announcing();
        self.learn(&self.options.peers, Origin::User);
        for (host, port) in &self.options.magnet.peers {
            spawn_local(Rc::clone(&self).look_up(host_and_port(host, *port)));
        }
        if let Some(dht) = self.hub.dht.borrow().as_ref() {
            dht.announce(self.options.magnet.info_hash);
        }
        loop {
            let found = self.inner.borrow_mut().found.take();
            if let Some(bytes) = found {
                let metainfo = Metainfo::from_magnet(&self.options.magnet, &bytes)?;
                let peers = self.peers_to_hand_on(metainfo.info.private);
                return Ok(Fetched { metainfo, peers });
            }
            self.drive_announcer();
            let deadline = {
                let inner = self.inner.borrow();
                self.tell_status(&inner);
                let times = [inner.core.poll_timeout(), inner.announcing.poll_timeout()];
                self.hub.instant(times.into_iter().flatten().min().unwrap_or(Time::MAX))
            };
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(deadline) => {
                    let now = self.hub.now();
                    self.with(|inner| inner.core.handle_timeout(now));
                }
            }
        }
    }

    async fn look_up(self: Rc<Self>, peer: String) {
        loop {
            match tokio::net::lookup_host(&peer).await {
                Ok(addrs) => return self.learn(&addrs.collect::<Vec<_>>(), Origin::User),
                Err(error) => tracing::info!(%peer, %error, "cannot find a peer of the link"),
            }
            tokio::time::sleep(RESOLVE_RETRY).await;
            if self.hub.fetches.borrow().get(&self.options.magnet.info_hash).is_none() {
                return;
            }
        }
    }

    fn learn(self: &Rc<Self>, addrs: &[SocketAddr], origin: Origin) {
        let now = self.hub.now();
        self.with(|inner| inner.core.handle_addresses(now, addrs, origin));
    }

    /// Who was connected, then whoever else is known.
    fn peers_to_hand_on(&self, is_private: bool) -> Vec<SocketAddr> {
        let inner = self.inner.borrow();
        let welcome = inner.core.addresses().filter(|(addr, by_tracker)| {
            !inner.core.is_banned(*addr) && (*by_tracker || !is_private || self.options.peers.contains(addr))
        });
        welcome.map(|(addr, _)| addr).take(PEERS_MAX).collect()
    }

    /// Hands an input to the state machine and carries out what it wants.
    fn with(self: &Rc<Self>, input: impl FnOnce(&mut Inner)) {
        let mut inner = self.inner.borrow_mut();
        input(&mut inner);
        while let Some(action) = inner.core.poll_action() {
            match action {
                Action::Send { peer, message } => {
                    inner.links.get_mut(&peer).into_iter().for_each(|link| link.send(&message));
                }
                Action::Close { peer, reason } => {
                    inner.links.get_mut(&peer).into_iter().for_each(|link| link.close(reason.clone()));
                }
                Action::Connect(dial) => {
                    spawn_local(Rc::clone(self).dial(dial));
                }
                _ => {}
            }
        }
        while let Some(event) = inner.core.poll_event() {
            match event {
                FetchEvent::Fetched(bytes) => inner.found = Some(bytes),
                FetchEvent::PeerBanned { addr, reason } => {
                    self.emit(Event::PeerBanned { addr, reason: reason.to_string() });
                }
                _ => {}
            }
        }
        self.tell_status(&inner);
        self.wake.notify_one();
    }

    fn tell_status(&self, inner: &Inner) {
        let status = FetchStatus { peers: inner.core.peer_count(), waiting: self.waiting(inner) };
        self.status.send_if_modified(|told| {
            let is_new = *told != status;
            *told = status;
            is_new
        });
    }

    /// Why nothing comes, if nothing comes.
    fn waiting(&self, inner: &Inner) -> Option<Waiting> {
        if let Some((len, peers)) = inner.core.too_long() {
            return Some(Waiting::MetadataTooLong { len, limit: METADATA_LEN_MAX, peers });
        }
        if inner.core.peer_count() > 0 {
            return (!inner.core.is_offered()).then_some(Waiting::NoMetadata);
        }
        let magnet = &self.options.magnet;
        let ways = Ways {
            announcer: inner.announcing.announcer(),
            dht: self.hub.dht.borrow().is_some(),
            local: self.hub.lsd.borrow().is_some(),
            named: !magnet.peers.is_empty() || !self.options.peers.is_empty(),
            web_seeds: !magnet.web_seeds.is_empty(),
        };
        Some(ways.waiting())
    }

    fn close_all(&self) {
        let mut inner = self.inner.borrow_mut();
        let open = inner.links.values_mut().filter(|link| !link.is_closing());
        open.for_each(|link| link.close(CloseReason::Stopped));
    }

    /// Serves a connection until it ends; says why it did.
    async fn serve(
        self: &Rc<Self>,
        key: PeerKey,
        addr: SocketAddr,
        stream: &TcpStream,
        wake: &Notify,
    ) -> String {
        let mut reader = Reader::new(DecodeLimits::default());
        loop {
            let is_blocked = match self.flush(key, stream) {
                Ok(is_blocked) => is_blocked,
                Err(why) => return why,
            };
            tokio::select! {
                () = wake.notified() => continue,
                ready = stream.writable(), if is_blocked => match ready {
                    Ok(()) => continue,
                    Err(error) => return error.to_string(),
                },
                ready = stream.readable() => if let Err(error) = ready {
                    return error.to_string();
                },
            }
            let mut heard = Heard::default();
            let read = {
                let mut scratch = self.hub.scratch.borrow_mut();
                reader.read(stream, &mut scratch, usize::MAX, &mut heard)
            };
            let now = self.hub.now();
            self.with(|inner| {
                heard.messages.iter().for_each(|message| inner.core.handle_message(now, key, message));
            });
            self.learn_nodes(addr, &heard.messages);
            match read {
                Ok((_, Progress::Eof)) => return "the peer closed the connection".to_owned(),
                Ok((_, Progress::NoMemory)) => return "it sent a block that nobody asked for".to_owned(),
                Ok(_) => {}
                Err(error) => return error.to_string(),
            }
        }
    }

    /// Peers tell of the DHT nodes beside them.
    fn learn_nodes(&self, addr: SocketAddr, messages: &[Message]) {
        let port = messages.iter().find_map(|message| match message {
            Message::Port(port) if *port != 0 => Some(*port),
            _ => None,
        });
        if let Some((port, dht)) = port.zip(self.hub.dht.borrow().as_ref()) {
            dht.learn(SocketAddr::new(addr.ip(), port));
        }
    }

    /// Writes what waits for a connection. Whether the socket takes no more for now; as an error, why it is to end.
    fn flush(&self, key: PeerKey, stream: &TcpStream) -> Result<bool, String> {
        loop {
            let mut inner = self.inner.borrow_mut();
            let link = inner.links.get_mut(&key).ok_or("gone")?;
            if let Some(reason) = &link.closing {
                return Err(reason.to_string());
            }
            if link.outbox.len() == 0 {
                return Ok(false);
            }
            if link.outbox.control_bytes() > OUTBOX_MAX {
                return Err("it does not read what it is sent".to_owned());
            }
            match stream.try_write_vectored(&link.outbox.slices()) {
                Ok(count) => {
                    link.outbox.advance(count);
                    self.hub.upload.take(self.hub.now(), count as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

impl Shell for FetchShell {
    fn hub(&self) -> &Rc<Hub> {
        &self.hub
    }

    fn info_hash(&self) -> InfoHash {
        self.options.magnet.info_hash
    }

    fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    fn reserved(&self) -> Reserved {
        self.hub.reserved(false)
    }

    fn announcing(&self) -> RefMut<'_, Announcing> {
        RefMut::map(self.inner.borrow_mut(), |inner| &mut inner.announcing)
    }

    fn waker(&self) -> &Notify {
        &self.wake
    }

    /// Who falls far behind misses some.
    fn emit(&self, event: Event) {
        let _ = self.events.try_send(event);
    }

    fn warned(&self) -> &RefCell<BTreeSet<String>> {
        &self.warned
    }

    fn transfer(&self) -> (Transfer, bool) {
        let transfer = Transfer { uploaded: 0, downloaded: 0, left: LEFT_UNKNOWN, peers_wanted: NUMWANT_MAX };
        // Whoever is connected may have nothing, or lie: more are always welcome.
        (transfer, true)
    }

    fn connected(self: &Rc<Self>, stream: TcpStream, addr: SocketAddr, inbound: bool, hello: Handshake) {
        if !self.hub.make_place(addr.ip()) {
            if !inbound {
                self.not_connected(addr, false);
            }
            return;
        }
        let now = self.hub.now();
        let (info, has_dht) = self.introduce(addr, inbound, &hello);
        let wake = Rc::new(Notify::new());
        let mut key = PeerKey(0);
        self.with(|inner| {
            inner.next_key += 1;
            key = PeerKey(inner.next_key);
            inner.links.insert(key, Link::new(&wake, false));
            inner.core.handle_connected(now, key, info);
            let port = self.hub.dht.borrow().as_ref().and_then(|dht| dht.port(Family::of(addr)));
            if let Some(port) = port.filter(|_| has_dht)
                && let Some(link) = inner.links.get_mut(&key)
            {
                link.send(&Message::Port(port));
            }
        });
        self.hub.connections.set(self.hub.connections.get() + 1);
        let shell = Rc::clone(self);
        spawn_local(async move {
            let why = shell.serve(key, addr, &stream, &wake).await;
            tracing::debug!(%addr, %why, "connection for metadata ended");
            shell.hub.connections.set(shell.hub.connections.get() - 1);
            let now = shell.hub.now();
            shell.with(|inner| {
                inner.links.remove(&key);
                inner.core.handle_disconnected(now, key);
            });
        });
    }

    fn not_connected(self: &Rc<Self>, addr: SocketAddr, tried: bool) {
        let now = self.hub.now();
        self.with(|inner| match tried {
            true => inner.core.handle_connect_failed(now, addr),
            false => inner.core.handle_not_dialled(now, addr),
        });
    }

    fn told(self: &Rc<Self>, _: &AnnounceResponse, tracker: IpAddr, peers: &[SocketAddr]) {
        self.learn(peers, Origin::Tracker(tracker));
    }
}

/// What a connection reads at a time.
#[derive(Default)]
struct Heard {
    messages: Vec<Message>,
}

impl Sink for Heard {
    fn message(&mut self, message: Message) {
        self.messages.push(message);
    }

    fn take_block(&mut self) -> Option<crate::buffer::Block> {
        None
    }

    fn block(&mut self, _: BlockRef, _: crate::buffer::Block) {}

    fn is_closed(&self) -> bool {
        false
    }
}

impl Hub {
    /// What of this session goes by this info-hash.
    pub(crate) fn swarm(&self, info_hash: InfoHash) -> Option<Swarm> {
        let torrent = self.torrents.borrow().get(&info_hash).cloned().map(Swarm::Torrent);
        torrent.or_else(|| self.fetches.borrow().get(&info_hash).cloned().map(Swarm::Fetch))
    }
}

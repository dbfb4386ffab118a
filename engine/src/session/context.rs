//! What all torrents of a session share on its network thread: clock, memory, limits, workers, randomness.

use super::announce_turns::AnnounceTurns;
use super::announce_udp::UdpTrackers;
use super::completed::Completed;
use super::dht::SessionDht;
use super::event::Event;
use super::events::EventSender;
use super::filter_state::SessionFilter;
use super::limit::Limit;
use super::lsd::SessionLsd;
use super::options::SessionOptions;
use super::rate_group::RateGroups;
use super::routes::Routes;
use super::running::RunningTorrents;
use super::shares::Shares;
use crate::Error;
use crate::buffer::BlockPool;
use crate::clock::Clock;
use crate::hash::{Lane, Workers};
use crate::http::webseed::WebSeedClients;
use crate::id::TorrentId;
use crate::net::encryption::Encryptor;
use crate::net::handshake::Transport;
use crate::net::reader::SCRATCH_LEN;
use crate::net::socket::{Binding, route};
use crate::net::utp::Utp;
use crate::storage::Handles;
use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use swarm_core::id::{InfoHash, PeerKey};
use swarm_core::net::is_local;
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::Pressure;
use swarm_core::torrent::discovery::pace::DialRate;
use tokio::sync::{Notify, Semaphore, oneshot};

/// Memory in use, in percent of the pool, from which only open pieces are asked for.
const PRESSURE_LOW_PERCENT: usize = 60;
/// Memory in use, in percent of the pool, from which nothing is asked for.
const PRESSURE_FULL_PERCENT: usize = 85;

/// How many torrents open their data at a time.
const OPENS_MAX: usize = 32;

/// How long a want of descriptors is given as the reason why nothing moves.
const SHORTAGE_REPORTED: Duration = Duration::from_secs(10);

/// What all torrents of a session share on its network thread.
pub(crate) struct Context {
    pub(crate) options: SessionOptions,
    pub(crate) binding: Binding,
    pub(crate) shares: Shares,
    /// The addresses that the listening sockets have.
    pub(crate) listening: Vec<SocketAddr>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) pool: BlockPool,
    pub(crate) handles: Arc<Handles>,
    pub(crate) upload: Limit,
    pub(crate) download: Limit,
    pub(super) rate_groups: RateGroups,
    pub(crate) scratch: RefCell<Vec<u8>>,
    pub(super) torrents: Rc<RunningTorrents>,
    pub(super) completed: Completed,
    pub(crate) encryptor: Encryptor,
    pub(crate) half_open: Rc<Semaphore>,
    /// As `half_open`, for dials at the word of a relay (BEP 55), which cannot wait.
    pub(crate) punching: Semaphore,
    /// How many accepted connections have not shaken hands.
    pub(super) unfinished: Cell<usize>,
    /// When there was last no descriptor for a connection.
    short_at: Cell<Option<Time>>,
    /// What was wrong with the proxy when a peer was last dialled.
    proxy_error: RefCell<Option<String>>,
    dial_rate: Cell<DialRate>,
    /// Whose turn it is to open its data: what thousands take that wait for a worker would stay with the process.
    pub(super) opens: Semaphore,
    /// Whose turn it is to check existing data: one torrent at a time keeps every worker busy, and disks seek less.
    pub(crate) checks: Semaphore,
    /// Whose turn it is to read its data again over time.
    pub(crate) scrubs: Semaphore,
    pub(crate) connections: Cell<usize>,
    /// Wakes the connections that stopped reading for want of memory.
    pub(crate) memory_freed: Notify,
    pub(crate) pressure: Cell<Pressure>,
    pub(crate) rng: RefCell<Rng>,
    pub(super) routes: RefCell<Routes>,
    pub(super) udp_trackers: Rc<UdpTrackers>,
    pub(super) announce_turns: AnnounceTurns,
    /// What carries uTP, for each address that we listen on.
    pub(super) utps: RefCell<Vec<Rc<Utp>>>,
    /// The session's node of the DHT, if it takes part.
    pub(super) dht: RefCell<Option<Rc<SessionDht>>>,
    /// What of this session the local network is told, if it is.
    pub(super) lsd: RefCell<Option<Rc<SessionLsd>>>,
    pub(super) web_seed_clients: WebSeedClients,
    pub(super) clock: Clock,
    pub(super) filter: SessionFilter,
    /// The port at which the gateway passes on TCP to us, if it does.
    pub(super) mapped_port: Cell<Option<u16>>,
    /// The same for UDP.
    pub(super) mapped_udp_port: Cell<Option<u16>>,
    /// What happens to all torrents, and to none of them alone.
    pub(super) events: SessionEventSender,
}

/// An event, and the torrent that it is about, if it is about one.
pub(super) type SessionEvent = (Option<TorrentId>, Event);
pub(super) type SessionEventSender = EventSender<SessionEvent>;

/// Whether the address may be one that the world sees: neither a private one nor one of a provider's NAT (RFC 6598).
fn is_public(ip: IpAddr) -> bool {
    let is_shared =
        matches!(ip.to_canonical(), IpAddr::V4(ip) if ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64);
    !is_local(ip) && !is_shared && !ip.is_unspecified()
}

impl Context {
    pub(crate) fn new(
        options: SessionOptions,
        shares: Shares,
        listening: Vec<SocketAddr>,
        workers: Arc<Workers>,
        seed: u64,
        events: SessionEventSender,
    ) -> Context {
        let (binding, clock, mut rng) = (options.binding(), Clock::start(), Rng::new(seed));
        Context {
            udp_trackers: Rc::new(UdpTrackers::new(binding.clone(), clock, rng.fork())),
            announce_turns: AnnounceTurns::default(),
            listening,
            encryptor: Encryptor::new(options.encryption, Arc::clone(&workers)),
            workers,
            pool: BlockPool::new(options.buffer_bytes),
            handles: Arc::new(Handles::new(shares.files)),
            upload: Limit::new(options.upload_limit),
            download: Limit::new(options.download_limit),
            rate_groups: RateGroups::default(),
            scratch: RefCell::new(vec![0; SCRATCH_LEN]),
            torrents: Rc::default(),
            completed: Completed::default(),
            half_open: Rc::new(Semaphore::new(options.half_open_max.max(1))),
            punching: Semaphore::new(options.half_open_max.max(1)),
            unfinished: Cell::default(),
            short_at: Cell::default(),
            proxy_error: RefCell::default(),
            shares,
            dial_rate: Cell::new(DialRate::of_session()),
            opens: Semaphore::new(OPENS_MAX),
            checks: Semaphore::new(1),
            scrubs: Semaphore::new(1),
            connections: Cell::new(0),
            memory_freed: Notify::new(),
            pressure: Cell::default(),
            rng: RefCell::new(rng),
            routes: RefCell::new(Routes::default()),
            utps: RefCell::default(),
            dht: RefCell::default(),
            lsd: RefCell::default(),
            web_seed_clients: WebSeedClients::new(binding.clone()),
            clock,
            filter: SessionFilter::default(),
            mapped_port: Cell::default(),
            mapped_udp_port: Cell::default(),
            events,
            binding,
            options,
        }
    }

    /// What carries uTP to this address, if anything does.
    pub(super) fn utp_to(&self, to: SocketAddr) -> Option<Rc<Utp>> {
        self.utps.borrow().iter().find(|utp| utp.reaches(to)).map(Rc::clone)
    }

    /// Whether what we send there goes through a NAT that passes nothing on to us by itself, as far as our own address tells. Over uTP, peers
    /// there learn where that NAT has us, and can tell others.
    pub(super) fn is_behind_nat(&self, to: SocketAddr) -> bool {
        let device = self.binding.device.as_deref();
        self.binding.proxy.is_none()
            && to.is_ipv4()
            && is_public(to.ip())
            && self.mapped_udp_port.get().is_none()
            && self
                .binding
                .source_ip(to.ip())
                .or_else(|| route(to.ip(), device))
                .is_some_and(|ours| !is_public(ours))
    }

    /// What to dial this address over, in this order.
    pub(super) fn transports(&self, to: SocketAddr, utp_first: bool) -> Vec<Transport> {
        let utp = self.utp_to(to).map(Transport::Utp);
        let tcp = self.options.tcp.then_some(Transport::Tcp);
        let both = if utp_first { [utp, tcp] } else { [tcp, utp] };
        both.into_iter().flatten().collect()
    }

    /// Sockets to peers, in whatever state.
    fn sockets(&self) -> usize {
        let half_open = self.options.half_open_max.max(1) - self.half_open.available_permits();
        self.connections.get() + half_open + self.unfinished.get()
    }

    /// Whether there is a descriptor for a connection that somebody dials to us.
    pub(super) fn may_accept(&self) -> bool {
        self.note_shortage(self.sockets() >= self.shares.incoming)
    }

    fn note_shortage(&self, is_short: bool) -> bool {
        if is_short {
            self.lacks_descriptors();
        }
        !is_short
    }

    /// The system has none, or our share is used up.
    pub(crate) fn lacks_descriptors(&self) {
        self.short_at.set(Some(self.now()));
    }

    /// The proxy has made a connection, or has not for this reason.
    pub(super) fn note_proxy(&self, error: Option<String>) {
        *self.proxy_error.borrow_mut() = error;
    }

    /// Why the proxy makes no connections, if it does not.
    pub(super) fn proxy_error(&self) -> Option<String> {
        self.proxy_error.borrow().clone()
    }

    /// The limit of descriptors, if that has kept connections out lately.
    pub(super) fn is_short_of_descriptors(&self) -> Option<usize> {
        let lately = self.short_at.get().is_some_and(|at| self.now().since(at) < SHORTAGE_REPORTED);
        self.shares.descriptors.filter(|_| lately)
    }

    /// The session's clock.
    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    /// When a time of the session's clock will be on the runtime's.
    pub(crate) fn instant(&self, time: Time) -> tokio::time::Instant {
        self.clock.instant(time)
    }

    /// Whether another connection has a place. If there is none for it, another one is evicted, of whichever torrent.
    /// Must not be called while a torrent is being changed.
    pub(crate) fn make_place(&self, newcomer: IpAddr) -> bool {
        if self.connections.get() < self.options.peers_max {
            return true;
        }
        let Some((info_hash, key)) = self.evicted_for(newcomer) else { return false };
        self.torrents.get(info_hash).into_iter().for_each(|torrent| torrent.evict(key));
        true
    }

    fn evicted_for(&self, newcomer: IpAddr) -> Option<(InfoHash, PeerKey)> {
        self.torrents.evicted_for(newcomer, self.now(), self.options.peers_max)
    }

    /// Whether a connection to this address would have a place. Must not be called while a torrent is being changed.
    pub(crate) fn may_dial(&self, to: IpAddr) -> bool {
        let is_short = self.sockets() > self.shares.sockets;
        let has_place = self.connections.get() < self.options.peers_max || self.evicted_for(to).is_some();
        self.note_shortage(is_short) && has_place
    }

    /// Waits until the session may dial again.
    pub(crate) async fn dial_pace(&self) {
        let (mut rate, now) = (self.dial_rate.get(), self.now());
        let at = rate.next_at(now);
        rate.take(at);
        self.dial_rate.set(rate);
        if at > now {
            tokio::time::sleep_until(self.instant(at)).await;
        }
    }

    /// Whether the session may dial now, which it then does.
    pub(crate) fn may_dial_at_once(&self) -> bool {
        let (mut rate, now) = (self.dial_rate.get(), self.now());
        let may_dial = rate.take_at_once(now);
        self.dial_rate.set(rate);
        may_dial
    }

    /// Looks at how full the pool is, and tells the torrents if that has become another matter.
    pub(crate) fn update_pressure(&self) {
        let percent = self.pool.used_bytes() * 100 / self.pool.limit_bytes();
        let pressure = match percent {
            p if p >= PRESSURE_FULL_PERCENT => Pressure::Full,
            p if p >= PRESSURE_LOW_PERCENT => Pressure::Low,
            _ => Pressure::None,
        };
        if self.pressure.replace(pressure) != pressure {
            self.torrents.busy().into_iter().for_each(|torrent| torrent.pressure_changed(pressure));
        }
    }

    /// Memory has come free: whoever waits for it may read on.
    pub(crate) fn on_memory_freed(&self) {
        self.memory_freed.notify_waiters();
        self.update_pressure();
        if self.pressure.get() == Pressure::Full {
            self.torrents.busy().iter().for_each(|torrent| torrent.spill_if_full());
        }
    }

    /// The limits have changed: whoever waits for them may look again.
    pub(crate) fn limits_changed(&self) {
        self.torrents.all().into_iter().for_each(|torrent| torrent.limits_changed());
    }

    /// Runs a job on a worker and waits for what it returns.
    pub(super) async fn on_worker<R: Send + 'static>(
        &self,
        lane: Lane,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, Error> {
        let (tx, rx) = oneshot::channel();
        self.workers.submit(lane, move || {
            let _ = tx.send(job());
        });
        rx.await.map_err(|_| Error::panicked())
    }
}

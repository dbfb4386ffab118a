//! The tracker on the network.
//!
//! A task for each listening address accepts, a task for each connection serves. Nothing waits for a client:
//! each has bounded time to send a request and to take in the reply, a bounded request size, and there is a
//! bounded number of them, of whom one is evicted for the next ([`places`]). A few tasks for each UDP socket
//! serve everybody.

mod ask;
mod connection;
mod connection_ids;
mod datagrams;
mod places;
mod proxy_protocol;
mod rate_limited_log;
mod respond;
mod stats;
mod udp;
mod write_timeout;

use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::available_parallelism;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use swarm_core::rng::Rng;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use self::connection_ids::ConnectionIds;
use self::places::{Place, Places};
use self::rate_limited_log::RateLimitedLog;
use self::stats::Counters;
pub use self::stats::Stats;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::rate_limit::RateLimiter;
use crate::remote::{Remote, SharedStore, SharedStoreError, Unused};
use crate::state::{StateError, StateFile};
use crate::store::Store;
use crate::tls::Tls;

/// Connections that the kernel keeps ready while we accept others.
const BACKLOG: i32 = 1024;
/// What the kernel may keep for a connection each way: of requests that we do not get to, of replies
/// that the client does not take in. Both are a few kilobytes.
const SOCKET_BUFFER_LEN: usize = 64 * 1024;
/// Pause after a failure to accept.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Pause when file descriptors have run out, for somebody to be evicted.
const DESCRIPTOR_RETRY: Duration = Duration::from_millis(5);
/// File descriptors that connections leave to everything else: what the runtime needs, files that are read
/// and written.
const DESCRIPTORS_RESERVED: u64 = 32;
/// How often the swarms are saved.
const SAVE_EVERY: Duration = Duration::from_secs(5 * 60);
/// How often peers are expired, at least ten times in a peer's timeout.
const EXPIRE_EVERY_MAX: Duration = Duration::from_secs(60);

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr}: {source}")]
pub struct BindError {
    /// The address.
    pub addr: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// What connections share.
struct Shared {
    config: Config,
    store: Store,
    /// The store that several trackers share, if there is one. `store` is what this one knows itself then.
    remote: Option<Remote>,
    clock: Box<dyn Clock>,
    /// Gives each connection its own generator.
    rng: Mutex<Rng>,
    counters: Counters,
    rate_limiter: RateLimiter,
    places: Arc<Places>,
    rate_limited_logs: RateLimitedLogs,
    /// What keeps the swarms over a restart.
    state: Option<StateFile>,
    connection_ids: ConnectionIds,
    /// What listeners for HTTPS serve with.
    tls: RwLock<Option<Tls>>,
}

/// Warnings that are logged at most once a minute.
#[derive(Default)]
struct RateLimitedLogs {
    accept: RateLimitedLog,
    udp: RateLimitedLog,
}

/// A tracker that has its addresses and does not serve yet.
pub struct Server {
    plain: Listeners<TcpListener>,
    secure: Listeners<TcpListener>,
    udp: Listeners<UdpSocket>,
    tls: Option<Tls>,
    store: Store,
    remote: Option<Unused>,
    config: Config,
    clock: Box<dyn Clock>,
    state: Option<StateFile>,
}

impl Server {
    /// Listens on `addrs`; port 0 takes a free one. An IPv6 address takes no IPv4 connections, so
    /// `0.0.0.0` and `[::]` go together.
    ///
    /// # Errors
    /// When an address cannot be listened on.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind(config: Config, addrs: &[SocketAddr]) -> Result<Server, BindError> {
        let plain = Listeners::bind(addrs, listen)?;
        let store = Store::new(config.clone());
        let clock = Box::new(SystemClock::default());
        let (secure, udp) = (Listeners::default(), Listeners::default());
        Ok(Server { plain, secure, udp, tls: None, store, remote: None, config, clock, state: None })
    }

    /// Listens for HTTPS on `addrs` too.
    ///
    /// # Errors
    /// When an address cannot be listened on.
    pub fn bind_tls(mut self, addrs: &[SocketAddr], tls: Tls) -> Result<Server, BindError> {
        self.secure = Listeners::bind(addrs, listen)?;
        self.tls = Some(tls);
        Ok(self)
    }

    /// Serves the UDP tracker protocol on `addrs` too. Clients' addresses are those of their datagrams,
    /// whatever [`Config::source`] says.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub fn bind_udp(mut self, addrs: &[SocketAddr]) -> Result<Server, BindError> {
        self.udp = Listeners::bind(addrs, udp::bind)?;
        Ok(self)
    }

    /// Takes the time from `clock` and not from the machine. Timeouts of connections stay real.
    pub fn with_clock(mut self, clock: impl Clock) -> Server {
        self.clock = Box::new(clock);
        self
    }

    /// Keeps the swarms over a restart in the file at `path`: takes what is there when it starts, and writes
    /// it when it stops and every five minutes. What is there and cannot be used is put aside, and the log
    /// says so.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_state(mut self, path: &Path) -> Result<Server, StateError> {
        self.state = Some(StateFile::new(path)?);
        Ok(self)
    }

    /// Shares the swarms with other trackers in this store. What was announced to this tracker is told whenever
    /// the store does not answer, and is told to it when it is there again. It need not be there yet.
    ///
    /// # Errors
    /// When it is there and does not let us do what we have to.
    pub async fn share(mut self, store: SharedStore) -> Result<Server, SharedStoreError> {
        self.remote = Some(Unused::open(store).await?);
        self.store.share();
        Ok(self)
    }

    /// The swarms.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Serves in the background, on the tokio runtime that it was bound in.
    pub fn spawn(self) -> Handle {
        let seed = getrandom::u64().expect("the operating system gives random numbers");
        let mut key = [0; 16];
        getrandom::fill(&mut key).expect("the operating system gives random numbers");
        let now = self.clock.now();
        let loaded = self.state.as_ref().and_then(|state| state.load(&self.store, now));
        // Who knows the swarms as they were an interval ago knows them. So does a store that was there meanwhile.
        let is_shared = self.remote.as_ref().is_some_and(Unused::is_up);
        if !is_shared
            && loaded.is_none_or(|loaded| loaded.peers == 0 || loaded.away_s > self.config.interval.as_secs())
        {
            self.store.learn(now);
        }
        let shared = Arc::new(Shared {
            store: self.store,
            remote: self.remote.map(Unused::start),
            rate_limiter: RateLimiter::new(self.config.requests_per_minute_max),
            places: Places::new(places_max(self.config.limits.connections_max)),
            rate_limited_logs: RateLimitedLogs::default(),
            state: self.state,
            config: self.config,
            clock: self.clock,
            rng: Mutex::new(Rng::new(seed)),
            counters: Counters::default(),
            connection_ids: ConnectionIds::new(key),
            tls: RwLock::new(self.tls),
        });
        let (stop, stopped) = watch::channel(false);
        let (local_addrs, local_tls_addrs) = (self.plain.addrs, self.secure.addrs);
        let local_udp_addrs = self.udp.addrs;
        let plain = self.plain.listeners.into_iter().map(|listener| (listener, false));
        let secure = self.secure.listeners.into_iter().map(|listener| (listener, true));
        let listeners = plain.chain(secure).collect();
        let task = tokio::spawn(serve(listeners, self.udp.listeners, shared.clone(), stopped));
        Handle { shared, stop, task, local_addrs, local_tls_addrs, local_udp_addrs }
    }
}

/// A tracker that serves. It stops when this is dropped.
pub struct Handle {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    local_addrs: Vec<SocketAddr>,
    local_tls_addrs: Vec<SocketAddr>,
    local_udp_addrs: Vec<SocketAddr>,
}

impl Handle {
    /// Where it listens for HTTP, in the order of the addresses asked for.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Where it listens for HTTPS, in the order of the addresses asked for.
    pub fn local_tls_addrs(&self) -> &[SocketAddr] {
        &self.local_tls_addrs
    }

    /// Where it listens over UDP, in the order of the addresses asked for.
    pub fn local_udp_addrs(&self) -> &[SocketAddr] {
        &self.local_udp_addrs
    }

    /// Serves HTTPS with another certificate from the next connection on.
    pub fn set_tls(&self, tls: Tls) {
        *self.shared.tls.write().unwrap_or_else(PoisonError::into_inner) = Some(tls);
    }

    /// Goes on with these intervals and limits, but with the timeouts of connections and the source of
    /// addresses that it was started with.
    pub fn set_config(&self, config: Config) {
        self.shared.rate_limiter.set(config.requests_per_minute_max);
        self.shared.places.set_max(places_max(config.limits.connections_max));
        self.shared.store.set_config(config);
    }

    /// What it has done and holds, as in `/stats`.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// The swarms.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Stops listening, finishes the requests under way within
    /// [`stop_timeout`](crate::Limits::stop_timeout), closes, and saves the swarms if it is to.
    pub async fn stop(self) {
        // Without a receiver the server has stopped by itself.
        let _ = self.stop.send(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the server ended badly");
        }
    }
}

struct Listeners<T> {
    listeners: Vec<T>,
    addrs: Vec<SocketAddr>,
}

impl<T> Default for Listeners<T> {
    fn default() -> Listeners<T> {
        Listeners { listeners: Vec::new(), addrs: Vec::new() }
    }
}

impl<T> Listeners<T> {
    fn bind(
        addrs: &[SocketAddr],
        listen: impl Fn(SocketAddr) -> io::Result<(T, SocketAddr)>,
    ) -> Result<Listeners<T>, BindError> {
        let mut bound = Listeners::default();
        for &addr in addrs {
            let (listener, local_addr) = listen(addr).map_err(|source| BindError { addr, source })?;
            bound.addrs.push(local_addr);
            bound.listeners.push(listener);
        }
        Ok(bound)
    }
}

fn listen(addr: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    // Accepted connections inherit these. Replies are written whole: there is nothing to wait for.
    socket.set_recv_buffer_size(SOCKET_BUFFER_LEN)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_LEN)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}

/// `listeners` with whether they are for HTTPS.
async fn serve(
    listeners: Vec<(TcpListener, bool)>,
    sockets: Vec<UdpSocket>,
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
) {
    let mut tasks = JoinSet::new();
    for (listener, secure) in listeners {
        tasks.spawn(accept_all(listener, secure, shared.clone(), stopped.clone()));
    }
    // A reply is sent as soon as its request is read, so there is nothing to finish: these end when dropped.
    let mut workers = JoinSet::new();
    for socket in sockets.into_iter().map(Arc::new) {
        for _ in 0..available_parallelism().map_or(1, NonZero::get) {
            workers.spawn(udp::serve(socket.clone(), shared.clone()));
        }
    }
    workers.spawn(ask::catch_up(shared.clone()));
    tokio::select! {
        () = maintain(&shared) => {}
        () = until_stopped(stopped) => {}
    }
    workers.shutdown().await;
    while tasks.join_next().await.is_some() {}
    save(&shared).await;
}

/// What is to be done now and then.
async fn maintain(shared: &Arc<Shared>) {
    let mut displaced = 0;
    let mut saved_at = Instant::now();
    loop {
        let now = shared.clock.now();
        shared.store.expire(now);
        shared.rate_limiter.expire(now);
        shared.places.grow();
        let displaced_now = shared.store.displaced();
        if displaced_now > displaced {
            tracing::warn!(
                torrents = displaced_now - displaced,
                "the tracker is full: torrents with few announcers were evicted; see --max-swarms and --max-peers"
            );
            displaced = displaced_now;
        }
        if saved_at.elapsed() >= SAVE_EVERY {
            save(shared).await;
            saved_at = Instant::now();
        }
        let every = (shared.store.peer_timeout() / 10).clamp(Duration::from_secs(1), EXPIRE_EVERY_MAX);
        tokio::time::sleep(every).await;
    }
}

/// Saves the swarms, if they are to be.
async fn save(shared: &Arc<Shared>) {
    if shared.state.is_none() {
        return;
    }
    let shared = shared.clone();
    let saving = tokio::task::spawn_blocking(move || {
        let Some(state) = &shared.state else { return };
        if let Err(error) = state.save(&shared.store, shared.clock.now()) {
            tracing::error!("cannot save the swarms in {}: {error}", state.path().display());
        }
    });
    if let Err(error) = saving.await {
        tracing::error!(%error, "saving the swarms ended badly");
    }
}

/// Done when the tracker is to stop, or its handle is gone.
async fn until_stopped(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|&stopped| stopped).await;
}

async fn accept_all(
    listener: TcpListener,
    secure: bool,
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(until_stopped(stopped.clone()));
    loop {
        let accepted = async {
            let (stream, peer) = accept(&listener, &shared).await;
            (stream, peer, shared.places.take().await)
        };
        let (stream, peer, place): (TcpStream, SocketAddr, Place) = tokio::select! {
            () = &mut stop => break,
            accepted = accepted => accepted,
        };
        while connections.try_join_next().is_some() {}
        let id = place.id();
        let tls = if secure { shared.tls() } else { None };
        let served =
            connection::serve(stream, peer, tls, place, shared.clone(), until_stopped(stopped.clone()));
        let abort = connections.spawn(served);
        shared.places.set_abort(id, abort);
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    // What has not finished in time is cut off as the set is dropped.
    let _ = tokio::time::timeout(shared.config.limits.stop_timeout, all).await;
}

async fn accept(listener: &TcpListener, shared: &Shared) -> (TcpStream, SocketAddr) {
    loop {
        let error = match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => error,
        };
        if is_of_the_connection(&error) {
            continue;
        }
        if shared.rate_limited_logs.accept.is_due(shared.clock.now()) {
            tracing::warn!(%error, "cannot accept connections");
        }
        let has_evicted = is_out_of_descriptors(&error) && shared.places.shrink();
        tokio::time::sleep(if has_evicted { DESCRIPTOR_RETRY } else { ACCEPT_RETRY }).await;
    }
}

/// The connection that was to be accepted is gone already.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::ConnectionAborted | K::ConnectionReset | K::ConnectionRefused | K::Interrupted)
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
    }
    #[cfg(not(unix))]
    {
        let _ = error;
        false
    }
}

/// How many connections there may be if so many are wanted: each takes a file descriptor.
fn places_max(wanted: usize) -> usize {
    #[cfg(unix)]
    {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let descriptors = limit.map_or(usize::MAX, |limit| {
            usize::try_from(limit.saturating_sub(DESCRIPTORS_RESERVED)).unwrap_or(usize::MAX)
        });
        if descriptors < wanted {
            tracing::info!(wanted, max = descriptors, "fewer connections, limited by file descriptors");
        }
        wanted.min(descriptors)
    }
    #[cfg(not(unix))]
    wanted
}

impl Shared {
    fn tls(&self) -> Option<Tls> {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fork_rng(&self) -> Rng {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).fork()
    }
}

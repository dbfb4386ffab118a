//! The tracker on the network.
//!
//! A task for each listening address accepts, a task for each connection serves. Nothing waits for
//! a client: each has bounded time to send a request and to take in the reply, a bounded request
//! size, and there is a bounded number of them. A few tasks for each UDP socket serve everybody.

mod connection;
mod connection_ids;
mod datagrams;
mod proxy_protocol;
mod respond;
mod stats;
mod udp;
mod write_timeout;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::available_parallelism;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use swarm_core::rng::Rng;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use self::connection_ids::ConnectionIds;
use self::stats::Counters;
pub use self::stats::Stats;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::rate_limit::RateLimiter;
use crate::store::Store;
use crate::tls::Tls;

/// Connections that the kernel keeps ready while we accept others.
const BACKLOG: i32 = 1024;
/// What the kernel may keep for a connection each way: of requests that we do not get to, of replies
/// that the client does not take in. Both are a few kilobytes.
const SOCKET_BUFFER_LEN: usize = 64 * 1024;
/// Pause after a failure to accept, as when file descriptors run out.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
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
    clock: Box<dyn Clock>,
    /// Gives each connection its own generator.
    rng: Mutex<Rng>,
    counters: Counters,
    rate_limiter: Option<RateLimiter>,
    connection_ids: ConnectionIds,
    /// What listeners for HTTPS serve with.
    tls: RwLock<Option<Tls>>,
}

/// A tracker that has its addresses and does not serve yet.
pub struct Server {
    plain: Listeners<TcpListener>,
    secure: Listeners<TcpListener>,
    udp: Listeners<UdpSocket>,
    tls: Option<Tls>,
    store: Store,
    config: Config,
    clock: Box<dyn Clock>,
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
        Ok(Server { plain, secure, udp, tls: None, store, config, clock })
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

    /// Serves the UDP tracker protocol on `addrs` too. Clients' addresses are those of their datagrams, whatever
    /// [`Config::source`] says.
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

    /// Where it listens for HTTP, in the order of the addresses asked for.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.plain.addrs
    }

    /// Where it listens for HTTPS, in the order of the addresses asked for.
    pub fn local_tls_addrs(&self) -> &[SocketAddr] {
        &self.secure.addrs
    }

    /// Where it listens over UDP, in the order of the addresses asked for.
    pub fn local_udp_addrs(&self) -> &[SocketAddr] {
        &self.udp.addrs
    }

    /// The swarms.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Serves until `shutdown` comes true, then stops as [`Handle::stop`] does.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let handle = self.spawn();
        shutdown.await;
        handle.stop().await;
    }

    /// Serves in the background, on the tokio runtime that it was bound in.
    pub fn spawn(self) -> Handle {
        let seed = getrandom::u64().expect("the operating system gives random numbers");
        let mut key = [0; 16];
        getrandom::fill(&mut key).expect("the operating system gives random numbers");
        let shared = Arc::new(Shared {
            store: self.store,
            rate_limiter: self.config.requests_per_minute_max.map(RateLimiter::new),
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

    /// What it has done and holds, as `/stats` tells it.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// The swarms.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Stops listening, finishes the requests under way within
    /// [`stop_timeout`](crate::Limits::stop_timeout), and closes.
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
    let slots = Arc::new(Semaphore::new(shared.config.limits.connections_max));
    let mut tasks = JoinSet::new();
    for (listener, secure) in listeners {
        tasks.spawn(accept_all(listener, secure, shared.clone(), slots.clone(), stopped.clone()));
    }
    // A reply is sent as soon as its request is read, so there is nothing to finish: these end when dropped.
    let mut workers = JoinSet::new();
    for socket in sockets.into_iter().map(Arc::new) {
        for _ in 0..available_parallelism().map_or(1, NonZero::get) {
            workers.spawn(udp::serve(socket.clone(), shared.clone()));
        }
    }
    tokio::select! {
        () = expire_now_and_then(&shared) => {}
        () = until_stopped(stopped) => {}
    }
    workers.shutdown().await;
    while tasks.join_next().await.is_some() {}
}

async fn expire_now_and_then(shared: &Shared) {
    let every = (shared.config.peer_timeout / 10).clamp(Duration::from_secs(1), EXPIRE_EVERY_MAX);
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = shared.clock.now();
        shared.store.expire(now);
        if let Some(limiter) = &shared.rate_limiter {
            limiter.expire(now);
        }
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
    slots: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(until_stopped(stopped.clone()));
    loop {
        let accepted = async {
            let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
            (slot, accept(&listener).await)
        };
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            (slot, (stream, peer)) = accepted => {
                let tls = if secure { shared.tls() } else { None };
                let shared = shared.clone();
                let stopped = stopped.clone();
                connections.spawn(async move {
                    connection::serve(stream, peer, tls, shared, until_stopped(stopped)).await;
                    drop(slot);
                });
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    // What has not finished in time is cut off as the set is dropped.
    let _ = tokio::time::timeout(shared.config.limits.stop_timeout, all).await;
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

impl Shared {
    fn tls(&self) -> Option<Tls> {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fork_rng(&self) -> Rng {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).fork()
    }
}

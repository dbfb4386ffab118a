//! Sessions: one network thread, its torrents, and handles to them.

mod accept;
mod allowances;
mod announce;
mod announce_dht;
mod announce_turns;
mod announce_udp;
mod command;
mod commands;
mod completed;
mod connection;
mod connections;
mod context;
mod dht;
mod disk;
mod doubt;
mod event;
mod events;
mod fetch;
mod fetches;
mod filter_state;
mod handle;
mod ip_filter;
mod limit;
mod lsd;
mod metadata;
mod opening;
mod options;
mod pausing;
mod piece_map;
mod pieces;
mod port_mapping;
mod prepared;
mod priorities;
mod progress;
mod rate_group;
mod reader;
mod readers;
mod reading;
mod registry;
mod relocating;
mod relocation;
mod reusing;
mod routes;
mod run;
mod running;
mod running_torrent;
mod scrubbing;
mod services;
mod shares;
mod sharing;
mod stats;
mod storing;
mod telling;
mod torrent;
mod traffic;
mod unchecked;
mod verifying;
mod webseed;

pub use crate::id::TorrentId;
use context::{Context, SessionEvent, SessionEventSender};
pub use event::{
    Event, HolepunchFailure, PeerStats, State, TorrentStats, TrackerStats, Waiting, WebSeedFault,
    WebSeedPenalty, WebSeedStats, WebSeedStatus,
};
use events::Receiver;
#[cfg(feature = "__hooks")]
pub use fetch::check_answer;
pub use handle::{EventReceiver, SessionEvents, TorrentHandle};
pub use options::{
    AddTorrent, DhtOptions, Files, LISTEN_PORT_FIRST, Mode, SessionFacts, SessionOptions, Source,
};
pub use piece_map::{PieceMap, PieceStatus};
pub use rate_group::RateGroup;
pub use reader::FileReader;
use registry::Registry;
use shares::Shares;
pub use swarm_core::id::InfoHashes;

use crate::Error;
use crate::hash::Workers;
use crate::ip_filter::IpFilterSource;
use crate::net::socket;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use swarm_core::dht::MutableTorrentLink;
use swarm_core::id::InfoHash;
use tokio::sync::{mpsc, oneshot};

/// What the network thread is asked to do.
pub(crate) enum Request {
    Add(Box<AddTorrent>, oneshot::Sender<Result<TorrentHandle, Error>>),
    Active(oneshot::Sender<Vec<TorrentId>>),
    Resolve(MutableTorrentLink, oneshot::Sender<Result<InfoHash, Error>>),
    SetUploadLimit(Option<u64>),
    SetDownloadLimit(Option<u64>),
    SetRateGroup(RateGroup, Option<u64>, Option<u64>),
    SetBanned(Vec<IpAddr>),
    SetIpFilter(Option<IpFilterSource>, oneshot::Sender<Result<(), Error>>),
    Stop,
}

/// What becomes of a torrent's files when it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "there is no third way")]
pub enum Data {
    /// They stay.
    Keep,
    /// They are deleted.
    Delete,
}

/// A running engine: its sockets, its threads and its torrents. Dropping it stops everything without saving state or announcing,
/// as a crash would; [`Session::stop`] tells peers and trackers and saves state first.
#[derive(Debug)]
pub struct Session {
    requests: mpsc::UnboundedSender<Request>,
    registry: Arc<Registry>,
    events: SessionEventSender,
    /// The first to ask gets what has happened before.
    first_events: Mutex<Option<Receiver<SessionEvent>>>,
    listening: Vec<SocketAddr>,
    thread: Option<std::thread::JoinHandle<()>>,
    ended: oneshot::Receiver<()>,
}

impl Session {
    /// Opens the listening sockets and starts the session's threads.
    ///
    /// # Errors
    /// [`Error::Listen`] if an address cannot be had, [`Error::System`] if the system refuses threads or this process's
    /// limits are too low.
    pub fn start(options: SessionOptions) -> Result<Session, Error> {
        options.validate()?;
        let system = |what: &'static str| move |e: std::io::Error| Error::system(what, e);
        let threads = if options.workers == 0 { Workers::default_threads() } else { options.workers };
        let shares = Shares::of_process(&options, threads + 1)?;
        // Before anybody is talked to.
        let filter = options.ip_filter.as_ref().map(ip_filter::load).transpose()?;
        let sockets = socket::listen(&options.binding())?;
        let listening = sockets.iter().filter_map(|s| s.local_addr().ok()).collect::<Vec<_>>();
        let workers = Workers::new("swarm-disk", threads).map_err(system("starting threads"))?;
        let runtime = network_runtime().map_err(system("starting the network thread"))?;
        let seed = match options.seed {
            Some(seed) => seed,
            None => random_seed().map_err(system("asking for random bytes"))?,
        };
        let (requests, inbox) = mpsc::unbounded_channel();
        let (ended_tx, ended) = oneshot::channel();
        let addrs = listening.clone();
        let (registry, events) = (Arc::<Registry>::default(), SessionEventSender::default());
        let first_events = Mutex::new(Some(events.subscribe_unclaimed()));
        let shared = (Arc::clone(&registry), events.clone());
        // If there is no thread for it, it must not be dropped here, which may be inside another runtime.
        let runtime = Arc::new(Mutex::new(Some(runtime)));
        let take = |runtime: &Mutex<Option<_>>| runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        let of_thread = Arc::clone(&runtime);
        let spawned = std::thread::Builder::new().name("swarm-net".to_owned()).spawn(move || {
            let Some(runtime) = take(&of_thread) else { return };
            let (registry, events) = shared;
            let context = Context::new(options, shares, addrs, Arc::new(workers), seed, events);
            context.set_ip_filter(filter);
            run::run(&runtime, context, registry, sockets, inbox);
            // A name that is still being looked up must not hold up the end.
            runtime.shutdown_background();
            let _ = ended_tx.send(());
        });
        let thread = spawned.map_err(|e| {
            take(&runtime).into_iter().for_each(tokio::runtime::Runtime::shutdown_background);
            system("starting the network thread")(e)
        })?;
        Ok(Session { requests, registry, events, first_events, listening, thread: Some(thread), ended })
    }

    /// The addresses that the session listens on.
    pub fn listen_addrs(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// Adds a torrent and returns at once; checking and everything else goes on by itself. For a link the metadata comes first, from
    /// peers that trackers, the DHT and the link name; the same connections then bring the data.
    ///
    /// # Errors
    /// [`Error::AlreadyAdded`], with the torrent's id; [`Error::Option`] if an option makes no sense; [`Error::Stopped`] if the session has ended.
    pub async fn add(&self, torrent: AddTorrent) -> Result<TorrentHandle, Error> {
        torrent.validate()?;
        let (reply, handle) = oneshot::channel();
        self.requests.send(Request::Add(Box::new(torrent), reply)).map_err(|_| Error::Stopped)?;
        handle.await.map_err(|_| Error::Stopped)?
    }

    /// The torrents that have not ended, in the order in which they were added.
    pub fn torrents(&self) -> Vec<TorrentHandle> {
        self.registry.all()
    }

    /// The torrent with this id, unless it has ended.
    pub fn get(&self, id: TorrentId) -> Option<TorrentHandle> {
        self.registry.get(id)
    }

    /// The torrent with this info-hash, unless it has ended.
    pub fn find(&self, info_hash: InfoHash) -> Option<TorrentHandle> {
        self.registry.find(info_hash)
    }

    /// The torrents that have connected peers, ask web seeds or hold unfinished pieces in memory, or have since this was asked last. Who watches many torrents, most of them
    /// idle, need not ask the others how they stand: their events tell when that changes. It costs what these torrents cost, however many
    /// others there are. There is one answer for all who ask.
    ///
    /// # Errors
    /// [`Error::Stopped`] if the session has ended.
    pub async fn active(&self) -> Result<Vec<TorrentId>, Error> {
        let (reply, active) = oneshot::channel();
        self.requests.send(Request::Active(reply)).map_err(|_| Error::Stopped)?;
        active.await.map_err(|_| Error::Stopped)
    }

    /// Stops a torrent and forgets it. Its files stay, or are deleted with what is saved about them: those that were verified, and
    /// what is unfinished. Others stay, even under the names of the torrent's files, and so do those of a torrent that has ended before.
    ///
    /// # Errors
    /// What the torrent ended with; [`Error::Storage`] if a file cannot be deleted.
    pub async fn remove(&self, id: TorrentId, data: Data) -> Result<(), Error> {
        let Some(torrent) = self.get(id) else { return Ok(()) };
        match data {
            Data::Keep => torrent.stop().await,
            Data::Delete => torrent.delete().await,
        }
    }

    /// What happens to all torrents, and to the session itself. The first receiver also has what happened before it was asked for, the
    /// last events at least.
    pub fn events(&self) -> SessionEvents {
        let first = self.first_events.lock().unwrap_or_else(PoisonError::into_inner).take();
        SessionEvents(first.map_or_else(|| self.events.subscribe(), Receiver::claim))
    }

    /// Looks up which torrent the link of a mutable torrent stands for now (BEP 46), for as long as it takes. Dropping the future ends
    /// the search.
    ///
    /// # Errors
    /// [`Error::NoDht`] if the session takes no part in the DHT, [`Error::NotMutable`] if something else is found,
    /// [`Error::Stopped`] if the session ends first.
    pub async fn resolve(&self, link: MutableTorrentLink) -> Result<InfoHash, Error> {
        let (reply, found) = oneshot::channel();
        self.requests.send(Request::Resolve(link, reply)).map_err(|_| Error::Stopped)?;
        found.await.map_err(|_| Error::Stopped)?
    }

    /// Sets or lifts the limit of payload sent to peers, all torrents together, in bytes/s.
    pub fn set_upload_limit(&self, bytes_per_s: impl Into<Option<u64>>) {
        let _ = self.requests.send(Request::SetUploadLimit(bytes_per_s.into()));
    }

    /// Sets or lifts the limit of payload received from peers, all torrents together, in bytes/s.
    pub fn set_download_limit(&self, bytes_per_s: impl Into<Option<u64>>) {
        let _ = self.requests.send(Request::SetDownloadLimit(bytes_per_s.into()));
    }

    /// Sets or lifts limits that the torrents of a group share, of payload sent and received, in bytes/s. They hold beside the session's
    /// and the torrents' own.
    pub fn set_rate_group(&self, group: RateGroup, upload: Option<u64>, download: Option<u64>) {
        let _ = self.requests.send(Request::SetRateGroup(group, upload, download));
    }

    /// Puts another IP filter in force, or none. Connections that it blocks end. Returns once that is done.
    ///
    /// # Errors
    /// [`Error::IpFilter`] if a file is no filter: the old one stays. [`Error::Stopped`] if the session has ended.
    pub async fn set_ip_filter(&self, filter: impl Into<Option<IpFilterSource>>) -> Result<(), Error> {
        let (reply, done) = oneshot::channel();
        self.requests.send(Request::SetIpFilter(filter.into(), reply)).map_err(|_| Error::Stopped)?;
        done.await.map_err(|_| Error::Stopped)?
    }

    /// Bans peers at these addresses, and no others: connections to them end, and nobody there is dialled or accepted. Trackers, web
    /// seeds and nodes of the DHT there are not concerned, unlike by the [IP filter](Self::set_ip_filter).
    pub fn set_banned(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        let _ = self.requests.send(Request::SetBanned(addresses.into_iter().collect()));
    }

    /// Stops every torrent, saving its state, and ends the session's threads.
    pub async fn stop(mut self) {
        let _ = self.requests.send(Request::Stop);
        let _ = (&mut self.ended).await;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Fetches a file over HTTP or HTTPS, at most `limit` bytes after decompression, within a minute. Connections leave from
/// the addresses and the device of a session with these options. Redirects are followed, but from a public address to
/// none of this machine or network. Needs a tokio runtime.
///
/// # Errors
/// [`Error::Fetch`] with what went wrong.
pub async fn fetch(url: &url::Url, limit: usize, options: &SessionOptions) -> Result<Vec<u8>, Error> {
    crate::http::fetch(url, limit, false, &options.binding()).await
}

/// The same for a URL that somebody names who is not to reach this machine or network through us: each address that is connected to, also after a
/// redirect, has to be a public one. With a proxy that holds for addresses in URLs; where a name leads is the proxy's business then, but it
/// is not `localhost`.
///
/// # Errors
/// [`Error::LocalAddress`] if it leads elsewhere, [`Error::Fetch`] with what went wrong.
pub async fn fetch_public(url: &url::Url, limit: usize, options: &SessionOptions) -> Result<Vec<u8>, Error> {
    crate::http::fetch(url, limit, true, &options.binding()).await
}

/// The network thread's runtime, with a thread for name lookups that stays: where there are no more threads, a lookup waits
/// for it.
fn network_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    const FOR_GOOD: std::time::Duration = std::time::Duration::from_secs(100 * 365 * 86_400);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().thread_keep_alive(FOR_GOOD).build()?;
    // The runtime panics where the system refuses the first one.
    match std::thread::Builder::new().spawn(|| {}).map(std::thread::JoinHandle::join) {
        Ok(_) => drop(runtime.spawn_blocking(|| {})),
        Err(e) => {
            runtime.shutdown_background();
            return Err(e);
        }
    }
    Ok(runtime)
}

fn random_seed() -> std::io::Result<u64> {
    getrandom::u64().map_err(std::io::Error::other)
}

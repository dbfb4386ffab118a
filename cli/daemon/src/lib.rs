//! The daemon of Swarm: torrents that outlive restarts, and an HTTP API to them. `docs/daemon.md` of the project is its design.
//!
//! [`Daemon::start`] opens the database and the session, takes up what was kept, and serves. The command line of `swarm daemon` is around
//! it.

#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]
#![allow(clippy::exhaustive_structs, clippy::exhaustive_enums, reason = "only the command line uses it")]

mod adding;
pub mod api;
pub mod auth;
mod completion;
mod config;
mod folders;
pub mod import;
mod manager;
mod metrics;
mod notice;
mod page;
mod qbittorrent;
pub mod settings;
pub mod store;
pub mod stream;
pub mod table;
pub mod torrents;
pub mod transmission;
pub mod units;

pub use adding::AddOptions;
pub use completion::Program;
pub use config::{Config, Prepare, Rules, Sockets};

use api::{App, serve};
use auth::{Access, Token};
use manager::Running;
use settings::Settings;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::thread::StoreThread;
use store::{ALIVE_AT, Loaded, Store, StoreError};
use swarm_engine::{Metainfo, MetainfoSpool, Session};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use torrents::{Book, Id, Record, Refusal};

/// The database's name in the daemon's folder.
const DATABASE: &str = "daemon.db";
/// The token's.
const TOKEN: &str = "token";
/// That of the password's hash.
pub const PASSWORD: &str = "password";

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The session does not start.
    #[error(transparent)]
    Session(#[from] swarm_engine::Error),
    /// A file or folder cannot be used.
    #[error("{}: cannot {what}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A socket cannot be opened.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Without a token only loopback is listened on.
    #[error("{0}: without a token (no-auth) only this machine may be listened on")]
    OpenToAll(SocketAddr),
    /// The system refuses something.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Asks whether a daemon answers. Clones ask the same one.
#[derive(Clone, Debug)]
pub struct Pulse(manager::commands::Handle);

impl Pulse {
    /// Returns once the daemon's manager has an answer; false if it has ended. That the database takes nothing is an answer too: a restart
    /// would not mend it.
    pub async fn answers(&self) -> bool {
        !matches!(self.0.ping().await, Err(Refusal::Stopping))
    }
}

/// A daemon that runs.
#[derive(Debug)]
pub struct Daemon {
    manager: Running,
    stop: watch::Sender<bool>,
    servers: JoinSet<()>,
    http: Vec<SocketAddr>,
    first_token: Option<Token>,
    socket: Option<PathBuf>,
    torrents: usize,
    close: Arc<Notify>,
}

impl Daemon {
    /// Starts a daemon that opens its own sockets. Needs a tokio runtime, in which it runs until [`stop`](Self::stop).
    ///
    /// # Errors
    /// If something that it needs cannot be had: then nothing has changed.
    pub async fn start(config: Config) -> Result<Daemon, StartError> {
        Daemon::start_on(Sockets::default(), config).await
    }

    /// The same with sockets that are open already, in place of those of their kind in the configuration.
    ///
    /// # Errors
    /// If something that it needs cannot be had: then nothing has changed.
    pub async fn start_on(sockets: Sockets, mut config: Config) -> Result<Daemon, StartError> {
        take_over(&sockets, &mut config)?;
        make_dir(&config.state_dir)?;
        let spool = MetainfoSpool::new(&config.state_dir).map_err(|source| StartError::File {
            path: config.state_dir.clone(),
            what: "make a file in it",
            source,
        })?;
        let (store, loaded, metainfo) = open(config.state_dir.join(DATABASE), spool.clone()).await?;
        let (access, first_token) = access(&config)?;
        let tcp = listen(sockets.tcp, &config.http).await?;
        let http: Vec<SocketAddr> = tcp.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let session = Session::start(config.session.clone())?;
        #[cfg(unix)]
        let unix = listen_unix(sockets.unix, config.socket.as_deref()).await?;
        let store = StoreThread::start(store)
            .map_err(|source| StartError::System { what: "start a thread", source })?;
        let alive_at = loaded.settings.get(ALIVE_AT).and_then(|text| text.parse().ok());
        let settings = Settings::of_kept(&loaded.settings);
        let torrents = loaded.records.len();
        let book = Book::load(with_metainfo(loaded.records, metainfo), loaded.labels, loaded.last_id);
        let manager = manager::start(
            book,
            manager::Kept { alive_at, settings, bans: loaded.bans },
            store,
            spool,
            session,
            config.prepare.clone(),
            config.rules.clone(),
        );
        let (stop, stopping) = watch::channel(false);
        let qbittorrent = qbittorrent::Shared::default();
        let log = Arc::clone(&qbittorrent.log);
        tokio::spawn(qbittorrent::log::watch(log, manager.notices.subscribe(), manager.table.clone()));
        let close = Arc::new(Notify::new());
        let transmission = transmission::Shared::new()
            .map_err(|source| StartError::System { what: "get random bytes", source })?;
        let history = page::history::History::default();
        tokio::spawn(history.clone().run(manager.table.clone(), stopping.clone()));
        let app = Arc::new(App {
            manager: manager.handle.clone(),
            table: manager.table.clone(),
            notices: manager.notices.clone(),
            rules: manager.rules.clone(),
            standing: manager.standing.clone(),
            labels: manager.labels.clone(),
            access,
            qbittorrent,
            session: config.session.clone(),
            listening: manager.listening.clone(),
            serving: http.clone(),
            counters: Arc::clone(&manager.counters),
            http: metrics::HttpCounters::default(),
            players: Default::default(),
            streams: Default::default(),
            history,
            started_at: manager::now(),
            state_dir: config.state_dir.clone(),
            transmission,
            close: Arc::clone(&close),
            stopping: stopping.clone(),
        });
        let router = page::based(api::router(app), manager.rules.clone());
        let mut servers = JoinSet::new();
        for listener in tcp {
            servers.spawn(serve::tcp(listener, router.clone(), stopping.clone()));
        }
        #[cfg(unix)]
        for listener in unix {
            servers.spawn(serve::unix(listener, router.clone(), stopping.clone()));
        }
        tokio::spawn(manager::watch::watch(manager.handle.clone(), manager.rules.clone(), config.session));
        Ok(Daemon { manager, stop, servers, http, first_token, socket: config.socket, torrents, close })
    }

    /// Where HTTP is served.
    pub fn http(&self) -> &[SocketAddr] {
        &self.http
    }

    /// The link to the page that lets its reader in; only if its token was made at this start.
    pub fn first_link(&self) -> Option<String> {
        let token = self.first_token.as_ref()?.reveal();
        let mut addr = *self.http.first()?;
        if addr.ip().is_unspecified() {
            addr.set_ip(if addr.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        Some(format!("http://{addr}/?token={token}"))
    }

    /// Where peers can reach it.
    pub fn listening(&self) -> &[SocketAddr] {
        &self.manager.listening
    }

    /// How many torrents were kept from before.
    pub fn torrents(&self) -> usize {
        self.torrents
    }

    /// Takes over the torrents of another program. What is here already is passed over.
    pub async fn import(&self, import: &import::Import) -> import::Report {
        let rules = self.manager.rules.borrow().clone();
        import::run(import, &self.manager.handle, rules).await
    }

    /// What asks whether it answers.
    pub fn pulse(&self) -> Pulse {
        Pulse(self.manager.handle.clone())
    }

    /// Waits until a client asks for its end, which is [`stop`](Self::stop)'s to bring about.
    pub async fn close_asked(&self) {
        self.close.notified().await;
    }

    /// Has other rules in force.
    pub async fn reload(&self, rules: Rules) {
        // It is not ending: that is ours to say.
        let _ = self.manager.handle.reload(rules).await;
    }

    /// Ends it: requests are answered, peers and trackers told, everything saved.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        self.manager.handle.stop().await;
        while self.servers.join_next().await.is_some() {}
        self.manager.ended().await;
        if let Some(path) = &self.socket {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What is known of torrents beyond their records.
type KnownMetainfo = BTreeMap<Id, Arc<Metainfo>>;

/// Has sockets that are open already take the place of those in the configuration.
fn take_over(sockets: &Sockets, config: &mut Config) -> Result<(), StartError> {
    #[cfg(unix)]
    if !sockets.unix.is_empty() {
        // Who has opened them removes them.
        config.socket = None;
    }
    if !sockets.tcp.is_empty() {
        config.http = sockets.tcp.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    }
    match config.http.iter().find(|addr| !config.auth && !addr.ip().is_loopback()) {
        Some(addr) => Err(StartError::OpenToAll(*addr)),
        None => Ok(()),
    }
}

/// Opens the database on a thread that may block.
async fn open(path: PathBuf, spool: MetainfoSpool) -> Result<(Store, Loaded, KnownMetainfo), StartError> {
    let opened = tokio::task::spawn_blocking(move || {
        let store = Store::open(&path)?;
        let loaded = store.load()?;
        let mut metainfo = BTreeMap::new();
        store.each_metainfo(|id, bytes| {
            match Metainfo::parse(bytes) {
                Ok(known) => drop(metainfo.insert(id, Arc::new(spool.keep(known)))),
                // It leaves a torrent without, which says so when it is to run.
                Err(error) => {
                    tracing::error!(torrent = %id, %error, "the metainfo that was kept cannot be read");
                }
            }
        })?;
        Ok::<_, StoreError>((store, loaded, metainfo))
    });
    let defect =
        |error| StartError::System { what: "open the database", source: std::io::Error::other(error) };
    Ok(opened.await.map_err(defect)??)
}

/// Records with what else is known.
fn with_metainfo(records: Vec<Record>, mut known: KnownMetainfo) -> Vec<(Record, Option<Arc<Metainfo>>)> {
    let with = |record: Record| {
        let metainfo = known.remove(&record.id);
        (record, metainfo)
    };
    records.into_iter().map(with).collect()
}

/// Makes the daemon's folder, which only its owner may enter.
///
/// # Errors
/// If it cannot be made.
pub fn make_dir(path: &Path) -> Result<(), StartError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let file = |source| StartError::File { path: path.to_owned(), what: "make the folder", source };
    builder.create(path).map_err(file)
}

/// Who gets in, and the token if it was made now.
fn access(config: &Config) -> Result<(Access, Option<Token>), StartError> {
    let (token, password) = (config.state_dir.join(TOKEN), config.state_dir.join(PASSWORD));
    let file = |path: &Path, what| {
        let path = path.to_owned();
        move |source| StartError::File { path, what, source }
    };
    let made = match config.auth {
        true => Some(Token::load_or_make(&token).map_err(file(&token, "use it as the token"))?),
        false => None,
    };
    let first = made.as_ref().filter(|(_, is_new)| *is_new).map(|(token, _)| token.clone());
    let access = Access::new(made.map(|(token, _)| token), &config.user, &password);
    Ok((access.map_err(file(&password, "use it as the password"))?, first))
}

/// Sockets for HTTP: those that are open already, or else new ones at these addresses.
async fn listen(
    open: Vec<std::net::TcpListener>,
    addrs: &[SocketAddr],
) -> Result<Vec<tokio::net::TcpListener>, StartError> {
    let wrong = |addr: SocketAddr| move |source| StartError::Listen { address: addr.to_string(), source };
    let mut listeners = Vec::new();
    if open.is_empty() {
        for &addr in addrs {
            listeners.push(serve::listen(addr).await.map_err(wrong(addr))?);
        }
    }
    for (listener, &addr) in open.into_iter().zip(addrs) {
        let taken = listener.set_nonblocking(true).and_then(|()| listener.try_into());
        listeners.push(taken.map_err(wrong(addr))?);
    }
    Ok(listeners)
}

/// Unix sockets: those that are open already, or else one at this path if there is to be one.
#[cfg(unix)]
async fn listen_unix(
    open: Vec<std::os::unix::net::UnixListener>,
    path: Option<&Path>,
) -> Result<Vec<tokio::net::UnixListener>, StartError> {
    let mut listeners = Vec::new();
    for listener in open {
        let taken = listener.set_nonblocking(true).and_then(|()| listener.try_into());
        let wrong =
            |source| StartError::Listen { address: "a socket that is open already".to_owned(), source };
        listeners.push(taken.map_err(wrong)?);
    }
    if let Some(path) = path {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            make_dir(folder)?;
        }
        let wrong = |source| StartError::Listen { address: path.display().to_string(), source };
        listeners.push(serve::listen_unix(path).await.map_err(wrong)?);
    }
    Ok(listeners)
}

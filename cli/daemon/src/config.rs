//! What the daemon is told at its start, and what of it can change while it runs.

use crate::completion::Program;
use crate::torrents::goals::Goals;
use crate::torrents::queue::Turns;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use swarm_engine::{AddTorrent, IpRange, SessionOptions};

/// What each torrent gets before it is added to the session, such as the trackers of the command line.
#[derive(Clone)]
pub struct Prepare(pub Arc<dyn Fn(AddTorrent) -> AddTorrent + Send + Sync>);

impl fmt::Debug for Prepare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepare")
    }
}

impl Default for Prepare {
    fn default() -> Prepare {
        Prepare(Arc::new(|torrent| torrent))
    }
}

/// How a daemon is started.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "each field is a decision of who starts it")]
pub struct Config {
    /// How the session behaves.
    pub session: SessionOptions,
    /// What each torrent gets.
    pub prepare: Prepare,
    /// The daemon's own folder, for its database and its token.
    pub state_dir: PathBuf,
    /// The Unix socket, if there is to be one.
    pub socket: Option<PathBuf>,
    /// Addresses for HTTP.
    pub http: Vec<SocketAddr>,
    /// The name of the user who has the password.
    pub user: String,
    /// Whether who comes over HTTP needs the token. Without it only loopback is listened on.
    pub auth: bool,
    /// What can change while it runs.
    pub rules: Rules,
}

/// Sockets that are open already, as a service manager hands them over.
#[derive(Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "each field is a decision of who starts it")]
pub struct Sockets {
    /// For HTTP. If there are any, they take the place of [`Config::http`].
    pub tcp: Vec<std::net::TcpListener>,
    /// Unix sockets. If there are any, they take the place of [`Config::socket`].
    #[cfg(unix)]
    pub unix: Vec<std::os::unix::net::UnixListener>,
}

/// What a running daemon can be told anew.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(clippy::exhaustive_structs, reason = "each field is a decision of who starts it")]
pub struct Rules {
    /// The folder for torrents whose folder is not said.
    pub dir: PathBuf,
    /// Other folders that may be used.
    pub allow_dirs: Vec<PathBuf>,
    /// A folder whose metainfo files are added.
    pub watch_dir: Option<PathBuf>,
    /// Names that clients may know this host by, beside loopback's and its addresses.
    pub hosts: Vec<String>,
    /// What the paths of all links begin with, such as `/swarm`, where a proxy has put the daemon below a path; empty if nothing.
    pub base: String,
    /// Proxies whose word about a client's host, scheme and address is taken.
    pub proxies: Vec<IpRange>,
    /// Whether metainfo files are fetched from this machine and network too, for who names their URLs.
    pub allow_private_urls: bool,
    /// How many torrents may run at the same time.
    pub turns: Turns,
    /// When a torrent has been seeded enough.
    pub goals: Goals,
    /// The program to run when a torrent is complete.
    pub on_complete: Option<Program>,
    /// The limit of payload sent, in bytes/s.
    pub upload_limit: Option<u64>,
    /// The limit of payload received, in bytes/s.
    pub download_limit: Option<u64>,
}

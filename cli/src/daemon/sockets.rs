//! The daemon's sockets: where they are, and those that a service manager has opened for it.

use crate::exit::{Exit, fail};
use crate::network::default_state_dir;
use anyhow::Result;
use std::path::{Path, PathBuf};
use swarm_daemon::Sockets;

/// The folder of the daemon in the state folder.
pub const FOLDER: &str = "daemon";
/// Its Unix socket there.
const SOCKET: &str = "socket";
/// That of the system's daemon, as its units and its configuration file have it.
const SYSTEM_SOCKET: &str = "/run/swarmbt/socket";

/// The Unix socket of a daemon with this state folder.
pub fn socket_in(state_dir: &Path) -> PathBuf {
    state_dir.join(FOLDER).join(SOCKET)
}

/// The Unix socket of the user's own daemon; that of the system's if only that is there.
pub fn default_socket() -> Option<PathBuf> {
    let own = default_state_dir().map(|dir| socket_in(&dir));
    let of_system = || Some(PathBuf::from(SYSTEM_SOCKET)).filter(|path| path.exists());
    match own {
        Some(own) if own.exists() => Some(own),
        own => of_system().or(own),
    }
}

/// Warnings of options that do not count because sockets were handed over.
///
/// # Errors
/// If there is to be no HTTP, and one for it was.
pub fn passed_over(
    given: &Sockets,
    no_http: bool,
    has_http: bool,
    socket: Option<&Path>,
) -> Result<Vec<&'static str>> {
    let mut warnings = Vec::new();
    if !given.tcp.is_empty() && no_http {
        return fail(
            Exit::Usage,
            "no-http is set, but the service manager has handed over a socket for HTTP",
        );
    }
    if !given.tcp.is_empty() && has_http {
        warnings.push("http is passed over: the service manager has handed over sockets for HTTP");
    }
    if socket.is_some() && path_of(given, socket).as_deref() != socket {
        warnings.push("socket is passed over: the service manager has handed over another");
    }
    Ok(warnings)
}

/// Where `swarm ctl` finds the daemon.
pub fn path_of(given: &Sockets, configured: Option<&Path>) -> Option<PathBuf> {
    #[cfg(unix)]
    if !given.unix.is_empty() {
        let path = |socket: &std::os::unix::net::UnixListener| {
            Some(socket.local_addr().ok()?.as_pathname()?.to_owned())
        };
        return given.unix.iter().find_map(path);
    }
    #[cfg(not(unix))]
    let _ = given;
    configured.map(Path::to_owned)
}

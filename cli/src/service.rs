//! What a service manager, such as systemd, hands over and is told: sockets to listen on, and how it goes. Where there is none, this does
//! nothing.

use crate::exit::{Exit, Failure};
use anyhow::Result;
use std::future::Future;
use swarm_daemon::{Pulse, Sockets};
use swarm_tracker::process::service;

pub use service::{ready, reloading, stopping};

/// Takes the sockets that were handed over (`LISTEN_FDS`), once. Call it while there is one thread: it clears the variables, so that nobody
/// who is started later takes them for theirs.
///
/// # Errors
/// If one is no socket for a server.
pub fn sockets() -> Result<Sockets> {
    #[cfg(unix)]
    {
        let mut given = listenfd::ListenFd::from_env();
        let mut sockets = Sockets::default();
        for nth in 0..given.len() {
            if let Ok(Some(listener)) = given.take_tcp_listener(nth) {
                check(&listener, nth)?;
                sockets.tcp.push(listener);
            } else if let Ok(Some(listener)) = given.take_unix_listener(nth) {
                check(&listener, nth)?;
                sockets.unix.push(listener);
            } else {
                return Err(wrong(nth, "is neither for TCP nor a Unix stream socket").into());
            }
        }
        Ok(sockets)
    }
    #[cfg(not(unix))]
    Ok(Sockets::default())
}

/// A connection is no listener, though it is a socket of the same kind.
#[cfg(unix)]
fn check(socket: impl std::os::fd::AsFd, nth: usize) -> Result<()> {
    match rustix::net::sockopt::socket_acceptconn(socket) {
        Ok(true) => Ok(()),
        _ => Err(wrong(nth, "does not listen; the socket unit needs Accept=no").into()),
    }
}

#[cfg(unix)]
fn wrong(nth: usize, what: &str) -> Failure {
    Failure::new(
        Exit::Usage,
        format!("socket {} of those that the service manager has handed over {what}", nth + 1),
    )
}

/// Feeds the service manager's watchdog, if there is one, for as long as the daemon answers.
pub async fn feed_watchdog(pulse: Pulse) {
    let answers = || {
        let pulse = pulse.clone();
        async move { pulse.answers().await }
    };
    service::feed_watchdog(answers).await;
}

/// Feeds the watchdog until `end` is done: while a daemon ends, it does not answer, and how long it may take is the service manager's to say.
pub async fn feed_until(end: impl Future<Output = ()>) {
    let feeding = async {
        service::feed_watchdog(|| async { true }).await;
        std::future::pending().await
    };
    tokio::select! {
        () = end => {}
        () = feeding => {}
    }
}

/// Whether what goes to stderr ends up in the journal, which others than the user may read.
pub fn is_in_journal() -> bool {
    #[cfg(unix)]
    {
        // "DEVICE:INODE" of the stream; whoever has inherited the variable and has another stderr is not meant.
        let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        let stat = rustix::fs::fstat(std::io::stderr());
        stat.is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
    }
    #[cfg(not(unix))]
    false
}

//! What a service manager, such as systemd, hands over and is told: sockets to listen on, and how it goes. Where there is none, this does
//! nothing.

use crate::exit::{Exit, Failure};
use anyhow::Result;
use std::future::Future;
use std::time::Duration;
use swarm_daemon::{Pulse, Sockets};

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

/// It answers, and this is how it goes.
pub fn ready(status: &str) {
    #[cfg(unix)]
    tell(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(&one_line(status))]);
    #[cfg(not(unix))]
    let _ = status;
}

/// It reads its configuration again; [`ready`] follows.
pub fn reloading() {
    #[cfg(unix)]
    {
        use sd_notify::NotifyState;
        // systemd from 253 on wants to know when.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
    }
}

/// It ends.
pub fn stopping() {
    #[cfg(unix)]
    tell(&[sd_notify::NotifyState::Stopping]);
}

/// Feeds the service manager's watchdog, if there is one, for as long as the daemon answers.
pub async fn feed_watchdog(pulse: Pulse) {
    if let Some(period) = watchdog() {
        let answers = || {
            let pulse = pulse.clone();
            async move { pulse.answers().await }
        };
        feed(period / 2, answers, fed).await;
    }
}

/// Feeds the watchdog until `end` is done: while a daemon ends, it does not answer, and how long it may take is the service manager's to say.
pub async fn feed_until(end: impl Future<Output = ()>) {
    let feeding = async {
        match watchdog() {
            Some(period) => feed(period / 2, || async { true }, fed).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = end => {}
        () = feeding => {}
    }
}

async fn feed<F: Future<Output = bool>>(every: Duration, answers: impl Fn() -> F, fed: impl Fn()) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if answers().await {
            fed();
        }
    }
}

/// How often the watchdog is to be fed at least.
fn watchdog() -> Option<Duration> {
    #[cfg(unix)]
    {
        sd_notify::watchdog_enabled().filter(|period| !period.is_zero())
    }
    #[cfg(not(unix))]
    None
}

fn fed() {
    #[cfg(unix)]
    tell(&[sd_notify::NotifyState::Watchdog]);
}

#[cfg(unix)]
fn tell(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(target: "swarm", %error, "the service manager cannot be told how it goes");
    }
}

/// A line break would begin another message.
#[cfg(unix)]
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use tokio::time::{Instant, timeout};

    /// How often the watchdog is fed within a minute of this.
    async fn fed_in_a_minute<F: Future<Output = bool>>(answers: impl Fn() -> F) -> usize {
        let count = Cell::new(0);
        let feeding = feed(Duration::from_secs(10), answers, || count.set(count.get() + 1));
        timeout(Duration::from_secs(59), feeding).await.unwrap_err();
        count.get()
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_while_the_daemon_answers() {
        assert_eq!(fed_in_a_minute(|| async { true }).await, 6);
        assert_eq!(fed_in_a_minute(|| async { false }).await, 0);
        let start = Instant::now();
        let answers_for_a_while = || async move {
            match start.elapsed() {
                early if early < Duration::from_secs(25) => true,
                _ => std::future::pending().await,
            }
        };
        assert_eq!(fed_in_a_minute(answers_for_a_while).await, 3);
    }

    #[cfg(unix)]
    #[test]
    fn a_status_is_one_message() {
        assert_eq!(one_line("a\nWATCHDOG=1\r"), "a WATCHDOG=1 ");
    }
}

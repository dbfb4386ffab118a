//! What a service manager, such as systemd, is told: how it goes. Where there is none, this does nothing.

use std::future::Future;
use std::time::Duration;

/// It serves, and this is how it goes.
pub fn ready(status: &str) {
    #[cfg(unix)]
    tell(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(&one_line(status))]);
    #[cfg(not(unix))]
    let _ = status;
}

/// It reads its files again; [`ready`] follows.
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

/// Feeds the service manager's watchdog, if there is one, for as long as `answers` says so.
pub async fn feed_watchdog<F: Future<Output = bool>>(answers: impl Fn() -> F) {
    if let Some(period) = watchdog() {
        feed(period / 2, answers, fed).await;
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
        tracing::warn!(%error, "the service manager cannot be told how it goes");
    }
}

/// A line break would begin another message.
#[cfg(unix)]
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
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

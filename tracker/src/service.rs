//! What a service manager, such as systemd, is told: how it goes. Where there is none, this does nothing.

use std::time::Duration;

/// It serves, and this is how it goes.
pub fn ready(status: &str) {
    #[cfg(unix)]
    {
        // A line break would begin another message.
        let status = status.replace(['\n', '\r'], " ");
        tell(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(&status)]);
    }
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

/// Feeds the service manager's watchdog, if there is one, whenever `looks` returns.
pub async fn feed_watchdog(looks: impl Fn()) {
    let Some(period) = watchdog() else { return };
    let mut ticks = tokio::time::interval(period / 2);
    loop {
        ticks.tick().await;
        looks();
        #[cfg(unix)]
        tell(&[sd_notify::NotifyState::Watchdog]);
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

#[cfg(unix)]
fn tell(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told how it goes");
    }
}

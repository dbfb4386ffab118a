//! Ctrl-C, SIGTERM and SIGHUP: the first asks the command to end cleanly; a second Ctrl-C or SIGTERM ends it
//! at once. Whatever comes within half a second of the first is part of it: `timeout` and some service managers
//! signal the process and then its group.
//!
//! A terminal that is closed sends SIGHUP more than once, so that one never cuts the end short. Who started
//! the command so that it ignores SIGHUP (`nohup`) has it ignored.

use crate::exit::{Exit, fail};
use anyhow::{Context as _, Result};
use std::io;

/// Makes a write beyond the limit on files' lengths (`ulimit -f`) an error, where the system would end the
/// process silently.
pub fn refuse_long_files() {
    #[cfg(unix)]
    // A handler that does nothing of use is enough. Failing that, all is as the system has it.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default());
}

/// Signals so soon after the first are the same request.
#[cfg(unix)]
const SAME_MILLIS: u64 = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM, as from a service manager.
    Terminate,
    /// SIGHUP: the terminal is gone.
    HangUp,
}

impl Signal {
    /// The status of a command that has not done what it was to do.
    pub fn exit(self) -> Exit {
        match self {
            Signal::Interrupt | Signal::Terminate => Exit::Interrupted,
            Signal::HangUp => Exit::HungUp,
        }
    }

    /// The status of a command that would have gone on until somebody ends it.
    pub fn exit_of_service(self) -> Exit {
        match self {
            Signal::Terminate => Exit::Done,
            other => other.exit(),
        }
    }

    /// In the `stopped` event.
    pub fn reason(self) -> &'static str {
        match self {
            Signal::Interrupt => "interrupted",
            Signal::Terminate => "terminated",
            Signal::HangUp => "hung_up",
        }
    }
}

#[derive(Debug)]
pub struct Interrupt {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    /// `None`: it is ignored.
    #[cfg(unix)]
    hang_up: Option<tokio::signal::unix::Signal>,
}

impl Interrupt {
    /// Takes over the signals, for the rest of the process's life. Needs a tokio runtime.
    pub fn install() -> Result<Interrupt> {
        Interrupt::take_over(true).context("cannot watch for signals")
    }

    /// The same for a service: to it SIGHUP is no request to end, and comes as often as somebody likes.
    pub fn install_for_service() -> Result<Interrupt> {
        Interrupt::take_over(false).context("cannot watch for signals")
    }

    #[cfg_attr(not(unix), allow(unused_variables))]
    fn take_over(hang_up_ends: bool) -> io::Result<Interrupt> {
        #[cfg(unix)]
        {
            use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
            use signal_hook::low_level;
            use std::sync::Arc;
            use std::sync::atomic::{AtomicU64, Ordering};
            use std::time::Instant;
            use tokio::signal::unix::{SignalKind, signal};
            // The exit happens inside the signal handler, so that it works whatever the threads are stuck in.
            let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
            let hang_up = if ignores_hang_up() { None } else { Some(signal(SignalKind::hangup())?) };
            let (start, asked_at) = (Instant::now(), Arc::new(AtomicU64::new(0)));
            let watched = [(SIGINT, true), (SIGTERM, true), (SIGHUP, false)];
            for (number, ends) in
                watched.into_iter().filter(|&(n, _)| n != SIGHUP || hang_up_ends && hang_up.is_some())
            {
                let asked_at = Arc::clone(&asked_at);
                let on_signal = move || {
                    let now = start.elapsed().as_millis() as u64 + 1;
                    let before = asked_at.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
                    let is_again = before.is_err_and(|at| now.saturating_sub(at) >= SAME_MILLIS);
                    if ends && is_again {
                        low_level::exit(Exit::Interrupted as i32);
                    }
                };
                // SAFETY: all that it calls is safe inside a signal handler: clock_gettime, atomics, _exit.
                unsafe { low_level::register(number, on_signal)? };
            }
            Ok(Interrupt { interrupt, terminate, hang_up })
        }
        #[cfg(not(unix))]
        Ok(Interrupt {})
    }

    /// Does work that blocks, on a thread of its own, until it is done or a signal comes.
    ///
    /// # Errors
    /// A `Failure` with the signal's status; the work goes on in the background, and ends with the process.
    pub async fn during<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (done, result) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new().spawn(move || drop(done.send(work())));
        thread.context("cannot start a thread; the limit of processes (ulimit -u) may be too low")?;
        tokio::select! {
            result = result => result.context("a defect in the engine"),
            signal = self.wait() => fail(signal.exit(), "interrupted"),
        }
    }

    /// Waits for the next signal.
    pub async fn wait(&mut self) -> Signal {
        #[cfg(unix)]
        {
            let Interrupt { interrupt, terminate, hang_up } = self;
            let hung_up = async {
                match hang_up {
                    Some(signal) => signal.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = interrupt.recv() => Signal::Interrupt,
                _ = terminate.recv() => Signal::Terminate,
                _ = hung_up => Signal::HangUp,
            }
        }
        #[cfg(not(unix))]
        {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            Signal::Interrupt
        }
    }
}

/// Whether the process was started with SIGHUP ignored (Linux).
#[cfg(unix)]
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal_hook::consts::SIGHUP - 1)) != 0)
}

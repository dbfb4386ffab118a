//! Ctrl-C and SIGTERM: the first asks the command to end cleanly, the second ends it at once.

use crate::exit::{Exit, Failure};
use anyhow::{Context as _, Result};
use std::io;

/// Has a write beyond the limit on files' lengths (`ulimit -f`) fail with an error that can be told, where the system would
/// end the process without a word.
pub fn tell_of_long_files() {
    #[cfg(unix)]
    // A handler that does nothing of use is enough. Failing that, all is as the system has it.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default());
}

/// Waits for the user's wish to end.
#[derive(Debug)]
pub struct Interrupt {
    #[cfg(unix)]
    signals: [tokio::signal::unix::Signal; 2],
}

impl Interrupt {
    /// Takes over both signals, for the rest of the process's life. Needs a tokio runtime.
    ///
    /// # Errors
    /// What the system says, should it refuse.
    pub fn install() -> Result<Interrupt> {
        Interrupt::take_over().context("cannot watch for signals")
    }

    fn take_over() -> io::Result<Interrupt> {
        #[cfg(unix)]
        {
            use signal_hook::consts::{SIGINT, SIGTERM};
            use std::sync::{Arc, atomic::AtomicBool};
            use tokio::signal::unix::{SignalKind, signal};
            let signals = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
            let asked = Arc::new(AtomicBool::new(false));
            for number in [SIGINT, SIGTERM] {
                // In this order: the exit comes before the flag that arms it. It happens inside the signal handler, so
                // that it works whatever the threads are stuck in.
                signal_hook::flag::register_conditional_shutdown(
                    number,
                    Exit::Interrupted as i32,
                    asked.clone(),
                )?;
                signal_hook::flag::register(number, asked.clone())?;
            }
            Ok(Interrupt { signals })
        }
        #[cfg(not(unix))]
        Ok(Interrupt {})
    }

    /// Does work that blocks, on a thread of its own, until it is done or a signal comes.
    ///
    /// # Errors
    /// A [`Failure`] with [`Exit::Interrupted`]; the work goes on in the background, and ends with the process.
    pub async fn during<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (done, result) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new().spawn(move || drop(done.send(work())));
        thread.context("cannot start a thread; the limit of processes (ulimit -u) may be too low")?;
        tokio::select! {
            result = result => result.context("a defect in the engine"),
            () = self.wait() => Err(Failure::new(Exit::Interrupted, "interrupted").into()),
        }
    }

    /// Returns when the first signal comes.
    pub async fn wait(&mut self) {
        #[cfg(unix)]
        {
            let [interrupt, terminate] = &mut self.signals;
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

//! The threads that hash, write and read files, so that no runtime thread ever waits for a disk.
//!
//! Two lanes: what a transfer waits for ([`Lane::Transfer`]) goes before the checking of what is already
//! there ([`Lane::Check`]), and checks never occupy every thread, so that a read for an upload does not wait
//! behind a piece of a 20 GiB check.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Something to do on a worker thread.
pub type Job = Box<dyn FnOnce() + Send>;

/// How urgent a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lane {
    /// Verifying and writing what arrived, preparing what is about to be sent.
    Transfer,
    /// Checking what is already on disk.
    Check,
}

/// A fixed number of worker threads. Dropping it runs the transfers that are queued, forgets the checks that
/// are, and joins the threads.
pub struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    queues: Mutex<Queues>,
    wake: Condvar,
    /// The most checks that may run at once.
    checks_max: usize,
}

#[derive(Default)]
struct Queues {
    transfers: VecDeque<Job>,
    checks: VecDeque<Job>,
    checks_running: usize,
    stopping: bool,
}

impl Workers {
    /// Starts `threads` threads, at least one, called `name-0`, `name-1` and so on; fewer if the system has
    /// no more.
    ///
    /// # Errors
    /// When the system refuses the first one.
    pub fn new(name: &str, threads: usize) -> std::io::Result<Workers> {
        let count = threads.max(1);
        let shared = Arc::new(Shared {
            queues: Mutex::default(),
            wake: Condvar::new(),
            checks_max: (count - 1).max(1),
        });
        let mut workers = Workers { shared, threads: Vec::with_capacity(count) };
        for i in 0..count {
            let shared = Arc::clone(&workers.shared);
            let thread = std::thread::Builder::new().name(format!("{name}-{i}"));
            match thread.spawn(move || shared.run()) {
                Ok(thread) => workers.threads.push(thread),
                Err(e) if i == 0 => return Err(e),
                Err(error) => {
                    tracing::warn!(%error, threads = i, "fewer threads than there are cores");
                    break;
                }
            }
        }
        Ok(workers)
    }

    /// As many threads as the process may run at once.
    pub fn default_threads() -> usize {
        std::thread::available_parallelism().map_or(1, |n| n.get())
    }

    /// Queues a job. The queue has no bound of its own: those who submit bound it. A panic in the job is
    /// logged, and goes no further: its result's channel closes.
    pub fn submit(&self, lane: Lane, job: impl FnOnce() + Send + 'static) {
        let mut queues = self.shared.lock();
        match lane {
            Lane::Transfer => queues.transfers.push_back(Box::new(job)),
            Lane::Check => queues.checks.push_back(Box::new(job)),
        }
        drop(queues);
        self.shared.wake.notify_one();
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let forgotten = {
            let mut queues = self.shared.lock();
            queues.stopping = true;
            std::mem::take(&mut queues.checks)
        };
        drop(forgotten);
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            // Jobs may hold the last handle of their own pool; a thread cannot wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Queues {
    /// The next job that may run now.
    fn pop(&mut self, checks_max: usize) -> Option<(Lane, Job)> {
        if let Some(job) = self.transfers.pop_front() {
            return Some((Lane::Transfer, job));
        }
        if self.checks_running == checks_max {
            return None;
        }
        let job = self.checks.pop_front()?;
        self.checks_running += 1;
        Some((Lane::Check, job))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each thread does until the pool is dropped.
    fn run(&self) {
        let mut queues = self.lock();
        loop {
            if let Some((lane, job)) = queues.pop(self.checks_max) {
                drop(queues);
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    // The panic hook has logged what and where.
                    tracing::error!("a disk job panicked");
                }
                queues = self.lock();
                if lane == Lane::Check {
                    queues.checks_running -= 1;
                    self.wake.notify_one();
                }
            } else if queues.stopping {
                return;
            } else {
                queues = self.wake.wait(queues).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn transfers_overtake_checks() {
        let workers = Workers::new("test", 1).unwrap();
        let (gate, opened) = mpsc::channel::<()>();
        let (out, order) = mpsc::channel();
        workers.submit(Lane::Transfer, move || opened.recv().unwrap());
        for (lane, name) in [(Lane::Check, "check"), (Lane::Transfer, "first"), (Lane::Transfer, "second")] {
            let out = out.clone();
            workers.submit(lane, move || out.send(name).unwrap());
        }
        gate.send(()).unwrap();
        assert_eq!(order.iter().take(3).collect::<Vec<_>>(), ["first", "second", "check"]);
    }

    #[test]
    fn checks_leave_a_thread_for_transfers() {
        let workers = Workers::new("test", 2).unwrap();
        let (gate, opened) = mpsc::channel::<()>();
        let opened = Arc::new(Mutex::new(opened));
        for _ in 0..2 {
            let opened = Arc::clone(&opened);
            workers.submit(Lane::Check, move || opened.lock().unwrap().recv().unwrap());
        }
        let (out, done) = mpsc::channel();
        workers.submit(Lane::Transfer, move || out.send(()).unwrap());
        done.recv().expect("a transfer runs while the checks are stuck");
        gate.send(()).unwrap();
        gate.send(()).unwrap();
    }

    #[test]
    fn a_panic_stays_in_its_job() {
        let workers = Workers::new("test", 1).unwrap();
        let (out, done) = mpsc::channel();
        let closed = out.clone();
        workers.submit(Lane::Check, move || {
            let _held = closed;
            panic!("on purpose");
        });
        workers.submit(Lane::Check, move || out.send(1).unwrap());
        assert_eq!(done.iter().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn dropping_finishes_the_transfers() {
        let (out, done) = mpsc::channel();
        let workers = Workers::new("test", 2).unwrap();
        for i in 0..100 {
            let out = out.clone();
            workers.submit(Lane::Transfer, move || out.send(i).unwrap());
        }
        drop((workers, out));
        assert_eq!(done.iter().count(), 100);
    }
}

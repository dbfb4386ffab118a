//! The threads that hash, write and read files, so that no runtime thread ever waits for a disk.
//!
//! Two lanes: what a transfer waits for ([`Lane::Transfer`]) goes before the checking of what is already
//! there ([`Lane::Check`]). No lane occupies every thread, unless the system gives one only: a read for an upload does not wait behind a piece of a
//! 20 GiB check.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Something to do on a worker thread.
pub type Job = Box<dyn FnOnce() + Send>;

/// How urgent a job is; the most urgent first.
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
}

#[derive(Default)]
struct Queues {
    lanes: [Queue; 2],
    /// The most jobs of a lane that run at once.
    at_once: usize,
    stopping: bool,
}

/// A lane's jobs.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Job>,
    running: usize,
}

impl Workers {
    /// Has up to `at_once` jobs of each lane run at once, at least one, on one thread more than that, called `name-0`, `name-1` and so on;
    /// on fewer if the system has no more.
    ///
    /// # Errors
    /// When the system refuses the first one.
    pub fn new(name: &str, at_once: usize) -> std::io::Result<Workers> {
        let count = at_once.max(1) + 1;
        let shared = Arc::new(Shared { queues: Mutex::default(), wake: Condvar::new() });
        let mut workers = Workers { shared, threads: Vec::with_capacity(count) };
        for i in 0..count {
            let shared = Arc::clone(&workers.shared);
            let thread = std::thread::Builder::new().name(format!("{name}-{i}"));
            match thread.spawn(move || shared.run()) {
                Ok(thread) => workers.threads.push(thread),
                Err(e) if i == 0 => return Err(e),
                Err(error) => {
                    tracing::warn!(%error, threads = i, "fewer threads than wanted");
                    break;
                }
            }
        }
        workers.shared.lock().at_once = workers.at_once();
        Ok(workers)
    }

    /// As many threads as the process may run at once.
    pub fn default_threads() -> usize {
        std::thread::available_parallelism().map_or(1, |n| n.get())
    }

    /// Queues a job. The queue has no bound of its own: those who submit bound it. A panic in the job is
    /// logged, and goes no further: its result's channel closes.
    pub fn submit(&self, lane: Lane, job: impl FnOnce() + Send + 'static) {
        self.shared.lock().lanes[lane as usize].waiting.push_back(Box::new(job));
        self.shared.wake.notify_one();
    }

    /// How many jobs of a lane run at once.
    pub fn at_once(&self) -> usize {
        (self.threads.len() - 1).max(1)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let forgotten = {
            let mut queues = self.shared.lock();
            queues.stopping = true;
            std::mem::take(&mut queues.lanes[Lane::Check as usize].waiting)
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
    fn pop(&mut self) -> Option<(Lane, Job)> {
        let at_once = self.at_once;
        [Lane::Transfer, Lane::Check].into_iter().find_map(|lane| {
            let queue = &mut self.lanes[lane as usize];
            let job = (queue.running < at_once).then(|| queue.waiting.pop_front())??;
            queue.running += 1;
            Some((lane, job))
        })
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
            if let Some((lane, job)) = queues.pop() {
                drop(queues);
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    // The panic hook has logged what and where.
                    tracing::error!("a disk job panicked");
                }
                queues = self.lock();
                queues.lanes[lane as usize].running -= 1;
                // This thread may go on with the other lane.
                self.wake.notify_one();
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

    /// Jobs that have begun and do not end before their gate is opened.
    fn held(workers: &Workers, lane: Lane, count: usize) -> Vec<mpsc::Sender<()>> {
        let (begun, has_begun) = mpsc::channel();
        let gates = (0..count).map(|_| {
            let (gate, opened) = mpsc::channel::<()>();
            let begun = begun.clone();
            workers.submit(lane, move || {
                begun.send(()).unwrap();
                opened.recv().unwrap();
            });
            gate
        });
        let gates = gates.collect();
        (0..count).for_each(|_| has_begun.recv().unwrap());
        gates
    }

    #[test]
    fn transfers_overtake_checks() {
        let workers = Workers::new("test", 2).unwrap();
        let checks = held(&workers, Lane::Check, 2);
        let transfer = held(&workers, Lane::Transfer, 1);
        let (out, order) = mpsc::channel();
        for (lane, name) in [(Lane::Check, "check"), (Lane::Transfer, "first"), (Lane::Transfer, "second")] {
            let out = out.clone();
            workers.submit(lane, move || out.send(name).unwrap());
        }
        checks[0].send(()).unwrap();
        assert_eq!(order.iter().take(3).collect::<Vec<_>>(), ["first", "second", "check"]);
        checks[1].send(()).unwrap();
        transfer[0].send(()).unwrap();
    }

    #[test]
    fn no_lane_takes_all_threads() {
        for (many, one) in [(Lane::Check, Lane::Transfer), (Lane::Transfer, Lane::Check)] {
            let workers = Workers::new("test", 2).unwrap();
            let gates = held(&workers, many, 2);
            let (out, done) = mpsc::channel();
            workers.submit(many, || ());
            workers.submit(one, move || out.send(()).unwrap());
            done.recv().expect("it runs while the others are stuck");
            gates.iter().for_each(|gate| gate.send(()).unwrap());
        }
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

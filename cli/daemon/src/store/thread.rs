//! The store for async code: it runs on a thread of its own, one job after the other.

use super::{Store, StoreError};
use std::sync::mpsc;
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce(&mut Store) + Send>;

/// Hands jobs to the store's thread. When it is dropped, the thread closes the database and ends.
#[derive(Debug)]
pub struct StoreThread {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl StoreThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system has no more of them.
    pub fn start(mut store: Store) -> std::io::Result<StoreThread> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let thread = std::thread::Builder::new().name("swarm-store".to_owned()).spawn(move || {
            inbox.into_iter().for_each(|job| job(&mut store));
        })?;
        Ok(StoreThread { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Does something with the store, after everything that it was asked before.
    ///
    /// # Errors
    /// What the job fails with.
    ///
    /// # Panics
    /// If a job has panicked: then nothing more can be written.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, result) = oneshot::channel();
        let job: Job = Box::new(move |store| drop(reply.send(job(store))));
        let jobs = self.jobs.as_ref().expect("it is taken only to end the thread");
        jobs.send(job).expect("the store's thread runs");
        result.await.expect("the store's thread answers")
    }
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

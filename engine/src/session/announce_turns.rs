//! When torrents announce that are some among thousands: a session neither opens a connection for each of them at once, nor tells a tracker of
//! all of them in the same minute.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use swarm_core::time::{Duration, Time};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many announces over HTTP are under way at a time.
const PARALLEL_MAX: usize = 48;
/// How many of these at one host, so that one which says nothing does not hold up the others.
const HOST_PARALLEL_MAX: usize = 16;
/// What the start of a torrent that needs no peers takes of the rate of such starts: 100 a second.
const START_SPACING: Duration = Duration::from_millis(10);
/// How much of that rate may be saved up.
const START_BURST: Duration = Duration::from_millis(200);

/// Whose turn it is to announce.
#[derive(Debug)]
pub(super) struct AnnounceTurns {
    all: Arc<Semaphore>,
    hosts: RefCell<BTreeMap<String, Weak<Semaphore>>>,
    /// The rate of starts is used up until then.
    spent_until: Cell<Option<Time>>,
}

impl Default for AnnounceTurns {
    fn default() -> AnnounceTurns {
        AnnounceTurns {
            all: Arc::new(Semaphore::new(PARALLEL_MAX)),
            hosts: RefCell::default(),
            spent_until: Cell::default(),
        }
    }
}

impl AnnounceTurns {
    /// When a torrent that has all it wants may tell its trackers that it is here.
    pub(super) fn next_start(&self, now: Time) -> Time {
        let spent = self.spent_until.get().map_or(now, |until| until.max(now));
        self.spent_until.set(Some(spent + START_SPACING));
        if spent <= now + START_BURST { now } else { spent }
    }

    /// Waits for a turn at this host, which lasts as long as what is returned.
    pub(super) async fn turn(&self, host: &str) -> [Option<OwnedSemaphorePermit>; 2] {
        let at_host = self.host(host);
        // Never closed.
        let at_host = at_host.acquire_owned().await.ok();
        [Arc::clone(&self.all).acquire_owned().await.ok(), at_host]
    }

    fn host(&self, host: &str) -> Arc<Semaphore> {
        let mut hosts = self.hosts.borrow_mut();
        if let Some(known) = hosts.get(host).and_then(Weak::upgrade) {
            return known;
        }
        // Those that nobody waits for.
        hosts.retain(|_, known| known.strong_count() > 0);
        let new = Arc::new(Semaphore::new(HOST_PARALLEL_MAX));
        hosts.insert(host.to_owned(), Arc::downgrade(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_now::now;

    mod futures_now {
        use std::future::Future;
        use std::pin::pin;
        use std::task::{Context, Poll, Waker};

        /// What it gives without waiting.
        pub(super) fn now<T>(future: impl Future<Output = T>) -> Option<T> {
            match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(value) => Some(value),
                Poll::Pending => None,
            }
        }
    }

    #[test]
    fn few_start_at_once_and_many_one_after_the_other() {
        let turns = AnnounceTurns::default();
        let now = Time::ZERO + Duration::from_secs(5);
        let starts: Vec<Time> = (0..1_000).map(|_| turns.next_start(now)).collect();
        assert_eq!(starts.iter().filter(|at| **at == now).count(), 21);
        assert!(starts.is_sorted());
        assert_eq!(starts[999], now + START_SPACING * 999);
        let later = now + Duration::from_secs(60);
        assert_eq!(turns.next_start(later), later);
    }

    #[test]
    fn a_host_that_says_nothing_leaves_room_for_others() {
        let turns = AnnounceTurns::default();
        let mut silent: Vec<_> = (0..HOST_PARALLEL_MAX).map(|_| now(turns.turn("a")).unwrap()).collect();
        assert!(now(turns.turn("a")).is_none());
        let others: Vec<_> = (0..PARALLEL_MAX).map_while(|nth| now(turns.turn(&nth.to_string()))).collect();
        assert_eq!(others.len(), PARALLEL_MAX - HOST_PARALLEL_MAX);
        silent.pop();
        assert!(now(turns.turn("a")).is_some());
        drop((silent, others));
        assert!(now(turns.turn("b")).is_some());
        assert_eq!(turns.hosts.borrow().len(), 1, "hosts are forgotten");
    }
}

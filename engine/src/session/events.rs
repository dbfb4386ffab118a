//! Streams of events: each receiver has a queue of its own, which holds only what it has not taken yet.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::Notify;

/// How many events a receiver may fall behind before it misses the oldest.
const EVENTS_MAX: usize = 4_096;
/// The same for a receiver that nobody has asked for yet.
const EVENTS_UNCLAIMED_MAX: usize = 64;

/// Hands events to all receivers. Clones are the same sender; when the last one is gone, the streams end.
#[derive(Debug)]
pub(super) struct EventSender<E>(Arc<Senders<E>>);

#[derive(Debug)]
struct Senders<E>(Mutex<Vec<Weak<Shared<E>>>>);

#[derive(Debug)]
struct Shared<E> {
    queue: Mutex<Queue<E>>,
    changed: Notify,
}

#[derive(Debug)]
struct Queue<E> {
    events: VecDeque<E>,
    events_max: usize,
    missed: u64,
    has_ended: bool,
}

/// What a receiver gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Received<E> {
    /// The next event.
    Event(E),
    /// So many events were missed, since this receiver was too slow.
    Missed(u64),
}

/// A queue of events.
#[derive(Debug)]
pub(super) struct Receiver<E>(Arc<Shared<E>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<E> Clone for EventSender<E> {
    fn clone(&self) -> EventSender<E> {
        EventSender(Arc::clone(&self.0))
    }
}

impl<E> Default for EventSender<E> {
    fn default() -> EventSender<E> {
        EventSender(Arc::new(Senders(Mutex::default())))
    }
}

impl<E: Clone> EventSender<E> {
    pub(super) fn send(&self, event: &E) {
        lock(&self.0.0).retain(|receiver| {
            let Some(shared) = receiver.upgrade() else { return false };
            let mut queue = lock(&shared.queue);
            if queue.events.len() >= queue.events_max {
                queue.events.pop_front();
                queue.missed += 1;
            }
            queue.events.push_back(event.clone());
            shared.changed.notify_one();
            true
        });
    }

    /// A receiver of what happens from now on.
    pub(super) fn subscribe(&self) -> Receiver<E> {
        self.with_room(EVENTS_MAX)
    }

    /// A receiver that keeps little until it is [claimed](Receiver::claim).
    pub(super) fn subscribe_unclaimed(&self) -> Receiver<E> {
        self.with_room(EVENTS_UNCLAIMED_MAX)
    }

    fn with_room(&self, events_max: usize) -> Receiver<E> {
        let queue = Queue { events: VecDeque::new(), events_max, missed: 0, has_ended: false };
        let shared = Arc::new(Shared { queue: Mutex::new(queue), changed: Notify::new() });
        lock(&self.0.0).push(Arc::downgrade(&shared));
        Receiver(shared)
    }

    /// For handles, which do not keep the stream going.
    pub(super) fn downgrade(&self) -> WeakEventSender<E> {
        WeakEventSender(Arc::downgrade(&self.0))
    }
}

impl<E> Drop for Senders<E> {
    fn drop(&mut self) {
        for shared in lock(&self.0).iter().filter_map(Weak::upgrade) {
            lock(&shared.queue).has_ended = true;
            shared.changed.notify_one();
        }
    }
}

/// A sender that does not keep the streams going.
#[derive(Debug)]
pub(super) struct WeakEventSender<E>(Weak<Senders<E>>);

impl<E: Clone> WeakEventSender<E> {
    /// A receiver of what happens from now on, unless the stream has ended.
    pub(super) fn subscribe(&self) -> Option<Receiver<E>> {
        Some(EventSender(self.0.upgrade()?).subscribe())
    }
}

impl<E> Receiver<E> {
    /// Somebody takes events from it from now on.
    pub(super) fn claim(self) -> Receiver<E> {
        lock(&self.0.queue).events_max = EVENTS_MAX;
        self
    }

    /// The next event; `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> Option<Received<E>> {
        loop {
            {
                let mut queue = lock(&self.0.queue);
                if queue.missed > 0 {
                    return Some(Received::Missed(std::mem::take(&mut queue.missed)));
                }
                if let Some(event) = queue.events.pop_front() {
                    return Some(Received::Event(event));
                }
                if queue.has_ended {
                    return None;
                }
            }
            self.0.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_receiver_is_told_how_many_events_it_missed() {
        let sender = EventSender::default();
        let mut receiver = sender.subscribe();
        let all = EVENTS_MAX as u64 + 5;
        (0..all).for_each(|n| sender.send(&n));
        assert_eq!(receiver.next().await, Some(Received::Missed(5)));
        for n in 5..all {
            assert_eq!(receiver.next().await, Some(Received::Event(n)));
        }
        drop(sender);
        assert_eq!(receiver.next().await, None);
    }

    #[tokio::test]
    async fn an_unclaimed_receiver_keeps_little() {
        let sender = EventSender::default();
        let receiver = sender.subscribe_unclaimed();
        (0..1_000).for_each(|n| sender.send(&n));
        let mut receiver = receiver.claim();
        assert_eq!(receiver.next().await, Some(Received::Missed(1_000 - EVENTS_UNCLAIMED_MAX as u64)));
        (0..1_000).for_each(|n| sender.send(&n));
        let first = 1_000 - EVENTS_UNCLAIMED_MAX as u64;
        assert_eq!(receiver.next().await, Some(Received::Event(first)));
    }

    #[tokio::test]
    async fn receivers_do_not_share_a_queue() {
        let sender = EventSender::default();
        let (mut one, gone) = (sender.subscribe(), sender.subscribe());
        drop(gone);
        sender.send(&1);
        let mut other = sender.downgrade().subscribe().unwrap();
        sender.send(&2);
        assert_eq!(other.next().await, Some(Received::Event(2)));
        assert_eq!(one.next().await, Some(Received::Event(1)));
        let weak = sender.downgrade();
        drop(sender);
        assert_eq!(one.next().await, Some(Received::Event(2)));
        assert_eq!(one.next().await, None);
        assert!(weak.subscribe().is_none());
    }
}

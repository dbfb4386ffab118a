//! Places for connections.
//!
//! There is a bounded number of them, and anybody can open connections and leave them at that. So when a
//! further client comes and no place is free, somebody is evicted: the one whose last reply is longest ago, or
//! else, where nobody has got a reply yet, the one that has been here longest without a whole request. Who
//! asks at once and goes is not in danger.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use swarm_core::time::{Duration, Time};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// After further replies within this time a connection keeps its place in the order of eviction, which costs nothing.
const REORDER_INTERVAL: Duration = Duration::from_secs(1);

/// Places for connections.
#[derive(Debug)]
pub(super) struct Places {
    slots: Mutex<Slots>,
    freed: Notify,
}

#[derive(Debug)]
struct Slots {
    /// How many there may be.
    max: usize,
    /// How many there may be for now, while the process can open no more files.
    max_for_now: usize,
    taken: usize,
    next: u64,
    /// Connections that have not been told to go.
    staying: HashMap<u64, Staying>,
    /// The same, first whoever goes first.
    order: BTreeSet<(Order, u64)>,
}

#[derive(Debug)]
struct Staying {
    order: Order,
    abort: Option<AbortHandle>,
}

/// When a connection is evicted, each by when that was, in the order of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    /// It has got a reply.
    Served(u64),
    /// It has not sent a whole request.
    Unserved(u64),
}

impl Places {
    pub fn new(max: usize) -> Arc<Places> {
        let slots = Slots {
            max: max.max(1),
            max_for_now: usize::MAX,
            taken: 0,
            next: 0,
            staying: HashMap::new(),
            order: BTreeSet::new(),
        };
        Arc::new(Places { slots: Mutex::new(slots), freed: Notify::new() })
    }

    /// From now on there are so many. Further connections are evicted as others come.
    pub fn set_max(&self, max: usize) {
        self.lock().max = max.max(1);
    }

    /// A place, as soon as there is one; somebody is evicted for it.
    pub async fn take(self: &Arc<Self>) -> Place {
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(id) = self.lock().take() {
                return Place { places: self.clone(), id, moved_us: AtomicU64::new(0) };
            }
            freed.await;
        }
    }

    /// What ends the connection that has this place, should it be evicted.
    pub fn set_abort(&self, id: u64, abort: AbortHandle) {
        match self.lock().staying.get_mut(&id) {
            Some(staying) => staying.abort = Some(abort),
            // It has gone, or was told to before there was a way to.
            None => abort.abort(),
        }
    }

    /// No further file can be opened: some are evicted, and until [`Places::grow`] there are no more than now.
    /// Whether anybody is there to evict.
    pub fn shrink(&self) -> bool {
        let mut slots = self.lock();
        let leaving = slots.taken - slots.staying.len();
        let gives = (1 + slots.taken / 16).saturating_sub(leaving);
        slots.max_for_now = slots.taken.saturating_sub(1 + slots.taken / 16).max(1);
        for _ in 0..gives {
            slots.evict();
        }
        slots.taken > 0
    }

    /// As many as before may be tried again.
    pub fn grow(&self) {
        self.lock().max_for_now = usize::MAX;
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    /// A place if one is free, or else somebody is told to go.
    fn take(&mut self) -> Option<u64> {
        if self.taken >= self.max.min(self.max_for_now) {
            self.evict();
            return None;
        }
        self.taken += 1;
        self.next += 1;
        let (id, order) = (self.next, Order::Unserved(self.next));
        self.staying.insert(id, Staying { order, abort: None });
        self.order.insert((order, id));
        Some(id)
    }

    fn evict(&mut self) {
        if let Some((_, id)) = self.order.pop_first()
            && let Some(Staying { abort: Some(abort), .. }) = self.staying.remove(&id)
        {
            abort.abort();
        }
    }
}

/// A connection's place, until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    id: u64,
    /// When its place in the order of eviction last changed; zero before the first reply.
    moved_us: AtomicU64,
}

impl Place {
    /// What number it has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// A reply has been given at this time, which is long ago only if no other follows.
    pub fn served(&self, now: Time) {
        let now_us = now.as_micros().max(1);
        let moved_us = self.moved_us.load(Ordering::Relaxed);
        if moved_us != 0 && now_us.saturating_sub(moved_us) < REORDER_INTERVAL.as_micros() as u64 {
            return;
        }
        self.moved_us.store(now_us, Ordering::Relaxed);
        let mut slots = self.places.lock();
        slots.next += 1;
        let order = Order::Served(slots.next);
        let Some(staying) = slots.staying.get_mut(&self.id) else { return };
        let before = std::mem::replace(&mut staying.order, order);
        slots.order.remove(&(before, self.id));
        slots.order.insert((order, self.id));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut slots = self.places.lock();
        slots.taken -= 1;
        if let Some(staying) = slots.staying.remove(&self.id) {
            slots.order.remove(&(staying.order, self.id));
        }
        drop(slots);
        self.places.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    /// Who takes a place and sits there until told to go.
    fn sit(places: &Arc<Places>, place: Place) -> Arc<Place> {
        let place = Arc::new(place);
        let sitting = place.clone();
        let task = tokio::spawn(async move {
            let _sitting = sitting;
            std::future::pending::<()>().await;
        });
        places.set_abort(place.id(), task.abort_handle());
        place
    }

    fn leaving(places: &Places) -> Vec<u64> {
        let slots = places.lock();
        (1..=slots.next).filter(|id| !slots.staying.contains_key(id)).collect()
    }

    #[tokio::test]
    async fn who_was_served_longest_ago_goes_first_then_who_waits_longest() {
        let places = Places::new(4);
        let mut slots = Vec::new();
        for _ in 0..4 {
            slots.push(sit(&places, places.take().await));
        }
        slots[2].served(at(1));
        slots[1].served(at(2));
        slots[2].served(at(3));
        let ids: Vec<_> = slots.iter().map(|seat| seat.id()).collect();
        let mut seats_left = places.lock();
        let order: Vec<_> = seats_left.order.iter().map(|(_, id)| *id).collect();
        assert_eq!(order, [ids[1], ids[2], ids[0], ids[3]]);
        // Nobody is told twice, and nobody comes before one has gone.
        for _ in 0..6 {
            assert_eq!(seats_left.take(), None);
        }
        assert!(seats_left.staying.is_empty());
    }

    #[tokio::test]
    async fn a_newcomer_gets_the_place_of_one_that_goes() {
        let places = Places::new(1);
        for _ in 0..100 {
            // Its only owner is the task.
            drop(sit(&places, places.take().await));
        }
        assert_eq!(places.lock().taken, 1);
    }

    #[tokio::test]
    async fn replies_in_a_row_cost_one_turn() {
        let places = Places::new(2);
        let place = places.take().await;
        place.served(at(0));
        let events = places.lock().next;
        for _ in 0..1000 {
            place.served(at(0));
        }
        assert_eq!(places.lock().next, events);
        place.served(at(2));
        assert_eq!(places.lock().next, events + 1);
    }

    #[tokio::test]
    async fn without_descriptors_there_are_fewer_places_for_a_while() {
        let places = Places::new(100);
        let mut slots = Vec::new();
        for _ in 0..64 {
            slots.push(sit(&places, places.take().await));
        }
        places.shrink();
        assert_eq!(leaving(&places), [1, 2, 3, 4, 5]);
        places.shrink();
        assert_eq!(leaving(&places).len(), 5, "those have not gone yet");
        assert_eq!(places.lock().take(), None);
        slots.clear();
        while places.lock().taken > 58 {
            tokio::task::yield_now().await;
        }
        assert!(places.lock().take().is_some());
        assert_eq!(places.lock().take(), None);
        places.grow();
        assert!(places.lock().take().is_some());
    }
}

//! The addresses that could be dialled: a bounded set. A flood from one source displaces nothing from others, and the next
//! address is found without a search.

use super::Origin;
use crate::id::PeerKey;
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// How many addresses are remembered.
pub const ADDRESSES_MAX: usize = 2_000;
/// This many addresses from one source count as one.
const NAMED_AT_ONCE: u32 = 16;

/// How many of those that told of an address are remembered.
pub(super) const RELAYS_MAX: usize = 2;

/// The kind of source of an address. Each has a share of the set, and of the dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    User,
    Tracker,
    Dht,
    Local,
    /// PEX.
    Peer,
    /// An inbound connection that told its listen port.
    Caller,
}

impl Class {
    const ALL: [Class; 6] =
        [Class::User, Class::Tracker, Class::Dht, Class::Local, Class::Peer, Class::Caller];

    /// Its share of a full set, and of the dials while other classes wait too. The user's addresses come before all others.
    fn weight(self) -> u64 {
        match self {
            Class::User | Class::Tracker => 4,
            Class::Dht | Class::Peer => 2,
            Class::Local | Class::Caller => 1,
        }
    }
}

/// An address that could be dialled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) class: Class,
    source: Option<IpAddr>,
    /// A tracker named it, perhaps besides others.
    pub(super) by_tracker: bool,
    pub(super) failures: u32,
    /// It is known to want encrypted connections.
    pub(super) wants_encryption: bool,
    /// Whether it was reached over uTP last time, or over TCP.
    pub(super) answered_utp: Option<bool>,
    /// Peers that told of it by PEX and can have us meet it (BEP 55), the last one first.
    pub(super) relays: [Option<PeerKey>; RELAYS_MAX],
    /// When it may be dialled; `None`: at once.
    pub(super) retry_at: Option<Time>,
    priority: DialPriority,
}

impl Candidate {
    pub(super) fn new(origin: Origin) -> Candidate {
        let (class, source) = origin.class();
        let by_tracker = matches!(origin, Origin::Tracker(_));
        Candidate {
            class,
            source,
            by_tracker,
            failures: 0,
            wants_encryption: false,
            answered_utp: None,
            relays: [None; RELAYS_MAX],
            retry_at: None,
            priority: DialPriority::default(),
        }
    }

    /// The listen address of an inbound connection.
    pub(super) fn caller(ip: IpAddr) -> Candidate {
        Candidate { class: Class::Caller, source: Some(ip), ..Candidate::new(Origin::User) }
    }

    pub(super) fn is_by_tracker_or_user(&self) -> bool {
        self.by_tracker || self.class == Class::User
    }

    /// Whether this origin counts more than those known so far.
    pub(super) fn counts_more_by(&self, origin: Origin) -> bool {
        origin.class().0 < self.class || !self.by_tracker && matches!(origin, Origin::Tracker(_))
    }

    /// Another source names it: the one that counts most is kept.
    pub(super) fn named_by(&mut self, origin: Origin) {
        let (class, source) = origin.class();
        self.by_tracker |= matches!(origin, Origin::Tracker(_));
        if class < self.class {
            (self.class, self.source) = (class, source);
        }
    }
}

/// The least is dialled first: by failures, then by crowd, then by canonical priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct DialPriority {
    failures: u32,
    /// How many addresses its host or its source has, as a power of two.
    crowd: u32,
    /// The canonical priority (BEP 40) with its bits inverted, or a random number.
    canonical: u32,
}

/// The candidates of one class.
#[derive(Clone, Debug, Default)]
struct ByPriority {
    all: BTreeSet<(DialPriority, SocketAddr)>,
    /// Those that may be dialled now.
    ready: BTreeSet<(DialPriority, SocketAddr)>,
    /// How much was dialled, divided by the class's weight.
    served: u64,
}

/// The addresses that could be dialled, now or later.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidates {
    by_addr: BTreeMap<SocketAddr, Candidate>,
    classes: [ByPriority; Class::ALL.len()],
    resting: BTreeSet<(Option<Time>, SocketAddr)>,
    hosts: BTreeMap<IpAddr, u32>,
    by_source: BTreeMap<(Class, IpAddr), u32>,
    /// How many addresses have been looked at, for tests.
    #[cfg(test)]
    pub(super) work: u64,
}

impl Candidates {
    pub(super) fn is_empty(&self) -> bool {
        self.by_addr.is_empty()
    }

    /// How many have not failed yet and are not from peers; counts up to `max` in each class.
    pub(super) fn count_untried_of_others_than_peers(&self, max: usize) -> usize {
        let untried = |class: &Class| {
            self.classes[*class as usize].all.iter().take_while(|(priority, _)| priority.failures == 0)
        };
        let classes = Class::ALL.iter().filter(|class| **class < Class::Peer);
        classes.map(|class| untried(class).take(max).count()).sum()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&SocketAddr, &Candidate)> {
        self.by_addr.iter()
    }

    pub(super) fn get(&self, addr: SocketAddr) -> Option<&Candidate> {
        self.by_addr.get(&addr)
    }

    /// For changes that its place among the others does not depend on.
    pub(super) fn get_mut(&mut self, addr: SocketAddr) -> Option<&mut Candidate> {
        self.by_addr.get_mut(&addr)
    }

    /// Adds a new address. If there are too many, the class that has most for its weight loses its last one.
    pub(super) fn insert(&mut self, addr: SocketAddr, mut candidate: Candidate, canonical: u32) {
        self.note_work();
        let host = add_one(&mut self.hosts, addr.ip().to_canonical());
        let told = candidate.source.map_or(1, |ip| add_one(&mut self.by_source, (candidate.class, ip)));
        let crowd = host.max(told / NAMED_AT_ONCE).max(1).ilog2();
        candidate.priority = DialPriority { failures: candidate.failures, crowd, canonical };
        self.classes[candidate.class as usize].all.insert((candidate.priority, addr));
        self.resting.insert((candidate.retry_at, addr));
        self.by_addr.insert(addr, candidate);
        while self.by_addr.len() > ADDRESSES_MAX {
            let filling = |class: &Class| self.classes[*class as usize].all.len() as u64 * 4 / class.weight();
            // The user's go last.
            let fullest = Class::ALL.into_iter().max_by_key(|class| (*class != Class::User, filling(class)));
            let fullest = fullest.filter(|class| filling(class) > 0).unwrap_or(Class::User);
            let Some(&(_, last)) = self.classes[fullest as usize].all.last() else { return };
            self.remove(last);
        }
    }

    pub(super) fn remove(&mut self, addr: SocketAddr) -> Option<Candidate> {
        self.note_work();
        let candidate = self.by_addr.remove(&addr)?;
        let class = &mut self.classes[candidate.class as usize];
        class.all.remove(&(candidate.priority, addr));
        class.ready.remove(&(candidate.priority, addr));
        self.resting.remove(&(candidate.retry_at, addr));
        take_one(&mut self.hosts, addr.ip().to_canonical());
        candidate.source.into_iter().for_each(|ip| take_one(&mut self.by_source, (candidate.class, ip)));
        Some(candidate)
    }

    /// How many may be dialled now.
    pub(super) fn ready(&mut self, now: Time) -> usize {
        self.wake(now);
        self.classes.iter().map(|class| class.ready.len()).sum()
    }

    /// Takes out the next one to dial: the user's first, then the other classes in turns.
    pub(super) fn next(&mut self, now: Time) -> Option<(SocketAddr, Candidate)> {
        self.wake(now);
        let has_some = |class: &Class| !self.classes[*class as usize].ready.is_empty();
        let first = |class: &Class| (*class != Class::User, self.classes[*class as usize].served);
        let class = Class::ALL.into_iter().filter(has_some).min_by_key(first)?;
        self.classes[class as usize].served += 4 / class.weight();
        let (_, addr) = *self.classes[class as usize].ready.first()?;
        let candidate = self.remove(addr)?;
        Some((addr, candidate))
    }

    /// Makes addresses ready whose rest is over.
    fn wake(&mut self, now: Time) {
        while let Some(&(at, addr)) = self.resting.first().filter(|(at, _)| *at <= Some(now)) {
            self.note_work();
            self.resting.remove(&(at, addr));
            let candidate = self.by_addr[&addr];
            // A class that had nothing to dial does not save up its share.
            let least = self.classes.iter().filter(|c| !c.ready.is_empty()).map(|c| c.served).min();
            let class = &mut self.classes[candidate.class as usize];
            if class.ready.is_empty() {
                class.served = class.served.max(least.unwrap_or(0));
            }
            class.ready.insert((candidate.priority, addr));
        }
    }

    /// Changes canonical priorities where `canonical` gives a new one.
    pub(super) fn reorder(&mut self, canonical: impl Fn(SocketAddr) -> Option<u32>) {
        for (addr, candidate) in &mut self.by_addr {
            let Some(canonical) = canonical(*addr) else { continue };
            let class = &mut self.classes[candidate.class as usize];
            let is_ready = class.ready.remove(&(candidate.priority, *addr));
            class.all.remove(&(candidate.priority, *addr));
            candidate.priority.canonical = canonical;
            class.all.insert((candidate.priority, *addr));
            if is_ready {
                class.ready.insert((candidate.priority, *addr));
            }
        }
    }

    #[cfg(test)]
    fn note_work(&mut self) {
        self.work += 1;
    }

    #[cfg(not(test))]
    fn note_work(&mut self) {}
}

/// How many there are now.
fn add_one<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K) -> u32 {
    let count = counts.entry(key).or_default();
    *count += 1;
    *count
}

fn take_one<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

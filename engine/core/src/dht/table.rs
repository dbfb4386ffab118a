//! The routing table: whom we know, more of them the nearer they are (BEP 5).
//!
//! Bucket `i` holds nodes that have exactly the first `i` bits of our id, the last bucket all that are nearer; it is
//! split when it is full. A node enters a bucket only once it has answered us, so that forged queries fill nothing.
//! Who finds its bucket full waits in the bucket's *spares* (the replacement cache), and only then is somebody
//! pinged: the node of the bucket that has been silent longest, if that is questionable. A quiet table costs nothing
//! but a refresh of each bucket now and then. Nodes that lookups come across wait there too, as long as there is room
//! for them: else a network would know its oldest nodes only.

use super::compact::NodeInfo;
use super::id::{ID_BITS, NodeId};
use crate::net::Host;
use crate::rng::Rng;
use crate::time::{Duration, Time};
use std::net::SocketAddr;

/// Nodes in a bucket, and nodes that answer for a key: the `k` of Kademlia.
pub const BUCKET_LEN_MAX: usize = 8;
/// A node that was silent for so long is questionable, and a bucket without a lookup for so long is refreshed.
pub const QUESTIONABLE_AFTER: Duration = Duration::from_secs(15 * 60);
/// A bucket that has just been split off and is not full is looked up this long after, times its number, so that who
/// joins knows the whole network soon.
pub const NEW_BUCKET_STEP: Duration = Duration::from_secs(5);
/// A node that left so many queries in a row unanswered is bad: not told to others, and replaced at the first chance.
pub const BAD_FAILURES: u8 = 2;

#[derive(Clone, Copy)]
struct Contact {
    info: NodeInfo,
    /// The last answer or query.
    heard: Time,
    /// Queries in a row that it left unanswered.
    failures: u8,
}

impl Contact {
    fn is_bad(&self) -> bool {
        self.failures >= BAD_FAILURES
    }

    fn is_questionable(&self, now: Time) -> bool {
        self.failures > 0 || now.since(self.heard) >= QUESTIONABLE_AFTER
    }
}

#[derive(Clone, Copy)]
struct Spare {
    info: NodeInfo,
    answered: Option<Time>,
}

struct Bucket {
    contacts: Vec<Contact>,
    /// The newest last.
    spares: Vec<Spare>,
    /// The node that is pinged on behalf of this bucket.
    checking: Option<SocketAddr>,
    /// The last lookup of a place in it, or when it was split off.
    refreshed: Time,
    /// Since it was split off no place in it has been looked up.
    is_new: bool,
}

impl Bucket {
    fn new(now: Time) -> Bucket {
        Bucket { contacts: Vec::new(), spares: Vec::new(), checking: None, refreshed: now, is_new: false }
    }

    fn is_full(&self) -> bool {
        self.contacts.len() >= BUCKET_LEN_MAX
    }

    fn add_spare(&mut self, info: NodeInfo, answered: Option<Time>) {
        let known = self.spares.iter().position(|spare| Host::of(spare.info.addr) == Host::of(info.addr));
        let before = known.map(|at| self.spares.remove(at)).filter(|spare| spare.info == info);
        if self.spares.len() >= BUCKET_LEN_MAX {
            self.spares.remove(0);
        }
        self.spares.push(Spare { info, answered: answered.or(before.and_then(|spare| spare.answered)) });
    }

    fn has_room(&self) -> bool {
        !self.is_full() || self.contacts.iter().any(Contact::is_bad)
    }

    /// Whose answer would settle something: a spare's if there is room or can be made, else that of the contact that
    /// is silent longest, if it is questionable.
    fn to_check(&self, now: Time, can_split: bool) -> Option<NodeInfo> {
        if self.checking.is_some() || self.spares.is_empty() {
            return None;
        }
        if can_split || self.has_room() {
            return self.spares.iter().rev().find(|spare| spare.answered.is_none()).map(|spare| spare.info);
        }
        let questionable = self.contacts.iter().filter(|contact| contact.is_questionable(now));
        questionable.min_by_key(|contact| contact.heard).map(|contact| contact.info)
    }
}

/// The nodes that we know, of one family.
pub(super) struct Table {
    own: NodeId,
    /// Never empty.
    buckets: Vec<Bucket>,
}

impl Table {
    pub(super) fn new(now: Time, own: NodeId) -> Table {
        Table { own, buckets: vec![Bucket::new(now)] }
    }

    pub(super) fn own(&self) -> NodeId {
        self.own
    }

    fn index(&self, id: NodeId) -> usize {
        self.own.common_bits(id).min(self.buckets.len() - 1)
    }

    fn contacts(&self) -> impl Iterator<Item = &Contact> {
        self.buckets.iter().flat_map(|bucket| &bucket.contacts)
    }

    /// A node has answered a query of ours.
    pub(super) fn answered(&mut self, now: Time, info: NodeInfo) {
        if info.id == self.own {
            return;
        }
        let at = self.index(info.id);
        self.settle_check(at, info.addr);
        let bucket = &mut self.buckets[at];
        if let Some(known) = bucket.contacts.iter_mut().find(|contact| contact.info == info) {
            (known.heard, known.failures) = (now, 0);
            return;
        }
        let rivals =
            |known: &Contact| known.info.id == info.id || Host::of(known.info.addr) == Host::of(info.addr);
        // Whoever had the id or the host first keeps it, as long as it answers and has not changed its id.
        let is_replaced = |known: &Contact| rivals(known) && (known.info.addr == info.addr || known.is_bad());
        self.buckets.iter_mut().for_each(|bucket| bucket.contacts.retain(|known| !is_replaced(known)));
        if !self.contacts().any(rivals) {
            self.insert(now, info);
        }
    }

    fn insert(&mut self, now: Time, info: NodeInfo) {
        let contact = Contact { info, heard: now, failures: 0 };
        loop {
            let at = self.index(info.id);
            let bucket = &mut self.buckets[at];
            bucket.spares.retain(|spare| spare.info.addr != info.addr);
            if !bucket.is_full() {
                bucket.contacts.push(contact);
                return;
            }
            if let Some(bad) = bucket.contacts.iter_mut().find(|contact| contact.is_bad()) {
                *bad = contact;
                return;
            }
            if !self.can_split(at) {
                self.buckets[at].add_spare(info, Some(now));
                return;
            }
            self.split(now);
        }
    }

    fn can_split(&self, at: usize) -> bool {
        at + 1 == self.buckets.len() && self.buckets.len() < ID_BITS
    }

    /// Makes a bucket of those in the last one that are nearer than the rest.
    fn split(&mut self, now: Time) {
        let bits = self.buckets.len() - 1;
        let own = self.own;
        let Some(last) = self.buckets.last_mut() else { return };
        let mut nearer = Bucket::new(last.refreshed);
        let is_nearer = |info: &NodeInfo| own.common_bits(info.id) > bits;
        nearer.contacts = last.contacts.extract_if(.., |contact| is_nearer(&contact.info)).collect();
        nearer.spares = last.spares.extract_if(.., |spare| is_nearer(&spare.info)).collect();
        (last.refreshed, last.is_new) = (now, true);
        self.buckets.push(nearer);
    }

    /// A node has asked us something. That shows that it is there only if it has answered before.
    pub(super) fn queried(&mut self, now: Time, info: NodeInfo) {
        if info.id == self.own {
            return;
        }
        let host = Host::of(info.addr);
        if self.contacts().any(|known| known.info != info && Host::of(known.info.addr) == host) {
            return;
        }
        let at = self.index(info.id);
        let bucket = &mut self.buckets[at];
        match bucket.contacts.iter_mut().find(|contact| contact.info.id == info.id) {
            Some(known) if known.info.addr == info.addr => known.heard = now,
            Some(_) => {}
            None => bucket.add_spare(info, None),
        }
    }

    /// A node was named by another one. It waits if there may be room for it; of those who name too many the last
    /// remain.
    pub(super) fn named(&mut self, info: NodeInfo) {
        let at = self.index(info.id);
        let host = Host::of(info.addr);
        let is_welcome = self.can_split(at) || self.buckets[at].has_room();
        if is_welcome
            && info.id != self.own
            && !self.contacts().any(|known| Host::of(known.info.addr) == host)
        {
            self.buckets[at].add_spare(info, None);
        }
    }

    /// A node has left a query of ours unanswered.
    pub(super) fn failed(&mut self, info: NodeInfo) {
        let at = self.index(info.id);
        self.settle_check(at, info.addr);
        let bucket = &mut self.buckets[at];
        bucket.spares.retain(|spare| spare.info != info);
        if let Some(contact) = bucket.contacts.iter_mut().find(|contact| contact.info == info) {
            contact.failures = contact.failures.saturating_add(1);
            self.replace_bad(at);
        }
    }

    /// Puts the newest spare that has answered into the place of a bad contact.
    fn replace_bad(&mut self, at: usize) {
        let Some(bad) = self.buckets[at].contacts.iter().position(Contact::is_bad) else { return };
        let is_ready = |spare: &Spare| spare.answered.is_some();
        while let Some(spare) = self.buckets[at].spares.iter().rposition(is_ready) {
            let Spare { info, answered } = self.buckets[at].spares.remove(spare);
            let host = Host::of(info.addr);
            if let Some(heard) = answered
                && !self.contacts().any(|known| Host::of(known.info.addr) == host)
            {
                self.buckets[at].contacts[bad] = Contact { info, heard, failures: 0 };
                return;
            }
        }
    }

    fn settle_check(&mut self, at: usize, addr: SocketAddr) {
        // The bucket may have been split since.
        for bucket in &mut self.buckets[..=at] {
            bucket.checking = bucket.checking.filter(|checking| *checking != addr);
        }
    }

    /// A node to be pinged now. Whatever comes of it is to be told to [`answered`](Self::answered) or
    /// [`failed`](Self::failed).
    pub(super) fn poll_check(&mut self, now: Time) -> Option<NodeInfo> {
        (0..self.buckets.len()).find_map(|at| {
            let info = self.buckets[at].to_check(now, self.can_split(at))?;
            self.buckets[at].checking = Some(info.addr);
            Some(info)
        })
    }

    /// The nodes nearest to a place, the nearest first, without bad ones.
    pub(super) fn closest(&self, target: NodeId, count: usize) -> Vec<NodeInfo> {
        self.nearest(target, count, |contact| !contact.is_bad())
    }

    /// The same with bad ones, who may be good again when it was our own network that failed.
    pub(super) fn closest_of_all(&self, target: NodeId, count: usize) -> Vec<NodeInfo> {
        self.nearest(target, count, |_| true)
    }

    /// The place's own bucket comes first, then those nearer to us, which are equally far from it, then the farther
    /// ones one by one.
    fn nearest(&self, target: NodeId, count: usize, counts: fn(&Contact) -> bool) -> Vec<NodeInfo> {
        let at = self.index(target);
        let groups = [at..at + 1, at + 1..self.buckets.len()].into_iter();
        let mut found: Vec<NodeInfo> = Vec::new();
        for group in groups.chain((0..at).rev().map(|at| at..at + 1)) {
            if found.len() >= count {
                break;
            }
            let contacts = self.buckets[group].iter().flat_map(|bucket| &bucket.contacts);
            found.extend(contacts.filter(|contact| counts(contact)).map(|contact| contact.info));
        }
        found.sort_unstable_by_key(|info| target.distance(info.id));
        found.truncate(count);
        found
    }

    /// All nodes that are not bad.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeInfo> {
        self.contacts().filter(|contact| !contact.is_bad()).map(|contact| contact.info)
    }

    /// How many nodes there are.
    pub(super) fn len(&self) -> usize {
        self.contacts().count()
    }

    /// A lookup of a place begins, which refreshes its bucket.
    pub(super) fn looked_up(&mut self, now: Time, target: NodeId) {
        let at = self.index(target);
        (self.buckets[at].refreshed, self.buckets[at].is_new) = (now, false);
    }

    /// When each bucket is to be refreshed.
    fn refreshes(&self) -> impl Iterator<Item = (Time, usize)> {
        self.buckets.iter().enumerate().map(|(at, bucket)| {
            let is_waiting = bucket.is_new && !bucket.is_full();
            let step = NEW_BUCKET_STEP * (at as u32 + 1);
            (bucket.refreshed + if is_waiting { step } else { QUESTIONABLE_AFTER }, at)
        })
    }

    /// When a bucket is to be refreshed; never if the table is empty.
    pub(super) fn refresh_at(&self) -> Option<Time> {
        self.contacts().next()?;
        self.refreshes().min().map(|(due, _)| due)
    }

    /// The place whose lookup refreshes the bucket that needs it most: a random one in it; for the last bucket, where
    /// our neighbours are, our own.
    pub(super) fn refresh_target(&self, rng: &mut Rng) -> NodeId {
        let bits = self.refreshes().min().map_or(0, |(_, at)| at);
        if bits + 1 == self.buckets.len() { self.own } else { self.own.random_near(bits, rng) }
    }
}

#[cfg(test)]
mod tests;

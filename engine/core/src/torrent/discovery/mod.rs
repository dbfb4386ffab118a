//! Whom to dial: addresses learned from trackers, users and peers, and what became of each.
//!
//! Addresses from the network are claims by strangers. They are checked, bounded in number ([`ADDRESSES_MAX`]), dialled at a
//! bounded pace ([`pace`]), and left alone for longer after each failure. An address costs a few steps in ordered sets. Many
//! addresses from one source or of one host come after those from others.

mod candidates;
pub mod pace;

use crate::id::PeerKey;
use crate::ip_filter::IpFilter;
use crate::net::{Family, Host, is_contactable, peer_priority};
use crate::rng::Rng;
use crate::time::{Duration, Time};
pub use candidates::ADDRESSES_MAX;
use candidates::{Candidate, Candidates, Class};
use pace::Pace;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// How long an address rests after its first failure; doubled for each further one.
pub const RETRY_FIRST: Duration = Duration::from_secs(2);
/// The longest rest.
pub const RETRY_MAX: Duration = Duration::from_secs(600);
/// After so many failures in a row an address is forgotten.
pub const FAILURES_MAX: u32 = 9;
/// How long a ban lasts.
pub const BAN_TIME: Duration = Duration::from_secs(3_600);
/// How many bans are kept.
pub const BANS_MAX: usize = 4_096;

/// The source of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The user. Any address is dialled.
    User,
    /// A search for the same torrent that has checked the address.
    Found,
    /// A tracker at this address.
    Tracker(IpAddr),
    /// A node of the DHT.
    Dht(IpAddr),
    /// Local service discovery (BEP 14): the sender itself.
    Local(IpAddr),
    /// PEX (BEP 11).
    Peer(IpAddr),
}

impl Origin {
    fn class(self) -> (Class, Option<IpAddr>) {
        match self {
            Origin::User => (Class::User, None),
            Origin::Found | Origin::Tracker(_) => (Class::Tracker, None),
            Origin::Dht(ip) => (Class::Dht, Some(ip.to_canonical())),
            Origin::Local(ip) => (Class::Local, Some(ip.to_canonical())),
            Origin::Peer(ip) => (Class::Peer, Some(ip.to_canonical())),
        }
    }

    /// Only sources on this machine may name loopback addresses.
    fn may_name_loopback(self) -> bool {
        match self {
            Origin::User | Origin::Found => true,
            Origin::Tracker(ip) | Origin::Dht(ip) | Origin::Local(ip) | Origin::Peer(ip) => {
                ip.to_canonical().is_loopback()
            }
        }
    }
}

/// Whether an address from this origin may be dialled.
pub fn is_dialable(addr: SocketAddr, origin: Origin) -> bool {
    is_contactable(addr, origin.may_name_loopback())
}

/// What a swarm needs now.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// How many useful connections it has.
    pub here: usize,
    /// How many it wants.
    pub wanted: usize,
    /// How many may be half open at a time while a peer is connected.
    pub half_open_max: usize,
    /// No peer is connected.
    pub has_nobody: bool,
}

/// An address to dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dial {
    #[allow(missing_docs)]
    pub addr: SocketAddr,
    /// How long the dial and the handshake may take.
    pub patience: Duration,
    /// Whether the peer is known to want an encrypted connection (MSE).
    pub encrypted: bool,
    /// Whether uTP is tried before TCP: the peer has answered so before, or it is uTP's turn.
    pub utp: bool,
    /// Whether it is known over what the peer answers; else it is only the one's or the other's turn.
    pub is_transport_known: bool,
    /// A relay has had the peer dial us at the same time (BEP 55): it is reached over uTP, or not at all.
    pub punch: bool,
}

/// The addresses of one torrent.
#[derive(Debug)]
pub struct Discovery {
    rng: Rng,
    pace: Pace,
    /// When the next dial may go out, if it waits for time alone.
    dial_at: Option<Time>,
    idle: Candidates,
    dialing: BTreeMap<SocketAddr, Candidate>,
    /// Addresses of outbound connections, and listen addresses of inbound ones.
    connected: BTreeMap<SocketAddr, Candidate>,
    /// Our own addresses: dialling them led to ourselves.
    own: BTreeSet<SocketAddr>,
    /// Our external addresses by [`Family`], if canonical priorities are used (BEP 40).
    seen_at: Option<[SocketAddr; 2]>,
    bans: BTreeMap<Host, Time>,
    filter: Arc<IpFilter>,
    /// How often an address was passed over for the filter.
    blocked: u64,
    /// Since [`keep_named`](Self::keep_named).
    only_named: bool,
}

impl Discovery {
    /// No addresses yet.
    pub fn new(rng: Rng) -> Discovery {
        Discovery {
            rng,
            pace: Pace::new(),
            dial_at: None,
            idle: Candidates::default(),
            dialing: BTreeMap::new(),
            connected: BTreeMap::new(),
            own: BTreeSet::new(),
            seen_at: None,
            bans: BTreeMap::new(),
            filter: Arc::default(),
            blocked: 0,
            only_named: false,
        }
    }

    /// From now on addresses are dialled by canonical priority (BEP 40); we listen on `port`. Until our external address is
    /// known, a random one stands in for it, which nobody can foresee either.
    pub fn use_canonical_priority(&mut self, port: u16) {
        let (v4, v6) = (self.rng.next_u64() as u32, u128::from(self.rng.next_u64()) << 64);
        let ips: [IpAddr; 2] = [Ipv4Addr::from(v4).into(), Ipv6Addr::from(v6).into()];
        self.seen_at = Some(ips.map(|ip| SocketAddr::new(ip, port)));
    }

    /// Our external address is known.
    pub fn set_own_ip(&mut self, ip: IpAddr) {
        let family = Family::of_ip(ip);
        let Some(seen_at) = &mut self.seen_at else { return };
        let ours = &mut seen_at[family as usize];
        if ours.ip() != ip {
            ours.set_ip(ip);
            let ours = *ours;
            self.idle.reorder(|addr| (Family::of(addr) == family).then(|| !peer_priority(ours, addr)));
        }
    }

    /// An address's canonical priority, if these are used.
    pub fn priority(&self, addr: SocketAddr) -> Option<u32> {
        Some(peer_priority(self.seen_at?[Family::of(addr) as usize], addr))
    }

    /// Whether the user named the address of this connection.
    pub fn is_by_user(&self, addr: SocketAddr) -> bool {
        self.connected.get(&addr).is_some_and(|candidate| candidate.class == Class::User)
    }

    /// Whether a tracker or the user named the address of this connection.
    pub fn is_by_tracker_or_user(&self, addr: SocketAddr) -> bool {
        self.connected.get(&addr).is_some_and(Candidate::is_by_tracker_or_user)
    }

    /// Forgets addresses, except those that a tracker or the user named, and those that are connected. What is being dialled is not
    /// wanted any more.
    pub fn keep_named(&mut self) {
        self.only_named = true;
        self.dialing.retain(|_, candidate| candidate.is_by_tracker_or_user());
        let others = self.idle.iter().filter(|(_, candidate)| !candidate.is_by_tracker_or_user());
        let others: Vec<SocketAddr> = others.map(|(addr, _)| *addr).collect();
        for addr in others {
            self.idle.remove(addr);
        }
    }

    /// Whether we have dialled this address, and then forgotten it.
    pub(super) fn is_given_up(&self, addr: SocketAddr) -> bool {
        self.only_named && !self.dialing.contains_key(&addr)
    }

    /// Adds an address, if it may be dialled.
    pub fn add(&mut self, addr: SocketAddr, origin: Origin) {
        if self.own.contains(&addr) || !is_dialable(addr, origin) || self.is_banned(addr) {
            return;
        }
        if self.is_blocked(addr) {
            self.blocked += 1;
            return;
        }
        let in_use = self.dialing.get_mut(&addr).or_else(|| self.connected.get_mut(&addr));
        if let Some(candidate) = in_use {
            candidate.named_by(origin);
        } else if self.idle.get(addr).is_none_or(|known| known.counts_more_by(origin)) {
            let mut candidate = self.idle.remove(addr).unwrap_or_else(|| Candidate::new(origin));
            candidate.named_by(origin);
            self.put(addr, candidate);
        }
    }

    /// Whether the peer at this address wants encrypted connections: it is said to, or only such a one came about.
    pub fn note_encryption(&mut self, addr: SocketAddr, is_wanted: bool) {
        if let Some(candidate) = self.get_mut(addr) {
            candidate.wants_encryption = is_wanted;
        }
    }

    /// Over what the peer at this address was reached.
    pub fn note_utp(&mut self, addr: SocketAddr, has_answered: bool) {
        if let Some(candidate) = self.get_mut(addr) {
            candidate.answered_utp = Some(has_answered);
        }
    }

    /// This peer tells of an address, and can have us meet who is there (BEP 55).
    pub(super) fn note_relay(&mut self, addr: SocketAddr, relay: PeerKey) {
        let Some(candidate) = self.get_mut(addr) else { return };
        if candidate.relays[0] != Some(relay) {
            candidate.relays.rotate_right(1);
            candidate.relays[0] = Some(relay);
        }
    }

    /// It cannot after all.
    pub(super) fn forget_relay(&mut self, addr: SocketAddr, relay: PeerKey) {
        let Some(candidate) = self.get_mut(addr) else { return };
        candidate.relays.iter_mut().filter(|known| **known == Some(relay)).for_each(|known| *known = None);
    }

    /// Who can have us meet who is there.
    pub(super) fn relays(&self, addr: SocketAddr) -> impl IntoIterator<Item = PeerKey> + use<> {
        self.get(addr).map(|candidate| candidate.relays).into_iter().flatten().flatten()
    }

    /// Whether the peer at this address is known to want encrypted connections.
    pub(super) fn wants_encryption(&self, addr: SocketAddr) -> bool {
        self.get(addr).is_some_and(|candidate| candidate.wants_encryption)
    }

    /// Whether another dial may go out now, at a relay's word.
    pub(super) fn may_punch(&mut self, now: Time) -> bool {
        let may_dial = self.pace.may_dial(now);
        if may_dial {
            self.pace.dialled(now);
        }
        may_dial
    }

    /// Whether dialling this address led to ourselves.
    pub(super) fn is_known_as_own(&self, addr: SocketAddr) -> bool {
        self.own.contains(&addr)
    }

    fn get(&self, addr: SocketAddr) -> Option<&Candidate> {
        let in_use = self.dialing.get(&addr).or_else(|| self.connected.get(&addr));
        in_use.or_else(|| self.idle.get(addr))
    }

    /// For changes that its place among the others does not depend on.
    fn get_mut(&mut self, addr: SocketAddr) -> Option<&mut Candidate> {
        let in_use = self.dialing.get_mut(&addr).or_else(|| self.connected.get_mut(&addr));
        in_use.or_else(|| self.idle.get_mut(addr))
    }

    fn put(&mut self, addr: SocketAddr, candidate: Candidate) {
        let canonical = self.priority(addr).map_or_else(|| self.rng.next_u64() as u32, |priority| !priority);
        self.idle.insert(addr, candidate, canonical);
    }

    /// Whether there is an address that could be dialled now.
    pub fn has_ready(&mut self, now: Time) -> bool {
        let has_some = self.idle.ready(now) > 0;
        if !has_some {
            self.dial_at = None;
        }
        has_some
    }

    /// The next address to dial, if one is to be dialled now. The user's come first, then those from trackers, the DHT and peers in
    /// turns. Of one source, those that failed come last; the rest go by canonical priority, or at random.
    pub fn dial(&mut self, now: Time, demand: Demand) -> Option<Dial> {
        self.dial_at = None;
        let Demand { here, wanted, half_open_max, has_nobody } = demand;
        let ready = self.idle.ready(now);
        if ready == 0 {
            return None;
        }
        let (half_open, usual) = (self.dialing.len(), half_open_max.min(wanted));
        let parallel = self.pace.parallel(now, has_nobody, half_open, usual);
        let is_wanted = has_nobody || here + half_open < wanted;
        if !is_wanted || usual == 0 {
            return None;
        }
        if half_open >= parallel || !self.pace.may_dial(now) {
            self.dial_at = self.pace.next_at(now, parallel);
            return None;
        }
        let (addr, candidate) = self.idle.next(now)?;
        self.pace.dialled(now);
        self.dialing.insert(addr, candidate);
        let patience = pace::patience(candidate.failures, ready > parallel - half_open);
        let utp = candidate.answered_utp.unwrap_or(candidate.failures % 2 == 1);
        let is_transport_known = candidate.answered_utp.is_some();
        let encrypted = candidate.wants_encryption;
        Some(Dial { addr, patience, encrypted, utp, is_transport_known, punch: false })
    }

    /// When to call [`dial`](Self::dial) again, if it waits for time alone.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.dial_at
    }

    /// How many addresses are being dialled.
    pub fn half_open(&self) -> usize {
        self.dialing.len()
    }

    /// How many addresses are known that are not connected, and how many of these have failed when they were last dialled.
    pub fn known_and_failed(&self) -> (usize, usize) {
        let known = || self.idle.iter().map(|(_, candidate)| candidate).chain(self.dialing.values());
        (known().count(), known().filter(|candidate| candidate.failures > 0).count())
    }

    /// How many of these have not failed yet. Those from peers are left out, since all may be lies. Counts up to about `max`.
    pub fn untried_of_others_than_peers(&self, max: usize) -> usize {
        self.idle.count_untried_of_others_than_peers(max)
    }

    /// Whether there will be something to do without further input.
    pub fn is_waiting(&self) -> bool {
        !self.idle.is_empty() || !self.dialing.is_empty()
    }

    /// The address could not be reached, or the connection to it ended early.
    pub fn failed(&mut self, now: Time, addr: SocketAddr) {
        if let Some(candidate) = self.dialing.remove(&addr) {
            self.rest(now, addr, candidate);
        }
    }

    /// We could not dial, for local reasons.
    pub fn not_dialled(&mut self, now: Time, addr: SocketAddr) {
        if let Some(mut candidate) = self.dialing.remove(&addr) {
            candidate.retry_at = Some(now + RETRY_FIRST);
            self.put(addr, candidate);
        }
    }

    /// A connection to this address stands: we dialled it, or it is the listen address of an inbound peer.
    pub fn connected(&mut self, addr: SocketAddr) {
        let candidate = self.dialing.remove(&addr).or_else(|| self.idle.remove(addr));
        self.connected.entry(addr).or_insert(candidate.unwrap_or_else(|| Candidate::caller(addr.ip())));
    }

    /// Lets an address rest for longer after each failure, or drops it.
    fn rest(&mut self, now: Time, addr: SocketAddr, mut candidate: Candidate) {
        candidate.failures = (candidate.failures + 1).min(FAILURES_MAX);
        if self.is_banned(addr)
            || self.is_blocked(addr)
            || (candidate.failures == FAILURES_MAX && candidate.class != Class::User)
        {
            return;
        }
        let rest = RETRY_FIRST * 2u32.pow(candidate.failures - 1);
        candidate.retry_at = Some(now + rest.min(RETRY_MAX));
        self.put(addr, candidate);
    }

    /// The connection to this address has ended. If `again`, it is dialled again after a rest, a short one if the connection
    /// was useful.
    pub fn disconnected(&mut self, now: Time, addr: SocketAddr, again: bool, was_good: bool) {
        let Some(mut candidate) = self.connected.remove(&addr).filter(|_| again) else { return };
        if was_good {
            candidate.failures = 0;
        }
        self.rest(now, addr, candidate);
    }

    /// The address turned out to be our own.
    pub fn is_own(&mut self, addr: SocketAddr) {
        self.dialing.remove(&addr);
        self.idle.remove(addr);
        if self.own.len() < ADDRESSES_MAX {
            self.own.insert(addr);
        }
    }

    /// Bans the host of this address: it is neither dialled nor accepted for [`BAN_TIME`].
    pub fn ban(&mut self, now: Time, addr: SocketAddr) {
        self.expire_bans(now);
        if self.bans.len() >= BANS_MAX {
            // The ban that ends first makes room.
            let first = self.bans.iter().min_by_key(|(_, until)| **until).map(|(host, _)| *host);
            self.bans.remove(&first.unwrap_or(Host::of(addr)));
        }
        let key = Host::of(addr);
        self.bans.insert(key, now + BAN_TIME);
        let banned = self.idle.iter().map(|(a, _)| *a).filter(|a| Host::of(*a) == key);
        for addr in banned.collect::<Vec<_>>() {
            self.idle.remove(addr);
        }
    }

    /// From now on addresses that this filter blocks are neither dialled nor kept.
    pub fn set_ip_filter(&mut self, filter: Arc<IpFilter>) {
        self.filter = filter;
        let idle = self.idle.iter().map(|(addr, _)| *addr);
        for addr in idle.filter(|addr| self.is_blocked(*addr)).collect::<Vec<_>>() {
            self.idle.remove(addr);
            self.blocked += 1;
        }
    }

    /// Whether the filter blocks the address.
    pub fn is_blocked(&self, addr: SocketAddr) -> bool {
        self.filter.is_blocked(addr.ip())
    }

    /// How often an address was passed over for the filter, since this was last asked.
    pub fn take_blocked(&mut self) -> u64 {
        std::mem::take(&mut self.blocked)
    }

    /// Removes the bans that have ended.
    pub fn expire_bans(&mut self, now: Time) {
        self.bans.retain(|_, until| *until > now);
    }

    /// Whether the address is banned.
    pub fn is_banned(&self, addr: SocketAddr) -> bool {
        self.bans.contains_key(&Host::of(addr))
    }
}

#[cfg(test)]
mod tests;

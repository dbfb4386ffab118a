//! The session's nodes of the DHT, one for each address of a family that it listens on (BEP 45), and its torrents: announces each
//! of them, and brings it the peers that are found.

use super::running::RunningTorrents;
use crate::Error;
use crate::dht::Dht;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use swarm_core::dht::{Announce, Event, Item, LookupId, MutableTorrentLink};
use swarm_core::id::InfoHash;
use swarm_core::net::Family;
use swarm_core::torrent::discovery::Origin;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// How often a torrent is announced. Others forget it after half an hour.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// How often one is announced at least that nobody is connected to and that is not complete.
const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(30);
/// The interval after an announcement that no node took or that found a download nobody; doubled for each further one.
const RETRY_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// How many torrents are announced at a time.
const ANNOUNCING_MAX: usize = 16;

/// A search of one of the nodes.
type Search = (usize, LookupId);

/// What the session adds to its nodes.
pub(crate) struct SessionDht {
    pub(super) dhts: Vec<Dht>,
    torrents: Rc<RunningTorrents>,
    /// Where the session listens for peers.
    listening: Vec<SocketAddr>,
    /// Of these, the one that the gateway passes on to, and the port that the world sees.
    mapped: Cell<Option<(SocketAddr, u16)>>,
    schedule: RefCell<Schedule>,
    running: RefCell<BTreeMap<Search, InfoHash>>,
    rounds: RefCell<BTreeMap<InfoHash, Round>>,
    /// Who waits for the items that a search finds, until it is over.
    items: RefCell<BTreeMap<Search, mpsc::UnboundedSender<Item>>>,
    wake: Notify,
    /// Wakes those whose searches have found nobody.
    joined: Notify,
}

/// One torrent's announcement, on each network.
#[derive(Default)]
struct Round {
    /// Searches that are not over.
    open: usize,
    /// Nodes that took it.
    stored: usize,
    /// Rounds in a row that no node took, or that found a download nobody, before this one.
    retries: u32,
}

/// When each torrent is to be announced next.
#[derive(Default)]
struct Schedule {
    at: BTreeMap<InfoHash, Instant>,
    order: BTreeSet<(Instant, InfoHash)>,
}

impl Schedule {
    fn set(&mut self, hash: InfoHash, at: Instant) {
        if let Some(old) = self.at.insert(hash, at) {
            self.order.remove(&(old, hash));
        }
        self.order.insert((at, hash));
    }

    /// The same, unless it is to be sooner.
    fn hasten(&mut self, hash: InfoHash, at: Instant) {
        if self.at.get(&hash).is_none_or(|old| at < *old) {
            self.set(hash, at);
        }
    }

    fn remove(&mut self, hash: InfoHash) {
        if let Some(at) = self.at.remove(&hash) {
            self.order.remove(&(at, hash));
        }
    }

    fn pop(&mut self, now: Instant) -> Option<InfoHash> {
        let (at, hash) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.order.remove(&(at, hash));
        self.at.remove(&hash);
        Some(hash)
    }

    fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }
}

impl SessionDht {
    pub(super) fn new(
        dhts: Vec<Dht>,
        torrents: Rc<RunningTorrents>,
        listening: Vec<SocketAddr>,
    ) -> SessionDht {
        let (schedule, running, rounds, items) = Default::default();
        let (wake, joined) = Default::default();
        let mapped = Cell::default();
        SessionDht { dhts, torrents, listening, mapped, schedule, running, rounds, items, wake, joined }
    }

    /// A torrent has begun, or is complete: it is announced now.
    pub(crate) fn announce(&self, hash: InfoHash) {
        self.schedule.borrow_mut().set(hash, Instant::now());
        self.wake.notify_one();
    }

    /// The gateway passes on what comes for another port to this address of ours, or nothing: all is announced anew.
    pub(super) fn port_mapped(&self, ours: SocketAddr, external_port: Option<u16>) {
        let before = self.mapped.replace(external_port.map(|port| (ours, port)));
        let was = before.map_or(ours.port(), |(_, port)| port);
        if external_port.unwrap_or(ours.port()) != was {
            let known: Vec<InfoHash> = self.schedule.borrow().at.keys().copied().collect();
            known.into_iter().for_each(|hash| self.announce(hash));
        }
    }

    /// A torrent is not announced any more.
    pub(super) fn forget(&self, hash: InfoHash) {
        self.schedule.borrow_mut().remove(hash);
    }

    /// There are nodes to ask: what has found nobody so far is tried again now.
    pub(super) fn hasten_all(&self) {
        let rounds = self.rounds.borrow();
        let unanswered = rounds.iter().filter(|(_, round)| round.retries > 0).map(|(hash, _)| *hash);
        unanswered.for_each(|hash| self.announce(hash));
        self.joined.notify_waiters();
    }

    /// The torrent that the newest version of a mutable item names.
    pub(super) async fn resolve(&self, link: &MutableTorrentLink) -> Result<InfoHash, Error> {
        let mut pause = RETRY_INTERVAL_MIN;
        loop {
            let joined = self.joined.notified();
            let (found, mut items) = mpsc::unbounded_channel();
            for (nth, dht, family) in self.networks() {
                let lookup = dht.get_item(family, link.target(), &link.salt);
                self.items.borrow_mut().insert((nth, lookup), found.clone());
            }
            drop(found);
            let mut newest: Option<Item> = None;
            while let Some(item) = items.recv().await {
                if newest.as_ref().is_none_or(|known| item.seq() > known.seq()) {
                    newest = Some(item);
                }
            }
            if let Some(item) = newest {
                return item.torrent().ok_or(Error::NotMutable);
            }
            tokio::select! {
                () = joined => {}
                () = tokio::time::sleep(pause) => pause = RETRY_INTERVAL_MAX.min(2 * pause),
            }
        }
    }

    /// Has all nodes join by these.
    pub(super) async fn join(&self, hosts: &[String]) {
        for dht in &self.dhts {
            dht.join(hosts).await;
        }
    }

    /// A peer says that there is a node beside it.
    pub(crate) fn learn(&self, addr: SocketAddr) {
        let family = Family::of(addr);
        let dhts = self.dhts.iter().filter(|dht| dht.families().any(|ours| ours == family));
        dhts.for_each(|dht| dht.ping(addr));
    }

    /// Where a node of ours listens, for a peer of this family.
    pub(crate) fn port(&self, family: Family) -> Option<u16> {
        Some(self.dhts.iter().find_map(|dht| dht.local_addr(family))?.port())
    }

    /// The nodes by their numbers, each with the families of its networks.
    fn networks(&self) -> impl Iterator<Item = (usize, &Dht, Family)> {
        self.dhts
            .iter()
            .enumerate()
            .flat_map(|(nth, dht)| dht.families().map(move |family| (nth, dht, family)))
    }

    fn start_announce(&self, hash: InfoHash) {
        let Some(torrent) = self.torrents.get(hash).filter(|torrent| !torrent.is_private()) else {
            self.rounds.borrow_mut().remove(&hash);
            return;
        };
        self.schedule.borrow_mut().set(hash, Instant::now() + ANNOUNCE_INTERVAL);
        for (nth, dht, family) in self.networks() {
            // Nobody reaches us where the proxy is: peers are looked for, and we are not announced.
            let lookup = match dht.is_relayed() {
                true => dht.get_peers(family, hash),
                false => {
                    let mut listening = self.listening.iter().filter(|addr| Family::of(**addr) == family);
                    let Some(ours) = listening.nth(nth) else { continue };
                    let mapped = self.mapped.get().filter(|(mapped, _)| mapped == ours).map(|(_, port)| port);
                    let port = mapped.unwrap_or(ours.port());
                    // Who takes the port that the datagram comes from may take one that the gateway has made up for it.
                    let implied_port =
                        mapped.is_none() && dht.local_addr(family).is_some_and(|addr| addr.port() == port);
                    let what = Announce { port, implied_port, is_seed: torrent.is_complete() };
                    dht.announce(family, hash, what)
                }
            };
            self.running.borrow_mut().insert((nth, lookup), hash);
            self.rounds.borrow_mut().entry(hash).or_default().open += 1;
        }
    }

    pub(super) fn on_event(&self, nth: usize, event: Event) {
        match event {
            Event::Peers { info_hash, peers, by, .. } => {
                if let Some(torrent) = self.torrents.get(info_hash) {
                    tracing::debug!(%info_hash, %by, peers = peers.len(), "the DHT names peers");
                    torrent.handle_addresses(&peers, Origin::Dht(by.ip()));
                }
            }
            Event::Item { lookup, item } => {
                if let Some(found) = self.items.borrow().get(&(nth, lookup)) {
                    // Who has lost interest needs no answer.
                    let _ = found.send(item);
                }
            }
            Event::Done { lookup, stored, .. } => {
                self.items.borrow_mut().remove(&(nth, lookup));
                if let Some(hash) = self.running.borrow_mut().remove(&(nth, lookup)) {
                    self.on_announced(hash, stored);
                }
            }
            Event::NewId { family, id } => tracing::debug!(?family, %id, "the DHT sees us elsewhere"),
            _ => {}
        }
    }

    /// An announcement is over on one network.
    fn on_announced(&self, hash: InfoHash, stored: usize) {
        self.wake.notify_one();
        let needs_peers = self.torrents.get(hash).is_some_and(|torrent| torrent.needs_peers());
        let (retries, longest) = {
            let mut rounds = self.rounds.borrow_mut();
            let round = rounds.entry(hash).or_default();
            round.open = round.open.saturating_sub(1);
            round.stored += stored;
            if round.open > 0 {
                return;
            }
            let was_taken = round.stored > 0;
            let retries = if was_taken && !needs_peers { 0 } else { round.retries + 1 };
            *round = Round { retries, ..Round::default() };
            (retries, if was_taken { RETRY_INTERVAL_MAX } else { ANNOUNCE_INTERVAL })
        };
        let again = match retries {
            0 => ANNOUNCE_INTERVAL,
            n => longest.min(RETRY_INTERVAL_MIN * 2u32.pow((n - 1).min(16))),
        };
        self.schedule.borrow_mut().hasten(hash, Instant::now() + again);
    }

    pub(super) async fn announce_all(&self) {
        loop {
            while self.running.borrow().len() < ANNOUNCING_MAX {
                let Some(hash) = self.schedule.borrow_mut().pop(Instant::now()) else { break };
                self.start_announce(hash);
            }
            let is_busy = self.running.borrow().len() >= ANNOUNCING_MAX;
            let next = self.schedule.borrow().next().filter(|_| !is_busy);
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }
}

//! Holepunching (BEP 55): two peers that nobody can dial meet by a third that both are connected with.
//!
//! Each of three may be us. The *initiator* could not reach an address and asks who told of it by PEX, the *relay*, for a rendezvous. The
//! relay has both dial each other. Initiator and *target* do so over uTP from the listening socket, so that each one's datagrams open
//! its NAT for the other's. The relay keeps nothing of it.
//!
//! A NAT has ports of its own: where a peer is met is where its datagrams come from, not where it says that it listens.

use super::discovery::{Dial, Origin, is_dialable};
use super::{Action, Event, Torrent};
use crate::id::PeerKey;
use crate::net::{Family, is_local};
use crate::peer::budget::Cost;
use crate::peer::{Peer, PeerInfo};
use crate::time::{Duration, Time};
use crate::wire::holepunch::{Holepunch, HolepunchError};
use crate::wire::{Extension, Message};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// How many peers may be about to be met at a time.
pub const PUNCHES_MAX: usize = 32;
/// How many of them at others' wish: there is always room for our own.
pub const PUNCHES_OF_OTHERS_MAX: usize = PUNCHES_MAX * 3 / 4;
/// How many of these at one relay's word.
pub const PUNCHES_OF_RELAY_MAX: usize = PUNCHES_MAX / 4;
/// How long a dial may take that goes through two NATs: until the third SYN is answered, or is not.
pub const PUNCH_PATIENCE: Duration = Duration::from_secs(8);
/// How long a relay may take to answer.
pub const RELAY_PATIENCE: Duration = Duration::from_secs(5);

/// Why holepunching has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum HolepunchFailure {
    #[error("the relay refuses: {0}")]
    Refused(HolepunchError),
    #[error("the relay did not answer within {} s", RELAY_PATIENCE.as_secs())]
    RelaySilent,
    #[error(
        "both sides dialled, and nothing came through; most likely one of the two NATs is symmetric (another port for each peer)"
    )]
    NotReached,
    #[error("the peer was reached, and ended the connection")]
    Ended,
}

/// Peers that are about to be met.
#[derive(Debug, Default)]
pub(super) struct Punches {
    by_addr: BTreeMap<SocketAddr, Punch>,
}

#[derive(Clone, Copy, Debug)]
struct Punch {
    relay: PeerKey,
    relay_addr: SocketAddr,
    /// It was our wish.
    is_ours: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The relay has been asked, and has to answer by then.
    Asked { until: Time },
    /// The peer is being dialled.
    Dialling,
    /// The same, and it is connected already: its own dial came first.
    Met,
    /// It has ended what we dialled: because it dials us, perhaps, as libtorrent does.
    Ended { until: Time },
}

/// Where others can reach a peer, as far as is known. If it dialled us over uTP, that is where its datagrams come from: to be met there, it
/// has to take part in holepunching.
pub(super) fn endpoint_of(peer: &Peer) -> Option<SocketAddr> {
    let is_seen = peer.info.inbound && peer.info.utp && peer.holepunch.id.is_some();
    if is_seen { Some(peer.info.addr) } else { peer.extensions.listen_addr }
}

impl Torrent {
    /// Holepunching, if we take part.
    pub(super) fn holepunch_extension(&self) -> Option<Extension> {
        self.config.holepunch.then_some(Extension::Holepunch)
    }

    /// Whether somebody at this address is being dialled at a relay's word, and has not come by itself.
    pub fn is_punching(&self, addr: SocketAddr) -> bool {
        self.punches.by_addr.get(&addr).is_some_and(|punch| punch.stage == Stage::Dialling)
    }

    /// Whether a connection that is about to be reported comes about by holepunching.
    pub fn is_punched(&self, addr: SocketAddr, inbound: bool, utp: bool) -> bool {
        self.punches.find(addr, inbound, utp).is_some()
    }

    /// What a relay told us to dial did not become a connection; `None`: we lacked the means.
    pub fn handle_punch_failed(&mut self, now: Time, addr: SocketAddr, failure: Option<HolepunchFailure>) {
        self.wake(now);
        let Some(mut punch) = self.punches.by_addr.remove(&addr) else { return };
        match failure.filter(|_| punch.stage == Stage::Dialling) {
            Some(HolepunchFailure::Ended) => {
                punch.stage = Stage::Ended { until: now + PUNCH_PATIENCE };
                self.punches.by_addr.insert(addr, punch);
            }
            Some(failure) => self.punch_failed(addr, punch, failure),
            None => {}
        }
    }

    /// An address could not be dialled: whoever told of it can have us meet, perhaps.
    pub(super) fn ask_relay(&mut self, now: Time, addr: SocketAddr) {
        let is_new = !self.punches.by_addr.contains_key(&addr) && self.punches.by_addr.len() < PUNCHES_MAX;
        let is_fit = is_new && !self.is_unwelcome(addr);
        if !self.config.holepunch || !is_fit || self.is_full() || self.is_connected_with(addr) {
            return;
        }
        let relays = self.discovery.relays(addr);
        let relay = relays.into_iter().filter_map(|key| self.peers.get(key)).find_map(|peer| {
            // Its word counts on its own side of the NAT only.
            let is_beside = is_local(addr.ip()) == is_local(peer.info.addr.ip());
            Some((peer.key, peer.info.addr, peer.holepunch.id.filter(|_| is_beside)?))
        });
        let Some((relay, relay_addr, id)) = relay else { return };
        let stage = Stage::Asked { until: now + RELAY_PATIENCE };
        self.punches.by_addr.insert(addr, Punch { relay, relay_addr, is_ours: true, stage });
        self.send(now, relay, Message::Extended { id, payload: Holepunch::Rendezvous(addr).encode() });
    }

    pub(super) fn on_holepunch(&mut self, now: Time, key: PeerKey, payload: &[u8]) {
        let takes_part = |peer: &&Peer| self.config.holepunch && peer.holepunch.id.is_some();
        let message = self.peers.get(key).filter(takes_part).and_then(|_| Holepunch::decode(payload));
        match message {
            // Who does not take part itself could not be answered.
            None => {
                self.charge(now, key, Cost::Nothing);
            }
            Some(Holepunch::Rendezvous(to)) => self.on_rendezvous(now, key, to),
            Some(Holepunch::Connect(to)) => self.on_connect(now, key, to),
            Some(Holepunch::Error(to, error)) => self.on_holepunch_error(now, key, to, error),
        }
    }

    /// We are the relay.
    fn on_rendezvous(&mut self, now: Time, key: PeerKey, to: SocketAddr) {
        self.charge(now, key, Cost::Refused);
        let Some(peer) = self.peers.get_mut(key) else { return };
        if !peer.holepunch.wishes.take(now) {
            return;
        }
        self.count(self.peers.len());
        match self.introduce(now, key, to) {
            Ok([(target, target_at), (asker, asker_at)]) => {
                self.send_holepunch(now, asker, Holepunch::Connect(target_at));
                self.send_holepunch(now, target, Holepunch::Connect(asker_at));
            }
            Err(error) => self.send_holepunch(now, key, Holepunch::Error(to, error)),
        }
    }

    /// Who a peer wants to meet, and itself, each with where the other one can meet it.
    fn introduce(
        &mut self,
        now: Time,
        key: PeerKey,
        to: SocketAddr,
    ) -> Result<[(PeerKey, SocketAddr); 2], HolepunchError> {
        let Some(asker) = self.peers.get(key) else { return Err(HolepunchError::NotConnected) };
        if !is_dialable(to, Origin::Peer(asker.info.addr.ip())) {
            return Err(HolepunchError::NoSuchPeer);
        }
        let asker_at = endpoint_of(asker).ok_or(HolepunchError::NotConnected)?;
        let target = self.find_by_endpoint(to);
        if target == Some(key) || self.is_ours(to) {
            return Err(HolepunchError::NoSelf);
        }
        let target = target.ok_or(HolepunchError::NotConnected)?;
        let is_beside =
            is_local(to.ip()) == is_local(asker_at.ip()) && Family::of(to) == Family::of(asker_at);
        let peer = self.peers.get_mut(target).filter(|_| is_beside).ok_or(HolepunchError::NotConnected)?;
        if peer.holepunch.id.is_none() {
            return Err(HolepunchError::NoSupport);
        }
        // Nobody is made to dial without end, whoever wishes it.
        let may_wish = peer.holepunch.introductions.take(now);
        let target_at = endpoint_of(peer).unwrap_or(to);
        may_wish.then_some([(target, target_at), (key, asker_at)]).ok_or(HolepunchError::NotConnected)
    }

    /// The peer that can be met at this address. Several behind one NAT may listen on the same port.
    fn find_by_endpoint(&self, addr: SocketAddr) -> Option<PeerKey> {
        let mut peers = self.peers.values();
        let seen_there = peers.find(|peer| endpoint_of(peer) == Some(addr));
        let is_there = |peer: &&Peer| peer.info.addr == addr || peer.extensions.listen_addr == Some(addr);
        seen_there.or_else(|| self.peers.values().find(is_there)).map(|peer| peer.key)
    }

    fn is_ours(&self, addr: SocketAddr) -> bool {
        let is_our_port =
            self.config.listen_port == Some(addr.port()) || self.mapped_port == Some(addr.port());
        self.discovery.is_known_as_own(addr)
            || is_our_port && self.own_ips.iter().flatten().any(|ip| *ip == addr.ip())
    }

    fn is_connected_with(&self, addr: SocketAddr) -> bool {
        self.peers.values().any(|peer| peer.info.addr == addr || endpoint_of(peer) == Some(addr))
    }

    /// A relay says that a peer dials us, and that we are to dial it: at our wish, or at the other one's. Silently ignored unless we
    /// would have that peer.
    fn on_connect(&mut self, now: Time, key: PeerKey, to: SocketAddr) {
        self.charge(now, key, Cost::Change);
        let Some(peer) = self.peers.get_mut(key) else { return };
        let (relay_addr, may_wish) = (peer.info.addr, peer.holepunch.wishes.take(now));
        let asked_at = self.punches.find_asked(to, key);
        if asked_at.is_none() && !(may_wish && self.punches.has_room(key)) {
            return;
        }
        let is_under_way = self.punches.by_addr.get(&to).is_some_and(|punch| !punch.is_asked());
        let relay_ip = relay_addr.ip();
        let is_fit = is_dialable(to, Origin::Peer(relay_ip))
            && is_local(to.ip()) == is_local(relay_ip)
            && !self.is_ours(to)
            && !self.is_unwelcome(to);
        if is_under_way || !is_fit || self.stopped || self.is_full() {
            return;
        }
        self.count(self.peers.len());
        if self.is_connected_with(to) {
            // We need not be told again.
            asked_at.map(|addr| self.punches.by_addr.remove(&addr));
            return;
        }
        if !self.discovery.may_punch(now) {
            return;
        }
        let asked = [asked_at, Some(to)].map(|addr| self.punches.by_addr.remove(&addr?));
        // It is still ours if the other one has asked for it too.
        let is_ours = asked.iter().flatten().any(|punch| punch.is_ours);
        self.punches.by_addr.insert(to, Punch { relay: key, relay_addr, is_ours, stage: Stage::Dialling });
        let encrypted = self.discovery.wants_encryption(to);
        self.actions.push_back(Action::Connect(Dial {
            addr: to,
            patience: PUNCH_PATIENCE,
            encrypted,
            utp: true,
            is_transport_known: true,
            punch: true,
        }));
    }

    /// The relay cannot do what we asked for.
    fn on_holepunch_error(&mut self, now: Time, key: PeerKey, to: SocketAddr, error: HolepunchError) {
        let is_asked = |punch: &&Punch| punch.relay == key && punch.is_asked();
        let Some(punch) = self.punches.by_addr.get(&to).filter(is_asked).copied() else {
            self.charge(now, key, Cost::Nothing);
            return;
        };
        self.ask_another(now, to, punch, HolepunchFailure::Refused(error));
    }

    /// A relay was of no use. Another one may be.
    fn ask_another(&mut self, now: Time, to: SocketAddr, punch: Punch, failure: HolepunchFailure) {
        self.punches.by_addr.remove(&to);
        self.discovery.forget_relay(to, punch.relay);
        self.ask_relay(now, to);
        if !self.punches.by_addr.contains_key(&to) {
            self.punch_failed(to, punch, failure);
        }
    }

    /// Gives up on relays that are silent, and on peers that do not come.
    pub(super) fn tick_holepunch(&mut self, now: Time) {
        let late = |punch: &Punch| match punch.stage {
            Stage::Asked { until } if until <= now => Some(HolepunchFailure::RelaySilent),
            Stage::Ended { until } if until <= now => Some(HolepunchFailure::Ended),
            _ => None,
        };
        let of = |(&addr, punch): (&SocketAddr, &Punch)| Some((addr, *punch, late(punch)?));
        let gone: Vec<_> = self.punches.by_addr.iter().filter_map(of).collect();
        for (addr, punch, failure) in gone {
            if failure == HolepunchFailure::RelaySilent {
                self.ask_another(now, addr, punch, failure);
                continue;
            }
            self.punches.by_addr.remove(&addr);
            self.punch_failed(addr, punch, failure);
        }
    }

    /// Somebody is connected: whether by holepunching.
    pub(super) fn note_punched(&mut self, info: &PeerInfo) -> bool {
        let Some(addr) = self.punches.find(info.addr, info.inbound, info.utp) else { return false };
        let Some(punch) = self.punches.by_addr.get_mut(&addr) else { return false };
        let is_first = punch.stage != Stage::Met;
        let is_dialled = info.inbound && !matches!(punch.stage, Stage::Ended { .. });
        // What is still being dialled is known until that has ended.
        punch.stage = Stage::Met;
        let relay = punch.relay_addr;
        if !is_dialled {
            self.punches.by_addr.remove(&addr);
        }
        if is_first {
            self.events.push_back(Event::Holepunched { addr: info.addr, relay });
        }
        true
    }

    fn punch_failed(&mut self, addr: SocketAddr, punch: Punch, failure: HolepunchFailure) {
        if punch.is_ours {
            self.events.push_back(Event::HolepunchFailed { addr, relay: punch.relay_addr, failure });
        }
    }

    fn send_holepunch(&mut self, now: Time, key: PeerKey, message: Holepunch) {
        let id = self.peers.get(key).and_then(|peer| peer.holepunch.id);
        if let Some(id) = id {
            self.send(now, key, Message::Extended { id, payload: message.encode() });
        }
    }
}

impl Punch {
    fn is_asked(&self) -> bool {
        matches!(self.stage, Stage::Asked { .. })
    }
}

impl Punches {
    /// Whether one more may be dialled at this relay's word, which we have not asked.
    fn has_room(&self, relay: PeerKey) -> bool {
        let of_others = || self.by_addr.values().filter(|punch| !punch.is_ours);
        self.by_addr.len() < PUNCHES_MAX
            && of_others().count() < PUNCHES_OF_OTHERS_MAX
            && of_others().filter(|punch| punch.relay == relay).count() < PUNCHES_OF_RELAY_MAX
    }

    /// Nothing comes of the dial.
    pub(super) fn give_up(&mut self, addr: SocketAddr) {
        self.by_addr.remove(&addr);
    }

    /// What a relay was asked for when it names this address: the same, or another port of the same NAT's.
    fn find_asked(&self, addr: SocketAddr, relay: PeerKey) -> Option<SocketAddr> {
        let is_asked = |punch: &Punch| punch.is_asked() && punch.relay == relay;
        let exact = self.by_addr.get(&addr).filter(|punch| is_asked(punch)).map(|_| addr);
        let same_host = || {
            let mut asked = self.by_addr.iter().filter(|(_, punch)| is_asked(punch));
            asked.find(|(to, _)| to.ip() == addr.ip()).map(|(to, _)| *to)
        };
        exact.or_else(same_host)
    }

    /// The one that a connection belongs to. Who dials us through a NAT may come from another port than the relay saw.
    fn find(&self, addr: SocketAddr, inbound: bool, utp: bool) -> Option<SocketAddr> {
        let is_dialled = |punch: &Punch| !punch.is_asked();
        let exact = self.by_addr.get(&addr).filter(|punch| utp && is_dialled(punch)).map(|_| addr);
        let same_host = || {
            let mut dialled = self.by_addr.iter().filter(|(_, punch)| is_dialled(punch));
            dialled.find(|(to, _)| inbound && utp && to.ip() == addr.ip()).map(|(to, _)| *to)
        };
        exact.or_else(same_host)
    }
}

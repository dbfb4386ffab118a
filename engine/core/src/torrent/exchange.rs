//! Peer exchange, PEX (BEP 11).
//!
//! Both ways a message a minute at the most, with at most [`EXCHANGED_MAX`] peers in it. An address is a claim by a stranger: a few
//! false ones must not displace those from others.

use super::Torrent;
use super::discovery::Origin;
use super::holepunch::endpoint_of;
use crate::id::PeerKey;
use crate::peer::Peer;
use crate::peer::budget::Cost;
use crate::time::{Duration, Time};
use crate::wire::exchange::{EXCHANGED_MAX, PeerExchange, PeerFlags};
use crate::wire::{Extension, Message};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// How long after a message the next one is sent.
pub const EXCHANGE_INTERVAL: Duration = Duration::from_secs(60);
/// A message that comes sooner than this after another is not read. Less than a minute, since clocks and lines differ.
pub const EXCHANGE_INTERVAL_MIN: Duration = Duration::from_secs(45);
/// When to look again after there was nothing to send.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

impl Torrent {
    /// The peer exchange, if we take part.
    pub(super) fn exchange_extension(&self) -> Option<Extension> {
        self.config.exchange.then_some(Extension::PeerExchange)
    }

    pub(super) fn on_exchange(&mut self, now: Time, key: PeerKey, payload: &[u8]) {
        let Some(peer) = self.peers.get_mut(key).filter(|_| self.config.exchange) else { return };
        if peer.exchange.heard_at.is_some_and(|at| now.since(at) < EXCHANGE_INTERVAL_MIN) {
            self.charge(now, key, Cost::Nothing);
            return;
        }
        peer.exchange.heard_at = Some(now);
        let origin = Origin::Peer(peer.info.addr.ip());
        let Ok(PeerExchange { added, .. }) = PeerExchange::decode(payload) else { return };
        let wants_seeds = !self.is_complete();
        let useful = added.into_iter().filter(|(_, flags)| wants_seeds || !flags.contains(PeerFlags::SEED));
        let useful: Vec<(SocketAddr, PeerFlags)> = useful.collect();
        for (addr, _) in useful.iter().filter(|(_, flags)| flags.contains(PeerFlags::ENCRYPTION)) {
            self.discovery.add(*addr, origin);
            self.discovery.note_encryption(*addr, true);
        }
        for (addr, _) in useful.iter().filter(|(_, flags)| flags.contains(PeerFlags::UTP)) {
            self.discovery.add(*addr, origin);
            self.discovery.note_utp(*addr, true);
        }
        let can_be_met = |flags: PeerFlags| {
            let is_hidden = flags.contains(PeerFlags::UTP) && !flags.contains(PeerFlags::REACHABLE);
            self.config.holepunch && (flags.contains(PeerFlags::HOLEPUNCH) || is_hidden)
        };
        for (addr, _) in useful.iter().filter(|(_, flags)| can_be_met(*flags)) {
            self.discovery.add(*addr, origin);
            self.discovery.note_relay(*addr, key);
        }
        let addrs: Vec<SocketAddr> = useful.into_iter().map(|(addr, _)| addr).collect();
        self.handle_addresses(now, &addrs, origin);
    }

    /// Sends to those whose turn has come.
    pub(super) fn tick_exchange(&mut self, now: Time) {
        if !self.config.exchange {
            return;
        }
        let is_due = |peer: &&Peer| peer.exchange.id.is_some() && peer.exchange.next_at <= now;
        let due: Vec<PeerKey> = self.peers.values().filter(is_due).map(|peer| peer.key).collect();
        if due.is_empty() {
            return;
        }
        let here: BTreeMap<SocketAddr, PeerFlags> =
            self.peers.values().filter_map(|peer| Some((endpoint_of(peer)?, flags_of(peer)))).collect();
        for key in due {
            self.send_exchange(now, key, &here);
        }
    }

    fn send_exchange(&mut self, now: Time, key: PeerKey, here: &BTreeMap<SocketAddr, PeerFlags>) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(id) = peer.exchange.id else { return };
        let is_local = peer.info.addr.ip().to_canonical().is_loopback();
        let itself = endpoint_of(peer);
        let sent = &mut peer.exchange.sent;
        // Addresses on loopback mean something on this machine only.
        let is_new = |addr: &SocketAddr| {
            Some(*addr) != itself
                && !sent.contains(addr)
                && (is_local || !addr.ip().to_canonical().is_loopback())
        };
        let new = here.iter().filter(|(addr, _)| is_new(addr));
        let added: Vec<_> = new.take(EXCHANGED_MAX).map(|(addr, flags)| (*addr, *flags)).collect();
        let gone = sent.iter().filter(|addr| !here.contains_key(addr)).take(EXCHANGED_MAX);
        let dropped: Vec<_> = gone.copied().collect();
        if added.is_empty() && dropped.is_empty() {
            peer.exchange.next_at = now + LOOK_AGAIN;
            return;
        }
        dropped.iter().for_each(|addr| {
            sent.remove(addr);
        });
        sent.extend(added.iter().map(|(addr, _)| *addr));
        peer.exchange.next_at = now + EXCHANGE_INTERVAL;
        let payload = PeerExchange { added, dropped }.encode();
        self.send(now, key, Message::Extended { id, payload });
    }
}

fn flags_of(peer: &Peer) -> PeerFlags {
    let none = PeerFlags::default();
    let seed = if peer.have().is_full() || peer.extensions.upload_only { PeerFlags::SEED } else { none };
    let encryption = if wants_encryption(peer) { PeerFlags::ENCRYPTION } else { none };
    let utp = if peer.info.utp { PeerFlags::UTP } else { none };
    let holepunch = if peer.holepunch.id.is_some() { PeerFlags::HOLEPUNCH } else { none };
    let is_reachable = !peer.info.inbound && !peer.was_punched();
    let reachable = if is_reachable { PeerFlags::REACHABLE } else { none };
    seed | encryption | utp | holepunch | reachable
}

/// Whether a peer says so, or is connected in this way.
pub(super) fn wants_encryption(peer: &Peer) -> bool {
    peer.extensions.prefers_encryption || peer.info.encryption.is_some()
}

//! Whose connection stays: duplicate connections, refusals, and who is evicted when there are too many.

use super::discovery::Demand;
use super::{CloseReason, Torrent};
use crate::admission::{self, Holder, Standing};
use crate::id::PeerKey;
use crate::net::Family;
use crate::peer::{Peer, PeerInfo};
use crate::time::{Duration, Time};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A connection on which neither side has wanted anything for this long may be evicted.
pub const USELESS_MAX: Duration = Duration::from_secs(30);
/// The same for one on which the peer has said nothing since its handshake.
pub const SILENT_MAX: Duration = Duration::from_millis(500);
/// A younger connection is not evicted for one of higher priority, so that not even many newcomers keep everybody busy with
/// connecting.
pub const PLACE_TIME_MIN: Duration = Duration::from_secs(60);

impl Torrent {
    /// Why this connection may not stay, if so.
    pub(super) fn refusal(&mut self, now: Time, info: &PeerInfo) -> Option<CloseReason> {
        if self.stopped {
            return Some(CloseReason::Stopped);
        }
        if info.peer_id == self.config.peer_id {
            return Some(CloseReason::SelfConnection);
        }
        if self.discovery.is_banned(info.addr) {
            return Some(CloseReason::Banned);
        }
        if self.discovery.is_blocked(info.addr) {
            return Some(CloseReason::Blocked);
        }
        if !info.inbound && self.discovery.is_given_up(info.addr) {
            return Some(CloseReason::Private);
        }
        let duplicate = self.peers.values().find(|peer| peer.info.is_same_peer(info));
        if let Some((key, inbound)) = duplicate.map(|duplicate| (duplicate.key, duplicate.info.inbound)) {
            // Both sides dialled: both keep the connection that the lower peer id dialled.
            let we_are_lower = self.config.peer_id < info.peer_id;
            let keep_new = inbound != info.inbound && info.inbound != we_are_lower;
            if !keep_new {
                return Some(CloseReason::Duplicate);
            }
            self.close(now, key, CloseReason::Duplicate);
        }
        (self.is_full() && !self.evict_for(now, info)).then_some(CloseReason::TooManyPeers)
    }

    /// Whether nobody is taken from this host, whoever it is: it is banned, or the IP filter blocks it.
    pub fn is_unwelcome(&self, addr: SocketAddr) -> bool {
        self.discovery.is_banned(addr) || self.discovery.is_blocked(addr)
    }

    /// Whether there are as many connections as allowed. Another one may still take the place of one of them.
    pub fn is_full(&self) -> bool {
        self.peers.len() >= self.config.peers_max
    }

    /// Evicts a connection for another one, if any may be.
    fn evict_for(&mut self, now: Time, newcomer: &PeerInfo) -> bool {
        let holders: Vec<Holder<PeerKey>> = self.holders(now).collect();
        let places = self.config.peers_max;
        match admission::evicted_for(newcomer.addr.ip(), &holders, places) {
            Some(key) => self.evict(now, key),
            None => return self.evict_lower_priority(now, newcomer),
        }
        true
    }

    /// The connections, and what each is good for: for whoever shares out the places of several torrents.
    pub fn holders(&self, now: Time) -> impl Iterator<Item = Holder<PeerKey>> + '_ {
        self.peers.values().map(move |peer| Holder {
            key: peer.key,
            ip: peer.info.addr.ip(),
            standing: self.standing(now, peer),
            useful_at: peer.times.useful_at,
        })
    }

    fn standing(&self, now: Time, peer: &Peer) -> Standing {
        let is_by_user = || peer.extensions.listen_addr.is_some_and(|addr| self.discovery.is_by_user(addr));
        let patience = if peer.has_spoken() { USELESS_MAX } else { SILENT_MAX };
        if let Some(standing) = self.search_standing(now, peer.key) {
            return if is_by_user() { Standing::Gives } else { standing };
        }
        match () {
            () if peer.traffic.rate_down.bytes_per_s(now) > 0 || is_by_user() => Standing::Gives,
            () if peer.traffic.rate_up.bytes_per_s(now) > 0 => Standing::Takes,
            () if peer.flags.am_interested && !peer.download.snubbed
                || peer.flags.peer_interested && !self.leaves_slot_unused(now, peer) =>
            {
                Standing::Waiting
            }
            () if now.since(peer.times.useful_at) < patience => Standing::New,
            () => Standing::Useless,
        }
    }

    /// Closes a connection for one that is needed more.
    pub fn evict(&mut self, now: Time, key: PeerKey) {
        let Some(peer) = self.peers.get(key) else { return };
        let reason = match self.standing(now, peer) {
            Standing::Useless => CloseReason::Useless { seconds: now.since(peer.times.useful_at).as_secs() },
            _ => CloseReason::Crowded,
        };
        self.close(now, key, reason);
    }

    /// Evicts the connection of the lowest canonical priority for one that dialled us and has a higher one (BEP 40). Never one that gives
    /// or takes something, is new, or was asked for by the user.
    fn evict_lower_priority(&mut self, now: Time, newcomer: &PeerInfo) -> bool {
        let may_go = |p: &&Peer| {
            let gives = p.flags.am_interested && !p.flags.peer_choking;
            let takes = p.flags.peer_interested && !p.flags.am_choking;
            let is_new = now.since(p.times.connected_at) < PLACE_TIME_MIN;
            !gives
                && !takes
                && !is_new
                && !p.extensions.listen_addr.is_some_and(|addr| self.discovery.is_by_user(addr))
        };
        let priorities = self.peers.values().filter(may_go).filter_map(|p| {
            Some((self.discovery.priority(p.extensions.listen_addr.unwrap_or(p.info.addr))?, p.key))
        });
        let lowest = priorities.min().filter(|_| newcomer.inbound);
        let evicted = lowest.filter(|(priority, _)| Some(*priority) < self.discovery.priority(newcomer.addr));
        if let Some((_, key)) = evicted {
            self.close(now, key, CloseReason::Evicted);
        }
        evicted.is_some()
    }

    /// How many connections are wanted, and how many of those that there are count: who dialled us and is of no use fills no more than
    /// half of what we dial for, and who lets our requests lie fills nothing.
    pub(super) fn demand(&self, now: Time) -> Demand {
        let wanted = self.config.peers_wanted.min(self.config.peers_max);
        let (mut here, mut useless, mut has_nobody) = (0, 0, true);
        let held = self.held_for();
        for peer in self.peers.values() {
            let is_of_use = self.standing(now, peer) >= Standing::Waiting;
            // Whoever has no metadata to give is nobody yet.
            let counts_as_connected = !peer.info.inbound && peer.has_spoken() && self.has_metadata();
            has_nobody &= !is_of_use && !counts_as_connected;
            if !self.is_held_back() && (peer.download.snubbed || peer.download.pipeline.is_overdue(now, held))
            {
                continue;
            }
            if is_of_use || !peer.info.inbound { here += 1 } else { useless += 1 }
        }
        let here = here + useless.min(wanted / 2);
        Demand { here, wanted, half_open_max: self.config.half_open_max, has_nobody }
    }

    /// This is our address, as a tracker or several peers see it.
    pub fn handle_own_ip(&mut self, ip: IpAddr) {
        let ip = ip.to_canonical();
        self.own_ips[Family::of_ip(ip) as usize] = Some(ip);
        self.discovery.set_own_ip(ip);
    }

    /// We listen at this address, which may not be the one that others see.
    pub fn handle_listening(&mut self, ip: IpAddr) {
        self.own_ips[Family::of_ip(ip) as usize].get_or_insert(ip);
    }

    /// Our address of the other family, for a peer at `addr`: so it finds out that we are the same over both.
    pub(super) fn ips_to_name(&self, addr: SocketAddr) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        let of_other_family = |ip: &IpAddr| Family::of_ip(*ip) != Family::of(addr);
        let own = self.own_ips.iter().flatten().find(|ip| of_other_family(ip));
        let own = own.filter(|_| self.config.tells_own_ips);
        match own {
            Some(IpAddr::V4(ip)) => (Some(*ip), None),
            Some(IpAddr::V6(ip)) => (None, Some(*ip)),
            None => (None, None),
        }
    }

    /// A peer that is connected over both families shows itself by naming on each connection the address that the other
    /// one comes from. No stranger can say that for it: it would have to say so on the peer's own connection too. Both sides close
    /// the connection over IPv4.
    pub(super) fn close_duplicate(&mut self, now: Time, key: PeerKey) {
        let Some(peer) = self.peers.get(key) else { return };
        let names = |a: &Peer, b: &Peer| a.extensions.other_ip == Some(b.info.addr.ip().to_canonical());
        let is_duplicate = |other: &&Peer| {
            other.info.peer_id == peer.info.peer_id && names(peer, other) && names(other, peer)
        };
        let Some(duplicate) = self.peers.values().find(is_duplicate) else { return };
        let of_v4 = if Family::of(duplicate.info.addr) == Family::V4 { duplicate } else { peer };
        let key = of_v4.key;
        self.close(now, key, CloseReason::Duplicate);
    }
}

//! Who is connected, which pieces they have, and whom to dial.

use super::discovery::Origin;
use super::discovery::pace::PATIENCE_FIRST;
use super::download::SUSPECTS_INTERVAL;
use super::exchange::wants_encryption;
use super::{Action, CloseReason, Event, TICK, Torrent};
use crate::bitfield::Bitfield;
use crate::id::{PeerKey, PieceIndex};
use crate::ip_filter::IpFilter;
use crate::net::{Family, is_local};
use crate::peer::budget::Cost;
use crate::peer::{Due, Peer, PeerInfo};
use crate::time::{Duration, Time};
use crate::wire::Message;
use crate::wire::extension::{self, EXTENSION_HANDSHAKE_ID, Extension, ExtensionHandshake};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// We send something at least this often, so that the other side does not take us for dead (BEP 3).
pub const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(100);
/// A peer from which nothing has come for this long is closed as timed out.
pub const SILENCE_MAX: Duration = Duration::from_secs(180);
/// A connection that stood this long, or moved any data, was worth making: its end is no failure.
const GOOD_AFTER: Duration = Duration::from_secs(60);
/// How many peers that have left are remembered, in case what they sent turns out to be wrong.
pub(super) const DEPARTED_MAX: usize = 512;

impl Torrent {
    /// Addresses of possible peers, and their source.
    pub fn handle_addresses(&mut self, now: Time, addrs: &[SocketAddr], origin: Origin) {
        if self.stopped {
            return;
        }
        addrs.iter().for_each(|&addr| self.discovery.add(addr, origin));
        self.dial(now);
        self.wake(now);
    }

    /// From now on nobody is dialled, kept or accepted whose address this filter blocks.
    pub fn set_ip_filter(&mut self, now: Time, filter: Arc<IpFilter>) {
        self.discovery.set_ip_filter(filter);
        let blocked = self.peers.values().filter(|peer| self.discovery.is_blocked(peer.info.addr));
        let keys: Vec<PeerKey> = blocked.map(|peer| peer.key).collect();
        keys.into_iter().for_each(|key| self.close(now, key, CloseReason::Blocked));
        self.wake(now);
    }

    /// How often an address was passed over because the filter blocks it, since this was last asked.
    pub fn take_addresses_blocked(&mut self) -> u64 {
        self.discovery.take_blocked()
    }

    /// How many addresses are known that are not connected, and how many of these have failed when they were last dialled.
    pub fn addresses_known_and_failed(&self) -> (usize, usize) {
        self.discovery.known_and_failed()
    }

    /// An address that we were to dial did not become a connection.
    pub fn handle_connect_failed(&mut self, now: Time, addr: SocketAddr) {
        self.ask_relay(now, addr);
        self.discovery.failed(now, addr);
        self.dial(now);
        self.wake(now);
    }

    /// An address that we were to dial was not: for want of room or descriptors on our side. It is tried again
    /// after a rest, and this does not count against it.
    pub fn handle_not_dialled(&mut self, now: Time, addr: SocketAddr) {
        self.discovery.not_dialled(now, addr);
        self.wake(now);
    }

    /// A connection's handshakes are done. The torrent may answer with [`Action::Close`].
    ///
    /// # Panics
    /// If the key is in use.
    pub fn handle_connected(&mut self, now: Time, key: PeerKey, info: PeerInfo) {
        assert!(!self.peers.contains_key(key), "{key:?} is in use");
        if let Some(reason) = self.refusal(now, &info) {
            match reason {
                CloseReason::SelfConnection if !info.inbound => self.discovery.is_own(info.addr),
                // That is not the other side's fault.
                CloseReason::TooManyPeers if !info.inbound => self.discovery.not_dialled(now, info.addr),
                _ if !info.inbound => self.discovery.failed(now, info.addr),
                _ => {}
            }
            if !info.inbound {
                self.punches.give_up(info.addr);
            }
            self.actions.push_back(Action::Close { peer: key, reason });
            self.wake(now);
            return;
        }
        if !info.inbound {
            self.discovery.connected(info.addr);
            self.discovery.note_encryption(info.addr, info.encryption.is_some());
            self.discovery.note_utp(info.addr, info.utp);
        }
        let was_punched = self.note_punched(&info);
        let mut peer = Peer::new(key, info, self.geometry.pieces(), now);
        peer.pieces.counted = self.picker.peer_joined(peer.have());
        peer.holepunch.was_punched = was_punched;
        self.peers.insert(key, peer);
        self.search_joined(now, key);
        self.send_initial_messages(now, key);
        self.wake(now);
        self.input_at = Some(now);
    }

    /// Our extension handshake, then which pieces we have.
    fn send_initial_messages(&mut self, now: Time, key: PeerKey) {
        self.send_extension_handshake(now, key);
        let is_fast = self.peers.get(key).is_some_and(|peer| peer.info.fast);
        let have = self.picker.have();
        let message = match have.count() {
            _ if self.is_super_seeding() => is_fast.then_some(Message::HaveNone),
            0 if is_fast => Some(Message::HaveNone),
            0 => None,
            _ if have.is_full() && is_fast => Some(Message::HaveAll),
            _ => Some(Message::Bitfield(have.to_wire())),
        };
        if let Some(message) = message {
            self.send(now, key, message);
        }
        self.uploads_joined(now, key);
    }

    pub(super) fn send_extension_handshake(&mut self, now: Time, key: PeerKey) {
        let Some(peer) = self.peers.get(key).filter(|peer| peer.info.extended) else { return };
        let addr = peer.info.addr;
        let (ipv4, ipv6) = self.ips_to_name(addr);
        let hello = ExtensionHandshake {
            ipv4,
            ipv6,
            ids: self.extensions().map(|e| (e, e.local_id())).collect(),
            client: self.config.client.clone(),
            reqq: Some(self.config.requests_max),
            listen_port: self.port_for(addr),
            prefers_encryption: self.config.prefers_encryption.then_some(true),
            your_ip: Some(addr.ip().to_canonical()),
            // Who seems to have nothing, and to want nothing, would be left by some (BEP 21).
            upload_only: Some(self.is_complete() && !self.is_super_seeding()),
            metadata_size: self.metadata_size(),
        };
        self.send(now, key, Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload: hello.encode() });
    }

    /// Our gateway passes on what comes for this port of IPv4, or for none. Peers are told of it, but not those on our own network.
    pub fn handle_mapped_port(&mut self, port: Option<u16>) {
        self.mapped_port = port;
    }

    /// Where this peer reaches us.
    fn port_for(&self, peer: SocketAddr) -> Option<u16> {
        let is_outside = Family::of(peer) == Family::V4 && !is_local(peer.ip());
        self.mapped_port.filter(|_| is_outside).or(self.config.listen_port)
    }

    /// The connection has ended, on whichever side.
    pub fn handle_disconnected(&mut self, now: Time, key: PeerKey) {
        self.forget(now, key, true);
        self.dial(now);
        self.input_at = Some(now);
    }

    /// Closes a connection and forgets it.
    pub(super) fn close(&mut self, now: Time, key: PeerKey, reason: CloseReason) {
        if self.peers.contains_key(key) {
            let again = matches!(
                reason,
                CloseReason::TimedOut { .. }
                    | CloseReason::PieceLost
                    | CloseReason::Version2
                    | CloseReason::NoMetadata
                    | CloseReason::BadMetadata
            );
            self.forget(now, key, again);
            self.actions.push_back(Action::Close { peer: key, reason });
        }
    }

    fn forget(&mut self, now: Time, key: PeerKey, again: bool) {
        self.withdraw_requests(key);
        let Some(peer) = self.peers.remove(key) else { return };
        self.search.iter_mut().for_each(|search| search.left(key));
        self.hashes_left(now, key);
        self.picker.peer_left(peer.have(), peer.pieces.counted);
        self.uploads.left(key);
        self.input_at = Some(now);
        self.events.push_back(Event::PeerLeft {
            addr: peer.extensions.listen_addr.unwrap_or(peer.info.addr),
            bytes_down: peer.traffic.bytes_down,
            bytes_up: peer.traffic.bytes_up,
        });
        if self.departed.len() == DEPARTED_MAX {
            self.departed.pop_front();
        }
        self.departed.push_back((key, peer.info.addr));
        if let Some(addr) = peer.extensions.listen_addr {
            let is_done_with = self.is_complete() && peer.have().is_full();
            if is_done_with {
                self.note_seed_left(addr);
            }
            let again = again && !is_done_with;
            let was_good = peer.traffic.bytes_down + peer.traffic.bytes_up > 0
                || now.since(peer.times.connected_at) >= GOOD_AFTER;
            self.discovery.disconnected(now, addr, again, was_good);
        }
    }

    /// Where a peer is, or was.
    pub(super) fn addr_of(&self, key: PeerKey) -> Option<SocketAddr> {
        let departed = || self.departed.iter().find(|(k, _)| *k == key).map(|(_, addr)| *addr);
        self.peers.get(key).map(|p| p.info.addr).or_else(departed)
    }

    pub(super) fn ban(&mut self, now: Time, addr: SocketAddr, key: PeerKey, reason: CloseReason) {
        let listens = self.peers.get(key).and_then(|p| p.extensions.listen_addr);
        let is_new = !self.discovery.is_banned(addr);
        for addr in [Some(addr), listens].into_iter().flatten() {
            self.discovery.ban(now, addr);
        }
        if is_new {
            self.events.push_back(Event::PeerBanned { addr, reason: reason.clone() });
        }
        let banned: Vec<PeerKey> =
            self.peers.values().filter(|p| self.discovery.is_banned(p.info.addr)).map(|p| p.key).collect();
        banned.into_iter().for_each(|key| self.close(now, key, reason.clone()));
        self.close(now, key, reason);
    }

    pub(super) fn on_bitfield(&mut self, now: Time, key: PeerKey, have: Bitfield) {
        self.count(have.words().len());
        let Some(peer) = self.peers.get_mut(key) else { return };
        self.picker.peer_left(peer.have(), peer.pieces.counted);
        peer.pieces.counted = self.picker.peer_joined(&have);
        peer.pieces.interesting = have.count_common(self.picker.missing());
        peer.pieces.have = have;
        peer.pieces.is_known = true;
        self.note_witness();
        if self.peers[key].have().is_full() {
            // This seed is not the only one.
            self.stop_super_seeding(now);
        }
        self.set_due(key, Due::Now);
    }

    pub(super) fn on_have(&mut self, now: Time, key: PeerKey, piece: PieceIndex) {
        if !self.geometry.contains(piece) {
            self.close(now, key, CloseReason::NoSuchPiece(piece));
            return;
        }
        let Some(peer) = self.peers.get_mut(key) else { return };
        if !peer.pieces.have.insert(piece) {
            self.charge(now, key, Cost::Nothing);
            return;
        }
        peer.pieces.is_known = true;
        self.picker.peer_got(piece);
        if self.picker.missing().has(piece) {
            peer.pieces.interesting += 1;
            let may_ask = !peer.flags.peer_choking || peer.download.allowed_fast.contains(&piece);
            let is_idle = may_ask && peer.download.pipeline.is_empty();
            if peer.pieces.interesting == 1
                || is_idle && (self.picker.has_unrequested(piece) || self.picker.is_endgame())
            {
                self.follow(now, key);
            }
        }
        self.on_have_super_seeding(now, key, piece);
        self.close_if_useless(now, key);
    }

    /// The peer does not have a piece that it said it had.
    pub(super) fn on_lost(&mut self, key: PeerKey, piece: PieceIndex) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if !peer.have().has(piece) {
            return;
        }
        peer.pieces.have.remove(piece);
        peer.pieces.losses = peer.pieces.losses.saturating_add(1);
        self.picker.peer_lost(piece);
        if self.picker.missing().has(piece) {
            peer.pieces.interesting -= 1;
            if peer.pieces.interesting == 0 {
                self.set_due(key, Due::Now);
            }
        }
    }

    /// Sends INTERESTED or NOT INTERESTED when a peer begins or ceases to have pieces that we want.
    pub(super) fn update_interest(&mut self, now: Time, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let interested = peer.pieces.interesting > 0;
        if peer.flags.am_interested != interested {
            peer.flags.am_interested = interested;
            peer.times.useful_at = now;
            self.send(now, key, if interested { Message::Interested } else { Message::NotInterested });
        }
    }

    /// Counts each peer's interesting pieces again, after priorities or pieces changed.
    pub(super) fn recount_interesting(&mut self, now: Time) {
        let keys: Vec<PeerKey> = self.peers.keys().collect();
        for key in keys {
            let Some(peer) = self.peers.get_mut(key) else { continue };
            peer.pieces.interesting = peer.have().count_common(self.picker.missing());
            self.update_interest(now, key);
        }
    }

    pub(super) fn on_extended(&mut self, now: Time, key: PeerKey, id: u8, payload: &[u8]) {
        match Extension::from_local_id(id) {
            _ if id == EXTENSION_HANDSHAKE_ID => {
                self.charge(now, key, Cost::Refused);
                if let Ok(hello) = ExtensionHandshake::decode(payload) {
                    self.on_extension_handshake(now, key, hello);
                }
            }
            Some(Extension::DontHave) => {
                if let Some(piece) = extension::decode_piece(payload) {
                    self.on_dont_have(now, key, piece);
                }
            }
            Some(Extension::UploadOnly) => {
                self.charge(now, key, Cost::Change);
                if let Some(peer) = self.peers.get_mut(key) {
                    peer.extensions.upload_only =
                        extension::decode_upload_only(payload).unwrap_or(peer.extensions.upload_only);
                }
            }
            Some(Extension::Metadata) => self.on_metadata(now, key, payload),
            Some(Extension::PeerExchange) => self.on_exchange(now, key, payload),
            Some(Extension::Holepunch) => self.on_holepunch(now, key, payload),
            Some(Extension::WebFetching) => {
                self.charge(now, key, Cost::Change);
                self.on_web_fetching(now, key, payload);
            }
            None => {
                self.charge(now, key, Cost::Nothing);
            }
        }
        self.close_if_useless(now, key);
    }

    /// The peer has lost a piece (BEP 54). With the fast extension it still rejects our requests for it; without, this stands for
    /// that.
    fn on_dont_have(&mut self, now: Time, key: PeerKey, piece: PieceIndex) {
        let Some(peer) = self.peers.get(key) else { return };
        // A seed may lose all that it had.
        let is_first = peer.have().has(piece) && peer.pieces.losses < self.geometry.pieces();
        self.charge(now, key, if is_first { Cost::Nothing } else { Cost::Change });
        let Some(peer) = self.peers.get(key).filter(|peer| peer.have().has(piece)) else { return };
        if !peer.info.fast && self.picker.is_downloading(piece) {
            self.count(peer.download.pipeline.len());
            let asked = peer
                .download
                .pipeline
                .iter()
                .map(|request| request.block)
                .filter(|block| block.piece == piece);
            asked.collect::<Vec<_>>().into_iter().for_each(|block| self.on_reject(now, key, block));
        }
        self.on_lost(key, piece);
    }

    fn on_extension_handshake(&mut self, now: Time, key: PeerKey, hello: ExtensionHandshake) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let family = Family::of(peer.info.addr);
        let other_ip = match family {
            Family::V4 => hello.ipv6.map(IpAddr::V6),
            Family::V6 => hello.ipv4.map(IpAddr::V4),
        };
        peer.extensions.other_ip = other_ip.or(peer.extensions.other_ip);
        if let Some(reqq) = hello.reqq {
            peer.download.pipeline.set_reqq(reqq);
        }
        let seen_by = peer.info.addr;
        if let Some(ip) =
            hello.your_ip.filter(|ip| self.config.canonical_priority && Family::of_ip(*ip) == family)
            && let Some(ip) = self.votes[family as usize].cast(now, seen_by, ip)
        {
            self.handle_own_ip(ip);
        }
        let Some(peer) = self.peers.get_mut(key) else { return };
        if let Some(port) = hello.listen_port.filter(|_| peer.extensions.listen_addr.is_none()) {
            let addr = SocketAddr::new(peer.info.addr.ip(), port);
            if self.discovery.is_banned(addr) {
                return self.close(now, key, CloseReason::Banned);
            }
            peer.extensions.listen_addr = Some(addr);
            self.discovery.connected(addr);
        }
        peer.extensions.prefers_encryption = hello.prefers_encryption.unwrap_or(false);
        if let Some(addr) = peer.extensions.listen_addr.filter(|_| wants_encryption(peer)) {
            self.discovery.note_encryption(addr, true);
        }
        if !hello.client.is_empty() {
            peer.extensions.client = Some(hello.client);
        }
        peer.extensions.upload_only = hello.upload_only.unwrap_or(peer.extensions.upload_only);
        for (extension, known) in [
            (Extension::DontHave, &mut peer.extensions.dont_have_id),
            (Extension::UploadOnly, &mut peer.extensions.upload_only_id),
            (Extension::Metadata, &mut peer.extensions.metadata_id),
            (Extension::PeerExchange, &mut peer.exchange.id),
            (Extension::Holepunch, &mut peer.holepunch.id),
            (Extension::WebFetching, &mut peer.web.id),
        ] {
            if let Some(&id) = hello.ids.get(&extension) {
                *known = Some(id).filter(|&id| id != 0);
            }
        }
        self.search_offer(now, key, hello.metadata_size);
        self.close_duplicate(now, key);
    }

    /// Closes all connections but those to peers that a tracker or the user named, and forgets the others' addresses.
    pub(super) fn close_unnamed(&mut self, now: Time) {
        self.discovery.keep_named();
        let is_named = |peer: &Peer| {
            peer.extensions.listen_addr.is_some_and(|addr| self.discovery.is_by_tracker_or_user(addr))
        };
        let others: Vec<PeerKey> =
            self.peers.values().filter(|peer| !is_named(peer)).map(|peer| peer.key).collect();
        others.into_iter().for_each(|key| self.close(now, key, CloseReason::Private));
    }

    /// Whether neither side will ever want anything of the other.
    fn is_useless(&self, peer: &Peer) -> bool {
        self.is_complete()
            && !peer.flags.peer_interested
            && peer.pieces.is_known
            && (peer.have().is_full() || peer.extensions.upload_only)
            && self.geometry.pieces() > 0
    }

    pub(super) fn close_if_useless(&mut self, now: Time, key: PeerKey) {
        if self.is_complete() && self.peers.get(key).is_some_and(|peer| self.is_useless(peer)) {
            self.close(now, key, CloseReason::BothComplete);
        }
    }

    /// We have become complete: those who are complete too can go.
    pub(super) fn close_useless(&mut self, now: Time) {
        let keys: Vec<PeerKey> = self.peers.values().filter(|p| self.is_useless(p)).map(|p| p.key).collect();
        keys.into_iter().for_each(|key| self.close(now, key, CloseReason::BothComplete));
    }

    /// Sends whether we take no more data to everyone who understands it (BEP 21).
    pub(super) fn announce_upload_only(&mut self, now: Time) {
        let ids = self.peers.values().filter_map(|peer| Some((peer.key, peer.extensions.upload_only_id?)));
        for (key, id) in ids.collect::<Vec<_>>() {
            let payload = extension::encode_upload_only(self.is_complete());
            self.send(now, key, Message::Extended { id, payload });
        }
    }

    /// Dials as long as there are places, addresses, and room for half-open connections.
    pub(super) fn dial(&mut self, now: Time) {
        if self.stopped || !self.discovery.has_ready(now) {
            return;
        }
        let demand = self.demand(now);
        while let Some(mut dial) = self.discovery.dial(now, demand) {
            // Where a relay can help, nobody waits long for an answer.
            let mut relays = self.discovery.relays(dial.addr).into_iter();
            if self.config.holepunch && relays.any(|key| self.peers.contains_key(key)) {
                dial.patience = dial.patience.min(PATIENCE_FIRST);
            }
            self.actions.push_back(Action::Connect(dial));
        }
    }

    /// Ticks again, if there is anything to wait for.
    pub(super) fn wake(&mut self, now: Time) {
        let waits = !self.peers.is_empty()
            || self.discovery.is_waiting()
            || self.is_waiting_for_web()
            || self.is_waiting_for_local();
        if self.tick_at.is_none() && waits {
            self.tick_at = Some(now + TICK);
            self.suspects_at.get_or_insert(now + SUSPECTS_INTERVAL);
        }
    }

    pub(super) fn tick_connections(&mut self, now: Time) {
        self.discovery.expire_bans(now);
        let keys: Vec<PeerKey> = self.peers.keys().collect();
        for key in keys {
            let peer = &self.peers[key];
            if now.since(peer.times.heard_at) >= SILENCE_MAX && !self.is_held_back() {
                self.close(now, key, CloseReason::TimedOut { seconds: SILENCE_MAX.as_secs() });
            } else if now.since(peer.times.sent_at) >= KEEP_ALIVE_AFTER {
                self.send(now, key, Message::KeepAlive);
            }
        }
    }

    /// Whether more addresses would help.
    pub fn wants_peers(&self) -> bool {
        let untried = self.discovery.untried_of_others_than_peers(self.config.peers_wanted);
        let known = self.discovery.half_open() + untried;
        let serving = self.peers.values().filter(|peer| !peer.download.snubbed).count();
        !self.has_metadata() || serving + known < self.config.peers_wanted
    }

    /// Ends every connection. Nobody is dialled or accepted any more.
    pub fn handle_stop(&mut self, now: Time) {
        self.stopped = true;
        let keys: Vec<PeerKey> = self.peers.keys().collect();
        keys.into_iter().for_each(|key| self.close(now, key, CloseReason::Stopped));
        self.cancel_all_fetches();
        self.tick_at = None;
    }
}

//! One UDP socket with all its connections.

use super::connection::{CloseReason, Connection, Start};
use super::packet::{Header, Kind, Packet};
use super::received::{CAPACITY_INITIAL, Place};
use super::stranger::{Opening, Strangers};
use crate::ip_filter::IpFilter;
use crate::rng::Rng;
use crate::time::{Duration, Time};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

/// So many packets of one connection leave before those of the next.
const TURN_MAX: usize = 64;

/// A connection of a [`Socket`]. An old one is never taken for a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    slot: u32,
    generation: u32,
}

/// How a [`Socket`] behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// So many connections there are at most, those that linger after their end among them.
    pub connections_max: usize,
    /// How many bytes of one connection may wait to be read or put in order.
    pub receive_capacity_max: usize,
    /// How long a datagram may be that we send, if less than Ethernet takes: a relay puts something before each.
    pub datagram_len_max: usize,
    /// Whether others may dial us.
    pub accepts: bool,
    /// What SYNs' answers are known by; nobody else may know it.
    pub secret: [u8; 16],
}

/// What has become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody has dialled us; the first bytes come with the same datagram.
    Accepted {
        /// The new connection.
        connection: ConnectionId,
        /// Who has.
        peer: SocketAddr,
    },
    /// The peer that we dialled has answered.
    Connected {
        /// The connection.
        connection: ConnectionId,
    },
    /// The peer has the stream up to here: it need not be kept any longer.
    Acked {
        /// The connection.
        connection: ConnectionId,
        /// Bytes since its beginning.
        to: u64,
    },
    /// Nothing comes after what has been delivered.
    Ended {
        /// The connection.
        connection: ConnectionId,
    },
    /// It is over, and known no more.
    Closed {
        /// The connection.
        connection: ConnectionId,
        /// Why.
        reason: CloseReason,
    },
}

/// Payload that has come with a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Whose it is.
    pub connection: ConnectionId,
    /// Its packet's number.
    pub seq: u16,
    /// Where it lies in the datagram.
    pub payload: Range<usize>,
    /// Where it belongs.
    pub place: Place,
}

/// A datagram to be sent: the header, which has been written, and part of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// To whom.
    pub to: SocketAddr,
    /// Of whose stream.
    pub connection: Option<ConnectionId>,
    /// These bytes of it follow the header.
    pub payload: Range<u64>,
    /// It is longer than what passes the path now, and cannot be sent otherwise: to be sent without "don't fragment".
    pub may_fragment: bool,
}

/// What is known of a connection's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathStats {
    /// The round trip.
    pub round_trip: Option<Duration>,
    /// The queue on the way there.
    pub queue_delay: Option<Duration>,
    /// How many bytes may be in flight.
    pub window: u64,
    /// How long datagrams are, without the headers below uTP's.
    pub datagram_len_max: usize,
}

struct Slot {
    generation: u32,
    connection: Option<Connection>,
    is_ready: bool,
    /// When it will be looked at: never later than it has to.
    wakes_at: Option<Time>,
    has_acked: bool,
}

/// All connections of one UDP socket. The [module](super) says how it is driven.
pub struct Socket {
    config: Config,
    rng: Rng,
    strangers: Strangers,
    ip_filter: Arc<IpFilter>,
    /// SYNs of blocked addresses that nobody has asked about.
    blocked: u64,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// By the peer, and the number that its packets are marked with.
    by_peer: BTreeMap<(SocketAddr, u16), u32>,
    wakes: BTreeSet<(Time, u32)>,
    ready: VecDeque<u32>,
    turn: usize,
    events: VecDeque<Event>,
}

impl Socket {
    /// A socket without connections.
    pub fn new(config: Config, rng: Rng) -> Socket {
        Socket {
            strangers: Strangers::new(config.secret),
            config,
            rng,
            ip_filter: Arc::default(),
            blocked: 0,
            slots: Vec::new(),
            free: Vec::new(),
            by_peer: BTreeMap::new(),
            wakes: BTreeSet::new(),
            ready: VecDeque::new(),
            turn: 0,
            events: VecDeque::new(),
        }
    }

    /// From now on strangers at addresses that this filter blocks get no answer, and nothing is kept of them. Connections stay.
    pub fn set_ip_filter(&mut self, ip_filter: Arc<IpFilter>) {
        self.ip_filter = ip_filter;
    }

    /// How many SYNs the filter has blocked since this was last asked.
    pub fn take_blocked(&mut self) -> u64 {
        std::mem::take(&mut self.blocked)
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.by_peer.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_peer.is_empty()
    }

    /// Dials; `None` if there is no room for another connection.
    pub fn handle_connect(&mut self, now: Time, peer: SocketAddr) -> Option<ConnectionId> {
        // Another connection with this peer may have the number.
        let receive_id =
            (0..8).map(|_| self.rng.next_u64() as u16).find(|id| !self.by_peer.contains_key(&(peer, *id)))?;
        let start = Start {
            peer,
            receive_id,
            send_id: receive_id.wrapping_add(1),
            seq: self.rng.next_u64() as u16,
            receive_capacity_max: self.config.receive_capacity_max,
            datagram_len_max: self.config.datagram_len_max,
        };
        let slot = self.insert(Connection::connect(now, start))?;
        self.touched(slot);
        Some(self.id(slot))
    }

    /// A datagram has come. Payload that is wanted is told; events that it caused are to be drained first.
    pub fn handle_datagram(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) -> Option<Received> {
        let packet = Packet::parse(datagram).ok()?;
        let header = &packet.header;
        let slot = match header.kind {
            Kind::Syn => {
                self.handle_syn(now, from, header);
                return None;
            }
            Kind::Reset => self.find_for_reset(from, header)?,
            _ => match self.by_peer.get(&(from, header.connection_id)) {
                Some(slot) => *slot,
                None => self.handle_stranger(now, from, header)?,
            },
        };
        let place = self.slots[slot as usize].connection.as_mut()?.handle_packet(now, &packet);
        let connection = self.id(slot);
        self.touched(slot);
        let payload = datagram.len() - packet.payload.len()..datagram.len();
        place.map(|place| Received { connection, seq: header.seq, payload, place })
    }

    fn handle_syn(&mut self, now: Time, from: SocketAddr, header: &Header) {
        if self.ip_filter.is_blocked(from.ip()) {
            self.blocked += 1;
            return;
        }
        let is_known = self.by_peer.contains_key(&(from, header.connection_id.wrapping_add(1)));
        if self.config.accepts && !is_known && self.len() < self.config.connections_max {
            self.strangers.on_syn(now, from, header, CAPACITY_INITIAL as u32);
        }
    }

    /// A RESET is marked with either of a connection's numbers.
    fn find_for_reset(&self, from: SocketAddr, header: &Header) -> Option<u32> {
        let id = header.connection_id;
        let marked = |receive_id: u16| {
            let slot = *self.by_peer.get(&(from, receive_id))?;
            let start = self.slots[slot as usize].connection.as_ref()?.start();
            (start.receive_id == id || start.send_id == id).then_some(slot)
        };
        marked(id).or_else(|| marked(id.wrapping_add(1))).or_else(|| marked(id.wrapping_sub(1)))
    }

    /// A packet for which there is no connection: the first of a new one, perhaps.
    fn handle_stranger(&mut self, now: Time, from: SocketAddr, header: &Header) -> Option<u32> {
        let receive_id = header.connection_id;
        if self.ip_filter.is_blocked(from.ip()) {
            return None;
        }
        match self.strangers.opening(from, header) {
            Opening::First { seq } if self.config.accepts => {
                let start = Start {
                    peer: from,
                    receive_id,
                    send_id: receive_id.wrapping_sub(1),
                    seq,
                    receive_capacity_max: self.config.receive_capacity_max,
                    datagram_len_max: self.config.datagram_len_max,
                };
                let slot = self.insert(Connection::accept(now, start, header.seq))?;
                self.events.push_back(Event::Accepted { connection: self.id(slot), peer: from });
                Some(slot)
            }
            Opening::First { .. } | Opening::Early => None,
            Opening::Unknown => {
                self.strangers.reset(now, from, receive_id, header.seq);
                None
            }
        }
    }

    /// So many more bytes of this connection's stream are there to be sent.
    pub fn handle_write(&mut self, connection: ConnectionId, bytes: usize) {
        self.with(connection, |connection| connection.handle_write(bytes as u64));
    }

    /// So many bytes of what was delivered have been used, and their memory is free again.
    pub fn handle_read(&mut self, connection: ConnectionId, bytes: usize) {
        self.with(connection, |connection| connection.handle_read(bytes));
    }

    /// Nothing more is written to this connection, nor read from it. What was written is still delivered, for a while; then
    /// comes [`Event::Closed`].
    pub fn handle_close(&mut self, now: Time, connection: ConnectionId) {
        self.with(connection, |connection| connection.handle_close(now));
    }

    /// Ends a connection at once. There is no event for it.
    pub fn handle_abort(&mut self, now: Time, connection: ConnectionId) {
        if let Some(slot) = self.find(connection) {
            if let Some(connection) = &self.slots[slot as usize].connection {
                let start = *connection.start();
                self.strangers.abort(now, start.peer, start.send_id, connection.received_seq());
            }
            self.remove(slot);
        }
    }

    /// The time of [`Socket::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Time) {
        let later = self.wakes.split_off(&(now + Duration::from_micros(1), 0));
        for (_, slot) in std::mem::replace(&mut self.wakes, later) {
            self.slots[slot as usize].wakes_at = None;
            if let Some(connection) = &mut self.slots[slot as usize].connection {
                if connection.poll_timeout().is_some_and(|at| at <= now) {
                    connection.handle_timeout(now);
                }
                self.touched(slot);
            }
        }
    }

    /// When [`Socket::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// The next datagram to be sent: its header is appended to `out`. To be asked only when the system takes one.
    pub fn poll_transmit(&mut self, now: Time, out: &mut Vec<u8>) -> Option<Transmit> {
        if let Some((to, header)) = self.strangers.poll() {
            header.encode(&[], 0, out);
            return Some(Transmit { to, connection: None, payload: 0..0, may_fragment: false });
        }
        while let Some(&slot) = self.ready.front() {
            let this = &mut self.slots[slot as usize];
            let sending = this.connection.as_mut().and_then(|connection| connection.poll_transmit(now, out));
            let Some(sending) = sending else {
                this.is_ready = false;
                self.ready.pop_front();
                self.turn = 0;
                self.watch(slot);
                continue;
            };
            self.turn += 1;
            if self.turn >= TURN_MAX {
                self.ready.rotate_left(1);
                self.turn = 0;
            }
            let connection = Some(self.id(slot));
            let to = self.slots[slot as usize].connection.as_ref()?.start().peer;
            let (payload, may_fragment) = (sending.payload, sending.may_fragment);
            return Some(Transmit { to, connection, payload, may_fragment });
        }
        None
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        loop {
            let event = self.events.pop_front()?;
            let Event::Acked { connection, .. } = event else { return Some(event) };
            // One that is over meanwhile has told so, or will.
            let Some(slot) = self.find(connection) else { continue };
            let this = &mut self.slots[slot as usize];
            this.has_acked = false;
            if let Some(to) = this.connection.as_ref().map(Connection::acked_to) {
                return Some(Event::Acked { connection, to });
            }
        }
    }

    /// What is known of a connection's way.
    pub fn path(&self, connection: ConnectionId) -> Option<PathStats> {
        let connection = self.slots[self.find(connection)? as usize].connection.as_ref()?;
        Some(PathStats {
            round_trip: connection.round_trip(),
            queue_delay: connection.queue_delay(),
            window: connection.window(),
            datagram_len_max: connection.datagram_len_max(),
        })
    }

    fn id(&self, slot: u32) -> ConnectionId {
        ConnectionId { slot, generation: self.slots[slot as usize].generation }
    }

    fn find(&self, id: ConnectionId) -> Option<u32> {
        let slot = self.slots.get(id.slot as usize)?;
        (slot.generation == id.generation && slot.connection.is_some()).then_some(id.slot)
    }

    fn with(&mut self, id: ConnectionId, act: impl FnOnce(&mut Connection)) {
        if let Some(slot) = self.find(id) {
            self.slots[slot as usize].connection.as_mut().map(act);
            self.touched(slot);
        }
    }

    fn insert(&mut self, connection: Connection) -> Option<u32> {
        let (peer, receive_id) = (connection.start().peer, connection.start().receive_id);
        if self.len() >= self.config.connections_max || self.by_peer.contains_key(&(peer, receive_id)) {
            return None;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                connection: None,
                is_ready: false,
                wakes_at: None,
                has_acked: false,
            });
            (self.slots.len() - 1) as u32
        });
        let this = &mut self.slots[slot as usize];
        (this.connection, this.has_acked) = (Some(connection), false);
        self.by_peer.insert((peer, receive_id), slot);
        Some(slot)
    }

    fn remove(&mut self, slot: u32) {
        let this = &mut self.slots[slot as usize];
        if let Some(connection) = this.connection.take() {
            this.generation = this.generation.wrapping_add(1);
            if let Some(at) = this.wakes_at.take() {
                self.wakes.remove(&(at, slot));
            }
            self.by_peer.remove(&(connection.start().peer, connection.start().receive_id));
            self.free.push(slot);
        }
    }

    /// Something has happened to a connection: it may have news, or something to send.
    fn touched(&mut self, slot: u32) {
        let connection = self.id(slot);
        let this = &mut self.slots[slot as usize];
        let Some(news) = this.connection.as_mut().map(Connection::take_news) else { return };
        if news.has_connected {
            self.events.push_back(Event::Connected { connection });
        }
        if news.has_acked && !std::mem::replace(&mut this.has_acked, true) {
            self.events.push_back(Event::Acked { connection, to: 0 });
        }
        if news.has_ended {
            self.events.push_back(Event::Ended { connection });
        }
        if let Some(reason) = news.closed {
            self.events.push_back(Event::Closed { connection, reason });
            return self.remove(slot);
        }
        if !std::mem::replace(&mut this.is_ready, true) {
            self.ready.push_back(slot);
        }
        self.watch(slot);
    }

    /// Sees that a connection is looked at in time. One that is looked at too early costs less than one whose time is set anew for
    /// each packet.
    fn watch(&mut self, slot: u32) {
        let this = &mut self.slots[slot as usize];
        let Some(at) = this.connection.as_ref().and_then(Connection::poll_timeout) else { return };
        if this.wakes_at.is_some_and(|wakes_at| wakes_at <= at) {
            return;
        }
        if let Some(wakes_at) = this.wakes_at.replace(at) {
            self.wakes.remove(&(wakes_at, slot));
        }
        self.wakes.insert((at, slot));
    }
}

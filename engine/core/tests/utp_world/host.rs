//! A host with a socket, which does what the module's documentation says an owner does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use swarm_core::rng::Rng;
use swarm_core::time::Time;
use swarm_core::utp::{CloseReason, Config, ConnectionId, Event, Place, Socket};

/// A stream as its owner sees it. The bytes are those of [`content`].
#[derive(Debug, Default)]
pub struct Stream {
    pub is_connected: bool,
    pub written: u64,
    pub acked: u64,
    /// What was delivered in order, and whether it was what the other side wrote.
    pub delivered: u64,
    pub unread: usize,
    pub kept: BTreeMap<u16, (u64, Vec<u8>)>,
    pub kept_bytes_max: usize,
    pub has_ended: bool,
    pub closed: Option<CloseReason>,
}

pub struct Host {
    pub addr: SocketAddr,
    pub socket: Socket,
    pub streams: BTreeMap<ConnectionId, Stream>,
    /// Whether what is delivered is read at once, and whether it has to be [`content`].
    pub reads: bool,
    pub checks: bool,
    pub wakes_at: Option<Time>,
    /// Longest datagram that was sent, and how many.
    pub longest: usize,
    pub transmits: u64,
    /// Whether the last datagram may be cut into pieces.
    pub may_fragment: bool,
    /// How many might be.
    pub fragments: u64,
}

/// The byte at this place of every stream.
pub fn content(at: u64) -> u8 {
    (at ^ (at >> 8) ^ (at >> 16)) as u8
}

impl Host {
    pub fn new(addr: &str, config: Config, rng: Rng) -> Host {
        Host {
            addr: addr.parse().expect("an address"),
            socket: Socket::new(config, rng),
            streams: BTreeMap::new(),
            reads: true,
            checks: true,
            wakes_at: None,
            longest: 0,
            transmits: 0,
            may_fragment: false,
            fragments: 0,
        }
    }

    pub fn write(&mut self, connection: ConnectionId, bytes: u64) {
        self.streams.get_mut(&connection).expect("a stream").written += bytes;
        self.socket.handle_write(connection, bytes as usize);
    }

    pub fn read(&mut self, connection: ConnectionId) {
        let unread = std::mem::take(&mut self.streams.get_mut(&connection).expect("a stream").unread);
        self.socket.handle_read(connection, unread);
    }

    pub fn poll_transmit(&mut self, now: Time) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let transmit = self.socket.poll_transmit(now, &mut out)?;
        if let Some(stream) = transmit.connection.and_then(|connection| self.streams.get(&connection)) {
            assert!(stream.acked <= transmit.payload.start || transmit.payload.is_empty(), "given away");
            assert!(transmit.payload.end <= stream.written, "never written");
        }
        out.extend(transmit.payload.clone().map(content));
        self.longest = self.longest.max(out.len());
        self.transmits += 1;
        self.may_fragment = transmit.may_fragment;
        self.fragments += u64::from(transmit.may_fragment);
        self.events();
        Some(out)
    }

    pub fn handle_timeout(&mut self, now: Time) {
        self.socket.handle_timeout(now);
        self.events();
    }

    pub fn handle_datagram(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
        let received = self.socket.handle_datagram(now, from, datagram);
        self.events();
        let Some(received) = received else { return };
        let stream = self.streams.get_mut(&received.connection).expect("an event before");
        let payload = &datagram[received.payload];
        match received.place {
            Place::Keep => {
                let before = stream.kept.insert(received.seq, (0, payload.to_vec()));
                assert!(before.is_none(), "kept twice");
                let kept = stream.kept.values().map(|(_, bytes)| bytes.len()).sum();
                stream.kept_bytes_max = stream.kept_bytes_max.max(kept);
            }
            Place::Next { kept } => {
                stream.deliver(payload, self.checks);
                for n in 1..=kept {
                    let seq = received.seq.wrapping_add(n as u16);
                    let (_, payload) = stream.kept.remove(&seq).expect("a kept packet");
                    stream.deliver(&payload, self.checks);
                }
            }
        }
        if self.reads {
            self.read(received.connection);
        }
    }

    pub fn events(&mut self) {
        while let Some(event) = self.socket.poll_event() {
            match event {
                Event::Accepted { connection, .. } => {
                    self.streams.insert(connection, Stream { is_connected: true, ..Stream::default() });
                }
                Event::Connected { connection } => self.stream(connection).is_connected = true,
                Event::Acked { connection, to } => {
                    let stream = self.stream(connection);
                    assert!(to >= stream.acked && to <= stream.written);
                    stream.acked = to;
                }
                Event::Ended { connection } => self.stream(connection).has_ended = true,
                Event::Closed { connection, reason } => self.stream(connection).closed = Some(reason),
            }
        }
    }

    fn stream(&mut self, connection: ConnectionId) -> &mut Stream {
        self.streams.get_mut(&connection).expect("a stream")
    }
}

impl Stream {
    fn deliver(&mut self, payload: &[u8], checks: bool) {
        let from = self.delivered;
        let is_right =
            !checks || payload.iter().enumerate().all(|(n, byte)| *byte == content(from + n as u64));
        assert!(is_right, "other bytes than were written, from {from} on");
        self.delivered += payload.len() as u64;
        self.unread += payload.len();
    }
}

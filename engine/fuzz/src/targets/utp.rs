//! Packets of uTP, and a socket that is given anything.

use crate::Target;
use crate::input::Input;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};
use swarm_core::utp::{
    Config, ConnectionId, Event, Header, KEPT_OVERHEAD, Kind, Packet, PacketError, Place, SACK_LEN_MAX,
    Socket, is_utp,
};

pub(super) const PACKET: Target = Target { name: "utp_packet", run: packet, seeds: packets, runs: 100_000 };
pub(super) const SOCKET: Target =
    Target { name: "utp_socket", run: socket, seeds: socket_seeds, runs: 50_000 };

/// What was read of a packet is written as a packet that says the same.
fn packet(input: &[u8]) {
    let parsed = Packet::parse(input);
    assert_eq!(is_utp(input), !matches!(parsed, Err(PacketError::Short | PacketError::Unknown)));
    let Ok(packet) = parsed else { return };
    assert!(input.ends_with(packet.payload));
    if packet.sack.len().is_multiple_of(4) && packet.sack.len() <= SACK_LEN_MAX {
        for padding in [0, 12, 300] {
            let mut again = Vec::new();
            packet.header.encode(packet.sack, padding, &mut again);
            again.extend_from_slice(packet.payload);
            assert_eq!(Packet::parse(&again), Ok(packet));
        }
    }
}

fn packets() -> Vec<Vec<u8>> {
    let header = |kind| Header {
        kind,
        connection_id: 7,
        timestamp: 1,
        timestamp_difference: 2,
        window: 3,
        seq: 4,
        ack: 5,
    };
    let of = |kind, sack: &[u8], padding| {
        let mut packet = Vec::new();
        header(kind).encode(sack, padding, &mut packet);
        packet.extend_from_slice(b"payload");
        packet
    };
    vec![of(Kind::Data, &[], 0), of(Kind::State, &[1, 0, 0, 128], 0), of(Kind::Syn, &[3; 8], 300)]
}

const CONNECTIONS_MAX: usize = 4;
const RECEIVE_CAPACITY: usize = 300_000;

/// A stream as its owner sees it.
#[derive(Default)]
struct Stream {
    written: u64,
    acked: u64,
    unread: usize,
    kept: BTreeMap<u16, usize>,
}

struct World {
    now: Time,
    socket: Socket,
    streams: BTreeMap<ConnectionId, Stream>,
    /// The last header that each peer was sent.
    last: [Header; 2],
}

const PEERS: [([u8; 4], u16); 2] = [([10, 0, 0, 1], 1), ([10, 0, 0, 2], 2)];

fn peer(n: usize) -> SocketAddr {
    PEERS[n].into()
}

fn socket(input: &[u8]) {
    let mut input = Input(input);
    let config = Config {
        connections_max: CONNECTIONS_MAX,
        receive_capacity_max: RECEIVE_CAPACITY,
        datagram_len_max: if input.bool() { usize::MAX } else { 600 },
        accepts: true,
        secret: [7; 16],
    };
    let nothing = Header {
        kind: Kind::State,
        connection_id: 40,
        timestamp: 0,
        timestamp_difference: 0,
        window: 0,
        seq: 0,
        ack: 6,
    };
    let mut world = World {
        now: Time::from_micros(5_000_000),
        socket: Socket::new(config, Rng::new(1)),
        streams: BTreeMap::new(),
        last: [nothing; 2],
    };
    while !input.is_empty() {
        world.step(&mut input);
        world.settle();
    }
}

impl World {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(12) {
            0..6 => self.packet(input),
            6 => {
                let datagram = input.chunk().to_vec();
                self.datagram(0, &datagram);
            }
            7 => self.pass(Duration::from_millis(input.of(&[1, 20, 30, 500, 1_000, 5_000, 70_000, 200_000]))),
            8 => {
                let to = peer(input.below(2));
                if let Some(connection) = self.socket.handle_connect(self.now, to) {
                    self.streams.insert(connection, Stream::default());
                }
            }
            9 => {
                let bytes = input.of(&[1, 500, 3_000, 100_000]);
                if let Some((connection, stream)) = self.any(input) {
                    stream.written += bytes;
                    self.socket.handle_write(connection, bytes as usize);
                }
            }
            10 => {
                if let Some((connection, stream)) = self.any(input) {
                    let bytes = std::mem::take(&mut stream.unread);
                    self.socket.handle_read(connection, bytes);
                }
            }
            _ => {
                let (now, aborts) = (self.now, input.bool());
                if let Some((connection, _)) = self.any(input) {
                    match aborts {
                        true => self.socket.handle_abort(now, connection),
                        false => self.socket.handle_close(now, connection),
                    }
                }
            }
        }
    }

    /// One of the streams that there ever were.
    fn any(&mut self, input: &mut Input<'_>) -> Option<(ConnectionId, &mut Stream)> {
        let nth = input.below(self.streams.len().clamp(1, 256));
        self.streams.iter_mut().rev().nth(nth).map(|(connection, stream)| (*connection, stream))
    }

    /// A packet whose numbers are near those that a peer would use.
    fn packet(&mut self, input: &mut Input<'_>) {
        const NEAR: [u16; 8] = [0, 1, 2, u16::MAX, 5, 100, 4_000, 0x8000];
        let from = input.below(2);
        let last = self.last[from];
        let header = Header {
            kind: input.of(&[Kind::Data, Kind::Data, Kind::State, Kind::Syn, Kind::Fin, Kind::Reset]),
            connection_id: last.connection_id.wrapping_add(input.of(&[0, 1, u16::MAX])),
            timestamp: (self.now.as_micros() as u32).wrapping_sub(input.number()),
            timestamp_difference: input.number(),
            window: input.of(&[1 << 20, 0, 1, 2_000, u32::MAX]),
            seq: last.ack.wrapping_add(1).wrapping_add(input.of(&NEAR)),
            ack: last.seq.wrapping_add(input.of(&NEAR)),
        };
        let sack: Vec<u8> = input.take(4 * input.clone().below(5)).to_vec();
        let sack = &sack[..sack.len() & !3];
        let mut datagram = Vec::new();
        header.encode(sack, 0, &mut datagram);
        datagram.resize(datagram.len() + input.of(&[0, 1, 100, 1_400]), b'x');
        self.datagram(from, &datagram);
    }

    fn datagram(&mut self, from: usize, datagram: &[u8]) {
        let received = self.socket.handle_datagram(self.now, peer(from), datagram);
        self.events();
        let Some(received) = received else { return };
        let stream = self.streams.get_mut(&received.connection).expect("an event before");
        let len = datagram[received.payload].len();
        match received.place {
            Place::Keep => assert_eq!(stream.kept.insert(received.seq, len), None, "kept twice"),
            Place::Next { kept } => {
                stream.unread += len;
                for n in 1..=kept {
                    let seq = received.seq.wrapping_add(n as u16);
                    stream.unread += stream.kept.remove(&seq).expect("a kept packet");
                }
            }
        }
        let kept: usize = stream.kept.values().map(|len| len + KEPT_OVERHEAD).sum();
        assert!(
            stream.unread + kept <= RECEIVE_CAPACITY + 2 * 1_500,
            "{} unread, {kept} kept",
            stream.unread
        );
    }

    /// Time passes, with each timer when it is due.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        let mut wakes = 0;
        while let Some(at) = self.socket.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.socket.handle_timeout(self.now);
            self.settle();
            wakes += 1;
            assert!(wakes < 20_000, "it spins");
        }
        self.now = until;
    }

    fn events(&mut self) {
        while let Some(event) = self.socket.poll_event() {
            match event {
                Event::Accepted { connection, .. } => {
                    assert!(self.streams.insert(connection, Stream::default()).is_none());
                }
                Event::Acked { connection, to } => {
                    let stream = self.streams.get_mut(&connection).expect("a stream");
                    assert!((stream.acked..=stream.written).contains(&to));
                    stream.acked = to;
                }
                _ => {}
            }
        }
    }

    /// Events, and what is sent.
    fn settle(&mut self) {
        self.events();
        assert!(self.socket.len() <= CONNECTIONS_MAX);
        let (mut out, mut sent) = (Vec::new(), 0);
        while let Some(transmit) = self.socket.poll_transmit(self.now, &mut out) {
            let header = Packet::parse(&out).expect("what we write").header;
            for (n, last) in self.last.iter_mut().enumerate() {
                if transmit.to == peer(n) && header.kind != Kind::Reset {
                    *last = header;
                }
            }
            if let Some(stream) = transmit.connection.and_then(|connection| self.streams.get(&connection)) {
                assert!(stream.acked <= transmit.payload.start || transmit.payload.is_empty(), "given away");
                assert!(transmit.payload.end <= stream.written, "never written");
            }
            out.clear();
            sent += 1;
            assert!(sent < 2_000, "it sends without end");
        }
        self.events();
    }
}

fn socket_seeds() -> Vec<Vec<u8>> {
    // From, kind, connection id, two timestamps, window, seq, ack, sack, length.
    let packet = |kind: u8, id: u8, seq: u8, ack: u8, len: u8| [0, 0, kind, id, 1, 1, 0, seq, ack, 0, len];
    // A SYN and the data that proves that its answer was received; more of it, with a gap; and what is written back.
    let mut accepts = vec![1];
    accepts.extend(packet(3, 0, 0, 0, 0));
    accepts.extend(packet(0, 1, 0, 3, 2));
    accepts.extend(packet(0, 1, 1, 3, 2));
    accepts.extend(packet(0, 1, 0, 3, 2));
    accepts.extend([9, 2, 0, 7, 1]);
    accepts.extend(packet(2, 1, 0, 0, 0));
    accepts.extend([10, 0, 11, 0, 0, 7, 6]);
    let mut dials = vec![0, 8, 0];
    dials.extend(packet(2, 0, 0, 0, 0));
    dials.extend([9, 3, 0, 7, 1]);
    dials.extend(packet(2, 1, 0, 0, 0));
    dials.extend(packet(0, 1, 0, 0, 3));
    dials.extend(packet(4, 1, 0, 0, 0));
    dials.extend([11, 1, 0, 7, 4]);
    vec![accepts, dials, vec![0, 8, 0, 9, 0, 0, 7, 7, 8, 1, 7, 6, 7, 6]]
}

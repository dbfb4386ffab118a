//! A peer whose packets the test makes by hand, and a host that takes them.

use super::{Host, config};
use std::net::SocketAddr;
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};
use swarm_core::utp::{ConnectionId, Header, Kind, Packet};

pub struct Puppet {
    pub now: Time,
    pub host: Host,
    pub addr: SocketAddr,
    /// The number that the puppet's packets are marked with.
    pub send_id: u16,
    pub seq: u16,
    pub ack: u16,
    pub window: u32,
}

/// A packet that the host has sent: its header, the bits of its selective ACK, and its payload's length.
#[derive(Clone, Debug)]
pub struct Seen {
    pub header: Header,
    pub sack: Vec<u8>,
    pub payload: usize,
    pub datagram: usize,
}

impl Puppet {
    pub fn stranger(seed: u64) -> Puppet {
        let host = Host::new("10.0.0.1:1000", config(10), Rng::new(seed));
        Puppet {
            now: Time::from_micros(5_000_000),
            host: Host { checks: false, ..host },
            addr: "10.0.0.9:9000".parse().expect("an address"),
            send_id: 0,
            seq: 0,
            ack: 0,
            window: 1 << 20,
        }
    }

    /// The host dials, and the puppet has answered.
    pub fn dialled(seed: u64) -> (Puppet, ConnectionId) {
        let mut puppet = Puppet::stranger(seed);
        let connection = puppet.host.socket.handle_connect(puppet.now, puppet.addr).expect("room");
        puppet.host.streams.insert(connection, super::Stream::default());
        let syn = puppet.sent().remove(0).header;
        assert_eq!(syn.kind, Kind::Syn);
        (puppet.send_id, puppet.seq, puppet.ack) = (syn.connection_id, 500, syn.seq);
        puppet.wait(20);
        puppet.state(&[]);
        assert!(puppet.host.streams[&connection].is_connected);
        (puppet, connection)
    }

    pub fn header(&self, kind: Kind) -> Header {
        Header {
            kind,
            connection_id: self.send_id,
            timestamp: self.now.as_micros() as u32,
            timestamp_difference: 20_000,
            window: self.window,
            seq: self.seq,
            ack: self.ack,
        }
    }

    pub fn wait(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    /// Has the host take a packet.
    pub fn send(&mut self, header: Header, sack: &[u8], payload: &[u8]) {
        let mut datagram = Vec::new();
        header.encode(sack, 0, &mut datagram);
        datagram.extend_from_slice(payload);
        self.host.handle_datagram(self.now, self.addr, &datagram);
    }

    pub fn state(&mut self, sack: &[u8]) {
        self.send(self.header(Kind::State), sack, &[]);
    }

    /// Sends the next packet of a stream of zeros.
    pub fn data(&mut self, payload: &[u8]) {
        self.send(self.header(Kind::Data), &[], payload);
        self.seq = self.seq.wrapping_add(1);
    }

    /// What the host wants to send now.
    pub fn sent(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        while let Some(datagram) = self.host.poll_transmit(self.now) {
            let packet = Packet::parse(&datagram).expect("a packet");
            let (header, sack, payload) = (packet.header, packet.sack.to_vec(), packet.payload.len());
            seen.push(Seen { header, sack, payload, datagram: datagram.len() });
        }
        seen
    }

    /// What the host sends within this time, by its clocks alone.
    pub fn sent_within(&mut self, time: Duration) -> Vec<Seen> {
        let until = self.now + time;
        let mut seen = self.sent();
        while let Some(at) = self.host.socket.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.host.handle_timeout(self.now);
            seen.extend(self.sent());
        }
        self.now = until;
        seen
    }
}

//! What those get who have no connection: the answer to a SYN, which keeps nothing, and a RESET now and then.

use super::packet::{Header, Kind};
use crate::time::{Duration, Time};
use sha1::{Digest, Sha1};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

/// So many RESETs are sent in a second, to all together.
pub const RESETS_PER_S: u64 = 50;
/// So many answers wait to be sent; further ones are dropped.
pub const ANSWERS_MAX: usize = 1024;
/// The first packet may be overtaken by so many of those after it.
const EARLY_MAX: u16 = 64;

/// How a packet of somebody without a connection relates to a SYN that we answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// The first packet after the SYN: ours have numbers from here.
    First {
        seq: u16,
    },
    /// The first packet is still to come.
    Early,
    Unknown,
}

/// Answers that wait to be sent, and the secret by which a SYN's answer is known again.
#[derive(Clone, Debug)]
pub(super) struct Strangers {
    secret: [u8; 16],
    answers: VecDeque<(SocketAddr, Header)>,
    resets_left: u64,
    resets_renewed_at: Time,
}

impl Strangers {
    pub(super) fn new(secret: [u8; 16]) -> Strangers {
        Strangers { secret, answers: VecDeque::new(), resets_left: 0, resets_renewed_at: Time::ZERO }
    }

    /// Our first number for this SYN: a keyed hash, plus the SYN's number, so that both are proven by whoever goes on.
    fn first_seq(&self, peer: SocketAddr, syn_id: u16, syn_seq: u16) -> u16 {
        let ip = match peer.ip().to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let hash = Sha1::new()
            .chain_update(self.secret)
            .chain_update(ip.octets())
            .chain_update(peer.port().to_be_bytes())
            .chain_update(syn_id.to_be_bytes())
            .finalize();
        u16::from_be_bytes([hash[0], hash[1]]).wrapping_add(syn_seq)
    }

    /// Answers a SYN.
    pub(super) fn on_syn(&mut self, now: Time, peer: SocketAddr, syn: &Header, window: u32) {
        let now = now.as_micros() as u32;
        let answer = Header {
            kind: Kind::State,
            connection_id: syn.connection_id,
            timestamp: now,
            timestamp_difference: now.wrapping_sub(syn.timestamp).max(1),
            window,
            seq: self.first_seq(peer, syn.connection_id, syn.seq),
            ack: syn.seq,
        };
        self.push(peer, answer);
    }

    /// Whether a packet follows an answer of ours. Most acknowledge the number before the answer's, which is that of the first
    /// packet to come; BEP 29 has them acknowledge the answer's own.
    pub(super) fn opening(&self, peer: SocketAddr, header: &Header) -> Opening {
        if header.kind != Kind::Data {
            return Opening::Unknown;
        }
        let syn_id = header.connection_id.wrapping_sub(1);
        let first = self.first_seq(peer, syn_id, header.seq.wrapping_sub(1));
        let seq = header.ack.wrapping_add(1);
        match first.wrapping_sub(seq) {
            0 | u16::MAX => Opening::First { seq },
            1..=EARLY_MAX => Opening::Early,
            _ => Opening::Unknown,
        }
    }

    /// Tells somebody that there is no such connection, if there is time for it.
    pub(super) fn reset(&mut self, now: Time, peer: SocketAddr, connection_id: u16, ack: u16) {
        if now >= self.resets_renewed_at {
            (self.resets_left, self.resets_renewed_at) = (RESETS_PER_S, now + Duration::from_secs(1));
        }
        if self.resets_left > 0 {
            self.resets_left -= 1;
            self.abort(now, peer, connection_id, ack);
        }
    }

    /// Tells a peer that its connection is over, however many strangers ask.
    pub(super) fn abort(&mut self, now: Time, peer: SocketAddr, connection_id: u16, ack: u16) {
        let (timestamp, kind) = (now.as_micros() as u32, Kind::Reset);
        let (timestamp_difference, window, seq) = (0, 0, 0);
        let answer = Header { kind, connection_id, timestamp, timestamp_difference, window, seq, ack };
        self.push(peer, answer);
    }

    fn push(&mut self, peer: SocketAddr, answer: Header) {
        if self.answers.len() < ANSWERS_MAX {
            self.answers.push_back((peer, answer));
        }
    }

    pub(super) fn poll(&mut self) -> Option<(SocketAddr, Header)> {
        self.answers.pop_front()
    }
}

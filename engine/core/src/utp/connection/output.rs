//! What is sent, and whether it may be.

use super::{Ack, Connection, State};
use crate::time::Time;
use crate::utp::congestion::times_passed;
use crate::utp::packet::{HEADER_LEN, Header, Kind, SACK_LEN_MAX};
use crate::utp::sent::Content;
use std::ops::Range;

/// A packet whose header has been written: this part of the stream follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::utp) struct Sending {
    pub(in crate::utp) payload: Range<u64>,
    /// It is longer than what passes now: routers may cut it into pieces.
    pub(in crate::utp) may_fragment: bool,
}

/// While the first packet is missing over there, no more than so many are sent after it: libutp keeps 1,024.
const AHEAD_OF_HOLE_MAX: usize = 1000;
/// Never are there more than so many on their way.
const SPAN_MAX: usize = 4096;
/// libtorrent takes a packet only if it would be within its window had each of those before it so many bytes.
const BYTES_PER_PACKET: u64 = 1100;
const SPAN_MIN: usize = 16;

/// A probe of the path's MTU is sent when so many packets of its payload's length wait behind it.
const PROBE_FOLLOWERS: u64 = 4;

impl Connection {
    /// The next packet, its header appended to `out`.
    pub(in crate::utp) fn poll_transmit(&mut self, now: Time, out: &mut Vec<u8>) -> Option<Sending> {
        match &mut self.state {
            State::Closed => None,
            State::Connecting { is_syn_due } => {
                if !std::mem::take(is_syn_due) {
                    return None;
                }
                self.retransmit_at = Some(now + self.round_trip.timeout());
                let (seq, id) = (self.start.seq, self.start.receive_id);
                Some(self.packet(
                    now,
                    Header { connection_id: id, ..self.header(now, Kind::Syn, seq) },
                    0,
                    out,
                ))
            }
            // A selective ACK has no place beside payload that fills the packet.
            State::Connected if self.ack == Ack::Now && self.received.has_gap() => {
                Some(self.state_packet(now, out))
            }
            State::Connected => {
                let sending = self.poll_numbered(now, out);
                if sending.is_none() && self.ack == Ack::Now {
                    return Some(self.state_packet(now, out));
                }
                sending
            }
        }
    }

    /// A packet with a number of its own: one that was lost, the next bytes, or the end.
    fn poll_numbered(&mut self, now: Time, out: &mut Vec<u8>) -> Option<Sending> {
        self.restart_after_idle(now);
        if let Some(len) = self.sent.next_lost() {
            if !self.may_be_in_flight(len) {
                return None;
            }
            let (seq, content) = self.sent.resend(now)?;
            return Some(self.numbered(now, seq, &content, 0, out));
        }
        let waiting = self.written_to - self.packed_to;
        if waiting > 0 {
            let len = self.next_len(now, waiting)?;
            if !self.may_be_in_flight(len) {
                return None;
            }
            let content = Content::Data(self.packed_to..self.packed_to + len);
            let probe = self.probe_for(now, len, waiting);
            if probe.is_some() {
                self.mtu.on_probe_sent();
            }
            self.is_forced = false;
            self.packed_to += len;
            let seq = self.sent.push(now, content.clone(), probe);
            let padding = padding(probe, len as usize);
            return Some(self.numbered(now, seq, &content, padding, out));
        }
        self.congestion.set_limiting(false);
        if self.over_at.is_some() && !self.is_fin_sent {
            self.is_fin_sent = true;
            let seq = self.sent.push(now, Content::Fin, None);
            return Some(self.numbered(now, seq, &Content::Fin, 0, out));
        }
        None
    }

    /// How long the packet of the next `len` bytes is made to probe the path's MTU, if it is.
    fn probe_for(&mut self, now: Time, len: u64, waiting: u64) -> Option<usize> {
        // What follows tells soon that it was lost. A message alone would have to wait for a timeout.
        let is_followed = waiting - len >= len * PROBE_FOLLOWERS;
        let size = self.mtu.probe(now).filter(|_| is_followed && !self.is_forced)?;
        // Both windows have to take all of it, and one more packet.
        let both = (size - HEADER_LEN) as u64 + len;
        let has_room = self.sent.in_flight() + both <= self.congestion.window()
            && self.sent.unacked() + both <= self.peer_window;
        has_room.then_some(size)
    }

    /// Whether the window has room for so many bytes. Whatever it says, one packet may be on its way.
    fn may_be_in_flight(&mut self, len: u64) -> bool {
        let may = self.sent.in_flight() == 0 || self.sent.in_flight() + len <= self.congestion.window();
        self.congestion.set_limiting(!may);
        may
    }

    /// How many bytes the next packet has, if the peer has room for it.
    fn next_len(&mut self, now: Time, waiting: u64) -> Option<u64> {
        let by_window = usize::try_from(self.peer_window_max / BYTES_PER_PACKET).unwrap_or(SPAN_MAX);
        let most = if self.sent.has_hole() { AHEAD_OF_HOLE_MAX } else { SPAN_MAX };
        if self.sent.span() >= by_window.max(SPAN_MIN).min(most) {
            self.congestion.set_limiting(false);
            return None;
        }
        let len = waiting.min(self.packet_len_max());
        let room = self.peer_window.saturating_sub(self.sent.unacked());
        if len <= room {
            return Some(len);
        }
        self.congestion.set_limiting(false);
        if !self.sent.is_empty() {
            return None;
        }
        // A window smaller than a packet is used when nothing else is under way; one without room is tried now and then.
        if room > 0 {
            return Some(room);
        }
        if self.is_forced {
            return Some(len);
        }
        if self.force_at.is_none() {
            self.force_at = Some(now + self.force_after);
        }
        None
    }

    /// After a pause, what was known of the path is old.
    fn restart_after_idle(&mut self, now: Time) {
        if self.sent.is_empty() && self.written_to > self.packed_to {
            let timeouts = times_passed(now, self.data_sent_at, self.round_trip.timeout());
            if timeouts > 0 {
                self.congestion.on_idle(timeouts);
                self.data_sent_at = now;
            }
        }
    }

    fn numbered(
        &mut self,
        now: Time,
        seq: u16,
        content: &Content,
        padding: usize,
        out: &mut Vec<u8>,
    ) -> Sending {
        let (kind, payload) = match content {
            Content::Data(range) => (Kind::Data, range.clone()),
            Content::Fin => (Kind::Fin, 0..0),
        };
        self.data_sent_at = now;
        if self.retransmit_at.is_none() {
            self.retransmit_at = Some(now + self.round_trip.timeout());
        }
        self.packet(now, self.header(now, kind, seq), padding, out);
        let may_fragment = content.len() > self.packet_len_max();
        Sending { payload, may_fragment }
    }

    fn state_packet(&mut self, now: Time, out: &mut Vec<u8>) -> Sending {
        let header = self.header(now, Kind::State, self.sent.next_seq());
        let mut sack = Vec::new();
        self.received.write_sack(SACK_LEN_MAX, &mut sack);
        header.encode(&sack, 0, out);
        self.on_told(now);
        Sending { payload: 0..0, may_fragment: false }
    }

    fn header(&self, now: Time, kind: Kind, seq: u16) -> Header {
        Header {
            kind,
            connection_id: self.start.send_id,
            timestamp: now.as_micros() as u32,
            timestamp_difference: self.timestamp_difference,
            window: u32::try_from(self.received.window()).unwrap_or(u32::MAX),
            seq,
            ack: self.received.ack(),
        }
    }

    fn packet(&mut self, now: Time, header: Header, padding: usize, out: &mut Vec<u8>) -> Sending {
        header.encode(&[], padding, out);
        self.on_told(now);
        Sending { payload: 0..0, may_fragment: false }
    }

    /// The peer is told what has come, and how much room there is.
    fn on_told(&mut self, now: Time) {
        (self.ack, self.unacked_arrivals, self.sent_at) = (Ack::None, 0, now);
        self.told_window = self.received.window();
    }
}

/// How many bytes make a packet of `len` bytes of payload as long as a probe.
fn padding(probe: Option<usize>, len: usize) -> usize {
    probe.map_or(0, |size| size.saturating_sub(HEADER_LEN + len))
}

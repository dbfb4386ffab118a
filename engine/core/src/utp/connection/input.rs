//! What packets say.

use super::{ACK_DELAY, Ack, CloseReason, Connection, State};
use crate::time::{Duration, Time};
use crate::utp::congestion::Acked;
use crate::utp::packet::{Header, Kind, Packet};
use crate::utp::received::{Arrival, Place, Received};
use crate::utp::sent::Outcome;

/// So many acknowledgements of the same packet mean that the next one is lost (BEP 29).
const DUPLICATE_ACKS: u32 = 3;
/// A RESET names a packet that we sent lately.
const RESET_BEHIND_MAX: u16 = 4096;
/// Every second packet is acknowledged at once.
const ARRIVALS_PER_ACK: u32 = 2;
/// What µTorrent says while it has measured nothing.
const DIFFERENCE_UNKNOWN: u32 = i32::MAX as u32;

impl Connection {
    /// Takes a packet, and tells where its payload belongs, if it is wanted.
    pub(in crate::utp) fn handle_packet(&mut self, now: Time, packet: &Packet<'_>) -> Option<Place> {
        let header = &packet.header;
        match (self.state, header.kind) {
            (State::Closed, _) | (_, Kind::Syn) => return None,
            (_, Kind::Reset) => {
                self.handle_reset(header);
                return None;
            }
            (State::Connecting { .. }, Kind::State | Kind::Data) if header.ack == self.start.seq => {
                self.on_connected(header);
            }
            (State::Connecting { .. }, _) => return None,
            (State::Connected, _) => {}
        }
        // Whoever acknowledges what was never sent does not speak of this connection.
        let acknowledged = self.sent.acknowledges(header.ack).ok()?;
        (self.heard_at, self.silent_timeouts) = (now, 0);
        // 0 means that nothing has been measured.
        self.timestamp_difference = (now.as_micros() as u32).wrapping_sub(header.timestamp).max(1);
        if let Some(count) = acknowledged {
            self.handle_ack(now, packet, count);
        }
        match header.kind {
            Kind::Data => self.handle_numbered(now, header.seq, Some(packet.payload.len())),
            Kind::Fin => self.handle_numbered(now, header.seq, None),
            _ => None,
        }
    }

    /// The answer to our SYN has come. The number of a STATE is that of the first packet that is to follow.
    fn on_connected(&mut self, header: &Header) {
        self.state = State::Connected;
        self.sent = crate::utp::sent::Sent::new(self.start.seq.wrapping_add(1));
        self.received = Received::new(header.seq, self.start.receive_capacity_max);
        self.round_trip.progress();
        self.retransmit_at = None;
        self.news.has_connected = true;
    }

    fn handle_reset(&mut self, header: &Header) {
        if self.sent.next_seq().wrapping_sub(header.ack) > RESET_BEHIND_MAX {
            return;
        }
        let is_new = matches!(self.state, State::Connecting { .. });
        self.close(if is_new { CloseReason::Refused } else { CloseReason::Reset });
    }

    fn handle_ack(&mut self, now: Time, packet: &Packet<'_>, count: usize) {
        let header = &packet.header;
        let least = self.round_trip.least().unwrap_or(Duration::ZERO);
        let mut outcome = self.sent.on_acked(now, least, count, packet.sack);
        let is_same_window = u64::from(header.window) == self.peer_window;
        self.on_peer_window(now, header.window);
        if count > 0 || self.sent.is_empty() {
            self.duplicate_acks = 0;
        } else if header.kind == Kind::State && is_same_window && outcome.packets == 0 {
            // Only of STATEs: whoever sends data acknowledges again what it did before (bittorrent/libutp#87); and a STATE
            // that tells another window is there for that.
            self.duplicate_acks += 1;
            if self.duplicate_acks == DUPLICATE_ACKS {
                let lost = self.sent.on_duplicate_acks();
                outcome.is_new_loss |= lost.is_new_loss;
                outcome.probe = outcome.probe.or(lost.probe);
            }
        }
        self.on_outcome(now, &outcome, header.timestamp_difference);
    }

    fn on_peer_window(&mut self, now: Time, window: u32) {
        let had_room = self.peer_window > 0;
        self.peer_window = u64::from(window);
        self.peer_window_max = self.peer_window_max.max(self.peer_window);
        if window == 0 || had_room {
            return;
        }
        (self.force_at, self.force_after) = (None, self.round_trip.timeout());
        // What it had no room for goes again at once; but not more often than it would by the clock.
        if self.round_trip.doublings() > 0 {
            self.round_trip.progress();
            self.sent.on_timeout();
            self.retransmit_at = (!self.sent.is_empty()).then(|| now + self.round_trip.timeout());
        }
    }

    fn on_outcome(&mut self, now: Time, outcome: &Outcome, difference: u32) {
        if let Some(round_trip) = outcome.round_trip {
            self.round_trip.add(round_trip);
            if difference != 0 && difference != DIFFERENCE_UNKNOWN {
                self.queue.add(now, difference, round_trip);
            }
        }
        if let Some((size, has_arrived)) = outcome.probe {
            self.mtu.on_probe_result(now, size, has_arrived);
        }
        let packet = self.packet_len_max();
        if outcome.bytes > 0 {
            let (bytes, queue, sent_at) =
                (outcome.bytes, self.queue.current(), outcome.sent_at.unwrap_or_default());
            self.congestion.on_acked(now, Acked { bytes, queue, packet, sent_at });
            self.news.has_acked = true;
        }
        if outcome.is_new_loss {
            self.congestion.on_loss(now, packet, self.round_trip.smoothed().unwrap_or_default());
        }
        if outcome.packets > 0 {
            self.round_trip.progress();
            self.retransmit_at = (!self.sent.is_empty()).then(|| now + self.round_trip.timeout());
            self.hasten_end(now);
        }
    }

    /// A packet with a number of its own: of so many bytes, or the end.
    fn handle_numbered(&mut self, now: Time, seq: u16, len: Option<usize>) -> Option<Place> {
        let was_ended = self.received.is_ended();
        let Arrival::Taken(place) = self.received.handle(seq, len) else {
            // The acknowledgement was lost, perhaps, and the peer waits for it.
            self.ack = Ack::Now;
            return None;
        };
        self.unacked_arrivals += 1;
        if self.received.is_ended() && !was_ended {
            self.news.has_ended = true;
            self.ack = Ack::Now;
            self.hasten_end(now);
        } else if place != (Place::Next { kept: 0 })
            || self.received.has_gap()
            || self.unacked_arrivals >= ARRIVALS_PER_ACK
        {
            self.ack = Ack::Now;
        } else if self.ack == Ack::None {
            self.ack = Ack::At(now + ACK_DELAY);
        }
        if self.over_at.is_some() {
            self.received.on_read(usize::MAX);
            return None;
        }
        Some(place)
    }
}

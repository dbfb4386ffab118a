//! What has been sent and is not acknowledged: which of it is lost, and how much is in flight.
//!
//! Every transmission has its place in one order. A packet is lost when [`REORDERING`] transmissions after its last one have been
//! acknowledged; this goes for what was sent again, too. Transmissions are judged in that order and once each, so an
//! acknowledgement costs what it acknowledges, and no more.

use super::packet::HEADER_LEN;
use crate::time::{Duration, Time};
use std::collections::VecDeque;
use std::ops::Range;

/// So many later packets have to arrive before one that has not is lost.
pub const REORDERING: u64 = 3;

/// What a packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// These bytes of the stream.
    Data(Range<u64>),
    /// The end of the stream.
    Fin,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        match self {
            Content::Data(range) => range.end - range.start,
            Content::Fin => 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    InFlight,
    Lost,
    /// By a selective ACK.
    Acked,
}

#[derive(Clone, Debug)]
struct Packet {
    content: Content,
    state: State,
    /// The place of its last transmission.
    order: u64,
    sent_at: Time,
    is_resent: bool,
    /// The size of the datagram, if that was a probe of the path's MTU.
    probe: Option<usize>,
}

impl Packet {
    /// How many bytes of the window it takes: of a probe all that follows the header, padding as well.
    fn len_in_flight(&self) -> u64 {
        self.probe.map_or(self.content.len(), |size| size.saturating_sub(HEADER_LEN) as u64)
    }
}

/// What an acknowledgement has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Bytes that are newly acknowledged.
    pub(super) bytes: u64,
    /// Packets that are, ends of the stream among them.
    pub(super) packets: usize,
    /// The shortest round trip of those that were sent once.
    pub(super) round_trip: Option<Duration>,
    /// When the latest of them was sent.
    pub(super) sent_at: Option<Time>,
    /// Something is lost that was sent after the last loss was noticed.
    pub(super) is_new_loss: bool,
    /// A probe of this size has arrived, or not.
    pub(super) probe: Option<(usize, bool)>,
}

/// Sent packets, by their numbers.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// Never falls and does not wrap; its low half is the sequence number of the first packet.
    first: u64,
    packets: VecDeque<Packet>,
    /// Transmissions in their order, those that are over among them.
    transmissions: VecDeque<(u64, u64)>,
    /// Packets to send again, those that have arrived meanwhile among them.
    lost: VecDeque<u64>,
    next_order: u64,
    /// The latest transmission that has arrived.
    latest_acked: Option<u64>,
    /// Losses of transmissions before this one are the same congestion.
    recovery_ends: u64,
    in_flight: u64,
    unacked: u64,
    acked_to: u64,
    fin_acked: bool,
}

impl Sent {
    /// The first packet will have this number.
    pub(super) fn new(first: u16) -> Sent {
        Sent {
            first: u64::from(first) + (1 << 16),
            packets: VecDeque::new(),
            transmissions: VecDeque::new(),
            lost: VecDeque::new(),
            next_order: 0,
            latest_acked: None,
            recovery_ends: 0,
            in_flight: 0,
            unacked: 0,
            acked_to: 0,
            fin_acked: false,
        }
    }

    /// The number that the next packet gets.
    pub(super) fn next_seq(&self) -> u16 {
        (self.first + self.packets.len() as u64) as u16
    }

    /// Packets from the first that is not acknowledged to the last.
    pub(super) fn span(&self) -> usize {
        self.packets.len()
    }

    /// Bytes that are neither acknowledged nor lost.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Bytes that are not acknowledged.
    pub(super) fn unacked(&self) -> u64 {
        self.unacked
    }

    /// Up to where the stream is acknowledged.
    pub(super) fn acked_to(&self) -> u64 {
        self.acked_to
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    pub(super) fn is_fin_acked(&self) -> bool {
        self.fin_acked
    }

    /// Whether the first packet is lost, or was and is on its way again.
    pub(super) fn has_hole(&self) -> bool {
        self.packets.front().is_some_and(|packet| packet.is_resent || packet.state == State::Lost)
    }

    /// Notes a packet that is sent for the first time; returns its number.
    pub(super) fn push(&mut self, now: Time, content: Content, probe: Option<usize>) -> u16 {
        let (seq, index) = (self.next_seq(), self.first + self.packets.len() as u64);
        self.unacked += content.len();
        let order = self.note_transmission(index);
        let packet = Packet { content, state: State::InFlight, order, sent_at: now, is_resent: false, probe };
        self.in_flight += packet.len_in_flight();
        self.packets.push_back(packet);
        seq
    }

    fn note_transmission(&mut self, index: u64) -> u64 {
        let order = self.next_order;
        self.next_order += 1;
        self.transmissions.push_back((order, index));
        order
    }

    fn packet(&mut self, index: u64) -> Option<&mut Packet> {
        self.packets.get_mut(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// How many bytes the next packet to be sent again has, if there is one.
    pub(super) fn next_lost(&mut self) -> Option<u64> {
        while let Some(&index) = self.lost.front() {
            match self.packet(index) {
                Some(packet) if packet.state == State::Lost => return Some(packet.content.len()),
                _ => self.lost.pop_front(),
            };
        }
        None
    }

    /// Notes that this packet is sent again: its number and its content.
    pub(super) fn resend(&mut self, now: Time) -> Option<(u16, Content)> {
        self.next_lost()?;
        let index = self.lost.pop_front()?;
        let order = self.note_transmission(index);
        let packet = self.packet(index)?;
        (packet.state, packet.order, packet.sent_at, packet.is_resent) = (State::InFlight, order, now, true);
        let content = packet.content.clone();
        self.in_flight += content.len();
        Some((index as u16, content))
    }

    /// How many packets a number acknowledges; nothing if it is older than what has been acknowledged. `Err` if nothing was ever
    /// sent with such a number.
    pub(super) fn acknowledges(&self, ack: u16) -> Result<Option<usize>, NeverSent> {
        let ahead = ack.wrapping_sub((self.first as u16).wrapping_sub(1));
        let behind = ahead.wrapping_neg();
        if usize::from(ahead) <= self.packets.len() {
            Ok(Some(usize::from(ahead)))
        } else if behind <= SPAN_BEHIND {
            Ok(None)
        } else {
            Err(NeverSent)
        }
    }

    /// The first `count` packets have arrived, and those that the bits of a selective ACK name. `least` is the shortest round
    /// trip so far.
    pub(super) fn on_acked(&mut self, now: Time, least: Duration, count: usize, sack: &[u8]) -> Outcome {
        let mut outcome = Outcome::default();
        // The bits begin two after the acknowledged number.
        let base = self.first + count as u64 + 1;
        for _ in 0..count {
            self.arrived(now, least, self.first, &mut outcome);
            self.forget_first();
        }
        let known = self.packets.len().saturating_sub(1);
        for (at, byte) in sack.iter().enumerate().take(known.div_ceil(8)) {
            for bit in (0..8).filter(|bit| byte & (1 << bit) != 0) {
                self.arrived(now, least, base + (at * 8 + bit) as u64, &mut outcome);
            }
        }
        self.judge(&mut outcome);
        outcome
    }

    fn forget_first(&mut self) {
        if let Some(packet) = self.packets.pop_front() {
            self.first += 1;
            match packet.content {
                Content::Data(range) => self.acked_to = range.end,
                Content::Fin => self.fin_acked = true,
            }
        }
    }

    fn arrived(&mut self, now: Time, least: Duration, index: u64, outcome: &mut Outcome) {
        let Some(packet) = self.packet(index).filter(|packet| packet.state != State::Acked) else { return };
        let was_in_flight = packet.state == State::InFlight;
        packet.state = State::Acked;
        let in_flight = packet.len_in_flight();
        let (len, order, is_resent, probe) =
            (packet.content.len(), packet.order, packet.is_resent, packet.probe.take());
        let (took, sent_at) = (now.since(packet.sent_at), packet.sent_at);
        if was_in_flight {
            self.in_flight -= in_flight;
        }
        self.unacked -= len;
        outcome.bytes += len;
        outcome.packets += 1;
        // Of one that was sent again, nobody knows which transmission has arrived; not the last one, if that would have been
        // quicker than any other.
        if !is_resent {
            outcome.round_trip = Some(outcome.round_trip.map_or(took, |known| known.min(took)));
            outcome.sent_at = outcome.sent_at.max(Some(sent_at));
        }
        if !is_resent || took >= least {
            self.latest_acked = self.latest_acked.max(Some(order));
        }
        if let Some(size) = probe {
            outcome.probe = Some((size, true));
        }
    }

    /// Judges the transmissions that enough later ones have overtaken.
    fn judge(&mut self, outcome: &mut Outcome) {
        let Some(latest) = self.latest_acked else { return };
        while let Some(&(order, index)) = self.transmissions.front() {
            let is_over = self
                .packet(index)
                .is_none_or(|packet| packet.order != order || packet.state != State::InFlight);
            if !is_over {
                if order + REORDERING > latest {
                    break;
                }
                self.lose(index, outcome);
            }
            self.transmissions.pop_front();
        }
    }

    fn lose(&mut self, index: u64, outcome: &mut Outcome) {
        let Some(packet) = self.packet(index).filter(|packet| packet.state == State::InFlight) else {
            return;
        };
        packet.state = State::Lost;
        let (len, order, probe) = (packet.len_in_flight(), packet.order, packet.probe.take());
        self.in_flight -= len;
        self.lost.push_back(index);
        if let Some(size) = probe {
            outcome.probe = Some((size, false));
        } else if order >= self.recovery_ends {
            outcome.is_new_loss = true;
            self.recovery_ends = self.next_order;
        }
    }

    /// The first packet is lost, as three acknowledgements of the one before say; but once only.
    pub(super) fn on_duplicate_acks(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        if self.packets.front().is_some_and(|packet| !packet.is_resent) {
            self.lose(self.first, &mut outcome);
        }
        outcome
    }

    /// Nothing has been acknowledged for too long: all that is in flight counts as lost. A probe that was alone in flight says
    /// nothing about congestion.
    pub(super) fn on_timeout(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        self.transmissions.clear();
        self.lost.clear();
        self.recovery_ends = self.next_order;
        for (at, packet) in self.packets.iter_mut().enumerate() {
            if packet.state == State::Acked {
                continue;
            }
            if packet.state == State::InFlight {
                outcome.is_new_loss |= packet.probe.is_none();
                if let Some(size) = packet.probe.take() {
                    outcome.probe = Some((size, false));
                }
            }
            packet.state = State::Lost;
            self.lost.push_back(self.first + at as u64);
        }
        self.in_flight = 0;
        outcome
    }
}

/// Acknowledgements so far behind may still be under way.
const SPAN_BEHIND: u16 = 8192;

/// Somebody acknowledges what was never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NeverSent;

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u16 = 65_533;
    const LEAST: Duration = Duration::from_millis(30);

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1000)
    }

    /// So many packets of 10 bytes, sent at 0 ms.
    fn sent(count: u64) -> Sent {
        let mut sent = Sent::new(FIRST);
        for i in 0..count {
            let seq = sent.push(at(0), Content::Data(i * 10..i * 10 + 10), None);
            assert_eq!(seq, FIRST.wrapping_add(i as u16), "numbers wrap");
        }
        sent
    }

    fn resent(sent: &mut Sent) -> Vec<u16> {
        std::iter::from_fn(|| sent.resend(at(50))).map(|(seq, _)| seq.wrapping_sub(FIRST)).collect()
    }

    /// The bits of these packets' numbers, when `acked` have arrived without a gap.
    fn sack(acked: usize, arrived: &[usize]) -> Vec<u8> {
        let mut bits = vec![0; 32];
        arrived.iter().map(|packet| packet - acked - 1).for_each(|bit| bits[bit / 8] |= 1 << (bit % 8));
        bits
    }

    #[test]
    fn an_acknowledgement_counts_once() {
        let mut sent = sent(6);
        assert_eq!(sent.acknowledges(FIRST.wrapping_add(2)), Ok(Some(3)));
        let outcome = sent.on_acked(at(30), LEAST, 3, &[]);
        assert_eq!((outcome.bytes, outcome.round_trip), (30, Some(Duration::from_millis(30))));
        assert_eq!((sent.in_flight(), sent.acked_to(), sent.span()), (30, 30, 3));
        assert_eq!(sent.acknowledges(FIRST.wrapping_add(2)), Ok(Some(0)));
        assert_eq!(sent.acknowledges(FIRST.wrapping_add(1)), Ok(None), "an old one");
        assert_eq!(sent.acknowledges(FIRST.wrapping_add(6)), Err(NeverSent));
        assert_eq!(sent.acknowledges(FIRST.wrapping_add(0x4000)), Err(NeverSent));
        let bits = sack(0, &[1, 2]);
        assert_eq!(sent.on_acked(at(40), LEAST, 0, &bits).bytes, 20);
        assert_eq!(sent.on_acked(at(50), LEAST, 0, &bits), Outcome::default(), "the same again");
        assert_eq!(sent.in_flight(), 10);
    }

    #[test]
    fn three_later_packets_make_one_lost() {
        let mut sent = sent(10);
        assert!(!sent.on_acked(at(30), LEAST, 1, &sack(1, &[2, 3])).is_new_loss);
        assert_eq!(resent(&mut sent), []);
        assert!(sent.on_acked(at(30), LEAST, 1 - 1, &sack(1, &[2, 3, 4])).is_new_loss);
        assert_eq!(resent(&mut sent), [1]);
        // In the same round trip, another is no new congestion.
        assert!(!sent.on_acked(at(31), LEAST, 0, &sack(1, &[2, 3, 4, 6, 7, 8, 9])).is_new_loss);
        assert_eq!(resent(&mut sent), [5]);
        assert_eq!(sent.on_acked(at(80), LEAST, 9, &[]).bytes, 20);
        assert!(sent.is_empty() && sent.in_flight() == 0 && sent.unacked() == 0);
    }

    #[test]
    fn what_was_sent_again_can_be_lost_again() {
        let mut sent = sent(5);
        sent.on_acked(at(30), LEAST, 0, &sack(0, &[1, 2, 3, 4]));
        assert_eq!(resent(&mut sent), [0]);
        for i in 5..10 {
            sent.push(at(60), Content::Data(i * 10..i * 10 + 10), None);
        }
        let outcome = sent.on_acked(at(90), LEAST, 0, &sack(0, &[5, 6, 7, 8, 9]));
        assert!(outcome.is_new_loss);
        assert_eq!(resent(&mut sent), [0]);
    }

    #[test]
    fn bits_of_what_was_never_sent_say_nothing() {
        let mut sent = sent(3);
        let outcome = sent.on_acked(at(30), LEAST, 0, &[0xff; 255]);
        assert_eq!((outcome.packets, sent.in_flight()), (2, 10));
        assert_eq!(Sent::new(1).on_acked(at(30), LEAST, 0, &[0xff; 255]), Outcome::default());
    }

    #[test]
    fn duplicate_acks_lose_the_first_packet_once() {
        let mut sent = sent(5);
        assert!(sent.on_duplicate_acks().is_new_loss);
        assert_eq!(resent(&mut sent), [0]);
        assert_eq!(sent.on_duplicate_acks(), Outcome::default());
    }

    #[test]
    fn after_a_timeout_all_goes_again_but_what_has_arrived() {
        let mut sent = sent(5);
        sent.on_acked(at(30), LEAST, 1, &sack(1, &[2, 3]));
        assert!(sent.on_timeout().is_new_loss);
        assert_eq!(sent.in_flight(), 0);
        assert_eq!(resent(&mut sent), [1, 4]);
        assert_eq!(sent.in_flight(), 20);
    }

    #[test]
    fn a_lost_probe_is_no_congestion() {
        let mut sent = Sent::new(FIRST);
        sent.push(at(0), Content::Data(0..10), Some(1472));
        for i in 1..5 {
            sent.push(at(0), Content::Data(i * 10..i * 10 + 10), None);
        }
        let outcome = sent.on_acked(at(30), LEAST, 0, &sack(0, &[1, 2, 3, 4]));
        assert_eq!((outcome.is_new_loss, outcome.probe), (false, Some((1472, false))));
        assert_eq!(resent(&mut sent), [0]);
    }

    /// A peer that acknowledges every second packet, and one more in each datagram: what is kept to judge transmissions stays
    /// small, and so does the work.
    #[test]
    fn what_is_kept_is_bounded_by_what_is_in_flight() {
        let mut sent = sent(0);
        let mut next = 0;
        for round in 0..10_000u64 {
            while sent.span() < 300 {
                sent.push(at(round), Content::Data(next * 10..next * 10 + 10), None);
                next += 1;
            }
            let bits: Vec<u8> = vec![if round % 2 == 0 { 0x55 } else { 0xaa }; 40];
            sent.on_acked(at(round), LEAST, (round % 3 == 0).into(), &bits);
            while sent.resend(at(round)).is_some() {}
            assert!(sent.transmissions.len() < 1000, "{}", sent.transmissions.len());
            assert!(sent.lost.len() < 1000);
        }
    }
}

//! One connection: what its packets say, what it sends, and when.
//!
//! `input` takes packets, `output` makes them; here are its life and its clocks.

mod input;
mod output;

use super::congestion::Congestion;
use super::delay::QueueDelay;
use super::mtu::PathMtu;
use super::packet::HEADER_LEN;
use super::received::Received;
use super::rtt::{RoundTrip, TIMEOUT_MIN};
use super::sent::Sent;
use crate::time::{Duration, Time};
use std::net::SocketAddr;

/// So long an acknowledgement waits for a second packet, or for something to send.
pub const ACK_DELAY: Duration = Duration::from_millis(1);
/// So often something is sent, for the mappings of NATs.
pub const KEEP_ALIVE: Duration = Duration::from_secs(29);
/// A peer that says nothing for so long is gone.
pub const SILENCE_MAX: Duration = Duration::from_secs(150);
/// So many time-outs in a row without a word end a connection.
pub const TIMEOUTS_MAX: u32 = 6;
/// So many SYNs are sent.
pub const SYNS_MAX: u32 = 3;
/// So many time-outs in a row end a connection, whatever else the peer says, unless it has no room.
pub const TIMEOUTS_WITHOUT_PROGRESS_MAX: u32 = 10;
/// So long a closed connection goes on delivering what was written.
pub const LINGER_MAX: Duration = Duration::from_secs(60);
/// So long a closed connection waits for the end of the other direction.
pub const FIN_WAIT: Duration = Duration::from_secs(5);

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// It was closed by its owner, and all has been delivered.
    Done,
    /// The peer does not want it.
    Refused,
    /// The peer knows nothing of it, any more.
    Reset,
    /// The peer has fallen silent.
    TimedOut,
}

/// What the owner has to learn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    pub(super) has_connected: bool,
    pub(super) has_acked: bool,
    pub(super) has_ended: bool,
    pub(super) closed: Option<CloseReason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waits for the answer to its SYN, which has to be sent (again).
    Connecting {
        is_syn_due: bool,
    },
    Connected,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ack {
    None,
    At(Time),
    Now,
}

/// How a connection begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub(super) peer: SocketAddr,
    /// What packets to us are marked with.
    pub(super) receive_id: u16,
    /// What ours are marked with.
    pub(super) send_id: u16,
    /// The number of our first packet.
    pub(super) seq: u16,
    pub(super) receive_capacity_max: usize,
    pub(super) datagram_len_max: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Connection {
    start: Start,
    state: State,
    news: News,
    sent: Sent,
    received: Received,
    round_trip: RoundTrip,
    queue: QueueDelay,
    congestion: Congestion,
    mtu: PathMtu,
    /// The stream up to here waits with the caller, and up to there it is in packets.
    written_to: u64,
    packed_to: u64,
    peer_window: u64,
    peer_window_max: u64,
    duplicate_acks: u32,
    ack: Ack,
    unacked_arrivals: u32,
    /// The window that the peer was told last.
    told_window: usize,
    timestamp_difference: u32,
    retransmit_at: Option<Time>,
    /// While the peer has no room: when one packet goes nevertheless, and how long until the next.
    force_at: Option<Time>,
    force_after: Duration,
    is_forced: bool,
    heard_at: Time,
    sent_at: Time,
    data_sent_at: Time,
    silent_timeouts: u32,
    /// Closed by its owner: when it is over at the latest.
    over_at: Option<Time>,
    is_fin_sent: bool,
}

impl Connection {
    /// We dial: a SYN is to be sent.
    pub(super) fn connect(now: Time, start: Start) -> Connection {
        Connection::new(now, start, State::Connecting { is_syn_due: true }, 0)
    }

    /// The first valid packet of somebody who has dialled us is about to be handled; `next` is its number.
    pub(super) fn accept(now: Time, start: Start, next: u16) -> Connection {
        Connection::new(now, start, State::Connected, next)
    }

    fn new(now: Time, start: Start, state: State, next: u16) -> Connection {
        // Datagrams that every path takes, and those that Ethernet does, without the headers below.
        let (base, limit) = if start.peer.is_ipv4() { (548, 1472) } else { (1232, 1452) };
        Connection {
            start,
            state,
            news: News::default(),
            sent: Sent::new(start.seq),
            received: Received::new(next, start.receive_capacity_max),
            round_trip: RoundTrip::default(),
            queue: QueueDelay::default(),
            congestion: Congestion::new(),
            mtu: PathMtu::new(base.min(start.datagram_len_max), limit.min(start.datagram_len_max)),
            written_to: 0,
            packed_to: 0,
            peer_window: 0,
            peer_window_max: 0,
            duplicate_acks: 0,
            ack: Ack::None,
            unacked_arrivals: 0,
            told_window: 0,
            timestamp_difference: 0,
            retransmit_at: None,
            force_at: None,
            force_after: TIMEOUT_MIN,
            is_forced: false,
            heard_at: now,
            sent_at: now,
            data_sent_at: now,
            silent_timeouts: 0,
            over_at: None,
            is_fin_sent: false,
        }
    }

    pub(super) fn start(&self) -> &Start {
        &self.start
    }

    pub(super) fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// Up to where the peer has the stream.
    pub(super) fn acked_to(&self) -> u64 {
        self.sent.acked_to()
    }

    /// The number of the last packet of the peer's that has come in order.
    pub(super) fn received_seq(&self) -> u16 {
        self.received.ack()
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip.smoothed()
    }

    pub(super) fn queue_delay(&self) -> Option<Duration> {
        self.queue.current()
    }

    pub(super) fn window(&self) -> u64 {
        self.congestion.window()
    }

    pub(super) fn datagram_len_max(&self) -> usize {
        self.mtu.proven()
    }

    fn packet_len_max(&self) -> u64 {
        (self.mtu.proven() - HEADER_LEN) as u64
    }

    /// Its owner has so many more bytes to be sent.
    pub(super) fn handle_write(&mut self, bytes: u64) {
        if self.over_at.is_none() {
            self.written_to += bytes;
        }
    }

    /// Its owner has taken so many bytes.
    pub(super) fn handle_read(&mut self, bytes: usize) {
        self.received.on_read(bytes);
        let (window, told) = (self.received.window(), self.told_window);
        // Whoever waits for room waits for this packet.
        if self.state == State::Connected && window >= told + (self.received.capacity() / 4) {
            self.ack = Ack::Now;
        }
    }

    /// Its owner wants no more of it. What was written is delivered; what comes is dropped.
    pub(super) fn handle_close(&mut self, now: Time) {
        match self.state {
            State::Connected if self.over_at.is_none() => {
                self.over_at = Some(now + LINGER_MAX);
                self.received.on_read(usize::MAX);
                self.hasten_end(now);
            }
            State::Connecting { .. } => self.close(CloseReason::Done),
            _ => {}
        }
    }

    fn close(&mut self, reason: CloseReason) {
        self.state = State::Closed;
        self.news.closed = Some(reason);
    }

    /// Once its owner has closed it and the peer has all, little is waited for.
    fn hasten_end(&mut self, now: Time) {
        if let Some(over_at) = self.over_at.filter(|_| self.sent.is_fin_acked()) {
            // The acknowledgement of the peer's FIN may be lost, and that FIN come again.
            let wait = if self.received.is_ended() { self.round_trip.timeout() * 2 } else { FIN_WAIT };
            self.over_at = Some(over_at.min(now + wait));
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        if self.state == State::Closed {
            return None;
        }
        let ack_at = match self.ack {
            Ack::At(at) => Some(at),
            _ => None,
        };
        let is_quiet = self.state == State::Connected && self.ack != Ack::Now;
        let keep_alive_at = is_quiet.then(|| self.sent_at + KEEP_ALIVE);
        [
            self.retransmit_at,
            self.force_at,
            self.over_at,
            ack_at,
            keep_alive_at,
            Some(self.heard_at + SILENCE_MAX),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(super) fn handle_timeout(&mut self, now: Time) {
        let is_due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        if self.state == State::Closed {
            return;
        }
        if is_due(self.over_at) {
            return self.close(CloseReason::Done);
        }
        if now >= self.heard_at + SILENCE_MAX {
            return self.close(CloseReason::TimedOut);
        }
        if is_due(self.retransmit_at) {
            self.on_retransmit_timeout(now);
        }
        if is_due(self.force_at) {
            (self.force_at, self.is_forced) = (None, true);
            self.force_after = (self.force_after * 2).min(super::rtt::TIMEOUT_MAX);
        }
        let is_quiet = self.state == State::Connected && now >= self.sent_at + KEEP_ALIVE;
        if is_quiet || matches!(self.ack, Ack::At(at) if at <= now) {
            self.ack = Ack::Now;
        }
    }

    fn on_retransmit_timeout(&mut self, now: Time) {
        if let State::Connecting { is_syn_due } = &mut self.state {
            *is_syn_due = true;
            self.round_trip.back_off();
            self.retransmit_at = None;
            if self.round_trip.doublings() >= SYNS_MAX {
                self.close(CloseReason::TimedOut);
            }
            return;
        }
        let outcome = self.sent.on_timeout();
        self.duplicate_acks = 0;
        if let Some((size, has_arrived)) = outcome.probe {
            self.mtu.on_probe_result(now, size, has_arrived);
        }
        if outcome.is_new_loss {
            // A peer without room drops what comes; that is no congestion.
            if self.peer_window > 0 {
                self.congestion.on_timeout(self.round_trip.doublings() == 0, self.packet_len_max());
            }
            self.round_trip.back_off();
            self.silent_timeouts += 1;
            let count = self.round_trip.doublings();
            if count == 2 {
                self.mtu.on_black_hole(now);
            }
            let is_hopeless = count >= TIMEOUTS_WITHOUT_PROGRESS_MAX && self.peer_window > 0;
            if self.silent_timeouts >= TIMEOUTS_MAX || is_hopeless {
                return self.close(CloseReason::TimedOut);
            }
        }
        self.retransmit_at = Some(now + self.round_trip.timeout());
    }
}

//! uTP on a UDP socket: [`swarm_core::utp::Socket`] with the bytes of its streams.
//!
//! One task has the socket: it receives, hands on what is not uTP's, and sends. Streams are used by the tasks of their connections, on the
//! same thread. A stream's bytes lie in two queues: what was written and the peer does not have, and what was received and nobody has read.

use super::udp::Buffers;
use super::utp_port::UtpPort;
use crate::clock::Clock;
use crate::hash::guard;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use swarm_core::ip_filter::IpFilter;
use swarm_core::rng::Rng;
use swarm_core::utp::{CloseReason, Config, ConnectionId, Event, Place, Received, Socket, is_utp};
use tokio::io::{Interest, Ready};
use tokio::sync::{Notify, mpsc};

/// How many batches are received before others on the thread get their turn.
const BATCHES_IN_A_ROW: usize = 8;
/// How long a datagram may be that a proxy relays: what every path of IPv6 takes, without the headers of IPv6 (40), UDP (8) and SOCKS5 (22
/// with an address of IPv6). What becomes of a longer one on the other side is the proxy's affair, so probes would prove little.
const RELAYED_LEN_MAX: usize = 1280 - 40 - 8 - 22;
/// How much may wait that is not on its way yet, in bytes: it cannot be overtaken any more.
const UNSENT_MAX: usize = 128 * 1024;
/// How many bytes of one connection may wait to be read, or to be put in order.
const RECEIVE_CAPACITY_MAX: usize = 4 << 20;
/// The most that is given to the system at once.
const BATCH_LEN_MAX: usize = 62_000;

/// What carries the uTP streams of one UDP socket.
pub(crate) struct Utp {
    port: UtpPort,
    inner: RefCell<Inner>,
    /// There is something to send, or the timer has changed.
    wake: Notify,
    clock: Clock,
    accepted: mpsc::UnboundedSender<UtpStream>,
}

struct Inner {
    socket: Socket,
    pipes: BTreeMap<ConnectionId, Rc<Pipe>>,
    /// Streams that somebody has dialled to us.
    arrived: Vec<(ConnectionId, SocketAddr)>,
    batch: Batch,
    /// A datagram that did not fit into it, and whether it may be cut into pieces.
    next: Option<(SocketAddr, Vec<u8>, bool)>,
}

/// Datagrams to one address, all of one length but the last.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    segment: usize,
    to: Option<SocketAddr>,
    /// It is one, and may be cut into pieces.
    may_fragment: bool,
}

/// The bytes of one stream.
#[derive(Default)]
struct Pipe {
    queues: RefCell<Queues>,
    changed: Notify,
}

#[derive(Default)]
struct Queues {
    /// What the peer does not have, from here on in the stream.
    outgoing: VecDeque<u8>,
    acked_to: u64,
    sent_to: u64,
    incoming: VecDeque<u8>,
    /// Came before their turn.
    kept: BTreeMap<u16, Vec<u8>>,
    is_connected: bool,
    has_ended: bool,
    failure: Option<io::ErrorKind>,
}

impl Queues {
    fn unsent(&self) -> usize {
        (self.acked_to + self.outgoing.len() as u64).saturating_sub(self.sent_to) as usize
    }

    /// The peer has the stream up to there.
    fn on_acked(&mut self, to: u64) {
        self.outgoing.drain(..(to - self.acked_to) as usize);
        self.acked_to = to;
        // An idle stream keeps no memory.
        if self.outgoing.is_empty() {
            self.outgoing = VecDeque::new();
        }
    }

    /// What has come is next in the stream, with so many after it that came before.
    fn deliver(&mut self, seq: u16, payload: &[u8], kept: usize) {
        self.incoming.extend(payload);
        for n in 1..=kept {
            let next = self.kept.remove(&seq.wrapping_add(n as u16));
            self.incoming.extend(next.unwrap_or_default());
        }
        // What came from beyond the end was never to be.
        if self.has_ended {
            self.kept.clear();
        }
    }

    /// Nobody will read.
    fn forget_incoming(&mut self) {
        (self.incoming, self.kept) = Default::default();
    }

    fn append_outgoing(&mut self, range: &Range<u64>, out: &mut Vec<u8>) {
        if range.is_empty() {
            return;
        }
        self.sent_to = self.sent_to.max(range.end);
        let (from, to) = ((range.start - self.acked_to) as usize, (range.end - self.acked_to) as usize);
        let (front, back) = self.outgoing.as_slices();
        let of_front = front.len();
        out.extend_from_slice(&front[from.min(of_front)..to.min(of_front)]);
        out.extend_from_slice(&back[from.saturating_sub(of_front)..to.saturating_sub(of_front)]);
    }
}

impl Utp {
    /// Has a socket carry streams, so many at most. Those that others dial are passed on.
    pub(crate) fn new(
        port: UtpPort,
        clock: Clock,
        connections_max: usize,
        mut rng: Rng,
        accepted: mpsc::UnboundedSender<UtpStream>,
    ) -> io::Result<Utp> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).map_err(io::Error::other)?;
        let (receive_capacity_max, accepts) = (RECEIVE_CAPACITY_MAX, !port.is_relayed());
        let datagram_len_max = if accepts { usize::MAX } else { RELAYED_LEN_MAX };
        let config = Config { connections_max, receive_capacity_max, datagram_len_max, accepts, secret };
        let inner = Inner {
            socket: Socket::new(config, rng.fork()),
            pipes: BTreeMap::new(),
            arrived: Vec::new(),
            batch: Batch::default(),
            next: None,
        };
        Ok(Utp { port, inner: RefCell::new(inner), wake: Notify::new(), clock, accepted })
    }

    /// Where it listens, if nothing lies between.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.port.local_addr()
    }

    /// Whether this address can be dialled.
    pub(crate) fn reaches(&self, to: SocketAddr) -> bool {
        self.port.reaches(to)
    }

    /// From now on strangers at addresses that this filter blocks are not answered.
    pub(crate) fn set_ip_filter(&self, filter: Arc<IpFilter>) {
        self.inner.borrow_mut().socket.set_ip_filter(filter);
    }

    /// Dials.
    pub(crate) async fn connect(self: &Rc<Self>, to: SocketAddr) -> io::Result<UtpStream> {
        self.port.opened().await?;
        let stream = {
            let inner = &mut *self.inner.borrow_mut();
            let connection = inner.socket.handle_connect(self.clock.now(), to);
            let connection = connection.ok_or_else(|| io::Error::other("too many uTP connections"))?;
            inner.stream(self, connection, to)
        };
        self.wake.notify_one();
        loop {
            {
                let queues = stream.pipe.queues.borrow();
                match queues.failure {
                    Some(failure) => return Err(failure.into()),
                    None if queues.is_connected => break,
                    None => {}
                }
            }
            stream.pipe.changed.notified().await;
        }
        Ok(stream)
    }

    /// Serves the socket for as long as it is polled. Datagrams of others go to `other`; `blocked` is told how many the filter has refused.
    pub(crate) async fn run(self: Rc<Self>, other: impl Fn(SocketAddr, &[u8]), blocked: impl Fn(u64)) {
        let mut buffers = Buffers::new();
        loop {
            let is_blocked = self.flush();
            self.pass_on_arrived();
            let timeout = self.inner.borrow().socket.poll_timeout();
            let deadline = timeout.map(|at| self.clock.instant(at));
            let far = tokio::time::Instant::now() + Duration::from_secs(3_600);
            tokio::select! {
                readable = self.port.readable() => match readable {
                    Ok(()) => {
                        self.receive(&mut buffers, &other);
                        blocked(self.inner.borrow_mut().socket.take_blocked());
                    }
                    Err(error) => return tracing::warn!(%error, "cannot receive datagrams"),
                },
                () = self.wake.notified() => {}
                _ = self.port.writable(), if is_blocked => {}
                () = tokio::time::sleep_until(deadline.unwrap_or(far)) => {}
            }
            // Those whose streams have got something are next.
            tokio::task::yield_now().await;
        }
    }

    /// The session ends: nobody is left to serve the streams, and their peers are told so, as far as the system takes it now.
    pub(crate) fn shut_down(&self) {
        {
            let inner = &mut *self.inner.borrow_mut();
            let open: Vec<ConnectionId> = inner.pipes.keys().copied().collect();
            open.into_iter().for_each(|connection| inner.socket.handle_abort(self.clock.now(), connection));
        }
        self.flush();
    }

    fn receive(&self, buffers: &mut Buffers, other: &impl Fn(SocketAddr, &[u8])) {
        for _ in 0..BATCHES_IN_A_ROW {
            let now = self.clock.now();
            let received = self.port.try_receive(buffers, |from, datagram| {
                if !is_utp(datagram) {
                    return other(from, datagram);
                }
                let inner = &mut *self.inner.borrow_mut();
                let received = inner.socket.handle_datagram(now, from, datagram);
                inner.events();
                if let Some(received) = received {
                    inner.place(received, datagram);
                }
            });
            match received {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Some systems report here that an earlier datagram found nobody.
                Err(error) => tracing::trace!(%error, "cannot receive"),
            }
        }
    }

    /// Sends what is to be sent. Whether the system takes no more for now.
    fn flush(&self) -> bool {
        let inner = &mut *self.inner.borrow_mut();
        let now = self.clock.now();
        if inner.socket.poll_timeout().is_some_and(|at| at <= now) {
            inner.socket.handle_timeout(now);
        }
        loop {
            if let Some(to) = inner.batch.to {
                let Batch { bytes, segment, may_fragment, .. } = &inner.batch;
                let sent = match may_fragment {
                    true => self.port.try_send_in_pieces(to, bytes),
                    false => self.port.try_send(to, bytes, *segment),
                };
                match sent {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                    // It is as good as lost: too long for a device, or there is no way.
                    Err(error) => tracing::trace!(%to, %error, "cannot send"),
                    Ok(()) => {}
                }
                inner.batch.to = None;
            }
            inner.fill(self.clock, self.port.segments_max());
            inner.events();
            if inner.batch.to.is_none() {
                return false;
            }
        }
    }

    fn pass_on_arrived(self: &Rc<Self>) {
        let arrived = {
            let inner = &mut *self.inner.borrow_mut();
            let arrived = std::mem::take(&mut inner.arrived);
            arrived.into_iter().map(|(id, peer)| inner.stream(self, id, peer)).collect::<Vec<_>>()
        };
        // Who is not taken is closed.
        arrived.into_iter().for_each(|stream| drop(self.accepted.send(stream)));
    }
}

impl Inner {
    fn stream(&mut self, utp: &Rc<Utp>, connection: ConnectionId, peer: SocketAddr) -> UtpStream {
        let pipe = Rc::clone(self.pipes.entry(connection).or_default());
        UtpStream { utp: Rc::clone(utp), connection, pipe, peer }
    }

    fn events(&mut self) {
        while let Some(event) = self.socket.poll_event() {
            let (Event::Accepted { connection, .. }
            | Event::Connected { connection }
            | Event::Acked { connection, .. }
            | Event::Ended { connection }
            | Event::Closed { connection, .. }) = event;
            if let Event::Accepted { peer, .. } = event {
                self.arrived.push((connection, peer));
                self.pipes.entry(connection).or_default();
            }
            let Some(pipe) = self.pipes.get(&connection).map(Rc::clone) else { continue };
            let mut queues = pipe.queues.borrow_mut();
            match event {
                Event::Accepted { .. } | Event::Connected { .. } => queues.is_connected = true,
                Event::Acked { to, .. } => {
                    queues.on_acked(to);
                }
                Event::Ended { .. } => queues.has_ended = true,
                Event::Closed { reason, .. } => {
                    queues.failure = Some(match reason {
                        CloseReason::Refused => io::ErrorKind::ConnectionRefused,
                        CloseReason::TimedOut => io::ErrorKind::TimedOut,
                        CloseReason::Reset | CloseReason::Done => io::ErrorKind::ConnectionReset,
                    });
                    self.pipes.remove(&connection);
                }
            }
            pipe.changed.notify_one();
        }
    }

    /// Puts payload that has come where it belongs.
    fn place(&mut self, Received { connection, seq, payload, place }: Received, datagram: &[u8]) {
        let Some(pipe) = self.pipes.get(&connection) else { return };
        let mut queues = pipe.queues.borrow_mut();
        let payload = &datagram[payload];
        match place {
            Place::Keep => drop(queues.kept.insert(seq, payload.to_vec())),
            Place::Next { kept } => {
                queues.deliver(seq, payload, kept);
                pipe.changed.notify_one();
            }
        }
    }

    /// Fills the batch, which is empty, with datagrams that may go together.
    fn fill(&mut self, clock: Clock, segments_max: usize) {
        let Batch { bytes, segment, to, may_fragment } = &mut self.batch;
        bytes.clear();
        *may_fragment = false;
        if let Some((next_to, next, alone)) = self.next.take() {
            (*to, *segment, *may_fragment) = (Some(next_to), next.len(), alone);
            bytes.extend_from_slice(&next);
        }
        let mut segments = bytes.len().min(1);
        while !*may_fragment && segments < segments_max && bytes.len() + *segment <= BATCH_LEN_MAX {
            let from = bytes.len();
            let Some(transmit) = self.socket.poll_transmit(clock.now(), bytes) else { return };
            if let Some(pipe) = transmit.connection.and_then(|id| self.pipes.get(&id)) {
                pipe.queues.borrow_mut().append_outgoing(&transmit.payload, bytes);
                if pipe.queues.borrow().unsent() < UNSENT_MAX / 2 {
                    pipe.changed.notify_one();
                }
            }
            let len = bytes.len() - from;
            match to {
                None => (*to, *segment, *may_fragment) = (Some(transmit.to), len, transmit.may_fragment),
                Some(to) if *to == transmit.to && len <= *segment && !transmit.may_fragment => {}
                Some(_) => {
                    self.next = Some((transmit.to, bytes.split_off(from), transmit.may_fragment));
                    return;
                }
            }
            segments += 1;
            if len < *segment {
                return;
            }
        }
    }
}

/// A stream over uTP. Dropping it closes it; what was written is still delivered.
pub(crate) struct UtpStream {
    utp: Rc<Utp>,
    connection: ConnectionId,
    pipe: Rc<Pipe>,
    peer: SocketAddr,
}

impl UtpStream {
    /// Whether it goes through the proxy.
    pub(super) fn is_relayed(&self) -> bool {
        self.utp.port.is_relayed()
    }

    pub(crate) fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    pub(crate) fn unsent_max(&self) -> usize {
        UNSENT_MAX
    }

    /// Waits until it can be read from or written to, and tells which.
    pub(crate) async fn ready(&self, interest: Interest) -> Ready {
        loop {
            let ready = self.readiness();
            let is_for = interest.is_readable() && ready.is_readable()
                || interest.is_writable() && ready.is_writable();
            if is_for {
                return ready;
            }
            self.pipe.changed.notified().await;
        }
    }

    fn readiness(&self) -> Ready {
        let queues = self.pipe.queues.borrow();
        let is_over = queues.failure.is_some();
        let mut ready = Ready::EMPTY;
        if is_over || queues.has_ended || !queues.incoming.is_empty() {
            ready |= Ready::READABLE;
        }
        if is_over || queues.unsent() < UNSENT_MAX / 2 {
            ready |= Ready::WRITABLE;
        }
        ready
    }

    pub(crate) fn try_read_vectored(&self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let queues = &mut *self.pipe.queues.borrow_mut();
        let mut count = 0;
        for slice in into {
            let (front, back) = queues.incoming.as_slices();
            let rest = if count < front.len() { &front[count..] } else { &back[count - front.len()..] };
            let mut filled = rest.len().min(slice.len());
            slice[..filled].copy_from_slice(&rest[..filled]);
            if count < front.len() && filled < slice.len() {
                let more = back.len().min(slice.len() - filled);
                slice[filled..filled + more].copy_from_slice(&back[..more]);
                filled += more;
            }
            count += filled;
        }
        if count > 0 {
            queues.incoming.drain(..count);
            // An idle stream keeps no memory.
            if queues.incoming.is_empty() {
                queues.incoming = VecDeque::new();
            }
            self.utp.inner.borrow_mut().socket.handle_read(self.connection, count);
            self.utp.wake.notify_one();
            return Ok(count);
        }
        match queues.failure {
            _ if queues.has_ended => Ok(0),
            Some(failure) => Err(failure.into()),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    pub(crate) fn try_write_vectored(&self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        let queues = &mut *self.pipe.queues.borrow_mut();
        if let Some(failure) = queues.failure {
            return Err(failure.into());
        }
        let mut room = UNSENT_MAX.saturating_sub(queues.unsent());
        let before = queues.outgoing.len();
        for slice in from {
            let part = &slice[..slice.len().min(room)];
            // It may be part of a map.
            guard::read_bytes(part, |bytes| queues.outgoing.extend(bytes))
                .map_err(|_| io::Error::other("a file was cut short while it was sent"))?;
            room -= part.len();
        }
        let count = queues.outgoing.len() - before;
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.utp.inner.borrow_mut().socket.handle_write(self.connection, count);
        self.utp.wake.notify_one();
        Ok(count)
    }
}

impl Drop for UtpStream {
    fn drop(&mut self) {
        let utp = &self.utp;
        // It may linger, to deliver what was written.
        self.pipe.queues.borrow_mut().forget_incoming();
        let inner = &mut *utp.inner.borrow_mut();
        inner.socket.handle_close(utp.clock.now(), self.connection);
        inner.events();
        utp.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_keeps_no_memory_that_it_does_not_need() {
        let mut queues = Queues::default();
        queues.outgoing.extend([7; 100_000]);
        queues.on_acked(60_000);
        assert_eq!(queues.outgoing.len(), 40_000);
        queues.on_acked(100_000);
        assert_eq!(queues.outgoing.capacity(), 0);

        for seq in [3, 4, 9] {
            queues.kept.insert(seq, vec![seq as u8; 10]);
        }
        queues.deliver(2, &[2; 10], 2);
        assert_eq!((queues.incoming.len(), queues.kept.len()), (30, 1));
        queues.has_ended = true;
        queues.deliver(5, &[5; 10], 0);
        assert_eq!((queues.incoming.len(), queues.kept.len()), (40, 0), "beyond the end");
        queues.kept.insert(7, vec![0; 10]);
        queues.forget_incoming();
        assert_eq!((queues.incoming.capacity(), queues.kept.len()), (0, 0));
    }
}

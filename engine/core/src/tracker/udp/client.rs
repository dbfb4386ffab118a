//! What to send to one tracker at one address, and when to send it again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::packet::{ConnectionId, Request, Response, TransactionId};
use crate::net::Family;
use crate::rng::Rng;
use crate::time::{Duration, Time};
use crate::tracker::{AnnounceFailure, AnnounceRequest, AnnounceResponse, ReplyError};

/// How long to wait for a response before the first retransmission; doubled with each further one.
pub const RETRANSMIT_AFTER: Duration = Duration::from_secs(15);
/// How often the wait is doubled at most.
const DOUBLINGS_MAX: u32 = 8;
/// How long a client may use a connection id.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);

type Outcome = Result<AnnounceResponse, AnnounceFailure>;

/// The client's end of one socket that is connected to one tracker.
///
/// Announces of any number of torrents share it and its connection id, which lives for a minute. Trackers may tie
/// the id to the client's port too, so it is never to be used from another socket.
///
/// Call `handle_*`, then drain [`poll_datagram`](Self::poll_datagram) and [`poll_outcome`](Self::poll_outcome), then
/// come back at [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct Client {
    family: Family,
    rng: Rng,
    connection: Option<Connection>,
    connecting: Option<Connecting>,
    exchanges: BTreeMap<TransactionId, Exchange>,
    /// Those of the exchanges that have no connection to ask with.
    waiting: BTreeSet<TransactionId>,
    timers: BTreeSet<(Time, TransactionId)>,
    datagrams: VecDeque<Vec<u8>>,
    outcomes: VecDeque<(TransactionId, Outcome)>,
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    since: Time,
}

/// A connect without an answer.
#[derive(Debug)]
struct Connecting {
    transaction: TransactionId,
    retransmissions: u32,
    retransmit_at: Time,
}

/// An announce without an answer.
#[derive(Debug)]
struct Exchange {
    announce: AnnounceRequest,
    url_data: Vec<u8>,
    since: Time,
    deadline: Time,
    /// How often something was sent in vain since the tracker was last heard.
    retransmissions: u32,
    /// Its entry among the timers.
    timer: Time,
}

impl Connection {
    fn expires_at(&self) -> Time {
        self.since + CONNECTION_LIFETIME
    }
}

impl Client {
    /// A client over a socket of this family.
    pub fn new(family: Family, rng: Rng) -> Client {
        Client {
            family,
            rng,
            connection: None,
            connecting: None,
            exchanges: BTreeMap::new(),
            waiting: BTreeSet::new(),
            timers: BTreeSet::new(),
            datagrams: VecDeque::new(),
            outcomes: VecDeque::new(),
        }
    }

    /// The tracker answers over this family: through a proxy that is not known before.
    pub fn set_family(&mut self, family: Family) {
        self.family = family;
    }

    /// Makes an announce, with the [`url_data`](super::url_data) of the tracker's URL. Its outcome comes under the
    /// id that is returned, at `deadline` at the latest.
    pub fn handle_announce(
        &mut self,
        now: Time,
        announce: AnnounceRequest,
        url_data: Vec<u8>,
        deadline: Time,
    ) -> TransactionId {
        let id = self.unused_id();
        let exchange =
            Exchange { announce, url_data, since: now, deadline, retransmissions: 0, timer: deadline };
        self.exchanges.insert(id, exchange);
        self.timers.insert((deadline, id));
        self.proceed(now, id);
        id
    }

    /// A datagram has come from the tracker. What makes no sense, or answers nothing that was asked, is ignored.
    pub fn handle_datagram(&mut self, now: Time, datagram: &[u8]) {
        match Response::parse(datagram, self.family) {
            Ok(Response::Connect { transaction, connection }) if self.is_connecting(transaction) => {
                self.connecting = None;
                self.connection = Some(Connection { id: connection, since: now });
                for id in std::mem::take(&mut self.waiting) {
                    if let Some(exchange) = self.exchanges.get_mut(&id) {
                        exchange.retransmissions = 0;
                    }
                    self.proceed(now, id);
                }
            }
            Ok(Response::Announce { transaction, response }) => self.finish(transaction, Ok(response)),
            Ok(Response::Error { transaction, message }) => self.on_error(now, transaction, message),
            _ => {}
        }
    }

    /// The tracker cannot be reached from this socket: every announce fails for this reason.
    pub fn handle_unreachable(&mut self, reason: &str) {
        (self.connection, self.connecting) = (None, None);
        self.datagrams.clear();
        while let Some((&id, _)) = self.exchanges.first_key_value() {
            self.finish(id, Err(AnnounceFailure::Unreachable(reason.to_owned())));
        }
    }

    /// Time has passed; see [`poll_timeout`](Self::poll_timeout).
    pub fn handle_timeout(&mut self, now: Time) {
        self.connection.take_if(|connection| connection.expires_at() <= now);
        while let Some(&(at, id)) = self.timers.first()
            && at <= now
        {
            self.on_timer(now, id);
        }
        if self.waiting.is_empty() {
            self.connecting = None;
        }
        if let Some(connecting) = self.connecting.take_if(|connecting| connecting.retransmit_at <= now) {
            self.connect(now, connecting.transaction, connecting.retransmissions + 1);
        }
    }

    /// A datagram to send to the tracker.
    pub fn poll_datagram(&mut self) -> Option<Vec<u8>> {
        self.datagrams.pop_front()
    }

    /// What became of an announce.
    pub fn poll_outcome(&mut self) -> Option<(TransactionId, Outcome)> {
        self.outcomes.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next. `None` when nothing is under way and no
    /// connection id is left: the socket is of no more use then.
    pub fn poll_timeout(&self) -> Option<Time> {
        let exchange = self.timers.first().map(|&(at, _)| at);
        let connecting = self.connecting.as_ref().map(|connecting| connecting.retransmit_at);
        let connection = self.connection.as_ref().map(Connection::expires_at);
        [exchange, connecting, connection].into_iter().flatten().min()
    }

    fn is_connecting(&self, transaction: TransactionId) -> bool {
        self.connecting.as_ref().is_some_and(|connecting| connecting.transaction == transaction)
    }

    fn unused_id(&mut self) -> TransactionId {
        loop {
            let id = TransactionId((self.rng.next_u64() >> 32) as u32);
            if !self.exchanges.contains_key(&id) && !self.is_connecting(id) {
                return id;
            }
        }
    }

    /// Sends an announce if there is a connection for it; else it waits for one.
    fn proceed(&mut self, now: Time, id: TransactionId) {
        let Some(exchange) = self.exchanges.get(&id) else { return };
        let retransmissions = exchange.retransmissions;
        let Some(connection) = self.connection.as_ref().filter(|connection| connection.expires_at() > now)
        else {
            self.set_timer(id, None);
            self.waiting.insert(id);
            if self.connecting.is_none() {
                let transaction = self.unused_id();
                self.connect(now, transaction, retransmissions);
            }
            return;
        };
        let request = Request::Announce {
            connection: connection.id,
            transaction: id,
            announce: exchange.announce.clone(),
            url_data: exchange.url_data.clone(),
        };
        self.datagrams.push_back(request.encode());
        self.set_timer(id, Some(now + wait(retransmissions)));
    }

    fn connect(&mut self, now: Time, transaction: TransactionId, retransmissions: u32) {
        self.datagrams.push_back(Request::Connect { transaction }.encode());
        let retransmit_at = now + wait(retransmissions);
        self.connecting = Some(Connecting { transaction, retransmissions, retransmit_at });
    }

    /// The exchange is to be looked at `at` this time, at its deadline at the latest.
    fn set_timer(&mut self, id: TransactionId, at: Option<Time>) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        self.timers.remove(&(exchange.timer, id));
        exchange.timer = at.map_or(exchange.deadline, |at| at.min(exchange.deadline));
        self.timers.insert((exchange.timer, id));
    }

    fn on_timer(&mut self, now: Time, id: TransactionId) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        if exchange.deadline <= now {
            return self.finish(id, Err(AnnounceFailure::Unreachable("no answer in time".to_owned())));
        }
        exchange.retransmissions += 1;
        self.drop_older_connection(id);
        self.proceed(now, id);
    }

    fn on_error(&mut self, now: Time, transaction: TransactionId, message: String) {
        let refused = |reason| AnnounceFailure::Reply(ReplyError::Refused { reason, retry: None });
        if self.is_connecting(transaction) {
            self.connecting = None;
            for id in std::mem::take(&mut self.waiting) {
                self.finish(id, Err(refused(message.clone())));
            }
        } else if self.drop_older_connection(transaction) {
            self.proceed(now, transaction);
        } else {
            self.finish(transaction, Err(refused(message)));
        }
    }

    /// A tracker that was restarted knows none of its connection ids: one from before this exchange, with which it
    /// does not succeed at once, is not tried again. Whether there was one.
    fn drop_older_connection(&mut self, id: TransactionId) -> bool {
        let Some(exchange) = self.exchanges.get(&id) else { return false };
        self.connection.take_if(|connection| connection.since < exchange.since).is_some()
    }

    fn finish(&mut self, id: TransactionId, outcome: Outcome) {
        if let Some(exchange) = self.exchanges.remove(&id) {
            self.timers.remove(&(exchange.timer, id));
            self.waiting.remove(&id);
            self.outcomes.push_back((id, outcome));
        }
    }
}

/// How long to wait for an answer after so many retransmissions.
fn wait(retransmissions: u32) -> Duration {
    RETRANSMIT_AFTER * (1 << retransmissions.min(DOUBLINGS_MAX))
}

#[cfg(test)]
mod tests;

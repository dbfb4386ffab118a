//! What a torrent holds of a connection.

use super::prepared::Sent;
use crate::net::outbox::Outbox;
use std::rc::Rc;
use swarm_core::id::BlockRef;
use swarm_core::torrent::CloseReason;
use swarm_core::wire::Message;
use tokio::sync::Notify;

/// One connection, as its torrent holds it.
pub(super) struct Connection {
    pub(super) outbox: Outbox,
    /// Wakes the connection's task: there is something to write, or it is to close.
    pub(super) wake: Rc<Notify>,
    pub(super) closing: Option<CloseReason>,
    /// The block that is next to be sent, and waits for its bytes.
    pub(super) stalled: Option<BlockRef>,
    /// What was sent last, and in how long a row.
    pub(super) sent: Sent,
}

impl Connection {
    /// A connection without anything to write. See [`Outbox::new`] for who `overtakes` whom.
    pub(super) fn new(wake: &Rc<Notify>, overtakes: bool) -> Connection {
        let outbox = Outbox::new(overtakes);
        Connection { outbox, wake: Rc::clone(wake), closing: None, stalled: None, sent: Sent::default() }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    pub(super) fn send(&mut self, message: &Message) {
        self.outbox.push_message(message);
        self.wake.notify_one();
    }

    pub(super) fn close(&mut self, reason: CloseReason) {
        self.closing = Some(reason);
        self.wake.notify_one();
    }
}

//! What is on its way to a node.
//!
//! The world lets one node after another catch up with a window of time that is shorter than any path (see
//! [`crate::World`]). What others send meanwhile waits in the node's inbox: a broadcast to forty neighbours is forty
//! appends, and a node's state is fetched from memory once for each window instead of once for each message. Only what is
//! due within a window is sorted.

use crate::tracker::Answer;
use crate::world::NodeId;
use std::collections::VecDeque;
use swarm_core::id::{BlockRef, PeerKey, PieceIndex};
use swarm_core::time::Time;
use swarm_core::wire::Message;

/// What arrives over a path. Kept small: a large swarm has millions of these under way.
#[derive(Debug)]
pub(crate) enum What {
    Have(PieceIndex),
    Request(BlockRef),
    Message(Box<Message>),
    /// A block that has crossed the network and now queues for the downlink.
    Block {
        block: BlockRef,
        corrupt: bool,
    },
    /// Someone dials; the key is the dialler's own.
    Incoming(NodeId),
    /// The dialled host has taken the connection, and knows it by this key.
    Accepted {
        by: NodeId,
        key: PeerKey,
    },
    /// The dialled host is not there.
    Refused,
    Disconnected,
    /// The tracker answers, or it is plain that it does not.
    Tracker(Box<Answer>),
}

/// Something that happens to a node at a time, on one of its connections.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Time,
    pub(crate) to: NodeId,
    pub(crate) key: PeerKey,
    pub(crate) what: What,
}

/// What is on its way to a node, in the order of sending.
#[derive(Debug)]
pub(crate) struct Inbox {
    arrivals: Vec<Arrival>,
    /// When something happens to the node next, be it that something arrives.
    pub(crate) next_at: Time,
}

impl Inbox {
    pub(crate) fn new() -> Inbox {
        Inbox { arrivals: Vec::new(), next_at: Time::MAX }
    }

    pub(crate) fn leave(&mut self, arrival: Arrival) {
        self.next_at = self.next_at.min(arrival.at);
        self.arrivals.push(arrival);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arrival> {
        self.arrivals.iter()
    }

    /// Takes out what arrives before `end`, in that order. Of what arrives at the same time, the first sent is first.
    pub(crate) fn take_due(&mut self, end: Time, due: &mut VecDeque<Arrival>) {
        due.extend(self.arrivals.extract_if(.., |arrival| arrival.at < end));
        due.make_contiguous().sort_by_key(|arrival| arrival.at);
    }

    /// Notes when something happens to the node by itself.
    pub(crate) fn note_next(&mut self, at: Time) {
        self.next_at = self.arrivals.iter().fold(at, |next, arrival| next.min(arrival.at));
    }
}

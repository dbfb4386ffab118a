//! What is on its way to a node.
//!
//! Each node has its own queue, and the world lets one node after another catch up with a window of time that
//! is shorter than any path (see [`crate::World`]). What others send meanwhile waits in the node's inbox, an
//! append-only list: a broadcast to forty neighbours is forty appends, and a node's state is fetched from memory
//! once for each window instead of once for each message.

use crate::tracker::Answer;
use crate::world::NodeId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
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
    sequence: u32,
    pub(crate) key: PeerKey,
    pub(crate) what: What,
}

impl PartialEq for Arrival {
    fn eq(&self, other: &Arrival) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Arrival {}
impl PartialOrd for Arrival {
    fn partial_cmp(&self, other: &Arrival) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Arrival {
    fn cmp(&self, other: &Arrival) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// Where others leave what is for a node.
#[derive(Debug)]
pub(crate) struct Inbox {
    arrivals: Vec<Arrival>,
    sequence: u32,
    /// When the first of them arrives.
    pub(crate) first_at: Time,
}

impl Inbox {
    pub(crate) fn new() -> Inbox {
        Inbox { arrivals: Vec::new(), sequence: 0, first_at: Time::MAX }
    }

    /// Leaves something that arrives at `at`. Of what arrives at the same time, the first left is first.
    pub(crate) fn leave(&mut self, at: Time, key: PeerKey, what: What) {
        self.sequence += 1;
        self.arrivals.push(Arrival { at, sequence: self.sequence, key, what });
        self.first_at = self.first_at.min(at);
    }

    /// What has not been taken yet.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arrival> {
        self.arrivals.iter()
    }

    /// Moves everything into the node's own queue.
    pub(crate) fn empty_into(&mut self, queue: &mut BinaryHeap<Reverse<Arrival>>) {
        queue.extend(self.arrivals.drain(..).map(Reverse));
        self.first_at = Time::MAX;
    }
}

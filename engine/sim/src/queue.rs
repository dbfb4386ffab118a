//! What is on its way to a node.
//!
//! The world lets one node after another catch up with a window of time that is shorter than any path (see
//! [`crate::World`]). What others send meanwhile waits in the node's inbox: a broadcast to forty neighbours is forty
//! appends, and a node's state is fetched from memory once for each window instead of once for each message. Only what is
//! due within a window is sorted.

use crate::basics::NodeId;
use std::collections::VecDeque;
use swarm_core::id::{BlockRef, PeerKey, PieceIndex};
use swarm_core::time::Time;
use swarm_core::tracker::{AnnounceFailure, AnnounceId, AnnounceResponse};
use swarm_core::webseed::FetchId;
use swarm_core::wire::Message;

/// A message that needs no memory of its own: nearly every one.
#[derive(Debug)]
pub(crate) enum Short {
    Choke,
    Unchoke,
    Interested,
    NotInterested,
    Have(PieceIndex),
    Request(BlockRef),
    Cancel(BlockRef),
    Reject(BlockRef),
    /// An extension message with a payload of so many bytes.
    Extended {
        id: u8,
        len: u8,
        payload: [u8; 12],
    },
}

impl From<Short> for Message {
    fn from(short: Short) -> Message {
        match short {
            Short::Choke => Message::Choke,
            Short::Unchoke => Message::Unchoke,
            Short::Interested => Message::Interested,
            Short::NotInterested => Message::NotInterested,
            Short::Have(piece) => Message::Have(piece),
            Short::Request(block) => Message::Request(block),
            Short::Cancel(block) => Message::Cancel(block),
            Short::Reject(block) => Message::Reject(block),
            Short::Extended { id, len, payload } => {
                Message::Extended { id, payload: payload[..usize::from(len)].to_vec() }
            }
        }
    }
}

/// What became of an announce.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Which of the host's lives asked.
    pub(crate) life: u32,
    pub(crate) id: AnnounceId,
    pub(crate) result: Result<AnnounceResponse, AnnounceFailure>,
}

/// What arrives over a path. Kept small: a large swarm has millions of these under way.
#[derive(Debug)]
pub(crate) enum What {
    Short(Short),
    Long(Box<Message>),
    /// A block that has crossed the network and now queues for the downlink.
    Block(BlockRef),
    /// The same, and it is not what it should be.
    CorruptBlock(BlockRef),
    /// So many bytes of a block have been received, where senders wait for that, and whether much waits behind them.
    Taken {
        len: u32,
        is_crowded: bool,
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
    /// Something of a fetch from a web seed.
    Web(Box<Web>),
}

/// What passes between a web seed and who fetches from it.
#[derive(Debug)]
pub(crate) enum Web {
    /// These blocks are asked for.
    Fetch { from: NodeId, id: FetchId, blocks: Vec<BlockRef> },
    /// They are not wanted any more.
    Cancel { from: NodeId, id: FetchId },
    /// One of them.
    Block { id: FetchId, block: BlockRef, is_last: bool },
}

impl What {
    /// Bytes of payload.
    pub(crate) fn payload(&self) -> u64 {
        match self {
            What::Block(block) | What::CorruptBlock(block) => u64::from(block.len),
            What::Web(web) => match **web {
                Web::Block { block, .. } => u64::from(block.len),
                _ => 0,
            },
            _ => 0,
        }
    }
}

impl From<Message> for What {
    fn from(message: Message) -> What {
        What::Short(match message {
            Message::Choke => Short::Choke,
            Message::Unchoke => Short::Unchoke,
            Message::Interested => Short::Interested,
            Message::NotInterested => Short::NotInterested,
            Message::Have(piece) => Short::Have(piece),
            Message::Request(block) => Short::Request(block),
            Message::Cancel(block) => Short::Cancel(block),
            Message::Reject(block) => Short::Reject(block),
            Message::Extended { id, payload } if payload.len() <= 12 => {
                let mut bytes = [0; 12];
                bytes[..payload.len()].copy_from_slice(&payload);
                Short::Extended { id, len: payload.len() as u8, payload: bytes }
            }
            long => return What::Long(Box::new(long)),
        })
    }
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
    pub(crate) next_at: Option<Time>,
}

impl Inbox {
    pub(crate) fn new() -> Inbox {
        Inbox { arrivals: Vec::new(), next_at: None }
    }

    pub(crate) fn leave(&mut self, arrival: Arrival) {
        self.next_at = Some(self.next_at.map_or(arrival.at, |at| at.min(arrival.at)));
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
    pub(crate) fn note_next(&mut self, at: Option<Time>) {
        self.next_at = self.arrivals.iter().map(|arrival| arrival.at).chain(at).min();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_in_millions_is_small() {
        assert_eq!(size_of::<Arrival>(), 32);
    }
}

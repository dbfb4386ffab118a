//! What sockets and the network between them hold.
//!
//! On an ideal path a block leaves when it is chosen, and waits at the receiver's end until its downlink is free, whose queue
//! has no end. A real sender's system takes some blocks before they leave, and lets them out only as long as the
//! receiver keeps up. So a peer whose downlink is shared *pushes back*: its senders' sockets take no more,
//! and their uplinks are free for others. And messages wait: behind the blocks that the same socket has taken and that have not begun to leave,
//! and behind what is in front of the receiver's downlink.

use crate::network::Network;
use crate::node::{Link, Node};
use crate::queue::What;
use std::collections::VecDeque;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::{BlockRef, PeerKey};
use swarm_core::time::{Duration, Time};
use swarm_core::wire::message::PIECE_HEADER_LEN;

/// How much there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// What a socket takes that has not left yet, in bytes.
    pub socket: u64,
    /// How long the queue in front of a downlink may be before senders slow down. What passes a sender's own uplink in that
    /// time and a round trip, it has on its way over one connection at the most.
    pub queue: Duration,
}

impl Default for Buffers {
    /// What the engine's sockets take to begin with, and 50 ms.
    fn default() -> Buffers {
        Buffers { socket: 64 * 1024, queue: Duration::from_millis(50) }
    }
}

/// The sending side of one connection.
#[derive(Debug, Default)]
pub(crate) struct Socket {
    /// Taken and not left, the oldest first.
    unsent: VecDeque<Unsent>,
    unsent_bytes: u64,
    window: Window,
    /// It took all that it could, and there may be more.
    is_full: bool,
}

#[derive(Debug)]
enum Unsent {
    Block(BlockRef),
    Message(What),
}

impl Socket {
    /// The next block to leave, if the receiver keeps up, and the messages before it.
    fn next(&mut self) -> (Vec<What>, Option<BlockRef>) {
        let mut messages = Vec::new();
        loop {
            match self.unsent.pop_front() {
                Some(Unsent::Message(message)) => messages.push(message),
                Some(Unsent::Block(block)) if self.window.takes(block.len.into()) => {
                    self.unsent_bytes -= u64::from(block.len);
                    return (messages, Some(block));
                }
                Some(unsent) => {
                    self.unsent.push_front(unsent);
                    return (messages, None);
                }
                None => return (messages, None),
            }
        }
    }
}

/// How much a connection may have on its way: as with TCP, twice as much with each round trip until the queue is
/// long, three tenths less then, and from then on a block more with each round trip.
#[derive(Debug)]
struct Window {
    bytes: u64,
    on_its_way: u64,
    /// What was on its way when it was reduced is no reason to do that again: so much of it is left.
    excused: u64,
    is_steady: bool,
}

impl Default for Window {
    fn default() -> Window {
        Window { bytes: Window::MIN, on_its_way: 0, excused: 0, is_steady: false }
    }
}

impl Window {
    const MIN: u64 = 2 * BLOCK_LEN as u64;

    /// Whether so much may leave now. If so, it does.
    fn takes(&mut self, len: u64) -> bool {
        let fits = self.on_its_way + len <= self.bytes;
        self.on_its_way += if fits { len } else { 0 };
        fits
    }

    /// So much has been received, and a long queue waits behind it or not.
    fn on_arrived(&mut self, len: u64, is_crowded: bool, max: u64) {
        if is_crowded && self.excused == 0 {
            (self.bytes, self.is_steady) = ((self.bytes * 7 / 10).max(Window::MIN), true);
            self.excused = self.on_its_way;
        } else if !is_crowded {
            let more = if self.is_steady { len * u64::from(BLOCK_LEN) / self.bytes } else { len };
            self.bytes = (self.bytes + more).min(max.max(Window::MIN));
        }
        self.on_its_way = self.on_its_way.saturating_sub(len);
        self.excused = self.excused.saturating_sub(len);
    }
}

impl Link {
    /// The bytes of the blocks that its socket has taken and that have not left.
    pub(crate) fn unsent_bytes(&self) -> u64 {
        self.socket.as_ref().map_or(0, |socket| socket.unsent_bytes)
    }
}

impl Node {
    fn socket(&mut self, key: PeerKey) -> Option<&mut Socket> {
        self.links.get_mut(key.0 as usize)?.as_mut()?.socket.as_deref_mut()
    }

    /// Sends a message, or has it wait behind the blocks before it.
    pub(crate) fn post(&mut self, now: Time, key: PeerKey, what: What, net: &mut Network) {
        let Some(link) = self.links.get_mut(key.0 as usize).and_then(Option::as_mut) else { return };
        if let Some(socket) = &mut link.socket
            && !socket.unsent.is_empty()
        {
            return socket.unsent.push_back(Unsent::Message(what));
        }
        let Some(remote_key) = link.remote_key else { return };
        let (remote, delay) = (link.remote, link.delay);
        net.leave(remote, self.arrival_of_message(key, now, delay), remote_key, what);
    }

    /// A socket takes what its peer is to be sent, as far as there is room.
    pub(crate) fn fill_socket(&mut self, now: Time, key: PeerKey, buffers: Buffers, net: &mut Network) {
        while let Some(socket) = self.socket(key) {
            socket.is_full = socket.unsent_bytes >= buffers.socket;
            if socket.is_full {
                break;
            }
            let Some(block) = self.torrent.next_upload(now, key) else { break };
            if self.is_unreadable(block) {
                self.torrent.handle_upload_failed(now, key, block);
                continue;
            }
            if let Some(socket) = self.socket(key) {
                socket.unsent_bytes += u64::from(block.len);
                socket.unsent.push_back(Unsent::Block(block));
            }
        }
        self.line_up(key);
        self.feed_line(now, buffers, net);
    }

    /// The receiver has got some of it.
    pub(crate) fn on_taken(
        &mut self,
        now: Time,
        key: PeerKey,
        len: u32,
        is_crowded: bool,
        net: &mut Network,
    ) {
        let (Some(buffers), Some(Some(link))) = (self.buffers, self.links.get_mut(key.0 as usize)) else {
            return;
        };
        let window_max = self.config.up.bytes_in(buffers.queue + 2 * link.delay);
        if let Some(socket) = &mut link.socket {
            socket.window.on_arrived(len.into(), is_crowded, window_max);
        }
        self.line_up(key);
        self.feed_line(now, buffers, net);
    }

    fn line_up(&mut self, key: PeerKey) {
        if let Some(Some(link)) = self.links.get_mut(key.0 as usize)
            && !link.queued
            && link.socket.as_ref().is_some_and(|socket| !socket.unsent.is_empty())
        {
            link.queued = true;
            self.uplink.push_back(key);
        }
    }

    /// Puts the next block of a socket on the uplink, if that is idle.
    pub(crate) fn feed_line(&mut self, now: Time, buffers: Buffers, net: &mut Network) {
        while self.uplink_free_at.is_none() && self.online && self.sends_blocks(now) {
            let Some(key) = self.uplink.pop_front() else { return };
            let Some(link) = &mut self.links[key.0 as usize] else { continue };
            let Some(socket) = &mut link.socket else { continue };
            let (messages, block) = socket.next();
            let has_room = socket.is_full && socket.unsent_bytes <= buffers.socket / 2;
            let (remote, delay, remote_key) = (link.remote, link.delay, link.remote_key);
            link.queued = block.is_some();
            let Some(remote_key) = remote_key else { continue };
            for message in messages {
                net.leave(remote, self.arrival_of_message(key, now, delay), remote_key, message);
            }
            if let Some(block) = block {
                self.uplink.push_back(key);
                self.send_block(now, key, block, net);
            }
            if has_room {
                self.fill_socket(now, key, buffers, net);
            }
        }
    }

    /// What waits in the socket of a connection that is gone will not be sent.
    pub(crate) fn take_link(&mut self, key: PeerKey) -> Option<Link> {
        let link = self.links.get_mut(key.0 as usize)?.take()?;
        self.bytes_dropped += link.unsent_bytes();
        Some(link)
    }
}

/// What a block takes on a line, with its header.
pub(crate) fn len_on_line(block: BlockRef) -> u64 {
    u64::from(block.len) + PIECE_HEADER_LEN as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: u64 = BLOCK_LEN as u64;

    /// Sends whatever may leave, all of which arrives at once.
    fn round_trip(window: &mut Window, is_crowded: bool) -> u64 {
        let mut count = 0;
        while window.takes(LEN) {
            count += 1;
        }
        (0..count).for_each(|_| window.on_arrived(LEN, is_crowded, 100 * LEN));
        count
    }

    #[test]
    fn a_window_doubles_until_the_queue_is_long_and_is_reduced_once_for_what_was_on_its_way() {
        let mut window = Window::default();
        let grown: Vec<u64> = (0..5).map(|_| round_trip(&mut window, false)).collect();
        assert_eq!(grown, [2, 4, 8, 16, 32]);
        round_trip(&mut window, true);
        assert_eq!(window.bytes, 64 * LEN * 7 / 10);
        assert_eq!(window.on_its_way, 0);
        let steady = round_trip(&mut window, false);
        assert!((44..=46).contains(&steady) && round_trip(&mut window, false) <= steady + 1);
        for _ in 0..100 {
            round_trip(&mut window, true);
        }
        assert_eq!(window.bytes, Window::MIN);
        for _ in 0..200 {
            round_trip(&mut window, false);
        }
        assert_eq!(window.bytes, 100 * LEN);
    }
}

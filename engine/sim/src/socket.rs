//! What sockets and the network between them hold.
//!
//! On an ideal path a block leaves when it is chosen, and waits at the receiver's end until its downlink is free, whose queue
//! has no end. A real sender's system takes some blocks before they leave, and lets them out only as long as the
//! receiver keeps up. So a peer whose downlink is shared *pushes back*: its senders' sockets take no more,
//! and their uplinks are free for others. And messages wait: behind the blocks that the same socket has taken and that have not begun to leave,
//! and behind what is in front of the receiver's downlink.

use crate::queue::What;
use std::collections::VecDeque;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::BlockRef;
use swarm_core::time::Duration;

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
    pub(crate) unsent: VecDeque<Unsent>,
    pub(crate) unsent_bytes: u64,
    pub(crate) window: Window,
    /// It took all that it could, and there may be more.
    pub(crate) is_full: bool,
}

#[derive(Debug)]
pub(crate) enum Unsent {
    Block(BlockRef),
    Message(What),
}

impl Socket {
    /// The next block to leave, if the receiver keeps up, and the messages before it.
    pub(crate) fn next(&mut self) -> (Vec<What>, Option<BlockRef>) {
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
pub(crate) struct Window {
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
    pub(crate) fn on_arrived(&mut self, len: u64, is_crowded: bool, max: u64) {
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

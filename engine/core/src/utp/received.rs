//! What has come: what is next in the stream, what has come before its turn, and how much room is left.
//!
//! Only numbers and lengths are kept here, the bytes are with the caller.

use std::collections::VecDeque;

/// Packets further ahead than this are not kept.
pub const AHEAD_MAX: usize = 4096;
/// What a packet that came before its turn costs beside its bytes.
pub const KEPT_OVERHEAD: usize = 64;
/// The room of a new connection. It grows by what has come and was read, so a stranger has to send what it wants us to keep.
pub const CAPACITY_INITIAL: usize = 256 << 10;

/// Where a packet's payload belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is next in the stream. So many kept ones follow, with the numbers after its own.
    Next {
        /// How many kept packets follow it.
        kept: usize,
    },
    /// It came before its turn: to be kept under its number.
    Keep,
}

/// What a packet that has come is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    Taken(Place),
    /// It has come before, or there is no room for it.
    Dropped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Missing,
    Kept(u16),
}

/// One packet makes as many slots as it is ahead by.
const _: () = assert!(AHEAD_MAX * size_of::<Slot>() <= 16 << 10);

/// The receiving half of a connection.
#[derive(Clone, Debug)]
pub(super) struct Received {
    /// The number that is next.
    next: u16,
    /// What came after `next`, whose place is therefore not here.
    ahead: VecDeque<Slot>,
    /// Of the kept packets, with their overhead.
    kept: usize,
    unread: usize,
    /// What was delivered and has been read.
    read: usize,
    capacity_max: usize,
    fin: Option<u16>,
    is_ended: bool,
}

impl Received {
    pub(super) fn new(next: u16, capacity_max: usize) -> Received {
        Received {
            next,
            ahead: VecDeque::new(),
            kept: 0,
            unread: 0,
            read: 0,
            capacity_max,
            fin: None,
            is_ended: false,
        }
    }

    /// The last number up to which everything has come.
    pub(super) fn ack(&self) -> u16 {
        self.next.wrapping_sub(1)
    }

    pub(super) fn capacity(&self) -> usize {
        self.read.saturating_add(CAPACITY_INITIAL).min(self.capacity_max)
    }

    /// How many bytes there is room for.
    pub(super) fn window(&self) -> usize {
        self.capacity().saturating_sub(self.unread + self.kept)
    }

    /// Whether everything has come that the other side will ever send.
    pub(super) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Whether something is missing that comes before what is here.
    pub(super) fn has_gap(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// The caller has taken so many bytes.
    pub(super) fn on_read(&mut self, bytes: usize) {
        let bytes = bytes.min(self.unread);
        self.unread -= bytes;
        self.read = self.read.saturating_add(bytes);
    }

    /// A packet of `len` bytes with this number; `None` for the end of the stream.
    pub(super) fn handle(&mut self, seq: u16, len: Option<usize>) -> Arrival {
        let ahead = usize::from(seq.wrapping_sub(self.next));
        if self.is_ended || ahead > AHEAD_MAX || self.fin.is_some_and(|fin| is_after(seq, fin)) {
            return Arrival::Dropped;
        }
        // The end may be told before all has come. What came for after it was never to be.
        let len = match len {
            Some(len) => len,
            None => {
                self.fin.get_or_insert(seq);
                0
            }
        };
        match ahead {
            0 if self.unread > 0 && self.unread >= self.capacity() => Arrival::Dropped,
            0 => {
                self.deliver(len);
                let mut kept = 0;
                while let Some(Slot::Kept(len)) = self.ahead.front().copied().filter(|_| !self.is_ended) {
                    self.ahead.pop_front();
                    self.kept -= usize::from(len) + KEPT_OVERHEAD;
                    self.deliver(len.into());
                    kept += 1;
                }
                // The place of what is now next.
                self.ahead.pop_front();
                if self.ahead.is_empty() {
                    // What was once far ahead takes no memory for the rest of the connection.
                    self.ahead = VecDeque::new();
                }
                Arrival::Taken(Place::Next { kept })
            }
            _ => self.keep(ahead - 1, len),
        }
    }

    fn deliver(&mut self, len: usize) {
        if self.fin == Some(self.next) {
            self.is_ended = true;
            self.ahead.clear();
            self.kept = 0;
        }
        self.next = self.next.wrapping_add(1);
        self.unread += len;
    }

    fn keep(&mut self, at: usize, len: usize) -> Arrival {
        let is_here = self.ahead.get(at).is_some_and(|slot| *slot != Slot::Missing);
        let Some(slot) = u16::try_from(len).ok().filter(|_| !is_here).map(Slot::Kept) else {
            return Arrival::Dropped;
        };
        if len + KEPT_OVERHEAD > self.window() {
            return Arrival::Dropped;
        }
        if self.ahead.len() <= at {
            self.ahead.resize(at + 1, Slot::Missing);
        }
        self.ahead[at] = slot;
        self.kept += len + KEPT_OVERHEAD;
        Arrival::Taken(Place::Keep)
    }

    /// Appends the bits of a selective ACK: a multiple of four bytes, none without a gap.
    pub(super) fn write_sack(&self, len_max: usize, out: &mut Vec<u8>) {
        let bits = self.ahead.len().min(len_max * 8);
        let from = out.len();
        out.resize(from + bits.div_ceil(32) * 4, 0);
        for (at, _) in self.ahead.iter().take(bits).enumerate().filter(|(_, slot)| **slot != Slot::Missing) {
            out[from + at / 8] |= 1 << (at % 8);
        }
    }
}

/// Whether a number lies after another, on a circle.
fn is_after(a: u16, b: u16) -> bool {
    (b.wrapping_sub(a) as i16) < 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: usize = 1 << 20;
    const NEXT: Arrival = Arrival::Taken(Place::Next { kept: 0 });
    const KEEP: Arrival = Arrival::Taken(Place::Keep);

    fn sack(received: &Received) -> Vec<u8> {
        let mut out = Vec::new();
        received.write_sack(252, &mut out);
        out
    }

    #[test]
    fn what_was_once_far_ahead_takes_no_memory_afterwards() {
        let mut received = Received::new(1, MIB);
        assert_eq!(received.handle(1 + AHEAD_MAX as u16, Some(1)), KEEP);
        for seq in 1..=AHEAD_MAX as u16 {
            assert!(received.ahead.capacity() > 0);
            received.handle(seq, Some(1));
        }
        assert_eq!((received.ahead.capacity(), received.kept), (0, 0));
    }

    #[test]
    fn what_comes_before_its_turn_is_kept_and_told() {
        let mut received = Received::new(65_534, MIB);
        assert_eq!(received.handle(65_534, Some(10)), NEXT);
        assert_eq!(received.handle(0, Some(10)), KEEP, "65,535 is missing");
        assert_eq!(received.handle(3, Some(10)), KEEP);
        assert_eq!(received.handle(3, Some(10)), Arrival::Dropped, "a duplicate");
        assert_eq!((received.ack(), sack(&received)), (65_534, vec![0b1001, 0, 0, 0]));
        assert_eq!(received.handle(65_535, Some(10)), Arrival::Taken(Place::Next { kept: 1 }));
        assert_eq!((received.ack(), sack(&received)), (0, vec![0b10, 0, 0, 0]));
        assert_eq!(received.handle(1, Some(10)), NEXT);
        assert_eq!(received.handle(2, Some(10)), Arrival::Taken(Place::Next { kept: 1 }));
        assert_eq!((received.ack(), sack(&received)), (3, vec![]));
        assert_eq!(received.handle(0, Some(10)), Arrival::Dropped, "an old one");
        assert_eq!(received.window(), CAPACITY_INITIAL - 60);
        received.on_read(60);
        assert_eq!(received.window(), CAPACITY_INITIAL + 60);
    }

    #[test]
    fn the_end_may_come_before_its_turn() {
        let mut received = Received::new(1, MIB);
        assert_eq!(received.handle(4, Some(10)), KEEP);
        assert_eq!(received.handle(3, None), KEEP);
        assert_eq!(received.handle(5, Some(10)), Arrival::Dropped, "after the end");
        assert_eq!(received.handle(1, Some(10)), NEXT);
        assert!(!received.is_ended());
        assert_eq!(received.handle(2, Some(10)), Arrival::Taken(Place::Next { kept: 1 }));
        assert!(received.is_ended() && !received.has_gap());
        assert_eq!(received.ack(), 3);
        assert_eq!(received.handle(4, Some(10)), Arrival::Dropped);
        assert_eq!(received.handle(3, None), Arrival::Dropped);
    }

    #[test]
    fn the_window_is_what_may_be_kept() {
        let mut received = Received::new(1, MIB);
        let mut kept = 0;
        for seq in 2..60_000 {
            kept += if received.handle(seq, Some(100)) == KEEP { 100 + KEPT_OVERHEAD } else { 0 };
        }
        assert!(kept <= CAPACITY_INITIAL && received.ahead.len() <= AHEAD_MAX);
        // The missing one is taken nevertheless, and all is there.
        assert!(matches!(received.handle(1, Some(1400)), Arrival::Taken(Place::Next { .. })));
        assert_eq!(received.window(), CAPACITY_INITIAL - received.unread);
    }

    #[test]
    fn what_is_not_read_closes_the_window() {
        let mut received = Received::new(0, MIB);
        let mut seq = 0;
        while received.handle(seq, Some(1000)) == NEXT {
            seq += 1;
        }
        assert_eq!((usize::from(seq), received.window()), (CAPACITY_INITIAL.div_ceil(1000), 0));
        received.on_read(100_000);
        assert!(received.window() > 99_000);
        assert_eq!(received.handle(seq, Some(1000)), NEXT);
    }

    #[test]
    fn room_is_earned() {
        let mut received = Received::new(0, 4 * MIB);
        for seq in 0..3000 {
            assert_eq!(received.handle(seq, Some(1000)), NEXT);
            received.on_read(1000);
        }
        assert_eq!(received.window(), CAPACITY_INITIAL + 3_000_000);
        (3000..6000).for_each(|seq| assert_eq!(received.handle(seq, Some(1000)), NEXT));
        received.on_read(3_000_000);
        assert_eq!(received.window(), 4 * MIB);
    }

    proptest! {
        /// Whatever the order, each packet is delivered once and in its turn.
        #[test]
        fn the_stream_is_in_order(first: u16, order in proptest::collection::vec(0u16..60, 0..400)) {
            let mut received = Received::new(first, MIB);
            let mut kept = std::collections::BTreeSet::new();
            let mut delivered = 0;
            for offset in order {
                match received.handle(first.wrapping_add(offset), Some(10)) {
                    Arrival::Taken(Place::Keep) => prop_assert!(kept.insert(offset)),
                    Arrival::Taken(Place::Next { kept: follow }) => {
                        prop_assert_eq!(offset, delivered);
                        delivered += 1;
                        for _ in 0..follow {
                            prop_assert!(kept.remove(&delivered));
                            delivered += 1;
                        }
                    }
                    Arrival::Dropped => prop_assert!(offset < delivered || kept.contains(&offset)),
                }
                prop_assert_eq!(received.ack().wrapping_add(1), first.wrapping_add(delivered));
                prop_assert_eq!(received.has_gap(), !kept.is_empty());
                prop_assert_eq!(received.kept, kept.len() * (10 + KEPT_OVERHEAD));
            }
        }
    }
}

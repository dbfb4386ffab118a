//! What waits to be written to a socket: control bytes, and blocks straight from their maps.
//!
//! Messages lie in chunks of [`CHUNK_LEN`], and a chunk is freed as soon as it is written: whoever never reads all that it is sent keeps
//! no more of our memory than what it has not read. How much that may be is up to the connection, which asks for [`Outbox::is_full`].

use crate::storage::Prepared;
use std::collections::VecDeque;
use std::io::IoSlice;
use swarm_core::id::BlockRef;
use swarm_core::time::{Duration, Time};
use swarm_core::wire::message::PIECE_HEADER_LEN;
use swarm_core::wire::{Message, piece_header};

/// How many slices go into one `writev`.
const SLICES_MAX: usize = 64;
/// How many bytes of messages lie together, in bytes; a longer message lies by itself.
const CHUNK_LEN: usize = 4 * 1024;
/// What a chunk begins with: most are written before anything is added.
const CHUNK_LEN_INITIAL: usize = 64;

/// A peer for which messages wait that take this much memory, in bytes, is not listened to until it has read some of them. What it
/// sends meanwhile waits in its own system: whoever asks and does not read is not answered further.
const FULL: usize = 256 * 1024;
/// What is sent without being asked for (HAVE) may come to this, in bytes; then the connection is closed.
const OVERFULL: usize = 1024 * 1024;
/// A peer that has read nothing for this long of what waits for it is closed.
pub(crate) const UNREAD_MAX: Duration = Duration::from_secs(90);

/// What waits for one connection, in the order in which it is to be written.
#[derive(Debug)]
pub(crate) struct Outbox {
    items: VecDeque<Item>,
    /// Bytes of the first item that are written already.
    written: usize,
    len: usize,
    /// Bytes of memory that messages take, written ones of the first chunk included.
    control: usize,
    /// How many chunks of messages lie together at the front, behind a block that is under way.
    in_front: usize,
    /// Bytes of messages that no limit was charged for yet.
    uncharged: usize,
    /// Since when the socket has taken nothing of what waits.
    blocked_since: Option<Time>,
    overtakes: bool,
}

#[derive(Debug)]
enum Item {
    /// Messages without blocks.
    Messages(Vec<u8>),
    /// A block whose payload is sent from where it lies, after its message's beginning.
    Block { header: [u8; PIECE_HEADER_LEN], data: Prepared, begin: u32, len: u32 },
    /// A block's whole message.
    Copied(Vec<u8>),
}

impl Item {
    fn len(&self) -> usize {
        match self {
            Item::Messages(bytes) | Item::Copied(bytes) => bytes.len(),
            Item::Block { header, len, .. } => header.len() + *len as usize,
        }
    }

    fn is_messages(&self) -> bool {
        matches!(self, Item::Messages(_))
    }
}

impl Outbox {
    /// An empty one. Where messages are to `overtake` blocks, they go before every block of which nothing has been written
    /// yet, so that none waits behind hundreds of kilobytes; else the order is kept. A peer without BEP 6 takes
    /// a CHOKE to mean that no block comes after it.
    pub(crate) fn new(overtakes: bool) -> Outbox {
        Outbox {
            items: VecDeque::new(),
            written: 0,
            len: 0,
            control: 0,
            in_front: 0,
            uncharged: 0,
            blocked_since: None,
            overtakes,
        }
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether the peer must read before it is listened to again.
    pub(crate) fn is_full(&self) -> bool {
        self.control >= FULL
    }

    /// Whether more waits than may.
    pub(crate) fn is_overfull(&self) -> bool {
        self.control > OVERFULL
    }

    /// The socket takes nothing for now. When to give up, if it takes nothing until then.
    pub(crate) fn blocked(&mut self, now: Time) -> Time {
        *self.blocked_since.get_or_insert(now) + UNREAD_MAX
    }

    /// Bytes of messages since the last call, for limits to be charged for.
    pub(crate) fn take_uncharged(&mut self) -> usize {
        std::mem::take(&mut self.uncharged)
    }

    pub(crate) fn push_message(&mut self, message: &Message) {
        let at = self.chunk_for(message.encoded_len());
        if let Some(Item::Messages(bytes)) = self.items.get_mut(at) {
            let (before, capacity) = (bytes.len(), bytes.capacity());
            message.encode(bytes);
            let added = bytes.len() - before;
            self.control += bytes.capacity() - capacity;
            self.len += added;
            self.uncharged += added;
        }
    }

    /// Where the chunk lies that the next message, of so many bytes, goes to.
    fn chunk_for(&mut self, len: usize) -> usize {
        let is_block_under_way = self.written > 0 && !self.items.front().is_some_and(Item::is_messages);
        let end = match self.overtakes {
            true => usize::from(is_block_under_way) + self.in_front,
            false => self.items.len(),
        };
        let has_room = |item: &Item| match item {
            Item::Messages(bytes) => bytes.len() + len <= CHUNK_LEN,
            _ => false,
        };
        let last = end.checked_sub(1);
        if let Some(last) = last.filter(|&last| self.items.get(last).is_some_and(has_room)) {
            return last;
        }
        let bytes = Vec::with_capacity(CHUNK_LEN_INITIAL.max(len));
        self.control += bytes.capacity();
        self.in_front += usize::from(self.overtakes);
        self.items.insert(end, Item::Messages(bytes));
        end
    }

    /// Puts in a PIECE message whose payload is sent from where it lies.
    pub(crate) fn push_block(&mut self, block: BlockRef, data: Prepared) {
        let header = piece_header(block);
        self.push(Item::Block { header, data, begin: block.begin, len: block.len });
    }

    /// Puts in a PIECE message whose payload is given.
    pub(crate) fn push_block_bytes(&mut self, block: BlockRef, payload: &[u8]) {
        self.push(Item::Copied([&piece_header(block), payload].concat()));
    }

    fn push(&mut self, item: Item) {
        self.len += item.len();
        self.items.push_back(item);
    }

    /// The front of the queue, as slices for one `writev`.
    pub(crate) fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::with_capacity(SLICES_MAX);
        let mut skip = self.written;
        for item in &self.items {
            match item {
                Item::Messages(bytes) | Item::Copied(bytes) => slices.push(IoSlice::new(&bytes[skip..])),
                Item::Block { header, data, begin, len } => {
                    let of_header = skip.min(header.len());
                    if of_header < header.len() {
                        slices.push(IoSlice::new(&header[of_header..]));
                    }
                    let skip = (skip - of_header) as u32;
                    slices.extend(data.slices(begin + skip, len - skip).map(IoSlice::new));
                }
            }
            skip = 0;
            if slices.len() >= SLICES_MAX {
                slices.truncate(SLICES_MAX);
                break;
            }
        }
        slices
    }

    /// `count` bytes of the front are written.
    pub(crate) fn advance(&mut self, count: usize) {
        self.len -= count;
        self.written += count;
        if count > 0 {
            self.blocked_since = None;
        }
        while let Some(item) = self.items.front() {
            if self.written < item.len() {
                break;
            }
            self.written -= item.len();
            if let Some(Item::Messages(bytes)) = self.items.pop_front() {
                self.control -= bytes.capacity();
                self.in_front = self.in_front.saturating_sub(1);
            }
        }
    }

    /// The data that a write failed in, for finding out which file is at fault.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = &Prepared> {
        self.items.iter().filter_map(|item| match item {
            Item::Block { data, .. } => Some(data),
            Item::Messages(_) | Item::Copied(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use swarm_core::id::PieceIndex;

    fn block(piece: u32) -> BlockRef {
        BlockRef { piece: PieceIndex(piece), begin: 0, len: 4 }
    }

    /// An outbox with two blocks.
    fn with_blocks(overtakes: bool) -> Outbox {
        let mut outbox = Outbox::new(overtakes);
        outbox.push_block_bytes(block(1), b"one.");
        outbox.push_block_bytes(block(2), b"two.");
        outbox
    }

    /// Everything that waits, written a few bytes at a time.
    fn write_all(outbox: &mut Outbox) -> Vec<u8> {
        let mut written = Vec::new();
        while outbox.len() > 0 {
            let bytes: Vec<u8> = outbox.slices().iter().flat_map(|slice| slice.to_vec()).collect();
            assert!(bytes.len() == outbox.len() || outbox.slices().len() == SLICES_MAX);
            let count = bytes.len().min(3);
            written.extend_from_slice(&bytes[..count]);
            outbox.advance(count);
        }
        written
    }

    fn message(message: &Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        bytes
    }

    #[test]
    fn messages_overtake_blocks_that_are_not_under_way_and_keep_their_own_order() {
        let (have, unchoke) = (Message::Have(PieceIndex(7)), Message::Unchoke);
        let blocks = write_all(&mut with_blocks(true));
        for begun in [0, 5, 15] {
            let mut outbox = with_blocks(true);
            outbox.advance(begun);
            outbox.push_message(&have);
            outbox.push_message(&unchoke);
            let messages = [message(&have), message(&unchoke)].concat();
            let (first, second) = blocks.split_at(if begun == 0 { 0 } else { blocks.len() / 2 });
            let expected = [first, &messages, second].concat();
            assert_eq!(write_all(&mut outbox), expected[begun..], "after {begun} bytes");
        }
    }

    #[test]
    fn a_message_that_comes_while_one_is_written_is_next() {
        let mut outbox = with_blocks(true);
        outbox.push_message(&Message::Have(PieceIndex(7)));
        outbox.advance(4);
        outbox.push_message(&Message::Choke);
        let messages = [message(&Message::Have(PieceIndex(7))), message(&Message::Choke)].concat();
        let expected = [&messages[4..], &write_all(&mut with_blocks(true))].concat();
        assert_eq!(write_all(&mut outbox), expected);
    }

    /// A peer reads all but the last two megabytes, for as long as it likes.
    #[test]
    fn what_is_written_is_freed_however_much_is_left_unread() {
        const UNREAD: usize = 2 << 20;
        for overtakes in [false, true] {
            let mut outbox = Outbox::new(overtakes);
            let mut pushed = 0;
            while pushed < 100 << 20 {
                let before = outbox.len();
                outbox.push_message(&Message::Reject(block(7)));
                pushed += outbox.len() - before;
                if outbox.len() > UNREAD {
                    outbox.advance(outbox.len() / 1_000);
                }
                let held = outbox.control;
                assert!(
                    held <= outbox.len() * 102 / 100 + 2 * CHUNK_LEN,
                    "{held} bytes for {}",
                    outbox.len()
                );
            }
            let held: usize = outbox
                .items
                .iter()
                .map(|item| match item {
                    Item::Messages(bytes) => bytes.capacity(),
                    _ => 0,
                })
                .sum();
            assert_eq!(held, outbox.control);
            outbox.advance(outbox.len());
            assert_eq!((outbox.control, outbox.items.len(), outbox.in_front), (0, 0, 0));
        }
    }

    #[test]
    fn who_reads_nothing_is_given_up_and_who_reads_a_byte_has_more_time() {
        let mut outbox = Outbox::new(true);
        outbox.push_message(&Message::Unchoke);
        let mut now = Time::from_micros(1);
        let deadline = outbox.blocked(now);
        assert_eq!(deadline, now + UNREAD_MAX);
        now += UNREAD_MAX / 2;
        outbox.push_message(&Message::Choke);
        assert_eq!(outbox.blocked(now), deadline, "more to read is no sign of reading");
        outbox.advance(1);
        assert_eq!(outbox.blocked(now), now + UNREAD_MAX);
        outbox.advance(outbox.len());
        now += UNREAD_MAX * 10;
        outbox.push_message(&Message::Choke);
        assert_eq!(outbox.blocked(now), now + UNREAD_MAX, "while there was nothing to read it was not late");
    }

    #[test]
    fn a_peer_that_does_not_read_is_not_listened_to_and_then_closed() {
        let mut outbox = Outbox::new(true);
        let mut sent = 0;
        while !outbox.is_full() {
            outbox.push_message(&Message::Reject(block(1)));
            sent += 17;
        }
        assert!((FULL * 9 / 10..=FULL).contains(&sent) && !outbox.is_overfull(), "{sent} bytes");
        outbox.advance(2 * CHUNK_LEN);
        assert!(!outbox.is_full());
        while !outbox.is_overfull() {
            outbox.push_message(&Message::Have(PieceIndex(1)));
            sent += 9;
        }
        assert!(sent <= OVERFULL + 3 * CHUNK_LEN, "{sent} bytes");
    }

    #[test]
    fn chunks_keep_the_order_of_messages_and_overtake_blocks_together() {
        for overtakes in [false, true] {
            let mut outbox = with_blocks(overtakes);
            outbox.advance(3);
            let mut expected = Vec::new();
            for piece in 0..5_000 {
                let have = Message::Have(PieceIndex(piece));
                outbox.push_message(&have);
                have.encode(&mut expected);
            }
            let long = Message::Bitfield(vec![0xaa; 3 * CHUNK_LEN]);
            outbox.push_message(&long);
            long.encode(&mut expected);
            let blocks = write_all(&mut with_blocks(overtakes));
            let under_way = if overtakes { blocks.len() / 2 } else { blocks.len() };
            let expected = [&blocks[3..under_way], &expected, &blocks[under_way..]].concat();
            assert!(write_all(&mut outbox) == expected, "overtakes: {overtakes}");
        }
    }

    #[test]
    fn where_order_matters_it_is_kept() {
        let mut outbox = with_blocks(false);
        outbox.push_message(&Message::Choke);
        outbox.push_block_bytes(block(3), b"end.");
        let end = [&piece_header(block(3)), &b"end."[..]].concat();
        let expected = [write_all(&mut with_blocks(false)), message(&Message::Choke), end].concat();
        assert_eq!(write_all(&mut outbox), expected);
    }
}

//! What waits to be written to a socket: control bytes, and blocks straight from their maps.

use crate::storage::Prepared;
use std::collections::VecDeque;
use std::io::IoSlice;
use swarm_core::id::BlockRef;
use swarm_core::wire::message::PIECE_HEADER_LEN;
use swarm_core::wire::{Message, piece_header};

/// How many slices go into one `writev`.
const SLICES_MAX: usize = 64;

/// What waits for one connection, in the order in which it is to be written.
#[derive(Debug)]
pub(crate) struct Outbox {
    items: VecDeque<Item>,
    /// Bytes of the first item that are written already.
    written: usize,
    len: usize,
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
}

impl Outbox {
    /// An empty one. Where messages are to `overtake` blocks, they go before every block of which nothing has been written
    /// yet, so that none waits behind hundreds of kilobytes; else the order is kept. A peer without BEP 6 takes
    /// a CHOKE to mean that no block comes after it.
    pub(crate) fn new(overtakes: bool) -> Outbox {
        Outbox { items: VecDeque::new(), written: 0, len: 0, overtakes }
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push_message(&mut self, message: &Message) {
        let is_under_way = self.written > 0 && !matches!(self.items.front(), Some(Item::Messages(_)));
        let at = match self.overtakes {
            true => usize::from(is_under_way),
            false if matches!(self.items.back(), Some(Item::Messages(_))) => self.items.len() - 1,
            false => self.items.len(),
        };
        if !matches!(self.items.get(at), Some(Item::Messages(_))) {
            self.items.insert(at, Item::Messages(Vec::with_capacity(64)));
        }
        if let Some(Item::Messages(bytes)) = self.items.get_mut(at) {
            let before = bytes.len();
            message.encode(bytes);
            self.len += bytes.len() - before;
        }
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
        while let Some(item) = self.items.front() {
            if self.written < item.len() {
                break;
            }
            self.written -= item.len();
            self.items.pop_front();
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
            assert_eq!(bytes.len(), outbox.len());
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

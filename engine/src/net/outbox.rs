//! What waits to be written to a socket: control bytes, and blocks straight from their maps.

use crate::storage::Prepared;
use std::collections::VecDeque;
use std::io::IoSlice;
use swarm_core::id::BlockRef;
use swarm_core::wire::{Message, encode_piece_header};

/// How many slices go into one `writev`.
const SLICES_MAX: usize = 64;

/// Bytes in the order in which they are to be written.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    items: VecDeque<Item>,
    /// Bytes of the first item that are written already.
    written: usize,
    len: usize,
}

#[derive(Debug)]
enum Item {
    Bytes(Vec<u8>),
    Block { data: Prepared, begin: u32, len: u32 },
}

impl Item {
    fn len(&self) -> usize {
        match self {
            Item::Bytes(bytes) => bytes.len(),
            Item::Block { len, .. } => *len as usize,
        }
    }
}

impl Outbox {
    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push_message(&mut self, message: &Message) {
        self.append(|bytes| message.encode(bytes));
    }

    /// Puts in a PIECE message whose payload is sent from where it lies.
    pub(crate) fn push_block(&mut self, block: BlockRef, data: Prepared) {
        self.append(|bytes| encode_piece_header(block, bytes));
        self.len += block.len as usize;
        self.items.push_back(Item::Block { data, begin: block.begin, len: block.len });
    }

    /// Puts in a PIECE message whose payload is given.
    pub(crate) fn push_block_bytes(&mut self, block: BlockRef, payload: &[u8]) {
        self.append(|bytes| {
            encode_piece_header(block, bytes);
            bytes.extend_from_slice(payload);
        });
    }

    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if !matches!(self.items.back(), Some(Item::Bytes(_))) {
            self.items.push_back(Item::Bytes(Vec::with_capacity(64)));
        }
        if let Some(Item::Bytes(bytes)) = self.items.back_mut() {
            let before = bytes.len();
            write(bytes);
            self.len += bytes.len() - before;
        }
    }

    /// The front of the queue, as slices for one `writev`.
    pub(crate) fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::with_capacity(SLICES_MAX);
        let mut skip = self.written;
        for item in &self.items {
            match item {
                Item::Bytes(bytes) => slices.push(IoSlice::new(&bytes[skip..])),
                Item::Block { data, begin, len } => {
                    let (begin, len) = (begin + skip as u32, len - skip as u32);
                    slices.extend(data.slices(begin, len).map(IoSlice::new));
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
            Item::Bytes(_) => None,
        })
    }
}

//! The byte traffic between connections and a torrent: blocks in, blocks out.

use super::connection::Connection;
use super::limit::Limit;
use super::prepared::{Lookup, asked_range};
use super::torrent::{Inner, TorrentDriver};
use crate::buffer::{Block, PieceBuffer};
use crate::clock::Clock;
use crate::net::connection::{Owner, ReadWait, WriteWait};
use crate::net::enciphered::is_cut_short;
use crate::net::outbox::UNREAD_MAX;
use crate::net::reader::{Progress, Reader, Sink};
use crate::net::transport::Stream;
use crate::storage::Prepared;
use std::io;
use std::ops::RangeInclusive;
use std::rc::Rc;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::{BlockRef, PeerKey};
use swarm_core::time::Time;
use swarm_core::wire::Message;
use swarm_core::wire::message::PIECE_HEADER_LEN;

/// How many times a connection reads before others get their turn.
const READS_IN_A_ROW: usize = 8;
/// The most that is read at once while a rate limit is set: small, so that the limit is met evenly.
pub(super) const LIMITED_READ_LEN: u64 = BLOCK_LEN as u64;
/// The most that is read at once while the rate limit lets no payload pass. Other messages are short, and must not wait:
/// where a block takes a second, they would come too late to be of use.
const CONTROL_READ_LEN: usize = 1_024;
/// How much is queued for a socket at a time, at the least and at the most. What is queued cannot be cancelled any more.
const QUEUED: RangeInclusive<usize> = 2 * BLOCK_LEN as usize..=16 * BLOCK_LEN as usize;
/// How much is written in a row before others get their turn.
const WRITTEN_IN_A_ROW: usize = 1024 * 1024;

/// A torrent as one of its connections sees it.
pub(super) struct ConnectionOwner {
    torrent: Rc<TorrentDriver>,
    key: PeerKey,
    /// Payload has come that the rate limit had no room for. Until it has, nothing more is read.
    in_debt: bool,
}

impl ConnectionOwner {
    pub(super) fn new(torrent: &Rc<TorrentDriver>, key: PeerKey) -> ConnectionOwner {
        ConnectionOwner { torrent: Rc::clone(torrent), key, in_debt: false }
    }

    /// Whether the peer must read first before it is listened to again.
    fn is_backed_up(&self) -> bool {
        let inner = self.torrent.inner.borrow();
        inner.connections.get(&self.key).is_some_and(|connection| connection.outbox.is_full())
    }
}

impl Owner for ConnectionOwner {
    fn clock(&self) -> Clock {
        self.torrent.context.clock
    }

    fn read(&mut self, reader: &mut Reader, stream: &mut Stream) -> Result<ReadWait, String> {
        let (torrent, context, key) = (&self.torrent, &self.torrent.context, self.key);
        // Before the metadata is here nobody knows how many pieces there are.
        reader.set_limits(torrent.decode_limits());
        for _ in 0..READS_IN_A_ROW {
            if self.is_backed_up() {
                return Ok(ReadWait::Peer);
            }
            let now = context.now();
            let (len_max, may_be_payload) = match torrent.download_allowance(now, LIMITED_READ_LEN) {
                Ok(len_max) => (len_max, true),
                Err(at) if self.in_debt || reader.is_in_block() => return Ok(ReadWait::Until(at)),
                Err(_) => (CONTROL_READ_LEN, false),
            };
            let mut scratch = context.scratch.borrow_mut();
            let read = torrent.with(|inner| {
                reader.read(stream, &mut scratch, len_max, &mut Input { torrent, inner, key, now })
            });
            drop(scratch);
            context.update_pressure();
            torrent.spill_if_full();
            let (payload, progress) = read.map_err(|e| e.to_string())?;
            torrent.count_download(now, payload);
            self.in_debt = payload > 0 && !may_be_payload;
            match progress {
                Progress::Eof => return Err("the peer closed the connection".to_owned()),
                Progress::Drained => return Ok(ReadWait::Socket),
                Progress::NoMemory => return Ok(ReadWait::Memory),
                Progress::More => {}
            }
        }
        Ok(ReadWait::Nothing)
    }

    fn write(&mut self, stream: &mut Stream) -> Result<WriteWait, String> {
        let (torrent, key) = (&self.torrent, self.key);
        let mut written = 0;
        while written < WRITTEN_IN_A_ROW {
            let limited = torrent.with(|inner| torrent.queue_blocks(inner, key, stream.unsent_max()));
            let now = torrent.context.now();
            let mut inner = torrent.inner.borrow_mut();
            let Some(connection) = inner.connections.get_mut(&key) else { return Err("gone".to_owned()) };
            if let Some(reason) = &connection.closing {
                return Err(reason.to_string());
            }
            let outbox = &mut connection.outbox;
            if outbox.len() == 0 {
                return Ok(limited.map_or(WriteWait::Idle, WriteWait::Until));
            }
            if outbox.is_overfull() {
                return Err("it does not read what it is sent".to_owned());
            }
            // Messages are not held back, or they would come too late to be of use, but what they take is not there for blocks.
            torrent.count_upload(now, outbox.take_uncharged());
            match stream.try_write_vectored(&outbox.slices()) {
                Ok(count) => {
                    let was_full = outbox.is_full();
                    outbox.advance(count);
                    if was_full && !outbox.is_full() {
                        connection.wake.notify_one();
                    }
                    written += count;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let deadline = outbox.blocked(now);
                    if now >= deadline {
                        return Err(format!("it has read nothing for {} s", UNREAD_MAX.as_secs()));
                    }
                    drop(inner);
                    torrent.with(|inner| inner.core.handle_upload_blocked(now, key));
                    return Ok(WriteWait::Socket(deadline));
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if !is_cut_short(&e) => return Err(e.to_string()),
                Err(e) => {
                    outbox.blocks().for_each(Prepared::leave_maps);
                    for error in outbox.blocks().filter_map(|data| data.check().err()) {
                        torrent.warn(&error.to_string());
                    }
                    return Err(e.to_string());
                }
            }
        }
        Ok(WriteWait::Nothing)
    }

    async fn memory_freed(&self) {
        self.torrent.context.memory_freed.notified().await;
    }
}

/// Where what a connection reads goes.
struct Input<'a> {
    torrent: &'a TorrentDriver,
    inner: &'a mut Inner,
    key: PeerKey,
    now: Time,
}

impl Sink for Input<'_> {
    fn message(&mut self, message: Message) {
        tracing::trace!(peer = self.key.0, ?message, "received");
        if let Message::Port(port) = message {
            self.torrent.learn_dht_node(self.inner, self.key, port);
        }
        self.inner.core.handle_message(self.now, self.key, &message);
    }

    fn take_block(&mut self) -> Option<Block> {
        self.torrent.context.pool.take()
    }

    fn block(&mut self, block: BlockRef, data: Block) {
        if !self.inner.core.handle_block(self.now, self.key, block) {
            return;
        }
        self.inner.keep_block(self.now, block, data);
    }

    fn is_closed(&self) -> bool {
        self.inner.connections.get(&self.key).is_none_or(Connection::is_closing)
    }
}

impl Inner {
    /// Keeps a block that has come until its piece is whole.
    pub(super) fn keep_block(&mut self, now: Time, block: BlockRef, data: Block) {
        let Inner { core, buffers, .. } = self;
        let buffer = buffers.entry(block.piece).or_insert_with(|| {
            PieceBuffer::with_padding(core.geometry(), block.piece, core.padding_blocks(block.piece))
        });
        buffer.insert(block.begin / BLOCK_LEN, data);
        buffer.received_at = now;
    }
}

impl TorrentDriver {
    /// Fills a connection's queue with blocks, and with metadata. If a rate limit stops it, says until when.
    fn queue_blocks(self: &Rc<Self>, inner: &mut Inner, key: PeerKey, unsent_max: usize) -> Option<Time> {
        loop {
            let now = self.context.now();
            let connection = inner.connections.get_mut(&key)?;
            if connection.outbox.len() >= unsent_max.clamp(*QUEUED.start(), *QUEUED.end()) {
                return None;
            }
            let stalled = connection.stalled;
            if stalled.is_none() && !inner.core.peer(key)?.has_uploads() && !inner.core.has_hashes(key) {
                return None;
            }
            let allowance = self.upload_allowance(now, u64::from(BLOCK_LEN));
            if allowance.is_ok() {
                // Answers that need no bytes from the disk do not wait for a block that does.
                let message = inner.core.next_metadata(now, key);
                if let Some(message) = message.or_else(|| inner.core.next_hashes(now, key)) {
                    tracing::trace!(peer = key.0, ?message, "queued");
                    connection.outbox.push_message(&message);
                    self.count_upload(now, connection.outbox.take_uncharged());
                    continue;
                }
            }
            let block = match (stalled, allowance) {
                (Some(block), _) => block,
                (None, Err(at)) => return Some(at),
                (None, Ok(_)) => {
                    let block = inner.core.next_upload(now, key)?;
                    self.count_upload(now, PIECE_HEADER_LEN + block.len as usize);
                    block
                }
            };
            if !self.queue_block(inner, key, block, now) {
                return None;
            }
        }
    }

    /// Queues one block, if its bytes are in memory; else the connection waits for them.
    fn queue_block(self: &Rc<Self>, inner: &mut Inner, key: PeerKey, block: BlockRef, now: Time) -> bool {
        let is_new_range =
            inner.connections.get(&key).is_some_and(|connection| !connection.sent.is_in_range(block));
        let lookup = inner.prepared.look_up(block, key, now, is_new_range);
        let Some(connection) = inner.connections.get_mut(&key) else { return false };
        let (data, range) = match lookup {
            Lookup::Ready(data, range) => (data, range),
            Lookup::Preparing => {
                connection.stalled = Some(block);
                return false;
            }
            Lookup::Missing => {
                connection.stalled = Some(block);
                let read_ahead = connection.sent.read_ahead(block);
                self.prepare(inner, block, key, read_ahead, Some(key));
                return false;
            }
        };
        connection.stalled = None;
        tracing::trace!(peer = key.0, ?block, "queued");
        let is_new_range = connection.sent.note(block, range);
        let poison = self.options.is_poisoned();
        if poison || data.owned_bytes() > 0 {
            // What lies in our own memory is copied: a slow reader must not keep a whole range alive.
            let mut bytes = vec![0; block.len as usize];
            if data.copy_to(block.begin, &mut bytes).is_err() {
                inner.core.handle_upload_failed(now, key, block);
                return true;
            }
            if poison {
                bytes.iter_mut().for_each(|byte| *byte = !*byte);
            }
            connection.outbox.push_block_bytes(block, &bytes);
        } else {
            connection.outbox.push_block(block, data);
        }
        if is_new_range {
            self.prepare_ahead(inner, key);
        }
        true
    }

    /// Has what a peer asked for next brought into memory while this range is sent.
    fn prepare_ahead(self: &Rc<Self>, inner: &mut Inner, key: PeerKey) {
        self.check_ahead(inner, key);
        let (Some(peer), Some(connection)) = (inner.core.peer(key), inner.connections.get(&key)) else {
            return;
        };
        let Some(next) =
            peer.upload_queue().iter().find(|block| !connection.sent.is_in_range(**block)).copied()
        else {
            return;
        };
        if inner.prepared.is_missing(next) {
            let read_ahead = connection.sent.read_ahead(next);
            self.prepare(inner, next, key, read_ahead, None);
        }
    }

    /// Has a block brought into memory, with what the peer has asked for right behind it, or is expected to.
    fn prepare(
        self: &Rc<Self>,
        inner: &mut Inner,
        first: BlockRef,
        key: PeerKey,
        read_ahead: u32,
        waiting: Option<PeerKey>,
    ) {
        let Some(peer) = inner.core.peer(key) else { return };
        let end = inner.core.geometry().requests_end(first.piece);
        let range = asked_range(first, peer.upload_queue(), read_ahead, end);
        inner.prepared.preparing(first.piece, range.clone(), waiting);
        self.prepare_checked(inner, first.piece, range);
        self.check_ahead(inner, key);
    }
}

/// How many bytes may pass under these limits, at most `chunk` if any is set; or when they may.
pub(super) fn allowance<'a>(
    now: Time,
    chunk: u64,
    limits: impl Iterator<Item = &'a Limit> + Clone,
) -> Result<usize, Time> {
    if limits.clone().all(|limit| limit.rate().is_none()) {
        return Ok(usize::MAX);
    }
    let at = limits.map(|limit| limit.next_at(now)).max().unwrap_or(now);
    if at > now { Err(at) } else { Ok(chunk as usize) }
}

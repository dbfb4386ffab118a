//! The byte traffic between connections and a torrent: blocks in, blocks out.

use super::limit::Limit;
use super::prepared::{Lookup, asked_range};
use super::shell::Shell;
use super::torrent::{Inner, TorrentShell};
use crate::buffer::{Block, PieceBuffer};
use crate::net::connection::TorrentSink;
use crate::net::outbox::UNREAD_MAX;
use std::io;
use std::ops::RangeInclusive;
use std::rc::Rc;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::{BlockRef, PeerKey};
use swarm_core::time::Time;
use swarm_core::wire::message::PIECE_HEADER_LEN;
use tokio::net::TcpStream;

/// How much is queued for a socket at a time, at the least and at the most. What is queued cannot be cancelled any more.
const QUEUED: RangeInclusive<usize> = 2 * BLOCK_LEN as usize..=16 * BLOCK_LEN as usize;
/// How much is written in a row before others get their turn.
const WRITTEN_IN_A_ROW: usize = 1024 * 1024;
/// How a flush ended.
#[derive(Debug)]
pub(crate) enum Flush {
    /// Nothing is left to write.
    Idle,
    /// The socket takes no more for now. If it still takes nothing then, the connection is closed.
    Blocked(Time),
    /// The rate limit lets the next block pass then.
    Until(Time),
    /// It is somebody else's turn.
    More,
    /// The connection is to be closed.
    Closed(String),
}

impl Inner {
    /// Puts a wanted block into its piece.
    pub(crate) fn keep_block(&mut self, block: BlockRef, data: Block) {
        let geometry = *self.core.geometry();
        let core = &self.core;
        let buffer = self.buffers.entry(block.piece).or_insert_with(|| {
            PieceBuffer::with_padding(&geometry, block.piece, core.padding_blocks(block.piece))
        });
        buffer.insert(block.begin / BLOCK_LEN, data);
    }
}

impl TorrentShell {
    /// Lets a connection read, with the thread's scratch buffer and a sink that leads here.
    pub(crate) fn read_with<R>(
        self: &Rc<Self>,
        key: PeerKey,
        now: Time,
        read: impl FnOnce(&mut [u8], &mut TorrentSink<'_>) -> R,
    ) -> R {
        let mut scratch = self.hub.scratch.borrow_mut();
        let result = self.with(|inner| {
            let mut sink = TorrentSink { torrent: self, inner, key, now };
            read(&mut scratch, &mut sink)
        });
        drop(scratch);
        self.hub.update_pressure();
        self.spill_if_full();
        result
    }

    /// How many bytes a connection may read now that may be payload, or when it may.
    pub(crate) fn download_allowance(&self, now: Time, chunk: u64) -> Result<usize, Time> {
        allowance(now, chunk, [&self.hub.download, &self.download])
    }

    /// Notes that a connection has read payload.
    pub(crate) fn count_download(&self, now: Time, bytes: u64) {
        self.hub.download.take(now, bytes);
        self.download.take(now, bytes);
    }

    /// Writes what waits for a connection, and takes up its next blocks, about as many bytes `ahead`.
    pub(crate) fn flush(
        self: &Rc<Self>,
        key: PeerKey,
        stream: &TcpStream,
        ahead: usize,
    ) -> io::Result<Flush> {
        let mut written = 0;
        loop {
            let limited = self.with(|inner| self.queue_blocks(inner, key, ahead));
            let now = self.hub.now();
            let mut inner = self.inner.borrow_mut();
            let Some(link) = inner.links.get_mut(&key) else { return Ok(Flush::Closed("gone".to_owned())) };
            if let Some(reason) = &link.closing {
                return Ok(Flush::Closed(reason.to_string()));
            }
            if link.outbox.len() == 0 {
                return Ok(limited.map_or(Flush::Idle, Flush::Until));
            }
            if link.outbox.is_overfull() {
                return Ok(Flush::Closed("it does not read what it is sent".to_owned()));
            }
            // Messages are not held back, or they would come too late to be of use, but what they take is not there for blocks.
            self.count_upload(now, link.outbox.take_uncharged());
            let count = match stream.try_write_vectored(&link.outbox.slices()) {
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let deadline = link.outbox.blocked(now);
                    if now >= deadline {
                        let seconds = UNREAD_MAX.as_secs();
                        return Ok(Flush::Closed(format!("it has read nothing for {seconds} s")));
                    }
                    return Ok(Flush::Blocked(deadline));
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    // EFAULT: a file has been cut short underneath its map.
                    for error in link.outbox.blocks().filter_map(|data| data.check().err()) {
                        self.warn(&error.to_string());
                    }
                    return Err(e);
                }
            };
            link.outbox.advance(count);
            written += count;
            if written >= WRITTEN_IN_A_ROW {
                return Ok(Flush::More);
            }
        }
    }

    /// Whether a peer must read first before it is listened to again.
    pub(crate) fn is_backed_up(&self, key: PeerKey) -> bool {
        let inner = self.inner.borrow();
        inner.links.get(&key).is_some_and(|link| link.outbox.is_full())
    }

    /// Notes that bytes leave, of whatever kind.
    pub(crate) fn count_upload(&self, now: Time, bytes: usize) {
        if bytes > 0 {
            self.hub.upload.take(now, bytes as u64);
            self.upload.take(now, bytes as u64);
        }
    }

    /// Fills a connection's queue with blocks, and with metadata. If a rate limit stops it, says until when.
    fn queue_blocks(self: &Rc<Self>, inner: &mut Inner, key: PeerKey, ahead: usize) -> Option<Time> {
        loop {
            let now = self.hub.now();
            let link = inner.links.get_mut(&key)?;
            if link.outbox.len() >= ahead.clamp(*QUEUED.start(), *QUEUED.end()) {
                return None;
            }
            let block = match link.stalled {
                Some(block) => block,
                None => {
                    let peer = inner.core.peer(key)?;
                    if !peer.has_uploads() {
                        return None;
                    }
                    if let Err(at) = allowance(now, u64::from(BLOCK_LEN), [&self.hub.upload, &self.upload]) {
                        return Some(at);
                    }
                    if let Some(message) = inner.core.next_metadata(now, key) {
                        link.outbox.push_message(&message);
                        self.count_upload(now, link.outbox.take_uncharged());
                        continue;
                    }
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
        let is_new_range = inner.links.get(&key).is_some_and(|link| !link.sent.is_in_range(block));
        let lookup = inner.prepared.look_up(block, key, now, is_new_range);
        let Some(link) = inner.links.get_mut(&key) else { return false };
        let (data, range) = match lookup {
            Lookup::Here(data, range) => (data, range),
            Lookup::Wait => {
                link.stalled = Some(block);
                return false;
            }
            Lookup::Missing => {
                link.stalled = Some(block);
                let read_ahead = link.sent.read_ahead(block);
                self.prepare(inner, block, key, read_ahead, Some(key));
                return false;
            }
        };
        link.stalled = None;
        let is_new_range = link.sent.note(block, range);
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
            link.outbox.push_block_bytes(block, &bytes);
        } else {
            link.outbox.push_block(block, data);
        }
        if is_new_range {
            self.prepare_ahead(inner, key);
        }
        true
    }

    /// Has what a peer asked for next brought into memory while this range is sent.
    fn prepare_ahead(self: &Rc<Self>, inner: &mut Inner, key: PeerKey) {
        let (Some(peer), Some(link)) = (inner.core.peer(key), inner.links.get(&key)) else { return };
        let Some(next) = peer.upload_queue().iter().find(|block| !link.sent.is_in_range(**block)).copied()
        else {
            return;
        };
        if inner.prepared.is_missing(next) {
            let read_ahead = link.sent.read_ahead(next);
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
        let end = inner.core.geometry().len_of(first.piece);
        let range = asked_range(first, peer.upload_queue(), read_ahead, end);
        inner.prepared.coming(first.piece, range.clone(), waiting);
        self.submit_prepare((first.piece, range.start), range);
    }
}

/// How many bytes may pass under these limits, at most `chunk` if any is set; or when they may.
fn allowance(now: Time, chunk: u64, limits: [&Limit; 2]) -> Result<usize, Time> {
    if limits.iter().all(|limit| !limit.is_set()) {
        return Ok(usize::MAX);
    }
    let at = limits.iter().map(|limit| limit.next_at(now)).max().unwrap_or(now);
    if at > now { Err(at) } else { Ok(chunk as usize) }
}

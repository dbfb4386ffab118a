//! The byte traffic between connections and a torrent: blocks in, blocks out.

use super::limit::Limit;
use super::prepared::Lookup;
use super::shell::Shell;
use super::torrent::{Inner, TorrentShell};
use crate::buffer::{Block, PieceBuffer};
use crate::net::connection::TorrentSink;
use std::io;
use std::ops::RangeInclusive;
use std::rc::Rc;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::{BlockRef, PeerKey};
use swarm_core::time::Time;
use tokio::net::TcpStream;

/// How much is queued for a socket at a time, at the least and at the most. What is queued cannot be cancelled any more.
const QUEUED: RangeInclusive<usize> = 2 * BLOCK_LEN as usize..=16 * BLOCK_LEN as usize;
/// How much is written in a row before others get their turn.
const WRITTEN_IN_A_ROW: usize = 1024 * 1024;
/// A peer that does not read what it asks of us may cost this much memory in control messages, in bytes.
const OUTBOX_MAX: usize = 4 * 1024 * 1024;

/// How a flush ended.
#[derive(Debug)]
pub(crate) enum Flush {
    /// Nothing is left to write.
    Idle,
    /// The socket takes no more for now.
    Blocked,
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
            let inner = self.inner.borrow();
            let Some(link) = inner.links.get(&key) else { return Ok(Flush::Closed("gone".to_owned())) };
            if let Some(reason) = &link.closing {
                return Ok(Flush::Closed(reason.to_string()));
            }
            if link.outbox.len() == 0 {
                return Ok(limited.map_or(Flush::Idle, Flush::Until));
            }
            if link.outbox.len() > OUTBOX_MAX {
                return Ok(Flush::Closed("it does not read what it is sent".to_owned()));
            }
            let count = match stream.try_write_vectored(&link.outbox.slices()) {
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Flush::Blocked);
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
            drop(inner);
            if let Some(link) = self.inner.borrow_mut().links.get_mut(&key) {
                link.outbox.advance(count);
            }
            written += count;
            if written >= WRITTEN_IN_A_ROW {
                return Ok(Flush::More);
            }
        }
    }

    /// Fills a connection's queue with blocks. If a rate limit stops it, says until when.
    fn queue_blocks(self: &Rc<Self>, inner: &mut Inner, key: PeerKey, ahead: usize) -> Option<Time> {
        loop {
            let now = self.hub.now();
            let link = inner.links.get(&key)?;
            if link.outbox.len() >= ahead.clamp(*QUEUED.start(), *QUEUED.end()) {
                return None;
            }
            let block = match link.stalled {
                Some(block) => block,
                None => {
                    inner.core.peer(key)?.uploads.front()?;
                    if let Err(at) = allowance(now, u64::from(BLOCK_LEN), [&self.hub.upload, &self.upload]) {
                        return Some(at);
                    }
                    let block = inner.core.next_upload(now, key)?;
                    self.hub.upload.take(now, u64::from(block.len));
                    self.upload.take(now, u64::from(block.len));
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
        let geometry = *inner.core.geometry();
        let lookup = inner.prepared.look_up(&geometry, block, key, now);
        let Some(link) = inner.links.get_mut(&key) else { return false };
        let data = match lookup {
            Lookup::Here(data) => data,
            Lookup::Wait => {
                link.stalled = Some(block);
                return false;
            }
            Lookup::Prepare(window, range) => {
                link.stalled = Some(block);
                self.prepare(window, range);
                return false;
            }
        };
        link.stalled = None;
        let new_window = link.piece.replace(block.piece) != Some(block.piece);
        if self.options.poison || data.owned_bytes() > 0 {
            // What lies in our own memory is copied: a slow reader must not keep a whole window alive.
            let mut bytes = vec![0; block.len as usize];
            if data.copy_to(block.begin, &mut bytes).is_err() {
                inner.core.handle_upload_failed(now, key, block);
                return true;
            }
            if self.options.poison {
                bytes.iter_mut().for_each(|byte| *byte = !*byte);
            }
            link.outbox.push_block_bytes(block, &bytes);
        } else {
            link.outbox.push_block(block, data);
        }
        if new_window {
            self.prepare_ahead(inner, key, block);
        }
        true
    }

    /// Has the next piece that a peer asked for brought into memory while this one is sent.
    fn prepare_ahead(self: &Rc<Self>, inner: &mut Inner, key: PeerKey, sent: BlockRef) {
        let Some(peer) = inner.core.peer(key) else { return };
        let Some(next) = peer.uploads.iter().find(|b| b.piece != sent.piece).copied() else { return };
        let geometry = *inner.core.geometry();
        if let Some((window, range)) = inner.prepared.ahead(&geometry, next) {
            self.prepare(window, range);
        }
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

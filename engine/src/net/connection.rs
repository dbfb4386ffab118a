//! One connection's task: reads, writes, waits. Everything it learns goes to its torrent in place.

use super::ahead::Ahead;
use super::reader::{Progress, Reader, Sink};
use crate::buffer::Block;
use crate::session::shell::Link;
use crate::session::torrent::{Flush, TorrentShell};
use std::io;
use std::rc::Rc;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::{BlockRef, PeerKey};
use swarm_core::time::Time;
use swarm_core::wire::Message;
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// How many times a connection reads before others get their turn.
const READS_IN_A_ROW: usize = 8;
/// The most that is read at once while a rate limit is set: small, so that the limit is met evenly.
const LIMITED_READ_LEN: u64 = BLOCK_LEN as u64;

/// The most that is read at once while the rate limit lets no payload pass. Other messages are short, and must not wait:
/// where a block takes a second, they would come too late to be of use.
const CONTROL_READ_LEN: usize = 1_024;

/// A connection's input.
struct Input {
    reader: Reader,
    /// Payload has come that the rate limit had no room for. Until it has, nothing more is read.
    in_debt: bool,
}

/// What reading must wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadWait {
    /// The socket.
    Socket,
    /// Nothing: there may be more.
    Nothing,
    /// Memory for blocks.
    Memory,
    /// The rate limit.
    Until(Time),
    /// The peer: much waits that it has not read.
    Peer,
}

/// Serves a connection until it ends; says why it did.
pub(crate) async fn run(
    torrent: Rc<TorrentShell>,
    key: PeerKey,
    stream: TcpStream,
    wake: Rc<Notify>,
) -> String {
    let mut input = Input { reader: Reader::new(torrent.decode_limits()), in_debt: false };
    let mut ahead = Ahead::new(&stream);
    let mut reading = ReadWait::Socket;
    loop {
        let flush = match torrent.flush(key, &stream, ahead.bytes()) {
            Ok(Flush::Closed(reason)) => return reason,
            Ok(flush) => flush,
            Err(error) => return error.to_string(),
        };
        if matches!(flush, Flush::Blocked(_)) {
            ahead.on_blocked(torrent.now());
            torrent.upload_blocked(key);
        }
        if reading == ReadWait::Peer && !torrent.is_backed_up(key) {
            reading = ReadWait::Nothing;
        }
        let write_at = match flush {
            Flush::Until(time) | Flush::Blocked(time) => Some(torrent.instant(time)),
            _ => None,
        };
        let read_at = match reading {
            ReadWait::Until(time) => Some(torrent.instant(time)),
            _ => None,
        };
        let more = reading == ReadWait::Nothing || matches!(flush, Flush::More);
        tokio::select! {
            () = wake.notified() => {
                // The limit may have changed.
                if matches!(reading, ReadWait::Until(_)) {
                    reading = ReadWait::Nothing;
                }
            }
            ready = stream.readable(), if reading == ReadWait::Socket => {
                if let Err(error) = ready {
                    return error.to_string();
                }
                reading = ReadWait::Nothing;
            }
            ready = stream.writable(), if matches!(flush, Flush::Blocked(_)) => {
                if let Err(error) = ready {
                    return error.to_string();
                }
                ahead.on_writable(torrent.now(), &stream);
            }
            () = torrent.memory_freed(), if reading == ReadWait::Memory => {}
            () = sleep_until(read_at), if read_at.is_some() => reading = ReadWait::Nothing,
            () = sleep_until(write_at), if write_at.is_some() => {}
            () = tokio::task::yield_now(), if more => {}
        }
        // Whatever woke this task, memory may have come free at the same time, and would not be told again.
        if matches!(reading, ReadWait::Nothing | ReadWait::Memory) {
            reading = match read(&torrent, key, &stream, &mut input) {
                Ok(Some(wait)) => wait,
                Ok(None) => return "the peer closed the connection".to_owned(),
                Err(error) => return error.to_string(),
            };
        }
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}

/// Reads as long as it is this connection's turn. `None` at the end of the stream.
fn read(
    torrent: &Rc<TorrentShell>,
    key: PeerKey,
    stream: &TcpStream,
    input: &mut Input,
) -> io::Result<Option<ReadWait>> {
    let Input { reader, in_debt } = input;
    // While the metadata is searched for nobody knows how many pieces there are.
    reader.set_limits(torrent.decode_limits());
    for _ in 0..READS_IN_A_ROW {
        if torrent.is_backed_up(key) {
            return Ok(Some(ReadWait::Peer));
        }
        let now = torrent.now();
        let (limit, may_be_payload) = match torrent.download_allowance(now, LIMITED_READ_LEN) {
            Ok(limit) => (limit, true),
            Err(at) if *in_debt || reader.is_in_block() => return Ok(Some(ReadWait::Until(at))),
            Err(_) => (CONTROL_READ_LEN, false),
        };
        let (payload, progress) =
            torrent.read_with(key, now, |scratch, sink| reader.read(stream, scratch, limit, sink))?;
        torrent.count_download(now, payload as u64);
        *in_debt = payload > 0 && !may_be_payload;
        match progress {
            Progress::Eof => return Ok(None),
            Progress::Drained => return Ok(Some(ReadWait::Socket)),
            Progress::NoMemory => return Ok(Some(ReadWait::Memory)),
            Progress::More => {}
        }
    }
    Ok(Some(ReadWait::Nothing))
}

/// Hands what a connection reads to its torrent.
pub(crate) struct TorrentSink<'a> {
    pub(crate) torrent: &'a TorrentShell,
    pub(crate) inner: &'a mut crate::session::torrent::Inner,
    pub(crate) key: PeerKey,
    pub(crate) now: Time,
}

impl Sink for TorrentSink<'_> {
    fn message(&mut self, message: Message) {
        tracing::trace!(peer = self.key.0, ?message, "received");
        if let Message::Port(port) = message {
            self.torrent.learn_dht_node(self.inner, self.key, port);
        }
        self.inner.core.handle_message(self.now, self.key, &message);
    }

    fn take_block(&mut self) -> Option<Block> {
        self.torrent.hub.pool.take()
    }

    fn block(&mut self, block: BlockRef, data: Block) {
        if self.inner.core.handle_block(self.now, self.key, block) {
            self.inner.keep_block(block, data);
        }
    }

    fn is_closed(&self) -> bool {
        self.inner.links.get(&self.key).is_none_or(Link::is_closing)
    }
}

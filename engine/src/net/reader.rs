//! From socket to torrent: bytes into messages and pooled blocks.
//!
//! A block's payload is read straight into its pooled block; whatever follows it
//! lands in a scratch buffer that all connections of the thread share, so that an
//! idle connection owns no buffer at all.

use super::transport::Stream;
use crate::buffer::Block;
use std::io::{self, IoSliceMut};
use swarm_core::id::BlockRef;
use swarm_core::wire::{DecodeLimits, Decoded, Message, WireError, decode, decode::message_len};

/// Bytes of the scratch buffer: for what is read at a time, and what was carried over from the last time.
pub(crate) const SCRATCH_LEN: usize = 512 * 1024;
/// A message of at least so many bytes is read into memory of its own, so that each byte of it is moved once, however few come at a time.
const GATHERED_LEN_MIN: usize = 1_024;
/// How much is read beyond the block being filled. Small enough to stay in the cache.
const READ_AHEAD: usize = 128 * 1024;

/// Where what was read goes.
pub(crate) trait Sink {
    /// A message has come.
    fn message(&mut self, message: Message);
    /// Room for a block of payload, or `None` while there is no memory.
    fn take_block(&mut self) -> Option<Block>;
    /// A block has come whole.
    fn block(&mut self, block: BlockRef, data: Block);
    /// Whether the connection is to be closed, so that nothing more is to be decoded.
    fn is_closed(&self) -> bool;
}

/// What reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing more to read for now.
    Drained,
    /// There may be more.
    More,
    /// No memory for the next block.
    NoMemory,
    /// The other side has closed the connection.
    Eof,
}

/// The state of one connection's input.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    limits: DecodeLimits,
    /// Bytes that are not a whole message yet, or that no memory could be found for.
    carry: Vec<u8>,
    filling: Option<Filling>,
    gathering: Option<Gathering>,
}

/// A long message that is arriving.
#[derive(Debug)]
struct Gathering {
    /// As long as the message.
    bytes: Vec<u8>,
    filled: usize,
}

/// A block whose payload is arriving.
#[derive(Debug)]
struct Filling {
    block: BlockRef,
    data: Block,
    filled: usize,
}

impl Reader {
    /// From now on these are the limits of messages.
    pub(crate) fn set_limits(&mut self, limits: DecodeLimits) {
        self.limits = limits;
    }

    /// Reads once, at most `limit` bytes, and hands on what is whole. Returns how many bytes of payload came.
    pub(crate) fn read(
        &mut self,
        stream: &mut Stream,
        scratch: &mut [u8],
        limit: usize,
        sink: &mut impl Sink,
    ) -> io::Result<(usize, Progress)> {
        if !self.carry.is_empty() && self.filling.is_none() {
            // What was carried is decoded first: it may be whole, and have waited for memory only.
            let carried = std::mem::take(&mut self.carry);
            let payload = self.digest(&carried, sink).map_err(invalid)?;
            if self.needs_memory() {
                return Ok((payload, Progress::NoMemory));
            }
            if payload > 0 {
                return Ok((payload, Progress::More));
            }
        }
        let kept = self.carry.len();
        // Of these three at most one is under way.
        let first = match (&mut self.filling, &mut self.gathering) {
            (Some(filling), _) => &mut filling.data[filling.filled..filling.block.len as usize],
            (None, Some(gathering)) => &mut gathering.bytes[gathering.filled..],
            (None, None) => {
                scratch[..kept].copy_from_slice(&self.carry);
                &mut [][..]
            }
        };
        let first_len = first.len().min(limit);
        let ahead_len = READ_AHEAD.min(limit - first_len).min(scratch.len() - kept);
        let ahead = &mut scratch[kept..kept + ahead_len];
        let mut slices = [IoSliceMut::new(&mut first[..first_len]), IoSliceMut::new(ahead)];
        let count = match stream.try_read_vectored(&mut slices) {
            Ok(0) => return Ok((0, Progress::Eof)),
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok((0, Progress::Drained)),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok((0, Progress::More)),
            Err(e) => return Err(e),
        };
        // Not `clear`: an idle connection keeps no memory.
        self.carry = Vec::new();
        let into_first = count.min(first_len);
        let mut payload = 0;
        if let Some(filling) = &mut self.filling {
            filling.filled += into_first;
            payload += into_first;
            self.hand_on_if_full(sink);
        } else if let Some(gathering) = &mut self.gathering {
            gathering.filled += into_first;
            if let Some(whole) = self.gathering.take_if(|g| g.filled == g.bytes.len()) {
                payload += self.digest(&whole.bytes, sink).map_err(invalid)?;
            }
        }
        payload += self.digest(&scratch[..kept + count - into_first], sink).map_err(invalid)?;
        let progress = if self.needs_memory() {
            Progress::NoMemory
        } else if count < first_len + ahead_len {
            Progress::Drained
        } else {
            Progress::More
        };
        Ok((payload, progress))
    }

    /// Whether what comes next is payload.
    pub(crate) fn is_in_block(&self) -> bool {
        self.filling.is_some()
    }

    /// Whether whole messages wait because the next block found no memory.
    pub(crate) fn needs_memory(&self) -> bool {
        self.filling.is_none()
            && matches!(decode(&self.carry, &self.limits), Ok(Some((Decoded::Block(_), _))))
    }

    fn hand_on_if_full(&mut self, sink: &mut impl Sink) {
        if let Some(filling) = self.filling.take_if(|f| f.filled == f.block.len as usize) {
            sink.block(filling.block, filling.data);
        }
    }

    /// Takes messages off the front of `bytes`; what is left over is carried. Returns how much of it was payload.
    fn digest(&mut self, mut bytes: &[u8], sink: &mut impl Sink) -> Result<usize, WireError> {
        let mut payload = 0;
        let mut rest_len = None;
        while self.filling.is_none() && !sink.is_closed() {
            let Some((decoded, used)) = decode(bytes, &self.limits)? else {
                rest_len = message_len(bytes);
                break;
            };
            match decoded {
                Decoded::Message(message) => sink.message(message),
                Decoded::Block(block) => {
                    let Some(mut data) = sink.take_block() else { break };
                    let filled = (bytes.len() - used).min(block.len as usize);
                    data[..filled].copy_from_slice(&bytes[used..used + filled]);
                    self.filling = Some(Filling { block, data, filled });
                    self.hand_on_if_full(sink);
                    bytes = &bytes[filled..];
                    payload += filled;
                }
            }
            bytes = &bytes[used..];
        }
        if let Some(len) = rest_len.filter(|len| *len >= GATHERED_LEN_MIN) {
            // Zeros from the system: what never comes takes no memory.
            let mut gathered = vec![0; len];
            gathered[..bytes.len()].copy_from_slice(bytes);
            self.gathering = Some(Gathering { bytes: gathered, filled: bytes.len() });
        } else {
            self.carry.extend_from_slice(bytes);
        }
        Ok(payload)
    }
}

fn invalid(error: WireError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::BlockPool;
    use swarm_core::geometry::BLOCK_LEN;
    use swarm_core::id::PieceIndex;
    use swarm_core::wire::piece_header;
    use tokio::io::AsyncWriteExt;
    use tokio::io::Interest;
    use tokio::net::{TcpListener, TcpStream};

    struct Heard {
        pool: BlockPool,
        messages: Vec<Message>,
        blocks: Vec<BlockRef>,
    }

    impl Sink for Heard {
        fn message(&mut self, message: Message) {
            self.messages.push(message);
        }

        fn take_block(&mut self) -> Option<Block> {
            self.pool.take()
        }

        fn block(&mut self, block: BlockRef, data: Block) {
            assert!(data[..block.len as usize].iter().all(|&byte| byte == 7));
            self.blocks.push(block);
        }

        fn is_closed(&self) -> bool {
            false
        }
    }

    #[tokio::test]
    async fn long_and_short_messages_and_blocks_are_read_whole_however_they_are_cut() {
        let block = BlockRef { piece: PieceIndex(1), begin: BLOCK_LEN, len: BLOCK_LEN };
        let extended = |len: usize| Message::Extended { id: 3, payload: (0..len).map(|n| n as u8).collect() };
        let sent =
            [extended(60_000), Message::Have(PieceIndex(3)), extended(1_100), extended(10), extended(20_000)];
        let mut bytes = Vec::new();
        for message in &sent {
            message.encode(&mut bytes);
            bytes.extend_from_slice(&piece_header(block));
            bytes.resize(bytes.len() + BLOCK_LEN as usize, 7);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut scratch = vec![0; SCRATCH_LEN];
        for cut in [1, 3, 700, 5_000, usize::MAX] {
            let mut far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (near, addr) = listener.accept().await.unwrap();
            let mut near = Stream::accepted_tcp(near, addr).unwrap();
            let mut reader = Reader::default();
            let mut heard = Heard { pool: BlockPool::new(1 << 20), messages: Vec::new(), blocks: Vec::new() };
            // Cut byte by byte only where messages begin and end, or it would take long.
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let len = cut.min(rest.len());
                far.write_all(&rest[..len]).await.unwrap();
                rest = &rest[len..];
                if cut < 700 && rest.len() % 1_000 > 100 {
                    continue;
                }
                loop {
                    match reader.read(&mut near, &mut scratch, usize::MAX, &mut heard).unwrap().1 {
                        Progress::More => {}
                        Progress::Drained => break,
                        other => panic!("{other:?}"),
                    }
                }
            }
            while heard.blocks.len() < sent.len() {
                near.ready(Some(Interest::READABLE)).await.unwrap();
                reader.read(&mut near, &mut scratch, usize::MAX, &mut heard).unwrap();
            }
            assert!(heard.messages == sent, "cut into {cut} bytes");
            assert_eq!(heard.blocks, [block; 5]);
            assert!(reader.carry.is_empty() && reader.gathering.is_none());
        }
    }
}

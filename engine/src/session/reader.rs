//! Reading a file of a torrent while it is downloaded.

use super::command::{Command, ReadPart, ReadRequest};
use crate::error::{Error, OptionError};
use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::metainfo::{FileEntry, Metainfo};
use swarm_core::reading;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tokio::sync::{mpsc, oneshot};

/// The most that is read at a time, in bytes.
const READ_LEN_MAX: u64 = 256 * 1024;

/// A file of a torrent as a stream of bytes, for players and servers. A read waits until its bytes are verified, and the pieces from
/// there on are downloaded first, before all others. It may seek anywhere; when it is dropped, pieces are downloaded in the torrent's
/// own order again.
#[derive(Debug)]
pub struct FileReader {
    commands: mpsc::UnboundedSender<Box<Command>>,
    metainfo: Arc<Metainfo>,
    /// Where the file begins in the torrent, and how long it is, in bytes.
    start: u64,
    len: u64,
    pos: u64,
    /// Nothing behind this is downloaded for the reader.
    ahead_max: u64,
    id: u64,
    /// What has been read and not been taken, from `pos` on.
    buffer: Vec<u8>,
    taken: usize,
    pending: Option<oneshot::Receiver<io::Result<Vec<u8>>>>,
}

impl FileReader {
    pub(super) fn new(
        commands: mpsc::UnboundedSender<Box<Command>>,
        metainfo: Arc<Metainfo>,
        file: FileIndex,
    ) -> Result<FileReader, Error> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let files = &metainfo.info.files;
        let none = OptionError::NoSuchFile { index: file.0, files: files.len() };
        let &FileEntry { offset: start, length: len, .. } = files.get(file.idx()).ok_or(none)?;
        let id = LAST.fetch_add(1, Ordering::Relaxed);
        let (buffer, taken) = (Vec::new(), 0);
        Ok(FileReader {
            commands,
            metainfo,
            start,
            len,
            pos: 0,
            ahead_max: len,
            id,
            buffer,
            taken,
            pending: None,
        })
    }

    /// The file's length, in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Has nothing downloaded ahead that lies at this position or behind it, for who will not read so far.
    pub fn limit_ahead(&mut self, end: u64) {
        self.ahead_max = end;
    }

    /// Asks for the bytes at the current position: to the end of their piece, or as many as are read at a time.
    fn request(&self) -> io::Result<oneshot::Receiver<io::Result<Vec<u8>>>> {
        let geometry = &self.metainfo.info.geometry;
        let piece_len = u64::from(geometry.piece_len());
        let (at, file_end) = (self.start + self.pos, self.start + self.len);
        let (piece, begin) = (at / piece_len, at % piece_len);
        let end = (file_end - piece * piece_len).min(piece_len).min(begin + READ_LEN_MAX);
        let ahead_end = (self.start + self.ahead_max.max(self.pos + 1)).min(file_end);
        let window = reading::window(geometry, at, ahead_end);
        let (reply, received) = oneshot::channel();
        let part = ReadPart { piece: PieceIndex(piece as u32), range: begin as u32..end as u32, reply };
        let request = ReadRequest { reader: self.id, window, part: Some(part) };
        self.commands.send(Box::new(Command::Read(request))).map_err(|_| ended())?;
        Ok(received)
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the torrent has ended")
}

impl AsyncRead for FileReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.taken == this.buffer.len() {
            if this.pos >= this.len || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let pending = match &mut this.pending {
                Some(pending) => pending,
                None => this.pending.insert(this.request()?),
            };
            let received = ready!(Pin::new(pending).poll(cx));
            this.pending = None;
            (this.buffer, this.taken) = (received.map_err(|_| ended())??, 0);
        }
        let rest = &this.buffer[this.taken..];
        let count = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..count]);
        this.taken += count;
        this.pos += count as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for FileReader {
    fn start_seek(self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let this = self.get_mut();
        let pos = match to {
            SeekFrom::Start(pos) => Some(pos),
            SeekFrom::End(by) => this.len.checked_add_signed(by),
            SeekFrom::Current(by) => this.pos.checked_add_signed(by),
        };
        let pos = pos.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        if pos != this.pos {
            (this.buffer, this.taken, this.pending) = (Vec::new(), 0, None);
        }
        this.pos = pos;
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.pos))
    }
}

impl Drop for FileReader {
    fn drop(&mut self) {
        let gone = ReadRequest { reader: self.id, window: 0..0, part: None };
        let _ = self.commands.send(Box::new(Command::Read(gone)));
    }
}

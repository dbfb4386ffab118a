//! The stream of bytes to and from a peer, whatever carries it.
//!
//! A connection knows of its transport only what [`Stream`] offers: when it is ready, reads and writes that never wait, how much may lie
//! unsent below, and the peer's address. Dropping it closes it. TCP is the one form there is, and each call here is one of the system's:
//! [`Reader`](super::reader) reads blocks into their pooled memory, [`Outbox`](super::outbox) writes them from their maps, and nothing
//! is copied or boxed on the way.
//!
//! # Another form
//!
//! [`Stream`] becomes an enum, and its methods tell the forms apart; nobody else does. [`DialPlan`](super::handshake::DialPlan) gets
//! an attempt for it, and [`accept`](super::handshake::accept) looks at what comes first.
//!
//! *Encryption (MSE)* transforms bytes here. What has been read is decrypted in place, after `try_read_vectored`. `try_write_vectored`
//! encrypts as many bytes as fit into a buffer of its own, and counts those as written: the contract is that bytes were *taken* and leave in
//! order, not that they are in the kernel. Only the system may read from a map (a file that is cut short underneath it is a SIGBUS), so
//! for such a form the torrent queues blocks as bytes (`Outbox::push_block_bytes`), as it does for what lies in our own memory.
//! An incoming handshake names its torrent by a hash of the info-hash: `find` of `accept` then looks through all of them.
//! What is left in such a buffer is written by `ready`, which a connection always awaits.
//!
//! *uTP* shares one UDP socket, whose task has a queue for each stream: `ready` awaits that queue, the reads and writes copy from and to
//! it (from bytes too, not from maps), and the limit on unsent bytes is the length of the queue. The socket's task accepts as `TcpListener` does.

use super::socket::{self, Binding};
use super::unsent::UnsentLimit;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;

/// A stream to a peer.
pub(crate) struct Stream {
    tcp: TcpStream,
    peer: SocketAddr,
    unsent: UnsentLimit,
}

impl Stream {
    /// Dials over TCP.
    pub(crate) async fn connect_tcp(to: SocketAddr, binding: &Binding) -> io::Result<Stream> {
        Ok(Stream::new(socket::connect_tcp(to, binding).await?, to))
    }

    /// Somebody has dialled us over TCP.
    pub(crate) fn accepted_tcp(tcp: TcpStream, peer: SocketAddr) -> io::Result<Stream> {
        socket::prepare(&tcp)?;
        Ok(Stream::new(tcp, peer))
    }

    fn new(tcp: TcpStream, peer: SocketAddr) -> Stream {
        let unsent = UnsentLimit::new(&tcp);
        Stream { tcp, peer, unsent }
    }

    pub(crate) fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// How much may lie unsent below, in bytes: what is written cannot be overtaken or taken back.
    pub(crate) fn unsent_max(&self) -> usize {
        self.unsent.bytes()
    }

    /// Waits until it can be read from or written to, and tells which.
    pub(crate) async fn ready(&mut self, interest: Option<Interest>) -> io::Result<Ready> {
        let Some(interest) = interest else { return std::future::pending().await };
        let ready = self.tcp.ready(interest).await?;
        if ready.is_writable() {
            self.unsent.on_writable(&self.tcp);
        }
        Ok(ready)
    }

    /// Reads what is there: nothing at the end of the stream, and `WouldBlock` while nothing has come.
    pub(crate) fn try_read_vectored(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.tcp.try_read_vectored(into)
    }

    /// Takes some of these bytes, which leave in this order; `WouldBlock` if it takes none for now.
    pub(crate) fn try_write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        let taken = self.tcp.try_write_vectored(from);
        if taken.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock) {
            self.unsent.on_blocked();
        }
        taken
    }

    /// Reads until `into` is full.
    pub(crate) async fn read_exact(&mut self, into: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < into.len() {
            self.ready(Some(Interest::READABLE)).await?;
            match self.try_read_vectored(&mut [IoSliceMut::new(&mut into[filled..])]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(e) => again_later(e)?,
            }
        }
        Ok(())
    }

    /// Writes all of these bytes.
    pub(crate) async fn write_all(&mut self, mut from: &[u8]) -> io::Result<()> {
        while !from.is_empty() {
            self.ready(Some(Interest::WRITABLE)).await?;
            match self.try_write_vectored(&[IoSlice::new(from)]) {
                Ok(count) => from = &from[count..],
                Err(e) => again_later(e)?,
            }
        }
        Ok(())
    }
}

fn again_later(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}

//! The stream of bytes to and from a peer, whatever carries it.
//!
//! A connection knows of its transport only what [`Stream`] offers: when it is ready, reads and writes that never wait, how much may lie
//! unsent below, and the peer's address. Dropping it closes it. Over TCP each call here is one of the system's:
//! [`Reader`](super::reader) reads blocks into their pooled memory, [`Outbox`](super::outbox) writes them from their maps, and nothing
//! is copied or boxed on the way.
//!
//! *Encryption (MSE)* transforms bytes here, over whatever carries them. What has been read is deciphered in place. `try_write_vectored`
//! enciphers as many bytes as fit into a buffer, and counts those as written: the contract is that bytes were *taken* and leave in
//! order, not that they are in the kernel. What is left in such a buffer is written by `ready`, which a connection always awaits. Bytes
//! of a map are read under a guard, since a file that is cut short underneath it is a SIGBUS: such a write fails as the system's would.
//!
//! # Another form
//!
//! [`Stream`] becomes an enum, and its methods tell the forms apart; nobody else does. [`DialPlan`](super::handshake::DialPlan) gets
//! an attempt for it, and [`accept`](super::handshake::accept) looks at what comes first.
//!
//! *uTP* shares one UDP socket, whose task has a queue for each stream: `ready` awaits that queue, the reads and writes copy from and to
//! it (under the same guard), and the limit on unsent bytes is the length of the queue. The socket's task accepts as `TcpListener` does.

use super::dial;
use super::enciphered::Enciphered;
use super::socket::{self, Binding};
use super::unsent::UnsentLimit;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use swarm_core::mse::Method;
use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;

/// A stream to a peer.
pub(crate) struct Stream {
    tcp: TcpStream,
    peer: SocketAddr,
    unsent: UnsentLimit,
    is_proxied: bool,
    /// What transforms the bytes, if they are encrypted.
    enciphered: Option<Box<Enciphered>>,
    /// What an encrypted handshake came to, if there was one.
    encryption: Option<Method>,
}

impl Stream {
    /// Dials over TCP.
    pub(crate) async fn connect_tcp(to: SocketAddr, binding: &Binding) -> io::Result<Stream> {
        let tcp = dial::connect_tcp(&to.into(), binding).await?;
        Ok(Stream { is_proxied: binding.proxy.is_some(), ..Stream::new(tcp, to) })
    }

    /// Somebody has dialled us over TCP.
    pub(crate) fn accepted_tcp(tcp: TcpStream, peer: SocketAddr) -> io::Result<Stream> {
        socket::prepare(&tcp)?;
        Ok(Stream::new(tcp, peer))
    }

    fn new(tcp: TcpStream, peer: SocketAddr) -> Stream {
        let unsent = UnsentLimit::new(&tcp);
        Stream { tcp, peer, unsent, is_proxied: false, enciphered: None, encryption: None }
    }

    /// An encrypted handshake is over: from now on bytes are transformed, if they are to be.
    pub(super) fn encrypt(&mut self, enciphered: Enciphered) {
        self.encryption = Some(enciphered.method);
        self.enciphered = enciphered.is_needed().then(|| Box::new(enciphered));
    }

    /// What an encrypted handshake came to, if there was one.
    pub(crate) fn encryption(&self) -> Option<Method> {
        self.encryption
    }

    /// How the connection was made, in a few words.
    pub(crate) fn manner(&self) -> &'static str {
        match (self.encryption, self.is_proxied) {
            (None, false) => "TCP",
            (Some(Method::Plaintext), false) => "TCP, encrypted handshake",
            (Some(Method::Rc4), false) => "TCP, encrypted (RC4)",
            (None, true) => "TCP through the proxy",
            (Some(Method::Plaintext), true) => "TCP through the proxy, encrypted handshake",
            (Some(Method::Rc4), true) => "TCP through the proxy, encrypted (RC4)",
        }
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
        loop {
            let has_unsent = self.enciphered.as_ref().is_some_and(|enciphered| enciphered.has_unsent());
            let awaited = match interest {
                Some(interest) if has_unsent => interest | Interest::WRITABLE,
                Some(interest) => interest,
                None if has_unsent => Interest::WRITABLE,
                None => std::future::pending().await,
            };
            let ready = self.tcp.ready(awaited).await?;
            if ready.is_writable() {
                self.unsent.on_writable(&self.tcp);
            }
            if has_unsent && ready.is_writable() {
                self.send_unsent()?;
            }
            let is_for = |interest: Interest| {
                !has_unsent
                    || interest.is_readable() && ready.is_readable()
                    || interest.is_writable() && ready.is_writable()
            };
            if interest.is_some_and(is_for) {
                return Ok(ready);
            }
        }
    }

    /// Has the system take what is enciphered, as far as it does.
    fn send_unsent(&mut self) -> io::Result<()> {
        let Stream { tcp, unsent, enciphered: Some(enciphered), .. } = self else { return Ok(()) };
        match enciphered.send_unsent(|bytes| send(tcp, unsent, bytes)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }

    /// Reads what is there: nothing at the end of the stream, and `WouldBlock` while nothing has come.
    pub(crate) fn try_read_vectored(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let count = self.tcp.try_read_vectored(into)?;
        if let Some(enciphered) = &mut self.enciphered {
            enciphered.decipher(into, count);
            if !enciphered.is_needed() {
                self.enciphered = None;
            }
        }
        Ok(count)
    }

    /// Takes some of these bytes, which leave in this order; `WouldBlock` if it takes none for now.
    pub(crate) fn try_write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        let Stream { tcp, unsent, enciphered, .. } = self;
        match enciphered {
            None => send(tcp, unsent, from),
            Some(enciphered) => {
                let limit = unsent.bytes();
                enciphered.write(from, limit, |bytes| send(tcp, unsent, bytes))
            }
        }
    }

    /// Reads until `into` is full.
    pub(crate) async fn read_exact(&mut self, into: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < into.len() {
            filled += self.read_some(&mut into[filled..]).await?;
        }
        Ok(())
    }

    /// Reads what has come, at least a byte, into some place.
    pub(crate) async fn read_some(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            self.ready(Some(Interest::READABLE)).await?;
            match self.try_read_vectored(&mut [IoSliceMut::new(into)]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => return Ok(count),
                Err(e) => again_later(e)?,
            }
        }
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

/// Has the system take bytes.
fn send(tcp: &TcpStream, unsent: &mut UnsentLimit, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
    let taken = tcp.try_write_vectored(bytes);
    if taken.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock) {
        unsent.on_blocked();
    }
    taken
}

fn again_later(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}

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
//! *uTP* shares one UDP socket, whose task has two queues for each stream (see [`utp`](super::utp)): `ready` awaits a change of them, the
//! reads and writes copy from and to them (under the same guard), and the limit on unsent bytes is the length of one.
//!
//! # Another form
//!
//! `Carrier` gets one more, and its methods tell the forms apart; nobody else does. [`DialPlan`](super::handshake::DialPlan) gets
//! an attempt for it.

use super::dial;
use super::enciphered::Enciphered;
use super::socket::{self, Binding};
use super::unsent::UnsentLimit;
use super::utp::UtpStream;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use swarm_core::mse::Method;
use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;

/// A stream to a peer.
pub(crate) struct Stream {
    carrier: Carrier,
    peer: SocketAddr,
    is_proxied: bool,
    /// What transforms the bytes, if they are encrypted.
    enciphered: Option<Box<Enciphered>>,
    /// What an encrypted handshake came to, if there was one.
    encryption: Option<Method>,
}

/// What carries the bytes.
enum Carrier {
    Tcp { tcp: TcpStream, unsent: UnsentLimit },
    Utp(UtpStream),
}

impl Carrier {
    async fn ready(&mut self, interest: Interest) -> io::Result<Ready> {
        match self {
            Carrier::Tcp { tcp, unsent } => {
                let ready = tcp.ready(interest).await?;
                if ready.is_writable() {
                    unsent.on_writable(tcp);
                }
                Ok(ready)
            }
            Carrier::Utp(stream) => Ok(stream.ready(interest).await),
        }
    }

    fn unsent_max(&self) -> usize {
        match self {
            Carrier::Tcp { unsent, .. } => unsent.bytes(),
            Carrier::Utp(stream) => stream.unsent_max(),
        }
    }

    fn read(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Carrier::Tcp { tcp, .. } => tcp.try_read_vectored(into),
            Carrier::Utp(stream) => stream.try_read_vectored(into),
        }
    }

    /// Has bytes taken.
    fn send(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Carrier::Tcp { tcp, unsent } => {
                let taken = tcp.try_write_vectored(bytes);
                if taken.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock) {
                    unsent.on_blocked();
                }
                taken
            }
            Carrier::Utp(stream) => stream.try_write_vectored(bytes),
        }
    }
}

impl Stream {
    /// Dials over TCP.
    pub(crate) async fn connect_tcp(to: SocketAddr, binding: &Binding) -> io::Result<Stream> {
        let tcp = dial::connect_tcp(&to.into(), binding).await?;
        Ok(Stream { is_proxied: binding.proxy.is_some(), ..Stream::over_tcp(tcp, to) })
    }

    /// Somebody has dialled us over TCP.
    pub(crate) fn accepted_tcp(tcp: TcpStream, peer: SocketAddr) -> io::Result<Stream> {
        socket::prepare(&tcp)?;
        Ok(Stream::over_tcp(tcp, peer))
    }

    fn over_tcp(tcp: TcpStream, peer: SocketAddr) -> Stream {
        let unsent = UnsentLimit::new(&tcp);
        let carrier = Carrier::Tcp { tcp, unsent };
        Stream { carrier, peer, is_proxied: false, enciphered: None, encryption: None }
    }

    /// A connection over uTP, whoever has dialled.
    pub(crate) fn over_utp(stream: UtpStream) -> Stream {
        let (peer, is_proxied) = (stream.peer_addr(), stream.is_relayed());
        let carrier = Carrier::Utp(stream);
        Stream { carrier, peer, is_proxied, enciphered: None, encryption: None }
    }

    pub(crate) fn is_utp(&self) -> bool {
        matches!(self.carrier, Carrier::Utp(_))
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
        match (self.is_utp(), self.is_proxied, self.encryption) {
            (true, false, None) => "uTP",
            (true, false, Some(Method::Plaintext)) => "uTP, encrypted handshake",
            (true, false, Some(Method::Rc4)) => "uTP, encrypted (RC4)",
            (false, false, None) => "TCP",
            (false, false, Some(Method::Plaintext)) => "TCP, encrypted handshake",
            (false, false, Some(Method::Rc4)) => "TCP, encrypted (RC4)",
            (false, true, None) => "TCP through the proxy",
            (false, true, Some(Method::Plaintext)) => "TCP through the proxy, encrypted handshake",
            (false, true, Some(Method::Rc4)) => "TCP through the proxy, encrypted (RC4)",
            (true, true, None) => "uTP through the proxy",
            (true, true, Some(Method::Plaintext)) => "uTP through the proxy, encrypted handshake",
            (true, true, Some(Method::Rc4)) => "uTP through the proxy, encrypted (RC4)",
        }
    }

    pub(crate) fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// How much may lie unsent below, in bytes: what is written cannot be overtaken or taken back.
    pub(crate) fn unsent_max(&self) -> usize {
        self.carrier.unsent_max()
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
            let ready = self.carrier.ready(awaited).await?;
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
        let Stream { carrier, enciphered: Some(enciphered), .. } = self else { return Ok(()) };
        match enciphered.send_unsent(|bytes| carrier.send(bytes)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }

    /// Reads what is there: nothing at the end of the stream, and `WouldBlock` while nothing has come.
    pub(crate) fn try_read_vectored(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let count = self.carrier.read(into)?;
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
        let Stream { carrier, enciphered, .. } = self;
        match enciphered {
            None => carrier.send(from),
            Some(enciphered) => {
                let limit = carrier.unsent_max();
                enciphered.write(from, limit, |bytes| carrier.send(bytes))
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

fn again_later(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}

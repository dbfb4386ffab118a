//! Datagrams in batches: on Linux one system call receives all that have come, and another sends all the
//! replies. On other systems a batch is a single one.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use tokio::io::Interest;
use tokio::net::UdpSocket;

/// How many datagrams a batch has at most.
const BATCH_MAX: usize = if cfg!(target_os = "linux") { 64 } else { 1 };
/// How many there is room for after a batch of one. Room has its price: there is twice as much as the last
/// batch took.
const ROOM_MIN: usize = if cfg!(target_os = "linux") { 4 } else { 1 };
/// Longer than any request, so that one which was cut short is not taken for another.
const BUFFER_LEN: usize = 2048;

/// Requests that came together, and the replies to them.
pub(super) struct Batch {
    buffers: Vec<Vec<u8>>,
    /// Of each datagram in `buffers`, its length and its sender.
    received: Vec<(usize, SocketAddr)>,
    replies: Vec<u8>,
    /// Where in `replies` each of them is, and whom it is for.
    addressed: Vec<(Range<usize>, SocketAddr)>,
}

impl Batch {
    pub(super) fn new() -> Batch {
        let buffers = vec![vec![0; BUFFER_LEN]; BATCH_MAX];
        Batch { buffers, received: Vec::new(), replies: Vec::new(), addressed: Vec::new() }
    }

    /// Waits until there is something, and receives all that is there, as far as it fits a batch.
    pub(super) async fn receive(&mut self, socket: &UdpSocket) -> io::Result<()> {
        let Batch { buffers, received, .. } = self;
        let room = (2 * received.len()).clamp(ROOM_MIN, BATCH_MAX);
        let buffers = &mut buffers[..room];
        socket.async_io(Interest::READABLE, || system::receive(socket, buffers, received)).await
    }

    /// Replies to what was received: `respond` appends the reply to a datagram of this sender, if it gets
    /// one.
    pub(super) fn reply(&mut self, mut respond: impl FnMut(&[u8], SocketAddr, &mut Vec<u8>)) {
        self.replies.clear();
        self.addressed.clear();
        for (buffer, (len, client)) in self.buffers.iter().zip(&self.received) {
            let start = self.replies.len();
            respond(&buffer[..*len], *client, &mut self.replies);
            let reply = start..self.replies.len();
            if !reply.is_empty() {
                self.addressed.push((reply, *client));
            }
        }
    }

    /// Sends all replies. One that the system does not take is told of and left out.
    pub(super) async fn send(&self, socket: &UdpSocket) {
        let mut waiting = &self.addressed[..];
        while let [(_, client), rest @ ..] = waiting {
            let sent =
                socket.async_io(Interest::WRITABLE, || system::send(socket, &self.replies, waiting)).await;
            waiting = match sent {
                Ok(count) => &waiting[count..],
                Err(error) => {
                    tracing::debug!(%client, %error, "cannot reply over UDP");
                    rest
                }
            };
        }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::io::{self, IoSlice, IoSliceMut};
    use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
    use std::ops::Range;
    use std::os::fd::AsRawFd;

    use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};
    use rustix::net::addr::SocketAddrArg;
    use rustix::net::{self, MMsgHdr, SendAncillaryBuffer, SendFlags};
    use tokio::net::UdpSocket;

    /// Receives as many datagrams as are there and as there are buffers.
    pub(super) fn receive(
        socket: &UdpSocket,
        buffers: &mut [Vec<u8>],
        received: &mut Vec<(usize, SocketAddr)>,
    ) -> io::Result<()> {
        received.clear();
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(buffers.len(), None);
        let mut slices: Vec<_> = buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        let messages = recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), flags, None)?;
        for message in messages {
            let sender = message.address.as_ref().and_then(address);
            // Without a sender it is left in its buffer, as a datagram of no length from nobody.
            received.push(sender.map_or((0, ([0; 4], 0).into()), |sender| (message.bytes, sender)));
        }
        Ok(())
    }

    fn address(address: &SockaddrStorage) -> Option<SocketAddr> {
        let v4 = address.as_sockaddr_in().map(|v4| SocketAddrV4::from(*v4).into());
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6).into()))
    }

    /// Sends as many of these parts of `bytes` as the system takes, and says how many that were.
    pub(super) fn send(
        socket: &UdpSocket,
        bytes: &[u8],
        parts: &[(Range<usize>, SocketAddr)],
    ) -> io::Result<usize> {
        let clients: Vec<_> = parts.iter().map(|(_, client)| client.as_any()).collect();
        let slices: Vec<_> = parts.iter().map(|(part, _)| [IoSlice::new(&bytes[part.clone()])]).collect();
        let mut nothing_else: Vec<_> = parts.iter().map(|_| SendAncillaryBuffer::default()).collect();
        let messages = clients.iter().zip(&slices).zip(&mut nothing_else);
        let mut messages: Vec<_> = messages
            .map(|((client, slice), nothing_else)| MMsgHdr::new_with_addr(client, slice, nothing_else))
            .collect();
        Ok(net::sendmmsg(socket, &mut messages, SendFlags::DONTWAIT)?)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;
    use std::net::SocketAddr;
    use std::ops::Range;

    use tokio::net::UdpSocket;

    /// Receives a datagram.
    pub(super) fn receive(
        socket: &UdpSocket,
        buffers: &mut [Vec<u8>],
        received: &mut Vec<(usize, SocketAddr)>,
    ) -> io::Result<()> {
        received.clear();
        received.push(socket.try_recv_from(&mut buffers[0])?);
        Ok(())
    }

    /// Sends the first of these parts of `bytes`, and says how many that were.
    pub(super) fn send(
        socket: &UdpSocket,
        bytes: &[u8],
        parts: &[(Range<usize>, SocketAddr)],
    ) -> io::Result<usize> {
        let Some((part, client)) = parts.first() else { return Ok(0) };
        socket.try_send_to(&bytes[part.clone()], *client)?;
        Ok(1)
    }
}

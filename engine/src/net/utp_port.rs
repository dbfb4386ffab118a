//! What carries the datagrams of uTP: a UDP port of ours, or a relay at the proxy.

use super::datagrams::{Relay, is_unseen};
use super::socket::Binding;
use super::udp::{Buffers, UdpPort};
use std::cell::OnceCell;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

/// What carries the datagrams of uTP.
pub(crate) enum UtpPort {
    Direct(Rc<UdpPort>),
    /// The proxy is asked for it when somebody is first dialled.
    Relayed {
        binding: Binding,
        relay: OnceCell<Relay>,
    },
}

impl UtpPort {
    /// Through the proxy, which has to carry datagrams.
    pub(crate) fn relayed(binding: &Binding) -> UtpPort {
        UtpPort::Relayed { binding: binding.clone(), relay: OnceCell::new() }
    }

    pub(crate) fn is_relayed(&self) -> bool {
        matches!(self, UtpPort::Relayed { .. })
    }

    /// Where it listens, if nothing lies between.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            UtpPort::Direct(port) => port.local_addr().ok(),
            UtpPort::Relayed { .. } => None,
        }
    }

    /// Whether it reaches this address.
    pub(crate) fn reaches(&self, to: SocketAddr) -> bool {
        self.is_relayed()
            || self.local_addr().is_some_and(|ours| {
                // What listens on this machine only reaches nobody else.
                ours.is_ipv4() == to.is_ipv4() && (to.ip().is_loopback() || !ours.ip().is_loopback())
            })
    }

    /// Waits until there is a way, which the proxy may refuse.
    pub(super) async fn opened(&self) -> io::Result<()> {
        let UtpPort::Relayed { binding, relay } = self else { return Ok(()) };
        if relay.get().is_none() {
            let _ = relay.set(Relay::open(binding)?);
        }
        match relay.get() {
            Some(relay) => relay.granted().await,
            None => pending().await,
        }
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            UtpPort::Direct(port) => port.readable().await,
            UtpPort::Relayed { relay, .. } => match relay.get() {
                Some(relay) => relay.readable().await,
                None => pending().await,
            },
        }
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        match self {
            UtpPort::Direct(port) => port.writable().await,
            UtpPort::Relayed { relay, .. } => match relay.get() {
                Some(relay) => relay.writable().await,
                None => pending().await,
            },
        }
    }

    /// How many datagrams one call sends at most.
    pub(super) fn segments_max(&self) -> usize {
        match self {
            UtpPort::Direct(port) => port.segments_max(),
            UtpPort::Relayed { .. } => 1,
        }
    }

    /// As [`UdpPort::try_receive`].
    pub(super) fn try_receive(
        &self,
        buffers: &mut Buffers,
        mut each: impl FnMut(SocketAddr, &[u8]),
    ) -> io::Result<()> {
        match self {
            UtpPort::Direct(port) => port.try_receive(buffers, each),
            UtpPort::Relayed { relay, .. } => {
                let relay = relay.get().ok_or(io::ErrorKind::WouldBlock)?;
                let buffer = buffers.for_one();
                let (len, from) = relay.try_recv_from(buffer)?;
                if !is_unseen(from) {
                    each(from, &buffer[..len]);
                }
                Ok(())
            }
        }
    }

    /// As [`UdpPort::try_send_in_pieces`]. What a proxy relays is short enough, and what it does with that is its own affair.
    pub(super) fn try_send_in_pieces(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        match self {
            UtpPort::Direct(port) => port.try_send_in_pieces(to, datagram),
            UtpPort::Relayed { .. } => self.try_send(to, datagram, datagram.len()),
        }
    }

    /// As [`UdpPort::try_send`].
    pub(super) fn try_send(&self, to: SocketAddr, contents: &[u8], segment: usize) -> io::Result<()> {
        match self {
            UtpPort::Direct(port) => port.try_send(to, contents, segment),
            UtpPort::Relayed { relay, .. } => {
                let relay = relay.get().ok_or(io::ErrorKind::NotConnected)?;
                relay.try_send_to(contents, &to.into())
            }
        }
    }
}

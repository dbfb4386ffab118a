//! One UDP socket for everything that comes over UDP to an address of ours: uTP and the DHT.
//!
//! Datagrams are received and sent in batches, joined and cut by the system where it can (GRO and GSO on Linux): quinn-udp does that, and
//! what is left of it elsewhere.

use super::socket::{self, Binding};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// How many buffers one call of the system fills, and how long each is: as long as what it joins.
const BATCH: usize = 8;
const BUFFER_LEN: usize = 1 << 16;
/// How much one datagram may take that is received by itself.
const SINGLE_LEN: usize = 1 << 14;
/// What the system is asked to keep for us, and for the net, in bytes.
const SYSTEM_BUFFER: usize = 4 << 20;

/// Memory that datagrams are received into.
pub(crate) struct Buffers(Vec<u8>);

impl Buffers {
    pub(crate) fn new() -> Buffers {
        Buffers(vec![0; BATCH * BUFFER_LEN])
    }

    /// Room for one datagram of a size that goes through a network in one piece.
    pub(super) fn for_one(&mut self) -> &mut [u8] {
        &mut self.0[..SINGLE_LEN]
    }
}

/// A UDP socket.
pub(crate) struct UdpPort {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl UdpPort {
    /// Opens a socket at this address; if that is taken, on another port. With a proxy there is none. Needs a tokio runtime.
    pub(crate) fn open(addr: SocketAddr, binding: &Binding) -> io::Result<UdpPort> {
        binding.refuse_past_proxy()?;
        let device = binding.device.as_deref();
        let any_port = SocketAddr::new(addr.ip(), 0);
        let socket = socket::udp(addr, device).or_else(|_| socket::udp(any_port, device))?;
        let state = UdpSocketState::new((&socket).into())?;
        // As far as the system allows.
        let _ = state.set_recv_buffer_size((&socket).into(), SYSTEM_BUFFER);
        let _ = state.set_send_buffer_size((&socket).into(), SYSTEM_BUFFER);
        Ok(UdpPort { socket, state })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// How many datagrams one call sends at most.
    pub(crate) fn segments_max(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Hands on the datagrams of one batch: `WouldBlock` if none have come.
    pub(crate) fn try_receive(
        &self,
        buffers: &mut Buffers,
        mut each: impl FnMut(SocketAddr, &[u8]),
    ) -> io::Result<()> {
        let mut metas = [RecvMeta::default(); BATCH];
        let mut memory = buffers.0.chunks_exact_mut(BUFFER_LEN);
        let mut slices: [IoSliceMut<'_>; BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(memory.next().unwrap_or_default()));
        let count = self
            .socket
            .try_io(Interest::READABLE, || self.state.recv((&self.socket).into(), &mut slices, &mut metas))?;
        for (meta, slice) in metas.iter().zip(&slices).take(count) {
            let joined = &slice[..meta.len.min(slice.len())];
            joined.chunks(meta.stride.max(1)).for_each(|datagram| each(meta.addr, datagram));
        }
        Ok(())
    }

    /// Sends one datagram that may be cut into pieces on its way, which all others may not.
    pub(crate) fn try_send_in_pieces(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        socket::set_may_fragment(&self.socket, true)?;
        let sent = self.try_send(to, datagram, datagram.len());
        socket::set_may_fragment(&self.socket, false)?;
        sent
    }

    /// Sends datagrams that lie one after the other: each of `segment` bytes, but for the last, which may be shorter.
    pub(crate) fn try_send(&self, to: SocketAddr, contents: &[u8], segment: usize) -> io::Result<()> {
        let segment_size = (contents.len() > segment).then_some(segment);
        let transmit = Transmit { destination: to, ecn: None, contents, segment_size, src_ip: None };
        self.socket.try_io(Interest::WRITABLE, || self.state.try_send((&self.socket).into(), &transmit))
    }
}

//! Datagrams of one protocol, by a socket of the system's or through the proxy.
//!
//! A SOCKS5 proxy relays datagrams for as long as a connection to it stands ([`associate`](super::dial)). A task of the [`Relay`]'s own asks
//! for that, and asks again whenever it has ended, by and by: the proxy may have been restarted. Until it has been granted, nothing is sent.

use super::dial;
use super::socket::{self, Binding, ProxyHost};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use swarm_core::proxy::{Destination, OVERHEAD_MAX, ProxyError, unwrap, wrap};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How long a proxy may take to grant a relay.
const ASSOCIATE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long until a proxy is asked again; doubled each time, up to the longest.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// Longest datagram that is received, in bytes.
const DATAGRAM_LEN_MAX: usize = 1 << 16;
/// Stands for who is known to the proxy only: an address of nobody, for examples.
const UNSEEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 0)), 0);

/// A socket for datagrams to and from one place; with a proxy they may come from others too.
#[derive(Debug)]
pub(crate) enum DatagramSocket {
    Direct(UdpSocket),
    Relayed(Relay),
}

impl DatagramSocket {
    /// Opens one for a place. Needs a tokio runtime.
    pub(crate) fn connect(to: &Destination, binding: &Binding) -> io::Result<DatagramSocket> {
        match (&binding.proxy, to) {
            (Some(_), _) => Relay::open(binding).map(DatagramSocket::Relayed),
            (None, Destination::Addr(addr)) => {
                socket::connect_udp(*addr, binding).map(DatagramSocket::Direct)
            }
            (None, Destination::Name(..)) => Err(io::ErrorKind::AddrNotAvailable.into()),
        }
    }

    /// Sends to `to`, whom it was opened for; through a proxy, once it grants a relay or says why not.
    pub(crate) async fn send(&self, datagram: &[u8], to: &Destination) -> io::Result<()> {
        match self {
            DatagramSocket::Direct(socket) => socket.send(datagram).await.map(drop),
            DatagramSocket::Relayed(relay) => relay.send(datagram, to).await,
        }
    }

    /// Waits for a datagram: its length, and from whom. Through a proxy that may be [nobody known](is_unseen). An error may say that nobody
    /// listens there.
    pub(crate) async fn recv_from(&self, into: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        match self {
            // Unlike `readable`, this wakes up for errors too.
            DatagramSocket::Direct(socket) => socket.recv_from(into).await,
            DatagramSocket::Relayed(relay) => loop {
                relay.readable().await?;
                match relay.try_recv_from(into) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    received => return received,
                }
            },
        }
    }
}

/// A relay at the proxy, or the wish for one.
#[derive(Debug)]
pub(crate) struct Relay {
    link: watch::Receiver<Link>,
    task: AbortHandle,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone, Debug)]
enum Link {
    Opening,
    Open(Arc<UdpSocket>),
    /// Why there is none for now.
    Closed(Arc<str>),
}

impl Relay {
    /// Wants one of the proxy. Needs a tokio runtime.
    pub(crate) fn open(binding: &Binding) -> io::Result<Relay> {
        let proxy = binding.proxy.as_ref().filter(|proxy| proxy.carries_datagrams());
        let proxy = proxy.ok_or_else(|| io::Error::other(ProxyError::NoDatagrams))?;
        let (tell, link) = watch::channel(Link::Opening);
        let task = tokio::spawn(keep_open(proxy.clone(), binding.clone(), tell)).abort_handle();
        Ok(Relay { link, task })
    }

    /// Waits until it can be sent from, which may be never.
    pub(crate) async fn opened(&self) {
        let is_open = |link: &Link| matches!(link, Link::Open(_));
        if self.link.clone().wait_for(is_open).await.is_err() {
            std::future::pending().await
        }
    }

    /// Waits until the proxy has granted it, or says why not.
    pub(super) async fn granted(&self) -> io::Result<()> {
        let mut link = self.link.clone();
        let is_known = |link: &Link| !matches!(link, Link::Opening);
        link.wait_for(is_known).await.map_err(io::Error::other)?;
        self.socket().map(drop)
    }

    /// Waits until it takes datagrams.
    pub(super) async fn writable(&self) -> io::Result<()> {
        match self.socket() {
            Ok(socket) => socket.writable().await,
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until something has come.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        let mut link = self.link.clone();
        loop {
            let socket = match &*link.borrow_and_update() {
                Link::Open(socket) => Some(Arc::clone(socket)),
                _ => None,
            };
            let readable = async {
                match &socket {
                    Some(socket) => socket.readable().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                result = readable => return result,
                changed = link.changed() => changed.map_err(io::Error::other)?,
            }
        }
    }

    /// Sends if that is possible at once.
    pub(crate) fn try_send_to(&self, datagram: &[u8], to: &Destination) -> io::Result<()> {
        let socket = self.socket()?;
        socket.try_send(&wrap(to, datagram).map_err(io::Error::other)?).map(drop)
    }

    /// Sends once the proxy grants it or says why not.
    async fn send(&self, datagram: &[u8], to: &Destination) -> io::Result<()> {
        self.granted().await?;
        let socket = self.socket()?;
        socket.send(&wrap(to, datagram).map_err(io::Error::other)?).await.map(drop)
    }

    /// Takes a datagram that has come: its length, and from whom, who may be [nobody known](is_unseen).
    pub(crate) fn try_recv_from(&self, into: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let socket = self.socket().map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))?;
        let mut received = vec![0; (into.len() + OVERHEAD_MAX).min(DATAGRAM_LEN_MAX)];
        let len = socket.try_recv(&mut received)?;
        let (from, datagram) = unwrap(&received[..len]).ok_or(io::ErrorKind::InvalidData)?;
        let len = datagram.len().min(into.len());
        into[..len].copy_from_slice(&datagram[..len]);
        Ok((len, from.unwrap_or(UNSEEN)))
    }

    fn socket(&self) -> io::Result<Arc<UdpSocket>> {
        match &*self.link.borrow() {
            Link::Open(socket) => Ok(Arc::clone(socket)),
            Link::Opening => Err(io::ErrorKind::NotConnected.into()),
            Link::Closed(why) => Err(dial::no_relay(why)),
        }
    }
}

/// Whether this stands for somebody whom only the proxy knows.
pub(crate) fn is_unseen(from: SocketAddr) -> bool {
    from == UNSEEN
}

/// Asks for a relay, again and again, for as long as somebody wants one.
async fn keep_open(proxy: ProxyHost, binding: Binding, tell: watch::Sender<Link>) {
    let mut pause = RETRY_AFTER;
    loop {
        let opened = tokio::time::timeout(ASSOCIATE_TIMEOUT, open(&proxy, &binding)).await;
        let why = match opened.unwrap_or_else(|late| Err(late.into())) {
            Ok((control, socket)) => {
                pause = RETRY_AFTER;
                tell.send_replace(Link::Open(Arc::new(socket)));
                ended(control).await;
                tracing::info!("the proxy has ended the relay of datagrams");
                // Whoever sends meanwhile waits for the next one.
                Link::Opening
            }
            Err(error) => {
                tracing::info!(%error, "no relay of datagrams");
                Link::Closed(error.to_string().into())
            }
        };
        tell.send_replace(why);
        tokio::time::sleep(pause).await;
        pause = RETRY_AFTER_MAX.min(2 * pause);
    }
}

async fn open(proxy: &ProxyHost, binding: &Binding) -> io::Result<(TcpStream, UdpSocket)> {
    let (control, relay) = dial::associate(proxy, binding).await?;
    let socket = socket::connect_udp(relay, binding)?;
    // Until the runtime has seen that it is, sending at once fails.
    socket.writable().await?;
    Ok((control, socket))
}

/// Waits until the connection that a relay lives by has ended. Nothing is said on it.
async fn ended(mut control: TcpStream) {
    let mut nothing = [0; 64];
    while control.read(&mut nothing).await.is_ok_and(|len| len > 0) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_at_which_nobody_listens_ends_the_wait() {
        let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let socket = DatagramSocket::connect(&closed.into(), &Binding::default()).unwrap();
        socket.send(b"hello", &closed.into()).await.unwrap();
        let mut buffer = [0; 8];
        let received = tokio::time::timeout(Duration::from_secs(10), socket.recv_from(&mut buffer)).await;
        let error = received.expect("the system says so at once").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}

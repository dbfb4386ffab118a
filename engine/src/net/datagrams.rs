//! A socket for datagrams, the system's or through the proxy.
//!
//! A SOCKS5 proxy relays datagrams for as long as a connection to it stands ([`associate`](super::dial)). A task of the socket's own asks
//! for that, and asks again whenever it has ended, by and by: the proxy may have been restarted. Until it has been granted, nothing is sent.
//!
//! Who shares one socket for several protocols (uTP and the DHT) takes one of these, too: [`try_send_to`](DatagramSocket::try_send_to) and
//! [`try_recv_from`](DatagramSocket::try_recv_from) are all that differs. Through a relay a datagram is up to 22 bytes longer.

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

/// A socket for datagrams.
#[derive(Debug)]
pub(crate) struct DatagramSocket(Form);

#[derive(Debug)]
enum Form {
    Direct(UdpSocket),
    Relayed(Relayed),
}

/// A relay, or the wish for one.
#[derive(Debug)]
struct Relayed {
    link: watch::Receiver<Link>,
    task: AbortHandle,
}

impl Drop for Relayed {
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

impl DatagramSocket {
    /// Opens one at this address for datagrams of everybody. With a proxy the address is of no meaning. Needs a tokio runtime.
    pub(crate) fn open(addr: SocketAddr, binding: &Binding) -> io::Result<DatagramSocket> {
        DatagramSocket::new(binding, || socket::udp(addr, binding.device.as_deref()))
    }

    /// Opens one for datagrams to and from one place. With a proxy others may come too. Needs a tokio runtime.
    pub(crate) fn connect(to: &Destination, binding: &Binding) -> io::Result<DatagramSocket> {
        DatagramSocket::new(binding, || match to {
            Destination::Addr(addr) => socket::connect_udp(*addr, binding),
            Destination::Name(..) => Err(io::ErrorKind::AddrNotAvailable.into()),
        })
    }

    fn new(binding: &Binding, direct: impl FnOnce() -> io::Result<UdpSocket>) -> io::Result<DatagramSocket> {
        match &binding.proxy {
            None => Ok(DatagramSocket(Form::Direct(direct()?))),
            Some(proxy) if !proxy.carries_datagrams() => Err(io::Error::other(ProxyError::NoDatagrams)),
            Some(proxy) => {
                let (tell, link) = watch::channel(Link::Opening);
                let task = tokio::spawn(keep_open(proxy.clone(), binding.clone(), tell)).abort_handle();
                Ok(DatagramSocket(Form::Relayed(Relayed { link, task })))
            }
        }
    }

    /// Our own address; none through a proxy.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match &self.0 {
            Form::Direct(socket) => socket.local_addr().ok(),
            Form::Relayed(_) => None,
        }
    }

    /// Whether it goes through a proxy.
    pub(crate) fn is_relayed(&self) -> bool {
        matches!(self.0, Form::Relayed(_))
    }

    /// Waits until it can be sent from. Through a proxy that may be never.
    pub(crate) async fn opened(&self) {
        match &self.0 {
            Form::Direct(socket) => drop(socket.writable().await),
            Form::Relayed(relayed) => {
                let is_open = |link: &Link| matches!(link, Link::Open(_));
                if relayed.link.clone().wait_for(is_open).await.is_err() {
                    std::future::pending().await
                }
            }
        }
    }

    /// Waits until something has come.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        let relayed = match &self.0 {
            Form::Direct(socket) => return socket.readable().await,
            Form::Relayed(relayed) => relayed,
        };
        let mut link = relayed.link.clone();
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
        match (&self.0, to) {
            (Form::Direct(socket), Destination::Addr(addr)) => socket.try_send_to(datagram, *addr).map(drop),
            (Form::Direct(_), Destination::Name(..)) => Err(io::ErrorKind::AddrNotAvailable.into()),
            (Form::Relayed(relayed), to) => {
                let socket = relayed.socket()?;
                socket.try_send(&wrap(to, datagram).map_err(io::Error::other)?).map(drop)
            }
        }
    }

    /// Sends from a socket that is connected to `to`; through a proxy, once it grants a relay or says why not.
    pub(crate) async fn send(&self, datagram: &[u8], to: &Destination) -> io::Result<()> {
        match &self.0 {
            Form::Direct(socket) => socket.send(datagram).await.map(drop),
            Form::Relayed(relayed) => {
                let mut link = relayed.link.clone();
                let is_known = |link: &Link| !matches!(link, Link::Opening);
                link.wait_for(is_known).await.map_err(io::Error::other)?;
                let socket = relayed.socket()?;
                socket.send(&wrap(to, datagram).map_err(io::Error::other)?).await.map(drop)
            }
        }
    }

    /// Takes a datagram that has come: its length, and from whom. Through a proxy that may be [nobody known](is_unseen).
    pub(crate) fn try_recv_from(&self, into: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        match &self.0 {
            Form::Direct(socket) => socket.try_recv_from(into),
            Form::Relayed(relayed) => {
                let socket = relayed.socket().map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))?;
                let mut received = vec![0; (into.len() + OVERHEAD_MAX).min(DATAGRAM_LEN_MAX)];
                let len = socket.try_recv(&mut received)?;
                let (from, datagram) = unwrap(&received[..len]).ok_or(io::ErrorKind::InvalidData)?;
                let len = datagram.len().min(into.len());
                into[..len].copy_from_slice(&datagram[..len]);
                Ok((len, from.unwrap_or(UNSEEN)))
            }
        }
    }
}

/// Whether this stands for somebody whom only the proxy knows.
pub(crate) fn is_unseen(from: SocketAddr) -> bool {
    from == UNSEEN
}

impl Relayed {
    fn socket(&self) -> io::Result<Arc<UdpSocket>> {
        match &*self.link.borrow() {
            Link::Open(socket) => Ok(Arc::clone(socket)),
            Link::Opening => Err(io::ErrorKind::NotConnected.into()),
            Link::Closed(why) => Err(io::Error::other(why.to_string())),
        }
    }
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

//! Dialling over TCP, through the proxy if there is one: then nothing goes another way, and if the proxy is gone, nothing goes.

use super::names;
use super::socket::{self, Binding, ProxyHost};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use swarm_core::proxy::{Destination, Handshake, ProxyError, Relay};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How much of a proxy's answer is read at once, in bytes.
const READ_LEN_MAX: usize = 512;

/// Why a proxy did not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum ProxyFailure {
    /// There is no connection to it, or no longer.
    #[error("the proxy {0} cannot be reached: {1}")]
    Unreachable(String, io::Error),
    /// It says no.
    #[error(transparent)]
    Refused(#[from] ProxyError),
    /// It relays no datagrams for now.
    #[error("{0}")]
    NoRelay(Arc<str>),
}

/// The proxy relays no datagrams, for this reason.
pub(super) fn no_relay(why: &Arc<str>) -> io::Error {
    ProxyFailure::NoRelay(Arc::clone(why)).into()
}

impl From<ProxyFailure> for io::Error {
    fn from(failure: ProxyFailure) -> io::Error {
        io::Error::other(failure)
    }
}

/// What is wrong with the proxy, if a dial failed for that and not for whom it was to reach.
pub(crate) fn proxy_error(error: &io::Error) -> Option<String> {
    let failure = error.get_ref()?.downcast_ref::<ProxyFailure>()?;
    match failure {
        ProxyFailure::Refused(error) if error.is_about_destination() => None,
        trouble => Some(trouble.to_string()),
    }
}

/// Connects over TCP. A name can be reached through a proxy only: without one it is looked up before.
pub(crate) async fn connect_tcp(to: &Destination, binding: &Binding) -> io::Result<TcpStream> {
    match (&binding.proxy, to) {
        (Some(proxy), to) => {
            let asked = Handshake::connect(&proxy.proxy, to).map_err(ProxyFailure::Refused)?;
            Ok(ask(proxy, asked, binding).await?.0)
        }
        (None, Destination::Addr(addr)) => socket::connect_tcp(*addr, binding).await,
        (None, Destination::Name(..)) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

/// Asks the proxy for a relay of datagrams: the connection for whose life there is one, and its address.
pub(super) async fn associate(proxy: &ProxyHost, binding: &Binding) -> io::Result<(TcpStream, SocketAddr)> {
    let asked = Handshake::associate(&proxy.proxy).map_err(ProxyFailure::Refused)?;
    let (stream, relay) = ask(proxy, asked, binding).await?;
    let relay = relay.ok_or(ProxyFailure::Refused(ProxyError::Malformed))?;
    let ip = match relay.ip {
        Some(ip) => ip,
        None => stream.peer_addr()?.ip(),
    };
    Ok((stream, SocketAddr::new(ip, relay.port)))
}

async fn ask(
    proxy: &ProxyHost,
    mut asked: Handshake,
    binding: &Binding,
) -> io::Result<(TcpStream, Option<Relay>)> {
    let unreachable = |error: io::Error| match socket::is_local_error(&error) {
        true => error,
        false => ProxyFailure::Unreachable(proxy.proxy.to_string(), error).into(),
    };
    let mut stream = reach(proxy, binding).await.map_err(unreachable)?;
    let mut buffer = [0; READ_LEN_MAX];
    loop {
        if let Some(output) = asked.poll_output() {
            stream.write_all(&output).await.map_err(unreachable)?;
        }
        let wanted = asked.wanted().min(READ_LEN_MAX);
        if wanted == 0 {
            return Ok((stream, asked.relay()));
        }
        let len = match stream.read(&mut buffer[..wanted]).await.map_err(unreachable)? {
            // Some say no by hanging up.
            0 if asked.is_asked() => return Err(ProxyFailure::Refused(ProxyError::Failed(0)).into()),
            0 => return Err(unreachable(io::ErrorKind::UnexpectedEof.into())),
            len => len,
        };
        asked.handle_bytes(&buffer[..len]).map_err(ProxyFailure::Refused)?;
    }
}

/// Connects to the proxy itself.
async fn reach(proxy: &ProxyHost, binding: &Binding) -> io::Result<TcpStream> {
    let known = || *proxy.found.lock().unwrap_or_else(PoisonError::into_inner);
    let learn = |addr| *proxy.found.lock().unwrap_or_else(PoisonError::into_inner) = addr;
    let (host, port) = match proxy.proxy.place() {
        Destination::Addr(addr) => return socket::connect_tcp(addr, binding).await,
        Destination::Name(host, port) => (host, port),
    };
    if let Some(addr) = known() {
        let stream = socket::connect_tcp(addr, binding).await;
        if stream.is_err() {
            // It may have moved.
            learn(None);
        }
        return stream;
    }
    let mut last = Err(io::ErrorKind::AddrNotAvailable.into());
    for addr in names::look_up_proxy(&host, port).await? {
        last = socket::connect_tcp(addr, binding).await;
        if last.is_ok() {
            learn(Some(addr));
            break;
        }
    }
    last
}

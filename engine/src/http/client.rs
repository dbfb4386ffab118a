//! Sending a request. Strangers may have named the server, so it is left when it talks on and on: a connection
//! may deliver so many bytes until the head of the answer is whole (there may be any number of interim ones
//! before it), and so many more for the body ([`Bounded`]).

use super::bounded::{Allowance, Bounded};
use super::{AGENT, HttpError, Reply, Request, UNSEEN, failed, root_cause, tls};
use crate::net::dial::connect_tcp;
use crate::net::socket::Binding;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use rustls::pki_types::ServerName;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use swarm_core::proxy::Destination;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use url::{Host, Position, Url};

/// How long an address is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one address family is tried alone before the other is tried too.
const HEAD_START: Duration = Duration::from_millis(300);
/// Longest head of an answer, in bytes, with all interim answers before it.
pub(super) const HEAD_LEN_MAX: usize = 64 * 1024;

/// Asks one of these addresses, whatever the host's name, and nobody else.
pub(super) async fn send(request: &Request<'_>, url: &Url, to: Vec<Destination>) -> Result<Reply, HttpError> {
    let connected = connect(to, request.binding).await;
    let (stream, server) = connected.map_err(|e| failed(format!("cannot connect: {}", root_cause(&e))))?;
    let body_len_max = request.body_len_max;
    if url.scheme() == "https" {
        let name = match url.host() {
            Some(Host::Domain(name)) => ServerName::try_from(name.to_owned()).map_err(failed)?,
            Some(Host::Ipv4(ip)) => ServerName::from(IpAddr::from(ip)),
            Some(Host::Ipv6(ip)) => ServerName::from(IpAddr::from(ip)),
            None => return Err(failed("the URL names no host")),
        };
        let connector = TlsConnector::from(Arc::new(tls().await?));
        let stream = connector.connect(name, stream).await.map_err(|e| root_cause(&e))?;
        talk(stream, server, url, body_len_max).await
    } else {
        talk(stream, server, url, body_len_max).await
    }
}

async fn talk<S>(stream: S, server: SocketAddr, url: &Url, body_len_max: usize) -> Result<Reply, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let allowance = Allowance::new(HEAD_LEN_MAX);
    let (read, write) = tokio::io::split(stream);
    let io = TokioIo::new(tokio::io::join(Bounded::new(read, allowance.clone()), write));
    let handshake = http1::Builder::new().max_buf_size(HEAD_LEN_MAX).handshake(io).await;
    let (mut sender, connection) = handshake.map_err(|e| root_cause(&e))?;
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let mut get = hyper::Request::get(&url[Position::BeforePath..Position::AfterQuery])
        .header(HOST, &url[Position::BeforeHost..Position::AfterPort])
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, "*/*")
        .header(ACCEPT_ENCODING, "gzip")
        .header(CONNECTION, "close");
    if !url.username().is_empty() || url.password().is_some() {
        let plain = |text| percent_decode_str(text).collect::<Vec<u8>>();
        let name = [plain(url.username()), b":".to_vec(), plain(url.password().unwrap_or(""))].concat();
        get = get.header(AUTHORIZATION, format!("Basic {}", BASE64_STANDARD.encode(name)));
    }
    let get = get.body(Empty::<Bytes>::new()).map_err(failed)?;
    let response = sender.send_request(get).await.map_err(|e| root_cause(&e))?;
    // What each byte of a body takes at most in chunks of one byte.
    allowance.add(body_len_max.saturating_mul(6));
    Ok(Reply { response, server, _connection: connections })
}

/// Connects through the proxy, if there is one, or to one of these addresses. Also says who is there, as far as we know.
async fn connect(to: Vec<Destination>, binding: &Binding) -> io::Result<(TcpStream, SocketAddr)> {
    if binding.proxy.is_some() {
        let to = to.first().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let stream = connect_tcp(to, binding).await?;
        return Ok((stream, to.addr().unwrap_or(UNSEEN)));
    }
    let stream = connect_directly(to.iter().filter_map(Destination::addr).collect(), binding).await?;
    let server = stream.peer_addr()?;
    Ok((stream, server))
}

/// Connects to the first of these addresses that can be connected to; after a while also to those of the
/// other family.
async fn connect_directly(mut addrs: Vec<SocketAddr>, binding: &Binding) -> io::Result<TcpStream> {
    // With a source address of one family, the server's addresses of the other are left out.
    if let Some(from) = addrs.iter().find_map(|addr| binding.source_ip(addr.ip())) {
        addrs.retain(|addr| addr.is_ipv4() == from.is_ipv4());
    }
    let is_v4 = addrs.first().is_some_and(SocketAddr::is_ipv4);
    let (first, other): (Vec<_>, Vec<_>) = addrs.into_iter().partition(|addr| addr.is_ipv4() == is_v4);
    if other.is_empty() {
        return dial_any(&first, binding).await;
    }
    let mut first = pin!(dial_any(&first, binding));
    let mut other = pin!(async {
        tokio::time::sleep(HEAD_START).await;
        dial_any(&other, binding).await
    });
    tokio::select! {
        Ok(stream) = &mut first => Ok(stream),
        Ok(stream) = &mut other => Ok(stream),
        else => Err(io::ErrorKind::HostUnreachable.into()),
    }
}

async fn dial_any(addrs: &[SocketAddr], binding: &Binding) -> io::Result<TcpStream> {
    let mut last = Err(io::ErrorKind::AddrNotAvailable.into());
    for &addr in addrs {
        let dialled = tokio::time::timeout(CONNECT_TIMEOUT, connect_tcp(&addr.into(), binding)).await;
        last = dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if last.is_ok() {
            break;
        }
    }
    last
}

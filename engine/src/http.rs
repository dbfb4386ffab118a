//! Fetching over HTTP: metainfo files and tracker replies.
//!
//! Whoever writes a URL, and whoever answers for a host's name, may be anybody. So each request goes
//! in three steps: the host is looked up, its addresses are checked ([`check_address`]), and a
//! client that knows no others connects to one of them. A name cannot lead to one address when it is
//! checked and to another when it is used. Redirects are followed here, by the same steps, and no
//! connection outlives its request: what was checked for one URL does not serve another.
//!
//! A server that talks on and on is left: a connection may deliver so many bytes until the head of the answer is whole
//! (there may be any number of interim ones before it), and so many more for the body ([`Bounded`]).
//!
//! Everything is made when first needed, so that a run without HTTP starts instantly.

mod bounded;

use self::bounded::{Allowance, Bounded};
use crate::Error;
use crate::net::socket::{dial, local_ip};
use crate::session::SessionOptions;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, HOST, LOCATION, USER_AGENT,
};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use swarm_core::tracker::Family;
use swarm_core::tracker::access::{Forbidden, UrlOrigin, check_address};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use url::{Host, Position, Url};

/// How long fetching a file may take in all.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);
/// How long one address family is tried alone before the other is tried too.
const HEAD_START: Duration = Duration::from_millis(300);
/// Longest head of an answer, in bytes, with all interim answers before it.
const HEAD_LEN_MAX: usize = 64 * 1024;
/// How many redirects are followed.
const REDIRECTS_MAX: usize = 5;

/// What to fetch, on which ways, and at what cost.
pub(crate) struct Request<'a> {
    pub url: Url,
    /// Who named the URL, which decides where it may lead.
    pub origin: UrlOrigin,
    /// The one address family to use; `None`: whichever works.
    pub family: Option<Family>,
    /// Whose addresses and device connections leave from.
    pub options: &'a SessionOptions,
    /// For everything: looking up, connecting, redirects, the whole body.
    pub timeout: Duration,
    /// Longest body, in bytes, after decompression.
    pub body_len_max: usize,
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub body: Vec<u8>,
    /// The server's address.
    pub server: SocketAddr,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("the server has no {0} address")]
    NoAddress(Family),
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    #[error("{0}")]
    Failed(String),
}

fn failed(what: impl ToString) -> HttpError {
    HttpError::Failed(what.to_string())
}

/// Sends a GET request and follows redirects, at most [`REDIRECTS_MAX`]. Needs a tokio runtime.
pub(crate) async fn get(request: &Request<'_>) -> Result<Answer, HttpError> {
    let answer = tokio::time::timeout(request.timeout, follow(request)).await;
    answer.unwrap_or_else(|_| Err(failed("no answer in time")))
}

async fn follow(request: &Request<'_>) -> Result<Answer, HttpError> {
    let mut url = request.url.clone();
    let mut redirected_from = None;
    for _ in 0..=REDIRECTS_MAX {
        let found = look_up(&url).await?;
        let addrs = allowed(request, &url, redirected_from, &found)?;
        let Reply { response, server, _connection } = send(request, &url, addrs).await?;
        match redirect(&url, &response)? {
            Some(next) => (url, redirected_from) = (next, Some(server.ip())),
            None => {
                let status = response.status();
                return Ok(Answer { status, body: body(response, request.body_len_max).await?, server });
            }
        }
    }
    Err(failed(format!("more than {REDIRECTS_MAX} redirects")))
}

/// The head of an answer, and what its body comes from.
struct Reply {
    response: Response<Incoming>,
    server: SocketAddr,
    /// Ends when this is dropped.
    _connection: JoinSet<hyper::Result<()>>,
}

/// Asks one of these addresses, whatever the host's name, and nobody else.
async fn send(request: &Request<'_>, url: &Url, addrs: Vec<SocketAddr>) -> Result<Reply, HttpError> {
    let stream = connect(addrs, request.options).await.map_err(|e| failed(chain(&e)))?;
    let server = stream.peer_addr().map_err(failed)?;
    let body_len_max = request.body_len_max;
    if url.scheme() == "https" {
        let name = match url.host() {
            Some(Host::Domain(name)) => ServerName::try_from(name.to_owned()).map_err(failed)?,
            Some(Host::Ipv4(ip)) => ServerName::from(IpAddr::from(ip)),
            Some(Host::Ipv6(ip)) => ServerName::from(IpAddr::from(ip)),
            None => return Err(failed("the URL names no host")),
        };
        let connector = TlsConnector::from(Arc::new(tls().await?));
        let stream = connector.connect(name, stream).await.map_err(|e| failed(chain(&e)))?;
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
    let io = TokioIo::new(Bounded::new(stream, allowance.clone()));
    let handshake = http1::Builder::new().max_buf_size(HEAD_LEN_MAX).handshake(io).await;
    let (mut sender, connection) = handshake.map_err(|e| failed(chain(&e)))?;
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let mut get = hyper::Request::get(&url[Position::BeforePath..Position::AfterQuery])
        .header(HOST, &url[Position::BeforeHost..Position::AfterPort])
        .header(USER_AGENT, concat!("Swarm/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "*/*")
        .header(ACCEPT_ENCODING, "gzip")
        .header(CONNECTION, "close");
    if !url.username().is_empty() || url.password().is_some() {
        let plain = |text| percent_decode_str(text).collect::<Vec<u8>>();
        let name = [plain(url.username()), b":".to_vec(), plain(url.password().unwrap_or(""))].concat();
        get = get.header(AUTHORIZATION, format!("Basic {}", BASE64_STANDARD.encode(name)));
    }
    let get = get.body(Empty::<Bytes>::new()).map_err(failed)?;
    let response = sender.send_request(get).await.map_err(|e| failed(chain(&e)))?;
    // What each byte of a body takes at most in chunks of one byte.
    allowance.add(body_len_max.saturating_mul(6));
    Ok(Reply { response, server, _connection: connections })
}

/// Connects to the first of these addresses that can be connected to; after a while also to those of the other family.
async fn connect(mut addrs: Vec<SocketAddr>, options: &SessionOptions) -> io::Result<TcpStream> {
    // With a source address of one family, the server's addresses of the other are left out.
    if let Some(from) = addrs.iter().find_map(|addr| local_ip(&options.listen, addr.ip())) {
        addrs.retain(|addr| addr.is_ipv4() == from.is_ipv4());
    }
    let is_v4 = addrs.first().is_some_and(SocketAddr::is_ipv4);
    let (first, other): (Vec<_>, Vec<_>) = addrs.into_iter().partition(|addr| addr.is_ipv4() == is_v4);
    if other.is_empty() {
        return dial_any(&first, options).await;
    }
    let mut first = pin!(dial_any(&first, options));
    let mut other = pin!(async {
        tokio::time::sleep(HEAD_START).await;
        dial_any(&other, options).await
    });
    tokio::select! {
        Ok(stream) = &mut first => Ok(stream),
        Ok(stream) = &mut other => Ok(stream),
        else => Err(io::ErrorKind::HostUnreachable.into()),
    }
}

async fn dial_any(addrs: &[SocketAddr], options: &SessionOptions) -> io::Result<TcpStream> {
    let mut last = Err(io::ErrorKind::AddrNotAvailable.into());
    for &addr in addrs {
        last = dial(addr, options).await;
        if last.is_ok() {
            break;
        }
    }
    last
}

/// Where a request leads that is not made over HTTP: addresses that may be connected to, at least one.
pub(crate) async fn addresses(request: &Request<'_>) -> Result<Vec<SocketAddr>, HttpError> {
    let found = tokio::time::timeout(request.timeout, look_up(&request.url)).await;
    let found = found.unwrap_or_else(|_| Err(failed("the host's name is not answered for in time")))?;
    allowed(request, &request.url, None, &found)
}

/// The addresses of a URL's host.
async fn look_up(url: &Url) -> Result<Vec<SocketAddr>, HttpError> {
    let port = url.port_or_known_default().ok_or_else(|| failed("the URL names no port"))?;
    match url.host() {
        Some(Host::Ipv4(ip)) => Ok(vec![(ip, port).into()]),
        Some(Host::Ipv6(ip)) => Ok(vec![(ip, port).into()]),
        Some(Host::Domain(name)) => {
            Ok(tokio::net::lookup_host((name, port)).await.map_err(failed)?.collect())
        }
        None => Err(failed("the URL names no host")),
    }
}

/// Those of a host's addresses that may be connected to.
fn allowed(
    request: &Request<'_>,
    url: &Url,
    redirected_from: Option<IpAddr>,
    found: &[SocketAddr],
) -> Result<Vec<SocketAddr>, HttpError> {
    let mut addrs = found.to_vec();
    if let Some(family) = request.family {
        addrs.retain(|addr| Family::of_ip(addr.ip()) == family);
        if addrs.is_empty() {
            return Err(HttpError::NoAddress(family));
        }
    }
    let mut forbidden = None;
    addrs.retain(|addr| {
        let verdict = check_address(url, request.origin, addr.ip(), redirected_from);
        verdict.map_err(|reason| forbidden = Some(reason)).is_ok()
    });
    match forbidden {
        Some(reason) if addrs.is_empty() => Err(reason.into()),
        _ if addrs.is_empty() => Err(failed("the server has no address")),
        _ => Ok(addrs),
    }
}

/// Whom to trust: the system's authorities, read once.
async fn tls() -> Result<ClientConfig, HttpError> {
    static SYSTEM: OnceCell<ClientConfig> = OnceCell::const_new();
    let read = || {
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_platform_verifier())
            .map(|builder| builder.with_no_client_auth())
    };
    let config = SYSTEM.get_or_try_init(|| async {
        // Hundreds of certificates are read and parsed.
        tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?.map_err(io::Error::other)
    });
    config.await.cloned().map_err(failed)
}

/// Where a response sends us, if it does.
fn redirect(url: &Url, response: &Response<Incoming>) -> Result<Option<Url>, HttpError> {
    use StatusCode as S;
    let status = response.status();
    let moved = [S::MOVED_PERMANENTLY, S::FOUND, S::SEE_OTHER, S::TEMPORARY_REDIRECT, S::PERMANENT_REDIRECT];
    let Some(location) = response.headers().get(LOCATION).filter(|_| moved.contains(&status)) else {
        return Ok(None);
    };
    let next = location.to_str().ok().and_then(|location| url.join(location).ok());
    let next = next.ok_or_else(|| failed("it redirects to what is not a URL"))?;
    match next.scheme() {
        "http" | "https" => Ok(Some(next)),
        other => Err(failed(format!("it redirects to a {other}: URL, which is not http: or https:"))),
    }
}

/// The body of a response, if it is not longer than `limit` bytes, before decompression and after.
async fn body(response: Response<Incoming>, limit: usize) -> Result<Vec<u8>, HttpError> {
    let too_long = |len: &str| failed(format!("the answer{len} is longer than {limit} bytes"));
    let is_gzip = response.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
    let mut body = response.into_body();
    if let Some(len) = body.size_hint().exact().filter(|&len| len > limit as u64) {
        return Err(too_long(&format!(" of {len} bytes")));
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(|e| failed(chain(&e)))?.into_data() else { continue };
        if bytes.len() + chunk.len() > limit {
            return Err(too_long(""));
        }
        bytes.extend_from_slice(&chunk);
    }
    if !is_gzip || bytes.is_empty() {
        return Ok(bytes);
    }
    let mut plain = Vec::new();
    let decoder = MultiGzDecoder::new(&bytes[..]);
    decoder.take(limit as u64 + 1).read_to_end(&mut plain).map_err(|e| failed(chain(&e)))?;
    if plain.len() > limit { Err(too_long("")) } else { Ok(plain) }
}

/// An error and what caused it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}

/// Fetches a file over HTTP or HTTPS, at most `limit` bytes after decompression, within a minute.
/// Connections leave from the addresses and the device of a session with these options. Redirects are
/// followed, but from a public address to none of this machine or network. Needs a tokio runtime.
///
/// # Errors
/// [`Error::Fetch`] with what went wrong.
pub async fn fetch(url: &Url, limit: usize, options: &SessionOptions) -> Result<Vec<u8>, Error> {
    let request = Request {
        url: url.clone(),
        origin: UrlOrigin::Typed,
        family: None,
        options,
        timeout: FETCH_TIMEOUT,
        body_len_max: limit,
    };
    let answer = get(&request).await.and_then(|answer| match answer.status {
        StatusCode::OK => Ok(answer.body),
        status => Err(failed(format!("the server answered {status}"))),
    });
    answer.map_err(|error| Error::Fetch { url: url.to_string(), reason: error.to_string() })
}

#[cfg(test)]
mod tests;

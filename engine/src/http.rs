//! Fetching over HTTP: metainfo files and tracker replies.
//!
//! Whoever writes a URL, and whoever answers for a host's name, may be anybody. So each request goes
//! in three steps: the host is looked up, its addresses are checked ([`check_address`]), and a
//! client that knows no others connects to one of them. A name cannot lead to one address when it is
//! checked and to another when it is used. Redirects are followed here, by the same steps, and no
//! connection outlives its request: what was checked for one URL does not serve another.
//!
//! Trackers and whoever serves a file are asked by a client of our own that bounds each byte a server may deliver
//! ([`client`]).
//!
//! With a proxy a name goes to it as it is, and where it leads is the proxy's business: addresses in URLs are checked as before, of names
//! only those that mean the proxy's own machine are refused to strangers.
//!
//! Everything is made when first needed, so that a run without HTTP starts instantly.

mod bounded;
mod client;
pub(crate) mod webseed;

use crate::Error;
use crate::net::names;
use crate::net::socket::Binding;
use flate2::bufread::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, LOCATION};
use hyper::{Response, StatusCode};
use rustls::crypto::ring;
use rustls::{ClientConfig, ConfigBuilder, WantsVerifier};
use rustls_platform_verifier::BuilderVerifierExt;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use swarm_core::ip_filter::IpFilter;
use swarm_core::net::Family;
use swarm_core::proxy::Destination;
use swarm_core::tracker::access::{Forbidden, UrlOrigin, check_address, check_public_address};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use url::Url;

/// How long fetching a file may take in all.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);
/// How many redirects are followed.
const REDIRECTS_MAX: usize = 5;
/// Stands for a server that only the proxy knows: an address of nobody, and no local one.
pub(crate) const UNSEEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 0)), 0);
/// The User-Agent.
const AGENT: &str = concat!("Swarm/", env!("CARGO_PKG_VERSION"));

/// What to fetch, on which ways, and at what cost.
pub(crate) struct Request<'a> {
    pub url: Url,
    /// Who named the URL, which decides where it may lead.
    pub origin: UrlOrigin,
    /// Whether it may lead to public addresses only, whoever named it.
    pub public_only: bool,
    /// The one address family to use; `None`: whichever works.
    pub family: Option<Family>,
    /// Addresses that are not connected to.
    pub filter: Arc<IpFilter>,
    /// The addresses and the device that connections leave from.
    pub binding: &'a Binding,
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
    /// The server's address; with a proxy, if the URL has one.
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

/// The head of an answer, and what its body comes from.
struct Reply {
    response: Response<Incoming>,
    server: SocketAddr,
    /// Ends when this is dropped.
    _connection: JoinSet<hyper::Result<()>>,
}

/// Sends a GET request and follows redirects, at most [`REDIRECTS_MAX`]. Needs a tokio runtime.
pub(crate) async fn get(request: &Request<'_>) -> Result<Answer, HttpError> {
    let follow = async {
        let mut url = request.url.clone();
        let mut redirected_from = None;
        for _ in 0..=REDIRECTS_MAX {
            let to = places(request, &url, redirected_from).await?;
            let Reply { response, server, _connection } = client::send(request, &url, to).await?;
            match redirect(&url, &response)? {
                Some(next) => (url, redirected_from) = (next, Some(server.ip())),
                None => {
                    let status = response.status();
                    return Ok(Answer { status, body: body(response, request.body_len_max).await?, server });
                }
            }
        }
        Err(failed(format!("more than {REDIRECTS_MAX} redirects")))
    };
    let answer = tokio::time::timeout(request.timeout, follow).await;
    answer.unwrap_or_else(|_| Err(failed("no answer in time")))
}

/// Where a request leads that is not made over HTTP: what may be connected to, at least one place.
pub(crate) async fn destinations(request: &Request<'_>) -> Result<Vec<Destination>, HttpError> {
    let found = tokio::time::timeout(request.timeout, places(request, &request.url, None)).await;
    found.unwrap_or_else(|_| Err(failed("the host's name is not answered for in time")))
}

/// Where a URL leads, as far as one may go there: addresses, or, for the proxy, a name.
async fn places(
    request: &Request<'_>,
    url: &Url,
    redirected_from: Option<IpAddr>,
) -> Result<Vec<Destination>, HttpError> {
    let to = Destination::of_url(url).ok_or_else(|| match url.host() {
        None => failed("the URL names no host"),
        Some(_) => failed("the URL names no port"),
    })?;
    let found = match to {
        Destination::Addr(addr) => vec![addr],
        name if request.binding.proxy.is_some() => {
            let origin = if request.public_only { UrlOrigin::Metainfo } else { request.origin };
            check_name(&name, origin, redirected_from)?;
            return Ok(vec![name]);
        }
        Destination::Name(name, port) => {
            let found = names::look_up(&name, port, request.binding).await;
            found.map_err(|e| failed(format!("cannot resolve {name}: {e}")))?
        }
    };
    let addrs = allowed(request, url, redirected_from, &found)?;
    Ok(addrs.into_iter().map(Destination::Addr).collect())
}

/// A stranger's URL, or a redirect, does not lead to the proxy's own machine.
fn check_name(
    name: &Destination,
    origin: UrlOrigin,
    redirected_from: Option<IpAddr>,
) -> Result<(), HttpError> {
    let is_strangers = origin != UrlOrigin::Typed || redirected_from.is_some();
    match name.is_localhost() && is_strangers {
        true => Err(failed(format!("{name} is the proxy itself"))),
        false => Ok(()),
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
        let ip = addr.ip();
        let verdict = match request.filter.is_blocked(ip) {
            true => Err(Forbidden::Blocked(ip)),
            false => check_address(url, request.origin, ip, redirected_from),
        };
        let verdict =
            verdict.and_then(|()| if request.public_only { check_public_address(ip) } else { Ok(()) });
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
    let read = || Ok::<_, rustls::Error>(tls_builder()?.with_platform_verifier()?.with_no_client_auth());
    let config = SYSTEM.get_or_try_init(|| async {
        // Hundreds of certificates are read and parsed.
        tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?.map_err(io::Error::other)
    });
    config.await.cloned().map_err(failed)
}

fn tls_builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
}

/// Where a response sends us, if it does.
fn redirect(url: &Url, response: &Response<Incoming>) -> Result<Option<Url>, HttpError> {
    use StatusCode as S;
    let status = response.status();
    let redirects =
        [S::MOVED_PERMANENTLY, S::FOUND, S::SEE_OTHER, S::TEMPORARY_REDIRECT, S::PERMANENT_REDIRECT];
    let Some(location) = response.headers().get(LOCATION).filter(|_| redirects.contains(&status)) else {
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
        let Ok(chunk) = frame.map_err(|e| root_cause(&e))?.into_data() else { continue };
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
    decoder.take(limit as u64 + 1).read_to_end(&mut plain).map_err(failed)?;
    if plain.len() > limit { Err(too_long("")) } else { Ok(plain) }
}

/// What caused an error in the end: libraries wrap that in words of their own, such as "client error
/// (Connect)".
fn root_cause(error: &(dyn std::error::Error + 'static)) -> HttpError {
    failed(std::iter::successors(Some(error), |error| error.source()).last().unwrap_or(error))
}

/// Fetches a file over HTTP or HTTPS, at most `limit` bytes after decompression, within a minute. Redirects
/// are followed, but from a public address to none of this machine or network. With `public_only` nothing there is asked at all. Needs a
/// tokio runtime.
pub(crate) async fn fetch(
    url: &Url,
    limit: usize,
    public_only: bool,
    binding: &Binding,
) -> Result<Vec<u8>, Error> {
    let request = Request {
        url: url.clone(),
        origin: UrlOrigin::Typed,
        public_only,
        family: None,
        filter: Arc::default(),
        binding,
        timeout: FETCH_TIMEOUT,
        body_len_max: limit,
    };
    let answer = get(&request).await.and_then(|answer| match answer.status {
        StatusCode::OK => Ok(answer.body),
        status => Err(failed(format!("the server answered {status}"))),
    });
    answer.map_err(|error| match error {
        HttpError::Forbidden(Forbidden::Local(ip)) => Error::LocalAddress { url: url.to_string(), ip },
        error => Error::Fetch { url: url.to_string(), source: Arc::new(error) },
    })
}

#[cfg(test)]
mod tests;

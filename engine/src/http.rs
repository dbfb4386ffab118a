//! Fetching over HTTP: metainfo files and tracker replies.
//!
//! Whoever writes a URL, and whoever answers for a host's name, may be anybody. So each request goes
//! in three steps: the host is looked up, its addresses are checked ([`check_address`]), and a
//! client that knows no others connects to one of them. A name cannot lead to one address when it is
//! checked and to another when it is used. Redirects are followed here, by the same steps, and no
//! connection outlives its request: what was checked for one URL does not serve another.
//!
//! Everything is made when first needed, so that a run without HTTP starts instantly.

use crate::Error;
use crate::net::socket::local_ip;
use crate::session::SessionOptions;
use reqwest::header::LOCATION;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, dns};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use swarm_core::tracker::Family;
use swarm_core::tracker::access::{Forbidden, UrlOrigin, check_address};
use tokio::sync::OnceCell;
use url::{Host, Url};

/// How long fetching a file may take in all.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
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
        let response = send(request, &url, redirected_from).await?;
        let server = response.remote_addr().ok_or_else(|| failed("the server has no address"))?;
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

async fn send(
    request: &Request<'_>,
    url: &Url,
    redirected_from: Option<IpAddr>,
) -> Result<Response, HttpError> {
    let found = look_up(url).await?;
    let addrs = allowed(request, url, redirected_from, &found)?;
    let client = client(request, url, addrs).await?;
    client.get(url.clone()).send().await.map_err(|e| failed(chain(&e)))
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

/// A client that connects to one of these addresses, whatever the host's name, and to nothing else.
async fn client(request: &Request<'_>, url: &Url, addrs: Vec<SocketAddr>) -> Result<Client, HttpError> {
    // With a source address of one family, the server's addresses of the other are left out.
    let from = addrs.iter().find_map(|addr| local_ip(&request.options.listen, addr.ip()));
    let builder = Client::builder()
        .user_agent(concat!("Swarm/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(Policy::none())
        .pool_max_idle_per_host(0)
        .local_address(from)
        .dns_resolver(Known(addrs))
        .tls_backend_preconfigured(tls(url).await?)
        .no_proxy();
    // Elsewhere a session with a device does not start.
    #[cfg(target_os = "linux")]
    let builder = match &request.options.bind_device {
        Some(device) => builder.interface(device),
        None => builder,
    };
    builder.build().map_err(|e| failed(chain(&e)))
}

/// Answers every question with the addresses that were looked up before.
struct Known(Vec<SocketAddr>);

impl dns::Resolve for Known {
    fn resolve(&self, _: dns::Name) -> dns::Resolving {
        let addrs: dns::Addrs = Box::new(self.0.clone().into_iter());
        Box::pin(std::future::ready(Ok(addrs)))
    }
}

/// Whom to trust: the system's authorities, read once, and not at all for what is not encrypted.
async fn tls(url: &Url) -> Result<ClientConfig, HttpError> {
    static SYSTEM: OnceCell<ClientConfig> = OnceCell::const_new();
    let builder = || {
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
    };
    if url.scheme() != "https" {
        let nobody = builder().map_err(failed)?.with_root_certificates(RootCertStore::empty());
        return Ok(nobody.with_no_client_auth());
    }
    let read = move || Ok::<_, rustls::Error>(builder()?.with_platform_verifier()?.with_no_client_auth());
    let config = SYSTEM.get_or_try_init(|| async {
        // Hundreds of certificates are read and parsed.
        tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?.map_err(io::Error::other)
    });
    config.await.cloned().map_err(failed)
}

/// Where a response sends us, if it does.
fn redirect(url: &Url, response: &Response) -> Result<Option<Url>, HttpError> {
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

/// The body of a response, if it is not longer than `limit` bytes (after decompression).
async fn body(mut response: Response, limit: usize) -> Result<Vec<u8>, HttpError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| failed(chain(&e)))? {
        if bytes.len() + chunk.len() > limit {
            return Err(failed(format!("the answer is longer than {limit} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// An error and what caused it, on one line. The URL is left out: whoever reports it names it.
fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause = std::error::Error::source(error);
    if error.is_timeout() {
        text.push_str("no answer in time");
    }
    while let Some(inner) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    if text.is_empty() { error.to_string() } else { text }
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

//! From a request to its reply. Nothing here waits.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use swarm_core::rng::Rng;
use swarm_core::tracker::{AnnounceRequest, RequestError, RetryIn, ScrapeRequest, encode_failure};

use super::Shared;
use crate::config::Source;
use crate::store::Refusal;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain");
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// How long who asked too often is to wait.
const TOO_OFTEN_PAUSE: Duration = Duration::from_secs(60);

/// Why an announce or a scrape gets a failure reason.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("too many requests from your address; announce less often")]
    TooOften,
    #[error("this tracker is set up for a proxy, and none says where the request comes from")]
    NoSource,
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Refusal(#[from] Refusal),
}

/// The reply to one request of the client at `client`.
pub(super) fn respond<B>(
    shared: &Shared,
    rng: &mut Rng,
    request: &Request<B>,
    client: SocketAddr,
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is served here\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    tracing::trace!(%client, uri = %request.uri(), "request");
    let query = request.uri().query().unwrap_or_default().as_bytes();
    let (what, body) = match request.uri().path() {
        "/announce" => {
            shared.counters.announces.add_one();
            (
                "announce",
                source(shared, request, client).and_then(|source| announce(shared, rng, query, source)),
            )
        }
        "/scrape" => {
            shared.counters.scrapes.add_one();
            ("scrape", source(shared, request, client).and_then(|_| scrape(shared, query)))
        }
        "/health" => return reply(StatusCode::OK, TEXT, "ok\n"),
        "/stats" => {
            let stats = serde_json::to_vec(&shared.stats()).expect("numbers are JSON");
            return reply(StatusCode::OK, JSON, stats);
        }
        "/metrics" => return reply(StatusCode::OK, METRICS, shared.stats().to_prometheus()),
        _ => return reply(StatusCode::NOT_FOUND, TEXT, "not found; this is a tracker, see /announce\n"),
    };
    // Clients show a failure reason to their users, but not the body of another status than 200.
    let body = body.unwrap_or_else(|failure| {
        shared.counters.refused.add_one();
        tracing::debug!(%client, %failure, "{what} refused");
        let retry = matches!(failure, Failure::TooOften).then_some(RetryIn::After(TOO_OFTEN_PAUSE));
        encode_failure(&failure.to_string(), retry)
    });
    reply(StatusCode::OK, TEXT, body)
}

/// Where a request comes from, if it may be served.
fn source<B>(shared: &Shared, request: &Request<B>, client: SocketAddr) -> Result<IpAddr, Failure> {
    let source = match shared.config.source {
        Source::Connection | Source::ProxyProtocol => client.ip(),
        Source::ForwardedFor => forwarded_for(request.headers()).ok_or(Failure::NoSource)?,
    };
    admit(shared, source).map(|()| source)
}

/// Whether an announce or a scrape from this address may be served; counts it.
pub(super) fn admit(shared: &Shared, source: IpAddr) -> Result<(), Failure> {
    if shared.rate_limiter.allows(shared.clock.now(), source) {
        return Ok(());
    }
    shared.counters.rate_limited.add_one();
    Err(Failure::TooOften)
}

/// What the nearest proxy added: earlier entries are whatever the client sent.
fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    last.rsplit(',').next()?.trim().parse().ok()
}

fn announce(shared: &Shared, rng: &mut Rng, query: &[u8], source: IpAddr) -> Result<Vec<u8>, Failure> {
    let request = AnnounceRequest::parse_query(query)?;
    let response = shared.store.announce(shared.clock.now(), rng, &request, source)?;
    Ok(response.encode(request.format))
}

fn scrape(shared: &Shared, query: &[u8]) -> Result<Vec<u8>, Failure> {
    let request = ScrapeRequest::parse_query(query)?;
    Ok(shared.store.scrape(&request.info_hashes).encode())
}

fn reply(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

//! From a request to its reply. Nothing here waits but for a store that trackers share.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use swarm_core::rng::Rng;
use swarm_core::tracker::{AnnounceRequest, RequestError, RetryIn, ScrapeRequest, encode_failure};

use super::{Shared, ask};
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

/// A reply, or what comes to one.
pub(super) enum Reply {
    Now(Response<Full<Bytes>>),
    Later(Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>),
}

/// The reply to one request of the client at `client`.
pub(super) fn respond<B>(
    shared: &Arc<Shared>,
    rng: &mut Rng,
    request: &Request<B>,
    client: SocketAddr,
) -> Reply {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is served here\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Reply::Now(response);
    }
    tracing::trace!(%client, uri = %request.uri(), "request");
    let query = request.uri().query().unwrap_or_default().as_bytes();
    Reply::Now(match request.uri().path() {
        "/announce" => {
            shared.counters.announces.add_one();
            let asked = source(shared, request, client)
                .and_then(|source| Ok((AnnounceRequest::parse_query(query)?, source)));
            match asked {
                Ok((request, source)) if shared.remote.is_some() => {
                    let (shared, mut rng) = (shared.clone(), rng.fork());
                    return Reply::Later(Box::pin(async move {
                        let body = announce_shared(&shared, &mut rng, &request, source).await;
                        finish(&shared, client, "announce", body)
                    }));
                }
                asked => {
                    let body = asked.and_then(|(request, source)| announce(shared, rng, &request, source));
                    finish(shared, client, "announce", body)
                }
            }
        }
        "/scrape" => {
            shared.counters.scrapes.add_one();
            let asked = source(shared, request, client).and_then(|_| Ok(ScrapeRequest::parse_query(query)?));
            match asked {
                Ok(request) if shared.remote.is_some() => {
                    let shared = shared.clone();
                    return Reply::Later(Box::pin(async move {
                        let scraped = match &shared.remote {
                            Some(remote) => ask::scrape(&shared, remote, &request.info_hashes).await,
                            None => shared.store.scrape(&request.info_hashes),
                        };
                        finish(&shared, client, "scrape", Ok(scraped.encode()))
                    }));
                }
                asked => {
                    let body = asked.map(|request| shared.store.scrape(&request.info_hashes).encode());
                    finish(shared, client, "scrape", body)
                }
            }
        }
        "/health" => reply(StatusCode::OK, TEXT, "ok\n"),
        "/stats" => {
            let stats = serde_json::to_vec(&shared.stats()).expect("numbers are JSON");
            reply(StatusCode::OK, JSON, stats)
        }
        "/metrics" => reply(StatusCode::OK, METRICS, shared.stats().to_prometheus()),
        _ => reply(StatusCode::NOT_FOUND, TEXT, "not found; this is a tracker, see /announce\n"),
    })
}

/// The reply with what was found or with why it was not.
fn finish(
    shared: &Shared,
    client: SocketAddr,
    what: &str,
    body: Result<Vec<u8>, Failure>,
) -> Response<Full<Bytes>> {
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

fn announce(
    shared: &Shared,
    rng: &mut Rng,
    request: &AnnounceRequest,
    source: IpAddr,
) -> Result<Vec<u8>, Failure> {
    let response = shared.store.announce(shared.clock.now(), rng, request, source)?;
    Ok(response.encode(request.format))
}

async fn announce_shared(
    shared: &Shared,
    rng: &mut Rng,
    request: &AnnounceRequest,
    source: IpAddr,
) -> Result<Vec<u8>, Failure> {
    let Some(remote) = &shared.remote else { return announce(shared, rng, request, source) };
    let response = ask::announce(shared, remote, rng, request, source).await?;
    Ok(response.encode(request.format))
}

fn reply(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

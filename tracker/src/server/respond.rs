//! From a request to its reply. Nothing here waits.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use swarm_core::rng::Rng;
use swarm_core::tracker::{AnnounceRequest, RequestError, ScrapeRequest, encode_failure};

use super::Shared;
use crate::store::Refusal;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Why an announce or a scrape gets a failure reason.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Refusal(#[from] Refusal),
}

/// The reply to one request of the client at `peer`.
pub(super) fn respond<B>(
    shared: &Shared,
    rng: &mut Rng,
    request: &Request<B>,
    peer: SocketAddr,
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is served here\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let query = request.uri().query().unwrap_or_default().as_bytes();
    let (what, body) = match request.uri().path() {
        "/announce" => {
            shared.counters.announces.add_one();
            ("announce", announce(shared, rng, query, peer))
        }
        "/scrape" => {
            shared.counters.scrapes.add_one();
            ("scrape", scrape(shared, query))
        }
        "/health" => return reply(StatusCode::OK, TEXT, "ok\n"),
        "/stats" => {
            let stats = serde_json::to_vec(&shared.stats()).expect("numbers are JSON");
            return reply(StatusCode::OK, JSON, stats);
        }
        _ => return reply(StatusCode::NOT_FOUND, TEXT, "not found; this is a tracker, see /announce\n"),
    };
    // Clients show a failure reason to their users, but not the body of another status than 200.
    let body = body.unwrap_or_else(|failure| {
        shared.counters.refused.add_one();
        tracing::debug!(%peer, %failure, "{what} refused");
        encode_failure(&failure.to_string(), None)
    });
    reply(StatusCode::OK, TEXT, body)
}

fn announce(shared: &Shared, rng: &mut Rng, query: &[u8], peer: SocketAddr) -> Result<Vec<u8>, Failure> {
    let request = AnnounceRequest::parse_query(query)?;
    let response = shared.store.announce(shared.clock.now(), rng, &request, peer.ip())?;
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

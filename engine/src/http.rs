//! Fetching over HTTP: metainfo files and tracker replies. Built when first needed, so that a run without it
//! starts instantly.

use crate::Error;
use reqwest::redirect::Policy;
use std::net::IpAddr;
use std::time::Duration;
use url::Url;

/// How long a fetch may take in all.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How many redirects are followed.
const REDIRECTS_MAX: usize = 5;

/// A client that connects from this address, if one is given.
pub(crate) fn client(from: Option<IpAddr>, timeout: Duration) -> Result<reqwest::Client, String> {
    // Another part of the process may have chosen a provider already; either will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("Swarm/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(timeout)
        .redirect(Policy::limited(REDIRECTS_MAX))
        .local_address(from)
        .no_proxy()
        .build()
        .map_err(|e| chain(&e))
}

/// The body of a response, if it is not longer than `limit` bytes (after decompression).
pub(crate) async fn body(mut response: reqwest::Response, limit: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| chain(&e))? {
        if bytes.len() + chunk.len() > limit {
            return Err(format!("the answer is longer than {limit} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// An error and what caused it, on one line. The URL is left out: whoever reports it names it.
pub(crate) fn chain(error: &reqwest::Error) -> String {
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

/// Fetches a file over HTTP or HTTPS, at most `limit` bytes, within a minute. Needs a tokio runtime.
///
/// # Errors
/// [`Error::Fetch`] with what went wrong.
pub async fn fetch(url: &Url, limit: usize) -> Result<Vec<u8>, Error> {
    let failed = |reason: String| Error::Fetch { url: url.to_string(), reason };
    let response = client(None, FETCH_TIMEOUT).map_err(failed)?.get(url.clone()).send().await;
    let response = response.map_err(|e| failed(chain(&e)))?;
    if !response.status().is_success() {
        return Err(failed(format!("the server answered {}", response.status())));
    }
    body(response, limit).await.map_err(failed)
}

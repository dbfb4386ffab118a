//! `/api/v1/session`: the daemon as a whole; whether it is well; and what Prometheus reads.

use super::AppState;
use super::error::{self, ApiError, ErrorBody};
use super::torrents::Result;
use crate::manager::commands::Limits;
use crate::metrics::Sources;
use crate::table::State as TorrentState;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use utoipa::ToSchema;

/// The daemon as a whole.
#[derive(Debug, Serialize, ToSchema)]
pub struct Session {
    /// Its version.
    version: &'static str,
    /// When it was started.
    started_at: i64,
    /// Where peers can reach it.
    #[schema(value_type = Vec<String>)]
    listening: Vec<SocketAddr>,
    /// Where HTTP is served over TCP.
    #[schema(value_type = Vec<String>)]
    http: Vec<SocketAddr>,
    /// The folder for torrents whose folder is not said.
    #[schema(value_type = String)]
    dir: PathBuf,
    /// The limit of payload sent, all torrents together.
    upload_limit: Option<u64>,
    /// The limit of payload received, all torrents together.
    download_limit: Option<u64>,
    /// Payload received per second, now.
    rate_down: u64,
    /// Payload sent per second, now.
    rate_up: u64,
    /// Received since it was started.
    bytes_down: u64,
    /// Sent since it was started.
    bytes_up: u64,
    /// How many torrents are in which state.
    torrents: BTreeMap<&'static str, usize>,
    /// The list's revision.
    revision: u64,
}

/// Shows the daemon as a whole
#[utoipa::path(get, path = "/api/v1/session", responses((status = 200, body = Session)))]
pub async fn session(State(app): AppState) -> Json<Session> {
    let rules = app.rules.borrow().clone();
    let table = app.table.read();
    let mut torrents: BTreeMap<&str, usize> =
        TorrentState::ALL.iter().map(|state| (state.name(), 0)).collect();
    let mut rates = (0, 0);
    for row in table.iter() {
        *torrents.entry(row.summary.state.name()).or_default() += 1;
        rates = (rates.0 + row.summary.rate_down, rates.1 + row.summary.rate_up);
    }
    Json(Session {
        version: env!("CARGO_PKG_VERSION"),
        started_at: app.started_at,
        listening: app.listening.clone(),
        http: app.serving.clone(),
        dir: rules.dir.clone(),
        upload_limit: rules.upload_limit,
        download_limit: rules.download_limit,
        rate_down: rates.0,
        rate_up: rates.1,
        bytes_down: app.counters.bytes_down.load(Relaxed),
        bytes_up: app.counters.bytes_up.load(Relaxed),
        torrents,
        revision: table.revision(),
    })
}

/// What can be changed of the daemon as a whole. What is left out stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SessionBody {
    /// The limit of payload sent, all torrents together, in bytes/s; null lifts it.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    upload_limit: Option<Option<u64>>,
    /// The limit of payload received, all torrents together, in bytes/s; null lifts it.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    download_limit: Option<Option<u64>>,
}

fn given<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Changes the limits of all torrents together, over those of the configuration
#[utoipa::path(patch, path = "/api/v1/session", request_body = SessionBody,
    responses((status = 204), (status = 400, body = ErrorBody), (status = 507, body = ErrorBody)))]
pub async fn edit(State(app): AppState, headers: HeaderMap, body: Body) -> Result<StatusCode> {
    let SessionBody { upload_limit, download_limit } = error::json(&headers, body).await?;
    if [upload_limit, download_limit].contains(&Some(Some(0))) {
        return Err(ApiError::invalid("a limit is a number of bytes/s from 1 up; null lifts it"));
    }
    app.manager.set_limits(Limits { upload: upload_limit, download: download_limit }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether the daemon answers and its database takes changes. Needs no token
#[utoipa::path(get, path = "/health", responses((status = 200, body = String), (status = 503, body = ErrorBody)))]
pub async fn health(State(app): AppState) -> Result<&'static str> {
    match app.manager.ping().await {
        Ok(()) => Ok("ok\n"),
        Err(error) => Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unhealthy", error.to_string())),
    }
}

/// Metrics for Prometheus
#[utoipa::path(get, path = "/metrics", responses((status = 200, content_type = "application/openmetrics-text")))]
pub async fn metrics(State(app): AppState) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let text = crate::metrics::encode(&Sources {
        table: &app.table.read(),
        counters: &app.counters,
        http: &app.http,
        streams: app.streams.load(Relaxed),
        started_at: app.started_at,
    });
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

//! `/api/v1/session`: the daemon as a whole; whether it is well; and what Prometheus reads.

use super::AppState;
use super::error::{self, ApiError, ErrorBody};
use super::torrents::Result;
use crate::metrics::{Format, Sources, encode};
use crate::settings::{SettingsEdit, Standing};
use crate::table::State as TorrentState;
use crate::torrents::schedule::Schedule;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::timeout;
use utoipa::ToSchema;

/// How long whoever asks whether the daemon is well waits for its answer.
const HEALTH_PATIENCE: Duration = Duration::from_secs(4);

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
    /// The limit of payload sent that holds now, all torrents together.
    upload_limit: Option<u64>,
    /// The limit of payload received that holds now, all torrents together.
    download_limit: Option<u64>,
    /// Whether these are the alternative limits.
    alternative: bool,
    /// What holds for all torrents together.
    settings: Shown,
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

/// What holds for all torrents together: what users have set, or else what the configuration says. Null is none.
#[derive(Debug, Serialize, ToSchema)]
pub struct Shown {
    /// The limit of payload sent, while the alternative ones do not hold.
    upload_limit: Option<u64>,
    /// The limit of payload received, while the alternative ones do not hold.
    download_limit: Option<u64>,
    /// The alternative limit of payload sent.
    alternative_upload_limit: Option<u64>,
    /// The alternative limit of payload received.
    alternative_download_limit: Option<u64>,
    /// When the alternative limits hold by themselves.
    schedule: Schedule,
    /// How many torrents may download at a time.
    max_active_downloads: Option<usize>,
    /// How many torrents may seed at a time.
    max_active_seeds: Option<usize>,
    /// A ratio at which torrents stop that have none of their own.
    ratio_limit: Option<f64>,
    /// A time of seeding at which torrents stop that have none of their own, in seconds.
    seed_time_limit: Option<u64>,
}

impl Shown {
    fn of(standing: &Standing) -> Shown {
        let (limits, turns, goals) = (standing.limits(), standing.turns(), standing.goals());
        Shown {
            upload_limit: limits.upload_limit,
            download_limit: limits.download_limit,
            alternative_upload_limit: standing.settings.alternative_upload_limit,
            alternative_download_limit: standing.settings.alternative_download_limit,
            schedule: standing.settings.schedule,
            max_active_downloads: turns.downloads,
            max_active_seeds: turns.seeds,
            ratio_limit: goals.ratio,
            seed_time_limit: goals.seed_time,
        }
    }
}

/// Shows the daemon as a whole
#[utoipa::path(get, path = "/api/v1/session", responses((status = 200, body = Session)))]
pub async fn session(State(app): AppState) -> Json<Session> {
    let (rules, standing) = (app.rules.borrow().clone(), app.standing.borrow().clone());
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
        alternative: standing.alternative,
        settings: Shown::of(&standing),
        rate_down: rates.0,
        rate_up: rates.1,
        bytes_down: app.counters.bytes_down.load(Relaxed),
        bytes_up: app.counters.bytes_up.load(Relaxed),
        torrents,
        revision: table.revision(),
    })
}

/// Changes what holds for all torrents together, over what the configuration says
#[utoipa::path(patch, path = "/api/v1/session", request_body = SettingsEdit,
    responses((status = 204), (status = 400, body = ErrorBody), (status = 507, body = ErrorBody)))]
pub async fn edit(State(app): AppState, headers: HeaderMap, body: Body) -> Result<StatusCode> {
    let edit: SettingsEdit = error::json(&headers, body).await?;
    app.manager.set_settings(edit).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether the daemon answers and its database takes changes. Needs no token, and tells in a line what is wrong
#[utoipa::path(get, path = "/health", responses((status = 200, body = String), (status = 503, body = ErrorBody)))]
pub async fn health(State(app): AppState) -> Result<&'static str> {
    let error = match timeout(HEALTH_PATIENCE, app.manager.ping()).await {
        Ok(Ok(())) => return Ok("ok\n"),
        Ok(Err(error)) => error.to_string(),
        Err(_) => {
            format!("what owns the torrents has not answered for {} s", HEALTH_PATIENCE.as_secs())
        }
    };
    Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unhealthy", error))
}

/// Metrics for Prometheus, in its own format or in that of OpenMetrics, as `Accept` says
#[utoipa::path(get, path = "/metrics", responses((status = 200, content_type = "text/plain")))]
pub async fn metrics(State(app): AppState, headers: HeaderMap) -> Response {
    let format = Format::accepted(&headers);
    let sources = Sources {
        table: &app.table.read(),
        counters: &app.counters,
        http: &app.http,
        event_streams: app.streams.load(Relaxed),
        file_streams: app.players.open(),
        started_at: app.started_at,
    };
    ([(header::CONTENT_TYPE, format.content_type())], encode(&sources, format)).into_response()
}

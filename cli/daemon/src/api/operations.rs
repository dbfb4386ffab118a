//! What is done with a torrent's files, and the addresses that are banned.

use super::AppState;
use super::error::{self, ApiError, ErrorBody};
use super::torrents::{PathOf, Result, find};
use crate::adding;
use crate::manager::operations::Files;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;
use swarm_engine::PieceStatus;
use utoipa::ToSchema;

/// Another folder for a torrent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveBody {
    /// The folder: absolute, or below the one of the configuration.
    #[schema(value_type = String)]
    dir: PathBuf,
    /// Whether its files are moved there, which they are unless this is false. Else what is there is checked, and what is in the old folder stays.
    #[serde(default = "yes")]
    files: bool,
}

fn yes() -> bool {
    true
}

/// Moves a torrent to another folder, and answers when that has begun: its state is `moving` until it is done
#[utoipa::path(post, path = "/api/v1/torrents/{torrent}/move", params(("torrent" = String, Path)), request_body = MoveBody,
    responses((status = 204), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody)))]
pub async fn move_to(
    State(app): AppState,
    path: PathOf,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode> {
    let MoveBody { dir, files } = error::json(&headers, body).await?;
    let id = find(&app, path)?.summary.id;
    let rules = app.rules.borrow().clone();
    let dir = adding::folder(dir, rules).await?;
    let files = if files { Files::Move } else { Files::Leave };
    app.manager.move_to(id, dir, files).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Another path for a file or folder of a torrent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameBody {
    /// Its path in the torrent as it is, with `/`, the name of the torrent's own file or folder first.
    from: String,
    /// The path that it gets. That of the torrent's own file or folder is a single name.
    to: String,
}

/// Renames a file or folder of a torrent, and answers when it has its name
#[utoipa::path(post, path = "/api/v1/torrents/{torrent}/rename", params(("torrent" = String, Path)), request_body = RenameBody,
    responses((status = 204), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 500, body = ErrorBody)))]
pub async fn rename(
    State(app): AppState,
    path: PathOf,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode> {
    let RenameBody { from, to } = error::json(&headers, body).await?;
    let id = find(&app, path)?.summary.id;
    app.manager.rename(id, from, to).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A torrent's pieces at a glance.
#[derive(Debug, Serialize, ToSchema)]
pub struct PiecesShown {
    /// A character for each piece: `0` missing, `1` partly here or being verified, `2` verified.
    states: String,
    /// How many connected peers have each piece.
    availability: Vec<u32>,
}

/// How each piece of a torrent stands
#[utoipa::path(get, path = "/api/v1/torrents/{torrent}/pieces", params(("torrent" = String, Path)),
    responses((status = 200, body = PiecesShown), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub async fn pieces(State(app): AppState, path: PathOf) -> Result<Json<PiecesShown>> {
    let row = find(&app, path)?;
    let map = match &row.handle {
        Some(handle) => handle.pieces().await.ok().flatten(),
        None => None,
    };
    let map = map.ok_or_else(|| {
        ApiError::new(StatusCode::CONFLICT, "not_running", "its pieces are known while the torrent runs")
    })?;
    let letter = |status: &PieceStatus| match status {
        PieceStatus::Have => '2',
        PieceStatus::Partial => '1',
        _ => '0',
    };
    Ok(Json(PiecesShown {
        states: map.statuses.iter().map(letter).collect(),
        availability: map.availability,
    }))
}

/// Addresses.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BansBody {
    /// Without ports.
    #[schema(value_type = Vec<String>)]
    addresses: Vec<IpAddr>,
}

/// Lists the addresses that are banned
#[utoipa::path(get, path = "/api/v1/bans", responses((status = 200, body = BansBody)))]
pub async fn bans(State(app): AppState) -> Json<BansBody> {
    Json(BansBody { addresses: app.table.read().bans().iter().copied().collect() })
}

/// Bans addresses: connections to them end, in all torrents, and no peer there is dialled or accepted
#[utoipa::path(post, path = "/api/v1/bans", request_body = BansBody, responses((status = 204), (status = 400, body = ErrorBody)))]
pub async fn ban(State(app): AppState, headers: HeaderMap, body: Body) -> Result<StatusCode> {
    let BansBody { addresses } = error::json(&headers, body).await?;
    app.manager.ban(addresses).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lifts bans
#[utoipa::path(delete, path = "/api/v1/bans", request_body = BansBody, responses((status = 204), (status = 400, body = ErrorBody)))]
pub async fn unban(State(app): AppState, headers: HeaderMap, body: Body) -> Result<StatusCode> {
    let BansBody { addresses } = error::json(&headers, body).await?;
    app.manager.unban(addresses).await?;
    Ok(StatusCode::NO_CONTENT)
}

//! Streams of files: the token that lets a player in, and `/stream/TOKEN/FILE`.

use super::error::ErrorBody;
use super::torrents::{PathOf, Result, find};
use super::{App, AppState};
use crate::stream::{self, StreamFile};
use crate::table::{Row, State as TorrentState};
use crate::torrents::Refusal;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use futures_util::{StreamExt as _, stream::unfold};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use swarm_engine::FileIndex;
use tokio::time::MissedTickBehavior;
use utoipa::ToSchema;

/// How often it is looked whether a stream may go on that waits.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Addresses of a torrent's files for players.
#[derive(Debug, Serialize, ToSchema)]
pub struct StreamShown {
    /// What lets a player in, and nobody else. It is the same each time, and good for all files of this torrent and for nothing else.
    token: String,
    /// The files.
    files: Vec<StreamFileShown>,
}

/// A file for players.
#[derive(Debug, Serialize, ToSchema)]
pub struct StreamFileShown {
    /// Its index.
    index: u32,
    /// Its path in the torrent, with `/`.
    path: String,
    /// Its length in bytes.
    length: u64,
    /// Its media type; null if it is neither audio nor video, and comes as an attachment.
    media_type: Option<&'static str>,
    /// Where it is, on this host.
    address: String,
}

/// Gives a torrent's files addresses for players, which need no other token
#[utoipa::path(post, path = "/api/v1/torrents/{torrent}/stream", params(("torrent" = String, Path)),
    responses((status = 200, body = StreamShown), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub async fn open(State(app): AppState, path: PathOf) -> Result<Json<StreamShown>> {
    let row = find(&app, path)?;
    let metainfo = row.metainfo.clone().ok_or(Refusal::NoMetadata)?;
    let token = app.manager.stream_token(row.summary.id).await?;
    let files = metainfo.info.files.iter().enumerate().filter(|(_, file)| !file.attr.pad);
    let files = files.map(|(at, file)| {
        let path = row.file_path(FileIndex(at as u32)).unwrap_or_default();
        let name = path.last().map(String::as_str).unwrap_or_default();
        StreamFileShown {
            index: at as u32,
            path: path.join("/"),
            length: file.length,
            media_type: stream::media_type(name),
            address: stream::address(&token, at as u32, name),
        }
    });
    let files = files.collect();
    Ok(Json(StreamShown { token, files }))
}

/// Takes the addresses back: streams that run end, and the next addresses are others
#[utoipa::path(delete, path = "/api/v1/torrents/{torrent}/stream", params(("torrent" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody)))]
pub async fn close(State(app): AppState, path: PathOf) -> Result<StatusCode> {
    let id = find(&app, path)?.summary.id;
    app.manager.end_streams(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Streams a file, by the token of its torrent alone; a name may follow, for players that look at that
///
/// One range of bytes may be asked for. What is not there yet is downloaded first, and waited for. What is wrong is told in plain text:
/// players show it.
#[utoipa::path(get, path = "/stream/{token}/{file}",
    params(("token" = String, Path, description = "From `POST /api/v1/torrents/{torrent}/stream`"), ("file" = u32, Path, description = "The file's index")),
    responses((status = 200, content_type = "application/octet-stream"), (status = 206, content_type = "application/octet-stream"),
        (status = 404, content_type = "text/plain"), (status = 409, content_type = "text/plain"),
        (status = 416, content_type = "text/plain"), (status = 503, content_type = "text/plain")))]
pub async fn file(
    State(app): AppState,
    path: Path<(String, u32)>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let Path((token, file)) = path;
    serve(&app, &token, file, &method, &headers).await
}

/// The same with a name behind it, for players that look at that.
pub async fn named(
    State(app): AppState,
    path: Path<(String, u32, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let Path((token, file, _)) = path;
    serve(&app, &token, file, &method, &headers).await
}

async fn serve(app: &Arc<App>, token: &str, file: u32, method: &Method, headers: &HeaderMap) -> Response {
    let is_its = |row: &Row| {
        let lives = row.summary.state != TorrentState::Removing;
        lives && row.stream_token.as_deref().is_some_and(|known| stream::is_same(token, known))
    };
    let row = app.table.read().iter().find(|row| is_its(row)).cloned();
    let Some(row) = row else { return stream::refuse(StatusCode::NOT_FOUND, "there is nothing here") };
    let (Some(handle), Some(metainfo), true) = (row.handle.clone(), row.metainfo.clone(), runs(&row)) else {
        let state = row.summary.state.name();
        return stream::refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the torrent does not run: it is {state}"),
        );
    };
    let is_wanted = row.priorities.as_deref().and_then(|each| each.get(file as usize)) != Some(&0);
    if !is_wanted && row.summary.state == TorrentState::Seeding {
        return stream::refuse(
            StatusCode::CONFLICT,
            "the file is not wanted, and nothing more is downloaded",
        );
    }
    let name = row.file_path(FileIndex(file)).and_then(|path| path.last().cloned()).unwrap_or_default();
    let file = StreamFile { handle, metainfo, file: FileIndex(file), name };
    let answer = stream::answer(&file, method, headers, &app.players).await;
    if method == Method::HEAD || !answer.status().is_success() {
        return answer;
    }
    // It ends with its token, and when its torrent does not run any more.
    let (app, id, token) = (Arc::clone(app), row.summary.id, row.stream_token);
    answer.map(|body| {
        let is_good = move || {
            let table = app.table.read();
            table.get(id).is_some_and(|row| runs(row) && row.stream_token == token)
        };
        while_good(body, is_good)
    })
}

/// Whether a torrent's files are streamed.
fn runs(row: &Row) -> bool {
    use TorrentState::{Failed, Paused, Queued, Removing};
    !matches!(row.summary.state, Paused | Queued | Failed | Removing)
}

/// A body up to when it may not go on, also if it only waits then.
fn while_good(body: Body, is_good: impl Fn() -> bool + Send + 'static) -> Body {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let state = (body.into_data_stream(), looks, is_good);
    Body::from_stream(unfold(state, |(mut chunks, mut looks, is_good)| async move {
        loop {
            let chunk = tokio::select! {
                chunk = chunks.next() => Some(chunk?),
                _ = looks.tick() => None,
            };
            match (is_good(), chunk) {
                (true, Some(chunk)) => return Some((chunk, (chunks, looks, is_good))),
                (true, None) => {}
                (false, _) => return None,
            }
        }
    }))
}

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
use futures_util::StreamExt as _;
use serde::Serialize;
use std::sync::Arc;
use swarm_engine::FileIndex;
use utoipa::ToSchema;

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

/// A file by its token. What is wrong is told in plain text: players show it.
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
    let runs = !matches!(
        row.summary.state,
        TorrentState::Paused | TorrentState::Queued | TorrentState::Failed | TorrentState::Removing
    );
    let (Some(handle), Some(metainfo), true) = (row.handle.clone(), row.metainfo.clone(), runs) else {
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
    // It ends with its token, and with its torrent.
    let (app, id, token) = (Arc::clone(app), row.summary.id, row.stream_token);
    answer.map(|body| {
        let is_good = move || {
            let table = app.table.read();
            let row = table.get(id).filter(|row| row.summary.state != TorrentState::Removing);
            row.is_some_and(|row| row.stream_token == token)
        };
        Body::from_stream(body.into_data_stream().take_while(move |_| std::future::ready(is_good())))
    })
}

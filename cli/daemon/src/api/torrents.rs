//! `/api/v1/torrents`: lists, and what is done with a torrent as a whole.

use super::error::{self, ApiError, ErrorBody};
use super::{App, AppState};
use crate::adding::{self, AddOptions};
use crate::table::{Page, Query as TableQuery, Row, State as TorrentState, Summary};
use crate::torrents::{Edit, Id, Refusal};
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use std::sync::Arc;
use swarm_engine::{Data, METAINFO_LEN_MAX};
use utoipa::{IntoParams, ToSchema};

/// How many torrents an answer has unless somebody asks for another number.
const LIMIT: usize = 1_000;
/// How many it may have.
const LIMIT_MAX: usize = 100_000;

pub type Result<T> = std::result::Result<T, ApiError>;
pub type PathOf = std::result::Result<Path<String>, PathRejection>;
type QueryOf<T> = std::result::Result<Query<T>, QueryRejection>;

/// The torrent that a path names: by its number, or by an info-hash.
pub fn find(app: &App, path: PathOf) -> Result<Row> {
    let Path(name) = path?;
    let table = app.table.read();
    let by_number = name.parse::<Id>().ok().and_then(|id| table.get(id));
    let is = |hash: &Option<String>| hash.as_deref().is_some_and(|hash| hash.eq_ignore_ascii_case(&name));
    let by_hash = || {
        let of = |row: &&Row| is(&row.summary.info_hash) || is(&row.summary.info_hash_v2);
        table.iter().find(of)
    };
    let is_hash = matches!(name.len(), 40 | 64) && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let row = if is_hash { by_hash() } else { by_number };
    row.cloned().ok_or_else(|| Refusal::NoSuchTorrent(name).into())
}

/// What of the list is wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only what came since this revision. Filters do not hold then.
    since: Option<u64>,
    /// Only torrents with higher numbers: `next` of the page before.
    after: Option<i64>,
    /// At most so many torrents; 1,000 unless given.
    limit: Option<usize>,
    /// Only torrents in this state.
    state: Option<String>,
    /// Only torrents of this category.
    category: Option<String>,
    /// Only torrents with this tag.
    tag: Option<String>,
}

/// Lists torrents, a page at a time, or what changed since a revision
#[utoipa::path(get, path = "/api/v1/torrents", params(ListQuery), responses((status = 200, body = Page), (status = 400, body = ErrorBody)))]
pub async fn list(State(app): AppState, query: QueryOf<ListQuery>) -> Result<Json<Page>> {
    let Query(query) = query?;
    if let Some(state) = &query.state
        && !TorrentState::ALL.iter().any(|known| known.name() == state)
    {
        return Err(ApiError::invalid(format!("state: there is no state {state}")));
    }
    let wants = |summary: &Summary| {
        query.state.as_ref().is_none_or(|state| summary.state.name() == state)
            && query.category.as_ref().is_none_or(|category| summary.category.as_ref() == Some(category))
            && query.tag.as_ref().is_none_or(|tag| summary.tags.contains(tag))
    };
    let limit = query.limit.unwrap_or(LIMIT).min(LIMIT_MAX);
    let asked = TableQuery { since: query.since, after: query.after.map(Id), limit };
    Ok(Json(app.table.read().page(&asked, wants)))
}

/// A torrent to add by what names it.
#[derive(Debug, ToSchema)]
pub struct AddBody {
    /// A magnet link, an info-hash, or the http(s) URL of a metainfo file.
    source: String,
    #[serde(flatten)]
    options: AddOptions,
}

/// With flattened fields serde takes any others too, and what is misspelt should be told.
impl<'de> Deserialize<'de> for AddBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<AddBody, D::Error> {
        let mut fields = serde_json::Map::deserialize(deserializer)?;
        let source = fields.remove("source").ok_or_else(|| D::Error::missing_field("source"))?;
        let source = source.as_str().ok_or_else(|| D::Error::custom("source is no text"))?.to_owned();
        let options = AddOptions::deserialize(serde_json::Value::Object(fields)).map_err(D::Error::custom)?;
        Ok(AddBody { source, options })
    }
}

/// A torrent that was added.
#[derive(Debug, Serialize, ToSchema)]
pub struct Added {
    /// Its number.
    id: Id,
    /// Its info-hash, if it is known.
    info_hash: Option<String>,
    /// Its name.
    name: String,
}

/// Adds a torrent: JSON with a link, or the metainfo file itself with the options in the query
#[utoipa::path(
    post, path = "/api/v1/torrents", params(AddOptions),
    request_body(content((AddBody = "application/json"), (Vec<u8> = "application/x-bittorrent"))),
    responses((status = 201, body = Added), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 413, body = ErrorBody), (status = 502, body = ErrorBody), (status = 507, body = ErrorBody))
)]
pub async fn add(
    State(app): AppState,
    options: QueryOf<AddOptions>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Added>)> {
    let Query(options) = options?;
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let new = if content_type == "application/x-bittorrent" {
        let bytes = error::whole(body, METAINFO_LEN_MAX).await?;
        adding::of_bytes(Vec::from(bytes), options, app.terms()).await?
    } else {
        let AddBody { source, options: of_body } = error::json(&headers, body).await?;
        if options != AddOptions::default() {
            return Err(ApiError::invalid("options of a link go into the body"));
        }
        adding::of_source(&source, of_body, app.terms(), &app.session).await?
    };
    let id = app.manager.add(new).await?;
    let table = app.table.read();
    let summary = table.get(id).map(|row| Arc::clone(&row.summary)).unwrap_or_default();
    let added = Added { id, info_hash: summary.info_hash.clone(), name: summary.name.clone() };
    Ok((StatusCode::CREATED, Json(added)))
}

/// A torrent, with what lists leave out.
#[derive(Debug, Serialize, ToSchema)]
pub struct Shown {
    #[serde(flatten)]
    #[schema(value_type = Summary)]
    summary: Arc<Summary>,
    /// A link to it.
    magnet: Option<String>,
    /// Bytes in a piece; null as long as its metadata is not here.
    piece_length: Option<u32>,
    /// Number of files, pad files left out.
    files: Option<usize>,
    /// Whether peers come from its trackers only.
    private: Option<bool>,
    /// What its maker says about it.
    comment: Option<String>,
    /// The program that made it.
    created_by: Option<String>,
    /// When it was made, as far as its maker can be believed.
    created_at: Option<i64>,
    /// The `source` of private trackers.
    source: Option<String>,
}

/// Shows a torrent
#[utoipa::path(get, path = "/api/v1/torrents/{torrent}", params(("torrent" = String, Path, description = "Its number or info-hash")),
    responses((status = 200, body = Shown), (status = 404, body = ErrorBody)))]
pub async fn show(State(app): AppState, path: PathOf) -> Result<Json<Shown>> {
    let row = find(&app, path)?;
    let metainfo = row.metainfo.as_deref();
    Ok(Json(Shown {
        summary: row.summary,
        magnet: metainfo.map(|metainfo| metainfo.magnet().to_string()).or(row.link),
        piece_length: metainfo.map(|metainfo| metainfo.info.geometry.piece_len()),
        files: metainfo.map(|metainfo| metainfo.info.files.iter().filter(|file| !file.attr.pad).count()),
        private: metainfo.map(|metainfo| metainfo.info.private),
        comment: metainfo.and_then(|metainfo| metainfo.comment.clone()),
        created_by: metainfo.and_then(|metainfo| metainfo.created_by.clone()),
        created_at: metainfo.and_then(|metainfo| metainfo.creation_date),
        source: metainfo.and_then(|metainfo| metainfo.info.source.clone()),
    }))
}

async fn change(app: &App, path: PathOf, edit: Edit) -> Result<StatusCode> {
    let id = find(app, path)?.summary.id;
    app.manager.edit(vec![id], edit).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes a torrent's options
#[utoipa::path(patch, path = "/api/v1/torrents/{torrent}", params(("torrent" = String, Path)), request_body = Edit,
    responses((status = 204), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub async fn edit(State(app): AppState, path: PathOf, headers: HeaderMap, body: Body) -> Result<StatusCode> {
    let edit = error::json(&headers, body).await?;
    change(&app, path, edit).await
}

/// What becomes of a removed torrent's data.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RemoveQuery {
    /// `keep`, which it is unless given, or `delete`: what was verified or is unfinished of it.
    data: Option<String>,
}

/// Removes a torrent, and answers when it is gone
#[utoipa::path(delete, path = "/api/v1/torrents/{torrent}", params(("torrent" = String, Path), RemoveQuery),
    responses((status = 204), (status = 404, body = ErrorBody), (status = 500, body = ErrorBody)))]
pub async fn remove(State(app): AppState, path: PathOf, query: QueryOf<RemoveQuery>) -> Result<StatusCode> {
    let Query(query) = query?;
    let data = match query.data.as_deref() {
        None | Some("keep") => Data::Keep,
        Some("delete") => Data::Delete,
        Some(other) => return Err(ApiError::invalid(format!("data: {other} is not keep or delete"))),
    };
    let id = find(&app, path)?.summary.id;
    app.manager.remove(id, data).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pauses a torrent
#[utoipa::path(post, path = "/api/v1/torrents/{torrent}/pause", params(("torrent" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody)))]
pub async fn pause(State(app): AppState, path: PathOf) -> Result<StatusCode> {
    change(&app, path, Edit { paused: Some(true), ..Edit::default() }).await
}

/// Resumes a torrent, also one that has failed
#[utoipa::path(post, path = "/api/v1/torrents/{torrent}/resume", params(("torrent" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub async fn resume(State(app): AppState, path: PathOf) -> Result<StatusCode> {
    change(&app, path, Edit { paused: Some(false), ..Edit::default() }).await
}

/// Checks all data of a torrent again
#[utoipa::path(post, path = "/api/v1/torrents/{torrent}/recheck", params(("torrent" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody)))]
pub async fn recheck(State(app): AppState, path: PathOf) -> Result<StatusCode> {
    change(&app, path, Edit { recheck: true, ..Edit::default() }).await
}

/// Announces a torrent now, as far as its trackers allow
#[utoipa::path(post, path = "/api/v1/torrents/{torrent}/reannounce", params(("torrent" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody)))]
pub async fn reannounce(State(app): AppState, path: PathOf) -> Result<StatusCode> {
    let id = find(&app, path)?.summary.id;
    app.manager.reannounce(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The torrent's metainfo file
#[utoipa::path(get, path = "/api/v1/torrents/{torrent}/metainfo", params(("torrent" = String, Path)),
    responses((status = 200, content_type = "application/x-bittorrent"), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub async fn metainfo(State(app): AppState, path: PathOf) -> Result<Response> {
    let metainfo = find(&app, path)?.metainfo.ok_or(Refusal::NoMetadata)?;
    let headers = [
        (header::CONTENT_TYPE, "application/x-bittorrent"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"torrent.torrent\""),
    ];
    Ok((headers, metainfo.encode()).into_response())
}

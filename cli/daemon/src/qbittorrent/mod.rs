//! The WebAPI of qBittorrent, version 2.11.4, under `/api/v2`: for programs that speak it already. `docs/apis.md` of the project says what
//! of it means what here.
//!
//! A request is a scope and a name ([`answer`] has all of them) with fields from its query or form ([`form`]). What changes something
//! is sent to the manager; what only reads is answered from the table, or by the session's own word about a torrent. What is turned into what
//! is in functions without I/O: [`info`] (a torrent in lists), [`state`], [`prefs`], [`sync`].

mod add;
mod app;
mod by_tracker;
mod details;
mod edit;
mod form;
mod info;
mod labels;
pub mod log;
mod prefs;
mod state;
mod sync;
mod transfer;

use crate::api::App;
use crate::auth::proxy::Scheme;
use crate::auth::{Caller, Cookie, Denied, Via};
use crate::table::{Row, State as TorrentState, Table};
use crate::torrents::{Id, Refusal};
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use form::Form;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What clients are told that this is: its answers are those of this version.
const VERSION: &str = "v5.1.4";
/// The version of the API.
const API_VERSION: &str = "2.11.4";
/// How many torrents a request may name.
const HASHES_MAX: usize = 100_000;

/// What is remembered between requests.
#[derive(Debug, Default)]
pub struct Shared {
    /// The last answers to `sync/maindata`.
    rids: sync::Rids,
    /// What happened lately.
    pub log: Arc<log::Log>,
    /// Held by what looks at torrents and then changes them accordingly.
    edits: tokio::sync::Mutex<()>,
}

/// A request: its fields, and what answers it.
struct Ask {
    app: Arc<App>,
    form: Form,
    headers: HeaderMap,
    via: Via,
    /// How the client has come, as far as a proxy of ours says so.
    scheme: Scheme,
}

/// An answer.
enum Answer {
    /// Nothing to say.
    Done,
    /// Plain text.
    Text(String),
    /// JSON, as it is sent.
    Json(Vec<u8>),
    /// Anything else.
    Other(Box<Response>),
}

impl Answer {
    fn text(text: impl Into<String>) -> Result<Answer, Fault> {
        Ok(Answer::Text(text.into()))
    }

    fn json(value: &impl Serialize) -> Result<Answer, Fault> {
        let defect = |error: serde_json::Error| Fault(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
        serde_json::to_vec(value).map(Answer::Json).map_err(defect)
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let typed = |content_type: &'static str, body: Vec<u8>| {
            ([(header::CONTENT_TYPE, content_type)], body).into_response()
        };
        match self {
            Answer::Done => typed("text/plain; charset=utf-8", Vec::new()),
            Answer::Text(text) => typed("text/plain; charset=utf-8", text.into_bytes()),
            Answer::Json(json) => typed("application/json", json),
            Answer::Other(response) => *response,
        }
    }
}

/// A request that is not carried out: its status, and why not.
#[derive(Debug)]
struct Fault(StatusCode, String);

impl Fault {
    fn invalid(message: impl Into<String>) -> Fault {
        Fault(StatusCode::BAD_REQUEST, message.into())
    }

    fn missing(name: &str) -> Fault {
        Fault::invalid(format!("{name}: is missing"))
    }

    fn conflict(message: impl Into<String>) -> Fault {
        Fault(StatusCode::CONFLICT, message.into())
    }

    fn not_found() -> Fault {
        Fault(StatusCode::NOT_FOUND, "Not Found".to_owned())
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Fault {
        let status = match &refusal {
            Refusal::NoSuchTorrent(_) => StatusCode::NOT_FOUND,
            Refusal::Invalid(_) => StatusCode::BAD_REQUEST,
            Refusal::Store { is_full: true, .. } => StatusCode::INSUFFICIENT_STORAGE,
            Refusal::Store { .. } | Refusal::Engine(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Refusal::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            // Not 403: clients take that for the end of their session, and log in again.
            _ => StatusCode::CONFLICT,
        };
        Fault(status, refusal.to_string())
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        (self.0, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], self.1).into_response()
    }
}

/// The routes.
pub fn router() -> Router<Arc<App>> {
    Router::new().route("/api/v2/{scope}/{name}", axum::routing::any(handle))
}

/// How somebody is told that he is not let in, in this dialect.
pub fn denied(denied: Denied) -> Response {
    let (status, message) = match denied {
        Denied::Host | Denied::Origin => (StatusCode::UNAUTHORIZED, denied.to_string()),
        Denied::Token => (StatusCode::FORBIDDEN, "Forbidden".to_owned()),
        Denied::TooMany(_) => (
            StatusCode::FORBIDDEN,
            "Your IP address has been banned after too many failed authentication attempts.".to_owned(),
        ),
    };
    Fault(status, message).into_response()
}

async fn handle(
    State(app): State<Arc<App>>,
    Path((scope, name)): Path<(String, String)>,
    request: Request,
) -> Response {
    let via = request.extensions().get::<Via>().copied().unwrap_or(Via::Unix);
    let scheme = request.extensions().get::<Scheme>().copied().unwrap_or_default();
    let is_in = request.extensions().get::<Caller>().is_some();
    let (parts, body) = request.into_parts();
    let is_read = parts.method == Method::GET || parts.method == Method::HEAD;
    if !(is_read || parts.method == Method::POST) || (is_read && !reads(&scope, &name)) {
        return Fault(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed".to_owned()).into_response();
    }
    // Only who is in may send more than a login has.
    let limit = if is_in { form::BODY_LEN_MAX } else { form::LOGIN_LEN_MAX };
    let form = match Form::read(parts.uri.query(), &parts.headers, body, limit).await {
        Ok(form) => form,
        Err(fault) => return fault.into_response(),
    };
    let ask = Ask { app, form, headers: parts.headers, via, scheme };
    match answer(&scope, &name, &ask).await {
        Ok(answer) => answer.into_response(),
        Err(fault) => fault.into_response(),
    }
}

/// Whether a request only reads, and so may be a GET.
fn reads(scope: &str, name: &str) -> bool {
    match scope {
        "auth" | "rss" | "search" => false,
        "app" => !matches!(name, "setPreferences" | "setCookies" | "shutdown" | "sendTestEmail"),
        "log" | "sync" => true,
        "transfer" => matches!(name, "info" | "speedLimitsMode" | "uploadLimit" | "downloadLimit"),
        _ => matches!(
            name,
            "info"
                | "count"
                | "properties"
                | "trackers"
                | "webseeds"
                | "files"
                | "pieceStates"
                | "pieceHashes"
                | "export"
                | "categories"
                | "tags"
                | "uploadLimit"
                | "downloadLimit"
        ),
    }
}

/// Carries out a request.
async fn answer(scope: &str, name: &str, ask: &Ask) -> Result<Answer, Fault> {
    match (scope, name) {
        ("auth", "login") => login(ask).await,
        ("auth", "logout") => Ok(logout(ask)),
        ("app", _) => app::answer(name, ask).await,
        ("log", "main") => log::main(ask),
        ("log", "peers") => log::peers(ask),
        ("sync", "maindata") => sync::maindata(ask).await,
        ("sync", "torrentPeers") => details::torrent_peers(ask).await,
        ("transfer", _) => transfer::answer(name, ask).await,
        ("torrents", "info") => info::list(ask),
        ("torrents", "count") => Answer::text(rows(&ask.app).len().to_string()),
        ("torrents", "add") => add::add(ask).await,
        ("torrents", _) if labels::has(name) => labels::answer(name, ask).await,
        ("torrents", _) if details::has(name) => details::answer(name, ask).await,
        ("torrents", _) => edit::answer(name, ask).await,
        // RSS feeds and search are other programs' business.
        _ => Err(Fault::not_found()),
    }
}

async fn login(ask: &Ask) -> Result<Answer, Fault> {
    let (user, password) = (ask.form.get("username"), ask.form.get("password"));
    let begun = ask.app.access.login(ask.via, user.unwrap_or_default(), password.unwrap_or_default()).await;
    match begun {
        Ok(key) => {
            let cookie = [(header::SET_COOKIE, Cookie::Sid.set(key, ask.scheme.is_https))];
            Ok(Answer::Other(Box::new((cookie, "Ok.").into_response())))
        }
        Err(Denied::Token) => Answer::text("Fails."),
        Err(other) => Ok(Answer::Other(Box::new(denied(other)))),
    }
}

fn logout(ask: &Ask) -> Answer {
    ask.app.access.logout(&ask.headers);
    Answer::Other(Box::new([(header::SET_COOKIE, Cookie::Sid.clear())].into_response()))
}

/// All torrents that clients see, by number.
fn rows(app: &App) -> Vec<Row> {
    shown(&app.table.read())
}

fn shown(table: &Table) -> Vec<Row> {
    table.iter().filter(|row| is_shown(row)).cloned().collect()
}

/// One that is being removed is gone to clients, and so is one that has no info-hash yet.
fn is_shown(row: &Row) -> bool {
    row.summary.state != TorrentState::Removing && row.summary.info_hash.is_some()
}

/// Whether a hash of a request means a torrent.
fn is_hash_of(row: &Row, hash: &str) -> bool {
    let is = |known: &Option<String>| known.as_deref().is_some_and(|known| known.eq_ignore_ascii_case(hash));
    is(&row.summary.info_hash) || is(&row.summary.info_hash_v2)
}

/// The torrent that `hash` names.
fn one(ask: &Ask) -> Result<Row, Fault> {
    let hash = ask.form.get("hash").ok_or_else(|| Fault::missing("hash"))?;
    let table = ask.app.table.read();
    let row = table.iter().find(|row| is_shown(row) && is_hash_of(row, hash)).cloned();
    row.ok_or_else(Fault::not_found)
}

/// The torrents that `hashes` names, or a field of another name; those that are not there are passed over.
fn several(ask: &Ask, field: &str) -> Result<Vec<Row>, Fault> {
    let given = ask.form.get(field).ok_or_else(|| Fault::missing(field))?;
    Ok(named(rows(&ask.app), given))
}

/// Those of the rows that a list of hashes names.
fn named(rows: Vec<Row>, given: &str) -> Vec<Row> {
    if given == "all" || given == "*" {
        return rows;
    }
    let hashes: BTreeSet<String> = given.split('|').take(HASHES_MAX).map(str::to_ascii_lowercase).collect();
    let has = |hash: &Option<String>| hash.as_ref().is_some_and(|hash| hashes.contains(hash));
    rows.into_iter().filter(|row| has(&row.summary.info_hash) || has(&row.summary.info_hash_v2)).collect()
}

fn ids(rows: &[Row]) -> Vec<Id> {
    rows.iter().map(|row| row.summary.id).collect()
}

/// A file to download.
fn attachment(bytes: Bytes, content_type: &'static str) -> Answer {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"torrent.torrent\"")),
    ];
    Answer::Other(Box::new((headers, bytes).into_response()))
}

#[cfg(test)]
mod tests;

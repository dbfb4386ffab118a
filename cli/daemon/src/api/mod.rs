//! The daemon's own API: HTTP and JSON under `/api/v1`, described by `/api/v1/openapi.json`, which is made of this code.
//!
//! [`serve`] has the sockets. Each request passes [`crate::auth`] first. What changes something is sent to the manager; what only reads is
//! answered from the table, or by the session's own word about a torrent.

mod details;
pub(crate) mod error;
pub(crate) mod events;
mod impatient;
mod labels;
mod operations;
pub mod serve;
mod session;
mod stream;
mod torrents;

use crate::auth::proxy::{self, Scheme};
use crate::auth::{Access, Cookie, Denied, Via};
use crate::config::Rules;
use crate::manager::Counters;
use crate::manager::commands::Handle;
use crate::metrics::HttpCounters;
use crate::notice::Notice;
use crate::page::login;
use crate::settings::Standing;
use crate::table::Shared;
use crate::torrents::Labels;
use crate::transmission;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, LOCATION, REFERRER_POLICY, SET_COOKIE,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use error::ApiError;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use swarm_engine::SessionOptions;
use tokio::sync::{Notify, broadcast, watch};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What requests are answered from.
#[derive(Debug)]
pub struct App {
    /// The manager.
    pub manager: Handle,
    /// What readers see.
    pub table: Shared,
    /// What happens.
    pub notices: broadcast::Sender<Notice>,
    /// The rules in force.
    pub rules: watch::Receiver<Arc<Rules>>,
    /// What holds of the daemon as a whole, and what users have set of it.
    pub standing: watch::Receiver<Arc<Standing>>,
    /// Categories, tags and limits of trackers.
    pub labels: watch::Receiver<Arc<Labels>>,
    /// Who gets in.
    pub access: Access,
    /// What the qBittorrent WebAPI remembers.
    pub qbittorrent: crate::qbittorrent::Shared,
    /// How the session behaves: what is fetched leaves by the same ways.
    pub session: SessionOptions,
    /// Where peers can reach us.
    pub listening: Vec<SocketAddr>,
    /// Where HTTP is served over TCP.
    pub serving: Vec<SocketAddr>,
    /// Sums of the manager.
    pub counters: Arc<Counters>,
    /// Sums of requests.
    pub http: HttpCounters,
    /// Streams of files that are open.
    pub players: crate::stream::Streams,
    /// Streams of events that are open.
    pub streams: AtomicUsize,
    /// Rates over the last minutes, for the page.
    pub history: crate::page::history::History,
    /// When it was started, in seconds since 1970.
    pub started_at: i64,
    /// The daemon's own folder.
    pub state_dir: PathBuf,
    /// What the RPC of Transmission keeps between requests.
    pub transmission: transmission::Shared,
    /// Told that the daemon is to end.
    pub close: Arc<Notify>,
    /// Whether it is ending.
    pub stopping: watch::Receiver<bool>,
}

impl App {
    /// What holds for a torrent that is added now.
    pub fn terms(&self) -> crate::adding::Terms {
        crate::adding::Terms { rules: self.rules.borrow().clone(), labels: self.labels.borrow().clone() }
    }
}

type AppState = State<Arc<App>>;

/// The API's description.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Swarm daemon",
        description = "Torrents of a `swarm daemon`. Over TCP each request needs `Authorization: Bearer TOKEN`; the token is in the \
file `token` of the daemon's state folder. The user's name and password (`Basic`), and the cookie of who has logged in, do too. Sizes are in bytes, rates in bytes per second, times in seconds since 1970. \
An error is `{\"error\": {\"kind\": ..., \"message\": ...}}`. New fields may come at any time: pass over what you do not know.",
        license(name = "MIT OR Apache-2.0")
    ),
    // Beside what the router knows: any method reaches it, to be told in plain text which may.
    paths(stream::file),
    components(schemas(error::ErrorBody, crate::table::Summary))
)]
struct Description;

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    let (router, description) = OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(torrents::list, torrents::add))
        .routes(routes!(torrents::show, torrents::edit, torrents::remove))
        .routes(routes!(torrents::pause))
        .routes(routes!(torrents::resume))
        .routes(routes!(torrents::recheck))
        .routes(routes!(torrents::reannounce))
        .routes(routes!(torrents::metainfo))
        .routes(routes!(details::files, details::set_files))
        .routes(routes!(details::peers, details::add_peers))
        .routes(routes!(details::trackers, details::add_trackers, details::edit_trackers))
        .routes(routes!(details::web_seeds, details::add_web_seeds, details::remove_web_seeds))
        .routes(routes!(operations::move_to))
        .routes(routes!(operations::rename))
        .routes(routes!(operations::pieces))
        .routes(routes!(operations::bans, operations::ban, operations::unban))
        .routes(routes!(stream::open, stream::close))
        .routes(routes!(events::events))
        .routes(routes!(session::session, session::edit))
        .routes(routes!(labels::categories, labels::create_category))
        .routes(routes!(labels::edit_category, labels::remove_category))
        .routes(routes!(labels::tags, labels::create_tags))
        .routes(routes!(labels::remove_tag))
        .routes(routes!(labels::tracker_limits))
        .routes(routes!(labels::limit_tracker))
        .routes(routes!(session::health))
        .routes(routes!(session::metrics))
        .split_for_parts();
    let description = description.to_json().expect("a description becomes JSON");
    let description = bytes::Bytes::from(description);
    let described = move || {
        let description = description.clone();
        async move { ([(axum::http::header::CONTENT_TYPE, "application/json")], description) }
    };
    router
        .merge(transmission::router())
        .route("/api/v1/openapi.json", axum::routing::get(described))
        .merge(crate::qbittorrent::router())
        .merge(crate::page::router(&app))
        .route("/stream/{token}/{file}", axum::routing::any(stream::file))
        .route("/stream/{token}/{file}/{name}", axum::routing::any(stream::named))
        .fallback(|| async {
            ApiError::not_found("there is nothing here; /api/v1/openapi.json tells what there is")
        })
        .method_not_allowed_fallback(|| async { ApiError::method() })
        .layer(from_fn_with_state(Arc::clone(&app), admit))
        .with_state(app)
}

/// Who comes by the page's link with the token gets a cookie in its place, and the address without it.
fn linked(app: &App, request: &Request) -> Option<Response> {
    if request.method() != Method::GET || request.uri().path() != "/" {
        return None;
    }
    let query = request.uri().query()?;
    let (_, given) = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "token")?;
    let is_https = request.extensions().get::<Scheme>().is_some_and(|scheme| scheme.is_https);
    Some(match app.access.login_by_token(&given) {
        // Relative, for a proxy may have put us below a path.
        Ok(key) => {
            let headers = [
                (LOCATION, HeaderValue::from_static("./")),
                (SET_COOKIE, Cookie::Page.set(key, is_https)),
                (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            ];
            (StatusCode::SEE_OTHER, headers).into_response()
        }
        Err(denied) => ApiError::from(denied).into_response(),
    })
}

/// Lets a request pass, or not; and counts it.
async fn admit(State(app): AppState, mut request: Request, next: Next) -> Response {
    let rules = app.rules.borrow().clone();
    let mut via = request.extensions().get::<Via>().copied();
    if let Some(via) = &mut via {
        let (mut parts, body) = request.into_parts();
        let scheme = proxy::unwrap(via, &mut parts.uri, &mut parts.headers, &rules);
        parts.extensions.insert(*via);
        parts.extensions.insert(scheme);
        request = Request::from_parts(parts, body);
    }
    let is_rpc = request.uri().path().starts_with(transmission::PATH);
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    let checked = match via {
        Some(via) => app.access.check(via, method, uri, headers, &rules.hosts).await,
        // Whoever builds the router forgot it.
        None => Err(Denied::Token),
    };
    let mut response = match (checked, linked(&app, &request)) {
        (Ok(_) | Err(Denied::Token), Some(response)) => response,
        (Ok(caller), None) => {
            caller.and_then(|caller| request.extensions_mut().insert(caller));
            next.run(request).await
        }
        (Err(denied), _) if request.uri().path().starts_with("/api/v2/") => {
            crate::qbittorrent::denied(denied)
        }
        (Err(denied), _) => {
            login::answer(&app, &request, denied).unwrap_or_else(|| ApiError::from(denied).into_response())
        }
    };
    app.http.count(response.status());
    let is_denied = response.status() == StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    if is_rpc && is_denied {
        // Its clients know no other.
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"Swarm\""));
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    // Nothing of this is a page.
    headers
        .entry(CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    response
}

//! The web page at `/`, rendered here: templates and styles lie in `page` beside `src`. HTMX swaps parts of it; what people read and do
//! works without scripts too, but for looking on while it changes.
//!
//! Everything that comes from torrents is escaped by the templates and passes [`format`] before. The policy for contents lets nothing
//! run or load but the daemon's own files. Forms come from pages of this origin only, and say so.

mod actions;
mod add;
mod assets;
mod detail;
mod format;
mod graph;
pub mod history;
mod icons;
mod list;
pub mod login;
mod options;
mod pieces;
mod query;
mod settings;

use crate::api::App;
use crate::api::error::{ApiError, JSON_LEN_MAX, whole};
use crate::auth::Caller;
use crate::config::Rules;
use crate::torrents::{Id, Refusal};
use askama::Template;
use assets::{NAMES, Names};
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state, map_request};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use list::Sums;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::watch;
use url::form_urlencoded;

pub use assets::is_one as is_asset;

/// What the page may load and do.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
base-uri 'none'; frame-ancestors 'none'";
/// What HTMX is told to do once something was done: look again.
const CHANGED: &str = r#"{"changed":true,"done":true}"#;

/// How long the form of somebody may be who is not in yet, in bytes.
const LOGIN_LEN_MAX: usize = 8 * 1024;

/// All routes of the page.
pub fn router(app: &Arc<App>) -> Router<Arc<App>> {
    Router::new()
        .route("/", get(list::show))
        .route("/rows", get(list::rows))
        .route("/ids", get(list::ids))
        .route("/live", get(crate::api::events::changes))
        .route("/do", post(actions::several))
        .route("/remove", get(actions::ask_removal).post(actions::remove))
        .route("/add", get(add::form).post(add::add))
        .layer(DefaultBodyLimit::max(add::BODY_LEN_MAX))
        .route("/keys", get(settings::keys))
        .route("/settings", get(settings::show).post(settings::save))
        .route("/t/{torrent}", get(detail::overview))
        .route("/t/{torrent}/do", post(actions::one))
        .route("/t/{torrent}/files", get(detail::files).post(options::files))
        .route("/t/{torrent}/peers", get(detail::peers).post(options::add_peers))
        .route("/t/{torrent}/trackers", get(detail::trackers).post(options::add_trackers))
        .route("/t/{torrent}/web-seeds", post(options::add_web_seeds))
        .route("/t/{torrent}/stream", post(options::stream))
        .route("/t/{torrent}/rename", get(options::ask_name).post(options::rename))
        .route("/t/{torrent}/options", get(options::show).post(options::save))
        .route("/login", get(login::form).post(login::login))
        .route("/logout", post(login::logout))
        .route_layer(from_fn_with_state(Arc::clone(app), around))
        .route("/assets/{name}", get(assets::serve))
}

/// Who asks for what: where the page lies for them, and whether they want a part of it.
#[derive(Clone, Debug)]
pub struct Ctx {
    pub app: Arc<App>,
    /// What all paths begin with: empty, or as in `/swarm`.
    pub base: String,
    /// HTMX asks.
    pub is_htmx: bool,
    /// It is for the dialog, not for a page of its own.
    pub in_dialog: bool,
    /// Where the request comes from, if it is a page of ours.
    back: Option<String>,
}

impl Ctx {
    fn new(app: &Arc<App>, parts: &Parts) -> Ctx {
        let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let is_htmx = text("hx-request") == Some("true");
        let base = app.rules.borrow().base.clone();
        Ctx {
            is_htmx,
            in_dialog: is_htmx && text("hx-target") == Some("dialog"),
            back: text("referer").and_then(path_of).filter(|path| path.starts_with(&format!("{base}/"))),
            base,
            app: Arc::clone(app),
        }
    }

    fn frame(&self, section: &'static str, live: &str) -> Frame {
        Frame {
            base: self.base.clone(),
            section,
            live: format!("{}{live}", self.base),
            sums: Sums::of(&self.app.table),
            names: &NAMES,
            can_leave: !self.app.access.is_open(),
            is_part: self.in_dialog,
        }
    }

    /// The answer to something that was done: a word about it for HTMX, else the way back.
    fn done(&self, said: &str) -> Response {
        self.done_at(said, None)
    }

    /// The same, and on to another page.
    fn done_at(&self, said: &str, path: Option<&str>) -> Response {
        let path = path.map(|path| format!("{}{path}", self.base));
        if self.is_htmx {
            let mut response = said_part(said, false).into_response();
            let headers = response.headers_mut();
            headers.insert("hx-trigger", HeaderValue::from_static(CHANGED));
            if let Some(path) = path.and_then(|path| HeaderValue::try_from(path).ok()) {
                headers.insert("hx-redirect", path);
            }
            return response;
        }
        let to = path.or_else(|| self.back.clone()).unwrap_or_else(|| format!("{}/", self.base));
        (StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response()
    }

    /// A torrent's row.
    fn row(&self, id: i64) -> PageResult<crate::table::Row> {
        let row = self.app.table.read().get(Id(id)).cloned();
        row.ok_or_else(|| Refusal::NoSuchTorrent(id.to_string()).into())
    }
}

/// The path of a URL of a page, and its query.
fn path_of(url: &str) -> Option<String> {
    let rest = url.split_once("://")?.1;
    let path = &rest[rest.find('/')?..];
    // What begins with two slashes leads to another host.
    (!path.starts_with("//") && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\'))
        .then(|| path.to_owned())
}

impl FromRequestParts<Arc<App>> for Ctx {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Ctx, Infallible> {
        Ok(Ctx::new(app, parts))
    }
}

/// What is around each page.
#[derive(Debug)]
pub struct Frame {
    pub base: String,
    /// Which part of the page this is.
    pub section: &'static str,
    /// Where news come from.
    pub live: String,
    pub sums: Sums,
    pub names: &'static Names,
    /// Whether there is a way out: without a token nobody is in.
    pub can_leave: bool,
    /// Only what changes of a page, or what goes into the dialog.
    pub is_part: bool,
}

/// The fields of a form.
#[derive(Debug, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// The field's value; empty if it is not there.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.trim())
    }

    /// The same with the spaces around it, which a password may have.
    pub fn whole(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Whether the field is there.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// All values of the field.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All fields.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl FromRequest<Arc<App>> for Fields {
    type Rejection = Fault;

    async fn from_request(request: Request, _: &Arc<App>) -> PageResult<Fields> {
        // Who is not in yet has nothing to say but a password.
        let is_in = request.extensions().get::<Caller>().is_some();
        let limit = if is_in { JSON_LEN_MAX } else { LOGIN_LEN_MAX };
        let bytes = whole(request.into_body(), limit).await?;
        Ok(Fields(form_urlencoded::parse(&bytes).into_owned().collect()))
    }
}

/// What is wrong, for people.
#[derive(Clone, Debug)]
pub struct Fault {
    status: StatusCode,
    message: String,
}

pub type PageResult<T> = Result<T, Fault>;

impl Fault {
    pub fn invalid(message: impl Into<String>) -> Fault {
        Fault { status: StatusCode::BAD_REQUEST, message: message.into() }
    }
}

impl From<ApiError> for Fault {
    fn from(error: ApiError) -> Fault {
        Fault { status: error.status(), message: error.message().to_owned() }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Fault {
        ApiError::from(refusal).into()
    }
}

impl IntoResponse for Fault {
    /// [`around`] knows how it is to be shown.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[derive(Template)]
#[template(path = "fault.html")]
struct FaultPage {
    frame: Frame,
    title: String,
    message: String,
}

/// A word about what was done, or why it was not, in the place for it.
#[derive(Template)]
#[template(path = "said.html")]
struct Said<'a> {
    message: &'a str,
    is_wrong: bool,
}

fn said_part(message: &str, is_wrong: bool) -> Response {
    let said = Said { message: &format::name(message), is_wrong };
    html(&said).unwrap_or_else(IntoResponse::into_response)
}

/// A rendered template.
pub fn html(template: &impl Template) -> PageResult<Response> {
    let defect = |error: askama::Error| Fault {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        message: format!("a defect: the page cannot be rendered: {error}"),
    };
    let text = template.render().map_err(defect)?;
    Ok(([(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response())
}

/// What holds for each request for the page: who sends forms, how faults are shown, what may run.
async fn around(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let ctx = Ctx::new(&app, &parts);
    let is_form = parts.method != Method::GET && parts.method != Method::HEAD;
    // A browser says where a form comes from, and the origin was checked. What says nothing is none, and has an API.
    let says = parts.headers.contains_key(header::ORIGIN) || parts.headers.contains_key("sec-fetch-site");
    let mut response = match is_form && !says {
        false => next.run(Request::from_parts(parts, body)).await,
        true => {
            let message = "forms come from pages; programs use /api/v1".to_owned();
            Fault { status: StatusCode::FORBIDDEN, message }.into_response()
        }
    };
    if let Some(fault) = response.extensions_mut().remove::<Fault>() {
        response = match is_form || !ctx.is_htmx || fault.status != StatusCode::NOT_FOUND {
            true => show_fault(&ctx, fault),
            // Somebody looks at a torrent that was removed.
            false => [("hx-redirect", format!("{}/", ctx.base))].into_response(),
        };
    }
    dress(response.headers_mut());
    response
}

/// What holds for what is a page.
fn dress(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    let same = HeaderValue::from_static("same-origin");
    headers.insert(HeaderName::from_static("cross-origin-opener-policy"), same.clone());
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), same);
}

/// The routes below the path that a proxy has put the daemon at, and without it: some proxies take it off.
pub fn based(router: Router, rules: watch::Receiver<Arc<Rules>>) -> Router {
    let strip = move |mut request: Request| {
        let base = rules.borrow().base.clone();
        if let Some(uri) = without(&base, request.uri()) {
            *request.uri_mut() = uri;
        }
        std::future::ready(request)
    };
    Router::new().fallback_service(router).layer(map_request(strip))
}

fn without(base: &str, uri: &Uri) -> Option<Uri> {
    let rest = uri.path_and_query()?.as_str().strip_prefix(base)?;
    if base.is_empty() || !rest.starts_with('/') {
        return None;
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(rest.parse().ok()?);
    Uri::from_parts(parts).ok()
}

fn show_fault(ctx: &Ctx, fault: Fault) -> Response {
    let Fault { status, message } = fault;
    let mut response = if ctx.is_htmx {
        let mut response = said_part(&message, true);
        response.headers_mut().insert("hx-reswap", HeaderValue::from_static("none"));
        response
    } else {
        let title = match status {
            StatusCode::NOT_FOUND => "There is nothing here",
            StatusCode::FORBIDDEN => "That is not allowed",
            _ => "That did not work",
        };
        let page = FaultPage {
            frame: ctx.frame("fault", ""),
            title: title.to_owned(),
            message: format::text(&message),
        };
        html(&page).unwrap_or_else(|_| ().into_response())
    };
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_taken_off_where_it_is_there() {
        let without = |base: &str, uri: &str| without(base, &uri.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(without("/swarm", "/swarm/t/5?x=1").as_deref(), Some("/t/5?x=1"));
        assert_eq!(without("/swarm", "/swarm/").as_deref(), Some("/"));
        for (base, uri) in [("", "/t/5"), ("/swarm", "/t/5"), ("/swarm", "/swarmed/"), ("/swarm", "/swarm")] {
            assert_eq!(without(base, uri), None, "{base} {uri}");
        }
    }

    #[test]
    fn the_way_back_stays_on_this_host() {
        assert_eq!(path_of("http://localhost:1/t/5?x=1").as_deref(), Some("/t/5?x=1"));
        for bad in [
            "http://localhost",
            "http://localhost//evil.example/",
            "javascript:alert(1)",
            "/t/5",
            "http://a/\\b",
        ] {
            assert_eq!(path_of(bad), None, "{bad}");
        }
    }
}

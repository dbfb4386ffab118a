//! Getting in, and out again.

use super::assets::{NAMES, Names};
use super::{Ctx, Fields, format, html, path_of};
use crate::api::App;
use crate::auth::proxy::Scheme;
use crate::auth::{Cookie, Denied, Via};
use askama::Template;
use axum::Extension;
use axum::extract::{RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use std::sync::Arc;
use url::form_urlencoded;

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    base: &'a str,
    names: &'static Names,
    /// Why they were not let in.
    message: String,
    /// Where they wanted to go.
    to: &'a str,
}

fn page(base: &str, message: &str, to: &str, status: StatusCode) -> Response {
    let page = LoginPage { base, names: &NAMES, message: format::name(message), to };
    let mut response = html(&page).unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response());
    *response.status_mut() = status;
    super::dress(response.headers_mut());
    response
}

/// What somebody with a browser sees who is not in yet; `None` for a program.
pub fn answer(app: &App, request: &Request, denied: Denied) -> Option<Response> {
    if denied != Denied::Token {
        return None;
    }
    let base = app.rules.borrow().base.clone();
    let text = |name: header::HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    if request.headers().contains_key("hx-request") {
        let to = [("hx-redirect", format!("{base}/login"))];
        return Some((StatusCode::UNAUTHORIZED, to).into_response());
    }
    let wants_page = text(header::ACCEPT).is_some_and(|accept| accept.contains("text/html"));
    let is_page = wants_page && request.method() == Method::GET && !request.uri().path().starts_with("/api/");
    is_page.then(|| {
        let to = request.uri().path_and_query().map_or("/", |path| path.as_str());
        page(&base, "", &format!("{base}{to}"), StatusCode::UNAUTHORIZED)
    })
}

/// Where they may go from here: a page of ours.
fn inside<'a>(base: &str, to: &'a str) -> Option<&'a str> {
    // As part of a URL, so that nothing that leads elsewhere passes.
    path_of(&format!("http://host{to}"))
        .filter(|path| path.starts_with(&format!("{base}/")) && path == to)?;
    Some(to)
}

/// The form.
pub async fn form(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response {
    let base = app.rules.borrow().base.clone();
    let query = query.unwrap_or_default();
    let to = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "to");
    let to = to.map(|(_, to)| to.into_owned()).unwrap_or_default();
    page(&base, "", inside(&base, &to).unwrap_or_default(), StatusCode::OK)
}

/// Lets somebody in who knows the password, or the token.
pub async fn login(
    State(app): State<Arc<App>>,
    Extension(via): Extension<Via>,
    scheme: Option<Extension<Scheme>>,
    fields: Fields,
) -> Response {
    let base = app.rules.borrow().base.clone();
    let to = inside(&base, fields.get("to")).map_or_else(|| format!("{base}/"), str::to_owned);
    match app.access.login(via, fields.get("user"), fields.whole("password")).await {
        Ok(key) => {
            let is_https = scheme.is_some_and(|Extension(scheme)| scheme.is_https);
            let to = HeaderValue::try_from(to).unwrap_or(HeaderValue::from_static("/"));
            let headers = [(header::LOCATION, to), (header::SET_COOKIE, Cookie::Page.set(key, is_https))];
            (StatusCode::SEE_OTHER, headers).into_response()
        }
        Err(Denied::TooMany(wait)) => {
            let message = Denied::TooMany(wait).to_string();
            page(&base, &message, &to, StatusCode::TOO_MANY_REQUESTS)
        }
        Err(_) => page(&base, "That is not right.", &to, StatusCode::UNAUTHORIZED),
    }
}

/// Ends the session.
pub async fn logout(ctx: Ctx, headers: HeaderMap) -> Response {
    ctx.app.access.logout(&headers);
    let to =
        HeaderValue::try_from(format!("{}/login", ctx.base)).unwrap_or(HeaderValue::from_static("/login"));
    (StatusCode::SEE_OTHER, [(header::LOCATION, to), (header::SET_COOKIE, Cookie::Page.clear())])
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_elsewhere() {
        for (base, to) in [("", "/"), ("", "/t/5?x=1"), ("/swarm", "/swarm/?q=a")] {
            assert_eq!(inside(base, to), Some(to));
        }
        for (base, to) in [
            ("", "//evil.example/"),
            ("", "https://evil.example/"),
            ("", "evil"),
            ("", ""),
            ("", "/\\evil.example"),
            ("/swarm", "/other/"),
            ("/swarm", "/swarmed"),
            ("", "/a\r\nb"),
        ] {
            assert_eq!(inside(base, to), None, "{to}");
        }
    }
}

//! The RPC of Transmission at `/transmission/rpc`, for programs that know it: the dialect of 2.x to 4.0 (up to RPC version 17), and the
//! JSON-RPC 2.0 of 4.1. `docs/apis.md` of the project says where it differs.
//!
//! `dialect` reads calls and writes answers, `ids`, `fields`, `change` and `session` say what they mean, all without I/O;
//! `calls` carries them out.

mod calls;
mod change;
mod dialect;
mod fields;
mod ids;
mod kept;
mod names;
mod outline;
mod parts;
mod session;

#[cfg(test)]
mod tests;

use crate::api::App;
use crate::api::error::{self, ApiError};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use dialect::{Answer, Call};
use futures_util::StreamExt as _;
use kept::Memory;
use serde_json::Value;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;
use swarm_engine::METAINFO_LEN_MAX;

/// Where it is.
pub const PATH: &str = "/transmission/rpc";
/// How long a body may be: a metainfo file in base64, and what is around it.
const BODY_LEN_MAX: usize = METAINFO_LEN_MAX / 3 * 4 + outline::BODY_LEN_MAX;
const SESSION_ID: HeaderName = HeaderName::from_static("x-transmission-session-id");
const RPC_VERSION: HeaderName = HeaderName::from_static("x-transmission-rpc-version");

/// What is kept between requests, up to the end of the process.
#[derive(Debug)]
pub struct Shared {
    /// What every request has to name: a page of another site cannot.
    session_id: String,
    memory: Memory,
}

impl Shared {
    /// With a new session id.
    ///
    /// # Errors
    /// If the system has no random bytes.
    pub fn new() -> std::io::Result<Shared> {
        let mut bytes = [0; 24];
        getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
        let session_id = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Shared { session_id, memory: Memory::default() })
    }

    fn is_named_by(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(SESSION_ID).map(HeaderValue::as_bytes).unwrap_or_default();
        self.session_id.as_bytes().ct_eq(given).into()
    }
}

/// The routes.
pub fn router() -> Router<Arc<App>> {
    // Some clients put a slash after it.
    Router::new().route(PATH, any(rpc)).route(&format!("{PATH}/"), any(rpc))
}

async fn rpc(State(app): State<Arc<App>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    if !app.transmission.is_named_by(&head.headers) {
        drain(body).await;
        return conflict(&app.transmission.session_id);
    }
    if head.method != Method::POST {
        return ApiError::method().into_response();
    }
    match answer(&app, body).await {
        Ok(Some(json)) => ([(header::CONTENT_TYPE, "application/json; charset=UTF-8")], json).into_response(),
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => error.into_response(),
    }
}

/// Takes what a client sends, for not all of them look at an answer before they have sent everything.
async fn drain(body: Body) {
    let mut left = BODY_LEN_MAX;
    let mut parts = body.into_data_stream();
    let taken = async {
        while let Some(Ok(part)) = parts.next().await
            && part.len() <= left
        {
            left -= part.len();
        }
    };
    let _ = tokio::time::timeout(error::BODY_TIMEOUT, taken).await;
}

/// Clients take the session id from this. Some of them read the page.
fn conflict(session_id: &str) -> Response {
    let page = format!(
        "<h1>409: Conflict</h1><p>A request needs this header:</p><p><code>X-Transmission-Session-Id: {session_id}</code></p>\n"
    );
    let mut response = (StatusCode::CONFLICT, page).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=UTF-8"));
    if let Ok(value) = HeaderValue::from_str(session_id) {
        headers.insert(SESSION_ID, value);
    }
    headers.insert(RPC_VERSION, HeaderValue::from_static(session::RPC_SEMVER));
    response
}

/// The answer in JSON; `None` if nobody wants one.
async fn answer(app: &App, body: Body) -> Result<Option<Vec<u8>>, ApiError> {
    let body = error::whole(body, BODY_LEN_MAX).await?;
    let too_long = || {
        let message = format!("the body is longer than {} bytes, and adds no torrent", outline::BODY_LEN_MAX);
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_long", message)
    };
    let (request, is_long) = {
        let outline = outline::outline(&body).ok_or_else(too_long)?;
        (dialect::read(&outline), outline.long.is_some())
    };
    // It may be as long as a metainfo file, of which there is a copy now.
    drop(body);
    match request {
        dialect::Request::One(Ok(call)) if is_long && call.method != "torrent_add" => Err(too_long()),
        dialect::Request::One(call) => Ok(one(app, call).await),
        dialect::Request::Batch(_) if is_long => Err(too_long()),
        dialect::Request::Batch(calls) => {
            let mut answers = Vec::new();
            for call in calls {
                answers.extend(one(app, call).await);
            }
            // Of an empty batch, and of one of notifications, there is nothing to tell.
            let all = || [&b"["[..], &answers.join(&b','), b"]"].concat();
            Ok((!answers.is_empty()).then(all))
        }
    }
}

async fn one(app: &App, call: Result<Call, Value>) -> Option<Vec<u8>> {
    let call = match call {
        Ok(call) => call,
        Err(refusal) => return serde_json::to_vec(&refusal).ok(),
    };
    let is_wanted = call.dialect == dialect::Dialect::Older || call.id.is_some();
    if !is_wanted && calls::only_tells(&call.method) {
        return None;
    }
    let result = calls::carry_out(app, &call).await;
    let answer = Answer { dialect: call.dialect, id: call.id, result };
    is_wanted.then(|| serde_json::to_vec(&answer).unwrap_or_default())
}

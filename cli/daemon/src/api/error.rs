//! Errors over HTTP, and the bodies of requests.

use crate::auth::Denied;
use crate::torrents::{Id, Refusal};
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use utoipa::ToSchema;

/// How long the body of a request may take to come.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a body in JSON may be, in bytes.
pub const JSON_LEN_MAX: usize = 1024 * 1024;

/// An error.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    error: ErrorInfo,
}

/// What is wrong.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorInfo {
    /// What sort of error, for programs.
    kind: &'static str,
    /// What is wrong and, where there is one, the mend: for people.
    message: String,
    /// The torrent that is in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Id>,
}

/// An error with its status.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    info: ErrorInfo,
}

impl ApiError {
    pub fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { status, info: ErrorInfo { kind, message: message.into(), id: None } }
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What is wrong, for people.
    pub fn message(&self) -> &str {
        &self.info.message
    }

    pub fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub fn method() -> ApiError {
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", "that cannot be done with it")
    }

    pub fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid", message)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        let (status, kind, id) = match &refusal {
            Refusal::NoSuchTorrent(_) => (StatusCode::NOT_FOUND, "not_found", None),
            Refusal::AlreadyAdded { id, .. } => (StatusCode::CONFLICT, "already_added", Some(*id)),
            Refusal::PathTaken { id, .. } => (StatusCode::CONFLICT, "path_taken", Some(*id)),
            Refusal::Folder(_) => (StatusCode::FORBIDDEN, "folder", None),
            Refusal::TooLarge { .. } => (StatusCode::INSUFFICIENT_STORAGE, "too_large", None),
            Refusal::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid", None),
            Refusal::NoSuchCategory(_) => (StatusCode::NOT_FOUND, "not_found", None),
            Refusal::CategoryExists(_) => (StatusCode::CONFLICT, "category_exists", None),
            Refusal::NoMetadata => (StatusCode::CONFLICT, "no_metadata", None),
            Refusal::Removing => (StatusCode::CONFLICT, "removing", None),
            Refusal::Moving => (StatusCode::CONFLICT, "moving", None),
            Refusal::TooMany(_) => (StatusCode::CONFLICT, "too_many", None),
            Refusal::Store { is_full: true, .. } => (StatusCode::INSUFFICIENT_STORAGE, "disk_full", None),
            Refusal::Store { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "store", None),
            Refusal::PrivateUrl { .. } => (StatusCode::FORBIDDEN, "private_url", None),
            Refusal::Fetch(_) => (StatusCode::BAD_GATEWAY, "fetch", None),
            Refusal::Engine(_) => (StatusCode::INTERNAL_SERVER_ERROR, "engine", None),
            Refusal::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping", None),
        };
        ApiError { status, info: ErrorInfo { kind, message: refusal.to_string(), id } }
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> ApiError {
        let (status, kind) = match denied {
            Denied::Host => (StatusCode::MISDIRECTED_REQUEST, "host"),
            Denied::Origin => (StatusCode::FORBIDDEN, "origin"),
            Denied::Token => (StatusCode::UNAUTHORIZED, "token"),
            Denied::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, "too_many_attempts"),
        };
        ApiError::new(status, kind, denied.to_string())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> ApiError {
        ApiError::invalid(rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> ApiError {
        ApiError::invalid(rejection.body_text())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody { error: self.info })).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            // What is left of its body is not read.
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

/// The whole body of a request, if it is not too long and does not take too long.
pub async fn whole(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let too_long = || {
        let message = format!("the body is longer than {limit} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_long", message)
    };
    if axum::body::HttpBody::size_hint(&body).lower() > limit as u64 {
        return Err(too_long());
    }
    let read = tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, limit)).await;
    match read {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            match cause.contains("length limit") {
                true => Err(too_long()),
                false => Err(ApiError::invalid("the body does not come whole")),
            }
        }
        Err(_) => Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "slow", "the body does not come in time")),
    }
}

/// A body in JSON. A request of another type is refused: a page can send one without asking whether it may.
pub async fn json<T: DeserializeOwned>(headers: &axum::http::HeaderMap, body: Body) -> Result<T, ApiError> {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if content_type.split(';').next().unwrap_or_default().trim() != "application/json" {
        let message = "the body has to be of the type application/json";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "type", message));
    }
    let bytes = whole(body, JSON_LEN_MAX).await?;
    serde_json::from_slice(&bytes).map_err(|error| ApiError::invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream::{StreamExt as _, iter, pending};

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_slow_or_too_long_is_not_waited_for() {
        let part = || Ok::<_, std::io::Error>(Bytes::from_static(b"12345"));
        let slow = Body::from_stream(iter([part()]).chain(pending()));
        let since = tokio::time::Instant::now();
        assert_eq!(whole(slow, 10).await.unwrap_err().status(), StatusCode::REQUEST_TIMEOUT);
        assert_eq!(since.elapsed(), BODY_TIMEOUT);
        assert_eq!(whole(Body::from_stream(iter([part(), part()])), 10).await.unwrap(), "1234512345");
        let endless = Body::from_stream(futures_util::stream::repeat_with(part));
        assert_eq!(whole(endless, 10).await.unwrap_err().status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(
            whole(Body::from("12345678901"), 10).await.unwrap_err().status(),
            StatusCode::PAYLOAD_TOO_LARGE
        );
        let broken = Body::from_stream(iter([part(), Err(std::io::Error::other("x"))]));
        assert_eq!(whole(broken, 10).await.unwrap_err().status(), StatusCode::BAD_REQUEST);
    }
}

//! Requests to a daemon over its Unix socket.

use crate::exit::{Exit, Failure, fail};
use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// How long an answer may be, in bytes.
const ANSWER_LEN_MAX: usize = 256 << 20;

/// A connection to a daemon.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
}

/// What a request sends along.
pub enum Body {
    None,
    Json(Value),
    Metainfo(Vec<u8>),
}

impl Client {
    /// Connects to the daemon at this socket.
    ///
    /// # Errors
    /// If none answers: how to start one.
    pub async fn connect(socket: Option<PathBuf>) -> Result<Client> {
        let Some(socket) = socket else {
            return fail(
                Exit::Usage,
                "there is no home folder to find the daemon's socket in; --socket names it",
            );
        };
        let stream = connect(&socket).await.map_err(|error| {
            let why = match error.kind() {
                std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                    "no daemon answers".to_owned()
                }
                std::io::ErrorKind::PermissionDenied => {
                    "only the daemon's user and root may connect".to_owned()
                }
                _ => format!("cannot connect: {error}"),
            };
            let mend = "start one with `swarm daemon`, or name its socket with --socket";
            Failure::new(Exit::Runtime, format!("{}: {why}; {mend}", socket.display()))
        })?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.context("the daemon does not answer")?;
        tokio::spawn(connection);
        Ok(Client { sender })
    }

    /// Sends a request; the answer's head is good.
    ///
    /// # Errors
    /// What the daemon says is wrong, with the status that fits.
    pub async fn send(&mut self, method: Method, path: &str, body: Body) -> Result<Response<Incoming>> {
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let (request, bytes) = match body {
            Body::None => (request, Bytes::new()),
            Body::Json(value) => {
                (request.header("content-type", "application/json"), value.to_string().into())
            }
            Body::Metainfo(bytes) => {
                (request.header("content-type", "application/x-bittorrent"), bytes.into())
            }
        };
        let request = request.body(Full::new(bytes)).context("a defect in the command")?;
        self.sender.ready().await.context("the daemon is gone")?;
        let response = self.sender.send_request(request).await.context("the daemon is gone")?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let told = whole(response).await.ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let told = told.unwrap_or_default();
        let message = told["error"]["message"].as_str().map_or_else(|| status.to_string(), str::to_owned);
        let exit = match told["error"]["kind"].as_str() {
            Some("not_found" | "invalid" | "folder" | "no_metadata") => Exit::Usage,
            Some("disk_full") => Exit::Destination,
            _ => Exit::Runtime,
        };
        fail(exit, message)
    }

    /// Asks for something in JSON; null if the answer is empty.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    pub async fn json(&mut self, method: Method, path: &str, body: Body) -> Result<Value> {
        let bytes = whole(self.send(method, path, body).await?).await?;
        match bytes.is_empty() {
            true => Ok(Value::Null),
            false => serde_json::from_slice(&bytes).context("the daemon's answer is no JSON"),
        }
    }

    pub async fn get(&mut self, path: &str) -> Result<Value> {
        self.json(Method::GET, path, Body::None).await
    }
}

async fn whole(response: Response<Incoming>) -> Result<Bytes> {
    let body = http_body_util::Limited::new(response.into_body(), ANSWER_LEN_MAX);
    let body = body
        .collect()
        .await
        .map_err(|error| Failure::new(Exit::Runtime, format!("the daemon's answer: {error}")))?;
    Ok(body.to_bytes())
}

#[cfg(unix)]
async fn connect(socket: &Path) -> std::io::Result<tokio::net::UnixStream> {
    tokio::net::UnixStream::connect(socket).await
}

#[cfg(not(unix))]
async fn connect(_: &Path) -> std::io::Result<tokio::io::DuplexStream> {
    Err(std::io::Error::other("this system has no Unix sockets"))
}

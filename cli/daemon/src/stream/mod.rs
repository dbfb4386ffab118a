//! Files of torrents over HTTP while they are downloaded: `/stream/TOKEN/FILE`.
//!
//! What is asked for is downloaded first, in the order of time: a [`FileReader`] moves the torrent's window along. A request for another
//! range has a window of its own; a client that goes away takes its window along. Nothing of a torrent is a page of ours: whatever is not known
//! as audio or video is an attachment, and no script runs.

mod media;
mod range;

use crate::auth::{Denied, Via, check_place};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::unfold;
pub use media::{is_playable, media_type};
use range::{Asked, asked};
use std::io::SeekFrom;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use swarm_engine::{FileIndex, FileReader, Metainfo, TorrentHandle};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How many streams may be open.
const STREAMS_MAX: usize = 32;
/// How much is sent at a time, in bytes.
const CHUNK_LEN: usize = 64 * 1024;
/// What a browser may do with what comes from a torrent: play it.
const POLICY: &str = "default-src 'none'; media-src 'self'; frame-ancestors 'none'; sandbox";

/// The streams that are open.
#[derive(Clone, Debug, Default)]
pub struct Streams(Arc<AtomicUsize>);

/// A place among them.
#[derive(Debug)]
struct Place(Streams);

impl Streams {
    fn enter(&self) -> Option<Place> {
        let entered = self.0.fetch_update(Relaxed, Relaxed, |open| (open < STREAMS_MAX).then_some(open + 1));
        entered.ok().map(|_| Place(self.clone()))
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.0.load(Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// A file of a torrent that runs.
#[derive(Clone, Debug)]
pub struct StreamFile {
    /// The torrent.
    pub handle: TorrentHandle,
    /// What it is.
    pub metainfo: Arc<Metainfo>,
    /// Which of its files.
    pub file: FileIndex,
    /// What the file is called.
    pub name: String,
}

/// A short answer in plain text.
pub fn refuse(status: StatusCode, message: impl Into<String>) -> Response {
    let headers =
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (status, headers, message.into() + "\n").into_response()
}

/// Answers a request for a file, or for a range of it.
pub async fn answer(file: &StreamFile, method: &Method, headers: &HeaderMap, streams: &Streams) -> Response {
    let StreamFile { handle, metainfo, file: index, name } = file;
    let Some(entry) = metainfo.info.files.get(index.idx()).filter(|entry| !entry.attr.pad) else {
        return refuse(StatusCode::NOT_FOUND, "there is no such file");
    };
    if method != Method::GET && method != Method::HEAD {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "that cannot be done with it");
    }
    let tag = format!("\"{}-{}\"", metainfo.info.info_hash, index.0);
    let len = entry.length;
    // Ranges mean something with GET alone (RFC 9110, 14.2).
    let asked = if method == Method::GET { asked(headers, len, &tag) } else { Asked::Whole };
    let (status, range) = match asked {
        Asked::Whole => (StatusCode::OK, 0..len),
        Asked::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Asked::Nothing => {
            let mut response = refuse(StatusCode::RANGE_NOT_SATISFIABLE, "the file has no such range");
            set(&mut response, header::CONTENT_RANGE, &format!("bytes */{len}"));
            return response;
        }
    };
    let body = if method == Method::HEAD || range.is_empty() {
        Body::empty()
    } else {
        let Some(place) = streams.enter() else {
            return refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{STREAMS_MAX} streams are open already"),
            );
        };
        match body(handle, *index, range.start, range.end - range.start, place).await {
            Ok(body) => body,
            Err(error) => return refuse(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let (media, disposition) = media::headers(name);
    for (name, value) in [
        (header::CONTENT_TYPE, media.to_owned()),
        (header::CONTENT_DISPOSITION, disposition),
        (header::CONTENT_LENGTH, (range.end - range.start).to_string()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::ETAG, tag),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::CONTENT_SECURITY_POLICY, POLICY.to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
        (header::CACHE_CONTROL, "private, no-store".to_owned()),
    ] {
        set(&mut response, name, &value);
    }
    if status == StatusCode::PARTIAL_CONTENT {
        let part = format!("bytes {}-{}/{len}", range.start, range.end - 1);
        set(&mut response, header::CONTENT_RANGE, &part);
    }
    response
}

fn set(response: &mut Response, name: header::HeaderName, value: &str) {
    // All of it is ASCII.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// What a client is being sent.
struct Sending {
    reader: FileReader,
    left: u64,
    _place: Place,
}

/// The bytes of a range, each when it is there.
async fn body(
    handle: &TorrentHandle,
    file: FileIndex,
    start: u64,
    len: u64,
    place: Place,
) -> Result<Body, Box<dyn std::error::Error + Send + Sync>> {
    let mut reader = handle.read(file)?;
    reader.seek(SeekFrom::Start(start)).await?;
    reader.limit_ahead(start + len);
    let sending = Sending { reader, left: len, _place: place };
    Ok(Body::from_stream(unfold(Some(sending), |sending| async move {
        let mut sending = sending.filter(|sending| sending.left > 0)?;
        let mut chunk = vec![0; sending.left.min(CHUNK_LEN as u64) as usize];
        match sending.reader.read(&mut chunk).await {
            Ok(0) => Some((Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)), None)),
            Ok(count) => {
                chunk.truncate(count);
                sending.left -= count as u64;
                Some((Ok(Bytes::from(chunk)), Some(sending)))
            }
            Err(error) => Some((Err(error), None)),
        }
    })))
}

/// Where [`serve`] has the file, on the host of its socket.
pub fn address_of_one(token: &str, name: &str) -> String {
    format!("/{token}/{}", media::encoded(name))
}

/// Serves one file of a torrent on a socket of loopback, as `/TOKEN/NAME`, until `stop` says so. Only who knows the token is answered.
pub async fn serve(listener: TcpListener, token: String, file: StreamFile, stop: watch::Receiver<bool>) {
    let state = Arc::new((token, file, Streams::default()));
    let router = Router::new().fallback(one_file).with_state(state);
    crate::api::serve::tcp(listener, router, stop).await;
}

async fn one_file(State(state): State<Arc<(String, StreamFile, Streams)>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let (token, file, streams) = &*state;
    let via = parts.extensions.get::<Via>().copied();
    let check = |via| check_place(via, &parts.uri, &parts.headers, &[]);
    if let Err(denied) = via.map_or(Err(Denied::Token), check) {
        return refuse(StatusCode::FORBIDDEN, denied.to_string());
    }
    let given = parts.uri.path().split('/').nth(1).unwrap_or_default();
    match is_same(given, token) {
        true => answer(file, &parts.method, &parts.headers, streams).await,
        false => refuse(StatusCode::NOT_FOUND, "there is nothing here"),
    }
}

/// Compares tokens in a time that tells nothing.
pub fn is_same(given: &str, token: &str) -> bool {
    use subtle::ConstantTimeEq as _;
    given.as_bytes().ct_eq(token.as_bytes()).into()
}

/// Where a file is under `/stream`, with its name for players that look at that.
pub fn address(token: &str, file: u32, name: &str) -> String {
    format!("/stream/{token}/{file}/{}", media::encoded(name))
}

/// A token that nobody guesses.
///
/// # Errors
/// If the system gives no random bytes.
pub fn new_token() -> std::io::Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(std::io::Error::other)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

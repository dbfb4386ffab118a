//! The web server that `lab --web-seed` runs in the source's place.

use anyhow::{Context as _, Result};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT_RANGES, CONTENT_RANGE, HeaderValue, RANGE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use swarm_core::metainfo::Metainfo;
use swarm_core::webseed::{file_url, parse_url};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The longest part that one answer has, in bytes.
const PART_LEN_MAX: u64 = 16 * 1024 * 1024;

/// Serves a torrent's files and counts what it sends. It ends when it is dropped.
pub struct Origin {
    /// What downloaders are given.
    pub url: String,
    sent: Arc<AtomicU64>,
    _server: JoinSet<()>,
}

impl Origin {
    /// Listens, with the torrent's file or folder in `dir`.
    pub fn start(addr: SocketAddr, metainfo: &Metainfo, dir: &Path) -> Result<Origin> {
        let listener = std::net::TcpListener::bind(addr).context("no socket for the web server")?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let url = format!("http://{}/", listener.local_addr()?);
        let base = parse_url(&url).map_err(anyhow::Error::msg)?;
        let info = &metainfo.info;
        let paths =
            info.files.iter().filter(|file| !file.attr.pad && !file.attr.symlink).filter_map(|file| {
                let components = file.path.iter().map(|name| name.as_bytes());
                let url = file_url(&base, info.single_file, components)?;
                Some((url.path().to_owned(), dir.join(file.path.iter().collect::<PathBuf>())))
            });
        let paths: Arc<BTreeMap<String, PathBuf>> = Arc::new(paths.collect());
        let sent = Arc::default();
        let mut server = JoinSet::new();
        server.spawn(serve(listener, paths, Arc::clone(&sent)));
        Ok(Origin { url, sent, _server: server })
    }

    /// Bytes of bodies sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

async fn serve(listener: TcpListener, paths: Arc<BTreeMap<String, PathBuf>>, sent: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    loop {
        // Without a descriptor it is tried again with the next connection.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let (paths, sent) = (Arc::clone(&paths), Arc::clone(&sent));
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, Arc::clone(&paths), Arc::clone(&sent)));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(
    request: Request<Incoming>,
    paths: Arc<BTreeMap<String, PathBuf>>,
    sent: Arc<AtomicU64>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let plain = |status| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        Ok(response)
    };
    let Some(path) = paths.get(request.uri().path()).cloned() else { return plain(StatusCode::NOT_FOUND) };
    let range = request.headers().get(RANGE).and_then(|range| parse_range(range.to_str().ok()?));
    let Some((first, last)) = range else { return plain(StatusCode::RANGE_NOT_SATISFIABLE) };
    let read = tokio::task::spawn_blocking(move || read_part(&path, first, last)).await;
    let Ok(Ok((bytes, len))) = read else { return plain(StatusCode::INTERNAL_SERVER_ERROR) };
    if bytes.is_empty() {
        return plain(StatusCode::RANGE_NOT_SATISFIABLE);
    }
    sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    let content_range = format!("bytes {first}-{}/{len}", first + bytes.len() as u64 - 1);
    let mut response = Response::new(Full::new(Bytes::from(bytes)));
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    if let Ok(value) = HeaderValue::from_str(&content_range) {
        response.headers_mut().insert(CONTENT_RANGE, value);
    }
    response.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    Ok(response)
}

fn parse_range(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

fn read_part(path: &Path, first: u64, last: u64) -> std::io::Result<(Vec<u8>, u64)> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(first))?;
    let mut bytes = Vec::new();
    file.take((last - first + 1).min(PART_LEN_MAX)).read_to_end(&mut bytes)?;
    Ok((bytes, len))
}

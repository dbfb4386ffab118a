//! Sockets for HTTP, and their connections.

use crate::auth::Via;
use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower_service::Service as _;

/// How many connections there are at a time on one socket. Others wait in the system's queue.
const CONNECTIONS_MAX: usize = 128;
/// How long the head of a request may take, and a connection idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest head of a request, in bytes.
const HEAD_LEN_MAX: usize = 64 * 1024;
/// After a failure to take a connection.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);
/// How long requests may go on after the end was asked for.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves what comes over TCP until `stop` says so.
pub async fn tcp(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let Ok(local) = listener.local_addr() else { return };
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                let via = Via::Tcp { local: stream.local_addr().unwrap_or(local), peer };
                let (router, stop) = (router.clone(), stop.clone());
                tokio::spawn(async move {
                    talk(stream, via, router, stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection is not taken");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drain(&places).await;
}

/// The same for the Unix socket, and only for this user and root.
#[cfg(unix)]
pub async fn unix(listener: tokio::net::UnixListener, router: Router, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let ours = own_uid();
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let is_ours =
                    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || Some(peer.uid()) == ours);
                if !is_ours {
                    continue;
                }
                let (router, stop) = (router.clone(), stop.clone());
                tokio::spawn(async move {
                    talk(stream, Via::Unix, router, stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection is not taken");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drain(&places).await;
}

/// Who this process is to the peers of its sockets.
#[cfg(unix)]
fn own_uid() -> Option<u32> {
    let (one, _other) = tokio::net::UnixStream::pair().ok()?;
    one.peer_cred().ok().map(|peer| peer.uid())
}

/// Waits until the end is asked for.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Waits until all connections have ended, for a while.
async fn drain(places: &Semaphore) {
    let _ = tokio::time::timeout(END_TIMEOUT, places.acquire_many(CONNECTIONS_MAX as u32)).await;
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    via: Via,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(via);
        router.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_LEN_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            // A stream of events has no end of its own.
            tokio::time::timeout(END_TIMEOUT, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, ?via, "a connection has ended");
    }
}

/// Opens a socket for HTTP.
///
/// # Errors
/// What the system says.
pub async fn listen(addr: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(addr).await
}

/// Opens the Unix socket, in place of one that nobody listens on any more. Only its owner may connect.
///
/// # Errors
/// If somebody listens there, or something else is there, or what the system says.
#[cfg(unix)]
pub async fn listen_unix(path: &std::path::Path) -> std::io::Result<tokio::net::UnixListener> {
    use std::io::{Error, ErrorKind};
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(Error::new(ErrorKind::AlreadyExists, "something else is there, and stays"));
        }
        Ok(_) => match tokio::net::UnixStream::connect(path).await {
            Ok(_) => return Err(Error::new(ErrorKind::AddrInUse, "another daemon listens there")),
            Err(_) => std::fs::remove_file(path)?,
        },
    }
    let listener = tokio::net::UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

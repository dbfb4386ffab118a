//! Sockets for HTTP, and their connections.

use super::impatient::Impatient;
use crate::auth::Via;
use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
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
/// How long a client may take nothing of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// After so long without a word from a client it is asked whether it is there, so many times, so far apart. Then its connection ends.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_TIMES: u32 = 4;
/// How long requests may go on after the end was asked for.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// A socket that connections come from.
trait Accept {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection, and how it came; `None` if it may not.
    async fn accept(&self) -> std::io::Result<Option<(Self::Stream, Via)>>;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> std::io::Result<Option<(TcpStream, Via)>> {
        let (stream, peer) = TcpListener::accept(self).await?;
        let _ = stream.set_nodelay(true);
        // Of one that waits for something nobody else would notice that it is gone.
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_INTERVAL);
        let keepalive = keepalive.with_retries(KEEPALIVE_TIMES);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
        let local = stream.local_addr()?;
        Ok(Some((stream, Via::Tcp { local, peer })))
    }
}

/// The Unix socket, and the user whom it is for.
#[cfg(unix)]
struct Owned(tokio::net::UnixListener, Option<u32>);

#[cfg(unix)]
impl Accept for Owned {
    type Stream = tokio::net::UnixStream;

    async fn accept(&self) -> std::io::Result<Option<(Self::Stream, Via)>> {
        let (stream, _) = self.0.accept().await?;
        let is_ours = stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || Some(peer.uid()) == self.1);
        Ok(is_ours.then_some((stream, Via::Unix)))
    }
}

/// Serves what comes over TCP until `stop` says so.
pub async fn tcp(listener: TcpListener, router: Router, stop: watch::Receiver<bool>) {
    serve(listener, router, stop).await;
}

/// The same for the Unix socket, and only for this user and root.
#[cfg(unix)]
pub async fn unix(listener: tokio::net::UnixListener, router: Router, stop: watch::Receiver<bool>) {
    serve(Owned(listener, own_uid()), router, stop).await;
}

async fn serve(listener: impl Accept, router: Router, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
        };
        match accepted {
            Ok(Some((stream, via))) => {
                let (router, stop) = (router.clone(), stop.clone());
                tokio::spawn(async move {
                    talk(Impatient::new(stream, WRITE_TIMEOUT), via, router, stop).await;
                    drop(place);
                });
            }
            Ok(None) => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn clients_are_asked_whether_they_are_there() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = Accept::accept(&listener).await.unwrap().unwrap();
        assert!(SockRef::from(&stream).keepalive().unwrap());
        #[cfg(target_os = "linux")]
        assert_eq!(SockRef::from(&stream).tcp_keepalive_time().unwrap(), KEEPALIVE_AFTER);
    }
}

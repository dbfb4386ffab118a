//! One client's connection.

use std::cell::RefCell;
use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::Either;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use swarm_core::rng::Rng;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::places::Place;
use super::respond::{Reply, respond};
use super::write_timeout::WriteTimeout;
use super::{Shared, proxy_protocol};
use crate::config::Source;
use crate::tls::Tls;

/// Longest head of a request, in bytes: enough for a scrape of 128 torrents.
const HEAD_LEN_MAX: usize = 16 * 1024;

/// Serves requests until the client leaves, breaks the rules or a time limit, or `stop`.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Tls>,
    place: Place,
    shared: Arc<Shared>,
    stop: impl Future<Output = ()>,
) {
    let _open = shared.counters.connections.enter();
    let mut stop = pin!(stop);
    let opening =
        tokio::time::timeout(shared.config.limits.request_timeout, open(stream, peer, tls, &shared));
    let opened = tokio::select! {
        opened = opening => opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        () = stop.as_mut() => return,
    };
    let result: Result<(), Box<dyn Error + Send + Sync>> = match opened {
        Ok((Stream::Plain(stream), client)) => {
            talk(stream, client, &place, shared.clone(), stop).await.map_err(Into::into)
        }
        Ok((Stream::Tls(stream), client)) => {
            talk(*stream, client, &place, shared.clone(), stop).await.map_err(Into::into)
        }
        Err(error) => Err(error.into()),
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "connection closed");
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What comes before the first request: the proxy's word on who the client is, and the handshake.
async fn open(
    mut stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Tls>,
    shared: &Shared,
) -> io::Result<(Stream, SocketAddr)> {
    let client = match shared.config.source {
        Source::ProxyProtocol => proxy_protocol::read_source(&mut stream).await?.unwrap_or(peer),
        Source::Connection | Source::ForwardedFor => peer,
    };
    let stream = match tls {
        None => Stream::Plain(stream),
        Some(tls) => Stream::Tls(Box::new(tls.acceptor().accept(stream).await?)),
    };
    Ok((stream, client))
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    client: SocketAddr,
    place: &Place,
    shared: Arc<Shared>,
    stop: Pin<&mut impl Future<Output = ()>>,
) -> hyper::Result<()> {
    let limits = shared.config.limits;
    let io = TokioIo::new(WriteTimeout::new(stream, limits.reply_timeout));
    let rng = RefCell::new(shared.fork_rng());
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request_timeout)
        .max_buf_size(HEAD_LEN_MAX)
        .serve_connection(io, Client { shared, addr: client, place, rng });
    let mut connection = pin!(connection);
    tokio::select! {
        result = connection.as_mut() => result,
        () = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

struct Client<'a> {
    shared: Arc<Shared>,
    addr: SocketAddr,
    place: &'a Place,
    rng: RefCell<Rng>,
}

impl<'a> Service<Request<Incoming>> for Client<'a> {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Either<
        std::future::Ready<Result<Response<Full<Bytes>>, Infallible>>,
        Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send + 'a>>,
    >;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        match respond(&self.shared, &mut self.rng.borrow_mut(), &request, self.addr) {
            Reply::Now(response) => {
                self.place.served(self.shared.clock.now());
                Either::Left(ready(Ok(response)))
            }
            Reply::Later(response) => {
                let (shared, place) = (self.shared.clone(), self.place);
                Either::Right(Box::pin(async move {
                    let response = response.await;
                    place.served(shared.clock.now());
                    Ok(response)
                }))
            }
        }
    }
}

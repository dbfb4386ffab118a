//! One client's connection.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use swarm_core::rng::Rng;
use tokio::net::TcpStream;

use super::Shared;
use super::respond::respond;
use super::write_timeout::WriteTimeout;

/// Longest head of a request, in bytes: enough for a scrape of 128 torrents.
const HEAD_LEN_MAX: usize = 16 * 1024;

/// Serves requests until the client leaves, breaks the rules or a time limit, or `stop`.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    stop: impl Future<Output = ()>,
) {
    let _open = shared.counters.connections.enter();
    let limits = shared.config.limits;
    let io = TokioIo::new(WriteTimeout::new(stream, limits.reply_timeout));
    let client = Client { shared: shared.clone(), peer, rng: RefCell::new(shared.fork_rng()) };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request_timeout)
        .max_buf_size(HEAD_LEN_MAX)
        .serve_connection(io, client);
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "connection closed");
    }
}

struct Client {
    shared: Arc<Shared>,
    peer: SocketAddr,
    rng: RefCell<Rng>,
}

impl Service<Request<Incoming>> for Client {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Full<Bytes>>, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        ready(Ok(respond(&self.shared, &mut self.rng.borrow_mut(), &request, self.peer)))
    }
}

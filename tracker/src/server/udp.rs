//! Announces and scrapes over UDP (BEP 15).
//!
//! Anybody can write any source address on a datagram. So nothing is kept of a connect, and before an address
//! is proved, no reply is longer than its request, or the tracker would multiply what is sent to a victim in
//! the victim's name. Datagrams that make no sense or prove nothing get no reply at all, and do not count
//! against the address that they name.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use socket2::{Domain, Protocol, Socket, Type};
use swarm_core::id::InfoHash;
use swarm_core::net::Family;
use swarm_core::rng::Rng;
use swarm_core::tracker::udp::{Request, Response, TransactionId, peers_max};
use swarm_core::tracker::{AnnounceRequest, ScrapeResponse};
use tokio::net::UdpSocket;

use super::datagrams::Batch;
use super::respond::{Failure, admit};
use super::{ACCEPT_RETRY, Shared, ask};

/// What the kernel may keep for us: a burst of thousands of requests.
const SOCKET_BUFFER_LEN: usize = 1 << 20;

/// Opens a socket for requests, and says where it is.
pub(super) fn bind(addr: SocketAddr) -> io::Result<(UdpSocket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_recv_buffer_size(SOCKET_BUFFER_LEN)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_LEN)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    let addr = socket.local_addr()?;
    Ok((socket, addr))
}

/// Answers what comes, for ever. Several of these may share a socket.
pub(super) async fn serve(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut rng = shared.fork_rng();
    let mut batch = Batch::new();
    loop {
        if let Err(error) = batch.receive(&socket).await {
            if shared.rate_limited_logs.udp.is_due(shared.clock.now()) {
                tracing::warn!(%error, "cannot receive over UDP");
            }
            tokio::time::sleep(ACCEPT_RETRY).await;
            continue;
        }
        let mut later = Vec::new();
        batch.reply(|datagram, client, out| match respond(&shared, &mut rng, datagram, client) {
            Some(Reply::Now(response)) => response.encode(Family::of_ip(client.ip()), out),
            Some(Reply::Later(response)) => later.push(async move { (client, response.await) }),
            None => {
                tracing::trace!(%client, "datagram dropped");
                shared.counters.udp_dropped.add_one();
            }
        });
        batch.send(&socket).await;
        if !later.is_empty() {
            // Others need not wait for the shared store. How many wait for it is bounded by its queue: whoever
            // finds no place there is answered from memory.
            tokio::spawn(reply_later(socket.clone(), later));
        }
    }
}

/// Sends replies as they come.
async fn reply_later<F: Future<Output = (SocketAddr, Response)>>(socket: Arc<UdpSocket>, later: Vec<F>) {
    let mut replies: FuturesUnordered<F> = later.into_iter().collect();
    let mut out = Vec::new();
    while let Some((client, response)) = replies.next().await {
        out.clear();
        response.encode(Family::of_ip(client.ip()), &mut out);
        if let Err(error) = socket.send_to(&out, client).await {
            tracing::trace!(%error, %client, "reply not sent");
        }
    }
}

/// A reply, or what comes to one.
enum Reply {
    Now(Response),
    Later(Pin<Box<dyn Future<Output = Response> + Send>>),
}

/// The reply to one datagram, if it gets one.
fn respond(shared: &Arc<Shared>, rng: &mut Rng, datagram: &[u8], client: SocketAddr) -> Option<Reply> {
    let (now, source) = (shared.clock.now(), client.ip());
    let response = match Request::parse(datagram) {
        Ok(Request::Connect { transaction }) => {
            shared.counters.udp_connects.add_one();
            let connection = shared.connection_ids.give(now, source);
            Response::Connect { transaction, connection }
        }
        Ok(Request::Announce { connection, transaction, announce, .. })
            if shared.connection_ids.are_valid(now, source, connection) =>
        {
            shared.counters.announces.add_one();
            let refused =
                move |shared: &Shared, failure| refuse(shared, transaction, client, "announce", &failure);
            match admit(shared, source) {
                Ok(()) if shared.remote.is_some() => {
                    let (shared, mut rng) = (shared.clone(), rng.fork());
                    return Some(Reply::Later(Box::pin(async move {
                        let announced = announce_to(&shared, &mut rng, transaction, announce, source).await;
                        announced.unwrap_or_else(|failure| refused(&shared, failure))
                    })));
                }
                admitted => admitted
                    .and_then(|()| respond_to_announce(shared, rng, transaction, announce, source))
                    .unwrap_or_else(|failure| refused(shared, failure)),
            }
        }
        Ok(Request::Scrape { connection, transaction, info_hashes })
            if shared.connection_ids.are_valid(now, source, connection) =>
        {
            shared.counters.scrapes.add_one();
            match admit(shared, source) {
                Ok(()) if shared.remote.is_some() => {
                    let shared = shared.clone();
                    return Some(Reply::Later(Box::pin(async move {
                        let known = match &shared.remote {
                            Some(remote) => ask::scrape(&shared, remote, &info_hashes).await,
                            None => shared.store.scrape(&info_hashes),
                        };
                        scraped(transaction, &info_hashes, &known)
                    })));
                }
                Ok(()) => scraped(transaction, &info_hashes, &shared.store.scrape(&info_hashes)),
                Err(failure) => refuse(shared, transaction, client, "scrape", &failure),
            }
        }
        Ok(_) | Err(_) => return None,
    };
    Some(Reply::Now(response))
}

fn scraped(transaction: TransactionId, info_hashes: &[InfoHash], known: &ScrapeResponse) -> Response {
    let stats = info_hashes.iter().map(|hash| known.files.get(hash).copied().unwrap_or_default());
    Response::Scrape { transaction, stats: stats.collect() }
}

/// What fits a datagram.
fn fitting(shared: &Shared, mut announce: AnnounceRequest, source: IpAddr) -> AnnounceRequest {
    let fit = u32::try_from(peers_max(Family::of_ip(source))).unwrap_or(u32::MAX);
    announce.numwant = Some(announce.numwant.unwrap_or_else(|| shared.store.numwant_default()).min(fit));
    announce
}

fn respond_to_announce(
    shared: &Shared,
    rng: &mut Rng,
    transaction: TransactionId,
    announce: AnnounceRequest,
    source: IpAddr,
) -> Result<Response, Failure> {
    let announce = fitting(shared, announce, source);
    let response = shared.store.announce(shared.clock.now(), rng, &announce, source)?;
    Ok(Response::Announce { transaction, response })
}

/// The same, where trackers share a store.
async fn announce_to(
    shared: &Shared,
    rng: &mut Rng,
    transaction: TransactionId,
    announce: AnnounceRequest,
    source: IpAddr,
) -> Result<Response, Failure> {
    let Some(remote) = &shared.remote else {
        return respond_to_announce(shared, rng, transaction, announce, source);
    };
    let announce = fitting(shared, announce, source);
    let response = ask::announce(shared, remote, rng, &announce, source).await?;
    Ok(Response::Announce { transaction, response })
}

fn refuse(
    shared: &Shared,
    transaction: TransactionId,
    client: SocketAddr,
    what: &str,
    failure: &Failure,
) -> Response {
    shared.counters.refused.add_one();
    tracing::debug!(%client, %failure, "{what} refused");
    Response::Error { transaction, message: failure.to_string() }
}

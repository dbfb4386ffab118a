//! Announces and scrapes over UDP (BEP 15).
//!
//! Anybody can write any source address on a datagram. So nothing is kept of a connect, and before an address
//! is proved, no reply is longer than its request, or the tracker would multiply what is sent to a victim in
//! the victim's name. Datagrams that make no sense or prove nothing get no reply at all, and do not count
//! against the address that they name.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use swarm_core::net::Family;
use swarm_core::rng::Rng;
use swarm_core::tracker::AnnounceRequest;
use swarm_core::tracker::udp::{Request, Response, TransactionId, peers_max};
use tokio::net::UdpSocket;

use super::datagrams::Batch;
use super::respond::{Failure, admit};
use super::{ACCEPT_RETRY, Shared};

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
        batch.reply(|datagram, client, out| respond(&shared, &mut rng, datagram, client, out));
        batch.send(&socket).await;
    }
}

/// Appends the reply to one datagram to `out`, if it gets one.
fn respond(shared: &Shared, rng: &mut Rng, datagram: &[u8], client: SocketAddr, out: &mut Vec<u8>) {
    let (now, source) = (shared.clock.now(), client.ip());
    let response = match Request::parse(datagram) {
        Ok(Request::Connect { transaction }) => {
            shared.counters.udp_connects.add_one();
            let connection = shared.connection_ids.give(now, source);
            Some(Response::Connect { transaction, connection })
        }
        Ok(Request::Announce { connection, transaction, announce, .. })
            if shared.connection_ids.are_valid(now, source, connection) =>
        {
            shared.counters.announces.add_one();
            Some(
                respond_to_announce(shared, rng, transaction, announce, source)
                    .unwrap_or_else(|failure| refuse(shared, transaction, client, "announce", &failure)),
            )
        }
        Ok(Request::Scrape { connection, transaction, info_hashes })
            if shared.connection_ids.are_valid(now, source, connection) =>
        {
            shared.counters.scrapes.add_one();
            let scraped = admit(shared, source).map(|()| {
                let known = shared.store.scrape(&info_hashes).files;
                let stats = info_hashes.iter().map(|hash| known.get(hash).copied().unwrap_or_default());
                Response::Scrape { transaction, stats: stats.collect() }
            });
            Some(scraped.unwrap_or_else(|failure| refuse(shared, transaction, client, "scrape", &failure)))
        }
        Ok(_) | Err(_) => None,
    };
    match response {
        Some(response) => response.encode(Family::of_ip(source), out),
        None => {
            tracing::trace!(%client, "datagram dropped");
            shared.counters.udp_dropped.add_one();
        }
    }
}

fn respond_to_announce(
    shared: &Shared,
    rng: &mut Rng,
    transaction: TransactionId,
    mut announce: AnnounceRequest,
    source: IpAddr,
) -> Result<Response, Failure> {
    admit(shared, source)?;
    let fit = u32::try_from(peers_max(Family::of_ip(source))).unwrap_or(u32::MAX);
    announce.numwant = Some(announce.numwant.unwrap_or_else(|| shared.store.numwant_default()).min(fit));
    let response = shared.store.announce(shared.clock.now(), rng, &announce, source)?;
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

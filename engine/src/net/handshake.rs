//! Opening connections: the one place that dials and the one that accepts, and the 68 bytes that both begin with.

use super::socket::{self, Binding};
use super::transport::Stream;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use swarm_core::id::InfoHash;
use swarm_core::wire::handshake::{HANDSHAKE_LEN, Handshake, HandshakeError};
use tokio::net::TcpStream;

/// How long one who dials us may take over the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The part of a handshake up to the info-hash, after which an acceptor knows which torrent is meant.
const FRONT_LEN: usize = 48;

/// A connection on which handshakes have been exchanged.
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    /// The peer's handshake.
    pub(crate) theirs: Handshake,
    /// Whether the peer dialled us.
    pub(crate) inbound: bool,
}

/// How to reach a peer: attempts, made one after the other until one succeeds.
pub(crate) struct DialPlan {
    pub(crate) addr: SocketAddr,
    attempts: [Attempt; 1],
}

/// One way to reach a peer, which takes `patience` at most.
struct Attempt {
    transport: Transport,
    patience: Duration,
}

#[derive(Clone, Copy)]
enum Transport {
    Tcp,
}

impl DialPlan {
    /// One attempt over TCP. With encryption this becomes two, encrypted and then plain; uTP is one more.
    pub(crate) fn new(addr: SocketAddr, patience: Duration) -> DialPlan {
        DialPlan { addr, attempts: [Attempt { transport: Transport::Tcp, patience }] }
    }
}

/// Dials a peer and exchanges handshakes.
pub(crate) async fn dial(plan: &DialPlan, binding: &Binding, ours: Handshake) -> io::Result<Opened> {
    let mut failure = io::ErrorKind::AddrNotAvailable.into();
    for attempt in &plan.attempts {
        let opened = async {
            let stream = match attempt.transport {
                Transport::Tcp => Stream::connect_tcp(plan.addr, binding).await?,
            };
            initiate(stream, ours).await
        };
        match tokio::time::timeout(attempt.patience, opened).await.unwrap_or_else(|late| Err(late.into())) {
            // Another attempt would lack the same.
            Err(error) if !socket::is_our_own_trouble(&error) => failure = error,
            result => return result,
        }
    }
    Err(failure)
}

async fn initiate(mut stream: Stream, ours: Handshake) -> io::Result<Opened> {
    stream.write_all(&ours.encode()).await?;
    let mut bytes = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut bytes[..FRONT_LEN]).await?;
    if decoded(Handshake::decode_info_hash(&bytes[..FRONT_LEN]))? != ours.info_hash {
        return Err(invalid("the peer answered for another torrent"));
    }
    stream.read_exact(&mut bytes[FRONT_LEN..]).await?;
    Ok(Opened { stream, theirs: decoded(Handshake::decode(&bytes))?, inbound: false })
}

/// Exchanges handshakes with somebody who has dialled us. `find` says which torrent is meant and our handshake there, or
/// `None` if we do not have it.
pub(crate) async fn accept<T>(
    stream: TcpStream,
    addr: SocketAddr,
    find: impl FnOnce(InfoHash) -> Option<(T, Handshake)>,
) -> io::Result<(T, Opened)> {
    let mut stream = Stream::accepted_tcp(stream, addr)?;
    tokio::time::timeout(HANDSHAKE_TIMEOUT, async {
        let mut bytes = [0; HANDSHAKE_LEN];
        stream.read_exact(&mut bytes[..FRONT_LEN]).await?;
        let (torrent, ours) = find(decoded(Handshake::decode_info_hash(&bytes[..FRONT_LEN]))?)
            .ok_or_else(|| invalid("no such torrent here"))?;
        stream.write_all(&ours.encode()).await?;
        stream.read_exact(&mut bytes[FRONT_LEN..]).await?;
        Ok((torrent, Opened { stream, theirs: decoded(Handshake::decode(&bytes))?, inbound: true }))
    })
    .await?
}

/// What a part of a handshake says.
fn decoded<T>(decoded: Result<Option<T>, HandshakeError>) -> io::Result<T> {
    decoded.map_err(invalid)?.ok_or_else(|| invalid("the handshake is too short"))
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

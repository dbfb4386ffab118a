//! The 68 bytes that open a connection, in both directions.

use super::socket;
use crate::session::hub::Hub;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use swarm_core::id::{InfoHash, PeerId};
use swarm_core::wire::handshake::{HANDSHAKE_LEN, Handshake, Reserved};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long the other side may take over its handshake.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The part of a handshake up to the info-hash, after which an acceptor knows which torrent is meant.
const FRONT_LEN: usize = 48;

/// Dials a peer and opens the connection. Who takes longer than `patience` has failed. `None` if there may be no further
/// connections.
pub(crate) async fn dial(
    hub: &Hub,
    addr: SocketAddr,
    patience: Duration,
    ours: Handshake,
) -> Option<io::Result<(TcpStream, Handshake)>> {
    let _permit = hub.half_open.acquire().await;
    hub.dial_pace().await;
    if !hub.may_dial(addr.ip()) {
        return None;
    }
    let attempt = async {
        let mut stream = socket::dial(addr, &hub.options).await?;
        let hello = initiate(&mut stream, ours).await?;
        Ok((stream, hello))
    };
    let dialled = match tokio::time::timeout(patience, attempt).await {
        Ok(outcome) => outcome,
        Err(late) => Err(late.into()),
    };
    if dialled.as_ref().is_err_and(socket::is_our_own_trouble) {
        hub.lacks_descriptors();
    }
    Some(dialled)
}

/// Opens a connection that we dialled.
async fn initiate(stream: &mut TcpStream, ours: Handshake) -> io::Result<Handshake> {
    stream.write_all(&ours.encode()).await?;
    let mut bytes = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut bytes[..FRONT_LEN]).await?;
    if front_hash(&bytes)? != ours.info_hash {
        return Err(invalid("the peer answered for another torrent"));
    }
    stream.read_exact(&mut bytes[FRONT_LEN..]).await?;
    whole(&bytes)
}

/// Opens a connection that was dialled to us. `ours` says what we are called in a torrent and which
/// extensions we speak there, or `None` if we do not have it.
pub(crate) async fn accept(
    stream: &mut TcpStream,
    ours: impl FnOnce(InfoHash) -> Option<(PeerId, Reserved)>,
) -> io::Result<Handshake> {
    let mut bytes = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut bytes[..FRONT_LEN]).await?;
    let info_hash = front_hash(&bytes)?;
    let (peer_id, reserved) = ours(info_hash).ok_or_else(|| invalid("no such torrent here"))?;
    stream.write_all(&Handshake { reserved, info_hash, peer_id }.encode()).await?;
    stream.read_exact(&mut bytes[FRONT_LEN..]).await?;
    whole(&bytes)
}

fn front_hash(bytes: &[u8; HANDSHAKE_LEN]) -> io::Result<InfoHash> {
    Handshake::decode_info_hash(&bytes[..FRONT_LEN])
        .map_err(invalid)?
        .ok_or_else(|| invalid("the handshake is too short"))
}

fn whole(bytes: &[u8; HANDSHAKE_LEN]) -> io::Result<Handshake> {
    Handshake::decode(bytes).map_err(invalid)?.ok_or_else(|| invalid("the handshake is too short"))
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

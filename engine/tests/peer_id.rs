//! Somebody who uses another peer's id, on loopback, where each address is another host.

mod common;

use common::{Swarm, session};
use std::net::SocketAddr;
use swarm_core::id::{InfoHash, PeerId};
use swarm_core::wire::handshake::{HANDSHAKE_LEN, Handshake, Reserved};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Shakes hands as `peer_id` from 127.0.0.2: the connection, and what the other side calls itself.
async fn shake_hands(
    to: SocketAddr,
    info_hash: InfoHash,
    peer_id: PeerId,
) -> std::io::Result<(TcpStream, PeerId)> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut stream = socket.connect(to).await?;
    let ours = Handshake { reserved: Reserved::FAST | Reserved::EXTENSION, info_hash, peer_id };
    stream.write_all(&ours.encode()).await?;
    let mut bytes = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut bytes).await?;
    let theirs = Handshake::decode(&bytes).unwrap().unwrap();
    Ok((stream, theirs.peer_id))
}

#[tokio::test]
async fn who_comes_first_with_a_peers_id_does_not_keep_it_out() {
    let swarm = Swarm::new("127.0.0.1").await;
    let info_hash = swarm.metainfo.info.info_hash;
    let getter = session("127.0.0.1");
    let torrent = getter.add(swarm.download(&[])).await.unwrap();
    // It is let in once the torrent is open.
    let (_heard, id) = loop {
        if let Ok(heard) = shake_hands(getter.listen_addrs()[0], info_hash, PeerId([b'x'; 20])).await {
            break heard;
        }
    };
    let (_attacker, _) = shake_hands(swarm.seeder_addr(), info_hash, id).await.unwrap();
    torrent.add_peers(vec![swarm.seeder_addr()]);
    torrent.completed().await.unwrap();
    swarm.check();
}

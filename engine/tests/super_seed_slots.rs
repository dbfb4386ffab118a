//! Whom a seed that is the only copy sends what to, seen by peers made by hand, over loopback.

mod common;

use common::{publish, session};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use swarm_core::geometry::{BLOCK_LEN, Geometry};
use swarm_core::id::{BlockRef, InfoHash, PeerId, PieceIndex};
use swarm_core::wire::handshake::{HANDSHAKE_LEN, Handshake, Reserved};
use swarm_core::wire::{DecodeLimits, Decoded, Message, decode};
use swarm_engine::AddTorrent;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

for_both_families![a_super_seed_gives_each_another_piece_and_a_slot_outlasts_it,];

const PIECE_LEN: u32 = 65_536;

/// A downloader that lacks everything and keeps what it gets to itself.
struct Peer {
    stream: TcpStream,
    geometry: Geometry,
    input: Vec<u8>,
    /// What the session says it has.
    offered: BTreeSet<PieceIndex>,
    is_choked: bool,
}

impl Peer {
    /// A peer of which the session knows what it wants.
    async fn connect(to: SocketAddr, info_hash: InfoHash, geometry: Geometry, name: u8) -> Peer {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let hello = Handshake { reserved: Reserved::FAST, info_hash, peer_id: PeerId([name; 20]) };
        stream.write_all(&hello.encode()).await.unwrap();
        stream.read_exact(&mut [0; HANDSHAKE_LEN]).await.unwrap();
        let mut peer =
            Peer { stream, geometry, input: Vec::new(), offered: BTreeSet::new(), is_choked: true };
        // What cannot be sent is refused, whoever asks: the answer tells that the rest was heard.
        let impossible = BlockRef { piece: PieceIndex(0), begin: PIECE_LEN, len: BLOCK_LEN };
        peer.send(&[Message::HaveNone, Message::Interested, Message::Request(impossible)]).await;
        while peer.next().await != Decoded::Message(Message::Reject(impossible)) {}
        peer
    }

    async fn send(&mut self, messages: &[Message]) {
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| message.encode(&mut bytes));
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// The next message, or the header of a block whose payload is passed over.
    async fn next(&mut self) -> Decoded {
        let limits = DecodeLimits::for_pieces(self.geometry.pieces());
        loop {
            if let Some((decoded, used)) = decode(&self.input, &limits).unwrap() {
                let payload = if let Decoded::Block(block) = &decoded { block.len as usize } else { 0 };
                if self.input.len() >= used + payload {
                    self.input.drain(..used + payload);
                    self.note(&decoded);
                    return decoded;
                }
            }
            assert_ne!(self.stream.read_buf(&mut self.input).await.unwrap(), 0, "the session hung up");
        }
    }

    fn note(&mut self, decoded: &Decoded) {
        match decoded {
            Decoded::Message(Message::Choke) => self.is_choked = true,
            Decoded::Message(Message::Unchoke) => self.is_choked = false,
            Decoded::Message(Message::Have(piece)) => drop(self.offered.insert(*piece)),
            Decoded::Message(Message::HaveAll) => self.offered.extend(self.geometry.piece_indices()),
            _ => {}
        }
    }

    /// Gets a whole piece as soon as it may. Which, and whether it was choked meanwhile and was sent the rest all the same.
    async fn take_a_piece(&mut self) -> (PieceIndex, bool) {
        while self.is_choked {
            self.next().await;
        }
        let piece = *self.offered.first().expect("whoever may ask knows for what");
        let blocks = self.geometry.blocks_in(piece);
        let mut wanted: BTreeSet<BlockRef> = (0..blocks).map(|i| self.geometry.block(piece, i)).collect();
        self.ask(&wanted).await;
        let mut had_rest = false;
        while !wanted.is_empty() {
            match self.next().await {
                Decoded::Block(block) => {
                    assert!(wanted.remove(&block), "{block:?} was not outstanding");
                    had_rest |= self.is_choked;
                }
                // It was choked when it asked.
                Decoded::Message(Message::Unchoke) => self.ask(&wanted).await,
                Decoded::Message(_) => {}
            }
        }
        (piece, had_rest)
    }

    async fn ask(&mut self, blocks: &BTreeSet<BlockRef>) {
        self.send(&blocks.iter().map(|&block| Message::Request(block)).collect::<Vec<_>>()).await;
    }
}

/// Four peers each take a piece of the only seed: which, and whether they were choked before they had it.
async fn four_take_a_piece(ip: &str) -> Vec<(PieceIndex, bool)> {
    let source = TempDir::new().unwrap();
    let metainfo = publish(source.path(), &[("file", 16 * PIECE_LEN as usize)], PIECE_LEN);
    let seeder = session(ip);
    let seeding = seeder.add(AddTorrent::seed(metainfo.clone(), source.path())).await.unwrap();
    seeding.completed().await.unwrap();
    let (addr, info) = (seeder.listen_addrs()[0], &metainfo.info);
    let connect = |name| Peer::connect(addr, info.info_hash, info.geometry.clone(), name);
    let (mut a, mut b, mut c, mut d) = tokio::join!(connect(1), connect(2), connect(3), connect(4));
    let (a, b, c, d) = tokio::join!(a.take_a_piece(), b.take_a_piece(), c.take_a_piece(), d.take_a_piece());
    vec![a, b, c, d]
}

async fn a_super_seed_gives_each_another_piece_and_a_slot_outlasts_it(ip: &str) {
    let taken = four_take_a_piece(ip).await;
    assert!(taken.iter().all(|(_, choked)| !choked), "{taken:?}");
    let pieces: BTreeSet<PieceIndex> = taken.iter().map(|(piece, _)| *piece).collect();
    assert_eq!(pieces.len(), 4, "the only copy shows each of them another piece: {taken:?}");
}

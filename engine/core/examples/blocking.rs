//! Drives the core with threads and blocking sockets: one thread reads each connection, one owns the torrent.
//!
//! `cargo run --example blocking -- FILE.torrent OUTPUT [PEER|listen:PORT]`. Single files only. What OUTPUT has already is hashed
//! first and served to others.

use sha1::{Digest, Sha1};
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::Geometry;
use swarm_core::id::{BlockRef, PeerId, PeerKey, PieceIndex};
use swarm_core::metainfo::Metainfo;
use swarm_core::peer::PeerInfo;
use swarm_core::time::Time;
use swarm_core::torrent::discovery::Origin;
use swarm_core::torrent::{Action, Config, Event, PieceResult, Torrent};
use swarm_core::wire::{self, DecodeLimits, Decoded, HANDSHAKE_LEN, Handshake, Message, Reserved};

/// How long to wait for an input while the torrent waits for nothing.
const WAIT_MAX: Duration = Duration::from_secs(1);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What the threads report to the one that owns the torrent.
enum Input {
    Connected(TcpStream, PeerInfo),
    ConnectFailed(SocketAddr),
    Message(PeerKey, Message),
    Block(PeerKey, BlockRef, Vec<u8>),
    Disconnected(PeerKey),
}

/// A torrent, its file and its sockets.
pub struct Driver {
    torrent: Torrent,
    metainfo: Metainfo,
    file: File,
    sockets: BTreeMap<PeerKey, TcpStream>,
    blocks: BTreeMap<BlockRef, Vec<u8>>,
    inputs: (Sender<Input>, Receiver<Input>),
    start: Instant,
    keys: u32,
}

impl Driver {
    /// Opens the file, and hashes what is in it.
    pub fn open(torrent: &Path, output: &Path, peer_id: PeerId) -> Result<Driver> {
        let metainfo = Metainfo::parse(&std::fs::read(torrent)?)?;
        if !metainfo.info.format().has_v1() {
            return Err("version 2 alone is more than this example can".into());
        }
        let geometry = metainfo.info.geometry.clone();
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(output)?;
        file.set_len(geometry.total_len())?;
        let mut have = Bitfield::empty(geometry.pieces());
        for piece in geometry.piece_indices() {
            let whole = BlockRef { piece, begin: 0, len: geometry.len_of(piece) };
            let bytes = read_at(&mut file, &geometry, whole)?;
            if metainfo.info.piece_hash(piece).sha1 == Some(Sha1::digest(&bytes).into()) {
                have.insert(piece);
            }
        }
        let seed = u64::from_le_bytes(peer_id.0[12..].try_into()?);
        let config = Config::new(metainfo.info.info_hash, peer_id, seed);
        let torrent = Torrent::new(config, geometry, have);
        let (sockets, blocks) = Default::default();
        let (inputs, start) = (channel(), Instant::now());
        Ok(Driver { torrent, metainfo, file, sockets, blocks, inputs, start, keys: 0 })
    }

    fn now(&self) -> Time {
        Time::from_micros(self.start.elapsed().as_micros() as u64)
    }

    /// Takes connections from now on.
    pub fn listen(&self, listener: TcpListener) {
        let (inputs, ours) = (self.inputs.0.clone(), self.handshake());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let inputs = inputs.clone();
                thread::spawn(move || {
                    if let Ok((stream, info)) = shake_hands(stream, &ours, true) {
                        let _ = inputs.send(Input::Connected(stream, info));
                    }
                });
            }
        });
    }

    /// Names a peer to dial.
    pub fn add_peer(&mut self, addr: SocketAddr) {
        self.torrent.handle_addresses(self.now(), &[addr], Origin::User);
    }

    /// Runs until `is_done`.
    pub fn run(&mut self, is_done: impl Fn(&Torrent) -> bool) -> Result<()> {
        while !is_done(&self.torrent) {
            // Drain the output before the next input.
            while let Some(action) = self.torrent.poll_action() {
                self.act(action)?;
            }
            while let Some(event) = self.torrent.poll_event() {
                match event {
                    Event::PieceVerified(piece) => println!("piece {piece} verified"),
                    Event::PeerBanned { addr, reason } => println!("{addr} banned: {reason}"),
                    _ => {}
                }
            }
            let (now, until) = (self.now(), self.torrent.poll_timeout());
            if until.is_some_and(|until| until <= now) {
                self.torrent.handle_timeout(now);
            } else if let Ok(input) = self.inputs.1.recv_timeout(until.map_or(WAIT_MAX, |at| at.since(now))) {
                self.handle(input);
            }
        }
        Ok(())
    }

    fn handle(&mut self, input: Input) {
        let now = self.now();
        match input {
            Input::Connected(stream, info) => {
                let (key, inputs, pieces) =
                    (PeerKey(self.keys), self.inputs.0.clone(), self.torrent.geometry().pieces());
                self.keys += 1;
                let Ok(reader) = stream.try_clone() else { return };
                self.sockets.insert(key, stream);
                self.torrent.handle_connected(now, key, info);
                thread::spawn(move || {
                    let _ = read_messages(reader, key, pieces, &inputs);
                    let _ = inputs.send(Input::Disconnected(key));
                });
            }
            Input::ConnectFailed(addr) => self.torrent.handle_connect_failed(now, addr),
            Input::Message(key, message) => self.torrent.handle_message(now, key, &message),
            Input::Block(key, block, bytes) => {
                if self.torrent.handle_block(now, key, block) {
                    self.blocks.insert(block, bytes);
                }
            }
            Input::Disconnected(key) => {
                if self.sockets.remove(&key).is_some() {
                    self.torrent.handle_disconnected(now, key);
                }
            }
        }
    }

    fn act(&mut self, action: Action) -> Result<()> {
        match action {
            Action::Send { peer, message } => self.send(peer, &message),
            Action::BroadcastHave(piece) => {
                let keys: Vec<PeerKey> = self.sockets.keys().copied().collect();
                keys.into_iter().for_each(|key| self.send(key, &Message::Have(piece)));
            }
            Action::Upload(peer) => self.upload(peer)?,
            Action::Close { peer, .. } => {
                if let Some(socket) = self.sockets.remove(&peer) {
                    let _ = socket.shutdown(std::net::Shutdown::Both);
                }
            }
            Action::Connect(dial) => {
                let (inputs, ours) = (self.inputs.0.clone(), self.handshake());
                thread::spawn(move || {
                    let stream = TcpStream::connect_timeout(&dial.addr, dial.patience);
                    let shaken = stream.map_err(Into::into).and_then(|s| shake_hands(s, &ours, false));
                    let _ = inputs.send(match shaken {
                        Ok((stream, info)) => Input::Connected(stream, info),
                        Err(_) => Input::ConnectFailed(dial.addr),
                    });
                });
            }
            Action::VerifyPiece { piece, .. } => self.verify(piece)?,
            Action::DropPiece(piece) => self.blocks.retain(|block, _| block.piece != piece),
            // It adds no web seeds.
            Action::Fetch { .. } | Action::CancelFetch(_) => {}
            Action::CheckPiece(_) => {}
            // Of version 2.
            Action::DropBlocks { .. }
            | Action::HashLeaves { .. }
            | Action::HashBlocks(_)
            | Action::KeepBlocks { .. } => {}
        }
        Ok(())
    }

    fn verify(&mut self, piece: PieceIndex) -> Result<()> {
        let geometry = self.torrent.geometry().clone();
        let blocks = (0..geometry.blocks_in(piece)).map(|index| geometry.block(piece, index));
        let blocks: Vec<Vec<u8>> = blocks.filter_map(|block| self.blocks.remove(&block)).collect();
        let digests = blocks.iter().map(|block| Sha1::digest(block).into()).collect();
        let bytes = blocks.concat();
        let result = if self.metainfo.info.piece_hash(piece).sha1 == Some(Sha1::digest(&bytes).into()) {
            self.file.seek(SeekFrom::Start(geometry.offset_of(piece)))?;
            self.file.write_all(&bytes)?;
            PieceResult::Written { digests }
        } else {
            PieceResult::Corrupt { digests }
        };
        self.torrent.handle_piece_result(self.now(), piece, result);
        Ok(())
    }

    fn upload(&mut self, peer: PeerKey) -> Result<()> {
        while let Some(message) = self.torrent.next_metadata(self.now(), peer) {
            self.send(peer, &message);
        }
        let geometry = self.torrent.geometry().clone();
        while let Some(block) = self.torrent.next_upload(self.now(), peer) {
            let bytes = read_at(&mut self.file, &geometry, block)?;
            self.write(peer, &[&wire::piece_header(block)[..], &bytes].concat());
        }
        Ok(())
    }

    fn send(&mut self, peer: PeerKey, message: &Message) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.write(peer, &bytes);
    }

    /// Writes to a socket. If that fails its reader notices too.
    fn write(&mut self, peer: PeerKey, bytes: &[u8]) {
        if let Some(mut socket) = self.sockets.get(&peer) {
            let _ = socket.write_all(bytes);
        }
    }

    fn handshake(&self) -> Handshake {
        let reserved = Reserved::FAST | Reserved::EXTENSION;
        let (info_hash, peer_id) = (self.metainfo.info.info_hash, self.torrent.peer_id());
        Handshake { reserved, info_hash, peer_id }
    }
}

fn read_at(file: &mut File, geometry: &Geometry, block: BlockRef) -> Result<Vec<u8>> {
    let mut bytes = vec![0; block.len as usize];
    file.seek(SeekFrom::Start(geometry.offset_of(block.piece) + u64::from(block.begin)))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn shake_hands(mut stream: TcpStream, ours: &Handshake, inbound: bool) -> Result<(TcpStream, PeerInfo)> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(&ours.encode())?;
    let mut bytes = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut bytes)?;
    let theirs = Handshake::decode(&bytes)?.filter(|theirs| theirs.info_hash == ours.info_hash);
    let theirs = theirs.ok_or("another torrent")?;
    stream.set_read_timeout(None)?;
    let both = |bit| ours.reserved.contains(bit) && theirs.reserved.contains(bit);
    let (fast, extended) = (both(Reserved::FAST), both(Reserved::EXTENSION));
    let info = PeerInfo {
        addr: stream.peer_addr()?,
        inbound,
        peer_id: theirs.peer_id,
        fast,
        extended,
        encryption: None,
        utp: false,
        v2: false,
    };
    Ok((stream, info))
}

fn read_messages(mut stream: TcpStream, key: PeerKey, pieces: u32, inputs: &Sender<Input>) -> Result<()> {
    let limits = DecodeLimits::for_pieces(pieces);
    let (mut buffer, mut chunk) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let Some((decoded, len)) = wire::decode(&buffer, &limits)? else {
            match stream.read(&mut chunk)? {
                0 => return Ok(()),
                len => buffer.extend_from_slice(&chunk[..len]),
            }
            continue;
        };
        buffer.drain(..len);
        match decoded {
            Decoded::Message(message) => inputs.send(Input::Message(key, message))?,
            Decoded::Block(block) => {
                let mut bytes = vec![0; block.len as usize];
                let here = buffer.len().min(bytes.len());
                bytes[..here].copy_from_slice(&buffer[..here]);
                buffer.drain(..here);
                stream.read_exact(&mut bytes[here..])?;
                inputs.send(Input::Block(key, block, bytes))?;
            }
        }
    }
}

/// Downloads from a peer, or serves to others until it is stopped.
#[allow(dead_code)]
fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, torrent, output, peer] = &args[..] else {
        return Err("usage: blocking TORRENT OUTPUT PEER|listen:PORT".into());
    };
    let mut driver = Driver::open(Path::new(torrent), Path::new(output), PeerId(*b"-XX0001-blocking0001"))?;
    match peer.strip_prefix("listen:") {
        Some(port) => {
            driver.listen(TcpListener::bind(("0.0.0.0", port.parse()?))?);
            driver.run(|_| false)
        }
        None => {
            driver.add_peer(peer.parse()?);
            driver.run(Torrent::is_complete)
        }
    }
}

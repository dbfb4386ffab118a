//! The least that a transfer can cost: a source that maps its file and sends it over TCP, and a receiver that reads pieces,
//! hashes each with the engine's own SHA-1, compares it with the metainfo, and writes it once. No protocol, no requests, one
//! thread for each connection. What a client needs beyond this is what BitTorrent and the client itself cost.
//!
//! `floor send FILE RECEIVERS` prints `listening on ADDR:PORT`, serves so many connections at the same time and ends.
//! `floor receive META FILE ADDR:PORT` fetches the one file of a torrent into a new file and prints `complete`.

use anyhow::{Context as _, bail, ensure};
use memmap2::Mmap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use swarm_core::metainfo::{Info, Metainfo};
use swarm_engine::hash::sha1;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["send", path, receivers] => {
            let file = File::open(path).context(path.to_owned())?;
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            println!("listening on {}", listener.local_addr()?);
            send(&listener, &file, receivers.parse().context("RECEIVERS")?)
        }
        ["receive", meta, path, address] => {
            let meta = Metainfo::parse(&std::fs::read(meta).context(meta.to_owned())?)?;
            let file = File::create_new(path).context(path.to_owned())?;
            receive(TcpStream::connect(address).context(address.to_owned())?, &meta.info, &file)?;
            println!("complete");
            Ok(())
        }
        _ => bail!("usage: floor send FILE RECEIVERS | floor receive META FILE ADDR:PORT"),
    }
}

/// Sends the whole file to each of the next `receivers` connections.
fn send(listener: &TcpListener, file: &File, receivers: usize) -> anyhow::Result<()> {
    // SAFETY: the benchmark's payload is not changed or cut while it is sent.
    let map = unsafe { Mmap::map(file)? };
    std::thread::scope(|scope| {
        let mut senders = Vec::new();
        for _ in 0..receivers {
            let (mut stream, _) = listener.accept()?;
            let map = &map[..];
            senders.push(scope.spawn(move || stream.write_all(map)));
        }
        senders.into_iter().try_for_each(|sender| sender.join().expect("no panic"))?;
        Ok(())
    })
}

/// Reads all pieces in order, and writes each once it has been verified.
fn receive(mut stream: TcpStream, info: &Info, mut file: &File) -> anyhow::Result<()> {
    ensure!(info.single_file, "only torrents of a single file");
    let mut buffer = vec![0; info.geometry.piece_len() as usize];
    for index in info.geometry.piece_indices() {
        let piece = &mut buffer[..info.geometry.len_of(index) as usize];
        stream.read_exact(piece)?;
        ensure!(Some(sha1([&*piece])) == info.piece_hash(index).sha1, "piece {index} does not verify");
        file.write_all(piece)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use swarm_core::metainfo::{Content, Create};

    const PIECE_LEN: usize = 16 << 10;

    /// Two whole pieces and a short one.
    fn payload() -> Vec<u8> {
        (0..2 * PIECE_LEN + 100).map(|i| (i % 251) as u8).collect()
    }

    fn info_of(bytes: &[u8]) -> Arc<Info> {
        let hashes: Vec<u8> = bytes.chunks(PIECE_LEN).flat_map(|piece| sha1([piece])).collect();
        let content = Content::File { length: bytes.len() as u64, attr: Default::default() };
        let meta = Create::new("payload".to_owned(), content, PIECE_LEN as u32)
            .encode(swarm_core::metainfo::Hashes::v1(&hashes))
            .unwrap();
        Metainfo::parse(&meta).unwrap().info
    }

    /// What one receiver that expects `info` makes of a source that has `bytes`.
    fn transfer(bytes: &[u8], info: &Info) -> (anyhow::Result<()>, Vec<u8>) {
        let (mut source, copy) = (tempfile::tempfile().unwrap(), tempfile::NamedTempFile::new().unwrap());
        source.write_all(bytes).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let received = std::thread::scope(|scope| {
            // It may find the connection closed before its end; the receiver's word counts.
            scope.spawn(|| send(&listener, &source, 1));
            receive(TcpStream::connect(address).unwrap(), info, copy.as_file())
        });
        (received, std::fs::read(copy.path()).unwrap())
    }

    #[test]
    fn a_copy_is_identical() {
        let payload = payload();
        let (received, copy) = transfer(&payload, &info_of(&payload));
        received.unwrap();
        assert!(copy == payload);
    }

    #[test]
    fn a_wrong_piece_is_not_written() {
        let payload = payload();
        let mut wrong = payload.clone();
        wrong[PIECE_LEN] ^= 1;
        let (received, copy) = transfer(&wrong, &info_of(&payload));
        assert_eq!(received.unwrap_err().to_string(), "piece 1 does not verify");
        assert!(copy == payload[..PIECE_LEN]);
    }
}

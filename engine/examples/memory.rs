//! Downloads a torrent into memory and tells its length and hash: `cargo run -p swarmbt-engine --example memory -- LINK`
use std::{collections::BTreeMap, io, sync::Arc, sync::Mutex};
use swarm_engine::{AddTorrent, PieceIndex, PieceStorage, Session, SessionOptions, Source, Stored, hash};

#[derive(Debug, Default)]
struct Memory(Mutex<BTreeMap<PieceIndex, Vec<u8>>>);
impl PieceStorage for Memory {
    fn stored(&self, piece: PieceIndex) -> Stored {
        if self.0.lock().unwrap().contains_key(&piece) { Stored::Verified } else { Stored::Missing }
    }
    fn read(&self, piece: PieceIndex, begin: u32, buf: &mut [u8]) -> io::Result<()> {
        buf.copy_from_slice(&self.0.lock().unwrap()[&piece][begin as usize..][..buf.len()]);
        Ok(())
    }
    fn write(&self, piece: PieceIndex, parts: &[&[u8]]) -> io::Result<()> {
        self.0.lock().unwrap().insert(piece, parts.concat());
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let source: Source = std::env::args().nth(1).expect("LINK").parse()?;
    let (session, memory) = (Session::start(SessionOptions::new())?, Arc::<Memory>::default());
    session.add(AddTorrent::download_to(source, memory.clone())).await?.completed().await?;
    session.stop().await;
    let bytes = memory.0.lock().unwrap().values().flatten().copied().collect::<Vec<_>>();
    println!("{} bytes, SHA-1 {:02x?}", bytes.len(), hash::sha1([&bytes[..]]));
    Ok(())
}

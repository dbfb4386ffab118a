//! Downloads the smallest file of a link first, then all: `cargo run -p swarmbt-engine --example choose_files -- LINK DIR`

use swarm_engine::{AddTorrent, FileIndex, Files, Session, SessionOptions, Source};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [link, dir] = std::array::from_fn(|nth| std::env::args().nth(nth + 1).expect("LINK DIR"));
    let source: Source = link.parse()?;
    let session = Session::start(SessionOptions::new())?;
    let torrent = session.add(AddTorrent::download(source, dir).hold(true)).await?;
    let metainfo = torrent.metadata().await?;
    let files = (0..).map(FileIndex).zip(&metainfo.info.files);
    let (smallest, entry) = files.min_by_key(|(_, file)| file.length).expect("a torrent has files");
    println!("{} first", entry.path.join("/"));
    torrent.set_files(Files::only([smallest]))?;
    torrent.completed().await?;
    torrent.set_files(Files::all())?;
    torrent.completed().await?;
    session.stop().await;
    Ok(())
}

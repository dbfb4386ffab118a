//! Writes a file of a torrent to standard output while it is downloaded: `cargo run -p swarmbt-engine --example stream -- LINK DIR INDEX | mpv -`

use swarm_engine::{AddTorrent, FileIndex, Files, Session, SessionOptions, Source};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [link, dir, index] =
        std::array::from_fn(|nth| std::env::args().nth(nth + 1).expect("LINK DIR INDEX"));
    let (source, file): (Source, _) = (link.parse()?, FileIndex(index.parse()?));
    let session = Session::start(SessionOptions::new())?;
    let only_it = AddTorrent::download(source, dir).files(Files::only([file]));
    let torrent = session.add(only_it).await?;
    torrent.metadata().await?;
    let mut reader = torrent.read(file)?;
    tokio::io::copy(&mut reader, &mut tokio::io::stdout()).await?;
    session.stop().await;
    Ok(())
}

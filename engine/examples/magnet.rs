//! Downloads what a magnet link or an info-hash names: `cargo run -p swarmbt-engine --example magnet -- LINK DIR`

use swarm_engine::{AddTorrent, Session, SessionOptions, Source};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [link, dir] = std::array::from_fn(|nth| std::env::args().nth(nth + 1).expect("LINK DIR"));
    let source: Source = link.parse()?;
    let session = Session::start(SessionOptions::new())?;
    let torrent = session.add(AddTorrent::download(source, dir)).await?;
    println!("it is called {}", torrent.metadata().await?.info.name);
    torrent.completed().await?;
    session.stop().await;
    Ok(())
}

//! Downloads a torrent: `cargo run -p swarmbt-engine --example download -- FILE.meta DIR`

use swarm_engine::core::metainfo::Metainfo;
use swarm_engine::{AddTorrent, Event, Session, SessionOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (Some(file), Some(dir)) = (std::env::args().nth(1), std::env::args().nth(2)) else {
        return Err("usage: download FILE.meta DIR".into());
    };
    let metainfo = Metainfo::parse(&std::fs::read(file)?)?;
    let session = Session::start(SessionOptions::default())?;
    let torrent = session.add(AddTorrent::download(metainfo, dir)).await?;
    let mut events = torrent.events();
    while let Some(event) = events.next().await {
        println!("{event:?}");
        if matches!(event, Event::Completed | Event::Failed(_)) {
            break;
        }
    }
    torrent.completed().await?;
    session.stop().await;
    Ok(())
}

//! Downloads a torrent and tells what happens: `cargo run -p swarmbt-engine --example download -- FILE.meta DIR`

use swarm_engine::{AddTorrent, Event, Session, SessionOptions, Source};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [file, dir] = std::array::from_fn(|nth| std::env::args().nth(nth + 1).expect("FILE.meta DIR"));
    let source = Source::from_file(file)?;
    let session = Session::start(SessionOptions::new())?;
    let torrent = session.add(AddTorrent::download(source, dir)).await?;
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

//! Seeds a torrent until Ctrl-C: `cargo run -p swarmbt-engine --example seed -- FILE.meta DIR STATE_DIR`

use swarm_engine::{AddTorrent, Session, SessionOptions, Source};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [file, dir, state_dir] =
        std::array::from_fn(|nth| std::env::args().nth(nth + 1).expect("FILE.meta DIR STATE_DIR"));
    let options = SessionOptions::new().upload_limit(10_000_000).state_dir(state_dir);
    let session = Session::start(options)?;
    println!("listening on {:?}", session.listen_addrs());
    let torrent = session.add(AddTorrent::seed(Source::from_file(file)?, dir)).await?;
    torrent.completed().await?;
    println!("everything is checked: {} is seeded", torrent.path().expect("it is open").display());
    tokio::select! {
        ended = torrent.ended() => ended?,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    // Trackers get `stopped`, and the next start need not check the data.
    session.stop().await;
    Ok(())
}

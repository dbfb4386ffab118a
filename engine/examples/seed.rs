//! Seeds a torrent until it is interrupted: `cargo run -p swarmbt-engine --example seed -- FILE.meta DIR`

use swarm_engine::{AddTorrent, Metainfo, Session, SessionOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [file, dir] = std::array::from_fn(|nth| std::env::args().nth(nth + 1).expect("FILE.meta DIR"));
    let metainfo = Metainfo::parse(&std::fs::read(file)?)?;
    let session = Session::start(SessionOptions::new().upload_limit(10_000_000))?;
    println!("listening on {:?}", session.listen_addrs());
    let torrent = session.add(AddTorrent::seed(metainfo, dir)).await?;
    torrent.completed().await?;
    println!("everything is there");
    torrent.ended().await?;
    Ok(())
}

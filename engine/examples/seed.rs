//! Seeds a torrent until it is interrupted: `cargo run -p swarmbt-engine --example seed -- FILE.meta DIR`

use swarm_engine::core::metainfo::Metainfo;
use swarm_engine::{AddTorrent, Session, SessionOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (Some(file), Some(dir)) = (std::env::args().nth(1), std::env::args().nth(2)) else {
        return Err("usage: seed FILE.meta DIR".into());
    };
    let metainfo = Metainfo::parse(&std::fs::read(file)?)?;
    let session = Session::start(SessionOptions::default())?;
    println!("listening on {:?}", session.listen_addrs());
    let torrent = session.add(AddTorrent::seed(metainfo, dir)).await?;
    torrent.completed().await?;
    println!("everything is there");
    torrent.ended().await?;
    Ok(())
}

//! `swarm magnet`: a link to a torrent.

use crate::app::Context;
use crate::exit::Exit;
use crate::source;
use anyhow::Result;
use clap::Args;
use std::ffi::OsString;
use swarm_engine::SessionOptions;

/// Options of `swarm magnet`.
#[derive(Args, Debug)]
pub struct MagnetArgs {
    /// A metainfo file, or an http(s) URL of one
    #[arg(value_name = "SOURCE")]
    source: OsString,
}

/// Prints the link.
pub async fn run(args: &MagnetArgs, cx: &mut Context) -> Result<Exit> {
    let metainfo = source::load(&args.source, &SessionOptions::default()).await?;
    cx.console.result(&metainfo.magnet().to_string());
    Ok(Exit::Done)
}

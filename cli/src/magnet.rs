//! `swarm magnet`: a link to a torrent.

use crate::app::Context;
use crate::exit::Exit;
use crate::source::{self, Source};
use anyhow::Result;
use clap::Args;
use std::ffi::OsString;
use swarm_engine::SessionOptions;

/// Options of `swarm magnet`.
#[derive(Args, Debug)]
pub struct MagnetArgs {
    /// A metainfo file, an http(s) URL of one, an info-hash, or a link, which is printed as this program writes it
    #[arg(value_name = "SOURCE")]
    source: OsString,
}

/// Prints the link.
pub async fn run(args: &MagnetArgs, cx: &mut Context) -> Result<Exit> {
    let magnet = match source::open(&args.source, &SessionOptions::default()).await? {
        Source::Metainfo(metainfo) => metainfo.magnet(),
        Source::Magnet(magnet) => magnet,
    };
    cx.console.result(&magnet.to_string());
    Ok(Exit::Done)
}

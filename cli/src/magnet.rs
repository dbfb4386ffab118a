//! `swarm magnet`: a link to a torrent.

use crate::context::Context;
use crate::exit::Exit;
use crate::source::{self, Link, Source};
use anyhow::Result;
use clap::{Args, ValueHint};
use std::ffi::OsString;
use swarm_engine::SessionOptions;

#[derive(Args, Debug)]
pub struct MagnetArgs {
    /// A metainfo file, a URL of one, an info-hash, or a magnet link to normalize
    #[arg(value_name = "SOURCE", value_parser = source::parser(), value_hint = ValueHint::FilePath, long_help = source::HELP)]
    source: OsString,
}

pub async fn run(args: &MagnetArgs, cx: &mut Context) -> Result<Exit> {
    let link = match source::open(&args.source, &SessionOptions::default()).await? {
        Source::Metainfo(metainfo) => metainfo.magnet().to_string(),
        Source::Link(Link::Magnet(magnet)) => magnet.to_string(),
        Source::Link(Link::Mutable(link)) => link.to_string(),
    };
    cx.console.result(&link);
    Ok(Exit::Done)
}

//! `swarm seed`: serve what is there.

use crate::app::Context;
use crate::exit::Exit;
use crate::interrupt::Interrupt;
use crate::network::{NetworkArgs, SuperSeed};
use crate::source;
use crate::transfer::{self, Plan};
use anyhow::Result;
use clap::{Args, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;
use swarm_engine::{AddTorrent, Mode};

/// Options of `swarm seed`.
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct SeedArgs {
    /// A metainfo file, a URL of one, a magnet link or an info-hash
    #[arg(value_name = "SOURCE", value_hint = ValueHint::FilePath, long_help = source::HELP)]
    source: OsString,

    /// The folder that contains the torrent's file or folder; nothing is written to it
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    dir: PathBuf,

    /// Seed even if pieces are missing or corrupt
    ///
    /// Without this, incomplete data ends the command with status 4.
    #[arg(long)]
    partial: bool,

    /// Check all data, whatever the saved state says
    #[arg(long)]
    recheck: bool,

    /// Super-seeding (BEP 16): as the only seed, send each piece once before sending any again
    ///
    /// Pieces are then revealed to peers one at a time. It ends when other peers have every piece, and when there are fewer
    /// than four peers.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    super_seed: SuperSeed,

    /// Print events as JSON, one object a line
    #[arg(long)]
    json: bool,

    /// Send corrupt blocks, for tests of those who receive them
    #[arg(long, hide = true)]
    inject_poison: bool,

    #[command(flatten)]
    network: NetworkArgs,
}

const EXAMPLES: &str = "\
Examples:
  swarm seed release.iso.meta .
  swarm seed https://example.org/release.iso.meta /srv/files --max-up 80Mbit/s

The data is checked first, unless saved state says that it was and has not changed. Ctrl-C, SIGTERM and SIGHUP announce \
`stopped` to trackers, save state, and end the command with status 130, 0 and 129.";

/// Seeds until interrupted.
pub async fn run(args: SeedArgs, cx: &mut Context) -> Result<Exit> {
    if args.json {
        cx.console.set_json();
    }
    let result = seed(args, cx).await;
    transfer::end(result, cx)
}

async fn seed(mut args: SeedArgs, cx: &mut Context) -> Result<Exit> {
    args.network.super_seed = args.super_seed;
    let mut interrupt = Interrupt::install()?;
    let begun = transfer::begin(&args.source, &args.dir, &args.network, cx, &mut interrupt).await?;
    let torrent =
        AddTorrent::seed(begun.source.clone(), &args.dir).recheck(args.recheck).poison(args.inject_poison);
    let plan = Plan { needs_all: !args.partial, ..Plan::seed(args.dir, Mode::Seed) };
    transfer::run(begun, torrent, plan, &args.network, cx, &mut interrupt).await
}

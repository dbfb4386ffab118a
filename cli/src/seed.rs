//! `swarm seed`: serve what is there.

use crate::context::Context;
use crate::exit::{Exit, fail, printable};
use crate::network::{NetworkArgs, SuperSeed};
use crate::source;
use crate::transfer::{self, Plan};
use crate::units;
use anyhow::Result;
use clap::{Args, ValueHint};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use swarm_engine::Mode;

#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, override_usage = USAGE)]
pub struct SeedArgs {
    /// Metainfo files, folders of them, URLs, magnet links or info-hashes; without --dir one of them, then
    /// DIR
    #[arg(value_name = "SOURCE", value_parser = source::parser(), value_hint = ValueHint::AnyPath, long_help = source::HELP_SEVERAL, required = true)]
    sources: Vec<OsString>,

    /// The folder that contains each torrent's file or folder; nothing is written to it but what --scrub
    /// mends
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    dir: Option<PathBuf>,

    /// Seed even if pieces are missing or corrupt
    ///
    /// Without this, incomplete data ends the command with status 4.
    #[arg(long)]
    partial: bool,

    /// Check all data, even if saved state is valid
    #[arg(long)]
    recheck: bool,

    /// Read all data again over time, at this rate, to find what has rotted on the disk
    ///
    /// What is bad is no longer sent, is named, and is fetched again from peers into its place: so something is written to DIR after all,
    /// but only where a piece was right while its file looked as it does now. It seeds even if pieces are missing or corrupt, as with
    /// --partial. Several torrents take turns; a round takes at least an hour.
    #[arg(long, value_name = "RATE", value_parser = units::parse_rate)]
    scrub: Option<u64>,

    /// Super-seeding (BEP 16): as the only seed, send each piece once before sending any again
    ///
    /// Pieces are then revealed to peers one at a time. It ends when other peers have every piece, and when
    /// there are fewer than four peers.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    super_seed: SuperSeed,

    /// Print events as JSON, one object a line
    #[arg(long)]
    pub json: bool,

    /// Send corrupt blocks, for tests of those who receive them
    #[arg(long, hide = true)]
    inject_poison: bool,

    #[command(flatten)]
    network: NetworkArgs,
}

const USAGE: &str = "swarm seed [OPTIONS] <SOURCE> <DIR>
       swarm seed [OPTIONS] --dir <DIR> <SOURCE>...";

const EXAMPLES: &str = "\
Examples:
  swarm seed release.iso.meta .
  swarm seed --dir /srv/files a.meta b.meta
  swarm seed --dir /srv/files /srv/metainfo
  swarm seed release.iso.meta . --scrub 10M
  swarm seed https://example.org/release.iso.meta /srv/files --max-up 80Mbit/s

The data is checked first, unless saved state shows that it was and has not changed; then each piece is checked before it is sent \
the first time. Ctrl-C, SIGTERM and SIGHUP announce \
`stopped` to trackers, save state, and end the command with status 130, 0 and 129.";

pub async fn run(mut args: SeedArgs, cx: &mut Context) -> Result<Exit> {
    args.network.super_seed = args.super_seed;
    let dir = match args.dir.take() {
        Some(dir) => dir,
        None => last_argument(&mut args.sources)?,
    };
    let plan = Plan {
        needs_all: !args.partial && args.scrub.is_none(),
        scrub: args.scrub,
        recheck: args.recheck,
        poison: args.inject_poison,
        ..Plan::new(Mode::Seed, dir)
    };
    transfer::run(&args.sources, plan, &args.network, cx).await
}

/// DIR of `swarm seed SOURCE DIR`.
fn last_argument(sources: &mut Vec<OsString>) -> Result<PathBuf> {
    let usage = |message: String| fail(Exit::Usage, message);
    let [_, last] = &sources[..] else {
        return match sources.len() {
            0 | 1 => usage("DIR is missing: swarm seed SOURCE DIR".to_owned()),
            _ => usage("several sources need --dir DIR, the folder with their data".to_owned()),
        };
    };
    let (text, path) = (last.to_string_lossy(), Path::new(last));
    let is_link = ["magnet:", "http://", "https://"].iter().any(|scheme| text.starts_with(scheme));
    if is_link || path.is_file() && source::is_metainfo_name(path) {
        let what = if is_link { "a link" } else { "a metainfo file" };
        let mend = "several sources need --dir DIR, the folder with their data";
        return usage(format!("{}: is {what}, not the folder with the data; {mend}", printable(&text)));
    }
    Ok(sources.pop().map(PathBuf::from).unwrap_or_default())
}

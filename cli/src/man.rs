//! `swarm man`: manual pages, one for each subcommand.

use crate::context::Context;
use crate::exit::{Exit, Failure};
use anyhow::Result;
use clap::{Args, Command, ValueHint};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct ManArgs {
    /// The folder to write swarm.1, swarm-create.1 and so on to; created if missing
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    dir: PathBuf,
}

pub fn run(args: &ManArgs, cli: Command, cx: &mut Context) -> Result<Exit> {
    let written = std::fs::create_dir_all(&args.dir).and_then(|()| clap_mangen::generate_to(cli, &args.dir));
    written.map_err(|error| {
        let what = format!("{}: cannot write manual pages: {error}", args.dir.display());
        Failure::new(Exit::of_write(&error), what)
    })?;
    cx.console.say(&format!("manual pages are in {}", args.dir.display()));
    Ok(Exit::Done)
}

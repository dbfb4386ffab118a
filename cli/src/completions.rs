//! `swarm completions`: scripts that complete the command in a shell.

use crate::app::{Cli, Context};
use crate::exit::Exit;
use anyhow::Result;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

/// Options of `swarm completions`.
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell to complete in
    shell: Shell,
}

/// Prints the script.
pub fn run(args: &CompletionsArgs, cx: &mut Context) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "swarm", &mut script);
    cx.console.raw(&script);
    Ok(Exit::Done)
}

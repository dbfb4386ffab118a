//! `swarm daemon password`: the password that clients over HTTP log in with.

use crate::context::Context;
use crate::exit::{Exit, Failure, fail};
use anyhow::Result;
use clap::Args;
use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::Path;
use swarm_daemon::auth::password;

#[derive(Args, Clone, Debug)]
pub struct PasswordArgs {
    /// Take the password away: only the token is let in then
    #[arg(long)]
    remove: bool,
}

/// Sets the password of the daemon with this folder, which need not run.
pub fn run(args: &PasswordArgs, folder: &Path, cx: &mut Context) -> Result<Exit> {
    let path = folder.join(swarm_daemon::PASSWORD);
    let wrong = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::InvalidInput => Failure::new(Exit::Usage, error.to_string()),
        _ => Failure::new(Exit::Runtime, format!("{}: {error}", path.display())),
    };
    if args.remove {
        let there_was = password::remove(&path).map_err(wrong)?;
        cx.console.note(if there_was { "the password is removed" } else { "there was no password" });
        return Ok(Exit::Done);
    }
    let given = ask()?;
    swarm_daemon::make_dir(folder)?;
    password::set(&path, &given).map_err(wrong)?;
    cx.console.note("the password is set; who was logged in is logged out");
    Ok(Exit::Done)
}

/// Asks at a terminal, twice and unseen; else it is the first line of standard input.
fn ask() -> Result<String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let mut line = String::new();
        stdin.lock().take(password::LEN_MAX as u64 + 2).read_line(&mut line)?;
        let given = line.strip_suffix('\n').unwrap_or(&line);
        return Ok(given.strip_suffix('\r').unwrap_or(given).to_owned());
    }
    let first = rpassword::prompt_password("New password: ")?;
    match rpassword::prompt_password("Again: ")? == first {
        true => Ok(first),
        false => fail(Exit::Usage, "the two are not the same; nothing has changed"),
    }
}

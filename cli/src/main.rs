//! The `swarm` command.
//!
//! One file for each subcommand, each with its options and a `run`. What they share: [`console`] (where output goes), [`exit`]
//! (statuses and errors as one line), [`units`] (sizes, rates, durations), [`progress`] (bars), [`events`] (JSON for
//! scripts), [`usage`] (wrong command lines in our words), [`network`] (options of everything that talks to peers), [`source`] (metainfo from files and URLs, links), and
//! [`interrupt`] (Ctrl-C). Nothing below [`app`] touches the process's own streams or ends the process.

mod app;
mod completions;
mod console;
mod create;
mod dht;
mod events;
mod exit;
mod get;
mod interrupt;
mod lab;
mod logging;
mod magnet;
mod man;
mod network;
mod progress;
mod seed;
mod show;
mod source;
mod transfer;
mod units;
mod usage;
mod verify;

use std::process::ExitCode;

fn main() -> ExitCode {
    interrupt::tell_of_long_files();
    app::run(std::env::args_os(), console::Console::of_process()).into()
}

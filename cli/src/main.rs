//! The `swarm` command.
//!
//! [`app`] is on top: the command line, and from it to the exit status. Below it is a file or folder for each
//! subcommand, with its options and a `run`. Below these is what they share: [`transfer`] (torrents in a
//! session), [`selection`] (files of a torrent), [`network`] (options of whatever talks to peers), [`proxy`], [`source`]
//! (metainfo from files and URLs, links), [`progress`] (bars), [`context`], [`console`] and [`terminal`]
//! (where output goes), [`service`] (service managers), [`events`] (JSON for scripts), [`exit`] (statuses, and errors as one line), [`units`] (sizes,
//! rates, durations), [`usage`] (wrong command lines) and [`interrupt`] (Ctrl-C). No file knows one above it.
//! All output goes through [`console`], except for the log's and help texts.

mod app;
mod completions;
mod console;
mod context;
mod create;
mod ctl;
mod daemon;
mod dht;
mod events;
mod exit;
mod format;
mod get;
mod interrupt;
mod lab;
mod logging;
mod magnet;
mod man;
mod network;
mod progress;
mod proxy;
mod seed;
mod selection;
mod service;
mod show;
mod source;
mod terminal;
mod transfer;
mod units;
mod usage;
mod verify;

use std::process::ExitCode;

fn main() -> ExitCode {
    interrupt::refuse_long_files();
    let args: Vec<_> = std::env::args_os().collect();
    swarm_tracker::process::hide_passwords();
    app::run(args, console::Console::of_process()).into()
}

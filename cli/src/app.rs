//! From arguments to exit status, without touching the process: so that tests run whole commands.

use crate::console::{ColorWhen, Console};
use crate::context::Context;
use crate::exit::{Exit, fail, one_line};
use crate::logging::{self, LogFormat};
use crate::units::UNITS_HELP;
use crate::{completions, create, ctl, daemon, dht, get, lab, magnet, man, seed, show, usage, verify};
use anyhow::{Context as _, Result};
use clap::{ArgAction, Args, ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use std::ffi::OsString;
use std::time::Instant;

/// Create, seed and download torrents
#[derive(Debug, Parser)]
#[command(name = "swarm", version, arg_required_else_help = true)]
#[command(after_long_help = format!("{AFTER_HELP}\n\n{UNITS_HELP}\n\n{STATUSES}"))]
pub struct Cli {
    #[command(flatten)]
    common: CommonArgs,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  swarm create release.iso -a http://tracker.example:6969/announce
  swarm seed release.iso.meta .
  swarm get https://example.org/release.iso.meta -o downloads";

const STATUSES: &str = "\
Exit status:
  0    done
  1    failed at run time
  2    usage
  3    the metainfo, magnet link or URL is not valid
  4    data does not verify or did not complete
  5    no space, or no permission, at the destination
  129  hung up (SIGHUP); state is saved first
  130  interrupted by Ctrl-C or SIGTERM; state is saved first
SIGTERM ends what runs until it is ended, such as `swarm seed`, with 0.";

/// Options of every subcommand.
#[derive(Args, Debug)]
#[command(next_help_heading = "Common options")]
pub struct CommonArgs {
    /// Print only results, errors and warnings
    #[arg(short, long, global = true)]
    quiet: bool,

    /// Log more to stderr; repeatable
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,

    /// Log format
    #[arg(long, alias = "log-format", global = true, value_name = "FORMAT", value_enum, default_value_t)]
    log: LogFormat,

    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t)]
    color: ColorWhen,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a metainfo file of a file or folder
    Create(Box<create::CreateArgs>),
    /// Show the contents of a metainfo file
    Show(show::ShowArgs),
    /// Print the magnet link of a torrent
    Magnet(magnet::MagnetArgs),
    /// Check data against a torrent
    Verify(verify::VerifyArgs),
    /// Seed torrents
    Seed(Box<seed::SeedArgs>),
    /// Download torrents
    Get(Box<get::GetArgs>),
    /// Run the daemon, which keeps torrents over restarts
    Daemon(Box<daemon::DaemonArgs>),
    /// Control a running daemon
    Ctl(ctl::CtlArgs),
    /// Run a swarm on this machine and compare every copy
    Lab(Box<lab::LabArgs>),
    /// Run a DHT node, or query the DHT
    Dht(dht::DhtArgs),
    /// Print a shell's completion script
    Completions(completions::CompletionsArgs),
    /// Write manual pages to a folder
    Man(man::ManArgs),
}

impl Command {
    /// Whether `--json` means one object, in place of events.
    fn prints_one_object(&self) -> bool {
        matches!(self, Command::Show(_) | Command::Verify(_) | Command::Ctl(_))
    }

    fn is_json(&self) -> bool {
        match self {
            Command::Create(args) => args.json,
            Command::Show(args) => args.json,
            Command::Verify(args) => args.json,
            Command::Seed(args) => args.json,
            Command::Get(args) => args.json,
            Command::Daemon(args) => args.json,
            Command::Ctl(args) => args.json,
            Command::Lab(args) => args.json,
            Command::Dht(args) => args.json,
            Command::Magnet(_) | Command::Completions(_) | Command::Man(_) => false,
        }
    }
}

/// Runs the command line `args`, the program's name first.
pub fn run(args: impl IntoIterator<Item = OsString>, console: Console) -> Exit {
    let mut cx = Context { console, start: Instant::now(), one_object: false };
    let args: Vec<OsString> = args.into_iter().collect();
    // Looked for ahead of parsing: it applies to usage errors too.
    if option(&args, "--log").is_some_and(|format| format.eq_ignore_ascii_case("json")) {
        cx.console.set_log_json();
    }
    let result = match parse(args.clone()) {
        Err(error) => on_clap_error(&error, &mut cx.console),
        Ok(Cli { common, command }) => {
            cx.console.configure(common.quiet, common.color);
            cx.one_object = command.prints_one_object();
            if command.is_json() {
                cx.console.set_json();
            }
            logging::start(common.log, common.verbose, common.quiet, common.color, cx.console.bars().clone());
            dispatch(command, args, &mut cx)
        }
    };
    let exit = match result {
        Ok(exit) => exit,
        Err(error) => {
            cx.console.error(&one_line(&error));
            Exit::of(&error)
        }
    };
    match cx.console.take_out_error() {
        Some(error) if exit == Exit::Done => {
            cx.console.error(&format!("standard output: {error}"));
            Exit::Runtime
        }
        _ => exit,
    }
}

fn dispatch(command: Command, argv: Vec<OsString>, cx: &mut Context) -> Result<Exit> {
    // One thread: the session brings its own, and a command should start at once.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let result = runtime.block_on(async {
        match command {
            Command::Create(args) => create::run(*args, cx).await,
            Command::Verify(args) => verify::run(args, cx).await,
            Command::Seed(args) => seed::run(*args, cx).await,
            Command::Get(args) => get::run(*args, cx).await,
            Command::Show(args) => show::run(&args, cx).await,
            Command::Lab(args) => lab::run(*args, cx).await,
            Command::Magnet(args) => magnet::run(&args, cx).await,
            Command::Daemon(mut args) => {
                args.argv = argv;
                let cli = Cli::command();
                let command = cli.find_subcommand("daemon").context("a defect in the command line")?;
                daemon::run(*args, &parse_daemon, command, cx).await
            }
            Command::Ctl(args) => ctl::run(args, cx).await,
            Command::Dht(args) => dht::run(args, cx).await,
            Command::Completions(args) => completions::run(&args, &Cli::command(), cx),
            Command::Man(args) => man::run(&args, Cli::command(), cx),
        }
    });
    // An interrupted command does not wait for what it left running.
    runtime.shutdown_background();
    result
}

/// The options of `swarm daemon` in another command line.
fn parse_daemon(args: Vec<OsString>) -> Result<daemon::DaemonArgs, clap::Error> {
    match Cli::from_arg_matches(&Cli::command().try_get_matches_from(args)?)?.command {
        Command::Daemon(args) => Ok(*args),
        _ => Err(clap::Error::new(clap::error::ErrorKind::InvalidSubcommand)),
    }
}

fn parse(args: Vec<OsString>) -> Result<Cli, clap::Error> {
    let command = Cli::command().color(color_choice(&args));
    Cli::from_arg_matches(&command.try_get_matches_from(args)?)
}

/// `--color`, looked for ahead of parsing: it applies to help texts and usage errors too.
fn color_choice(args: &[OsString]) -> ColorChoice {
    match option(args, "--color") {
        Some("always") => ColorChoice::Always,
        Some("never") => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}

/// The last value of an option, as far as it can be known before parsing.
fn option<'a>(args: &'a [OsString], name: &str) -> Option<&'a str> {
    let next = args.iter().skip(1).map(Some).chain([None]);
    let values = args.iter().zip(next).filter_map(|(arg, next)| {
        let arg = arg.to_str()?;
        if arg == name { next?.to_str() } else { arg.strip_prefix(name)?.strip_prefix('=') }
    });
    values.last()
}

/// Prints the help that was asked for, or ends with the one line of a usage error.
fn on_clap_error(error: &clap::Error, console: &mut Console) -> Result<Exit> {
    if !error.use_stderr() {
        // Printed by clap, which knows about colours; a reader that left early is no error.
        let _ = error.print();
        return Ok(Exit::Done);
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        console.note(&error.render().to_string());
        return fail(Exit::Usage, "no command given");
    }
    fail(Exit::Usage, usage::line(error))
}

#[cfg(test)]
mod tests;

//! `swarm daemon`: one process for many torrents, over restarts. The daemon itself is the crate `swarm_daemon`; here is what the user says
//! to it: options, the configuration file and signals.

mod file;
mod password;
mod sockets;

use crate::context::Context;
use crate::events::Stamped;
use crate::exit::{Exit, Failure, fail, printable};
use crate::interrupt::{Interrupt, Signal};
use crate::network::{NetworkArgs, parse_address};
use crate::{service, units, usage};
use anyhow::{Context as _, Result};
use clap::{Args, Command, Subcommand, ValueHint};
use file::Settings;
use serde::Serialize;
pub use sockets::default_socket;
use sockets::{FOLDER, socket_in};
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use swarm_daemon::import::{From, Import, Report};
use swarm_daemon::torrents::goals::Goals;
use swarm_daemon::torrents::queue::Turns;
use swarm_daemon::{Config, Daemon, Prepare, Program, Rules, StartError};
use swarm_engine::IpRange;

/// Where HTTP is served unless an option says otherwise.
const HTTP: ([u8; 4], u16) = ([127, 0, 0, 1], 6868);

#[derive(Args, Clone, Debug)]
#[command(after_long_help = EXAMPLES, subcommand_negates_reqs = true)]
pub struct DaemonArgs {
    #[command(subcommand)]
    then: Option<Then>,

    /// Take what is not set here from this TOML file; its keys are the long names of the options
    ///
    /// SIGHUP has it read again. What changed there takes effect for dir, allow-dir, watch-dir, http-host, http-base,
    /// trusted-proxy, allow-private-urls, the limits, max-active-downloads, max-active-seeds, seed-ratio, seed-time and on-complete; the log names
    /// what needs a restart.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,

    /// Download to this folder, unless a torrent has another. Default: ~/Downloads
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    dir: Option<PathBuf>,

    /// Let clients name this folder and those below it for torrents too; repeatable
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    allow_dir: Vec<PathBuf>,

    /// Add what is put into this folder: .torrent and .meta files, and links in .magnet files
    ///
    /// A file is renamed to NAME.added or NAME.failed then.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    watch_dir: Option<PathBuf>,

    /// Serve `swarm ctl` on this Unix socket. Default: daemon/socket in the state folder
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    socket: Option<PathBuf>,

    /// Serve HTTP on this address; repeatable. Default: 127.0.0.1:6868
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address)]
    http: Vec<SocketAddr>,

    /// Serve no HTTP, only the Unix socket
    #[arg(long, conflicts_with = "http")]
    no_http: bool,

    /// Answer to HTTP clients that know this host by this name; repeatable
    #[arg(long, value_name = "NAME")]
    http_host: Vec<String>,

    /// The user who has the password that `swarm daemon password` sets
    #[arg(long, value_name = "NAME", default_value = "swarm", value_parser = parse_user)]
    user: String,

    /// Have the links of the page begin with this path, where a proxy has put the daemon below it
    #[arg(long, value_name = "PATH", value_parser = parse_base, default_value = "")]
    http_base: String,

    /// Believe what this proxy says of a client's host, scheme and address: an address, or a network as in 10.0.0.0/8; repeatable
    #[arg(long, value_name = "ADDR", value_parser = parse_proxy)]
    trusted_proxy: Vec<IpRange>,

    /// Answer to HTTP clients without a token or a password: to everybody on this machine
    #[arg(long)]
    no_auth: bool,

    /// Fetch metainfo files that clients name by their URLs from this machine and network too
    ///
    /// For indexers that run there, such as Prowlarr or Jackett. Without it only public addresses are asked, also after redirects.
    #[arg(long)]
    allow_private_urls: bool,

    /// Let at most so many torrents download at a time; others wait in the queue
    #[arg(long, value_name = "N", value_parser = units::whole::<usize>(0..=1_000_000))]
    max_active_downloads: Option<usize>,

    /// Let at most so many torrents seed at a time
    #[arg(long, value_name = "N", value_parser = units::whole::<usize>(0..=1_000_000))]
    max_active_seeds: Option<usize>,

    /// Stop a torrent when it has sent this many times its size
    #[arg(long, value_name = "RATIO", value_parser = parse_ratio)]
    seed_ratio: Option<f64>,

    /// Stop a torrent when it has seeded for this long
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
    seed_time: Option<Duration>,

    /// Run this program when a torrent is complete: its path, then its arguments, each with an --on-complete of its own
    ///
    /// {path}, {name}, {hash}, {dir}, {category} and {id} in an argument stand for what the torrent has. There is no shell, and each
    /// completion runs it once at most. Best set in the configuration file, as a list.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    on_complete: Vec<String>,

    /// Run at most so many of these programs at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = units::whole::<usize>(1..=100))]
    on_complete_at_once: usize,

    /// End such a program when it has taken this long
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = units::parse_duration)]
    on_complete_timeout: Duration,

    /// Take over the torrents of a qBittorrent: from its folder BT_backup, which is only read
    ///
    /// Their data stays where it is, in folders that may be used, and is checked. What is here already is passed over.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    import_qbittorrent: Option<PathBuf>,

    /// Take over the torrents of a Transmission: from its folder with torrents and resume in it, which is only read
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    import_transmission: Option<PathBuf>,

    /// Print events as JSON, one object a line
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    network: NetworkArgs,

    /// The command line.
    #[arg(skip)]
    pub argv: Vec<OsString>,
}

/// What is done in place of running a daemon.
#[derive(Subcommand, Clone, Debug)]
enum Then {
    /// Set the password that clients over HTTP log in with, read from the terminal or standard input
    ///
    /// Its hash goes to daemon/password in the state folder (--state-dir before this word names one). A daemon that runs takes it at once,
    /// and whoever was logged in is logged out.
    Password(password::PasswordArgs),
}

const EXAMPLES: &str = "\
Examples:
  swarm daemon --dir /srv/downloads
  swarm daemon --config /etc/swarm.toml
  swarm daemon password
  swarm ctl add release.meta && swarm ctl list

Torrents come back as they were after a restart. Clients over HTTP need the token in daemon/token of the state folder, \
or the password; \
the Unix socket is for its owner alone.";

/// What of the configuration file a running daemon takes anew.
const RELOADED: [&str; 16] = [
    "dir",
    "allow-dir",
    "watch-dir",
    "http-host",
    "http-base",
    "trusted-proxy",
    "allow-private-urls",
    "max-up",
    "max-down",
    "max-active-downloads",
    "max-active-seeds",
    "seed-ratio",
    "seed-time",
    "on-complete",
    "on-complete-at-once",
    "on-complete-timeout",
];

fn parse_ratio(text: &str) -> Result<f64, &'static str> {
    let ratio = text.parse().ok().filter(|ratio: &f64| ratio.is_finite() && *ratio >= 0.0);
    ratio.ok_or("is not a number from 0 up, as in 1.5")
}

fn parse_base(text: &str) -> Result<String, &'static str> {
    let base = text.trim_end_matches('/');
    let is_plain = |part: &str| {
        !part.is_empty()
            && !matches!(part, "." | "..")
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    };
    match base.is_empty() || base.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_plain)) {
        true => Ok(base.to_owned()),
        false => Err("is not a path as in /swarm, of letters, digits, - . _ and ~"),
    }
}

fn parse_proxy(text: &str) -> Result<IpRange, &'static str> {
    let wrong = "is not an address, nor a network as in 10.0.0.0/8";
    let (ip, len) = text.split_once('/').map_or((text, None), |(ip, len)| (ip, Some(len)));
    let ip: IpAddr = ip.parse().map_err(|_| wrong)?;
    match len {
        None => Ok(ip.into()),
        Some(len) => len.parse().ok().and_then(|len| IpRange::network(ip, len).ok()).ok_or(wrong),
    }
}

fn parse_user(text: &str) -> Result<String, &'static str> {
    let is_plain = (1..=255).contains(&text.len()) && !text.contains([':', '\0', '\n', '\r']);
    if is_plain { Ok(text.to_owned()) } else { Err("is not a name of 1 to 255 bytes without a colon") }
}

/// What a daemon prints for scripts.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Record<'a> {
    /// Where peers can reach it.
    Listening { addresses: &'a [SocketAddr] },
    /// It answers.
    Serving { http: &'a [SocketAddr], socket: Option<&'a Path>, torrents: usize },
    /// Torrents of another program were taken over.
    Imported { from: &'a str, dir: &'a Path, added: usize, known: usize, skipped: usize },
    /// The configuration was read again.
    Reloaded { taken: &'a [&'a str], kept: &'a [&'a str] },
    /// It was told to end.
    Stopped { reason: &'a str },
}

/// Parses a command line to the options of this command.
pub type Parse<'a> = &'a dyn Fn(Vec<OsString>) -> Result<DaemonArgs, clap::Error>;

pub async fn run(args: DaemonArgs, parse: Parse<'_>, command: &Command, cx: &mut Context) -> Result<Exit> {
    if let Some(Then::Password(password)) = &args.then {
        // The file has its say in which folder that is.
        let mut plain = args.clone();
        let end = plain.argv.iter().rposition(|arg| arg == "password");
        plain.argv.truncate(end.unwrap_or(plain.argv.len()));
        let file = read_file(&plain, parse, command)?;
        let Some(folder) = with_file(&plain, &file, parse)?.network.state_dir() else {
            return fail(Exit::Usage, "the password is kept in the state folder: --state-dir names one");
        };
        return password::run(password, &folder.join(FOLDER), cx);
    }
    let mut interrupt = Interrupt::install_for_service()?;
    let mut file = read_file(&args, parse, command)?;
    let args = with_file(&args, &file, parse)?;
    let config = args.config()?;
    let given = service::sockets()?;
    for what in sockets::passed_over(&given, args.no_http, !args.http.is_empty(), args.socket.as_deref())? {
        cx.warn(what);
    }
    let token = config.auth.then(|| config.state_dir.join("token"));
    let socket = sockets::path_of(&given, config.socket.as_deref());
    let daemon = Daemon::start_on(given, config).await.map_err(failure)?;
    record(cx, &Record::Listening { addresses: daemon.listening() });
    let torrents = daemon.torrents();
    record(cx, &Record::Serving { http: daemon.http(), socket: socket.as_deref(), torrents });
    say_where(cx, &daemon, socket.as_deref(), token.as_deref());
    service::ready(&where_it_serves(&daemon));
    let feeding = tokio::spawn(service::feed_watchdog(daemon.pulse()));
    let mut imports = args.imports().into_iter().peekable();
    let (reason, exit) = loop {
        let imported = async {
            match imports.peek() {
                Some(import) => daemon.import(import).await,
                None => std::future::pending().await,
            }
        };
        let signal = tokio::select! {
            signal = interrupt.wait() => signal,
            () = daemon.close_asked() => break ("closed", Exit::Done),
            report = imported => {
                imports.next();
                say_imported(cx, &report);
                continue;
            }
        };
        match signal {
            Signal::HangUp => {
                service::reloading();
                // What is wrong with the file is told; the daemon goes on as it is.
                let status = match reload(&daemon, &args, &mut file, parse, command, cx).await {
                    Ok(()) => where_it_serves(&daemon),
                    Err(error) => {
                        let why = crate::exit::one_line(&error);
                        cx.console.error(&why);
                        format!("goes on as it was configured before: {why}")
                    }
                };
                service::ready(&status);
            }
            signal => break (signal.reason(), signal.exit_of_service()),
        }
    };
    cx.console.note("stopping; once more to stop at once");
    service::stopping();
    feeding.abort();
    service::feed_until(daemon.stop()).await;
    record(cx, &Record::Stopped { reason });
    Ok(exit)
}

fn record(cx: &mut Context, record: &Record<'_>) {
    if cx.has_events() {
        let stamped = Stamped::now(record, cx.start);
        cx.console.json(&stamped);
    }
}

fn say_where(cx: &mut Context, daemon: &Daemon, socket: Option<&Path>, token: Option<&Path>) {
    let count = units::count(daemon.torrents(), "torrent");
    let listening: Vec<String> = daemon.listening().iter().map(ToString::to_string).collect();
    cx.console.note(&format!("{count}; peers reach it at {}", listening.join(", ")));
    for addr in daemon.http() {
        let with = token.map_or(String::new(), |token| format!(", with the token in {}", token.display()));
        cx.console.note(&format!("serving http://{addr}/api/v1/{with}"));
    }
    // The link lets in whoever reads it, and the journal keeps what it has.
    if let Some(link) = daemon.first_link().filter(|_| !service::is_in_journal()) {
        cx.console
            .note(&format!("open {link} in a browser on this machine; the link lets in whoever has it"));
    }
    if let Some(socket) = socket {
        cx.console.note(&format!("serving `swarm ctl` at {}", socket.display()));
    }
}

/// The same for the service manager, in a line.
fn where_it_serves(daemon: &Daemon) -> String {
    let http: Vec<String> = daemon.http().iter().map(|addr| format!("http://{addr}/")).collect();
    if http.is_empty() { "serving its socket".to_owned() } else { format!("serving {}", http.join(", ")) }
}

/// How many entries that were left out are named.
const SKIPPED_SHOWN: usize = 100;

fn say_imported(cx: &mut Context, report: &Report) {
    let Report { from, dir, added, known, skipped } = report;
    for (entry, why) in skipped.iter().take(SKIPPED_SHOWN) {
        cx.warn(&format!("{}: left out: {}", printable(entry), printable(why)));
    }
    let more = skipped.len().saturating_sub(SKIPPED_SHOWN);
    if more > 0 {
        cx.warn(&format!("and {more} more were left out"));
    }
    let from = from.name();
    record(cx, &Record::Imported { from, dir, added: *added, known: *known, skipped: skipped.len() });
    let counts = format!("{known} known already, {} left out", skipped.len());
    cx.console.note(&format!(
        "{}: imported {} of {from}; {counts}",
        dir.display(),
        units::count(*added, "torrent")
    ));
}

/// The settings of the configuration file, each tried by itself, so that what is wrong is found on its line.
fn read_file(args: &DaemonArgs, parse: Parse<'_>, command: &Command) -> Result<Settings> {
    let Some(path) = &args.config else { return Ok(Settings::new()) };
    let takes =
        |name: &str| command.get_arguments().any(|arg| arg.get_long() == Some(name) && !arg.is_hide_set());
    let settings = file::read(path, takes)?;
    for setting in settings.values() {
        let argv =
            ["swarm", "daemon"].into_iter().map(OsString::from).chain(setting.arguments.iter().cloned());
        match parse(argv.collect()) {
            Ok(args) => {
                let program = args.program();
                program.map_err(|error| file::wrong(path, setting.line, &error.to_string()))?;
            }
            Err(error) => {
                let told = usage::line(&error);
                return Err(file::wrong(path, setting.line, told.strip_prefix("--").unwrap_or(&told)).into());
            }
        }
    }
    Ok(settings)
}

/// The options of the command line, and of the file what is not among them.
fn with_file(args: &DaemonArgs, file: &Settings, parse: Parse<'_>) -> Result<DaemonArgs> {
    if file.is_empty() {
        return Ok(args.clone());
    }
    let is_given = |name: &str| {
        args.argv.iter().filter_map(|arg| arg.to_str()?.strip_prefix("--")).any(|arg| {
            let rest = arg.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        })
    };
    let more =
        file.iter().filter(|(name, _)| !is_given(name)).flat_map(|(_, setting)| setting.arguments.clone());
    // Options may stand anywhere after the command's name.
    let argv = args.argv.iter().cloned().chain(more).collect();
    let mut merged = parse(argv).map_err(|error| Failure::new(Exit::Usage, usage::line(&error)))?;
    merged.argv.clone_from(&args.argv);
    Ok(merged)
}

async fn reload(
    daemon: &Daemon,
    args: &DaemonArgs,
    file: &mut Settings,
    parse: Parse<'_>,
    command: &Command,
    cx: &mut Context,
) -> Result<()> {
    if args.config.is_none() {
        return Ok(());
    }
    let new = read_file(args, parse, command)?;
    let arguments =
        |settings: &Settings, name: &str| settings.get(name).map(|setting| setting.arguments.clone());
    let names: std::collections::BTreeSet<&String> = file.keys().chain(new.keys()).collect();
    let changed =
        names.into_iter().map(String::as_str).filter(|name| arguments(file, name) != arguments(&new, name));
    let (taken, kept): (Vec<&str>, Vec<&str>) = changed.partition(|name| RELOADED.contains(name));
    let rules = with_file(args, &new, parse)?.rules()?;
    daemon.reload(rules).await;
    record(cx, &Record::Reloaded { taken: &taken, kept: &kept });
    cx.console.note(&format!("the configuration was read again; changed: {}", named(&taken)));
    if !kept.is_empty() {
        cx.warn(&format!("changed, and needs a restart: {}", named(&kept)));
    }
    *file = new;
    Ok(())
}

fn named(names: &[&str]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

fn failure(error: StartError) -> anyhow::Error {
    let exit = match &error {
        StartError::Store(error) if error.is_full() => Exit::Destination,
        StartError::OpenToAll(_) => Exit::Usage,
        _ => Exit::Runtime,
    };
    match error {
        StartError::Session(error) => error.into(),
        error => Failure::new(exit, error.to_string()).into(),
    }
}

impl DaemonArgs {
    fn config(&self) -> Result<Config> {
        let Some(state_dir) = self.network.state_dir() else {
            return fail(
                Exit::Usage,
                "a daemon keeps its torrents in the state folder: --state-dir names one",
            );
        };
        let network = self.network.clone();
        let http = match (self.no_http, &self.http[..]) {
            (true, _) => Vec::new(),
            (false, []) => vec![HTTP.into()],
            (false, addrs) => addrs.to_vec(),
        };
        Ok(Config {
            session: self.network.session_options()?,
            prepare: Prepare(Arc::new(move |torrent| network.apply(torrent))),
            socket: Some(self.socket.clone().unwrap_or_else(|| socket_in(&state_dir))).filter(|_| cfg!(unix)),
            state_dir: state_dir.join(FOLDER),
            http,
            user: self.user.clone(),
            auth: !self.no_auth,
            rules: self.rules()?,
        })
    }

    /// The program to run when a torrent is complete.
    fn program(&self) -> Result<Option<Program>> {
        if self.on_complete.is_empty() {
            return Ok(None);
        }
        let program = Program {
            arguments: self.on_complete.clone(),
            at_once: self.on_complete_at_once,
            timeout: self.on_complete_timeout,
        };
        program.check().map_err(|error| Failure::new(Exit::Usage, format!("on-complete: {error}")))?;
        Ok(Some(program))
    }

    fn imports(&self) -> Vec<Import> {
        let qbittorrent = self.import_qbittorrent.clone().map(|dir| Import { from: From::QBittorrent, dir });
        let transmission =
            self.import_transmission.clone().map(|dir| Import { from: From::Transmission, dir });
        qbittorrent.into_iter().chain(transmission).collect()
    }

    fn rules(&self) -> Result<Rules> {
        let downloads = || std::env::home_dir().map(|home| home.join("Downloads"));
        let dir = self.dir.clone().or_else(downloads);
        let dir = dir.context("there is no home folder to download to; --dir names one")?;
        Ok(Rules {
            dir,
            allow_dirs: self.allow_dir.clone(),
            watch_dir: self.watch_dir.clone(),
            hosts: self.http_host.clone(),
            base: self.http_base.clone(),
            proxies: self.trusted_proxy.clone(),
            allow_private_urls: self.allow_private_urls,
            turns: Turns { downloads: self.max_active_downloads, seeds: self.max_active_seeds },
            on_complete: self.program()?,
            goals: Goals { ratio: self.seed_ratio, seed_time: self.seed_time.map(|time| time.as_secs()) },
            upload_limit: self.network.max_up,
            download_limit: self.network.max_down,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Alone {
        #[command(flatten)]
        daemon: DaemonArgs,
    }

    #[test]
    fn nobody_else_reaches_it_unless_somebody_says_so() {
        let config = |more: &[&str]| {
            let args = [&["swarm", "--dir", "/srv", "--state-dir", "/state"][..], more].concat();
            <Alone as clap::Parser>::try_parse_from(args).unwrap().daemon.config().unwrap()
        };
        let plain = config(&[]);
        assert_eq!((plain.http, plain.auth), (vec!["127.0.0.1:6868".parse().unwrap()], true));
        let rules = plain.rules;
        assert!(rules.hosts.is_empty() && rules.proxies.is_empty() && !rules.allow_private_urls);
        assert_eq!(config(&["--no-http"]).http, []);
        assert_eq!(config(&["--http", "192.0.2.7:80"]).http, ["192.0.2.7:80".parse().unwrap()]);
    }

    #[test]
    fn a_base_is_a_plain_path() {
        for (text, base) in [("", ""), ("/", ""), ("/swarm", "/swarm"), ("/a/b-c.d/", "/a/b-c.d")] {
            assert_eq!(parse_base(text).as_deref(), Ok(base));
        }
        for wrong in ["swarm", "//evil.example", "/a b", "/a//b", "/..", "/a?b", "/\"x", "http://a/"] {
            assert!(parse_base(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_proxy_is_an_address_or_a_network() {
        assert_eq!(parse_proxy("10.0.0.1/8"), parse_proxy("10.0.0.0/8"));
        assert!(parse_proxy("::1").is_ok() && parse_proxy("fd00::/8").is_ok());
        for wrong in ["", "localhost", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/x", "10.0.0.0-10.0.0.9"] {
            assert!(parse_proxy(wrong).is_err(), "{wrong}");
        }
    }
}

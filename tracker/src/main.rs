//! The command `swarm-tracker`: the library behind flags, signals and a log.
#![forbid(unsafe_code)]

mod settings;

use std::io::{ErrorKind, IsTerminal};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{ColorChoice, Parser};
use swarm_tracker::process::{self, service};
use swarm_tracker::{AllowList, BindError, Config, Handle, Server, SharedStore, Tls};
use tracing_subscriber::filter::LevelFilter;

use crate::settings::{LogFormat, STORE_VARIABLE, Settings, usage_line};

/// With a shared store, most of the time goes into small allocations, which this makes cheaper.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Where clients expect a tracker.
const PORT_DEFAULT: u16 = 6969;

fn main() -> ExitCode {
    let flags = match Settings::try_parse() {
        Ok(flags) => flags,
        Err(error) if error.use_stderr() => return wrong_usage(&usage_line(&error.render().to_string())),
        Err(help) => help.exit(),
    };
    process::hide_passwords();
    let settings = match flags.clone().with_file() {
        Ok(settings) => settings,
        Err(error) => return wrong_usage(&one_line(&error)),
    };
    let config = match settings.tracker() {
        Ok(config) => config,
        Err(error) => return wrong_usage(&one_line(&error)),
    };
    let store = match settings.shared_store(std::env::var(STORE_VARIABLE).ok()) {
        Ok(store) => store,
        Err(error) => return wrong_usage(&one_line(&error)),
    };
    match run(&flags, settings, config, store) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("swarm-tracker: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

fn wrong_usage(line: &str) -> ExitCode {
    eprintln!("swarm-tracker: {line}");
    ExitCode::from(2)
}

/// The error and its causes, without those that an error has in its own words.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.ends_with(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

/// Serves by `settings`, which are `flags` and the configuration file that they name.
fn run(
    flags: &Settings,
    mut settings: Settings,
    config: Config,
    store: Option<SharedStore>,
) -> anyhow::Result<()> {
    start_log(&settings);
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::listen().context("cannot listen for signals")?;
        let mut server = bind(config, &settings)?;
        if let Some(list) = allow_list(&settings)? {
            server.store().set_allowed(Some(list));
        }
        if let Some(path) = state_path(&settings) {
            server = server.keep_state(&path)?;
        }
        if let Some(store) = store {
            server = server.share(store).await?;
        }
        let tracker = server.spawn();
        for addr in tracker.local_addrs() {
            eprintln!("listening on http://{addr}/announce");
        }
        for addr in tracker.local_tls_addrs() {
            eprintln!("listening on https://{addr}/announce");
        }
        for addr in tracker.local_udp_addrs() {
            eprintln!("listening on udp://{addr}/announce");
        }
        let tracker = Arc::new(tracker);
        service::ready("serving");
        let looked_at = Arc::clone(&tracker);
        // Its figures come from every part of the store: a part that is stuck keeps the watchdog hungry.
        let feeding = tokio::spawn(service::feed_watchdog(move || {
            let _ = looked_at.stats();
            std::future::ready(true)
        }));
        while signals.next().await == Signal::Reload {
            service::reloading();
            match reload(flags, &settings, &tracker) {
                Ok(taken) => {
                    settings = taken;
                    service::ready("serving");
                }
                Err(error) => {
                    let why = one_line(&error);
                    tracing::error!("keeping what was read before: {why}");
                    service::ready(&format!("keeping what was read before: {why}"));
                }
            }
        }
        service::stopping();
        feeding.abort();
        let _ = feeding.await;
        if let Some(tracker) = Arc::into_inner(tracker) {
            tracker.stop().await;
        }
        Ok(())
    })
}

/// Reads the files again; all are good, or nothing changes. The settings from now on.
fn reload(flags: &Settings, settings: &Settings, tracker: &Handle) -> anyhow::Result<Settings> {
    let (settings, changes) = settings.reload(flags.clone().with_file()?);
    let (config, allowed, tls) = (settings.tracker()?, allow_list(&settings)?, tls(&settings)?);
    tracker.set_config(config);
    tracker.store().set_allowed(allowed);
    if let Some(tls) = tls {
        tracker.set_tls(tls);
    }
    for name in changes.taken {
        tracing::info!("{name} has changed");
    }
    for name in changes.kept {
        tracing::warn!("{name} has changed, which needs a restart");
    }
    tracing::info!("read the files again");
    Ok(settings)
}

/// Where the swarms are kept: where the user says, or where the service manager does.
fn state_path(settings: &Settings) -> Option<PathBuf> {
    // Of several folders the first is meant.
    let given = std::env::var_os("STATE_DIRECTORY").filter(|_| settings.state.is_none());
    let folder = given.and_then(|folders| std::env::split_paths(&folders).next());
    settings.state.clone().or(folder.map(|folder| folder.join("swarm-tracker.state")))
}

fn allow_list(settings: &Settings) -> anyhow::Result<Option<AllowList>> {
    let Some(path) = &settings.allow_list else { return Ok(None) };
    let list: AllowList = settings::read(path)?.parse().with_context(|| path.display().to_string())?;
    tracing::info!(torrents = list.len(), "allow list read");
    Ok(Some(list))
}

fn tls(settings: &Settings) -> anyhow::Result<Option<Tls>> {
    let (Some(cert), Some(key)) = (&settings.tls_cert, &settings.tls_key) else { return Ok(None) };
    let tls = Tls::from_pem(settings::read(cert)?.as_bytes(), settings::read(key)?.as_bytes());
    let files = || format!("{} and {}", cert.display(), key.display());
    Ok(Some(tls.with_context(files)?))
}

/// Listens where the user says, or on every interface.
fn bind(config: Config, settings: &Settings) -> anyhow::Result<Server> {
    let every = |ip: IpAddr| SocketAddr::new(ip, PORT_DEFAULT);
    let (v4, v6) = (every(Ipv4Addr::UNSPECIFIED.into()), every(Ipv6Addr::UNSPECIFIED.into()));
    let elsewhere = !settings.listen_tls.is_empty() || !settings.listen_udp.is_empty();
    let server = if settings.listen.is_empty() && !elsewhere {
        // A machine without IPv6 is no reason not to serve.
        Server::bind(config.clone(), &[v4, v6]).or_else(|error| match error.source.kind() {
            ErrorKind::AddrInUse | ErrorKind::PermissionDenied => Err(error),
            _ if error.addr == v6 => Server::bind(config, &[v4]),
            _ => Err(error),
        })
    } else {
        Server::bind(config, &settings.listen)
    };
    let server = server.and_then(|server| server.bind_udp(&settings.listen_udp)).map_err(with_mend)?;
    match tls(settings)? {
        Some(tls) => server.bind_tls(&settings.listen_tls, tls).map_err(with_mend),
        None => Ok(server),
    }
}

fn with_mend(error: BindError) -> anyhow::Error {
    let mend = match error.source.kind() {
        ErrorKind::AddrInUse => "another program listens there; choose another port with --listen",
        ErrorKind::AddrNotAvailable => "this machine does not have that address",
        ErrorKind::PermissionDenied => "ports below 1024 need a privilege; choose another with --listen",
        _ => return error.into(),
    };
    anyhow::anyhow!("cannot listen on {}: {mend}", error.addr)
}

fn start_log(settings: &Settings) {
    let level = match i16::from(settings.verbose) - i16::from(settings.quiet) {
        ..=-2 => LevelFilter::OFF,
        -1 => LevelFilter::ERROR,
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        3.. => LevelFilter::TRACE,
    };
    let coloured = match settings.color {
        ColorChoice::Always => true,
        ColorChoice::Auto => std::io::stderr().is_terminal(),
        ColorChoice::Never => false,
    };
    let log =
        tracing_subscriber::fmt().with_max_level(level).with_ansi(coloured).with_writer(std::io::stderr);
    match settings.log.unwrap_or_default() {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

/// Each connection takes a descriptor, and the usual soft limit is for 1,024 of them.
fn raise_descriptor_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "cannot raise the limit on open files");
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    /// SIGHUP: read the files again.
    Reload,
    /// SIGINT (Ctrl-C) or SIGTERM.
    Stop,
}

struct Signals {
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// Takes over the signals: none is missed between here and the wait.
    fn listen() -> std::io::Result<Signals> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Signals {
                hangup: signal(SignalKind::hangup())?,
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
            })
        }
        #[cfg(not(unix))]
        Ok(Signals {})
    }

    /// The next signal that comes.
    #[cfg(unix)]
    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.hangup.recv() => Signal::Reload,
        }
    }

    /// Ctrl-C has come.
    #[cfg(not(unix))]
    async fn next(&mut self) -> Signal {
        let _ = tokio::signal::ctrl_c().await;
        Signal::Stop
    }
}

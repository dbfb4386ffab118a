//! The command `swarm-tracker`: the library behind flags, signals and a log.
#![forbid(unsafe_code)]

mod settings;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use swarm_tracker::{BindError, Config, Server};
use tracing_subscriber::filter::LevelFilter;

use crate::settings::{LogFormat, Settings};

/// Where clients expect a tracker.
const PORT_DEFAULT: u16 = 6969;

fn main() -> ExitCode {
    // Help ends with exit status 0, usage errors with 2.
    let settings = Settings::parse();
    let config = settings.config().unwrap_or_else(|error| error.exit());
    match run(&settings, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("swarm-tracker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: &Settings, config: Config) -> anyhow::Result<()> {
    start_log(settings);
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let signals = Signals::listen().context("cannot listen for signals")?;
        let server = bind(config, &settings.listen)?;
        for addr in server.local_addrs() {
            eprintln!("listening on http://{addr}/announce");
        }
        server.run(signals.received()).await;
        Ok(())
    })
}

/// Listens where the user says, or on every interface.
fn bind(config: Config, listen: &[SocketAddr]) -> anyhow::Result<Server> {
    let every = |ip: std::net::IpAddr| SocketAddr::new(ip, PORT_DEFAULT);
    let (v4, v6) = (every(Ipv4Addr::UNSPECIFIED.into()), every(Ipv6Addr::UNSPECIFIED.into()));
    let bound = if listen.is_empty() {
        // A machine without IPv6 is no reason not to serve.
        Server::bind(config.clone(), &[v4, v6]).or_else(|error| match error.source.kind() {
            ErrorKind::AddrInUse | ErrorKind::PermissionDenied => Err(error),
            _ if error.addr == v6 => Server::bind(config, &[v4]),
            _ => Err(error),
        })
    } else {
        Server::bind(config, listen)
    };
    bound.map_err(|error| {
        let mend = match error.source.kind() {
            ErrorKind::AddrInUse => "another program listens there; choose another port with --listen",
            ErrorKind::AddrNotAvailable => "this machine does not have that address",
            ErrorKind::PermissionDenied => "ports below 1024 need a privilege; choose another with --listen",
            _ => return error.into(),
        };
        let BindError { addr, .. } = error;
        anyhow::anyhow!("cannot listen on {addr}: {mend}")
    })
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
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    match settings.log {
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

/// What asks the tracker to stop.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// From now on signals are ours: none is missed between here and the wait.
    fn listen() -> std::io::Result<Signals> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let interrupt = signal(SignalKind::interrupt())?;
            let terminate = signal(SignalKind::terminate())?;
            Ok(Signals { interrupt, terminate })
        }
        #[cfg(not(unix))]
        Ok(Signals {})
    }

    /// An interrupt (Ctrl-C) or a request to terminate has come.
    #[cfg(unix)]
    async fn received(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Ctrl-C has come.
    #[cfg(not(unix))]
    async fn received(self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}

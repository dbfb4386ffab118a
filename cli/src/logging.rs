//! Diagnostics on stderr, for whoever looks into a problem.

use crate::console::ColorWhen;
use clap::ValueEnum;
use indicatif::MultiProgress;
use std::io::{self, IsTerminal as _, Write};
use std::time::SystemTime;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// Starts logging: errors and warnings, with each `-v` a level more of our own crates, with `-q` nothing.
pub fn start(format: LogFormat, verbosity: u8, quiet: bool, color: ColorWhen, bars: MultiProgress) {
    if format == LogFormat::Json {
        std::panic::set_hook(Box::new(|panic| {
            let _ = writeln!(io::stderr(), "{}", json_line("ERROR", &panic.to_string()));
        }));
    }
    let ours = match (quiet, verbosity) {
        (true, _) => return,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, 2) => LevelFilter::DEBUG,
        (false, _) => LevelFilter::TRACE,
    };
    let filter = Targets::new().with_target("swarm", ours).with_default(LevelFilter::WARN);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(Stderr(bars))
        .with_ansi(color.applies(io::stderr().is_terminal()));
    // A process has one log; in tests, where many commands run in one process, the first has it.
    let _ = match format {
        LogFormat::Text => tracing_subscriber::registry().with(filter).with(lines).try_init(),
        LogFormat::Json => tracing_subscriber::registry().with(filter).with(lines.json()).try_init(),
    };
}

/// A line that is no event of the log's own, in the log's format.
pub fn json_line(level: &str, message: &str) -> String {
    let timestamp = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    let fields = serde_json::json!({ "message": message });
    serde_json::json!({ "timestamp": timestamp, "level": level, "fields": fields, "target": "swarm" })
        .to_string()
}

/// Standard error, with the progress bars out of the way while a line is written.
#[derive(Clone)]
struct Stderr(MultiProgress);

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Stderr;
    fn make_writer(&'a self) -> Stderr {
        self.clone()
    }
}

//! Diagnostics on stderr.

use crate::console::{ColorWhen, json_line};
use crate::exit::{escaped, is_deceptive};
use clap::ValueEnum;
use indicatif::MultiProgress;
use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
    /// To the journal of systemd, with each field as one of its own; where there is none, text.
    Journald,
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
    let has_ansi = color.applies(io::stderr().is_terminal()) && format == LogFormat::Text;
    let lines =
        tracing_subscriber::fmt::layer().with_writer(Stderr { bars, format, has_ansi }).with_ansi(has_ansi);
    if format == LogFormat::Journald {
        // Fields go there as they are, each with its length: they cannot deceive, and `journalctl` escapes what it shows.
        if let Ok(journal) = tracing_journald::layer() {
            let _ = tracing_subscriber::registry().with(filter).with(journal).try_init();
            return;
        }
    }
    // A process has one log; in tests, where many commands run in one process, the first has it.
    let _ = match format {
        LogFormat::Text | LogFormat::Journald => {
            tracing_subscriber::registry().with(filter).with(lines).try_init()
        }
        LogFormat::Json => tracing_subscriber::registry().with(filter).with(lines.json()).try_init(),
    };
}

/// Standard error, with the progress bars hidden while a line is written. Many fields come from strangers:
/// here, where all pass, they are made harmless.
#[derive(Clone)]
struct Stderr {
    bars: MultiProgress,
    format: LogFormat,
    has_ansi: bool,
}

/// A log line without characters that deceive its reader.
fn harmless(line: &str, format: LogFormat, has_ansi: bool) -> Cow<'_, str> {
    let text = line.strip_suffix('\n').unwrap_or(line);
    // Control characters in JSON strings are escaped already.
    let is_harmful = |c: char| {
        let is_control = c.is_control() && format != LogFormat::Json && !(has_ansi && c == '\x1b');
        is_control || is_deceptive(c)
    };
    if !text.contains(is_harmful) {
        return Cow::Borrowed(line);
    }
    let escape = |c: char| match format {
        LogFormat::Text | LogFormat::Journald => c.escape_default().to_string(),
        LogFormat::Json => c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
    };
    Cow::Owned(escaped(text, is_harmful, escape) + &line[text.len()..])
}

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let text = harmless(&text, self.format, self.has_ansi);
        self.bars.suspend(|| io::stderr().write_all(text.as_bytes()))?;
        Ok(line.len())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_say_cannot_deceive_in_a_log() {
        let line = "WARN peer client=evil\u{202e}gpj.exe\u{200b} says\r\n\x1b[31mred\n";
        let text = harmless(line, LogFormat::Text, false);
        assert_eq!(text, "WARN peer client=evil\\u{202e}gpj.exe\\u{200b} says\\r\\n\\u{1b}[31mred\n");
        assert!(harmless(line, LogFormat::Text, true).contains("\x1b[31mred\n"), "our own colours");
        let json = "{\"why\":\"a\u{2066}b\u{e0041}\"}\n";
        let harmless_json = harmless(json, LogFormat::Json, false);
        assert_eq!(harmless_json, "{\"why\":\"a\\u2066b\\udb40\\udc41\"}\n");
        let read: serde_json::Value = serde_json::from_str(&harmless_json).unwrap();
        assert_eq!(read["why"], "a\u{2066}b\u{e0041}");
        assert_eq!(harmless("plain ü\n", LogFormat::Text, false), "plain ü\n");
    }
}

//! Where output goes: results and JSON to stdout, everything else to stderr.
//!
//! With `--json`, stdout carries JSON and nothing else. A reader that has gone away (`swarm show x | head
//! -1`) is no error and never a panic; a full disk behind stdout is an error, reported at the end.

use crate::exit::printable;
use crate::terminal::BarTerm;
use clap::ValueEnum;
use clap::builder::styling::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write};
use std::time::SystemTime;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb.
    #[default]
    Auto,
    Always,
    Never,
}

impl ColorWhen {
    /// Whether to colour what goes to a stream that is, or is not, a terminal.
    pub fn applies(self, is_terminal: bool) -> bool {
        self.applies_with(is_terminal, |name| std::env::var_os(name))
    }

    fn applies_with(self, is_terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
        match self {
            ColorWhen::Auto => {
                is_terminal
                    && !is_dumb(variable("TERM"))
                    && variable("NO_COLOR").is_none_or(|value| value.is_empty())
            }
            ColorWhen::Always => true,
            ColorWhen::Never => false,
        }
    }
}

/// Whether the terminal, by its TERM, can neither colour text nor move its cursor.
fn is_dumb(term: Option<OsString>) -> bool {
    term.is_some_and(|term| term == "dumb")
}

/// The text in lines of at most so many columns, broken at spaces where there are any.
pub fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = vec![String::new()];
    let mut room = columns;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut word: Vec<char> = word.chars().collect();
        if room < columns && word.len() < room {
            lines.last_mut().expect("there is a line").push(' ');
            room -= 1;
        } else if room < columns {
            lines.push(String::new());
            room = columns;
        }
        while word.len() > columns {
            lines.last_mut().expect("there is a line").extend(word.drain(..columns));
            lines.push(String::new());
        }
        room -= word.len();
        lines.last_mut().expect("there is a line").extend(word);
    }
    lines
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Paint(bool);

impl Paint {
    fn with(self, style: Style, text: &str) -> String {
        if self.0 { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    pub fn strong(self, text: &str) -> String {
        self.with(Style::new().bold(), text)
    }

    pub fn dim(self, text: &str) -> String {
        self.with(Style::new().dimmed(), text)
    }

    pub fn is_on(self) -> bool {
        self.0
    }

    pub fn good(self, text: &str) -> String {
        self.with(AnsiColor::Green.on_default(), text)
    }

    pub fn warn(self, text: &str) -> String {
        self.with(AnsiColor::Yellow.on_default(), text)
    }

    pub fn bad(self, text: &str) -> String {
        self.with(AnsiColor::Red.on_default().bold(), text)
    }
}

/// How often bars are drawn at most, in a second.
const BARS_HZ: u8 = 20;

/// Standard output and standard error, and what the user wants to see there.
pub struct Console {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    out_error: Option<io::Error>,
    quiet: bool,
    json: bool,
    log_json: bool,
    out_paint: Paint,
    err_paint: Paint,
    bars: MultiProgress,
}

impl Console {
    /// A console that writes to these, without colours or progress bars.
    pub fn new(out: Box<dyn Write>, err: Box<dyn Write>) -> Console {
        Console {
            out,
            err,
            out_error: None,
            quiet: false,
            json: false,
            log_json: false,
            out_paint: Paint(false),
            err_paint: Paint(false),
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
        }
    }

    /// The process's own standard output and error, with progress bars if the latter is a terminal that can
    /// draw them.
    pub fn of_process() -> Console {
        let console = Console::new(Box::new(io::stdout()), Box::new(io::stderr()));
        if io::stderr().is_terminal() && !is_dumb(std::env::var_os("TERM")) {
            console
                .bars
                .set_draw_target(ProgressDrawTarget::term_like_with_hz(Box::new(BarTerm::new()), BARS_HZ));
        }
        console
    }

    /// Applies the user's options: fewer words, colours.
    pub fn configure(&mut self, quiet: bool, color: ColorWhen) {
        self.quiet = quiet;
        self.out_paint = Paint(color.applies(io::stdout().is_terminal()));
        self.err_paint = Paint(color.applies(io::stderr().is_terminal()));
        if quiet {
            self.bars.set_draw_target(ProgressDrawTarget::hidden());
        }
    }

    /// Has stdout take JSON only.
    pub fn set_json(&mut self) {
        self.json = true;
        self.bars.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// Makes each line of stderr a JSON object, as those of the log are.
    pub fn set_log_json(&mut self) {
        self.log_json = true;
        self.bars.set_draw_target(ProgressDrawTarget::hidden());
    }

    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Colours for stdout.
    pub fn paint(&self) -> Paint {
        self.out_paint
    }

    /// Colours for stderr, and so for progress bars.
    pub fn err_paint(&self) -> Paint {
        self.err_paint
    }

    /// Where progress bars are drawn; nowhere unless stderr is a terminal.
    pub fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    pub fn has_bars(&self) -> bool {
        !self.bars.is_hidden()
    }

    /// A line of the result on stdout; nothing with `--json` and `-q`.
    pub fn say(&mut self, line: &str) {
        if !self.quiet {
            self.result(line);
        }
    }

    /// A line of the result that `-q` does not hide on stdout; nothing with `--json`.
    pub fn result(&mut self, line: &str) {
        if !self.json {
            self.raw(format!("{line}\n").as_bytes());
        }
    }

    /// A line on how things go on stderr; nothing with `--json` and `-q`.
    pub fn note(&mut self, line: &str) {
        if !self.json && !self.quiet {
            self.write_line("INFO", line, |line| line.to_owned());
        }
    }

    /// A line of JSON, written out at once.
    pub fn json(&mut self, value: &impl Serialize) {
        let mut line = serde_json::to_vec(value).expect("plain data becomes JSON");
        line.push(b'\n');
        self.raw(&line);
    }

    pub fn warning(&mut self, text: &str) {
        let label = self.err_paint.warn("warning:");
        self.write_line("WARN", text, |text| format!("swarm: {label} {}", printable(text)));
    }

    pub fn error(&mut self, line: &str) {
        let label = self.err_paint.bad("swarm:");
        self.write_line("ERROR", line, |line| format!("{label} {line}"));
    }

    /// A line on stderr: for people, or in the log's format.
    fn write_line(&mut self, level: &str, text: &str, for_people: impl Fn(&str) -> String) {
        let line = if self.log_json { json_line(level, text) } else { for_people(text) };
        self.write_err(&format!("{line}\n"));
    }

    /// What went wrong with stdout, if it was not just a reader that has seen enough.
    pub fn take_out_error(&mut self) -> Option<io::Error> {
        self.out_error.take().filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
    }

    /// Writes bytes to stdout as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        if self.out_error.is_none() {
            let Console { out, bars, .. } = self;
            let written = bars.suspend(|| out.write_all(bytes).and_then(|()| out.flush()));
            self.out_error = written.err();
        }
    }

    fn write_err(&mut self, text: &str) {
        let Console { err, bars, .. } = self;
        // There is nowhere left to report a failure.
        let _ = bars.suspend(|| err.write_all(text.as_bytes()).and_then(|()| err.flush()));
    }
}

/// A line that is no event of the log's own, in the log's format.
pub fn json_line(level: &str, message: &str) -> String {
    let timestamp = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    let fields = serde_json::json!({ "message": message });
    serde_json::json!({ "timestamp": timestamp, "level": level, "fields": fields, "target": "swarm" })
        .to_string()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    /// Keeps what is written to it, for tests to read.
    #[derive(Clone, Default)]
    pub struct Shared(Rc<RefCell<Vec<u8>>>);

    impl Shared {
        /// What was written so far.
        pub fn text(&self) -> String {
            String::from_utf8(self.0.borrow().clone()).unwrap()
        }
    }

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Fails each write.
    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn colours_are_for_terminals_that_have_them_and_users_that_want_them() {
        let applies = |when: ColorWhen, is_terminal, name: &str, value: &str| {
            when.applies_with(is_terminal, |asked| (asked == name).then(|| value.into()))
        };
        for (name, value, has_colours) in [
            ("TERM", "xterm-256color", true),
            ("TERM", "dumb", false),
            ("NO_COLOR", "1", false),
            ("NO_COLOR", "", true),
        ] {
            assert_eq!(applies(ColorWhen::Auto, true, name, value), has_colours, "{name}={value}");
            assert!(!applies(ColorWhen::Auto, false, name, value));
            assert!(applies(ColorWhen::Always, false, name, value));
            assert!(!applies(ColorWhen::Never, true, name, value));
        }
    }

    #[test]
    fn text_is_wrapped_and_never_cut() {
        assert_eq!(wrapped("", 10), [""]);
        assert_eq!(wrapped("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrapped("one two three", 3), ["one", "two", "thr", "ee"]);
        assert_eq!(wrapped("ü über", 2), ["ü", "üb", "er"]);
        let text = "no tracker answers: http://tracker.example/announce: cannot connect: Connection refused";
        for columns in 1..100 {
            let lines = wrapped(text, columns);
            assert!(lines.iter().all(|line| line.chars().count() <= columns), "{lines:?}");
            assert_eq!(lines.concat().replace(' ', ""), text.replace(' ', ""));
        }
    }

    #[test]
    fn json_has_stdout_to_itself() {
        let (out, err) = (Shared::default(), Shared::default());
        let mut console = Console::new(Box::new(out.clone()), Box::new(err.clone()));
        console.set_json();
        console.result("for people");
        console.note("progress");
        console.json(&serde_json::json!({"a": 1}));
        console.warning("odd\nname");
        assert_eq!(out.text(), "{\"a\":1}\n");
        assert_eq!(err.text(), "swarm: warning: odd\\nname\n");
    }

    #[test]
    fn with_a_log_in_json_every_line_of_stderr_is_an_object() {
        let (out, err) = (Shared::default(), Shared::default());
        let mut console = Console::new(Box::new(out), Box::new(err.clone()));
        console.set_log_json();
        console.note("two\nlines");
        console.warning("odd \"name\"");
        console.error("bad");
        let lines: Vec<serde_json::Value> =
            err.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let logged: Vec<_> = lines.iter().map(|line| (&line["level"], &line["fields"]["message"])).collect();
        let expected = [("INFO", "two\nlines"), ("WARN", "odd \"name\""), ("ERROR", "bad")];
        let expected = expected.map(|(level, text)| (level.into(), text.into()));
        assert_eq!(logged, expected.iter().map(|(level, text)| (level, text)).collect::<Vec<_>>());
        assert!(lines.iter().all(|line| line["timestamp"].is_string() && line["target"] == "swarm"));
    }

    #[test]
    fn a_reader_that_left_is_no_error_and_a_full_disk_is() {
        for (kind, is_error) in [(io::ErrorKind::BrokenPipe, false), (io::ErrorKind::StorageFull, true)] {
            let mut console = Console::new(Box::new(Broken(kind)), Box::new(Broken(kind)));
            console.result("lost");
            console.error("lost too");
            console.result("not even tried");
            assert_eq!(console.take_out_error().is_some(), is_error);
        }
    }
}

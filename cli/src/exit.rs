//! Exit statuses, and errors as the one line that a user reads.

use anyhow::{Error, Result};
use serde::Serialize;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::process::ExitCode;
use swarm_core::metainfo::{MagnetError, MetainfoError};
use swarm_engine::ErrorKind;

/// How the command ended; see `swarm --help`. Scripts rely on the numbers, and on the names in JSON events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    Runtime = 1,
    Usage = 2,
    Metainfo = 3,
    Data = 4,
    Destination = 5,
    HungUp = 129,
    Interrupted = 130,
}

impl Exit {
    /// The status after a file could not be written.
    pub fn of_write(error: &io::Error) -> Exit {
        use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        match error.kind() {
            PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull => Exit::Destination,
            _ => Exit::Runtime,
        }
    }

    /// The exit status for this error: that of a [`Failure`] in it, else by the library's error.
    pub fn of(error: &Error) -> Exit {
        if let Some(failure) = error.downcast_ref::<Failure>() {
            return failure.exit;
        }
        let engine = error.chain().find_map(|cause| cause.downcast_ref::<swarm_engine::Error>());
        if let Some(error) = engine {
            return match error.kind() {
                ErrorKind::Metainfo => Exit::Metainfo,
                ErrorKind::Data => Exit::Data,
                ErrorKind::Destination => Exit::Destination,
                ErrorKind::Usage => Exit::Usage,
                _ => Exit::Runtime,
            };
        }
        match error.chain().any(|cause| cause.is::<MetainfoError>() || cause.is::<MagnetError>()) {
            true => Exit::Metainfo,
            false => Exit::Runtime,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    /// A failure with this status and message, as the innermost error or as the context of another.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

pub fn fail<T>(exit: Exit, message: impl Into<String>) -> Result<T> {
    Err(Failure::new(exit, message).into())
}

/// The error as one printable line: the thing, what is wrong, and each cause that adds something.
pub fn one_line(error: &Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        // Some errors repeat their cause in their own message, others name the thing that the context names.
        if text.starts_with(&line) {
            line = text;
        } else if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
    }
    printable(&line)
}

/// Whether a character reorders its neighbours or is invisible.
pub fn is_deceptive(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// A path or argument as [`printable`] text.
pub fn label_of(path: impl AsRef<OsStr>) -> String {
    printable(&path.as_ref().to_string_lossy())
}

/// The text with control and deceptive characters escaped as in Rust.
pub fn printable(text: &str) -> String {
    escaped(text, |c| c.is_control() || is_deceptive(c), |c| c.escape_default().to_string())
}

/// The text with some characters written in another way.
pub fn escaped(text: &str, is_meant: impl Fn(char) -> bool, escape: impl Fn(char) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| if is_meant(c) { out += &escape(c) } else { out.push(c) });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context as _, anyhow};

    #[test]
    fn a_line_names_the_thing_and_each_cause_once() {
        let error = anyhow!("disk on fire").context("cannot read: disk on fire").context("a.meta");
        assert_eq!(one_line(&error), "a.meta: cannot read: disk on fire");
        assert_eq!(one_line(&anyhow!("a.meta: too long").context("a.meta")), "a.meta: too long");
        assert_eq!(one_line(&anyhow!("two\nlines \x1b[2J")), r"two\nlines \u{1b}[2J");
        let deceptive = "a\u{202e}b\u{200b}c\u{2066}d\u{feff}e\u{e0041}f\u{61c}";
        assert_eq!(printable(deceptive), r"a\u{202e}b\u{200b}c\u{2066}d\u{feff}e\u{e0041}f\u{61c}");
        assert_eq!(printable("日本 ü 🐝 עברית"), "日本 ü 🐝 עברית");
    }

    #[test]
    fn the_status_is_found_under_any_context() {
        let full = Failure::new(Exit::Destination, "no space");
        let error = Err::<(), _>(full).context("release.iso").unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Destination);
        assert_eq!(one_line(&error), "release.iso: no space");
        let wrapped = anyhow!("EACCES").context(Failure::new(Exit::Destination, "cannot write")).context("x");
        assert_eq!(Exit::of(&wrapped), Exit::Destination);
        assert_eq!(Exit::of(&anyhow!("anything else")), Exit::Runtime);
        let invalid = Err::<(), _>(MetainfoError::NoFiles).context("x.meta").unwrap_err();
        assert_eq!(Exit::of(&invalid), Exit::Metainfo);
        let engine = swarm_engine::Error::from(MetainfoError::NoFiles);
        assert_eq!(Exit::of(&Error::from(engine).context("x.meta")), Exit::Metainfo);
    }
}

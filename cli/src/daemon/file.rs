//! The configuration file: TOML whose keys are the long names of the options. Each of its settings becomes the argument that it stands for,
//! so what is understood there is what the command line understands.

use crate::exit::{Exit, Failure, label_of};
use anyhow::Result;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use toml::Value;

/// Options that make no sense in a file.
const NOT_IN_FILES: [&str; 4] = ["config", "help", "version", "json"];

/// A setting of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    pub line: usize,
    /// The arguments that it stands for.
    pub arguments: Vec<OsString>,
}

/// The settings of a file, by name.
pub type Settings = BTreeMap<String, Setting>;

/// Reads a file. `takes` says of each name whether the command has such an option.
///
/// # Errors
/// One line that names the file, its line and what is wrong there; status 2.
pub fn read(path: &Path, takes: impl Fn(&str) -> bool) -> Result<Settings> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(Exit::Usage, format!("{}: cannot read: {error}", label_of(path))))?;
    parse(&text, takes).map_err(|(line, what)| wrong(path, line, &what).into())
}

/// What is wrong with a line.
pub fn wrong(path: &Path, line: usize, what: &str) -> Failure {
    Failure::new(Exit::Usage, format!("{}: line {line}: {what}", label_of(path)))
}

fn parse(text: &str, takes: impl Fn(&str) -> bool) -> Result<Settings, (usize, String)> {
    let table = text.parse::<toml::Table>().map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        (before.matches('\n').count() + 1, error.message().replace('\n', "; "))
    })?;
    let settings = table.into_iter().map(|(name, value)| {
        let line = line_of(text, &name);
        if !takes(&name) || NOT_IN_FILES.contains(&name.as_str()) {
            return Err((line, format!("{name}: there is no such setting")));
        }
        let arguments = arguments(&name, value).ok_or_else(|| {
            (line, format!("{name}: is no text, number, true or false, and no list of these"))
        })?;
        Ok((name, Setting { line, arguments }))
    });
    settings.collect()
}

/// Where a setting stands. Keys of a table are on lines of their own.
fn line_of(text: &str, name: &str) -> usize {
    let is_it = |line: &str| {
        let key = line.split(['=', '.', ']']).next().unwrap_or_default();
        key.trim().trim_start_matches('[').trim_matches(['"', '\'']) == name
    };
    text.lines().position(is_it).map_or(1, |at| at + 1)
}

fn arguments(name: &str, value: Value) -> Option<Vec<OsString>> {
    let argument = |value: &Value| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            _ => return None,
        };
        Some(format!("--{name}={text}").into())
    };
    match value {
        Value::Boolean(true) => Some(vec![format!("--{name}").into()]),
        Value::Boolean(false) => Some(Vec::new()),
        Value::Array(values) => values.iter().map(argument).collect(),
        value => argument(&value).map(|argument| vec![argument]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(name: &str) -> bool {
        ["dir", "no-dht", "http", "max-up", "seed-ratio", "config"].contains(&name)
    }

    #[test]
    fn settings_become_the_arguments_that_they_stand_for() {
        let text = "# all\ndir = \"/srv\"\n\nno-dht = true\nhttp = [\"127.0.0.1:1\", \"[::1]:2\"]\nseed-ratio = 1.5\nmax-up = 1000";
        let settings = parse(text, takes).unwrap();
        let shown = |name: &str| {
            let Setting { line, arguments } = &settings[name];
            (*line, arguments.iter().map(|argument| argument.to_str().unwrap()).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(shown("dir"), (2, "--dir=/srv".into()));
        assert_eq!(shown("no-dht"), (4, "--no-dht".into()));
        assert_eq!(shown("http"), (5, "--http=127.0.0.1:1 --http=[::1]:2".into()));
        assert_eq!(shown("seed-ratio"), (6, "--seed-ratio=1.5".into()));
        assert_eq!(shown("max-up"), (7, "--max-up=1000".into()));
        assert!(parse("no-dht = false", takes).unwrap()["no-dht"].arguments.is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, what) in [
            ("dir = \"a\"\nmax_up = 5", 2, "max_up: there is no such setting"),
            ("\nconfig = \"x\"", 2, "config: there is no such setting"),
            ("dir = \"a\"\ndir = \"b\"", 2, "duplicate key"),
            ("dir = ", 1, ""),
            ("\n\n[dir]\na = 1", 3, "dir: is no text, number, true or false, and no list of these"),
        ] {
            let (found, message) = parse(text, takes).unwrap_err();
            assert!(found == line && message.contains(what), "{text}: line {found}: {message}");
        }
    }
}

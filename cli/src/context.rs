//! What every command gets: where output goes, when it started, and events for scripts.

use crate::console::Console;
use crate::events::{About, Record, Stamped};
use crate::exit::{Exit, one_line};
use anyhow::Result;
use serde::Serialize;
use std::time::Instant;

pub struct Context {
    pub console: Console,
    pub start: Instant,
    /// Whether `--json` means one object on stdout, in place of events.
    pub one_object: bool,
}

impl Context {
    /// Whether stdout takes events.
    pub fn has_events(&self) -> bool {
        self.console.is_json() && !self.one_object
    }

    /// Prints an event for scripts, if stdout takes them.
    pub fn record(&mut self, record: &impl Serialize) {
        if self.has_events() {
            self.console.json(&Stamped::now(record, self.start));
        }
    }

    /// The same for an event about a torrent.
    pub fn record_about(&mut self, about: &About, record: &Record<'_>) {
        if self.has_events() {
            self.console.json(&Stamped::about(about, record, self.start));
        }
    }

    /// Warns of something: in an event if stdout takes them, else on stderr.
    pub fn warn(&mut self, message: &str) {
        self.warn_about(&About::default(), "", message);
    }

    /// The same for a torrent, whose `label` people read before it.
    pub fn warn_about(&mut self, about: &About, label: &str, message: &str) {
        if self.has_events() {
            self.record_about(about, &Record::Warning { message });
        } else {
            self.console.warning(&format!("{label}{message}"));
        }
    }

    /// Passes a command's result on; of a failure scripts get a last event.
    pub fn end(&mut self, about: &About, result: Result<Exit>) -> Result<Exit> {
        if let Err(error) = &result {
            let (kind, message) = (Exit::of(error), one_line(error));
            self.record_about(
                about,
                &Record::Failed { source: about.source.as_deref(), kind, message: &message },
            );
        }
        result
    }
}

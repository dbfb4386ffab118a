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
}

impl Context {
    /// Prints an event for scripts; nothing without `--json`.
    pub fn record(&mut self, record: &impl Serialize) {
        if self.console.is_json() {
            self.console.json(&Stamped::now(record, self.start));
        }
    }

    /// Prints an event about a torrent for scripts; nothing without `--json`.
    pub fn record_about(&mut self, about: &About, record: &Record<'_>) {
        if self.console.is_json() {
            self.console.json(&Stamped::about(about, record, self.start));
        }
    }

    /// Warns of something, in an event with `--json`.
    pub fn warn(&mut self, message: &str) {
        if self.console.is_json() {
            self.record_about(&About::default(), &Record::Warning { message });
        } else {
            self.console.warning(message);
        }
    }

    /// Passes a command's result on; of a failure scripts get a last event.
    pub fn end(&mut self, about: &About, result: Result<Exit>) -> Result<Exit> {
        if let Err(error) = &result {
            let (kind, message) = (Exit::of(error), one_line(error));
            self.record_about(about, &Record::Failed { source: about.source(), kind, message: &message });
        }
        result
    }
}

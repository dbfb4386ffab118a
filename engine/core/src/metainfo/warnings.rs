//! What was odd about a metainfo file.

use crate::bencode::Value;

/// How many warnings are kept; the rest are only counted.
const WARNINGS_MAX: usize = 100;

/// A bounded number of lines.
#[derive(Default)]
pub(super) struct Warnings {
    lines: Vec<String>,
    left_out: usize,
}

impl Warnings {
    pub(super) fn add(&mut self, line: impl FnOnce() -> String) {
        if self.lines.len() < WARNINGS_MAX {
            self.lines.push(line());
        } else {
            self.left_out += 1;
        }
    }

    /// An optional text; one that is not UTF-8 is shown as well as it can be.
    pub(super) fn text(&mut self, value: Value<'_>, field: &str) -> Option<String> {
        match value.as_bytes() {
            Some(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            None => {
                self.ignored(field, "a byte string");
                None
            }
        }
    }

    pub(super) fn ignored(&mut self, field: &str, expected: &str) {
        self.add(|| format!("`{field}` is not {expected}: ignored"));
    }

    pub(super) fn finish(mut self) -> Vec<String> {
        if self.left_out > 0 {
            self.lines.push(format!("and {} more warnings", self.left_out));
        }
        self.lines
    }
}

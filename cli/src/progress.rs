//! Progress bars on a terminal, and lines elsewhere.
//!
//! There is one kind of bar. Beside it stands what fits into the terminal's present width; reasons and errors
//! below it are wrapped, never cut. indicatif draws to stderr, and only if that is a terminal, so callers
//! need not ask.

use crate::console::{Console, Paint, wrapped};
use crate::events::Progress;
use crate::exit::printable;
use crate::terminal::err_columns;
use crate::units;
use indicatif::{ProgressBar, ProgressStyle};
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, interval_at};

pub const BAR_INTERVAL: Duration = Duration::from_millis(200);
/// How often those who see no bar get a line.
pub const LINE_INTERVAL: Duration = Duration::from_secs(10);
const BAR_COLUMNS_MIN: usize = 10;
/// What the percentage takes beside a bar, with the spaces around it.
const PERCENT_COLUMNS: usize = 8;

/// A bar for reading a known number of bytes: hashing, checking. Clones are the same bar.
#[derive(Clone)]
pub struct WorkBar {
    bar: ProgressBar,
    verb: &'static str,
    start: Instant,
}

impl WorkBar {
    pub fn new(console: &Console, verb: &'static str, bytes_total: u64) -> WorkBar {
        let bar =
            console.bars().add(ProgressBar::new(bytes_total)).with_style(style("", console.err_paint()));
        WorkBar { bar, verb, start: Instant::now() }
    }

    pub fn set(&self, bytes_done: u64) {
        self.bar.set_position(bytes_done);
    }

    /// Does the work, and shows progress: by the bar, or by a line every ten seconds where there are no bars.
    pub async fn show_until<T>(&self, work: impl Future<Output = T>, console: &mut Console) -> T {
        let every = if console.has_bars() { BAR_INTERVAL } else { LINE_INTERVAL };
        let mut tick = interval_at(Instant::now() + every, every);
        let mut work = pin!(work);
        let done = loop {
            tokio::select! {
                biased;
                done = &mut work => break done,
                _ = tick.tick() => match console.has_bars() {
                    true => self.draw(),
                    false => console.note(&format!("{} {}", self.verb, self.figures().join("  "))),
                },
            }
        };
        self.bar.finish_and_clear();
        done
    }

    fn draw(&self) {
        let mut figures = self.figures();
        figures[0] = format!("{} {}", self.verb, figures[0]);
        self.bar.set_prefix(fit(&figures, beside(err_columns())));
    }

    fn figures(&self) -> Vec<String> {
        let (done, total) = (self.bar.position(), self.bar.length().unwrap_or(0));
        let seconds = self.start.elapsed().as_secs_f64();
        let rate = if seconds > 0.0 { (done as f64 / seconds) as u64 } else { 0 };
        let amount = format!("{} of {}", units::size(done), units::size(total));
        [vec![amount], pace(total.saturating_sub(done), rate)].concat()
    }
}

/// The bar of a transfer: how far it is, and below that its peers, or why nothing moves. Its name is empty if
/// there is only one.
pub struct TransferBar(ProgressBar);

impl TransferBar {
    pub fn new(console: &Console) -> TransferBar {
        // A bar without a length would be full.
        let bar = console.bars().add(ProgressBar::new(1));
        TransferBar(bar.with_style(style("\n{msg}", console.err_paint())))
    }

    pub fn checking(&self, name: &str, done: u32, of: u32) {
        self.0.set_length(of.into());
        self.0.set_position(done.into());
        let parts = ["checking".to_owned(), format!("{done} of {of} pieces")];
        self.0.set_prefix(fit(&parts, beside(err_columns())));
        self.0.set_message(fit(&[name.to_owned()], err_columns()));
    }

    pub fn show(&self, name: &str, progress: &Progress) {
        let columns = err_columns();
        self.set(progress);
        if progress.is_complete() {
            self.0.set_position(progress.bytes_total.max(1));
        }
        self.0.set_prefix(fit(&amount(progress), beside(columns)));
        let mut parts = situation(progress);
        if !name.is_empty() {
            parts.insert(0, name.to_owned());
        }
        let mut lines = vec![fit(&parts, columns)];
        if let Some(why) = &progress.waiting {
            lines.extend(wrapped(&printable(&format!("waiting: {why}")), columns));
        }
        self.0.set_message(lines.join("\n"));
    }

    /// Before the transfer starts: how much is there, and what it waits for.
    pub fn explain(&self, name: &str, progress: &Progress, reason: &str) {
        self.set(progress);
        self.0.set_prefix("");
        let text = if name.is_empty() { reason.to_owned() } else { format!("{name}: {reason}") };
        self.0.set_message(wrapped(&printable(&text), err_columns()).join("\n"));
    }

    pub fn finish(&self) {
        self.0.finish_and_clear();
    }

    fn set(&self, progress: &Progress) {
        self.0.set_length(progress.bytes_total.max(1));
        self.0.set_position(progress.bytes_verified);
    }
}

/// The one kind of bar, with what stands beside it, and `below` it.
fn style(below: &str, paint: Paint) -> ProgressStyle {
    bar_style(&format!("{} {{percent:>3}} %  {{prefix}}{below}", wide_bar(paint)))
}

/// A bar as wide as there is room, for a template.
pub fn wide_bar(paint: Paint) -> &'static str {
    if paint.is_on() { "{wide_bar:.green/black.bright}" } else { "{wide_bar}" }
}

/// A style by its template, with the characters of all bars.
pub fn bar_style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates of bars are valid").progress_chars("━━─")
}

/// How many columns there are beside the shortest bar.
fn beside(columns: usize) -> usize {
    columns.saturating_sub(BAR_COLUMNS_MIN + PERCENT_COLUMNS)
}

/// As many of the parts as fit, the first ones first.
pub fn fit(parts: &[String], columns: usize) -> String {
    let mut text = String::new();
    for part in parts {
        let gap = if text.is_empty() { "" } else { "  " };
        if text.chars().count() + gap.len() + part.chars().count() > columns {
            break;
        }
        text += gap;
        text += part;
    }
    text
}

/// How fast it goes, and how long for what is left.
fn pace(left: u64, rate: u64) -> Vec<String> {
    let mut parts = vec![units::rate(rate)];
    if rate > 0 {
        let seconds = left as f64 / rate as f64;
        parts.push(format!("{} left", units::duration(Duration::from_secs_f64(seconds))));
    }
    parts
}

pub fn fetching(progress: &Progress) -> String {
    let text = format!("fetching metadata, {}", units::count(progress.peers, "peer"));
    match &progress.waiting {
        Some(why) => printable(&format!("{text}, waiting: {why}")),
        None => text,
    }
}

pub fn summary(progress: &Progress) -> String {
    let mut parts = [amount(progress), situation(progress)].concat();
    parts.extend(progress.waiting.as_ref().map(|why| format!("waiting: {why}")));
    printable(&parts.join("  "))
}

/// Verified bytes, how fast they come, and what has come of unfinished pieces.
fn amount(progress: &Progress) -> Vec<String> {
    let left = progress.bytes_total.saturating_sub(progress.bytes_verified);
    if left == 0 {
        return vec![units::size(progress.bytes_total)];
    }
    let amount = format!("{} of {}", units::size(progress.bytes_verified), units::size(progress.bytes_total));
    let mut parts =
        [vec![amount], pace(left.saturating_sub(progress.bytes_unverified), progress.rate_down)].concat();
    if progress.bytes_unverified > 0 {
        parts.push(format!("{} unverified", units::size(progress.bytes_unverified)));
    }
    parts
}

/// Who takes part, and on a seed what has been sent and received.
fn situation(progress: &Progress) -> Vec<String> {
    let mut peers = units::count(progress.peers, "peer");
    if progress.seeds > 0 {
        peers += &format!(" ({})", units::count(progress.seeds, "seed"));
    }
    let mut parts = vec![peers, format!("up {}", units::rate(progress.rate_up))];
    if progress.is_complete() {
        parts.extend(shared(progress.bytes_up, progress.bytes_down, progress.bytes_total));
    }
    parts.extend(progress.reach.clone());
    parts
}

/// What has been sent and received, and the ratio that `--seed=RATIO` is about.
pub fn shared(bytes_up: u64, bytes_down: u64, bytes_total: u64) -> Vec<String> {
    let mut parts = vec![format!("sent {}", units::size(bytes_up))];
    if bytes_total > 0 {
        parts.push(format!("ratio {:.2}", bytes_up as f64 / bytes_total as f64));
    }
    parts.push(format!("received {}", units::size(bytes_down)));
    parts
}

#[cfg(test)]
mod tests;

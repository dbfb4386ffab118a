//! Progress bars on a terminal.
//!
//! indicatif draws them at most 20 times a second, to stderr, and not at all where that is no terminal; so whoever
//! has progress to tell just tells it.

use crate::console::Console;
use crate::exit::printable;
use crate::units;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;
use swarm_engine::{FetchStatus, TorrentStats};

/// A bar for reading a known number of bytes: hashing, checking. Clones are the same bar.
#[derive(Clone)]
pub struct WorkBar(ProgressBar);

impl WorkBar {
    /// Starts a bar for work on `bytes_total` bytes.
    pub fn new(console: &Console, verb: &'static str, bytes_total: u64) -> WorkBar {
        let template = "{msg} [{wide_bar}] {percent:>3} %  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta}";
        let bar = console.bars().add(ProgressBar::new(bytes_total));
        WorkBar(bar.with_style(style(template)).with_message(verb))
    }

    /// This many bytes are done in all.
    pub fn set(&self, bytes_done: u64) {
        self.0.set_position(bytes_done);
    }

    /// The work is over: the bar goes.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// The bar of a transfer: how far it is, and below that who takes part or why nothing moves.
pub struct TransferBar(ProgressBar);

impl TransferBar {
    /// Starts the bar.
    pub fn new(console: &Console) -> TransferBar {
        let bar = console.bars().add(ProgressBar::new(0));
        TransferBar(bar.with_style(style("[{wide_bar}] {percent:>3} %  {prefix}\n{wide_msg}")))
    }

    /// Existing data is being checked.
    pub fn checking(&self, done: u32, of: u32) {
        self.0.set_length(of.into());
        self.0.set_position(done.into());
        self.0.set_prefix(format!("checking existing data: {done} of {of} pieces"));
    }

    /// How the transfer stands.
    pub fn show(&self, stats: &TorrentStats) {
        self.0.set_length(stats.bytes_total);
        self.0.set_position(stats.bytes_verified);
        self.0.set_prefix(amount(stats));
        self.0.set_message(printable(&situation(stats)));
    }

    /// Says why nothing moves.
    pub fn explain(&self, reason: &str) {
        self.0.set_message(printable(reason));
    }

    /// The transfer is over: the bar goes.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// What is shown while nobody knows yet how much there is to do.
pub struct FetchBar(ProgressBar, String);

impl FetchBar {
    /// Starts it, for a torrent that is called this.
    pub fn new(console: &Console, label: &str) -> FetchBar {
        let bar = console.bars().add(ProgressBar::new_spinner());
        FetchBar(bar.with_style(style("{spinner} {wide_msg}")), label.to_owned())
    }

    /// How many peers there are to ask, and why nothing comes if nothing does.
    pub fn show(&self, status: &FetchStatus) {
        self.0.set_message(format!("{}: {}", self.1, fetching(status)));
        self.0.tick();
    }

    /// The metadata is here: the line goes.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates in this module are valid")
        .progress_chars("=> ")
}

/// A search for metadata in one line.
pub fn fetching(status: &FetchStatus) -> String {
    let text = format!("fetching metadata, {}", units::count(status.peers, "peer"));
    match &status.waiting {
        Some(why) => printable(&format!("{text}, waiting: {why}")),
        None => text,
    }
}

/// A transfer in one line.
pub fn summary(stats: &TorrentStats) -> String {
    format!("{}  {}", amount(stats), situation(stats))
}

/// Verified bytes, what has come of unfinished pieces, and how fast it comes.
fn amount(stats: &TorrentStats) -> String {
    let left = stats.bytes_total.saturating_sub(stats.bytes_verified);
    if left == 0 {
        return units::size(stats.bytes_total);
    }
    let mut text = format!("{} of {}", units::size(stats.bytes_verified), units::size(stats.bytes_total));
    if stats.bytes_unverified > 0 {
        text += &format!(" verified, {} more received", units::size(stats.bytes_unverified));
    }
    text += &format!("  {}", units::rate(stats.rate_down));
    if stats.rate_down > 0 {
        let seconds = left.saturating_sub(stats.bytes_unverified) as f64 / stats.rate_down as f64;
        text += &format!("  {} left", units::duration(Duration::from_secs_f64(seconds)));
    }
    text
}

/// Who takes part, and why nothing moves if nothing does.
fn situation(stats: &TorrentStats) -> String {
    let mut text = units::count(stats.peers, "peer");
    if stats.seeds > 0 {
        text += &format!(" ({})", units::count(stats.seeds, "seed"));
    }
    text += &format!("  up {}", units::rate(stats.rate_up));
    if let Some(why) = &stats.waiting {
        text += &format!("  waiting: {why}");
    }
    text
}

//! Progress bars on a terminal.
//!
//! indicatif draws them at most 20 times a second, to stderr, and not at all where that is no terminal; so whoever
//! has progress to tell just tells it.

use crate::console::Console;
use crate::units;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;
use swarm_engine::TorrentStats;

/// The bar of a transfer: two lines, of which the second says why nothing moves.
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
        self.0.set_prefix(summary(stats));
        self.explain(&waiting(stats).unwrap_or_default());
    }

    /// Says why nothing moves.
    pub fn explain(&self, reason: &str) {
        self.0.set_message(crate::exit::printable(reason));
    }

    /// The transfer is over: the bar goes.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates in this module are valid")
        .progress_chars("=> ")
}

/// A transfer in one line: verified bytes, rates, peers, time left.
pub fn summary(stats: &TorrentStats) -> String {
    let mut line = format!("{} of {}", units::size(stats.bytes_verified), units::size(stats.bytes_total));
    let left = stats.bytes_total.saturating_sub(stats.bytes_verified);
    if left > 0 {
        line += &format!("  down {}", units::rate(stats.rate_down));
    }
    line += &format!("  up {}  {} peers ({} seeds)", units::rate(stats.rate_up), stats.peers, stats.seeds);
    if let Some(seconds) = left.checked_div(stats.rate_down).filter(|_| left > 0) {
        line += &format!("  {} left", units::duration(Duration::from_secs(seconds)));
    }
    line
}

/// Why nothing moves, if so.
pub fn waiting(stats: &TorrentStats) -> Option<String> {
    stats.waiting.as_ref().map(|why| format!("nothing moves: {why}"))
}

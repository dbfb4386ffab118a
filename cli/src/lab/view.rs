//! The swarm on the screen: a bar for each peer while it runs, a table at the end.

use super::peer::{Peer, Role, State};
use super::report::{FaultReport, PeerReport, Report};
use crate::console::{Console, Paint};
use crate::exit::printable;
use crate::units;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// How many peers have a bar; more would not fit on a screen.
const BARS_MAX: usize = 20;
/// How often a line tells of progress where there are no bars.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// How often scripts are told of progress.
const JSON_INTERVAL: Duration = Duration::from_secs(1);
/// The width of a rate, as in `123.4 MiB/s`.
const RATE_WIDTH: usize = 11;
/// A bar's steps, in thousandths.
const BAR_LEN: u64 = 1_000;

/// How the place stands where peers find each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rendezvous {
    Dht,
    TrackerUp,
    TrackerDown,
}

/// The live view of a swarm.
pub struct View {
    head: ProgressBar,
    bars: Vec<ProgressBar>,
    paint: Paint,
    has_bars: bool,
    bytes_total: u64,
    next_line: Duration,
    next_json: Duration,
}

impl View {
    /// A bar for each of the peers.
    pub fn new(console: &Console, peers: &[Peer], bytes_total: u64) -> View {
        let paint = console.err_paint();
        let head = console.bars().add(ProgressBar::new(1)).with_style(style("{wide_msg}"));
        let width = peers.iter().map(|peer| peer.addr.ip().to_string().len()).max().unwrap_or(0);
        let bar = |peer: &Peer| {
            let name = format!("{:<9}", peer.name);
            let prefix =
                format!("{}  {}", paint.strong(&name), paint.dim(&format!("{:<width$}", peer.addr.ip())));
            let bar = console.bars().add(ProgressBar::new(BAR_LEN)).with_prefix(prefix);
            bar.with_style(match (peer.role, paint.is_on()) {
                (Role::Downloader, true) => {
                    style("{prefix}  {bar:20.green/black.bright} {percent:>3} %  {wide_msg}")
                }
                (Role::Downloader, false) => style("{prefix}  {bar:20} {percent:>3} %  {wide_msg}"),
                _ => style("{prefix}  {wide_msg}"),
            })
        };
        let bars = peers.iter().take(BARS_MAX).map(bar).collect();
        View {
            head,
            bars,
            paint,
            has_bars: console.has_bars(),
            bytes_total,
            next_line: LINE_INTERVAL,
            next_json: Duration::ZERO,
        }
    }

    /// Shows how the peers stand after `elapsed`. Where there are no bars, gives the line to print now and then.
    pub fn show(&mut self, peers: &[Peer], rendezvous: Rendezvous, elapsed: Duration) -> Option<String> {
        let summary = self.summary(peers, elapsed);
        if !self.has_bars {
            let is_due = elapsed >= self.next_line;
            if is_due {
                self.next_line = elapsed + LINE_INTERVAL;
            }
            return is_due.then_some(summary);
        }
        let tracker = match rendezvous {
            Rendezvous::Dht => self.paint.dim("no tracker"),
            Rendezvous::TrackerUp => self.paint.dim("tracker up"),
            Rendezvous::TrackerDown => self.paint.warn("tracker down"),
        };
        let more = match peers.len().saturating_sub(BARS_MAX) {
            0 => String::new(),
            more => format!("  and {more} more peers"),
        };
        self.head.set_message(format!("{}  {summary}  {tracker}{more}", self.paint.strong("swarm lab")));
        for (bar, peer) in self.bars.iter().zip(peers) {
            bar.set_position((peer.share() * BAR_LEN as f64) as u64);
            bar.set_message(self.message(peer));
        }
        None
    }

    /// Whether scripts are to be told of progress now.
    pub fn is_json_due(&mut self, elapsed: Duration) -> bool {
        let is_due = elapsed >= self.next_json;
        if is_due {
            self.next_json = elapsed + JSON_INTERVAL;
        }
        is_due
    }

    /// The bars go.
    pub fn finish(&self) {
        self.bars.iter().chain([&self.head]).for_each(ProgressBar::finish_and_clear);
    }

    fn summary(&self, peers: &[Peer], elapsed: Duration) -> String {
        let counted = || peers.iter().filter(|peer| peer.is_counted());
        let done: f64 = counted().map(|peer| peer.share() * self.bytes_total as f64).sum();
        let all = self.bytes_total * counted().count() as u64;
        let complete = counted().filter(|peer| peer.completed_in.is_some()).count();
        format!(
            "{:>6}  {} of {}  {complete} of {} complete",
            units::duration(elapsed),
            units::size(done as u64),
            units::size(all),
            counted().count()
        )
    }

    fn message(&self, peer: &Peer) -> String {
        let word = &format!("{:<9}", peer.state_word());
        let word = match peer.state {
            State::Killed | State::Failed => self.paint.bad(word),
            State::Complete => self.paint.good(word),
            State::Running if peer.disk_full || peer.role == Role::Poisoner => self.paint.bad(word),
            State::Running if !peer.faults.is_empty() => self.paint.warn(word),
            _ => word.clone(),
        };
        let rate = |sign: char, rate: u64| match rate {
            0 => " ".repeat(RATE_WIDTH + 4),
            _ => format!("  {sign} {:>RATE_WIDTH$}", units::rate(rate)),
        };
        let progress = &peer.progress;
        let up = rate('↑', progress.rate_up);
        match (peer.role, peer.state) {
            (Role::Downloader, State::Running) => format!("{word}{}{up}", rate('↓', progress.rate_down)),
            (Role::Downloader, State::Complete) => format!("{word}{}{up}", rate('↓', 0)),
            (Role::Downloader, _) => word,
            _ => format!("{word}{up}"),
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates in this module are valid")
        .progress_chars("━━─")
}

/// The titles of the table's columns.
const TITLES: [&str; 7] = ["", "time", "from source", "from peers", "wasted", "bad pieces", "copy"];

/// The report as people read it.
pub fn print(report: &Report, console: &mut Console) {
    let paint = console.paint();
    let rows: Vec<[String; 7]> = report.peers.iter().map(row).collect();
    let widths: [usize; 7] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([TITLES[column].len()]).max().unwrap_or(0)
    });
    let files = if report.files == 1 { "1 file".to_owned() } else { format!("{} files", report.files) };
    let (name, total) = (printable(&report.name), units::size(report.bytes_total));
    console.say(&format!("{}: {total} in {files}, {} peers", paint.strong(&name), report.peers.len()));
    console.say("");
    console.say(&paint.dim(&align(&TITLES.map(str::to_owned), &widths)));
    for (peer, row) in report.peers.iter().zip(&rows) {
        let line = align(row, &widths);
        // The verdict is last, and has a colour.
        let (figures, verdict) = line.split_at(line.len() - row[6].len());
        let verdict = if peer.identical { paint.good(verdict) } else { paint.bad(verdict) };
        let remarks: Vec<_> = peer.faults.iter().map(|fault| fault.name()).collect();
        console.say(format!("{figures}{verdict}  {}", paint.warn(&remarks.join(", "))).trim_end());
    }
    console.say("");
    for line in below(report) {
        console.say(&line);
    }
}

fn row(peer: &PeerReport) -> [String; 7] {
    let verdict = match (peer.identical, peer.complete) {
        (true, _) => "identical",
        (false, true) => "differs",
        (false, false) => "incomplete",
    };
    [
        peer.peer.clone(),
        peer.seconds.map_or("-".to_owned(), |s| units::duration(Duration::from_secs_f64(s))),
        units::size(peer.bytes_from_source),
        units::size(peer.bytes_from_peers),
        units::size(peer.bytes_wasted),
        peer.pieces_failed.to_string(),
        verdict.to_owned(),
    ]
}

/// One line: names and verdicts to the left, figures to the right.
fn align(cells: &[String; 7], widths: &[usize; 7]) -> String {
    let mut line = format!("  {:<width$}", cells[0], width = widths[0]);
    for (cell, width) in cells.iter().zip(widths).take(6).skip(1) {
        line += &format!("   {cell:>width$}");
    }
    line + "   " + &cells[6]
}

/// What is said below the table.
fn below(report: &Report) -> Vec<String> {
    let mut lines = vec![format!(
        "  The source sent {}: {:.2} copies, {:.0} % of all that was received.",
        units::size(report.bytes_from_source),
        report.copies_from_source,
        report.share_from_source * 100.0
    )];
    for ban in &report.banned {
        let who = ban.peer.clone().unwrap_or_else(|| ban.address.to_string());
        lines.push(format!("  Banned: {who} ({}), by {} peers.", ban.reason, ban.by.len()));
    }
    let mut name_those = |outcome: &str, is_it: &dyn Fn(&FaultReport) -> bool| {
        let those = report.faults.iter().filter(|fault| is_it(fault));
        let names: Vec<_> = those.map(|fault| fault.fault.name()).collect();
        if !names.is_empty() {
            lines.push(format!("  {outcome}: {}.", names.join(", ")));
        }
    };
    name_those("Faults that did no harm", &|fault| fault.survived && fault.took_place);
    name_those("Faults that came too late, when all was done", &|fault| fault.survived && !fault.took_place);
    name_those("Faults that did harm", &|fault| !fault.survived);
    lines
}

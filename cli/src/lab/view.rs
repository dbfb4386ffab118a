//! The swarm on the screen: a bar for each peer while it runs, a table at the end.

use super::peer::{Peer, Role, State};
use super::report::{FaultReport, PeerReport, Report};
use crate::console::{Console, Paint, wrapped};
use crate::exit::printable;
use crate::progress::{bar_style, fit, wide_bar};
use crate::terminal::{err_columns, out_columns};
use crate::units;
use indicatif::ProgressBar;
use std::time::Duration;

/// How many peers have a bar; more would not fit on a screen.
const BARS_MAX: usize = 20;
/// How often progress gets a line where there are no bars.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// The width of a rate, as in `123.4 MiB/s`.
const RATE_WIDTH: usize = 11;
/// A bar's steps, in thousandths.
const BAR_LEN: u64 = 1_000;
/// The shortest bar, in columns.
const BAR_COLUMNS_MIN: usize = 8;
/// The width of a peer's name, and of what it does.
const NAME_WIDTH: usize = 9;
const WORD_WIDTH: usize = 9;
/// The width of a downloader's line without its address, with the shortest bar and nothing beside it.
const LINE_WIDTH_MIN: usize = NAME_WIDTH + "  ".len() + BAR_COLUMNS_MIN + " 100 %  ".len();
/// The width of all that stands beside a bar: what the peer does, and both rates.
const BESIDE_WIDTH: usize = WORD_WIDTH + 2 * (4 + RATE_WIDTH);

/// The live view of a swarm.
pub struct View {
    head: ProgressBar,
    bars: Vec<ProgressBar>,
    /// The width of the longest address.
    addr_width: usize,
    paint: Paint,
    bytes_total: u64,
    next_line: Duration,
}

impl View {
    /// A bar for each of the peers.
    pub fn new(console: &Console, peers: &[Peer], bytes_total: u64) -> View {
        let paint = console.err_paint();
        let head = console.bars().add(ProgressBar::new(1)).with_style(bar_style("{msg}"));
        let addr_width = peers.iter().map(|peer| peer.addr.ip().to_string().len()).max().unwrap_or(0);
        let new_bar = |peer: &Peer| {
            let bar = console.bars().add(ProgressBar::new(BAR_LEN));
            bar.with_style(match peer.role {
                Role::Downloader => {
                    bar_style(&format!("{{prefix}}  {} {{percent:>3}} %  {{msg}}", wide_bar(paint)))
                }
                _ => bar_style("{prefix}  {msg}"),
            })
        };
        let bars = peers.iter().take(BARS_MAX).map(new_bar).collect();
        View { head, bars, addr_width, paint, bytes_total, next_line: LINE_INTERVAL }
    }

    /// Shows the state of peers and tracker after `elapsed`: by bars, or by a line every five seconds.
    pub fn show(
        &mut self,
        peers: &[Peer],
        (tracker, is_tracker_lost): (&str, bool),
        elapsed: Duration,
        console: &mut Console,
    ) {
        let summary = self.summary(peers, elapsed);
        if !console.has_bars() {
            if elapsed >= self.next_line {
                self.next_line = elapsed + LINE_INTERVAL;
                console.note(&summary);
            }
            return;
        }
        let (columns, title) = (err_columns(), "swarm lab");
        let mut parts = vec![summary, tracker.to_owned()];
        match peers.len().saturating_sub(BARS_MAX) {
            0 => {}
            more => parts.push(format!("and {more} more peers")),
        }
        let painted = if is_tracker_lost { self.paint.warn(tracker) } else { self.paint.dim(tracker) };
        let head = fit(&parts, columns.saturating_sub(title.len() + 2)).replace(tracker, &painted);
        self.head.set_message(format!("{}  {head}", self.paint.strong(title)));
        let (has_addr, room) = layout(columns, self.addr_width);
        for (bar, peer) in self.bars.iter().zip(peers) {
            let mut prefix = self.paint.strong(&format!("{:<NAME_WIDTH$}", peer.name));
            if has_addr {
                let addr = format!("  {:<width$}", peer.addr.ip(), width = self.addr_width);
                prefix += &self.paint.dim(&addr);
            }
            bar.set_message(message(peer, self.paint, room));
            bar.set_prefix(prefix);
            bar.set_position((peer.share() * BAR_LEN as f64) as u64);
        }
    }

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
}

/// Whether lines of so many columns have addresses, and how many columns are left beside the shortest bar.
fn layout(columns: usize, addr_width: usize) -> (bool, usize) {
    let with_addr = LINE_WIDTH_MIN + "  ".len() + addr_width;
    match columns.checked_sub(with_addr).filter(|&room| room >= BESIDE_WIDTH) {
        Some(room) => (true, room),
        None => (false, columns.saturating_sub(LINE_WIDTH_MIN)),
    }
}

/// What a peer does, and its rates if there is room. Of equal width for all downloaders, so that their bars
/// align.
fn message(peer: &Peer, paint: Paint, room: usize) -> String {
    let word = format!("{:<WORD_WIDTH$}", peer.state_word());
    let painted = match peer.state {
        State::Killed | State::Failed => paint.bad(&word),
        State::Complete => paint.good(&word),
        State::Running if peer.disk_full || peer.role == Role::Poisoner => paint.bad(&word),
        State::Running if !peer.faults.is_empty() => paint.warn(&word),
        _ => word.clone(),
    };
    let is_live = matches!(peer.state, State::Running | State::Complete);
    let rate = |sign: char, rate: u64| match rate {
        rate if rate > 0 && is_live => format!("{sign} {:>RATE_WIDTH$}", units::rate(rate)),
        _ => " ".repeat(RATE_WIDTH + 2),
    };
    let mut parts = vec![word.clone(), rate('↓', peer.progress.rate_down), rate('↑', peer.progress.rate_up)];
    if peer.role != Role::Downloader {
        parts.remove(1);
    }
    fit(&parts, room).replacen(&word, &painted, 1)
}

/// The columns of the table: their titles, long and short.
const TITLES: [(&str, &str); 7] = [
    ("", ""),
    ("time", "time"),
    ("from source", "source"),
    ("from peers", "peers"),
    ("wasted", "wasted"),
    ("bad pieces", "bad"),
    ("copy", "copy"),
];
/// The columns that a narrow table leaves out.
const DISPENSABLE: [usize; 2] = [4, 5];
/// Between columns.
const GAP: usize = 2;

/// The report as people read it.
pub fn print(report: &Report, console: &mut Console) {
    let (paint, columns) = (console.paint(), out_columns());
    for line in [table(report, paint, columns), below(report, columns)].concat() {
        console.say(&line);
    }
}

/// The heading, and a line for each downloader.
fn table(report: &Report, paint: Paint, columns: usize) -> Vec<String> {
    let rows: Vec<[String; 7]> = report.peers.iter().map(row).collect();
    let remarks =
        |peer: &PeerReport| peer.faults.iter().map(|fault| fault.name()).collect::<Vec<_>>().join(", ");
    let remarks: Vec<String> = report.peers.iter().map(remarks).collect();
    let remark_width =
        remarks.iter().map(|text| text.len() + 2).max().filter(|&width| width > 2).unwrap_or(0);
    let wide = TableForm::new(&rows, false);
    // Faults go below their peer before any column goes.
    let is_beside = wide.columns() + remark_width <= columns;
    let form = if wide.columns() <= columns { wide } else { TableForm::new(&rows, true) };
    let files = units::count(report.files, "file");
    let (name, total) = (printable(&report.name), units::size(report.bytes_total));
    let peers = report.peers.len();
    let mut lines = vec![
        format!("{}: {total} in {files}, {peers} peers", paint.strong(&name)),
        String::new(),
        paint.dim(form.line(&form.titles()).trim_end()),
    ];
    for ((peer, row), remark) in report.peers.iter().zip(&rows).zip(&remarks) {
        let line = form.line(row);
        // The verdict is last, and has a colour.
        let (figures, verdict) = line.split_at(line.len() - row[6].len());
        let verdict = if peer.identical { paint.good(verdict) } else { paint.bad(verdict) };
        match (remark.is_empty(), is_beside) {
            (true, _) => lines.push(format!("{figures}{verdict}")),
            (false, true) => lines.push(format!("{figures}{verdict}  {}", paint.warn(remark))),
            (false, false) => {
                lines.push(format!("{figures}{verdict}"));
                let below = wrapped(remark, columns.saturating_sub(4));
                lines.extend(below.iter().map(|line| format!("    {}", paint.warn(line))));
            }
        }
    }
    if form.is_narrow {
        let wasted = report.peers.iter().map(|peer| peer.bytes_wasted).sum();
        let bad: u64 = report.peers.iter().map(|peer| peer.pieces_failed).sum();
        lines.push(format!("  wasted {}, bad pieces {bad}", units::size(wasted)));
    }
    lines.push(String::new());
    lines
}

/// How wide a table is, and what is in it.
struct TableForm {
    is_narrow: bool,
    widths: [usize; 7],
}

impl TableForm {
    fn new(rows: &[[String; 7]], is_narrow: bool) -> TableForm {
        let mut form = TableForm { is_narrow, widths: [0; 7] };
        let titles = form.titles();
        form.widths = std::array::from_fn(|column| {
            let cells = rows.iter().chain([&titles]).map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        });
        form
    }

    fn titles(&self) -> [String; 7] {
        TITLES.map(|(long, short)| if self.is_narrow { short } else { long }.to_owned())
    }

    fn columns(&self) -> usize {
        let shown = || (1..7).filter(|&column| self.shows(column));
        2 + self.widths[0] + shown().map(|column| GAP + self.widths[column]).sum::<usize>()
    }

    fn shows(&self, column: usize) -> bool {
        !(self.is_narrow && DISPENSABLE.contains(&column))
    }

    /// One line: names and verdicts to the left, figures to the right.
    fn line(&self, cells: &[String; 7]) -> String {
        let mut line = format!("  {:<width$}", cells[0], width = self.widths[0]);
        for column in (1..6).filter(|&column| self.shows(column)) {
            line += &format!("{:>width$}", cells[column], width = GAP + self.widths[column]);
        }
        line + &" ".repeat(GAP) + &cells[6]
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

/// The lines below the table.
fn below(report: &Report, columns: usize) -> Vec<String> {
    let mut lines = vec![format!(
        "The {} sent {}: {:.2} copies, {:.0} % of all that was received.",
        if report.web_seed { "web seed" } else { "source" },
        units::size(report.bytes_from_source),
        report.copies_from_source,
        report.share_from_source * 100.0
    )];
    let corrupt: u64 = report.peers.iter().map(|peer| peer.bytes_corrupt).sum();
    if corrupt > 0 {
        let bad: u64 = report.peers.iter().map(|peer| peer.pieces_failed).sum();
        lines.push(format!("Corrupt: {} in {}.", units::size(corrupt), units::count(bad as usize, "piece")));
    }
    for ban in &report.banned {
        let who = ban.peer.clone().unwrap_or_else(|| ban.address.to_string());
        lines.push(format!("Banned: {who} ({}), by {} peers.", ban.reason, ban.by.len()));
    }
    let mut name_those = |outcome: &str, is_it: &dyn Fn(&FaultReport) -> bool| {
        let those = report.faults.iter().filter(|fault| is_it(fault));
        let names: Vec<_> = those.map(|fault| fault.fault.name()).collect();
        if !names.is_empty() {
            lines.push(format!("{outcome}: {}.", names.join(", ")));
        }
    };
    name_those("Faults that did no harm", &|fault| fault.survived && fault.took_place);
    name_those("Faults that came too late, when all was done", &|fault| fault.survived && !fault.took_place);
    name_those("Faults that did harm", &|fault| !fault.survived);
    let wrap = |line: &String| wrapped(line, columns.saturating_sub(2));
    lines.iter().flat_map(wrap).map(|line| format!("  {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Progress;
    use crate::lab::fault::Fault;

    #[test]
    fn a_peers_line_fits_80_columns_and_degrades_below() {
        let addr_width = "127.0.0.120".len();
        let mut peer =
            Peer::new("peer 120".into(), Role::Downloader, ([127, 0, 0, 1], 1).into(), "".into(), "".into());
        peer.state = State::Running;
        peer.progress =
            Progress { rate_down: (999 << 20) + 1, rate_up: (999 << 20) + 1, ..Progress::default() };
        let beside = |columns| {
            let (has_addr, room) = layout(columns, addr_width);
            let text = message(&peer, Paint::default(), room);
            let addr = if has_addr { 2 + addr_width } else { 0 };
            assert!(
                LINE_WIDTH_MIN + addr + text.chars().count() <= columns.max(LINE_WIDTH_MIN),
                "{columns}: {text}"
            );
            (has_addr, text)
        };
        (20..200).for_each(|columns| drop(beside(columns)));
        let all = "starting   ↓ 999.0 MiB/s  ↑ 999.0 MiB/s";
        assert_eq!(beside(80), (true, all.to_owned()));
        assert_eq!(beside(70), (false, all.to_owned()));
        assert_eq!(beside(60), (false, "starting   ↓ 999.0 MiB/s".to_owned()));
        assert_eq!(beside(40), (false, "starting ".to_owned()));
    }

    /// A report with figures as long as they get.
    fn report() -> Report {
        let peer = |n: u16, faults: &[Fault]| PeerReport {
            peer: format!("peer-{n}"),
            address: ([127, 0, 0, 1], n).into(),
            complete: true,
            identical: n == 8,
            failure: None,
            seconds: Some(3_900.0),
            bytes_from_source: (1_000 << 20) - 1,
            bytes_from_peers: (1_000 << 30) - 1,
            bytes_wasted: (1_000 << 20) - 1,
            bytes_corrupt: 0,
            pieces_failed: 1_234,
            faults: faults.to_vec(),
        };
        Report {
            name: "release".to_owned(),
            files: 1,
            bytes_total: 1 << 30,
            seconds: 3_900.0,
            peers: vec![peer(8, &[]), peer(119, &[Fault::KillPeer, Fault::SlowPeer, Fault::DiskFull])],
            ..Report::default()
        }
    }

    #[test]
    fn the_table_fits_80_columns_and_degrades_below() {
        for columns in [60, 80, 100, 132] {
            let report = report();
            let lines = table(&report, Paint::default(), columns);
            assert!(lines.iter().all(|line| line.chars().count() <= columns), "{lines:#?}");
            let text = lines.join("\n");
            assert!(text.contains("kill-peer, slow-peer, disk-full"), "{text}");
            assert_eq!(text.contains("  wasted 2.0 GiB, bad pieces 2468"), columns == 60, "{text}");
            assert_eq!(text.contains("from source"), columns > 60, "{text}");
            assert_eq!(text.contains("differs  kill-peer"), columns > 100, "{text}");
        }
    }
}

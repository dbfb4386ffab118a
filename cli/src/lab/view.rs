//! The swarm on the screen: a bar for each peer while it runs, a table at the end.

use super::peer::{Peer, Role, State};
use super::report::{FaultReport, PeerReport, Report};
use crate::console::{Console, Paint, err_columns, out_columns, wrapped};
use crate::exit::printable;
use crate::progress::{bar, bar_style, fit};
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
/// The shortest and the longest bar, in columns.
const BAR_COLUMNS_MIN: usize = 8;
const BAR_COLUMNS_MAX: usize = 30;
/// The width of a peer's name, and of what it does.
const NAME_WIDTH: usize = 9;
const WORD_WIDTH: usize = 9;

/// The live view of a swarm.
pub struct View {
    head: ProgressBar,
    bars: Vec<ProgressBar>,
    /// The width of the longest address.
    addr_width: usize,
    /// What fits now, and is not set yet at first.
    layout: Option<Layout>,
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
        let new_bar = |_| console.bars().add(ProgressBar::new(BAR_LEN));
        let bars = peers.iter().take(BARS_MAX).map(new_bar).collect();
        View { head, bars, addr_width, layout: None, paint, bytes_total, next_line: LINE_INTERVAL }
    }

    /// Shows how the peers stand after `elapsed`, and how the tracker does: by bars, or by a line now and then.
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
        self.lay_out(peers, Layout::of(columns, self.addr_width));
        for (bar, peer) in self.bars.iter().zip(peers) {
            bar.set_position((peer.share() * BAR_LEN as f64) as u64);
            // Blanks at the end would wrap when the terminal becomes narrower.
            bar.set_message(self.message(peer).trim_end().to_owned());
        }
    }

    /// Lays the bars out anew if the terminal has another width now.
    fn lay_out(&mut self, peers: &[Peer], layout: Layout) {
        if self.layout == Some(layout) {
            return;
        }
        self.layout = Some(layout);
        let paint = self.paint;
        for (line, peer) in self.bars.iter().zip(peers) {
            let mut prefix = paint.strong(&format!("{:<NAME_WIDTH$}", peer.name));
            if layout.has_addr {
                prefix += &paint.dim(&format!("  {:<width$}", peer.addr.ip(), width = self.addr_width));
            }
            line.set_prefix(prefix);
            line.set_style(match peer.role {
                Role::Downloader if layout.bar > 0 => {
                    let bar = bar("bar", &layout.bar.to_string(), paint);
                    bar_style(&format!("{{prefix}}  {bar} {{percent:>3}} %  {{msg}}"))
                }
                Role::Downloader => bar_style("{prefix}  {percent:>3} %  {msg}"),
                _ => bar_style("{prefix}  {msg}"),
            });
        }
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
        let word = &format!("{:<WORD_WIDTH$}", peer.state_word());
        let layout = self.layout.unwrap_or_default();
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
        let up = if layout.has_up { rate('↑', progress.rate_up) } else { String::new() };
        let down = |bytes_per_s| if layout.has_down { rate('↓', bytes_per_s) } else { String::new() };
        match (peer.role, peer.state) {
            (Role::Downloader, State::Running) => format!("{word}{}{up}", down(progress.rate_down)),
            (Role::Downloader, State::Complete) => format!("{word}{}{up}", down(0)),
            (Role::Downloader, _) => word,
            _ => format!("{word}{up}"),
        }
    }
}

/// What a downloader's line has room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Layout {
    /// The bar's length.
    bar: usize,
    has_addr: bool,
    has_down: bool,
    has_up: bool,
}

impl Layout {
    /// What fits into so many columns: the address goes first, then the rates, then the bar.
    fn of(columns: usize, addr_width: usize) -> Layout {
        let layout = |has_addr, has_down, has_up| Layout { bar: 0, has_addr, has_down, has_up };
        let all = [(true, true, true), (false, true, true), (false, true, false), (false, false, false)]
            .into_iter();
        let mut all = all.map(|(addr, down, up)| layout(addr, down, up));
        let fitting = all.find_map(|layout| {
            let room = columns.checked_sub(layout.columns(addr_width) + 1)?;
            (room >= BAR_COLUMNS_MIN).then_some(Layout { bar: room.min(BAR_COLUMNS_MAX), ..layout })
        });
        fitting.unwrap_or_default()
    }

    /// What a line takes, with a bar of this length.
    fn columns(&self, addr_width: usize) -> usize {
        let bar = if self.bar > 0 { self.bar + 1 } else { 0 };
        let addr = if self.has_addr { 2 + addr_width } else { 0 };
        let rates = (usize::from(self.has_down) + usize::from(self.has_up)) * (RATE_WIDTH + 4);
        NAME_WIDTH + addr + 2 + bar + "100 %  ".len() + WORD_WIDTH + rates
    }
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
    let forms = [(3, false, false), (2, false, false), (2, true, false), (2, true, true)];
    let forms = forms.map(|(gap, is_short, is_narrow)| TableForm::new(&rows, gap, is_short, is_narrow));
    let [.., narrowest] = &forms;
    let fits = |form: &&TableForm, room: usize| form.columns() <= room;
    // Faults go below their peer before any column goes.
    let beside = columns.saturating_sub(remark_width);
    let (form, is_beside) = match forms.iter().find(|form| !form.is_narrow && fits(form, beside)) {
        Some(form) => (form, true),
        None => (forms.iter().find(|form| fits(form, columns)).unwrap_or(narrowest), false),
    };
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
    gap: usize,
    is_short: bool,
    is_narrow: bool,
    widths: [usize; 7],
}

impl TableForm {
    fn new(rows: &[[String; 7]], gap: usize, is_short: bool, is_narrow: bool) -> TableForm {
        let mut form = TableForm { gap, is_short, is_narrow, widths: [0; 7] };
        let titles = form.titles();
        form.widths = std::array::from_fn(|column| {
            let cells = rows.iter().chain([&titles]).map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        });
        form
    }

    fn titles(&self) -> [String; 7] {
        TITLES.map(|(long, short)| if self.is_short { short } else { long }.to_owned())
    }

    fn columns(&self) -> usize {
        let shown = || (1..7).filter(|&column| self.shows(column));
        2 + self.widths[0] + shown().map(|column| self.gap + self.widths[column]).sum::<usize>()
    }

    fn shows(&self, column: usize) -> bool {
        !(self.is_narrow && DISPENSABLE.contains(&column))
    }

    /// One line: names and verdicts to the left, figures to the right.
    fn line(&self, cells: &[String; 7]) -> String {
        let mut line = format!("  {:<width$}", cells[0], width = self.widths[0]);
        for column in (1..6).filter(|&column| self.shows(column)) {
            line += &format!("{:>width$}", cells[column], width = self.gap + self.widths[column]);
        }
        line + &" ".repeat(self.gap) + &cells[6]
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
        "The source sent {}: {:.2} copies, {:.0} % of all that was received.",
        units::size(report.bytes_from_source),
        report.copies_from_source,
        report.share_from_source * 100.0
    )];
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
    use crate::lab::fault::Fault;

    #[test]
    fn a_peers_line_fits_80_columns_and_degrades_below() {
        let addr_width = "127.0.0.120".len();
        for columns in 20..200 {
            let layout = Layout::of(columns, addr_width);
            assert!(layout.bar == 0 || layout.columns(addr_width) <= columns, "{columns}: {layout:?}");
        }
        let at = |columns| Layout::of(columns, addr_width);
        assert_eq!(at(80), Layout { bar: 9, has_addr: true, has_down: true, has_up: true });
        assert_eq!(at(96), Layout { bar: 25, has_addr: true, has_down: true, has_up: true });
        assert_eq!(at(60), Layout { bar: 17, has_addr: false, has_down: true, has_up: false });
        assert_eq!(at(40), Layout { bar: 12, has_addr: false, has_down: false, has_up: false });
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

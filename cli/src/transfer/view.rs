//! How transfers show: a bar for each if they are few, else one for all; lines where there are no bars.

use super::torrent::{Phase, Torrent};
use crate::console::Console;
use crate::events::Progress;
use crate::progress::{self, BAR_INTERVAL, LINE_INTERVAL, TransferBar};
use crate::units::count;
use std::fmt;
use std::time::Duration;
use tokio::time::Instant;

/// How many torrents have a bar and a line each.
const EACH_MAX: usize = 4;
/// How often the one bar of many torrents is drawn: each of them is asked how it stands.
const SUM_INTERVAL: Duration = Duration::from_secs(1);

pub struct View {
    bars: Vec<TransferBar>,
    torrents: usize,
    /// How often progress gets a line.
    line_interval: Duration,
    /// When progress gets its next line.
    line_at: Instant,
}

impl View {
    pub fn new(console: &Console, torrents: usize, line_interval: Option<Duration>) -> View {
        let line_interval = line_interval.unwrap_or(LINE_INTERVAL);
        let bars = if torrents <= EACH_MAX { torrents } else { 1 };
        View {
            bars: (0..bars).map(|_| TransferBar::new(console)).collect(),
            torrents,
            line_interval,
            line_at: Instant::now() + line_interval,
        }
    }

    pub fn interval(&self) -> Duration {
        if self.is_sum() { SUM_INTERVAL } else { BAR_INTERVAL }
    }

    fn is_sum(&self) -> bool {
        self.torrents > EACH_MAX
    }

    pub fn show(&mut self, torrents: &[Torrent], console: &mut Console) {
        if console.has_bars() {
            return self.draw(torrents);
        }
        if Instant::now() < self.line_at {
            return;
        }
        let lines: Vec<String> = match self.is_sum() {
            true => sum_line(torrents).into_iter().collect(),
            false => torrents.iter().filter_map(|torrent| line(torrent, self.torrents > 1)).collect(),
        };
        if !lines.is_empty() {
            self.line_at = Instant::now() + self.line_interval;
        }
        lines.iter().for_each(|line| console.note(line));
    }

    fn draw(&self, torrents: &[Torrent]) {
        if self.is_sum() {
            let tally = Tally::of(torrents);
            return self.bars[0].show(&tally.to_string(), &tally.progress);
        }
        for (bar, torrent) in self.bars.iter().zip(torrents).filter(|(_, torrent)| torrent.outcome.is_none())
        {
            let name = if self.torrents > 1 { &torrent.name } else { "" };
            let progress = &torrent.progress;
            match (torrent.phase, &torrent.disk, torrent.checking) {
                (Phase::Running, ..) => bar.show(name, progress),
                (Phase::Opening, ..) => {}
                (Phase::Metadata, ..) => {
                    bar.explain(&torrent.name, &Progress::default(), &progress::fetching(progress));
                }
                (Phase::Checking, Some((reason, _)), _) => bar.explain(name, progress, reason),
                (Phase::Checking, None, Some((done, of))) => bar.checking(name, done, of),
                (Phase::Checking, None, None) => {}
            }
        }
    }

    /// The torrent's own bar goes.
    pub fn finish(&self, torrent: usize) {
        self.bars.get(torrent).filter(|_| !self.is_sum()).into_iter().for_each(TransferBar::finish);
    }

    pub fn finish_all(&self) {
        self.bars.iter().for_each(TransferBar::finish);
    }
}

/// A torrent in one line, unless it is idle.
fn line(torrent: &Torrent, has_others: bool) -> Option<String> {
    let progress = &torrent.progress;
    let (text, is_named) = match (torrent.phase, torrent.checking) {
        _ if torrent.outcome.is_some() => return None,
        (Phase::Opening, _) | (Phase::Checking, None) => return None,
        (Phase::Metadata, _) => (progress::fetching(progress), true),
        (Phase::Checking, Some((done, of))) => {
            (format!("checking existing data: {done} of {of} pieces"), false)
        }
        // An idle seed needs no line.
        (Phase::Running, _) if torrent.is_complete && progress.rate_up == 0 && progress.rate_down == 0 => {
            return None;
        }
        (Phase::Running, _) => (progress::summary(progress), false),
    };
    Some(if is_named || has_others { format!("{}: {text}", torrent.name) } else { text })
}

/// All torrents in one line, unless they are idle.
fn sum_line(torrents: &[Torrent]) -> Option<String> {
    let tally = Tally::of(torrents);
    let sum = &tally.progress;
    let is_idle = sum.rate_up == 0 && sum.rate_down == 0;
    let is_all_complete = torrents.iter().all(|torrent| torrent.is_complete || torrent.outcome.is_some());
    (!is_idle || !is_all_complete).then(|| format!("{tally}  {}", progress::summary(sum)))
}

/// How many torrents there are of each kind, and the sums of their figures.
pub struct Tally {
    pub torrents: usize,
    pub complete: usize,
    pub failed: usize,
    pub progress: Progress,
}

impl Tally {
    pub fn of(torrents: &[Torrent]) -> Tally {
        let number = |is_it: fn(&Torrent) -> bool| torrents.iter().filter(|torrent| is_it(torrent)).count();
        let mut progress = Progress::default();
        torrents.iter().for_each(|torrent| progress.add(&torrent.progress));
        Tally {
            torrents: number(|torrent| !torrent.is_double),
            complete: number(|torrent| torrent.is_complete),
            failed: number(|torrent| matches!(torrent.outcome, Some(Err(_)))),
            progress,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&count(self.torrents, "torrent"))?;
        for (n, what) in [(self.complete, "complete"), (self.failed, "failed")] {
            if n > 0 {
                write!(f, ", {n} {what}")?;
            }
        }
        Ok(())
    }
}

//! Somebody who watches a film while it is downloaded: what a player asks for, and how long it waits.
//!
//! The player reads the start and the end of the file, where its index may be, plays on from the start, and jumps about. It takes what it
//! plays half a second ahead. What it waits for comes first by the rules that the engine has for readers (`swarm_core::reading`).

use crate::basics::{NodeId, Rate};
use crate::world::World;
use std::ops::Range;
use swarm_core::id::PieceIndex;
use swarm_core::picker::Priority;
use swarm_core::reading;
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};

/// How often the player looks at what is there.
pub(crate) const STEP: Duration = Duration::from_millis(10);
/// How far ahead of what it shows a player takes what comes, and how much it wants before it shows anything.
const BUFFER: Duration = Duration::from_millis(500);
/// What of a film is played from each place.
const PARTS: u64 = 24;
/// What is read of the start and the end, before anything is played, in thousandths of the film.
const INDEX_PERMILLE: u64 = 1;
/// Where it jumps to, in per cent, and then anywhere.
const PLACES: [u64; 4] = [50, 75, 30, 90];
/// How often it jumps anywhere.
const JUMPS: usize = 4;

/// Who watches, and what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Viewing {
    pub(crate) host: NodeId,
    pub(crate) bit_rate: Rate,
}

/// A player that waited for what it wants to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Since when, from the start of the run.
    pub since: Duration,
    /// For how long.
    pub took: Duration,
    /// For what byte of the film.
    pub at: u64,
}

impl Wait {
    /// How much of it lies after so much time of the run.
    pub fn after(&self, start: Duration) -> Duration {
        (self.since + self.took).saturating_sub(self.since.max(start))
    }
}

/// A place that the player goes to, and what it does there.
#[derive(Clone, Debug)]
struct Visit {
    range: Range<u64>,
    is_played: bool,
}

/// What the player does since a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// It waits for as much as it wants before it goes on.
    Wait,
    /// It shows what it has taken.
    Show,
}

#[derive(Debug)]
pub(crate) struct Viewer {
    viewing: Viewing,
    /// The next last.
    script: Vec<Visit>,
    does: Does,
    since: Time,
    /// What it shows first, or will when it has waited long enough.
    from: u64,
    /// Up to where it has taken what came.
    taken: u64,
    /// The pieces that come first for it.
    window: Range<u32>,
    waits: Vec<Wait>,
}

impl Viewer {
    pub(crate) fn new(viewing: Viewing, world: &World, rng: &mut Rng) -> Viewer {
        let len = world.geometry().total_len();
        let index = (len * INDEX_PERMILLE / 1_000).clamp(1, len);
        let read = |range| Visit { range, is_played: false };
        let play = |start: u64| Visit { range: start..(start + len / PARTS).min(len), is_played: true };
        let mut script = vec![read(0..index), read(len - index..len), play(0)];
        script.extend(PLACES.map(|percent| play(len / 100 * percent)));
        script.extend((0..JUMPS).map(|_| play(rng.below(len))));
        script.reverse();
        let (since, window, waits) = (world.now(), 0..0, Vec::new());
        Viewer { viewing, script, does: Does::Wait, since, from: 0, taken: 0, window, waits }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.script.is_empty()
    }

    pub(crate) fn into_waits(self) -> Vec<Wait> {
        self.waits
    }

    /// Takes what is there and wanted by now, shows it, goes on to the next place, and asks for what comes after that.
    pub(crate) fn step(&mut self, world: &mut World) {
        let now = world.now();
        while let Some(Visit { range, is_played }) = self.script.last().cloned() {
            let bit_rate = self.viewing.bit_rate;
            let shown = match self.does {
                Does::Wait => self.from,
                Does::Show => (self.from + bit_rate.bytes_in(now.since(self.since))).min(range.end),
            };
            let ahead = (shown + bit_rate.bytes_in(BUFFER).max(1)).min(range.end);
            let goal = if is_played { ahead } else { range.end };
            self.take(world, goal);
            match self.does {
                Does::Wait if self.taken < goal => break,
                Does::Wait => {
                    let since = self.since.since(Time::ZERO);
                    self.waits.push(Wait { since, took: now.since(self.since), at: self.from });
                    if !is_played {
                        self.visit_next(now);
                        continue;
                    }
                    (self.does, self.since) = (Does::Show, now);
                    break;
                }
                Does::Show if shown >= range.end => self.visit_next(now),
                Does::Show => {
                    if self.taken < shown {
                        (self.does, self.since, self.from) = (Does::Wait, now, self.taken);
                    }
                    break;
                }
            }
        }
        self.ask(world);
    }

    fn visit_next(&mut self, now: Time) {
        self.script.pop();
        let start = self.script.last().map_or(0, |visit| visit.range.start);
        (self.does, self.since, self.from, self.taken) = (Does::Wait, now, start, start);
    }

    /// Takes what is there, up to `goal`.
    fn take(&mut self, world: &World, goal: u64) {
        let piece_len = u64::from(world.geometry().piece_len());
        let have = world.torrent(self.viewing.host).have();
        while self.taken < goal && have.has(PieceIndex((self.taken / piece_len) as u32)) {
            self.taken = goal.min((self.taken / piece_len + 1) * piece_len);
        }
    }

    /// Has its host download first what comes next.
    fn ask(&mut self, world: &mut World) {
        let window = match self.script.last() {
            Some(visit) if self.taken < visit.range.end => {
                // A player does not say how far it will read on.
                let end = if visit.is_played { world.geometry().total_len() } else { visit.range.end };
                reading::window(world.geometry(), self.taken, end)
            }
            Some(_) => return,
            None => 0..0,
        };
        if window != self.window {
            let before = std::mem::replace(&mut self.window, window.clone());
            let windows = (!window.is_empty()).then_some(&window);
            let priorities = reading::priorities(windows, before, |_| Priority::NORMAL);
            world.with_torrent(self.viewing.host, |torrent, now| {
                torrent.set_priorities(now, priorities);
                if !self.window.is_empty() {
                    torrent.hurry(now, self.window.clone());
                }
            });
        }
    }
}

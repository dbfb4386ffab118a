//! The one owner of the torrents: a task that takes commands and the session's events, one after the other.
//!
//! [`commands`] are planned, committed and applied; [`events`] of the session and looks at its torrents change records too.
//! After each step [`Manager::settle`] tells the session what differs ([`engine`]) and publishes the table. What takes long, such as
//! removing data ([`removal`]), is done beside it, and its end comes back as one more input.

mod beneath;
mod checks;
pub mod commands;
mod completion;
mod engine;
mod events;
mod groups;
mod labels;
pub mod operations;
mod removal;
mod row;
mod settings;
pub mod watch;

use crate::config::{Prepare, Rules};
use crate::notice::{Notice, What};
use crate::settings::{Settings, Standing};
use crate::store::StoreError;
use crate::store::thread::StoreThread;
use crate::table::Shared;
use crate::torrents::queue::Turns;
use crate::torrents::{Book, Change, Id, Labels, Refusal, Totals};
use checks::{CheckNews, Checks};
use commands::{Command, Handle};
use completion::Programs;
use engine::Told;
pub use engine::said;
use groups::Groups;
use operations::Moved;
use removal::Removed;
use row::row;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use swarm_engine::{MetainfoSpool, Session, SessionEvents, TorrentId};
use tokio::sync::{broadcast, mpsc, oneshot, watch as watching};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often torrents are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often totals and progress are written.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);
/// How often a database that takes nothing is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// How long removals may go on when the daemon ends.
const REMOVALS_TIMEOUT: Duration = Duration::from_secs(10);
/// Of how many torrents is looked each time whether they have reached their goals. With more of them that is noticed some seconds later.
const GOALS_AT_ONCE: usize = 1_000;
/// How many commands wait at most.
const COMMANDS_MAX: usize = 256;
/// How many notices somebody who watches may fall behind.
const NOTICES_MAX: usize = 4_096;
/// How many events of the session are taken before anything else is done.
const EVENTS_AT_ONCE: usize = 4_096;

/// Sums for `/metrics`. They never go down.
#[derive(Debug, Default)]
pub struct Counters {
    /// Payload received, in bytes.
    pub bytes_down: AtomicU64,
    /// Payload sent, in bytes.
    pub bytes_up: AtomicU64,
    /// Transactions.
    pub commits: AtomicU64,
    /// Transactions that failed.
    pub commits_failed: AtomicU64,
}

/// What is observed of a torrent, and forgotten at the end.
#[derive(Debug, Default)]
struct Live {
    /// The torrent in the session, as it was told to be.
    told: Option<Told>,
    /// What it has transferred before it was added to the session.
    before: Totals,
    state: swarm_engine::State,
    rates: (u64, u64),
    active_at: Option<i64>,
    peers: usize,
    seeds: usize,
    waiting: Option<String>,
    /// Why the disk takes nothing, as when what is to be written does not fit.
    stalled: Option<String>,
    checking: Option<(u32, u32)>,
    /// What ended it in the session, or keeps it from being there.
    failure: Option<String>,
    is_removed: bool,
    /// Something is done with it beside this task, and the session is told nothing meanwhile.
    is_apart: bool,
    /// Its data is checked while it does not run, or is to be.
    is_checked: bool,
    /// The move of its files was asked for in this process: nothing is half done.
    moves_anew: bool,
    /// What went wrong with it and has not ended it.
    trouble: Option<String>,
    /// Who waits for a rename.
    renames: Vec<oneshot::Sender<Result<(), Refusal>>>,
    /// Who waits for its removal.
    waiters: Vec<oneshot::Sender<Result<(), Refusal>>>,
}

/// The task's state.
#[derive(Debug)]
pub struct Manager {
    book: Book,
    live: BTreeMap<Id, Live>,
    by_engine: BTreeMap<TorrentId, Id>,
    /// Those that are to run.
    runs: BTreeSet<Id>,
    store: StoreThread,
    session: Arc<Session>,
    prepare: Prepare,
    rules: watching::Sender<Arc<Rules>>,
    table: Shared,
    notices: broadcast::Sender<Notice>,
    counters: Arc<Counters>,
    /// Of whom the session and the table may have to hear.
    touched: BTreeSet<Id>,
    /// Whose stats are to be looked at.
    looks: BTreeSet<Id>,
    /// Whose stats were not at rest when they were looked at last.
    busy: BTreeSet<Id>,
    /// Whose records are not written as they are.
    unsaved: BTreeSet<Id>,
    /// Whose turn may begin or end.
    turns_due: BTreeSet<Id>,
    /// How many were given turns; `None`: all are looked at again.
    turns: Option<Turns>,
    /// Up to whom goals were looked at.
    goals_seen: Option<Id>,
    saved_at: Instant,
    /// What holds of the daemon as a whole.
    standing: watching::Sender<Arc<Standing>>,
    labels: watching::Sender<Arc<Labels>>,
    /// Limits that torrents share, as the session was told them.
    groups: Groups,
    /// Programs that run because a torrent is complete, and torrents whose turn that is.
    programs: Programs,
    /// If the last write failed, whether the disk is full: then the log has heard of it.
    store_fails: Option<bool>,
    removed: mpsc::UnboundedSender<Removed>,
    /// What removes data.
    removals: JoinSet<()>,
    moved: mpsc::UnboundedSender<Moved>,
    /// What moves files.
    moves: JoinSet<()>,
    check_news: mpsc::UnboundedSender<CheckNews>,
    /// What is checked while it does not run.
    checks: Checks,
}

/// A manager that runs.
#[derive(Debug)]
pub struct Running {
    /// Takes commands.
    pub handle: Handle,
    /// What readers see.
    pub table: Shared,
    /// What happens.
    pub notices: broadcast::Sender<Notice>,
    /// The rules in force.
    pub rules: watching::Receiver<Arc<Rules>>,
    /// What holds of the daemon as a whole.
    pub standing: watching::Receiver<Arc<Standing>>,
    /// Categories, tags and limits of trackers.
    pub labels: watching::Receiver<Arc<Labels>>,
    /// Sums.
    pub counters: Arc<Counters>,
    /// Where peers can reach us.
    pub listening: Vec<std::net::SocketAddr>,
    task: tokio::task::JoinHandle<()>,
}

/// Seconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// What was kept beside the torrents.
#[derive(Debug)]
pub struct Kept {
    /// When the daemon before was alive last.
    pub alive_at: Option<i64>,
    /// What users set.
    pub settings: Settings,
    /// Addresses that are banned.
    pub bans: BTreeSet<IpAddr>,
}

/// Starts the task with what was kept.
pub fn start(
    book: Book,
    kept: Kept,
    store: StoreThread,
    spool: MetainfoSpool,
    session: Session,
    prepare: Prepare,
    rules: Rules,
) -> Running {
    let Kept { alive_at, settings, bans } = kept;
    let standing = settings::standing(rules, settings);
    let rules = standing.rules();
    let (standing, standing_seen) = watching::channel(Arc::new(standing));
    let (labels, labels_seen) = watching::channel(Arc::clone(book.labels()));
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let table = Shared::new(crate::table::Table::new(since));
    let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
    let (rules, rules_seen) = watching::channel(Arc::new(rules));
    let (notices, _) = broadcast::channel(NOTICES_MAX);
    let counters = Arc::new(Counters::default());
    let (removed, removals) = mpsc::unbounded_channel();
    let (moved, moves) = mpsc::unbounded_channel();
    let (check_news, checks) = mpsc::unbounded_channel();
    let listening = session.listen_addrs().to_vec();
    let mut manager = Manager {
        book,
        live: BTreeMap::new(),
        by_engine: BTreeMap::new(),
        runs: BTreeSet::new(),
        store,
        session: Arc::new(session),
        prepare,
        rules,
        table: table.clone(),
        notices: notices.clone(),
        counters: Arc::clone(&counters),
        touched: BTreeSet::new(),
        looks: BTreeSet::new(),
        busy: BTreeSet::new(),
        unsaved: BTreeSet::new(),
        turns_due: BTreeSet::new(),
        turns: None,
        goals_seen: None,
        saved_at: Instant::now(),
        standing,
        labels,
        groups: Groups::default(),
        programs: Programs::default(),
        store_fails: None,
        removed,
        removals: JoinSet::new(),
        moved,
        moves: JoinSet::new(),
        check_news,
        checks: Checks::default(),
    };
    manager.apply_bans(bans);
    manager.begin(alive_at);
    let task = tokio::spawn(manager.run(inbox, removals, moves, checks));
    let handle = Handle::new(commands, spool);
    Running {
        handle,
        table,
        notices,
        rules: rules_seen,
        standing: standing_seen,
        labels: labels_seen,
        counters,
        listening,
        task,
    }
}

impl Running {
    /// Waits for the end, which [`Handle::stop`] asks for.
    pub async fn ended(self) {
        let _ = self.task.await;
    }
}

impl Manager {
    /// What the daemon before has left is taken up.
    fn begin(&mut self, alive_at: Option<i64>) {
        let ids: Vec<Id> = self.book.iter().map(|torrent| torrent.record.id).collect();
        for &id in &ids {
            self.live.entry(id).or_default();
            self.touched.insert(id);
            self.note_due(id);
            let was_running = self.book.get(id).is_some_and(|torrent| torrent.record.running_since.is_some());
            if was_running {
                // After a crash. It ran as long as anybody knows.
                self.book.update(id, |record| {
                    let until = alive_at.or(record.running_since).unwrap_or(0);
                    record.count_time(until, false);
                });
                self.unsaved.insert(id);
            }
        }
        // Readers see all of it before the first of them is answered.
        self.give_turns();
        for id in ids {
            self.check_beside(id);
            self.publish(id);
        }
        self.tell_groups();
        let rules = self.rules.borrow().clone();
        self.session.set_upload_limit(rules.upload_limit);
        self.session.set_download_limit(rules.download_limit);
    }

    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut removals: mpsc::UnboundedReceiver<Removed>,
        mut moves: mpsc::UnboundedReceiver<Moved>,
        mut checks: mpsc::UnboundedReceiver<CheckNews>,
    ) {
        let mut events = self.session.events();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.settle().await;
        let stopped = loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Stop(done)) => break Some(done),
                    Some(command) => self.on_command(command).await,
                    None => break None,
                },
                Some(moved) = moves.recv() => self.on_moved(moved).await,
                Some(removed) = removals.recv() => self.on_removed(removed).await,
                Some(news) = checks.recv() => self.on_check_news(news).await,
                event = events.next() => match event {
                    Some(event) => self.on_events(event, &mut events).await,
                    None => break None,
                },
                _ = tick.tick() => self.on_tick().await,
            }
            self.settle().await;
        };
        commands.close();
        self.stop().await;
        if let Some(done) = stopped {
            let _ = done.send(());
        }
    }

    /// Takes an event, and others that are there already.
    async fn on_events(
        &mut self,
        first: (Option<TorrentId>, swarm_engine::Event),
        events: &mut SessionEvents,
    ) {
        self.on_event(first.0, first.1);
        for _ in 1..EVENTS_AT_ONCE {
            let next = std::pin::pin!(events.next());
            match futures_util::FutureExt::now_or_never(next) {
                Some(Some((id, event))) => self.on_event(id, event),
                _ => break,
            }
        }
        self.look().await;
    }

    async fn on_tick(&mut self) {
        self.table.write(|table| table.mark(now()));
        self.note_active().await;
        self.looks.append(&mut self.busy);
        self.look().await;
        self.check_goals().await;
        self.check_schedule();
        self.run_programs().await;
        let interval = if self.store_fails.is_some() { RETRY_INTERVAL } else { SAVE_INTERVAL };
        if self.saved_at.elapsed() >= interval {
            self.save().await;
        }
    }

    /// Those that peers have to do with are looked at next.
    async fn note_active(&mut self) {
        if let Ok(active) = self.session.active().await {
            let active = active.into_iter().filter_map(|id| self.by_engine.get(&id).copied());
            self.looks.extend(active);
        }
    }

    /// Tells the session what differs, and readers what is new.
    async fn settle(&mut self) {
        if !self.turns_due.is_empty() || self.turns.is_none() {
            self.give_turns();
        }
        while let Some(id) = self.touched.pop_first() {
            self.tell(id).await;
            self.publish(id);
        }
        for id in self.begin_checks() {
            self.publish(id);
        }
    }

    fn give_turns(&mut self) {
        let turns = self.rules.borrow().turns;
        let (live, due) = (&self.live, std::mem::take(&mut self.turns_due));
        let cannot = |id: Id| live.get(&id).is_some_and(|live| live.failure.is_some());
        let changed: Vec<(Id, bool)> =
            match self.turns.replace(turns) == Some(turns) && turns == Turns::default() {
                // Without limits nobody's turn depends on others.
                true => {
                    let each = due.into_iter().map(|id| (id, self.book.may_run(id, cannot)));
                    each.filter(|(id, runs)| self.runs.contains(id) != *runs).collect()
                }
                false => {
                    let runs = self.book.running(turns, cannot);
                    runs.symmetric_difference(&self.runs).map(|&id| (id, runs.contains(&id))).collect()
                }
            };
        let now = now();
        for (id, runs) in changed {
            match runs {
                true => self.runs.insert(id),
                false => self.runs.remove(&id),
            };
            self.touched.insert(id);
            self.book.update(id, |record| record.count_time(now, runs));
            self.unsaved.insert(id);
        }
    }

    fn publish(&mut self, id: Id) {
        let (Some(torrent), Some(live)) = (self.book.get(id), self.live.get(&id)) else { return };
        let row = row(torrent, live, self.runs.contains(&id));
        let summary = Arc::clone(&row.summary);
        let revision = self.table.write(|table| table.put(row).then(|| table.revision()));
        if let Some(revision) = revision {
            self.notify(Some(id), What::Torrent { revision, torrent: summary });
        }
    }

    fn notify(&self, id: Option<Id>, what: What) {
        // Nobody may be watching.
        let _ = self.notices.send(Notice { id, what });
    }

    /// Writes a change and takes it over.
    async fn commit(&mut self, change: Change) -> Result<(), Refusal> {
        let written = change.clone();
        let result = self.store.run(move |store| store.commit(&written)).await;
        self.on_written(&result);
        result.map_err(|error| refusal(&error))?;
        for id in self.book.apply(change) {
            self.touched.insert(id);
            self.turns_due.insert(id);
            self.note_due(id);
        }
        self.publish_labels();
        Ok(())
    }

    /// The same for what nobody waits for. If it fails, the torrent is looked at again, which leads to the same change.
    async fn commit_later(&mut self, id: Id, change: Change) -> bool {
        let is_done = self.commit(change).await.is_ok();
        if !is_done {
            self.busy.insert(id);
        }
        is_done
    }

    fn on_written(&mut self, result: &Result<(), StoreError>) {
        self.counters.commits.fetch_add(1, Relaxed);
        let failed_before = self.store_fails.is_some();
        self.store_fails = result.as_ref().err().map(StoreError::is_full);
        match result {
            Err(error) => {
                self.counters.commits_failed.fetch_add(1, Relaxed);
                if !failed_before {
                    tracing::error!(%error, "the database takes nothing; it is tried again");
                }
            }
            Ok(()) if failed_before => tracing::info!("the database takes changes again"),
            Ok(()) => {}
        }
    }

    async fn check_goals(&mut self) {
        let (goals, now) = (self.rules.borrow().goals, now());
        let seen = self.goals_seen.map_or(Bound::Unbounded, Bound::Excluded);
        let looked: Vec<Id> =
            self.runs.range((seen, Bound::Unbounded)).take(GOALS_AT_ONCE).copied().collect();
        self.goals_seen = looked.last().copied().filter(|_| looked.len() == GOALS_AT_ONCE);
        let reached: Vec<_> = looked
            .into_iter()
            .filter_map(|id| {
                let seconds = self.book.get(id)?.record.seconds_seeding(now);
                self.book.plan_goal(id, &goals, seconds).map(|(goal, change)| (id, goal, change))
            })
            .collect();
        for (id, goal, change) in reached {
            if self.commit_later(id, change).await {
                self.notify(Some(id), What::GoalReached { goal });
            }
        }
    }

    /// Writes what has changed and nobody asked for.
    async fn save(&mut self) {
        self.saved_at = Instant::now();
        let ids = std::mem::take(&mut self.unsaved);
        let put: Vec<_> = ids.iter().filter_map(|&id| self.book.get(id)).map(|t| t.record.clone()).collect();
        // One that has failed is tried also when there is nothing to write: else nobody would know that it is well again.
        let is_due = !self.runs.is_empty() || !put.is_empty() || self.store_fails.is_some();
        let alive = is_due.then(now);
        let Some(alive) = alive else { return };
        let change = Change { put, ..Change::default() };
        let result = self.store.run(move |store| store.save(&change, alive)).await;
        self.on_written(&result);
        if result.is_err() {
            self.unsaved.extend(ids);
        }
    }

    /// The daemon ends: the session stops, and all is written.
    async fn stop(mut self) {
        let now = now();
        let ids: Vec<Id> = self.runs.iter().copied().collect();
        self.looks.extend(&ids);
        self.look().await;
        for id in ids {
            self.book.update(id, |record| record.count_time(now, false));
            self.unsaved.insert(id);
        }
        self.save().await;
        let Manager { session, store, mut removals, mut moves, checks, programs, .. } = self;
        // They go on at the next start.
        moves.shutdown().await;
        checks.end().await;
        // What is not done by then is done at the next start.
        let removed = async { while removals.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(REMOVALS_TIMEOUT, removed).await;
        removals.shutdown().await;
        programs.end().await;
        if let Some(session) = Arc::into_inner(session) {
            session.stop().await;
        }
        drop(store);
    }
}

fn refusal(error: &StoreError) -> Refusal {
    Refusal::Store { message: error.to_string(), is_full: error.is_full() }
}

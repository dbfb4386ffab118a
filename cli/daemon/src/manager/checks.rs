//! Checking the data of torrents that do not run: beside the manager, a few at a time. The session opens each for this alone, and no peer
//! and no tracker hears of it. Those that run are checked by the session itself.

use super::beneath::check_folders;
use super::engine::{add_torrent, said};
use super::removal::WRITE_RETRY;
use super::{Manager, now};
use crate::notice::What;
use crate::torrents::{Id, Progress};
use std::collections::{BTreeMap, BTreeSet};
use swarm_engine::{AddTorrent, Data, Event, Session, TorrentHandle, TorrentStats};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// How many are opened at a time. The session checks them one after the other.
const CHECKS_AT_ONCE: usize = 4;

/// Those that are checked, and those that wait for it.
#[derive(Debug, Default)]
pub(super) struct Checks {
    due: BTreeSet<Id>,
    /// What ends a check early when it is dropped.
    running: BTreeMap<Id, Option<oneshot::Sender<()>>>,
    tasks: JoinSet<()>,
}

/// What is told of a check.
#[derive(Debug)]
pub(super) enum CheckNews {
    /// So many pieces of so many are checked.
    Going(Id, u32, u32),
    /// It is over: how much is there, unless it has failed or was ended early.
    Over(Id, Result<Option<Box<TorrentStats>>, String>),
}

impl Checks {
    /// Nothing is checked any more. What is not done is done at the next start.
    pub(super) async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

impl Manager {
    /// Whether a torrent is to be checked while it does not run.
    fn is_to_be_checked(&self, id: Id) -> bool {
        let live = self.live.get(&id);
        let has_failed = live.is_some_and(|live| live.failure.is_some());
        let is_free = self.book.get(id).is_some_and(|torrent| {
            let record = &torrent.record;
            let is_at_rest = record.removing.is_none() && record.moving.is_none();
            record.options.recheck && is_at_rest && torrent.metainfo.is_some() && torrent.conflict.is_none()
        });
        is_free && !has_failed && !self.runs.contains(&id)
    }

    /// Has a torrent wait for its check, if it is to be checked while it does not run; whether that keeps it from all else.
    pub(super) fn check_beside(&mut self, id: Id) -> bool {
        let is_running = self.checks.running.contains_key(&id);
        let is_wanted = self.is_to_be_checked(id);
        match is_wanted && !is_running {
            true => self.checks.due.insert(id),
            false => self.checks.due.remove(&id),
        };
        self.live.entry(id).or_default().is_checked = is_wanted || is_running;
        is_wanted || is_running
    }

    /// Ends a check early; whether there is one, whose end is still to come.
    pub(super) fn end_check(&mut self, id: Id) -> bool {
        self.checks.due.remove(&id);
        match self.checks.running.get_mut(&id) {
            Some(ender) => {
                ender.take();
                true
            }
            None => {
                self.live.entry(id).or_default().is_checked = false;
                false
            }
        }
    }

    /// Begins those whose turn it is.
    pub(super) fn begin_checks(&mut self) -> Vec<Id> {
        let mut begun = Vec::new();
        while self.checks.running.len() < CHECKS_AT_ONCE
            && let Some(id) = self.checks.due.pop_first()
        {
            self.begin_check(id);
            begun.push(id);
        }
        begun
    }

    fn begin_check(&mut self, id: Id) {
        let Some(torrent) = self.book.get(id) else { return };
        let add = add_torrent(torrent).map(|add| add.check_only(true).recheck(true));
        let (folders, rules) = (vec![torrent.record.dir.clone()], self.rules.borrow().clone());
        let live = self.live.entry(id).or_default();
        (live.checking, live.trouble) = (None, None);
        // It is in the session, paused: that one makes room for the one that is checked.
        let paused = live.told.as_ref().map(|told| told.handle.clone());
        self.forget_told(id);
        let (end, ended) = oneshot::channel();
        self.checks.running.insert(id, Some(end));
        let (session, news) = (self.session(), self.check_news.clone());
        while self.checks.tasks.try_join_next().is_some() {}
        self.checks.tasks.spawn(async move {
            let check = async {
                check_folders(folders, rules).await?;
                if let Some(paused) = paused {
                    let _ = paused.stop().await;
                }
                check(&session, add?, ended, |done, of| drop(news.send(CheckNews::Going(id, done, of)))).await
            };
            let result = check.await;
            drop(session);
            let _ = news.send(CheckNews::Over(id, result));
        });
    }

    pub(super) async fn on_check_news(&mut self, news: CheckNews) {
        let (id, result) = match news {
            CheckNews::Going(id, done, of) => {
                self.live.entry(id).or_default().checking = Some((done, of));
                self.touched.insert(id);
                return;
            }
            // Whoever has ended it early may have changed what was to be checked.
            CheckNews::Over(id, _) if matches!(self.checks.running.get(&id), Some(None)) => (id, Ok(None)),
            CheckNews::Over(id, result) => (id, result),
        };
        let is_written = match &result {
            Ok(None) => true,
            Ok(Some(stats)) => self.write_checked(id, Some(stats)).await,
            Err(_) => self.write_checked(id, None).await,
        };
        if !is_written {
            let news = self.check_news.clone();
            tokio::spawn(async move {
                tokio::time::sleep(WRITE_RETRY).await;
                let _ = news.send(CheckNews::Over(id, result));
            });
            return;
        }
        self.checks.running.remove(&id);
        let live = self.live.entry(id).or_default();
        (live.checking, live.is_checked) = (None, false);
        if let Err(message) = result {
            tracing::warn!(torrent = %id, %message, "its data is not checked");
            live.trouble = Some(message.clone());
            self.notify(Some(id), What::Warning { message });
        }
        self.touched.insert(id);
        self.turns_due.insert(id);
    }

    /// Writes down how much is there, and that it was checked. Without stats nothing is known of it any more.
    async fn write_checked(&mut self, id: Id, stats: Option<&TorrentStats>) -> bool {
        self.book.update(id, |record| {
            record.progress = match stats {
                Some(stats) => Progress {
                    bytes_total: stats.bytes_total,
                    bytes_verified: stats.bytes_verified,
                    pieces: stats.pieces,
                    pieces_have: stats.pieces_have,
                },
                None => Progress { bytes_verified: 0, pieces_have: 0, ..record.progress },
            };
        });
        let has_program = self.rules.borrow().on_complete.is_some();
        let changed = match stats.is_some_and(|stats| stats.bytes_verified >= stats.bytes_total) {
            true => self.book.plan_completed(id, now(), has_program),
            false => self.book.plan_incomplete(id),
        };
        if let Some(change) = changed
            && self.commit(change).await.is_err()
        {
            return false;
        }
        match self.book.plan_checked(id) {
            Some(change) => self.commit(change).await.is_ok(),
            None => true,
        }
    }
}

/// Checks a torrent's data; `None` if that was ended early.
async fn check(
    session: &Session,
    add: AddTorrent,
    mut ended: oneshot::Receiver<()>,
    going: impl Fn(u32, u32),
) -> Result<Option<Box<TorrentStats>>, String> {
    let handle = session.add(add).await.map_err(|error| said(&error))?;
    let result = tokio::select! {
        checked = watch(&handle, going) => checked.map(Some),
        _ = &mut ended => Ok(None),
    };
    let _ = session.remove(handle.id(), Data::Keep).await;
    result
}

async fn watch(handle: &TorrentHandle, going: impl Fn(u32, u32)) -> Result<Box<TorrentStats>, String> {
    let mut events = handle.events();
    while let Some(event) = events.next().await {
        match event {
            Event::Checking { done, of } => going(done, of),
            Event::Paused => return handle.stats().await.map(Box::new).map_err(|error| said(&error)),
            Event::Failed(error) => return Err(said(&error)),
            _ => {}
        }
    }
    Err("it has ended early".to_owned())
}

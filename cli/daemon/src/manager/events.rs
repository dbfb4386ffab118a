//! What the session tells, and what that changes of records.

use super::engine::said;
use super::{Manager, now};
use crate::notice::What;
use crate::torrents::{Id, Progress, Totals};
use futures_util::future::join_all;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use swarm_engine::{Event, State, TorrentId, TorrentStats};

impl Manager {
    /// Takes note of an event. What it leads to comes of the look that follows.
    pub(super) fn on_event(&mut self, engine: Option<TorrentId>, event: Event) {
        let id = engine.and_then(|engine| self.by_engine.get(&engine).copied());
        if engine.is_some() && id.is_none() {
            // Of a torrent that was removed.
            return;
        }
        if let Some(what) = What::of(&event) {
            self.notify(id, what);
        }
        let Some(id) = id else {
            if let Event::Missed { .. } = event {
                // Whatever happened shows in how the torrents stand.
                self.looks.extend(self.by_engine.values());
            }
            return;
        };
        let live = self.live.entry(id).or_default();
        match event {
            Event::Checking { done, of } => {
                live.checking = Some((done, of));
                live.state = State::Checking;
                self.touched.insert(id);
            }
            Event::Failed(error) => {
                live.failure = Some(said(&error));
                self.on_ended(id);
            }
            Event::Stopped => self.on_ended(id),
            Event::DiskStalled { error } => {
                live.stalled = Some(error.to_string());
                self.touched.insert(id);
                self.looks.insert(id);
            }
            Event::DiskResumed => {
                live.stalled = None;
                self.touched.insert(id);
                self.looks.insert(id);
            }
            Event::MetadataReceived
            | Event::Started { .. }
            | Event::Completed
            | Event::Paused
            | Event::DataBad { .. } => {
                live.checking = None;
                self.looks.insert(id);
            }
            _ => {}
        }
    }

    fn on_ended(&mut self, id: Id) {
        if let Some(live) = self.live.get_mut(&id) {
            live.stalled = None;
        }
        let failure = self.live.get(&id).and_then(|live| live.failure.clone());
        if let Some(message) =
            failure.filter(|_| self.book.get(id).is_some_and(|t| t.record.removing.is_none()))
        {
            tracing::warn!(torrent = %id, %message, "a torrent has ended");
            self.notify(Some(id), What::Failed { message });
        }
        self.forget_told(id);
        self.turns_due.insert(id);
        self.touched.insert(id);
    }

    /// Looks at those that something has happened to.
    pub(super) async fn look(&mut self) {
        let looks = std::mem::take(&mut self.looks);
        let handles: Vec<_> = looks
            .into_iter()
            .filter_map(|id| Some((id, self.live.get(&id)?.told.as_ref()?.handle.clone())))
            .collect();
        let stats = join_all(handles.iter().map(|(_, handle)| handle.stats())).await;
        for ((id, handle), stats) in handles.into_iter().zip(stats) {
            let Ok(stats) = stats else { continue };
            self.take_metadata(id, &handle).await;
            self.take_stats(id, &stats).await;
        }
    }

    /// Keeps what is known of a link's torrent, before anything is done with it.
    async fn take_metadata(&mut self, id: Id, handle: &swarm_engine::TorrentHandle) {
        let is_link = self.book.get(id).is_some_and(|torrent| torrent.record.link.is_some());
        let Some(metainfo) = handle.metainfo().filter(|_| is_link) else { return };
        if let Some(change) = self.book.plan_metadata(id, metainfo) {
            self.commit_later(id, change).await;
        }
    }

    async fn take_stats(&mut self, id: Id, stats: &TorrentStats) {
        let Some(live) = self.live.get_mut(&id) else { return };
        live.state = stats.state;
        live.rates = (stats.rate_down, stats.rate_up);
        if live.rates != (0, 0) {
            live.active_at = Some(now());
        }
        (live.peers, live.seeds) = (stats.peers, stats.seeds);
        live.waiting = stats.waiting.as_ref().map(ToString::to_string);
        if stats.state != State::Checking {
            live.checking = None;
        }
        let before = live.before;
        let is_open = matches!(stats.state, State::Downloading | State::Seeding);
        let knows_all = is_open || stats.state == State::Paused && stats.pieces_have > 0;
        let mut sums = (0, 0);
        let mut is_news = false;
        self.book.update(id, |record| {
            let old = (record.totals, record.progress);
            record.totals = Totals {
                bytes_down: before.bytes_down + stats.totals.bytes_down,
                bytes_up: before.bytes_up + stats.totals.bytes_up,
                ..record.totals
            };
            if knows_all {
                record.progress = Progress {
                    bytes_total: stats.bytes_total,
                    bytes_verified: stats.bytes_verified,
                    pieces: stats.pieces,
                    pieces_have: stats.pieces_have,
                };
            }
            sums = (
                record.totals.bytes_down.saturating_sub(old.0.bytes_down),
                record.totals.bytes_up.saturating_sub(old.0.bytes_up),
            );
            is_news = old != (record.totals, record.progress);
        });
        self.counters.bytes_down.fetch_add(sums.0, Relaxed);
        self.counters.bytes_up.fetch_add(sums.1, Relaxed);
        if is_news {
            self.unsaved.insert(id);
        }
        if is_open {
            self.take_completion(id, stats).await;
        }
        // Once more, until nothing moves.
        if stats.rate_down > 0 || stats.rate_up > 0 || !matches!(stats.state, State::Seeding | State::Paused)
        {
            self.busy.insert(id);
        }
        self.touched.insert(id);
    }

    /// Whether everything is there is known by now.
    async fn take_completion(&mut self, id: Id, stats: &TorrentStats) {
        if let Some(change) = self.book.plan_checked(id) {
            self.commit_later(id, change).await;
        }
        let now = now();
        let change = match stats.state {
            State::Seeding => self.book.plan_completed(id, now, self.rules.borrow().on_complete.is_some()),
            _ => self.book.plan_incomplete(id),
        };
        let Some(mut change) = change else { return };
        for record in &mut change.put {
            // Up to now it was the other.
            let was = self.book.get(id).map(|torrent| torrent.record.clone());
            if let Some(mut was) = was {
                was.count_time(now, record.running_since.is_some());
                (record.totals, record.running_since) = (was.totals, was.running_since);
            }
        }
        self.commit_later(id, change).await;
    }

    /// Those that a look has to do with are known by their handles.
    pub(super) fn engine_id(&self, id: Id) -> Option<TorrentId> {
        self.live.get(&id)?.told.as_ref().map(|told| told.handle.id())
    }

    /// The session, for what is done beside this task.
    pub(super) fn session(&self) -> Arc<swarm_engine::Session> {
        Arc::clone(&self.session)
    }
}

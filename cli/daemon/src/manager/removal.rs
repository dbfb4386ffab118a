//! Removing torrents, with their data or without: beside the manager, since it takes as long as disks and trackers take.

use super::Manager;
use super::beneath::check_folders;
use super::engine::{said, source};
use crate::notice::What;
use crate::torrents::{Change, Id, Refusal};
use std::time::Duration;
use swarm_engine::{AddTorrent, Data};

/// How long after a failure the end of a removal is written again.
pub(super) const WRITE_RETRY: Duration = Duration::from_secs(10);

/// A removal has ended.
#[derive(Debug)]
pub(super) struct Removed {
    id: Id,
    result: Result<(), String>,
}

impl Manager {
    /// Begins to remove a torrent, unless that has begun.
    pub(super) fn remove_data(&mut self, id: Id) {
        let engine = self.engine_id(id);
        let rules = self.rules.borrow().clone();
        let Some(torrent) = self.book.get(id) else { return };
        let Some(data) = torrent.record.removing else { return };
        let live = self.live.entry(id).or_default();
        if std::mem::replace(&mut live.is_removed, true) {
            return;
        }
        let (session, removed) = (self.session(), self.removed.clone());
        // What does not run is opened once more, to delete what is known to be its own.
        let closed = engine.is_none() && data == Data::Delete && torrent.metainfo.is_some();
        let add = closed.then(|| {
            source(torrent)
                .map(|source| match torrent.record.options.seed {
                    true => AddTorrent::seed(source, &torrent.record.dir),
                    false => AddTorrent::download(source, &torrent.record.dir),
                })
                .map(|add| {
                    let record = &torrent.record;
                    add.paused(true).layout(record.layout.clone()).overwrite(record.options.overwrite)
                })
        });
        let dir = torrent.record.dir.clone();
        // Those that have ended are of no use any more.
        while self.removals.try_join_next().is_some() {}
        self.removals.spawn(async move {
            let result = async {
                if data == Data::Delete {
                    // What is deleted lies where it was added, whatever was put there since.
                    check_folders(vec![dir], rules).await?;
                }
                let engine = match add.transpose()? {
                    Some(add) => Some(session.add(add).await.map_err(|error| said(&error))?.id()),
                    None => engine,
                };
                match engine {
                    Some(engine) => session.remove(engine, data).await.map_err(|error| said(&error)),
                    None => Ok(()),
                }
            };
            let result = result.await;
            drop(session);
            let _ = removed.send(Removed { id, result });
        });
    }

    pub(super) async fn on_removed(&mut self, Removed { id, result }: Removed) {
        self.forget_told(id);
        let data = self.book.get(id).and_then(|torrent| torrent.record.removing);
        let outcome = match result {
            // Without its data, what ended it before is nobody's concern.
            Err(message) if data == Some(Data::Delete) => {
                if let Some(change) = self.book.plan_kept(id) {
                    let _ = self.commit(change).await;
                }
                let live = self.live.entry(id).or_default();
                (live.is_removed, live.failure) = (false, Some(message.clone()));
                Err(Refusal::Engine(message))
            }
            _ => match self.commit(Change::gone(id)).await {
                Ok(()) => Ok(()),
                Err(error) => {
                    self.write_again_later(id);
                    Err(error)
                }
            },
        };
        let waiters = match outcome {
            Ok(()) => {
                self.touched.remove(&id);
                self.unsaved.remove(&id);
                self.runs.remove(&id);
                let revision = self.table.write(|table| {
                    table.remove(id);
                    table.revision()
                });
                self.notify(Some(id), What::Removed { revision });
                self.live.remove(&id).map(|live| live.waiters)
            }
            Err(_) => self.live.get_mut(&id).map(|live| std::mem::take(&mut live.waiters)),
        };
        self.settle().await;
        for waiter in waiters.into_iter().flatten() {
            let _ = waiter.send(outcome.clone());
        }
    }

    /// Its data is gone, and the database has not heard of it.
    fn write_again_later(&self, id: Id) {
        let removed = self.removed.clone();
        tokio::spawn(async move {
            tokio::time::sleep(WRITE_RETRY).await;
            let _ = removed.send(Removed { id, result: Ok(()) });
        });
    }
}

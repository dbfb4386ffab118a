//! What the manager is asked to do, and how it does it: plan, commit, apply, and answer when readers see it.

use super::operations::Operation;
use super::{Manager, now};
use crate::adding;
use crate::config::Rules;
use crate::settings::SettingsEdit;
use crate::torrents::book::What;
use crate::torrents::{Edit, Id, LabelsEdit, New, Refusal};
use std::sync::Arc;
use swarm_engine::{Data, MetainfoSpool};
use tokio::sync::{mpsc, oneshot};

type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// What the manager is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Add(Box<New>, Reply<Id>),
    Edit(Vec<Id>, Box<Edit>, Reply<()>),
    Remove(Id, Data, Reply<()>),
    Reannounce(Id, Reply<()>),
    Settings(Box<SettingsEdit>, Reply<()>),
    Labels(LabelsEdit, Reply<()>),
    Operation(Box<Operation>),
    Reload(Box<Rules>, Reply<()>),
    Ping(Reply<()>),
    Stop(oneshot::Sender<()>),
}

/// Asks the manager. Clones ask the same one.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    spool: MetainfoSpool,
}

impl Handle {
    pub(super) fn new(commands: mpsc::Sender<Command>, spool: MetainfoSpool) -> Handle {
        Handle { commands, spool }
    }

    pub(super) async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Refusal::Stopping)?;
        answer.await.unwrap_or(Err(Refusal::Stopping))
    }

    /// Adds a torrent.
    ///
    /// # Errors
    /// Why not.
    pub async fn add(&self, mut new: New) -> Result<Id, Refusal> {
        let spool = self.spool.clone();
        let prepare = move || {
            adding::expect_room(&new)?;
            if let What::Metainfo(metainfo) = &mut new.what {
                *metainfo = Arc::new(spool.keep(Arc::unwrap_or_clone(Arc::clone(metainfo))));
            }
            Ok(new)
        };
        let new = tokio::task::spawn_blocking(prepare).await.map_err(|_| Refusal::Stopping)??;
        self.ask(|reply| Command::Add(Box::new(new), reply)).await
    }

    /// Changes torrents: all of them, or none.
    ///
    /// # Errors
    /// Why not.
    pub async fn edit(&self, ids: Vec<Id>, edit: Edit) -> Result<(), Refusal> {
        self.ask(|reply| Command::Edit(ids, Box::new(edit), reply)).await
    }

    /// Removes a torrent, and returns once it is gone.
    ///
    /// # Errors
    /// Why not. If its data could not be deleted, it stays, paused.
    pub async fn remove(&self, id: Id, data: Data) -> Result<(), Refusal> {
        self.ask(|reply| Command::Remove(id, data, reply)).await
    }

    /// Announces a torrent now, as far as its trackers allow.
    ///
    /// # Errors
    /// If there is no such torrent.
    pub async fn reannounce(&self, id: Id) -> Result<(), Refusal> {
        self.ask(|reply| Command::Reannounce(id, reply)).await
    }

    /// Has other rules in force.
    ///
    /// # Errors
    /// If the daemon is ending.
    pub async fn reload(&self, rules: Rules) -> Result<(), Refusal> {
        self.ask(|reply| Command::Reload(Box::new(rules), reply)).await
    }

    /// Returns once the manager has done what it was asked before.
    ///
    /// # Errors
    /// [`Refusal::Stopping`] if it is not there any more, [`Refusal::Store`] if the database takes nothing.
    pub async fn ping(&self) -> Result<(), Refusal> {
        self.ask(Command::Ping).await
    }

    /// Ends the daemon's torrents, saving everything. Returns once that is done.
    pub async fn stop(&self) {
        let (done, ended) = oneshot::channel();
        if self.commands.send(Command::Stop(done)).await.is_ok() {
            let _ = ended.await;
        }
    }
}

impl Manager {
    pub(super) async fn on_command(&mut self, command: Command) {
        match command {
            Command::Add(new, reply) => {
                let added = self.add(*new).await;
                self.answer(reply, added).await;
            }
            Command::Edit(ids, edit, reply) => {
                let edited = self.edit(&ids, &edit).await;
                self.answer(reply, edited).await;
            }
            Command::Remove(id, data, reply) => match self.book.plan_removal(id, data) {
                Ok(change) => match self.commit(change).await {
                    Ok(()) => self.live.entry(id).or_default().waiters.push(reply),
                    Err(error) => drop(reply.send(Err(error))),
                },
                Err(error) => drop(reply.send(Err(error))),
            },
            Command::Reannounce(id, reply) => {
                let known = self.book.get(id).ok_or_else(|| Refusal::NoSuchTorrent(id.to_string()));
                if let Some(told) = self.live.get(&id).and_then(|live| live.told.as_ref()) {
                    told.handle.reannounce();
                }
                let _ = reply.send(known.map(|_| ()));
            }
            Command::Settings(edit, reply) => {
                let set = self.set_settings(&edit).await;
                self.answer(reply, set).await;
            }
            Command::Operation(operation) => self.on_operation(*operation).await,
            Command::Labels(edit, reply) => {
                let set = self.set_labels(edit).await;
                self.answer(reply, set).await;
            }
            Command::Reload(rules, reply) => {
                self.reload(*rules);
                self.answer(reply, Ok(())).await;
            }
            Command::Ping(reply) => {
                // Without a path in it: who asks may be anybody.
                let why = |is_full| if is_full { ": its disk is full" } else { "" };
                let refusal = |is_full| Refusal::Store {
                    message: format!("the database takes nothing{}", why(is_full)),
                    is_full,
                };
                let _ = reply.send(self.store_fails.map_or(Ok(()), |is_full| Err(refusal(is_full))));
            }
            Command::Stop(_) => {}
        }
    }

    /// Answers once readers see what was done.
    pub(super) async fn answer<T>(&mut self, reply: Reply<T>, result: Result<T, Refusal>) {
        self.settle().await;
        let _ = reply.send(result);
    }

    async fn add(&mut self, new: New) -> Result<Id, Refusal> {
        let (id, change) = self.book.plan_add(new, now())?;
        self.commit(change).await?;
        self.live.entry(id).or_default();
        Ok(id)
    }

    async fn edit(&mut self, ids: &[Id], edit: &Edit) -> Result<(), Refusal> {
        let change = self.book.plan_edit(ids, edit)?;
        self.commit(change).await?;
        for id in ids {
            if !edit.priorities.is_empty() {
                // Other files count then.
                self.end_check(*id);
            }
            if edit.paused == Some(false) || edit.recheck {
                // Whatever ended it may be mended.
                let live = self.live.entry(*id).or_default();
                (live.failure, live.trouble) = (None, None);
            }
        }
        Ok(())
    }
}

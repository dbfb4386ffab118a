//! What is done with a torrent beyond its options: its files moved and renamed, addresses banned, streams let in.

use super::Manager;
use super::beneath::check_folders;
use super::commands::{Command, Handle};
use super::engine::{add_torrent, said};
use super::removal::WRITE_RETRY;
use crate::notice::What;
use crate::torrents::{Change, Id, Moving, Refusal};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use swarm_engine::Data;
use tokio::sync::oneshot;

/// How many addresses may be banned.
const BANS_MAX: usize = 10_000;

/// What becomes of a torrent's files when it gets another folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// They are moved there. Nothing may be there under their names.
    Move,
    /// They are there already, or are downloaded anew; all that is there is checked. What is in the old folder stays.
    Leave,
}

/// What the manager is asked to do with a torrent's files, with addresses and with streams.
#[derive(Debug)]
pub(super) enum Operation {
    Move(Id, PathBuf, Files, Reply<()>),
    Rename(Id, String, String, Reply<()>),
    Ban(Vec<IpAddr>, Reply<()>),
    Unban(Vec<IpAddr>, Reply<()>),
    StreamToken(Id, Reply<String>),
    EndStreams(Id, Reply<()>),
}

type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

impl Handle {
    async fn operate<T>(&self, operation: impl FnOnce(Reply<T>) -> Operation) -> Result<T, Refusal> {
        self.ask(|reply| Command::Operation(Box::new(operation(reply)))).await
    }

    /// Gives a torrent another folder, one that [`crate::adding::folder`] has let pass. Returns once that is written down; the torrent's
    /// state is [`State::Moving`](crate::table::State::Moving) for as long as it takes.
    ///
    /// # Errors
    /// Why not.
    pub async fn move_to(&self, id: Id, dir: PathBuf, files: Files) -> Result<(), Refusal> {
        self.operate(|reply| Operation::Move(id, dir, files, reply)).await
    }

    /// Gives a file or folder of a torrent another path in it, and returns once it has that. Both are whole paths with `/`, the name of the
    /// torrent's own file or folder first; that may change too, by itself.
    ///
    /// # Errors
    /// Why not.
    pub async fn rename(&self, id: Id, from: String, to: String) -> Result<(), Refusal> {
        self.operate(|reply| Operation::Rename(id, from, to, reply)).await
    }

    /// Exchanges nothing with these addresses from now on, in all torrents. Connections to them end.
    ///
    /// # Errors
    /// If there were too many, or they could not be written.
    pub async fn ban(&self, addresses: Vec<IpAddr>) -> Result<(), Refusal> {
        self.operate(|reply| Operation::Ban(addresses, reply)).await
    }

    /// Lifts bans. [`Table::bans`](crate::table::Table::bans) has those that are in force.
    ///
    /// # Errors
    /// If it could not be written.
    pub async fn unban(&self, addresses: Vec<IpAddr>) -> Result<(), Refusal> {
        self.operate(|reply| Operation::Unban(addresses, reply)).await
    }

    /// The token by which a torrent's files can be streamed, as `/stream/TOKEN/FILE`. The same each time.
    ///
    /// # Errors
    /// If there is no such torrent, or it could not be written.
    pub async fn stream_token(&self, id: Id) -> Result<String, Refusal> {
        self.operate(|reply| Operation::StreamToken(id, reply)).await
    }

    /// Takes that token back: nobody streams by it any more. The next one is another.
    ///
    /// # Errors
    /// If there is no such torrent, or it could not be written.
    pub async fn end_streams(&self, id: Id) -> Result<(), Refusal> {
        self.operate(|reply| Operation::EndStreams(id, reply)).await
    }
}

/// A torrent's files have been moved, or have not.
#[derive(Debug)]
pub(super) struct Moved {
    id: Id,
    result: Result<(), String>,
    /// It was only taken out of the session, for its new folder.
    is_restart: bool,
}

impl Manager {
    pub(super) async fn on_operation(&mut self, operation: Operation) {
        match operation {
            Operation::Move(id, dir, Files::Move, reply) => {
                let planned = self.book.plan_relocation(id, dir);
                let begun = self.begin_move(id, planned).await;
                self.answer(reply, begun.map(|_| ())).await;
            }
            Operation::Move(id, dir, Files::Leave, reply) => {
                let left = self.leave_files(id, dir).await;
                self.answer(reply, left).await;
            }
            Operation::Rename(id, from, to, reply) => {
                let planned = self.book.plan_rename(id, &from, &to);
                match self.begin_move(id, planned).await {
                    Ok(true) => self.live.entry(id).or_default().renames.push(reply),
                    done => drop(reply.send(done.map(|_| ()))),
                }
            }
            Operation::Ban(addresses, reply) => {
                let set = self.set_bans(&addresses, true).await;
                let _ = reply.send(set);
            }
            Operation::Unban(addresses, reply) => {
                let set = self.set_bans(&addresses, false).await;
                let _ = reply.send(set);
            }
            Operation::StreamToken(id, reply) => {
                let token = self.stream_token(id).await;
                self.answer(reply, token).await;
            }
            Operation::EndStreams(id, reply) => {
                let ended = match self.book.plan_stream_token(id, None) {
                    Ok(change) => self.commit(change).await,
                    Err(refusal) => Err(refusal),
                };
                self.answer(reply, ended).await;
            }
        }
    }

    /// Writes down that files are to be moved. Whether any are.
    async fn begin_move(&mut self, id: Id, planned: Result<Change, Refusal>) -> Result<bool, Refusal> {
        let change = planned?;
        if change == Change::default() {
            return Ok(false);
        }
        let moves = change.put.iter().any(|record| record.moving.is_some());
        if !moves {
            // A link whose metadata is not here yet: the session takes it from anew.
            self.commit(change).await?;
            self.restart(id);
            return Ok(false);
        }
        self.commit(change).await?;
        let live = self.live.entry(id).or_default();
        (live.moves_anew, live.trouble) = (true, None);
        Ok(true)
    }

    async fn leave_files(&mut self, id: Id, dir: PathBuf) -> Result<(), Refusal> {
        let change = self.book.plan_other_dir(id, dir)?;
        self.commit(change).await?;
        let live = self.live.entry(id).or_default();
        (live.failure, live.trouble) = (None, None);
        self.end_check(id);
        self.restart(id);
        Ok(())
    }

    /// Takes a torrent out of the session, so that it is added again as it is now.
    fn restart(&mut self, id: Id) {
        let live = self.live.entry(id).or_default();
        let Some(handle) = live.told.as_ref().map(|told| told.handle.clone()) else { return };
        live.is_apart = true;
        self.forget_told(id);
        let moved = self.moved.clone();
        self.moves.spawn(async move {
            let _ = handle.stop().await;
            let _ = moved.send(Moved { id, result: Ok(()), is_restart: true });
        });
    }

    /// Begins to move a torrent's files, unless that has begun.
    pub(super) fn move_files(&mut self, id: Id) {
        let Some(torrent) = self.book.get(id) else { return };
        let Some(Moving { dir, layout }) = torrent.record.moving.clone() else { return };
        let from = torrent.record.dir.clone();
        // One that does not run is in the session only for this.
        let add = add_torrent(torrent).map(|add| add.paused(true));
        let live = self.live.entry(id).or_default();
        if std::mem::replace(&mut live.is_apart, true) {
            return;
        }
        let resumes = !std::mem::take(&mut live.moves_anew);
        let handle = live.told.as_ref().map(|told| told.handle.clone());
        let (session, moved) = (self.session(), self.moved.clone());
        let (folders, rules) = (vec![from, dir.clone()], self.rules.borrow().clone());
        while self.moves.try_join_next().is_some() {}
        self.moves.spawn(async move {
            let result = async {
                check_folders(folders, rules).await?;
                match handle {
                    Some(handle) => handle.move_to(dir, layout, resumes).await.map_err(|error| said(&error)),
                    None => {
                        let handle = session.add(add?).await.map_err(|error| said(&error))?;
                        let result = handle.move_to(dir, layout, resumes).await;
                        let _ = session.remove(handle.id(), Data::Keep).await;
                        result.map_err(|error| said(&error))
                    }
                }
            };
            let result = result.await;
            drop(session);
            let _ = moved.send(Moved { id, result, is_restart: false });
        });
    }

    pub(super) async fn on_moved(&mut self, Moved { id, result, is_restart }: Moved) {
        if !is_restart
            && let Some(change) = self.book.plan_moved(id, result.is_ok())
            && self.commit(change).await.is_err()
        {
            // The files are where they are; the database has to hear of it.
            let moved = self.moved.clone();
            tokio::spawn(async move {
                tokio::time::sleep(WRITE_RETRY).await;
                let _ = moved.send(Moved { id, result, is_restart });
            });
            return;
        }
        let live = self.live.entry(id).or_default();
        live.is_apart = false;
        let waiters = std::mem::take(&mut live.renames);
        if let Err(message) = &result {
            tracing::warn!(torrent = %id, %message, "its files are not moved");
            let message = format!("its files are not moved: {message}");
            live.trouble = Some(message.clone());
            self.notify(Some(id), What::Warning { message });
        }
        self.touched.insert(id);
        self.looks.insert(id);
        self.turns_due.insert(id);
        self.settle().await;
        for waiter in waiters {
            let _ = waiter.send(result.clone().map_err(Refusal::Engine));
        }
    }

    async fn stream_token(&mut self, id: Id) -> Result<String, Refusal> {
        if let Some(token) = self.book.get(id).and_then(|torrent| torrent.record.stream_token.clone()) {
            return Ok(token);
        }
        let token = crate::stream::new_token().map_err(|error| Refusal::Engine(error.to_string()))?;
        let change = self.book.plan_stream_token(id, Some(token.clone()))?;
        self.commit(change).await?;
        Ok(token)
    }

    async fn set_bans(&mut self, addresses: &[IpAddr], on: bool) -> Result<(), Refusal> {
        let before = self.table.read().bans();
        let mut bans = BTreeSet::clone(&before);
        for address in addresses.iter().map(IpAddr::to_canonical) {
            match on {
                true => bans.insert(address),
                false => bans.remove(&address),
            };
        }
        if bans.len() > BANS_MAX {
            return Err(Refusal::Invalid(format!("at most {BANS_MAX} addresses can be banned")));
        }
        if bans == *before {
            return Ok(());
        }
        let written = bans.clone();
        let result = self.store.run(move |store| store.set_bans(&written)).await;
        self.on_written(&result);
        result.map_err(|error| super::refusal(&error))?;
        self.apply_bans(bans);
        if !on {
            self.name_peers_again().await;
        }
        Ok(())
    }

    /// Peers that users added and that were banned are dialled again.
    async fn name_peers_again(&mut self) {
        // Once the session has answered, the bans are lifted.
        self.note_active().await;
        for (id, live) in &self.live {
            let peers = self.book.get(*id).map(|torrent| &torrent.record.options.peers);
            if let (Some(told), Some(peers)) = (&live.told, peers.filter(|peers| !peers.is_empty())) {
                told.handle.add_peers(peers.iter().copied());
            }
        }
    }

    /// Has these bans in force.
    pub(super) fn apply_bans(&mut self, bans: BTreeSet<IpAddr>) {
        self.session.set_banned(bans.iter().copied());
        self.table.write(|table| table.set_bans(bans));
    }
}

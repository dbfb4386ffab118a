//! What is done with a torrent beyond its options: its files moved and renamed, addresses banned, streams let in.

use super::Manager;
use super::commands::{Command, Handle};
use crate::torrents::{Id, Refusal};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
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
}

impl Manager {
    pub(super) async fn on_operation(&mut self, operation: Operation) {
        match operation {
            Operation::Move(_, _, _, reply) => drop(reply.send(Err(Refusal::NotBuilt("move")))),
            Operation::Rename(_, _, _, reply) => drop(reply.send(Err(Refusal::NotBuilt("rename")))),
            Operation::Ban(addresses, reply) => {
                let set = self.set_bans(&addresses, true).await;
                let _ = reply.send(set);
            }
            Operation::Unban(addresses, reply) => {
                let set = self.set_bans(&addresses, false).await;
                let _ = reply.send(set);
            }
            Operation::StreamToken(_, reply) => drop(reply.send(Err(Refusal::NotBuilt("streams")))),
        }
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
        Ok(())
    }

    /// Has these bans in force.
    pub(super) fn apply_bans(&mut self, bans: BTreeSet<IpAddr>) {
        self.session.set_banned(bans.iter().copied());
        self.table.write(|table| table.set_bans(bans));
    }
}

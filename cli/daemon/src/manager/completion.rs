//! Programs that are run when torrents are complete: each completion has one turn. That it is due is written together with the
//! completion, and that its turn has come before the program is started: after a crash it is run at most once, never twice.

use super::Manager;
use crate::completion::About;
use crate::notice::What;
use crate::torrents::{Change, Id, Record};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long programs may go on when the daemon ends.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Those that run, and whose turn comes.
#[derive(Debug, Default)]
pub(super) struct Programs {
    due: BTreeSet<Id>,
    running: JoinSet<(Id, String, String)>,
}

impl Programs {
    /// Waits for those that run, for a while. What is left is killed.
    pub(super) async fn end(mut self) {
        let ended = async { while self.running.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(END_TIMEOUT, ended).await;
        self.running.shutdown().await;
    }
}

impl Manager {
    /// Takes note of whether a torrent's completion has still to have its turn.
    pub(super) fn note_due(&mut self, id: Id) {
        let is_due = self.book.get(id).is_some_and(|torrent| torrent.record.program_due);
        match is_due {
            true => self.programs.due.insert(id),
            false => self.programs.due.remove(&id),
        };
    }

    /// Starts programs whose turn it is, and tells how others have ended.
    pub(super) async fn run_programs(&mut self) {
        while let Some(ended) = self.programs.running.try_join_next() {
            let Ok((id, name, status)) = ended else { continue };
            match status == "exit status: 0" {
                true => tracing::info!(torrent = %id, name, status, "on-complete has ended"),
                false => tracing::warn!(torrent = %id, name, status, "on-complete has ended"),
            }
            self.notify(Some(id), What::ProgramEnded { status });
        }
        while let Some(id) = self.programs.due.first().copied() {
            let program = self.rules.borrow().on_complete.clone();
            let has_place =
                program.as_ref().is_none_or(|program| self.programs.running.len() < program.at_once.max(1));
            if !has_place {
                return;
            }
            let Some(torrent) = self.book.get(id) else {
                self.programs.due.remove(&id);
                continue;
            };
            let about = about(&torrent.record);
            let taken = Record { program_due: false, ..torrent.record.clone() };
            if self.commit(Change { put: vec![taken], ..Change::default() }).await.is_err() {
                return;
            }
            // If there is none by now, its turn is over all the same.
            let Some(program) = program else { continue };
            self.programs.running.spawn(async move {
                let status = program.run(&about).await;
                (id, about.name, status)
            });
        }
    }
}

fn about(record: &Record) -> About {
    let hash = record.hashes.swarms().next().map(|hash| hash.to_string());
    About {
        id: record.id.0,
        name: record.name.clone(),
        hash: hash.unwrap_or_default(),
        dir: record.dir.clone(),
        path: record.root().unwrap_or_else(|| record.dir.clone()),
        category: record.options.category.clone().unwrap_or_default(),
    }
}

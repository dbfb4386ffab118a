//! What moving and renaming a torrent's files changes.

use super::{Book, Change, files_of};
use crate::torrents::Refusal;
use crate::torrents::record::{Id, Moving, Record};
use std::path::PathBuf;
use swarm_engine::{Layout, Metainfo};

impl Book {
    /// What it changes that a torrent's files are to be moved to another folder.
    ///
    /// # Errors
    /// If they may not be there.
    pub fn plan_relocation(&self, id: Id, dir: PathBuf) -> Result<Change, Refusal> {
        let torrent = self.expect_at_rest(id)?;
        let moving = Moving { dir, layout: torrent.record.layout.clone() };
        if torrent.metainfo.is_none() {
            // There are none yet.
            return Ok(Change::of(Record { dir: moving.dir, ..torrent.record.clone() }));
        }
        self.plan_moving(id, moving)
    }

    /// What it changes that a file or folder of a torrent is to have another path in it.
    ///
    /// # Errors
    /// If it cannot have it.
    pub fn plan_rename(&self, id: Id, from: &str, to: &str) -> Result<Change, Refusal> {
        let torrent = self.expect_at_rest(id)?;
        let metainfo = torrent.metainfo.as_ref().ok_or(Refusal::NoMetadata)?;
        let layout = torrent.record.layout.renamed(&metainfo.info, from, to);
        let layout = layout.map_err(|error| Refusal::Invalid(error.to_string()))?;
        self.plan_moving(id, Moving { dir: torrent.record.dir.clone(), layout })
    }

    fn plan_moving(&self, id: Id, moving: Moving) -> Result<Change, Refusal> {
        let torrent = self.expect(id)?;
        let at = |moving: &Moving| Record {
            dir: moving.dir.clone(),
            layout: moving.layout.clone(),
            ..torrent.record.clone()
        };
        let there = at(&moving);
        if (&there.dir, &there.layout) == (&torrent.record.dir, &torrent.record.layout) {
            return Ok(Change::default());
        }
        if let Some(metainfo) = &torrent.metainfo {
            self.expect_free(&there, metainfo)?;
        }
        Ok(Change::of(Record { moving: Some(moving), ..torrent.record.clone() }))
    }

    /// What it changes that a torrent has another folder, in which its files are, or are to be.
    ///
    /// # Errors
    /// If it may not write there.
    pub fn plan_other_dir(&self, id: Id, dir: PathBuf) -> Result<Change, Refusal> {
        let torrent = self.expect_at_rest(id)?;
        let mut record = Record { dir, ..torrent.record.clone() };
        record.options.recheck = true;
        if let Some(metainfo) = torrent.metainfo.as_ref().filter(|_| record.writes()) {
            self.expect_free(&record, metainfo)?;
        }
        Ok(Change::of(record))
    }

    /// What it changes that a torrent's files have been moved, or have not.
    pub fn plan_moved(&self, id: Id, is_done: bool) -> Option<Change> {
        let mut record = self.get(id)?.record.clone();
        let Moving { dir, layout } = record.moving.take()?;
        if is_done {
            (record.dir, record.layout) = (dir, layout);
        }
        Some(Change::of(record))
    }

    /// What it changes that a torrent's files can be streamed by this token, or by none any more.
    ///
    /// # Errors
    /// If there is no such torrent.
    pub fn plan_stream_token(&self, id: Id, token: Option<String>) -> Result<Change, Refusal> {
        let record = self.expect(id)?.record.clone();
        Ok(Change::of(Record { stream_token: token, ..record }))
    }

    fn expect_at_rest(&self, id: Id) -> Result<&super::Torrent, Refusal> {
        let torrent = self.expect(id)?;
        if torrent.record.moving.is_some() { Err(Refusal::Moving) } else { Ok(torrent) }
    }

    /// Nobody else writes where this torrent's files would be.
    fn expect_free(&self, record: &Record, metainfo: &Metainfo) -> Result<(), Refusal> {
        let Some(root) = record.root() else { return Ok(()) };
        let conflict = self.claims.conflict(&root, Some(record.id), |other| match other {
            None => files_of(record, metainfo),
            Some(other) => self.files_of_other(other),
        });
        match conflict {
            None => Ok(()),
            Some((id, path)) => Err(self.taken(id, path)),
        }
    }
}

/// The paths that a torrent has to itself: where its files are, if it writes, and where they go.
pub(super) fn roots(record: &Record, is_writing: bool) -> Vec<PathBuf> {
    let now = record.root().filter(|_| is_writing);
    let then = record.moving.as_ref().and_then(|moving| root_at(record, moving));
    now.into_iter().chain(then).collect()
}

fn root_at(record: &Record, moving: &Moving) -> Option<PathBuf> {
    record.link.is_none().then(|| moving.dir.join(root_name(record, &moving.layout)))
}

fn root_name<'a>(record: &'a Record, layout: &'a Layout) -> &'a str {
    layout.root().unwrap_or(&record.name)
}

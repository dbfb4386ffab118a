//! What is kept of a torrent.

use super::goals::Goal;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use swarm_engine::{Data, InfoHashes, Layout};
use utoipa::ToSchema;

/// A torrent's number in this daemon. Never given twice.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
pub struct Id(pub i64);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Id {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Id, Self::Err> {
        text.parse().map(Id)
    }
}

/// A torrent, as it comes back after a restart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Its number.
    pub id: Id,
    /// Its info-hashes, as far as they are known.
    pub hashes: InfoHashes,
    /// Its name; of a link without one its info-hash, until its metadata is here.
    pub name: String,
    /// The link that it was added by, as long as its metadata is not here.
    pub link: Option<String>,
    /// The folder that holds its file or folder: absolute, without links.
    pub dir: PathBuf,
    /// What users set.
    pub options: Options,
    /// What has been transferred, and for how long.
    pub totals: Totals,
    /// How far it was when it was last looked at.
    pub progress: Progress,
    /// When it was added, in seconds since 1970.
    pub added_at: i64,
    /// When everything wanted was there, in seconds since 1970.
    pub completed_at: Option<i64>,
    /// Since when it runs, in seconds since 1970, as far as that is not in its totals.
    pub running_since: Option<i64>,
    /// Which goal has stopped it. While it is set, goals do not stop it again.
    pub stopped_by: Option<StoppedBy>,
    /// It is being removed, and this becomes of its data.
    pub removing: Option<Data>,
    /// Other names of its files on disk.
    pub layout: Layout,
    /// Where its files are being moved to.
    pub moving: Option<Moving>,
    /// It is complete, and the program that is run then has not had its turn.
    pub program_due: bool,
    /// What its streams are asked for by, if ever one was.
    pub stream_token: Option<String>,
    /// Another torrent writes where it wants to, and was there first, whichever has the lower number.
    pub waits_for_path: bool,
}

/// Where a torrent's files are to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moving {
    /// The folder that is to hold its file or folder: absolute, without links.
    pub dir: PathBuf,
    /// Their names there.
    pub layout: Layout,
}

/// What users set of a torrent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// It takes no part in its swarm.
    pub paused: bool,
    /// It needs no turn in the queue.
    pub forced: bool,
    /// Its data is only read, never written.
    pub seed: bool,
    /// What it is called in lists, if not by its own name.
    pub name: Option<String>,
    /// Pieces are started in their order.
    pub sequential: bool,
    /// The first and the last piece of each file are downloaded first.
    pub first_last: bool,
    /// All data is to be checked: when it starts next, or beside those that run.
    pub recheck: bool,
    /// Files in its way are its own though it has not written them, and are completed, until all that it has is complete.
    pub overwrite: bool,
    /// The priority of each file; `None`: all are wanted alike.
    pub priorities: Option<Vec<u8>>,
    /// Its limit of payload sent, in bytes/s.
    pub upload_limit: Option<u64>,
    /// Its limit of payload received, in bytes/s.
    pub download_limit: Option<u64>,
    /// It stops when it has sent this many times its size.
    pub ratio_limit: Goal<f64>,
    /// It stops when it has seeded for so many seconds.
    pub seed_time_limit: Goal<u64>,
    /// Trackers that users added, a tier each.
    pub trackers: Vec<String>,
    /// Web seeds that users added.
    pub web_seeds: Vec<String>,
    /// All of its trackers, in tiers, once users have done more than to add some.
    pub tiers: Option<Vec<Vec<String>>>,
    /// All of its web seeds, once users have removed some.
    pub all_web_seeds: Option<Vec<String>>,
    /// Peers that users added.
    pub peers: Vec<SocketAddr>,
    /// Its category.
    pub category: Option<String>,
    /// Its tags, sorted.
    pub tags: Vec<String>,
    /// Its place in the queue: lower is sooner. Only the order means something.
    pub position: i64,
}

/// What a torrent has transferred since it was added, in bytes of payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Received.
    pub bytes_down: u64,
    /// Sent.
    pub bytes_up: u64,
    /// How long it has taken part in its swarm, in seconds.
    pub seconds_active: u64,
    /// Of these, how long everything wanted was there.
    pub seconds_seeding: u64,
}

/// How far a torrent is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes wanted.
    pub bytes_total: u64,
    /// Of these, verified.
    pub bytes_verified: u64,
    /// Pieces.
    pub pieces: u32,
    /// Of these, verified.
    pub pieces_have: u32,
}

/// A goal that stopped a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoppedBy {
    /// It has sent enough.
    Ratio,
    /// It has seeded long enough.
    SeedTime,
}

impl Record {
    /// Whether everything wanted was there when it was last looked at.
    pub fn is_complete(&self) -> bool {
        self.options.seed || self.completed_at.is_some()
    }

    /// Whether it may write to its path, once its name is known.
    pub fn writes(&self) -> bool {
        !self.options.seed && self.link.is_none()
    }

    /// Where its file or folder is; `None` while its name is not known.
    pub fn root(&self) -> Option<PathBuf> {
        self.link.is_none().then(|| self.dir.join(self.layout.root().unwrap_or(&self.name)))
    }

    /// What lists call it.
    pub fn shown_name(&self) -> &str {
        self.options.name.as_deref().unwrap_or(&self.name)
    }

    /// How long it has seeded, in seconds, up to now.
    pub fn seconds_seeding(&self, now: i64) -> u64 {
        let more = self.running_since.filter(|_| self.is_complete()).map_or(0, |since| elapsed(since, now));
        self.totals.seconds_seeding + more
    }

    /// Counts the time that it has run up to now, and whether it runs on.
    pub fn count_time(&mut self, now: i64, runs_on: bool) {
        if let Some(since) = self.running_since {
            self.totals.seconds_seeding = self.seconds_seeding(now);
            self.totals.seconds_active += elapsed(since, now);
        }
        self.running_since = runs_on.then_some(now);
    }

    /// What it has sent in multiples of its size.
    pub fn ratio(&self) -> f64 {
        match self.progress.bytes_total {
            0 => 0.0,
            total => self.totals.bytes_up as f64 / total as f64,
        }
    }
}

/// The clock may be set back meanwhile.
fn elapsed(since: i64, now: i64) -> u64 {
    u64::try_from(now.saturating_sub(since)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_while_it_runs_and_as_seeded_once_complete() {
        let mut record = Record::default();
        record.count_time(100, true);
        record.count_time(110, true);
        assert_eq!((record.totals.seconds_active, record.totals.seconds_seeding), (10, 0));
        record.completed_at = Some(110);
        assert_eq!(record.seconds_seeding(115), 5);
        record.count_time(130, false);
        assert_eq!((record.totals.seconds_active, record.totals.seconds_seeding), (30, 20));
        record.count_time(500, true);
        record.count_time(400, false);
        assert_eq!(
            (record.totals.seconds_active, record.totals.seconds_seeding),
            (30, 20),
            "the clock was set back"
        );
    }
}

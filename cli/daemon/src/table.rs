//! What readers see: a row for each torrent, and which rows have changed since when.
//!
//! Each change gets a revision. A reader who has seen the table up to one asks for what came since. Revisions go on over restarts, and
//! what is older than this process is answered with the whole table.

use crate::torrents::record::StoppedBy;
use crate::torrents::{Goal, Id};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use swarm_engine::{FileIndex, Layout, Metainfo, TorrentHandle};
use utoipa::ToSchema;

/// How many removed torrents are remembered. Who has missed more gets the whole table.
const REMOVED_MAX: usize = 10_000;
/// For how many seconds it is known which revision the table had when.
const MARKS_MAX: usize = 120;

/// What a torrent does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum State {
    /// Its metadata is fetched from peers.
    Metadata,
    /// Existing data is checked, or waits for its turn to be.
    Checking,
    /// Pieces are missing.
    Downloading,
    /// Everything wanted is there.
    Seeding,
    /// It waits for its turn in the queue.
    #[default]
    Queued,
    /// It takes no part in its swarm.
    Paused,
    /// It has ended by an error, and waits until it is resumed.
    Failed,
    /// Its files are being moved or renamed.
    Moving,
    /// It is being removed.
    Removing,
}

impl State {
    /// All of them.
    pub const ALL: [State; 9] = [
        State::Metadata,
        State::Checking,
        State::Downloading,
        State::Seeding,
        State::Queued,
        State::Paused,
        State::Failed,
        State::Moving,
        State::Removing,
    ];

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            State::Metadata => "metadata",
            State::Checking => "checking",
            State::Downloading => "downloading",
            State::Seeding => "seeding",
            State::Queued => "queued",
            State::Paused => "paused",
            State::Failed => "failed",
            State::Moving => "moving",
            State::Removing => "removing",
        }
    }
}

/// A torrent in a list. Bytes are of payload, rates in bytes/s, times in seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Summary {
    /// Its number, which stays.
    pub id: Id,
    /// Its info-hash; in version 2 alone the first 40 digits. Null for the link of a mutable torrent that is not resolved yet.
    pub info_hash: Option<String>,
    /// Its info-hash of version 1.
    pub info_hash_v1: Option<String>,
    /// Its info-hash of version 2.
    pub info_hash_v2: Option<String>,
    /// What users call it, or else its own name.
    pub name: String,
    /// The name in its metainfo.
    pub own_name: String,
    /// The folder that holds its file or folder.
    #[schema(value_type = String)]
    pub dir: PathBuf,
    /// Its file or folder itself; null while its name is not known.
    #[schema(value_type = Option<String>)]
    pub path: Option<PathBuf>,
    /// The folder that its files are being moved to.
    #[schema(value_type = Option<String>)]
    pub moving_to: Option<PathBuf>,
    /// What it does.
    pub state: State,
    /// Why nothing moves, for people; null while something does, or nothing needs to.
    pub waiting: Option<String>,
    /// What is wrong with it, for people.
    pub error: Option<String>,
    /// Whether users have paused it, or a goal has.
    pub paused: bool,
    /// The goal that has stopped it, or had before it was resumed.
    pub stopped_by: Option<StoppedBy>,
    /// Whether it runs without a turn in the queue.
    pub forced: bool,
    /// Whether its data is only read.
    pub seed: bool,
    /// Whether pieces are started in their order.
    pub sequential: bool,
    /// Whether the first and the last piece of each file are downloaded first.
    pub first_last: bool,
    /// Its place in the queue: lower is sooner. Only the order means something.
    pub position: i64,
    /// Bytes wanted; 0 while they are not known.
    pub bytes_total: u64,
    /// Of these, bytes in verified pieces.
    pub bytes_verified: u64,
    /// Pieces of the torrent; 0 while they are not known.
    pub pieces: u32,
    /// Pieces verified.
    pub pieces_have: u32,
    /// How many pieces of existing data are checked; null unless that goes on.
    pub pieces_checked: Option<u32>,
    /// How many are to be.
    pub pieces_to_check: Option<u32>,
    /// Payload received per second, now.
    pub rate_down: u64,
    /// Payload sent per second, now.
    pub rate_up: u64,
    /// Connected peers.
    pub peers: usize,
    /// Of these, peers that have everything.
    pub seeds: usize,
    /// Received since it was added.
    pub bytes_down: u64,
    /// Sent since it was added.
    pub bytes_up: u64,
    /// `bytes_up` in multiples of `bytes_total`.
    pub ratio: f64,
    /// How long it has run, up to `running_since`, in seconds.
    pub seconds_active: u64,
    /// Of these, how long everything wanted was there.
    pub seconds_seeding: u64,
    /// Since when it runs, as far as that is not in the two before; null if it does not.
    pub running_since: Option<i64>,
    /// When it has sent or received payload last, as far as that is known since the daemon was started.
    pub active_at: Option<i64>,
    /// When it was added.
    pub added_at: i64,
    /// When everything wanted was there.
    pub completed_at: Option<i64>,
    /// The limit of payload sent, in bytes/s.
    pub upload_limit: Option<u64>,
    /// The limit of payload received, in bytes/s.
    pub download_limit: Option<u64>,
    /// A ratio at which it stops, or "none"; null: as configured.
    #[schema(value_type = Option<Goal<f64>>)]
    pub ratio_limit: Option<Goal<f64>>,
    /// A time of seeding at which it stops, in seconds, or "none"; null: as configured.
    #[schema(value_type = Option<Goal<u64>>)]
    pub seed_time_limit: Option<Goal<u64>>,
    /// Its category.
    pub category: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
}

/// A torrent, and ways to more about it.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// What lists show.
    pub summary: Arc<Summary>,
    /// What is known of it; `None` as long as its metadata is not here.
    pub metainfo: Option<Arc<Metainfo>>,
    /// The link that it was added by, as long as its metadata is not here.
    pub link: Option<String>,
    /// The torrent in the session, if it is there.
    pub handle: Option<TorrentHandle>,
    /// Priorities of its files, unless all are wanted alike.
    pub priorities: Option<Arc<[u8]>>,
    /// All of its trackers, in tiers.
    pub tiers: Arc<[Vec<String>]>,
    /// All of its web seeds.
    pub web_seeds: Arc<[String]>,
    /// Other names of its files on disk.
    pub layout: Arc<Layout>,
    /// What its streams are asked for by, if anybody has.
    pub stream_token: Option<Arc<str>>,
    /// Whether it waits because the disk takes nothing.
    pub is_stalled: bool,
}

impl Row {
    /// A file's path in the torrent as it is on disk, the torrent's name first; `None` if there is no such file, or it is not known yet.
    pub fn file_path(&self, file: FileIndex) -> Option<Vec<String>> {
        self.layout.path_of(&self.metainfo.as_ref()?.info, file)
    }
}

/// All rows.
#[derive(Debug)]
pub struct Table {
    rows: BTreeMap<Id, (Row, u64)>,
    by_revision: BTreeMap<u64, Id>,
    removed: VecDeque<(u64, Id, Option<String>)>,
    revision: u64,
    /// Who has not seen the table after this revision gets all of it.
    whole_until: u64,
    bans: Arc<BTreeSet<IpAddr>>,
    /// Revisions of the last seconds: when, in seconds since 1970, and which.
    marks: VecDeque<(i64, u64)>,
}

/// An answer to who asks for the table.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Page {
    /// Ask for what came `since` this; of several pages, that of the first.
    pub revision: u64,
    /// Whether this is the table from its beginning, and what is not in it is not there: all pages of it together.
    pub full: bool,
    /// Torrents: of a full answer by number, else as they changed.
    #[schema(value_type = Vec<Summary>)]
    pub torrents: Vec<Arc<Summary>>,
    /// Numbers of torrents that have been removed; none in a full answer.
    pub removed: Vec<Id>,
    /// Their info-hashes.
    #[serde(skip)]
    pub removed_hashes: Vec<String>,
    /// There are more: of a full answer ask for those `after` this number, else `since` the revision above.
    pub next: Option<Id>,
}

/// What of the table is asked for.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// What came since this revision; `None`: all.
    pub since: Option<u64>,
    /// In a full answer, torrents with higher numbers only.
    pub after: Option<Id>,
    /// At most so many torrents.
    pub limit: usize,
}

impl Table {
    /// An empty table. `now_ms` is in milliseconds since 1970: revisions begin there, beyond those of earlier processes.
    pub fn new(now_ms: u64) -> Table {
        let revision = now_ms * 1_000;
        Table {
            rows: BTreeMap::new(),
            by_revision: BTreeMap::new(),
            removed: VecDeque::new(),
            revision,
            whole_until: revision,
            bans: Arc::default(),
            marks: VecDeque::new(),
        }
    }

    /// Notes which revision the table has now, in seconds since 1970.
    pub fn mark(&mut self, now: i64) {
        if self.marks.back().is_some_and(|(at, _)| *at >= now) {
            return;
        }
        self.marks.push_back((now, self.revision));
        if self.marks.len() > MARKS_MAX {
            self.marks.pop_front();
        }
    }

    /// A revision that the table had at this time or before.
    pub fn revision_at(&self, time: i64) -> u64 {
        let mark = self.marks.iter().rev().find(|(at, _)| *at <= time);
        mark.map_or(self.whole_until, |(_, revision)| *revision)
    }

    /// Takes over a torrent's row; whether lists show something new.
    pub fn put(&mut self, row: Row) -> bool {
        let id = row.summary.id;
        let known = self.rows.get(&id);
        if let Some((old, revision)) = known
            && old.summary == row.summary
        {
            let revision = *revision;
            self.rows.insert(id, (row, revision));
            return false;
        }
        if let Some((_, revision)) = known {
            self.by_revision.remove(revision);
        }
        self.revision += 1;
        self.by_revision.insert(self.revision, id);
        self.rows.insert(id, (row, self.revision));
        true
    }

    /// A torrent is gone.
    pub fn remove(&mut self, id: Id) {
        let Some((row, revision)) = self.rows.remove(&id) else { return };
        self.by_revision.remove(&revision);
        self.revision += 1;
        self.removed.push_back((self.revision, id, row.summary.info_hash.clone()));
        if self.removed.len() > REMOVED_MAX
            && let Some((revision, ..)) = self.removed.pop_front()
        {
            self.whole_until = revision;
        }
    }

    /// A torrent's row.
    pub fn get(&self, id: Id) -> Option<&Row> {
        self.rows.get(&id).map(|(row, _)| row)
    }

    /// How many torrents there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// When lists showed something new of a torrent last.
    pub fn revision_of(&self, id: Id) -> Option<u64> {
        self.rows.get(&id).map(|(_, revision)| *revision)
    }

    /// All rows, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Row> {
        self.rows.values().map(|(row, _)| row)
    }

    /// Addresses that users have banned.
    pub fn bans(&self) -> Arc<BTreeSet<IpAddr>> {
        Arc::clone(&self.bans)
    }

    /// Others are banned now.
    pub fn set_bans(&mut self, bans: BTreeSet<IpAddr>) {
        self.bans = Arc::new(bans);
    }

    /// The revision of the last change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What somebody asks for, of the torrents that he wants.
    pub fn page(&self, query: &Query, wants: impl Fn(&Summary) -> bool) -> Page {
        let limit = query.limit.max(1);
        match query.since.filter(|since| (self.whole_until..=self.revision).contains(since)) {
            Some(since) => self.changes(since, limit),
            None => self.full(query.after, limit, wants),
        }
    }

    fn full(&self, after: Option<Id>, limit: usize, wants: impl Fn(&Summary) -> bool) -> Page {
        let from = after.map_or(Id(i64::MIN), |after| Id(after.0.saturating_add(1)));
        let rows = self.rows.range(from..).map(|(_, (row, _))| &row.summary);
        let mut rows = rows.filter(|summary| wants(summary));
        let torrents: Vec<_> = rows.by_ref().take(limit).map(Arc::clone).collect();
        let next = rows.next().and(torrents.last()).map(|last| last.id);
        Page { revision: self.revision, full: true, torrents, next, ..Page::default() }
    }

    /// Filters do not hold here: a torrent that was wanted may not be any more, and who asks has to hear of it.
    fn changes(&self, since: u64, limit: usize) -> Page {
        let mut changed = self.by_revision.range(since + 1..);
        let shown: Vec<_> = changed.by_ref().take(limit).collect();
        let next = changed.next().map(|(_, id)| *id);
        let revision = match (next, shown.last()) {
            (Some(_), Some((revision, _))) => **revision,
            _ => self.revision,
        };
        let torrents = shown.iter().filter_map(|(_, id)| self.get(**id)).map(|row| Arc::clone(&row.summary));
        let removed = || self.removed.iter().filter(|(at, ..)| *at > since && *at <= revision);
        Page {
            revision,
            full: false,
            torrents: torrents.collect(),
            removed: removed().map(|(_, id, _)| *id).collect(),
            removed_hashes: removed().filter_map(|(.., hash)| hash.clone()).collect(),
            next,
        }
    }
}

/// The table as its one writer and all readers share it.
#[derive(Clone, Debug)]
pub struct Shared(Arc<RwLock<Table>>);

impl Shared {
    /// Shares a table.
    pub fn new(table: Table) -> Shared {
        Shared(Arc::new(RwLock::new(table)))
    }

    /// Looks at it.
    pub fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes it. Of the manager only.
    pub(crate) fn write<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: i64, name: &str) -> Row {
        let summary = Arc::new(Summary { id: Id(id), name: name.to_owned(), ..Summary::default() });
        Row { summary, ..Row::default() }
    }

    fn names(page: &Page) -> Vec<&str> {
        page.torrents.iter().map(|summary| &*summary.name).collect()
    }

    fn since(table: &Table, since: u64, limit: usize) -> Page {
        table.page(&Query { since: Some(since), after: None, limit }, |_| true)
    }

    #[test]
    fn a_list_comes_in_pages_by_number() {
        let mut table = Table::new(1);
        assert!((1..=5).all(|id| table.put(row(id, &id.to_string()))));
        let mut query = Query { limit: 2, ..Query::default() };
        let mut seen = Vec::new();
        loop {
            let page = table.page(&query, |summary| summary.name != "3");
            assert!(page.full && page.revision == table.revision());
            seen.extend(names(&page).into_iter().map(str::to_owned));
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        assert_eq!(seen, ["1", "2", "4", "5"]);
    }

    #[test]
    fn an_increment_has_what_changed_and_no_more() {
        let mut table = Table::new(1);
        assert!((1..=4).all(|id| table.put(row(id, "a"))));
        let before = table.revision();
        assert!(!table.put(row(2, "a")), "the same again");
        assert!(names(&since(&table, before, 9)).is_empty());
        assert!(table.put(row(3, "c")));
        assert!(table.put(row(1, "d")));
        table.remove(Id(2));
        let page = since(&table, before, 9);
        assert_eq!((names(&page), &page.removed[..], page.full), (vec!["c", "d"], &[Id(2)][..], false));
        assert_eq!(page.revision, table.revision());
        // A page at a time, nothing twice and nothing left out.
        let first = since(&table, before, 1);
        assert_eq!((names(&first), first.removed.len(), first.next), (vec!["c"], 0, Some(Id(1))));
        let rest = since(&table, first.revision, 1);
        assert_eq!((names(&rest), &rest.removed[..], rest.next), (vec!["d"], &[Id(2)][..], None));
    }

    #[test]
    fn who_has_missed_too_much_gets_the_whole_table() {
        let mut table = Table::new(1_000);
        table.put(row(1, "a"));
        let start = table.revision();
        assert!(since(&table, 5, 9).full, "of a process before this one");
        assert!(since(&table, start + 1, 9).full, "of the future");
        for id in 10..=(10 + REMOVED_MAX as i64) {
            table.put(row(id, "b"));
            table.remove(Id(id));
        }
        let page = since(&table, start, 9);
        assert!(page.full && names(&page) == ["a"]);
        let page = since(&table, table.revision() - 1, 9);
        assert!(!page.full && page.removed.len() == 1);
    }
}

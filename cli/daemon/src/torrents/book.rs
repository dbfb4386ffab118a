//! All torrents, and what a command would change of them.
//!
//! First [`plan_add`](Book::plan_add) or another `plan_*` says what would change; the caller writes that down; then
//! [`apply`](Book::apply) takes it over. Nothing changes before that, so what could not be written has not happened.

mod operations;

use super::edit::{Edit, Place};
use super::labels::{Labels, LabelsEdit};
use super::paths::Claims;
use super::record::{Id, Options, Record, StoppedBy, Totals};
use super::{Refusal, addresses, goals, queue};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use swarm_engine::{Data, FileIndex, InfoHash, InfoHashes, Layout, Magnet, Metainfo};

/// How many torrents there may be.
const TORRENTS_MAX: usize = 100_000;
/// The priority of a file unless somebody says otherwise.
pub const PRIORITY_NORMAL: u8 = 4;

/// A torrent to add.
#[derive(Clone, Debug)]
pub struct New {
    /// What is known of it: its metainfo, or the link.
    pub what: What,
    /// The folder for its file or folder: absolute, without links.
    pub dir: PathBuf,
    /// Whether that is the folder of whoever names none, so that its category's comes before it.
    pub is_default_dir: bool,
    /// What the user wants of it; the position counts for nothing.
    pub options: Options,
    /// What it was before, if it comes from another program.
    pub past: Option<Past>,
}

/// What a torrent was in another program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// When it was added, in seconds since 1970.
    pub added_at: Option<i64>,
    /// When everything wanted was there, in seconds since 1970. Its data is checked all the same.
    pub completed_at: Option<i64>,
    /// What it has transferred.
    pub totals: Totals,
    /// Other names that its files have on the disk.
    pub layout: Layout,
    /// What is there of its data is its own, and not complete.
    pub is_unfinished: bool,
}

/// What a torrent is added by.
#[derive(Clone, Debug)]
pub enum What {
    /// All that there is to know.
    Metainfo(Arc<Metainfo>),
    /// A link: the metadata comes from peers.
    Link {
        /// The link itself.
        text: String,
        /// What it is called meanwhile.
        name: String,
        /// The info-hashes that it names.
        hashes: InfoHashes,
    },
}

/// What changes, all at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// Records, as they are then.
    pub put: Vec<Record>,
    /// Metainfo of these torrents that is known from now on.
    pub metainfo: Vec<(Id, Arc<Metainfo>)>,
    /// Torrents that are gone.
    pub gone: Vec<Id>,
    /// Categories, tags and limits of trackers, if they are others then.
    pub labels: Option<Arc<Labels>>,
}

/// A torrent and what it is, as far as that is known.
#[derive(Clone, Debug)]
pub struct Torrent {
    /// What is kept of it.
    pub record: Record,
    /// Its metainfo, unless only a link is known.
    pub metainfo: Option<Arc<Metainfo>>,
    /// Why it may not write where it wants to, if so: it waits for somebody to resume it.
    pub conflict: Option<Refusal>,
}

/// All torrents.
#[derive(Debug, Default)]
pub struct Book {
    torrents: BTreeMap<Id, Torrent>,
    by_hash: BTreeMap<InfoHash, Id>,
    claims: Claims,
    labels: Arc<Labels>,
    last_id: i64,
}

impl Book {
    /// All torrents as they were when the daemon ended; `last_id` is the highest number that was ever given.
    pub fn load(torrents: Vec<(Record, Option<Arc<Metainfo>>)>, labels: Labels, last_id: i64) -> Book {
        let mut book = Book { labels: Arc::new(labels), last_id, ..Book::default() };
        // Who has waited for another's path waits on, whichever was added first.
        let (owners, waiting): (Vec<_>, Vec<_>) =
            torrents.into_iter().partition(|(record, _)| !record.waits_for_path);
        for (record, metainfo) in owners.into_iter().chain(waiting) {
            book.last_id = book.last_id.max(record.id.0);
            book.put(record, metainfo);
        }
        book
    }

    /// The torrent with this number.
    pub fn get(&self, id: Id) -> Option<&Torrent> {
        self.torrents.get(&id)
    }

    /// All of them, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Torrent> {
        self.torrents.values()
    }

    /// Categories, tags and limits of trackers.
    pub fn labels(&self) -> &Arc<Labels> {
        &self.labels
    }

    /// The torrent that goes by one of these info-hashes.
    pub fn find(&self, hashes: InfoHashes) -> Option<Id> {
        hashes.swarms().find_map(|hash| self.by_hash.get(&hash).copied())
    }

    /// The torrents that are to run.
    pub fn running(&self, turns: queue::Turns, cannot: impl Fn(Id) -> bool) -> BTreeSet<Id> {
        let is_kept = |id: Id| cannot(id) || self.torrents.get(&id).is_some_and(|t| t.conflict.is_some());
        queue::running(self.torrents.values().map(|torrent| &torrent.record), turns, is_kept)
    }

    /// Whether a torrent runs if it has a turn, or needs none.
    pub fn may_run(&self, id: Id, cannot: impl Fn(Id) -> bool) -> bool {
        let Some(torrent) = self.torrents.get(&id) else { return false };
        queue::is_willing(&torrent.record) && torrent.conflict.is_none() && !cannot(id)
    }

    /// What adding a torrent changes.
    ///
    /// # Errors
    /// If it is here already, may not write there, or its options make no sense.
    pub fn plan_add(&self, new: New, now: i64) -> Result<(Id, Change), Refusal> {
        if self.torrents.len() >= TORRENTS_MAX {
            return Err(Refusal::TooMany(TORRENTS_MAX));
        }
        let id = Id(self.last_id + 1);
        let position = self.torrents.values().map(|torrent| torrent.record.options.position).max();
        let mut options = Options { position: position.unwrap_or(0).saturating_add(1), ..new.options };
        let (hashes, name, link, metainfo) = match new.what {
            What::Metainfo(metainfo) => {
                (metainfo.info.info_hashes(), metainfo.info.name.clone(), None, Some(metainfo))
            }
            What::Link { text, name, hashes } => (hashes, name, Some(text), None),
        };
        if let Some(here) = self.find(hashes) {
            return Err(self.already(here));
        }
        match (&metainfo, &mut options.priorities) {
            (Some(metainfo), Some(priorities)) => {
                expect_files(priorities.len(), metainfo.info.files.len())?;
            }
            (None, Some(_)) => return Err(Refusal::NoMetadata),
            _ => {}
        }
        let category = options.category.as_ref().and_then(|category| self.labels.categories.get(category));
        let dir = category.and_then(|category| category.dir.clone()).filter(|_| new.is_default_dir);
        let dir = dir.unwrap_or(new.dir);
        let past = new.past.unwrap_or_default();
        options.overwrite |= past.is_unfinished;
        let mut record = Record {
            id,
            hashes,
            name,
            link,
            dir,
            options,
            added_at: past.added_at.unwrap_or(now),
            completed_at: past.completed_at,
            totals: past.totals,
            layout: past.layout,
            ..Record::default()
        };
        if let Some(metainfo) = &metainfo {
            expect_progress(&mut record, metainfo);
            self.check_path(&record, metainfo)?;
        }
        let metainfo = metainfo.map(|metainfo| (id, metainfo)).into_iter().collect();
        let labels = self.with_labels_of(&[&record])?;
        Ok((id, Change { put: vec![record], metainfo, labels, ..Change::default() }))
    }

    /// What an edit changes of these torrents: of all, or of none.
    ///
    /// # Errors
    /// If it makes no sense for one of them.
    pub fn plan_edit(&self, ids: &[Id], edit: &Edit) -> Result<Change, Refusal> {
        edit.check()?;
        let mut put = BTreeMap::new();
        for &id in ids {
            let torrent = self.expect(id)?;
            let mut record = torrent.record.clone();
            edit.apply(&mut record.options)?;
            addresses::edit(
                &mut record.options,
                edit,
                torrent.metainfo.as_deref(),
                torrent.record.link.as_deref(),
            )?;
            if edit.ratio_limit.is_some() || edit.seed_time_limit.is_some() {
                record.stopped_by = None;
            }
            if !edit.priorities.is_empty() {
                set_priorities(&mut record, torrent.metainfo.as_deref(), &edit.priorities)?;
            }
            if edit.paused == Some(false)
                && let Some(metainfo) = &torrent.metainfo
            {
                self.check_path(&record, metainfo)?;
                record.waits_for_path = false;
            }
            put.insert(id, record);
        }
        if let Some(place) = edit.position {
            self.plan_move(ids, place, &mut put);
        }
        let labels = self.with_labels_of(&put.values().collect::<Vec<_>>())?;
        Ok(Change { put: put.into_values().collect(), labels, ..Change::default() })
    }

    /// What an edit of categories, tags or limits of trackers changes.
    ///
    /// # Errors
    /// Why it makes no sense.
    pub fn plan_labels(&self, edit: LabelsEdit) -> Result<Change, Refusal> {
        let mut labels = Labels::clone(&self.labels);
        labels.apply(edit)?;
        let is_gone = |category: &String| !labels.categories.contains_key(category);
        let put = self.torrents.values().filter_map(|Torrent { record, .. }| {
            let category = record.options.category.clone();
            let had = (category.is_some(), record.options.tags.len());
            let category = category.filter(|category| !is_gone(category));
            let tags = record.options.tags.iter().filter(|tag| labels.tags.contains(*tag));
            let tags: Vec<String> = tags.cloned().collect();
            let is_other = had != (category.is_some(), tags.len());
            is_other.then(|| {
                let mut record = record.clone();
                (record.options.category, record.options.tags) = (category, tags);
                record
            })
        });
        Ok(Change { put: put.collect(), labels: Some(Arc::new(labels)), ..Change::default() })
    }

    /// The labels with those of these records, if one of them is new.
    fn with_labels_of(&self, records: &[&Record]) -> Result<Option<Arc<Labels>>, Refusal> {
        let is_known = |record: &&Record| {
            let options = &record.options;
            let has_tag = |tag: &String| self.labels.tags.contains(tag);
            let category = options.category.as_ref();
            category.is_none_or(|category| self.labels.categories.contains_key(category))
                && options.tags.iter().all(has_tag)
        };
        if records.iter().all(is_known) {
            return Ok(None);
        }
        let mut labels = Labels::clone(&self.labels);
        for record in records {
            labels.take_up(record.options.category.as_deref(), &record.options.tags)?;
        }
        Ok(Some(Arc::new(labels)))
    }

    /// What it changes that the metadata of a link is here. A torrent that may not write there waits, with the reason.
    pub fn plan_metadata(&self, id: Id, metainfo: Arc<Metainfo>) -> Option<Change> {
        let torrent = self.torrents.get(&id).filter(|torrent| torrent.record.link.is_some())?;
        let mut record = Record {
            hashes: metainfo.info.info_hashes(),
            name: metainfo.info.name.clone(),
            link: None,
            ..torrent.record.clone()
        };
        if record.options.priorities.is_none() {
            record.options.priorities = selected(torrent.record.link.as_deref(), metainfo.info.files.len());
        }
        expect_progress(&mut record, &metainfo);
        record.waits_for_path = self.check_path(&record, &metainfo).is_err();
        Some(Change { put: vec![record], metainfo: vec![(id, metainfo)], ..Change::default() })
    }

    /// What it changes that everything wanted is there.
    /// A program that is to be run then is due, unless all was there before anything was received.
    pub fn plan_completed(&self, id: Id, now: i64, has_program: bool) -> Option<Change> {
        let record = &self.torrents.get(&id)?.record;
        let is_news = record.completed_at.is_none() && !record.options.seed;
        let program_due = has_program && record.totals.bytes_down > 0;
        // From now on it has written all of its files, unless some were left out.
        let leaves_out = record.options.priorities.iter().flatten().any(|priority| *priority == 0);
        is_news.then(|| {
            let mut record = Record { completed_at: Some(now), program_due, ..record.clone() };
            record.options.overwrite &= leaves_out;
            Change::of(record)
        })
    }

    /// What it changes that something wanted is missing, as it may after a recheck, or when more files are wanted.
    pub fn plan_incomplete(&self, id: Id) -> Option<Change> {
        let record = &self.torrents.get(&id)?.record;
        let incomplete = || Record { completed_at: None, program_due: false, ..record.clone() };
        record.completed_at.is_some().then(|| Change::of(incomplete()))
    }

    /// What it changes that all data has been checked.
    pub fn plan_checked(&self, id: Id) -> Option<Change> {
        let mut record = self.torrents.get(&id)?.record.clone();
        std::mem::take(&mut record.options.recheck).then(|| Change::of(record))
    }

    /// What a goal changes that a torrent has reached.
    pub fn plan_goal(
        &self,
        id: Id,
        goals: &goals::Goals,
        seconds_seeding: u64,
    ) -> Option<(StoppedBy, Change)> {
        let record = &self.torrents.get(&id)?.record;
        let stopped_by = goals::reached(record, goals, seconds_seeding)?;
        let mut record = record.clone();
        record.stopped_by = Some(stopped_by);
        record.options.paused = true;
        Some((stopped_by, Change::of(record)))
    }

    /// What the wish to remove a torrent changes.
    ///
    /// # Errors
    /// If there is no such torrent, it is being removed already, or its files are being moved.
    pub fn plan_removal(&self, id: Id, data: Data) -> Result<Change, Refusal> {
        let record = self.expect(id)?.record.clone();
        // It goes as soon as they are at one place.
        if record.moving.is_some() {
            return Err(Refusal::Moving);
        }
        Ok(Change::of(Record { removing: Some(data), ..record }))
    }

    /// What it changes that its data could not be removed: it stays, paused.
    pub fn plan_kept(&self, id: Id) -> Option<Change> {
        let mut record = self.torrents.get(&id)?.record.clone();
        record.removing = None;
        record.options.paused = true;
        Some(Change::of(record))
    }

    /// Takes over what has been written down. The torrents that it concerns.
    pub fn apply(&mut self, change: Change) -> Vec<Id> {
        let mut metainfo: BTreeMap<Id, Arc<Metainfo>> = change.metainfo.into_iter().collect();
        let mut ids: Vec<Id> = change.put.iter().map(|record| record.id).collect();
        for record in change.put {
            self.last_id = self.last_id.max(record.id.0);
            let known = metainfo.remove(&record.id);
            let known = known.or_else(|| self.torrents.get(&record.id)?.metainfo.clone());
            self.put(record, known);
        }
        self.labels = change.labels.unwrap_or_else(|| Arc::clone(&self.labels));
        for id in change.gone {
            ids.push(id);
            if let Some(torrent) = self.torrents.remove(&id) {
                self.forget(&torrent.record);
            }
        }
        ids
    }

    /// Changes what need not be written at once: totals and progress.
    pub fn update(&mut self, id: Id, change: impl FnOnce(&mut Record)) {
        if let Some(torrent) = self.torrents.get_mut(&id) {
            change(&mut torrent.record);
        }
    }

    fn forget(&mut self, record: &Record) {
        record.hashes.swarms().for_each(|hash| {
            if self.by_hash.get(&hash) == Some(&record.id) {
                self.by_hash.remove(&hash);
            }
        });
        for root in operations::roots(record, true) {
            self.claims.release(&root, record.id);
        }
    }

    fn put(&mut self, mut record: Record, metainfo: Option<Arc<Metainfo>>) {
        let id = record.id;
        if let Some(old) = self.torrents.get(&id) {
            let old = old.record.clone();
            self.forget(&old);
        }
        for hash in record.hashes.swarms() {
            self.by_hash.entry(hash).or_insert(id);
        }
        let conflict = metainfo.as_ref().and_then(|metainfo| self.check_path(&record, metainfo).err());
        record.waits_for_path &= conflict.is_some();
        for root in operations::roots(&record, record.writes() && conflict.is_none()) {
            self.claims.claim(root, id);
        }
        self.torrents.insert(id, Torrent { record, metainfo, conflict });
    }

    fn expect(&self, id: Id) -> Result<&Torrent, Refusal> {
        let torrent = self.torrents.get(&id).ok_or_else(|| Refusal::NoSuchTorrent(id.to_string()))?;
        if torrent.record.removing.is_some() { Err(Refusal::Removing) } else { Ok(torrent) }
    }

    fn already(&self, id: Id) -> Refusal {
        let name =
            self.torrents.get(&id).map(|torrent| torrent.record.shown_name().to_owned()).unwrap_or_default();
        Refusal::AlreadyAdded { id, name }
    }

    /// Whether a torrent may write where it wants to.
    fn check_path(&self, record: &Record, metainfo: &Metainfo) -> Result<(), Refusal> {
        let Some(root) = record.root().filter(|_| record.writes()) else { return Ok(()) };
        if self.claims.owns(&root, record.id) {
            return Ok(());
        }
        let conflict = self.claims.conflict(&root, Some(record.id), |other| match other {
            None => files_of(record, metainfo),
            Some(other) => self.files_of_other(other),
        });
        match conflict {
            None => Ok(()),
            Some((id, path)) => Err(self.taken(id, path)),
        }
    }

    /// Where another torrent's files are, and where they go.
    fn files_of_other(&self, id: Id) -> Vec<PathBuf> {
        let Some(Torrent { record, metainfo: Some(metainfo), .. }) = self.torrents.get(&id) else {
            return Vec::new();
        };
        let mut files = files_of(record, metainfo);
        if let Some(moving) = &record.moving {
            let there = Record { dir: moving.dir.clone(), layout: moving.layout.clone(), ..record.clone() };
            files.extend(files_of(&there, metainfo));
        }
        files
    }

    fn taken(&self, id: Id, path: PathBuf) -> Refusal {
        let name =
            self.torrents.get(&id).map(|torrent| torrent.record.shown_name().to_owned()).unwrap_or_default();
        Refusal::PathTaken { path, id, name }
    }

    /// Gives torrents another place in the queue. Nobody's position changes but theirs, and those of whom they change places with.
    fn plan_move(&self, ids: &[Id], place: Place, put: &mut BTreeMap<Id, Record>) {
        let mut order: Vec<Id> = self.torrents.keys().copied().collect();
        order.sort_by_key(|&id| (self.position(id), id));
        let moved: BTreeSet<Id> = ids.iter().copied().collect();
        let positions: Vec<i64> = order.iter().map(|&id| self.position(id)).collect();
        let (first, last) = (positions.first().copied().unwrap_or(0), positions.last().copied().unwrap_or(0));
        let chosen = order.iter().copied().filter(|id| moved.contains(id));
        let count = moved.len() as i64;
        let places: Vec<(Id, i64)> = match place {
            Place::Top => chosen.zip(first.saturating_sub(count)..).collect(),
            Place::Bottom => chosen.zip(last.saturating_add(1)..).collect(),
            Place::Up => moved_up(order, &moved).into_iter().zip(positions).collect(),
            Place::Down => {
                let moved = moved_up(order.into_iter().rev().collect(), &moved);
                moved.into_iter().rev().zip(positions).collect()
            }
            Place::At(place) => {
                let (chosen, mut others): (Vec<Id>, Vec<Id>) =
                    order.into_iter().partition(|id| moved.contains(id));
                let place = others.len().min(place as usize);
                others.splice(place..place, chosen);
                others.into_iter().zip(positions).collect()
            }
        };
        for (id, position) in places.into_iter().filter(|&(id, position)| self.position(id) != position) {
            let record = put.entry(id).or_insert_with(|| self.torrents[&id].record.clone());
            record.options.position = position;
        }
    }

    fn position(&self, id: Id) -> i64 {
        self.torrents.get(&id).map_or(0, |torrent| torrent.record.options.position)
    }
}

impl Change {
    fn of(record: Record) -> Change {
        Change { put: vec![record], ..Change::default() }
    }

    /// That a torrent is gone.
    pub fn gone(id: Id) -> Change {
        Change { gone: vec![id], ..Change::default() }
    }
}

/// The order with those that are moved each one further to the front.
fn moved_up(mut order: Vec<Id>, moved: &BTreeSet<Id>) -> Vec<Id> {
    for at in 1..order.len() {
        if moved.contains(&order[at]) && !moved.contains(&order[at - 1]) {
            order.swap(at, at - 1);
        }
    }
    order
}

/// The absolute paths of a torrent's files.
fn files_of(record: &Record, metainfo: &Metainfo) -> Vec<PathBuf> {
    let files = metainfo.info.files.iter().enumerate().filter(|(_, file)| !file.attr.pad);
    let paths = files.filter_map(|(at, _)| record.layout.path_of(&metainfo.info, FileIndex(at as u32)));
    paths.map(|path| path.iter().fold(record.dir.clone(), |path, name| path.join(name))).collect()
}

fn expect_files(given: usize, files: usize) -> Result<(), Refusal> {
    match given == files {
        true => Ok(()),
        false => Err(Refusal::Invalid(format!("{given} priorities for {files} files"))),
    }
}

fn set_priorities(
    record: &mut Record,
    metainfo: Option<&Metainfo>,
    priorities: &BTreeMap<u32, u8>,
) -> Result<(), Refusal> {
    let metainfo = metainfo.ok_or(Refusal::NoMetadata)?;
    let files = metainfo.info.files.len();
    let each = record.options.priorities.get_or_insert_with(|| vec![PRIORITY_NORMAL; files]);
    for (&file, &priority) in priorities {
        let of = each.get_mut(file as usize);
        *of.ok_or_else(|| no_such_file(file, files))? = priority;
    }
    expect_progress(record, metainfo);
    Ok(())
}

/// What to say of a file that there is not.
pub fn no_such_file(file: u32, files: usize) -> Refusal {
    Refusal::Invalid(format!("there is no file {file}: the torrent has {files}, numbered from 0"))
}

/// What is known of a torrent's progress before it has run.
fn expect_progress(record: &mut Record, metainfo: &Metainfo) {
    record.progress.bytes_total = wanted_len(&record.options, metainfo);
    record.progress.pieces = metainfo.info.geometry.pieces();
}

/// How long the files that are wanted are together, in bytes.
pub fn wanted_len(options: &Options, metainfo: &Metainfo) -> u64 {
    let wanted = |at: usize| {
        let priorities = options.priorities.as_deref();
        priorities.and_then(|each| each.get(at)).is_none_or(|priority| *priority > 0)
    };
    let files = metainfo.info.files.iter().enumerate();
    files.filter(|(at, file)| !file.attr.pad && wanted(*at)).map(|(_, file)| file.length).sum()
}

/// The priorities of so many files that a link asks for, if it chooses among them.
fn selected(link: Option<&str>, files: usize) -> Option<Vec<u8>> {
    let magnet: Magnet = link?.parse().ok()?;
    let wanted = magnet.wanted(files)?;
    Some(wanted.into_iter().map(|is_wanted| if is_wanted { PRIORITY_NORMAL } else { 0 }).collect())
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;

//! Moving a torrent's files: to another folder, which may be on another file system, and to other names.
//!
//! What can be renamed is. The rest is copied into the work folder at the new place, synced, compared in length, and given its name
//! there; the originals go once everything is in its new place, and what is known of the files with it. So whatever is the torrent's is at
//! one place or at both at any moment, complete. After a crash the same call with [`Relocation::resumes`] goes on from there. If it fails, what
//! has been moved goes back.
//!
//! Nothing is replaced: a file that is there already ends the move before it begins.

use super::Location;
use super::error::StorageError;
use super::names;
use super::open::check_paths;
use super::saved::SavedState;
use super::state::{Loaded, State};
use super::sys::{self, Stamp};
use super::tree::{Access, Found, Tree};
use super::work::{LOCK, PROBE, STATE, WorkFolder};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs::{File, FileTimes};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use swarm_core::id::FileIndex;
use swarm_core::metainfo::{Info, Layout};

/// How much is copied between two looks at whether to go on, in bytes.
const CHUNK_LEN: u64 = 16 << 20;
/// A copy that is under way, in the work folder.
pub(super) const COPY: &str = "copy";

/// Where a torrent's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    /// The folder that holds its file or folder.
    pub(crate) dir: PathBuf,
    /// Their names.
    pub(crate) layout: Layout,
}

/// What is to be moved, from where to where.
#[derive(Clone, Debug)]
pub(crate) struct Relocation {
    pub(crate) from: Spot,
    pub(crate) to: Spot,
    /// The data is only read otherwise.
    pub(crate) is_seed: bool,
    /// It was begun before, and may be half done.
    pub(crate) resumes: bool,
    pub(crate) state_dir: Option<PathBuf>,
}

/// Moves the files of a torrent that is not open. Asks `goes_on` now and then.
///
/// # Errors
/// [`StorageError::ForeignData`] if something is there; [`StorageError::Locked`] if somebody downloads at either place; whatever the system
/// says. Then everything is where it was.
pub(crate) fn relocate(
    info: &Arc<Info>,
    relocation: &Relocation,
    goes_on: &dyn Fn() -> bool,
) -> Result<Location, StorageError> {
    let Relocation { from, to, .. } = relocation;
    let (from_info, to_info) = (named(info, &from.layout)?, named(info, &to.layout)?);
    check_paths(&to_info)?;
    std::fs::create_dir_all(&to.dir).map_err(|e| StorageError::space(&to.dir, "create", 0, e))?;
    let canonical =
        |dir: &PathBuf| dir.canonicalize().map(Tree::new).map_err(|e| StorageError::io(dir, "open", e));
    let to_tree = canonical(&to.dir)?;
    let from_tree = match canonical(&from.dir) {
        Err(e) if e.is_not_found() => return Ok(Location { tree: to_tree, info: to_info }),
        found => found?,
    };
    let from_folder = WorkFolder::find(&from_tree, &from_info.name)?;
    let is_same = from_tree.root() == to_tree.root() && from_info.name == to_info.name;
    let to_folder = match is_same && from_folder.is_some() {
        true => None,
        false => Some(WorkFolder::lock(&to_tree, &to_info.name)?),
    };
    let named = names::for_reading(&from_info, from_tree.root());
    let folder = to_folder.as_ref().or(from_folder.as_ref());
    let cleared =
        to_folder.as_ref().map_or(Ok(()), |folder| make_free(folder, relocation.resumes, &to_tree, info));
    let to_info = cleared.and_then(|()| match folder {
        Some(folder) => names::for_download(&to_info, &to_tree, folder),
        None => Ok(to_info),
    });
    let to_info = match to_info {
        Ok(to_info) => to_info,
        Err(error) => {
            let _ = to_folder.map_or(Ok(()), WorkFolder::remove_if_bare);
            return Err(error);
        }
    };
    let mut mover = Mover {
        relocation,
        from: Place { tree: &from_tree, info: &named, folder: from_folder.as_ref() },
        to: Place { tree: &to_tree, info: &to_info, folder: folder.filter(|_| from_folder.is_some()) },
        copy: folder.map(|folder| folder.path(COPY)),
        goes_on,
        done: Vec::new(),
        folders: BTreeSet::new(),
    };
    let moved = mover.run();
    if moved.is_err() {
        mover.undo();
    }
    match (&moved, from_folder) {
        // All of it is in the other one.
        (Ok(()), Some(from_folder)) if to_folder.is_some() => from_folder.remove()?,
        _ => {}
    }
    to_folder.map_or(Ok(()), WorkFolder::remove_if_bare)?;
    moved.map(|()| Location { tree: to_tree, info: to_info })
}

fn named(info: &Arc<Info>, layout: &Layout) -> Result<Arc<Info>, StorageError> {
    if layout.is_empty() {
        return Ok(Arc::clone(info));
    }
    let named = layout.apply(info).map_err(|e| StorageError::UnsafePath { path: e.to_string() })?;
    Ok(Arc::new(named))
}

/// The work folder at the new place holds nothing, or what an earlier attempt left there.
fn make_free(folder: &WorkFolder, resumes: bool, tree: &Tree, info: &Info) -> Result<(), StorageError> {
    let is_other = match State::load(tree, &folder.path(STATE), info)? {
        Loaded::State(state) => state.info_hash != info.info_hash,
        _ => false,
    };
    if resumes && !is_other {
        return Ok(());
    }
    match folder.holds_nothing()? {
        true => folder.clear(),
        false => Err(StorageError::OtherTorrent { path: tree.path_of(&folder.folder()) }),
    }
}

/// One of the two places.
#[derive(Clone, Copy)]
struct Place<'a> {
    tree: &'a Tree,
    info: &'a Info,
    folder: Option<&'a WorkFolder>,
}

impl Place<'_> {
    /// How each file looks, under its name or in the work folder.
    fn stamps(&self, is_seed: bool) -> Vec<Option<Stamp>> {
        let one = |(index, entry): (u32, &swarm_core::metainfo::FileEntry)| {
            if is_seed {
                return Stamp::followed(&self.tree.path_of(&entry.path));
            }
            let found = |path: &[String]| self.tree.find(path).ok().and_then(Found::stamp);
            let unfinished = || found(&self.folder?.unfinished(FileIndex(index)));
            found(&entry.path).or_else(unfinished)
        };
        (0..).zip(&self.info.files).map(one).collect()
    }
}

/// What was done with one of the files.
enum Done {
    Renamed(Vec<String>, Vec<String>),
    Copied(Vec<String>, Vec<String>),
}

struct Mover<'a> {
    relocation: &'a Relocation,
    from: Place<'a>,
    to: Place<'a>,
    /// Where a file is copied to before it gets its name.
    copy: Option<[String; 2]>,
    goes_on: &'a dyn Fn() -> bool,
    done: Vec<Done>,
    /// Folders at the old place that may be empty in the end, the deepest first.
    folders: BTreeSet<(Reverse<usize>, Vec<String>)>,
}

impl Mover<'_> {
    fn run(&mut self) -> Result<(), StorageError> {
        let steps = self.steps()?;
        let mut is_anything_gone = false;
        let mut todo = Vec::new();
        for (from, to, target) in steps {
            self.folders.extend((1..from.len()).map(|depth| (Reverse(depth), from[..depth].to_vec())));
            let (here, there) = (self.from.tree.find(&from)?, self.to.tree.find(&to)?);
            match (here, there) {
                (Found::Nothing, Found::Nothing) => {}
                (Found::Nothing, _) if self.relocation.resumes => is_anything_gone = true,
                (_, Found::Nothing) => todo.push((from, to, target)),
                // Copied before. What is known of the files is up to date there.
                (Found::File(here), Found::File(there))
                    if self.relocation.resumes
                        && ((here.len, here.mtime_ns) == (there.len, there.mtime_ns)
                            || self.to.folder.is_some_and(|folder| to == folder.path(STATE))) =>
                {
                    self.done.push(Done::Copied(from, to));
                }
                _ => return Err(StorageError::ForeignData { path: self.to.tree.path_of(&to) }),
            }
        }
        let before = self.from.stamps(self.relocation.is_seed);
        for (from, to, target) in todo {
            self.transfer(from, to, target)?;
        }
        self.sync()?;
        self.carry_states(&before, is_anything_gone)?;
        self.remove_originals()
    }

    /// All that may be there to move: from where, to where, and where it points to if it is a link of the torrent.
    #[allow(clippy::type_complexity)]
    fn steps(&self) -> Result<Vec<(Vec<String>, Vec<String>, Option<Vec<String>>)>, StorageError> {
        let is_same_place = self.from.tree.root() == self.to.tree.root();
        let files = self.from.info.files.iter().zip(&self.to.info.files);
        let files =
            files.filter(|(from, to)| !(from.is_padding_for_sure() || is_same_place && from.path == to.path));
        let mut steps: Vec<_> =
            files.map(|(from, to)| (from.path.clone(), to.path.clone(), to.symlink_target.clone())).collect();
        if let (Some(from), Some(to)) = (self.from.folder, self.to.folder)
            && !(is_same_place && from.folder() == to.folder())
        {
            let names = self.from.tree.list(&from.folder())?;
            let names = names.iter().filter(|name| ![LOCK, PROBE, COPY].contains(&name.as_str()));
            steps.extend(names.map(|name| (from.path(name).to_vec(), to.path(name).to_vec(), None)));
        }
        Ok(steps)
    }

    fn transfer(
        &mut self,
        from: Vec<String>,
        to: Vec<String>,
        target: Option<Vec<String>>,
    ) -> Result<(), StorageError> {
        self.expect_to_go_on(&from)?;
        let renamed = match is_renaming_refused() {
            true => Err(StorageError::io(&self.to.tree.path_of(&to), "move", crosses_devices())),
            false => self.from.tree.rename_to(&from, self.to.tree, &to),
        };
        match renamed {
            Ok(()) => self.done.push(Done::Renamed(from, to)),
            Err(e) if e.has_kind(io::ErrorKind::CrossesDevices) => {
                match (self.from.tree.find(&from)?, target) {
                    (Found::Other, Some(target)) => self.to.tree.symlink(&to, &target, false)?,
                    _ => self.copy(&from, &to)?,
                }
                self.done.push(Done::Copied(from, to));
            }
            Err(e) => return Err(e),
        }
        Ok(())
    }

    fn expect_to_go_on(&self, path: &[String]) -> Result<(), StorageError> {
        let stopped = || StorageError::io(&self.from.tree.path_of(path), "move", stopped());
        if (self.goes_on)() { Ok(()) } else { Err(stopped()) }
    }

    /// Copies a file, holes as holes, with its times and who may read and run it.
    fn copy(&self, from: &[String], to: &[String]) -> Result<(), StorageError> {
        let Some(copy) = &self.copy else { return Err(StorageError::not_found(&self.from.dir(), "lock")) };
        let original = self.from.tree.open(from, Access::Read)?;
        let before = original.metadata().map_err(|e| self.failed(from, "look at", e))?;
        self.to.tree.remove(copy)?;
        let file = self.to.tree.open(copy, Access::Create)?;
        let len = before.len();
        let failed = |e| StorageError::space(&self.to.tree.path_of(to), "write", len, e);
        file.set_len(len).map_err(failed)?;
        let mut at = 0;
        while at < len {
            self.expect_to_go_on(from)?;
            let data = sys::next_data(&original, at);
            let start = data.start.min(len);
            let end = data.end.min(len).min(start + CHUNK_LEN);
            sys::copy_range(&original, start, &file, start, end - start).map_err(failed)?;
            at = end.max(start);
            if start >= len {
                break;
            }
        }
        let finished = finish_copy(&file, &before);
        finished.map_err(failed)?;
        let after = original.metadata().map_err(|e| self.failed(from, "look at", e))?;
        let copied = file.metadata().map_err(failed)?;
        if Stamp::of(&after) != Stamp::of(&before) || copied.len() != len {
            return Err(StorageError::Changed { path: self.from.tree.path_of(from) });
        }
        self.to.tree.rename(copy, to, false)
    }

    fn failed(&self, path: &[String], action: &'static str, e: io::Error) -> StorageError {
        StorageError::io(&self.from.tree.path_of(path), action, e)
    }

    /// Makes the names at the new place durable.
    fn sync(&self) -> Result<(), StorageError> {
        let mut folders = BTreeSet::new();
        for done in &self.done {
            let (Done::Renamed(_, to) | Done::Copied(_, to)) = done;
            folders.extend((0..to.len()).map(|depth| &to[..depth]));
        }
        folders.into_iter().try_for_each(|folder| self.to.tree.sync_dir(folder))
    }

    /// What is known of the files is known of them at the new place too.
    fn carry_states(&self, before: &[Option<Stamp>], is_anything_gone: bool) -> Result<(), StorageError> {
        let after = self.to.stamps(self.relocation.is_seed);
        let carry = |mut state: State| {
            for (stamp, (before, after)) in state.stamps.iter_mut().zip(before.iter().zip(&after)) {
                if stamp.is_some() && *stamp == *before && after.is_some() {
                    *stamp = *after;
                }
            }
            state
        };
        let info = self.to.info;
        if let Some(folder) = self.to.folder
            && let Loaded::State(state) = State::load(self.to.tree, &folder.path(STATE), info)?
            && state.info_hash == info.info_hash
        {
            let carried = carry(state.clone());
            if carried != state {
                carried.save(self.to.tree, &folder.folder(), STATE, None)?;
            }
        }
        let Some(state_dir) = &self.relocation.state_dir else { return Ok(()) };
        let saved = |place: &Place<'_>| SavedState::new(state_dir, place.info, place.tree.root());
        let (old, new) = (saved(&self.from), saved(&self.to));
        let is_carried = is_anything_gone && new.exists()?;
        match old.load(self.from.info) {
            Ok(Loaded::State(state)) if state.info_hash == info.info_hash && !is_carried => {
                new.save(&carry(state))
            }
            // Without it all data is checked.
            _ => Ok(()),
        }
    }

    /// Everything is at the new place: what is left at the old one goes.
    fn remove_originals(&self) -> Result<(), StorageError> {
        for done in &self.done {
            if let Done::Copied(from, _) = done {
                self.from.tree.remove(from)?;
            }
        }
        let of_work = self.from.folder.map(WorkFolder::folder);
        let of_work = |folder: &[String]| of_work.as_ref().is_some_and(|of_work| folder == of_work);
        for (_, folder) in self.folders.iter().filter(|(_, folder)| !of_work(folder)) {
            // It may hold something else.
            let _ = self.from.tree.remove_dir(folder);
        }
        if let Some(state_dir) = &self.relocation.state_dir
            && self.from.tree.root() != self.to.tree.root()
        {
            SavedState::new(state_dir, self.from.info, self.from.tree.root()).remove()?;
        }
        Ok(())
    }

    /// Puts back what has been moved, as far as that can be done.
    fn undo(&mut self) {
        let mut folders = BTreeSet::new();
        for done in std::mem::take(&mut self.done).into_iter().rev() {
            let (undone, to) = match done {
                Done::Renamed(from, to) => (self.to.tree.rename_to(&to, self.from.tree, &from), to),
                // An original that has gone already leaves the copy as the only one.
                Done::Copied(from, to) => match self.from.tree.find(&from) {
                    Ok(Found::Nothing) => (self.to.tree.rename_to(&to, self.from.tree, &from), to),
                    _ => (self.to.tree.remove(&to), to),
                },
            };
            if let Err(error) = undone {
                tracing::warn!(%error, "a file could not be put back");
            }
            folders.extend((1..to.len()).map(|depth| (Reverse(depth), to[..depth].to_vec())));
        }
        if let Some(copy) = &self.copy {
            let _ = self.to.tree.remove(copy);
        }
        let of_work = self.copy.as_ref().map(|copy| copy[..1].to_vec());
        for (_, folder) in folders.into_iter().filter(|(_, folder)| Some(folder) != of_work.as_ref()) {
            let _ = self.to.tree.remove_dir(&folder);
        }
    }
}

impl Place<'_> {
    fn dir(&self) -> PathBuf {
        self.tree.root().to_owned()
    }
}

fn finish_copy(file: &File, original: &std::fs::Metadata) -> io::Result<()> {
    file.set_permissions(original.permissions())?;
    if let Ok(modified) = original.modified() {
        file.set_times(FileTimes::new().set_modified(modified))?;
    }
    file.sync_all()
}

fn stopped() -> io::Error {
    io::Error::new(io::ErrorKind::Interrupted, "it was stopped")
}

fn crosses_devices() -> io::Error {
    io::ErrorKind::CrossesDevices.into()
}

/// In tests, whether everything is copied.
fn is_renaming_refused() -> bool {
    #[cfg(test)]
    return testing::COPIES.get();
    #[cfg(not(test))]
    false
}

#[cfg(test)]
pub(super) mod testing {
    use std::cell::Cell;
    thread_local! {
        pub(crate) static COPIES: Cell<bool> = const { Cell::new(false) };
    }
}

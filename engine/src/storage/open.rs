//! Finding out what is already there.

use super::error::StorageError;
use super::journal::{self, Journal};
use super::names;
use super::options::{Mode, OpenOptions, Opened, Trust};
use super::state::{Loaded, State};
use super::sys::{self, Stamp};
use super::table::{Dirty, Doubts, Place, Slot, Table, pieces_of};
use super::tree::{Access, Found, Tree};
use super::trust::Writing;
use super::work::{STATE, Work, WorkFolder, looks_like_work_folder};
use super::{FileStorage, StateHome};
use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use swarm_core::bitfield::Bitfield;
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::metainfo::{FileEntry, Info};

/// Opens a torrent's files: see [`FileStorage::open`].
pub(super) fn open(info: Arc<Info>, options: OpenOptions) -> Result<(FileStorage, Opened), StorageError> {
    let is_seed = options.mode == Mode::Seed;
    if !is_seed {
        check_paths(&info)?;
        std::fs::create_dir_all(&options.dir)
            .map_err(|e| StorageError::space(&options.dir, "create", 0, e))?;
    }
    let root = options.dir.canonicalize().map_err(|e| StorageError::io(&options.dir, "open", e))?;
    let home = options.state_dir.as_ref().map(|dir| StateHome::new(dir, &info, &root));
    let tree = Tree::new(root);
    let (named, folder) = match is_seed {
        true => (names::for_reading(&info, tree.root()), None),
        false => {
            let folder = WorkFolder::lock(&tree, &info.name)?;
            match names::for_download(&info, &tree, &folder) {
                Ok(named) => (named, Some(folder)),
                Err(e) => {
                    folder.abandon();
                    return Err(e);
                }
            }
        }
    };
    let told = names::told(&info, &named);
    let info = named;
    let opening = Opening { info: &info, options: &options, tree, home: home.as_ref() };
    let (work, found) = match folder {
        None => (None, opening.seed()?),
        Some(folder) => opening.download(folder)?,
    };
    let is_saved = work.is_none() && found.known.is_saved;
    let (table, mut opened) = opening.conclude(found);
    opened.warnings.extend(told);
    let storage = FileStorage {
        tree: opening.tree,
        home,
        is_seed,
        overwrite: options.overwrite,
        id: options.handles.register(),
        handles: options.handles,
        budget: options.budget,
        table: Mutex::new(table),
        work: Mutex::new(work.map(Arc::new)),
        retired_side: Mutex::default(),
        left_over: Mutex::default(),
        writing: Writing::default(),
        is_saved: AtomicBool::new(is_saved),
        looked_at: Mutex::default(),
        syncing: Mutex::default(),
        hash_of_zeros: std::sync::OnceLock::new(),
        moving: Mutex::default(),
        info,
    };
    Ok((storage, opened))
}

/// Nothing in a torrent's paths may reach outside, whoever read its metainfo.
pub(super) fn check_paths(info: &Info) -> Result<(), StorageError> {
    let is_plain =
        |name: &String| !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
    let is_safe = |path: &[String]| path.first() == Some(&info.name) && path.iter().all(is_plain);
    let unsafe_path = |path: &[String]| Err(StorageError::UnsafePath { path: path.join("/") });
    if !is_plain(&info.name) || looks_like_work_folder(&info.name) {
        return unsafe_path(std::slice::from_ref(&info.name));
    }
    for file in info.files.iter().filter(|file| !file.is_padding_for_sure()) {
        if !is_safe(&file.path) {
            return unsafe_path(&file.path);
        }
        if let Some(target) = file.symlink_target.as_ref().filter(|target| !is_safe(target)) {
            return unsafe_path(target);
        }
    }
    Ok(())
}

struct Opening<'a> {
    info: &'a Info,
    options: &'a OpenOptions,
    tree: Tree,
    home: Option<&'a StateHome>,
}

/// What an earlier run left, and how far it can be believed.
struct Known {
    state: State,
    /// The system may have lost what no mark vouches for, or there are no marks: what looks like data may be it.
    is_suspect: bool,
    /// The machine was started anew since, without a stop in order: the end of the journal may be lost, and the latest times
    /// of files.
    is_other_boot: bool,
    /// It comes from the user's state folder.
    is_saved: bool,
    warnings: Vec<String>,
}

impl Known {
    fn nothing(info: &Info) -> Known {
        Known {
            state: State::new(info),
            is_suspect: false,
            is_other_boot: false,
            is_saved: false,
            warnings: Vec::new(),
        }
    }

    /// Whatever is there is checked.
    fn trust_nothing(&mut self, info: &Info) {
        self.state = State { generation: self.state.generation, ..State::new(info) };
        self.is_suspect = true;
    }

    /// Whether an unfinished file is as we left it.
    fn is_as_left(&self, saved: Option<Stamp>, found: Stamp) -> bool {
        saved.is_some_and(|saved| {
            let is_earlier = self.is_other_boot && found.mtime_ns <= saved.mtime_ns;
            saved == found || is_earlier && Stamp { mtime_ns: saved.mtime_ns, ..found } == saved
        })
    }
}

/// What is there of one file.
#[derive(Clone, Copy)]
struct Evidence {
    place: Place,
    /// Bytes that can be read from its start.
    available: u64,
    /// It is as it was when the state was saved.
    is_intact: bool,
    /// It was under its final name, not as long as it should be, and is now to be completed: what it holds may be right.
    is_taken: bool,
    stamp: Option<Stamp>,
}

impl Evidence {
    /// Of a file that looks like this, if there is one.
    fn of(place: Place, stamp: Option<Stamp>, is_intact: impl FnOnce(Stamp) -> bool) -> Evidence {
        Evidence {
            place,
            available: stamp.map_or(0, |s| s.len),
            is_intact: stamp.is_some_and(is_intact),
            is_taken: false,
            stamp,
        }
    }

    /// Of a pad file.
    const PAD: Evidence =
        Evidence { place: Place::Pad, available: u64::MAX, is_intact: true, is_taken: false, stamp: None };
}

struct Findings {
    known: Known,
    files: Vec<Evidence>,
    wanted: Vec<bool>,
    have: Bitfield,
    recheck: Bitfield,
}

impl Opening<'_> {
    fn seed(&self) -> Result<Findings, StorageError> {
        let mut known = self.known_at_home()?;
        self.apply_trust(&mut known);
        let files =
            self.info.files.iter().enumerate().map(|(i, file)| self.seed_file(file, known.state.stamps[i]));
        let files: Vec<Evidence> = files.collect();
        let wanted = vec![true; files.len()];
        let (have, recheck) = self.classify(&known, &files, None)?;
        Ok(Findings { known, files, wanted, have, recheck })
    }

    fn seed_file(&self, file: &FileEntry, saved: Option<Stamp>) -> Evidence {
        if file.is_padding_for_sure() {
            return Evidence::PAD;
        }
        let stamp = std::fs::metadata(self.tree.path_of(&file.path)).ok().filter(Metadata::is_file);
        let stamp = stamp.map(|meta| Stamp::of(&meta));
        if file.attr.pad && stamp.is_none_or(|stamp| stamp.len < file.length) {
            return Evidence::PAD;
        }
        let place = match stamp {
            _ if file.length == 0 => Place::Empty,
            Some(_) => Place::Present,
            None => Place::Absent,
        };
        Evidence::of(place, stamp, |stamp| saved == Some(stamp) || self.trusts_length(file, stamp))
    }

    fn download(&self, folder: WorkFolder) -> Result<(Option<Work>, Findings), StorageError> {
        match self.download_in(&folder) {
            Ok((generation, journal, side, findings)) => {
                Ok((Some(Work::new(folder, generation, journal, side)), findings))
            }
            Err(e) => {
                folder.abandon();
                Err(e)
            }
        }
    }

    fn download_in(
        &self,
        folder: &WorkFolder,
    ) -> Result<(u64, Journal, Option<File>, Findings), StorageError> {
        let mut known = self.known_in(folder)?;
        let is_distrusted = folder.is_distrusted()?;
        if is_distrusted {
            known.trust_nothing(self.info);
        }
        self.apply_trust(&mut known);
        let wanted = match &self.options.mode {
            Mode::Download { wanted: Some(wanted) } => wanted.clone(),
            _ => vec![true; self.info.files.len()],
        };
        assert_eq!(wanted.len(), self.info.files.len(), "one choice for each file");
        let side = folder.find_side()?;
        let files = self.find_files(folder, &known, &wanted, side.as_ref())?;
        let (have, recheck) = self.classify(&known, &files, Some((folder, side.as_ref())))?;
        let side_len = side.as_ref().and_then(|side| side.metadata().ok()).map_or(0, |meta| meta.len());
        known.state.partial.retain(|&piece, blocks| {
            let start = self.info.geometry.offset_of(piece);
            blocks.retain(|&index| {
                let block = self.info.geometry.block(piece, index);
                start + u64::from(block.begin) + u64::from(block.len) <= side_len
            });
            !have.has(piece) && !recheck.has(piece) && !blocks.is_empty()
        });
        // From now on files change: what is known so far is written down, with how they look now.
        let settled = |file: &Evidence| file.place == Place::Present && file.is_intact;
        let state = State {
            info_hash: self.info.info_hash,
            generation: known.state.generation.wrapping_add(1),
            have: have.clone(),
            in_doubt: recheck.clone(),
            // A file that is only read may not be what it should be: it is known once it has been checked.
            stamps: files
                .iter()
                .map(|file| file.stamp.filter(|_| settled(file) || file.place == Place::Work))
                .collect(),
            vouched: files
                .iter()
                .zip(&known.state.vouched)
                .map(|(file, &was)| was && settled(file))
                .collect(),
            side: files.iter().map(|file| file.place == Place::Side).collect(),
            partial: known.state.partial.clone(),
            boot_id: sys::boot_id(),
            is_clean: false,
        };
        state.save(&self.tree, &folder.folder(), STATE)?;
        if is_distrusted {
            folder.end_distrust()?;
        }
        let journal = folder.new_journal(self.info.info_hash, state.generation)?;
        Ok((state.generation, journal, side, Findings { known, files, wanted, have, recheck }))
    }

    /// What the state in the user's state folder says.
    fn known_at_home(&self) -> Result<Known, StorageError> {
        let mut known = Known::nothing(self.info);
        let Some(home) = self.home else { return Ok(known) };
        match home.load(self.info) {
            Ok(Loaded::State(state)) if state.info_hash == self.info.info_hash => {
                (known.state, known.is_saved) = (state, true);
            }
            Ok(Loaded::Nothing) => {}
            Ok(_) => {
                known.warnings.push(format!("{}: damaged, all data is checked again", home.path().display()))
            }
            Err(e) => known.warnings.push(format!("{e}; all data is checked again")),
        }
        Ok(known)
    }

    /// What the work folder says, or if it is new the user's state folder.
    fn known_in(&self, folder: &WorkFolder) -> Result<Known, StorageError> {
        let path = folder.path(STATE);
        let loaded = State::load(&self.tree, &path, self.info)?;
        let mut known = Known::nothing(self.info);
        match loaded {
            Loaded::State(state) if state.info_hash != self.info.info_hash => {
                if !self.options.overwrite && !folder.holds_nothing()? {
                    return Err(StorageError::OtherTorrent { path: self.tree.path_of(&folder.folder()) });
                }
                folder.clear()?;
                return self.known_at_home();
            }
            Loaded::State(state) => {
                known.is_other_boot = !state.is_clean && state.boot_id != sys::boot_id();
                known.is_suspect = known.is_other_boot;
                known.state = state;
            }
            Loaded::Nothing if folder.parts()?.is_empty() => return self.known_at_home(),
            Loaded::Nothing | Loaded::Unusable => {
                known.is_suspect = true;
                let path = self.tree.path_of(&path);
                known
                    .warnings
                    .push(format!("{}: missing or damaged, all data is checked again", path.display()));
                return Ok(known);
            }
        }
        if let Some(journal) = folder.find_journal()? {
            let lengths: Vec<u64> = self.info.files.iter().map(|file| file.length).collect();
            let pieces = self.info.geometry.pieces();
            let state = &mut known.state;
            let replay = journal::replay(journal, self.info.info_hash, state.generation, pieces, &lengths);
            for piece in replay.unmarked {
                state.in_doubt.insert(piece);
            }
            for piece in replay.marked {
                state.have.insert(piece);
            }
            for (file, _) in replay.files {
                state.vouched[file.idx()] = true;
            }
            for (file, stamp) in replay.stamps {
                state.stamps[file.idx()] = Some(stamp);
            }
            for piece in replay.doubted {
                state.have.remove(piece);
                state.in_doubt.insert(piece);
                self.info.segments(piece).for_each(|segment| state.vouched[segment.file.idx()] = false);
            }
        }
        Ok(known)
    }

    fn apply_trust(&self, known: &mut Known) {
        if self.options.trust == Trust::Nothing {
            known.trust_nothing(self.info);
        }
    }

    fn trusts_length(&self, file: &FileEntry, stamp: Stamp) -> bool {
        self.options.trust == Trust::Lengths && stamp.len == file.length
    }

    /// Finds out where each file is. Moves files that may be overwritten out of the way.
    fn find_files(
        &self,
        folder: &WorkFolder,
        known: &Known,
        wanted: &[bool],
        side: Option<&File>,
    ) -> Result<Vec<Evidence>, StorageError> {
        let state = &known.state;
        let parts: BTreeSet<FileIndex> = folder.parts()?.into_iter().collect();
        let is_fresh = self.tree.find(std::slice::from_ref(&self.info.name))? == Found::Nothing;
        let side_len = side.and_then(|side| side.metadata().ok()).map_or(0, |meta| meta.len());
        let mut files = Vec::with_capacity(self.info.files.len());
        for (i, file) in self.info.files.iter().enumerate() {
            let index = FileIndex(i as u32);
            if file.is_padding_for_sure() {
                files.push(Evidence::PAD);
                continue;
            }
            let found = match is_fresh {
                true => Ok(Found::Nothing),
                false => self.tree.find(&file.path),
            };
            let found = if wanted[i] { found? } else { found.unwrap_or(Found::Other) };
            let part = parts.contains(&index).then(|| folder.part(index));
            let is_right = found.stamp().is_some_and(|stamp| stamp.len == file.length);
            if file.attr.pad && part.is_none() && !is_right {
                // Padding by its name, which nothing has belied so far.
                files.push(Evidence::PAD);
                continue;
            }
            let saved = state.stamps[i];
            let is_ours = state.vouched[i] && saved.is_some() && saved == found.stamp();
            let place = self.place(file, wanted[i], is_ours, found, part.is_some())?;
            files.push(match (place, part) {
                (Place::Side, _) => {
                    let available = side_len.saturating_sub(file.offset);
                    Evidence { place, available, is_intact: state.side[i], is_taken: false, stamp: None }
                }
                (Place::Work, Some(part)) => {
                    let stamp = self.stamp_at(&part)?;
                    // Where its bytes were in the side file, it was made just before a crash.
                    Evidence::of(place, stamp, |stamp| !state.side[i] && known.is_as_left(saved, stamp))
                }
                (Place::Work, None) => {
                    let mut stamp = None;
                    if found != Found::Nothing {
                        folder.take(&file.path, index)?;
                        stamp = self.stamp_at(&folder.part(index))?;
                    } else if let Some(side) = side.filter(|_| state.side[i]) {
                        self.take_from_side(folder, index, side, state)?;
                        stamp = self.stamp_at(&folder.part(index))?;
                    }
                    Evidence {
                        is_taken: stamp.is_some() && found != Found::Nothing,
                        ..Evidence::of(place, stamp, |_| false)
                    }
                }
                _ => Evidence::of(place, found.stamp(), |stamp| {
                    saved == Some(stamp) || self.trusts_length(file, stamp)
                }),
            });
        }
        Ok(files)
    }

    /// A file that was not wanted before is wanted now: what edge pieces brought of it moves from the side file to a file of
    /// its own.
    fn take_from_side(
        &self,
        folder: &WorkFolder,
        index: FileIndex,
        side: &File,
        state: &State,
    ) -> Result<(), StorageError> {
        let file = &self.info.files[index.idx()];
        let geometry = self.info.geometry;
        let piece_len = u64::from(geometry.piece_len());
        let first = (file.offset / piece_len) as u32;
        let pieces = (first..first + pieces_of(self.info, file)).map(PieceIndex);
        let mut part: Option<File> = None;
        for piece in pieces.filter(|&piece| state.have.has(piece) || state.in_doubt.has(piece)) {
            let start = geometry.offset_of(piece).max(file.offset);
            let end = (geometry.offset_of(piece) + u64::from(geometry.len_of(piece)))
                .min(file.offset + file.length);
            let path = folder.part(index);
            let copied = match &part {
                Some(part) => sys::copy_range(side, start, part, start - file.offset, end - start),
                None => {
                    let made = part.insert(self.tree.open(&path, Access::Create)?);
                    made.set_len(file.length)
                        .and_then(|()| sys::copy_range(side, start, made, start - file.offset, end - start))
                }
            };
            copied.map_err(|e| StorageError::space(&self.tree.path_of(&path), "write", end - start, e))?;
            sys::punch_hole(side, start, end - start);
        }
        Ok(())
    }

    /// Where a file belongs, given what is there.
    fn place(
        &self,
        file: &FileEntry,
        is_wanted: bool,
        is_ours: bool,
        found: Found,
        has_part: bool,
    ) -> Result<Place, StorageError> {
        let path = || self.tree.path_of(&file.path);
        let in_the_way = match found {
            _ if !is_wanted || file.attr.symlink && found == Found::Other => false,
            Found::Nothing => false,
            Found::Other => return Err(StorageError::WrongKind { path: path(), wanted: "a regular file" }),
            Found::File(stamp) => has_part || file.attr.symlink || stamp.len != file.length,
        };
        if in_the_way && !self.options.overwrite {
            return Err(StorageError::ForeignData { path: path() });
        }
        Ok(match found {
            _ if file.length == 0 => Place::Empty,
            _ if has_part => Place::Work,
            Found::File(stamp) if is_ours && stamp.len == file.length => Place::Present,
            _ if !is_wanted => Place::Side,
            Found::File(_) if !in_the_way => Place::Present,
            _ => Place::Work,
        })
    }

    fn stamp_at(&self, path: &[String]) -> Result<Option<Stamp>, StorageError> {
        Ok(self.tree.find(path)?.stamp())
    }

    /// Sorts the pieces into those that are there, those to check, and the rest.
    fn classify(
        &self,
        known: &Known,
        files: &[Evidence],
        work: Option<(&WorkFolder, Option<&File>)>,
    ) -> Result<(Bitfield, Bitfield), StorageError> {
        let geometry = self.info.geometry;
        let (mut have, mut recheck) =
            (Bitfield::empty(geometry.pieces()), Bitfield::empty(geometry.pieces()));
        let mut probe = Probe { tree: &self.tree, work, last: None };
        for piece in geometry.piece_indices() {
            let (mut is_readable, mut is_intact, mut is_present) = (true, true, true);
            let mut is_taken = false;
            for segment in self.info.segments(piece) {
                let file = &files[segment.file.idx()];
                is_readable &= segment.offset + segment.len <= file.available;
                is_intact &= file.is_intact;
                is_taken |= file.is_taken;
                is_present &= matches!(file.place, Place::Present | Place::Pad);
            }
            if !is_readable {
                continue;
            }
            let was_there = known.state.have.has(piece);
            // After a crash there must be no holes in what was marked.
            let may_lack = !known.state.is_clean && is_intact && was_there && work.is_some();
            is_intact &= !may_lack || probe.may_be_there(self.info, files, piece);
            if is_intact && (was_there || is_present && self.options.trust == Trust::Lengths) {
                have.insert(piece);
            } else if was_there
                || is_present
                || is_taken
                || known.state.in_doubt.has(piece)
                || known.is_suspect && probe.may_be_there(self.info, files, piece)
            {
                recheck.insert(piece);
            }
        }
        Ok((have, recheck))
    }

    fn conclude(&self, found: Findings) -> (Table, Opened) {
        let Findings { known, files, wanted, have, recheck } = found;
        let piece_len = u64::from(self.info.geometry.piece_len());
        let slots = self.info.files.iter().enumerate().map(|(i, file)| {
            let (first, pieces) = ((file.offset / piece_len) as u32, pieces_of(self.info, file));
            let pieces_have = (first..first + pieces).filter(|&piece| have.has(PieceIndex(piece))).count();
            let was_complete = known.state.vouched[i] || self.options.trust == Trust::Lengths;
            let Evidence { place, is_intact, .. } = files[i];
            Slot {
                place,
                is_wanted: wanted[i],
                is_vouched: place == Place::Present && is_intact && was_complete,
                is_reserved: false,
                is_made: false,
                has_holes: false,
                pieces_missing: pieces - pieces_have as u32,
            }
        });
        let slots: Vec<Slot> = slots.collect();
        let mut needed = Bitfield::empty(have.len());
        for piece in self.info.geometry.piece_indices() {
            let needs = |slot: &Slot| {
                let is_settled = slot.is_vouched && !have.has(piece) && self.options.mode != Mode::Seed;
                slot.is_wanted && slot.place != Place::Pad && !is_settled
            };
            if self.info.segments(piece).any(|segment| needs(&slots[segment.file.idx()])) {
                needed.insert(piece);
            }
        }
        let indices = || (0..slots.len() as u32).map(FileIndex);
        let is_complete = |&file: &FileIndex| {
            let slot = &slots[file.idx()];
            slot.place == Place::Work && slot.pieces_missing == 0
        };
        let is_absent = |&file: &FileIndex| match slots[file.idx()].place {
            Place::Absent => true,
            // What there is of it counts.
            Place::Present => files[file.idx()].available < self.info.files[file.idx()].length,
            _ => false,
        };
        let opened = Opened {
            have: have.clone(),
            recheck: recheck.clone(),
            needed: needed.clone(),
            partial: (known.state.partial.iter())
                .filter(|(piece, _)| needed.has(**piece))
                .map(|(piece, blocks)| (*piece, blocks.iter().copied().collect()))
                .collect(),
            absent: indices().filter(is_absent).collect(),
            warnings: known.warnings,
        };
        let table = Table {
            complete: indices().filter(is_complete).collect(),
            have,
            in_doubt: recheck,
            needed,
            stamps: files
                .iter()
                .map(|file| file.stamp.filter(|_| matches!(file.place, Place::Present | Place::Work)))
                .collect(),
            slots,
            news: Doubts::default(),
            changes: 0,
            dirty: Dirty::default(),
            is_unsaved: false,
            lacking_bytes: 0,
            partial: known.state.partial,
            is_begun: false,
        };
        (table, opened)
    }
}

/// Looks for data in unfinished files, keeping the last one open since pieces come in order.
struct Probe<'a> {
    tree: &'a Tree,
    work: Option<(&'a WorkFolder, Option<&'a File>)>,
    last: Option<(FileIndex, File)>,
}

impl Probe<'_> {
    /// Whether no part of a piece is known never to have been written.
    fn may_be_there(&mut self, info: &Info, files: &[Evidence], piece: PieceIndex) -> bool {
        let Some((folder, side)) = self.work else { return true };
        info.segments(piece).all(|segment| match files[segment.file.idx()].place {
            Place::Side => side.is_some_and(|side| {
                sys::may_be_data(side, info.files[segment.file.idx()].offset + segment.offset, segment.len)
            }),
            Place::Work => {
                if self.last.as_ref().is_none_or(|(file, _)| *file != segment.file) {
                    let opened = self.tree.open(&folder.part(segment.file), Access::Read);
                    self.last = opened.ok().map(|file| (segment.file, file));
                }
                self.last
                    .as_ref()
                    .is_some_and(|(_, file)| sys::may_be_data(file, segment.offset, segment.len))
            }
            _ => true,
        })
    }
}

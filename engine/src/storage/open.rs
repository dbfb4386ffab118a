//! Opening a torrent's files: what is already there, and what of it can be trusted.

mod files;
mod known;
mod pieces;

use super::error::StorageError;
use super::journal::Journal;
use super::names;
use super::options::{Mode, OpenOptions, Opened, Trust};
use super::state::State;
use super::sys;
use super::table::Place;
use super::tree::Tree;
use super::trust::Writing;
use super::work::{STATE, Work, WorkFolder, looks_like_work_folder};
use super::{FileStorage, SavedState};
use files::{Evidence, len_of};
use known::Known;
use std::fs::File;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use swarm_core::bitfield::Bitfield;
use swarm_core::metainfo::{FileEntry, Info};

/// Opens a torrent's files: see [`FileStorage::open`].
pub(super) fn open(original: Arc<Info>, options: OpenOptions) -> Result<(FileStorage, Opened), StorageError> {
    let original = match options.layout.is_empty() {
        true => original,
        false => {
            let named = options.layout.apply(&original);
            Arc::new(named.map_err(|e| StorageError::UnsafePath { path: e.to_string() })?)
        }
    };
    let is_seed = options.mode == Mode::Seed;
    if !is_seed {
        check_paths(&original)?;
        std::fs::create_dir_all(&options.dir).map_err(|e| {
            // The deepest that is there.
            let in_the_way = options.dir.ancestors().find(|path| path.symlink_metadata().is_ok());
            match in_the_way.filter(|path| !path.is_dir()) {
                Some(path) => StorageError::WrongKind { path: path.to_owned(), wanted: "a folder" },
                None => StorageError::space(&options.dir, "create", 0, e),
            }
        })?;
    }
    let root = options.dir.canonicalize().map_err(|e| StorageError::io(&options.dir, "open", e))?;
    let saved_state = options.state_dir.as_ref().map(|dir| SavedState::new(dir, &original, &root));
    let tree = Tree::new(root);
    let opening = |info: &Arc<Info>| Opening {
        info: Arc::clone(info),
        options: &options,
        tree: &tree,
        saved_state: saved_state.as_ref(),
    };
    let (info, findings, work) = if is_seed {
        let info = names::for_reading(&original, tree.root());
        let findings = opening(&info).seed()?;
        (info, findings, None)
    } else {
        let folder = WorkFolder::lock(&tree, &original.name)?;
        let found = names::for_download(&original, &tree, &folder).and_then(|info| {
            let found = opening(&info).download(&folder)?;
            Ok((info, found))
        });
        match found {
            Ok((info, (findings, journal, part_file))) => {
                (info, findings, Some(Work::new(folder, journal, part_file)))
            }
            Err(e) => {
                folder.abandon();
                return Err(e);
            }
        }
    };
    let is_saved = work.is_none() && findings.known.is_saved;
    let (table, mut opened) = findings.conclude(&info, &options);
    opened.warnings.extend(names::warning(&original, &info));
    let storage = FileStorage {
        tree,
        saved_state,
        is_seed,
        overwrite: options.overwrite,
        id: options.handles.register(),
        handles: options.handles,
        budget: options.budget,
        table: Mutex::new(table),
        work: Mutex::new(work.map(Arc::new)),
        removed_part_file: Mutex::default(),
        left_over: Mutex::default(),
        writing: Writing::default(),
        is_saved: AtomicBool::new(is_saved),
        may_mend: AtomicBool::new(!is_seed),
        state_checked: Mutex::default(),
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
    let files = info.files.iter().filter(|file| !file.is_padding_for_sure());
    let mut paths = files.flat_map(|file| std::iter::once(&file.path).chain(&file.symlink_target));
    paths.find(|path| !is_safe(path)).map_or(Ok(()), |path| unsafe_path(path))
}

struct Opening<'a> {
    info: Arc<Info>,
    options: &'a OpenOptions,
    tree: &'a Tree,
    saved_state: Option<&'a SavedState>,
}

/// What is there.
struct Findings {
    known: Known,
    files: Vec<Evidence>,
    wanted: Vec<bool>,
    have: Bitfield,
    recheck: Bitfield,
    damaged: Bitfield,
}

impl Opening<'_> {
    fn seed(&self) -> Result<Findings, StorageError> {
        let mut known = self.known_in_state_dir();
        if self.options.trust == Trust::Nothing {
            known.trust_nothing(&self.info);
        }
        let files = self.info.files.iter().zip(&known.state.stamps);
        let files: Vec<Evidence> = files.map(|(file, saved)| self.seed_file(file, *saved)).collect();
        let wanted = vec![true; files.len()];
        let (have, recheck, damaged) = self.classify(&known, &files, None);
        Ok(Findings { known, files, wanted, have, recheck, damaged })
    }

    /// The findings, an empty journal, and the part file if there is one.
    fn download(&self, folder: &WorkFolder) -> Result<(Findings, Journal, Option<File>), StorageError> {
        let mut known = self.known_in(folder)?;
        let is_distrusted = folder.is_distrusted()?;
        if is_distrusted || matches!(self.options.trust, Trust::Nothing | Trust::Found(_)) {
            known.trust_nothing(&self.info);
        }
        if let Trust::Found(report) = &self.options.trust {
            known.trust_report(report);
        }
        let wanted = match &self.options.mode {
            Mode::Download { wanted: Some(wanted) } => wanted.clone(),
            _ => vec![true; self.info.files.len()],
        };
        assert_eq!(wanted.len(), self.info.files.len(), "one choice for each file");
        let part_file = folder.find_part_file()?;
        let files = self.find_files(folder, &known, &wanted, part_file.as_ref())?;
        let (have, recheck, damaged) = self.classify(&known, &files, Some((folder, part_file.as_ref())));
        let part_file_len = len_of(part_file.as_ref());
        known.state.partial.retain(|&piece, blocks| {
            let start = self.info.geometry.offset_of(piece);
            blocks.retain(|&index| {
                let block = self.info.geometry.block(piece, index);
                start + u64::from(block.begin) + u64::from(block.len) <= part_file_len
            });
            !have.has(piece) && !recheck.has(piece) && !blocks.is_empty()
        });
        let findings = Findings { known, files, wanted, have, recheck, damaged };
        // From now on files change: what is known so far is saved, with how they look now.
        let state = findings.state(&self.info);
        state.save(self.tree, &folder.folder(), STATE, None)?;
        if is_distrusted {
            folder.end_distrust()?;
        }
        let journal = folder.new_journal(self.info.info_hash, state.generation)?;
        Ok((findings, journal, part_file))
    }

    fn trusts_length(&self, file: &FileEntry, len: u64) -> bool {
        self.options.trust == Trust::Lengths && len == file.length
    }
}

impl Findings {
    /// The state that a download starts with.
    fn state(&self, info: &Info) -> State {
        // A file that is only read may not be what it should be: it is known once it has been checked.
        let is_known = |file: &Evidence| file.place == Place::Present && file.is_intact;
        let stamp = |file: &Evidence| file.stamp.filter(|_| is_known(file) || file.place == Place::Work);
        let verified = self.files.iter().zip(&self.known.state.verified);
        State {
            info_hash: info.info_hash,
            generation: self.known.state.generation.wrapping_add(1),
            have: self.have.clone(),
            in_doubt: self.recheck.clone(),
            stamps: self.files.iter().map(stamp).collect(),
            verified: verified.map(|(file, &was)| was && is_known(file)).collect(),
            in_part_file: self.files.iter().map(|file| file.place == Place::PartFile).collect(),
            partial: self.known.state.partial.clone(),
            rotten: self.known.state.rotten.clone(),
            scrubbed: self.known.state.scrubbed,
            boot_id: sys::boot_id(),
            is_clean: false,
        }
    }
}

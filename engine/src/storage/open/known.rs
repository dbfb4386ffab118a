//! What an earlier run has saved.

use super::Opening;
use crate::storage::error::StorageError;
use crate::storage::journal;
use crate::storage::state::{Loaded, State};
use crate::storage::sys::{self, Stamp};
use crate::storage::verify::{FileState, Report};
use crate::storage::work::{STATE, WorkFolder};
use std::fs::File;
use swarm_core::bitfield::Bitfield;
use swarm_core::metainfo::Info;

/// What an earlier run left, and how far it can be trusted.
pub(super) struct Known {
    pub(super) state: State,
    /// The system may have lost what is not marked, or there are no marks: what looks like data may be right.
    pub(super) is_suspect: bool,
    /// The machine was started anew since, without a clean stop: the end of the journal may be lost, and the latest times of files.
    is_other_boot: bool,
    /// Pieces that were read just now and found bad, in files that look as they did then.
    pub(super) wrong: Option<Bitfield>,
    /// It comes from the user's state folder.
    pub(super) is_saved: bool,
    pub(super) warnings: Vec<String>,
}

impl Known {
    fn nothing(info: &Info) -> Known {
        Known {
            state: State::new(info),
            is_suspect: false,
            is_other_boot: false,
            wrong: None,
            is_saved: false,
            warnings: Vec::new(),
        }
    }

    /// Whatever is there is checked.
    pub(super) fn trust_nothing(&mut self, info: &Info) {
        let known = std::mem::replace(&mut self.state, State::new(info));
        // What was right and is not any more, though its files look as they did, has rotted.
        let mut rotten = known.rotten;
        known.have.iter().for_each(|piece| {
            rotten.insert(piece);
        });
        let State { generation, stamps, .. } = known;
        self.state = State { generation, stamps, rotten, ..State::new(info) };
        self.is_suspect = true;
    }

    /// What was found just now of files under their final names. Nothing else is trusted.
    pub(super) fn trust_report(&mut self, report: &Report) {
        self.state.have = report.pieces_ok.clone();
        self.state.stamps.clone_from(&report.looks);
        self.state.verified = report.files.iter().map(|&file| file == FileState::Ok).collect();
        self.state.is_clean = true;
        // What is wrong is to be put right block by block, whatever it was before.
        self.state.rotten = Bitfield::empty(report.pieces_ok.len());
        self.wrong = Some(report.pieces_wrong.clone());
    }

    /// Whether an unfinished file is as we left it.
    pub(super) fn is_as_left(&self, saved: Option<Stamp>, found: Stamp) -> bool {
        saved.is_some_and(|saved| {
            let is_earlier = self.is_other_boot && found.mtime_ns <= saved.mtime_ns;
            saved == found || is_earlier && Stamp { mtime_ns: saved.mtime_ns, ..found } == saved
        })
    }

    /// Adds what was written and synced since the state was saved.
    fn replay(&mut self, info: &Info, journal: File) {
        let lengths: Vec<u64> = info.files.iter().map(|file| file.length).collect();
        let (pieces, state) = (info.geometry.pieces(), &mut self.state);
        let replay = journal::replay(journal, info.info_hash, state.generation, pieces, &lengths);
        for piece in replay.unmarked.into_keys() {
            state.in_doubt.insert(piece);
        }
        for piece in replay.marked.iter() {
            state.have.insert(piece);
        }
        for (file, _) in replay.files {
            state.verified[file.idx()] = true;
        }
        for (file, stamp) in replay.stamps {
            state.stamps[file.idx()] = Some(stamp);
        }
        for piece in replay.doubted {
            state.have.remove(piece);
            state.in_doubt.insert(piece);
            info.segments(piece).for_each(|segment| state.verified[segment.file.idx()] = false);
        }
    }
}

impl Opening<'_> {
    /// What the state in the user's state folder says.
    pub(super) fn known_in_state_dir(&self) -> Known {
        let mut known = Known::nothing(&self.info);
        let Some(saved_state) = self.saved_state else { return known };
        match saved_state.load(&self.info) {
            Ok(Loaded::State(state)) if state.info_hash == self.info.info_hash => {
                (known.state, known.is_saved) = (state, true);
            }
            Ok(Loaded::Nothing) => {
                if let Some(state) = saved_state.load_distrusted(&self.info) {
                    known.state = state;
                    known.trust_nothing(&self.info);
                }
            }
            Ok(_) => known
                .warnings
                .push(format!("{}: damaged, all data is checked again", saved_state.path().display())),
            Err(e) => known.warnings.push(format!("{e}; all data is checked again")),
        }
        known
    }

    /// What the work folder says, or if it is new the user's state folder.
    pub(super) fn known_in(&self, folder: &WorkFolder) -> Result<Known, StorageError> {
        let path = folder.path(STATE);
        let mut known = Known::nothing(&self.info);
        match State::load(self.tree, &path, &self.info)? {
            Loaded::State(state) if state.info_hash != self.info.info_hash => {
                if !self.options.overwrite && !folder.holds_nothing()? {
                    return Err(StorageError::OtherTorrent { path: self.tree.path_of(&folder.folder()) });
                }
                folder.clear()?;
                return Ok(self.known_in_state_dir());
            }
            Loaded::State(state) => {
                known.is_other_boot = !state.is_clean && state.boot_id != sys::boot_id();
                known.is_suspect = known.is_other_boot;
                known.state = state;
            }
            Loaded::Nothing if folder.unfinished_files()?.is_empty() => return Ok(self.known_in_state_dir()),
            Loaded::Nothing | Loaded::Unusable => {
                known.is_suspect = true;
                let path = self.tree.path_of(&path);
                let warning = format!("{}: missing or damaged, all data is checked again", path.display());
                known.warnings.push(warning);
                return Ok(known);
            }
        }
        if let Some(journal) = folder.find_journal()? {
            known.replay(&self.info, journal);
        }
        Ok(known)
    }
}

//! Taking over what is on this machine already: files of other torrents, other versions, other downloads.
//!
//! 1. **Candidates** are the regular files below the given folders that have the length, or the path, of a wanted file ([`candidates`]).
//!    The walk is bounded, and no link is followed, neither then nor when a candidate is opened.
//! 2. Each is hashed as if it were the wanted file, in pieces that lie in this file alone, and compared ([`matching`]). Where several
//!    wanted files have the same length and lie alike in their pieces, as in version 2 all do, a candidate is hashed once for all of
//!    them. One that has another name is looked at in three places first.
//! 3. What matches is cloned where the file system can share blocks, else copied ([`taking`]). What pieces have of neighbouring files
//!    comes along, if the candidate is right beside it.
//! 4. The caller has all pieces that may be complete now checked as any others. Only then do they count.
//!
//! A torrent that runs already takes what other torrents of the session complete meanwhile in another way ([`elsewhere`]): nothing is cloned or
//! copied beside what the download itself writes. What matches is read block by block, as if a peer had sent it.

mod candidates;
mod elsewhere;
mod matching;
mod taking;

use super::Location;
use candidates::{CandidateId, Candidates};
pub(crate) use elsewhere::Elsewhere;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use swarm_core::bitfield::Bitfield;
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::metainfo::FileEntry;

/// Where files may be that are to be reused.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReuseSources {
    /// Folders, or files, that the user names.
    pub(crate) dirs: Vec<PathBuf>,
    /// Torrents of the same session.
    pub(crate) torrents: Vec<Sibling>,
    /// The user's state folder, which knows where complete torrents are.
    pub(crate) state_dir: Option<PathBuf>,
}

/// Which lengths files may have, in 256 bits: whether two torrents have a file of the same length shows at once where they have few.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lengths([u64; 4]);

impl Lengths {
    pub(crate) fn of<'a>(files: impl IntoIterator<Item = &'a FileEntry>) -> Lengths {
        let mut bits = [0; 4];
        for file in files.into_iter().filter(|file| !file.attr.pad && file.length > 0) {
            // Multiplied by the golden ratio, as Fibonacci hashing has it: lengths are often round.
            let hash = file.length.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            bits[(hash >> 62) as usize] |= 1 << ((hash >> 56) & 63);
        }
        Lengths(bits)
    }

    /// Whether some lengths may be the same.
    pub(crate) fn may_meet(&self, other: &Lengths) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }
}

/// Another torrent of the session.
#[derive(Clone, Debug)]
pub(crate) struct Sibling {
    pub(crate) location: Location,
    /// The files to look at; `None`: all.
    pub(crate) files: Option<BTreeSet<FileIndex>>,
    /// How long these are.
    pub(crate) lengths: Lengths,
}

impl ReuseSources {
    pub(crate) fn is_empty(&self) -> bool {
        self.dirs.is_empty() && self.torrents.is_empty() && self.state_dir.is_none()
    }
}

/// What was found of a torrent's files.
#[derive(Debug, Default)]
pub(crate) struct Reusable {
    candidates: Candidates,
    files: Vec<ReusableFile>,
    /// Pieces that may be complete once everything has been taken.
    pieces: Option<Bitfield>,
}

impl Reusable {
    /// Pieces that are to be checked.
    pub(crate) fn pieces(&self) -> Option<&Bitfield> {
        self.pieces.as_ref()
    }

    /// What the user should know, a line each.
    pub(crate) fn warnings(&self) -> &[String] {
        self.candidates.warnings()
    }

    /// Where what is taken comes from.
    pub(crate) fn origins(&self) -> Vec<&Path> {
        let mut origins: Vec<&Path> = Vec::new();
        for part in self.files.iter().flat_map(|file| &file.parts) {
            let origin = self.candidates.origin_of(part.candidate);
            if !origins.contains(&origin) {
                origins.push(origin);
            }
        }
        origins
    }

    /// Whether a file was cloned, and so shares its blocks with the one that it comes from.
    pub(crate) fn is_cloned(&self, file: FileIndex) -> bool {
        self.files.iter().any(|found| found.file.index == file && found.cloned.is_some())
    }
}

/// What was found of one file.
#[derive(Debug)]
struct ReusableFile {
    file: Inside,
    parts: Vec<Part>,
    /// The part that has been cloned, and with it the whole file.
    cloned: Option<usize>,
    /// Everything has been copied.
    is_taken: AtomicBool,
}

impl ReusableFile {
    fn is_taken(&self) -> bool {
        self.is_taken.load(Ordering::Relaxed)
    }
}

/// A file of the torrent, and the pieces that lie in it alone.
#[derive(Clone, Copy, Debug)]
struct Inside {
    index: FileIndex,
    /// The first of them.
    first: PieceIndex,
    /// How many there are.
    count: u32,
}

/// What one candidate has of a file.
#[derive(Debug)]
struct Part {
    candidate: CandidateId,
    /// Pieces that are right, counted from the first one that lies in the file alone.
    pieces: Bitfield,
    /// Whether what comes before these is taken too. It belongs to a piece that the file shares with others, and is likely right.
    head: bool,
    /// The same for what comes after them.
    tail: bool,
}

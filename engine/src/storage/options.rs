//! How a torrent's files are opened, and what was found then.

use super::handles::Handles;
use super::space::SpaceBudget;
use super::verify::Report;
use std::path::PathBuf;
use std::sync::Arc;
use swarm_core::bitfield::Bitfield;
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::metainfo::Layout;

/// How to open a torrent's files.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The folder that holds, or will hold, the torrent's file or folder.
    pub dir: PathBuf,
    /// Other names of the files than those of the torrent.
    pub layout: Layout,
    /// Whether files are written or only read.
    pub mode: Mode,
    /// Where the state of complete torrents is kept, so that a restart needs no check; `None` for nowhere. Not inside the
    /// destination, which may be read-only.
    pub state_dir: Option<PathBuf>,
    /// What is trusted of what is already there.
    pub trust: Trust,
    /// Whether files in the way that are not this torrent's may be replaced.
    pub overwrite: bool,
    /// Open files and maps, shared by all torrents of a session.
    pub handles: Arc<Handles>,
    /// A simulated limit of the disk, for tests.
    pub budget: Option<Arc<SpaceBudget>>,
}

impl OpenOptions {
    /// No state folder, no overwriting.
    pub fn new(dir: impl Into<PathBuf>, mode: Mode) -> OpenOptions {
        OpenOptions {
            dir: dir.into(),
            layout: Layout::default(),
            mode,
            state_dir: None,
            trust: Trust::State,
            overwrite: false,
            handles: Arc::default(),
            budget: None,
        }
    }
}

/// Whether files are written or only read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Missing pieces are downloaded.
    Download {
        /// For each file of the metainfo whether it is wanted; `None` wants all.
        wanted: Option<Vec<bool>>,
    },
    /// The data is there. Nothing is ever written into its folder, and symbolic links in it are followed.
    Seed,
}

/// What is trusted of what is already there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// The saved state, as far as the files' lengths and times bear it out.
    #[default]
    State,
    /// Nothing: every piece is checked.
    Nothing,
    /// What was found by reading it all just now, of files that have not changed since. The rest is checked.
    Found(Arc<Report>),
    /// Files of the right length are right. For data that the caller has just made or checked.
    Lengths,
}

/// What was found when a storage was opened.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Pieces that are known to be right.
    pub have: Bitfield,
    /// Pieces to pass to [`Storage::check_piece`](super::Storage::check_piece) before they are announced or
    /// downloaded. No piece is in both sets.
    pub recheck: Bitfield,
    /// Pieces of which something is on disk, and known not to verify. Those that fail a check come to these.
    pub damaged: Bitfield,
    /// Pieces that the wanted files need, those in `have` included. When all of them are there, call
    /// [`Storage::finish`](super::Storage::finish).
    pub needed: Bitfield,
    /// Blocks of needed pieces, by index, that an earlier run has left in the part file: for
    /// [`PieceBuffer::with_spilled`](crate::buffer::PieceBuffer::with_spilled). They were never verified.
    pub partial: Vec<(PieceIndex, Vec<u32>)>,
    /// Wanted files that are missing or too short, in [`Mode::Seed`] only.
    pub absent: Vec<FileIndex>,
    /// What the user should know, one line each, such as a state file that had to be ignored.
    pub warnings: Vec<String>,
}

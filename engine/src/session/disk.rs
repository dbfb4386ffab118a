//! What is under way between a torrent and its disk.

use super::command::ReadPart;
use super::prepared::RangeKey;
use crate::buffer::Spill;
use crate::storage::{Checked, PieceOutcome, Prepared, StorageError};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::merkle::Node;
use swarm_core::time::Time;
use tokio::sync::Notify;

/// What a worker has done for a torrent.
#[derive(Debug)]
pub(crate) enum DiskResult {
    Piece {
        piece: PieceIndex,
        outcome: PieceOutcome,
        digests: Vec<[u8; 20]>,
    },
    Spilled {
        spill: Spill,
        result: Result<(), StorageError>,
    },
    Prepared {
        window: RangeKey,
        result: Result<Prepared, StorageError>,
    },
    Synced(Result<Vec<FileIndex>, StorageError>),
    Space(Result<(), StorageError>),
    /// A piece in doubt was hashed again.
    Checked {
        piece: PieceIndex,
        result: Result<bool, StorageError>,
    },
    /// Files with bad pieces were looked at: whether there are still some.
    BadFiles(Result<bool, StorageError>),
    /// A piece that peers ask for again was hashed again.
    Suspected {
        piece: PieceIndex,
        result: Result<bool, StorageError>,
    },
    /// A piece was read again over time.
    Scrubbed {
        piece: PieceIndex,
        result: Result<bool, StorageError>,
    },
    /// Pieces that saved state vouches for were hashed before they are sent.
    Unchecked(Vec<Checked>),
    /// Pieces were read again for their leaves.
    Leaves {
        first: PieceIndex,
        pieces: u32,
        leaves: Result<Vec<Node>, StorageError>,
    },
    /// The blocks of a piece that is on disk were hashed.
    BlocksHashed {
        piece: PieceIndex,
        digests: Vec<[u8; 20]>,
    },
    Finished(Result<Vec<FileIndex>, StorageError>),
    /// A defect: the job ended without a result.
    Panicked,
}

/// What workers have done, until the torrent takes it. At rest it takes a tenth of the memory of tokio's channels.
#[derive(Clone, Debug, Default)]
pub(super) struct DiskResults(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    results: Mutex<VecDeque<Box<DiskResult>>>,
    changed: Notify,
}

impl DiskResults {
    pub(super) fn push(&self, result: DiskResult) {
        self.results().push_back(Box::new(result));
        self.0.changed.notify_one();
    }

    pub(super) fn try_next(&self) -> Option<DiskResult> {
        self.results().pop_front().map(|result| *result)
    }

    /// The next result. Only one may wait for it.
    pub(super) async fn next(&self) -> DiskResult {
        loop {
            if let Some(result) = self.try_next() {
                return result;
            }
            self.0.changed.notified().await;
        }
    }

    fn results(&self) -> MutexGuard<'_, VecDeque<Box<DiskResult>>> {
        self.0.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is under way between a torrent and its disk.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// Pieces being verified and written, in bytes.
    pub(super) writing: u64,
    pub(super) spilling: bool,
    /// Complete pieces that wait for a spill of theirs to end, and whether digests are wanted.
    pub(super) waiting: BTreeMap<PieceIndex, bool>,
    pub(super) syncing: bool,
    pub(super) sync_at: Option<Time>,
    /// What keeps data from being stored, and when to try again.
    pub(super) stalled: Option<Stall>,
    /// How often it was tried in vain since it last took data.
    pub(super) failures: u32,
    /// `finish` is under way, or done.
    pub(super) finishing: bool,
    /// `finish` is to be tried again when there is space.
    pub(super) unfinished: bool,
    pub(super) doubted: Doubted,
    /// Made when it is first needed: most torrents rest.
    unchecked: Option<Box<Unchecked>>,
}

/// The disk takes no data.
#[derive(Debug)]
pub(super) struct Stall {
    pub(super) error: Arc<StorageError>,
    /// When to ask it again; `None` while it is being asked.
    pub(super) retry_at: Option<Time>,
    /// It may be better: what waits is tried, and shows.
    pub(super) is_trying: bool,
}

impl Disk {
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let retry = self.stalled.as_ref().and_then(|stall| stall.retry_at);
        [retry, self.sync_at.filter(|_| !self.syncing), self.doubted.look_at].into_iter().flatten().min()
    }

    /// The torrent ends: nothing waits to be checked any more.
    pub(super) fn clear_unchecked(&mut self) {
        self.unchecked.iter_mut().for_each(|unchecked| unchecked.clear());
    }

    /// Whether the piece, which is here again, had rotted.
    pub(super) fn is_mended(&mut self, piece: PieceIndex) -> bool {
        self.unchecked.as_mut().is_some_and(|unchecked| unchecked.mending.remove(&piece))
    }

    pub(super) fn unchecked(&mut self) -> &mut Unchecked {
        self.unchecked.get_or_insert_default()
    }

    /// The piece's blocks are gone.
    pub(super) fn forget(&mut self, piece: PieceIndex) {
        self.waiting.remove(&piece);
    }

    /// Whether nothing is to be given to the disk for now.
    pub(super) fn is_held(&self) -> bool {
        self.stalled.as_ref().is_some_and(|stall| !stall.is_trying)
    }

    /// Why nothing can be stored, if so.
    pub(super) fn stalled_by(&self) -> Option<&Arc<StorageError>> {
        self.stalled.as_ref().map(|stall| &stall.error)
    }
}

/// Pieces that are hashed again, a few at a time.
#[derive(Debug, Default)]
pub(super) struct Doubted {
    pub(super) waiting: VecDeque<PieceIndex>,
    pub(super) under_way: usize,
    /// How many bad pieces were found in each file, and whether some of them are fetched again.
    pub(super) bad: BTreeMap<FileIndex, (u32, bool)>,
    /// When to look whether somebody has put bad files right.
    pub(super) look_at: Option<Time>,
}

impl Doubted {
    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.under_way == 0
    }

    /// The torrent ends: what was not looked at is looked at when it starts again.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.look_at = None;
    }
}

/// What waits until pieces that saved state vouches for have been hashed. As many ranges as connections wait for or are about to, and as
/// many parts as readers do.
#[derive(Debug, Default)]
pub(super) struct Unchecked {
    /// Those that no worker has been given yet.
    pub(super) asked: VecDeque<PieceIndex>,
    pub(super) under_way: usize,
    pub(super) waiting: BTreeMap<PieceIndex, WaitingForCheck>,
    /// Pieces that have rotted, and are fetched again into files that were complete.
    pub(super) mending: BTreeSet<PieceIndex>,
}

/// What waits for one piece.
#[derive(Debug, Default)]
pub(super) struct WaitingForCheck {
    /// To be prepared.
    pub(super) ranges: Vec<Range<u32>>,
    /// To be read.
    pub(super) parts: Vec<ReadPart>,
}

impl Unchecked {
    /// What waits for this piece, which is to be hashed before others.
    pub(super) fn ask_now(&mut self, piece: PieceIndex) -> &mut WaitingForCheck {
        if let Some(at) = self.asked.iter().position(|asked| *asked == piece) {
            self.asked.remove(at);
            self.asked.push_front(piece);
        } else if !self.waiting.contains_key(&piece) {
            self.asked.push_front(piece);
        }
        self.waiting.entry(piece).or_default()
    }

    /// Whether somebody waits for the next one already.
    pub(super) fn is_urgent(&self) -> bool {
        let next = self.asked.front().and_then(|piece| self.waiting.get(piece));
        next.is_some_and(|waiting| !waiting.ranges.is_empty() || !waiting.parts.is_empty())
    }

    /// What waits for this piece, which is to be hashed.
    pub(super) fn ask(&mut self, piece: PieceIndex) -> &mut WaitingForCheck {
        self.waiting.entry(piece).or_insert_with(|| {
            self.asked.push_back(piece);
            WaitingForCheck::default()
        })
    }

    /// The torrent ends.
    pub(super) fn clear(&mut self) {
        self.asked.clear();
        self.waiting.clear();
    }
}

/// What wakes a scrub.
#[derive(Debug, Default)]
pub(super) struct Scrubbing {
    /// A piece has been read.
    pub(super) read: Notify,
    /// Its rate is another.
    pub(super) changed: Notify,
}

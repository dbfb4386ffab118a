//! Which pieces of which files the candidates have.

use super::candidates::{CandidateId, Candidates};
use super::{Inside, Part, ReusableFile};
use crate::storage::batch::Cost;
use crate::storage::bulk::hash_range;
use crate::storage::lock;
use crate::storage::table::pieces_in;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use swarm_core::bitfield::Bitfield;
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::metainfo::{Info, PieceHash};

/// Of so many candidates of one length, the likeliest, a look is taken at the first, middle and last piece.
const LIKE_MAX: usize = 10_000;

/// So many files of one name are compared with the path of a wanted file of that name.
const NAMESAKES_MAX: usize = 1_000;

/// So many times the bytes of the wanted files are hashed at most, and [`HASHED_MIN`]: a torrent must not keep the machine busy by files
/// that have the length of many that are here.
const HASHED_MAX: u64 = 8;

/// What may be hashed for any torrent, in bytes.
const HASHED_MIN: u64 = 256 << 20;

/// How much may be hashed for these files.
pub(super) fn budget_for(info: &Info, wanted: &[FileIndex]) -> u64 {
    let all: u64 = wanted.iter().map(|file| info.files[file.idx()].length).sum();
    all.saturating_mul(HASHED_MAX).saturating_add(HASHED_MIN)
}

/// The pieces of a file that lie in no other but padding.
pub(super) fn inside(info: &Info, index: FileIndex) -> Inside {
    let pieces = pieces_in(info, &info.files[index.idx()]);
    let is_alone = |piece: PieceIndex| {
        let mut others = info.segments(piece).filter(|segment| segment.file != index);
        others.all(|segment| info.files[segment.file.idx()].is_padding_for_sure())
    };
    let mut first = pieces.clone().next().map_or(0, |piece| piece.0);
    let mut end = first + pieces.len() as u32;
    // Those between lie in it alone.
    if first < end && !is_alone(PieceIndex(first)) {
        first += 1;
    }
    if first < end && !is_alone(PieceIndex(end - 1)) {
        end -= 1;
    }
    Inside { index, first: PieceIndex(first), count: end.saturating_sub(first) }
}

impl Inside {
    pub(super) fn pieces(&self) -> Range<u32> {
        self.first.0..self.first.0 + self.count
    }

    /// Where these pieces lie in the file, in bytes.
    pub(super) fn bytes(&self, info: &Info) -> Range<u64> {
        let file = &info.files[self.index.idx()];
        if self.count == 0 {
            return 0..0;
        }
        let len = u64::from(info.geometry.piece_len());
        let start = u64::from(self.first.0) * len - file.offset;
        start..(start + u64::from(self.count) * len).min(file.length)
    }
}

/// What is known while candidates are compared.
pub(super) struct Matching<'a> {
    pub(super) info: &'a Info,
    pub(super) candidates: &'a Candidates,
    /// Pieces that are there.
    pub(super) have: &'a Bitfield,
    pub(super) threads: usize,
    /// Bytes that may still be hashed.
    pub(super) budget: AtomicU64,
    pub(super) goes_on: &'a (dyn Fn() -> bool + Sync),
}

/// Files that are hashed alike: a candidate's hashes are compared with all of them.
struct Group {
    files: Vec<ReusableFile>,
    /// For each, the pieces that are still missing, counted from its first.
    missing: Vec<Bitfield>,
    /// Pieces that are looked at first, counted likewise.
    samples: Vec<u32>,
    /// The files that have such a piece of this hash.
    by_sample: HashMap<(u32, PieceHash), Vec<usize>>,
}

/// How likely a candidate has what is wanted; the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    PathAndLength,
    Path,
    NameAndLength,
    Length,
}

impl Matching<'_> {
    /// Whether as much was hashed as may be.
    pub(super) fn is_exhausted(&self) -> bool {
        self.budget.load(Ordering::Relaxed) == 0
    }

    /// What there is of these files.
    pub(super) fn find(&self, wanted: &[FileIndex]) -> Vec<ReusableFile> {
        let mut groups: BTreeMap<(u64, u64, u32), Vec<Inside>> = BTreeMap::new();
        for &index in wanted {
            let (file, inside) = (&self.info.files[index.idx()], inside(self.info, index));
            let last = match inside.count {
                0 => 0,
                count => self.info.geometry.len_of(PieceIndex(inside.first.0 + count - 1)),
            };
            let shift = file.offset % u64::from(self.info.geometry.piece_len());
            groups.entry((file.length, shift, last)).or_default().push(inside);
        }
        let mut found = Vec::new();
        for files in groups.into_values() {
            if !(self.goes_on)() {
                break;
            }
            let mut group = Group::new(self, files);
            for (candidate, likeness, namesakes) in self.ranked(&group) {
                if !(self.goes_on)() || self.is_exhausted() {
                    break;
                }
                match group.files[0].file.count {
                    0 => self.guess(&mut group, candidate, likeness, &namesakes),
                    _ => self.compare(&mut group, candidate, likeness, &namesakes),
                }
                if group.is_done() {
                    break;
                }
            }
            found.extend(group.files.into_iter().filter(|file| !file.parts.is_empty()));
        }
        found
    }

    /// The candidates for a group, the likeliest first, with the files in the group that have the same path or name.
    fn ranked(&self, group: &Group) -> Vec<(CandidateId, Likeness, Vec<usize>)> {
        let mut ranked: BTreeMap<CandidateId, (Likeness, Vec<usize>)> = BTreeMap::new();
        let length = self.info.files[group.files[0].file.index.idx()].length;
        for (n, found) in group.files.iter().enumerate() {
            let file = &self.info.files[found.file.index.idx()];
            let name = file.path.last().map_or("", String::as_str);
            for &candidate in self.candidates.named(name).iter().take(NAMESAKES_MAX) {
                let of = self.candidates.get(candidate);
                let likeness = match (of.has_path_of(file), of.len == length) {
                    (true, true) => Likeness::PathAndLength,
                    (true, false) => Likeness::Path,
                    (false, true) => Likeness::NameAndLength,
                    (false, false) => continue,
                };
                let entry = ranked.entry(candidate).or_insert((likeness, Vec::new()));
                entry.0 = entry.0.min(likeness);
                entry.1.push(n);
            }
        }
        for &candidate in self.candidates.of_len(length).iter().take(LIKE_MAX) {
            ranked.entry(candidate).or_insert((Likeness::Length, Vec::new()));
        }
        let ranked = ranked.into_iter().map(|(candidate, (likeness, files))| (candidate, likeness, files));
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort_by_key(|(_, likeness, _)| *likeness);
        ranked.truncate(LIKE_MAX);
        ranked
    }

    /// A file that has no piece to itself cannot be compared by itself. The likeliest candidate is taken; the pieces that the file
    /// shares with others tell whether it is right.
    fn guess(&self, group: &mut Group, candidate: CandidateId, likeness: Likeness, namesakes: &[usize]) {
        let is_only = self.candidates.of_len(self.candidates.get(candidate).len).len() == 1;
        let files: Vec<usize> = match likeness {
            Likeness::PathAndLength | Likeness::NameAndLength => namesakes.to_vec(),
            Likeness::Length if is_only => (0..group.files.len()).collect(),
            Likeness::Path | Likeness::Length => return,
        };
        for n in files {
            let found = &mut group.files[n];
            if found.parts.is_empty() {
                found.parts.push(Part { candidate, pieces: Bitfield::empty(0), head: true, tail: true });
            }
        }
    }

    /// Hashes a candidate as if it were one of the group's files, and notes what matches.
    fn compare(&self, group: &mut Group, candidate: CandidateId, likeness: Likeness, namesakes: &[usize]) {
        let Some(file) = self.candidates.open(candidate) else { return };
        let shape = group.files[0].file;
        let is_like = likeness != Likeness::Path;
        // The pieces that a file of this length can have.
        let len = self.candidates.get(candidate).len;
        let bytes = shape.bytes(self.info);
        let piece_len = u64::from(self.info.geometry.piece_len());
        let readable = |piece: u32| (bytes.start + u64::from(piece + 1) * piece_len).min(bytes.end) <= len;
        let mut likely: BTreeMap<usize, Bitfield> = BTreeMap::new();
        let none = || Bitfield::empty(shape.count);
        for &sample in group.samples.iter().filter(|&&sample| readable(sample)) {
            let hash = Mutex::new(None);
            self.hash(&file, shape, sample..sample + 1, &|_| true, &|_, found| *lock(&hash) = Some(found));
            let Some(hash) = hash.into_inner().ok().flatten() else { continue };
            for &n in group.by_sample.get(&(sample, hash)).into_iter().flatten() {
                if is_like || namesakes.contains(&n) {
                    likely.entry(n).or_insert_with(none).insert(PieceIndex(sample));
                }
            }
        }
        for &n in namesakes {
            likely.entry(n).or_insert_with(none);
        }
        likely.retain(|&n, _| group.is_missing(n));
        let is_wanted = |piece: u32| {
            let is_missing = |n: &usize| group.missing[*n].has(PieceIndex(piece));
            !group.samples.contains(&piece) && readable(piece) && likely.keys().any(is_missing)
        };
        let files: Vec<usize> = likely.keys().copied().collect();
        let matched: Mutex<Vec<Bitfield>> = Mutex::new(likely.values().cloned().collect());
        if !files.is_empty() {
            self.hash(&file, shape, 0..shape.count, &is_wanted, &|piece, hash| {
                for (&n, matched) in files.iter().zip(lock(&matched).iter_mut()) {
                    if self.info.piece_hash(PieceIndex(group.files[n].file.first.0 + piece)) == hash {
                        matched.insert(PieceIndex(piece));
                    }
                }
            });
        }
        let matched = matched.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (n, matched) in files.into_iter().zip(matched) {
            let length = self.info.files[group.files[n].file.index.idx()].length;
            group.take(n, candidate, &matched, len == length);
        }
    }

    /// Hashes some of the pieces of `shape`, counted from its first, with the bytes of another file. What cannot be read is left out.
    fn hash(
        &self,
        file: &Arc<File>,
        shape: Inside,
        pieces: Range<u32>,
        is_wanted: &(dyn Fn(u32) -> bool + Sync),
        each: &(dyn Fn(u32, PieceHash) + Sync),
    ) {
        let first = shape.first.0;
        let count = pieces.clone().filter(|&piece| is_wanted(piece)).count() as u64;
        let cost = count * u64::from(self.info.geometry.piece_len());
        let charged =
            self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(cost));
        if charged.is_err() {
            // Nothing more is compared.
            self.budget.store(0, Ordering::Relaxed);
            return;
        }
        hash_range(
            self.info,
            first + pieces.start..first + pieces.end,
            self.threads,
            Cost::ALONE,
            &|piece| is_wanted(piece.0 - first),
            &|index| Ok((index == shape.index).then(|| Arc::clone(file))),
            &|piece, hash| {
                if let Ok(hash) = hash {
                    each(piece.0 - first, hash);
                }
                (self.goes_on)()
            },
        );
    }
}

impl Group {
    fn new(matching: &Matching<'_>, files: Vec<Inside>) -> Group {
        let missing = files.iter().map(|file| {
            let mut missing = Bitfield::empty(file.count);
            let pieces = (0..file.count).filter(|at| !matching.have.has(PieceIndex(file.first.0 + at)));
            for at in pieces {
                missing.insert(PieceIndex(at));
            }
            missing
        });
        let missing = missing.collect();
        let mut samples = match files[0].count {
            0 => Vec::new(),
            count => vec![0, count / 2, count - 1],
        };
        samples.dedup();
        let mut by_sample: HashMap<_, Vec<usize>> = HashMap::new();
        for (n, file) in files.iter().enumerate() {
            for &sample in &samples {
                let hash = matching.info.piece_hash(PieceIndex(file.first.0 + sample));
                by_sample.entry((sample, hash)).or_default().push(n);
            }
        }
        let files = files.into_iter().map(|file| ReusableFile {
            file,
            parts: Vec::new(),
            cloned: None,
            is_taken: AtomicBool::new(false),
        });
        Group { files: files.collect(), missing, samples, by_sample }
    }

    fn is_missing(&self, n: usize) -> bool {
        self.missing[n].count() > 0
    }

    fn is_done(&self) -> bool {
        (0..self.files.len()).all(|n| match self.files[n].file.count {
            0 => !self.files[n].parts.is_empty(),
            _ => !self.is_missing(n),
        })
    }

    /// Notes what a candidate has of a file. What lies beside its first and last piece is likely right if these are.
    fn take(&mut self, n: usize, candidate: CandidateId, matched: &Bitfield, has_end: bool) {
        let count = self.files[n].file.count;
        let mut pieces = Bitfield::empty(count);
        for piece in matched.iter() {
            if self.missing[n].remove(piece) {
                pieces.insert(piece);
            }
        }
        if pieces.count() > 0 {
            let is_first = |found: &ReusableFile, edge: fn(&Part) -> bool| !found.parts.iter().any(edge);
            let found = &self.files[n];
            let head = matched.has(PieceIndex(0)) && is_first(found, |part| part.head);
            let tail = has_end && matched.has(PieceIndex(count - 1)) && is_first(found, |part| part.tail);
            self.files[n].parts.push(Part { candidate, pieces, head, tail });
        }
    }
}

//! Ranges of pieces whose bytes are in memory, ready to be sent.
//!
//! A cold page would stall the network thread, so ranges are brought into memory on a worker first. Only what was asked for is:
//! requests that follow one another in a peer's queue make one range, and who has shown that it reads on gets a little
//! more ([`Sent::read_ahead`]). So nobody makes us read much from a disk by asking for little. What was prepared lately
//! is kept: many peers want the same pieces at about the same time.

use crate::storage::Prepared;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::{BlockRef, PeerKey, PieceIndex};
use swarm_core::time::{Duration, Time};

/// The most that is prepared at a time, in bytes. Long enough to be worth a job, short enough that what small files
/// take of our own memory stays small.
const RANGE_LEN_MAX: u32 = 1024 * 1024;
/// How many ranges are kept.
const RANGES_MAX: usize = 256;
/// How much memory of our own the kept ranges may hold, in bytes.
const OWNED_MAX: usize = 8 * 1024 * 1024;
/// After this time a range's files are looked at again, in case someone has changed them.
const RECHECK_AFTER: Duration = Duration::from_millis(250);
/// After this time a range is prepared again: that looks whether its files are still those that have their names.
const PREPARED_FOR: Duration = Duration::from_secs(2);
/// Who was sent so many bytes in a row is expected to read on.
const SEQUENTIAL_MIN: u32 = 4 * BLOCK_LEN;

/// A range of a piece, by where it begins.
pub(super) type RangeKey = (PieceIndex, u32);

#[derive(Debug)]
struct Entry {
    end: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    /// On its way; these connections wait for it.
    Preparing(Vec<PeerKey>),
    Ready {
        data: Prepared,
        used: u64,
        prepared_at: Time,
        checked_at: Time,
    },
}

/// How a block stands that a connection wants.
#[derive(Debug)]
pub(super) enum Lookup {
    /// It is in memory, with this range of its piece.
    Ready(Prepared, Range<u32>),
    /// It is being prepared, and the connection is woken then.
    Preparing,
    /// It must be prepared.
    Missing,
}

/// The prepared ranges of one torrent.
#[derive(Debug, Default)]
pub(super) struct PreparedCache {
    ranges: BTreeMap<RangeKey, Entry>,
    uses: u64,
}

/// What a connection was sent last.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// The prepared range that it was sent from.
    range: Option<(PieceIndex, Range<u32>)>,
    /// The last block.
    last: Option<BlockRef>,
    /// Bytes in a row up to its end.
    run: u32,
}

impl Sent {
    /// A block leaves, out of this range of its piece. Whether that is another range than before.
    pub(super) fn note(&mut self, block: BlockRef, range: Range<u32>) -> bool {
        self.run = if self.is_next(block) { self.run.saturating_add(block.len) } else { block.len };
        self.last = Some(block);
        let range = Some((block.piece, range));
        let is_new = self.range != range;
        self.range = range;
        is_new
    }

    fn is_next(&self, block: BlockRef) -> bool {
        self.last.is_some_and(|last| last.piece == block.piece && last.begin + last.len == block.begin)
    }

    /// Whether the block lies in the range that was sent from last.
    pub(super) fn is_in_range(&self, block: BlockRef) -> bool {
        let within = |range: &Range<u32>| range.start <= block.begin && block.begin + block.len <= range.end;
        self.range.as_ref().is_some_and(|(piece, range)| *piece == block.piece && within(range))
    }

    /// How many bytes to prepare from this block on, though nobody asked for them yet: as many as the connection has been
    /// sent in a row before it, so that at most half of what is read is in vain.
    pub(super) fn read_ahead(&self, block: BlockRef) -> u32 {
        let follows = self.range.as_ref().is_some_and(|(piece, range)| {
            *piece == block.piece && (range.end == block.begin || range.contains(&block.begin))
        });
        if self.run >= SEQUENTIAL_MIN && (follows || self.is_next(block)) { self.run } else { 0 }
    }
}

/// The range to prepare for a block: with the requests that follow it in the queue without a gap, and so many bytes
/// `ahead`, up to the end of the piece. At most [`RANGE_LEN_MAX`], or the block itself.
pub(super) fn asked_range(
    first: BlockRef,
    queue: &VecDeque<BlockRef>,
    ahead: u32,
    piece_end: u32,
) -> Range<u32> {
    let mut end = first.begin + first.len;
    let most = first.begin.saturating_add(RANGE_LEN_MAX);
    let first_end = end;
    let after = queue.iter().skip_while(|block| block.piece != first.piece || block.begin < first_end);
    for block in after {
        if block.piece != first.piece || block.begin > end || end >= most {
            break;
        }
        end = end.max(block.begin + block.len);
    }
    let wanted = end.max(first.begin.saturating_add(ahead));
    first.begin..wanted.min(most).max(first.begin + first.len).min(piece_end)
}

impl PreparedCache {
    /// Looks for a block. If it is [missing](Lookup::Missing), have it prepared, and say so with [`preparing`](Self::preparing). With
    /// `look` what is ready is looked at again, however lately it was.
    pub(super) fn look_up(&mut self, block: BlockRef, peer: PeerKey, now: Time, look: bool) -> Lookup {
        self.uses += 1;
        let uses = self.uses;
        let Some((start, entry)) = self.covering(block) else { return Lookup::Missing };
        match &mut entry.state {
            State::Preparing(waiting) => {
                if !waiting.contains(&peer) {
                    waiting.push(peer);
                }
                Lookup::Preparing
            }
            State::Ready { prepared_at, .. } if now.since(*prepared_at) >= PREPARED_FOR => Lookup::Missing,
            State::Ready { data, used, checked_at, .. } => {
                if look || now.since(*checked_at) >= RECHECK_AFTER {
                    if !data.still_valid() {
                        return Lookup::Missing;
                    }
                    *checked_at = now;
                }
                *used = uses;
                Lookup::Ready(data.clone(), start..entry.end)
            }
        }
    }

    /// Whether a block is neither ready nor being prepared.
    pub(super) fn is_missing(&mut self, block: BlockRef) -> bool {
        self.covering(block).is_none()
    }

    /// The range that a block lies in, and where it starts. Of several that overlap only the last is looked at.
    fn covering(&mut self, block: BlockRef) -> Option<(u32, &mut Entry)> {
        let key = (block.piece, block.begin);
        let (&(piece, start), entry) = self.ranges.range_mut(..=key).next_back()?;
        (piece == block.piece && block.begin + block.len <= entry.end).then_some((start, entry))
    }

    /// A range is being prepared, for a connection that waits for it or ahead of its use.
    pub(super) fn preparing(&mut self, piece: PieceIndex, range: Range<u32>, waiting: Option<PeerKey>) {
        let mut waiting: Vec<PeerKey> = waiting.into_iter().collect();
        let key = (piece, range.start);
        if let Some(Entry { state: State::Preparing(before), .. }) = self.ranges.get_mut(&key) {
            // A shorter one is on its way: who waits for that is woken by whichever comes first, and looks again.
            waiting.append(before);
        }
        self.ranges.insert(key, Entry { end: range.end, state: State::Preparing(waiting) });
    }

    /// A range is ready, or could not be prepared. Returns who waited for it.
    pub(super) fn prepared(&mut self, key: RangeKey, data: Option<Prepared>, now: Time) -> Vec<PeerKey> {
        let waiting = match self.ranges.remove(&key).map(|entry| entry.state) {
            Some(State::Preparing(waiting)) => waiting,
            _ => Vec::new(),
        };
        if let Some(data) = data {
            self.uses += 1;
            let end = data.range().end;
            // What lies within it would hide it.
            let within = self
                .ranges
                .range(key..(key.0, end))
                .filter(|(_, entry)| entry.end <= end && matches!(entry.state, State::Ready { .. }));
            let within: Vec<RangeKey> = within.map(|(key, _)| *key).collect();
            within.iter().for_each(|key| drop(self.ranges.remove(key)));
            let state = State::Ready { data, used: self.uses, prepared_at: now, checked_at: now };
            self.ranges.insert(key, Entry { end, state });
            self.evict();
        }
        waiting
    }

    /// Forgets what is ready of a piece that is no longer to be relied on.
    pub(super) fn forget(&mut self, piece: PieceIndex) {
        self.ranges.retain(|key, entry| key.0 != piece || !matches!(entry.state, State::Ready { .. }));
    }

    fn evict(&mut self) {
        loop {
            let here = self.ranges.iter().filter_map(|(key, entry)| match &entry.state {
                State::Ready { data, used, .. } => Some((*used, *key, data.owned_bytes())),
                State::Preparing(_) => None,
            });
            let (mut count, mut owned, mut oldest) = (0, 0, None::<(u64, RangeKey)>);
            for (used, key, bytes) in here {
                count += 1;
                owned += bytes;
                oldest = Some(oldest.map_or((used, key), |o| o.min((used, key))));
            }
            match oldest {
                Some((_, key)) if count > 1 && (count > RANGES_MAX || owned > OWNED_MAX) => {
                    self.ranges.remove(&key);
                }
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE_LEN: u32 = 4 << 20;

    fn block(piece: u32, begin: u32, len: u32) -> BlockRef {
        BlockRef { piece: PieceIndex(piece), begin, len }
    }

    /// Sends what a peer asks for, `outstanding` requests at a time: how many bytes are brought into memory, and in how many jobs.
    fn send_all(asked: &[BlockRef], outstanding: usize) -> (u64, usize) {
        let (mut sent, mut here) = (Sent::default(), Vec::<(PieceIndex, Range<u32>)>::new());
        let (mut bytes, mut jobs) = (0, 0);
        for (nth, &first) in asked.iter().enumerate() {
            let queue = asked[nth + 1..].iter().take(outstanding - 1).copied().collect();
            let covers = |(piece, range): &&(PieceIndex, Range<u32>)| {
                *piece == first.piece && range.start <= first.begin && first.begin + first.len <= range.end
            };
            let range = here.iter().find(covers).map(|(_, range)| range.clone()).unwrap_or_else(|| {
                let range = asked_range(first, &queue, sent.read_ahead(first), PIECE_LEN);
                assert!(range.start == first.begin && range.end >= first.begin + first.len);
                assert!(range.end <= PIECE_LEN && range.len() as u32 <= RANGE_LEN_MAX);
                (bytes, jobs) = (bytes + range.len() as u64, jobs + 1);
                here.push((first.piece, range.clone()));
                range
            });
            sent.note(first, range);
        }
        (bytes, jobs)
    }

    #[test]
    fn requests_of_one_byte_have_little_more_read_than_they_ask_for() {
        let far_apart: Vec<BlockRef> = (0..200).map(|n| block(n, n * 17_000, 1)).collect();
        assert_eq!(send_all(&far_apart, 200), (200, 200));
        let in_a_row: Vec<BlockRef> = (0..200).map(|n| block(3, n, 1)).collect();
        assert_eq!(send_all(&in_a_row, 200), (200, 1));
        assert_eq!(send_all(&in_a_row, 1), (200, 200), "so little is no sequence");
    }

    #[test]
    fn who_reads_on_has_few_jobs_done_and_little_read_in_vain() {
        let asked: Vec<BlockRef> = (0..256).map(|n| block(0, n * BLOCK_LEN, BLOCK_LEN)).collect();
        for outstanding in [1, 2, 16, 500] {
            let (bytes, jobs) = send_all(&asked, outstanding);
            assert_eq!(bytes, u64::from(PIECE_LEN), "{outstanding} outstanding");
            assert!(jobs <= 16, "{jobs} jobs with {outstanding} outstanding");
        }
        for stops_after in [4, 5, 9, 30, 100] {
            let (bytes, _) = send_all(&asked[..stops_after], 1);
            assert!(
                bytes <= 2 * stops_after as u64 * u64::from(BLOCK_LEN),
                "{bytes} after {stops_after} blocks"
            );
        }
    }

    #[test]
    fn blocks_that_jump_about_are_prepared_alone() {
        let asked: Vec<BlockRef> =
            (0..100).map(|n| block(n % 7, n * 37 % 200 * BLOCK_LEN, BLOCK_LEN)).collect();
        let (bytes, _) = send_all(&asked, 50);
        assert!(bytes <= 100 * u64::from(BLOCK_LEN));
    }

    #[test]
    fn a_range_is_prepared_once_and_wakes_each_who_waits_once() {
        let mut cache = PreparedCache::default();
        let now = Time::from_micros(1);
        assert!(matches!(cache.look_up(block(1, 0, 10), PeerKey(1), now, false), Lookup::Missing));
        cache.preparing(PieceIndex(1), 0..100, Some(PeerKey(1)));
        for peer in [1, 2, 2] {
            assert!(matches!(cache.look_up(block(1, 20, 10), PeerKey(peer), now, false), Lookup::Preparing));
        }
        assert!(matches!(cache.look_up(block(1, 95, 10), PeerKey(3), now, false), Lookup::Missing));
        assert!(matches!(cache.look_up(block(2, 20, 10), PeerKey(3), now, false), Lookup::Missing));
        assert_eq!(cache.prepared((PieceIndex(1), 0), None, now), [PeerKey(1), PeerKey(2)]);
        assert!(cache.ranges.is_empty(), "nothing is kept of what could not be read");
    }
}

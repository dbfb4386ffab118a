//! Memory for what arrives: pooled 16 KiB blocks, and the pieces assembled from them.
//!
//! A piece is put together here, verified here and then written once, so the file
//! never holds an unverified byte. Memory is counted by *received bytes*, not by open
//! pieces: super-seeding hands each neighbour a different piece and pieces may have
//! 16 MiB, so a pool of whole pieces would stall with most of its memory empty.
//!
//! The pool has a hard limit. [`BlockPool::take`] gives `None` when it is reached; the
//! caller then spills the slowest partial piece ([`PieceBuffer::take_for_spill`]), stops
//! requesting, and at last stops reading sockets.

use memmap2::MmapMut;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use swarm_core::geometry::{BLOCK_LEN, Geometry};
use swarm_core::id::PieceIndex;
use swarm_core::time::Time;

/// Bytes in a pooled block.
pub const BLOCK_BYTES: usize = BLOCK_LEN as usize;

/// Blocks that are asked of the system at a time. Its pages cost nothing before they are touched.
const SLAB_BLOCKS: usize = 64;

type RawBlock = [u8; BLOCK_BYTES];

/// Pooled blocks with a hard limit on their total size. Cloning gives another handle of the same pool.
#[derive(Clone)]
pub struct BlockPool {
    shared: Arc<Shared>,
}

struct Shared {
    limit_blocks: usize,
    /// Blocks that are out of the pool.
    used: AtomicUsize,
    free: Mutex<FreeList>,
}

/// Blocks in the pool, last returned on top since that one is still in a cache, and all memory ever asked
/// for.
#[derive(Default)]
struct FreeList {
    blocks: Vec<NonNull<RawBlock>>,
    slabs: Vec<MmapMut>,
    /// Whether a block was taken since the last [`BlockPool::trim`].
    active: bool,
}

// SAFETY: the pointers in the list lie in the slabs beside them and nobody else has them, so the list owns
// what they point to and may be used from any thread.
unsafe impl Send for FreeList {}

impl BlockPool {
    /// A pool that never holds more than `limit_bytes`, rounded down to whole blocks but at least one. Memory
    /// is asked for when first needed.
    pub fn new(limit_bytes: usize) -> BlockPool {
        let limit_blocks = (limit_bytes / BLOCK_BYTES).max(1);
        BlockPool {
            shared: Arc::new(Shared {
                limit_blocks,
                used: AtomicUsize::new(0),
                free: Mutex::new(FreeList::default()),
            }),
        }
    }

    /// A block of unspecified content, or `None` when the limit is reached or the system has no memory.
    pub fn take(&self) -> Option<Block> {
        let mut free = self.shared.lock();
        if self.shared.used.load(Ordering::Relaxed) == self.shared.limit_blocks {
            return None;
        }
        if free.blocks.is_empty() {
            free.grow(self.shared.limit_blocks)?;
        }
        let data = free.blocks.pop()?;
        free.active = true;
        self.shared.used.fetch_add(1, Ordering::Relaxed);
        Some(Block { data, pool: Arc::clone(&self.shared) })
    }

    /// Bytes in blocks that are out of the pool.
    pub fn used_bytes(&self) -> usize {
        self.shared.used.load(Ordering::Relaxed) * BLOCK_BYTES
    }

    /// The most that [`used_bytes`](Self::used_bytes) can be.
    pub fn limit_bytes(&self) -> usize {
        self.shared.limit_blocks * BLOCK_BYTES
    }

    /// Gives the memory of free blocks back to the system if no block was taken since the last call. Meant to
    /// be called now and then, say every half minute, so that an idle session does not sit on what a busy one
    /// needed.
    pub fn trim(&self) {
        let mut free = self.shared.lock();
        if !std::mem::take(&mut free.active) {
            free.release();
        }
    }
}

impl fmt::Debug for BlockPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockPool({} of {} bytes)", self.used_bytes(), self.limit_bytes())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, FreeList> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FreeList {
    /// Asks the system for one more slab, or for what is left up to the limit.
    fn grow(&mut self, limit_blocks: usize) -> Option<()> {
        let have: usize = self.slabs.iter().map(|slab| slab.len() / BLOCK_BYTES).sum();
        let count = (limit_blocks - have).min(SLAB_BLOCKS);
        let mut slab = MmapMut::map_anon(count * BLOCK_BYTES).ok()?;
        let blocks = slab.chunks_exact_mut(BLOCK_BYTES).map(|bytes| NonNull::from(bytes).cast());
        self.blocks.extend(blocks.rev());
        self.slabs.push(slab);
        Some(())
    }

    /// Lets the system take back the pages of every free block; the addresses stay ours.
    fn release(&mut self) {
        // Neighbours together, lowest address on top afterwards.
        self.blocks.sort_unstable_by(|a, b| b.cmp(a));
        #[cfg(target_os = "linux")]
        for run in self.blocks.chunk_by(|a, b| a.as_ptr() == b.as_ptr().wrapping_add(1)) {
            let start = run[run.len() - 1].as_ptr();
            // SAFETY: the blocks of the run are adjacent, mapped, and ours alone; the kernel gives zeros when
            // they are touched again, and a free block's content is unspecified. Failure changes nothing.
            unsafe { libc::madvise(start.cast(), run.len() * BLOCK_BYTES, libc::MADV_DONTNEED) };
        }
    }
}

/// A 16 KiB block out of a [`BlockPool`], which gets it back when it is dropped.
pub struct Block {
    data: NonNull<RawBlock>,
    pool: Arc<Shared>,
}

// SAFETY: a block owns its bytes: the pool has forgotten them until they come back.
unsafe impl Send for Block {}
// SAFETY: a shared block only gives out shared references to its bytes.
unsafe impl Sync for Block {}

impl Deref for Block {
    type Target = [u8; BLOCK_BYTES];
    fn deref(&self) -> &RawBlock {
        // SAFETY: `data` points into a slab that lives as long as `pool`, its bytes were initialised by the
        // system, and this block is the only owner.
        unsafe { self.data.as_ref() }
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut RawBlock {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { self.data.as_mut() }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut free = self.pool.lock();
        free.blocks.push(self.data);
        self.pool.used.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Block")
    }
}

/// What a piece has of one of its blocks.
#[derive(Debug, Default)]
enum Slot {
    #[default]
    Missing,
    Memory(Block),
    /// On its way to the part file.
    Spilling,
    /// In the part file.
    Spilled,
    /// On disk, where it belongs, and right when it was last looked at.
    InPlace,
    /// Known to be zeros: in no memory.
    Padding,
}

static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// The blocks of one piece that have arrived, in memory or spilled to the part file.
///
/// Each block is in exactly one of six states: missing, in memory, being spilled, spilled, in place, padding.
#[derive(Debug)]
pub struct PieceBuffer {
    piece: PieceIndex,
    len: u32,
    slots: Vec<Slot>,
    in_memory: usize,
    /// When the last block came.
    pub received_at: Time,
}

/// Blocks on their way to the part file; see [`PieceBuffer::take_for_spill`].
#[derive(Debug)]
#[must_use = "the blocks are lost unless spilled or restored"]
pub struct Spill {
    piece: PieceIndex,
    blocks: Vec<(u32, Block)>,
}

impl Spill {
    /// The piece that the blocks belong to.
    pub fn piece(&self) -> PieceIndex {
        self.piece
    }

    /// The blocks with their indices in the piece, ascending.
    pub fn blocks(&self) -> &[(u32, Block)] {
        &self.blocks
    }
}

impl PieceBuffer {
    /// An empty buffer for `piece`.
    ///
    /// # Panics
    /// If there is no such piece.
    #[cfg(test)]
    pub fn new(geometry: &Geometry, piece: PieceIndex) -> PieceBuffer {
        PieceBuffer::with_padding(geometry, piece, std::iter::empty())
    }

    /// An empty buffer for `piece`, with blocks of these indices that are zeros and will not come.
    ///
    /// # Panics
    /// If there is no such piece or block.
    pub fn with_padding(
        geometry: &Geometry,
        piece: PieceIndex,
        padding: impl Iterator<Item = u32>,
    ) -> PieceBuffer {
        let mut slots: Vec<Slot> =
            std::iter::repeat_with(Slot::default).take(geometry.blocks_in(piece) as usize).collect();
        padding.for_each(|index| slots[index as usize] = Slot::Padding);
        PieceBuffer { piece, len: geometry.len_of(piece), slots, in_memory: 0, received_at: Time::default() }
    }

    /// The same, now that these blocks of the piece are in the part file, from an earlier run.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn with_spilled(mut self, blocks: &[u32]) -> PieceBuffer {
        for &index in blocks {
            let slot = &mut self.slots[index as usize];
            if matches!(slot, Slot::Missing) {
                *slot = Slot::Spilled;
            }
        }
        self
    }

    /// The same, of a piece that is on disk and bad, of which these blocks are right.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn with_in_place(mut self, blocks: &[u32]) -> PieceBuffer {
        for &index in blocks {
            let slot = &mut self.slots[index as usize];
            if matches!(slot, Slot::Missing) {
                *slot = Slot::InPlace;
            }
        }
        self
    }

    /// Whether this block is on disk, where it belongs.
    pub fn is_in_place(&self, block_index: u32) -> bool {
        matches!(self.slots.get(block_index as usize), Some(Slot::InPlace))
    }

    /// The piece.
    pub fn piece(&self) -> PieceIndex {
        self.piece
    }

    /// Bytes in the piece.
    pub fn piece_len(&self) -> u32 {
        self.len
    }

    /// Puts in the block with this index in the piece. False if it is already there: the first one stays, and
    /// the other goes back to its pool.
    ///
    /// # Panics
    /// If the piece has no such block.
    pub fn insert(&mut self, block_index: u32, block: Block) -> bool {
        let slot = &mut self.slots[block_index as usize];
        let is_new = matches!(slot, Slot::Missing);
        if is_new {
            *slot = Slot::Memory(block);
            self.in_memory += 1;
        }
        is_new
    }

    /// Whether every block is here and none is still on its way to the part file, so that the piece can be
    /// verified.
    pub fn is_complete(&self) -> bool {
        !self.slots.iter().any(|slot| matches!(slot, Slot::Missing | Slot::Spilling))
    }

    /// Bytes of pooled memory that this piece holds.
    pub fn bytes_in_memory(&self) -> usize {
        self.in_memory * BLOCK_BYTES
    }

    /// Whether some of the piece is in the part file.
    pub fn has_spilled(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot, Slot::Spilled))
    }

    /// Forgets the blocks of these indices: they are to come again.
    pub fn forget(&mut self, blocks: &[u32]) {
        for &index in blocks {
            let slot = &mut self.slots[index as usize];
            self.in_memory -= usize::from(matches!(slot, Slot::Memory(_)));
            if !matches!(slot, Slot::Padding) {
                *slot = Slot::Missing;
            }
        }
    }

    /// Takes the blocks out of memory for [`Storage::spill`](crate::storage::Storage::spill). Afterwards,
    /// call [`spilled`](Self::spilled) or, if that failed, [`restore`](Self::restore); until then the piece
    /// does not count as complete.
    pub fn take_for_spill(&mut self) -> Spill {
        let mut blocks = Vec::with_capacity(std::mem::take(&mut self.in_memory));
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if matches!(slot, Slot::Memory(_))
                && let Slot::Memory(block) = std::mem::replace(slot, Slot::Spilling)
            {
                blocks.push((index as u32, block));
            }
        }
        Spill { piece: self.piece, blocks }
    }

    /// The blocks of `spill` are in the part file: their memory is free again.
    pub fn spilled(&mut self, spill: Spill) {
        debug_assert_eq!(spill.piece, self.piece);
        for (index, _) in &spill.blocks {
            self.slots[*index as usize] = Slot::Spilled;
        }
    }

    /// The blocks of `spill` could not be written: they go back into the piece.
    pub fn restore(&mut self, spill: Spill) {
        debug_assert_eq!(spill.piece, self.piece);
        self.in_memory += spill.blocks.len();
        for (index, block) in spill.blocks {
            self.slots[index as usize] = Slot::Memory(block);
        }
    }

    /// The bytes of a block that is in memory or padding, at its length in the piece.
    pub fn block(&self, block_index: u32) -> Option<&[u8]> {
        let bytes: &[u8; BLOCK_BYTES] = match self.slots.get(block_index as usize)? {
            Slot::Memory(block) => block,
            Slot::Padding => &ZEROS,
            Slot::Missing | Slot::Spilling | Slot::Spilled | Slot::InPlace => return None,
        };
        let rest = self.len - block_index * BLOCK_LEN;
        Some(&bytes[..rest.min(BLOCK_LEN) as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_is_hard_and_blocks_come_back() {
        let pool = BlockPool::new(3 * BLOCK_BYTES + 5);
        assert_eq!(pool.limit_bytes(), 3 * BLOCK_BYTES);
        let mut blocks: Vec<Block> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!((blocks.len(), pool.used_bytes()), (3, pool.limit_bytes()));
        for (i, block) in blocks.iter_mut().enumerate() {
            block.fill(i as u8 + 1);
        }
        assert!(blocks.iter().enumerate().all(|(i, b)| b.iter().all(|&x| x == i as u8 + 1)));
        blocks.pop();
        assert!(pool.take().is_some());
        drop(blocks);
        assert_eq!(pool.used_bytes(), 0);
    }

    #[test]
    fn slabs_stop_at_the_limit() {
        let pool = BlockPool::new(100 * BLOCK_BYTES);
        for _ in 0..2 {
            let all: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
            assert_eq!(all.len(), 100);
        }
        let all: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        let mut at: Vec<_> = all.iter().map(|b| b.as_ptr() as usize).collect();
        at.sort_unstable();
        assert!(at.windows(2).all(|w| w[1] - w[0] >= BLOCK_BYTES), "blocks overlap");
    }

    #[test]
    fn blocks_move_between_threads_and_outlive_the_pool() {
        let pool = BlockPool::new(1 << 20);
        let mut block = pool.take().unwrap();
        drop(pool);
        let block = std::thread::spawn(move || {
            block[7] = 42;
            block
        });
        assert_eq!(block.join().unwrap()[7], 42);
    }

    #[test]
    fn trim_waits_for_an_idle_spell_and_keeps_what_is_in_use() {
        let pool = BlockPool::new(1 << 20);
        let mut kept = pool.take().unwrap();
        kept.fill(9);
        drop((pool.take(), pool.take()));
        pool.trim();
        pool.trim();
        assert!(kept.iter().all(|&b| b == 9));
        let mut again = pool.take().unwrap();
        again.fill(1);
        assert!(kept.iter().all(|&b| b == 9));
    }

    fn geometry() -> Geometry {
        // Two pieces, the second of three blocks with a short last one.
        Geometry::new(4 * 16_384 + 2 * 16_384 + 100, 4 * 16_384).unwrap()
    }

    #[test]
    fn piece_is_assembled_in_any_order() {
        let pool = BlockPool::new(1 << 20);
        let mut piece = PieceBuffer::new(&geometry(), PieceIndex(1));
        for index in [2, 0, 1] {
            assert!(!piece.is_complete());
            assert!(piece.insert(index, pool.take().unwrap()));
        }
        assert!(piece.is_complete());
        assert!(!piece.insert(1, pool.take().unwrap()), "the first one stays");
        assert_eq!(piece.block(2).unwrap().len(), 100);
        assert_eq!(piece.block(0).unwrap().len(), BLOCK_BYTES);
        assert_eq!((piece.bytes_in_memory(), pool.used_bytes()), (3 * BLOCK_BYTES, 3 * BLOCK_BYTES));
        piece.forget(&[1]);
        assert!(!piece.is_complete());
        assert_eq!((piece.bytes_in_memory(), pool.used_bytes()), (2 * BLOCK_BYTES, 2 * BLOCK_BYTES));
        assert!(piece.insert(1, pool.take().unwrap()) && piece.is_complete());
        drop(piece);
        assert_eq!(pool.used_bytes(), 0);
    }

    #[test]
    fn spilling_is_not_complete_until_it_is_done() {
        let pool = BlockPool::new(1 << 20);
        let mut piece = PieceBuffer::new(&geometry(), PieceIndex(1));
        piece.insert(0, pool.take().unwrap());
        piece.insert(2, pool.take().unwrap());
        let spill = piece.take_for_spill();
        assert_eq!(spill.blocks().iter().map(|b| b.0).collect::<Vec<_>>(), [0, 2]);
        piece.insert(1, pool.take().unwrap());
        assert!(!piece.is_complete());
        piece.restore(spill);
        assert!(piece.is_complete() && !piece.has_spilled());
        let spill = piece.take_for_spill();
        piece.spilled(spill);
        assert!(piece.is_complete() && piece.has_spilled());
        assert_eq!((piece.bytes_in_memory(), pool.used_bytes()), (0, 0));
        assert_eq!(piece.block(0), None);
    }
}

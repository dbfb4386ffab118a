//! What a torrent that nobody asks for costs in memory.

mod common;

use common::session;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use swarm_core::metainfo::{Content, Create, Metainfo};
use swarm_engine::{AddTorrent, MetainfoSpool};
use tempfile::TempDir;

/// Bytes that are allocated now.
static LIVE: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const PIECES: u64 = 1_000;
const PIECE_LEN: u32 = 16_384;
/// The most that a torrent at rest may take, in bytes, beside its info dictionary, which lies in a file.
const IDLE_MAX: usize = 11 * 1024;

/// A torrent of zeros, whose file takes no space on the disk.
fn publish(dir: &std::path::Path, name: &str) -> Metainfo {
    let length = PIECES * u64::from(PIECE_LEN);
    std::fs::File::create(dir.join(name)).unwrap().set_len(length).unwrap();
    let hash = swarm_engine::hash::sha1([&[0; PIECE_LEN as usize][..]]);
    let create = Create::new(name.to_owned(), Content::File { length, attr: Default::default() }, PIECE_LEN);
    Metainfo::parse(&create.encode(swarm_core::metainfo::Hashes::v1(&hash.repeat(PIECES as usize))).unwrap())
        .unwrap()
}

#[tokio::test]
async fn a_seed_at_rest_takes_little_memory() {
    let dir = TempDir::new().unwrap();
    let seeder = session("127.0.0.1");
    let torrents = 60;
    let spool = MetainfoSpool::new(dir.path()).unwrap();
    let mut before = 0;
    // The first ones have the session allocate what all share.
    let first = 20;
    for nth in 0..first + torrents {
        if nth == first {
            before = LIVE.load(Ordering::Relaxed);
        }
        let metainfo = Arc::new(spool.keep(publish(dir.path(), &format!("file {nth}"))));
        let torrent = seeder.add(AddTorrent::seed(metainfo, dir.path())).await.unwrap();
        torrent.completed().await.unwrap();
    }
    let each = (LIVE.load(Ordering::Relaxed) - before) / torrents;
    println!("{each} bytes each");
    assert!(each <= IDLE_MAX, "{each} bytes each");
}

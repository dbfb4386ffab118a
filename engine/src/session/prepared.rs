//! Ranges of pieces whose bytes are in memory, ready to be sent.
//!
//! A cold page would stall the network thread, so ranges are brought into memory
//! on a worker first. What was prepared lately is kept: many peers want the same
//! pieces at about the same time.

use crate::storage::Prepared;
use std::collections::BTreeMap;
use std::ops::Range;
use swarm_core::geometry::Geometry;
use swarm_core::id::{BlockRef, PeerKey, PieceIndex};
use swarm_core::time::{Duration, Time};

/// The bytes that are prepared at a time. Long enough to be worth a job, short enough that what small files
/// take of our own memory stays small.
const WINDOW_LEN: u32 = 1024 * 1024;
/// How many windows are kept.
const WINDOWS_MAX: usize = 64;
/// How much memory of our own the kept windows may hold, in bytes.
const OWNED_MAX: usize = 8 * 1024 * 1024;
/// After this time a window's files are looked at again, in case someone has truncated them.
const RECHECK_AFTER: Duration = Duration::from_secs(1);

/// A window of a piece, by its number.
pub(super) type WindowKey = (PieceIndex, u32);

#[derive(Debug)]
enum Window {
    /// On its way; these connections wait for it.
    Coming(Vec<PeerKey>),
    Here {
        data: Prepared,
        used: u64,
        checked_at: Time,
    },
}

/// What a connection that wants a block is told.
#[derive(Debug)]
pub(super) enum Lookup {
    /// Here it is.
    Here(Prepared),
    /// It will be told.
    Wait,
    /// It will be told, and this range must be prepared.
    Prepare(WindowKey, Range<u32>),
}

/// The prepared windows of one torrent.
#[derive(Debug, Default)]
pub(super) struct PreparedCache {
    windows: BTreeMap<WindowKey, Window>,
    uses: u64,
}

fn window_of(geometry: &Geometry, piece: PieceIndex, begin: u32) -> (WindowKey, Range<u32>) {
    let number = begin / WINDOW_LEN;
    let start = number * WINDOW_LEN;
    ((piece, number), start..geometry.len_of(piece).min(start + WINDOW_LEN))
}

impl PreparedCache {
    /// Looks for a block. A block that lies across two windows (only odd requests do) is prepared by itself.
    pub(super) fn look_up(
        &mut self,
        geometry: &Geometry,
        block: BlockRef,
        peer: PeerKey,
        now: Time,
    ) -> Lookup {
        let (key, mut range) = window_of(geometry, block.piece, block.begin);
        range.end = range.end.max(block.begin + block.len);
        self.uses += 1;
        let uses = self.uses;
        match self.windows.get_mut(&key) {
            Some(Window::Coming(waiting)) => {
                if !waiting.contains(&peer) {
                    waiting.push(peer);
                }
                return Lookup::Wait;
            }
            Some(Window::Here { data, used, checked_at }) if data.covers(block.begin, block.len) => {
                let fresh = now.since(*checked_at) < RECHECK_AFTER || data.still_valid();
                if fresh {
                    if now.since(*checked_at) >= RECHECK_AFTER {
                        *checked_at = now;
                    }
                    *used = uses;
                    return Lookup::Here(data.clone());
                }
            }
            _ => {}
        }
        self.windows.insert(key, Window::Coming(vec![peer]));
        Lookup::Prepare(key, range)
    }

    /// Asks for a window ahead of its first use: the range to prepare, unless it is there or coming.
    pub(super) fn ahead(&mut self, geometry: &Geometry, block: BlockRef) -> Option<(WindowKey, Range<u32>)> {
        let (key, range) = window_of(geometry, block.piece, block.begin);
        if self.windows.contains_key(&key) {
            return None;
        }
        self.windows.insert(key, Window::Coming(Vec::new()));
        Some((key, range))
    }

    /// A window is here, or could not be prepared. Returns who waited for it.
    pub(super) fn arrived(&mut self, key: WindowKey, data: Option<Prepared>, now: Time) -> Vec<PeerKey> {
        let waiting = match self.windows.remove(&key) {
            Some(Window::Coming(waiting)) => waiting,
            _ => Vec::new(),
        };
        if let Some(data) = data {
            self.uses += 1;
            self.windows.insert(key, Window::Here { data, used: self.uses, checked_at: now });
            self.evict();
        }
        waiting
    }

    fn evict(&mut self) {
        loop {
            let here = self.windows.iter().filter_map(|(key, window)| match window {
                Window::Here { data, used, .. } => Some((*used, *key, data.owned_bytes())),
                Window::Coming(_) => None,
            });
            let (mut count, mut owned, mut oldest) = (0, 0, None::<(u64, WindowKey)>);
            for (used, key, bytes) in here {
                count += 1;
                owned += bytes;
                oldest = Some(oldest.map_or((used, key), |o| o.min((used, key))));
            }
            match oldest {
                Some((_, key)) if count > 1 && (count > WINDOWS_MAX || owned > OWNED_MAX) => {
                    self.windows.remove(&key);
                }
                _ => return,
            }
        }
    }
}

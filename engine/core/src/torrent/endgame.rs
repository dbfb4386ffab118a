//! Endgame: the last blocks are requested from more than one peer.

use super::{Pressure, Torrent};
use crate::geometry::BLOCK_LEN;
use crate::id::{BlockRef, PeerKey};
use crate::peer::Peer;
use crate::peer::pipeline::{Outstanding, REQUESTS_MIN};
use crate::picker::{Priority, REQUESTED_FROM_MAX};
use crate::time::{Duration, Time};
use crate::webseed::{self, WebSeed};
use std::cmp::Reverse;

/// The time until an overdue block comes, in effect never.
const OVERDUE: Duration = Duration::from_secs(3_600);
/// Somebody waits for a block that takes longer than this to come: another peer is asked too, if it is quicker.
const URGENT_AFTER: Duration = Duration::from_millis(400);
/// How many of a peer's requests are looked at for overdue ones, the oldest first.
const OVERDUE_LOOKED_AT: usize = 16;

impl Torrent {
    /// Endgame: every missing block is requested somewhere, and this peer is idle. It is also asked for the blocks that will
    /// come last, if it should be at least twice as quick as whoever was asked first. While memory is short this begins
    /// earlier, with overdue blocks only: they hold up the pieces that would free it. So it does with blocks that a reader waits for.
    pub(super) fn pick_duplicates(&mut self, now: Time, key: PeerKey, picks: &mut Vec<BlockRef>) {
        let peer = &self.peers[key];
        if peer.download.snubbed {
            return;
        }
        let is_endgame = self.picker.is_endgame();
        let held = self.held_for();
        let is_urgent = self.picker.has_urgent();
        let is_read = self.picker.is_waited_for();
        let looked_at = if is_endgame || is_urgent { usize::MAX } else { OVERDUE_LOOKED_AT };
        let mut late: Vec<(BlockRef, Duration, PeerKey)> = Vec::new();
        for other in self.peers.values().filter(|other| other.key != key) {
            let mut pace = Pace::of(other, now, held);
            pace.overdue |= is_read && other.is_silent(now, held);
            let asked = other.download.pipeline.iter().enumerate().take(looked_at);
            let useful = asked.filter(|(_, request)| peer.have().has(request.block.piece));
            late.extend(useful.map(|(index, request)| {
                // Of a slow peer one knows little, and somebody waits: what was asked for so long ago may take as long again.
                let age = if is_read { now.since(request.sent_at) } else { Duration::ZERO };
                (request.block, pace.eta(index, request).max(age), other.key)
            }));
        }
        for (seed, blocks) in self.web.outstanding().filter(|_| is_endgame) {
            let pace = Pace::of_web_seed(seed, now);
            let useful = blocks.enumerate().filter(|(_, block)| peer.have().has(block.piece));
            late.extend(useful.map(|(index, block)| (block, pace.of_nth(index), seed.key())));
        }
        self.count(self.peers.len() + late.len());
        // A block requested from several comes from the quickest of them.
        late.sort_unstable();
        let holders = late.clone();
        late.dedup_by_key(|(block, ..)| *block);
        let is_waited_for = |block: &BlockRef| self.picker.priority(block.piece) > Priority::HIGH;
        // Others have time, unless they hold memory that is short.
        let is_short = self.pressure != Pressure::None || !is_urgent;
        late.retain(|(block, eta, _)| {
            let is_late = is_urgent && is_waited_for(block) && *eta >= URGENT_AFTER;
            is_endgame || is_late || is_short && *eta == OVERDUE
        });
        // What is needed sooner comes first where somebody waits, else what comes last.
        let urgency =
            |block: &BlockRef| if is_urgent { self.picker.priority(block.piece) } else { Priority::SKIP };
        late.sort_by_key(|&(block, eta, _)| (Reverse(urgency(&block)), Reverse(eta), block));
        let pace = Pace::of(peer, now, held);
        let room = match self.pressure {
            Pressure::Full => REQUESTS_MIN - peer.download.pipeline.len().min(REQUESTS_MIN),
            _ => peer.download.pipeline.depth(peer.traffic.rate_down.bytes_per_s(now), is_read),
        };
        let mut timed_out = Vec::new();
        for (block, eta, _) in late {
            let ours = peer.download.pipeline.round_trip_min()
                + pace.of_nth(peer.download.pipeline.len() + picks.len());
            // Each peer gets a few overdue blocks at a time: it may not send them either, and others can be tried meanwhile.
            let is_extra = eta == OVERDUE || is_urgent && !is_endgame;
            let room = if is_extra { room.min(REQUESTS_MIN) } else { room };
            if picks.len() >= room {
                break;
            }
            if ours * 2 >= eta {
                if is_urgent {
                    continue;
                }
                break;
            }
            let from = holders.partition_point(|(other, ..)| *other < block);
            let asked = holders[from..].iter().take_while(|(other, ..)| *other == block);
            let idle = asked.filter(|(_, eta, _)| *eta == OVERDUE).map(|(.., holder)| *holder);
            // Peers where it is overdue do not count towards the limit.
            if self.picker.duplicate(block, key, REQUESTED_FROM_MAX + idle.clone().count()) {
                self.requests_doubled += 1;
                picks.push(block);
                timed_out.extend(idle);
            }
        }
        for holder in timed_out {
            // Not there: a web seed.
            self.peers.get_mut(holder).into_iter().for_each(|peer| peer.download.timeouts += 1);
        }
    }
}

/// How fast a peer works through what it was asked for.
struct Pace {
    block_time: Duration,
    silence: Duration,
    overdue: bool,
    now: Time,
}

impl Pace {
    fn of(peer: &Peer, now: Time, held: Duration) -> Pace {
        let rate = peer.traffic.rate_down.bytes_per_s(now).max(1_024);
        let block_time = Duration::from_micros(u64::from(BLOCK_LEN) * 1_000_000 / rate);
        let silence = peer.download.pipeline.waiting_since().map_or(Duration::ZERO, |since| now.since(since));
        Pace { block_time, silence, overdue: peer.download.pipeline.is_overdue(now, held), now }
    }

    fn of_web_seed(seed: &WebSeed, now: Time) -> Pace {
        let block_time =
            Duration::from_micros(u64::from(BLOCK_LEN) * 1_000_000 / seed.bytes_per_s(now).max(1_024));
        Pace { block_time, silence: Duration::ZERO, overdue: seed.silence(now) >= webseed::OVERDUE, now }
    }

    /// When the block of this request, the `index`-th in the queue, should come, from now on.
    fn eta(&self, index: usize, request: &Outstanding) -> Duration {
        if request.is_passed_over(self.now) {
            return OVERDUE;
        }
        self.of_nth(index)
    }

    /// When a block that is `index`-th in the queue comes if all goes well.
    fn of_nth(&self, index: usize) -> Duration {
        if self.overdue {
            return OVERDUE;
        }
        (self.block_time * (index as u32 + 1)).saturating_sub(self.silence)
    }
}

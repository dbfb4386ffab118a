//! Web seeds beside peers: what is asked of them, and when.

mod common;

use common::*;
use std::collections::BTreeMap;
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::{BlockRef, PieceIndex};
use swarm_core::picker::{Order, Priority};
use swarm_core::time::Duration;
use swarm_core::torrent::{Action, Event, PEERS_GIVEN, PieceResult};
use swarm_core::webseed::{Fault, FetchId, OVERDUE, Penalty, QUIET, SILENT_AFTER, SLOT, Standing};
use swarm_core::wire::Message;

const PIECES: u32 = 64;
/// By how much later each downloader begins than the one before.
/// 256 KiB pieces.
const BLOCKS: u32 = 16;

/// What is fetched from web seeds, and what comes of it.
struct Web {
    swarm: Swarm,
    fetches: Vec<(FetchId, Vec<BlockRef>)>,
    cancelled: Vec<FetchId>,
}

impl Web {
    fn new(seeds: u32) -> Web {
        Web::of(Swarm::leecher(PIECES, BLOCKS), seeds)
    }

    fn of(swarm: Swarm, seeds: u32) -> Web {
        let mut web = Web { swarm, fetches: Vec::new(), cancelled: Vec::new() };
        (0..seeds).for_each(|_| _ = web.swarm.torrent.add_web_seed(START));
        let actions = web.swarm.drain();
        web.take(actions);
        web
    }

    fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Fetch { id, blocks, .. } => self.fetches.push((id, blocks)),
                Action::CancelFetch(id) => {
                    self.fetches.retain(|fetch| fetch.0 != id);
                    self.cancelled.push(id);
                }
                _ => {}
            }
        }
    }

    /// Does something, and takes in what follows.
    fn then(&mut self, act: impl FnOnce(&mut Swarm) -> Vec<Action>) {
        let actions = act(&mut self.swarm);
        self.take(actions);
    }

    fn pass(&mut self, time: Duration) {
        self.then(|swarm| swarm.pass(time));
    }

    /// The oldest fetch brings so many blocks; it ends if that is all.
    fn serve_blocks(&mut self, count: usize) {
        let (id, blocks) = self.fetches[0].clone();
        let (now, torrent) = (self.swarm.now, &mut self.swarm.torrent);
        torrent.handle_fetch_answered(now, id);
        blocks.iter().take(count).for_each(|&block| _ = torrent.handle_fetch_block(now, id, block));
        self.fetches[0].1.drain(..count.min(blocks.len()));
        if self.fetches[0].1.is_empty() {
            self.fetches.remove(0);
            torrent.handle_fetch_done(now, id);
        }
        let actions = self.swarm.drain();
        self.take(actions);
    }

    fn serve(&mut self) {
        self.serve_blocks(usize::MAX);
    }

    fn fail(&mut self, fault: Fault, file: Option<std::ops::Range<u64>>) {
        let (id, _) = self.fetches.remove(0);
        self.swarm.torrent.handle_fetch_failed(self.swarm.now, id, fault, file);
        let actions = self.swarm.drain();
        self.take(actions);
    }

    fn asked(&self) -> Vec<u32> {
        let mut pieces: Vec<u32> =
            self.fetches.iter().flat_map(|fetch| fetch.1.iter().map(|block| block.piece.0)).collect();
        pieces.sort_unstable();
        pieces.dedup();
        pieces
    }

    fn penalties(&mut self) -> Vec<Penalty> {
        let events = self.swarm.events().into_iter();
        events
            .filter_map(|event| match event {
                Event::WebSeedFault { penalty, .. } => Some(penalty),
                _ => None,
            })
            .collect()
    }
}

/// A bitfield message of these pieces.
fn bitfield(pieces: impl IntoIterator<Item = u32>) -> Message {
    let mut bits = Bitfield::empty(PIECES);
    pieces.into_iter().for_each(|piece| _ = bits.insert(PieceIndex(piece)));
    Message::Bitfield(bits.to_wire())
}

#[test]
fn a_web_seed_alone_brings_everything_each_block_once() {
    let mut web = Web::new(1);
    let mut steps = 0;
    while !web.swarm.torrent.is_complete() {
        web.serve();
        steps += 1;
        assert!(steps < 1_000);
    }
    assert_eq!(web.swarm.torrent.totals().bytes_down, u64::from(PIECES * BLOCKS * BLOCK_LEN));
    assert_eq!(web.swarm.torrent.totals().bytes_wasted, 0);
    assert!(web.fetches.is_empty());
    web.pass(Duration::from_secs(1));
    assert_eq!(web.swarm.torrent.poll_timeout(), None, "nothing is waited for at rest");
}

#[test]
fn runs_are_longer_than_a_piece_once_the_url_is_proven() {
    let mut web = Web::new(1);
    assert_eq!(web.fetches.len(), 1, "little before a piece is verified");
    web.serve();
    assert!(web.fetches.len() > 1);
    assert!(web.fetches.iter().any(|fetch| fetch.1.len() == 4 * BLOCKS as usize), "{:?}", web.fetches);
    for (_, blocks) in &web.fetches {
        let at = |block: &BlockRef| block.piece.0 * BLOCKS + block.begin / BLOCK_LEN;
        assert!(blocks.windows(2).all(|two| at(&two[1]) == at(&two[0]) + 1), "one block behind the other");
    }
}

#[test]
fn beside_peers_only_gaps_are_fetched() {
    let mut swarm = Swarm::leecher(PIECES, BLOCKS);
    swarm.connect(1);
    swarm.say(1, bitfield((0..PIECES).filter(|piece| !(20..24).contains(piece))));
    let mut web = Web::of(swarm, 1);
    let mut fetched = Vec::new();
    for _ in 0..10 {
        fetched.extend(web.asked());
        if web.fetches.is_empty() {
            web.pass(Duration::from_millis(500));
        } else {
            web.serve();
        }
    }
    fetched.sort_unstable();
    fetched.dedup();
    assert_eq!(fetched, [20, 21, 22, 23]);
}

#[test]
fn peers_that_serve_badly_have_their_time_and_then_the_web_seed_helps() {
    let mut web = Web::new(0);
    web.then(|swarm| {
        swarm.connect(1);
        swarm.say(1, Message::HaveAll)
    });
    web.swarm.torrent.add_web_seed(START);
    web.pass(PEERS_GIVEN - Duration::from_secs(2));
    assert!(web.fetches.is_empty(), "a seed that chokes us may yet serve");
    web.pass(Duration::from_secs(4));
    assert!(!web.fetches.is_empty());
}

#[test]
fn peers_that_have_nothing_yet_do_not_serve_badly() {
    let mut web = Web::new(1);
    web.then(|swarm| {
        swarm.connect(1);
        swarm.say(1, Message::HaveNone)
    });
    web.serve();
    web.pass(PEERS_GIVEN * 2);
    web.then(|swarm| swarm.say(1, bitfield([PIECES - 1])));
    web.serve();
    assert!(!web.asked().contains(&(PIECES - 1)), "what a peer has is left to it: {:?}", web.asked());
}

#[test]
fn a_peer_that_stays_empty_does_not_slow_a_web_seed_for_ever() {
    let mut web = Web::new(1);
    web.then(|swarm| {
        swarm.connect(1);
        swarm.say(1, Message::HaveNone)
    });
    web.pass(SLOT * 2);
    web.serve();
    web.pass(Duration::from_secs(1));
    assert!(web.fetches.len() <= 1, "it may yet have something");
    web.pass(PEERS_GIVEN);
    assert_eq!(web.fetches.len(), 4);
}

#[test]
fn who_shows_pieces_and_gives_none_does_not_hold_up_a_web_seed_again_and_again() {
    let mut web = Web::of(Swarm::leecher(4_096, BLOCKS), 1);
    web.then(|swarm| {
        swarm.connect(1);
        swarm.say(1, Message::HaveNone)
    });
    let mut held_up = Duration::ZERO;
    for second in 0..45 {
        match second % 9 {
            0 => web.then(|swarm| swarm.say(1, Message::Have(PieceIndex(0)))),
            8 => web.then(|swarm| swarm.say(1, dont_have(0))),
            _ => {}
        }
        for _ in 0..web.fetches.len() {
            web.serve();
        }
        held_up += Duration::from_secs(u64::from(web.fetches.len() <= 1));
        web.pass(Duration::from_secs(1));
    }
    assert!(held_up <= PEERS_GIVEN * 2 + Duration::from_secs(2), "{held_up:?}");
}

#[test]
fn peers_that_fetch_nothing_have_slots_kept_free_for_a_bounded_time() {
    const PEERS: u32 = 8;
    let mut swarm = Swarm::leecher(PIECES, BLOCKS);
    for other in 1..=PEERS {
        let mut info = peer(other);
        info.peer_id.0 = [0; 20];
        swarm.connect_as(other, info);
        swarm.say(other, Message::HaveNone);
    }
    let mut web = Web::of(swarm, 1);
    let mut idle = Duration::ZERO;
    while !web.swarm.torrent.is_complete() {
        let is_idle = web.fetches.is_empty();
        let time = Duration::from_millis(if is_idle { 100 } else { 2_000 });
        web.pass(time);
        match is_idle {
            true => idle += time,
            false => web.serve(),
        }
        assert!(idle <= Duration::from_secs(11), "ten seconds, looked at each second: {idle:?}");
    }
}

/// Whoever begins before it knows of others begins with them, and all at once.
#[test]
fn the_first_fetch_waits_for_what_trackers_say_and_not_for_long() {
    let asking = || {
        let mut swarm = Swarm::leecher(PIECES, BLOCKS);
        swarm.torrent.set_asking_trackers(START, true);
        let web = Web::of(swarm, 1);
        assert!(web.fetches.is_empty(), "a tracker may name somebody");
        web
    };
    let mut web = asking();
    web.then(|swarm| {
        swarm.torrent.set_asking_trackers(START, false);
        swarm.drain()
    });
    assert!(!web.fetches.is_empty(), "there is nobody else");

    let mut web = asking();
    web.pass(Duration::from_secs(1) - Duration::from_millis(1));
    assert!(web.fetches.is_empty());
    web.pass(Duration::from_millis(1));
    assert!(!web.fetches.is_empty(), "the tracker takes too long");
}

#[test]
fn downloaders_with_the_same_peers_fetch_different_shares() {
    let share = |id: u8, turns: &[Duration]| {
        let mut config = config();
        config.peer_id.0 = [id; 20];
        let mut swarm = Swarm::new(config, Bitfield::empty(PIECES), BLOCKS);
        for other in (1..=4).filter(|&other| other != u32::from(id)) {
            let mut info = peer(other);
            info.peer_id.0 = [other as u8; 20];
            swarm.connect_as(other, info);
            swarm.say(other, Message::HaveNone);
        }
        let mut web = Web::of(swarm, 1);
        for &wait in turns {
            assert!(web.fetches.is_empty(), "{id} is not the first");
            let turn_at = web.swarm.now + wait;
            assert_eq!(web.swarm.torrent.poll_timeout(), Some(turn_at), "it asks to be woken");
            web.pass(wait);
        }
        assert!(!web.fetches.is_empty(), "{id} waits for its turn and no longer");
        web.asked()
    };
    // Whoever is not the first looks for a while whether others come; two begin together.
    let turns: [&[Duration]; 4] = [&[], &[QUIET], &[QUIET], &[QUIET, SLOT]];
    for ((id, first), turns) in [(1, 0), (2, 16), (3, 32), (4, 48)].into_iter().zip(turns) {
        let asked = share(id, turns);
        assert!(asked.len() == 1 && (first..first + 16).contains(&asked[0]), "{id}: {asked:?}");
    }
}

#[test]
fn a_liar_is_dropped_and_its_pieces_are_fetched_elsewhere() {
    let mut web = Web::new(2);
    web.swarm.verifies = false;
    let piece = web.fetches[0].1[0].piece.0;
    let key = web.swarm.torrent.web_seeds()[0].key();
    web.serve();
    let digests = vec![[1; 20]; BLOCKS as usize];
    web.then(|swarm| swarm.verified(PieceIndex(piece), PieceResult::Corrupt { digests }));
    assert_eq!(web.penalties(), [Penalty::Dropped]);
    let seeds = web.swarm.torrent.web_seeds();
    assert_eq!(seeds.iter().filter(|seed| seed.is_dropped()).count(), 1);
    assert_eq!(seeds.iter().find(|seed| seed.is_dropped()).unwrap().key(), key);
    assert!(!web.swarm.is_here(key.0));
}

#[test]
fn a_failed_fetch_gives_its_blocks_back_and_what_came_is_kept() {
    let mut web = Web::new(1);
    let piece = web.asked()[0];
    web.serve_blocks(5);
    web.fail(Fault::TooLittle, None);
    assert!(web.fetches.is_empty());
    web.then(|swarm| {
        swarm.connect(1);
        swarm.say(1, bitfield([piece]));
        swarm.say(1, Message::Unchoke)
    });
    assert_eq!(web.swarm.asked(1).len(), BLOCKS as usize - 5);
}

#[test]
fn a_silent_web_seed_is_given_up_and_paused() {
    let mut web = Web::new(1);
    web.pass(SILENT_AFTER + Duration::from_secs(1));
    assert_eq!(web.cancelled.len(), 1);
    let now = web.swarm.now;
    assert!(matches!(web.swarm.torrent.web_seeds()[0].standing(now), Standing::Paused(_)));
    web.pass(Duration::from_secs(5));
    assert_eq!(web.fetches.len(), 1, "it is tried again");
}

/// Two web seeds, the first of which has been asked for a piece and sends so many blocks of it; the other has brought the rest.
fn all_but_the_first_ones(blocks: usize) -> Web {
    let mut web = Web::new(2);
    if blocks > 0 {
        web.serve_blocks(blocks);
    }
    let first = web.fetches.remove(0);
    while !web.fetches.is_empty() {
        web.serve();
    }
    assert!(!web.swarm.torrent.is_complete());
    web.fetches.push(first);
    web
}

#[test]
fn a_silent_web_seed_does_not_hold_up_the_end() {
    let mut web = all_but_the_first_ones(0);
    web.pass(OVERDUE + Duration::from_secs(2));
    assert_eq!(web.penalties().len(), 1);
    assert_eq!(web.fetches.len(), 1, "the other takes over");
    web.serve();
    assert!(web.swarm.torrent.is_complete());
}

#[test]
fn a_slow_web_seed_does_not_hold_up_the_end() {
    let mut web = all_but_the_first_ones(1);
    for _ in 0..OVERDUE.as_secs() + 2 {
        if web.cancelled.is_empty() {
            web.serve_blocks(1);
        }
        web.pass(Duration::from_secs(1));
    }
    assert_eq!(web.cancelled.len(), 1);
    web.serve();
    assert!(web.swarm.torrent.is_complete());
}

#[test]
fn a_lost_file_is_left_out_and_the_rest_goes_on() {
    let mut web = Web::new(1);
    let (first, len) = (u64::from(web.asked()[0]), u64::from(BLOCKS * BLOCK_LEN));
    web.fail(Fault::Status { status: 404 }, Some(first * len + 5..first * len + 10));
    assert!(!web.asked().is_empty() && !web.asked().contains(&(first as u32)), "{:?}", web.asked());
}

#[test]
fn a_server_without_ranges_is_asked_in_order_one_run_at_a_time() {
    let mut web = Web::new(1);
    let all = u64::from(PIECES * BLOCKS * BLOCK_LEN);
    web.fail(Fault::NoRanges, Some(0..all));
    assert_eq!(web.penalties(), [Penalty::InOrder]);
    let mut next = 0;
    for _ in 0..3 {
        assert_eq!(web.fetches.len(), 1);
        assert_eq!(web.asked()[0], next, "each run goes on where the last one ended");
        next = web.asked().last().unwrap() + 1;
        web.serve();
    }
    assert!(next < PIECES);
    web.fail(Fault::NoRanges, Some(0..all));
    assert_eq!(web.penalties(), [Penalty::FileDropped]);
}

#[test]
fn a_server_without_ranges_is_not_slow_while_it_sends_what_lies_before() {
    for bytes_per_s in [1_000_000, 1_000] {
        let mut web = Web::new(2);
        let (id, _) = web.fetches[0];
        for _ in 0..30 {
            web.swarm.torrent.handle_fetch_skipped(web.swarm.now, id, bytes_per_s);
            web.pass(Duration::from_secs(1));
        }
        assert_eq!(web.cancelled.contains(&id), bytes_per_s == 1_000, "{bytes_per_s} bytes/s");
    }
}

#[test]
fn idle_peers_take_over_what_a_web_seed_does_not_send() {
    let mut web = Web::of(Swarm::new(config(), all_but(PIECES, &[7]), BLOCKS), 1);
    assert_eq!(web.asked(), [7]);
    web.then(|swarm| {
        swarm.connect(1);
        swarm.say(1, Message::HaveAll);
        swarm.say(1, Message::Unchoke)
    });
    web.pass(Duration::from_secs(8));
    assert!(!web.swarm.asked(1).is_empty(), "the endgame asks the peer too");
    web.then(|swarm| {
        swarm.serve(1, usize::MAX);
        swarm.pass(Duration::from_secs(2))
    });
    assert!(web.swarm.torrent.is_complete());
    assert_eq!(web.cancelled.len(), 1, "nothing more is wanted of it");
}

#[test]
fn unwanted_pieces_are_not_fetched_and_urgent_ones_come_first() {
    let mut web = Web::new(0);
    let priorities = (0..PIECES).map(|piece| {
        let priority = match piece {
            40..44 => Priority::HIGH,
            10..14 => Priority::NORMAL,
            _ => Priority::SKIP,
        };
        (PieceIndex(piece), priority)
    });
    web.swarm.torrent.set_priorities(START, priorities);
    web.swarm.torrent.add_web_seed(START);
    web.then(Swarm::drain);
    let mut order = Vec::new();
    while !web.fetches.is_empty() {
        order.push(web.fetches[0].1[0].piece.0);
        web.serve();
    }
    assert!(web.swarm.torrent.is_complete());
    assert!((40..44).contains(&order[0]) && (10..14).contains(order.last().unwrap()), "{order:?}");
}

#[test]
fn in_order_means_from_the_start() {
    let mut swarm = Swarm::leecher(PIECES, BLOCKS);
    swarm.torrent.set_order(Order::Sequential);
    let mut web = Web::of(swarm, 1);
    assert_eq!(web.asked(), [0]);
    web.serve();
    assert_eq!(web.asked()[0], 1);
}

#[test]
fn stopping_ends_all_fetches() {
    let mut web = Web::new(2);
    let asked = web.fetches.len();
    web.then(|swarm| {
        swarm.torrent.handle_stop(swarm.now);
        swarm.drain()
    });
    assert_eq!((web.cancelled.len(), web.fetches.len()), (asked, 0));
}

#[test]
fn a_download_limit_bounds_what_is_asked_for() {
    let mut web = Web::new(1);
    web.swarm.torrent.set_download_limit(START, Some(100_000));
    web.serve();
    let asked: usize = web.fetches.iter().map(|fetch| fetch.1.len()).sum();
    // What comes in ten seconds.
    assert!(asked as u64 * u64::from(BLOCK_LEN) <= 1_000_000 + u64::from(BLOCK_LEN), "{asked} blocks");
}

#[test]
fn local_pieces_are_taken_at_once_beside_peers_and_over_every_limit_and_are_no_download() {
    let mut web = Web::new(0);
    web.then(|swarm| {
        swarm.connect_seed(0);
        swarm.torrent.set_download_limit(swarm.now, Some(1));
        swarm.drain()
    });
    let mut pieces = Bitfield::empty(PIECES);
    (8..40).for_each(|piece| _ = pieces.insert(PieceIndex(piece)));
    web.then(|swarm| {
        assert_eq!(swarm.torrent.set_local_pieces(swarm.now, pieces).map(|index| index.0), Some(0));
        assert!(swarm.torrent.is_waiting_for_local());
        swarm.drain()
    });
    let mut taken = BTreeMap::<u32, u32>::new();
    while !web.fetches.is_empty() {
        for block in &web.fetches[0].1 {
            assert!((8..40).contains(&block.piece.0), "{block:?}");
            *taken.entry(block.piece.0).or_default() += 1;
        }
        web.serve();
    }
    // But for what the peer was asked for before.
    assert!(taken.values().sum::<u32>() >= 31 * BLOCKS, "{taken:?}");
    assert_eq!(web.swarm.torrent.totals().bytes_down, 0);
    let left = taken.values().any(|blocks| *blocks < BLOCKS);
    assert_eq!(web.swarm.torrent.is_waiting_for_local(), left);
}

#[test]
fn local_pieces_that_have_gone_are_asked_for_no_more() {
    let mut web = Web::new(0);
    let set = |pieces: Bitfield| {
        move |swarm: &mut Swarm| {
            assert!(swarm.torrent.set_local_pieces(swarm.now, pieces).is_some());
            swarm.drain()
        }
    };
    web.then(set(Bitfield::full(PIECES)));
    let fetches = std::mem::take(&mut web.fetches);
    assert!(!fetches.is_empty());
    // The file cannot be read: nothing of it comes.
    web.then(set(Bitfield::empty(PIECES)));
    for (id, _) in fetches {
        let now = web.swarm.now;
        web.swarm.torrent.handle_fetch_done(now, id);
        web.then(Swarm::drain);
    }
    web.pass(Duration::from_secs(60));
    assert!(web.fetches.is_empty() && !web.swarm.torrent.is_waiting_for_local());
    web.then(set(Bitfield::full(PIECES)));
    assert!(!web.fetches.is_empty(), "it is there again");
}

#[test]
fn local_pieces_that_are_wrong_are_taken_no_more_and_web_seeds_are_as_ever() {
    let mut web = Web::new(0);
    web.swarm.verifies = false;
    let all = Bitfield::full(PIECES);
    let add = |swarm: &mut Swarm| swarm.torrent.set_local_pieces(swarm.now, all.clone()).map(|index| index.0);
    web.then(|swarm| {
        assert_eq!(add(swarm), Some(0));
        swarm.drain()
    });
    let first = web.fetches[0].1[0].piece;
    let is_first = |fetch: &(FetchId, Vec<BlockRef>)| fetch.1.iter().any(|block| block.piece == first);
    while let Some(at) = web.fetches.iter().position(is_first) {
        web.fetches.swap(0, at);
        web.serve();
    }
    let wrong = PieceResult::Corrupt { digests: digests_of(first.0, BLOCKS, &[]) };
    web.then(|swarm| swarm.verified(first, wrong));
    assert_eq!(web.swarm.torrent.web_seeds()[0].standing(web.swarm.now), Standing::Dropped);
    assert!(web.fetches.is_empty());
    web.then(|swarm| {
        assert_eq!(add(swarm), None);
        assert_eq!(swarm.torrent.add_web_seed(swarm.now).map(|index| index.0), Some(1));
        swarm.drain()
    });
    web.pass(Duration::from_secs(2));
    assert!(!web.fetches.is_empty(), "the web seed is asked");
}

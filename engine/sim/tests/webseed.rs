//! Web seeds in whole swarms: who pays, and how quick it is.

use std::time::Duration;
use swarm_sim::report::Outcome;
use swarm_sim::scenario::{Params, Scenario};

/// Twenty downloaders on equal lines, from a source that is a peer or a web server. Nothing is scaled: fetches are as long as in life.
fn twenty(scenario: &str, pieces: u32, seed: u64) -> Outcome {
    let params =
        Params { pieces, blocks_per_piece: 16, piece_len: 256 << 10, up_mbit_per_s: 20, ..large(seed) };
    run(scenario, &params)
}

/// Large pieces: each is nobody's for long.
fn large(seed: u64) -> Params {
    Params {
        peers: 20,
        pieces: 128,
        blocks_per_piece: 64,
        piece_len: 1 << 20,
        degree: 20,
        up_mbit_per_s: 100,
        seed,
        ..Params::default()
    }
}

fn run(scenario: &str, params: &Params) -> Outcome {
    let outcome = Scenario::named(scenario).unwrap().run(params).unwrap();
    assert!(outcome.complete && outcome.honest_banned == 0, "{outcome:?}");
    outcome
}

fn mean(outcome: &Outcome) -> Duration {
    outcome.times.iter().sum::<Duration>() / outcome.times.len() as u32
}

#[test]
fn a_web_seed_sends_twenty_downloaders_little_more_than_one_copy_and_is_as_quick_as_a_seed() {
    for seed in [1, 2, 3] {
        let (web, peer) = (twenty("web-seed", 512, seed), twenty("symmetric", 512, seed));
        assert!(web.source_copies_permille <= 1_100, "{} copies", web.source_copies_permille);
        assert!(mean(&web) * 100 <= mean(&peer) * 105, "{:?} beside {:?}", mean(&web), mean(&peer));
        assert!(web.t_last * 100 <= peer.t_last * 105, "{:?} beside {:?}", web.t_last, peer.t_last);
    }
}

#[test]
fn large_pieces_come_one_after_the_other_as_from_a_seed() {
    let (mut with_web, mut with_seed) = (Duration::ZERO, Duration::ZERO);
    for seed in [1, 2, 3] {
        let (web, peer) = (run("web-seed", &large(seed)), run("symmetric", &large(seed)));
        assert!(web.source_copies_permille <= 1_250, "{} copies", web.source_copies_permille);
        (with_web, with_seed) = (with_web + web.t_last, with_seed + peer.t_last);
    }
    assert!(with_web * 100 <= with_seed * 105, "{with_web:?} beside {with_seed:?}");
}

/// Few pieces: much of the torrent is on its way at any time, and nobody's yet; so at the end some are fetched twice.
#[test]
fn a_small_torrent_takes_little_more_than_one_copy_and_is_as_quick_as_from_a_seed() {
    let (mut with_web, mut with_seed) = (Duration::ZERO, Duration::ZERO);
    for seed in [1, 2, 3] {
        let (web, peer) = (twenty("web-seed", 64, seed), twenty("symmetric", 64, seed));
        assert!(web.source_copies_permille <= 1_250, "{} copies", web.source_copies_permille);
        (with_web, with_seed) = (with_web + web.t_last, with_seed + peer.t_last);
    }
    assert!(with_web * 100 <= with_seed * 105, "{with_web:?} beside {with_seed:?}");
}

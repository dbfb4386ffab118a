//! The named scenarios, small, with every invariant checked after every step.

use swarm_sim::Checks;
use swarm_sim::random::Draw;
use swarm_sim::scenario::{Params, SCENARIOS, Scenario};

fn small(seed: u64) -> Params {
    Params {
        peers: 20,
        pieces: 24,
        blocks_per_piece: 4,
        degree: 8,
        seed,
        checks: Checks::EveryStep,
        ..Params::default()
    }
}

#[test]
fn every_scenario_completes_and_nobody_honest_is_banned() {
    for scenario in SCENARIOS {
        let outcome = scenario.run(&small(1)).unwrap();
        assert!(outcome.complete, "{}: {outcome:?}", scenario.name);
        assert_eq!(outcome.honest_banned, 0, "{}", scenario.name);
    }
}

#[test]
fn blocks_rejected_by_a_peer_that_cannot_pay_are_requested_elsewhere_at_the_next_tick() {
    // Here a peer that chokes and unchokes all the time has used up what it may cost, and rejects.
    let params = Params {
        peers: 16,
        pieces: 43,
        blocks_per_piece: 7,
        piece_len: 256 << 10,
        degree: 16,
        up_mbit_per_s: 9,
        delay_ms: 23,
        loss_permille: 5,
        queue_ms: 33,
        ..small(1_795_953_095_423)
    };
    let outcome = Scenario::named("annoyers").unwrap().run(&params).unwrap();
    assert!(outcome.complete, "{outcome:?}");
}

#[test]
fn those_who_want_few_files_of_many_get_them_from_a_super_seed() {
    // Enough pieces that most are wanted by few.
    let params = Params { pieces: 512, checks: Checks::Never, ..small(1) };
    let outcome = Scenario::named("tiny-files").unwrap().run(&params).unwrap();
    assert!(outcome.complete, "{outcome:?}");
}

#[test]
fn a_super_seed_hands_out_few_copies() {
    let params = Params { peers: 40, pieces: 256, degree: 20, checks: Checks::Never, ..small(2) };
    let outcome = Scenario::named("flash-crowd").unwrap().run(&params).unwrap();
    assert!(outcome.complete);
    assert!(outcome.source_copies_permille < 1_120, "{outcome:?}");
    assert!(outcome.t_last * 100 < outcome.t_min * 113, "{outcome:?}");
    let again = Scenario::named("flash-crowd").unwrap().run(&params).unwrap();
    assert_eq!(outcome, again);
}

#[test]
fn tit_for_tat_comes_near_the_bound_and_free_riders_cost_others_little() {
    let params = Params {
        peers: 100,
        pieces: 256,
        blocks_per_piece: 16,
        degree: 40,
        up_mbit_per_s: 10,
        checks: Checks::Never,
        ..small(3)
    };
    let alone = Scenario::named("flash-crowd").unwrap().run(&params).unwrap();
    assert!(alone.complete && alone.t_last * 100 < alone.t_min * 115, "{alone:?}");
    let ridden = Scenario::named("free-riders").unwrap().run(&params).unwrap();
    assert!(ridden.complete && ridden.t_last * 100 < alone.t_last * 107, "{ridden:?} {alone:?}");
    assert!(ridden.riders_permille.is_some_and(|share| share < 600), "{ridden:?}");
}

#[test]
fn poisoners_cost_little_and_are_banned_by_whoever_they_deceived() {
    let params = Params { peers: 40, pieces: 256, degree: 20, checks: Checks::Never, ..small(2) };
    let outcome = Scenario::named("poisoners-10").unwrap().run(&params).unwrap();
    assert!(outcome.complete && outcome.t_last * 100 < outcome.t_min * 116, "{outcome:?}");
    assert!(outcome.deceived > 0 && outcome.unpunished == 0 && outcome.honest_banned == 0, "{outcome:?}");
    assert!(outcome.bytes_wasted * 100 < outcome.bytes_wanted, "{outcome:?}");
}

#[test]
fn nothing_beats_ideal_coding_and_that_does_not_beat_the_bound() {
    let params = Params { peers: 40, pieces: 128, checks: Checks::Never, ..small(4) };
    let run = |name| Scenario::named(name).unwrap().run(&params).unwrap();
    let (coding, pieces) = (run("coding"), run("flash-crowd"));
    assert!(coding.complete && pieces.complete);
    assert!(coding.t_min <= coding.t_last && coding.t_last <= pieces.t_last, "{coding:?} {pieces:?}");
}

#[test]
fn random_swarms_hold_what_must_hold() {
    for seed in 0..40 {
        if let Err(failure) = Draw::new(seed).run() {
            panic!("random run {seed}: {failure}");
        }
    }
}

//! How many threads run a world does not show in what comes of it.

use swarm_core::geometry::{BLOCK_LEN, Geometry};
use swarm_core::time::{Duration, Time};
use swarm_sim::scenario::{Params, Scenario};
use swarm_sim::{Checks, NodeConfig, NodeId, PathFaults, Trace, World};

/// Equal in everything that is reported, and in the trace of all that happened.
fn assert_threads_do_not_matter(scenario: &str, params: Params) {
    let run = |threads| Scenario::named(scenario).unwrap().run(&Params { threads, ..params }).unwrap();
    let one = run(1);
    for threads in [2, 3] {
        assert_eq!(one, run(threads), "{scenario} on {threads} threads");
    }
}

fn params(seed: u64) -> Params {
    Params {
        peers: 40,
        pieces: 32,
        blocks_per_piece: 4,
        degree: 10,
        checks: Checks::Every(Duration::from_millis(200)),
        seed,
        ..Params::default()
    }
}

#[test]
fn a_quiet_swarm_is_the_same_on_any_number_of_threads() {
    assert_threads_do_not_matter("flash-crowd", params(1));
    // Nearly everything arrives together with something else.
    assert_threads_do_not_matter("flash-crowd", Params { delay_ms: 0, ..params(2) });
    assert_threads_do_not_matter("flash-crowd", Params { queue_ms: 0, ..params(3) });
}

#[test]
fn jitter_and_loss_are_the_same_on_any_number_of_threads() {
    let faults = Params { jitter_ms: 10, loss_permille: 20, ..params(1) };
    assert_threads_do_not_matter("flash-crowd", faults);
    assert_threads_do_not_matter("flash-crowd", Params { tracker: true, ..faults });
}

#[test]
fn whatever_befalls_a_swarm_is_the_same_on_any_number_of_threads() {
    for scenario in ["churn", "partition", "crash", "arrivals", "tracker-outage", "annoyers"] {
        assert_threads_do_not_matter(scenario, params(1));
    }
}

#[test]
fn threads_may_come_and_go_while_a_world_runs() {
    let trace = |threads: [usize; 3]| -> Trace {
        let piece_len = u64::from(4 * BLOCK_LEN);
        let mut world = World::new(Geometry::new(48 * piece_len, piece_len).unwrap(), 7);
        world.set_checks(Checks::Never);
        world.set_path_faults(PathFaults { jitter: Duration::from_millis(2), loss_permille: 5 });
        let join = |world: &mut World, seed| {
            let id = world.join(NodeConfig { seed, ..NodeConfig::default() });
            world.introduce(id);
        };
        (0..10).for_each(|i| join(&mut world, i == 0));
        for (part, threads) in threads.into_iter().enumerate() {
            world.set_threads(threads);
            world.run(Time::from_micros(300_000 * (part as u64 + 1)), |_| false);
            world.leave(NodeId(2 + part as u32));
            join(&mut world, false);
        }
        assert!(world.run(Time::from_micros(60_000_000), World::is_complete));
        world.check();
        world.trace()
    };
    let one = trace([1, 1, 1]);
    assert_eq!(one, trace([1, 4, 2]));
    assert_eq!(one, trace([30, 1, 5]));
}

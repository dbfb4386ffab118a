//! Small networks of DHT nodes, in which everybody is to be found.

use swarm_core::time::Duration;
use swarm_sim::dht::report::Outcome;
use swarm_sim::dht::scenario::{Params, Scenario, Tables};

fn run(scenario: &str, tables: Tables, loss_permille: u64) -> Outcome {
    let params = Params { nodes: 300, lookups: 200, tables: Some(tables), loss_permille, seed: 1 };
    Scenario::named(scenario).expect("a scenario").run(&params)
}

fn micros(millis: u64) -> u64 {
    Duration::from_millis(millis).as_micros() as u64
}

#[test]
fn everybody_is_found_in_little_time() {
    let joined = run("lookup", Tables::Joined, 0);
    assert_eq!((joined.found, joined.lookups), (200, 200));
    assert!(joined.first_micros.median < micros(200), "{joined:?}");
    assert!(joined.done_micros.p99 < micros(1_000), "{joined:?}");
    assert!(joined.queries.p99 < 25, "{joined:?}");
}

#[test]
fn generated_tables_are_as_good_as_those_of_who_joined() {
    let joined = run("lookup", Tables::Joined, 0);
    let generated = run("lookup", Tables::Generated, 0);
    assert_eq!(generated.found, generated.lookups);
    for (of, joined, generated) in [
        ("hops", joined.hops, generated.hops),
        ("queries", joined.queries, generated.queries),
        ("messages", joined.messages, generated.messages),
        ("bytes", joined.bytes, generated.bytes),
    ] {
        let (a, b) = (joined.mean_milli, generated.mean_milli);
        assert!(a.abs_diff(b) * 5 < a.max(b), "{of}: {joined:?} where joined, {generated:?} generated");
    }
}

#[test]
fn the_dead_cost_moments() {
    let outcome = run("dead-30", Tables::Joined, 0);
    assert!(outcome.found_permille() >= 990, "{outcome:?}");
    assert!(outcome.done_micros.median < micros(1_000), "{outcome:?}");
}

#[test]
fn lost_datagrams_hide_nobody() {
    let outcome = run("lookup", Tables::Generated, 50);
    assert!(outcome.found_permille() >= 990, "{outcome:?}");
}

#[test]
fn who_comes_and_goes_is_found_while_there() {
    let outcome = run("churn", Tables::Joined, 0);
    assert!(outcome.lookups >= 150, "most are still there when they are looked for: {outcome:?}");
    assert!(outcome.found_permille() >= 990, "{outcome:?}");
}

#[test]
fn where_ids_have_to_fit_addresses_a_crowd_of_them_hides_nobody() {
    let outcome = run("sybil", Tables::Generated, 0);
    assert!(outcome.found_permille() >= 950, "{outcome:?}");
}

#[test]
fn where_they_do_not_have_to_it_does() {
    let outcome = run("sybil-no-bep42", Tables::Generated, 0);
    assert!(outcome.found_permille() < 950, "the attack is none: {outcome:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let outcome = || run("lookup", Tables::Generated, 10);
    assert_eq!(outcome(), outcome());
}

//! Watching a film while it is downloaded, in simulated swarms.

use std::time::Duration;
use swarm_sim::Checks;
use swarm_sim::scenario::{Params, Scenario};

/// A film of 120 MiB in pieces of 256 KiB, each block as it is.
fn film(peers: u32, seed: u64) -> Params {
    Params {
        peers,
        pieces: 480,
        blocks_per_piece: 16,
        piece_len: 256 << 10,
        up_mbit_per_s: 4,
        delay_ms: 30,
        seed,
        checks: Checks::Never,
        ..Params::default()
    }
}

#[test]
fn a_viewer_never_waits_for_longer_than_a_second_after_the_first() {
    let streaming = Scenario::named("streaming").unwrap();
    for (peers, seed) in [11, 31].into_iter().flat_map(|peers| (1..=20).map(move |seed| (peers, seed))) {
        let outcome = streaming.run(&film(peers, seed)).unwrap();
        let waits = &outcome.waits;
        assert!(outcome.complete && waits.len() >= 11, "{peers} peers, seed {seed}: {waits:?}");
        let wait = outcome.longest_wait().unwrap();
        println!("{peers} peers, seed {seed}: {wait:?}");
        assert!(wait <= Duration::from_secs(1), "{peers} peers, seed {seed}: {waits:?}");
    }
}

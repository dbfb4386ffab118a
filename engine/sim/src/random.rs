//! Small random swarms: a scenario and its parameters, all drawn from one number.

use crate::play::Failure;
use crate::report::Outcome;
use crate::scenario::{Params, SCENARIOS, Scenario};
use crate::world::Checks;
use swarm_core::rng::Rng;

/// A small swarm to be checked after every step.
#[derive(Clone, Copy)]
pub struct Draw {
    /// What happens in it.
    pub scenario: &'static Scenario,
    /// With what parameters.
    pub params: Params,
}

impl Draw {
    /// The swarm of this number.
    pub fn new(seed: u64) -> Draw {
        let mut rng = Rng::new(seed);
        let mut between = |low: u64, high: u64| low + rng.below(high - low + 1);
        let delay_ms = between(0, 80);
        let params = Params {
            peers: between(2, 20) as u32,
            pieces: between(2, 48) as u32,
            blocks_per_piece: between(1, 8) as u32,
            piece_len: 1024 << between(6, 11),
            degree: between(7, 20) as u32,
            up_mbit_per_s: between(5, 200),
            delay_ms,
            jitter_ms: between(0, 1) * delay_ms / 2,
            loss_permille: (between(0, 1) * between(1, 30)) as u32,
            queue_ms: between(0, 1) * between(1, 100),
            tracker: between(0, 3) == 0,
            checks: Checks::EveryStep,
            seed,
            threads: 1,
        };
        let scenario = &SCENARIOS[between(0, SCENARIOS.len() as u64 - 1) as usize];
        Draw { scenario, params }
    }

    /// Runs it.
    ///
    /// # Errors
    /// When something does not hold that must, or some honest peer never has everything.
    pub fn run(&self) -> Result<Outcome, Failure> {
        let outcome = self.scenario.run(&self.params)?;
        if outcome.complete {
            return Ok(outcome);
        }
        Err(Failure::Incomplete { replay: self.params.replay(self.scenario.name) })
    }
}

//! Runs one scenario and says what came of it.

use clap::{Parser, ValueEnum};
use serde_json::json;
use std::process::ExitCode;
use std::time::Instant;
use swarm_core::time::Duration;
use swarm_core::torrent::UploadPolicy;
use swarm_sim::random::Draw;
use swarm_sim::report::Outcome;
use swarm_sim::scenario::{Params, SCENARIOS, Scenario};
use swarm_sim::{Checks, Failure};

/// Simulate a whole swarm on a virtual clock.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Which scenario; see --list.
    #[arg(long, default_value = "flash-crowd")]
    scenario: String,
    /// Hosts besides the source.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    peers: u32,
    /// Pieces of the torrent.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pieces: u32,
    /// Blocks of each piece.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    blocks_per_piece: u32,
    /// KiB that a piece stands for, however many blocks it has.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=262_144))]
    piece_kib: u64,
    /// Connections of each host.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    degree: u32,
    /// The ordinary uplink in Mbit/s.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    up: u64,
    /// One-way delay of a path in milliseconds, give or take half.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    delay: u64,
    /// How many milliseconds the delay of each message may differ from its path's, either way; half of it at the most.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    jitter_ms: u64,
    /// Of a thousand messages or blocks, how many are lost and sent again.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=500))]
    loss_permille: u32,
    /// Hosts learn of each other from a tracker.
    #[arg(long)]
    tracker: bool,
    /// Whom uploaders serve.
    #[arg(long, value_enum, default_value = "tit-for-tat")]
    policy: PolicyName,
    /// Determines everything else.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Check every invariant after every step; takes long.
    #[arg(long, conflicts_with = "check_every")]
    check: bool,
    /// Check every invariant each time that so many simulated seconds have passed.
    #[arg(long, value_name = "SECONDS")]
    check_every: Option<f64>,
    /// Run so many small random swarms instead, checked after every step, the first from --seed; end at the first that
    /// fails.
    #[arg(long, value_name = "N", conflicts_with_all = ["scenario", "check", "check_every"])]
    random: Option<u64>,
    /// Stop the random runs after so many seconds.
    #[arg(long, value_name = "SECONDS", requires = "random")]
    seconds_max: Option<u64>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Name the scenarios.
    #[arg(long)]
    list: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PolicyName {
    TitForTat,
    Cooperative,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        SCENARIOS.iter().for_each(|scenario| println!("{:14} {}", scenario.name, scenario.about));
        return ExitCode::SUCCESS;
    }
    let Some(scenario) = Scenario::named(&args.scenario) else {
        eprintln!("simulate: there is no scenario {:?}; --list names them", args.scenario);
        return ExitCode::from(2);
    };
    let started = Instant::now();
    if let Some(count) = args.random {
        return random(args.seed, count, args.seconds_max);
    }
    match scenario.run(&params(&args)) {
        Ok(outcome) => {
            print(&args, &outcome, started.elapsed().as_secs_f64());
            ExitCode::from(u8::from(!outcome.complete))
        }
        Err(failure @ (Failure::Broken { .. } | Failure::Incomplete { .. })) => {
            eprintln!("simulate: {failure}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("simulate: {error}");
            ExitCode::from(2)
        }
    }
}

fn params(args: &Args) -> Params {
    let checks = match args.check_every {
        _ if args.check => Checks::EveryStep,
        Some(seconds) => Checks::Every(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)),
        None => Checks::Never,
    };
    Params {
        peers: args.peers,
        pieces: args.pieces,
        blocks_per_piece: args.blocks_per_piece,
        piece_len: args.piece_kib * 1024,
        degree: args.degree,
        up_mbit_per_s: args.up,
        delay_ms: args.delay,
        jitter_ms: args.jitter_ms,
        loss_permille: args.loss_permille,
        tracker: args.tracker,
        policy: match args.policy {
            PolicyName::TitForTat => UploadPolicy::TitForTat,
            PolicyName::Cooperative => UploadPolicy::Cooperative,
        },
        seed: args.seed,
        checks,
    }
}

/// Runs small random swarms from this seed on, until one fails or the time is up.
fn random(first: u64, count: u64, seconds_max: Option<u64>) -> ExitCode {
    let started = Instant::now();
    let is_time_up = || seconds_max.is_some_and(|max| started.elapsed().as_secs() >= max);
    let mut runs = 0;
    for seed in (0..count).map(|i| first.wrapping_add(i)).take_while(|_| !is_time_up()) {
        if let Err(failure) = Draw::new(seed).run() {
            eprintln!("simulate: random run {seed}: {failure}");
            return ExitCode::FAILURE;
        }
        runs += 1;
    }
    println!("{runs} random runs from seed {first}, all complete, every invariant checked after every step");
    ExitCode::SUCCESS
}

fn print(args: &Args, outcome: &Outcome, wall_seconds: f64) {
    let t_min = outcome.t_min.as_secs_f64();
    let ratio = |t: std::time::Duration| t.as_secs_f64() / t_min;
    let permille = |n: u64| n as f64 / 1_000.0;
    let waste = outcome.bytes_wasted as f64 / outcome.bytes_wanted.max(1) as f64;
    let control = outcome.control_bytes as f64 / outcome.bytes_wanted.max(1) as f64;
    if args.json {
        let object = json!({
            "scenario": args.scenario,
            "seed": args.seed,
            "t_min": t_min,
            "t_last": outcome.t_last.as_secs_f64(),
            "t_median": outcome.t_median.as_secs_f64(),
            "ratio": ratio(outcome.t_last),
            "ratio_median": ratio(outcome.t_median),
            "uplink_utilisation": permille(outcome.uplink_permille),
            "source_copies": permille(outcome.source_copies_permille),
            "bytes_wasted": outcome.bytes_wasted,
            "control_bytes": outcome.control_bytes,
            "fairness": permille(outcome.fairness_permille),
            "free_rider_share": outcome.riders_permille.map(permille),
            "banned": outcome.banned,
            "honest_banned": outcome.honest_banned,
            "complete": outcome.complete,
            "trace_hash": format!("{:016x}", outcome.trace.0),
            "wall_seconds": wall_seconds,
        });
        return println!("{object}");
    }
    println!("{} with {} peers and {} pieces, seed {}", args.scenario, args.peers, args.pieces, args.seed);
    println!("  the bound         {t_min:9.3} s");
    println!(
        "  last peer         {:9.3} s   {:.4} x the bound",
        outcome.t_last.as_secs_f64(),
        ratio(outcome.t_last)
    );
    println!(
        "  median peer       {:9.3} s   {:.4} x",
        outcome.t_median.as_secs_f64(),
        ratio(outcome.t_median)
    );
    println!("  uplinks in use    {:9.1} %", permille(outcome.uplink_permille) * 100.0);
    println!("  source sent       {:9.3} copies", permille(outcome.source_copies_permille));
    println!("  wasted            {:9.3} %", waste * 100.0);
    println!("  control           {:9.3} %", control * 100.0);
    println!("  fairness          {:9.3}", permille(outcome.fairness_permille));
    if let Some(share) = outcome.riders_permille {
        println!(
            "  free riders had   {:9.1} % when half of the others had everything",
            permille(share) * 100.0
        );
    }
    println!("  banned            {:9} ({} honest)", outcome.banned, outcome.honest_banned);
    println!("  complete          {:>9}", outcome.complete);
    println!("  trace hash        {:016x}", outcome.trace.0);
    println!("  wall              {wall_seconds:9.2} s");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_replays_a_run_means_the_same_run() {
        for seed in 0..200 {
            let Draw { scenario, params: drawn } = Draw::new(seed);
            for checks in [Checks::Never, Checks::EveryStep, Checks::Every(Duration::from_millis(2_500))] {
                let drawn = Params { checks, ..drawn };
                let line = drawn.replay(scenario.name);
                let args = Args::try_parse_from(line.split_whitespace()).unwrap();
                assert_eq!((params(&args), args.scenario.as_str()), (drawn, scenario.name), "{line}");
            }
        }
    }
}

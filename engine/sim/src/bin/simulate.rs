//! Runs one scenario and says what came of it.

use clap::{Parser, ValueEnum};
use serde_json::json;
use std::process::ExitCode;
use std::time::Instant;
use swarm_core::torrent::UploadPolicy;
use swarm_sim::report::Outcome;
use swarm_sim::scenario::{Params, SCENARIOS, Scenario};

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
    /// Whom uploaders serve.
    #[arg(long, value_enum, default_value = "tit-for-tat")]
    policy: PolicyName,
    /// Determines everything else.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Check every invariant after every step; takes long.
    #[arg(long)]
    check: bool,
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
    let params = Params {
        peers: args.peers,
        pieces: args.pieces,
        blocks_per_piece: args.blocks_per_piece,
        piece_len: args.piece_kib * 1024,
        degree: args.degree,
        up_mbit_per_s: args.up,
        delay_ms: args.delay,
        policy: match args.policy {
            PolicyName::TitForTat => UploadPolicy::TitForTat,
            PolicyName::Cooperative => UploadPolicy::Cooperative,
        },
        seed: args.seed,
        check: args.check,
    };
    let started = Instant::now();
    match scenario.run(&params) {
        Ok(outcome) => {
            print(&args, &outcome, started.elapsed().as_secs_f64());
            ExitCode::from(u8::from(!outcome.complete))
        }
        Err(error) => {
            eprintln!("simulate: {error}");
            ExitCode::from(2)
        }
    }
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
    println!("  banned            {:9} ({} honest)", outcome.banned, outcome.honest_banned);
    println!("  complete          {:>9}", outcome.complete);
    println!("  trace hash        {:016x}", outcome.trace.0);
    println!("  wall              {wall_seconds:9.2} s");
}

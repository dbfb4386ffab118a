//! Runs one scenario and says what came of it.

use anyhow::Context as _;
use clap::Parser;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use swarm_core::time::Duration;
use swarm_sim::curves::completion;
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
    #[command(flatten)]
    params: Params,
    /// Threads to share the hosts out to; the outcome is the same. Without this as many as there are processors, and one
    /// for every 500 hosts at the most.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    threads: Option<u16>,
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
    /// Also draw its completion curve against the bound, into SCENARIO.svg in this folder, beside all figures in SCENARIO.json.
    #[arg(long, value_name = "DIR", conflicts_with = "random")]
    report: Option<PathBuf>,
    /// Name the scenarios.
    #[arg(long)]
    list: bool,
}

/// With fewer hosts a thread has less to do in a window of time than it takes to start it.
const HOSTS_PER_THREAD_MIN: usize = 500;

impl Args {
    fn threads(&self) -> usize {
        let is_worth = (self.params.peers as usize / HOSTS_PER_THREAD_MIN).max(1);
        let by_default = || std::thread::available_parallelism().map_or(1, usize::from).min(is_worth);
        self.threads.map_or_else(by_default, usize::from)
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if args.list {
        SCENARIOS.iter().for_each(|scenario| println!("{:14} {}", scenario.name, scenario.about));
        return Ok(ExitCode::SUCCESS);
    }
    let Some(scenario) = Scenario::named(&args.scenario) else {
        eprintln!("simulate: there is no scenario {:?}; --list names them", args.scenario);
        return Ok(ExitCode::from(2));
    };
    if let Some(count) = args.random {
        return Ok(random(args.params.seed, count, args.seconds_max));
    }
    let started = Instant::now();
    let outcome = match scenario.run(&params(&args)) {
        Ok(outcome) => outcome,
        Err(failure) => {
            eprintln!("simulate: {failure}");
            let is_broken = matches!(failure, Failure::Broken { .. } | Failure::Incomplete { .. });
            return Ok(ExitCode::from(if is_broken { 1 } else { 2 }));
        }
    };
    let run = Run { args: &args, outcome, wall_seconds: started.elapsed().as_secs_f64() };
    if args.json {
        println!("{}", run.json());
    } else {
        run.print();
    }
    if let Some(folder) = &args.report {
        run.report(folder)?;
    }
    Ok(ExitCode::from(u8::from(!run.outcome.complete)))
}

fn params(args: &Args) -> Params {
    let checks = match args.check_every {
        _ if args.check => Checks::EveryStep,
        Some(seconds) => Checks::Every(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)),
        None => Checks::Never,
    };
    Params { checks, threads: args.threads(), ..args.params }
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

/// One run, and what came of it.
struct Run<'a> {
    args: &'a Args,
    outcome: Outcome,
    wall_seconds: f64,
}

fn permille(n: u64) -> f64 {
    n as f64 / 1_000.0
}

impl Run<'_> {
    /// A time over the bound.
    fn ratio(&self, time: Duration) -> f64 {
        time.as_secs_f64() / self.outcome.t_min.as_secs_f64()
    }

    /// Bytes as a share of those that were wanted.
    fn share(&self, bytes: u64) -> f64 {
        bytes as f64 / self.outcome.bytes_wanted.max(1) as f64
    }

    fn json(&self) -> Value {
        let outcome = &self.outcome;
        let percentile = |permille| outcome.time_of(permille).map(|time| time.as_secs_f64());
        json!({
            "scenario": self.args.scenario,
            "seed": self.args.params.seed,
            "command": params(self.args).replay(&self.args.scenario),
            "t_min": outcome.t_min.as_secs_f64(),
            "t_last": outcome.t_last.as_secs_f64(),
            "t_median": outcome.t_median.as_secs_f64(),
            "t_p99": percentile(990),
            "t_p999": percentile(999),
            "ratio": self.ratio(outcome.t_last),
            "ratio_median": self.ratio(outcome.t_median),
            "ratio_p999": outcome.time_of(999).map(|time| self.ratio(time)),
            "uplink_utilisation": permille(outcome.uplink_permille),
            "source_copies": permille(outcome.source_copies_permille),
            "source_copies_when_spread": outcome.spread_copies_permille.map(permille),
            "bytes_wasted": outcome.bytes_wasted,
            "waste": self.share(outcome.bytes_wasted),
            "control_bytes": outcome.control_bytes,
            "fairness": permille(outcome.fairness_permille),
            "free_rider_share": outcome.riders_permille.map(permille),
            "waits": outcome.waits.iter().map(|wait| {
                json!({ "since": wait.since.as_secs_f64(), "took": wait.took.as_secs_f64(), "at": wait.at })
            }).collect::<Vec<_>>(),
            "longest_wait": outcome.longest_wait().map(|wait| wait.as_secs_f64()),
            "banned": outcome.banned,
            "honest_banned": outcome.honest_banned,
            "deceived": outcome.deceived,
            "unpunished": outcome.unpunished,
            "complete": outcome.complete,
            "trace_hash": format!("{:016x}", outcome.trace.0),
            "wall_seconds": self.wall_seconds,
        })
    }

    fn print(&self) {
        let (args, params, outcome) = (self.args, &self.args.params, &self.outcome);
        println!(
            "{} with {} peers and {} pieces, seed {}",
            args.scenario, params.peers, params.pieces, params.seed
        );
        println!("  the bound         {:9.3} s", outcome.t_min.as_secs_f64());
        for (who, time) in [
            ("last peer", Some(outcome.t_last)),
            ("99.9 % of peers", outcome.time_of(999)),
            ("median peer", Some(outcome.t_median)),
        ] {
            let Some(time) = time else { continue };
            println!("  {who:17} {:9.3} s   {:.4} x the bound", time.as_secs_f64(), self.ratio(time));
        }
        println!("  uplinks in use    {:9.1} %", permille(outcome.uplink_permille) * 100.0);
        println!("  source sent       {:9.3} copies", permille(outcome.source_copies_permille));
        if let Some(copies) = outcome.spread_copies_permille {
            println!("    until spread    {:9.3} copies", permille(copies));
        }
        println!("  wasted            {:9.3} %", self.share(outcome.bytes_wasted) * 100.0);
        println!("  control           {:9.3} %", self.share(outcome.control_bytes) * 100.0);
        println!("  fairness          {:9.3}", permille(outcome.fairness_permille));
        if let Some(share) = outcome.riders_permille {
            let share = permille(share) * 100.0;
            println!("  free riders had   {share:9.1} % when half of the others had everything");
        }
        if let Some(wait) = outcome.longest_wait() {
            let (wait, times) = (wait.as_secs_f64(), outcome.waits.len());
            println!("  longest wait      {wait:9.3} s of {times}, after the first second");
        }
        println!("  banned            {:9} ({} honest)", outcome.banned, outcome.honest_banned);
        println!("  deceived          {:9} times, {} unpunished", outcome.deceived, outcome.unpunished);
        println!("  complete          {:>9}", outcome.complete);
        println!("  trace hash        {:016x}", outcome.trace.0);
        println!("  wall              {:9.2} s", self.wall_seconds);
    }

    /// Draws it, and writes its figures down.
    fn report(&self, folder: &Path) -> anyhow::Result<()> {
        let scenario = &self.args.scenario;
        std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot make", folder.display()))?;
        let write = |extension: &str, text: String| {
            let file = folder.join(scenario).with_extension(extension);
            std::fs::write(&file, text).with_context(|| format!("{}: cannot write", file.display()))
        };
        write("json", format!("{:#}\n", self.json()))?;
        write("svg", completion(&format!("{scenario}, {} peers", self.args.params.peers), &self.outcome)?)
    }
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
                let drawn = Params { threads: args.threads(), ..drawn };
                assert_eq!((params(&args), args.scenario.as_str()), (drawn, scenario.name), "{line}");
            }
        }
    }
}

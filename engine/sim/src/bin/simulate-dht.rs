//! Runs one scenario of the DHT and says what lookups took, or writes the report of all sizes.

use anyhow::Context as _;
use clap::Parser;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use swarm_sim::dht::report::{Outcome, Spread};
use swarm_sim::dht::scenario::{Params, SCENARIOS, Scenario, Tables};
use swarm_sim::plot::{Chart, Corner, Series, Style, svg};

/// Simulate a network of DHT nodes on a virtual clock.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Which scenario; see --list.
    #[arg(long, default_value = "lookup")]
    scenario: String,
    #[command(flatten)]
    params: Params,
    /// Make the tables up as joining would; nodes join one after another unless there are more than 10,000.
    #[arg(long)]
    generated: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Name the scenarios.
    #[arg(long)]
    list: bool,
    /// Run all scenarios and sizes up to --nodes, and write dht.json and dht.svg to this folder.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if args.list {
        SCENARIOS.iter().for_each(|scenario| println!("{:15} {}", scenario.name, scenario.about));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(folder) = &args.report {
        report(&args.params, folder)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(scenario) = Scenario::named(&args.scenario) else {
        eprintln!("simulate-dht: there is no scenario {:?}; --list names them", args.scenario);
        return Ok(ExitCode::from(2));
    };
    let tables = args.generated.then_some(Tables::Generated);
    let run = Run::of(scenario, &Params { tables, ..args.params });
    if args.json {
        println!("{}", run.json());
    } else {
        run.print();
    }
    Ok(ExitCode::SUCCESS)
}

/// A scenario, what it was run with, and what came of it.
struct Run {
    scenario: &'static str,
    params: Params,
    outcome: Outcome,
    wall_seconds: f64,
}

fn milli(n: u64) -> f64 {
    n as f64 / 1_000.0
}

impl Run {
    fn of(scenario: &'static Scenario, params: &Params) -> Run {
        let begun = Instant::now();
        let outcome = scenario.run(params);
        let wall_seconds = begun.elapsed().as_secs_f64();
        Run { scenario: scenario.name, params: *params, outcome, wall_seconds }
    }

    fn tables(&self) -> &'static str {
        if self.params.tables() == Tables::Joined { "joined" } else { "generated" }
    }

    fn json(&self) -> Value {
        let outcome = &self.outcome;
        let spread = |s: Spread| json!({ "mean": milli(s.mean_milli), "median": s.median, "p99": s.p99 });
        let millis = |s: Spread| json!({ "mean": milli(s.mean_milli / 1_000), "median": milli(s.median), "p99": milli(s.p99) });
        json!({
            "scenario": self.scenario,
            "nodes": self.params.nodes,
            "tables": self.tables(),
            "loss_permille": self.params.loss_permille,
            "seed": self.params.seed,
            "lookups": outcome.lookups,
            "found": outcome.found,
            "hops": spread(outcome.hops),
            "queries": spread(outcome.queries),
            "messages": spread(outcome.messages),
            "bytes": spread(outcome.bytes),
            "first_peer_ms": millis(outcome.first_micros),
            "done_ms": millis(outcome.done_micros),
            "datagrams": outcome.traffic.datagrams,
            "virtual_seconds": outcome.time.as_secs_f64(),
            "trace_hash": format!("{:016x}", outcome.trace.0),
            "wall_seconds": (self.wall_seconds * 10.0).round() / 10.0,
        })
    }

    fn print(&self) {
        let Outcome { lookups, found, .. } = self.outcome;
        let line = |name: &str, s: Spread, unit: u64, of: &str| {
            let [mean, median, p99] = [s.mean_milli / 1_000, s.median, s.p99].map(|n| n as f64 / unit as f64);
            let mean = if unit == 1 { milli(s.mean_milli) } else { mean };
            println!("  {name:14} {mean:10.1} {median:10.1} {p99:10.1} {of}");
        };
        let Params { nodes, seed, .. } = self.params;
        println!("{} with {nodes} nodes, tables {}, seed {seed}", self.scenario, self.tables());
        println!(
            "  found          {found} of {lookups}, {:.1} %",
            milli(100 * self.outcome.found_permille())
        );
        println!("                       mean     median        p99");
        line("hops", self.outcome.hops, 1, "");
        line("queries", self.outcome.queries, 1, "");
        line("messages", self.outcome.messages, 1, "");
        line("bytes", self.outcome.bytes, 1, "");
        line("first peer", self.outcome.first_micros, 1_000, "ms");
        line("over", self.outcome.done_micros, 1_000, "ms");
        println!("  trace hash     {:016x}", self.outcome.trace.0);
        println!("  wall           {:.1} s", self.wall_seconds);
    }
}

/// Every scenario at 1,000 nodes and more, by powers of ten; and lookups at the sizes between, with generated tables
/// beside joined ones.
fn report(params: &Params, folder: &Path) -> anyhow::Result<()> {
    let mut runs: Vec<Run> = Vec::new();
    let mut add = |name: &str, nodes: u32, tables: Option<Tables>| {
        if nodes <= params.nodes
            && let Some(scenario) = Scenario::named(name)
        {
            let run = Run::of(scenario, &Params { nodes, tables, ..*params });
            run.print();
            runs.push(run);
        }
    };
    for nodes in [1_000, 3_162, 10_000, 31_623, 100_000] {
        add("lookup", nodes, Some(Tables::Generated));
    }
    for nodes in [1_000, 10_000] {
        add("lookup", nodes, Some(Tables::Joined));
    }
    for scenario in ["dead-30", "sybil", "sybil-no-bep42"] {
        [1_000, 10_000, 100_000].into_iter().for_each(|nodes| add(scenario, nodes, None));
    }
    [1_000, 10_000].into_iter().for_each(|nodes| add("churn", nodes, None));
    std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot make", folder.display()))?;
    let write = |name: &str, text: String| {
        let file = folder.join(name);
        std::fs::write(&file, text).with_context(|| format!("{}: cannot write", file.display()))
    };
    let records: Vec<Value> = runs.iter().map(Run::json).collect();
    write("dht.json", format!("{:#}\n", Value::from(records)))?;
    write("dht.svg", svg(&charts(&runs))?)
}

/// How lookups grow with the network.
fn charts(runs: &[Run]) -> Vec<Chart> {
    let points = |tables: Tables, y: &dyn Fn(&Outcome) -> f64| {
        let fitting = runs.iter().filter(|run| run.scenario == "lookup" && run.params.tables() == tables);
        fitting.map(|run| (f64::from(run.params.nodes), y(&run.outcome))).collect::<Vec<_>>()
    };
    let chart = |title: &str, y_label: &str, y: &dyn Fn(&Outcome) -> f64| Chart {
        title: title.to_owned(),
        x_label: "nodes".to_owned(),
        y_label: y_label.to_owned(),
        log_x: true,
        x_ticks: vec![1_000.0, 10_000.0, 100_000.0],
        legend: Corner::LowerRight,
        series: vec![
            Series {
                name: "generated tables".to_owned(),
                points: points(Tables::Generated, y),
                style: Style::Marked,
            },
            Series { name: "joined".to_owned(), points: points(Tables::Joined, y), style: Style::Marks },
        ],
    };
    vec![
        chart("Hops to the first peer", "mean", &|outcome| milli(outcome.hops.mean_milli)),
        chart("Messages of a lookup", "mean", &|outcome| milli(outcome.messages.mean_milli)),
        chart("Time to the first peer", "median, ms", &|outcome| milli(outcome.first_micros.median)),
    ]
}

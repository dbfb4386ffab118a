//! What `simulate --report` writes.

use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// The drawing and the figures of a small run, but for how long it took us.
fn report(folder: &str, seed: &str) -> (String, Value) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    let output = Command::new(env!("CARGO_BIN_EXE_simulate"))
        .args(["--peers", "8", "--pieces", "16", "--seed", seed])
        .arg("--report")
        .arg(&folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let mut figures: Value = serde_json::from_str(&read("flash-crowd.json")).unwrap();
    figures.as_object_mut().unwrap().remove("wall_seconds").unwrap();
    (read("flash-crowd.svg"), figures)
}

#[test]
fn a_report_draws_the_swarm_against_the_bound_and_is_the_same_for_a_seed() {
    let (drawing, run) = report("report-a", "5");
    for text in ["Swarm", "the bound, T_min", "bytes verified", "peers complete"] {
        assert!(drawing.contains(text), "{text}");
    }
    assert_eq!(run["complete"], true);
    let figure = |name: &str| run[name].as_f64().unwrap_or_else(|| panic!("no {name}: {run}"));
    assert!(figure("t_min") <= figure("t_median") && figure("t_median") <= figure("t_last"));
    assert!(figure("source_copies") >= 1.0 && figure("bytes_wasted") >= 0.0);
    assert_eq!((figure("banned"), figure("honest_banned")), (0.0, 0.0));
    assert!(run["trace_hash"].as_str().is_some_and(|hash| hash.len() == 16));
    assert!(run["source_copies_when_spread"].as_f64() >= Some(1.0));
    assert_eq!(report("report-b", "5"), (drawing.clone(), run));
    assert_ne!(report("report-c", "6").0, drawing);
}
